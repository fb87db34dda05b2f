"""Image data sets on disk whose optimal classifier is known, with a card that says how good it is.

A data set is a folder: training and test points as safetensors, the densities they were drawn from,
a sheet of samples, and a card with the accuracy and the certified robustness of the optimal
classifier. The folder is complete or not there, and every file is known by its checksum.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from trueboundary.new_folders import new_folder
from trueboundary.plain_text import markdown, printable
from trueboundary.plurals import plural
from trueboundary.problems.base import Problem
from trueboundary.problems.images import ImageProblem
from trueboundary.problems.mixtures import other_subspace_distance
from trueboundary.regular_files import open_regular, read_regular, reason
from trueboundary.runs import strict_json
from trueboundary.theory.intervals import censored_median, clopper_pearson, t_interval
from trueboundary.tiles import tile

__all__ = ["Dataset", "load_dataset", "make_dataset", "measure_card"]

#: Sizes of perturbations at which the card gives the certified accuracy.
RADII = (0.5, 1.0, 1.5, 2.0, 3.0)
# Format 2 knows the parts by name and the card by its checksum; the first, which is still read, did
# not.
_FORMAT, _READABLE = 2, (1, 2)
_BLOCK = 2048  # points drawn at once
_PARTS = ("train", "test")
_FILES = (
    *(f"{part}.safetensors" for part in _PARTS),
    "problem/density.json",
    "problem/density.safetensors",
    "card.md",
    "samples.png",
)
_DESCRIBED = ("class_names", "digest", "image_shape", "variant")
_CHECKSUM = re.compile(r"[0-9a-f]{64}")
# Larger than any card, any file but the points, and what safetensors adds to the points.
_MAX_CARD_BYTES, _MAX_FILE_BYTES, _MAX_HEADER_BYTES = 2**24, 2**34, 2**16
_SHEET_COLUMNS = 10
_MAX_TITLE = 40  # characters of a class's name above its samples
# A mean, a noise and loadings: n_factors + 2 numbers per pixel are fitted to a component's images,
# and this many images for each are few. The paper's fits have 30 (MNIST) and 83 (faces).
_FEW_IMAGES_PER_NUMBER = 10


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
    for name, value in (
        ("n_train", n_train),
        ("n_test", n_test),
        ("n_certified", n_certified),
        ("n_accuracy", n_accuracy),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    with new_folder(folder, last="card.json") as draft, _told(folder):
        check_room(draft, n_train + n_test, problem.dim)
        say("drawing points")
        parts = {
            part: _draw(problem, n, seed, part)
            for part, n in (("train", n_train), ("test", n_test))
        }
        for part, (x, y) in parts.items():
            _save_points(x, y, part, draft)
        problem.save(draft / "problem")
        _write_sheet(problem, *parts["train"], draft)
        x_test, y_test = parts["test"]
        card = {
            "format": _FORMAT,
            "source": str(source or ""),
            "notes": [str(note) for note in notes],
            "problem": problem.describe(),
            "report": problem.report,
            **fit_card(problem),
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
        (draft / "card.md").write_text(card_text(card), encoding="utf-8")
        card["files"] = {name: _checksum(draft / name, _largest(name, card)) for name in _FILES}
        card["checksum"] = _card_checksum(card)
        (draft / "card.json").write_text(strict_json.dumps(card), encoding="utf-8")
    stored = strict_json.loads(strict_json.dumps(card))
    return Dataset(problem, *parts["train"], *parts["test"], stored)


def check_room(folder: Path, n_points: int, dim: int) -> None:
    """Refuse points for which the disk has no room, before anything is drawn or fitted.

    Parameters
    ----------
    folder : Path
        Where they are to lie; it need not be there yet.
    n_points, dim : int
        How many points of how many float32 numbers.

    Raises
    ------
    OSError
        If there is no room.
    """
    home = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    needed, free = n_points * (4 * dim + 8), shutil.disk_usage(home).free
    if needed > free:
        raise OSError(
            f"{n_points:,} points of {dim:,} numbers need {needed / 1e9:,.3f} GB, and the disk of "
            f"{home} has {free / 1e9:,.3f} GB left; draw fewer, or choose another folder."
        )


@contextmanager
def _told(folder: str | Path) -> Iterator[None]:
    """Say in one sentence what a system or a library says of files that cannot be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # it is a sentence of our own
        raise OSError(
            f"the data set could not be written to {folder} ({reason(error)}); nothing of it was "
            "kept."
        ) from error


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
    card = _read_card(folder)
    for name in _FILES:
        file = _inside(folder, name)
        if _checksum(file, _largest(name, card)) != card["files"][name]:
            raise ValueError(
                f"{folder / name} is not the file that the card was written with; it was damaged "
                "or changed, so make the data set anew."
            )
    problem = ImageProblem.load(folder / "problem")
    described = strict_json.loads(strict_json.dumps(problem.describe()))
    # What later versions may describe besides is not in an older card.
    if any(card["problem"][name] != described[name] for name in _DESCRIBED):
        raise ValueError(
            f"the card in {folder} is of another problem than the one beside it; make the data "
            "set anew."
        )
    points = [_read_points(folder, part, card, problem.dim) for part in _PARTS]
    return Dataset(problem, *points[0], *points[1], card)


