"""What every attack must do; a new attack joins by one line in ``ATTACKS``."""

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from torch import Tensor

from trueboundary.attacks import (
    Attack,
    AttackResult,
    AttackStatus,
    Box,
    CarliniWagnerL2,
    Domain,
    LogDensityGradient,
    ManifoldAttack,
    OffManifoldAttack,
    Shell,
    Space,
    Sphere,
)
from trueboundary.domains import norm

Margin = Callable[[Tensor], Tensor]

# name: (attack, domain it searches)
ATTACKS: dict[str, tuple[Attack, Domain]] = {
    "manifold": (ManifoldAttack(n_steps=150, step_size=0.01), Sphere()),
    "manifold-refined": (ManifoldAttack(refine_steps=50, n_restarts=2), Sphere()),
    "manifold-worst": (ManifoldAttack("worst_case", n_steps=200), Sphere()),
    "off-manifold": (OffManifoldAttack(), Shell(1.0, 1.3)),
    "off-manifold-unrefined": (
        OffManifoldAttack(n_steps=200, step_size=0.01, refine_steps=0),
        Shell(1.0, 1.3),
    ),
    "carlini-wagner": (CarliniWagnerL2(n_steps=100, n_binary_search=2), Space()),
    "carlini-wagner-box": (CarliniWagnerL2(n_steps=100, n_binary_search=2), Box(-2.0, 2.0)),
    "log-density": (LogDensityGradient(), Box(-2.0, 2.0)),
    "log-density-fixed-step": (LogDensityGradient("fixed-step"), Space()),
}
ALPHAS = torch.tensor([0.2, 0.4, 0.6, 0.9, 1.2, 1.5])


@pytest.fixture(params=ATTACKS.values(), ids=ATTACKS.keys())
def case(request: pytest.FixtureRequest) -> tuple[Attack, Domain]:
    return request.param  # type: ignore[no-any-return]


def ellipsoid(x: Tensor) -> Tensor:
    return (ALPHAS.to(x) * x.flatten(1) ** 2).sum(1) - 1


