"""Bounds of networks as people write them: layered twins, dense matrices, sampling, refusals."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import trueboundary as tb
from trueboundary import zoo
from trueboundary.attacks import NearestError
from trueboundary.certificates import (
    RelaxationCertificate,
    _network,
    _tangents,
    bounds,
    interval_bounds,
)
from trueboundary.certificates.relaxation import Unreadable
from trueboundary.classifiers import AllConvolutionalNetwork, outputs, wrongness
from trueboundary.classifiers.integrity import Disagreement
from trueboundary.domains import Sphere
from trueboundary.measure import distances_from

SIZES = (0.0, 0.05, 0.4, 2.0)


@pytest.fixture(autouse=True)
def own_random_state() -> Iterator[None]:
    """Layers draw their first values from the global state."""
    with torch.random.fork_rng():
        yield


def drawn(module: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a module in eval mode with random parameters and running averages."""
    generator = torch.Generator().manual_seed(seed)
    module = module.to(dtype)
    for name, tensor in module.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(generator=generator)
            tensor.div_(math.sqrt(max(1, tensor[0].numel() if tensor.ndim else 1)))
    return module.eval().requires_grad_(False)


def points(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def in_balls(x: Tensor, size: float, n: int, seed: int = 2) -> Tensor:
    """Return n points (n, *x.shape) of balls around each point, most of them on the rim."""
    generator = torch.Generator().manual_seed(seed)
    step = torch.randn(n, *x.shape, generator=generator, dtype=torch.float64)
    length = (2 * torch.rand(n, len(x), generator=generator, dtype=torch.float64)).clamp(max=1)
    flat = step.flatten(2)
    flat = size * length[:, :, None] * flat / flat.norm(dim=2, keepdim=True)
    return x + flat.reshape(step.shape)


def same_bounds(one: Any, other: Any, x: Tensor, y: Tensor | None = None, cap: bool = True) -> None:
    """Raise unless two classifiers of the same outputs have the same bounds."""
    assert outputs(one, x).numpy() == pytest.approx(outputs(other, x).numpy(), rel=1e-9, abs=1e-9)
    for size in SIZES:
        for region in ("ball", "cap") if cap else ("ball",):
            for bound in (bounds, interval_bounds):
                pairs = zip(
                    bound(one, x, size, y=y, region=region),  # type: ignore[arg-type]
                    bound(other, x, size, y=y, region=region),  # type: ignore[arg-type]
                    strict=True,
                )
                for mine, theirs in pairs:
                    assert mine.numpy() == pytest.approx(theirs.numpy(), rel=1e-9, abs=1e-9)


def encloses(network: Any, x: Tensor, size: float, y: Tensor | None = None, n: int = 400) -> None:
    """Raise unless no sampled point lies outside of the bounds, nor the intervals within them."""
    lower, upper = bounds(network, x, size, y=y)
    for around in in_balls(x, size, n):
        found = outputs(network, around) if y is None else wrongness(network, around, y)
        rounding = 1e-9 * (1 + found.abs())
        assert bool((found >= lower - rounding).all())
        assert bool((found <= upper + rounding).all())


class Net(nn.Module):
    """A network of two hidden layers, with what people put around them."""

    def __init__(self, n_out: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.norm = nn.BatchNorm1d(12)
        self.second = nn.Linear(12, 10)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(10, n_out)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 2, 3).flatten(1)
        hidden = functional.relu(self.norm(self.first(x)))
        hidden = self.drop(torch.relu(self.second(nn.Identity()(hidden))))
        return self.last(hidden).squeeze()


def folded(net: Any) -> nn.Sequential:
    """Return a `Net` as a plain sequence, the normalisation folded into the first layer."""
    scale = net.norm.weight / (net.norm.running_var + net.norm.eps).sqrt()
    first = nn.Linear(6, 12).double().requires_grad_(False)
    first.weight[:] = scale[:, None] * net.first.weight
    first.bias[:] = scale * (net.first.bias - net.norm.running_mean) + net.norm.bias
    return nn.Sequential(first, nn.ReLU(), net.second, nn.ReLU(), net.last)


@pytest.mark.parametrize("n_out", [1, 2, 4])
def test_a_class_has_the_bounds_of_its_layers(n_out: int) -> None:
    net, x, y = drawn(Net(n_out)), points(5, 6), torch.tensor([0, 1, 1, 0, 1])
    same_bounds(net, folded(net), x, y)
    if n_out <= 2:
        same_bounds(net, folded(net), x)
    for domain in (None, Sphere()):
        at = x if domain is None else x / x.norm(dim=1, keepdim=True)
        found = outputs(net, at)
        own = (found > 0).long() if n_out <= 2 else found.argmax(1)
        mine = RelaxationCertificate()(net, at, own, domain=domain).distance
        layered = RelaxationCertificate()(folded(net), at, own, domain=domain).distance
        assert mine.numpy() == pytest.approx(layered.numpy(), rel=2e-3)
        assert bool((mine > 0).any())


def test_a_residual_sum_has_the_bounds_of_layers_that_hand_it_on() -> None:
    """Of h = relu(z) the sum h + relu(W h) is [I, I] relu([I; W] h): ReLUs of h change nothing."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.a(x))
            return self.c(hidden + self.b(hidden).relu_())

    net, unit = drawn(Residual()), torch.eye(7, dtype=torch.float64)
    both, last = nn.Linear(7, 14).double(), nn.Linear(14, 3).double()
    for parameter in (*both.parameters(), *last.parameters()):
        parameter.requires_grad_(False)
    both.weight[:], both.bias[:7] = torch.cat([unit, net.b.weight]), 0.0
    both.bias[7:] = net.b.bias
    last.weight[:], last.bias[:] = torch.cat([net.c.weight, net.c.weight], dim=1), net.c.bias
    layered = nn.Sequential(net.a, nn.ReLU(), both, nn.ReLU(), last)
    same_bounds(net, layered, points(4, 5), torch.tensor([0, 1, 2, 0]))


CONVOLUTIONS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(2, 4, 3, padding=1), (2, 5, 6)),
    (nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), (2, 7, 6)),
    (nn.Conv2d(4, 4, (2, 3), stride=(1, 2), padding=(0, 2), dilation=(2, 1), groups=4), (4, 6, 5)),
    (nn.Conv2d(1, 3, 2, padding=3, bias=False), (1, 3, 3)),
    (nn.Conv1d(2, 3, 3, stride=2, padding=1, dilation=2), (2, 9)),
    (nn.AvgPool2d(2), (2, 6, 7)),
    (nn.AvgPool2d(3, 2, 1), (2, 6, 6)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 6, 6)),
    (nn.AdaptiveAvgPool2d(2), (2, 6, 4)),
    (nn.AvgPool1d(2), (2, 6)),
    (nn.BatchNorm2d(3), (3, 3, 2)),
    (nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(2, 2, 3)), (2, 4, 4)),
]


@pytest.mark.parametrize("case", range(len(CONVOLUTIONS)))
def test_a_layer_has_the_bounds_of_its_dense_matrix(case: int) -> None:
    layer, shape = CONVOLUTIONS[case]
    layer = drawn(layer, case)
    dim = math.prod(shape)
    blank = torch.zeros(1, *shape, dtype=torch.float64)
    constant = layer(blank).flatten()
    matrix = (layer(torch.eye(dim).double().reshape(-1, *shape)) - layer(blank)).flatten(1).T

    def dense(weight: Tensor, bias: Tensor) -> nn.Module:
        made = nn.Linear(weight.shape[1], weight.shape[0]).double().requires_grad_(False)
        made.weight[:], made.bias[:] = weight, bias
        return made

    before, after = drawn(nn.Linear(5, dim), 1), drawn(nn.Linear(len(constant), 9), 2)
    last = drawn(nn.Linear(9, 3), 3)
    mine = nn.Sequential(
        before, nn.ReLU(), nn.Unflatten(1, shape), layer, nn.ReLU(), nn.Flatten(), after, nn.ReLU()
    ).append(last)
    theirs = nn.Sequential(
        before, nn.ReLU(), dense(matrix, constant), nn.ReLU(), after, nn.ReLU(), last
    )
    same_bounds(mine, theirs, points(3, 5), torch.tensor([0, 1, 2]))
    first = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), after)
    same_bounds(
        first,
        nn.Sequential(nn.Flatten(), dense(matrix, constant), nn.ReLU(), after),
        points(3, *shape),
        torch.tensor([0, 8, 2]),
        cap=False,
    )


def test_normalisation_and_a_choice_of_classes_are_read_through() -> None:
    net = drawn(nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5)))
    mean, std = torch.tensor([0.3, -0.2]), torch.tensor([0.5, 2.0])
    pair = tb.as_classifier(net, classes=(4, 1), preprocess=(mean, std, (2, 3, 3)))
    first = drawn(nn.Conv2d(2, 3, 2))
    first.weight[:] = net[0].weight / std.double()[None, :, None, None]
    shift = (net[0].weight * (mean / std).double()[None, :, None, None]).sum((1, 2, 3))
    first.bias[:] = net[0].bias - shift
    last = drawn(nn.Linear(12, 1))
    last.weight[:] = net[3].weight[1] - net[3].weight[4]
    last.bias[:] = net[3].bias[1] - net[3].bias[4]
    by_hand = nn.Sequential(nn.Unflatten(1, (2, 3, 3)), first, nn.ReLU(), nn.Flatten(), last)
    for size in SIZES:
        for mine, theirs in zip(
            bounds(pair, points(4, 18), size), bounds(by_hand, points(4, 18), size), strict=True
        ):
            assert mine.numpy() == pytest.approx(theirs.numpy(), rel=1e-9, abs=1e-9)


def disc(size: float, n: int = 801) -> Tensor:
    """Return a fine grid of a disc around the origin."""
    line = torch.linspace(-size, size, n, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    return grid[grid.norm(dim=1) <= size]


def test_a_leaky_unit_is_bounded_as_its_two_lines_are() -> None:
    """Of one unit the upper bound is the chord's end, the lower one that of the better line."""
    net = nn.Sequential(nn.Linear(2, 1), nn.LeakyReLU(0.2), nn.Flatten()).double()
    net.requires_grad_(False)
    net[0].weight[:], net[0].bias[:] = torch.tensor([[3.0, 4.0]]), 1.0
    lower, upper = bounds(net, torch.zeros(1, 2).double(), 0.5)  # z in [-1.5, 3.5]
    values = outputs(net, disc(0.5))
    assert values.min().item() == pytest.approx(-0.3, abs=1e-3)
    assert values.max().item() == pytest.approx(3.5, abs=1e-3)
    assert upper.item() == pytest.approx(3.5)
    assert lower.item() == pytest.approx(-0.3)  # the interval's: the line of slope 1 ends at -1.5
    encloses(net, points(20, 2), 0.7)


def pooled(seed: int, slope: float) -> nn.Module:
    stride, padding = 1 + seed % 3, seed % 2
    side = (4 + 2 * padding - 2) // stride + 1
    return drawn(
        nn.Sequential(
            nn.Linear(2, 16),
            nn.Unflatten(1, (1, 4, 4)),
            nn.MaxPool2d(2, stride, padding),
            nn.LeakyReLU(slope),
            nn.Flatten(),
            nn.Linear(side**2, 1),
        ),
        seed,
    )


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_tiny_networks_with_pools_against_a_grid(slope: float) -> None:
    for seed in range(20):
        net = pooled(seed, slope)
        x, size = torch.zeros(1, 2).double(), 0.3
        values = outputs(net, disc(size, 101))
        lower, upper = bounds(net, x, size)
        low, high = interval_bounds(net, x, size)
        assert low.item() - 1e-9 <= lower.item() <= values.min().item() + 1e-9
        assert high.item() + 1e-9 >= upper.item() >= values.max().item() - 1e-9


def test_a_pool_in_which_one_unit_dominates_is_linear() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2)), nn.MaxPool2d(2), nn.Flatten())
    net = net.double().requires_grad_(False)
    net[0].weight[:] = torch.tensor([[1.0, 0], [0, 1], [3, 4], [1, 1]])
    net[0].bias[:] = torch.tensor([0.0, 0, 9, 0])
    lower, upper = bounds(net, torch.zeros(1, 2).double(), 1.0)
    assert (lower.item(), upper.item()) == (pytest.approx(4.0), pytest.approx(14.0))


