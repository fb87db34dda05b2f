"""Adversarial robustness measured where the truth is known.

The names below are imported when they are first used, so that ``import trueboundary`` itself does
not import torch.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueboundary import theory
    from trueboundary import zoo as zoo
    from trueboundary.attacks import (
        AttackResult,
        Box,
        CarliniWagnerL2,
        ManifoldAttack,
        NearestError,
        Shell,
        Space,
        Sphere,
    )
    from trueboundary.audits import audit
    from trueboundary.certificates import EllipsoidCertificate
    from trueboundary.certificates import nearest_ellipsoid_error as nearest_ellipsoid_error
    from trueboundary.classifiers import (
        BayesOptimal,
        QuadraticNetwork,
        ReLUNetwork,
        TruncatedSum,
        as_classifier,
        margin,
    )
    from trueboundary.datasets import load_dataset as load_dataset
    from trueboundary.measure import Distances, ErrorRate, distances, error_rate, optimality
    from trueboundary.measure import plot as plot
    from trueboundary.problems import (
        ConcentricSpheres,
        FiniteSample,
        MixtureProblem,
        OnlineStream,
    )
    from trueboundary.rare_events import Splitting
    from trueboundary.runs import Store
    from trueboundary.training import TrainingConfig, train

__version__ = "0.2.0"

# Silent unless the user configures logging: ``logging.basicConfig(level="INFO")`` shows why a
# proof, an exact form or a checkpoint was not used.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "trueboundary.attacks": (
        "AttackResult",
        "Box",
        "CarliniWagnerL2",
        "ManifoldAttack",
        "NearestError",
        "Shell",
        "Space",
        "Sphere",
    ),
    "trueboundary.audits": ("audit",),
    "trueboundary.certificates": ("EllipsoidCertificate", "nearest_ellipsoid_error"),
    "trueboundary.classifiers": (
        "BayesOptimal",
        "QuadraticNetwork",
        "ReLUNetwork",
        "TruncatedSum",
        "as_classifier",
        "margin",
    ),
    "trueboundary.datasets": ("load_dataset",),
    "trueboundary.measure": ("Distances", "ErrorRate", "distances", "error_rate", "optimality"),
    "trueboundary.problems": (
        "ConcentricSpheres",
        "FiniteSample",
        "MixtureProblem",
        "OnlineStream",
    ),
    "trueboundary.rare_events": ("Splitting",),
    "trueboundary.runs": ("Store",),
    "trueboundary.training": ("TrainingConfig", "train"),
}
_MODULES = {
    "plot": "trueboundary.measure.plot",
    "theory": "trueboundary.theory",
    "zoo": "trueboundary.zoo",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_HOME_OF["OffManifoldAttack"] = "trueboundary.attacks"  # deprecated

__all__ = [
    "AttackResult",
    "BayesOptimal",
    "Box",
    "CarliniWagnerL2",
    "ConcentricSpheres",
    "Distances",
    "EllipsoidCertificate",
    "ErrorRate",
    "FiniteSample",
    "ManifoldAttack",
    "MixtureProblem",
    "NearestError",
    "OnlineStream",
    "QuadraticNetwork",
    "ReLUNetwork",
    "Shell",
    "Space",
    "Sphere",
    "Splitting",
    "Store",
    "TrainingConfig",
    "TruncatedSum",
    "as_classifier",
    "audit",
    "distances",
    "error_rate",
    "margin",
    "optimality",
    "theory",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"module 'trueboundary' has no attribute {name!r}")


def __dir__() -> list[str]:
    reachable = {name for names in _HOMES.values() for name in names}
    return sorted({*globals(), *__all__, *_MODULES, *reachable})
