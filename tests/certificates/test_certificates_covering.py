"""Proofs on whole spheres, and error rates from certified radii."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trueboundary.certificates import (
    ProvenErrorBound,
    SphereProof,
    angles_of_chords,
    choose_angle,
    prove_sphere_error_free,
    proven_error_bound,
)
from trueboundary.certificates.covering import _caps, _faces, _halve
from trueboundary.theory import caps
from trueboundary.theory.intervals import clopper_pearson

Layers = list[tuple[Tensor, Tensor]]


def polytope(dim: int, n_sides: int, offset: float, seed: int = 0) -> Layers:
    """Return a network whose margin is about |z| - offset: a mean of ReLUs in all directions.

    The mean of relu(u.z) over directions u is proportional to |z|; scaled so that it is |z|.
    """
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(n_sides, dim, generator=generator, dtype=torch.float64)
    units = torch.cat([half, -half])
    units = units / units.norm(dim=1, keepdim=True)
    x = torch.randn(4000, dim, generator=generator, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    scale = 1 / torch.relu(x @ units.T).sum(1).mean()
    readout = torch.full((1, 2 * n_sides), scale.item(), dtype=torch.float64)
    return [
        (units, torch.zeros(2 * n_sides, dtype=torch.float64)),
        (readout, torch.tensor([-offset], dtype=torch.float64)),
    ]


def margin(layers: Layers, x: Tensor) -> Tensor:
    """Return the margin of a network with one hidden layer."""
    (first, first_bias), (last, last_bias) = layers
    return (torch.relu(x @ first.T + first_bias) @ last.T + last_bias).squeeze(1)


def on_the_sphere(n: int, dim: int, radius: float) -> Tensor:
    """Return points uniform on a sphere."""
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return radius * x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("dim", "n_sides"), [(2, 12), (3, 200), (4, 1500)])
def test_a_polytope_between_the_spheres_is_proven_right_on_both(dim: int, n_sides: int) -> None:
    layers = polytope(dim, n_sides, offset=1.15)
    for radius, label, sign in ((1.0, 0, -1), (1.3, 1, 1)):
        proof = prove_sphere_error_free(layers, radius, label=label)
        assert proof.status == "proven", str(proof)
        assert proof.n_open == 0
        assert proof.error is None
        sampled = (sign * margin(layers, on_the_sphere(20_000, dim, radius))).min().item()
        assert 0 < proof.smallest_margin <= sampled
        assert "proven" in str(proof)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_an_error_is_found(dim: int) -> None:
    # A spike near one pole: an error cap of about 0.1 rad on the inner sphere.
    first, first_bias = polytope(dim, 40, offset=0.0)[0]
    last = polytope(dim, 40, offset=0.0)[1][0]
    pole = torch.zeros(1, dim, dtype=torch.float64)
    pole[0, :2] = torch.tensor([0.6, 0.8])
    layers = [
        (torch.cat([first, pole]), torch.cat([first_bias, torch.tensor([-0.995]).double()])),
        (
            torch.cat([last, torch.tensor([[400.0]]).double()], dim=1),
            torch.tensor([-1.5], dtype=torch.float64),
        ),
    ]
    proof = prove_sphere_error_free(layers, 1.0, label=0)
    assert proof.status == "error"
    assert proof.error is not None
    assert np.linalg.norm(proof.error) == pytest.approx(1)
    assert margin(layers, torch.from_numpy(proof.error)[None]).item() >= 0
    assert proof.smallest_margin <= 0
    assert "errs" in str(proof)


def test_a_tiny_error_is_never_proven_away() -> None:
    """An error cap of 1e-6 rad around a direction that is no cell's centre."""
    pole = torch.tensor([[math.cos(1.0), math.sin(1.0)]], dtype=torch.float64)
    edge = math.cos(1e-6)
    layers = [
        (pole, torch.tensor([-edge], dtype=torch.float64)),
        (torch.tensor([[2 / (1 - edge)]]).double(), torch.tensor([-1.0]).double()),
    ]
    assert prove_sphere_error_free(layers, 1.0, label=0).status == "error"
    stopped = prove_sphere_error_free(layers, 1.0, label=0, max_cells=10)
    assert stopped.status == "undecided"
    assert stopped.n_cells == 10
    assert stopped.n_open > 0
    assert stopped.smallest_margin < 0
    assert "max_cells" in str(stopped)


