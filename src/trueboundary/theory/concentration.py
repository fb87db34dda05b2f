r"""Concentration inequalities for weighted sums of squares, as upper bounds of error rates.

An ellipsoid's error rate is P(Q > 0) for :math:`Q = \sum_i a_i u_i^2` with standard normal u and
weights of both signs (`trueboundary.theory.quadratic_forms.ellipsoid_weights`). With
:math:`t = -E[Q] = -\sum_i a_i > 0` it is the chance of an excess of t over the mean. All bounds
here rest on one inequality for the moment generating function,

.. math:: \log E\, e^{\lambda (Q - E[Q])} \le \frac{v \lambda^2}{2 (1 - c \lambda)},
          \qquad v = 2 \sum_i a_i^2, \quad c = 2 \max_i a_i^+,

which holds for :math:`0 \le \lambda < 1/c`: a positive weight a contributes
:math:`-a \lambda - \log(1 - 2 a \lambda)/2 \le a^2 \lambda^2 / (1 - 2 a \lambda)`, a negative
one at most :math:`a^2 \lambda^2`. They are therefore rigorous and never below Chernoff's bound,
which minimises the exact function.
"""

import math

import numpy as np
import numpy.typing as npt

from trueboundary import _checks

__all__ = ["bernstein_log_bound", "hanson_wright_log_bound", "laurent_massart_log_bound"]


def laurent_massart_log_bound(weights: npt.ArrayLike) -> float:
    r"""Return the log of Laurent and Massart's bound for P(Q > 0).

    :math:`P(Q - E[Q] \ge \sqrt{2 v x} + c x) \le e^{-x}`, solved for the x whose threshold is t.

    Parameters
    ----------
    weights : array_like of shape (d,)
        Weights a of both signs.

    Returns
    -------
    float
        Upper bound of log P(Q > 0); 0, which says nothing, where the mean of Q is not negative.

    References
    ----------
    .. [1] B. Laurent and P. Massart, "Adaptive estimation of a quadratic functional by model
       selection", Annals of Statistics 28 (2000), Lemma 1; for weights of both signs see [2].
    .. [2] S. Boucheron, G. Lugosi and P. Massart, "Concentration Inequalities", Oxford 2013,
       Section 2.4.

    Examples
    --------
    >>> round(laurent_massart_log_bound([1.0] + [-1.0] * 99), 3)
    -12.977
    """
    t, v, c = _moments(weights)
    if t <= 0:
        return 0.0
    # c x + sqrt(2 v x) = t, with the root written so that c may be 0.
    root = 2 * t / (math.sqrt(2 * v) + math.sqrt(2 * v + 4 * c * t))
    return -(root**2)


def bernstein_log_bound(weights: npt.ArrayLike) -> float:
    r"""Return the log of Bernstein's bound :math:`e^{-t^2 / (2 (v + c t))}` for P(Q > 0).

    Parameters
    ----------
    weights : array_like of shape (d,)
        Weights a of both signs.

    Returns
    -------
    float
        Upper bound of log P(Q > 0); 0 where the mean of Q is not negative.

    References
    ----------
    .. [1] S. Boucheron, G. Lugosi and P. Massart, "Concentration Inequalities", Oxford 2013,
       Corollary 2.11.

    Examples
    --------
    >>> round(bernstein_log_bound([1.0] + [-1.0] * 99), 3)
    -12.126
    """
    t, v, c = _moments(weights)
    return 0.0 if t <= 0 else -(t**2) / (2 * (v + c * t))


def hanson_wright_log_bound(weights: npt.ArrayLike) -> float:
    r"""Return the log of the bound of Hanson and Wright's form for P(Q > 0).

    :math:`\exp(-\tfrac18 \min(t^2 / \|a\|_2^2,\; t / \|a\|_\infty))`. The inequality is stated with
    an unspecified constant for all sub-Gaussian variables; for Gaussian ones 1/8 follows from
    Bernstein's bound, as :math:`2 (v + c t) \le \max(4 v, 4 c t)`.

    Parameters
    ----------
    weights : array_like of shape (d,)
        Weights a of both signs.

    Returns
    -------
    float
        Upper bound of log P(Q > 0); 0 where the mean of Q is not negative.

    References
    ----------
    .. [1] M. Rudelson and R. Vershynin, "Hanson-Wright inequality and sub-gaussian concentration",
       Electronic Communications in Probability 18 (2013), Theorem 1.1.

    Examples
    --------
    >>> round(hanson_wright_log_bound([1.0] + [-1.0] * 99), 3)
    -12.005
    """
    a = _vector(weights)
    t, v, _ = _moments(a)
    return 0.0 if t <= 0 else -min(t**2 / (v / 2), t / float(np.abs(a).max())) / 8


def _moments(weights: npt.ArrayLike) -> tuple[float, float, float]:
    """Return t = -E[Q], the variance factor v and the scale c."""
    a = _vector(weights)
    return -math.fsum(a), 2 * math.fsum(a * a), 2 * max(float(a.max()), 0.0)


def _vector(weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
    a = _checks.finite_array("weights", weights)
    if a.ndim != 1 or a.size == 0:
        raise ValueError(f"weights must be one axis of at least one number, got {a.shape}.")
    return a
