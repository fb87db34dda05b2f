"""Margins, logits and adapters."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from trueboundary.classifiers import (
    ClassifierModule,
    Preprocessing,
    QuadraticNetwork,
    ReLUNetwork,
    SphereBayes,
    TruncatedSum,
    as_classifier,
    margin,
    misclassified,
    outputs,
    wrongness,
    wrongness_and_gradient,
    wrongness_of,
)

DIM = 6


def empty(kind, *sizes):
    """A layer without values, whose own start would draw from the global generator."""
    return kind(*sizes, device="meta").to_empty(device="cpu")


def initialised(network):
    """A network of random weights that leave the global generator alone."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=generator)
    return network


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


@pytest.mark.parametrize("shape", [(), (4,), (5, 0), (5, 1, 1), (2, 5)])
def test_other_shapes_of_output_are_refused(shape):
    with pytest.raises(ValueError, match="must return one margin for each"):
        margin(lambda x: torch.zeros(shape), torch.zeros(5, 3))


def test_more_than_two_classes_have_no_margin():
    with pytest.raises(ValueError, match="has 3 classes"):
        margin(lambda x: torch.zeros(5, 3), torch.zeros(5, 3))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    logits=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.sampled_from([2, 3, 10])),
        elements=st.floats(-(2.0**60), 2.0**60, width=32),
    ),
    data=st.data(),
)
def test_wrongness_is_the_lead_of_the_best_other_class(logits, data):
    n, k = logits.shape
    y = data.draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    shown = torch.from_numpy(logits)
    found = outputs(lambda _: shown, torch.zeros(n, 2))
    value = wrongness_of(found, torch.tensor(y))
    wrong = misclassified(found, torch.tensor(y))
    for i in range(n):
        others = [float(logits[i, j]) for j in range(k) if j != y[i]]
        assert value[i].item() == np.float32(np.float32(max(others)) - logits[i, y[i]])
        assert bool(wrong[i]) == (int(np.argmax(logits[i])) != y[i])
    goal = (torch.tensor(y) + 1) % k
    reached = wrongness_of(found, torch.tensor(y), goal) > 0
    assert torch.equal(reached, (shown == shown.max(1, keepdim=True).values).sum(1).eq(1)
                       & (shown.argmax(1) == goal))  # fmt: skip


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_labels_that_there_are_not_have_no_wrongness(n_classes):
    """A margin times 1 - 2 y would have been a number for any y."""
    x, zeros = torch.ones(4, 5), torch.zeros(4, dtype=torch.int64)
    model = initialised(empty(nn.Linear, 5, n_classes))
    for y in (zeros + 5, zeros - 1):
        with pytest.raises(ValueError, match="expected labels"):
            wrongness(model, x, y)
        with pytest.raises(ValueError, match="expected targets"):
            wrongness(model, x, zeros, target=y)
    for y in (zeros[:3], zeros[:, None]):
        with pytest.raises(ValueError, match="expected 4 labels, one for each point"):
            wrongness(model, x, y)


def test_two_classes_are_the_same_as_a_margin_and_as_logits():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(50) % 2
    margins = initialised(empty(nn.Linear, 3, 1))
    logits = lambda p: torch.cat([torch.zeros(len(p), 1), margins(p)], 1)  # noqa: E731
    three = lambda p: torch.cat([logits(p), torch.full((len(p), 1), -1e30)], 1)  # noqa: E731
    ours = wrongness_and_gradient(margins, x, y)
    assert torch.equal(ours[0], (1 - 2 * y) * margin(margins, x).detach())
    for other in (logits, three):  # a third class that never wins changes nothing
        assert all(map(torch.equal, ours, wrongness_and_gradient(other, x, y)))


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
    assert isinstance(adapted, ClassifierModule)
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


def test_a_pair_of_the_classes_of_a_network_is_a_classifier_of_its_own():
    ten = initialised(empty(nn.Linear, 4, 10))
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    logits = ten(x)
    pair = as_classifier(ten, classes=(0, 6))
    assert pair.n_classes == 2
    assert torch.equal(pair.margin(x), logits[:, 6] - logits[:, 0])
    three = as_classifier(ten, classes=(9, 1, 4))
    assert torch.equal(outputs(three, x), logits[:, [9, 1, 4]])
    assert three(x).shape == (7, 3)
    with pytest.raises(ValueError, match="has 10, numbered from 0 to 9"):
        as_classifier(ten, classes=(0, 10)).margin(x)
    for wrong in [(1,), (1, 1), (0, -1), "06"]:
        with pytest.raises(ValueError, match="at least two different classes"):
            as_classifier(ten, classes=wrong)


def test_what_many_classes_return_may_be_probabilities():
    ten = initialised(empty(nn.Linear, 4, 10))
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    for name, function in (("probability", torch.softmax), ("log_probability", torch.log_softmax)):
        adapted = as_classifier(lambda p, f=function: f(ten(p), 1), outputs=name)
        assert torch.allclose(outputs(adapted, x), ten(x).log_softmax(1), atol=1e-5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        outputs(as_classifier(ten, outputs="probability"), x)


def test_a_normalisation_goes_inside():
    flat = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    network = initialised(nn.Sequential(empty(nn.Conv2d, 3, 2, 2), nn.Flatten()))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 0.5])
    wanted = network((flat.reshape(5, 3, 2, 2) - mean[:, None, None]) / std[:, None, None])
    adapted = as_classifier(network, preprocess=([0.1, 0.2, 0.3], std, (3, 2, 2)))
    assert torch.allclose(adapted.margin(flat), wanted[:, 1] - wanted[:, 0], atol=1e-6)
    assert Preprocessing(0.5, 0.5)(flat.double()).dtype == torch.float64
    with pytest.raises(ValueError, match="cannot become"):
        as_classifier(network, preprocess=(0.0, 1.0, (3, 28, 28))).margin(flat)
    with pytest.raises(ValueError, match="std above 0"):
        Preprocessing(0.0, 0.0)
    with pytest.raises(ValueError, match=r"\(mean, std\)"):
        as_classifier(network, preprocess=(0.5,))
    for wrong in (("a", 1.0), (0.0, None)):
        with pytest.raises(TypeError, match="expected mean and std as numbers"):
            Preprocessing(*wrong)
    for shape in (5, (2.0, 2.0), ()):
        with pytest.raises(ValueError, match="expected a shape such as"):
            Preprocessing(0.0, 1.0, shape)


@pytest.mark.parametrize("shape", [None, (12,), (3, 2, 2), (1, 3, 4), (3, 4), (1, 12)])
def test_one_mean_for_each_pixel_fits_any_shape(shape):
    x = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    mean = torch.arange(12.0)
    found = Preprocessing(mean, 1 + mean, shape)(x)
    assert found.shape == (5, *(shape or (12,)))
    assert torch.equal(found.reshape(5, 12), (x - mean) / (1 + mean))
    whole = Preprocessing(mean.reshape(1, *(shape or (12,))), 1.0, shape)(x)
    assert torch.equal(whole.reshape(5, 12), x - mean)


@pytest.mark.parametrize("mean", [torch.zeros(3), torch.zeros(3, 1, 1), torch.zeros(5, 1, 1, 1)])
def test_a_mean_of_other_channels_is_refused(mean):
    """It would have made three images of a grey one, or one of each point."""
    x = torch.ones(5, 12)
    with pytest.raises(ValueError, match=r"does not fit points of shape \(1, 3, 4\)"):
        Preprocessing(mean, 1.0, (1, 3, 4))(x)
    with pytest.raises(ValueError, match="does not fit points"):
        Preprocessing(0.0, mean + 1, (1, 3, 4))(x)
