"""The analyses of the quadratic networks' experiments, on runs made by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trueboundary.certificates import nearest_ellipsoid_error
from trueboundary.classifiers import QuadraticNetwork, to_arrays
from trueboundary.experiments.claims import judge, read_claims
from trueboundary.experiments.networks import ellipsoids
from trueboundary.experiments.networks.trained_networks import SPHERES, TrainedNetwork
from trueboundary.experiments.spheres import (
    spheres_alphas,
    spheres_clt,
    spheres_hard_examples,
    spheres_narrow,
    spheres_perfect_start,
    spheres_radius,
)
from trueboundary.problems import ConcentricSpheres
from trueboundary.runs import Context, Run, RunConfig, RunResult

PERFECT = np.full(500, 4 / 2.3**2)


def finished(config: dict[str, Any], summary: dict[str, Any], arrays: dict[str, Any]) -> Run:
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    return Run(config, RunResult(summary, arrays), {}, Path("nowhere"))


def computed(config: RunConfig, folder: Path, **inputs: Run) -> Run:
    """Compute a configuration without a store."""
    folder.mkdir(parents=True, exist_ok=True)
    result = config.compute(Context(inputs, folder, lambda fraction: None))
    return Run(config.describe(), result, {}, folder)


def errors_run(*networks: np.ndarray, steps: tuple[int, ...] = (), radius: float = 1.3) -> Run:
    """Return an `EllipsoidErrors` run that holds networks with these alphas."""
    config = ellipsoids.EllipsoidErrors(
        TrainedNetwork(len(networks[0]), "quadratic", 8, 1, 10, radius=radius)
    )
    steps = steps or tuple(range(1, len(networks) + 1))
    rows = [config._row(step, a, 1.0) for step, a in zip(steps, networks, strict=True)]
    return finished({}, {}, {name: [row[name] for row in rows] for name in rows[0]})


# ------------------------------------------------------------------ shared parts


def test_the_papers_histogram_gives_the_papers_rate_on_the_inner_sphere_only() -> None:
    alphas = spheres_alphas.paper_alphas()
    assert len(alphas) == 500
    assert alphas.min() > 0
    assert alphas.max() < spheres_alphas.PAPER_MAXIMUM
    rate = ellipsoids.log10_error
    # The end of the axis, 1.957, is read to about 0.004, which moves the exponent by 0.13.
    assert rate(alphas, "inner", method="clt") == pytest.approx(-11.0, abs=0.13)
    assert rate(alphas, "outer", method="clt") == pytest.approx(-4.6, abs=0.1)
    assert rate(alphas, "inner") == pytest.approx(-12.3, abs=0.15)
    assert -5.3 <= rate(alphas, "outer") <= -5.05


def test_the_papers_histogram_has_about_the_printed_number_of_wrong_alphas() -> None:
    # The bars straddle the limits, so reading them off loses a few.
    assert abs(ellipsoids.count_wrong(spheres_alphas.paper_alphas()) - 394) <= 4


@pytest.mark.parametrize(
    ("alphas", "n_wrong"),
    [([1.0, 1.3**-2], 0), ([1.0 + 1e-12, 0.7], 1), ([0.5, 0.7], 1), ([0.5, 1.1], 2)],
)
def test_alphas_on_the_limits_are_right(alphas: list[float], n_wrong: int) -> None:
    assert ellipsoids.count_wrong(np.array(alphas)) == n_wrong


def test_inverting_a_network_exchanges_right_and_wrong() -> None:
    alphas = np.array([0.4, 0.8, 1.2])
    for sphere in SPHERES:
        right = 10 ** ellipsoids.log10_error(alphas, sphere)
        wrong = 10 ** ellipsoids.log10_error(alphas, sphere, inverted=True)
        assert right + wrong == pytest.approx(1.0, rel=1e-12)


def test_a_perfect_ellipsoid_has_no_error_by_exact_methods() -> None:
    for method in ("exact", "lugannani-rice", "chernoff"):
        for sphere in SPHERES:
            assert ellipsoids.log10_error(PERFECT, sphere, method=method) == -math.inf


def test_experiments_share_the_trained_networks() -> None:
    for scale in ("smoke", "quick", "paper"):
        alphas = spheres_alphas.EXPERIMENT.runs(scale)
        clt = spheres_clt.EXPERIMENT.runs(scale)
        shared = {run.digest for run in alphas.values()} & {run.digest for run in clt.values()}
        sizes = spheres_clt.EXPERIMENT.settings(scale)["train_sizes"]
        assert len(shared) == len(sizes)


def test_every_stored_model_becomes_a_row(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    early, late = QuadraticNetwork(6, 12, generator=generator), QuadraticNetwork.perfect(6, 12)
    network = TrainedNetwork(6, "quadratic", 12, 1, 40, snapshots=(10,))
    models = {"step-00000010": to_arrays(early), "final": to_arrays(late)}
    stored = Run({}, RunResult({}, {}, models), {}, tmp_path)
    run = computed(ellipsoids.EllipsoidErrors(network), tmp_path, network=stored)
    assert run.arrays["step"].tolist() == [10, 40]
    assert run.arrays["n_wrong"][1] == 0
    np.testing.assert_allclose(run.arrays["alphas"][0], early.alphas())
    assert run.arrays["exact-inner"][1] == -math.inf
    assert run.arrays["exact-inner"][0] < 0


def test_only_quadratic_networks_have_alphas(tmp_path: Path) -> None:
    model = ConcentricSpheres(6).bayes_classifier()
    stored = Run({}, RunResult({}, {}, {"final": to_arrays(model)}), {}, tmp_path)
    config = ellipsoids.EllipsoidErrors(TrainedNetwork(6, "quadratic", 12, 1, 40))
    with pytest.raises(TypeError, match="only a quadratic network has alphas"):
        computed(config, tmp_path, network=stored)


# ------------------------------------------------------------------ spheres-alphas


def alphas_settings(**changes: Any) -> dict[str, Any]:
    return spheres_alphas.EXPERIMENT.settings("quick") | {"train_sizes": (100_000, 0)} | changes


def test_the_papers_own_network_differs_in_its_unseen_errors_only() -> None:
    paper = errors_run(spheres_alphas.paper_alphas())
    perfect = errors_run(PERFECT)
    runs = {"n100000-seed0": paper, "online-seed0": perfect, "small-seed0": perfect}
    measured = spheres_alphas.analyse(runs, alphas_settings()).measurements
    assert measured["A2.3"].value == 0
    assert measured["A2.4a"].value == pytest.approx(394, abs=4)
    assert measured["A2.4a"].low == -math.inf  # of one network
    assert 50 <= 10 ** measured["A2.4b"].value <= 85
    assert measured["A2.5"].value == pytest.approx(-11.0, abs=0.13)


def test_both_sizes_that_the_paper_names_are_measured() -> None:
    paper, perfect = errors_run(spheres_alphas.paper_alphas()), errors_run(PERFECT)
    runs = {"n100000-seed0": perfect, "n1000000-seed0": paper, "online-seed0": perfect}
    runs["small-seed0"] = perfect
    settings = alphas_settings(train_sizes=(100_000, 1_000_000, 0))
    measured = spheres_alphas.analyse(runs, settings).measurements
    assert measured["A2.4a"].value == 0
    assert measured["A2.4a-1e6"].value == pytest.approx(394, abs=4)
    assert measured["A2.5-1e6"].value == pytest.approx(-11.0, abs=0.13)
    assert 50 <= 10 ** measured["A2.4b-1e6"].value <= 85


def test_several_seeds_give_an_interval_over_seeds_and_the_worst_online_network() -> None:
    alphas = spheres_alphas.paper_alphas()
    runs = {}
    for index, factor in enumerate((1.0, 1.01)):
        runs[f"n100000-seed{index}"] = errors_run(alphas * factor)
        runs[f"online-seed{index}"] = errors_run(PERFECT * (1 + index))
        runs[f"small-seed{index}"] = errors_run(PERFECT)
    analysis = spheres_alphas.analyse(runs, alphas_settings(n_seeds=2))
    assert analysis.measurements["A2.3"].value == 500
    low, high = analysis.measurements["A2.5"].low, analysis.measurements["A2.5"].high
    assert low is not None
    assert high is not None
    assert low < analysis.measurements["A2.5"].value < high


def test_a_histogram_keeps_every_alpha_however_large() -> None:
    wild = np.append(np.full(499, 0.8), 1000.0)
    runs = {"n100000-seed0": errors_run(wild), "online-seed0": errors_run(PERFECT)}
    runs["small-seed0"] = runs["online-seed0"]
    panel = spheres_alphas.analyse(runs, alphas_settings()).panels[0]
    assert sum(row["count"] for row in panel.data if row["n_train"] == 100_000) == 500
    assert len(panel.data) <= 2 * 200


# ------------------------------------------------------------------ spheres-perfect-start


def test_the_log_holds_every_step_of_the_papers_curve() -> None:
    assert set(spheres_perfect_start.PAPER_WRONG) - {38_900} <= set(
        spheres_perfect_start.steps_to_log(40_000)
    )
    assert spheres_perfect_start.steps_to_log(60) == (0, 60)
    assert spheres_perfect_start.steps_to_log(5000)[-1] == 5000


def start_run(kappa: float = 10.0, **changes: Any) -> Run:
    steps = [0, *(step for step in spheres_perfect_start.PAPER_WRONG if step <= 5000)]
    arrays = {
        "step": steps,
        "n_wrong": [0.0, *(spheres_perfect_start.PAPER_WRONG[step] for step in steps[1:])],
        "average_loss": np.linspace(0.03, 0.02, len(steps)),
        "average_loss_error": np.zeros(len(steps)),
        "worst_loss": np.linspace(0.04, 4.0, len(steps)),
        "probability-inner": np.full(len(steps), 0.0016),
        "probability-outer": np.full(len(steps), 0.9994),
    }
    return finished({"kappa": kappa, "radius": 1.3}, {}, arrays | changes)


def start_analysis(*runs: Run, n_steps: int = 5000) -> dict[str, Any]:
    names = {f"kappa{run.config['kappa']:g}-seed0": run for run in runs}
    settings = {
        "n_steps": n_steps,
        "n_seeds": 1,
        "kappas": tuple(run.config["kappa"] for run in runs),
        "weight_share": 0.5,
        "other_weights": (),
    }
    return dict(spheres_perfect_start.analyse(names, settings).measurements)


def test_the_papers_own_curve_deviates_nowhere() -> None:
    measured = start_analysis(start_run(10.0), start_run(20.0))
    assert measured["A2.7a"].value is True
    assert measured["A2.7b"].value is True
    assert measured["A2.7c"].value == 0
    assert measured["A2.6a"].exact == pytest.approx(0.001578, abs=1e-6)
    assert measured["A2.6b"].exact == pytest.approx(0.999358, abs=1e-6)
    assert measured["A2.6c"].exact == pytest.approx(0.001111, abs=1e-6)


def test_errors_that_come_late_or_losses_that_rise_are_seen() -> None:
    n = len(start_run().arrays["step"])
    late = start_run(n_wrong=np.append(np.zeros(n - 1), 30.0))
    assert start_analysis(late)["A2.7a"].value is False
    rising = start_run(average_loss=np.linspace(0.02, 0.03, n))
    assert start_analysis(rising)["A2.7b"].value is False
    level = start_run(average_loss_error=np.full(n, 0.003))  # a fall of .01 might be chance
    assert start_analysis(level)["A2.7b"].value is None
    better = start_run(average_loss_error=np.full(n, 0.002))
    assert start_analysis(better)["A2.7b"].value is True
    worst = start_run(average_loss_error=np.full(n, 0.003), worst_loss=np.linspace(4, 1, n))
    assert start_analysis(worst)["A2.7b"].value is False
    assert "A2.6a" not in start_analysis(late)


def figure_run(**changes: Any) -> Run:
    """Return a training whose counts are those of the paper's figure, to its end."""
    curve = spheres_perfect_start.PAPER_WRONG
    steps = [0, *curve]
    n = len(steps)
    zeros = dict.fromkeys(("average_loss", "average_loss_error", "worst_loss"), np.zeros(n))
    arrays = {"step": steps, "n_wrong": [0.0, *curve.values()], **zeros}
    return finished({"kappa": 10.0, "radius": 1.3}, {}, arrays | changes)


