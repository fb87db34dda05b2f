"""The plane problems say what Figure 2 of Richardson and Weiss (2021) says."""

import math

import numpy as np
import pytest
import torch

from trueboundary.measure import error_rate
from trueboundary.problems import (
    PLANAR_PANELS,
    MixtureProblem,
    planar_gaussian,
    planar_mixture,
    planar_problem,
)
from trueboundary.theory.gaussian_pairs import boundary_distance_along, leading_boundary_distance

UPPER, LOWER = ("a", "b", "d"), ("e", "f", "h")


def first_error_along_rays(problem, n=40, reach=1.0):
    """Return the distance from points of class 0 to the first error on 64 rays, at most reach."""
    classifier = problem.bayes_classifier(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = problem.sample_class(n, 0, generator=generator, dtype=torch.float64)
    angle = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    radii = torch.linspace(0, reach, 201, dtype=torch.float64)
    rays = radii[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)
    points = x[:, None, None] + rays
    errors = (classifier.margin(points.reshape(-1, 2)) >= 0).reshape(n, 201, 64).any(2)
    first = torch.where(errors.any(1), errors.double().argmax(1), 200)
    return radii[first].numpy()


@pytest.mark.parametrize("panel", PLANAR_PANELS)
def test_classes_are_apart_in_every_panel(panel):
    problem = planar_problem(panel)
    zero, one = error_rate(problem.bayes_classifier(), problem, n_points=4000, method="sampling")
    assert zero.value < 0.01
    assert one.value < 0.02


@pytest.mark.parametrize("panel", UPPER)
def test_the_boundary_is_far_in_the_upper_row(panel):
    assert np.quantile(first_error_along_rays(planar_problem(panel)), 0.1) > 0.5


@pytest.mark.parametrize("panel", LOWER)
def test_the_boundary_is_near_in_the_lower_row_and_nearer_for_smaller_noise(panel):
    wide, narrow = (
        np.quantile(first_error_along_rays(planar_problem(panel, small_std=s), reach=0.3), 0.9)
        for s in (0.02, 0.005)
    )
    assert narrow < wide < 0.2


def test_panel_e_is_observation_1():
    """Along the narrow direction the boundary lies at sigma_1 sqrt(2 ln(sigma_2 / sigma_1))."""
    for small_std in (1e-3, 1e-5):
        problem = planar_problem("e", small_std=small_std)
        first, second = problem.density_0, problem.density_1
        x = first.sample((400,), generator=torch.Generator().manual_seed(0))
        found = boundary_distance_along(
            x, first.mean, first.covariance_matrix, second.mean, second.covariance_matrix
        )
        expected = leading_boundary_distance(small_std, 0.5, shift=-4.0)
        assert np.median(found) == pytest.approx(expected, rel=0.15)


def test_gaussians_have_the_stated_axes():
    density = planar_gaussian((1.0, -2.0), (2.0, 0.5), math.pi / 6)
    values, vectors = torch.linalg.eigh(density.covariance_matrix)
    assert values.sqrt().tolist() == pytest.approx([0.5, 2.0])
    assert abs(vectors[1, 1] / vectors[0, 1]) == pytest.approx(math.tan(math.pi / 6))
    assert density.mean.tolist() == [1.0, -2.0]


def test_the_asymmetric_mixture_has_a_rare_broad_component():
    problem = planar_problem("h")
    for density in (problem.density_0, problem.density_1):
        assert density.weights[2].item() == pytest.approx(0.01)
        assert density.component(2).variance.tolist() == pytest.approx([9.0, 9.0])


def test_bad_parameters_are_named():
    with pytest.raises(ValueError, match="c and g are tables"):
        planar_problem("c")
    with pytest.raises(ValueError, match="the larger first"):
        planar_gaussian((0.0, 0.0), (0.5, 1.0))
    with pytest.raises(ValueError, match="the larger first"):
        planar_problem("e", small_std=0.0)
    with pytest.raises(ValueError, match="add up to one"):
        planar_mixture([(0.5, (0.0, 0.0), (1.0, 1.0), 0.0)])


def dense_density(density, points):
    """Return the density at points by the formula of a dense Gaussian, in NumPy."""
    n_components = getattr(density, "n_components", 1)
    total = np.zeros(len(points))
    for k in range(n_components):
        component = density.component(k) if n_components > 1 else density
        covariance = component.covariance_matrix.numpy()
        offset = points - component.mean.numpy()
        squares = (offset @ np.linalg.inv(covariance) * offset).sum(1)
        weight = density.weights[k].item() if n_components > 1 else 1.0
        total += weight * np.exp(-squares / 2) / (2 * np.pi * np.linalg.det(covariance) ** 0.5)
    return total


@pytest.mark.parametrize("prior", [None, (0.2, 0.5, 0.3)])
def test_the_errors_of_three_classes_are_those_integrated_on_a_grid(prior):
    problem = MixtureProblem(*planar_problem("three").densities, prior=prior)
    side = np.linspace(-7, 7, 1401)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    densities = np.stack([dense_density(d, grid) for d in problem.densities])
    joint = np.array(problem.priors)[:, None] * densities
    winner = joint.argmax(0)
    cell = (side[1] - side[0]) ** 2
    np.testing.assert_allclose(densities.sum(1) * cell, 1, atol=1e-6)
    optimal = problem.bayes_classifier().predict(torch.from_numpy(grid))
    assert (optimal.numpy() == winner).all()
    # Into which class the errors of each fall: every entry by sampling, against the integral.
    for label in range(3):
        shares = [densities[label][winner == into].sum() * cell for into in range(3)]
        x, _ = next(problem.blocks(100_000, seed=0, block_size=100_000, label=label))
        counts = torch.bincount(problem.bayes_classifier().predict(x), minlength=3)
        for into, share in enumerate(shares):
            assert share > 1e-4  # each class meets both of the others
            error = 4 * (share * (1 - share) / 100_000) ** 0.5
            assert counts[into] / 100_000 == pytest.approx(share, abs=error)
