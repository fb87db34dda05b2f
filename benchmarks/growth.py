"""How time and memory grow with the size of a problem, and the exponents of their power laws.

    python benchmarks/growth.py [AXIS ...] [--tiny --out FOLDER]

Each point is measured in a process of its own, forked when all is loaded: processor time of one
thread, and by how much the process grows at most, its data included. An exponent is the slope of
the least squares line through the upper half of the sizes, in logarithms. Numbers go to
``benchmarks/results/growth`` and figures to ``docs/images``, where the page of speed shows them.
"""

import argparse
import io
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks" / "speed"))

from harness import machine  # noqa: E402

from trueboundary.attacks import NearestError  # noqa: E402
from trueboundary.certificates import bracket, nearest_ellipsoid_error  # noqa: E402
from trueboundary.classifiers import (  # noqa: E402
    AllConvolutionalNetwork,
    QuadraticNetwork,
    ReLUNetwork,
    fit_rbf_svm,
    margin_and_gradient,
)
from trueboundary.densities import (  # noqa: E402
    MixtureOfFactorAnalyzers,
    MixtureOfFactorAnalyzersEM,
)
from trueboundary.domains import Box  # noqa: E402
from trueboundary.figures import new_figure, shared_legend  # noqa: E402
from trueboundary.measure import error_rate  # noqa: E402
from trueboundary.problems import (  # noqa: E402
    ConcentricSpheres,
    FiniteSample,
    MixtureProblem,
)
from trueboundary.theory import caps  # noqa: E402
from trueboundary.theory.quadratic_forms import ellipsoid_log_error  # noqa: E402
from trueboundary.training.steps import adam_of, step_of  # noqa: E402

Work = Callable[[], object]
#: Seconds for which a piece of work is repeated, at most 100 times; a miniature is done once more.
ENOUGH = 0.1
#: Part of the smallest size that a miniature begins with; it has that one and twice as much.
TINY = 10


@dataclass(frozen=True)
class Series:
    """One line of a figure: what is done, how it is made ready for a size, and the sizes."""

    name: str
    make: Callable[[int], Work]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """A figure: what grows along it, and the work that grows with it."""

    label: str
    series: tuple[Series, ...]


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def training_step(network: Any) -> Work:
    """Return a step of training on 50 points."""
    x, y = ConcentricSpheres(network.dim).sample(50, generator=seeded(1))
    optimizer = adam_of(list(network.parameters()), 1e-4, betas=(0.9, 0.999), eps=1e-8)
    step = step_of(network.train(), optimizer)
    return lambda: step(x, y)


def quadratic_step(dim: int = 500, width: int = 1000) -> Work:
    """Return a step of training a quadratic network."""
    return training_step(QuadraticNetwork(dim, width, generator=seeded()))


def relu_step(dim: int = 500, width: int = 1000) -> Work:
    """Return a step of training the ReLU network of two layers."""
    return training_step(ReLUNetwork(dim, width, 2, generator=seeded()))


def drawing(dim: int) -> Work:
    """Return a draw of 2,000 points of the spheres."""
    problem, generator = ConcentricSpheres(dim), seeded()
    return lambda: problem.sample(2000, generator=generator)


def alphas(dim: int) -> np.ndarray[Any, Any]:
    """Return semi-axes as training leaves them, spread around the middle of the right ones."""
    return 0.8 + 0.1 * np.random.default_rng(0).uniform(-1, 1, dim)


def exact_error(dim: int) -> Work:
    """Return the exact error rate of an ellipsoid."""
    values = alphas(dim)
    return lambda: ellipsoid_log_error(values, sphere="inner")


def cap_distance(dim: int) -> Work:
    """Return the mean distance to the best error set of a measure."""
    return lambda: caps.mean_distance(dim, 1e-7)


def exact_distances(dim: int) -> Work:
    """Return exact distances from 20 points to an ellipsoid."""
    points = np.random.default_rng(1).standard_normal((20, dim))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    values = alphas(dim)
    return lambda: nearest_ellipsoid_error(points, values)


def ellipsoid_of_network(dim: int) -> Work:
    """Return the reading of a quadratic network's alphas."""
    network = QuadraticNetwork(dim, 1000, generator=seeded())
    return network.alphas


def counting(width: int) -> Work:
    """Return the classification of 2,000 points by the ReLU network."""
    network = ReLUNetwork(500, width, 2, generator=seeded()).eval()
    x, _ = ConcentricSpheres(500).sample(2000, generator=seeded(1))
    return lambda: network.predict(x)


def finite_sample(n: int) -> Work:
    """Return the drawing of a training set in 50 dimensions and the first batch of it."""
    return lambda: FiniteSample(ConcentricSpheres(50), n, 50, seed=0).batch(0)


def sampled_rate(n: int) -> Work:
    """Return the error rate of a ReLU network by counting among so many points."""
    network = ReLUNetwork(50, 100, 2, generator=seeded()).eval()
    return lambda: error_rate(network, ConcentricSpheres(50), n_points=n, method="sampling")