def test_the_whole_curve_counts_with_its_peak_and_its_decline() -> None:
    own = start_analysis(figure_run(), n_steps=40_000)
    assert (own["A2.7c"].value, own["A2.7d"].value) == (0, True)
    assert own["A2.7c"].note == "Up to step 38,900."
    wrong = np.array(figure_run().arrays["n_wrong"], dtype=float)
    late = wrong.copy()
    late[-1] = wrong.max() + 3  # rises to the end
    rising = start_analysis(figure_run(n_wrong=late), n_steps=40_000)
    assert rising["A2.7c"].value == 15
    assert rising["A2.7d"].value is False
    flat = wrong.copy()
    flat[-1] = wrong.max() - 5
    assert start_analysis(figure_run(n_wrong=flat), n_steps=40_000)["A2.7d"].value is False
    assert "A2.7d" not in start_analysis(start_run(), n_steps=5000)


def test_the_farthest_network_counts_and_not_the_mean_of_all() -> None:
    wrong = np.array(figure_run().arrays["n_wrong"], dtype=float)
    runs = {
        f"kappa10-seed{index}": figure_run(n_wrong=np.maximum(wrong + shift, 0))
        for index, shift in enumerate((-12.0, 12.0))
    }
    settings = {"n_steps": 40_000, "n_seeds": 2, "kappas": (10.0,)}
    settings |= {"weight_share": 0.5, "other_weights": ()}
    measured = spheres_perfect_start.analyse(runs, settings).measurements
    assert measured["A2.7c"].value == 12


