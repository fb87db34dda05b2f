"""What every attack shares: checked input, counted queries, re-verified results.

An attack searches for a point of its domain that the classifier gets wrong. What the search
reports is never taken at its word: `Attack.__call__` evaluates the classifier again at every
reported point, in the dtype of the input, and recomputes success and distance from that.

What counts as an error is said at `trueboundary.classifiers.margin`: a point that is reported as
found is strictly wrong, so that whoever takes the sign or the argmax of the classifier's own output
calls it wrong, too.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from trueboundary._tensors import check_labels, check_samples, optional_generator
from trueboundary.attacks.results import AttackResult, AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.classifiers import (
    Classifier,
    ClassifierWarning,
    evaluated,
    misclassified,
    number_of_classes,
    predicted,
    probability_doubts,
)
from trueboundary.domains import Domain, Space, bound_to, norm, per_sample

__all__ = ["Attack", "AttackWarning", "in_chunks"]

_LONGEST_NUDGE = 1e-3  # as a fraction of the distance; see `_confirmed`
_MOST_ROUNDINGS = 64  # of the point: a nudge may be as long, however short the distance
_COLUMNS = tuple(f.name for f in fields(AttackResult) if f.name not in ("n_classes", "warnings"))
_DEFAULT_SEED = 0  # used when no generator is given: a result never depends on global state


Goal = int | Tensor | Literal["each"] | None
"""What an attack may be asked to reach: a class, one per sample, each other class, or any."""


class AttackWarning(UserWarning):
    """Something about the classifier makes the result of an attack doubtful."""


@dataclass(frozen=True)
class Attack(ABC):
    """Base of all attacks: settings are fields, calling the object runs it.

    A subclass is a frozen dataclass that implements ``search(target) -> Search`` and nothing
    else. This class checks the input, leaves out samples that are misclassified to begin with, and
    re-verifies the result. It never changes the mode, parameters or gradients of the classifier,
    and moves nothing to another device or dtype.
    """

    @property
    def default_domain(self) -> Domain:
        """Where the attack searches when the call names no domain."""
        return Space()

    @property
    def attacks_misclassified(self) -> bool:
        """Whether the search also runs from points that are misclassified to begin with."""
        return False

    @abstractmethod
    def search(self, target: Target) -> Search:
        """Search an error near each sample of a target; see `Target` and `Search`.

        A search treats every sample on its own: what it finds depends neither on the size nor on
        the order of the batch. Random numbers come from `Target.noise` alone.
        """

    def __call__(
        self,
        classifier: Classifier,
        x: Tensor,
        y: Tensor,
        *,
        domain: Domain | None = None,
        target: Goal = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> AttackResult:
        """Search an error near each sample.

        Parameters
        ----------
        classifier : callable
            Maps ``(n, *event)`` to margins ``(n,)`` or ``(n, 1)``, or to logits ``(n, K)``, each
            sample on its own, differentiably and without randomness. A margin above 0 means class
            1. Of equal logits the first decides whether a sample is right, as for argmax; the
            errors that an attack finds are strictly wrong for every label.
        x : Tensor
            Samples ``(n, *event)``, finite, in single or double precision. Logits may be of any
            other precision: they are taken over into that of the samples.
        y : Tensor
            Labels ``(n,)``, 0 to K - 1.
        domain : Domain, optional
            Where the errors must lie; by default the attack's own.
        target : int, Tensor or "each", optional
            The class into which all samples, or each, are to be taken: then only points of that
            class count as found, and only samples of that class as misclassified. ``"each"``
            searches the way into every other class, one after the other, and keeps the nearest
            error: K - 1 searches, for few classes. By default any other class counts, in one
            search.
        generator : torch.Generator, optional
            Source of the one seed the attack uses; without it the seed is fixed. Each sample's
            random numbers depend on that seed and the sample's own bytes alone, so neither the
            size nor the order of a batch changes a result beyond the classifier's rounding.
        seed : int, optional
            In place of a generator: the numbers of ``torch.Generator().manual_seed(seed)``.

        Returns
        -------
        AttackResult
            One entry per sample; failures have infinite distance and a status that says why.

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
        check_samples(x, y, n_classes=None)
        goal = _checked_goal(target, y)
        noise = _draw_seed(optional_generator(generator, seed))
        with evaluated(classifier) as doubts, torch.no_grad():
            x = x.detach()
            y = y.to(x.device).long()
            domain = bound_to(domain, x)
            if isinstance(goal, str):
                result = self._each(classifier, x, y, domain, noise)
            else:
                result = self._attack(classifier, x, y, goal, domain, noise)
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
        return replace(result, warnings=doubts + result.warnings)

    def _each(
        self, classifier: Classifier, x: Tensor, y: Tensor, domain: Domain, seed: int
    ) -> AttackResult:
        """Search the way into every other class; keep the nearest error of each sample."""
        n_classes = 2
        best: AttackResult | None = None
        doubts: tuple[str, ...] = ()
        goal = -1
        while (goal := goal + 1) < n_classes:
            other = (y != goal).nonzero().squeeze(1)
            if other.numel() == 0:
                continue
            goals = torch.full_like(other, goal)
            found = self._attack(classifier, x[other], y[other], goals, domain.take(other), seed)
            n_classes, doubts = found.n_classes, doubts + found.warnings
            best = _empty(found, x, y) if best is None else best
            _keep_nearest(best, found, other)
        assert best is not None
        return replace(best, warnings=tuple(dict.fromkeys(doubts)))

    def _attack(
        self,
        classifier: Classifier,
        x: Tensor,
        y: Tensor,
        goal: Tensor | None,
        domain: Domain,
        seed: int,
    ) -> AttackResult:
        n = x.shape[0]
        counts = torch.zeros(2, n, dtype=torch.int64, device=x.device)
        everything = torch.arange(n, device=x.device)
        cut_off = torch.zeros(n, dtype=torch.bool, device=x.device)
        target = Target(
            classifier, x, y, goal, domain, seed, everything, counts[0], counts[1], cut_off
        )

        at_x = target.outputs(x)
        n_classes = number_of_classes(at_x)
        check_labels(y, n_classes)
        if goal is not None:
            check_labels(goal, n_classes, "targets")
        target = replace(target, n_classes=n_classes)
        wrong_at_x = target.in_points_dtype(target.lead_of(at_x))
        known = ~wrong_at_x.isnan()
        # As argmax has it, which gives the first of equal logits.
        already = known & (misclassified(at_x, y) if goal is None else ~misclassified(at_x, goal))
        status = torch.full((n,), AttackStatus.NON_FINITE.code, device=x.device)
        endpoint = x.clone()  # (n, *event)
        doubts: tuple[str, ...] = ()
        searched = known
        if not self.attacks_misclassified:
            searched = searched & ~already
        keep = searched.nonzero().squeeze(1)
        if keep.numel() > 0:
            part = target.take(keep)
            search = _checked(self.search(part), part, type(self).__name__)
            endpoint[keep], doubts = search.endpoint, search.doubts
            status[keep] = search.status
            status[cut_off & (status != AttackStatus.FOUND.code)] = AttackStatus.CUT_OFF.code

        # Nothing below trusts the search: success and distance come from the classifier alone.
        claimed = status == AttackStatus.FOUND.code
        endpoint, at_endpoint = _confirmed(target, endpoint, claimed)
        wrong_at_endpoint = target.in_points_dtype(target.lead_of(at_endpoint))
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
            wrongness=torch.where(moved, wrong_at_endpoint, wrong_at_x),
            n_forward=target.n_forward,
            n_backward=target.n_backward,
            endpoint=endpoint,
            endpoint_wrongness=wrong_at_endpoint,
            start_wrongness=wrong_at_x,
            y=y,
            predicted=torch.where(moved, _classes(at_endpoint), _classes(at_x)),
            n_classes=n_classes,
            warnings=doubts,
        )


