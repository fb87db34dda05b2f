"""The examples of the guide run; the pages that say how to add something are short and listed."""

import re
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trueboundary.data import sources
from trueboundary.experiments import Verdict, base, judge
from trueboundary.experiments.claims import parse_claim
from trueboundary.runs import Store, execute

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("adding-*.md"))
WALKS = [
    *PAGES,
    *(DOCS / f"{name}.md" for name in ("attacks", "audit", "classes", "data-outward")),
    DOCS / "training-compared.md",
]
LONGEST = 40  # lines

# Sizes that only cost time, of the pages on which they stand.
SMALLER = {
    "audit": {"n_points=20": "n_points=3"},
    "training-compared": {"n_points=4": "n_points=2"},
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)


def run(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the Python of a page from top to bottom, as one module; return its names."""
    module = ModuleType(page.stem.replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    # Sources of a page are forgotten with it: other tests name theirs alike.
    monkeypatch.setattr(sources, "_SOURCES", dict(sources._SOURCES))
    for block in blocks(page, "python"):
        for large, small in SMALLER.get(page.stem, {}).items():
            block = block.replace(large, small)
        exec(compile(block, str(page), "exec"), module.__dict__)
    return module.__dict__


@pytest.mark.parametrize("page", WALKS, ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_in_their_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(page, monkeypatch)


def test_shortened_examples_are_still_on_their_pages() -> None:
    for stem, sizes in SMALLER.items():
        for large in sizes:
            assert large in "".join(blocks(DOCS / f"{stem}.md", "python"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_example_is_long(page: Path) -> None:
    examples = blocks(page, "python")
    assert examples
    assert max(len(example.splitlines()) for example in examples) <= LONGEST


def test_every_page_is_in_the_list() -> None:
    assert {"adding-an-attack", "adding-a-problem", "adding-an-experiment"} <= {
        page.stem for page in PAGES
    }
    listed = (DOCS / "how-to-add.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"({page.name})" in listed
    assert "how-to-add" in (DOCS / "index.md").read_text(encoding="utf-8")


def test_the_experiment_of_its_page_is_run_analysed_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS / "adding-an-experiment.md"
    settings, claims = (tomllib.loads(block) for block in blocks(page, "toml"))
    monkeypatch.setattr(base, "_scales", lambda: settings)
    experiment = run(page, monkeypatch)["EXPERIMENT"]
    configs = experiment.runs("quick")
    store = Store(tmp_path)
    with ThreadPoolExecutor(1) as executor:
        assert execute(configs.values(), store, executor) == []
    runs = {name: store.read(store.path(config)) for name, config in configs.items()}
    analysis = experiment.analyse(runs, experiment.settings("quick"))
    assert analysis.panels[0].draw().axes
    (entry,) = claims["claim"]
    claim, measured = parse_claim("spheres", entry), analysis.measurements["C1"]
    verdict = judge(claim, measured, experiment.settings("quick")).verdict
    assert verdict is Verdict.NOT_AT_THIS_SCALE
    assert judge(claim, measured, experiment.settings("paper")).verdict is Verdict.REPRODUCED
