"""The benchmarks of speed still run, in miniature; how fast is not for a test to say."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"
NAMES = sorted(
    path.stem for path in SPEED.glob("*.py") if path.stem not in ("__main__", "harness", "page")
)
BY_COMMAND = "exact_distances"  # in a process of its own, as all are for the page


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, str(SPEED), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the program as a module; what it imports by bare names is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    own = {*NAMES, "harness"}
    for name in own:
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("benchmarks_speed", SPEED / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in own & sys.modules.keys():
        del sys.modules[name]


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return what a benchmark has measured."""
    found: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text("utf-8"))["rows"]
    assert found, "a benchmark measures something"
    for row in found:
        assert row["ours_s"] > 0
        assert row["rival_s"] is None or row["rival_s"] > 0
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if name != BY_COMMAND])
def test_miniature(name: str, program: ModuleType, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        program.one(name, "cpu", True, tmp_path)
    assert rows(tmp_path, name)


def test_the_command_runs_one_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = run(BY_COMMAND, "--tiny", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [BY_COMMAND]
    assert rows(tmp_path, BY_COMMAND)


def test_unknown_name() -> None:
    done = run("no-such-thing")
    assert done.returncode == 2
    assert "there is no benchmark 'no-such-thing'" in done.stderr


def test_miniatures_are_no_results() -> None:
    assert run("--tiny").returncode == 2
