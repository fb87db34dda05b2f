"""Attacks in any units and any precision: what they find must not depend on either."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trueboundary.attacks import (
    Attack,
    AttackResult,
    AttackStatus,
    AttackWarning,
    Box,
    CarliniWagnerL2,
    Domain,
    LogDensityGradient,
    ManifoldAttack,
    NearestError,
    Shell,
    Space,
    Sphere,
)
from trueboundary.classifiers import margin
from trueboundary.densities import LowRankGaussian
from trueboundary.experiments.summaries import median_of_points
from trueboundary.measure import Distances, distances
from trueboundary.problems import MixtureProblem, planar_problem

Margin = Callable[[Tensor], Tensor]

EVERYWHERE: dict[str, Attack] = {
    "manifold": ManifoldAttack(),
    "nearest-error": NearestError(),
    "carlini-wagner": CarliniWagnerL2(n_steps=100),
    "log-density": LogDensityGradient(),
    "log-density-fixed-step": LogDensityGradient("fixed-step"),
}
ANY_ATTACK = pytest.mark.parametrize("attack", EVERYWHERE.values(), ids=EVERYWHERE.keys())
CLIMBS: dict[str, Attack] = {
    "nearest-error": NearestError(),
    "worst-case": ManifoldAttack("worst_case", n_steps=100),
}
ANY_CLIMB = pytest.mark.parametrize("attack", CLIMBS.values(), ids=CLIMBS.keys())


def zeros(x: Tensor) -> Tensor:
    return torch.zeros(len(x), dtype=torch.int64)


def statuses(result: AttackResult) -> set[AttackStatus]:
    return {AttackStatus.from_code(code) for code in result.status.tolist()}


def bowl(x: Tensor) -> Tensor:
    """A smooth margin whose zero set is an ellipsoid of about the extent of normal points."""
    return (torch.tensor([0.5, 1.0, 1.0, 2.0]).to(x) * x**2).sum(1) - 3.5


# Units.


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0.0), (1e3, 50.0)])
@pytest.mark.parametrize("box", [False, True], ids=["space", "box"])
@ANY_ATTACK
def test_units_and_origin_of_the_points_change_nothing(
    attack: Attack, box: bool, offset: float, scale: float, generator: torch.Generator
) -> None:
    x = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    y = torch.arange(12) % 2

    def domain(scale: float, offset: float) -> Domain:
        return Box(-4 * scale + offset, 4 * scale + offset) if box else Space()

    plain = attack(bowl, x, y, domain=domain(1, 0))
    offset *= scale
    other = attack(
        lambda points: bowl((points - offset) / scale),
        scale * x + offset,
        y,
        domain=domain(scale, offset),
    )
    assert plain.success.all()
    assert torch.equal(other.status, plain.status)
    torch.testing.assert_close(other.distance / scale, plain.distance, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize(
    ("attack", "is_shell"),
    [
        (ManifoldAttack(), False),
        (NearestError(), False),
        (ManifoldAttack("worst_case", n_steps=200), False),
        (NearestError(), True),
    ],
)
def test_the_radius_of_a_sphere_changes_nothing(
    attack: Attack, is_shell: bool, scale: float, generator: torch.Generator
) -> None:
    x = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    x = torch.nn.functional.normalize(x, dim=1)

    def found(scale: float) -> Tensor:
        domain = Shell(scale, 1.3 * scale) if is_shell else Sphere()
        result = attack(
            lambda points: bowl(1.5 * points / scale), scale * x, zeros(x), domain=domain
        )
        assert result.success.all()
        return result.distance / scale

    torch.testing.assert_close(found(scale), found(1.0), rtol=1e-5, atol=0)


def test_distances_are_found_between_classes_that_are_far_apart() -> None:
    scale = 1e4
    zero, one = (
        LowRankGaussian(torch.tensor([mean, 0.0]) * scale, torch.zeros(2, 0), scale**2)
        for mean in (-2.0, 2.0)
    )
    problem = MixtureProblem(zero, one)
    for label, found in enumerate(distances(lambda x: x[:, 0] / scale, problem, n_points=5)):
        x, _ = next(problem.blocks(5, seed=0, block_size=5, label=label, purpose="distances"))
        exact = (x[:, 0] * (2 * label - 1)).clamp(min=0).double()
        torch.testing.assert_close(torch.from_numpy(found.upper), exact, rtol=1e-4, atol=0)


def test_explicit_steps_keep_their_length() -> None:
    x = torch.zeros(1, 2, dtype=torch.float64)
    attack = ManifoldAttack(n_steps=9, step_size=0.1)
    result = attack(lambda points: points[:, 0] - 1000, x, zeros(x), domain=Space())
    torch.testing.assert_close(result.endpoint, torch.tensor([[0.9, 0.0]]).double())
    short = CarliniWagnerL2(n_steps=10, learning_rate=0.01, schedule="constant")
    assert statuses(short(lambda points: points[:, 0] - 10, x, zeros(x))) == {
        AttackStatus.BUDGET_SPENT
    }


# Precision.


def hidden(x: Tensor) -> Tensor:
    """A margin of which two logits of 1e5 in single precision show steps of 1/128."""
    logits = torch.stack([torch.zeros_like(x[:, 0]), x[:, 0] - 0.9], dim=1) + 1e5
    return logits[:, 1] - logits[:, 0]


class HalfPrecision(nn.Module):
    """A plane of which the margin has three digits, as under autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4)[:1])

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return nn.functional.linear(x, self.weight)[:, 0] - 0.9


