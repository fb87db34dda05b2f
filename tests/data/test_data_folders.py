"""Image folders, pixels, and the form in which every loader hands over its images."""

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trueboundary.data import ImageData, load_image_folder
from trueboundary.data.pixels import area_resize, decode_image
from trueboundary.regular_files import write_atomically


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


def test_images_in_a_folder_below_their_class_are_named(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "b/more/still/2.png"):
        save(tmp_path / name)
    with pytest.raises(ValueError, match=r"still/2\.png lies in a folder below its class 'b'"):
        load_image_folder(tmp_path)
    (tmp_path / "b/more/still/2.png").unlink()
    (tmp_path / "b/more/.thumbnail.png").write_bytes(b"hidden")
    assert len(load_image_folder(tmp_path)) == 2


def test_links_are_followed_and_those_to_nothing_are_named(tmp_path: Path) -> None:
    save(tmp_path / "photos/a/1.png")
    elsewhere = save(tmp_path / "elsewhere/2.png").parent
    (tmp_path / "photos/b").symlink_to(elsewhere)
    (tmp_path / "photos/a/3.png").symlink_to(elsewhere / "2.png")
    assert load_image_folder(tmp_path / "photos").labels.tolist() == [0, 0, 1]
    (tmp_path / "photos/a/more").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=r"more/2\.png lies in a folder below its class 'a'"):
        load_image_folder(tmp_path / "photos")
    (tmp_path / "photos/a/more").unlink()
    for name in ("a/4.png", "c"):
        (tmp_path / "photos" / name).symlink_to("gone")
        with pytest.raises(FileNotFoundError, match=f"{name} is a link to gone, where there is"):
            load_image_folder(tmp_path / "photos")
        (tmp_path / "photos" / name).unlink()


