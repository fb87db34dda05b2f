"""Sweeps from the command line: grids, costs, failures, interruptions and mistakes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trueboundary.cli import main
from trueboundary.cli.errors import UserError
from trueboundary.cli.grid import read_grid

HELPERS = Path(__file__).parents[1] / "helpers"
GRID = """
[[sweep]]
experiment = "sums"
scale = "smoke"
seeds = [0, 1]
settings.n_terms = [10, 20]
settings.powers = [[1.0], [1.0, 2.0]]

[[sweep]]
experiment = ["sums"]
scale = ["smoke", "quick"]
settings = { shifted = true, powers = [1.0, 2.0] }
"""


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(HELPERS)
    from register import register

    register(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("grid.toml").write_text(GRID)


def stored():
    return {f.parent.name: f.stat().st_mtime_ns for f in Path("results/grid").rglob("run.json")}


def test_a_grid_holds_all_combinations_in_their_order():
    labels = [point.label for point in read_grid(Path("grid.toml"))]
    assert labels == [
        "sums n_terms=10 powers=1.0 seed=0",
        "sums n_terms=10 powers=1.0 seed=1",
        "sums n_terms=10 powers=1.0,2.0 seed=0",
        "sums n_terms=10 powers=1.0,2.0 seed=1",
        "sums n_terms=20 powers=1.0 seed=0",
        "sums n_terms=20 powers=1.0 seed=1",
        "sums n_terms=20 powers=1.0,2.0 seed=0",
        "sums n_terms=20 powers=1.0,2.0 seed=1",
        "sums shifted=true powers=1.0,2.0 seed=0",
        "sums shifted=true powers=1.0,2.0 seed=0",
    ]
    assert [point.scale for point in read_grid(Path("grid.toml"))][-2:] == ["smoke", "quick"]


def test_a_point_that_is_written_twice_is_run_once():
    Path("twice.toml").write_text('[[sweep]]\nexperiment = "sums"\n' * 2)
    assert len(read_grid(Path("twice.toml"))) == 1


def test_a_sweep_runs_everything_once_and_a_second_time_nothing(capsys):
    assert main(["sweep", "grid.toml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    n_runs = int(re.search(r"(\d+) runs, 0 of them stored", said)[1])
    assert not Path("results").exists(), "nothing is written"
    assert main(["sweep", "grid.toml", "--workers", "1"]) == 0
    assert f"{n_runs} of {n_runs} runs are in results/grid" in capsys.readouterr().out
    before = stored()
    assert len(before) == n_runs
    assert main(["sweep", "grid.toml", "--workers", "1"]) == 0
    assert stored() == before
    capsys.readouterr()
    assert main(["sweep", "grid.toml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"{n_runs} runs, {n_runs} of them stored" in said
    assert "times their estimate" in said
    record = json.loads(Path("results/grid/sweeps/grid.json").read_text())
    assert len(record) == 10
    assert record[2]["overrides"] == {"n_terms": 10, "powers": [1.0, 2.0]}
    assert set(record[2]["runs"].values()) <= set(before)


def test_failures_are_listed_and_do_not_stop_the_others(capsys):
    Path("bad.toml").write_text(
        '[[sweep]]\nexperiment = "sums"\nscale = "smoke"\n'
        'settings.mode = ["plain", "fail", "die"]\n'
    )
    assert main(["sweep", "bad.toml", "--out", "results/grid"]) == 1
    said = capsys.readouterr()
    assert "2 of 4 runs are in results/grid" in said.out
    assert "failed: ArithmeticError: this sum was asked to fail" in said.err
    assert "failed: WorkerDiedError" in said.err
    assert "the tracebacks are in results/grid/failures" in said.err
    texts = [file.read_text() for file in Path("results/grid/failures").iterdir()]
    assert len(texts) == 2
    assert any("in compute" in text for text in texts)


def test_a_sweep_ends_in_a_sentence_where_no_worker_can_be_started(capsys, monkeypatch):
    def refuse(self):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("trueboundary.runs.pool._Process.__init__", refuse)
    Path("grid.toml").write_text('[[sweep]]\nexperiment = "sums"\nscale = "smoke"\n')
    assert main(["sweep", "grid.toml", "--out", "out"]) == 1
    said = capsys.readouterr().err
    assert "no worker can be started any more ([Errno 24] Too many open files)" in said
    assert "the same command goes on" in said
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_leaves_a_resumable_store(tmp_path):
    Path("slow.toml").write_text(
        '[[sweep]]\nexperiment = "sums"\nscale = "smoke"\nsettings.mode = "slow"\n'
    )
    file = tmp_path / "interrupted.py"
    file.write_text(
        f"""
