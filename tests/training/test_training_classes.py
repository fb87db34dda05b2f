"""Training for any number of classes: losses, TRADES, the loop, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from trueboundary.classifiers import (
    AllConvolutionalNetwork,
    QuadraticNetwork,
    ReLUNetwork,
    SoftmaxRegression,
    as_classifier,
)
from trueboundary.problems import ArraySample, ConcentricSpheres, OnlineStream
from trueboundary.training import (
    TRADES,
    TrainingConfig,
    cross_entropy,
    divergence,
    train,
    train_eval_gap,
)
from trueboundary.training.steps import AutogradStep, adam_of, step_of
from trueboundary.training.trades import _uphill

CLASSES = (2, 3, 10)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn_logits(n_classes, n=50, scale=5.0, seed=0):
    return scale * torch.randn(n, n_classes, generator=seeded(seed), dtype=torch.float64)


def labels_of(n_classes, n=50):
    return torch.arange(n) % n_classes


def blobs(n_classes, n=300, dtype=torch.float32):
    """Return images of 8 x 8 pixels whose class is told by where they are bright."""
    y = labels_of(n_classes, n)
    centres = torch.rand(n_classes, 64, generator=seeded(1), dtype=dtype)
    return centres[y] + 0.1 * torch.randn(n, 64, generator=seeded(2), dtype=dtype), y


@pytest.mark.parametrize("n_classes", CLASSES)
def test_cross_entropy_is_that_of_torch(n_classes):
    logits, y = drawn_logits(n_classes), labels_of(n_classes)
    expected = functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, y), expected, rtol=1e-9, atol=1e-14)
    assert torch.autograd.gradcheck(
        lambda f: cross_entropy(f, y), drawn_logits(n_classes, 50, 2.0, 3).requires_grad_()
    )


def test_two_logits_have_the_losses_of_their_margin():
    logits, others, y = drawn_logits(2, seed=1), drawn_logits(2, seed=2), labels_of(2)
    m, m2 = (f[:, 1] - f[:, 0] for f in (logits, others))
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(cross_entropy(logits, y), cross_entropy(m, y), **close)
    torch.testing.assert_close(divergence(logits, others), divergence(m, m2), **close)
    uphill = _uphill(others, logits)
    torch.testing.assert_close(uphill[:, 1], _uphill(m2, m), **close)
    torch.testing.assert_close(uphill[:, 0], -uphill[:, 1], **close)


def test_a_small_loss_keeps_its_digits_and_a_large_one_its_gradient():
    logits = torch.tensor([[80.0, 0.0, 1.0], [1e7, 0.0, 1e7]])
    loss = cross_entropy(logits, torch.tensor([0, 1]))
    exact = [math.exp(-80) + math.exp(-79), 1e7 + math.log(2)]
    torch.testing.assert_close(loss.double(), torch.tensor(exact).double(), rtol=1e-5, atol=0)
    # Digits that logits of this size have lost are not lost between them.
    near = torch.tensor([[1e7, 1e7 + 2, 1e7]], requires_grad=True)
    loss = cross_entropy(near, torch.tensor([1]))
    expected = math.log1p(2 * math.exp(-2))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), near)
    assert gradient[0, 1].item() == pytest.approx(-(1 - math.exp(-expected)), rel=1e-5)


@given(
    f=st.lists(st.floats(-15, 15), min_size=3, max_size=6),
    g=st.lists(st.floats(-15, 15), min_size=6, max_size=6),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_divergence_is_that_of_torch(f, g):
    logits, others = (torch.tensor([v[: len(f)]], dtype=torch.float64) for v in (f, g))
    p, q = (v.log_softmax(dim=1) for v in (logits, others))
    expected = functional.kl_div(q, p, reduction="none", log_target=True).sum(dim=1)
    torch.testing.assert_close(divergence(logits, others), expected, rtol=1e-9, atol=1e-13)


def test_the_divergence_of_confident_classifiers_is_accurate_in_float32():
    logits, others = torch.tensor([[0.0, 30.0, 0.0]]), torch.tensor([[0.0, 20.0, 0.0]])
    small, large = 2 * math.exp(-30), 2 * math.exp(-20)
    expected = torch.tensor([large - small - 10 * small])
    torch.testing.assert_close(divergence(logits, others), expected, rtol=1e-5, atol=0)
    assert divergence(logits, logits).tolist() == [0.0]
    assert divergence(1e6 * torch.eye(3)[:1], 1e6 * torch.eye(3)[1:2]).tolist() == [1e6]


def test_gradients_of_the_divergence():
    logits, others = (drawn_logits(4, 5, 2.0, seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(divergence, (logits, others))


@pytest.mark.parametrize("n_classes", [3, 10])
def test_the_search_goes_along_the_gradient_of_the_divergence(n_classes):
    logits = drawn_logits(n_classes, 30, 2.0)
    others = (logits + 0.3 * drawn_logits(n_classes, 30, 1.0, 5)).requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(logits, others).sum(), others)
    found = _uphill(others.detach(), logits)
    cosine = functional.cosine_similarity(found, gradient)
    torch.testing.assert_close(cosine, torch.ones(30, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_direction_of_the_search_survives_what_underflows():
    logits = torch.tensor([[0.0, 300.0, 100.0], [0.0, 300.0, 100.0], [0.0, 300.0, 100.0]])
    others = torch.tensor([[0.0, 300.0, 100.1], [0.2, 300.0, 100.0], [0.0, 300.0, 100.0]])
    assert (logits.softmax(1) - others.softmax(1) == 0).all()  # the gradient is gone
    expected = torch.tensor([[0.0, -1.0, 1.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(_uphill(others, logits), expected)


@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_the_search_stays_in_the_ball_and_raises_the_divergence(kind):
    x, _ = blobs(4, 40)
    model = (
        ReLUNetwork(64, 16, 1, n_classes=4, generator=seeded())
        if kind == "dense"
        else AllConvolutionalNetwork((1, 8, 8), 4, n_classes=4, generator=seeded())
    )
    loss = TRADES(beta=1.0, eps=0.5, n_steps=10)
    x_adv = loss.perturb(model, x, generator=seeded(2))
    assert ((x_adv - x).norm(dim=1) <= 0.5 * (1 + 1e-5)).all()
    model.eval()
    unit = functional.normalize(torch.randn(x.shape, generator=seeded(2)), dim=1)
    random = divergence(model(x), model(x + 0.5 * unit))
    assert divergence(model(x), model(x_adv)).mean() > 2 * random.mean()


def test_the_loss_of_trades_written_out():
    x, y = blobs(3, 30)
    model = ReLUNetwork(64, 8, 1, n_classes=3, batch_norm=None, generator=seeded())
    loss = TRADES(beta=2.0, eps=0.2, n_steps=3)
    x_adv = loss.perturb(model, x, generator=seeded(4))
    p, q = (torch.softmax(model(points), dim=1) for points in (x, x_adv))
    expected = functional.cross_entropy(model(x), y) + 2 * (p * (p / q).log()).sum(1).mean()
    found = loss(model, x, y, generator=seeded(4))
    torch.testing.assert_close(found, expected)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(found, parameters)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, parameters))


def test_trades_makes_probabilities_change_less():
    x, y = blobs(5)
    found = []
    for beta in (0.0, 10.0):
        model = ReLUNetwork(64, 16, 1, n_classes=5, batch_norm=None, generator=seeded())
        loss = TRADES(beta=beta, eps=0.4, n_steps=3)
        config = TrainingConfig(n_steps=150, learning_rate=1e-2)
        train(model, ArraySample(x, y, batch_size=50, seed=0), config, loss=loss)
        assert (model.predict(x) == y).float().mean() > 0.95
        x_adv = loss.perturb(model, x, generator=seeded(1))
        found.append(divergence(model(x), model(x_adv)).mean().item())
    assert found[1] < 0.5 * found[0]


@pytest.mark.parametrize(
    "build",
    [
        lambda **kw: ReLUNetwork(64, 8, 1, batch_norm=None, **kw),
        lambda **kw: AllConvolutionalNetwork((1, 8, 8), 4, **kw),
    ],
)
def test_the_steps_are_those_of_adam_on_the_cross_entropy_of_torch(build):
    x, y = blobs(10, 60)
    stream = ArraySample(x, y, batch_size=20, seed=0)
    model, twin = (build(n_classes=10, generator=seeded()) for _ in range(2))
    result = train(model, stream, TrainingConfig(n_steps=5, learning_rate=1e-2))
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    losses = []
    for step in range(5):
        x, y = stream.batch(step)
        loss = functional.cross_entropy(twin(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert result.losses.item() == pytest.approx(np.mean(losses), rel=1e-5)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-3, atol=1e-4, msg=name)


def test_networks_of_three_classes_take_no_step_by_hand():
    for n_classes, by_hand in ((2, True), (3, False)):
        model = ReLUNetwork(4, 8, 1, n_classes=n_classes, generator=seeded())
        optimizer = adam_of(list(model.parameters()), 1e-3, betas=(0.9, 0.999), eps=1e-8)
        assert isinstance(step_of(model, optimizer), AutogradStep) is not by_hand


def test_a_resumed_run_ends_with_the_same_parameters(tmp_path):
    x, y = blobs(3, 60)
    stream = ArraySample(x, y, batch_size=8, seed=0)
    config = TrainingConfig(n_steps=9, learning_rate=1e-2, checkpoint_every=4)

    def build():
        return ReLUNetwork(64, 8, 1, n_classes=3, generator=seeded())

    class Killed(Exception):
        pass

    def kill(step):
        if step == 6:
            raise Killed

    loss, path = TRADES(beta=2.0, n_steps=2), tmp_path / "run"
    whole, resumed = build(), build()
    train(whole, stream, config, loss=loss)
    with pytest.raises(Killed):
        train(build(), stream, config, loss=loss, checkpoint=path, progress=kill)
    assert train(resumed, stream, config, loss=loss, checkpoint=path).resumed_from == 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_softmax_regression_finds_the_closed_form_of_gaussians():
    # Three Gaussians with the covariance I and equal priors: log p_j is mu_j x - |mu_j|^2 / 2.
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]], dtype=torch.float64)
    n, y = 20_000, labels_of(3, 20_000)
    x = means[y] + torch.randn(n, 2, generator=seeded(7), dtype=torch.float64)
    model = SoftmaxRegression(2, 3, dtype=torch.float64)
    sample = ArraySample(x, y, batch_size=n, seed=0)
    train(model, sample, TrainingConfig(n_steps=300, learning_rate=0.05))
    found = torch.cat([model.weight, model.bias[:, None]], dim=1).detach()
    best = torch.cat([means, -means.square().sum(1, keepdim=True) / 2], dim=1)
    inputs = torch.cat([x, torch.ones(n, 1, dtype=torch.float64)], dim=1)
    # The gradient of the mean loss vanishes: it was trained to the end.
    residual = torch.softmax(inputs @ found.T, dim=1) - functional.one_hot(y, 3)
    assert (residual.T @ inputs / n).abs().max() < 1e-6
    # What a difference of two classes' parameters is off by is that of maximum likelihood: the
    # inverse of the Fisher information of the last two classes against the first, at the truth.
    p = torch.softmax(inputs @ best.T, dim=1)[:, 1:]
    weights = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    fisher = torch.einsum("nab,ni,nj->aibj", weights, inputs, inputs).reshape(6, 6)
    off = ((found[1:] - found[:1]) - (best[1:] - best[:1])).reshape(6)
    chi_squared = (off @ fisher @ off).item()  # of six degrees of freedom
    assert 0.3 < chi_squared < 22.5  # all but a thousandth on either side
    assert (fisher.inverse().diagonal().sqrt() < 0.04).all()  # a wrong rule would be seen


@pytest.mark.parametrize("n_classes", CLASSES)
def test_the_gap_of_the_two_modes(n_classes):
    x, _ = blobs(n_classes, 30)
    model = ReLUNetwork(64, 8, 1, n_classes=n_classes, generator=seeded())
    with torch.no_grad():
        before = model.train()(x.clone())  # moves the running averages, once
        after = model.eval()(x)
        model.train()
    gap = train_eval_gap(model, x)
    changes = before - after
    pairs = (changes[:, :, None] - changes[:, None, :]).abs().amax(dim=(1, 2))
    assert gap.mean == pytest.approx(pairs.mean().item(), rel=1e-4)
    assert gap.maximum == pytest.approx(pairs.max().item(), rel=1e-4)
    different = (before.argmax(1) != after.argmax(1)).double().mean().item()
    assert gap.disagreement == different
    assert 0 < gap.mean < gap.maximum


def test_a_model_for_another_number_of_classes_is_refused_before_training():
    x, y = blobs(3, 30)
    config = TrainingConfig(n_steps=1)
    ten = SoftmaxRegression(64, 10)
    with pytest.raises(ValueError, match=r"tells 10 classes apart, but the points .* have 3"):
        train(ten, ArraySample(x, y, 10, 0), config)
    train(ten, ArraySample(x, y, 10, 0, n_classes=10), config)
    spheres = OnlineStream(ConcentricSpheres(dim=64), batch_size=10, seed=0)
    with pytest.raises(ValueError, match=r"tells 10 classes apart, but the points .* have 2"):
        train(ten, spheres, config)
    with pytest.raises(ValueError, match=r"tells 2 classes apart, but the points .* have 3"):
        train(QuadraticNetwork(64, 8, generator=seeded()), ArraySample(x, y, 10, 0), config)
    # Of a stranger's module only a call tells; it is trained where it fits.
    for n_outputs, fits in ((3, True), (4, False)):
        linear = torch.nn.Linear(64, n_outputs, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            linear.weight.zero_()
            linear.bias.zero_()
        before = linear.weight.clone()
        model = as_classifier(linear)
        if fits:
            train(model, ArraySample(x, y, 10, 0), config)
            assert not torch.equal(linear.weight, before)
        else:
            with pytest.raises(ValueError, match=r"tells 4 classes apart.*needs as many logits"):
                train(model, ArraySample(x, y, 10, 0), config)
            assert torch.equal(linear.weight, before)
