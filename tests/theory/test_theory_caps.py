"""Spherical caps against reference values, closed forms, sampling and their own symmetries."""

import functools
import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from trueboundary.theory import caps
from trueboundary.theory._beta import log_betainc

REFERENCE = json.loads((Path(__file__).parents[1] / "reference.json").read_text())
CAPS = REFERENCE["d_cap"]
AMPLIFICATION = REFERENCE["d_amplification"]["values"]

dims = st.integers(2, 3000)
log_measures = st.floats(-800, -1e-6)


def parse(name: str) -> tuple[int, float]:
    """Split a case name such as d500_mu1e-7."""
    dim, measure = name.removeprefix("d").split("_mu")
    return int(dim), float(measure)


@pytest.mark.parametrize("name", CAPS)
def test_reference_values(name: str) -> None:
    dim, measure = parse(name)
    case = CAPS[name]
    geodesic = caps.mean_distance(dim, measure, metric="geodesic")
    assert caps.threshold(dim, measure) == pytest.approx(float(case["cos_phi"]), rel=1e-12)
    assert geodesic == pytest.approx(float(case["mean_geodesic"]), rel=1e-12)
    assert caps.mean_distance(dim, measure) == pytest.approx(float(case["mean_chord"]), rel=1e-12)
    if "paper_sqrt2" in case:
        printed = caps.gaussian_mean_distance(dim, measure, form="as-printed")
        assert printed == pytest.approx(case["paper_sqrt2"], rel=1e-14)
        corrected = caps.gaussian_mean_distance(dim, measure)
        assert corrected == pytest.approx(case["paper_without_sqrt2"], rel=1e-14)


@pytest.mark.parametrize("name", AMPLIFICATION)
def test_amplification_reference_values(name: str) -> None:
    dim, n_points, certified = name.removeprefix("d").split("_")
    log_bound = caps.log_amplified_error_bound(
        int(dim), int(float(n_points[1:])), float(certified[1:])
    )
    assert round(log_bound / math.log(10), 2) == AMPLIFICATION[name]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(dims, log_measures)
def test_angle_inverts_measure(dim: int, log_measure: float) -> None:
    phi = caps.angle(dim, log_measure=log_measure)
    assert 0 <= phi <= math.pi
    if phi > 1e-280:
        error = caps.log_measure(dim, phi) - log_measure
        assert abs(error) <= 2e-12 + 2e-14 * abs(log_measure)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(dims, log_measures, st.floats(1e-3, 2.0))
def test_larger_sets_are_nearer(dim: int, log_measure: float, gain: float) -> None:
    smaller, larger = log_measure - gain, log_measure
    assert caps.angle(dim, log_measure=smaller) <= caps.angle(dim, log_measure=larger)
    assert caps.mean_distance(dim, log_measure=smaller) >= caps.mean_distance(
        dim, log_measure=larger
    ) * (1 - 1e-12)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(20, 3000), st.floats(-200, -0.01), st.sampled_from(["chord", "geodesic"]))
def test_measure_for_mean_distance_inverts(dim: int, log_measure: float, metric: str) -> None:
    distance = caps.mean_distance(dim, log_measure=log_measure, radius=1.3, metric=metric)
    log_back = caps.log_measure_for_mean_distance(dim, distance, radius=1.3, metric=metric)
    # Near the largest possible mean distance the measure hardly changes it: compare distances.
    again = caps.mean_distance(dim, log_measure=log_back, radius=1.3, metric=metric)
    assert again == pytest.approx(distance, rel=1e-13)
    if log_measure > -30:
        assert log_back == pytest.approx(log_measure, rel=1e-6)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(dims, st.integers(1, 2**20 - 1))
def test_complementary_caps(dim: int, numerator: int) -> None:
    measure = numerator / 2**20  # its complement is exact
    total = caps.angle(dim, measure) + caps.angle(dim, 1 - measure)
    assert total == pytest.approx(math.pi, rel=1e-14)


