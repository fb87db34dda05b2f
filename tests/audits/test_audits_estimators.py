"""scikit-learn's classifiers, audited from Python and from files of skops."""

import json
import zipfile

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import trueboundary as tb
from trueboundary.attacks import HopSkipJump
from trueboundary.audits import load_subject, skops_files
from trueboundary.classifiers import BayesOptimal, LabelsAlone
from trueboundary.cli import main
from trueboundary.densities import LowRankGaussian
from trueboundary.problems import ImageProblem, planar_problem

TWO, THREE = planar_problem("a"), planar_problem("three")


def fitted(estimator, problem=TWO):
    x, y = problem.sample(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return estimator.fit(x.numpy(), y.numpy())


def audited(model, problem=TWO, n_points=10):
    return tb.audit(model, problem, n_points=n_points, n_error_points=200)


def test_exact_machines_have_exact_distances():
    for estimator in (LogisticRegression(), QuadraticDiscriminantAnalysis()):
        card = audited(fitted(estimator))
        assert card.subject == type(estimator).__name__
        assert card.flags == ()
        assert card.notes == ()
        assert np.allclose(card.joined("lower"), card.joined("upper"), rtol=1e-5)


def test_classes_in_another_order_are_refused_before_all_of_them_are_mistaken():
    problem = ImageProblem(
        *(LowRankGaussian(torch.full((4,), m), torch.zeros(4, 0), 1e-3) for m in (0.2, 0.8)),
        image_shape=(1, 2, 2),
        class_names=("9", "10"),
    )
    x, y = problem.sample(100, generator=torch.Generator().manual_seed(0))
    rows = x.flatten(1).double().numpy()
    turned = LogisticRegression().fit(rows, np.array(problem.class_names)[y])
    assert turned.classes_.tolist() == ["10", "9"]
    with pytest.raises(ValueError, match="order 10, 9, and the problem has 9, 10; fit it to the"):
        tb.audit(turned, problem, n_points=2)
    card = tb.audit(LogisticRegression().fit(rows, y.numpy()), problem, n_points=6)
    assert card.error_rate < 1e-6


def test_trees_are_audited_by_their_labels_and_the_card_says_so():
    tree = fitted(DecisionTreeClassifier(random_state=0))
    card = audited(tree, n_points=2)
    assert card.notes == ("The DecisionTreeClassifier is audited by its labels alone.",)
    assert "labels alone" in str(card)
    assert "HopSkipJump above" in card.method
    assert {flag.name for flag in card.flags} <= {"gradient masking"}
    # Every error that it found is one in scikit-learn's own words.
    assert np.isfinite(card.joined("upper")).all()
    little = HopSkipJump(n_steps=3, n_probes=10)
    votes = tb.audit(fitted(SVC(), THREE), THREE, n_points=2, n_error_points=200, attack=little)
    assert votes.notes == (
        "The SVC votes one against one, so that it is taken by its labels alone.",
    )


def test_estimators_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="fitted classifier"):
        audited(LogisticRegression())
    narrow = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match="points of 1 numbers, and the problem's have 2"):
        audited(narrow)
    with pytest.raises(ValueError, match="has 2 classes and the problem has 3"):
        audited(fitted(LogisticRegression()), THREE)


@pytest.fixture
def skops_io():
    return pytest.importorskip("skops.io")


