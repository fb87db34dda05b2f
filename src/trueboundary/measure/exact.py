"""Error rates and error sets that need no random points."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from trueboundary.certificates.ellipsoid_exact import require_margins
from trueboundary.certificates.mixture_bounds import require_own_odds
from trueboundary.classifiers import (
    BayesOptimal,
    Classifier,
    QuadraticNetwork,
    SphereBayes,
    TruncatedSum,
    dtype_of,
    misclassified,
    outputs,
    predicted,
)
from trueboundary.classifiers.ellipsoid import Ellipsoid
from trueboundary.classifiers.integrity import Disagreement, require_agreement
from trueboundary.densities import LowRankGaussian
from trueboundary.measure._inputs import compared_points
from trueboundary.measure.proofs import has_ellipsoid
from trueboundary.measure.registered import ExactRates, exact_rates_for, register_exact_rate
from trueboundary.problems import ConcentricSpheres, MixtureProblem, Problem, TableProblem
from trueboundary.problems.base import BLOCK_SIZE
from trueboundary.theory.log_ratios import LowRankNormal, pair_log_error
from trueboundary.theory.quadratic_forms import Tail, ellipsoid_weights, log_tail
from trueboundary.theory.truncated import log_errors

_WHO = "an exact error rate"


def exact_error_rates(classifier: Classifier, problem: Problem) -> ExactRates | str:
    """Return the exact error rates of a classifier, or a sentence that says why there are none.

    They are those of the classifier's stored parameters in exact arithmetic. A classifier that
    computes in float32 follows them except within its rounding errors of the boundary.
    """
    try:
        return exact_rates_for(classifier, problem)
    except Disagreement as error:
        return f"no exact form is known: {str(error).rstrip('.')}"


@register_exact_rate(SphereBayes, ConcentricSpheres)
def _of_sphere(classifier: SphereBayes, problem: ConcentricSpheres) -> ExactRates:
    boundary = classifier.boundary.item()
    _require_sizes(classifier, problem, lambda x: np.linalg.norm(x, axis=1), boundary)
    # A margin of exactly 0 is class 0.
    both = (boundary < 1, boundary >= problem.radius)
    log_both = [0.0 if is_wrong else -math.inf for is_wrong in both]
    return ExactRates((log_both[0], log_both[1]), "all points of a sphere have the same norm")


@register_exact_rate(TruncatedSum, ConcentricSpheres)
def _of_truncated_sum(classifier: TruncatedSum, problem: ConcentricSpheres) -> ExactRates:
    k, threshold = classifier.k, classifier.threshold.item()
    _require_sizes(classifier, problem, lambda x: (x[:, :k] ** 2).sum(axis=1), threshold)
    errors = log_errors(classifier.dim, k, threshold, radius=problem.radius)
    reason = "a sum of squared coordinates has a beta distribution on a sphere"
    return ExactRates((errors.inner, errors.outer), reason)


@register_exact_rate(QuadraticNetwork, ConcentricSpheres)
def _of_quadratic(classifier: QuadraticNetwork, problem: ConcentricSpheres) -> ExactRates | str:
    if not has_ellipsoid(classifier):
        return "no exact form is known for a quadratic network without a bias"
    ellipsoid = classifier.ellipsoid()
    for points in compared_points(problem):
        require_margins(classifier, ellipsoid, points, _WHO)
    return _of_ellipsoid(ellipsoid, problem)


def _require_sizes(
    classifier: Classifier,
    problem: Problem,
    size: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    boundary: float,
) -> None:
    """Raise unless a classifier's margins at random points are their sizes over a boundary."""
    for points in compared_points(problem):
        sizes = size(points)
        rounding = math.sqrt(points.shape[1]) * sizes + abs(boundary)
        require_agreement(classifier, points, sizes - boundary, rounding, _WHO)


