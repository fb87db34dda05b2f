"""Settings given as ``name=value`` in place of a scale's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trueboundary.experiments.base import Experiment, Setting, read_settings
from trueboundary.suggestions import nearest


def parse_overrides(
    experiments: Sequence[Experiment], texts: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return the settings that ``name=value`` texts replace, by experiment and name.

    A value gets the type that the setting has in ``scales.toml``; several values are separated by
    commas, for instance ``"radii=1.1,1.3"``. Each text applies to all those of `experiments` that
    have the setting; there is an entry for each, empty where nothing is replaced.
    """
    settings = {e.id: {s.name: s for s in read_settings(e.id)} for e in experiments}
    overrides: dict[str, dict[str, Any]] = {e.id: {} for e in experiments}
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ValueError(f"a setting is given as name=value, got {text!r}")
        if name in given:
            raise ValueError(
                f"{name} is given twice, as {given[name]!r} and {value!r}; give it once (several "
                "values are separated by commas)"
            )
        given[name] = value
        owners = [id for id, known in settings.items() if name in known]
        if not owners:
            raise ValueError(_unknown(name, {n for known in settings.values() for n in known}))
        for id in owners:
            overrides[id][name] = parse_value(settings[id][name], value)
    return overrides


def parse_value(setting: Setting, text: str) -> Any:
    """Return `text` as a value of the setting's own type.

    Examples
    --------
    >>> n_steps = Setting("n_steps", {"smoke": 50, "quick": 12_000, "paper": 1_000_000}, "time")
    >>> parse_value(n_steps, "2e4"), parse_value(n_steps, "20_000")
    (20000, 20000)
    """
    examples = list(setting.values.values())
    if any(isinstance(example, tuple) for example in examples):
        items = [item for example in examples for item in example]
        parts = [part for part in text.split(",") if part.strip()]
        if not parts and () not in examples:
            raise ValueError(f"{setting.name} needs at least one value, got {text!r}")
        return tuple(_scalar(setting.name, items, part.strip()) for part in parts)
    return _scalar(setting.name, examples, text)


def _scalar(name: str, examples: Sequence[Any], text: str) -> Any:
    """Convert `text` to the one type that fits all `examples`."""
    types = {type(example) for example in examples}
    if types == {bool}:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name} is true or false, got {text!r}")
        return text.lower() == "true"
    if types == {str}:
        return text
    if types and types <= {int, float}:
        return _number(name, text, whole=types == {int})
    raise ValueError(f"{name} cannot be set on the command line: it is not a number or a word")


def _number(name: str, text: str, *, whole: bool) -> int | float:
    kind = "a whole number" if whole else "a number"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {kind}, got {text!r}") from None
    if not whole:
        return value
    if not value.is_integer():
        raise ValueError(f"{name} is {kind}, got {text!r}")
    # Through int where that is possible: a float holds whole numbers exactly up to 2**53 only.
    return int(text) if text.lstrip("+-").replace("_", "").isdecimal() else int(value)


def _unknown(name: str, known: set[str]) -> str:
    return f"there is no setting {name!r} here ({', '.join(sorted(known))}){nearest(name, known)}"
