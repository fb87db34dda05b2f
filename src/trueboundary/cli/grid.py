"""The file of a sweep: experiments, and values of their settings to go through."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from trueboundary.cli.errors import LARGEST_SEED, UserError, check_scale, nearest
from trueboundary.experiments import get_experiment
from trueboundary.experiments.base import Experiment, read_settings
from trueboundary.experiments.overrides import parse_value
from trueboundary.runs import SCALES, Scale
from trueboundary.text_files import read_text

_KEYS = ("experiment", "scale", "seeds", "settings")


@dataclass(frozen=True)
class Point:
    """One experiment at one scale with one seed and one choice of settings.

    `overrides` are settings in place of the scale's, as ``name=value``; the seed is that of all
    runs.
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
        # TOML knows two ends of lines; an editor's third is harmless where nothing else is lost.
        content = tomllib.loads(read_text(file).replace("\r\n", "\n").replace("\r", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{file} cannot be read: {reason}") from error
    except ValueError as error:  # read_text's sentence names the file
        raise UserError(str(error)) from error
    tables = content.pop("sweep", None)
    if content or not _are_tables(tables):
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


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(t, dict) for t in value)


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
    seeds = value if isinstance(value, list) else []
    if not seeds or not all(type(seed) is int and 0 <= seed <= LARGEST_SEED for seed in seeds):
        raise ValueError(f"seeds is a list of whole numbers from 0 to 2^63 - 1, got {value!r}")
    return list(seeds)


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
    texts = [_text(name, item) for item in values]
    for text in texts:
        parse_value(known[name], text)  # says what is wrong, where the file's name is still known
    return [f"{name}={text}" for text in texts]


def _text(name: str, value: Any) -> str:
    """Write a value as on the command line."""
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return ",".join(_text(name, item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, str)):
        return str(value)
    raise ValueError(f"{name} is a number, a word or a list of them, got {value!r}")
