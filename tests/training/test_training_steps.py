"""Steps of training that are written out do what autograd does."""

import copy
import math

import pytest
import torch
from torch import nn

from trueboundary.classifiers import AllConvolutionalNetwork, QuadraticNetwork, ReLUNetwork
from trueboundary.problems import ConcentricSpheres, OnlineStream
from trueboundary.training import TrainingConfig, steps, train

DIM = 6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def relu(depth=2, place="before-activation", dtype=torch.float64):
    return ReLUNetwork(DIM, 9, depth, batch_norm=place, generator=seeded(), dtype=dtype)


def quadratic(dtype=torch.float64):
    return QuadraticNetwork(DIM, 9, generator=seeded(), dtype=dtype)


NETWORKS = {
    "quadratic": quadratic,
    "one layer": lambda: relu(1),
    "two layers": relu,
    "three layers": lambda: relu(3),
    "normalised after the ReLU": lambda: relu(place="after-activation"),
    "not normalised": lambda: relu(place=None),
}


def adam(model, rate=1e-2):
    return torch.optim.Adam(model.parameters(), lr=rate, fused=True)


def batch(step, dtype=torch.float64, n=13):
    x, y = ConcentricSpheres(DIM).sample(n, generator=seeded(step), dtype=dtype)
    return x, y


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("block", [1, 20, 10**6])
def test_steps_by_hand_are_those_of_autograd(name, block, monkeypatch):
    monkeypatch.setattr(steps, "_BLOCK", block)
    by_hand, by_autograd = NETWORKS[name]().train(), NETWORKS[name]().train()
    step = steps.step_of(by_hand, adam(by_hand))
    assert not isinstance(step, steps.AutogradStep)
    other = steps.AutogradStep(by_autograd, adam(by_autograd))
    for number in range(6):
        loss, expected = step(*batch(number)), other(*batch(number))
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        assert not loss.requires_grad
    ours, theirs = by_hand.state_dict(), by_autograd.state_dict()
    # A bias before a normalisation has the gradient 0: Adam divides its rounding by itself, and the
    # running mean follows the bias. Neither moves the margins of the batch.
    idle = set()
    if getattr(by_hand, "batch_norm", None) == "before-activation":
        n_layers = len(by_hand.norm)
        idle = {f"linear.{i}.bias" for i in range(n_layers)}
        idle |= {f"norm.{i}.running_mean" for i in range(n_layers)}
    for key in theirs.keys() - idle:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-9, atol=1e-11, msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_by_hand_is_that_of_differences(name, monkeypatch):
    """Independent of autograd: central differences of the loss along random directions."""
    model = NETWORKS[name]().train()
    gradients = {}
    # Adam with beta2 = 0 and a huge eps moves along the gradient itself: read it from the move.
    optimizer = torch.optim.Adam(model.parameters(), lr=1e6, betas=(0.0, 0.0), eps=1e12, fused=True)
    before = copy.deepcopy(model)
    x, y = batch(3)
    steps.step_of(model, optimizer)(x, y)
    pairs = zip(before.parameters(), model.parameters(), strict=True)
    gradients = [(old - new).detach() * 1e6 for old, new in pairs]

    def loss(size, directions):
        moved = copy.deepcopy(before)
        with torch.no_grad():
            for parameter, direction in zip(moved.parameters(), directions, strict=True):
                parameter += size * direction
            return steps.cross_entropy(moved.margin(x), y).mean().item()

    generator = seeded(1)
    for _ in range(3):
        directions = [torch.randn(g.shape, generator=generator, dtype=g.dtype) for g in gradients]
        slope = (loss(1e-6, directions) - loss(-1e-6, directions)) / 2e-6
        along = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        assert along == pytest.approx(slope, rel=2e-4, abs=1e-6)


class OfOnesOwn(QuadraticNetwork):
    def margin(self, x):
        return 2 * super().margin(x)


def test_what_is_not_as_it_was_made_is_differentiated():
    hooked = relu()
    hooked.linear[0].register_forward_hook(lambda module, points, values: 2 * values)
    frozen = quadratic()
    frozen.bias.requires_grad_(False)
    other_layer = relu()
    other_layer.norm[0] = nn.BatchNorm1d(9, momentum=None, dtype=torch.float64)
    convolutional = AllConvolutionalNetwork((1, 8, 8), 2, generator=seeded())
    subclass = OfOnesOwn(DIM, 9, generator=seeded())
    for model in (hooked, frozen, other_layer, convolutional, subclass):
        trained = [p for p in model.parameters() if p.requires_grad]
        step = steps.step_of(model, torch.optim.Adam(trained, lr=1e-2, fused=True))
        assert isinstance(step, steps.AutogradStep)


def test_a_hook_that_comes_at_a_snapshot_is_not_passed_over():
    def hang(step, network):
        network.linear[-1].register_forward_hook(lambda module, points, values: 0 * values)

    stream = OnlineStream(ConcentricSpheres(DIM), batch_size=20, seed=0)
    config = TrainingConfig(n_steps=2, snapshots=(1,), log_every=1)
    plain, hooked = relu(dtype=torch.float32), relu(dtype=torch.float32)
    before, after = train(plain, stream, config), train(hooked, stream, config, on_snapshot=hang)
    assert before.losses[0] == after.losses[0]
    assert after.losses[1] == pytest.approx(math.log(2))
    assert before.losses[1] > 0.75


@pytest.mark.parametrize("name", ["quadratic", "two layers"])
def test_a_resumed_run_by_hand_ends_with_the_same_bits(name, tmp_path):
    make = {"quadratic": quadratic, "two layers": relu}[name]
    stream = OnlineStream(ConcentricSpheres(DIM), batch_size=20, seed=0)
    config = TrainingConfig(n_steps=12, checkpoint_every=5)
    whole, broken, resumed = (make(dtype=torch.float32) for _ in range(3))
    train(whole, stream, config)

    def stop(step):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, stream, config, checkpoint=tmp_path / "run", progress=stop)
    assert train(resumed, stream, config, checkpoint=tmp_path / "run").resumed_from == 5
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
