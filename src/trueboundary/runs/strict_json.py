"""JSON that every reader accepts, that brings back infinities and NaN, and that tells of damage.

JSON has no infinity and no NaN, and Python's default of writing them all the same yields files that
other readers refuse. Here such a number is written as ``{"$float": "inf"}``. A record that is
sealed carries the checksum of its own content.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_MARK = "$float"
_SPECIAL = ("inf", "-inf", "nan")
_CHECKSUM = "checksum"

#: How deep lists and dictionaries may lie in one another: nothing of ours comes near, and what goes
#: far beyond makes every reader fail that calls itself.
MAX_DEPTH = 100


def dumps(value: Any) -> str:
    """Return `value` as strict JSON text with sorted keys.

    Parameters
    ----------
    value : object
        Dictionaries with string keys, lists, tuples (which come back as lists), strings, numbers
        (numpy scalars become Python's), booleans and None.

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
        If `text` is not strict JSON, or nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(text, object_hook=_decode, parse_constant=_refuse)
        _encode(value)
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from error
    return value


def seal(record: Mapping[str, Any]) -> str:
    """Return `record` as JSON text that holds its own checksum.

    Examples
    --------
    >>> unseal(seal({"dim": 500}))
    {'dim': 500}
    >>> unseal(seal({"dim": 500}).replace("500", "100"))
    Traceback (most recent call last):
        ...
    ValueError: it has changed since it was written
    """
    checksum = hashlib.sha256(dumps(record).encode()).hexdigest()
    return dumps({**record, _CHECKSUM: checksum})


def unseal(text: str) -> dict[str, Any]:
    """Return the record that `seal` made `text` of.

    Raises
    ------
    ValueError
        If `text` is not, to the letter, what `seal` wrote.
    """
    record = loads(text)
    if not isinstance(record, dict):
        raise ValueError(f"it is no record but {type(record).__name__}")
    record.pop(_CHECKSUM, None)
    if seal(record) != text:
        raise ValueError("it has changed since it was written")
    return record


def is_sealed(record: Any) -> bool:
    """Say whether what `loads` returned carries a checksum, right or wrong."""
    return isinstance(record, dict) and _CHECKSUM in record


def _encode(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_MARK: repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_encode(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _MARK:
                raise TypeError(f"JSON needs strings other than {_MARK!r} as keys, got {key!r}")
        return {key: _encode(item, depth + 1) for key, item in value.items()}
    raise TypeError(
        f"JSON cannot hold {type(value).__name__}: use plain numbers and words, and keep arrays "
        "among a result's arrays"
    )


def _decode(value: dict[str, Any]) -> Any:
    if set(value) != {_MARK}:
        return value
    if value[_MARK] not in _SPECIAL:
        raise ValueError(f"{_MARK} must be one of {', '.join(_SPECIAL)}")
    return float(value[_MARK])


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
