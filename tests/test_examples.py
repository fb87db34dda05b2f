"""The scripts in `examples/` run by themselves, and each says what a newcomer can read."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
LONGEST = 40  # lines

#: Smaller sizes than those by default, and words of what each prints.
RUNS = {
    "own_attack": (["--points", "2"], ["NearestError", "mine"]),
    "own_cnn_on_digits": (
        ["--points", "2", "--batches", "5"],
        ["Robustness card: my CNN", "Verdict"],
    ),
    "scikit_learn_machine": (["--points", "2"], ["Robustness card: LinearSVC", "closed form"]),
    "two_trainings": (
        ["--points", "2", "--steps", "5"],
        ["standard", "large-margin", "of the optimal classifier's robustness"],
    ),
}
WITH_PEERS = {"peer_attack": (["--points", "2"], ["NearestError", "Foolbox DeepFool"])}


def output(name: str, arguments: list[str]) -> str:
    """Return what a script prints, run as its reader runs it."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,  # a minute, on a machine that does five other things
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs(name: str) -> None:
    arguments, words = RUNS[name]
    found = output(name, arguments)
    assert not [word for word in words if word not in found], found
    assert max(map(len, found.splitlines())) <= 100


@pytest.mark.peers
@pytest.mark.parametrize("name", WITH_PEERS)
def test_an_example_with_a_peer_runs(name: str) -> None:
    pytest.importorskip("foolbox")
    arguments, words = WITH_PEERS[name]
    found = output(name, arguments)
    assert not [word for word in words if word not in found], found


def test_every_script_is_run_and_in_the_table_and_short() -> None:
    scripts = {file.stem: file for file in FOLDER.glob("*.py")}
    assert scripts.keys() == {*RUNS, *WITH_PEERS}
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, file in scripts.items():
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST
        assert f"({name}.py)" in table
        words = ast.get_docstring(ast.parse(text))
        assert words is not None
        sentences = [part for part in words.replace("\n", " ").split(". ") if part.strip()]
        assert len(sentences) == 2, "a docstring of two sentences"
