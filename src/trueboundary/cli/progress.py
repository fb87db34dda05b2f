"""What is running and the time left: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trueboundary.plain_text import printable
from trueboundary.plurals import plural
from trueboundary.report.words import duration
from trueboundary.runs import Progress

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 15.0

#: What is named at a time, at most.
SHOWN_RUNS = 8


@contextmanager
def show_progress(
    console: Console, names: Mapping[str, str]
) -> Iterator[Callable[[Progress], None]]:
    """Show the state of the work while the block runs, calling runs by names for their digests."""
    if not console.is_terminal:
        yield _line_writer(console, names)
        return
    with Live(console=console, transient=True, auto_refresh=False) as display:

        def report(state: Progress) -> None:
            display.update(picture(state, names), refresh=True)

        display.update(Text("starting the workers"), refresh=True)
        yield report


@contextmanager
def show_steps(
    console: Console, *, quiet: bool = False
) -> Iterator[tuple[Callable[[str, float], None], Callable[[str], None]]]:
    """Show the steps of one piece of work while the block runs, and what it tells meanwhile.

    Nothing of it is shown where that is to be `quiet`.

    Yields
    ------
    tuple of callables
        ``progress(what, fraction)``, and ``tell(line)`` for what stays to be read.
    """
    if quiet:
        yield (lambda what, fraction: None), (lambda line: None)
        return
    started = time.monotonic()

    def tell(line: str) -> None:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    if not console.is_terminal:
        last: list[tuple[float, str]] = [(float("-inf"), "")]

        def write(what: str, fraction: float) -> None:
            now, (moment, before) = time.monotonic(), last[0]
            step = what.partition(":")[0]
            if step == before and now - moment < LINE_INTERVAL:
                return
            last[0] = (now, step)
            tell(f"{100.0 * fraction:3.0f} %  {what} | {_times(now - started, fraction)}")

        yield write, tell
        return
    with Live(console=console, transient=True, auto_refresh=False) as display:

        def draw(what: str, fraction: float) -> None:
            line = Table.grid(padding=(0, 2, 0, 0))
            bar = ProgressBar(total=1.0, completed=fraction, width=24)
            times = _times(time.monotonic() - started, fraction)
            line.add_row(Text(f"{100.0 * fraction:3.0f} %", style="bold"), bar, Text(times))
            below = Text(f"  {what}", no_wrap=True, overflow="ellipsis", style="dim")
            display.update(Group(line, below), refresh=True)

        yield draw, tell


def _times(elapsed: float, fraction: float) -> str:
    """Return the time so far and what is expected to be left, at the same pace."""
    so_far = f"{duration(elapsed)} so far"
    if fraction >= 1.0:
        return so_far
    if fraction < 0.1:
        return f"{so_far}, too early to tell what is left"
    left = elapsed * (1.0 - fraction) / fraction
    return f"{so_far}, {_left(left)}"


def picture(state: Progress, names: Mapping[str, str]) -> Group:
    """Return a bar, and below it a line for each of some runs that are going on."""
    head = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=1.0, completed=state.fraction, width=14)
    head.add_row(Text(f"{100.0 * state.fraction:3.0f} %", style="bold"), bar, _describe(state))
    texts = _going_on(state, names)
    if len(texts) > SHOWN_RUNS:
        texts = [*texts[:SHOWN_RUNS], f"and {len(texts) - SHOWN_RUNS} more"]
    lines = [Text(f"  {text}", no_wrap=True, overflow="ellipsis", style="dim") for text in texts]
    return Group(head, *lines)


def _going_on(state: Progress, names: Mapping[str, str]) -> list[str]:
    """Return what is going on, and how often where that is more than once."""
    counts = Counter(names.get(config.digest, config.kind) for config in state.running)
    return [f"{n} x {text}" if n > 1 else text for text, n in counts.items()]


def _line_writer(console: Console, names: Mapping[str, str]) -> Callable[[Progress], None]:
    last: list[tuple[float, tuple[str, ...]]] = [(float("-inf"), ())]

    def report(state: Progress) -> None:
        now, running = time.monotonic(), tuple(config.digest for config in state.running)
        moment, shown = last[0]
        # A change of what runs is worth a line sooner, yet a thousand tiny runs not one each.
        due = now - moment >= (LINE_INTERVAL if running == shown else LINE_INTERVAL / 5.0)
        if due and state.running:
            last[0] = (now, running)
            percent = f"{100.0 * state.fraction:3.0f} %"
            line = f"{percent}  {_describe(state)} | {', '.join(_going_on(state, names))}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return report


def _describe(state: Progress) -> str:
    left = _left(state.seconds_left)
    if not state.running and state.n_done < state.n_total:
        left = "waiting for a worker"
    so_far = f"{duration(state.elapsed)} so far | " if state.elapsed >= 1.0 else ""
    return f"{state.n_done:,} of {plural(state.n_total, 'run')} | {so_far}{left}"


def _left(seconds: float) -> str:
    return f"about {duration(seconds)} left" if seconds >= 1.0 else "less than a second left"
