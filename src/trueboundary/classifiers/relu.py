"""Fully connected ReLU networks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal, Self, TypeVar, get_args

import torch
from torch import Tensor, nn

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating, generator_of
from trueboundary.classifiers.base import ClassifierModule
from trueboundary.classifiers.integrity import Disagreement
from trueboundary.classifiers.stored_classifiers import register

_Layer = TypeVar("_Layer", bound=nn.Module)
BatchNorm = Literal["before-activation", "after-activation"]


@register
class ReLUNetwork(ClassifierModule):
    """A fully connected ReLU network, with one margin for two classes or a logit for each of more.

    Each hidden layer is linear, batch normalisation, ReLU; the readout is linear alone. The
    initial values have the distribution that PyTorch gives a linear layer, uniform within
    ``1 / sqrt(fan_in)`` of zero, but are drawn from `generator`.

    Parameters
    ----------
    dim : int
        Dimension of the points, at least 1.
    width : int
        Units per hidden layer.
    depth : int
        Number of hidden layers.
    batch_norm : {"before-activation", "after-activation"} or None
        Where each hidden layer is normalised, if at all.
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
    Gilmer et al. (2018), *Adversarial Spheres*, Section 3: ``dim=500, width=1000, depth=2``.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import ReLUNetwork
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = ReLUNetwork(500, 1000, 2, batch_norm=None, generator=generator)
    >>> sum(p.numel() for p in network.parameters())
    1503001
    >>> network = ReLUNetwork(2, 8, 1, n_classes=3, generator=generator)
    >>> network.outputs(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        dim: int,
        width: int,
        depth: int,
        *,
        batch_norm: BatchNorm | None = "before-activation",
        n_classes: int = 2,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        generator = generator_of(generator, seed)
        self.dim = check_integer("dim", dim, minimum=1)
        self.width = check_integer("width", width, minimum=1)
        self.depth = check_integer("depth", depth, minimum=1)
        if batch_norm is not None and batch_norm not in get_args(BatchNorm):
            raise ValueError(
                "batch_norm must be 'before-activation', 'after-activation' or None, "
                f"got {batch_norm!r}."
            )
        self.batch_norm = batch_norm
        self._n_classes = check_integer("n_classes", n_classes, minimum=2)
        n_outputs = 1 if self.n_classes == 2 else self.n_classes
        sizes = [self.dim, *[self.width] * self.depth, n_outputs]
        self.linear = nn.ModuleList(
            _linear(n_in, n_out, generator, check_floating(dtype))
            for n_in, n_out in pairwise(sizes)
        )
        n_norms = 0 if batch_norm is None else self.depth
        self.norm = nn.ModuleList(nn.BatchNorm1d(self.width, dtype=dtype) for _ in range(n_norms))

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._n_classes

    def outputs(self, x: Tensor) -> Tensor:
        """Return the margin of two classes, shape ``(n,)``, or logits ``(n, K)`` of K >= 3."""
        self._check_points(x, self.dim)
        *hidden, readout = self.linear
        for layer, linear in enumerate(hidden):
            x = linear(x)
            if self.batch_norm == "before-activation":
                x = self.norm[layer](x)
            x = torch.relu(x)
            if self.batch_norm == "after-activation":
                x = self.norm[layer](x)
        found: Tensor = readout(x)
        return found.squeeze(1) if self.n_classes == 2 else found

    @torch.no_grad()
    def folded(self) -> list[tuple[Tensor, Tensor]]:
        """Return the network in eval mode as linear layers with ReLU between them.

        In eval mode batch normalisation is affine, so it folds into the linear layer before it
        (``"before-activation"``) or after it (``"after-activation"``).

        Returns
        -------
        list of (Tensor, Tensor)
            Weight ``(n_out, n_in)`` and bias ``(n_out,)`` of each layer, readout last, float64.

        Raises
        ------
        ValueError
            If a layer was replaced by one of another class.

        Examples
        --------
        >>> import torch
        >>> from trueboundary.classifiers import ReLUNetwork
        >>> network = ReLUNetwork(2, 8, 1, generator=torch.Generator().manual_seed(0)).eval()
        >>> (w1, b1), (w2, b2) = network.folded()
        >>> x = torch.ones(1, 2)
        >>> folded = w2 @ torch.relu(w1 @ x[0].double() + b1) + b2
        >>> torch.allclose(folded.float(), network.margin(x))
        True
        """
        linears = [_of_class(m, nn.Linear) for m in self.linear]
        norms = [_of_class(m, nn.BatchNorm1d) for m in self.norm]
        layers = [(m.weight.double(), m.bias.double()) for m in linears]
        for layer, norm in enumerate(norms):
            scale, shift = _affine(norm)
            if self.batch_norm == "before-activation":
                weight, bias = layers[layer]
                layers[layer] = (scale[:, None] * weight, scale * bias + shift)
            else:
                weight, bias = layers[layer + 1]
                layers[layer + 1] = (weight * scale, bias + weight @ shift)
        return layers

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments, the generator apart."""
        arguments = {
            "dim": self.dim,
            "width": self.width,
            "depth": self.depth,
            "batch_norm": self.batch_norm,
        }
        return arguments if self.n_classes == 2 else {**arguments, "n_classes": self.n_classes}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a network of the given shape, with arbitrary initial values."""
        return cls(**arguments, seed=0)


def _of_class(layer: nn.Module, kind: type[_Layer]) -> _Layer:
    """Return a layer of exactly this class, or say that it is another."""
    if type(layer) is not kind:
        raise Disagreement(
            f"a ReLUNetwork can be folded as it was made, with {kind.__name__} layers, but one of "
            f"them is now a {type(layer).__name__}."
        )
    return layer


def _linear(n_in: int, n_out: int, generator: torch.Generator, dtype: torch.dtype) -> nn.Linear:
    # Building on "meta" keeps the layer from drawing its values from torch's global state.
    layer = nn.Linear(n_in, n_out, device="meta", dtype=dtype).to_empty(device=generator.device)
    bound = 1 / math.sqrt(n_in)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift that batch normalisation is in eval mode, float64."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("only batch normalisation with running averages can be folded.")
    scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - scale * mean.double()
