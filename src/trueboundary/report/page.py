"""The report's page: one HTML text with everything inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from operator import attrgetter
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from trueboundary import __version__, plain_text
from trueboundary.experiments.base import read_settings
from trueboundary.experiments.claims import Verdict
from trueboundary.experiments.papers import title as paper_title
from trueboundary.report import words
from trueboundary.report.attacked_views import MAGNIFICATION, attacked_views
from trueboundary.report.collect import Material
from trueboundary.report.figure_files import Picture
from trueboundary.report.summary import cost_in_words, sentences, summary, verdict_counts
from trueboundary.runs import SCALES, Plan

#: What the page can do besides being read, in the order in which it is loaded.
_SCRIPTS = ("filters.js", "viewer.js", "explorer.js")

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
    papers = {paper: paper_title(paper) for paper in material.papers}
    places = {row.claim.id: f"claim-{row.claim.id}" for row in material.rows}
    places |= {row.finding.id: f"finding-{row.finding.id}" for row in material.findings}
    plans = material.plans
    return _template().render(
        title=" · ".join(title.split(" (")[0] for title in papers.values()) or "Nothing",
        version=__version__,
        css=Markup(_read("page.css")),
        scripts=Markup("".join(_read(name) for name in _SCRIPTS)),
        papers=papers,
        places=places,
        scales=_distinct(plan.scale for plan in plans),
        seeds=_distinct(plan.seed for plan in plans),
        devices=_distinct(plan.device for plan in plans),
        versions=_versions(material),
        sentences=sentences(material),
        summary=summary(material),
        cost=cost_in_words(material),
        views=attacked_views(material),
        magnification=MAGNIFICATION,
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
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["groupby_in_order"] = _group_in_order
    return environment.get_template("page.html.j2")


def _read(name: str) -> str:
    return resources.files("trueboundary.report").joinpath(name).read_text("utf-8")


def _group_in_order(rows: Iterable[Any], name: str) -> list[list[Any]]:
    """Return rows in groups of one value of an attribute, in order of first appearance."""
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(attrgetter(name)(row), []).append(row)
    return list(groups.values())


def _visible(value: Any) -> Any:
    """Return words with what would steer a terminal as escapes: pages are looked at there, too.

    A number stays on one line with its power of ten.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return plain_text.printable_lines(value).replace(" × 10^", "\u00a0×\u00a010^")


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
