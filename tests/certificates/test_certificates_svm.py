"""Certified radii of support vector machines: closed forms, brute force, degenerate machines."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trueboundary.attacks import DeepFool, NearestError
from trueboundary.certificates import SVMCertificate
from trueboundary.certificates.svm_bounds import _rbf_radius
from trueboundary.classifiers import (
    RBFSVM,
    LinearSVM,
    OneAgainstRestSVM,
    SphereBayes,
    fit_rbf_svm,
)
from trueboundary.domains import Box, Space
from trueboundary.testing.certificates import check_certificate


def labels_of(svm: LinearSVM | RBFSVM, x: Tensor) -> Tensor:
    """Return the predicted classes, so that no point is an error."""
    return (svm.decision_function(x) > 0).long()


def random_machine(n_support: int, seed: int, gamma: float, bias: float) -> RBFSVM:
    """Return an RBF machine in the plane with random support vectors of both classes."""
    generator = torch.Generator().manual_seed(seed)
    support = torch.randn(n_support, 2, generator=generator, dtype=torch.float64)
    size = torch.rand(n_support, generator=generator, dtype=torch.float64) + 0.1
    sign = 1.0 - 2.0 * (torch.arange(n_support) % 2)
    return RBFSVM(support, sign * size, bias=bias, gamma=gamma)


def chord_bound(svm: RBFSVM, x: Tensor) -> np.ndarray:
    """Return the simpler bound sqrt(-log(1 - f^2 / (2 |w|^2)) / gamma)."""
    share = svm.decision_function(x).numpy() ** 2 / (2 * svm.squared_norm())
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(share < 1, np.sqrt(-np.log1p(-share) / svm.gamma), np.inf)


def test_linear_distances_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, generator=generator, dtype=torch.float64)
    svm = LinearSVM(weight, bias=0.4)
    x = torch.randn(30, 7, generator=generator, dtype=torch.float64)
    result = SVMCertificate()(svm, x, labels_of(svm, x))
    expected = (x @ weight + 0.4).abs() / weight.norm()
    assert result.distance == pytest.approx(expected.numpy(), rel=1e-14)
    assert result.exact.all()
    torch.testing.assert_close((result.nearest - x).norm(dim=1), result.distance)
    on_boundary = svm.decision_function(result.nearest)
    assert on_boundary.numpy() == pytest.approx(np.zeros(30), abs=1e-13)


def test_linear_distances_are_bounds_within_a_box() -> None:
    svm = LinearSVM(torch.tensor([1.0, 0.0]), bias=-2.0)
    x, y = torch.tensor([[0.5, 0.5]], dtype=torch.float64), torch.tensor([0])
    small, large = (SVMCertificate()(svm, x, y, domain=Box(0.0, high)) for high in (1.0, 3.0))
    everywhere = SVMCertificate()(svm, x, y, domain=Space())
    assert small.distance == large.distance == everywhere.distance == 1.5
    assert (small.exact, large.exact, everywhere.exact) == (False, True, True)


def test_a_linear_machine_without_a_direction_has_one_class() -> None:
    svm = LinearSVM(torch.zeros(2), bias=1.0)
    x = torch.zeros(2, 2, dtype=torch.float64)
    result = SVMCertificate()(svm, x, torch.tensor([1, 0]))
    assert result.distance.tolist() == [math.inf, 0.0]
    assert result.nearest[0].isnan().all()
    assert result.exact.all()


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    n_support=st.integers(2, 12),
    seed=st.integers(0, 1000),
    gamma=st.floats(0.05, 5),
    bias=st.floats(-1.0, 1.0),
)
def test_no_point_of_the_plane_beats_a_radius(
    n_support: int, seed: int, gamma: float, bias: float
) -> None:
    """The nearest error on a fine grid of the plane must not be nearer than certified."""
    svm = random_machine(n_support, seed, gamma, bias)
    axis = torch.linspace(-5, 5, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    classes = svm.decision_function(grid) > 0
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = labels_of(svm, x)
    distance = SVMCertificate()(svm, x, y).distance.numpy()
    separation = torch.cdist(x, grid)
    other = classes[None, :] != (y == 1)[:, None]
    nearest = torch.where(other, separation, torch.full_like(separation, math.inf)).amin(1)
    assert (distance <= nearest.numpy()).all()
    assert (distance > 0).all()
    assert (distance >= chord_bound(svm, x) * (1 - 1e-9)).all()


def test_a_machine_of_two_points_reaches_the_bound() -> None:
    """With s = 0 and s' at infinity, f = k(x, 0) - c falls as fast as the bound allows.

    The feature vector of a point moves along a great circle towards the orthogonal of w, so that
    the bound in angles is the distance itself, while the bound in chords is smaller.
    """
    far = torch.tensor([[0.0, 0.0], [1e3, 0.0]], dtype=torch.float64)
    svm = RBFSVM(far, torch.tensor([1.0, -1e-12]), bias=-0.3, gamma=2.0)
    x = torch.zeros(1, 2, dtype=torch.float64)
    truth = math.sqrt(-math.log(0.3) / 2.0)
    distance = SVMCertificate()(svm, x, torch.tensor([1])).distance.item()
    # With w along phi(x) a rounding error of 1e-16 in the cosine is an angle of 1e-8: the bound is
    # rounded down by that much, and never exceeds the truth.
    assert truth * (1 - 3e-7) < distance <= truth
    assert chord_bound(svm, x)[0] < 0.5 * truth


def test_the_two_bounds_agree_where_the_machine_is_large() -> None:
    """For |f| far below |w| angles and chords are the same; both are about |f| / |w| then."""
    svm = random_machine(200, 3, 20.0, 0.0)
    x = 1.01 * svm.support_vectors[:20].detach()
    y = labels_of(svm, x)
    distance = SVMCertificate()(svm, x, y).distance.numpy()
    chord = chord_bound(svm, x)
    assert (distance >= chord).all()
    small = svm.decision_function(x).abs().numpy() < 0.05 * math.sqrt(svm.squared_norm())
    assert small.sum() >= 3
    assert distance[small] == pytest.approx(chord[small], rel=2e-2)


def test_a_machine_ruled_by_its_bias_has_no_errors() -> None:
    support = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    svm = RBFSVM(support, torch.tensor([0.5, -0.5]), bias=3.0, gamma=1.0)
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = SVMCertificate()(svm, x, torch.ones(10).long())
    assert right.distance.isinf().all()
    assert right.exact.all()
    wrong = SVMCertificate()(svm, x, torch.zeros(10).long())
    assert (wrong.distance == 0).all()
    assert torch.equal(wrong.nearest, x)


def test_small_radii_keep_their_digits() -> None:
    """Close to the boundary the radius is |f| / (|w| sqrt(2 gamma) sin B)."""
    support = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    svm = RBFSVM(support, torch.tensor([-1.0, 1.0]), bias=0.0, gamma=0.7)
    x = torch.tensor([[1e-9, 0.0]], dtype=torch.float64)
    value = svm.decision_function(x).item()
    expected = value / math.sqrt(svm.squared_norm() * 2 * 0.7)
    distance = SVMCertificate()(svm, x, torch.tensor([1])).distance.item()
    assert distance == pytest.approx(expected, rel=1e-6)


def exact_bound(svm: RBFSVM, point: np.ndarray) -> mpmath.mpf:
    """Return sqrt(-log(cos |A - B|) / gamma) with 60 digits."""
    with mpmath.workdps(60):
        coef = [mpmath.mpf(a) for a in svm.dual_coef.tolist()]
        support = [[mpmath.mpf(v) for v in row] for row in svm.support_vectors.tolist()]

        def kernel(a: list[mpmath.mpf], b: list[mpmath.mpf]) -> mpmath.mpf:
            return mpmath.exp(-svm.gamma * sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))

        here = [mpmath.mpf(v) for v in point.tolist()]
        total = sum(a * kernel(here, s) for a, s in zip(coef, support, strict=True))
        terms = list(zip(coef, support, strict=True))
        norm = mpmath.sqrt(sum(a * b * kernel(s, t) for a, s in terms for b, t in terms))
        bias = mpmath.mpf(float(svm.bias))
        apart = abs(mpmath.acos(total / norm) - mpmath.acos(-bias / norm))
        if abs(bias) > norm or apart >= mpmath.pi / 2:
            return mpmath.inf
        return mpmath.sqrt(-mpmath.log(mpmath.cos(apart)) / svm.gamma)


@pytest.mark.parametrize(("gamma", "bias", "offset"), [(0.5, 0.1, 0.0), (3.0, -0.4, 1e4)])
def test_bounds_are_rounded_down_and_lose_twelve_digits_of_nothing(
    gamma: float, bias: float, offset: float
) -> None:
    svm = random_machine(6, 5, gamma, bias)
    svm.support_vectors.add_(offset)
    generator = torch.Generator().manual_seed(6)
    x = 1.5 * torch.randn(40, 2, generator=generator, dtype=torch.float64) + offset
    distance = SVMCertificate()(svm, x, labels_of(svm, x)).distance.tolist()
    truth = [exact_bound(svm, point) for point in x.numpy()]
    for found, expected in zip(distance, truth, strict=True):
        assert expected * (1 - mpmath.mpf(10) ** -12) <= found <= expected


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-7, 1e-8])
def test_angles_next_to_a_right_angle_keep_their_digits(gap: float) -> None:
    """1 - sin(t)^2 is nothing but rounding there; the radius needs log(cos(t))."""
    half = 0.25 * np.pi - 0.5 * gap  # A and B lie so far on either side of pi/2, with |w| = 1
    bias = -math.sin(half)
    found = _rbf_radius(np.array([2 * bias]), bias, 1.0, 1.0)[0]
    with mpmath.workdps(40):
        cosine = mpmath.mpf(bias)
        truth = mpmath.sqrt(-mpmath.log(mpmath.cos(mpmath.acos(cosine) - mpmath.acos(-cosine))))
    assert truth * (1 - mpmath.mpf(1e-15) / gap) < found <= truth


def test_fitted_machines_and_images() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(80, 1, 2, 2, generator=generator, dtype=torch.float64)
    y = (x.flatten(1).norm(dim=1) > 1.8).long()
    svm = fit_rbf_svm(x, y, gamma=0.5, C=10.0)
    result = SVMCertificate()(svm, x, y)
    assert torch.equal(result.distance == 0, svm.predict(x) != y)
    assert result.nearest.shape == x.shape


def test_other_classifiers_are_refused() -> None:
    with pytest.raises(TypeError, match="LinearSVM or RBFSVM or OneAgainstRestSVM"):
        SVMCertificate()(SphereBayes(dim=2), torch.zeros(1, 2), torch.tensor([0]))


# ------------------------------------------------------------- one against rest


def one_against_rest(n_classes: int, n_support: int = 12, seed: int = 0) -> OneAgainstRestSVM:
    generator = torch.Generator().manual_seed(seed)
    support = 2 * torch.randn(n_support, 2, generator=generator, dtype=torch.float64)
    coef = torch.randn(n_classes, n_support, generator=generator, dtype=torch.float64)
    bias = 0.2 * torch.randn(n_classes, generator=generator, dtype=torch.float64)
    return OneAgainstRestSVM(support, coef, bias, gamma=0.4)


@pytest.mark.parametrize("n_classes", [3, 10])
def test_one_against_rest_is_as_near_as_its_nearest_pair(n_classes: int) -> None:
    svm = one_against_rest(n_classes)
    x = 2 * torch.randn(30, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = svm.predict(x)
    y[::7] = (y[::7] + 1) % n_classes
    result = SVMCertificate()(svm, x, y)
    right = svm.predict(x) == y
    assert torch.equal(result.distance > 0, right)
    for row in right.nonzero().squeeze(1).tolist():
        label = int(y[row])
        pairs = [
            SVMCertificate()(svm.pair(label, other), x[[row]], torch.tensor([0])).distance.item()
            for other in set(range(n_classes)) - {label}
        ]
        assert result.distance[row].item() == pytest.approx(min(pairs), rel=1e-9)


@pytest.mark.parametrize("n_classes", [3, 10])
def test_conformance_of_one_against_rest(n_classes: int) -> None:
    svm = one_against_rest(n_classes, seed=n_classes)
    x = 2 * torch.randn(10, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = svm.predict(x)
    y[::5] = (y[::5] + 1) % n_classes
    attack = NearestError() if n_classes == 3 else DeepFool()  # which climbs into no class in turn
    check_certificate(SVMCertificate(), svm, (x, y), attacks=(attack,))


def test_one_against_rest_of_fitted_machines_is_below_a_grid() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    x = rng.normal(size=(150, 2)) * 0.6 + np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])[y]
    svm = fit_rbf_svm(x, y, gamma=0.5)
    axis = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    winner = svm.predict(grid)
    points, labels = torch.from_numpy(x[:40]), torch.from_numpy(y[:40])
    result = SVMCertificate()(svm, points, labels)
    for point, label, distance in zip(points, labels, result.distance, strict=True):
        truth = (grid[winner != label] - point).norm(dim=1).min()
        assert distance <= truth
    assert result.distance.median() > 0.1


def test_equal_machines_are_errors_everywhere_and_constant_leads_nowhere() -> None:
    support, coef = torch.eye(3).double(), torch.ones(3, 3).double()
    level = OneAgainstRestSVM(support, coef, torch.zeros(3), gamma=1.0)
    x, y = torch.zeros(3, 3).double(), torch.tensor([0, 1, 2])
    assert SVMCertificate()(level, x, y).distance.tolist() == [0, 0, 0]
    ahead = OneAgainstRestSVM(support, coef, torch.tensor([0.5, 0.0, 0.0]), gamma=1.0)
    assert SVMCertificate()(ahead, x, y).distance.tolist() == [math.inf, 0, 0]
