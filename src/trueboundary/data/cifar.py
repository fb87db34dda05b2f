"""CIFAR-10 in the two forms in which it is published."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from trueboundary.data.files import existing, read_tar
from trueboundary.data.image_data import ImageData, Labels
from trueboundary.data.pickles import load_arrays
from trueboundary.data.pixels import Pixels
from trueboundary.regular_files import read_regular

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
CIFAR10_PLACES = (
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    "cifar-10-python.tar.gz",
    "cifar-10-binary.tar.gz",
)
_N_PIXELS = 3 * 32 * 32
# The published batches have 31.0 MB, and the archive 186 MB when it is unpacked.
_MAX_BATCH_BYTES, _MAX_ARCHIVE_BYTES = 2**25, 2**28


def load_cifar10(path: str | Path) -> ImageData:
    """Load CIFAR-10 from its archive or from the folder that the archive unpacks to.

    Parameters
    ----------
    path : str or pathlib.Path
        `cifar-10-python.tar.gz`, `cifar-10-binary.tar.gz`, the folder `cifar-10-batches-py` or
        `cifar-10-batches-bin`, or a folder that holds one of these.

    Returns
    -------
    ImageData
        uint8 images of 32 x 32 x 3; splits "train" (five batches) and "test".

    References
    ----------
    A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Examples
    --------
    >>> from trueboundary.data import load_cifar10
    >>> data = load_cifar10("cifar-10-python.tar.gz")  # doctest: +SKIP
    >>> x, y = data.part("train").of_classes("cat", "dog")  # doctest: +SKIP
    """
    place, contents = _locate(existing(Path(path), "CIFAR-10"))
    batches = []
    for name in _BATCHES:
        file = name if name in contents else f"{name}.bin"
        if file not in contents:
            raise FileNotFoundError(f"{place} lacks {name}; unpack or download CIFAR-10 again.")
        read = _read_binary if file.endswith(".bin") else _read_pickle
        batches.append(read(contents[file], f"{file} in {place}"))
    parts = {"train": batches[:-1], "test": batches[-1:]}
    return ImageData.of_parts({name: _joined(of) for name, of in parts.items()}, CIFAR10_CLASSES)


def _joined(batches: list[tuple[Pixels, Labels]]) -> tuple[Pixels, Labels]:
    """Return images and labels of some batches."""
    rows, labels = (np.concatenate(of_all) for of_all in zip(*batches, strict=True))
    # Stored as all red, then all green, then all blue pixels.
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _locate(path: Path) -> tuple[Path, dict[str, bytes]]:
    """Return where the batches lie, and the content of each."""
    if path.is_file():
        return path, _read_archive(path)
    for place in (path, *(path / part for part in CIFAR10_PLACES)):
        if place.is_file():
            return place, _read_archive(place)
        if place.is_dir():
            wanted = (place / name for name in _file_names())
            contents = {
                file.name: read_regular(file, _MAX_BATCH_BYTES)
                for file in wanted
                if os.path.lexists(file)
            }
            if contents:
                return place, contents
    raise FileNotFoundError(
        f"expected CIFAR-10's data_batch_1 ... test_batch or its archive in {path}; "
        "give the folder cifar-10-batches-py or the file cifar-10-python.tar.gz."
    )


def _file_names() -> set[str]:
    return {f"{name}{end}" for name in _BATCHES for end in ("", ".bin")}


def _read_archive(path: Path) -> dict[str, bytes]:
    return read_tar(path, _file_names(), limit=_MAX_BATCH_BYTES, total=_MAX_ARCHIVE_BYTES)


def _read_pickle(content: bytes, name: str) -> tuple[Pixels, Labels]:
    batch = load_arrays(io.BytesIO(content), name, limit=_MAX_BATCH_BYTES)
    try:
        rows, labels = batch["data"], np.asarray(batch["labels"])
        shapes_agree = (
            rows.shape == (*labels.shape, _N_PIXELS)
            and rows.dtype == np.uint8
            and labels.dtype.kind in "iu"
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        shapes_agree = False
    if not shapes_agree:
        raise ValueError(
            f"{name} should hold bytes 'data' of shape (n, {_N_PIXELS}) and n 'labels'; "
            "download it again."
        )
    return rows, _checked_labels(labels.astype(np.int64), name)


def _read_binary(content: bytes, name: str) -> tuple[Pixels, Labels]:
    if not content or len(content) % (1 + _N_PIXELS):
        raise ValueError(
            f"{name} should hold records of {1 + _N_PIXELS} bytes, got {len(content)} bytes; "
            "download it again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _N_PIXELS)
    return records[:, 1:], _checked_labels(records[:, 0].astype(np.int64), name)


def _checked_labels(labels: Labels, name: str) -> Labels:
    if labels.size and not (labels.min() >= 0 and labels.max() < len(CIFAR10_CLASSES)):
        raise ValueError(
            f"{name} has labels from {labels.min()} to {labels.max()}, expected 0 to 9; "
            "download it again."
        )
    return labels
