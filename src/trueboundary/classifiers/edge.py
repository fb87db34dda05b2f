"""The edge between trueboundary and a classifier that somebody else wrote.

Every verb (measuring, attacks, certificates, splitting, the command line) looks at a classifier
through `evaluated`: modules compute in eval mode while the verb runs, and are afterwards as they
were, mode and buffers alike. What the user should know about it comes back as sentences that the
verb's result carries.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from trueboundary.classifiers.adapters import CallableClassifier
from trueboundary.classifiers.base import Classifier, ClassifierModule

__all__ = ["ClassifierWarning", "dtype_of", "evaluated", "modules_of", "probability_doubts"]

_SEVERAL = 3  # outputs of a class that tell probabilities from logits
_MOSTLY = 0.5  # share of a class
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
# Whose graph keeps the mode in which it was recorded.
_Traced = torch.jit.TopLevelTracedModule  # type: ignore[attr-defined]
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
    seen: set[tuple[int, ...]] = set()
    level = [classifier]
    held = []  # so that no number that stands for a seen object is given to another one
    for _ in range(_DEPTH + 1):
        new = []
        for thing in level:
            key = _key(thing)
            if key not in seen:
                seen.add(key)
                new.append(thing)
        held += new
        found.update((id(thing), thing) for thing in new if isinstance(thing, nn.Module))
        level = [part for thing in new for part in _parts(thing)]
    return list(found.values())


def _key(thing: Any) -> tuple[int, ...]:
    """Return numbers that tell objects apart; a bound method is made anew at each look."""
    if isinstance(thing, MethodType):
        return id(thing.__self__), id(thing.__func__)
    return (id(thing),)


def _parts(thing: Any) -> list[Any]:
    """Return what a callable or a collection may compute with."""
    if isinstance(thing, nn.Module):  # a function that it holds is no submodule
        return [thing.function] if isinstance(thing, CallableClassifier) else []
    if isinstance(thing, (dict, list, tuple, set, frozenset)):
        return list(islice(thing.values() if isinstance(thing, dict) else thing, _MOST))
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__, *_of_class(thing.__self__, thing.__func__)]
    if inspect.isfunction(thing):
        return _of_function(thing)
    if isinstance(thing, (type, ModuleType, Tensor)) or inspect.isbuiltin(thing):
        return []
    own = list(islice(getattr(thing, "__dict__", {}).values(), _MOST))
    for base in type(thing).__mro__:
        slots = vars(base).get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else tuple(slots)
        own += [getattr(thing, name) for name in names if hasattr(thing, name)]
        own += [value for value in vars(base).values() if isinstance(value, nn.Module)]
    call = inspect.getattr_static(type(thing), "__call__", None)
    return [*own, MethodType(call, thing)] if inspect.isfunction(call) else own


def _of_function(function: FunctionType) -> list[Any]:
    """Return what a function refers to: its closure, defaults, and globals by name."""
    names = _names(function.__code__)
    parts: list[Any] = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a variable that is not bound yet
            parts.append(cell.cell_contents)
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        inside = vars(value) if isinstance(value, ModuleType) else {}
        parts += [value, *(inside[part] for part in names & inside.keys())]
    parts += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [*parts, function.__wrapped__] if hasattr(function, "__wrapped__") else parts


def _of_class(owner: Any, method: Any) -> list[Any]:
    """Return what a method may use of its class: other methods, and attributes of the class."""
    if not inspect.isfunction(method) or isinstance(owner, nn.Module):
        return []
    kind = owner if isinstance(owner, type) else type(owner)
    parts = []
    for name in _names(method.__code__):
        value = inspect.getattr_static(kind, name, None)
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        parts.append(MethodType(value, owner) if inspect.isfunction(value) else value)
    return parts


def _names(code: CodeType) -> set[str]:
    """Return the names of globals and attributes in a piece of code and in those within it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


@contextmanager
def evaluated(classifier: Any) -> Iterator[tuple[str, ...]]:
    """Hold a classifier in eval mode; afterwards its mode and buffers are as before.

    Parameters
    ----------
    classifier : callable or collection of them
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
    _require_values(modules)
    modes = [module.training for module in modules]
    owners = [root for root in roots if any(m.training for m in root.modules())]
    tops = [root.training for root in owners]
    buffers = [
        (module, {name: (b, None if b is None else b.clone()) for name, b in _buffers(module)})
        for module in modules
    ]
    doubtful = _depends_on_mode([m for m, mode in zip(modules, modes, strict=True) if mode])
    try:
        refusals = [refusal for root in owners for refusal in _turn(root, mode=False)]
        told = [] if doubtful is None else [_training_mode_sentence(doubtful)]
        yield tuple(refusals or told)
    finally:
        # A module may do more than set a flag when its mode changes, so its own method comes first.
        for root, top in zip(owners, tops, strict=True):
            _turn(root, mode=top)
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for module, before in buffers:
            _restore(module, before)


def _require_values(modules: list[nn.Module]) -> None:
    """Raise if a module still waits for its first points, which would fill it with numbers."""
    for module in modules:
        for tensor in (*module._parameters.values(), *(b for _, b in _buffers(module))):
            if tensor is not None and nn.parameter.is_lazy(tensor):
                raise ValueError(
                    f"the classifier's {type(module).__name__} has no values yet; call the "
                    "classifier once on some points before it is measured."
                )


def _turn(root: nn.Module, *, mode: bool) -> list[str]:
    """Set a module's mode; return a sentence if that changes nothing about what it computes."""
    traced = [m for m in root.modules() if m.training and isinstance(m, _Traced)]
    why = "was traced in training mode" if traced else None
    try:
        root.train(mode) if mode else root.eval()
    except Exception as error:  # exported modules refuse
        for module in root.modules():
            module.training = mode
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        why = f"refuses to change its mode ({reason})"
    if why is None:
        return []
    return [
        f"the classifier's {type(root).__name__} {why}, so that it may have been evaluated in "
        "training mode; give it in eval mode from the start"
    ]


