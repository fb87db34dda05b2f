"""Problems whose densities, best classifier and limits are known exactly."""

from trueboundary.problems.arrays import ArraySample
from trueboundary.problems.base import BLOCK_SIZE, Problem
from trueboundary.problems.seeding import block_generator
from trueboundary.problems.spheres import ConcentricSpheres
from trueboundary.problems.streams import FiniteSample, OnlineStream, Stream

__all__ = [
    "BLOCK_SIZE",
    "ArraySample",
    "ConcentricSpheres",
    "FiniteSample",
    "OnlineStream",
    "Problem",
    "Stream",
    "block_generator",
]
