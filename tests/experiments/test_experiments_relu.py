"""The analyses of the ReLU network's experiments, on results made by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trueboundary.classifiers import BinaryClassifier, SphereBayes, TruncatedSum, to_arrays
from trueboundary.experiments import summaries
from trueboundary.experiments.base import Experiment
from trueboundary.experiments.claims import judge, read_claims
from trueboundary.experiments.networks.planes import evaluate_plane, polar_points, square_points
from trueboundary.experiments.networks.trained_networks import TrainedNetwork
from trueboundary.experiments.spheres import (
    spheres_circles,
    spheres_dimension,
    spheres_distances,
    spheres_error_rate,
    spheres_norms,
    spheres_slices,
)
from trueboundary.runs import Context, Run, RunConfig, RunResult, collect
from trueboundary.theory.caps import mean_distance
from trueboundary.theory.intervals import clopper_pearson, prediction_interval, t_interval

Array = NDArray[np.float64]

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    module.EXPERIMENT
    for module in (
        spheres_slices,
        spheres_norms,
        spheres_circles,
        spheres_error_rate,
        spheres_distances,
        spheres_dimension,
    )
)

SLICES = spheres_slices.SLICES


def run(summary: Mapping[str, Any] | None = None, **arrays: Any) -> Run:
    """Return a finished run with this result."""
    return Run({}, RunResult(dict(summary or {}), arrays), {}, Path("run"))


def network(dim: int = 6, **fields: Any) -> TrainedNetwork:
    return TrainedNetwork(dim, "relu", 8, 2, 10, **fields)


# ------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.id)
@pytest.mark.parametrize("scale", ["smoke", "quick", "paper"])
def test_plans_are_complete_and_differ_by_seed(experiment: Experiment, scale: Any) -> None:
    first, second = (experiment.runs(scale, seed=seed) for seed in (0, 1))
    assert first.keys() == second.keys()
    assert all(first[name].digest != second[name].digest for name in first)
    assert experiment.cost(scale) > 0


def test_experiments_share_the_trained_network_and_its_count() -> None:
    trained, counts = set(), set()
    for experiment in EXPERIMENTS:
        if experiment.id not in ("spheres-circles", "spheres-dimension"):
            configs = collect(experiment.runs("quick").values()).values()
            trained |= {c.digest for c in configs if c.kind == "TrainedNetwork"}
            counts |= {c.digest for c in configs if c.kind == "ErrorCount"}
    assert len(trained) == 1
    assert len(counts) == 1


# ------------------------------------------------------------------------------- summaries


def test_the_mean_of_one_network_has_the_interval_over_points() -> None:
    values = np.array([0.1, 0.2, 0.4, np.inf])
    found = summaries.mean_measurement([values])
    assert (found.low, found.high) == t_interval([0.1, 0.2, 0.4])
    assert found.value == pytest.approx(0.7 / 3)
    assert found.n == 4
    assert "1 of 4" in found.note
    assert "median, which counts them as infinitely far, is 0.3" in found.note


def test_the_mean_of_several_networks_has_the_interval_of_a_further_network() -> None:
    networks = [np.array([0.1, 0.3]), np.array([0.2, 0.4, np.inf]), np.array([0.1, 0.1])]
    found = summaries.mean_measurement(networks)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx(prediction_interval([0.2, 0.3, 0.1]))


def test_the_median_counts_failures_as_infinite() -> None:
    median, low, high = summaries.median_of_points(np.array([0.1, 0.2, np.inf, np.inf]))
    assert (median, low, high) == (math.inf, -math.inf, math.inf)
    median, low, high = summaries.median_of_points(np.array([*np.arange(1.0, 10.0), np.inf]))
    assert median == 5.5
    assert (low, high) == (2.0, 9.0)


@pytest.mark.parametrize("n_networks", [1, 2])
def test_all_failed_is_no_number_and_no_warning(n_networks: int) -> None:
    found = summaries.mean_measurement([np.full(5, np.inf)] * n_networks)
    assert math.isnan(found.value)
    assert found.low is None
    assert found.high is None
    assert f"any of {5 * n_networks} points" in found.note


def test_a_single_finite_value_has_no_interval() -> None:
    assert summaries.mean_of_points(np.array([0.5, np.inf])) == (0.5, None, None)
    assert math.isnan(summaries.mean_of_points(np.array([]))[0])


def test_the_interval_of_a_ratio_covers_the_true_ratio() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        b = draw.normal(1.0, 0.2, size=100)
        a = 2 * b + draw.normal(0.0, 0.3, size=100)
        value, low, high = summaries.ratio_of_means(a, b)
        assert value == pytest.approx(a.mean() / b.mean())
        assert low is not None
        assert high is not None
        covered += low <= 2.0 <= high
    assert 0.935 <= covered / 2000 <= 0.965  # three standard errors around 95 %


def test_a_ratio_needs_points_with_both_values() -> None:
    a, b = np.array([1.0, np.inf, 4.0]), np.array([np.inf, 1.0, 2.0])
    assert summaries.ratio_of_means(a, b) == (2.0, None, None)
    assert math.isnan(summaries.ratio_of_means(a[:2], b[:2])[0])
    assert math.isnan(summaries.ratio_of_means(np.ones(2), np.zeros(2))[0])


# ------------------------------------------------------------------------------- error rate


def error_counts(inner: int, outer: int, n: int = 1000) -> Run:
    return run({"n_errors_inner": inner, "n_errors_outer": outer, "n_points": n})


def test_rates_have_exact_intervals() -> None:
    inner, outer = spheres_error_rate.rate_rows(error_counts(3, 0), "network")
    assert (inner["rate"], inner["low"], inner["high"]) == (0.003, *clopper_pearson(3, 1000))
    assert outer["low"] == 0.0
    assert outer["upper_limit"] == pytest.approx(1 - 0.05 ** (1 / 1000))


@pytest.mark.parametrize(("outer", "holds"), [(0, True), (1, False)])
def test_one_error_on_either_sphere_of_any_seed_refutes_the_claim(outer: int, holds: bool) -> None:
    settings = {"n_seeds": 2, "n_points": 1000}
    runs = {"seed-0": error_counts(0, 0), "seed-1": error_counts(0, outer)}
    analysis = spheres_error_rate.analyse(runs, settings)
    assert analysis.measurements["A1.1"].value is holds
    assert f"{outer} of 1,000 points of the outer sphere" in analysis.measurements["A1.1"].note
    analysis.panels[0].draw()


# ------------------------------------------------------------------------------- distances


def distance_runs(
    distances: Mapping[str, Array], names: tuple[str, ...] = ("seed-0",)
) -> dict[str, Run]:
    """Return runs in which every sphere of every network has these distances by search."""
    runs = {f"{name}/count": error_counts(1, 0) for name in names}
    for name in names:
        for sphere in ("inner", "outer"):
            for search, values in distances.items():
                norm = np.where(np.isfinite(values), 1.0 + values, 1.0)
                runs[f"{name}/{sphere}/{search}"] = run(distance=values, norm=norm)
    return runs


SETTINGS = {"n_seeds": 1, "dim": 500}


def test_distances_become_measurements() -> None:
    distances = {
        "sphere": np.array([0.2, 0.3, 0.1, np.inf]),
        "sphere-refined": np.array([0.2, 0.2, 0.1, 0.4]),
        "shell": np.array([0.1, 0.15, 0.05, 0.1]),
    }
    analysis = spheres_distances.analyse(distance_runs(distances), SETTINGS)
    found = analysis.measurements
    assert found["A1.2"].value == 0.75
    assert (found["A1.2"].low, found["A1.2"].high) == clopper_pearson(3, 4)
    assert found["A1.3"].value == pytest.approx(0.2)
    assert "1 of 4" in found["A1.3"].note
    assert found["A1.4a"].value == pytest.approx(0.1)
    assert found["A1.4b"].value == pytest.approx(1.1)
    assert found["A1.4c"].value == pytest.approx(0.1 / 0.15), "of the way to the sphere of 1.15"
    assert found["A1.5"].value == pytest.approx(0.225 / 0.1), "both distances are refined"
    assert found["A1.5"].n == 4
    for panel in analysis.panels:
        panel.draw()


def test_the_norm_of_a_failed_attack_does_not_count() -> None:
    values = np.array([0.1, np.inf])
    runs = distance_runs(dict.fromkeys(spheres_distances.SEARCHES, values))
    assert spheres_distances.measure(runs, ["seed-0"])["A1.4b"].value == pytest.approx(1.1)
    rows = spheres_distances.distance_rows(runs, "seed-0", "network", 500)
    assert rows[0]["mean_norm"] == pytest.approx(1.1)


def test_the_cap_belongs_to_the_sphere_and_to_the_limit_of_the_rate() -> None:
    runs = distance_runs(dict.fromkeys(spheres_distances.SEARCHES, np.array([0.1, 0.2])))
    rows = spheres_distances.distance_rows(runs, "seed-0", "network", 500)
    caps = {(row["sphere"], row["search"]): row["cap_at_limit"] for row in rows}
    limit = clopper_pearson(1, 1000, side="upper").high
    assert caps["inner", "on the sphere"] == mean_distance(500, limit)
    limit = clopper_pearson(0, 1000, side="upper").high
    assert caps["outer", "on the sphere"] == pytest.approx(1.3 * mean_distance(500, limit))
    assert caps["outer", "between the spheres"] is None


def test_no_distances_at_all_are_survived() -> None:
    runs = distance_runs(dict.fromkeys(spheres_distances.SEARCHES, np.full(3, np.inf)))
    analysis = spheres_distances.analyse(runs, SETTINGS)
    assert analysis.measurements["A1.2"].value == 0.0
    for claim in ("A1.3", "A1.4a", "A1.4b", "A1.4c", "A1.5"):
        assert math.isnan(analysis.measurements[claim].value)
    for panel in analysis.panels:
        panel.draw()


def test_points_that_are_errors_themselves_have_distance_zero() -> None:
    runs = distance_runs(dict.fromkeys(spheres_distances.SEARCHES, np.zeros(3)))
    analysis = spheres_distances.analyse(runs, SETTINGS)
    assert analysis.measurements["A1.3"].value == 0.0
    assert math.isnan(analysis.measurements["A1.5"].value)  # nought divided by nought
    for panel in analysis.panels:
        panel.draw()


def test_several_networks_are_averaged() -> None:
    names = ("seed-0", "seed-1")
    values = np.array([0.1, 0.2])
    runs = distance_runs(dict.fromkeys(spheres_distances.SEARCHES, values), names)
    runs["seed-1/inner/sphere"] = run(distance=np.array([0.3, np.inf]), norm=np.ones(2))
    found = spheres_distances.analyse(runs, SETTINGS | {"n_seeds": 2}).measurements
    assert found["A1.2"].value == 0.5  # the network with the fewest
    assert found["A1.3"].value == pytest.approx((0.15 + 0.3) / 2)
    limits = prediction_interval([0.15, 0.3])
    assert (found["A1.3"].low, found["A1.3"].high) == pytest.approx(limits)
    assert found["A1.5"].value == pytest.approx(1.0)


# ------------------------------------------------------------------------------- slices


class AlongOne(BinaryClassifier):
    """Takes for inner whatever lies far along the first axis: a network with two caps of errors."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.axis = torch.nn.Parameter(torch.eye(dim)[0], requires_grad=False)

    def margin(self, x: torch.Tensor) -> torch.Tensor:
        along = (x @ self.axis).square()
        return 10 * (x.square().sum(1) - along - 1.15**2) - 5 * along


