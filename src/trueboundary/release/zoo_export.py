"""Entries of the zoo from stores of finished runs: the same files from the same store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trueboundary.regular_files import write_atomically
from trueboundary.release.stored_runs import find_run, without_digests
from trueboundary.release.zoo_contents import Draft, Group, groups
from trueboundary.release.zoo_measurements import Effort, Subject, how, measure
from trueboundary.runs import SCALES, Run, Scale, Store, strict_json
from trueboundary.zoo.entry_cards import Card
from trueboundary.zoo.loading import problem_from
from trueboundary.zoo.zoo_index import INDEX_SCHEMA, Entry, Place, read_card, read_index

if TYPE_CHECKING:
    from trueboundary.problems import Problem

#: Bytes up to which a file lies in the package, and up to which in the repository; what is larger
#: lies in a release archive.
LARGEST_IN_PACKAGE, LARGEST_IN_REPOSITORY = 1_500_000, 8_000_000
_WITH_FILES: tuple[Place, ...] = ("package", "repository", "archive")


class ExportError(ValueError):
    """Nothing can be exported; the message is a sentence."""


@dataclass(frozen=True)
class Folders:
    """Where the zoo lies in a repository."""

    root: Path

    @property
    def index(self) -> Path:
        """Folder of index and cards."""
        return self.root / "src" / "trueboundary" / "zoo"

    def of(self, place: Place) -> Path:
        """Return the folder of the files of a place."""
        return {
            "package": self.index / "files",
            "repository": self.root / "zoo",
            "archive": self.root / "release" / "zoo",
        }[str(place)]


def export_zoo(
    stores: Iterable[str | Path],
    root: str | Path,
    *,
    scales: Iterable[Scale] = ("paper", "quick"),
    effort: Effort | None = None,
    again: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Write the entries that some stores have the runs for, and the index of all.

    Entries whose runs are not there stay as they are. What was made of runs at a larger scale is
    not replaced by what was made at a smaller one.

    Parameters
    ----------
    stores : iterable of path
        Folders of finished runs.
    root : path
        The repository.
    scales : iterable of str
        Scales of the runs to look for, from the most wanted to the least.
    effort : Effort, optional
        How much is measured for the cards.
    again : bool
        Whether to measure again what was measured of the very same file.
    progress : callable, optional
        ``progress(name)`` before each entry.

    Returns
    -------
    list of str
        Names of the entries that were written.

    Raises
    ------
    ExportError
        If there is no such store.
    """
    folders, say = Folders(Path(root)), progress or (lambda _: None)
    opened = [Store(place) for place in stores]
    for store in opened:
        if not (store.root / "runs").is_dir():
            raise ExportError(f"{store.root} is no folder of finished runs: it has no folder runs.")
    known = read_index(folders.index) if (folders.index / "index.json").exists() else {}
    writer = _Writer(folders, {} if again else known, effort or Effort(), say)
    for scale in scales:
        for group in groups(scale):
            wanted = group.drafts[-1].name
            if wanted in writer.made or _is_outranked(known.get(wanted), group.scale, folders):
                continue
            runs = {d.name: find_run(opened, d.run) for d in group.drafts if d.run is not None}
            if all(run is not None and run.summary.get("available", True) for run in runs.values()):
                writer.write(group, runs)
    _write_index({**known, **writer.made}, folders)
    return list(writer.made)


def _is_outranked(entry: Entry | None, scale: Scale, folders: Folders) -> bool:
    if entry is None:
        return False
    own = read_card(entry, folders.index).source["scale"]
    return SCALES.index(own) > SCALES.index(scale)


