"""Numbers and settings as a reader wants them, the same wherever they are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from trueboundary.plurals import plural


def number(value: float, digits: int = 4) -> str:
    """Return `value` with `digits` significant digits and a written-out power of ten.

    It is written in characters that a terminal of any country has, and that a search finds.

    Examples
    --------
    >>> number(0.18), number(20_000_000), number(1.02e-11), number(float("inf"))
    ('0.18', '20,000,000', '1.02 × 10^-11', 'infinity')
    """
    if math.isnan(value):
        return "none"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):,}"
    text = f"{value:.{digits}g}"
    mantissa, exponent, power = text.partition("e")
    if exponent:
        mantissa += f" × 10^{int(power)}"
    return mantissa


def counted(numbers: Iterable[int], noun: str) -> str:
    """Return how many of something there are, or from how many to how many where that differs.

    Examples
    --------
    >>> counted([200, 200], "point"), counted([1, 1], "network"), counted([30, 1500], "point")
    ('200 points', '1 network', '30 to 1,500 points')
    """
    known = sorted(set(numbers))
    return (f"{known[0]:,} to " if len(known) > 1 else "") + plural(known[-1], noun)


def setting(value: Any) -> str:
    """Return a setting's value in words.

    Examples
    --------
    >>> setting((10, 1_000_000)), setting(True), setting("linear"), setting(1e-4)
    ('10, 1,000,000', 'yes', 'linear', '0.0001')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, (tuple, list)):
        return ", ".join(setting(item) for item in value)
    return str(value)
