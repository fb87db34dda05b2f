"""Support vector machines: agreement with scikit-learn, and margins that attacks can climb."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier

from trueboundary.classifiers import (
    RBFSVM,
    LabelsAlone,
    LinearSVM,
    OneAgainstRestSVM,
    SoftmaxRegression,
    choose_gamma,
    fit_linear_svm,
    fit_rbf_path,
    fit_rbf_svm,
    from_arrays,
    from_sklearn,
    to_arrays,
)
from trueboundary.classifiers import svm as svm_module


def rings(n=120, dim=5, seed=0):
    """Return points on two noisy spheres, class 1 outside."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, dim))
    x *= ((1 + y) / np.linalg.norm(x, axis=1))[:, None]
    return x + 0.1 * rng.normal(size=x.shape), y


X, Y = rings()
OTHERS = rings(seed=1)[0]


def machine(gamma=0.7, bias=None):
    """Return a machine fitted to the rings; with a negative bias, to the opposite labels."""
    svm = fit_rbf_svm(X, 1 - Y if bias is not None and bias < 0 else Y, gamma=gamma)
    if bias is not None:
        torch.nn.init.constant_(svm.bias, bias)
    return svm


@pytest.mark.parametrize(
    "estimator",
    [
        LinearSVC(random_state=0),
        LinearSVC(random_state=0, fit_intercept=False),
        RidgeClassifier(fit_intercept=False),
        LogisticRegression(),
        SVC(kernel="linear"),
        SVC(),
        SVC(gamma="auto"),
        SVC(gamma=5.0, C=0.3),
        NuSVC(gamma=0.1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("labels", [Y, np.array(["a", "b"])[Y], 1 - Y], ids=["01", "ab", "10"])
def test_agreement_with_the_decision_function(estimator, labels):
    estimator.fit(X, labels)
    svm = from_sklearn(estimator, X)
    expected = estimator.decision_function(OTHERS)
    ours = svm.decision_function(torch.from_numpy(OTHERS)).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)
    predicted = estimator.classes_[svm.predict(torch.from_numpy(OTHERS)).numpy()]
    np.testing.assert_array_equal(predicted, estimator.predict(OTHERS))


@pytest.mark.parametrize("offset", [1e3, 1e5, 1e7])
def test_where_the_data_lie_costs_no_digits(offset):
    """Expanded squared distances would be off by 1e-6 at 1e5, and by 1e-2 at 1e7."""
    estimator = SVC(gamma=0.5).fit(X + offset, Y)
    svm = from_sklearn(estimator, X + offset)
    differences = OTHERS[:, None] + offset - estimator.support_vectors_
    kernel = np.exp(-0.5 * (differences**2).sum(axis=2))
    expected = kernel @ estimator.dual_coef_[0] + estimator.intercept_[0]
    ours = svm.decision_function(torch.from_numpy(OTHERS + offset)).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_machines_fitted_on_other_kinds_of_points():
    import scipy.sparse

    sparse = SVC().fit(scipy.sparse.csr_matrix(X), Y)
    assert isinstance(from_sklearn(sparse, X), RBFSVM)
    assert isinstance(from_sklearn(sparse, scipy.sparse.csr_matrix(X)), RBFSVM)
    x = torch.from_numpy(X.astype(np.float32)).reshape(-1, 1, 5, 1)
    svm = fit_rbf_svm(x, torch.from_numpy(Y), gamma=1.0)
    assert torch.equal(svm.margin(x.double()), svm.margin(x.double().flatten(1)))


@pytest.mark.parametrize("bias", [None, 0.0, 1.4, -1.4])
def test_the_surrogate_has_the_sign_of_the_decision_function(bias):
    svm = machine(bias=bias)
    x = torch.from_numpy(np.concatenate([OTHERS, X]))
    decision, margin = svm.decision_function(x), svm.margin(x)
    assert (decision > 0).any()
    assert (decision < 0).any()
    assert torch.equal(decision.sign(), margin.sign())


@pytest.mark.parametrize("bias", [0.0, 1.4, -1.4])
def test_the_surrogate_has_the_zeros_of_the_decision_function(bias):
    svm = machine(bias=bias)
    x = torch.from_numpy(OTHERS)
    decision = svm.decision_function(x)
    low, high = (x[sign.nonzero()[0]] for sign in (decision < 0, decision > 0))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if svm.decision_function(middle) < 0 else (low, middle)
    assert abs(svm.margin(low).item()) < 1e-12
    assert abs(svm.margin(high).item()) < 1e-12


@pytest.mark.parametrize("bias", [None, 0.0, 1.4, -1.4])
@pytest.mark.parametrize("function", ["margin", "decision_function"])
def test_gradients_agree_with_finite_differences(bias, function):
    svm = machine(bias=bias)
    x = torch.from_numpy(OTHERS[:4]).requires_grad_()
    assert torch.autograd.gradcheck(getattr(svm, function), x)


@pytest.mark.parametrize("bias", [0.0, 1.4, -1.4])
@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6])
def test_the_surrogate_has_a_gradient_where_the_kernel_underflows(bias, distance):
    svm = machine(gamma=3.0, bias=bias)
    direction = torch.ones(1, 5, dtype=torch.float64)
    x = (distance * direction).requires_grad_()
    assert svm.decision_function(x).item() == pytest.approx(bias)
    (flat,) = torch.autograd.grad(svm.decision_function(x).sum(), x)
    assert not flat.any()
    margin = svm.margin(x)
    (gradient,) = torch.autograd.grad(margin.sum(), x)
    assert margin.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.norm() > 1e-3
    if bias:  # then it leads back: the boundary is near the support vectors
        assert (gradient * direction).sum() * bias > 0
        assert margin.item() * bias > 0


