"""Worker processes with a fixed number of threads that never outlive their parent."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, ClassVar

_LOG = logging.getLogger(__name__)

#: What the numerical libraries read, when they are first imported, for their number of threads.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

#: How often an item is run again after the process that computed it was killed.
N_RETRIES = 2

#: Seconds between two looks at whether a process that is at work is still there.
LOOK_EVERY = 1.0

#: Seconds that a process without work has to end by itself.
END_WITHIN = 10.0

# How the death of a process shows at the other end of its pipe.
_DEATHS = (EOFError, BrokenPipeError, ConnectionResetError)


class WorkerDiedError(RuntimeError):
    """A worker process ended without a result: killed, or out of memory."""


class NoWorkerError(WorkerDiedError, BrokenExecutor):
    """There is no worker process any more, and none can be started for the `reason` given."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no worker process can be started ({self.reason})"


@contextmanager
def worker_pool(n_workers: int, *, n_threads: int = 1) -> Iterator[WorkerPool]:
    """Start `n_workers` fresh processes; leaving the block ends them, interrupted or not.

    Several numerical threads in each of several processes slow one another down many times over on
    a shared machine, so the default is one.
    """
    if n_workers < 1 or n_threads < 1:
        raise ValueError(
            f"at least one worker with one thread is needed, got {n_workers} with {n_threads}"
        )
    # Workers are spawned while the block runs, and a library reads these before any code of ours
    # could set them: so they are set here, for the children to inherit, and put back afterwards.
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    pool = WorkerPool(n_workers)
    try:
        yield pool
    except BaseException:
        pool.abandon()
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
    """A pickled call, the future that its caller holds, and how many processes it has cost."""

    call: bytes
    future: Future[Any] = field(default_factory=Future)
    started: bool = False
    n_deaths: int = 0


class WorkerPool(Executor):
    """Spawned processes that take one item each; an item whose process is killed is run again.

    The standard library's pool ends altogether when one of its processes does, and leaves its
    callers waiting for ever when no other can be started. Here a thread looks after each process
    and replaces it when it dies. An item that has cost ``N_RETRIES + 1`` processes fails with
    `WorkerDiedError`. Where a process cannot be replaced, for want of memory or of file
    descriptors, the others take over its item; where there is no other, the item fails with
    `NoWorkerError`. Every item ends in one of these ways.

    Parameters
    ----------
    n_workers : int
        Number of processes; each starts when there is an item for it.
    """

    def __init__(self, n_workers: int) -> None:
        self._n_workers = n_workers
        self._changed = threading.Condition()
        # What follows is read and written under that lock.
        self._waiting: deque[_Item] = deque()
        self._keepers: set[threading.Thread] = set()
        self._n_idle = 0
        self._processes: set[_Process] = set()
        self._closed = self._abandoned = False
        atexit.register(self.abandon)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have ``fn(*args, **kwargs)`` called in a process; everything must be picklable."""
        try:
            item = _Item(pickle.dumps(partial(fn, *args, **kwargs)))
        except Exception as error:
            refused: Future[Any] = Future()
            refused.set_exception(error)
            return refused
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker pool is closed and takes no more work")
            self._waiting.append(item)
            stranded = self._find_keeper()
        if stranded is not None:
            item.future.set_exception(stranded)
        return item.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and end the processes once what was handed over is done."""
        with self._changed:
            self._closed = True
            dropped = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
            keepers = list(self._keepers)
            self._changed.notify_all()
        for item in dropped:
            if item.started:  # and lost its process; such a future can no longer be cancelled
                item.future.set_exception(_died(item))
            else:
                item.future.cancel()
        if wait:
            for keeper in keepers:
                keeper.join()
        atexit.unregister(self.abandon)

    def abandon(self) -> None:
        """End the processes now, and start nothing in their place."""
        with self._changed:
            self._abandoned = True
            processes = list(self._processes)
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()

    def _find_keeper(self) -> NoWorkerError | None:
        """See to it that somebody takes the last item; return why nobody will."""
        if len(self._waiting) <= self._n_idle:
            self._changed.notify()
            return None
        if len(self._keepers) < self._n_workers:
            keeper = threading.Thread(target=self._keep, daemon=True)
            try:
                keeper.start()
            except RuntimeError as error:  # no thread to be had
                if not self._keepers:
                    self._waiting.pop()
                    return _no_worker(error)
            else:
                self._keepers.add(keeper)
        return None

    def _keep(self) -> None:
        """Run items in a process, one after the other, until the pool is closed and has no more."""
        process: _Process | None = None
        while (item := self._take()) is not None:
            try:
                if process is None or not process.is_alive():
                    process = self._replace(process)
                answer = process.call(item.call)
            except _DEATHS:
                self._dismiss(process)
                process = None
                self._try_again(item)
            except BaseException as error:  # whatever it is, somebody waits for the item
                self._dismiss(process)
                process = None
                if self._leave(item):
                    return
                item.future.set_exception(_no_worker(error))
            else:
                _settle(item, answer)
        self._dismiss(process)

    def _take(self) -> _Item | None:
        """Wait for an item that nobody has cancelled; None where there will be no more."""
        with self._changed:
            while True:
                self._n_idle += 1
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._n_idle -= 1
                if not self._waiting:
                    self._keepers.discard(threading.current_thread())
                    return None
                item = self._waiting.popleft()
                if item.started or item.future.set_running_or_notify_cancel():
                    item.started = True
                    return item

    def _replace(self, process: _Process | None) -> _Process:
        self._dismiss(process)  # first, for it holds what the next one needs
        new = _Process()
        with self._changed:
            self._processes.add(new)
            abandoned = self._abandoned
        if abandoned:
            new.kill()
        return new

    def _dismiss(self, process: _Process | None) -> None:
        if process is not None:
            with self._changed:
                self._processes.discard(process)
            with suppress(Exception):  # whoever waits for an item must not wait for this
                process.end()

    def _try_again(self, item: _Item) -> None:
        item.n_deaths += 1
        with self._changed:
            again = item.n_deaths <= N_RETRIES and not self._abandoned
            if again:
                self._waiting.appendleft(item)
                self._changed.notify()
        if again:
            _LOG.info("a run starts again after death %d of its process", item.n_deaths)
        else:
            item.future.set_exception(_died(item))

    def _leave(self, item: _Item) -> bool:
        """Leave `item` to the other keepers and go, where there are others."""
        with self._changed:
            if len(self._keepers) == 1 or self._abandoned:
                return False
            self._keepers.discard(threading.current_thread())
            self._waiting.appendleft(item)
            self._changed.notify()
            return True


