"""Every number on the errata page about the second paper, computed and looked up on the page."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from trueboundary.densities import MixtureOfFactorAnalyzers
from trueboundary.experiments.printed_tables import read_printed_tables
from trueboundary.measure import distances_from
from trueboundary.problems import MixtureProblem, planar_problem, table_problem
from trueboundary.theory.gaussian_pairs import (
    boundary_distance_along,
    conditional_gaussian,
    flip_mass_bound,
    leading_boundary_distance,
    outlier_attack_size,
)

PAGE = (Path(__file__).parents[2] / "docs" / "errata.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## A Bayes-Optimal View", 1)[1]

# The pair of the page: t is the first coordinate, s the second.
MEAN_1, MEAN_2 = np.array([0.0, 0.2]), np.array([1.0, -0.3])
COVARIANCE_1 = np.diag([0.01, 0.5])
COVARIANCE_2 = np.array([[1.5, 0.4], [0.4, 0.8]])
S = 0.7


def shown(*values: str) -> None:
    """Require that the page's section shows these values."""
    for value in values:
        assert value in SECTION, f"{value} is not on the page"


def log_ratio(t: float) -> float:
    return float(
        stats.multivariate_normal(MEAN_1, COVARIANCE_1).logpdf([t, S])
        - stats.multivariate_normal(MEAN_2, COVARIANCE_2).logpdf([t, S])
    )


@pytest.fixture(scope="module")
def root() -> float:
    """Return where the classes are equally likely, from the densities alone."""
    return float(optimize.brentq(log_ratio, 0.0, 3.0, xtol=1e-15))


def left_side(t: float) -> float:
    """Return the left side of equation (1), as printed."""
    (v_1, v_2), (t_1, t_2) = (COVARIANCE_1[0, 0], COVARIANCE_2[0, 0]), (MEAN_1[0], MEAN_2[0])
    return float(
        (1 / v_1 - 1 / v_2) * t**2
        + (2 * t_2 / v_2 - 2 * t_1 / v_1) * t
        + (t_1**2 / v_1 - t_2**2 / v_2 + math.log(v_1 / v_2))
    )


def log_conditional_ratio(t: float) -> float:
    """Return log p_1(s) - log p_2(s | t)."""
    mean, covariance = conditional_gaussian(MEAN_2, COVARIANCE_2, t)
    own = stats.norm(MEAN_1[1], math.sqrt(COVARIANCE_1[1, 1])).logpdf(S)
    other = stats.norm(mean[0], math.sqrt(covariance[0, 0])).logpdf(S)
    return float(own - other)


def test_equation_1_needs_the_other_sign_and_a_factor_of_2(root):
    left, difference = left_side(root), log_conditional_ratio(root)
    assert left == pytest.approx(2 * difference, abs=1e-9)
    assert left != pytest.approx(-difference, abs=0.5)
    shown(f"t = {root:.4f}", f"{left:.4f}", f"{-difference:.4f}")


def test_equation_2_lacks_a_division(root):
    mean, _ = conditional_gaussian(MEAN_2, COVARIANCE_2, root)
    printed = MEAN_2[1] + COVARIANCE_2[0, 1] * (root - MEAN_2[0])
    grid = np.linspace(-8, 8, 4001)
    points = np.stack([np.full_like(grid, root), grid], axis=1)
    weights = stats.multivariate_normal(MEAN_2, COVARIANCE_2).pdf(points)
    assert mean[0] == pytest.approx(float((grid * weights).sum() / weights.sum()), abs=1e-9)
    assert abs(printed - mean[0]) > 0.05
    shown(f"{mean[0]:.4f}", f"{printed:.4f}")


def test_the_boundary_is_several_deviations_away_and_still_near():
    """The table of sigma_1, exact root, leading formula and number of deviations."""
    for std in (1e-1, 1e-2, 1e-3, 1e-6):
        covariance = np.diag([std**2, 0.5])
        exact = boundary_distance_along([[0.0, S]], MEAN_1, covariance, MEAN_2, COVARIANCE_2).item()
        delta = log_conditional_ratio(0.0)
        leading = float(leading_boundary_distance(std, math.sqrt(1.5), -1.0, delta))
        assert leading == pytest.approx(exact, rel=5 * std)
        shown(f"| {std:g} | {exact:.4g} | {leading:.4g} | {leading / std:.2f} |")


def test_the_weight_of_the_other_component_adds_its_logarithm():
    std, rare = 1e-3, math.log(100)
    plain = float(leading_boundary_distance(std, 1.0))
    weighted = float(leading_boundary_distance(std, 1.0, log_ratio=rare))
    shown(f"{plain / std:.2f}", f"{weighted / std:.2f}")
    assert weighted > plain