@ANY_CLIMB
@pytest.mark.parametrize("classifier", [hidden, HalfPrecision()], ids=["offset", "autocast"])
def test_margins_of_few_digits_are_climbed_all_the_same(
    attack: Attack, classifier: Margin, generator: torch.Generator
) -> None:
    x = torch.nn.functional.normalize(torch.randn(40, 4, generator=generator), dim=1)
    x = x[margin(classifier, x) < 0]
    result = attack(classifier, x, zeros(x), domain=Sphere())
    assert result.success.all()
    assert (margin(classifier, result.x_adv) > 0).all()


@pytest.mark.parametrize("offset", [1e4, 1e6])
@ANY_ATTACK
def test_points_far_from_the_origin_are_moved_all_the_same(
    attack: Attack, offset: float, generator: torch.Generator
) -> None:
    x = torch.randn(20, 4, generator=generator) + offset
    result = attack(lambda points: points[:, 0] - offset - 3, x, zeros(x), domain=Space())
    assert result.success.all()
    exact = 3 - (x[:, 0] - offset)
    rounding = 4 * torch.finfo(x.dtype).eps * offset
    assert (result.distance > exact - rounding).all()
    assert (result.distance < exact + 2 * rounding + 1e-2).all()


@pytest.mark.parametrize("step_size", [1e-12, 1e-3])
def test_a_first_step_that_is_lost_in_the_rounding_is_lengthened(step_size: float) -> None:
    x = torch.full((1, 4), 1e5)
    climb = ManifoldAttack("worst_case", n_steps=500, step_size=step_size)
    result = climb(lambda p: p[:, 0] - 1e5 - 3, x, zeros(x), domain=Space())
    assert result.success.all()
    assert NearestError()(
        lambda p: p[:, 0] - 1e5 - 3, x, zeros(x)
    ).distance.item() == pytest.approx(3, rel=0.01)


def test_fixed_steps_that_are_lost_in_the_rounding_are_called_so() -> None:
    x = torch.full((1, 4), 1e5)
    fixed = ManifoldAttack(step_size=1e-3)
    result = fixed(lambda points: points[:, 0] - 1e5 - 3, x, zeros(x), domain=Space())
    assert statuses(result) == {AttackStatus.UNRESOLVED}
    assert "precision" in result.messages()[0]
    assert result.n_backward.item() == 1  # the second step would be lost as well


def test_a_margin_too_coarse_for_any_step_blames_the_precision(generator: torch.Generator) -> None:
    def coarse(x: Tensor) -> Tensor:
        logits = torch.stack([x[:, 0] + 1, 0 * x[:, 0]], dim=1) + 1e9
        return logits[:, 1] - logits[:, 0] - 1  # always -1: 1e9 + 2 rounds to 1e9

    x = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=1)
    for attack in (NearestError(), ManifoldAttack("worst_case")):
        result = attack(coarse, x, zeros(x), domain=Sphere())
        assert statuses(result) == {AttackStatus.UNRESOLVED}


