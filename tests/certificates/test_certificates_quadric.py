"""Projection onto quadrics: closed forms, optimality, brute force, hard and near-hard cases."""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from trueboundary.certificates import QuadricProjection, project_quadric
from trueboundary.certificates.quadric import proven_length

Array = npt.NDArray[np.float64]

PAIRS = json.loads((Path(__file__).parents[1] / "reference.json").read_text())["c_gaussian_pair"][
    "values"
]


def assert_certified(h: Array, g: Array, q0: Array, solution: QuadricProjection) -> None:
    """Check the conditions that prove global optimality, apart from the solver's own residual."""
    found = np.isfinite(solution.distance) & (q0 > 0)
    h = np.broadcast_to(h, g.shape)[found]
    g, q0, p = g[found], q0[found], solution.displacement[found]
    nu = solution.multiplier[found][:, None]
    scale = q0 + np.abs(g * p).sum(1) + 0.5 * (np.abs(h) * p**2).sum(1)
    assert (np.abs(q0 + (g * p).sum(1) + 0.5 * (h * p**2).sum(1)) <= 1e-13 * scale).all()
    pull = np.linalg.norm(p + nu * (g + h * p), axis=1)
    assert (pull <= 1e-12 * np.linalg.norm(p, axis=1)).all()
    assert (nu >= 0).all()
    assert (1 + nu * h >= -1e-12).all()
    assert (solution.residual < 1e-12).all()
    assert np.allclose(np.linalg.norm(p, axis=1), solution.distance[found], rtol=1e-14)


def test_half_space() -> None:
    g = np.array([[3.0, 4.0], [0.0, 1e-8]])
    solution = project_quadric([0.0, 0.0], g, [10.0, 1e-8])
    assert solution.distance == pytest.approx([2.0, 1.0], rel=1e-14)
    assert solution.displacement[0] == pytest.approx([-1.2, -1.6], rel=1e-14)


def test_balls_from_inside_and_outside() -> None:
    x = np.array([[0.3, 0.4], [2.0, 0.0], [0.0, 1e-7]])
    to_outside = project_quadric([-2.0, -2.0], -2 * x, 1 - (x**2).sum(1))
    assert to_outside.distance == pytest.approx([0.5, 0.0, 1 - 1e-7], rel=1e-14)
    to_inside = project_quadric([2.0, 2.0], 2 * x, (x**2).sum(1) - 1)
    assert to_inside.distance == pytest.approx([0.0, 1.0, 0.0], rel=1e-14)


def test_centre_of_a_ball_is_a_hard_case() -> None:
    solution = project_quadric([-2.0, -2.0, -2.0], np.zeros((1, 3)), [1.0])
    assert solution.hard.all()
    assert solution.distance == pytest.approx([1.0], rel=1e-15)
    assert np.linalg.norm(solution.displacement) == pytest.approx(1.0)


def test_no_solution() -> None:
    # 1 + x^2 + y^2 is positive everywhere; so is 1 with neither slope nor curvature
    solution = project_quadric([2.0, 0.0], [[1.0, 0.0], [0.0, 0.0]], [1.0, 1.0])
    assert np.isinf(solution.distance).all()
    assert np.isnan(solution.displacement).all()
    assert not solution.hard.any()
    # a slope along a flat direction reaches the set after all
    reached = project_quadric([2.0, 0.0], [[1.0, 1e-3]], [1.0])
    assert np.isfinite(reached.distance).all()


def test_points_already_in_the_set() -> None:
    solution = project_quadric([1.0], [[1.0], [1.0]], [0.0, -3.0])
    assert (solution.distance == 0).all()
    assert (solution.displacement == 0).all()


