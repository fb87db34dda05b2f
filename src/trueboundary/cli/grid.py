"""The file of a sweep: experiments, and values of their settings to go through."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from trueboundary.cli.errors import UserError, check_scale, nearest
from trueboundary.experiments import get_experiment
from trueboundary.experiments.base import SCALES, Experiment, Scale, read_settings

_KEYS = ("experiment", "scale", "seeds", "settings")


@dataclass(frozen=True)
class Point:
    """One experiment at one scale with one seed and one choice of settings.

    Parameters
    ----------
    experiment : Experiment
        What to run.
    scale : str
        ``"smoke"``, ``"quick"`` or ``"paper"``.
    seed : int
        Seed of all its runs.
    overrides : tuple of str
        Settings in place of the scale's, as ``name=value``.
    """

    experiment: Experiment
    scale: Scale
    seed: int
    overrides: tuple[str, ...]

    @property
    def label(self) -> str:
        """What to call it: everything but the scale."""
        return " ".join([self.experiment.id, *self.overrides, f"seed={self.seed}"])


def read_grid(file: Path) -> list[Point]:
    """Return every point of the grids in a TOML file, in the order in which they are written.

    Each table ``[[sweep]]`` has the keys ``experiment`` (one id or a list), ``scale`` (one or a
    list; ``"quick"``), ``seeds`` (a list; ``[0]``) and ``settings`` (a table of values or lists of
    values), and stands for all combinations of what is listed. A setting that is itself a list
    takes a list of lists where several of its values are to be gone through.

    Raises
    ------
    UserError
        If the file cannot be read or is not of that form.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    tables = content.pop("sweep", None)
    if content or not isinstance(tables, list) or not tables:
        found = f", got {', '.join(content)}" if content else ""
        raise UserError(f"{file} must hold tables [[sweep]] and nothing else{found}")
    points: dict[tuple[str, str, int, tuple[str, ...]], Point] = {}
    for number, table in enumerate(tables, start=1):
        try:
            for point in _points(table):
                key = (point.experiment.id, point.scale, point.seed, point.overrides)
                points.setdefault(key, point)
        except (UserError, ValueError) as error:
            raise UserError(f"{file}, sweep {number}: {error}") from error
    return list(points.values())


def _points(table: Mapping[str, Any]) -> Iterator[Point]:
    for key in table:
        if key not in _KEYS:
            raise ValueError(f"there is no key {key!r} ({', '.join(_KEYS)}){nearest(key, _KEYS)}")
    if "experiment" not in table:
        raise ValueError("it names no experiment")
    settings = table.get("settings", {})
    if not isinstance(settings, Mapping):
        raise ValueError(f"settings is a table of values, got {settings!r}")
    names = _words("experiment", table["experiment"])
    scales, seeds = _scales(table.get("scale", "quick")), _seeds(table.get("seeds", [0]))
    for experiment in map(get_experiment, names):
        choices = [_choices(experiment, name, value) for name, value in settings.items()]
        for scale in scales:
            for overrides in product(*choices):
                yield from (Point(experiment, scale, seed, overrides) for seed in seeds)


def _words(key: str, value: Any) -> list[str]:
    words = value if isinstance(value, list) else [value]
    if not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{key} is a word or a list of words, got {value!r}")
    return words


def _scales(value: Any) -> list[Scale]:
    words = _words("scale", value)
    for word in words:
        check_scale(word)
    return [scale for word in words for scale in SCALES if scale == word]


def _seeds(value: Any) -> list[int]:
    whole = isinstance(value, list) and all(type(seed) is int and seed >= 0 for seed in value)
    if not whole or not value:
        raise ValueError(f"seeds is a list of whole numbers from 0 on, got {value!r}")
    return list(value)


def _choices(experiment: Experiment, name: str, value: Any) -> list[str]:
    """Return the values to go through as ``name=value``."""
    known = {setting.name: setting for setting in read_settings(experiment.id)}
    if name not in known:
        raise ValueError(f"{experiment.id} has no setting {name!r}{nearest(name, list(known))}")
    if any(isinstance(example, tuple) for example in known[name].values.values()):
        several = isinstance(value, list) and any(isinstance(item, list) for item in value)
        values = value if several else [value]
    else:
        values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{name} has no value to go through")
    return [f"{name}={_text(name, item)}" for item in values]


def _text(name: str, value: Any) -> str:
    """Write a value as on the command line."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(_text(name, item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, str)):
        return str(value)
    raise ValueError(f"{name} is a number, a word or a list of them, got {value!r}")
