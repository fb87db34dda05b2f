"""Whether errors that somebody else found are among those that the particles reach."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trueboundary._tensors import generator_of
from trueboundary.attacks import Attack, AttackResult, ManifoldAttack, NearestError
from trueboundary.classifiers import Classifier, dtype_of
from trueboundary.domains import Domain, Space, Sphere
from trueboundary.problems import Problem
from trueboundary.rare_events._particles import System, adapted
from trueboundary.rare_events.moves import InvariantMove, SphereMove, move_for
from trueboundary.rare_events.replicates import evenly_chosen

__all__ = ["attack_seeds", "seed_attack", "unrepresented_groups"]

_SAME_GROUP = 0.8  # cosine of two errors that count as one find
_MAX_GROUPS = 20
_N_CHAINS = 64
_N_SWEEPS = 200
_N_CENTRE = 1000
_MAX_PARTICLES = 4000
_REPRESENTED = 0.01  # share of particles that must lie where a group's errors lie
_CONNECTED = 0.05  # share of paths from chains to particles that must not leave the errors
_N_PAIRS = 512
_N_BETWEEN = 15  # points of a path between two errors


def attack_seeds(
    classifier: Classifier,
    source: Any,
    label: int,
    *,
    generator: torch.Generator | None = None,
    seed: int | None = None,
    attack: Attack | None = None,
    n_points: int = 64,
    domain: Domain | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Look for errors by an attack that starts at random points of a class.

    Parameters
    ----------
    classifier, source, label, generator, seed
        As for `trueboundary.rare_events.estimate_error_rate`.
    attack : Attack, optional
        By default, on a sphere, the climb to the largest wrong margin; elsewhere a search for the
        nearest error.
    n_points : int
        Starts.
    domain : Domain, optional
        Where errors count; by default the set on which the class lives.
    dtype : torch.dtype, optional
        Of the points; that of the classifier's first parameter by default, else float64.

    Returns
    -------
    Tensor
        The errors found, shape ``(at most n_points, *event)``; to be given as `seeds`.

    Notes
    -----
    The attack climbs the margin, as splitting does by default, and can be led past the same errors.
    Errors known from elsewhere are worth adding.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import UniformSphere
    >>> from trueboundary.rare_events import attack_seeds
    >>> seeds = attack_seeds(
    ...     lambda x: x[:, 0] - 0.9,
    ...     UniformSphere(10),
    ...     label=0,
    ...     generator=torch.Generator().manual_seed(0),
    ... )
    >>> seeds.shape, bool((seeds[:, 0] > 0.99).all())
    (torch.Size([64, 10]), True)
    """
    result = seed_attack(
        classifier,
        source,
        label,
        generator=generator,
        seed=seed,
        attack=attack,
        n_points=n_points,
        domain=domain,
        dtype=dtype,
    )
    return result.x_adv[result.success]


def seed_attack(
    classifier: Classifier,
    source: Any,
    label: int,
    *,
    generator: torch.Generator | None = None,
    seed: int | None = None,
    attack: Attack | None = None,
    n_points: int = 64,
    domain: Domain | None = None,
    dtype: torch.dtype | None = None,
) -> AttackResult:
    """Return all that the attack of `attack_seeds` has to say, failures and their reasons too."""
    generator = generator_of(generator, seed)
    dtype = dtype or dtype_of(classifier, default=torch.float64)
    move = move_for(source, label, dtype=dtype, device=generator.device)
    if domain is None and isinstance(source, Problem):
        domain = source.domain(label)
    if isinstance(move, SphereMove):
        domain = domain or Sphere(move.density.radius)
        attack = attack or ManifoldAttack(
            mode="worst_case", n_steps=200, step_size=0.05 * move.density.radius
        )
    attack = attack or NearestError()
    x = move.points(move.sample(n_points, generator))
    y = torch.full((n_points,), label, dtype=torch.int64, device=x.device)
    return attack(classifier, x, y, domain=domain or Space(), generator=generator)


def check_seeds(move: InvariantMove, seeds: Tensor, generator: torch.Generator) -> None:
    """Raise unless the seeds are points that the move can start from.

    A long run should not end in such an error, so this is asked before it; with a generator of its
    own, so that asking does not shift the random numbers of the run.
    """
    probe = torch.Generator(generator.device).manual_seed(0)
    event_shape = tuple(move.points(move.sample(1, probe)).shape[1:])
    if not isinstance(seeds, Tensor) or tuple(seeds.shape[1:]) != event_shape or seeds.ndim < 2:
        got = tuple(seeds.shape) if isinstance(seeds, Tensor) else type(seeds).__name__
        raise ValueError(f"seeds must be points of shape {('n', *event_shape)}, got {got}.")
    if len(seeds):
        move.states(seeds[:1])


