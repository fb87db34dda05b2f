"""Problems whose densities, best classifier and limits are known exactly."""

from trueboundary.problems.arrays import ArraySample
from trueboundary.problems.base import BLOCK_SIZE, Problem
from trueboundary.problems.image_fitting import (
    ImageFit,
    Outlier,
    fit_image_problem,
    fit_images,
)
from trueboundary.problems.images import VARIANTS, ImageProblem
from trueboundary.problems.mixtures import (
    MixtureProblem,
    other_subspace_distance,
    subspace_distances,
)
from trueboundary.problems.outputs import check_number_of_classes, output_doubts
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
from trueboundary.problems.torch_datasets import FreshBatches, PointDataset, class_names_of

__all__ = [
    "BLOCK_SIZE",
    "PLANAR_PANELS",
    "TABLE_PANELS",
    "VARIANTS",
    "ArraySample",
    "ConcentricSpheres",
    "FiniteSample",
    "FreshBatches",
    "ImageFit",
    "ImageProblem",
    "MixtureProblem",
    "OnlineStream",
    "Outlier",
    "PointDataset",
    "Problem",
    "Stream",
    "TableProblem",
    "block_generator",
    "check_number_of_classes",
    "class_names_of",
    "fit_image_problem",
    "fit_images",
    "other_subspace_distance",
    "output_doubts",
    "planar_gaussian",
    "planar_mixture",
    "planar_problem",
    "subspace_distances",
    "table_problem",
]
