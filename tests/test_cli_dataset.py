"""Data sets on disk: made and read by command, complete or absent, one sentence per mistake."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trueboundary.cli import main
from trueboundary.data import encode_idx
from trueboundary.datasets import load_dataset, make_dataset
from trueboundary.problems import fit_image_problem


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
    return main(
        ["dataset", "make", images, "--out", out, "--n-train", "60", "--n-test", "30",
         "--components", "1", "--factors", "2", *arguments]
    )  # fmt: skip


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


class TestMistakes:
    def expect(self, capsys, status, *words):
        errors = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert status == 2
        assert errors[-1].startswith("trueboundary: ")
        for word in words:
            assert word in errors[-1]
        assert not Path("set").exists()
        assert not [path for path in Path().iterdir() if path.name.startswith(".")]

    def test_no_images(self, capsys):
        self.expect(capsys, small(images="nowhere"), "there are no images at nowhere")

    def test_an_empty_folder(self, capsys):
        Path("photos").mkdir()
        self.expect(capsys, small(), "at least two subfolders")

    def test_a_file_that_is_no_image(self, capsys):
        write_images(Path("photos"))
        Path("photos/dark/00.png").write_bytes(b"not an image")
        self.expect(capsys, small(), "photos/dark/00.png")

    def test_mixed_sizes(self, capsys):
        write_images(Path("photos"))
        Image.new("RGB", (9, 9)).save("photos/dark/zz.png")
        self.expect(capsys, small(), "size=")

    def test_an_unknown_class(self, capsys):
        write_images(Path("photos"))
        self.expect(capsys, small("--classes", "dark", "lihgt"), "did you mean 'light'")

    def test_more_classes_than_two(self, capsys):
        write_images(Path("photos"))
        Path("photos/other").mkdir()
        Image.new("RGB", (8, 8)).save("photos/other/1.png")
        self.expect(capsys, small(), "--classes A B", "dark, light, other")

    def test_an_unknown_variant(self, capsys):
        write_images(Path("photos"))
        self.expect(capsys, small("--variant", "symetric"), "did you mean 'symmetric'")

    def test_numbers_out_of_range(self, capsys):
        write_images(Path("photos"))
        self.expect(capsys, small("--noise-std", "0"), "noise_std")
        self.expect(capsys, small("--components", "50"), "at least as many rows")
        self.expect(capsys, small("--n-test", "0"), "--n-test must be at least 1")
        asymmetric = small("--variant", "asymmetric", "--outlier-rank", "60")
        self.expect(capsys, asymmetric, "outlier rank")

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


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    x = 0.3 + 0.4 * y[:, None] + 0.1 * rng.normal(size=(80, 16))
    problem = fit_image_problem(x, y, image_shape=(1, 4, 4), n_components=1, n_factors=2)
    return make_dataset(
        problem, tmp_path / "made", n_train=50, n_test=30, n_certified=20, n_accuracy=100, seed=1
    )


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


def test_nothing_half_written_stays(made, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("trueboundary.datasets._write_sheet", fail)
    with pytest.raises(OSError, match="disk full"):
        make_dataset(made.problem, tmp_path / "half", n_train=5, n_test=5, n_accuracy=10)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert os.access(tmp_path / "made", os.R_OK)
