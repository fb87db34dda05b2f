"""Data sets as folders: written whole or not at all, and read with every file checked."""

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

from trueboundary._checks import check_integer
from trueboundary.data import image_sources
from trueboundary.datasets.cards import card_text, fit_card, measure_card
from trueboundary.new_folders import new_folder
from trueboundary.plain_text import printable
from trueboundary.problems.images import ImageProblem
from trueboundary.regular_files import open_regular, read_regular, reason
from trueboundary.runs import strict_json
from trueboundary.tiles import tile

# Format 2 knows the parts by name and the card by its checksum; the first, which is still read, did
# not.
_FORMAT, _READABLE = 2, (1, 2)
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
        Labels 0 to K - 1, int64, shape ``(n,)``.
    card : dict
        Accuracy and certified robustness of the optimal classifier, and how all was made.
    """

    problem: ImageProblem
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    card: dict[str, Any]

    @property
    def is_private(self) -> bool:
        """Whether it is drawn from densities of images of people."""
        # Older problems do not say it, but the card has the title of what they were fitted to.
        titles = {source.title for source in image_sources().values() if source.is_private}
        return self.problem.is_private or str(self.card["source"]).startswith(tuple(titles))


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
        Points to draw, all classes together.
    n_certified : int
        Further random points of all classes together between whose certified radius and nearest
        known error the distance lies; at most `n_test`.
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

    Raises
    ------
    FileExistsError
        If there is something at `folder` already.

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
    sizes = {"n_train": n_train, "n_test": n_test, "n_certified": n_certified}
    for name, value in (sizes | {"n_accuracy": n_accuracy}).items():
        check_integer(name, value, minimum=1)
    with new_folder(folder, last="card.json") as draft, _told(folder):
        check_room(draft, n_train + n_test, problem.dim)
        say("drawing points")
        drawn = {
            part: problem.dataset(n, split=part, seed=seed)
            for part, n in (("train", n_train), ("test", n_test))
        }
        parts = {part: (points.x, points.y) for part, points in drawn.items()}
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

    The `folder` where they are to lie need not be there yet.
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
    n, n_classes = card[f"n_{part}"], len(card["problem"]["class_names"])
    labels = "0 or 1" if n_classes == 2 else f"0 to {n_classes - 1}"
    if (
        x is None
        or y is None
        or (x.dtype, x.shape) != (torch.float32, (n, dim))
        or (y.dtype, y.shape) != (torch.int64, (n,))
        or not bool(((y >= 0) & (y < n_classes)).all())
        or not bool(x.isfinite().all())
    ):
        raise ValueError(
            f"{file} should hold {n:,} points of {dim:,} finite float32 numbers and their labels "
            f"{labels}, and holds something else; make the data set anew."
        )
    if stated != part and (card["format"] > 1 or stated is not None):
        raise ValueError(
            f"{file} holds the points of another part ({printable(str(stated))}); make the data "
            "set anew."
        )
    return x, y


def _write_sheet(problem: ImageProblem, x: Tensor, y: Tensor, folder: Path) -> None:
    """Draw a sheet with samples of all classes, two beside each other."""
    # Drawing is heavy to import and wanted here only.
    from trueboundary.figures import PNG_DPI, new_figure

    if problem.n_classes == 2:
        figure, axes = new_figure(1, 2, width=7.0, height=3.4)
    else:
        n_rows = -(-problem.n_classes // 2)
        figure, axes = new_figure(2, n_rows, width=7.0, height=1.0 * n_rows)
    for spare in axes[problem.n_classes :]:
        spare.set_axis_off()
    for label, ax in enumerate(axes[: problem.n_classes]):
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
