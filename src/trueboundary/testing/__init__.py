"""What every attack, certificate, density and problem must do, for the tests of whoever writes one.

Each check raises an AssertionError with one sentence at the first thing that is not as it must be.
They are what trueboundary's own tests call, and need no test runner.
"""

from trueboundary.testing.attacks import check_attack
from trueboundary.testing.certificates import check_certificate
from trueboundary.testing.densities import ContinuousDensity, check_density
from trueboundary.testing.problems import check_problem

__all__ = [
    "ContinuousDensity",
    "check_attack",
    "check_certificate",
    "check_density",
    "check_problem",
]