def machine_fit(n: int) -> Work:
    """Return the fit of a Gaussian kernel machine."""
    x, y = ConcentricSpheres(50).sample(n, generator=seeded())
    return lambda: fit_rbf_svm(x, y, gamma=1.0)


def em_fit(n: int, n_components: int = 5) -> Work:
    """Return two iterations of EM on points of 64 dimensions."""
    points = np.random.default_rng(0).standard_normal((n, 64)) + np.arange(n)[:, None] % 7
    estimator = MixtureOfFactorAnalyzersEM(
        n_components, n_factors=4, max_iter=2, tol=0.0, init_params="random", random_state=0
    )

    def fit() -> object:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two iterations are not meant to converge
            return estimator.fit(points)

    return fit


def mixture(n_components: int, seed: int) -> MixtureOfFactorAnalyzers:
    """Return a mixture in 784 dimensions whose components are as far apart as those of digits."""
    generator = seeded(seed)
    means = torch.rand(n_components, 784, generator=generator, dtype=torch.float64)
    loadings = 0.1 * torch.randn(n_components, 784, 8, generator=generator, dtype=torch.float64)
    weights = torch.full((n_components,), 1 / n_components, dtype=torch.float64)
    return MixtureOfFactorAnalyzers(weights, means, loadings, 0.05**2)


def optimal(n_components: int, n_points: int) -> tuple[Any, Any, Any]:
    """Return the optimal classifier of two such mixtures, and points with their labels."""
    problem = MixtureProblem(mixture(n_components, 0), mixture(n_components, 1))
    x, y = problem.sample(n_points, generator=seeded(2), dtype=torch.float64)
    return problem.bayes_classifier(dtype=torch.float64), x, y


def margins(n_components: int, n_points: int = 100) -> Work:
    """Return margins and gradients of an optimal classifier."""
    classifier, x, _ = optimal(n_components, n_points)
    return lambda: margin_and_gradient(classifier, x)


def brackets(n_components: int, n_points: int = 5) -> Work:
    """Return proven brackets of distances to the errors of an optimal classifier."""
    classifier, x, y = optimal(n_components, n_points)
    return lambda: bracket(classifier, x, y)


def attacked_images(n: int) -> Work:
    """Return the nearest errors of an untrained convolutional network, by the refined search."""
    network = AllConvolutionalNetwork((1, 28, 28), 8, generator=seeded()).eval()
    x = torch.rand(n, 784, generator=seeded(1))
    y = network.predict(x)
    return lambda: NearestError()(network, x, y, domain=Box(0.0, 1.0))


def doubling(first: int, last: int) -> tuple[int, ...]:
    """Return sizes from the first to the last, about a factor of 2 apart and round.

    Examples
    --------
    >>> doubling(50, 1000)
    (50, 100, 200, 500, 1000)
    """
    decades = [10**exponent for exponent in range(int(math.log10(last)) + 1)]
    steps = [mantissa * decade for decade in decades for mantissa in (1, 2, 5)]
    return tuple(sorted({first, last, *(size for size in steps if first < size < last)}))


DIMS = (*doubling(50, 2000), 4000)
AXES: Mapping[str, Axis] = {
    "d": Axis(
        "dimension d",
        (
            Series("2,000 points drawn", drawing, DIMS),
            Series("step, quadratic network, h = 1,000", quadratic_step, DIMS),
            Series("step, ReLU network, h = 1,000", lambda d: relu_step(dim=d), DIMS),
            Series("alphas of a network, h = 1,000", ellipsoid_of_network, DIMS[:-1]),
            Series("20 exact distances", exact_distances, DIMS),
            Series("exact error rate", exact_error, doubling(50, 100_000)),
            Series("distance to a cap", cap_distance, doubling(50, 100_000)),
        ),
    ),
    "h": Axis(
        "width h",
        (
            Series("step, quadratic network", lambda h: quadratic_step(width=h), DIMS),
            Series("step, ReLU network", lambda h: relu_step(width=h), DIMS),
            Series("2,000 points classified, ReLU", counting, DIMS),
        ),
    ),
    "N": Axis(
        "points N",
        (
            Series("training set drawn", finite_sample, doubling(1000, 1_000_000)),
            Series("error rate by counting", sampled_rate, doubling(1000, 1_000_000)),
            Series("2 iterations of EM, 64 dimensions", em_fit, doubling(1000, 50_000)),
            Series("RBF machine fitted", machine_fit, doubling(200, 5000)),
        ),
    ),
    "components": Axis(
        "components of each class",
        (
            Series("100 margins and gradients", margins, doubling(1, 100)),
            Series("5 brackets of distances", brackets, doubling(1, 20)),
            Series("2 iterations of EM", lambda k: em_fit(5000, k), doubling(1, 50)),
        ),
    ),
    "images": Axis(
        "images",
        (
            Series("margins and gradients, mixture", lambda n: margins(10, n), doubling(10, 1000)),
            Series("brackets of distances, mixture", lambda n: brackets(5, n), doubling(5, 50)),
            Series("nearest errors, CNN", attacked_images, doubling(5, 100)),
        ),
    ),
}


