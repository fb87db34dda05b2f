"""Attacks: upper bounds on the distance to the nearest error, re-verified and counted."""

from trueboundary.attacks.base import Attack, AttackWarning, in_chunks
from trueboundary.attacks.carlini_wagner import CarliniWagnerL2
from trueboundary.attacks.deepfool import DeepFool
from trueboundary.attacks.deprecated import OffManifoldAttack
from trueboundary.attacks.function_attack import FunctionAttack, ModelUnderAttack
from trueboundary.attacks.hop_skip_jump import HopSkipJump
from trueboundary.attacks.log_density import ComponentClassifier, LogDensityGradient
from trueboundary.attacks.manifold import ManifoldAttack
from trueboundary.attacks.nearest_error import NearestError
from trueboundary.attacks.norm_steps import DDN, FMN
from trueboundary.attacks.pgd import PGD
from trueboundary.attacks.results import AttackResult, AttackStatus, AttackSummary
from trueboundary.attacks.target import Search, Target
from trueboundary.domains import Box, Domain, Shell, Space, Sphere

__all__ = [
    "DDN",
    "FMN",
    "PGD",
    "Attack",
    "AttackResult",
    "AttackStatus",
    "AttackSummary",
    "AttackWarning",
    "Box",
    "CarliniWagnerL2",
    "ComponentClassifier",
    "DeepFool",
    "Domain",
    "FunctionAttack",
    "HopSkipJump",
    "LogDensityGradient",
    "ManifoldAttack",
    "ModelUnderAttack",
    "NearestError",
    "OffManifoldAttack",
    "Search",
    "Shell",
    "Space",
    "Sphere",
    "Target",
    "in_chunks",
]
