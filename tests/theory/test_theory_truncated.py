"""Truncated sums against reference values, brute force and sampling."""

import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from trueboundary.theory import truncated
from trueboundary.theory.quadratic_forms import clt_log_tail, log_tail

REFERENCE = json.loads((Path(__file__).parents[1] / "reference.json").read_text())
SUMS = REFERENCE["e_truncated_sum"]
MINIMA = REFERENCE["e_min_k"]
LIMITS = REFERENCE["e_min_k_infinite_d"]


def relative_error(log_value: float, decimal: str) -> float:
    """Return exp(log_value) / decimal - 1, formed where nothing underflows."""
    with mpmath.workdps(40):
        return float(mpmath.expm1(mpmath.mpf(log_value) - mpmath.log(mpmath.mpf(decimal))))


@pytest.mark.parametrize("name", SUMS)
def test_reference_values(name: str) -> None:
    dim, k = (int(part) for part in name.removeprefix("d").split("_k"))
    case = SUMS[name]
    b = truncated.optimal_threshold(dim, k)
    errors = truncated.log_errors(dim, k, b)
    assert b == pytest.approx(float(case["b_opt"]), rel=1e-12)
    assert abs(relative_error(errors.inner, case["inner"])) < 1e-12
    assert abs(relative_error(errors.outer, case["outer"])) < 1e-12
    assert abs(relative_error(errors.average, case["average"])) < 1e-12
    clt = truncated.log_errors(dim, k, b, method="clt")
    best = truncated.average_log_error(dim, k, method="clt")
    assert clt.inner / math.log(10) == pytest.approx(case["clt_inner_at_b"], rel=1e-13)
    assert clt.outer / math.log(10) == pytest.approx(case["clt_outer_at_b"], rel=1e-13)
    assert best / math.log(10) == pytest.approx(case["clt_best_avg_log10"], rel=1e-13)


@pytest.mark.parametrize("name", MINIMA)
def test_required_dimensions_reference_values(name: str) -> None:
    dim, error = name.removeprefix("d").split("_")
    exact = truncated.required_dimensions(int(dim), float(error))
    clt = truncated.required_dimensions(int(dim), float(error), method="clt")
    assert exact == MINIMA[name]["k_exact"]
    assert clt == MINIMA[name]["k_clt"]


@pytest.mark.parametrize("error", LIMITS)
def test_infinite_dimension_limit(error: str) -> None:
    # At d = 1e9 the inputs needed have reached the chi-square limit.
    assert truncated.required_dimensions(10**9, float(error)) == LIMITS[error]


@pytest.mark.parametrize("threshold", ["optimal", "midpoint"])
@pytest.mark.parametrize("method", ["exact", "clt"])
@pytest.mark.parametrize("radius", [1.05, 1.3, 3.0])
def test_bisection_agrees_with_a_full_scan(threshold: str, method: str, radius: float) -> None:
    for dim in (5, 30, 60):
        errors = [
            truncated.average_log_error(dim, k, radius=radius, threshold=threshold, method=method)
            for k in range(1, dim - 2)
        ]
        for target in (0.4, 0.1, 1e-2, 1e-4, 1e-8):
            reached = [k for k, e in enumerate(errors, 1) if e <= math.log(target)]
            found = truncated.required_dimensions(
                dim, target, radius=radius, threshold=threshold, method=method
            )
            assert found == (reached[0] if reached else None)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(10, 400), st.floats(0.05, 0.95), st.floats(1.02, 3.0))
