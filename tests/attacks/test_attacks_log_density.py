"""The log-density gradient attack on Gaussians, mixtures and classifiers of other kinds."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trueboundary.attacks import (
    AttackStatus,
    Box,
    CarliniWagnerL2,
    ComponentClassifier,
    LogDensityGradient,
    in_chunks,
)
from trueboundary.certificates import bracket, nearest_ellipsoid_error
from trueboundary.certificates.quadric import project_quadric
from trueboundary.classifiers import BayesOptimal, BinaryClassifier
from trueboundary.densities import LowRankGaussian, MixtureOfFactorAnalyzers

COMPUTED = LogDensityGradient()
FIXED = LogDensityGradient("fixed-step", n_steps=1000)
BOTH = pytest.mark.parametrize("attack", [COMPUTED, FIXED], ids=["computed", "fixed"])


def zeros(x: Tensor) -> Tensor:
    return torch.zeros(len(x), dtype=torch.int64)


class MixtureRatio(BinaryClassifier):
    """Log density of class 1 minus that of class 0."""

    def __init__(self, *classes: MixtureOfFactorAnalyzers) -> None:
        super().__init__()
        self.classes = classes

    def margin(self, x: Tensor) -> Tensor:
        return self.classes[1].log_prob(x) - self.classes[0].log_prob(x)


class HardestComponents(MixtureRatio):
    """The same classifier, which also tells the gap between its most likely components."""

    def component_gap(self, x: Tensor, y: Tensor) -> Tensor:
        hardest = [density.log_prob(x, hardest_component=True) for density in self.classes]
        return torch.where(y == 0, hardest[0] - hardest[1], hardest[1] - hardest[0])


def two_classes(
    noise_std: float, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> tuple[MixtureOfFactorAnalyzers, MixtureOfFactorAnalyzers]:
    """Two mixtures of three components with two factors in 30 dimensions."""

    def mixture() -> MixtureOfFactorAnalyzers:
        return MixtureOfFactorAnalyzers(
            torch.tensor([0.2, 0.3, 0.5], dtype=dtype),
            torch.rand(3, 30, generator=generator, dtype=dtype),
            0.2 * torch.randn(3, 30, 2, generator=generator, dtype=dtype),
            noise_std**2,
        )

    return mixture(), mixture()


def test_equal_spherical_gaussians_take_one_exact_step(generator: torch.Generator) -> None:
    means = torch.rand(2, 50, generator=generator, dtype=torch.float64)
    x = means[0] + 0.001 * torch.randn(6, 50, generator=generator, dtype=torch.float64)

    def log_ratio(points: Tensor) -> Tensor:
        squares = (points[:, None] - means).square().sum(2)
        return (squares[:, 0] - squares[:, 1]) / (2 * 0.001**2)

    between = means[1] - means[0]
    exact = ((means.mean(0) - x) @ between) / between.norm()
    result = COMPUTED(log_ratio, x, zeros(x))
    torch.testing.assert_close(result.distance, exact, rtol=1e-9, atol=0)
    assert result.n_backward.tolist() == [2] * 6, "a step, and a look at the slant"
    assert result.n_forward.max() <= 13
    assert (log_ratio(x) < -1e6).all()


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    # Curvatures of both signs: convex, concave, and concave short of zero.
    tenths=st.lists(st.integers(-20, 20), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_a_quadratic_gap_is_closed_along_the_gradient_exactly(tenths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    half_hessian = torch.tensor(tenths, dtype=torch.float64) / 10
    slope = torch.randn(3, generator=generator, dtype=torch.float64)
    x = torch.zeros(1, 3, dtype=torch.float64)

    def quadric(points: Tensor) -> Tensor:
        return -1 + points @ slope + points**2 @ half_hessian

    direction = slope / slope.norm()
    a, b = (half_hessian * direction**2).sum().item(), slope.norm().item()
    one_step = LogDensityGradient(n_steps=1)(quadric, x, zeros(x))
    if b**2 + 4 * a < 0:
        # No root along the gradient: the step leads a thousandth past the top of the parabola.
        top = torch.linalg.vector_norm(one_step.endpoint).item()
        assert top == pytest.approx(-b / (2 * a) * 1.001, rel=1e-6)
    elif b**2 + 4 * a > 1e-3:
        root = 2 / (b + math.sqrt(b**2 + 4 * a))
        assert one_step.distance.item() == pytest.approx(root, rel=1e-9)
        nearest = project_quadric(
            -2 * half_hessian.numpy(), -slope.numpy()[None], [1.0]
        ).distance.item()
        assert one_step.distance.item() >= nearest * (1 - 1e-9)


def test_a_sphere_is_crossed_radially(generator: torch.Generator) -> None:
    x = torch.randn(5, 20, generator=generator, dtype=torch.float64)
    x = torch.nn.functional.normalize(x, dim=1)
    result = COMPUTED(lambda points: points.square().sum(1) - 1.3**2, x, zeros(x))
    torch.testing.assert_close(result.distance, torch.full_like(x[:, 0], 0.3), rtol=1e-9, atol=0)
    assert result.n_backward.tolist() == [2] * 5


@BOTH
@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("noise_std", [0.001, 0.05])
def test_agrees_with_carlini_wagner_on_mixtures(
    attack: LogDensityGradient, hardest: bool, noise_std: float, generator: torch.Generator
) -> None:
    classes = two_classes(noise_std, generator)
    classifier = (HardestComponents if hardest else MixtureRatio)(*classes)
    x = torch.cat([density.sample((5,), generator=generator) for density in classes])
    y = torch.arange(10) // 5
    result = attack(classifier, x, y)
    reference = CarliniWagnerL2(n_steps=150)(classifier, x, y)
    assert result.success.all()
    assert reference.success.all()
    ratio = result.distance / reference.distance
    assert ratio.max() < 1.1
    assert ratio.min() > 0.99
    assert result.distance.mean() == pytest.approx(reference.distance.mean().item(), rel=0.05)


@BOTH
def test_margins_of_ten_million_in_single_precision(
    attack: LogDensityGradient, generator: torch.Generator
) -> None:
    classes = two_classes(0.0003, generator, torch.float32)
    classifier = HardestComponents(*classes)
    x = classes[0].sample((5,), generator=generator)
    assert (classifier.margin(x) < -1e6).all()
    result = attack(classifier, x, zeros(x))
    assert result.success.all()
    assert (classifier.margin(result.x_adv) >= 0).all()


def test_the_gap_of_components_is_followed_and_the_margin_has_the_last_word() -> None:
    class Disagreeing:
        """A gap that closes before the margin does, and in another direction."""

        def __init__(self) -> None:
            self.seen: list[Tensor] = []

        def __call__(self, x: Tensor) -> Tensor:
            return x[:, 0] - 1

        def component_gap(self, x: Tensor, y: Tensor) -> Tensor:
            self.seen.append(y)
            return 0.5 - x[:, 0] - x[:, 1]

    classifier = Disagreeing()
    assert isinstance(classifier, ComponentClassifier)
    assert not isinstance(lambda points: points, ComponentClassifier)
    x = torch.zeros(2, 2, dtype=torch.float64)
    result = COMPUTED(classifier, x, zeros(x))
    assert all(torch.equal(labels, torch.zeros_like(labels)) for labels in classifier.seen)
    # A first step of 0.25 in both entries closes the gap, a second of 0.75 crosses the margin.
    torch.testing.assert_close(
        result.x_adv[:, 1] / result.x_adv[:, 0], torch.full((2,), 0.25).to(x), rtol=1e-2, atol=0
    )
    assert (result.distance >= 1).all()


@BOTH
def test_evaluations_are_counted(attack: LogDensityGradient, generator: torch.Generator) -> None:
    calls = {"margin": 0, "gap": 0}
    classes = two_classes(0.05, generator)

    class Counting(HardestComponents):
        def margin(self, x: Tensor) -> Tensor:
            calls["margin"] += 1
            return super().margin(x)

        def component_gap(self, x: Tensor, y: Tensor) -> Tensor:
            calls["gap"] += 1
            return super().component_gap(x, y)

    x = classes[0].sample((1,), generator=generator)
    result = attack(Counting(*classes), x, zeros(x))
    assert result.n_forward.item() == sum(calls.values())


def test_computed_steps_need_about_three_on_curved_margins(generator: torch.Generator) -> None:
    weights = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    x = torch.randn(8, 40, generator=generator, dtype=torch.float64) / 10

    def curved(points: Tensor) -> Tensor:
        return torch.tanh(points @ weights[0] / 4) + torch.tanh(points @ weights[1] / 4) - 1

    result = COMPUTED(curved, x, zeros(x))
    assert result.success.all()
    assert result.n_backward.max() <= 4


def test_a_saturated_margin_does_not_send_it_to_infinity() -> None:
    # At x the slope is 3e-7 and a first-order step 3e6 long, to where the bump is flat again.
    x = torch.tensor([[4.0]], dtype=torch.float64)
    result = COMPUTED(lambda points: torch.exp(-(points[:, 0] ** 2)) - 0.5, x, zeros(x))
    assert result.distance.item() == pytest.approx(4 - math.sqrt(math.log(2)), rel=1e-9)


def test_fixed_steps_have_their_length() -> None:
    x = torch.zeros(1, 2, dtype=torch.float64)
    short = LogDensityGradient("fixed-step", n_steps=9, step_size=0.1)
    result = short(lambda points: points[:, 0] - 1.01, x, zeros(x))
    assert result.messages() == [AttackStatus.BUDGET_SPENT.value]
    torch.testing.assert_close(result.endpoint, torch.tensor([[0.9, 0.0]]).double())
    enough = LogDensityGradient("fixed-step", n_steps=11, step_size=0.1)
    assert enough(lambda points: points[:, 0] - 1.01, x, zeros(x)).success.all()


@BOTH
def test_starts_without_gradient_are_kicked_once(attack: LogDensityGradient) -> None:
    x = torch.zeros(1, 4, dtype=torch.float64)
    result = attack(lambda points: points.square().sum(1) - 1, x, zeros(x))
    assert result.distance.item() == pytest.approx(1, rel=1e-9)
    flat = attack(lambda points: points.sum(1) * 0 - 1, x, zeros(x))
    assert flat.messages() == [AttackStatus.GRADIENT_VANISHED.value]
    assert flat.n_backward.item() == 2


def test_bounds_of_a_box_hold() -> None:
    x = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    box = Box(0.0, 1.0)
    result = COMPUTED(lambda points: 3 * points[:, 0] + points[:, 1] - 3.8, x, zeros(x), domain=box)
    torch.testing.assert_close(result.x_adv, torch.tensor([[1.0, 0.8]]).double(), rtol=1e-2, atol=0)
    assert result.x_adv.max() <= 1
    never = COMPUTED(lambda points: points[:, 0] - 2, x, zeros(x), domain=box)
    assert never.messages() == [AttackStatus.CONVERGED.value]


@pytest.mark.parametrize("settings_", [{"rule": "newton"}, {"n_steps": 0}, {"step_size": math.inf}])
def test_impossible_settings_are_refused(settings_: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"expected {next(iter(settings_))}"):
        LogDensityGradient(**settings_)  # type: ignore[arg-type]


def needle(dim: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return an ellipsoid with one short axis, points inside, and how far its surface is."""
    alphas = torch.full((dim,), 0.8, dtype=torch.float64)
    alphas[0] = 30.0
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    x = x[(x**2 @ alphas) < 0.95]
    exact = nearest_ellipsoid_error(x.numpy(), alphas.numpy(), on_sphere=False)
    return alphas, x, torch.from_numpy(exact)


