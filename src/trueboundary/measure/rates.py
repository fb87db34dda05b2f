"""How often a classifier is wrong: exactly, by sampling, or by splitting."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks import AttackStatus, AttackWarning
from trueboundary.classifiers import Classifier, dtype_of, evaluated
from trueboundary.devices import check_device
from trueboundary.measure._inputs import check_inputs
from trueboundary.measure.counting import OneByOne, block_counter
from trueboundary.measure.exact import exact_error_rates
from trueboundary.measure.plain_values import rate_values
from trueboundary.measure.registered import ExactRates, known_exact_rates
from trueboundary.plurals import plural
from trueboundary.presentable import ByClass, Presentable, storable
from trueboundary.problems import (
    Problem,
    TableProblem,
    check_number_of_classes,
    output_doubts,
)
from trueboundary.problems.base import BLOCK_SIZE
from trueboundary.problems.seeding import block_generator
from trueboundary.progress_bars import shown_progress
from trueboundary.rare_events import (
    ClassRate,
    RareEventWarning,
    Splitting,
    SplittingResult,
    estimate_error_rate,
    move_for,
    seed_attack,
)
from trueboundary.theory.intervals import clopper_pearson

__all__ = ["ErrorRate", "Method", "error_rate"]

_LOG = logging.getLogger(__name__)

Method = Literal["exact", "sampling", "splitting"]
Progress = Callable[[float], None]

#: Errors in a sample below which its interval is wide, and splitting worth its cost.
FEW_ERRORS = 10

#: Points below which a larger sample is cheaper than splitting, which makes 10,000 draws and then
#: moves each of them at every level.
ENOUGH_POINTS = 20_000

#: How attacks end that could not search at all.
_BLIND = frozenset(
    status.code
    for status in (
        AttackStatus.GRADIENT_VANISHED,
        AttackStatus.NON_FINITE,
        AttackStatus.UNRESOLVED,
        AttackStatus.CUT_OFF,
    )
)


@dataclass(frozen=True, repr=False)
class ErrorRate(Presentable):
    """The probability that a random point of one class is misclassified.

    Attributes
    ----------
    label : int
        The class, 0 to K - 1.
    value : float
        The error rate. Where it is exact, 0 may also stand for less than the smallest float64 (see
        `log10`); where it is sampled, 0 only says that no error was seen, and `high` is what is
        known. NaN where splitting was asked for and reached no error.
    low, high : float
        Interval (Clopper-Pearson for samples; for splitting see `SplittingResult.interval`), or
        `value` twice where it is exact.
    log10 : float
        Base-10 logarithm of the error rate, right far below 1e-308; minus infinity for 0.
    method : {"exact", "sampling", "splitting"}
        How it was found.
    reason : str
        Why that method.
    n_points : int
        Independent random points that were classified, 0 where it is exact.
    n_errors : int
        Errors among them.
    n_evaluations : int
        Points that were classified in all: those of splitting include every move.
    warnings : tuple of str
        Reasons for doubt, each a sentence.
    splitting : SplittingResult or None
        The run of splitting, where there was one, whether it reached an error or not.
    into : tuple of ClassRate
        For three classes and more, at which rate the points go to each class that gets some of the
        errors, with intervals like `low` and `high`; empty where nothing tells.
    """

    label: int
    value: float
    low: float
    high: float
    log10: float
    method: Method
    reason: str
    n_points: int = 0
    n_errors: int = 0
    n_evaluations: int = 0
    warnings: tuple[str, ...] = ()
    splitting: SplittingResult | None = None
    into: tuple[ClassRate, ...] = ()

    def __str__(self) -> str:
        """Say the error rate in one line, and why it was found so in another."""
        doubts = "".join(f"; warning: {sentence}" for sentence in self.warnings)
        return f"class {self.label}: {self._estimate()}{self._into()}\n  {self.reason}{doubts}"

    def to_dict(self) -> dict[str, Any]:
        """Return the error rate as plain values, which JSON can hold; infinity and NaN are None."""
        values: dict[str, Any] = storable(rate_values(self))
        return values

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return one row: the error rate, its interval and how it was found."""
        names = (
            "label", "value", "low", "high", "log10", "method", "n_points", "n_errors",
            "n_evaluations",
        )  # fmt: skip
        return {name: [getattr(self, name)] for name in names}

    def _into(self) -> str:
        """Say which classes most of the errors go to."""
        most = sorted(self.into, key=lambda rate: -rate.value)[:3]
        named = ", ".join(f"{rate.label} ({rate.value:.3g})" for rate in most)
        return f"; most into {named}" if most else ""

    def _estimate(self) -> str:
        if self.method == "exact":
            return f"{'0' if self.log10 == -math.inf else f'10^{self.log10:.4f}'} (exact)"
        seen = f"{plural(self.n_errors, 'error')} in {plural(self.n_points, 'point')}"
        if self.n_errors == 0 and not self.value > 0:
            return f"below {self.high:.3g} ({seen}{self._depth()})"
        interval = f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"
        if self.method == "splitting":
            return f"{interval} (splitting, {plural(self.n_evaluations, 'evaluation')})"
        return f"{interval} ({seen}{self._depth()})"

    def _depth(self) -> str:
        """Say how far a run of splitting came that reached no error."""
        if self.splitting is None:
            return ""
        deepest = self.splitting.deepest_probability
        return f"; splitting reached none down to a probability of {deepest:.3g}"


