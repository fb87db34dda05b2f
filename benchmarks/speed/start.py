"""Times from the start of a process to its end, for what a user does first.

Processor time of the whole process, files in memory. The rival is the one import that nobody gets
round, ``python -c "import torch"``; the aim of a first classifier is a time on top of it.
"""

import os
import resource
import statistics
import subprocess
import sys

from harness import Row, Setup

TITLE = "Start"

COMMAND = (sys.executable, "-m", "trueboundary")
NETWORK = (
    "import torch, trueboundary as tb\n"
    "network = tb.ReLUNetwork(500, 1000, 2, generator=torch.Generator().manual_seed(0))\n"
    "x, y = tb.ConcentricSpheres(500).sample(10, generator=torch.Generator().manual_seed(0))\n"
    "network.eval().predict(x)"
)
RIVAL = (sys.executable, "-c", "import torch")
STARTS = {
    "trueboundary --help": ((*COMMAND, "--help"), ".4 s"),
    "trueboundary theory cap": (
        (*COMMAND, "theory", "cap", "--dim", "500", "--distance", "0.18"),
        ".8 s",
    ),
    "trueboundary list": ((*COMMAND, "list"), "1 s"),
    "a first classifier and its predictions": ((sys.executable, "-c", NETWORK), "torch + .8 s"),
}


def rows(setup: Setup) -> list[Row]:
    """Return a row for each start."""
    sides = {"torch": RIVAL, **{name: command for name, (command, _) in STARTS.items()}}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(1 if setup.tiny else setup.repeats + 1):
        for name, command in sides.items():
            seconds = _seconds(command)
            if setup.tiny or repeat > 0:  # the first turn reads the files and writes bytecode
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = []
    for name, (_, aim) in STARTS.items():
        more = medians[name] - medians["torch"]
        note = f"torch + {more:.2f} s" if aim.startswith("torch") else ""
        table.append(
            Row(name, "import torch", medians[name], medians["torch"], target=aim, note=note)
        )
    return table


def _seconds(command: tuple[str, ...]) -> float:
    """Return the processor time of a process, its children's included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
