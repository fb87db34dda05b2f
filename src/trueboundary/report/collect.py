"""Everything a report says, gathered from the stored runs and plans of one folder."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trueboundary.experiments.base import Analysis, Experiment
from trueboundary.experiments.claims import Claim, Judgement, judge, read_claims
from trueboundary.experiments.registry import experiments
from trueboundary.runs import DamagedRunError, Plan, Run, Store, read_plans


@dataclass(frozen=True)
class Section:
    """One experiment in a report.

    Parameters
    ----------
    experiment : Experiment
        What it asks.
    plan : Plan
        What was run for it.
    runs : mapping of str to Run
        Those of its runs that are stored whole.
    analysis : Analysis or None
        None where a run is missing or the analysis itself failed.
    problem : str
        Why there is no analysis, in words.
    details : str
        The traceback behind the problem, if there is one.
    """

    experiment: Experiment
    plan: Plan
    runs: Mapping[str, Run]
    analysis: Analysis | None
    problem: str = ""
    details: str = ""


@dataclass(frozen=True)
class ClaimRow:
    """A claim with its judgement, or with the reason why there is none.

    Parameters
    ----------
    claim : Claim
        The claim.
    judgement : Judgement or None
        None where its experiment gave no result, or was not run.
    missing : str
        Why there is no judgement.
    not_run : bool
        Whether the experiment is one that is run on request alone, and nobody asked.
    """

    claim: Claim
    judgement: Judgement | None
    missing: str = ""
    not_run: bool = False


@dataclass(frozen=True)
class Material:
    """What a report is made of.

    Parameters
    ----------
    sections : sequence of Section
        One per experiment that was asked for, in the papers' order.
    rows : sequence of ClaimRow
        The claims of those experiments, in the papers' order. In a report of all experiments that
        a paper has, claims about images that its reader would have to bring are there as well, and
        say that they were not run.
    n_elsewhere : int
        Number of claims of the same papers whose experiments were not asked for.
    """

    sections: Sequence[Section]
    rows: Sequence[ClaimRow]
    n_elsewhere: int

    @property
    def attempted(self) -> list[ClaimRow]:
        """The claims whose experiments were run."""
        return [row for row in self.rows if not row.not_run]

    @property
    def not_run(self) -> dict[str, int]:
        """Numbers of claims that were not run, by the reason."""
        return dict(Counter(row.missing for row in self.rows if row.not_run))

    @property
    def judged(self) -> list[Judgement]:
        """The judgements there are."""
        return [row.judgement for row in self.rows if row.judgement is not None]

    @property
    def problems(self) -> list[Section]:
        """The experiments without an analysis."""
        return [section for section in self.sections if section.analysis is None]

    @property
    def runs(self) -> dict[str, Run]:
        """Every stored run behind the report, once each, by folder."""
        return {run.path.name: run for section in self.sections for run in section.runs.values()}


def collect_material(root: Path) -> Material:
    """Read plans and runs under `root`, analyse them and judge the claims.

    Raises
    ------
    DamagedPlanError
        If a plan file cannot be read.
    """
    plans = read_plans(root)
    store = Store(root)
    sections = [
        _section(store, experiment, plans[id])
        for id, experiment in experiments().items()
        if id in plans
    ]
    by_id = {section.experiment.id: section for section in sections}
    claims = _claims(section.experiment.paper for section in sections)
    left_out = _left_out(plans)
    rows = []
    for claim in claims:
        if claim.experiment in by_id:
            by_id[claim.experiment], row = _row(by_id[claim.experiment], claim)
            rows.append(row)
        elif claim.experiment in left_out:
            why = left_out[claim.experiment]
            reason = f"not run here: {claim.experiment} is run on request alone; {why}"
            rows.append(ClaimRow(claim, None, reason, not_run=True))
    return Material(list(by_id.values()), rows, len(claims) - len(rows))


def _left_out(plans: Mapping[str, Plan]) -> dict[str, str]:
    """Return what only a request starts and nobody requested, of papers run whole; with reasons."""
    by_paper: dict[str, list[Experiment]] = {}
    for experiment in experiments().values():
        by_paper.setdefault(experiment.paper, []).append(experiment)
    return {
        experiment.id: experiment.on_request
        for group in by_paper.values()
        if all(experiment.on_request or experiment.id in plans for experiment in group)
        for experiment in group
        if experiment.on_request and experiment.id not in plans
    }


def _section(store: Store, experiment: Experiment, plan: Plan) -> Section:
    runs: dict[str, Run] = {}
    problem, details = "", ""
    for name, folder in plan.runs.items():
        path = store.root / "runs" / folder
        try:
            if path.exists():
                runs[name] = store.read(path)
                continue
            problem, details = _why_missing(store, name, folder)
        except DamagedRunError as error:
            problem = f"The stored run {name!r} is damaged ({error}); running again replaces it."
    if problem:
        return Section(experiment, plan, runs, None, problem, details)
    if not plan.runs:  # a plan is empty only where the data to run it on were missing
        return Section(experiment, plan, runs, _analysis_without_data(experiment))
    try:
        analysis = experiment.analyse(runs, plan.settings)
    except Exception as error:  # a report must come out whatever one of its experiments does
        problem = f"Its results could not be analysed: {type(error).__name__}: {error}"
        return Section(experiment, plan, runs, None, problem, traceback.format_exc())
    return Section(experiment, plan, runs, analysis)


def _analysis_without_data(experiment: Experiment) -> Analysis:
    claims = [c.id for c in _claims([experiment.paper]) if c.experiment == experiment.id]
    remark = "The images that this experiment needs were not on this machine, so nothing was run."
    return Analysis(remarks=[remark], without_data=claims)


def _why_missing(store: Store, name: str, folder: str) -> tuple[str, str]:
    failure = store.failure(folder)
    if failure.exists():
        text = failure.read_text(encoding="utf-8")
        first = text.partition("\n")[0]
        happened = "was" if first.startswith("not started") else "failed:"
        return f"Its run {name!r} {happened} {first}", text
    return f"Its run {name!r} has not finished; running again goes on with it.", ""


def _claims(papers: Iterable[str]) -> list[Claim]:
    claims: list[Claim] = []
    for paper in dict.fromkeys(papers):
        with suppress(FileNotFoundError):  # experiments of our own may judge no paper
            claims += read_claims(paper)
    return claims


def _row(section: Section, claim: Claim) -> tuple[Section, ClaimRow]:
    if section.analysis is None:
        return section, ClaimRow(claim, None, "its experiment gave no result")
    measurement = section.analysis.measurements.get(claim.id)
    lacks_data = claim.id in section.analysis.without_data
    try:
        judgement = judge(
            claim,
            measurement,
            section.plan.settings,
            lacks_data=lacks_data,
            reductions=section.analysis.reductions,
        )
        return section, ClaimRow(claim, judgement)
    except ValueError as error:
        problem = f"Its measurement of claim {claim.id} cannot be judged: {error}"
        broken = Section(section.experiment, section.plan, section.runs, None, problem)
        return broken, ClaimRow(claim, None, "its measurement cannot be judged")