def error_rate(
    classifier: Classifier,
    problem: Problem,
    *,
    method: Method | None = None,
    n_points: int = 100_000,
    seed: int = 0,
    splitting: Splitting | None = None,
    confidence: float = 0.95,
    device: str = "cpu",
    progress: bool | Progress | None = None,
    batch_size: int | None = None,
) -> ByClass[ErrorRate]:
    """Return the error rate of a classifier on each class of a problem.

    Parameters
    ----------
    classifier : callable
        Maps points ``(n, *event)`` to margins ``(n,)`` or logits ``(n, K)``. Modules are
        evaluated in eval mode and left in the mode they came in; the result says so where that may
        matter.
    problem : Problem
        What the points are drawn from.
    method : {"exact", "sampling", "splitting"}, optional
        By default exact where an exact form is known: quadratic classifiers and truncated sums on
        `ConcentricSpheres`, any classifier on a `TableProblem`, the optimal float64 classifier of a
        pair of Gaussians, and what `trueboundary.measure.register_exact_rate` adds. Otherwise a
        sample, and where that has fewer than 10 errors (of at least 20,000 points) multilevel
        splitting as well.
    n_points : int
        Random points per class when sampling; they are streamed, never held together. Those of a
        quadratic classifier on the spheres are drawn in its eigenbasis, see `BlockCounter`.
    seed : int
        Seed of the points.
    splitting : Splitting, optional
        Settings of splitting; `confidence` takes the place of its own.
    confidence : float
        Of the intervals, strictly between 0 and 1.
    device : str
        Where to draw the points; must be the classifier's.
    progress : bool or callable, optional
        True for a bar on standard error, or ``progress(fraction)``, called after each block of a
        sample and each run of splitting.
    batch_size : int, optional
        Points that the classifier gets at a time while sampling; whole blocks of 8,192 by default.

    Returns
    -------
    tuple of ErrorRate
        One for each class.

    Raises
    ------
    TypeError
        If splitting was asked for and knows no move for the problem's density.
    ValueError
        If the method is not available for this classifier, or it has more or fewer classes than
        the problem.

    Warns
    -----
    ClassifierWarning
        If the classifier seems to return probabilities, not logits.

    Notes
    -----
    When splitting follows a sample, the sample still counts: where splitting reaches no error, the
    sample's interval is what is reported, and where the two intervals contradict each other, the
    result says so. Before it climbs, an attack looks for errors that splitting may pass by; see
    `trueboundary.rare_events.attack_seeds`.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> problem = tb.ConcentricSpheres(dim=100)
    >>> network = tb.QuadraticNetwork(100, 200, generator=torch.Generator().manual_seed(0))
    >>> inner, outer = tb.error_rate(network, problem)
    >>> print(inner.method, f"{inner.log10:.2f}")
    exact -1.93
    >>> sampled, _ = tb.error_rate(network, problem, method="sampling", n_points=20_000)
    >>> sampled.low <= inner.value <= sampled.high
    True
    """
    if method is not None and method not in get_args(Method):
        raise ValueError(f"expected method 'exact', 'sampling' or 'splitting', got {method!r}.")
    check_inputs(classifier, problem)
    check_device(device)
    if batch_size is not None:
        check_integer("batch_size", batch_size, minimum=1)
    splitting = replace(splitting or Splitting(), confidence=confidence)
    with evaluated(classifier) as sentences:
        dtype = dtype_of(classifier)
        check_number_of_classes(classifier, problem, dtype=dtype, device=device)
        doubts = output_doubts(classifier, problem, dtype=dtype, device=device)
        with shown_progress(progress, lambda bar: bar.update) as say:
            run = _Run(classifier, problem, n_points, seed, splitting, device, say, batch_size)
            rates = _measured(classifier, problem, method, run)
    doubts = sentences + doubts
    return ByClass(replace(rate, warnings=doubts + rate.warnings) for rate in rates)


def _measured(
    classifier: Classifier, problem: Problem, method: Method | None, run: _Run
) -> tuple[ErrorRate, ...]:
    labels = range(problem.n_classes)
    if method in (None, "exact"):
        exact = exact_error_rates(classifier, problem)
        if isinstance(exact, ExactRates):
            return tuple(_exact(label, exact) for label in labels)
        if method == "exact":
            raise ValueError(
                f"exact error rates are known for {known_exact_rates()}; got "
                f"{type(classifier).__name__} on {type(problem).__name__} ({exact}); use "
                "method='sampling' or 'splitting'."
            )
    if method == "splitting":
        return tuple(
            run.told((label + 1) / len(labels), run.split(label, "asked for")) for label in labels
        )
    reason = str(exact) if method is None else "asked for"
    _LOG.info("sampling %d points of each class (%s)", run.n_points, reason)
    # Whether splitting follows is not known before; a small sample is all there will be.
    share = 0.5 if method is None and run.n_points >= ENOUGH_POINTS else 1.0
    sampled = [run.sample(label, reason, share) for label in labels]
    if method == "sampling":
        return tuple(sampled)
    ends = [share + (1 - share) * (label + 1) / len(labels) for label in labels]
    return tuple(
        run.told(end, run.look_deeper(rate)) for end, rate in zip(ends, sampled, strict=True)
    )


def _exact(label: int, exact: ExactRates) -> ErrorRate:
    log_error = exact.log_errors[label]
    value = math.exp(log_error)
    return ErrorRate(label, value, value, value, log_error / math.log(10), "exact", exact.reason)


