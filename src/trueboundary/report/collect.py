"""Everything a report says, gathered from the stored runs and plans of one folder."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trueboundary.experiments.base import Analysis, Experiment, Measurement, read_settings
from trueboundary.experiments.claims import Claim, Judgement, judge, read_claims
from trueboundary.experiments.own_findings import Finding, read_findings
from trueboundary.experiments.printed_tables import PrintedTable, filled_tables
from trueboundary.experiments.provenance import find_misfit
from trueboundary.experiments.registry import experiments
from trueboundary.plain_text import printable
from trueboundary.report.words import count, measured_value, number, setting
from trueboundary.runs import (
    SCALES,
    DamagedPlanError,
    DamagedRunError,
    Plan,
    Run,
    Store,
    plan_files,
    read_plan,
    smaller_plans,
    strict_json,
    total_cost,
)


@dataclass(frozen=True)
class Section:
    """One experiment in a report.

    There is no plan where it cannot be read, and no analysis where a run is missing or the analysis
    itself failed: `problem` then says why in words, with the traceback behind it, if there is one,
    as `details`. The runs, by name, are those that are stored whole.
    """

    experiment: Experiment
    plan: Plan | None
    runs: Mapping[str, Run]
    analysis: Analysis | None
    problem: str = ""
    details: str = ""


@dataclass(frozen=True)
class ClaimRow:
    """A claim with its judgement, or with the reason why there is none.

    It is missing where its experiment gave no result, or was not run: `not_run` tells of one that
    is run on request alone, and nobody asked.
    """

    claim: Claim
    judgement: Judgement | None
    missing: str = ""
    not_run: bool = False


@dataclass(frozen=True)
class FindingRow:
    """A finding with what was measured about it, or with the reason why nothing was."""

    finding: Finding
    measurement: Measurement | None
    missing: str = ""


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
    unknown : sequence of str
        What lies among the plans and belongs to no experiment, one sentence each.
    """

    sections: Sequence[Section]
    rows: Sequence[ClaimRow]
    n_elsewhere: int
    unknown: Sequence[str] = ()

    @property
    def findings(self) -> list[FindingRow]:
        """What the experiments found beyond the papers, in the order of their files."""
        return [
            _finding_row(section, finding)
            for paper in self.papers
            for finding in read_findings(paper)
            for section in self.sections
            if section.experiment.id == finding.experiment
        ]

    def only(self, ids: Collection[str]) -> Material:
        """Return what there is about some experiments, as if the folder held nothing else."""
        left_out = _left_out(ids)
        return replace(
            self,
            sections=[section for section in self.sections if section.experiment.id in ids],
            rows=[
                row
                for row in self.rows
                if row.claim.experiment in ids or (row.not_run and row.claim.experiment in left_out)
            ],
            unknown=(),
        )

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
    def tables(self) -> list[PrintedTable]:
        """The tables that the papers print, with what was measured beside each row."""
        return [table for paper in self.papers for table in self.tables_of(paper)]

    def tables_of(self, paper: str) -> list[PrintedTable]:
        """Return the tables that one of the papers prints, with what was measured."""
        own = [section.analysis for section in self.sections if section.experiment.paper == paper]
        return filled_tables([paper], filter(None, own))

    @property
    def plans(self) -> list[Plan]:
        """The plans that could be read."""
        return [section.plan for section in self.sections if section.plan is not None]

    @property
    def runs(self) -> dict[str, Run]:
        """Every stored run behind the report, once each, by folder."""
        return {run.path.name: run for section in self.sections for run in section.runs.values()}

    @property
    def runs_by_experiment(self) -> dict[str, dict[str, str]]:
        """By experiment and folder, what its runs are called.

        A run that several read stands once, with the first, and behind its name those that the
        others give it.
        """
        owner: dict[str, str] = {}
        found: dict[str, dict[str, str]] = {}
        for section in self.sections:
            id = section.experiment.id
            for name, run in section.runs.items():
                folder = run.path.name
                if folder in owner:
                    own = owner[folder] == id
                    found[owner[folder]][folder] += f"; {name if own else f'{id}: {name}'}"
                else:
                    owner[folder] = id
                    found.setdefault(id, {})[folder] = name
        return found

    @property
    def seconds(self) -> float:
        """What all `runs` took, each once."""
        return sum(float(run.info.get("seconds", 0.0)) for run in self.runs.values())

    @property
    def papers(self) -> list[str]:
        """The papers of the sections, in order."""
        return list(dict.fromkeys(section.experiment.paper for section in self.sections))


