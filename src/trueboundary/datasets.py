"""Image data sets on disk whose optimal classifier is known, with a card that says how good it is.

A data set is a folder: training and test points as safetensors, the densities they were drawn from,
a sheet of samples, and a card with the accuracy and the certified robustness of the optimal
classifier. The folder is complete or not there, and every file is known by its checksum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save_file
from torch import Tensor

from trueboundary.certificates import LipschitzMixtureCertificate
from trueboundary.measure import error_rate
from trueboundary.plurals import plural
from trueboundary.problems.base import Problem
from trueboundary.problems.images import ImageProblem, new_folder
from trueboundary.problems.mixtures import other_subspace_distance
from trueboundary.runs import strict_json
from trueboundary.theory.intervals import clopper_pearson, t_interval

__all__ = ["Dataset", "load_dataset", "make_dataset", "measure_card"]

#: Sizes of perturbations at which the card gives the certified accuracy.
RADII = (0.5, 1.0, 1.5, 2.0, 3.0)
_FORMAT = 1
_BLOCK = 2048  # points drawn at once
_PARTS = ("train", "test")
_SHEET_COLUMNS = 10


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test points of an image problem, and what is known about it.

    Attributes
    ----------
    problem : ImageProblem
        The densities that the points were drawn from.
    x_train, x_test : Tensor
        Flat images, float32, shape ``(n, dim)``; not clipped to [0, 1].
    y_train, y_test : Tensor
        Labels 0 or 1, int64, shape ``(n,)``.
    card : dict
        Accuracy and certified robustness of the optimal classifier, and how all was made.
    """

    problem: ImageProblem
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    card: dict[str, Any]