@dataclass(frozen=True)
class _Run:
    """What random measurements share."""

    classifier: Classifier
    problem: Problem
    n_points: int
    seed: int
    splitting: Splitting
    device: str
    progress: Progress
    batch_size: int | None = None

    def told(self, fraction: float, found: ErrorRate) -> ErrorRate:
        """Tell how much is done now that an error rate is found, and return it."""
        self.progress(fraction)
        return found

    def sample(self, label: int, reason: str, share: float) -> ErrorRate:
        """Count errors among random points, which is that share of all work."""
        n_classes, confidence = self.problem.n_classes, self.splitting.confidence
        count = block_counter(self.classifier, self.problem, self.batch_size)
        into = [0] * n_classes
        n_errors = n_seen = 0
        for index in range(-(-self.n_points // BLOCK_SIZE)):
            n = min(BLOCK_SIZE, self.n_points - n_seen)
            if n_classes > 2 and isinstance(count, OneByOne):
                found = count.by_class(index, n, seed=self.seed, label=label, device=self.device)
                into = [before + new for before, new in zip(into, found.tolist(), strict=True)]
                n_errors = n_seen + n - into[label]
            else:
                n_errors += count(index, n, seed=self.seed, label=label, device=self.device)
            n_seen += n
            self.progress(share * (label + n_seen / self.n_points) / n_classes)
        low, high = clopper_pearson(n_errors, n_seen, confidence)
        value = n_errors / n_seen
        return ErrorRate(
            label,
            value,
            low,
            high,
            math.log10(value) if value > 0 else -math.inf,
            "sampling",
            reason,
            n_seen,
            n_errors,
            n_seen,
            into=tuple(
                ClassRate(other, n / n_seen, *clopper_pearson(n, n_seen, confidence))
                for other, n in enumerate(into)
                if n and other != label
            ),
        )

    def split(self, label: int, reason: str) -> ErrorRate:
        """Estimate by multilevel splitting, after an attack has looked for errors to reach."""
        dtype = dtype_of(self.classifier)
        source = move_for(self.problem, label, dtype=dtype, device=self.device)
        generator = block_generator(self.seed, label, purpose="splitting", device=self.device)
        with warnings.catch_warnings():
            # The result carries them, and whoever prints it reads them.
            warnings.simplefilter("ignore", RareEventWarning)
            warnings.simplefilter("ignore", AttackWarning)
            seeds, doubts = self._seeds(label, generator)
            result = estimate_error_rate(
                self.classifier,
                source,
                label,
                splitting=self.splitting,
                generator=generator,
                seeds=seeds,
                dtype=dtype,
            )
        doubts += result.warnings
        if not result.reached and seeds is not None:
            doubts += (
                f"an attack found {plural(len(seeds), 'error')} that splitting did not reach; "
                "another score may lead to them.",
            )
        low, high = result.interval
        return ErrorRate(
            label,
            result.value,
            low,
            high,
            result.log10,
            "splitting",
            reason,
            n_points=result.n_independent,
            n_errors=result.n_independent_errors,
            n_evaluations=result.n_evaluations,
            warnings=doubts,
            splitting=result,
            into=result.into,
        )

    def _seeds(
        self, label: int, generator: torch.Generator
    ) -> tuple[Tensor | None, tuple[str, ...]]:
        """Return errors that an attack finds, and what keeps it from looking."""
        if isinstance(self.problem, TableProblem):
            return None, ()  # integer points leave an attack no direction
        try:
            found = seed_attack(
                self.classifier,
                self.problem,
                label,
                generator=generator,
                dtype=dtype_of(self.classifier),
            )
        except RuntimeError as error:  # what a classifier raises that cannot be differentiated
            _LOG.info("no attack looked for errors of class %d", label, exc_info=error)
            return None, (f"no attack could look for errors that splitting may miss ({error}).",)
        if bool(found.success.any()):
            return found.x_adv[found.success], ()
        blind = sorted(set(found.status.tolist()) & _BLIND)
        return None, tuple(
            "no attack could look for errors that splitting may miss: "
            + AttackStatus.from_code(code).value
            for code in blind
        )

    def look_deeper(self, sampled: ErrorRate) -> ErrorRate:
        """Return the sample's error rate, or that of splitting where the sample saw too little."""
        if sampled.n_errors >= FEW_ERRORS:
            return sampled
        were = "was an error" if sampled.n_errors == 1 else "were errors"
        points = plural(sampled.n_points, "point")
        few = f"{sampled.reason}; only {sampled.n_errors} of {points} {were}"
        if sampled.n_points < ENOUGH_POINTS:
            return replace(sampled, reason=f"{few}, so that a larger sample is the cheapest help")
        try:
            move_for(self.problem, sampled.label)
        except TypeError:
            return replace(sampled, reason=f"{few}, and splitting knows no move for this problem")
        _LOG.info("class %d is split: %s", sampled.label, few)
        found = self.split(sampled.label, few)
        n_evaluations = sampled.n_evaluations + found.n_evaluations
        if found.splitting is not None and not found.splitting.reached:
            # The sample's interval holds whatever happened afterwards; a pooled one would not,
            # since what the sample saw decided that more points were drawn.
            return replace(
                sampled,
                reason=f"{few}, and splitting reached none",
                n_evaluations=n_evaluations,
                warnings=found.warnings,
                splitting=found.splitting,
            )
        doubts = found.warnings
        if found.low > sampled.high or found.high < sampled.low:
            doubts += (
                f"the sample of {plural(sampled.n_points, 'point')} gives [{sampled.low:.3g}, "
                f"{sampled.high:.3g}], which contradicts splitting; trust the sample.",
            )
        return replace(
            found,
            n_points=sampled.n_points,
            n_errors=sampled.n_errors,
            n_evaluations=n_evaluations,
            warnings=doubts,
        )
