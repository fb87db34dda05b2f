"""Checks of points, labels, dtypes, devices and generators, for the arguments of all rooms."""

from __future__ import annotations

import torch
from torch import Tensor

from trueboundary._checks import check_integer
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


def generator_of(
    generator: torch.Generator | None,
    seed: int | None,
    device: torch.device | str | None = None,
) -> torch.Generator:
    """Return what a function draws from: the generator, or the one that a seed stands for.

    Parameters
    ----------
    generator, seed
        Exactly one of them is not None.
    device : torch.device or str, optional
        Where a generator of the seed draws; the CPU by default.

    Raises
    ------
    TypeError
        If both or neither were given, or the generator is none.
    """
    found = optional_generator(generator, seed, device)
    if found is None:
        raise TypeError(
            "something is drawn here, which needs generator= or seed=, for instance seed=0."
        )
    return found


def optional_generator(
    generator: torch.Generator | None,
    seed: int | None,
    device: torch.device | str | None = None,
) -> torch.Generator | None:
    """Return the generator or that of the seed as `generator_of` does, or None without either."""
    if generator is not None and seed is not None:
        raise TypeError("expected generator= or seed=, got both; leave one of them out.")
    if seed is not None:
        number = check_integer("seed", seed, minimum=0)
        return torch.Generator("cpu" if device is None else device).manual_seed(number)
    if generator is not None:
        drawing_device(generator)
    return generator


def check_samples(x: Tensor, y: Tensor, n_classes: int | None = 2) -> None:
    """Raise unless there are finite samples ``(n, *event)``, n >= 1, and labels ``(n,)`` of them.

    Labels are 0 to K - 1 for K classes; without a number of them, `check_labels` is still to come.
    """
    _check_tensor("x", x)
    _check_tensor("y", y)
    check_points(x)
    if y.is_floating_point() or y.is_complex():
        raise TypeError(f"expected integer or boolean labels, got y.dtype={y.dtype}; use y.long()")
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"expected one label per sample, shape ({x.shape[0]},), got {tuple(y.shape)}"
        )
    if n_classes is not None:
        check_labels(y, n_classes)


def check_labels(y: Tensor, n_classes: int, what: str = "labels") -> None:
    """Raise unless all labels are those of a classifier or problem of K classes, 0 to K - 1."""
    if not bool(((y >= 0) & (y < n_classes)).all()):
        known = "0 and 1" if n_classes == 2 else f"from 0 to {n_classes - 1}"
        raise ValueError(f"expected {what} {known}, got {sorted(set(y.tolist()))}")


def check_each_label(y: Tensor, n: int, n_classes: int, what: str = "labels") -> None:
    """Raise unless there is one label, of K classes, for each of n points."""
    if y.shape != (n,):
        raise ValueError(f"expected {n} {what}, one for each point, got shape {tuple(y.shape)}.")
    check_labels(y, n_classes, what)


def check_points(x: Tensor) -> None:
    """Raise unless there are finite samples of shape ``(n, *event)`` with n >= 1."""
    _check_tensor("x", x)
    if not x.is_floating_point():
        raise TypeError(f"expected floating-point samples, got x.dtype={x.dtype}; use x.float()")
    if torch.finfo(x.dtype).bits < 32:
        raise TypeError(
            f"expected samples in single or double precision, got x.dtype={x.dtype}, in which no "
            "distance keeps three digits; use x.float() (the classifier may compute in half)"
        )
    if x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(
            f"expected samples of shape (n, *event) with n >= 1, got {tuple(x.shape)}; a single "
            "sample is x[None]"
        )
    if not bool(x.isfinite().all()):
        bad = int((~x.flatten(1).isfinite().all(1)).sum())
        raise ValueError(f"expected finite samples, got NaN or infinity in {bad} of {x.shape[0]}")


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"expected {name} to be a tensor, got {type(value).__name__}; try torch.as_tensor"
        )