def make_dataset(
    problem: ImageProblem,
    folder: str | Path,
    *,
    n_train: int = 10_000,
    n_test: int = 2_000,
    n_certified: int = 1_000,
    n_accuracy: int = 10_000,
    seed: int = 0,
    source: str = "",
    notes: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """Draw a data set from a problem, measure its optimal classifier and write all to a folder.

    Parameters
    ----------
    problem : ImageProblem
        What to draw from.
    folder : str or Path
        Must not exist, or be empty. It is complete or not there.
    n_train, n_test : int
        Points to draw, both classes together.
    n_certified : int
        Test points whose certified radius is computed, at most `n_test`.
    n_accuracy : int
        Further random points per class behind the card's error rates.
    seed : int
        Seed of all points.
    source : str
        What the problem was fitted to, for the card.
    notes : sequence of str
        Further sentences for the card.
    progress : callable, optional
        ``progress(what)`` before each step.

    Returns
    -------
    Dataset
        What was written.

    Raises
    ------
    FileExistsError
        If there is something at `folder` already.
    TypeError, ValueError
        If a number is out of range.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from trueboundary.datasets import load_dataset, make_dataset
    >>> from trueboundary.problems import fit_image_problem
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> x = 0.5 + 0.3 * y[:, None] + 0.1 * rng.normal(size=(120, 16))
    >>> problem = fit_image_problem(x, y, image_shape=(1, 4, 4), n_components=1, n_factors=2)
    >>> with tempfile.TemporaryDirectory() as root:
    ...     made = make_dataset(problem, f"{root}/set", n_train=50, n_test=20, n_accuracy=100)
    ...     loaded = load_dataset(f"{root}/set")
    >>> bool((made.x_test == loaded.x_test).all()), loaded.card["accuracy"]["n_points"]
    (True, 200)
    """
    say = progress or (lambda _: None)
    with new_folder(folder) as draft:
        say("drawing points")
        parts = {
            part: _draw(problem, n, seed, part)
            for part, n in (("train", n_train), ("test", n_test))
        }
        for part, (x, y) in parts.items():
            save_file({"x": x, "y": y}, draft / f"{part}.safetensors")
        problem.save(draft / "problem")
        x_test, y_test = parts["test"]
        card = {
            "format": _FORMAT,
            "source": source,
            "notes": list(notes),
            "problem": problem.describe(),
            "report": problem.report,
            "seed": seed,
            "n_train": n_train,
            "n_test": n_test,
            **measure_card(
                problem,
                x_test,
                y_test,
                n_certified=n_certified,
                n_accuracy=n_accuracy,
                seed=seed,
                progress=say,
            ),
        }
        say("writing the card")
        _write_sheet(problem, *parts["train"], draft)
        (draft / "card.md").write_text(card_text(card), encoding="utf-8")
        card["files"] = {name: _checksum(draft / name) for name in _file_names(draft)}
        (draft / "card.json").write_text(strict_json.dumps(card), encoding="utf-8")
    stored = strict_json.loads(strict_json.dumps(card))
    return Dataset(problem, *parts["train"], *parts["test"], stored)


def load_dataset(folder: str | Path) -> Dataset:
    """Read a data set written by `make_dataset`, every file checked.

    Parameters
    ----------
    folder : str or Path
        The folder it was written into.

    Returns
    -------
    Dataset
        Equal to what was written.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or the folder holds something else.
    """
    folder = Path(folder)
    card_file = folder / "card.json"
    if not card_file.is_file():
        raise FileNotFoundError(
            f"{folder} holds no data set (there is no card.json); make one with "
            "'trueboundary dataset make'."
        )
    try:
        card = strict_json.loads(card_file.read_text(encoding="utf-8"))
        files, version = dict(card["files"]), card["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{card_file} is not a data set's card ({error}); make it anew.") from None
    if version != _FORMAT:
        raise ValueError(f"{card_file} has format {version}, expected {_FORMAT}; make it anew.")
    for name, checksum in files.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; make the data set anew.")
        if _checksum(folder / name) != checksum:
            raise ValueError(
                f"{folder / name} is not the file that the card was written with; it was damaged "
                "or changed, so make the data set anew."
            )
    try:
        parts = [parse_safetensors((folder / f"{p}.safetensors").read_bytes()) for p in _PARTS]
    except SafetensorError as error:
        raise ValueError(f"the points in {folder} cannot be read: {error}.") from None
    tensors = [part[name] for part in parts for name in ("x", "y")]
    return Dataset(
        ImageProblem.load(folder / "problem"), tensors[0], tensors[1], tensors[2], tensors[3], card
    )


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
    """Measure the optimal classifier of a problem: its accuracy and its certified robustness.

    Parameters
    ----------
    problem : ImageProblem
        The problem.
    x, y : Tensor
        Test points ``(n, dim)`` and labels; the first `n_certified` are certified.
    n_certified, n_accuracy, seed, progress
        As in `make_dataset`.

    Returns
    -------
    dict
        ``accuracy`` (of the optimal classifier, with 95 % interval, from fresh points),
        ``certified`` (radius no attack can beat: mean over all points with interval, median and
        5 % quantile, errors counting as 0; and the share of points whose radius exceeds each of
        some sizes), ``half_subspace_distance`` (half the mean distance to the other class's
        nearest component subspace) and ``out_of_range`` (share of pixel values outside [0, 1]).
    """
    say = progress or (lambda _: None)
    say("measuring the optimal classifier")
    classifier = problem.bayes_classifier(dtype=torch.float64)
    by_class = error_rate(classifier, problem, n_points=n_accuracy, seed=seed, method="sampling")
    n_errors = [of_class.n_errors for of_class in by_class]
    n_points = 2 * n_accuracy
    low, high = clopper_pearson(sum(n_errors), n_points)
    say("certifying the optimal classifier")
    x_certified, y_certified = x[:n_certified].double(), y[:n_certified]
    radius = LipschitzMixtureCertificate()(classifier, x_certified, y_certified).distance
    subspace = other_subspace_distance(problem, x_certified, y_certified).numpy() / 2
    return {
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
            "mean_interval": list(t_interval(radius)) if len(radius) > 1 else None,
            "median": float(np.median(radius)),
            "quantile_5": float(np.quantile(radius, 0.05)),
            "accuracy": [_certified_accuracy(radius, size) for size in RADII],
        },
        "half_subspace_distance": {"n_points": len(subspace), "mean": float(subspace.mean())},
        "out_of_range": float(((x < 0) | (x > 1)).double().mean()),
    }


