"""Frozen descriptions of computations, and the hash that names their results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trueboundary._checks import check_integer
from trueboundary.presentable import Presentable, storable

#: Raised when the layout of a stored run changes; part of every hash.
SCHEMA_VERSION = 2

#: Numbers and arrays of a run that its words name.
_MOST_SHOWN = 4

Arrays = dict[str, NDArray[Any]]
Model = tuple[dict[str, Any], Arrays]


@dataclass(frozen=True)
class RunResult:
    """What a computation hands to the store.

    Parameters
    ----------
    summary : dict
        Numbers and words, anything JSON can hold.
    arrays : dict of str to numpy.ndarray
        Columns and tables.
    models : dict of str to (spec, arrays)
        Trained classifiers, as `trueboundary.classifiers.to_arrays` gives them.
    """

    summary: dict[str, Any]
    arrays: Arrays = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Run(Presentable):
    """A finished computation as read back from the store.

    Parameters
    ----------
    config : dict
        The fields of the configuration that was run, with its ``kind``.
    result : RunResult
        Summary, arrays and models.
    info : dict
        When, how long, with which versions and on which device it ran.
    path : pathlib.Path
        The folder it was read from.
    """

    config: dict[str, Any]
    result: RunResult
    info: dict[str, Any]
    path: Path

    @property
    def summary(self) -> dict[str, Any]:
        """Numbers and words of the result."""
        return self.result.summary

    @property
    def arrays(self) -> Arrays:
        """Arrays of the result."""
        return self.result.arrays

    def __str__(self) -> str:
        """Say what was found in one line, and what else the run holds in another."""
        numbers = [f"{name} {value:.4g}" for name, value in self._numbers().items()]
        arrays = [f"{name} {array.shape}" for name, array in self.arrays.items()]
        held = [*arrays, *(f"model {name}" for name in self.result.models)]
        first = f"{self.path.name}: {', '.join(numbers[:_MOST_SHOWN]) or 'no numbers'}"
        return f"{first}\n  {', '.join(held[:_MOST_SHOWN]) or 'nothing else'}"

    def to_dict(self) -> dict[str, Any]:
        """Return configuration, summary and circumstances as plain values, for JSON."""
        values: dict[str, Any] = storable(
            {"config": self.config, "summary": self.summary, "info": self.info}
        )
        return values | {"path": str(self.path)}

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the arrays of one axis that are as long as the first, or the numbers as a row."""
        lists = {name: array for name, array in self.arrays.items() if array.ndim == 1}
        n = len(next(iter(lists.values()), ()))
        if n:
            return {name: array.tolist() for name, array in lists.items() if len(array) == n}
        return {name: [value] for name, value in self._numbers().items()}

    def _numbers(self) -> dict[str, float]:
        return {
            name: value
            for name, value in self.summary.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }


@dataclass(frozen=True)
class Context:
    """What a computation may use besides its own configuration.

    Parameters
    ----------
    inputs : mapping of str to Run
        The finished runs that the configuration's `RunConfig.needs` names.
    checkpoint : pathlib.Path
        A folder of its own that outlives a killed process; it is removed once the run is stored.
    progress : callable
        ``progress(fraction)`` with the fraction done, 0 to 1.
    """

    inputs: Mapping[str, Run]
    checkpoint: Path
    progress: Callable[[float], None]


@dataclass(frozen=True)
class RunConfig:
    """One computation: subclasses add fields and say how to compute the result.

    Everything that can change the numbers is a field (seed, device and sizes included) or the
    class constant `version`, which a subclass raises whenever its `compute` changes meaning.

    A run is known by its class constant `kind`, the name of the class unless the class says
    otherwise, and by no path: classes may move between modules and keep their results.

    Raises
    ------
    TypeError
        If a subclass is defined whose `kind` another class has already.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "RunConfig"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = vars(cls).get("kind", cls.__name__)
        path = f"{_module(cls)}.{cls.__qualname__}"
        other = _KINDS.setdefault(cls.kind, path)
        if other != path:
            raise TypeError(
                f"{path} and {other} are both runs of the kind {cls.kind!r}, and would take each "
                "other's results for their own: rename one, or give it a kind of its own."
            )

    def needs(self) -> Mapping[str, RunConfig]:
        """Other computations whose results `compute` reads, by the name it reads them under.

        They follow from the fields and from nothing else.
        """
        return {}

    def cost(self) -> float:
        """Rough cost in seconds on one core, used to order work and to show the time left."""
        return 1.0

    def in_words(self) -> str:
        """Return what the run does, to be shown while it does it.

        It is empty where the title of the experiment says all there is to say.
        """
        return ""

    def compute(self, context: Context) -> RunResult:
        """Do the work; must depend on nothing but the fields and ``context.inputs``."""
        raise NotImplementedError(f"{self.kind} does not say how it is computed")

    def check_at_least(self, minimum: int, *names: str) -> None:
        """Refuse fields that are no integers of at least `minimum`."""
        for name in names:
            check_integer(name, getattr(self, name), minimum=minimum)

    def field_values(self) -> dict[str, Any]:
        """Return the fields as they are, for a configuration that has them and more."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def describe(self) -> dict[str, Any]:
        """Return the fields as JSON types, with the kind."""
        return {"kind": self.kind} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @property
    def digest(self) -> str:
        """Hash (16 hexadecimal digits) of everything that can change the result."""
        identity = (type(self), self.version, _installed_version("torch"), *_field_identities(self))
        if identity not in _DIGESTS:
            _DIGESTS[identity] = self._hash()
        return _DIGESTS[identity]

    def _hash(self) -> str:
        content = {
            "schema": SCHEMA_VERSION,
            "version": self.version,
            "config": self.describe(),
            "needs": {name: need.digest for name, need in sorted(self.needs().items())},
            "torch": _installed_version("torch"),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """Name of the run's folder in a store."""
        return f"{self.kind}-{self.digest}"


#: Where the class of each kind of run was defined.
_KINDS: dict[str, str] = {}

#: Digests by value: whoever plans asks for those of equal configurations many times over.
_DIGESTS: dict[tuple[Any, ...], str] = {}

_ATOMS = (str, int, bool, type(None))


def _field_identities(instance: Any) -> list[tuple[Any, ...]]:
    return [_identity(getattr(instance, f.name)) for f in fields(instance)]


def _identity(value: Any) -> tuple[Any, ...]:
    """Return what is equal exactly where the texts that are hashed are.

    The values themselves will not do: 1, 1.0 and True are equal, and so are the two zeros.
    """
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if kind is float:
        return kind, value.hex()
    if kind is tuple:
        return kind, *map(_identity, value)
    if isinstance(value, RunConfig):
        return kind, value.digest
    if is_dataclass(value) and not isinstance(value, type):
        return kind, *_field_identities(value)
    return kind, json.dumps(_plain(value), sort_keys=True)


def _module(kind: type) -> str:
    # In a spawned worker process the program's own module goes by another name.
    return "__main__" if kind.__module__ == "__mp_main__" else kind.__module__


@cache
def _installed_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _plain(value: Any) -> Any:
    """Turn a field's value into JSON types, and refuse what has no stable form."""
    if isinstance(value, RunConfig):
        return value.describe() | {"digest": value.digest}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a run's configuration may not hold {value}: use None for 'no limit'")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a run's configuration may not hold {type(value).__name__}: use JSON types")