def _read_card(folder: Path) -> dict[str, Any]:
    """Return a card that is whole: of a known format, with all its files, and fit to be shown."""
    card_file = folder / "card.json"
    if not card_file.is_file():
        raise FileNotFoundError(
            f"{folder} holds no data set (there is no card.json); make one with "
            "'trueboundary dataset make'."
        )
    content = read_regular(_inside(folder, "card.json"), _MAX_CARD_BYTES)
    try:
        card = strict_json.loads(content.decode("utf-8"))
        version = card["format"]
        if version in _READABLE:
            _check_card(card)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{card_file} is not a data set's card ({why}); make it anew.") from None
    if version not in _READABLE:
        raise ValueError(
            f"{card_file} has format {version!r}, expected {_FORMAT}; make it anew, or read it "
            "with the version that wrote it."
        )
    whole: dict[str, Any] = card
    return whole


def _check_card(card: dict[str, Any]) -> None:
    if type(card["format"]) is not int:
        raise ValueError("its format is no whole number")
    # Cards of the first format had no checksum.
    sealed = card["format"] > 1 or "checksum" in card
    if sealed and card["checksum"] != _card_checksum(card):
        raise ValueError("it was damaged or changed since it was written")
    if set(card["files"]) != set(_FILES):
        raise ValueError(f"it must name the files {', '.join(_FILES)} and no others")
    for name, checksum in card["files"].items():
        if not isinstance(checksum, str) or not _CHECKSUM.fullmatch(checksum):
            raise ValueError(f"the checksum of {name} is none")
    if not set(_DESCRIBED) <= set(card["problem"]):
        raise ValueError("it does not describe its problem")
    for name in ("n_train", "n_test"):
        if type(card[name]) is not int or card[name] < 1:
            raise ValueError(f"{name} is no number of points")
    card_text(card)  # whatever else is missing or of another kind shows here


def _inside(folder: Path, name: str) -> Path:
    """Return a file of a data set, which must not lead out of its folder."""
    file = folder / name
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; make the data set anew.")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file} leads out of the data set's folder; put the file itself there.")
    return file


def _largest(name: str, card: dict[str, Any]) -> int:
    """Return how many bytes a file of a data set has at most, by what the card says."""
    for part in _PARTS:
        if name == f"{part}.safetensors":
            channels, height, width = card["problem"]["image_shape"]
            size: int = card[f"n_{part}"] * (4 * channels * height * width + 8)
            return size + _MAX_HEADER_BYTES
    return _MAX_FILE_BYTES


def _save_points(x: Tensor, y: Tensor, part: str, folder: Path) -> None:
    file = folder / f"{part}.safetensors"
    save_file({"x": x, "y": y}, file, metadata={"part": part})
    # Written for its owner alone; the folder tells whom the user's umask lets read.
    file.chmod(folder.stat().st_mode & 0o666)


def _read_points(folder: Path, part: str, card: dict[str, Any], dim: int) -> tuple[Tensor, Tensor]:
    file = folder / f"{part}.safetensors"
    content = read_regular(file, _largest(file.name, card))
    try:
        points = parse_safetensors(content)
        length = struct.unpack("<Q", content[:8])[0]
        stated = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get("part")
    except (SafetensorError, ValueError, AttributeError) as error:
        raise ValueError(f"the points in {file} cannot be read: {error}.") from None
    x, y = points.get("x"), points.get("y")
    n = card[f"n_{part}"]
    if (
        x is None
        or y is None
        or (x.dtype, x.shape) != (torch.float32, (n, dim))
        or (y.dtype, y.shape) != (torch.int64, (n,))
        or not bool(((y == 0) | (y == 1)).all())
        or not bool(x.isfinite().all())
    ):
        raise ValueError(
            f"{file} should hold {n:,} points of {dim:,} finite float32 numbers and their labels "
            "0 or 1, and holds something else; make the data set anew."
        )
    if stated != part and (card["format"] > 1 or stated is not None):
        raise ValueError(
            f"{file} holds the points of another part ({printable(str(stated))}); make the data "
            "set anew."
        )
    return x, y


