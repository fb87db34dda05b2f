"""Certificates: proven distances to the nearest error.

A certificate answers for every point at once how near an error can be. Its distance is a lower
bound that nothing can undercut, and the exact distance where `CertificateResult.exact` says so. An
attack's distance is an upper bound on the same quantity; the two together bracket the truth.
"""

from trueboundary.certificates.base import Certificate, CertificateResult
from trueboundary.certificates.ellipsoid import (
    EllipsoidCertificate,
    nearest_ellipsoid,
    nearest_ellipsoid_error,
)
from trueboundary.certificates.mixtures import LipschitzMixtureCertificate
from trueboundary.certificates.quadric import QuadricProjection, project_quadric

__all__ = [
    "Certificate",
    "CertificateResult",
    "EllipsoidCertificate",
    "LipschitzMixtureCertificate",
    "QuadricProjection",
    "nearest_ellipsoid",
    "nearest_ellipsoid_error",
    "project_quadric",
]