def test_the_radii_of_the_boundary_are_found_on_every_ray() -> None:
    radii = np.linspace(0, 3, 301)
    angles = np.linspace(0, 6, 7)
    margins = evaluate_plane(SphereBayes(5), np.eye(5)[:2], polar_points(angles, radii))
    crossings = spheres_slices.boundary_radii(radii, margins)
    assert np.array(crossings) == pytest.approx(np.full((7, 1), 1.15), abs=1e-5)
    found = spheres_slices.deviation_measurement(angles, crossings)
    assert found.value == pytest.approx(0.0, abs=1e-5)


def test_a_ray_without_boundary_deviates_infinitely() -> None:
    crossings = [np.array([1.2]), np.array([])]
    found = spheres_slices.deviation_measurement(np.zeros(2), crossings)
    assert found.value == math.inf
    assert "On 1 of them" in found.note
    crossings = [np.array([1.2]), np.array([1.1, 1.6])]  # every crossing counts
    found = spheres_slices.deviation_measurement(np.zeros(2), crossings)
    assert found.value == pytest.approx(0.45)


def test_confidence_is_a_probability_of_nine_tenths() -> None:
    radii = np.array([0.0, 1.0, 2.0])
    margins = np.array([[-5.0, -5.0], [-2.2, 1.0], [-2.19, 1.0]])
    assert spheres_slices.confident_measurement(radii, margins).value == 1.0
    assert spheres_slices.confident_measurement(radii, np.zeros((3, 2))).value == 0.0
    found = spheres_slices.confident_measurement(radii, np.full((3, 2), -3.0))
    assert found.value == 2.0
    assert "goes on" in found.note


