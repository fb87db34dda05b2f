"""Points written for other programs: they read back what was drawn, with the labels of the problem.

Folders are read here by what torchvision and Hugging Face document of theirs: classes numbered by
the sorted names of subfolders, and a table whose `file_name` is relative to its own folder.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trueboundary import zoo
from trueboundary.cli import main
from trueboundary.data import load_image_folder
from trueboundary.datasets import export_arrays, export_images, load_dataset, make_dataset
from trueboundary.datasets.exports import _folder_names
from trueboundary.problems import ConcentricSpheres, fit_image_problem
from trueboundary.runs import strict_json


def fitted(channels=1, class_names=("blue", "green", "red"), private=False):
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    x = 0.2 + 0.2 * y[:, None] + 0.15 * rng.normal(size=(150, 16 * channels))
    return fit_image_problem(
        x, y, image_shape=(channels, 4, 4), n_components=1, n_factors=2, class_names=class_names,
        private=private,
    )  # fmt: skip


def image_folder(folder: Path) -> list[tuple[Path, int]]:
    """Return the files and labels that torchvision's ImageFolder finds."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((folder / name).glob("*.png"))
    ]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        array = np.asarray(image, dtype=np.float64) / 255
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


@pytest.mark.parametrize("channels", [1, 3])
class TestImages:
    def test_images_are_the_points_to_half_a_grey_level(self, tmp_path, channels):
        problem = fitted(channels)
        export_images(problem, tmp_path / "out", {"train": 30, "test": 20}, seed=3)
        for split, n in (("train", 30), ("test", 20)):
            points = problem.dataset(n, split=split, seed=3, as_images=True)
            found = image_folder(tmp_path / "out" / split)
            assert len(found) == n
            for file, label in found:
                x, y = points[int(file.stem)]
                assert label == y
                inside = x.double().numpy().clip(0, 1)
                assert np.abs(pixels(file) - inside).max() <= 0.5 / 255 + 1e-12

    def test_the_table_says_of_each_image_what_is_known(self, tmp_path, channels):
        problem = fitted(channels)
        change = export_images(problem, tmp_path / "out", {"test": 40}, seed=1)
        points = problem.dataset(40, split="test", seed=1)
        x = points.x.double()
        rows = table(tmp_path / "out" / "test")
        assert len(rows) == len({row["file_name"] for row in rows}) == 40
        # Independent of how they were computed: normal densities from whole covariances.
        densities = []
        for density in problem.densities:
            noise = torch.diag(density.noise_variance.double().expand(1, x.shape[1])[0])
            spread = density.loadings[0].double()
            normal = torch.distributions.MultivariateNormal(
                density.means[0].double(), spread @ spread.T + noise
            )
            densities.append(normal)
        logs = torch.stack([density.log_prob(x) for density in densities], dim=1)
        for i, row in enumerate(rows):
            label = int(row["label"])
            assert label == points.y[i]
            assert row["class_name"] == problem.class_names[label]
            own = float(logs[i, label])
            other = float(logs[i].index_fill(0, torch.tensor(label), -np.inf).max())
            assert float(row["log_density"]) == pytest.approx(own, rel=1e-6, abs=1e-6)
            assert float(row["log_ratio"]) == pytest.approx(own - other, rel=1e-6, abs=1e-6)
            image = pixels(tmp_path / "out" / "test" / row["file_name"]).ravel()
            moved = np.linalg.norm(image - x[i].numpy())
            assert float(row["change"]) == pytest.approx(moved, rel=1e-9)
        changes = [float(row["change"]) for row in rows]
        assert change.largest == max(changes)
        assert change.mean == pytest.approx(np.mean(changes))

    def test_arrays_beside_the_images_are_exact(self, tmp_path, channels):
        problem = fitted(channels)
        export_images(problem, tmp_path / "out", 12, arrays=True)
        points = problem.dataset(12, as_images=True)
        for file, _ in image_folder(tmp_path / "out"):
            array = np.load(file.with_suffix(".npy"))
            assert array.dtype == np.float32
            assert (array == points[int(file.stem)][0].numpy()).all()


