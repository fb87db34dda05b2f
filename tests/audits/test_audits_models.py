"""Audits of classifiers whose verdict is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import trueboundary as tb
from trueboundary.audits import SCHEMA, audit, compare
from trueboundary.audits.audit_models import judge_classes
from trueboundary.audits.card_page import page
from trueboundary.audits.robustness_card import ClassAudit, ratios, shares
from trueboundary.densities import LowRankGaussian
from trueboundary.measure import ErrorRate
from trueboundary.problems import ImageProblem, MixtureProblem, planar_problem, table_problem


def along(direction, offset=0.0, dim=20):
    """A linear classifier with its normal along some coordinates."""
    normal = torch.zeros(dim)
    for place, value in direction.items():
        normal[place] = value
    return lambda x: x @ normal.to(x) + offset


@pytest.fixture(scope="module")
def blobs():
    """Two round Gaussians in 20 dimensions, 8 apart along the first, with little noise."""
    means = torch.zeros(2, 20)
    means[0, 0], means[1, 0] = -4.0, 4.0
    return MixtureProblem(*(LowRankGaussian(m, torch.zeros(20, 0), 0.01) for m in means))


def test_the_optimal_classifier_is_robust(blobs):
    card = audit(blobs.bayes_classifier(dtype=torch.float64), blobs, n_points=20)
    assert card.verdict.kind == "robust"
    assert card.flags == ()
    assert np.allclose(card.verdict.share, 1.0, rtol=1e-3)
    for part in card.classes:
        assert np.allclose(part.upper, part.best_upper, rtol=1e-6)
        assert (part.room > 3.5).all()


def test_a_tilted_classifier_is_brittle_by_learning(blobs):
    tilted = along({0: 1.0, 1: 3.0})  # right, and three times as near as it need be
    card = audit(tilted, blobs, n_points=20)
    assert card.verdict.kind == "learning"
    assert "brittle by learning" in str(card)
    assert card.verdict.share[2] < 0.4


def test_narrow_data_beside_broad_data_are_brittle_by_themselves():
    # Errors of the narrow class are all around it: the broad one is likelier a little way off.
    narrow = LowRankGaussian(torch.zeros(20), torch.zeros(20, 0), 1e-4)
    broad = LowRankGaussian(torch.zeros(20), torch.zeros(20, 0), 1.0)
    problem = MixtureProblem(narrow, broad)
    card = audit(problem.bayes_classifier(dtype=torch.float64), problem, n_points=20)
    (narrow_class, _) = card.classes
    assert np.median(narrow_class.best_upper / narrow_class.room) < 0.25


@pytest.mark.parametrize(
    ("share", "room", "kind"),
    [
        (1.0, 1.0, "robust"),
        (0.5, 1.0, "learning"),
        (1.0, 0.1, "data"),
        (0.5, 0.1, "data and learning"),
    ],
)
def test_verdicts_follow_their_rules(share, room, kind):
    n = 50
    distance = np.full(n, 2.0)
    rate = ErrorRate(0, 0.0, 0.0, 0.0, -math.inf, "exact", "")
    part = ClassAudit(
        0, "0", rate, np.zeros(n), share * distance, distance, distance, distance / room,
        np.ones(n, dtype=np.int64), ("",) * n,
    )  # fmt: skip
    assert judge_classes([part]).kind == kind


def test_a_card_fits_a_narrow_terminal():
    problem = planar_problem("a")
    card = audit(lambda x: x[:, 0], problem, name="plane", n_points=4, n_error_points=50)
    narrow = card.text(40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert "0: error rate " in narrow
    assert card.text() == str(card)
    assert sorted(card.text(200).split()) == sorted(str(card).split())


def _of_shares(share):
    n = len(share)
    rate = ErrorRate(0, 0.0, 0.0, 0.0, -math.inf, "exact", "")
    ones = np.ones(n)
    return ClassAudit(0, "0", rate, 0 * ones, share, ones, ones, ones,
                      np.ones(n, dtype=np.int64), ("",) * n)  # fmt: skip


@pytest.mark.parametrize(("above", "told"), [(0.6, 96), (0.45, 380)])
def test_an_undecided_verdict_says_how_many_points_decide(above, told):
    def judged(n):
        return judge_classes([_of_shares(np.where(np.arange(n) < round(above * n), 1.0, 0.5))])

    few = judged(20)
    assert few.kind == "undecided"
    assert "the threshold 75% lies inside. About" in few.text
    assert few.text.endswith(f"About {told} points of each class may decide (n_points={told}).")
    # A binomial number is whole, so that a few points more or less may be needed.
    assert judged(round(0.9 * told)).kind == "undecided"
    assert judged(round(1.1 * told)).kind != "undecided"


def test_where_half_of_the_points_lie_above_no_number_of_points_is_named():
    verdict = judge_classes([_of_shares(np.linspace(0.3, 1.2, 40))])
    assert verdict.kind == "undecided"
    assert "points will hardly decide" in verdict.text


def test_where_the_optimal_classifier_errs_at_every_point_nothing_is_judged():
    part = replace(_of_shares(np.ones(4)), best_lower=np.zeros(4), best_upper=np.zeros(4))
    verdict = judge_classes([part])
    assert verdict.kind == "undecided"
    assert "The optimal classifier errs at every point" in verdict.text


def test_too_few_points_for_an_interval_ask_for_no_number_of_points():
    verdict = judge_classes([_of_shares(np.array([0.2, 0.3, 0.4]))])
    assert verdict.kind == "undecided"
    assert verdict.text == (
        "undecided. The share is 30% of the optimal classifier's distance, from too few points for "
        "an interval."
    )


def test_a_network_of_images_is_told_the_shape_of_the_problem_s():
    densities = (LowRankGaussian(torch.full((16,), m), torch.zeros(16, 0), 0.1) for m in (0.0, 1.0))
    problem = ImageProblem(*densities, image_shape=(1, 4, 4), class_names=("dark", "light"))
    network = nn.Sequential(nn.Conv2d(1, 2, 4, device="meta"), nn.Flatten()).to_empty(device="cpu")
    with pytest.raises(ValueError, match=r"at points of shape \(16,\) each \(") as found:
        audit(network, problem)
    cure = "give a classifier of such points, or as_classifier(network, preprocess=(0.0, 1.0, (1, "
    assert str(found.value).endswith(cure + "4, 4))).")


def test_a_classifier_whose_classes_are_swapped_is_told_so(blobs):
    swapped = along({0: -1.0})
    verdict = audit(swapped, blobs, n_points=4, n_error_points=500).verdict
    assert verdict.kind == "undecided"
    assert "not accurate: its error rate is 1 where a guess has 0.5" in verdict.text
    assert "the optimal classifier errs on 0 of 8 points" in verdict.text
    assert "Are the classes swapped? as_classifier(classifier, classes=(1, 0)) " in verdict.text
    mended = tb.as_classifier(swapped, classes=(1, 0))
    assert audit(mended, blobs, n_points=8, n_error_points=500).verdict.kind == "robust"


def test_classes_in_another_order_are_put_in_theirs():
    problem = planar_problem("three")
    optimal = problem.bayes_classifier(dtype=torch.float64)
    turned = lambda x: optimal(x)[:, [1, 2, 0]]  # noqa: E731
    verdict = audit(turned, problem, n_points=4, n_error_points=500).verdict
    assert verdict.kind == "undecided"
    assert "in another order? as_classifier(classifier, classes=(2, 0, 1)) has" in verdict.text
    mended = tb.as_classifier(turned, classes=(2, 0, 1))
    assert "accurate" not in audit(mended, problem, n_points=4, n_error_points=500).verdict.text


def test_a_guess_is_neither_brittle_nor_robust(blobs):
    constant = audit(lambda x: 0 * x[:, 0] + 1, blobs, n_points=4, n_error_points=500).verdict
    assert constant.kind == "undecided"
    assert "its error rate is 0.5 where a guess has 0.5" in constant.text
    assert "swapped" not in constant.text
    # Of the few errors of a good one, seen at few points, the interval reaches a guess's.
    assert audit(along({0: 1.0}), blobs, n_points=8, n_error_points=2).verdict.kind == "robust"


def test_shares_of_infinite_distances():
    inf = np.array([np.inf] * 9)
    assert shares(inf, inf)[0] == 1.0
    assert shares(np.ones(9), inf)[0] == 0.0
    assert math.isnan(shares(np.empty(0), np.empty(0))[0])


def test_a_share_over_a_distance_of_which_nothing_is_proven_is_no_number_or_nothing():
    of, over = np.array([0.0, 0.0, 3.0, 1.0, np.inf]), np.array([0.0, 2.0, 0.0, 2.0, 2.0])
    assert ratios(of, over).tolist() == [0.0, 0.0, np.inf, 0.5, np.inf]
    rate = ErrorRate(0, 0.0, 0.0, 0.0, -math.inf, "exact", "")
    nothing, n = np.zeros(6), 6
    part = ClassAudit(0, "0", rate, nothing, nothing, nothing, np.ones(n), np.ones(n),
                      np.ones(n, dtype=np.int64), ("",) * n)  # fmt: skip
    assert judge_classes([part]).kind == "learning"  # wrong where the optimal one is right


def test_spheres_have_no_error_and_their_limit_is_told():
    network = tb.QuadraticNetwork(50, 100, generator=torch.Generator().manual_seed(0))
    card = audit(network, "spheres-d50", n_points=10)
    assert card.verdict.kind == "learning"
    assert all(0.5 < ratio < 1.01 for ratio in card.optimality)
    perfect = audit(tb.ConcentricSpheres(50).bayes_classifier(), "spheres-d50", n_points=10)
    assert perfect.verdict.kind == "robust"
    assert all(math.isnan(ratio) for ratio in perfect.optimality)


def test_a_card_of_ten_classes_is_stored_and_shown(tmp_path):
    generator = torch.Generator().manual_seed(0)
    means = 0.5 + 0.5 * torch.randn(10, 16, generator=generator)
    problem = ImageProblem(
        *(LowRankGaussian(m, torch.zeros(16, 0), 1e-4) for m in means),
        image_shape=(1, 4, 4),
        class_names=tuple("abcdefghi<"),
    )
    linear = lambda x: 2 * x @ means.to(x).T - (means.to(x) ** 2).sum(1)  # noqa: E731
    card = audit(linear, problem, name="nearest <mean>", n_points=2, n_error_points=100)
    assert card.verdict.kind == "robust"
    assert max(map(len, str(card).splitlines())) <= 80
    values = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    assert values["schema"] == SCHEMA
    assert len(values["classes"]) == 10
    assert card.pictures["errors"].shape == (10, 1, 4, 4)
    text = page(card)
    assert "nearest &lt;mean&gt;" in text
    assert "<mean>" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert card.save(tmp_path / "card.html").read_text() == text
    assert json.loads(card.save(tmp_path / "card.json").read_text()) == values
    with pytest.raises(ValueError, match=r"\.html or \.json"):
        card.save(tmp_path / "card.pdf")
    private = audit(linear, problem, n_points=2, n_error_points=100, private=True, budget=1e-6)
    assert private.settings["n_points"] == 1
    assert not private.pictures
    assert card._repr_html_().startswith("<div")


def test_robust_accuracy_lies_between_its_lines(blobs):
    curve = audit(along({0: 1.0, 1: 1.0}), blobs, n_points=20).curve()
    assert (curve["certified"] <= curve["found"]).all()
    assert (np.diff(curve["found"]) <= 0).all()
    assert curve["found"][0] == 1.0
    assert curve["found"][-1] == 0.0
    assert (curve["low"] <= curve["certified"]).all()
    assert (curve["found"] <= curve["high"]).all()


def test_a_budget_ends_the_search_and_says_so(blobs):
    card = audit(along({0: 1.0}), blobs, n_points=60, budget=1e-6)
    assert card.settings["n_points"] == 1
    assert card.settings["n_error_points"] < 1000
    assert "budget ended after 1 point" in card.notes[0]


def flags_of(model, problem, n_points=4):
    card = audit(model, problem, n_points=n_points, n_error_points=100)
    return {flag.name for flag in card.flags}


class Noisy(nn.Module):
    """Adds noise to its margin at every call."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        return x[:, 0] + 0.1 * torch.randn(len(x), generator=self.generator)


