"""How wide proven brackets of distances are on MNIST, and what they cost on one thread.

    python benchmarks/mixture_brackets.py [--digits 0 6] [--n-points 1000]

Fits mixtures of factor analyzers to two digits, and brackets the distance from correctly classified
test images, and from samples of the mixtures, to the nearest error of the optimal classifier: for
the symmetric and the asymmetric problem, for the sum over components and for the most likely
component. Times are those of the processor. MNIST must be on this machine.
"""

import argparse
import os
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy and torch start their threads

import numpy as np  # noqa: E402
import torch  # noqa: E402

from trueboundary.certificates import LipschitzMixtureCertificate, bracket  # noqa: E402
from trueboundary.data import load_mnist  # noqa: E402
from trueboundary.problems import fit_images  # noqa: E402

VARIANTS = (("symmetric", 0.01), ("symmetric", 0.05), ("asymmetric", 0.01))


def points_of(problem, images, labels, source, n_points):
    """Return images, or samples of the problem's own densities, with labels."""
    if source == "images":
        return images, labels
    generator = torch.Generator().manual_seed(0)
    x, y = problem.sample(2 * n_points, generator=generator, dtype=torch.float64)
    return x.flatten(1), y


def measure(problem, x, y, hardest_component, n_points):
    """Return a row of the table."""
    classifier = problem.bayes_classifier(dtype=torch.float64, hardest_component=hardest_component)
    right = (classifier.margin(x) > 0) == (y == 1)
    x, y = x[right][:n_points], y[right][:n_points]
    start = time.process_time()
    found = bracket(classifier, x, y)
    seconds = time.process_time() - start
    cheap = LipschitzMixtureCertificate()(classifier, x, y).distance
    lower, upper = found.lower.numpy(), found.upper.numpy()
    width = np.where(upper > 0, 1 - lower / np.maximum(upper, 1e-300), 0.0)
    return (
        f"{len(x):6d} {float(right.double().mean()):8.4f} {seconds:7.1f} "
        f"{np.median(width):9.1e} {width.mean():9.1e} {np.quantile(width, 0.99):9.1e} "
        f"{width.max():9.1e} {found.exact.double().mean():7.3f} {np.median(lower):8.4f} "
        f"{np.median(upper):8.4f} {cheap.median():9.4f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=int, nargs=2, default=(0, 6))
    parser.add_argument("--n-points", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_mnist()
    train, labels = data.part("train").pairs(*options.digits)
    fit = fit_images(train, labels, image_shape=(1, 28, 28))
    test, test_labels = data.part("test").pairs(*options.digits)
    test, test_labels = torch.from_numpy(test).double(), torch.from_numpy(test_labels)
    print(
        "variant    noise source  rule         n accuracy seconds    median      mean"
        "       99%   largest   exact    lower    upper Lipschitz"
    )
    for variant, noise_std in VARIANTS:
        problem = fit.problem(variant, noise_std=noise_std)
        for source in ("images", "samples"):
            x, y = points_of(problem, test, test_labels, source, options.n_points)
            for hardest in (False, True):
                row = measure(problem, x, y, hardest, options.n_points)
                rule = "hardest" if hardest else "sum"
                print(f"{variant:10s} {noise_std:5.2f} {source:7s} {rule:7s} {row}", flush=True)


if __name__ == "__main__":
    main()
