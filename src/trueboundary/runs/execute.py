"""Running configurations and what they need, on any `concurrent.futures.Executor`."""

from __future__ import annotations

import os
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from trueboundary.runs.config import Context, Run, RunConfig
from trueboundary.runs.store import DamagedRunError, Store

#: Seconds between two looks at the progress of running work.
POLL_INTERVAL = 0.5

_RECORDED_PACKAGES = ("trueboundary", "torch", "numpy", "scipy", "scikit-learn")


class WorkerDiedError(RuntimeError):
    """A worker process ended without a result: killed, or out of memory."""


@dataclass(frozen=True)
class Failure:
    """A run that raised, with its traceback (empty where it was never started)."""

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
        Runs finished (failed ones included) and runs in all.
    fraction : float
        Share of the cost that is done, 0 to 1; what was stored before does not count.
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


def collect(goals: Iterable[RunConfig]) -> dict[str, RunConfig]:
    """Return `goals` and everything they need, directly or not, by digest."""
    found: dict[str, RunConfig] = {}
    pending = list(goals)
    while pending:
        config = pending.pop()
        digest = config.digest
        if digest not in found:
            found[digest] = config
            pending.extend(config.needs().values())
    return found


def run_one(root: str, config: RunConfig) -> None:
    """Compute one configuration and store it; its needs must be stored already.

    A run that is there already is left alone, and one that another process is computing is waited
    for; a damaged one is computed again.
    """
    store = Store(root)
    with store.lock(config):
        if _is_stored(store, config):
            return
        inputs = {name: _require(store, need) for name, need in config.needs().items()}
        checkpoint = store.checkpoint(config)
        checkpoint.mkdir(parents=True, exist_ok=True)
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        start, start_cpu = time.monotonic(), time.process_time()
        result = config.compute(Context(inputs, checkpoint, _progress_writer(checkpoint)))
        info = {
            "started": started,
            "seconds": round(time.monotonic() - start, 3),
            # What the run costs on a machine that is doing nothing else.
            "cpu_seconds": round(time.process_time() - start_cpu, 3),
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
    reported as failures too. The traceback of each failure is kept in the store, at
    `Store.failure`, until the run succeeds.

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
        Called about twice a second, and once at the end, with a `Progress`.

    Returns
    -------
    list of Failure
        Empty when everything was computed.

    Raises
    ------
    ValueError
        If `n_workers` is less than one.
    WorkerDiedError
        If a worker process dies; what is stored stays, and calling again goes on from there.
    """
    if n_workers < 1:
        raise ValueError(f"at least one worker is needed, got {n_workers}")
    work = _Work(goals, store)
    running: dict[Future[None], RunConfig] = {}
    while work.waiting or running:
        for config in work.ready()[: max(0, n_workers - len(running))]:
            running[_submit(executor, store, config)] = work.start(config)
        finished, _ = wait(running, timeout=POLL_INTERVAL, return_when=FIRST_COMPLETED)
        for future in finished:
            work.finish(running.pop(future), future.exception())
        if on_progress is not None:
            on_progress(work.progress(tuple(running.values())))
    if on_progress is not None:
        on_progress(work.progress(()))
    return list(work.failed.values())


class _Work:
    """What waits, what is done and what failed; digests are computed once, not at every look."""

    def __init__(self, goals: Iterable[RunConfig], store: Store) -> None:
        self._store = store
        configs = collect(goals)
        self._digests = {id(config): digest for digest, config in configs.items()}
        self._needs = {d: [n.digest for n in c.needs().values()] for d, c in configs.items()}
        self._costs = {digest: config.cost() for digest, config in configs.items()}
        self._done = {digest for digest, config in configs.items() if _is_stored(store, config)}
        self._stored_cost = sum(self._costs[digest] for digest in self._done)
        self._start = time.monotonic()
        self.waiting = {d: c for d, c in configs.items() if d not in self._done}
        self.failed: dict[str, Failure] = {}

    def ready(self) -> list[RunConfig]:
        """Return what can be started now, the costliest first."""
        ready = [d for d in self.waiting if self._done.issuperset(self._needs[d])]
        return [self.waiting[d] for d in sorted(ready, key=lambda d: (-self._costs[d], d))]

    def start(self, config: RunConfig) -> RunConfig:
        del self.waiting[self._digests[id(config)]]
        return config

    def finish(self, config: RunConfig, error: BaseException | None) -> None:
        """Book the end of a run, and fail everything that waits for one that failed."""
        digest = self._digests[id(config)]
        if error is None:
            self._done.add(digest)
            with suppress(OSError):
                self._store.failure(config.folder).unlink()
            return
        if isinstance(error, BrokenExecutor):
            raise _worker_died(self._store) from error
        self._fail(digest, _failure(config, error))

    def progress(self, running: tuple[RunConfig, ...]) -> Progress:
        n_done = len(self._done) + len(self.failed)
        done = sum(self._costs[d] for d in (*self._done, *self.failed)) - self._stored_cost
        for config in running:
            share = _read_progress(self._store.checkpoint(config))
            done += share * self._costs[self._digests[id(config)]]
        whole = sum(self._costs.values()) - self._stored_cost
        fraction = min(1.0, done / whole) if whole > 0 else 1.0
        elapsed = time.monotonic() - self._start
        return Progress(running, n_done, len(self._costs), fraction, elapsed)

    def _fail(self, digest: str, failure: Failure) -> None:
        self.failed[digest] = failure
        _write_failure(self._store, failure)
        message = f"not started: it needs {failure.config.folder}, which failed"
        for blocked in [d for d in self.waiting if digest in self._needs[d]]:
            if blocked in self.waiting:  # an earlier turn may have failed it already
                self._fail(blocked, Failure(self.waiting.pop(blocked), message, ""))


def _submit(executor: Executor, store: Store, config: RunConfig) -> Future[None]:
    try:
        return executor.submit(run_one, str(store.root), config)
    except BrokenExecutor as error:
        raise _worker_died(store) from error


def _worker_died(store: Store) -> WorkerDiedError:
    return WorkerDiedError(
        "a worker process was killed, perhaps for want of memory; what had finished is kept in "
        f"{store.root}, and the same command goes on from there (fewer workers need less memory)"
    )


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
        if now - last[0] < POLL_INTERVAL:
            return
        last[0] = now
        temporary = folder / "progress.tmp"
        with suppress(OSError):  # a full disk must not end a computation for its progress bar
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


def _write_failure(store: Store, failure: Failure) -> None:
    file = store.failure(failure.config.folder)
    with suppress(OSError):  # where even this cannot be written, the caller still gets the failure
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{failure.message}\n\n{failure.traceback}", encoding="utf-8")