def test_optimal_threshold_is_optimal(dim: int, share: float, radius: float) -> None:
    k = min(max(1, round(share * dim)), dim - 3)
    best = truncated.average_log_error(dim, k, radius=radius)
    searched = optimize.minimize_scalar(
        lambda b: truncated.log_errors(dim, k, b, radius=radius).average,
        bounds=(0.2 * k / dim, min(1.0, radius**2 * k / dim)),
        method="bounded",
    ).fun
    assert best <= searched + 1e-9


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(4, 200), st.floats(0.1, 0.9), st.floats(0.2, 0.9))
def test_agrees_with_the_quadratic_form(dim: int, share: float, b: float) -> None:
    # The rule is the quadratic form with weights 1 - b (k times) and -b (d - k times).
    k = min(max(1, round(share * dim)), dim - 1)
    errors = truncated.log_errors(dim, k, b)
    weights = np.array([1 - b] * k + [-b] * (dim - k))
    scaled = b / 1.3**2
    outer = -np.array([1 - scaled] * k + [-scaled] * (dim - k))
    assert errors.inner == pytest.approx(float(log_tail(weights)), rel=1e-11, abs=1e-12)
    assert errors.outer == pytest.approx(float(log_tail(outer)), rel=1e-11, abs=1e-12)
    clt = truncated.log_errors(dim, k, b, method="clt")
    assert clt.inner == pytest.approx(clt_log_tail(weights), rel=1e-11, abs=1e-12)


def test_against_sampling() -> None:
    rng = np.random.default_rng(3)
    dim, k, b = 12, 5, 0.55
    u = rng.standard_normal((200_000, dim)) ** 2
    sums = u[:, :k].sum(1) / u.sum(1)
    errors = truncated.log_errors(dim, k, b)
    for rate, exact in (
        ((sums > b).mean(), errors.inner),
        ((1.69 * sums < b).mean(), errors.outer),
    ):
        p = math.exp(exact)
        assert abs(rate - p) < 4 * math.sqrt(p * (1 - p) / len(sums))


def test_seeing_everything_leaves_no_error() -> None:
    assert truncated.average_log_error(20, 20) == -math.inf
    assert truncated.log_errors(20, 20, 0.9) == (0.0, -math.inf)
    assert truncated.log_errors(20, 20, 1.7) == (-math.inf, 0.0)


def test_thresholds_outside_the_support() -> None:
    assert truncated.log_errors(20, 5, -1.0) == (0.0, -math.inf)
    assert truncated.log_errors(20, 5, 2.0) == (-math.inf, 0.0)
    assert truncated.log_errors(20, 5, 1.2).inner == -math.inf
    assert truncated.optimal_threshold(20, 18) == 1.0


def test_too_few_dimensions() -> None:
    assert truncated.required_dimensions(2, 0.1) is None
    assert truncated.required_dimensions(3, 0.1) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: truncated.log_errors(1, 1, 0.5), "dim must be at least 2"),
        (lambda: truncated.log_errors(5, 6, 0.5), "k must be at most dim = 5"),
        (lambda: truncated.log_errors(5, 0, 0.5), "k must be at least 1"),
        (lambda: truncated.log_errors(5, 2, math.nan), "threshold must be a finite"),
        (
            lambda: truncated.log_errors(5, 2, 0.5, radius=1.0),
            "radius must be a finite number above",
        ),
        (lambda: truncated.log_errors(5, 2, 0.5, method="saddle"), "method must be one of"),
        (lambda: truncated.average_log_error(5, 2, threshold="best"), "threshold must be one of"),
        (lambda: truncated.required_dimensions(5, 0.0), "error must lie strictly"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("radius", [1 + 1e-15, 1 + 1e-8, 1e10, 1e60])
def test_spheres_that_almost_touch_or_are_far_apart(radius: float) -> None:
    for dim, k, b in [(10, 4, 1.0), (10, 9, 0.5), (3, 1, 1e-250)]:
        found = truncated.log_errors(dim, k, b, radius=radius)
        with mpmath.workdps(60):
            share = mpmath.mpf(b) / mpmath.mpf(radius) ** 2
            shape = (mpmath.mpf(k) / 2, mpmath.mpf(dim - k) / 2)
            outer = mpmath.log(mpmath.betainc(*shape, 0, share, regularized=True))
        assert found.outer == pytest.approx(float(outer), rel=1e-12)


def test_the_central_limit_needs_a_variance() -> None:
    # All coordinates are seen and their sum is the threshold itself, which the rule calls inner.
    for method in ("clt", "exact"):
        assert truncated.log_errors(5, 5, 1.0, method=method).inner == -math.inf
        assert truncated.log_errors(5, 5, 4.0, radius=2.0, method=method).outer == 0.0
    assert truncated.log_errors(5, 2, 1e300, method="clt").outer <= 0
