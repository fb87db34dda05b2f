"""Ways to train a classifier, by their names: what an audit of training compares."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trueboundary._checks import check_integer, check_real
from trueboundary.attacks import AttackResult
from trueboundary.audits.subjects import (
    given_images,
    is_estimator,
    named_object,
    subject_of_estimator,
)
from trueboundary.classifiers import (
    Classifier,
    ClassifierModule,
    ReLUNetwork,
    StridedConvolutionalNetwork,
    as_classifier,
)
from trueboundary.measure import distances_from
from trueboundary.problems import (
    FiniteSample,
    ImageProblem,
    OnlineStream,
    Problem,
    Stream,
    check_number_of_classes,
)
from trueboundary.suggestions import nearest
from trueboundary.training import (
    TRADES,
    Adversary,
    LargeMargin,
    Loss,
    OnManifoldAdversary,
    TowardsNearestError,
    TrainingConfig,
    WeightDecay,
    train,
)

if TYPE_CHECKING:
    from trueboundary.domains import Domain

__all__ = [
    "METHODS",
    "Fit",
    "NotTrained",
    "TrainingMethod",
    "TrainingSettings",
    "code_of",
    "find_method",
    "make_network",
    "typical_distance",
]

#: The methods that have a name, in the order of the table.
METHODS = ("standard", "weight-decay", "large-margin", "trades", "adversarial")

_WEIGHT_DECAY, _BETA = 1e-3, 5.0
# Of the usual networks. A deeper one costs half a minute a point to bound from below.
_DEPTH, _N_FILTERS, _WIDTH = 2, 4, 200
_N_TYPICAL = 20  # points of each class that tell how far errors of the optimal classifier are

#: A function of the user: from a problem and a generator to a trained classifier.
OwnMethod = Callable[[Problem, torch.Generator], Any]
Network = Callable[[], Any]


class NotTrained(ValueError):
    """What was to be trained is no classifier of the problem's points; the text says why."""


