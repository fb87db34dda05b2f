"""The page that a package index shows: the README, without what leads nowhere from there."""

import re
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def package() -> ProjectMetadata:
    return ProjectMetadata(str(ROOT), PluginManager())


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_link_leads_into_a_repository_that_is_not_there(package):
    targets = re.findall(r"\]\(([^)]*)\)", package.core.readme)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "![" not in package.core.readme


def test_the_words_stay(package):
    def words(page: str, kind: str) -> list[str]:
        parts = re.findall(kind, page, re.MULTILINE)
        return [re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", part) for part in parts]

    for kind in (r"^#+ .*$", r"^\|.*\|$"):  # headings, rows of tables
        assert words(readme(), kind)
        assert words(package.core.readme, kind) == words(readme(), kind)


def test_code_is_left_as_it_is(package):
    blocks = re.findall(r"```python\n(.*?)```", readme(), re.DOTALL)
    assert blocks
    assert blocks == re.findall(r"```python\n(.*?)```", package.core.readme, re.DOTALL)


def test_every_link_of_the_metadata_stands_in_the_citation(package):
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert all(f'"{address}"' in citation for address in package.core.urls.values())
