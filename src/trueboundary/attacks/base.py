"""What every attack shares: checked input, counted queries, re-verified results.

An attack searches for a point of its domain that the classifier gets wrong. What the search
reports is never taken at its word: `Attack.__call__` evaluates the classifier again at every
reported point, in the dtype of the input, and recomputes success and distance from that.

What counts as an error is said at `trueboundary.classifiers.margin`: a point that is reported as
found has a margin strictly on the wrong side, so that whoever takes the sign or the argmax of the
classifier's own output calls it wrong, too.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from enum import Enum

import torch
from torch import Tensor

from trueboundary.classifiers import (
    Classifier,
    ClassifierWarning,
    evaluated,
    margin,
    margin_and_gradient,
    probability_doubts,
)
from trueboundary.domains import Domain, Space, norm, per_sample
from trueboundary.theory.intervals import censored_median

__all__ = [
    "Attack",
    "AttackResult",
    "AttackStatus",
    "AttackSummary",
    "AttackWarning",
    "Search",
    "Target",
    "in_chunks",
]

_LONGEST_NUDGE = 1e-3  # as a fraction of the distance; see `_confirmed`
_MOST_ROUNDINGS = 64  # of the point: a nudge may be as long, however short the distance
_DEFAULT_SEED = 0  # used when no generator is given: a result never depends on global state


class AttackWarning(UserWarning):
    """Something about the classifier makes the result of an attack doubtful."""


class AttackStatus(Enum):
    """How an attack ended for one sample; the value is the sentence to show to a user.

    Examples
    --------
    >>> AttackStatus.from_code(AttackStatus.FOUND.code) is AttackStatus.FOUND
    True
    >>> AttackStatus.MISCLASSIFIED.value
    'The point was already misclassified, so its distance is 0.'
    """

    FOUND = "An error was found."
    MISCLASSIFIED = "The point was already misclassified, so its distance is 0."
    BUDGET_SPENT = "No error was found within the budget; try more or longer steps, or restarts."
    CONVERGED = (
        "The climb converged where the classifier is still right; if there is an error, only "
        "another start can find it."
    )
    GRADIENT_VANISHED = (
        "The gradient of the margin vanished along the domain, so there was no direction to climb."
    )
    NON_FINITE = "The margin or its gradient is not finite (NaN or infinity)."
    LEFT_DOMAIN = "The search left its domain, so what it found does not count."
    NOT_CONFIRMED = (
        "The classifier did not repeat the error that the search reported; is it deterministic?"
    )
    UNRESOLVED = (
        "No step changed the margin by more than its rounding: the precision of the points or of "
        "the margins hides the way up; try float64, or take large offsets out of both."
    )
    CUT_OFF = (
        "The classifier's output does not depend on its input for autograd (no_grad, detach, a "
        "trip through NumPy, a constant), so there is no gradient to climb."
    )

    @property
    def code(self) -> int:
        """Position of the status in the enumeration: what `AttackResult.status` stores."""
        return list(AttackStatus).index(self)

    @classmethod
    def from_code(cls, code: int) -> AttackStatus:
        """Return the status with the given code."""
        return list(cls)[code]


@dataclass(frozen=True)
class AttackSummary:
    """Distances of one attack in a few numbers.

    Parameters
    ----------
    n : int
        Number of samples attacked.
    n_failed : int
        Number of samples for which no error was found.
    mean : float
        Mean distance over the samples with an error (NaN if there is none); failures are left
        out, as papers do, so read it next to ``n_failed``.
    median : float
        Median distance with every failure counted as infinite; see
        `trueboundary.theory.intervals.censored_median`.
    reasons : dict of str to int
        Why no error was found: each sentence with the number of samples that it is true of, the
        most frequent first.
    """

    n: int
    n_failed: int
    mean: float
    median: float
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack found, one entry per sample.

    Parameters
    ----------
    x_adv : Tensor
        The misclassified points ``(n, *event)``; the sample itself where the attack failed.
    distance : Tensor
        Euclidean distance to ``x_adv``, ``(n,)``: an upper bound on the distance to the nearest
        error; 0 where the sample was misclassified to begin with, infinite where the attack failed.
    status : Tensor
        `AttackStatus.code` of each sample, ``(n,)`` int64.
    margin : Tensor
        Margin of the classifier at ``x_adv``, ``(n,)``.
    n_forward, n_backward : Tensor
        Evaluations of the classifier and of its gradient spent on each sample, ``(n,)`` int64.
    endpoint : Tensor
        Where the search ended, ``(n, *event)``, an error or not: ``x_adv`` where it succeeded.
    endpoint_margin : Tensor
        Margin of the classifier at ``endpoint``, ``(n,)``.
    start_margin : Tensor
        Margin of the classifier at the sample itself, ``(n,)``.
    warnings : tuple of str
        Reasons for doubt, each a sentence.
    """

    x_adv: Tensor
    distance: Tensor
    status: Tensor
    margin: Tensor
    n_forward: Tensor
    n_backward: Tensor
    endpoint: Tensor
    endpoint_margin: Tensor
    start_margin: Tensor
    warnings: tuple[str, ...] = ()

    @property
    def success(self) -> Tensor:
        """Whether each sample has an error, its own misclassification included: ``(n,)`` bool."""
        return self.distance.isfinite()

    @property
    def success_rate(self) -> float:
        """Fraction of the samples with an error."""
        return self.success.double().mean().item()

    def messages(self) -> list[str]:
        """Return one sentence per sample that says how the attack ended."""
        return [AttackStatus.from_code(code).value for code in self.status.tolist()]

    def summary(self) -> AttackSummary:
        """Return the failures and their reasons, the mean over successes, the censored median."""
        distance, success = self.distance.double(), self.success
        reasons = Counter(
            message
            for message, found in zip(self.messages(), success.tolist(), strict=True)
            if not found
        )
        return AttackSummary(
            n=distance.numel(),
            n_failed=int((~success).sum()),
            mean=distance[success].mean().item(),
            median=censored_median(distance.numpy(force=True)),
            reasons=dict(reasons.most_common()),
        )


