"""The page about other libraries runs as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

for _needed in ("foolbox", "torchattacks"):
    pytest.importorskip(_needed)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"


def test_its_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    with torch.random.fork_rng():  # the last one makes a network and images
        for block in blocks:
            exec(block, names)
    assert bool(names["theirs"].success.all())
    assert names["adv"].shape == names["images"].shape
    assert "39 attacks: foolbox:CW-3x500" in capsys.readouterr().out
