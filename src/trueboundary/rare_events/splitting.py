"""Error rates far below what sampling can see, by multilevel splitting."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating, generator_of, optional_generator
from trueboundary.classifiers import Classifier, dtype_of, evaluated
from trueboundary.devices import check_device
from trueboundary.problems.base import Problem
from trueboundary.problems.outputs import output_doubts
from trueboundary.rare_events._particles import System, run_pilot, run_replicates
from trueboundary.rare_events.moves import class_of, move_for
from trueboundary.rare_events.replicates import Pilot, Replicates
from trueboundary.rare_events.representation import check_seeds, unrepresented_groups
from trueboundary.rare_events.scores import Score, ScoreFunction
from trueboundary.rare_events.splitting_results import (
    RareEventWarning,
    Splitting,
    SplittingResult,
    doubts_of,
    estimate,
)

__all__ = ["SplittingStages", "compare_scores", "estimate_error_rate"]


def estimate_error_rate(
    classifier: Classifier,
    source: Any,
    label: int,
    *,
    generator: torch.Generator | None = None,
    seed: int | None = None,
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
        Maps points ``(n, *event)`` to margins ``(n,)`` or logits ``(n, K)``. Modules are
        evaluated in eval mode and left in the mode they came in; the result says so where that may
        matter.
    source : Problem, Distribution or InvariantMove
        What the points are drawn from: a problem or a density of this package, or a move of one's
        own that leaves another density unchanged.
    label : int
        Class of the points; an error is a point that is given to another class.
    generator : torch.Generator
        Source of all random numbers; its device is where points live.
    seed : int, optional
        In place of a generator: the numbers of ``torch.Generator().manual_seed(seed)``.
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
    generator = generator_of(generator, seed)
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
        self.label = class_of(source, label)
        self.splitting = splitting or Splitting()
        self.score = score
        self.score_name = ScoreFunction(classifier, self.label, score).name
        self.dtype = check_floating(dtype or dtype_of(classifier, default=torch.float64))
        self.device = check_device(device)
        self.move = move_for(source, label, dtype=self.dtype, device=self.device)
        self._problem = source if isinstance(source, Problem) else None

    def run_pilot(
        self, *, generator: torch.Generator | None = None, seed: int | None = None
    ) -> Pilot:
        """Choose the levels and steps that all replicates need."""
        generator = generator_of(generator, seed, self.device)
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
        self,
        pilot: Pilot,
        n_replicates: int,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Replicates:
        """Repeat the climb on the pilot's levels with its steps; each estimate is unbiased.

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
        seed : int, optional
            In place of a generator: the numbers of one on the points' device with this seed.
        """
        generator = generator_of(generator, seed, self.device)
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
        seed: int | None = None,
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
        seed : int, optional
            In place of a generator: the numbers of one on the points' device with this seed.

        Raises
        ------
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
        draws = optional_generator(generator, seed, self.device)
        result = self._combine(pilot, parts, seeds, draws)
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
        doubts = doubts_of(self.splitting, pilot, replicates)
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
        return estimate(
            self.splitting,
            pilot,
            replicates,
            n_evaluations=n_evaluations,
            label=self.label,
            score=self.score_name,
            warnings=tuple(doubts),
        )

    def _system(self, generator: torch.Generator | None) -> System:
        generator = generator_of(generator, None)
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
    generator: torch.Generator | None = None,
    seed: int | None = None,
    splitting: Splitting | None = None,
    seeds: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, SplittingResult]:
    """Estimate the same error rate under the guidance of several scores, one result for each.

    All of them estimate the same number, so that intervals far apart mean that at least one score
    has missed part of the errors; the largest estimate is then the most credible one.

    Parameters
    ----------
    classifier, source, label, generator, seed, splitting, seeds, dtype
        As for `estimate_error_rate`.
    scores : mapping of str to Score
        Scores by name.

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
    generator = generator_of(generator, seed)
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
