"""The one thing every classifier is reduced to: how wrong it is at a point of a class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeGuard

import torch
from torch import Tensor, nn

from trueboundary._tensors import check_each_label

Classifier = Callable[[Tensor], Tensor]
"""Anything that maps points ``(n, *event)`` to margins or logits; see `margin`."""

_HALF = (torch.float16, torch.bfloat16)

#: How torch refuses a graph: for a trip through NumPy, for out=, for tensors of inference mode.
_NO_GRAPH = ("numpy()", "automatic differentiation", "Inference tensors cannot be saved")


class ClassifierModule(nn.Module, ABC):
    """A classifier of any number of classes, given by its outputs.

    A subclass writes `outputs`. `forward` returns one logit per class, so that libraries that
    expect logits take the module as it is. Such libraries also read the device from the first
    parameter, so every subclass has at least one parameter, frozen if need be.
    """

    @property
    @abstractmethod
    def n_classes(self) -> int | None:
        """Number of classes, at least 2; None where only a call shows it."""

    @abstractmethod
    def outputs(self, x: Tensor) -> Tensor:
        """Return margins ``(n,)`` of two classes, or logits ``(n, K)`` of K >= 3."""

    def margin(self, x: Tensor) -> Tensor:
        """Return logit 1 minus logit 0, shape ``(n,)``; positive means class 1."""
        return _of_two(self.outputs(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of all classes, shape ``(n, K)``.

        Those of two classes are ``[-m/2, +m/2]``, whose difference is the margin m and whose
        softmax is its sigmoid.
        """
        found = _own_outputs(self)(x)
        if found.ndim == 2:
            return found
        half = found / 2
        return torch.stack([-half, half], dim=-1)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the predicted class, int64, shape ``(n,)``; of equal logits the first wins."""
        return predicted(outputs(self, x))

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor needs to build a module of the same shape."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be stored; write its arguments() and register it."
        )

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a module of the given shape, with any parameter values."""
        return cls(**arguments)

    def _check_points(self, x: Tensor, dim: int) -> None:
        """Raise unless `x` has shape ``(n, dim)`` and the dtype of the parameters."""
        if x.ndim != 2 or x.shape[1] != dim:
            raise ValueError(
                f"{type(self).__name__} expects points of shape (n, {dim}), got {tuple(x.shape)}."
            )
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype:
            raise TypeError(
                f"{type(self).__name__} computes in {dtype} but the points are {x.dtype}; "
                f"convert the points with x.to({dtype}) or the classifier with .to({x.dtype})."
            )


class BinaryClassifier(ClassifierModule):
    """A classifier with two classes, given by its margin, which a subclass writes."""

    @property
    def n_classes(self) -> int:
        """Number of classes, 2."""
        return 2

    @abstractmethod
    def margin(self, x: Tensor) -> Tensor:
        """Return logit 1 minus logit 0, shape ``(n,)``; positive means class 1."""

    def outputs(self, x: Tensor) -> Tensor:
        """Return the margins, shape ``(n,)``."""
        return self.margin(x)


def outputs(classifier: Classifier, x: Tensor, *, allow_nan: bool = False) -> Tensor:
    """Return what any classifier says of points: margins of two classes, logits of more.

    This is the one place where a classifier is called. It gets a copy of the points, which it may
    change; a module in half precision gets them rounded to its own.

    Parameters
    ----------
    classifier : callable
        Maps points ``(n, *event)`` to one margin per point, shape ``(n,)`` or ``(n, 1)``, or to
        one logit per class, shape ``(n, K)`` with K >= 2. For a single point the axis of points
        may be missing, as after ``.squeeze()``.
    x : Tensor
        Points, shape ``(n, *event)``.
    allow_nan : bool
        Return NaN for points without a class, instead of raising.

    Returns
    -------
    Tensor
        Margins, logit 1 minus logit 0, shape ``(n,)``, where there are two classes; the logits,
        shape ``(n, K)``, where there are more. At least in single precision. Gradients flow
        through it.

    Raises
    ------
    TypeError
        If the classifier does not return a tensor of floating-point numbers, or computes in a
        dtype that cannot take the points.
    ValueError
        If its output has another shape, or is NaN.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import outputs
    >>> x = torch.tensor([[0.5, 0.0], [2.0, 0.0]])
    >>> outputs(lambda x: torch.stack([x[:, 1], x[:, 0]], dim=1), x)
    tensor([0.5000, 2.0000])
    >>> outputs(lambda x: torch.stack([x[:, 1], x[:, 0], -x[:, 0]], dim=1), x).shape
    torch.Size([2, 3])
    """
    output = raw_outputs(classifier, x)
    if output.ndim == 2 and output.shape[1] <= 2:
        # A margin that went through two logits would only lose digits.
        output = output[:, 0] if output.shape[1] == 1 else output[:, 1] - output[:, 0]
    if not allow_nan:
        is_nan = output.isnan() if output.ndim == 1 else output.isnan().any(dim=1)
        if is_nan.any():
            raise ValueError(
                f"the classifier returned NaN for {int(is_nan.sum())} of {len(x)} points, so they "
                "have no class; check the points and the classifier's parameters."
            )
    return output


