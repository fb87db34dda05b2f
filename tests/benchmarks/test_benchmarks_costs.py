"""The script that holds estimated costs against measured times, and fits the rates of work."""

import importlib.util
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from trueboundary.experiments import experiments
from trueboundary.experiments.base import SCALES
from trueboundary.experiments.work_rates import RATES, Rates
from trueboundary.runs import collect

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "costs.py"
spec = importlib.util.spec_from_file_location("costs", SCRIPT)
costs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(costs)

RUNS = {digest: run for runs in costs.planned().values() for digest, run in runs.items()}


def store(folder, times):
    """Write as much of stored runs as the script reads."""
    for digest, seconds in times.items():
        file = folder / "runs" / digest / "run.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"digest": digest, "info": {"cpu_seconds": seconds}}))


@pytest.fixture
def rates():
    """Let a test change the rates, and put them back."""
    before = replace(RATES)
    yield RATES
    for name, rate in asdict(before).items():
        setattr(RATES, name, rate)


def test_a_cost_is_a_sum_of_work_times_rates() -> None:
    names, work = costs.amounts(list(RUNS.values()))
    found = work @ [getattr(RATES, name) for name in names]
    np.testing.assert_allclose(found, [run.cost() for run in RUNS.values()], rtol=1e-9)
    assert (work > -1e-6).all()


def test_every_rate_is_of_some_run() -> None:
    names, work = costs.amounts(list(RUNS.values()))
    assert [n for n, amount in zip(names, work.sum(axis=0), strict=True) if not amount > 0] == []


@pytest.mark.parametrize("scale", SCALES)
def test_every_run_has_a_cost_of_its_own(scale) -> None:
    kinds = {}
    for experiment in experiments().values():
        if not experiment.on_request:
            for run in collect(experiment.runs(scale).values()).values():
                kinds[run.kind] = type(run)
                assert 0 < run.cost() < 1e7
    assert [
        name for name, kind in kinds.items() if "RunConfig.cost" in kind.cost.__qualname__
    ] == []


def test_the_papers_scale_costs_more() -> None:
    for experiment in experiments().values():
        if not experiment.on_request:
            assert experiment.cost("smoke") <= experiment.cost("quick") <= experiment.cost("paper")


def test_the_fit_finds_the_rates_of_another_machine(tmp_path, rates) -> None:
    # A machine whose products are half as fast and whose overheads are 1.5 times as large.
    truth = replace(Rates(**asdict(rates)), product=2 * rates.product, run=1.5 * rates.run)
    names, work = costs.amounts(list(RUNS.values()))
    times = work @ [getattr(truth, name) for name in names]
    store(tmp_path, dict(zip(RUNS, times.tolist(), strict=True)))
    found = costs.fitted(tmp_path)
    assert found.product == pytest.approx(truth.product, rel=0.1)
    assert found.em == pytest.approx(truth.em, rel=0.1)
    for name, rate in asdict(found).items():
        setattr(rates, name, rate)
    for runs in costs.planned().values():
        n, cost, seconds, absent = costs.sums(runs, costs.measured(tmp_path))
        assert (n, absent) == (len(runs), 0)
        assert cost == pytest.approx(seconds, rel=0.2)


def test_the_comparison_shows_ratios_and_what_is_not_stored(tmp_path) -> None:
    planned = costs.planned()["spheres-caps"]
    digest = next(iter(planned))
    store(tmp_path, {digest: planned[digest].cost() * 2})
    lines = costs.comparison(tmp_path)
    row = next(line for line in lines if line.startswith("| spheres-caps "))
    assert [cell.strip() for cell in row.split("|")][2] == "1"
    assert " | 0.50 | 2 |" in row


def test_the_table_has_a_row_per_group_and_scale() -> None:
    lines = costs.table()
    assert len(lines) == 2 + len(costs.GROUPS) * len(costs.SCALES)
    assert len({line.count("|") for line in lines}) == 1
