"""What was measured as plain numbers and words, for JSON and for cards."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whose own `to_dict` stands on this module
    from trueboundary.measure.brackets import Distances
    from trueboundary.measure.rates import ErrorRate

__all__ = ["distance_values", "rate_values"]


def rate_values(rate: ErrorRate) -> dict[str, Any]:
    """Return an error rate with its interval, and how it was found.

    Examples
    --------
    >>> from trueboundary.measure import error_rate
    >>> from trueboundary.problems import ConcentricSpheres
    >>> problem = ConcentricSpheres(dim=10)
    >>> inner, _ = error_rate(problem.bayes_classifier(), problem)
    >>> values = rate_values(inner)
    >>> values["value"], values["method"]
    (0.0, 'exact')
    """
    run = rate.splitting
    return {
        "label": rate.label,
        "method": rate.method,
        "reason": rate.reason,
        "value": rate.value,
        "low": rate.low,
        "high": rate.high,
        "log10": rate.log10,
        "n_points": rate.n_points,
        "n_errors": rate.n_errors,
        "n_evaluations": rate.n_evaluations,
        "warnings": list(rate.warnings),
        **({"into": [part._asdict() for part in rate.into]} if rate.into else {}),
        "splitting": None
        if run is None
        else {
            "reached": run.reached,
            "deepest_level": run.deepest_level,
            "deepest_probability": run.deepest_probability,
        },
    }


def distance_values(found: Distances) -> dict[str, Any]:
    """Return what brackets of distances come to; the brackets themselves are `found`'s arrays."""
    low, high = found.mean_interval
    return {
        "label": found.label,
        "method": found.method,
        "n": found.n,
        "n_failed": found.n_failed,
        "n_exact": int(found.exact.sum()),
        "mean": found.mean,
        "low": low,
        "high": high,
        "median": found.median,
        "mean_lower": float(found.lower.mean()),
        "median_relative_width": found.median_relative_width,
        "warnings": list(found.warnings),
        "reasons": dict(Counter(reason for reason in found.reasons if reason)),
    }
