"""IDX files and folders."""

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueboundary.data import decode_idx, encode_idx, load_idx_folder, read_idx

DTYPES = (np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64)
anything = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=1, min_side=0))
)


def idx_folder(folder: Path, *, packed: bool, n_train: int = 4, n_test: int = 2) -> Path:
    """Write a small data set as MNIST is published."""
    rng = np.random.default_rng(0)
    end = ".gz" if packed else ""
    for stem, n in (("train", n_train), ("t10k", n_test)):
        images = rng.integers(0, 256, (n, 5, 3), dtype=np.uint8)
        labels = (np.arange(n) % 3).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = encode_idx(array)
            path = folder / f"{stem}-{name}-ubyte{end}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@settings(deadline=None, derandomize=True, max_examples=50)
@given(anything)
def test_every_array_survives_the_round_trip(array: np.ndarray[Any, Any]) -> None:
    copy = decode_idx(encode_idx(array), "file")
    assert copy.dtype == array.dtype
    assert copy.shape == array.shape
    assert copy.tobytes() == array.tobytes()  # also for nan and -0.0


@settings(deadline=None, derandomize=True, max_examples=50)
@given(anything, st.data())
def test_no_cut_goes_unnoticed(array: np.ndarray[Any, Any], data: st.DataObject) -> None:
    content = encode_idx(array)
    kept = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(ValueError, match=r"^some-file is (cut off|not an IDX file)"):
        decode_idx(content[:kept], "some-file")


def test_bytes_are_those_of_the_format() -> None:
    array = np.array([[1, -2], [3, 4]], np.int16)
    expected = bytes.fromhex("00000b02 00000002 00000002 0001 fffe 0003 0004")
    assert encode_idx(array) == expected
    assert encode_idx(array.astype(">i2")) == expected


def test_decoded_arrays_are_native_and_writable() -> None:
    array = decode_idx(encode_idx(np.arange(3, dtype=np.int32)), "file")
    array[0] = 7
    assert array.dtype.isnative
    assert array.tolist() == [7, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got nothing"),
        (b"\x89PNG\r\n", "got 89 50 4e 47"),
        (struct.pack(">HBBI", 0, 0x07, 1, 0), "not an IDX file"),
        (struct.pack(">HBBI", 0, 0x08, 2, 5), "inside its header"),
        (struct.pack(">HBBI", 0, 0x08, 1, 2) + b"abc", "too long"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "wrong-file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"wrong-file.*{message}"):
        read_idx(path)


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match="got int64"):
        encode_idx(np.arange(3))


@pytest.mark.parametrize("packed", [False, True])
def test_folder_gives_both_splits(tmp_path: Path, packed: bool) -> None:
    folder = idx_folder(tmp_path, packed=packed)
    data = load_idx_folder(str(folder))
    assert data.images.shape == (6, 5, 3, 1)
    assert data.class_names == ("0", "1", "2")
    assert data.split_names == ("train", "test")
    assert data.part("train").labels.tolist() == [0, 1, 2, 0]
    assert data.part("test").labels.tolist() == [0, 1]
    end = ".gz" if packed else ""
    images = read_idx(folder / f"t10k-images-idx3-ubyte{end}")
    np.testing.assert_array_equal(data.part("test").images[..., 0], images)


def test_names_of_relatives_are_understood(tmp_path: Path) -> None:
    (tmp_path / "emnist-test-images.idx3-ubyte").write_bytes(
        encode_idx(np.zeros((1, 2, 2), np.uint8))
    )
    (tmp_path / "emnist-test-labels-idx1-ubyte").write_bytes(encode_idx(np.zeros(1, np.uint8)))
    assert load_idx_folder(tmp_path).split_names == ("test",)


def test_labels_must_be_as_many_as_images(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path, packed=False)
    (folder / "train-labels-idx1-ubyte").write_bytes(encode_idx(np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match=r"4 images but .*train-labels-idx1-ubyte 3 labels"):
        load_idx_folder(folder)


def test_missing_labels_are_named(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path, packed=False)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="no file t10k-labels-idx1-ubyte"):
        load_idx_folder(folder)


@pytest.mark.parametrize("wrong", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.float32)])
def test_images_of_the_wrong_shape_are_named(tmp_path: Path, wrong: np.ndarray[Any, Any]) -> None:
    folder = idx_folder(tmp_path, packed=False)
    (folder / "train-images-idx3-ubyte").write_bytes(encode_idx(wrong))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte should hold bytes in 3"):
        load_idx_folder(folder)


def test_sizes_must_agree(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path, packed=False)
    (folder / "t10k-images-idx3-ubyte").write_bytes(encode_idx(np.zeros((2, 4, 4), np.uint8)))
    with pytest.raises(ValueError, match="differ in size"):
        load_idx_folder(folder)


def test_a_cut_gzip_is_named(tmp_path: Path) -> None:
    path = idx_folder(tmp_path, packed=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is not a whole gzip file"):
        load_idx_folder(tmp_path)


def test_ambiguous_empty_and_absent_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no IDX images"):
        load_idx_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a folder of IDX files at"):
        load_idx_folder(tmp_path / "absent")
    idx_folder(tmp_path, packed=False)
    with pytest.raises(ValueError, match="got a file"):
        load_idx_folder(tmp_path / "train-images-idx3-ubyte")
    (tmp_path / "other-train-images-idx3-ubyte").touch()
    with pytest.raises(ValueError, match=r"several train sets \(other-train-, train-\)"):
        load_idx_folder(tmp_path)


def test_a_gzip_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueboundary.data.idx._MAX_BYTES", 2**22)
    honest, longer = tmp_path / "honest.gz", tmp_path / "longer.gz"
    honest.write_bytes(gzip.compress(encode_idx(np.zeros((2**12, 2**6, 2**7), np.uint8))))
    longer.write_bytes(gzip.compress(encode_idx(np.zeros(9, np.uint8)) + bytes(2**25)))
    tracemalloc.start()
    try:
        for path, message in (
            (honest, r"more than the 4,194,304 bytes"),
            (longer, "is too long: its header announces"),
        ):
            with pytest.raises(ValueError, match=message):
                read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
