"""Nearest errors of a classifier and of the optimal one, from one group of points after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary.attacks import Attack, AttackResult
from trueboundary.audits.flags import first_errors
from trueboundary.audits.robustness_card import ClassAudit
from trueboundary.classifiers import Classifier
from trueboundary.domains import Space
from trueboundary.measure import Distances, ErrorRate, distances_from
from trueboundary.problems import ConcentricSpheres, Problem
from trueboundary.rare_events import ClassRate
from trueboundary.runs import Context, RunConfig, RunResult, Store, run_here

__all__ = ["FIRST", "AuditedRates", "Walk", "groups", "pictures_of", "rates_from"]

#: Points of each class at the ends of the first two groups, whose numbers are there first: one
#: tells how long a point takes, and four what to expect.
FIRST = (1, 4)

_N_OTHERS = 2_000  # points of each other class between which and a point there is room
_MOST_OTHERS = 2**26  # numbers that the points of a class may take for that
_ROWS = ("lower", "upper", "exact", "other", "nearest")

Floats = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class AuditedGroup(RunConfig):
    """Brackets from a group of points of one class, for whoever asks again."""

    model: str = ""
    points: str = ""
    attack: str = ""
    seed: int = 0
    label: int = 0
    start: int = 0
    with_pictures: bool = True


@dataclass(frozen=True)
class AuditedRates(RunConfig):
    """Error rates of a classifier on all classes, for whoever asks again."""

    model: str = ""
    points: str = ""
    n_points: int = 0
    seed: int = 0


def groups(
    n_points: int, size: int, first: Sequence[int] = FIRST, *, growing: bool = True
) -> Iterator[slice]:
    """Yield rows of points: few at `first`, then as many as there were, up to `size` at a time.

    Groups grow slowly, for what of a budget has no room for the next one goes unspent. Where none
    has to end in time fewer are faster: a small group takes nearly as long as a large one.

    Examples
    --------
    >>> [(rows.start, rows.stop) for rows in groups(50, 20)]
    [(0, 1), (1, 4), (4, 8), (8, 16), (16, 20), (20, 40), (40, 50)]
    >>> [(rows.start, rows.stop) for rows in groups(50, 20, FIRST[-1:], growing=False)]
    [(0, 4), (4, 20), (20, 40), (40, 50)]
    """
    start = 0
    while start < n_points:
        stops = (*first, 2 * start) if growing else first
        early = [stop for stop in stops if start < stop < size]
        stop = early[0] if early else start + size - start % size
        yield slice(start, min(n_points, stop))
        start = stop


def rates_from(
    store: Store | None, config: AuditedRates, measure: Callable[[], tuple[ErrorRate, ...]]
) -> tuple[ErrorRate, ...]:
    """Return error rates, from the store where they are there; without the runs of splitting."""
    if store is None:
        return tuple(replace(rate, splitting=None) for rate in measure())

    def compute(context: Context) -> RunResult:
        rates = measure()
        into = [(rate.label, *part) for rate in rates for part in rate.into]
        return RunResult(
            {"rates": [{name: getattr(rate, name) for name in _WORDS} for rate in rates]},
            {
                "numbers": np.array([[getattr(r, name) for name in _NUMBERS] for r in rates]),
                "into": np.array(into, dtype=np.float64).reshape(-1, 5),
            },
        )

    run = run_here(store, config, compute)
    found = []
    for words, numbers in zip(run.summary["rates"], run.arrays["numbers"].tolist(), strict=True):
        into = run.arrays["into"][run.arrays["into"][:, 0] == words["label"]]
        found.append(
            ErrorRate(
                **{**words, "warnings": tuple(words["warnings"])},
                **dict(zip(_NUMBERS, numbers, strict=True)),
                into=tuple(ClassRate(int(row[1]), *row[2:].tolist()) for row in into),
            )
        )
    return tuple(found)


_NUMBERS = ("value", "low", "high", "log10")
_WORDS = tuple(f.name for f in fields(ErrorRate) if f.name not in (*_NUMBERS, "splitting", "into"))


@dataclass
class Walk:
    """The nearest errors of a classifier and of the optimal one, group of points by group.

    Attributes
    ----------
    model : callable
        The classifier, held in eval mode.
    problem : Problem
        What the points are of.
    points : list of Tensor
        Points of each class.
    attack : Attack
        What finds errors.
    stronger : Attack or None
        The same with twice its budget, with which the first points are attacked again.
    seed : int
        Of all that is drawn.
    store : Store or None
        Where groups are kept.
    model_id, points_id : str
        What the model and the points are known by in the store.
    with_pictures : bool
        Whether errors are kept, for pictures.
    """

    model: Classifier
    problem: Problem
    points: list[Tensor]
    attack: Attack
    stronger: Attack | None
    seed: int
    store: Store | None
    model_id: str
    points_id: str
    with_pictures: bool

    def __post_init__(self) -> None:
        # On concentric spheres the optimal classifier has no errors.
        self.has_errors = not isinstance(self.problem, ConcentricSpheres)
        self.optimal: Any = (
            self.problem.bayes_classifier(dtype=torch.float64) if self.has_errors else None
        )
        self.found: list[list[Columns]] = [[] for _ in self.points]
        self.reasons: list[list[str]] = [[] for _ in self.points]
        self.method = ""
        self.n_done = 0
        self._drawn: list[Tensor] | None = None

    def take(self, rows: slice, between: Callable[[int], None]) -> None:
        """Bracket the distances from one group of each class; all count, or none.

        Parameters
        ----------
        rows : slice
            Which points of each class.
        between : callable
            Called with each class before it is attacked; may raise to stop.
        """
        made = []
        for label in range(len(self.points)):
            between(label)
            made.append(self._stored(label, rows))
        for label, (columns, reasons, method) in enumerate(made):
            self.found[label].append(columns)
            self.reasons[label] += reasons
            self.method = self.method or method
        self.n_done = rows.stop

    def of_class(self, label: int, name: str, rate: ErrorRate) -> ClassAudit:
        """Return what was measured of one class."""
        columns = self.column
        return ClassAudit(
            label=label,
            name=name,
            rate=rate,
            lower=columns("lower", label),
            upper=columns("upper", label),
            best_lower=columns("best_lower", label),
            best_upper=columns("best_upper", label),
            room=columns("room", label),
            other=columns("other", label).astype(np.int64),
            reasons=tuple(self.reasons[label]),
        )

    def column(self, name: str, label: int) -> npt.NDArray[Any]:
        """Return one column of a class over all groups; empty where there is none."""
        parts = [columns[name] for columns in self.found[label]]
        return np.concatenate(parts) if parts else np.empty(0)

    def _stored(self, label: int, rows: slice) -> tuple[Columns, list[str], str]:
        if self.store is None:
            result = self._measured(label, rows)
            return result.arrays, result.summary["reasons"], result.summary["method"]
        x = self.points[label][rows]
        config = AuditedGroup(
            model=self.model_id,
            points=f"{self.points_id} {len(x)}",
            attack=repr((self.attack, self.stronger if rows.start < FIRST[-1] else None)),
            seed=self.seed,
            label=label,
            start=rows.start,
            with_pictures=self.with_pictures,
        )
        run = run_here(self.store, config, lambda context: self._measured(label, rows))
        return run.arrays, run.summary["reasons"], run.summary["method"]

    def _measured(self, label: int, rows: slice) -> RunResult:
        """Bracket the distances from a group of points of one class."""
        x = self.points[label][rows]
        domain = self.problem.domain(label)
        found = distances_from(
            self.model, x, label, attack=self.attack, domain=domain, seed=self.seed
        )
        room, others = self._room(label, x)
        columns: Columns = {"room": room, "attacked": found.upper.copy()}
        ways = [others]
        nowhere = np.full(len(x), np.inf)
        columns |= {"best_lower": nowhere, "best_upper": nowhere}
        if self.has_errors:
            best = distances_from(self.optimal, x.double(), label, seed=self.seed)
            assert best.nearest is not None
            ways.append(torch.from_numpy(best.nearest).to(x))
            columns |= {"best_lower": best.lower, "best_upper": best.upper}
            columns["best_nearest"] = best.nearest
        columns["stronger"] = np.full(len(x), np.nan)
        if rows.start < FIRST[-1] and self.stronger is not None and not found.exact.all():
            again = self._attacked(self.stronger, label, x)
            errors = again.x_adv.double().numpy(force=True)
            columns["stronger"] = again.distance.double().numpy(force=True)
            other = again.predicted.numpy(force=True)
            found = _nearer(found, columns["stronger"], errors, other)
        columns["lines"] = nowhere
        if isinstance(domain, Space):
            lines, errors = first_errors(self.model, x, label, ways)
            columns["lines"] = lines
            found = _nearer(found, lines, errors, None)
        columns |= {name: np.asarray(getattr(found, name)) for name in _ROWS}
        if not self.with_pictures:
            for name in ("nearest", "best_nearest"):
                columns.pop(name, None)
        return RunResult({"reasons": list(found.reasons), "method": found.method}, columns)

    def _attacked(self, attack: Attack, label: int, x: Tensor) -> AttackResult:
        """Search errors by an attack alone: proofs do not depend on it."""
        return attack(
            self.model,
            x,
            torch.full((len(x),), label),
            domain=self.problem.domain(label),
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _room(self, label: int, x: Tensor) -> tuple[Floats, Tensor]:
        """Return half the distance to the nearest point of another class, and that point."""
        if self._drawn is None:
            n = max(1, min(_N_OTHERS, _MOST_OTHERS // x[0].numel()))
            self._drawn = [
                self.problem.block(
                    0, seed=self.seed, block_size=n, label=other, dtype=points.dtype,
                    purpose="room",
                )[0]
                for other, points in enumerate(self.points)
            ]  # fmt: skip
        nearest = torch.full((len(x),), torch.inf, dtype=x.dtype)
        point = x.clone()
        for other, drawn in enumerate(self._drawn):
            if other == label:
                continue
            gaps, places = torch.cdist(x.flatten(1), drawn.flatten(1)).min(dim=1)
            nearer = gaps < nearest
            nearest = torch.where(nearer, gaps, nearest)
            point[nearer] = drawn[places[nearer]]
        return nearest.double().numpy(force=True) / 2, point


def _nearer(
    found: Distances,
    upper: Floats,
    nearest: Floats | None,
    other: npt.NDArray[np.int64] | None,
) -> Distances:
    """Return brackets with nearer errors taken in, unless a proof excludes what rounding shows."""
    upper = np.maximum(upper, found.lower)
    is_nearer = upper < found.upper
    if not is_nearer.any() or nearest is None or found.nearest is None:
        return found
    rows = is_nearer.reshape(-1, *[1] * (nearest.ndim - 1))
    return replace(
        found,
        upper=np.where(is_nearer, upper, found.upper),
        nearest=np.where(rows, nearest, found.nearest),
        other=found.other if other is None else np.where(is_nearer, other, found.other),
        reasons=tuple(
            "" if closer else reason
            for closer, reason in zip(is_nearer, found.reasons, strict=True)
        )
        if found.reasons
        else (),
    )


def pictures_of(
    walk: Walk, shape: Sequence[int], n_pictures: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the first points of the classes as images, with the nearest errors of both."""
    if not walk.with_pictures or walk.n_done == 0:
        return {}
    each = max(1, -(-n_pictures // len(walk.points)))
    labels = range(len(walk.points))
    n = min(each, walk.n_done)
    parts = {
        "points": [walk.points[label][:n].double().numpy(force=True) for label in labels],
        "errors": [walk.column("nearest", label)[:n] for label in labels],
        "best errors": [walk.column("best_nearest", label)[:n] for label in labels],
    }
    return {
        what: np.concatenate(images).reshape(-1, *shape).astype(np.float32)
        for what, images in parts.items()
    }