@pytest.mark.parametrize("tiny", [1e-3, 1e-6, 1e-9, 1e-12, 1e-30, 1e-80, 0.0])
def test_near_hard_cases_join_the_hard_case_continuously(tiny: float) -> None:
    # 1 - 2 z_1^2 - z_2^2 at (tiny, 1/4), where the bottom eigenspace carries next to no gradient
    h, x = np.array([-4.0, -2.0]), np.array([[tiny, 0.25]])
    solution = project_quadric(h, h * x, 1 + 0.5 * (x**2 @ h))
    assert_certified(h, h * x, 1 + 0.5 * (x**2 @ h), solution)
    # hard case: nu = 1/4, p_2 = 1/4, then 2 p_1^2 = 1 - 1/4
    hard = math.sqrt(0.25**2 + 0.375)
    # the logit of nu, down to -184 here, carries 16 digits
    assert abs(solution.distance[0] - hard) <= 2 * tiny + 2e-14
    assert solution.hard[0] == (tiny == 0.0)


def test_clustered_bottom_eigenvalues() -> None:
    rng = np.random.default_rng(0)
    h = -1.0 + 1e-15 * np.arange(6.0)
    g = rng.standard_normal((50, 6)) * [1e-9, 1e-8, 0, 1, 0, 1e-12]
    q0 = rng.uniform(0.1, 3, 50)
    assert_certified(h, g, q0, project_quadric(h, g, q0))


def random_problem(rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array, Array]:
    """Return curvatures of wildly different sizes, gradients and values."""
    h = (
        rng.standard_normal((n, d))
        * 10 ** rng.uniform(-4, 4, (n, 1))
        * 10 ** rng.uniform(-2, 2, (n, d))
    )
    g = rng.standard_normal((n, d)) * 10 ** rng.uniform(-3, 3, (n, 1))
    return h, g, 10 ** rng.uniform(-8, 4, n)


@pytest.mark.parametrize("d", [1, 2, 5, 60])
def test_random_problems_are_certified(d: int) -> None:
    h, g, q0 = random_problem(np.random.default_rng(d), 3000, d)
    solution = project_quadric(h, g, q0)
    assert_certified(h, g, q0, solution)
    # infinite exactly where the function is convex and its minimum positive
    convex = (h >= 0).all(1)
    minimum = q0 - 0.5 * (g**2 / np.abs(h)).sum(1)
    assert (np.isinf(solution.distance) == (convex & (minimum > 0))).all()


def test_the_safeguard_does_not_fire_at_convergence() -> None:
    # Almost linear functions: the starting point already is the root, up to the last bit, and the
    # last Newton step lands on either side of the bracket. A bisection there would end far away.
    rng = np.random.default_rng(3)
    for curvature in (1e-9, -1e-9, 1e-14, -1e-14, 0.0):
        g = rng.standard_normal((4000, 3))
        q0 = rng.uniform(1e-9, 1, 4000)
        solution = project_quadric(np.full(3, curvature), g, q0)
        first_order = q0 / np.linalg.norm(g, axis=1)
        near = first_order < 1e3  # there the curvature cannot matter
        assert np.allclose(solution.distance[near], first_order[near], rtol=1e-5)
        # nu is as precise as its logit, which is near -36 for the smallest curvature
        assert (solution.residual < 5e-14).all()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 10**6), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_units_do_not_matter(seed: int, value_unit: float, length_unit: float) -> None:
    h, g, q0 = random_problem(np.random.default_rng(seed), 5, 4)
    base = project_quadric(h, g, q0).distance
    scaled = project_quadric(
        h * value_unit / length_unit**2, g * value_unit / length_unit, q0 * value_unit
    ).distance
    assert np.allclose(scaled, base * length_unit, rtol=1e-10)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 10**6))
def test_no_sampled_step_is_shorter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, g, q0 = rng.standard_normal((1, 3)), rng.standard_normal((1, 3)), rng.uniform(0.1, 2, 1)
    distance = project_quadric(h, g, q0).distance[0]
    p = rng.standard_normal((2000, 3)) * 3
    inside = q0 + p @ g[0] + 0.5 * (p**2) @ h[0] <= 0
    if inside.any():
        assert distance <= np.linalg.norm(p[inside], axis=1).min()


