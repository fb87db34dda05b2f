"""Capacity, noise, adversarial training, real images and faces, on runs made by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trueboundary.classifiers import LinearSVM, to_arrays
from trueboundary.data import image_source, parse_pair
from trueboundary.data.sources import CelebASource
from trueboundary.experiments import experiments
from trueboundary.experiments.base import Analysis
from trueboundary.experiments.bayes import (
    bayes_capacity,
    bayes_cifar,
    bayes_faces,
    bayes_noise,
    bayes_real,
    bayes_trades,
)
from trueboundary.experiments.claims import read_claims
from trueboundary.experiments.images import attack_tables, image_plans
from trueboundary.experiments.images.attacked_images import CHANGE_EDGES, AttackedImages
from trueboundary.experiments.images.image_fits import FittedMixtures, ImageTask
from trueboundary.experiments.images.trained_classifiers import TrainedSVM
from trueboundary.runs import Context, Run, RunResult

SHAPE = [1, 2, 2]
ONES = np.ones(20)


def made(summary: dict[str, Any], **arrays: Any) -> Run:
    return Run({}, RunResult({"available": True} | summary, arrays), {}, Path("made"))


def attacked(distance: Any, correct: Any = None, n_kept: int = 2) -> Run:
    distance = np.asarray(distance, dtype=float)
    n = len(distance)
    kept = np.arange(min(n, 2 * n_kept))
    return made(
        {"image_shape": SHAPE, "n_changed": int(np.isfinite(distance).sum()), "n_points": n},
        distance=distance,
        correct=np.ones(n, bool) if correct is None else np.asarray(correct),
        label=np.arange(n) % 2,
        kept=kept,
        original=np.full((len(kept), 4), 0.25),
        adversarial=np.full((len(kept), 4), 0.5),
        change_count=np.ones(len(CHANGE_EDGES) - 1, dtype=np.int64),
    )


def made_test(n_correct: int, n: int = 1000) -> Run:
    return made({"n_correct": n_correct, "n_points": n}, correct=np.arange(n) < n_correct)


def classifier(
    prefix: str, distance: Any, n_correct: int = 1000, *, cw: Any = None
) -> dict[str, Run]:
    runs = {f"{prefix}/gradient": attacked(distance), f"{prefix}/test": made_test(n_correct)}
    return runs | ({} if cw is None else {f"{prefix}/nearest": attacked(cw)})


@pytest.mark.parametrize("name", ["mnist", "mnist/0", "celeba", "celeba/a-b", "synthetic/0-1", "x"])
def test_a_data_set_is_named_in_one_way(name: str) -> None:
    with pytest.raises(ValueError, match="named like mnist/0-6"):
        parse_pair(name)


def test_a_row_takes_the_nearer_attack_and_counts_failures() -> None:
    runs = classifier("a", [1.0, 4.0, math.inf, math.inf], 990, cw=[2.0, 2.0, 3.0, math.inf])
    row = attack_tables.attack_row(runs, "a", dataset="synthetic")
    assert row["mean_l2"] == pytest.approx(2.0)
    assert row["median_l2"] == pytest.approx(2.5)
    assert (row["n_points"], row["n_failed"], row["accuracy"]) == (4, 1, 0.99)
    assert row["accuracy_under_attack"] == pytest.approx(0.25)
    assert row["mean_l2_low"] < 2.0 < row["mean_l2_high"]
    assert row["accuracy_low"] < 0.99 < row["accuracy_high"]
    text = attack_tables.describe_row(row, "it")
    assert "over 3 of 4 points" in text
    assert "on 1,000" in text


def test_a_row_of_failures_alone_is_said_as_such() -> None:
    row = attack_tables.attack_row(classifier("a", [math.inf] * 3), "a", dataset="synthetic")
    assert math.isnan(row["mean_l2"])
    assert "no decision changed at any of 3 points" in attack_tables.describe_row(row, "it")


def capacity_runs(name: str, width: float, depth: float, samples: float) -> dict[str, Run]:
    runs = classifier(f"{name}/optimal", 3 * ONES)
    for sweep, values, factor in (
        ("width", (4, 8), width),
        ("depth", (8, 12), depth),
        ("samples", (100, 200), samples),
    ):
        start = np.linspace(0.5, 1.5, 20)
        runs |= classifier(f"{name}/{sweep}-{values[0]}", start)
        runs |= classifier(f"{name}/{sweep}-{values[1]}", factor * start)
    return runs


CAPACITY = {"widths": (4, 8), "depths": (8, 12), "sample_counts": (100, 200)}


def test_capacity_is_judged_by_the_largest_gain_of_all_data_sets() -> None:
    names = ("mnist/0-6", "celeba/Male")
    runs = capacity_runs(names[0], 1.1, 0.5, 1.0) | capacity_runs(names[1], 0.9, 0.7, 2.0)
    analysis = bayes_capacity.analyse(runs, {**CAPACITY, "dataset": names})
    found = {id: m.value for id, m in analysis.measurements.items()}
    assert found == pytest.approx({"B1.10a": 1.1, "B1.10b": 2.0, "B1.10c": 0.7})
    assert analysis.measurements["B1.10a"].note.startswith("MNIST 0/6")
    assert analysis.measurements["B1.10b"].note.startswith("Male")
    assert analysis.measurements["B1.10a"].n == 20
    assert len(analysis.panels[0].data) == 2 * (1 + 6)
    assert len(analysis.panels[0].draw().axes) == 3


def test_capacity_copes_with_failed_attacks() -> None:
    runs = capacity_runs("synthetic", 1.0, 1.0, 1.0)
    runs |= classifier("synthetic/width-8", np.full(20, math.inf))
    analysis = bayes_capacity.analyse(runs, {**CAPACITY, "dataset": ("synthetic",)})
    assert set(analysis.measurements) == {"B1.10b", "B1.10c"}
    assert analysis.panels[0].draw()


def test_networks_of_a_capacity_plan_share_one_long_training() -> None:
    settings = bayes_capacity.EXPERIMENT.settings("quick")
    plan = bayes_capacity.EXPERIMENT.runs("quick")
    by_count = [plan[f"mnist/0-6/samples-{count}/nearest"] for count in settings["sample_counts"]]
    assert len({run.classifier.digest for run in by_count}) == 1
    assert len({run.model for run in by_count}) == len(by_count)
    steps = by_count[0].classifier.n_steps * settings["batch_size"]
    assert steps == settings["sample_counts"][-1]


NOISE = {"dataset": ("mnist/0-6", "mnist/2-7"), "noise_stds": (0.001, 0.05)}


def noise_runs(ratios: dict[str, tuple[float, float]]) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    start = np.linspace(1, 2, 20)
    for name, (optimal, cnn) in ratios.items():
        runs |= classifier(f"{name}/0.001/optimal", start)
        runs |= classifier(f"{name}/0.05/optimal", optimal * start)
        runs |= classifier(f"{name}/0.001/CNN", start)
        runs |= classifier(f"{name}/0.05/CNN", cnn * start, cw=np.full(20, math.inf))
    return runs


def test_noise_is_judged_by_the_ratio_farthest_from_one() -> None:
    runs = noise_runs({"mnist/0-6": (1.05, 1.1), "mnist/2-7": (1.0, 0.8)})
    analysis = bayes_noise.analyse(runs, NOISE)
    found = {id: m.value for id, m in analysis.measurements.items()}
    assert found == pytest.approx({"B1.11a": 1.05, "B1.11b": 0.8})
    assert analysis.measurements["B1.11b"].note.startswith("MNIST 2/7, noise 0.05 against 0.001")
    sheet, bars = analysis.panels
    assert len(sheet.draw().axes) == 4
    assert len(bars.data) == 8
    assert bars.draw().axes[0].get_ylabel()


def test_noise_without_any_success_has_no_value() -> None:
    runs = noise_runs({"mnist/0-6": (1.0, math.inf), "mnist/2-7": (1.0, math.inf)})
    found = bayes_noise.analyse(runs, NOISE).measurements
    assert set(found) == {"B1.11a"}
    assert found["B1.11a"].value == pytest.approx(1.0)


def trades_runs(attacks: dict[int, float], accuracies: dict[int, int]) -> dict[str, Run]:
    spread = np.linspace(0.98, 1.02, 20)
    runs = classifier("mnist/0-6/optimal", 3 * spread)
    for beta, mean in attacks.items():
        runs |= classifier(f"mnist/0-6/beta-{beta}", mean * spread, accuracies[beta])
    return runs


@pytest.mark.parametrize(
    ("last", "n_correct", "slight", "traded"),
    [
        (1.5, 800, True, True),  # more robust, far from the optimum, less accurate
        (1.5, 999, True, None),  # as accurate, for all that shows
        (2.9, 800, False, True),  # as robust as the optimum
        (1.0, 800, None, None),  # no more robust, for all that shows
        (0.9, 800, False, False),  # less robust
    ],
)
def test_adversarial_training_is_judged_by_its_ends(
    last: float, n_correct: int, slight: bool | None, traded: bool | None
) -> None:
    runs = trades_runs({0: 1.0, 2: 2.5, 10: last}, {0: 999, 2: 999, 10: n_correct})
    settings = {"dataset": ("mnist/0-6",), "betas": (10, 0, 2)}
    analysis = bayes_trades.analyse(runs, settings)
    found = {id: m.value for id, m in analysis.measurements.items()}
    assert found == {"B1.15a": slight, "B1.15b": traded}
    assert f"{last / 3:.2f} at beta 10" in analysis.remarks[-1]
    assert len(analysis.panels[0].draw().axes) == 2


def real_runs(name: str, real: Any, generated: Any, means: tuple[float, ...]) -> dict[str, Run]:
    runs = {
        f"{name}/{part}/{trained_on}": made({}, correct=np.asarray(correct, bool))
        for part in ("transfer", "robust")
        for trained_on, correct in (("real", real), ("generated", generated))
    }
    spread = np.linspace(0.9, 1.1, 20)
    for words, mean in zip(bayes_real.CLASSIFIERS, means, strict=True):
        runs |= classifier(f"{name}/{words}", mean * spread)
    return runs


REAL = {"robust_dataset": ("mnist/0-6",)}


def test_the_loss_of_accuracy_is_paired_by_image() -> None:
    names = ("mnist/0-6", "celeba/Male")
    first = ([1, 1, 1, 0], [1, 0, 1, 0])
    second = ([1, 1, 0, 0], [1, 1, 0, 0])
    runs = real_runs(names[0], *first, (1.0, 0.5, 3.0)) | real_runs(names[1], *second, (1, 1, 1))
    for trained_on, correct in (("real", [1, 1, 1, 1]), ("generated", [1, 0, 0, 0])):
        runs[f"{names[0]}/robust/{trained_on}"] = made({}, correct=np.array(correct, bool))
    analysis = bayes_real.analyse(runs, {"dataset": names, **REAL})
    robust = analysis.measurements["B1.13c"]
    assert (robust.value, robust.n) == (pytest.approx(0.75), 4)
    loss = analysis.measurements["B1.13a"]
    assert loss.value == pytest.approx(0.25 / 2)
    assert loss.n == 8
    error = math.sqrt(np.var([0, 1, 0, 0], ddof=1) / 4) / 2
    assert loss.low is not None
    assert loss.high is not None
    assert loss.high - loss.value == pytest.approx(1.959964 * error, rel=1e-5)
    assert loss.value - loss.low == pytest.approx(loss.high - loss.value)
    transfer, attacks = analysis.panels
    assert [row["paper"] for row in transfer.data][2:4] == [0.923, 0.88]
    assert [row["training"] for row in transfer.data] == ["plain"] * 4 + ["robust"] * 2
    assert analysis.tables["table-2"]["celeba/Male"] == ["50.0", "50.0"]
    assert analysis.tables["table-2"]["mnist/0-6"] == ["75.0; robust 100.0", "50.0; robust 25.0"]
    assert analysis.tables["figure-12"]["accuracy_under_attack"] == ["0.0"] * 3
    assert [row["paper"] for row in attacks.data][-3:] == [0.28, 0.17, 2.38]
    assert transfer.draw().axes[0].get_ylabel()
    assert attacks.draw().axes[0].get_ylabel()


@pytest.mark.parametrize(
    ("means", "robust"),
    [
        ((1.0, 0.5, 3.0), True),
        ((1.0, 0.5, 2.01), None),
        ((0.5, 1.0, 1.9), None),
        ((0.5, 1.0, 1.5), False),
    ],
)
def test_robust_on_real_images_means_twice_intervals_apart(
    means: tuple[float, ...], robust: bool | None
) -> None:
    runs = real_runs("mnist/0-6", [1, 1], [1, 0], means)
    analysis = bayes_real.analyse(runs, {"dataset": ("mnist/0-6",), **REAL})
    assert analysis.measurements["B1.13b"].value is robust
    assert analysis.tables["figure-12"] == {}


def test_what_attacks_leave_of_the_rbf_svm_is_counted_over_all_data_sets() -> None:
    names = ("mnist/0-6", "mnist/2-7")
    runs = {}
    for name, failures in zip(names, (3, 0), strict=True):
        runs |= real_runs(name, [1, 1], [1, 0], (1.0, 0.5, 3.0))
        distance = np.where(np.arange(20) < failures, math.inf, 3.0)
        runs |= classifier(f"{name}/RBF SVM", distance)
        runs[f"{name}/RBF SVM/gradient"].arrays["correct"][-1] = False  # it was turned right
    left = bayes_real.analyse(runs, {"dataset": names, **REAL}).measurements["B2.9d"]
    assert (left.value, left.n) == (pytest.approx(5 / 40), 40)
    assert "MNIST 0/6 4 of 20, MNIST 2/7 1 of 20. 3 attacks failed" in left.note


def test_robust_networks_of_generated_digits_are_those_of_adversarial_training() -> None:
    real = experiments()["bayes-real"].runs("quick")
    generated = real["mnist/0-6/robust/generated"].needs()["classifier"]
    trades = experiments()["bayes-trades"].runs("quick")["mnist/0-6/beta-10/test"]
    assert generated.digest == trades.needs()["classifier"].digest
    over = real["mnist/0-6/robust/real"].needs()["classifier"]
    assert (over.task.variant, over.beta, over.n_steps) == ("real", 10, generated.n_steps)
    assert over.n_train > 0


def test_robust_networks_of_faces_are_those_of_adversarial_training() -> None:
    runs = experiments()["bayes-faces"].runs("smoke")
    generated = runs["real/synthetic/robust/generated"].needs()["classifier"]
    assert generated.digest == runs["trades/synthetic/beta-10/test"].needs()["classifier"].digest


def test_generated_networks_of_real_images_are_those_of_the_symmetric_problems() -> None:
    real = experiments()["bayes-real"].runs("quick")["mnist/0-6/transfer/generated"]
    symmetric = experiments()["bayes-symmetric"].runs("quick")
    shared = {config.digest for run in symmetric.values() for config in run.needs().values()}
    assert real.needs()["classifier"].digest in shared


def test_faces_are_analysed_with_every_part() -> None:
    settings = bayes_faces.EXPERIMENT.settings(
        "smoke",
        {"dataset": ("celeba/Male",), "sweep_dataset": ("celeba/Male",), **_FACE_PARTS},
    )
    analysis = bayes_faces.analyse(face_runs(), settings)
    assert_face_claims(analysis)
    names = [panel.name for panel in analysis.panels]
    assert names == [
        *("faces-means", "faces-subspaces", "faces-gamma-celeba-male"),
        *("faces-sheet-celeba-male", "faces-capacity"),
        *("faces-noise-samples", "faces-noise", "faces-trades"),
        *("faces-real-transfer", "faces-real-attacks"),
    ]
    means = analysis.panels[0]
    assert [row["paper"] for row in means.data] == [3.31, 0.82, 0.55, 2.46, 0.9, 0.82]
    assert all(panel.draw().axes for panel in analysis.panels)
    assert any("3 to 3,300 images and 5 to 4,700 images" in text for text in analysis.remarks)
    assert any("subspace is 3.00 over 20 points" in text for text in analysis.remarks)
    in_box = next(text for text in analysis.remarks if "confines pixels" in text)
    assert "lie 0.50 outside" in in_box
    assert "ends 2.00 from them, 2.00 times as far" in in_box


def test_parts_of_faces_can_be_run_alone() -> None:
    faces = experiments()["bayes-faces"]
    contrast = faces.runs("smoke", overrides={"parts": ("contrast",)})
    assert {name.partition("/")[0] for name in contrast} == {"synthetic"}
    assert "synthetic/CNN/cw-box" in contrast
    alone = faces.runs("smoke", overrides={"parts": ("noise",)})
    assert {name.partition("/")[0] for name in alone} == {"synthetic", "noise"}
    assert "synthetic/CNN/cw-box" not in alone
    with pytest.raises(ValueError, match="got 'boxes'"):
        faces.runs("smoke", overrides={"parts": ("boxes",)})
    names = {"dataset": ("celeba/Male",), "sweep_dataset": ("celeba/Male",), **_FACE_PARTS}
    for part, panel in (("contrast", "faces-subspaces"), ("noise", "faces-noise")):
        settings = faces.settings("smoke", {**names, "parts": (part,)})
        analysis = bayes_faces.analyse(face_runs(), settings)
        drawn = [panel.name for panel in analysis.panels]
        assert panel in drawn
        assert not {"faces-trades", "faces-subspaces", "faces-noise"} & set(drawn) - {panel}
        assert "B3.10a" not in analysis.measurements
        assert "B1.9a-faces" in analysis.measurements


def assert_face_claims(analysis: Analysis) -> None:
    known = {claim.id for claim in read_claims("bayes") if claim.experiment == "bayes-faces"}
    found = {id: m.value for id, m in analysis.measurements.items()}
    # One of the twelve attributes was run, and one of the two that the sweeps are for.
    others = {id for id in known if "-" in id and id.split("-")[1] not in ("faces", "Male")}
    # No mean attack is around 3: all are 1.
    assert set(found) == known - others - {"B1.17b-faces"}
    assert found["B1.6-faces"] == 1.0
    assert found["B2.5-faces"] == 0.0
    assert found["B1.7-Male-symmetric"] == pytest.approx(1.0)
    assert found["B1.8-faces"] is False  # all of its mean attacks are 1
    assert found["B1.9a-faces"] == pytest.approx(1.0)
    assert found["B1.12a-faces"] == pytest.approx(6.0)
    assert found["B1.12b-faces"] == pytest.approx(1 / 3)
    assert found["B2.6-Male"] == pytest.approx(0.0)
    assert found["B3.7-Male"] == pytest.approx(1 / 0.55 - 1)  # of 3.31, 0.82, 0.55, 2.46
    assert analysis.conditions == [
        "mixtures were fitted to 8,000 faces, of the 162,770 for training"
    ]


_FACE_PARTS: dict[str, Any] = {
    **CAPACITY,
    "betas": (0, 10),
    "real_dataset": ("celeba/Male",),
    "robust_dataset": ("celeba/Male",),
}


def face_runs() -> dict[str, Run]:
    sizes = [{"n_components": 3, "n_images": 3300}, {"n_components": 5, "n_images": 4700}]
    runs = {
        "celeba/Male/fit": made({"fit": {"n_factors": 10, "classes": sizes}}),
        "celeba/Male/subspaces": made({}, distance=6 * ONES),
        "celeba/Male/RBF SVM": made({"gamma": 0.1}),
        "celeba/Male/gammas": made(
            {"linear_accuracy": 1.0},
            gamma=np.array([0.1, 0.4]),
            accuracy=np.array([1.0, 0.9]),
            distance=np.stack([ONES, 2 * ONES]),
            linear_distance=ONES / 2,
        ),
    }
    for words in (*image_plans.CLASSIFIERS, "symmetric", "asymmetric"):
        runs |= classifier(f"celeba/Male/{words}", ONES)
    for variant in ("symmetric", "asymmetric"):
        runs[f"celeba/Male/{variant}/gradient-fixed"] = attacked(ONES)
    boxed = attacked(2 * ONES)
    boxed.arrays["distance_to_box"] = ONES / 2
    runs["celeba/Male/CNN/cw-box"] = boxed
    parts = {
        "capacity": capacity_runs("celeba/Male", 1.0, 1.0, 1.0),
        "noise": noise_runs({"celeba/Male": (1.0, 1.0)}),
        "trades": {
            name.replace("mnist/0-6", "celeba/Male"): run
            for name, run in trades_runs({0: 1.0, 10: 2.0}, {0: 999, 10: 900}).items()
        },
        "real": real_runs("celeba/Male", [1, 1], [1, 0], (1.0, 0.5, 3.0)),
    }
    return runs | {
        f"{part}/{name}": run for part, found in parts.items() for name, run in found.items()
    }


def test_faces_are_started_on_request_and_only_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TRUEBOUNDARY_CELEBA", raising=False)
    faces = experiments()["bayes-faces"]
    assert faces.on_request
    assert "needs CelebA" in faces.missing_data(faces.settings("quick"))
    assert faces.missing_data(faces.settings("smoke")) == ""
    capacity = experiments()["bayes-capacity"]
    assert "needs CelebA" in capacity.missing_data(capacity.settings("paper"))
    assert capacity.missing_data(capacity.settings("quick")) == ""
    monkeypatch.setenv("TRUEBOUNDARY_CELEBA", str(tmp_path))
    assert faces.missing_data(faces.settings("quick")) == ""


def test_cifar_is_judged_on_real_images_alone() -> None:
    name = "cifar10/cat-deer"
    runs = real_runs(name, [1, 1], [1, 0], (0.3, 0.06, 1.5))
    runs[f"{name}/RBF SVM/test"] = made_test(900)
    runs[f"{name}/linear SVM/test"] = made_test(650)
    analysis = bayes_cifar.analyse(runs, {"dataset": (name,)})
    found = {id: m.value for id, m in analysis.measurements.items()}
    assert found == pytest.approx(
        {"B1.14a": True, "B1.14b": 0.1, "B1.14c": 0.25, "B3.12-cat-deer": 0.3 / 0.29 - 1}, abs=1e-9
    )
    runs = real_runs(name, [1, 1], [1, 0], (0.05, 0.06, 1.5))
    assert bayes_cifar.analyse(runs, {"dataset": (name,)}).measurements["B1.14a"].value is False


def test_other_faces_give_other_runs_and_other_places_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit_of(content: str) -> FittedMixtures:
        monkeypatch.setattr(CelebASource, "content", lambda _: content)
        settings = {"max_iter": 5, "face_size": 32, "noise_std": 0.01}
        return image_plans.image_task("celeba/Male", settings, 0).fit

    assert fit_of("0123").digest == fit_of("0123").digest
    assert fit_of("0123").digest != fit_of("4567").digest
    assert "path" not in str(fit_of("0123").describe())


def test_no_photograph_of_a_person_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bars = image_source("synthetic")
    monkeypatch.setattr(CelebASource, "load", lambda _, *wanted: bars.load(*wanted))
    fit = FittedMixtures("celeba", ("not Male", "Male"), 1, 2, max_iter=2)
    task = ImageTask(fit, "real")
    svm = LinearSVM(torch.linspace(-1, 1, 64, dtype=torch.float64), 0.1)
    inputs = {
        "fit": replace(made({}), result=fit.compute(context(tmp_path))),
        "classifier": replace(
            made({}), result=RunResult({"available": True}, {}, {"final": to_arrays(svm)})
        ),
    }
    for chosen, n_pictures in ((task, 0), (replace(task, variant="symmetric"), 4)):
        attack = AttackedImages(chosen, TrainedSVM(chosen, 10), "gradient", 6, n_kept=2)
        found = attack.compute(context(tmp_path, inputs))
        assert found.arrays["original"].shape == (n_pictures, 64)
        assert found.arrays["adversarial"].shape == (n_pictures, 64)
        assert len(found.arrays["distance"]) == 6


def context(folder: Path, inputs: Any = None) -> Context:
    return Context(inputs or {}, folder, lambda fraction: None)
