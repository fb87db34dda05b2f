"""Workers on other machines, behind the interface of `concurrent.futures`.

This is the one place that knows of Dask, and it loads Dask when it is asked for workers.
"""

from __future__ import annotations

import asyncio
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from trueboundary.text_files import read_text

#: Seconds to wait for a scheduler's answer.
CONNECT_WITHIN = 10.0

#: Seconds that a batch system has to take a job.
SUBMIT_WITHIN = 120.0

#: Seconds between two counts of the workers.
_COUNT_INTERVAL = 2.0

#: Name of the worker resource of which an item on a graphics card takes one.
DEVICE_RESOURCE = "device"

_ADDRESS = re.compile(r"\w+://[^\s/:]+:\d{1,5}/?|\w+://\[[^\s/]+\]:\d{1,5}/?")
_ADDRESSES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")


class ClusterError(RuntimeError):
    """There is no cluster where one was named, or it takes no work."""


@dataclass(frozen=True)
class Cluster:
    """Workers somewhere else.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Runs items on them; an item whose worker dies is run again on another.
    count_workers : callable
        Says how many workers there are now; they may come and go.
    refusals : sequence of str
        What the batch system said of each job that it did not take, though it took others.
    """

    executor: Executor
    count_workers: Callable[[], int]
    refusals: Sequence[str] = ()


@contextmanager
def open_cluster(where: str, *, n_workers: int = 1, device: str = "cpu") -> Iterator[Cluster]:
    """Connect to a Dask scheduler, or have a batch system start workers, while the block runs.

    Parameters
    ----------
    where : str
        Address of a scheduler, ``"tcp://host:port"``, or a YAML file with the configuration of
        dask-jobqueue, whose one entry under ``jobqueue`` names the batch system.
    n_workers : int
        How many workers to ask the batch system for; a scheduler that is there has its own.
    device : str
        Where the items compute. Unless it is ``"cpu"``, each takes one unit of the worker resource
        ``"device"``, so that only workers started with ``--resources "device=1"`` get any, and one
        at a time.

    Raises
    ------
    ClusterError
        If Dask is not installed, nobody answers at the address, the file is not of that kind, or
        the batch system is not there or takes none of the jobs.
    """
    distributed = _load("distributed")
    address = where.startswith(_ADDRESSES)
    opened = _from_address(where) if address else _from_file(where, n_workers)
    with opened as (scheduler, refusals):
        client = _connect(distributed, scheduler, where)
        options = {} if device == "cpu" else {"resources": {DEVICE_RESOURCE: 1}}
        # Without `pure=False` Dask would take two equal calls for one, failures included.
        executor = client.get_executor(pure=False, **options)
        try:
            yield Cluster(executor, _Counter(client), refusals)
        except BaseException:
            executor.shutdown(wait=False)
            raise
        finally:
            client.close()


