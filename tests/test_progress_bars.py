"""`progress=True` draws a bar on standard error, a callable is told, else all is quiet."""

import pytest
import torch

from trueboundary.attacks import DeepFool
from trueboundary.audits import audit, audit_attack, audit_training
from trueboundary.audits.training_methods import TrainingSettings
from trueboundary.classifiers import QuadraticNetwork
from trueboundary.measure import distances, distances_from, error_rate, optimality
from trueboundary.problems import ConcentricSpheres, OnlineStream, planar_problem
from trueboundary.progress_bars import Bar, shown_progress
from trueboundary.training import TrainingConfig, train

SPHERES = ConcentricSpheres(dim=3)
PLANE = planar_problem("a")
NETWORK = QuadraticNetwork(3, 6, seed=0)


def _train(progress):
    stream = OnlineStream(SPHERES, batch_size=5, seed=0)
    train(QuadraticNetwork(3, 6, seed=0), stream, TrainingConfig(n_steps=4), progress=progress)


def _audit_training(progress):
    settings = TrainingSettings(n_steps=2, batch_size=4)
    audit_training(
        PLANE, ["standard"], seeds=1, settings=settings, n_points=2, n_error_points=50,
        progress=progress,
    )  # fmt: skip


WORK = {
    "train": _train,
    "error_rate": lambda progress: error_rate(
        NETWORK, SPHERES, method="sampling", n_points=10, progress=progress
    ),
    "distances": lambda progress: distances(
        NETWORK, SPHERES, n_points=3, batch_size=2, progress=progress
    ),
    "distances_from": lambda progress: distances_from(
        lambda x: x[:, 0], -torch.ones(3, 2), 0, batch_size=2, progress=progress
    ),
    "optimality": lambda progress: optimality(
        lambda x: x[:, 0], SPHERES, n_points=4, n_error_points=9, batch_size=2, progress=progress
    ),
    "audit": lambda progress: audit(
        lambda x: x[:, 0], PLANE, n_points=2, n_error_points=10, progress=progress
    ),
    "audit_attack": lambda progress: audit_attack(
        DeepFool(), members=["linear"], n_points=1, progress=progress
    ),
    "audit_training": _audit_training,
}  # fmt: skip


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_true_draws_a_bar_on_stderr_and_ends_its_line(work, capsys) -> None:
    work(True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("\r")
    assert err.endswith("\n")
    assert err.rstrip().rpartition("\r")[2].startswith("100 % [")
    assert err.count("\n") == 1


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_without_it_nothing_is_printed(work, capsys) -> None:
    work(None)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_a_callable_is_told_and_nothing_is_printed(work, capsys) -> None:
    told = []
    work(lambda *what: told.append(what[-1]))
    assert told == sorted(told)
    assert len(told) >= 2
    assert told[-1] <= 4
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_anything_else_is_one_sentence(work) -> None:
    with pytest.raises(TypeError, match="expected progress to be True or a callable, got int; "):
        work(1)


def test_error_rates_end_at_all_of_the_work_with_splitting_and_without() -> None:
    for method, n_points in (("splitting", 10), ("sampling", 10), (None, 20_000)):
        told: list[float] = []
        plane = lambda x: x[:, 0] - 0.999  # noqa: E731
        error_rate(plane, SPHERES, method=method, n_points=n_points, progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0


def test_a_bar_that_is_cut_off_still_ends_its_line(capsys) -> None:
    def work():
        with shown_progress(True, lambda bar: bar.update) as say:
            say(0.25)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    err = capsys.readouterr().err
    assert err == "\r 25 % [#####...............] < 1 s so far\n"


def test_a_bar_says_what_is_done_and_keeps_to_its_line(capsys, monkeypatch) -> None:
    times = iter([0.0, 10.0, 10.01, 20.0])
    monkeypatch.setattr("trueboundary.progress_bars.time.monotonic", lambda: next(times))
    bar = Bar()
    bar.update(0.5, "sampling\x1b[2J" + "x" * 100)
    bar.update(0.6)  # too soon to be drawn
    bar.update(1.0)
    bar.close()
    first, last = capsys.readouterr().err.lstrip("\r").split("\r")
    assert first.startswith(" 50 % [##########..........] 10 s so far, about 10 s left | sampling")
    assert "\x1b" not in first
    assert len(first) == 79
    assert last.rstrip() == "100 % [####################] 20 s so far"
    assert len(last) == 79 + len("\n")
