"""What all results have in common: plain values, a table, and a look in a notebook."""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["Presentable", "storable"]

_N_ROWS = 5  # of a table in a notebook; all are in `to_frame`


class Presentable(ABC):
    """A result; a subclass says in `to_dict` what it holds, and in `columns` what its table is.

    Examples
    --------
    >>> class Coin(Presentable):
    ...     def to_dict(self):
    ...         return {"heads": 3, "tails": 4}
    ...     def columns(self):
    ...         return {"side": ["heads", "tails"], "n": [3, 4]}
    ...     def __str__(self):
    ...         return "7 throws"
    >>> "<td>tails</td><td>4</td>" in Coin()._repr_html_()
    True
    """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, which JSON can hold; infinity and NaN are None."""

    @abstractmethod
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the columns of `to_frame` by name, all of one length."""

    def to_frame(self) -> Any:
        """Return the result as a table of pandas.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "to_frame needs pandas, which is not installed; pip install pandas, or take "
                "columns(), which are the same without it.",
                name="pandas",
            ) from error
        return pandas.DataFrame({name: list(values) for name, values in self.columns().items()})

    def _repr_html_(self) -> str:
        """Return the words of `str` and the first rows of the table, for a notebook."""
        head, *rest = (html.escape(line.strip()) for line in str(self).splitlines())
        columns = self.columns()
        names = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        rows = list(zip(*columns.values(), strict=True))
        shown = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row) + "</tr>"
            for row in rows[:_N_ROWS]
        )
        more = f"<p>{len(rows) - _N_ROWS:,} more rows</p>" if len(rows) > _N_ROWS else ""
        words = "<br>".join([f"<strong>{head}</strong>", *rest])
        table = f"<table><thead><tr>{names}</tr></thead><tbody>{shown}</tbody></table>"
        return f'<div class="tb-result"><p>{words}</p>{table}{more}</div>'


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


def storable(values: Any) -> Any:
    """Return values as JSON has them: lists for arrays, None for what it has no number for.

    Examples
    --------
    >>> storable({"distance": np.array([1.0, np.inf]), "exact": np.bool_(True)})
    {'distance': [1.0, None], 'exact': True}
    """
    if isinstance(values, Mapping):
        return {name: storable(value) for name, value in values.items()}
    if isinstance(values, (list, tuple, np.ndarray)):
        return [storable(value) for value in values]
    if isinstance(values, (float, np.floating)):
        return float(values) if math.isfinite(values) else None
    return values.item() if isinstance(values, np.generic) else values
