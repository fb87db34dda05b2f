"""Classifiers: trained networks, classifiers in closed form, and adapters for any other."""

from trueboundary.classifiers.base import (
    BinaryClassifier,
    CallableClassifier,
    Classifier,
    as_classifier,
    margin,
)
from trueboundary.classifiers.convolutional import (
    AllConvolutionalNetwork,
    StridedConvolutionalNetwork,
)
from trueboundary.classifiers.ellipsoid import Ellipsoid, max_margin_alpha
from trueboundary.classifiers.quadratic import QuadraticNetwork
from trueboundary.classifiers.relu import ReLUNetwork
from trueboundary.classifiers.spheres import SphereBayes, TruncatedSum
from trueboundary.classifiers.storage import from_arrays, register, to_arrays

__all__ = [
    "AllConvolutionalNetwork",
    "BinaryClassifier",
    "CallableClassifier",
    "Classifier",
    "Ellipsoid",
    "QuadraticNetwork",
    "ReLUNetwork",
    "SphereBayes",
    "StridedConvolutionalNetwork",
    "TruncatedSum",
    "as_classifier",
    "from_arrays",
    "margin",
    "max_margin_alpha",
    "register",
    "to_arrays",
]
