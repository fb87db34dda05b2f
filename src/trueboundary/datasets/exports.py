"""Points of problems as files that other programs read: folders of images, and NumPy arrays."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.classifiers import ClassifierModule, outputs, predicted, wrongness
from trueboundary.datasets.dataset_folders import Dataset, check_room
from trueboundary.measure import distances_from
from trueboundary.new_folders import new_folder
from trueboundary.plain_text import markdown
from trueboundary.plurals import plural
from trueboundary.presentable import PresentableFields
from trueboundary.problems import ImageProblem, Problem, class_names_of
from trueboundary.runs import strict_json

__all__ = ["ImageChange", "export_arrays", "export_images"]

#: Version of ``export.json``; the first number rises when a reader must care.
SCHEMA = "1.0"
_CARD = "export.json"
_BLOCK = 256  # images judged and written at once
_BYTES_OF_A_FILE = 4096  # at least, on most disks
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-+.,=")
_MAX_NAME = 60

Progress = Callable[[str, float], None]
Sizes = int | Mapping[str, int] | None
_Drawn = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, repr=False)
class ImageChange(PresentableFields):
    """What became of points when they were written as images of 8 bits.

    Attributes
    ----------
    n : int
        Number of images.
    mean, largest : float
        L2 distance between a point and its image: the distance to the nearest error of any
        classifier changes by at most as much.
    n_decisions : int
        Images that the optimal classifier gives to another class than the point.
    """

    n: int
    mean: float
    largest: float
    n_decisions: int

    def __str__(self) -> str:
        """Say what a reader of the images must know, in two sentences."""
        return (
            "Pixels are rounded to 8 bits and cut off at black and white, which moves an image by "
            f"{self.mean:.3g} on average and by {self.largest:.3g} at most (L2): distances from "
            "it to errors differ by at most that from those of the point that was drawn. The "
            f"optimal classifier gives {self.n_decisions:,} of {plural(self.n, 'image')} to "
            "another class than that point."
        )


def export_images(
    source: Problem | Dataset,
    folder: str | Path,
    n: Sizes = None,
    *,
    seed: int = 0,
    arrays: bool = False,
    distances: bool = False,
    progress: Progress | None = None,
) -> ImageChange:
    """Write points as images in a new folder that torchvision and Hugging Face can read.

    A split lies in ``SPLIT/CLASS/000001.png``, which `torchvision.datasets.ImageFolder` reads with
    the labels of the problem, and beside its classes lies ``metadata.csv``, with which
    ``datasets.load_dataset("imagefolder", data_dir=folder)`` reads it. Its columns are
    ``file_name``, ``label``, ``class_name``, the point's ``log_density`` in its class, its
    ``log_ratio`` (by how much its class leads in the logarithm of density times prior, negative
    where the optimal classifier errs) and ``change``, the L2 distance between point and image;
    with `distances` also ``distance_lower`` and ``distance_upper``, between which the nearest error
    of the optimal classifier lies.

    Parameters
    ----------
    source : Problem or Dataset
        An image problem, of which points are drawn as `Problem.dataset` draws them, file 000017
        being number 17; or a data set that was loaded, whose points they are.
    folder : str or Path
        Must not exist, or be empty. It is complete or not there.
    n : int or mapping of str to int, optional
        Number of images of each split, such as ``{"train": 1000, "test": 200}``; a number alone is
        a folder without splits, as `Problem.dataset` draws by default. Without it all points of a
        data set, and 1,000 of a problem.
    seed : int
        Seed of what is drawn.
    arrays : bool
        Write each point beside its image, ``000001.npy``: float32, channels, height and width.
    distances : bool
        Bracket the distance of each point: about 140 a second for two digits, and nine for ten.
    progress : callable, optional
        ``progress(what, fraction)`` now and then.

    Returns
    -------
    ImageChange
        By how much images of 8 bits differ from the points.

    Raises
    ------
    TypeError
        If the points are no images.
    ValueError
        If the images show people.
    FileExistsError
        If there is something at `folder` already.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from trueboundary.datasets import export_images
    >>> from trueboundary.problems import fit_image_problem
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 60)
    >>> x = 0.5 + 0.3 * y[:, None] + 0.1 * rng.normal(size=(120, 16))
    >>> problem = fit_image_problem(x, y, image_shape=(1, 4, 4), n_components=1, n_factors=2)
    >>> root = tempfile.mkdtemp()
    >>> export_images(problem, f"{root}/images", {"train": 20, "test": 5}).n
    25
    >>> sorted(path.name for path in (Path(root) / "images" / "test").iterdir())
    ['0', '1', 'metadata.csv']
    """
    say = progress or (lambda what, fraction: None)
    problem = source.problem if isinstance(source, Dataset) else source
    _check_public(source)
    if not isinstance(problem, ImageProblem):
        raise TypeError(
            f"{type(problem).__name__} has points that are no images; export_arrays writes them as "
            "arrays."
        )
    if problem.image_shape[0] not in (1, 3):
        raise ValueError(
            f"expected images of 1 or 3 channels, which PNG knows, got {problem.image_shape[0]}; "
            "export_arrays writes any."
        )
    sizes = _checked_sizes(source, n)
    names = _folder_names(problem.class_names)
    optimal = problem.bayes_classifier(dtype=torch.float64)
    with new_folder(folder, last=_CARD) as draft:
        n_bytes = _BYTES_OF_A_FILE + (4 * problem.dim if arrays else 0)
        check_room(draft, sum(sizes.values()), n_bytes // 4)
        found: list[dict[str, Any]] = []
        for split, (x, y) in _drawn(source, sizes, seed).items():
            rows = []
            home = draft / split
            for name in names:
                (home / name).mkdir(parents=True)
            for start in range(0, len(y), _BLOCK):
                say("writing images", (len(found) + start) / sum(sizes.values()))
                part = slice(start, start + _BLOCK)
                rows += _write_block(
                    problem, optimal, home, names, x[part], y[part], start, arrays, distances
                )
            _write_table(home / "metadata.csv", [_shown(row) for row in rows])
            found += rows
        change = _change(found)
        card = {
            "schema": SCHEMA,
            "problem": problem.describe(),
            "seed": seed if source is problem else None,
            "splits": sizes,
            "folders": dict(zip(names, problem.class_names, strict=True)),
            "change": vars(change),
        }
        (draft / "README.md").write_text(_readme(problem, sizes, change), encoding="utf-8")
        (draft / _CARD).write_text(strict_json.dumps(card), encoding="utf-8")
    say("done", 1.0)
    return change


def export_arrays(
    source: Problem | Dataset, folder: str | Path, n: Sizes = None, *, seed: int = 0
) -> None:
    """Write points of any problem as NumPy arrays into a new folder.

    A split has the files ``x_SPLIT.npy``, float32 of shape ``(n, *event)``, and ``y_SPLIT.npy``,
    int64 of shape ``(n,)``; nothing is rounded. ``export.json`` says what they are.

    Parameters
    ----------
    source, folder, n, seed
        As for `export_images`; a number alone is a split named train.

    Raises
    ------
    ValueError, FileExistsError
        As for `export_images`.

    Examples
    --------
    >>> import tempfile
    >>> from trueboundary.datasets import export_arrays
    >>> from trueboundary.problems import ConcentricSpheres
    >>> root = tempfile.mkdtemp()
    >>> export_arrays(ConcentricSpheres(dim=10), f"{root}/spheres", {"test": 7})
    >>> np.load(f"{root}/spheres/x_test.npy").shape
    (7, 10)
    """
    problem = source.problem if isinstance(source, Dataset) else source
    _check_public(source)
    sizes = {split or "train": size for split, size in _checked_sizes(source, n).items()}
    with new_folder(folder, last=_CARD) as draft:
        check_room(draft, sum(sizes.values()), torch.Size(problem.event_shape).numel())
        for split, (x, y) in _drawn(source, sizes, seed).items():
            np.save(draft / f"x_{split}.npy", x.numpy())
            np.save(draft / f"y_{split}.npy", y.numpy())
        card = {
            "schema": SCHEMA,
            "problem": problem.describe(),
            "seed": seed if source is problem else None,
            "splits": sizes,
            "classes": list(class_names_of(problem)),
        }
        (draft / _CARD).write_text(strict_json.dumps(card), encoding="utf-8")


def _check_public(source: Problem | Dataset) -> None:
    problem = source.problem if isinstance(source, Dataset) else source
    own = isinstance(source, Dataset) and source.is_private
    if own or (isinstance(problem, ImageProblem) and problem.is_private):
        raise ValueError(
            "these images show people, or are drawn from densities that were fitted to such, and "
            "are not exported; train on them through problem.dataset, in memory."
        )


def _checked_sizes(source: Problem | Dataset, n: Sizes) -> dict[str, int]:
    """Return how many points each split has; one named "" lies in the folder itself."""
    at_hand = None
    if isinstance(source, Dataset):
        at_hand = {"train": len(source.y_train), "test": len(source.y_test)}
        n = at_hand if n is None else {"train": n} if isinstance(n, int) else n
    elif n is None:
        n = 1_000
    sizes = dict(n) if isinstance(n, Mapping) else {"": n}
    if not sizes:
        raise ValueError("expected at least one split, such as {'train': 1000}, got none.")
    for split, size in sizes.items():
        if split != "" and (not set(split) <= _SAFE or split.strip(" .") != split):
            raise ValueError(f"expected splits such as train and test, got {split!r}.")
        sizes[split] = check_integer("n", size, minimum=1)
        if at_hand is not None and sizes[split] > at_hand.get(split, 0):
            raise ValueError(
                f"the data set has {at_hand.get(split, 0):,} points of {split!r}, expected "
                f"{size:,}; ask for fewer, or for a problem, which has any number."
            )
    return sizes


def _drawn(source: Problem | Dataset, sizes: Mapping[str, int], seed: int) -> _Drawn:
    """Return points and labels of every split."""
    if isinstance(source, Dataset):
        return {
            split: (getattr(source, f"x_{split}")[:size], getattr(source, f"y_{split}")[:size])
            for split, size in sizes.items()
        }
    sets = {split: source.dataset(n, split=split or "train", seed=seed)
            for split, n in sizes.items()}  # fmt: skip
    return {split: (drawn.x, drawn.y) for split, drawn in sets.items()}


def _write_block(
    problem: ImageProblem,
    optimal: ClassifierModule,
    home: Path,
    names: tuple[str, ...],
    x: Tensor,
    y: Tensor,
    start: int,
    arrays: bool,
    distances: bool,
) -> list[dict[str, Any]]:
    """Write some points as images; return a row of the table for each."""
    exact = x.double()
    pixels = _eight_bits(x.numpy())
    seen = torch.from_numpy(pixels / 255.0)
    change = torch.linalg.vector_norm(exact - seen, dim=1)
    log_ratio = -wrongness(optimal, exact, y)
    moved = predicted(outputs(optimal, exact)) != predicted(outputs(optimal, seen))
    density = torch.empty_like(change)
    lower, upper = torch.empty_like(change), torch.empty_like(change)
    for label in range(problem.n_classes):
        chosen = y == label
        if not bool(chosen.any()):
            continue
        density[chosen] = problem.densities[label].log_prob(exact[chosen]).to(density)
        if distances:
            found = distances_from(optimal, exact[chosen], label)
            lower[chosen] = torch.from_numpy(found.lower)
            upper[chosen] = torch.from_numpy(found.upper)
    rows = []
    for i, label in enumerate(y.tolist()):
        file = f"{names[label]}/{start + i:06d}.png"
        shape = problem.image_shape
        _picture(pixels[i].reshape(shape)).save(home / file, format="PNG")
        if arrays:
            np.save((home / file).with_suffix(".npy"), x[i].numpy().reshape(shape))
        row = {
            "file_name": file,
            "label": label,
            "class_name": problem.class_names[label],
            "log_density": float(density[i]),
            "log_ratio": float(log_ratio[i]),
            "change": float(change[i]),
        }
        if distances:
            row |= {"distance_lower": float(lower[i]), "distance_upper": float(upper[i])}
        rows.append(row | {"moved": bool(moved[i])})
    return rows


def _eight_bits(x: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = np.rint(np.clip(x, 0.0, 1.0) * 255).astype(np.uint8)
    return pixels


def _picture(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Return an image of 1 or 3 channels, which come first, as Pillow has it."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))


def _change(rows: list[dict[str, Any]]) -> ImageChange:
    changes = [row["change"] for row in rows]
    return ImageChange(
        n=len(rows),
        mean=float(np.mean(changes)),
        largest=max(changes),
        n_decisions=sum(row["moved"] for row in rows),
    )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "moved"}


def _write_table(file: Path, rows: list[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _folder_names(class_names: Iterable[str]) -> tuple[str, ...]:
    """Return a folder's name for each class, in an order that sorting keeps.

    Readers number the classes by the sorted names of their folders. Names of classes are words of
    strangers: what no file system takes, or what leads out of the folder, is replaced.
    """
    names = tuple(class_names)
    safe = ["".join(c if c in _SAFE else "_" for c in name)[:_MAX_NAME] for name in names]
    # Without its case, as some disks see a name.
    folded = [name.casefold() for name in safe]
    plain = all(a == b and a.strip(" .") == a and a for a, b in zip(names, safe, strict=True))
    if plain and folded == sorted(set(folded)) and safe == sorted(safe):
        return tuple(safe)
    width = len(str(len(safe) - 1))
    return tuple(f"{i:0{width}d}_{name}".rstrip(" .") for i, name in enumerate(safe))


def _readme(problem: ImageProblem, sizes: Mapping[str, int], change: ImageChange) -> str:
    numbers = ", ".join(f"{size:,} {split}".strip() for split, size in sizes.items())
    names = ", ".join(map(markdown, problem.class_names))
    return (
        f"# Images of {names}, {problem.variant}\n\n"
        f"{numbers}. Drawn by trueboundary from densities that are known exactly; no image is a "
        "photograph or a scan. `export.json` describes them, `metadata.csv` has a row for each "
        f"image.\n\n{change}\n\nThe terms of the images that the densities were fitted to go on to "
        "these.\n"
    )
