"""Boundaries of Gaussian pairs and of tables: against their densities, limits and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from trueboundary.theory import gaussian_pairs as pairs
from trueboundary.theory.gaussian_pairs import (
    boundary_distance_along,
    boundary_roots,
    conditional_gaussian,
    flip_mass,
    flip_mass_bound,
    leading_boundary_distance,
    outlier_attack_size,
    spherical_pair_error,
    spherical_pair_share_within,
)
from trueboundary.theory.log_ratios import LowRankNormal, pair_log_error

MEAN_1, MEAN_2 = np.array([0.3, -0.2, 0.5]), np.array([1.0, 0.4, -0.6])
WIDE = np.array([[1.0, 0.3, 0.1], [0.3, 0.8, -0.2], [0.1, -0.2, 1.5]])


def narrow(std):
    """Return a covariance whose least variance is std**2, along the first coordinate."""
    return np.diag([std**2, 0.7, 1.2])


def log_ratio(x, std):
    return stats.multivariate_normal(MEAN_1, narrow(std)).logpdf(x) - stats.multivariate_normal(
        MEAN_2, WIDE
    ).logpdf(x)


@given(
    t_1=st.floats(-2, 2),
    t_2=st.floats(-2, 2),
    std_1=st.floats(1e-6, 0.5),
    std_2=st.floats(0.6, 3),
    delta=st.floats(-0.05, 40),
)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_the_roots_make_both_classes_equally_likely(t_1, t_2, std_1, std_2, delta):
    for root in boundary_roots(t_1, t_2, std_1, std_2, delta):
        first = -0.5 * ((root - t_1) / std_1) ** 2 - math.log(std_1)
        second = -0.5 * ((root - t_2) / std_2) ** 2 - math.log(std_2)
        assert abs(first - second + delta) < 1e-7 * (1 + abs(first) + abs(second))


def test_class_1_wins_between_the_roots_or_nowhere():
    low, high = boundary_roots(0.0, 1.0, 0.1, 1.0, [0.0, -100.0])
    assert low[0] < 0 < high[0]
    assert np.isnan([low[1], high[1]]).all()


def test_the_roots_approach_the_mean_at_the_leading_distance():
    """Observation 1: closer and closer, yet more and more standard deviations away."""
    ratios, multiples, distances = [], [], []
    for std in (1e-2, 1e-4, 1e-8):
        low, high = boundary_roots(0.7, -0.4, std, 0.9, 1.3)
        leading = leading_boundary_distance(std, 0.9, 1.1, 1.3)
        ratios.append([float((high - 0.7) / leading), float((0.7 - low) / leading)])
        multiples.append(float(leading / std))
        distances.append(float(leading))
    assert abs(np.array(ratios[1:]) - 1).max() < 1e-3
    assert multiples == sorted(multiples)
    assert multiples[0] > 3
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-7


def test_the_roots_against_a_search():
    # sigma_1 = 1e-3, sigma_2 = 1, t_1 - t_2 = 3, Delta = 1, by a search for the sign change.
    low, high = boundary_roots(0.0, -3.0, 1e-3, 1.0, 1.0)
    root = optimize.brentq(
        lambda u: -0.5e6 * u**2 + math.log(1e3) + 0.5 * (u + 3) ** 2 + 1, 0, 0.1, xtol=1e-16
    )
    assert float(high) == pytest.approx(root, rel=1e-10)
    assert float(-low) < float(high), "the boundary is nearer on the other class's side"


def test_conditional_gaussian_is_the_ratio_of_joint_and_marginal():
    rng = np.random.default_rng(0)
    for axis in range(3):
        x = rng.normal(size=3)
        mean, covariance = conditional_gaussian(MEAN_2, WIDE, x[axis], axis)
        conditional = stats.multivariate_normal(mean, covariance).logpdf(np.delete(x, axis))
        joint = stats.multivariate_normal(MEAN_2, WIDE).logpdf(x)
        marginal = stats.norm(MEAN_2[axis], math.sqrt(WIDE[axis, axis])).logpdf(x[axis])
        assert conditional == pytest.approx(joint - marginal, abs=1e-12)


@pytest.mark.parametrize("std", [0.3, 0.03])
def test_distance_along_is_where_the_densities_cross(std):
    rng = np.random.default_rng(1)
    x = rng.multivariate_normal(MEAN_1, narrow(std), size=20)
    found = boundary_distance_along(x, MEAN_1, narrow(std), MEAN_2, WIDE)
    step = np.array([1.0, 0.0, 0.0])
    crossing = 0
    for point, distance in zip(x, found, strict=True):
        if not 0 < distance < math.inf:
            continue
        crossing += 1
        on_line = [log_ratio(point + s * distance * step, std) for s in (-1, 1)]
        assert min(on_line) == pytest.approx(0, abs=1e-8)
        closer = [log_ratio(point + s * 0.999 * distance * step, std) for s in (-1, 1)]
        assert min(closer) > 0
    assert crossing > 10


def test_almost_every_point_comes_arbitrarily_near():
    """Observation 1 as a statement on random points, not only on the mean."""
    medians, errors = [], []
    for std in (1e-1, 1e-3, 1e-5):
        rng = np.random.default_rng(2)
        x = rng.multivariate_normal(MEAN_1, narrow(std), size=2000)
        found = boundary_distance_along(x, MEAN_1, narrow(std), MEAN_2, WIDE)
        medians.append(np.median(found))
        errors.append((found == 0).mean())
        assert np.quantile(found, 0.999) < 12 * std
    assert medians[0] > 10 * medians[1] > 100 * medians[2]
    assert errors[0] > errors[1] >= errors[2]
    assert errors[2] < 1e-3


def test_weights_shift_the_boundary_but_not_the_limit():
    """Observation 2: a rare component of class 2 takes points over a little farther out."""
    x = np.array([MEAN_1])
    for std in (1e-2, 1e-4):
        plain, rare = (
            boundary_distance_along(
                x, MEAN_1, narrow(std), MEAN_2, WIDE, log_weight_ratio=math.log(w)
            )[0]
            for w in (1, 100)
        )
        assert plain < rare < 1.8 * plain


def test_a_line_without_the_other_class_is_infinite():
    wide, tight = np.diag([4.0, 4.0]), np.diag([1.0, 1.0])
    far = boundary_distance_along([[0.0, 50.0]], [0, 50], wide, [0, 0], tight, direction=[1, 0])
    assert far == math.inf
    parallel = boundary_distance_along([[0.0, 0.0]], [0, 0], tight, [0, 9], tight, direction=[1, 0])
    assert parallel == math.inf
    equal = boundary_distance_along([[0.0, 0.0]], [0, 0], tight, [0, 9], tight, direction=[0, 2])
    assert equal == pytest.approx(4.5)


def test_outlier_attack_size_against_simulation():
    """Move random points away from their subspace until the outlier takes over."""
    rng = np.random.default_rng(3)
    n_outside, noise, broad = 778, 0.01, 0.5
    residual = noise * rng.normal(size=(500, n_outside))
    length = np.linalg.norm(residual, axis=1)
    gap = n_outside * math.log(broad / noise)
    crossing = math.sqrt(2 * gap / (noise**-2 - broad**-2))
    assert outlier_attack_size(noise, broad, 784, 6) == pytest.approx(
        np.mean(crossing - length), rel=1e-3
    )
    assert outlier_attack_size(0.001, 0.5, 784, 6) == pytest.approx(0.07, abs=0.005)
    assert outlier_attack_size(0.01, 0.5, 12288, 10) == pytest.approx(1.99, abs=0.01)
    rarer = outlier_attack_size(noise, broad, 784, 6, weight_ratio=100)
    assert 0 < rarer - outlier_attack_size(noise, broad, 784, 6) < 0.002


@pytest.mark.parametrize("dim", [2, 300])
def test_spherical_pairs_against_sampling(dim):
    rng = np.random.default_rng(4)
    offset = np.full(dim, 3 / math.sqrt(dim))
    x = 0.8 * rng.normal(size=(4000, dim))
    distance = 1.5 - x @ offset / 3  # to the hyperplane halfway, negative beyond it
    for reach in (0.5, 1.5):
        exact = spherical_pair_share_within(reach, 3.0, 0.8)
        error = 4 * math.sqrt(exact * (1 - exact) / len(x))
        assert (distance <= reach).mean() == pytest.approx(exact, abs=error)
    assert spherical_pair_error(3.0, 0.8) == pytest.approx(stats.norm.cdf(-1.5 / 0.8))
    assert spherical_pair_error(2.0, 1e-1) == pytest.approx(7.619853024160527e-24, rel=1e-10)


class TestTables:
    def tables(self, leak):
        """Class 1 nearly always has feature value 2; class 2 has every combination."""
        rng = np.random.default_rng(5)
        profile = np.full(6, leak / 5)
        profile[2] = 1 - leak
        second = rng.uniform(0.5, 1.5, size=(6, 8))
        return np.outer(profile, rng.dirichlet(np.ones(8))), second / second.sum()

    def test_observation_3(self):
        for leak in (1e-2, 1e-4, 1e-8):
            first, second = self.tables(leak)
            assert flip_mass_bound(first, second) >= 1 - 2 * leak
            assert flip_mass(first, second) >= flip_mass_bound(first, second) - 1e-12

    def test_symmetric_tables_guarantee_nothing(self):
        _, table = self.tables(1e-3)
        assert flip_mass_bound(table, np.roll(table, 3, axis=1)) == 0

    def test_observation_4_with_weights(self):
        first, second = self.tables(1e-8)
        assert flip_mass_bound(0.99 * first, 0.01 * second) == pytest.approx(1, abs=1e-7)
        first, second = self.tables(1e-2)
        assert flip_mass_bound(0.99 * first, 0.01 * second) < 0.1

    @pytest.mark.parametrize("axis", [0, 1])
    def test_flip_mass_by_looking_at_every_neighbour(self, axis):
        rng = np.random.default_rng(6)
        first, second = rng.dirichlet(np.ones(30), size=2).reshape(2, 5, 6)
        total = 0.0
        for place in np.ndindex(5, 6):
            step = np.eye(2, dtype=int)[axis]
            around = [tuple(place + s * step) for s in (-1, 0, 1)]
            inside = [p for p in around if all(0 <= v < n for v, n in zip(p, (5, 6), strict=True))]
            if any(second[p] >= first[p] for p in inside):
                total += first[place]
        assert flip_mass(first, second, axis) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: boundary_roots(0, 0, 1.0, 1.0), "must be the smaller one"),
        (lambda: boundary_roots(math.nan, 0, 0.1, 1.0), "mean_1"),
        (lambda: leading_boundary_distance(-1, 1.0), "std_1"),
        (lambda: conditional_gaussian([0, 0], np.eye(3), 0), r"shapes \(2,\) and \(3, 3\)"),
        (lambda: conditional_gaussian([0, 0], -np.eye(2), 0), "positive definite"),
        (lambda: conditional_gaussian([0, 0], np.eye(2), 0, axis=2), "axis must be below"),
        (
            lambda: boundary_distance_along([0.0], [0.0], np.eye(1), [0.0], np.eye(1)),
            r"x must have shape \(n, d\)",
        ),
        (
            lambda: boundary_distance_along(
                [[0.0]], [0.0], np.eye(1), [1.0], np.eye(1), direction=[0.0]
            ),
            "not be zero",
        ),
        (lambda: outlier_attack_size(0.5, 0.01, 784, 6), "smaller"),
        (lambda: outlier_attack_size(0.01, 0.5, 6, 6), "dim"),
        (lambda: spherical_pair_share_within(-1, 1, 1), "distance"),
        (lambda: flip_mass([[1.0]], [[0.5, 0.5]]), "one shape"),
        (lambda: flip_mass_bound([[-1.0]], [[0.5]]), "negative"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [1e300, -1e300, 10**400, math.nan, math.inf, "1"])
def test_numbers_whose_squares_overflow_get_a_sentence(value: object) -> None:
    calls = (
        lambda: pairs.boundary_roots(value, 0.0, 1.0, 2.0),
        lambda: pairs.boundary_roots(0.0, 0.0, 1.0, value),
        lambda: pairs.leading_boundary_distance(1.0, 2.0, value),
        lambda: pairs.outlier_attack_size(value, 1.0, 784, 6),
        lambda: pairs.conditional_gaussian([0.0, 0.0], np.eye(2), value),
        lambda: pairs.boundary_distance_along(
            [[0.0]], [0.0], [[1.0]], [1.0], [[2.0]], log_weight_ratio=value
        ),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"must .*, got .*\.$"):
            call()


def test_tables_of_any_size_and_covariances_of_any_unit() -> None:
    first, second = np.array([[0.0, 0.1], [0.5, 0.4]]), np.array([[0.7, 0.1], [0.1, 0.1]])
    for unit in (1e-300, 1e308):
        found = pairs.flip_mass(unit * first, unit * second)
        assert found == pytest.approx(pairs.flip_mass(first, second))
    with pytest.raises(ValueError, match="symmetric"):
        pairs.conditional_gaussian([0.0, 0.0], 1e-20 * np.array([[4.0, 2.0], [1.0, 2.0]]), 0.0)


def test_a_covariance_that_float64_cannot_hold_gets_a_sentence() -> None:
    steep = LowRankNormal([0.0, 0.0], [[1e30], [1e30]], 1e-30)
    with pytest.raises(ValueError, match="positive definite in float64"):
        pair_log_error(steep, LowRankNormal([1.0, 0.0], [[0.0], [1.0]], 1.0))
    with pytest.raises(ValueError, match="unit"):
        LowRankNormal([1e100], [[0.0]], 1.0)
