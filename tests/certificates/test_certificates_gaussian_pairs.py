"""Distances and errors of Gaussian pairs: reference values, dense linear algebra, closed forms."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from trueboundary.certificates import nearest_pair_error, project_quadric, trust_region_minimum
from trueboundary.densities import LowRankGaussian
from trueboundary.theory.log_ratios import LowRankNormal, log_ratio, pair_log_error

REFERENCE = json.loads((Path(__file__).parents[1] / "reference.json").read_text())[
    "c_gaussian_pair"
]
ROW, COLUMN = np.arange(12), np.arange(2)


def reference_case(name):
    """Return the point and the two Gaussians, own one first, of a reference value."""
    _, noise, direction = name.split("_")
    one = LowRankNormal(np.zeros(12), ((7 * ROW[:, None] + 3 * COLUMN) % 11 - 5) / 10, 1 / 25)
    loadings = ((5 * ROW[:, None] + 2 * COLUMN) % 13 - 6) / 10
    mean = (3 * ROW % 7 - 3) / 10 + 0.5
    two = LowRankNormal(mean, loadings, 1 / 25 if noise == "sym" else 1 / 2)
    if direction == "1to2":
        return (4 * ROW % 9 - 4) / 20 + one.loadings @ [0.5, -0.25], one, two
    return mean + (5 * ROW % 9 - 4) / 20 + loadings[:, 0] / 2, two, one


@pytest.mark.parametrize("name", sorted(REFERENCE["values"]))
def test_reference_values(name):
    x, own, other = reference_case(name)
    expected = REFERENCE["values"][name]
    ratio = log_ratio([own, other])
    found = nearest_pair_error(x[None], ratio)
    assert ratio.value(x[None])[0] == pytest.approx(float(expected["q0"]), rel=1e-12)
    assert found.distance[0] == pytest.approx(float(expected["dist"]), rel=1e-12)
    assert found.hard[0] == expected["hard"]
    error = math.exp(pair_log_error(own, other))
    assert error == pytest.approx(float(expected["error_prob"]), rel=1e-12)


def random_normal(rng, dim, n_factors, noise):
    return LowRankNormal(rng.normal(size=dim), rng.normal(size=(dim, n_factors)), noise)


def dense(normal):
    covariance = normal.loadings @ normal.loadings.T + np.diag(normal.noise_variance)
    return stats.multivariate_normal(normal.mean, covariance), covariance


NOISES = [(0.09, 0.09), (0.01, 0.25), (1e-4, 1e-4), ("diagonal", 0.04), ("diagonal", "diagonal")]


def noisy_pair(seed, noises, *, dim=15, n_factors=3):
    rng = np.random.default_rng(seed)
    return [
        random_normal(rng, dim, n_factors, rng.uniform(0.1, 1, dim) if n == "diagonal" else n)
        for n in noises
    ]


@pytest.mark.parametrize("noises", NOISES)
@pytest.mark.parametrize("sizes", [(15, 3), (4, 3), (2, 0)])
def test_the_reduction_agrees_with_the_full_eigenbasis(noises, sizes):
    """Values, gradients and distances against inverse covariances of all dimensions."""
    one, two = noisy_pair(0, noises, dim=sizes[0], n_factors=sizes[1])
    ratio = log_ratio([one, two], offset=0.3)
    x = one.mean + 0.3 * np.random.default_rng(1).normal(size=(6, sizes[0]))
    value = dense(one)[0].logpdf(x) - dense(two)[0].logpdf(x) + 0.3
    scale = 1 + np.abs(dense(one)[0].logpdf(x)) + np.abs(dense(two)[0].logpdf(x))
    assert np.abs(ratio.value(x) - value).max() < 1e-9 * scale.max()
    own, other = (np.linalg.inv(dense(normal)[1]) for normal in (one, two))
    curvature, rotation = np.linalg.eigh(other - own)
    gradient = ((x - two.mean) @ other - (x - one.mean) @ own) @ rotation
    direct = project_quadric(curvature, gradient, value)
    found = nearest_pair_error(x, ratio)
    np.testing.assert_allclose(found.distance, direct.distance, rtol=1e-8)
    reached = found.nearest[found.distance > 0]
    assert np.abs(ratio.value(reached)).max(initial=0.0) < 1e-9 * scale.max()
    np.testing.assert_allclose(
        np.linalg.norm(found.nearest - x, axis=1), found.distance, rtol=1e-10
    )


def test_equal_noise_leaves_no_curvature_outside():
    ratio = log_ratio(noisy_pair(2, (0.01, 0.01)))
    assert ratio.outer_curvature == 0
    assert (ratio.curvature == 0).sum() == 1  # the difference of the means bends nothing


def test_concentric_spheres_are_the_hard_case():
    """From the centre every direction is nearest: r^2 = d log(s2^2 / s1^2) / (1/s1^2 - 1/s2^2)."""
    one, two = (LowRankNormal(np.zeros(20), np.zeros((20, 2)), v) for v in (0.01, 0.5))
    found = nearest_pair_error(np.zeros((1, 20)), log_ratio([one, two]))
    expected = math.sqrt(20 * math.log(50) / (100 - 2))
    assert found.distance[0] == pytest.approx(expected, rel=1e-13)
    assert found.hard[0]
    assert np.linalg.norm(found.nearest) == pytest.approx(expected, rel=1e-13)


def test_a_class_that_wins_everywhere_has_no_nearest_error():
    one, two = (LowRankNormal(np.zeros(3), np.zeros((3, 0)), v) for v in (4.0, 1.0))
    found = nearest_pair_error([[0.1, 0.0, 0.0]], log_ratio([one, two], offset=10.0))
    assert np.isinf(found.distance).all()
    assert np.isnan(found.nearest).all()
    assert pair_log_error(one, two, log_odds=10.0) == -math.inf


@given(st.integers(0, 10_000), st.floats(1e-2, 1e2))
@settings(max_examples=25, derandomize=True, deadline=None)
def test_distances_turn_and_scale_with_space(seed, scale):
    rng = np.random.default_rng(seed)
    one, two = (random_normal(rng, 9, 2, noise) for noise in (0.05, 0.4))
    x = one.mean + 0.1 * rng.normal(size=(4, 9))
    turn = scale * stats.ortho_group.rvs(9, random_state=rng)
    moved = [
        LowRankNormal(turn @ n.mean, turn @ n.loadings, scale**2 * n.noise_variance)
        for n in (one, two)
    ]
    before = nearest_pair_error(x, log_ratio([one, two])).distance
    after = nearest_pair_error(x @ turn.T, log_ratio(moved)).distance
    np.testing.assert_allclose(after, scale * before, rtol=1e-9, atol=1e-12 * scale)


def best_of_slsqp(constraint, rng, *, n_starts=8):
    """Return the length of the shortest step with constraint(step) = 0 that was found."""
    best = math.inf
    for _ in range(n_starts):
        result = optimize.minimize(
            lambda p: p @ p,
            rng.normal(size=3),
            jac=lambda p: 2 * p,
            constraints={"type": "eq", "fun": constraint},
            method="SLSQP",
        )
        if result.success:
            best = min(best, math.sqrt(result.fun))
    return best


@pytest.mark.parametrize("noises", [(0.1, 0.1), (0.1, 0.5), (0.2, 0.1)])
def test_distances_are_those_of_a_general_optimiser(noises):
    one, two = noisy_pair(8, noises, dim=3, n_factors=1)
    ratio = log_ratio([one, two], offset=1.0)
    x = one.mean + 0.1
    assert ratio.value(x[None])[0] > 0
    found = nearest_pair_error(x[None], ratio).distance[0]
    best = best_of_slsqp(lambda p: ratio.value((x + p)[None])[0], np.random.default_rng(9))
    assert found == pytest.approx(best, rel=1e-6)


def test_tiny_noise_keeps_its_digits():
    """At a noise of 0.001, where dense inverses lose 1e-9, against densities in residual form."""
    one, two = noisy_pair(0, (1e-6, 1e-6))
    x = one.mean + 0.3 * np.random.default_rng(1).normal(size=(6, 15))
    logs = [
        LowRankGaussian(*(torch.from_numpy(np.array(a)) for a in parts)).log_prob(
            torch.from_numpy(x)
        )
        for parts in ((n.mean, n.loadings, n.noise_variance) for n in (one, two))
    ]
    np.testing.assert_allclose(log_ratio([one, two]).value(x), logs[0] - logs[1], rtol=1e-12)


@pytest.mark.parametrize("noises", [(0.3, 0.3), (0.2, 0.6), ("diagonal", 0.4)])
def test_error_rates_are_those_of_samples(noises):
    one, two = noisy_pair(4, noises, dim=5, n_factors=2)
    rng = np.random.default_rng(5)
    n = 200_000
    x = rng.multivariate_normal(one.mean, dense(one)[1], size=n)
    wrong = int((log_ratio([one, two], offset=-1.0).value(x) < 0).sum())
    expected = math.exp(pair_log_error(one, two, log_odds=-1.0))
    assert 100 < wrong < n - 100
    assert abs(wrong / n - expected) < 4.5 * math.sqrt(expected * (1 - expected) / n)


def test_spherical_pairs_have_the_normal_tail_as_error():
    """At 12 standard deviations, far below the reach of samples."""
    one, two = (LowRankNormal([m, 0.0, 0.0], np.zeros((3, 0)), 0.25) for m in (-6.0, 6.0))
    assert pair_log_error(one, two) == pytest.approx(stats.norm.logsf(12), rel=1e-13)
    assert pair_log_error(one, one, log_odds=1.0) == -math.inf


def test_trust_region_minima_on_a_circle():
    """Against a fine grid of the disc; hard and interior cases among them."""
    angle = np.linspace(0, 2 * np.pi, 20_001)
    rng = np.random.default_rng(6)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for case in range(60):
        h = rng.normal(size=2) * 10.0 ** rng.uniform(-2, 3)
        g = rng.normal(size=2) * (rng.random(2) < 0.7)
        t = 10.0 ** rng.uniform(-2, 1)
        found = trust_region_minimum(h, g[None], [0.0], [t])[0]
        p = t * circle
        values = g @ p + 0.5 * h @ p**2
        best = min(values.min(), 0.0)
        if (h > 0).all() and np.linalg.norm(g / h) <= t:
            best = -0.5 * float(g @ (g / h))
        size = np.abs(g).sum() * t + np.abs(h).sum() * t**2
        assert found <= best + 1e-12 * size, case
        assert found >= best - 1e-6 * size, case


def test_trust_region_and_projection_are_inverse_to_each_other():
    rng = np.random.default_rng(7)
    h = 100 * rng.normal(size=(50, 8))
    g, q0 = 10 * rng.normal(size=(50, 8)), rng.uniform(1, 30, 50)
    distance = project_quadric(h, g, q0).distance
    assert np.abs(trust_region_minimum(h, g, q0, distance)).max() < 1e-10
    assert (trust_region_minimum(h, g, q0, 0.999 * distance) > 0).all()
    np.testing.assert_array_equal(trust_region_minimum(h, g, q0, 0.0), q0)


def test_bad_input_is_refused_in_one_sentence():
    flat = LowRankNormal(np.zeros(3), np.zeros((3, 1)), 1.0)
    with pytest.raises(ValueError, match=r"mean \(d,\) needs loadings"):
        LowRankNormal(np.zeros(3), np.zeros((2, 1)), 1.0)
    with pytest.raises(ValueError, match="must be positive"):
        LowRankNormal(np.zeros(3), np.zeros((3, 1)), 0.0)
    with pytest.raises(ValueError, match="finite"):
        LowRankNormal([np.nan, 0.0], np.zeros((2, 1)), 1.0)
    with pytest.raises(ValueError, match="one coefficient for each"):
        log_ratio([flat, flat], [1.0])
    with pytest.raises(ValueError, match="of one dimension"):
        log_ratio([flat, LowRankNormal([0.0], np.zeros((1, 0)), 1.0)])
    with pytest.raises(ValueError, match="offset"):
        log_ratio([flat, flat], offset=math.inf)
    with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
        nearest_pair_error(np.zeros((1, 2)), log_ratio([flat, flat]))
    with pytest.raises(ValueError, match="gradient must have shape"):
        trust_region_minimum([1.0], [1.0], [1.0], [1.0])
    with pytest.raises(ValueError, match="not negative"):
        trust_region_minimum([1.0], [[1.0]], [1.0], [-1.0])


@pytest.mark.parametrize("length", [1e-140, 1e-30, 1.0, 1e140])
@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_trust_regions_of_any_size(length: float, unit: float) -> None:
    h, g = np.array([-2.0, 1.0]), np.array([[0.3, -0.4], [0.0, 0.5]])
    plain = trust_region_minimum(h, g, [0.0, 0.0], [1.5, 0.7])
    found = trust_region_minimum(
        h * unit / length / length, g * unit / length, [0.0, 0.0], np.array([1.5, 0.7]) * length
    )
    np.testing.assert_allclose(found, plain * unit, rtol=1e-12)
