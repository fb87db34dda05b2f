"""Attacks of others do what their papers say, and no more than they say."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trueboundary.attacks import (
    DDN,
    FMN,
    PGD,
    AttackStatus,
    Box,
    DeepFool,
    HopSkipJump,
    Shell,
    Space,
    Sphere,
)
from trueboundary.classifiers import value_and_gradient


def smooth_logits(x: Tensor) -> Tensor:
    """Four classes with curved boundaries."""
    weights = torch.linspace(-1, 1, 4 * x.shape[1], dtype=x.dtype).reshape(4, -1).sin()
    return (3 * x @ weights.T).tanh() + (x @ weights.T.cos())


def test_deepfool_takes_the_steps_of_its_algorithm() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    y = smooth_logits(x).argmax(1)
    endpoints = []
    for point, own in zip(x, y.tolist(), strict=True):
        here = point.clone()
        for _ in range(50):  # Algorithm 2, with the overshoot of the published code
            jacobian = torch.autograd.functional.jacobian(lambda p: smooth_logits(p[None])[0], here)
            value = smooth_logits(here[None])[0]
            if value.argmax() != own:
                break
            others = [j for j in range(4) if j != own]
            normals = {j: (jacobian[j] - jacobian[own]).numpy() for j in others}
            away = {
                j: abs((value[j] - value[own]).item()) / np.linalg.norm(normals[j]) for j in others
            }
            best = min(away, key=lambda j: away[j])
            step = 1.02 * away[best] * normals[best] / np.linalg.norm(normals[best])
            here = here + torch.from_numpy(step)
        endpoints.append(here)
    reached = torch.stack(endpoints)
    result = DeepFool()(smooth_logits, x, y)
    # Ours lies on the way to where the published one ends, where another class may come first.
    way = torch.nn.functional.normalize(reached - x, dim=1)
    torch.testing.assert_close(
        torch.nn.functional.normalize(result.x_adv - x, dim=1), way, rtol=1e-6, atol=1e-7
    )
    assert (result.distance <= (reached - x).norm(dim=1) * (1 + 1e-9)).all()


def test_deepfool_pays_a_pass_back_for_every_class_it_sees() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    y = smooth_logits(x).argmax(1)
    one, all_three = (DeepFool(n_classes=n)(smooth_logits, x, y) for n in (1, 3))
    assert (one.n_backward < one.n_forward).all()
    steps = all_three.n_backward - 1  # the first look at the gradient takes one
    assert (steps % 3 == 0).all()
    assert (steps >= 3).all()
    more = DeepFool(n_classes=100)(smooth_logits, x, y)
    assert torch.equal(more.x_adv, all_three.x_adv)


def test_gradients_of_several_values_are_those_of_each() -> None:
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, gradients = value_and_gradient(smooth_logits, x)
    assert gradients is not None
    assert gradients.shape == (3, 4, 5)
    for j in range(4):
        value, gradient = value_and_gradient(lambda p, j=j: smooth_logits(p)[:, j], x)
        torch.testing.assert_close(values[:, j], value)
        torch.testing.assert_close(gradients[:, j], gradient)


@pytest.mark.parametrize(
    "domain", [Space(), Sphere(), Box(-3.0, 3.0)], ids=["space", "sphere", "box"]
)
def test_labels_are_all_that_hop_skip_jump_asks(domain: Space | Sphere | Box) -> None:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)

    def margin(points: Tensor) -> Tensor:
        return points[:, 0] + 0.3 * points[:, 1] ** 2 - 0.4

    def labels(points: Tensor) -> Tensor:  # of zero gradient, and cut off from autograd
        return torch.from_numpy(np.sign(margin(points).detach().numpy()))

    y = (margin(x) > 0).long()
    seen, blind = (HopSkipJump()(rule, x, y, domain=domain) for rule in (margin, labels))
    assert torch.equal(seen.x_adv, blind.x_adv)
    assert blind.success.all()
    assert not blind.warnings
    assert (blind.n_backward == 0).all()


def test_more_probes_and_steps_of_hop_skip_jump_come_nearer() -> None:
    x = torch.randn(10, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    y = torch.zeros(10, dtype=torch.int64)

    def margin(points: Tensor) -> Tensor:
        return points.norm(dim=1) - 2  # one unit away

    medians = [
        HopSkipJump(n_steps, n_probes)(margin, x, y).distance.median().item()
        for n_steps, n_probes in ((0, 50), (5, 50), (20, 100))
    ]
    assert medians[0] > medians[1] > medians[2]
    assert 1 <= medians[2] < 1.02


@pytest.mark.parametrize(
    "domain", [Space(), Sphere(), Shell(1.0, 1.5)], ids=["space", "sphere", "shell"]
)
def test_pgd_finds_errors_of_its_radius_and_none_beyond(domain: Space | Sphere | Shell) -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    x, y = x[x[:, 0] < 0.5], torch.zeros(int((x[:, 0] < 0.5).sum()), dtype=torch.int64)

    def plane(points: Tensor) -> Tensor:
        return points[:, 0] - 0.5

    # Along the sphere the angle to the cap is that of its axis less that of its edge.
    chord = 2 * torch.sin((torch.arccos(x[:, 0]) - math.acos(0.5)) / 2)
    exact = chord if isinstance(domain, Sphere) else 0.5 - x[:, 0]
    radius = exact.median().item() * 1.001
    for to_boundary in (True, False):
        attack = PGD(radius, to_boundary=to_boundary)
        result = attack(plane, x, y, domain=domain)
        if isinstance(domain, Shell):  # whose inner wall may stand between
            assert not result.success[exact > radius].any()
            assert result.success.any()
        else:
            assert torch.equal(result.success, exact < radius)
        found = result.distance[result.success]
        assert (found <= radius * (1 + 1e-12)).all()
        if to_boundary and not isinstance(domain, Shell):
            torch.testing.assert_close(found, exact[exact < radius], rtol=1e-6, atol=1e-9)
    assert result.messages().count(AttackStatus.FOUND.value) == len(found)


def test_restarts_of_pgd_reach_what_the_sample_does_not_see() -> None:
    def behind(points: Tensor) -> Tensor:  # the gradient leads away from the errors
        return torch.where(points[:, 0] > -0.5, points[:, 0] - 9, -points[:, 0])

    x, y = torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    x = x + torch.arange(4)[:, None] / 100
    assert PGD(1.0)(behind, x, y).success_rate == 0
    assert PGD(1.0, n_restarts=30)(behind, x, y).success_rate == 1


@pytest.mark.parametrize("attack", [DDN(n_steps=7), FMN(n_steps=7)], ids=["ddn", "fmn"])
def test_norm_steps_cost_one_gradient_each(attack: DDN | FMN) -> None:
    x, y = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    result = attack(lambda points: points.sum(1) - 1, x, y)
    assert (result.n_backward == 8).all()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (DDN, {"n_steps": 0}),
        (DDN, {"gamma": 1.0}),
        (FMN, {"gamma": math.nan}),
        (DeepFool, {"overshoot": 0.0}),
        (DeepFool, {"n_classes": 0}),
        (PGD, {"radius": math.inf}),
        (PGD, {"radius": 1.0, "step_size": -1.0}),
        (PGD, {"radius": 1.0, "n_restarts": 0}),
        (HopSkipJump, {"n_probes": 1}),
        (HopSkipJump, {"n_starts": 0}),
    ],
)
def test_impossible_settings_are_refused(kind: type, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|expected"):
        kind(**settings)