def collect_material(
    root: Path, own: Iterable[Plan] = (), known: Mapping[str, Section] | None = None
) -> Material:
    """Read plans and runs under `root`, analyse them and judge the claims.

    What cannot be read costs the experiment that it belongs to, and no other.
    Plans of one's own count in place of those that are stored for the same experiments: the folder
    may by now hold another command's. Sections that are `known`, by experiment, are taken as they
    are.
    """
    known = {} if known is None else known
    plans: dict[str, Plan | DamagedPlanError] = {}
    for id, file in plan_files(root).items():
        try:
            plans[id] = read_plan(file)
        except DamagedPlanError as damage:
            plans[id] = damage
    plans |= {plan.experiment: plan for plan in own}
    store = Store(root)
    sections = [
        known[id] if id in known else _section(store, experiment, plans[id])
        for id, experiment in experiments().items()
        if id in plans
    ]
    unknown = [
        f"plans/{id}.json belongs to no experiment of this version and is left out"
        for id in map(printable, sorted(plans.keys() - experiments().keys()))
    ]
    by_id = {section.experiment.id: section for section in sections}
    claims = read_claims_of(section.experiment.paper for section in sections)
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
    return Material(list(by_id.values()), rows, len(claims) - len(rows), unknown)


def rows_by_scale(root: Path, material: Material) -> dict[str, list[ClaimRow]]:
    """Return the claims that `root` has results about at scale quick and at scale paper.

    Parameters
    ----------
    root : pathlib.Path
        A folder of results, in which an experiment may have been run at both; see
        `trueboundary.runs.ship`.
    material : Material
        What `collect_material` read there.
    """
    by_scale: dict[str, list[ClaimRow]] = {}
    for scale in SCALES[1:]:
        plans = {plan.experiment for plan in material.plans if plan.scale == scale}
        rows = [row for row in material.attempted if row.claim.experiment in plans]
        for plan in smaller_plans(root, scale).values():
            if plan.experiment in experiments():
                rows += judge_plan(root, plan)[1]
        by_scale[scale] = rows
    return by_scale


def _left_out(asked: Collection[str]) -> dict[str, str]:
    """Return what only a request starts and nobody requested, of papers run whole; with reasons."""
    by_paper: dict[str, list[Experiment]] = {}
    for experiment in experiments().values():
        by_paper.setdefault(experiment.paper, []).append(experiment)
    return {
        experiment.id: experiment.on_request
        for group in by_paper.values()
        if all(experiment.on_request or experiment.id in asked for experiment in group)
        for experiment in group
        if experiment.on_request and experiment.id not in asked
    }


def _section(store: Store, experiment: Experiment, plan: Plan | DamagedPlanError) -> Section:
    if isinstance(plan, DamagedPlanError):
        return Section(experiment, None, {}, None, f"{printable(str(plan))}.")
    runs: dict[str, Run] = {}
    problem, details = "", ""
    for name, folder in plan.runs.items():
        path = store.root / "runs" / folder
        try:
            if path.exists():
                runs[name] = store.read(path, with_models=False)
                continue
            problem, details = _why_missing(store, name, folder)
        except DamagedRunError as error:
            why = printable(str(error))
            problem = f"The stored run {name!r} is damaged ({why}); running again replaces it."
    if problem:
        return Section(experiment, plan, runs, None, problem, details)
    try:
        if not plan.runs and experiment.brought_data(plan.settings):
            return Section(experiment, plan, runs, _analysis_without_data(experiment))
        if misfit := find_misfit(experiment, plan, runs):
            problem = f"Its plan is not that of its runs: {printable(misfit)}; run it again."
            return Section(experiment, plan, runs, None, problem)
        analysis = experiment.analyse(runs, plan.settings)
        _say(analysis)
    except Exception as error:  # a report must come out whatever one of its experiments does
        why = printable(f"{type(error).__name__}: {error}")
        problem = f"Its results could not be analysed: {why}"
        return Section(experiment, plan, runs, None, problem, traceback.format_exc())
    return Section(experiment, plan, runs, analysis)


