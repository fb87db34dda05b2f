"""The one thing every classifier is reduced to: a margin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Self, TypeGuard, get_args

import torch
from torch import Tensor, nn

Classifier = Callable[[Tensor], Tensor]
"""Anything that maps points ``(n, *event)`` to margins or logits; see `margin`."""

Outputs = Literal["logit", "probability", "log_probability"]
"""What a classifier's outputs are; see `as_classifier`."""

_HALF = (torch.float16, torch.bfloat16)

#: How torch refuses a graph: for a trip through NumPy, for out=, for tensors of inference mode.
_NO_GRAPH = ("numpy()", "automatic differentiation", "Inference tensors cannot be saved")


class BinaryClassifier(nn.Module, ABC):
    """A classifier with two classes, given by its margin.

    A subclass writes `margin`. `forward` returns the two logits ``[-m/2, +m/2]``, whose
    difference is the margin m and whose softmax is its sigmoid, so that libraries that expect
    logits of two classes take the module as it is. Such libraries also read the device from the
    first parameter, so every subclass has at least one parameter, frozen if need be.
    """

    @abstractmethod
    def margin(self, x: Tensor) -> Tensor:
        """Return logit 1 minus logit 0, shape ``(n,)``; positive means class 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of both classes, shape ``(n, 2)``."""
        half = self.margin(x) / 2
        return torch.stack([-half, half], dim=-1)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the predicted class, int64, shape ``(n,)``; a margin of exactly 0 gives 0."""
        return (margin(self, x) > 0).long()

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


def margin(classifier: Classifier, x: Tensor, *, allow_nan: bool = False) -> Tensor:
    """Return the margin of any classifier, logit 1 minus logit 0.

    This is the one place where a classifier is called. It gets a copy of the points, which it may
    change; a module in half precision gets them rounded to its own.

    Parameters
    ----------
    classifier : callable
        Maps points ``(n, *event)`` to one margin per point, shape ``(n,)`` or ``(n, 1)``, or to
        two logits per point, shape ``(n, 2)``. For a single point the axis of points may be
        missing, as after ``.squeeze()``.
    x : Tensor
        Points, shape ``(n, *event)``.
    allow_nan : bool
        Return NaN for points without a margin, instead of raising.

    Returns
    -------
    Tensor
        Margins, shape ``(n,)``, at least in single precision. Gradients flow through it.

    Raises
    ------
    TypeError
        If the classifier does not return a tensor of floating-point numbers, or computes in a
        dtype that cannot take the points.
    ValueError
        If its output has another shape, or a margin is NaN.

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
    output = _logits(classifier, x)
    if output.ndim == 2:
        # A margin that went through two logits would only lose digits.
        output = output[:, 0] if output.shape[1] == 1 else output[:, 1] - output[:, 0]
    if not allow_nan:
        is_nan = output.isnan()
        if is_nan.any():
            raise ValueError(
                f"the classifier returned NaN for {int(is_nan.sum())} of {len(x)} points, so they "
                "have no class; check the points and the classifier's parameters."
            )
    return output


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
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        try:
            values = margin(classifier, leaf, allow_nan=allow_nan)
        except RuntimeError as error:
            if not any(words in str(error) for words in _NO_GRAPH):
                raise
            with torch.no_grad():
                values = margin(classifier, leaf, allow_nan=allow_nan)
        gradient = None
        if values.requires_grad:
            ones = torch.ones_like(values)
            (gradient,) = torch.autograd.grad(values, leaf, ones, allow_unused=True)
    return values.detach(), gradient


def misclassified(margins: Tensor, y: Tensor | int) -> Tensor:
    """Return which points a classifier gives to another class than their own.

    Parameters
    ----------
    margins : Tensor
        Margins, shape ``(n,)``.
    y : Tensor or int
        Labels, 0 or 1, shape ``(n,)`` or one for all.

    Returns
    -------
    Tensor
        Shape ``(n,)``, bool. A margin of exactly 0 is class 0, as for argmax; NaN is no class, and
        so an error for both.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import misclassified
    >>> misclassified(torch.tensor([-1.0, 0.0, 1.0]), 0)
    tensor([False, False,  True])
    """
    is_one = margins > 0
    wrong = is_one != torch.as_tensor(y, device=margins.device).bool()
    return wrong | margins.isnan()


def _speaks_by_its_margin(classifier: Classifier) -> TypeGuard[BinaryClassifier]:
    """Whether calling a classifier gives its own margin: nothing hangs on or hides `forward`."""
    everywhere = nn.modules.module
    return (
        isinstance(classifier, BinaryClassifier)
        and type(classifier).forward is BinaryClassifier.forward
        and type(classifier).__call__ is nn.Module.__call__
        and vars(classifier).keys().isdisjoint(("forward", "_call_impl", "_wrapped_call_impl"))
        and not (classifier._forward_hooks or classifier._forward_pre_hooks)
        and not (everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks)
    )


