"""The command that judges attacks over classifiers whose nearest errors are known."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from trueboundary.cli import completions
from trueboundary.cli.errors import (
    UserError,
    check_file,
    check_folder,
    complain,
    interrupts_told,
    user_errors,
)
from trueboundary.cli.json_output import Quiet
from trueboundary.cli.options import Seed
from trueboundary.cli.output_streams import new_console, silent_console
from trueboundary.cli.paths import path
from trueboundary.plain_text import printable_lines
from trueboundary.plurals import plural
from trueboundary.regular_files import write_atomically

if TYPE_CHECKING:
    from trueboundary.audits import FoundAttack, Leaderboard
    from trueboundary.audits.leaderboard import Standing
    from trueboundary.runs import RunConfig, Store

EPILOG = (
    "[bold]Example[/]\n\n  trueboundary audit attack mine.py:attack DDN --members linear,digits-0-6"
    "\n\n  trueboundary audit attack all --out results/attacks --json board.json"
)

#: The lines between which a page's table stands.
_MARKERS = ("<!-- leaderboard: begin -->", "<!-- leaderboard: end -->")

#: Attacks up to which each has a table of its own.
_DETAILED = 3


def attack(
    ctx: typer.Context,
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="Ours by name (NearestError, DDN, ...), module:name or file.py:name of a function "
            "(model, x, y) -> x_adv, which is told domain=... if it has such a parameter, or of an "
            "Attack (which runs the code that it names), library:name of another library, or all. "
            "With --check, JSON files.",
            autocompletion=completions.attacks,
        ),
    ],
    members: Annotated[
        str | None,
        typer.Option(
            help="Some members of the suite, separated by commas; all unless given.",
            autocompletion=completions.members,
        ),
    ] = None,
    points: Annotated[int, typer.Option(min=1, max=10_000, help="Points of each member.")] = 20,
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Folder of finished runs, results/attacks unless given: what is there is not "
            "computed again.",
        ),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", parser=path, help="Write the leaderboard as JSON.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(parser=path, help="Draw ratios against queries into this PNG file."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(parser=path, help="Replace the table in this Markdown file."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Hold JSON files of leaderboards, such as others submit, to the truths, and show "
            "them as one; runs no attack.",
        ),
    ] = False,
    stored: Annotated[
        bool, typer.Option("--stored", help="Show what is finished in --out; run nothing.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Say how far from the nearest errors attacks stop, over classifiers that know them.

    The status is 1 where runs are missing, or where every attack stopped with an exception at every
    point. An attack that runs and finds no error is a result.
    """
    if check:
        _refuse_beside_check(ctx)
    from trueboundary.audits import (
        Leaderboard,
        find_attacks,
        names_of_members,
        stored_leaderboard,
    )
    from trueboundary.runs import DamagedRunError, Store

    out = Path("results/attacks") if out is None else out
    for file, suffixes in ((as_json, ()), (figure, (".png",)), (page, ())):
        if file is not None:
            check_file(file, *suffixes)
    if page is not None:
        from trueboundary.report.markdown import MarkerError, check_markers

        with user_errors((MarkerError, OSError)):
            check_markers(page, _MARKERS)
    with user_errors((ValueError, TypeError, OSError)):
        chosen = None if members is None else [m.strip() for m in members.split(",")]
        names = names_of_members(chosen)
        if check:
            board = _checked([Path(file) for file in what])
            found: list[FoundAttack] = []
        else:
            found = find_attacks(what)
            if not stored:
                _require_members(names, points, seed, Store(out))
    if not check:
        settings: dict[str, Any] = {"members": names, "n_points": points, "seed": seed}
        if not stored:
            check_folder(out)
            with interrupts_told(out):
                failed = _run(found, out, workers, settings, quiet=quiet)
            for sentence in failed:
                complain(sentence)
        with user_errors((ValueError, DamagedRunError)):
            board = stored_leaderboard(found, Store(out), **settings)
            # What is shown is what the JSON says, after the look that strangers' files get.
            board = replace(Leaderboard.of(board.to_dict()), missing=board.missing)
    _show(board)
    if as_json is not None:
        with user_errors((OSError,)):
            write_atomically(as_json, board.dumps().encode())
    if figure is not None:
        from trueboundary.figures import PNG_DPI

        drawn = io.BytesIO()
        board.figure().savefig(drawn, dpi=PNG_DPI, metadata={"Software": None})
        with user_errors((OSError,)):
            write_atomically(figure, drawn.getvalue())
    if page is not None:
        from trueboundary.report.markdown import replace_table

        replace_table(page, board.to_markdown(), _MARKERS)
    if board.missing:
        complain(f"{plural(len(board.missing), 'run')} missing, first of all: {board.missing[0]}")
    stopped = {each.name: why for each in board.standings if (why := _why_it_stopped(each))}
    for name, why in stopped.items():
        complain(f"{name} stopped with an exception at every point: {why}")
    if board.missing or (stopped and len(stopped) == len(board.standings)):
        raise typer.Exit(1)


