"""Every attack of another library, on classifiers whose nearest errors are known."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from trueboundary.attacks import AttackStatus, Box, FunctionAttack, Space
from trueboundary.peers import PeerAttack, peer_attack, peer_attacks

for _needed in ("foolbox", "art", "torchattacks"):
    pytest.importorskip(_needed)
pytest.importorskip("numba")

pytestmark = pytest.mark.peers

DIM = 16
_SLOW_TO_COMPILE = ("foolbox:BrendelBethge-100",)


class Counted:
    """A classifier that counts by itself what it is asked."""

    def __init__(self, function: object) -> None:
        self.function, self.forward, self.backward = function, 0, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.forward += len(x)
        found: Tensor = self.function(x)  # type: ignore[operator]
        if found.requires_grad:
            found.register_hook(self._back)
        return found

    def _back(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


def plane(points: Tensor) -> Tensor:
    """Two classes, as a margin."""
    return 3 * (points.flatten(1).sum(1) / 4 - 2.0)


WEIGHTS = torch.linalg.qr(torch.randn(DIM, 4, generator=torch.Generator().manual_seed(6)))[0].T


def linear(points: Tensor) -> Tensor:
    """Four classes, as logits."""
    return 5 * (points.flatten(1) - 0.5) @ WEIGHTS.to(points).T


def vectors() -> tuple[Tensor, Tensor, Tensor]:
    """Points with the exact distance to the plane."""
    x = torch.rand(4, DIM, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x = 0.5 + (x - 0.5) / 4
    x[2:] += 0.06
    y = (plane(x) > 0).long()
    return x, y, plane(x).abs() / 3


def images() -> tuple[Tensor, Tensor, Tensor]:
    """Images between 0 and 1, with the exact distance to the nearest of three planes."""
    x = 0.5 + torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(5)) / 20
    logits = linear(x)
    y = logits.argmax(1)
    gap = logits.gather(1, y[:, None]) - logits
    distance = gap / (5 * 2**0.5)
    distance[torch.arange(3), y] = torch.inf
    return x, y, distance.amin(1)


def run(name: str, case: str) -> tuple[object, Tensor, Counted]:
    x, y, exact = vectors() if case == "vectors" else images()
    classifier = Counted(plane if case == "vectors" else linear)
    domain = Space() if case == "vectors" else Box(0.0, 1.0)
    return peer_attack(name)(classifier, x, y, domain=domain), exact, classifier


@pytest.mark.parametrize("case", ["vectors", "images"])
@pytest.mark.parametrize("name", [name for name in peer_attacks() if name not in _SLOW_TO_COMPILE])
def test_what_it_finds_is_an_error_no_nearer_than_the_nearest(name: str, case: str) -> None:
    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    result, exact, classifier = run(name, case)
    assert "RAISED" not in _names(result), result.warnings
    assert "NO_POINT" not in _names(result), result.warnings
    ratio = result.distance.double() / exact
    assert bool((ratio > 1 - 1e-5).all())
    # Each row that the classifier saw is counted once, and nothing else.
    assert int(result.n_forward.sum()) == classifier.forward
    assert int(result.n_backward.sum()) == classifier.backward
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert random.getstate() == python_state


#: How far above the exact distance each may end on a plane between two classes, in the median.
#: Between more classes those that climb the cross-entropy do not: it pulls towards all of them.
NEAR = {
    "foolbox:CW-9x1000": 1.02,
    "foolbox:DDN-100": 1.01,
    "foolbox:DeepFool-50": 1.05,
    "foolbox:PGD-50": 1.2,
    "foolbox:FGM": 1.01,
    "foolbox:MI-FGSM-10": 1.01,
    "art:DeepFool-100": 1.05,
    "art:PGD-50": 1.01,
    "torchattacks:DeepFool-50": 1.05,
    "torchattacks:PGD-50": 1.01,
    "torchattacks:APGD-50": 1.01,
    "adv_lib:DDN-100": 1.01,
    "adv_lib:DeepFool-100": 1.05,
    "adv_lib:SuperDeepFool-100": 1.01,
    "adv_lib:FAB-100": 1.01,
    "adv_lib:ALMA-500": 1.02,
    "adv_lib:APGD-minimal-20x100": 1.01,
}


@pytest.mark.parametrize("name", NEAR)
def test_the_good_ones_come_near(name: str) -> None:
    result, exact, _ = run(name, "vectors")
    assert (result.distance.double() / exact).median() < NEAR[name]


@pytest.mark.slow
def test_brendel_and_bethge_come_near_after_a_minute_of_compiling() -> None:
    result, exact, classifier = run("foolbox:BrendelBethge-100", "vectors")
    assert (result.distance.double() / exact).median() < 1.01
    assert int(result.n_forward.sum()) == classifier.forward


def test_results_do_not_depend_on_the_generator_of_the_world() -> None:
    x, y, _ = vectors()
    attack = peer_attack("foolbox:PGD-50")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = attack(plane, x, y)
        torch.manual_seed(2)
        second = attack(plane, x, y)
    assert torch.equal(first.x_adv, second.x_adv)


def test_a_version_is_part_of_what_identifies_it() -> None:
    import foolbox

    attack = peer_attack("foolbox:DDN-100")
    assert attack == PeerAttack("foolbox:DDN-100", foolbox.__version__)
    with pytest.raises(ValueError, match=r"expected foolbox 1.2.3, but .* is installed"):
        PeerAttack("foolbox:DDN-100", "1.2.3")


def test_a_function_that_calls_a_library_needs_no_row() -> None:
    import torchattacks

    def theirs(model: object, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = torchattacks.DeepFool(model)(x, y)
        return found

    x, y, exact = images()
    result = FunctionAttack(theirs)(linear, x, y, domain=Box(0.0, 1.0))
    assert bool((result.distance / exact < 1.05).all())


def _names(result: object) -> list[str]:
    return [AttackStatus.from_code(code).name for code in result.status.tolist()]  # type: ignore[attr-defined]
