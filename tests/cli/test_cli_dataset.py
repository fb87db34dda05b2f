"""Data sets on disk: made and read by command, complete or absent, one sentence per mistake."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save as format_safetensors

from trueboundary.cli import dataset, main
from trueboundary.data import encode_idx
from trueboundary.data.cifar import CIFAR10_CLASSES
from trueboundary.datasets import card_text, load_dataset, make_dataset, measure_card
from trueboundary.densities import MixtureOfFactorAnalyzers
from trueboundary.problems import ImageProblem, fit_image_problem
from trueboundary.runs import strict_json
from trueboundary.tiles import tile


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for variable in ("TRUEBOUNDARY_CELEBA", "TRUEBOUNDARY_CIFAR10", "TRUEBOUNDARY_MNIST"):
        monkeypatch.delenv(variable, raising=False)


def write_images(folder, n=20, size=8):
    rng = np.random.default_rng(0)
    for level, name in ((80, "dark"), (160, "light")):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.clip(level + 20 * rng.normal(size=(size, size, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def small(*arguments, images="photos", out="set"):
    usual = {"--n-train": "60", "--n-test": "30", "--components": "1", "--factors": "2"}
    typed = {argument.partition("=")[0] for argument in arguments}
    rest = [word for option in usual.items() if option[0] not in typed for word in option]
    return main(["dataset", "make", images, "--out", out, *rest, *arguments])


@pytest.fixture
def few_points(monkeypatch):
    """Measure the accuracy on fewer points than users get."""
    monkeypatch.setitem(make_dataset.__kwdefaults__, "n_accuracy", 200)


@pytest.mark.usefixtures("few_points")
class TestMakeAndLoad:
    def test_a_folder_of_images(self, capsys):
        write_images(Path("photos"))
        assert small("--noise-std", "0.05", "--seed", "3") == 0
        out = capsys.readouterr().out
        assert "# dark against light, symmetric" in out
        assert "Data set: set" in out
        names = {path.name for path in Path("set").iterdir()}
        assert names == {
            "train.safetensors", "test.safetensors", "problem",
            "card.json", "card.md", "samples.png",
        }  # fmt: skip
        assert not [path for path in Path().iterdir() if path.name.startswith(".")]
        made = load_dataset("set")
        assert made.x_train.shape == (60, 192)
        assert made.x_train.dtype == torch.float32
        assert made.y_test.shape == (30,)
        assert made.problem.image_shape == (3, 8, 8)
        assert (made.problem.density_0.noise_variance.sqrt() - 0.05).abs().max() < 1e-12
        assert made.card["report"]["settings"]["noise_std"] == 0.05
        assert made.card["accuracy"]["low"] <= made.card["accuracy"]["value"]
        assert made.card["certified"]["n_points"] == 30
        with Image.open("set/samples.png") as sheet:
            assert sheet.size[0] > 500

    def test_load_prints_the_card_that_make_wrote(self, capsys):
        write_images(Path("photos"))
        assert small() == 0
        first = capsys.readouterr().out
        assert main(["dataset", "load", "set"]) == 0
        second = capsys.readouterr().out
        assert first.split("Data set:")[0] == second.split("Every file")[0]
        assert Path("set/card.md").read_text() in second
        assert main(["dataset", "load", "set", "--quiet"]) == 0
        assert capsys.readouterr().out == "Every file is as it was written.\n"
        assert main(["dataset", "load", "set", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["command"], answer["schema"], answer["folder"]) == (
            "dataset load",
            "1.0",
            "set",
        )
        assert answer["card"] == json.loads(json.dumps(load_dataset("set").card))

    def test_a_quiet_make_says_where_the_data_set_is(self, capsys):
        write_images(Path("photos"))
        assert small("--quiet") == 0
        assert capsys.readouterr().out == "Data set: set\n"

    def test_the_same_command_gives_the_same_bytes(self):
        write_images(Path("photos"))
        assert small(out="one") == small(out="two") == 0
        for name in (
            "train.safetensors",
            "problem/density.safetensors",
            "card.json",
            "samples.png",
        ):
            assert Path("one", name).read_bytes() == Path("two", name).read_bytes(), name

    def test_asymmetric_with_all_its_parameters(self):
        write_images(Path("photos"))
        assert small(
            "--variant", "asymmetric", "--outlier-std", "0.4", "--outlier-rank", "5",
            "--outlier-step", "2", "--outlier-weight", "0.1",
        ) == 0  # fmt: skip
        settings = load_dataset("set").card["report"]["settings"]
        assert settings["outlier"] == {"noise_std": 0.4, "rank": 5, "step": 2.0, "weight": 0.1}

    def test_an_idx_folder_and_classes_by_name(self):
        rng = np.random.default_rng(0)
        labels = np.arange(60, dtype=np.uint8) % 3
        images = (80 * labels[:, None, None] + rng.integers(0, 40, (60, 8, 8))).astype(np.uint8)
        Path("digits").mkdir()
        Path("digits/train-images-idx3-ubyte").write_bytes(encode_idx(images))
        Path("digits/train-labels-idx1-ubyte").write_bytes(encode_idx(labels))
        assert small("--classes", "0", "2", "--variant", "as-fitted", images="digits") == 0
        made = load_dataset("set")
        assert made.problem.class_names == ("0", "2")
        assert made.problem.variant == "as-fitted"
        assert "40 images" in made.card["source"]

    def test_all_subfolders_are_classes(self, capsys):
        write_images(Path("photos"))
        rng = np.random.default_rng(1)
        Path("photos/odd$_|").mkdir()
        for i in range(20):
            pixels = np.clip(120 + 60 * rng.normal(size=(8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(f"photos/odd$_|/{i:02}.png")
        assert small("--variant", "asymmetric", "--outlier-rank", "5") == 0
        out = capsys.readouterr().out
        assert "# dark, light and odd$_|, asymmetric" in out
        made = load_dataset("set")
        assert made.problem.class_names == ("dark", "light", "odd$_|")
        assert set(made.y_train.tolist()) == {0, 1, 2}
        assert (
            "the images in photos, classes dark, light and odd$_|, 60 images" in made.card["source"]
        )
        assert "distance to the nearest subspace of another class" in out
        assert "- Components: 2 of each class, with 2 factors." in out
        assert "| class | accuracy |" in out
        assert "| nearest known error of | dark | light | odd$_| |" in out
        assert (
            r"| nearest known error of | dark | light | odd\$\_\| |"
            in Path("set/card.md").read_text()
        )
        assert main(["dataset", "load", "set"]) == 0
        assert capsys.readouterr().out.split("Every file")[0] == out.split("Data set:")[0]
        with Image.open("set/samples.png") as sheet:
            assert sheet.size[0] > 500

    def test_some_of_many_classes(self, capsys):
        rng = np.random.default_rng(0)
        labels = np.arange(80, dtype=np.uint8) % 4
        images = (60 * labels[:, None, None] + rng.integers(0, 40, (80, 8, 8))).astype(np.uint8)
        Path("digits").mkdir()
        Path("digits/train-images-idx3-ubyte").write_bytes(encode_idx(images))
        Path("digits/train-labels-idx1-ubyte").write_bytes(encode_idx(labels))
        assert small("--classes", "3", "0", "2", images="digits") == 0
        made = load_dataset("set")
        assert made.problem.class_names == ("3", "0", "2")
        means = [float(density.mean.mean()) for density in made.problem.densities]
        assert means[0] > means[2] > means[1]
        capsys.readouterr()

    def test_several_classes_in_one_name(self):
        assert small(images="synthetic/a-b-c") == 0
        assert load_dataset("set").problem.class_names == ("a", "b", "c")
        assert small(images="synthetic", out="pair") == 0
        assert load_dataset("pair").problem.class_names == ("lying", "standing")

    def test_celeba_by_attribute(self):
        rng = np.random.default_rng(0)
        folder = Path("faces/img_align_celeba")
        folder.mkdir(parents=True)
        lines = ["40", "Smiling Male"]
        for i in range(40):
            name = f"{i + 1:06}.jpg"
            smiling = i % 2
            pixels = np.full((218, 178, 3), 60 + 100 * smiling) + rng.integers(0, 50, (218, 178, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            lines.append(f"{name} {1 if smiling else -1} -1")
        Path("faces/list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
        assert small("--celeba", "faces", "--attribute", "Smiling", "--size", "8",
                     images="celeba") == 0  # fmt: skip
        made = load_dataset("set")
        assert made.problem.class_names == ("not Smiling", "Smiling")
        assert made.problem.image_shape == (3, 8, 8)
        assert any("list_eval_partition.txt" in note for note in made.card["notes"])

    @pytest.mark.parametrize("out", [".", "link", "empty"])
    def test_an_empty_folder_is_filled_and_stays_itself(self, out, monkeypatch):
        write_images(Path("photos"))
        Path("empty").mkdir(mode=0o750)
        Path("link").symlink_to("empty")
        before = Path("empty").stat()
        if out == ".":
            monkeypatch.chdir("empty")
        assert small(out=out, images="../photos" if out == "." else "photos") == 0
        load_dataset(out)
        after = Path(out).stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
        assert not [path for path in Path(out).iterdir() if path.name.startswith(".")]

    def test_files_are_for_whom_the_umask_lets_read(self):
        write_images(Path("photos"))
        before = os.umask(0o027)
        try:
            assert small() == 0
        finally:
            os.umask(before)
        for path in [Path("set"), *Path("set").rglob("*")]:
            assert path.stat().st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path

    @pytest.mark.parametrize(
        ("name", "shown", "marked"),
        [
            ("cost$_$x", "cost$_$x", r"cost\$\_\$x"),
            ("a\x1b[31mb\nc", r"a\x1b[31mb\nc", r"a\\x1b\[31mb\\nc"),
            ("<b>|*x*", "<b>|*x*", r"&lt;b&gt;\|\*x\*"),
            (r"\frac{", r"\frac{", r"\\frac\{"),
            ("5_o_Clock", "5_o_Clock", "5_o_Clock"),
            ("x" * 200, "x" * 200, "x" * 200),
        ],
    )
    def test_a_class_may_be_called_anything(self, capsys, name, shown, marked):
        write_images(Path("photos"))
        Path("photos/dark").rename(Path("photos") / name)
        assert small("--classes", name, "light") == 0
        printed = capsys.readouterr()
        assert f"# {shown} against light, symmetric" in printed.out
        assert "\x1b" not in printed.out + printed.err
        text = Path("set/card.md").read_text()
        assert f"# {marked} against light, symmetric" in text
        assert "<b>" not in text
        assert load_dataset("set").problem.class_names == (name, "light")
        assert main(["dataset", "load", "set"]) == 0
        assert "\x1b" not in capsys.readouterr().out

    def test_the_card_tells_what_was_fitted_and_held_out(self, capsys):
        write_images(Path("photos"))
        assert small() == 0
        card = load_dataset("set").card
        for part, name in zip(card["fit"], ("dark", "light"), strict=True):
            assert part["class"] == name
            assert part["n_images"] == part["images_per_component"] == 18
            assert part["held_out"]["n_images"] == 2
            assert part["held_out"]["log_likelihood"] < part["log_likelihood"]
        text = capsys.readouterr().out
        assert "- Class dark: 18 images, 18 per component; log likelihood per image" in text
        assert "nats for these, " in text
        assert " for 2 held out." in text

    def test_few_images_for_many_factors_are_warned_of(self, capsys):
        write_images(Path("photos"), n=10)
        assert small("--factors", "100") == 0
        printed = capsys.readouterr()
        words = "Each component of class dark has 9 images on average, and with 100 factors"
        assert f"caution: {words}" in printed.err
        assert f"**Caution.** {words}" in printed.out
        assert f"**Caution.** {words}" in Path("set/card.md").read_text()
        assert [caution.startswith(words) for caution in load_dataset("set").card["cautions"]] == [
            True, False,
        ]  # fmt: skip

    def test_few_small_grey_images_get_as_many_components_as_they_can_tell_apart(self, capsys):
        rng = np.random.default_rng(0)
        for level, name in ((80, "dark"), (160, "light")):
            Path("grey", name).mkdir(parents=True)
            for i in range(45):
                pixels = (level + 20 * rng.normal(size=(4, 4))).astype(np.uint8)
                Image.fromarray(pixels).save(Path("grey", name, f"{i:02}.png"))
        words = ["grey", "--out", "set", "--n-train", "20", "--n-test", "10", "--factors", "0"]
        assert main(["dataset", "make", *words]) == 0
        said = capsys.readouterr().err
        assert "fitting mixtures of 2 components to 82 images ..." in said  # not MNIST's 25
        assert "aution" not in said

    def test_enough_images_are_not_warned_of(self, capsys):
        write_images(Path("photos"), n=40)
        assert small("--factors", "0", "--held-out", "0") == 0
        assert "aution" not in "".join(capsys.readouterr())
        made = load_dataset("set")
        assert made.card["cautions"] == []
        assert made.card["fit"][0]["n_images"] == 40
        assert made.card["fit"][0]["held_out"] is None
        assert made.problem.density_0.loadings.shape[-1] == 0  # none were asked for

    def test_test_images_are_those_held_out(self):
        rng = np.random.default_rng(0)
        labels = np.arange(60, dtype=np.uint8) % 2
        Path("digits").mkdir()
        for stem, n in (("train", 60), ("t10k", 20)):
            pixels = 80 * labels[:n, None, None] + rng.integers(0, 40, (n, 8, 8))
            file = Path("digits", f"{stem}-images-idx3-ubyte")
            file.write_bytes(encode_idx(pixels.astype(np.uint8)))
            Path("digits", f"{stem}-labels-idx1-ubyte").write_bytes(encode_idx(labels[:n]))
        assert small(images="digits") == 0
        fit = load_dataset("set").card["fit"]
        assert [(part["n_images"], part["held_out"]["n_images"]) for part in fit] == [(30, 10)] * 2


def test_cifar10_is_ten_classes_unless_some_are_named():
    folder = Path("photos/cifar-10-batches-bin")
    folder.mkdir(parents=True)
    table = np.zeros((20, 3073), np.uint8)
    table[:, 0] = np.arange(20) % 10
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(table.tobytes())
    found = dataset._read("photos", (), None, None, None, 0, 0.1)
    assert found.class_names == CIFAR10_CLASSES
    assert np.bincount(found.y).tolist() == [10] * 10
    assert np.bincount(found.held_out[1]).tolist() == [2] * 10
    assert found.source.startswith("CIFAR-10, classes airplane, automobile, ")
    some = dataset._read("photos", ("cat", "dog", "bird"), None, None, None, 0, 0.1)
    assert np.bincount(some.y).tolist() == [10] * 3


@pytest.mark.parametrize(
    ("typed", "classes", "rest"),
    [
        ("mnist --out d --classes 0 6", ["0", "6"], ["mnist", "--out", "d"]),
        ("mnist --classes 0 6 7 --out d", ["0", "6", "7"], ["mnist", "--out", "d"]),
        ("--classes 0 6 7 --out=d mnist", ["0", "6", "7"], ["--out=d", "mnist"]),
        ("--out d --classes 0 6 mnist", ["0", "6"], ["mnist", "--out", "d"]),
        ("mnist --classes=0 6 --seed 1", ["0", "6"], ["mnist", "--seed", "1"]),
        ("mnist --classes 0 -1 --equalise-spectrum", ["0", "-1"], ["mnist", "--equalise-spectrum"]),
        ("--equalise-spectrum --classes a b c", ["a", "b"], ["c", "--equalise-spectrum"]),
        ("--classes a b c -- mnist", ["a", "b", "c"], ["--", "mnist"]),
        ("mnist --out d", [], ["mnist", "--out", "d"]),
    ],
)
def test_classes_are_names_up_to_the_next_option(typed, classes, rest):
    command = typer.main.get_command(dataset.app).commands["make"]
    expected = [word for name in classes for word in ("--classes", name)]
    assert command._one_name_each(typed.split()) == expected + rest


class TestMistakes:
    def expect(self, capsys, status, *words):
        errors = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert status == 2
        assert errors[-1].startswith("trueboundary: ")
        for word in words:
            assert word in errors[-1]
        assert not Path("set").exists()
        assert not [path for path in Path().iterdir() if path.name.startswith(".")]

    def test_names_of_files_do_not_steer_the_terminal(self, capsys):
        self.expect(capsys, small(images="\x1b[31mnowhere"), r"no images at \x1b[31mnowhere")
        write_images(Path("photos"))
        Path("photos/dark/\x1b[2J.png").write_bytes(b"none")
        self.expect(capsys, small(), r"photos/dark/\x1b[2J.png is not an image")

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--noise-std", "1e200"),
            ("--noise-std", "1e-200"),
            ("--outlier-std", "1e200"),
            ("--outlier-step", "1e200"),
            ("--seed", str(2**32)),
        ],
    )
    def test_what_no_float_holds_is_refused_before_the_images_are_read(self, capsys, option, value):
        self.expect(capsys, small(option, value, images="nowhere"), option, "got")

    def test_points_without_room_are_refused_before_the_fit(self, capsys):
        write_images(Path("photos"))
        status = small("--n-train", "1" + 13 * "0")
        self.expect(capsys, status, "10,000,000,000,030 points", "GB left")

    def test_a_disk_that_is_full_is_said_in_one_sentence(self, capsys, monkeypatch):
        def full(*_, **__):
            raise SafetensorError("Error while serializing: No space left on device")

        monkeypatch.setattr("trueboundary.datasets.dataset_folders.save_file", full)
        write_images(Path("photos"))
        self.expect(capsys, small(), "could not be written to set", "No space left", "kept")

    def test_no_images(self, capsys):
        says = ("there are no images at nowhere", "one subfolder of images per class, such as")
        self.expect(capsys, small(images="nowhere"), *says)

    def test_an_empty_folder(self, capsys):
        Path("photos").mkdir()
        says = ("at least two subfolders", "such as photos/cats and photos/dogs")
        self.expect(capsys, small(), *says)

    def test_two_folders_that_are_the_classes(self, capsys):
        for name in ("cats", "dogs"):
            Path(name).mkdir()
        status = main(["dataset", "make", "cats", "dogs", "--out", "set"])
        self.expect(capsys, status, "one subfolder of images per class, got cats and dogs")
        status = main(["dataset", "make", "cats", "d" * 999, "--out", "set"])
        self.expect(capsys, status, "unexpected extra argument")

    def test_a_file_that_is_no_image(self, capsys):
        write_images(Path("photos"))
        Path("photos/dark/00.png").write_bytes(b"not an image")
        self.expect(capsys, small(), "photos/dark/00.png")

    def test_mixed_sizes(self, capsys):
        write_images(Path("photos"))
        Image.new("RGB", (9, 9)).save("photos/dark/zz.png")
        self.expect(capsys, small(), "--size 64 on the command line")

    def test_an_unknown_class(self, capsys):
        write_images(Path("photos"))
        self.expect(capsys, small("--classes", "dark", "lihgt"), "did you mean 'light'")

    def test_one_class_alone(self, capsys):
        write_images(Path("photos"))
        shutil.rmtree("photos/dark")
        self.expect(capsys, small(), "at least two subfolders, one per class, got 1")

    def test_a_class_without_images(self, capsys):
        write_images(Path("photos"))
        Path("photos/other").mkdir()
        self.expect(capsys, small(), "photos/other holds no images; fill it or remove it")
        labels = np.arange(20, dtype=np.uint8) % 2 * 2
        Path("digits").mkdir()
        Path("digits/train-images-idx3-ubyte").write_bytes(
            encode_idx(np.zeros((20, 8, 8), np.uint8))
        )
        Path("digits/train-labels-idx1-ubyte").write_bytes(encode_idx(labels))
        self.expect(capsys, small(images="digits"), "class '1' has no images here")

    def test_a_class_named_twice(self, capsys):
        write_images(Path("photos"))
        self.expect(capsys, small("--classes", "dark", "dark"), "classes, got 'dark' twice")
        twice = small("--classes", "dark", "light", "--classes", "dark", "light")
        self.expect(capsys, twice, "--classes is given twice; give all names at once")

    def test_classes_of_a_pair_that_is_named_already(self, capsys):
        status = small("--classes", "0", "6", "8", images="mnist/0-6")
        self.expect(capsys, status, "names its classes already; leave --classes out")

    def test_more_outliers_than_directions(self, capsys):
        write_images(Path("photos"))
        write_images(Path("more"))
        Path("more/dark").rename("photos/other")
        status = small("--variant", "asymmetric", "--outlier-rank", "53")
        self.expect(capsys, status, "at most 52 here, since 3 classes take 2 of the 53")

    def test_an_unknown_variant(self, capsys):
        write_images(Path("photos"))
        self.expect(capsys, small("--variant", "symetric"), "did you mean 'symmetric'")

    def test_numbers_out_of_range(self, capsys):
        write_images(Path("photos"))
        self.expect(capsys, small("--components", "50"), "50 components need at least as many im")
        self.expect(capsys, small("--factors", "193"), "--factors must be at most the number of p")
        asymmetric = small("--variant", "asymmetric", "--outlier-rank", "60")
        self.expect(capsys, asymmetric, "outlier rank")

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--noise-std", "-1"), ("--noise-std", "0"), ("--noise-std", "nan"),
            ("--noise-std", "inf"), ("--components", "0"), ("--factors", "-1"),
            ("--max-iter", "0"), ("--n-train", "0"), ("--n-test", "-3"), ("--size", "0"),
            ("--outlier-std", "0"), ("--outlier-rank", "0"), ("--outlier-step", "nan"),
            ("--outlier-weight", "1"), ("--outlier-weight", "0"), ("--held-out", "1"),
            ("--held-out", "-.1"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("variant", ["symmetric", "asymmetric", "as-fitted"])
    def test_numbers_out_of_range_are_refused_before_anything_is_read(
        self, capsys, option, value, variant
    ):
        # There are no photos: the number is said to be wrong before they are looked for.
        self.expect(capsys, small(option, value, "--variant", variant), option, "must")

    @pytest.mark.parametrize(
        ("typed", "words"),
        [
            (
                ["--classes", "0", "--out", "d"],
                "--classes takes two names or more, as in --classes cats do",
            ),
            (["--classes", "0", "--out=d"], "got only '0' before --out=d"),
            (["--classes=0", "--out", "d"], "got only '0' before --out"),
            (
                ["--out", "d", "--classes", "cats,dogs", "--seed", "1"],
                "got only 'cats,dogs' before",
            ),
            (["--out", "d", "--classes", "0"], "got only '0'"),
            (["--classes", "--out", "d"], "got only 'none' before --out"),
        ],
    )
    def test_one_class_where_two_are_needed(self, capsys, typed, words):
        self.expect(capsys, main(["dataset", "make", "mnist", *typed]), words)

    def test_places_where_nothing_can_be_made(self, capsys):
        Path("file").write_text("mine")
        Path("nowhere").symlink_to("gone")
        Path("loop").symlink_to("loop")
        for out, words in (
            ("file", "is there already"),
            ("file/set", "cannot write to"),
            ("nowhere", "is a link to gone, where there is nothing"),
            ("loop", "is a link to loop"),
        ):
            # Said before the photos are looked for, which are not there.
            self.expect(capsys, small(out=out), words)
        assert Path("file").read_text() == "mine"

    def test_celeba_without_a_place_or_an_attribute(self, capsys):
        self.expect(capsys, small(images="celeba"), "TRUEBOUNDARY_CELEBA")
        self.expect(capsys, small("--celeba", "faces", images="celeba"), "--attribute Smiling")
        self.expect(capsys, small("--attribute", "Smiling", images="mnist"), "--celeba PATH")

    def test_a_size_for_images_that_have_one(self, capsys):
        self.expect(capsys, small("--size", "8", images="mnist"), "--size is for image folders")

    def test_a_folder_that_is_there_already(self, capsys):
        write_images(Path("photos"))
        status = small(out="photos")
        assert "is there already" in capsys.readouterr().err
        assert status == 2
        assert {path.name for path in Path("photos").iterdir()} == {"dark", "light"}

    def test_load_without_a_data_set(self, capsys):
        self.expect(capsys, main(["dataset", "load", "nowhere"]), "holds no data set")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    x = 0.3 + 0.4 * y[:, None] + 0.1 * rng.normal(size=(80, 16))
    problem = fit_image_problem(x, y, image_shape=(1, 4, 4), n_components=1, n_factors=2)
    folder = tmp_path_factory.mktemp("once") / "made"
    sizes = {"n_train": 50, "n_test": 30, "n_certified": 20, "n_accuracy": 100}
    return folder, make_dataset(problem, folder, **sizes, seed=1)


@pytest.fixture
def made(made_once, tmp_path):
    """A data set in the folder `made`, a copy that a test may damage."""
    folder, dataset = made_once
    shutil.copytree(folder, tmp_path / "made")
    return dataset


def test_python_round_trip(made, tmp_path):
    again = load_dataset(tmp_path / "made")
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(made, name), getattr(again, name))
    assert again.card == made.card
    assert again.problem.describe() == made.problem.describe()


def test_training_and_test_points_are_different_draws(made):
    assert not torch.isin(made.x_train[:, 0], made.x_test[:, 0]).any()


def test_the_card_says_what_is_measured(made):
    card = made.card
    correct = made.problem.bayes_classifier(dtype=torch.float64).predict(made.x_test) == made.y_test
    assert card["accuracy"]["n_points"] == 200
    assert correct.double().mean() >= card["accuracy"]["low"] - 0.1
    shares = [entry["value"] for entry in card["certified"]["accuracy"]]
    assert shares == sorted(shares, reverse=True)
    assert card["certified"]["n_points"] == 20
    outside = ((made.x_test < 0) | (made.x_test > 1)).double().mean().item()
    assert card["out_of_range"] == pytest.approx(outside)


def test_the_card_brackets_the_true_distances():
    # Of two spherical Gaussians of one size the optimal boundary is the plane between the means.
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 100)
    x = 0.4 + 0.1 * y[:, None] + 0.05 * rng.normal(size=(200, 16))
    problem = fit_image_problem(
        x, y, image_shape=(1, 4, 4), n_components=1, n_factors=0, noise_std=0.1
    )
    points, labels = problem.sample(20_000, generator=torch.Generator().manual_seed(0))
    card = measure_card(problem, points, labels, n_certified=400, n_accuracy=100)
    zero, one = (mixture.means[0] for mixture in (problem.density_0, problem.density_1))
    normal = (one - zero) / (one - zero).norm()
    beyond = (points.double() - (zero + one) / 2) @ normal * (2 * labels - 1)
    true = beyond.clamp(min=0).numpy()
    assert 0.01 < (beyond < 0).double().mean() < 0.2
    certified, found = card["certified"], card["found"]
    assert certified["n_points"] == 400
    assert abs(certified["mean"] - true.mean()) < 4 * true.std() / 20
    assert abs(certified["median"] - np.median(true)) < 6 * true.std() / 20
    assert certified["mean"] <= found["mean"] < 1.001 * certified["mean"]
    assert found["close"] == 1


def test_the_card_of_three_classes_against_true_distances():
    """Spheres of one size at the corners of a triangle: the boundary is that of Voronoi's cells."""
    means = 0.5 * torch.eye(3, 9, dtype=torch.float64)
    classes = [
        MixtureOfFactorAnalyzers(torch.ones(1).double(), m[None], means.new_zeros(1, 9, 0), 0.04)
        for m in means
    ]
    problem = ImageProblem(*classes, image_shape=(1, 3, 3), class_names=("a", "b", "c"))
    points, labels = problem.sample(100, generator=torch.Generator().manual_seed(0))
    card = measure_card(problem, points, labels, n_certified=99, n_accuracy=2_000)
    assert sum(card["accuracy"]["n_errors"]) > 100
    for label, of_class in enumerate(card["by_class"]):
        x, _ = problem.block(
            0, seed=0, block_size=33, label=label, dtype=torch.float64, purpose="distances"
        )
        to_others = torch.full((33, 3), torch.inf, dtype=torch.float64)
        for other in range(3):
            if other != label:
                normal = (means[other] - means[label]) / (means[other] - means[label]).norm()
                to_others[:, other] = ((means[other] + means[label]) / 2 - x) @ normal
        true = to_others.amin(1).clamp(min=0)
        assert of_class["class"] == "abc"[label]
        assert of_class["median_radius"] == pytest.approx(true.median().item(), rel=1e-6)
        assert of_class["median_found"] == pytest.approx(true.median().item(), rel=1e-6)
        assert of_class["median_relative_width"] < 1e-6
        nearest = torch.bincount(to_others.argmin(1), minlength=3)
        assert of_class["nearest"] == nearest.tolist()
        rate = of_class["accuracy"]
        assert rate["n_errors"] == card["accuracy"]["n_errors"][label]
        assert rate["low"] < rate["value"] < rate["high"]
    assert card["found"]["median_relative_width"] < 1e-6
    assert card["certified"]["n_points"] == 99


