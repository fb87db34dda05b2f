"""Attacks: upper bounds on the distance to the nearest error, re-verified and counted."""

from trueboundary.attacks.base import Attack, AttackWarning, in_chunks
from trueboundary.attacks.carlini_wagner import CarliniWagnerL2
from trueboundary.attacks.deprecated import OffManifoldAttack
from trueboundary.attacks.log_density import ComponentClassifier, LogDensityGradient
from trueboundary.attacks.manifold import ManifoldAttack
from trueboundary.attacks.nearest_error import NearestError
from trueboundary.attacks.results import AttackResult, AttackStatus, AttackSummary
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import Box, Domain, Shell, Space, Sphere

__all__ = [
    "Attack",
    "AttackResult",
    "AttackStatus",
    "AttackSummary",
    "AttackWarning",
    "Box",
    "CarliniWagnerL2",
    "ComponentClassifier",
    "Domain",
    "LogDensityGradient",
    "ManifoldAttack",
    "NearestError",
    "OffManifoldAttack",
    "Search",
    "Shell",
    "Space",
    "Sphere",
    "Target",
    "in_chunks",
]
