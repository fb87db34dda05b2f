"""Linear-relaxation bounds: reference values, sampling, intervals, attacks, bad input."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trueboundary.attacks import NearestError
from trueboundary.certificates import (
    RelaxationCertificate,
    bounds,
    certified_at,
    interval_bounds,
)
from trueboundary.classifiers import ReLUNetwork
from trueboundary.domains import Space, Sphere

Layers = list[tuple[Tensor, Tensor]]
Region = Literal["ball", "cap"]

REFERENCE = json.loads((Path(__file__).parents[1] / "reference.json").read_text())["g_crown_net"]
SIZES = ("0.05", "0.1", "0.2")
REGIONS: tuple[Region, ...] = ("ball", "cap")


def sequence(*layers: tuple[Tensor, Tensor]) -> torch.nn.Sequential:
    """Return linear layers with ReLU between them."""
    parts: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(*weight.T.shape, device="meta", dtype=weight.dtype)
        linear = linear.to_empty(device="cpu")
        linear.load_state_dict({"weight": weight, "bias": bias})
        parts += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


def reference_network() -> Layers:
    """Return the network that the reference values were computed for, made of sines."""

    def weight(n_out: int, n_in: int, shift: float, factor: float) -> Tensor:
        i, j = np.arange(n_out)[:, None], np.arange(n_in)[None]
        return torch.from_numpy(factor * np.sin(1.7 * i + 0.9 * j + shift) / math.sqrt(n_in))

    unit = torch.arange(16, dtype=torch.float64)
    return [
        (weight(16, 6, 0.3, 2.0), 0.2 * torch.cos(unit)),
        (weight(16, 16, 0.7, 2.0), 0.2 * torch.cos(2 * unit)),
        (weight(1, 16, 1.1, 1.0), torch.tensor([-0.6], dtype=torch.float64)),
    ]


def reference_point() -> Tensor:
    """Return its point, on the unit sphere."""
    return torch.full((1, 6), 6**-0.5, dtype=torch.float64)


def random_layers(dim: int, width: int, depth: int, seed: int) -> Layers:
    """Return a network with Gaussian weights, float64."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [dim, *[width] * depth, 1]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [
        (draw(n_out, n_in) / math.sqrt(n_in), 0.3 * draw(n_out)) for n_in, n_out in pairwise(sizes)
    ]


def forward(layers: Layers, x: Tensor) -> Tensor:
    """Return the margin, (n,)."""
    for weight, bias in layers[:-1]:
        x = torch.relu(x @ weight.T + bias)
    weight, bias = layers[-1]
    return (x @ weight.T + bias).squeeze(1)


