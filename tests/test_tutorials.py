"""Tutorials run from top to bottom, and print what they show."""

import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "tutorials"
TUTORIALS = sorted(file for file in FOLDER.glob("*.md") if file.stem != "index")
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")
#: By how much of itself a number may differ on another processor, whose sums round otherwise.
OTHER_ROUNDING = 0.1


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and content of all blocks of Python and of what it prints."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"```(python|text)\n(.*?)```", text, flags=re.S)


def words_and_numbers(text: str) -> tuple[str, list[float]]:
    """Return the words of a text, however its lines break, and its numbers; times are left out."""
    text = re.sub(r"[\d.]+ (?:ms|s|min)\b", "a time", text)
    numbers = [float(number.replace(",", "")) for number in NUMBER.findall(text)]
    return " ".join(NUMBER.sub("#", text).split()), numbers


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_it_shows(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType(page.stem.replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    printed, n_shown = "", 0
    with torch.random.fork_rng():
        for language, content in blocks(page):
            if language == "python":
                assert not printed.strip(), f"not shown: {printed}"
                exec(compile(content, str(page), "exec"), module.__dict__)
                printed = capsys.readouterr().out
                continue
            words, numbers = words_and_numbers(content)
            found_words, found_numbers = words_and_numbers(printed)
            assert found_words == words
            assert found_numbers == pytest.approx(numbers, rel=OTHER_ROUNDING, abs=1e-5)
            printed, n_shown = "", n_shown + 1
    assert not printed.strip(), f"not shown: {printed}"
    assert n_shown >= 2


def test_there_are_five_in_the_list_of_tutorials_and_on_the_first_page() -> None:
    assert len(TUTORIALS) == 5
    listed = (FOLDER / "index.md").read_text(encoding="utf-8")
    first = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in TUTORIALS:
        assert listed.count(page.stem) >= 2, "in the table and in the list"
        assert f"tutorials/{page.stem}" in first


def test_words_and_numbers_are_told_apart() -> None:
    assert words_and_numbers("10^-3  [1, 2.5%]\n 1,000 points in 0.25 s, 3e-07") == (
        "#^-# [#, #%] # points in a time, #",
        [10.0, 3.0, 1.0, 2.5, 1000.0, 3e-07],
    )
    words, numbers = words_and_numbers("share 41%")
    assert words == "share #%"
    assert not math.isclose(numbers[0], 50.0, rel_tol=OTHER_ROUNDING)
