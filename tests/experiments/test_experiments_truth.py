"""The experiments that put true values beside the papers' estimates."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trueboundary.classifiers import (
    BinaryClassifier,
    QuadraticNetwork,
    ReLUNetwork,
    SphereBayes,
    TruncatedSum,
    to_arrays,
)
from trueboundary.experiments.base import Experiment
from trueboundary.experiments.networks.attacked_points import AttackedPoints
from trueboundary.experiments.networks.ellipsoids import METHODS, log10_error
from trueboundary.experiments.networks.error_counts import ErrorCount
from trueboundary.experiments.networks.network_brackets import (
    BracketedDistances,
    CertifiedRate,
    bracket_ratios,
)
from trueboundary.experiments.networks.restated_norms import RestatedCount, restate_norms
from trueboundary.experiments.networks.spectra import (
    MEAN_ALPHA,
    SHAPES,
    shape,
    std_for_clt,
    std_for_error,
)
from trueboundary.experiments.networks.splitting_rates import SplittingRate
from trueboundary.experiments.networks.trained_networks import FINAL, TrainedNetwork
from trueboundary.experiments.spheres import spheres_clt, spheres_error_rate
from trueboundary.experiments.truth import (
    truth_approximations,
    truth_exact_training,
    truth_relu_error,
    truth_tradeoff,
    truth_whole_sphere,
)
from trueboundary.problems import ConcentricSpheres
from trueboundary.runs import Context, Run, RunConfig, RunResult, collect
from trueboundary.theory import caps, truncated

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    module.EXPERIMENT
    for module in (
        truth_relu_error,
        truth_tradeoff,
        truth_approximations,
        truth_exact_training,
        truth_whole_sphere,
    )
)


def run(summary: Mapping[str, Any] | None = None, **arrays: Any) -> Run:
    """Return a finished run with this result."""
    return Run({}, RunResult(dict(summary or {}), arrays), {}, Path("run"))


def trained(model: BinaryClassifier) -> Run:
    """Return a finished training that gave this model."""
    return Run({}, RunResult({}, {}, {FINAL: to_arrays(model)}), {}, Path("run"))


def compute(config: RunConfig, folder: Path, **inputs: Run) -> RunResult:
    return config.compute(Context(inputs, folder, lambda _: None))


def network(dim: int) -> TrainedNetwork:
    return TrainedNetwork(dim, "relu", 8, 2, 10)


def norm_network(dim: int, threshold: float) -> ReLUNetwork:
    """Return a ReLU network whose margin is the sum of |x_i|, less a threshold."""
    model = ReLUNetwork(dim, 2 * dim, 1, batch_norm=None, generator=torch.Generator())
    (first, _), (last, _) = model.folded()
    state = dict(
        zip(
            model.state_dict(),
            (
                torch.cat([torch.eye(dim), -torch.eye(dim)]),
                torch.zeros(2 * dim),
                torch.ones(last.shape),
                torch.tensor([-threshold]),
            ),
            strict=True,
        )
    )
    assert first.shape == (2 * dim, dim)
    model.load_state_dict(state)
    return model.eval()


# ------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.id)
@pytest.mark.parametrize("scale", ["smoke", "quick", "paper"])
def test_plans_are_complete_and_differ_by_seed(experiment: Experiment, scale: Any) -> None:
    first, second = (experiment.runs(scale, seed=seed) for seed in (0, 1))
    assert first.keys() == second.keys()
    assert any(first[name].digest != second[name].digest for name in first)
    assert experiment.cost(scale) > 0


@pytest.mark.parametrize("scale", ["smoke", "quick", "paper"])
@pytest.mark.parametrize(
    ("experiment", "other"),
    [
        (truth_relu_error, spheres_error_rate),
        (truth_tradeoff, spheres_clt),
        (truth_approximations, spheres_clt),
    ],
)
def test_networks_are_shared_with_the_papers_experiments(
    experiment: Any, other: Any, scale: Any
) -> None:
    mine, theirs = (
        {c.digest for c in collect(e.EXPERIMENT.runs(scale).values()).values() if is_shared(c)}
        for e in (experiment, other)
    )
    assert mine & theirs
    if experiment is truth_approximations:
        assert mine == theirs


def is_shared(config: RunConfig) -> bool:
    return config.kind in ("TrainedNetwork", "ErrorCount", "EllipsoidErrors")


# ------------------------------------------------------------------------------- spectra


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_have_mean_0_and_standard_deviation_1(name: str) -> None:
    alphas = shape(name, 60)
    assert alphas.mean() == pytest.approx(0, abs=1e-12)
    assert alphas.std() == pytest.approx(1, rel=1e-12)
    assert (np.diff(alphas) >= 0).all()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("estimate", [-3.0, -11.0])
def test_the_clt_gives_the_estimate_on_both_spheres(name: str, estimate: float) -> None:
    std = std_for_clt(estimate, 500)
    assert std is not None
    alphas = MEAN_ALPHA + std * shape(name, 500)
    for sphere in ("inner", "outer"):
        assert log10_error(alphas, sphere, method="clt") == pytest.approx(estimate, rel=1e-10)


def test_no_spread_has_an_estimate_below_that_of_equal_alphas() -> None:
    assert std_for_clt(-300.0, 500) is None


@pytest.mark.parametrize("name", truth_tradeoff.SHOWN)
@pytest.mark.parametrize("error", [-1.0, -15.0, -60.0])
def test_a_spread_has_the_exact_error_rate(name: str, error: float) -> None:
    unit = shape(name, 100)
    alphas = MEAN_ALPHA + std_for_error(unit, error) * unit
    assert log10_error(alphas, "inner") == pytest.approx(error, abs=1e-7)


def test_spectra_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ValueError, match="no shape 'flat'"):
        shape("flat", 10)
    with pytest.raises(ValueError, match="more than 1"):
        shape("uniform", 1)
    with pytest.raises(ValueError, match="never err"):
        std_for_error(shape("two-point", 20), math.log10(0.9))


# ------------------------------------------------------------------------------- brackets


def test_splitting_finds_the_exact_rate_of_a_truncated_sum(tmp_path: Path) -> None:
    dim, k = 20, 17
    threshold = truncated.optimal_threshold(dim, k)
    exact = truncated.log_errors(dim, k, threshold)
    inputs = {"network": trained(TruncatedSum(dim, k, threshold))}
    for sphere, log_error in (("inner", exact.inner), ("outer", exact.outer)):
        config = SplittingRate(network(dim), sphere, 300, 4, 10, n_attacks=4)  # type: ignore[arg-type]
        found = compute(config, tmp_path, **inputs).summary
        assert found["reached"]
        assert found["low"] < found["rate"] < found["high"]
        # Four standard deviations; the coverage of the intervals is tested where they are made.
        assert found["rate"] == pytest.approx(math.exp(log_error), rel=0.4)


def test_splitting_says_when_it_reaches_no_error(tmp_path: Path) -> None:
    config = SplittingRate(network(5), "inner", 20, 1, 2, n_attacks=2)
    found = compute(config, tmp_path, network=trained(SphereBayes(5))).summary
    assert not found["reached"]
    assert found["rate"] is None
    assert 0 < found["high"] < 1


def test_distances_bracket_the_exact_ones(tmp_path: Path) -> None:
    # The inner sphere crosses |x_1| + |x_2| = 1.2 where the angle to an axis has
    # cos a + sin a = 1.2, that is sin(2 a) = 0.44.
    config = BracketedDistances(network(2), "inner", 40, 2000, tolerance=1e-3)
    arrays = compute(config, tmp_path, network=trained(norm_network(2, 1.2))).arrays
    x, _ = AttackedPoints(network(2), 40).points()
    from_axis = np.arctan2(*np.sort(np.abs(x.numpy()), axis=1).T)
    exact = np.maximum(0.0, 2 * np.sin((0.5 * math.asin(0.44) - from_axis) / 2))
    assert (arrays["certified"] <= exact + 1e-6).all()
    assert (arrays["attacked"] >= exact - 1e-6).all()
    assert arrays["attacked"] == pytest.approx(exact, abs=2e-3)
    assert (exact > 0).any()
    assert (exact == 0).any()


def test_the_proven_limit_counts_errors_as_exceptions(tmp_path: Path) -> None:
    # Even where the pilot's points are errors, so that the chosen angle is 0.
    pilot = BracketedDistances(network(3), "inner", 2, 1)
    config = CertifiedRate(pilot, 60)
    wrong = norm_network(3, 0.1)
    found = compute(
        config,
        tmp_path,
        network=trained(wrong),
        pilot=run(certified=np.zeros(2), attacked=np.zeros(2)),
    ).summary
    assert found["angle"] == 0
    assert found["n_exceptions"] == 60
    assert found["log10_limit"] == 0


def test_the_proven_limit_is_the_amplified_bound_and_resumes(tmp_path: Path) -> None:
    pilot = BracketedDistances(network(3), "inner", 2, 1)
    config = CertifiedRate(pilot, 60)
    inputs = {
        "network": trained(norm_network(3, 1.7)),
        "pilot": run(certified=np.full(2, 0.1), attacked=np.full(2, 0.2)),
    }
    found = compute(config, tmp_path, **inputs).summary
    angle = 0.7 * 2 * math.asin(0.05)
    assert found["angle"] == pytest.approx(angle, rel=1e-12)
    assert 0 < found["n_exceptions"] < 60  # near the corners it cannot be certified
    limit = caps.log_amplified_error_bound(3, 60, angle, n_exceptions=found["n_exceptions"])
    assert found["log10_limit"] == pytest.approx(limit / math.log(10), rel=1e-12)
    assert compute(config, tmp_path, **inputs).summary == found  # from its checkpoint


def test_mean_distances_leave_out_what_the_attack_did_not_find() -> None:
    arrays = {"certified": np.array([0.1, math.inf]), "attacked": np.array([0.3, math.inf])}
    found = bracket_ratios(arrays, 10, math.log(1e-3), 1.0)
    assert found["n_not_found"] == 1
    assert found["attacked"] == pytest.approx(0.3)
    assert found["certified"] == pytest.approx((0.1 + 2.0) / 2)
    assert found["optimum"] == pytest.approx(caps.mean_distance(10, 1e-3))


# ------------------------------------------------------------------------------- relu error


def relu_runs(rate: float | None) -> dict[str, Run]:
    runs = {"count": run({"n_points": 1000, "n_errors_inner": 0, "n_errors_outer": 2})}
    runs["restated"] = run({"n_points": 500, "n_errors_inner": 1, "n_errors_outer": 0})
    splitting = {
        "reached": rate is not None,
        "rate": rate,
        "low": 0.0 if rate is None else rate / 2,
        "high": 1e-3 if rate is None else rate * 2,
        "spread": 0.3,
        "n_levels": 20,
        "n_evaluations": 1000,
        "n_attack_errors": 3,
        "deepest_probability": 1e-9,
        "warnings": ["doubtful"],
    }
    proof = {"angle": 0.02, "n_points": 100, "n_exceptions": 3, "log10_limit": -2.0}
    for sphere in ("inner", "outer"):
        runs[f"splitting/{sphere}"] = run(splitting)
        runs[f"proof/{sphere}"] = run(proof)
        runs[f"distances/{sphere}"] = run(
            certified=np.full(4, 0.02), attacked=np.array([0.1, 0.2, 0.3, math.inf])
        )
    return runs


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(1e-8, (1e-8, 5e-9, 2e-8)), (1e-5, (1e-5, 5e-6, 2e-5)), (None, (1e-3, 0.0, 1e-3))],
)
def test_the_rate_comes_with_its_interval(
    rate: float | None, expected: tuple[float, float, float]
) -> None:
    settings = truth_relu_error.EXPERIMENT.settings("paper")
    analysis = truth_relu_error.analyse(relu_runs(rate), settings)
    found = analysis.measurements["T2"]
    assert (found.value, found.low, found.high) == pytest.approx(expected)
    for panel in analysis.panels:
        assert panel.draw().axes
    assert any("doubtful" in remark for remark in analysis.remarks)
    again = analysis.measurements["T8"]
    assert (again.value, again.n) == (1 / 500, 500)
    assert "Inner: 1 errors among 500 points" in again.note


def test_statistics_taken_again_are_those_of_the_population() -> None:
    """A linear map of a uniform point has mean b and variance |w|^2 E[r^2]/d: a closed form."""
    generator = torch.Generator().manual_seed(0)
    model = ReLUNetwork(20, 8, 2, generator=generator).eval()
    first = model.linear[0]
    with torch.no_grad():
        first.bias += 1.0
    other = copy.deepcopy(model)
    restate_norms(model, ConcentricSpheres(20, radius=1.3), 200_000, seed=1)
    variance = first.weight.detach().square().sum(dim=1) * (1 + 1.3**2) / 2 / 20
    norm = model.norm[0]
    torch.testing.assert_close(norm.running_var, variance, rtol=0.02, atol=0)
    tolerance = 5 * float((variance / 200_000).sqrt().max())
    torch.testing.assert_close(norm.running_mean, first.bias, rtol=0, atol=tolerance)
    assert not norm.training
    assert norm.momentum == other.norm[0].momentum
    for name, value in other.named_parameters():
        assert torch.equal(value, dict(model.named_parameters())[name])


def test_errors_are_counted_among_the_points_of_the_plain_count(tmp_path: Path) -> None:
    """Without any batch normalisation there is nothing to take again."""
    config = RestatedCount(network(3), 500, 4000, seed=2)
    model = trained(norm_network(3, 1.1))
    plain = compute(ErrorCount(network(3), 500, seed=2), tmp_path / "plain", network=model).summary
    again = compute(config, tmp_path / "again", network=model).summary
    assert again == plain


# ------------------------------------------------------------------------------- trade-off


def test_distances_of_a_two_point_spectrum_stay_at_the_limit() -> None:
    config = truth_tradeoff.ShapeDistances(300, (-3.0, -6.0), 300)
    rows = compute(config, Path("unused")).summary["rows"]
    for row in rows:
        assert row["low"] < row["ratio"] < row["high"]
        if row["shape"] in truth_tradeoff.BULK:
            assert row["ratio"] == pytest.approx(truth_tradeoff.LIMIT, abs=0.04)
    spike = [row["ratio"] for row in rows if row["shape"] == "1 spike"]
    assert min(spike) > 0.78


def test_networks_without_errors_have_no_place_in_the_trade_off() -> None:
    settings = truth_tradeoff.EXPERIMENT.settings("smoke") | {"train_sizes": (0,), "dim": 20}
    errors = {
        "step": np.array([1, 2, 3]),
        "exact-inner": np.array([-3.0, -math.inf, 0.0]),
        "exact-outer": np.array([-2.0, -math.inf, 0.0]),
    }
    distances = {
        sphere: np.array([[0.2, 0.4], [math.inf] * 2, [math.nan] * 2])
        for sphere in ("inner", "outer")
    }
    runs = {"errors/0": run(**errors), "quadratic/0": run(**distances)}
    rows = truth_tradeoff.quadratic_rows(runs, settings)
    assert [(row["step"], row["sphere"]) for row in rows] == [(1, "inner"), (1, "outer")]
    assert rows[0]["ratio"] == pytest.approx(0.3 / caps.mean_distance(20, 1e-3))


# ------------------------------------------------------------------------------- approximations


def test_the_clt_is_wrong_by_what_its_rows_say() -> None:
    rows = compute(truth_approximations.ShapeErrors(500, (-11.0,)), Path("unused")).summary["rows"]
    exact = {(row["shape"], row["sphere"]): row["exact"] for row in rows}
    # Beta and high-precision values for the spread at which the CLT gives 1e-11.
    assert exact["two-point", "inner"] == pytest.approx(-14.717, abs=5e-4)
    assert exact["gamma(3)", "inner"] == pytest.approx(-9.168, abs=5e-4)
    assert exact["log-normal", "outer"] == pytest.approx(-44.185, abs=5e-4)
    assert exact["1 spike", "outer"] == -math.inf
    for row in rows:
        assert row["clt"] == pytest.approx(-11)
        if math.isfinite(row["exact"]):
            assert row["chernoff"] > row["exact"]


def test_errors_of_the_clt_are_measured_at_the_papers_estimate() -> None:
    rows = [
        {"shape": "uniform", "estimate": -11.0, "sphere": "inner"}
        | {"exact": -13.5, "clt": -11.0, "sphere-clt": -13.2}
        | {"lugannani-rice": -13.5, "chernoff": -12.1}
    ]
    arrays = {"step": np.array([1])} | {
        f"{method}-{sphere}": np.array([-3.0])
        for method in METHODS
        for sphere in ("inner", "outer")
    }
    settings = truth_approximations.EXPERIMENT.settings("quick") | {"train_sizes": (0,)}
    runs = {"shapes": run({"rows": rows}), "trained/0": run(**arrays)}
    analysis = truth_approximations.analyse(runs, settings)
    assert analysis.measurements["T4"].value == pytest.approx(2.5)
    assert all(panel.draw().axes for panel in analysis.panels)


# ------------------------------------------------------------------------------- exact training


def test_the_exact_error_is_the_mean_of_both_spheres() -> None:
    model = QuadraticNetwork(6, 12, generator=torch.Generator().manual_seed(1))
    loss = truth_exact_training.ExactError()
    value = loss(model, torch.empty(0), torch.empty(0), generator=torch.Generator())
    alphas = model.alphas()
    mean = sum(10 ** log10_error(alphas, s) for s in ("inner", "outer")) / 2  # type: ignore[arg-type]
    assert value.item() == pytest.approx(math.log(mean), rel=1e-6)
    value.backward()
    assert model.hidden_weight.grad is not None
    assert bool(model.hidden_weight.grad.isfinite().all())


def test_the_gradient_of_the_exact_error_is_that_of_differences() -> None:
    model = QuadraticNetwork(4, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    loss = truth_exact_training.ExactError()
    args = (torch.empty(0), torch.empty(0))
    loss(model, *args, generator=torch.Generator()).backward()
    for parameter, index in ((model.bias, ()), (model.weight, ()), (model.hidden_weight, (3, 2))):
        assert parameter.grad is not None
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter[index] += step
                values.append(loss(model, *args, generator=torch.Generator()).item())
                parameter[index] -= step
        slope = (values[0] - values[1]) / 2e-6
        assert parameter.grad[index].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_a_perfect_network_has_a_finite_loss_and_no_gradient() -> None:
    model = QuadraticNetwork.perfect(5, 10)
    loss = truth_exact_training.ExactError()
    value = loss(model, torch.empty(0), torch.empty(0), generator=torch.Generator())
    value.backward()
    assert math.isfinite(value.item())
    assert model.hidden_weight.grad is not None
    assert bool((model.hidden_weight.grad == 0).all())
    with pytest.raises(TypeError, match="QuadraticNetwork"):
        loss(SphereBayes(5), torch.empty(0), torch.empty(0), generator=torch.Generator())


def test_training_on_the_exact_error_makes_a_network_perfect(tmp_path: Path) -> None:
    config = truth_exact_training.ObjectiveTraining(
        10, 20, "exact error", 200, 1e-2, memory=0.9, look_every=5
    )
    result = compute(config, tmp_path)
    assert result.summary["n_steps"] is not None
    assert result.arrays["n_wrong"][-1] == 0
    assert np.isneginf(result.arrays["inner"][-1])
    assert np.isneginf(result.arrays["outer"][-1])
    assert result.arrays["step"][-1] == result.summary["n_steps"]
    with pytest.raises(ValueError, match="objective"):
        replace(config, objective="hinge")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- whole sphere


def test_a_sphere_is_proven_or_refuted(tmp_path: Path) -> None:
    config = truth_whole_sphere.WholeSphere(network(2), "inner", 1000)
    # On the unit circle |x_1| + |x_2| reaches sqrt(2).
    proven = compute(config, tmp_path, network=trained(norm_network(2, 1.42))).summary
    assert proven["status"] == "proven"
    assert 0 < proven["smallest_margin"] < 0.01
    assert compute(config, tmp_path, network=trained(norm_network(2, 1.41))).summary["status"] == (
        "error"
    )
    few = replace(config, max_cells=1)
    undecided = compute(few, tmp_path, network=trained(norm_network(2, 1.42))).summary
    assert undecided["status"] == "undecided"
    assert undecided["n_open"] > 0


@pytest.mark.parametrize(
    ("first", "status", "largest"),
    [(4, "proven", 6), (4, "error", 3), (4, "undecided", 3), (2, "undecided", 0)],
)
def test_the_largest_dimension_is_the_one_below_which_all_are_proven(
    first: int, status: str, largest: int
) -> None:
    settings = truth_whole_sphere.EXPERIMENT.settings("paper")
    done = {"n_cells": 10, "n_open": 0, "smallest_margin": 0.1}
    runs = {
        f"{dim}/{sphere}": run(done | {"status": status if dim in (first, 5) else "proven"})
        for dim in settings["dims"]
        for sphere in ("inner", "outer")
    }
    analysis = truth_whole_sphere.analyse(runs, settings)
    assert analysis.measurements["T3"].value == largest
    assert analysis.panels[0].draw().axes


# ------------------------------------------------------------------------------- all together
