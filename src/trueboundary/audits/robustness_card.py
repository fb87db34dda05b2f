"""The robustness card: what an audit found, as numbers, as words and as a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trueboundary import __version__
from trueboundary.audits.flags import Flag
from trueboundary.measure import ErrorRate, rate_values
from trueboundary.plurals import plural
from trueboundary.presentable import Presentable, storable
from trueboundary.regular_files import write_atomically
from trueboundary.runs import strict_json
from trueboundary.theory.intervals import censored_median, clopper_pearson, median_interval

__all__ = ["SCHEMA", "ClassAudit", "RobustnessCard", "Verdict", "VerdictKind"]

Floats = npt.NDArray[np.float64]
VerdictKind = Literal["robust", "learning", "data", "data and learning", "undecided"]

#: Version of what `RobustnessCard.to_dict` returns; the first number rises when a reader must care.
SCHEMA = "1.1"

#: Sizes at which robust accuracy is tabulated, as parts of the largest distance of interest.
_N_SIZES = 101


@dataclass(frozen=True, eq=False)
class ClassAudit:
    """What was measured on the random points of one class.

    Attributes
    ----------
    label : int
        The class.
    name : str
        Its name.
    rate : ErrorRate
        How often the classifier is wrong on it.
    lower, upper : ndarray of shape (n,)
        Proven and found distances of the classifier's nearest error, from the same points as
    best_lower, best_upper : ndarray of shape (n,)
        those of the optimal classifier; 0 where a point is an error.
    room : ndarray of shape (n,)
        Half the distance to the nearest of some thousand points of other classes: where a boundary
        halfway between two points would be.
    other : ndarray of int, shape (n,)
        Class on the other side of the nearest error found, -1 where none is known.
    reasons : tuple of str
        For each point why no error was found from it, empty where one was.
    """

    label: int
    name: str
    rate: ErrorRate
    lower: Floats
    upper: Floats
    best_lower: Floats
    best_upper: Floats
    room: Floats
    other: npt.NDArray[np.int64]
    reasons: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.upper)

    @property
    def best_right(self) -> npt.NDArray[np.bool_]:
        """Which points the optimal classifier gets right, shape (n,)."""
        return self.best_upper > 0


@dataclass(frozen=True)
class Verdict:
    """Whether a classifier is robust, and if not, what it owes that to.

    Attributes
    ----------
    kind : {"robust", "learning", "data", "data and learning", "undecided"}
        *data*: the optimal classifier is brittle too. *learning*: the optimal one is robust, this
        one is not. *undecided*: too few points, or a classifier that errs as often as a guess.
    text : str
        The verdict in words, with its evidence.
    share : tuple of float
        Median of the classifier's distance, 0 at its errors, over the optimal one's, on points that
        this one gets right, with its 95 % interval.
    share_of_room : tuple of float
        The same of the optimal classifier's distance over `ClassAudit.room`.
    """

    kind: VerdictKind
    text: str
    share: tuple[float, float, float]
    share_of_room: tuple[float, float, float]


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessCard(Presentable):
    """What an audit of a classifier found; `str` tells it in a terminal.

    Attributes
    ----------
    subject : str
        What was audited.
    problem : dict
        Description of the problem.
    classes : tuple of ClassAudit
        One for each class.
    verdict : Verdict
        Robust, or brittle by data or by learning.
    flags : tuple of Flag
        What there is to distrust.
    method : str
        Where distances come from.
    optimality : tuple of float
        On concentric spheres, for each class, the mean distance over the best possible one at the
        same error rate; else empty.
    settings : dict
        Seed, points, seconds and the like.
    notes : tuple of str
        Further sentences.
    pictures : dict of str to ndarray
        Images ``(n, channels, height, width)`` named ``points``, ``errors`` and ``best errors``;
        empty where the points are no images, or private ones.
    stopped : str
        What the classifier raised where it stopped half-way, so that the card tells of what was
        measured before; empty else.
    """

    subject: str
    problem: dict[str, Any]
    classes: tuple[ClassAudit, ...]
    verdict: Verdict
    flags: tuple[Flag, ...]
    method: str
    optimality: tuple[float, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pictures: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    stopped: str = ""

    @property
    def error_rate(self) -> float:
        """Error rate over all classes, each weighing as much as the others."""
        return float(np.mean([part.rate.value for part in self.classes]))

    def joined(self, name: str) -> Floats:
        """Return an array of `ClassAudit` over all classes, such as ``upper``."""
        parts: Floats = np.concatenate([getattr(part, name) for part in self.classes])
        return parts

    def curve(self) -> dict[str, Floats]:
        """Return robust accuracy at every size of perturbation, between two proven lines.

        Returns
        -------
        dict
            ``size``; ``certified``, the share of points from which no error is nearer, and
            ``found``, the share from which none was found nearer: robust accuracy lies between
            them. ``low`` and ``high`` enclose both with their 95 % intervals. ``best`` is the share
            of points of the optimal classifier.
        """
        lower, upper, best = (self.joined(name) for name in ("lower", "upper", "best_lower"))
        finite = np.concatenate([part[np.isfinite(part)] for part in (upper, best)])
        size = np.linspace(0.0, float(finite.max(initial=1.0)) * 1.05, _N_SIZES)
        certified, found, optimal = (
            (part[None, :] > size[:, None]).sum(axis=1) for part in (lower, upper, best)
        )
        n = len(upper)
        if n == 0:
            nothing = np.full(_N_SIZES, np.nan)
            names = ("certified", "found", "low", "high", "best")
            return {"size": size} | dict.fromkeys(names, nothing)
        return {
            "size": size,
            "certified": certified / n,
            "found": found / n,
            "low": np.array([clopper_pearson(int(k), n).low for k in certified]),
            "high": np.array([clopper_pearson(int(k), n).high for k in found]),
            "best": optimal / n,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain values, which JSON can hold; infinity and NaN are None."""
        values: dict[str, Any] = storable(self._values())
        return values

    def _values(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": __version__,
            "subject": self.subject,
            "problem": self.problem,
            "verdict": {
                "kind": self.verdict.kind,
                "text": self.verdict.text,
                "share_of_optimum": self.verdict.share,
                "optimum_over_room": self.verdict.share_of_room,
            },
            "error_rate": self.error_rate,
            "classes": [_class_values(part) for part in self.classes],
            "robust_accuracy": self.curve(),
            "optimality": self.optimality,
            "flags": [
                {"name": flag.name, "text": flag.text, "page": f"flags/{flag.slug}"}
                for flag in self.flags
            ],
            "method": self.method,
            "settings": self.settings,
            "stopped": self.stopped,
            "notes": list(self.notes),
        }

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return what was measured, a row for each point; the columns are as in `ClassAudit`."""
        names = ("lower", "upper", "best_lower", "best_upper", "room", "other", "reasons")
        return {
            "label": [part.label for part in self.classes for _ in range(part.n)],
            "name": [part.name for part in self.classes for _ in range(part.n)],
            **{
                name: [value for part in self.classes for value in getattr(part, name)]
                for name in names
            },
        }

    def save(self, file: str | Path) -> Path:
        """Write the card as an HTML page, or as JSON where the name ends so; whole or not at all.

        Raises
        ------
        ValueError
            If the name ends otherwise.
        """
        from trueboundary.audits.card_page import page

        return save_page(file, self.to_dict, lambda: page(self))

    def __str__(self) -> str:
        """Tell the card in at most 80 columns."""
        return self.text()

    def text(self, width: int = 80) -> str:
        """Return the card in words and a table, for a terminal of that many columns."""
        return "\n".join(self._lines(width))

    def _repr_html_(self) -> str:
        """Return the card for a notebook."""
        from trueboundary.audits.card_page import fragment

        return fragment(self)

    def _lines(self, width: int) -> list[str]:
        each = plural(max((part.n for part in self.classes), default=0), "point")
        lines = [
            f"Robustness card: {self.subject}",
            *_wrapped(f"on {problem_words(self.problem)}, {each} of each class", width),
            "",
            *_wrapped(f"Verdict: {self.verdict.text}", width),
            "",
        ]
        head = _line(("class", "error rate", "distance", "optimal", "share"))
        if len(head) <= width:
            lines += [head, *(_line(_cells(part)) for part in self.classes)]
        else:
            for part in self.classes:
                name, rate, distance, optimal, share = _cells(part)
                told = f"error rate {rate}, distance {distance}, optimal {optimal}, share {share}"
                lines += _wrapped(f"{name}: {told}", width)
        for flag in self.flags:
            lines += ["", *_wrapped(f"Red flag, {flag}.", width)]
        if not self.flags:
            lines += ["", "No red flags."]
        lines += ["", *_wrapped(f"Distances: {self.method}.", width)]
        return lines + [line for note in self.notes for line in _wrapped(note, width)]


def save_page(
    file: str | Path, values: Callable[[], dict[str, Any]], page: Callable[[], str]
) -> Path:
    """Write values as JSON or a page as HTML, as the name ends; whole or not at all."""
    file = Path(file)
    if file.suffix not in (".json", ".html", ".htm"):
        raise ValueError(f"expected a file .html or .json, got {file}.")
    text = strict_json.dumps(values()) if file.suffix == ".json" else page()
    write_atomically(file, text.encode())
    return file


def problem_words(description: dict[str, Any]) -> str:
    """Say in a few words what a problem is."""
    kind = str(description.get("problem", ""))
    if kind == "ConcentricSpheres":
        return f"concentric spheres in {description['dim']} dimensions"
    names = description.get("class_names")
    if names:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        return f"images of {listed}, {description['variant']}"
    return f"{kind} in {description.get('dim', 2)} dimensions"


def ratios(of: Floats, over: Floats) -> Floats:
    """Return distances over others from the same points.

    A ratio of two infinite distances is 1: neither has an error. An error itself has the ratio 0,
    and what is over a distance of which nothing is proven is infinite.
    """
    found: Floats = np.ones_like(of)
    neither = np.isinf(of) & np.isinf(over)
    with np.errstate(divide="ignore"):
        np.divide(of, over, out=found, where=~neither & (of > 0))
    return np.where(of > 0, found, 0.0)


def shares(of: Floats, over: Floats) -> tuple[float, float, float]:
    """Return the median of `ratios` with its 95 % interval, NaN where there are no points."""
    if not len(of):
        return math.nan, math.nan, math.nan
    ratio = ratios(of, over)
    low, high = median_interval(ratio)
    return censored_median(ratio), low, high


def _class_values(part: ClassAudit) -> dict[str, Any]:
    right = part.best_right
    return {
        "label": part.label,
        "name": part.name,
        "n_points": part.n,
        "error_rate": rate_values(part.rate),
        "lower": part.lower,
        "upper": part.upper,
        "optimal_lower": part.best_lower,
        "optimal_upper": part.best_upper,
        "room": part.room,
        "other": part.other.tolist(),
        "share_of_optimum": shares(part.upper[right], part.best_lower[right]),
        "reasons": [reason for reason in dict.fromkeys(part.reasons) if reason],
    }


def median(values: Floats) -> float:
    """Return the median with failures counted as infinite, NaN where nothing was measured."""
    return censored_median(values) if len(values) else math.nan


def rate_words(rate: ErrorRate) -> str:
    """Say an error rate in a few characters."""
    if math.isnan(rate.value):
        return "-"
    if rate.value > 0:
        return f"{rate.value:.2g}"
    return "0" if rate.method == "exact" else f"< {rate.high:.1g}"


def _cells(part: ClassAudit) -> tuple[str, str, str, str, str]:
    shown = rate_words(part.rate)
    lower, upper = median(part.lower), median(part.upper)
    right = part.best_right
    share = shares(part.upper[right], part.best_lower[right])[0]
    ends = dict.fromkeys((_number(lower), _number(upper)))  # one, where they look the same
    between = " to ".join(ends)
    return part.name, shown, between, _number(median(part.best_upper)), _percent(share)


def _line(cells: tuple[str, str, str, str, str]) -> str:
    name, rate, distance, optimal, share = cells
    return f"{name[:11]:<12}{rate:>12}{distance:>20}{optimal:>12}{share:>9}"


def _number(value: float) -> str:
    return "none" if math.isinf(value) else "-" if math.isnan(value) else f"{value:.3g}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.0%}" if math.isfinite(share) else "inf"


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)