def test_cards_of_two_classes_say_nothing_by_class(made):
    assert "by_class" not in made.card
    assert "median_relative_width" not in made.card["found"]


def test_a_card_from_before_errors_were_looked_for_is_read(made, tmp_path):
    file = tmp_path / "made" / "card.json"
    card = resealed(without(strict_json.loads(file.read_text()), "found"))
    file.write_text(strict_json.dumps(card))
    assert "a known error" in card_text(made.card)
    assert "a known error" not in card_text(load_dataset(tmp_path / "made").card)


@pytest.mark.parametrize("name", ["train.safetensors", "samples.png", "problem/density.json"])
def test_damage_and_loss_are_found(made, tmp_path, name):
    del made
    file = tmp_path / "made" / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{name} is not the file"):
        load_dataset(tmp_path / "made")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        load_dataset(tmp_path / "made")


def test_a_card_of_something_else_is_refused(made, tmp_path):
    del made
    card = tmp_path / "made" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        load_dataset(tmp_path / "made")
    card.write_text("{")
    with pytest.raises(ValueError, match="not a data set's card"):
        load_dataset(tmp_path / "made")


def resealed(card):
    """Return a card with the checksum of what it says now, as whoever forges one would."""
    said = {name: value for name, value in card.items() if name != "checksum"}
    return {**said, "checksum": hashlib.sha256(strict_json.dumps(said).encode()).hexdigest()}


