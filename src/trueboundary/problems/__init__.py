"""Problems whose densities, best classifier and limits are known exactly."""

from trueboundary.problems.arrays import ArraySample
from trueboundary.problems.base import BLOCK_SIZE, Problem
from trueboundary.problems.mixtures import (
    MixtureProblem,
    other_subspace_distance,
    subspace_distances,
)
from trueboundary.problems.planar import (
    PLANAR_PANELS,
    planar_gaussian,
    planar_mixture,
    planar_problem,
)
from trueboundary.problems.seeding import block_generator
from trueboundary.problems.spheres import ConcentricSpheres
from trueboundary.problems.streams import FiniteSample, OnlineStream, Stream
from trueboundary.problems.tables import TABLE_PANELS, TableProblem, table_problem

__all__ = [
    "BLOCK_SIZE",
    "PLANAR_PANELS",
    "TABLE_PANELS",
    "ArraySample",
    "ConcentricSpheres",
    "FiniteSample",
    "MixtureProblem",
    "OnlineStream",
    "Problem",
    "Stream",
    "TableProblem",
    "block_generator",
    "other_subspace_distance",
    "planar_gaussian",
    "planar_mixture",
    "planar_problem",
    "subspace_distances",
    "table_problem",
]
