"""The optimal classifier of two mixtures of factor analyzers: proven brackets, and gradients.

Mixtures of 25 components of 6 factors are fitted to two digits (MNIST's 0 and 6 where they are on
this machine, small digits blown up to 28 x 28 elsewhere). Brackets are timed per point and have no
rival; the row says how wide they are. Margins with their gradients at 200 images are held against
torch.distributions with autograd.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import Row, Setup, alternate
from torch import Tensor
from torch.distributions import Categorical, LowRankMultivariateNormal, MixtureSameFamily

from trueboundary.certificates import LipschitzMixtureCertificate, bracket
from trueboundary.classifiers import BayesOptimal
from trueboundary.data import cache_folder, load_mnist
from trueboundary.densities import MixtureOfFactorAnalyzers
from trueboundary.problems import fit_images

TITLE = "Optimal classifiers of mixtures"
VARIANTS = (("symmetric", 0.01), ("symmetric", 0.05), ("asymmetric", 0.01))


def digits(setup: Setup) -> tuple[str, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return a name, training and test images of two digits (rows of 784 pixels), with labels."""
    folder = Path(os.environ.get("TRUEBOUNDARY_MNIST", cache_folder() / "mnist"))
    if folder.is_dir() and not setup.tiny:
        data = load_mnist()
        parts = (data.part(name).of_classes(0, 6) for name in ("train", "test"))
        train, test = ((torch.from_numpy(x).double(), torch.from_numpy(y)) for x, y in parts)
        return "MNIST 0/6", train, test
    from sklearn.datasets import load_digits

    small = load_digits()
    chosen = np.isin(small.target, (0, 6))
    blown_up = np.kron(small.images[chosen] / 16, np.ones((3, 3)))
    x = torch.from_numpy(np.pad(blown_up, ((0, 0), (2, 2), (2, 2)))).flatten(1)
    # Some noise, without which so few images leave components of no width.
    x = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    y = torch.from_numpy((small.target[chosen] == 6).astype(np.int64))
    return "small digits 0/6", (x[:300], y[:300]), (x, y)


def rows(setup: Setup) -> list[Row]:
    """Return a row for each problem and rule, and for the gradients in each precision."""
    name, train, (images, labels) = digits(setup)
    n_components, n_factors = setup.size(25, 4), setup.size(6, 2)
    fit = fit_images(
        train[0].numpy(),
        train[1].numpy(),
        image_shape=(1, 28, 28),
        n_components=n_components,
        n_factors=n_factors,
        max_iter=setup.size(100, 3),
    )
    found = []
    for variant, noise in VARIANTS[: setup.size(3, 1)]:
        problem = fit.problem(variant, noise_std=noise)
        generator = torch.Generator().manual_seed(0)
        drawn, classes = problem.sample(200, generator=generator, dtype=torch.float64)
        for source, x, y in (
            ("images", images, labels),
            ("samples", drawn.flatten(1), classes),
        ):
            for rule in ("sum", "most likely component"):
                classifier = problem.bayes_classifier(
                    dtype=torch.float64, hardest_component=rule != "sum"
                )
                what = f"{name}, {variant}, noise {noise:g}, {source}, {rule}"
                found.append(_bracket(setup, what, classifier, x, y))
    problem = fit.problem("symmetric", noise_std=0.05)
    exact = problem.bayes_classifier(dtype=torch.float64)
    found += [
        _gradient(setup, exact, problem.bayes_classifier(dtype=dtype), images[:200])
        for dtype in (torch.float32, torch.float64)
    ]
    return found


def _bracket(setup: Setup, what: str, classifier: BayesOptimal, x: Tensor, y: Tensor) -> Row:
    right = (classifier.margin(x) > 0) == (y == 1)
    half = setup.size(50, 2)
    chosen = torch.cat([(right & (y == k)).nonzero().squeeze(1)[:half] for k in (0, 1)])
    x, y = x[chosen], y[chosen]
    seconds = alternate(
        {"ours": lambda: bracket(classifier, x, y)}, dataclasses.replace(setup, repeats=2)
    )["ours"]
    found = bracket(classifier, x, y)
    upper = found.upper.clamp(min=1e-300)
    width = 1 - found.lower / upper
    cheap = LipschitzMixtureCertificate()(classifier, x, y).distance
    return Row(
        f"bracket, a point: {what}",
        "",
        seconds / len(x),
        target=".05 s",
        note=(
            f"{len(x)} points at once; width {float(width.median()):.0e} (median), "
            f"{float(width.mean()):.0e} (mean), {float(width.max()):.0e} (largest); exact "
            f"{float(found.exact.double().mean()):.2f}; median distance "
            f"{float(found.upper.median()):.4f}, Lipschitz {float(cheap.median()):.4f}"
        ),
    )


def _gradient(setup: Setup, exact: BayesOptimal, ours: BayesOptimal, images: Tensor) -> Row:
    zero, one = (_as_torch(density) for density in ours.densities)
    dtype = ours.densities[0].dtype

    def with_gradient(margin: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        x = images.to(dtype).requires_grad_()
        value = margin(x)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    def theirs(x: Tensor) -> Tensor:
        return one.log_prob(x) - zero.log_prob(x)

    sides = {
        "ours": lambda: with_gradient(ours.margin),
        "torch": lambda: with_gradient(theirs),
    }
    seconds = alternate(sides, setup)
    (value, gradient), (their_value, their_gradient) = (side() for side in sides.values())
    apart = [
        float((one - two).norm() / two.norm())
        for one, two in ((value, their_value), (gradient, their_gradient))
    ]
    off = ""
    if dtype == torch.float32:
        with torch.no_grad():
            truth = exact.margin(images.to(dtype).double())
        errors = [float((margin - truth).abs().max()) for margin in (value, their_value)]
        off = f"; margins {errors[0]:.0e} nat off those in float64, the rival's {errors[1]:.0e}"
    return Row(
        f"margins and gradients of {len(images)} images, {str(dtype).removeprefix('torch.')}",
        "torch.distributions, autograd",
        seconds["ours"],
        seconds["torch"],
        target="15",
        note=f"margins {apart[0]:.0e} (relative) apart, gradients {apart[1]:.0e}" + off,
    )


def _as_torch(density: MixtureOfFactorAnalyzers) -> MixtureSameFamily:
    components = LowRankMultivariateNormal(
        density.means, density.loadings, density.noise_variance, validate_args=False
    )
    return MixtureSameFamily(
        Categorical(logits=density.log_weights), components, validate_args=False
    )
