"""Running configurations and what they need, on any `concurrent.futures.Executor`."""

from __future__ import annotations

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
from trueboundary.runs.config import Context, Run, RunConfig, RunResult
from trueboundary.runs.order import Group, Queue, longest_chains, rank_by_value
from trueboundary.runs.pool import THREAD_VARIABLES, NoWorkerError, WorkerDiedError
from trueboundary.runs.store import DamagedRunError, Store
from trueboundary.runs.time_left import Speed, SteadyClock, seconds_more

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
    was stored before does not count. Times are in seconds. The time left follows from the costs of
    what is left, on all workers or along the longest chain of runs that wait for one another, and
    from how long runs took here so far.
    """

    running: tuple[RunConfig, ...]
    n_done: int
    n_total: int
    fraction: float
    elapsed: float
    seconds_left: float


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


def run_one(root: str, config: RunConfig) -> float | None:
    """Compute one configuration, store it and return the seconds taken; its needs must be stored.

    A run that is there already is left alone, and one that another process is computing is waited
    for: None is returned. A damaged one is computed again.
    """
    store = Store(root)
    with store.lock(config):
        if _is_stored(store, config):
            return None
        inputs = {name: _require(store, need) for name, need in config.needs().items()}
        return _compute(store, config, config.compute, inputs)[1]


def run_here(store: Store, config: RunConfig, compute: Callable[[Context], RunResult]) -> Run:
    """Return a stored run, or compute it with what no configuration can hold, and store it.

    Parameters
    ----------
    store : Store
        Where it is, or goes.
    config : RunConfig
        Names everything that can change the result, such as a digest of the weights of a network.
    compute : callable
        Takes the place of `RunConfig.compute`, in this process.

    Examples
    --------
    >>> import tempfile
    >>> from trueboundary.runs import RunConfig, RunResult, Store, run_here
    >>> store = Store(tempfile.mkdtemp())
    >>> run_here(store, RunConfig(), lambda context: RunResult({"answer": 42})).summary
    {'answer': 42}
    >>> run_here(store, RunConfig(), lambda context: RunResult({})).summary
    {'answer': 42}
    """
    with store.lock(config):
        known = store.load(config) if _is_stored(store, config) else None
        return _compute(store, config, compute, {})[0] if known is None else known


def _compute(
    store: Store,
    config: RunConfig,
    compute: Callable[[Context], RunResult],
    inputs: dict[str, Run],
) -> tuple[Run, float]:
    """Compute a run of which this process has the lock, and store it; return the seconds, too."""
    checkpoint = store.checkpoint(config)
    checkpoint.mkdir(parents=True, exist_ok=True)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    start, start_cpu = time.monotonic(), time.process_time()
    result = compute(Context(inputs, checkpoint, _progress_writer(checkpoint)))
    seconds = time.monotonic() - start
    info = {
        "started": started,
        "seconds": round(seconds, 3),
        # What the run costs on a machine that is doing nothing else.
        "cpu_seconds": round(time.process_time() - start_cpu, 3),
        "machine": platform.machine(),
        "python": platform.python_version(),
        # Equal bits need equal versions and an equal number of threads.
        "threads": {name: os.environ.get(name, "not set") for name in THREAD_VARIABLES},
        "versions": {name: _version(name) for name in _RECORDED_PACKAGES},
    }
    run = store.save(config, result, info)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return run, seconds


def execute(
    goals: Iterable[RunConfig],
    store: Store,
    executor: Executor,
    *,
    n_workers: int | Callable[[], int] = 1,
    groups: Iterable[Group] = (),
    on_progress: Callable[[Progress], None] | None = None,
    on_stored: Callable[[RunConfig], None] | None = None,
) -> list[Failure]:
    """Compute `goals` and everything they need, skipping what is stored; return what failed.

    The run on which the longest chain of work hangs goes first or, with `groups`, what is worth
    most per second, as far as that keeps no worker idle at the end. Runs whose needs failed are not
    started and are reported as failures too. The traceback of each failure is kept in the store,
    at `Store.failure`, until the run succeeds.

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
    groups : iterable of Group
        Which goals answer something together, and what it is worth.
    on_progress : callable, optional
        Called about twice a second, and once at the end, with a `Progress`.
    on_stored : callable, optional
        Called with every run as soon as it is stored, and at first with those that were before.

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
    work = _Work(goals, store, groups)
    hand_over = _Handover(executor, store)
    running: dict[Future[_Outcome], RunConfig] = {}
    limit = 1
    if on_stored is not None:
        for known in work.stored():
            on_stored(known)
    while work.n_waiting or running:
        limit = n_workers() if callable(n_workers) else n_workers
        while len(running) < limit and (config := work.take(limit)) is not None:
            running[hand_over(config, work.folder(config))] = config
        for future in _some_finished(running):
            config = running.pop(future)
            outcome = _outcome(future, store)
            work.finish(config, outcome)
            if on_stored is not None and not isinstance(outcome, _Raised):
                on_stored(config)
        if on_progress is not None:
            on_progress(work.progress(tuple(running.values()), limit))
    if on_progress is not None:
        on_progress(work.progress((), limit))
    return list(work.failed.values())


