"""Reading arrays out of pickles without letting the pickle run anything.

MNIST and CIFAR-10 are still published as pickles written by Python 2. A pickle may name any
function and have it called; the reader here knows three names, and all three build arrays of
plain numbers.
"""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

import numpy as np
import numpy.typing as npt

_PLAIN_DTYPE = re.compile(r"[|<>=]?[biuf][1248]")
_NDARRAY = object()  # stands for the class numpy.ndarray, which a pickle must not call


def _empty_array(kind: object, shape: tuple[int, ...], code: Any) -> npt.NDArray[Any]:
    """Return what numpy's own reconstruction returns: an array that the pickle fills next."""
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError("it does not hold plain arrays")
    return np.ndarray.__new__(np.ndarray, shape, "b")


def _plain_dtype(code: str, *_flags: Any) -> np.dtype[Any]:
    if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
        raise pickle.UnpicklingError(f"it holds numbers of the unknown kind {code!r}")
    return np.dtype(code)


_ALLOWED = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _plain_dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it wants to use {module}.{name}, which no file of images needs"
            ) from None


def load_arrays(stream: io.BufferedIOBase, name: str) -> Any:
    """Return the containers, numbers, strings and numpy arrays of a pickle.

    Parameters
    ----------
    stream : binary file
        The pickle. Strings written by Python 2 are read as Latin-1.
    name : str
        How errors name the file.

    Raises
    ------
    ValueError
        If the pickle is cut off or corrupt, or names anything but numpy's arrays.

    Examples
    --------
    >>> load_arrays(io.BytesIO(pickle.dumps({"labels": [3, 1]})), "example")
    {'labels': [3, 1]}
    >>> load_arrays(io.BytesIO(pickle.dumps(print)), "example")
    Traceback (most recent call last):
        ...
    ValueError: example is not a pickle of arrays: it wants to use builtins.print, which ...
    """
    try:
        return _ArrayUnpickler(stream, encoding="latin1").load()
    except Exception as error:  # a corrupt pickle raises whatever its bytes happen to call for
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{name} is not a pickle of arrays: {reason}; download it again."
        ) from None
