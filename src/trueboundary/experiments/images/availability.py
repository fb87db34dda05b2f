"""Whether runs had their images: an experiment without its data is an outcome, not a failure.

Every run says in its summary whether its images were at hand (``available``) and, where they were
not, why (``reason``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from trueboundary.experiments.base import Analysis
from trueboundary.experiments.claims import read_claims
from trueboundary.runs import Context, Run, RunResult

Analyse = Callable[[Mapping[str, Run], Mapping[str, Any]], Analysis]


def without_data(why: str) -> RunResult:
    """Return the result of a run whose images are not on this machine."""
    return RunResult({"available": False, "reason": why})


def is_available(run: Run) -> bool:
    """Return whether the run had its images."""
    return bool(run.summary["available"])


def reason(run: Run) -> str:
    """Return why the run had no images."""
    return str(run.summary["reason"])


def missing_inputs(context: Context) -> str:
    """Return why a run cannot have its images; empty if it can."""
    reasons = [reason(run) for run in context.inputs.values() if not is_available(run)]
    return reasons[0] if reasons else ""


def missing_data(runs: Mapping[str, Run]) -> str:
    """Return a remark on the images that the runs did not have; empty if they had all."""
    reasons = dict.fromkeys(reason(run) for run in runs.values() if not is_available(run))
    if not reasons:
        return ""
    return " ".join(reasons) + " Then give the same command again."


def unless_images_are_missing(experiment: str) -> Callable[[Analyse], Analyse]:
    """Decorate an experiment's ``analyse``: without its images it says what is missing, no more."""
    paper = experiment.partition("-")[0]

    def decorate(analyse: Analyse) -> Analyse:
        @wraps(analyse)
        def checked(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
            missing = missing_data(runs)
            if not missing:
                return analyse(runs, settings)
            claims = [claim.id for claim in read_claims(paper) if claim.experiment == experiment]
            return Analysis(remarks=[missing], without_data=claims)

        return checked

    return decorate
