"""An audit of a classifier: how often it errs, how nearly, and whether data or learning is why."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks import Attack, AttackWarning, HopSkipJump, NearestError
from trueboundary.audits.flags import Flag, flags_of_outputs, flags_of_search
from trueboundary.audits.robustness_card import (
    ClassAudit,
    RobustnessCard,
    Verdict,
    VerdictKind,
    shares,
)
from trueboundary.audits.subjects import (
    Estimator,
    Subject,
    is_estimator,
    load_problem,
    subject_of_estimator,
)
from trueboundary.classifiers import (
    Classifier,
    ClassifierWarning,
    dtype_of,
    evaluated,
    is_labels_alone,
)
from trueboundary.domains import Space
from trueboundary.measure import Distances, ErrorRate, distances_from, error_rate
from trueboundary.problems import (
    ConcentricSpheres,
    ImageProblem,
    Problem,
    TableProblem,
    check_number_of_classes,
)
from trueboundary.rare_events import RareEventWarning
from trueboundary.theory import caps
from trueboundary.theory.intervals import censored_median

__all__ = ["BRITTLE_DATA", "CLOSE_TO_OPTIMAL", "audit", "judge_classes"]

#: A classifier whose errors are this part of the optimal one's distance away is as robust as it.
CLOSE_TO_OPTIMAL = 0.75
#: Data whose optimal classifier uses less than this part of the room between points are brittle.
BRITTLE_DATA = 0.25

_N_OTHERS = 2_000  # points of each other class between which and a point there is room
_CHUNK = 20  # points of each class that are attacked before the clock is looked at
_N_LOOKED_AT = 8  # points of each class at which outputs and gradients are looked at
_N_PICTURES = 8
_RATE_SHARE = 0.3  # of the budget goes to error rates

Progress = Callable[[str, float], None]
Floats = npt.NDArray[np.float64]


def audit(
    model: Classifier | Estimator | Subject,
    problem: Problem | str | Path,
    *,
    name: str = "",
    n_points: int = 100,
    n_error_points: int = 10_000,
    budget: float | None = None,
    attack: Attack | None = None,
    seed: int = 0,
    private: bool = False,
    progress: Progress | None = None,
) -> RobustnessCard:
    """Judge a classifier against the truth: robust, or brittle by data or by learning.

    Parameters
    ----------
    model : callable
        Maps points ``(n, *event)`` to margins ``(n,)`` or logits ``(n, K)``; see
        `trueboundary.as_classifier` for probabilities, pairs of classes and normalisation. A
        fitted scikit-learn classifier is taken as `trueboundary.classifiers.from_sklearn` does, and
        by its labels alone where that knows no module. Or what
        `trueboundary.audits.load_subject` returns.
    problem : Problem, str or Path
        What the points are drawn from; a name or a folder as for
        `trueboundary.audits.load_problem`.
    name : str
        What the classifier is called on the card; the name of its class by default.
    n_points : int
        Random points per class from which the nearest error is bracketed, at least 2.
    n_error_points : int
        Random points per class for error rates that are not exact. From 20,000 on, fewer than ten
        errors among them are followed by splitting, which takes far longer.
    budget : float, optional
        Seconds that the brackets may take: points are attacked in groups until they are spent, at
        least 20 of each class. By default all `n_points` are.
    attack : Attack, optional
        Gives upper ends; by default `NearestError`, and `HopSkipJump` of a classifier that says
        its labels alone.
    seed : int
        Seed of all points.
    private : bool
        Keep pictures of the points off the card.
    progress : callable, optional
        ``progress(what, fraction)`` before each step.

    Returns
    -------
    RobustnessCard
        Numbers, verdict, red flags and pictures.

    Raises
    ------
    TypeError, ValueError
        If the model is no classifier of the problem's points and classes; before anything is
        measured.

    Notes
    -----
    The share of the optimum is the distance of the error found, 0 where the point is one, over the
    proven distance of the optimal classifier's, from the same points. Three quarters of it count as
    robust, the threshold by which Richardson and Weiss's CNNs are called brittle here. Data are
    brittle where the optimal classifier's errors are nearer than a quarter of the room: half the
    distance to the nearest of 2,000 points of each other class. Both thresholds are ours.

    Examples
    --------
    >>> import torch
    >>> import trueboundary as tb
    >>> from trueboundary.audits import audit
    >>> from trueboundary.problems import planar_problem
    >>> problem = planar_problem("a")
    >>> tilted = lambda x: x[:, 0] + 3 * x[:, 1]  # the classes lie left and right
    >>> audit(tilted, problem, n_points=20).verdict.kind
    'learning'
    """
    with warnings.catch_warnings():  # the card says what they say
        warnings.simplefilter("ignore", AttackWarning)
        warnings.simplefilter("ignore", ClassifierWarning)
        warnings.simplefilter("ignore", RareEventWarning)
        return _audited(
            model, problem, name, n_points, n_error_points, budget, attack, seed, private, progress
        )


def _audited(
    model: Any,
    problem: Problem | str | Path,
    name: str,
    n_points: int,
    n_error_points: int,
    budget: float | None,
    attack: Attack | None,
    seed: int,
    private: bool,
    progress: Progress | None,
) -> RobustnessCard:
    start = time.monotonic()
    problem = load_problem(problem)
    n_points = check_integer("n_points", n_points, minimum=2)
    if isinstance(problem, TableProblem):
        raise TypeError("tables are audited by error_rate and distances, which are exact on them.")
    if budget is not None and not 0 < budget < math.inf:
        raise ValueError(f"expected a budget of seconds above 0, got {budget!r}.")
    say = progress or (lambda what, fraction: None)
    subject = _subject(model, problem, name)
    model = subject.classifier
    by_labels = is_labels_alone(model)
    if attack is None:
        attack = HopSkipJump() if by_labels else NearestError()
    dtype = dtype_of(model)
    say("looking at the outputs", 0.0)
    points = [_points(problem, label, n_points, seed, dtype) for label in range(problem.n_classes)]
    with evaluated(model) as doubts:
        check_number_of_classes(model, problem, dtype=dtype)
        few = [part[:_N_LOOKED_AT] for part in points]
        y = torch.arange(len(few)).repeat_interleave(len(few[0]))
        flags = [Flag("training mode", sentence) for sentence in doubts]
        flags += flags_of_outputs(model, torch.cat(few), y, by_labels=by_labels)
    say("counting errors", 0.05)
    rates = error_rate(model, problem, n_points=n_error_points, seed=seed)
    flags += [Flag("outputs", text) for rate in rates[:1] for text in rate.warnings]
    rooms = _rooms(problem, points, seed)
    walk = _Walk(model, problem, attack, seed)
    deadline = math.inf if budget is None else start + budget
    n_done = 0
    while n_done < n_points and (n_done == 0 or time.monotonic() < deadline):
        say("looking for the nearest errors", _RATE_SHARE + (1 - _RATE_SHARE) * n_done / n_points)
        rows = slice(n_done, min(n_points, n_done + _CHUNK))
        for label, (x, (_, others)) in enumerate(zip(points, rooms, strict=True)):
            walk.attack(label, x[rows], others[rows])
        n_done = rows.stop
    names = getattr(problem, "class_names", None) or tuple(map(str, range(problem.n_classes)))
    classes = tuple(
        walk.of_class(label, names[label], rates[label], rooms[label][0][:n_done])
        for label in range(problem.n_classes)
    )
    ended = (f"The budget ended after {n_done} points per class.",) * (n_done < n_points)
    say("done", 1.0)
    return RobustnessCard(
        subject=subject.name,
        problem=problem.describe(),
        classes=classes,
        verdict=judge_classes(classes),
        flags=tuple(dict.fromkeys((*flags, *walk.flags))),
        method=walk.method,
        optimality=_optimality(problem, classes),
        settings={
            "seed": seed,
            "n_points": n_done,
            "n_error_points": n_error_points,
            "budget": budget,
            "seconds": round(time.monotonic() - start, 2),
            "attack": repr(walk.attacker),
        },
        notes=subject.notes + ended,
        pictures={} if private else walk.pictures(points),
    )


def _subject(model: Any, problem: Problem, name: str) -> Subject:
    """Return whatever was given to be audited with a name, and what is to be known of it."""
    if isinstance(model, Subject):
        return replace(model, name=name or model.name)
    if is_estimator(model):
        subject = subject_of_estimator(model, problem)
        return replace(subject, name=name or subject.name)
    return Subject(model, name or type(model).__name__)


class _Walk:
    """The nearest errors of a classifier and of the optimal one, group of points by group."""

    def __init__(self, model: Classifier, problem: Problem, attacker: Attack, seed: int) -> None:
        self.model, self.problem, self.attacker, self.seed = model, problem, attacker, seed
        self.has_errors = not isinstance(problem, ConcentricSpheres)  # the optimal classifier
        self.optimal: Any = (
            problem.bayes_classifier(dtype=torch.float64) if self.has_errors else None
        )
        n_classes = problem.n_classes
        self.found: list[list[Distances]] = [[] for _ in range(n_classes)]
        self.best: list[list[Distances]] = [[] for _ in range(n_classes)]
        self.flags: list[Flag] = []
        self.method = ""

    def attack(self, label: int, x: Tensor, others: Tensor) -> None:
        """Bracket the distances from a group of points of one class."""
        domain = self.problem.domain(label)
        found = distances_from(
            self.model, x, label, attack=self.attacker, domain=domain, seed=self.seed
        )
        self.method = self.method or found.method
        ways = [others]
        if self.has_errors:
            best = distances_from(self.optimal, x.double(), label, seed=self.seed)
            assert best.nearest is not None
            ways.append(torch.from_numpy(best.nearest).to(x))
            self.best[label].append(best)
        if isinstance(domain, Space):
            with evaluated(self.model):
                nearest, flags = flags_of_search(self.model, found, x, ways)
            self.flags += flags
            # An error is one, whoever found it, unless a proof excludes what rounding shows.
            upper = np.minimum(found.upper, np.maximum(nearest, found.lower))
            found = replace(found, upper=upper)
        self.found[label].append(found)

    def of_class(self, label: int, name: str, rate: ErrorRate, room: Floats) -> ClassAudit:
        """Return what was measured of one class."""
        found, best = self.found[label], self.best[label]
        n = sum(part.n for part in found)
        nowhere = [np.full(n, np.inf)]
        return ClassAudit(
            label=label,
            name=name,
            rate=rate,
            lower=np.concatenate([part.lower for part in found]),
            upper=np.concatenate([part.upper for part in found]),
            best_lower=np.concatenate([part.lower for part in best] or nowhere),
            best_upper=np.concatenate([part.upper for part in best] or nowhere),
            room=room,
            other=np.concatenate([part.other for part in found]),
            reasons=tuple(reason for part in found for reason in part.reasons),
        )

    def pictures(self, points: list[Tensor]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the first points of the classes as images, with the nearest errors of both."""
        if not isinstance(self.problem, ImageProblem):
            return {}
        each = max(1, -(-_N_PICTURES // len(points)))
        parts = {
            "points": [x[:each].double().numpy(force=True) for x in points],
            "errors": [_first(found, each) for found in self.found],
            "best errors": [_first(found, each) for found in self.best],
        }
        shape = (-1, *self.problem.image_shape)
        return {
            what: np.concatenate(images).reshape(shape).astype(np.float32)
            for what, images in parts.items()
        }


def judge_classes(classes: Sequence[ClassAudit]) -> Verdict:
    """Return the verdict on what was measured; see `audit` for the rules."""
    right = np.concatenate([part.best_right for part in classes])
    upper, best_lower, best_upper, room = (
        np.concatenate([getattr(part, name) for part in classes])[right]
        for name in ("upper", "best_lower", "best_upper", "room")
    )
    share, of_room = shares(upper, best_lower), shares(best_upper, room)
    how_near = f"a median of {_of(share)} of the optimal classifier's"
    if np.isinf(best_lower).all():  # concentric spheres
        if np.isinf(upper).all():
            text = "robust. No error was found, as the optimal classifier has none."
            return Verdict("robust", text, share, of_room)
        text = (
            "brittle by learning. The optimal classifier has no error at any distance; this one "
            f"has errors at a median distance of {censored_median(upper):.3g}."
        )
        return Verdict("learning", text, share, of_room)
    brittle = share[2] < CLOSE_TO_OPTIMAL
    close = share[1] >= CLOSE_TO_OPTIMAL
    brittle_data = of_room[2] < BRITTLE_DATA
    if not (brittle or close):
        kind: VerdictKind = "undecided"
        text = (
            f"undecided. Its errors are at {how_near}, and {CLOSE_TO_OPTIMAL:.0%} lie within that "
            "interval; measure more points."
        )
    elif brittle_data:
        kind = "data and learning" if brittle else "data"
        text = (
            f"brittle by {kind}. The optimal classifier's own errors are at {_of_room(of_room)} of "
            f"the room between points of different classes, and this one's at {how_near}."
        )
    elif brittle:
        kind = "learning"
        text = (
            f"brittle by learning. Its errors are at {how_near} distance, from the same points; "
            f"that one uses {_of_room(of_room)} of the room between points of different classes."
        )
    else:
        kind = "robust"
        text = (
            f"robust. Its errors, as far as they were found, are at {how_near} distance, from the "
            "same points."
        )
    return Verdict(kind, text, share, of_room)


def _of(share: tuple[float, float, float]) -> str:
    value, low, high = (f"{part:.0%}" if math.isfinite(part) else "more" for part in share)
    return f"{value} [{low}, {high}]"


def _of_room(share: tuple[float, float, float]) -> str:
    return "all" if share[0] >= 1 else _of(share)


def _points(problem: Problem, label: int, n_points: int, seed: int, dtype: torch.dtype) -> Tensor:
    return problem.block(
        0, seed=seed, block_size=n_points, label=label, dtype=dtype, purpose="distances"
    )[0]


def _rooms(problem: Problem, points: list[Tensor], seed: int) -> list[tuple[Floats, Tensor]]:
    """Return half the distance to the nearest point of another class, ``(n,)``, and that point."""
    drawn = [
        problem.block(
            0, seed=seed, block_size=_N_OTHERS, label=label, dtype=points[label].dtype,
            purpose="room",
        )[0]
        for label in range(problem.n_classes)
    ]  # fmt: skip
    rooms = []
    for label, x in enumerate(points):
        others = torch.cat([other for number, other in enumerate(drawn) if number != label])
        gaps, rows = torch.cdist(x.flatten(1), others.flatten(1)).min(dim=1)
        rooms.append((gaps.double().numpy(force=True) / 2, others[rows]))
    return rooms


def _optimality(problem: Problem, classes: Sequence[ClassAudit]) -> tuple[float, ...]:
    """Return the mean distance over the best possible one at the same error rate, on spheres."""
    if not isinstance(problem, ConcentricSpheres):
        return ()
    ratios = []
    for part in classes:
        log_rate = part.rate.log10 * math.log(10)
        best = math.nan
        if math.isfinite(log_rate):
            radius = problem.radii[part.label]
            best = caps.mean_distance(problem.dim, log_measure=min(log_rate, 0.0), radius=radius)
        ratios.append(float(part.upper.mean()) / best if best > 0 else math.nan)
    return tuple(ratios)


def _first(found: list[Distances], n: int) -> Floats:
    nearest = found[0].nearest
    assert nearest is not None
    return nearest[:n]
