"""Whether runs had their images: an experiment without its data is an outcome, not a failure.

Every run says in its summary whether its images were at hand (``available``) and, where they were
not, why (``reason``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from trueboundary.experiments.base import Analysis
from trueboundary.experiments.claims import Claim, read_claims
from trueboundary.experiments.own_findings import Finding, read_findings
from trueboundary.runs import Run, RunResult

Analyse = Callable[[Mapping[str, Run], Mapping[str, Any]], Analysis]


def without_data(why: str) -> RunResult:
    """Return the result of a run whose images are not on this machine."""
    return RunResult({"available": False, "reason": why})


def missing_images(runs: Mapping[str, Run]) -> str:
    """Return why runs had no images; empty if all had them."""
    gone = [run.summary for run in runs.values() if not run.summary["available"]]
    return " ".join(dict.fromkeys(str(summary["reason"]) for summary in gone))


def unless_images_are_missing(experiment: str) -> Callable[[Analyse], Analyse]:
    """Decorate an experiment's ``analyse``: without its images it says what is missing, no more."""
    paper = experiment.partition("-")[0]

    def decorate(analyse: Analyse) -> Analyse:
        @wraps(analyse)
        def checked(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
            if not (missing := missing_images(runs)):
                return analyse(runs, settings)
            asked: list[Claim | Finding] = [*read_claims(paper), *read_findings(paper)]
            claims = [one.id for one in asked if one.experiment == experiment]
            remark = f"{missing} Then give the same command again."
            return Analysis(remarks=[remark], without_data=claims)

        return checked

    return decorate