# --------------------------------------------------------------------------------- random graphs


class Graph(nn.Module):
    """Random layers on images of 2 channels, with random sums of earlier images of a shape."""

    def __init__(self, kinds: list[int], n_out: int) -> None:
        super().__init__()
        self.kinds = kinds
        self.parts = nn.ModuleList(self.layer(kind) for kind in kinds)
        self.n_out = n_out
        size = self.images(torch.zeros(1, 32))[0].numel()
        self.last = nn.Linear(size, n_out)

    @staticmethod
    def layer(kind: int) -> nn.Module:
        return (
            nn.Conv2d(2, 2, 3, padding=1),
            nn.ReLU(),
            nn.LeakyReLU(0.3, inplace=True),
            nn.BatchNorm2d(2).eval(),
            nn.AvgPool2d(3, 1, 1),
            nn.MaxPool2d(2, 1, 1),
            nn.Conv2d(2, 2, 2, stride=2, padding=1, groups=2),
            nn.PReLU(2),
            nn.Identity(),
        )[kind]

    def images(self, x: Tensor) -> Tensor:
        image = x.view(-1, 2, 4, 4)
        earlier = [image]
        for kind, part in zip(self.kinds, self.parts, strict=True):
            if kind == 8:  # a sum with an earlier one, each scaled
                fitting = [old for old in earlier if old.shape == image.shape]
                image = 0.5 * image - fitting[0] / 3 + 0.1
            else:
                image = part(image.clone() if kind == 2 else image)
            earlier.append(image)
        return image

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.images(x).flatten(1))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.integers(0, 8), min_size=1, max_size=7),
    n_out=st.sampled_from([1, 2, 3]),
    size=st.floats(0, 2),
    seed=st.integers(0, 1000),
    work=st.sampled_from([None, 1e9, 3000.0, 0.0]),
)
def test_no_sampled_point_violates_the_bounds_of_random_graphs(
    kinds: list[int], n_out: int, size: float, seed: int, work: float | None
) -> None:
    net = drawn(Graph(kinds, n_out), seed)
    for part in net.parts:
        if isinstance(part, nn.PReLU):
            part.weight.copy_(part.weight.abs().clamp(max=1))
    x, y = points(3, 32, seed=seed), torch.arange(3) % max(2, n_out)
    with pytest.MonkeyPatch.context() as patch:
        if work is not None:  # the way of large networks, through all layers or some
            patch.setattr(_network, "_WORK", 0.0)
            patch.setattr(_tangents, "_WORK", work)
        encloses(net, x, size, y, n=60)
        radius = RelaxationCertificate(tolerance=0.01)(net, x, y).distance
    for row in range(3):
        if 0 < radius[row] < 1e5:
            around = in_balls(x[row : row + 1], radius[row].item(), 100)[:, 0]
            assert bool((wrongness(net, around, y[row].expand(100)) < 0).all())


