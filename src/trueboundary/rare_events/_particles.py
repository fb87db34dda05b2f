"""The particle system of multilevel splitting: a pilot, then replicates on a frozen schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trueboundary.rare_events.moves import InvariantMove
from trueboundary.rare_events.replicates import Pilot, Replicates
from trueboundary.rare_events.scores import ScoreFunction

_TARGET_ACCEPTANCE = 0.35
# The first step and the largest. A rotation by half a turn would take every error of a classifier
# that is even, such as a quadratic one, to another error: always accepted, and of no use.
_LARGEST_STEP = 1.0
_GROUP_BYTES = 2**28  # memory for the states of the replicates that are moved together


@dataclass
class System:
    """What moves, what scores, how many at a time, and where random numbers come from."""

    move: InvariantMove
    score: ScoreFunction
    batch_size: int
    generator: torch.Generator

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw `n` independent states and score them."""
        states = self.move.sample(n, self.generator)
        return states, torch.cat(
            [
                self.score(self.move.points(states[start : start + self.batch_size]))
                for start in range(0, n, self.batch_size)
            ]
        )

    def classes(self, states: Tensor) -> Tensor:
        """Return the predicted class of each state, int64, shape ``(n,)``."""
        parts = [
            self.score.classes(self.move.points(states[start : start + self.batch_size]))
            for start in range(0, len(states), self.batch_size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def sweep(self, states: Tensor, scores: Tensor, level: float, step: float) -> float:
        """Move every state once, in place, within ``score >= level``; return the acceptance.

        A refused move leaves the state where it is, which is what keeps the density restricted to
        the level set invariant. Blocks bound the memory of proposals and activations.
        """
        n_accepted = 0
        for start in range(0, len(states), self.batch_size):
            rows = slice(start, start + self.batch_size)
            proposed = self.move.propose(states[rows], step, self.generator)
            score = self.score(self.move.points(proposed))
            accepted = (score >= level).nonzero().squeeze(1)
            states[rows].index_copy_(0, accepted, proposed[accepted])
            scores[rows].index_copy_(0, accepted, score[accepted])
            n_accepted += len(accepted)
        return n_accepted / len(states)


def run_pilot(
    system: System, n_particles: int, n_keep: int, n_sweeps: int, min_probability: float
) -> Pilot:
    """Choose levels as quantiles of the particles' scores, and steps by their acceptance.

    The pilot ends at an error level of 0, at a level below `min_probability`, or where no particle
    can climb any more.
    """
    levels: list[float] = []
    steps: list[float] = []
    log_probability = 0.0
    states, scores = system.draw(n_particles)
    step = _LARGEST_STEP
    while True:
        level, is_last = next_level(scores, n_keep)
        alive = scores >= level
        levels.append(level)
        log_probability += math.log(float(alive.double().mean()))
        if is_last or log_probability < math.log(min_probability):
            n_evaluations = system.score.n_evaluations
            return Pilot(tuple(levels), tuple(steps), log_probability, n_evaluations)
        chosen = offspring(alive[None], system.generator)
        states, scores = states[chosen], scores[chosen]
        for _ in range(n_sweeps):
            acceptance = system.sweep(states, scores, level, step)
            step = adapted(step, acceptance)
        steps.append(step)


def adapted(step: float, acceptance: float) -> float:
    """Return a longer step where too many moves were accepted, a shorter one where too few."""
    return min(step * math.exp(acceptance - _TARGET_ACCEPTANCE), _LARGEST_STEP)


def next_level(scores: Tensor, n_keep: int) -> tuple[float, bool]:
    """Return the level that `n_keep` particles reach, and whether it is the last one.

    Equal scores can make far more than `n_keep` particles reach a level. It then moves up to the
    next score, so that every level thins the population; where there is none, no particle has
    climbed, and the level is the last.
    """
    ordered = scores.sort(descending=True).values
    level = ordered[n_keep - 1]
    is_stuck = False
    if level < 0 and int((ordered >= level).sum()) > (n_keep + len(ordered)) / 2:
        higher = ordered[ordered > level]
        is_stuck = len(higher) == 0
        level = level if is_stuck else higher[-1]
    if level >= 0:
        return 0.0, True
    return float(level), is_stuck


def offspring(alive: Tensor, generator: torch.Generator) -> Tensor:
    """Return which particle each slot is filled with: survivors, each as often as the others.

    From which particles survive, ``(replicates, n)``, follow rows of the flattened particles,
    ``(replicates * n,)``. Each of m survivors gets n/m slots rounded down or up, n/m on average:
    what unbiasedness asks for, at less variance than independent draws. A replicate without
    survivors goes on with copies of one particle, and counts as 0 whatever becomes of them.
    """
    n_replicates, n = alive.shape
    keys = torch.rand(alive.shape, generator=generator, device=alive.device)
    order = (keys + 2.0 * ~alive).argsort(dim=1)  # survivors first, in random order
    n_alive = alive.sum(dim=1, keepdim=True).clamp(min=1)
    slots = torch.arange(n, device=alive.device).expand(n_replicates, n) % n_alive
    first_rows = n * torch.arange(n_replicates, device=alive.device)[:, None]
    return (order.gather(1, slots) + first_rows).flatten()


def run_replicates(
    system: System, pilot: Pilot, n_replicates: int, n_particles: int, n_sweeps: int
) -> Replicates:
    """Run independent replicates on a frozen schedule; each estimate is unbiased."""
    return Replicates.joined(
        [
            _run_group(system, pilot, size, n_particles, n_sweeps)
            for size in _group_sizes(system, n_replicates, n_particles)
        ]
    )


def _run_group(
    system: System, pilot: Pilot, n_replicates: int, n_particles: int, n_sweeps: int
) -> Replicates:
    """Run some replicates as one batch: rows are replicate by replicate."""
    n = n_replicates * n_particles
    n_before = system.score.n_evaluations
    states, scores = system.draw(n)
    first_errors = int((scores >= 0).sum())
    ancestors = torch.arange(n, device=scores.device)
    log_values = torch.zeros(n_replicates, dtype=torch.float64, device=scores.device)
    acceptance = []
    for index, level in enumerate(pilot.levels):
        alive = (scores >= level).view(n_replicates, n_particles)
        log_values += alive.double().mean(dim=1).log()
        if index == len(pilot.levels) - 1:
            break
        chosen = offspring(alive, system.generator)
        states, scores, ancestors = states[chosen], scores[chosen], ancestors[chosen]
        step = pilot.steps[index]
        rates = [system.sweep(states, scores, level, step) for _ in range(n_sweeps)]
        acceptance.append(sum(rates) / n_sweeps)
    # Copies that go on in a replicate without survivors can come back above a later level; they
    # are no part of its estimate, 0, and must not stand for errors that it has lost.
    alive &= log_values.isfinite()[:, None]
    families = [
        len(set(family[left].tolist()))
        for family, left in zip(ancestors.view(n_replicates, -1), alive, strict=True)
    ]
    errors = states[alive.flatten()]
    into = _shares(system, errors, alive.sum(dim=1).tolist()) if system.score.n_classes > 2 else ()
    return Replicates(
        tuple(log_values.tolist()),
        tuple(acceptance),
        tuple(families),
        first_errors,
        errors,
        system.score.n_evaluations - n_before,
        into,
    )


def _shares(system: System, errors: Tensor, sizes: list[int]) -> tuple[tuple[float, ...], ...]:
    """Return which share of each replicate's errors, listed one after the other, each class gets.

    Together with the share of particles that are errors they make the replicate's estimate of the
    probability of an error into each class, as unbiased as that of any error.
    """
    n_classes = system.score.n_classes
    return tuple(
        tuple((classes.bincount(minlength=n_classes).double() / max(1, len(classes))).tolist())
        for classes in torch.split(system.classes(errors).cpu(), sizes)
    )


def _group_sizes(system: System, n_replicates: int, n_particles: int) -> Iterator[int]:
    """Yield how many replicates to run together, as many as fit into memory."""
    # Probing one state costs nothing and asks nothing more of a move; a generator of its own
    # keeps the probe from shifting the random numbers of the run.
    probe = torch.Generator(system.generator.device).manual_seed(0)
    state = system.move.sample(1, probe)
    replicate_bytes = n_particles * state.numel() * state.element_size()
    together = max(1, _GROUP_BYTES // replicate_bytes)
    for start in range(0, n_replicates, together):
        yield min(together, n_replicates - start)
