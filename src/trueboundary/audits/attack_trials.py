"""One attack on one member of the suite: what it finds, what it claims wrongly, what it costs."""

from __future__ import annotations

import copy
import re
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary.attacks import Attack, AttackResult, AttackStatus
from trueboundary.audits.attack_members import Member, Truth, member
from trueboundary.audits.named_attacks import find_attack
from trueboundary.classifiers import ClassifierModule, misclassified, outputs
from trueboundary.domains import Domain, norm, per_sample
from trueboundary.plurals import plural
from trueboundary.presentable import Presentable
from trueboundary.runs import Context, Run, RunConfig, RunResult
from trueboundary.theory.intervals import censored_median

__all__ = ["MemberTruth", "Trial", "TrialRun", "try_attack"]

Floats = npt.NDArray[np.float64]

_BATCH = 10  # points at a time: what was found before a crash is kept
_MISMATCH = "It returned a result of another form than was asked for."
_NO_ERROR = "The point that it reported is none that the classifier gets wrong within the domain."
_REFUSALS = ("ValueError: ", "TypeError: ")
_FORM = re.compile(r" (raised|returned) ")
_UNUSABLE = (AttackStatus.RAISED, AttackStatus.NO_POINT)
_FALSE = (AttackStatus.NOT_CONFIRMED, AttackStatus.LEFT_DOMAIN)
#: Seconds that a row takes, forward or back, on members whose truth is searched for and others.
_DEAR = {
    "digits-0-6": 5e-4,
    "digits-outliers": 3e-4,
    "digits-ten": 1e-3,
    "kernel-machine": 3e-4,
    "relu-wide": 1e-4,
    "cnn-0-6": 4e-4,
    "cnn-ten": 4e-4,
}
_CHEAP = 5e-5
_SEARCH, _LONG_SEARCH = 500, 3000  # rows for a point, roughly
_ROUNDING = 1e-12  # of its norm, by which a point may miss a domain
_LONGEST = 300  # characters of what a stranger's exception says


@dataclass(frozen=True, eq=False, repr=False)
class Trial(Presentable):
    """What an attack did on one member of the suite.

    Attributes
    ----------
    distance : ndarray of shape (n,)
        Distances of errors, each judged again by the argmax of the member itself and measured again
        in double precision; infinite where there is none.
    forward, backward : float
        Rows that the member evaluated, and rows whose gradient it gave, per point.
    seconds : float
        Processor time.
    n_false : int
        Points that were said to be errors and are none within the domain: the classifier is right
        there, or they lie outside, whatever the classifier says. `reasons` tells the two apart.
    reasons : dict of str to int
        Why no error was found: each sentence with the number of points that it is true of.
    doubts : tuple of str
        What the attack warned of.
    raised : bool
        Whether it raised an exception at every point.
    """

    distance: Floats
    forward: float
    backward: float
    seconds: float
    n_false: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    raised: bool = False

    @property
    def n_failed(self) -> int:
        """Number of points from which no error was found."""
        return int(np.isinf(self.distance).sum())

    @property
    def refused(self) -> bool:
        """Whether the attack declined such a domain or classifier before it looked further."""
        declined = all(why.startswith(_REFUSALS) for why in self.reasons)
        return self.raised and declined and self.queries <= 1

    @property
    def queries(self) -> float:
        """Evaluations forward and back per point."""
        return self.forward + self.backward

    def __str__(self) -> str:
        """Say what was found in one line, what that cost and why no more in another."""
        n = len(self.distance)
        found = f"errors found from {n - self.n_failed:,} of {plural(n, 'point')}"
        found += f", median distance {censored_median(self.distance):.4g}"
        found += f", {plural(self.n_false, 'false claim')}" if self.n_false else ""
        cost = f"  {self.forward:.4g} evaluations forward and {self.backward:.4g} back for a point"
        reasons = (f"{k} x {why}" for why, k in self.reasons.items())
        return f"{found}\n{'; '.join([cost, *reasons])}"

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return a row for each point: the distance of its error."""
        return {"distance": self.distance.tolist()}

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the distances as plain values."""
        return {
            "forward": self.forward,
            "backward": self.backward,
            "seconds": self.seconds,
            "false": self.n_false,
            "reasons": dict(self.reasons),
            "doubts": list(self.doubts),
            "raised": self.raised,
        }

    @classmethod
    def of(cls, distance: Floats, values: Mapping[str, Any]) -> Self:
        """Return the trial that `to_dict` told of."""
        return cls(
            np.asarray(distance, dtype=np.float64),
            values["forward"],
            values["backward"],
            values["seconds"],
            values["false"],
            dict(values["reasons"]),
            tuple(values["doubts"]),
            values["raised"],
        )