def fit_card(problem: ImageProblem) -> dict[str, Any]:
    """Return what a card says about how a problem was fitted to images, from its report.

    Returns
    -------
    dict
        ``fit``, for each class the numbers of images and components, images per component, the
        mean log likelihood in nats per image and, where images were held out, theirs; empty where
        the report does not tell. ``cautions``, sentences about what is too few.
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
            "median": censored_median(radius),
            "quantile_5": float(np.quantile(radius, 0.05)),
            "accuracy": [_certified_accuracy(radius, size) for size in RADII],
        },
        "half_subspace_distance": {"n_points": len(subspace), "mean": float(subspace.mean())},
        "out_of_range": float(((x < 0) | (x > 1)).double().mean()),
    }


def few_images(name: str, images_per_component: float, n_factors: int) -> str | None:
    """Return a sentence of caution where components were fitted to few images, else None.

    Examples
    --------
    >>> few_images("digits", 240, 6)
    >>> print(few_images("cats", 10, 400)[:75])
    Each component of class cats has 10 images on average, and with 400 factors
    """
    few = _FEW_IMAGES_PER_NUMBER * (n_factors + 2)
    if images_per_component >= few:
        return None
    return (
        f"Each component of class {name} has {images_per_component:.4g} images on average, and "
        f"with {n_factors} factors it takes about {few:,} to tell what images have in common from "
        "what these happen to be. A problem that is fitted so repeats its images, and its figures "
        "say little of others; take more images, or fewer components or factors."
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
    first, second = (escape(name) for name in problem["class_names"])
    lines = [
        f"# {first} against {second}, {escape(problem['variant'])}",
        "",
        f"{card['n_train']:,} training and {plural(card['n_test'], 'test image')} of {height:d} x "
        f"{width:d} pixels in {plural(channels, 'channel')}, drawn from known "
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
        *(f"**Caution.** {escape(caution)}\n" for caution in card.get("cautions", ())),
        f"- Fitted to: {escape(card['source']) or 'not stated'}.",
        *(_fit_text(part, escape) for part in card.get("fit", ())),
        f"- Components: {problem['n_components'][0]:d} and {problem['n_components'][1]:d}, "
        f"with {plural(max(problem['n_factors']), 'factor')}.",
        f"- Settings: {', '.join(escape(f'{name} = {value}') for name, value in settings)}.",
        f"- Seed of the points: {card['seed']:d}.",
        *(f"- {escape(note)}" for note in card["notes"]),
        "",
        "![samples](samples.png)",
        "",
    ]
    return "\n".join(lines)


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
    from trueboundary.figures import PNG_DPI, new_figure

    figure, axes = new_figure(1, 2, width=7.0, height=3.4)
    for label, ax in enumerate(axes):
        shown = x[y == label][: 2 * _SHEET_COLUMNS].numpy()
        # White is also left where there are fewer images.
        rows = np.ones((2 * _SHEET_COLUMNS, x.shape[1]))
        rows[: len(shown)] = shown
        gap = max(2, max(problem.image_shape) // 8)
        picture = tile(np.split(rows, 2), problem.image_shape, gap=gap)
        ax.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_axis_off()
        name = printable(problem.class_names[label])
        short = name if len(name) <= _MAX_TITLE else f"{name[: _MAX_TITLE - 1]}…"
        # Not as mathematics: names are words, whatever they hold.
        title = ax.set_title(f"{short} ({problem.variant})", loc="left", fontsize=9)
        title.set_parse_math(False)
    with warnings.catch_warnings():
        # Signs that the font lacks are drawn as boxes; the card has the name.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(folder / "samples.png", dpi=PNG_DPI, metadata={"Software": None})


def _checksum(path: Path, limit: int) -> str:
    with open_regular(path, limit) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _card_checksum(card: dict[str, Any]) -> str:
    """Return the checksum of all that a card says but this."""
    said = {name: value for name, value in card.items() if name != "checksum"}
    return hashlib.sha256(strict_json.dumps(said).encode()).hexdigest()