class _Writer:
    """Writes files and cards; `made` are the entries written so far."""

    def __init__(
        self,
        folders: Folders,
        known: Mapping[str, Entry],
        effort: Effort,
        say: Callable[[str], None],
    ) -> None:
        self.made: dict[str, Entry] = {}
        self._folders, self._known, self._effort, self._say = folders, known, effort, say

    def write(self, group: Group, runs: Mapping[str, Run | None]) -> None:
        """Write what is new in a group; what is measured is what will be loaded."""
        problems: dict[str, Problem] = {}
        for draft in group.drafts:
            run = runs.get(draft.name)
            spec, arrays = draft.model(run)
            if draft.kind == "problem":
                problems[draft.name] = problem_from(spec, arrays)
            if draft.name in self.made:
                continue
            self._say(draft.name)
            content = _packed(arrays) if draft.file else b""
            subject = Subject(draft, spec, arrays, problems[draft.problem])
            measured = self._measured_before(subject, content)
            if measured is None:
                measured = measure(subject, self._effort)
            card = _card(draft, group, run, spec, measured)
            self.made[draft.name] = _write(card, draft.file, content, self._folders)

    def _measured_before(self, subject: Subject, content: bytes) -> dict[str, Any] | None:
        """Return what a card says of the same file and problem, if as much was measured."""
        draft = subject.draft
        earlier, its_problem = self._known.get(draft.name), self._known.get(draft.problem)
        if earlier is None or earlier.sha256 != _sha256(content):
            return None
        if draft.kind == "classifier" and its_problem != self.made[draft.problem]:
            return None
        card = read_card(earlier, self._folders.index)
        same = card.spec == subject.spec and card.measured["how"] == how(subject, self._effort)
        return card.measured if same else None


def _card(
    draft: Draft, group: Group, run: Run | None, spec: dict[str, Any], measured: dict[str, Any]
) -> Card:
    results = f"results/{group.scale}"
    source: dict[str, Any] = {"scale": group.scale}
    if run is not None:
        source |= {
            "run": run.path.name,
            "command": f"trueboundary run {group.experiment} --scale {group.scale} --out {results}",
            "versions": run.info.get("versions", {}),
        }
    settings = {} if run is None else without_digests(run.config)
    return Card(
        name=draft.name,
        kind=draft.kind,
        title=draft.title,
        problem=draft.problem,
        about=draft.about,
        spec=spec,
        settings=settings,
        seed=settings.get("seed"),
        source=source,
        measured=measured,
        data=draft.data,
        licence=draft.licence,
        command=f"trueboundary release zoo {results}",
    )


def _packed(arrays: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save

    # safetensors writes the memory as it lies there, so transposed views need a copy.
    content: bytes = save({name: np.ascontiguousarray(a) for name, a in arrays.items()})
    return content


def _write(card: Card, file: str, content: bytes, folders: Folders) -> Entry:
    """Write a card and a file; return what the index says of them."""
    place: Place = "formula"
    if file:
        place = _place(len(content))
        write_atomically(folders.of(place) / file, content)
    text = strict_json.dumps(asdict(card)).encode()
    write_atomically(folders.index / "cards" / f"{card.name}.json", text)
    return Entry(
        name=card.name,
        kind=card.kind,
        title=card.title,
        problem=card.problem,
        place=place,
        file=file,
        n_bytes=len(content),
        sha256=_sha256(content),
        card_sha256=_sha256(text),
    )


def _sha256(content: bytes) -> str:
    """Return a checksum; nothing has none."""
    return hashlib.sha256(content).hexdigest() if content else ""


def _place(n_bytes: int) -> Place:
    if n_bytes <= LARGEST_IN_PACKAGE:
        return "package"
    return "repository" if n_bytes <= LARGEST_IN_REPOSITORY else "archive"


def _write_index(entries: Mapping[str, Entry], folders: Folders) -> None:
    """Write the index, then remove what no entry names any more."""
    parts = {name: {k: v for k, v in asdict(entry).items() if k != "name"}
             for name, entry in entries.items()}  # fmt: skip
    text = strict_json.seal({"schema": INDEX_SCHEMA, "entries": parts})
    write_atomically(folders.index / "index.json", text.encode())
    kept = {folders.index / "cards" / f"{name}.json" for name in entries}
    kept |= {folders.of(entry.place) / entry.file for entry in entries.values() if entry.file}
    for folder in (folders.index / "cards", *map(folders.of, _WITH_FILES)):
        for file in {*folder.glob("*.json"), *folder.glob("*.safetensors")} - kept:
            file.unlink()