def test_chord_is_below_geodesic_and_scales_with_radius() -> None:
    chord = caps.mean_distance(500, 1e-7)
    assert chord < caps.mean_distance(500, 1e-7, metric="geodesic")
    assert caps.mean_distance(500, 1e-7, radius=1.3) == pytest.approx(1.3 * chord, rel=1e-15)


@pytest.mark.parametrize("measure", [1e-11, 1e-4, 0.3, 0.5, 0.9, 1 - 1e-9])
def test_closed_forms_in_two_and_three_dimensions(measure: float) -> None:
    circle = (4 / math.pi) * (1 - math.cos(math.pi * (1 - measure) / 2))
    assert caps.mean_distance(2, measure) == pytest.approx(circle, rel=1e-9)
    arc = math.pi / 2 * (1 - measure) ** 2
    assert caps.mean_distance(2, measure, metric="geodesic") == pytest.approx(arc, rel=1e-7)
    assert caps.threshold(3, measure) == pytest.approx(1 - 2 * measure, rel=1e-12, abs=1e-15)


def test_half_the_sphere() -> None:
    for dim in (2, 3, 500, 10**6):
        assert caps.angle(dim, 0.5) == pytest.approx(math.pi / 2, rel=1e-15)
        assert abs(caps.threshold(dim, 0.5)) < 1e-15


def test_high_dimension_against_arbitrary_precision() -> None:
    with mpmath.workdps(50):
        for dim, measure in ((10**6, "1e-14"), (10**6, "1e-300"), (10**5, "0.3")):
            cosine = caps.threshold(dim, float(measure))
            a = mpmath.mpf(dim - 1) / 2
            sine_squared = 1 - mpmath.mpf(cosine) ** 2
            tail = mpmath.betainc(a, 0.5, 0, sine_squared, regularized=True) / 2
            assert abs(float(tail / mpmath.mpf(measure) - 1)) < 1e-11


def test_measures_below_the_smallest_float() -> None:
    # For a small cap the measure is sin(phi)^(d - 1) / ((d - 1) B), to first order.
    phi = caps.angle(500, log_measure=-1e5)
    log_beta = float(mpmath.log(mpmath.beta(0.5, 249.5)))
    expected = 499 * math.log(phi) - math.log(499) - log_beta
    assert expected == pytest.approx(-1e5, rel=1e-12)
    assert caps.mean_distance(500, log_measure=-1e5) == pytest.approx(
        caps.mean_distance(500, 0.0), rel=1e-12
    )


def test_mean_distance_against_sampling() -> None:
    rng = np.random.default_rng(5)
    dim, measure = 7, 0.01
    x = rng.standard_normal((200_000, dim))
    polar = np.arctan2(np.linalg.norm(x[:, 1:], axis=1), x[:, 0])
    arc = np.maximum(polar - caps.angle(dim, measure), 0)
    standard_error = arc.std() / math.sqrt(arc.size)
    exact = caps.mean_distance(dim, measure, metric="geodesic")
    assert abs(arc.mean() - exact) < 4 * standard_error
    assert abs((arc == 0).mean() - measure) < 4 * math.sqrt(measure / arc.size)


def test_no_set_is_farther_than_the_cap() -> None:
    # Two antipodal caps of the same total measure are strictly nearer on average.
    dim, measure = 6, 0.02
    rng = np.random.default_rng(6)
    x = rng.standard_normal((100_000, dim))
    polar = np.arctan2(np.linalg.norm(x[:, 1:], axis=1), np.abs(x[:, 0]))
    two_caps = np.maximum(polar - caps.angle(dim, measure / 2), 0).mean()
    assert two_caps < caps.mean_distance(dim, measure, metric="geodesic") - 0.01


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.integers(2, 2000),
    st.integers(10, 10**7),
    st.floats(0, 0.3),
    st.floats(0.01, 0.3),
    st.integers(0, 5),
)
def test_amplification_tightens(dim: int, n: int, r: float, more: float, k: int) -> None:
    base = caps.log_amplified_error_bound(dim, n, r, n_exceptions=k)
    assert caps.log_amplified_error_bound(dim, n, r + more, n_exceptions=k) < base or math.isinf(
        base
    )
    assert caps.log_amplified_error_bound(dim, n, r, n_exceptions=k + 1) >= base
    assert caps.log_amplified_error_bound(dim, n, r, n_exceptions=k, confidence=0.9) <= base