def test_distances_enclose_the_nearest_error_of_the_optimal_classifier(tmp_path):
    problem = fitted()
    export_images(problem, tmp_path / "out", {"test": 12}, distances=True)
    optimal = problem.bayes_classifier(dtype=torch.float64)
    points = problem.dataset(12, split="test", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    for row, x, label in zip(
        table(tmp_path / "out" / "test"), points.x.double(), points.y, strict=True
    ):
        lower, upper = float(row["distance_lower"]), float(row["distance_upper"])
        assert 0 <= lower <= upper < np.inf
        # No random point nearer than the lower end is an error.
        way = torch.randn(2000, 16, generator=generator, dtype=torch.float64)
        near = x + 0.999 * lower * way / way.norm(dim=1, keepdim=True)
        assert bool((optimal.predict(near) == label).all())


def test_how_many_decisions_change_is_counted(tmp_path):
    problem = fitted()
    change = export_images(problem, tmp_path / "out", {"test": 200})
    points = problem.dataset(200, split="test")
    optimal = problem.bayes_classifier(dtype=torch.float64)
    images = np.stack([
        pixels(tmp_path / "out" / "test" / row["file_name"]).ravel()
        for row in table(tmp_path / "out" / "test")
    ])  # fmt: skip
    differ = optimal.predict(points.x.double()) != optimal.predict(torch.from_numpy(images))
    assert change.n_decisions == int(differ.sum())
    card = strict_json.loads((tmp_path / "out" / "export.json").read_text())
    assert card["change"]["n_decisions"] == change.n_decisions
    assert card["schema"] == "1.0"
    assert str(change) in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("0", "6"), ("0", "6")),
        (tuple("0123456789"), tuple("0123456789")),
        (("dog", "cat"), ("0_dog", "1_cat")),  # else a reader would take class 1 for class 0
        (("a", "A"), ("0_a", "1_A")),  # one name on some disks
        (("..", "/etc/x"), ("0", "1__etc_x")),
        (("a/b", "a:b"), ("0_a_b", "1_a_b")),
        (tuple(map(str, range(11))), tuple(f"{i:02d}_{i}" for i in range(11))),
    ],
)
def test_folders_of_classes_are_safe_and_in_the_order_of_the_labels(names, folders):
    found = _folder_names(names)
    assert found == tuple(f.strip() for f in folders) or found[0].startswith("0_")
    assert list(found) == sorted(found)
    assert len({name.casefold() for name in found}) == len(names)
    assert not any(
        "/" in name or name in (".", "..") or name.endswith((".", " ")) for name in found
    )


def test_our_own_reader_of_image_folders_takes_it(tmp_path):
    export_images(fitted(), tmp_path / "out", {"train": 30, "test": 10})
    data = load_image_folder(tmp_path / "out" / "train")
    assert data.class_names == ("blue", "green", "red")
    assert len(data) == 30


def test_arrays_of_any_problem(tmp_path):
    problem = ConcentricSpheres(dim=5)
    export_arrays(problem, tmp_path / "out", {"train": 30, "test": 10}, seed=2)
    for split, n in (("train", 30), ("test", 10)):
        x, y = problem.to_numpy(n, split=split, seed=2)
        assert (np.load(tmp_path / "out" / f"x_{split}.npy") == x).all()
        assert (np.load(tmp_path / "out" / f"y_{split}.npy") == y).all()
    with pytest.raises(TypeError, match="no images"):
        export_images(problem, tmp_path / "images")
    assert not (tmp_path / "images").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "set"
    make_dataset(fitted(), folder, n_train=40, n_test=20, n_accuracy=50)
    return folder


