"""What tests of several commands share."""

from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let there be one experiment, which takes no time, and work in an empty folder."""
    monkeypatch.syspath_prepend(HELPERS)
    from register import register

    register(monkeypatch)
    monkeypatch.chdir(tmp_path)