def test_a_top_below_zero_still_counts_as_converged(generator: torch.Generator) -> None:
    x = torch.nn.functional.normalize(torch.randn(10, 4, generator=generator), dim=1)
    tops: dict[str, Margin] = {
        "smooth": lambda points: points[:, 0] - 1.5,
        "edge": lambda points: -0.1 - (points[:, 0] - points[:, 1]).abs(),
        "coarse": lambda points: ((points[:, 0] - 1.1).double() + 1e5).float() - 1e5,
    }
    for name, top in tops.items():
        for attack in (NearestError(), ManifoldAttack("worst_case")):
            result = attack(top, x, zeros(x), domain=Sphere())
            assert statuses(result) == {AttackStatus.CONVERGED}, name
            if name == "smooth":
                torch.testing.assert_close(
                    result.endpoint_margin, torch.full_like(x[:, 0], -0.5), atol=1e-5, rtol=0
                )
            assert result.n_backward.max() < 300


# Margins of exactly zero.


@ANY_ATTACK
@pytest.mark.parametrize("label", [0, 1])
def test_every_error_found_is_one_for_argmax(
    attack: Attack, label: int, generator: torch.Generator
) -> None:
    weights = torch.randn(4, 2, generator=generator)
    x = torch.nn.functional.normalize(torch.randn(60, 4, generator=generator), dim=1)
    x = x[(x @ weights).argmax(1) == label]

    def logits(points: Tensor) -> Tensor:
        return points @ weights

    result = attack(logits, x, torch.full((len(x),), label))
    assert result.success.any()
    assert (logits(result.x_adv).argmax(1) != label)[result.success].all()
    # Strictness costs a few roundings: the exact margins there are small.
    exact = (result.x_adv.double() @ weights.double()).diff(dim=1)[:, 0]
    assert (exact.abs()[result.success] < 1e-5).all() or attack == EVERYWHERE["log-density"]


@ANY_ATTACK
def test_a_sample_on_the_boundary_is_right_for_class_0_and_wrong_for_class_1(
    attack: Attack,
) -> None:
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, -2.0]])
    result = attack(lambda points: points[:, 0], x, torch.tensor([0, 1, 0]))
    assert statuses(result) == {AttackStatus.FOUND, AttackStatus.MISCLASSIFIED}
    assert result.distance[1] == 0
    assert ((result.distance > 0) & (result.distance < 1e-6))[[0, 2]].all()
    assert (result.margin[[0, 2]] > 0).all()


@pytest.mark.parametrize("name", ["manifold", "nearest-error", "carlini-wagner"])
def test_a_stretch_of_zero_margins_is_crossed(name: str) -> None:
    def flat_between(points: Tensor) -> Tensor:
        return torch.where(points[:, 0].abs() < 0.25, 0 * points[:, 0], points[:, 0])

    x = torch.nn.functional.normalize(torch.tensor([[-1.0, 1.0, 1.0], [-0.5, 1.0, 1.0]]), dim=1)
    result = EVERYWHERE[name](flat_between, x, zeros(x))
    assert result.success.all()
    assert (result.x_adv[:, 0] >= 0.25).all()


@ANY_ATTACK
def test_a_margin_that_ends_at_zero_has_no_error(attack: Attack) -> None:
    x = torch.nn.functional.normalize(torch.tensor([[-1.0, 1.0, 1.0], [-0.5, 1.0, 1.0]]), dim=1)
    result = attack(lambda points: (points[:, 0] + 0.2).clamp(max=0), x, zeros(x))
    assert not result.success.any()
    assert result.margin.tolist() == pytest.approx((x[:, 0] + 0.2).tolist())


# Dtypes of margins.


@ANY_ATTACK
def test_single_precision_points_go_with_a_classifier_in_double(attack: Attack) -> None:
    problem = planar_problem("h")
    optimal = problem.bayes_classifier(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, y = problem.sample(8, generator=generator, dtype=torch.float32)
    single = attack(optimal, x, y, domain=Space())
    double = attack(optimal, x.double(), y, domain=Space())
    assert single.x_adv.dtype == single.distance.dtype == single.margin.dtype == torch.float32
    assert torch.equal(single.success, double.success)
    torch.testing.assert_close(single.distance.double(), double.distance, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@ANY_ATTACK
def test_margins_in_half_precision_are_taken_as_they_are(
    attack: Attack, dtype: torch.dtype, generator: torch.Generator
) -> None:
    x = torch.nn.functional.normalize(torch.randn(10, 4, generator=generator), dim=1)
    x[:, 0] = -x[:, 0].abs()

    def half(points: Tensor) -> Tensor:
        return points[:, :1].to(dtype) - 0.125

    result = attack(half, x, zeros(x))
    assert result.success.any()
    assert result.distance.dtype == torch.float32
    assert (half(result.x_adv)[:, 0] > 0)[result.success].all()


@ANY_ATTACK
def test_a_whole_attack_under_autocast(attack: Attack, generator: torch.Generator) -> None:
    with torch.random.fork_rng():
        network = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 2))
    x = torch.nn.functional.normalize(torch.randn(10, 4, generator=generator), dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(x).argmax(1)
        result = attack(network, x, y)
        wrong = network(result.x_adv).argmax(1) != y
    assert result.x_adv.dtype == torch.float32
    assert wrong[result.success].all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_margins_beyond_single_precision_keep_their_side(sign: int, size: float) -> None:
    x = torch.tensor([[sign * 0.5, 1.0]])
    result = ManifoldAttack()(lambda p: p[:, 0].double() * size, x, torch.tensor([0]))
    assert (result.margin.sign() == sign).all()
    assert result.margin.isfinite().all()
    # The gradient has no sign to keep: it is lost in single precision, and that is said.
    lost = AttackStatus.NON_FINITE if size > 1 else AttackStatus.GRADIENT_VANISHED
    assert statuses(result) == {lost if sign < 0 else AttackStatus.MISCLASSIFIED}


# Classifiers that cut autograd off, or write into their input.


def by_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().numpy()[:, 0].copy()) - 0.5


