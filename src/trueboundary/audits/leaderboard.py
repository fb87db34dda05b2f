"""Attacks ranked by how near the truth they come: as a table, as JSON and as a picture."""

from __future__ import annotations

import functools
import html
import json
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trueboundary import __version__
from trueboundary.attacks import AttackStatus
from trueboundary.audits.attack_members import MEMBERS, Truth
from trueboundary.audits.attack_trials import Trial
from trueboundary.figures import COLOURS, add_legend, new_figure
from trueboundary.plain_text import printable
from trueboundary.presentable import Presentable
from trueboundary.regular_files import read_regular, reason

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LEADERBOARD_SCHEMA", "NEAR", "Known", "Leaderboard", "Score", "Standing"]

Floats = npt.NDArray[np.float64]

#: Version of what `Leaderboard.to_dict` returns; the first number rises when a reader must care.
LEADERBOARD_SCHEMA = "1.0"

#: Median ratio up to which an attack counts as near on a member.
NEAR = 1.001

_MOST_BYTES = 16 << 20
_MOST_ATTACKS, _MOST_POINTS = 500, 10_000
_LONGEST_NAME, _LONGEST_SENTENCE = 100, 1000
#: By what share of a proven distance one may be undercut: single precision's rounding of the
#: points, and of distances in JSON.
_ROUNDING = 1e-6
_DIGITS = 9
_FARTHEST = 1e300  # beyond it squares and ratios are no numbers
#: What `_row` writes after the name.
_COLUMNS = ("near", "p90", "excess", "queries", "found", "false")
_WIDTH = 80  # of what `str` returns
_MOST_NAMES = 3  # in a line below the table
#: How attacks fail, in as many words as fit below a table; `Leaderboard.details` has the sentences.
_IN_SHORT = {
    AttackStatus.BUDGET_SPENT.value: "no error within the budget",
    AttackStatus.CONVERGED.value: "converged where the classifier is right",
    AttackStatus.GRADIENT_VANISHED.value: "gradient vanished",
    AttackStatus.NON_FINITE.value: "margin or gradient not finite",
    AttackStatus.LEFT_DOMAIN.value: "false: outside of the domain",
    AttackStatus.NOT_CONFIRMED.value: "false: the classifier is right there",
    AttackStatus.UNRESOLVED.value: "hidden by rounding",
    AttackStatus.CUT_OFF.value: "no gradient for autograd",
    AttackStatus.UNMOVED.value: "returned the sample itself",
}
_LONGEST_REASON = 100  # below a table


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a member's distances, and a hash of its points."""

    truth: Truth
    points: str


@dataclass(frozen=True)
class Score:
    """One attack on one member in a few numbers.

    Attributes
    ----------
    n, n_failed : int
        Points, and those from which no error was found.
    median, high : float
        Median and 90th percentile of the distance over that of the nearest error known, failures
        counted as infinite; where the truth is exact, over that.
    over_lower, high_over_lower : float
        The same over the proven distance; NaN where nothing is proven.
    """

    n: int
    n_failed: int
    median: float
    high: float
    over_lower: float
    high_over_lower: float


@dataclass(frozen=True, eq=False)
class Standing:
    """An attack on the board.

    Attributes
    ----------
    name : str
        Its name.
    library, version : str
        Where it comes from.
    trials : dict of str to Trial
        What it did on each member.
    """

    name: str
    library: str
    version: str
    trials: Mapping[str, Trial]


