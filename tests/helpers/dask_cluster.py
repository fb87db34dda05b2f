"""A Dask scheduler and two worker processes on the loopback interface, for tests."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

_HELPERS = str(Path(__file__).parent)


@contextmanager
def dask_cluster(folder, n_workers=2, extra=()):
    """Yield the scheduler's address and the workers' processes; each has a folder of its own."""
    file = Path(folder) / "scheduler.json"
    processes = []
    try:
        processes.append(
            _start(
                folder,
                "scheduler",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--no-dashboard",
                "--scheduler-file",
                str(file),
            )
        )
        address = _wait_for(lambda: json.loads(file.read_text())["address"])
        for i in range(n_workers):
            own = Path(folder) / f"worker-{i}"
            own.mkdir()
            processes.append(
                _start(
                    own,
                    "worker",
                    address,
                    "--nthreads",
                    "1",
                    "--no-nanny",
                    "--no-dashboard",
                    "--local-directory",
                    str(own),
                    *extra,
                )
            )
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(30)


def _start(folder, what, *arguments):
    environment = os.environ | {"PYTHONPATH": _HELPERS, "OMP_NUM_THREADS": "1"}
    with (Path(folder) / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )


def _wait_for(look):
    deadline = time.monotonic() + 60
    while True:
        try:
            return look()
        except (OSError, ValueError, KeyError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
