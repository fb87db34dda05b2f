"""What problems share whose classes are densities of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from trueboundary.classifiers.bayes import (
    Density,
    check_densities,
    check_priors,
    prior_of_two,
    stored_prior,
)
from trueboundary.problems.base import Problem, check_label

if TYPE_CHECKING:
    from trueboundary.domains import Space

_Density = TypeVar("_Density", bound=Density)


class KnownDensities(Problem, Generic[_Density]):
    """A problem of two classes or more, given by a density of each and their probabilities.

    A subclass says which kinds of densities its classes may have.

    Parameters
    ----------
    *densities
        Densities of the classes, two or more, of the same event shape, dtype and device.
    prior : float or sequence of float, optional
        Probabilities of all classes, positive and adding up to 1; of two classes that of class 1
        is enough. All classes are equally probable by default.
    """

    #: Kinds of densities that its classes may have.
    kinds: ClassVar[tuple[type[Density], ...]]

    def __init__(self, *densities: _Density, prior: float | Sequence[float] | None = None) -> None:
        for label, density in enumerate(densities):
            if not isinstance(density, self.kinds):
                known = " or a ".join(kind.__name__ for kind in self.kinds)
                raise TypeError(f"density_{label} must be a {known}, got {type(density).__name__}.")
        check_densities(*densities)
        self._densities = densities
        self._priors = check_priors(prior, len(densities))

    def __repr__(self) -> str:
        densities = ", ".join(map(repr, self._densities))
        return f"{type(self).__name__}({densities}, prior={self._stored_prior()})"

    @property
    def densities(self) -> tuple[_Density, ...]:
        """Densities of all classes."""
        return self._densities

    @property
    def density_0(self) -> _Density:
        """Density of class 0."""
        return self._densities[0]

    @property
    def density_1(self) -> _Density:
        """Density of class 1."""
        return self._densities[1]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self._densities)

    @property
    def priors(self) -> tuple[float, ...]:
        """Probabilities of all classes."""
        return self._priors

    @property
    def prior(self) -> float:
        """Probability of class 1, where there are two classes."""
        return prior_of_two(self._priors)

    def domain(self, label: int) -> Space:
        """Return all of space; of tables only the points of the grid have a class."""
        from trueboundary.domains import Space

        check_label(label, self.n_classes)
        return Space()

    def _stored_prior(self) -> float | list[float]:
        return stored_prior(self._priors)
