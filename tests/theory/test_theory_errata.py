"""Every number on the errata page about Adversarial Spheres, computed and looked up on the page."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, special

from trueboundary.certificates import nearest_ellipsoid_error
from trueboundary.theory import caps, quadratic_forms, truncated

PAGE = (Path(__file__).parents[2] / "docs" / "errata.md").read_text(encoding="utf-8")

# Heights of the 50 bars of Figure 3 (left) over [0, 1.957], as read off the figure.
BARS = [
    *(
        51,
        23,
        16,
        14,
        13,
        12,
        10,
        13,
        11,
        11,
        11,
        10,
        10,
        11,
        11,
        10,
        10,
        10,
        12,
        9,
        11,
        10,
        10,
        10,
    ),
    *(9, 9, 10, 7, 9, 10, 8, 9, 8, 8, 8, 8, 8, 8, 7, 6, 7, 6, 6, 7, 4, 5, 5, 3, 4, 2),
]
CENTRES = (np.arange(50) + 0.5) * 1.957 / 50
ALPHAS = np.repeat(CENTRES, BARS)
LOG_10 = math.log(10)


def log10(value: float) -> str:
    """Format a natural logarithm as a decimal one."""
    return f"{value / LOG_10:.2f}"


def both_spheres(alphas: npt.NDArray[np.float64], method: str) -> tuple[float, float]:
    """Return the log errors on the two spheres."""
    return (
        quadratic_forms.ellipsoid_log_error(alphas, sphere="inner", method=method),
        quadratic_forms.ellipsoid_log_error(alphas, sphere="outer", method=method),
    )


def proposition() -> list[str]:
    """Figure 3's network under the formula as printed and as corrected."""
    weights = quadratic_forms.ellipsoid_weights(ALPHAS)
    only_sigma = special.ndtr(weights.sum() / (2 * weights @ weights))
    clt = both_spheres(ALPHAS, "clt")
    exact = both_spheres(ALPHAS, "exact")
    return [
        f"| as printed | {math.log10(quadratic_forms.printed_clt_tail(weights)):.2f} | not given |",
        f"| sign corrected, σ as printed | {math.log10(only_sigma):.2f} | not given |",
        f"| both corrected | {log10(clt[0])} | {log10(clt[1])} |",
        f"| exact | {log10(exact[0])} | {log10(exact[1])} |",
    ]


def cap_bound() -> list[str]:
    """The isoperimetric bound at d = 500, exact and by three formulas."""
    rows = []
    for power in (1, 2, 3, 5, 7):
        measure = 10.0**-power
        exact = caps.mean_distance(500, measure)
        corrected = caps.gaussian_mean_distance(500, measure)
        printed = caps.gaussian_mean_distance(500, measure, form="as-printed")
        rows.append(f"| 1e-{power} | {exact:.4f} | {corrected:.4f} | {printed:.4f} |")
    return rows


def half_the_sphere() -> list[str]:
    """The bound does not vanish at measure 1/2."""
    exact, limit = caps.mean_distance(500, 0.5), 1 / math.sqrt(2 * math.pi * 500)
    return [f"{exact:.5f} exactly, {limit:.5f} by 1/√(2πd)"]


def initialisation() -> list[str]:
    """Probabilities and loss of the perfect initialisation for two scales of the logit."""
    rows = []
    for scale in (26.45, 13.225):
        inner, outer = (scale * (r**2 / 1.15**2 - 1) for r in (1.0, 1.3))
        loss = 0.5 * (np.logaddexp(0, inner) + np.logaddexp(0, -outer))
        probabilities = f"{special.expit(inner):.4f} | {special.expit(outer):.4f}"
        rows.append(f"| {scale:g} | {probabilities} | {loss:.4f} |")
    return rows


def truncated_sum() -> list[str]:
    """Average error with half of 3000 inputs, and the share of inputs needed for 1e-14."""
    rows = []
    for threshold in ("optimal", "midpoint"):
        for method in ("clt", "exact"):
            error = truncated.average_log_error(3000, 1500, threshold=threshold, method=method)
            needed = truncated.required_dimensions(3000, 1e-14, threshold=threshold, method=method)
            assert needed is not None
            rows.append(f"| {threshold} | {method} | {log10(error)} | {needed / 3000:.3f} |")
    return rows


def tail() -> list[str]:
    """The CLT against exact values for truncated sums at their optimal thresholds."""
    rows = []
    for dim, k in ((500, 250), (3000, 1500)):
        b = truncated.optimal_threshold(dim, k)
        exact = truncated.log_errors(dim, k, b).inner
        clt = truncated.log_errors(dim, k, b, method="clt").inner
        weights = [1 - b] * k + [-b] * (dim - k)
        saddle = quadratic_forms.lugannani_rice_log_tail(weights)
        rows.append(f"| {dim} | {k} | {log10(clt)} | {log10(saddle)} | {log10(exact)} |")
    return rows


