"""Confidence intervals: definitions, coverage and hostile input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trueboundary.theory.intervals import (
    censored_median,
    clopper_pearson,
    median_interval,
    prediction_factor,
    prediction_interval,
    t_interval,
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 50), st.integers(0, 10**6), st.floats(0.5, 0.999))
def test_clopper_pearson_is_defined_by_its_tails(k: int, extra: int, confidence: float) -> None:
    n = k + extra + 1
    tail = (1 - confidence) / 2
    low, high = clopper_pearson(k, n, confidence)
    assert 0 <= low <= k / n <= high <= 1
    assert stats.binom.cdf(k, n, high) == pytest.approx(tail, rel=1e-6)
    if k > 0:
        assert stats.binom.sf(k - 1, n, low) == pytest.approx(tail, rel=1e-6)
    else:
        assert low == 0.0


def test_clopper_pearson_agrees_with_scipy() -> None:
    for k, n in ((0, 20), (3, 20), (20, 20), (5, 10**7)):
        ours = clopper_pearson(k, n)
        theirs = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert ours.low == pytest.approx(theirs.low, rel=1e-9, abs=1e-15)
        assert ours.high == pytest.approx(theirs.high, rel=1e-9)


def test_rule_of_three() -> None:
    # No events in n trials: 1 - 0.05^(1/n), about 3/n, even where 1 - x would round it away.
    upper = clopper_pearson(0, 10**17, side="upper")
    assert upper.low == 0.0
    assert upper.high == pytest.approx(-math.log(0.05) / 1e17, rel=1e-6)


def test_all_events() -> None:
    interval = clopper_pearson(7, 7)
    assert interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / 7), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_prediction_interval_holds_the_next_value(n: int) -> None:
    draws = np.random.default_rng(n).normal(3.0, 2.0, (4000, n + 1))
    held = [
        low <= row[-1] <= high for row in draws for low, high in [prediction_interval(row[:-1])]
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.011)


def test_a_prediction_interval_is_that_of_the_mean_times_sqrt_n_plus_1() -> None:
    values = [250.0, 330.0, 440.0]
    mean, following = t_interval(values), prediction_interval(values)
    assert following.high - following.low == pytest.approx(2 * (mean.high - mean.low))
    assert prediction_factor(3) == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(4 / 3))
    assert prediction_factor(10**9) == pytest.approx(stats.norm.ppf(0.975))
    with pytest.raises(ValueError, match="at least two"):
        prediction_interval([1.0])


def test_t_interval_coverage() -> None:
    rng = np.random.default_rng(2)
    samples = rng.standard_normal((2000, 5))
    covered = [low <= 0 <= high for low, high in map(t_interval, samples)]
    assert abs(np.mean(covered) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize("n", [6, 10, 101])
def test_median_interval_has_exact_binomial_coverage(n: int) -> None:
    low, high = median_interval(np.arange(1.0, n + 1))
    rank = round(low)
    assert rank + high == n + 1
    assert stats.binom.cdf(rank - 1, n, 0.5) <= 0.025 < stats.binom.cdf(rank, n, 0.5)


def test_median_interval_with_failures_and_few_values() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, math.inf, math.inf]
    assert median_interval(values) == (0.1, math.inf)
    assert median_interval([1.0, 2.0, 3.0]) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clopper_pearson(1, 0), "n must be at least 1"),
        (lambda: clopper_pearson(-1, 5), "n_events must be at least 0"),
        (lambda: clopper_pearson(6, 5), "at most n = 5"),
        (lambda: clopper_pearson(1, 5, 1.0), "confidence must lie strictly"),
        (lambda: clopper_pearson(1, 5, side="lower"), "side must be one of"),
        (lambda: t_interval([1.0]), "at least two numbers"),
        (lambda: t_interval([1.0, math.inf]), "finite"),
        (lambda: median_interval([]), "one axis of numbers"),
        (lambda: median_interval([1.0, math.nan]), "without NaN"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_intervals_scale_with_their_values(unit: float) -> None:
    plain, scaled = t_interval([0.9, 1.1, 1.0]), t_interval([0.9 * unit, 1.1 * unit, unit])
    assert scaled == pytest.approx([unit * plain.low, unit * plain.high], rel=1e-12)


@pytest.mark.parametrize("n", [math.nan, math.inf, 10**400, "3", None, True, 0.5])
def test_a_number_of_trials_that_is_none(n: object) -> None:
    with pytest.raises((ValueError, TypeError), match="n must be"):
        clopper_pearson(0, n)  # type: ignore[arg-type]


def test_the_median_of_values_that_may_be_infinite() -> None:
    inf = math.inf
    for values, expected in [
        ([10, 1, 3, 2], 2.5),
        ([3.0], 3.0),
        ([1, 2, inf], 2.0),
        ([1, 2, inf, inf], inf),
        ([inf, inf], inf),
        ([1e308, 1e308], 1e308),
    ]:
        assert censored_median(values) == expected
    assert math.isnan(censored_median([]))
    assert math.isnan(censored_median([1.0, math.nan]))
