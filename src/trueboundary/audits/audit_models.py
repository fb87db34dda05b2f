"""An audit of a classifier: how often it errs, how nearly, and whether data or learning is why."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary._checks import check_integer
from trueboundary.attacks import Attack, AttackWarning, HopSkipJump, NearestError
from trueboundary.audits.batch_sizes import MEMORY, most_points
from trueboundary.audits.bracketing import (
    FIRST,
    AuditedRates,
    Walk,
    groups,
    pictures_of,
    rates_from,
)
from trueboundary.audits.flags import (
    MUCH_BETTER,
    POOR,
    Flag,
    Search,
    doubled,
    flags_of_domain,
    flags_of_outputs,
    flags_of_search,
    without_consequences,
)
from trueboundary.audits.identities import identity_of_points, identity_of_subject
from trueboundary.audits.robustness_card import (
    ClassAudit,
    RobustnessCard,
    Verdict,
    VerdictKind,
    rate_words,
    ratios,
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
    outputs,
)
from trueboundary.measure import ErrorRate, error_rate
from trueboundary.plurals import plural
from trueboundary.problems import (
    ConcentricSpheres,
    ImageProblem,
    Problem,
    TableProblem,
    check_number_of_classes,
    output_doubts,
)
from trueboundary.progress_bars import bar_of_steps, shown_progress
from trueboundary.rare_events import RareEventWarning
from trueboundary.runs import Store
from trueboundary.theory import caps
from trueboundary.theory.intervals import censored_median

__all__ = ["BRITTLE_DATA", "CLOSE_TO_OPTIMAL", "audit", "judge_classes"]

_LOG = logging.getLogger(__name__)

#: A classifier whose errors are this part of the optimal one's distance away is as robust as it.
CLOSE_TO_OPTIMAL = 0.75
#: Data whose optimal classifier uses less than this part of the room between points are brittle.
BRITTLE_DATA = 0.25

_GROUP = 20  # points of each class that are attacked before the clock is looked at, at most
_BATCH = 8192  # points that are classified at a time, at most
_N_LOOKED_AT = 32  # points of each class at which outputs are looked at
_N_ATTACKED = 8  # of those that are attacked, at which gradients are, too
_N_PICTURES = 8
_RATE_SHARE = 0.25  # of the budget goes to error rates
_FEWEST = 500  # points of each class that count towards them however slow a classifier is
_TIMED = 64
_MOST_POINTS = 10_000  # of each class that a verdict may ask for
_SHOWN = 0.2  # of the progress is over when the first points are attacked

Progress = Callable[[str, float], None]


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
    norm: str = "l2",
    private: bool | None = None,
    store: Store | str | Path | None = None,
    progress: bool | Progress | None = None,
    tell: Callable[[str], None] | None = None,
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
        Seconds that all of it may take. Fewer points count towards error rates where the classifier
        is slow, and groups of points are attacked as long as the next one is expected to end in
        time; the first, one point of each class, always is. By default all points are measured.
    attack : Attack, optional
        Gives upper ends; by default `NearestError`, and `HopSkipJump` of a classifier that says
        its labels alone or is cut off from autograd.
    seed : int
        Seed of all points.
    norm : str
        "l2", the only one that is known here.
    private : bool, optional
        Keep pictures of the points off the card, and errors out of the store; by default where the
        problem says so (`ImageProblem.is_private`).
    store : Store, str or Path, optional
        A folder in which finished groups of points are kept, as they are finished: an audit that
        was stopped goes on from there, and the same one is there at once. A group is known by the
        classifier's weights, code and outputs, the points, the attack and the seed.
    progress : bool or callable, optional
        True for a bar on standard error, or ``progress(what, fraction)`` before each step.
    tell : callable, optional
        ``tell(line)`` with the first numbers, as soon as they are known.

    Returns
    -------
    RobustnessCard
        Numbers, verdict, red flags and pictures.

    Raises
    ------
    TypeError, ValueError
        If the model is no classifier of the problem's points and classes, or stops at the first of
        them; before anything is measured.

    Notes
    -----
    The share of the optimum is the distance of the error found, 0 where the point is one, over the
    proven distance of the optimal classifier's, from the same points. Three quarters of it count as
    robust, the threshold by which Richardson and Weiss's CNNs are called brittle here. Data are
    brittle where the optimal classifier's errors are nearer than a quarter of the room: half the
    distance to the nearest of 2,000 points of each other class. Both thresholds are ours. A
    classifier whose error rate is not below that of a guess, where the optimal one's is, is
    undecided: the verdict says so, and in which order of its classes it would be right.

    A classifier that stops half-way, by whatever exception, leaves a card of what was measured
    before, whose `RobustnessCard.stopped` says why. Batches are as large as `MEMORY` allows, 1 GiB
    for what autograd saves and the attack keeps, and at most 20 points of a class.

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
    check_norm(norm)
    problem = load_problem(problem)
    check_integer("n_points", n_points, minimum=2)
    check_integer("n_error_points", n_error_points, minimum=1)
    if isinstance(problem, TableProblem):
        raise TypeError("tables are audited by error_rate and distances, which are exact on them.")
    if budget is not None and not 0 < budget < math.inf:
        raise ValueError(f"expected a budget of seconds above 0, got {budget!r}.")
    if private is None:
        private = isinstance(problem, ImageProblem) and problem.is_private
    begun = time.monotonic()
    with warnings.catch_warnings():  # the card says what they say
        warnings.simplefilter("ignore", AttackWarning)
        warnings.simplefilter("ignore", ClassifierWarning)
        warnings.simplefilter("ignore", RareEventWarning)
        subject = _subject(model, problem, name)
        with (
            shown_progress(progress, bar_of_steps) as say,
            evaluated(subject.classifier) as doubts,
        ):
            run = _Audit(
                subject=subject,
                problem=problem,
                n_points=n_points,
                n_error_points=n_error_points,
                clock=_Clock(begun, math.inf if budget is None else begun + budget),
                budget=budget,
                attack=attack,
                seed=seed,
                private=private,
                store=store if store is None or isinstance(store, Store) else Store(store),
                say=say,
                tell=tell or (lambda line: None),
                is_awaited=any(given is not None for given in (budget, store, tell)),
            )
            return run.card(doubts)


class _OutOfTimeError(Exception):
    """The budget does not last for the next group of points."""


@dataclass(frozen=True)
class _Clock:
    """When an audit began, and when it should have ended."""

    begun: float
    deadline: float

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begun

    def allows(self, seconds: float) -> bool:
        """Whether what is expected to take so long would end in time."""
        return time.monotonic() + seconds <= self.deadline


@dataclass
class _Audit:
    """One audit under way; see `audit` for the settings."""

    subject: Subject
    problem: Problem
    n_points: int
    n_error_points: int
    clock: _Clock
    budget: float | None
    attack: Attack | None
    seed: int
    private: bool
    store: Store | None
    say: Progress
    tell: Callable[[str], None]
    is_awaited: bool  # whether anything comes of a group before the others are done

    def card(self, doubts: Sequence[str]) -> RobustnessCard:
        """Measure everything and return the card; or what was measured until the model stopped."""
        self.say("looking at the outputs", 0.0)
        self.by_labels = is_labels_alone(self.subject.classifier)
        self.dtype = dtype_of(self.subject.classifier)
        self.points = self._drawn(self.n_points, "distances")
        self.flags = [Flag("training mode", sentence) for sentence in doubts]
        with self._named():
            self._look()
        walk = self._walk()
        rates: tuple[ErrorRate, ...] = ()
        stopped = ""
        try:
            rates = self._rates(walk)
            self._bracket(walk)
        except _OutOfTimeError:
            _LOG.info("the budget ended before all points were measured")
        except (Exception, SystemExit) as error:  # whatever somebody's classifier raises
            _LOG.info("the classifier stopped half-way", exc_info=error)
            stopped = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".: ")
        return self._made(walk, rates, stopped)

    def _drawn(self, n: int, purpose: str) -> list[Tensor]:
        return [
            self.problem.block(
                0, seed=self.seed, block_size=n, label=label, dtype=self.dtype, purpose=purpose
            )[0]
            for label in range(self.problem.n_classes)
        ]

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say in one sentence which classifier raised what, at its first points."""
        try:
            yield
        except (ValueError, TypeError):  # our sentences, or as good
            raise
        except (Exception, SystemExit) as error:
            why = " ".join(str(error).split()).rstrip(".")
            cure = "as_classifier(..., preprocess=(mean, std, shape))"
            if isinstance(self.problem, ImageProblem):
                cure = f"as_classifier(network, preprocess=(0.0, 1.0, {self.problem.image_shape}))"
            raise ValueError(
                f"{self.subject.name} stops with {type(error).__name__} at points of shape "
                f"{tuple(self.points[0].shape[1:])} each ({why}); give a classifier of such "
                f"points, or {cure}."
            ) from error

    def _look(self) -> None:
        """Ask for outputs and gradients at a few points; see what there is to distrust."""
        model = self.subject.classifier
        check_number_of_classes(model, self.problem, dtype=self.dtype)
        few = self._drawn(_N_LOOKED_AT, "outputs")
        x = torch.cat(few)
        y = torch.arange(len(few)).repeat_interleave(_N_LOOKED_AT)
        with torch.no_grad():
            found = outputs(model, x, allow_nan=True)
        if bool(found.isnan().all()):
            outputs(model, x)  # says so
        self.identity = "" if self.store is None else identity_of_subject(self.subject, x)
        first = [part[:_N_ATTACKED] for part in self.points]
        labels = torch.arange(len(first)).repeat_interleave(len(first[0]))
        self.flags += flags_of_outputs(model, torch.cat(first), labels, by_labels=self.by_labels)
        if not self.by_labels:
            self.flags += [
                Flag("probabilities", text)
                for text in output_doubts(model, self.problem, dtype=self.dtype)
            ]
            self.flags += flags_of_domain(model, x, y)
        if any(flag.name == "autograd cut off" for flag in self.flags):
            self.by_labels = True

    def _walk(self) -> Walk:
        if self.attack is None:
            self.attack = HopSkipJump() if self.by_labels else NearestError()
        return Walk(
            model=self.subject.classifier,
            problem=self.problem,
            points=self.points,
            attack=self.attack,
            stronger=doubled(self.attack),
            seed=self.seed,
            store=self.store,
            model_id=self.identity,
            points_id=identity_of_points(self.problem, *self.points),
            with_pictures=not self.private,
        )

    def _rates(self, walk: Walk) -> tuple[ErrorRate, ...]:
        """Return error rates, from as many points as there is time for."""
        self.say("counting errors", 0.05)
        model, n = self.subject.classifier, self.n_error_points
        two = torch.cat([part[:1] for part in self.points])[:2]
        n_ways = max(1, self.problem.n_classes - 1)
        # Of a classifier without gradients nothing is saved for the way back.
        most = MEMORY if self.by_labels else most_points(model, two, n_ways=n_ways)
        self.group = min(_GROUP, most)
        if self.budget is not None:
            seconds = self._seconds_per_point() * self.problem.n_classes
            while n > _FEWEST and n * seconds > _RATE_SHARE * self.budget:
                n //= 2  # so that the store may know them, however long each took
        self.n_error_points = n
        config = AuditedRates(walk.model_id, walk.points_id, n, self.seed)
        rates = rates_from(
            self.store,
            config,
            lambda: error_rate(
                model, self.problem, n_points=n, seed=self.seed, batch_size=min(_BATCH, most)
            ),
        )
        shown = ", ".join(
            f"{name}: {rate_words(rate)}" for name, rate in zip(self._names(), rates, strict=True)
        )
        self.tell(f"error rates of the classes: {shown}")
        return rates

    def _seconds_per_point(self) -> float:
        started = time.monotonic()
        x = self.problem.block(
            0, seed=self.seed, block_size=_TIMED, label=0, dtype=self.dtype, purpose="outputs"
        )[0]
        with torch.no_grad():
            outputs(self.subject.classifier, x, allow_nan=True)
        return (time.monotonic() - started) / _TIMED

    def _bracket(self, walk: Walk) -> None:
        """Bracket distances, group by group, until all points or the budget are spent."""
        n_classes = self.problem.n_classes
        expected = 0.0  # seconds that a point of a class takes
        # By labels, one point takes as many calls as four do.
        first = FIRST if self.is_awaited and not self.by_labels else FIRST[-1:]
        for rows in groups(self.n_points, self.group, first, growing=self.is_awaited):
            n = rows.stop - rows.start
            started = time.monotonic()

            # After the first group nothing is begun that cannot be expected to end in time.
            def between(
                label: int, rows: slice = rows, n: int = n, expected: float = expected
            ) -> None:
                done = (rows.start + n * label / n_classes) / self.n_points
                what = f"nearest errors: point {rows.start + 1} of {self.n_points} of each class"
                self.say(what, _SHOWN + (1 - _SHOWN) * done)
                if rows.start and not self.clock.allows(n * (n_classes - label) * expected):
                    raise _OutOfTimeError

            walk.take(rows, between)
            expected = max(expected / 2, (time.monotonic() - started) / (n * n_classes))
            if rows.start < FIRST[-1]:
                medians = (
                    f"{name}: {censored_median(walk.column('upper', label)):.3g}"
                    for label, name in enumerate(self._names())
                )
                each = plural(rows.stop, "point")
                self.tell(f"nearest errors, medians of {each} of each class: {', '.join(medians)}")

    def _names(self) -> tuple[str, ...]:
        known = getattr(self.problem, "class_names", None)
        return tuple(known or map(str, range(self.problem.n_classes)))

    def _made(self, walk: Walk, rates: tuple[ErrorRate, ...], stopped: str) -> RobustnessCard:
        rates = rates or tuple(
            ErrorRate(label, math.nan, 0.0, 1.0, math.nan, "sampling", "the classifier stopped")
            for label in range(self.problem.n_classes)
        )
        names = self._names()
        classes = tuple(
            walk.of_class(label, names[label], rates[label])
            for label in range(self.problem.n_classes)
        )
        flags = list(self.flags)
        searches = [
            Search(
                names[part.label],
                walk.column("attacked", part.label),
                walk.column("lines", part.label),
                walk.column("stronger", part.label),
                part.reasons,
            )
            for part in classes
        ]
        flags += flags_of_search(searches, by_labels=self.by_labels)
        each = f"{plural(walk.n_done, 'point')} of each class"
        notes = self.subject.notes
        if stopped:
            notes += (f"The classifier stopped with {stopped}; this is what was measured before, "
                      f"distances from {each}.",)  # fmt: skip
        elif walk.n_done < self.n_points:
            notes += (f"The budget ended after {each}.",)
        is_image = isinstance(self.problem, ImageProblem)
        shape = self.problem.image_shape if isinstance(self.problem, ImageProblem) else ()
        if not stopped:
            self.say("done", 1.0)
        return RobustnessCard(
            subject=self.subject.name,
            problem=self.problem.describe(),
            classes=classes,
            verdict=judge_classes(classes),
            flags=without_consequences(flags),
            method=walk.method or "none measured",
            optimality=_optimality(self.problem, classes),
            settings={
                "seed": self.seed,
                "n_points": walk.n_done,
                "n_error_points": self.n_error_points,
                "budget": self.budget,
                "seconds": round(self.clock.elapsed, 2),
                "attack": repr(self.attack),
            },
            notes=notes,
            stopped=stopped,
            pictures=pictures_of(walk, shape, _N_PICTURES) if is_image else {},
        )