def test_files_of_skops(tmp_path, skops_io, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    qda = fitted(QuadraticDiscriminantAnalysis())
    skops_io.dump(qda, "qda.skops")
    subject = load_subject("qda.skops", problem=TWO)
    assert type(subject.classifier) is BayesOptimal
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(subject.classifier.margin(x), qda.decision_function(x.numpy()))
    skops_io.dump(fitted(KNeighborsClassifier()), "near.skops")
    subject = load_subject("near.skops")
    assert type(subject.classifier) is LabelsAlone
    assert subject.notes == ("The KNeighborsClassifier is audited by its labels alone.",)
    skops_io.dump(fitted(DecisionTreeClassifier(random_state=0)), "tree.skops")
    TWO_D = ["--problem", "spheres-d2", "--n-points", "2", "--json"]
    assert main(["audit", "model", "tree.skops", *TWO_D]) == 0
    out = capsys.readouterr()
    assert "labels alone" in out.err
    notes = ["The DecisionTreeClassifier is audited by its labels alone."]
    assert json.loads(out.out)["notes"] == notes


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(max_depth=3),
        RandomForestClassifier(3),
        KNeighborsClassifier(),
        KNeighborsClassifier(algorithm="ball_tree", p=1),
        KNeighborsClassifier(algorithm="brute"),
        MLPClassifier((3,), max_iter=300, tol=1.0),
    ],
    ids=repr,
)
def test_trees_and_neighbours_come_from_files(tmp_path, skops_io, estimator):
    fitted(estimator.set_params(**{"random_state": 0} if "random_state" in estimator.get_params()
                                else {}))  # fmt: skip
    skops_io.dump(estimator, tmp_path / "a.skops")
    rule = load_subject(str(tmp_path / "a.skops"), problem=TWO).classifier
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(rule.predict(x).numpy(), estimator.predict(x.numpy()))


def test_trees_that_lead_nowhere_are_refused(tmp_path, skops_io):
    for change in ("left_child", "feature", "node_count"):
        tree = fitted(DecisionTreeClassifier(random_state=0))
        state = tree.tree_.__getstate__()
        if change == "node_count":
            state["node_count"] = 10**6
        else:
            nodes = state["nodes"].copy()
            nodes[change][0] = 10**6
            state["nodes"] = nodes
        tree.tree_.__setstate__(state)
        with pytest.raises(ValueError, match="leads out of its own nodes"):
            skops_files._check_trees({"steps": [np.array([tree], dtype=object)]})
    near = fitted(KNeighborsClassifier())
    data, rows, *rest = near._tree.__getstate__()
    near._tree.__setstate__((data, rows + 1, *rest))
    with pytest.raises(ValueError, match="leads out of its own nodes"):
        skops_files._check_trees(near)


def shout(points):
    raise AssertionError("the file ran code")


def test_unknown_types_and_damaged_files_are_refused(tmp_path, skops_io, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pipeline = make_pipeline(FunctionTransformer(shout, validate=True), LogisticRegression())
    pipeline[0].func = None
    fitted(pipeline)
    pipeline[0].func = shout
    skops_io.dump(pipeline, "strange.skops")
    with pytest.raises(ValueError, match=r"holds the types .*shout.* none that skops trusts"):
        load_subject("strange.skops")
    tmp_path.joinpath("text.skops").write_text("nothing")
    with pytest.raises(ValueError, match=r"text\.skops is no file of skops"):
        load_subject("text.skops")
    with pytest.raises(ValueError, match="there is no file gone"):
        load_subject("gone.skops")
    skops_io.dump([1, 2], "list.skops")
    with pytest.raises(ValueError, match="fitted classifier, got a list"):
        load_subject("list.skops")
    assert main(["audit", "model", "strange.skops", "--problem", "spheres-d2"]) == 2
    err = capsys.readouterr().err
    assert "none that skops trusts" in err
    assert len(err.splitlines()) == 1


def test_files_that_unpack_to_too_much_are_refused(tmp_path, skops_io, monkeypatch):
    monkeypatch.setattr(skops_files, "MAX_UNPACKED", 2**20)
    file = tmp_path / "bomb.skops"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("schema.json", "{}")
        parts.writestr("zeros.npy", bytes(2**21))
    with pytest.raises(ValueError, match="unpacks to 2,097,154 bytes"):
        load_subject(str(file))


def test_without_skops_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skops.io", None)
    with pytest.raises(ImportError, match=r"trueboundary\[skops\]"):
        load_subject(str(tmp_path / "a.skops"))
