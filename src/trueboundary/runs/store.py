"""A folder of finished runs: each is complete or absent, and none is computed twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from trueboundary.runs.config import SCHEMA_VERSION, Arrays, Run, RunConfig, RunResult


class DamagedRunError(RuntimeError):
    """A stored run does not hold what was written."""


class Store:
    """Runs under one folder.

    ``<root>/runs/<kind>-<digest>/`` holds ``run.json`` (configuration, summary, versions, times and
    the checksum of every other file), ``arrays.safetensors`` and one safetensors file per model.
    A run is written to ``<root>/unfinished`` first and renamed into place, so that it is
    there whole or not at all.

    Parameters
    ----------
    root : path-like
        The folder; made when the first run is written.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(tempfile.mkdtemp())
    >>> store.load(RunConfig()) is None
    True
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def path(self, config: RunConfig) -> Path:
        """Folder of the run, whether it is there or not."""
        return self.root / "runs" / config.folder

    def checkpoint(self, config: RunConfig) -> Path:
        """Folder in which the unfinished run keeps what it needs to go on."""
        return self.root / "unfinished" / config.folder

    def load(self, config: RunConfig) -> Run | None:
        """Return the finished run, or None when it has not been computed.

        Raises
        ------
        DamagedRunError
            If the folder is there but its content is not what was written.
        """
        path = self.path(config)
        return self.read(path) if path.exists() else None

    def read(self, path: Path) -> Run:
        """Read the run in `path` and check it against its checksums."""
        try:
            record = json.loads((path / "run.json").read_text(encoding="utf-8"))
            for name, digest in record["files"].items():
                if _checksum(path / name) != digest:
                    raise DamagedRunError(f"{path / name} has changed since it was written")
            arrays = load_file(path / "arrays.safetensors") if record["has_arrays"] else {}
            models = {
                name: (spec, load_file(path / f"model-{name}.safetensors"))
                for name, spec in record["models"].items()
            }
            result = RunResult(record["summary"], arrays, models)
            return Run(record["config"], result, record["info"], path)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise DamagedRunError(f"{path} is damaged: {error}") from error

    def save(self, config: RunConfig, result: RunResult, info: dict[str, Any]) -> Run:
        """Write a finished run; complete or absent, whatever happens meanwhile."""
        with self._staging(config) as folder:
            files = _write_tensors(folder, result)
            record = {
                "schema": SCHEMA_VERSION,
                "config": config.describe(),
                "digest": config.digest,
                "summary": result.summary,
                "has_arrays": bool(result.arrays),
                "models": {name: spec for name, (spec, _) in result.models.items()},
                "files": {file.name: _checksum(file) for file in files},
                "info": info,
            }
            text = json.dumps(record, indent=1, sort_keys=True)
            (folder / "run.json").write_text(text, encoding="utf-8")
            _publish(folder, self.path(config))
        return self.read(self.path(config))

    def discard(self, config: RunConfig) -> None:
        """Remove a run, for instance a damaged one, so that it is computed again."""
        shutil.rmtree(self.path(config), ignore_errors=True)

    @contextmanager
    def _staging(self, config: RunConfig) -> Iterator[Path]:
        folder = self.root / "unfinished" / f"{config.folder}.{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write_tensors(folder: Path, result: RunResult) -> list[Path]:
    tables: dict[str, Arrays] = {f"model-{name}": a for name, (_, a) in result.models.items()}
    if result.arrays:
        tables["arrays"] = result.arrays
    files = []
    for name, arrays in tables.items():
        file = folder / f"{name}.safetensors"
        save_file({key: array.copy(order="C") for key, array in arrays.items()}, file)
        files.append(file)
    return files


def _publish(folder: Path, target: Path) -> None:
    """Rename `folder` into place; when another process was first, its equal result stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(folder, target)
    except OSError:
        if not (target / "run.json").exists():
            raise


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
