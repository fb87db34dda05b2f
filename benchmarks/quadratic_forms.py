"""Cost of the exact tail probability, as ratios measured within one run.

Run with ``python benchmarks/quadratic_forms.py``. Absolute times are not shown: they say more about
the machine than about the code.
"""

import time
from collections.abc import Callable

import numpy as np

from trueboundary.theory import quadratic_forms

REPEATS = 5


def seconds(call: Callable[[], object]) -> float:
    """Return the fastest of a few runs, each long enough to be timed."""
    call()
    best = float("inf")
    for _ in range(REPEATS):
        start, n = time.perf_counter(), 0
        while time.perf_counter() - start < 0.05:
            call()
            n += 1
        best = min(best, (time.perf_counter() - start) / n)
    return best


def weights(dim: int) -> np.ndarray:
    """Return distinct weights with an error rate that falls with the dimension."""
    return np.linspace(0.05, 1.5, dim) - 1


def main() -> None:
    """Print both tables."""
    base = weights(500)
    exact = seconds(lambda: quadratic_forms.log_tail(base))
    print("d = 500, cost of the exact value relative to")
    for name in ("clt_log_tail", "lugannani_rice_log_tail", "chernoff_log_bound"):
        other = getattr(quadratic_forms, name)
        print(f"  {name:26s} {exact / seconds(lambda other=other: other(base)):8.1f}")
    print("cost of the exact value relative to d = 500")
    for dim in (2, 50, 5_000, 50_000):
        spectrum = weights(dim)
        ratio = seconds(lambda spectrum=spectrum: quadratic_forms.log_tail(spectrum)) / exact
        print(f"  d = {dim:<8d} {ratio:8.2f}   (per dimension {ratio * 500 / dim:8.2f})")


if __name__ == "__main__":
    main()