@dataclass(frozen=True, eq=False, repr=False)
class Leaderboard(Presentable):
    """Attacks on the same points of the same members; `str` is the table of all attacks.

    Below the table stands for each attack that failed anywhere why it found no error: from how many
    points, and on which members.

    The first is the one that is near (a median ratio of at most 1.001) on most members; of those
    that are near on as many, the one whose 90th percentile is so on more; and of those the one that
    asks least: the median over members of the evaluations forward and back per point.

    Attributes
    ----------
    seed, n_points : int
        Seed of the members, and points of each.
    members : dict of str to Known
        The members.
    standings : tuple of Standing
        The attacks, in no order.
    versions : dict of str to str
        Versions of what computed them.
    missing : tuple of str
        What could not be run, each a sentence.

    Examples
    --------
    >>> from trueboundary.attacks import DeepFool, NearestError
    >>> from trueboundary.audits import audit_attack
    >>> attacks = {"mine": DeepFool(), "theirs": NearestError()}
    >>> board = audit_attack(attacks, members=["ellipsoid-bulk"], n_points=3)
    >>> [standing.name for standing, _ in board.ranked()]
    ['mine', 'theirs']
    >>> first, last = (board.score(s, "ellipsoid-bulk") for s in board.standings)
    >>> first.median > last.median
    True
    """

    seed: int
    n_points: int
    members: Mapping[str, Known]
    standings: tuple[Standing, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def nearest(self, member: str) -> Floats:
        """Return distances of the nearest errors known of a member, by anyone, ``(n,)``."""
        return self._nearest[member]

    @functools.cached_property
    def _nearest(self) -> dict[str, Floats]:
        nearest = {}
        for name, known in self.members.items():
            found = [s.trials[name].distance for s in self.standings if name in s.trials]
            everyone = [] if known.truth.exact else found
            nearest[name] = np.minimum.reduce([known.truth.known, *everyone])
        return nearest

    def score(self, standing: Standing, member: str) -> Score | None:
        """Return how near an attack came on a member, None where it was not run."""
        trial = standing.trials.get(member)
        if trial is None:
            return None
        truth = self.members[member].truth
        ratio = trial.distance / self.nearest(member)
        over = np.full_like(ratio, np.nan)
        if (truth.lower > 0).all():
            over = trial.distance / truth.lower
        return Score(len(ratio), trial.n_failed, *_quantiles(ratio), *_quantiles(over))

    def ranked(self) -> list[tuple[Standing, dict[str, float]]]:
        """Return the attacks, the best first, each with its summary over all members.

        That are the numbers of members on which it is ``near``, at the 90th percentile, too
        (``sure``), and that it ``takes``: all but those whose domain it refuses. Over the latter
        there are the median of its median excess over 1 (``excess``) and of its evaluations
        (``queries``), the share of points from which it found an error (``success``), and its
        claims that are ``false``, with ``seconds`` in all.
        """
        rows = [(standing, self._summary(standing)) for standing in self.standings]
        return sorted(rows, key=_rank)

    def _summary(self, standing: Standing) -> dict[str, float]:
        taken = [name for name, trial in standing.trials.items() if not trial.refused]
        scores = [self.score(standing, name) for name in taken]
        kept = [score for score in scores if score is not None]
        n_points = sum(score.n for score in kept)
        return {
            "near": sum(score.median <= NEAR for score in kept),
            "sure": sum(score.high <= NEAR for score in kept),
            "takes": len(kept),
            "excess": _middle([score.median - 1 for score in kept]),
            "queries": _middle([standing.trials[name].queries for name in taken]),
            "success": 1 - sum(s.n_failed for s in kept) / n_points if n_points else math.nan,
            "false": sum(trial.n_false for trial in standing.trials.values()),
            "seconds": sum(trial.seconds for trial in standing.trials.values()),
        }

    def __str__(self) -> str:
        """Return the table of attacks and why they failed, 80 columns wide but for long names."""
        rows: list[tuple[str, ...]] = [("   attack", *_COLUMNS)]
        rows += [
            _row(f"{place:2d} {standing.name}", values)
            for place, (standing, values) in enumerate(self.ranked(), 1)
        ]
        failed = [line for standing, _ in self.ranked() for line in _in_short(standing)]
        for (members, why), names in self._refusals().items():
            text = f"Not taken by {_few(names)}: {_few(members)} ({_reason(why)})"
            failed += _wrapped(text, n_lines=3)
        return "\n".join([*_aligned(rows), *([""] if failed else []), *failed])

    def _refusals(self) -> dict[tuple[tuple[str, ...], str], list[str]]:
        """Return attacks by the members that they refused, and why."""
        found: dict[tuple[tuple[str, ...], str], list[str]] = {}
        for standing, _ in self.ranked():
            refused = [name for name, trial in standing.trials.items() if trial.refused]
            if refused:
                why = next(iter(standing.trials[refused[0]].reasons))
                found.setdefault((tuple(refused), why), []).append(standing.name)
        return found

    def details(self, standing: Standing) -> str:
        """Return the table of one attack, a line for each member, and why it failed."""
        rows = [("member", "median", "p90", "lower", "found", "false", "fwd", "back", "s")]
        notes: dict[str, None] = {}
        for name, trial in standing.trials.items():
            score = self.score(standing, name)
            assert score is not None
            exact = self.members[name].truth.exact
            rows.append(
                (
                    name,
                    _excess(score.median - 1),
                    _excess(score.high - 1),
                    "exact" if exact else _ratio(score.over_lower),
                    f"{score.n - score.n_failed}/{score.n}",
                    str(trial.n_false),
                    f"{trial.forward:,.0f}",
                    f"{trial.backward:,.0f}",
                    f"{trial.seconds:.1f}",
                )
            )
            notes |= {f"{name}: {n} x {why}": None for why, n in trial.reasons.items()}
            doubts = [doubt for doubt in trial.doubts if doubt not in trial.reasons]
            notes |= dict.fromkeys(f"{name}: {doubt}" for doubt in doubts)
        return "\n".join([*_aligned(rows), *map(printable, notes)])

    def to_markdown(self) -> str:
        """Return the table of attacks, and of members with the best three, as Markdown."""
        lines = _markdown_head(("#", "attack", "version", *_COLUMNS, "seconds"))
        for place, (standing, values) in enumerate(self.ranked(), 1):
            name, *rest = _row(standing.name, values)
            cells = [
                str(place),
                f"`{_cell(name)}`",
                _cell(standing.version),
                *rest,
                f"{values['seconds']:,.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *self._members_markdown(), "", *self._failures_markdown(), ""]
        absent = [f"`{name}`" for name in MEMBERS if name not in self.members]
        if absent:
            lines += [f"Of the suite, {', '.join(absent)} are not on this board.", ""]
        return "\n".join(lines)

    def _failures_markdown(self) -> list[str]:
        """Return a table of why attacks found no error, and a line for each kind of refusal."""
        lines = _markdown_head(("attack", "found nothing because", "points", "of the members"))
        for standing, _ in self.ranked():
            for why, n, members in _failures(standing):
                cells = (f"`{_cell(standing.name)}`", _cell(why), str(n), ", ".join(members))
                lines.append("| " + " | ".join(cells) + " |")
        for (members, why), names in self._refusals().items():
            by = ", ".join(f"`{_cell(name)}`" for name in names)
            lines += ["", f"Not taken ({_cell(why)}): {', '.join(members)}, by {by}."]
        return lines

    def _members_markdown(self) -> list[str]:
        shown = [standing for standing, _ in self.ranked()]
        best = shown[:3] + [s for s in shown[3:] if s.name == "NearestError"]
        lines = _markdown_head(
            ("member", "what", "distance", *(f"`{_cell(s.name)}`" for s in best))
        )
        for name in self.members:
            truth = self.members[name].truth
            low, high = np.median(truth.lower), np.median(self.nearest(name))
            distance = f"{high:.3g}" if truth.exact else f"{low:.3g} to {high:.3g}"
            cells = [f"`{name}`", MEMBERS[name][0], distance]
            for standing in best:
                score = self.score(standing, name)
                cells.append(
                    "" if score is None
                    else f"{_excess(score.median - 1)}, {_excess(score.high - 1)}"
                )  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        return lines

    def figure(self) -> Figure:
        """Return how near the attacks come for how many evaluations, by exact and other members."""
        exact = [name for name, known in self.members.items() if known.truth.exact]
        others = [name for name in self.members if name not in exact]
        kinds = [(t, names) for t, names in (
            ("nearest errors known exactly", exact), ("between proof and search", others)
        ) if names]  # fmt: skip
        figure, axes = new_figure(len(kinds), width=5.6 * max(len(kinds), 1.4), height=5.2)
        libraries = sorted({standing.library for standing in self.standings})
        names = ("outer", "inner", "green", "paper", "orange", "sky", "grey")
        libraries.sort(key=lambda library: library != "trueboundary")
        colours = {lib: COLOURS[names[i % len(names)]] for i, lib in enumerate(libraries)}
        for panel, (title, chosen) in zip(axes, kinds, strict=True):
            self._draw(panel, chosen, colours)
            title = f"{title} ({len(chosen)} classifiers)"
            panel.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
        add_legend(axes[0], location="upper right")
        return figure

    def _draw(self, panel: Any, members: Sequence[str], colours: Mapping[str, str]) -> None:
        """Draw one point for each attack: its median over some members."""
        top, bottom = 3e2, 3e-8
        seen: set[str] = set()
        for number, (standing, _) in enumerate(self.ranked(), 1):
            trials = {m: t for m, t in standing.trials.items() if m in members and not t.refused}
            scores = [self.score(standing, m) for m in trials]
            if not trials:
                continue
            excess = _middle([s.median - 1 for s in scores if s is not None])
            lost = not excess < top
            y = top if lost else max(excess, bottom)
            x = max(_middle([t.queries for t in trials.values()]), 1.0)
            label = (standing.library or "yours") if standing.library not in seen else None
            seen.add(standing.library)
            panel.plot(
                x, y, "^" if lost else "o", ms=7, color=colours[standing.library], label=label
            )
            panel.annotate(
                str(number), (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8
            )
        panel.set(xscale="log", yscale="log", ylim=(bottom / 2, 3 * top))
        panel.set_xlabel("evaluations forward and back per point, median")
        panel.set_ylabel("excess of the distance over the nearest known, median")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, distances to nine digits, infinite ones as None."""
        return {
            "schema": LEADERBOARD_SCHEMA,
            "trueboundary": __version__,
            "versions": dict(self.versions),
            "seed": self.seed,
            "n_points": self.n_points,
            "members": {
                name: {
                    "points": known.points,
                    "exact": known.truth.exact,
                    "lower": _rounded(known.truth.lower),
                    "known": _rounded(known.truth.known),
                }
                for name, known in self.members.items()
            },
            "attacks": [
                {
                    "name": standing.name,
                    "library": standing.library,
                    "version": standing.version,
                    "summary": {k: _plain(v) for k, v in self._summary(standing).items()},
                    "members": {
                        name: {"distance": _rounded(trial.distance), **trial.to_dict()}
                        for name, trial in standing.trials.items()
                    },
                }
                for standing, _ in self.ranked()
            ],
            "missing": list(self.missing),
        }

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the table of attacks, the best first, with the columns of `ranked`."""
        ranked = self.ranked()
        names = ranked[0][1] if ranked else ()
        return {
            "attack": [standing.name for standing, _ in ranked],
            "library": [standing.library for standing, _ in ranked],
            "version": [standing.version for standing, _ in ranked],
            **{name: [values[name] for _, values in ranked] for name in names},
        }

    def _repr_html_(self) -> str:
        """Return the table of all attacks, for a notebook."""
        return f"<pre>{html.escape(str(self))}</pre>"

    def dumps(self) -> str:
        """Return `to_dict` as JSON, a line for each attack and member."""
        text = json.dumps(self.to_dict(), allow_nan=False, separators=(",", ":"))
        return text.replace(',{"name"', ',\n{"name"').replace('},"', '},\n"') + "\n"

    @classmethod
    def of(cls, record: Any) -> Leaderboard:
        """Return the leaderboard that `to_dict` told of, after a look at every part of it.

        Raises
        ------
        ValueError
            If it is none, of a later schema, too large, or holds what cannot be: numbers that are
            no distances, members that the suite has not, a distance below a proven one.
        """
        board = _read(record)
        for standing in board.standings:
            for name, trial in standing.trials.items():
                lower = board.members[name].truth.lower
                below = trial.distance < lower * (1 - _ROUNDING)
                if below.any():
                    point = int(np.flatnonzero(below)[0])
                    raise ValueError(
                        f"{standing.name} cannot have found an error of {name} at "
                        f"{trial.distance[point]:.9g} from point {point}: none is nearer than "
                        f"{lower[point]:.9g}, which is proven."
                    )
        return board

    @classmethod
    def read(cls, file: str | Path) -> Leaderboard:
        """Return the leaderboard in a JSON file of at most 16 MiB; see `of`."""
        path = Path(file)
        try:
            record = json.loads(read_regular(path, _MOST_BYTES).decode("utf-8"), parse_constant=_no)
        except OSError as error:
            raise ValueError(f"cannot read {path}: {reason(error)}") from error
        except (UnicodeDecodeError, RecursionError, ValueError) as error:
            raise ValueError(f"{path} is no JSON of a leaderboard: {error}") from error
        try:
            return cls.of(record)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def check_members(self, truths: Mapping[str, Known]) -> None:
        """Hold members to truths that were computed here.

        Raises
        ------
        ValueError
            If the points are others, or what is said of their distances differs.
        """
        for name, known in self.members.items():
            own = truths[name]
            if own.points != known.points:
                raise ValueError(
                    f"the points of {name} are not those that this version draws with seed "
                    f"{self.seed}; run the attack again with it."
                )
            same = known.truth.exact == own.truth.exact and np.allclose(
                known.truth.lower, own.truth.lower, rtol=1e-6, atol=0
            )
            if not same:
                raise ValueError(f"{name} has other proven distances here than the file says.")

    def joined(self, other: Leaderboard) -> Leaderboard:
        """Return a board with the attacks of both, those of the other in place of namesakes.

        Raises
        ------
        ValueError
            If seeds, numbers of points or members differ.
        """
        if (self.seed, self.n_points) != (other.seed, other.n_points):
            raise ValueError(
                f"expected boards of one seed and number of points, got {self.seed} and "
                f"{self.n_points}, and {other.seed} and {other.n_points}."
            )
        other.check_members({name: self.members[name] for name in other.members})
        names = {standing.name for standing in other.standings}
        kept = tuple(standing for standing in self.standings if standing.name not in names)
        return Leaderboard(
            self.seed, self.n_points, self.members, kept + other.standings,
            {**other.versions, **self.versions}, self.missing + other.missing,
        )  # fmt: skip


def _middle(values: Sequence[float]) -> float:
    """Return the median, the upper of two middle values; infinite without values."""
    return sorted(values)[len(values) // 2] if values else math.inf


def _rank(row: tuple[Standing, Mapping[str, float]]) -> tuple[float, float, float, str]:
    """Return what attacks are sorted by."""
    standing, values = row
    return -values["near"], -values["sure"], values["queries"], standing.name


def _quantiles(ratio: Floats) -> tuple[float, float]:
    """Return the median and the 90th percentile, both of them values that occur."""
    middle, high = np.quantile(ratio, (0.5, 0.9), method="higher")
    return float(middle), float(high)


def _failures(standing: Standing) -> list[tuple[str, int, tuple[str, ...]]]:
    """Return why an attack found no error, with points and members, the most frequent first.

    Members that it refused are left out.
    """
    counts: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    for member, trial in standing.trials.items():
        for why, n in {} if trial.refused else trial.reasons.items():
            counts[why] += n
            where.setdefault(why, []).append(member)
    return [(why, n, tuple(where[why])) for why, n in counts.most_common()]


def _in_short(standing: Standing) -> list[str]:
    """Return why an attack found no error in at most two lines, none where it found all."""
    name = standing.name
    whose = f"{name} of {standing.library} {standing.version} "  # as the line itself begins
    parts = [
        f"{n} x {_reason(why.removeprefix(whose).removeprefix(f'{name} '))} ({_few(members)})"
        for why, n, members in _failures(standing)
        if n
    ]
    return _wrapped(f"{name}: {'; '.join(parts)}", n_lines=2) if parts else []


def _wrapped(text: str, n_lines: int) -> list[str]:
    """Return a sentence in lines below a table, cut to as many as there may be."""
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        subsequent_indent="  ",
        max_lines=n_lines,
        placeholder=" ...",
        break_on_hyphens=False,
    )


def _reason(why: str) -> str:
    """Return a reason in a few words, or the beginning of what an attack itself says."""
    shown = _IN_SHORT.get(why, why.rstrip("."))
    return textwrap.shorten(shown, _LONGEST_REASON, placeholder=" ...")


def _few(names: Sequence[str]) -> str:
    """Return names, of many the first."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names) if more < 2 else f"{', '.join(names[:-more])} and {more} more"


def _row(name: str, values: Mapping[str, float]) -> tuple[str, ...]:
    return (
        name,
        f"{values['near']:.0f}/{values['takes']:.0f}",
        f"{values['sure']:.0f}",
        _excess(values["excess"]),
        f"{values['queries']:,.0f}",
        "" if math.isnan(values["success"]) else f"{values['success']:.0%}",
        f"{values['false']:.0f}",
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _cell(text: str) -> str:
    """Return a stranger's sentence as it may stand in a table of Markdown."""
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _markdown_head(names: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def _excess(value: float) -> str:
    """Return an excess over 1 in two digits; rounding below 1e-9 says nothing."""
    if math.isnan(value):
        return ""
    return "inf" if math.isinf(value) else "0" if abs(value) < 1e-9 else f"{value:.1e}"


def _ratio(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4g}"


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rounded(values: Floats) -> list[float | None]:
    return [
        float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None for value in values.tolist()
    ]


def _no(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


# Reading what a stranger wrote: every part is looked at before it is used.


def _read(record: Any) -> Leaderboard:
    record = _mapping(record, "a leaderboard")
    schema = _text(record, "schema", 20)
    if schema.partition(".")[0] != LEADERBOARD_SCHEMA.partition(".")[0]:
        raise ValueError(
            f"expected a leaderboard of schema {LEADERBOARD_SCHEMA}, got {schema!r}; read it with "
            "the version of trueboundary that wrote it."
        )
    n = _integer(record, "n_points", 1, _MOST_POINTS)
    members = {}
    for name, part in _mapping(record.get("members"), "the members").items():
        if name not in MEMBERS:
            raise ValueError(f"the suite has no member {name[:_LONGEST_NAME]!r}.")
        part = _mapping(part, f"member {name}")
        exact = part.get("exact")
        if not isinstance(exact, bool):
            raise ValueError(f"expected 'exact' of {name} to be true or false.")
        lower, known = (_distances(part, what, name, n) for what in ("lower", "known"))
        if not (lower <= known * (1 + _ROUNDING)).all():
            raise ValueError(f"the nearest error known of {name} is nearer than what is proven.")
        members[name] = Known(Truth(lower, known, exact), _text(part, "points", 64))
    standings = []
    attacks = record.get("attacks")
    if not isinstance(attacks, list) or len(attacks) > _MOST_ATTACKS:
        raise ValueError(f"expected a list of at most {_MOST_ATTACKS} attacks.")
    for part in attacks:
        part = _mapping(part, "an attack")
        name = _text(part, "name", _LONGEST_NAME)
        trials = {
            member: _trial(values, f"{name} on {member}", n)
            for member, values in _mapping(part.get("members"), f"what {name} found").items()
            if _is_known(member, members)
        }
        library, version = (_text(part, what, _LONGEST_NAME) for what in ("library", "version"))
        standings.append(Standing(name, library, version, trials))
    names = Counter(standing.name for standing in standings)
    if twice := [name for name, n in names.items() if n > 1]:
        raise ValueError(f"expected attacks that differ by name, got {twice[0]!r} twice.")
    versions = {
        str(k)[:_LONGEST_NAME]: str(v)[:_LONGEST_NAME]
        for k, v in _mapping(record.get("versions", {}), "the versions").items()
    }
    seed = _integer(record, "seed", 0, 2**63 - 1)
    return Leaderboard(seed, n, members, tuple(standings), versions)


def _is_known(name: str, members: Mapping[str, Known]) -> bool:
    if name not in members:
        raise ValueError(f"the file says nothing of its member {name[:_LONGEST_NAME]!r}.")
    return True


def _trial(values: Any, what: str, n: int) -> Trial:
    values = _mapping(values, what)
    reasons = _mapping(values.get("reasons", {}), f"the reasons of {what}")
    doubts = values.get("doubts", [])
    sentences = [*reasons, *doubts] if isinstance(doubts, list) else [None]
    if not all(isinstance(s, str) and len(s) <= _LONGEST_SENTENCE for s in sentences):
        raise ValueError(f"expected sentences for what {what} says of its failures.")
    return Trial(
        _distances(values, "distance", what, n),
        _number(values, "forward", what),
        _number(values, "backward", what),
        _number(values, "seconds", what),
        _integer(values, "false", 0, n),
        {why: _integer(reasons, why, 0, n) for why in reasons},
        tuple(doubts),
        values.get("raised") is True,
    )


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected {what[:_LONGEST_NAME]} as a JSON object.")
    return value


def _text(values: Mapping[str, Any], key: str, longest: int) -> str:
    value = values.get(key)
    if not (isinstance(value, str) and len(value) <= longest and value.isprintable()):
        raise ValueError(f"expected {key!r} to be one line of at most {longest} characters.")
    return value


def _integer(values: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"expected {key[:_LONGEST_NAME]!r} to be an integer of {low} to {high}.")
    return value


def _number(values: Mapping[str, Any], key: str, what: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError(f"expected {key!r} of {what[:_LONGEST_NAME]} to be a number from 0 on.")
    return float(value)


def _distances(values: Mapping[str, Any], key: str, what: str, n: int) -> Floats:
    listed = values.get(key)
    fit = isinstance(listed, list) and len(listed) == n
    numbers = [math.inf if v is None else v for v in listed] if fit and listed else []
    for value in numbers:
        fit = fit and not isinstance(value, bool) and isinstance(value, int | float)
        fit = fit and (0 <= value < _FARTHEST or value == math.inf)
    if not fit:
        raise ValueError(
            f"expected {key!r} of {what[:_LONGEST_NAME]} to be {n} distances, null where none."
        )
    return np.asarray(numbers, dtype=np.float64)
