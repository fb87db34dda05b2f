"""Running configurations and what they need, on any `concurrent.futures.Executor`."""

from __future__ import annotations

import os
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from trueboundary.runs.config import Context, Run, RunConfig
from trueboundary.runs.store import DamagedRunError, Store

#: Seconds between two looks at the progress of running work.
POLL_INTERVAL = 0.5

_RECORDED_PACKAGES = ("trueboundary", "torch", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Failure:
    """A run that raised, with its traceback."""

    config: RunConfig
    message: str
    traceback: str


@dataclass(frozen=True)
class Progress:
    """State of a set of runs at one moment.

    Parameters
    ----------
    running : tuple of RunConfig
        What is being computed now.
    n_done, n_total : int
        Runs finished and runs in all.
    fraction : float
        Share of the cost that is done, 0 to 1.
    elapsed : float
        Seconds since the start.
    """

    running: tuple[RunConfig, ...]
    n_done: int
    n_total: int
    fraction: float
    elapsed: float

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time left in seconds; None until something has been done."""
        if self.fraction <= 0.0:
            return None
        return self.elapsed * (1.0 - self.fraction) / self.fraction


def run_one(root: str, config: RunConfig) -> None:
    """Compute one configuration and store it; its needs must be stored already.

    A run that is there already is left alone, a damaged one is computed again.
    """
    store = Store(root)
    if _is_stored(store, config):
        return
    inputs = {name: _require(store, need) for name, need in config.needs().items()}
    checkpoint = store.checkpoint(config)
    checkpoint.mkdir(parents=True, exist_ok=True)
    start = time.time()
    result = config.compute(Context(inputs, checkpoint, _progress_writer(checkpoint)))
    info = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start)),
        "seconds": round(time.time() - start, 3),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _RECORDED_PACKAGES},
    }
    store.save(config, result, info)
    shutil.rmtree(checkpoint, ignore_errors=True)


def execute(
    goals: Iterable[RunConfig],
    store: Store,
    executor: Executor,
    *,
    n_workers: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Failure]:
    """Compute `goals` and everything they need, skipping what the store has.

    The costliest run that is ready goes first. Runs whose needs failed are not started and are
    reported as failures too.

    Parameters
    ----------
    goals : iterable of RunConfig
        What is wanted.
    store : Store
        Where results are and go.
    executor : concurrent.futures.Executor
        Where the work is done: a process pool, or a cluster behind the same interface.
    n_workers : int
        How many runs to hand over at a time.
    on_progress : callable, optional
        Called about twice a second with a `Progress`.

    Returns
    -------
    list of Failure
        Empty when everything was computed.
    """
    waiting = _collect(goals)
    total = {digest: config.cost() for digest, config in waiting.items()}
    done = {digest for digest, config in waiting.items() if _is_stored(store, config)}
    skipped = sum(total[digest] for digest in done)
    for digest in done:
        del waiting[digest]
    failed: dict[str, Failure] = {}
    running: dict[Future[None], RunConfig] = {}
    start = time.monotonic()
    while waiting or running:
        _drop_blocked(waiting, failed)
        for config in _ready(waiting, done)[: max(0, n_workers - len(running))]:
            del waiting[config.digest]
            running[executor.submit(run_one, str(store.root), config)] = config
        if not running:
            break
        finished, _ = wait(running, timeout=POLL_INTERVAL, return_when=FIRST_COMPLETED)
        for future in finished:
            config = running.pop(future)
            error = future.exception()
            if error is None:
                done.add(config.digest)
            else:
                failed[config.digest] = _failure(config, error)
        if on_progress is not None:
            on_progress(
                _progress(store, total, skipped, done, failed, tuple(running.values()), start)
            )
    return list(failed.values())


def _collect(goals: Iterable[RunConfig]) -> dict[str, RunConfig]:
    found: dict[str, RunConfig] = {}
    pending = list(goals)
    while pending:
        config = pending.pop()
        if config.digest not in found:
            found[config.digest] = config
            pending.extend(config.needs().values())
    return found


def _ready(waiting: Mapping[str, RunConfig], done: set[str]) -> list[RunConfig]:
    ready = [c for c in waiting.values() if all(n.digest in done for n in c.needs().values())]
    return sorted(ready, key=lambda config: (-config.cost(), config.digest))


def _drop_blocked(waiting: dict[str, RunConfig], failed: dict[str, Failure]) -> None:
    """Fail what waits for a failed run, and what waits for that, and so on."""
    blocked = True
    while blocked:
        blocked = False
        for digest, config in list(waiting.items()):
            broken = [need for need in config.needs().values() if need.digest in failed]
            if broken:
                message = f"not started: it needs {broken[0].folder}, which failed"
                failed[digest] = Failure(config, message, "")
                del waiting[digest]
                blocked = True


def _progress(
    store: Store,
    total: Mapping[str, float],
    skipped: float,
    done: set[str],
    failed: Mapping[str, Failure],
    running: tuple[RunConfig, ...],
    start: float,
) -> Progress:
    finished = done | set(failed)
    work = sum(total[digest] for digest in finished) - skipped
    work += sum(c.cost() * _read_progress(store.checkpoint(c)) for c in running)
    whole = sum(total.values()) - skipped
    fraction = min(1.0, work / whole) if whole > 0 else 1.0
    return Progress(running, len(finished), len(total), fraction, time.monotonic() - start)


def _is_stored(store: Store, config: RunConfig) -> bool:
    try:
        return store.load(config) is not None
    except DamagedRunError:
        store.discard(config)
        return False


def _require(store: Store, config: RunConfig) -> Run:
    run = store.load(config)
    if run is None:
        raise RuntimeError(f"{config.folder} must be computed first")
    return run


def _progress_writer(folder: Path) -> Callable[[float], None]:
    """Report progress through a file: it works on every executor and survives a killed worker."""
    last = [0.0]

    def report(fraction: float) -> None:
        now = time.monotonic()
        if now - last[0] >= POLL_INTERVAL:
            last[0] = now
            temporary = folder / "progress.tmp"
            temporary.write_text(repr(float(fraction)), encoding="ascii")
            os.replace(temporary, folder / "progress")

    return report


def _read_progress(folder: Path) -> float:
    try:
        return min(1.0, max(0.0, float((folder / "progress").read_text(encoding="ascii"))))
    except (OSError, ValueError):
        return 0.0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _failure(config: RunConfig, error: BaseException) -> Failure:
    text = "".join(traceback.format_exception(error))
    return Failure(config, f"{type(error).__name__}: {error}", text)


def describe(run: Run) -> dict[str, Any]:
    """Return a run's settings, cost and versions for a report."""
    return {"folder": run.path.name, "config": run.config, "info": run.info}
