"""Errors counted among random points, block by block, in the fastest way that is known.

By default each point is drawn and classified. Quadratic classifiers on the concentric spheres are
counted in their own eigenbasis, which needs no product with a matrix; ReLU networks through a
screen that leaves few points to the network itself (`trueboundary.measure.screen`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trueboundary.certificates.ellipsoid_exact import require_margins
from trueboundary.classifiers import (
    Classifier,
    QuadraticNetwork,
    ReLUNetwork,
    SphereBayes,
    TruncatedSum,
    dtype_of,
    misclassified,
    outputs,
    predicted,
)
from trueboundary.classifiers.ellipsoid import Ellipsoid
from trueboundary.classifiers.integrity import Disagreement
from trueboundary.measure._inputs import compared_points
from trueboundary.measure.proofs import has_ellipsoid
from trueboundary.measure.registered import (
    BlockCounter,
    block_counter_for,
    register_block_counter,
)
from trueboundary.measure.screen import Screen, why_not_screened
from trueboundary.problems import ConcentricSpheres, Problem, block_generator
from trueboundary.problems.base import BLOCK_SIZE
from trueboundary.theory.quadratic_forms import binary_scale, ellipsoid_weights

#: Numbers that are drawn at a time in an eigenbasis: with their squares they fit into a cache.
_CACHED = 1 << 17
#: Blocks that a network classifies itself, since a screen takes as long to make as some of them.
_UNSCREENED = 4


def block_counter(
    classifier: Classifier, problem: Problem, batch_size: int | None = None
) -> BlockCounter:
    """Return how errors of a classifier, held in eval mode, are counted on a problem.

    Parameters
    ----------
    classifier : callable
        Any classifier.
    problem : Problem
        What the points are drawn from.
    batch_size : int, optional
        Points that a classifier gets at a time; whole blocks by default.

    Returns
    -------
    BlockCounter
        What is registered, else one that draws every point and classifies it.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> from trueboundary.measure.counting import block_counter
    >>> problem = tb.ConcentricSpheres(dim=20)
    >>> network = tb.QuadraticNetwork(20, 40, generator=torch.Generator().manual_seed(0))
    >>> count = block_counter(network, problem)
    >>> count(0, 8192, seed=0, label=0, device="cpu"), tb.error_rate(network, problem)[0].value
    (1522, 0.1798...)
    """
    try:
        found = block_counter_for(classifier, problem)
    except Disagreement:
        found = ""
    return OneByOne(classifier, problem, batch_size) if isinstance(found, str) else found


@dataclass(frozen=True)
class OneByOne:
    """Classifies the points of a problem's own blocks, so many at a time; all at once if None."""

    classifier: Classifier
    problem: Problem
    batch_size: int | None = None

    def __call__(
        self, index: int, n: int, *, seed: int, label: int, device: torch.device | str
    ) -> int:
        """Return the number of errors among the first points of a block."""
        x = self._points(index, n, seed, label, device)
        return sum(_n_errors(self.classifier, part, label) for part in self._batches(x))

    @torch.no_grad()
    def by_class(
        self, index: int, n: int, *, seed: int, label: int, device: torch.device | str
    ) -> Tensor:
        """Return how many of the first points of a block each class gets, int64, ``(K,)``.

        A point without a class, whose output is NaN, counts for none.
        """
        x = self._points(index, n, seed, label, device)
        found = torch.cat([outputs(self.classifier, part) for part in self._batches(x)])
        return predicted(found).cpu().bincount(minlength=self.problem.n_classes)

    def _batches(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) if self.batch_size is None else torch.split(x, self.batch_size)

    def _points(
        self, index: int, n: int, seed: int, label: int, device: torch.device | str
    ) -> Tensor:
        x, _ = self.problem.block(
            index, seed=seed, label=label, dtype=dtype_of(self.classifier), device=device
        )
        return x[:n]


