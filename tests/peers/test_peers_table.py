"""Attacks of other libraries as far as they can be shown without these libraries."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from trueboundary.attacks import ModelUnderAttack
from trueboundary.peers import peer_attack, peer_attacks
from trueboundary.peers.peer_calls import LIBRARIES, points_of
from trueboundary.peers.peer_table import Peer

DIM = 12


def test_the_table_is_wide_enough() -> None:
    rows = peer_attacks()
    assert len(rows) >= 24
    assert {row.library for row in rows.values()} == set(LIBRARIES)
    assert len({row.algorithm for row in rows.values()}) >= 12
    for name, row in rows.items():
        assert name == row.name
        assert row.publication
        assert row.called


def test_no_library_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, trueboundary, trueboundary.peers, trueboundary.cli\n"
        f"print([name for name in {[*LIBRARIES, 'torchvision', 'visdom']} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_an_unknown_attack_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"no attack 'foolbox:DNN-100' .* did you mean"):
        peer_attack("foolbox:DNN-100")


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)  # which makes its import fail
    with pytest.raises(ValueError, match=r"pip install foolbox, or .* 'make test-peers'"):
        peer_attack("foolbox:DDN-100")


def plane(points: Tensor) -> Tensor:
    return points.flatten(1).sum(1) - 1


def one_step(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Go as far as the radius allows, straight to the plane."""
    points = x.clone().requires_grad_()
    logits = model(points)
    sign = 1 - 2 * y.to(x)
    (logits[:, 1] - logits[:, 0]).mul(sign).sum().backward()
    way = points.grad
    assert way is not None
    return x + radius * way / way.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> object:
    """Stand in for torchattacks."""

    class Limited:
        def __init__(self, model: nn.Module, eps: float) -> None:
            self.model, self.eps = model, eps

        def __call__(self, x: Tensor, y: Tensor) -> Tensor:
            return one_step(self.model, x, y, self.eps)

    found = type(sys)("torchattacks")
    found.Limited = Limited  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchattacks", found)
    return found


def test_the_smallest_radius_is_found_for_each_sample(library: object) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(9, DIM, generator=generator) / 4
    y = (plane(x) > 0).long()
    row = Peer("torchattacks:Limited", "Limited", "", "", radius="eps")
    points, said = points_of(row)(ModelUnderAttack(plane), x, y)
    assert bool(said.all())
    exact = plane(x).abs() / DIM**0.5
    ratio = (points - x).norm(dim=1) / exact
    assert bool((ratio > 1 - 1e-5).all())
    assert bool((ratio < 1.001).all())


def test_samples_without_any_error_do_not_last_for_ever(library: object) -> None:
    row = Peer("torchattacks:Limited", "Limited", "", "", radius="eps")
    never = ModelUnderAttack(lambda points: -1 - points.flatten(1).square().sum(1))
    x = torch.full((2, DIM), 0.5)
    points, said = points_of(row)(never, x, torch.zeros(2, dtype=torch.int64))
    assert torch.equal(points, x)
    assert not bool(said.any())
    assert never.n_forward < 100
