"""Losses that ask for more than being right: small weights, or errors that are far away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trueboundary._checks import check_real
from trueboundary.classifiers import ClassifierModule, wrongness_of
from trueboundary.domains import norm
from trueboundary.training.steps import cross_entropy

__all__ = ["LargeMargin", "WeightDecay"]


@dataclass(frozen=True)
class WeightDecay:
    r"""Cross-entropy with a price on the squares of all parameters, to be given to `train`.

    The loss is the mean cross-entropy plus :math:`\frac\lambda2 \sum_p p^2`. Under Adam that is
    not the decoupled decay of AdamW, which shrinks all parameters alike.

    Parameters
    ----------
    strength : float
        :math:`\lambda`, positive.

    References
    ----------
    Krogh and Hertz (1991), *A Simple Weight Decay Can Improve Generalization*. Loshchilov and
    Hutter (2019), *Decoupled Weight Decay Regularization*, for the difference.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import SoftmaxRegression
    >>> from trueboundary.training import WeightDecay
    >>> model = SoftmaxRegression(dim=2, n_classes=2)
    >>> _ = torch.nn.init.constant_(model.weight, 1.0)
    >>> batch = torch.zeros(1, 2), torch.tensor([0])
    >>> round(WeightDecay(0.5)(model, *batch, generator=torch.Generator()).item(), 4)  # log 2 + 1
    1.6931
    """

    strength: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", check_real("strength", self.strength, above=0.0))

    def __call__(
        self,
        model: ClassifierModule,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return the loss of a batch, a scalar."""
        del generator, seed
        squares = sum(p.square().sum() for p in model.parameters() if p.requires_grad)
        return cross_entropy(model.outputs(x), y).mean() + self.strength / 2 * squares

    def describe(self) -> str:
        """Return the parameters in one line."""
        return repr(self)


@dataclass(frozen=True)
class LargeMargin:
    r"""A hinge on the distance to the boundary, to first order, to be given to `train`.

    With w the wrongness of a point x for its label, by how much the best other class leads, the
    boundary is :math:`-w / \|\nabla_x w\|` away to first order, and the loss of the point is

    .. math:: \max\Bigl(0,\; \gamma + \frac{w(x)}{\|\nabla_x w(x)\|_2}\Bigr).

    Numerator and denominator are both differentiated. It is the loss of Elsayed et al. on the
    points themselves, with the best other class in place of all others, and without the layers
    between. Scaling the logits changes nothing. A network whose normalisation reads its batch has
    no gradient of a single point; it is trained by that of the whole batch.

    Parameters
    ----------
    margin : float
        :math:`\gamma`, the distance that is asked for, positive, in the units of the points.

    References
    ----------
    Elsayed et al. (2018), *Large Margin Deep Networks for Classification*.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import SoftmaxRegression
    >>> from trueboundary.training import LargeMargin
    >>> model = SoftmaxRegression(dim=2, n_classes=2)
    >>> with torch.no_grad():
    ...     model.weight[1, 0] = 7.0  # the boundary: the first coordinate is 0
    >>> batch = torch.tensor([[0.25, 0.0]]), torch.tensor([1])
    >>> LargeMargin(1.0)(model, *batch, generator=torch.Generator()).item()
    0.75
    """

    margin: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", check_real("margin", self.margin, above=0.0))

    def __call__(
        self,
        model: ClassifierModule,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        del generator, seed
        with torch.enable_grad():
            points = x.detach().requires_grad_()
            wrong = wrongness_of(model.outputs(points), y)
            (slope,) = torch.autograd.grad(wrong.sum(), points, create_graph=True)
        # The norm has no slope at zero: there the classifier is flat, and nothing is learnt.
        steepness = norm(slope).clamp(min=torch.finfo(x.dtype).tiny ** 0.5)
        return torch.relu(self.margin + wrong / steepness).mean()

    def describe(self) -> str:
        """Return the parameters in one line."""
        return repr(self)