def check_norm(norm: str) -> None:
    """Refuse a norm in which no truth is known."""
    if norm.lower() not in ("l2", "2"):
        raise ValueError(
            f"expected norm 'l2', got {norm!r}: the optimal classifier's distances, the proofs and "
            "the isoperimetric limit are known in L2 alone, so that there is no truth to judge "
            "distances in another norm by."
        )


def _subject(model: Any, problem: Problem, name: str) -> Subject:
    """Return whatever was given to be audited with a name, and what is to be known of it."""
    if isinstance(model, Subject):
        return replace(model, name=name or model.name)
    if is_estimator(model):
        subject = subject_of_estimator(model, problem)
        return replace(subject, name=name or subject.name)
    return Subject(model, name or type(model).__name__)


def judge_classes(classes: Sequence[ClassAudit]) -> Verdict:
    """Return the verdict on what was measured; see `audit` for the rules."""
    right = np.concatenate([part.best_right for part in classes])
    upper, best_lower, best_upper, room = (
        np.concatenate([getattr(part, name) for part in classes])[right]
        for name in ("upper", "best_lower", "best_upper", "room")
    )
    share, of_room = shares(upper, best_lower), shares(best_upper, room)
    if not any(part.n for part in classes):
        text = "undecided. No distance was measured."
        return Verdict("undecided", text, share, of_room)
    if not len(upper):
        text = "undecided. The optimal classifier errs at every point that was measured."
        return Verdict("undecided", text, share, of_room)
    if inaccurate := _inaccurate(classes):
        return Verdict("undecided", f"undecided. {inaccurate}", share, of_room)
    how_near = f"a median of {_of(share)} of the optimal classifier's"
    if np.isinf(best_lower).all():  # concentric spheres
        if np.isinf(upper).all():
            text = "robust. No error was found, as the optimal classifier has none."
            return Verdict("robust", text, share, of_room)
        found = f"an error was found from {np.isfinite(upper).mean():.0%} of the points"
        if math.isfinite(middle := censored_median(upper)):
            found = f"this one has errors at a median distance of {middle:.3g}"
        text = f"brittle by learning. The optimal classifier has no error at any distance; {found}."
        return Verdict("learning", text, share, of_room)
    brittle = share[2] < CLOSE_TO_OPTIMAL
    close = share[1] >= CLOSE_TO_OPTIMAL
    brittle_data = of_room[2] < BRITTLE_DATA
    if not (brittle or close):
        kind: VerdictKind = "undecided"
        text = f"undecided. The share is {_of(share)} of the optimal classifier's distance, "
        if share[1] == -math.inf:
            text += "from too few points for an interval."
        else:
            text += f"and the threshold {CLOSE_TO_OPTIMAL:.0%} lies inside."
            text += _what_decides(ratios(upper, best_lower), classes)
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