def test_the_verdict_says_for_which_splits_errors_are_back() -> None:
    n = len(start_run().arrays["step"])
    none_early = np.append(np.zeros(n - 2), [7.0, 30.0])
    runs = {
        "kappa10-seed0": start_run(),
        "weight1": start_run(n_wrong=np.zeros(n)),
        "weight3.16": start_run(n_wrong=none_early),
        "weight10": start_run(n_wrong=np.linspace(0, 300, n)),
    }
    settings = {"n_steps": 5000, "n_seeds": 1, "kappas": (10.0,), "weight_share": 0.5}
    settings |= {"other_weights": (10.0, 1.0, 3.16), "dim": 500, "width": 1000}
    analysis = spheres_perfect_start.analyse(runs, settings)
    told = "errors are back at step 1000 for output weights 5, 10, and not for 1, 3.16"
    assert told in analysis.measurements["A2.7a"].holds_for
    cells = analysis.measurements["A2.7a"].cells
    assert [cell["output weight"] for cell in cells] == [5.0, 1.0, 3.16, 10.0]
    assert [cell["wrong then"] for cell in cells] == [19, 0, 0, 85]
    (claim,) = [claim for claim in read_claims("spheres") if claim.id == "A2.7a"]
    judgement = judge(claim, analysis.measurements["A2.7a"], settings)
    assert judgement.verdict.value == "reproduced"
    assert judgement.conditions == (f"with kappa = 10, {told}",)
    (assumed,) = judgement.assumptions
    assert assumed.startswith("weight_share is 0.5 (how kappa is split")
    _, table = analysis.panels
    assert table.draw().axes
    assert [row["output weight"] for row in table.data] == [1.0, 3.16, 5.0, 10.0]
    assert [row["first seen at step"] for row in table.data] == [None, 4000, 800, 800]


