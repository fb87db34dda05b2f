"""The truths that attacks are judged against, each against a second way to it."""

import itertools

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from scipy.optimize import minimize

from trueboundary.attacks import NearestError
from trueboundary.audits import MEMBERS, member, names_of_members
from trueboundary.audits.attack_members import nearest_in_box, nearest_of_pieces
from trueboundary.certificates import LinearCertificate, RelaxationCertificate
from trueboundary.classifiers import misclassified, outputs
from trueboundary.domains import Sphere

FAST = [name for name in MEMBERS if name.startswith(("linear", "ellipsoid", "gaussians"))]


def weights_of(known):
    return known.classifier.inner.weights.numpy()


@pytest.mark.parametrize("name", FAST)
def test_points_are_right_lie_in_the_domain_and_have_exact_distances(name) -> None:
    known = member(name, 5)
    assert len(known.x) == len(known.y) == 5
    assert known.domain.bind(known.x).contains(known.x).all()
    assert not misclassified(outputs(known.classifier, known.x), known.y).any()
    truth = known.find_truth()
    assert truth.exact
    assert (truth.lower > 0).all()
    assert np.isfinite(truth.lower).all()


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_the_same_whenever_it_is_made(name) -> None:
    known = member(name, 2)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(7)
        again = member(name, 2)
    assert again.digest == known.digest
    assert torch.equal(outputs(again.classifier, known.x), outputs(known.classifier, known.x))
    assert member(name, 2, seed=1).digest != known.digest


def test_half_space_is_at_the_distance_of_its_certificate() -> None:
    known = member("linear", 6)
    proven = LinearCertificate()(known.classifier.inner, known.x.double(), known.y).distance
    assert known.find_truth().lower == pytest.approx(proven.numpy(), rel=1e-12)


def test_half_space_on_the_sphere_is_at_the_chord_of_two_angles() -> None:
    known = member("linear-sphere", 6)
    layer = known.classifier.inner
    normal, level = layer.weight[0].numpy(), -float(layer.bias)
    with mp.workdps(40):
        for x, distance in zip(known.x.numpy(), known.find_truth().lower, strict=True):
            radius = mp.sqrt(mp.fsum(mpf(v) ** 2 for v in x))
            own = mp.acos(mp.fdot(map(mpf, x), map(mpf, normal)) / radius)
            edge = mp.acos(mpf(level) / radius / mp.sqrt(mp.fsum(mpf(v) ** 2 for v in normal)))
            assert distance == pytest.approx(float(2 * radius * mp.sin(abs(own - edge) / 2)))


def test_half_space_in_a_box_is_the_minimum_of_a_quadratic_program() -> None:
    rng = np.random.default_rng(0)
    x, normal = rng.random((4, 6)), rng.normal(size=6)
    far = 0.9 * np.maximum(normal, 0).sum() + 0.1 * np.minimum(normal, 0).sum()  # near the corner
    found = nearest_in_box(x, normal, far)
    for point, distance in zip(x, found, strict=True):
        best = minimize(
            lambda z, point=point: ((z - point) ** 2).sum(), point, bounds=[(0, 1)] * 6,
            constraints={"type": "ineq", "fun": lambda z: normal @ z - far},
            method="SLSQP", options={"ftol": 1e-14},
        )  # fmt: skip
        assert distance == pytest.approx(best.fun**0.5, rel=1e-6)
    beyond = np.maximum(normal, 0).sum() + 1e-6  # of every corner
    assert np.isinf(nearest_in_box(x, normal, beyond)).all()
    assert nearest_in_box(x, normal, (x @ normal).min()).min() == 0


def test_ten_classes_are_at_the_nearest_of_nine_hyperplanes() -> None:
    known = member("linear-ten", 4)
    assert known.x.shape == (4, 1, 28, 28)
    x = known.x.flatten(1).double()
    origin = outputs(known.classifier, torch.zeros(1, 784, dtype=torch.float64))[0]
    rows = outputs(known.classifier, torch.eye(784, dtype=torch.float64)) - origin  # (784, K)
    values = x @ rows + origin
    for i, own in enumerate(known.y.tolist()):
        gaps = [
            (values[i, own] - values[i, j]) / (rows[:, own] - rows[:, j]).norm()
            for j in range(10)
            if j != own
        ]
        assert known.find_truth().lower[i] == pytest.approx(float(min(gaps)), rel=1e-9)


@pytest.mark.parametrize("name", [n for n in FAST if n.startswith("ellipsoid")])
def test_ellipsoids_solve_their_secular_equation(name) -> None:
    known = member(name, 3)
    weights, on_sphere = weights_of(known), isinstance(known.domain, Sphere)
    for x, distance in zip(known.x.double().numpy(), known.find_truth().lower, strict=True):
        nearest = _nearest_by_multipliers(x, weights, on_sphere)
        assert distance == pytest.approx(nearest, rel=1e-8)


def _nearest_by_multipliers(x, weights, on_sphere):
    """Solve sum(w z^2) = 1 with z = x / (1 + s - t w), s so that |z| = |x| on the sphere."""

    def moved(t):
        if not on_sphere:
            return x / (1 - t * weights)
        low, high = t * weights.max() - 1, t * weights.max() + 1
        for _ in range(100):
            s = (low + high) / 2
            longer = np.linalg.norm(x / (1 + s - t * weights)) > np.linalg.norm(x)
            low, high = (s, high) if longer else (low, s)
        return x / (1 + s - t * weights)

    low, high = 0.0, 1e3 if on_sphere else (1 - 1e-12) / weights.max()
    for _ in range(100):
        t = (low + high) / 2
        low, high = (t, high) if weights @ moved(t) ** 2 < 1 else (low, t)
    return np.linalg.norm(moved(low) - x)


