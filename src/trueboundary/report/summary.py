"""What the claims came to, in sentences that are computed from what was measured."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from trueboundary.experiments.base import Measurement
from trueboundary.experiments.claims import Judgement, Verdict
from trueboundary.report.collect import ClaimRow, Material
from trueboundary.report.words import duration, measured_value, plural

#: A claim or finding in a sentence: its id in braces, a factor and a format where they are given.
_VALUE = re.compile(r"\{([^}*:]+)(?:\*([^}:]+))?(?::([^}]+))?\}")


@dataclass(frozen=True)
class Sentence:
    """A sentence about what was measured.

    Parameters
    ----------
    parts : sequence of tuple of str
        Its words, in order; those that are a measured value come with the id of the claim or
        finding, other words with an empty one.
    judgements : sequence of Judgement
        Of the claims that it is about.
    measurements : sequence of Measurement
        What was measured, in the order of the words.
    """

    parts: Sequence[tuple[str, str]]
    judgements: Sequence[Judgement]
    measurements: Sequence[Measurement]

    def __str__(self) -> str:
        return "".join(words for words, _ in self.parts)


def sentences(material: Material, *, intervals: bool = False) -> list[Sentence]:
    """Return what is true in sentences for readers of the papers, as far as it was measured.

    Intervals stand behind the values only if asked for: they are in the tables of a page.
    """
    judgements = {judgement.claim.id: judgement for judgement in material.judged}
    measured = {id: judgement.measurement for id, judgement in judgements.items()}
    measured |= {row.finding.id: row.measurement for row in material.findings}
    known = {
        id: found for id, found in measured.items() if found is not None and found.value is not None
    }
    told = []
    for text, beside in read_templates():
        values = list(_VALUE.finditer(text))
        ids = [value[1] for value in values]
        if not all(id in known for id in ids):
            continue
        parts, end = [], 0
        for value in values:
            words = formatted(known[value[1]], value[2], value[3], interval=intervals)
            parts += [(text[end : value.start()], ""), (words, value[1])]
            end = value.end()
        parts = [part for part in [*parts, (text[end:], "")] if part[0]]
        own = [judgements[id] for id in (*ids, *beside) if id in judgements]
        told.append(Sentence(parts, own, [known[id] for id in ids]))
    return told


@cache
def read_templates() -> list[tuple[str, tuple[str, ...]]]:
    """Return the sentences with values in braces, and of which claims the verdicts stand beside."""
    file = resources.files("trueboundary.report").joinpath("sentences.toml")
    entries = tomllib.loads(file.read_text("utf-8"))["sentence"]
    return [(entry["text"], tuple(entry.get("beside", ()))) for entry in entries]


def formatted(found: Measurement, factor: str | None, form: str | None, *, interval: bool) -> str:
    """Return a value times a factor in a format, with its interval if that is asked for."""
    if not interval:
        found = replace(found, low=None, high=None)
    if form is None or isinstance(found.value, bool):
        return measured_value(found)
    return measured_value(found, lambda value: format(float(factor or 1) * value, form))


def summary(material: Material) -> list[str]:
    """Return what there is to say about the report as a whole."""
    paragraphs = [_counts(material)]
    surprises = [j for j in material.judged if j.surprise]
    if surprises:
        ids = ", ".join(judgement.claim.id for judgement in surprises)
        paragraphs.append(f"Against what the known errata of the paper imply: {ids}.")
    if material.problems:
        ids = ", ".join(section.experiment.id for section in material.problems)
        paragraphs.append(f"Without a result: {ids}. The reasons stand in their sections.")
    paragraphs += [f"{sentence}." for sentence in material.unknown]
    paragraphs.append(cost_in_words(material))
    return paragraphs


def verdict_counts(judgements: Sequence[Judgement]) -> dict[Verdict, int]:
    """Return how many claims came to each verdict, in a fixed order, zeros included."""
    counts = Counter(judgement.verdict for judgement in judgements)
    return {verdict: counts[verdict] for verdict in Verdict}


def tally(rows: Sequence[ClaimRow]) -> str:
    """Return in one line how many of some claims came to each verdict, the common ones always."""
    judged = [row.judgement for row in rows if row.judgement is not None]
    counts = verdict_counts(judged)
    n_not_run = sum(row.not_run for row in rows)
    always = {
        "reproduced": counts[Verdict.REPRODUCED],
        "different": counts[Verdict.DIFFERS],
        "inconclusive": counts[Verdict.INCONCLUSIVE],
        "not testable at this scale": counts[Verdict.NOT_AT_THIS_SCALE],
    }
    sometimes = {
        "without data here": counts[Verdict.NO_DATA],
        "without a result": len(rows) - len(judged) - n_not_run,
        "not run": n_not_run,
    }
    found = always | {what: n for what, n in sometimes.items() if n}
    told = ", ".join(f"{n:,} {what}" for what, n in found.items())
    return f"{plural(len(rows), 'claim')}: {told}"


def _counts(material: Material) -> str:
    text = (
        f"{tally(material.rows)}. Inconclusive: the measured interval is too wide to tell. Not "
        "testable: a setting that the paper states and that can change the answer is not the "
        "paper's here; what was measured is shown all the same."
    )
    text += "".join(f" {plural(n, 'claim')} {why}." for why, n in material.not_run.items())
    if material.n_elsewhere:
        text += f" Claims of experiments that were not asked for: {material.n_elsewhere}."
    return text


def cost_in_words(material: Material) -> str:
    """Return the number of runs behind a report, and their time: each counts once."""
    n_runs = len(material.runs)
    stand, they = ("stands", "it") if n_runs == 1 else ("stand", "they")
    return (
        f"{plural(n_runs, 'run')} of {plural(len(material.sections), 'experiment')} {stand} behind "
        f"this page; {they} took {duration(material.seconds)} of computing in all, what {they} "
        "started from (trainings and fits) not counted."
    )
