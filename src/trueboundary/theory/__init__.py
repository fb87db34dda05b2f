"""Exact numbers: caps, quadratic-form tails, truncated sums and confidence intervals.

Everything here is a pure function of numbers and numpy arrays and needs numpy and scipy only.
Tail probabilities are returned as natural logarithms wherever they can be tiny. The torch twin with
exact gradients lives in :mod:`trueboundary.theory.quadratic_forms_torch` and is imported on demand.
"""

from trueboundary.theory import (
    caps,
    gaussian_pairs,
    intervals,
    log_ratios,
    quadratic_forms,
    truncated,
)

__all__ = ["caps", "gaussian_pairs", "intervals", "log_ratios", "quadratic_forms", "truncated"]
