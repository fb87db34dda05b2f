r"""Expectation maximisation for mixtures of factor analyzers, from additive statistics.

One iteration is `expectation`, which condenses data into `SufficientStatistics`, and
`maximisation`, which turns those into better parameters. Statistics of parts of the data add up
to the statistics of the whole, so the data may come in batches, shards or all at once.

With the responsibilities :math:`r_{nk}` held, an iteration climbs the free energy in three exact
steps: the means become the weighted means (the maximiser whatever the covariances); the posterior
of the factors is taken at those means; loadings and noise become the maximisers of the expected
complete log likelihood, the noise subject to its floor. Each step can only raise the likelihood.
The first two steps together reach further than updating means and loadings jointly, since the
factors cannot explain away a shift of the mean. For isotropic noise this is the iteration of
Tipping and Bishop (1999); for diagonal noise it is that of Ghahramani and Hinton (1996) with the
means taken first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

import numpy as np
from scipy.special import logsumexp

Array = np.ndarray[Any, np.dtype[Any]]

# A component that expects fewer points than this keeps its parameters: a mean of no points is
# not defined.
EMPTY_COUNT = 1e-8
# Float32 must keep log densities within this many nats, and float64 within this many; the next
# more careful method is taken where the estimate says otherwise.
_TOLERANCE = {"float32": 1e-2, "float64": 1e-6}
# Below this noise variance float32 is not used at all, whatever the estimate says, nor above this
# mean square, where sums of squares would overflow and inverse variances underflow.
_SMALLEST_FLOAT32_NOISE = 1e-4
_LARGEST_FLOAT32_MOMENT = 1e12
# Rows are worked on in blocks of about this many numbers, but not of fewer rows than this: with
# fewer, adding up the statistics of the blocks would cost more than collecting them.
_BLOCK_NUMBERS = 2**20
_MIN_BLOCK_ROWS = 512
# Above this share of responsibilities that are not zero, one large product beats many small ones.
_DENSE_SHARE = 0.2


class Method(Enum):
    """How log densities and statistics are computed, from fast to careful."""

    FLOAT32 = "matrix products in float32"
    FLOAT64 = "matrix products in float64"
    RESIDUAL = "residual form in float64, one component at a time"


@dataclass(frozen=True)
class MixtureParameters:
    """MixtureParameters of a mixture of factor analyzers, as float64 arrays.

    Attributes
    ----------
    weights : ndarray
        Mixing weights, shape ``(K,)``.
    means : ndarray
        Means, shape ``(K, d)``.
    loadings : ndarray
        Factor loadings, shape ``(K, d, l)`` with ``l <= d``.
    noise_variance : ndarray
        Noise variances, shape ``(K, d)``, or ``(K, 1)`` where all coordinates share one.
    """

    weights: Array
    means: Array
    loadings: Array
    noise_variance: Array

    @property
    def is_isotropic(self) -> bool:
        """Whether the coordinates of a component share one noise variance."""
        return bool(self.noise_variance.shape[1] == 1 < self.means.shape[1])

    def equals(self, other: MixtureParameters) -> bool:
        """Return whether all parameters are the same, to the bit."""
        return self is other or all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        )


@dataclass(frozen=True)
class SufficientStatistics:
    """Everything that the maximisation needs to know about data, per component.

    ``x`` is measured from `centres`, and ``z`` is the posterior mean of the factors in the
    orthogonal basis that `expectation` and `maximisation` share. All sums are weighted by the
    responsibilities. The sums of ``z z'`` follow from those of ``x z'`` and are not kept.

    Attributes
    ----------
    parameters : MixtureParameters
        The parameters they were collected with.
    n_samples : int
        Number of rows.
    log_likelihood : float
        Sum of the log densities of the rows, in nats, under `parameters`.
    centres : ndarray
        Origins of ``x``, shape ``(K, d)``.
    count : ndarray
        Sum of responsibilities, shape ``(K,)``.
    sum_x, sum_xx, sum_z, sum_xz : ndarray
        Sums of ``x`` (K, d), its squares (K, d), or (K, 1) summed over coordinates for isotropic
        noise, of ``z`` (K, l) and of ``x z'`` (K, d, l).

    Examples
    --------
    >>> import numpy as np
    >>> from trueboundary.densities.em import Expectation, Method, MixtureParameters
    >>> parameters = MixtureParameters(
    ...     np.ones(1), np.zeros((1, 2)), np.ones((1, 2, 1)), np.ones((1, 2))
    ... )
    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    >>> collect = Expectation(parameters, Method.FLOAT64)
    >>> (collect(x[:2]) + collect(x[2:])).sum_x
    array([[4., 5.]])
    """

    parameters: MixtureParameters
    n_samples: int
    log_likelihood: float
    centres: Array
    count: Array
    sum_x: Array
    sum_xx: Array
    sum_z: Array
    sum_xz: Array

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        """Return the statistics of the data of both.

        Raises
        ------
        ValueError
            If the two were not collected with the same parameters and method.
        """
        if not isinstance(other, SufficientStatistics):
            return NotImplemented
        if not self.parameters.equals(other.parameters) or not np.array_equal(
            self.centres, other.centres
        ):
            raise ValueError(
                "statistics can be added only if they were collected with the same parameters "
                "and by the same method."
            )
        sums: dict[str, Any] = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name not in ("parameters", "centres")
        }
        return replace(self, **sums)


@dataclass(frozen=True)
class _Whitened:
    """The whitened loadings ``U diag(s) V'`` of all components, from a singular value split.

    The factors are turned by V, so that their posterior covariance is diagonal.
    """

    inverse_std: Array  # (K, d) or (K, 1)
    basis: Array  # U, (K, d, l)
    spectrum: Array  # s, (K, l)
    log_constant: Array  # log weight and normaliser, (K,)

    @classmethod
    def build(cls, parameters: MixtureParameters) -> _Whitened:
        dim = parameters.means.shape[1]
        inverse_std = parameters.noise_variance**-0.5
        basis, spectrum, _ = np.linalg.svd(
            parameters.loadings * inverse_std[:, :, None], full_matrices=False
        )
        log_noise = np.log(parameters.noise_variance).sum(axis=1)
        if parameters.is_isotropic:
            log_noise = log_noise * dim
        log_determinant = log_noise + np.log1p(spectrum**2).sum(axis=1)
        with np.errstate(divide="ignore"):  # a weight of zero is allowed
            log_weights = np.log(parameters.weights)
        constant = log_weights - 0.5 * (log_determinant + dim * math.log(2 * math.pi))
        return cls(inverse_std, basis, spectrum, constant)

    @property
    def posterior_variance(self) -> Array:
        """Posterior variance of the factors, shape (K, l)."""
        return np.asarray(1 / (1 + self.spectrum**2))

    @property
    def projection(self) -> Array:
        """Map from x - mean to the posterior mean of the factors, shape (K, d, l)."""
        shrinkage = self.spectrum * self.posterior_variance
        return np.asarray(self.basis * shrinkage[:, None, :] * self.inverse_std[:, :, None])


def cancellation(parameters: MixtureParameters, second_moment: Array) -> float:
    """Return the size of the numbers whose difference the fast methods take.

    Parameters
    ----------
    parameters : MixtureParameters
        The mixture.
    second_moment : ndarray
        Mean square of each coordinate of the data, shape ``(d,)``.

    Returns
    -------
    float
        Mean squared Mahalanobis length of the data, largest over components; a rounding error
        is this times the unit of rounding.
    """
    return float((second_moment / parameters.noise_variance).sum(axis=1).max())


def choose_method(
    parameters: MixtureParameters, second_moment: Array, *, allow_float32: bool = True
) -> Method:
    """Return the fastest method whose rounding errors are harmless.

    Parameters
    ----------
    parameters : MixtureParameters
        The mixture.
    second_moment : ndarray
        Mean square of each coordinate of the data, shape ``(d,)``.
    allow_float32 : bool
        Whether float32 may be chosen at all.

    Returns
    -------
    Method
        Float32 only where the noise variance is at least 1e-4, mean squares are at most 1e12 and
        rounding stays below 0.01 nat; the residual form only where float64 could be off by more
        than 1e-6 nat.
    """
    size = cancellation(parameters, second_moment)
    if (
        allow_float32
        and parameters.noise_variance.min() >= _SMALLEST_FLOAT32_NOISE
        and second_moment.max() <= _LARGEST_FLOAT32_MOMENT
        and size * np.finfo(np.float32).eps < _TOLERANCE["float32"]
    ):
        return Method.FLOAT32
    if size * np.finfo(np.float64).eps < _TOLERANCE["float64"]:
        return Method.FLOAT64
    return Method.RESIDUAL


def relative_to(x: Array, origin: Array, dtype: np.dtype[Any]) -> Array:
    """Return rows measured from a point, in `dtype`.

    The difference is taken in float64 and rounded once: far from zero, a point that is rounded to
    float32 before it is subtracted would shift all rows by as much as they are spread.

    Parameters
    ----------
    x : ndarray
        Rows, float32 or float64, shape ``(n, d)``.
    origin : ndarray
        The point, float64, shape ``(d,)``.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    ndarray
        A new array, shape ``(n, d)``.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[3e6], [3e6 + 0.25]], np.float32)
    >>> relative_to(rows, np.array([3e6 + 0.125]), np.dtype(np.float32)).ravel()
    array([-0.125,  0.125], dtype=float32)
    """
    result: Array = np.empty(x.shape, dtype)
    # With `out`, numpy casts in small pieces: no second array of all rows is made in float64.
    np.subtract(x, origin, out=result, dtype=np.float64, casting="same_kind")
    return result


class Expectation:
    """Collects statistics of data under given parameters.

    Parameters
    ----------
    parameters : MixtureParameters
        The mixture under which the data are looked at.
    method : Method
        How to compute; see `choose_method`.
    origin : ndarray, optional
        A point, shape ``(d,)``, that is subtracted from all rows first; `parameters` are
        measured from it. Zero by default.

    Examples
    --------
    >>> import numpy as np
    >>> from trueboundary.densities.em import Expectation, Method, MixtureParameters, maximisation
    >>> x = np.array([[0.0], [2.0], [4.0]])
    >>> means, loadings, noise = np.zeros((1, 1)), np.zeros((1, 1, 0)), np.ones((1, 1))
    >>> start = MixtureParameters(np.ones(1), means, loadings, noise)
    >>> collect = Expectation(start, Method.FLOAT64)
    >>> statistics = collect(x[:1]) + collect(x[1:])
    >>> fitted = maximisation(statistics, floor=1e-6)
    >>> fitted.means, fitted.noise_variance
    (array([[2.]]), array([[2.66666667]]))
    """

    def __init__(
        self, parameters: MixtureParameters, method: Method, *, origin: Array | None = None
    ) -> None:
        self._parameters = parameters
        self._residual = method is Method.RESIDUAL
        single = method is Method.FLOAT32
        self._dtype = np.dtype(np.float32 if single else np.float64)
        self._negligible = float(np.finfo(np.float32 if single else np.float64).eps) ** 2
        n_components, dim = parameters.means.shape
        self._origin = np.zeros(dim) if origin is None else origin
        whitened = self._whitened = _Whitened.build(parameters)
        self._n_factors = whitened.spectrum.shape[1]
        # One matrix gives, for all components at once, the products of a row with the mean and
        # with the factor directions: 1 + l columns for each component.
        inverse_noise = whitened.inverse_std**2
        weighted_means = parameters.means * inverse_noise
        directions = (
            whitened.basis * whitened.spectrum[:, None, :] * whitened.inverse_std[:, :, None]
        )
        columns = np.concatenate([weighted_means[:, :, None], directions], axis=2)
        columns = columns.transpose(1, 0, 2).reshape(dim, -1)
        self._products = np.ascontiguousarray(columns, dtype=self._dtype)
        self._inverse_noise = np.ascontiguousarray(inverse_noise.T, dtype=self._dtype)
        self._constant = whitened.log_constant - 0.5 * (parameters.means * weighted_means).sum(1)
        # Of the 1 + l columns, the first takes no part in what is done to the factors.
        offset = np.einsum("kd,kdl->kl", parameters.means, directions)
        self._offset = self._columns(np.zeros(n_components), offset).astype(self._dtype)
        shrink = whitened.posterior_variance
        self._shrink = self._columns(np.ones(n_components), shrink).astype(self._dtype)
        # Adds up the squared factors of each component.
        membership = np.repeat(np.eye(n_components), 1 + self._n_factors, axis=0)
        gather = membership * self._columns(np.zeros(n_components), shrink)[:, None]
        self._gather = gather.astype(self._dtype)

    @staticmethod
    def _columns(first: Array, others: Array) -> Array:
        """Lay out (K,) and (K, l) numbers like the columns of the products, (K (1 + l),)."""
        return np.concatenate([first[:, None], others], axis=1).reshape(-1)

    def __call__(self, x: Array) -> SufficientStatistics:
        """Return the statistics of the rows of `x`.

        Parameters
        ----------
        x : ndarray
            Rows, shape ``(n, d)``.

        Returns
        -------
        SufficientStatistics
            Sums over the rows, float64.
        """
        total = self._zero()
        for block in self._blocks(x):
            total = total + (self._by_component(block) if self._residual else self._at_once(block))
        return total

    def _zero(self) -> SufficientStatistics:
        n_components, dim = self._parameters.means.shape
        centres = self._parameters.means if self._residual else np.zeros((n_components, dim))
        return SufficientStatistics(
            parameters=self._parameters,
            n_samples=0,
            log_likelihood=0.0,
            centres=centres,
            count=np.zeros(n_components),
            sum_x=np.zeros((n_components, dim)),
            sum_xx=np.zeros_like(self._parameters.noise_variance),
            sum_z=np.zeros((n_components, self._n_factors)),
            sum_xz=np.zeros((n_components, dim, self._n_factors)),
        )

    def _blocks(self, x: Array) -> Iterator[Array]:
        width = max(x.shape[1], self._products.shape[1])
        rows = max(_MIN_BLOCK_ROWS, _BLOCK_NUMBERS // width)
        for start in range(0, len(x), rows):
            yield relative_to(x[start : start + rows], self._origin, self._dtype)

    def _squares(self, x: Array) -> Array:
        """Return squares (b, d), or their sums (b, 1) where the noise is isotropic."""
        if self._parameters.is_isotropic:
            return np.asarray(np.einsum("nd,nd->n", x, x)[:, None])
        return np.asarray(x * x)

    def _at_once(self, x: Array) -> SufficientStatistics:
        """Statistics of a block by a few large matrix products for all components."""
        n_components, dim = self._parameters.means.shape
        squares = self._squares(x)
        products = x @ self._products
        products -= self._offset
        by_component = products.reshape(len(x), n_components, 1 + self._n_factors)
        # Small arrays are put together in float64, whatever the products were computed in.
        joint = by_component[:, :, 0].astype(np.float64)
        joint -= 0.5 * (squares @ self._inverse_noise)
        joint += 0.5 * ((products * products) @ self._gather)
        joint += self._constant
        log_density, responsibilities = _normalise(joint)
        # What no sum of the dtype could show is zero, so that it need not be multiplied.
        responsibilities[responsibilities < self._negligible] = 0.0
        weighted = responsibilities.astype(self._dtype)
        # The products are not needed any more; their place takes r and r z.
        products *= self._shrink
        by_component[:, :, 0] = 1
        by_component *= weighted[:, :, None]
        sums = _weighted_sums(x, by_component, weighted > 0)
        return SufficientStatistics(
            parameters=self._parameters,
            n_samples=len(x),
            log_likelihood=float(log_density.sum()),
            centres=np.zeros((n_components, dim)),
            count=responsibilities.sum(axis=0),
            sum_x=sums[:, 0].astype(np.float64),
            sum_xx=(weighted.T @ squares).astype(np.float64),
            sum_z=by_component[:, :, 1:].sum(axis=0, dtype=np.float64),
            sum_xz=sums[:, 1:].transpose(0, 2, 1).astype(np.float64),
        )

    def _by_component(self, x: Array) -> SufficientStatistics:
        """Statistics of a block about the components' own means, nothing of which cancels."""
        means, whitened = self._parameters.means, self._whitened
        shrink = whitened.posterior_variance
        joint = np.empty((len(x), len(means)))
        factors = np.empty((len(means), len(x), self._n_factors))
        for k, mean in enumerate(means):
            white = (x - mean) * whitened.inverse_std[k]
            coordinates = white @ whitened.basis[k]
            factors[k] = coordinates * (whitened.spectrum[k] * shrink[k])
            white -= (factors[k] * whitened.spectrum[k]) @ whitened.basis[k].T
            squares = (white**2).sum(axis=1) + (factors[k] ** 2).sum(axis=1)
            joint[:, k] = whitened.log_constant[k] - 0.5 * squares
        log_density, responsibilities = _normalise(joint)
        total = self._zero()
        for k, mean in enumerate(means):
            centred = x - mean
            weight = responsibilities[:, k]
            weighted = factors[k] * weight[:, None]
            total.sum_x[k] = weight @ centred
            total.sum_xx[k] = weight @ self._squares(centred)
            total.sum_z[k] = weighted.sum(axis=0)
            total.sum_xz[k] = centred.T @ weighted
        total.count[:] = responsibilities.sum(axis=0)
        return replace(total, n_samples=len(x), log_likelihood=float(log_density.sum()))


