"""The report's page: one HTML text with everything inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from trueboundary import __version__, plain_text
from trueboundary.experiments.base import read_settings
from trueboundary.experiments.claims import Verdict
from trueboundary.experiments.papers import title as paper_title
from trueboundary.report import words
from trueboundary.report.collect import Material
from trueboundary.report.figure_files import Picture
from trueboundary.report.summary import summary, verdict_counts
from trueboundary.runs import SCALES, Plan

#: A word and a sign for each verdict: colour alone tells too few readers.
_MARKS = {
    Verdict.REPRODUCED: ("reproduced", "✓"),
    Verdict.DIFFERS: ("differs", "✗"),
    Verdict.INCONCLUSIVE: ("open", "?"),
    Verdict.NOT_AT_THIS_SCALE: ("scale", "~"),
    Verdict.NO_DATA: ("nodata", "–"),
}


def render_page(material: Material, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """Return the report as HTML that needs no other file, with the figures of each experiment."""
    papers = list(dict.fromkeys(section.experiment.paper for section in material.sections))
    plans = material.plans
    return _template().render(
        title=" · ".join(paper_title(paper).split(" (")[0] for paper in papers) or "Nothing",
        version=__version__,
        papers=[paper_title(paper) for paper in papers],
        scales=_distinct(plan.scale for plan in plans),
        seeds=_distinct(plan.seed for plan in plans),
        devices=_distinct(plan.device for plan in plans),
        versions=_versions(material),
        summary=summary(material),
        counts=verdict_counts(material.judged),
        marks=_MARKS,
        material=material,
        pictures=pictures,
        reductions=[_reductions(plan) for plan in plans],
        scale_names=SCALES,
        words=words,
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    source = resources.files("trueboundary.report").joinpath("page.html.j2").read_text("utf-8")
    return environment.from_string(source)


def _visible(value: Any) -> Any:
    """Return words with what would steer a terminal as escapes: pages are looked at there, too."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return plain_text.printable_lines(value)


def _distinct(values: Any) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values))


def _versions(material: Material) -> str:
    """Return every combination of versions that some run was computed with."""
    seen: dict[str, None] = {}
    for run in material.runs.values():
        versions = {"python": run.info.get("python", "?"), **run.info.get("versions", {})}
        seen[", ".join(f"{name} {version}" for name, version in versions.items())] = None
    return "; ".join(seen) or "no run"


def _reductions(plan: Plan) -> dict[str, Any]:
    """Return an experiment's settings: at every scale, as used, and why they are reduced."""
    rows = [
        {
            "name": setting.name,
            "values": [words.setting(setting.values[scale]) for scale in SCALES],
            "used": words.setting(plan.settings.get(setting.name, "–")),
            "overridden": setting.name in plan.overrides,
            "reduced": setting.name in plan.settings
            and setting.is_reduced(plan.settings[setting.name]),
            "why": setting.why,
            "stated": setting.stated,
            "assumed": setting.assumed,
        }
        for setting in read_settings(plan.experiment)
    ]
    return {"id": plan.experiment, "rows": rows}
