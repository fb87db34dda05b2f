"""What can be known about a trained ReLU network: splitting, brackets and proven limits.

Error rates far below one in a million are estimated by splitting, the distance to the nearest error
lies between a certificate and an attack, and certified radii of many points limit the error rate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary._checks import check_integer
from trueboundary.experiments.networks.trained_networks import (
    FINAL,
    SPHERES,
    AttackedPoints,
    Sphere,
    TrainedNetwork,
    load_model,
)
from trueboundary.runs import Context, Pieced, Run, RunConfig, RunResult, Tally

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
#: Points whose bounds are computed between two writes of a checkpoint.
_CERTIFIED_BLOCK = 50
#: Share of the angle that the pilot suggests at which points are tested: the smallest of few pilot
#: angles is missed by several in a hundred points, and a slightly smaller one by hardly any.
_ANGLE_SHARE = 0.7
#: Steps along the boundary that shorten the distances which the attack finds.
_REFINE_STEPS = 100


@dataclass(frozen=True)
class SplittingRate(Pieced):
    """Error rate of a trained network on one sphere, by multilevel splitting.

    The summary has ``reached`` and, where errors were reached, ``rate`` with its 95 % interval
    ``low`` to ``high``; elsewhere ``rate`` is None and the interval that of the independent draws.
    ``warnings`` are the reasons to doubt it, among them errors found by attack that the particles
    do not represent. In pieces the particles draw other random numbers than in one.

    Parameters
    ----------
    network : TrainedNetwork
        Which network.
    sphere : {"inner", "outer"}
        Where the points are.
    n_particles, n_sweeps, n_replicates : int
        As in `trueboundary.rare_events.Splitting`.
    n_attacks : int
        Starts of the attack whose errors are held against the particles.
    model : str
        Which of the network's stored models.
    seed : int
        Seed of the particles.
    """

    version: ClassVar[int] = (
        3  # 1 drew the first weights' numbers; 2 took a margin of 0 for an error
    )

    network: TrainedNetwork
    sphere: Sphere
    n_particles: int
    n_sweeps: int
    n_replicates: int
    n_attacks: int
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("n_attacks", self.n_attacks, minimum=1)
        check_integer("n_replicates", self.n_replicates, minimum=2)

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

    def whole_needs(self) -> Mapping[str, RunConfig]:
        """Return the trained network."""
        return {"network": self.network}

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the network, which is attacked either way, and the pieces."""
        return {**self.whole_needs(), **self.pieces()}

    def whole_cost(self) -> float:
        """Return the time of all climbs, and of the check of their errors."""
        return (self.n_replicates + 1) * self.pilot.cost() + self._seconds_of_check()

    def cost(self) -> float:
        """Return the time of what is done here."""
        return self._seconds_of_check() if self.pieces() else self.whole_cost()

    def _seconds_of_check(self) -> float:
        n_checked = min(self.n_attacks, 20) * _CHECK_EVALUATIONS
        return n_checked * _seconds_per_evaluation(self.network)

    def whole(self, context: Context) -> RunResult:
        """Attack for errors to compare with, and let the particles climb."""
        return self._rate(context, {})

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        """Attack for errors to compare with, and combine the climbs."""
        return self._rate(context, pieces)

    def _rate(self, context: Context, pieces: Mapping[str, Run]) -> RunResult:
        import torch

        from trueboundary.rare_events import Pilot, RareEventWarning, Replicates, attack_seeds

        stages = self.pilot.stages(context.inputs["network"])
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
class SplittingPilot(RunConfig):
    """The pilot of a large `SplittingRate`: levels and steps for all replicates.

    Parameters
    ----------
    network, sphere, n_particles, n_sweeps, model, seed
        As in `SplittingRate`.
    """

    network: TrainedNetwork
    sphere: Sphere
    n_particles: int
    n_sweeps: int
    model: str = FINAL
    seed: int = 0

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the trained network."""
        return {"network": self.network}

    def cost(self) -> float:
        """Return the time of one climb."""
        n_evaluations = self.n_particles * (1 + self.n_sweeps * _N_LEVELS)
        return n_evaluations * _seconds_per_evaluation(self.network)

    def compute(self, context: Context) -> RunResult:
        """Let the particles choose the levels."""
        stages = self.stages(context.inputs["network"])
        pilot = stages.run_pilot(generator=self.generator(0, "pilot"))
        return RunResult({"reached": pilot.reached}, pilot.to_arrays())

    def stages(self, trained: Run) -> SplittingStages:
        """Return what is estimated, from the finished run of the network."""
        from trueboundary.rare_events import Splitting, SplittingStages

        return SplittingStages(
            load_model(trained, self.model, self.network.device),
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
    """One replicate of a large `SplittingRate`.

    Parameters
    ----------
    pilot : SplittingPilot
        What fixes its levels and steps.
    index : int
        Which replicate.
    """

    pilot: SplittingPilot
    index: int

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the network and the pilot."""
        return {"network": self.pilot.network, "pilot": self.pilot}

    def cost(self) -> float:
        """Return the time of one climb."""
        return self.pilot.cost()

    def compute(self, context: Context) -> RunResult:
        """Climb the pilot's levels."""
        from trueboundary.rare_events import Pilot

        replicate = self.pilot.stages(context.inputs["network"]).run_replicates(
            Pilot.from_arrays(context.inputs["pilot"].arrays),
            1,
            generator=self.pilot.generator(self.index, "replicate"),
        )
        return RunResult({}, replicate.thinned(_N_KEPT).to_arrays())