def card_text(card: dict[str, Any]) -> str:
    """Return the card as Markdown, for people."""
    problem, accuracy, certified = card["problem"], card["accuracy"], card["certified"]
    # Sorted, since a card that comes back from JSON has no other order.
    settings = sorted((card["report"] or {}).get("settings", {}).items())
    channels, height, width = problem["image_shape"]
    first, second = problem["class_names"]
    lines = [
        f"# {first} against {second}, {problem['variant']}",
        "",
        f"{card['n_train']:,} training and {plural(card['n_test'], 'test image')} of {height} x "
        f"{width} pixels in {plural(channels, 'channel')}, drawn from known "
        "mixtures of factor analyzers. The images carry noise and are not clipped: "
        f"{card['out_of_range']:.1%} of the pixel values lie outside [0, 1].",
        "",
        "| optimal classifier | value | 95 % interval | points |",
        "|---|---|---|---|",
        f"| accuracy | {accuracy['value']:.5f} | {accuracy['low']:.5f} to {accuracy['high']:.5f} "
        f"| {accuracy['n_points']:,} |",
        f"| mean certified radius (L2) | {certified['mean']:.3f} | "
        f"{_interval_text(certified['mean_interval'])} | {certified['n_points']:,} |",
        f"| median certified radius | {certified['median']:.3f} | | {certified['n_points']:,} |",
        f"| 5 % of the points have less than | {certified['quantile_5']:.3f} | | "
        f"{certified['n_points']:,} |",
    ]
    lines += [
        f"| accuracy under any perturbation below {entry['size']:g} | at least "
        f"{entry['value']:.3f} | {entry['low']:.3f} to {entry['high']:.3f} | "
        f"{certified['n_points']:,} |"
        for entry in certified["accuracy"]
    ]
    lines += [
        "",
        "Certified radii are lower bounds: no perturbation shorter than its radius changes the "
        "decision on a point. Points that are classified wrongly count as 0. Half the mean "
        "distance to the nearest subspace of the other class, about the size of a successful "
        "attack where all noise is small and equal, is "
        f"{card['half_subspace_distance']['mean']:.3f}.",
        "",
        f"- Fitted to: {card['source'] or 'not stated'}.",
        f"- Components: {problem['n_components'][0]} and {problem['n_components'][1]}, "
        f"with {plural(max(problem['n_factors']), 'factor')}.",
        f"- Settings: {', '.join(f'{name} = {value}' for name, value in settings)}.",
        f"- Seed of the points: {card['seed']}.",
        *(f"- {note}" for note in card["notes"]),
        "",
        "![samples](samples.png)",
        "",
    ]
    return "\n".join(lines)


def _interval_text(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _certified_accuracy(radius: np.ndarray[Any, Any], size: float) -> dict[str, float]:
    n_robust = int((radius >= size).sum())
    low, high = clopper_pearson(n_robust, len(radius))
    return {"size": size, "value": n_robust / len(radius), "low": low, "high": high}


def _draw(problem: Problem, n: int, seed: int, part: str) -> tuple[Tensor, Tensor]:
    blocks = list(problem.blocks(n, seed=seed, block_size=_BLOCK, purpose=f"dataset/{part}"))
    return torch.cat([x for x, _ in blocks]), torch.cat([y for _, y in blocks])


def _write_sheet(problem: ImageProblem, x: Tensor, y: Tensor, folder: Path) -> None:
    """Draw a sheet with samples of both classes."""
    # Drawing is heavy to import and wanted here only.
    from trueboundary.report.figures import PNG_DPI, new_figure

    figure, axes = new_figure(1, 2, width=7.0, height=3.4)
    for label, ax in enumerate(axes):
        images = problem.images(x[y == label][: 2 * _SHEET_COLUMNS]).clamp(0, 1)
        ax.imshow(_tiled(images), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_axis_off()
        ax.set_title(f"{problem.class_names[label]} ({problem.variant})", loc="left", fontsize=9)
    figure.savefig(folder / "samples.png", dpi=PNG_DPI, metadata={"Software": None})


def _tiled(images: Tensor) -> np.ndarray[Any, Any]:
    """Return images ``(n, c, h, w)`` side by side in two rows, channels last, blank where none."""
    n, channels, height, width = images.shape
    sheet = images.new_ones(2 * _SHEET_COLUMNS, channels, height, width)
    sheet[:n] = images
    rows = sheet.reshape(2, _SHEET_COLUMNS, channels, height, width).permute(0, 3, 1, 4, 2)
    tiled = rows.reshape(2 * height, _SHEET_COLUMNS * width, channels).numpy()
    return tiled[..., 0] if channels == 1 else tiled


def _file_names(folder: Path) -> list[str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.relative_to(folder).as_posix() for path in files]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