class InEigenbasis:
    r"""Counts errors of an ellipsoid on points that are drawn in its eigenbasis.

    The uniform law on a sphere does not change under rotations, so that coordinates along the axes
    may be drawn in place of the points. For standard normal u the point :math:`x = R u / \|u\|` is
    uniform on the sphere of radius R, and the margin has the sign of

    .. math:: s \sum_i (\alpha_i - 1/R^2) u_i^2,

    with the sign s of the ellipsoid's scale: neither a product with a matrix nor a norm is needed.
    The points are other ones than those of `Problem.blocks`, with the same law. They are decided by
    the stored parameters in exact arithmetic, as exact error rates are: sums that their rounding in
    float32 could have brought to the other side of 0 are taken again in float64.

    Parameters
    ----------
    ellipsoid : Ellipsoid
        The classifier in its eigenbasis.
    radius : float
        Radius of the outer sphere.

    Notes
    -----
    With n terms, each square and product rounded, a float32 sum is off by at most
    :math:`\gamma_{n+2} \sum_i |w_i| u_i^2` where :math:`\gamma_k = k u / (1 - k u)`, the weights'
    own rounding adding one to k (Higham, 2002, Section 3.1). Twice that is allowed here, since the
    sum of the sizes is rounded itself; `_TINY` stands for squares that underflow.
    """

    _TINY = 1e-30

    def __init__(self, ellipsoid: Ellipsoid, radius: float) -> None:
        sign = -1.0 if ellipsoid.is_inverted else 1.0
        self.weights = []
        for sphere in ("inner", "outer"):
            own = ellipsoid_weights(ellipsoid.alphas, sphere=sphere, radius=radius)
            self.weights.append(torch.from_numpy(sign * binary_scale(own) * own))
        self.dim = ellipsoid.dim
        self.slack = 2 * (self.dim + 8) * torch.finfo(torch.float32).eps / 2

    def __call__(
        self, index: int, n: int, *, seed: int, label: int, device: torch.device | str
    ) -> int:
        """Return the number of errors among the first points of a block."""
        weights = self.weights[label].to(device)
        both = torch.stack([weights, weights.abs()], dim=1).float()
        squares, n_errors = None, 0
        for z in self.parts(index, n, seed=seed, label=label, device=device):
            squares = torch.empty_like(z) if squares is None else squares
            sums, sizes = torch.mul(z, z, out=squares[: len(z)]).mm(both).unbind(1)
            decided = sums.double()
            near = (sums.abs() <= self.slack * sizes + self._TINY).nonzero().squeeze(1)
            if len(near):
                decided[near] = z[near].double().square() @ weights
            # A margin of exactly 0 is class 0, an error of class 1.
            n_errors += int((decided > 0 if label == 0 else decided >= 0).sum())
        return n_errors

    def parts(
        self, index: int, n: int, *, seed: int, label: int, device: torch.device | str
    ) -> Iterator[Tensor]:
        """Yield the normal variables u of the first points of a block, in one piece of memory."""
        purpose = f"eigenbasis/class {label}"
        generator = block_generator(seed, index, purpose=purpose, device=device)
        rows = BLOCK_SIZE
        if generator.device.type == "cpu":  # as many as fit into a cache, a power of two of them
            rows = min(rows, 1 << max(0, (_CACHED // self.dim).bit_length() - 1))
        z = torch.empty((rows, self.dim), device=generator.device)
        for start in range(0, n, rows):
            yield z.normal_(generator=generator)[: n - start]


class Screened:
    """Counts errors of a ReLU network among a problem's own points, most of them by a screen.

    The count is that of the network itself, which classifies the points that the screen does not
    decide, and all points of the first few blocks.

    Parameters
    ----------
    network : ReLUNetwork
        The network, in eval mode.
    problem : Problem
        What the points are drawn from.
    """

    def __init__(self, network: ReLUNetwork, problem: Problem) -> None:
        self.network = network
        self.problem = problem
        self.n_blocks = 0
        self.screen: Screen | None = None

    def __call__(
        self, index: int, n: int, *, seed: int, label: int, device: torch.device | str
    ) -> int:
        """Return the number of errors among the first points of a block."""
        x, _ = self.problem.block(index, seed=seed, label=label, device=device)
        x = x[:n]
        self.n_blocks += 1
        if self.screen is None and self.n_blocks > _UNSCREENED:
            self.screen = Screen(self.network)
        if self.screen is None:
            return _n_errors(self.network, x, label)
        margins, bounds = self.screen(x)
        decided = margins.abs() > bounds  # false for NaN, too
        n_errors = int(misclassified(margins[decided], label).sum())
        rest = x[~decided]
        return n_errors + (_n_errors(self.network, rest, label) if len(rest) else 0)


@register_block_counter((QuadraticNetwork, SphereBayes, TruncatedSum), ConcentricSpheres)
def _of_ellipsoid(
    classifier: QuadraticNetwork | SphereBayes | TruncatedSum, problem: ConcentricSpheres
) -> BlockCounter | str:
    if not has_ellipsoid(classifier):
        return "a quadratic classifier without an offset has no ellipsoid"
    ellipsoid = classifier.ellipsoid()
    for points in compared_points(problem):
        require_margins(classifier, ellipsoid, points, "a count in the eigenbasis")
    return InEigenbasis(ellipsoid, problem.radius)


@register_block_counter(ReLUNetwork, Problem)  # type: ignore[type-abstract]
def _of_relu(network: ReLUNetwork, problem: Problem) -> BlockCounter | str:
    if network.n_classes > 2:
        return "a screen bounds the one margin of two classes"
    return why_not_screened(network) or Screened(network, problem)


@torch.no_grad()
def _n_errors(classifier: Classifier, x: Tensor, label: int) -> int:
    return int(misclassified(outputs(classifier, x), label).sum())