def _say(analysis: Analysis) -> None:
    """Put every measurement into the words of the page, so that what has none is found here."""
    for measurement in analysis.measurements.values():
        measured_value(measurement)
        count(measurement)
        number(0.0 if measurement.exact is None else measurement.exact)
        strict_json.dumps(asdict(measurement))
        for row in measurement.cells:
            for cell in row.values():
                setting(cell)


def _analysis_without_data(experiment: Experiment) -> Analysis:
    asked: list[Claim | Finding] = [
        *read_claims_of([experiment.paper]),
        *read_findings(experiment.paper),
    ]
    claims = [one.id for one in asked if one.experiment == experiment.id]
    remark = "The images that this experiment needs were not on this machine, so nothing was run."
    return Analysis(remarks=[remark], without_data=claims)


def _why_missing(store: Store, name: str, folder: str) -> tuple[str, str]:
    text = store.read_failure(folder)
    if text is not None:
        first = printable(text.strip().partition("\n")[0]) or "without a word"
        happened = "was" if first.startswith("not started") else "failed:"
        return f"Its run {name!r} {happened} {first}", text
    return f"Its run {name!r} has not finished; running again goes on with it.", ""


def read_claims_of(papers: Iterable[str]) -> list[Claim]:
    """Return the claims of some papers, one after the other."""
    claims: list[Claim] = []
    for paper in dict.fromkeys(papers):
        claims += read_claims(paper)
    return claims


def judge_plan(root: Path, plan: Plan) -> tuple[Section, list[ClaimRow]]:
    """Read the runs of one plan under `root`, analyse them, and judge its claims."""
    section = _section(Store(root), experiments()[plan.experiment], plan)
    rows = []
    for claim in read_claims_of([section.experiment.paper]):
        if claim.experiment == plan.experiment:
            section, row = _row(section, claim)
            rows.append(row)
    return section, rows


def unfinished(plan: Plan) -> Section:
    """Return what stands for an experiment while its runs go on."""
    experiment = experiments()[plan.experiment]
    return Section(experiment, plan, {}, None, "Its runs have not all finished yet.")


def _row(section: Section, claim: Claim) -> tuple[Section, ClaimRow]:
    if section.analysis is None or section.plan is None:
        return section, ClaimRow(claim, None, "its experiment gave no result")
    measurement = section.analysis.measurements.get(claim.id)
    lacks_data = claim.id in section.analysis.without_data
    try:
        judgement = judge(
            claim,
            measurement,
            section.plan.settings,
            lacks_data=lacks_data,
            conditions=section.analysis.conditions,
        )
        hours = _hours_needed(section.experiment, section.plan, judgement)
        return section, ClaimRow(claim, replace(judgement, hours_needed=hours))
    except (ValueError, TypeError, OverflowError) as error:
        problem = f"Its measurement of claim {claim.id} cannot be judged: {printable(str(error))}"
        broken = Section(section.experiment, section.plan, section.runs, None, problem)
        return broken, ClaimRow(claim, None, "its measurement cannot be judged")


def _finding_row(section: Section, finding: Finding) -> FindingRow:
    if section.analysis is None:
        return FindingRow(finding, None, "its experiment gave no result")
    found = section.analysis.measurements.get(finding.id)
    if found is not None:
        return FindingRow(finding, found)
    if finding.id in section.analysis.without_data:
        return FindingRow(finding, None, "the data are not here")
    return FindingRow(finding, None, "these runs do not show it")


def _hours_needed(experiment: Experiment, plan: Plan, judgement: Judgement) -> float | None:
    """Return what the n that would decide costs on one core, where one setting is that n."""
    n, measurement = judgement.n_needed, judgement.measurement
    if n is None or measurement is None:
        return None
    amounts = [s.name for s in read_settings(experiment.id) if s.is_amount and s.name != "n_seeds"]
    of_networks = measurement.interval_of == "networks"
    names = [
        name
        for name in (["n_seeds"] if of_networks else amounts)
        if plan.settings.get(name) == measurement.n
    ]
    if len(names) != 1 or (of_networks and n > _MOST_PLANNED):
        return None
    try:
        runs = experiment.plan({**plan.settings, names[0]: n}, plan.seed, plan.device)
        return total_cost(runs.values()) / 3600
    except Exception:  # settings that no plan can have; the verdict stands all the same
        return None


#: A plan of more networks than this takes too long to make.
_MOST_PLANNED = 200