def test_it_says_where_to_distrust_it(generator: torch.Generator) -> None:
    alphas, x, exact = needle(784, 60, generator)
    result = COMPUTED(lambda points: points**2 @ alphas - 1, x, zeros(x))
    assert (result.distance / exact).max() > 1.3
    assert len(result.warnings) == 1
    assert "slant" in result.warnings[0]
    # One point at a time: those that it speaks of are too far, and the others hardly.
    ratio = result.distance / exact
    spoken = torch.tensor(
        [bool(COMPUTED(lambda p: p**2 @ alphas - 1, one[None], zeros(one[None])).warnings)
         for one in x]
    )  # fmt: skip
    assert spoken.any()
    assert ratio[spoken].min() > 1.04
    assert ratio[~spoken].median() < 1.05
    chunks = in_chunks(COMPUTED, lambda points: points**2 @ alphas - 1, x, zeros(x), chunk_size=7)
    assert chunks.warnings == result.warnings


@pytest.mark.parametrize("n_factors", [0, 3])
def test_it_is_silent_on_optimal_gaussians_of_one_covariance(
    n_factors: int, generator: torch.Generator
) -> None:
    loadings = 0.3 * torch.randn(50, n_factors, generator=generator, dtype=torch.float64)
    means = torch.rand(2, 50, generator=generator, dtype=torch.float64)
    densities = [LowRankGaussian(mean, loadings, 0.01) for mean in means]
    classifier = BayesOptimal(*densities)
    x = torch.cat([density.sample((20,), generator=generator) for density in densities])
    y = torch.arange(40) // 20
    result = COMPUTED(classifier, x, y)
    torch.testing.assert_close(
        result.distance, bracket(classifier, x, y).upper, rtol=1e-6, atol=1e-9
    )
    assert result.warnings == ()


def test_no_further_gradient_is_taken_where_no_doubt_is_wanted(generator: torch.Generator) -> None:
    alphas, x, _ = needle(50, 20, generator)

    def margin(points: Tensor) -> Tensor:
        return points**2 @ alphas - 1

    with_doubts, without = COMPUTED(margin, x, zeros(x)), replace(COMPUTED, doubts=False)
    found = without(margin, x, zeros(x))
    assert found.warnings == ()
    assert torch.equal(found.distance, with_doubts.distance)
    assert torch.equal(found.n_backward + 1, with_doubts.n_backward)


def test_each_target_keeps_the_doubts_of_all(generator: torch.Generator) -> None:
    alphas, x, _ = needle(784, 30, generator)

    def logits(points: Tensor) -> Tensor:
        value = points**2 @ alphas - 1
        return torch.stack([0 * value, value, value - 100], dim=1)

    assert (
        COMPUTED(logits, x, zeros(x), target="each").warnings
        == COMPUTED(logits, x, zeros(x)).warnings
    )
