"""What attacks of other libraries do wrong, each with the version, a number and the input.

Every test calls its library directly, not through this package, so that whoever doubts it can
repeat it. A test that fails after an upgrade is good news: the fault is mended, and its entry in
docs/peers.md goes.
"""

from importlib import metadata
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trueboundary.peers.peer_calls import imported

foolbox = pytest.importorskip("foolbox")
evasion = pytest.importorskip("art.attacks.evasion")
art_classifiers = pytest.importorskip("art.estimators.classification")
torchattacks = pytest.importorskip("torchattacks")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

DIM = 784


@pytest.fixture(autouse=True)
def _their_random_numbers() -> Any:
    """These libraries draw from the generators of the world."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.fixture
def adv_lib() -> Any:
    return imported("adv_lib")


def version(package: str) -> str:
    return metadata.version(package)


class Rule(nn.Module):
    """The linear rule of all tests: margin ``scale * (w . x - b)`` in 784 dimensions."""

    def __init__(self, scale: float = 1.0, shift: float = 0.0, bias: float = 0.0) -> None:
        super().__init__()
        w = torch.randn(DIM, generator=torch.Generator().manual_seed(0)) / DIM**0.5
        self.w = nn.Parameter(w, requires_grad=False)
        self.scale, self.shift, self.bias = scale, shift, bias

    def forward(self, x: Tensor) -> Tensor:
        margin = self.scale * (x.flatten(1) @ self.w - self.bias)
        return torch.stack([-margin / 2, margin / 2], dim=1) + self.shift


def samples(model: Rule, n: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    """Points of [.25, .75]^784, their labels, and the exact distances; no wall is near."""
    x = torch.rand(n, DIM, generator=torch.Generator().manual_seed(1)) / 2 + 0.25
    margin = x.double() @ model.w.double() - model.bias
    return x, (margin > 0).long(), margin.abs() / model.w.double().norm()


def wrong(model: nn.Module, points: Tensor, y: Tensor) -> Tensor:
    return model(points).argmax(1) != y


def ratios(points: Tensor, x: Tensor, exact: Tensor) -> Tensor:
    return (points.double() - x.double()).flatten(1).norm(dim=1) / exact


def call_foolbox(attack: Any, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    fmodel = foolbox.PyTorchModel(model.eval(), bounds=(0, 1))
    raw, _, is_adv = attack(fmodel, x, foolbox.criteria.Misclassification(y), epsilons=None)
    return raw, is_adv


def test_fmn_of_foolbox_never_projects() -> None:
    """L2FMNAttack.project divides the norms by themselves, so that its factor is always 1."""
    assert version("foolbox") == "3.3.4"
    import eagerpy

    start, far = torch.zeros(1, 4), torch.full((1, 4), 5.0)  # 10 away, and 1 is allowed
    radius = eagerpy.astensor(torch.ones(1))
    back = foolbox.attacks.L2FMNAttack().project(
        x=eagerpy.astensor(far), x0=eagerpy.astensor(start), epsilon=radius
    )
    assert torch.equal(back.raw, far)
    # The first step has length 1, and nothing nearer is ever tried.
    model = Rule()
    x, y, exact = samples(model)
    points, is_adv = call_foolbox(foolbox.attacks.L2FMNAttack(steps=100), model, x, y)
    assert bool(is_adv.all())
    assert bool(((points - x).norm(dim=1) > 0.999).all())
    assert ratios(points, x, exact).median() == pytest.approx(1.27, abs=0.02)


def test_carlini_wagner_of_foolbox_returns_black_images_as_successes() -> None:
    """Where it finds nothing it returns zeros, which may well be of another class."""
    assert version("foolbox") == "3.3.4"
    model = Rule()
    x, y, exact = samples(model)
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=3, steps=500)
    points, is_adv = call_foolbox(attack, model, x, y)
    # Of equal logits the first wins, so that zeros are of class 0.
    assert int((y == 1).sum()) == 30
    assert bool(is_adv.all())
    assert not bool(points.any())
    assert ratios(points, x, exact).median() == pytest.approx(16.5, abs=0.1)
    # More search finds it.
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=9, steps=1000)
    points, _ = call_foolbox(attack, model, x, y)
    assert ratios(points, x, exact).median() < 1.001


def test_ead_of_foolbox_does_as_well() -> None:
    assert version("foolbox") == "3.3.4"
    model = Rule(1e-6)
    x, y, _ = samples(model)
    attack = foolbox.attacks.EADAttack(binary_search_steps=9, steps=100)
    points, is_adv = call_foolbox(attack, model, x, y)
    assert bool(is_adv.all())
    assert not bool(points.any())


def test_fmn_of_adv_lib_leaves_some_of_a_linear_rule(adv_lib: Any) -> None:
    """Its steps end on the boundary itself, where rounding decides, and samples come back."""
    assert version("adv-lib") == "0.2.8"
    model = Rule(bias=0.8)  # through the middle of the samples
    x, y, _ = samples(model)
    points = adv_lib.fmn(model, x, y, norm=2, steps=100)
    assert 3 <= int((~wrong(model, points, y)).sum()) <= 8  # 4 here; rounding has a say in it
    unmoved = (points == x).all(1)
    assert torch.equal(unmoved, ~wrong(model, points, y))


def test_ddn_of_adv_lib_rounds_to_256_levels_by_default(adv_lib: Any) -> None:
    assert version("adv-lib") == "0.2.8"
    model = Rule()
    x, y, _ = samples(model)
    # Points .02 from the boundary, where one level is 1 / 255 in each of 784 coordinates.
    x = (x * 255).round() / 255
    margin = x.double() @ model.w.double()
    exact = 0.02
    x = (
        x
        - ((margin - exact * model.w.double().norm()) / model.w.double().norm() ** 2)[
            :, None
        ].float()
        * model.w
    )
    y = torch.ones(30, dtype=torch.int64)
    exactly = (x.double() @ model.w.double()).abs() / model.w.double().norm()
    fine = ratios(adv_lib.ddn(model, x, y, levels=None), x, exactly)
    coarse = ratios(adv_lib.ddn(model, x, y), x, exactly)
    assert fine.median() < 1.01
    assert coarse.median() == pytest.approx(1.90, abs=0.1)


def test_trust_region_of_adv_lib_returns_what_is_no_error(adv_lib: Any) -> None:
    """It goes at most iter * eps far, a tenth by default, and does not say that it stopped."""
    assert version("adv-lib") == "0.2.8"
    model = Rule()
    x, y, _ = samples(model)
    points = adv_lib.tr(model, x, y)
    assert not bool(wrong(model, points, y).any())
    assert not bool((points == x).all(1).any())
    assert bool(((points - x).norm(dim=1) < 0.12).all())


def test_alma_of_adv_lib_finds_nothing_behind_small_logits(adv_lib: Any) -> None:
    """Its logit_tolerance of 1e-4 is in units of logits."""
    assert version("adv-lib") == "0.2.8"

    class Padded(Rule):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)  # it wants a third class, far below
            return torch.cat([logits, logits.amin(1, keepdim=True) - 3 * self.scale], dim=1)

    shares = []
    for scale in (1.0, 1e-6):
        model = Padded(scale)
        x, y, _ = samples(model)
        points = adv_lib.alma(model, x, y, num_steps=500, distance="l2")
        shares.append(wrong(model, points, y).float().mean().item())
    assert shares == [1.0, 0.0]


def test_carlini_wagner_of_torchattacks_has_no_search_over_its_constant() -> None:
    assert version("torchattacks") == "3.5.1"
    shares = []
    for scale in (1.0, 100.0):
        model = Rule(scale)
        x, y, _ = samples(model, 4)
        points = torchattacks.CW(model, steps=500)(x.reshape(-1, 1, 28, 28), y).flatten(1)
        shares.append(wrong(model, points, y).float().mean().item())
    assert shares == [0.0, 1.0]


def test_carlini_wagner_of_torchattacks_takes_zero_for_a_logit() -> None:
    """Adding one number to all logits changes no class, but its loss: see issue 184 of theirs."""
    assert version("torchattacks") == "3.5.1"
    found = []
    for shift in (0.0, -1000.0):
        model = Rule(100.0, shift)
        x, y, _ = samples(model, 4)
        points = torchattacks.CW(model, steps=500)(x.reshape(-1, 1, 28, 28), y).flatten(1)
        found.append(wrong(model, points, y).float().mean().item())
    assert found == [1.0, 0.0]


def test_carlini_wagner_of_art_finds_nothing_behind_small_logits() -> None:
    assert version("adversarial-robustness-toolbox") == "1.20.1"
    shares = []
    for scale in (1.0, 1e-6):
        model = Rule(scale)
        x, y, _ = samples(model, 4)
        estimator = art_classifiers.PyTorchClassifier(
            model, nn.CrossEntropyLoss(), (DIM,), 2, clip_values=(0.0, 1.0), device_type="cpu"
        )
        attack = evasion.CarliniL2Method(estimator, verbose=False, batch_size=4)
        points = torch.from_numpy(attack.generate(x.numpy(), np.eye(2)[y.numpy()]))
        shares.append(wrong(model, points, y).float().mean().item())
    assert shares == [1.0, 0.0]


@pytest.mark.parametrize("steps", [10, 50])
def test_gradients_of_the_cross_entropy_end_in_large_logits(steps: int) -> None:
    """Where the softmax is 1 in single precision its gradient is 0, and the sample comes back."""
    assert version("foolbox") == "3.3.4"
    model = Rule(1e6)
    x, y, _ = samples(model)
    fmodel = foolbox.PyTorchModel(model.eval(), bounds=(0, 1))
    attack = foolbox.attacks.L2ProjectedGradientDescentAttack(steps=steps, random_start=False)
    _, points, is_adv = attack(fmodel, x, y, epsilons=5.0)  # six times as far as needed
    assert not bool(is_adv.any())
    assert torch.equal(points, x)