def margin(classifier: Classifier, x: Tensor, *, allow_nan: bool = False) -> Tensor:
    """Return the margin of any classifier of two classes, logit 1 minus logit 0.

    Parameters
    ----------
    classifier, x, allow_nan
        As for `outputs`.

    Returns
    -------
    Tensor
        Margins, shape ``(n,)``, at least in single precision. Gradients flow through it.

    Raises
    ------
    TypeError, ValueError
        As for `outputs`, and if there are more than two classes.

    Notes
    -----
    A positive margin means class 1, a negative one class 0. What a margin of exactly 0 means
    depends on who asks. `predict` and error rates follow argmax, which gives the first of equal
    logits: class 0; see `misclassified`. What an attack reports as found is strictly wrong for its
    label, so that nobody's rule calls it right. For a certificate a margin of 0 is an error
    already, so that what it proves holds under every rule.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import margin
    >>> x = torch.tensor([[0.5, 0.0], [2.0, 0.0]])
    >>> margin(lambda x: x.norm(dim=1) - 1, x)
    tensor([-0.5000,  1.0000])
    >>> margin(lambda x: torch.stack([x[:, 1], x[:, 0]], dim=1), x)
    tensor([0.5000, 2.0000])
    """
    return _of_two(outputs(classifier, x, allow_nan=allow_nan))


def wrongness(
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    target: Tensor | None = None,
    allow_nan: bool = False,
) -> Tensor:
    r"""Return how wrong a classifier is at points with labels, positive where it errs.

    It is the one quantity that attacks climb, that splitting scores and that certificates bound:

    .. math:: \max_{j \ne y} f_j(x) - f_y(x)

    for the logits f. For two classes that is the margin, with its sign turned for class 1.

    Parameters
    ----------
    classifier, x, allow_nan
        As for `outputs`.
    y : Tensor
        Labels, int64, shape ``(n,)``.
    target : Tensor, optional
        Classes into which the points are to be taken, shape ``(n,)``: then it is
        :math:`f_t(x) - \max_{j \ne t} f_j(x)`, positive where the target is the class.

    Returns
    -------
    Tensor
        Shape ``(n,)``. Gradients flow through it.

    Raises
    ------
    TypeError, ValueError
        As for `outputs`, and if labels or targets are none of the classifier's classes.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import wrongness
    >>> linear = lambda x: torch.stack([x[:, 0], x[:, 1], -x[:, 0]], dim=1)
    >>> x = torch.tensor([[3.0, 1.0], [-2.0, 1.0]])
    >>> wrongness(linear, x, torch.tensor([0, 0]))
    tensor([-2.,  4.])
    >>> wrongness(linear, x, torch.tensor([0, 0]), target=torch.tensor([2, 1]))
    tensor([-6., -1.])
    """
    found = outputs(classifier, x, allow_nan=allow_nan)
    check_each_label(y, len(x), number_of_classes(found))
    if target is not None:
        check_each_label(target, len(x), number_of_classes(found), "targets")
    return wrongness_of(found, y, target)