def without(card, name):
    return {key: value for key, value in card.items() if key != name}


FORGERIES = {
    "a format that is true": (lambda c: {**c, "format": True}, "format is no whole number"),
    "no files": (lambda c: {**c, "files": {}}, "must name the files"),
    "a file less": (
        lambda c: {**c, "files": without(c["files"], "test.safetensors")},
        "must name the files",
    ),
    "a file elsewhere": (
        lambda c: {**c, "files": {**c["files"], "../../x": "0" * 64}},
        "must name the files",
    ),
    "no checksum of a file": (
        lambda c: {**c, "files": {**c["files"], "card.md": 3}},
        "checksum of card.md is none",
    ),
    "a number as text": (
        lambda c: {**c, "accuracy": {**c["accuracy"], "value": "very\x1b[31m high"}},
        "not a data set's card",
    ),
    "an error nowhere": (lambda c: {**c, "found": 3}, "not a data set's card"),
    "no notes": (lambda c: without(c, "notes"), "it lacks 'notes'"),
    "no number of points": (lambda c: {**c, "n_train": -1}, "n_train is no number of points"),
    "fewer points": (lambda c: {**c, "n_train": 49}, "train.safetensors should hold 49 points"),
    "many points": (lambda c: {**c, "n_train": 10**12}, "should hold 1,000,000,000,000 points"),
    "other names": (
        lambda c: {**c, "problem": {**c["problem"], "class_names": ["1", "0"]}},
        "is of another problem",
    ),
    "another shape": (
        lambda c: {**c, "problem": {**c["problem"], "image_shape": [1, 2, 8]}},
        "is of another problem",
    ),
    "a list": (lambda _: [1, 2], "not a data set's card"),
    "a format that is none": (lambda c: {**c, "format": [2]}, "has format"),
}