def test_a_margin_that_touches_zero_is_not_proven() -> None:
    """Neither class is right where the margin is exactly 0, so that nothing can be proven."""
    layers: Layers = [
        (torch.tensor([[1.0, 0.0]]).double(), torch.tensor([-math.cos(1e-3)]).double()),
        (torch.tensor([[-1.0]]).double(), torch.zeros(1).double()),
    ]
    for label in (0, 1):
        proof = prove_sphere_error_free(layers, 1.0, label=label, max_cells=200)
        assert proof.status != "proven"


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_cells_cover_the_sphere_and_lie_in_their_caps(dim: int) -> None:
    low, high = _faces(dim)
    for _ in range(2 * (dim - 1)):
        low, high = _halve(low, high)
    centre, angle = _caps(low, high)
    x = on_the_sphere(1000, dim, 1.0).numpy()
    cube = 4 / np.pi * np.arctan(x / np.abs(x).max(axis=1, keepdims=True))
    inside = ((cube[:, None] >= low - 1e-12) & (cube[:, None] <= high + 1e-12)).all(axis=2)
    assert inside.any(axis=1).all()
    apart = 2 * np.arcsin(0.5 * np.linalg.norm(x[:, None] - centre, axis=2).clip(max=2))
    assert (apart <= angle)[inside].all()
    assert len(low) == 2 * dim * 2 ** (2 * (dim - 1))
    # Cells of one generation are alike: no cap is far larger than the others.
    assert angle.max() < 3 * angle.min()


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"radius": 0.0}, ValueError, "radius"),
    ({"radius": math.nan}, ValueError, "radius"),
    ({"label": 2}, ValueError, "label"),
    ({"max_cells": 0}, ValueError, "max_cells"),
    ({"network": 3}, TypeError, "ReLUNetwork"),
    ({"network": polytope(11, 12, 1.0)}, ValueError, "2 to 10 inputs"),
    ({"network": [(torch.ones(1, 1), torch.ones(1))]}, ValueError, "2 to 10 inputs"),
]


@pytest.mark.parametrize(("change", "error", "match"), BAD)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments = {"network": polytope(3, 4, 1.0), "radius": 1.0, "label": 0} | change
    network, radius = arguments.pop("network"), arguments.pop("radius")
    with pytest.raises(error, match=match):
        prove_sphere_error_free(network, radius, **arguments)


def test_a_proof_has_a_known_status() -> None:
    with pytest.raises(ValueError, match="'proven'"):
        SphereProof("done", 1, 0, 0.1)  # type: ignore[arg-type]


# --- error rates from certified radii


def test_the_bound_is_that_of_the_caps() -> None:
    angles = np.array([0.1] * 990 + [0.05] * 7 + [0.0] * 3)
    bound = proven_error_bound(angles, 100, 0.1, confidence=0.95)
    assert (bound.n_points, bound.n_exceptions, bound.angle) == (1000, 10, 0.1)
    expected = caps.log_amplified_error_bound(100, 1000, 0.1, n_exceptions=10, confidence=0.95)
    assert bound.log_error_rate == expected
    assert bound.error_rate == pytest.approx(math.exp(expected))
    assert bound.log10 == pytest.approx(expected / math.log(10))
    assert "990 of 1,000" in str(bound)


def test_an_angle_of_zero_gives_clopper_pearson() -> None:
    angles = np.array([0.2] * 95 + [0.0] * 5)
    bound = proven_error_bound(angles, 10, 1e-12)
    limit = clopper_pearson(5, 100, 0.99, side="upper").high
    assert bound.error_rate == pytest.approx(limit, rel=1e-9)