@dataclass(frozen=True)
class TrainingSettings:
    """How networks are trained, whatever the method.

    Parameters
    ----------
    n_steps : int
        Steps of Adam; the learning rate falls linearly to 0.
    batch_size : int
        Points per step.
    learning_rate : float
        At the beginning.
    n_train : int, optional
        Number of training points; fresh ones in every step by default.
    """

    n_steps: int = 200
    batch_size: int = 50
    learning_rate: float = 2e-3
    n_train: int | None = None

    def __post_init__(self) -> None:
        check_integer("n_steps", self.n_steps, minimum=1)
        check_integer("batch_size", self.batch_size, minimum=1)
        check_real("learning_rate", self.learning_rate, above=0.0)
        if self.n_train is not None:
            check_integer("n_train", self.n_train, minimum=1)

    def stream(self, problem: Problem, seed: int) -> Stream:
        """Return the batches of one training."""
        if self.n_train is None:
            return OnlineStream(problem, self.batch_size, seed)
        return FiniteSample(problem, self.n_train, self.batch_size, seed)


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained classifier, and what its training cost.

    Attributes
    ----------
    classifier : callable
        The classifier.
    seconds : float
        Processor time.
    gradients : float or None
        Gradients per training point, of the parameters and of the point alike; None where they
        were not counted.
    """

    classifier: Classifier
    seconds: float
    gradients: float | None


@dataclass(frozen=True, eq=False)
class TrainingMethod:
    """One way to train.

    Attributes
    ----------
    name : str
        What the table calls it.
    words : str
        Everything that determines it, in one line.
    is_own : bool
        Whether it is a function of the user.
    fit : callable
        ``fit(problem, seed, settings, network, checkpoint, progress)`` returns a `Fit`.
    """

    name: str
    words: str
    is_own: bool
    fit: Callable[..., Fit]


def find_method(what: str | OwnMethod, problem: Problem, size: float | None) -> TrainingMethod:
    """Return a method by its name, or of a function.

    Parameters
    ----------
    what : str or callable
        One of `METHODS`, perhaps with its parameter, such as ``trades=2``; ``file.py:function`` or
        ``module:function``; or a function ``(problem, generator)`` that returns a classifier.
    problem : Problem
        What is trained on.
    size : float or None
        How far errors are asked to be, in the units of the points; see `typical_distance`.

    Raises
    ------
    ValueError
        If there is no such method.
    """
    if callable(what):
        return _own(what, getattr(what, "__name__", type(what).__name__))
    name, has_value, text = what.partition("=")
    if name in METHODS:
        return _named(name, _number(what, text) if has_value else None, problem, size)
    place, _, function = what.rpartition(":")
    if not (place and function.isidentifier()):
        raise ValueError(
            f"there is no training method {what!r}: expected {', '.join(METHODS)}, or "
            f"file.py:function{nearest(name, METHODS) or '.'}"
        )
    found = named_object(what)
    if not callable(found):
        raise ValueError(
            f"expected {what} to be a function of a problem and a generator that returns a "
            f"classifier, got {type(found).__name__}."
        )
    return _own(found, what)


def typical_distance(problem: Problem) -> float:
    """Return the median distance to the optimal classifier's nearest error, in all of space.

    Examples
    --------
    >>> from trueboundary.audits.training_methods import typical_distance
    >>> from trueboundary.problems import ConcentricSpheres
    >>> round(typical_distance(ConcentricSpheres(dim=10)), 3)
    0.15
    """
    optimal = problem.bayes_classifier(dtype=torch.float64)
    found = []
    for label in range(problem.n_classes):
        x, _ = problem.block(
            0, seed=0, block_size=_N_TYPICAL, label=label, dtype=torch.float64, purpose="size"
        )
        found.append(distances_from(optimal, x, label).upper)
    return float(np.median(np.concatenate(found)))


def _number(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"expected a number above 0 after '=', as in trades=5, got {what!r}.")
    return value


def _named(name: str, value: float | None, problem: Problem, size: float | None) -> TrainingMethod:
    """Return a method of `METHODS`; each has one parameter besides the size."""
    if name == "standard":
        if value is not None:
            raise ValueError("the method standard has no parameter; leave '=' and a number out.")
        return _ours(name, "cross-entropy", lambda: (None, None), n_gradients=1)
    if name == "weight-decay":
        decay = WeightDecay(_WEIGHT_DECAY if value is None else value)
        return _ours(name, repr(decay), lambda: (decay, None), n_gradients=1)
    if size is None:
        size = typical_distance(problem)
    if not 0 < size < math.inf:
        raise ValueError(
            "the optimal classifier has no error near the points, so that nothing tells at what "
            "distance errors should be; give a size."
        )
    if name == "large-margin":
        margin = LargeMargin(size if value is None else value)
        return _ours(name, repr(margin), lambda: (margin, None), n_gradients=2)
    if name == "trades":
        trades = TRADES(_BETA if value is None else value, eps=size / 2)
        # One for each step of its search, and one for each of the two points of the loss.
        return _ours(name, repr(trades), lambda: (trades, None), n_gradients=trades.n_steps + 2)
    domains = tuple(problem.domain(label) for label in range(problem.n_classes))
    towards = TowardsNearestError(
        size / 2 if value is None else value, domains=domains[:1] if _alike(domains) else domains
    )
    return _ours(name, repr(towards), lambda: (None, towards), n_gradients=None)


def _alike(domains: tuple[Domain, ...]) -> bool:
    return len({repr(domain) for domain in domains}) == 1


def _ours(
    name: str,
    words: str,
    parts: Callable[[], tuple[Loss | None, TowardsNearestError | None]],
    *,
    n_gradients: int | None,
) -> TrainingMethod:
    """Return a method that trains by our loop, with a loss or an adversary."""

    def fit(
        problem: Problem,
        seed: int,
        settings: TrainingSettings,
        network: Network | None,
        checkpoint: Path | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Fit:
        loss, towards = parts()
        counted = None if towards is None else _Counted(towards.attack)
        adversary: Adversary | None = None
        if towards is not None and counted is not None:
            adversary = OnManifoldAdversary(
                TowardsNearestError(towards.radius, counted, towards.domains)
            )
        model = make_network(problem, network, seed)
        config = TrainingConfig(
            n_steps=settings.n_steps,
            learning_rate=settings.learning_rate,
            schedule="linear",
            checkpoint_every=max(1, settings.n_steps // 4),
        )
        # What torch does once in a process, such as choosing kernels, is no cost of a method.
        train(
            make_network(problem, network, seed),
            settings.stream(problem, seed),
            TrainingConfig(n_steps=2),
            loss=loss,
            adversary=None if towards is None else OnManifoldAdversary(towards),
        )
        start = time.process_time()
        result = train(
            model,
            settings.stream(problem, seed),
            config,
            checkpoint=checkpoint,
            progress=None if progress is None else lambda n: progress(n / settings.n_steps),
            loss=loss,
            adversary=adversary,
        )
        seconds = time.process_time() - start
        # What an earlier process did is charged at the rate of this one.
        n_here = result.n_steps - result.resumed_from
        seconds *= result.n_steps / n_here if n_here else math.nan
        gradients = float(n_gradients) if counted is None and n_gradients else None
        if counted is not None and counted.n_points:
            gradients = 1 + counted.n_gradients / counted.n_points
        return Fit(model, seconds, gradients)

    return TrainingMethod(name, words, False, fit)


class _Counted:
    """An attack whose gradients are counted."""

    def __init__(self, attack: Callable[..., AttackResult]) -> None:
        self.attack = attack
        self.n_gradients = self.n_points = 0

    def __call__(self, *arguments: Any, **options: Any) -> AttackResult:
        found = self.attack(*arguments, **options)
        self.n_gradients += int(found.n_backward.sum())
        self.n_points += len(found.y)
        return found

    def __repr__(self) -> str:  # what a checkpoint knows the training by
        return repr(self.attack)


def _own(function: OwnMethod, name: str) -> TrainingMethod:
    """Return the method that a function of the user is."""
    _check_signature(function, name)

    def fit(
        problem: Problem,
        seed: int,
        settings: TrainingSettings,
        network: Network | None,
        checkpoint: Path | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Fit:
        del settings, network, checkpoint, progress
        generator = torch.Generator().manual_seed(seed)
        start = time.process_time()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)  # of layers and loaders that it makes
            dtype = torch.get_default_dtype()
            try:
                made = function(problem, generator)
            finally:
                torch.set_default_dtype(dtype)
        seconds = time.process_time() - start
        return Fit(checked_classifier(made, problem, name), seconds, None)

    return TrainingMethod(name, f"{name}, code {code_of(function)}", True, fit)


def _check_signature(function: OwnMethod, name: str) -> None:
    """Raise unless a function takes a problem and a generator, as far as can be seen."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a builtin, which is asked when it is called
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise ValueError(
            f"{name}{signature} cannot be called with two arguments ({error}); expected a function "
            "of a problem and a generator that returns a classifier."
        ) from None


