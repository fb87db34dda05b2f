"""What all results have in common: plain values, a table, and a look in a notebook."""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

__all__ = ["ByClass", "Presentable", "PresentableFields", "storable"]

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
                "to_frame needs pandas, which is not installed; pip install "
                "'trueboundary[frames]', or take columns(), which are the same without it.",
                name="pandas",
            ) from error
        return pandas.DataFrame({name: list(values) for name, values in self.columns().items()})

    def __repr__(self) -> str:
        """Return the words of `str`, which is what an interpreter shows."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the words of `str` and the first rows of the table, for a notebook."""
        head, *rest = (html.escape(line.strip()) for line in str(self).splitlines())
        columns = self.columns()
        names = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
        rows = list(zip(*columns.values(), strict=True))
        shown = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row) + "</tr>"
            for row in rows[:_N_ROWS]
        )
        more = f"<p>{len(rows) - _N_ROWS:,} more rows</p>" if len(rows) > _N_ROWS else ""
        words = "<br>".join([f"<strong>{head}</strong>", *rest])
        table = f"<table><thead><tr>{names}</tr></thead><tbody>{shown}</tbody></table>"
        return f'<div class="tb-result"><p>{words}</p>{table}{more}</div>'


class PresentableFields(Presentable):
    """A result that is its fields: a dataclass, of which a subclass says no more than its words.

    Where the first field is an array its table has that and those as long as it, else one row of
    the fields that are single values.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class Gap(PresentableFields):
    ...     mean: float
    ...     largest: float
    ...     def __str__(self):
    ...         return f"{self.mean} on average"
    >>> Gap(0.5, 2.0), Gap(0.5, 2.0).to_dict()
    (0.5 on average, {'mean': 0.5, 'largest': 2.0})
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, which JSON can hold; infinity and NaN are None."""
        values: dict[str, Any] = storable(self._fields())
        return values

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the fields with an entry for each point, or one row of single values."""
        values = self._fields()
        first = next(iter(values.values()))
        if not isinstance(first, np.ndarray):
            return {name: [v] for name, v in values.items() if isinstance(v, (int, float, str))}
        return {
            name: v.tolist()
            for name, v in values.items()
            if isinstance(v, np.ndarray) and v.shape == first.shape
        }

    def _fields(self) -> dict[str, Any]:
        """Return the fields by name, tensors as arrays."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {
            name: v.numpy(force=True) if hasattr(v, "detach") else v for name, v in values.items()
        }


_Result = TypeVar("_Result", bound=Presentable)


class ByClass(tuple[_Result, ...], Presentable):
    """Results of several classes: a tuple of them, which is shown and taken elsewhere as a whole.

    Examples
    --------
    >>> import trueboundary as tb
    >>> rates = tb.error_rate(tb.QuadraticNetwork.perfect(5, 5), tb.ConcentricSpheres(5))
    >>> inner, outer = rates
    >>> rates
    class 0: 0 (exact)
      the error set is an ellipsoid's, whose measure is a Gaussian quadratic form's tail
    class 1: 0 (exact)
      the error set is an ellipsoid's, whose measure is a Gaussian quadratic form's tail
    """

    __slots__ = ()

    def __str__(self) -> str:
        """Return the words of each."""
        return "\n".join(map(str, self))

    def __repr__(self) -> str:
        """Return the words of each."""
        return str(self)

    def to_dict(self) -> dict[str, Any]:
        """Return a list of plain values, ``classes``."""
        return {"classes": [result.to_dict() for result in self]}

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the rows of all classes below one another."""
        parts = [result.columns() for result in self]
        names = [name for name in parts[0] if all(name in part for part in parts)] if parts else []
        return {name: [value for part in parts for value in part[name]] for name in names}


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