class Batched(nn.Module):
    """Takes the mean of its batch from the points."""

    def forward(self, x):
        return x[:, 0] - x[:, 0].mean() + x[:, 1]


def test_red_flags_are_raised_by_what_they_are_about(blobs):
    plain = along({0: 1.0})
    assert flags_of(plain, blobs) == set()
    assert "random outputs" in flags_of(Noisy(), blobs)
    assert "outputs depend on the batch" in flags_of(Batched(), blobs)
    with torch.no_grad():
        cut = flags_of(lambda x: plain(x).detach(), blobs)
    assert "autograd cut off" in cut
    assert "zero gradients" in flags_of(lambda x: plain(x).round(), blobs)
    dropped = nn.Sequential(nn.Dropout(), nn.Flatten())
    assert "training mode" in flags_of(nn.Sequential(dropped, Take()).train(), blobs)


class Take(nn.Module):
    """Takes the first coordinate for the margin."""

    def forward(self, x):
        return x[:, 0]


def test_what_masks_a_gradient_does_not_mask_an_error(blobs):
    # Right up to steps so fine that a gradient sees nothing of them.
    class Masked(nn.Module):
        def forward(self, x):
            margin = x[:, 0] + 3 * x[:, 1]
            return torch.tanh(1e3 * margin.detach()) + 1e-9 * x[:, 2]

    problem = blobs
    card = audit(Masked(), problem, n_points=20, n_error_points=100)
    names = {flag.name for flag in card.flags}
    assert "gradient masking" in names
    assert np.isfinite(card.joined("upper")).all()


