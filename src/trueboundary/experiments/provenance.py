"""Whether stored runs were computed with the settings that a plan states for them.

A plan is a file beside the runs. What was computed is said by the runs themselves: their
configurations lie under their own checksums. A verdict may rest on a setting only where planning
with it leads to these very configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

from trueboundary.experiments.base import Experiment
from trueboundary.experiments.formats import setting
from trueboundary.plurals import plural
from trueboundary.runs import Plan, Run, RunConfig, UncheckedPlan, strict_json

#: Metadata of a configuration's field that says what was found on the machine, and that no setting
#: decides: a report may be written elsewhere.
OBSERVED: Mapping[str, bool] = MappingProxyType({"observed": True})


def find_misfit(experiment: Experiment, plan: Plan, runs: Mapping[str, Run]) -> str:
    """Say where the runs were computed otherwise than the plan says; return nothing if nowhere.

    Fields that the stored configuration or that of this version lacks are passed over, so that the
    runs of other versions can be read.
    """
    # Each seed has runs of its own: a plan of a billion seeds need not be made to see that.
    n_seeds = plan.settings.get("n_seeds", 0)
    if isinstance(n_seeds, int) and n_seeds > len(plan.runs):
        return f"{plural(n_seeds, 'seed')} cannot have led to {plural(len(plan.runs), 'run')}"
    try:
        planned = experiment.plan(plan.settings, plan.seed, plan.device)
        if isinstance(plan, UncheckedPlan):
            expected = experiment.settings(plan.scale, plan.overrides)  # type: ignore[arg-type]
            if strict_json.dumps(expected) != strict_json.dumps(plan.settings):
                return "it has no checksum, and its settings are not those of its scale"
    except Exception as error:  # its settings may be anything
        return f"its settings cannot be planned ({type(error).__name__}: {error})"
    if missing := planned.keys() - runs.keys():
        return f"it does not name the run {min(missing)!r} that its settings lead to"
    if more := runs.keys() - planned.keys():
        return f"its settings do not lead to its run {min(more)!r}"
    for name, config in planned.items():
        if found := _difference(config, runs[name].config, ""):
            return f"its run {name!r} was computed with {found}"
    return ""


def _difference(planned: Any, stored: Any, where: str) -> str:
    """Return the first field that is stored with another value than planned, in words."""
    if is_dataclass(planned) and isinstance(stored, Mapping):
        parts = [
            (f.name, getattr(planned, f.name))
            for f in fields(planned)
            if f.name in stored and "observed" not in f.metadata
        ]
        if isinstance(planned, RunConfig):
            parts.append(("kind", planned.kind))
    elif isinstance(planned, Mapping) and isinstance(stored, Mapping):
        if set(planned) != set(stored):
            return _words(where, planned, stored)
        parts = list(planned.items())
    elif isinstance(planned, (list, tuple)) and isinstance(stored, (list, tuple)):
        if len(planned) != len(stored):
            return _words(where, planned, stored)
        pairs = zip(planned, stored, strict=True)
        return next(filter(None, (_difference(a, b, where) for a, b in pairs)), "")
    else:
        return "" if planned == stored else _words(where, planned, stored)
    found = (_difference(value, stored.get(name), name) for name, value in parts)
    return next(filter(None, found), "")


def _words(name: str, planned: Any, stored: Any) -> str:
    return f"{name} {_value(stored)}, and not {_value(planned)}"


def _value(value: Any) -> str:
    plain = value is None or isinstance(value, (str, int, float))
    many = isinstance(value, Sequence) and all(isinstance(v, (str, int, float)) for v in value)
    return setting(value) if plain or many else "another"