def in_chunks(
    attack: Attack,
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    chunk_size: int,
    domain: Domain | None = None,
    target: Goal = None,
    generator: torch.Generator | None = None,
    seed: int | None = None,
) -> AttackResult:
    """Run an attack on ``chunk_size`` samples at a time: the same result in less memory.

    Parameters
    ----------
    attack : Attack
        The attack to run.
    classifier, x, y, domain, target, generator, seed
        As in `Attack.__call__`.
    chunk_size : int
        Number of samples attacked together.

    Returns
    -------
    AttackResult
        What one call on all samples would give, up to rounding of the classifier itself.

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
    generator = optional_generator(generator, seed)
    state = None if generator is None else generator.get_state()
    results = []
    for start in range(0, max(len(x), 1), chunk_size):  # no samples: the attack says what it needs
        chunk = slice(start, start + chunk_size)
        if generator is not None and state is not None:
            generator.set_state(state)  # every chunk draws the same seed, as one call would
        results.append(
            attack(
                classifier,
                x[chunk],
                y[chunk],
                domain=domain.take(chunk),
                target=target[chunk] if isinstance(target, Tensor) and target.ndim else target,
                generator=generator,
            )
        )
    columns = {name: torch.cat([getattr(part, name) for part in results]) for name in _COLUMNS}
    doubts = tuple(dict.fromkeys(doubt for result in results for doubt in result.warnings))
    whole = AttackResult(**columns, n_classes=results[0].n_classes, warnings=doubts)
    # A chunk may hold too few samples of a class to tell probabilities.
    for sentence in set(_probability_doubts(classifier, whole, y)) - set(doubts):
        warnings.warn(sentence, ClassifierWarning, stacklevel=2)
        whole = replace(whole, warnings=(*whole.warnings, sentence))
    return whole


def _checked(search: Search, target: Target, name: str) -> Search:
    """Return what a search reports if it has the form of a report, which nothing else ensures."""
    if not isinstance(search, Search):
        raise TypeError(f"expected {name}.search to return a Search, got {type(search).__name__}")
    for what, value, wanted in (
        ("endpoint", search.endpoint, (tuple(target.x.shape), target.x.dtype)),
        ("status", search.status, (tuple(target.y.shape), torch.int64)),
    ):
        got = (tuple(value.shape), value.dtype)
        if got != wanted:
            raise ValueError(
                f"expected {name}.search to return the {what} with shape {wanted[0]} in "
                f"{wanted[1]}, got shape {got[0]} in {got[1]}"
            )
    if not bool(((search.status >= 0) & (search.status < len(AttackStatus))).all()):
        raise ValueError(f"expected {name}.search to return codes of AttackStatus as the status")
    return search


def _confirmed(target: Target, endpoint: Tensor, claimed: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate the endpoints, all in one batch; return them and what the classifier says of them.

    Matrix products round differently in batches of different size, so an error found at the very
    boundary may fall on the right side here. It is then moved on along the path from its sample,
    from a few roundings up to a thousandth of the path, or some roundings of the point where that
    is more, until it is an error in this batch too.
    """
    first = outputs = target.outputs(endpoint)
    wrongness = target.in_points_dtype(target.lead_of(outputs))
    rounding = torch.finfo(endpoint.dtype).eps
    path = target.domain.distance(endpoint, target.x)
    longest = (_MOST_ROUNDINGS * rounding * norm(target.x) / path).clamp(min=_LONGEST_NUDGE)
    reached, extra = endpoint, 4 * rounding
    lost = claimed & (path > 0) & (wrongness <= 0)
    while bool(lost.any()):
        index = lost.nonzero().squeeze(1)
        part = target.take(index)
        fraction = part.filled(1 + extra)
        endpoint = endpoint.clone()
        endpoint[index] = part.domain.interpolate(part.x, reached[index], fraction)
        outputs = target.outputs(endpoint)
        wrongness = target.in_points_dtype(target.lead_of(outputs))
        extra *= 4
        lost &= (wrongness <= 0) & (extra < longest)
    failed = claimed & ~(wrongness > 0)
    return (
        torch.where(per_sample(failed, endpoint), reached, endpoint),
        torch.where(per_sample(failed, outputs), first, outputs),
    )


