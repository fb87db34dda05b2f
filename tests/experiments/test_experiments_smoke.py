"""Every experiment runs from its plan to its figures and verdicts at the smallest scale."""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from trueboundary.experiments import Verdict, experiments, judge, read_claims
from trueboundary.experiments.base import SCALES, read_settings
from trueboundary.experiments.own_findings import read_findings
from trueboundary.runs import Run, Store, execute

IDS = list(experiments())
OWNERS: dict[str, str] = {}  # a figure's file name belongs to one experiment


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("smoke"))


def run_at_smoke(name: str, store: Store) -> Mapping[str, Run]:
    plan = experiments()[name].runs("smoke", seed=0, device="cpu")
    with ThreadPoolExecutor(1) as executor:
        failures = execute(plan.values(), store, executor)
    assert not failures, failures[0].traceback
    runs = {key: store.load(config) for key, config in plan.items()}
    assert all(run is not None for run in runs.values())
    return {key: run for key, run in runs.items() if run is not None}


@pytest.mark.parametrize("name", IDS)
def test_experiment_runs_and_explains_itself(name: str, store: Store) -> None:
    experiment = experiments()[name]
    analysis = experiment.analyse(run_at_smoke(name, store), experiment.settings("smoke"))
    assert analysis.panels
    for panel in analysis.panels:
        assert OWNERS.setdefault(panel.name, name) == name
        figure = panel.draw()
        assert figure.axes
        assert any(axes.get_xlabel() or axes.get_ylabel() for axes in figure.axes)
        assert panel.caption
        assert len(panel.data) > 0
    known = {claim.id: claim for claim in read_claims(experiment.paper)}
    findings = {finding.id: finding for finding in read_findings(experiment.paper)}
    assert not set(findings) & set(known)
    for claim_id, measurement in analysis.measurements.items():
        if claim_id in findings:
            assert findings[claim_id].experiment == name
            assert not math.isnan(measurement.number)
            continue
        claim = known[claim_id]
        assert claim.experiment == name
        verdict = judge(claim, measurement, experiment.settings("smoke")).verdict
        assert isinstance(verdict, Verdict)
        if claim.value is not None:
            assert not math.isnan(measurement.number)


def test_a_small_trade_off_has_brackets_around_the_attack(store: Store) -> None:
    experiment = experiments()["truth-tradeoff"]
    runs = run_at_smoke(experiment.id, store)  # what is there already is not computed again
    ends = [run.arrays for name, run in runs.items() if name.endswith("/distance")]
    assert ends
    for found in ends:
        assert (found["certified"] <= found["attacked"]).all()
    analysis = experiment.analyse(runs, experiment.settings("smoke"))
    assert analysis.remarks
    assert "rained quadratic network" in analysis.measurements["T1"].note


@pytest.mark.parametrize("name", IDS)
def test_plan_exists_at_every_scale_and_has_a_cost(name: str) -> None:
    experiment = experiments()[name]
    for scale in SCALES:
        plan = experiment.runs(scale, seed=1)
        assert plan
        assert experiment.cost(scale) > 0
        assert all(config.describe()["kind"] == config.kind for config in plan.values())


def test_seeds_change_the_runs_that_draw() -> None:
    for experiment in experiments().values():
        first = {c.digest for c in experiment.runs("smoke", seed=0).values()}
        second = {c.digest for c in experiment.runs("smoke", seed=1).values()}
        assert first != second or experiment.id == "spheres-fraction"  # which draws nothing


@pytest.mark.parametrize("paper", sorted({e.paper for e in experiments().values()}))
def test_every_claim_belongs_to_an_experiment_and_to_its_settings(paper: str) -> None:
    for claim in read_claims(paper):
        assert claim.experiment in experiments(), claim.id
        stated = {setting.name for setting in read_settings(claim.experiment)}
        assert set(claim.depends_on) <= stated, claim.id
    for finding in read_findings(paper):
        assert finding.experiment in experiments(), finding.id