def test_another_split_is_another_run_of_the_same_function(tmp_path: Path) -> None:
    quick = spheres_perfect_start.EXPERIMENT.runs("smoke")
    assert quick["kappa10-seed0"].kind == "PerfectStart"
    given = spheres_perfect_start.EXPERIMENT.runs("smoke", overrides={"weight_share": 0.25})
    assert given["kappa20-seed0"].describe()["weight"] == 5.0
    usual, other = (
        computed(config, tmp_path / config.kind)
        for config in (
            spheres_perfect_start.PerfectStart(4, 8, 10.0, 1, (0, 1)),
            spheres_perfect_start.SplitStart(4, 8, 10.0, 1, (0, 1), weight=1.0),
        )
    )
    for name, rel in (("average_loss", 1e-6), ("probability-inner", 1e-5)):
        assert other.arrays[name][0] == pytest.approx(usual.arrays[name][0], rel=rel)
    assert other.arrays["worst_loss"][1] != usual.arrays["worst_loss"][1]
    with pytest.raises(ValueError, match="weight"):
        spheres_perfect_start.SplitStart(4, 8, 10.0, 1, (0, 1), weight=0.0)


def test_a_training_too_short_for_a_claim_does_not_measure_it() -> None:
    short = start_run()
    arrays = {name: values[:2] for name, values in short.arrays.items()} | {"step": [0, 60]}
    measured = start_analysis(finished(short.config, {}, arrays), n_steps=60)
    assert "A2.7b" in measured
    assert not {"A2.7a", "A2.7c"} & set(measured)


