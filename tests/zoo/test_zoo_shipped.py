"""What comes with trueboundary: every entry loads, is what its card says, and behaves."""

import socket
import subprocess
import sys

import pytest
import torch

import trueboundary as tb
from trueboundary import zoo
from trueboundary.certificates import EllipsoidCertificate, SVMCertificate
from trueboundary.classifiers import AllConvolutionalNetwork, LinearSVM, QuadraticNetwork
from trueboundary.measure import distances, error_rate
from trueboundary.problems import ConcentricSpheres, ImageProblem
from trueboundary.release.zoo_export import LARGEST_IN_PACKAGE, LARGEST_IN_REPOSITORY
from trueboundary.testing import check_certificate, check_problem
from trueboundary.zoo.entry_files import is_here
from trueboundary.zoo.zoo_index import PACKAGE_FOLDER

NAMES = zoo.names()
PAIRS = ("mnist-0-6", "mnist-2-7", "mnist-4-5")
HERE = [name for name in NAMES if zoo.entries()[name].place != "archive"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """Nothing is downloaded, and nothing but the package and its repository is looked into."""
    monkeypatch.delenv("TRUEBOUNDARY_ZOO", raising=False)

    def refuse(*_args, **_kwargs):
        raise AssertionError("the zoo opened a connection")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.mark.parametrize("name", HERE)
def test_an_entry_loads_and_is_what_its_card_says(name):
    entry, card = zoo.entries()[name], zoo.card(name)
    assert (card.name, card.kind, card.title, card.problem) == (
        entry.name,
        entry.kind,
        entry.title,
        entry.problem,
    )
    problem = zoo.problem(name)
    x, y = problem.sample(64, generator=torch.Generator().manual_seed(0))
    if entry.kind == "problem":
        classifier = problem.bayes_classifier()
    else:
        classifier = zoo.load(name)
        assert not classifier.training
        assert type(classifier).__name__ == card.spec["class"]
    # The worst that is shipped is wrong once in thirty points of one class.
    right = classifier.predict(x.to(next(classifier.parameters()).dtype)) == y
    assert int(right.sum()) >= 58


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_all_that_is_needed_to_make_and_judge_the_entry(name):
    card = zoo.card(name)
    entry = zoo.entries()[name]
    text = str(card)
    assert text.startswith(f"# {name}\n")
    assert card.licence
    assert card.data
    assert card.command.startswith("trueboundary release zoo results/")
    assert card.measured["torch"]
    assert f"zoo.problem('{card.problem}')" in card.measured["how"]
    for rate, found in zip(card.measured["error_rate"], card.measured["distance"], strict=True):
        assert rate["low"] <= rate["value"] <= rate["high"]
        assert rate["method"] == "exact" or rate["n_points"] >= 10_000
        assert found["n"] >= 100
        assert found["mean_lower"] <= found["mean"] + 1e-9 or found["n_failed"]
    if entry.file:
        assert card.source["run"] in text
        assert card.source["versions"]["torch"]
        assert card.settings["seed"] == card.seed == 0
    else:
        assert entry.place == "formula"


def test_the_promised_problems_and_classifiers_are_there():
    for pair in PAIRS:
        for variant in ("symmetric", "asymmetric"):
            problem = zoo.problem(f"{pair}-{variant}")
            assert isinstance(problem, ImageProblem)
            assert (problem.variant, problem.image_shape) == (variant, (1, 28, 28))
            assert problem.class_names == tuple(pair.split("-")[1:])
        trained = zoo.names(problem=f"{pair}-symmetric")
        assert trained == tuple(f"{pair}-symmetric-{w}" for w in ("cnn", "linear-svm", "rbf-svm"))
        assert isinstance(zoo.load(trained[0]), AllConvolutionalNetwork)
        assert isinstance(zoo.load(trained[1]), LinearSVM)
    for size in ("n100000", "n1000000"):
        assert isinstance(zoo.load(f"spheres-quadratic-h1000-{size}"), QuadraticNetwork)


def test_the_small_network_is_free_of_errors_and_no_error_is_found():
    card = zoo.card("spheres-quadratic-d100-h200-online")
    assert card.measured["n_wrong_alphas"] == 0
    assert [rate["value"] for rate in card.measured["error_rate"]] == [0, 0]
    assert [found["n_failed"] for found in card.measured["distance"]] == [100, 100]
    assert "| there is none | there is none |" in str(card)


def test_what_the_card_measured_can_be_measured_again():
    name = "spheres-quadratic-h1000-n100000"
    card, network, problem = zoo.card(name), zoo.load(name), zoo.problem(name)
    assert isinstance(problem, ConcentricSpheres)
    for rate, noted in zip(error_rate(network, problem), card.measured["error_rate"], strict=True):
        assert rate.method == noted["method"] == "exact"
        assert rate.value == pytest.approx(noted["value"], rel=1e-4, abs=1e-300)
    linear = "mnist-0-6-symmetric-linear-svm"
    found = distances(zoo.load(linear), zoo.problem(linear), n_points=100)
    for of_class, noted in zip(found, zoo.card(linear).measured["distance"], strict=True):
        assert of_class.mean == pytest.approx(noted["mean"], rel=1e-4)


def test_conformance_of_a_shipped_problem_and_of_shipped_classifiers():
    check_problem(zoo.problem("spheres-d100"))
    network = zoo.load("spheres-quadratic-d100-h200-online")
    check_certificate(EllipsoidCertificate(), network, zoo.problem("spheres-d100"))
    svm = zoo.load("mnist-0-6-symmetric-linear-svm")
    check_certificate(SVMCertificate(), svm, zoo.problem("mnist-0-6-symmetric"))


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("variant", ["symmetric", "asymmetric"])
def test_conformance_of_the_image_problems(pair, variant):
    check_problem(zoo.problem(f"{pair}-{variant}"))


def test_the_asymmetric_problem_is_the_symmetric_one_and_a_broad_component():
    symmetric, asymmetric = (zoo.problem(f"mnist-0-6-{v}") for v in ("symmetric", "asymmetric"))
    for label in (0, 1):
        few, more = symmetric.density(label), asymmetric.density(label)
        assert torch.equal(more.means[:-1], few.means)
        assert float(more.noise_variance[-1].max()) == pytest.approx(0.25)
        assert float(few.noise_variance.max()) == pytest.approx(1e-4)


def test_files_lie_where_their_sizes_say():
    limits = {"package": (1, LARGEST_IN_PACKAGE),
              "repository": (LARGEST_IN_PACKAGE + 1, LARGEST_IN_REPOSITORY),
              "archive": (LARGEST_IN_REPOSITORY + 1, 10**9)}  # fmt: skip
    for entry in zoo.entries().values():
        if entry.file:
            low, high = limits[entry.place]
            assert low <= entry.n_bytes <= high, entry.name
        assert is_here(entry) == (entry.place != "archive")
    shipped = {path.name for path in (PACKAGE_FOLDER / "files").iterdir()}
    assert shipped == {e.file for e in zoo.entries().values() if e.place == "package"}
    cards = {path.stem for path in (PACKAGE_FOLDER / "cards").iterdir()}
    assert cards == set(NAMES)
    # What Python compiles beside its files is not shipped.
    files = (path for path in PACKAGE_FOLDER.rglob("*.*") if "__pycache__" not in path.parts)
    in_package = sum(path.stat().st_size for path in files)
    assert in_package < 5_500_000


def test_names_and_titles_are_listed_without_loading_torch():
    code = "import sys, trueboundary as tb; tb.zoo.names(); print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "False", process.stderr
    assert tb.zoo is zoo
    assert "zoo" in dir(tb)


def test_lists_are_chosen_by_kind_and_problem():
    assert set(zoo.names("problem")) | set(zoo.names("classifier")) == set(NAMES)
    assert not set(zoo.names("problem")) & set(zoo.names("classifier"))
    assert zoo.names(problem="mnist-0-6-asymmetric") == ()
    with pytest.raises(ValueError, match="kind must be 'classifier' or 'problem', got 'model'"):
        zoo.names("model")
    with pytest.raises(ValueError, match="is a classifier, and none was trained on it"):
        zoo.names(problem="mnist-0-6-symmetric-cnn")


@pytest.mark.parametrize("call", [zoo.load, zoo.problem, zoo.card])
def test_an_unknown_name_is_told_with_one_that_is_near(call):
    with pytest.raises(ValueError, match="did you mean 'mnist-0-6-symmetric'"):
        call("mnist-0-6-symetric")
    with pytest.raises(ValueError, match=r"there is nothing called '\.\./\.\./etc/passwd'"):
        call("../../etc/passwd")


def test_a_problem_is_no_classifier():
    with pytest.raises(ValueError, match=r"is a problem: trueboundary.zoo.problem\('spheres-d500'"):
        zoo.load("spheres-d500")
    assert zoo.problem("mnist-0-6-symmetric-cnn").variant == "symmetric"


@pytest.mark.parametrize(
    ("pair", "digest"),
    [
        ("mnist-0-6", "a93aebf1c018b388d1bc5010eeb37369"),
        ("mnist-2-7", "269f6b78ab68d543b8433378be947d2b"),
        ("mnist-4-5", "83f85b85e8d9de8afbd7fe8528b7eacd"),
    ],
)
def test_a_name_means_the_same_numbers_for_ever(pair, digest):
    assert zoo.problem(f"{pair}-symmetric").describe()["digest"] == digest
