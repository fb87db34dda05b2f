"""What all certificates ask of points and labels, in the same sentences."""

import math

import numpy as np
import pytest
import torch

import trueboundary as tb
from trueboundary.certificates import (
    EllipsoidCertificate,
    LipschitzMixtureCertificate,
    MixtureCertificate,
    RelaxationCertificate,
    SVMCertificate,
    bracket,
    nearest_pair_error,
)
from trueboundary.certificates.base import check_labels, check_points
from trueboundary.classifiers import RBFSVM, LinearSVM
from trueboundary.problems import planar_problem
from trueboundary.theory.log_ratios import LowRankNormal, log_ratio

SUPPORT = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double()
BAYES = planar_problem("a").bayes_classifier(dtype=torch.float64)
LAYERS = [(torch.eye(2), torch.zeros(2)), (torch.ones(1, 2), torch.tensor([-1.0]))]
PAIR = log_ratio([LowRankNormal([m, 0.0], np.zeros((2, 0)), 1.0) for m in (-1.0, 1.0)])
QUADRATIC = tb.QuadraticNetwork(2, 4, generator=torch.Generator().manual_seed(0))
CALLS = {
    "linear machine": lambda x, y: SVMCertificate()(LinearSVM(torch.ones(2), 0.5), x, y),
    "RBF machine": lambda x, y: SVMCertificate()(
        RBFSVM(SUPPORT, torch.tensor([-1.0, 1.0]), 0.1, 1.0), x, y
    ),
    "ellipsoid": lambda x, y: EllipsoidCertificate()(QUADRATIC, x, y),
    "network": lambda x, y: RelaxationCertificate()(LAYERS, x, y),
    "mixtures, Lipschitz": lambda x, y: LipschitzMixtureCertificate()(BAYES, x, y),
    "mixtures": lambda x, y: MixtureCertificate()(BAYES, x, y),
    "mixtures, bracket": lambda x, y: bracket(BAYES, x, y),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_point_that_is_not_finite_has_no_distance(call):
    for bad in (math.nan, math.inf, -math.inf):
        x = torch.tensor([[0.3, 0.2], [bad, 0.1], [0.0, bad]], dtype=torch.float64)
        with pytest.raises(ValueError, match=r"finite points .* in 2 of 3 points, the first in po"):
            call(x, [0, 1, 0])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_shapes_types_and_labels_are_judged_alike(call):
    for x in (torch.zeros(2, 3), torch.zeros(2), np.zeros(()), torch.zeros(2, 2, 2)):
        with pytest.raises(
            ValueError, match=r"x must hold finite points of shape \(n, 2\), got sh"
        ):
            call(x, [0, 1])
    for x in ([["a", "b"]], torch.zeros(1, 2, dtype=torch.cfloat), np.zeros((1, 2), complex), None):
        with pytest.raises((TypeError, ValueError), match=r"x must (be an array of real|hold fin)"):
            call(x, [0])
    for y in ([0, 2], [0, 0.5], [0, math.nan], [0], [[0], [1]], [0, 1, 1]):
        with pytest.raises(ValueError, match="y must hold 2 labels, each 0 or 1, got"):
            call(np.full((2, 2), 0.1), y)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_whatever_holds_the_numbers_gives_the_same_answer(call):
    x, y = np.array([[0.3, 0.2], [1.25, 1.5]]), [1, 0]
    expected = call(x, y)
    for points, labels in (
        (x.tolist(), np.array(y, dtype=np.uint8)),
        (torch.tensor(x, requires_grad=True), torch.tensor(y)),
        (torch.tensor(x)[:, None, :], torch.tensor(y).bool()),
        (x.T.copy().T, torch.tensor(y).double()),
    ):
        found = call(points, labels)
        for name in ("distance", "lower"):
            if hasattr(found, name):
                assert np.array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_points_are_no_mistake(call):
    found = call(torch.zeros(0, 2), torch.zeros(0))
    assert len(found.exact) == 0


def test_pairs_of_gaussians_ask_the_same_of_points():
    with pytest.raises(ValueError, match="in 1 of 1 points, the first in point 0"):
        nearest_pair_error([[0.0, math.nan]], PAIR)


def test_half_precision_and_sparse_points_are_points():
    assert np.array_equal(check_points(torch.eye(2, dtype=torch.bfloat16)), np.eye(2))
    assert np.array_equal(check_points(torch.eye(2).to_sparse(), 2), np.eye(2))
    assert check_labels(torch.tensor([1.0, 0.0], dtype=torch.half), 2).tolist() == [1, 0]