def test_examining_agrees_with_the_network_itself() -> None:
    model = QuadraticNetwork(5, 10, generator=torch.Generator().manual_seed(3), weight=2.0)
    ellipsoid = model.ellipsoid()
    config = spheres_perfect_start.PerfectStart(5, 10, 10.0, 10, (0, 10))
    blocks = ConcentricSpheres(5).blocks(200, seed=0, label=0, dtype=torch.float64)
    x = torch.cat([block for block, _ in blocks])
    with torch.no_grad():
        double = model.double()
        inner, outer = double.margin(x), double.margin(1.3 * x)
    losses = (inner.logaddexp(torch.zeros(())) + (-outer).logaddexp(torch.zeros(()))) / 2
    squares = ellipsoid.to_eigenbasis(x.numpy()) ** 2
    row = config.examine(ellipsoid.alphas, ellipsoid.scale, squares)
    assert row["average_loss"] == pytest.approx(float(losses.mean()), rel=1e-6)
    worst = max(ellipsoid.worst_case_loss(sphere) for sphere in SPHERES)
    assert row["worst_loss"] == pytest.approx(worst, rel=1e-12)
    assert row["n_wrong"] == ellipsoid.n_bad()


# ------------------------------------------------------------------ spheres-clt


def clt_runs(errors: Run, n_errors: int = 0) -> dict[str, Run]:
    counts = np.full(len(errors.arrays["step"]), n_errors)
    checks = ("equivalence_holds", "inner_holds", "outer_holds", "counts_agree", "holds_as_printed")
    summary = {f"n_{name}": 9 for name in checks} | {"n_right_and_inverted": 1}
    return {
        "errors-0": errors,
        "counts-0": finished({}, {"n_points": 1000}, dict.fromkeys(SPHERES, counts)),
        "random-ellipsoids": finished(
            {}, summary | {"n_cases": 9, "n_perfect": 3, "n_inverted": 2}, {}
        ),
        "best-mean": finished({}, {"mean_alpha": 0.796, "log10_error": -28.0}, {}),
    }


