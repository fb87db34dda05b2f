"""Softmax regression, and our networks with any number of classes."""

import json

import pytest
import torch
from safetensors.numpy import load, save

from trueboundary.classifiers import (
    AllConvolutionalNetwork,
    ReLUNetwork,
    SoftmaxRegression,
    StridedConvolutionalNetwork,
    from_arrays,
    number_of_classes,
    outputs,
    to_arrays,
)

NETWORKS = {
    "relu": lambda **kw: ReLUNetwork(64, 8, 2, **kw),
    "pooled": lambda **kw: AllConvolutionalNetwork((1, 8, 8), 4, **kw),
    "strided": lambda **kw: StridedConvolutionalNetwork((1, 8, 8), 4, 2, **kw),
    "softmax": lambda generator, **kw: SoftmaxRegression(64, **kw),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(name, n_classes, dtype=torch.float32):
    model = NETWORKS[name](n_classes=n_classes, generator=seeded(), dtype=dtype)
    if name == "softmax":
        with torch.no_grad():
            model.weight.normal_(generator=seeded(1))
            model.bias.normal_(generator=seeded(2))
    return model.eval()


def points(n=7, dtype=torch.float32):
    return torch.rand(n, 64, generator=seeded(3), dtype=dtype)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_outputs_have_one_logit_per_class(name, n_classes):
    model, x = drawn(name, n_classes), points()
    assert model.n_classes == n_classes
    found = outputs(model, x)
    assert found.shape == ((7,) if n_classes == 2 else (7, n_classes))
    assert number_of_classes(found) == n_classes
    assert model(x).shape == (7, n_classes)
    assert torch.equal(model.predict(x), model(x).argmax(dim=1))
    if n_classes > 2:
        assert torch.equal(model(x), found)
        with pytest.raises(ValueError, match=f"this classifier has {n_classes} classes"):
            model.margin(x)
    else:
        assert torch.equal(model.margin(x), found)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n_classes", [2, 10])
def test_storage_round_trip(name, n_classes):
    model, x = drawn(name, n_classes, torch.float64), points(dtype=torch.float64)
    spec, arrays = to_arrays(model)
    again = from_arrays(json.loads(json.dumps(spec)), load(save(arrays)))
    assert again.n_classes == n_classes
    assert torch.equal(again.outputs(x), model.outputs(x))


@pytest.mark.parametrize("name", ["relu", "pooled", "strided"])
def test_two_classes_are_stored_as_ever(name):
    spec, _ = to_arrays(drawn(name, 2))
    assert "n_classes" not in json.dumps(spec)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_agree_with_finite_differences(name):
    model = drawn(name, 3, torch.float64)
    assert torch.autograd.gradcheck(model.outputs, points(2, torch.float64).requires_grad_())


def test_hidden_layers_do_not_depend_on_the_number_of_classes():
    two, ten = drawn("pooled", 2), drawn("pooled", 10)
    for a, b in zip(two.convolution[:-1], ten.convolution[:-1], strict=True):
        assert torch.equal(a.weight, b.weight)
    assert ten.convolution[-1].out_channels == 10
    assert drawn("strided", 10).readout.out_features == 10
    assert drawn("relu", 10).linear[-1].out_features == 10


def test_a_folded_network_gives_all_logits():
    model, x = ReLUNetwork(64, 8, 2, n_classes=4, generator=seeded()), points()
    model.train()(x)
    y = x.double()
    *hidden, (weight, bias) = model.eval().folded()
    for w, b in hidden:
        y = torch.relu(y @ w.T + b)
    torch.testing.assert_close(y @ weight.T + bias, model(x).double(), rtol=1e-4, atol=1e-5)


def test_softmax_regression_is_linear():
    model, x = drawn("softmax", 5, torch.float64), points(dtype=torch.float64)
    torch.testing.assert_close(model(x), x @ model.weight.T + model.bias)
    assert not SoftmaxRegression(4, 3).weight.any()
    two = drawn("softmax", 2)
    difference = points() @ (two.weight[1] - two.weight[0]) + two.bias[1] - two.bias[0]
    torch.testing.assert_close(two.margin(points()), difference)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n_classes", [1, 0])
def test_one_class_is_none(name, n_classes):
    with pytest.raises(ValueError, match="n_classes must be at least 2"):
        NETWORKS[name](n_classes=n_classes, generator=seeded())


def test_points_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expects points of shape \(n, 64\)"):
        SoftmaxRegression(64, 3).outputs(torch.zeros(2, 63))
