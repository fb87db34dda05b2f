"""What is known of an entry of the zoo, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["classifier", "problem"]

_FURTHER = {
    "n_wrong_alphas": "{value} of the ellipsoid's alphas lie outside [1/R², 1], where all those of "
    "a network without errors lie.",
}


@dataclass(frozen=True)
class Card:
    """What is known of an entry of the zoo.

    ``str(card)`` is the card as Markdown.

    Attributes
    ----------
    name, kind, title, problem : str
        As in `Entry`.
    about : str
        What the entry is for, and where the papers have it.
    spec : dict
        Which class it is of, and what its constructor takes.
    settings : dict
        The configuration of the run that it comes from.
    seed : int or None
        Seed of everything random in that run.
    source : dict
        That run: ``run`` (its folder in a store), ``command`` (what computes it again) and
        ``versions`` (of torch and others that it was computed with).
    measured : dict
        What was measured of the shipped file: ``error_rate`` and ``distance``, a table for each
        class as `trueboundary.measure.error_rate` and `trueboundary.measure.distances` have them,
        further numbers, ``how`` (a line of Python that measures it again) and ``torch`` (the
        version it was measured with). Of a problem they are those of its optimal classifier.
    data : str
        What data it was made from.
    licence : str
        Under which licence it comes.
    command : str
        What made entry and card from that run.
    """

    name: str
    kind: Kind
    title: str
    problem: str
    about: str
    spec: dict[str, Any]
    settings: dict[str, Any]
    seed: int | None
    source: dict[str, Any]
    measured: dict[str, Any]
    data: str
    licence: str
    command: str

    def __str__(self) -> str:
        """Return the card as Markdown."""
        measured = self.measured
        whose = "optimal classifier" if self.kind == "problem" else "classifier"
        lines = [f"# {self.name}", "", f"{self.title}. {self.about}", ""]
        lines += _table(whose, measured)
        lines += [
            f"- {words.format(value=measured[name])}"
            for name, words in _FURTHER.items()
            if name in measured
        ]
        lines.append(f"- Measured by `{measured['how']}` with torch {measured['torch']}.")
        if self.kind == "classifier":
            lines.append(f"- Problem: `{self.problem}`.")
        if self.settings:
            settings = ", ".join(f"{name} = {value}" for name, value in flat(self.settings).items())
            lines.append(f"- Settings: {settings}.")
        if "run" in self.source:
            versions = ", ".join(f"{n} {v}" for n, v in self.source["versions"].items())
            lines.append(
                f"- Run: `{self.source['run']}`, by `{self.source['command']}` ({versions})."
            )
        lines += [
            f"- Data: {self.data}",
            f"- Licence: {self.licence}",
            f"- Made by `{self.command}`.",
            "",
        ]
        return "\n".join(lines)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings with those of inner configurations under names with a dot.

    Examples
    --------
    >>> flat({"seed": 0, "task": {"fit": {"tol": 0.001}}})
    {'seed': 0, 'task.fit.tol': 0.001}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _table(whose: str, measured: Mapping[str, Any]) -> list[str]:
    rates, found = measured["error_rate"], measured["distance"]
    rows = [
        ("error rate", [_rate(rate) for rate in rates]),
        ("mean distance to the nearest error", [_mean(of_class) for of_class in found]),
        (
            "mean of the proven lower bounds",
            [f"{of_class['mean_lower']:.4g}" for of_class in found],
        ),
        ("points", [f"{of_class['n']:,}" for of_class in found]),
        ("of these with an exact distance", [f"{of_class['n_exact']:,}" for of_class in found]),
        ("without an error found", [_failures(of_class) for of_class in found]),
    ]
    if len(rates) > 2:  # many classes are rows, or no page is wide enough
        names = ["class", *(name for name, _ in rows)]
        columns = [[str(label) for label in range(len(rates))], *(cells for _, cells in rows)]
        table = [names, *map(list, zip(*columns, strict=True))]
    else:
        table = [[whose, "class 0", "class 1"], *([name, *cells] for name, cells in rows)]
    head, *body = (f"| {' | '.join(cells)} |" for cells in table)
    return [head, f"|{'---|' * len(table[0])}", *body, ""]


def _rate(rate: Mapping[str, Any]) -> str:
    if rate["method"] == "exact":
        return f"{rate['value']:.4g} (exact)"
    n = f"{rate['n_errors']:,} of {rate['n_points']:,}"
    if rate["method"] == "splitting":
        n = f"splitting; sampled: {n}"
    if rate["value"] == 0:
        return f"below {rate['high']:.3g} ({n})"
    return f"{rate['value']:.3g} [{rate['low']:.3g}, {rate['high']:.3g}] ({n})"


def _mean(found: Mapping[str, Any]) -> str:
    if found["n_failed"] == found["n"]:
        return "there is none" if _has_no_error(found) else "none found"
    return f"{found['mean']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"


def _failures(found: Mapping[str, Any]) -> str:
    if _has_no_error(found):
        return f"{found['n_failed']}, since there is none"
    reasons = [f"{why} ({n})" for why, n in found["reasons"].items()]
    return f"{found['n_failed']}" + (f": {'; '.join(reasons)}" if reasons else "")


def _has_no_error(found: Mapping[str, Any]) -> bool:
    """Tell whether it is proven of every point that no error can be reached from it."""
    return bool(found["n_exact"] == found["n_failed"] == found["n"])
