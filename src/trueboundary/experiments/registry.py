"""Every experiment, by id."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from trueboundary.experiments.base import Experiment
from trueboundary.suggestions import nearest

#: Modules that define an ``EXPERIMENT``, in the order of the papers.
_MODULES: tuple[str, ...] = (
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
    "truth_relu_error",
    "truth_tradeoff",
    "truth_approximations",
    "truth_exact_training",
    "truth_whole_sphere",
    "truth_mixtures",
)


@cache
def experiments() -> Mapping[str, Experiment]:
    """Return all experiments by id, in the order of the papers."""
    found = [import_module(f"trueboundary.experiments.{name}").EXPERIMENT for name in _MODULES]
    return {experiment.id: experiment for experiment in found}


def get_experiment(name: str) -> Experiment:
    """Return the experiment called `name`.

    Raises
    ------
    ValueError
        If there is none; the message names the nearest id, or what runs a group of that name.
    """
    known = experiments()
    if name in known:
        return known[name]
    group = name.lower()
    if group in {experiment.paper for experiment in known.values()}:
        raise ValueError(
            f"{name} is a group and no experiment: 'trueboundary reproduce {group}' runs all of it"
        )
    if group == "all":
        raise ValueError("'trueboundary reproduce' runs all experiments")
    hint = nearest(name, known) or "; 'trueboundary list' shows all"
    raise ValueError(f"there is no experiment {name!r}{hint}")