def unrepresented_groups(
    system: System, seeds: Tensor, survivors: Tensor, step: float
) -> tuple[int, int]:
    """Count groups of errors that no particle lies near.

    An attack finds the worst or the nearest errors of a region, particles its typical ones, and
    in high dimension these are far apart even within one region. So each group is first spread out
    by chains of moves that never leave the errors. It is then represented if either of two tests
    says so:

    - Paths. Some of the straight paths (on a sphere, great circles) from chains to particles
      lead through errors alone.
    - Projections. Half of the chains give a direction, from the particles' mean to their own.
      Along it, some of the particles lie as far out as the other half of the chains.

    Of the seeds ``(n, *event)`` those that are no errors are left out; `survivors` are states of
    particles that are errors, and `step` is the first step of the chains. Returned are the numbers
    of groups that are not represented, and of groups compared: those of most seeds.
    """
    points = system.move.points(evenly_chosen(survivors, _MAX_PARTICLES))
    if len(seeds) == 0:
        return 0, 0
    seeds = seeds.to(points)
    seeds = seeds[system.score(seeds) >= 0]
    # Directions are seen from the middle of the density, which need not be the origin.
    centre = system.move.points(system.move.sample(_N_CENTRE, system.generator)).mean(dim=0)
    groups = cosine_groups(seeds - centre)[:_MAX_GROUPS]
    particles = points.flatten(1)
    missing = 0
    for group in groups:
        cloud = _relaxed(system, seeds[group], step)
        is_represented = (
            _share_inside(cloud.flatten(1), particles) >= _REPRESENTED
            or _share_connected(system, cloud, points) >= _CONNECTED
        )
        missing += not is_represented
    return missing, len(groups)


def cosine_groups(points: Tensor) -> list[Tensor]:
    """Group points by direction from the origin, each with the first it nearly agrees with.

    The groups are row numbers of the points ``(n, *event)``, the largest group first.
    """
    flat = points.flatten(1)
    directions = flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    left = torch.arange(len(points), device=points.device)
    groups = []
    while len(left):
        near = directions[left] @ directions[left[0]] >= _SAME_GROUP
        near[0] = True  # also where its norm is 0 and it agrees with nothing
        groups.append(left[near])
        left = left[~near]
    return sorted(groups, key=len, reverse=True)


def _share_connected(system: System, cloud: Tensor, points: Tensor) -> float:
    """Return the share of straight paths from a cloud to points that lead through errors alone."""
    pairs = torch.arange(_N_PAIRS, device=points.device)
    start, end = cloud[pairs % len(cloud)], points[pairs * len(points) // _N_PAIRS]
    alive = torch.ones(len(pairs), dtype=torch.bool, device=points.device)
    for fraction in torch.linspace(0, 1, _N_BETWEEN + 2)[1:-1].tolist():
        between = torch.lerp(start, end, fraction)
        if isinstance(system.move, SphereMove):
            norm = torch.linalg.vector_norm(between, dim=1, keepdim=True)
            between = between * (system.move.density.radius / norm)
        alive &= system.score(between) >= 0
    return float(alive.double().mean())


def _relaxed(system: System, errors: Tensor, step: float) -> Tensor:
    """Spread chains from given errors over the region of errors they lie in."""
    starts = torch.arange(_N_CHAINS, device=errors.device) % len(errors)
    states = system.move.states(errors)[starts]
    scores = system.score(system.move.points(states))
    for _ in range(_N_SWEEPS):
        acceptance = system.sweep(states, scores, 0.0, step)
        step = adapted(step, acceptance)
    return system.move.points(states)


def _share_inside(cloud: Tensor, particles: Tensor) -> float:
    """Return the share of particles that lie where nine tenths of a cloud do, along the way to it.

    The direction comes from every other chain and the projections from the rest: a direction is
    always biased towards the points it was computed from.
    """
    first, second = cloud[::2], cloud[1::2]
    direction = first.mean(dim=0) - particles.mean(dim=0)
    edge = (second @ direction).quantile(0.1)
    return float((particles @ direction >= edge).double().mean())