def spheres(n: int, dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points on the spheres of radius 1 (class 0) and 1.3 (class 1)."""
    x = torch.nn.functional.normalize(torch.randn(n, 6, generator=generator, dtype=dtype), dim=1)
    y = torch.arange(n) % 2
    return x * (1 + 0.3 * y.to(dtype))[:, None], y


def assert_honest(result: AttackResult, margin: Margin, x: Tensor, y: Tensor) -> None:
    """Check every promise of a result against the classifier itself."""
    sign = (1 - 2 * y).to(x)
    wrong = (margin(x) > 0).long() != y
    success = result.success
    assert torch.equal(result.distance.isfinite(), success)
    assert ((margin(result.x_adv) > 0).long() != y)[success].all()
    assert (sign * margin(result.x_adv) > 0)[success & ~wrong].all()
    assert torch.equal(result.x_adv[~success], x[~success])
    assert (result.distance[~success] == math.inf).all()
    assert (result.distance[wrong] == 0).all()
    torch.testing.assert_close(norm(result.x_adv - x)[success], result.distance[success])
    torch.testing.assert_close(result.margin, margin(result.x_adv))
    torch.testing.assert_close(result.endpoint_margin, margin(result.endpoint))
    for code, succeeded in zip(result.status.tolist(), success.tolist(), strict=True):
        good = {AttackStatus.FOUND, AttackStatus.MISCLASSIFIED}
        assert (AttackStatus.from_code(code) in good) == succeeded
    assert result.warnings == ()
    for name in (field.name for field in fields(AttackResult) if field.name != "warnings"):
        value = getattr(result, name)
        assert len(value) == len(x)
        assert not value.requires_grad
        assert value.dtype in (x.dtype, torch.int64)
    assert (result.n_forward >= 2).all()
    assert (result.n_backward <= result.n_forward).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 32])
def test_results_are_honest(
    case: tuple[Attack, Domain], dtype: torch.dtype, n: int, generator: torch.Generator
) -> None:
    attack, domain = case
    x, y = spheres(n, dtype, generator)
    before = x.clone()
    result = attack(ellipsoid, x, y, domain=domain)
    assert_honest(result, ellipsoid, x, y)
    assert result.success_rate > 0.9  # this classifier has errors of both classes everywhere
    assert domain.bind(x).contains(result.x_adv).all()
    assert torch.equal(x, before)


def test_batch_size_and_order_change_nothing(
    case: tuple[Attack, Domain], generator: torch.Generator
) -> None:
    attack, domain = case
    x, y = spheres(12, torch.float64, generator)
    whole = attack(ellipsoid, x, y, domain=domain)
    order = torch.randperm(12, generator=generator)
    shuffled = attack(ellipsoid, x[order], y[order], domain=domain)
    torch.testing.assert_close(shuffled.distance, whole.distance[order], rtol=1e-6, atol=1e-12)
    assert torch.equal(shuffled.status, whole.status[order])
    parts = [
        attack(ellipsoid, x[part], y[part], domain=domain).distance
        for part in (slice(0, 1), slice(1, 5), slice(5, 12))
    ]
    torch.testing.assert_close(torch.cat(parts), whole.distance, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1e6, 1e-200])
def test_the_scale_of_the_logits_changes_nothing(
    case: tuple[Attack, Domain], scale: float, generator: torch.Generator
) -> None:
    attack, domain = case
    x, y = spheres(12, torch.float64, generator)
    scaled = attack(lambda points: scale * ellipsoid(points), x, y, domain=domain)
    plain = attack(ellipsoid, x, y, domain=domain)
    torch.testing.assert_close(scaled.distance, plain.distance, rtol=1e-6, atol=1e-12)


def test_the_form_of_the_output_changes_nothing(
    case: tuple[Attack, Domain], generator: torch.Generator
) -> None:
    attack, domain = case
    x, y = spheres(12, torch.float64, generator)
    plain = attack(ellipsoid, x, y, domain=domain).distance

    def shifted_logits(points: Tensor) -> Tensor:
        """Two logits, both far below zero."""
        margin = ellipsoid(points)
        return torch.stack([-margin / 2, margin / 2], dim=1) - 1e3

    for other in (lambda points: ellipsoid(points)[:, None], shifted_logits):
        distance = attack(other, x, y, domain=domain).distance
        torch.testing.assert_close(distance, plain, rtol=1e-6, atol=1e-9)


def test_the_shape_of_the_samples_changes_nothing(
    case: tuple[Attack, Domain], generator: torch.Generator
) -> None:
    attack, domain = case
    x, y = spheres(12, torch.float64, generator)
    flat = attack(ellipsoid, x, y, domain=domain)
    # Restarts hash the bytes of a sample, which a new shape leaves as they are.
    image = attack(ellipsoid, x.reshape(12, 1, 2, 3), y, domain=domain)
    torch.testing.assert_close(image.x_adv.flatten(1), flat.x_adv, rtol=1e-6, atol=1e-9)


def test_margins_of_ten_million_are_no_obstacle(
    case: tuple[Attack, Domain], generator: torch.Generator
) -> None:
    attack, domain = case
    x, y = spheres(12, torch.float32, generator)

    def huge(points: Tensor) -> Tensor:
        return 1e7 * ellipsoid(points)

    result = attack(huge, x, y, domain=domain)
    assert_honest(result, huge, x, y)
    assert result.success_rate > 0.9


def test_misclassified_points_have_distance_zero(
    case: tuple[Attack, Domain], generator: torch.Generator
) -> None:
    attack, domain = case
    x, _ = spheres(8, torch.float64, generator)
    wrong = (ellipsoid(x) < 0).long()
    result = attack(ellipsoid, x, wrong, domain=domain)
    assert (result.distance == 0).all()
    assert torch.equal(result.x_adv, x)
    assert set(result.messages()) == {AttackStatus.MISCLASSIFIED.value}


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        (
            lambda x: x.flatten(1)[:, 0].sin() - 10,
            {AttackStatus.BUDGET_SPENT, AttackStatus.CONVERGED},
        ),
        (lambda x: 0 * x.flatten(1).sum(1) - 1, {AttackStatus.GRADIENT_VANISHED}),
        (lambda x: x.flatten(1).sum(1).round() - 99, {AttackStatus.GRADIENT_VANISHED}),
        (lambda x: x.flatten(1).sum(1) * math.nan, {AttackStatus.NON_FINITE}),
        (lambda x: x.flatten(1).sum(1) * 0 - math.inf, {AttackStatus.NON_FINITE}),
        (lambda x: (x.flatten(1)[:, 0] * 0).sqrt() - 1, {AttackStatus.NON_FINITE}),
    ],
    ids=["unreachable", "zero-gradient", "steps", "nan", "infinite", "nan-gradient"],
)
def test_failures_are_infinite_and_explained(
    case: tuple[Attack, Domain],
    margin: Margin,
    expected: set[AttackStatus],
    generator: torch.Generator,
) -> None:
    attack, domain = case
    x, _ = spheres(4, torch.float64, generator)
    y = torch.zeros(4, dtype=torch.int64)
    result = attack(margin, x, y, domain=domain)
    assert (result.distance == math.inf).all()
    assert torch.equal(result.x_adv, x)
    assert {AttackStatus.from_code(code) for code in result.status.tolist()} <= expected
    assert result.summary().n_failed == 4


def test_one_bad_sample_does_not_spoil_the_others(
    case: tuple[Attack, Domain], generator: torch.Generator
) -> None:
    attack, domain = case
    x, y = spheres(9, torch.float64, generator)

    def partly_nan(points: Tensor) -> Tensor:
        margin = ellipsoid(points)
        return torch.where(points[:, 0] == x[4, 0], math.nan, margin)

    result = attack(partly_nan, x, y, domain=domain)
    assert result.messages()[4] == AttackStatus.NON_FINITE.value
    plain = attack(ellipsoid, x, y, domain=domain)
    others = torch.arange(9) != 4
    torch.testing.assert_close(result.distance[others], plain.distance[others])


def test_random_numbers_come_from_the_generator_alone(
    case: tuple[Attack, Domain], generator: torch.Generator
) -> None:
    attack, domain = case
    x, y = spheres(4, torch.float64, generator)
    results = [
        attack(ellipsoid, x, y, domain=domain, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(results[0].x_adv, results[1].x_adv)
    assert results[2].success.all()


def test_settings_are_frozen(case: tuple[Attack, Domain]) -> None:
    attack, _ = case
    name = fields(attack)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(attack, name, getattr(attack, name))
    assert replace(attack) == attack


def test_two_dimensions_are_enough(case: tuple[Attack, Domain], generator: torch.Generator) -> None:
    attack, domain = case
    x = torch.nn.functional.normalize(torch.randn(10, 2, generator=generator), dim=1)

    def band(points: Tensor) -> Tensor:
        return points[:, 0] ** 2 * 1.5 + points[:, 1] ** 2 * 0.5 - 1

    y = torch.zeros(10, dtype=torch.int64)
    result = attack(band, x, y, domain=domain)
    assert_honest(result, band, x, y)
    assert result.success.all()