@dataclass(frozen=True)
class BracketedDistances(RunConfig):
    """Distances from random points of a sphere to the nearest error on it, from both sides.

    The arrays have one value per point: ``certified``, within which linear relaxation proves that
    there is no error (infinite where the whole sphere is proven to hold none), ``attacked``, at
    which the attack found one (infinite where it found none); both are chords.

    Parameters
    ----------
    network : TrainedNetwork
        A ReLU network.
    sphere : {"inner", "outer"}
        Where the points are.
    n_points : int
        How many.
    n_attack_steps : int
        Steps of length 0.001 of the attack, which is then refined along the boundary.
    tolerance : float
        Relative accuracy to which the largest certified angle is found.
    model : str
        Which of the network's stored models.
    seed : int
        Seed of the points.
    """

    version: ClassVar[int] = 2  # 1 took a margin of 0 for an error

    network: TrainedNetwork
    sphere: Sphere
    n_points: int
    n_attack_steps: int
    tolerance: float = 0.02
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("n_points", self.n_points, minimum=2)

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the trained network."""
        return {"network": self.network}

    def cost(self) -> float:
        """Six tests of a radius per point, and the attack."""
        bounding = 6 * self.n_points * _seconds_per_bound(self.network)
        return bounding + AttackedPoints(self.network, self.n_points).seconds(self.n_points)

    def compute(self, context: Context) -> RunResult:
        """Attack and certify the same points."""
        from trueboundary.certificates import RelaxationCertificate
        from trueboundary.domains import Sphere as SphereDomain

        attack = AttackedPoints(
            self.network,
            self.n_points,
            self.n_attack_steps,
            self.sphere,
            refine_steps=_REFINE_STEPS,
            model=self.model,
            seed=self.seed,
        )
        model = load_model(context.inputs["network"], self.model, self.network.device)
        attacked = attack.attack(model)["distance"]
        context.progress(0.2)
        x, y = attack.points()
        radius = 1.0 if self.sphere == "inner" else self.network.radius
        certificate = RelaxationCertificate(tolerance=self.tolerance)
        result = certificate(model, x, y, domain=SphereDomain(radius))
        return RunResult({}, {"certified": result.distance, "attacked": attacked})


@dataclass(frozen=True)
class CertifiedRate(RunConfig):
    """A proven upper limit of a ReLU network's error rate on one sphere.

    The angle at which points are tested is chosen on the pilot's points; how many fresh random
    points are certified at it limits the error rate, by isoperimetry, with 99 % confidence.

    Parameters
    ----------
    pilot : BracketedDistances
        Certified distances of other points of the same sphere.
    n_points : int
        Points tested.
    confidence : float
        Confidence of the limit.
    """

    pilot: BracketedDistances
    n_points: int
    confidence: float = 0.99

    def __post_init__(self) -> None:
        check_integer("n_points", self.n_points, minimum=1)

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the network and the pilot."""
        return {"network": self.pilot.network, "pilot": self.pilot}

    def cost(self) -> float:
        """One test of a radius per point."""
        return self.n_points * _seconds_per_bound(self.pilot.network)

    def compute(self, context: Context) -> RunResult:
        """Test block by block; a killed run goes on from its last block."""
        import torch

        from trueboundary.certificates import angles_of_chords, certified_at, choose_angle
        from trueboundary.theory.caps import log_amplified_error_bound

        network, label = self.pilot.network, SPHERES.index(self.pilot.sphere)
        model = load_model(context.inputs["network"], self.pilot.model, network.device)
        radius = 1.0 if label == 0 else network.radius
        pilot_angles = angles_of_chords(context.inputs["pilot"].arrays["certified"], radius)
        angle = _ANGLE_SHARE * choose_angle(
            pilot_angles, network.dim, n_points=self.n_points, confidence=self.confidence
        )
        tally = Tally(context.checkpoint / "certified.json")
        blocks = network.problem().blocks(
            self.n_points,
            seed=self.pilot.seed,
            block_size=_CERTIFIED_BLOCK,
            label=label,
            dtype=torch.float64,
            device=network.device,
            purpose="certified",
        )
        for index, (x, y) in tally.left("exceptions", blocks):
            certified = certified_at(model, x, y, angle, region="cap")
            tally.add("exceptions", int((~certified).sum()))
            context.progress(min(1.0, (index + 1) * _CERTIFIED_BLOCK / self.n_points))
        n_exceptions = tally.total("exceptions")
        log_limit = log_amplified_error_bound(
            network.dim,
            self.n_points,
            angle,
            n_exceptions=n_exceptions,
            confidence=self.confidence,
        )
        return RunResult(
            {
                "angle": angle,
                "n_points": self.n_points,
                "n_exceptions": n_exceptions,
                "log10_limit": log_limit / math.log(10),
            }
        )


