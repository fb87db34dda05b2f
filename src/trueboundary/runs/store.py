"""A folder of finished runs: each is complete or absent, and none is computed twice."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from trueboundary.regular_files import open_regular, read_beginning, read_regular, reason
from trueboundary.runs import strict_json
from trueboundary.runs.config import SCHEMA_VERSION, Arrays, Run, RunConfig, RunResult
from trueboundary.runs.locking import locked

#: Seconds after which a folder that a killed process was writing counts as abandoned.
STALE_AFTER = 3600.0

#: Bytes that a file of a run may have: its record, and each of its tables.
MAX_RECORD, MAX_TABLE = 64 * 2**20, 4 * 2**30

#: Bytes of a traceback that are read.
MAX_FAILURE = 2**18

_ARRAYS = "arrays.safetensors"
_IDENTITY = re.compile(rb"[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_CHUNK = 2**20
# What reading a table whose header lies about it can raise.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError)
# More than any run takes; a sum of these is still finite.
_MAX_SECONDS = 1e12


class DamagedRunError(RuntimeError):
    """A stored run does not hold what was written."""


class StoreError(RuntimeError):
    """A run could not be written, for instance because the disk is full."""


class Store:
    """Runs under one folder.

    ``<root>/runs/<kind>-<digest>/`` holds ``run.json`` (configuration, summary, versions, times and
    the checksum of every file), ``arrays.safetensors`` and one safetensors file per model.
    A run is written to ``<root>/unfinished`` first and renamed into place, so that it is
    there whole or not at all. ``<root>/failures/<kind>-<digest>.txt`` is the traceback of a run
    that failed the last time it was tried.

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
    >>> run = store.save(RunConfig(), RunResult({"distance": 0.18}), {})
    >>> store.load(RunConfig()).summary
    {'distance': 0.18}
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def path(self, config: RunConfig) -> Path:
        """Folder of the run, whether it is there or not."""
        return self.root / "runs" / config.folder

    def checkpoint(self, config: RunConfig) -> Path:
        """Folder in which the unfinished run keeps what it needs to go on."""
        return self.root / "unfinished" / config.folder

    def failure(self, folder: str) -> Path:
        """File with the traceback of a run that failed, whether it is there or not."""
        return self.root / "failures" / f"{folder}.txt"

    def read_failure(self, folder: str) -> str | None:
        """Return the traceback of a run that failed, or None; a very long one is cut."""
        file = self.failure(folder)
        if not file.exists():
            return None
        try:
            return read_beginning(file, self.root, MAX_FAILURE)
        except OSError as error:
            return f"for a reason that cannot be read: {error}"

    @contextmanager
    def lock(self, config: RunConfig) -> Iterator[None]:
        """Keep other processes from computing the run meanwhile; wait until none does.

        The lock goes with the process that holds it, however that ends.
        """
        with locked(self.root / "unfinished" / f"{config.folder}.lock"):
            yield

    def identity(self) -> str:
        """Return a word that no other store has; it is made up when first asked for.

        Workers on other machines compare it to see whether they share the folder. It serves nothing
        else, so one that is damaged is replaced.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        file = self.root / "store-id"
        try:
            identity = _read_identity(file)
            if identity is None:
                self._invent_identity(file)
                identity = _read_identity(file)
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(f"{self.root} cannot be written to: {reason}") from error
        if identity is None:
            raise StoreError(f"{file} does not hold what was written to it")
        return identity

    def is_same(self, identity: str) -> bool:
        """Return whether this is the store of that `identity`, without writing anything."""
        with suppress(OSError):
            return _read_identity(self.root / "store-id") == identity
        return False

    def load(self, config: RunConfig) -> Run | None:
        """Return the finished run, or None when it has not been computed.

        Raises
        ------
        DamagedRunError
            If the folder is there but its content is not what was written.
        """
        path = self.path(config)
        return self.read(path) if path.exists() else None

    def read(self, path: Path, *, with_models: bool = True, with_arrays: bool = True) -> Run:
        """Read the run in `path` and check it against its checksums.

        Parameters
        ----------
        path : pathlib.Path
            The run's folder.
        with_models : bool
            Whether its models are read as well. Reports do without them: they are by far the
            largest files, and folders that are shipped do not hold them.
        with_arrays : bool
            Whether its arrays are read as well. Lists of runs do without them, too.

        Raises
        ------
        DamagedRunError
            If a file is missing, truncated or edited.
        """
        try:
            record = _read_record(path)
            tables = {
                name: _read_table(path / name, digest)
                for name, digest in record["files"]
                if (with_arrays if name == _ARRAYS else with_models)
            }
            models = {
                name: (spec, tables[f"model-{name}.safetensors"])
                for name, spec in record["models"].items()
                if with_models
            }
            result = RunResult(record["summary"], tables.get(_ARRAYS, {}), models)
            return Run(record["config"], result, record["info"], path)
        except (OSError, MemoryError, SafetensorError, *_MALFORMED) as error:
            raise DamagedRunError(f"{path} is damaged: {reason(error)}") from error

    def save(self, config: RunConfig, result: RunResult, info: dict[str, Any]) -> Run:
        """Write a finished run and read it back; complete or absent, whatever happens meanwhile.

        Raises
        ------
        StoreError
            If it cannot be written; nothing is left behind then.
        TypeError, ValueError
            If the result holds something that has no form on disk.
        """
        tables = _tables(result)
        record = {
            "schema": SCHEMA_VERSION,
            "config": config.describe(),
            "digest": config.digest,
            "summary": result.summary,
            "models": {name: spec for name, (spec, _) in result.models.items()},
            "files": sorted((name, _checksum(content)) for name, content in tables.items()),
            "info": info,
        }
        text = strict_json.seal(record)
        try:
            with self._staging(config.folder) as folder:
                for name, content in tables.items():
                    _write(folder / name, content)
                _write(folder / "run.json", text.encode())
                self._publish(folder, config)
        except OSError as error:
            raise StoreError(
                f"{config.folder} could not be written to {self.root}: {error.strerror or error}; "
                "nothing of it was kept, so the same command computes it again"
            ) from error
        return self.read(self.path(config))

    def adopt(self, path: Path, *, max_bytes: int = MAX_TABLE) -> Run:
        """Copy a run of another store to this one, without its models, and return it.

        Parameters
        ----------
        path : pathlib.Path
            The run's folder in the other store.
        max_bytes : int
            The most that its arrays may take.

        Raises
        ------
        DamagedRunError
            If the run is missing or not what was written.
        UnfitFileError
            If its arrays are larger than `max_bytes`.
        StoreError
            If it cannot be written; nothing is left behind then.
        """
        run = self.read(path, with_models=False)
        target = self.root / "runs" / path.name
        with suppress(DamagedRunError):
            if target.exists():
                return self.read(target, with_models=False)
        names = {"run.json": MAX_RECORD} | ({_ARRAYS: max_bytes} if run.arrays else {})
        contents = {name: read_regular(path / name, limit) for name, limit in names.items()}
        try:
            with self._staging(path.name) as folder:
                for name, content in contents.items():
                    _write(folder / name, content)
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():  # damaged, as was found above
                    shutil.rmtree(target)
                os.rename(folder, target)
        except OSError as error:
            raise StoreError(
                f"{path.name} could not be copied to {self.root}: {error.strerror or error}"
            ) from error
        return self.read(target, with_models=False)

    def discard(self, config: RunConfig) -> None:
        """Remove a run, for instance a damaged one, so that it is computed again."""
        with self._staging(config.folder) as folder, suppress(FileNotFoundError):
            os.rename(self.path(config), folder / "discarded")

    def clean(self) -> None:
        """Remove what processes that were killed while writing have left behind.

        Checkpoints stay: they are what an unfinished run goes on from.
        """
        for folder in self.root.glob("unfinished/*.staging-*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > STALE_AFTER:
                    shutil.rmtree(folder)

    def _publish(self, folder: Path, config: RunConfig) -> None:
        """Rename `folder` into place; when another process was first, its equal result stays."""
        target = self.path(config)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder)
        try:
            os.rename(folder, target)
        except OSError:
            try:
                intact = self.load(config) is not None
            except DamagedRunError:
                intact = False
            if not intact:
                self.discard(config)  # also a link that leads to nothing
                os.rename(folder, target)
        _sync_folder(target.parent)

    def _invent_identity(self, file: Path) -> None:
        with (
            locked(self.root / "unfinished" / "store-id.lock"),
            self._staging("store-id") as folder,
        ):
            if _read_identity(file) is not None:
                return
            with suppress(FileNotFoundError):
                file.unlink()  # it is damaged, and nobody else has mended it
            own = folder / file.name
            _write(own, uuid.uuid4().hex.encode())
            try:
                os.link(own, file)  # unlike a rename, this never replaces what another wrote
            except FileExistsError:
                return
            except OSError:  # a file system without links
                os.rename(own, file)

    @contextmanager
    def _staging(self, name: str) -> Iterator[Path]:
        folder = self.root / "unfinished" / f"{name}.staging-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir(parents=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _read_identity(file: Path) -> str | None:
    """Return what names a store; None where it is not there, or is not what was written."""
    if not file.is_file():
        return None
    try:
        with file.open("rb") as stream:
            content = stream.read(64)
    except FileNotFoundError:  # another process has just removed a damaged one
        return None
    return content.decode() if _IDENTITY.fullmatch(content) else None


def _tables(result: RunResult) -> dict[str, bytes]:
    """Return the content of every safetensors file of a result, by file name."""
    tables: dict[str, Arrays] = {f"model-{name}": a for name, (_, a) in result.models.items()}
    if result.arrays:
        tables["arrays"] = result.arrays
    contents = {}
    for name, arrays in tables.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"a model's name becomes a file's: use letters and digits, not {name}")
        try:
            # safetensors writes the memory as it lies there, so transposed views need a copy.
            plain = {key: array.copy(order="C") for key, array in arrays.items()}
            contents[f"{name}.safetensors"] = save_tensors(plain)
        except (KeyError, AttributeError, SafetensorError) as error:
            raise TypeError(f"{name}: arrays must be numeric numpy arrays ({error})") from error
        if len(contents[f"{name}.safetensors"]) > MAX_TABLE:
            raise ValueError(f"{name}: arrays of more than {MAX_TABLE:,} bytes are not read again")
    return contents


def _read_record(path: Path) -> dict[str, Any]:
    """Return what ``run.json`` says, if it is whole and has the form that `Store.save` writes."""
    record = strict_json.unseal(read_regular(path / "run.json", MAX_RECORD).decode("utf-8"))
    if record.get("schema") != SCHEMA_VERSION:
        raise ValueError(
            f"run.json is of layout {record.get('schema')!r}, and this version reads layout "
            f"{SCHEMA_VERSION}; read it with the version that wrote it"
        )
    for name, form in _FORMS.items():
        if not isinstance(record.get(name), form):
            raise ValueError(f"run.json lacks {name}, or it is of another type")
    _check_files(record["files"], record["models"])
    _check_info(record["info"])
    folder = f"{record['config'].get('kind')}-{record['digest']}"
    if path.name != folder or not _DIGEST.fullmatch(record["digest"]):
        raise ValueError(f"it holds another run, {folder!r}")
    return record


_FORMS = {
    "config": dict,
    "digest": str,
    "summary": dict,
    "models": dict,
    "files": list,
    "info": dict,
}


def _check_files(files: list[Any], models: Mapping[str, Any]) -> None:
    """Refuse names other than those that `Store.save` gives: they are opened."""
    for entry in files:
        if not (isinstance(entry, list) and [type(part) for part in entry] == [str, str]):
            raise ValueError("run.json lists files in another form than name and checksum")
    known = {f"model-{name}.safetensors" for name in models if _NAME.fullmatch(name)}
    names = [name for name, _ in files]
    if len(set(names)) != len(names) or set(names) - {_ARRAYS} != known:
        raise ValueError("run.json lists other files than those of its arrays and models")
    if len(known) != len(models) or not all(isinstance(spec, dict) for spec in models.values()):
        raise ValueError("run.json describes models that have no such name or form")


def _check_info(info: Mapping[str, Any]) -> None:
    for name in ("seconds", "cpu_seconds"):
        seconds = info.get(name, 0.0)
        if not (isinstance(seconds, (int, float)) and 0.0 <= seconds < _MAX_SECONDS):
            raise ValueError(f"run.json gives {name} that are no time")
    if not isinstance(info.get("versions", {}), dict):
        raise ValueError("run.json gives versions in another form than a version for each name")


def _read_table(file: Path, checksum: str) -> Arrays:
    """Return the arrays in `file`; what fails the check has not been held in memory."""
    with open_regular(file, MAX_TABLE) as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
        if digest.hexdigest() != checksum:
            raise ValueError(f"{file.name} has changed since it was written")
        stream.seek(0)
        # Python sets memory aside for all that is asked for, whether it comes or not.
        return load_tensors(stream.read(os.fstat(stream.fileno()).st_size))


def _write(file: Path, content: bytes) -> None:
    """Write and wait for the disk: a rename must never overtake the content it publishes."""
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems refuse, and then there is nothing to wait for
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
