"""The page of the zoo: its example runs and prints what stands below it."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "zoo.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    (said,) = re.findall(r"```text\n(.*?)```", page, flags=re.S)
    exec(compile(code, "zoo.md", "exec"), {})
    printed = capsys.readouterr().out
    number = re.compile(r"\d+\.\d+")
    assert number.sub("#", printed) == number.sub("#", said)
    values, stated = (list(map(float, number.findall(text))) for text in (printed, said))
    assert values == pytest.approx(stated, abs=0.011)  # printed to two places