def test_the_clt_is_judged_where_errors_can_be_counted() -> None:
    generator = np.random.default_rng(0)
    wide, narrow = generator.uniform(0, 1.6, 50), generator.uniform(0.3, 1.3, 50)
    errors = errors_run(wide, narrow)
    errors.arrays["exact-inner"][:] = [-2.0, -9.0]
    errors.arrays["clt-inner"][:] = [-2.1, -5.0]
    errors.arrays["exact-outer"][:] = [-3.0, -8.0]
    errors.arrays["clt-outer"][:] = [-2.5, -8.0]
    settings = {"train_sizes": (0,)}
    measured = spheres_clt.analyse(clt_runs(errors), settings).measurements
    assert measured["A2.8"].value == pytest.approx(0.5)
    assert measured["A2.8"].n == 2
    # Proposition 4.1 literally, by hand, for the one inner rate that can be counted.
    weights = np.sort(wide) - 1
    ratio = weights.sum() / (2 * (weights**2).sum())
    printed = math.log10(1 - 0.5 * math.erfc(-ratio / math.sqrt(2)))
    assert measured["A2.8b"].value == pytest.approx(abs(printed + 2.0))
    assert measured["A2.8b"].n == 1


def test_networks_without_errors_leave_the_estimates_unjudged() -> None:
    measured = spheres_clt.analyse(
        clt_runs(errors_run(PERFECT)), {"train_sizes": (0,)}
    ).measurements
    assert not {"A2.8", "A2.8b"} & set(measured)
    assert not any(claim.startswith("F1") for claim in measured)


def test_one_failing_case_refutes_the_equivalence() -> None:
    runs = clt_runs(errors_run(np.linspace(0.1, 1.5, 30)))
    settings = {"train_sizes": (0,)}
    assert spheres_clt.analyse(runs, settings).measurements["A2.1"].value is True
    runs["random-ellipsoids"].summary["n_equivalence_holds"] = 8
    measured = spheres_clt.analyse(runs, settings).measurements
    assert measured["A2.1"].value is False
    assert measured["A2.2"].value is True
    assert measured["A2.1b"].value is True
    runs["random-ellipsoids"].summary.update(n_outer_holds=8, n_holds_as_printed=8)
    assert spheres_clt.analyse(runs, settings).measurements["A2.1b"].value is False
    assert spheres_clt.analyse(runs, settings).measurements["A2.2"].value is False


@pytest.mark.parametrize("seed", [0, 1])
def test_random_ellipsoids_obey_the_equivalence(seed: int, tmp_path: Path) -> None:
    summary = computed(spheres_clt.RandomEllipsoids(100, 500, seed=seed), tmp_path).summary
    assert summary["n_equivalence_holds"] == 100
    assert summary["n_inner_holds"] == summary["n_outer_holds"] == 100
    assert summary["n_counts_agree"] == 100
    assert 0 < summary["n_perfect"] < 100  # both sides of the equivalence are seen
    assert summary["n_inverted"] > 0
    # As printed it fails for the right alphas of a network with turned signs, and for no other.
    assert summary["n_right_and_inverted"] > 0
    assert summary["n_holds_as_printed"] == 100 - summary["n_right_and_inverted"]


def test_right_alphas_with_turned_signs_call_every_point_wrong() -> None:
    network = QuadraticNetwork.perfect(20, 40, kappa=10.0, generator=torch.Generator()).double()
    x, y = ConcentricSpheres(20).sample(200, generator=torch.Generator(), dtype=torch.float64)
    alphas = network.alphas()
    assert bool((network.predict(x) == y).all())
    with torch.no_grad():
        network.weight.neg_()
        network.bias.neg_()
    assert network.bias > 0
    np.testing.assert_allclose(network.alphas(), alphas)
    assert ellipsoids.count_wrong(network.alphas()) == 0
    assert not bool((network.predict(x) == y).any())


