"""A store under attack: killed writers, damaged files, a full disk. Torch has no part in it."""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueboundary.runs import DamagedRunError, RunConfig, RunResult, Store, execute, locking

KILLER = Path(__file__).parents[2] / "benchmarks" / "store_kills.py"
COMPUTED: list[int] = []


@dataclass(frozen=True)
class Numbers(RunConfig):
    seed: int
    n_numbers: int = 50

    def compute(self, context):
        COMPUTED.append(self.seed)
        numbers = np.random.default_rng(self.seed).normal(size=self.n_numbers)
        return RunResult(
            {"seed": self.seed, "largest": float(numbers.max())},
            {"numbers": numbers},
            {"net": ({"kind": "linear"}, {"weight": numbers[:10]})},
        )


GOALS = [Numbers(seed) for seed in range(3)]


def fill(store, goals=GOALS):
    """Return what failed, and the seeds of what was computed."""
    COMPUTED.clear()
    with ThreadPoolExecutor(1) as executor:
        failures = execute(goals, store, executor)
    return failures, sorted(COMPUTED)


def kill_often(n_kills, *arguments):
    done = subprocess.run(
        [sys.executable, str(KILLER), "--kills", str(n_kills), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("n_kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_writers_killed_at_random_moments_leave_whole_runs(n_kills):
    report = kill_often(n_kills)
    assert report["kills"] == n_kills
    assert report["damaged or different"] == report["computed again"] == 0
    assert report["complete sets"] > 0, "the work gets done all the same"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    root = tmp_path_factory.mktemp("filled")
    assert fill(Store(root)) == ([], [0, 1, 2])
    return root


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.data())
def test_only_the_run_whose_file_was_damaged_is_computed_again(filled, data):
    victim = data.draw(st.sampled_from(GOALS))
    name = data.draw(st.sampled_from(["run.json", "arrays.safetensors", "model-net.safetensors"]))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(shutil.copytree(filled, folder, dirs_exist_ok=True))
        before = {goal: store.load(goal) for goal in GOALS}
        file = store.path(victim) / name
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            del content[place:]
        else:
            content[place] ^= data.draw(st.integers(1, 255))
        file.write_bytes(bytes(content))
        run, said = _load(store, victim)
        harmless = run is not None and _same(run, before[victim])  # white space in run.json
        assert harmless or victim.folder in said, "the run is named"
        failures, computed = fill(store)
        assert failures == []
        assert computed == ([] if harmless else [victim.seed])
        assert all(_same(store.load(goal), before[goal]) for goal in GOALS)


def _load(store, config):
    """Return the run, or what is said of its damage."""
    try:
        return store.load(config), ""
    except DamagedRunError as error:
        return None, str(error)


def _same(run, other):
    return run.summary == other.summary and np.array_equal(
        run.arrays["numbers"], other.arrays["numbers"]
    )


def test_a_damaged_need_is_computed_again_before_what_needs_it(filled, tmp_path):
    store = Store(shutil.copytree(filled, tmp_path, dirs_exist_ok=True))

    @dataclass(frozen=True)
    class SumOfDamaged(RunConfig):
        def needs(self):
            return {"first": GOALS[0]}

        def compute(self, context):
            return RunResult({"sum": float(context.inputs["first"].arrays["numbers"].sum())})

    (store.path(GOALS[0]) / "arrays.safetensors").unlink()
    assert fill(store, [SumOfDamaged()]) == ([], [0])


def test_a_damaged_run_is_left_to_the_process_that_has_its_lock(filled, tmp_path):
    """Another process may have replaced it by a whole one since it was read."""
    store = Store(shutil.copytree(filled, tmp_path, dirs_exist_ok=True))
    (store.path(GOALS[0]) / "run.json").write_text("{")

    class Repaired(ThreadPoolExecutor):
        def submit(self, fn, /, *args):
            store.save(GOALS[0], Numbers(0).compute(None), {"who": "another"})
            return super().submit(fn, *args)

    with Repaired(1) as executor:
        assert execute(GOALS, store, executor) == []
    run = store.load(GOALS[0])
    assert run is not None
    assert run.info == {"who": "another"}


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 400 kB, where that is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    mount = getattr(libc, "mount", None)
    if mount is None or mount(b"none", bytes(folder), b"tmpfs", 0, b"size=400k") != 0:
        pytest.skip("mounting is not permitted here")
    yield folder
    libc.umount2(bytes(folder), 2)


def test_a_full_disk_fails_runs_in_a_sentence_and_damages_none(small_disk):
    store = Store(small_disk)
    goals = [Numbers(seed, 10_000) for seed in range(8)]  # 80 kB each
    failures, _ = fill(store, goals)
    failed = {failure.config.seed for failure in failures}
    assert 0 < len(failed) < len(goals)
    assert all("No space left on device" in failure.message for failure in failures)
    assert {goal.seed for goal in goals if store.load(goal) is not None} == set(range(8)) - failed
    assert not list(small_disk.glob("unfinished/*.staging-*"))
    store.discard(goals[next(iter(set(range(8)) - failed))])
    again, computed = fill(store, [goals[next(iter(failed))]])
    assert again == []
    assert computed == [next(iter(failed))]


def test_a_disk_too_full_for_the_store_itself_is_said(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(RuntimeError, match="cannot be written to: No space left on device"):
        Store(tmp_path / "new").identity()


def test_a_run_that_is_a_link_to_nothing_is_computed_again_and_kept(tmp_path):
    store = Store(tmp_path)
    store.path(RunConfig()).parent.mkdir()
    store.path(RunConfig()).symlink_to("archive-that-is-gone")
    assert store.load(RunConfig()) is None
    store.save(RunConfig(), RunResult({"distance": 0.18}), {})
    assert store.load(RunConfig()).summary == {"distance": 0.18}


def test_stores_tell_one_another_apart(tmp_path, monkeypatch):
    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    assert not one.is_same("anything")
    assert one.identity() == one.identity() == Store(tmp_path / "one").identity()
    assert one.is_same(one.identity())
    assert not other.is_same(one.identity())
    assert not (tmp_path / "other").exists(), "a look leaves nothing behind"

    def refuse(*arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", refuse)
    assert other.is_same(other.identity())


DAMAGE = {
    "a byte that is no ASCII": lambda file, good: file.write_bytes(b"\xe9" + good[1:]),
    "a byte that is no hexadecimal digit": lambda file, good: file.write_bytes(good[:-1] + b"g"),
    "cut short": lambda file, good: file.write_bytes(good[:7]),
    "empty": lambda file, good: file.write_bytes(b""),
    "large": lambda file, good: file.write_bytes(good * 10_000),
    "a link to nothing": lambda file, good: (file.unlink(), file.symlink_to("nothing")),
    "a link to a device": lambda file, good: (file.unlink(), file.symlink_to(os.devnull)),
    "a pipe": lambda file, good: (file.unlink(), os.mkfifo(file)),
}


@pytest.mark.skipif(sys.platform == "win32", reason="makes links and pipes")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_name_of_the_store_stops_nobody(damage, tmp_path):
    store = Store(tmp_path)
    assert fill(store) == ([], [0, 1, 2])
    before = store.identity()
    DAMAGE[damage](tmp_path / "store-id", before.encode())
    assert not store.is_same(before), "a look is not deceived and does not wait"
    assert fill(store) == ([], []), "what is stored is found"
    assert store.is_same(store.identity())
    assert store.identity() != before


@pytest.mark.parametrize("damaged", [False, True])
def test_two_processes_agree_on_the_name_of_a_store(damaged, tmp_path):
    if damaged:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "store-id").write_bytes(b"\xff")
    with ThreadPoolExecutor(8) as executor:
        said = list(executor.map(lambda _: Store(tmp_path / "new").identity(), range(8)))
    assert len(set(said)) == 1


def test_a_name_that_another_process_removes_meanwhile_is_made_up_again(tmp_path, monkeypatch):
    """The moment between looking for the file and opening it, in which others may mend it."""
    (tmp_path / "store-id").write_bytes(b"\xff")
    plain = Path.open
    opened = []

    def vanishing(path, *arguments, **options):
        if path.name == "store-id" and not opened:
            opened.append(path)
            path.unlink()
        return plain(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", vanishing)
    store = Store(tmp_path)
    assert store.is_same(store.identity())
    assert opened


@pytest.mark.skipif(sys.platform == "win32", reason="has other locks")
def test_a_file_system_without_locks_is_put_up_with(tmp_path, monkeypatch):
    def refuse(code):
        def flock(*arguments):
            raise OSError(code, os.strerror(code))

        return flock

    monkeypatch.setattr(locking.fcntl, "flock", refuse(errno.ENOLCK))
    assert fill(Store(tmp_path)) == ([], [0, 1, 2])
    monkeypatch.setattr(locking.fcntl, "flock", refuse(errno.EBADF))
    with pytest.raises(OSError, match="Bad file"), locking.locked(tmp_path / "a.lock"):
        pass