class _Work:
    """What waits, what is done and what failed.

    Digests, which take a while, are computed once and not at every look; what can be started is
    kept in heaps, so that a set of many thousands costs little more than its runs.
    """

    def __init__(
        self, goals: Iterable[RunConfig], store: Store, groups: Iterable[Group] = ()
    ) -> None:
        self._store = store
        self._configs = collect(goals)
        self._digests = {id(config): digest for digest, config in self._configs.items()}
        self._costs = {digest: config.cost() for digest, config in self._configs.items()}
        # A damaged run is removed by the worker that computes it again, which alone has its lock.
        self._stored = {d for d, config in self._configs.items() if _is_intact(store, config)}
        self._wanted_by: dict[str, list[str]] = {digest: [] for digest in self._configs}
        self._n_missing: dict[str, int] = {}
        to_do = {d: cost for d, cost in self._costs.items() if d not in self._stored}
        self._whole_cost = sum(to_do.values())
        self._done_cost = 0.0
        self._n_done = len(self._stored)
        self._start = time.monotonic()
        self._started: dict[str, float] = {}
        self._speed, self._clock = Speed(), SteadyClock()
        self.failed: dict[str, Failure] = {}
        for digest in to_do:
            missing = {n.digest for n in self._configs[digest].needs().values()} - self._stored
            self._n_missing[digest] = len(missing)
            for need in missing:
                self._wanted_by[need].append(digest)
        self._chains = longest_chains(self._wanted_by, to_do)
        by_group = [(group.value, collect(group.goals).keys()) for group in groups]
        self._ready = Queue(rank_by_value(by_group, to_do), self._chains)
        for digest in to_do:
            self._make_ready(digest)

    @property
    def n_waiting(self) -> int:
        """How many have not been started."""
        return len(self._n_missing)

    def stored(self) -> list[RunConfig]:
        """Return what was stored before, in the order of the goals."""
        configs = reversed(self._configs.items())  # they were collected from the last one on
        return [config for digest, config in configs if digest in self._stored]

    def take(self, n_workers: int) -> RunConfig | None:
        """Return the run that is to be started next, or None."""
        digest = self._ready.pop((self._whole_cost - self._done_cost) / max(1, n_workers))
        if digest is None:
            return None
        del self._n_missing[digest]
        self._started[digest] = time.monotonic()
        return self._configs[digest]

    def folder(self, config: RunConfig) -> str:
        """Return the name of the run's folder."""
        return f"{config.kind}-{self._digests[id(config)]}"

    def finish(self, config: RunConfig, outcome: _Outcome) -> None:
        """Book the end of a run, and fail everything that waits for one that failed."""
        digest = self._digests[id(config)]
        if isinstance(outcome, _Raised):
            self._fail(digest, Failure(config, outcome.message, outcome.traceback))
            return
        if outcome is not None:
            self._speed.add(self._costs[digest], outcome)
        self._require_visible(self.folder(config))
        self._n_done += 1
        self._done_cost += self._costs[digest]
        with suppress(OSError):
            self._store.failure(self.folder(config)).unlink()
        for waiting in self._wanted_by[digest]:
            if waiting in self._n_missing:
                self._n_missing[waiting] -= 1
                self._make_ready(waiting)

    def progress(self, running: tuple[RunConfig, ...], n_workers: int) -> Progress:
        """Return how far everything is."""
        now = time.monotonic()
        digests = [self._digests[id(config)] for config in running]
        shares = {
            digest: _read_progress(self._store.root / "unfinished" / self.folder(config))
            for digest, config in zip(digests, running, strict=True)
        }
        ratio = self._speed.ratio(
            (share, self._costs[digest], now - self._started[digest])
            for digest, share in shares.items()
        )
        done = self._done_cost + sum(share * self._costs[d] for d, share in shares.items())
        fraction = min(1.0, done / self._whole_cost) if self._whole_cost > 0 else 1.0
        waiting = sum(self._costs[digest] for digest in self._n_missing)
        work, chains = ratio * waiting, [ratio * self._chains[d] for d in self._n_missing]
        for digest, share in shares.items():
            cost = self._costs[digest]
            more = seconds_more(share, cost, now - self._started[digest], ratio)
            work += more
            chains.append(more + ratio * (self._chains[digest] - cost))
        estimate = max([work / max(1, n_workers), *chains])
        return Progress(
            running,
            self._n_done + len(self.failed),
            len(self._configs),
            fraction,
            now - self._start,
            self._clock.show(estimate, now),
        )

    def _make_ready(self, digest: str) -> None:
        if self._n_missing[digest] == 0:
            self._ready.push(digest)

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

    def __call__(self, config: RunConfig, folder: str) -> Future[_Outcome]:
        try:
            return self._executor.submit(_run_there, self._root, self._identity, folder, config)
        except BrokenExecutor as error:
            raise _workers_gone(self._store, error) from error


@dataclass(frozen=True)
class _Raised:
    """What a run raised, in words: not every exception survives the way from another process."""

    message: str
    traceback: str


#: What became of a run: the seconds it took, None where it was stored already, or what it raised.
_Outcome = float | None | _Raised


def _run_there(root: str, identity: str, folder: str, config: RunConfig) -> _Outcome:
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
        return run_one(root, config)
    except Exception as error:
        return _in_words(error)


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
    running: dict[Future[_Outcome], RunConfig],
) -> set[Future[_Outcome]]:
    if not running:  # no worker is there yet, or none any more
        time.sleep(POLL_INTERVAL)
        return set()
    return wait(running, timeout=POLL_INTERVAL, return_when=FIRST_COMPLETED).done


def _outcome(future: Future[_Outcome], store: Store) -> _Outcome:
    """Return what became of a run; raise what concerns all of them."""
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
