"""An audit of training: several methods on one problem, each network judged on the same points."""

from __future__ import annotations

import math
import re
import textwrap
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trueboundary import __version__
from trueboundary._checks import check_integer
from trueboundary.audits.audit_models import audit
from trueboundary.audits.comparisons import compare
from trueboundary.audits.robustness_card import RobustnessCard, problem_words, ratios
from trueboundary.audits.stored_cards import card_from_plain, card_to_plain
from trueboundary.audits.subjects import load_problem
from trueboundary.audits.training_methods import (
    METHODS,
    Fit,
    Network,
    NotTrained,
    OwnMethod,
    TrainingMethod,
    TrainingSettings,
    code_of,
    find_method,
    make_network,
    typical_distance,
)
from trueboundary.classifiers import ClassifierModule, to_arrays
from trueboundary.plurals import plural
from trueboundary.presentable import Presentable, storable
from trueboundary.problems import ConcentricSpheres, Problem, TableProblem
from trueboundary.progress_bars import bar_of_steps, shown_progress
from trueboundary.runs import Context, RunConfig, RunResult, Store, run_one, strict_json
from trueboundary.theory.intervals import (
    Interval,
    censored_median,
    median_interval,
    t_interval,
)

__all__ = ["MethodSummary", "TrainedNetwork", "TrainingAudit", "audit_training"]

#: Version of what `TrainingAudit.to_dict` returns; the first number rises when a reader must care.
TRAINING_SCHEMA = "1.0"

Progress = Callable[[str, float], None]
Floats = npt.NDArray[np.float64]