def table_classes(classifier: Classifier, problem: TableProblem) -> npt.NDArray[np.int64]:
    """Return the class that a classifier gives to each integer point, -1 where it gives none."""
    shape = problem.densities[0].probabilities.shape
    points = torch.cartesian_prod(*(torch.arange(size) for size in shape)).to(dtype_of(classifier))
    with torch.no_grad():
        parts = [outputs(classifier, block) for block in torch.split(points, BLOCK_SIZE)]
    found = torch.cat(parts)
    classes = torch.where(misclassified(found, predicted(found)), -1, predicted(found))
    numbers: npt.NDArray[np.int64] = classes.reshape(shape).numpy(force=True)
    return numbers


@register_exact_rate(object, TableProblem)
def _on_table(classifier: Classifier, problem: TableProblem) -> ExactRates:
    found, classes = [], table_classes(classifier, problem)
    for label, density in enumerate(problem.densities):
        table = density.probabilities.double().numpy(force=True)
        share = float(table[classes != label].sum()) / float(table.sum())
        found.append(math.log(min(share, 1.0)) if share > 0 else -math.inf)
    return ExactRates(tuple(found), "the table's points can be looked at one by one")


def _of_ellipsoid(ellipsoid: Ellipsoid, problem: ConcentricSpheres) -> ExactRates:
    # Turned signs exchange inside and outside: exactly the points right before are wrong then. A
    # tail of its own keeps the digits that the complement of the other one would lose.
    tail: Tail = "lower" if ellipsoid.is_inverted else "upper"
    inner, outer = (
        ellipsoid_weights(ellipsoid.alphas, sphere="inner", radius=problem.radius),
        ellipsoid_weights(ellipsoid.alphas, sphere="outer", radius=problem.radius),
    )
    reason = "the error set is an ellipsoid's, whose measure is a Gaussian quadratic form's tail"
    # Where the ellipsoid is the outer sphere itself all margins are 0, which is class 0.
    log_outer = float(log_tail(outer, tail=tail)) if outer.any() else 0.0
    return ExactRates((float(log_tail(inner, tail=tail)), log_outer), reason)


def _is_its_pair(classifier: BayesOptimal, problem: MixtureProblem) -> bool:
    """Whether a classifier knows the two Gaussians of a problem to all their digits.

    Log densities in many dimensions are large, and in float32 their differences stray from the
    exact rule's by more than an exact error rate should hide.
    """
    if dtype_of(classifier) != torch.float64 or problem.n_classes > 2:
        return False
    own, true = classifier.densities, problem.densities
    same = all(
        isinstance(a, LowRankGaussian)
        and isinstance(b, LowRankGaussian)
        and all(
            torch.equal(getattr(a, part).cpu(), getattr(b, part).double().cpu())
            for part in ("mean", "loadings", "noise_variance")
        )
        for a, b in zip(own, true, strict=True)
    )
    if same:
        for points in compared_points(problem):
            require_own_odds(classifier, points, _WHO)
    return same


@register_exact_rate(BayesOptimal, MixtureProblem)
def _of_pair(classifier: BayesOptimal, problem: MixtureProblem) -> ExactRates | str:
    if not _is_its_pair(classifier, problem):
        return (
            "no exact form is known but for a pair of Gaussians, with their classifier in float64"
        )
    zero, one = (
        LowRankNormal(*(getattr(density, part).double().numpy(force=True) for part in
                        ("mean", "loadings", "noise_variance")))
        for density in (problem.density_0, problem.density_1)
    )  # fmt: skip
    odds = classifier.log_prior_odds
    log_zero = pair_log_error(zero, one, log_odds=-odds)
    log_one = pair_log_error(one, zero, log_odds=odds)
    if log_zero == log_one == -math.inf:  # equally likely everywhere, which is class 0
        log_one = 0.0
    both = (log_zero, log_one)
    return ExactRates(both, "the log odds of two Gaussians are a generalised chi-square variable")
