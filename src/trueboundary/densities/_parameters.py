"""Checks of the parameters of Gaussian densities and of the points they are evaluated at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_tensor(name: str, value: object, ndim: int, shape: str) -> Tensor:
    """Return `value` if it is a finite floating tensor of `ndim` dimensions, or raise."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor of shape {shape}, got {type(value).__name__}.")
    if value.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64, got {value.dtype}.")
    if value.ndim != ndim:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}.")
    if value.requires_grad:
        raise ValueError(
            f"{name} requires a gradient, but densities differentiate with respect to points "
            "only; pass a detached tensor."
        )
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} must be finite, but holds NaN or infinite values.")
    return value


def check_noise(value: Tensor | float, shapes: Sequence[tuple[int, ...]], like: Tensor) -> Tensor:
    """Return the noise variance as a tensor like `like` of one of `shapes`, or raise."""
    noise = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else like.dtype)
    if not isinstance(value, Tensor):
        noise = noise.to(like.device)
    if tuple(noise.shape) not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise ValueError(
            f"noise_variance must have shape {wanted} to fit the means, got {tuple(noise.shape)}."
        )
    check_tensor("noise_variance", noise, noise.ndim, str(tuple(noise.shape)))
    if not bool((noise > 0).all()):
        raise ValueError(
            f"noise_variance must be positive, got a smallest value of {float(noise.min())!r}; "
            "a density without noise does not exist."
        )
    return noise


def check_alike(reference: Tensor, **others: Tensor) -> None:
    """Raise unless all tensors share the dtype and device of `reference`."""
    for name, other in others.items():
        if other.dtype != reference.dtype or other.device != reference.device:
            raise TypeError(
                f"{name} is {other.dtype} on {other.device}, the means are {reference.dtype} on "
                f"{reference.device}; convert one of them."
            )


def check_points(value: object, like: Tensor, *, finite: bool) -> Tensor:
    """Return points ``(..., d)`` in the dtype of `like`, whose last dimension they must have.

    Points of a lower precision are converted. Points of a higher precision are refused, because
    rounding them would change the result without a word.
    """
    dim = like.shape[-1]
    if not isinstance(value, Tensor):
        raise TypeError(f"points must be a tensor, got {type(value).__name__}.")
    if value.ndim == 0 or value.shape[-1] != dim:
        raise ValueError(f"points must have shape (..., {dim}), got {tuple(value.shape)}.")
    if not value.is_floating_point() or torch.promote_types(value.dtype, like.dtype) != like.dtype:
        raise TypeError(
            f"points are {value.dtype} but the density is {like.dtype}; convert the points, or "
            "the density with density.to(dtype=...)."
        )
    if value.device != like.device:
        raise ValueError(
            f"points are on {value.device} but the density is on {like.device}; "
            "move one of them with .to(device=...)."
        )
    if finite and not bool(value.isfinite().all()):
        raise ValueError(
            "points must be finite, but hold NaN or infinite values; build the density with "
            "validate_args=False to let them through."
        )
    return value.to(like.dtype)
