"""Error rates far below what sampling can see, by multilevel splitting."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from trueboundary._checks import check_integer, check_real
from trueboundary._tensors import check_floating
from trueboundary.classifiers import Classifier, dtype_of, evaluated
from trueboundary.devices import check_device
from trueboundary.plurals import plural
from trueboundary.problems.base import Problem, check_label
from trueboundary.problems.outputs import output_doubts
from trueboundary.rare_events._particles import System, run_pilot, run_replicates
from trueboundary.rare_events.moves import move_for
from trueboundary.rare_events.replicates import Pilot, Replicates
from trueboundary.rare_events.representation import check_seeds, unrepresented_groups
from trueboundary.rare_events.scores import Score, ScoreFunction
from trueboundary.theory.intervals import Interval, clopper_pearson, t_interval

__all__ = [
    "RareEventWarning",
    "Splitting",
    "SplittingResult",
    "SplittingStages",
    "compare_scores",
    "estimate_error_rate",
]

_LOG_NORMAL_FROM = 0.3  # relative spread of the replicates
_HARDLY_MOVING = 0.02  # acceptance
_SPREAD_FACTOR = 3.0  # how much wider than ideal is worth a warning


class RareEventWarning(UserWarning):
    """An error rate estimated by splitting may be wrong by more than its interval says."""


@dataclass(frozen=True)
class Splitting:
    """Settings of multilevel splitting.

    A pilot run chooses levels between ordinary points and errors, and step sizes. Replicates then
    repeat the climb with both frozen, which makes the product of the shares of particles that pass
    each level an unbiased estimate of the error rate, whatever the number of particles and however
    badly they move (Cerou, Del Moral, Furon and Guyader, 2012).

    Parameters
    ----------
    n_particles : int
        Particles of each replicate, at least 10.
    keep : float
        Share of the pilot's particles that pass a level, strictly between 0 and 1.
    n_sweeps : int
        Moves of every particle between two levels.
    n_replicates : int
        Independent replicates, at least 2; the interval has one degree of freedom less.
    batch_size : int
        Particles that are moved and classified at a time.
    min_probability : float
        The pilot gives up at a level rarer than this. At least 1e-300. A classifier without errors
        can cost that many levels.
    confidence : float
        Of the intervals, strictly between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong type or out of range.

    Notes
    -----
    A run costs about ``(n_replicates + 1) * n_particles * (1 + n_sweeps * n_levels)`` evaluations
    with ``n_levels = log(p) / log(keep)``. The ideal relative standard deviation of one replicate
    is ``sqrt(n_levels * (1 - keep) / (keep * n_particles))``.

    Examples
    --------
    >>> from trueboundary.rare_events import Splitting
    >>> Splitting(n_particles=500).ideal_spread(1e-15)
    0.3156...
    """

    n_particles: int = 1000
    keep: float = 0.5
    n_sweeps: int = 5
    n_replicates: int = 10
    batch_size: int = 8192
    min_probability: float = 1e-100
    confidence: float = 0.95

    def __post_init__(self) -> None:
        least = {"n_particles": 10, "n_sweeps": 1, "n_replicates": 2, "batch_size": 1}
        for name, minimum in least.items():
            check_integer(name, getattr(self, name), minimum=minimum)
        for name, low in (("keep", 0.0), ("confidence", 0.0), ("min_probability", 1e-300)):
            if not low <= check_real(name, getattr(self, name), above=0.0) < 1:
                raise ValueError(
                    f"{name} must lie between {low:g} and 1, got {getattr(self, name)!r}."
                )

    @property
    def n_keep(self) -> int:
        """Particles of the pilot that pass a level."""
        return min(max(1, round(self.keep * self.n_particles)), self.n_particles - 1)

    def ideal_spread(self, probability: float) -> float:
        """Return the relative standard deviation of one replicate if its particles mixed well."""
        n_levels = math.log(probability) / math.log(self.keep)
        return math.sqrt(n_levels * (1 - self.keep) / (self.keep * self.n_particles))


@dataclass(frozen=True)
class SplittingResult:
    """An error rate estimated by splitting, or the news that no error was reached.

    Attributes
    ----------
    value : float
        The error rate, the mean of the replicates; NaN where no error was reached, never 0.
    log10 : float
        Its base-10 logarithm.
    low, high : float
        Student's t interval over the replicates, cut off at 0. Where no level between ordinary
        points and errors was needed, or no error was reached, the Clopper-Pearson interval of the
        independent draws.
    log_normal : Interval or None
        Interval of the mean of a log-normal distribution, where the replicates spread by more than
        0.3 of their mean; it allows for their skewness, which the t interval does not.
    reached : bool
        Whether errors were reached.
    replicates : tuple of float
        Unbiased, independent estimates; empty where no error was reached.
    levels : tuple of float
        Scores that had to be passed one after the other; the last is 0 where errors were reached.
    steps, acceptance : tuple of float
        Step and share of accepted moves after each level but the last.
    deepest_level, deepest_probability : float
        The last level and its estimated probability: `value` where errors were reached, the
        pilot's estimate elsewhere.
    n_independent, n_independent_errors : int
        Independent draws (the replicates' first particles), and errors among them.
    n_ancestors : tuple of int
        For each replicate, first particles that have descendants among the errors.
    n_evaluations : int
        Points classified, the pilot and every check included.
    label : int
        The class whose error rate this is.
    score : str
        The score that guided the particles.
    warnings : tuple of str
        Reasons to doubt the result, in words.
    """

    value: float
    log10: float
    low: float
    high: float
    log_normal: Interval | None
    reached: bool
    replicates: tuple[float, ...]
    levels: tuple[float, ...]
    steps: tuple[float, ...]
    acceptance: tuple[float, ...]
    deepest_level: float
    deepest_probability: float
    n_independent: int
    n_independent_errors: int
    n_ancestors: tuple[int, ...]
    n_evaluations: int
    label: int
    score: str
    warnings: tuple[str, ...] = ()

    @property
    def interval(self) -> Interval:
        """The interval to quote: `log_normal` where there is one, else ``(low, high)``.

        Where replicates spread widely, the t interval is too often too low: the mean of a skewed
        distribution is carried by its rare large values.
        """
        return self.log_normal or Interval(self.low, self.high)

    @property
    def relative_spread(self) -> float:
        """Standard deviation of the replicates over their mean; NaN where there are none."""
        if not self.replicates:
            return math.nan
        values = np.array(self.replicates)
        return float(values.std(ddof=1) / values.mean())

    def __str__(self) -> str:
        """Say the error rate, or how far the run came, in one sentence."""
        if not self.reached:
            return (
                f"class {self.label}: no error was reached; the deepest level, score "
                f"{self.deepest_level:.4g}, has probability {self.deepest_probability:.3g}, and "
                f"{self.n_independent:,} independent draws with "
                f"{plural(self.n_independent_errors, 'error')} bound the error rate by "
                f"{self.high:.3g}"
            )
        low, high = self.interval
        return (
            f"class {self.label}: {self.value:.3g} [{low:.3g}, {high:.3g}] "
            f"(splitting, {plural(len(self.replicates), 'replicate')}, "
            f"{plural(self.n_evaluations, 'evaluation')})"
        )


def estimate_error_rate(
    classifier: Classifier,
    source: Any,
    label: int,
    *,
    generator: torch.Generator,
    splitting: Splitting | None = None,
    score: Score = "margin",
    seeds: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> SplittingResult:
    r"""Estimate the probability that a random point of one class is misclassified.

    Particles climb from ordinary points towards errors through level sets of a score,

    .. math:: p = \prod_l P(S \ge L_l \mid S \ge L_{l-1}), \qquad L_0 = -\infty,\; L_n = 0,

    each factor being about ``splitting.keep``. Between two levels they are spread out again by
    moves that leave the density restricted to the level set unchanged.

    Parameters
    ----------
    classifier : callable
        Maps points ``(n, *event)`` to ``(n,)``, ``(n, 1)`` or ``(n, 2)`` logits. Modules are
        evaluated in eval mode and left in the mode they came in; the result says so where that may
        matter.
    source : Problem, Distribution or InvariantMove
        What the points are drawn from: a problem or a density of this package, or a move of one's
        own that leaves another density unchanged.
    label : {0, 1}
        Class of the points; an error is a point that is given to the other class.
    generator : torch.Generator
        Source of all random numbers; its device is where points live.
    splitting : Splitting, optional
        The settings.
    score : {"margin", "normalised margin"} or callable
        What guides the particles; see `trueboundary.rare_events.scores.ScoreFunction`.
    seeds : Tensor, optional
        Points ``(n, *event)`` found by an attack, as by `attack_seeds`. Those that are errors are
        compared with the errors that the particles reach; a group of them that the particles do
        not represent is a sign that the estimate misses part of the errors.
    dtype : torch.dtype, optional
        Of the points; that of the classifier's first parameter by default, else float64.

    Returns
    -------
    SplittingResult
        Estimate, interval, cost and doubts.

    Raises
    ------
    TypeError
        If no move is known for the source.
    ValueError
        If the label, the score or the seeds are not usable.

    Warns
    -----
    RareEventWarning
        For each of the result's warnings.

    Notes
    -----
    A score can lead all particles to a small part of the errors while a larger part hides behind
    points of low score. Replicates then agree with one another and are all too small. Nothing in
    the run itself can reveal this; `seeds` and other scores (`compare_scores`) can.

    References
    ----------
    Au and Beck (2001), *Estimation of small failure probabilities in high dimensions by subset
    simulation*; Cerou, Del Moral, Furon and Guyader (2012), *Sequential Monte Carlo for rare event
    estimation*; Webb, Rainforth, Teh and Kumar (2019), *A statistical approach to assessing neural
    network robustness*, who use levels that adapt in every run and are biased for that reason.

    Examples
    --------
    The cap of a sphere, whose measure is known:

    >>> import torch
    >>> from trueboundary.densities import UniformSphere
    >>> from trueboundary.rare_events import Splitting, estimate_error_rate
    >>> from trueboundary.theory import caps
    >>> cap = caps.threshold(20, 1e-8)
    >>> result = estimate_error_rate(
    ...     lambda x: x[:, 0] - cap,
    ...     UniformSphere(20),
    ...     label=0,
    ...     splitting=Splitting(n_particles=200),
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    >>> result.low < 1e-8 < result.high
    True
    """
    splitting = splitting or Splitting()
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}.")
    stages = SplittingStages(
        classifier,
        source,
        label,
        splitting=splitting,
        score=score,
        dtype=dtype,
        device=generator.device,
    )
    if seeds is not None:
        check_seeds(stages.move, seeds, generator)
    pilot = stages.run_pilot(generator=generator)
    replicates = stages.run_replicates(pilot, splitting.n_replicates, generator=generator)
    result = stages._combine(pilot, [replicates], seeds, generator)
    _warn(result)
    return result


class SplittingStages:
    """Multilevel splitting in stages, which may run at different times and on different machines.

    First comes `run_pilot`, once; then `run_replicates`, for one or several replicates at a time,
    in any order and in parallel; at last `combine`. What the stages hand on can be stored, see
    `Pilot.to_arrays` and `Replicates.to_arrays`. `estimate_error_rate` is all three with one
    generator throughout.

    Parameters
    ----------
    classifier, source, label, splitting, score, dtype
        As for `estimate_error_rate`; the same in all stages.
    device : torch.device or str
        Where points live, and where the generators of all stages must be.

    Attributes
    ----------
    move : InvariantMove
        The move that belongs to the source.
    score_name : str
        The score in words.

    Raises
    ------
    TypeError
        If no move is known for the source.
    ValueError
        If the label or the score is not usable.

    Notes
    -----
    Give every call of `run_replicates` a generator with a seed of its own: replicates of equal
    seeds are equal, and would count twice. With seeds that belong to the replicates, the result
    does not depend on where and in which order they ran.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import UniformSphere
    >>> from trueboundary.rare_events import Splitting, SplittingStages
    >>> from trueboundary.theory import caps
    >>> cap = caps.threshold(20, 1e-8)
    >>> stages = SplittingStages(
    ...     lambda x: x[:, 0] - cap, UniformSphere(20), 0, splitting=Splitting(n_particles=200)
    ... )
    >>> seeded = lambda seed: torch.Generator().manual_seed(seed)
    >>> pilot = stages.run_pilot(generator=seeded(0))
    >>> parts = [stages.run_replicates(pilot, 1, generator=seeded(1 + i)) for i in range(10)]
    >>> result = stages.combine(pilot, parts)
    >>> result.low < 1e-8 < result.high
    True
    """

    def __init__(
        self,
        classifier: Classifier,
        source: Any,
        label: int,
        *,
        splitting: Splitting | None = None,
        score: Score = "margin",
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.classifier = classifier
        self.label = check_label(label)
        self.splitting = splitting or Splitting()
        self.score = score
        self.score_name = ScoreFunction(classifier, self.label, score).name
        self.dtype = check_floating(dtype or dtype_of(classifier, default=torch.float64))
        self.device = check_device(device)
        self.move = move_for(source, label, dtype=self.dtype, device=self.device)
        self._problem = source if isinstance(source, Problem) else None

    def run_pilot(self, *, generator: torch.Generator) -> Pilot:
        """Choose the levels and steps.

        Parameters
        ----------
        generator : torch.Generator
            Source of all random numbers of this stage.

        Returns
        -------
        Pilot
            What all replicates need.

        Raises
        ------
        TypeError, ValueError
            If there is no generator, or it is on another device.
        """
        splitting = self.splitting
        with evaluated((self.classifier, self.score)):
            return run_pilot(
                self._system(generator),
                splitting.n_particles,
                splitting.n_keep,
                splitting.n_sweeps,
                splitting.min_probability,
            )

    def run_replicates(
        self, pilot: Pilot, n_replicates: int, *, generator: torch.Generator
    ) -> Replicates:
        """Repeat the climb on the pilot's levels with its steps.

        Parameters
        ----------
        pilot : Pilot
            The pilot. Where it reached no error, replicates are only their independent first
            draws: these alone bound the error rate. The pilot's own draws do not count, since it
            chose to give up by them.
        n_replicates : int
            How many, at least 1; ``splitting.n_replicates`` is not looked at.
        generator : torch.Generator
            Source of all random numbers of this stage, different for every call.

        Returns
        -------
        Replicates
            Independent, unbiased estimates.

        Raises
        ------
        TypeError, ValueError
            If the pilot is none, `n_replicates` is not a positive integer, or there is no generator
            on the device of the points.
        """
        _check_type("pilot", pilot, Pilot)
        check_integer("n_replicates", n_replicates, minimum=1)
        climbed = pilot if pilot.reached else replace(pilot, levels=(0.0,), steps=())
        splitting = self.splitting
        with evaluated((self.classifier, self.score)):
            return run_replicates(
                self._system(generator),
                climbed,
                n_replicates,
                splitting.n_particles,
                splitting.n_sweeps,
            )

    def combine(
        self,
        pilot: Pilot,
        parts: Sequence[Replicates],
        *,
        seeds: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> SplittingResult:
        """Put replicates together.

        Parameters
        ----------
        pilot : Pilot
            The pilot of all of them.
        parts : sequence of Replicates
            At least two replicates in all; ``splitting.n_replicates`` is not looked at.
        seeds : Tensor, optional
            As for `estimate_error_rate`.
        generator : torch.Generator, optional
            Source of the random numbers of the comparison with `seeds`; needed for that alone.

        Returns
        -------
        SplittingResult
            Estimate, interval, cost of all stages and doubts.

        Raises
        ------
        TypeError
            If the pilot or a part is none, or if there are seeds and no generator.
        ValueError
            If there are less than two replicates, or they climbed more or fewer levels than the
            pilot has. Replicates of another pilot with as many levels cannot be told apart; they
            are unbiased as well.

        Warns
        -----
        RareEventWarning
            For each of the result's warnings.
        """
        _check_type("pilot", pilot, Pilot)
        _check_type("parts", parts, Sequence)
        for part in parts:
            _check_type("a part", part, Replicates)
        n_replicates = sum(len(part.log_values) for part in parts)
        if n_replicates < 2:
            raise ValueError(
                f"at least 2 replicates are needed for an interval, got {n_replicates}; run more."
            )
        n_moves = len(pilot.steps) if pilot.reached else 0
        if any(len(part.acceptance) != n_moves for part in parts):
            raise ValueError(
                "the replicates do not belong to this pilot; they climbed more or fewer levels."
            )
        result = self._combine(pilot, parts, seeds, generator)
        _warn(result)
        return result

    def _combine(
        self,
        pilot: Pilot,
        parts: Sequence[Replicates],
        seeds: Tensor | None,
        generator: torch.Generator | None,
    ) -> SplittingResult:
        replicates = Replicates.joined(parts)
        doubts = _doubts(self.splitting, pilot, replicates)
        n_evaluations = pilot.n_evaluations + replicates.n_evaluations
        with evaluated((self.classifier, self.score)) as sentences:
            doubts += sentences
            if self._problem is not None:
                doubts += output_doubts(
                    self.classifier, self._problem, dtype=self.dtype, device=self.device
                )
            if seeds is not None:
                system = self._system(generator)
                check_seeds(self.move, seeds, system.generator)
                doubts += _seed_doubts(system, pilot, replicates, seeds)
                n_evaluations += system.score.n_evaluations
        return _result(self, pilot, replicates, n_evaluations, tuple(doubts))

    def _system(self, generator: torch.Generator | None) -> System:
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}.")
        if generator.device.type != self.device.type:
            raise ValueError(
                f"generator is on {generator.device} and the points are on {self.device}; make it "
                f"with torch.Generator({str(self.device)!r})."
            )
        score = ScoreFunction(self.classifier, self.label, self.score)
        return System(self.move, score, self.splitting.batch_size, generator)


def compare_scores(
    classifier: Classifier,
    source: Any,
    label: int,
    *,
    scores: Mapping[str, Score],
    generator: torch.Generator,
    splitting: Splitting | None = None,
    seeds: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, SplittingResult]:
    """Estimate the same error rate under the guidance of several scores.

    All of them estimate the same number, so that intervals far apart mean that at least one score
    has missed part of the errors; the largest estimate is then the most credible one.

    Parameters
    ----------
    classifier, source, label, generator, splitting, seeds, dtype
        As for `estimate_error_rate`.
    scores : mapping of str to Score
        Scores by name.

    Returns
    -------
    dict of str to SplittingResult
        One result for each score.

    Warns
    -----
    RareEventWarning
        If two intervals do not overlap, and as in `estimate_error_rate`.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import UniformSphere
    >>> from trueboundary.rare_events import Splitting, compare_scores
    >>> results = compare_scores(
    ...     lambda x: (x[:, 0] - 0.9) ** 3,
    ...     UniformSphere(10),
    ...     label=0,
    ...     scores={"margin": "margin", "per slope": "normalised margin"},
    ...     splitting=Splitting(n_particles=100),
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    >>> {name: result.reached for name, result in results.items()}
    {'margin': True, 'per slope': True}
    """
    results = {
        name: estimate_error_rate(
            classifier,
            source,
            label,
            splitting=splitting,
            generator=generator,
            score=score,
            seeds=seeds,
            dtype=dtype,
        )
        for name, score in scores.items()
    }
    reached = {name: result for name, result in results.items() if result.reached}
    if reached:
        small = min(reached, key=lambda name: reached[name].interval.high)
        large = max(reached, key=lambda name: reached[name].interval.low)
        if reached[small].interval.high < reached[large].interval.low:
            warnings.warn(
                f"the scores {small!r} ({reached[small].value:.3g}) and {large!r} "
                f"({reached[large].value:.3g}) disagree by more than their intervals; the smaller "
                "estimate has probably missed part of the errors.",
                RareEventWarning,
                stacklevel=2,
            )
    return results


def _result(
    stages: SplittingStages,
    pilot: Pilot,
    replicates: Replicates,
    n_evaluations: int,
    doubts: tuple[str, ...],
) -> SplittingResult:
    values, confidence = replicates.values, stages.splitting.confidence
    n_independent = stages.splitting.n_particles * len(values)
    mean = float(values.mean())
    # A pilot that reached errors does not oblige the replicates to.
    reached = pilot.reached and mean > 0
    is_plain_sampling = not reached or len(pilot.levels) == 1
    log_normal = None
    if is_plain_sampling:
        interval = clopper_pearson(replicates.n_first_errors, n_independent, confidence)
        mean = replicates.n_first_errors / n_independent or math.nan
    else:
        interval = t_interval(values, confidence)
        if values.std(ddof=1) > _LOG_NORMAL_FROM * mean and (values > 0).all():
            log_normal = log_normal_interval(values, confidence)
    return SplittingResult(
        value=mean,
        log10=math.log10(mean),
        low=max(interval.low, 0.0),
        high=interval.high,
        log_normal=log_normal,
        reached=reached,
        replicates=tuple(values.tolist()) if reached else (),
        levels=pilot.levels,
        steps=pilot.steps,
        acceptance=replicates.acceptance,
        deepest_level=pilot.levels[-1],
        deepest_probability=mean if reached else math.exp(pilot.log_probability),
        n_independent=n_independent,
        n_independent_errors=replicates.n_first_errors,
        n_ancestors=replicates.n_ancestors,
        n_evaluations=n_evaluations,
        label=stages.label,
        score=stages.score_name,
        warnings=doubts,
    )


def log_normal_interval(values: np.typing.ArrayLike, confidence: float = 0.95) -> Interval:
    r"""Return Cox's interval for the mean of log-normal values, with quantiles of Student's t.

    With mean m and variance s^2 of the n logarithms, the limits are the exponentials of
    :math:`m + s^2/2 \mp t \sqrt{s^2/n + s^4/(2(n - 1))}`.

    Parameters
    ----------
    values : array_like of shape (n,)
        At least two positive values.
    confidence : float
        Nominal coverage, strictly between 0 and 1.

    Returns
    -------
    Interval
        Limits of the mean.

    Examples
    --------
    >>> interval = log_normal_interval([0.5, 1.0, 2.0, 1.0])
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.435, 3.165)
    """
    logs = np.log(np.asarray(values, dtype=np.float64))
    n, variance = len(logs), float(logs.var(ddof=1))
    centre = float(logs.mean()) + variance / 2
    quantile = float(special.stdtrit(n - 1, 0.5 * (1 + confidence)))
    half_width = quantile * math.sqrt(variance / n + variance**2 / (2 * (n - 1)))
    return Interval(math.exp(centre - half_width), math.exp(centre + half_width))


def _doubts(splitting: Splitting, pilot: Pilot, replicates: Replicates) -> list[str]:
    """Return what the run itself gives reason to doubt."""
    values = replicates.values
    if not pilot.reached:
        if replicates.n_first_errors == 0:
            return []
        return [
            f"the climb gave up although {replicates.n_first_errors} of the independent draws are "
            "errors: the score does not lead to them; the interval is that of these draws alone."
        ]
    doubts = []
    n_dead = int((values == 0).sum())
    if n_dead:
        doubts.append(
            f"{n_dead} of {plural(len(values), 'replicate')} lost all particles on the way and "
            "count as 0; use more particles."
        )
    slowest = min(replicates.acceptance, default=1.0)
    if slowest < _HARDLY_MOVING:
        doubts.append(
            f"particles hardly move: at one level only {slowest:.2g} of the moves were accepted, "
            "so that replicates differ more than they should; use more sweeps or another score."
        )
    mean = float(values.mean())
    if len(pilot.levels) > 1 and mean > 0:
        spread = float(values.std(ddof=1)) / mean
        ideal = splitting.ideal_spread(mean)
        if spread > _SPREAD_FACTOR * ideal:
            doubts.append(
                f"replicates spread by {spread:.2g} of their mean, where well-mixed particles "
                f"would by {ideal:.2g}; the interval may be too narrow, use more sweeps or "
                "particles."
            )
    return doubts


def _seed_doubts(system: System, pilot: Pilot, replicates: Replicates, seeds: Tensor) -> list[str]:
    """Return whether errors found otherwise are missing among the particles."""
    if not pilot.reached or len(replicates.survivors) == 0 or not pilot.steps:
        return []
    missing, n_groups = unrepresented_groups(
        system, seeds, replicates.survivors.to(system.generator.device), pilot.steps[-1]
    )
    if not missing:
        return []
    return [
        f"{missing} of {n_groups} groups of the given errors are not represented among the errors "
        "that the particles reached: the score probably hides part of the errors, and the error "
        "rate may be far larger than estimated; use another score or more particles."
    ]


def _warn(result: SplittingResult) -> None:
    """Warn of every doubt, in the name of whoever called the public function."""
    for sentence in result.warnings:
        warnings.warn(sentence, RareEventWarning, stacklevel=3)


def _check_type(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}.")
