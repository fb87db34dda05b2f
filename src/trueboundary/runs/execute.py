"""Running configurations and what they need, on any `concurrent.futures.Executor`."""

from __future__ import annotations

import heapq
import os
import platform
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from trueboundary.regular_files import write_atomically
from trueboundary.runs.config import Context, Run, RunConfig
from trueboundary.runs.pool import THREAD_VARIABLES, NoWorkerError, WorkerDiedError
from trueboundary.runs.store import DamagedRunError, Store

#: Seconds between two looks at the progress of running work.
POLL_INTERVAL = 0.5

#: Key of a summary that is False where the data which the run needs were not at hand. Such a run
#: is stored, so that a report can say so, and computed again the next time.
AVAILABLE = "available"

#: Seconds within which what another machine has stored must be seen here.
VISIBLE_WITHIN = 60.0

_RECORDED_PACKAGES = ("trueboundary", "torch", "numpy", "scipy", "scikit-learn")


Name = TypeVar("Name", bound=Hashable)


class WorkerSetupError(RuntimeError):
    """What a worker computes would not be found here: it has another disk or other versions."""


@dataclass(frozen=True)
class Failure:
    """A run that raised, with its traceback (empty where it was never started)."""

    config: RunConfig
    message: str
    traceback: str


@dataclass(frozen=True)
class Progress:
    """State of a set of runs at one moment.

    Failed runs count as done. The `fraction` is the share of the cost that is done, 0 to 1; what
    was stored before does not count. Times are in seconds.
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
    return _walk(goals, lambda config: config.digest)


def total_cost(goals: Iterable[RunConfig]) -> float:
    """Return the cost of `goals` and everything they need, each counted once, in seconds.

    It computes no digests: configurations that are equal are one for this purpose, although 1 and
    1.0 in a field make two runs.
    """
    return sum(config.cost() for config in _walk(goals, lambda config: config))


def _walk(goals: Iterable[RunConfig], name: Callable[[RunConfig], Name]) -> dict[Name, RunConfig]:
    found: dict[Name, RunConfig] = {}
    pending = list(goals)
    while pending:
        config = pending.pop()
        own = name(config)
        if own not in found:
            found[own] = config
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
            # Equal bits need equal versions and an equal number of threads.
            "threads": {name: os.environ.get(name, "not set") for name in THREAD_VARIABLES},
            "versions": {name: _version(name) for name in _RECORDED_PACKAGES},
        }
        store.save(config, result, info)
        shutil.rmtree(checkpoint, ignore_errors=True)


def execute(
    goals: Iterable[RunConfig],
    store: Store,
    executor: Executor,
    *,
    n_workers: int | Callable[[], int] = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Failure]:
    """Compute `goals` and everything they need, skipping what is stored; return what failed.

    The costliest run that is ready goes first. Runs whose needs failed are not started and are
    reported as failures too. The traceback of each failure is kept in the store, at
    `Store.failure`, until the run succeeds.

    The executor's workers must see the store's folder under the same absolute path. A worker that
    does not is found out before it computes anything.

    Parameters
    ----------
    goals : iterable of RunConfig
        What is wanted.
    store : Store
        Where results are and go.
    executor : concurrent.futures.Executor
        Where the work is done: a process pool, or a cluster behind the same interface.
    n_workers : int or callable
        How many runs to hand over at a time, or a function that says how many there are room for
        now; while it says 0, nothing new is started.
    on_progress : callable, optional
        Called about twice a second, and once at the end, with a `Progress`.

    Raises
    ------
    WorkerDiedError
        If the executor has lost its workers for good; what is stored stays, and calling again goes
        on from there. A run that was killed on its own is a `Failure`.
    WorkerSetupError
        If a worker does not share the store's folder or has another version of torch.
    """
    if not callable(n_workers) and n_workers < 1:
        raise ValueError(f"at least one worker is needed, got {n_workers}")
    work = _Work(goals, store)
    hand_over = _Handover(executor, store)
    running: dict[Future[_Raised | None], RunConfig] = {}
    while work.n_waiting or running:
        limit = n_workers() if callable(n_workers) else n_workers
        while len(running) < limit and (config := work.take()) is not None:
            running[hand_over(config, work.folder(config))] = config
        for future in _some_finished(running):
            config = running.pop(future)
            work.finish(config, _outcome(future, store))
        if on_progress is not None:
            on_progress(work.progress(tuple(running.values())))
    if on_progress is not None:
        on_progress(work.progress(()))
    return list(work.failed.values())


class _Work:
    """What waits, what is done and what failed.

    Digests, which take a while, are computed once and not at every look; what can be started is
    kept in a heap, so that a set of many thousands costs little more than its runs.
    """

    def __init__(self, goals: Iterable[RunConfig], store: Store) -> None:
        self._store = store
        self._configs = collect(goals)
        self._digests = {id(config): digest for digest, config in self._configs.items()}
        self._costs = {digest: config.cost() for digest, config in self._configs.items()}
        # A damaged run is removed by the worker that computes it again, which alone has its lock.
        stored = {digest for digest, config in self._configs.items() if _is_intact(store, config)}
        self._wanted_by: dict[str, list[str]] = {digest: [] for digest in self._configs}
        self._n_missing: dict[str, int] = {}
        self._ready: list[tuple[float, str]] = []
        self._whole_cost = sum(c for digest, c in self._costs.items() if digest not in stored)
        self._done_cost = 0.0
        self._n_done = len(stored)
        self._start = time.monotonic()
        self.failed: dict[str, Failure] = {}
        for digest, config in self._configs.items():
            if digest not in stored:
                self._enlist(digest, {n.digest for n in config.needs().values()} - stored)

    @property
    def n_waiting(self) -> int:
        """How many have not been started."""
        return len(self._n_missing)

    def take(self) -> RunConfig | None:
        """Return the costliest run that can be started, or None."""
        if not self._ready:
            return None
        digest = heapq.heappop(self._ready)[1]
        del self._n_missing[digest]
        return self._configs[digest]

    def folder(self, config: RunConfig) -> str:
        """Return the name of the run's folder."""
        return f"{config.kind}-{self._digests[id(config)]}"

    def finish(self, config: RunConfig, raised: _Raised | None) -> None:
        """Book the end of a run, and fail everything that waits for one that failed."""
        digest = self._digests[id(config)]
        if raised is not None:
            self._fail(digest, Failure(config, raised.message, raised.traceback))
            return
        self._require_visible(self.folder(config))
        self._n_done += 1
        self._done_cost += self._costs[digest]
        with suppress(OSError):
            self._store.failure(self.folder(config)).unlink()
        for waiting in self._wanted_by[digest]:
            if waiting in self._n_missing:
                self._n_missing[waiting] -= 1
                self._make_ready(waiting)

    def progress(self, running: tuple[RunConfig, ...]) -> Progress:
        """Return how far everything is."""
        done = self._done_cost
        for config in running:
            share = _read_progress(self._store.root / "unfinished" / self.folder(config))
            done += share * self._costs[self._digests[id(config)]]
        fraction = min(1.0, done / self._whole_cost) if self._whole_cost > 0 else 1.0
        n_done = self._n_done + len(self.failed)
        elapsed = time.monotonic() - self._start
        return Progress(running, n_done, len(self._configs), fraction, elapsed)

    def _enlist(self, digest: str, missing: set[str]) -> None:
        self._n_missing[digest] = len(missing)
        for need in missing:
            self._wanted_by[need].append(digest)
        self._make_ready(digest)

    def _make_ready(self, digest: str) -> None:
        if self._n_missing[digest] == 0:
            heapq.heappush(self._ready, (-self._costs[digest], digest))

    def _fail(self, digest: str, failure: Failure) -> None:
        self.failed[digest] = failure
        self._done_cost += self._costs[digest]
        _write_failure(self._store, failure)
        # Along a chain of needs the message stays that of the run that broke it.
        message = failure.message
        if failure.traceback:
            message = f"not started: it needs {failure.config.folder}, which failed: {message}"
        for blocked in self._wanted_by[digest]:
            if self._n_missing.pop(blocked, None) is not None:  # else failed at an earlier turn
                self._fail(blocked, Failure(self._configs[blocked], message, ""))

    def _require_visible(self, folder: str) -> None:
        """Refuse a worker that says it has stored a run which is not to be seen here."""
        runs = self._store.root / "runs"
        if not _is_visible(runs, folder):
            raise WorkerSetupError(
                f"a worker has stored {folder}, but it is not in {runs} as seen from "
                f"{socket.gethostname()}: the folder must lie on a file system that all workers "
                "share"
            )


