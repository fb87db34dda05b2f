"""How far a piece of work is: whoever asks with ``progress=True`` gets a bar on standard error.

Whoever gives a callable instead is told as that function says; without either nothing is shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from trueboundary.plain_text import printable
from trueboundary.plurals import duration

__all__ = ["Bar", "bar_of_steps", "shown_progress"]

_Told = TypeVar("_Told", bound=Callable[..., None])

_CELLS = 20
_COLUMNS = 79  # a bar that wraps could not be drawn over
_PAUSE = 0.1  # seconds between two drawings: work of many short steps is not to wait for them


class Bar:
    """One line on standard error, drawn over again.

    Examples
    --------
    >>> import contextlib, io
    >>> with contextlib.redirect_stderr(io.StringIO()) as shown:
    ...     bar = Bar()
    ...     bar.update(0.5, "sampling")
    ...     bar.close()
    >>> shown.getvalue().strip()
    '50 % [##########..........] < 1 s so far | sampling'
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._drawn = -_PAUSE
        self._shown = ""

    def update(self, fraction: float, what: str = "") -> None:
        """Draw how much is done and what is going on, if the last drawing is not too recent."""
        elapsed = time.monotonic() - self._begun
        if fraction < 1.0 and elapsed - self._drawn < _PAUSE:
            return
        self._drawn = elapsed
        filled = "#" * int(_CELLS * min(max(fraction, 0.0), 1.0))
        line = f"{fraction:4.0%}"[:-1] + f" % [{filled:.<{_CELLS}}] {duration(elapsed)} so far"
        if 0.1 <= fraction < 1.0 and elapsed >= 1.0:  # before that it is too early to tell
            line += f", about {duration(elapsed * (1.0 - fraction) / fraction)} left"
        if what:
            line += f" | {printable(what)}"
        line = line[:_COLUMNS]
        if line != self._shown:
            sys.stderr.write(f"\r{line:<{len(self._shown)}}")
            sys.stderr.flush()
            self._shown = line

    def close(self) -> None:
        """End the line, if there is one."""
        if self._shown:
            sys.stderr.write("\n")
            self._shown = ""


def bar_of_steps(bar: Bar) -> Callable[[str, float], None]:
    """Return ``progress(what, fraction)`` that draws a bar."""
    return lambda what, fraction: bar.update(fraction, what)


@contextmanager
def shown_progress(
    progress: bool | _Told | None, on_bar: Callable[[Bar], _Told]
) -> Iterator[_Told]:
    """Yield what is to be told of the progress while the block runs.

    Parameters
    ----------
    progress : bool, callable or None
        As a public function got it.
    on_bar : callable
        ``on_bar(bar)`` gives what draws the bar where `progress` is True.

    Raises
    ------
    TypeError
        If `progress` is something else.
    """
    if progress is None or progress is False:
        yield cast("_Told", _silent)
    elif progress is True:
        bar = Bar()
        try:
            yield on_bar(bar)
            bar.update(1.0)
        finally:
            bar.close()
    elif callable(progress):
        yield progress
    else:
        raise TypeError(
            f"expected progress to be True or a callable, got {type(progress).__name__}; "
            "progress=True shows a bar."
        )


def _silent(*told: object) -> None:
    """Show nothing."""
