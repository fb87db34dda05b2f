"""Compare expectation maximisation with torch-mfa's, and measure the memory of a streamed fit.

    python benchmarks/mfa_em.py --torch-mfa CHECKOUT [--images FILE.npy] [--streaming]

CHECKOUT is a clone of https://github.com/eitanrich/torch-mfa, which is not on PyPI. Both fit 4,932
rows of 784 pixels (or the rows of FILE.npy) with 25 components of 6 factors and isotropic noise,
from the same start, in one thread, one right after the other. Times are those of the processor,
since a clock would measure what else the machine does; they are per iteration, without the start.
The progress reports of torch-mfa, which score the data every fifth iteration, are switched off
while it is timed. Final likelihoods are those of this package's density, in float64.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy and torch start their threads

import numpy as np  # noqa: E402
import torch  # noqa: E402

from trueboundary.densities import (  # noqa: E402
    MixtureOfFactorAnalyzers,
    MixtureOfFactorAnalyzersEM,
)

N_COMPONENTS, N_FACTORS = 25, 6


def made_up_images(n_samples=4932, dim=784, n_components=25, n_factors=6, noise_std=0.1):
    """Rows of a mixture of factor analyzers that overlap enough to leave something to fit."""
    generator = torch.Generator().manual_seed(0)
    density = MixtureOfFactorAnalyzers(
        torch.full((n_components,), 1 / n_components),
        0.5 + 0.05 * torch.randn(n_components, dim, generator=generator),
        0.1 * torch.randn(n_components, dim, n_factors, generator=generator),
        noise_std**2,
    )
    return density.sample((n_samples,), generator=generator).numpy()


def load_peer(checkout):
    spec = importlib.util.spec_from_file_location("torch_mfa", Path(checkout) / "mfa.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MFA


def run_peer(peer, rows, dtype, n_iterations, *, report=True):
    """Return the fitted model and the seconds it took; the start is the same each time."""
    model = peer(N_COMPONENTS, rows.shape[1], N_FACTORS).to(dtype)
    if not report:  # its own reports, which would be timed as well
        model.log_prob = lambda x: torch.zeros(1)
    np.random.seed(0)  # noqa: NPY002  (torch-mfa draws its start from NumPy's global state)
    x = torch.from_numpy(rows).to(dtype)
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, max_iterations=n_iterations)
    return model, time.process_time() - started


def as_density(model):
    return MixtureOfFactorAnalyzers(
        model.PI_logits.detach().double().softmax(0),
        model.MU.detach().double(),
        model.A.detach().double(),
        model.log_D.detach().double().exp(),
    )


def run_ours(rows, initial, n_iterations, noise="isotropic"):
    estimator = MixtureOfFactorAnalyzersEM(
        N_COMPONENTS, n_factors=N_FACTORS, noise=noise, tol=0.0, max_iter=n_iterations
    )
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few iterations do not converge is no news
        estimator.fit(rows, initial=initial)
    return estimator, time.process_time() - started


def compare(checkout, rows, n_repeats, n_iterations):
    peer = load_peer(checkout)
    for dtype, wanted in ((torch.float32, 25), (torch.float64, 12)):
        typed = rows.astype(np.float32 if dtype == torch.float32 else np.float64)
        initial = as_density(run_peer(peer, typed, dtype, 0, report=False)[0])
        theirs, ours, diagonal = [], [], []
        for _ in range(n_repeats):
            start = run_peer(peer, typed, dtype, 0, report=False)[1]
            theirs.append((run_peer(peer, typed, dtype, 2, report=False)[1] - start) / 2)
            for times, noise in ((ours, "isotropic"), (diagonal, "diagonal")):
                short, long = (run_ours(typed, initial, n, noise)[1] for n in (1, 11))
                times.append((long - short) / 10)
        ratios = [slow / fast for slow, fast in zip(theirs, ours, strict=True)]
        print(f"\n{dtype}, processor seconds per iteration, median of {n_repeats}")
        print(f"  torch-mfa, isotropic     {statistics.median(theirs):8.3f}")
        print(f"  trueboundary, isotropic  {statistics.median(ours):8.3f}")
        print(f"  trueboundary, diagonal   {statistics.median(diagonal):8.3f}")
        print(
            f"  ratio, isotropic         {statistics.median(ratios):8.1f}   "
            f"(smallest {min(ratios):.1f}; wanted: {wanted})"
        )
        density = as_density(run_peer(peer, typed, dtype, n_iterations)[0])
        fitted = run_ours(typed, initial, n_iterations)[0]
        exact = torch.from_numpy(rows).double()
        print(f"  log likelihood per row after {n_iterations} iterations from the same start, nats")
        print(f"    start         {initial.log_prob(exact).mean():12.4f}")
        print(f"    torch-mfa     {density.log_prob(exact).mean():12.4f}")
        print(f"    trueboundary  {fitted.score(rows):12.4f}")


def streamed_batches(n_samples=20_000, dim=12_288, size=500):
    """Batches made up as they are asked for, the same on each pass."""
    shapes = np.random.default_rng(1).normal(size=(20, 11, dim)).astype(np.float32) * 0.1
    for i in range(n_samples // size):
        rng = np.random.default_rng((2, i))
        groups = rng.integers(20, size=size)
        batch = rng.standard_normal((size, dim), dtype=np.float32)
        batch *= 0.05
        for k in range(20):
            members = groups == k
            factors = rng.standard_normal((members.sum(), 10), dtype=np.float32)
            batch[members] += 5 * shapes[k, 0] + factors @ shapes[k, 1:]
        yield batch


def stream():
    for noise in ("isotropic", "diagonal"):
        estimator = MixtureOfFactorAnalyzersEM(
            20, n_factors=10, noise=noise, max_iter=2, random_state=0
        )
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit_batches(streamed_batches)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # Linux counts in kB
        print(
            f"\nstreamed 20,000 x 12,288, 20 components, 10 factors, {noise}: "
            f"{seconds:.0f} s for the start and {estimator.n_iter_} iterations, "
            f"peak memory so far {peak:.2f} GB (wanted: under 4)"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-mfa", metavar="CHECKOUT", help="path of a clone of torch-mfa")
    parser.add_argument("--images", metavar="FILE.npy", help="rows to fit, shape (n, d)")
    parser.add_argument("--streaming", action="store_true", help="measure a streamed fit")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=20, help="for the likelihoods")
    arguments = parser.parse_args()
    if not (arguments.torch_mfa or arguments.streaming):
        parser.error("nothing to do: give --torch-mfa CHECKOUT, --streaming or both")
    torch.set_num_threads(1)
    if arguments.streaming:
        stream()
    if arguments.torch_mfa:
        rows = np.load(arguments.images) if arguments.images else made_up_images()
        compare(
            arguments.torch_mfa,
            rows.reshape(len(rows), -1),
            arguments.repeats,
            arguments.iterations,
        )


if __name__ == "__main__":
    sys.exit(main())
