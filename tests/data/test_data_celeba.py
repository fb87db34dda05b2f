"""CelebA in its standard layout, written small: images of noise under the real names."""

import functools
import gzip
import io
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trueboundary.data import fingerprint_celeba, load_celeba, stream_celeba

ATTRIBUTES = ("Male", "Mouth_Slightly_Open", "Smiling")
NAMES = tuple(f"{number:06d}.jpg" for number in range(1, 7))
FULL, HALF = (178, 218), (89, 109)
FACE = (25, 50, 153, 178)


def jpeg(seed: int, size: tuple[int, int]) -> bytes:
    """Return a JPEG of smooth noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def attribute_file() -> str:
    """Return list_attr_celeba.txt for six images."""
    lines = ["6", " ".join(ATTRIBUTES) + " "]
    for index, name in enumerate(NAMES):
        values = (1 if index % 2 else -1, 1, -1 if index < 4 else 1)
        lines.append(f"{name} " + " ".join(f"{value:2d}" for value in values))
    return "\n".join(lines) + "\n"


def partition_file() -> str:
    """Return list_eval_partition.txt for six images."""
    parts = (0, 0, 0, 1, 2, 2)
    return "".join(f"{name} {part}\n" for name, part in zip(NAMES, parts, strict=True))


def in_folder(root: Path, images: dict[str, bytes]) -> None:
    (root / "img_align_celeba").mkdir()
    for name, content in images.items():
        (root / "img_align_celeba" / name).write_bytes(content)


def in_tar(root: Path, images: dict[str, bytes]) -> None:
    with tarfile.open(root / "img_align_celeba.tar", "w") as archive:
        for name, content in reversed(images.items()):
            member = tarfile.TarInfo(f"img_align_celeba/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def in_zip(root: Path, images: dict[str, bytes]) -> None:
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
        for name, content in images.items():
            archive.writestr(f"img_align_celeba/{name}", content)


def write(
    root: Path,
    *,
    size: tuple[int, int] = HALF,
    layout: Callable[[Path, dict[str, bytes]], None] = in_folder,
    partition: bool = True,
    **replaced: bytes,
) -> Path:
    """Write a small CelebA; `replaced` gives the content of single images by number."""
    images = {name: jpeg(index, size) for index, name in enumerate(NAMES)}
    images |= {f"{int(key.strip('_')):06d}.jpg": content for key, content in replaced.items()}
    layout(root, images)
    (root / "list_attr_celeba.txt").write_text(attribute_file())
    if partition:
        (root / "list_eval_partition.txt").write_text(partition_file())
    return root


def decoded(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("layout", [in_folder, in_tar, in_zip])
def test_half_size_faces_are_cut_and_not_resampled(
    tmp_path: Path, layout: Callable[[Path, dict[str, bytes]], None]
) -> None:
    faces = load_celeba(write(tmp_path, layout=layout))
    assert faces.images.shape == (6, 64, 64, 3)
    assert faces.file_names == NAMES
    for index in range(6):
        expected = decoded(jpeg(index, HALF))[25:89, 12:76]
        np.testing.assert_array_equal(faces.images[index], expected)


@pytest.mark.parametrize(("size", "factor"), [(128, 1), (64, 2), (32, 4)])
def test_full_size_faces_are_averaged(tmp_path: Path, size: int, factor: int) -> None:
    faces = load_celeba(write(tmp_path, size=FULL), size=size)
    for index in range(6):
        face = decoded(jpeg(index, FULL))[50:178, 25:153]
        means = face.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
        np.testing.assert_array_equal(faces.images[index], np.rint(means))


def test_attributes_become_problems(tmp_path: Path) -> None:
    faces = load_celeba(write(tmp_path), size=16)
    assert faces.attribute_names == ATTRIBUTES
    male = faces.attribute("Male")
    assert male.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert male.class_names == ("not Male", "Male")
    assert faces.attribute("Smiling").labels.tolist() == [0, 0, 0, 0, 1, 1]
    x, y = male.part("train").of_classes("not Male", "Male")
    assert x.shape == (3, 3 * 16 * 16)
    assert x.dtype == np.float32
    assert y.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(x, faces.part("train").flat())
    assert repr(faces) == (
        "CelebA(6 images of 16 x 16 x 3, 3 attributes, train: 3, validation: 1, test: 2)"
    )


def test_options_select(tmp_path: Path) -> None:
    root = write(tmp_path)
    assert load_celeba(root, split="test").file_names == NAMES[4:]
    assert load_celeba(root, n_images=2).file_names == NAMES[:2]
    assert load_celeba(root, split="train", n_images=9).file_names == NAMES[:3]
    assert (
        load_celeba(root, attributes=["Smiling"]).attributes[:, 0].tolist()
        == [False] * 4 + [True] * 2
    )
    assert load_celeba(root).part("validation").file_names == NAMES[3:4]
    inner = load_celeba(root, crop=(40, 60, 72, 92), size=16).images[0]
    np.testing.assert_array_equal(inner, decoded(jpeg(0, HALF))[30:46, 20:36])


def test_stream_gives_the_same_in_pieces(tmp_path: Path) -> None:
    root = write(tmp_path)
    whole = load_celeba(root, size=32)
    batches = list(stream_celeba(root, batch_size=4, size=32))
    assert [len(batch) for batch in batches] == [4, 2]
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), whole.images)
    np.testing.assert_array_equal(np.concatenate([b.split for b in batches]), whole.split)
    np.testing.assert_array_equal(batches[1].attributes, whole.attributes[4:])


def test_published_subfolders_are_found(tmp_path: Path) -> None:
    write(tmp_path, layout=in_zip)
    for folder, name in (
        ("Img", "img_align_celeba.zip"),
        ("Anno", "list_attr_celeba.txt"),
        ("Eval", "list_eval_partition.txt"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / name).rename(tmp_path / folder / name)
    faces = load_celeba(tmp_path, size=8)
    assert len(faces) == 6
    assert faces.notes == ()


def test_path_may_be_the_images_themselves(tmp_path: Path) -> None:
    write(tmp_path, layout=in_tar)
    assert len(load_celeba(tmp_path / "img_align_celeba.tar", size=8)) == 6


def test_a_missing_partition_is_drawn_and_said(tmp_path: Path) -> None:
    root = write(tmp_path, partition=False)
    faces = load_celeba(root, size=8, seed=3)
    assert "partition file list_eval_partition.txt was not found" in faces.notes[0]
    assert "seed 3" in faces.notes[0]
    assert faces.attribute("Male").notes == faces.notes
    np.testing.assert_array_equal(faces.split, load_celeba(root, size=8, seed=3).split)
    np.testing.assert_array_equal(
        faces.split[:2], load_celeba(root, size=8, seed=3, n_images=2).split
    )


def test_drawn_partition_has_the_stated_shares() -> None:
    from trueboundary.data.celeba import _drawn_split

    n = 20_000
    drawn = [_drawn_split(f"{number:06d}.jpg", 0) for number in range(n)]
    other = [_drawn_split(f"{number:06d}.jpg", 1) for number in range(n)]
    shares = np.bincount(drawn) / n
    # Five standard deviations of a share of 20,000 draws.
    for share, expected in zip(shares, (0.8, 0.1, 0.1), strict=True):
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / n)
    assert drawn != other


@pytest.mark.parametrize("layout", [in_folder, in_tar, in_zip])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jpeg(2, HALF)[:-1], "is not a whole image"),
        (jpeg(2, HALF)[:700], "is not a whole image"),
        (b"<html>404</html>", "is not an image"),
        (b"", "is not an image"),
        (jpeg(2, (64, 64)), "has 64 x 64 pixels in 3 channels, expected 178 x 218 or 89 x 109"),
    ],
)
def test_bad_images_are_named(
    tmp_path: Path,
    layout: Callable[[Path, dict[str, bytes]], None],
    content: bytes,
    message: str,
) -> None:
    root = write(tmp_path, layout=layout, _3=content)
    with pytest.raises(ValueError, match=f"000003.jpg.* {message}"):
        load_celeba(root)


def test_missing_images_are_named(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "img_align_celeba" / NAMES[4]).unlink()
    with pytest.raises(FileNotFoundError, match=r"000005\.jpg is missing but listed"):
        load_celeba(root)
    assert len(load_celeba(root, n_images=4)) == 4


def test_cut_archives_are_named(tmp_path: Path) -> None:
    write(tmp_path, layout=in_tar)
    path = tmp_path / "img_align_celeba.tar"
    content = path.read_bytes()
    for kept in (100, 2000, 20_000):
        path.write_bytes(content[:kept])
        with pytest.raises((ValueError, FileNotFoundError), match=r"img_align_celeba\.tar"):
            load_celeba(tmp_path)
    path.unlink()
    in_zip(tmp_path, {name: jpeg(0, HALF) for name in NAMES})
    path = tmp_path / "img_align_celeba.zip"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"img_align_celeba\.zip is not a whole zip"):
        load_celeba(tmp_path)


def test_a_compressed_tar_is_named(tmp_path: Path) -> None:
    write(tmp_path, layout=in_tar)
    path = tmp_path / "img_align_celeba.tar"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=r"is not a whole uncompressed tar .*unpack it if it is"):
        load_celeba(tmp_path)


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path) -> None:
    write(tmp_path, layout=in_zip)
    path = tmp_path / "img_align_celeba.zip"
    content = bytearray(path.read_bytes())
    content[500] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"000001\.jpg in .*img_align_celeba\.zip is corrupt"):
        load_celeba(tmp_path)


def test_an_encrypted_zip_is_named(tmp_path: Path) -> None:
    write(tmp_path, layout=in_zip)
    path = tmp_path / "img_align_celeba.zip"
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag, in the first member's header and in the directory
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"000001\.jpg in .*\.zip is encrypted; unpack it"):
        load_celeba(tmp_path)


@functools.cache
def bomb(method: int) -> bytes:
    """Return an archive of one image of 128 MiB, all of it zero, which takes a while to pack."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("000001.jpg", bytes(2**27))
    return file.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("honest", [True, False])
