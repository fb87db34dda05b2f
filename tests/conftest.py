"""Shared fixtures: nothing a test does may leak into the process or into the next test."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)  # several torch threads per process collapse on a shared machine


def pytest_collection_finish() -> None:
    """Keep what is loaded for good out of garbage collections, which would look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def generator() -> torch.Generator:
    """Return a seeded generator on the CPU."""
    return torch.Generator().manual_seed(20180109)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a headless Chromium, for tests with the marker ``browser``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "helpers")
        import chromium as driver
    program = driver.find_chromium()
    if program is None:
        pytest.skip("there is no Chromium")
    with driver.Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(autouse=True)
def _no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the terminal's width, which xdist gives its workers: what a pipe gets is tested."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def _no_global_state() -> Iterator[None]:
    """Fail a test whose code under test changes torch's global state."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    grad, rng = torch.is_grad_enabled(), torch.get_rng_state()
    yield
    assert torch.get_default_dtype() == dtype
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled() == grad
    assert torch.equal(torch.get_rng_state(), rng), "the global random state was used"
