r"""Log densities of low-rank Gaussians in residual form, and their gradients.

With the whitened loadings :math:`D^{-1/2} A = U \operatorname{diag}(s) V^\top` and the whitened
point :math:`y = D^{-1/2} (x - \mu)`, the squared Mahalanobis distance under
:math:`A A^\top + D` is

.. math:: \|y - U (g \circ U^\top y)\|^2 + \|h \circ U^\top y\|^2,
   \qquad g = s^2 / (1 + s^2), \quad h = s / (1 + s^2).

Both terms are squares, so nothing cancels; the matrix inversion lemma, which most libraries use,
subtracts two numbers of size :math:`\|x\|^2 / \sigma^2` and loses tens of nats in float32 for a
noise of 0.001. The factors that give the residual minimise the sum of the two terms, so that an
error in them enters squared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Rows are worked on in blocks of about this many numbers: small enough for a processor's cache,
# large enough that the overhead of a call does not show.
_BLOCK_NUMBERS = 2**18
# Nats by which components have to be behind to leave a sum as it is: 1e-26 of it at most.
_NEGLIGIBLE = 60.0


@dataclass(frozen=True)
class ResidualForm:
    """One Gaussian, prepared in float64 for evaluation in any dtype.

    Attributes
    ----------
    mean, inverse_std : Tensor
        Mean and inverse noise standard deviation, shape ``(d,)``.
    basis : Tensor
        Orthonormal basis of the whitened factor space, shape ``(d, l)``.
    gain, shrinkage : Tensor
        ``s**2 / (1 + s**2)`` and ``s / (1 + s**2)``, shape ``(l,)``.
    log_constant : float
        Log density at the mean.
    """

    mean: Tensor
    inverse_std: Tensor
    basis: Tensor
    gain: Tensor
    shrinkage: Tensor
    log_constant: float

    @classmethod
    def build(cls, mean: Tensor, loadings: Tensor, noise_variance: Tensor) -> ResidualForm:
        """Prepare the Gaussian with mean ``(d,)``, loadings ``(d, l)`` and noise ``(d,)``."""
        noise = noise_variance.double()
        inverse_std = noise.rsqrt()
        basis, spectrum, _ = torch.linalg.svd(
            loadings.double() * inverse_std[:, None], full_matrices=False
        )
        ratio = spectrum.square()
        log_determinant = float(noise.log().sum() + ratio.log1p().sum())
        dtype = mean.dtype
        return cls(
            mean=mean,
            inverse_std=inverse_std.to(dtype),
            basis=basis.to(dtype),
            gain=(ratio / (1 + ratio)).to(dtype),
            shrinkage=(spectrum / (1 + ratio)).to(dtype),
            log_constant=-0.5 * (log_determinant + mean.numel() * math.log(2 * math.pi)),
        )

    def residual(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the whitened residual ``(n, d)`` and the coordinates ``U' y``, ``(n, l)``."""
        whitened = (x - self.mean) * self.inverse_std
        coordinates = whitened @ self.basis
        residual = torch.addmm(whitened, coordinates * self.gain, self.basis.T, alpha=-1)
        return residual, coordinates

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log densities ``(n,)`` of points ``(n, d)``."""
        residual, coordinates = self.residual(x)
        squares = residual.square().sum(dim=1) + (coordinates * self.shrinkage).square().sum(dim=1)
        return self.log_constant - 0.5 * squares

    def distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return Mahalanobis distances ``(n,)``, and bounds of those by the noise alone."""
        residual, coordinates = self.residual(x)
        own = torch.linalg.vector_norm(residual, dim=1)
        shrunk = torch.linalg.vector_norm(coordinates * self.shrinkage, dim=1)
        return torch.hypot(own, shrunk), own + torch.linalg.vector_norm(coordinates, dim=1)

    def score(self, x: Tensor) -> Tensor:
        """Return gradients of the log density, ``(n, d)``, at points ``(n, d)``."""
        return -self.residual(x)[0] * self.inverse_std


