"""How long the rest takes: costs, corrected by what runs took here so far."""

from __future__ import annotations

from collections.abc import Iterable

#: Seconds of work that costs count as if they had been seen to be right.
_PRIOR = 10.0
#: A run counts as at most this many times slower or faster than the others: it may be a single one
#: whose cost is wrong, or whose worker had libraries to load. The second is for long runs, which
#: more probably tell of a machine that others use as well.
_MISFIT, _LARGEST_MISFIT = 3.0, 10.0
#: Seconds over which a changed estimate is taken up, and at most this share of what is left.
_SETTLING, _SETTLING_SHARE = 6.0, 0.1
#: A run that has taken longer than expected takes at least this share of that time again.
_OVERRUN = 0.2


class Speed:
    """By how much runs take longer here than their costs say."""

    def __init__(self) -> None:
        self._cost = self._seconds = _PRIOR

    def add(self, cost: float, seconds: float) -> None:
        """Learn from a run that has finished."""
        self._cost, self._seconds = self._with(self._cost, self._seconds, cost, seconds)

    def ratio(self, under_way: Iterable[tuple[float, float, float]] = ()) -> float:
        """Return seconds per second of cost.

        Runs that are under way are given as the share they say is done, their cost, and the seconds
        so far. One that says nothing tells something as soon as it takes longer than expected.
        """
        cost, seconds = self._cost, self._seconds
        for share, whole, so_far in under_way:
            if share > 0.0:
                cost, seconds = self._with(cost, seconds, share * whole, so_far)
            elif so_far * cost > whole * seconds:
                cost, seconds = self._with(cost, seconds, whole, so_far)
        return seconds / cost

    @staticmethod
    def _with(cost: float, seconds: float, more: float, took: float) -> tuple[float, float]:
        usual = more * seconds / cost
        misfit = min(max(_MISFIT, more), _LARGEST_MISFIT)
        took = min(max(took, usual / misfit), usual * misfit)
        return cost + more, seconds + took


def seconds_more(reported: float, cost: float, elapsed: float, ratio: float) -> float:
    """Return what a running run still takes, from the share it says is done or else its cost.

    Examples
    --------
    >>> seconds_more(0.75, 40.0, 5.0, 1.5), seconds_more(0.0, 40.0, 15.0, 1.5)
    (15.0, 45.0)
    >>> seconds_more(0.0, 1.0, 10.0, 1.0)
    2.0
    """
    if reported > 0.0:
        return (1.0 - reported) * cost * ratio
    return max(cost * ratio - elapsed, _OVERRUN * elapsed)


class SteadyClock:
    """An estimate of the time left that goes down with the time and takes up changes smoothly."""

    def __init__(self) -> None:
        self._shown: float | None = None
        self._at = 0.0

    def show(self, estimate: float, now: float) -> float:
        """Return what to show at the time `now`, in seconds, for the latest estimate."""
        if self._shown is None or estimate <= 0.0:
            shown = max(estimate, 0.0)
        else:
            passed = max(now - self._at, 0.0)
            expected = max(self._shown - passed, 0.0)
            settling = min(_SETTLING, _SETTLING_SHARE * estimate)
            shown = expected + (estimate - expected) * min(1.0, passed / settling)
        self._shown, self._at = shown, now
        return shown
