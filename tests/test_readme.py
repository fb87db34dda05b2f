"""The README's examples run, in the order in which a reader types them."""

import pathlib
import re

import pytest
import torch

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"

# Sizes that only cost time: the example stays the one that is printed.
SMALLER = {
    "n_steps=10_000": "n_steps=20",
    "n_steps=2000": "n_steps=200",
    "width=1000": "width=20",
    "n_points=100_000": "n_points=10_000",
}


def test_python_examples_run_in_order(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)
    assert len(blocks) >= 5
    for block in blocks:
        for large, small in SMALLER.items():
            block = block.replace(large, small)
        with torch.random.fork_rng():  # a reader's own network draws from the global generator
            exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "class 0:" in printed
    assert "(exact)" in printed


def test_files_that_the_readme_points_at_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target


def test_commands_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", README.read_text(), flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