def test_a_large_network_is_bounded_below_what_an_attack_finds() -> None:
    net = zoo.load("mnist-0-6-symmetric-cnn")
    x, y = zoo.problem("mnist-0-6-symmetric").sample(1, generator=torch.Generator().manual_seed(0))
    proven = RelaxationCertificate(tolerance=0.1)(net, x, y).distance
    found = NearestError()(net, x, y).distance
    assert 0.01 < (proven / found).item() < 1
    around = in_balls(x.double(), proven.item(), 200)[:, 0]
    assert bool((wrongness(net, around.float(), y.expand(200)) < 0).all())


def test_what_would_take_too_long_is_not_begun() -> None:
    net = drawn(Net(), dtype=torch.float32)
    x, y = points(2, 6), torch.tensor([0, 1])
    with pytest.raises(Unreadable, match=r"a point takes .* multiplications, more than 1e"):
        RelaxationCertificate(most_work=10.0)(net, x, y)
    wide = AllConvolutionalNetwork((1, 28, 28), 64, generator=torch.Generator().manual_seed(0))
    found = distances_from(wide, torch.zeros(1, 784), int(wide.predict(torch.zeros(1, 784))))
    assert "no lower bound, because its layers are so large" in found.method


# --------------------------------------------------------------------------------------- refusals