def test_the_surrogate_far_away_is_a_difference_of_squared_distances():
    support = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    svm = RBFSVM(support, torch.tensor([-2.0, 1.0]), bias=0.0, gamma=50.0)
    x = torch.tensor([[1.0, 7.0], [100.0, -3.0]], dtype=torch.float64)
    squares = ((x[:, None] - support.double()) ** 2).sum(2)
    expected = 50.0 * (squares[:, 0] - squares[:, 1]) - np.log(2)
    torch.testing.assert_close(svm.margin(x), expected)


def test_chunks_change_nothing(monkeypatch):
    svm = machine()
    x = torch.from_numpy(OTHERS)
    whole, norm = svm.margin(x), svm.squared_norm()
    monkeypatch.setattr(svm_module, "_CHUNK", 7)
    torch.testing.assert_close(svm.margin(x), whole, rtol=1e-12, atol=1e-12)
    assert svm.squared_norm() == pytest.approx(norm, rel=1e-12)


def test_squared_norms():
    svm = machine()
    s, a = svm.support_vectors, svm.dual_coef
    kernel = torch.exp(-svm.gamma * ((s[:, None] - s) ** 2).sum(2))
    assert svm.squared_norm() == pytest.approx((a @ kernel @ a).item(), rel=1e-10)
    linear = fit_linear_svm(X, Y, random_state=0)
    assert linear.squared_norm() == pytest.approx(linear.weight.norm().item() ** 2)


@given(seed=st.integers(0, 2**32 - 1), distance=st.floats(1e-3, 3.0))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_norm_bounds_how_fast_the_decision_function_changes(seed, distance):
    rng = np.random.default_rng(seed)
    x, step = rng.normal(size=(2, 1, 5))
    svm = MACHINE
    points = torch.from_numpy(np.concatenate([x, x + distance * step / np.linalg.norm(step)]))
    before, after = svm.decision_function(points).tolist()
    limit = np.sqrt(svm.squared_norm() * -2 * np.expm1(-svm.gamma * distance**2))
    assert abs(after - before) <= limit * (1 + 1e-9)


MACHINE = machine()


@pytest.mark.parametrize("svm", [machine(), fit_linear_svm(X, Y, random_state=0)])
def test_storage_round_trip(svm):
    rebuilt = from_arrays(*to_arrays(svm))
    x = torch.from_numpy(OTHERS)
    assert torch.equal(rebuilt.margin(x), svm.margin(x))
    assert rebuilt.squared_norm() == svm.squared_norm()
    assert not any(p.requires_grad for p in rebuilt.parameters())


