"""What a folder of runs holds, in words, and how one of them is named by whoever types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trueboundary.cli.errors import UserError
from trueboundary.typed_paths import typed_path

if TYPE_CHECKING:
    from trueboundary.runs import Plan

#: Numbers and words of a run's result that are shown.
_MOST_FOUND = 3

#: Settings by which a run is told that no plan has words for.
_MOST_SETTINGS = 4

#: Runs that are named where several could be meant.
_MOST_NAMED = 5


@dataclass(frozen=True)
class StoredRun:
    """A run in a folder.

    Its number is its place among all of the folder in the order in which they were started, so that
    it stays the same while others follow. Of one that is damaged, `problem` says what is wrong.
    """

    number: int
    path: Path
    experiment: str
    words: str
    found: Mapping[str, Any]
    started: str
    seconds: float
    n_bytes: int
    networks: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class FolderOfRuns:
    """All runs of a folder, what failed, and by experiment its title and its report's verdicts.

    Runs that no plan of the folder asks for stand under an empty id, at the end.
    """

    folder: Path
    runs: Sequence[StoredRun]
    n_failed: int
    titles: Mapping[str, str]
    verdicts: Mapping[str, Sequence[str]]


def read_runs(folder: Path) -> FolderOfRuns:
    """Return what is stored in the ``--out`` folder of a command.

    Raises
    ------
    UserError
        If there are no runs.
    """
    paths = _paths(folder)
    if not paths:
        raise UserError(f"{folder} holds no runs: it is the --out folder of 'trueboundary run'")
    words = _words(folder)
    records = sorted((_record(path) for path in paths), key=lambda r: (r["started"], r["path"]))
    runs = []
    for number, record in enumerate(records, start=1):
        experiment, text = words.get(record["path"].name, ("", record.pop("fallback")))
        record.pop("fallback", None)
        runs.append(StoredRun(number=number, experiment=experiment, words=text, **record))
    n_failed = sum(1 for _ in folder.glob("failures/*.txt"))
    return FolderOfRuns(folder, runs, n_failed, _titles(runs), _verdicts(folder))


def folders_of_runs(parent: Path) -> list[Path]:
    """Return the folders below `parent` that hold runs, in the order of their names."""
    return sorted(path.parent for path in parent.glob("*/runs") if path.is_dir())


def find_run(typed: str) -> Path:
    """Return the folder of the run that is meant.

    It is typed as a path; as ``DIR/WORD``, with the ``--out`` folder of a command and the run's
    number in the list of ``trueboundary runs DIR`` or the beginning of its name or of its digest;
    or as ``WORD`` alone, which is sought in all folders below ``results``.

    Raises
    ------
    UserError
        If it is none, or could be several.
    """
    place = typed_path(typed)
    if (place / "run.json").is_file():
        return place
    root = place.parent.parent if place.parent.name == "runs" else place.parent
    alone = root == Path() and not Path("runs").is_dir()
    roots = folders_of_runs(Path("results")) if alone else [root]
    if place.exists() and not alone:
        raise UserError(f"{typed} is no folder of a finished run: {_why_no_run(place)}")
    found = [path for root in roots for path in _matching(root, place.name)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(path) for path in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise UserError(f"{typed} can be several runs: {names}{more}; type more of the name")
    reason = _why_no_run(place)
    if any(_paths(root) for root in roots):
        reason = "no run has that number or a name that begins so; 'trueboundary runs' lists them"
    raise UserError(f"{typed} is no folder of a finished run: {reason}")


def _matching(root: Path, word: str) -> list[Path]:
    paths = _paths(root)
    if word.isdecimal() and not word.startswith("0") and int(word) <= len(paths):
        ordered = sorted((_record(path) for path in paths), key=lambda r: (r["started"], r["path"]))
        return [ordered[int(word) - 1]["path"]]
    return [
        path
        for path in paths
        if path.name.startswith(word) or path.name.rpartition("-")[2].startswith(word)
    ]


def _paths(folder: Path) -> list[Path]:
    return sorted(file.parent for file in folder.glob("runs/*/run.json"))


def _why_no_run(place: Path) -> str:
    if not place.exists():
        return "there is nothing of that name"
    if place.name == "run.json":
        return f"it is a file of one; give the folder, {place.parent}"
    if (place / "runs").is_dir():
        return f"it holds several; choose one, {place}/NUMBER, from 'trueboundary runs {place}'"
    return "it holds no run.json"


def _record(path: Path) -> dict[str, Any]:
    """Return what a run's record says, without reading its tables."""
    from trueboundary.runs import DamagedRunError, Store

    files = [file for file in path.iterdir() if file.is_file()]
    networks = [
        file.stem.removeprefix("model-") for file in files if file.name.startswith("model-")
    ]
    record: dict[str, Any] = {
        "path": path,
        "fallback": path.name.rpartition("-")[0],
        "found": {},
        "started": "",
        "seconds": 0.0,
        "n_bytes": sum(file.stat().st_size for file in files),
        "networks": tuple(sorted(networks)),
    }
    try:
        run = Store(path.parent.parent).read(path, with_models=False, with_arrays=False)
    except DamagedRunError as damage:
        return record | {"problem": str(damage)}
    return record | {
        "fallback": _settings(record["fallback"], run.config),
        "found": _found(run.summary),
        "started": str(run.info.get("started", "")),
        "seconds": float(run.info.get("seconds", 0.0)),
    }


