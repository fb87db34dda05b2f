"""The edge between trueboundary and a classifier that somebody else wrote.

Every verb (measuring, attacks, certificates, splitting, the command line) looks at a classifier
through `evaluated`: modules compute in eval mode while the verb runs, and are afterwards as they
were, mode and buffers alike. What the user should know about it comes back as sentences that the
verb's result carries.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from trueboundary.classifiers.base import BinaryClassifier, CallableClassifier, Classifier

__all__ = ["ClassifierWarning", "dtype_of", "evaluated", "modules_of", "probability_doubts"]

_SEVERAL = 3  # outputs of a class that tell probabilities from logits
_MOST = 1000  # entries of a collection that are looked at
_DEPTH = 4  # how far functions that call functions are followed to the modules that they use

#: Where torch keeps the layers that compute the same in both modes, whatever their settings.
_INDIFFERENT = frozenset(
    f"torch.nn.modules.{name}"
    for name in (
        "activation",
        "container",
        "conv",
        "flatten",
        "linear",
        "normalization",
        "padding",
        "pixelshuffle",
        "pooling",
        "upsampling",
    )
)
_RANDOM_ACTIVATIONS = (nn.RReLU, nn.MultiheadAttention)


class ClassifierWarning(UserWarning):
    """Something about a classifier makes it doubtful that the result is what was asked for."""


def modules_of(classifier: Any) -> list[nn.Module]:
    """Return the modules that a classifier computes with, each root once.

    A module is its own root. Of functions, partial functions, bound methods and callable objects,
    the modules are returned that they hold or refer to, as far as Python can tell.

    Parameters
    ----------
    classifier : callable
        Any classifier.

    Returns
    -------
    list of Module
        Empty where none was found, which does not prove that there is none.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import modules_of
    >>> network = torch.nn.Linear(3, 1)
    >>> modules_of(lambda x: network(x).squeeze(1)) == [network]
    True
    """
    found: dict[int, nn.Module] = {}
    _collect(classifier, found, set(), _DEPTH)
    return list(found.values())


def _collect(thing: Any, found: dict[int, nn.Module], seen: set[int], depth: int) -> None:
    if depth < 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        found[id(thing)] = thing
        if isinstance(thing, CallableClassifier):  # a function that it holds is no submodule
            _collect(thing.function, found, seen, depth - 1)
        return
    for part in _parts(thing):
        _collect(part, found, seen, depth - 1)


def _parts(thing: Any) -> list[Any]:
    """Return what a callable or a collection may compute with."""
    if isinstance(thing, (dict, list, tuple, set, frozenset)):
        return list(islice(thing.values() if isinstance(thing, dict) else thing, _MOST))
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if inspect.isfunction(thing):
        try:
            names = inspect.getclosurevars(thing)
        except ValueError:  # a variable of the closure that is not bound yet
            return list(thing.__defaults__ or ())
        defaults = [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        wrapped = [thing.__wrapped__] if hasattr(thing, "__wrapped__") else []
        return [*names.nonlocals.values(), *names.globals.values(), *defaults, *wrapped]
    if isinstance(thing, (type, ModuleType, Tensor)) or inspect.isbuiltin(thing):
        return []
    return list(islice(getattr(thing, "__dict__", {}).values(), _MOST))


@contextmanager
def evaluated(classifier: Classifier) -> Iterator[tuple[str, ...]]:
    """Hold a classifier in eval mode; afterwards its mode and buffers are as before.

    Parameters
    ----------
    classifier : callable
        Any classifier; modules that a function uses are found where Python can tell.

    Yields
    ------
    tuple of str
        A sentence for whoever reads the result, where a module came in training mode and that may
        matter; empty otherwise.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import evaluated
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Dropout())
    >>> with evaluated(network) as sentences:
    ...     network.training, len(sentences)
    (False, 1)
    >>> network.training
    True
    """
    roots = modules_of(classifier)
    modules = list({id(m): m for root in roots for m in root.modules()}.values())
    modes = [module.training for module in modules]
    owners = [root for root in roots if any(m.training for m in root.modules())]
    tops = [root.training for root in owners]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    doubtful = _depends_on_mode([m for m, mode in zip(modules, modes, strict=True) if mode])
    try:
        for root in owners:
            root.eval()
        yield () if doubtful is None else (_training_mode_sentence(doubtful),)
    finally:
        # A module may do more than set a flag when its mode changes, so its own method comes first.
        for root, top in zip(owners, tops, strict=True):
            root.train(top)
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        _restore(buffers)


def _restore(buffers: list[tuple[nn.Module, str, Tensor, Tensor]]) -> None:
    with torch.inference_mode():  # also buffers that were made in it
        for module, name, buffer, content in buffers:
            # Batch normalization writes past the version counters, so contents are compared.
            if not torch.equal(buffer, content):
                buffer.copy_(content)
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer


def _depends_on_mode(training: list[nn.Module]) -> nn.Module | None:
    """Return a module in training mode that may compute something else in eval mode."""
    for module in training:
        kind = type(module)
        if kind.__module__ in _INDIFFERENT and kind not in _RANDOM_ACTIVATIONS:
            continue
        if kind.__module__.startswith("trueboundary."):  # these leave it to their submodules
            continue
        if kind.__module__.startswith("torch.") or _speaks_of_mode(kind):
            return module
    return None


def _speaks_of_mode(kind: type) -> bool:
    """Whether a class's own methods read or set the mode; if not, it is up to its submodules."""
    own = kind.__mro__[: kind.__mro__.index(nn.Module)]
    methods = [method for base in own for method in vars(base).values()]
    return any(
        "training" in method.__code__.co_names or method.__name__ in ("train", "eval")
        for method in methods
        if inspect.isfunction(method)
    )


