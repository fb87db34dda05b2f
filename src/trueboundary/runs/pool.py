"""Worker processes with a fixed number of threads that never outlive their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

#: What the numerical libraries read, when they are first imported, for their number of threads.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def worker_pool(n_workers: int, *, n_threads: int = 1) -> Iterator[ProcessPoolExecutor]:
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
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
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


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent has ended in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
