"""Argument checks shared by the theory modules: one clear sentence per mistake."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def integer(name: str, value: Any, minimum: int) -> int:
    """Return `value` as an int, or say why it is not an integer of at least `minimum`."""
    if isinstance(value, bool) or int(value) != value or value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}.")
    return int(value)


def finite(name: str, value: float) -> float:
    """Return `value` as a float, or say that it is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return float(value)


def positive(name: str, value: float) -> float:
    """Return `value` as a float, or say that it is not a positive finite number."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}.")
    return float(value)


def outer_radius(value: float) -> float:
    """Return the radius of the outer sphere, or say that it does not exceed the inner radius 1."""
    if not (math.isfinite(value) and value > 1):
        raise ValueError(
            f"radius must be a finite number above 1, the inner sphere's radius, got {value!r}."
        )
    return float(value)


def open_fraction(name: str, value: float) -> float:
    """Return `value` as a float, or say that it does not lie strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}.")
    return float(value)


def choice(name: str, value: str, options: tuple[str, ...]) -> str:
    """Return `value`, or list the options it should have come from."""
    if value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}.")
    return value


def finite_array(name: str, value: npt.ArrayLike, *, min_ndim: int = 0) -> FloatArray:
    """Return `value` as a float64 array, or say what is wrong with its type, shape or entries."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers ({error}).") from error
    if array.ndim < min_ndim:
        raise ValueError(f"{name} must have at least {min_ndim} axes, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinite entries.")
    return array
