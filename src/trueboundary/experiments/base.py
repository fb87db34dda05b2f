"""What an experiment is: a plan of runs, and an analysis that reads nothing but their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trueboundary.experiments.papers import PAPERS, read_table
from trueboundary.runs import SCALES, Run, RunConfig, Scale, total_cost

if TYPE_CHECKING:  # the command line lists experiments without loading matplotlib
    from matplotlib.figure import Figure

    from trueboundary.data import ImageSource

#: Where the width of a measured interval comes from: a sample, of which more makes it narrower; a
#: few trained networks, when it is to hold one network of the paper; or a grid or a proof, which
#: bracket the value whatever the number of points.
IntervalOf = Literal["samples", "networks", "bracket"]
Table = Sequence[Mapping[str, Any]]
Row = dict[str, Any]
Rows = list[Row]


@dataclass(frozen=True)
class Measurement:
    """What an experiment measured about one claim.

    Parameters
    ----------
    value : float or bool or None
        The measured number, or whether the statement held; None where the intervals of what it
        compares leave that open.
    low, high : float, optional
        95 % interval; None when the value is exact or is a statement.
    n : int, optional
        Number of independent samples, points or seeds behind the value.
    exact : float, optional
        The mathematical value of the same quantity, where there is one.
    cells : sequence of mappings
        Rows of the table or curve behind a claim about an ordering or a range.
    note : str
        What a reader must know besides, in one or two sentences.
    interval_of : {"samples", "networks", "bracket"}
        Where the width of the interval comes from.
    holds_for : str
        For which values of something that the paper leaves open the outcome is this one; it is said
        with the verdict.
    """

    value: float | bool | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    exact: float | None = None
    cells: Table = ()
    note: str = ""
    interval_of: IntervalOf = "samples"
    holds_for: str = ""

    @property
    def number(self) -> float:
        """The measured number; NaN of a statement."""
        is_number = self.value is not None and not isinstance(self.value, bool)
        return float(self.value) if is_number else math.nan  # type: ignore[arg-type]


@dataclass(frozen=True)
class ImagePair:
    """An image before and after an attack, for readers to step through.

    Parameters
    ----------
    classifier : str
        What was attacked.
    label : str
        The image's class.
    decisions : tuple of str
        The classes that the classifier decides for before and after the attack, or before it alone
        where the attack found no error.
    original, attacked : ndarray of shape (channels, height, width)
        Pixels from 0 (black) to 1 (white).
    distance : float
        L2 distance to the error that was found; infinite where none was.
    """

    classifier: str
    label: str
    decisions: tuple[str, ...]
    original: NDArray[np.floating[Any]]
    attacked: NDArray[np.floating[Any]]
    distance: float


@dataclass(frozen=True)
class Panel:
    """A figure with its caption and the numbers that are drawn in it.

    Parameters
    ----------
    name : str
        File name without suffix, for instance ``"fig3-left"``.
    title : str
        Heading in the report.
    caption : str
        What to see in it.
    draw : callable
        Makes the `matplotlib.figure.Figure` (constructed directly, never through pyplot).
    data : sequence of mappings
        One row per plotted value; written as CSV beside the picture.
    pairs : sequence of ImagePair
        Images to step through, where it shows attacked images.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    data: Table
    pairs: Sequence[ImagePair] = ()


@dataclass(frozen=True)
class Analysis:
    """What an experiment has to say, computed from stored runs alone.

    Parameters
    ----------
    panels : sequence of Panel
        Figures.
    measurements : mapping of str to Measurement
        By the id of a claim or finding.
    remarks : sequence of str
        Sentences for the report: findings that belong to no claim.
    without_data : collection of str
        Ids of the claims and findings that were not measured because this machine has not the data.
        Any other without a measurement is one that the runs, as they came out, cannot decide.
    conditions : sequence of str
        What besides settings was not as in the paper, for instance the number of photographs. It
        decides nothing and is said with every verdict that depends on a setting.
    tables : mapping
        Measured cells, in words, for tables that the paper prints: by table and row, in the order
        of its columns; see ``tables.toml`` beside the claims.
    """

    panels: Sequence[Panel] = ()
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    without_data: Collection[str] = ()
    conditions: Sequence[str] = ()
    tables: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """One setting of an experiment, with its value at each scale.

    Parameters
    ----------
    name : str
        Its name.
    values : mapping
        Its value by scale; that of ``"paper"`` is the paper's, stated there or assumed here.
    why : str
        Why other scales have other values.
    stated : str
        Where the paper states its value; empty where it does not.
    assumed : str
        Why the value was chosen where the paper states none; empty where it does.
    is_amount : bool
        Whether more is never less: more points, or a list with further values.
    """

    name: str
    values: Mapping[Scale, Any]
    why: str
    stated: str = ""
    assumed: str = ""
    is_amount: bool = False

    @property
    def names_images(self) -> bool:
        """Whether its value names data sets, by the rule that ``dataset`` ends its name."""
        return self.name.endswith("dataset")

    def is_reduced(self, value: Any) -> bool:
        """Return whether `value` is less than the paper's, or another where there is no less.

        Examples
        --------
        >>> values = {"smoke": 10, "quick": 100, "paper": 1000}
        >>> n_points = Setting("n_points", values, "time", stated="section 3", is_amount=True)
        >>> [n_points.is_reduced(n) for n in (999, 1000, 2000)]
        [True, False, False]
        >>> dim = Setting("dim", values, "time", stated="section 3")
        >>> [dim.is_reduced(n) for n in (999, 1000, 2000)]
        [True, False, True]
        """
        paper = self.values["paper"]
        if not self.is_amount:
            return bool(value != paper)
        try:
            if isinstance(paper, (tuple, list)):
                return any(one not in value for one in paper)
            return not value >= paper
        except TypeError:  # a plan's settings may be anything
            return True


