"""Whether a classifier computes what its class says, which is all that a proof can speak of.

Proofs and exact error rates are read from a classifier's parameters: from the layers of a network,
or the parts of a density. They are true of the classifier itself only if it is of the very class
that the reading belongs to, if nothing was hung on it that changes what it computes (a hook, a
patched method, a reparametrized weight), and if what was read gives the classifier's own margins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import parametrize

from trueboundary.classifiers.base import Classifier, outputs
from trueboundary.classifiers.edge import evaluated

__all__ = [
    "Disagreement",
    "alteration",
    "departure",
    "disagreement",
    "require_agreement",
    "require_kind",
    "require_own",
]

Floats = npt.NDArray[np.float64]

#: What the rounding of long sums may exceed its usual size by.
_ALLOWANCE = 16.0


class Disagreement(ValueError):
    """A classifier's outputs are not those of what was read from its parameters."""


def alteration(module: nn.Module) -> str | None:
    """Say what on a module may change what it computes, None if nothing does.

    Parameters
    ----------
    module : Module
        Any module; its submodules are looked at as well.

    Returns
    -------
    str or None
        The rest of a sentence that begins with the module's name.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers.integrity import alteration
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 1))
    >>> alteration(network) is None
    True
    >>> handle = network[0].register_forward_hook(lambda module, points, margins: 3 * margins)
    >>> alteration(network)
    "has a forward hook on '0'"
    """
    everywhere = nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return "is subject to a forward hook on all modules"
    for name, part in module.named_modules():
        where = f" on {name!r}" if name else ""
        # Pruning, and the older spectral and weight norms, set the weight in such a hook.
        if part._forward_hooks or part._forward_pre_hooks:
            return f"has a forward hook{where}"
        if parametrize.is_parametrized(part):
            return f"has a parametrization{where}"
        patched = _patched(part)
        if patched is not None:
            return f"has a method {patched}() of its own{where}"
    return None


def departure(thing: Any, kinds: tuple[type, ...]) -> str | None:
    """Say why an object of one of these kinds may compute something else than its kind does.

    Parameters
    ----------
    thing : object
        A classifier; only an instance of a kind itself is beyond doubt, none of a subclass.
    kinds : tuple of type
        Classes whose instances' parameters say all that they compute.

    Returns
    -------
    str or None
        The rest of a sentence that begins with the classifier's name.
    """
    kind = next((kind for kind in kinds if isinstance(thing, kind)), None)
    if kind is None:
        return f"is no {' or '.join(kind.__name__ for kind in kinds)}"
    if type(thing) is not kind:
        return f"is of a subclass of {kind.__name__}, which may compute something else"
    return alteration(thing) if isinstance(thing, nn.Module) else None


def require_kind(thing: Any, kinds: tuple[type, ...], who: str, advice: str) -> None:
    """Raise unless an object computes what one of these kinds does."""
    doubt = departure(thing, kinds)
    if doubt is not None:
        raise TypeError(
            f"{who} needs a {' or '.join(kind.__name__ for kind in kinds)} as it was made, but "
            f"this {type(thing).__name__} {doubt}; {advice}."
        )


def require_own(thing: Any, method: str, who: str) -> None:
    """Raise unless the very class of an object defines the method that describes it.

    Of a subclass nobody knows whether the description of its parent class still fits.
    """
    kind, doubt = type(thing), None
    if method not in vars(kind):
        parent = next((base for base in kind.__mro__ if method in vars(base)), None)
        if parent is not None:
            doubt = f"inherits {method}() from {parent.__name__} and may compute something else"
    elif isinstance(thing, nn.Module):
        doubt = alteration(thing)
    if doubt is not None:
        raise TypeError(
            f"{who} reads a classifier from its {method}(), but this {kind.__name__} {doubt}; "
            f"take that off, or write {method}() in a class of its own."
        )


def require_agreement(
    classifier: Any, points: Floats, expected: Floats, rounding: Floats, who: str
) -> None:
    """Raise `Disagreement` if outputs differ from those read from it; see `disagreement`."""
    doubt = disagreement(classifier, points, expected, rounding)
    if doubt is not None:
        raise Disagreement(
            f"{who} cannot speak for this classifier: it {doubt}, so that something else than its "
            "parameters decides."
        )


@torch.no_grad()
def disagreement(
    classifier: Classifier, points: Floats, expected: Floats, rounding: Floats
) -> str | None:
    """Say where a classifier's outputs are others than those that were read from its parameters.

    Parameters
    ----------
    classifier : callable
        Any classifier; a module is judged in eval mode, and left in the mode it is in.
    points : ndarray of shape (n, d)
        Points in float64; the classifier gets them in its own dtype.
    expected : ndarray of shape (n,) or (n, K)
        Outputs of what was read, computed in float64: margins, or logits of K >= 3 classes.
    rounding : ndarray of the same shape
        By how many units of relative rounding the classifier's outputs may be off.

    Returns
    -------
    str or None
        The rest of a sentence that begins with the classifier's name, None if all outputs agree.
    """
    if len(points) == 0:
        return None
    parameters = classifier.parameters() if isinstance(classifier, nn.Module) else iter(())
    like = next((p for p in parameters if p.is_floating_point()), torch.empty(0).double())
    with evaluated(classifier):
        own = outputs(classifier, torch.from_numpy(points).to(like)).double().numpy(force=True)
    if own.shape != expected.shape:
        classes = [2 if found.ndim == 1 else found.shape[1] for found in (own, expected)]
        return f"tells {classes[0]} classes apart where its parameters tell {classes[1]}"
    allowed = _ALLOWANCE * torch.finfo(like.dtype).eps * rounding
    wrong = ~(np.abs(own - expected) <= allowed)
    if not wrong.any():
        return None
    first = tuple(np.argwhere(wrong)[0])
    what = "margin" if own.ndim == 1 else f"logit of class {first[1]}"
    n_wrong = int(wrong.reshape(len(points), -1).any(axis=1).sum())
    return (
        f"gives point {first[0]} the {what} {own[first]:.6g} where its parameters give "
        f"{expected[first]:.6g} ({n_wrong} of {len(points)} points differ)"
    )


def _patched(part: nn.Module) -> str | None:
    """Return the name of a method that was replaced in one module alone."""
    kind = type(part)
    for name in vars(part):
        if callable(getattr(kind, name, None)):
            return name
    return None