class Does(nn.Module):
    """A linear layer with something done to its input."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.what(x))


def writes_into_a_view(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :2].mul_(2)
    return x


REFUSED: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (torch.tanh, "no relaxation of the operation 'tanh' is known"),
    (lambda x: x * x, "multiplies or divides by what depends on its points"),
    (lambda x: x - x.mean(0), "combines several points|by broadcasting"),
    (lambda x: x.flip(0), "combines several points with one another"),
    (lambda x: x if x.sum() > 0 else -x, "depends on the values of its points"),
    (lambda x: x if x[0, 0].item() > 9 else -x, "depends on the values of its points"),
    (lambda x: x if x.numpy().sum() > 9 else -x, r"cannot be recorded \(.*numpy"),
    (lambda x: x + torch.rand_like(x), "no relaxation of the operation 'rand_like' is known"),
    (writes_into_a_view, "a view of a tensor that it changed"),
    (lambda x: functional.dropout(x), "no relaxation of the operation"),
    (lambda x: functional.leaky_relu(x, -0.1), "slope outside of 0 to 1"),
    (lambda x: functional.batch_norm(x, None, None, training=True), "statistics of the batch"),
    (
        lambda x: functional.max_pool2d(
            torch.cat([x, x], 1).reshape(-1, 2, 4, 1), (3, 1), 2, ceil_mode=True
        ).flatten(1),
        "ceil_mode",
    ),
    (
        lambda x: functional.conv_transpose1d(x[:, None], torch.ones(1, 1, 1).to(x)).flatten(1),
        "transposed convolution",
    ),
    (lambda x: (x @ x.T) @ x, "exchanges the axis of the points|depends on its points"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_what_is_not_known_is_refused_by_its_name(case: int) -> None:
    what, why = REFUSED[case]
    net, x = drawn(Does(what), dtype=torch.float32), points(3, 4).float()
    with pytest.raises(Unreadable, match=why):
        bounds(net, x, 0.1)


def test_what_is_refused_is_said_where_distances_are_measured() -> None:
    net = drawn(Does(torch.tanh), dtype=torch.float32)
    net.layer.bias.zero_()
    for found in tb.distances(net, tb.ConcentricSpheres(4), n_points=3):
        assert found.method.startswith(
            "no certificate (no lower bound, because no relaxation of the operation 'tanh' is "
            "known) below"
        )
    soft = nn.Sequential(drawn(nn.Linear(4, 2), dtype=torch.float32), nn.Softmax(1))
    probabilities = tb.as_classifier(soft, outputs="probability")
    found, _ = tb.distances(probabilities, tb.ConcentricSpheres(4), n_points=3)
    assert "no certificate (" in found.method


def test_a_network_that_does_not_do_what_was_recorded_is_found_out() -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(4, 1), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.layer(x) + 0.01 * self.calls

    net = drawn(Moody(), dtype=torch.float32)
    with pytest.raises(Disagreement, match="points differ"):
        RelaxationCertificate()(net, points(3, 4), torch.tensor([0, 1, 0]))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("trained", [True, False])
def test_scripted_networks_are_read_and_nothing_of_a_network_is_changed(trained: bool) -> None:
    net = drawn(Net(3), dtype=torch.float32).train(trained)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    x, y = points(4, 6), torch.tensor([0, 1, 2, 0])
    found = RelaxationCertificate()(net, x, y).distance
    assert net.training == trained
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    if not trained:
        scripted = torch.jit.trace(net, x.float())
        assert torch.equal(RelaxationCertificate()(scripted, x, y).distance, found)
