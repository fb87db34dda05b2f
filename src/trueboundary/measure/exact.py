"""Error rates and error sets that need no random points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from trueboundary.certificates.ellipsoid_exact import ellipsoid_margins
from trueboundary.certificates.mixture_bounds import require_own_odds
from trueboundary.classifiers import (
    BayesOptimal,
    Classifier,
    QuadraticNetwork,
    SphereBayes,
    TruncatedSum,
    dtype_of,
    margin,
    misclassified,
)
from trueboundary.classifiers.ellipsoid import Ellipsoid
from trueboundary.classifiers.integrity import Disagreement, departure, require_agreement
from trueboundary.densities import LowRankGaussian
from trueboundary.measure.proofs import with_ellipsoid
from trueboundary.problems import ConcentricSpheres, MixtureProblem, Problem, TableProblem
from trueboundary.problems.base import BLOCK_SIZE
from trueboundary.theory.log_ratios import LowRankNormal, pair_log_error
from trueboundary.theory.quadratic_forms import Tail, ellipsoid_weights, log_tail
from trueboundary.theory.truncated import log_errors

#: What `exact_error_rates` knows, for messages.
KNOWN = (
    "quadratic classifiers and truncated sums on ConcentricSpheres, any classifier on a "
    "TableProblem, and the optimal classifier (in float64) of a pair of Gaussians"
)


_N_COMPARED = 100  # random points of each class at which margins are compared


class ExactRates(NamedTuple):
    """Natural logarithms of the error rates on both classes, and why they are exact."""

    log_errors: tuple[float, float]
    reason: str


def exact_error_rates(classifier: Classifier, problem: Problem) -> ExactRates | str:
    """Return the exact error rates of a classifier, or a sentence that says why there are none.

    They are those of the classifier's stored parameters in exact arithmetic. A classifier that
    computes in float32 follows them except within its rounding errors of the boundary.
    """
    if isinstance(problem, TableProblem):
        return _on_table(classifier, problem)
    kinds: tuple[type, ...] = ()
    if isinstance(problem, ConcentricSpheres):
        kinds = (TruncatedSum, QuadraticNetwork, SphereBayes)
    elif isinstance(problem, MixtureProblem):
        kinds = (BayesOptimal,)
    if not isinstance(classifier, kinds):
        return "no exact form is known for this classifier"
    doubt = departure(classifier, kinds)
    if doubt is not None:
        return f"no exact form is known, since this {type(classifier).__name__} {doubt}"
    try:
        if isinstance(problem, ConcentricSpheres):
            return _on_spheres(classifier, problem)
        if isinstance(problem, MixtureProblem) and _is_its_pair(classifier, problem):
            return _of_pair(classifier, problem)  # type: ignore[arg-type]
    except Disagreement as error:
        return f"no exact form is known: {str(error).rstrip('.')}"
    return "no exact form is known for this classifier"


def _on_spheres(classifier: Any, problem: ConcentricSpheres) -> ExactRates | str:
    if isinstance(classifier, SphereBayes):
        boundary = classifier.boundary.item()
        _require_margins(classifier, problem, lambda x: np.linalg.norm(x, axis=1), boundary)
        # A margin of exactly 0 is class 0.
        both = (boundary < 1, boundary >= problem.radius)
        log_both = [0.0 if is_wrong else -math.inf for is_wrong in both]
        return ExactRates((log_both[0], log_both[1]), "all points of a sphere have the same norm")
    if isinstance(classifier, TruncatedSum):
        k, threshold = classifier.k, classifier.threshold.item()
        _require_margins(classifier, problem, lambda x: (x[:, :k] ** 2).sum(axis=1), threshold)
        errors = log_errors(classifier.dim, k, threshold, radius=problem.radius)
        reason = "a sum of squared coordinates has a beta distribution on a sphere"
        return ExactRates((errors.inner, errors.outer), reason)
    subject = with_ellipsoid(classifier)
    if subject is None:
        return "no exact form is known for a quadratic network without a bias"
    for points in _sample(problem):
        margins, rounding = ellipsoid_margins(subject.ellipsoid(), points)
        require_agreement(subject, points, margins, rounding, "an exact error rate")
    return _of_ellipsoid(subject.ellipsoid(), problem)


def _require_margins(
    classifier: Classifier,
    problem: Problem,
    size: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    boundary: float,
) -> None:
    """Raise unless a classifier's margins at random points are their sizes over a boundary."""
    for points in _sample(problem):
        sizes = size(points)
        rounding = math.sqrt(points.shape[1]) * sizes + abs(boundary)
        require_agreement(classifier, points, sizes - boundary, rounding, "an exact error rate")


def _sample(problem: Problem) -> list[npt.NDArray[np.float64]]:
    """Return a few random points of either class."""
    blocks = (
        next(
            problem.blocks(_N_COMPARED, seed=0, label=label, dtype=torch.float64, purpose="compare")
        )
        for label in (0, 1)
    )
    return [x.flatten(1).numpy(force=True) for x, _ in blocks]


def table_errors(
    classifier: Classifier, problem: TableProblem, label: int
) -> npt.NDArray[np.bool_]:
    """Return which integer points a classifier gives to another class than `label`."""
    shape = problem.density_0.probabilities.shape
    points = torch.cartesian_prod(*(torch.arange(size) for size in shape)).to(dtype_of(classifier))
    with torch.no_grad():
        margins = torch.cat(
            [margin(classifier, block) for block in torch.split(points, BLOCK_SIZE)]
        )
    errors: npt.NDArray[np.bool_] = misclassified(margins, label).reshape(shape).numpy(force=True)
    return errors


def _on_table(classifier: Classifier, problem: TableProblem) -> ExactRates:
    found = []
    for label, density in enumerate((problem.density_0, problem.density_1)):
        table = density.probabilities.double().numpy(force=True)
        share = float(table[table_errors(classifier, problem, label)].sum()) / float(table.sum())
        found.append(math.log(min(share, 1.0)) if share > 0 else -math.inf)
    return ExactRates((found[0], found[1]), "the table's points can be looked at one by one")


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


def _is_its_pair(classifier: Classifier, problem: MixtureProblem) -> bool:
    """Whether a classifier knows the two Gaussians of a problem to all their digits.

    Log densities in many dimensions are large, and in float32 their differences stray from the
    exact rule's by more than an exact error rate should hide.
    """
    if not isinstance(classifier, BayesOptimal) or dtype_of(classifier) != torch.float64:
        return False
    own, true = classifier.densities, (problem.density_0, problem.density_1)
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
        for points in _sample(problem):
            require_own_odds(classifier, points, "an exact error rate")
    return same


def _of_pair(classifier: BayesOptimal, problem: MixtureProblem) -> ExactRates:
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
