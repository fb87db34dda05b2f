"""What every problem must do, whoever wrote it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trueboundary.classifiers import ClassifierModule, outputs, predicted, wrongness_of
from trueboundary.problems import Problem
from trueboundary.testing import _expect as expect

__all__ = ["check_problem"]

_N = 8192  # points of the checks that compare rates
_FOUR = 4.0  # standard errors, of the few numbers that are compared


def check_problem(problem: Problem, *, seed: int = 0, device: torch.device | str = "cpu") -> None:
    """Check that samples, priors, domains and the optimal classifier belong to one another.

    Of all classes, in both precisions: shapes, dtypes and labels; the priors; that labelled
    samples are those of their class and lie in its domain; that streams are reproducible and a
    long one begins like a short one; that random numbers come from the generator alone; and that
    neither a shifted logit nor a Gaussian fitted to each class beats the optimal classifier.

    Parameters
    ----------
    problem : Problem
        The problem.
    seed : int
        Seed of the samples.
    device : torch.device
        Where to draw.

    Examples
    --------
    >>> from trueboundary.problems import ConcentricSpheres
    >>> from trueboundary.testing import check_problem
    >>> check_problem(ConcentricSpheres(dim=3))
    """
    name = type(problem).__name__
    expect.that(isinstance(problem, Problem), f"expected a Problem, got {name}.")
    _description(problem)
    device = torch.device(device)
    with expect.untouched_state(name):
        for dtype in (torch.float32, torch.float64):
            _samples(problem, seed, dtype, device)
            _streams(problem, seed, dtype, device)
            _optimal_classifier(problem, seed, dtype, device)


def _description(problem: Problem) -> None:
    description = problem.describe()
    try:
        read_back = json.loads(json.dumps(description))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"describe: expected values that JSON can hold ({error}).") from error
    expect.that(
        read_back == description,
        f"describe: expected values that JSON gives back, got {description!r}.",
    )
    name = type(problem).__name__
    expect.that(
        description.get("problem") == name,
        f"describe: expected the class name {name!r} as 'problem', got {description!r}.",
    )
    n_classes, priors = problem.n_classes, problem.priors
    expect.that(
        isinstance(n_classes, int) and n_classes >= 2,
        f"n_classes: expected an integer of at least 2, got {n_classes!r}.",
    )
    expect.that(
        len(priors) == n_classes and min(priors) > 0 and abs(sum(priors) - 1) < 1e-6,
        f"priors: expected {n_classes} positive numbers that add up to 1, got {priors}.",
    )


def _samples(problem: Problem, seed: int, dtype: torch.dtype, device: torch.device) -> None:
    def draw(number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator(device).manual_seed(number)
        return problem.sample(_N, generator=generator, dtype=dtype)

    of_class = [
        problem.sample_class(
            _N, label, generator=torch.Generator(device).manual_seed(seed + 2 + label), dtype=dtype
        )
        for label in range(problem.n_classes)
    ]
    for label, alone in enumerate(of_class):
        _expect_points(alone, problem, dtype, device, f"sample_class({label})")
        inside = problem.domain(label).bind(alone).contains(alone)
        expect.that(
            inside.all(),
            f"class {label}: expected every point in domain({label}), but {int((~inside).sum())} "
            f"of {_N} lie outside.",
        )
    x, y = draw(seed)
    _expect_points(x, problem, dtype, device, "sample")
    known = bool(((y >= 0) & (y < problem.n_classes)).all())
    expect.that(
        y.shape == (_N,) and y.dtype == torch.int64 and known,
        f"sample: expected int64 labels from 0 to {problem.n_classes - 1}, one per point, got "
        f"{tuple(y.shape)} in {y.dtype}.",
    )
    for label, p in enumerate(problem.priors):
        share = float((y == label).double().mean())
        expect.that(
            abs(share - p) < _FOUR * (p * (1 - p) / _N) ** 0.5,
            f"sample: expected class {label} with probability {p}, got {share:.4f} of {_N} points.",
        )
    again, other = draw(seed), draw(seed + 1)
    expect.equal(again[0], x, "sample: points of the same seed")
    expect.equal(again[1], y, "sample: labels of the same seed")
    expect.that(not torch.equal(other[0], x), "sample: expected other points of another seed.")
    for label, alone in enumerate(of_class):
        _expect_one_law(x[y == label], alone, f"class {label}: labelled points and sample_class")


def _expect_points(
    x: Tensor, problem: Problem, dtype: torch.dtype, device: torch.device, what: str
) -> None:
    wanted = (_N, *problem.event_shape)
    expect.that(
        (tuple(x.shape), x.dtype, x.device.type) == (wanted, dtype, device.type),
        f"{what}: expected points of shape {wanted} in {dtype} on {device.type}, got "
        f"{tuple(x.shape)} in {x.dtype} on {x.device.type}.",
    )
    expect.that(x.isfinite().all(), f"{what}: expected finite points.")


def _expect_one_law(first: Tensor, second: Tensor, what: str) -> None:
    """Expect two samples to agree in the means of coordinates and norms."""
    statistics = [
        torch.cat([x.flatten(1), x.flatten(1).norm(dim=1, keepdim=True)], dim=1).double()
        for x in (first, second)
    ]  # (n, d + 1) each
    n_compared = statistics[0].shape[1]
    # As seldom a false alarm as from four standard errors of one number.
    limit = (_FOUR**2 + 2 * torch.tensor(float(n_compared)).log()).sqrt()
    error = sum(v.var(dim=0) / len(v) for v in statistics) ** 0.5
    gap = (statistics[0].mean(dim=0) - statistics[1].mean(dim=0)).abs()
    expect.that(
        (gap <= limit * error + 1e-6).all(),
        f"{what}: expected points of one law, but their means differ by "
        f"{float((gap / error).nan_to_num(0).max()):.3g} standard errors.",
    )


def _streams(problem: Problem, seed: int, dtype: torch.dtype, device: torch.device) -> None:
    for label in (None, problem.n_classes - 1):
        long, again, short = (
            list(
                problem.blocks(
                    n, seed=seed, block_size=100, label=label, dtype=dtype, device=device
                )
            )
            for n in (250, 250, 150)
        )
        sizes = [len(y) for _, y in long]
        expect.that(sizes == [100, 100, 50], f"250 points in blocks of 100: got blocks of {sizes}.")
        points = [torch.cat([x for x, _ in stream]) for stream in (long, again, short)]
        labels = torch.cat([y for _, y in long])
        expect.equal(points[1], points[0], "blocks: the same stream once more")
        expect.equal(points[0][:150], points[2], "blocks: the beginning of a longer stream")
        right = label is None or bool((labels == label).all())
        expect.that(right, f"blocks: expected class {label} alone, as was asked for.")


def _optimal_classifier(
    problem: Problem, seed: int, dtype: torch.dtype, device: torch.device
) -> None:
    classifier = problem.bayes_classifier(dtype=dtype)
    expect.that(
        isinstance(classifier, ClassifierModule),
        f"bayes_classifier: expected a ClassifierModule, got {type(classifier).__name__}; "
        "as_classifier makes one of any function.",
    )
    classifier = classifier.to(device)
    (x, y), (seen, of_seen) = (
        problem.block(index, seed=seed, block_size=_N, dtype=dtype, device=device)
        for index in (0, 1)
    )
    with torch.no_grad():
        found = outputs(classifier, x)
    wanted = (_N,) if problem.n_classes == 2 else (_N, problem.n_classes)
    expect.that(
        (tuple(found.shape), found.dtype) == (wanted, dtype),
        f"bayes_classifier: expected margins or logits of shape {wanted} in {dtype}, got "
        f"{tuple(found.shape)} in {found.dtype}.",
    )
    wrong = predicted(found) != y
    for label in range(problem.n_classes) if found.ndim == 2 else (1,):
        lead = found
        if found.ndim == 2:
            lead = -wrongness_of(found, torch.full_like(y, label))
        for shift in (-2.0, -0.5, 0.5, 2.0):
            moved = found.clone()
            (moved if found.ndim == 1 else moved[:, label]).sub_(shift * lead.std())
            _expect_no_better(
                wrong,
                predicted(moved) != y,
                f"its logit of class {label} shifted by {shift:g} standard deviations",
            )
    fitted = _fitted_gaussians(seen, of_seen, x, problem.priors)
    _expect_no_better(wrong, fitted.argmax(dim=1) != y, "a Gaussian fitted to each class")


def _expect_no_better(wrong: Tensor, other: Tensor, what: str) -> None:
    """Expect a rule of wrong answers ``other (n,)`` not to beat the optimal one."""
    only_optimal, only_other = int((wrong & ~other).sum()), int((other & ~wrong).sum())
    # Of the points where one of two equal rules is wrong, either is on about half.
    chance = _FOUR * (only_optimal + only_other) ** 0.5
    expect.that(
        only_optimal - only_other <= chance,
        f"bayes_classifier: expected that no rule beats it, but {what} is right on {only_optimal} "
        f"of {len(wrong)} points where it is wrong, and wrong on {only_other} where it is right.",
    )


def _fitted_gaussians(x: Tensor, y: Tensor, points: Tensor, priors: Sequence[float]) -> Tensor:
    """Return the logits ``(n, K)`` of a Gaussian fitted to each class."""
    x, points = x.flatten(1).double(), points.flatten(1).double()
    logs = []
    for label, prior in enumerate(priors):
        own = x[y == label]
        mean, cov = own.mean(dim=0), torch.cov(own.T).reshape(x.shape[1], -1)
        ridge = 1e-6 * cov.diag().mean() * torch.eye(len(cov)).to(cov)
        root = torch.linalg.cholesky(cov + ridge)
        white = torch.linalg.solve_triangular(root, (points - mean).T, upper=False)  # (d, n)
        log_density = -0.5 * (white**2).sum(dim=0) - root.diag().log().sum()
        logs.append(log_density + math.log(prior))
    return torch.stack(logs, dim=1)