@pytest.mark.parametrize("seed", range(4))
def test_against_a_general_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, g, q0 = rng.standard_normal(4), rng.standard_normal(4), 1.0
    h[0] = -1.0
    constraint = {
        "type": "ineq",
        "fun": lambda p: -(q0 + g @ p + 0.5 * (h * p) @ p),
        "jac": lambda p: -(g + h * p),
    }
    best = math.inf
    for _ in range(12):
        found = optimize.minimize(
            lambda p: 0.5 * p @ p,
            rng.standard_normal(4) * 2,
            jac=lambda p: p,
            constraints=[constraint],
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 200},
        )
        if found.success:
            best = min(best, math.sqrt(2 * found.fun))
    exact = project_quadric(h, g[None], [q0]).distance[0]
    assert exact == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_reference_gaussian_pairs(name: str) -> None:
    """The log-likelihood ratio of two Gaussians is a quadric in the whole space."""
    i = np.arange(12.0)[:, None]
    r = np.arange(2.0)
    loadings = [((7 * i + 3 * r) % 11 - 5) / 10, ((5 * i + 2 * r) % 13 - 6) / 10]
    means = [np.zeros(12), ((3 * i[:, 0]) % 7 - 3) / 10 + 0.5]
    noise = [1 / 25, 1 / 2 if "asym" in name else 1 / 25]
    covariances = [a @ a.T + s * np.eye(12) for a, s in zip(loadings, noise, strict=True)]
    own, other = (0, 1) if name.endswith("1to2") else (1, 0)
    if own == 0:
        x = ((4 * i[:, 0]) % 9 - 4) / 20 + loadings[0][:, 0] / 2 - loadings[0][:, 1] / 4
    else:
        x = means[1] + ((5 * i[:, 0]) % 9 - 4) / 20 + loadings[1][:, 0] / 2
    precisions = [np.linalg.inv(c) for c in covariances]
    to_own = precisions[own] @ (x - means[own])
    to_other = precisions[other] @ (x - means[other])
    log_ratio = np.linalg.slogdet(covariances[other])[1] - np.linalg.slogdet(covariances[own])[1]
    value = 0.5 * (log_ratio + (x - means[other]) @ to_other - (x - means[own]) @ to_own)
    curvature, basis = np.linalg.eigh(precisions[other] - precisions[own])
    curvature[np.abs(curvature) < 1e-12 * np.abs(curvature).max()] = 0.0
    solution = project_quadric(curvature, (basis.T @ (to_other - to_own))[None], [value])
    assert value == pytest.approx(float(PAIRS[name]["q0"]), rel=1e-12)
    assert solution.distance[0] == pytest.approx(float(PAIRS[name]["dist"]), rel=1e-12)
    assert solution.hard[0] == PAIRS[name]["hard"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [[math.nan]], [1.0]), "gradient must be finite"),
        (([1.0], [[1.0]], [math.inf]), "value must be finite"),
        (([1.0, 2.0], [[1.0]], [1.0]), "curvature must have shape"),
        (([1.0], [1.0], [1.0]), "gradient must have shape"),
        (([1.0], [[1.0]], [1.0, 2.0]), "gradient must have shape"),
    ],
)
def test_bad_input(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        project_quadric(*arguments)  # type: ignore[arg-type]


def test_no_points() -> None:
    assert project_quadric([1.0, 2.0], np.zeros((0, 2)), np.zeros(0)).distance.shape == (0,)


def test_a_centre_needs_curvature_wherever_there_is_a_gradient() -> None:
    with pytest.raises(ValueError, match="without curvature"):
        project_quadric([2.0, 0.0], [[1.0, 1.0]], [1.0], centre_value=[0.5])


def test_the_centre_value_changes_no_solution() -> None:
    generator = np.random.default_rng(1)
    h, z = generator.normal(size=6), generator.normal(size=(50, 6))
    centre = generator.normal(size=50)
    value = centre + 0.5 * (h * z**2).sum(axis=1)
    plain = project_quadric(h, h * z, value)
    centred = project_quadric(h, h * z, value, centre_value=centre)
    np.testing.assert_allclose(centred.distance, plain.distance, rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-300, 1e-100, 1e100, 1e300])
