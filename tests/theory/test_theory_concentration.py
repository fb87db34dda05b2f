"""Concentration inequalities: above the exact tail and Chernoff, as their proofs say."""

import math

import mpmath
import numpy as np
import pytest

from trueboundary.theory.concentration import (
    bernstein_log_bound,
    hanson_wright_log_bound,
    laurent_massart_log_bound,
)
from trueboundary.theory.quadratic_forms import (
    chernoff_log_bound,
    ellipsoid_weights,
    log_tail,
)

BOUNDS = [laurent_massart_log_bound, bernstein_log_bound, hanson_wright_log_bound]


def random_weights(seed: int, dim: int = 40) -> np.ndarray:
    generator = np.random.default_rng(seed)
    weights = generator.normal(-0.6, 0.5, dim) * generator.uniform(0.2, 5.0)
    weights[0] = np.abs(weights).max() / 3
    assert weights.sum() < 0 < weights.max()
    return weights


@pytest.mark.parametrize("seed", range(12))
def test_the_bounds_are_in_the_order_of_what_they_give_away(seed: int) -> None:
    weights = random_weights(seed)
    chain = [float(log_tail(weights)), chernoff_log_bound(weights)]
    chain += [bound(weights) for bound in BOUNDS]
    assert chain == sorted(chain)
    assert len(set(chain)) == len(chain)


@pytest.mark.parametrize("bound", BOUNDS)
def test_no_share_of_samples_exceeds_a_bound(bound) -> None:
    generator = np.random.default_rng(1)
    weights = np.concatenate([np.full(3, 0.5), np.full(20, -0.3)])
    squares = generator.standard_normal((200_000, weights.size)) ** 2
    share = float((squares @ weights > 0).mean())
    assert 0 < share < math.exp(bound(weights))


@pytest.mark.parametrize("seed", range(3))
def test_all_rest_on_one_bound_of_the_moment_generating_function(seed: int) -> None:
    """Laurent and Massart's is the best that it gives; each step of the proof in 30 digits."""
    weights = [mpmath.mpf(float(w)) for w in random_weights(seed, 8)]
    t, v = -mpmath.fsum(weights), 2 * mpmath.fsum(w**2 for w in weights)
    c = 2 * max(weights)

    def exact(rate):
        return mpmath.fsum(-w * rate - mpmath.log(1 - 2 * w * rate) / 2 for w in weights)

    def bounded(rate):
        return v * rate**2 / (2 * (1 - c * rate))

    with mpmath.workdps(30):
        rates = [mpmath.mpf(k) / 400 / c for k in range(1, 400)]
        assert all(exact(rate) <= bounded(rate) for rate in rates)
        # The minimum of bounded(rate) - rate t is where its derivative vanishes, in closed form.
        best = (1 - mpmath.sqrt(v / (v + 2 * c * t))) / c
        assert abs(mpmath.diff(lambda rate: bounded(rate) - rate * t, best)) < mpmath.mpf(10) ** -12
        minimum = float(bounded(best) - best * t)
    array = np.array([float(w) for w in weights])
    assert laurent_massart_log_bound(array) == pytest.approx(minimum, rel=1e-12)
    rate = float(t / (v + c * t))  # Bernstein's choice
    assert bernstein_log_bound(array) == pytest.approx(float(bounded(rate) - rate * t), rel=1e-12)


def test_the_rate_of_one_negative_spectrum_is_sub_gaussian() -> None:
    weights = -np.linspace(0.5, 1.5, 50)
    weights[0] = 1e-300  # no upper tail to speak of: c is 0, and t^2 / (2 v) is left
    t, v = -weights.sum(), 2 * (weights**2).sum()
    for bound in (laurent_massart_log_bound, bernstein_log_bound):
        assert bound(weights) == pytest.approx(-(t**2) / (2 * v))


@pytest.mark.parametrize("bound", BOUNDS)
def test_scaling_changes_nothing_and_a_mean_above_zero_leaves_nothing_to_say(bound) -> None:
    weights = random_weights(3)
    assert bound(8.0 * weights) == pytest.approx(bound(weights), rel=1e-14)
    assert bound([1.0, -0.5]) == 0.0
    for wrong in ([], [[1.0]], [math.nan]):
        with pytest.raises(ValueError, match="weights"):
            bound(wrong)


def test_on_the_papers_sphere_only_the_form_with_a_stated_constant_is_useless() -> None:
    """Five hundred spread alphas with an exact rate near 1e-12: what each inequality leaves."""
    alphas = np.linspace(0.05, 1.45, 500)
    weights = ellipsoid_weights(alphas, sphere="inner", radius=1.3)
    exact = float(log_tail(weights)) / math.log(10)
    chernoff = chernoff_log_bound(weights) / math.log(10)
    loose = [bound(weights) / math.log(10) - exact for bound in BOUNDS]
    assert chernoff - exact < 2
    assert all(gap > chernoff - exact for gap in loose)
    assert loose == sorted(loose)