class _Handover:
    """Hands runs to an executor, with what a worker needs to see whether it shares the store."""

    def __init__(self, executor: Executor, store: Store) -> None:
        self._executor = executor
        self._store = store
        # Workers may have another working folder.
        self._root = str(store.root.absolute())
        self._identity = store.identity()

    def __call__(self, config: RunConfig, folder: str) -> Future[_Raised | None]:
        try:
            return self._executor.submit(_run_there, self._root, self._identity, folder, config)
        except BrokenExecutor as error:
            raise _workers_gone(self._store, error) from error


@dataclass(frozen=True)
class _Raised:
    """What a run raised, in words: not every exception survives the way from another process."""

    message: str
    traceback: str


def _run_there(root: str, identity: str, folder: str, config: RunConfig) -> _Raised | None:
    """Run one configuration on a worker, after a look at whether its result would be found."""
    place = socket.gethostname()
    if not Store(root).is_same(identity):
        raise WorkerSetupError(
            f"the worker on {place} does not see the store in {root}: the folder must lie on a "
            "file system that all workers share, under the same path"
        )
    if config.folder != folder:
        raise WorkerSetupError(
            f"the worker on {place} would call {folder} {config.folder}: it has another version of "
            f"torch (there {_version('torch')}) or of trueboundary (there "
            f"{_version('trueboundary')}); install the same versions everywhere"
        )
    try:
        run_one(root, config)
    except Exception as error:
        return _in_words(error)
    return None


