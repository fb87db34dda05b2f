"""Analyses of the image experiments on runs made by hand, and the runs that they share."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trueboundary import theory
from trueboundary.classifiers import LinearSVM, to_arrays
from trueboundary.experiments import Measurement, Verdict, experiments, judge, read_claims
from trueboundary.experiments.bayes import (
    bayes_attacks,
    bayes_contrast,
    bayes_subspaces,
    bayes_symmetric,
)
from trueboundary.experiments.bayes.pixel_changes import claims_on_pixels
from trueboundary.experiments.bayes.published import printed_numbers
from trueboundary.experiments.images import trained_classifiers
from trueboundary.experiments.images.attacked_images import (
    CHANGE_EDGES,
    AttackedImages,
    count_changes,
    distances,
)
from trueboundary.experiments.images.image_fits import FittedMixtures, ImageTask, ManuscriptTask
from trueboundary.experiments.images.image_plans import CLASSIFIERS, planned_cnn
from trueboundary.experiments.images.sheets import (
    Sheet,
    draw_sheet,
    visible_share_of_images,
)
from trueboundary.experiments.images.trained_classifiers import (
    Accuracy,
    NarrowestCNN,
    TrainedCNN,
    TrainedSVM,
)
from trueboundary.experiments.own_findings import read_findings
from trueboundary.runs import Context, Run, RunConfig, RunResult
from trueboundary.theory.gaussian_pairs import outlier_attack_size
from trueboundary.tiles import tile

FIT = FittedMixtures("synthetic", ("lying", "standing"), 2, 2, max_iter=5)
TASK = ImageTask(FIT, "symmetric", 0.02)
N = 40
DIGITS = "mnist/0-6"
IMAGES = {"truth-mixtures"} | {
    f"bayes-{name}"
    for name in (
        *("contrast", "symmetric", "attacks", "subspaces", "capacity", "noise", "trades"),
        *("real", "faces", "cifar"),
    )
}


def made(summary: Mapping[str, Any], **arrays: Any) -> Run:
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    return Run({}, RunResult({"available": True} | dict(summary), arrays), {}, Path("made"))


def attacked(distance: Any, *, correct: Any = True) -> Run:
    distance = np.asarray(distance, dtype=np.float64)
    n = len(distance)
    labels = np.arange(n) % 2
    right = np.broadcast_to(correct, n)
    images = np.zeros((4, 9))
    return made(
        {"image_shape": [1, 3, 3], "n_points": n, "n_correct": int(right.sum())},
        distance=distance,
        correct=right,
        label=labels,
        kept=[0, 2, 1, 3],
        original=images,
        adversarial=images + 0.1,
        change_count=count_changes(np.full((n, 9), 0.1)),
        n_backward=np.full(n, 3),
    )


def spread(mean: float, width: float = 0.1) -> Any:
    return mean + width * np.linspace(-1, 1, N)


def symmetric_runs(
    means: Mapping[str, float], *, n_correct: int = 1000, path: float = 1.0
) -> dict[str, Run]:
    runs = {}
    for name, mean in means.items():
        runs[f"{DIGITS}/{name}/gradient"] = attacked(spread(1.1 * mean))
        runs[f"{DIGITS}/{name}/nearest"] = attacked(spread(mean))
        runs[f"{DIGITS}/{name}/test"] = made({"n_points": 1000, "n_correct": n_correct})
    runs[f"{DIGITS}/RBF SVM"] = made({"gamma": 0.05})
    runs[f"{DIGITS}/gammas"] = made(
        {"linear_accuracy": 1.0},
        gamma=[1e-3, 1e-1],
        accuracy=[0.97, 1.0],
        distance=[spread(path), spread(2.5)],
        linear_distance=spread(1.0),
    )
    return runs


PAPER = dict(zip(CLASSIFIERS, printed_numbers("B2.1"), strict=True))
SYMMETRIC = {"dataset": (DIGITS,)}


def test_the_papers_own_numbers_uphold_its_claims():
    analysis = bayes_symmetric.analyse(symmetric_runs(PAPER), SYMMETRIC)
    found = analysis.measurements
    assert found["B1.6"].value == 1
    assert found["B1.8"].value is True
    assert found["B1.9a"].value == pytest.approx(2.69 / 2.98)
    assert found["B1.9b"].value is True
    assert found["B1.9c"].value is True
    assert found["B1.9d"].value == pytest.approx(1)
    assert found["B2.1"].value == pytest.approx(0, abs=1e-12)
    assert found["B2.1"].low == 0 < found["B2.1"].high
    assert found["B2.5"].value == 0
    assert "B2.2" not in found


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"CNN": 2.6}, "B1.8"),
        ({"linear SVM": 2.0}, "B1.9b"),
        ({"linear SVM": 2.0}, "B1.9c"),
        ({"RBF SVM": 1.6}, "B1.9c"),
    ],
)
def test_orderings_that_do_not_hold(changed, claim):
    runs = symmetric_runs(PAPER | changed)
    assert bayes_symmetric.analyse(runs, SYMMETRIC).measurements[claim].value is False


def test_an_inaccurate_cnn_is_not_called_brittle():
    runs = symmetric_runs(PAPER)
    runs[f"{DIGITS}/CNN/test"] = made({"n_points": 1000, "n_correct": 970})
    found = bayes_symmetric.analyse(runs, SYMMETRIC).measurements
    assert found["B1.8"].value is False
    assert found["B2.4"].value == 0.97
    assert found["B1.6"].value == 1


def test_the_largest_deviation_comes_with_its_interval():
    found = bayes_symmetric.analyse(symmetric_runs(PAPER | {"RBF SVM": 3.228}), SYMMETRIC)
    deviation = found.measurements["B2.1"]
    assert deviation.value == pytest.approx(0.2)
    assert deviation.low < 0.2 < deviation.high
    assert "RBF SVM 3.23 against 2.69" in deviation.note


def test_wrong_samples_count_or_not_by_the_criterion():
    means = dict(zip(CLASSIFIERS, (3.0, 1.8, 1.1, 2.7), strict=True))
    runs = symmetric_runs(means)
    assert bayes_symmetric.analyse(runs, SYMMETRIC).measurements["T11"].value == 0.0
    right = np.arange(N) >= 2
    distance = np.where(right, 2.0, 0.1)
    for attack in ("gradient", "nearest"):
        runs[f"{DIGITS}/CNN/{attack}"] = attacked(distance, correct=right)
    found = bayes_symmetric.analyse(runs, SYMMETRIC).measurements["T11"]
    assert found.value == pytest.approx(2.0 / distance.mean() - 1)
    assert found.note == f"2 of {4 * N} attacked points were wrong to begin with."


def test_failed_attacks_leave_accuracy_and_no_mean():
    runs = symmetric_runs(PAPER)
    for attack in bayes_symmetric.ATTACKS:
        runs[f"{DIGITS}/RBF SVM/{attack}"] = attacked(np.full(N, math.inf))
    analysis = bayes_symmetric.analyse(runs, SYMMETRIC)
    assert analysis.measurements["B2.5"].value == 1
    assert "B1.9a" not in analysis.measurements
    assert not {"B1.9b", "B1.9c"} & set(analysis.measurements)
    assert analysis.measurements["B1.8"].value is True  # which is about the CNN alone
    assert f"B1.9c is not decided: {DIGITS}, RBF SVM: mean_l2 has no interval." in analysis.remarks
    assert any(f"at {N} of {4 * N} points" in remark for remark in analysis.remarks)
    for panel in analysis.panels:
        assert panel.draw().axes


def contrast_runs(symmetric: float, asymmetric: float) -> dict[str, Run]:
    means = {"symmetric": symmetric, "asymmetric": asymmetric}
    runs = {
        f"{DIGITS}/{variant}/{attack}": attacked(spread(mean, 0.05))
        for variant, mean in means.items()
        for attack in bayes_contrast.ATTACKS
    }
    for variant, mean in means.items():
        for rule in ("sum", "component"):
            runs[f"{DIGITS}/{variant}/{rule}"] = made({}, correct=np.full(1000, True))
        runs[f"{DIGITS}/{variant}/component/nearest"] = attacked(spread(mean, 0.05))
        runs[f"{DIGITS}/{variant}/manuscript/gradient"] = attacked(spread(mean / 2, 0.05))
        runs[f"{DIGITS}/{variant}/manuscript/nearest"] = attacked(spread(mean / 4, 0.05))
    runs[f"{DIGITS}/sides"] = made({}, to_cross=np.where(np.arange(N) < N // 2, 0.0, 0.3))
    return runs | {"CNN/nearest": attacked(spread(1.8)), "RBF SVM/nearest": attacked(spread(2.7))}


CONTRAST = {"dataset": (DIGITS,), "noise_std": 0.01, "n_factors": 6, "n_rule_points": 1000}
CONTRAST |= {"manuscript_noise_std": 0.001, "manuscript_outlier_std": 0.5**0.5}


def test_contrast_compares_the_published_attack():
    runs = contrast_runs(3.0, 0.5)
    runs[f"{DIGITS}/asymmetric/nearest"] = attacked(spread(0.4, 0.0))
    analysis = bayes_contrast.analyse(runs, CONTRAST)
    found = analysis.measurements
    assert found["B1.7a"].value == pytest.approx(3.0)
    assert found["B1.7b"].value == pytest.approx(0.5)
    assert found["B1.7c"].value == pytest.approx(6.0)
    assert found["B1.7c"].low < 6 < found["B1.7c"].high
    # All pixels change by a tenth there, whatever the size of the attack.
    assert (found["B1.17a"].value, found["B1.17b"].value) == (0.0, 1.0)
    assert "9 pixels" in found["B1.17a"].holds_for
    assert found["B1.7d"].value == pytest.approx(6.0)
    assert found["T9"].value == pytest.approx(0.125), "the shorter of two attacks"
    for panel in analysis.panels:
        assert panel.draw().axes


def changed(distance: float, *shares: float) -> Run:
    """Return an attack with all images kept, which change these shares of their pixels by .1."""
    changes = np.stack([0.1 * (np.arange(100) < 100 * share) for share in shares])
    n = len(shares)
    return made(
        {"image_shape": [1, 10, 10]},
        distance=np.full(n, distance),
        kept=np.arange(n),
        original=np.zeros_like(changes),
        adversarial=changes,
        change_count=count_changes(changes),
    )


def test_the_share_of_visible_changes_has_the_interval_of_its_images():
    shares = (0.1, 0.2, 0.3, 0.6)
    value, low, high = visible_share_of_images(changed(1.0, *shares))
    assert value == pytest.approx(np.mean(shares))
    interval = theory.intervals.t_interval(shares)
    assert (low, high) == (max(0.0, interval.low), pytest.approx(interval.high))
    some = changed(1.0, *shares)  # where two of four are kept, they tell how much all differ
    some.arrays["kept"] = np.array([1, 3])
    for name in ("original", "adversarial"):
        some.arrays[name] = some.arrays[name][[1, 3]]
    value, low, high = visible_share_of_images(some)
    assert value == pytest.approx(np.mean(shares))
    width = np.ptp(theory.intervals.t_interval([0.2, 0.6]))
    assert (low, high) == (0.0, min(1.0, value + width / 2 / math.sqrt(2)))


def test_failed_attacks_have_no_changes():
    failed = changed(math.inf, 0.5, 0.5)
    assert math.isnan(visible_share_of_images(failed)[0])
    one = changed(1.0, 0.0, 0.5)
    one.arrays["distance"][0] = math.inf
    assert visible_share_of_images(one)[1:] == (None, None)


def test_pixels_are_judged_by_the_size_of_the_attacks():
    attacks = {
        "optimal": changed(3.0, 0.5, 0.7),
        "RBF SVM": changed(2.3, 0.2, 0.2),
        "between": changed(2.0, 0.0, 1.0),
        "CNN": changed(1.4, 0.1, 0.1),
        "linear SVM": changed(0.3, 0.0, 0.0),
        "failed": changed(math.inf, 0.9, 0.9),
    }
    found = {id: measure() for id, measure in claims_on_pixels(attacks, "digits").items()}
    assert found["B1.17a"].value == pytest.approx(0.9)
    assert found["B1.17a"].holds_for == "digits"
    assert "CNN 10 % (mean L2 1.40), linear SVM 0 %" in found["B1.17a"].note
    assert found["B1.17b"].value == pytest.approx(0.2)
    assert "optimal 60 %" in found["B1.17b"].note
    assert found["B1.17b"].n == 2
    assert math.isnan(claims_on_pixels({})["B1.17a"]().value)


def test_failures_leave_the_published_attack():
    runs = contrast_runs(3.0, 0.5)
    runs[f"{DIGITS}/asymmetric/nearest"] = attacked(np.full(N, math.inf))
    found = bayes_contrast.analyse(runs, CONTRAST).measurements
    assert found["B1.7b"].value == pytest.approx(0.5)
    assert "T10" not in found


def test_two_rules_are_compared_point_by_point():
    runs = contrast_runs(3.0, 0.5)
    found = bayes_contrast.analyse(runs, CONTRAST).measurements
    assert found["B1.18"].value == 1.0
    assert found["B1.18"].low == pytest.approx(0.025 ** (1 / 1000))
    assert found["T10"].value == pytest.approx(1.0)

    by_sum, by_component = (np.full(1000, True) for _ in range(2))
    by_sum[:3] = by_component[2:6] = False  # one point is wrong by either rule
    for rule, right in (("sum", by_sum), ("component", by_component)):
        runs[f"{DIGITS}/asymmetric/{rule}"] = made({}, correct=right)
    runs[f"{DIGITS}/asymmetric/component/nearest"] = attacked(spread(0.6, 0.06))
    found = bayes_contrast.analyse(runs, CONTRAST).measurements
    assert found["B1.18"].value == 0.995
    assert found["B1.18"].note == "Decided otherwise at 5 of 2,000 points of all problems."
    assert found["T10"].value == pytest.approx(1.2)


def test_the_shortest_way_to_the_other_outlier_is_a_minimum():
    noise, broad, dim, n_factors = 0.05, 0.7, 30, 2
    typical = noise * math.sqrt(dim - n_factors)
    reach = typical + outlier_attack_size(noise, broad, dim, n_factors)
    # In the plane of the residual, of length `typical`, and of the direction across.
    angle = np.linspace(0, math.pi, 20_001)
    direction = np.stack([np.cos(angle), np.sin(angle)])
    across = np.array([0.0, 0.5 * typical, 0.99 * reach, 3 * reach])
    sizes = bayes_contrast.attack_sizes_by_side(across, noise, broad, dim=dim, n_factors=n_factors)
    for to_cross, size in zip(across, sizes, strict=True):
        # How far along each direction until residual and side are both as needed.
        root = np.sqrt((typical * direction[0]) ** 2 + reach**2 - typical**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            there = np.where(to_cross > 0, to_cross / np.maximum(direction[1], 0.0), 0.0)
        best = np.maximum(root - typical * direction[0], there).min()
        assert size == pytest.approx(best, rel=1e-4)  # a direction of the grid is 2e-4 wide


def test_sides_are_those_of_the_outliers_densities(fit, tmp_path):
    task = ManuscriptTask(FIT, "asymmetric", 0.02, 0.7)
    run = computed(bayes_contrast.OutlierSides(task, 60), tmp_path, fit=fit)
    x, y = task.points(fit, 60, seed=0, purpose="test")
    problem = task.problem(fit)
    x = x.double()
    log = [
        -((x - density.means[-1]) ** 2).sum(1) / (2 * 0.7**2)
        for density in (problem.density_0, problem.density_1)
    ]
    assert float(problem.density_0.noise_variance[-1].max()) == pytest.approx(0.7**2)
    own_is_likelier = torch.where(y == 0, log[0] > log[1], log[1] > log[0]).numpy()
    np.testing.assert_array_equal(run.arrays["to_cross"] > 0, own_is_likelier)
    # Two spheres of one size: the log ratio changes by their distance over the variance.
    away = (log[0] - log[1]).abs().numpy() * 0.7**2 / run.summary["outliers_apart"]
    np.testing.assert_allclose(run.arrays["to_cross"], np.where(own_is_likelier, away, 0.0))


def test_the_manuscripts_classifier_takes_the_likeliest_component(fit):
    # So much noise, and points halfway between components, that these are about as likely.
    task, usual = ManuscriptTask(FIT, "asymmetric", 0.5), ImageTask(FIT, "asymmetric", 0.5)
    problem = usual.problem(fit)
    between = [d.means[:-1].mean(0) for d in (problem.density_0, problem.density_1)]
    x = torch.cat([task.points(fit, 20, seed=0, purpose="test")[0], torch.stack(between).float()])
    best = []
    for density in (problem.density_0, problem.density_1):
        dense = torch.stack(
            [
                torch.distributions.MultivariateNormal(
                    mean.double(), (a @ a.T + torch.diag(noise.expand(len(mean)))).double()
                ).log_prob(x.double())
                for mean, a, noise in zip(
                    density.means, density.loadings, density.noise_variance, strict=True
                )
            ]
        )
        best.append((density.log_weights.double()[:, None] + dense).amax(dim=0))
    margin = task.optimal_classifier(fit).margin(x).double()
    assert torch.allclose(margin, best[1] - best[0], rtol=1e-3, atol=1e-3)
    by_sum = usual.optimal_classifier(fit).margin(x)
    assert (by_sum.double() - margin).abs().max() > 0.1


def attack_runs(gradient: Any, cw: Any) -> dict[str, Run]:
    runs = {}
    for name in bayes_attacks.ATTACKED:
        for attack in bayes_attacks.attacks_of(name):
            runs[f"{name}/{attack}"] = attacked(gradient if "gradient" in attack else cw)
    return runs


def test_attacks_are_compared_where_both_succeed():
    gradient, cw = spread(2.2), spread(2.0)
    gradient[0] = cw[1] = math.inf
    cw[2] = gradient[2] = 0.0  # on the boundary itself
    analysis = bayes_attacks.analyse(attack_runs(gradient, cw), SYMMETRIC)
    claim = analysis.measurements["B1.16"]
    assert claim.n == N - 3
    assert claim.value == pytest.approx((gradient[3:] / cw[3:]).mean())
    for panel in analysis.panels:
        assert panel.draw().axes


def test_steps_of_the_attack_are_counted_at_the_median_point():
    runs = attack_runs(spread(2.2), spread(2.0))
    counts = np.full(N, 3)
    counts[: N // 4] = 50
    runs[f"{bayes_attacks.OPTIMAL}/gradient"].arrays["n_backward"][:] = counts
    found = bayes_attacks.analyse(runs, SYMMETRIC).measurements["B1.19"]
    assert (found.value, found.low, found.high) == (3, 3, 3)
    assert "optimal, symmetric 3, from 3 to 50" in found.note
    claim = next(claim for claim in read_claims("bayes") if claim.id == "B1.19")
    settings = bayes_attacks.EXPERIMENT.settings("paper")
    assert judge(claim, found, settings).verdict is Verdict.REPRODUCED
    for other in (2.0, 4.0):
        assert judge(claim, Measurement(other), settings).verdict is Verdict.DIFFERS


def test_no_ratio_without_a_common_success():
    runs = attack_runs(np.full(N, math.inf), spread(2.0))
    analysis = bayes_attacks.analyse(runs, SYMMETRIC)
    assert set(analysis.measurements) == {"B1.19"}
    for panel in analysis.panels:
        assert panel.draw().axes


def test_subspaces_report_the_pair_farthest_from_one():
    runs = {}
    names = ("mnist/0-6", "mnist/2-7")
    for name, distance in zip(names, (6.0, 8.0), strict=True):
        runs[f"{name}/subspaces"] = made({}, distance=spread(distance), certified=np.full(N, 2.5))
        for attack in ("gradient", "nearest"):
            runs[f"{name}/{attack}"] = attacked(spread(3.0, 0.05))
    analysis = bayes_subspaces.analyse(runs, {"dataset": names})
    claim = analysis.measurements["B1.12"]
    assert claim.value == pytest.approx(0.75)
    assert claim.low < 0.75 < claim.high
    for panel in analysis.panels:
        assert panel.draw().axes


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_missing_images_are_an_outcome(name):
    gone = Run({}, RunResult({"available": False, "reason": "MNIST is away."}), {}, Path("gone"))
    experiment = experiments()[name]
    analysis = experiment.analyse({"any": gone}, {})
    asked = [*read_claims(experiment.paper), *read_findings(experiment.paper)]
    mine = {one.id for one in asked if one.experiment == name}
    assert set(analysis.without_data) == mine != set()
    assert not analysis.measurements
    assert "MNIST is away." in analysis.remarks[0]


# ------------------------------------------------------------------ shared runs


def computed(config: RunConfig, tmp_path: Path, **inputs: Run) -> Run:
    checkpoint = tmp_path / config.digest
    checkpoint.mkdir(exist_ok=True)
    result = config.compute(Context(inputs, checkpoint, lambda fraction: None))
    return Run({}, result, {}, checkpoint)


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return computed(FIT, tmp_path_factory.mktemp("fit"))


def test_a_fit_without_its_images_passes_that_on(tmp_path, monkeypatch):
    monkeypatch.delenv("TRUEBOUNDARY_CELEBA", raising=False)
    faces = FittedMixtures("celeba", ("not Male", "Male"))
    task = ImageTask(faces)
    classifier = TrainedSVM(task, 10)
    gone = computed(faces, tmp_path)
    assert gone.summary["available"] is False
    assert "TRUEBOUNDARY_CELEBA" in gone.summary["reason"]
    trained = computed(classifier, tmp_path, fit=gone)
    for config in (
        AttackedImages(task, classifier, "cw", 4),
        Accuracy(task, classifier, 4),
    ):
        run = computed(config, tmp_path, fit=gone, classifier=trained)
        assert run.summary == gone.summary


def test_all_classifiers_are_attacked_at_the_same_points(fit, tmp_path):
    svm = TrainedSVM(TASK, 60, kernel="rbf")
    trained = computed(svm, tmp_path, fit=fit)
    gammas, accuracy = (trained.arrays[name] for name in ("gammas", "validation_accuracy"))
    assert trained.summary["gamma"] in gammas
    # All its points are those of the path, whose edge is found to a factor of the root of 2.
    place = gammas.tolist().index(trained.summary["gamma"])
    assert trained.arrays["n_support"][place] == trained.summary["n_support"]
    assert gammas[place + 1] / gammas[place] == pytest.approx(2**0.5)
    assert accuracy[place] - accuracy[place + 1] > 0
    on_svm = computed(
        AttackedImages(TASK, svm, "gradient", 6), tmp_path, fit=fit, classifier=trained
    )
    on_best = computed(AttackedImages(TASK, None, "gradient", 6), tmp_path, fit=fit)
    assert np.array_equal(on_svm.arrays["original"], on_best.arrays["original"])
    assert np.array_equal(on_svm.arrays["label"], on_best.arrays["label"])
    change = on_best.arrays["adversarial"] - on_best.arrays["original"]
    kept = on_best.arrays["kept"]
    assert np.linalg.norm(change, axis=1) == pytest.approx(distances(on_best)[kept], rel=1e-4)
    assert on_best.arrays["change_count"].sum() == 6 * 64


def test_an_attack_in_the_box_begins_inside_and_counts_the_way_there(fit, tmp_path):
    svm = TrainedSVM(TASK, 60)
    trained = computed(svm, tmp_path, fit=fit)
    free, boxed = (
        computed(
            AttackedImages(TASK, svm, attack, 10, cw_steps=100, cw_searches=7),
            tmp_path,
            fit=fit,
            classifier=trained,
        )
        for attack in ("cw-paper", "cw-box")
    )
    original, adversarial = boxed.arrays["original"], boxed.arrays["adversarial"]
    assert (original < 0).any()
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    to_box = np.linalg.norm(np.clip(original, 0, 1) - original, axis=1)
    kept = boxed.arrays["kept"]
    assert to_box == pytest.approx(boxed.arrays["distance_to_box"][kept], rel=1e-5)
    found = np.isfinite(distances(boxed))
    assert found.sum() >= 8  # few constants do not reach every point
    away = np.linalg.norm(adversarial - original, axis=1)[found[kept]]
    assert away == pytest.approx(distances(boxed)[kept][found[kept]], rel=1e-5)
    assert (distances(boxed) >= boxed.arrays["distance_to_box"]).all()
    assert distances(boxed)[found].mean() > distances(free)[found].mean()


def test_a_wrong_decision_is_attacked_like_any_other(fit, tmp_path, monkeypatch):
    real = AttackedImages.points

    def relabelled(self, run):
        x, y = real(self, run)
        return x, 1 - y

    monkeypatch.setattr(AttackedImages, "points", relabelled)
    run = computed(AttackedImages(TASK, None, "gradient", 6), tmp_path, fit=fit)
    assert run.summary["n_correct"] == 0
    assert run.summary["n_changed"] == 6
    assert (distances(run) > 0.1).all()


def test_cnn_keeps_its_snapshots_and_resumes(fit, tmp_path):
    config = TrainedCNN(TASK, 20, n_steps=8, width=2, batch_size=10, snapshots=(4,))
    run = computed(config, tmp_path, fit=fit)
    again = computed(config, tmp_path, fit=fit)  # from its checkpoint
    assert set(run.result.models) == {"final", "step-00000004"} == set(again.result.models)
    for name, (spec, arrays) in run.result.models.items():
        other_spec, others = again.result.models[name]
        assert spec == other_spec
        assert all(np.array_equal(arrays[key], others[key]) for key in arrays)
    first, last = (run.result.models[name][1] for name in ("step-00000004", "final"))
    assert any(not np.array_equal(first[key], last[key]) for key in first)


@pytest.mark.parametrize(
    ("right", "width", "is_accurate"),
    [
        ((1980, 1990, 2000), 2, True),
        ((1990, 1980, 1990), 1, True),
        ((1900, 1980, 1950), 2, False),
    ],
)
def test_the_narrowest_accurate_network_is_taken(
    fit, tmp_path, monkeypatch, right, width, is_accurate
):
    def correct(model, x, y):
        return np.arange(len(x)) < right[int(model.bias)]

    monkeypatch.setattr(trained_classifiers, "correct", correct)
    models = [to_arrays(LinearSVM(torch.zeros(64), float(place))) for place in range(3)]
    config = NarrowestCNN(
        TASK, 20, networks=tuple(TrainedCNN(TASK, 20, width=w) for w in (1, 2, 4))
    )
    assert set(config.needs()) == {"fit", "width 1", "width 2", "width 4"}
    runs = {
        f"width {one.width}": Run(
            {}, RunResult({"available": True}, models={"final": model}), {}, tmp_path
        )
        for one, model in zip(config.networks, models, strict=True)
    }
    found = computed(config, tmp_path, fit=fit, **runs)
    assert found.summary == {"available": True, "width": width, "is_accurate": is_accurate}
    assert found.arrays["accuracy"].tolist() == [n / 2000 for n in right]
    assert found.result.models["final"] is models[(1, 2, 4).index(width)]
    with pytest.raises(ValueError, match="narrow to wide"):
        NarrowestCNN(TASK, 20, networks=config.networks[::-1])


def test_the_plan_takes_the_narrowest_of_several_networks():
    settings = {"n_train": 20, "n_steps": 2, "filters": [1, 2]}
    narrowest = planned_cnn(TASK, settings, 0, "cpu")
    assert [one.width for one in narrowest.networks] == [1, 2]
    assert planned_cnn(TASK, settings | {"filters": [2]}, 0, "cpu") == narrowest.networks[1]


def test_svms_and_networks_share_their_training_points(fit):
    few = TASK.points(fit, 30, seed=3, purpose="train")
    again = TASK.points(fit, 30, seed=3, purpose="train")
    other = TASK.points(fit, 30, seed=3, purpose="test")
    assert all((a == b).all() for a, b in zip(few, again, strict=True))
    assert not (few[0] == other[0]).all()


def test_real_images_come_from_their_own_part(fit):
    task = ImageTask(FIT, "real")
    x, _ = task.points(fit, 10_000, seed=0, purpose="test")
    assert len(x) == 300
    held_out = FIT.images("test").flat()
    assert np.array_equal(np.sort(x.numpy().sum(1)), np.sort(held_out.sum(1)))
    train, validation = (
        {tuple(row) for row in task.points(fit, 10_000, seed=0, purpose=purpose)[0].tolist()}
        for purpose in ("train", "validation")
    )
    assert (len(train), len(validation)) == (270, 30)
    assert not train & validation
    with pytest.raises(ValueError, match="not known"):
        task.problem(fit)


def test_changes_are_counted_by_level():
    counts = count_changes(np.array([[0.0, 5 / 255, -5 / 255, 6 / 255, 9.0]]))
    middles = np.rint((CHANGE_EDGES[:-1] + CHANGE_EDGES[1:]) / 2 * 255)
    assert {int(m): int(c) for m, c in zip(middles, counts, strict=True) if c} == {
        -5: 1,
        0: 1,
        5: 1,
        6: 1,
        127: 1,
    }


def test_visible_changes_are_those_beyond_five_levels():
    counts = count_changes(np.array([[0.0, 5 / 255, -5 / 255, 6 / 255]]))
    images = np.zeros((2, 9))
    sheet = Sheet(images, images, (1, 3, 3), counts, np.array([1.0, math.inf]))
    assert sheet.visible_share == 0.25
    figure = draw_sheet({"one": sheet, "two": sheet})
    assert figure.axes[0].get_title() == "one: mean L2 1.00"


def test_pictures_are_stepped_through_with_their_class_and_both_decisions():
    image, counts = np.zeros(9), count_changes(np.zeros((1, 1)))
    kept = (
        (image, image, 1.0, 0, True),
        (image, image, 2.0, 1, False),
        (image, image, math.inf, 1, True),
    )
    sheet = Sheet(image[None], image[None], (1, 3, 3), counts, np.array([1.0]), kept)
    pairs = sheet.pairs("CNN", ("cat", "dog"))
    assert [pair.label for pair in pairs] == ["cat", "dog", "dog"]
    assert [pair.decisions for pair in pairs] == [("cat", "dog"), ("cat", "dog"), ("dog",)]
    assert pairs[0].original.shape == (1, 3, 3)


def test_tiles_keep_their_places_and_colours():
    red = np.stack([np.ones(4), np.zeros(4), np.zeros(4)]).reshape(1, 12)
    picture = tile([np.zeros((2, 12)), red], (3, 2, 2))
    assert picture.shape == (5, 5, 3)
    assert picture[3, 0].tolist() == [1, 0, 0]
    assert picture[0, 4].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: FittedMixtures("cifar", ("a", "b")),
        lambda: ImageTask(FIT, "odd"),
        lambda: ImageTask(FIT, "symmetric", 0.0),
        lambda: ImageTask(FIT, "asymmetric", math.inf),
        lambda: AttackedImages(TASK, None, "pgd", 4),
        lambda: AttackedImages(TASK, None, "cw", 0),
        lambda: TrainedSVM(TASK, 10, kernel="cubic"),
        lambda: TrainedCNN(TASK, 10, architecture="dense"),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()
