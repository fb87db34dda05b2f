"""Certificates: proven distances to the nearest error.

A certificate answers for every point at once how near an error can be. Its distance is a lower
bound that nothing can undercut, and the exact distance where `CertificateResult.exact` says so. An
attack's distance is an upper bound on the same quantity; the two together bracket the truth.
"""

from trueboundary.certificates.amplification import (
    ProvenErrorBound,
    angles_of_chords,
    choose_angle,
    proven_error_bound,
)
from trueboundary.certificates.base import Certificate, CertificateResult, Certified, Subject
from trueboundary.certificates.covering import SphereProof, prove_sphere_error_free
from trueboundary.certificates.ellipsoid_exact import (
    EllipsoidCertificate,
    nearest_ellipsoid,
    nearest_ellipsoid_error,
)
from trueboundary.certificates.gaussian_pair_exact import nearest_pair_error
from trueboundary.certificates.linear_exact import LinearCertificate
from trueboundary.certificates.mixture_bounds import LipschitzMixtureCertificate
from trueboundary.certificates.mixture_exact import MixtureBracket, MixtureCertificate, bracket
from trueboundary.certificates.quadric import NearestErrors, QuadricProjection, project_quadric
from trueboundary.certificates.relaxation import (
    RelaxationCertificate,
    bounds,
    certified_at,
    interval_bounds,
)
from trueboundary.certificates.svm_bounds import SVMCertificate
from trueboundary.certificates.trust_region import trust_region_minimum

__all__ = [
    "Certificate",
    "CertificateResult",
    "Certified",
    "EllipsoidCertificate",
    "LinearCertificate",
    "LipschitzMixtureCertificate",
    "MixtureBracket",
    "MixtureCertificate",
    "NearestErrors",
    "ProvenErrorBound",
    "QuadricProjection",
    "RelaxationCertificate",
    "SVMCertificate",
    "SphereProof",
    "Subject",
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
