"""Worker processes with a fixed number of threads that never outlive their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

#: What the numerical libraries read, when they are first imported, for their number of threads.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

#: How often an item is run again after the process that computed it was killed.
N_RETRIES = 2


class WorkerDiedError(RuntimeError):
    """A worker process ended without a result: killed, or out of memory."""


@contextmanager
def worker_pool(n_workers: int, *, n_threads: int = 1) -> Iterator[WorkerPool]:
    """Start `n_workers` fresh processes; leaving the block ends them, interrupted or not.

    Several numerical threads in each of several processes slow one another down many times over on
    a shared machine, so the default is one.

    Parameters
    ----------
    n_workers : int
        Number of processes.
    n_threads : int
        Threads of the numerical libraries in each.

    Raises
    ------
    ValueError
        If either is less than one.
    """
    if n_workers < 1 or n_threads < 1:
        raise ValueError(
            f"at least one worker with one thread is needed, got {n_workers} with {n_threads}"
        )
    # Workers are spawned while the block runs, and a library reads these before any code of ours
    # could set them: so they are set here, for the children to inherit, and put back afterwards.
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    children = set(multiprocessing.active_children())
    pool = WorkerPool(n_workers)
    try:
        yield pool
    except BaseException:
        pool.abandon()
        for child in set(multiprocessing.active_children()) - children:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(eq=False)
class _Item:
    """A call, the future that its caller holds, and how many processes it has cost."""

    call: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    n_deaths: int = 0


class WorkerPool(Executor):
    """Spawned processes that take one item each; an item whose process is killed is run again.

    The standard library's pool ends altogether when one of its processes does, and cannot tell
    which item that process was at. So every process here is a pool by itself, and is replaced when
    it dies. An item that has cost ``N_RETRIES + 1`` processes fails with `WorkerDiedError`.

    Parameters
    ----------
    n_workers : int
        Number of processes; each starts with its first item.
    """

    def __init__(self, n_workers: int) -> None:
        # Reentrant: the standard library calls back at once where an item has ended already.
        self._lock = threading.RLock()
        self._workers: set[ProcessPoolExecutor] = set()
        self._idle = [self._new_worker() for _ in range(n_workers)]
        self._waiting: deque[_Item] = deque()
        self._pending: set[Future[Any]] = set()
        self._closed = self._abandoned = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have ``fn(*args, **kwargs)`` called in a process; everything must be picklable."""
        item = _Item(partial(fn, *args, **kwargs))
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker pool is closed and takes no more work")
            self._pending.add(item.future)
            self._waiting.append(item)
        item.future.add_done_callback(self._forget)
        self._start_waiting()
        return item.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and end the processes once what was handed over is done."""
        with self._lock:
            self._closed = True
            dropped = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
            pending = set(self._pending)
        for item in dropped:
            item.future.cancel()
        if wait and not self._abandoned:
            futures.wait(pending - {item.future for item in dropped})
        for worker in list(self._workers):
            worker.shutdown(wait=wait)

    def abandon(self) -> None:
        """Start nothing any more, not even in place of what is killed from now on."""
        with self._lock:
            self._abandoned = True
        self.shutdown(wait=False, cancel_futures=True)

    def _new_worker(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        worker = ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker)
        self._workers.add(worker)
        return worker

    def _replace(self, worker: ProcessPoolExecutor) -> ProcessPoolExecutor:
        self._workers.discard(worker)
        worker.shutdown(wait=False)
        return self._new_worker()

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._pending.discard(future)

    def _start_waiting(self) -> None:
        with self._lock:
            while self._idle and self._waiting and not self._abandoned:
                item = self._waiting.popleft()
                first = item.n_deaths == 0
                if first and not item.future.set_running_or_notify_cancel():
                    continue
                self._hand_over(item, self._idle.pop())

    def _hand_over(self, item: _Item, worker: ProcessPoolExecutor) -> None:
        try:
            inner = worker.submit(item.call)
        except BrokenProcessPool:  # killed while it had nothing to do
            worker = self._replace(worker)
            inner = worker.submit(item.call)
        inner.add_done_callback(partial(self._finish, item, worker))

    def _finish(self, item: _Item, worker: ProcessPoolExecutor, inner: Future[Any]) -> None:
        error = None if inner.cancelled() else inner.exception()
        again = False
        with self._lock:
            if isinstance(error, BrokenProcessPool) and not self._abandoned:
                item.n_deaths += 1
                worker = self._replace(worker)
                again = item.n_deaths <= N_RETRIES
            if again:
                self._waiting.appendleft(item)
            self._idle.append(worker)
        if not again:
            _settle(item, inner, error)
        self._start_waiting()


def _settle(item: _Item, inner: Future[Any], error: BaseException | None) -> None:
    if isinstance(error, BrokenProcessPool) or inner.cancelled():
        error = WorkerDiedError(
            f"the process that computed it was killed, {max(1, item.n_deaths)} times over, perhaps "
            "for want of memory (fewer workers need less); what had finished is kept, and the same "
            "command goes on from there"
        )
    if error is None:
        item.future.set_result(inner.result())
    else:
        item.future.set_exception(error)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent has ended in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