def rescaled() -> list[str]:
    """What moving the threshold alone would give the network of Figure 3."""

    def average(scale: float) -> float:
        return float(np.logaddexp(*both_spheres(scale * ALPHAS, "exact"))) - math.log(2)

    best = optimize.minimize_scalar(average, bounds=(1.0, 1.2), method="bounded")
    return [
        f"mean {ALPHAS.mean():.3f}",
        f"from {log10(average(1.0))} to {log10(best.fun)}, at a factor of {best.x:.3f}",
    ]


ENTRIES: list[Callable[[], list[str]]] = [
    proposition,
    cap_bound,
    half_the_sphere,
    initialisation,
    truncated_sum,
    tail,
    rescaled,
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_page_states_what_is_computed(entry: Callable[[], list[str]]) -> None:
    for text in entry():
        assert text in PAGE


def test_expected_outer_errors_in_ten_million_samples() -> None:
    # The figure's network would have shown errors on the outer sphere, so the count of none in
    # the text belongs to another network or to the inner sphere.
    rate = math.exp(quadratic_forms.ellipsoid_log_error(ALPHAS, sphere="outer"))
    assert 70 < 1e7 * rate < 90


def test_the_approximation_of_the_chord_has_no_factor() -> None:
    # Near the equator chord, angle and difference of heights agree to first order.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 500))
    height = x[:, 0] / np.linalg.norm(x, axis=1)
    a = caps.threshold(500, 0.01)
    chord = np.where(height < a, 2 * np.sin(0.5 * (np.arccos(height) - np.arccos(a))), 0.0)
    flat = np.maximum(a - height, 0)
    assert chord.mean() == pytest.approx(caps.mean_distance(500, 0.01), rel=0.01)
    assert flat.mean() == pytest.approx(chord.mean(), rel=0.005)


def test_caps_have_the_corrected_bound() -> None:
    assert "the corrected bound to within 2 % between measures of 0.1 and 1e-15" in PAGE
    for power in range(1, 16):
        ratio = caps.mean_distance(500, 10.0**-power) / caps.gaussian_mean_distance(
            500, 10.0**-power
        )
        assert ratio == pytest.approx(1, abs=0.02)


def test_a_positive_bias_inverts_a_perfect_ellipsoid() -> None:
    # logit = -b (sum alpha z^2 - 1): with b > 0 the same alphas give the opposite answers.
    alphas = np.full(5, 0.75)
    for bias, inner_is_outer in ((-1.0, False), (1.0, True)):
        x = np.ones(5) / math.sqrt(5)
        assert (-bias * (x**2 @ alphas - 1) > 0) == inner_is_outer


def test_narrow_networks_err_on_the_outer_sphere() -> None:
    # With fewer hidden units than inputs some alphas are 0, below 1/R^2.
    alphas = np.array([0.8] * 9 + [0.0])
    assert quadratic_forms.ellipsoid_log_error(alphas) == -math.inf
    assert quadratic_forms.ellipsoid_log_error(alphas, sphere="outer") > -math.inf


def test_later_version_draws_the_quantile() -> None:
    # At measure .01 it shows 1.4, .23, .104, .052 for d = 2, 100, 500, 2000; for 2, 1.253 is right.
    for dim, drawn in ((100, 0.23), (500, 0.104), (2000, 0.052)):
        quantile = caps.gaussian_mean_distance(dim, 0.01, form="quantile")
        assert quantile == pytest.approx(drawn, abs=0.5e-2 if dim == 100 else 0.5e-3)
    assert caps.mean_distance(2, 0.01) == pytest.approx(1.253, abs=5e-4)


def test_ellipsoids_reach_about_one_over_root_two_of_the_optimum() -> None:
    spread = np.linspace(-1.0, 1.0, 500)
    mean = (1 + 1.3**-2) / 2

    def excess(width: float) -> float:
        return quadratic_forms.ellipsoid_log_error(
            mean + width * spread, sphere="inner"
        ) - math.log(1e-5)

    alphas = mean + optimize.brentq(excess, 0.3, 3.0) * spread
    points = np.random.default_rng(0).standard_normal((1000, 500))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    distance = nearest_ellipsoid_error(points, alphas, sphere="inner").mean()
    ratio = distance / caps.mean_distance(500, 1e-5)
    assert f"{ratio:.2f}" == "0.71"
    assert "exact mean distances is 0.71" in PAGE
    assert f"{1 / math.sqrt(2):.3f}" in PAGE
