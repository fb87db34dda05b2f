"""Which certificate, exact error rate and way of counting belong to a kind of classifier.

Whoever writes a classifier registers what is known of it; `trueboundary.distances` and
`trueboundary.error_rate` look here and ask nobody else. Ours come in through the same door, in
`trueboundary.measure.proofs`, `trueboundary.measure.exact` and `trueboundary.measure.counting`.

What is registered for a class speaks of instances of that very class, with nothing hung on them
that changes what they compute; see `trueboundary.classifiers.integrity`. Instances of a subclass
are told why they get nothing, unless the subclass is registered itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import nn

from trueboundary.certificates import Certificate
from trueboundary.classifiers.integrity import departure
from trueboundary.problems import Problem

__all__ = [
    "BlockCounter",
    "ExactRates",
    "register_block_counter",
    "register_certificate",
    "register_exact_rate",
]


class ExactRates(NamedTuple):
    """Natural logarithms of the error rates on all classes, and why they are exact."""

    log_errors: tuple[float, ...]
    reason: str


class BlockCounter(Protocol):
    """Counts the errors of one classifier among random points of one problem, block by block."""

    def __call__(
        self, index: int, n: int, *, seed: int, label: int, device: torch.device | str
    ) -> int:
        """Return the number of errors among the first `n` points of a block of one class.

        Blocks are those of `trueboundary.problems.Problem.block`, at most 8192 points each: of the
        same points, or of others of the same law, of which block `index` is drawn by a generator
        of its own and its first points do not depend on `n`.
        """


#: Returns the certificate of a classifier, or why it has none (empty where that goes unsaid).
CertificateMaker = Callable[[Any], Certificate | str]
#: Returns the exact error rates of a classifier on a problem, or a sentence why there are none.
ExactRateMaker = Callable[[Any, Any], ExactRates | str]

#: Returns how errors are counted faster than point by point, or a sentence why they are not.
BlockCounterMaker = Callable[[Any, Any], BlockCounter | str]

_Maker = TypeVar("_Maker", bound=Callable[..., Any])
_CERTIFICATES: dict[type, Callable[..., Any]] = {}
_EXACT_RATES: dict[tuple[type, type], Callable[..., Any]] = {}
_BLOCK_COUNTERS: dict[tuple[type, type], Callable[..., Any]] = {}


def register_certificate(*kinds: type) -> Callable[[_Maker], _Maker]:
    """Register the certificate of classes of classifiers, as a decorator.

    Parameters
    ----------
    *kinds : type
        Classes of classifiers, modules or not.

    Returns
    -------
    callable
        Decorates a `Certificate` class that can be made without arguments, or a function that
        returns the certificate of a classifier, or a sentence why it has none.

    Raises
    ------
    ValueError
        If there is a certificate for one of the classes already.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> from trueboundary.certificates import Certificate, Certified
    >>> from trueboundary.measure import register_certificate
    >>> class Ball:
    ...     def __call__(self, x):
    ...         return x.norm(dim=1) - 1.15
    >>> @register_certificate(Ball)
    ... class BallCertificate(Certificate):
    ...     def certify(self, subject):
    ...         norm = subject.x.norm(dim=1)
    ...         nearest = subject.x / norm[:, None] * 1.15
    ...         return Certified((norm - 1.15).abs(), norm > 0, nearest)
    >>> inner, _ = tb.distances(Ball(), tb.ConcentricSpheres(3), domain=tb.Space(), n_points=2)
    >>> inner.lower.round(2).tolist(), inner.exact.tolist(), inner.method
    ([0.15, 0.15], [True, True], 'BallCertificate below, NearestError above')
    """

    def decorate(maker: _Maker) -> _Maker:
        if not isinstance(maker, type):
            _add(_CERTIFICATES, kinds, maker)
        elif issubclass(maker, Certificate):
            maker()  # a class that cannot be made without arguments says so here and now
            _add(_CERTIFICATES, kinds, lambda classifier: maker(), maker.__name__)
        else:
            raise TypeError(f"expected a Certificate class, got {maker.__name__}.")
        return maker

    return decorate


def register_exact_rate(
    classifier: type | tuple[type, ...], problem: type[Problem]
) -> Callable[[_Maker], _Maker]:
    """Register the exact error rates of classes of classifiers on a problem, as a decorator.

    Parameters
    ----------
    classifier : type or tuple of type
        Classes of classifiers; ``object`` stands for any.
    problem : type
        Class of problems; what is known there counts for its subclasses, too.

    Returns
    -------
    callable
        Decorates a function of the classifier and the problem that returns `ExactRates`, or a
        sentence why there are none.

    Raises
    ------
    ValueError
        If there is one for such a pair already.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> import trueboundary as tb
    >>> from trueboundary.measure import ExactRates, register_exact_rate
    >>> class Half(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x[:, 0]
    >>> @register_exact_rate(Half, tb.ConcentricSpheres)
    ... def of_half(classifier, problem):
    ...     return ExactRates((math.log(0.5), math.log(0.5)), "half of a sphere lies either side")
    >>> inner, outer = tb.error_rate(Half(), tb.ConcentricSpheres(3))
    >>> inner.value, inner.method, inner.reason
    (0.5, 'exact', 'half of a sphere lies either side')
    """
    return _for_pairs(_EXACT_RATES, classifier, problem)


def register_block_counter(
    classifier: type | tuple[type, ...], problem: type[Problem]
) -> Callable[[_Maker], _Maker]:
    """Register how errors of classes of classifiers on a problem are counted, as a decorator.

    For classifiers whose errors among random points can be counted faster than by classifying the
    points one by one, with the same distribution of the count.

    Parameters
    ----------
    classifier : type or tuple of type
        Classes of classifiers.
    problem : type
        Class of problems; what is known there counts for its subclasses, too.

    Returns
    -------
    callable
        Decorates a function of the classifier and the problem that returns a `BlockCounter`, or a
        sentence why the points are to be classified one by one.

    Raises
    ------
    ValueError
        If there is one for such a pair already.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> from trueboundary.measure import register_block_counter
    >>> from trueboundary.problems import block_generator
    >>> class Coin(torch.nn.Module):  # wrong where the first coordinate is positive
    ...     def forward(self, x):
    ...         return x[:, 0]
    >>> @register_block_counter(Coin, tb.ConcentricSpheres)
    ... def of_coin(classifier, problem):
    ...     def count(index, n, *, seed, label, device):
    ...         generator = block_generator(seed, index, purpose=f"coin {label}", device=device)
    ...         return int((torch.rand(8192, generator=generator)[:n] < 0.5).sum())
    ...     return count
    >>> inner, _ = tb.error_rate(Coin(), tb.ConcentricSpheres(50), n_points=1_000_000)
    >>> inner.low < 0.5 < inner.high
    True
    """
    return _for_pairs(_BLOCK_COUNTERS, classifier, problem)


def certificate_for(classifier: Any) -> Certificate | str:
    """Return the certificate of a classifier, or why it has none, empty where none is known."""
    kind = next((kind for kind in type(classifier).__mro__ if kind in _CERTIFICATES), None)
    if kind is None:
        return ""
    doubt = departure(classifier, (kind,))
    if doubt is not None:
        return f"this {type(classifier).__name__} {doubt}"
    found: Certificate | str = _CERTIFICATES[kind](classifier)
    return found


def exact_rates_for(classifier: Any, problem: Problem) -> ExactRates | str:
    """Return the exact error rates of a classifier on a problem, or why there are none."""
    pair = _pair_of(_EXACT_RATES, classifier, problem)
    if pair is None:
        return "no exact form is known for this classifier"
    doubt = None if pair[0] is object else departure(classifier, (pair[0],))
    if doubt is not None:
        return f"no exact form is known, since this {type(classifier).__name__} {doubt}"
    found = _EXACT_RATES[pair](classifier, problem)
    if isinstance(found, str):
        return found
    name = _EXACT_RATES[pair].__name__
    if not isinstance(found, ExactRates):
        raise TypeError(
            f"expected {name} to return ExactRates, or a sentence why there are none, got "
            f"{type(found).__name__}."
        )
    logs = found.log_errors
    real = all(isinstance(log, (int, float)) and log <= 0 for log in logs)  # false for NaN, too
    if len(logs) != problem.n_classes or not real:
        raise ValueError(
            f"expected {name} to return the natural logarithms of {problem.n_classes} error rates, "
            f"none above 0, got {logs}."
        )
    return found


def block_counter_for(classifier: Any, problem: Problem) -> BlockCounter | str:
    """Return how a classifier's errors on a problem are counted fast, or why they are not."""
    pair = _pair_of(_BLOCK_COUNTERS, classifier, problem)
    if pair is None:
        return "no faster way is known for this classifier"
    doubt = departure(classifier, (pair[0],))
    if doubt is not None:
        return f"this {type(classifier).__name__} {doubt}"
    found: BlockCounter | str = _BLOCK_COUNTERS[pair](classifier, problem)
    return found


def _pair_of(
    registry: dict[tuple[type, type], Any], classifier: Any, problem: Problem
) -> tuple[type, type] | None:
    """Return under which pair of classes something is registered for a classifier on a problem."""
    pairs = (
        (kind, setting) for kind in type(classifier).__mro__ for setting in type(problem).__mro__
    )
    return next((pair for pair in pairs if pair in registry), None)


def known_exact_rates() -> str:
    """Return the pairs that have an exact error rate, in words."""
    names = (
        f"{'any classifier' if kind is object else kind.__name__} on {problem.__name__}"
        for kind, problem in _EXACT_RATES
    )
    return ", ".join(names)


def _for_pairs(
    registry: dict[Any, Callable[..., Any]],
    classifier: type | tuple[type, ...],
    problem: type[Problem],
) -> Callable[[_Maker], _Maker]:
    """Return a decorator that adds what is known of classes of classifiers on a problem."""
    kinds = classifier if isinstance(classifier, tuple) else (classifier,)

    def decorate(maker: _Maker) -> _Maker:
        _add(registry, [(kind, problem) for kind in kinds], maker)
        return maker

    return decorate


def _add(
    registry: dict[Any, Callable[..., Any]], keys: Sequence[Any], maker: Any, name: str = ""
) -> None:
    """Add what is known for each key, or say for which one something is known already."""
    if not callable(maker):
        raise TypeError(f"expected a class or a function to register, got {maker!r}.")
    name = name or getattr(maker, "__name__", type(maker).__name__)
    if not keys or keys[0] is maker or nn.Module in keys:
        raise TypeError(
            f"expected the classes of classifiers that {name} is for, got "
            f"{'none' if not keys else keys[0].__name__}; name your own class."
        )
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, type) for part in parts):
            raise TypeError(f"expected classes to register {name} for, got {key!r}.")
        if key in registry:
            words = " on ".join(part.__name__ for part in parts)
            raise ValueError(f"{words} is registered already; {name} cannot take its place.")
    registry.update(dict.fromkeys(keys, maker))