def _inaccurate(classes: Sequence[ClassAudit]) -> str:
    """Say that a classifier errs as often as a guess where the optimal one does not; else nothing.

    From most points the nearest error is then the point itself, which tells of no boundary.
    """
    guess = 1 - 1 / len(classes)
    own, high = (
        np.mean([getattr(part.rate, end) for part in classes]) for end in ("value", "high")
    )
    best_wrong = np.concatenate([~part.best_right for part in classes])
    poor = POOR * guess
    # Of few points an interval reaches far: it alone makes no classifier a poor one.
    if not (own >= poor and high >= guess and best_wrong.mean() < poor):
        return ""
    text = (
        f"It is not accurate: its error rate is {own:.2g} where a guess has {guess:.2g}, and the "
        f"optimal classifier errs on {best_wrong.sum()} of {plural(len(best_wrong), 'point')}; "
        "distances of such a classifier tell nothing of its robustness."
    )
    order, rate = _best_order(classes)
    if rate > MUCH_BETTER * own:
        return text
    errs = f"has an error rate of {rate:.1g}" if rate else "hardly ever errs"
    return f"{text} Are the classes {'swapped' if len(order) == 2 else 'in another order'}? " + (
        f"as_classifier(classifier, classes={order}) {errs}."
    )


def _best_order(classes: Sequence[ClassAudit]) -> tuple[tuple[int, ...], float]:
    """Return the order of a classifier's classes with the fewest errors, and their rate."""
    from scipy.optimize import linear_sum_assignment

    n = len(classes)
    given = np.zeros((n, n))  # at which rates points of a class (row) are given to each other one
    for row, part in zip(given, classes, strict=True):
        for rate in part.rate.into:
            row[rate.label] = rate.value
        if n == 2:
            row[1 - part.label] = part.rate.value
        row[part.label] = 1 - part.rate.value
    rows, columns = linear_sum_assignment(given, maximize=True)
    return tuple(columns.tolist()), max(0.0, 1 - float(given[rows, columns].mean()))


