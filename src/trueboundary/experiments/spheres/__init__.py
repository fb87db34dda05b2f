"""*Adversarial Spheres*: its figures, tables and claims, one module per experiment."""

TITLE = "Adversarial Spheres (Gilmer et al., 2018)"

#: The modules that define an ``EXPERIMENT``, in the order of the paper.
MODULES: tuple[str, ...] = (
    "spheres_slices",
    "spheres_norms",
    "spheres_circles",
    "spheres_error_rate",
    "spheres_distances",
    "spheres_dimension",
    "spheres_alphas",
    "spheres_perfect_start",
    "spheres_clt",
    "spheres_fraction",
    "spheres_narrow",
    "spheres_caps",
    "spheres_tradeoff",
    "spheres_radius",
    "spheres_hard_examples",
)
