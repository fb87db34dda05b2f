"""Torch twin of `quadratic_forms.log_tail`: the same value, with its exact gradient.

The contour integral does not depend on the contour, so contour and step are found by the numpy
routine and held fixed, and autograd goes through the integrand alone. The gradient is therefore as
accurate as the value, which makes the exact log error rate a loss one can train on.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trueboundary import _checks
from trueboundary.theory._bromwich import QuadraticForm, contour_of
from trueboundary.theory.quadratic_forms import binary_scale, ellipsoid_weights, make_form

__all__ = ["ellipsoid_log_error", "log_tail"]


def log_tail(weights: Tensor, *, tail: Literal["upper", "lower"] = "upper") -> Tensor:
    """Return log P(sum_i w_i u_i^2 > 0) for standard normal u, differentiable in the weights.

    Parameters
    ----------
    weights : Tensor of shape (..., d)
        Weights of any sign, float64; leading axes are a batch.
    tail : {"upper", "lower"}
        log P(Q > 0), or log P(Q < 0).

    Returns
    -------
    Tensor of shape (...)
        Natural logarithms of the probabilities. Exactly -inf and 0, with zero gradient, where the
        signs of the weights decide.

    Examples
    --------
    >>> w = torch.tensor([0.2, -0.4, -0.5], dtype=torch.float64, requires_grad=True)
    >>> value = log_tail(w)
    >>> value.backward()
    >>> bool((w.grad > 0).all()), bool((w.grad @ w).abs() < 1e-12)  # scaling changes nothing
    (True, True)
    """
    _checks.choice("tail", tail, ("upper", "lower"))
    if not isinstance(weights, Tensor) or weights.dtype != torch.float64:
        raise TypeError("weights must be a float64 tensor: convert with weights.double().")
    if weights.ndim == 0 or weights.shape[-1] == 0 or not bool(weights.isfinite().all()):
        raise ValueError(f"weights must be finite with shape (..., d), got {tuple(weights.shape)}.")
    rows = (-weights if tail == "lower" else weights).reshape(-1, weights.shape[-1])
    values = [_log_upper_tail(row) for row in rows]
    return torch.stack(values).reshape(weights.shape[:-1]) if values else weights.sum(-1)


def ellipsoid_log_error(
    alphas: Tensor, *, sphere: Literal["inner", "outer"] = "inner", radius: float = 1.3
) -> Tensor:
    """Return the log error rate of an ellipsoid classifier, differentiable in its alphas.

    Parameters
    ----------
    alphas : Tensor of shape (..., d)
        Coefficients of the ellipsoid sum_i alpha_i z_i^2 = 1, float64.
    sphere : {"inner", "outer"}
        The unit sphere, or the sphere of radius `radius`.
    radius : float
        Radius of the outer sphere, above 1.

    Returns
    -------
    Tensor of shape (...)
        Natural logarithms of the error rates.

    Examples
    --------
    >>> alphas = torch.tensor([1.5, 0.7, 0.6], dtype=torch.float64)
    >>> round(ellipsoid_log_error(alphas).exp().item(), 6)
    0.359394
    """
    _checks.choice("sphere", sphere, ("inner", "outer"))
    radius = _checks.outer_radius(radius)
    if not isinstance(alphas, Tensor) or alphas.dtype != torch.float64:
        raise TypeError("alphas must be a float64 tensor: convert with alphas.double().")
    if sphere == "inner":
        return log_tail(alphas - 1)
    weights = ellipsoid_weights(alphas.detach().cpu().numpy(), sphere="outer", radius=radius)
    # The value keeps its digits; what is added is 0 and carries the gradient.
    return log_tail(torch.as_tensor(weights).to(alphas) - (alphas - alphas.detach()))


def _log_upper_tail(weights: Tensor) -> Tensor:
    """Return the log tail of one weight vector."""
    scaled = weights * binary_scale(weights.detach().cpu().numpy())
    form = _form(weights)
    certain = form.certain()
    if certain is not None:
        return 0 * scaled.sum() + certain
    form.normalised()  # refuses weights of which some would underflow that matter
    weights = torch.where(scaled.abs() >= torch.finfo(scaled.dtype).tiny, scaled, 0.0)
    form = _form(weights)
    if form.mean > 0:  # then P(Q > 0) is not small, and the complement keeps its digits
        return torch.log1p(-_log_integral(-weights).exp())
    return _log_integral(weights)


def _form(weights: Tensor) -> QuadraticForm:
    """Return the form as the numpy routines see it: distinct nonzero weights, ascending."""
    values = weights.detach().cpu().numpy()
    return make_form(values, np.ones_like(values), np.zeros_like(values), 0.0, 0.0)


def _log_integral(weights: Tensor) -> Tensor:
    """Return log P(Q > 0) for a form of nonpositive mean, on a fixed vertical path."""
    path = contour_of(_form(weights))
    point = path.point
    # The ratios 1 - 2 c w cancel for w near the largest weight. Their precise values came with the
    # path, one for each distinct nonzero weight; only their gradient, -2 c, is taken here.
    distinct, group = torch.unique(weights.detach(), return_inverse=True)
    precise = torch.ones_like(distinct)
    precise[distinct != 0] = torch.as_tensor(point.ratios).to(precise)
    ratios = precise[group] - 2 * point.c * (weights - weights.detach())
    s = path.step * torch.arange(path.n_steps + 1, dtype=weights.dtype, device=weights.device)
    y = point.reach * s.sinh()  # t = c (1 + i y)
    z = torch.outer(y, 2 * point.c * weights / ratios)
    log_modulus = -0.25 * torch.log1p(z**2).sum(1)
    phase = 0.5 * torch.atan(z).sum(1)
    numerator = phase.cos() + y * phase.sin()
    density = log_modulus.exp() * numerator / (1 + y**2) * point.reach * s.cosh()
    total = path.step * (density.sum() - 0.5 * density[0])
    return -0.5 * ratios.log().sum() + total.log() - math.log(math.pi)