def test_values_of_any_size(unit: float) -> None:
    assert project_quadric([0.0], [[unit]], [unit]).distance == pytest.approx(1.0, rel=1e-14)
    bowl = project_quadric([-2 * unit], [[0.0]], [unit])
    assert bowl.distance == pytest.approx(1.0, rel=1e-14)
    assert bowl.hard.all()
    assert np.isinf(project_quadric([unit], [[0.0]], [unit]).distance)
    mixed = project_quadric([unit, -unit], [[0.3 * unit, 0.1 * unit]], [unit])
    plain = project_quadric([1.0, -1.0], [[0.3, 0.1]], [1.0])
    np.testing.assert_allclose(mixed.distance, plain.distance, rtol=1e-13)
    np.testing.assert_allclose(mixed.multiplier * unit, plain.multiplier, rtol=1e-12)


@pytest.mark.parametrize("length", [1e-150, 1e-60, 1e60, 1e150])
def test_lengths_of_any_size(length: float) -> None:
    x = np.array([[0.3, 0.4], [0.1, -0.2]])
    value = 1 - (x**2).sum(axis=1)
    found = project_quadric([-2 / length / length] * 2, -2 * x / length, value)
    np.testing.assert_allclose(found.distance, length * (1 - np.linalg.norm(x, axis=1)), rtol=1e-13)


def test_a_set_that_is_a_single_point_or_a_line_is_closed() -> None:
    # (1 + p)^2 <= 0 at p = -1 alone, and likewise along a line
    point = project_quadric([2.0], [[2.0]], [1.0])
    np.testing.assert_allclose(point.distance, [1.0], rtol=1e-15)
    line = project_quadric([2.0, 0.0], [[2.0, 0.0]], [1.0], centre_value=[0.0])
    np.testing.assert_allclose(line.displacement, [[-1.0, 0.0]], rtol=1e-15)
    assert np.isinf(line.multiplier)
    assert np.isinf(project_quadric([2.0], [[2.0]], [1.001]).distance)


def test_curvatures_and_slopes_out_of_reach_of_one_another() -> None:
    with pytest.raises(ArithmeticError, match="orders of magnitude"):
        project_quadric([2.0, -1e-320], [[0.0, 0.0]], [1.0])
    with pytest.raises(ArithmeticError, match="orders of magnitude"):
        project_quadric([2.0, 0.0], [[1.0, 1e-200]], [1.0])
    far = project_quadric([2.0, -1e-250], [[0.5, 0.0]], [1.0])
    assert far.distance == pytest.approx(math.sqrt(2 * (1 - 1 / 16)) * 1e125, rel=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_any_multiplier_bounds_the_distance_and_the_solutions_own_attains_it(seed):
    rng = np.random.default_rng(seed)
    curvature, gradient = rng.normal(size=(2, 50, 7))
    value = rng.uniform(0.1, 2, size=50)
    found = project_quadric(curvature, gradient, value)
    best = proven_length(curvature, gradient, value, found.multiplier)
    np.testing.assert_allclose(best, found.distance, rtol=1e-12)
    for factor in (0.0, 0.5, 0.9, 1.1, 2.0, np.inf):
        proven = proven_length(curvature, gradient, value, factor * found.multiplier)
        assert (proven <= found.distance * (1 + 1e-12)).all()
    near = proven_length(curvature, gradient, value, found.multiplier * (1 - 1e-4))
    assert (near >= 0.999 * found.distance).all()