def test_whole_spheres_can_be_proven_empty() -> None:
    bound = proven_error_bound(np.full(1000, np.inf), 500, math.pi)
    assert (bound.error_rate, bound.log10) == (0.0, -math.inf)
    assert "is 0" in str(bound)


def test_bounds_hold_for_a_cap_as_often_as_they_say() -> None:
    """Errors that fill a cap, certified exactly: the bound fails in at most 10 % of the draws."""
    dim, phi, n_trials = 6, 0.9, 400
    rng = np.random.default_rng(0)
    truth = caps.measure(dim, phi)
    held = 0
    for _ in range(n_trials):
        x = rng.standard_normal((60, dim))
        to_cap = np.arccos(x[:, 0] / np.linalg.norm(x, axis=1)) - phi
        bound = proven_error_bound(np.maximum(to_cap, 0), dim, 0.3, confidence=0.9)
        held += bound.error_rate >= truth
    # Both sides: the bound is exact for caps, so that it must also fail about as often as it may.
    assert 0.9 * n_trials - 3 * 6 <= held < n_trials


def test_the_chosen_angle_trades_exceptions_against_amplification() -> None:
    pilot = np.concatenate([np.full(2, 0.01), np.linspace(0.09, 0.11, 98)])
    angle = choose_angle(pilot, 500, n_points=10_000)
    assert angle in pilot
    assert angle > 0.05
    rng = np.random.default_rng(1)
    test = rng.choice(pilot, 10_000)
    chosen = proven_error_bound(test, 500, angle).log10
    assert chosen < proven_error_bound(test, 500, 0.01).log10
    assert chosen < proven_error_bound(test, 500, 0.11).log10
    assert choose_angle([0.1, math.inf], 500, n_points=100) in (0.1, math.pi)
    assert choose_angle(np.zeros(5), 3, n_points=100) == 0.0


def test_angles_of_chords() -> None:
    angles = np.array([0.0, 1e-9, 0.5, 3.0, math.pi])
    chords = 2 * 1.3 * np.sin(angles / 2)
    assert angles_of_chords(chords, 1.3) == pytest.approx(angles, rel=1e-12)
    assert angles_of_chords([math.inf], 1.3) == pytest.approx([math.pi])
    for chord in (-0.1, 2.7, math.nan):
        with pytest.raises(ValueError, match="diameter"):
            angles_of_chords([chord], 1.3)


def test_bad_angles() -> None:
    for angles in ([], [[0.1]], [-0.1], [math.nan]):
        with pytest.raises(ValueError, match="certified_angles"):
            proven_error_bound(angles, 10, 0.1)
        with pytest.raises(ValueError, match="pilot_angles"):
            choose_angle(angles, 10, n_points=10)
    with pytest.raises(TypeError, match="real numbers"):
        proven_error_bound(["a"], 10, 0.1)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="angle must lie in"):
        proven_error_bound([0.1], 10, -0.1)
    assert isinstance(proven_error_bound([0.1], 10, 0.1), ProvenErrorBound)


def test_nothing_is_proven_where_every_point_is_an_exception() -> None:
    # phi(E) + t may lie beyond pi: any set has the whole sphere as its neighbourhood then.
    for angle in (0.1, 1.0, math.pi):
        bound = proven_error_bound(np.zeros(100), 3, angle)
        assert (bound.n_exceptions, bound.error_rate) == (100, 1.0)
        assert "Nothing is proven" in str(bound)
    angle = choose_angle(np.full(50, 0.1), 500, n_points=10)
    assert proven_error_bound(np.full(10, 0.05), 500, angle).error_rate == 1.0
    # One point that is certified on the whole sphere leaves no room for a single error.
    assert proven_error_bound(np.array([0.0] * 99 + [math.inf]), 3, math.pi).error_rate == 0.0


def test_errors_are_exceptions_at_an_angle_of_zero() -> None:
    certified = np.array([0.0] * 59 + [0.1] * 41)
    found = proven_error_bound(certified, 10, 0.0)
    assert found.n_exceptions == 59
    assert found.log_error_rate >= np.log(0.59)
