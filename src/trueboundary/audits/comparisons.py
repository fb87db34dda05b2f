"""Two classifiers on the same points: paired differences of what their audits found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from trueboundary import __version__
from trueboundary.audits.robustness_card import SCHEMA, RobustnessCard, save_page
from trueboundary.presentable import Presentable, storable
from trueboundary.theory.intervals import (
    Interval,
    censored_median,
    clopper_pearson,
    median_interval,
    t_interval,
)

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, repr=False)
class Comparison(Presentable):
    """Paired differences between two classifiers, the second minus the first.

    Attributes
    ----------
    subjects : tuple of str
        The two.
    n : int
        Points that both were attacked from.
    mean_difference : float
        Mean difference of the distances of the errors found, over points where both have one.
    mean_interval : Interval
        Its 95 % interval (Student's t).
    n_both : int
        Points where both have one.
    median_difference : float
        Median difference over all points; infinite where one classifier alone has no error found,
        NaN between differences that are infinite both ways.
    median_interval : Interval
        Its 95 % interval.
    farther : float
        Share of the points from which the second one's error is farther, of those that differ.
    farther_interval : Interval
        Its 95 % interval (Clopper-Pearson): the sign test.
    error_rates : tuple of float
        Error rates of both.
    cards : tuple of RobustnessCard
        What was found of each.
    """

    subjects: tuple[str, str]
    n: int
    mean_difference: float
    mean_interval: Interval
    n_both: int
    median_difference: float
    median_interval: Interval
    farther: float
    farther_interval: Interval
    error_rates: tuple[float, float]
    cards: tuple[RobustnessCard, RobustnessCard] = field(repr=False)

    @property
    def verdict(self) -> str:
        """Which of the two is the more robust, as far as the points can tell."""
        first, second = self.subjects
        if self.median_interval.low > 0:
            return f"{second} is more robust than {first}"
        if self.median_interval.high < 0:
            return f"{first} is more robust than {second}"
        return f"{first} and {second} do not differ by more than these points can tell"

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values, which JSON can hold, with both cards."""
        names = [f.name for f in fields(self) if f.name not in ("subjects", "cards")]
        values: dict[str, Any] = storable(
            {
                "schema": SCHEMA,
                "version": __version__,
                "subjects": self.subjects,
                "verdict": self.verdict,
                **{name: getattr(self, name) for name in names},
            }
        )
        return values | {"cards": [card.to_dict() for card in self.cards]}

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the distances of both on the points that both have, a row for each."""
        first, second = self.cards
        pairs = [(a, b, min(a.n, b.n)) for a, b in zip(first.classes, second.classes, strict=True)]
        return {
            "label": [a.label for a, _, n in pairs for _ in range(n)],
            **{
                f"{name} {place}": [
                    value for pair in pairs for value in getattr(pair[place - 1], name)[: pair[2]]
                ]
                for place in (1, 2)
                for name in ("lower", "upper")
            },
        }

    def save(self, file: str | Path) -> Path:
        """Write the comparison as an HTML page, or as JSON where the name ends so.

        Raises
        ------
        ValueError
            If the name ends otherwise.
        """
        from trueboundary.audits.card_page import comparison_page

        return save_page(file, self.to_dict, lambda: comparison_page(self))

    def _repr_html_(self) -> str:
        """Return the comparison for a notebook."""
        from trueboundary.audits.card_page import comparison_fragment

        return comparison_fragment(self)

    def __str__(self) -> str:
        """Say the comparison in a few lines of at most 80 columns.

        Differences are told of the more robust one, so that they have the sign of the sentence.
        """
        ahead, behind, sign = *self.subjects[::-1], 1
        if self.median_interval.high < 0:
            ahead, behind, sign = *self.subjects, -1
        rates = (
            f"{rate:.2g} of {name}"
            for name, rate in zip(self.subjects, self.error_rates, strict=True)
        )
        lines = [
            f"{self.verdict}, from {self.n} points.",
            f"distances of {ahead} minus those of {behind}:",
            f"  median {_signed(self.median_difference, self.median_interval, sign)}",
            f"  farther from {self._farther(sign)}",
            f"error rates {' and '.join(rates)}",
        ]
        if self.n_both > 1:
            lines.insert(3, f"  mean {_signed(self.mean_difference, self.mean_interval, sign)}")
        return "\n".join(lines)

    def _farther(self, sign: int) -> str:
        """Say from how many points the one's errors are farther than the other's."""
        share, (low, high) = self.farther, self.farther_interval
        if math.isnan(share):
            return "no point"
        if sign < 0:
            share, low, high = 1.0 - share, 1.0 - high, 1.0 - low
        return f"{share:.0%} [{low:.0%}, {high:.0%}] of the points that differ"


def compare(first: RobustnessCard, second: RobustnessCard) -> Comparison:
    """Compare two classifiers that were audited on the same points.

    Parameters
    ----------
    first, second : RobustnessCard
        Cards of one problem with one seed; where a budget ended one of them earlier, the points
        that both have count.

    Raises
    ------
    ValueError
        If the cards are of other points, or one of none.

    Examples
    --------
    >>> from trueboundary.audits import audit, compare
    >>> from trueboundary.problems import planar_problem
    >>> problem = planar_problem("a")
    >>> straight = audit(lambda x: x[:, 0], problem, name="straight", n_points=20)
    >>> tilted = audit(lambda x: x[:, 0] + 3 * x[:, 1], problem, name="tilted", n_points=20)
    >>> compare(straight, tilted).verdict
    'straight is more robust than tilted'
    """
    if (first.problem, first.settings["seed"]) != (second.problem, second.settings["seed"]):
        raise ValueError(
            "expected two cards of the same problem and seed, got "
            f"{first.subject} (seed {first.settings['seed']}) and {second.subject} (seed "
            f"{second.settings['seed']}) on {_names(first, second)}; audit both with one."
        )
    # Of all points the first few of each class are the same, however many follow.
    pairs = [
        (a.upper[: min(a.n, b.n)], b.upper[: min(a.n, b.n)])
        for a, b in zip(first.classes, second.classes, strict=True)
    ]
    one, two = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    if not len(one):
        nothing = first if not any(part.n for part in first.classes) else second
        why = f"it stopped with {nothing.stopped}" if nothing.stopped else "its budget ended"
        raise ValueError(f"no distance of {nothing.subject} was measured, since {why}.")
    alike = (one == two) | (np.isinf(one) & np.isinf(two))
    difference = np.where(alike, 0.0, np.where(alike, 0.0, two) - np.where(alike, 0.0, one))
    both = np.isfinite(one) & np.isfinite(two)
    n_both, n_differ = int(both.sum()), int((~alike).sum())
    n_farther = int((difference > 0).sum())
    unknown = Interval(math.nan, math.nan)
    return Comparison(
        subjects=(first.subject, second.subject),
        n=len(one),
        mean_difference=float(difference[both].mean()) if n_both else math.nan,
        mean_interval=t_interval(difference[both]) if n_both > 1 else unknown,
        n_both=n_both,
        median_difference=censored_median(difference),
        median_interval=median_interval(difference),
        farther=n_farther / n_differ if n_differ else math.nan,
        farther_interval=clopper_pearson(n_farther, n_differ) if n_differ else unknown,
        error_rates=(first.error_rate, second.error_rate),
        cards=(first, second),
    )


def _signed(value: float, interval: Interval, sign: int) -> str:
    """Return a value with its interval, or both of the difference the other way round."""
    low, high = sorted(sign * end for end in interval)
    return f"{sign * value:.3g} [{low:.3g}, {high:.3g}]"


def _names(first: RobustnessCard, second: RobustnessCard) -> str:
    kinds = [str(card.problem.get("problem")) for card in (first, second)]
    return kinds[0] if kinds[0] == kinds[1] else " and ".join(kinds)
