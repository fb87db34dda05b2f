"""Checkpoints: one safetensors file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

Array = np.ndarray[Any, np.dtype[Any]]
_VERSION = 1


class CheckpointWarning(UserWarning):
    """A checkpoint could not be used and training starts again."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that a run needs to go on.

    Attributes
    ----------
    run : dict
        Identity of the run, plain values; a checkpoint continues this run alone.
    progress : dict
        Plain values that change as the run goes on.
    arrays : dict of str to ndarray
        Parameters, buffers, optimiser state and records by name.
    """

    run: dict[str, Any]
    progress: dict[str, Any]
    arrays: dict[str, Array]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a reader finds the old file or the new one, never half of one.

    Raises
    ------
    OSError
        If the folder cannot be made or written.
    """
    metadata = {
        "version": str(_VERSION),
        "run": json.dumps(checkpoint.run, sort_keys=True),
        "progress": json.dumps(checkpoint.progress, sort_keys=True),
    }
    metadata["digest"] = _digest(metadata, checkpoint.arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same name, so that the next write clears away what a killed one left.
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(save(checkpoint.arrays, metadata=metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint, or return None if there is none or it is damaged.

    A damaged file is named in a `CheckpointWarning` and left where it is; the next checkpoint
    replaces it.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = metadata.pop("digest", None)
        if metadata.get("version") != str(_VERSION):
            raise ValueError(f"its version is {metadata.get('version')}, not {_VERSION}")
        if digest != _digest(metadata, arrays):
            raise ValueError("its digest does not match its content")
        run, progress = json.loads(metadata["run"]), json.loads(metadata["progress"])
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        warnings.warn(
            f"the checkpoint {path} cannot be used ({error}); training starts again from step 0.",
            CheckpointWarning,
            stacklevel=3,
        )
        return None
    return Checkpoint(run, progress, arrays)


def _digest(metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> str:
    """Return a digest of the content: safetensors checks its header, not its data."""
    digest = hashlib.blake2b(json.dumps(metadata, sort_keys=True).encode(), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
