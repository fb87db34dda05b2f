"""The Carlini-Wagner attack against distances known in closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from trueboundary.attacks import (
    AttackStatus,
    Box,
    CarliniWagnerL2,
    Shell,
    Sphere,
)
from trueboundary.certificates import nearest_ellipsoid_error
from trueboundary.certificates.quadric import project_quadric

DEFAULT = CarliniWagnerL2()
PAPER = CarliniWagnerL2.paper()
STRONG = CarliniWagnerL2.strong()
PATIENT = CarliniWagnerL2(n_steps=1000, n_binary_search=5)
QUICK = CarliniWagnerL2(n_steps=100)
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}


def zeros(x: Tensor) -> Tensor:
    return torch.zeros(len(x), dtype=torch.int64)


def assert_tight(ratio: Tensor, largest: float, dtype: torch.dtype = torch.float64) -> None:
    assert ratio.isfinite().all()
    assert ratio.min() >= 1 - ROUNDING[dtype]
    assert ratio.max() <= largest


def linear(dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("event", "distance"), [((5,), 2.0), ((1, 14, 14), 0.05), ((3, 8, 8), 4.0)]
)
def test_linear_classifiers_are_exact(
    event: tuple[int, ...], distance: float, dtype: torch.dtype, generator: torch.Generator
) -> None:
    weights = linear(math.prod(event), generator).to(dtype)
    y = torch.arange(4) % 2
    x = torch.randn(4, *event, generator=generator, dtype=dtype)
    foot = x.flatten(1) - (x.flatten(1) @ weights)[:, None] * weights / weights.square().sum()
    offset = distance * (2 * y - 1)[:, None] * weights / weights.norm()
    x = (foot + offset).reshape(x.shape)
    exact = (x.flatten(1) @ weights).abs() / weights.norm()
    result = DEFAULT(lambda points: points.flatten(1) @ weights, x, y)
    assert_tight(result.distance / exact, 1.01, dtype)


@pytest.mark.parametrize(("radius", "label"), [(1.0, 0), (1.3, 1)])
def test_max_margin_sphere_is_half_way(
    radius: float, label: int, generator: torch.Generator
) -> None:
    x = torch.randn(10, 20, generator=generator, dtype=torch.float64)
    x = radius * torch.nn.functional.normalize(x, dim=1)
    result = DEFAULT(lambda points: points.norm(dim=1) - 1.15, x, torch.full((10,), label))
    assert_tight(result.distance / 0.15, 1.001)


def test_errors_of_ellipsoids(generator: torch.Generator) -> None:
    alphas = torch.linspace(0.2, 1.5, 50, dtype=torch.float64)
    x = torch.randn(10, 50, generator=generator, dtype=torch.float64)
    x = torch.nn.functional.normalize(x, dim=1)
    exact = nearest_ellipsoid_error(x.numpy(), alphas.numpy(), on_sphere=False)
    result = DEFAULT(lambda points: (alphas * points**2).sum(1) - 1, x, zeros(x))
    assert_tight(result.distance / torch.from_numpy(exact), 1.001)


@pytest.mark.parametrize("noise_std", [0.001, 0.01, 0.05])
def test_quadric_between_two_anisotropic_gaussians(
    noise_std: float, generator: torch.Generator
) -> None:
    dim = 64
    mean = torch.rand(dim, generator=generator, dtype=torch.float64)
    inverse = 0.5 + 3 * torch.rand(2, dim, generator=generator, dtype=torch.float64)
    inverse /= noise_std**2
    x = torch.randn(6, dim, generator=generator, dtype=torch.float64) / inverse[0].sqrt()

    def log_ratio(points: Tensor) -> Tensor:
        to_zero, to_mean = inverse[0] * points**2, inverse[1] * (points - mean) ** 2
        return (to_zero - to_mean).sum(1) / 2

    assert (log_ratio(x) < -1e3).all()
    gradient = inverse[0] * x - inverse[1] * (x - mean)
    curvature = inverse[1] - inverse[0]
    exact = project_quadric(curvature.numpy(), -gradient.numpy(), -log_ratio(x).numpy()).distance
    result = DEFAULT(log_ratio, x, zeros(x))
    assert_tight(result.distance / torch.from_numpy(exact), 1.005)


@pytest.mark.parametrize("attack", [DEFAULT, PAPER], ids=["default", "paper"])
def test_isotropic_gaussians_with_margins_of_ten_million(
    attack: CarliniWagnerL2, generator: torch.Generator
) -> None:
    mean = torch.ones(30)
    x = 0.001 * torch.randn(5, 30, generator=generator)

    def log_ratio(points: Tensor) -> Tensor:
        return (points @ mean - mean.square().sum() / 2) / 0.001**2

    assert (log_ratio(x) < -1e7).all()
    exact = (x @ mean - 15).abs() / mean.norm()
    result = attack(log_ratio, x, zeros(x))
    assert_tight(result.distance / exact, 1.01, torch.float32)


def test_unequal_gaussians_have_a_sphere_for_a_boundary(generator: torch.Generator) -> None:
    # Equal means, noise of 0.01 and 0.5: the broad class owns everything outside a ball.
    dim, narrow, broad = 100, 0.01, 0.5
    x = narrow * torch.randn(5, dim, generator=generator, dtype=torch.float64)

    def log_ratio(points: Tensor) -> Tensor:
        square = points.square().sum(1)
        return square * (1 / narrow**2 - 1 / broad**2) / 2 - dim * math.log(broad / narrow)

    ball = math.sqrt(2 * dim * math.log(broad / narrow) / (1 / narrow**2 - 1 / broad**2))
    result = DEFAULT(log_ratio, x, zeros(x))
    assert_tight(result.distance / (ball - x.norm(dim=1)), 1.001)


def test_the_paper_setting_is_looser_and_censors_far_errors(generator: torch.Generator) -> None:
    weights = torch.nn.functional.normalize(linear(20, generator), dim=0)
    x = torch.stack([-0.2 * weights, -0.8 * weights])  # constants of 0.4 and 1.6 are needed

    def plane(points: Tensor) -> Tensor:
        return points @ weights

    published = PAPER(plane, x, zeros(x))
    assert published.distance[0] == pytest.approx(0.2, rel=0.02)
    assert published.messages()[1] == AttackStatus.BUDGET_SPENT.value
    torch.testing.assert_close(DEFAULT(plane, x, zeros(x)).distance, plane(x).abs())
    # The constant grows with the logits, as published; in units of distance it does not.
    assert PAPER(lambda points: 10 * plane(points), x, zeros(x)).success.all()
    in_distance = CarliniWagnerL2.paper(scale="distance")
    scaled = in_distance(lambda points: 10 * plane(points), x, zeros(x))
    assert scaled.success.tolist() == [True, False]


def test_raw_and_distance_differ_by_the_norm_of_the_gradient() -> None:
    x = torch.zeros(1, 4, dtype=torch.float64)

    def plane(points: Tensor) -> Tensor:
        return 8 * points[:, 0] - 1 - points[:, 1] ** 2

    raw = replace(QUICK, initial_const=0.5, scale="raw")(plane, x, zeros(x))
    distance = replace(QUICK, initial_const=4.0, scale="distance")(plane, x, zeros(x))
    torch.testing.assert_close(raw.x_adv, distance.x_adv, rtol=0, atol=0)


def nearest_in_box(x: Tensor, weights: Tensor, threshold: float) -> Tensor:
    """Distances from x in [0, 1]^d to the points of the box with ``weights @ y >= threshold``.

    Each entry moves along its weight until its bound: y = clip(x + m * weights) for the least
    multiplier m that reaches the threshold, which bisection finds.
    """
    low, high = torch.zeros(len(x), 1).to(x), torch.full((len(x), 1), 1e4).to(x)
    for _ in range(100):
        middle = (low + high) / 2
        reached = (x + middle * weights).clamp(0, 1) @ weights >= threshold
        low = torch.where(reached[:, None], low, middle)
        high = torch.where(reached[:, None], middle, high)
    return ((x + high * weights).clamp(0, 1) - x).norm(dim=1)


@pytest.mark.parametrize(
    ("on_bound", "reach", "attack", "dtype"),
    [
        (0.0, 0.2, DEFAULT, torch.float32),
        (0.8, 0.2, DEFAULT, torch.float64),
        (0.8, 0.7, PATIENT, torch.float32),
    ],
)
def test_optimum_on_the_bounds_of_a_box(
    on_bound: float,
    reach: float,
    attack: CarliniWagnerL2,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    weights = linear(60, generator).to(dtype)
    x = torch.rand(3, 60, generator=generator, dtype=dtype)
    x = torch.where(torch.rand(3, 60, generator=generator) < on_bound, x.round(), x)
    highest, best = (x @ weights).max().item(), weights.clamp(min=0).sum().item()
    threshold = (1 - reach) * highest + reach * best
    exact = nearest_in_box(x, weights, threshold)
    assert (exact > (threshold - x @ weights) / weights.norm() * 1.001).all()  # bounds matter
    box = Box(0.0, 1.0)
    result = attack(lambda points: points @ weights - threshold, x, zeros(x), domain=box)
    assert ((result.x_adv >= 0) & (result.x_adv <= 1)).all()
    assert_tight(result.distance / exact, 1.01, dtype)


def test_the_published_change_of_variables_freezes_bounds(generator: torch.Generator) -> None:
    weights = torch.ones(10, dtype=torch.float64)
    x = torch.zeros(1, 10, dtype=torch.float64)
    box = Box(0.0, 1.0)

    def plane(points: Tensor) -> Tensor:
        return points @ weights - 3

    frozen = CarliniWagnerL2(
        n_steps=250, learning_rate=0.01, schedule="constant", box_variable="tanh"
    )(plane, x, zeros(x), domain=box)
    assert frozen.messages() == [AttackStatus.BUDGET_SPENT.value]
    sine = DEFAULT(plane, x, zeros(x), domain=box)
    assert sine.distance.item() == pytest.approx(3 / math.sqrt(10), rel=1e-3)
    inner = replace(DEFAULT, box_variable="tanh")(plane, x + 0.2, zeros(x), domain=box)
    assert inner.distance.item() == pytest.approx(1 / math.sqrt(10), rel=1e-3)


def test_bounds_may_differ_by_entry_and_coincide() -> None:
    low = torch.tensor([0.0, -5.0, 2.0], dtype=torch.float64)
    high = torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64)
    x = torch.tensor([[0.5, 0.0, 2.0]], dtype=torch.float64)
    result = DEFAULT(lambda points: points.sum(1) - 3.1, x, zeros(x), domain=Box(low, high))
    assert result.x_adv[0, 2] == 2
    assert result.distance.item() == pytest.approx(0.6 / math.sqrt(2), rel=1e-3)


def test_far_from_the_support_vectors_of_an_rbf_machine() -> None:
    x = torch.tensor([[0.0, 3.6], [2.4, -2.4]], dtype=torch.float64)

    def machine(points: Tensor) -> Tensor:
        """One centre, whose bump falls below the intercept at a radius of 3.717."""
        return 1e-12 - torch.exp(-2 * points.square().sum(1))

    assert (machine(x).abs() < 1e-10).all()
    radius = math.sqrt(math.log(1e12) / 2)
    assert_tight(DEFAULT(machine, x, zeros(x)).distance / (radius - x.norm(dim=1)), 1.001)
    assert not PAPER(machine, x, zeros(x)).success.any()  # constants of at most 1 on logits


def test_a_class_that_cannot_be_reached_fails_everywhere(generator: torch.Generator) -> None:
    x = torch.randn(3, 4, generator=generator)
    never = QUICK(lambda points: -1 - points.square().sum(1), x, zeros(x))
    assert never.distance.tolist() == [math.inf] * 3
    assert set(never.messages()) == {AttackStatus.BUDGET_SPENT.value}
    outside = QUICK(lambda points: points.sum(1) - 9, x.clamp(0, 1), zeros(x), domain=Box(0.0, 1.0))
    assert outside.distance.tolist() == [math.inf] * 3


def test_neighbours_in_the_batch_change_nothing(generator: torch.Generator) -> None:
    # An easy, a hard, an unreachable and a misclassified sample beside one another.
    x = torch.tensor([[0.9, 0.0], [0.0, 0.0], [0.0, 9.0], [2.0, 0.0]], dtype=torch.float64)

    def margin(points: Tensor) -> Tensor:
        return points[:, 0] - 1 - 0.5 * points[:, 1] ** 2

    for attack in (QUICK, replace(PAPER, n_steps=100)):
        together = attack(margin, x, zeros(x))
        alone = [attack(margin, x[i : i + 1], zeros(x[:1])) for i in range(4)]
        assert torch.equal(together.distance, torch.cat([one.distance for one in alone]))
        assert torch.equal(together.n_backward, torch.cat([one.n_backward for one in alone]))


def test_a_start_without_gradient_is_kicked() -> None:
    x = torch.zeros(1, 6, dtype=torch.float64)
    result = DEFAULT(lambda points: points.square().sum(1) - 1, x, zeros(x))
    assert result.distance.item() == pytest.approx(1, rel=1e-6)


def test_an_early_end_saves_steps(generator: torch.Generator) -> None:
    weights = linear(20, generator)
    x = -weights[None] / weights.norm()
    impatient = replace(DEFAULT, abort_early=True)(lambda points: points @ weights, x, zeros(x))
    patient = DEFAULT(lambda points: points @ weights, x, zeros(x))
    assert impatient.n_backward.item() < patient.n_backward.item()
    assert patient.n_backward.item() == 1 + 3 * 501
    assert impatient.distance.item() == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("domain", [None, Box(-4.0, 4.0)], ids=["space", "box"])
def test_every_descent_starts_at_the_sample(domain: Box | None) -> None:
    x = torch.zeros(1, 3, dtype=torch.float64)
    attack = CarliniWagnerL2(n_steps=1, n_binary_search=5, learning_rate=0.01, schedule="constant")
    result = attack(lambda points: points.sum(1) - 9, x, zeros(x), domain=domain)
    step = 0.01 if domain is None else 4 * math.sin(0.01)
    torch.testing.assert_close(result.endpoint, torch.full_like(x, step), rtol=1e-5, atol=0)


def test_a_falling_rate_too_small_for_the_distance_is_mended(generator: torch.Generator) -> None:
    x = torch.randn(8, 5, generator=generator, dtype=torch.float64)

    def plane(points: Tensor) -> Tensor:
        return points[:, 0] - 5

    short = CarliniWagnerL2(n_steps=100, learning_rate=0.01)  # an entry moves by half a unit
    result = short(plane, x, zeros(x))
    assert_tight(result.distance / (5 - x[:, 0]), 1.01)
    constant = replace(short, schedule="constant")  # as published: by a whole unit at most
    assert not constant(plane, x, zeros(x)).success.any()


def test_steps_follow_the_nearest_error_known() -> None:
    # The first-order distance is a hundred times too long at first, or fifty times too short.
    x = torch.zeros(1, 5, dtype=torch.float64)

    def late(points: Tensor) -> Tensor:
        return torch.expm1(7 * (points[:, 0] - 1))

    def early(points: Tensor) -> Tensor:
        return torch.sinh(7 * points[:, 0]) / math.sinh(7) - 1

    def slowing(points: Tensor) -> Tensor:
        return (points[:, 0] + 1e-4).sqrt() - math.sqrt(1 + 1e-4)

    for rising in (late, early):
        assert_tight(DEFAULT(rising, x, zeros(x)).distance, 1.01)
    more = replace(DEFAULT, n_binary_search=6)  # the constant grows by ten at a time
    assert_tight(more(slowing, x, zeros(x)).distance, 1.01)


def test_more_descents_never_hurt(generator: torch.Generator) -> None:
    alphas = torch.linspace(0.2, 1.5, 20, dtype=torch.float64)
    x = torch.nn.functional.normalize(torch.randn(5, 20, generator=generator).double(), dim=1)
    distances = [
        replace(DEFAULT, n_steps=50, n_binary_search=n)(
            lambda points: (alphas * points**2).sum(1) - 1, x, zeros(x)
        ).distance
        for n in (1, 2, 4)
    ]
    assert (distances[1] <= distances[0]).all()
    assert (distances[2] <= distances[1]).all()


def test_presets_are_what_they_say() -> None:
    assert (PAPER.n_steps, PAPER.n_binary_search, PAPER.learning_rate) == (500, 3, 0.01)
    assert (PAPER.initial_const, PAPER.scale) == (0.01, "raw")
    assert (STRONG.n_steps, STRONG.n_binary_search, STRONG.initial_const) == (1000, 9, None)


def test_a_quadric_of_mixed_curvature(generator: torch.Generator) -> None:
    curvature = torch.tensor([30.0, 1.0, -2.0], dtype=torch.float64)
    x = torch.tensor([[0.05, -0.2, 0.4], [-0.1, 0.3, 0.2]], dtype=torch.float64)

    def quadric(points: Tensor) -> Tensor:
        return (curvature * points**2).sum(1) / 2 - 1

    exact = project_quadric(
        -curvature.numpy(), (-curvature * x).numpy(), -quadric(x).numpy()
    ).distance
    assert np.isfinite(exact).all()
    assert_tight(DEFAULT(quadric, x, zeros(x)).distance / torch.from_numpy(exact), 1.001)


@pytest.mark.parametrize("domain", [Sphere(), Shell(0.5, 2.0), Box(0.0, math.inf)])
def test_other_domains_are_refused(domain: Sphere | Shell | Box) -> None:
    x = torch.tensor([[1.0, 0.0]])
    with pytest.raises(ValueError, match="Space"):
        DEFAULT(lambda points: points[:, 0] - 2, x, zeros(x), domain=domain)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_steps": 0},
        {"n_binary_search": 0},
        {"learning_rate": math.nan},
        {"initial_const": -1.0},
        {"scale": "logits"},
        {"schedule": "cosine"},
        {"box_variable": "clip"},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"expected {next(iter(settings))}"):
        CarliniWagnerL2(**settings)  # type: ignore[arg-type]
