"""What an attack returns: the errors that it found, and for every failure a reason in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import Tensor

from trueboundary.plurals import plural
from trueboundary.presentable import Presentable, storable
from trueboundary.theory.intervals import censored_median

__all__ = ["AttackResult", "AttackStatus", "AttackSummary"]


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
    LEFT_DOMAIN = "The point that was found lies outside of the domain, so it does not count."
    NOT_CONFIRMED = (
        "The point that was reported as an error is none when the classifier is asked again: the "
        "attack is mistaken, or the classifier does not give the same answer twice."
    )
    UNRESOLVED = (
        "No step changed the margin by more than its rounding: the precision of the points or of "
        "the margins hides the way up; try float64, or take large offsets out of both."
    )
    CUT_OFF = (
        "The classifier's output does not depend on its input for autograd (no_grad, detach, a "
        "trip through NumPy, a constant), so there is no gradient to climb."
    )
    UNMOVED = "The attack returned the sample itself."
    NO_POINT = "The attack returned no point: NaN, infinity or another shape; see the warnings."
    RAISED = "The attack stopped with an exception; see the warnings."

    @property
    def code(self) -> int:
        """Position of the status in the enumeration: what `AttackResult.status` stores."""
        return list(AttackStatus).index(self)

    @classmethod
    def from_code(cls, code: int) -> AttackStatus:
        """Return the status with the given code."""
        return list(cls)[code]


@dataclass(frozen=True, repr=False)
class AttackSummary(Presentable):
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

    def __str__(self) -> str:
        """Say how many errors were found and how near in one line, why not in another."""
        found = f"errors found from {self.n - self.n_failed:,} of {plural(self.n, 'point')}"
        if self.n_failed < self.n:
            found += f", mean distance {self.mean:.4g}, median {self.median:.4g}"
        why = "; ".join(f"{n:,} without an error: {reason}" for reason, n in self.reasons.items())
        return f"{found}\n  {why}" if why else found

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain values, which JSON can hold; infinity and NaN are None."""
        values: dict[str, Any] = storable(vars(self))
        return values

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return one row: the numbers without the reasons."""
        return {name: [getattr(self, name)] for name in ("n", "n_failed", "mean", "median")}


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult(Presentable):
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
    wrongness : Tensor
        `trueboundary.classifiers.wrongness` of each sample's class at ``x_adv``, ``(n,)``; of the
        class that it was to be taken into, where there was one.
    n_forward, n_backward : Tensor
        Evaluations of the classifier and of its gradient spent on each sample, ``(n,)`` int64.
    endpoint : Tensor
        Where the search ended, ``(n, *event)``, an error or not: ``x_adv`` where it succeeded.
    endpoint_wrongness : Tensor
        Wrongness at ``endpoint``, ``(n,)``.
    start_wrongness : Tensor
        Wrongness at the sample itself, ``(n,)``.
    y : Tensor
        Labels of the samples, ``(n,)`` int64.
    predicted : Tensor
        The class that the classifier gives to ``x_adv``, ``(n,)`` int64; -1 where it is NaN.
    n_classes : int
        Number of classes.
    warnings : tuple of str
        Reasons for doubt, each a sentence.
    """

    x_adv: Tensor
    distance: Tensor
    status: Tensor
    wrongness: Tensor
    n_forward: Tensor
    n_backward: Tensor
    endpoint: Tensor
    endpoint_wrongness: Tensor
    start_wrongness: Tensor
    y: Tensor
    predicted: Tensor
    n_classes: int = 2
    warnings: tuple[str, ...] = ()

    @property
    def margin(self) -> Tensor:
        """Margin of a classifier of two classes at ``x_adv``, ``(n,)``."""
        return self._as_margin(self.wrongness)

    @property
    def endpoint_margin(self) -> Tensor:
        """Margin of a classifier of two classes at ``endpoint``, ``(n,)``."""
        return self._as_margin(self.endpoint_wrongness)

    @property
    def start_margin(self) -> Tensor:
        """Margin of a classifier of two classes at the samples themselves, ``(n,)``."""
        return self._as_margin(self.start_wrongness)

    def _as_margin(self, wrongness: Tensor) -> Tensor:
        if self.n_classes != 2:
            raise ValueError(
                f"a margin is the difference of two logits, but there are {self.n_classes} "
                "classes; see wrongness."
            )
        return (1 - 2 * self.y.to(wrongness)) * wrongness

    @property
    def success(self) -> Tensor:
        """Whether each sample has an error, its own misclassification included: ``(n,)`` bool."""
        return self.distance.isfinite()

    @property
    def success_rate(self) -> float:
        """Fraction of the samples with an error."""
        return self.success.double().mean().item()

    def __str__(self) -> str:
        """Say how many errors were found and how near in one line, at what cost in another."""
        head, *why = str(self.summary()).splitlines()
        cost = (
            f"  {self.n_forward.double().mean():.4g} evaluations forward and "
            f"{self.n_backward.double().mean():.4g} back for a point"
        )
        rest = [line.strip() for line in why] + [f"warning: {text}" for text in self.warnings]
        return f"{head}\n{'; '.join([cost, *rest])}"

    def to_dict(self) -> dict[str, Any]:
        """Return the summary and what is known of each point as plain values, for JSON.

        Infinity and NaN are None; the points themselves are left out.
        """
        values: dict[str, Any] = storable(
            {**vars(self.summary()), "warnings": self.warnings, "points": self.columns()}
        )
        return values

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return a row for each sample: label, what was found, its cost, and how it ended."""
        names = ("y", "predicted", "distance", "wrongness", "n_forward", "n_backward")
        columns: dict[str, Any] = {name: getattr(self, name).tolist() for name in names}
        return columns | {"success": self.success.tolist(), "message": self.messages()}

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