class TestDataSets:
    def test_its_own_points_are_written(self, folder, tmp_path):
        made = load_dataset(folder)
        export_images(made, tmp_path / "out", arrays=True)
        for split, n in (("train", 40), ("test", 20)):
            rows = table(tmp_path / "out" / split)
            assert len(rows) == n
            x = np.stack([
                np.load((tmp_path / "out" / split / row["file_name"]).with_suffix(".npy")).ravel()
                for row in rows
            ])  # fmt: skip
            assert (x == getattr(made, f"x_{split}").numpy()).all()

    def test_more_than_it_has_are_refused(self, folder, tmp_path):
        with pytest.raises(ValueError, match="has 20 points of 'test', expected 21"):
            export_arrays(load_dataset(folder), tmp_path / "out", {"test": 21})

    def test_by_command(self, folder, tmp_path, capsys):
        out = tmp_path / "out"
        assert main(["dataset", "export", str(folder), "--out", str(out), "--n-train", "0"]) == 0
        assert "8 bits" in capsys.readouterr().out
        assert sorted(path.name for path in out.iterdir()) == ["README.md", "export.json", "test"]

    def test_a_data_set_of_faces_is_refused_also_where_an_older_one_does_not_say(
        self, folder, tmp_path
    ):
        made = load_dataset(folder)
        made.card["source"] = "CelebA at 32 x 32, not Male against Male, 100 images"
        assert made.is_private
        with pytest.raises(ValueError, match="show people"):
            export_images(made, tmp_path / "out")


class TestBadInput:
    def test_faces_are_refused_in_one_sentence(self, tmp_path):
        problem = fitted(private=True)
        assert problem.is_private
        for write in (export_images, export_arrays):
            with pytest.raises(ValueError, match=r"^these images show people[^\n]*\.$"):
                write(problem, tmp_path / "out", 5)
        assert not (tmp_path / "out").exists()
        problem.save(tmp_path / "kept")
        assert type(problem).load(tmp_path / "kept").is_private

    def test_nothing_is_overwritten(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("work")
        with pytest.raises(FileExistsError, match="not replaced"):
            export_images(fitted(), tmp_path / "out", 5)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]

    def test_what_is_interrupted_leaves_nothing(self, tmp_path):
        def stop(what, fraction):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export_images(fitted(), tmp_path / "out", 5, progress=stop)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "sizes", [0, {"train": 0}, {}, {"../train": 5}, {"a/b": 5}, {".": 5}, {"": 2.5}]
    )
    def test_sizes_and_splits(self, sizes, tmp_path):
        with pytest.raises((ValueError, TypeError)):
            export_images(fitted(), tmp_path / "out", sizes)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["mnist-0-6-symetric"], "did you mean 'mnist-0-6-symmetric'"),
            (["spheres"], "no images"),
            (["spheres", "--form", "parquet"], "there is no form 'parquet' (images or numpy)"),
            (["spheres", "--form", "numpy", "--arrays"], "leave them out"),
            (["mnist-0-6-symmetric", "--n-train", "0", "--n-test", "0"], "at least one split"),
        ],
    )
    def test_a_mistake_is_a_sentence(self, arguments, words, tmp_path, capsys):
        out = tmp_path / "out"
        assert main(["dataset", "export", *arguments, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
        assert not out.exists()


def test_the_zoo_by_command_in_both_forms(tmp_path, capsys):
    images, arrays = tmp_path / "images", tmp_path / "arrays"
    sizes = ["--n-train", "0", "--n-test", "10", "--seed", "7"]
    for form, out in (("images", images), ("numpy", arrays)):
        typed = ["dataset", "export", "mnist-0-6-symmetric", "--form", form, "--out", str(out)]
        assert main([*typed, *sizes]) == 0
    assert f"Points: {images}" in capsys.readouterr().out
    x, y = zoo.problem("mnist-0-6-symmetric").to_numpy(10, split="test", seed=7)
    assert (np.load(arrays / "x_test.npy") == x).all()
    assert [int(row["label"]) for row in table(images / "test")] == y.tolist()