def _logits(classifier: Classifier, x: Tensor) -> Tensor:
    """Return what a classifier says of a copy of the points, ``(n,)``, ``(n, 1)`` or ``(n, 2)``."""
    points = x.clone()
    if isinstance(classifier, nn.Module):
        parameter = next(classifier.parameters(), None)
        if parameter is not None and parameter.dtype in _HALF:
            points = points.to(parameter.dtype)
    call = classifier.margin if _speaks_by_its_margin(classifier) else classifier
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
    if n == 1 and shape in ((), (2,)):
        output = output.reshape(1, *shape)
    elif shape not in ((n,), (n, 1), (n, 2)):
        raise ValueError(
            f"a classifier of {n} points must return shape ({n},), ({n}, 1) or ({n}, 2), "
            f"got {shape}; only two classes are supported."
        )
    return output.float() if output.dtype in _HALF else output


class CallableClassifier(BinaryClassifier):
    """Any callable, seen as a `BinaryClassifier`; made by `as_classifier`.

    Parameters
    ----------
    function : callable
        What `margin` accepts.
    outputs : {"logit", "probability", "log_probability"}
        What it returns.
    """

    def __init__(self, function: Classifier, outputs: Outputs = "logit") -> None:
        super().__init__()
        self.function = function
        self.outputs = outputs
        if next(self.parameters(), None) is None:
            self.placeholder = nn.Parameter(torch.zeros(()), requires_grad=False)

    def margin(self, x: Tensor) -> Tensor:
        """Return the margin of the wrapped callable, shape ``(n,)``."""
        if self.outputs == "logit":
            return margin(self.function, x, allow_nan=True)
        output = _logits(self.function, x)
        if self.outputs == "probability":
            if not bool(((output >= 0) & (output <= 1)).all()):
                raise ValueError(
                    "expected probabilities between 0 and 1, got outputs from "
                    f"{output.min().item():.4g} to {output.max().item():.4g}; "
                    "outputs='logit' takes any number."
                )
            # The smallest normal number stands for 0, so that a margin is always finite.
            log_one = output.clamp(min=torch.finfo(output.dtype).tiny).log()
            log_zero = (1 - output).clamp(min=torch.finfo(output.dtype).tiny).log()
        else:
            if not bool((output <= 0).all()):
                raise ValueError(
                    f"expected log probabilities of at most 0, got {output.max().item():.4g}; "
                    "outputs='logit' takes any number."
                )
            log_one = output.clamp(min=torch.finfo(output.dtype).min)
            log_zero = (-torch.expm1(log_one)).clamp(min=torch.finfo(output.dtype).tiny).log()
        if output.ndim == 2 and output.shape[1] == 2:
            return log_one[:, 1] - log_one[:, 0]
        return (log_one - log_zero).reshape(len(x))


def as_classifier(classifier: Classifier, *, outputs: Outputs = "logit") -> BinaryClassifier:
    """Return any classifier as a `BinaryClassifier`, itself if it is one already.

    Parameters
    ----------
    classifier : callable
        A module or function that `margin` accepts. A module keeps its parameters and its mode.
    outputs : {"logit", "probability", "log_probability"}
        What it returns: logits (or a margin), or the probability of class 1 or of both classes, or
        its logarithm. The margin is the difference of the log probabilities; where a probability
        has saturated at 0 or 1, it is as large as the dtype allows and has no gradient.

    Returns
    -------
    BinaryClassifier
        A module whose `margin` has shape ``(n,)`` and whose logits have shape ``(n, 2)``.

    Raises
    ------
    ValueError
        If the classifier's margin is known already.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import as_classifier
    >>> classifier = as_classifier(torch.nn.Linear(3, 1))
    >>> classifier(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    >>> sigmoid = as_classifier(lambda x: torch.sigmoid(x[:, 0]), outputs="probability")
    >>> sigmoid.margin(torch.tensor([[-2.0], [3.0]]))
    tensor([-2.0000,  3.0000])
    """
    if outputs not in get_args(Outputs):
        raise ValueError(
            f"expected outputs 'logit', 'probability' or 'log_probability', got {outputs!r}."
        )
    if isinstance(classifier, BinaryClassifier):
        if outputs != "logit":
            raise ValueError(
                f"a {type(classifier).__name__} gives its margin itself; leave outputs out."
            )
        return classifier
    if not callable(classifier):
        raise TypeError(f"a classifier must be callable, got {type(classifier).__name__}.")
    adapted = CallableClassifier(classifier, outputs)
    if isinstance(classifier, nn.Module):
        adapted.training = classifier.training
    return adapted
