"""The plane problems that show when optimal classifiers are robust and when they are not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from trueboundary.densities import LowRankGaussian, MixtureOfFactorAnalyzers
from trueboundary.problems.mixtures import MixtureProblem

#: Panels of Figure 2 of Richardson and Weiss (2021) with Gaussian classes: the upper row (a, b, d)
#: is symmetric, the lower row (e, f, h) is not.
PLANAR_PANELS = ("a", "b", "d", "e", "f", "h")

_Component = tuple[float, tuple[float, float], tuple[float, float], float]


def planar_gaussian(
    mean: tuple[float, float],
    stds: tuple[float, float],
    angle: float = 0.0,
    *,
    dtype: torch.dtype = torch.float64,
) -> LowRankGaussian:
    """Return a Gaussian in the plane, given by its standard deviations along two axes.

    Parameters
    ----------
    mean : tuple of float
        Its mean.
    stds : tuple of float
        Standard deviations along the axis at `angle` and across it; the first is not smaller.
    angle : float
        Angle of the first axis to the horizontal, in radians.
    dtype : torch.dtype
        float32 or float64.

    Examples
    --------
    >>> planar_gaussian((0.0, 0.0), (2.0, 1.0)).covariance_matrix.round(decimals=6).tolist()
    [[4.0, 0.0], [0.0, 1.0]]
    """
    component = planar_mixture([(1.0, mean, stds, angle)], dtype=dtype)
    return component.component(0)


def planar_mixture(
    components: Sequence[_Component], *, dtype: torch.dtype = torch.float64
) -> MixtureOfFactorAnalyzers:
    """Return a mixture of Gaussians in the plane, with one factor per component.

    Parameters
    ----------
    components : sequence of tuples
        For each component its weight, mean, standard deviations and angle, the last three as in
        `planar_gaussian`.
    dtype : torch.dtype
        float32 or float64.
    """
    loadings, noise = [], []
    for _, _, (major, minor), angle in components:
        if not 0 < minor <= major:
            raise ValueError(
                f"stds must be positive, the larger first, got {(major, minor)}; turn the axes by "
                "pi/2 in place of exchanging them."
            )
        length = math.sqrt(major**2 - minor**2)
        loadings.append([[length * math.cos(angle)], [length * math.sin(angle)]])
        noise.append(minor**2)
    weights, means = zip(*((weight, mean) for weight, mean, _, _ in components), strict=True)
    return MixtureOfFactorAnalyzers(
        torch.tensor(weights, dtype=dtype),
        torch.tensor(means, dtype=dtype),
        torch.tensor(loadings, dtype=dtype),
        torch.tensor(noise, dtype=dtype),
    )


def planar_problem(panel: str, *, small_std: float = 0.02) -> MixtureProblem:
    """Return one of the Gaussian problems in the plane, float64, with equal priors.

    Class 0 is the class that loses its robustness in the lower row. The paper shows these problems
    without their parameters; the ones here are chosen to look alike and to say the same.

    Parameters
    ----------
    panel : {"a", "b", "d", "e", "f", "h", "three"}
        Panel of Figure 2: spherical Gaussians of equal variance (a); elongated ones of equal
        smallest variance (b); two elongated Gaussians per class (d); a Gaussian that is narrow in
        one direction beside a spherical one (e) and beside an elongated one (f); the mixtures of
        (d), narrow, with a rare broad Gaussian added to each class (h). The paper does not have
        "three": an elongated Gaussian, two bars and a spherical Gaussian, each class with errors
        into both of the others.
    small_std : float
        Smallest standard deviation in the lower row; the smaller, the nearer is the boundary.

    References
    ----------
    Richardson and Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*, Figure 2.

    Examples
    --------
    >>> from trueboundary.problems import planar_problem
    >>> planar_problem("h").density_0.n_components
    3
    """
    tilt = math.pi / 6
    if panel == "a":
        return MixtureProblem(
            planar_gaussian((-2.0, 0.0), (0.5, 0.5)), planar_gaussian((2.0, 0.0), (0.5, 0.5))
        )
    if panel == "b":
        return MixtureProblem(
            planar_gaussian((-2.0, 0.0), (1.0, 0.2), math.pi / 2 - tilt),
            planar_gaussian((2.0, 0.0), (1.0, 0.2), math.pi / 2 + tilt),
        )
    if panel == "e":
        return MixtureProblem(
            planar_gaussian((-2.0, 0.0), (0.5, small_std), math.pi / 2),
            planar_gaussian((2.0, 0.0), (0.5, 0.5)),
        )
    if panel == "f":
        return MixtureProblem(
            planar_gaussian((-2.0, 0.0), (1.0, small_std), math.pi / 2 - tilt),
            planar_gaussian((2.0, 0.0), (1.2, 0.6), math.pi / 2 + tilt),
        )
    if panel == "d":
        return MixtureProblem(_two_bars(-1.0, 0.15), _two_bars(1.0, 0.15))
    if panel == "h":
        # Each broad component leans towards the other class. At a class's own bars that of the
        # other class must win, or leaving the bars would not change the decision.
        right, left = ((0.01, (m, 0.0), (3.0, 3.0), 0.0) for m in (0.5, -0.5))
        return MixtureProblem(_two_bars(-1.0, small_std, right), _two_bars(1.0, small_std, left))
    if panel == "three":
        return MixtureProblem(
            planar_gaussian((0.0, 1.5), (1.0, 0.4)),
            _two_bars(-0.75, 0.25),
            planar_gaussian((0.5, -0.8), (0.6, 0.6)),
        )
    raise ValueError(
        f"panel must be one of {', '.join(PLANAR_PANELS)} and three, got {panel!r}; c and g are "
        "tables, see table_problem."
    )


def _two_bars(
    side: float, minor: float, broad: _Component | None = None
) -> MixtureOfFactorAnalyzers:
    share = 0.5 if broad is None else 0.5 * (1 - broad[0])
    bars: list[_Component] = [
        (share, (2.0 * side, 1.5), (0.6, minor), math.pi / 3),
        (share, (2.0 * side, -1.5), (0.6, minor), -math.pi / 3),
    ]
    return planar_mixture(bars if broad is None else [*bars, broad])
