r"""Certified radii of optimal classifiers of mixtures, exact where the geometry allows it.

Let :math:`a_k` be the joint log densities of the components of a point's own class and
:math:`b_j` those of all other classes. Every difference :math:`a_k - b_j` is a quadratic function
of a few coordinates (`trueboundary.theory.log_ratios`), so that the exact distance :math:`r_{jk}`
to :math:`E_{jk} = \{b_j \ge a_k\}` and the exact minimum :math:`m_{jk}(t)` over the ball of radius
t are at hand.

**Most likely component.** An error has some :math:`b_j \ge a_k` for all k, so that it lies in
:math:`\bigcup_j \bigcap_k E_{jk}`, and none is nearer than :math:`\min_j \max_k r_{jk}`. Any
subset of the k gives a bound as well. One starts with the most likely own component and adds, for
the j that gives the minimum, the component that wins at the projection, until none does. Then
that projection is an error, and the bound is exact.

**Sum over components.** Within the ball, :math:`b_j - \log \sum_k e^{a_k} \le -c_j(t)` with
:math:`c_j(t) = \max_k m_{jk}(t)`. If
:math:`\sum_j e^{-c_j(t)} < 1` over the components of each other class by itself, the ball holds no
error; the largest such t is found by bisection. Where several own components share a point, Gibbs'
inequality :math:`\log \sum_k e^{a_k} \ge \sum_k v_k a_k + H(v)`, with equality at the point for
its responsibilities v, gives one more quadratic function to take the largest of.

A verified error on the ray through the projection bounds the distance from above: `bracket`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary._tensors import check_samples
from trueboundary.certificates._component_pairs import (
    BLOCK,
    Classes,
    IntArray,
    PairSearch,
)
from trueboundary.certificates._rays import Rays
from trueboundary.certificates.base import BoolArray, Certificate, Certified, FloatArray, Subject
from trueboundary.certificates.mixture_bounds import _Components, class_radii
from trueboundary.classifiers.bayes import BayesOptimal
from trueboundary.plurals import plural
from trueboundary.presentable import PresentableFields
from trueboundary.theory.intervals import censored_median

__all__ = ["MixtureBracket", "MixtureCertificate", "bracket"]

_SHORT = 1e-3  # share of a bound that sums over components may cost before more is tried
# What the rounding of curvatures, gradients and projections adds up to, with a margin.
_ROUNDED_DOWN = 1 - 32 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class MixtureCertificate(Certificate):
    """Certify `BayesOptimal` classifiers of Gaussians and mixtures of factor analyzers.

    For the rule of the most likely component the distances are exact where the result says so,
    which is nearly everywhere. For the sum over components they are lower bounds, short of the
    truth by about the nats that further components add, over the slope of the log odds; two single
    Gaussians are exact. `nearest` is the projection
    that gives the bound, which for the sum can be a little nearer than that.

    A tie of log densities within 1e-9 of their size counts as attained. Distances are rounded down,
    exact ones included: by about 1e-14 of themselves, and by what the rounding of log densities may
    hide, which counts next to the boundary. They are those of the classifier that evaluates its
    (possibly rounded) densities in exact arithmetic. Components of isotropic noise take a small
    eigenproblem for each pair; others take one of d x d, for the pairs that matter.

    Parameters
    ----------
    gibbs : bool
        For the sum over components, also use Gibbs' inequality where components overlap: tighter,
        at the cost of an eigenproblem for each such point.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import MixtureCertificate
    >>> from trueboundary.problems import planar_problem
    >>> classifier = planar_problem("a").bayes_classifier(dtype=torch.float64)
    >>> x, y = torch.tensor([[-2.0, 0.3]], dtype=torch.float64), torch.tensor([0])
    >>> round(MixtureCertificate()(classifier, x, y).distance.item(), 2)
    2.0
    """

    gibbs: bool = False

    def certify(self, subject: Subject) -> Certified:
        """Project the points onto the boundaries of pairs of components."""
        user = type(self).__name__
        classes = Classes.build(subject.classifier, user)
        classes.check_outputs(subject.classifier, subject.points, user)
        found = _solve(classes, subject.points, subject.labels, self.gibbs)
        return Certified(found.distance, found.exact, found.nearest[:, 0])

    def bracket(self, classifier: Any, x: Tensor, y: Tensor) -> MixtureBracket:
        """Return the bounds of `trueboundary.certificates.bracket`."""
        return bracket(classifier, x, y, gibbs=self.gibbs)


@dataclass(frozen=True, eq=False, repr=False)
class MixtureBracket(PresentableFields):
    """Lower and upper bounds of the distance to the nearest error, one float64 entry per point.

    Attributes
    ----------
    lower : Tensor of shape (n,)
        Certified distance; 0 for points that are errors themselves.
    upper : Tensor of shape (n,)
        Distance to an error that the classifier confirmed in float64; infinite where none was
        found.
    point : Tensor of shape (n, d)
        That error; NaN where none was found.
    exact : Tensor of bool, shape (n,)
        Whether the certificate proves `lower` to be the distance.
    other : Tensor of shape (n,), int64
        The class on the other side of that error, the likeliest one there but the own; -1 where
        none was found.
    """

    lower: Tensor
    upper: Tensor
    point: Tensor
    exact: Tensor
    other: Tensor

    def __str__(self) -> str:
        """Say how far the nearest errors are, and of how many that is proven."""
        ends = (censored_median(part.numpy(force=True)) for part in (self.lower, self.upper))
        return (
            "nearest errors of {}: median between {:.4g} and {:.4g}\n".format(
                plural(len(self.lower), "point"), *ends
            )
            + f"  {int(self.exact.sum()):,} exact"
        )


def bracket(
    classifier: Any,
    x: Tensor,
    y: Tensor,
    *,
    gibbs: bool = False,
    n_candidates: int = 2,
    n_refinements: int = 8,
) -> MixtureBracket:
    """Return certified lower and verified upper bounds of the distance to the nearest error.

    Upper bounds come from the rays through the projections onto the nearest pairwise boundaries,
    followed to the classifier's own boundary. Where a bracket stays wide, the ray is turned towards
    the boundary's normal as long as that makes it shorter.

    Parameters
    ----------
    classifier : BayesOptimal
        The optimal classifier of Gaussians or mixtures.
    x : Tensor of shape (n, d)
        Points; images are flattened.
    y : Tensor of shape (n,)
        Labels, 0 to K - 1.
    gibbs : bool
        As in `MixtureCertificate`.
    n_candidates : int
        How many components of other classes to aim at, the nearest first.
    n_refinements : int
        How often to turn the rays of wide brackets.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.problems import planar_problem
    >>> classifier = planar_problem("a").bayes_classifier(dtype=torch.float64)
    >>> x, y = torch.tensor([[-2.0, 0.3]], dtype=torch.float64), torch.tensor([0])
    >>> result = bracket(classifier, x, y)
    >>> bool(result.lower[0] <= result.upper[0] <= result.lower[0] * (1 + 1e-6))
    True
    """
    if n_candidates < 1 or n_refinements < 0:
        raise ValueError(
            f"n_candidates must be at least 1 and n_refinements at least 0, got {n_candidates} "
            f"and {n_refinements}."
        )
    classes = Classes.build(classifier, "bracket")
    check_samples(x, y, classes.n_classes)
    points, labels = x.detach().flatten(1).double().numpy(force=True), y.long().numpy(force=True)
    classes.check_outputs(classifier, points, "bracket")
    found = _solve(classes, points, labels, gibbs, n_candidates)
    upper = np.where(found.error, 0.0, np.inf)
    nearest = np.where(found.error[:, None], points, np.nan)
    exact = BayesOptimal(
        *(density.to(dtype=torch.float64, device="cpu") for density in classifier.densities),
        prior=classifier.priors,
        hardest_component=classifier.hardest_component,
    )
    rays = Rays(classes, exact, points, labels)
    for candidate in range(found.nearest.shape[1]):
        step = found.nearest[:, candidate] - points
        rows = np.flatnonzero(~found.error & np.isfinite(step).all(axis=1))
        rays.follow(rows, step[rows], upper, nearest)
    for candidate in range(found.nearest.shape[1]):
        rays.step_inside(found.distance, found.nearest[:, candidate], upper, nearest)
    rays.aim_at_means(upper, nearest)
    rays.aim_at_each_class(found.distance, upper, nearest)
    rays.turn(found.distance, upper, nearest, n_refinements)
    lower = np.minimum(found.distance, upper)
    other = rays.other_class(nearest)
    return MixtureBracket(
        *(torch.from_numpy(a).to(x.device) for a in (lower, upper, nearest, found.exact, other))
    )


@dataclass(frozen=True, eq=False)
class _Solution:
    """Distances with the projections (n, candidates, d) that give them, and errors themselves."""

    distance: FloatArray
    error: BoolArray
    exact: BoolArray
    nearest: FloatArray


def _solve(
    classes: Classes,
    x: FloatArray,
    labels: npt.NDArray[np.int64],
    gibbs: bool,
    n_candidates: int = 1,
) -> _Solution:
    """Return distances of all points, in blocks of points of one class."""
    n = len(x)
    sizes = [len(side.peak) for side in classes.sides]
    n_candidates = min(n_candidates, sum(sizes) - max(sizes))  # no class has fewer others
    out = _Solution(
        np.zeros(n),
        np.ones(n, dtype=bool),
        np.ones(n, dtype=bool),
        np.repeat(x[:, None], n_candidates, axis=1),
    )
    for label in range(classes.n_classes):
        of_class = np.flatnonzero(labels == label)
        for start in range(0, of_class.size, BLOCK):
            rows = of_class[start : start + BLOCK]
            against = classes.against(label)
            own = classes.sides[label].at(x[rows])
            others = [classes.sides[rival].at(x[rows]) for rival in against.rivals]
            level = classes.level(own.joint)
            leads = [level - classes.level(other.joint) for other in others]
            right = np.min(leads, axis=0) > 0
            if right.any():
                rows = rows[right]
                out.error[rows] = False
                own, *others = (side.take(right) for side in (own, *others))
                search = PairSearch(against, x[rows], own, _Components.joined(others))
                _solve_block(search, others, rows, out, gibbs)
    return out


def _solve_block(
    search: PairSearch, others: list[_Components], rows: IntArray, out: _Solution, gibbs: bool
) -> None:
    """Solve points that are classified right, and write them to their rows of `out`."""
    search.run()
    classes = search.against.classes
    order = np.argsort(search.reach, axis=1, kind="stable")
    for candidate in range(out.nearest.shape[1]):
        out.nearest[rows, candidate] = search.projections(order[:, candidate])
    if classes.hardest_component or classes.single:
        out.distance[rows] = search.reach.min(axis=1) * _ROUNDED_DOWN
        out.exact[rows] = search.tight
        return
    if gibbs:
        search.add_shared()
    cheap = class_radii(search.own, others)
    radius = search.sum_radius(cheap)
    short = radius < (1 - _SHORT) * search.sum_reach(search.reach)
    if len(others) > 1 and short.any():
        search.run_each_class(np.flatnonzero(short))
        radius = np.maximum(radius, search.sum_radius(cheap))
    out.distance[rows] = np.maximum(radius * _ROUNDED_DOWN, cheap.min(axis=1))
    out.exact[rows] = np.isinf(out.distance[rows])