def _settings(kind: str, config: Mapping[str, Any]) -> str:
    """Return a run's kind with the first of its settings that are single values."""
    plain = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in config.items()
        if name not in ("kind", "version")
        and isinstance(value, (int, float, str))
        and value != ""
        and not isinstance(value, bool)
    ]
    return f"{kind}: {', '.join(plain[:_MOST_SETTINGS])}" if plain else kind


def _found(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers and words of a result, as far as a line holds them."""
    kinds = (int, float, str)
    plain = {
        name: value
        for name, value in summary.items()
        if isinstance(value, kinds) and not isinstance(value, bool) and value != ""
    }
    return dict(list(plain.items())[:_MOST_FOUND])


def _words(folder: Path) -> dict[str, tuple[str, str]]:
    """Return the experiment of each run and what it does there, by the run's folder."""
    from trueboundary.runs import collect

    told: dict[str, tuple[str, str]] = {}
    for plan in _plans(folder):
        names = {path: name for name, path in plan.runs.items()}
        configs = _configs(plan)
        for config in collect(configs).values():
            name = names.get(config.folder, "")
            parts = [part for part in (config.in_words(), name) if part]
            told.setdefault(config.folder, (plan.experiment, ": ".join(parts) or config.kind))
        for path, name in names.items():  # computed with other versions, say
            told.setdefault(path, (plan.experiment, name))
    return told


def _configs(plan: Plan) -> list[Any]:
    """Return the runs that a plan asks for; none where they cannot be planned here."""
    from trueboundary.experiments import experiments

    experiment = experiments().get(plan.experiment)
    if experiment is None:
        return []
    try:
        planned = experiment.runs(
            plan.scale,  # type: ignore[arg-type]
            seed=plan.seed,
            device=plan.device,
            overrides=plan.overrides,
        )
    except (ValueError, TypeError, OSError):  # its images are not here, or settings have changed
        return []
    return list(planned.values())


def _plans(folder: Path) -> Iterator[Plan]:
    """Yield the plans of a folder, those of smaller scales behind the others."""
    from trueboundary.runs import SCALES, DamagedPlanError, plan_files, read_plan

    for place in (folder, *(folder / scale for scale in SCALES)):
        for file in plan_files(place).values():
            try:
                yield read_plan(file)
            except DamagedPlanError:
                continue


def _titles(runs: Sequence[StoredRun]) -> dict[str, str]:
    """Return what to write above the runs of each experiment, in the papers' order."""
    from trueboundary.experiments import experiments

    known = experiments()
    own = {run.experiment for run in runs}
    titles = {id: f"{id} · {known[id].title}" for id in known if id in own}
    titles |= {id: id for id in sorted(own - {*titles, ""})}
    return titles | {"": "of no plan in this folder"}


def _verdicts(folder: Path) -> dict[str, list[str]]:
    """Return the verdicts of the folder's report by experiment, as far as there is one."""
    try:
        rows = json.loads((folder / "report" / "claims.json").read_text("utf-8"))
        found: dict[str, list[str]] = {}
        for row in rows:
            if row["verdict"] is not None:
                found.setdefault(row["claim"]["experiment"], []).append(str(row["verdict"]))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found
