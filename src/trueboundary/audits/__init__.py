"""Audits: anybody's classifier or attack judged against the truth."""

from trueboundary.audits.attack_members import MEMBERS, Member, Truth, member, names_of_members
from trueboundary.audits.attack_trials import MemberTruth, Trial, TrialRun, try_attack
from trueboundary.audits.audit_attacks import audit_attack, plan_trials, stored_leaderboard
from trueboundary.audits.audit_models import BRITTLE_DATA, CLOSE_TO_OPTIMAL, audit
from trueboundary.audits.audit_trainings import (
    MethodSummary,
    TrainedNetwork,
    TrainingAudit,
    audit_training,
)
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
from trueboundary.audits.training_methods import METHODS, TrainingSettings

__all__ = [
    "BRITTLE_DATA",
    "CLOSE_TO_OPTIMAL",
    "LEADERBOARD_SCHEMA",
    "MEMBERS",
    "METHODS",
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
    "MethodSummary",
    "RobustnessCard",
    "Score",
    "Standing",
    "Subject",
    "TrainedNetwork",
    "TrainingAudit",
    "TrainingSettings",
    "Trial",
    "TrialRun",
    "Truth",
    "Verdict",
    "VerdictKind",
    "as_attack",
    "audit",
    "audit_attack",
    "audit_training",
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
