"""Exact nearest errors of ellipsoids: reference values, geometry, brute force, classifiers."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from trueboundary.certificates import (
    EllipsoidCertificate,
    nearest_ellipsoid,
    nearest_ellipsoid_error,
)
from trueboundary.classifiers import QuadraticNetwork
from trueboundary.domains import Shell, Space, Sphere
from trueboundary.theory import caps
from trueboundary.theory.quadratic_forms import ellipsoid_log_error

Array = npt.NDArray[np.float64]

REFERENCE = json.loads((Path(__file__).parents[1] / "reference.json").read_text())["b_nearest"][
    "values"
]

INDEX = np.arange(1, 501)
A3 = 9 / 200 + 1.5 * (2 * INDEX - 1) / 1000
SPIKE = np.array([0.79] * 499 + [4.0])
FLAT = np.ones(500)
SIN = np.sin(INDEX.astype(float) ** 2)
POINTS: dict[str, tuple[Array, Array]] = {
    "B_A3_flat_inner": (A3, FLAT),
    "B_A3_flat_outer": (A3, FLAT),
    "B_A3_sin_i2_inner": (A3, SIN),
    "B_A3_sin_i2_outer": (A3, SIN),
    "B_spike_flat_inner": (SPIKE, FLAT),
    "B_spike_zero_inner(hard)": (SPIKE, np.array([1.0] * 499 + [0.0])),
    "B_hard3_inner": (np.array([1.5, 0.7, 0.6]), np.array([0.0, 4.0, 3.0])),
    "B_d3_inner": (np.array([1.5, 0.7, 0.6]), np.array([2.0, 3.0, 6.0])),
    "B_d3_outer": (np.array([0.9, 0.7, 0.5]), np.array([6.0, 3.0, 2.0])),
    "B_nearhard3_inner": (np.array([1.5, 0.7, 0.6]), np.array([1e-9, 0.8, 0.6])),
}


def on_the_sphere(n: int, d: int, radius: float, seed: int) -> Array:
    """Return points uniform on a sphere."""
    x = np.random.default_rng(seed).standard_normal((n, d))
    return radius * x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_values(name: str) -> None:
    alphas, direction = POINTS[name]
    sphere = "outer" if "outer" in name else "inner"
    radius = 1.3 if sphere == "outer" else 1.0
    x = radius * direction[None] / np.linalg.norm(direction)
    case = REFERENCE[name]
    on = nearest_ellipsoid(x, alphas, sphere=sphere)
    off = nearest_ellipsoid(x, alphas, sphere=sphere, on_sphere=False)
    assert on.distance[0] == pytest.approx(float(case["chord"]), rel=1e-12)
    theta = 2 * math.asin(on.distance[0] / (2 * radius))
    assert theta == pytest.approx(float(case["theta"]), rel=1e-12)
    assert off.distance[0] == pytest.approx(float(case["off"]), rel=1e-12)
    assert (on.hard[0], off.hard[0]) == (case["hard_on"], case["hard_off"])
    assert max(on.residual[0], off.residual[0]) < 1e-14


def test_hard_case_in_closed_form() -> None:
    x = np.array([[0.0, 0.8, 0.6]])
    chord = nearest_ellipsoid_error(x, [1.5, 0.7, 0.6])[0]
    assert chord == pytest.approx(2 * math.sin(0.5 * math.acos(math.sqrt(0.6))), rel=1e-14)


spectra = st.lists(st.floats(0.02, 3.0), min_size=2, max_size=12)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(spectra, st.sampled_from(["inner", "outer"]), st.booleans(), st.integers(0, 10**6))
def test_nearest_errors_are_errors_at_their_distance(
    spectrum: list[float], sphere: str, on_sphere: bool, seed: int
) -> None:
    alphas = np.array(spectrum)
    radius = 1.0 if sphere == "inner" else 1.3
    x = on_the_sphere(20, alphas.size, radius, seed)
    result = nearest_ellipsoid(x, alphas, sphere=sphere, on_sphere=on_sphere)
    sign = 1 if sphere == "inner" else -1
    wrong = sign * (x**2 @ alphas - 1) >= 0
    assert (result.distance[wrong] == 0).all()
    assert (result.distance[~wrong] > 0).all()
    found = np.isfinite(result.distance) & ~wrong
    z = result.nearest[found]
    assert np.allclose(np.linalg.norm(z - x[found], axis=1), result.distance[found], rtol=1e-9)
    assert np.allclose(z**2 @ alphas, 1.0, rtol=1e-10)
    assert (result.residual < 1e-12).all()
    if on_sphere:
        assert np.allclose(np.linalg.norm(z, axis=1), radius, rtol=1e-14)
        any_error = alphas.max() > 1 if sphere == "inner" else alphas.min() < 1 / radius**2
        assert np.isfinite(result.distance).all() == (any_error or bool(wrong.all()))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(spectra, st.sampled_from(["inner", "outer"]), st.integers(0, 10**6))
def test_the_sphere_only_makes_errors_farther(
    spectrum: list[float], sphere: str, seed: int
) -> None:
    alphas = np.array(spectrum)
    x = on_the_sphere(20, alphas.size, 1.0 if sphere == "inner" else 1.3, seed)
    on = nearest_ellipsoid_error(x, alphas, sphere=sphere)
    off = nearest_ellipsoid_error(x, alphas, sphere=sphere, on_sphere=False)
    # A point is off its sphere by a rounding error, which counts where the surface is the sphere.
    assert (off <= on * (1 + 1e-12) + 1e-15).all()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(spectra, st.integers(0, 10**6))
def test_permutations_and_reflections_do_not_matter(spectrum: list[float], seed: int) -> None:
    alphas = np.array(spectrum)
    rng = np.random.default_rng(seed)
    x = on_the_sphere(10, alphas.size, 1.0, seed)
    order = rng.permutation(alphas.size)
    signs = rng.choice([-1.0, 1.0], alphas.size)
    moved = nearest_ellipsoid_error((x * signs)[:, order], alphas[order])
    assert np.allclose(moved, nearest_ellipsoid_error(x, alphas), rtol=1e-12)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(spectra, st.integers(0, 11), st.floats(1e-3, 1.0), st.integers(0, 10**6))
def test_larger_alphas_bring_inner_errors_nearer(
    spectrum: list[float], which: int, gain: float, seed: int
) -> None:
    alphas = np.array(spectrum)
    x = on_the_sphere(10, alphas.size, 1.0, seed)
    raised = alphas.copy()
    raised[which % alphas.size] += gain
    before, after = nearest_ellipsoid_error(x, alphas), nearest_ellipsoid_error(x, raised)
    assert (after <= before * (1 + 1e-12)).all()


@pytest.mark.parametrize("sphere", ["inner", "outer"])
@pytest.mark.parametrize("d", [3, 4])
def test_against_a_general_solver(sphere: str, d: int) -> None:
    alphas = np.array([1.4, 0.75, 0.5, 0.9])[:d]
    radius, sign = (1.0, 1.0) if sphere == "inner" else (1.3, -1.0)
    rng = np.random.default_rng(d)
    for x in on_the_sphere(3, d, radius, d):
        if sign * (x**2 @ alphas - 1) >= 0:
            continue
        best = math.inf
        for _ in range(12):
            start = rng.standard_normal(d)
            found = optimize.minimize(
                lambda z, x=x: 0.5 * (z - x) @ (z - x),
                radius * start / np.linalg.norm(start),
                jac=lambda z, x=x: z - x,
                constraints=[
                    {"type": "ineq", "fun": lambda z: sign * (z**2 @ alphas - 1)},
                    {"type": "eq", "fun": lambda z: z @ z - radius**2},
                ],
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 300},
            )
            if found.success:
                best = min(best, math.sqrt(2 * found.fun))
        exact = nearest_ellipsoid_error(x[None], alphas, sphere=sphere)[0]
        assert exact == pytest.approx(best, rel=1e-6)


def test_no_sampled_error_is_nearer() -> None:
    alphas = np.array([1.6, 0.9, 0.7, 0.4])
    x = on_the_sphere(20, 4, 1.0, 0)
    cloud = on_the_sphere(20_000, 4, 1.0, 1)
    errors = cloud[cloud**2 @ alphas >= 1]
    sampled = np.linalg.norm(x[:, None] - errors[None], axis=2).min(1)
    exact = nearest_ellipsoid_error(x, alphas)
    wrong = x**2 @ alphas >= 1
    assert (exact <= sampled).all()
    assert np.allclose(exact[~wrong], sampled[~wrong], atol=0.1)


def test_single_spike_is_a_pair_of_caps() -> None:
    # One alpha above 1 and the rest equal: the errors are two antipodal caps, found by angle alone.
    alphas = np.array([4.0] + [0.79] * 9)
    x = on_the_sphere(500, 10, 1.0, 2)
    cap = math.atan(math.sqrt(3.0 / 0.21))  # 3 z_1^2 = 0.21 |z_rest|^2
    polar = np.arctan2(np.linalg.norm(x[:, 1:], axis=1), np.abs(x[:, 0]))
    expected = 2 * np.sin(0.5 * np.maximum(polar - cap, 0))
    assert np.allclose(nearest_ellipsoid_error(x, alphas), expected, atol=1e-14)
    log_error = math.log(2) + caps.log_measure(10, cap)
    assert ellipsoid_log_error(alphas) == pytest.approx(log_error, rel=1e-12)


@pytest.mark.parametrize("sphere", ["inner", "outer"])
def test_mean_distance_never_beats_the_cap(sphere: str) -> None:
    alphas = np.linspace(0.2, 1.4, 60)
    radius = 1.0 if sphere == "inner" else 1.3
    x = on_the_sphere(400, 60, radius, 3)
    distance = nearest_ellipsoid_error(x, alphas, sphere=sphere)
    best = caps.mean_distance(
        60, log_measure=ellipsoid_log_error(alphas, sphere=sphere), radius=radius
    )
    assert distance.mean() < best


def test_degenerate_spectra() -> None:
    x = on_the_sphere(5, 3, 1.0, 0)
    assert (nearest_ellipsoid_error(x, [1.0, 1.0, 1.0]) == 0).all()  # a sum of 1 is an error
    assert (nearest_ellipsoid_error(x, [1.1, 1.1, 1.1]) == 0).all()
    assert np.isinf(nearest_ellipsoid_error(x, [0.0, 0.0, 0.0], on_sphere=False)).all()
    outside = nearest_ellipsoid_error(x, [0.25, 0.25, 0.25], on_sphere=False)
    assert outside == pytest.approx(1.0)
    assert np.isfinite(nearest_ellipsoid_error(x, [1e12, 0.5, 0.0])).all()
    assert nearest_ellipsoid_error([[1.0], [-1.0]], [0.25], on_sphere=False) == pytest.approx(1.0)
    flat = nearest_ellipsoid_error([[0.0, 1.3]], [5.0, 0.0], sphere="outer")
    assert flat == 0.0  # a vanishing alpha classifies its own axis as inner


@dataclass
class Ellipsoid:
    alphas: Array
    axes: Array
    scale: float


@dataclass
class Network:
    """A classifier with a given ellipsoid."""

    surface: Ellipsoid

    def ellipsoid(self) -> Ellipsoid:
        return self.surface

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        z = x.numpy() @ self.surface.axes
        return torch.from_numpy(self.surface.scale * (z**2 @ self.surface.alphas - 1))


def rotated(alphas: list[float], scale: float = 2.0, seed: int = 0) -> Network:
    """Return a network whose ellipsoid has random axes."""
    axes = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(alphas),) * 2))[0]
    return Network(Ellipsoid(np.array(alphas), axes, scale))


def certified(network: Any, x: Array, y: Any, **settings: Any) -> Any:
    """Call the certificate with tensors and return its answer as arrays."""
    found = EllipsoidCertificate()(
        network, torch.from_numpy(x), torch.as_tensor(y, dtype=torch.int64), **settings
    )
    return SimpleNamespace(
        **{name: getattr(found, name).numpy() for name in ("distance", "nearest", "exact")},
        warnings=found.warnings,
    )


@pytest.mark.parametrize("scale", [2.0, -2.0])
def test_certificate_rotates_and_honours_labels(scale: float) -> None:
    network = rotated([1.5, 0.8, 0.7, 0.4], scale)
    axes, alphas = network.surface.axes, network.surface.alphas
    x = np.concatenate([on_the_sphere(6, 4, 1.0, 1), on_the_sphere(6, 4, 1.3, 2)])
    y = np.repeat([0, 1], 6)
    result = certified(network, x, y, domain=Sphere())
    seen = y if scale > 0 else 1 - y
    for point, label, distance, nearest in zip(
        x, seen, result.distance, result.nearest, strict=True
    ):
        r = float(np.linalg.norm(point))
        scaled = alphas * r**2  # a sphere of radius r is the unit sphere of r^2 alpha
        unit = (point @ axes / r)[None]
        if label == 0:
            expected = r * nearest_ellipsoid_error(unit, scaled)[0]
        else:
            expected = (
                r / 1.3 * nearest_ellipsoid_error(1.3 * unit, scaled / 1.69, sphere="outer")[0]
            )
        assert distance == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert np.linalg.norm(nearest - point) == pytest.approx(distance, rel=1e-7, abs=1e-12)


def test_certificate_of_a_trained_shape_takes_tensors() -> None:
    generator = torch.Generator().manual_seed(0)
    network = QuadraticNetwork(5, 12, generator=generator)
    x = torch.from_numpy(on_the_sphere(8, 5, 1.0, 4)).float()
    y = torch.zeros(8, dtype=torch.int64)
    for domain in (None, Space(), Sphere(1.0), Sphere()):
        result = EllipsoidCertificate()(network, x, y, domain=domain)
        assert result.exact.all()
        with torch.no_grad():
            already_wrong = network.margin(x) >= 0
            margin = network.margin(result.nearest.nan_to_num().float())
        assert ((result.distance == 0) == already_wrong).all()
        on_boundary = result.distance.isfinite() & ~already_wrong
        assert margin[on_boundary].abs().max() < 1e-4 * abs(network.ellipsoid().scale)


def test_shell_is_exact_only_where_the_nearest_error_lies_in_it() -> None:
    x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2, dtype=int)
    network = Network(Ellipsoid(np.array([0.7, 0.3]), np.eye(2), 1.0))
    result = certified(network, x, y, domain=Shell(1.0, 1.3))
    assert result.exact.tolist() == [True, False]  # surface at 1.195 along z_1, at 1.826 along z_2
    space = certified(network, x, y)
    assert (result.distance == space.distance).all()
    assert space.exact.all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nearest_ellipsoid_error([[2.0, 0.0]], [1.5, 0.5]), ValueError, "on their sphere"),
        (lambda: nearest_ellipsoid_error([[0.0, 0.0]], [1.5, 0.5]), ValueError, "on their sphere"),
        (lambda: nearest_ellipsoid_error([1.0, 0.0], [1.5, 0.5]), ValueError, "shape"),
        (lambda: nearest_ellipsoid_error([[1.0, 0.0]], [1.5]), ValueError, "shape"),
        (lambda: nearest_ellipsoid_error([[math.nan, 0.0]], [1.5, 0.5]), ValueError, "finite"),
        (lambda: nearest_ellipsoid_error([[1.0]], [math.inf]), ValueError, "finite"),
        (lambda: nearest_ellipsoid_error([[1.0]], [1.0], sphere="x"), ValueError, "sphere must"),
        (lambda: nearest_ellipsoid_error([[1.0]], [1.0], radius=1.0), ValueError, "radius must"),
        (lambda: nearest_ellipsoid([[1e9]], [1e300], on_sphere=False), ValueError, "be float64"),
        (
            lambda: certified(rotated([1.0, 2.0]), 1e70 * np.eye(2), np.zeros(2), domain=Sphere()),
            ValueError,
            "radius of a sphere",
        ),
        (
            lambda: certified(rotated([1.0, 2.0], 0.0), np.eye(2), np.zeros(2)),
            ValueError,
            "scale must be finite and not 0",
        ),
        (
            lambda: certified(lambda x: x[:, 0], np.eye(2), np.zeros(2)),
            TypeError,
            "method ellipsoid",
        ),
    ],
)
def test_bad_input(call: object, error: type[Exception], message: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("excess", [1e-3, 1e-8, 1e-11, 1e-14])
def test_a_needle_of_a_cone_keeps_its_digits(excess: float) -> None:
    alphas = np.append(np.full(49, 0.9), 1 + excess)
    points = np.random.default_rng(0).normal(size=(40, 50))
    points[0] = np.eye(50)[0]  # orthogonal to the axis: the hard case
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    half_angle = math.atan(math.sqrt((alphas[-1] - 1) / (1 - alphas[0])))
    polar = np.arctan2(np.linalg.norm(points[:, :-1], axis=1), np.abs(points[:, -1]))
    expected = 2 * np.sin(np.maximum(polar - half_angle, 0) / 2)
    result = nearest_ellipsoid(points, alphas)
    np.testing.assert_allclose(result.distance, expected, rtol=1e-14)
    gaps = np.linalg.norm(result.nearest - points, axis=1)
    np.testing.assert_allclose(gaps, result.distance, rtol=1e-9)


@pytest.mark.parametrize("steepness", [1e4, 1e12])
def test_a_thin_slab_keeps_its_digits(steepness: float) -> None:
    # Along the axis the way to {steepness z^2 + 0.7 rho^2 <= 1} ends at z = 1 / sqrt(steepness).
    x = [[1.3] + [0.0] * 4]
    distance = nearest_ellipsoid_error(x, [steepness] + [0.7] * 4, sphere="outer", on_sphere=False)
    np.testing.assert_allclose(distance, 1.3 - steepness**-0.5, rtol=1e-14)


def test_errors_without_interior_are_errors() -> None:
    # z_1^2 + z_2^2 / 2 >= 1 on the unit circle: two points.
    circle = nearest_ellipsoid([[0.6, 0.8], [0.0, 1.0], [1.0, 0.0]], [1.0, 0.5])
    np.testing.assert_allclose(circle.distance, [math.sqrt(0.8), math.sqrt(2), 0.0], rtol=1e-15)
    np.testing.assert_allclose(np.abs(circle.nearest), [[1.0, 0.0]] * 3)
    assert circle.hard.tolist() == [False, True, False]
    # A great circle of the unit sphere, and of the outer one.
    x, chord = np.array([[0.48, 0.64, 0.6]]), 2 * math.sin(math.atan2(0.6, 0.8) / 2)
    inner = nearest_ellipsoid(x, [1.0, 1.0, 0.3])
    assert inner.distance[0] == pytest.approx(chord, rel=1e-15)
    np.testing.assert_allclose(inner.nearest, [[0.6, 0.8, 0.0]], rtol=1e-15)
    outer = nearest_ellipsoid_error(2 * x, [0.25, 0.25, 0.3], sphere="outer", radius=2.0)
    assert outer[0] == pytest.approx(2 * chord, rel=1e-15)
    # All of the sphere, and nothing of it.
    assert nearest_ellipsoid_error(2 * x, [0.25] * 3, sphere="outer", radius=2.0) == 0
    assert np.isinf(nearest_ellipsoid_error(x, [1 - 1e-16] * 3))


@pytest.mark.parametrize("spread", [1e-3, 3e-13, 1e-15, 2e-16])
def test_alphas_next_to_the_inverse_square_of_the_radius(spread: float) -> None:
    # Errors of the outer sphere are sum (1/R^2 - alpha) z^2 >= 0: 1/R^2 must not be rounded.
    rng = np.random.default_rng(0)
    for radius in (1.1, 1.3, 2.7):
        alphas = 1 / radius**2 + spread * rng.standard_normal((20, 3))
        for x, row in zip(on_the_sphere(20, 3, radius, 1), alphas, strict=True):
            with mpmath.workdps(50):
                inverse = 1 / mpmath.mpf(radius) ** 2
                weights = [inverse - mpmath.mpf(float(a)) for a in row]
                scale = max(abs(w) for w in weights)
                unit_weights = np.array([float(w / scale) for w in weights])
            # The same cone, from weights that are no differences.
            expected = radius * nearest_ellipsoid_error(x[None] / radius, 1 + unit_weights)[0]
            found = nearest_ellipsoid_error(x[None], row, sphere="outer", radius=radius)[0]
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_distances_are_exact_only_where_the_alphas_determine_them() -> None:
    x, y = on_the_sphere(20, 4, 1.3, 5), np.ones(20, dtype=int)
    certificate = certified
    network = rotated([0.3, 0.9, 0.8, 0.7])
    assert certificate(network, x, y, domain=Sphere()).exact.all()
    # Alphas that differ from 1/R^2 by their own rounding decide nothing.
    near = rotated(list(1 / 1.3**2 + 3e-16 * np.array([-1.0, 1.0, 2.0, 1.0])))
    result = certificate(near, x, y, domain=Sphere(1.3))
    assert not result.exact.all()
    assert (result.distance == 0).any()
    # Errors that only rounding could have made, or removed: none of which is claimed.
    touching = rotated([1 / 1.3**2 * (1 + 1e-15)] + [0.9] * 3)
    bound = certificate(touching, x, y, domain=Sphere(1.3))
    assert not bound.exact.any()
    assert np.isfinite(bound.distance).all()
    assert np.isinf(certificate(rotated([0.8] * 4), x, y, domain=Sphere(1.3)).distance).all()
    # In space: the small alphas are lost beside the large one.
    steep = certificate(rotated([1e15, 0.3, 0.8, 0.7], -2.0), x, np.zeros(20))
    assert not steep.exact.all()


@pytest.mark.parametrize("unit", [1e-150, 1e-100, 1e100, 1e150])
def test_units_of_length_do_not_matter_in_space(unit: float) -> None:
    x, alphas = on_the_sphere(10, 3, 1.0, 6), np.array([0.7, 0.4, -0.3])
    plain = nearest_ellipsoid(x, alphas, on_sphere=False)
    scale = 2.0 ** round(math.log2(unit))
    moved = nearest_ellipsoid(x * scale, alphas / scale / scale, on_sphere=False)
    np.testing.assert_allclose(moved.distance, plain.distance * scale, rtol=1e-13)