def sample(x: Tensor, size: float, region: Region, n: int, seed: int) -> Tensor:
    """Return points (n, d) of the region around one point x (d,), half of them on its rim."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(n, len(x), generator=generator, dtype=torch.float64)
    share = 2 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    length = size * share.clamp(max=1)
    if region == "ball":
        return x + length * direction / direction.norm(dim=1, keepdim=True)
    pole = x / x.norm()
    tangent = direction - (direction @ pole)[:, None] * pole
    tangent = tangent / tangent.norm(dim=1, keepdim=True)
    return x.norm() * (length.cos() * pole + length.sin() * tangent)


def test_the_reference_network_has_its_reference_margin() -> None:
    margin = forward(reference_network(), reference_point()).item()
    assert margin == pytest.approx(REFERENCE["logit"], rel=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_reference_bounds(size: str) -> None:
    layers, x = reference_network(), reference_point()
    lower, upper = bounds(layers, x, float(size))
    assert lower.item() == pytest.approx(REFERENCE["ball_lb"][size], rel=1e-13)
    assert upper.item() == pytest.approx(REFERENCE["ball_ub"][size], rel=1e-13)
    _, upper = bounds(layers, x, float(size), region="cap")
    assert upper.item() == pytest.approx(REFERENCE["cap_ub"][size], rel=1e-13)


def test_reference_radii() -> None:
    # The reference radii were bisected to 4e-13 and rounded down; here the last digit is sought.
    certificate = RelaxationCertificate(tolerance=1e-14)
    layers, x, y = reference_network(), reference_point(), torch.tensor([0])
    network = sequence(*layers)
    ball = certificate(network, x, y).distance
    cap = 2 * torch.arcsin(certificate(network, x, y, domain=Sphere()).distance / 2)
    assert ball.item() == pytest.approx(REFERENCE["cert_radius_ball"], abs=4e-13)
    assert cap.item() == pytest.approx(REFERENCE["cert_radius_cap"], abs=4e-13)
    assert certified_at(layers, x, y, ball).all()
    assert not certified_at(layers, x, y, ball * (1 + 1e-12)).any()
    assert not certified_at(layers, x, y, cap * (1 + 1e-12), region="cap").any()


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_sampled_point_violates_the_bounds(region: Region, depth: int) -> None:
    layers = random_layers(4, 12, depth, seed=depth)
    x = torch.tensor([[0.7, -0.4, 0.3, 0.9]], dtype=torch.float64)
    for size in (0.05, 0.4, 2.0, 3.1):
        lower, upper = bounds(layers, x, size, region=region)
        values = forward(layers, sample(x[0], size, region, 100_000, seed=1))
        rounding = 1e-13 * float(values.abs().max())
        assert lower.item() <= values.min().item() + rounding
        assert upper.item() >= values.max().item() - rounding


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    dim=st.integers(1, 5),
    width=st.integers(1, 9),
    depth=st.integers(0, 4),
    size=st.floats(0, 3.1),
    seed=st.integers(0, 1000),
)
def test_bounds_enclose_samples_and_are_never_looser_than_intervals(
    dim: int, width: int, depth: int, size: float, seed: int
) -> None:
    layers = random_layers(dim, width, depth, seed)
    x = torch.randn(3, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for region in REGIONS:
        lower, upper = bounds(layers, x, size, region=region)
        low, high = interval_bounds(layers, x, size, region=region)
        rounding = 1e-13 * (1 + high - low)
        assert bool((lower >= low - rounding).all())
        assert bool((upper <= high + rounding).all())
        for row in range(3 if dim > 1 else 0):
            values = forward(layers, sample(x[row], size, region, 300, seed))
            assert lower[row] - rounding[row] <= values.min()
            assert values.max() <= upper[row] + rounding[row]


def test_a_region_of_size_zero_is_the_point_itself() -> None:
    layers = random_layers(5, 20, 2, seed=3)
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for region in REGIONS:
        for bound in (*bounds(layers, x, 0.0, region=region),):
            assert bound.numpy() == pytest.approx(forward(layers, x).numpy(), abs=1e-13)


def test_linear_networks_and_undisturbed_units_are_bounded_exactly() -> None:
    """Without an undecided unit the network is linear, and its extremes on the regions exact."""
    weight = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    linear: Layers = [(weight, torch.zeros(1, dtype=torch.float64))]
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    lower, upper = bounds(linear, x, 0.5)
    assert lower.tolist() == pytest.approx([0.5, 2.5])
    assert upper.tolist() == pytest.approx([5.5, 7.5])
    # On the circle the weight points at the second point; 0.5 rad from it is the minimum.
    lower, upper = bounds(linear, x, 0.5, region="cap")
    angle = math.acos(0.6)
    assert upper.tolist() == pytest.approx([5 * math.cos(angle - 0.5), 5.0])
    assert lower.tolist() == pytest.approx([5 * math.cos(angle + 0.5), 5 * math.cos(0.5)])
    lower, upper = bounds(linear, x, math.pi, region="cap")
    assert (lower.tolist(), upper.tolist()) == (
        pytest.approx([-5.0, -5.0]),
        pytest.approx([5.0, 5.0]),
    )


def test_points_are_bounded_alike_alone_and_together() -> None:
    layers = random_layers(6, 30, 2, seed=5)
    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sizes = np.linspace(0.01, 1.0, 9)
    together = bounds(layers, x, sizes, region="cap")
    for row in range(9):
        alone = bounds(layers, x[row : row + 1], sizes[row], region="cap")
        for whole, single in zip(together, alone, strict=True):
            assert whole[row].item() == pytest.approx(single.item(), rel=1e-12)


@pytest.mark.parametrize("batch_norm", ["before-activation", "after-activation"])
def test_batch_normalisation_is_folded_in(batch_norm: Any) -> None:
    generator = torch.Generator().manual_seed(4)
    network = ReLUNetwork(5, 16, 2, batch_norm=batch_norm, generator=generator)
    x = torch.randn(50, 5, generator=generator)
    network.train()
    network(3 * x + 1)  # moves the running averages away from their start
    lower, upper = bounds(network, x, 0.0)  # of eval mode, whatever mode the network is in
    assert network.training
    assert all(norm.training for norm in network.norm)
    network.eval()
    margin = network.margin(x).detach().double().numpy()
    assert lower.numpy() == pytest.approx(margin, abs=1e-5)
    assert upper.numpy() == pytest.approx(margin, abs=1e-5)


@pytest.fixture(scope="module")
def trained() -> tuple[ReLUNetwork, Tensor, Tensor]:
    """Return a small network trained on two spheres in five dimensions, and points of both."""
    generator = torch.Generator().manual_seed(0)
    network = ReLUNetwork(5, 40, 2, batch_norm=None, generator=generator, dtype=torch.float64)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)

    def batch(n: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, 5, generator=generator, dtype=torch.float64)
        y = torch.arange(n) % 2
        return x / x.norm(dim=1, keepdim=True) * (1 + 0.3 * y[:, None]), y

    for _ in range(150):
        x, y = batch(100)
        loss = torch.nn.functional.softplus((1 - 2 * y) * network.margin(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = batch(40)
    return network.eval().requires_grad_(False), x, y


def test_no_attack_beats_a_certificate(trained: tuple[ReLUNetwork, Tensor, Tensor]) -> None:
    network, x, y = trained
    certificate = RelaxationCertificate()
    sphere = certificate(network, x, y, domain=Sphere())
    attack = NearestError()
    on = attack(network, x, y, domain=Sphere())
    assert (sphere.distance <= on.distance).all()
    space = certificate(network, x, y, domain=Space())
    off = attack(network, x, y, domain=Space())
    assert (space.distance <= off.distance).all()
    found = torch.isfinite(off.distance) & (space.distance > 0)
    assert found.sum() > 20  # the comparison was one
    assert (space.distance[found] / off.distance[found]).median() > 0.3
    # A cap lies in the ball whose radius is its chord.
    assert (sphere.distance >= space.distance * (1 - 1e-3)).all()


def test_certified_radii_are_tight_to_the_tolerance(
    trained: tuple[ReLUNetwork, Tensor, Tensor],
) -> None:
    network, x, y = trained
    distance = RelaxationCertificate(tolerance=1e-4)(network, x, y).distance
    right = distance > 0
    assert certified_at(network, x[right], y[right], distance[right]).all()
    beyond = distance[right] * (1 + 2e-4)
    assert not certified_at(network, x[right], y[right], beyond).any()


def test_a_margin_of_zero_is_an_error_of_either_class() -> None:
    layers: Layers = [(torch.ones(1, 2), torch.zeros(1))]
    x, y = torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([0, 1])
    assert RelaxationCertificate()(sequence(*layers), x, y).distance.tolist() == [0.0, 0.0]
    assert not certified_at(layers, x, y, 0.0).any()


def test_constant_networks_have_no_errors_at_any_distance() -> None:
    network = sequence(
        (torch.zeros(3, 2), torch.ones(3)),
        (torch.ones(1, 3), torch.zeros(1)),
    )
    x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([1, 1])
    on_sphere = RelaxationCertificate()(network, x, y, domain=Sphere())
    assert on_sphere.distance.isinf().all()
    assert on_sphere.exact.all()
    in_space = RelaxationCertificate()(network, x, y)
    assert (in_space.distance > 1e6).all()  # a lower bound: no ball is all of space
    assert not in_space.exact.any()


def test_distances_on_the_sphere_are_chords_at_any_radius() -> None:
    """A hyperplane's nearest error on a circle is known: a certificate must reach it."""
    network = sequence((torch.tensor([[1.0, 0.0]]), torch.tensor([-1.0])))  # errors at z_1 >= 1
    x, y = torch.tensor([[0.0, 2.0]], dtype=torch.float64), torch.tensor([0])
    result = RelaxationCertificate(tolerance=1e-12)(network, x, y, domain=Sphere(2.0))
    assert result.distance.item() == pytest.approx(2 * 2.0 * math.sin(math.pi / 12), rel=1e-11)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"network": "abc"}, TypeError, "ReLUNetwork, a Linear, a Sequential or a sequence"),
    ({"network": 3}, TypeError, "ReLUNetwork, a Linear, a Sequential or a sequence"),
    ({"network": []}, ValueError, "at least one layer"),
    ({"network": random_layers(6, 4, 1, 0)[:1]}, ValueError, "4 classes has no margin"),
    ({"network": [(torch.ones(2, 6), torch.ones(3))]}, ValueError, "bias"),
    (
        {"network": [(torch.ones(2, 6), torch.ones(2)), (torch.ones(1, 3), torch.ones(1))]},
        ValueError,
        "cannot follow",
    ),
    ({"network": [(torch.full((1, 6), math.nan), torch.ones(1))]}, ValueError, "finite"),
    ({"x": torch.ones(2, 5)}, ValueError, "points of 6 numbers"),
    ({"x": torch.ones(6)}, ValueError, r"shape \(n, \*event\)"),
    ({"x": torch.full((1, 6), math.inf)}, ValueError, "finite"),
    ({"size": -0.1}, ValueError, "at least 0"),
    ({"size": math.nan}, ValueError, "at least 0"),
    ({"size": [0.1, 0.2]}, ValueError, r"shape \(1,\)"),
    ({"size": 3.2, "region": "cap"}, ValueError, "from 0 to pi"),
    ({"region": "box"}, ValueError, "'ball', 'cap'"),
    ({"region": "cap", "x": torch.zeros(1, 6)}, ValueError, "origin"),
]


