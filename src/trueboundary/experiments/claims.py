"""The papers' claims, and the rule that turns a measurement into a verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args

from trueboundary.experiments.base import Measurement, Setting, read_settings
from trueboundary.experiments.formats import number, setting
from trueboundary.experiments.papers import read_table
from trueboundary.experiments.precision import n_for, words_for

Test = Literal["interval", "at most", "at least", "statement"]


class Verdict(Enum):
    """What a measurement says about a claim; the value is what a reader sees."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    INCONCLUSIVE = "inconclusive"
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
        interval, and that is no wider than `precision` allows. ``at most`` and ``at least``: the
        measured value with its interval lies on that side of the paper's. ``statement``: the
        measured truth value is true.
    value : float or None
        The paper's number (None for a statement).
    rounding : float
        Half the last printed digit, or the reading error of a figure.
    why : str
        Why that test and tolerance.
    precision : float or None
        Of an ``interval``, the largest half width of the measured interval that decides; see
        `half_width` for what it is where the entry does not say.
    precision_why : str
        Why that precision, where the entry gives one.
    depends_on : tuple of str
        Settings of the experiment that can change the answer. Where one that the paper states has
        another value the verdict is "not testable at this scale"; one that it does not state is
        named in the judgement as an assumption.
    printed : str
        The paper's value as it stands there.
    corrected : str
        The right number where the paper errs, with the reason; empty otherwise.
    explanation : str
        Why our number and the paper's disagree where that is no error of the paper's: a setting, a
        network or an attack that it does not state, with the run that decides it.
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
    precision: float | None = None
    precision_why: str = ""
    depends_on: tuple[str, ...] = ()
    printed: str = ""
    corrected: str = ""
    explanation: str = ""
    expected: str = ""

    @property
    def half_width(self) -> float:
        """The largest half width of a measured interval that decides an ``interval`` test.

        Unless the entry gives one it is a tenth of the paper's value, or its rounding where that is
        more: who reads that a number was reproduced expects to hear of a tenth more or less, and
        not of digits that the paper does not print.
        """
        if self.precision is not None:
            return self.precision
        return max(self.rounding, abs(self.value or 0.0) / 10)


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
        The stated settings that can change the answer and differ from the paper's.
    assumptions : tuple of str
        The settings that can change the answer and that the paper does not state, as used.
    conditions : tuple of str
        On which images it was measured where the paper has others, and what else was not as there.
    n_needed : int or None
        Of an inconclusive verdict, the number of points or networks that would decide, if any.
    hours_needed : float or None
        What they would take on one core, where that is known.
    surprise : str
        What the known errata imply, where the verdict is another; empty otherwise.
    """

    claim: Claim
    measurement: Measurement | None
    verdict: Verdict
    reason: str
    reductions: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    n_needed: int | None = None
    hours_needed: float | None = None
    surprise: str = ""


def read_claims(paper: str) -> list[Claim]:
    """Return the claims of a paper in the order of its claims file; none where it has none."""
    stated: list[Mapping[str, Any]] = []
    with suppress(FileNotFoundError):
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
    if claim.precision is not None:
        if claim.test != "interval" or not claim.precision_why.strip():
            raise ValueError(f"{where}: a precision belongs to an interval and needs precision_why")
        if not claim.precision >= claim.rounding or math.isinf(claim.precision):
            raise ValueError(
                f"{where}: an interval as wide as the rounding must decide, so that precision must "
                f"be at least {claim.rounding} and finite, got {claim.precision}"
            )
    if claim.expected and claim.expected not in [verdict.value for verdict in Verdict]:
        raise ValueError(f"{where}: expected must be a verdict, not {claim.expected!r}")
    return claim


def judge(
    claim: Claim,
    measurement: Measurement | None,
    settings: Mapping[str, Any],
    *,
    lacks_data: bool = False,
    conditions: Sequence[str] = (),
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
    conditions : sequence of str
        What besides settings was not as in the paper; see `Analysis`.
    """
    if measurement is None and lacks_data:
        return Judgement(claim, None, Verdict.NO_DATA, "the data are not here")
    reductions, assumptions, images = _circumstances(claim, settings)
    if measurement is not None and measurement.holds_for:
        images = (measurement.holds_for, *images)
    said: Any = {
        "reductions": reductions,
        "assumptions": assumptions,
        "conditions": (*images, *conditions) if claim.depends_on else (),
    }
    if measurement is None:
        reason = "these runs do not show the quantity"
        return Judgement(claim, None, Verdict.NOT_AT_THIS_SCALE, reason, **said)
    verdict, reason, n_needed = _test(claim, measurement)
    if reductions:
        return Judgement(claim, measurement, Verdict.NOT_AT_THIS_SCALE, reason, **said)
    decided = verdict is not Verdict.INCONCLUSIVE
    surprising = decided and claim.expected not in ("", verdict.value)
    surprise = f"the known errata imply {claim.expected!r}" if surprising else ""
    more: Any = {"n_needed": n_needed, "surprise": surprise}
    return Judgement(claim, measurement, verdict, reason, **said, **more)