import sys
sys.path.insert(0, {str(HELPERS)!r})
import pytest
from register import register
from trueboundary.cli import main
if __name__ == "__main__":
    register(pytest.MonkeyPatch())
    sys.exit(main(["sweep", "slow.toml"]))
"""
    )
    with subprocess.Popen(
        [sys.executable, file],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, a shell has interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not list(Path("results").rglob("started")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.startswith("trueboundary: interrupted; what had finished is kept in results/slow")
    assert "Traceback" not in said
    assert len(list(Path("results/slow/runs").iterdir())) == 1, "what the slow run needs is kept"


def test_the_number_of_threads_is_recorded(capsys):
    Path("one.toml").write_text('[[sweep]]\nexperiment = "sums"\nscale = "smoke"\n')
    assert main(["sweep", "one.toml", "--threads", "2", "--workers", "1"]) == 0
    for file in Path("results/one/runs").glob("*/run.json"):
        assert json.loads(file.read_text())["info"]["threads"]["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[[sweep]", "cannot be read"),
        ("", r"must hold tables \[\[sweep\]\]"),
        ("sweep = 1", r"must hold tables \[\[sweep\]\]"),
        ('out = "x"\n[[sweep]]\nexperiment = "sums"', "nothing else, got out"),
        ("[[sweep]]\nseeds = [1]", "sweep 1: it names no experiment"),
        ('[[sweep]]\nexperiment = "sum"', "no experiment 'sum'.*did you mean 'sums'"),
        ("[[sweep]]\nexperiment = 3", "experiment is a word or a list of words, got 3"),
        ('[[sweep]]\nexperiment = "sums"\nseed = 1', "no key 'seed'.*did you mean 'seeds'"),
        ('[[sweep]]\nexperiment = "sums"\nseeds = 1', "seeds is a list of whole numbers"),
        ('[[sweep]]\nexperiment = "sums"\nseeds = [-1]', "seeds is a list of whole numbers"),
        ('[[sweep]]\nexperiment = "sums"\nseeds = []', "seeds is a list of whole numbers"),
        ('[[sweep]]\nexperiment = "sums"\nscale = "qick"', "did you mean 'quick'"),
        ('[[sweep]]\nexperiment = "sums"\nsettings = 1', "settings is a table"),
        ('[[sweep]]\nexperiment = "sums"\nsettings.n_term = 1', "did you mean 'n_terms'"),
        ('[[sweep]]\nexperiment = "sums"\nsettings.n_terms = []', "n_terms has no value"),
        ('[[sweep]]\nexperiment = "sums"\nsettings.n_terms = 1.5', "n_terms is a whole number"),
        ('[[sweep]]\nexperiment = "sums"\nsettings.n_terms = 0', "n_terms must be at least 1"),
        ('[[sweep]]\nexperiment = "sums"\nsettings.n_terms = 1979-05-27', "a number, a word"),
    ],
)
def test_a_bad_file_gets_status_2_and_a_sentence(capsys, content, says):
    Path("bad.toml").write_text(content)
    assert main(["sweep", "bad.toml"]) == 2
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert said.count("\n") == 1
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.toml"], "missing.toml cannot be read: No such file"),
        (["grid.toml", "--workers", "0"], "--workers"),
        (["grid.toml", "--device", "gpu"], "no device 'gpu'"),
        (["grid.toml", "--cluster", "tcp://a:1", "--threads", "2"], "--threads is for processes"),
        (["grid.toml", "--cluster", "nowhere.yaml"], "--cluster takes an address"),
    ],
)
def test_mistakes_get_status_2(capsys, arguments, says):
    assert main(["sweep", *arguments]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_help_shows_a_file(capsys):
    assert main(["sweep", "--help"]) == 0
    said = capsys.readouterr().out
    assert "[[sweep]]" in said
    assert "seeds = [0, 1, 2]" in said
    with pytest.raises(UserError, match="cannot be read"):
        read_grid(Path("nowhere.toml"))
