"""What is told while runs go on: claims as they are decided, a growing report, the time left."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from trueboundary.cli.findings import findings
from trueboundary.cli.progress import SHOWN_RUNS, picture, show_progress
from trueboundary.cli.work import plan_jobs
from trueboundary.report.build import GrowingReport
from trueboundary.runs import Progress, RunConfig, Store, execute, write_plan


@dataclass(frozen=True)
class Numbered(RunConfig):
    number: int


HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)
    from fake_experiment import EXPERIMENT
    from register import register

    register(monkeypatch)
    return plan_jobs([EXPERIMENT], "quick", seed=0, device="cpu")


def terminal(width=80):
    return Console(width=width, force_terminal=True, color_system=None, record=True)


def compute(jobs, root):
    """Compute every run and return those that are analysed."""
    goals = [config for job in jobs for config in job.configs.values()]
    for job in jobs:
        write_plan(root, job.plan)
    with ThreadPoolExecutor(1) as executor:
        assert execute(goals, Store(root), executor) == []
    return goals


def test_claims_are_told_when_the_last_of_their_runs_is_stored(jobs, tmp_path):
    console = terminal()
    report = GrowingReport(tmp_path, plans=[job.plan for job in jobs])
    with findings(jobs, report, console) as found:
        configs = compute(jobs, tmp_path)
        for config in configs[:-1]:
            found.stored(config)
        assert console.export_text(clear=False) == ""
        assert not (tmp_path / "report").exists()
        found.stored(configs[-1])
    text = console.export_text(clear=False)
    assert "sums · Sums of powers" in text
    assert max(map(len, text.splitlines())) <= 80
    page = (tmp_path / "report" / "index.html").read_text()
    assert "The sum of inverse squares" in page, "the report is there before everything is done"
    rows = report.write(is_last=True).material.attempted
    found.tell_rest(rows)
    assert console.export_text(clear=False) == text, "nothing is told twice"


def test_what_was_not_decided_is_told_at_last(jobs, tmp_path):
    console = terminal()
    report = GrowingReport(tmp_path, plans=[job.plan for job in jobs])
    for job in jobs:
        write_plan(tmp_path, job.plan)
    with findings(jobs, report, console) as found:
        pass
    found.tell_rest(report.write(is_last=True).material.attempted)
    text = console.export_text()
    assert "T1  The sum of inverse squares" in text
    assert "no verdict                  its experiment gave no result" in text


def test_nothing_more_is_told_once_it_was_interrupted(jobs, tmp_path):
    report = GrowingReport(tmp_path, plans=[job.plan for job in jobs])
    with (
        pytest.raises(KeyboardInterrupt),
        findings(jobs, report, terminal()) as found,
    ):
        raise KeyboardInterrupt
    *others, last = compute(jobs, tmp_path)
    for config in others:
        found.stored(config)
    with pytest.raises(RuntimeError, match="shutdown"):
        found.stored(last)


def test_the_live_display_fits_eighty_columns():
    console = terminal()
    runs = tuple(Numbered(i) for i in range(SHOWN_RUNS + 3))
    words = "counting the errors of a network " * 4
    names = {run.digest: f"Section {run.number}: {words}" for run in runs}
    console.print(picture(Progress(runs, 3, 373, 0.125, 10.0, 754.2), names))
    console.print(picture(Progress(runs[:1], 372, 373, 0.999, 10.0, 0.3), names))
    console.print(picture(Progress((), 372, 373, 0.999, 10.0, 0.3), names))
    shown = console.export_text().splitlines()
    assert max(map(len, shown)) <= 80
    text = "\n".join(shown)
    assert "3 of 373 runs | 10 s so far | about 12 min 34 s left" in text
    assert "Section 3: counting the errors" in text
    assert f"Section {SHOWN_RUNS}: counting" not in text
    assert "and 3 more" in text
    assert "less than a second left" in text
    assert "waiting for a worker" in text


def test_lines_of_a_pipe_say_what_is_found_out(capsys):
    console = Console(force_terminal=False, width=120)
    with show_progress(console, {RunConfig().digest: "Fig. 1: drawing slices"}) as report:
        report(Progress((RunConfig(), RunConfig()), 0, 2, 0.0, 0.0, 65.0))
        report(Progress((), 1, 2, 0.5, 0.0, 65.0))
    said = capsys.readouterr().out
    assert said == "  0 %  0 of 2 runs | about 1 min 5 s left | 2 x Fig. 1: drawing slices\n"
