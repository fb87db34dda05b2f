"""Margins, logits and adapters."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trueboundary.classifiers import (
    BinaryClassifier,
    QuadraticNetwork,
    ReLUNetwork,
    SphereBayes,
    TruncatedSum,
    as_classifier,
    margin,
)

DIM = 6


def classifiers():
    generator = torch.Generator().manual_seed(0)
    return [
        SphereBayes(DIM),
        TruncatedSum(DIM, 3, 0.6),
        QuadraticNetwork(DIM, 9, generator=generator),
        ReLUNetwork(DIM, 9, 2, generator=generator).eval(),
        ReLUNetwork(DIM, 9, 1, batch_norm="after-activation", generator=generator).eval(),
    ]


@pytest.mark.parametrize("classifier", classifiers(), ids=lambda c: type(c).__name__)
class TestEveryClassifier:
    def test_two_logits_differ_by_the_margin(self, classifier, generator):
        x = torch.randn(20, DIM, generator=generator)
        m = classifier.margin(x)
        logits = classifier(x)
        assert m.shape == (20,)
        assert logits.shape == (20, 2)
        torch.testing.assert_close(logits[:, 1] - logits[:, 0], m)
        torch.testing.assert_close(logits.softmax(1)[:, 1], m.sigmoid())
        assert torch.equal(classifier.predict(x), logits.argmax(1))

    def test_normalised_margin_is_its_own(self, classifier, generator):
        x = torch.randn(20, DIM, generator=generator)
        assert torch.equal(margin(classifier, x), classifier.margin(x))
        torch.testing.assert_close(margin(classifier.forward, x), classifier.margin(x))

    def test_each_point_is_judged_on_its_own(self, classifier, generator):
        classifier = classifier.double()
        x = torch.randn(20, DIM, generator=generator, dtype=torch.float64)
        order = torch.randperm(20, generator=generator)
        together = classifier.margin(x)
        torch.testing.assert_close(classifier.margin(x[order]), together[order])
        torch.testing.assert_close(torch.cat([classifier.margin(p[None]) for p in x]), together)
        classifier.float()

    def test_is_differentiable_in_the_points(self, classifier, generator):
        x = torch.randn(5, DIM, generator=generator, requires_grad=True)
        (gradient,) = torch.autograd.grad(classifier.margin(x).sum(), x)
        assert gradient.isfinite().all()
        assert (gradient != 0).any(dim=1).all()

    def test_has_a_parameter(self, classifier):
        assert next(classifier.parameters()).device == torch.device("cpu")

    def test_wrong_input_is_explained(self, classifier):
        with pytest.raises(ValueError, match=r"shape \(n, 6\), got \(4, 5\)"):
            classifier.margin(torch.zeros(4, 5))
        with pytest.raises(ValueError, match=r"shape \(n, 6\), got \(6,\)"):
            classifier.margin(torch.zeros(6))
        with pytest.raises(TypeError, match=r"computes in torch.float32 but the points are"):
            classifier.margin(torch.zeros(4, DIM, dtype=torch.float64))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=9))
def test_three_shapes_of_output_have_one_margin(values):
    m = torch.tensor(values)
    x = torch.zeros(len(values), 3)
    zero = torch.zeros_like(m)
    for output in (m, m[:, None], torch.stack([zero, m], 1), torch.stack([-m, zero], 1)):
        assert torch.equal(margin(lambda _, out=output: out, x), m)


@pytest.mark.parametrize("shape", [(), (4,), (5, 3), (5, 1, 1), (2, 5)])
def test_other_shapes_of_output_are_refused(shape):
    with pytest.raises(ValueError, match="must return shape"):
        margin(lambda x: torch.zeros(shape), torch.zeros(5, 3))


def test_an_output_for_one_point_is_a_margin():
    assert margin(lambda x: torch.zeros(1, 2), torch.zeros(1, 3)).shape == (1,)


def test_no_points_have_no_margins():
    assert margin(SphereBayes(3), torch.zeros(0, 3)).shape == (0,)


def test_nan_is_refused_and_infinity_is_not():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="NaN for 1 of 3 points"):
        margin(lambda x: torch.tensor([0.0, math.nan, 1.0]), x)
    assert margin(lambda x: torch.tensor([0.0, math.inf, 1.0]), x)[1] == math.inf


@pytest.mark.parametrize("output", [1.0, torch.zeros(3, dtype=torch.int64)])
def test_other_types_of_output_are_refused(output):
    with pytest.raises(TypeError, match="tensor of floating-point margins"):
        margin(lambda x: output, torch.zeros(3, 2))


def test_as_classifier_wraps_callables_and_modules():
    linear = nn.Linear(3, 2, device="meta").to_empty(device="cpu")
    nn.init.ones_(linear.weight)
    nn.init.zeros_(linear.bias)
    adapted = as_classifier(linear.eval())
    assert isinstance(adapted, BinaryClassifier)
    assert not adapted.training
    assert next(adapted.parameters()) is linear.weight
    assert adapted(torch.ones(4, 3)).shape == (4, 2)
    assert as_classifier(adapted) is adapted

    function = as_classifier(lambda x: x.norm(dim=1) - 1)
    assert not next(function.parameters()).requires_grad
    assert function.predict(torch.tensor([[0.5, 0.0], [2.0, 0.0]])).tolist() == [0, 1]
    with pytest.raises(TypeError, match="must be callable, got int"):
        as_classifier(3)


def test_predicting_does_not_change_the_mode():
    network = ReLUNetwork(DIM, 9, 1, generator=torch.Generator().manual_seed(0))
    network.predict(torch.zeros(4, DIM))
    assert network.training


@pytest.mark.parametrize("norm", [1e-20, 1.0, 1e18])
def test_sphere_bayes_is_accurate_at_any_scale(norm):
    x = torch.zeros(1, 500, dtype=torch.float64)
    x[0, :4] = norm / 2
    classifier = SphereBayes(500, dtype=torch.float64)
    assert classifier.margin(x).item() == pytest.approx(norm - 1.15, rel=1e-12)


def test_truncated_sum_ignores_the_other_coordinates():
    x = torch.tensor([[1.0, 2.0, 100.0]])
    assert TruncatedSum(3, 2, 4.5).margin(x).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: SphereBayes(1), ValueError, "dim must be at least 2"),
        (lambda: SphereBayes(3, 1.0), ValueError, "radius must be a finite number above 1"),
        (lambda: TruncatedSum(3, 4, 1.0), ValueError, "k must be at most dim = 3, got 4"),
        (lambda: TruncatedSum(3, 0, 1.0), ValueError, "k must be at least 1"),
        (lambda: TruncatedSum(3, 1, math.nan), ValueError, "threshold must be a finite number"),
        (lambda: SphereBayes(3, dtype=torch.int32), TypeError, "dtype must be"),
    ],
)
def test_bad_parameters(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