@dataclass(frozen=True, eq=False)
class Target:
    """The samples under attack, seen by a search: their wrongness, its gradient, their domain.

    Wrongness is the margin signed so that what an attack may report as an error has wrongness
    > 0: ``margin`` for class 0 and ``-margin`` for class 1, in the dtype of the points. A target
    counts its evaluations per sample, and `take` narrows it to the samples still searched, so
    finished samples cost nothing. ``cut_off`` notes of which samples the classifier's output did
    not depend on the input for autograd.
    """

    classifier: Classifier
    x: Tensor
    sign: Tensor
    domain: Domain
    seed: int
    index: Tensor
    n_forward: Tensor
    n_backward: Tensor
    cut_off: Tensor

    def take(self, keep: Tensor) -> Target:
        """Return the target of the samples at the positions ``keep``, sharing the counters."""
        return Target(
            self.classifier,
            self.x[keep],
            self.sign[keep],
            self.domain.take(keep),
            self.seed,
            self.index[keep],
            self.n_forward,
            self.n_backward,
            self.cut_off,
        )

    def wrongness(self, points: Tensor) -> Tensor:
        """Return the wrongness ``(n,)`` at one point per sample."""
        self.n_forward[self.index] += 1
        return self._signed(margin(self.classifier, points, allow_nan=True))

    def wrongness_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the wrongness ``(n,)`` and its gradient ``(n, *event)``."""
        self.n_forward[self.index] += 1
        self.n_backward[self.index] += 1
        values, gradient = margin_and_gradient(self.classifier, points, allow_nan=True)
        self.cut_off[self.index] |= gradient is None
        if gradient is None:
            gradient = torch.zeros_like(points)
        return self._signed(values), per_sample(self.sign, points) * gradient

    def _signed(self, values: Tensor) -> Tensor:
        """Return margins as wrongness in the dtype of the points, on the side where they were."""
        values = values.detach()
        limits = torch.finfo(self.sign.dtype)
        cast = values.to(self.sign.dtype)
        if cast.dtype != values.dtype:  # neither underflow nor overflow may change what is said
            cast = torch.where(cast == 0, values.sign().to(cast) * limits.tiny, cast)
            finite = cast.isfinite() | ~values.isfinite()
            cast = torch.where(finite, cast, values.sign().to(cast) * limits.max)
        return self.sign * cast

    def noise(self, stream: int) -> Tensor:
        """Return standard normal noise ``(n, *event)``, a function of (seed, sample, stream).

        Each sample draws from a generator of its own, seeded by a hash of the attack's seed, the
        stream and the bytes of the sample, so neither the size nor the order of a batch matters.
        """
        return torch.stack([self._noise(sample, stream) for sample in self.x])

    def _noise(self, sample: Tensor, stream: int) -> Tensor:
        content = sample.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        key = self.seed.to_bytes(8, "little") + stream.to_bytes(8, "little") + content
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
        draw = torch.randn(sample.shape, generator=torch.Generator().manual_seed(seed))
        return draw.to(sample)


@dataclass(frozen=True, eq=False)
class Search:
    """What the search of an attack reports to `Attack`: the points it ended at and why.

    ``status`` holds the code that applies if the endpoint turns out to be no error.
    """

    endpoint: Tensor
    status: Tensor


@dataclass(frozen=True)
class Attack(ABC):
    """Base of all attacks: settings are fields, calling the object runs it.

    A subclass implements ``_run(target) -> Search`` and nothing else. This class checks the
    input, leaves out samples that are misclassified to begin with, and re-verifies the result.
    It never changes the mode, parameters or gradients of the classifier, and moves nothing to
    another device or dtype.
    """

    @property
    def default_domain(self) -> Domain:
        """Where the attack searches when the call names no domain."""
        return Space()

    @property
    def _attacks_misclassified(self) -> bool:
        """Whether the search also runs from points that are misclassified to begin with."""
        return False

    @abstractmethod
    def _run(self, target: Target) -> Search:
        """Search from ``target.x``; every sample of the target is finite and in the domain."""

    def __call__(
        self,
        classifier: Classifier,
        x: Tensor,
        y: Tensor,
        *,
        domain: Domain | None = None,
        generator: torch.Generator | None = None,
    ) -> AttackResult:
        """Search an error near each sample.

        Parameters
        ----------
        classifier : callable
            Maps ``(n, *event)`` to logits ``(n,)``, ``(n, 1)`` or ``(n, 2)``, each sample on its
            own, differentiably and without randomness. A margin above 0 means class 1. Where it
            is exactly 0 a sample of class 0 is right and one of class 1 is wrong, as for argmax;
            the errors that an attack finds are strictly wrong for either.
        x : Tensor
            Samples ``(n, *event)``, finite, in single or double precision. Margins may be of any
            other precision: they are taken over into that of the samples.
        y : Tensor
            Labels ``(n,)``, 0 or 1.
        domain : Domain, optional
            Where the errors must lie; by default the attack's own.
        generator : torch.Generator, optional
            Source of the one seed the attack uses; without it the seed is fixed. Each sample's
            random numbers depend on that seed and the sample's own bytes alone, so neither the
            size nor the order of a batch changes a result beyond the classifier's rounding.

        Returns
        -------
        AttackResult
            One entry per sample; failures have infinite distance and a status that says why.

        Raises
        ------
        TypeError
            If ``x`` is not a tensor of single or double precision or ``y`` not one of integers or
            booleans, or ``domain`` is not a domain.
        ValueError
            If the shapes or labels do not fit, or a sample is not finite or not in the domain.

        Warns
        -----
        AttackWarning
            If the classifier's output does not depend on its input for autograd.
        ClassifierWarning
            If the classifier seems to return probabilities, not logits.

        Notes
        -----
        Modules are evaluated in eval mode and left in the mode they came in; the result says so
        where that may matter.
        """
        domain = self.default_domain if domain is None else domain
        if not isinstance(domain, Domain):
            raise TypeError(
                f"expected a domain such as Sphere() or Box(), got {type(domain).__name__}"
            )
        _check_samples(x, y)
        seed = _draw_seed(generator)
        with evaluated(classifier) as doubts, torch.no_grad():
            x = x.detach()
            domain = domain.bind(x)
            _check_domain(x, domain)
            result = self._attack(classifier, x, y.to(x.device), domain, seed)
        for sentence in _probability_doubts(classifier, result, y):
            doubts += (sentence,)
            warnings.warn(sentence, ClassifierWarning, stacklevel=2)
        n_cut_off = int((result.status == AttackStatus.CUT_OFF.code).sum())
        if n_cut_off:
            warnings.warn(
                f"{type(self).__name__} found no error from {n_cut_off} of {len(x)} points. "
                f"{AttackStatus.CUT_OFF.value}",
                AttackWarning,
                stacklevel=2,
            )
        return replace(result, warnings=doubts)

    def _attack(
        self, classifier: Classifier, x: Tensor, y: Tensor, domain: Domain, seed: int
    ) -> AttackResult:
        n = x.shape[0]
        counts = torch.zeros(2, n, dtype=torch.int64, device=x.device)
        sign = 1 - 2 * y.to(x.dtype)
        everything = torch.arange(n, device=x.device)
        cut_off = torch.zeros(n, dtype=torch.bool, device=x.device)
        target = Target(
            classifier, x, sign, domain, seed, everything, counts[0], counts[1], cut_off
        )

        wrong_at_x = target.wrongness(x)
        # As argmax has it, which calls a margin of exactly 0 class 0.
        already = torch.where(y == 0, wrong_at_x > 0, wrong_at_x >= 0)
        status = torch.full((n,), AttackStatus.NON_FINITE.code, device=x.device)
        endpoint = x.clone()
        searched = ~wrong_at_x.isnan()
        if not self._attacks_misclassified:
            searched &= ~already
        keep = searched.nonzero().squeeze(1)
        if keep.numel() > 0:
            search = self._run(target.take(keep))
            endpoint[keep] = search.endpoint
            status[keep] = search.status
            status[cut_off & (status != AttackStatus.FOUND.code)] = AttackStatus.CUT_OFF.code

        # Nothing below trusts the search: success and distance come from the classifier alone.
        claimed = status == AttackStatus.FOUND.code
        endpoint, wrong_at_endpoint = _confirmed(target, endpoint, claimed)
        error = wrong_at_endpoint > 0
        inside = domain.contains(endpoint)
        status[claimed & ~error] = AttackStatus.NOT_CONFIRMED.code
        status[error] = AttackStatus.FOUND.code
        status[~inside] = AttackStatus.LEFT_DOMAIN.code
        success = error & inside
        status[already] = AttackStatus.MISCLASSIFIED.code
        moved = success & ~already

        distance = domain.distance(x, endpoint)
        distance[~success] = math.inf
        distance[already] = 0
        return AttackResult(
            x_adv=torch.where(per_sample(moved, x), endpoint, x),
            distance=distance,
            status=status,
            margin=sign * torch.where(moved, wrong_at_endpoint, wrong_at_x),
            n_forward=target.n_forward,
            n_backward=target.n_backward,
            endpoint=endpoint,
            endpoint_margin=sign * wrong_at_endpoint,
            start_margin=sign * wrong_at_x,
        )


def in_chunks(
    attack: Attack,
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    chunk_size: int,
    domain: Domain | None = None,
    generator: torch.Generator | None = None,
) -> AttackResult:
    """Run an attack on ``chunk_size`` samples at a time: the same result in less memory.

    Parameters
    ----------
    attack : Attack
        The attack to run.
    classifier, x, y, domain, generator
        As in `Attack.__call__`.
    chunk_size : int
        Number of samples attacked together, at least 1.

    Returns
    -------
    AttackResult
        What one call on all samples would give, up to rounding of the classifier itself.

    Raises
    ------
    ValueError
        If ``chunk_size`` is below 1.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import ManifoldAttack, in_chunks
    >>> x = torch.eye(4)
    >>> plane = lambda points: points[:, 0] - 0.7
    >>> y = (plane(x) > 0).long()
    >>> result = in_chunks(ManifoldAttack(), plane, x, y, chunk_size=3)
    >>> [round(value, 3) for value in result.distance.tolist()]
    [0.775, 0.756, 0.756, 0.756]
    """
    if chunk_size < 1:
        raise ValueError(f"expected a chunk size of at least 1, got {chunk_size}")
    domain = attack.default_domain if domain is None else domain
    state = None if generator is None else generator.get_state()
    results = []
    for start in range(0, max(len(x), 1), chunk_size):  # no samples: the attack says what it needs
        chunk = slice(start, start + chunk_size)
        if generator is not None and state is not None:
            generator.set_state(state)  # every chunk draws the same seed, as one call would
        results.append(
            attack(classifier, x[chunk], y[chunk], domain=domain.take(chunk), generator=generator)
        )
    columns = {
        name: torch.cat([getattr(result, name) for result in results])
        for name in (field.name for field in fields(AttackResult))
        if name != "warnings"
    }
    doubts = tuple(dict.fromkeys(doubt for result in results for doubt in result.warnings))
    whole = AttackResult(**columns, warnings=doubts)
    # A chunk may hold too few samples of a class to tell probabilities.
    for sentence in set(_probability_doubts(classifier, whole, y)) - set(doubts):
        warnings.warn(sentence, ClassifierWarning, stacklevel=2)
        whole = replace(whole, warnings=(*whole.warnings, sentence))
    return whole


def _confirmed(target: Target, endpoint: Tensor, claimed: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate the endpoints, all in one batch; return them and their wrongness.

    Matrix products round differently in batches of different size, so an error found at the very
    boundary may fall on the right side here. It is then moved on along the path from its sample,
    from a few roundings up to a thousandth of the path, or some roundings of the point where that
    is more, until it is an error in this batch too.
    """
    first = wrongness = target.wrongness(endpoint)
    rounding = torch.finfo(endpoint.dtype).eps
    path = target.domain.distance(endpoint, target.x)
    longest = (_MOST_ROUNDINGS * rounding * norm(target.x) / path).clamp(min=_LONGEST_NUDGE)
    reached, extra = endpoint, 4 * rounding
    lost = claimed & (path > 0) & (wrongness <= 0)
    while bool(lost.any()):
        index = lost.nonzero().squeeze(1)
        part = target.take(index)
        fraction = torch.full_like(part.sign, 1 + extra)
        endpoint = endpoint.clone()
        endpoint[index] = part.domain.interpolate(part.x, reached[index], fraction)
        wrongness = target.wrongness(endpoint)
        extra *= 4
        lost &= (wrongness <= 0) & (extra < longest)
    failed = claimed & ~(wrongness > 0)
    return (
        torch.where(per_sample(failed, endpoint), reached, endpoint),
        torch.where(failed, first, wrongness),
    )


