"""The pieces for a graphics card run in miniature, stop at their limit and go on from there."""

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

from trueboundary.runs import Context, RunConfig, RunResult, Store

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, str(SCRIPT), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class BegunBefore(RunConfig):
    """Takes longer than any test has, unless it was begun before."""

    def compute(self, context: Context) -> RunResult:
        """Leave a mark, and find it the next time."""
        mark = context.checkpoint / "begun"
        if not mark.exists():
            mark.touch()
            time.sleep(60)
        return RunResult({"went on": True})


@dataclass(frozen=True)
class Broken(RunConfig):
    """Fails."""

    def compute(self, context: Context) -> RunResult:
        """Fail."""
        raise ArithmeticError("the reason")


def test_all_pieces_in_miniature(
    gpu: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = run("--tiny", "--device", "cpu", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    names = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert names[:5] == ["tests", "speed", "relu", "relu-count", "h2000-d8"]
    assert all(name.startswith("fig5-") for name in names[5:])
    assert all(": done in" in line for line in done.stdout.splitlines())
    assert (tmp_path / "speed-cpu" / "training.json").exists()
    again = ("--tiny", "--device", "cpu", "--out", str(tmp_path), "--piece", "relu-count")
    assert status(gpu, monkeypatch, *again) == 0
    assert capsys.readouterr().out == "relu-count: done before\n"


def test_a_piece_stops_at_its_limit_and_goes_on_from_there(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    start = time.monotonic()
    assert gpu.work("slow", [BegunBefore()], store, 0.5)
    assert time.monotonic() - start < 30
    assert "stopped after 0.5 s, 1 of 1 runs left" in capsys.readouterr().out
    assert store.load(BegunBefore()) is None
    assert gpu.work("slow", [BegunBefore()], store, 30.0)
    finished = store.load(BegunBefore())
    assert finished is not None
    assert finished.summary == {"went on": True}


def test_a_failure_is_told(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not gpu.work("broken", [Broken()], Store(tmp_path), 30.0)
    assert "failed: the reason" in capsys.readouterr().err


def test_the_pieces_of_a_card_are_those_of_the_papers_own_scale(gpu: ModuleType) -> None:
    pieces = gpu.pieces("cuda", tiny=False)
    (relu,), (count,), (large,) = (pieces[name] for name in ("relu", "relu-count", "h2000-d8"))
    shape = relu.dim, relu.width, relu.depth, relu.n_steps, relu.batch_size, relu.device
    assert shape == (500, 1000, 2, 1_000_000, 50, "cuda")
    assert (count.network, 2 * count.n_points) == (relu, 20_000_000)
    assert (large.width, large.depth, large.n_steps) == (2000, 8, 1_000_000)
    names = [run.name for run in pieces["speed"]]
    assert "training" in names
    assert "start" not in names
    figure = [runs for name, runs in pieces.items() if name.startswith("fig5-")]
    networks = {run.network for (run,) in figure}
    assert {relu, large} <= networks, "one training serves all"


def status(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Return what the command ends with, run in this process."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    try:
        return int(gpu.main())
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(gpu, monkeypatch) == 2
    said = capsys.readouterr()
    assert said.err == "torch finds no CUDA device on this machine, which the pieces are for.\n"
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tiny"], "miniatures are no results"),
        (["--device", "cpu"], "take days on a CPU"),
        (["--tiny", "--device", "cpu", "--out", "x", "--piece", "y"], "there is no piece 'y'"),
        (["--limit", "0"], "must be a positive number of seconds"),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    message: str,
    gpu: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status(gpu, monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err
