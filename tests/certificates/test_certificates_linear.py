"""Linear classifiers of any number of classes: distances in closed form, and against a grid."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from trueboundary.certificates import LinearCertificate, RelaxationCertificate, SVMCertificate
from trueboundary.classifiers import LinearSVM
from trueboundary.domains import Sphere


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), device="meta").to_empty(device="cpu").double()
    weights, biases = (torch.tensor(part, dtype=torch.float64) for part in (weight, bias))
    layer.load_state_dict({"weight": weights, "bias": biases})
    return layer


def random_layer(n_classes: int, dim: int, seed: int) -> nn.Linear:
    rng = np.random.default_rng(seed)
    return linear(rng.normal(size=(n_classes, dim)).tolist(), rng.normal(size=n_classes).tolist())


@pytest.mark.parametrize("n_classes", [3, 10])
def test_distances_are_those_of_a_grid(n_classes):
    layer = random_layer(n_classes, 2, seed=n_classes)
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.uniform(-2, 2, size=(16, 2)))
    y = layer(x).argmax(dim=1)
    result = LinearCertificate()(layer, x, y)
    spacing = 8 / 1600
    axis = torch.arange(-4, 4, spacing, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    winner = layer(grid).argmax(dim=1)
    for point, label, distance in zip(x, y, result.distance, strict=True):
        errors = grid[winner != label]
        found = float((errors - point).norm(dim=1).min())
        if found < 2:  # else an error beyond the grid may be nearer
            assert distance <= found * (1 + 1e-12)
            assert found - distance <= 3 * spacing
    assert result.exact.all()


@pytest.mark.parametrize("dim", [2, 3, 20])
def test_chords_are_those_of_a_search_along_great_circles(dim):
    layer = random_layer(4, dim, seed=dim)
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.normal(size=(12, dim)))
    y = layer(x).argmax(dim=1)
    result = LinearCertificate()(layer, x, y, domain=Sphere())
    weight, bias = layer.weight.double(), layer.bias.double()
    for i in range(len(x)):
        point, label = x[i], int(y[i])
        radius = point.norm()
        best = math.inf
        for other in range(4):
            if other == label:
                continue
            # Towards the hyperplane's normal, by bisection on the angle.
            into = weight[other] - weight[label]
            aside = into - (into @ point) / radius**2 * point
            aside /= aside.norm()
            angles = torch.linspace(0, math.pi, 50_001, dtype=torch.float64)
            path = radius * (angles.cos()[:, None] * point / radius + angles.sin()[:, None] * aside)
            wrong = path @ into + bias[other] - bias[label] >= 0
            if bool(wrong.any()):
                best = min(
                    best, 2 * float(radius) * math.sin(float(angles[wrong.int().argmax()]) / 2)
                )
        if math.isinf(best):
            assert math.isinf(result.distance[i])
        else:
            assert abs(float(result.distance[i]) - best) <= 1e-4 * float(radius)
            assert abs(float(result.nearest[i].norm() - radius)) <= 1e-12 * float(radius)


def test_a_sphere_whose_centre_and_point_lie_opposite_to_the_cap():
    layer = linear([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [0.0, -0.5, -9.0])
    result = LinearCertificate()(
        layer, torch.tensor([[0.0, -1.0]]).double(), torch.tensor([0]), domain=Sphere()
    )
    # From -90 degrees to 30 degrees.
    assert result.distance.item() == pytest.approx(2 * math.sin(math.radians(60)), rel=1e-12)
    assert result.exact.all()
    one = linear([[0.0], [1.0], [-1.0]], [0.0, -2.0, -9.0])
    apart = LinearCertificate()(
        one, torch.tensor([[-3.0]]).double(), torch.tensor([0]), domain=Sphere()
    )
    assert apart.distance.item() == 6
    assert apart.exact.all()


def test_equal_weights_are_an_error_everywhere_or_nowhere():
    layer = linear([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], [0.5, 0.0, 0.5])
    x, y = torch.zeros(3, 2).double(), torch.tensor([0, 1, 2])
    result = LinearCertificate()(layer, x, y)
    assert result.distance.tolist() == [0, 0, 0]  # 0 and 2 tie everywhere
    layer = linear([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], [0.5, 0.0, 0.4])
    for domain in (None, Sphere()):
        result = LinearCertificate()(layer, x + 1, y, domain=domain)
        assert result.distance.tolist() == [math.inf, 0, 0]
        assert result.exact.all()


def test_a_class_that_wins_nowhere_has_errors_all_the_same():
    # Class 2 is level with the own one at 1, where class 1 is ahead of both.
    layer = linear([[0.0], [1.0], [0.5]], [0.0, 0.0, -0.5])
    x = torch.tensor([[-1.0]]).double()
    assert LinearCertificate()(layer, x, torch.tensor([0])).distance.item() == 1
    alone = linear([[0.0], [0.5]], [0.0, -0.5])
    assert LinearCertificate()(alone, x, torch.tensor([0])).distance.item() == 2


def test_three_classes_that_meet_in_a_point():
    turns = [2 * math.pi * k / 3 for k in range(3)]
    layer = linear([[math.cos(t), math.sin(t)] for t in turns], [0.0, 0.0, 0.0])
    x = torch.tensor([[1.0, 0.0]]).double()
    result = LinearCertificate()(layer, x, torch.tensor([0]))
    assert result.distance.item() == pytest.approx(math.sin(math.pi / 3), rel=1e-14)


def test_two_classes_are_those_of_the_linear_machine():
    svm = LinearSVM(torch.tensor([3.0, 1.0, -2.0]), 0.2)
    layer = linear([[3.0, 1.0, -2.0]], [0.2])
    logits = linear([[1.0, 1.0, 1.0], [4.0, 2.0, -1.0]], [0.5, 0.7])
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()
    y = svm.predict(x)
    expected = SVMCertificate()(svm, x, y)
    for rule in (layer, logits):
        got = LinearCertificate()(rule, x, y)
        torch.testing.assert_close(got.distance, expected.distance, rtol=1e-12, atol=0)
        torch.testing.assert_close(got.nearest, expected.nearest, rtol=1e-12, atol=1e-12)


def test_a_relaxation_of_a_linear_network_is_exact_up_to_its_tolerance():
    layer = random_layer(5, 4, seed=0)
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).double()
    y = layer(x).argmax(dim=1)
    exact = LinearCertificate()(layer, x, y).distance
    relaxed = RelaxationCertificate(1e-6)(layer, x, y).distance
    torch.testing.assert_close(relaxed, exact, rtol=2e-6, atol=0)


def test_what_is_not_one_layer_is_refused():
    network = nn.Sequential(random_layer(4, 2, 0), nn.ReLU(), random_layer(3, 4, 0))
    x = torch.zeros(1, 2).double()
    with pytest.raises(TypeError, match="a single linear layer, got 2"):
        LinearCertificate()(network, x, torch.tensor([0]))
    with pytest.raises(ValueError, match="labels from 0 to 2, got"):
        LinearCertificate()(network, x, torch.tensor([3]))
    hooked = random_layer(3, 2, 0)
    hooked.register_forward_hook(lambda module, points, logits: 2 * logits)
    with pytest.raises(TypeError, match="forward hook"):
        LinearCertificate()(hooked, x, torch.tensor([0]))