def _what_decides(share: npt.NDArray[np.float64], classes: Sequence[ClassAudit]) -> str:
    """Say how many points would decide, if as many of them as now lie above the threshold.

    The interval of a median lies on one side of it when the number above differs from a half by
    more than 1.96 of its standard deviations. Nothing is said where by that it already should.
    """
    above = np.mean(share >= CLOSE_TO_OPTIMAL, dtype=np.float64)
    n_all, n_classes = sum(part.n for part in classes), len(classes)
    with np.errstate(divide="ignore"):
        needed = (0.98 / abs(above - 0.5)) ** 2 * n_all / len(share) / n_classes
    if needed <= n_all / n_classes:
        return ""
    if needed > _MOST_POINTS:
        return " The share is so close to it that points will hardly decide."
    digits = 1 - math.floor(math.log10(needed))  # two of them count
    n = math.ceil(round(needed, digits))
    return f" About {n:,} points of each class may decide (n_points={n})."


def _of(share: tuple[float, float, float]) -> str:
    value, low, high = (f"{part:.0%}" if math.isfinite(part) else "inf" for part in share)
    return f"{value} [{low}, {high}]" if share[1] > -math.inf else value  # of few points


def _of_room(share: tuple[float, float, float]) -> str:
    return "all" if share[0] >= 1 else _of(share)


def _optimality(problem: Problem, classes: Sequence[ClassAudit]) -> tuple[float, ...]:
    """Return the mean distance over the best possible one at the same error rate, on spheres."""
    if not isinstance(problem, ConcentricSpheres):
        return ()
    ratios = []
    for part in classes:
        log_rate = part.rate.log10 * math.log(10)
        best = math.nan
        if math.isfinite(log_rate) and part.n:
            radius = problem.radii[part.label]
            best = caps.mean_distance(problem.dim, log_measure=min(log_rate, 0.0), radius=radius)
        ratios.append(float(part.upper.mean()) / best if best > 0 else math.nan)
    return tuple(ratios)
