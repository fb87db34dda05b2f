"""Error rates and distances of any classifier: exact where possible, honest elsewhere."""

import math

import pytest
import torch

import trueboundary as tb
from trueboundary.attacks import ManifoldAttack
from trueboundary.theory import caps


class Cap(torch.nn.Module):
    """Calls everything outer whose first coordinate exceeds a height."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height = torch.nn.Parameter(torch.tensor(height), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] - self.height).unsqueeze(1)


@pytest.fixture
def network(generator: torch.Generator) -> tb.QuadraticNetwork:
    return tb.QuadraticNetwork(20, 40, generator=generator, dtype=torch.float64)


def test_sampled_error_rate_of_a_cap_is_its_measure() -> None:
    problem = tb.ConcentricSpheres(dim=30)
    inner, outer = tb.error_rate(Cap(0.3), problem, n_points=50_000, seed=1)
    truth = caps.measure(30, math.acos(0.3))
    assert inner.method == "sampling"
    assert inner.low <= truth <= inner.high
    assert outer.low <= 1 - caps.measure(30, math.acos(0.3 / 1.3)) <= outer.high
    assert inner.n_errors == round(inner.value * 50_000)
    assert "50,000 points" in str(inner)


def test_exact_and_sampled_error_rates_agree(network: tb.QuadraticNetwork) -> None:
    problem = tb.ConcentricSpheres(dim=20)
    exact = tb.error_rate(network, problem)
    double = _InDouble(network)
    sampled = tb.error_rate(double, problem, n_points=40_000, seed=2)
    for truth, estimate in zip(exact, sampled, strict=True):
        assert truth.method == "exact"
        assert estimate.method == "sampling"
        assert estimate.low <= truth.value <= estimate.high


def test_exact_error_rate_of_an_inverted_network_is_the_complement(
    network: tb.QuadraticNetwork,
) -> None:
    problem = tb.ConcentricSpheres(dim=20)
    before = tb.error_rate(network, problem)
    with torch.no_grad():
        network.weight.neg_()
        network.bias.neg_()
    after = tb.error_rate(network, problem)
    for a, b in zip(before, after, strict=True):
        assert a.value + b.value == pytest.approx(1.0, abs=1e-14)


def test_exact_error_rate_of_an_inverted_network_keeps_its_digits() -> None:
    network = tb.QuadraticNetwork.perfect(300, 300, dtype=torch.float64)
    with torch.no_grad():
        network.hidden_weight[0] *= 1.5  # one alpha of 1.70, all others 0.76
        upright = [rate.log10 for rate in tb.error_rate(network, tb.ConcentricSpheres(300))]
        network.weight.neg_()
        network.bias.neg_()
    inner, outer = tb.error_rate(network, tb.ConcentricSpheres(300))
    assert upright[0] < -20  # so far below an ulp of 1 that the complement rounds to 1
    assert inner.log10 == pytest.approx(-(10.0 ** upright[0]) / math.log(10), rel=1e-9)
    assert (upright[1], outer.log10) == (-math.inf, 0.0)


def test_a_network_of_another_dimension_is_refused(network: tb.QuadraticNetwork) -> None:
    for method in ("exact", "sampling"):
        with pytest.raises(ValueError, match=r"dimensions|shape"):
            tb.error_rate(network, tb.ConcentricSpheres(network.dim + 1), method=method)


def test_perfect_network_has_exactly_no_error() -> None:
    network = tb.QuadraticNetwork.perfect(dim=50, width=100)
    for rate in tb.error_rate(network, tb.ConcentricSpheres(dim=50)):
        assert rate.value == 0
        assert rate.log10 == -math.inf
        assert str(rate).splitlines()[0].endswith("0 (exact)")


def test_exactness_is_refused_where_it_is_not_known() -> None:
    with pytest.raises(ValueError, match="use method='sampling'"):
        tb.error_rate(Cap(0.3), tb.ConcentricSpheres(dim=5), method="exact")
    with pytest.raises(ValueError, match="expected method"):
        tb.error_rate(Cap(0.3), tb.ConcentricSpheres(dim=5), method="guess")  # type: ignore[arg-type]


def test_brackets_close_on_a_quadratic_network(network: tb.QuadraticNetwork) -> None:
    for found in tb.distances(network, tb.ConcentricSpheres(dim=20), n_points=30):
        assert found.n_failed == 0
        assert found.exact.all()
        assert (found.lower <= found.upper * (1 + 1e-9)).all()
        assert (found.upper <= found.lower * 1.01 + 1e-12).all()


def test_failures_are_infinite_and_kept() -> None:
    problem = tb.ConcentricSpheres(dim=30)
    inner, _ = tb.distances(
        Cap(0.95), problem, n_points=12, attack=ManifoldAttack(n_steps=20), seed=3
    )
    assert inner.n_failed == 12
    assert math.isnan(inner.mean)
    assert inner.median == math.inf
    x, _ = problem.block(0, seed=3, block_size=12, label=0, purpose="distances")
    chords = 2 * ((x[:, 0].acos() - math.acos(0.95)) / 2).sin().double().numpy()
    assert inner.lower == pytest.approx(chords, rel=2e-3)  # what is proven is there all the same
    assert not inner.exact.any()


def test_distances_to_a_cap_are_those_of_theory() -> None:
    problem = tb.ConcentricSpheres(dim=30)
    inner, _ = tb.distances(Cap(0.3).double(), problem, n_points=400, seed=4)
    low, high = inner.mean_interval
    truth = caps.mean_distance(30, caps.measure(30, math.acos(0.3)))
    # Four standard errors: the 95 % interval has a half-width of two.
    assert abs(inner.mean - truth) < 2 * (high - low) / 2


def test_public_names_exist_and_unknown_ones_do_not() -> None:
    assert len(tb.__all__) <= 30
    for name in tb.__all__:
        assert getattr(tb, name) is not None
        assert name in dir(tb)
    for name in (
        "load_dataset",
        "nearest_ellipsoid_error",
        "plot",
        "zoo",
    ):  # reached, but not exported
        assert getattr(tb, name) is not None
        assert name in dir(tb)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tb.nonsense


class _InDouble(torch.nn.Module):
    """Hides the network's type, so that its error rate must be sampled."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.double())
