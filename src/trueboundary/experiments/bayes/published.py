"""The paper's numbers on images, as its claims print them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from trueboundary.experiments.claims import read_claims

#: Height and width of the paper's faces.
_FACE_SIZE = 64


def size_words(settings: Mapping[str, Any]) -> str:
    """Return what a cell of a table adds to its number where faces have not the paper's size.

    Examples
    --------
    >>> size_words({"face_size": 32}), size_words({"face_size": 64}), size_words({})
    (', 32 x 32', '', '')
    """
    size = settings.get("face_size", _FACE_SIZE)
    return "" if size == _FACE_SIZE else f", {size} x {size}"


def printed_numbers(claim: str) -> tuple[float, ...]:
    """Return the numbers that a claim prints, per cent as shares; none if there is no such claim.

    Examples
    --------
    >>> printed_numbers("B2.1"), printed_numbers("B2.8-Male"), printed_numbers("B2.8-Hats")
    ((2.98, 1.84, 1.09, 2.69), (0.947, 0.897, 0.897), ())
    """
    text = _printed().get(claim, "")
    unit = 100 if "%" in text else 1
    return tuple(float(Decimal(number) / unit) for number in re.findall(r"\d+(?:\.\d+)?", text))


def printed_table(claim: str, names: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Return the numbers of a table's rows by data set, of which some may have none.

    In the id of a row's claim braces stand for what follows the slash in a data set's name.
    """
    found = {name: printed_numbers(claim.format(name.partition("/")[2])) for name in names}
    return {name: numbers for name, numbers in found.items() if numbers}


@cache
def _printed() -> dict[str, str]:
    return {claim.id: claim.printed for claim in read_claims("bayes")}
