"""What is running and the time left: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

from trueboundary.plurals import plural
from trueboundary.report.words import duration
from trueboundary.runs import Progress

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 15.0


@contextmanager
def show_progress(
    console: Console, names: Mapping[str, str]
) -> Iterator[Callable[[Progress], None]]:
    """Show the state of the work while the block runs, calling runs by names for their digests."""
    if not console.is_terminal:
        yield _line_writer(console, names)
        return
    columns = (
        bars.TextColumn("[bold]{task.completed:3.0f} %"),
        bars.BarColumn(bar_width=30),
        bars.TextColumn("{task.fields[state]}"),
    )
    with bars.Progress(*columns, console=console, transient=True) as display:
        task = display.add_task("", total=100.0, state="starting the workers")

        def report(state: Progress) -> None:
            words = escape(_describe(state, names))
            display.update(task, completed=100.0 * state.fraction, state=words)

        yield report


def _line_writer(console: Console, names: Mapping[str, str]) -> Callable[[Progress], None]:
    last: list[tuple[float, tuple[str, ...]]] = [(float("-inf"), ())]

    def report(state: Progress) -> None:
        now, running = time.monotonic(), tuple(config.digest for config in state.running)
        moment, shown = last[0]
        # A change of what runs is worth a line sooner, yet a thousand tiny runs not one each.
        due = now - moment >= (LINE_INTERVAL if running == shown else LINE_INTERVAL / 5.0)
        if due and state.n_done < state.n_total:
            last[0] = (now, running)
            percent = f"{100.0 * state.fraction:3.0f} %"
            console.print(f"{percent}  {_describe(state, names)}", markup=False, highlight=False)

    return report


def _describe(state: Progress, names: Mapping[str, str]) -> str:
    parts = [f"{state.n_done} of {plural(state.n_total, 'run')}"]
    if state.running:
        left = state.seconds_left
        parts.append("estimating the time left" if left is None else f"{duration(left)} left")
        parts.append(", ".join(names.get(c.digest, c.kind) for c in state.running))
    return " | ".join(parts)