def test_counts_of_a_wrong_rate_are_caught() -> None:
    config = spheres_clt.RandomEllipsoids(1, 2000)
    alphas, generator = np.array([0.2, 0.9, 1.6]), np.random.default_rng(0)
    rates = {s: ellipsoids.log10_error(alphas, s) for s in SPHERES}
    assert config._counts_agree(generator, alphas, False, rates)
    shifted = rates | {"inner": rates["inner"] - 0.3}
    assert not config._counts_agree(generator, alphas, False, shifted)
    assert not config._counts_agree(generator, alphas, False, rates | {"outer": -math.inf})


def test_the_best_mean_balances_the_two_rates(tmp_path: Path) -> None:
    summary = computed(spheres_clt.BestMean(), tmp_path).summary
    assert summary["mean_alpha"] == pytest.approx((1 + 1.3**-2) / 2, abs=0.001)
    spread = math.sqrt(3) * 0.3 * ((2 * np.arange(500) + 1) / 500 - 1)
    outer = ellipsoids.log10_error(summary["mean_alpha"] + spread, "outer")
    assert outer == pytest.approx(summary["log10_error"], abs=1e-6)


def test_counts_agree_with_the_networks_own_decisions(tmp_path: Path) -> None:
    network = TrainedNetwork(10, "quadratic", 20, 1, 40)
    model = QuadraticNetwork(10, 20, generator=torch.Generator().manual_seed(1))
    stored = Run({}, RunResult({}, {}, {"final": to_arrays(model)}), {}, tmp_path)
    errors = computed(ellipsoids.EllipsoidErrors(network), tmp_path, network=stored)
    counts = computed(spheres_clt.EllipsoidCounts(network, 20_000), tmp_path, errors=errors)
    for label, sphere in enumerate(SPHERES):
        x = torch.cat([x for x, _ in network.problem().blocks(20_000, seed=9, label=label)])
        y = torch.full((len(x),), label)
        direct = float((model.predict(x) != y).double().mean())
        exact = 10 ** ellipsoids.last(errors, f"exact-{sphere}")
        error = math.sqrt(exact * (1 - exact) / 20_000)
        assert abs(direct - exact) < 4 * error
        assert abs(counts.arrays[sphere][0] / 20_000 - exact) < 4 * error


# ------------------------------------------------------------------ spheres-narrow


def test_the_narrow_network_reports_the_clt_and_notes_the_exact_rate() -> None:
    alphas = np.concatenate([np.zeros(10), np.full(10, 1.5)])
    runs = {"seed0": errors_run(alphas), "seed1": errors_run(alphas * 1.02)}
    settings = {"dim": 20, "width": 10}
    measured = spheres_narrow.analyse(runs, settings).measurements
    values = [ellipsoids.last(run, "clt-inner") for run in runs.values()]
    assert measured["A2.12a"].value == pytest.approx(np.mean(values))
    assert measured["A2.12a"].low is not None
    assert measured["A2.12b"].value == pytest.approx(
        np.mean([ellipsoids.last(run, "clt-outer") for run in runs.values()])
    )


# ------------------------------------------------------------------ spheres-radius


def radius_runs(alphas: np.ndarray, distances: dict[str, Any]) -> dict[str, Run]:
    return {
        "errors-1.3-seed0": errors_run(alphas),
        "distances-1.3-seed0": finished({}, {}, {k: [v] for k, v in distances.items()}),
    }