def measured(
    make: Callable[[int], Work], size: int, *, first: int, enough: float = ENOUGH
) -> tuple[float, float | None]:
    """Return the seconds of a piece of work and the megabytes that it takes, from a new process.

    The work of the size `first` is done before, so that what is loaded once does not count.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(make, size, first, enough, there))
    process.start()
    there.close()
    try:
        found: tuple[float, float | None] = here.recv()
    except EOFError:
        raise RuntimeError(f"the process for the size {size} has died") from None
    finally:
        process.join()
    return found


def _measure(
    make: Callable[[int], Work], size: int, first: int, enough: float, answer: Any
) -> None:
    torch.set_num_threads(1)
    make(first)()
    before = _resident(peak=False)
    work = make(size)
    work()  # loads and allocates what the others find
    peak = _resident(peak=True)
    times: list[float] = []
    while not times or (sum(times) < enough and len(times) < 100):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    grown = None if before is None or peak is None else (peak - before) / 1024
    answer.send((statistics.median(times), grown))


def _resident(*, peak: bool) -> int | None:
    """Return the kilobytes of memory that the process has, or had at most; None if unknown."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if not peak:  # what it had before the fork is not to count
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["VmHWM" if peak else "VmRSS"].split()[0])


def exponent(sizes: Sequence[float], values: Sequence[float | None]) -> float | None:
    """Return the slope of the logarithms over the upper half of the sizes, None without values.

    Examples
    --------
    >>> exponent([1, 2, 4, 8], [9.0, 5.0, 20.0, 80.0])
    2.0
    """
    half = math.sqrt(sizes[0] * sizes[-1])
    pairs = [(x, y) for x, y in zip(sizes, values, strict=True) if x >= half and y]
    if len(pairs) < 2:
        return None
    slope = np.polyfit(*np.log(np.array(pairs, dtype=np.float64)).T, 1)[0]
    return round(float(slope), 2)


def measure_axis(axis: Axis, *, tiny: bool) -> dict[str, Any]:
    """Return all that is measured along an axis, as JSON types."""
    lines = []
    for series in axis.series:
        least = max(1, series.sizes[0] // TINY)
        sizes = (least, 2 * least) if tiny else series.sizes
        enough = 0.0 if tiny else ENOUGH
        found = [measured(series.make, size, first=sizes[0], enough=enough) for size in sizes]
        seconds, grown = [s for s, _ in found], [m for _, m in found]
        lines.append(
            {
                "work": series.name,
                "sizes": list(sizes),
                "seconds": [float(f"{value:.3g}") for value in seconds],
                "megabytes": [None if m is None else round(m, 1) for m in grown],
                "exponent": exponent(sizes, seconds),
                # Below a megabyte it is the allocator's habits that are seen.
                "memory_exponent": exponent(sizes, [m if m and m >= 1 else None for m in grown]),
            }
        )
    facts = {"label": axis.label, "machine": machine(), "date": date.today().isoformat()}
    return {**facts, "series": lines}


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw time and memory against the size; a line's name is followed by both exponents."""
    figure, (left, right) = new_figure(2, width=9.0, height=3.9)
    for line in found["series"]:
        slopes = (line["exponent"], line["memory_exponent"])
        told = ", ".join("-" if slope is None else f"{slope:.1f}" for slope in slopes)
        left.plot(
            line["sizes"], line["seconds"], "o-", ms=3, lw=1.2, label=f"{line['work']}: {told}"
        )
        grown = [m if m is not None and m >= 0.1 else math.nan for m in line["megabytes"]]
        right.plot(line["sizes"], grown, "o-", ms=3, lw=1.2)
    for axes, what in ((left, "processor time [s]"), (right, "memory [MB]")):
        axes.set(xscale="log", yscale="log", xlabel=found["label"], ylabel=what)
    shared_legend(figure, n_columns=3, of=left)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    # A palette halves the file.
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)


def main() -> int:
    """Measure the axes that were asked for, all of them without names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=", ".join(AXES))
    parser.add_argument("--tiny", action="store_true", help="miniatures, which show that all runs")
    parser.add_argument("--out", type=Path, help="folder of numbers and figures")
    options = parser.parse_args()
    unknown = [name for name in options.axes if name not in AXES]
    if unknown:
        parser.error(f"there is no axis {unknown[0]!r}; there are {', '.join(AXES)}")
    if options.tiny and options.out is None:
        parser.error("miniatures are no results: say with --out where they go")
    torch.set_num_threads(1)
    numbers = options.out or ROOT / "benchmarks" / "results" / "growth"
    figures = options.out or ROOT / "docs" / "images"
    numbers.mkdir(parents=True, exist_ok=True)
    quadratic_step(2, 2)()  # what torch loads for a first step, in each fork else, takes a second
    for name in options.axes or AXES:
        print(name, flush=True)
        found = measure_axis(AXES[name], tiny=options.tiny)
        text = json.dumps(found, indent=1) + "\n"
        (numbers / f"{name}.json").write_text(text, encoding="utf-8")
        draw(found, figures / f"growth-{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
