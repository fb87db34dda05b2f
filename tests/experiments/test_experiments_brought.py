"""Images that users bring are looked at before anything runs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trueboundary.cli import main
from trueboundary.experiments.images.brought import check_images
from trueboundary.experiments.images.image_fits import FittedMixtures

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # What the command line sets is taken back at the end.
    monkeypatch.setenv("TRUEBOUNDARY_CELEBA", "")
    monkeypatch.setenv("TRUEBOUNDARY_CIFAR10", "")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Three faces of half size: one for training, two for testing."""
    root = tmp_path / "faces"
    (root / "img_align_celeba").mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (89, 109)).save(root / "img_align_celeba" / f"{name}.jpg")
    table = "3\nMale Smiling\na.jpg 1 -1\nb.jpg -1 1\nc.jpg 1 1\n"
    (root / "list_attr_celeba.txt").write_text(table)
    (root / "list_eval_partition.txt").write_text("a.jpg 0\nb.jpg 2\nc.jpg 2\n")
    return root


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """Twenty images per batch, without a ship among them."""
    root = tmp_path / "cifar-10-batches-bin"
    root.mkdir()
    records = np.zeros((20, 3073), np.uint8)
    records[:, 0] = np.resize([0, 1, 2, 3, 4, 5, 6, 7, 9], 20)
    for name in BATCHES:
        (root / f"{name}.bin").write_bytes(records.tobytes())
    return root


def run(experiment: str, *arguments: str) -> int:
    return main(["run", experiment, "--scale", "smoke", "--out", "out", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dataset=celeba/Mail"], "no attribute 'Mail'; did you mean 'Male'?"),
        (["sweep_dataset=celeba/Mail"], "no attribute 'Mail'"),
        (["real_dataset=celeba/Mail"], "no attribute 'Mail'"),
        (["dataset=celeba/Male", "face_size=0"], "size must be at least 1, got 0"),
        (["dataset=celeba/Male", "face_size=65"], "cannot fill size=65; ask for a smaller size"),
    ],
)
def test_wrong_faces_are_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str], faces: Path, arguments: list[str], message: str
) -> None:
    settings = [word for argument in arguments for word in ("--set", argument)]
    _refused(capsys, run("bayes-faces", "--celeba", str(faces), *settings), message)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("cifar10/cat-cat", "a problem needs different classes, got 'cat' twice"),
        ("cifar10/cat-dig", "no class 'dig'; did you mean 'dog'?"),
        ("cifar10/cat-ship", "class 'ship' has no images here"),
        ("mnist/3-3", "a problem needs different classes, got '3' twice"),
        ("mnist/3-x", "no class 'x'"),
    ],
)
def test_wrong_pairs_are_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str], cifar: Path, dataset: str, message: str
) -> None:
    status = run("bayes-cifar", "--cifar10", str(cifar), "--set", f"dataset={dataset}")
    _refused(capsys, status, message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("folder", None, "expected CIFAR-10's data_batch_1 ... test_batch or its archive in"),
        ("text", b"hello\n", "is not a whole tar archive"),
        ("cut.tar.gz", b"\x1f\x8b\x08\x00", "is not a whole tar archive"),
    ],
)
def test_what_is_not_cifar_is_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    content: bytes | None,
    message: str,
) -> None:
    place = tmp_path / name
    if content is None:
        place.mkdir()
    else:
        place.write_bytes(content)
    arguments = ("--cifar10", str(place), "--set", "dataset=cifar10/cat-dog")
    _refused(capsys, run("bayes-cifar", *arguments), message)


def test_right_images_pass_and_absent_ones_are_no_mistake(
    monkeypatch: pytest.MonkeyPatch, faces: Path, cifar: Path
) -> None:
    fits = [
        FittedMixtures("celeba", ("not Male", "Male"), face_size=64),
        FittedMixtures("cifar10", ("cat", "dog")),
        FittedMixtures("mnist", ("0", "6")),
    ]
    wrong = FittedMixtures("celeba", ("not Mail", "Mail"))
    check_images([*fits, wrong])
    monkeypatch.setenv("TRUEBOUNDARY_CELEBA", str(faces))
    monkeypatch.setenv("TRUEBOUNDARY_CIFAR10", str(cifar))
    check_images(fits)
    with pytest.raises(ValueError, match="Mail"):
        check_images([wrong])


@pytest.mark.parametrize("setting", ["dataset", "sweep_dataset", "real_dataset"])
def test_every_setting_that_names_absent_faces_is_noticed(
    capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    assert run("bayes-faces", "--set", f"{setting}=celeba/Male") == 0
    err = capsys.readouterr().err
    assert err.startswith("trueboundary: bayes-faces is left out: it needs CelebA")
    assert "--celeba" in err
    assert not list(Path("out/runs").glob("*"))


def test_the_list_comes_out_whatever_the_images_are_like(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRUEBOUNDARY_CELEBA", str(tmp_path))
    assert main(["list"]) == 0
    said = capsys.readouterr()
    assert "truth-mixtures" in said.out
    assert said.err.count("\n") == 1
    assert "costs marked ? cannot be told: expected list_attr_celeba.txt" in said.err


def _refused(capsys: pytest.CaptureFixture[str], status: int, message: str) -> None:
    assert status == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert not Path("out").exists()