def test_the_linear_fit_depends_on_its_seed_alone():
    one, two = (fit_linear_svm(X, Y, random_state=3).weight for _ in range(2))
    assert torch.equal(one, two)


def test_a_linear_fit_that_does_not_converge_says_so():
    with pytest.warns(ConvergenceWarning):
        fit_linear_svm(X[:4], Y[:4], C=1e6, max_iter=1, random_state=0)


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_kernel_from_one_product_gives_scikit_learns_machine(shift):
    ours = fit_rbf_svm(X + shift, Y, gamma=0.7)
    theirs = from_sklearn(SVC(gamma=0.7).fit(X + shift, Y), X + shift)
    assert torch.equal(ours.support_vectors, theirs.support_vectors)
    points = torch.from_numpy(OTHERS + shift)
    assert torch.allclose(ours.margin(points), theirs.margin(points), atol=1e-6, rtol=0)


def test_more_points_than_fit_into_a_product(monkeypatch):
    in_product = fit_rbf_svm(X, Y, gamma=0.7)
    monkeypatch.setattr(svm_module, "_MOST_IN_PRODUCT", len(X) - 1)
    one_by_one = fit_rbf_svm(X, Y, gamma=0.7)
    points = torch.from_numpy(OTHERS)
    assert torch.allclose(in_product.margin(points), one_by_one.margin(points), atol=1e-6, rtol=0)
    paths = []
    for most in (len(X) - 1, len(X)):
        monkeypatch.setattr(svm_module, "_MOST_IN_PRODUCT", most)
        paths.append(choose_gamma(X, Y, *rings(seed=2), gammas=[0.3, 1.0]))
    one_by_one, in_product = paths
    assert one_by_one.gamma == in_product.gamma
    np.testing.assert_array_equal(one_by_one.train_accuracy, in_product.train_accuracy)
    np.testing.assert_array_equal(one_by_one.validation_accuracy, in_product.validation_accuracy)


def test_choosing_gamma():
    gammas = [1e-4, 0.3, 1.0, 3.0, 1e3]
    path = choose_gamma(X, Y, *rings(seed=2), gammas=gammas[::-1])
    assert path.gammas.tolist() == gammas
    for accuracy in (path.train_accuracy, path.validation_accuracy):
        assert ((accuracy >= 0) & (accuracy <= 1)).all()
    good = path.validation_accuracy >= max(0.95, path.validation_accuracy.max() - 0.02)
    assert path.gamma == max(np.array(gammas)[good])
    assert path.is_accurate
    # Too wide a kernel is as helpless on spheres as a plane; too narrow a one learns by heart.
    assert path.validation_accuracy[0] < 0.8
    assert path.train_accuracy[-1] == 1
    assert path.n_support[-1] == len(X)
    assert path.gamma < gammas[-1]
    svm = fit_rbf_svm(X, Y, gamma=path.gamma)
    assert path.n_support[path.chosen] == len(svm.dual_coef)
    assert torch.equal(path.svm.support_vectors, svm.support_vectors)
    points = torch.from_numpy(OTHERS)
    assert torch.allclose(path.svm.margin(points), svm.margin(points), atol=1e-6, rtol=0)
    along = list(fit_rbf_path(X, Y, gammas=gammas))
    assert [machine.gamma for machine in along] == gammas
    assert [len(machine.dual_coef) for machine in along] == path.n_support.tolist()
    alone = [fit_rbf_svm(X, Y, gamma=gamma).margin(points) for gamma in gammas]
    for machine, margin in zip(along, alone, strict=True):
        assert torch.allclose(machine.margin(points), margin, atol=1e-6, rtol=1e-9)


def test_choosing_gamma_where_no_machine_is_accurate():
    rng = np.random.default_rng(0)
    path = choose_gamma(X, Y, X, rng.permutation(Y), gammas=[0.1, 1.0])
    assert not path.is_accurate
    best = path.validation_accuracy.max()
    assert path.validation_accuracy[path.chosen] >= best - 0.02 - 1e-12