class _Counter:
    """Counts workers, asking the scheduler only now and then."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._count = 0
        self._next = float("-inf")

    def __call__(self) -> int:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _COUNT_INTERVAL
            try:
                self._count = len(self._client.nthreads())
            except OSError:  # not connected at the moment; the client tries again by itself
                self._count = 0
        return self._count


@contextmanager
def _from_address(where: str) -> Iterator[tuple[str, Sequence[str]]]:
    # Dask's client takes 20 seconds and a traceback to end where an address has no such form.
    if not _ADDRESS.fullmatch(where):
        raise ClusterError(
            f"{where} is not the address of a scheduler, such as tcp://host:8786: give a host and "
            "a port"
        )
    yield where, ()


@contextmanager
def _from_file(where: str, n_workers: int) -> Iterator[tuple[Any, Sequence[str]]]:
    content = _read_configuration(where)
    dask, jobqueue = _load("dask"), _load_jobqueue()
    systems = {name.removesuffix("Cluster").lower(): name for name in dir(jobqueue)
               if name.endswith("Cluster") and name != "JobQueueCluster"}  # fmt: skip
    system = _single_system(where, content, systems)
    # Over the defaults that dask-jobqueue set when it was loaded, and for as long as the cluster
    # lives: it reads them again for every job.
    with dask.config.set(dask.config.merge(dask.config.config, content)):
        kind = getattr(jobqueue, systems[system])
        submissions = _Submissions()
        try:
            cluster = kind(job_cls=submissions.watched(kind.job_cls))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ClusterError(f"{where}: no {system} cluster can be had: {reason}") from error
        with cluster:
            cluster.scale(n_workers)
            try:
                submissions.wait_for(len(cluster.worker_spec))
                refusals = submissions.refusals
                if refusals and not submissions.n_taken:
                    raise ClusterError(
                        f"{where}: {system} takes no jobs from here: {refusals[0]}; look at the "
                        "settings, and start the sweep where jobs can be submitted"
                    )
                yield cluster, refusals
            finally:  # closing waits for what is still being asked for
                for task in submissions.tasks:
                    cluster.loop.add_callback(task.cancel)


class _Submissions:
    """What becomes of the jobs that a batch system is asked to take.

    A job that is refused is no more to dask-jobqueue than a line in its log: it waits for the
    worker, and cannot close a job that it has not opened.
    """

    def __init__(self) -> None:
        self.n_taken = 0
        self.refusals: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def watched(self, job: Any) -> Any:
        """Return dask-jobqueue's class `job`, with jobs that tell what became of them."""
        submissions, status = self, _load("distributed").Status

        class Watched(job):  # type: ignore[misc]
            async def start(self) -> None:
                task = asyncio.create_task(super().start())
                submissions.tasks.append(task)
                try:
                    await asyncio.wait_for(task, SUBMIT_WITHIN)
                    submissions.n_taken += 1
                # Whatever it is, the job will not start.
                except (Exception, asyncio.CancelledError) as error:
                    submissions.refusals.append(_refusal(error))
                    self.status = status.running  # it can be closed, and nobody tries it again

            async def close(self) -> None:
                with suppress(OSError):  # nothing to cancel jobs with
                    await super().close()
                self.status = status.closed

        return Watched

    def wait_for(self, n_jobs: int) -> None:
        """Return once it is known of all jobs whether they have been taken."""
        deadline = time.monotonic() + 1.1 * SUBMIT_WITHIN
        while self.n_taken + len(self.refusals) < n_jobs and time.monotonic() < deadline:
            time.sleep(0.05)


def _refusal(error: BaseException) -> str:
    """Return what a batch system's command said, without the report on the call around it."""
    if isinstance(error, TimeoutError):
        return f"no answer within {SUBMIT_WITHIN:.0f} s"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no {error.filename} on this machine"
    said = str(error).rpartition("stderr:\n")[2].strip() or str(error)
    return " ".join(said.split()) or type(error).__name__


def _read_configuration(where: str) -> dict[str, Any]:
    yaml = _load("yaml")
    try:
        content = yaml.safe_load(read_text(Path(where)))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ClusterError(
            f"--cluster takes an address like tcp://host:8786 or a YAML file, and {where} cannot "
            f"be read as one: {reason}"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("jobqueue"), dict):
        raise ClusterError(
            f"{where} has no section 'jobqueue': write dask-jobqueue's own configuration, for "
            "instance 'jobqueue: {slurm: {cores: 1, processes: 1, memory: 4GB}}'"
        )
    return content


def _single_system(where: str, content: dict[str, Any], systems: dict[str, str]) -> str:
    named = list(content["jobqueue"])
    if len(named) != 1 or named[0] not in systems:
        raise ClusterError(
            f"{where} must name one batch system under 'jobqueue' ({', '.join(sorted(systems))}), "
            f"got {', '.join(map(str, named)) or 'none'}"
        )
    return str(named[0])


def _connect(distributed: Any, scheduler: Any, where: str) -> Any:
    try:
        return distributed.Client(scheduler, timeout=CONNECT_WITHIN, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:  # a time-out is an OSError
        raise ClusterError(
            f"no Dask scheduler answers at {where} ({type(error).__name__}); start one with 'dask "
            "scheduler' or look at its address"
        ) from error


def _load_jobqueue() -> Any:
    """Load dask-jobqueue, and undo that it makes Ctrl-C end the program as if all were well."""
    if threading.current_thread() is not threading.main_thread():
        raise ClusterError("a batch system can be asked for workers by a main thread only")
    before = signal.getsignal(signal.SIGINT)
    try:
        return _load("dask_jobqueue")
    finally:
        if before is not None:  # else it is nothing that Python could put back
            signal.signal(signal.SIGINT, before)


def _load(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ClusterError(
            f"--cluster needs packages that are not installed ({error.name}): pip install "
            "'trueboundary[cluster]'"
        ) from error
