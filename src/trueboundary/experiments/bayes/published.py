"""The paper's numbers on images, as its claims print them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import cache

from trueboundary.experiments.claims import read_claims


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
