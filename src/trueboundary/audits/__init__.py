"""Audits: anybody's classifier or attack judged against the truth."""

from trueboundary.audits.attack_members import MEMBERS, Member, Truth, member, names_of_members
from trueboundary.audits.attack_trials import MemberTruth, Trial, TrialRun, try_attack
from trueboundary.audits.audit_attacks import audit_attack, plan_trials, stored_leaderboard
from trueboundary.audits.audit_models import BRITTLE_DATA, CLOSE_TO_OPTIMAL, audit
from trueboundary.audits.comparisons import Comparison, compare
from trueboundary.audits.flags import Flag
from trueboundary.audits.leaderboard import (
    LEADERBOARD_SCHEMA,
    NEAR,
    Known,
    Leaderboard,
    Score,
    Standing,
)
from trueboundary.audits.named_attacks import (
    OURS,
    FoundAttack,
    as_attack,
    find_attack,
    find_attacks,
)
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
    "LEADERBOARD_SCHEMA",
    "MEMBERS",
    "NEAR",
    "OURS",
    "SCHEMA",
    "ClassAudit",
    "Comparison",
    "Flag",
    "FoundAttack",
    "Known",
    "Leaderboard",
    "Member",
    "MemberTruth",
    "RobustnessCard",
    "Score",
    "Standing",
    "Subject",
    "Trial",
    "TrialRun",
    "Truth",
    "Verdict",
    "VerdictKind",
    "as_attack",
    "audit",
    "audit_attack",
    "compare",
    "find_attack",
    "find_attacks",
    "load_problem",
    "load_subject",
    "member",
    "names_of_members",
    "plan_trials",
    "stored_leaderboard",
    "try_attack",
]
