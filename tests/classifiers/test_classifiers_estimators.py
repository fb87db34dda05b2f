"""scikit-learn's classifiers as exact modules, checked against scikit-learn itself."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from trueboundary.classifiers import (
    RBFSVM,
    BayesOptimal,
    CallableClassifier,
    LabelsAlone,
    LinearSVM,
    OneAgainstRestSVM,
    SoftmaxRegression,
    as_classifier,
    from_sklearn,
    is_labels_alone,
    labels_of_sklearn,
)
from trueboundary.measure import distances_from


def corners(n, n_classes, seed=0):
    """Points around corners of a box, of unequal scale along the axes and some correlation."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    means = np.random.default_rng(5).normal(size=(n_classes, 4)) * 2
    mix = np.diag([1.0, 5.0, 0.2, 1.0]) + 0.1
    return (means[y] + rng.normal(size=(n, 4)) * (1 + 0.3 * y[:, None])) @ mix + 3, y


OTHERS = corners(300, 3, seed=1)[0]


def expected_classes(estimator, rule):
    predicted = estimator.classes_[rule.predict(torch.from_numpy(OTHERS)).numpy()]
    np.testing.assert_array_equal(predicted, estimator.predict(OTHERS))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        GaussianNB(),
        QuadraticDiscriminantAnalysis(),
        QuadraticDiscriminantAnalysis(reg_param=0.3),
        QuadraticDiscriminantAnalysis(priors=[0.3, 0.7]),
        make_pipeline(StandardScaler(), GaussianNB()),
        make_pipeline(MinMaxScaler(), RobustScaler(), QuadraticDiscriminantAnalysis()),
    ],
    ids=repr,
)
def test_gaussian_classes_become_the_optimal_classifier_of_their_densities(estimator, n_classes):
    if getattr(estimator, "priors", None) is not None:
        estimator.set_params(priors=[0.3, 0.7] if n_classes == 2 else [0.3, 0.6, 0.1])
    x, y = corners(400, n_classes)
    names = np.array(["b", "a", "c"])[y]
    estimator.fit(x, names)
    rule = from_sklearn(estimator, x)
    assert type(rule) is BayesOptimal
    assert not rule.training
    # Of all of scikit-learn's classifiers these say logarithms of posteriors.
    logs = estimator.predict_log_proba(OTHERS)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(logs).all(axis=1)
    own = rule.outputs(torch.from_numpy(OTHERS)).numpy()
    wanted = logs[:, 1] - logs[:, 0] if n_classes == 2 else logs - logs.max(1, keepdims=True)
    assert known.mean() > 0.5
    np.testing.assert_allclose(own[known], wanted[known], rtol=1e-8, atol=1e-8)
    expected_classes(estimator, rule)


def test_gaussian_classes_have_exact_distances():
    x, y = corners(400, 2)
    rule = from_sklearn(QuadraticDiscriminantAnalysis().fit(x, y), x)
    points = torch.from_numpy(x[y == 0][:10])
    found = distances_from(rule, points, 0)
    assert found.exact.all()
    # The point at that distance is on the boundary of scikit-learn's own rule.
    own = QuadraticDiscriminantAnalysis().fit(x, y).decision_function(found.nearest)
    right = found.upper > 0
    assert right.any()
    assert (np.abs(own[right]) < 1e-3).all()


@pytest.mark.parametrize(
    ("estimator", "n_classes", "kind"),
    [
        (LinearDiscriminantAnalysis(), 2, LinearSVM),
        (LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2), 3, SoftmaxRegression),
        (make_pipeline(StandardScaler(), LinearSVC(random_state=0)), 2, LinearSVM),
        (make_pipeline(StandardScaler(with_mean=False), LogisticRegression()), 3,
         SoftmaxRegression),
        (make_pipeline(StandardScaler(with_std=False), SVC()), 2, RBFSVM),
        (make_pipeline("passthrough", OneVsRestClassifier(SVC())), 3, OneAgainstRestSVM),
        (make_pipeline(StandardScaler(with_std=False), OneVsRestClassifier(SVC())), 3,
         OneAgainstRestSVM),
        (make_pipeline(MaxAbsScaler(), MinMaxScaler(), SVC(kernel="linear")), 2, LinearSVM),
    ],
    ids=repr,
)  # fmt: skip
def test_scalers_are_taken_into_the_module(estimator, n_classes, kind):
    x, y = corners(400, n_classes)
    rule = from_sklearn(estimator.fit(x, y), x)
    assert type(rule) is kind
    own = rule.outputs if kind is SoftmaxRegression else rule.decision_function
    np.testing.assert_allclose(
        own(torch.from_numpy(OTHERS)).numpy(),
        estimator.decision_function(OTHERS),
        rtol=1e-9,
        atol=1e-9,
    )
    expected_classes(estimator, rule)


def test_unequal_scales_of_a_gaussian_kernel_are_put_before_it():
    x, y = corners(400, 2)
    estimator = make_pipeline(StandardScaler(), SVC()).fit(x, y)
    rule = from_sklearn(estimator, x)
    assert type(rule) is CallableClassifier
    expected_classes(estimator, rule)
    votes = make_pipeline(StandardScaler(), SVC()).fit(*corners(400, 3))
    rule = from_sklearn(votes, x)
    assert is_labels_alone(rule)
    expected_classes(votes, rule)


def test_what_a_search_has_chosen_is_what_counts():
    x, y = corners(400, 2)
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(x, y)
    rule = from_sklearn(search, x)
    expected_classes(search, rule)


def test_anything_is_taken_by_its_labels():
    x, y = corners(400, 3)
    names = np.array(["b", "a", "c"])[y]
    tree = DecisionTreeClassifier(random_state=0).fit(x, names)
    rule = labels_of_sklearn(tree)
    expected_classes(tree, rule)
    assert rule.outputs(torch.from_numpy(OTHERS)).unique().tolist() == [0, 1]
    assert is_labels_alone(as_classifier(rule, classes=(0, 1)))
    assert not is_labels_alone(from_sklearn(GaussianNB().fit(x, y), x))
    with pytest.raises(ValueError, match="fitted classifier"):
        labels_of_sklearn(DecisionTreeClassifier())
    two = np.stack([y > 0, y > 1], axis=1)
    with pytest.raises(ValueError, match="one label"):
        labels_of_sklearn(DecisionTreeClassifier().fit(x, two))


def test_labels_that_are_none_are_refused():
    x = torch.zeros(2, 4)
    for function, words in (
        (lambda points: np.zeros((len(points), 2)), "one label for each of 2"),
        (lambda points: np.full(len(points), 7), "labels from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=words):
            LabelsAlone(function, 3, 4).outputs(x)
    with pytest.raises(ValueError, match="points of 4 numbers"):
        LabelsAlone(lambda points: points[:, 0] > 0, 3, 4).outputs(torch.zeros(2, 5))


def test_a_classifier_that_says_something_else_is_not_believed():
    x, y = corners(400, 2)
    tampered = GaussianNB().fit(x, y)
    tampered.predict_log_proba = lambda points: np.zeros((len(points), 2))
    with pytest.raises(ValueError, match="differs from GaussianNB"):
        from_sklearn(tampered, x)