def _weighted_sums(x: Array, weights: Array, active: Array) -> Array:
    """Return ``sum_n weights[n, k, j] x[n]``, shape (K, J, d).

    In many dimensions almost every row belongs to one component alone; then each component
    multiplies its own rows only.
    """
    n_rows, n_components, n_columns = weights.shape
    if active.mean() > _DENSE_SHARE:
        return np.asarray(weights.reshape(n_rows, -1).T @ x).reshape(n_components, n_columns, -1)
    sums = np.empty((n_components, n_columns, x.shape[1]), dtype=x.dtype)
    for k in range(n_components):
        rows = np.flatnonzero(active[:, k])
        sums[k] = weights[rows, k].T @ x[rows]
    return sums


def _normalise(joint: Array) -> tuple[Array, Array]:
    """Return log densities (n,) and responsibilities (n, K) from joint log densities."""
    log_density = logsumexp(joint, axis=1, keepdims=True)
    return log_density[:, 0], np.exp(joint - log_density)


def maximisation(
    statistics: SufficientStatistics,
    *,
    floor: float,
    fixed_noise: bool = False,
) -> MixtureParameters:
    r"""Return the parameters that maximise the free energy for given responsibilities.

    Loadings are :math:`S_{xz} S_{zz}^{-1}`, about the new means, and noise variances the mean
    squares left over, or `floor` where that is larger. The expected log likelihood has a single
    peak in each noise variance, so this is its maximiser under the constraint.

    Parameters
    ----------
    statistics : SufficientStatistics
        Statistics of all the data, collected with the current parameters.
    floor : float
        Smallest noise variance allowed, positive.
    fixed_noise : bool
        Leave the noise variances as they are.

    Returns
    -------
    MixtureParameters
        New parameters. A component that expects no points keeps its means, loadings and noise.
    """
    parameters = statistics.parameters
    whitened = _Whitened.build(parameters)
    dim = parameters.means.shape[1]
    empty = statistics.count < EMPTY_COUNT
    count = np.where(empty, 1.0, statistics.count)
    shift = statistics.sum_x / count[:, None]
    means = statistics.centres + shift
    sum_xz = statistics.sum_xz - shift[:, :, None] * statistics.sum_z[:, None, :]
    sum_zz = whitened.projection.transpose(0, 2, 1) @ sum_xz
    sum_zz = 0.5 * (sum_zz + sum_zz.transpose(0, 2, 1))
    diagonal = np.arange(sum_zz.shape[1])
    sum_zz[:, diagonal, diagonal] += count[:, None] * whitened.posterior_variance
    loadings = np.linalg.solve(sum_zz, sum_xz.transpose(0, 2, 1)).transpose(0, 2, 1)
    noise = parameters.noise_variance
    if not fixed_noise:
        explained = (loadings * sum_xz).sum(axis=2) / count[:, None] + shift**2
        if parameters.is_isotropic:
            left = statistics.sum_xx / count[:, None] - explained.sum(axis=1, keepdims=True)
            noise = np.maximum(left / dim, floor)
        else:
            noise = np.maximum(statistics.sum_xx / count[:, None] - explained, floor)
    return MixtureParameters(
        weights=statistics.count / statistics.count.sum(),
        means=np.where(empty[:, None], parameters.means, means),
        loadings=np.where(empty[:, None, None], parameters.loadings, loadings),
        noise_variance=np.where(empty[:, None], parameters.noise_variance, noise),
    )
