"""Convolutional networks for images."""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import pairwise
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating, generator_of
from trueboundary.classifiers.base import ClassifierModule
from trueboundary.classifiers.stored_classifiers import register

_Layer = TypeVar("_Layer", nn.Conv2d, nn.Linear)
_SLOPE = 0.2  # of LeakyReLU below zero, TensorFlow's default


class _ImageNetwork(ClassifierModule):
    """A network with one logit per class, on images or on their pixels in a row."""

    image_shape: tuple[int, int, int]
    convolution: nn.ModuleList
    _n_classes: int

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._n_classes

    def outputs(self, x: Tensor) -> Tensor:
        """Return the difference of two class logits, ``(n,)``, or those of K >= 3, ``(n, K)``.

        Parameters
        ----------
        x : Tensor
            Images ``(n, channels, height, width)``, or the same flattened, ``(n, dim)``.
        """
        flat = x.flatten(1) if tuple(x.shape[1:]) == self.image_shape else x
        self._check_points(flat, math.prod(self.image_shape))
        images = flat.reshape(-1, *self.image_shape)
        logits = self._logits(images.contiguous(memory_format=torch.channels_last))
        return logits[:, 1] - logits[:, 0] if self.n_classes == 2 else logits

    @abstractmethod
    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits of all classes, shape ``(n, K)``."""

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments, the generator apart."""
        shape = {"image_shape": list(self.image_shape)}
        return shape if self.n_classes == 2 else {**shape, "n_classes": self.n_classes}

    def _convolve(self, layer: int, y: Tensor) -> Tensor:
        """Apply one convolution and LeakyReLU."""
        y = leaky_relu(self.convolution[layer](y), _SLOPE, inplace=True)
        # Convolutions on a CPU are up to 1.4 times as fast with the channels last, and their
        # results keep that layout. Images of one channel do not show it: hence here once more.
        return y.contiguous(memory_format=torch.channels_last)

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a network of the given shape, with arbitrary initial values."""
        return cls(**arguments, seed=0)


@register
class AllConvolutionalNetwork(_ImageNetwork):
    """The all-convolutional network of CleverHans.

    At each of ``round(log2(height)) - 2`` scales, counted from ``s = 0``, there are a convolution
    to ``n_filters * 2**s`` channels, one to twice as many, and 2 x 2 average pooling. A last
    convolution goes to one channel per class, whose mean over the image is the logit. All
    convolutions are 3 x 3 with padding 1 and are followed by LeakyReLU of slope 0.2, the last one
    too. There is no normalisation.

    Initial weights are normal with variance ``1 / fan_in`` and biases are 0, as in CleverHans,
    which names its initialiser after He et al. but leaves out their factor of about 2.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height and width; at least 6 x 6 pixels.
    n_filters : int
        Channels of the first convolution.
    n_classes : int
        Number of classes, at least 2.
    generator : torch.Generator
        Source of the initial values, on the CPU.
    seed : int, optional
        In place of a generator: the numbers of ``torch.Generator().manual_seed(seed)``.
    dtype : torch.dtype
        float32 or float64.

    References
    ----------
    Papernot et al. (2018), *Technical Report on the CleverHans v2.1.0 Adversarial Examples
    Library*; used by Richardson & Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import AllConvolutionalNetwork
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = AllConvolutionalNetwork((1, 28, 28), n_filters=8, generator=generator)
    >>> network.n_scales, sum(p.numel() for p in network.parameters())
    (3, 37106)
    >>> network.margin(torch.zeros(5, 784)).shape
    torch.Size([5])
    >>> ten = AllConvolutionalNetwork((1, 28, 28), n_filters=8, n_classes=10, generator=generator)
    >>> ten.outputs(torch.zeros(5, 784)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_filters: int,
        *,
        n_classes: int = 2,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        generator = generator_of(generator, seed)
        self.image_shape = _check_image_shape(image_shape)
        self._n_classes = check_integer("n_classes", n_classes, minimum=2)
        self.n_filters = check_integer("n_filters", n_filters, minimum=1)
        self.n_scales = round(math.log2(self.image_shape[1])) - 2
        if self.n_scales < 1 or min(self.image_shape[1:]) < 2**self.n_scales:
            raise ValueError(
                "image_shape must leave a pixel to each scale, at least 6 x 6 and not much higher "
                f"than wide, got {self.image_shape}."
            )
        channels = [self.image_shape[0]]
        for scale in range(self.n_scales):
            channels += [self.n_filters << scale, self.n_filters << (scale + 1)]
        self.convolution = nn.ModuleList(
            _convolution(n_in, n_out, 1.0, generator, check_floating(dtype))
            for n_in, n_out in pairwise([*channels, self.n_classes])
        )

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments, the generator apart."""
        return {**super().arguments(), "n_filters": self.n_filters}

    def _logits(self, images: Tensor) -> Tensor:
        y = images
        for scale in range(self.n_scales):
            y = self._convolve(2 * scale, y)
            y = self._convolve(2 * scale + 1, y)
            y = avg_pool2d(y, 2)
        return self._convolve(2 * self.n_scales, y).mean(dim=(2, 3))


@register
class StridedConvolutionalNetwork(_ImageNetwork):
    """A convolutional network with strides instead of pooling, of any depth and width.

    Of its `depth` convolutions `n_strided` equally spaced ones have stride 2 and double the number
    of channels: the last of each group of ``depth / n_strided``. All are 3 x 3 with padding 1 and
    are followed by LeakyReLU of slope 0.2. One fully connected layer ends the network. With the
    default of 4 strided convolutions the last width is 16 times the first.

    Initial weights are normal with variance ``2 / (1.04 fan_in)``, which keeps the variance of
    the signal through any number of LeakyReLU layers (He et al. 2015), and ``1 / fan_in`` in the
    last layer; biases are 0. Neither the slope nor the initial values are stated for this network
    in the literature; they are choices made here.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height and width.
    depth : int
        Number of convolutions, a multiple of `n_strided`; from 8 to 24 in the paper.
    width : int
        Channels of the first convolution (before any doubling); 4, 8, 16 or 32 in the paper.
    n_strided : int
        Number of convolutions with stride 2.
    n_classes : int
        Number of classes, at least 2.
    generator : torch.Generator
        Source of the initial values, on the CPU.
    seed : int, optional
        In place of a generator: the numbers of ``torch.Generator().manual_seed(seed)``.
    dtype : torch.dtype
        float32 or float64.

    References
    ----------
    Richardson & Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*, JMLR 22(221).

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import StridedConvolutionalNetwork
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = StridedConvolutionalNetwork((3, 64, 64), depth=8, width=4, generator=generator)
    >>> [layer.out_channels for layer in network.convolution]
    [4, 8, 8, 16, 16, 32, 32, 64]
    >>> network(torch.zeros(5, 3, 64, 64)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        depth: int = 8,
        width: int = 8,
        *,
        n_strided: int = 4,
        n_classes: int = 2,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        generator = generator_of(generator, seed)
        self.image_shape = _check_image_shape(image_shape)
        self._n_classes = check_integer("n_classes", n_classes, minimum=2)
        self.depth = check_integer("depth", depth, minimum=1)
        self.width = check_integer("width", width, minimum=1)
        self.n_strided = check_integer("n_strided", n_strided, minimum=1)
        if self.depth % self.n_strided:
            raise ValueError(
                f"depth must be a multiple of n_strided = {self.n_strided}, so that the strided "
                f"convolutions are equally spaced, got {self.depth}."
            )
        group = self.depth // self.n_strided
        strides = [2 if layer % group == 0 else 1 for layer in range(1, self.depth + 1)]
        channels, (height, width_now) = [self.image_shape[0]], self.image_shape[1:]
        current = self.width
        for stride in strides:
            current *= stride
            channels.append(current)
            height, width_now = -(-height // stride), -(-width_now // stride)
        gain = 2 / (1 + _SLOPE**2)
        self.convolution = nn.ModuleList(
            _convolution(n_in, n_out, gain, generator, check_floating(dtype), stride=stride)
            for (n_in, n_out), stride in zip(pairwise(channels), strides, strict=True)
        )
        n_features = current * height * width_now
        readout = nn.Linear(n_features, self.n_classes, device="meta", dtype=dtype)
        self.readout = _initialise(readout, n_features, 1.0, generator)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments, the generator apart."""
        return {
            **super().arguments(),
            "depth": self.depth,
            "width": self.width,
            "n_strided": self.n_strided,
        }

    def _logits(self, images: Tensor) -> Tensor:
        y = images
        for layer in range(self.depth):
            y = self._convolve(layer, y)
        return self.readout(y.flatten(1))  # type: ignore[no-any-return]


def _check_image_shape(image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    sizes = tuple(check_integer("a size in image_shape", s, minimum=1) for s in image_shape)
    if len(sizes) != 3:
        raise ValueError(f"image_shape must be (channels, height, width), got {sizes}.")
    return sizes


def _convolution(
    n_in: int,
    n_out: int,
    gain: float,
    generator: torch.Generator,
    dtype: torch.dtype,
    *,
    stride: int = 1,
) -> nn.Conv2d:
    layer = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, device="meta", dtype=dtype)
    layer = _initialise(layer, 9 * n_in, gain, generator)
    # Weights with the channels last, as the images are: else every call would turn them.
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return layer


def _initialise(layer: _Layer, fan_in: int, gain: float, generator: torch.Generator) -> _Layer:
    """Draw normal weights of variance ``gain / fan_in`` for a layer made on "meta"."""
    # Building on "meta" keeps the layer from drawing its values from torch's global state.
    layer = layer.to_empty(device=generator.device)
    nn.init.normal_(layer.weight, std=math.sqrt(gain / fan_in), generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
