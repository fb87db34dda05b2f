"""TRADES: the divergence, the search within the ball, and training that resumes exactly."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, kl_divergence

from trueboundary.classifiers import AllConvolutionalNetwork, LinearSVM, ReLUNetwork
from trueboundary.problems import ArraySample, ConcentricSpheres, OnlineStream
from trueboundary.training import TRADES, TrainingConfig, cross_entropy, divergence, train

STREAM = OnlineStream(ConcentricSpheres(dim=3), batch_size=20, seed=0)
LOSS = TRADES(beta=2.0, eps=0.2, n_steps=3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def relu(**kwargs):
    return ReLUNetwork(3, 8, 1, generator=seeded(), **kwargs)


def images_stream():
    x = torch.rand(30, 3, 8, 8, generator=seeded(3))
    return ArraySample(x, (x.mean(dim=(1, 2, 3)) > 0.5).long(), batch_size=8, seed=0)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one, two):
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


MARGIN = st.floats(-30, 30)


@given(m=MARGIN, other=MARGIN)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_divergence_is_that_of_two_bernoulli_variables(m, other):
    m, other = (torch.tensor([v], dtype=torch.float64) for v in (m, other))
    expected = kl_divergence(Bernoulli(logits=m), Bernoulli(logits=other))
    torch.testing.assert_close(divergence(m, other), expected, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(divergence(-m, -other), divergence(m, other))


def test_the_divergence_of_confident_classifiers_is_accurate_in_float32():
    m, other = torch.tensor([30.0, -30.0]), torch.tensor([20.0, -20.0])
    # softplus(-m) = exp(-m) and so on, up to a relative 1e-9
    expected = math.exp(-20) - math.exp(-30) - 10 * math.exp(-30)
    torch.testing.assert_close(divergence(m, other), torch.full((2,), expected), rtol=1e-5, atol=0)
    assert divergence(m, m).tolist() == [0.0, 0.0]
    assert divergence(torch.tensor([1e6]), torch.tensor([-1e6])).tolist() == [1e6]


def test_gradients_of_the_divergence():
    m = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([-1.0, -2.5, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(divergence, (m, other))


def test_the_search_on_a_plane_goes_straight_to_the_sphere():
    weight = torch.tensor([3.0, 0.0, 4.0])
    model = LinearSVM(weight, bias=1.0)
    x = torch.randn(30, 3, generator=seeded(), dtype=torch.float64)
    x_adv = LOSS.perturb(model, x, generator=seeded(1))
    change = (x_adv - x) @ weight.double() / 5
    torch.testing.assert_close(change.abs(), torch.full_like(change, 0.2), rtol=1e-3, atol=0)
    assert set(change.sign().tolist()) == {-1.0, 1.0}  # the noise decides to which side
    assert ((x_adv - x).norm(dim=1) <= 0.2 * (1 + 1e-9)).all()


def test_the_search_works_for_a_classifier_without_doubts():
    model = LinearSVM(torch.tensor([1e6, 0.0]), bias=0.0).float()
    x = torch.ones(5, 2)
    x_adv = LOSS.perturb(model, x, generator=seeded())
    assert (x_adv[:, 0] - 1).abs().min() > 0.19
    flat = LinearSVM(torch.zeros(2), bias=0.0).float()
    assert LOSS.perturb(flat, x, generator=seeded()).isfinite().all()


@pytest.mark.parametrize("shape", [(3,), (1, 8, 8)])
def test_the_search_stays_in_the_ball_and_raises_the_divergence(shape):
    dense = shape == (3,)
    model = relu() if dense else AllConvolutionalNetwork(shape, 4, generator=seeded())
    x = torch.rand(20, *shape, generator=seeded(1))
    loss = TRADES(beta=1.0, eps=0.5, n_steps=10)
    before = state(model)
    x_adv = loss.perturb(model, x, generator=seeded(2))
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert model.training
    assert_same_state(model, before)
    assert all(p.grad is None for p in model.parameters())
    assert ((x_adv - x).flatten(1).norm(dim=1) <= 0.5 * (1 + 1e-5)).all()
    model.eval()
    noise = torch.randn(x.shape, generator=seeded(2))
    unit = noise / noise.flatten(1).norm(dim=1).reshape(-1, *[1] * len(shape))
    random = divergence(model.margin(x), model.margin(x + 0.5 * unit))
    assert divergence(model.margin(x), model.margin(x_adv)).mean() > 1.5 * random.mean()


def assert_same_state(model, expected):
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_the_loss_written_out():
    model = relu(batch_norm=None)
    x, y = STREAM.batch(0)
    x_adv = LOSS.perturb(model, x, generator=seeded(4))
    p, q = (torch.softmax(model(points), dim=1) for points in (x, x_adv))
    expected = torch.nn.functional.cross_entropy(model(x), y)
    expected = expected + 2.0 * (p * (p / q).log()).sum(1).mean()
    loss = LOSS(model, x, y, generator=seeded(4))
    torch.testing.assert_close(loss, expected)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, parameters))


class OfOnesOwn(ReLUNetwork):
    """Trained by autograd, as every loss but the cross-entropy is, so that bits can agree."""


def test_beta_0_is_plain_training():
    plain, zero = (OfOnesOwn(3, 8, 1, generator=seeded()) for _ in range(2))
    config = TrainingConfig(n_steps=12, learning_rate=1e-2)
    expected = train(plain, STREAM, config)
    result = train(zero, STREAM, config, loss=TRADES(beta=0))
    assert_same(plain, zero)
    assert result.losses.tolist() == expected.losses.tolist()
    other = relu()
    train(other, STREAM, config, loss=LOSS)
    assert not torch.equal(other.linear[0].weight, plain.linear[0].weight)


@pytest.mark.parametrize("kind", ["relu", "convolutional"])
def test_a_resumed_run_ends_with_the_same_parameters(tmp_path, kind):
    def build():
        if kind == "relu":
            return relu()
        return AllConvolutionalNetwork((3, 8, 8), 4, generator=seeded())

    stream = STREAM if kind == "relu" else images_stream()
    config = TrainingConfig(n_steps=9, learning_rate=1e-2, checkpoint_every=4)
    whole = build()
    expected = train(whole, stream, config, loss=LOSS)

    class Killed(Exception):
        pass

    def kill(step):
        if step == 6:
            raise Killed

    path = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        train(build(), stream, config, loss=LOSS, checkpoint=path, progress=kill)
    resumed = build()
    result = train(resumed, stream, config, loss=LOSS, checkpoint=path)
    assert result.resumed_from == 4
    assert result.losses.tolist() == expected.losses.tolist()
    assert_same(whole, resumed)


def test_a_checkpoint_belongs_to_its_loss(tmp_path):
    path = tmp_path / "run.safetensors"
    config = TrainingConfig(n_steps=2)
    train(relu(), STREAM, config, loss=LOSS, checkpoint=path)
    for other in (None, TRADES(beta=2.0, eps=0.2, n_steps=4)):
        with pytest.raises(ValueError, match="its loss differs"):
            train(relu(), STREAM, config, loss=other, checkpoint=path)
    plain = tmp_path / "plain.safetensors"
    train(relu(), STREAM, config, checkpoint=plain)
    with pytest.raises(ValueError, match="its loss differs"):
        train(relu(), STREAM, config, loss=LOSS, checkpoint=plain)


def test_training_lowers_the_divergence():
    x = torch.randn(200, 2, generator=seeded())
    stream = ArraySample(x, (x[:, 0] > 0).long(), batch_size=50, seed=0)
    config = TrainingConfig(n_steps=150, learning_rate=1e-2)
    found = []
    for beta in (0.0, 10.0):
        model = ReLUNetwork(2, 16, 1, batch_norm=None, generator=seeded())
        loss = TRADES(beta=beta, eps=0.3, n_steps=3)
        train(model, stream, config, loss=loss)
        assert (model.predict(x) == (x[:, 0] > 0)).float().mean() > 0.95
        x_adv = loss.perturb(model, x, generator=seeded(1))
        found.append(divergence(model.margin(x), model.margin(x_adv)).mean().item())
        assert cross_entropy(model.margin(x), (x[:, 0] > 0).long()).isfinite().all()
    assert found[1] < 0.5 * found[0]


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"beta": -1.0}, ValueError, "beta"),
        ({"beta": "2"}, TypeError, "beta"),
        ({"beta": 1.0, "eps": 0.0}, ValueError, "eps"),
        ({"beta": 1.0, "n_steps": 0}, ValueError, "n_steps"),
        ({"beta": 1.0, "step_size": 0.0}, ValueError, "step_size"),
        ({"beta": 1.0, "noise_std": 0.0}, ValueError, "noise_std"),
    ],
)
def test_bad_arguments(arguments, error, name):
    with pytest.raises(error, match=name):
        TRADES(**arguments)
