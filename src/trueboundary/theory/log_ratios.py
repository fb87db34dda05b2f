r"""Log ratios of Gaussian densities as one quadratic in a small subspace, and exact Bayes errors.

For Gaussians :math:`N(\mu_i, A_i A_i^\top + \sigma_i^2 I)` the combination
:math:`q = \sum_i c_i (\log \pi_i + \log N_i)` has a Hessian that is a multiple of the identity,

.. math:: \gamma = -\sum_i c_i / \sigma_i^2,

outside the span W of all :math:`A_i` and all differences of means, and no gradient there at
:math:`\mu_1`. With :math:`y = x - \mu_1` and the coordinates v of y in an eigenbasis of the Hessian
within W,

.. math::
   q(x) = q_1 + \sum_m \left(b_m v_m + \tfrac12 h_m v_m^2\right)
          + \tfrac12 \gamma \|y_\perp\|^2 ,

so that a Gaussian pair of 784 dimensions and 6 factors becomes a quadratic of 14 coordinates:
the 13 of W and the length of :math:`y_\perp`. Distances are unaffected, since the basis is
orthonormal and q does not depend on the direction of :math:`y_\perp`. Gaussians whose noise
differs between coordinates need the full eigenbasis.

With :math:`c = (1, -1)`, q is the log posterior odds of two classes, and under the first
Gaussian a generalised chi-square variable: its exact tail is the Bayes error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trueboundary._checks import finite, finite_array, moderate_array
from trueboundary.theory.quadratic_forms import log_tail

__all__ = ["LogRatio", "LowRankNormal", "log_ratio", "pair_log_error"]

FloatArray = npt.NDArray[np.float64]

# Curvatures below this fraction of the largest precision are rounding errors of zero. Left alone,
# they would be a small negative curvature where there is none.
ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class LowRankNormal:
    r"""A Gaussian of covariance :math:`A A^\top + D`, as numpy arrays.

    Parameters
    ----------
    mean : array_like of shape (d,)
        Mean.
    loadings : array_like of shape (d, l)
        Factor loadings A; l = 0 is allowed.
    noise_variance : array_like of shape (d,) or ()
        Diagonal of D, positive.

    Examples
    --------
    >>> round(LowRankNormal([0.0, 0.0], [[1.0], [0.0]], 0.25).log_peak, 4)
    -1.2563
    """

    mean: FloatArray
    loadings: FloatArray
    noise_variance: FloatArray
    # Left singular vectors of D^(-1/2) A and its squared singular values.
    _basis: FloatArray = field(init=False, repr=False)
    _ratio: FloatArray = field(init=False, repr=False)
    #: F, shape (d, l), of the inverse covariance :math:`D^{-1} - F F^\top`.
    factor: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mean = moderate_array("mean", self.mean)
        loadings = moderate_array("loadings", self.loadings)
        noise = moderate_array("noise_variance", self.noise_variance)
        if mean.ndim != 1 or mean.size == 0 or loadings.ndim != 2 or len(loadings) != mean.size:
            raise ValueError(
                f"a mean (d,) needs loadings (d, l), got shapes {mean.shape} and {loadings.shape}."
            )
        if noise.shape not in ((), mean.shape) or not (noise >= 1e-60).all():
            raise ValueError(
                "noise_variance must be positive (at least 1e-60), a number or of shape "
                f"{mean.shape}, got shape {noise.shape} with a minimum of "
                f"{noise.min(initial=math.inf)}."
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "loadings", loadings)
        object.__setattr__(self, "noise_variance", np.broadcast_to(noise, mean.shape))
        whitened = loadings / np.sqrt(self.noise_variance)[:, None]
        basis, spectrum, _ = np.linalg.svd(whitened, full_matrices=False)
        object.__setattr__(self, "_basis", basis)
        ratio = spectrum**2
        object.__setattr__(self, "_ratio", ratio)
        factor = basis * np.sqrt(ratio / (1 + ratio)) / np.sqrt(self.noise_variance)[:, None]
        object.__setattr__(self, "factor", factor)

    @property
    def isotropic(self) -> bool:
        """Whether the noise is the same in all coordinates."""
        return bool((self.noise_variance == self.noise_variance[0]).all())

    @property
    def log_peak(self) -> float:
        """Log density at the mean."""
        log_det = np.log(self.noise_variance).sum() + np.log1p(self._ratio).sum()
        return float(-0.5 * (log_det + self.mean.size * math.log(2 * math.pi)))

    def precision_times(self, y: FloatArray) -> FloatArray:
        """Return the inverse covariance times the columns of `y`, shape (d, n)."""
        scale = np.sqrt(self.noise_variance)[:, None]
        whitened = y / scale
        shrunk = (self._ratio / (1 + self._ratio))[:, None] * (self._basis.T @ whitened)
        product: FloatArray = (whitened - self._basis @ shrunk) / scale
        return product

    def precision_within(self, frame: FloatArray) -> FloatArray:
        """Return the inverse covariance within an orthonormal frame (d, m), shape (m, m)."""
        spread = self.factor.T @ frame
        if self.isotropic:
            own = np.eye(frame.shape[1]) / self.noise_variance[0]
        else:
            own = frame.T @ (frame / self.noise_variance[:, None])
        within: FloatArray = own - spread.T @ spread
        return within

    def covariance_times(self, y: FloatArray) -> FloatArray:
        """Return the covariance times the columns of `y`, shape (d, n)."""
        product: FloatArray = self.loadings @ (self.loadings.T @ y)
        return product + self.noise_variance[:, None] * y


@dataclass(frozen=True, eq=False)
class LogRatio:
    """A quadratic function of d variables in an eigenbasis of its Hessian.

    Made by `log_ratio`.

    Attributes
    ----------
    anchor : ndarray of shape (d,)
        The point that coordinates are relative to, the mean of the first Gaussian.
    basis : ndarray of shape (d, m)
        Orthonormal eigenvectors, as columns.
    curvature : ndarray of shape (m,)
        Their eigenvalues.
    slope : ndarray of shape (m,)
        Gradient at the anchor, in this basis.
    constant : float
        Value at the anchor.
    outer_curvature : float
        The eigenvalue of all directions outside the basis; 0 where there are none.
    """

    anchor: FloatArray
    basis: FloatArray
    curvature: FloatArray
    slope: FloatArray
    constant: float
    outer_curvature: float

    @property
    def n_outer(self) -> int:
        """Number of dimensions outside the basis, d - m."""
        return int(self.basis.shape[0] - self.basis.shape[1])

    @property
    def n_coordinates(self) -> int:
        """Number of coordinates of `expand`: m + 1, or m without directions outside."""
        return self.curvature.size + (self.n_outer > 0)

    def negated(self) -> LogRatio:
        """Return the negative of the function, in the same coordinates."""
        return LogRatio(
            self.anchor,
            self.basis,
            -self.curvature,
            -self.slope,
            -self.constant,
            -self.outer_curvature,
        )

    def coordinates(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return coordinates (n, m) of points (n, d), and their distances from the span, (n,)."""
        y = x - self.anchor
        inner = y @ self.basis
        if self.n_outer == 0:
            return inner, np.zeros(len(x))
        return inner, np.linalg.norm(y - inner @ self.basis.T, axis=1)

    def value(self, x: FloatArray) -> FloatArray:
        """Return the function at points (n, d), shape (n,)."""
        inner, outer = self.coordinates(x)
        quadratic = inner @ self.slope + 0.5 * inner**2 @ self.curvature
        value: FloatArray = self.constant + quadratic + 0.5 * self.outer_curvature * outer**2
        return value

    def expand(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the eigenvalues and the gradients at points (n, d), in m + 1 coordinates.

        The last coordinate is the distance from the span; it is left out where there are no
        directions outside.
        """
        inner, outer = self.coordinates(x)
        gradient = self.slope + self.curvature * inner
        if self.n_outer == 0:
            return self.curvature, gradient
        curvature = np.append(self.curvature, self.outer_curvature)
        return curvature, np.column_stack([gradient, self.outer_curvature * outer])

    def move(self, x: FloatArray, step: FloatArray) -> FloatArray:
        """Return points (n, d) after steps in the coordinates of `expand`."""
        if self.n_outer == 0:
            return x + step @ self.basis.T
        n_inner = self.basis.shape[1]
        inner, outer = self.coordinates(x)
        aside = x - self.anchor - inner @ self.basis.T
        on_span = outer <= 1e-12 * (1 + np.linalg.norm(inner, axis=1))
        aside[on_span] = outside(self.basis)  # every direction outside is as good
        aside /= np.linalg.norm(aside, axis=1, keepdims=True)
        moved: FloatArray = x + step[:, :n_inner] @ self.basis.T + step[:, n_inner:] * aside
        return moved


def log_ratio(
    normals: Sequence[LowRankNormal],
    coefficients: npt.ArrayLike = (1.0, -1.0),
    *,
    offset: float = 0.0,
) -> LogRatio:
    """Return a linear combination of log densities as one quadratic in a small subspace.

    Parameters
    ----------
    normals : sequence of LowRankNormal
        Gaussians of the same dimension.
    coefficients : array_like
        Coefficient of each log density; the default is the log ratio of a pair.
    offset : float
        What is added, for instance the log prior odds.

    Returns
    -------
    LogRatio
        With at most one coordinate for each factor and each mean if every noise is isotropic, and
        with d coordinates otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> narrow = LowRankNormal(np.zeros(3), np.zeros((3, 0)), 1.0)
    >>> broad = LowRankNormal(np.zeros(3), np.zeros((3, 0)), 4.0)
    >>> ratio = log_ratio([narrow, broad])
    >>> ratio.value(np.zeros((1, 3))).round(4), ratio.outer_curvature  # 3 log 2
    (array([2.0794]), -0.75)
    """
    weights = finite_array("coefficients", coefficients)
    if weights.shape != (len(normals),) or len({n.mean.size for n in normals}) != 1:
        raise ValueError(
            f"log_ratio needs one coefficient for each Gaussian and Gaussians of one dimension, "
            f"got {len(normals)} of dimensions {[n.mean.size for n in normals]} and coefficients "
            f"of shape {weights.shape}."
        )
    anchor = normals[0].mean
    shifts = np.column_stack([n.mean - anchor for n in normals])
    pulls = [n.precision_times(s[:, None])[:, 0] for n, s in zip(normals, shifts.T, strict=True)]
    constant = finite("offset", offset) + sum(
        w * (n.log_peak - 0.5 * float(s @ p))
        for w, n, s, p in zip(weights, normals, shifts.T, pulls, strict=True)
    )
    frame = span_frame(normals)
    outer = -sum(w / n.noise_variance[0] for w, n in zip(weights, normals, strict=True))
    if frame.shape[0] == frame.shape[1]:
        outer = 0.0
    hessian = -sum(w * n.precision_within(frame) for w, n in zip(weights, normals, strict=True))
    curvature, rotation = np.linalg.eigh(0.5 * (hessian + np.transpose(hessian)))
    largest = max(abs(w) / n.noise_variance.min() for w, n in zip(weights, normals, strict=True))
    basis = frame @ rotation
    gradient = np.column_stack(pulls) @ weights
    return LogRatio(
        anchor,
        basis,
        np.where(np.abs(curvature) < ROUNDING * largest, 0.0, curvature),
        basis.T @ gradient,
        float(constant),
        0.0 if abs(outer) < ROUNDING * largest else float(outer),
    )


def outside(frame: FloatArray) -> FloatArray:
    """Return a unit vector orthogonal to the columns of a frame (d, m), m < d (not public)."""
    axis = int(np.argmin((frame**2).sum(axis=1)))  # the axis farthest from the span
    vector = -frame @ frame[axis]
    vector[axis] += 1.0
    unit: FloatArray = vector / np.linalg.norm(vector)
    return unit


def span_frame(normals: Sequence[LowRankNormal]) -> FloatArray:
    """Return an orthonormal frame (d, m) of all loadings and differences of means (not public).

    It is the identity where noises are not isotropic or the span may fill the space. Householder's
    method gives orthonormal columns whose span contains that of the input whatever its rank, so
    that no rank has to be decided on.
    """
    dim = normals[0].mean.size
    shifts = [(n.mean - normals[0].mean)[:, None] for n in normals[1:]]
    columns = np.column_stack([*(n.loadings for n in normals), *shifts])
    if columns.shape[1] >= dim or not all(n.isotropic for n in normals):
        return np.eye(dim)
    lengths = np.linalg.norm(columns, axis=0)
    frame: FloatArray = np.linalg.qr(columns / np.where(lengths > 0, lengths, 1.0))[0]
    return frame


def pair_log_error(first: LowRankNormal, second: LowRankNormal, *, log_odds: float = 0.0) -> float:
    r"""Return the exact log error rate of the optimal classifier on the first of two Gaussians.

    .. math:: \log P_{x \sim N_1}\left(\log N_1(x) - \log N_2(x) + \text{log odds} < 0\right)

    Parameters
    ----------
    first, second : LowRankNormal
        The Gaussian that points come from, and the other.
    log_odds : float
        Log prior odds of the first.

    Returns
    -------
    float
        Natural logarithm of the error rate; -inf where there is no error.

    Raises
    ------
    ValueError
        If the first covariance is singular in float64.

    Notes
    -----
    Under the first Gaussian, with :math:`v = S u` for a square root S of its covariance within
    the basis and :math:`S^\top \operatorname{diag}(h) S = E \operatorname{diag}(w) E^\top`, the
    log ratio is a sum of noncentral chi-squares of weights w / 2, a normal variable for vanishing
    w, and :math:`\gamma \sigma_1^2 / 2` times a chi-square of d - m degrees of freedom.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = (LowRankNormal([m, 0.0], np.zeros((2, 0)), 1.0) for m in (-2.0, 2.0))
    >>> round(math.exp(pair_log_error(one, two)), 6)  # the normal tail beyond 2
    0.02275
    """
    ratio = log_ratio([first, second], offset=log_odds)
    inner = ratio.basis.T @ first.covariance_times(ratio.basis)
    try:
        root = np.linalg.cholesky(inner)
    except np.linalg.LinAlgError as error:
        raise ValueError(
            "the first Gaussian's covariance must be positive definite in float64: its loadings "
            "are too large for its noise."
        ) from error
    form, rotation = np.linalg.eigh(root.T @ (ratio.curvature[:, None] * root))
    linear = rotation.T @ (root.T @ ratio.slope)
    # The covariance stretches the curvatures, and their rounding errors with them.
    spread = np.abs(root.T) @ (np.abs(ratio.curvature)[:, None] * np.abs(root))
    curved = np.abs(form) > ROUNDING * spread.max(initial=0.0)
    weights, degrees = 0.5 * form[curved], np.ones(int(curved.sum()))
    shift = (linear[curved] / form[curved]) ** 2
    constant = ratio.constant - float(weights @ shift)
    if ratio.n_outer:
        weights = np.append(weights, 0.5 * ratio.outer_curvature * first.noise_variance[0])
        degrees, shift = np.append(degrees, ratio.n_outer), np.append(shift, 0.0)
    if weights.size == 0:
        weights, degrees, shift = np.zeros(1), np.ones(1), np.zeros(1)
    return float(
        log_tail(
            weights,
            degrees=degrees,
            noncentrality=shift,
            normal_std=float(np.linalg.norm(linear[~curved])),
            constant=constant,
            tail="lower",
        )
    )