def _probability_doubts(classifier: Classifier, result: AttackResult, y: Tensor) -> tuple[str, ...]:
    is_zero = (y == 0).to(result.start_margin.device)
    return probability_doubts(
        classifier, result.start_margin[is_zero], result.start_margin[~is_zero]
    )


def _draw_seed(generator: torch.Generator | None) -> int:
    if generator is None:
        return _DEFAULT_SEED
    draw = torch.randint(2**62, (), generator=generator, device=generator.device)
    return int(draw.item())


def _check_samples(x: Tensor, y: Tensor) -> None:
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"expected {name} to be a tensor, got {type(value).__name__}; try torch.as_tensor"
            )
    if not x.is_floating_point():
        raise TypeError(f"expected floating-point samples, got x.dtype={x.dtype}; use x.float()")
    if torch.finfo(x.dtype).bits < 32:
        raise TypeError(
            f"expected samples in single or double precision, got x.dtype={x.dtype}, in which no "
            "distance keeps three digits; use x.float() (the classifier may compute in half)"
        )
    if x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(
            f"expected samples of shape (n, *event) with n >= 1, got {tuple(x.shape)}; a single "
            "sample is x[None]"
        )
    if y.is_floating_point() or y.is_complex():
        raise TypeError(f"expected integer or boolean labels, got y.dtype={y.dtype}; use y.long()")
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"expected one label per sample, shape ({x.shape[0]},), got {tuple(y.shape)}"
        )
    if not bool(((y == 0) | (y == 1)).all()):
        raise ValueError(f"expected labels 0 and 1, got {sorted(set(y.tolist()))}")
    if not bool(x.isfinite().all()):
        bad = int((~x.flatten(1).isfinite().all(1)).sum())
        raise ValueError(f"expected finite samples, got NaN or infinity in {bad} of {x.shape[0]}")


def _check_domain(x: Tensor, domain: Domain) -> None:
    outside = ~domain.contains(x)
    if bool(outside.any()):
        raise ValueError(
            f"expected every sample inside {domain.describe()}, but {int(outside.sum())} of "
            f"{x.shape[0]} lie outside; try domain.project(x)"
        )
