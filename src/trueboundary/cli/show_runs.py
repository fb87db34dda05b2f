"""The command that shows what a folder of runs holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trueboundary.cli import completions
from trueboundary.cli.errors import UserError, complain, nearest
from trueboundary.cli.json_output import Json, say_json
from trueboundary.cli.output_streams import new_console
from trueboundary.cli.paths import path
from trueboundary.plurals import plural

if TYPE_CHECKING:
    from trueboundary.cli.run_lists import FolderOfRuns, StoredRun

#: Layout of what ``--json`` prints.
RUNS_SCHEMA = "1.0"

EPILOG = (
    "[bold]Example[/]\n\n  trueboundary runs\n\n  trueboundary runs results/quick --networks\n\n"
    "  trueboundary measure error results/quick/12"
)


def runs(
    folder: Annotated[
        Path | None,
        typer.Argument(
            parser=path,
            metavar="[DIR]",
            help="The --out folder of a command; unless given, all that lie in results are named.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="Of one experiment alone.", autocompletion=completions.experiment_ids),
    ] = None,
    networks: Annotated[
        bool, typer.Option("--networks", help="Those alone that hold networks to be measured.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what a folder of runs holds: what was done, what came out, when, its cost and size.

    The number in front names a run wherever RUN is asked for, as in results/quick/12.
    """
    from trueboundary.cli.run_lists import folders_of_runs, read_runs

    if folder is None and (experiment is not None or networks) and not as_json:
        raise UserError("--experiment and --networks choose among the runs of one folder: give DIR")

    places = folders_of_runs(Path("results")) if folder is None else [folder]
    if not places:
        raise UserError("there is no folder of runs in results; give one, 'trueboundary runs DIR'")
    folders = [read_runs(place) for place in places]
    if experiment is not None:
        from trueboundary.experiments import experiments

        known = {*experiments(), *(run.experiment for each in folders for run in each.runs)}
        if experiment not in known:
            hint = nearest(experiment, known)
            raise UserError(
                f"there is no experiment {experiment!r}{hint or '; trueboundary list shows all'}"
            )
    chosen = [
        [
            run
            for run in each.runs
            if (experiment is None or run.experiment == experiment)
            and (run.networks or not networks)
        ]
        for each in folders
    ]
    if as_json:
        say_json(
            "runs",
            RUNS_SCHEMA,
            folders=[_record(each, some) for each, some in zip(folders, chosen, strict=True)],
        )
        return
    console = new_console()
    from trueboundary.cli.terminal_tables import folders_table, runs_table

    if folder is None:
        console.print(folders_table(folders, console.width))
        console.print("'trueboundary runs DIR' lists what one holds.", highlight=False)
        return
    (found,), (some,) = folders, chosen
    for id, title in found.titles.items():
        if own := [run for run in some if run.experiment == id]:
            console.print(runs_table(title, own, found.verdicts.get(id, ()), console.width))
            console.print()
    for run in some:
        if run.problem:
            complain(f"run {run.number}: {run.problem}")
    console.print(_totals(found, some), soft_wrap=True, highlight=False)


def _totals(found: FolderOfRuns, some: Sequence[StoredRun]) -> str:
    from trueboundary.cli.terminal_tables import size_in_words
    from trueboundary.report.words import duration

    n_experiments = len({run.experiment for run in some if run.experiment})
    text = (
        f"{plural(len(some), 'run')} of {plural(n_experiments, 'experiment')}: "
        f"{duration(sum(run.seconds for run in some))} of computing, "
        f"{size_in_words(sum(run.n_bytes for run in some))}."
    )
    if len(some) < len(found.runs):
        text += f" {plural(len(found.runs), 'run')} in all."
    if found.n_failed:
        text += f" {plural(found.n_failed, 'run')} failed: see {found.folder / 'failures'}."
    return text


def _record(found: FolderOfRuns, some: Sequence[StoredRun]) -> dict[str, object]:
    return {
        "folder": str(found.folder),
        "n_runs": len(found.runs),
        "n_failed": found.n_failed,
        "verdicts": {id: dict(Counter(verdicts)) for id, verdicts in found.verdicts.items()},
        "runs": [
            {
                "number": run.number,
                "run": run.path.name,
                "experiment": run.experiment,
                "words": run.words,
                "found": dict(run.found),
                "started": run.started,
                "seconds": run.seconds,
                "bytes": run.n_bytes,
                "networks": run.networks,
                "problem": run.problem,
            }
            for run in some
        ],
    }
