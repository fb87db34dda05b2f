"""What pages of the guide say of the code is true of it."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from trueboundary import __version__

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FAQ = (DOCS / "faq.md").read_text(encoding="utf-8")
#: The entries of the page that are messages, in code at the beginning of a line.
MESSAGES = re.findall(r"^`([^`\n]+)`$", FAQ, flags=re.M)


@cache
def sentences() -> tuple[str, ...]:
    """Return every text of the package, strings that are joined by Python in one piece."""
    return tuple(
        node.value
        for file in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_of_failures_is_one_of_the_code(message: str) -> None:
    pieces = [piece.strip(" .'") for piece in message.split("…")]
    pieces = [piece for piece in pieces if len(piece) > 3]
    assert pieces
    for piece in pieces:
        assert any(piece in sentence for sentence in sentences()), piece


def test_there_are_messages_on_the_page_of_failures() -> None:
    assert len(MESSAGES) >= 30


PAPERS = ("adversarial-spheres", "bayes-optimal-view")
VERDICTS = (DOCS / "verdicts.md").read_text(encoding="utf-8")
ERRATA = (DOCS / "errata.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?:e-?\d+)?(?![\w])")


def rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of tables that begin with the id of a claim."""
    lines = re.findall(r"^\| [A-Z]\d?\S* \|.*\|$", text, flags=re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("name", PAPERS)
def test_verdicts_on_the_page_of_a_paper_are_those_that_were_computed(name: str) -> None:
    computed = {row[0]: [cell.partition(":")[0] for cell in row[3:]] for row in rows(VERDICTS)}
    told = rows((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    assert len(told) >= 20
    for claim, _, quick, paper in told:
        assert [quick, paper] == computed[claim], claim


def rounded(numbers: set[str]) -> set[str]:
    """Return numbers with what they are in fewer digits, powers of ten apart."""
    found = set(numbers)
    for number in numbers:
        value = number.partition("e")[0].replace(",", "")
        try:
            found |= {f"{float(value):.{n}f}" for n in range(1, len(value.partition(".")[2]))}
        except ValueError:  # a chapter, a version
            continue
    return found


@pytest.mark.parametrize("name", PAPERS)
def test_numbers_on_the_page_of_a_paper_are_of_the_verdicts_or_the_errata(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\([^)\s]*\)", "]", text)  # where links lead
    numbers = {number for number in NUMBER.findall(text) if re.search(r"[.,e]|\d{3}", number)}
    known = rounded(set(NUMBER.findall(VERDICTS + ERRATA)))
    own = {"2018", "2021", "221", "1801.02774"}
    assert numbers - known - own == set()


def test_numbers_are_known_in_fewer_digits() -> None:
    assert rounded({"8.236", "1e-11", "100,000"}) == {"8.236", "8.24", "8.2", "1e-11", "100,000"}


@pytest.mark.parametrize("name", PAPERS)
def test_the_page_of_a_paper_leads_to_corrections_that_there_are(name: str) -> None:
    heads = re.findall(r"^#{2,3} (.+)$", ERRATA, flags=re.M)
    slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    led_to = re.findall(r"errata\.md#([^)]+)\)", (DOCS / f"{name}.md").read_text("utf-8"))
    assert len(led_to) >= 5
    assert set(led_to) <= slugs


EXTENSION = DOCS / "_extensions" / "offline.py"


@pytest.mark.parametrize(
    ("text", "fetched"),
    [
        ('<script async src="https://a.org/x.js"></script>', ["https://a.org/x.js"]),
        ("<link rel='stylesheet' href='//a.org/x.css'>", ["//a.org/x.css"]),
        ("@font-face { src: url('https://a.org/x.woff2') }", ["https://a.org/x.woff2"]),
        ('<a href="https://a.org">there</a> <img src="_images/x.png">', []),
        ("a { background: url(\"data:image/svg+xml,<svg xmlns='http://www.w3.org'>\") }", []),
    ],
)
def test_pages_that_ask_another_machine_are_seen(text: str, fetched: list[str]) -> None:
    spec = importlib.util.spec_from_file_location("offline", EXTENSION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.requests(text) == fetched


REFERENCE = sorted(
    (page, module, names.split())
    for page in (DOCS / "api").glob("*.md")
    for module, names in re.findall(
        r"^\.\. automodule:: (\S+)\n\n\.\. autosummary::\n(?:   :.*\n)+\n((?:   \w+\n)+)",
        page.read_text(encoding="utf-8"),
        flags=re.M,
    )
)


@pytest.mark.parametrize(("page", "module", "names"), REFERENCE, ids=lambda part: str(part)[-30:])
def test_the_reference_lists_what_a_room_hands_out(
    page: Path, module: str, names: list[str]
) -> None:
    assert names == sorted(importlib.import_module(module).__all__)


def test_every_room_is_in_the_reference() -> None:
    pages = {page.stem for page in (DOCS / "api").glob("*.md")} - {"index", "report", "theory"}
    assert {f"trueboundary.{name}" for name in pages} <= {module for _, module, _ in REFERENCE}
    listed = (DOCS / "api" / "index.md").read_text(encoding="utf-8").split()
    assert pages <= set(listed)


def test_what_is_cited_is_the_version_that_is_here() -> None:
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    page = (DOCS / "citing.md").read_text(encoding="utf-8")
    (released,) = re.findall(
        rf"^## \[{re.escape(__version__)}\] - (\S+)$",
        (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        flags=re.M,
    )
    assert f"\nversion: {__version__}\n" in cited
    assert f"\ndate-released: {released}\n" in cited
    assert f"version = {{{__version__}}}" in page
    assert f"year = {{{released[:4]}}}" in page
