"""Error sets of many shapes, and what the trade-off's experiment says of the bound on them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from trueboundary.experiments.claims import Verdict, judge, read_claims
from trueboundary.experiments.networks.error_sets import (
    CAP,
    ErrorSets,
    mean_distance_to_union,
    mean_distance_with_hole,
    with_ratios,
)
from trueboundary.experiments.spheres import spheres_tradeoff
from trueboundary.experiments.spheres.spheres_caps import fibonacci_sphere
from trueboundary.runs import Context, Run, RunConfig, RunResult
from trueboundary.theory import caps

CLAIMS = {claim.id: claim for claim in read_claims("spheres")}


def computed(config: RunConfig, folder: Path) -> Run:
    result = config.compute(Context({}, folder, lambda fraction: None))
    return Run(config.describe(), result, {}, folder)


# ------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("hole", [0.01, 0.5, 0.7])
def test_a_cap_with_a_hole_by_integration_over_heights(hole: float) -> None:
    # Archimedes: in three dimensions heights are uniform, and a cap of measure m begins at 1 - 2 m.
    measure = 0.2
    edge, rim = 1 - 2 * measure / (1 - hole), 1 - 2 * hole * measure / (1 - hole)

    def distance(height: float) -> float:
        angle = math.acos(height)
        away = max(angle - math.acos(edge), math.acos(rim) - angle, 0.0)
        return 2 * math.sin(away / 2) / 2

    expected = quad(distance, -1, 1, points=[edge, rim], epsabs=1e-12)[0]
    found = mean_distance_with_hole(3, math.log(measure), hole)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_union_of_caps_on_a_mesh() -> None:
    mesh = fibonacci_sphere(4000)
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((3, 3))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    measures = np.array([0.02, 0.05, 0.01])
    inside = mesh[(mesh @ centres.T >= 1 - 2 * measures).any(axis=1)]
    brute = np.linalg.norm(mesh[:, None] - inside[None], axis=2).min(axis=1).mean()
    mean, low, high = mean_distance_to_union(mesh, centres, np.log(measures))
    assert mean == pytest.approx(brute, rel=0.03)  # the mesh is 0.06 wide
    assert low < mean < high


def test_the_interval_of_a_union_covers_its_mean() -> None:
    # Two opposite caps: by symmetry the distance is that of the nearer one.
    measure, dim = 1e-2, 20
    edge = caps.angle(dim, measure / 2)
    log_norm = math.lgamma(dim / 2) - math.lgamma((dim - 1) / 2) - 0.5 * math.log(math.pi)

    def density(angle: float) -> float:
        return math.exp(log_norm + (dim - 2) * math.log(math.sin(angle)))

    def chord(angle: float) -> float:
        return 2 * math.sin((angle - edge) / 2) * density(angle)

    exact = 2 * quad(chord, edge, math.pi / 2, epsabs=1e-12)[0]
    centres = np.eye(dim)[0] * np.array([[1.0], [-1.0]])
    covered = 0
    for seed in range(40):
        points = np.random.default_rng(seed).standard_normal((300, dim))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        _, low, high = mean_distance_to_union(points, centres, np.log([measure / 2] * 2))
        covered += low <= exact <= high
    assert covered >= 34  # of 40 at 95 %: fewer have a chance of 1 in 500


def test_no_set_is_farther_than_a_cap(tmp_path: Path) -> None:
    run = computed(ErrorSets(50, (-1.0, -4.0), 200, 2), tmp_path)
    rows = [with_ratios(row) for row in run.summary["rows"]]
    assert {row["shape"] for row in rows} >= {CAP, "cap with a hole of 1%", "union of 5 caps"}
    for row in rows:
        if row["shape"] == CAP:
            assert row["distance"] == row["cap"]
        else:
            assert (row["low"] or row["distance"]) < row["cap"]


@pytest.mark.parametrize("fields", [(2, (-1.0,), 5, 1), (9, (-0.5,), 5, 1), (9, (-1.0,), 1, 1)])
def test_sets_that_make_no_sense_are_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        ErrorSets(*fields)


# ------------------------------------------------------------------------------- claims


def row(shape: str, log10_measure: float, distance: float, dim: int = 500) -> dict[str, Any]:
    known = {"shape": shape, "dim": dim, "log10_measure": log10_measure, "low": None, "high": None}
    return with_ratios(known | {"distance": distance})


def verdicts(sets: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[Verdict]:
    """Return the verdicts on A3.1a and A3.1d."""
    found = {
        "A3.1a": spheres_tradeoff._extremality(rows, sets, 500),
        "A3.1d": spheres_tradeoff._corrected_theorem(rows, sets, 500),
    }
    return [judge(CLAIMS[claim], one, {}).verdict for claim, one in found.items()]


def test_a_set_that_is_farther_than_the_bound_refutes_it() -> None:
    yes, no = Verdict.REPRODUCED, Verdict.DIFFERS
    best = caps.mean_distance(500, 1e-3)
    assert verdicts([row(CAP, -3, best), row("some", -3, 0.999 * best)], []) == [yes, yes]
    assert verdicts([row(CAP, -3, best), row("some", -3, 1.001 * best)], []) == [no, yes]
    assert verdicts([row(CAP, -3, best), row("some", -3, 1.02 * best)], []) == [no, no]
    # In other dimensions the exact bound counts, not its limit.
    low = caps.mean_distance(20, 0.1)
    assert verdicts([row(CAP, -3, best), row("some", -1, 0.999 * low, 20)], []) == [yes, yes]


def test_a_network_that_is_farther_than_the_bound_refutes_it() -> None:
    sets = [row(CAP, -3, caps.mean_distance(500, 1e-3)), row("some", -3, 0.01)]
    for share, expected in ((0.71, Verdict.REPRODUCED), (1.03, Verdict.DIFFERS)):
        distance = share * caps.mean_distance(500, 1e-4, radius=1.3)
        ends = {"": distance, "_low": 0.999 * distance, "_high": 1.001 * distance}
        network = {"n_train": "online", "step": 5, "sphere": "outer", "exact_log10_error": -4.0}
        network |= {f"exact_distance{end}": value for end, value in ends.items()}
        network |= {"n_errors": 0, "n_points": 10, "network": "quadratic"}
        rows = [spheres_tradeoff._with_optimum({}, network, 500)]
        assert verdicts(sets, rows) == [expected, expected]


def test_the_large_network_has_the_printed_number_of_parameters(tmp_path: Path) -> None:
    run = computed(spheres_tradeoff.EXPERIMENT.runs("smoke")["parameters"], tmp_path)
    weights = 500 * 2000 + 7 * 2000**2 + 2000
    biases, normalization = 8 * 2000 + 1, 8 * 2 * 2000
    found = spheres_tradeoff._parameters(run)
    assert found.value == weights + biases + normalization
    assert run.summary["n_without_batch_norm"] == weights + biases
    assert judge(CLAIMS["A3.7"], found, {}).verdict is Verdict.REPRODUCED
    for depth in (7, 9):
        other = RunResult({"n_parameters": 500 * 2000 + (depth - 1) * 2000**2 + 2000})
        other.summary["n_without_batch_norm"] = other.summary["n_parameters"]
        measured = spheres_tradeoff._parameters(Run({}, other, {}, tmp_path))
        assert judge(CLAIMS["A3.7"], measured, {}).verdict is Verdict.DIFFERS
