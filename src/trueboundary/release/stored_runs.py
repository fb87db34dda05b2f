"""Finding runs in stores that another version of torch wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from trueboundary.regular_files import read_regular
from trueboundary.runs import DamagedRunError, Run, RunConfig, Store, strict_json
from trueboundary.runs.store import MAX_RECORD


def find_run(stores: Iterable[Store], config: RunConfig) -> Run | None:
    """Return the finished run of a configuration, whatever torch it was computed with, or None.

    A run's folder is named after a hash that holds torch's version; its record has the fields
    themselves. A run by the torch that is installed has the name that is looked for, or is of an
    older version of its class, which does not count.

    Raises
    ------
    DamagedRunError
        If it is there and damaged.
    ValueError
        If several runs have these fields, as where an older version of the class left one: which
        is meant cannot be told.
    """
    for store in stores:
        if (run := store.load(config)) is not None:
            return run
        wanted = without_digests(config.describe())
        found = [path for path, own in _configs(store, config.kind) if own == wanted]
        if len(found) > 1:
            raise ValueError(
                f"{store.root} holds {len(found)} runs with the fields of one "
                f"{config.kind}: {', '.join(sorted(path.name for path in found))}; remove those of "
                "older versions."
            )
        if found:
            return store.read(found[0])
    return None


def _configs(store: Store, kind: str) -> Iterator[tuple[Path, Any]]:
    """Yield the runs of a kind that another torch computed, with their fields."""
    for path in sorted((store.root / "runs").glob(f"{kind}-*")):
        try:
            text = read_regular(path / "run.json", MAX_RECORD).decode("utf-8")
            record = strict_json.unseal(text)
            if record["info"].get("versions", {}).get("torch") != metadata.version("torch"):
                yield path, without_digests(record["config"])
        except (OSError, ValueError, KeyError) as error:
            raise DamagedRunError(f"{path} is damaged: {error}") from error


def without_digests(value: Any) -> Any:
    """Return a configuration without the hashes of inner ones, as JSON gives it back."""
    if isinstance(value, dict):
        return {name: without_digests(part) for name, part in value.items() if name != "digest"}
    if isinstance(value, (list, tuple)):
        return [without_digests(part) for part in value]
    return value
