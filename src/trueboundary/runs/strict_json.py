"""JSON that every reader accepts and that brings back infinities and NaN.

JSON has no infinity and no NaN, and Python's default of writing them all the same yields files that
other readers refuse. Here such a number is written as ``{"$float": "inf"}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_MARK = "$float"


def dumps(value: Any) -> str:
    """Return `value` as strict JSON text with sorted keys.

    Parameters
    ----------
    value : object
        Dictionaries with string keys, lists, tuples (which come back as lists), strings, numbers
        (numpy scalars become Python's), booleans and None.

    Returns
    -------
    str
        Text without ``NaN`` or ``Infinity``.

    Raises
    ------
    TypeError
        If something in it has no form in JSON.

    Examples
    --------
    >>> text = dumps({"distance": float("inf"), "n": 3})
    >>> "Infinity" in text
    False
    >>> loads(text)
    {'distance': inf, 'n': 3}
    """
    return json.dumps(_encode(value), indent=1, sort_keys=True, allow_nan=False)


def loads(text: str) -> Any:
    """Read what `dumps` wrote.

    Raises
    ------
    ValueError
        If `text` is not JSON.
    """
    return json.loads(text, object_hook=_decode)


def _encode(value: Any) -> Any:
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_MARK: repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _MARK:
                raise TypeError(f"JSON needs strings other than {_MARK!r} as keys, got {key!r}")
        return {key: _encode(item) for key, item in value.items()}
    raise TypeError(
        f"JSON cannot hold {type(value).__name__}: use plain numbers and words, and keep arrays "
        "among a result's arrays"
    )


def _decode(value: dict[str, Any]) -> Any:
    return float(value[_MARK]) if set(value) == {_MARK} else value