def test_a_zip_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, method: int, honest: bool
) -> None:
    write(tmp_path)
    shutil.rmtree(tmp_path / "img_align_celeba")
    path = tmp_path / "img_align_celeba.zip"
    content = bomb(method)
    if not honest:
        content = content.replace(struct.pack("<I", 2**27), struct.pack("<I", 1000))
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"000001\.jpg in .*\.zip is"):
            load_celeba(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("layout", [in_tar, in_zip])
def test_archives_with_two_images_of_a_name_are_refused(
    tmp_path: Path, layout: Callable[[Path, dict[str, bytes]], None]
) -> None:
    images = {name: jpeg(0, HALF) for name in NAMES} | {"other/000001.jpg": jpeg(9, HALF)}
    write(tmp_path, layout=lambda root, _: layout(root, images))
    with pytest.raises(ValueError, match=r"holds 2 files named 000001\.jpg"):
        load_celeba(tmp_path)


def test_images_that_are_no_files_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    image = tmp_path / "img_align_celeba/000001.jpg"
    for target, message in ((image, "link to itself"), ("/dev/zero", "should be a file")):
        image.unlink()
        image.symlink_to(target)
        with pytest.raises((ValueError, FileNotFoundError), match=f"000001.jpg .*{message}"):
            load_celeba(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("000004.jpg  1  1 -1", "000004.jpg  1  1", "line 6 of .* 3 values 1 or -1, got 2"),
        ("000004.jpg  1  1 -1", "000004.jpg  1  1  0", "line 6 of .* 3 values 1 or -1"),
        ("6\n", "7\n", "announces 7 images but lists 6"),
        ("6\n", "", "should start with the number of images"),
    ],
)
def test_bad_attribute_files_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path) / "list_attr_celeba.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        load_celeba(tmp_path)
    assert str(path) in str(caught.value)


