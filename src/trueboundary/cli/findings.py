"""What is found out while runs finish: claims on the terminal, and a report that grows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from trueboundary.cli.terminal_tables import ClaimsTable
from trueboundary.runs import RunConfig

if TYPE_CHECKING:
    from rich.console import Console

    from trueboundary.cli.work import Job
    from trueboundary.report.build import GrowingReport
    from trueboundary.report.collect import ClaimRow

#: Seconds between two times that the report is written while runs go on.
REPORT_INTERVAL = 30.0


class Findings:
    """Tells every experiment's claims as soon as its runs are there, and lets the report grow.

    Analysing and drawing go on in a thread of their own, so that workers get their next runs
    meanwhile.
    """

    def __init__(self, jobs: Sequence[Job], report: GrowingReport, console: Console) -> None:
        self._report, self._table = report, ClaimsTable(console)
        self._lacking: dict[str, set[str]] = {}
        self._wanted_by: dict[str, list[str]] = {}
        for job in jobs:
            digests = {config.digest for config in job.configs.values()}
            self._lacking[job.plan.experiment] = digests
            for digest in digests:
                self._wanted_by.setdefault(digest, []).append(job.plan.experiment)
        self._told: set[str] = set()
        self._written = time.monotonic() - REPORT_INTERVAL
        self._titles = {job.experiment.id: job.experiment.title for job in jobs}
        self._thread = ThreadPoolExecutor(1)

    def stored(self, config: RunConfig) -> None:
        """Take note of a run that is stored, and tell what that decides."""
        digest = config.digest
        for id in self._wanted_by.get(digest, ()):
            self._lacking[id].discard(digest)
            if not self._lacking[id]:
                self._thread.submit(self._tell, id)

    def tell_rest(self, rows: Sequence[ClaimRow]) -> None:
        """Show the claims that have not been told, for instance since a run of theirs failed."""
        rest: dict[str, list[ClaimRow]] = {}
        for row in rows:
            if row.claim.id not in self._told:
                rest.setdefault(row.claim.experiment, []).append(row)
        for id, some in rest.items():
            self._show(id, some)

    def close(self, *, at_once: bool) -> None:
        """End when everything is told, or as soon as may be."""
        self._thread.shutdown(wait=True, cancel_futures=at_once)

    def _tell(self, id: str) -> None:
        self._show(id, self._report.add(id))
        # Whatever goes wrong with writing is said at the end, when it is written for good.
        if time.monotonic() - self._written >= REPORT_INTERVAL:
            with suppress(OSError):
                self._report.write()
            self._written = time.monotonic()

    def _show(self, id: str, rows: Sequence[ClaimRow]) -> None:
        self._told |= {row.claim.id for row in rows}
        if rows:
            self._table.add(f"{id} · {self._titles[id]}", rows)


@contextmanager
def findings(jobs: Sequence[Job], report: GrowingReport, console: Console) -> Iterator[Findings]:
    """Tell what is found out while the block runs, and the last of it when it ends well."""
    found = Findings(jobs, report, console)
    try:
        yield found
    except BaseException:
        found.close(at_once=True)
        raise
    found.close(at_once=False)
