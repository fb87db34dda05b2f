"""One meaning of an integer and of a real number, for the arguments of all rooms."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Far enough from the ends of the range that products of a few squares remain float64.
_LARGEST_RADIUS = _LARGEST = 1e60


_LARGEST_INTEGER = 2**63 - 1  # what scipy's functions of integers take
_LARGEST_DIM = 10**12  # beyond it the logarithms of measures lose the digits that decide


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
        raise ValueError(f"{name} must be at least {minimum}, got {_shown(number)}.")
    if number > _LARGEST_INTEGER:
        raise ValueError(f"{name} must be at most 2^63 - 1, got {_shown(number)}.")
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


def dimension(value: Any) -> int:
    """Return a sphere's dimension as an int, or say why it is none of 2 to 10^12."""
    dim = check_integer("dim", value, minimum=2)
    if dim > _LARGEST_DIM:
        raise ValueError(f"dim must be at most {_LARGEST_DIM:g}, got {_shown(value)}.")
    return dim


def finite(name: str, value: float) -> float:
    """Return `value` as a float, or say that it is not finite."""
    number = _number(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {_shown(value)}.")
    return number


def positive(name: str, value: float) -> float:
    """Return `value` as a float, or say that it is not a positive finite number."""
    number = _number(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a positive finite number, got {_shown(value)}.")
    return number


def between(name: str, value: float, low: float, high: float, unit: str = "") -> float:
    """Return `value` as a float, or say that it does not lie in [`low`, `high`]."""
    number = _number(value)
    if not low <= number <= high:
        end = "pi" if high == math.pi else f"{high:g}"
        range_ = f"be at most {end}" if low == -math.inf else f"lie in [{low:g}, {end}]"
        raise ValueError(f"{name} must {range_}{unit}, got {_shown(value)}.")
    return number


def outer_radius(value: float) -> float:
    """Return the radius of the outer sphere, or say that it does not exceed the inner radius 1."""
    number = _number(value)
    if not 1 < number <= _LARGEST_RADIUS:
        raise ValueError(
            "radius must be a finite number above 1, the inner sphere's radius, and at most "
            f"{_LARGEST_RADIUS:g}, got {_shown(value)}."
        )
    return number


def open_fraction(name: str, value: float) -> float:
    """Return `value` as a float, or say that it does not lie strictly between 0 and 1."""
    number = _number(value)
    if not 0 < number < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {_shown(value)}.")
    return number


def moderate(name: str, value: float) -> float:
    """Return `value` as a float, or say that it is not finite or so large that squares overflow."""
    return float(moderate_array(name, finite(name, value)))


def moderate_positive(name: str, value: float) -> float:
    """Return `value` as a float, or say that it does not lie in [1e-60, 1e60]."""
    return between(name, positive(name, value), 1 / _LARGEST, _LARGEST)


def choice(name: str, value: str, options: tuple[str, ...]) -> str:
    """Return `value`, or list the options it should have come from."""
    if value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}.")
    return value


def real_array(name: str, value: npt.ArrayLike) -> FloatArray:
    """Return `value` as a float64 array, or say that it is not one of real numbers."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be an array of real numbers ({error}).") from error


def finite_array(name: str, value: npt.ArrayLike, *, min_ndim: int = 0) -> FloatArray:
    """Return `value` as a float64 array, or say what is wrong with its type, shape or entries."""
    array = real_array(name, value)
    if array.ndim < min_ndim:
        raise ValueError(f"{name} must have at least {min_ndim} axes, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite entries.")
    return array


def moderate_array(name: str, value: npt.ArrayLike) -> FloatArray:
    """Return a finite array, or say that an entry is so large that squares overflow."""
    array = finite_array(name, value)
    if (np.abs(array) > _LARGEST).any():
        raise ValueError(
            f"{name} must lie in [-{_LARGEST:g}, {_LARGEST:g}], got {np.abs(array).max():g}; "
            "choose another unit."
        )
    return array


def _number(value: Any) -> float:
    """Return `value` as a float: NaN for what is no number, infinity for what is too large."""
    if isinstance(value, str):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an int beyond the range of float64
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return math.nan


def _shown(value: Any) -> str:
    """Return `value` as a sentence shows it; hundreds of digits of an int say nothing."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)
