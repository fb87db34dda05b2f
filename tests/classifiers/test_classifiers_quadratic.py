"""The quadratic network and its exact ellipsoid."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueboundary.classifiers import QuadraticNetwork, max_margin_alpha
from trueboundary.problems import ConcentricSpheres

GOOD = 1 / 1.15**2


def from_alphas(alphas, *, scale=2.0, weight=1.0, seed=0):
    """Return a float64 network with these alphas in a random basis."""
    dim = len(alphas)
    generator = torch.Generator().manual_seed(seed)
    network = QuadraticNetwork(dim, dim, generator=generator, dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    squares = torch.as_tensor(alphas, dtype=torch.float64) * scale / weight
    with torch.no_grad():
        network.hidden_weight.copy_(squares.sqrt()[:, None] * q.T)
        network.weight.fill_(weight)
        network.bias.fill_(-scale)
    return network


def margins(ellipsoid, x):
    z = ellipsoid.to_eigenbasis(x.numpy())
    return ellipsoid.scale * ((ellipsoid.alphas * z**2).sum(1) - 1)


def test_parameter_count_of_the_paper(generator):
    network = QuadraticNetwork(500, 1000, generator=generator)
    assert sum(p.numel() for p in network.parameters()) == 500_002


def test_initial_alphas_surround_both_spheres(generator):
    ellipsoid = QuadraticNetwork(100, 200, generator=generator).ellipsoid()
    assert not ellipsoid.is_inverted
    # mean_alpha plus or minus four standard errors, sqrt(2 * 0.8**2 / (dim * width)).
    assert abs(ellipsoid.alphas.mean() - 0.8) < 4 * 0.8 * math.sqrt(2 / 20_000)
    assert ellipsoid.n_above > 0
    assert ellipsoid.n_below() > 0


def test_mean_alpha_does_not_depend_on_the_split(generator):
    network = QuadraticNetwork(50, 400, generator=generator, weight=3.0, bias=-7.0, mean_alpha=0.5)
    assert network.alphas().mean() == pytest.approx(0.5, abs=4 * 0.5 * math.sqrt(2 / 20_000))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    alphas=st.lists(st.floats(0.0, 5.0), min_size=2, max_size=8),
    scale=st.floats(0.1, 50.0),
    weight=st.floats(0.1, 10.0),
    seed=st.integers(0, 1000),
)
def test_the_ellipsoid_is_the_network(alphas, scale, weight, seed):
    network = from_alphas(alphas, scale=scale, weight=weight, seed=seed)
    ellipsoid = network.ellipsoid()
    np.testing.assert_allclose(ellipsoid.alphas, sorted(alphas), atol=1e-13, rtol=1e-12)
    np.testing.assert_allclose(network.alphas(), ellipsoid.alphas, atol=1e-13, rtol=1e-12)
    np.testing.assert_allclose(ellipsoid.axes.T @ ellipsoid.axes, np.eye(len(alphas)), atol=1e-12)
    x = torch.randn(
        20, len(alphas), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    expected = network.margin(x).detach().numpy()
    np.testing.assert_allclose(margins(ellipsoid, x), expected, rtol=1e-9, atol=1e-10 * scale)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_rotating_space_changes_no_alpha_and_no_error(seed):
    generator = torch.Generator().manual_seed(seed)
    network = from_alphas([0.3, 0.5, 0.8, 1.1, 1.6], seed=seed)
    rotated = from_alphas([0.3, 0.5, 0.8, 1.1, 1.6], seed=seed)
    q, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    with torch.no_grad():
        rotated.hidden_weight.copy_(network.hidden_weight @ q)
    np.testing.assert_allclose(rotated.alphas(), network.alphas(), rtol=1e-12)
    x, _ = ConcentricSpheres(5).sample(100, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(rotated.margin(x @ q), network.margin(x), rtol=1e-9, atol=1e-10)


def test_counting_alphas():
    ellipsoid = from_alphas([0.2, 0.5, 0.6, 0.99, 1.01, 1.2, 3.0]).ellipsoid()
    assert (ellipsoid.n_below(1.3), ellipsoid.n_above, ellipsoid.n_bad(1.3)) == (2, 3, 5)
    assert ellipsoid.n_below(2.0) == 1
    assert not ellipsoid.is_perfect(1.3)
    assert ellipsoid.dim == 7


def test_perfect_means_no_errors():
    network = from_alphas([0.6, 0.7, 0.8, 0.99])
    ellipsoid = network.ellipsoid()
    assert ellipsoid.is_perfect(1.3)
    assert not ellipsoid.is_perfect(1.2)
    problem = ConcentricSpheres(4)
    x, y = next(problem.blocks(5000, seed=0, dtype=torch.float64))
    assert torch.equal(network.predict(x), y)


def test_an_inverted_network_has_the_same_alphas_and_is_always_wrong():
    network = from_alphas([0.7, 0.75, 0.8])
    with torch.no_grad():
        network.weight.neg_()
        network.bias.neg_()
    ellipsoid = network.ellipsoid()
    np.testing.assert_allclose(ellipsoid.alphas, [0.7, 0.75, 0.8])
    assert ellipsoid.n_bad(1.3) == 0
    assert ellipsoid.is_inverted
    assert not ellipsoid.is_perfect(1.3)
    x, y = next(ConcentricSpheres(3).blocks(1000, seed=0, dtype=torch.float64))
    assert torch.equal(network.predict(x), 1 - y)


def test_too_narrow_a_network_has_zero_alphas(generator):
    alphas = QuadraticNetwork(10, 4, generator=generator).alphas()
    assert (alphas[:6] < 1e-12).all()
    assert (alphas >= 0).all()
    assert (alphas[6:] > 1e-3).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_worst_points_are_the_worst(sign):
    network = from_alphas([0.3, 0.7, 0.9, 1.4], scale=5.0)
    with torch.no_grad():
        network.weight.mul_(sign)
        network.bias.mul_(sign)
    ellipsoid = network.ellipsoid()
    problem = ConcentricSpheres(4)
    for label, sphere in enumerate(("inner", "outer")):
        point = problem.radii[label] * torch.from_numpy(ellipsoid.worst_axis(sphere).copy())
        at_worst = network.margin(point[None]).item()
        assert at_worst == pytest.approx(ellipsoid.worst_margin(sphere), rel=1e-12)
        x, y = next(problem.blocks(4000, seed=0, label=label, dtype=torch.float64))
        sampled = torch.nn.functional.softplus((1 - 2 * y) * network.margin(x))
        worst = ellipsoid.worst_case_loss(sphere)
        assert sampled.max() <= worst * (1 + 1e-12)
        assert sampled.max() > 0.9 * worst  # in four dimensions a sample comes close


def test_worst_case_loss_does_not_overflow():
    assert from_alphas([0.1, 1e3], scale=1e6).ellipsoid().worst_case_loss("inner") == pytest.approx(
        999e6
    )


@pytest.mark.parametrize(
    ("basis", "dim", "width"),
    [("identity", 4, 4), ("identity", 4, 12), ("rotated", 4, 4), ("rotated", 4, 9)],
)
@pytest.mark.parametrize("weight", [None, 1.0, 7.5])
def test_perfect_network_is_a_sphere(basis, dim, width, weight, generator):
    network = QuadraticNetwork.perfect(
        dim, width, kappa=10.0, weight=weight, basis=basis, generator=generator, dtype=torch.float64
    )
    ellipsoid = network.ellipsoid()
    np.testing.assert_allclose(ellipsoid.alphas, max_margin_alpha(1.3), rtol=1e-12)
    assert ellipsoid.weight == (5.0 if weight is None else weight)
    assert ellipsoid.bias == pytest.approx(-13.225)
    assert ellipsoid.is_perfect(1.3)
    x = torch.randn(20, dim, generator=generator, dtype=torch.float64)
    expected = 10.0 * (x.square().sum(1) - 1.3225)
    torch.testing.assert_close(network.margin(x), expected, rtol=1e-12, atol=1e-12)


def test_perfect_network_of_the_paper_is_two_identities():
    network = QuadraticNetwork.perfect(500, 1000, kappa=10.0)
    eye = torch.eye(500)
    torch.testing.assert_close(network.hidden_weight.detach(), torch.cat([eye, eye]))


def test_rotated_columns_are_not_axis_aligned(generator):
    network = QuadraticNetwork.perfect(4, 8, basis="rotated", generator=generator)
    assert (network.hidden_weight != 0).all()


def test_kappa_20_gives_the_probabilities_in_the_text():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.3]])
    inner, outer = QuadraticNetwork.perfect(2, 4, kappa=20.0).margin(x).sigmoid().tolist()
    assert round(inner, 4) == 0.0016
    assert round(outer, 4) == 0.9994


@pytest.mark.parametrize(
    ("kappa", "loss"),
    # In float64: (log1p(exp(-0.3225 k)) + log1p(exp(-0.3675 k))) / 2.
    [(10.0, 0.0320), (13.2 / 1.3225, 0.0322), (20.0, 0.0011)],
)
def test_initial_loss_of_a_perfect_network(kappa, loss, generator):
    network = QuadraticNetwork.perfect(100, 100, kappa=kappa, dtype=torch.float64)
    problem = ConcentricSpheres(100)
    means = []
    for label in (0, 1):
        x = problem.sample_class(10, label, generator=generator, dtype=torch.float64)
        m = network.margin(x).detach()
        means.append(torch.nn.functional.softplus(m if label == 0 else -m).mean().item())
    assert round(sum(means) / 2, 4) == loss
    exact = (math.log1p(math.exp(-0.3225 * kappa)) + math.log1p(math.exp(-0.3675 * kappa))) / 2
    assert sum(means) / 2 == pytest.approx(exact, rel=1e-10)


def test_max_margin_alpha():
    assert max_margin_alpha(1.3) == pytest.approx(GOOD)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda g: QuadraticNetwork(2, 0, generator=g), ValueError, "width must be at least 1"),
        (lambda g: QuadraticNetwork(2, 3, generator=g, bias=1.0), ValueError, "-bias must be"),
        (lambda g: QuadraticNetwork(2, 3, generator=g, weight=0), ValueError, "weight must be"),
        (lambda g: QuadraticNetwork.perfect(3, 2), ValueError, "width >= dim, got width = 2"),
        (lambda g: QuadraticNetwork.perfect(3, 4), ValueError, "multiple of dim = 3, got 4"),
        (lambda g: QuadraticNetwork.perfect(3, 3, kappa=0), ValueError, "kappa must be"),
        (lambda g: QuadraticNetwork.perfect(3, 3, radius=1), ValueError, "radius must be"),
        (lambda g: QuadraticNetwork.perfect(3, 3, basis="rotated"), TypeError, "needs generator="),
        (lambda g: QuadraticNetwork.perfect(3, 3, basis="any"), ValueError, "basis must be"),
        (lambda g: QuadraticNetwork.perfect(3, 3).ellipsoid().worst_axis("x"), ValueError, "'x'"),
    ],
)
def test_bad_parameters(make, error, sentence, generator):
    with pytest.raises(error, match=sentence):
        make(generator)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_no_ellipsoid_without_a_bias(value):
    network = QuadraticNetwork.perfect(3, 3)
    with torch.no_grad():
        network.bias.fill_(value)
    with pytest.raises(ValueError, match="a bias other than 0"):
        network.ellipsoid()