def _buffers(module: nn.Module) -> list[tuple[str, Tensor | None]]:
    return list(module._buffers.items())  # of compiled modules this is no dictionary


def _restore(module: nn.Module, before: dict[str, tuple[Tensor | None, Tensor | None]]) -> None:
    """Give a module its buffers back: the same tensors with the same content, and no others."""
    now = dict(_buffers(module))
    for name in now.keys() - before.keys():
        delattr(module, name)
    for name, (buffer, content) in before.items():
        # Only where it changed: whoever holds a graph for autograd may need it untouched.
        if buffer is not None and content is not None and not torch.equal(buffer, content):
            with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                buffer.copy_(content)
        if now.get(name) is not buffer:
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

    Without any parameters the first buffer decides, and without buffers it is the default.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import dtype_of
    >>> dtype_of(torch.nn.Linear(3, 1).double())
    torch.float64
    >>> dtype_of(torch.nn.Linear(3, 1).half())  # points are rounded to half precision at the edge
    torch.float32
    """
    # What an adapter holds for itself says nothing of the function within.
    for root in sorted(modules_of(classifier), key=lambda m: isinstance(m, CallableClassifier)):
        for tensor in (*root.parameters(), *root.buffers()):
            if tensor.is_floating_point():
                return torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return default


def probability_doubts(
    classifier: Classifier, margins_0: Tensor, margins_1: Tensor
) -> tuple[str, ...]:
    """Return a sentence if a classifier seems to return probabilities where logits are expected.

    A network that ends in a sigmoid is never negative, so that read as a margin it gives every
    point to class 1. The mark is that every output lies in [0, 1], on points of both classes. That
    of log probabilities is that none exceeds 0, while as such most would be right in both classes.

    Parameters
    ----------
    classifier : callable
        What gave the margins. The classifiers of this package and those of `as_classifier` with
        ``outputs`` other than logits are beyond doubt.
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
    known = [margins[~margins.isnan()] for margins in (margins_0, margins_1)]
    # One point of a class may be wrong by chance; several, and all by so little, hardly are.
    if min(len(margins) for margins in known) < _SEVERAL:
        return ()
    low, high = torch.aminmax(torch.cat(known))
    if low >= 0 and 0 < high <= 1:
        return (_sentence(classifier, "lies between 0 and 1, as probabilities do,", "probability"),)
    # One that never says 1 may well be a poor one, unless as probabilities its outputs are right.
    right = [known[0] < -math.log(2), known[1] > -math.log(2)]
    if high <= 0 and min(float(part.float().mean()) for part in right) > _MOSTLY:
        return (
            _sentence(classifier, "is at most 0, as log probabilities are,", "log_probability"),
        )
    return ()


def _sentence(classifier: Classifier, mark: str, outputs: str) -> str:
    """Return the sentence for outputs with a mark of what they may be instead of logits."""
    words = outputs.replace("_", " ")
    return (
        f"every output of the classifier {mark} but was taken for a logit, whose sign decides; "
        f"if it is the {words} of class 1, {cure_of_outputs(classifier, outputs)}"
    )


def cure_of_outputs(classifier: Classifier, outputs: str) -> str:
    """Say what to do about a classifier whose outputs are not the logits that they stand for."""
    if isinstance(classifier, CallableClassifier):
        return f"add outputs={outputs!r} where as_classifier wraps the classifier"
    if isinstance(classifier, ClassifierModule):
        return f"let {type(classifier).__name__}.margin return log p - log(1 - p)"
    return f"give as_classifier(classifier, outputs={outputs!r})"


def gives_one_number(classifier: Classifier) -> bool:
    """Whether a classifier's margin may be a single output of somebody else's."""
    if isinstance(classifier, CallableClassifier):
        return classifier.returns == "logit" and gives_one_number(classifier.function)
    is_ours = type(classifier).__module__.partition(".")[0] == "trueboundary"
    return not (is_ours and isinstance(classifier, ClassifierModule))
