"""Kinds of images by name: ours in one place each, and others' by one file and a registration."""

import ast
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import trueboundary
from trueboundary.cli import main
from trueboundary.data import (
    ImageSource,
    find_data,
    image_source,
    image_sources,
    parse_classes,
    parse_pair,
    register_image_source,
    sources,
)
from trueboundary.datasets import load_dataset, make_dataset
from trueboundary.experiments import experiments
from trueboundary.experiments.images.image_fits import FittedMixtures, load_fit
from trueboundary.experiments.images.image_plans import image_task, words_of
from trueboundary.runs import Context, Run

PACKAGE = Path(trueboundary.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "adding-an-image-source.md"
NAME = "rings/thin-thick"


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(sources.SOURCES_VARIABLE, raising=False)
    monkeypatch.setattr(sources, "_SOURCES", dict(sources._SOURCES))
    monkeypatch.setattr(sources, "_FILES_READ", set())


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of the documentation's example, known as the command line gets to know it."""
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert example.count("\n") <= 40
    file = tmp_path / "rings.py"
    file.write_text(example, encoding="utf-8")
    monkeypatch.setenv(sources.SOURCES_VARIABLE, os.pathsep.join(["", str(file)]))
    return file


@pytest.mark.usefixtures("rings")
class TestASourceOfOnesOwn:
    def test_the_page_s_own_fit_works(self) -> None:
        image_sources()
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        known: dict[str, object] = {}
        exec(blocks[1], known)
        assert known["problem"].class_names == ("thin", "thick")  # type: ignore[attr-defined]

    def test_another_content_of_its_file_gives_other_runs(self, rings: Path) -> None:
        before = image_task(NAME, {"max_iter": 5, "noise_std": 0.05}, 0).fit
        rings.write_text(rings.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        after = image_task(NAME, {"max_iter": 5, "noise_std": 0.05}, 0).fit
        assert before.content
        assert after.digest != before.digest
        assert all(not source.content() for source in sources._OWN if not source.is_brought)

    def test_experiments_fit_its_pairs(self, tmp_path: Path) -> None:
        task = image_task(NAME, {"max_iter": 5, "noise_std": 0.05}, 0)
        fit = FittedMixtures("rings", ("thin", "thick"), 1, 2, 5)
        assert task.fit == replace(fit, content=image_source("rings").content())
        result = task.fit.compute(Context({}, tmp_path, lambda _: None))
        problem = task.problem(Run({}, result, {}, tmp_path))
        assert problem.image_shape == (1, 9, 9)
        assert load_fit(Run({}, result, {}, tmp_path)).class_names == ("thin", "thick")
        assert words_of(NAME) == "rings thin/thick"
        x, y = task.fit.images("test").of_classes(*task.fit.pair)
        predicted = problem.bayes_classifier().predict(torch.from_numpy(x))
        assert (predicted.numpy() == y).mean() > 0.9

    def test_an_experiment_plans_and_runs_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        settings = ["--set", f"dataset={NAME}", "--scale", "smoke", "--out", "out"]
        assert main(["run", "bayes-noise", *settings]) == 0
        assert list(Path("out/runs").glob("FittedMixtures-*"))
        capsys.readouterr()
        assert main(["run", "bayes-noise", "--set", "dataset=rings/thin-fat", *settings[2:]]) == 2
        assert "no class 'fat'" in capsys.readouterr().err

    def test_the_command_makes_a_data_set_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(make_dataset.__kwdefaults__, "n_accuracy", 200)
        assert main(["dataset", "make", NAME, "--out", "set", "--n-train", "20",
                     "--n-test", "10"]) == 0  # fmt: skip
        made = load_dataset("set")
        assert made.card["source"] == "rings, thin against thick, 200 images"
        assert [part["n_components"] for part in made.card["fit"]] == [1, 1]
        assert made.card["fit"][0]["held_out"]["n_images"] == 100


def test_names_of_data_sets_stand_in_their_sources_alone() -> None:
    """What is about one data set may name it: the papers' experiments, and where the paths are."""
    names = set(image_sources())
    found = {}
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts
        if room[0] == "data" or room[:2] == ("experiments", "bayes"):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        literals = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        if named := {text for text in literals if text.partition("/")[0] in names}:
            found[file] = named
    assert not found


@pytest.mark.parametrize("source", sources._OWN, ids=lambda source: source.name)
def test_what_sources_say_fits_together(source: ImageSource) -> None:
    known, pair = parse_pair(source.example)
    assert known is source
    assert words_of(source.example) == source.words(pair)
    if source.class_names:
        assert set(pair) <= set(source.class_names)
    assert source.is_brought == (source.name in ("celeba", "cifar10"))
    assert source.is_private == (source.name == "celeba")
    assert (source.name in find_data()) == bool(source.variable)


def test_keys_of_runs_are_those_they_were() -> None:
    planned = [
        (FittedMixtures("mnist", ("0", "6")), "mnist/0-6", {"max_iter": 100}),
        (
            FittedMixtures("cifar10", ("cat", "dog"), None, 10, 7),
            "cifar10/cat-dog",
            {"max_iter": 7, "face_size": 32},
        ),
        (
            FittedMixtures("celeba", ("not Male", "Male"), None, 10, 7, face_size=32),
            "celeba/Male",
            {"max_iter": 7, "face_size": 32},
        ),
    ]
    for fit, name, settings in planned:
        task = image_task(name, {**settings, "noise_std": 0.01}, 0)
        assert task.fit.describe() == fit.describe()


def test_synthetic_images_are_those_they_were() -> None:
    source = image_source("synthetic")
    pair = ("0", "6")  # experiments of MNIST's pairs are tried out with bars
    x, y = source.load(pair, "test").of_classes(*pair)
    rng = np.random.default_rng(1)
    first = rng.uniform(2, 5, size=(300, 1, 1))[0, 0, 0]
    noise = 0.02 * rng.normal(size=(300, 8, 8))[0]
    bar = np.exp(-((np.arange(8)[:, None] - first) ** 2) / 2) + noise
    np.testing.assert_array_equal(x[0], bar.clip(0, 1).astype(np.float32).ravel())
    assert y.tolist() == [0] * 150 + [1] * 150


def test_problems_of_more_classes_have_names() -> None:
    digits = tuple("0123456789")
    for name, classes, words in [
        ("mnist", digits, "MNIST"),
        ("mnist/0-6", ("0", "6"), "MNIST 0/6"),
        ("mnist/3-1-2", ("3", "1", "2"), "MNIST 3/1/2"),
        ("cifar10/cat-dog-ship", ("cat", "dog", "ship"), "cat/dog/ship"),
        ("celeba/Male", ("not Male", "Male"), "Male"),
        ("synthetic", ("lying", "standing"), "bars"),
        ("synthetic/0-1-2", ("0", "1", "2"), "bars"),
    ]:
        source, found = parse_classes(name)
        assert (found, source.words(found)) == (classes, words)
    source, found = parse_classes("cifar10")
    assert (len(found), source.words(found)) == (10, "CIFAR-10")
    for name in ("mnist/0", "mnist/0-1-1", "mnist/0--1", "celeba", "celeba/a-b-c", "x"):
        with pytest.raises(ValueError, match="named like mnist/0-6"):
            parse_classes(name)


def test_synthetic_images_of_more_classes_can_be_told_apart() -> None:
    source = image_source("synthetic")
    x, y = source.load(("a", "b", "c"), "train").of_classes("a", "b", "c")
    assert np.bincount(y).tolist() == [150] * 3
    # Along the bar of a class nothing changes: neighbours that way are alike.
    images = x.reshape(-1, 8, 8)
    along = np.abs(np.diff(images, axis=2)).mean(axis=(1, 2))
    across = np.abs(np.diff(images, axis=1)).mean(axis=(1, 2))
    ratio = along / across
    assert ratio[y == 0].max() < ratio[y != 0].min()


class Pets(ImageSource):
    name, title, variable = "pets", "pets", "TEST_PETS"


def test_images_that_users_bring_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TEST_PETS", raising=False)
    register_image_source(Pets())
    experiment = experiments()["bayes-noise"]
    settings = experiment.settings("smoke", {"dataset": ("pets/cats-dogs",)})
    assert experiment.missing_data(settings) == (
        "bayes-noise is left out: it needs pets, not set up; let TEST_PETS name the folder that "
        "holds them."
    )
    with pytest.raises(FileNotFoundError, match="pets is not here; let TEST_PETS name"):
        image_source("pets").path()
    monkeypatch.setenv("TEST_PETS", str(tmp_path))
    assert experiment.missing_data(settings) == ""
    assert image_source("pets").path() == tmp_path
    assert replace(image_source("pets"), place=tmp_path / "a").path() == tmp_path / "a"
    with pytest.raises(NotImplementedError, match="Pets does not say"):
        image_source("pets").check([("cats", "dogs")])


def test_names_are_taken_once() -> None:
    register_image_source(Pets())
    register_image_source(Pets())  # the same file read again
    for name, wrong in (("mnist", "already"), ("a/b", "a name of"), ("", "a name of")):
        other = type("Other", (ImageSource,), {"name": name, "title": "other"})()
        with pytest.raises(ValueError, match=wrong):
            register_image_source(other)
    with pytest.raises(TypeError, match="make one of its class"):
        register_image_source(Pets)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must be one of mnist, .*, pets, got 'pest'"):
        image_source("pest")
    with pytest.raises(ValueError, match="pets/A-B, got 'pets'"):
        parse_pair("pets")


@pytest.mark.parametrize("content", [None, "1/0", "def"])
def test_a_file_that_cannot_be_run_is_named_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is not None:
        Path("mine.py").write_text(content)
    monkeypatch.setenv(sources.SOURCES_VARIABLE, "mine.py")
    for _ in range(2):  # it stays unread
        with pytest.raises(ValueError, match=r"TRUEBOUNDARY_SOURCES: mine.py cannot be run"):
            image_sources()
    assert main(["doctor"]) == 0
    assert "mine.py cannot be run" in " ".join(capsys.readouterr().out.split())
    assert main(["dataset", "make", "mnist/0-6", "--out", "set"]) == 2
    assert "mine.py cannot be run" in capsys.readouterr().err


def test_what_goes_wrong_in_a_stranger_s_source_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "from trueboundary.data import ImageSource, register_image_source\n"
        "class Odd(ImageSource):\n"
        "    name, title, class_names = 'odd', 'odd', ('a', 'b')\n"
        "    def load(self, pair, part, size=None):\n"
        "        raise NotImplementedError('not written yet')\n"
        "register_image_source(Odd())\n"
    )
    monkeypatch.setenv(sources.SOURCES_VARIABLE, str(file))
    assert main(["dataset", "make", "odd/a-b", "--out", "made"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Odd, the source of odd, cannot load its images (NotImplementedError: not wri" in said
    assert not (tmp_path / "made").exists()
