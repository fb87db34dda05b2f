"""Realistic image problems: mixtures fitted to classes of images, then taken as the truth."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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
    (class 1) a step along one of their principal directions: of two classes, that is the rule of
    Richardson and Weiss (2021). Further pairs of classes take the directions that follow: classes
    2 and 3 step back and forth along that of the next rank, and so on, each step of the same
    number of standard deviations along its own direction. More classes than there are directions
    for are refused.

    Parameters
    ----------
    noise_std : float
        Its standard deviation. Richardson and Weiss (2021) print 0.5 as a standard deviation in
        the journal version of their paper, which their measurements support.
    rank : int
        Number of the principal direction of classes 0 and 1, 1 for that of the largest variance.
    step : float
        Length of the step, in standard deviations of the images along its direction; not stated
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
    """Mixtures fitted to the images of several classes: what all variants are made from.

    Made by `fit_images`.

    Parameters
    ----------
    mixtures : tuple of MixtureOfFactorAnalyzers
        Densities as fitted, float64.
    image_shape : tuple of int
        Channels, height and width.
    class_names : tuple of str
        Names of the classes.
    mean : ndarray
        Mean of all images of all classes, shape ``(dim,)``.
    directions : ndarray
        Their leading principal directions, as rows, shape ``(at most 64, dim)``.
    variances : ndarray
        Variances along these.
    report : dict
        How the fit went, as plain values.
    """

    mixtures: tuple[MixtureOfFactorAnalyzers, ...]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
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
            quadratic mean over the components of all classes. Theorem 2 of the journal version
            needs it; the fitted mixtures do not have it.
        outlier : Outlier, optional
            The broad component of "asymmetric"; that of the paper by default.
        """
        outlier = outlier or Outlier()
        settings = variant_settings(
            variant, noise_std=noise_std, equalise_spectrum=equalise_spectrum, outlier=outlier
        )
        mixtures = list(self.mixtures)
        if variant != "as-fitted":
            if equalise_spectrum:
                mixtures = _equalised(mixtures)
            mixtures = [_with_noise(mixture, settings["noise_std"]) for mixture in mixtures]
        if variant == "asymmetric":
            means = self._outlier_means(outlier)
            mixtures = [
                _with_outlier(*of_class, outlier) for of_class in zip(mixtures, means, strict=True)
            ]
        return ImageProblem(
            *mixtures,
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
        mixtures = tuple(_stored_densities(spec, arrays, cls.__name__))
        return cls(
            cast("tuple[MixtureOfFactorAnalyzers, ...]", mixtures),
            tuple(spec["image_shape"]),
            tuple(spec["class_names"]),
            **{name: np.array(arrays[name]) for name in _DIRECTIONS},
            report=spec["report"],
        )

    def _outlier_means(self, outlier: Outlier) -> list[Array]:
        """Return the means of all classes' outliers, by the rule of `Outlier`."""
        n_classes = len(self.mixtures)
        _check_rank(outlier, len(self.directions), n_classes)
        means = []
        for label in range(n_classes):
            row = outlier.rank - 1 + label // 2
            shift = outlier.step * np.sqrt(self.variances[row]) * self.directions[row]
            means.append(self.mean + shift if label % 2 else self.mean - shift)
        return means


def fit_images(
    x: Array,
    y: Array,
    *,
    image_shape: tuple[int, int, int],
    n_components: int | Sequence[int] | None = 25,
    n_factors: int = 6,
    class_names: Sequence[str] | None = None,
    reg_covar: float = 1e-4,
    tol: float = 1e-3,
    max_iter: int = 100,
    seed: int = 0,
    held_out: tuple[Array, Array] | None = None,
    private: bool = False,
) -> ImageFit:
    """Fit one mixture of factor analyzers with diagonal noise to each class.

    Parameters
    ----------
    x : ndarray
        Flat images, shape ``(n, dim)``, float32 or float64.
    y : ndarray
        Labels 0 to K - 1 of two or more classes, shape ``(n,)``.
    image_shape : tuple of int
        Channels, height and width.
    n_components : int, sequence of int or None
        Components per class: 25 for MNIST in the paper. None stands for its rule for faces, one
        for each thousand images of the class, at least one.
    n_factors : int
        Factors per component: 6 for MNIST and 10 for faces in the paper.
    class_names : sequence of str, optional
        Names of the classes; their labels, up to the largest in `y`, by default.
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
    private : bool
        Whether the images show people. The problems say so, and their points are not exported.
    """
    from trueboundary.densities import MixtureOfFactorAnalyzersEM  # it brings scikit-learn

    # All is checked before the first class is fitted: a fit may take hours.
    seed = check_integer("seed", seed, minimum=0)
    if seed > LARGEST_FIT_SEED:
        raise ValueError(f"seed must be at most {LARGEST_FIT_SEED:,} for a fit, got {seed}.")
    x, y = _checked_images(x, y)
    names = _names_of_classes(class_names, y)
    n_images = [int((y == label).sum()) for label in range(len(names))]
    _check_classes(y, names, n_images)
    image_shape = _checked_shape(image_shape, x.shape[1])
    sizes = _component_numbers(n_components, n_images)
    unseen = None if held_out is None else _checked_images(*held_out)
    if unseen is not None:
        _check_classes(unseen[1], names)
        if unseen[0].shape[1] != x.shape[1]:
            raise ValueError(
                f"the held-out images must have {x.shape[1]} pixels, got {unseen[0].shape[1]}."
            )
    options = {"n_factors": n_factors, "reg_covar": reg_covar, "tol": tol, "max_iter": max_iter}
    mixtures, reports = [], []
    for label, size in enumerate(sizes):
        of_class = x[y == label]  # one class after the other, not a second copy of all
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
        if unseen is not None and np.any(unseen[1] == label):
            of_class = unseen[0][unseen[1] == label]
            likelihood = estimator.score(of_class)
            reports[-1]["held_out"] = {"n_images": len(of_class), "log_likelihood": likelihood}
    return ImageFit(
        tuple(mixtures),
        image_shape,
        names,
        *_principal_directions(x, seed),
        {**options, "seed": seed, "classes": reports, **({"private": True} if private else {})},
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
        `reg_covar`, `tol`, `max_iter`, `seed`, `held_out`, `private`.
    """
    outlier = outlier or Outlier()
    variant_settings(
        variant, noise_std=noise_std, equalise_spectrum=equalise_spectrum, outlier=outlier
    )
    if variant == "asymmetric" and np.ndim(x) == 2:
        names = _names_of_classes(fit_options.get("class_names"), np.asarray(y))
        _check_rank(outlier, _n_directions(*np.shape(x)), len(names))
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


def _component_numbers(n_components: Any, n_images: list[int]) -> list[int]:
    if n_components is None:
        return [max(1, round(n / 1000)) for n in n_images]
    if not isinstance(n_components, Sequence):
        n_components = [n_components] * len(n_images)
    if len(n_components) != len(n_images):
        raise ValueError(
            f"n_components must be one number or {len(n_images)}, one for each class, got "
            f"{n_components!r}."
        )
    numbers = [check_integer("n_components", n, minimum=1) for n in n_components]
    for number, n in zip(numbers, n_images, strict=True):
        if number > n:
            raise ValueError(
                f"n_components={number} needs at least as many images of the class, got {n}."
            )
    return numbers


def _checked_images(x: Array, y: Array) -> tuple[Array, Array]:
    """Return images and labels as arrays, or say what is wrong with them."""
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"x must have shape (n, dim) and y (n,), got {x.shape} and {y.shape}; flatten images."
        )
    if x.size and not np.isfinite([x.min(), x.max()]).all():
        raise ValueError("x must be finite, got infinities or NaN.")
    return x, y


def _names_of_classes(class_names: Sequence[str] | None, y: Array) -> tuple[str, ...]:
    """Return the names of all classes, by default those of the labels up to the largest."""
    if class_names is not None:
        return _checked_names(class_names, len(class_names))
    if y.dtype.kind not in "biuf" or not np.isfinite(y).all():
        raise ValueError(
            f"y must hold the labels 0 to K - 1 as finite numbers, got {y.ravel()[:5].tolist()}."
        )
    largest = y.max(initial=0)
    # More classes than images would have one without, whatever their number.
    return tuple(map(str, range(1 + int(min(max(largest, 0), y.size)))))


def _check_classes(y: Array, names: Sequence[str], n_images: Sequence[int] | None = None) -> None:
    """Raise unless labels are those of two classes or more, of all if numbers are given."""
    n_classes = len(names)
    if n_classes < 2:
        raise ValueError(
            f"a problem needs images of two classes or more, got {', '.join(map(repr, names))} "
            "alone."
        )
    known = "0 and 1" if n_classes == 2 else f"0 to {n_classes - 1}"
    wanted = f"y must hold the labels {known}, and each at least once"
    others = np.unique(y[~np.isin(y, np.arange(n_classes))])
    if len(others):
        raise ValueError(f"{wanted}, got {', '.join(map(str, others[:5]))}.")
    if n_images is not None and not all(n_images):
        label = n_images.index(0)
        raise ValueError(f"{wanted}, but class {names[label]!r} (label {label}) has no images.")


def _check_rank(outlier: Outlier, n_directions: int, n_classes: int) -> None:
    most = n_directions - (n_classes - 1) // 2
    if outlier.rank > most:
        raise ValueError(
            f"outlier rank must be at most {most} here, since {n_classes} classes take "
            f"{(n_classes + 1) // 2} of the {n_directions} principal directions kept, got "
            f"{outlier.rank}."
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


def _equalised(mixtures: Sequence[MixtureOfFactorAnalyzers]) -> list[MixtureOfFactorAnalyzers]:
    """Give the loadings of all components the same singular values."""
    parts = [torch.linalg.svd(mixture.loadings, full_matrices=False) for mixture in mixtures]
    common = torch.cat([spectrum for _, spectrum, _ in parts]).square().mean(dim=0).sqrt()
    return [
        MixtureOfFactorAnalyzers(
            None,
            mixture.means,
            (left * common) @ right,
            mixture.noise_variance,
            log_weights=mixture.log_weights,
        )
        for mixture, (left, _, right) in zip(mixtures, parts, strict=True)
    ]