@pytest.mark.parametrize(("forge", "message"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_card_is_refused_in_one_sentence(made, tmp_path, capsys, forge, message):
    file = tmp_path / "made" / "card.json"
    forged = forge(strict_json.loads(file.read_text()))
    file.write_text(strict_json.dumps(resealed(forged) if isinstance(forged, dict) else forged))
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "made")
    assert main(["dataset", "load", str(tmp_path / "made")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_every_change_of_the_card_is_noticed(made, tmp_path):
    file = tmp_path / "made" / "card.json"
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 150, replace=False):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        file.write_bytes(changed)
        try:
            assert load_dataset(tmp_path / "made").card == made.card  # white space, for instance
        except (ValueError, FileNotFoundError):
            continue


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"", b"null", b"3", b'{"format": 2}'],
)
def test_a_card_that_is_none_is_refused(made, tmp_path, content):
    del made
    (tmp_path / "made/card.json").write_bytes(content)
    with pytest.raises(ValueError, match="not a data set's card"):
        load_dataset(tmp_path / "made")


def change_points(folder, *changes):
    """Write the points of a part anew, with the checksums that belong to them."""
    file = folder / "card.json"
    card = strict_json.loads(file.read_text())
    for name, content in changes:
        (folder / name).write_bytes(content)
        card["files"][name] = hashlib.sha256(content).hexdigest()
    file.write_text(strict_json.dumps(resealed(card)))