#: A verdict, how it came about, and the n that would decide where it is open.
_Outcome = tuple[Verdict, str, int | None]


def _test(claim: Claim, measurement: Measurement) -> _Outcome:
    found = measurement.value
    if claim.value is None:
        if found is None:
            return Verdict.INCONCLUSIVE, "the intervals leave open whether it holds", None
        if not isinstance(found, bool):
            raise ValueError(f"{claim.id} is a statement: its measurement must be true or false")
        verdict = Verdict.REPRODUCED if found else Verdict.DIFFERS
        return verdict, "it holds" if found else "it does not hold", None
    if found is None or isinstance(found, bool):
        raise ValueError(f"{claim.id} is about a number: its measurement must be one")
    value = float(found)
    if math.isnan(value):
        return Verdict.INCONCLUSIVE, "the measurement gave no number", None
    low = value if measurement.low is None else float(measurement.low)
    high = value if measurement.high is None else float(measurement.high)
    if not low <= value <= high:
        raise ValueError(f"{claim.id}: {low} <= {value} <= {high} must hold for its interval")
    if claim.test == "interval":
        return _on_the_value(claim, claim.value, measurement, low, high)
    return _on_its_side(claim, claim.value, measurement, low, high)


def _on_the_value(
    claim: Claim, paper: float, measurement: Measurement, low: float, high: float
) -> _Outcome:
    """Hold the measured interval against the paper's value, widened by its rounding."""
    floor, ceiling = paper - claim.rounding, paper + claim.rounding
    measured = number(low) if low == high else f"[{number(low)}, {number(high)}]"
    reason = f"{measured} against {claim.printed or number(paper)}"
    if low > ceiling or high < floor:
        return Verdict.DIFFERS, reason, None
    half = 0.0 if low == high else (high - low) / 2
    if half <= claim.half_width:
        return Verdict.REPRODUCED, reason, None
    needed = n_for(measurement, claim.half_width / half)
    open_ = f"wider than the ±{number(claim.half_width)} that decide"
    return Verdict.INCONCLUSIVE, f"{reason}: {open_}; {words_for(measurement, needed)}", needed


def _on_its_side(
    claim: Claim, paper: float, measurement: Measurement, low: float, high: float
) -> _Outcome:
    """Ask on which side of the paper's value the measured interval lies."""
    at_most = claim.test == "at most"
    bound = paper + claim.rounding if at_most else paper - claim.rounding
    asked = f"{claim.test} {number(bound)}"
    end = high if at_most else low
    if end <= bound if at_most else end >= bound:
        return Verdict.REPRODUCED, f"{claim.test} {number(end)}, where {asked} was asked for", None
    if low > bound if at_most else high < bound:
        other = f"at least {number(low)}" if at_most else f"at most {number(high)}"
        return Verdict.DIFFERS, f"{other}, where {asked} was asked for", None
    # The interval has to narrow until its end on the bound's side has come back to the bound.
    value = measurement.number
    arm = high - value if value < bound else value - low
    reach = abs(bound - value)
    needed = n_for(measurement, reach / arm) if math.isfinite(arm) and arm > 0 else None
    reason = f"[{number(low)}, {number(high)}] lies on both sides of {number(bound)}"
    return Verdict.INCONCLUSIVE, f"{reason}; {words_for(measurement, needed)}", needed


def reduced_settings(claim: Claim, used: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which settings are less than the paper states and can change the answer to a claim."""
    return _circumstances(claim, used)[0]


def _circumstances(
    claim: Claim, used: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return what is less than stated, what is assumed, and which images are not the paper's."""
    settings = {s.name: s for s in read_settings(claim.experiment)} if claim.depends_on else {}
    reductions, assumptions, images = [], [], []
    for name in claim.depends_on:
        if name not in settings or name not in used:
            raise ValueError(f"{claim.id} depends on {name}, which {claim.experiment} has not")
        one, here = settings[name], used[name]
        if one.names_images and not _are_made_up(here):
            if here != one.values["paper"]:
                images.append(f"measured on {setting(here)}; {_in_the_paper(one)}")
        elif one.assumed and not one.names_images:
            assumptions.append(f"{name} is {setting(here)} ({one.assumed})")
        elif one.is_reduced(here):
            reductions.append(f"{name} is {setting(here)} here, {_in_the_paper(one)}")
    return tuple(reductions), tuple(assumptions), tuple(images)


def _in_the_paper(one: Setting) -> str:
    where = f"in the paper ({one.stated})" if one.stated else "assumed"
    return f"{setting(one.values['paper'])} {where}"


def _are_made_up(names: Any) -> bool:
    """Whether one of the data sets is made up, so that no paper says anything of it."""
    from trueboundary.data import parse_pair

    each = [names] if isinstance(names, str) else names
    return any(parse_pair(name)[0].is_made_up for name in each)
