"""What is proven of ReLU networks: bracketed distances, and limits of error rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trueboundary import theory
from trueboundary.experiments.networks.attacked_points import AttackedPoints
from trueboundary.experiments.networks.trained_networks import (
    FINAL,
    SPHERES,
    OfNetwork,
    Sphere,
    TrainedNetwork,
)
from trueboundary.experiments.work_rates import RATES
from trueboundary.runs import Context, RunConfig, RunResult, Tally

#: Points whose bounds are computed between two writes of a checkpoint.
_CERTIFIED_BLOCK = 50
#: Share of the angle that the pilot suggests at which points are tested: the smallest of few pilot
#: angles is missed by several in a hundred points, and a slightly smaller one by hardly any.
_ANGLE_SHARE = 0.7
#: Steps along the boundary that shorten the distances which the attack finds.
_REFINE_STEPS = 100


@dataclass(frozen=True)
class BracketedDistances(OfNetwork):
    """Distances from random points of a sphere to the nearest error on it, from both sides.

    The arrays have one value per point: ``certified``, within which linear relaxation proves that
    there is no error (infinite where the whole sphere is proven to hold none), ``attacked``, at
    which the attack found one (infinite where it found none); both are chords.

    Parameters
    ----------
    n_attack_steps : int
        Steps of length 0.001 of the attack, which is then refined along the boundary.
    tolerance : float
        Relative accuracy to which the largest certified angle is found.
    """

    version: ClassVar[int] = 3  # 2 had another attack; 1 took a margin of 0 for an error

    sphere: Sphere
    n_points: int
    n_attack_steps: int
    tolerance: float = 0.02
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(2, "n_points")

    def in_words(self) -> str:
        """Return what is bracketed."""
        return f"bracketing the nearest errors of the {self.network.name}"

    def cost(self) -> float:
        """Eight tests of a radius per point, and the attack."""
        bounding = 8 * self.n_points * _seconds_per_bound(self.network)
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
        model = self.load(context, self.model)
        attacked = attack.attack(model)["distance"]
        context.progress(0.2)
        x, y = attack.points()
        sphere = SphereDomain(self.network.radius_of(self.sphere))
        result = RelaxationCertificate(tolerance=self.tolerance)(model, x, y, domain=sphere)
        certified = result.distance.numpy(force=True)
        return RunResult({}, {"certified": certified, "attacked": attacked})


@dataclass(frozen=True)
class CertifiedRate(RunConfig):
    """A proven upper limit of a ReLU network's error rate on one sphere.

    The angle at which points are tested is chosen on the pilot's points; how many fresh random
    points are certified at it limits the error rate, by isoperimetry, with that confidence.

    Parameters
    ----------
    pilot : BracketedDistances
        Certified distances of other points of the same sphere.
    """

    pilot: BracketedDistances
    n_points: int
    confidence: float = 0.99

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points")

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the network and the pilot."""
        return {"network": self.pilot.network, "pilot": self.pilot}

    def in_words(self) -> str:
        """Return what is bounded."""
        return f"bounding the error rate of the {self.pilot.network.name} by proof"

    def cost(self) -> float:
        """One test of a radius per point."""
        return self.n_points * _seconds_per_bound(self.pilot.network)

    def compute(self, context: Context) -> RunResult:
        """Test block by block; a killed run goes on from its last block."""
        import torch

        from trueboundary.certificates import angles_of_chords, certified_at, choose_angle

        network, label = self.pilot.network, SPHERES.index(self.pilot.sphere)
        model = self.pilot.load(context, self.pilot.model)
        pilot_angles = angles_of_chords(
            context.inputs["pilot"].arrays["certified"], network.radius_of(self.pilot.sphere)
        )
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
        counted: Any = {"n_exceptions": tally.total("exceptions"), "confidence": self.confidence}
        log_limit = theory.caps.log_amplified_error_bound(
            network.dim, self.n_points, angle, **counted
        )
        told = {"angle": angle, "n_points": self.n_points, "log10_limit": log_limit / math.log(10)}
        return RunResult(told | {"n_exceptions": tally.total("exceptions")})


def bracket_ratios(
    arrays: Mapping[str, Any], dim: int, log_rate: float, radius: float
) -> dict[str, float]:
    """Return the mean distances of a run of `BracketedDistances`, and the best possible.

    The mean of ``attacked`` is over the points with an error found; ``optimum`` is the mean
    distance to a cap of the error rate.
    """
    attacked = arrays["attacked"][np.isfinite(arrays["attacked"])]
    return {
        "certified": float(np.minimum(arrays["certified"], 2 * radius).mean()),
        "attacked": float(attacked.mean()) if len(attacked) else math.nan,
        "optimum": theory.caps.mean_distance(dim, log_measure=log_rate, radius=radius),
        "n_not_found": len(arrays["attacked"]) - len(attacked),
    }


def _seconds_per_bound(network: TrainedNetwork) -> float:
    """Time of one relaxation of a network: per hidden layer a product with its whole weights."""
    return network.width**2 * network.dim * network.depth * RATES.bound