def test_points_of_another_part_or_kind_are_refused(made, tmp_path):
    folder = tmp_path / "same"
    sizes = {"n_train": 30, "n_test": 30, "n_certified": 5, "n_accuracy": 10}
    made = make_dataset(made.problem, folder, **sizes)
    train, test = ((folder / f"{part}.safetensors").read_bytes() for part in ("train", "test"))
    change_points(folder, ("train.safetensors", test), ("test.safetensors", train))
    with pytest.raises(ValueError, match=r"train\.safetensors holds the points of another part"):
        load_dataset(folder)
    change_points(folder, ("test.safetensors", test))
    metadata = {"part": "train"}
    for points, message in (
        ({"x": made.x_train.double(), "y": made.y_train}, "holds something else"),
        ({"x": made.x_train[:, :8], "y": made.y_train}, "holds something else"),
        ({"x": made.x_train, "y": made.y_train + 1}, "holds something else"),
        ({"x": made.x_train * np.nan, "y": made.y_train}, "holds something else"),
        ({"x": made.x_train}, "holds something else"),
    ):
        points = {name: tensor.contiguous() for name, tensor in points.items()}
        change_points(folder, ("train.safetensors", format_safetensors(points, metadata)))
        with pytest.raises(ValueError, match=f"(?s){message}|is larger than"):
            load_dataset(folder)
    change_points(folder, ("train.safetensors", b"\xff" * 100))
    with pytest.raises(ValueError, match="cannot be read"):
        load_dataset(folder)
    change_points(folder, ("train.safetensors", train))
    load_dataset(folder)