def bracket_ratios(
    arrays: Mapping[str, Any], dim: int, log_rate: float, radius: float
) -> dict[str, float]:
    """Return mean distances from both sides, and how they stand to the best possible.

    Parameters
    ----------
    arrays : mapping
        ``certified`` and ``attacked`` of a run of `BracketedDistances`.
    dim : int
        Dimension of the sphere's space.
    log_rate : float
        Natural logarithm of the error rate.
    radius : float
        Radius of the sphere.

    Returns
    -------
    dict
        ``certified``, ``attacked`` (means, the latter over the points with an error found),
        ``optimum`` (mean distance to a cap of that measure) and ``n_not_found``.
    """
    from trueboundary.theory import caps

    attacked = arrays["attacked"][np.isfinite(arrays["attacked"])]
    optimum = caps.mean_distance(dim, log_measure=log_rate, radius=radius)
    return {
        "certified": float(np.minimum(arrays["certified"], 2 * radius).mean()),
        "attacked": float(attacked.mean()) if len(attacked) else math.nan,
        "optimum": optimum,
        "n_not_found": len(arrays["attacked"]) - len(attacked),
    }


def _seconds_per_evaluation(network: TrainedNetwork) -> float:
    """Return about the time to move and classify a particle."""
    return 3e-6 + 2 * network.n_weights / 7e10


def _seconds_per_bound(network: TrainedNetwork) -> float:
    """Time of one relaxation of a network: per hidden layer a product with its whole weights."""
    return 1e-3 + 3 * network.width * network.dim * network.width * network.depth / 6e10