def test_observation_2_needs_the_own_broad_part_to_be_the_less_probable_one():
    apart = planar_problem("h", small_std=0.01)
    # The same broad part in both: nothing but the narrow ones decides.
    bars = [
        MixtureOfFactorAnalyzers(
            None,
            density.means[:2],
            density.loadings[:2],
            density.noise_variance[:2],
            log_weights=torch.full((2,), -math.log(2), dtype=torch.float64),
        )
        for density in (apart.density_0, apart.density_1)
    ]
    x = apart.density_0.means[:1]
    assert x.tolist() == [[-2.0, 1.5]]
    near, far = (
        distances_from(problem.bayes_classifier(dtype=torch.float64), x, 0)
        for problem in (apart, MixtureProblem(*bars))
    )
    assert far.upper[0] == pytest.approx(far.lower[0], rel=1e-9)
    shown(f"{far.upper[0]:.4f}", f"between {near.lower[0]:.4f} and {near.upper[0]:.4f}")


def test_observation_3_compares_the_mass_of_the_changed_value():
    """For the page's table the printed ratio is 1, which is below no probability."""
    problem = table_problem("g")
    first, second = (d.probabilities.numpy() for d in (problem.density_0, problem.density_1))
    changed = first.sum(axis=1)[29]  # the value beside the usual one
    assert first.sum(axis=1).argmax() == 30
    assert changed / changed == 1 > second.min()
    assert changed < second.min()
    assert flip_mass_bound(first, second) > 1 - 1e-8
    shown(f"{changed:.1e}", f"{second.min():.1e}")


def test_the_log_density_in_residual_form_has_other_signs():
    """The page's four-dimensional example, dense and in both forms."""
    loadings = np.array([[1.0, 0.0], [0.5, 1.0], [0.0, -0.5], [1.0, 1.0]])
    mean, x, std = np.zeros(4), np.array([0.3, -0.2, 0.5, 1.0]), 0.1
    covariance = loadings @ loadings.T + std**2 * np.eye(4)
    dense = float(stats.multivariate_normal(mean, covariance).logpdf(x))
    z = np.linalg.solve(loadings.T @ loadings + std**2 * np.eye(2), loadings.T @ (x - mean))
    residual = float(np.sum((mean + loadings @ z - x) ** 2) / (2 * std**2))
    factors = 0.5 * float(z @ z)
    log_determinant = np.linalg.slogdet(np.eye(2) + loadings.T @ loadings / std**2)[1]
    constant = -0.5 * log_determinant - 2 * math.log(2 * math.pi * std**2)
    assert -(residual + factors) + constant == pytest.approx(dense, abs=1e-9)
    for sign in (-1, 1):  # a minimum over z of the sum: any other z is worse
        other = z + sign * 1e-3
        assert np.sum((loadings @ other - x) ** 2) / (2 * std**2) + 0.5 * other @ other > (
            residual + factors
        )
    printed = -(residual - factors) + constant
    assert abs(printed - dense) == pytest.approx(2 * factors)
    shown(f"{dense:.3f}", f"{printed:.3f}")


def test_half_is_a_standard_deviation_and_not_a_variance():
    """Sizes of attacks on MNIST by the closed form, for each reading of the outliers' noise."""
    for noise_std in (0.01, 0.001):
        as_std = outlier_attack_size(noise_std, 0.5, 784, 6)
        as_variance = outlier_attack_size(noise_std, math.sqrt(0.5), 784, 6)
        shown(f"| {noise_std:g} | {as_std:.3f} | {as_variance:.3f} |")
    assert outlier_attack_size(0.01, 0.5, 784, 6) == pytest.approx(0.5, abs=0.01)


def test_faces_need_another_noise_than_stated():
    assert outlier_attack_size(0.01, 0.5, 12288, 10) == pytest.approx(1.99, abs=0.005)
    assert outlier_attack_size(0.004, 0.5, 12288, 10) == pytest.approx(0.93, abs=0.005)
    shown("1.99", "0.93")


def test_table_1_counts_every_changed_decision():
    """If only right samples were attacked, attacks that always succeed would leave 0 %."""
    (table,) = (table for table in read_printed_tables("bayes") if table.id == "table-1")
    cells = [cell for row in table.rows for cell in row.printed[:3]]
    numbers = [tuple(map(int, cell.replace("(", "").replace(")", "").split())) for cell in cells]
    assert all(clean + attacked == 100 for clean, attacked in numbers)
    turned_right = [cell for cell in cells if not cell.startswith("100")]
    assert turned_right == ["98 (2)", "99 (1)", "99 (1)"]
    shown(*turned_right)