def _training_mode_sentence(module: nn.Module) -> str:
    return (
        f"the classifier came in training mode, which may matter for its {type(module).__name__}; "
        "it was evaluated in eval mode and left as it was"
    )


def dtype_of(classifier: Any, default: torch.dtype = torch.float32) -> torch.dtype:
    """Return the dtype of the points to give to a classifier: float64 if its parameters are.

    Without any parameters it is the default.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import dtype_of
    >>> dtype_of(torch.nn.Linear(3, 1).double())
    torch.float64
    >>> dtype_of(torch.nn.Linear(3, 1).half())  # points are rounded to half precision at the edge
    torch.float32
    """
    for root in modules_of(classifier):
        for parameter in root.parameters():
            if parameter.is_floating_point():
                return torch.float64 if parameter.dtype == torch.float64 else torch.float32
    return default


def probability_doubts(
    classifier: Classifier, margins_0: Tensor, margins_1: Tensor
) -> tuple[str, ...]:
    """Return a sentence if a classifier seems to return probabilities where logits are expected.

    A network that ends in a sigmoid is never negative, so that read as a margin it gives every
    point to class 1. The mark is that every output lies in [0, 1], on points of both classes.

    Parameters
    ----------
    classifier : callable
        What gave the margins. Own classifiers and those of `as_classifier` with ``outputs`` other
        than logits are beyond doubt.
    margins_0, margins_1 : Tensor
        Margins at points of either class, NaN where there is none. Fewer than three of a class are
        too few to tell.

    Returns
    -------
    tuple of str
        One sentence or none.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import probability_doubts
    >>> f = lambda x: torch.sigmoid(x[:, 0])
    >>> x = torch.tensor([[-3.0], [-2.0], [-4.0]])
    >>> len(probability_doubts(f, f(x), f(-x)))
    1
    """
    if not gives_one_number(classifier):
        return ()
    for margins in (margins_0, margins_1):
        # One point of a class may be wrong by chance; several, and all by so little, hardly are.
        known = margins[~margins.isnan()]
        if len(known) < _SEVERAL or not bool(((known >= 0) & (known <= 1)).all()):
            return ()
    if not bool((margins_0 > 0).any() | (margins_1 > 0).any()):
        return ()
    return (PROBABILITIES,)


PROBABILITIES = (
    "every output of the classifier lies between 0 and 1, as probabilities do, but was taken for a "
    "logit, whose sign decides; if it is the probability of class 1, give "
    "as_classifier(classifier, outputs='probability')"
)


def gives_one_number(classifier: Classifier) -> bool:
    """Whether a classifier's margin may be a single output of somebody else's."""
    if isinstance(classifier, CallableClassifier):
        return classifier.outputs == "logit" and gives_one_number(classifier.function)
    return not isinstance(classifier, BinaryClassifier)