def test_a_data_set_cannot_reach_out_of_its_folder(made, tmp_path):
    del made
    folder = tmp_path / "made"
    for name in ("card.md", "problem", "card.json"):
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match="leads out of the data set's folder"):
            load_dataset(folder)
        (folder / name).unlink()
        (tmp_path / "elsewhere").rename(folder / name)
    (folder / "card.md").unlink()
    os.mkfifo(folder / "card.md")
    with pytest.raises(FileNotFoundError, match=r"card\.md is missing"):
        load_dataset(folder)
    (folder / "card.json").write_bytes(b" " * (2**24 + 1))
    with pytest.raises(ValueError, match=r"card\.json is larger than"):
        load_dataset(folder)


def test_a_data_set_of_the_first_format_is_read(made, tmp_path):
    folder = tmp_path / "made"
    card = strict_json.loads((folder / "card.json").read_text())
    for name in ("checksum", "fit", "cautions"):
        del card[name]
    card["format"] = 1
    for part in ("train", "test"):
        points = {"x": getattr(made, f"x_{part}"), "y": getattr(made, f"y_{part}")}
        content = format_safetensors(points)
        (folder / f"{part}.safetensors").write_bytes(content)
        card["files"][f"{part}.safetensors"] = hashlib.sha256(content).hexdigest()
    (folder / "card.json").write_text(strict_json.dumps(card))
    assert torch.equal(load_dataset(folder).x_test, made.x_test)
    assert main(["dataset", "load", str(folder)]) == 0


