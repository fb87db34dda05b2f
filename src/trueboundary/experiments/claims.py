"""The papers' claims, and the rule that turns a measurement into a verdict."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Any, Literal

from trueboundary.experiments.base import Measurement, Scale, read_settings

Test = Literal["interval", "at most", "at least", "statement"]


class Verdict(Enum):
    """What a measurement says about a claim; the value is what a reader sees."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    NOT_AT_THIS_SCALE = "not testable at this scale"
    NO_DATA = "data not available here"


@dataclass(frozen=True)
class Claim:
    """A checkable claim of a paper and the test that decides it, stated before it is run.

    Parameters
    ----------
    id : str
        For instance ``"A1.3"``.
    paper : str
        ``"spheres"`` or ``"bayes"``.
    section : str
        Where the paper makes it.
    statement : str
        The claim in our words.
    experiment : str
        Id of the experiment that measures it.
    quantity : str
        What is measured.
    test : {"interval", "at most", "at least", "statement"}
        ``interval``: the paper's value, widened by its printed rounding, meets the measured 95 %
        interval. ``at most`` and ``at least``: the measured value with its interval lies on that
        side of the paper's. ``statement``: the measured truth value is true.
    value : float or None
        The paper's number (None for a statement).
    rounding : float
        Half the last printed digit, or the reading error of a figure.
    why : str
        Why that test and tolerance.
    depends_on : tuple of str
        Settings of the experiment that can change the answer; where one of them differs from the
        paper's, the verdict is "not testable at this scale".
    printed : str
        The paper's value as it stands there.
    corrected : str
        The right number where the paper errs, with the reason; empty otherwise.
    expected : str
        The verdict that the known errata imply, if any; a disagreement is reported.
    """

    id: str
    paper: str
    section: str
    statement: str
    experiment: str
    quantity: str
    test: Test
    why: str
    value: float | None = None
    rounding: float = 0.0
    depends_on: tuple[str, ...] = ()
    printed: str = ""
    corrected: str = ""
    expected: str = ""


@dataclass(frozen=True)
class Judgement:
    """A claim with its measurement and the computed verdict."""

    claim: Claim
    measurement: Measurement | None
    verdict: Verdict
    reason: str
    surprise: str


def read_claims(paper: str) -> list[Claim]:
    """Return the claims of a paper in the order of its claims file.

    Raises
    ------
    ValueError
        If an entry is incomplete.
    """
    folder = resources.files("trueboundary.experiments")
    text = folder.joinpath(f"claims-{paper}.toml").read_text("utf-8")
    return [_claim(paper, entry) for entry in tomllib.loads(text)["claim"]]


def _claim(paper: str, entry: Mapping[str, Any]) -> Claim:
    fields = dict(entry)
    fields["depends_on"] = tuple(fields.get("depends_on", ()))
    try:
        claim = Claim(paper=paper, **fields)
    except TypeError as error:
        raise ValueError(f"claims-{paper}.toml: entry {entry.get('id')}: {error}") from error
    if (claim.test == "statement") != (claim.value is None):
        raise ValueError(f"claims-{paper}.toml: {claim.id} needs a value unless it is a statement")
    return claim


def judge(claim: Claim, measurement: Measurement | None, scale: Scale) -> Judgement:
    """Compute the verdict on a claim from what was measured at `scale`.

    Parameters
    ----------
    claim : Claim
        The claim with its test.
    measurement : Measurement or None
        None when the experiment could not run for want of data.
    scale : {"smoke", "quick", "paper"}
        Scale of the runs behind the measurement.

    Returns
    -------
    Judgement
        With the reason in words.
    """
    if measurement is None:
        return Judgement(claim, None, Verdict.NO_DATA, "it was not measured here", "")
    holds, reason = _test(claim, measurement)
    reduced = _reductions(claim, scale)
    if reduced:
        verdict = Verdict.NOT_AT_THIS_SCALE
        reason = f"{'; '.join(reduced)} (measured all the same: {reason})"
    else:
        verdict = Verdict.REPRODUCED if holds else Verdict.DIFFERS
    surprise = ""
    if claim.expected and not reduced and verdict.value != claim.expected:
        surprise = f"the known errata imply {claim.expected!r}"
    return Judgement(claim, measurement, verdict, reason, surprise)


def _test(claim: Claim, measurement: Measurement) -> tuple[bool, str]:
    if claim.test == "statement":
        if not isinstance(measurement.value, bool):
            raise ValueError(f"{claim.id} is a statement: its measurement must be true or false")
        return measurement.value, "it holds" if measurement.value else "it does not hold"
    value = float(measurement.value)
    low = value if measurement.low is None else measurement.low
    high = value if measurement.high is None else measurement.high
    if math.isnan(low) or math.isnan(high) or not low <= value <= high:
        raise ValueError(f"{claim.id}: {low} <= {value} <= {high} must hold for its interval")
    assert claim.value is not None
    floor, ceiling = claim.value - claim.rounding, claim.value + claim.rounding
    if claim.test == "interval":
        return low <= ceiling and high >= floor, f"[{low:.4g}, {high:.4g}] against {claim.printed}"
    if claim.test == "at most":
        return high <= ceiling, f"at most {high:.4g} against {claim.printed}"
    return low >= floor, f"at least {low:.4g} against {claim.printed}"


def _reductions(claim: Claim, scale: Scale) -> list[str]:
    settings = {s.name: s for s in read_settings(claim.experiment)}
    found = []
    for name in claim.depends_on:
        if name not in settings:
            raise ValueError(f"{claim.id} depends on {name}, which scales.toml does not state")
        here, paper = settings[name].values[scale], settings[name].values["paper"]
        if here != paper:
            found.append(f"{name} is {here} here, {paper} in the paper")
    return found
