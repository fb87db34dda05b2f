"""Checks of arguments shared by densities, problems and classifiers."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch

from trueboundary.devices import check_device


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


def check_floating(dtype: torch.dtype) -> torch.dtype:
    """Return `dtype` if it is float32 or float64, or raise."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}.")
    return dtype


def drawing_device(
    generator: torch.Generator, device: torch.device | str | None = None
) -> torch.device:
    """Return the device on which to draw: the generator's own, which `device` must agree with."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, got {type(generator).__name__}; "
            "make one with torch.Generator(device).manual_seed(seed)."
        )
    if device is None:
        return generator.device
    wanted = check_device(device)
    same_index = wanted.index is None or wanted.index == generator.device.index
    if wanted.type != generator.device.type or not same_index:
        raise ValueError(
            f"the generator lives on {generator.device} and cannot draw on {wanted}; "
            f"make it with torch.Generator({str(wanted)!r})."
        )
    return generator.device
