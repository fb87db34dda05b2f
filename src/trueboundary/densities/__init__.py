"""Densities shaped like `torch.distributions`, with explicit generators.

What fits them to data is imported when it is first used: scikit-learn and scipy take longer to load
than a first network to train, and every classifier comes by here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trueboundary.densities.discrete import DiscreteTable
from trueboundary.densities.low_rank import LowRankGaussian
from trueboundary.densities.mixture import MixtureOfFactorAnalyzers
from trueboundary.densities.sphere import SphereConstraint, UniformSphere
from trueboundary.densities.stored_densities import from_arrays as density_from_arrays
from trueboundary.densities.stored_densities import load as load_density
from trueboundary.densities.stored_densities import save as save_density
from trueboundary.densities.stored_densities import to_arrays as density_to_arrays

if TYPE_CHECKING:
    from trueboundary.densities.em import SufficientStatistics
    from trueboundary.densities.estimator import MixtureOfFactorAnalyzersEM

_HOMES = {"MixtureOfFactorAnalyzersEM": "estimator", "SufficientStatistics": "em"}

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
