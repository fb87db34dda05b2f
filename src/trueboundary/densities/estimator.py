"""The scikit-learn estimator that fits a mixture of factor analyzers to data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from trueboundary._checks import check_integer, check_real
from trueboundary.densities._starts import LABELLERS, Survey, start, survey
from trueboundary.densities.em import (
    EMPTY_COUNT,
    Array,
    Expectation,
    Method,
    MixtureParameters,
    SufficientStatistics,
    cancellation,
    choose_method,
    maximisation,
    relative_to,
)
from trueboundary.densities.mixture import MixtureOfFactorAnalyzers
from trueboundary.densities.stored_densities import read_folder, write_folder

Batches = Callable[[], Iterable[ArrayLike]]
Shard = Callable[[], ArrayLike]
# Gives the statistics of every part of the data, always in the same order.
_Pass = Callable[[Expectation], Iterable[SufficientStatistics]]
_FLOATS = [np.float64, np.float32]
_FITTED_ARRAYS = ("weights_", "means_", "loadings_", "noise_variance_", "lower_bounds_")
_FITTED_VALUES = ("n_iter_", "converged_", "n_features_in_")
# Rows are scored in blocks of about this many numbers.
_BLOCK_NUMBERS = 2**24


@dataclass(frozen=True)
class _Fit:
    """Where one run of the iteration ended; the statistics hold the parameters."""

    statistics: SufficientStatistics
    lower_bounds: list[float]
    converged: bool


class MixtureOfFactorAnalyzersEM(DensityMixin, BaseEstimator):  # type: ignore[misc]
    r"""Fit a mixture of factor analyzers by exact expectation maximisation.

    The model is :math:`p(x) = \sum_k \pi_k N(x; \mu_k, A_k A_k^\top + D_k)` with diagonal or
    isotropic noise. Data may lie in memory (`fit`) or come in batches (`fit_batches`), with the
    same result. The log likelihood never falls from one iteration to the next. Both hold up to
    rounding.

    Parameters
    ----------
    n_components : int
        Number of components K.
    n_factors : int
        Number of factors l of each component, at most the number of features; 0 gives diagonal
        or spherical covariances.
    noise : {"diagonal", "isotropic"} or float
        One noise variance for each coordinate and component, or one for each component. A number
        is a noise *variance* that all share and that is not fitted.
    tol : float
        Stop once an iteration gains less than this, in nats per row.
    max_iter : int
        Largest number of iterations.
    n_init : int
        Number of starts; the fit of the highest likelihood is kept.
    reg_covar : float
        Floor on the noise variances. Nothing is added to them: the iteration maximises the
        likelihood subject to the floor.
    init_params : {"kmeans", "random"}
        How rows are grouped for the start: by k-means, or by the nearest of K random rows. Each
        group then starts from its principal components.
    random_state : int, RandomState or None
        Source of the random numbers of the start and of `sample`.

    Attributes
    ----------
    weights_ : ndarray
        Mixing weights, shape ``(K,)``.
    means_ : ndarray
        Means, shape ``(K, d)``.
    loadings_ : ndarray
        Factor loadings, shape ``(K, d, l)``.
    noise_variance_ : ndarray
        Noise variances, shape ``(K, d)``.
    lower_bounds_ : ndarray
        Mean log likelihood per row, in nats, of the start and after each iteration, shape
        ``(n_iter_ + 1,)``.
    lower_bound_ : float
        The last of them.
    n_iter_ : int
        Number of iterations of the best start.
    converged_ : bool
        Whether the last iteration gained less than `tol`.
    distribution_ : MixtureOfFactorAnalyzers
        The fitted density, float64.
    n_features_in_ : int
        Number of features.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` was reached, or components are empty or singular at the end; they are named.

    Notes
    -----
    All rows are measured from their mean, which is subtracted in float64: how far from zero the
    data lie does not matter. Rows in float32 are worked on in float32 while noise variances are at
    least 1e-4, rounding errors of the log densities are estimated below 0.01 nat, and iterations
    gain more than that rounding; then, and for rows in float64 always, in float64. The sums over
    rows are float64 in any case.

    A component that expects less than 1e-8 points is empty: it keeps its place and its weight of
    nearly zero. Nothing is started anew, since that would lower the likelihood; more starts
    (`n_init`) or fewer components help.

    References
    ----------
    Ghahramani and Hinton (1996), The EM algorithm for mixtures of factor analyzers; Tipping and
    Bishop (1999), Mixtures of probabilistic principal component analyzers.

    Examples
    --------
    >>> import numpy as np
    >>> from trueboundary.densities import MixtureOfFactorAnalyzersEM
    >>> rng = np.random.default_rng(0)
    >>> line = rng.normal(size=(200, 1)) * [1.0, 1.0] + 0.1 * rng.normal(size=(200, 2))
    >>> estimator = MixtureOfFactorAnalyzersEM(n_factors=1, noise="isotropic").fit(line)
    >>> estimator.loadings_.shape, bool(estimator.converged_)
    ((1, 2, 1), True)
    >>> round(float(estimator.noise_variance_[0, 0]) ** 0.5, 2)
    0.1
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        n_factors: int = 1,
        noise: str | float = "diagonal",
        tol: float = 1e-3,
        max_iter: int = 100,
        n_init: int = 1,
        reg_covar: float = 1e-6,
        init_params: str = "kmeans",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_factors = n_factors
        self.noise = noise
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.reg_covar = reg_covar
        self.init_params = init_params
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: object = None, *, initial: MixtureOfFactorAnalyzers | None = None
    ) -> Self:
        """Fit the mixture to rows in memory.

        Parameters
        ----------
        X : array-like
            Rows, shape ``(n, d)``, with at least as many rows as components.
        y : object
            Not used; part of scikit-learn's contract.
        initial : MixtureOfFactorAnalyzers, optional
            A density to start from, in place of `n_init` starts by `init_params`.

        Returns
        -------
        MixtureOfFactorAnalyzersEM
            This estimator.
        """
        self._check_parameters()
        rows = validate_data(self, X, dtype=_FLOATS, ensure_min_samples=1)
        return self._fit(lambda: iter((rows,)), initial)

    def fit_batches(
        self, batches: Batches, *, initial: MixtureOfFactorAnalyzers | None = None
    ) -> Self:
        """Fit the mixture to rows that come in batches, as often as the iteration needs them.

        The result is that of `fit` on all rows at once, up to rounding. Memory is taken by one
        batch, by the statistics (``K d (l + 3)`` numbers) and, at the start, by at most 2**26
        numbers (512 MiB in float64) of rows drawn at random for the initialisation.

        Parameters
        ----------
        batches : callable
            Returns an iterable over the batches, each an array of shape ``(n_i, d)``; called
            once for each pass, and must give the same rows each time.
        initial : MixtureOfFactorAnalyzers, optional
            A density to start from, in place of `n_init` starts by `init_params`.

        Returns
        -------
        MixtureOfFactorAnalyzersEM
            This estimator.

        Raises
        ------
        ValueError
            If the number of rows changes between passes.

        Examples
        --------
        >>> import numpy as np
        >>> from trueboundary.densities import MixtureOfFactorAnalyzersEM
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> def batches():
        ...     return (x[i : i + 30] for i in range(0, 100, 30))
        >>> streamed = MixtureOfFactorAnalyzersEM(random_state=0).fit_batches(batches)
        >>> in_memory = MixtureOfFactorAnalyzersEM(random_state=0).fit(x)
        >>> np.allclose(streamed.means_, in_memory.means_, rtol=0, atol=1e-10)
        True
        """
        if not callable(batches):
            raise TypeError(
                "batches must be a callable that returns an iterator over arrays, since the "
                f"data are gone through many times; got {type(batches).__name__}."
            )
        self._check_parameters()
        first = True

        def rows() -> Iterator[Array]:
            nonlocal first
            for batch in batches():
                yield validate_data(self, batch, reset=first, dtype=_FLOATS)
                first = False

        return self._fit(rows, initial)

    def fit_shards(
        self,
        executor: Executor,
        shards: Sequence[Shard],
        *,
        initial: MixtureOfFactorAnalyzers | None = None,
    ) -> Self:
        """Fit the mixture to rows that worker processes load by themselves, part by part.

        Each iteration sends the parameters (about ``K d (l + 2)`` numbers) to every shard, and
        gets as many back; rows never travel. Statistics are added in the order of the shards, so
        that the result depends neither on the number of workers nor on which of them does what;
        it is that of `fit` on all rows at once, up to rounding. The first pass, which finds the
        mean and draws rows for the start, is made here.

        Parameters
        ----------
        executor : concurrent.futures.Executor
            Where statistics are collected: a process pool, or a cluster behind that interface.
        shards : sequence of callables
            Each returns the rows of one part, shape ``(n_i, d)``, the same ones each time; must
            be picklable. All parts need the same dtype.
        initial : MixtureOfFactorAnalyzers, optional
            A density to start from, in place of `n_init` starts by `init_params`.

        Returns
        -------
        MixtureOfFactorAnalyzersEM
            This estimator.

        Raises
        ------
        ValueError
            If the number of rows changes between passes.

        Examples
        --------
        >>> import numpy as np
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from functools import partial
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> shards = [partial(x.__getitem__, slice(i, i + 50)) for i in (0, 50)]
        >>> with ThreadPoolExecutor(2) as executor:
        ...     sharded = MixtureOfFactorAnalyzersEM(random_state=0).fit_shards(executor, shards)
        >>> in_memory = MixtureOfFactorAnalyzersEM(random_state=0).fit(x)
        >>> np.allclose(sharded.means_, in_memory.means_, rtol=0, atol=1e-10)
        True
        """
        self._check_parameters()
        first = True

        def rows() -> Iterator[Array]:
            nonlocal first
            for shard in shards:
                yield validate_data(self, shard(), reset=first, dtype=_FLOATS)
                first = False

        def collect(expectation: Expectation) -> Iterable[SufficientStatistics]:
            return executor.map(partial(_collect_shard, expectation), shards)

        return self._fit(rows, initial, collect)

    def score_samples(self, X: ArrayLike) -> Array:
        """Return log densities of rows ``(n, d)``, in nats, float64 ``(n,)``."""
        return self._evaluate(X, MixtureOfFactorAnalyzers.log_prob)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Return the mean log density of rows, in nats; `y` is part of scikit-learn's contract."""
        return float(self.score_samples(X).mean())

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return posterior probabilities of the components for rows ``(n, d)``, ``(n, K)``."""
        return self._evaluate(X, MixtureOfFactorAnalyzers.responsibilities)

    def predict(self, X: ArrayLike) -> Array:
        """Return the most probable component of each row, int64 ``(n,)``."""
        return self._evaluate(X, MixtureOfFactorAnalyzers.map_component)

    def sample(self, n_samples: int = 1) -> tuple[Array, Array]:
        """Draw rows from the fitted density; the same ones again where `random_state` is an int.

        Returns
        -------
        X : ndarray
            Rows, noise included, shape ``(n_samples, d)``.
        y : ndarray
            The component of each, shape ``(n_samples,)``.
        """
        check_is_fitted(self)
        n_samples = check_integer("n_samples", n_samples, minimum=1)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        generator = torch.Generator().manual_seed(int(seed))
        x, labels = self.distribution_.sample_labelled((n_samples,), generator=generator)
        return x.numpy(), labels.numpy()

    def bic(self, X: ArrayLike) -> float:
        """Return the Bayesian information criterion, ``-2 log L + q log n``; lower is better."""
        scores = self.score_samples(X)
        return float(-2 * scores.sum() + self._n_parameters() * np.log(len(scores)))

    def aic(self, X: ArrayLike) -> float:
        """Return Akaike's information criterion, ``-2 log L + 2 q``; lower is better."""
        return float(-2 * self.score_samples(X).sum() + 2 * self._n_parameters())

    def save(self, folder: str | Path) -> Path:
        """Write the fitted estimator into a folder, as JSON and safetensors.

        Parameters
        ----------
        folder : str or Path
            Where to write; created where it is missing, files of the same names are replaced.

        Returns
        -------
        Path
            The folder, for `load`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If a parameter, such as a RandomState, cannot be written as JSON.
        """
        check_is_fitted(self)
        spec = {
            "class": type(self).__name__,
            "parameters": self.get_params(),
            "fitted": {name: getattr(self, name) for name in _FITTED_VALUES},
        }
        try:
            json.dumps(spec)
        except TypeError as error:
            raise TypeError(
                f"a parameter cannot be written as JSON ({error}); set random_state to an "
                "integer or None before saving."
            ) from None
        return write_folder(folder, spec, {name: getattr(self, name) for name in _FITTED_ARRAYS})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read an estimator written by `save`.

        Parameters
        ----------
        folder : str or Path
            The folder it was written into.

        Returns
        -------
        MixtureOfFactorAnalyzersEM
            An estimator equal to the stored one.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If the files are damaged or hold something else.
        """
        spec, arrays = read_folder(folder)
        if spec.get("class") != cls.__name__ or set(arrays) != set(_FITTED_ARRAYS):
            raise ValueError(f"{folder} holds {spec.get('class')!r}, not a {cls.__name__}.")
        try:
            estimator = cls(**spec["parameters"])
            for name in _FITTED_VALUES:
                setattr(estimator, name, spec["fitted"][name])
            for name, array in arrays.items():
                setattr(estimator, name, array)
            estimator._finish()
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{folder} does not hold a whole {cls.__name__}: {error}.") from None
        return estimator

    def _check_parameters(self) -> None:
        for name, minimum in (("n_components", 1), ("n_factors", 0), ("max_iter", 1)):
            check_integer(name, getattr(self, name), minimum=minimum)
        check_integer("n_init", self.n_init, minimum=1)
        if check_real("tol", self.tol) < 0:
            raise ValueError(f"tol must not be negative, got {self.tol!r}.")
        check_real("reg_covar", self.reg_covar, above=0.0)
        if isinstance(self.noise, str):
            if self.noise not in ("diagonal", "isotropic"):
                raise ValueError(
                    "noise must be 'diagonal', 'isotropic' or a positive variance, "
                    f"got {self.noise!r}."
                )
        else:
            check_real("noise", self.noise, above=0.0)
        if self.init_params not in LABELLERS:
            raise ValueError(
                f"init_params must be one of {', '.join(LABELLERS)}, got {self.init_params!r}."
            )

    def _noise(self) -> str | float:
        return self.noise if isinstance(self.noise, str) else float(self.noise)

    def _fit(
        self,
        batches: Callable[[], Iterator[Array]],
        initial: MixtureOfFactorAnalyzers | None,
        collect: _Pass | None = None,
    ) -> Self:
        collect = collect or (lambda expectation: map(expectation, batches()))
        rng = check_random_state(self.random_state)
        known = survey(batches(), rng)
        if known.n_samples < self.n_components:
            raise ValueError(
                f"n_components={self.n_components} needs at least as many rows, "
                f"got n_samples = {known.n_samples}."
            )
        if self.n_factors > len(known.mean):
            raise ValueError(
                f"n_factors={self.n_factors} must be at most the number of features, "
                f"{len(known.mean)}."
            )
        best: _Fit | None = None
        for parameters in self._starts(known, initial, rng):
            fit = self._climb(collect, known, parameters)
            if best is None or fit.lower_bounds[-1] > best.lower_bounds[-1]:
                best = fit
        assert best is not None  # n_init is at least one
        self._set_attributes(best, known)
        self._report(best)
        return self

    def _starts(
        self,
        known: Survey,
        initial: MixtureOfFactorAnalyzers | None,
        rng: np.random.RandomState,
    ) -> Iterator[MixtureParameters]:
        """Yield the starting parameters, measured from the mean of the data."""
        if initial is not None:
            yield self._from_density(initial, known.mean)
            return
        rows = relative_to(known.rows, known.mean, known.rows.dtype)
        for _ in range(self.n_init):
            yield start(
                rows,
                init_params=self.init_params,
                n_components=self.n_components,
                n_factors=self.n_factors,
                noise=self._noise(),
                floor=self.reg_covar,
                rng=rng,
            )

    def _from_density(self, density: MixtureOfFactorAnalyzers, origin: Array) -> MixtureParameters:
        """Return the parameters of a density to start from, fitted to the kind of noise."""
        wanted = (self.n_components, len(origin), self.n_factors)
        if tuple(density.loadings.shape) != wanted:
            raise ValueError(
                "initial must have loadings of shape (n_components, n_features, n_factors) = "
                f"{wanted}, got {tuple(density.loadings.shape)}."
            )
        exact = density.to(dtype=torch.float64, device="cpu")
        noise = np.maximum(exact.noise_variance.numpy(), self.reg_covar)
        kind = self._noise()
        if isinstance(kind, float):
            noise = np.full((self.n_components, 1), kind)
        elif kind == "isotropic":
            noise = noise.mean(axis=1, keepdims=True)
        return MixtureParameters(
            weights=exact.weights.numpy(),
            means=exact.means.numpy() - origin,
            loadings=exact.loadings.numpy(),
            noise_variance=noise,
        )

    def _climb(self, collect: _Pass, known: Survey, parameters: MixtureParameters) -> _Fit:
        """Iterate from one start until an iteration gains less than `tol`."""
        bounds: list[float] = []
        allow_float32 = known.rows.dtype == np.float32
        while True:
            method = choose_method(parameters, known.variance, allow_float32=allow_float32)
            expectation = Expectation(parameters, method, origin=known.mean)
            statistics = _add_up(collect(expectation), known)
            bound = statistics.log_likelihood / known.n_samples
            gain = bound - bounds[-1] if bounds else np.inf
            if method is Method.FLOAT32 and gain < _float32_resolution(parameters, known, bound):
                # The gains have become too small for float32 to see; look again, and stay exact.
                allow_float32 = False
                continue
            bounds.append(bound)
            if gain < self.tol or len(bounds) > self.max_iter:
                return _Fit(statistics, bounds, bool(gain < self.tol))
            parameters = maximisation(
                statistics,
                floor=self.reg_covar,
                fixed_noise=not isinstance(self.noise, str),
            )

    def _set_attributes(self, fit: _Fit, known: Survey) -> None:
        parameters = fit.statistics.parameters
        self.weights_ = parameters.weights
        self.means_ = parameters.means + known.mean
        self.loadings_ = parameters.loadings
        self.noise_variance_ = np.array(
            np.broadcast_to(parameters.noise_variance, parameters.means.shape)
        )
        self.lower_bounds_ = np.array(fit.lower_bounds)
        self.n_iter_ = len(fit.lower_bounds) - 1
        self.converged_ = fit.converged
        self._finish()

    def _finish(self) -> None:
        """Set what follows from the stored attributes."""
        self.lower_bound_ = float(self.lower_bounds_[-1])
        self.distribution_ = MixtureOfFactorAnalyzers(
            *(
                torch.from_numpy(np.array(array))
                for array in (self.weights_, self.means_, self.loadings_, self.noise_variance_)
            )
        )

    def _report(self, fit: _Fit) -> None:
        """Warn of a fit that did not converge, and of components that are empty or singular."""
        empty = fit.statistics.count < EMPTY_COUNT
        singular = (fit.statistics.parameters.noise_variance <= self.reg_covar).all(axis=1) & ~empty
        if not isinstance(self.noise, str):
            singular[:] = False  # this noise was asked for
        for found, trouble in (
            (empty, "are empty (they expect no points)"),
            (singular, f"are singular (all noise variances are at reg_covar={self.reg_covar:g})"),
        ):
            if found.any():
                numbers = ", ".join(map(str, np.flatnonzero(found)))
                warnings.warn(
                    f"Components {numbers} {trouble}; try fewer components or factors, more "
                    "starts (n_init), or a larger reg_covar.",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        if not fit.converged:
            warnings.warn(
                f"The fit did not converge in max_iter={self.max_iter} iterations; the last one "
                f"still gained more than tol={self.tol:g} nats per row. Raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _evaluate(self, X: ArrayLike, function: Callable[..., torch.Tensor]) -> Array:
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=_FLOATS)
        size = max(1, _BLOCK_NUMBERS // rows.shape[1])
        results = []
        for first in range(0, len(rows), size):
            block = torch.from_numpy(rows[first : first + size].astype(np.float64))
            results.append(function(self.distribution_, block).numpy())
        return np.concatenate(results)

    def _n_parameters(self) -> int:
        """Count the free parameters; a rotation of the factors changes nothing."""
        n_components, dim, n_factors = self.loadings_.shape
        noise = {"diagonal": dim, "isotropic": 1}.get(str(self.noise), 0)
        loadings = dim * n_factors - n_factors * (n_factors - 1) // 2
        return int(n_components * (dim + loadings + noise) + n_components - 1)


def _collect_shard(expectation: Expectation, shard: Shard) -> SufficientStatistics:
    return expectation(check_array(shard(), dtype=_FLOATS))


def _add_up(parts: Iterable[SufficientStatistics], known: Survey) -> SufficientStatistics:
    """Add the statistics of one pass through the data, in the order in which they come."""
    total: SufficientStatistics | None = None
    for part in parts:
        total = part if total is None else total + part
    n_samples = 0 if total is None else total.n_samples
    if total is None or n_samples != known.n_samples:
        raise ValueError(
            f"the batches gave {known.n_samples} rows on the first pass and {n_samples} on a "
            "later one; they must give the same rows each time they are called for."
        )
    return total


def _float32_resolution(parameters: MixtureParameters, known: Survey, bound: float) -> float:
    """Return the smallest gain that log likelihoods computed in float32 can show."""
    size = cancellation(parameters, known.variance) + abs(bound)
    return float(4 * np.finfo(np.float32).eps * size)
