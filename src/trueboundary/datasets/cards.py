"""What is known of a data set: the card that measures and describes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueboundary.measure import Distances, distances, error_rate
from trueboundary.plain_text import markdown
from trueboundary.plurals import listed, plural
from trueboundary.problems.images import ImageProblem
from trueboundary.problems.mixtures import other_subspace_distance
from trueboundary.theory.intervals import censored_median, clopper_pearson, t_interval

#: Sizes of perturbations at which the card gives the certified accuracy.
RADII = (0.5, 1.0, 1.5, 2.0, 3.0)
# A mean, a noise and loadings: n_factors + 2 numbers per pixel are fitted to a component's images,
# and this many images for each are few. The paper's fits have 30 (MNIST) and 83 (faces).
_FEW_IMAGES_PER_NUMBER = 10
# Of the distance at which an error is known, the part up to which nothing is left open.
_CLOSE = 0.01


def fit_card(problem: ImageProblem) -> dict[str, Any]:
    """Return what a card says about how a problem was fitted to images, from its report.

    ``fit`` has for each class the numbers of images and components, images per component, the mean
    log likelihood in nats per image and, where images were held out, theirs; empty where the report
    does not tell. ``cautions`` are sentences about what is too few.
    """
    report = problem.report or {}
    fit = [
        {
            "class": name,
            "n_images": part["n_images"],
            "n_components": part["n_components"],
            "images_per_component": part["n_images"] / part["n_components"],
            "log_likelihood": part["log_likelihood"],
            "held_out": part.get("held_out"),
        }
        for name, part in zip(problem.class_names, report.get("classes", ()), strict=False)
    ]
    found = (
        few_images(name, part["images_per_component"], report["n_factors"])
        for name, part in zip(problem.class_names, fit, strict=False)
    )
    cautions = [caution for caution in found if caution is not None]
    return {"fit": fit, "cautions": cautions}


def measure_card(
    problem: ImageProblem,
    x: Tensor,
    y: Tensor,
    *,
    n_certified: int = 1_000,
    n_accuracy: int = 10_000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure the optimal classifier of a problem: its accuracy, and how far its errors are.

    Parameters
    ----------
    problem : ImageProblem
        The problem.
    x, y : Tensor
        Test points ``(n, dim)`` and labels.
    n_certified, n_accuracy, seed, progress
        As in `make_dataset`.

    Returns
    -------
    dict
        ``accuracy`` (of the optimal classifier, with 95 % interval, from fresh points);
        ``certified`` (radius no attack can beat, from fresh points of all classes alike: mean with
        interval, median and 5 % quantile, errors counting as 0; and the share of points whose
        radius exceeds each of some sizes); ``found`` (distance at which an error is known, at the
        same points: mean, median, and the share of points at which it is within 1 % of the radius);
        ``half_subspace_distance`` (half the mean distance to other classes' nearest component
        subspace) and ``out_of_range`` (share of pixel values outside [0, 1]). Of more than two
        classes also ``by_class``: for each its accuracy with interval, the medians of radius,
        known error and relative width of the two, and at how many points the nearest known error
        is of which class.
    """
    say = progress or (lambda _: None)
    say("measuring the optimal classifier")
    classifier = problem.bayes_classifier(dtype=torch.float64)
    by_class = error_rate(classifier, problem, n_points=n_accuracy, seed=seed, method="sampling")
    n_errors = [of_class.n_errors for of_class in by_class]
    n_classes = problem.n_classes
    n_points = n_classes * n_accuracy
    low, high = clopper_pearson(sum(n_errors), n_points)
    say("certifying the optimal classifier")
    n_each = max(1, min(n_certified, len(x)) // n_classes)
    brackets = distances(classifier, problem, n_points=n_each, seed=seed)
    radius = np.concatenate([of_class.lower for of_class in brackets])
    found = np.concatenate([of_class.upper for of_class in brackets])
    width = np.concatenate([of_class.relative_width for of_class in brackets])
    n_subspace = min(n_certified, len(x))
    subspace = other_subspace_distance(problem, x[:n_subspace].double(), y[:n_subspace]) / 2
    card: dict[str, Any] = {
        "accuracy": {
            "value": 1 - sum(n_errors) / n_points,
            "low": 1 - high,
            "high": 1 - low,
            "n_points": n_points,
            "n_errors": n_errors,
        },
        "certified": {
            "n_points": len(radius),
            "mean": float(radius.mean()),
            "mean_interval": list(t_interval(radius)),
            "median": censored_median(radius),
            "quantile_5": float(np.quantile(radius, 0.05)),
            "accuracy": [_certified_accuracy(radius, size) for size in RADII],
            "method": brackets[0].method,
        },
        "found": {
            "mean": float(found.mean()),
            "median": censored_median(found),
            "close": float((width <= _CLOSE).mean()),
        },
        "half_subspace_distance": {"n_points": len(subspace), "mean": float(subspace.mean())},
        "out_of_range": float(((x < 0) | (x > 1)).double().mean()),
    }
    if n_classes > 2:
        card["found"]["median_relative_width"] = float(np.median(width))
        card["by_class"] = [
            _class_card(name, of_class, n_classes, errors, n_accuracy)
            for name, of_class, errors in zip(problem.class_names, brackets, n_errors, strict=True)
        ]
    return card


def _class_card(
    name: str, brackets: Distances, n_classes: int, n_errors: int, n_accuracy: int
) -> dict[str, Any]:
    low, high = clopper_pearson(n_errors, n_accuracy)
    known = brackets.other[brackets.other >= 0]
    return {
        "class": name,
        "accuracy": {
            "value": 1 - n_errors / n_accuracy,
            "low": 1 - high,
            "high": 1 - low,
            "n_points": n_accuracy,
            "n_errors": n_errors,
        },
        "n_points": brackets.n,
        "median_radius": censored_median(brackets.lower),
        "median_found": brackets.median,
        "median_relative_width": brackets.median_relative_width,
        "nearest": np.bincount(known, minlength=n_classes).tolist(),
    }


def against(names: Sequence[str]) -> str:
    """Return what a problem of classes of these names is called.

    Examples
    --------
    >>> against(["0", "6"]), against(["cats", "dogs", "mice"])
    ('0 against 6', 'cats, dogs and mice')
    """
    return " against ".join(names) if len(names) == 2 else listed(names)


def most_components(n_images: int, n_factors: int) -> int:
    """Return how many components of a class its images can tell apart, at least 1.

    Examples
    --------
    >>> most_components(6000, 6), most_components(40, 6)
    (75, 1)
    """
    return max(1, n_images // _enough(n_factors))


def _enough(n_factors: int) -> int:
    """Return the images that a component takes."""
    return _FEW_IMAGES_PER_NUMBER * (n_factors + 2)


def few_images(name: str, images_per_component: float, n_factors: int) -> str | None:
    """Return a sentence of caution where components were fitted to few images, else None.

    Examples
    --------
    >>> few_images("digits", 240, 6)
    >>> print(few_images("cats", 10, 400)[:75])
    Each component of class cats has 10 images on average, and with 400 factors
    """
    few = _enough(n_factors)
    if images_per_component >= few:
        return None
    return (
        f"Each component of class {name} has {images_per_component:.4g} images on average, and "
        f"with {n_factors} factors it takes about {few:,} to tell what images have in common from "
        "what these happen to be. A problem that is fitted so repeats its images, and its figures "
        "say little of others; take more images, or fewer components (--components) "
        "or factors (--factors)."
    )


def card_text(card: dict[str, Any], *, escape: Callable[[str], str] = markdown) -> str:
    """Return the card as Markdown, for people.

    Parameters
    ----------
    card : dict
        The card of a data set.
    escape : callable
        What is done to the words of users, such as the names of classes: `markdown` for a file
        that is rendered, `printable` for a terminal.
    """
    problem, accuracy, certified = card["problem"], card["accuracy"], card["certified"]
    # Sorted, since a card that comes back from JSON has no other order.
    settings = sorted((card["report"] or {}).get("settings", {}).items())
    channels, height, width = problem["image_shape"]
    names = [escape(name) for name in problem["class_names"]]
    rows = [
        ("accuracy", f"{accuracy['value']:.5f}", _interval_text(_ends(accuracy), 5), accuracy),
        (
            "mean certified radius (L2)",
            f"{certified['mean']:.3f}",
            _interval_text(certified["mean_interval"]),
            certified,
        ),
        ("median certified radius", f"{certified['median']:.3f}", "", certified),
        ("5 % of the points have less than", f"{certified['quantile_5']:.3f}", "", certified),
    ]
    for entry in certified["accuracy"]:
        name = f"accuracy under any perturbation below {entry['size']:g}"
        at_least = f"at least {entry['value']:.3f}"
        rows.append((name, at_least, _interval_text(_ends(entry)), certified))
    if found := card.get("found"):  # older cards have proofs alone
        rows += [
            ("mean distance to a known error", f"{found['mean']:.3f}", "", certified),
            ("median distance to a known error", f"{found['median']:.3f}", "", certified),
            ("known error within 1 % of the radius", f"{found['close']:.1%}", "", certified),
        ]
        if "median_relative_width" in found:
            relative = f"{found['median_relative_width']:.2g}"
            rows.append(("median relative width of the brackets", relative, "", certified))
    other = "the other class" if len(names) == 2 else "another class"
    lines = [
        f"# {against(names)}, {escape(problem['variant'])}",
        "",
        f"{card['n_train']:,} training and {plural(card['n_test'], 'test image')} of {height:d} x "
        f"{width:d} pixels in {plural(channels, 'channel')}, drawn from known "
        "mixtures of factor analyzers. The images carry noise and are not clipped: "
        f"{card['out_of_range']:.1%} of the pixel values lie outside [0, 1].",
        "",
        "| optimal classifier | value | 95 % interval | points |",
        "|---|---|---|---|",
        *(f"| {name} | {value} | {ends} | {of['n_points']:,} |" for name, value, ends, of in rows),
        "",
        "Certified radii are lower bounds: no perturbation shorter than its radius changes the "
        "decision on a point. Points that are classified wrongly count as 0. "
        f"{_method_text(certified, escape)}Half the mean "
        f"distance to the nearest subspace of {other}, about the size of a successful "
        "attack where all noise is small and equal, is "
        f"{card['half_subspace_distance']['mean']:.3f}.",
        "",
        *_class_tables(card.get("by_class", ()), names),
        *(f"**Caution.** {escape(caution)}\n" for caution in card.get("cautions", ())),
        f"- Fitted to: {escape(card['source']) or 'not stated'}.",
        *(_fit_text(part, escape) for part in card.get("fit", ())),
        f"- Components: {_components_text(problem['n_components'])}, "
        f"with {plural(max(problem['n_factors']), 'factor')}.",
        f"- Settings: {', '.join(escape(f'{name} = {value}') for name, value in settings)}.",
        f"- Seed of the points: {card['seed']:d}.",
        *(f"- {escape(note)}" for note in card["notes"]),
        "",
        "![samples](samples.png)",
        "",
    ]
    return "\n".join(lines)


def _components_text(numbers: Sequence[int]) -> str:
    if len(numbers) > 2 and len(set(numbers)) == 1:
        return f"{numbers[0]:d} of each class"
    return listed([f"{number:d}" for number in numbers])


def _class_tables(by_class: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Return what is known of each class, and whose errors are nearest to whom, as two tables."""
    if not by_class:
        return []
    rows = []
    for name, part in zip(names, by_class, strict=True):
        accuracy = part["accuracy"]
        rows.append(
            f"| {name} | {accuracy['value']:.5f} | {_interval_text(_ends(accuracy), 5)} | "
            f"{accuracy['n_points']:,} | {part['median_radius']:.3f} | "
            f"{part['median_found']:.3f} | {part['median_relative_width']:.2g} | "
            f"{part['n_points']:,} |"
        )
    counts = [
        f"| **{name}** | {' | '.join(f'{n:d}' for n in part['nearest'])} |"
        for name, part in zip(names, by_class, strict=True)
    ]
    return [
        "| class | accuracy | 95 % interval | points | median certified radius | median distance "
        "to a known error | median relative width | points |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "The relative width of a bracket is the gap between radius and known error as a share of "
        "the latter.",
        "",
        f"| nearest known error of | {' | '.join(names)} |",
        f"|---{'|---' * len(names)}|",
        *counts,
        "",
        "Rows are the classes of the points, columns those on the other side of the boundary.",
        "",
    ]


def _fit_text(part: dict[str, Any], escape: Callable[[str], str]) -> str:
    unseen = part["held_out"]
    held_out = (
        "none were held out"
        if unseen is None
        else (f"{unseen['log_likelihood']:.1f} for {unseen['n_images']:,} held out")
    )
    return (
        f"- Class {escape(part['class'])}: {part['n_images']:,} images, "
        f"{part['images_per_component']:.4g} per component; log likelihood per image "
        f"{part['log_likelihood']:.1f} nats for these, {held_out}."
    )


def _method_text(certified: dict[str, Any], escape: Callable[[str], str]) -> str:
    method = certified.get("method")
    return "" if method is None else f"Radius and known error: {escape(method)}. "


def _ends(entry: dict[str, Any]) -> tuple[float, float]:
    return entry["low"], entry["high"]


def _interval_text(interval: Sequence[float] | None, places: int = 3) -> str:
    return "" if interval is None else f"{interval[0]:.{places}f} to {interval[1]:.{places}f}"


def _certified_accuracy(radius: np.ndarray[Any, Any], size: float) -> dict[str, float]:
    n_robust = int((radius >= size).sum())
    low, high = clopper_pearson(n_robust, len(radius))
    return {"size": size, "value": n_robust / len(radius), "low": low, "high": high}