def test_worst_directions_are_found_and_orthogonal() -> None:
    slices = spheres_slices.Slices(network(6), 3, 200, 5)
    planes, margins = slices._planes(AlongOne(6))
    for plane in planes.values():
        assert plane @ plane.T == pytest.approx(np.eye(2), abs=1e-12)
    assert abs(planes["one-worst"][0, 0]) == pytest.approx(1.0, abs=1e-4)
    assert np.array_equal(planes["one-worst"][0], planes["two-worst"][0])
    # On the outer sphere the worst margin is at the axis; orthogonal to it nothing depends on it.
    assert margins["worst_margin"] == pytest.approx(-5 * 1.69 - 10 * 1.15**2, abs=1e-3)
    assert margins["worst_orthogonal_margin"] == pytest.approx(10 * (1.69 - 1.15**2), abs=1e-3)


def test_gram_schmidt_survives_nearly_parallel_directions() -> None:
    first = np.array([1.0, 0.0, 0.0])
    plane = spheres_slices.orthonormal(first, np.array([1.0, 1e-9, 0.0]))
    assert plane == pytest.approx(np.eye(3)[:2], abs=1e-12)


def test_slices_are_shown_in_a_square_that_holds_what_there_is_to_see() -> None:
    angles = np.array([0.0, math.pi / 2])
    nothing = [np.array([]), np.array([])]
    x, y = spheres_slices.shown_square(angles, [nothing], 4.0)
    assert (x, y) == (pytest.approx((-1.5, 1.5)), pytest.approx((-1.5, 1.5)))
    x, y = spheres_slices.shown_square(angles, [nothing, [np.array([2.9]), np.array([])]], 4.0)
    assert x == pytest.approx((-1.5, 3.0))
    assert y == pytest.approx((-2.25, 2.25)), "the middle stays where it was"
    x, y = spheres_slices.shown_square(angles, [[np.array([4.0]), np.array([1.0, 4.0])]], 4.0)
    assert (x, y) == (pytest.approx((-1.6, 4.0)), pytest.approx((-1.6, 4.0)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": network(3)}, "at least 4"),
        ({"n_starts": 1}, "n_starts"),
        ({"n_radii": 1}, "n_radii"),
        ({"resolution": 0}, "resolution"),
    ],
)
def test_slices_refuse_bad_settings(fields: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "network": network(6),
        "n_starts": 2,
        "n_attack_steps": 5,
        "resolution": 5,
    }
    with pytest.raises(ValueError, match=message):
        spheres_slices.Slices(**(good | fields))