def test_what_was_made_is_not_deleted_where_it_cannot_be_moved(made, tmp_path, monkeypatch):
    drafts, rename = [], os.rename

    def fail(draft, place):
        if place.name != "busy":
            return rename(draft, place)
        drafts.append(draft)
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr("trueboundary.new_folders.os.rename", fail)
    problem, sizes = made.problem, {"n_train": 5, "n_test": 5, "n_accuracy": 10}
    with pytest.raises(
        OSError, match=r"could not take .* \(Device or resource busy\); it lies compl"
    ):
        make_dataset(problem, tmp_path / "busy", **sizes)
    monkeypatch.undo()
    assert load_dataset(drafts[0]).x_train.shape == (5, 16)


def test_images_of_a_sheet_do_not_touch(made, tmp_path):
    with Image.open(tmp_path / "made" / "samples.png") as sheet:
        grey = np.asarray(sheet.convert("L"))
    # Between two rows or columns of images lies a white line across the sheet.
    white = (grey == 255).all(axis=1)
    rows = np.flatnonzero(np.diff(white.astype(int)) == 1)
    assert len(rows) >= 4, "two rows of images for each of two classes"
    columns = (grey == 255)[rows[-2] + 1 - 5 : rows[-2] + 1].all(axis=0)
    assert (np.diff(columns.astype(int)) == 1).sum() >= 9
    zeros = np.zeros((15, 20))
    picture = tile([zeros[:10], zeros[10:]], (1, 4, 5), gap=2)
    assert picture.shape == (2 * 4 + 2, 10 * 5 + 9 * 2, 1)
    assert (picture[4:6] == 1).all()
    assert all((picture[:, 7 * i + 5 : 7 * i + 7] == 1).all() for i in range(9))
    assert (picture[:4, :5] == 0).all()
    assert (picture[6:, 7 * 5 :] == 1).all()  # no images there


def test_nothing_half_written_stays(made, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("trueboundary.datasets.dataset_folders._write_sheet", fail)
    with pytest.raises(OSError, match="disk full"):
        make_dataset(made.problem, tmp_path / "half", n_train=5, n_test=5, n_accuracy=10)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert os.access(tmp_path / "made", os.R_OK)