def test_the_search_finds_what_the_whole_grid_has():
    x, y = rings(40)
    validation = rings(200, seed=2)
    scale = SVC(gamma="scale").fit(x, y)._gamma
    grid = scale * 2.0 ** (np.arange(-16, 17) / 2)
    whole = choose_gamma(x, y, *validation, gammas=grid)
    path = choose_gamma(x, y, *validation)
    assert path.gamma == pytest.approx(whole.gamma, rel=1e-12)
    assert len(path.gammas) < 10
    places = np.searchsorted(grid, path.gammas * (1 - 1e-9))
    np.testing.assert_allclose(path.gammas, grid[places], rtol=1e-12)
    # The next one tried is a root of 2 narrower, and no longer accurate.
    following = path.chosen + 1
    assert path.gammas[following] / path.gamma == pytest.approx(2**0.5)
    assert path.validation_accuracy[following] < path.threshold
    np.testing.assert_array_equal(path.validation_accuracy, whole.validation_accuracy[places])
    np.testing.assert_array_equal(path.train_accuracy, whole.train_accuracy[places])


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        # by coarse place from wide to narrow, and what is asked for in that order
        ([0.5, 0.6, 0.8, 0.9, 0.99, 0.9, 0.8, 0.7, 0.6], [4, 5, 3]),
        ([0.9, 0.96, 1.0, 0.99, 0.985, 0.5, 0.5, 0.5, 0.5], [4, 5, 3, 2]),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.9, 1.0, 0.7], [4, 5, 6, 7, 8]),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.4, 0.4, 0.4], [4, 5, 6, 3, 2, 1, 0]),
        ([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], [4, 5, 6, 7, 8, 3, 2, 1, 0]),
    ],
    ids=["in the middle", "wider", "narrower", "widest", "all alike"],
)
def test_where_the_search_goes(accuracies, expected, monkeypatch):
    asked = []

    def accuracy(place):
        asked.append(place / 4)
        return float(np.interp(place / 4, range(9), accuracies))

    svm_module._search(accuracy, 33, lambda found: max(found) - 0.02)
    coarse = [int(place) for place in dict.fromkeys(asked) if place % 1 == 0]
    assert coarse == expected
    best = max(accuracies)
    edge = max(k for k in range(33) if np.interp(k / 4, range(9), accuracies) >= best - 0.02)
    assert edge / 4 in asked
    assert edge == 32 or (edge + 1) / 4 in asked


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (SVC(kernel="poly"), "kernel 'poly'"),
        (DecisionTreeClassifier(random_state=0), "DecisionTreeClassifier"),
        (KNeighborsClassifier(), "KNeighborsClassifier"),
        (make_pipeline(PCA(), SVC()), "PCA"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_other_estimators_are_refused_with_an_alternative(estimator, message):
    with pytest.raises(TypeError, match=f"{message}.*SVC with kernel 'rbf' or 'linear'"):
        from_sklearn(estimator.fit(X, Y), X)


def test_estimators_that_cannot_be_adapted():
    with pytest.raises(ValueError, match="fitted classifier"):
        from_sklearn(SVC(), X)
    with pytest.raises(ValueError, match="no single margin"):
        from_sklearn(RidgeClassifier().fit(X, np.column_stack([Y, 1 - Y])), X)
    tampered = SVC().fit(X, Y)
    tampered.dual_coef_ = 1.0001 * tampered.dual_coef_
    with pytest.raises(ValueError, match=r"differs from SVC.decision_function"):
        from_sklearn(tampered, X)
    with pytest.raises(ValueError, match="x_check"):
        from_sklearn(SVC().fit(X, Y), X[0])


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"weight must have shape \(dim,\)"):
        LinearSVM(torch.zeros(2, 2), 0.0)
    with pytest.raises(ValueError, match="n_support, dim"):
        RBFSVM(torch.zeros(2, 3), torch.zeros(3), 0.0, 1.0)
    with pytest.raises(ValueError, match="2 positive and 0 negative of 2"):
        RBFSVM(torch.zeros(2, 3), torch.ones(2), 0.0, 1.0)
    with pytest.raises(ValueError, match="gamma"):
        RBFSVM(torch.zeros(2, 3), torch.tensor([1.0, -1.0]), 0.0, 0.0)
    with pytest.raises(ValueError, match="all present"):
        fit_rbf_svm(X, np.zeros(len(X)), gamma=1.0)
    with pytest.raises(ValueError, match="finite"):
        fit_linear_svm(X * np.nan, Y, random_state=0)
    with pytest.raises(ValueError, match="gammas is empty"):
        choose_gamma(X, Y, X, Y, gammas=[])
    with pytest.raises(ValueError, match="no scale"):
        choose_gamma(np.ones_like(X), Y, X, Y)
    with pytest.raises(TypeError, match=r"float64 but the points are torch.float32"):
        MACHINE.margin(torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"\(n, 5\)"):
        MACHINE.margin(torch.zeros(1, 4, dtype=torch.float64))


