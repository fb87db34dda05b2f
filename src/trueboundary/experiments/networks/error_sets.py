"""Sets of points on a sphere that a model might get wrong: their measures and mean distances.

No training is involved: a bound that holds for every error set has to hold for these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueboundary import theory
from trueboundary.experiments.base import Row
from trueboundary.experiments.networks.ellipsoids import unit_points
from trueboundary.experiments.networks.spectra import MEAN_ALPHA, std_for_error
from trueboundary.experiments.work_rates import RATES
from trueboundary.runs import Context, RunConfig, RunResult

Floats = NDArray[np.float64]

CAP = "cap"
#: Share of a cap that its hole takes: with a small one the rest is nearly a cap.
_HOLES = (0.01, 0.5)
#: Numbers of caps in a union.
_UNIONS = (2, 5, 20)


@dataclass(frozen=True)
class ErrorSets(RunConfig):
    """Mean distances from uniform points of the unit sphere to sets of several shapes.

    The summary's ``rows`` hold ``shape``, ``dim``, ``log10_measure`` and the mean ``distance`` with
    the ends ``low`` and ``high`` of its 95 % interval over points, None where it is exact:

    * caps, and caps with a smaller cap cut out of their middle: exact;
    * unions of caps around random points, of random sizes. ``log10_measure`` is that of the sum of
      their measures, which the union's does not exceed;
    * the points outside random ellipsoids, of exact measure.

    Parameters
    ----------
    dim : int
        Dimension.
    log10_measures : tuple of float
        Measures of the sets, as shares of the sphere, at most 1/10.
    n_points : int
        Points whose distances are averaged, each exact.
    n_sets : int
        Random sets of each shape and measure.
    seed : int
        Seed of sets and points.
    """

    dim: int
    log10_measures: tuple[float, ...]
    n_points: int
    n_sets: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(3, "dim")
        self.check_at_least(2, "n_points")
        self.check_at_least(1, "n_sets")
        if not all(-300 <= log10 <= -1 for log10 in self.log10_measures):
            raise ValueError(
                f"log10_measures must lie between -300 and -1, got {list(self.log10_measures)}"
            )

    def in_words(self) -> str:
        """Return what is worked out."""
        return f"working out how far error sets of many shapes are in {self.dim} dimensions"

    def cost(self) -> float:
        """Return the cost of projecting every point to every ellipsoid."""
        n_points = len(self.log10_measures) * self.n_sets * self.n_points
        return RATES.run + n_points * self.dim * RATES.projection

    def compute(self, context: Context) -> RunResult:
        """Draw the sets and measure the way to each."""
        points = unit_points(self.n_points, self.dim, self.seed)
        generator = np.random.default_rng([self.seed, self.dim])
        rows: list[Row] = []
        for index, log10_measure in enumerate(self.log10_measures):
            for shape, distance, low, high in self._distances(generator, points, log10_measure):
                row: Row = {"shape": shape, "dim": self.dim, "log10_measure": log10_measure}
                rows.append(row | {"distance": distance, "low": low, "high": high})
            context.progress((index + 1) / len(self.log10_measures))
        return RunResult({"rows": rows, "n_points": self.n_points})

    def _distances(
        self, generator: np.random.Generator, points: Floats, log10_measure: float
    ) -> Iterator[tuple[str, float, float | None, float | None]]:
        log_measure = log10_measure * math.log(10)
        exact = theory.caps.mean_distance(self.dim, log_measure=log_measure)
        yield CAP, exact, None, None
        for hole in _HOLES:
            words = f"cap with a hole of {hole:.0%}"
            yield words, mean_distance_with_hole(self.dim, log_measure, hole), None, None
        for _ in range(self.n_sets):
            for n_caps in _UNIONS:
                sizes = log_measure + np.log(generator.dirichlet(np.ones(n_caps)))
                centres = generator.standard_normal((n_caps, self.dim))
                centres /= np.linalg.norm(centres, axis=1, keepdims=True)
                yield f"union of {n_caps} caps", *mean_distance_to_union(points, centres, sizes)
            yield "outside of an ellipsoid", *self._to_quadric(generator, points, log10_measure)

    def _to_quadric(
        self, generator: np.random.Generator, points: Floats, log10_measure: float
    ) -> tuple[float, float, float]:
        """Return the mean distance to the outside of an ellipsoid with random alphas.

        Their distribution has a tail that is drawn too: from nearly uniform to few that stand out.
        """
        from trueboundary.certificates import nearest_ellipsoid_error

        drawn = generator.gamma(10 ** generator.uniform(-1.5, 1), size=self.dim)
        unit = (drawn - drawn.mean()) / drawn.std()
        alphas = MEAN_ALPHA + std_for_error(unit, log10_measure) * unit
        distance = nearest_ellipsoid_error(points, alphas)
        low, high = theory.intervals.t_interval(distance)
        return float(distance.mean()), low, high


def mean_distance_with_hole(dim: int, log_measure: float, hole: float) -> float:
    """Return the exact mean distance to a cap whose middle is cut out.

    What is left has the given measure; the hole, a cap itself, is a share `hole` of the whole cap.
    Points outside the cap are as far from the rest as from the cap. Those in the hole are as far
    from its edge as points of the opposite cap are from all that is outside the hole.

    Examples
    --------
    >>> import math
    >>> with_hole = mean_distance_with_hole(500, math.log(1e-3), 1e-9)
    >>> abs(with_hole / theory.caps.mean_distance(500, 1e-3) - 1) < 1e-8
    True
    """
    log_whole = log_measure - math.log1p(-hole)
    log_outside = math.log1p(-hole * math.exp(log_whole))
    outside = theory.caps.mean_distance(dim, log_measure=log_whole)
    return outside + theory.caps.mean_distance(dim, log_measure=log_outside)


def mean_distance_to_union(
    points: Floats, centres: Floats, log_measures: Floats
) -> tuple[float, float, float]:
    """Return the mean chord distance from points to a union of caps, with its 95 % interval.

    The exact mean distance to the largest of the caps stands for that over the points, so that what
    is sampled is only by how much the others come nearer.

    Parameters
    ----------
    points : ndarray
        Uniform points of the unit sphere, shape ``(n, dim)``.
    centres : ndarray
        Centres of the caps, unit vectors, shape ``(n_caps, dim)``.
    log_measures : ndarray
        Natural logarithms of their measures, shape ``(n_caps,)``.

    Examples
    --------
    >>> import numpy as np
    >>> points, centre = unit_points(10, 3, 0), np.array([[1.0, 0.0, 0.0]])
    >>> mean, low, high = mean_distance_to_union(points, centre, np.log([0.1]))
    >>> mean == low == high == theory.caps.mean_distance(3, log_measure=np.log(0.1))  # one cap
    True
    """
    dim = points.shape[1]
    heights = points @ centres.T
    edges = np.array([theory.caps.angle(dim, log_measure=float(m)) for m in log_measures])
    polar = np.arctan2(np.sqrt(np.maximum(1 - heights**2, 0.0)), heights)
    chords = 2 * np.sin(np.maximum(polar - edges, 0.0) / 2)
    largest = int(np.argmax(log_measures))
    nearer = chords[:, largest] - chords.min(axis=1)
    low, high = theory.intervals.t_interval(nearer)
    exact = theory.caps.mean_distance(dim, log_measure=float(log_measures[largest]))
    return exact - float(nearer.mean()), exact - high, exact - low


def with_ratios(row: Row) -> dict[str, Any]:
    """Return a row of `ErrorSets` with its distance over a cap's and over the Gaussian formula."""
    dim, log10 = row["dim"], row["log10_measure"]
    cap = theory.caps.mean_distance(dim, log_measure=log10 * math.log(10))
    return row | {"cap": cap, "formula": theory.caps.gaussian_mean_distance(dim, 10**log10)}