def test_grids_have_the_second_coordinate_along_the_rows() -> None:
    square = square_points(2.0, 5)
    assert square.shape == (5, 5, 2)
    assert square[0, -1].tolist() == [2.0, -2.0]
    plane = np.eye(3)[:2]
    first_alone = TruncatedSum(3, 1, 0.5)
    margins = evaluate_plane(first_alone, plane, square)
    assert margins[0].tolist() == [3.5, 0.5, -0.5, 0.5, 3.5]


# ------------------------------------------------------------------------------- norms


def scan(errors: Mapping[float, int], n: int = 1000) -> Run:
    return run({"n_points": n}, norm=np.array([*errors]), n_errors=np.array([*errors.values()]))


@pytest.mark.parametrize(
    ("errors", "holds", "words"),
    [
        ({0.9: 0, 1.0: 0, 1.1: 400, 1.2: 300, 1.3: 0, 1.4: 0}, True, ""),
        ({1.0: 0, 1.05: 200, 1.1: 195, 1.3: 0}, True, ""),  # a fall within sampling error
        ({1.0: 0, 1.05: 500, 1.1: 100, 1.3: 0}, False, "falls at norm 1.05"),
        ({1.0: 0, 1.1: 400, 1.2: 300, 1.3: 1}, False, "1 at 1.3"),
        ({0.8: 0, 1.0: 2, 1.2: 300, 1.3: 0}, False, "2 at 1"),
    ],
)
def test_the_curve_must_rise_and_errors_must_vanish(
    errors: dict[float, int], holds: bool, words: str
) -> None:
    found = spheres_norms.curve_measurement(spheres_norms.accuracy_rows(scan(errors)))
    assert found.value is holds
    assert words in found.note


