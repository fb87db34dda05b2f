"""Image folders, pixels, and the form in which every loader hands over its images."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trueboundary.data import ImageData, load_image_folder
from trueboundary.data.files import write_atomically
from trueboundary.data.pixels import area_resize, decode_image


def save(path: Path, *, size: tuple[int, int] = (6, 4), mode: str = "RGB", seed: int = 0) -> Path:
    """Write an image of noise; `size` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def read(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


# Image folders


def test_folder_gives_classes_in_alphabetical_order(tmp_path: Path) -> None:
    files = [save(tmp_path / name, seed=i) for i, name in enumerate(("a/2.png", "b/1.png"))]
    first = save(tmp_path / "a/1.bmp", seed=7)
    (tmp_path / "a/.DS_Store").write_text("passed over")
    (tmp_path / "readme.txt").write_text("beside the classes")
    data = load_image_folder(tmp_path)
    assert data.class_names == ("a", "b")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.split_names == ("all",)
    for image, file in zip(data.images, (first, *files), strict=True):
        np.testing.assert_array_equal(image, read(file))


def test_grey_images_keep_one_channel_unless_mixed(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", mode="L")
    save(tmp_path / "b/1.png", mode="L")
    assert load_image_folder(tmp_path).images.shape == (2, 4, 6, 1)
    save(tmp_path / "b/2.png", mode="RGBA")
    data = load_image_folder(tmp_path)
    assert data.images.shape == (3, 4, 6, 3)
    np.testing.assert_array_equal(data.images[0], np.stack([read(tmp_path / "a/1.png")] * 3, -1))
    np.testing.assert_array_equal(data.images[2], read(tmp_path / "b/2.png")[..., :3])


def test_mixed_sizes_need_a_size(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", size=(8, 8))
    odd = save(tmp_path / "b/odd.png", size=(12, 8))
    with pytest.raises(ValueError, match=r"odd\.png has 12 x 8 pixels .* 8 x 8; .*size=64"):
        load_image_folder(tmp_path)
    data = load_image_folder(tmp_path, size=4)
    middle = read(odd)[:, 2:10].reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(data.images[1], np.rint(middle))
    assert load_image_folder(tmp_path, size=(4, 6)).images.shape == (2, 4, 6, 3)


def test_images_are_not_enlarged(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", size=(8, 8))
    save(tmp_path / "b/small.png", size=(8, 3))
    with pytest.raises(ValueError, match=r"small\.png has 8 x 3 pixels and would have to be enl"):
        load_image_folder(tmp_path, size=4)


@pytest.mark.parametrize("size", [0, (4,), (4, -1), 2.5])
def test_sizes_are_checked(tmp_path: Path, size: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        load_image_folder(tmp_path, size=size)


def test_what_is_not_an_image_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png")
    other = save(tmp_path / "b/2.png")
    whole = other.read_bytes()
    for content, message in (
        (b"notes", "is not an image"),
        (whole[: len(whole) // 2], "is not a whole image"),
    ):
        other.write_bytes(content)
        with pytest.raises(ValueError, match=rf"2\.png {message}"):
            load_image_folder(tmp_path)


def test_deep_images_are_not_clipped_in_silence(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png")
    save(tmp_path / "b/1.png")
    Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(tmp_path / "b/deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has more than 8 bits per channel"):
        load_image_folder(tmp_path)


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder of images at"):
        load_image_folder(tmp_path / "absent")
    file = save(tmp_path / "a/1.png")
    with pytest.raises(ValueError, match="got a file"):
        load_image_folder(file)
    with pytest.raises(ValueError, match="at least two subfolders, one per class, got 1"):
        load_image_folder(tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="b holds no images"):
        load_image_folder(tmp_path)


# Pixels


def test_palette_and_bilevel_images_are_decoded() -> None:
    for mode, channels in (("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("CMYK", 3), ("RGBA", 3)):
        buffer = io.BytesIO()
        Image.new(mode, (3, 2)).save(buffer, "TIFF")
        assert decode_image(buffer.getvalue(), mode).shape == (2, 3, channels)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.data())
def test_resizing_averages_areas(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    new_height, new_width = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    # Repeating each pixel makes every size divide the image, so that blocks can be averaged.
    fine = image.repeat(new_height, axis=0).repeat(new_width, axis=1)
    means = fine.reshape(new_height, height, new_width, width, 3).mean(axis=(1, 3))
    resized = area_resize(image, new_height, new_width)
    assert np.abs(resized - means).max() <= 0.5 + 1e-9


# ImageData


def small(**changes: Any) -> ImageData:
    arguments: dict[str, Any] = {
        "images": np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3),
        "labels": np.array([2, 0, 1, 2]),
        "class_names": ("ant", "bee", "cow"),
        "split": np.array([0, 0, 1, 1]),
        "split_names": ("train", "test"),
        "notes": ("a note",),
    }
    return ImageData(**(arguments | changes))


def test_pixels_become_floats_channel_by_channel() -> None:
    data = small()
    x = data.channels_first()
    assert data.event_shape == (3, 2, 3)
    assert x.shape == (4, 3, 2, 3)
    assert x.dtype == np.float32
    assert x[1, 2, 1, 0] == np.float32(data.images[1, 1, 0, 2]) / np.float32(255)
    np.testing.assert_array_equal(data.flat().reshape(4, 3, 2, 3), x)
    white = small(images=np.full((4, 1, 1, 1), 255, np.uint8))
    assert np.all(white.flat() == 1)


def test_float_images_are_handed_on_unscaled() -> None:
    images = np.linspace(0, 1, 4 * 2 * 3, dtype=np.float32).reshape(4, 2, 3, 1)
    np.testing.assert_array_equal(small(images=images).flat(), images.reshape(4, 6))


def test_floats_share_no_memory_with_the_data() -> None:
    images = np.zeros((4, 2, 3, 1), np.float32)
    data = small(images=images)
    data.flat()[:] = 1
    assert not images.any()


def test_pairs_follow_the_order_asked_for() -> None:
    data = small()
    x, y = data.pairs("cow", 0)
    assert y.tolist() == [0, 1, 0]
    assert y.dtype == np.int64
    np.testing.assert_array_equal(x, data.flat()[[0, 1, 3]])
    np.testing.assert_array_equal(data.pairs(0, 2)[1], 1 - y)


def test_parts_keep_names_and_notes() -> None:
    part = small().part("test")
    assert part.labels.tolist() == [1, 2]
    assert part.class_names == ("ant", "bee", "cow")
    assert part.notes == ("a note",)
    assert repr(part) == "ImageData(2 images of 2 x 3 x 3, 3 classes, train: 0, test: 2)"


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        ("ant", "anty", ValueError, "no class 'anty'; did you mean 'ant'"),
        ("ant", "xyz", ValueError, "no class 'xyz'; it has ant, bee, cow"),
        (0, 3, ValueError, "labels run from 0 to 2 here, got 3"),
        (1, "bee", ValueError, "two different classes, got 1 twice"),
        (0, True, TypeError, "a name or a label, got True"),
        (0, 1.0, TypeError, r"a name or a label, got 1\.0"),
    ],
)
def test_pairs_that_do_not_exist(a: Any, b: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small().pairs(a, b)


def test_pairs_and_parts_without_images() -> None:
    with pytest.raises(ValueError, match="class 'ant' has no images here"):
        small().part("test").pairs("ant", "cow")
    with pytest.raises(ValueError, match="no split 'trian'; did you mean 'train'"):
        small().part("trian")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": np.zeros((4, 2, 3), np.uint8)}, ValueError, "must have shape"),
        ({"images": np.zeros((4, 2, 3, 2), np.uint8)}, ValueError, "must have shape"),
        ({"images": np.zeros((4, 2, 3, 1))}, TypeError, "uint8 or float32 array, got float64"),
        ({"images": [1]}, TypeError, "uint8 or float32 array, got list"),
        ({"images": np.full((4, 1, 1, 1), 2, np.float32)}, ValueError, r"lie in \[0, 1\]"),
        ({"images": np.full((4, 1, 1, 1), np.nan, np.float32)}, ValueError, r"lie in \[0, 1\]"),
        ({"labels": np.array([0, 1, 2])}, ValueError, r"labels must have shape \(4,\)"),
        ({"labels": np.array([0, 1, 2, 3])}, ValueError, "labels must lie between 0 and 2"),
        ({"labels": np.zeros(4)}, TypeError, "labels must be an int64 array, got float64"),
        ({"split": np.array([0, 0, 0, -1])}, ValueError, "split must lie between 0 and 1"),
    ],
)
def test_data_that_contradict_themselves(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small(**changes)


# Files


def test_an_interrupted_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def fail(*_arguments: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_loading_data_needs_no_torch() -> None:
    code = "import sys, trueboundary.data; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