def _rows_at_once(x: Tensor) -> int:
    return max(1, _BLOCK_NUMBERS // max(1, x.shape[1]))


def _row_blocks(x: Tensor) -> Iterator[slice]:
    rows = _rows_at_once(x)
    for start in range(0, x.shape[0], rows):
        yield slice(start, start + rows)


def _rows_of_components(chosen: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each component with the rows that `chosen` ``(n, K)`` has for it, if there are any."""
    rows = chosen.T.nonzero()[:, 1]
    for k, of_one in enumerate(torch.split(rows, chosen.sum(0).tolist())):
        if len(of_one):
            yield k, of_one


@dataclass(frozen=True)
class Screen:
    """Joint log densities of all components at once, good enough to see which can matter.

    From the expanded squares of the matrix inversion lemma, in float64: three matrix products
    for all components, whose rounding is bounded and allowed for. What is seen to matter is then
    evaluated in residual form.

    Attributes
    ----------
    precision, pull : Tensor of shape (d, K)
        Inverse noise variances, and those times the means.
    factor : Tensor of shape (d, K l)
        F of each precision ``D^-1 - F F'``, side by side.
    centre : Tensor of shape (K l,)
        Coordinates of the means.
    size, peak : Tensor of shape (K,)
        Squared lengths of the means by the noise alone, and joint log densities at the means.
    rounding : float
        Bound of the error of a joint log density, as a share of the squared lengths.
    """

    precision: Tensor
    pull: Tensor
    factor: Tensor
    centre: Tensor
    size: Tensor
    peak: Tensor
    rounding: float

    @classmethod
    def of(cls, forms: Sequence[ResidualForm], log_weights: Tensor) -> Screen:
        """Prepare for components and their log weights."""
        means = torch.stack([form.mean for form in forms], 1).double()
        inverse_std = torch.stack([form.inverse_std for form in forms], 1).double()
        factors = [
            form.basis.double() * form.gain.double().sqrt() * form.inverse_std.double()[:, None]
            for form in forms
        ]
        precision = inverse_std.square()
        constants = means.new_tensor([form.log_constant for form in forms])
        eps = torch.finfo(forms[0].mean.dtype).eps, torch.finfo(torch.float64).eps
        return cls(
            precision,
            precision * means,
            torch.cat(factors, 1),
            torch.cat([m @ f for m, f in zip(means.unbind(1), factors, strict=True)]),
            (precision * means.square()).sum(0),
            constants + log_weights.double(),
            16 * eps[0] + 16 * len(means) * eps[1],
        )

    def matters(self, x: Tensor) -> Tensor:
        """Return for which components ``(n, K)`` more than rounding depends on them."""
        x = x.double()
        size = x.square() @ self.precision
        squares = size - 2 * (x @ self.pull) + self.size
        coordinates = (x @ self.factor - self.centre).reshape(len(x), len(self.size), -1)
        joint = self.peak - 0.5 * (squares - coordinates.square().sum(2))
        doubt = self.rounding * (size + self.size)
        least = (joint - doubt).amax(1, keepdim=True)
        # Also all of them where nothing is finite.
        return ~(joint + doubt < least - _NEGLIGIBLE)


def _log_probs(x: Tensor, forms: Sequence[ResidualForm]) -> Tensor:
    # Row blocks outside and components inside: the block stays in the cache, and no temporary
    # is larger than a block.
    blocks = [torch.stack([form.log_prob(x[rows]) for form in forms], 1) for rows in _row_blocks(x)]
    return torch.cat(blocks) if blocks else x.new_empty(0, len(forms))


def _chosen_log_probs(x: Tensor, forms: Sequence[ResidualForm], chosen: Tensor) -> Tensor:
    out = forms[0].mean.new_full((len(x), len(forms)), -math.inf)
    for k, rows in _rows_of_components(chosen):
        for part in torch.split(rows, _rows_at_once(x)):
            out[part, k] = forms[k].log_prob(x[part])
    return out


def component_distances(x: Tensor, forms: Sequence[ResidualForm]) -> tuple[Tensor, Tensor]:
    """Return `ResidualForm.distances` of points ``(n, d)``, each ``(n, K)``."""
    found = x.new_empty(2, len(x), len(forms))
    for rows in _row_blocks(x):
        for k, form in enumerate(forms):
            found[0, rows, k], found[1, rows, k] = form.distances(x[rows])
    return found[0], found[1]


def weighted_score(x: Tensor, forms: Sequence[ResidualForm], weights: Tensor) -> Tensor:
    """Return ``sum_k weights[:, k] * score_k(x)``, shape ``(n, d)``."""
    # A weight of zero adds nothing, unless somebody asks how that changes with the weight.
    sparse = x.device.type == "cpu" and not (torch.is_grad_enabled() and weights.requires_grad)
    if sparse:
        total = x.new_zeros(x.shape, dtype=forms[0].mean.dtype)
        for k, rows in _rows_of_components(weights != 0):
            for part in torch.split(rows, _rows_at_once(x)):
                total.index_add_(0, part, weights[part, k, None] * forms[k].score(x[part]))
        return total
    blocks = []
    for block in _row_blocks(x):
        total = torch.zeros_like(x[block])
        for form, weight in zip(forms, weights[block].unbind(1), strict=True):
            total = torch.addcmul(total, weight[:, None], form.score(x[block]))
        blocks.append(total)
    return torch.cat(blocks) if blocks else torch.zeros_like(x)


class _ComponentLogProb(torch.autograd.Function):
    """Log densities under several Gaussians, with the closed-form gradient.

    Left to autograd, each component would keep its residuals for the backward pass, together an
    array of points x components x dimensions. Here the backward pass computes them again, block
    by block. It is itself differentiable.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, forms: Sequence[ResidualForm], chosen: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.forms = forms
        ctx.chosen = chosen
        return _log_probs(x, forms) if chosen is None else _chosen_log_probs(x, forms, chosen)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        weights = grads[0]
        if ctx.chosen is not None:  # of what is minus infinity everywhere near, nothing depends
            weights = torch.where(ctx.chosen, weights, 0.0)
        return weighted_score(x, ctx.forms, weights), None, None


def component_log_prob(
    x: Tensor, forms: Sequence[ResidualForm], chosen: Tensor | None = None
) -> Tensor:
    """Return log densities ``(n, K)`` of points ``(n, d)``, differentiable in the points.

    Where `chosen` ``(n, K)`` is given and does not hold, they are minus infinity.
    """
    return _ComponentLogProb.apply(x, forms, chosen)  # type: ignore[no-any-return, no-untyped-call]
