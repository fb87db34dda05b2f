"""Executing runs: order, skipping, failures, progress, killed and badly set up workers."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trueboundary.runs import (
    DamagedPlanError,
    Plan,
    Progress,
    RunConfig,
    RunResult,
    Store,
    WorkerDiedError,
    WorkerSetupError,
    collect,
    execute,
    read_plans,
    run_one,
    worker_pool,
    write_plan,
)
from trueboundary.runs.pool import THREAD_VARIABLES

HELPERS = Path(__file__).parents[1] / "helpers"
# Its name is that of the function in it.
execute_module = importlib.import_module("trueboundary.runs.execute")
CALLS: list[str] = []


@dataclass(frozen=True)
class Leaf(RunConfig):
    name: str
    seconds: float = 1.0
    fails: bool = False

    def cost(self):
        return self.seconds

    def compute(self, context):
        CALLS.append(self.name)
        if self.fails:
            raise ArithmeticError(f"{self.name} has no result")
        context.progress(0.5)
        return RunResult({"name": self.name})


@dataclass(frozen=True)
class Join(RunConfig):
    leaves: tuple[Leaf, ...]

    def needs(self):
        return {leaf.name: leaf for leaf in self.leaves}

    def compute(self, context):
        CALLS.append("join")
        return RunResult({"joined": sorted(context.inputs)})


@dataclass(frozen=True)
class Top(RunConfig):
    join: Join

    def needs(self):
        return {"join": self.join}

    def compute(self, context):
        CALLS.append("top")
        return RunResult({"got": context.inputs["join"].summary["joined"]})


@dataclass(frozen=True)
class Resumable(RunConfig):
    n_steps: int = 5

    def compute(self, context):
        file = context.checkpoint / "done"
        resumed = file.exists()
        for step in range(int(file.read_text()) if resumed else 0, self.n_steps):
            CALLS.append(f"step {step}")
            file.write_text(str(step + 1))
            if step == 2 and not resumed:
                raise RuntimeError("interrupted")
        return RunResult({"n_steps": self.n_steps})


class Inline(Executor):
    """Runs at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def store(tmp_path: Path) -> Store:
    CALLS.clear()
    return Store(tmp_path)


def test_needs_come_first_and_nothing_runs_twice(store):
    leaves = (Leaf("a", 1.0), Leaf("b", 5.0))
    goal = Top(Join(leaves))
    assert execute([goal, leaves[0], goal], store, Inline()) == []
    assert CALLS == ["b", "a", "join", "top"], "the costliest that is ready goes first"
    run = store.load(goal)
    assert run is not None
    assert run.summary == {"got": ["a", "b"]}
    assert run.info["seconds"] >= 0.0
    assert run.info["versions"]["numpy"] == np.__version__
    CALLS.clear()
    assert execute([goal], store, Inline()) == []
    assert CALLS == []


def test_only_a_damaged_run_is_computed_again(store):
    goal = Top(Join((Leaf("a"), Leaf("b"))))
    execute([goal], store, Inline())
    (store.path(Leaf("a")) / "run.json").write_text("{")
    CALLS.clear()
    assert execute([goal], store, Inline()) == []
    assert CALLS == ["a"]


def test_failures_are_collected_and_what_waits_for_them_is_not_started(store):
    bad, good = Leaf("bad", fails=True), Leaf("good")
    failures = execute([Top(Join((bad, good))), good], store, Inline())
    said = {failure.config.kind: failure.message for failure in failures}
    assert said["Leaf"] == "ArithmeticError: bad has no result"
    assert said["Join"] == f"not started: it needs {bad.folder}, which failed: {said['Leaf']}"
    assert said["Top"] == said["Join"]
    assert "top" not in CALLS
    assert store.load(good) is not None
    text = store.failure(bad.folder).read_text()
    assert "Traceback" in text
    assert "ArithmeticError" in text


def test_a_failure_is_forgotten_once_the_run_succeeds(store, monkeypatch):
    config = Leaf("once")
    monkeypatch.setattr(Leaf, "compute", lambda self, context: 1 / 0)
    assert len(execute([config], store, Inline())) == 1
    assert store.failure(config.folder).exists()
    monkeypatch.undo()
    assert execute([config], store, Inline()) == []
    assert not store.failure(config.folder).exists()


def test_an_unfinished_run_goes_on_from_its_checkpoint(store):
    config = Resumable()
    assert len(execute([config], store, Inline())) == 1
    assert store.checkpoint(config).exists()
    assert execute([config], store, Inline()) == []
    assert ", ".join(CALLS) == "step 0, step 1, step 2, step 3, step 4"
    assert not store.checkpoint(config).exists()


