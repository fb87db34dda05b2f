"""The papers' claims, and the rule that turns a measurement into a verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args

from trueboundary.experiments.base import Measurement, read_settings
from trueboundary.experiments.formats import number, setting
from trueboundary.experiments.papers import read_table

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
        ``"spheres"``, ``"bayes"`` or ``"truth"``.
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
    headline : bool
        Whether it belongs to the short table of the README.
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
    headline: bool = False


@dataclass(frozen=True)
class Judgement:
    """A claim with its measurement and the computed verdict.

    Parameters
    ----------
    claim : Claim
        The claim.
    measurement : Measurement or None
        What was measured about it.
    verdict : Verdict
        What that says about the claim.
    reason : str
        How the measured value stands to the paper's.
    reductions : tuple of str
        The settings that can change the answer and differ from the paper's.
    surprise : str
        What the known errata imply, where the verdict is another; empty otherwise.
    """

    claim: Claim
    measurement: Measurement | None
    verdict: Verdict
    reason: str
    reductions: tuple[str, ...] = ()
    surprise: str = ""


def read_claims(paper: str) -> list[Claim]:
    """Return the claims of a paper in the order of its claims file."""
    stated = read_table(paper, "claims")["claim"]
    entries = [each for entry in stated for each in expand_entry(entry)]
    claims = [parse_claim(paper, entry) for entry in entries]
    twice = [id for id, n in Counter(claim.id for claim in claims).items() if n > 1]
    if twice:
        raise ValueError(f"{paper}/claims.toml: more than one entry is called {twice[0]}")
    return claims


def expand_entry(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the entries that one with rows in ``each`` stands for; any other alone.

    The words of a row replace their names in braces, and a row may have fields of its own: a
    table of the paper is one entry of a claims file.

    Examples
    --------
    >>> entry = {"id": "T1-{row}", "each": [{"row": "a", "value": 1}, {"row": "b", "value": 2}]}
    >>> expand_entry(entry)
    [{'id': 'T1-a', 'value': 1}, {'id': 'T1-b', 'value': 2}]
    """
    rows = entry.get("each", [{}])
    common = {name: value for name, value in entry.items() if name != "each"}
    return [_filled(common, row) for row in rows]


def _filled(common: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in row.items() if name in Claim.__dataclass_fields__}
    entry = {**common, **own}
    words = {name: value for name, value in row.items() if isinstance(value, str)}
    for name, text in entry.items():
        if isinstance(text, str):
            for word, value in words.items():
                text = text.replace(f"{{{word}}}", value)
            entry[name] = text
    return entry


def parse_claim(paper: str, entry: Mapping[str, Any]) -> Claim:
    """Turn an entry of a claims file into a `Claim`."""
    where = f"{paper}/claims.toml: entry {entry.get('id', 'without an id')}"
    fields = dict(entry)
    fields["depends_on"] = tuple(fields.get("depends_on", ()))
    try:
        claim = Claim(paper=paper, **fields)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
    for name in ("id", "section", "statement", "experiment", "quantity", "why"):
        if not getattr(claim, name).strip():
            raise ValueError(f"{where}: {name} is empty")
    if claim.test not in get_args(Test):
        raise ValueError(f"{where}: test must be one of {get_args(Test)}, not {claim.test!r}")
    if (claim.test == "statement") != (claim.value is None):
        raise ValueError(f"{where}: it needs a value unless it is a statement")
    if not claim.rounding >= 0.0:
        raise ValueError(f"{where}: rounding must not be negative, got {claim.rounding}")
    if claim.expected and claim.expected not in [verdict.value for verdict in Verdict]:
        raise ValueError(f"{where}: expected must be a verdict, not {claim.expected!r}")
    return claim


def judge(
    claim: Claim,
    measurement: Measurement | None,
    settings: Mapping[str, Any],
    *,
    lacks_data: bool = False,
    reductions: Sequence[str] = (),
) -> Judgement:
    """Compute the verdict on a claim from what was measured with `settings`.

    Parameters
    ----------
    claim, measurement
        The claim with its test, and what was measured, or None.
    settings : mapping
        The settings of the runs behind the measurement, as `Experiment.settings` gives them.
    lacks_data : bool
        Whether it could not be measured because this machine has not the data.
    reductions : sequence of str
        What is less than in the paper besides settings; see `Analysis`.
    """
    reduced = reduced_settings(claim, settings) + (tuple(reductions) if claim.depends_on else ())
    if measurement is None and lacks_data:
        return Judgement(claim, None, Verdict.NO_DATA, "the data are not here", reduced)
    holds, reason = _test(claim, measurement)
    if reduced or measurement is None:
        return Judgement(claim, measurement, Verdict.NOT_AT_THIS_SCALE, reason, reduced)
    verdict = Verdict.REPRODUCED if holds else Verdict.DIFFERS
    surprising = bool(claim.expected) and verdict.value != claim.expected
    surprise = f"the known errata imply {claim.expected!r}" if surprising else ""
    return Judgement(claim, measurement, verdict, reason, surprise=surprise)


def _test(claim: Claim, measurement: Measurement | None) -> tuple[bool, str]:
    if measurement is None:
        return False, "these runs do not show the quantity"
    if claim.value is None:
        if not isinstance(measurement.value, bool):
            raise ValueError(f"{claim.id} is a statement: its measurement must be true or false")
        return measurement.value, "it holds" if measurement.value else "it does not hold"
    if isinstance(measurement.value, bool):
        raise ValueError(f"{claim.id} is about a number: its measurement must be one")
    value = float(measurement.value)
    if math.isnan(value):
        return False, "the measurement gave no number"
    low = value if measurement.low is None else float(measurement.low)
    high = value if measurement.high is None else float(measurement.high)
    if not low <= value <= high:
        raise ValueError(f"{claim.id}: {low} <= {value} <= {high} must hold for its interval")
    return _compare(claim, claim.value, low, high)


def _compare(claim: Claim, paper: float, low: float, high: float) -> tuple[bool, str]:
    """Hold the measured interval against the paper's value, widened by its rounding."""
    floor, ceiling = paper - claim.rounding, paper + claim.rounding
    printed = claim.printed or number(paper)
    if claim.test == "at most":
        return high <= ceiling, f"at most {number(high)} against {printed}"
    if claim.test == "at least":
        return low >= floor, f"at least {number(low)} against {printed}"
    measured = number(low) if low == high else f"[{number(low)}, {number(high)}]"
    return low <= ceiling and high >= floor, f"{measured} against {printed}"


def reduced_settings(claim: Claim, used: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which settings that can change the answer to a claim differ from the paper's."""
    settings = {s.name: s for s in read_settings(claim.experiment)} if claim.depends_on else {}
    found = []
    for name in claim.depends_on:
        if name not in settings or name not in used:
            raise ValueError(f"{claim.id} depends on {name}, which {claim.experiment} has not")
        here, paper = used[name], settings[name].values["paper"]
        if here != paper:
            found.append(f"{name} is {setting(here)} here, {setting(paper)} in the paper")
    return tuple(found)
