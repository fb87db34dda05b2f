"""Classifiers as people have them, with their own outputs, classes and normalisation."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from trueboundary.classifiers.base import (
    Classifier,
    ClassifierModule,
    raw_outputs,
)
from trueboundary.classifiers.base import (
    outputs as outputs_of,
)

Outputs = Literal["logit", "probability", "log_probability"]
"""What a classifier's outputs are; see `as_classifier`."""

Numbers = float | Sequence[float] | Tensor


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """What is done to points before a classifier sees them.

    Points ``(n, *event)`` become ``(x - mean) / std``, in another shape where one is given. One
    number per channel stands for all pixels of that channel.

    Parameters
    ----------
    mean, std : float, sequence or Tensor
        What to subtract and what to divide by: one number, one per channel, or one per pixel.
    shape : tuple of int, optional
        Shape of one point as the classifier takes it, ``(1, 28, 28)`` for a digit; by default
        points keep theirs.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import Preprocessing
    >>> Preprocessing(0.5, 0.5, (1, 2, 2))(torch.ones(3, 4)).shape
    torch.Size([3, 1, 2, 2])
    """

    mean: Numbers = 0.0
    std: Numbers = 1.0
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        try:
            mean, std = (
                torch.as_tensor(part, dtype=torch.float64).detach()
                for part in (self.mean, self.std)
            )
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"expected mean and std as numbers, got {self.mean!r} and {self.std!r}."
            ) from error
        if not bool(mean.isfinite().all()) or not bool((std.isfinite() & (std > 0)).all()):
            raise ValueError(
                f"expected a finite mean and a std above 0, got {self.mean} and {self.std}."
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        if self.shape is not None:
            try:
                shape = tuple(map(operator.index, self.shape))
            except TypeError:
                shape = ()
            if not shape or min(shape) < 1:
                raise ValueError(f"expected a shape such as (1, 28, 28), got {self.shape}.")
            object.__setattr__(self, "shape", shape)

    def __call__(self, x: Tensor) -> Tensor:
        """Return points ``(n, *event)`` as the classifier takes them."""
        if self.shape is not None:
            if x[0].numel() != torch.Size(self.shape).numel():
                raise ValueError(
                    f"points of shape {tuple(x.shape[1:])} cannot become {self.shape}, as "
                    "preprocess asks."
                )
            x = x.reshape(-1, *self.shape)
        mean, std = (self._like(part, x) for part in (self.mean, self.std))
        return (x - mean) / std

    def _like(self, part: Any, x: Tensor) -> Tensor:
        """Return numbers that fit points: one per channel runs along the first axis of each."""
        numbers: Tensor = part.to(x)
        event = x.shape[1:]
        if numbers.ndim > len(event) and len(numbers) == 1:  # written for a batch
            numbers = numbers[0]
        if numbers.shape == event[:1]:
            numbers = numbers.reshape(-1, *[1] * (len(event) - 1))
        elif numbers.numel() == event.numel():
            numbers = numbers.reshape(event)
        sizes = zip(reversed(numbers.shape), reversed(event), strict=False)
        if numbers.ndim > len(event) or any(own not in (1, there) for own, there in sizes):
            raise ValueError(
                f"a mean or std of shape {tuple(part.shape)} does not fit points of shape "
                f"{tuple(event)}; expected one number, one per channel or one per pixel."
            )
        return numbers


class CallableClassifier(ClassifierModule):
    """Any callable, seen as a `ClassifierModule`; made by `as_classifier`.

    Parameters
    ----------
    function : callable
        What `trueboundary.classifiers.outputs` accepts.
    returns : {"logit", "probability", "log_probability"}
        What it returns.
    classes : tuple of int, optional
        Those of its classes that count, in this order.
    preprocess : Preprocessing, optional
        What is done to the points first.
    """

    def __init__(
        self,
        function: Classifier,
        returns: Outputs = "logit",
        classes: tuple[int, ...] | None = None,
        preprocess: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        self.function = function
        self.returns = returns
        self.classes = classes
        self.preprocess = preprocess
        if next(self.parameters(), None) is None:
            self.placeholder = nn.Parameter(torch.zeros(()), requires_grad=False)

    @property
    def n_classes(self) -> int | None:
        """Number of classes, None where only a call shows it."""
        if self.classes is not None:
            return len(self.classes)
        return self.function.n_classes if isinstance(self.function, ClassifierModule) else None

    def outputs(self, x: Tensor) -> Tensor:
        """Return margins ``(n,)`` or logits ``(n, K)`` of the wrapped callable."""
        points = x if self.preprocess is None else self.preprocess(x)
        if self.returns == "logit" and self.classes is None:
            return outputs_of(self.function, points, allow_nan=True)
        found = raw_outputs(self.function, points)
        if self.returns == "logit":
            logits = _of_classes(found)
        elif self.returns == "probability":
            logits = _log_probabilities(found)
        else:
            logits = _checked_logs(found)
        if self.classes is not None:
            n = logits.shape[1]
            if max(self.classes) >= n:
                raise ValueError(
                    f"the classes {self.classes} were asked for, but the classifier has {n}, "
                    f"numbered from 0 to {n - 1}."
                )
            logits = logits[:, list(self.classes)]
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def _of_classes(found: Tensor) -> Tensor:
    """Return logits ``(n, K)`` of outputs; a margin m stands for the logits 0 and m."""
    if found.ndim == 2 and found.shape[1] > 1:
        return found
    margins = found.reshape(len(found))
    return torch.stack([torch.zeros_like(margins), margins], dim=1)


def _log_probabilities(found: Tensor) -> Tensor:
    """Return the logarithms ``(n, K)`` of probabilities of class 1, or of all classes."""
    if not bool(((found >= 0) & (found <= 1)).all()):
        raise ValueError(
            f"expected probabilities between 0 and 1, got outputs from {found.min().item():.4g} to "
            f"{found.max().item():.4g}; outputs='logit' takes any number."
        )
    tiny = torch.finfo(found.dtype).tiny  # stands for 0, so that a margin is always finite
    logs = found.clamp(min=tiny).log()
    if found.ndim == 2 and found.shape[1] > 1:
        return logs
    others = (1 - found).clamp(min=tiny).log()
    return torch.stack([others.reshape(len(found)), logs.reshape(len(found))], dim=1)


def _checked_logs(found: Tensor) -> Tensor:
    """Return log probabilities ``(n, K)`` of all classes, given those of class 1, or of all."""
    if not bool((found <= 0).all()):
        raise ValueError(
            f"expected log probabilities of at most 0, got {found.max().item():.4g}; "
            "outputs='logit' takes any number."
        )
    logs = found.clamp(min=torch.finfo(found.dtype).min)
    if found.ndim == 2 and found.shape[1] > 1:
        return logs
    others = (-torch.expm1(logs)).clamp(min=torch.finfo(found.dtype).tiny).log()
    return torch.stack([others.reshape(len(found)), logs.reshape(len(found))], dim=1)


def as_classifier(
    classifier: Classifier,
    *,
    outputs: Outputs = "logit",
    classes: Sequence[int] | None = None,
    preprocess: Preprocessing | tuple[Any, ...] | None = None,
) -> ClassifierModule:
    """Return any classifier as a `ClassifierModule`, itself if it is one and nothing is asked.

    Parameters
    ----------
    classifier : callable
        A module or function that `trueboundary.classifiers.outputs` accepts. A module keeps its
        parameters and its mode.
    outputs : {"logit", "probability", "log_probability"}
        What it returns: logits (or a margin), or the probability of class 1 or of all classes, or
        its logarithm. Logits are then log probabilities; where one has saturated at 0 or 1, it is
        as large as the dtype allows and has no gradient.
    classes : sequence of int, optional
        Which of its classes count, at least two, to be numbered from 0 in this order: ``(0, 6)``
        makes a classifier of zeros against sixes of one of ten digits.
    preprocess : Preprocessing or tuple, optional
        ``(mean, std)`` or ``(mean, std, shape)``: what is done to points before the classifier
        sees them, so that distances are those of the points themselves; see `Preprocessing`.

    Returns
    -------
    ClassifierModule
        A module whose `outputs` are margins ``(n,)`` of two classes or logits ``(n, K)`` of more,
        and which called returns logits ``(n, K)``.

    Raises
    ------
    ValueError
        If the outputs are those of a classifier that is known already, or a setting makes no sense.

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
    >>> ten = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    >>> pair = as_classifier(ten, classes=(0, 6), preprocess=(0.13, 0.31, (1, 28, 28)))
    >>> pair.margin(torch.zeros(5, 784)).shape
    torch.Size([5])
    """
    if outputs not in get_args(Outputs):
        raise ValueError(
            f"expected outputs 'logit', 'probability' or 'log_probability', got {outputs!r}."
        )
    if not callable(classifier):
        raise TypeError(f"a classifier must be callable, got {type(classifier).__name__}.")
    if isinstance(classifier, ClassifierModule):
        if outputs != "logit":
            raise ValueError(
                f"{type(classifier).__name__} gives its logits itself; leave outputs out."
            )
        if classes is None and preprocess is None:
            return classifier
    adapted = CallableClassifier(
        classifier, outputs, _checked_classes(classes), _checked_preprocessing(preprocess)
    )
    if isinstance(classifier, nn.Module):
        adapted.training = classifier.training
    return adapted


def _checked_classes(classes: Sequence[int] | None) -> tuple[int, ...] | None:
    if classes is None:
        return None
    try:
        chosen = tuple(map(operator.index, classes))
    except TypeError:
        chosen = ()
    if len(chosen) < 2 or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise ValueError(
            f"expected at least two different classes, each counted from 0, got {classes!r}."
        )
    return chosen


def _checked_preprocessing(
    preprocess: Preprocessing | tuple[Any, ...] | None,
) -> Preprocessing | None:
    if preprocess is None or isinstance(preprocess, Preprocessing):
        return preprocess
    if not isinstance(preprocess, tuple) or len(preprocess) not in (2, 3):
        raise ValueError(
            f"expected preprocess as (mean, std) or (mean, std, shape), got {preprocess!r}."
        )
    return Preprocessing(*preprocess)