def test_bad_partition_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "list_eval_partition.txt"
    path.write_text(partition_file().replace("000002.jpg 0", "000002.jpg 3"))
    with pytest.raises(ValueError, match=r"line 2 of .*list_eval_partition\.txt should be"):
        load_celeba(tmp_path)
    path.write_text(partition_file().replace("000002.jpg 0\n", ""))
    with pytest.raises(ValueError, match=r"list_eval_partition\.txt does not list 000002\.jpg"):
        load_celeba(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list_eval_partition\.txt is not a text file"):
        load_celeba(tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder with CelebA at"):
        load_celeba(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"expected list_attr_celeba\.txt in"):
        load_celeba(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text(attribute_file())
    with pytest.raises(FileNotFoundError, match=r"expected img_align_celeba or img_align_celeba"):
        load_celeba(tmp_path)


def test_unknown_names_are_answered_with_the_nearest(tmp_path: Path) -> None:
    root = write(tmp_path)
    with pytest.raises(ValueError, match=r"no attribute 'Smilling'; did you mean 'Smiling'\?"):
        load_celeba(root, attributes=["Smilling"])
    with pytest.raises(ValueError, match="did you mean 'Mouth_Slightly_Open'"):
        load_celeba(root, size=8).attribute("Mouth Slightly Open")
    with pytest.raises(ValueError, match="no split 'val'; did you mean 'validation'"):
        load_celeba(root, split="val")


def test_useless_options_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path)
    with pytest.raises(ValueError, match=r"64 x 64 pixels, which cannot fill size=128"):
        load_celeba(root, size=128)
    for crop in ((0, 0, 10, 11), (-1, 0, 9, 10), (100, 0, 200, 100), (5, 5, 5, 5)):
        with pytest.raises(ValueError, match="crop must be a square"):
            load_celeba(root, crop=crop)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        load_celeba(root, size=0)
    with pytest.raises(ValueError, match="n_images must be at least 1"):
        load_celeba(root, n_images=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        next(stream_celeba(root, batch_size=0))
    with pytest.raises(TypeError, match=r"try \['Male'\]"):
        load_celeba(root, attributes="Male")
    (root / "list_eval_partition.txt").write_text(partition_file().replace("jpg 1", "jpg 0"))
    with pytest.raises(ValueError, match="no images in the split 'validation'"):
        load_celeba(root, split="validation")


def test_fingerprint_tells_contents_and_not_places(tmp_path: Path) -> None:
    first = write(new_folder(tmp_path, "first"))
    again = write(new_folder(tmp_path, "again"), layout=in_tar)
    without_split = write(new_folder(tmp_path, "no split"), partition=False)
    full_size = write(new_folder(tmp_path, "full"), size=FULL)
    other_image = write(new_folder(tmp_path, "image"), _3=jpeg(99, HALF))
    other_table = write(new_folder(tmp_path, "table"))
    table = other_table / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace("Smiling", "Frowning"))

    prints = [fingerprint_celeba(folder) for folder in (first, again)]
    assert prints[0] == prints[1]
    assert len(prints[0]) == 16
    others = {
        fingerprint_celeba(folder)
        for folder in (without_split, full_size, other_image, other_table)
    }
    assert len(others | set(prints)) == 5


def test_fingerprint_is_taken_again_where_something_was_replaced(tmp_path: Path) -> None:
    root = write(tmp_path)
    before = fingerprint_celeba(root)
    assert fingerprint_celeba(root / "img_align_celeba") == before
    table = root / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace("Smiling", "Frowning"))
    assert fingerprint_celeba(root) != before
    (root / "img_align_celeba" / NAMES[0]).unlink()
    with pytest.raises(FileNotFoundError, match=r"000001\.jpg is missing but listed"):
        fingerprint_celeba(root)


def test_fingerprint_of_what_is_not_celeba_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="list_attr_celeba"):
        fingerprint_celeba(tmp_path)
    with pytest.raises(ValueError, match="n_images"):
        fingerprint_celeba(write(tmp_path), n_images=0)


def new_folder(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name
