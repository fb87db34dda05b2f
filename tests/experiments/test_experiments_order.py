"""What `make reproduce` does first, in a simulation of the scale quick, and what it calls it."""

from pathlib import Path

import pytest

from trueboundary.cli.work import job_value, plan_jobs, run_names
from trueboundary.experiments import experiments
from trueboundary.runs import Group, collect

HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.fixture(scope="module")
def jobs():
    chosen = [e for e in experiments().values() if not e.on_request]
    return plan_jobs(chosen, "quick", seed=0, device="cpu")


def test_claims_are_decided_early_and_no_worker_waits(jobs, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)
    from simulated_machine import Simulation, shortest

    goals = [config for job in jobs for config in job.configs.values()]
    groups = [Group(tuple(job.configs.values()), job_value(job)) for job in jobs]
    done = Simulation(2).run(goals, tmp_path, monkeypatch, groups)
    decided = sorted(
        (max(done.stored_at[config.digest] for config in job.configs.values()), job_value(job))
        for job in jobs
        if job.configs
    )
    assert sum(value for moment, value in decided if moment <= 60.0) >= 10.0
    half = sum(value for moment, value in decided if moment <= done.now / 2)
    assert half >= 0.6 * sum(value for _, value in decided)
    assert done.now <= 1.1 * shortest(goals, 2)
    assert done.seen[0][1] == pytest.approx(done.now, rel=0.1), "the time left is told at once"


@pytest.mark.parametrize("scale", ["quick", "paper"])
def test_every_run_is_called_by_what_it_finds_out(scale):
    chosen = [e for e in experiments().values() if not e.on_request]
    jobs = plan_jobs(chosen, scale, seed=0, device="cpu")
    names = run_names(jobs)
    for job in jobs:
        for digest, config in collect(job.configs.values()).items():
            place, _, words = names[digest].partition(": ")
            assert place
            assert len(words) > 10
            assert config.kind not in config.in_words()
            assert words not in (config.kind, type(config).__name__)
            assert names[digest].isprintable()
