"""Realistic image problems: mixtures fitted to two classes of images, then taken as the truth."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch

from trueboundary._checks import check_integer, check_real
from trueboundary.densities import MixtureOfFactorAnalyzers
from trueboundary.problems.images import (
    Array,
    ImageProblem,
    Variant,
    _checked_names,
    _checked_shape,
    check_variant,
)
from trueboundary.problems.mixtures import _stored_densities

_DIRECTIONS = ("mean", "directions", "variances")  # of the images, by the names of the fields
# Principal directions of the images that a fit keeps, for the choice of outliers.
_N_DIRECTIONS = 64
#: Standard deviations of noise: points are stored as float32, which holds the squares of these.
LEAST_STD, LARGEST_STD = 1e-18, 1e18
#: What the fit's generators take at most.
LARGEST_FIT_SEED = 2**32 - 1
# Above this dimension principal directions are found by random projections, not from covariances.
_COVARIANCE_DIM = 2048


@dataclass(frozen=True)
class Outlier:
    """The broad component that an asymmetric problem adds to each class.

    It is a spherical Gaussian. Its mean is the mean of all images, minus (class 0) or plus
    (class 1) a step along one of their principal directions.

    Parameters
    ----------
    noise_std : float
        Its standard deviation. Richardson and Weiss (2021) print 0.5 as a standard deviation in
        the journal version of their paper, which their measurements support.
    rank : int
        Number of the principal direction, 1 for that of the largest variance.
    step : float
        Length of the step, in standard deviations of the images along that direction; not stated
        in the paper.
    weight : float
        Mixing weight, "low" in the paper; the other components share the rest.
    """

    noise_std: float = 0.5
    rank: int = 50
    step: float = 1.0
    weight: float = 0.01

    def __post_init__(self) -> None:
        _check_std("outlier noise_std", self.noise_std)
        check_integer("outlier rank", self.rank, minimum=1)
        if abs(check_real("outlier step", self.step)) > LARGEST_STD:
            raise ValueError(
                f"outlier step must lie within {LARGEST_STD:g} of 0, got {self.step!r}."
            )
        if not 0 < check_real("outlier weight", self.weight) < 1:
            raise ValueError(
                f"outlier weight must lie strictly between 0 and 1, got {self.weight!r}."
            )


@dataclass(frozen=True, eq=False)
class ImageFit:
    """Mixtures fitted to the images of two classes: what all variants are made from.

    Made by `fit_images`.

    Parameters
    ----------
    mixtures : tuple of MixtureOfFactorAnalyzers
        Densities as fitted, float64.
    image_shape : tuple of int
        Channels, height and width.
    class_names : tuple of str
        Names of class 0 and class 1.
    mean : ndarray
        Mean of all images of both classes, shape ``(dim,)``.
    directions : ndarray
        Their leading principal directions, as rows, shape ``(at most 64, dim)``.
    variances : ndarray
        Variances along these.
    report : dict
        How the fit went, as plain values.
    """

    mixtures: tuple[MixtureOfFactorAnalyzers, MixtureOfFactorAnalyzers]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, str]
    mean: Array
    directions: Array
    variances: Array
    report: dict[str, Any]

    def problem(
        self,
        variant: Variant = "symmetric",
        *,
        noise_std: float = 0.01,
        equalise_spectrum: bool = False,
        outlier: Outlier | None = None,
    ) -> ImageProblem:
        """Return one variant of the problem, in float64 and with equal priors.

        Parameters
        ----------
        variant : {"symmetric", "asymmetric", "as-fitted"}
            "symmetric" gives all components the same noise; "asymmetric" also adds a broad outlier
            to each class; "as-fitted" changes nothing, so that the other parameters do not count.
        noise_std : float
            Noise standard deviation of all pixels: 0.01 in the journal version of the paper,
            0.001 and 0.05 in the earlier one.
        equalise_spectrum : bool
            Give the loadings of all components the same singular values: of each rank, the
            quadratic mean over the components of both classes. Theorem 2 of the journal version
            needs it; the fitted mixtures do not have it.
        outlier : Outlier, optional
            The broad component of "asymmetric"; that of the paper by default.
        """
        outlier = outlier or Outlier()
        settings = variant_settings(
            variant, noise_std=noise_std, equalise_spectrum=equalise_spectrum, outlier=outlier
        )
        zero, one = self.mixtures
        if variant != "as-fitted":
            if equalise_spectrum:
                zero, one = _equalised(zero, one)
            zero, one = (_with_noise(mixture, settings["noise_std"]) for mixture in (zero, one))
        if variant == "asymmetric":
            shift = self._outlier_shift(outlier)
            zero = _with_outlier(zero, self.mean - shift, outlier)
            one = _with_outlier(one, self.mean + shift, outlier)
        return ImageProblem(
            zero,
            one,
            image_shape=self.image_shape,
            class_names=self.class_names,
            variant=variant,
            report={**self.report, "settings": settings},
        )

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the fit as plain data, for storage without pickle."""
        spec, arrays = self.problem("as-fitted").to_arrays()
        spec = {**spec, "class": type(self).__name__, "report": self.report}
        own = {name: getattr(self, name) for name in _DIRECTIONS}
        return spec, {**arrays, **own}

    @classmethod
    def from_arrays(cls, spec: dict[str, Any], arrays: dict[str, Array]) -> ImageFit:
        """Rebuild the fit that `to_arrays` described."""
        zero, one = _stored_densities(spec, arrays, cls.__name__)
        return cls(
            cast("tuple[MixtureOfFactorAnalyzers, MixtureOfFactorAnalyzers]", (zero, one)),
            tuple(spec["image_shape"]),
            tuple(spec["class_names"]),
            **{name: np.array(arrays[name]) for name in _DIRECTIONS},
            report=spec["report"],
        )

    def _outlier_shift(self, outlier: Outlier) -> Array:
        _check_rank(outlier, len(self.directions))
        row = outlier.rank - 1
        shift: Array = outlier.step * np.sqrt(self.variances[row]) * self.directions[row]
        return shift


