"""IDX files, the format in which MNIST and its relatives are published."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from trueboundary.data.files import existing
from trueboundary.data.image_data import ImageData
from trueboundary.regular_files import open_regular, read_at_most

# The third byte of an IDX file says what the numbers are; all are stored big-endian.
_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODES = {dtype.newbyteorder("="): code for code, dtype in _DTYPES.items()}

# The largest published relative, EMNIST, has 0.55 GB of images.
_MAX_BYTES = 2**30
_MAX_HEADER_BYTES = 4 + 4 * 255

_IMAGES = re.compile(r"(?P<stem>.*)images[-.]idx3[-.]ubyte(?:\.gz)?")


def encode_idx(array: npt.NDArray[Any]) -> bytes:
    """Return `array` as the content of an IDX file.

    Parameters
    ----------
    array : numpy.ndarray
        At most 255 dimensions; uint8, int8, int16, int32, float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> encode_idx(np.array([7, 2], np.uint8)).hex(" ")
    '00 00 08 01 00 00 00 02 07 02'
    """
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(
            f"an IDX file holds {', '.join(str(dtype) for dtype in _CODES)}; got {array.dtype}."
        )
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(_DTYPES[code]).tobytes()


def decode_idx(content: bytes, name: str) -> npt.NDArray[Any]:
    """Return the writable array that an IDX file holds; errors call the file by `name`.

    Examples
    --------
    >>> import numpy as np
    >>> decode_idx(encode_idx(np.array([[1.5, 2.0]])), "example")
    array([[1.5, 2. ]])
    """
    dtype, shape, start = _decode_header(content[:_MAX_HEADER_BYTES], name)
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        fault = "cut off" if len(content) < expected else "too long"
        raise ValueError(
            f"{name} is {fault}: its header announces shape {shape} in {expected} bytes, "
            f"got {len(content)}; download it again."
        )
    numbers = np.frombuffer(content, dtype, offset=start).reshape(shape)
    native: npt.NDArray[Any] = numbers.astype(dtype.newbyteorder("="))
    return native


def _decode_header(content: bytes, name: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return the dtype, the shape and where the numbers start."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        raise ValueError(
            f"{name} is not an IDX file: it should start with two zero bytes and a type code, "
            f"got {content[:4].hex(' ') or 'nothing'}; download it again."
        )
    dtype, n_axes = _DTYPES[content[2]], content[3]
    start = 4 + 4 * n_axes
    if len(content) < start:
        raise ValueError(f"{name} is cut off inside its header; download it again.")
    return dtype, struct.unpack(f">{n_axes}I", content[4:start]), start


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Return the array in an IDX file; compression by gzip is recognised by its content.

    Examples
    --------
    >>> import gzip, tempfile
    >>> import numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "labels.gz"
    >>> _ = path.write_bytes(gzip.compress(encode_idx(np.arange(3, dtype=np.uint8))))
    >>> read_idx(path)
    array([0, 1, 2], dtype=uint8)
    """
    with open_regular(existing(path, "an IDX file"), _MAX_BYTES) as stream:
        is_packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        try:
            # What is packed small may unpack to any size.
            unpacked = cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if is_packed else stream
            header = read_at_most(unpacked, _MAX_HEADER_BYTES - 1)
            dtype, shape, start = _decode_header(header, str(path))
            announced = start + math.prod(shape) * dtype.itemsize
            if announced > _MAX_BYTES:
                raise ValueError(
                    f"{path} announces shape {shape}, more than the {_MAX_BYTES:,} bytes that "
                    "such a file may have; download it again."
                )
            content = header + read_at_most(unpacked, announced)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{path} is not a whole gzip file ({error}); download it again."
            ) from None
    return decode_idx(content, str(path))


def load_idx_folder(path: str | Path) -> ImageData:
    """Load a folder of IDX files named as MNIST names them.

    A training set is a file `...train-images-idx3-ubyte` beside `...train-labels-idx1-ubyte`; a
    test set has `t10k` or `test` in place of `train`. Each may end in `.gz`. At least one of the
    two sets must be there. Images are uint8 with one channel; the classes are called "0", "1", ...

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = Path(tempfile.mkdtemp())
    >>> images = encode_idx(np.zeros((2, 28, 28), np.uint8))
    >>> _ = (folder / "train-images-idx3-ubyte").write_bytes(images)
    >>> labels = encode_idx(np.array([3, 1], np.uint8))
    >>> _ = (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    >>> load_idx_folder(folder)
    ImageData(2 images of 28 x 28 x 1, 4 classes, train: 2)
    """
    folder = existing(Path(path), "a folder of IDX files")
    sets = {name: _read_set(folder, stem) for name, stem in _stems(folder).items()}
    shapes = {images.shape[1:] for images, _ in sets.values()}
    if len(shapes) > 1:
        raise ValueError(f"the training and test images in {folder} differ in size: {shapes}.")
    n_classes = 1 + max(labels.max(initial=-1) for _, labels in sets.values())
    parts = {name: (images[..., None], labels) for name, (images, labels) in sets.items()}
    return ImageData.of_parts(parts, [str(label) for label in range(n_classes)])


def _stems(folder: Path) -> dict[str, str]:
    """Return what stands before `images-idx3` in the names of the training and test files."""
    if not folder.is_dir():
        raise ValueError(f"{folder} should be a folder of IDX files, got a file; give its folder.")
    matches = (_IMAGES.fullmatch(file.name) for file in sorted(folder.iterdir()))
    stems = sorted({match["stem"] for match in matches if match})
    found: dict[str, str] = {}
    for split, words in (("train", ("train",)), ("test", ("t10k", "test"))):
        of_split = [stem for stem in stems if any(word in stem for word in words)]
        if len(of_split) > 1:
            raise ValueError(
                f"{folder} holds several {split} sets ({', '.join(of_split)}); "
                "give each data set a folder of its own."
            )
        if of_split:
            found[split] = of_split[0]
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no IDX images; expected for instance train-images-idx3-ubyte.gz "
            "and train-labels-idx1-ubyte.gz."
        )
    return found


def _read_set(folder: Path, stem: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    image_file = _variant(folder, stem, "images", 3)
    label_file = _variant(folder, stem, "labels", 1)
    images, labels = read_idx(image_file), read_idx(label_file)
    for file, array, n_axes in ((image_file, images, 3), (label_file, labels, 1)):
        if array.ndim != n_axes or array.dtype != np.uint8:
            raise ValueError(
                f"{file} should hold bytes in {n_axes} dimensions, "
                f"got {array.dtype} in {array.ndim}."
            )
    if len(images) != len(labels):
        raise ValueError(
            f"{image_file} holds {len(images)} images but {label_file} {len(labels)} labels; "
            "take both from the same source."
        )
    return images, labels.astype(np.int64)


def _variant(folder: Path, stem: str, what: str, n_axes: int) -> Path:
    names = [
        f"{stem}{what}{a}idx{n_axes}{b}ubyte{end}"
        for end in ("", ".gz")
        for a in "-."
        for b in "-."
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no file {names[0]} (or .gz); put it beside the images.")
