"""Problems on a grid of integer points, whose densities are plain tables."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary._tensors import check_floating, drawing_device, generator_of
from trueboundary.classifiers.bayes import BayesOptimal
from trueboundary.densities import DiscreteTable
from trueboundary.problems.base import check_label
from trueboundary.problems.known_densities import KnownDensities

Floats = np.ndarray[Any, np.dtype[np.float64]]

#: Panels of Figure 2 of Richardson and Weiss (2021) that are tables: c is symmetric, g is not.
TABLE_PANELS = ("c", "g")
_THREE = "three"


class TableProblem(KnownDensities[DiscreteTable]):
    """Each class is a table of probabilities of the integer points of a rectangle.

    Everything about it is exact: error rates are sums, and the distance to the nearest error is
    found by looking at every point.

    Parameters
    ----------
    *densities : DiscreteTable
        Tables of the classes, two or more, of the same shape.
    prior : float or sequence of float, optional
        Probabilities of all classes, positive and adding up to 1; of two classes that of class 1
        is enough. All classes are equally probable by default.

    References
    ----------
    Richardson and Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*, Section 2.1.

    Examples
    --------
    >>> from trueboundary.problems import table_problem
    >>> problem = table_problem("g")
    >>> problem.event_shape, problem.density_0.probabilities.shape
    ((2,), torch.Size([100, 100]))
    """

    kinds = (DiscreteTable,)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one point: row and column."""
        return (2,)

    def sample_class(
        self,
        n: int,
        label: int,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw points of class `label`, rows and columns ``(n, 2)`` as floating-point numbers."""
        n = check_integer("n", n, minimum=1)
        generator = generator_of(generator, seed, device)
        drawing_device(generator, device)
        density = self._densities[check_label(label, self.n_classes)]
        points = density.sample(torch.Size((n,)), generator=generator)
        return points.to(check_floating(dtype))

    def bayes_classifier(self, *, dtype: torch.dtype = torch.float32) -> BayesOptimal:
        """Return the optimal classifier; it takes integer points only.

        Its comparison is exact in float64, which three classes or more always compute in; two
        classes in float32 lose probabilities below 1e-38.
        """
        check_floating(dtype)
        densities = self._densities
        if self.n_classes == 2:
            densities = tuple(DiscreteTable(d.probabilities.to(dtype)) for d in densities)
        return BayesOptimal(*densities, prior=self._priors)

    def errors(self, label: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which points, as a table, the optimal classifier gives to another class.

        Ties count as errors, of every class that shares them.
        """
        label = check_label(label, self.n_classes)
        joint = [
            p * d.probabilities.double().numpy()
            for p, d in zip(self._priors, self._densities, strict=True)
        ]
        own = joint.pop(label)
        errors: np.ndarray[Any, np.dtype[np.bool_]] = np.max(joint, axis=0) >= own
        return errors

    def error_rate(self, label: int) -> float:
        """Return the exact error rate of the optimal classifier on class `label`.

        Examples
        --------
        >>> from trueboundary.problems import table_problem
        >>> table_problem("g").error_rate(0) < 1e-6
        True
        """
        density = self._densities[check_label(label, self.n_classes)]
        return float(density.probabilities.double().numpy()[self.errors(label)].sum())

    def distance_table(self, label: int) -> Floats:
        """Return the exact distance from every grid point to the nearest error of class `label`.

        Distances are Euclidean, in steps of the grid; 0 at errors, infinite where the class has no
        error at all.
        """
        from scipy.ndimage import distance_transform_edt  # slow to import

        errors = self.errors(label)
        if not errors.any():
            return np.full(errors.shape, np.inf)
        distances: Floats = distance_transform_edt(~errors)
        return distances

    def distance_share(self, label: int, distance: float) -> float:
        """Return the probability that a point of class `label` has an error within `distance`.

        Examples
        --------
        >>> from trueboundary.problems import table_problem
        >>> table_problem("g").distance_share(0, 1.0) > 0.99
        True
        >>> table_problem("c").distance_share(0, 1.0) < 0.01
        True
        """
        density = self._densities[check_label(label, self.n_classes)]
        near = self.distance_table(label) <= distance
        return float(density.probabilities.double().numpy()[near].sum())

    def describe(self) -> dict[str, Any]:
        """Return the shape, the prior and a hash of the tables, as plain values."""
        digest = hashlib.blake2b(digest_size=16)
        for density in self._densities:
            digest.update(density.probabilities.double().contiguous().numpy().data)
        return {
            "problem": type(self).__name__,
            "shape": list(self.density_0.probabilities.shape),
            "prior": self._stored_prior(),
            "digest": digest.hexdigest(),
        }


def table_problem(panel: str, *, size: int = 100, leak: float = 1e-9) -> TableProblem:
    """Return one of the table problems, float64, with equal priors.

    The paper shows these problems without their tables; the ones here are chosen to look alike and
    to say the same. Class 0 is the class that loses its robustness in the asymmetric problem.

    Parameters
    ----------
    panel : {"c", "g", "three"}
        Panel of Figure 2. In both, class 1 is a blob on a floor of small probability that no point
        falls below. In c, class 0 is another such blob, with the same floor; in g, its row is
        almost always the same one. In "three", which the paper does not have, a third blob with
        that floor joins those of c.
    size : int
        Rows and columns of the tables.
    leak : float
        In g, the probability that a point of class 0 lies in another row.

    References
    ----------
    Richardson and Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*, Figure 2 and
    Observation 3.
    """
    if panel not in (*TABLE_PANELS, _THREE):
        raise ValueError(
            f"panel must be c, g or three, got {panel!r}; the others are Gaussian, see "
            "planar_problem."
        )
    size = check_integer("size", size, minimum=10)
    if not 0 < leak < 1:
        raise ValueError(f"leak must lie strictly between 0 and 1, got {leak!r}.")
    place = torch.arange(size, dtype=torch.float64) / size
    floor = 1e-3
    row_profile = _bump(place, 0.3, 0.06)
    if panel == "g":
        row_profile = torch.full((size,), leak / (size - 1), dtype=torch.float64)
        row_profile[int(0.3 * size)] = 1 - leak
    blob_0 = torch.outer(row_profile, _bump(place, 0.5, 0.12))
    blob_1 = torch.outer(_bump(place, 0.7, 0.06), _bump(place, 0.5, 0.12))
    uniform = torch.full_like(blob_1, 1 / size**2)
    table_0 = blob_0 if panel == "g" else (1 - floor) * blob_0 + floor * uniform
    table_1 = (1 - floor) * blob_1 + floor * uniform
    tables = [table_0, table_1]
    if panel == _THREE:
        blob = torch.outer(_bump(place, 0.5, 0.06), _bump(place, 0.8, 0.06))
        tables.append((1 - floor) * blob + floor * uniform)
    return TableProblem(*map(DiscreteTable, tables))


def _bump(place: Tensor, centre: float, width: float) -> Tensor:
    profile = torch.exp(-0.5 * ((place - centre) / width).square())
    return profile / profile.sum()