@dataclass(frozen=True)
class Experiment:
    """One figure, table or group of claims.

    Parameters
    ----------
    id : str
        Name on the command line.
    paper : str
        Folder of the paper, the group that ``trueboundary reproduce`` runs it in.
    place : str
        Figure or section of the paper.
    title : str
        One line.
    question : str
        What it asks, in one or two sentences.
    plan : callable
        ``plan(settings, seed, device)`` gives the runs by name; `settings` are the values that
        ``scales.toml`` states for the scale.
    analyse : callable
        ``analyse(runs, settings)`` turns finished runs into an `Analysis`.
    on_request : str
        Why ``trueboundary reproduce`` leaves it out, for instance that it needs data which its
        users must bring; ``trueboundary run`` starts it. Empty where it does not.
    """

    id: str
    paper: str
    place: str
    title: str
    question: str
    plan: Callable[[Mapping[str, Any], int, str], Mapping[str, RunConfig]]
    analyse: Callable[[Mapping[str, Run], Mapping[str, Any]], Analysis]
    on_request: str = ""

    def settings(self, scale: Scale, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the experiment's settings at `scale`, with those in `overrides` replaced."""
        settings = {s.name: s.values[scale] for s in read_settings(self.id)}
        for name, value in (overrides or {}).items():
            if name not in settings:
                raise ValueError(f"{self.id} has no setting {name!r}; it has {', '.join(settings)}")
            settings[name] = value
        if settings.get("n_seeds", 1) < 1:
            raise ValueError(f"n_seeds must be at least 1, got {settings['n_seeds']}")
        return settings

    def runs(
        self,
        scale: Scale,
        *,
        seed: int = 0,
        device: str = "cpu",
        overrides: Mapping[str, Any] | None = None,
    ) -> dict[str, RunConfig]:
        """Return the planned runs at `scale`, by name."""
        return dict(self.plan(self.settings(scale, overrides), seed, device))

    def missing_data(self, settings: Mapping[str, Any]) -> str:
        """Return one sentence if `settings` ask for images that are not here, else nothing.

        Data sets are named by the settings ``dataset``, ``sweep_dataset`` and the like.
        """
        for source in self.brought_data(settings):
            location = source.location()
            if location is not None and not location.found:
                message = location.message.rstrip(".")
                return f"{self.id} is left out: it needs {source.title}, {message}."
        return ""

    def brought_data(self, settings: Mapping[str, Any]) -> list[ImageSource]:
        """Return the sources whose images users bring and which `settings` ask for."""
        named: set[str] = set()
        for setting in read_settings(self.id):
            if setting.names_images and setting.name in settings:
                value = settings[setting.name]
                names = [value] if isinstance(value, str) else value
                named |= {name.partition("/")[0] for name in names}
        if not named:
            return []
        from trueboundary.data import image_sources

        return [s for s in image_sources().values() if s.is_brought and s.name in named]

    def cost(self, scale: Scale) -> float:
        """Rough cost in seconds on one core, what is shared with other experiments included."""
        return total_cost(self.runs(scale).values())


def seeds(settings: Mapping[str, Any], seed: int) -> Iterator[tuple[int, int]]:
    """Yield number and seed of each of the networks that the setting ``n_seeds`` asks for."""
    yield from enumerate(range(seed, seed + settings["n_seeds"]))


def rows_of(**columns: Iterable[Any]) -> Rows:
    """Return the table that has these columns, with plain numbers.

    Examples
    --------
    >>> import numpy as np
    >>> rows_of(step=np.array([1, 2]), name="ab")
    [{'step': 1, 'name': 'a'}, {'step': 2, 'name': 'b'}]
    """
    plain = [c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*plain, strict=True)]


def read_settings(experiment: str) -> list[Setting]:
    """Return every setting of an experiment with its value at each scale."""
    return [_setting(experiment, *entry) for entry in _scales()[experiment].items()]


@cache
def _scales() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    return {name: table for paper in PAPERS for name, table in read_table(paper, "scales").items()}


def _setting(experiment: str, name: str, entry: Mapping[str, Any]) -> Setting:
    where = f"scales.toml: {experiment}.{name}"
    values: dict[Scale, Any] = {}
    for scale in SCALES:
        if scale not in entry:
            raise ValueError(f"{where} has no value for scale {scale}")
        value = entry[scale]
        values[scale] = tuple(value) if isinstance(value, list) else value
    if unknown := entry.keys() - {*SCALES, "why", "stated", "assumed", "amount"}:
        raise ValueError(f"{where} says {min(unknown)!r}, which means nothing here")
    why = entry.get("why", "")
    if not why and values["quick"] != values["paper"]:
        raise ValueError(f"{where} is reduced at quick but says not why")
    stated, assumed = entry.get("stated", ""), entry.get("assumed", "")
    if bool(stated) == bool(assumed):
        raise ValueError(
            f"{where} must say either where the paper states its value (stated) or why this value "
            "is assumed (assumed)"
        )
    is_amount = entry.get("amount", False)
    if is_amount and isinstance(values["paper"], (str, bool)):
        raise ValueError(
            f"{where} is no amount: {values['paper']!r} is neither a number nor a list"
        )
    return Setting(name, values, why, stated, assumed, is_amount)
