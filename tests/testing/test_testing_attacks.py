"""`check_attack` fails for every way in which an attack of somebody else may go wrong."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from trueboundary.attacks import Attack, LogDensityGradient, Search, Target
from trueboundary.domains import Box, Space, Sphere, per_sample
from trueboundary.testing import check_attack


@dataclass(frozen=True)
class Rays(Attack):
    """A sound attack without gradients: the nearest error on random rays."""

    n_rays: int
    n_lengths: int

    def direction(self, target: Target, number: int) -> Tensor:
        noise = target.domain.tangent(target.x, target.noise(number))
        return noise / per_sample(noise.flatten(1).norm(dim=1), noise)

    def search(self, target: Target) -> Search:
        best, found = target.x.clone(), torch.zeros_like(target.index, dtype=torch.bool)
        nearest = target.filled(torch.inf)
        for number in range(self.n_rays):
            direction = self.direction(target, number)
            for length in torch.linspace(0.01, 2.5, self.n_lengths).tolist():
                points = target.domain.move(target.x, direction, target.filled(length))
                distance = target.domain.distance(target.x, points)
                nearer = (target.wrongness(points) > 0) & (distance < nearest)
                best[nearer], nearest[nearer] = points[nearer], distance[nearer]
                found |= nearer
        return Search.of(best, found)


@pytest.mark.parametrize("domain", [None, Sphere(), Box(-2.0, 2.0)])
def test_a_sound_attack_without_gradients_passes(domain: Sphere | Box | None) -> None:
    check_attack(Rays(n_rays=15, n_lengths=12), domain=domain, least_success=0.6)


@dataclass(frozen=True)
class Fast(LogDensityGradient):
    """A sound attack to go wrong from."""


class LooksAtTheBatch(Fast):
    def search(self, target: Target) -> Search:
        search = super().search(target)
        beyond = 1 + 0.01 * len(target.x)
        return replace(search, endpoint=target.x + beyond * (search.endpoint - target.x))


class LooksAtTheOrder(Fast):
    def search(self, target: Target) -> Search:
        search = super().search(target)
        beyond = per_sample(1 + 0.01 * torch.arange(len(target.x)).to(target.x), target.x)
        return replace(search, endpoint=target.x + beyond * (search.endpoint - target.x))


class StepsInUnitsOfTheLogits(Fast):
    def search(self, target: Target) -> Search:
        search = super().search(target)
        _, gradient = target.wrongness_and_gradient(target.x)
        beyond = 1 + gradient.flatten(1).norm(dim=1).clamp(max=0.5)
        return replace(
            search,
            endpoint=target.x + per_sample(beyond, target.x) * (search.endpoint - target.x),
        )


class AsksBehindTheTarget(Fast):
    def search(self, target: Target) -> Search:
        target.classifier(target.x.clone())
        return super().search(target)


class DrawsFromTorch(Fast):
    def search(self, target: Target) -> Search:
        torch.rand(1)
        return super().search(target)


class DrawsFromNumpy(Fast):
    def search(self, target: Target) -> Search:
        np.random.rand()  # noqa: NPY002
        return super().search(target)


class DrawsFromPython(Fast):
    def search(self, target: Target) -> Search:
        random.random()
        return super().search(target)


class DiffersFromCallToCall(Fast):
    calls = [0]  # noqa: RUF012

    def search(self, target: Target) -> Search:
        self.calls[0] += 1
        search = super().search(target)
        beyond = 1 + 0.01 * (self.calls[0] % 7)
        return replace(search, endpoint=target.x + beyond * (search.endpoint - target.x))


class Trains(Fast):
    def search(self, target: Target) -> Search:
        if isinstance(target.classifier, torch.nn.Module):
            with torch.no_grad():
                for parameter in target.classifier.parameters():
                    parameter.mul_(1.01)
        return super().search(target)


class LeavesGradients(Fast):
    def search(self, target: Target) -> Search:
        if isinstance(target.classifier, torch.nn.Module):
            for parameter in target.classifier.parameters():
                parameter.grad = torch.zeros_like(parameter)
        return super().search(target)


class FreezesTheModel(Fast):
    def search(self, target: Target) -> Search:
        if isinstance(target.classifier, torch.nn.Module):
            target.classifier.requires_grad_(False)
        return super().search(target)


class LeavesTheDomain(Fast):
    def search(self, target: Target) -> Search:
        return Search.of(5 * target.x, torch.ones_like(target.index, dtype=torch.bool))


class FindsNothing(Fast):
    def search(self, target: Target) -> Search:
        return Search.of(target.x, torch.zeros_like(target.index, dtype=torch.bool))


class TakesOneShapeForGranted(Fast):
    def search(self, target: Target) -> Search:
        search = super().search(target)
        beyond = 1 + 0.01 * target.x.ndim
        return replace(search, endpoint=target.x + beyond * (search.endpoint - target.x))


class GivesUpWithTheWorst(Fast):
    def search(self, target: Target) -> Search:
        beside = target.wrongness(1.01 * target.x)
        if beside.isnan().any():
            return Search.of(target.x, torch.zeros_like(beside, dtype=torch.bool))
        return super().search(target)


class SetsTheDefaultDtype(Fast):
    def search(self, target: Target) -> Search:
        torch.set_default_dtype(torch.float64)
        return super().search(target)


class FallsShortInSinglePrecision(Fast):
    def search(self, target: Target) -> Search:
        search = super().search(target)
        if target.x.dtype == torch.float32:
            return replace(search, endpoint=target.x + 0.9 * (search.endpoint - target.x))
        return search


class GoesStraight(Fast):
    def search(self, target: Target) -> Search:
        search = super().search(replace(target, domain=Space()))
        return replace(search, endpoint=target.x + 1.001 * (search.endpoint - target.x))


BROKEN = {
    GoesStraight: "GoesStraight left .* move points with target.domain",
    LooksAtTheBatch: "batches of 1, 4 and 7",
    LooksAtTheOrder: "another order",
    StepsInUnitsOfTheLogits: "logits times",
    AsksBehindTheTarget: "the target counted",
    DrawsFromTorch: "torch's global random state",
    DrawsFromNumpy: "NumPy's global random state",
    DrawsFromPython: "Python's global random state",
    DiffersFromCallToCall: "against one plain call",
    Trains: "classifier's alphas",
    LeavesGradients: "no gradients behind",
    FreezesTheModel: "requires_grad",
    LeavesTheDomain: "left its domain",
    FindsNothing: r"at least 90% of the samples, got 0%",
    TakesOneShapeForGranted: r"shape \(n, 1, 2, 3\)",
    GivesUpWithTheWorst: "NaN around one sample",
    SetsTheDefaultDtype: "default dtype",
    FallsShortInSinglePrecision: "float32: expected errors from",
}


@pytest.mark.parametrize(
    ("broken", "message"), BROKEN.items(), ids=lambda x: getattr(x, "__name__", "")
)
def test_a_broken_attack_is_told(broken: Callable[[], Attack], message: str) -> None:
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    dtype = torch.get_default_dtype()
    try:
        with torch.random.fork_rng(), pytest.raises(AssertionError, match=message):
            check_attack(broken(), domain=Box(-2.0, 2.0))
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        torch.set_default_dtype(dtype)


def test_what_is_no_attack_is_told() -> None:
    with pytest.raises(AssertionError, match="expected an Attack, got function"):
        check_attack(lambda *_: None)  # type: ignore[arg-type]


def test_settings_that_can_be_changed_are_told() -> None:
    class Thawed(Fast):
        def __setattr__(self, name: str, value: object) -> None:
            object.__setattr__(self, name, value)

    with pytest.raises(AssertionError, match="setting rule to be frozen"):
        check_attack(Thawed())
