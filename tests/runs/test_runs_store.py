"""The store: whole or absent, checked when read, safe between processes."""

import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueboundary.runs import (
    DamagedRunError,
    RunConfig,
    RunResult,
    Store,
    StoreError,
    strict_json,
)
from trueboundary.runs import config as run_config
from trueboundary.runs import store as store_module
from trueboundary.runs.locking import locked


@dataclass(frozen=True)
class Point(RunConfig):
    x: float = 1.0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nested(RunConfig):
    point: Point = field(default_factory=Point)
    scale: float = 1.0


RESULT = RunResult(
    {"distance": float("inf"), "gap": float("nan"), "low": float("-inf"), "n": np.int64(3)},
    {"x": np.arange(6.0).reshape(2, 3).T, "k": np.array(7), "ok": np.array([True, False])},
    {"net": ({"dim": 3}, {"weight": np.ones((2, 2), np.float32)})},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_result_comes_back_as_it_was(store):
    run = store.save(Point(), RESULT, {"seconds": 1.0})
    again = store.load(Point())
    assert again is not None
    for loaded in (run, again):
        assert loaded.summary["distance"] == float("inf")
        assert loaded.summary["low"] == float("-inf")
        assert np.isnan(loaded.summary["gap"])
        assert loaded.summary["n"] == 3
        for name, array in RESULT.arrays.items():
            np.testing.assert_array_equal(loaded.arrays[name], array)
            assert loaded.arrays[name].dtype == array.dtype
        spec, arrays = loaded.result.models["net"]
        assert spec == {"dim": 3}
        np.testing.assert_array_equal(arrays["weight"], np.ones((2, 2), np.float32))
        assert loaded.info == {"seconds": 1.0}
        assert loaded.config["kind"] == "Point"


def test_run_json_is_strict_json(store):
    run = store.save(Point(), RESULT, {})
    text = (run.path / "run.json").read_text()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(text, parse_constant=refuse)


def test_what_was_not_computed_is_absent(store):
    assert store.load(Point()) is None


@pytest.mark.parametrize("name", ["run.json", "arrays.safetensors", "model-net.safetensors"])
@pytest.mark.parametrize("damage", ["truncate", "edit", "remove"])
def test_damage_is_noticed_and_named(store, name, damage):
    run = store.save(Point(), RESULT, {})
    file = run.path / name
    content = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "edit":
        changed = content.replace(b"3", b"4") if name == "run.json" else content[:-1] + b"\x01"
        assert changed != content
        file.write_bytes(changed)
    else:
        file.unlink()
    with pytest.raises(DamagedRunError, match=run.path.name):
        store.load(Point())


def test_a_run_under_another_name_is_damaged(store):
    run = store.save(Point(), RESULT, {})
    os.rename(run.path, store.path(Point(2.0)))
    with pytest.raises(DamagedRunError, match="another run"):
        store.load(Point(2.0))


def test_a_discarded_run_is_absent_and_leaves_nothing(store):
    store.save(Point(), RESULT, {})
    store.discard(Point())
    store.discard(Point())
    assert store.load(Point()) is None
    assert list((store.root / "unfinished").iterdir()) == []


def test_saving_twice_keeps_the_first_result(store):
    store.save(Point(), RunResult({"who": "first"}), {})
    assert store.save(Point(), RunResult({"who": "second"}), {}).summary == {"who": "first"}


def test_saving_over_a_damaged_run_replaces_it(store):
    run = store.save(Point(), RESULT, {})
    (run.path / "arrays.safetensors").unlink()
    assert store.save(Point(), RunResult({"who": "second"}), {}).summary == {"who": "second"}


@pytest.mark.parametrize("failing", ["arrays.safetensors", "run.json"])
def test_a_full_disk_is_said_and_leaves_nothing(store, monkeypatch, failing):
    write = store_module._write

    def full(file, content):
        if file.name == failing:
            file.write_bytes(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, content)

    monkeypatch.setattr(store_module, "_write", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.save(Point(), RESULT, {})
    assert store.load(Point()) is None
    assert list((store.root / "unfinished").iterdir()) == []
    monkeypatch.undo()
    assert store.save(Point(), RESULT, {}).summary["n"] == 3


def test_a_file_size_limit_is_said_and_leaves_nothing(tmp_path):
    script = """
import resource, signal, sys
import numpy as np
from trueboundary.runs import RunConfig, RunResult, Store, StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
store = Store(sys.argv[1])
try:
    store.save(RunConfig(), RunResult({}, {"x": np.zeros(10_000)}), {})
except StoreError as error:
    print(error)
print(store.load(RunConfig()), list((store.root / "unfinished").iterdir()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    said, left = done.stdout.splitlines()
    assert "File too large" in said
    assert left == "None []"


def test_a_half_written_run_is_not_taken_for_a_result(store):
    folder = store.root / "unfinished" / f"{Point().folder}.staging-0badcafe"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    assert store.load(Point()) is None
    store.clean()
    assert folder.exists(), "it may belong to a process that is writing"
    old = time.time() - 2 * store_module.STALE_AFTER
    os.utime(folder, (old, old))
    checkpoint = store.checkpoint(Point())
    checkpoint.mkdir()
    os.utime(checkpoint, (old, old))
    store.clean()
    assert not folder.exists()
    assert checkpoint.exists(), "an unfinished run goes on from it"


@pytest.mark.parametrize(
    "result",
    [
        RunResult({"array": np.ones(3)}),
        RunResult({"keys": {1: "one"}}),
        RunResult({}, {"words": np.array(["a", "b"])}),
        RunResult({}, {"list": [1.0]}),  # type: ignore[dict-item]
    ],
)
def test_what_has_no_form_on_disk_is_refused(store, result):
    with pytest.raises(TypeError):
        store.save(Point(), result, {})
    assert store.load(Point()) is None


def test_a_model_name_must_be_a_file_name(store):
    with pytest.raises(ValueError, match="letters and digits"):
        store.save(Point(), RunResult({}, {}, {"../net": ({}, {})}), {})


def test_two_processes_in_one_store_do_not_corrupt_it(store, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "helpers")
    from writers import Written, save_many

    context = multiprocessing.get_context("spawn")
    start = context.Event()
    writers = [
        context.Process(target=save_many, args=(str(store.root), who, start)) for who in (1, 2)
    ]
    for writer in writers:
        writer.start()
    start.set()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    for i in range(10):
        run = store.load(Written(float(i)))
        assert run is not None
        assert (run.arrays["x"] == i).all()
    assert list((store.root / "unfinished").iterdir()) == []


def test_a_lock_keeps_others_out_and_ends_with_its_holder(tmp_path):
    file = tmp_path / "work.lock"
    order = []

    def second():
        with locked(file):
            order.append("second")

    with locked(file):
        waiter = threading.Thread(target=second)
        waiter.start()
        time.sleep(0.05)
        order.append("first")
    waiter.join(10)
    assert order == ["first", "second"]
    assert not file.exists()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from trueboundary.runs.locking import "
            "locked\nwith locked(Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)",
            str(file),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        holder.kill()
    with locked(file):
        assert file.exists()


def test_a_lock_that_is_a_link_makes_no_file_elsewhere(tmp_path):
    file = tmp_path / "work.lock"
    file.symlink_to(tmp_path / "elsewhere")
    with locked(file):
        assert not file.is_symlink()
    assert list(tmp_path.iterdir()) == []


def test_the_digest_changes_with_everything_that_matters(monkeypatch):
    digests = {
        Point().digest,
        Point(2.0).digest,
        Point(tags=("a",)).digest,
        Nested().digest,
        Nested(Point(2.0)).digest,
    }
    assert len(digests) == 5
    assert Point(1.0).digest == Point().digest
    before, nested_before = Point().digest, Nested().digest
    monkeypatch.setattr(Point, "version", 2)
    assert Point().digest != before
    assert Nested().digest != nested_before, "a nested configuration's version counts too"


@dataclass(frozen=True)
class Part:
    """Not a configuration of its own, but part of one."""

    size: object = 1


@dataclass(frozen=True)
class Varied(RunConfig):
    value: object = 1
    part: Part = field(default_factory=Part)

    def needs(self):
        return {"point": Point()}


@pytest.mark.parametrize(
    "value",
    [1, 1.0, True, 0.0, -0.0, None, "1", (1, 2), (1.0, 2), (), [1, 2], {"a": 1.0}, np.int64(3)],
)
def test_a_run_keeps_the_name_that_the_text_of_its_content_gives_it(value, monkeypatch):
    # Equal values of another type are asked for first: nothing remembered may stand in for them.
    for other in (True, 1, 1.0, 0, -0.0, 0.0, (1, 2.0), (True, 2), "1"):
        assert len({Varied(other).digest, Varied(part=Part(other)).digest}) <= 2
    monkeypatch.setattr("trueboundary.runs.config._installed_version", lambda name: "2.13.0")
    plain = value.item() if isinstance(value, np.int64) else value
    for config, written, size in ((Varied(value), plain, 1), (Varied(part=Part(value)), 1, plain)):
        content = {
            "schema": 2,
            "version": 1,
            "config": {"kind": "Varied", "value": written, "part": {"size": size}},
            "needs": {"point": Point().digest},
            "torch": "2.13.0",
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert config.digest == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_equal_configurations_are_hashed_once(monkeypatch):
    hashed = []
    original = RunConfig._hash
    monkeypatch.setattr(RunConfig, "_hash", lambda self: hashed.append(self) or original(self))
    digests = {Nested(Point(0.123, ("once",)), 4.56).digest for _ in range(5)}
    assert len(digests) == 1
    assert hashed == [Point(0.123, ("once",)), Nested(Point(0.123, ("once",)), 4.56)]


def test_a_configuration_travels_without_what_was_computed_for_it():
    config = Nested(Point(0.321))
    before = pickle.dumps(config)
    assert config.digest
    assert config.folder
    assert pickle.dumps(config) == before
    assert vars(config) == {"point": Point(0.321), "scale": 1.0} == config.field_values()


def moved(name, module, **members):
    """Return a class of `name` with the fields of `Point`, as if another module defined it."""
    fields = {"__annotations__": {"x": float, "tags": tuple}, "x": 1.0, "tags": ()}
    return dataclass(frozen=True)(
        type(name, (RunConfig,), fields | members | {"__module__": module})
    )


def test_a_class_may_move_between_modules_and_keep_its_results(monkeypatch):
    kinds = {kind: path for kind, path in run_config._KINDS.items() if kind != "Point"}
    monkeypatch.setattr(run_config, "_KINDS", kinds)
    assert moved("Point", "elsewhere")().folder == Point().folder


def test_two_classes_of_one_kind_refuse_each_other():
    with pytest.raises(TypeError, match=r"elsewhere\.Point and .*Point are both .* 'Point'"):
        moved("Point", "elsewhere")
    with pytest.raises(TypeError, match="rename one, or give it a kind of its own"):
        moved("Other", "elsewhere", kind="Point")
    other = moved("Point", "elsewhere", kind="PointElsewhere")
    assert other().folder.startswith("PointElsewhere-")
    assert other().digest != Point().digest


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_configuration_holds_finite_numbers_only(value):
    with pytest.raises(ValueError, match="configuration may not hold"):
        Point(value).describe()


def test_a_configuration_holds_json_types_only():
    with pytest.raises(TypeError, match="ndarray"):
        Point(np.ones(2)).describe()  # type: ignore[arg-type]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(_json)
def test_strict_json_round_trips(value):
    again = strict_json.loads(strict_json.dumps(value))
    assert repr(_sorted(again)) == repr(_sorted(value))


def _sorted(value):
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def test_the_store_imports_without_torch():
    script = "import sys, trueboundary.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
