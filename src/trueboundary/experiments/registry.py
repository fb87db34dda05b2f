"""Every experiment, by id."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from trueboundary.experiments.base import Experiment
from trueboundary.experiments.papers import PAPERS, modules
from trueboundary.suggestions import nearest


@cache
def experiments() -> Mapping[str, Experiment]:
    """Return all experiments by id, in the order of the papers."""
    found = [import_module(name).EXPERIMENT for paper in PAPERS for name in modules(paper)]
    return {experiment.id: experiment for experiment in found}


def get_experiment(name: str) -> Experiment:
    """Return the experiment called `name`, or say which is meant perhaps."""
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