def test_progress_counts_cost_and_forgets_what_was_stored(store):
    execute([Leaf("old", 100.0)], store, Inline())
    seen: list[Progress] = []
    goals = [Leaf("old", 100.0), Leaf("short", 1.0), Leaf("long", 3.0)]
    execute(goals, store, Inline(), on_progress=seen.append)
    assert [state.fraction for state in seen] == [0.75, 1.0, 1.0]
    assert [state.n_done for state in seen] == [2, 3, 3]
    assert seen[-1].seconds_left == 0.0


def test_progress_of_a_running_run_comes_through_its_file(store):
    @dataclass(frozen=True)
    class Slow(RunConfig):
        def compute(self, context):
            context.progress(0.25)
            deadline = time.monotonic() + 10
            while not any(state.fraction == 0.25 for state in seen) and time.monotonic() < deadline:
                time.sleep(0.05)
            return RunResult({})

    seen: list[Progress] = []
    with ThreadPoolExecutor(1) as executor:
        execute([Slow()], store, executor, on_progress=seen.append)
    assert 0.25 in [state.fraction for state in seen]


def test_two_executions_meeting_in_one_store_share_the_work(store):
    goals = [Leaf(f"leaf {i}") for i in range(20)]
    with ThreadPoolExecutor(2) as both, ThreadPoolExecutor(2) as workers:
        halves = [both.submit(execute, goals, store, workers) for _ in range(2)]
        assert [half.result() for half in halves] == [[], []]
    assert sorted(CALLS) == sorted(goal.name for goal in goals)


def test_a_run_without_its_needs_is_refused(store):
    with pytest.raises(RuntimeError, match="must be computed first"):
        run_one(str(store.root), Join((Leaf("a"),)))


def test_collect_finds_needs_of_needs_once():
    leaf = Leaf("a")
    found = collect([Top(Join((leaf,))), Join((leaf,))])
    assert sorted(config.kind for config in found.values()) == ["Join", "Leaf", "Top"]


def test_workers_are_needed(store):
    with pytest.raises(ValueError, match="at least one worker"):
        execute([], store, Inline(), n_workers=0)
    with pytest.raises(ValueError, match="at least one worker"), worker_pool(0):
        pass