def _classes(found: Tensor) -> Tensor:
    """Return the predicted classes ``(n,)``, -1 where an output is NaN."""
    is_nan = found.isnan() if found.ndim == 1 else found.isnan().any(dim=1)
    return torch.where(is_nan, -1, predicted(found))


def _checked_goal(target: Goal, y: Tensor) -> Tensor | Literal["each"] | None:
    """Return the class that each sample is to be taken into, ``(n,)``, or say what is wrong."""
    if target is None:
        return None
    if isinstance(target, str):
        if target != "each":
            raise ValueError(
                f"expected target to be a class, one per sample or 'each', got {target!r}"
            )
        return target
    goal = torch.as_tensor(target, device=y.device)
    if goal.is_floating_point() or goal.is_complex() or goal.dtype == torch.bool:
        raise TypeError(f"expected target to be a class or one per sample, got {goal.dtype}")
    if goal.shape not in ((), y.shape):
        raise ValueError(
            f"expected one target or one per sample, shape ({len(y)},), got {tuple(goal.shape)}"
        )
    goal = goal.long().expand(y.shape)
    n_same = int((goal == y).sum())
    if n_same:
        raise ValueError(
            f"expected targets other than the labels, got the label itself for {n_same} of "
            f"{len(y)} samples; leave these samples out"
        )
    return goal


def _empty(like: AttackResult, x: Tensor, y: Tensor) -> AttackResult:
    """Return a result of all samples in which nothing was found yet."""
    columns: dict[str, Any] = {
        name: torch.zeros(
            (len(x), *getattr(like, name).shape[1:]),
            dtype=getattr(like, name).dtype,
            device=x.device,
        )
        for name in _COLUMNS
    }
    columns["distance"].fill_(math.inf)
    columns["status"].fill_(-1)
    columns["y"] = y
    return AttackResult(**columns, n_classes=like.n_classes)


def _keep_nearest(best: AttackResult, found: AttackResult, rows: Tensor) -> None:
    """Write what was found to the rows where it is nearer, or the first word on them."""
    nearer = (found.distance < best.distance[rows]) | (best.status[rows] < 0)
    for name in _COLUMNS:
        column, new = getattr(best, name), getattr(found, name)
        if name in ("n_forward", "n_backward"):
            column[rows] += new
        elif name != "y":
            column[rows[nearer]] = new[nearer]


def _probability_doubts(classifier: Classifier, result: AttackResult, y: Tensor) -> tuple[str, ...]:
    if result.n_classes > 2:
        return ()
    is_zero = (y == 0).to(result.start_margin.device)
    return probability_doubts(
        classifier, result.start_margin[is_zero], result.start_margin[~is_zero]
    )


def _draw_seed(generator: torch.Generator | None) -> int:
    if generator is None:
        return _DEFAULT_SEED
    draw = torch.randint(2**62, (), generator=generator, device=generator.device)
    return int(draw.item())