def test_distances_stand_beside_the_largest_possible() -> None:
    alphas = np.array([0.2] * 5 + [1.3] * 5)
    distances = {"inner": [0.1, 0.3], "outer": [0.2, 0.2]}
    settings = {"radii": (1.3,), "n_seeds": 1, "dim": 10, "n_steps": 5}
    analysis = spheres_radius.analyse(radius_runs(alphas, distances), settings)
    inner, outer = analysis.panels[0].data
    assert inner["mean_distance"] == pytest.approx(0.2)
    assert inner["low"] < 0.2 < inner["high"]
    assert inner["mean_distance"] < inner["largest_possible"]
    assert outer["largest_possible"] > 0
    assert "no radius gives a perfect network" in analysis.remarks[0]


def test_a_sphere_without_errors_has_no_distance() -> None:
    distances = {"inner": [math.inf] * 2, "outer": [math.inf] * 2}
    settings = {"radii": (1.3,), "n_seeds": 1, "dim": 500, "n_steps": 5}
    analysis = spheres_radius.analyse(radius_runs(PERFECT, distances), settings)
    assert all(math.isinf(row["largest_possible"]) for row in analysis.panels[0].data)
    assert all(math.isnan(row["mean_distance"]) for row in analysis.panels[0].data)
    assert "perfect at R = 1.3" in analysis.remarks[0]
    analysis.panels[0].draw()


def test_distances_of_every_stored_model(tmp_path: Path) -> None:
    alphas = [np.linspace(0.3, 1.3, 6), np.full(6, 0.8), np.full(6, 0.8)]
    errors = finished({}, {}, {"scale": [1.0, 1.0, -1.0], "alphas": alphas})
    config = ellipsoids.EllipsoidDistances(TrainedNetwork(6, "quadratic", 8, 1, 10), 20, seed=3)
    found = computed(config, tmp_path, errors=errors).arrays["outer"]
    problem = ConcentricSpheres(6)
    x, _ = next(problem.blocks(20, seed=3, label=1, dtype=torch.float64, purpose="distances"))
    expected = nearest_ellipsoid_error(x.numpy(), alphas[0], sphere="outer")
    assert found[0] == pytest.approx(expected)
    assert np.isposinf(found[1]).all()  # a perfect ellipsoid
    assert np.isnan(found[2]).all()  # signs turned: the ellipsoid says what is right


# ------------------------------------------------------------------ spheres-hard-examples


def hard_run(label: str, n_steps: int | None) -> Run:
    return finished({}, {"label": label, "n_steps": n_steps}, {"step": [0, 50], "n_wrong": [3, 0]})


def test_seeds_that_never_get_perfect_rank_last() -> None:
    runs = {
        "a": hard_run("random", None),
        "b": hard_run("random", 900),
        "c": hard_run("random", 700),
        "d": hard_run("worst point", None),
    }
    rows = spheres_hard_examples.table(runs, {"max_steps": 1000})
    assert [row["n_steps"] for row in rows] == [900, None]
    assert [row["n_not_perfect"] for row in rows] == [1, 1]
    assert rows[1]["n_steps_averyma"] == 3.2e3
    analysis = spheres_hard_examples.analyse(runs, {"max_steps": 1000, "dim": 5, "width": 9})
    assert "worst point: not within 1,000" in analysis.remarks[0]
    analysis.panels[0].draw()


def test_the_kind_of_example_and_the_attack_must_fit() -> None:
    with pytest.raises(ValueError, match="n_attack_steps must be positive for attacked"):
        spheres_hard_examples.HardExamples(5, 10, "attacked", 0, 100, 1e-3)
    with pytest.raises(ValueError, match="0 for others"):
        spheres_hard_examples.HardExamples(5, 10, "random", 3, 100, 1e-3)


def test_worst_points_make_a_small_network_perfect(tmp_path: Path) -> None:
    config = spheres_hard_examples.HardExamples(5, 10, "both worst", 0, 2000, 1e-3)
    run = computed(config, tmp_path)
    assert run.summary["n_steps"] is not None
    assert run.arrays["n_wrong"][-1] == 0
    assert run.arrays["step"][-1] == run.summary["n_steps"]
