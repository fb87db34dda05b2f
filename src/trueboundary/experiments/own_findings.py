"""What was found beyond the papers: measured like their claims, and judged by nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trueboundary.experiments.papers import read_table


@dataclass(frozen=True)
class Finding:
    """A question of our own about a paper's subject, which an experiment answers.

    Parameters
    ----------
    id : str
        For instance ``"T2"``; it never changes, and is not given again.
    paper : str
        Folder of its experiment.
    about : str
        The place in a paper that it is about.
    question : str
        What is asked.
    experiment : str
        Id of the experiment that answers.
    quantity : str
        What is measured.
    beside : str
        What the papers have on it.
    """

    id: str
    paper: str
    about: str
    question: str
    experiment: str
    quantity: str
    beside: str


def read_findings(paper: str) -> list[Finding]:
    """Return the findings of a paper's ``findings.toml``, in its order; none where it has none.

    Examples
    --------
    >>> [finding.id for finding in read_findings("truth")][:2]
    ['T1', 'T2']
    """
    stated: list[Mapping[str, Any]] = []
    with suppress(FileNotFoundError):
        stated = read_table(paper, "findings")["finding"]
    findings = [parse_finding(paper, entry) for entry in stated]
    twice = [id for id, n in Counter(finding.id for finding in findings).items() if n > 1]
    if twice:
        raise ValueError(f"{paper}/findings.toml: more than one entry is called {twice[0]}")
    return findings


def parse_finding(paper: str, entry: Mapping[str, Any]) -> Finding:
    """Turn an entry of a findings file into a `Finding`."""
    where = f"{paper}/findings.toml: entry {entry.get('id', 'without an id')}"
    try:
        finding = Finding(paper=paper, **entry)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
    for name in ("id", "about", "question", "experiment", "quantity", "beside"):
        if not getattr(finding, name).strip():
            raise ValueError(f"{where}: {name} is empty")
    return finding
