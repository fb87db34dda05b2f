"""Convolutional networks: their architecture layer by layer, initial values and gradients."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, leaky_relu

from trueboundary.classifiers import (
    AllConvolutionalNetwork,
    StridedConvolutionalNetwork,
    from_arrays,
    to_arrays,
)

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]
BUILD = [
    pytest.param(lambda shape, **kw: AllConvolutionalNetwork(shape, 4, **kw), id="pooled"),
    pytest.param(lambda shape, **kw: StridedConvolutionalNetwork(shape, 8, 4, **kw), id="strided"),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, shape, dtype=torch.float32):
    return torch.rand(n, *shape, generator=seeded(1), dtype=dtype)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((1, 28, 28), [1, 8, 16, 16, 32, 32, 64, 2]),
        ((3, 32, 32), [3, 8, 16, 16, 32, 32, 64, 2]),
        ((3, 64, 64), [3, 8, 16, 16, 32, 32, 64, 64, 128, 2]),
    ],
)
def test_channels_of_the_all_convolutional_network(shape, channels):
    network = AllConvolutionalNetwork(shape, n_filters=8, generator=seeded())
    shapes = [tuple(layer.weight.shape) for layer in network.convolution]
    assert shapes == [(b, a, 3, 3) for a, b in pairwise(channels)]
    n_parameters = sum(9 * a * b + b for a, b in pairwise(channels))
    assert sum(p.numel() for p in network.parameters()) == n_parameters


def test_the_all_convolutional_network_written_out():
    network = AllConvolutionalNetwork((1, 28, 28), 4, generator=seeded(), dtype=torch.float64)
    x = images(3, (1, 28, 28), torch.float64)
    layers = iter(network.convolution)
    y = x
    for _ in range(3):
        for _ in range(2):
            layer = next(layers)
            y = leaky_relu(conv2d(y, layer.weight, layer.bias, padding=1), 0.2)
        y = avg_pool2d(y, 2)
    last = next(layers)
    logits = leaky_relu(conv2d(y, last.weight, last.bias, padding=1), 0.2).mean(dim=(2, 3))
    assert y.shape == (3, 32, 3, 3)  # an odd side loses its last row, as with TensorFlow
    torch.testing.assert_close(network.margin(x), logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize("depth", [8, 12, 16, 20, 24])
@pytest.mark.parametrize("width", [4, 32])
def test_layers_of_the_strided_network(depth, width):
    network = StridedConvolutionalNetwork((1, 28, 28), depth, width, generator=seeded())
    strides = [layer.stride[0] for layer in network.convolution]
    group = depth // 4
    assert strides == ([1] * (group - 1) + [2]) * 4
    outputs = [layer.out_channels for layer in network.convolution]
    assert outputs[0] == width * strides[0]
    assert outputs[-1] == 16 * width
    for before, after, stride in zip(outputs, outputs[1:], strides[1:], strict=False):
        assert after == stride * before
    assert tuple(network.readout.weight.shape) == (2, 16 * width * 2 * 2)


def test_the_strided_network_written_out():
    network = StridedConvolutionalNetwork((3, 9, 9), 4, 2, generator=seeded(), dtype=torch.float64)
    x = images(3, (3, 9, 9), torch.float64)
    y = x
    for layer in network.convolution:
        y = leaky_relu(conv2d(y, layer.weight, layer.bias, stride=2, padding=1), 0.2)
    logits = y.flatten(1) @ network.readout.weight.T + network.readout.bias
    torch.testing.assert_close(network.margin(x), logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize("build", BUILD)
@pytest.mark.parametrize("shape", SHAPES)
def test_images_and_rows_of_pixels_are_the_same(build, shape):
    network = build(shape, generator=seeded())
    x = images(3, shape)
    expected = network.margin(x)
    assert expected.shape == (3,)
    assert torch.equal(network.margin(x.flatten(1)), expected)
    torch.testing.assert_close(network.margin(x[1:2]), expected[1:2])
    assert network.margin(x[:0]).shape == (0,)


@pytest.mark.parametrize("build", BUILD)
def test_gradients_agree_with_finite_differences(build):
    network = build((1, 8, 8), generator=seeded(), dtype=torch.float64)
    x = images(2, (1, 8, 8), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(network.margin, x)


def test_the_initial_values_have_the_stated_variances():
    network = AllConvolutionalNetwork((3, 32, 32), 32, generator=seeded())
    assert all(not layer.bias.any() for layer in network.convolution)
    for layer in network.convolution[1:-1]:
        expected = 1 / math.sqrt(9 * layer.in_channels)
        # The standard deviation of n normal values is off by its 1 / sqrt(2 n)-th part.
        tolerance = 5 / math.sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
    strided = StridedConvolutionalNetwork((3, 32, 32), 8, 16, generator=seeded())
    for layer in strided.convolution[1:]:
        expected = math.sqrt(2 / 1.04 / (9 * layer.in_channels))
        tolerance = 5 / math.sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("build", BUILD)
def test_the_generator_decides_the_initial_values(build):
    x = images(2, (1, 28, 28))
    first, again, other = (build((1, 28, 28), generator=seeded(s)).margin(x) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("build", BUILD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_storage_round_trip(build, dtype):
    network = build((3, 32, 32), generator=seeded(), dtype=dtype)
    spec, arrays = to_arrays(network)
    x = images(2, (3, 32, 32), dtype)
    assert torch.equal(from_arrays(spec, arrays).margin(x), network.margin(x))


def test_bad_arguments():
    with pytest.raises(ValueError, match="6 x 6"):
        AllConvolutionalNetwork((1, 4, 4), 4, generator=seeded())
    with pytest.raises(ValueError, match="6 x 6"):
        AllConvolutionalNetwork((1, 64, 8), 4, generator=seeded())
    with pytest.raises(ValueError, match="n_filters"):
        AllConvolutionalNetwork((1, 28, 28), 0, generator=seeded())
    with pytest.raises(ValueError, match="channels, height, width"):
        StridedConvolutionalNetwork((28, 28), generator=seeded())
    with pytest.raises(ValueError, match="multiple of n_strided = 4"):
        StridedConvolutionalNetwork((1, 28, 28), 10, generator=seeded())
    network = StridedConvolutionalNetwork((1, 28, 28), generator=seeded())
    with pytest.raises(ValueError, match=r"\(n, 784\)"):
        network.margin(torch.zeros(2, 3, 28, 28))
    with pytest.raises(TypeError, match="float64"):
        network.margin(torch.zeros(2, 784, dtype=torch.float64))
