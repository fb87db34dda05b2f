"""What users ask of a classifier: how often it is wrong, and how near its errors are.

Every answer says how it was found. Error rates are exact where the classifier and the problem allow
it, and sampled or estimated by splitting otherwise; distances are brackets, from a certificate
below and an attack above; and on the concentric spheres both are held against the best that any
classifier could do.
"""

from trueboundary.measure.brackets import Distances, distances, distances_from
from trueboundary.measure.plain_values import distance_values, rate_values
from trueboundary.measure.proofs import certified_distances
from trueboundary.measure.rates import ErrorRate, error_rate
from trueboundary.measure.registered import (
    BlockCounter,
    ExactRates,
    register_block_counter,
    register_certificate,
    register_exact_rate,
)
from trueboundary.measure.tradeoff import Optimality, optimality

__all__ = [
    "BlockCounter",
    "Distances",
    "ErrorRate",
    "ExactRates",
    "Optimality",
    "certified_distances",
    "distance_values",
    "distances",
    "distances_from",
    "error_rate",
    "optimality",
    "rate_values",
    "register_block_counter",
    "register_certificate",
    "register_exact_rate",
]