def fit_images(
    x: Array,
    y: Array,
    *,
    image_shape: tuple[int, int, int],
    n_components: int | tuple[int, int] | None = 25,
    n_factors: int = 6,
    class_names: tuple[str, str] = ("0", "1"),
    reg_covar: float = 1e-4,
    tol: float = 1e-3,
    max_iter: int = 100,
    seed: int = 0,
    held_out: tuple[Array, Array] | None = None,
) -> ImageFit:
    """Fit one mixture of factor analyzers with diagonal noise to each class.

    Parameters
    ----------
    x : ndarray
        Flat images, shape ``(n, dim)``, float32 or float64.
    y : ndarray
        Labels 0 or 1, shape ``(n,)``.
    image_shape : tuple of int
        Channels, height and width.
    n_components : int, tuple of int or None
        Components per class: 25 for MNIST in the paper. None stands for its rule for faces, one
        for each thousand images of the class, at least one.
    n_factors : int
        Factors per component: 6 for MNIST and 10 for faces in the paper.
    class_names : tuple of str
        Names of the classes.
    reg_covar : float
        Floor on the noise variances while fitting; pixels that never change would else drive them
        to zero. By default the square of the usual `noise_std`.
    tol, max_iter
        When to stop, as in `MixtureOfFactorAnalyzersEM`. That a fit stopped at `max_iter` is told
        in the report and not warned of.
    seed : int
        Seed of the start.
    held_out : tuple of ndarray, optional
        Images and labels that the mixtures are not fitted to. The report then tells how likely
        they are, each under the mixture of its class.
    """
    from trueboundary.densities import MixtureOfFactorAnalyzersEM  # it brings scikit-learn

    # All is checked before the first class is fitted: a fit may take hours.
    seed = check_integer("seed", seed, minimum=0)
    if seed > LARGEST_FIT_SEED:
        raise ValueError(f"seed must be at most {LARGEST_FIT_SEED:,} for a fit, got {seed}.")
    x, rows = _rows_by_class(x, y)
    if not all(map(len, rows)):
        raise ValueError("y must hold the labels 0 and 1, and each at least once.")
    image_shape = _checked_shape(image_shape, x.shape[1])
    _checked_names(class_names, 2)
    sizes = _component_numbers(n_components, [len(r) for r in rows])
    unseen = None if held_out is None else _rows_by_class(*held_out)[1]
    if unseen is not None and unseen[0].shape[1] != x.shape[1]:
        raise ValueError(
            f"the held-out images must have {x.shape[1]} pixels, got {unseen[0].shape[1]}."
        )
    options = {"n_factors": n_factors, "reg_covar": reg_covar, "tol": tol, "max_iter": max_iter}
    mixtures, reports = [], []
    for label, (of_class, size) in enumerate(zip(rows, sizes, strict=True)):
        estimator = MixtureOfFactorAnalyzersEM(
            size,
            noise="diagonal",
            random_state=seed,
            **options,  # type: ignore[arg-type]
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(of_class)
        mixtures.append(estimator.distribution_)
        reports.append(
            {
                "n_images": len(of_class),
                "n_components": size,
                "n_iter": estimator.n_iter_,
                "converged": estimator.converged_,
                "log_likelihood": estimator.lower_bound_,
                "notes": [str(warning.message) for warning in caught],
            }
        )
        if unseen is not None and len(unseen[label]):
            likelihood = estimator.score(unseen[label])
            n_unseen = len(unseen[label])
            reports[-1]["held_out"] = {"n_images": n_unseen, "log_likelihood": likelihood}
    return ImageFit(
        (mixtures[0], mixtures[1]),
        image_shape,
        class_names,
        *_principal_directions(x, seed),
        {**options, "seed": seed, "classes": reports},
    )


def fit_image_problem(
    x: Array,
    y: Array,
    *,
    image_shape: tuple[int, int, int],
    variant: Variant = "symmetric",
    noise_std: float = 0.01,
    equalise_spectrum: bool = False,
    outlier: Outlier | None = None,
    **fit_options: Any,
) -> ImageProblem:
    """Fit one mixture per class and return one variant of the problem.

    `fit_images` followed by `ImageFit.problem`; to make several variants, fit once.

    Parameters
    ----------
    x, y, image_shape
        Images and labels, as in `fit_images`.
    variant, noise_std, equalise_spectrum, outlier
        As in `ImageFit.problem`.
    **fit_options
        Further parameters of `fit_images`: `n_components`, `n_factors`, `class_names`,
        `reg_covar`, `tol`, `max_iter`, `seed`, `held_out`.
    """
    outlier = outlier or Outlier()
    variant_settings(
        variant, noise_std=noise_std, equalise_spectrum=equalise_spectrum, outlier=outlier
    )
    if variant == "asymmetric" and np.ndim(x) == 2:
        _check_rank(outlier, _n_directions(*np.shape(x)))
    fit = fit_images(x, y, image_shape=image_shape, **fit_options)
    return fit.problem(
        variant, noise_std=noise_std, equalise_spectrum=equalise_spectrum, outlier=outlier
    )


def variant_settings(
    variant: str, *, noise_std: float, equalise_spectrum: bool, outlier: Outlier
) -> dict[str, Any]:
    """Return the settings that count for a variant as plain values, or say which is wrong."""
    noise_std = _check_std("noise_std", noise_std)
    settings: dict[str, Any] = {"variant": check_variant(variant)}
    if variant != "as-fitted":
        settings |= {"noise_std": noise_std, "equalise_spectrum": bool(equalise_spectrum)}
    if variant == "asymmetric":
        settings["outlier"] = asdict(outlier)
    return settings


def _check_std(name: str, value: Any) -> float:
    std = check_real(name, value, above=0.0)
    if not LEAST_STD <= std <= LARGEST_STD:
        raise ValueError(f"{name} must lie between {LEAST_STD:g} and {LARGEST_STD:g}, got {std!r}.")
    return std


def _component_numbers(
    n_components: int | tuple[int, int] | None, n_images: list[int]
) -> tuple[int, int]:
    if n_components is None:
        zero, one = (max(1, round(n / 1000)) for n in n_images)
        return zero, one
    pair = n_components if isinstance(n_components, tuple) else (n_components, n_components)
    if len(pair) != 2:
        raise ValueError(f"n_components must be one number or two, got {n_components!r}.")
    zero, one = (check_integer("n_components", n, minimum=1) for n in pair)
    for number, n in zip((zero, one), n_images, strict=True):
        if number > n:
            raise ValueError(
                f"n_components={number} needs at least as many images of the class, got {n}."
            )
    return zero, one


def _rows_by_class(x: Array, y: Array) -> tuple[Array, list[Array]]:
    """Return images as an array and split by class, or say what is wrong with them."""
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"x must have shape (n, dim) and y (n,), got {x.shape} and {y.shape}; flatten images."
        )
    if x.size and not np.isfinite([x.min(), x.max()]).all():
        raise ValueError("x must be finite, got infinities or NaN.")
    rows = [x[y == label] for label in (0, 1)]
    if sum(map(len, rows)) != len(x):
        raise ValueError("y must hold the labels 0 and 1, and each at least once.")
    return x, rows


