"""Exact numbers: caps, quadratic-form tails, truncated sums and confidence intervals.

Everything here is a pure function of numbers and numpy arrays and needs numpy and scipy only.
Tail probabilities are returned as natural logarithms wherever they can be tiny. The torch twin with
exact gradients lives in :mod:`trueboundary.theory.quadratic_forms_torch` and is imported on demand.

The modules below are imported when they are first used: scipy takes longer to load than an
experiment to plan.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueboundary.theory import (
        caps,
        concentration,
        gaussian_pairs,
        intervals,
        log_ratios,
        quadratic_forms,
        truncated,
    )

__all__ = [
    "caps",
    "concentration",
    "gaussian_pairs",
    "intervals",
    "log_ratios",
    "quadratic_forms",
    "truncated",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
