"""What the claims came to, in sentences that are computed from the verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trueboundary.experiments.claims import Judgement, Verdict
from trueboundary.report.collect import ClaimRow, Material
from trueboundary.report.words import duration, measured_value, paper_value, plural


def summary(material: Material) -> list[str]:
    """Return the report's opening paragraphs."""
    paragraphs = [_counts(material)]
    differing = [j for j in material.judged if j.verdict is Verdict.DIFFERS]
    headlines = [j for j in differing if j.claim.headline] or differing[:5]
    if headlines:
        others = len(differing) - len(headlines)
        rest = f" ({plural(others, 'further claim')} below)" if others else ""
        paragraphs.append(f"What differs most plainly{rest}: {_sentences(headlines)}")
    surprises = [j for j in material.judged if j.surprise]
    if surprises:
        ids = ", ".join(judgement.claim.id for judgement in surprises)
        paragraphs.append(f"Against what the known errata of the paper imply: {ids}.")
    if material.problems:
        ids = ", ".join(section.experiment.id for section in material.problems)
        paragraphs.append(f"Without a result: {ids}. The reasons stand in their sections.")
    paragraphs += [f"{sentence}." for sentence in material.unknown]
    paragraphs.append(_cost(material))
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


def _sentences(judgements: Sequence[Judgement]) -> str:
    return " ".join(
        f"{j.claim.id}: {j.claim.statement.rstrip('.')} – the paper says {paper_value(j.claim)}, "
        f"measured {measured_value(j.measurement)}."
        for j in judgements
    )


def _cost(material: Material) -> str:
    seconds = sum(float(run.info.get("seconds", 0.0)) for run in material.runs.values())
    n_runs = len(material.runs)
    stand, they = ("stands", "it") if n_runs == 1 else ("stand", "they")
    return (
        f"{plural(n_runs, 'run')} of {plural(len(material.sections), 'experiment')} {stand} behind "
        f"this page; {they} took {duration(seconds)} of computing in all, what {they} started from "
        "(trainings and fits) not counted."
    )
