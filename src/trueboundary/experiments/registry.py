"""Every experiment, by id."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from trueboundary.experiments.base import Experiment

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
        If there is none; the message names the nearest id.
    """
    known = experiments()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"there is no experiment {name!r}{hint}; 'trueboundary list' shows all")
