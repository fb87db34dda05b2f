"""What every benchmark of speed shares: sides that take turns, floors, and rows of one table.

A benchmark is a module of this folder with a ``TITLE`` and a function ``rows(setup)``. All sides of
a comparison take turns within one process and one run, and a row shows medians of processor time
(of wall time on an accelerator, whose work the processor's clock does not see). Nothing here is a
test: a ratio depends on the machine, which is why every result says what it was measured on.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Row", "Setup", "alternate", "copy_rate", "machine", "product_rate"]


@dataclass(frozen=True)
class Setup:
    """How to run: on which device, how often each side takes its turn, and whether in miniature.

    A miniature shows that a benchmark still runs; its numbers mean nothing.
    """

    device: str = "cpu"
    repeats: int = 7
    tiny: bool = False

    def size(self, full: int, tiny: int) -> int:
        """Return a size, or its miniature."""
        return tiny if self.tiny else full


@dataclass(frozen=True)
class Row:
    """One line of the page: our work against a rival's.

    ``ours`` and ``rival`` are seconds of the same work; ``share`` is the floor (operations or bytes
    over the machine's measured rate) over our time; ``target`` says in words what was aimed at, and
    ``note`` what else the two differ in (accuracy, evaluations, distances).
    """

    work: str
    rival: str
    ours_s: float
    rival_s: float | None = None
    share: float | None = None
    target: str = ""
    note: str = ""


def alternate(
    sides: Mapping[str, Callable[[], object]], setup: Setup, *, calls: int = 1
) -> dict[str, float]:
    """Return the median seconds of one call of each side; they take turns ``setup.repeats`` times.

    Each turn is ``calls`` calls. A first turn of every side, which loads and compiles, is left out.
    """
    repeats = 1 if setup.tiny else setup.repeats
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, work in sides.items():
            seconds = _seconds(work, 1 if setup.tiny else calls, setup.device)
            if repeat > 0:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def product_rate(rows: int, columns: int, inner: int, setup: Setup) -> float:
    """Return the measured rate of float32 matrix products of a size, operations a second."""
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    left, right = left.to(setup.device), right.to(setup.device)
    out = torch.empty(rows, columns, device=setup.device)
    calls = max(1, int(2e9 // (2 * rows * columns * inner)))
    work = {"product": lambda: torch.mm(left, right, out=out)}
    return 2 * rows * columns * inner / alternate(work, setup, calls=calls)["product"]


def copy_rate(setup: Setup, n_bytes: int = 1 << 28) -> float:
    """Return the machine's measured rate of copies, bytes moved (read and written) a second."""
    source = torch.zeros(setup.size(n_bytes, 1 << 16) // 4, device=setup.device)
    out = torch.empty_like(source)
    return 2 * 4 * len(source) / alternate({"copy": lambda: out.copy_(source)}, setup)["copy"]


def machine(device: str = "cpu") -> dict[str, str]:
    """Return what a result was measured on."""
    facts = {"torch": torch.__version__, "python": platform.python_version()}
    if torch.device(device).type == "cuda":
        return {"device": torch.cuda.get_device_name(), **facts}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"device": f"{_processor()}, {capability}, one thread", **facts}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _seconds(work: Callable[[], object], calls: int, device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls
