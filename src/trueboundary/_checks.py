"""One meaning of an integer and of a real number, for the arguments of all rooms."""

from __future__ import annotations

import math
import operator
from typing import Any


def check_integer(name: str, value: Any, *, minimum: int) -> int:
    """Return `value` as an int, or say in one sentence why it is not a usable one."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, got {value!r} of type {type(value).__name__}."
        ) from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}.")
    return number


def check_real(name: str, value: Any, *, above: float = -math.inf) -> float:
    """Return `value` as a finite float greater than `above`, or raise."""
    try:
        if isinstance(value, str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} must be a real number, got {value!r} of type {type(value).__name__}."
        ) from None
    if not math.isfinite(number) or number <= above:
        wanted = "a finite number" if above == -math.inf else f"a finite number above {above:g}"
        raise ValueError(f"{name} must be {wanted}, got {number!r}.")
    return number
