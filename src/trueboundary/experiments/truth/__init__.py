"""Truth instead of estimates: what neither paper could measure, one module per experiment."""

TITLE = "Truth instead of estimates"

#: The modules that define an ``EXPERIMENT``, in the order of the report.
MODULES: tuple[str, ...] = (
    "truth_relu_error",
    "truth_tradeoff",
    "truth_approximations",
    "truth_exact_training",
    "truth_whole_sphere",
    "truth_mixtures",
)
