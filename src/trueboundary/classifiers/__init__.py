"""Classifiers: trained networks, classifiers in closed form, and adapters for any other."""

from trueboundary.classifiers.adapters import (
    CallableClassifier,
    Outputs,
    Preprocessing,
    as_classifier,
)
from trueboundary.classifiers.base import (
    BinaryClassifier,
    Classifier,
    ClassifierModule,
    margin,
    margin_and_gradient,
    misclassified,
    number_of_classes,
    outputs,
    predicted,
    value_and_gradient,
    wrongness,
    wrongness_and_gradient,
    wrongness_of,
)
from trueboundary.classifiers.bayes import BayesOptimal
from trueboundary.classifiers.convolutional import (
    AllConvolutionalNetwork,
    StridedConvolutionalNetwork,
)
from trueboundary.classifiers.edge import (
    ClassifierWarning,
    dtype_of,
    evaluated,
    modules_of,
    probability_doubts,
)
from trueboundary.classifiers.ellipsoid import Ellipsoid, max_margin_alpha
from trueboundary.classifiers.estimators import from_sklearn
from trueboundary.classifiers.labels_alone import (
    LabelsAlone,
    is_labels_alone,
    labels_of_sklearn,
)
from trueboundary.classifiers.quadratic import QuadraticNetwork
from trueboundary.classifiers.relu import ReLUNetwork
from trueboundary.classifiers.softmax import SoftmaxRegression
from trueboundary.classifiers.sphere_rules import SphereBayes, TruncatedSum
from trueboundary.classifiers.stored_classifiers import from_arrays, register, to_arrays
from trueboundary.classifiers.svm import (
    RBFSVM,
    GammaPath,
    LinearSVM,
    OneAgainstRestSVM,
    choose_gamma,
    fit_linear_svm,
    fit_rbf_path,
    fit_rbf_svm,
)

__all__ = [
    "RBFSVM",
    "AllConvolutionalNetwork",
    "BayesOptimal",
    "BinaryClassifier",
    "CallableClassifier",
    "Classifier",
    "ClassifierModule",
    "ClassifierWarning",
    "Ellipsoid",
    "GammaPath",
    "LabelsAlone",
    "LinearSVM",
    "OneAgainstRestSVM",
    "Outputs",
    "Preprocessing",
    "QuadraticNetwork",
    "ReLUNetwork",
    "SoftmaxRegression",
    "SphereBayes",
    "StridedConvolutionalNetwork",
    "TruncatedSum",
    "as_classifier",
    "choose_gamma",
    "dtype_of",
    "evaluated",
    "fit_linear_svm",
    "fit_rbf_path",
    "fit_rbf_svm",
    "from_arrays",
    "from_sklearn",
    "is_labels_alone",
    "labels_of_sklearn",
    "margin",
    "margin_and_gradient",
    "max_margin_alpha",
    "misclassified",
    "modules_of",
    "number_of_classes",
    "outputs",
    "predicted",
    "probability_doubts",
    "register",
    "to_arrays",
    "value_and_gradient",
    "wrongness",
    "wrongness_and_gradient",
    "wrongness_of",
]