def _why_it_stopped(standing: Standing) -> str:
    """Return the most frequent reason of an attack that nowhere did anything else."""
    if not all(trial.raised for trial in standing.trials.values()):
        return ""
    reasons = Counter[str]()
    for trial in standing.trials.values():
        reasons.update(trial.reasons)
    ((why, _),) = reasons.most_common(1)
    return why


def _refuse_beside_check(ctx: typer.Context) -> None:
    """Refuse options that say how to run attacks, where none is run."""
    for name in ("members", "points", "seed", "workers", "out", "stored"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(f"--check runs no attack: its files say all; leave --{name} out")


def _run(
    found: list[FoundAttack], out: Path, workers: int, settings: dict[str, Any], *, quiet: bool
) -> list[str]:
    """Run what is not stored yet, and say what failed."""
    from trueboundary.audits import MemberTruth, plan_trials
    from trueboundary.cli.progress import show_progress
    from trueboundary.runs import Group, Store, execute, worker_pool

    store = Store(out)
    store.clean()
    goals = plan_trials(found, **settings)
    words = {config.digest: config.in_words() for config in goals}
    with (
        worker_pool(workers) as pool,
        show_progress(silent_console() if quiet else Console(stderr=True), words) as report,
    ):
        # The members on which attacks take least go first: there is soon something to show.
        by_member: dict[str, list[RunConfig]] = {}
        for config in goals:
            known = config if isinstance(config, MemberTruth) else config.known
            by_member.setdefault(known.member, []).append(config)
        groups = [Group(tuple(runs), len(runs)) for runs in by_member.values()]
        failures = execute(goals, store, pool, n_workers=workers, groups=groups, on_progress=report)
    # Runs that fail alike are many: each reason is told once.
    reasons = Counter(failure.message.partition("\n")[0] for failure in failures)
    sentences = [f"{plural(n, 'run')} failed: {why}" for why, n in reasons.items()]
    return [*sentences, f"the tracebacks are in {out / 'failures'}"] if sentences else []


def _require_members(names: Sequence[str], n_points: int, seed: int, store: Store) -> None:
    """Make those members whose truths are not stored: what they lack is said before the work."""
    from trueboundary.audits import MemberTruth, member

    for name in names:
        if not store.path(MemberTruth(name, n_points, seed)).exists():
            member(name, n_points, seed)


def _checked(files: list[Path]) -> Leaderboard:
    """Return leaderboards from files, joined, after holding them to truths found out here."""
    from trueboundary.audits import Known, Leaderboard, member

    boards = [Leaderboard.read(file) for file in files]
    whole = boards[0]
    for board in boards[1:]:
        whole = whole.joined(board)
    truths = {}
    for name in whole.members:
        complain(f"proving the distances of {name} ...")
        made = member(name, whole.n_points, whole.seed)
        truths[name] = Known(made.find_truth(), made.digest)
    whole.check_members(truths)
    return replace(whole, members=truths)


def _show(board: Leaderboard) -> None:
    """Print the table of attacks, and one of each where they are few."""
    console = new_console()

    def say(text: str) -> None:
        console.print(printable_lines(text), markup=False, highlight=False, soft_wrap=True)

    ranked = [standing for standing, _ in board.ranked()]
    if len(ranked) <= _DETAILED:
        for standing in ranked:
            say(f"{standing.name}: excess over the nearest error known, of {board.n_points} points")
            say(board.details(standing) + "\n")
    say(str(board))