def test_workers_have_one_thread_and_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with worker_pool(1) as pool:
        assert [pool.submit(os.getenv, v).result() for v in THREAD_VARIABLES] == ["1", "1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_run_that_kills_its_workers_fails_alone(store, monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)
    from fake_experiment import Base, Sum

    good, bad = Sum(10, 1.0, "plain", 0), Sum(10, 1.0, "die", 0)
    with worker_pool(1) as pool:
        (failure,) = execute([bad, good], store, pool)
    assert failure.config == bad
    assert "WorkerDiedError" in failure.message
    assert "killed, 3 times over" in failure.message
    assert store.load(Base(10, 0)) is not None
    assert store.load(good) is not None


def test_a_run_whose_worker_was_killed_is_run_again_with_the_same_bits(store, monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)
    from mortal import Mortal

    goals = [Mortal(seed, dies=seed == 1) for seed in range(3)]
    with worker_pool(2) as pool:
        assert execute(goals, store, pool, n_workers=2) == []
    run = store.load(goals[1])
    assert run is not None
    assert run.summary == {"lives": 2}
    assert _stored_bytes(store, goals[1]) == _bytes_of(Mortal(1), store.root / "other")


def _bytes_of(config, root):
    run_one(str(root), config)
    return _stored_bytes(Store(root), config)


def _stored_bytes(store, config):
    return (store.path(config) / "arrays.safetensors").read_bytes()


def test_a_broken_executor_ends_everything_in_a_sentence(store):
    class Broken(Inline):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            if len(CALLS) == 0:
                return super().submit(fn, *args, **kwargs)
            if args[-1].name == "lost":
                future.cancel()
                future.set_running_or_notify_cancel()  # wakes up who waits, as Dask does
            elif args[-1].name == "refused":
                raise BrokenExecutor
            else:
                future.set_exception(BrokenExecutor())
            return future

    for bad in ("lost", "refused", "broken"):
        CALLS.clear()
        with pytest.raises(WorkerDiedError, match="the same command goes on"):
            execute([Leaf(f"before {bad}", 9.0), Leaf(bad)], store, Broken())
        assert store.load(Leaf(f"before {bad}", 9.0)) is not None


def test_a_worker_that_does_not_share_the_store_is_found_out(store, tmp_path, monkeypatch):
    class Elsewhere(Inline):
        def submit(self, fn, /, root, *args):
            return super().submit(fn, str(tmp_path / "other disk"), *args)

    with pytest.raises(WorkerSetupError, match=r"does not see the store in .*other disk"):
        execute([Leaf("a")], store, Elsewhere())
    assert not (tmp_path / "other disk").exists(), "nothing is made where nobody looks"
    Store(tmp_path / "other disk").identity()
    with pytest.raises(WorkerSetupError, match="does not see the store"):
        execute([Leaf("a")], store, Elsewhere())
    assert CALLS == []

    class Copied(Inline):
        def submit(self, fn, /, root, identity, *args):
            return super().submit(fn, str(copy.root), copy.identity(), *args)

    copy = Store(tmp_path / "copy")
    monkeypatch.setattr(execute_module, "VISIBLE_WITHIN", 0.0)
    with pytest.raises(WorkerSetupError, match="must lie on a file system that all workers share"):
        execute([Leaf("a")], store, Copied())


def test_a_worker_with_another_torch_is_found_out(store, monkeypatch):
    class Other(Inline):
        def submit(self, fn, /, *args):
            with monkeypatch.context() as patch:
                patch.setattr("trueboundary.runs.config._installed_version", lambda name: "0.1")
                return super().submit(fn, *args)

    with pytest.raises(WorkerSetupError, match="install the same versions everywhere"):
        execute([Leaf("a")], store, Other())
    assert CALLS == []


def test_a_run_stored_a_moment_later_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(execute_module, "POLL_INTERVAL", 0.01)
    monkeypatch.setattr(execute_module, "VISIBLE_WITHIN", 30.0)
    timer = threading.Timer(0.05, lambda: (tmp_path / "late").mkdir())
    timer.start()
    assert execute_module._is_visible(tmp_path, "late")
    timer.join()


def test_nothing_is_started_while_there_are_no_workers(store, monkeypatch):
    monkeypatch.setattr(execute_module, "POLL_INTERVAL", 0.01)
    counts = iter([0, 0, 1, 1])
    seen: list[Progress] = []
    assert (
        execute(
            [Leaf("a")],
            store,
            Inline(),
            n_workers=lambda: next(counts),
            on_progress=seen.append,
        )
        == []
    )
    assert [state.n_done for state in seen] == [0, 0, 1, 1]


def test_the_store_may_have_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Moved(Inline):
        def submit(self, fn, /, *args):
            with monkeypatch.context() as patch:
                patch.chdir("/")
                return super().submit(fn, *args)

    assert execute([Leaf("a")], Store("here"), Moved()) == []
    assert Store(tmp_path / "here").load(Leaf("a")) is not None


def test_the_pool_runs_items_cancels_them_and_closes():
    with worker_pool(1) as pool:
        slow = pool.submit(time.sleep, 0.5)
        waiting = pool.submit(abs, -1)
        assert waiting.cancel()
        assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
        assert slow.result() is None
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        last = pool.submit(abs, -4)
    assert last.result() == 4, "leaving the block waits for what was handed over"
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(abs, 1)


def test_an_idle_worker_that_is_killed_is_replaced():
    with worker_pool(1) as pool:
        first = pool.submit(os.getpid).result()
        os.kill(first, signal.SIGKILL)
        assert pool.submit(os.getpid).result() != first


@pytest.mark.parametrize("n_workers", [1, 4])
def test_results_do_not_depend_on_the_number_of_workers(store, monkeypatch, n_workers):
    monkeypatch.syspath_prepend(HELPERS)
    from mortal import Mortal

    goals = [Mortal(seed) for seed in range(8)]
    with worker_pool(n_workers) as pool:
        assert execute(goals, store, pool, n_workers=n_workers) == []
    for goal in goals:
        assert _stored_bytes(store, goal) == _bytes_of(goal, store.root / "one process")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_parent(tmp_path):
    script = """
import os, sys, time
from trueboundary.runs import worker_pool
if __name__ == "__main__":
    with worker_pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60)
        time.sleep(60)
"""
    file = tmp_path / "parent.py"
    file.write_text(script)
    with subprocess.Popen([sys.executable, file], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # an orphan may stay a zombie where process 1 collects nobody


def test_plans_round_trip_and_damaged_ones_are_named(tmp_path):
    plan = Plan("b", "quick", 1, "cpu", {"dims": (1, 2)}, {"dims": (1, 2)}, {"run": "Leaf-0"})
    write_plan(tmp_path, plan)
    write_plan(tmp_path, Plan("a", "smoke", 0, "cpu"))
    assert read_plans(tmp_path)["b"] == plan
    assert read_plans(tmp_path / "nowhere") == {}
    (tmp_path / "plans" / "a.json").write_text('{"experiment": "a"}')
    with pytest.raises(DamagedPlanError, match=r"a\.json"):
        read_plans(tmp_path)


@dataclass(frozen=True)
class NeedsData(RunConfig):
    path: str

    def compute(self, context):
        return RunResult({"available": Path(self.path).exists()})


def test_a_run_that_lacked_its_data_is_computed_again(tmp_path):
    store, config = Store(tmp_path / "store"), NeedsData(str(tmp_path / "data"))
    with ThreadPoolExecutor(1) as executor:
        assert execute([config], store, executor) == []
        assert store.load(config).summary == {"available": False}
        (tmp_path / "data").touch()
        assert execute([config], store, executor) == []
        assert store.load(config).summary == {"available": True}