def _check_rank(outlier: Outlier, n_directions: int) -> None:
    if outlier.rank > n_directions:
        raise ValueError(
            f"outlier rank must be at most {n_directions} here, the number of principal "
            f"directions kept, got {outlier.rank}."
        )


def _n_directions(n_rows: int, dim: int) -> int:
    return min(_N_DIRECTIONS, n_rows - 1, dim)


def _principal_directions(x: Array, seed: int) -> tuple[Array, Array, Array]:
    """Return the mean, the leading principal directions (signs fixed) and their variances."""
    from sklearn.decomposition import PCA  # slow to import, and only fitting needs it

    n_rows, dim = x.shape
    solver = "covariance_eigh" if dim <= _COVARIANCE_DIM else "randomized"
    pca = PCA(
        _n_directions(n_rows, dim), svd_solver=solver, iterated_power=7, random_state=seed
    ).fit(x)
    directions = pca.components_.astype(np.float64)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    directions *= np.sign(largest)
    return pca.mean_.astype(np.float64), directions, pca.explained_variance_.astype(np.float64)


def _with_noise(mixture: MixtureOfFactorAnalyzers, noise_std: float) -> MixtureOfFactorAnalyzers:
    return MixtureOfFactorAnalyzers(
        None, mixture.means, mixture.loadings, noise_std**2, log_weights=mixture.log_weights
    )


