"""Certificates: proven distances to the nearest error.

A certificate answers for every point at once how near an error can be. Its distance is a lower
bound that nothing can undercut, and the exact distance where `CertificateResult.exact` says so. An
attack's distance is an upper bound on the same quantity; the two together bracket the truth.

What bounds ReLU networks needs torch, and is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trueboundary.certificates.amplification import (
    ProvenErrorBound,
    angles_of_chords,
    choose_angle,
    proven_error_bound,
)
from trueboundary.certificates.base import Certificate, CertificateResult
from trueboundary.certificates.ellipsoid_exact import (
    EllipsoidCertificate,
    nearest_ellipsoid,
    nearest_ellipsoid_error,
)
from trueboundary.certificates.gaussian_pair_exact import nearest_pair_error
from trueboundary.certificates.mixture_bounds import LipschitzMixtureCertificate
from trueboundary.certificates.mixture_exact import MixtureBracket, MixtureCertificate, bracket
from trueboundary.certificates.quadric import QuadricProjection, project_quadric
from trueboundary.certificates.svm_bounds import SVMCertificate
from trueboundary.certificates.trust_region import trust_region_minimum

if TYPE_CHECKING:
    from trueboundary.certificates.covering import SphereProof, prove_sphere_error_free
    from trueboundary.certificates.relaxation import (
        RelaxationCertificate,
        bounds,
        certified_at,
        interval_bounds,
    )

_HOMES = {
    "trueboundary.certificates.covering": ("SphereProof", "prove_sphere_error_free"),
    "trueboundary.certificates.relaxation": (
        "RelaxationCertificate",
        "bounds",
        "certified_at",
        "interval_bounds",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Certificate",
    "CertificateResult",
    "EllipsoidCertificate",
    "LipschitzMixtureCertificate",
    "MixtureBracket",
    "MixtureCertificate",
    "ProvenErrorBound",
    "QuadricProjection",
    "RelaxationCertificate",
    "SVMCertificate",
    "SphereProof",
    "angles_of_chords",
    "bounds",
    "bracket",
    "certified_at",
    "choose_angle",
    "interval_bounds",
    "nearest_ellipsoid",
    "nearest_ellipsoid_error",
    "nearest_pair_error",
    "project_quadric",
    "prove_sphere_error_free",
    "proven_error_bound",
    "trust_region_minimum",
]


def __getattr__(name: str) -> Any:
    """Import a name that needs torch when it is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