#: A number with more digits than anybody reads.
_LONG = re.compile(r"\d+\.\d{5,}")
_UNKNOWN = Interval(math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """One training of one method, and what became of it.

    Attributes
    ----------
    method : str
        Name of the method.
    seed : int
        Seed of the initial weights and of the batches.
    card : RobustnessCard or None
        What the audit of the network found; None where there is no network.
    seconds : float
        Processor time of the training, NaN where there was none.
    gradients : float or None
        Gradients per training point; None where they were not counted.
    reason : str
        Why there is no card, empty where there is one.
    """

    method: str
    seed: int
    card: RobustnessCard | None
    seconds: float = math.nan
    gradients: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class MethodSummary:
    """What all trainings of one method come to: a row of the table.

    Attributes
    ----------
    method, words : str
        Its name, and everything that determines it.
    n_seeds : int
        Networks that were trained and audited.
    error_rate : float
        Mean of their error rates.
    error_rates : tuple of float
        The least and the greatest of these.
    lower, upper : float
        Medians of the brackets of all points and networks: no error is nearer than the first, one
        is known at the second.
    share : float
        Share of the optimum, the mean over the networks: the median over the points of the distance
        over the optimal classifier's. On concentric spheres, where that one has no error, the mean
        distance over the greatest that the network's error rate allows.
    share_over_points : Interval
        Its 95 % interval over the points, for these networks.
    share_over_seeds : Interval
        Its 95 % interval over the seeds, for these points (Student's t); NaN for one seed.
    farther : float
        By how much farther its errors are than those of the first method, the mean over the seeds
        of paired median differences; NaN for the first method itself.
    n_farther, n_nearer : int
        Seeds by which they are farther, and nearer, with certainty; see `compare`.
    seconds : float
        Mean processor time of a training.
    gradients : float or None
        Mean number of gradients per training point.
    reasons : tuple of str
        Why networks are missing.
    """

    method: str
    words: str
    n_seeds: int
    error_rate: float = math.nan
    error_rates: tuple[float, float] = (math.nan, math.nan)
    lower: float = math.nan
    upper: float = math.nan
    share: float = math.nan
    share_over_points: Interval = _UNKNOWN
    share_over_seeds: Interval = _UNKNOWN
    farther: float = math.nan
    n_farther: int = 0
    n_nearer: int = 0
    seconds: float = math.nan
    gradients: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class TrainingAudit(Presentable):
    """What an audit of training found; `str` tells it in a terminal.

    Attributes
    ----------
    problem : dict
        Description of the problem.
    methods : tuple of (str, str)
        Names of the methods and what determines them.
    networks : tuple of TrainedNetwork
        Every training, seed by seed.
    settings : dict
        Steps, points, seeds and the like.
    notes : tuple of str
        Further sentences.
    """

    problem: dict[str, Any]
    methods: tuple[tuple[str, str], ...]
    networks: tuple[TrainedNetwork, ...]
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()

    def of(self, method: str) -> tuple[TrainedNetwork, ...]:
        """Return the trainings of one method."""
        return tuple(network for network in self.networks if network.method == method)

    def rows(self) -> tuple[MethodSummary, ...]:
        """Return the table, a row for each method."""
        return tuple(self._row(name, words) for name, words in self.methods)

    def _row(self, name: str, words: str) -> MethodSummary:
        found = self.of(name)
        reasons = tuple(dict.fromkeys(network.reason for network in found if network.reason))
        trained = [(network, network.card) for network in found if network.card is not None]
        if not trained:
            return MethodSummary(name, words, 0, reasons=reasons)
        cards = [card for _, card in trained]
        rates = [card.error_rate for card in cards]
        n_points = min(card.classes[0].n for card in cards)
        each = np.stack([_ratios(card, n_points) for card in cards])
        middle = _middle(self.problem)
        shares = np.array([middle(row) for row in each])
        first = {
            network.seed: network.card
            for network in self.of(self.methods[0][0])
            if network.card is not None
        }
        pairs = [
            compare(first[network.seed], card)
            for network, card in trained
            if network.seed in first and name != self.methods[0][0]
        ]
        counted = [n.gradients for n, _ in trained if n.gradients is not None]
        finite = bool(np.isfinite(shares).all())
        return MethodSummary(
            method=name,
            words=words,
            n_seeds=len(cards),
            error_rate=float(np.mean(rates)),
            error_rates=(min(rates), max(rates)),
            lower=censored_median(np.concatenate([card.joined("lower") for card in cards])),
            upper=censored_median(np.concatenate([card.joined("upper") for card in cards])),
            share=float(shares.mean()),
            share_over_points=_over_points(self.problem, each.mean(axis=0)),
            share_over_seeds=t_interval(shares) if len(cards) > 1 and finite else _UNKNOWN,
            farther=float(np.mean([p.median_difference for p in pairs])) if pairs else math.nan,
            n_farther=sum(pair.median_interval.low > 0 for pair in pairs),
            n_nearer=sum(pair.median_interval.high < 0 for pair in pairs),
            seconds=float(np.mean([network.seconds for network, _ in trained])),
            gradients=float(np.mean(counted)) if len(counted) == len(trained) else None,
            reasons=reasons,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the table and the cards as plain values; infinity and NaN are None."""
        values: dict[str, Any] = storable(
            {
                "schema": TRAINING_SCHEMA,
                "version": __version__,
                "problem": self.problem,
                "methods": [vars(row) for row in self.rows()],
                "networks": [
                    {
                        "method": network.method,
                        "seed": network.seed,
                        "seconds": network.seconds,
                        "gradients": network.gradients,
                        "reason": network.reason,
                        "card": None if network.card is None else network.card.to_dict(),
                    }
                    for network in self.networks
                ],
                "settings": self.settings,
                "notes": list(self.notes),
            }
        )
        return values

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the table, a row for each method; the columns are as in `MethodSummary`."""
        rows = self.rows()
        return {f.name: [getattr(row, f.name) for row in rows] for f in fields(MethodSummary)}

    def save(self, file: str | Path) -> Path:
        """Write it as an HTML page, or as JSON where the name ends so; whole or not at all.

        Raises
        ------
        ValueError
            If the name ends otherwise.
        """
        file = Path(file)
        if file.suffix == ".json":
            text = strict_json.dumps(self.to_dict())
        elif file.suffix in (".html", ".htm"):
            from trueboundary.audits.training_page import training_page

            text = training_page(self)
        else:
            raise ValueError(f"expected a file .html or .json, got {file}.")
        draft = file.with_name(f".{file.name}.part")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
        return file

    def _repr_html_(self) -> str:
        """Return the audit for a notebook."""
        from trueboundary.audits.training_page import training_fragment

        return training_fragment(self)

    def __str__(self) -> str:
        """Tell the table in at most 80 columns."""
        rows = self.rows()
        lines = [
            f"Training compared on {problem_words(self.problem)}",
            "",
            f"{'method':<15}{'error':>7}{'distance':>18}{'share':>7}"
            f"{'over points':>12}{'over seeds':>12}{'time':>9}",
        ]
        for row in rows:
            name = row.method if len(row.method) < 15 else f"{row.method[:11]}..."
            if row.n_seeds == 0:
                lines.append(f"{name:<15}{'no network':>15}")
                continue
            lines.append(
                f"{name:<15}{row.error_rate:>7.2g}{_between(row.lower, row.upper):>18}"
                f"{_percent(row.share):>7}{_interval(row.share_over_points):>12}"
                f"{_interval(row.share_over_seeds):>12}{row.seconds:>7.3g} s"
            )
        lines.append("")
        for row in rows:
            lines += textwrap.wrap(row_words(row), 80, subsequent_indent="  ")
        for note in self.notes:
            lines += textwrap.wrap(note, 80)
        return "\n".join(lines)


def row_words(row: MethodSummary) -> str:
    """Say of a method what the table has no room for."""
    words = _LONG.sub(lambda number: f"{float(number[0]):.4g}", row.words)
    parts = [f"{row.method}: {words}"]
    if row.n_seeds:
        gradients = "not counted" if row.gradients is None else f"{row.gradients:.3g}"
        parts.append(f"{plural(row.n_seeds, 'network')}, gradients per training point: {gradients}")
    if math.isfinite(row.farther):
        way = "farther" if row.farther >= 0 else "nearer"
        n_sure = row.n_farther if row.farther >= 0 else row.n_nearer
        parts.append(
            f"errors {abs(row.farther):.3g} {way} than the first method's, with certainty by "
            f"{n_sure} of {plural(row.n_seeds, 'seed')}"
        )
    parts += [f"failed, since {reason.rstrip('.')}" for reason in row.reasons]
    return "; ".join(parts) + "."


def audit_training(
    problem: Problem | str | Path,
    methods: Sequence[str | OwnMethod] = METHODS,
    *,
    network: Network | None = None,
    seeds: int | Sequence[int] = 3,
    settings: TrainingSettings | None = None,
    size: float | None = None,
    n_points: int = 15,
    n_error_points: int = 1_000,
    audit_seed: int = 0,
    budget: float | None = None,
    out: str | Path | None = None,
    progress: bool | Progress | None = None,
) -> TrainingAudit:
    """Train by several methods, and judge every network against the truth, on the same points.

    Parameters
    ----------
    problem : Problem, str or Path
        A problem, or its name or folder as for `trueboundary.audits.load_problem`.
    methods : sequence of str or callable
        Names (``standard``, ``weight-decay``, ``large-margin``, ``trades``, ``adversarial``),
        perhaps with the method's own parameter, such as ``trades=2``: the price of weights, the
        margin, beta, and the radius. Functions ``(problem, generator)`` that return a trained
        classifier, or ``file.py:function``. The first is what the others are compared with.
    network : callable, optional
        Makes an untrained network; two small convolutions for images and one hidden layer of 200
        for other points by default. Functions of one's own make theirs. Of larger networks the
        lower bounds take longer than the training: up to half a minute a point.
    seeds : int or sequence of int
        Seeds of weights and batches, or how many from 0 on. Methods of one seed share both.
    settings : TrainingSettings, optional
        Steps, batches, learning rate and number of training points.
    size : float, optional
        How far errors should be: the margin of ``large-margin``; TRADES and ``adversarial`` have
        half of it as radius. By default the median distance of the optimal classifier's errors.
    n_points : int
        Points per class from which nearest errors are bracketed, the same for all networks.
    n_error_points : int
        Points per class for error rates.
    audit_seed : int
        Seed of these points.
    budget : float, optional
        Seconds after which no further training is begun; seed by seed, so that all methods have
        the first seeds.
    out : str or Path, optional
        A folder of finished runs: what is there already is not computed again, and a training that
        was interrupted goes on from its last checkpoint.
    progress : bool or callable, optional
        True for a bar on standard error, or ``progress(what, fraction)`` before each step.

    Returns
    -------
    TrainingAudit
        Table, cards and reasons; a method that fails is in it with its reason.

    Raises
    ------
    ValueError, TypeError
        If there is no such problem or method, or if what a function of the user makes is no
        classifier of the problem's points. Functions of the user are trained first.

    Notes
    -----
    A function of one's own is known to `out` by the text of its file: who changes the file has it
    run again, and what it imports is not looked at. It runs with torch's global generator seeded,
    which is put back afterwards.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.audits import TrainingSettings, audit_training
    >>> from trueboundary.problems import planar_problem
    >>> found = audit_training(
    ...     planar_problem("a"), ["standard", "large-margin"], seeds=2, n_points=5,
    ...     network=lambda: torch.nn.Linear(2, 2), settings=TrainingSettings(n_steps=20),
    ... )
    >>> [row.n_seeds for row in found.rows()]
    [2, 2]
    """
    problem = load_problem(problem)
    if isinstance(problem, TableProblem):
        raise TypeError("tables have integer points alone, on which nothing is trained here.")
    seeds = _checked_seeds(seeds)
    check_integer("n_points", n_points, minimum=2)
    check_integer("n_error_points", n_error_points, minimum=1)
    check_integer("audit_seed", audit_seed, minimum=0)
    if budget is not None and not 0 < budget < math.inf:
        raise ValueError(f"expected a budget of seconds above 0, got {budget!r}.")
    settings = TrainingSettings() if settings is None else settings
    if not methods or isinstance(methods, str):
        raise ValueError(f"expected a list of methods such as {list(METHODS)}, got {methods!r}.")
    if size is not None and not 0 < size < math.inf:
        raise ValueError(f"expected a size above 0, got {size!r}.")
    with shown_progress(progress, bar_of_steps) as say:
        say("looking at the problem", 0.0)
        if size is None and any(isinstance(what, str) and _is_sized(what) for what in methods):
            size = typical_distance(problem)
        chosen = [find_method(what, problem, size) for what in methods]
        names = [method.name for method in chosen]
        if len(set(names)) < len(names):
            names = [
                str(what) if isinstance(what, str) else names[i] for i, what in enumerate(methods)
            ]
        if len(set(names)) < len(names):
            raise ValueError(f"expected methods that differ by name, got {', '.join(names)}.")
        if any(not method.is_own for method in chosen):
            # What is wrong with it is said before any work.
            make_network(problem, network, seeds[0])
        work = _Work(problem, network, settings, n_points, n_error_points, audit_seed, out)
        cells = [(seed, i) for seed in seeds for i in range(len(chosen))]
        # What a function of the user returns is seen when it has run: first of their seed, these.
        cells.sort(key=lambda cell: (seeds.index(cell[0]), not chosen[cell[1]].is_own))
        start, found = time.monotonic(), dict[tuple[int, int], TrainedNetwork]()
        for done, (seed, i) in enumerate(cells):
            if found and budget is not None and time.monotonic() - start >= budget:
                reason = f"the budget of {budget:g} seconds had ended"
                found[seed, i] = TrainedNetwork(names[i], seed, None, reason=reason)
                continue

            def share(fraction: float, done: int = done, i: int = i, seed: int = seed) -> None:
                say(f"{names[i]}, seed {seed}", (done + fraction) / len(cells))

            share(0.0)
            found[seed, i] = work.do(chosen[i], names[i], seed, share, strict=seed == seeds[0])
        say("done", 1.0)
    return TrainingAudit(
        problem=problem.describe(),
        methods=tuple((names[i], method.words) for i, method in enumerate(chosen)),
        networks=tuple(found[seed, i] for seed in seeds for i in range(len(chosen))),
        settings={
            **vars(settings),
            "seeds": list(seeds),
            "size": size,
            "n_points": n_points,
            "n_error_points": n_error_points,
            "audit_seed": audit_seed,
            "network": "usual" if network is None else _name(network),
            "budget": budget,
        },
        notes=_notes(problem),
    )


def _is_sized(what: str) -> bool:
    """Whether a method that is given by name asks for the size."""
    name, has_value, _ = what.partition("=")
    return name == "trades" or (name in ("large-margin", "adversarial") and not has_value)


@dataclass(frozen=True)
class AuditedTraining(RunConfig):
    """One training and the audit of its network, as a run of the store.

    Parameters
    ----------
    problem : str
        Its description, as JSON.
    method, network : str
        Everything that determines them.
    settings : TrainingSettings
        Steps, batches and rate.
    seed : int
        Seed of the training.
    n_points, n_error_points, audit_seed : int
        Points of the audit.
    """

    problem: str
    method: str
    network: str
    settings: TrainingSettings
    seed: int
    n_points: int
    n_error_points: int
    audit_seed: int

    def doing(self, work: Callable[[Context], RunResult]) -> AuditedTraining:
        """Return this run with what carries it out, which its fields are the description of."""
        object.__setattr__(self, "_work", work)
        return self

    def in_words(self) -> str:
        """Return which method is trained."""
        return f"training by {self.method}"

    def compute(self, context: Context) -> RunResult:
        """Train and audit."""
        work: Callable[[Context], RunResult] = self.__dict__["_work"]
        return work(context)


@dataclass(frozen=True, eq=False)
class _Work:
    """What is the same for all trainings of an audit."""

    problem: Problem
    network: Network | None
    settings: TrainingSettings
    n_points: int
    n_error_points: int
    audit_seed: int
    out: str | Path | None

    def do(
        self,
        method: TrainingMethod,
        name: str,
        seed: int,
        share: Callable[[float], None],
        *,
        strict: bool,
    ) -> TrainedNetwork:
        """Train and audit, or find it in the store; what fails is told by its reason.

        With `strict` what is no classifier at all ends the whole audit.
        """

        def work(context: Context) -> RunResult:
            return self._trained(method, name, seed, share, context.checkpoint / "training")

        try:
            if self.out is None:
                result = self._trained(method, name, seed, share, None)
            else:
                store, config = Store(self.out), self._config(method, seed).doing(work)
                run_one(str(store.root), config)
                run = store.load(config)
                assert run is not None
                result = run.result
        except NotTrained as error:
            if strict:
                raise
            return TrainedNetwork(name, seed, None, reason=str(error))
        except (Exception, SystemExit) as error:  # somebody's function, or the training
            text = " ".join(str(error).split())
            return TrainedNetwork(name, seed, None, reason=f"{type(error).__name__}: {text}")
        summary = result.summary
        card = card_from_plain({**summary["card"], "subject": f"{name}, seed {seed}"})
        return TrainedNetwork(name, seed, card, summary["seconds"], summary["gradients"])

    def _config(self, method: TrainingMethod, seed: int) -> AuditedTraining:
        network = "own" if method.is_own else _described(self.network)
        return AuditedTraining(
            problem=strict_json.dumps(self.problem.describe()),
            method=method.words,
            network=network,
            settings=self.settings,
            seed=seed,
            n_points=self.n_points,
            n_error_points=self.n_error_points,
            audit_seed=self.audit_seed,
        )

    def _trained(
        self,
        method: TrainingMethod,
        name: str,
        seed: int,
        share: Callable[[float], None],
        checkpoint: Path | None,
    ) -> RunResult:
        with warnings.catch_warnings():  # the card says what they say
            warnings.simplefilter("ignore")
            fit: Fit = method.fit(
                self.problem,
                seed,
                self.settings,
                self.network,
                checkpoint,
                lambda fraction: share(0.7 * fraction),
            )
            share(0.7)
            card = audit(
                fit.classifier,
                self.problem,
                name=name,
                n_points=self.n_points,
                n_error_points=self.n_error_points,
                seed=self.audit_seed,
                private=True,  # the pictures are for cards of one network
            )
        if card.stopped:  # its points would be fewer than those of the others, or none
            raise RuntimeError(f"the network that it made stopped with {card.stopped}")
        summary = {
            "card": card_to_plain(card),
            "seconds": round(fit.seconds, 3),
            "gradients": fit.gradients,
        }
        models = {}
        if isinstance(fit.classifier, ClassifierModule):
            with suppress(TypeError):  # a network of somebody's own, which only they can rebuild
                models["network"] = to_arrays(fit.classifier)
        return RunResult(summary, models=models)


def _described(network: Network | None) -> str:
    if network is None:
        return "usual"
    return f"{_name(network)}, code {code_of(network)}"


def _name(network: Network) -> str:
    return str(getattr(network, "__name__", type(network).__name__))


def _checked_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, Sequence):
        found = tuple(check_integer("a seed", seed, minimum=0) for seed in seeds)
        if not found or len(set(found)) < len(found):
            raise ValueError(f"expected one seed or several that differ, got {list(seeds)}.")
        return found
    return tuple(range(check_integer("seeds", seeds, minimum=1)))


def _ratios(card: RobustnessCard, n_points: int) -> Floats:
    """Return what share of the optimum each point reaches, of all classes together.

    Points that the optimal classifier gets wrong are left out, for every network alike.
    """
    parts = []
    for number, part in enumerate(card.classes):
        upper = part.upper[:n_points]
        if card.optimality:  # the optimum is the mean distance that the error rate allows
            mean, share = float(part.upper.mean()), card.optimality[number]
            # Where no error was found from some point the mean distance is infinite, and all is.
            parts.append(
                upper * (share / mean) if 0 < mean < math.inf else np.full_like(upper, share)
            )
            continue
        right = part.best_right[:n_points]
        parts.append(ratios(upper[right], part.best_lower[:n_points][right]))
    found: Floats = np.concatenate(parts)
    return found


def _is_spheres(description: dict[str, Any]) -> bool:
    return description.get("problem") == ConcentricSpheres.__name__


def _middle(description: dict[str, Any]) -> Callable[[Floats], float]:
    """Return what makes one share of those of the points: bounds on spheres are on means."""
    if _is_spheres(description):
        return lambda ratios: float(ratios.mean())
    return censored_median


def _over_points(description: dict[str, Any], ratios: Floats) -> Interval:
    if _is_spheres(description):
        return t_interval(ratios) if np.isfinite(ratios).all() else _UNKNOWN
    return median_interval(ratios)


def _notes(problem: Problem) -> tuple[str, ...]:
    if isinstance(problem, ConcentricSpheres):
        return (
            "The optimal classifier has no error at any distance: shares are of the greatest mean "
            "distance that the network's error rate allows.",
        )
    return ()


def _between(lower: float, upper: float) -> str:
    return f"{_short(lower)} to {_short(upper)}" if lower < upper else _short(upper)


def _short(value: float) -> str:
    return "none" if math.isinf(value) else f"{value:.3g}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.0%}" if math.isfinite(share) else "more"


def _interval(interval: Interval) -> str:
    low, high = interval
    if math.isnan(low):
        return "-"
    return "more" if low == math.inf else f"{_percent(max(low, 0.0))[:-1]}-{_percent(high)}"
