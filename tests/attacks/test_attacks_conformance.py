"""Our attacks do what every attack must; a new one joins by one line in ``ATTACKS``."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trueboundary.attacks import (
    DDN,
    FMN,
    PGD,
    Attack,
    AttackStatus,
    Box,
    CarliniWagnerL2,
    DeepFool,
    Domain,
    HopSkipJump,
    LogDensityGradient,
    ManifoldAttack,
    NearestError,
    Shell,
    Space,
    Sphere,
)
from trueboundary.testing import check_attack

Margin = Callable[[Tensor], Tensor]

# name: (attack, domain it searches)
ATTACKS: dict[str, tuple[Attack, Domain]] = {
    "manifold": (ManifoldAttack(n_steps=75, step_size=0.02), Sphere()),
    "manifold-worst": (ManifoldAttack("worst_case", n_steps=80), Sphere()),
    "manifold-shell": (ManifoldAttack(n_steps=75, step_size=0.02), Shell(1.0, 1.3)),
    "carlini-wagner": (CarliniWagnerL2(n_steps=50, n_binary_search=2), Space()),
    "carlini-wagner-box": (CarliniWagnerL2(n_steps=50, n_binary_search=2), Box(-2.0, 2.0)),
    "nearest-error": (NearestError(), Space()),
    "nearest-error-box": (NearestError(n_restarts=2), Box(-2.0, 2.0)),
    "nearest-error-sphere": (NearestError(n_restarts=2, n_hops=2), Sphere()),
    "nearest-error-shell": (NearestError(n_hops=2), Shell(1.0, 1.3)),
    "log-density": (LogDensityGradient(), Box(-2.0, 2.0)),
    "log-density-fixed-step": (LogDensityGradient("fixed-step"), Space()),
    "ddn": (DDN(n_steps=50), Space()),
    "ddn-sphere": (DDN(n_steps=50), Sphere()),
    "fmn": (FMN(n_steps=50), Box(-2.0, 2.0)),
    "fmn-shell": (FMN(n_steps=50), Shell(1.0, 1.3)),
    "deepfool": (DeepFool(), Space()),
    "deepfool-sphere": (DeepFool(), Sphere()),
    "pgd": (PGD(1.5, n_restarts=3), Box(-2.0, 2.0)),
    "pgd-sphere": (PGD(1.9, to_boundary=False), Sphere()),
    "labels-only": (HopSkipJump(n_steps=3, n_probes=10), Space()),
    "labels-only-sphere": (HopSkipJump(n_steps=3, n_probes=10), Sphere()),
}


@pytest.fixture(params=ATTACKS.values(), ids=ATTACKS.keys())
def case(request: pytest.FixtureRequest) -> tuple[Attack, Domain]:
    return request.param  # type: ignore[no-any-return]


def test_it_does_what_every_attack_must(case: tuple[Attack, Domain]) -> None:
    attack, domain = case
    check_attack(attack, domain=domain)


@pytest.mark.parametrize(
    ("name", "n_classes"),
    [
        ("carlini-wagner", 3),
        ("manifold", 3),
        ("nearest-error", 3),
        ("log-density", 3),
        ("log-density", 10),
    ],
)
def test_it_does_so_for_more_classes(name: str, n_classes: int) -> None:
    attack, domain = ATTACKS[name]
    check_attack(attack, domain=domain, n_classes=n_classes)


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [3, 10])
def test_it_does_so_in_every_domain(case: tuple[Attack, Domain], n_classes: int) -> None:
    attack, domain = case
    check_attack(attack, domain=domain, n_classes=n_classes)


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
def test_failures_have_the_right_reason(
    case: tuple[Attack, Domain],
    margin: Margin,
    expected: set[AttackStatus],
    generator: torch.Generator,
) -> None:
    attack, domain = case
    if isinstance(attack, HopSkipJump):  # labels say no more, but that a point has none
        expected = {AttackStatus.BUDGET_SPENT, AttackStatus.NON_FINITE}
    x = torch.nn.functional.normalize(torch.randn(4, 6, generator=generator).double(), dim=1)
    result = attack(margin, x, torch.zeros(4, dtype=torch.int64), domain=domain)
    assert {AttackStatus.from_code(code) for code in result.status.tolist()} <= expected
    assert result.summary().n_failed == 4