class DetachedInside(nn.Module):
    """Parameters want gradients, so the output has a graph, from which the input is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()[:, 0] - 0.5 + self.bias


CUT_OFF: Sequence[Margin] = [
    torch.no_grad()(lambda x: x[:, 0] - 0.5),
    torch.inference_mode()(lambda x: x[:, 0] - 0.5),
    lambda x: (x[:, 0] - 0.5).detach(),
    by_numpy,
    DetachedInside(),
    lambda x: x.new_full((len(x),), -1.0),
]


@pytest.mark.parametrize(
    "classifier", CUT_OFF, ids=["no_grad", "inference", "detach", "numpy", "inside", "constant"]
)
@ANY_ATTACK
def test_a_classifier_that_cuts_autograd_off_is_told_so(attack: Attack, classifier: Margin) -> None:
    x = torch.tensor([[-1.0, 0.1], [0.8, -1.0]])
    y = torch.tensor([0, int(classifier(x)[1] > 0)])
    with pytest.warns(AttackWarning, match=r"of 2 points.*does not depend on its input"):
        result = attack(classifier, x, y)
    assert not result.success.any()
    assert list(result.summary().reasons.values()) == [2]
    assert "for autograd" in result.messages()[0]


def test_distances_pass_the_reason_on() -> None:
    zero, one = (
        LowRankGaussian(torch.tensor([mean, 0.0]), torch.zeros(2, 0), 1.0) for mean in (-2.0, 2.0)
    )
    with pytest.warns(AttackWarning, match="does not depend on its input"):
        distances(lambda x: x[:, 0].detach(), MixtureProblem(zero, one), n_points=3)


@ANY_ATTACK
def test_a_forward_that_works_in_place_changes_no_result(
    attack: Attack, generator: torch.Generator
) -> None:
    x = torch.nn.functional.normalize(torch.randn(10, 4, generator=generator), dim=1)
    x[:, 0] = -x[:, 0].abs()
    before = x.clone()

    def in_place(points: Tensor) -> Tensor:
        points -= 0.3
        return points.mul_(2)[:, 0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = attack(in_place, x, zeros(x))
    assert torch.equal(x, before)
    plain = attack(lambda points: (points - 0.3)[:, 0] * 2, x, zeros(x))
    assert torch.equal(result.distance, plain.distance)


def test_distances_that_are_tiny_are_not_zero() -> None:
    x = torch.zeros(1, 3)
    result = NearestError()(lambda points: points[:, 0], x, zeros(x))
    assert 0 < result.distance.item() < 1e-15
    assert math.isfinite(result.distance.item())


@pytest.mark.parametrize(
    ("values", "median"), [([1, 2, 3, 10], 2.5), ([1, 2, math.inf, math.inf], math.inf)]
)
def test_every_median_of_the_same_distances_is_the_same(values: list[float], median: float) -> None:
    distance = torch.tensor(values, dtype=torch.float64)
    n = len(distance)
    nothing, codes = torch.zeros(n, 1), torch.zeros(n, dtype=torch.int64)
    result = AttackResult(
        nothing, distance, codes, distance, codes, codes, nothing, distance, distance, codes, codes
    )
    upper = distance.numpy()
    measured = Distances(0, np.zeros(n), upper, np.zeros(n, dtype=np.bool_))
    assert result.summary().median == measured.median == median_of_points(upper)[0] == median
