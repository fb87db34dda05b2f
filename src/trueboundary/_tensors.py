"""Checks of dtypes, devices and generators, for the arguments of all rooms that draw or compute."""

from __future__ import annotations

import torch

from trueboundary.devices import check_device


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
