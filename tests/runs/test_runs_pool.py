"""The worker pool where processes die and none can be started: every item ends, in words."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from trueboundary.runs import (
    NoWorkerError,
    Store,
    WorkerDiedError,
    WorkerPool,
    execute,
    worker_pool,
)
from trueboundary.runs import pool as pool_module

HELPERS = Path(__file__).parents[1] / "helpers"
SOON = 60.0

SHORTAGES = {
    "file descriptors": OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    "memory in the system": OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    "memory here": MemoryError(),
    "processes": BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    "threads": RuntimeError("can't start new thread"),
}


@pytest.fixture(params=SHORTAGES)
def shortage(request):
    return SHORTAGES[request.param]


@pytest.fixture
def starts(monkeypatch):
    """Let a test say what the next starts of processes run into; None for a start that works."""
    to_come: list[BaseException | None] = []
    original = pool_module._Process.__init__

    def start(self):
        if to_come and (error := to_come.pop(0)) is not None:
            raise error
        original(self)

    monkeypatch.setattr(pool_module._Process, "__init__", start)
    return to_come


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark):
    if not mark.exists():
        mark.touch()
        die()
    return os.getpid()


def test_an_item_whose_worker_died_and_cannot_be_replaced_ends(starts, shortage):
    starts += [None, shortage]
    with worker_pool(1) as pool:
        future = pool.submit(die)
        with pytest.raises(NoWorkerError, match="no worker process can be started") as caught:
            future.result(SOON)
        assert (str(shortage) or "MemoryError") in str(caught.value)
        assert pool.submit(abs, -1).result(SOON) == 1, "the shortage is over"


def test_an_item_for_which_no_worker_was_ever_started_ends(starts, shortage):
    starts += [shortage] * 3
    with worker_pool(1) as pool:
        futures = [pool.submit(abs, -n) for n in range(4)]
        for future in futures[:3]:
            assert isinstance(future.exception(SOON), NoWorkerError)
        assert futures[3].result(SOON) == 3


def meet(folder, name, n_guests):
    """Return once `n_guests` processes are at it."""
    (folder / name).touch()
    while len(list(folder.iterdir())) < n_guests:
        time.sleep(0.01)
    return os.getpid()


def test_the_other_workers_take_over_what_one_leaves(starts, shortage, tmp_path):
    folder = tmp_path / "meeting"
    folder.mkdir()
    with worker_pool(2) as pool:
        guests = [pool.submit(meet, folder, name, 2) for name in ("a", "b")]
        processes = {guest.result(SOON) for guest in guests}
        assert len(processes) == 2
        starts += [shortage] * 10
        survivor = pool.submit(die_once, tmp_path / "mark")
        others = [pool.submit(abs, -n) for n in range(5)]
        assert survivor.result(SOON) in processes
        assert [other.result(SOON) for other in others] == list(range(5))
        starts.clear()
        again = [pool.submit(meet, folder, name, 4) for name in ("c", "d")]
        assert len({guest.result(SOON) for guest in again}) == 2, "there are two once more"


def test_no_thread_to_look_after_a_worker_is_said(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with worker_pool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert isinstance(pool.submit(abs, -1).exception(SOON), NoWorkerError)
        assert pool.submit(abs, -1).result(SOON) == 1


def test_an_item_that_waits_for_its_second_try_ends_with_an_abandoned_pool(tmp_path):
    died, abandoned = threading.Event(), threading.Event()
    pool = WorkerPool(1)
    original = pool._try_again

    def try_again(item):
        original(item)
        died.set()
        abandoned.wait(SOON)

    pool._try_again = try_again
    dying, waiting = pool.submit(die_once, tmp_path / "mark"), pool.submit(abs, -2)
    assert died.wait(SOON)
    pool.abandon()
    abandoned.set()
    assert isinstance(dying.exception(SOON), WorkerDiedError)
    with pytest.raises(CancelledError):
        waiting.result(SOON)
    pool.shutdown()


EXHAUSTED = """
import os, resource, signal
from trueboundary.runs import NoWorkerError, worker_pool

if __name__ == "__main__":
    with worker_pool(1) as pool:
        worker = pool.submit(os.getpid).result()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        os.kill(worker, signal.SIGKILL)
        try:
            print(pool.submit(abs, -1).result())
        except NoWorkerError as error:
            print(error)
        for descriptor in taken:
            os.close(descriptor)
        print(pool.submit(abs, -7).result())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_program_without_a_free_file_descriptor_is_told_so_and_goes_on(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(EXHAUSTED)
    done = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, timeout=SOON, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "no worker process can be started ([Errno 24] Too many open files" in done.stdout
    assert done.stdout.splitlines()[-1] == "7"


@pytest.fixture
def strange(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)
    import strange

    return strange


def test_what_does_not_survive_the_way_costs_one_item_and_keeps_its_reason(strange):
    with worker_pool(1) as pool:
        before = pool.submit(os.getpid).result(SOON)
        for call, says in (
            ((strange.raise_unreadable,), "salt and pepper"),
            ((strange.raise_unwritable,), "a hidden function"),
            ((strange.take, strange.ReadableHere(os.getpid())), "read elsewhere"),
            ((strange.give,), "read elsewhere"),
            ((strange.take, threading.Lock()), "pickle"),
            ((strange.give_lambda,), "pickle"),
            ((strange.leave,), "wants to leave"),
        ):
            error = pool.submit(*call).exception(SOON)
            assert error is not None
            assert not isinstance(error, WorkerDiedError)
            assert says in str(error)
        assert pool.submit(os.getpid).result(SOON) == before, "no process was lost"


def test_an_error_tells_where_in_the_worker_it_was_raised(strange):
    with worker_pool(1) as pool:
        error = pool.submit(divmod, 1, 0).exception(SOON)
        assert isinstance(error, ZeroDivisionError)
        assert "Traceback" in "".join(error.__notes__)


@pytest.mark.parametrize("where", ["worker pool", "thread"])
def test_a_run_fails_alone_and_keeps_its_reason_whatever_it_raises(strange, where, tmp_path):
    store = Store(tmp_path)
    goals = [strange.Strange(name) for name in ("", *strange.ERRORS)]
    with worker_pool(1) if where == "worker pool" else ThreadPoolExecutor(1) as executor:
        failures = {f.config.error: f for f in execute(goals, store, executor)}
    assert store.load(strange.Strange("")) is not None
    assert {name: failure.message for name, failure in failures.items()} == {
        "unreadable": "UnreadableError: salt and pepper",
        "unwritable": "UnwritableError: a hidden function",
        "surrogate": r"ValueError: photo-\udce9.png is no picture",
        "silent": "SilentError: an exception that cannot be shown",
    }
    for failure in failures.values():
        kept = store.failure(failure.config.folder).read_text(encoding="utf-8")
        assert failure.message in kept
        assert "strange.py" in kept
