"""The training loop: what it minimises, what it leaves alone, what it reports."""

import math

import numpy as np
import pytest
import torch

from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork, SphereBayes
from trueboundary.problems import ConcentricSpheres, FiniteSample, OnlineStream
from trueboundary.training import TrainingConfig, cross_entropy, train

PROBLEM = ConcentricSpheres(dim=3)
STREAM = OnlineStream(PROBLEM, batch_size=20, seed=0)


def quadratic(seed=0):
    return QuadraticNetwork(3, 5, generator=torch.Generator().manual_seed(seed))


def relu(seed=0):
    return ReLUNetwork(3, 8, 2, generator=torch.Generator().manual_seed(seed))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_cross_entropy_is_that_of_the_two_logits(generator):
    model = quadratic()
    x, y = PROBLEM.sample(50, generator=generator)
    expected = torch.nn.functional.cross_entropy(model(x), y, reduction="none")
    torch.testing.assert_close(cross_entropy(model.margin(x), y), expected)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(model.margin(x), y.float())
    torch.testing.assert_close(cross_entropy(model.margin(x), y).mean(), bce)


def test_cross_entropy_keeps_its_gradient_at_huge_margins():
    m = torch.tensor([1e6, -1e6], requires_grad=True)
    loss = cross_entropy(m, torch.tensor([0, 1]))
    assert loss.tolist() == [1e6, 1e6]
    (gradient,) = torch.autograd.grad(loss.sum(), m)
    assert gradient.tolist() == [1.0, -1.0]


