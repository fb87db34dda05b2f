"""Measurements, intervals and durations in words, the same wherever they are shown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from trueboundary.experiments.base import Measurement
from trueboundary.experiments.claims import Claim, Judgement, Verdict
from trueboundary.experiments.formats import number, setting
from trueboundary.plurals import duration, plural

__all__ = [
    "NOT_RUN",
    "count",
    "duration",
    "exact_number",
    "exact_value",
    "measured_value",
    "moment",
    "number",
    "paper_value",
    "plural",
    "qualifications",
    "setting",
]


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*")

#: What stands for our value where a row of a paper's table was not run.
NOT_RUN = "not run"


def moment(text: object) -> str:
    """Return a moment in ISO format to the minute; what is none stays as it is.

    Examples
    --------
    >>> moment("2026-01-31T09:26:12Z"), moment("–")
    ('2026-01-31 09:26', '–')
    """
    words = str(text)
    return f"{words[:10]} {words[11:16]}" if _MOMENT.fullmatch(words) else words


def paper_value(claim: Claim) -> str:
    """Return what the paper says about a claim, as it stands there."""
    if claim.printed:
        return claim.printed
    return "stated" if claim.value is None else number(claim.value)


def measured_value(measurement: Measurement | None, form: Callable[[float], str] = number) -> str:
    """Return a measured value with its 95 % interval, both in a form.

    Examples
    --------
    >>> measured_value(Measurement(0.183, 0.181, 0.185, n=100))
    '0.183 [0.181, 0.185]'
    >>> measured_value(Measurement(0.183, 0.181, 0.185), "{:.0%}".format)
    '18% [18%, 18%]'
    >>> measured_value(Measurement(False)), measured_value(Measurement(None))
    ('does not hold', 'left open')
    """
    if measurement is None:
        return "–"
    if measurement.value is None:
        return "left open"
    if isinstance(measurement.value, bool):
        return "holds" if measurement.value else "does not hold"
    text = form(measurement.value)
    if measurement.low is None and measurement.high is None:
        return text
    if measurement.low == -math.inf and measurement.high == math.inf:
        return f"{text} (one network)"
    low = measurement.value if measurement.low is None else measurement.low
    high = measurement.value if measurement.high is None else measurement.high
    return f"{text} [{form(low)}, {form(high)}]"


def qualifications(judgement: Judgement) -> list[str]:
    """Return in sentences what a verdict rests on besides the measurement.

    The assumptions about what the paper does not state, the images that were used in place of its
    own, what deciding would cost where it is open, and why the numbers disagree where they do.
    """
    told = []
    if judgement.assumptions:
        told.append(f"Under the assumption that {'; that '.join(judgement.assumptions)}.")
    told += [f"{condition[:1].upper()}{condition[1:]}." for condition in judgement.conditions]
    if judgement.hours_needed is not None:
        time = duration(3600 * judgement.hours_needed)
        told.append(f"That n takes about {time} of one core, what is stored already included.")
    if judgement.verdict is not Verdict.REPRODUCED and judgement.claim.explanation:
        told.append(f"Why: {judgement.claim.explanation}")
    return told


def count(measurement: Measurement | None) -> str:
    """Return the number of samples behind a measurement, or a dash."""
    return "–" if measurement is None or measurement.n is None else f"{measurement.n:,}"


def exact_value(judgement: Judgement | None) -> str:
    """Return the mathematical value beside a measurement, or a dash."""
    return "–" if judgement is None else exact_number(judgement.measurement)


def exact_number(measurement: Measurement | None) -> str:
    """Return the mathematical value of what was measured, or a dash."""
    if measurement is None or measurement.exact is None:
        return "–"
    return number(measurement.exact)
