"""Splitting for more than two classes: how often, and into which."""

import math

import pytest
import torch

import trueboundary as tb
from trueboundary.classifiers import wrongness
from trueboundary.densities import LowRankGaussian, UniformSphere
from trueboundary.problems import MixtureProblem, planar_problem
from trueboundary.rare_events import (
    Pilot,
    Replicates,
    Splitting,
    SplittingStages,
    attack_seeds,
    estimate_error_rate,
)
from trueboundary.rare_events.scores import ScoreFunction
from trueboundary.rare_events.splitting_results import estimate
from trueboundary.theory import caps

DIM = 20
SPHERE = UniformSphere(DIM)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_caps(rates):
    """Four classes: 0 but for two opposite caps of known measure, which are 1 and 3."""
    first, second = (caps.threshold(DIM, rate) for rate in rates)

    def logits(x):
        nowhere = torch.full_like(x[:, 0], -9.0)
        return torch.stack([0 * x[:, 0], x[:, 0] - first, nowhere, -x[:, 0] - second], dim=1)

    return logits


@pytest.mark.parametrize("rates", [(3e-9, 1e-9), (0.2, 0.1)])
def test_errors_into_caps_of_known_measure_are_told_apart(rates):
    classifier = two_caps(rates)
    result = estimate_error_rate(
        classifier, SPHERE, 0, splitting=Splitting(n_particles=1000), generator=seeded()
    )
    assert result.interval.low < sum(rates) < result.interval.high
    assert [rate.label for rate in result.into] == [1, 3]
    assert math.isclose(sum(rate.value for rate in result.into), result.value, rel_tol=1e-12)
    for found, truth in zip(result.into, rates, strict=True):
        assert found.low < truth < found.high


def test_shares_of_classes_survive_storage_and_joining():
    stages = SplittingStages(two_caps((1e-4, 1e-4)), SPHERE, 0, splitting=Splitting(100))
    pilot = stages.run_pilot(generator=seeded())
    parts = [stages.run_replicates(pilot, 2, generator=seeded(i)) for i in (1, 2)]
    again = [Replicates.from_arrays(part.to_arrays()) for part in parts]
    assert Replicates.joined(again).into == parts[0].into + parts[1].into
    assert stages.combine(pilot, again).into == stages.combine(pilot, parts).into
    assert "into" not in Replicates((-1.0,), (), (1,), 0, torch.ones(1, 2), 1).to_arrays()


def test_rates_into_classes_have_intervals_like_that_of_the_whole():
    """Student's t is too often too low where replicates spread widely."""
    logs = tuple(-20.0 + spread for spread in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5))
    shares = ((0.0, 1.0, 0.0),) * len(logs)
    replicates = Replicates(logs, (0.3,), (7,) * len(logs), 0, torch.ones(4, 2), 100, shares)
    result = estimate(
        Splitting(),
        Pilot((-1.0, 0.0), (0.5,), -20.0, 100),
        replicates,
        n_evaluations=200,
        label=0,
        score="margin",
        warnings=(),
    )
    assert result.log_normal is not None
    assert [rate.label for rate in result.into] == [1]
    assert tuple(result.into[0])[1:] == (result.value, *result.interval)


def test_two_classes_and_two_of_three_are_split_alike():
    cap = caps.threshold(DIM, 1e-6)
    two = estimate_error_rate(
        lambda x: x[:, 0] - cap, SPHERE, 0, splitting=Splitting(200), generator=seeded()
    )
    three = estimate_error_rate(
        lambda x: torch.stack([0 * x[:, 0], x[:, 0] - cap, 0 * x[:, 0] - 9], 1),
        SPHERE,
        0,
        splitting=Splitting(200),
        generator=seeded(),
    )
    assert two.replicates == three.replicates
    assert (two.into, [rate.label for rate in three.into]) == ((), [1])


@pytest.mark.parametrize("score", ["margin", "normalised margin"])
def test_scores_of_three_classes_lead_to_errors(score):
    classifier = two_caps((0.1, 0.1))
    x = SPHERE.sample((50,), generator=seeded())
    function = ScoreFunction(classifier, 0, score)
    y = torch.zeros(50, dtype=torch.int64)
    value = function(x)
    assert torch.equal(value > 0, wrongness(classifier, x, y) > 0)
    assert torch.equal(function.classes(x), classifier(x).argmax(1))
    assert function.n_evaluations == 100
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        ScoreFunction(classifier, 4, score)(x)


def test_seeds_of_an_attack_lead_out_of_a_class_of_three():
    seeds = attack_seeds(two_caps((1e-9, 1e-9)), SPHERE, 0, generator=seeded())
    assert len(seeds) == 64
    assert (two_caps((1e-9, 1e-9))(seeds).argmax(1) > 0).all()


def corners(distance):
    """Three Gaussians of unit variance at the corners of a triangle."""
    angle = 2 * math.pi / 3 * torch.arange(3, dtype=torch.float64)
    means = distance / math.sqrt(3) * torch.stack([angle.cos(), angle.sin()], dim=1)
    return MixtureProblem(*(LowRankGaussian(m, torch.zeros(2, 0).double(), 1.0) for m in means))


def test_rates_of_three_corners_agree_with_a_grid():
    problem = corners(4.0)
    classifier = problem.bayes_classifier(dtype=torch.float64)
    axis = torch.arange(-9, 9, 0.02, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    logs = torch.stack([density.log_prob(grid) for density in problem.densities], dim=1)
    winner = logs.argmax(1)
    sampled = tb.error_rate(classifier, problem, method="sampling", n_points=50_000)
    split = tb.error_rate(classifier, problem, method="splitting")
    for label in range(3):
        weight = logs[:, label].exp() * 0.02**2
        truth = weight[winner != label].sum().item()
        for rate in (sampled[label], split[label]):
            assert rate.low < truth < rate.high
            assert {part.label for part in rate.into} == {0, 1, 2} - {label}
            for part in rate.into:
                into = weight[winner == part.label].sum().item()
                assert part.low < into < part.high
    assert "most into" in str(sampled[0])


def test_rates_far_below_sampling_go_to_the_nearest_class():
    problem = corners(14.0)
    classifier = problem.bayes_classifier(dtype=torch.float64)
    rate = tb.error_rate(classifier, problem, n_points=20_000)[0]
    half = 0.5 * math.erfc(7.0 / math.sqrt(2))  # beyond each of the two half-planes
    assert rate.method == "splitting"
    assert rate.low < 2 * half < rate.high
    assert all(part.low < half < part.high for part in rate.into)


def test_a_classifier_of_other_classes_than_the_problem_is_refused():
    problem = planar_problem("three")
    two = planar_problem("a").bayes_classifier(dtype=torch.float64)
    for measure in (tb.error_rate, tb.distances):
        with pytest.raises(ValueError, match="has 2 classes and the problem has 3"):
            measure(two, problem)
        with pytest.raises(ValueError, match=r"has 10 classes .* classes=\.\.\."):
            measure(lambda x: x[:, :1] * torch.arange(10).to(x), problem)