def wrongness_of(found: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the `wrongness` that the `outputs` ``(n,)`` or ``(n, K)`` of a classifier tell."""
    if found.ndim == 1:  # the other class is the only target
        return (1 - 2 * y.to(found)) * found
    own = (y if target is None else target).to(found.device).long()[:, None]
    rest = found.scatter(1, own, -torch.inf).max(dim=1).values
    lead = rest - found.gather(1, own).squeeze(1)
    return lead if target is None else -lead


def margin_and_gradient(
    classifier: Classifier, x: Tensor, *, allow_nan: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return the margin of any classifier and its gradient, whatever mode autograd is in.

    Parameters
    ----------
    classifier, x, allow_nan
        As for `margin`.

    Returns
    -------
    margins : Tensor
        Shape ``(n,)``, without a graph.
    gradient : Tensor or None
        Gradient of each point's margin, shape ``(n, *event)``; None where the classifier's output
        does not depend on its input for autograd.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import margin_and_gradient
    >>> margin_and_gradient(lambda x: 2 * x[:, 0], torch.ones(1, 3))
    (tensor([2.]), tensor([[2., 0., 0.]]))
    """
    return value_and_gradient(lambda points: margin(classifier, points, allow_nan=allow_nan), x)


def wrongness_and_gradient(
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    target: Tensor | None = None,
    allow_nan: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return the `wrongness` at points and its gradient, as `margin_and_gradient` does.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import wrongness_and_gradient
    >>> wrongness_and_gradient(lambda x: 2 * x[:, 0], torch.ones(1, 3), torch.tensor([1]))
    (tensor([-2.]), tensor([[-2.,  0.,  0.]]))
    """

    def value(points: Tensor) -> Tensor:
        return wrongness(classifier, points, y, target=target, allow_nan=allow_nan)

    return value_and_gradient(value, x)


def value_and_gradient(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return values ``(n,)`` of a function of points and its gradient, whatever autograd's mode.

    Of values ``(n, k)`` there are gradients ``(n, k, *event)``, from one call and k passes back.
    The gradient is None where the values do not depend on the points for autograd.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        try:
            values = function(leaf)
        except RuntimeError as error:
            if not any(words in str(error) for words in _NO_GRAPH):
                raise
            with torch.no_grad():
                values = function(leaf)
        gradient = None
        if values.requires_grad and values.ndim == 1:
            ones = torch.ones_like(values)
            (gradient,) = torch.autograd.grad(values, leaf, ones, allow_unused=True)
        elif values.requires_grad:
            parts = [
                torch.autograd.grad(part.sum(), leaf, retain_graph=True, materialize_grads=True)[0]
                for part in values.unbind(1)
            ]
            gradient = torch.stack(parts, dim=1)
    return values.detach(), gradient


def number_of_classes(found: Tensor) -> int:
    """Return of how many classes the `outputs` ``(n,)`` or ``(n, K)`` of a classifier speak."""
    return 2 if found.ndim == 1 else found.shape[1]


def predicted(found: Tensor) -> Tensor:
    """Return the classes ``(n,)``, int64, that `outputs` give; the first of equal logits."""
    return (found > 0).long() if found.ndim == 1 else found.argmax(dim=1)


def misclassified(found: Tensor, y: Tensor | int) -> Tensor:
    """Return which points a classifier gives to another class than their own.

    Parameters
    ----------
    found : Tensor
        What `outputs` returns: margins, shape ``(n,)``, or logits, shape ``(n, K)``.
    y : Tensor or int
        Labels, shape ``(n,)`` or one for all.

    Returns
    -------
    Tensor
        Shape ``(n,)``, bool. As for argmax, of equal logits the first is the class, which for a
        margin of exactly 0 is class 0; NaN is no class, and so an error for all.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import misclassified
    >>> misclassified(torch.tensor([-1.0, 0.0, 1.0]), 0)
    tensor([False, False,  True])
    >>> misclassified(torch.tensor([[1.0, 3.0, 3.0], [1.0, 0.0, 2.0]]), torch.tensor([1, 1]))
    tensor([False,  True])
    """
    wrong = predicted(found) != torch.as_tensor(y, device=found.device)
    return wrong | (found.isnan() if found.ndim == 1 else found.isnan().any(dim=1))


def _of_two(found: Tensor) -> Tensor:
    """Return outputs that are margins, or say that there are none."""
    if found.ndim == 2:
        raise ValueError(
            f"a margin is the difference of two logits, but this classifier has {found.shape[1]} "
            "classes; see wrongness, or take a pair with as_classifier(classifier, classes=(0, 1))."
        )
    return found


def _own_outputs(classifier: ClassifierModule) -> Classifier:
    """Return the method that gives a module's outputs: its margin where somebody wrote one.

    Whoever changes the margin of a classifier of two classes in a subclass means to be heard.
    """
    own_margin = getattr(classifier.margin, "__func__", None) is not ClassifierModule.margin
    return (
        classifier.margin
        if own_margin and classifier.n_classes in (2, None)
        else classifier.outputs
    )


def _speaks_by_its_outputs(classifier: Classifier) -> TypeGuard[ClassifierModule]:
    """Whether calling a classifier gives its own outputs: nothing hangs on or hides `forward`."""
    everywhere = nn.modules.module
    return (
        isinstance(classifier, ClassifierModule)
        and type(classifier).forward is ClassifierModule.forward
        and type(classifier).__call__ is nn.Module.__call__
        and vars(classifier).keys().isdisjoint(("forward", "_call_impl", "_wrapped_call_impl"))
        and not (classifier._forward_hooks or classifier._forward_pre_hooks)
        and not (everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks)
    )


def raw_outputs(classifier: Classifier, x: Tensor) -> Tensor:
    """Return what a classifier says of a copy of the points, ``(n,)`` or ``(n, K)``, K >= 1."""
    points = x.clone()
    if isinstance(classifier, nn.Module):
        parameter = next(classifier.parameters(), None)
        if parameter is not None and parameter.dtype in _HALF:
            points = points.to(parameter.dtype)
    call = _own_outputs(classifier) if _speaks_by_its_outputs(classifier) else classifier
    try:
        output = call(points)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        if "dtype" not in reason and "scalar type" not in reason:
            raise
        raise TypeError(
            f"the classifier cannot take points of {points.dtype} ({reason}); convert the points "
            "or the classifier, or give the module itself, whose dtype can be seen."
        ) from error
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(
            f"a classifier must return a tensor of floating-point margins or logits, got {kind}."
        )
    n, shape = len(x), tuple(output.shape)
    if n == 1 and (shape == () or (len(shape) == 1 and shape[0] > 1)):
        output = output.reshape(1, *shape)
    elif shape != (n,) and (len(shape) != 2 or shape[0] != n or shape[1] == 0):
        raise ValueError(
            f"a classifier of {n} points must return one margin for each, shape ({n},) or "
            f"({n}, 1), or one logit per class, shape ({n}, K); got {shape}."
        )
    return output.float() if output.dtype in _HALF else output