class _Process:
    """A spawned process at the other end of a pipe."""

    _start_lock: ClassVar = threading.Lock()

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        try:
            self._process = context.Process(target=_work, args=(other,))
            with self._start_lock:
                self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            other.close()  # so that it ends with the process, and the pipe with it

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def call(self, call: bytes) -> bytes:
        self._pipe.send_bytes(call)
        # A process that this one has started may hold its end of the pipe and outlive it.
        while not self._pipe.poll(LOOK_EVERY):
            if not self.is_alive() and not self._pipe.poll():
                raise EOFError
        return self._pipe.recv_bytes()

    def end(self) -> None:
        """Have the process end by itself, as it does where nobody holds the pipe, or kill it."""
        self._pipe.close()
        self._process.join(END_WITHIN)
        self.kill()
        self._process.join()

    def kill(self) -> None:
        with suppress(OSError):
            self._process.kill()


def _work(pipe: Connection) -> None:
    """Run, in a process of the pool, what comes through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(*_DEATHS):  # nobody wants anything any more
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes()))


def _answer(call: bytes) -> bytes:
    """Return the outcome of `call`: whether it has a value; that or the error; and some text.

    The outcome is pickled by itself, so that one which cannot be read costs no more than itself.
    """
    try:
        return pickle.dumps((True, pickle.dumps(pickle.loads(call)()), ""))
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        with suppress(Exception):
            error.add_note(f"In a worker process:\n{text}")
            return pickle.dumps((False, pickle.dumps(error), text))
        return pickle.dumps((False, b"", text))


def _settle(item: _Item, answer: bytes) -> None:
    try:
        has_value, content, text = pickle.loads(answer)
        try:
            outcome = pickle.loads(content)
        except Exception as error:
            if has_value:
                raise
            raise RuntimeError(f"a worker raised what cannot be read here:\n{text}") from error
    except BaseException as error:
        has_value, outcome = False, error
    if has_value:
        item.future.set_result(outcome)
    else:
        item.future.set_exception(outcome)


def _died(item: _Item) -> WorkerDiedError:
    return WorkerDiedError(
        f"the process that computed it was killed, {max(1, item.n_deaths)} times over, perhaps "
        "for want of memory (fewer workers need less); what had finished is kept, and the same "
        "command goes on from there"
    )


def _no_worker(error: BaseException) -> NoWorkerError:
    gone = NoWorkerError(str(error) or type(error).__name__)
    gone.__cause__ = error
    return gone


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