def _with_outlier(
    mixture: MixtureOfFactorAnalyzers, mean: Array, outlier: Outlier
) -> MixtureOfFactorAnalyzers:
    broad = torch.full_like(mixture.noise_variance[:1], outlier.noise_std**2)
    weight = mixture.log_weights.new_tensor([outlier.weight])
    return MixtureOfFactorAnalyzers(
        None,
        torch.cat([mixture.means, torch.from_numpy(mean)[None].to(mixture.means)]),
        torch.cat([mixture.loadings, torch.zeros_like(mixture.loadings[:1])]),
        torch.cat([mixture.noise_variance, broad]),
        log_weights=torch.cat([mixture.log_weights + (-weight).log1p(), weight.log()]),
    )


def _equalised(
    *mixtures: MixtureOfFactorAnalyzers,
) -> tuple[MixtureOfFactorAnalyzers, MixtureOfFactorAnalyzers]:
    """Give the loadings of all components the same singular values."""
    parts = [torch.linalg.svd(mixture.loadings, full_matrices=False) for mixture in mixtures]
    common = torch.cat([spectrum for _, spectrum, _ in parts]).square().mean(dim=0).sqrt()
    zero, one = (
        MixtureOfFactorAnalyzers(
            None,
            mixture.means,
            (left * common) @ right,
            mixture.noise_variance,
            log_weights=mixture.log_weights,
        )
        for mixture, (left, _, right) in zip(mixtures, parts, strict=True)
    )
    return zero, one