def test_amplification_holds_for_a_cap() -> None:
    # A cap of errors just large enough that a share eta of points is nearer than r to it.
    dim, n, r = 100, 10_000, 0.1
    bound = caps.amplified_error_bound(dim, n, r)
    neighbourhood = caps.measure(dim, caps.angle(dim, bound) + r)
    assert (1 - neighbourhood) ** n == pytest.approx(0.01, rel=1e-9)
    assert caps.amplified_error_bound(dim, n, 0.0) == pytest.approx(1 - 0.01 ** (1 / n), rel=1e-9)


# Measure of the neighbourhood of angle t of error sets of a sphere, by the angle phi of each.
NEIGHBOURHOODS = {
    "cap": (
        lambda d, phi: caps.measure(d, phi),
        lambda d, phi, t: caps.measure(d, min(phi + t, math.pi)),
    ),
    "two opposite caps": (
        lambda d, phi: 2 * caps.measure(d, phi / 2),
        lambda d, phi, t: min(2 * caps.measure(d, min(phi / 2 + t, math.pi / 2)), 1.0),
    ),
    "band around the equator": (
        lambda d, phi: 1 - 2 * caps.measure(d, math.pi / 2 - phi / 2),
        lambda d, phi, t: 1 - 2 * caps.measure(d, math.pi / 2 - min(phi / 2 + t, math.pi / 2)),
    ),
}


@functools.cache
def amplified(dim: int, n: int, t: float, confidence: float) -> np.ndarray:
    """Return the bounds for each number of exceptions."""
    return np.array([
        caps.amplified_error_bound(dim, n, t, n_exceptions=k, confidence=confidence)
        for k in range(n + 1)
    ])  # fmt: skip


@pytest.mark.parametrize("errors", NEIGHBOURHOODS)
@pytest.mark.parametrize("dim", [2, 3, 20, 500])
@pytest.mark.parametrize("n", [1, 10, 60])
def test_amplification_holds_as_often_as_it_says(errors: str, dim: int, n: int) -> None:
    # The number of exceptions is binomial, so that the coverage is a finite sum.
    size, neighbourhood = NEIGHBOURHOODS[errors]
    for wanted in (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 1.0):
        phi = math.pi
        if wanted < 1:
            phi = optimize.brentq(lambda p, w=wanted: size(dim, p) - w, 0, math.pi, xtol=1e-15)
        truth = size(dim, phi)
        for t in (0.0, 0.01, 0.1, 0.5, 1.0, 2.0, math.pi):
            share = max(neighbourhood(dim, phi, t), truth)
            chances = stats.binom.pmf(np.arange(n + 1), n, share)
            for confidence in (0.5, 0.9, 0.99):
                limits = amplified(dim, n, t, confidence)
                held = chances[limits >= truth * (1 - 1e-12)].sum()
                assert held >= confidence - 1e-12, (wanted, t, confidence, held)


def test_amplification_proves_nothing_from_exceptions_alone() -> None:
    for dim, n, t in [(3, 10, 1.0), (500, 100, 2.0), (2, 1, math.pi), (3, 10, 1e-9)]:
        assert caps.log_amplified_error_bound(dim, n, t, n_exceptions=n) == 0.0


