"""The figures of how cost grows are still drawn, and the exponents are those of power laws."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "growth.py"


def module(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a script as a module."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS / "speed")])
    spec = importlib.util.spec_from_file_location(f"benchmarks_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, loaded)
    spec.loader.exec_module(loaded)
    return loaded


def test_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, str(SCRIPT), "--tiny", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    axes = done.stdout.split()
    assert axes == ["d", "h", "N", "components", "images"]
    page = module(BENCHMARKS / "speed" / "page.py", monkeypatch)
    for name in axes:
        assert 5_000 < (tmp_path / f"growth-{name}.png").stat().st_size < 60_000
        found = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))
        assert found["series"]
        for line in found["series"]:
            assert len(line["sizes"]) == len(line["seconds"]) == len(line["megabytes"]) == 2
            assert min(line["seconds"]) > 0
        assert f"images/growth-{name}.png" in page.growth(name, found)


def test_memory_and_time_of_known_work(monkeypatch: pytest.MonkeyPatch) -> None:
    growth = module(SCRIPT, monkeypatch)

    def filled(size: int) -> Callable[[], bytearray]:
        return lambda: bytearray(b"x") * (size * 2**20)

    sizes = [8, 16, 32, 64]
    found = [growth.measured(filled, size, first=1, enough=0.0) for size in sizes]
    grown = [megabytes for _, megabytes in found]
    if None not in grown:  # this system tells
        assert growth.exponent(sizes, grown) == pytest.approx(1.0, abs=0.1)
        assert grown[-1] == pytest.approx(64, abs=5)


def test_exponents(monkeypatch: pytest.MonkeyPatch) -> None:
    growth = module(SCRIPT, monkeypatch)
    sizes = growth.doubling(1, 1000)
    assert sizes == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    # What every call costs does not count.
    assert growth.exponent(sizes, [1e-3 * n**2.5 for n in sizes]) == 2.5
    assert growth.exponent(sizes, [1e-3 * n**2 if n > 20 else 7.0 for n in sizes]) == 2.0
    assert growth.exponent(sizes, [None] * len(sizes)) is None


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    growth = module(SCRIPT, monkeypatch)
    with pytest.raises(RuntimeError, match="the process for the size 5 has died"):
        growth.measured(lambda size: lambda: os._exit(1), 5, first=1)