def test_the_steps_are_those_of_adam():
    # Without batch normalisation, before which a bias has no gradient but rounding errors.
    model, twin = (
        ReLUNetwork(3, 8, 2, batch_norm=None, generator=torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    config = TrainingConfig(n_steps=7, learning_rate=0.01, schedule="linear", log_every=3)
    result = train(model, STREAM, config)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    losses = []
    for step in range(7):
        x, y = STREAM.batch(step)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(twin.margin(x), y.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.01 * (7 - step) / 7
        optimizer.step()
        losses.append(loss.item())
    for (name, ours), theirs in zip(
        model.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)
    assert result.steps.tolist() == [3, 6, 7]
    means = [np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]]
    np.testing.assert_allclose(result.losses, means, rtol=1e-5)
    assert (result.n_steps, result.resumed_from, result.stopped_early) == (7, 0, False)


def test_schedules():
    constant = TrainingConfig(n_steps=10, learning_rate=0.5)
    linear = TrainingConfig(n_steps=10, learning_rate=0.5, schedule="linear")
    assert [constant.rate_at(step) for step in (0, 9)] == [0.5, 0.5]
    assert [linear.rate_at(step) for step in (0, 5)] == [0.5, 0.25]
    assert linear.rate_at(9) == pytest.approx(0.05)


def test_training_learns_the_circles():
    problem = ConcentricSpheres(dim=2)
    model = ReLUNetwork(2, 64, 2, generator=torch.Generator().manual_seed(0))
    stream = FiniteSample(problem, n_samples=100, batch_size=50, seed=0)
    result = train(model, stream, TrainingConfig(n_steps=400, learning_rate=1e-2))
    assert result.losses[-1] < 0.3 * result.losses[0]
    x, y = next(problem.blocks(1000, seed=1))
    assert torch.equal(model.eval().predict(x), y)


def test_the_mode_during_and_after_training():
    model = relu().eval()
    modes = []

    def look(step, snapshot):
        modes.append(("snapshot", step, snapshot.training))

    config = TrainingConfig(n_steps=3, snapshots=(0, 2, 3))
    train(
        model,
        STREAM,
        config,
        on_snapshot=look,
        progress=lambda step: modes.append(("step", step, model.training)),
    )
    assert modes == [
        ("snapshot", 0, False),
        ("step", 1, True),
        ("snapshot", 2, False),
        ("step", 2, True),
        ("snapshot", 3, False),
        ("step", 3, True),
    ]
    assert not model.training


def test_the_mode_is_restored_after_a_failure():
    model = relu().eval()

    def fail(step, snapshot):
        raise RuntimeError("the user's own mistake")

    with pytest.raises(RuntimeError, match="own mistake"):
        train(model, STREAM, TrainingConfig(n_steps=3, snapshots=(2,)), on_snapshot=fail)
    assert not model.training


def test_looking_at_snapshots_changes_nothing():
    watched, alone = relu(), relu()

    def attack_like(step, snapshot):
        x = torch.ones(4, 3, requires_grad=True)
        snapshot.margin(x).sum().backward()  # leaves gradients behind
        return {"margin": snapshot.margin(x).detach().numpy(), "step": step}

    snapshots = (1, 4)
    result = train(
        watched, STREAM, TrainingConfig(n_steps=5, snapshots=snapshots), on_snapshot=attack_like
    )
    train(alone, STREAM, TrainingConfig(n_steps=5))
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
    assert {step: int(values["step"]) for step, values in result.snapshots.items()} == {1: 1, 4: 4}
    assert result.snapshots[4]["margin"].shape == (4,)


def test_until_ends_the_run():
    seen = []

    def enough(model):
        seen.append(model.training)
        return len(seen) == 2

    config = TrainingConfig(n_steps=10, snapshots=(0, 4, 8))
    result = train(relu(), STREAM, config, until=enough)
    assert seen == [False, False]
    assert (result.n_steps, result.stopped_early) == (4, True)


def test_until_can_end_the_run_before_it_starts():
    model = relu()
    before = state(model)
    config = TrainingConfig(n_steps=10, snapshots=(0,))
    result = train(model, STREAM, config, until=lambda _: True)
    assert (result.n_steps, result.stopped_early) == (0, True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_same_seed_same_network():
    first, again, other = relu(), relu(), relu()
    config = TrainingConfig(n_steps=5)
    train(first, OnlineStream(PROBLEM, 20, seed=1), config)
    train(again, OnlineStream(PROBLEM, 20, seed=1), config)
    train(other, OnlineStream(PROBLEM, 20, seed=2), config)
    weight = "linear.0.weight"
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])


def test_divergence_is_reported():
    model = quadratic()
    with torch.no_grad():
        model.weight.fill_(math.inf)
    with pytest.raises(FloatingPointError, match="between steps 0 and 2; try a smaller"):
        train(model, STREAM, TrainingConfig(n_steps=10, log_every=2))


def test_a_classifier_without_trainable_parameters_is_refused():
    with pytest.raises(ValueError, match="SphereBayes has no parameters to train"):
        train(SphereBayes(3), STREAM, TrainingConfig(n_steps=1))


def test_a_snapshot_holds_numbers_alone():
    config = TrainingConfig(n_steps=1, snapshots=(1,))
    with pytest.raises(TypeError, match="its 'note' is str"):
        train(quadratic(), STREAM, config, on_snapshot=lambda step, model: {"note": "good"})


def test_snapshots_are_sorted_plain_integers():
    config = TrainingConfig(n_steps=np.int64(9), snapshots=(np.int64(5), 1, 5))
    assert config == TrainingConfig(n_steps=9, snapshots=(1, 5))
    assert type(config.n_steps) is type(config.snapshots[0]) is int
    assert hash(config) == hash(TrainingConfig(n_steps=9, snapshots=(5, 1)))


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1"),
        ({"n_steps": 1e6}, TypeError, "n_steps must be an integer"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be a finite number above 0"),
        ({"schedule": "cosine"}, ValueError, "schedule must be 'constant' or 'linear'"),
        ({"snapshots": (11,)}, ValueError, "snapshot at step 11 is beyond n_steps = 10"),
        ({"snapshots": (-1,)}, ValueError, "a snapshot must be at least 0"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas must lie in \[0, 1\)"),
    ],
)
def test_bad_settings(settings, error, sentence):
    with pytest.raises(error, match=sentence):
        TrainingConfig(**{"n_steps": 10, **settings})