@pytest.mark.parametrize(("change", "error", "match"), BAD)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments: dict[str, Any] = {
        "network": reference_network(),
        "x": reference_point(),
        "size": 0.1,
        "region": "ball",
        **change,
    }
    network, x, size = (arguments.pop(name) for name in ("network", "x", "size"))
    with pytest.raises(error, match=match):
        bounds(network, x, size, **arguments)


def test_bad_labels_and_tolerances() -> None:
    layers, x = reference_network(), reference_point()
    for labels in (torch.tensor([2]), torch.tensor([0, 1])):
        with pytest.raises(ValueError, match="label"):
            certified_at(layers, x, labels, 0.1)
    for tolerance in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="tolerance"):
            RelaxationCertificate(tolerance=tolerance)


# ------------------------------------------------------------- three classes and more


def logits(layers: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        x = torch.relu(x @ w.double().T + b.double())
    return x @ weight.double().T + bias.double()


def wrongnesses(found: Tensor, y: Tensor) -> Tensor:
    own = torch.nn.functional.one_hot(y, found.shape[1]).bool()
    return found.masked_fill(own, -math.inf).max(dim=1).values - found[own]


@pytest.mark.parametrize("region", ["ball", "cap"])
@pytest.mark.parametrize("n_classes", [3, 10])
def test_no_sample_of_a_region_is_more_wrong_than_its_bound(region: str, n_classes: int) -> None:
    *hidden, (weight, _) = random_layers(5, 12, 2, 3)
    generator = torch.Generator().manual_seed(4)
    top = torch.randn(n_classes, weight.shape[1], generator=generator).double()
    layers = [*hidden, (top, torch.randn(n_classes, generator=generator).double())]
    x = torch.randn(6, 5, generator=generator).double()
    y = torch.arange(6) % n_classes
    for size in (0.05, 0.3, 1.0):
        lower, upper = bounds(layers, x, size, y=y, region=region)  # type: ignore[arg-type]
        loose_lower, loose_upper = interval_bounds(layers, x, size, y=y, region=region)  # type: ignore[arg-type]
        assert bool((loose_lower <= lower).all() and (upper <= loose_upper).all())
        steps = torch.randn(6, 4000, 5, generator=generator).double()
        if region == "cap":
            pole = (x / x.norm(dim=1, keepdim=True))[:, None]
            steps = steps - (steps * pole).sum(2, keepdim=True) * pole
            angle = size * torch.rand(6, 4000, 1, generator=generator).double().sqrt()
            steps = steps / steps.norm(dim=2, keepdim=True)
            seen = x.norm(dim=1)[:, None, None] * (angle.cos() * pole + angle.sin() * steps)
        else:
            steps = steps / steps.norm(dim=2, keepdim=True)
            seen = x[:, None] + size * torch.rand(6, 4000, 1, generator=generator) ** 0.3 * steps
        found = wrongnesses(logits(layers, seen.reshape(-1, 5)), y.repeat_interleave(4000)).reshape(
            6, 4000
        )
        assert bool((found <= upper[:, None] + 1e-12).all())
        assert bool((found >= lower[:, None] - 1e-12).all())


def test_all_pairs_at_once_are_the_pairs_one_by_one() -> None:
    *hidden, (weight, _) = random_layers(5, 12, 2, 3)
    generator = torch.Generator().manual_seed(4)
    top = torch.randn(4, weight.shape[1], generator=generator).double()
    bias = torch.randn(4, generator=generator).double()
    x = torch.randn(8, 5, generator=generator).double()
    y = logits([*hidden, (top, bias)], x).argmax(dim=1)
    together = bounds([*hidden, (top, bias)], x, 0.2, y=y)[1]
    certified = RelaxationCertificate(1e-9)
    network = sequence(*hidden, (top, bias))
    radius = certified(network, x, y).distance
    for row in range(8):
        own, worst, least = int(y[row]), -math.inf, math.inf
        for other in set(range(4)) - {own}:
            pair = [*hidden, (top[[own, other]], bias[[own, other]])]
            _, upper = bounds(pair, x[row : row + 1], 0.2)  # of f_other - f_own
            worst = max(worst, float(upper))
            alone = certified(sequence(*pair), x[row : row + 1], torch.tensor([0])).distance
            least = min(least, float(alone))
        assert float(together[row]) == pytest.approx(worst, abs=1e-12)
        assert float(radius[row]) == pytest.approx(least, rel=1e-6)


def test_labels_bound_the_wrongness_of_two_classes_by_the_margin() -> None:
    layers, x = random_layers(6, 4, 2, 0), torch.eye(6).double()[:5]
    lower, upper = bounds(layers, x, 0.1)
    y = torch.tensor([0, 1, 0, 1, 1])
    wrong_lower, wrong_upper = bounds(layers, x, 0.1, y=y)
    one = y == 1
    assert torch.equal(wrong_lower, torch.where(one, -upper, lower))
    assert torch.equal(wrong_upper, torch.where(one, -lower, upper))
    assert torch.equal(certified_at(layers, x, y, 0.1), wrong_upper < 0)