def test_probabilities_of_three_classes_are_noticed():
    problem = planar_problem("three")
    optimal = problem.bayes_classifier(dtype=torch.float64)
    shown = lambda x: optimal(x.double()).softmax(1)  # noqa: E731
    assert "probabilities" in flags_of(shown, problem, n_points=2)


def test_nonsense_is_refused_in_a_sentence(blobs):
    for wrong, words in (
        (lambda x: torch.zeros(len(x), 3), "has 3 classes and the problem has 2"),
        (lambda x: torch.zeros(len(x), 2, 2), "must return one margin for each"),
        (lambda x: x[:, 0] * math.nan, "NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            audit(wrong, blobs, n_points=2)
    with pytest.raises(TypeError, match="floating-point"):
        audit(lambda x: (x[:, 0] > 0).long(), blobs, n_points=2)
    with pytest.raises(TypeError, match="tables are audited by"):
        audit(lambda x: x[:, 0], table_problem("c"))
    with pytest.raises(ValueError, match="budget"):
        audit(along({0: 1.0}), blobs, budget=0)
    with pytest.raises(ValueError, match="no problem 'sphere'"):
        audit(along({0: 1.0}), "sphere")


def test_two_classifiers_are_compared_point_by_point(blobs):
    straight, tilted, again, other = (
        audit(along(normal), blobs, name=name, n_points=n, n_error_points=100, seed=seed)
        for normal, name, n, seed in (
            ({0: 1.0}, "straight", 25, 0),
            ({0: 1.0, 1: 3.0}, "tilted", 20, 0),
            ({0: 2.0}, "again", 20, 0),
            ({0: 1.0}, "other", 20, 1),
        )
    )
    found = compare(straight, tilted)
    assert found.verdict == "straight is more robust than tilted"
    assert found.n == found.n_both == 40
    assert found.farther == 0.0
    # The same points, so that the difference is that of two planes and nothing else.
    wanted = np.concatenate(
        [b.upper - a.upper[:20] for a, b in zip(straight.classes, tilted.classes, strict=True)]
    )
    assert math.isclose(found.mean_difference, wanted.mean(), rel_tol=1e-9)
    assert found.mean_interval.low < wanted.mean() < found.mean_interval.high
    same = compare(straight, again)
    assert "do not differ" in same.verdict
    assert "  farther from no point\n" in str(same)
    assert max(map(len, str(found).splitlines())) <= 80
    with pytest.raises(ValueError, match="the same problem and seed"):
        compare(straight, other)


def test_what_is_said_of_a_comparison_has_the_sign_of_its_verdict_whichever_comes_first(blobs):
    cards = [
        audit(along(normal), blobs, name=name, n_points=20, n_error_points=100)
        for normal, name in (({0: 1.0}, "straight"), ({0: 1.0, 1: 3.0}, "tilted"))
    ]
    one, other = (str(compare(*order)).splitlines() for order in (cards, cards[::-1]))
    assert one[:-1] == other[:-1]
    assert one[1] == "distances of straight minus those of tilted:"
    assert one[2].startswith("  median 2.")
    assert one[4] == "  farther from 100% [91%, 100%] of the points that differ"


def test_differences_that_are_infinite_both_ways_have_no_median_and_none_are_refused(recwarn):
    problem = planar_problem("a")
    card = audit(lambda x: x[:, 0], problem, name="plane", n_points=4, n_error_points=50)
    far, near = np.full(4, np.inf), np.ones(4)
    ways = (far, near), (near, far)
    one, two = (
        replace(
            card,
            classes=tuple(
                replace(part, upper=upper) for part, upper in zip(card.classes, way, strict=True)
            ),
        )
        for way in ways
    )
    found = compare(one, two)
    assert math.isnan(found.median_difference)
    assert found.to_dict()["median_difference"] is None
    assert "do not differ" in found.verdict
    assert not recwarn.list
    part = card.classes[0]
    names = ("lower", "upper", "best_lower", "best_upper", "room", "other", "reasons")
    empty = {name: getattr(part, name)[:0] for name in names}
    nothing = replace(
        card,
        classes=tuple(replace(part, **empty) for part in card.classes),
        stopped="KeyError: 'gone'",
    )
    with pytest.raises(ValueError, match=r"of plane was measured, since it stopped with KeyError"):
        compare(card, nothing)


def test_points_without_an_error_count_as_infinite(blobs):
    nowhere = audit(lambda x: x[:, 0] * 0 - 1.0, blobs, name="never 1", n_points=5,
                    n_error_points=100)  # fmt: skip
    plane = audit(along({0: 1.0}), blobs, name="plane", n_points=5, n_error_points=100)
    found = compare(nowhere, plane)
    assert found.n_both == 5  # class 1, of which it gets every point wrong
    assert np.isinf(found.median_interval.low)
