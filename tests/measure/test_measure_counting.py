"""Counts in the eigenbasis and by a screen: equal to those of the network, point by point."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trueboundary as tb
from trueboundary.classifiers import SphereBayes, TruncatedSum, margin, misclassified
from trueboundary.classifiers.ellipsoid import Ellipsoid
from trueboundary.measure.counting import InEigenbasis, OneByOne, Screened, block_counter
from trueboundary.measure.screen import Screen, has_byte_products, why_not_screened

PROBLEM = tb.ConcentricSpheres(30)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quadratic(mean_alpha: float, sign: float = 1.0) -> tb.QuadraticNetwork:
    network = tb.QuadraticNetwork(30, 40, generator=seeded(3), mean_alpha=mean_alpha)
    with torch.no_grad():
        network.weight.mul_(sign)
        network.bias.mul_(sign)
    return network


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(("mean_alpha", "sign"), [(0.8, 1.0), (0.7, -1.0), (0.95, 1.0)])
def test_eigenbasis_counts_what_the_network_counts(
    mean_alpha: float, sign: float, label: int
) -> None:
    network = quadratic(mean_alpha, sign)
    counter = block_counter(network, PROBLEM)
    assert isinstance(counter, InEigenbasis)
    axes = torch.from_numpy(network.ellipsoid().axes)
    exact = copy.deepcopy(network).double()
    for n in (8192, 1000):
        parts = counter.parts(2, n, seed=5, label=label, device="cpu")
        u = torch.cat([z.double() for z in parts])
        assert u.shape == (n, 30)
        x = PROBLEM.radii[label] * u / u.norm(dim=1, keepdim=True) @ axes.T
        expected = int(misclassified(exact.margin(x).detach(), label).sum())
        assert 0 < expected < n
        assert counter(2, n, seed=5, label=label, device="cpu") == expected


def test_eigenbasis_decides_in_float64_near_the_boundary() -> None:
    # All alphas but two are 1: the sum is that of two squares, 2^-30 of the others' size.
    small = 2.0**-30
    alphas = np.array([1 - small, *[1.0] * 498, 1 + small])
    counter = InEigenbasis(Ellipsoid(alphas, np.eye(500), 1.0, -1.0), 1.3)
    u = torch.cat([z.double() for z in counter.parts(0, 8192, seed=0, label=0, device="cpu")])
    expected = int((u[:, -1].abs() > u[:, 0].abs()).sum())
    assert counter(0, 8192, seed=0, label=0, device="cpu") == expected
    # With a common factor that float32 cannot tell from 1, cancellation is all there is.
    alphas = 1 + 1e-3 * np.array([*[1.0] * 250, *[-1.0] * 250])
    counter = InEigenbasis(Ellipsoid(alphas, np.eye(500), 1.0, -1.0), 1.3)
    counter.slack = 1.0  # everything in float64
    exact = counter(0, 8192, seed=0, label=0, device="cpu")
    counter.slack = InEigenbasis(Ellipsoid(alphas, np.eye(500), 1.0, -1.0), 1.3).slack
    assert counter(0, 8192, seed=0, label=0, device="cpu") == exact


def test_a_surface_that_is_the_sphere_is_class_0() -> None:
    network = tb.QuadraticNetwork(2, 2, generator=seeded(0), dtype=torch.float64)
    with torch.no_grad():
        network.hidden_weight.copy_(torch.eye(2))
    counter = block_counter(network, tb.ConcentricSpheres(2))
    assert isinstance(counter, InEigenbasis)
    assert counter(0, 100, seed=0, label=0, device="cpu") == 0
    weights = counter.weights[1]
    weights.zero_()
    assert counter(0, 100, seed=0, label=1, device="cpu") == 100


@pytest.mark.parametrize(
    "classifier",
    [quadratic(0.8), TruncatedSum(30, 20, 0.8), SphereBayes(30)],
    ids=["quadratic", "truncated", "sphere"],
)
def test_eigenbasis_against_the_exact_rate(classifier: nn.Module) -> None:
    exact = tb.error_rate(classifier, PROBLEM)
    sampled = tb.error_rate(
        classifier, PROBLEM, method="sampling", n_points=400_000, confidence=0.9999
    )
    assert isinstance(block_counter(classifier, PROBLEM), InEigenbasis)
    for one, other in zip(exact, sampled, strict=True):
        assert other.low <= one.value <= other.high


def test_altered_classifiers_are_counted_point_by_point() -> None:
    network = quadratic(0.8)
    handle = network.register_forward_hook(lambda module, points, logits: -logits)
    assert isinstance(block_counter(network, PROBLEM), OneByOne)
    handle.remove()

    class Own(tb.QuadraticNetwork):
        pass

    own = Own(30, 40, generator=seeded(0))
    assert isinstance(block_counter(own, PROBLEM), OneByOne)
    assert isinstance(block_counter(lambda x: x[:, 0], PROBLEM), OneByOne)


def usual(network: tb.ReLUNetwork) -> None:
    """Leave a network as it is."""


def grown(network: tb.ReLUNetwork) -> None:
    """Make weights large and normalisation strong."""
    for linear in network.linear:
        linear.weight.mul_(7.0)
    for norm in network.norm:
        norm.running_mean.uniform_(-50, 50, generator=seeded(1))
        norm.running_var.uniform_(1e-3, 10, generator=seeded(2))
        norm.weight.uniform_(-3, 3, generator=seeded(3))
        norm.bias.uniform_(-5, 5, generator=seeded(4))


def one_sided(network: tb.ReLUNetwork) -> None:
    """Let every rounding error have the same sign: all weights equal and hard to round."""
    for linear in network.linear:
        linear.weight.abs_().clamp_(max=1e-3).add_(0.0123)
        linear.weight[:, 0] = 1.0
        linear.bias.fill_(1.0)


def dead(network: tb.ReLUNetwork) -> None:
    """Let no unit of the first layer be active, and no weight of the second differ from 0."""
    network.linear[0].bias.fill_(-1e3)
    network.linear[1].weight.zero_()


def half_steps(network: tb.ReLUNetwork) -> None:
    """Put activations in the middle between two integers, and one at the top."""
    network.linear[0].weight.zero_()
    steps = torch.arange(network.width) % 255 + 0.5
    network.linear[0].bias.copy_(steps)
    network.linear[0].bias[0] = 255.0


@pytest.mark.parametrize("batch_norm", [None, "before-activation"])
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("change", [usual, grown, one_sided, dead, half_steps])
@pytest.mark.parametrize("use_bytes", [False, True])
def test_screen_is_never_further_off_than_its_bound(
    use_bytes: bool, change: Callable[[tb.ReLUNetwork], None], depth: int, batch_norm: str | None
) -> None:
    # Products of bytes are exact everywhere, if slow without instructions for them.
    network = tb.ReLUNetwork(40, 96, depth, batch_norm=batch_norm, generator=seeded(0)).eval()  # type: ignore[arg-type]
    if change in (dead, half_steps) and depth == 1:
        pytest.skip("a change of the second layer")
    with torch.no_grad():
        change(network)
    exact = copy.deepcopy(network).double()
    screen = Screen(network, use_bytes=use_bytes)
    for scale in (1e-3, 1.0, 300.0):
        x = scale * torch.randn(700, 40, generator=seeded(7))
        x[0] = 0
        x[1:41] = scale * torch.eye(40)
        with torch.no_grad():
            margins, bounds = screen(x)
            truth, own = exact.margin(x.double()), network.margin(x)
        assert bool(((margins.double() - truth).abs() <= bounds).all())
        assert bool(((margins.double() - own.double()).abs() <= bounds).all())


def test_bounds_follow_the_precision() -> None:
    network = tb.ReLUNetwork(40, 96, 2, generator=seeded(0)).eval()
    x, _ = tb.ConcentricSpheres(40).sample(500, generator=seeded(1))
    found = {use: Screen(network, use_bytes=use)(x) for use in (False, True)}
    own = network.margin(x).detach()
    errors = {use: float((margins - own).abs().max()) for use, (margins, _) in found.items()}
    assert float(found[False][1].max()) < float(found[True][1].min()) / 5
    assert errors[False] < errors[True]
    assert float(found[True][1].max()) < 200 * errors[True], "a bound that screens something"


@pytest.mark.parametrize("label", [0, 1])
def test_screened_count_is_the_networks_own(label: int) -> None:
    problem = tb.ConcentricSpheres(40)
    network = tb.ReLUNetwork(40, 96, 2, generator=seeded(0))
    stream = tb.OnlineStream(problem, batch_size=50, seed=0)
    tb.train(network, stream, tb.TrainingConfig(n_steps=300, learning_rate=1e-3))
    network.eval()
    counter, plain = block_counter(network, problem), OneByOne(network, problem)
    assert isinstance(counter, Screened)
    asked: list[int] = []
    for index in range(8):
        n = 8192 - 100 * index
        handle = network.linear[0].register_forward_hook(lambda m, x, y: asked.append(len(y)))
        found = counter(index, n, seed=3, label=label, device="cpu")
        handle.remove()
        assert found == plain(index, n, seed=3, label=label, device="cpu")
    assert counter.screen is not None
    late = sum(asked) - 4 * 8192 + 100 * (0 + 1 + 2 + 3)
    assert 0 < late < 0.5 * 4 * 8192, "the screen decides most points, and not all"


def test_who_is_not_screened() -> None:
    def network(**options: object) -> tb.ReLUNetwork:
        return tb.ReLUNetwork(6, 8, 2, generator=seeded(0), **options).eval()  # type: ignore[arg-type]

    assert why_not_screened(network()) == ""
    assert "float32" in why_not_screened(network(dtype=torch.float64))
    assert "normalise after" in why_not_screened(network(batch_norm="after-activation"))
    with torch.autocast("cpu"):
        assert "lower precision" in why_not_screened(network())
    with pytest.raises(ValueError, match="can be screened"):
        Screen(network(dtype=torch.float64))
    replaced = network()
    replaced.linear[1] = nn.Sequential(replaced.linear[1])
    problem = tb.ConcentricSpheres(6)
    count = block_counter(replaced, problem)
    assert [count(i, 100, seed=0, label=0, device="cpu") for i in range(6)] == [
        OneByOne(replaced, problem)(i, 100, seed=0, label=0, device="cpu") for i in range(6)
    ]


def test_saturating_products_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(left: Tensor, right: Tensor) -> Tensor:
        return (left.int() @ right.int()).clamp(-(2**15), 2**15 - 1)

    # The oldest torch supported does not tell what a processor can.
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True}, raising=False)
    assert has_byte_products()
    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not has_byte_products()
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not has_byte_products()


def test_the_users_model_is_not_changed() -> None:
    problem = tb.ConcentricSpheres(6)
    network = tb.ReLUNetwork(6, 8, 2, generator=seeded(0))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tb.error_rate(network, problem, method="sampling", n_points=60_000)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    x = torch.ones(1, 6)
    assert margin(network.eval(), x).dtype == torch.float32
