"""Our attacks in the forms of other libraries, shown on stand-ins for these."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trueboundary.attacks import Box, FunctionAttack, NearestError
from trueboundary.peers import as_adv_lib, as_art, as_foolbox, as_torchattacks

DIM = 6


class Three(nn.Module):
    """Three classes, by sums of two coordinates each."""

    bounds = (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (3, 2)).sum(2)


def samples() -> tuple[Tensor, Tensor]:
    x = torch.rand(4, DIM, generator=torch.Generator().manual_seed(2))
    return x, Three()(x).argmax(1)


def found(x: Tensor, y: Tensor) -> Tensor:
    return NearestError()(Three(), x, y, domain=Box(0.0, 1.0)).x_adv


@dataclass
class Criterion:
    labels: object = None
    target_classes: object = None

    def __post_init__(self) -> None:
        if self.target_classes is None:
            del self.target_classes
        if self.labels is None:
            del self.labels


@dataclass
class Raw:
    """A tensor of EagerPy."""

    raw: Tensor


def test_as_adv_lib_and_torchattacks_call_theirs() -> None:
    x, y = samples()
    expected = found(x, y)
    assert torch.equal(as_adv_lib(NearestError())(Three(), x, y), expected)
    assert torch.equal(as_torchattacks(NearestError())(Three())(x, y), expected)


def test_aimed_at_a_class() -> None:
    x, y = samples()
    goal = (y + 1) % 3
    goal[0] = y[0]  # there already
    points = as_adv_lib(NearestError())(Three(), x, goal, targeted=True)
    assert torch.equal(Three()(points).argmax(1), goal)
    assert torch.equal(points[0], x[0])


def test_where_there_is_no_error_the_sample_comes_back() -> None:
    x, y = samples()
    nothing = FunctionAttack(lambda model, x, y: x)
    assert torch.equal(as_adv_lib(nothing)(Three(), x, y), x)
    raw, clipped, is_adv = as_foolbox(nothing)(Three(), x, y)
    assert torch.equal(raw, x)
    assert torch.equal(clipped, x)
    assert not bool(is_adv.any())


@pytest.mark.parametrize("criterion", [lambda y: y, lambda y: Criterion(Raw(y))])
def test_as_foolbox_calls_its_own(criterion: object) -> None:
    x, y = samples()
    attack = as_foolbox(NearestError())
    raw, clipped, is_adv = attack(Three(), x, criterion(y))  # type: ignore[operator]
    assert torch.equal(raw, found(x, y))
    assert torch.equal(clipped, raw)
    assert bool(is_adv.all())
    length = (raw - x).norm(dim=1)
    between = length.sort().values[1:3].mean().item()
    raws, clips, are_adv = attack(Three(), x, criterion(y), epsilons=[between, None])  # type: ignore[operator]
    assert len(raws) == len(clips) == len(are_adv) == 2
    assert are_adv[0].tolist() == (length < between).tolist()
    assert bool(((clips[0] - x).norm(dim=1) <= between * 1.0001).all())
    _, clipped, is_adv = attack(Three(), x, criterion(y), epsilons=between)  # type: ignore[operator]
    assert torch.equal(clipped, clips[0])
    assert torch.equal(is_adv, are_adv[0])


def test_as_foolbox_aims() -> None:
    x, y = samples()
    goal = (y + 2) % 3
    raw, _, is_adv = as_foolbox(NearestError())(Three(), x, Criterion(target_classes=goal))
    assert bool(is_adv.all())
    assert torch.equal(Three()(raw).argmax(1), goal)


@dataclass
class Estimator:
    model: nn.Module
    clip_values: tuple[object, object] | None
    preprocessing_operations: tuple[object, ...] = ()
    device: str = "cpu"


@dataclass
class Standardisation:
    mean: float
    std: float


@pytest.mark.parametrize("y", ["one-hot", "labels", None])
def test_as_art_calls_its_own(y: str | None) -> None:
    x, labels = samples()
    given = {"one-hot": nn.functional.one_hot(labels).numpy(), "labels": labels.numpy(), None: None}
    made = as_art(NearestError())(estimator=Estimator(Three(), (0.0, 1.0)))
    points = made.generate(x.numpy(), given[y])
    assert isinstance(points, np.ndarray)
    assert points.dtype == np.float32
    assert np.array_equal(points, found(x, labels).numpy())


def test_as_art_without_bounds_and_with_what_it_cannot_see() -> None:
    x, labels = samples()
    made = as_art(NearestError())(Estimator(Three(), None))
    assert np.array_equal(
        made.generate(x.numpy(), labels.numpy()), NearestError()(Three(), x, labels).x_adv.numpy()
    )
    as_art(NearestError())(Estimator(Three(), None, (Standardisation(0.0, 1.0),)))
    with pytest.raises(ValueError, match="nothing else, got one with Standardisation"):
        as_art(NearestError())(Estimator(Three(), None, (Standardisation(0.5, 1.0),)))
    with pytest.raises(ValueError, match="its model and nothing else, got one with Criterion"):
        as_art(NearestError())(Estimator(Three(), None, (Criterion(),)))