def test_amplification_can_prove_that_there_are_no_errors() -> None:
    assert caps.amplified_error_bound(3, 1000, 1.0) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: caps.angle(1, 0.1), "dim must be at least 2"),
        (lambda: caps.angle(2.5, 0.1), "dim must be an integer"),
        (lambda: caps.angle(3), "exactly one of measure and log_measure"),
        (lambda: caps.angle(3, 0.1, log_measure=-1.0), "exactly one"),
        (lambda: caps.angle(3, 1.5), "measure must lie in"),
        (lambda: caps.angle(3, math.nan), "measure must lie in"),
        (lambda: caps.angle(3, log_measure=0.5), "log_measure must be at most 0"),
        (lambda: caps.log_measure(3, -0.1), "angle must lie in"),
        (lambda: caps.mean_distance(3, 0.1, radius=0.0), "radius must be a positive"),
        (lambda: caps.mean_distance(3, 0.1, metric="l1"), "metric must be one of"),
        (lambda: caps.measure_for_mean_distance(3, -1.0), "distance must lie in"),
        (lambda: caps.gaussian_mean_distance(3, 0.0), "strictly between 0 and 1"),
        (lambda: caps.gaussian_mean_distance(3, 0.1, form="v2"), "form must be one of"),
        (lambda: caps.amplified_error_bound(3, 0, 0.1), "n must be at least 1"),
        (lambda: caps.amplified_error_bound(3, 5, 9.0), "certified_angle must lie in"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_extreme_measures() -> None:
    assert caps.angle(500, 0.0) == 0.0
    assert caps.angle(500, 1.0) == pytest.approx(math.pi, rel=1e-15)
    assert caps.mean_distance(500, 1.0) == 0.0
    assert caps.measure_for_mean_distance(500, 0.0) == 1.0
    assert caps.measure_for_mean_distance(500, 1.6) == 0.0


@pytest.mark.parametrize(
    ("a", "b", "x"),
    [
        (0.5, 0.5, 0.3),
        (250.0, 3.5, 0.4),
        (16.0, 3.5, 0.81),
        (900.0, 2000.0, 0.2),
        (1.5, 375.0, 0.9),
    ],
)
def test_incomplete_beta_against_arbitrary_precision(a: float, b: float, x: float) -> None:
    with mpmath.workdps(40):
        y = 1 - x
        exact = mpmath.log(mpmath.betainc(a, b, 0, mpmath.mpf(x), regularized=True))
        assert log_betainc(a, b, x, y) == pytest.approx(float(exact), rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("log_measure", [-1.5e4, -1e8, -1e300])
def test_caps_below_the_smallest_float_are_points(log_measure: float) -> None:
    point = caps.mean_distance(20, log_measure=-1e4)
    assert caps.angle(20, log_measure=log_measure) < 1e-300
    assert caps.mean_distance(20, log_measure=log_measure) == pytest.approx(point, rel=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 10**400, -(10**400), "1"])
def test_numbers_that_are_none_get_a_sentence(value: object) -> None:
    for call in (
        lambda: caps.angle(3, value),
        lambda: caps.angle(value, 0.1),
        lambda: caps.log_measure(3, value),
        lambda: caps.mean_distance(3, 0.1, radius=value),
        lambda: caps.measure_for_mean_distance(3, value),
        lambda: caps.gaussian_mean_distance(3, value),
        lambda: caps.amplified_error_bound(3, 10, value),
        lambda: caps.amplified_error_bound(3, 10, 0.1, n_exceptions=value),
        lambda: caps.amplified_error_bound(3, 10, 0.1, confidence=value),
    ):
        with pytest.raises((ValueError, TypeError), match=r"must .*, got .*\.$"):
            call()


def test_distances_beyond_the_sphere_are_refused() -> None:
    assert caps.log_measure_for_mean_distance(500, 2.6, radius=1.3) == -math.inf
    with pytest.raises(ValueError, match="diameter"):
        caps.log_measure_for_mean_distance(500, 2.7, radius=1.3)
    with pytest.raises(ValueError, match="circumference"):
        caps.log_measure_for_mean_distance(500, 3.2, metric="geodesic")
    assert caps.measure_for_mean_distance(500, 1e-320) == pytest.approx(1.0)
    assert caps.log_measure(2, 5e-324) == pytest.approx(math.log(5e-324) - math.log(math.pi))
