"""The experiments in few dimensions on optimal classifiers: helpers, runs and analyses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from trueboundary.classifiers import LinearSVM
from trueboundary.densities import MixtureOfFactorAnalyzers
from trueboundary.experiments.base import Experiment
from trueboundary.experiments.bayes import bayes_helix, bayes_learning, bayes_planar, bayes_theorems
from trueboundary.experiments.bayes.boundary import (
    attacked_distances,
    decisions,
    draw,
    grid_distances,
)
from trueboundary.experiments.claims import Verdict, judge, read_claims
from trueboundary.experiments.networks.planes import square_points
from trueboundary.measure import distances_from
from trueboundary.problems import planar_gaussian, planar_problem, table_problem
from trueboundary.runs import Context, Run, RunConfig, RunResult

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    module.EXPERIMENT for module in (bayes_planar, bayes_learning, bayes_theorems, bayes_helix)
)
CLAIMS = {claim.id: claim for claim in read_claims("bayes")}


def compute(config: RunConfig, folder: Path) -> Run:
    result = config.compute(Context({}, folder, lambda fraction: None))
    return Run(config.describe(), result, {}, folder)


def verdict(claim: str, experiment: Experiment, analysis: Any, scale: str = "paper") -> Verdict:
    settings = experiment.settings(scale)  # type: ignore[arg-type]
    return judge(CLAIMS[claim], analysis.measurements[claim], settings).verdict


# ------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize("panel", ["b", "e", "f"])
@pytest.mark.parametrize("label", [0, 1])
def test_an_attack_finds_what_is_proven_of_pairs(panel, label):
    problem = planar_problem(panel)
    classifier = problem.bayes_classifier(dtype=torch.float64)
    x = draw(problem, 40, label, 0, "test")
    exact = distances_from(classifier, x, label)
    assert exact.exact.all()
    found = attacked_distances(classifier, x, label, n_restarts=2)
    assert (found >= exact.lower * (1 - 1e-9)).all()
    # The attack finds the nearest error from almost every point.
    assert np.median(found / exact.lower) < 1.001


def test_decisions_and_grid_distances_of_a_half_plane():
    half = LinearSVM(torch.tensor([0.0, 1.0]), -0.5)  # class 1 above 0.5
    grid = square_points(1.0, 201)
    classes = decisions(half, grid)
    assert classes.shape == (201, 201)
    assert (classes == (grid[..., 1] > 0.5)).all()
    x = torch.tensor([[0.0, 0.0], [0.3, -0.5]], dtype=torch.float64)
    np.testing.assert_allclose(grid_distances(x, 0, grid, classes), [0.51, 1.01])
    assert np.isinf(grid_distances(x, 0, grid, np.zeros_like(classes))).all()


def test_draws_depend_on_seed_class_and_purpose():
    problem = planar_problem("a")
    first = draw(problem, 3, 0, 0, "test")
    assert torch.equal(first, draw(problem, 3, 0, 0, "test"))
    assert not torch.equal(first, draw(problem, 3, 0, 1, "test"))
    assert not torch.equal(first, draw(problem, 3, 0, 0, "another"))


# ------------------------------------------------------------------------------- Figure 2


def test_a_broad_gaussian_that_both_classes_share_changes_no_decision():
    bars = bayes_planar.without_broad_component(planar_problem("h"))
    broad = planar_gaussian((0.0, 0.0), (3.0, 3.0))
    x = torch.cat([draw(bars, 200, label, 0, "test") for label in (0, 1)])
    shared = [
        torch.logaddexp(math.log(0.99) + density.log_prob(x), math.log(0.01) + broad.log_prob(x))
        for density in (bars.density_0, bars.density_1)
    ]
    without = bars.bayes_classifier(dtype=torch.float64).margin(x)
    assert (without.sign() == (shared[1] - shared[0]).sign()).all()


def test_a_shared_broad_part_cancels_where_float64_sees_a_tie():
    """With 400 digits the classes are never equal, and decided as without the broad part."""
    problem = bayes_planar.with_one_broad_component(planar_problem("h"))
    config = bayes_planar.PlanarDistances(bayes_planar.SHARED, 10, 5, 0.02)
    x = torch.cat([draw(problem, 60, label, 0, "test") for label in (0, 1)])
    x = torch.cat([x, x + torch.tensor([0.3, 0.0])])  # off the narrow parts
    deciding = config.deciding().bayes_classifier(dtype=torch.float64).margin(x)
    in_float64 = problem.bayes_classifier(dtype=torch.float64).margin(x)
    assert (in_float64 == 0).sum() > 50
    with mpmath.workdps(400):
        for point, margin in zip(x.tolist(), deciding.tolist(), strict=True):
            zero, one = (
                _density(density, point) for density in (problem.density_0, problem.density_1)
            )
            assert zero != one
            assert (one > zero) == (margin > 0)


def _density(density: MixtureOfFactorAnalyzers, point: list[float]) -> mpmath.mpf:
    """Return the density of a mixture in the plane, by the inverse of each covariance."""
    total = mpmath.mpf(0)
    for k, weight in enumerate(density.weights.tolist()):
        (a,), (b,) = density.loadings[k].tolist()
        noise = density.noise_variance[k].tolist()
        covariance = mpmath.matrix([[a * a, a * b], [a * b, b * b]])
        covariance += mpmath.matrix([[noise[0], 0], [0, noise[1]]])
        away = mpmath.matrix(point) - mpmath.matrix(density.means[k].tolist())
        square = (away.T * covariance**-1 * away)[0]
        total += weight * mpmath.exp(-square / 2) / mpmath.sqrt(mpmath.det(covariance))
    return total


def test_mixtures_are_asked_for_where_gaussians_come():
    with pytest.raises(TypeError, match="mixtures"):
        bayes_planar.without_broad_component(planar_problem("a"))
    with pytest.raises(TypeError, match="mixtures"):
        bayes_planar.with_one_broad_component(planar_problem("a"))


def test_two_tables_per_class_add_up_and_stay_near_the_boundary():
    problem = bayes_planar.two_tables_per_class(table_problem("g"))
    for density in (problem.density_0, problem.density_1):
        assert float(density.probabilities.sum()) == pytest.approx(1.0)
    assert problem.distance_share(0, 1.0) > 0.99
    assert problem.error_rate(0) < 1e-6


def test_the_sweep_follows_the_leading_formula(tmp_path):
    run = compute(bayes_planar.NarrowSweep((1e-2, 1e-4), 500), tmp_path)
    for row in run.summary["rows"]:
        assert 0.95 < row["q95_over_formula"] < 1.0
        assert row["accuracy_narrow"] > 0.98
        # Equal means: nothing but the logarithm under the root.
        same = row["formula"] == row["log_term_alone"]
        assert same == (row["geometry"] == "equal means")


@pytest.mark.parametrize("ratios", [(0.0,), (1.0,)])
def test_a_sweep_needs_ratios_below_one(ratios):
    with pytest.raises(ValueError, match="ratios"):
        bayes_planar.NarrowSweep(ratios, 10)


def planar_runs(
    *, near: float = 0.05, twin: float = 1.0, shared: float = 1.0, ratio: float = 0.98
) -> dict[str, Run]:
    """Return runs of Figure 2 in which every number that matters is given."""
    runs = {}
    given = {"h": near, bayes_planar.SHARED: shared}
    for panel in (*"abdefh", bayes_planar.TWIN, bayes_planar.SHARED):
        distance = np.full(4, given.get(panel, twin))
        arrays = {f"{kind}_{k}": distance for kind in ("distance", "proven") for k in (0, 1)}
        arrays |= {f"points_{k}": np.zeros((4, 2)) for k in (0, 1)}
        arrays["regions"] = np.zeros((5, 5), dtype=np.int8)
        summary = {"accuracy_0": 1.0, "accuracy_1": 1.0}
        runs[panel] = Run({}, RunResult(summary, arrays), {}, Path("run"))
    rows = [
        {
            "geometry": geometry,
            "ratio": r,
            "sigma_1": r / 2,
            "formula": r,
            "q95_distance": r * ratio,
            "log_term_alone": r,
            "q95_over_formula": ratio,
            "accuracy_narrow": 1.0,
            "accuracy_wide": 1.0,
        }
        for geometry in ("equal means", "means apart")
        for r in (1e-2, 1e-5)
    ]
    sweep = RunResult({"rows": rows, "n_points": 10})
    runs["sweep"] = Run({}, sweep, {}, Path("run"))
    return runs


@pytest.mark.parametrize(
    ("changes", "failing"),
    [({}, None), ({"ratio": 0.85}, "B1.1"), ({"near": 0.2}, "B1.2"), ({"twin": 0.4}, "B1.2")],
)
def test_verdicts_on_the_observations(changes, failing, tmp_path):
    tables = compute(bayes_planar.TableShares((1e-2, 1e-8)), tmp_path)
    analysis = bayes_planar.EXPERIMENT.analyse(planar_runs(**changes) | {"tables": tables}, {})
    for claim in ("B1.1", "B1.2", "B1.3"):
        expected = Verdict.DIFFERS if claim == failing else Verdict.REPRODUCED
        assert verdict(claim, bayes_planar.EXPERIMENT, analysis) == expected


@pytest.mark.parametrize(
    ("distance", "proven", "expected"),
    [(1.0, 0.9, "DIFFERS"), (0.09, 0.08, "REPRODUCED"), (0.11, 0.05, "INCONCLUSIVE")],
)
def test_a_shared_broad_part_is_judged_by_proofs_and_errors_found(
    distance, proven, expected, tmp_path
):
    runs = planar_runs(shared=distance)
    for label in (0, 1):
        runs[bayes_planar.SHARED].arrays[f"proven_{label}"] = np.full(4, proven)
    runs["tables"] = compute(bayes_planar.TableShares((1e-2, 1e-8)), tmp_path)
    analysis = bayes_planar.EXPERIMENT.analyse(runs, {})
    assert verdict("B1.2b", bayes_planar.EXPERIMENT, analysis) is Verdict[expected]


def test_failed_attacks_leave_a_median():
    runs = planar_runs()
    runs["h"].arrays["distance_0"][-1] = np.inf
    row = bayes_planar._distance_row("h", 0, runs["h"])
    assert row["median_distance"] == 0.05
    assert row["q95_distance"] == np.inf


# ------------------------------------------------------------------------------- theorems


def test_spherical_pairs_have_the_distance_that_an_attack_needs(tmp_path):
    run = compute(bayes_theorems.SphericalPair(300, 0.05, 300, 5), tmp_path)
    distance, attacked = run.arrays["distance"], run.arrays["attacked"]
    np.testing.assert_allclose(attacked, distance[:5], rtol=1e-6)
    assert (run.arrays["proven"] <= attacked).all()
    assert abs(distance.mean() - 0.5) < 4 * 0.05 / math.sqrt(300)
    assert distance.std() == pytest.approx(0.05, rel=0.2)


def test_more_points_than_a_block_begin_with_the_same_ones(tmp_path):
    few = compute(bayes_theorems.SphericalPair(2, 0.1, 250, 2), tmp_path)
    many = compute(bayes_theorems.SphericalPair(2, 0.1, 300, 2), tmp_path)
    np.testing.assert_array_equal(many.arrays["distance"][:250], few.arrays["distance"])
    assert len(many.arrays["distance"]) == 300


def test_subspace_radii_are_bracketed_and_tend_to_half_the_distance(tmp_path):
    config = bayes_theorems.SubspaceRobustness(20, 2, 2, (0.1, 1e-4), 6)
    run = compute(config, tmp_path)
    assert run.summary["lemma_error"] < 1e-9
    for index in (0, 1):
        assert (run.arrays[f"proven_{index}"] <= run.arrays[f"found_{index}"]).all()
    ratio = run.arrays["proven_1"] / run.arrays["half_1"]
    assert 0.99 < ratio.min() < 1.05
    # With more noise some points are nearer to an error than half the distance.
    assert (run.arrays["found_0"] / run.arrays["half_0"]).min() < 0.99


def test_unequal_spectra_differ_and_equal_ones_are_equal():
    for equal in (True, False):
        config = bayes_theorems.SubspaceRobustness(20, 3, 2, (0.1,), 6, equal)
        spectra = torch.linalg.svdvals(config.problem(0.1).density_0.loadings)
        assert bool(torch.allclose(spectra, torch.ones_like(spectra))) == equal


def theorem_runs(scale: str, *, distance: float, proven: float) -> dict[str, Run]:
    """Return runs of both theorems in which every point is the same."""
    settings = bayes_theorems.EXPERIMENT.settings(scale)  # type: ignore[arg-type]
    runs = {}
    for dim, std in bayes_theorems._pairs(settings):
        values = distance + np.linspace(-1e-3, 1e-3, 50)
        arrays = {"distance": values, "attacked": values[:3], "proven": values[:3]}
        runs[f"pair {dim} {std}"] = Run({}, RunResult({}, arrays), {}, Path("run"))
    for name in ("equal", "unequal"):
        arrays = {
            f"{key}_{index}": np.full(4, value)
            for index in range(len(settings["noise_stds"]))
            for key, value in (("half", 2.0), ("proven", 2.0 * proven), ("found", 2.2))
        }
        runs[name] = Run({}, RunResult({"lemma_error": 0.0}, arrays), {}, Path("run"))
    return runs


@pytest.mark.parametrize(
    ("numbers", "first", "second"),
    [
        ({"distance": 0.5, "proven": 0.999}, Verdict.REPRODUCED, Verdict.REPRODUCED),
        ({"distance": 0.4, "proven": 0.98}, Verdict.DIFFERS, Verdict.DIFFERS),
    ],
)
def test_verdicts_on_the_theorems(numbers, first, second):
    experiment = bayes_theorems.EXPERIMENT
    analysis = experiment.analyse(theorem_runs("quick", **numbers), experiment.settings("quick"))
    assert verdict("B1.4", experiment, analysis, "quick") == first
    assert verdict("B1.5", experiment, analysis, "quick") == second
    analysis = experiment.analyse(theorem_runs("smoke", **numbers), experiment.settings("smoke"))
    assert verdict("B1.4", experiment, analysis, "smoke") == Verdict.NOT_AT_THIS_SCALE
    assert verdict("B1.5", experiment, analysis, "smoke") == second  # no noise is stated


@pytest.mark.parametrize(
    "make",
    [
        lambda: bayes_theorems.SphericalPair(2, 0.0, 10, 1),
        lambda: bayes_theorems.SphericalPair(2, 0.1, 1000, 300),
        lambda: bayes_theorems.SphericalPair(2, 0.1, 5, 6),
        lambda: bayes_theorems.SubspaceRobustness(2, 2, 1, (0.1,), 5),
        lambda: bayes_theorems.SubspaceRobustness(5, 2, 1, (0.0,), 5),
        lambda: bayes_planar.PlanarDistances("a", 1, 10, 0.02),
        lambda: bayes_planar.TableShares((0.0,)),
        lambda: bayes_helix.HelixFit((0,), 10, 10, 1),
        lambda: bayes_helix.HelixFit((20,), 10, 10, 1),
        lambda: bayes_learning.LearnedBoundary("symmetric", "rbf", 2, 5, 5, 5),
    ],
)
def test_runs_refuse_what_makes_no_sense(make):
    with pytest.raises(ValueError, match="must"):
        make()


# ------------------------------------------------------------------------------- helix


@pytest.mark.parametrize("noise_std", [0.05, 0.4])
def test_helix_density_is_the_integral_along_the_curve(noise_std):
    x = np.array([[0.9, 0.1, 0.3], [0.2, -1.0, 1.4]])
    for point, log_p in zip(x, bayes_helix.log_density(x, noise_std), strict=True):
        norm = (2 * math.pi * noise_std**2) ** -1.5

        def density(t, point=point, norm=norm):
            gap = point - bayes_helix.helix(np.array([t]))[0]
            return norm * math.exp(-float(gap @ gap) / (2 * noise_std**2))

        truth, _ = quad(density, 0, 1, limit=500, points=[0.02, 0.05, 0.25, 0.4, 0.5, 0.55, 0.9])
        assert log_p == pytest.approx(math.log(truth), abs=1e-3)


def test_fits_of_the_helix_improve_and_never_beat_the_truth(tmp_path):
    run = compute(bayes_helix.HelixFit((1, 6), 400, 400, 1), tmp_path)
    one, six = run.summary["rows"]
    assert one["held_out"] < six["held_out"] < run.summary["truth"]
    assert run.arrays["loadings_6"].shape == (6, 3, 2)
    assert bayes_helix._monotone(run.summary["rows"]).startswith("In none")


def test_a_fall_of_the_likelihood_is_told():
    rows = [{"n_iterations": 3, "smallest_gain": -1e-3}]
    assert "fell, by 1.0e-03" in bayes_helix._monotone(rows)


# ------------------------------------------------------------------------------- learning


def learned(learner: Any, **fields: Any) -> bayes_learning.LearnedBoundary:
    return bayes_learning.LearnedBoundary("symmetric", learner, 100, 300, 20, 21, **fields)


def test_descent_from_a_bad_start_is_accurate_and_brittle(tmp_path):
    rows = {
        learner: bayes_learning._row("symmetric", learner, compute(learned(learner), tmp_path))
        for learner in ("optimal", "rbf", "linear")
    }
    assert all(row["accuracy"] == 1.0 for row in rows.values())
    for label in (0, 1):
        best = rows["optimal"][f"mean_distance_{label}"]
        assert best == pytest.approx(1.5, abs=0.2)
        assert rows["rbf"][f"mean_distance_{label}"] > 0.8 * best
        assert rows["linear"][f"mean_distance_{label}"] < 0.5 * best


def test_bad_starts_weigh_the_second_coordinate():
    usual = learned("network, usual start")._start().linear[0].weight  # type: ignore[union-attr,index]
    bad = learned("network")._start().linear[0].weight  # type: ignore[union-attr,index]
    torch.testing.assert_close(bad[:, 0], usual[:, 0])
    torch.testing.assert_close(bad[:, 1], 30.0 * usual[:, 1])
    assert all(parameter.requires_grad for parameter in learned("linear")._start().parameters())


def test_a_classifier_without_correct_points_still_has_a_row():
    arrays = {"distance_0": np.zeros(3), "distance_1": np.array([np.inf, 1.0, 0.0])}
    row = bayes_learning._row("symmetric", "rbf", Run({}, RunResult({}, arrays), {}, Path("run")))
    assert math.isnan(row["mean_distance_0"])
    assert (row["mean_distance_1"], row["n_failed_1"]) == (1.0, 1)
    assert row["accuracy"] == pytest.approx(1 / 3)


# ------------------------------------------------------------------------------- all four


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.id)
def test_all_four_fit_in_the_quick_budget(experiment):
    assert experiment.paper == "bayes"
    assert experiment.cost("quick") < 30