def test_gaussians_of_one_covariance_have_a_hyperplane() -> None:
    known = member("gaussians-one", 6)
    zero, one = known.classifier.inner.densities
    normal = torch.linalg.solve(zero.covariance_matrix, one.mean - zero.mean)
    level = normal @ (one.mean + zero.mean) / 2
    distance = (known.x.double() @ normal - level).abs() / normal.norm()
    assert known.find_truth().lower == pytest.approx(distance.numpy(), rel=1e-9)
    assert set(known.y.tolist()) == {0, 1}


def test_gaussians_of_two_covariances_solve_a_dense_secular_equation() -> None:
    known = member("gaussians-two", 4)
    zero, one = known.classifier.inner.densities
    first, second = (d.covariance_matrix.inverse().numpy() for d in (zero, one))
    m0, m1 = zero.mean.numpy(), one.mean.numpy()
    log_ratio = (torch.logdet(zero.covariance_matrix) - torch.logdet(one.covariance_matrix)).item()
    # The margin is x^T A x / 2 + b^T x + c.
    a, b = first - second, second @ m1 - first @ m0
    c = (log_ratio + m0 @ first @ m0 - m1 @ second @ m1) / 2
    values, axes = np.linalg.eigh(a)
    for x, distance in zip(known.x.double().numpy(), known.find_truth().lower, strict=True):
        u, v = axes.T @ x, axes.T @ (a @ x + b)
        start = x @ a @ x / 2 + b @ x + c
        sign = -np.sign(start)

        def level(t, v=v, start=start, sign=sign):  # z - x = t (A (z - x) + A x + b) sign
            step = t * sign * v / (1 - t * sign * values)
            return start + v @ step + step @ (values * step) / 2

        steepest = (sign * values).max()
        high = (1 - 1e-12) / steepest if steepest > 0 else 1e9
        low = 0.0
        for _ in range(200):
            t = (low + high) / 2
            low, high = (t, high) if level(t) * sign < 0 else (low, t)
        assert u.shape == v.shape
        assert distance == pytest.approx(
            np.linalg.norm(low * v / (1 - low * sign * values)), rel=1e-8
        )


def test_every_piece_of_a_relu_network_is_searched() -> None:
    known = member("relu-small", 2)
    network = known.classifier.inner
    truth = known.find_truth().lower
    x, y = known.x.double(), known.y
    assert (RelaxationCertificate()(network, x, y).distance.numpy() <= truth * (1 + 1e-9)).all()
    found = NearestError(n_restarts=4)(network, x, y).distance.numpy()
    assert (found >= truth * (1 - 1e-9)).all()
    distance, nearest = nearest_of_pieces(network, x.numpy(), y.numpy())
    assert distance.tolist() == truth.tolist()
    assert np.linalg.norm(nearest - x.numpy(), axis=1) == pytest.approx(truth, rel=1e-12)
    # It is attained: the boundary passes through the nearest point.
    assert network(torch.from_numpy(nearest)).abs().max() < 1e-10


def test_pieces_agree_with_a_grid_in_the_plane() -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        network = torch.nn.Sequential(
            torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1)
        ).double().requires_grad_(False)  # fmt: skip
    for part in network.parameters():
        part[:] = torch.randn(part.shape, generator=generator, dtype=torch.float64)
    line = torch.linspace(-4, 4, 801, dtype=torch.float64)
    grid = torch.tensor(list(itertools.product(line.tolist(), repeat=2)), dtype=torch.float64)
    wrong = network(grid).squeeze(1) > 0
    x = grid[~wrong & (grid.norm(dim=1) < 2)][::4000]
    assert len(x) > 3
    nearest = torch.cdist(x, grid[wrong]).amin(1).numpy()
    exact, _ = nearest_of_pieces(network, x.numpy(), np.zeros(len(x), dtype=np.int64))
    assert (exact <= nearest + 1e-9).all()
    assert (nearest <= exact + 0.01 * 2**0.5).all()


def test_brackets_hold_and_a_stranger_is_named() -> None:
    known = member("relu-wide", 2)
    truth = known.find_truth()
    assert not truth.exact
    assert (truth.lower > 0).all()
    assert (truth.lower <= truth.known).all()
    with pytest.raises(ValueError, match=r"no member 'linaer': .* did you mean 'linear'"):
        names_of_members(["linaer"])
    with pytest.raises(ValueError, match="at least 1"):
        member("linear", 0)


def test_double_precision_decides_whatever_the_points_have() -> None:
    known = member("linear", 2)
    x = known.x / 3
    single, double = outputs(known.classifier, x), outputs(known.classifier, x.double())
    assert single.dtype == torch.float32
    assert torch.equal(single, double.float())
    scaled = member("ellipsoid-bulk-1e+6", 2)
    plain = member("ellipsoid-bulk", 2)
    assert torch.equal(scaled.x, plain.x)
    ratio = outputs(scaled.classifier, plain.x) / outputs(plain.classifier, plain.x)
    assert ratio.numpy() == pytest.approx(1e6, rel=1e-6)
