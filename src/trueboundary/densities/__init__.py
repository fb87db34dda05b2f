"""Densities shaped like `torch.distributions`, with explicit generators."""

from trueboundary.densities.discrete import DiscreteTable
from trueboundary.densities.em import SufficientStatistics
from trueboundary.densities.estimator import MixtureOfFactorAnalyzersEM
from trueboundary.densities.low_rank import LowRankGaussian
from trueboundary.densities.mixture import MixtureOfFactorAnalyzers
from trueboundary.densities.sphere import SphereConstraint, UniformSphere
from trueboundary.densities.stored_densities import from_arrays as density_from_arrays
from trueboundary.densities.stored_densities import load as load_density
from trueboundary.densities.stored_densities import save as save_density
from trueboundary.densities.stored_densities import to_arrays as density_to_arrays

__all__ = [
    "DiscreteTable",
    "LowRankGaussian",
    "MixtureOfFactorAnalyzers",
    "MixtureOfFactorAnalyzersEM",
    "SphereConstraint",
    "SufficientStatistics",
    "UniformSphere",
    "density_from_arrays",
    "density_to_arrays",
    "load_density",
    "save_density",
]
