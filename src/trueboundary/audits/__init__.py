"""Audits: anybody's classifier judged against the truth, with a card that says what was found."""

from trueboundary.audits.audit_models import BRITTLE_DATA, CLOSE_TO_OPTIMAL, audit
from trueboundary.audits.comparisons import Comparison, compare
from trueboundary.audits.flags import Flag
from trueboundary.audits.robustness_card import (
    SCHEMA,
    ClassAudit,
    RobustnessCard,
    Verdict,
    VerdictKind,
)
from trueboundary.audits.subjects import Subject, load_problem, load_subject

__all__ = [
    "BRITTLE_DATA",
    "CLOSE_TO_OPTIMAL",
    "SCHEMA",
    "ClassAudit",
    "Comparison",
    "Flag",
    "RobustnessCard",
    "Subject",
    "Verdict",
    "VerdictKind",
    "audit",
    "compare",
    "load_problem",
    "load_subject",
]
