"""The package logs why it took another way, under its own name, and is silent by default."""

import logging
import subprocess
import sys

import torch

import trueboundary as tb
from trueboundary.audits import audit
from trueboundary.classifiers import QuadraticNetwork
from trueboundary.measure import distances, error_rate
from trueboundary.problems import ConcentricSpheres, OnlineStream, planar_problem
from trueboundary.rare_events import Splitting
from trueboundary.training import TrainingConfig, train

SPHERES = ConcentricSpheres(dim=3)


def never(x):
    return x[:, 0] * 0 - 1


def test_the_logger_of_the_package_has_a_handler_that_does_nothing() -> None:
    assert any(
        isinstance(h, logging.NullHandler) for h in logging.getLogger("trueboundary").handlers
    )
    assert logging.getLogger("trueboundary").level == logging.NOTSET  # the user's to set
    assert logging.getLogger("trueboundary").propagate


def test_by_default_nothing_is_shown() -> None:
    code = (
        "import trueboundary as tb\n"
        "tb.distances(lambda x: x[:, 0], tb.ConcentricSpheres(3), n_points=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_why_there_is_no_proof(caplog) -> None:
    with caplog.at_level("INFO", logger="trueboundary"):
        distances(lambda x: x[:, 0], SPHERES, n_points=1)
    assert [record.name for record in caplog.records] == ["trueboundary.measure.brackets"] * 2
    assert "class 0 has no proof: " in caplog.text


def test_why_a_rate_is_sampled_and_then_split(caplog) -> None:
    with caplog.at_level("INFO", logger="trueboundary"):
        error_rate(never, SPHERES, n_points=20_000, splitting=Splitting(n_particles=50))
    assert "sampling 20000 points of each class" in caplog.text
    assert "class 0 is split: " in caplog.text


def test_where_training_goes_on(caplog, tmp_path) -> None:
    stream = OnlineStream(SPHERES, batch_size=5, seed=0)
    for n_steps in (2, 2):
        with caplog.at_level("INFO", logger="trueboundary"):
            train(
                QuadraticNetwork(3, 6, seed=0),
                stream,
                TrainingConfig(n_steps=n_steps),
                checkpoint=tmp_path / "run",
            )
    assert caplog.text.count("training goes on from step 2 of ") == 1


def test_a_classifier_that_stops_leaves_its_traceback_in_the_log(caplog) -> None:
    calls = []

    def tired(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        if sum(calls) > 2000:
            raise KeyError("tired")
        return x[:, 0]

    with caplog.at_level("INFO", logger="trueboundary"):
        card = audit(tired, planar_problem("a"), n_points=2, n_error_points=5000)
    assert card.stopped
    assert "the classifier stopped half-way" in caplog.text
    assert "KeyError" in caplog.text


def test_nothing_is_logged_above_info(caplog) -> None:
    with caplog.at_level("DEBUG", logger="trueboundary"):
        tb.distances(tb.ReLUNetwork(3, 4, 1, seed=0).eval(), SPHERES, n_points=1)
    assert all(record.levelno <= logging.INFO for record in caplog.records)