def code_of(function: Callable[..., Any]) -> str:
    """Return a hash of the file or text that defines a function."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
        text = Path(file).read_text(encoding="utf-8") if file else inspect.getsource(function)
    except (OSError, TypeError, ValueError):
        text = getattr(function, "__qualname__", repr(type(function)))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def make_network(problem: Problem, network: Network | None, seed: int) -> ClassifierModule:
    """Return an untrained network for a problem, the user's or the usual one.

    Raises
    ------
    NotTrained
        If what the user's function makes is no network of the problem's points and classes.
    """
    generator = torch.Generator().manual_seed(seed)
    if network is None:
        n_classes = problem.n_classes
        if isinstance(problem, ImageProblem):
            return StridedConvolutionalNetwork(
                problem.image_shape, _DEPTH, _N_FILTERS, n_strided=_DEPTH, n_classes=n_classes,
                generator=generator,
            )  # fmt: skip
        dim = torch.Size(problem.event_shape).numel()
        return ReLUNetwork(dim, _WIDTH, 1, n_classes=n_classes, generator=generator)
    name = getattr(network, "__name__", type(network).__name__)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = network()
        except (Exception, SystemExit) as error:
            why = " ".join(str(error).split())
            raise NotTrained(f"{name} stops with {type(error).__name__}: {why}.") from error
    if not isinstance(made, torch.nn.Module):
        raise NotTrained(f"{name} returned {_kind(made)}; expected a torch module to be trained.")
    if not isinstance(made, ClassifierModule):
        made = as_classifier(given_images(made, problem))
    model = made
    checked_classifier(model, problem, name)
    if not any(p.requires_grad for p in model.parameters()):
        raise NotTrained(f"the network of {name} has no parameters to train.")
    return model


def checked_classifier(made: Any, problem: Problem, name: str) -> Classifier:
    """Return what a function of the user made, if it classifies the points of the problem."""
    if is_estimator(made):  # of scikit-learn
        try:
            return subject_of_estimator(made, problem).classifier
        except ValueError as error:
            raise NotTrained(
                f"{name} returned no classifier that can be judged: {error}"
            ) from error
    if not callable(made) or isinstance(made, type):
        raise NotTrained(
            f"{name} returned {_kind(made)}; expected a trained classifier, from points "
            f"(n, {', '.join(map(str, problem.event_shape))}) to margins (n,) or logits "
            f"(n, {problem.n_classes})."
        )
    try:
        check_number_of_classes(made, problem)
    except (Exception, SystemExit) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise NotTrained(
            f"what {name} returned does not classify points of shape {problem.event_shape} into "
            f"{problem.n_classes} classes: {reason}."
        ) from error
    classifier: Classifier = made
    return classifier


def _kind(made: Any) -> str:
    if made is None:
        return "nothing"
    kind = type(made).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
