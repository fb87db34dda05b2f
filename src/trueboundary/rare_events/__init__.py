"""Error rates that no sample can see: multilevel splitting for any classifier.

`estimate_error_rate` works on the sphere and under every density of the package, and under any
other density for which an `InvariantMove` is written. `SplittingStages` does the same in stages
that may run on different machines.
"""

from trueboundary.rare_events.moves import (
    GaussianMove,
    InvariantMove,
    MixtureMove,
    SphereMove,
    TableMove,
    move_for,
)
from trueboundary.rare_events.replicates import Pilot, Replicates
from trueboundary.rare_events.representation import attack_seeds, seed_attack
from trueboundary.rare_events.scores import Score, ScoreFunction
from trueboundary.rare_events.splitting import (
    SplittingStages,
    compare_scores,
    estimate_error_rate,
)
from trueboundary.rare_events.splitting_results import (
    ClassRate,
    RareEventWarning,
    Splitting,
    SplittingResult,
    log_normal_interval,
)

__all__ = [
    "ClassRate",
    "GaussianMove",
    "InvariantMove",
    "MixtureMove",
    "Pilot",
    "RareEventWarning",
    "Replicates",
    "Score",
    "ScoreFunction",
    "SphereMove",
    "Splitting",
    "SplittingResult",
    "SplittingStages",
    "TableMove",
    "attack_seeds",
    "compare_scores",
    "estimate_error_rate",
    "log_normal_interval",
    "move_for",
    "seed_attack",
]
