"""Error rates of trained networks far below one in a million, by multilevel splitting."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary.experiments.networks.trained_networks import FINAL, SPHERES, OfNetwork, Sphere
from trueboundary.runs import Context, Pieced, Run, RunConfig, RunResult

if TYPE_CHECKING:
    import torch

    from trueboundary.rare_events import SplittingStages

#: Particles of all replicates up to which a splitting estimate is one run.
_LARGEST_PIECE = 8000
#: Levels of an error rate of about one in a million.
_N_LEVELS = 20
#: Points classified for each attack, of at most 20, to see whether particles represent its find.
_CHECK_EVALUATIONS = 13_000
#: States kept of a replicate that is a run of its own, to hold errors found by attack against.
_N_KEPT = 200


def splitting_budget(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are fields of `SplittingRate`."""
    fields = ("n_particles", "n_sweeps", "n_replicates", "n_attacks")
    return {name: settings[name] for name in fields}


@dataclass(frozen=True)
class SplittingRate(Pieced, OfNetwork):
    """Error rate of a trained network on one sphere, by multilevel splitting.

    The summary has ``reached`` and, where errors were reached, ``rate`` with its 95 % interval
    ``low`` to ``high``; elsewhere ``rate`` is None and the interval that of the independent draws.
    ``warnings`` are the reasons to doubt it, among them errors found by attack that the particles
    do not represent. In pieces the particles draw other random numbers than in one.

    Parameters
    ----------
    n_particles, n_sweeps, n_replicates : int
        As in `trueboundary.rare_events.Splitting`.
    n_attacks : int
        Starts of the attack whose errors are held against the particles.
    """

    # 1 drew the first weights' numbers; 2 took a margin of 0 for an error; 3 had another attack
    version: ClassVar[int] = 4

    sphere: Sphere
    n_particles: int
    n_sweeps: int
    n_replicates: int
    n_attacks: int
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_attacks")
        self.check_at_least(2, "n_replicates")

    @property
    def pilot(self) -> SplittingPilot:
        """The first climb, that of the pilot."""
        return SplittingPilot(
            self.network, self.sphere, self.n_particles, self.n_sweeps, self.model, self.seed
        )

    def pieces(self) -> dict[str, SplittingPilot | SplittingReplicate]:
        """Return the pilot and its replicates, a climb each."""
        if self.n_replicates * self.n_particles <= _LARGEST_PIECE:
            return {}
        replicates = {
            f"replicate-{index}": SplittingReplicate(self.pilot, index)
            for index in range(self.n_replicates)
        }
        return {"pilot": self.pilot, **replicates}

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the network, which is attacked either way, and the pieces."""
        return {**self.whole_needs(), **self.pieces()}

    def in_words(self) -> str:
        """Return what is estimated."""
        return f"estimating the error rate of the {self.network.name}"

    def whole_cost(self) -> float:
        """Return the time of all climbs, and of the check of their errors."""
        return (self.n_replicates + 1) * self.pilot.cost() + self._seconds_of_check()

    def cost(self) -> float:
        """Return the time of what is done here."""
        return self._seconds_of_check() if self.pieces() else self.whole_cost()

    def _seconds_of_check(self) -> float:
        return min(self.n_attacks, 20) * _CHECK_EVALUATIONS * self.network.seconds_per_point

    def whole(self, context: Context) -> RunResult:
        """Attack for errors to compare with, and let the particles climb."""
        return self._rate(context, {})

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        """Attack for errors to compare with, and combine the climbs."""
        return self._rate(context, pieces)

    def _rate(self, context: Context, pieces: Mapping[str, Run]) -> RunResult:
        import torch

        from trueboundary.rare_events import Pilot, RareEventWarning, Replicates, attack_seeds

        stages = self.pilot.stages(context)
        # Not the bare seed, whose stream the network's first weights come from.
        generator = self.pilot.generator(0, "rate")
        seeds = attack_seeds(
            stages.classifier,
            self.network.problem(),
            SPHERES.index(self.sphere),
            generator=generator,
            n_points=self.n_attacks,
            dtype=torch.float32,
        )
        context.progress(0.1)
        if pieces:
            first, *others = (piece.arrays for piece in pieces.values())
            pilot = Pilot.from_arrays(first)
            climbs = [Replicates.from_arrays(arrays) for arrays in others]
        else:
            pilot = stages.run_pilot(generator=generator)
            climbs = [stages.run_replicates(pilot, self.n_replicates, generator=generator)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RareEventWarning)  # they are part of the result
            result = stages.combine(
                pilot, climbs, seeds=seeds if len(seeds) else None, generator=generator
            )
        low, high = result.interval
        return RunResult(
            {
                "reached": result.reached,
                "rate": result.value if result.reached else None,
                "low": low,
                "high": high,
                "spread": result.relative_spread,
                "n_levels": len(result.levels),
                "n_evaluations": result.n_evaluations,
                "n_attack_errors": len(seeds),
                "deepest_probability": result.deepest_probability,
                "warnings": list(result.warnings),
            },
            {"replicates": np.array(result.replicates)},
        )


@dataclass(frozen=True)
class SplittingPilot(OfNetwork):
    """The pilot of a large `SplittingRate`: levels and steps for all replicates."""

    sphere: Sphere
    n_particles: int
    n_sweeps: int
    model: str = FINAL
    seed: int = 0

    def in_words(self) -> str:
        """Return what is estimated."""
        return f"estimating the error rate of the {self.network.name}"

    def cost(self) -> float:
        """Return the time of one climb."""
        per_particle = 1 + self.n_sweeps * _N_LEVELS
        return self.n_particles * per_particle * self.network.seconds_per_point

    def compute(self, context: Context) -> RunResult:
        """Let the particles choose the levels."""
        stages = self.stages(context)
        pilot = stages.run_pilot(generator=self.generator(0, "pilot"))
        return RunResult({"reached": pilot.reached}, pilot.to_arrays())

    def stages(self, context: Context) -> SplittingStages:
        """Return what is estimated, for a run that has the network among its inputs."""
        from trueboundary.rare_events import Splitting, SplittingStages

        return SplittingStages(
            self.load(context, self.model),
            self.network.problem(),
            SPHERES.index(self.sphere),
            splitting=Splitting(n_particles=self.n_particles, n_sweeps=self.n_sweeps),
            device=self.network.device,
        )

    def generator(self, index: int, purpose: str) -> torch.Generator:
        """Return the generator of one climb, the same wherever it is computed."""
        from trueboundary.problems import block_generator

        purpose = f"splitting {purpose}, {self.sphere} sphere"
        return block_generator(self.seed, index, purpose=purpose, device=self.network.device)


@dataclass(frozen=True)
class SplittingReplicate(RunConfig):
    """Replicate number `index` of a large `SplittingRate`, whose pilot fixes levels and steps."""

    pilot: SplittingPilot
    index: int

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the network and the pilot."""
        return {"network": self.pilot.network, "pilot": self.pilot}

    def in_words(self) -> str:
        """Return what is estimated."""
        return self.pilot.in_words()

    def cost(self) -> float:
        """Return the time of one climb."""
        return self.pilot.cost()

    def compute(self, context: Context) -> RunResult:
        """Climb the pilot's levels."""
        from trueboundary.rare_events import Pilot

        replicate = self.pilot.stages(context).run_replicates(
            Pilot.from_arrays(context.inputs["pilot"].arrays),
            1,
            generator=self.pilot.generator(self.index, "replicate"),
        )
        return RunResult({}, replicate.thinned(_N_KEPT).to_arrays())
