"""Densities shaped like `torch.distributions`, with explicit generators."""

from trueboundary.densities.sphere import SphereConstraint, UniformSphere

__all__ = ["SphereConstraint", "UniformSphere"]