def _in_words(error: BaseException) -> _Raised:
    try:
        said = str(error)
    except Exception:  # it is somebody else's class
        said = "an exception that cannot be shown"
    message = _printable(f"{type(error).__name__}: {said}")
    return _Raised(message, _printable("".join(traceback.format_exception(error))))


def _printable(text: str) -> str:
    """Return `text` with halves of surrogate pairs, as in names of files, spelt out."""
    return text.encode(errors="backslashreplace").decode()


def _some_finished(
    running: dict[Future[_Raised | None], RunConfig],
) -> set[Future[_Raised | None]]:
    if not running:  # no worker is there yet, or none any more
        time.sleep(POLL_INTERVAL)
        return set()
    return wait(running, timeout=POLL_INTERVAL, return_when=FIRST_COMPLETED).done


def _outcome(future: Future[_Raised | None], store: Store) -> _Raised | None:
    """Return what a run raised; raise what concerns all of them."""
    if future.cancelled():  # by no one here: the executor has given up
        raise _workers_gone(store)
    error = future.exception()
    if isinstance(error, BrokenExecutor):
        raise _workers_gone(store, error) from error
    if isinstance(error, WorkerSetupError):
        raise error
    return future.result() if error is None else _in_words(error)


def _is_visible(runs: Path, folder: str) -> bool:
    """Look for a run that another machine may have stored a moment ago."""
    if (runs / folder).exists():
        return True
    # Network file systems remember for a while what was not there; opening the folder that it
    # should be in makes them look again.
    deadline = time.monotonic() + VISIBLE_WITHIN
    while time.monotonic() < deadline:
        with suppress(OSError), os.scandir(runs) as entries:
            if any(entry.name == folder for entry in entries):
                return True
        time.sleep(POLL_INTERVAL)
    return False


def _workers_gone(store: Store, error: BrokenExecutor | None = None) -> WorkerDiedError:
    if isinstance(error, NoWorkerError):
        why = f"no worker can be started any more ({error.reason})"
    else:
        why = "the workers are gone: killed, perhaps for want of memory, or cut off"
    return WorkerDiedError(
        f"{why}; what had finished is kept in {store.root}, and the same command goes on from there"
    )


def _is_intact(store: Store, config: RunConfig) -> bool:
    """Say whether the run is there, whole, and had its data."""
    try:
        run = store.load(config)
    except DamagedRunError:
        return False
    return run is not None and run.summary.get(AVAILABLE) is not False


def _is_stored(store: Store, config: RunConfig) -> bool:
    """Say whether the run is there to stay; what is there and damaged or in want is removed."""
    if _is_intact(store, config):
        return True
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
        with suppress(OSError):  # a full disk must not end a computation for its progress bar
            write_atomically(folder / "progress", repr(float(fraction)).encode())

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


def _write_failure(store: Store, failure: Failure) -> None:
    file = store.failure(failure.config.folder)
    with suppress(OSError):  # where even this cannot be written, the caller still gets the failure
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{failure.message}\n\n{failure.traceback}", encoding="utf-8")