class _Counted(ClassifierModule):
    """A member that counts what it is asked, whoever asks."""

    def __init__(self, inner: ClassifierModule) -> None:
        super().__init__()
        self.inner = inner
        self.n_forward = self.n_backward = 0

    @property
    def n_classes(self) -> int | None:
        return self.inner.n_classes

    def outputs(self, x: Tensor) -> Tensor:
        return self._count(outputs(self.inner, x, allow_nan=True))

    def _count(self, found: Tensor) -> Tensor:
        n = len(found)
        self.n_forward += n

        def differentiated(gradient: Tensor) -> None:
            del gradient
            self.n_backward += n

        if found.requires_grad:
            found = found.view_as(found)  # a hook of this call alone
            found.register_hook(differentiated)  # type: ignore[no-untyped-call]
        return found


class _CountedMixture(_Counted):
    """A member that is a mixture's optimal classifier, with what attacks on those read."""

    def component_gap(self, x: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        return self._count(self.inner.component_gap(x, y, target))  # type: ignore[operator]


def try_attack(attack: Attack, known: Member, *, batch_size: int = _BATCH) -> Trial:
    """Run an attack on a member of the suite; nothing that it says is believed.

    Parameters
    ----------
    attack : Attack
        The attack.
    known : Member
        The member.
    batch_size : int
        Points that it gets at a time. Where it raises an exception, the points of that batch count
        as failed, and the others are kept.

    Examples
    --------
    >>> from trueboundary.attacks import NearestError
    >>> from trueboundary.audits import member, try_attack
    >>> known = member("linear", n_points=2)
    >>> trial = try_attack(NearestError(), known)
    >>> ratio = trial.distance / known.find_truth().lower
    >>> bool((1 <= ratio).all() and (ratio < 1 + 1e-5).all())
    True
    """
    kind = (
        _CountedMixture
        if hasattr(getattr(known.classifier, "inner", None), "component_gap")
        else _Counted
    )
    # A copy: whatever becomes of it, errors are judged by the classifier as it is.
    counted = kind(copy.deepcopy(known.classifier)).eval()
    parts = []
    start = time.process_time()
    for rows in torch.split(torch.arange(len(known.x)), batch_size):
        parts.append(_batch(attack, counted, known, rows))
    seconds = time.process_time() - start
    n = len(known.x)
    reasons: Counter[str] = Counter()
    for part in parts:
        reasons += Counter(part.reasons)
    return Trial(
        np.concatenate([part.distance for part in parts]),
        counted.n_forward / n,
        counted.n_backward / n,
        seconds,
        sum(part.n_false for part in parts),
        dict(reasons.most_common()),
        tuple(dict.fromkeys(doubt for part in parts for doubt in part.doubts)),
        all(part.raised for part in parts),
    )


def _batch(attack: Attack, counted: _Counted, known: Member, rows: Tensor) -> Trial:
    """Attack some points, uncounted."""
    x, y, domain = known.x[rows], known.y[rows], known.domain.take(rows)
    nothing = np.full(len(rows), np.inf)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is to be known stands in the result
            result = attack(counted, x.clone(), y.clone(), domain=domain)
    except (Exception, SystemExit) as error:
        # Its own words, as long as they are: most are a refusal that says what it expects.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
        return Trial(nothing, 0, 0, 0, 0, {reason: len(rows)}, raised=True)
    finally:
        counted.zero_grad()
    if not isinstance(result, AttackResult) or result.x_adv.shape != x.shape:
        return Trial(nothing, 0, 0, 0, 0, {_MISMATCH: len(rows)}, raised=True)
    with torch.no_grad():
        bound = domain.bind(x)
        found = _within(bound, result.x_adv.detach().to(x))
        wrong = misclassified(outputs(known.classifier, found, allow_nan=True), y)
        verified = wrong & bound.contains(found) & found.flatten(1).isfinite().all(1)
        gap = (found.double() - x.double()).flatten(1).norm(dim=1)
    distance = torch.where(verified, gap, torch.inf).numpy()
    statuses = [AttackStatus.from_code(code) for code in result.status.tolist()]
    false = (result.success & ~verified).tolist()
    # What a function raised or returned in place of points stands among the doubts.
    said = next((doubt for doubt in result.warnings if _FORM.search(doubt)), "")
    reasons = Counter(
        _NO_ERROR
        if unverified
        else (said[:_LONGEST] if said and status in _UNUSABLE else status.value)
        for status, unverified, good in zip(statuses, false, verified.tolist(), strict=True)
        if not good
    )
    n_false = sum(false) + sum(status in _FALSE for status in statuses)
    raised = all(status is AttackStatus.RAISED for status in statuses)
    doubts = tuple(doubt[:_LONGEST] for doubt in result.warnings)
    return Trial(distance, 0, 0, 0, n_false, dict(reasons), doubts, raised)


def _within(domain: Domain, points: Tensor) -> Tensor:
    """Return points, brought onto a domain where they miss it by more than rounding.

    What a domain calls inside may lie outside of it by 1e-5, with which an attack could undercut
    the truth.
    """
    inside = domain.project(points)
    off = norm(points - inside) > _ROUNDING * norm(inside)
    return torch.where(per_sample(off, points), inside, points)


@dataclass(frozen=True)
class MemberTruth(RunConfig):
    """The points of a member of the suite, and what is known of their distances.

    Parameters
    ----------
    member : str
        Its name.
    n_points, seed : int
        As for `trueboundary.audits.member`.
    """

    member: str
    n_points: int
    seed: int

    def cost(self) -> float:
        """Seconds of one core, roughly: the long searches of bracketed members."""
        searched = _DEAR.get(self.member)
        return 0.1 if searched is None else self.n_points * searched * _LONG_SEARCH

    def in_words(self) -> str:
        """Return what is found out."""
        return f"truth of {self.member}"

    def make(self) -> Member:
        """Return the member itself."""
        return member(self.member, self.n_points, self.seed)

    def compute(self, context: Context) -> RunResult:
        """Prove distances, and search long where they are not exact."""
        del context
        made = self.make()
        truth = made.find_truth()
        arrays = {"lower": truth.lower, "known": truth.known}
        return RunResult({"exact": truth.exact, "points": made.digest}, arrays)


def truth_of(run: Run) -> Truth:
    """Return what a run of `MemberTruth` found out."""
    return Truth(run.arrays["lower"], run.arrays["known"], bool(run.summary["exact"]))


@dataclass(frozen=True)
class TrialRun(RunConfig):
    """An attack on a member of the suite.

    Parameters
    ----------
    attack : str
        Name by which `trueboundary.audits.find_attack` finds it.
    identity : str
        What else tells one attack from another: settings, versions, a hash of its code.
    known : MemberTruth
        The member.
    """

    attack: str
    identity: str
    known: MemberTruth

    def cost(self) -> float:
        """Seconds of one core, roughly."""
        return self.known.n_points * _DEAR.get(self.known.member, _CHEAP) * _SEARCH

    def in_words(self) -> str:
        """Return what is attacked by what."""
        return f"{self.attack} on {self.known.member}"

    def compute(self, context: Context) -> RunResult:
        """Run the attack."""
        del context
        known = self.known.make()
        trial = try_attack(find_attack(self.attack).attack, known)
        summary = trial.to_dict() | {"points": known.digest}
        return RunResult(summary, {"distance": trial.distance})


def trial_of(run: Run) -> Trial:
    """Return what a run of `TrialRun` found."""
    return Trial.of(run.arrays["distance"], run.summary)
