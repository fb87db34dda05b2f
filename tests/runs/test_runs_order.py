"""In which order runs go: what is worth most per second, and long chains in time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trueboundary.runs import Group, RunConfig, RunResult
from trueboundary.runs.order import Queue, rank_by_value
from trueboundary.runs.time_left import SteadyClock

HELPERS = Path(__file__).parents[1] / "helpers"


@dataclass(frozen=True)
class Task(RunConfig):
    name: str
    seconds: float
    after: tuple["Task", ...] = ()

    def needs(self):
        return {task.name: task for task in self.after}

    def cost(self):
        return self.seconds

    def compute(self, context):
        return RunResult({})


@pytest.fixture
def machine(monkeypatch):
    """Return the module with the simulated machine."""
    monkeypatch.syspath_prepend(HELPERS)
    import simulated_machine

    return simulated_machine


# ------------------------------------------------------------------------------------- order


def test_what_is_shared_is_paid_for_once():
    costs = {"shared": 10.0, "a": 1.0, "b": 1.0, "alone": 6.0}
    groups = [(1.0, {"shared", "a"}), (1.0, {"shared", "b"}), (1.0, {"alone"})]
    turns = rank_by_value(groups, costs)
    assert turns["alone"] < turns["shared"] == turns["a"] < turns["b"]
    assert rank_by_value(groups, {"a": 1.0, "b": 1.0, "alone": 6.0})["alone"] == 2, "it is stored"


def test_what_is_worth_nothing_comes_last():
    turns = rank_by_value([(0.0, {"free"}), (1.0, {"dear"})], {"free": 0.1, "dear": 1e4})
    assert turns["dear"] < turns["free"]


def test_closed_forms_go_first_and_the_rest_by_value(tmp_path, monkeypatch, machine):
    train = Task("train", 30.0)
    count, attack = Task("count", 5.0, (train,)), Task("attack", 40.0, (train,))
    formula, extra = Task("formula", 1.0), Task("extra", 20.0)
    groups = [
        Group((attack,), 1.0),
        Group((count,), 3.0),
        Group((extra,), 0.0),
        Group((formula,), 2.0),
    ]
    goals = [attack, count, extra, formula]
    done = machine.Simulation(1).run(goals, tmp_path, monkeypatch, groups)
    assert [task.name for task in done.order] == ["formula", "train", "count", "attack", "extra"]


def test_a_long_chain_starts_in_time_to_keep_no_worker_idle(tmp_path, monkeypatch, machine):
    long = Task("long", 60.0, (Task("before", 40.0),))
    short = [Task(f"short {i}", 10.0) for i in range(10)]
    groups = [Group((task,), 1.0) for task in short] + [Group((long,), 0.0)]
    done = machine.Simulation(2).run([*short, long], tmp_path, monkeypatch, groups)
    assert done.order[0].name == "before", "what waits for it is all that the other worker leaves"
    assert done.now == pytest.approx(machine.shortest([*short, long], 2))


def test_a_queue_gives_every_run_once():
    queue = Queue({"a": 1, "b": 0}, {"a": 5.0, "b": 1.0, "c": 9.0})
    for run in "abc":
        queue.push(run)
    assert [queue.pop(100.0), queue.pop(5.0), queue.pop(5.0), queue.pop(5.0)] == [
        "b",
        "c",
        "a",
        None,
    ]


# -------------------------------------------------------------------------------- the time left


def tasks(seed=0):
    """Return trainings, and what is measured on each of them; a few are much longer than most."""
    rng = np.random.default_rng(seed)
    goals = []
    for i in range(30):
        training = Task(f"train {i}", float(rng.lognormal(1.5, 1.2)))
        goals += [
            Task(f"measure {i}-{j}", float(rng.lognormal(0.5, 1.0)), (training,)) for j in range(4)
        ]
    return goals


@pytest.mark.parametrize("n_workers", [1, 2, 8])
def test_the_time_left_is_right_from_the_start_where_costs_are(
    n_workers, tmp_path, monkeypatch, machine
):
    done = machine.Simulation(n_workers).run(tasks(), tmp_path, monkeypatch)
    whole = done.now
    for now, left, _ in done.seen:
        assert left == pytest.approx(whole - now, abs=0.1 * whole)
    assert done.seen[-1][1] == 0.0


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_the_time_left_learns_how_fast_this_machine_is(factor, tmp_path, monkeypatch, machine):
    done = machine.Simulation(2, factor, spread=0.3).run(tasks(), tmp_path, monkeypatch)
    whole = done.now
    for now, left, _ in done.seen:
        if now > 0.25 * whole:
            assert left == pytest.approx(whole - now, abs=0.2 * whole)
    # It began at what costs say, and never went against the clock by much at once.
    assert done.seen[0][1] == pytest.approx(whole / factor, rel=0.3)
    steps = np.diff([(now, left) for now, left, _ in done.seen[:-1]], axis=0)
    jumps = np.abs(steps[:, 1] + steps[:, 0])
    assert jumps.max() < 0.08 * whole


def test_one_run_that_takes_forever_does_not_make_the_rest_look_slow(
    tmp_path, monkeypatch, machine
):
    class Loading(machine.Simulation):
        def submit(self, fn, /, *args, **kwargs):
            future = super().submit(fn, *args, **kwargs)
            if len(self.order) <= 2:  # the libraries are loaded
                end, seconds = self.ends[future]
                self.ends[future] = (end + 8.0, seconds + 8.0)
            return future

    short = [Task(f"formula {i}", 0.01) for i in range(2)]
    done = Loading(2).run([*tasks(), *short], tmp_path, monkeypatch, [Group(tuple(short), 1.0)])
    assert {task.name for task in done.order[:2]} == {"formula 0", "formula 1"}
    for now, left, _ in done.seen:
        assert left == pytest.approx(done.now - now, abs=0.12 * done.now)


def test_a_steady_clock_goes_with_the_time_and_takes_changes_up_slowly():
    clock = SteadyClock()
    assert clock.show(100.0, 0.0) == 100.0
    assert clock.show(99.5, 0.5) == pytest.approx(99.5)
    assert 99.0 < clock.show(200.0, 1.0) < 110.0
    for i in range(200):
        shown = clock.show(200.0, 1.5 + i)
    assert shown == pytest.approx(200.0, abs=10.0)
    assert clock.show(0.0, 300.0) == 0.0
