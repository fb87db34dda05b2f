"""The nearest error where it is known, on boundaries that are smooth and that have kinks."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import trueboundary as tb
from trueboundary.attacks import Box, ManifoldAttack, NearestError, Space
from trueboundary.attacks import nearest_error as module
from trueboundary.certificates import EllipsoidCertificate


def points(n, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def corner(x):
    """Class 1 where every coordinate exceeds 3: the nearest error takes the others up to 3."""
    return x.amin(dim=1) - 3.0


def test_it_finds_the_edge_that_many_planes_share():
    x = points(20, 5)
    result = NearestError()(corner, x, torch.zeros(20, dtype=torch.int64))
    truth = (3.0 - x).clamp(min=0).norm(dim=1)
    torch.testing.assert_close(result.distance, truth, rtol=1e-6, atol=0)
    slides = NearestError(n_slides=100, n_cuts=0)(corner, x, torch.zeros(20, dtype=torch.int64))
    assert (result.distance <= slides.distance * (1 + 1e-6)).all()
    assert (slides.distance / truth).median() > 1.01, "without cuts the kink is where it stops"


def test_it_stays_in_a_box_at_a_kink():
    x = points(12, 4).clamp(-2, 2)
    result = NearestError()(corner, x, torch.zeros(12, dtype=torch.int64), domain=Box(-4.0, 3.5))
    torch.testing.assert_close(
        result.distance, (3.0 - x).clamp(min=0).norm(dim=1), rtol=1e-5, atol=0
    )


def nearest_of_box_on_plane(x, normal, offset, low, high):
    """Return z = clip(x + t n) with n z = offset, whose multiplier t is found by bisection."""
    ends = np.zeros(len(x)), np.full(len(x), 1e3)
    for _ in range(100):
        middle = (ends[0] + ends[1]) / 2
        z = np.clip(x + middle[:, None] * normal, low, high)
        short = z @ normal < offset
        ends = np.where(short, middle, ends[0]), np.where(short, ends[1], middle)
    return np.clip(x + ends[1][:, None] * normal, low, high)


def test_walls_of_a_box_hold_what_is_pushed_against_them():
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 1, (30, 40)).round(1)  # some start on a wall
    normal = rng.normal(size=40)
    offset = (x @ normal).max() + 2.0
    nearest = nearest_of_box_on_plane(x, normal, offset, 0.0, 1.0)
    assert ((nearest == 0) | (nearest == 1)).sum(axis=1).mean() > 5, "walls bind"
    plane = torch.from_numpy(normal)
    result = NearestError()(
        lambda points: points @ plane - offset,
        torch.from_numpy(x),
        torch.zeros(30, dtype=torch.int64),
        domain=Box(0.0, 1.0),
    )
    truth = np.linalg.norm(nearest - x, axis=1)
    np.testing.assert_allclose(result.distance.numpy(), truth, rtol=1e-7)
    assert (result.n_forward + result.n_backward).double().mean() < 100


def test_walls_hold_where_planes_meet():
    """Held against scipy's solver of the same quadratic program."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(6)
    normals = rng.normal(size=(3, 8))
    x = rng.uniform(0, 1, (6, 8))
    offsets = normals @ np.where(normals.sum(axis=0) > 0, 0.9, 0.1) - 0.1
    result = NearestError()(
        lambda points: (points @ torch.from_numpy(normals.T) - torch.from_numpy(offsets)).amin(1),
        torch.from_numpy(x),
        torch.zeros(6, dtype=torch.int64),
        domain=Box(0.0, 1.0),
    )
    for start, distance in zip(x, result.distance.tolist(), strict=True):
        solved = minimize(
            lambda z, start=start: ((z - start) ** 2).sum(),
            np.where(normals.sum(axis=0) > 0, 0.9, 0.1),
            bounds=[(0, 1)] * 8,
            constraints={"type": "ineq", "fun": lambda z: normals @ z - offsets},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert solved.success
        assert distance == pytest.approx(np.sqrt(solved.fun), rel=1e-5)


def test_it_meets_the_exact_distance_of_an_ellipsoid_in_many_dimensions():
    generator = torch.Generator().manual_seed(3)
    network = tb.QuadraticNetwork(300, 600, generator=generator)
    x, y = tb.ConcentricSpheres(300).sample(20, generator=generator)
    truth = EllipsoidCertificate()(network, x, y).distance
    result = NearestError()(network, x, y)
    right = truth > 0
    excess = result.distance.double()[right] / truth[right] - 1
    assert excess.median() < 1e-5
    assert excess.max() < 1e-3
    assert (result.n_forward + result.n_backward)[right].double().mean() < 100


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scaling_the_logits_changes_nothing(scale):
    x, y = points(8, 5), torch.zeros(8, dtype=torch.int64)
    plain, scaled = (NearestError()(margin, x, y).distance for margin in
                     (corner, lambda x: scale * corner(x)))  # fmt: skip
    torch.testing.assert_close(scaled, plain, rtol=1e-6, atol=0)


def test_the_point_beyond_planes_is_that_of_a_quadratic_program():
    """Held against scipy's solver for non-negative least squares on the dual."""
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    for _ in range(20):
        normals = rng.normal(size=(4, 7))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        on_plane, x = rng.normal(size=(4, 7)) + 1.0, rng.normal(size=7)
        planes = module._Planes.none(torch.zeros(1, 7, dtype=torch.float64))
        for step in range(4):
            point, normal = (torch.from_numpy(a[[step]]) for a in (on_plane, normals))
            planes.add(step, point, torch.zeros(1, dtype=torch.float64), 3.0 * normal)
        found = planes.nearest_beyond(torch.from_numpy(x[None]), Space())[0].numpy()
        # min |N^T w|^2 / 2 - w^T c with w >= 0 is nnls of a large multiple of the constraint row.
        ahead = (normals * (on_plane - x)).sum(axis=1)
        factor = np.linalg.cholesky(normals @ normals.T).T  # (4, 4)
        weights, _ = nnls(factor, np.linalg.solve(factor.T, ahead))
        np.testing.assert_allclose(found, x + normals.T @ weights, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def network():
    """A piecewise linear network with points on both sides of its boundary."""
    network = tb.ReLUNetwork(12, 40, 2, generator=torch.Generator().manual_seed(1)).double().eval()
    x = points(16, 12, seed=2)
    margins = network.margin(x).detach()
    return lambda x: network.margin(x) - margins.median(), x, (margins > margins.median()).long()


def test_every_part_of_the_search_only_brings_errors_nearer(network):
    parts = [{"n_slides": 1, "n_hops": 0, "n_cuts": 0}, {"n_hops": 0, "n_cuts": 0}, {"n_hops": 0}]
    parts.append({})
    found = [NearestError(**settings)(*network).distance for settings in parts]
    for before, after in pairwise(found):
        # A rounding of the points apart: one of them lies on the boundary.
        assert (after <= before * (1 + 1e-9) + 1e-14).all()
    assert found[-1].mean() < 0.995 * found[0].mean()
    published = ManifoldAttack()(*network, domain=Space()).distance
    assert found[-1].median() < published.median()


def test_hops_leave_kinks_that_slides_end_at(network):
    slides, hops = (NearestError(n_hops=n)(*network).distance for n in (0, 6))
    assert (hops < slides * (1 - 1e-6)).double().mean() > 0.2


def test_hops_draw_from_the_generator_alone(network):
    margin, x, y = network
    runs = [
        NearestError()(margin, x, y, generator=torch.Generator().manual_seed(seed)).distance
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_scaling_the_logits_of_a_network_changes_nothing(scale, network):
    """By powers of two: others round otherwise, and hops may end in another kink then."""
    margin, x, y = network
    scaled = NearestError()(lambda x: scale * margin(x), x, y).distance
    assert torch.equal(scaled, NearestError()(margin, x, y).distance)


def test_curvature_of_a_quadratic_gives_newtons_step():
    """After as many steps as there are dimensions L-BFGS knows the whole matrix."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(4)
    memory = module._Curvature.none(torch.zeros(1, 4, dtype=torch.float64))
    everyone = torch.ones(1, dtype=torch.bool)
    steps = torch.linalg.eigh(matrix).eigenvectors.T  # conjugate directions
    for step in steps:
        memory.add(everyone, step[None], (matrix @ step)[None])
    slope = torch.randn(4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(memory.newton(slope[None])[0], torch.linalg.solve(matrix, slope))


def test_of_ten_faces_the_nearest_is_found_and_not_the_steepest(generator: torch.Generator) -> None:
    weight = torch.randn(10, 12, generator=generator, dtype=torch.float64)
    weight[::2] *= 5  # steep ones lead where a climb begins
    x = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    logits = x @ weight.T
    y = logits.argmax(1)
    gaps = logits.gather(1, y[:, None]) - logits
    slopes = (weight[y][:, None] - weight[None]).norm(dim=2)
    truth = torch.where(slopes > 0, gaps / slopes, math.inf).amin(1)
    found = NearestError()(lambda points: points @ weight.T, x, y)
    assert (found.distance / truth - 1).quantile(0.9) < 1e-4
    one_way = NearestError(n_ways=1)(lambda points: points @ weight.T, x, y)
    assert (found.distance <= one_way.distance * (1 + 1e-9)).all()
    assert found.n_forward.sum() > one_way.n_forward.sum()
