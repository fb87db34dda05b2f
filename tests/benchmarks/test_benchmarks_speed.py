"""The benchmarks of speed still run, in miniature; how fast is not for a test to say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"
NAMES = sorted(
    path.stem for path in SPEED.glob("*.py") if path.stem not in ("__main__", "harness", "page")
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, str(SPEED), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_miniature(name: str, tmp_path: Path) -> None:
    done = run(name, "--tiny", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))
    assert result["rows"], "a benchmark measures something"
    for row in result["rows"]:
        assert row["ours_s"] > 0
        assert row["rival_s"] is None or row["rival_s"] > 0


def test_unknown_name() -> None:
    done = run("no-such-thing")
    assert done.returncode == 2
    assert "there is no benchmark 'no-such-thing'" in done.stderr


def test_miniatures_are_no_results() -> None:
    assert run("--tiny").returncode == 2