def test_accuracies_lie_in_their_intervals() -> None:
    for row in spheres_norms.accuracy_rows(scan({0.5: 0, 1.1: 500, 2.0: 1000})):
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1


def norm_attack(found: Mapping[float, int]) -> Run:
    arrays = {"norm": np.array([*found]), "n_found": np.array([*found.values()])}
    return run({"n_points": 10}, **arrays, worst_margin=np.zeros(len(found)))


def test_extreme_norms_with_errors() -> None:
    attack = norm_attack({0.5: 0, 0.6: 1, 1.0: 10, 2.4: 3, 2.5: 0})
    runs = {"random": scan({1.0: 0, 1.3: 0}), "attack": attack}
    analysis = spheres_norms.analyse(runs, {"n_points": 1000})
    assert analysis.measurements["A1.7b"].value == 0.6
    assert analysis.measurements["A1.7c"].value == 2.4
    assert "end of the grid" not in analysis.measurements["A1.7c"].note
    analysis.panels[0].draw()


def test_errors_at_the_end_of_the_grid_are_said_to_be_there() -> None:
    runs = {"random": scan({1.0: 0, 1.3: 0}), "attack": norm_attack({0.5: 1, 2.4: 0})}
    measurements = spheres_norms.analyse(runs, {"n_points": 1000}).measurements
    assert "end of the grid" in measurements["A1.7b"].note


def test_no_errors_at_any_norm() -> None:
    runs = {"random": scan({1.0: 0, 1.3: 0}), "attack": norm_attack({0.5: 0, 2.4: 0})}
    analysis = spheres_norms.analyse(runs, {"n_points": 1000})
    assert analysis.measurements["A1.7b"].value == math.inf
    assert analysis.measurements["A1.7c"].value == -math.inf
    analysis.panels[0].draw()


@pytest.mark.parametrize("norms", [(), (1.15,), (0.0, 1.0), (math.nan,)])
def test_norms_without_a_right_class_are_refused(norms: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="norm"):
        spheres_norms.NormScan(network(), norms, 10)
    with pytest.raises(ValueError, match="norm"):
        spheres_norms.NormAttack(network(), norms, 10, 10)


# ------------------------------------------------------------------------------- circles


def circle_run(inner: list[float], outer: list[float]) -> Run:
    x = np.array([[1.0, 0.0], [0.0, 1.3]], dtype=np.float32)
    return run(
        {"extent": 1.6},
        angle=np.linspace(0, 6, len(inner)),
        margin_inner=np.array(inner),
        margin_outer=np.array(outer),
        picture=np.where(np.hypot(*square_points(1.6, 11).T) < 1.15, -1.0, 1.0),
        train_x=x,
        train_y=np.array([0, 1]),
    )


def test_a_margin_of_zero_is_an_error_on_the_outer_circle_alone() -> None:
    runs = {"grid": circle_run([-1.0, -1.0, 0.0], [1.0, 0.0, 1.0])}
    analysis = spheres_circles.analyse(runs, {"n_train": 100})
    assert analysis.measurements["A1.8"].value == pytest.approx(1 / 6)
    analysis.panels[0].draw()
    runs = {"grid": circle_run([-1.0] * 3, [0.5] * 3)}
    analysis = spheres_circles.analyse(runs, {"n_train": 100})
    assert analysis.measurements["A1.8"].value == 0.0
    assert "0.5" in analysis.remarks[0]