def corners(n=150, n_classes=3, seed=0):
    """Return points around the corners of a simplex, one class for each."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return np.eye(n_classes)[y] + 0.4 * rng.normal(size=(n, n_classes)), y


@pytest.mark.parametrize("n_classes", [3, 10])
@pytest.mark.parametrize("gamma", [0.3, 20.0])
def test_one_against_rest_agrees_with_scikit_learn(n_classes, gamma):
    x, y = corners(200, n_classes)
    others = corners(200, n_classes, seed=1)[0]
    expected = OneVsRestClassifier(SVC(gamma=gamma)).fit(x, y)
    svm = fit_rbf_svm(x, y, gamma=gamma)
    assert isinstance(svm, OneAgainstRestSVM)
    assert svm.n_classes == n_classes
    points = torch.from_numpy(others)
    np.testing.assert_allclose(
        svm.decision_function(points).numpy(), expected.decision_function(others), atol=1e-9
    )
    np.testing.assert_array_equal(svm.predict(points).numpy(), expected.predict(others))


def test_the_machine_of_a_pair_decides_between_its_classes():
    x, y = corners()
    svm, points = fit_rbf_svm(x, y, gamma=2.0), torch.from_numpy(corners(seed=1)[0])
    decisions, logits = svm.decision_function(points), svm.outputs(points)
    winner = decisions.argmax(dim=1)
    assert torch.equal(svm.predict(points), winner)
    for own, other in itertools.permutations(range(3), 2):
        between = svm.pair(own, other)
        difference = decisions[:, other] - decisions[:, own]
        torch.testing.assert_close(between.decision_function(points), difference)
        assert torch.equal(between.margin(points) > 0, difference > 0)
        of_own = winner == own  # whose logit is 0, and the others' are the margins of their pairs
        torch.testing.assert_close(logits[of_own, other], between.margin(points[of_own]))
        assert not logits[of_own, own].any()


def test_gradients_of_one_against_rest_agree_with_finite_differences():
    x, y = corners()
    svm = fit_rbf_svm(x, y, gamma=2.0)
    for function in (svm.outputs, svm.decision_function):
        assert torch.autograd.gradcheck(function, torch.from_numpy(x[:4]).requires_grad_())


@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6])
def test_one_against_rest_has_a_gradient_where_the_kernel_underflows(distance):
    x, y = corners()
    svm = fit_rbf_svm(x, y, gamma=3.0)
    points = distance * torch.tensor([[1.0, 0.3, -0.2], [0.1, -1.0, 0.5]], dtype=torch.float64)
    points.requires_grad_()
    (flat,) = torch.autograd.grad(svm.decision_function(points).sum(), points)
    assert not flat.any()
    logits = svm.outputs(points)
    assert torch.equal(logits.argmax(dim=1), svm.bias.argmax().expand(2))
    (gradient,) = torch.autograd.grad(logits.sum(), points)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient.norm(dim=1) > 1e-3).all()


def test_blocks_of_points_and_single_ones_have_the_same_logits(monkeypatch):
    x, y = corners()
    svm, points = fit_rbf_svm(x, y, gamma=2.0), torch.from_numpy(corners(seed=1)[0])
    whole, decisions = svm.outputs(points), svm.decision_function(points)
    monkeypatch.setattr(svm_module, "_MOST_KERNEL_VALUES", 1)
    torch.testing.assert_close(svm.outputs(points), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(svm.decision_function(points), decisions, rtol=1e-12, atol=1e-12)
    assert svm.outputs(points[:0]).shape == (0, 3)


def test_where_the_data_lie_costs_no_digits_of_one_against_rest():
    x, y = corners()
    points = torch.from_numpy(corners(seed=1)[0])
    near, far = (fit_rbf_svm(x + offset, y, gamma=2.0) for offset in (0.0, 1024.0))
    expected = near.outputs(points)
    torch.testing.assert_close(far.outputs(points + 1024.0), expected, rtol=0, atol=1e-9)


def test_one_against_rest_follows_its_parameters():
    x, y = corners()
    svm, points = fit_rbf_svm(x, y, gamma=2.0), torch.from_numpy(corners(seed=1)[0])
    with torch.inference_mode():
        expected = svm.outputs(points).clone()
    torch.testing.assert_close(svm.outputs(points.requires_grad_()).detach(), expected)
    torch.autograd.grad(svm.outputs(points).sum(), points)
    copied = copy.deepcopy(svm)
    torch.nn.init.zeros_(svm.support_vectors[0])
    fresh = OneAgainstRestSVM(svm.support_vectors, svm.dual_coef, svm.bias, svm.gamma)
    assert torch.equal(svm.outputs(points), fresh.outputs(points))
    assert not torch.equal(svm.outputs(points), expected)
    torch.testing.assert_close(copied.outputs(points), expected)
    single = copied.float().outputs(points.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=1e-4)


def test_one_against_rest_is_stored_exactly():
    x, y = corners()
    svm = fit_rbf_svm(x, y, gamma=2.0)
    again = from_arrays(*to_arrays(svm))
    points = torch.from_numpy(corners(seed=1)[0])
    assert torch.equal(again.outputs(points), svm.outputs(points))
    images = points.reshape(-1, 1, 3, 1)
    assert torch.equal(svm.outputs(images), svm.outputs(points))


@pytest.mark.parametrize("in_product", [True, False])
def test_a_gamma_is_chosen_for_three_classes(monkeypatch, in_product):
    if not in_product:
        monkeypatch.setattr(svm_module, "_MOST_IN_PRODUCT", 10)
    x, y = corners(90)
    other, y_other = corners(90, seed=1)
    gammas = [0.01, 1.0, 300.0]
    path = choose_gamma(x, y, other, y_other, gammas=gammas, min_accuracy=0.8)
    expected = [
        OneVsRestClassifier(SVC(gamma=gamma)).fit(x, y).score(other, y_other) for gamma in gammas
    ]
    np.testing.assert_allclose(path.validation_accuracy, expected)
    assert path.gamma == 1.0
    assert path.svm.n_classes == 3
    assert path.n_support[path.chosen] == path.svm.support_vectors.shape[0]


def test_what_one_against_rest_refuses():
    x, y = corners()
    with pytest.raises(ValueError, match="at least 0 and 1 and all present"):
        fit_rbf_svm(x, np.where(y == 1, 3, y), gamma=1.0)
    with pytest.raises(ValueError, match="the same classes in y and y_validation, got 3 and 2"):
        choose_gamma(x, y, x[y < 2], y[y < 2])
    with pytest.raises(ValueError, match="expected 3 classes or more, got 2"):
        OneAgainstRestSVM(torch.eye(3), torch.ones(2, 3), torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match=r"dual_coef \(n_classes, n_support\)"):
        OneAgainstRestSVM(torch.eye(3), torch.ones(3, 2), torch.zeros(3), 1.0)


@pytest.mark.parametrize("n_classes", [3, 10])
@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (LinearSVC(random_state=0), SoftmaxRegression),
        (LinearSVC(random_state=0, fit_intercept=False), SoftmaxRegression),
        (LogisticRegression(), SoftmaxRegression),
        (RidgeClassifier(), SoftmaxRegression),
        (OneVsRestClassifier(LinearSVC(random_state=0)), SoftmaxRegression),
        (OneVsRestClassifier(SVC(kernel="linear")), SoftmaxRegression),
        (OneVsRestClassifier(SVC(gamma=2.0)), OneAgainstRestSVM),
        (OneVsRestClassifier(SVC()), OneAgainstRestSVM),
        (OneVsRestClassifier(NuSVC(nu=0.1)), OneAgainstRestSVM),
    ],
    ids=repr,
)
def test_many_classes_agree_with_scikit_learn(estimator, kind, n_classes):
    x, y = corners(200, n_classes)
    others = corners(300, n_classes, seed=1)[0]
    names = np.array([f"class {label}" for label in range(n_classes)])
    estimator.fit(x, names[y])
    rule = from_sklearn(estimator, x)
    assert type(rule) is kind
    assert not rule.training
    assert not any(parameter.requires_grad for parameter in rule.parameters())
    points = torch.from_numpy(others)
    expected = estimator.decision_function(others)
    own = rule.outputs if kind is SoftmaxRegression else rule.decision_function
    np.testing.assert_allclose(own(points).numpy(), expected, rtol=1e-9, atol=1e-9)
    predicted = estimator.classes_[rule.predict(points).numpy()]
    np.testing.assert_array_equal(predicted, estimator.predict(others))
    again = from_arrays(*to_arrays(rule))
    assert torch.equal(again.outputs(points), rule.outputs(points))


def test_linear_machines_of_many_classes_are_told_one_against_rest():
    x, y = corners(200, 4)
    expected = LinearSVC(random_state=0, max_iter=10_000).fit(x, y)
    rule = fit_linear_svm(x, y, random_state=0)
    others = corners(200, 4, seed=1)[0]
    np.testing.assert_array_equal(
        rule.predict(torch.from_numpy(others)).numpy(), expected.predict(others)
    )
    images = torch.from_numpy(others).reshape(-1, 1, 2, 2)
    assert torch.equal(rule.outputs(images), rule.outputs(images.flatten(1)))


@pytest.mark.parametrize(
    "estimator", [SVC(), SVC(kernel="linear"), SVC(kernel="poly"), NuSVC(nu=0.1)], ids=repr
)
def test_votes_one_against_one_are_taken_by_their_labels_alone(estimator):
    x, y = corners(200, 3)
    others = corners(300, 3, seed=1)[0]
    names = np.array(["b", "c", "a"])
    estimator.fit(x, names[y])
    rule = from_sklearn(estimator, x)
    assert type(rule) is LabelsAlone
    points = torch.from_numpy(others)
    predicted = estimator.classes_[rule.predict(points).numpy()]
    np.testing.assert_array_equal(predicted, estimator.predict(others))
    assert rule.outputs(points).unique().tolist() == [0, 1]
    assert torch.equal(rule.outputs(points.reshape(-1, 1, 3, 1)), rule.outputs(points))
    with pytest.raises(TypeError, match="cannot store a LabelsAlone"):
        to_arrays(rule)


def test_one_against_rest_of_two_classes_is_the_one_machine():
    rule = from_sklearn(OneVsRestClassifier(SVC(gamma=0.7)).fit(X, Y), X)
    assert isinstance(rule, RBFSVM)
    expected = from_sklearn(SVC(gamma=0.7).fit(X, Y), X)
    points = torch.from_numpy(OTHERS)
    torch.testing.assert_close(rule.margin(points), expected.margin(points))


def test_many_classes_that_cannot_be_adapted():
    x, y = corners()
    for estimator in (
        DecisionTreeClassifier(random_state=0),
        OneVsRestClassifier(SVC(kernel="poly")),
    ):
        with pytest.raises(TypeError, match="only linear classifiers, SVC"):
            from_sklearn(estimator.fit(x, y), x)
    unlike = OneVsRestClassifier(SVC(gamma=1.0)).fit(x, y)
    unlike.estimators_[1] = SVC(gamma=2.0).fit(x, y == 1)
    with pytest.raises(ValueError, match="machines of one gamma"):
        from_sklearn(unlike, x)
    tampered = LinearSVC(random_state=0).fit(x, y)
    shift = tampered.coef_.copy()
    tampered.decision_function = lambda points: points @ shift.T + 1
    with pytest.raises(ValueError, match=r"differs from LinearSVC.decision_function"):
        from_sklearn(tampered, x)