def test_what_is_passed_over_is_noted(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png")
    save(tmp_path / "b/1.png")
    save(tmp_path / "overview.png")
    (tmp_path / "labels.csv").write_text("beside the classes, as no image")
    (tmp_path / "a/loop").symlink_to(tmp_path / "a/loop")
    (tmp_path / "a/up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "b/pipe")
    data = load_image_folder(tmp_path)
    assert len(data) == 2
    assert data.notes == (
        "overview.png lies beside the classes and was passed over.",
        "a/loop is no file and was passed over.",
        "a/up leads back up and was passed over.",
        "b/pipe is no file and was passed over.",
    )


def test_a_class_whose_name_no_text_can_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png")
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(ValueError, match=r"caf.udce9' is not UTF-8"):
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


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def noise(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_bilevel_and_other_modes_are_decoded() -> None:
    for mode, channels in (("1", 1), ("L", 1), ("LA", 1), ("CMYK", 3), ("RGBA", 3)):
        content = encoded(Image.new(mode, (3, 2)), "TIFF")
        assert decode_image(content, mode).shape == (2, 3, channels)


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "TIFF", "BMP"])
def test_palettes_are_grey_or_coloured_as_they_look(file_format: str) -> None:
    grey = noise(4, 6)
    levels = Image.fromarray(grey).convert("P")
    np.testing.assert_array_equal(decode_image(encoded(levels, file_format), "")[..., 0], grey)
    assert decode_image(encoded(levels, file_format), "").shape == (4, 6, 1)
    coloured = Image.fromarray(noise(4, 6, 3)).quantize(16)
    assert decode_image(encoded(coloured, file_format), "").shape == (4, 6, 3)


# What a viewer does to the stored pixels, by the definition of the tag.
TURNS: dict[int, Callable[[Any], Any]] = {
    0: lambda x: x,
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
    9: lambda x: x,
}


@pytest.mark.parametrize("tag", TURNS)
@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("MPO", {"quality": 100, "subsampling": 0}),
    ],
)
def test_photographs_are_the_way_up_that_viewers_show(
    tag: int, file_format: str, options: dict[str, Any]
) -> None:
    pixels = noise(5, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = tag
    got = decode_image(encoded(Image.fromarray(pixels), file_format, exif=exif, **options), "")
    shown = TURNS[tag](pixels)
    assert got.shape == shown.shape
    assert np.abs(got.astype(int) - shown).max() <= (8 if options else 0)


def test_damaged_metadata_leave_the_image_as_it_is_stored() -> None:
    pixels = noise(5, 8, 3)
    content = encoded(Image.fromarray(pixels), "PNG", exif=b"no metadata")
    np.testing.assert_array_equal(decode_image(content, ""), pixels)


def png(n_channels: int, *, bits: int) -> bytes:
    """Return a PNG as the standard writes it; Pillow writes none with 16 bits and colours."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[n_channels]
    rows = b"".join(b"\0" + noise(3 * n_channels * bits // 8).tobytes() for _ in range(2))
    header = struct.pack(">IIBBBBB", 3, 2, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_sixteen_bits_are_refused_in_every_kind_of_png(n_channels: int) -> None:
    assert decode_image(png(n_channels, bits=8), "").shape == (2, 3, 1 if n_channels < 3 else 3)
    with pytest.raises(ValueError, match=r"deep\.png has more than 8 bits per channel"):
        decode_image(png(n_channels, bits=16), "deep.png")


@pytest.mark.parametrize(
    "content",
    [b"P6 2 1 65535\n" + bytes(12), b"P5 2 1 256\n" + bytes(4), b"P3 1 1 1000\n1 2 3\n"],
)
def test_deep_portable_pixmaps_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="more than 8 bits"):
        decode_image(content, "deep.ppm")


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_none_is_chosen_in_silence(file_format: str) -> None:
    first, second = Image.fromarray(noise(4, 4, 3)), Image.new("RGB", (4, 4))
    content = encoded(first, file_format, save_all=True, append_images=[second])
    with pytest.raises(ValueError, match="many holds 2 pictures"):
        decode_image(content, "many")


def test_only_the_formats_that_are_meant_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("a foreign program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(subprocess, "check_call", refuse)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    for content in (postscript, encoded(Image.new("RGB", (4, 4)), "ICO"), b"", b"<html>"):
        with pytest.raises(ValueError, match=r"^x\.png is not an image in one of the formats"):
            decode_image(content, "x.png")


@pytest.mark.parametrize("file_format", ["AVIF", "WEBP", "JPEG", "PNG", "GIF", "TIFF"])
def test_damaged_images_are_named_whatever_their_decoder_raises(file_format: str) -> None:
    content = encoded(Image.fromarray(noise(32, 32, 3)), file_format)
    rng = np.random.default_rng(0)
    for start in np.linspace(12, len(content) - 1, 20).astype(int):
        damaged = content[:start] + rng.bytes(len(content) - start)
        # Some damage is to pixels alone and not to be seen.
        with suppress(ValueError):
            decode_image(damaged, "x")


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
    x, y = data.of_classes("cow", 0)
    assert y.tolist() == [0, 1, 0]
    assert y.dtype == np.int64
    np.testing.assert_array_equal(x, data.flat()[[0, 1, 3]])
    np.testing.assert_array_equal(data.of_classes(0, 2)[1], 1 - y)


def test_problems_of_more_classes_follow_the_order_asked_for() -> None:
    data = small()
    x, y = data.of_classes("cow", "ant", "bee")
    order = {"cow": 0, "ant": 1, "bee": 2}
    assert y.tolist() == [order[data.class_names[label]] for label in data.labels]
    np.testing.assert_array_equal(x, data.flat())
    with pytest.raises(ValueError, match="different classes, got 'cow' twice"):
        data.of_classes("cow", "ant", "cow")
    with pytest.raises(ValueError, match="needs two classes or more"):
        data.of_classes("cow")


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
        (1, "bee", ValueError, "different classes, got 1 twice"),
        (0, True, TypeError, "a name or a label, got True"),
        (0, 1.0, TypeError, r"a name or a label, got 1\.0"),
    ],
)
def test_pairs_that_do_not_exist(a: Any, b: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small().of_classes(a, b)


def test_several_classes_are_numbered_as_they_are_named() -> None:
    x, y = small().of_classes("cow", "ant", "bee")
    whole, labels = small().flat(), small().labels
    np.testing.assert_array_equal(x, whole)
    np.testing.assert_array_equal(y, np.array([1, 2, 0])[labels])
    with pytest.raises(ValueError, match=r"two classes or more, got \['ant'\]"):
        small().of_classes("ant")


def test_pairs_and_parts_without_images() -> None:
    with pytest.raises(ValueError, match="class 'ant' has no images here"):
        small().part("test").of_classes("ant", "cow")
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


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_written_files_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_loading_data_needs_no_torch() -> None:
    code = "import sys, trueboundary.data; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
