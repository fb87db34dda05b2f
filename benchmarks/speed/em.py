"""Iterations of expectation maximisation for mixtures of factor analyzers.

25 components of 6 factors are fitted to 4,932 rows of 784 numbers drawn from such a mixture. An
iteration is the difference between a long and a short fit, so that the start does not count. The
rivals are scikit-learn's mixture of full Gaussians, and torch-mfa (isotropic noise, its progress
reports off) where TORCH_MFA names a clone of https://github.com/eitanrich/torch-mfa. The floor is
the product of the rows with all loadings and means at the rate of such products. The last row
streams 20,000 x 12,288 numbers, made up batch by batch, if TRUEBOUNDARY_STREAM is set: that takes
minutes.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Row, Setup, alternate, product_rate
from sklearn.mixture import GaussianMixture

from trueboundary.densities import MixtureOfFactorAnalyzers, MixtureOfFactorAnalyzersEM

TITLE = "Expectation maximisation"
COMPONENTS, FACTORS = 25, 6
Array = np.ndarray[Any, np.dtype[Any]]


def rows(setup: Setup) -> list[Row]:
    """Return a row for each rival and precision, and the streamed fit."""
    n_rows, dim = setup.size(4932, 60), setup.size(784, 12)
    components, factors = setup.size(COMPONENTS, 3), setup.size(FACTORS, 2)
    density, x = made_up(n_rows, dim, components, factors)
    few = dataclasses.replace(setup, repeats=1)
    rate = product_rate(n_rows, components * (factors + 1), dim, few)
    floor = 2 * n_rows * dim * components * (factors + 1) / rate
    found = []
    for dtype, aim in ((np.float32, "61"), (np.float64, "45")):
        typed = x.astype(dtype)
        ours = Rise(lambda n, typed=typed: _ours(typed, density, n), 1, setup.size(11, 2))
        peer = _peer(typed, components, factors)
        sides: dict[str, Rise] = {"ours": ours}
        if peer is not None:
            sides["torch-mfa"] = Rise(peer, 0, setup.size(2, 1))
        if dtype == np.float64:
            sides["full"] = Rise(lambda n, typed=typed: _full(typed, density, n), 1, 2)
        seconds = _rises(sides, few)
        name = f"iteration, {n_rows:,} x {dim}, {np.dtype(dtype).name}"
        found.append(
            Row(
                name,
                "torch-mfa",
                seconds["ours"],
                seconds.get("torch-mfa"),
                floor / seconds["ours"] if dtype == np.float32 else None,
                target=aim,
                note="" if peer is not None else "not installed",
            )
        )
        if "full" in sides:
            found.append(
                Row(name, "scikit-learn, full", seconds["ours"], seconds["full"], target="69")
            )
    if os.environ.get("TRUEBOUNDARY_STREAM") or setup.tiny:
        found += [_stream(setup, noise) for noise in ("isotropic", "diagonal")]
    return found


@dataclasses.dataclass(frozen=True)
class Rise:
    """A fit, and the two numbers of iterations whose difference in time is of interest."""

    fit: Callable[[int], object]
    few: int
    many: int


def _rises(sides: dict[str, Rise], setup: Setup) -> dict[str, float]:
    """Return the seconds of one iteration of each side; the sides take turns."""
    calls: dict[str, Callable[[], object]] = {}
    for name, side in sides.items():
        calls[f"{name} few"] = lambda side=side: side.fit(side.few)
        calls[f"{name} many"] = lambda side=side: side.fit(side.many)
    seconds = alternate(calls, setup)
    return {
        name: max(seconds[f"{name} many"] - seconds[f"{name} few"], 1e-9) / (side.many - side.few)
        for name, side in sides.items()
    }


def made_up(
    n_rows: int, dim: int, components: int, factors: int
) -> tuple[MixtureOfFactorAnalyzers, Array]:
    """Return a rough start, and rows of a mixture whose components overlap.

    A start as far off as one from a few rows: at the truth itself, whose noise is small, float32
    would not do, and rows in float32 would be worked on in float64.
    """
    generator = torch.Generator().manual_seed(0)
    density = MixtureOfFactorAnalyzers(
        torch.full((components,), 1 / components),
        0.5 + 0.05 * torch.randn(components, dim, generator=generator),
        0.1 * torch.randn(components, dim, factors, generator=generator),
        0.1**2,
    )
    start = MixtureOfFactorAnalyzers(
        density.weights,
        density.means + 0.02 * torch.randn(components, dim, generator=generator),
        0.1 * torch.randn(components, dim, factors, generator=generator),
        0.3**2,
    )
    return start, density.sample((n_rows,), generator=generator).numpy()


def _ours(x: Array, start: MixtureOfFactorAnalyzers, n: int) -> None:
    components, _, factors = start.loadings.shape
    estimator = MixtureOfFactorAnalyzersEM(
        components, n_factors=factors, noise="isotropic", tol=0.0, max_iter=n
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few iterations do not converge is no news
        estimator.fit(x, initial=start.to(dtype=torch.float64))


def _full(x: Array, start: MixtureOfFactorAnalyzers, n: int) -> None:
    components = start.n_components
    estimator = GaussianMixture(
        components,
        tol=0.0,
        max_iter=n,
        reg_covar=1e-4,
        means_init=start.means.double().numpy(),
        weights_init=np.full(components, 1 / components),
        precisions_init=np.repeat(np.eye(x.shape[1])[None] * 50, components, axis=0),
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(x)


def _peer(x: Array, components: int, factors: int) -> Callable[[int], object] | None:
    checkout = os.environ.get("TORCH_MFA")
    if checkout is None:
        return None
    spec = importlib.util.spec_from_file_location("torch_mfa", Path(checkout) / "mfa.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    points = torch.from_numpy(x)

    def fit(n: int) -> None:
        model = module.MFA(components, x.shape[1], factors).to(points.dtype)
        model.log_prob = lambda _: torch.zeros(1)  # its own reports, which would be timed as well
        np.random.seed(0)  # noqa: NPY002  (torch-mfa draws its start from NumPy's global state)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(points, max_iterations=n)

    return fit


def _batches(n_rows: int, dim: int, size: int) -> Iterator[Array]:
    """Yield batches made up as they are asked for, the same on each pass."""
    shapes = np.random.default_rng(1).normal(size=(20, 11, dim)).astype(np.float32) * 0.1
    for i in range(n_rows // size):
        rng = np.random.default_rng((2, i))
        groups = rng.integers(20, size=size)
        batch = 0.05 * rng.standard_normal((size, dim), dtype=np.float32)
        for k in range(20):
            members = groups == k
            factors = rng.standard_normal((members.sum(), 10), dtype=np.float32)
            batch[members] += 5 * shapes[k, 0] + factors @ shapes[k, 1:]
        yield batch


def _stream(setup: Setup, noise: str) -> Row:
    n_rows, dim, size = setup.size(20_000, 80), setup.size(12_288, 20), setup.size(500, 40)
    estimator = MixtureOfFactorAnalyzersEM(
        setup.size(20, 2), n_factors=setup.size(10, 2), noise=noise, max_iter=2, random_state=0
    )
    started = time.process_time()
    for _ in _batches(n_rows, dim, size):
        pass
    making = time.process_time() - started
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit_batches(lambda: _batches(n_rows, dim, size))
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # Linux counts in kB
    return Row(
        f"streamed fit, {n_rows:,} x {dim:,}, {noise} noise, start and {estimator.n_iter_} "
        "iterations",
        "",
        seconds,
        note=(
            f"20 components of 10 factors; one pass of making the data up takes "
            f"{making:.1f} s; peak memory {peak:.2f} GB"
        ),
    )
