"""*A Bayes-Optimal View on Adversarial Examples*: one module per experiment."""

TITLE = "A Bayes-Optimal View on Adversarial Examples (Richardson and Weiss, 2021)"

#: The modules that define an ``EXPERIMENT``, in the order of the paper.
MODULES: tuple[str, ...] = (
    "bayes_planar",
    "bayes_learning",
    "bayes_theorems",
    "bayes_helix",
    "bayes_contrast",
    "bayes_symmetric",
    "bayes_attacks",
    "bayes_subspaces",
    "bayes_capacity",
    "bayes_noise",
    "bayes_trades",
    "bayes_real",
    "bayes_faces",
    "bayes_cifar",
)