@pytest.mark.parametrize("fields", [{"dim": 3, "n_train": 100}, {"dim": 2}])
def test_circles_need_a_plane_and_a_training_set(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fixed set"):
        spheres_circles.CircleGrid(network(**fields), 10)


def test_the_training_points_are_those_of_the_training() -> None:
    x, y = spheres_circles.CircleGrid(network(2, n_train=70), 10)._training_points()
    assert x.shape == (70, 2)
    assert len({tuple(point) for point in x.tolist()}) == 70
    assert np.linalg.norm(x, axis=1) == pytest.approx(np.where(y == 1, 1.3, 1.0), rel=1e-6)


# ------------------------------------------------------------------------------- dimension


def search_run(inner: Array, outer: Array | None = None) -> Run:
    """Return a search whose worst-case attack found `inner` and `outer`, the other one nothing."""
    outer = np.full_like(inner, np.inf) if outer is None else outer
    arrays = {"distance/inner/worst_case": inner, "distance/outer/worst_case": outer}
    arrays |= {f"distance/{s}/nearest": np.full_like(inner, np.inf) for s in ("inner", "outer")}
    summary = {f"worst/{name.removeprefix('distance/')}": -1.0 for name in arrays}
    return run(summary, **arrays)


NONE, SOME = np.full(4, np.inf), np.array([np.inf, 0.4, np.inf, np.inf])


@pytest.mark.parametrize(
    ("found", "value", "words"),
    [
        ({20: (NONE, NONE), 60: (NONE, NONE), 100: (NONE, SOME)}, 60.0, ""),
        ({20: (NONE, NONE), 60: (SOME, NONE), 100: (NONE, NONE)}, 20.0, ""),
        ({20: (SOME, NONE), 60: (NONE, NONE)}, 0.0, "smallest dimension of the grid already"),
        ({20: (NONE, NONE), 60: (NONE, NONE)}, 60.0, "in any dimension of the grid"),
    ],
)
def test_one_error_of_one_network_ends_the_dimensions_without(
    found: dict[int, tuple[Array, Array]], value: float, words: str
) -> None:
    runs = {
        f"d{dim}/seed-{index}": search_run(distances)
        for dim, seeds in found.items()
        for index, distances in enumerate(seeds)
    }
    settings = {
        "dims": tuple(found),
        "n_seeds": 2,
        "n_attack_points": 4,
        "n_attack_steps": 10,
        "n_restarts": 2,
    }
    analysis = spheres_dimension.analyse(runs, settings)
    assert analysis.measurements["A1.9"].value == value
    assert words in analysis.measurements["A1.9"].note
    analysis.panels[0].draw()


def test_a_point_counts_once_however_many_attacks_succeed() -> None:
    both = search_run(SOME, np.zeros(4))
    both.arrays["distance/inner/nearest"][:2] = 0.1
    row = spheres_dimension.search_row(both, 60, 0)
    assert (row["n_found_inner"], row["n_found_outer"], row["n_found"]) == (2, 4, 6)
    assert (row["low"], row["high"]) == clopper_pearson(6, 8)
    assert row["nearest_error"] == 0.0


# ------------------------------------------------------------------------------- computations


def compute(config: RunConfig, model: BinaryClassifier, folder: Path) -> Run:
    """Compute a run with `model` in place of the trained network."""
    trained = Run({}, RunResult({}, {}, {"final": to_arrays(model)}), {}, folder)
    context = Context({"network": trained}, folder, progress=lambda fraction: None)
    return Run({}, config.compute(context), {}, folder)


def test_a_classifier_without_errors_shows_none(tmp_path: Path) -> None:
    bayes = SphereBayes(6)
    random = compute(
        spheres_norms.NormScan(network(), (0.5, 1.0, 1.14, 1.16, 3.0), 50), bayes, tmp_path
    )
    assert random.arrays["n_errors"].tolist() == [0] * 5
    attack = compute(spheres_norms.NormAttack(network(), (1.0, 1.3), 3, 30), bayes, tmp_path)
    assert attack.arrays["n_found"].tolist() == [0, 0]
    assert attack.arrays["worst_margin"] == pytest.approx([-0.15, 0.15], abs=1e-6)

    row = spheres_dimension.search_row(
        compute(spheres_dimension.ErrorSearch(network(), 4, 20, 2), bayes, tmp_path), 6, 0
    )
    assert row["n_found"] == 0
    assert row["worst"] == pytest.approx(-0.15, abs=1e-6)

    slices = compute(spheres_slices.Slices(network(), 2, 20, 21), bayes, tmp_path)
    settings = spheres_slices.EXPERIMENT.settings("smoke")
    measured = spheres_slices.analyse({"slices": slices}, settings).measurements
    assert measured["A1.6a"].value == pytest.approx(0.0, abs=1e-5)
    assert measured["A1.6b"].value == 0.0  # its margin is -1.15 at the origin
    assert measured["A1.6c"].value == 0.0, "in the plane through two worst-case points"

    grid = spheres_circles.CircleGrid(network(2, n_train=10), 100)
    measured = spheres_circles.analyse(
        {"grid": compute(grid, SphereBayes(2), tmp_path)}, {"n_train": 10}
    ).measurements
    assert measured["A1.8"].value == 0.0


def test_the_errors_of_a_truncated_sum_are_where_they_must_be(tmp_path: Path) -> None:
    half = TruncatedSum(6, 3, 0.5)  # wrong where x1^2 + x2^2 + x3^2 is above 0.5, below norm 1.15
    norms = (0.5, 0.7, 0.8, 1.0, 1.2, 3.0)
    random = compute(spheres_norms.NormScan(network(), norms, 200), half, tmp_path)
    assert random.arrays["n_errors"][:2].tolist() == [0, 0]
    assert 60 < random.arrays["n_errors"][3] < 140  # half of the points of norm 1, by symmetry
    attack = compute(spheres_norms.NormAttack(network(), norms, 3, 200), half, tmp_path)
    assert attack.arrays["n_found"].tolist() == [0, 0, 3, 3, 3, 3]
    # The worst points lie wholly within the first three coordinates, or wholly outside them.
    expected = [norm**2 - 0.5 for norm in norms[:4]] + [-0.5, -0.5]
    assert attack.arrays["worst_margin"] == pytest.approx(expected, abs=1e-4)

    search = compute(spheres_dimension.ErrorSearch(network(), 5, 1000, 1), half, tmp_path)
    assert spheres_dimension.search_row(search, 6, 0)["n_found"] == 10
    assert search.summary["worst/inner/worst_case"] == pytest.approx(0.5, abs=1e-4)
    assert search.summary["worst/outer/worst_case"] == pytest.approx(0.5, abs=1e-4)


# ------------------------------------------------------------------------------- claims


def test_every_claim_is_measured_and_can_be_judged() -> None:
    values = np.array([0.2, 0.3, np.inf])
    slices = {f"rays/{name}": np.linspace(-3, 3, 20).reshape(4, 5) for name in (*SLICES, "span")}
    slices |= {f"picture/{name}": np.zeros((5, 5)) for name in SLICES}
    summary = {f"outer_wrong_{name}": 1.0 for name in (*SLICES, spheres_slices.SPAN)}
    summary |= {
        "worst_margin": -3.0,
        "worst_orthogonal_margin": -2.0,
        "cosine_of_two": 0.1,
        "n_circle": 5,
    }
    runs: dict[str, dict[str, Run]] = {
        "spheres-slices": {
            "slices": run(summary, angle=np.arange(5.0), radius=np.arange(4.0), **slices)
        },
        "spheres-norms": {"random": scan({1.0: 0, 1.3: 0}), "attack": norm_attack({0.6: 1})},
        "spheres-circles": {"grid": circle_run([-1.0] * 3, [0.5] * 3)},
        "spheres-error-rate": {"seed-0": error_counts(0, 0)},
        "spheres-distances": distance_runs(dict.fromkeys(spheres_distances.SEARCHES, values)),
        "spheres-dimension": {
            name: search_run(SOME) for name in spheres_dimension.EXPERIMENT.runs("quick")
        },
    }
    claims = read_claims("spheres")
    for experiment in EXPERIMENTS:
        settings = experiment.settings("quick")
        found = experiment.analyse(runs[experiment.id], settings).measurements
        mine = [claim for claim in claims if claim.experiment == experiment.id]
        assert set(found) == {claim.id for claim in mine}
        for claim in mine:
            assert judge(claim, found[claim.id], settings).reason


def test_runs_are_configurations() -> None:
    for experiment in EXPERIMENTS:
        for config in experiment.runs("smoke").values():
            assert isinstance(config, RunConfig)
            assert config.cost() > 0
