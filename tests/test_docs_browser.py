"""The guide in a browser, where ``make docs`` has built it."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

BUILT = Path(__file__).parents[1] / "docs" / "_build" / "html"
#: Pages of single objects and of source code are as many as all the others ten times over, and the
#: indices are Sphinx's alone.
LEFT_OUT = {"_modules", "_made", "genindex.html", "py-modindex.html"}
PAGES = [
    page.relative_to(BUILT).as_posix()
    for page in sorted(BUILT.rglob("*.html"))
    if not LEFT_OUT & {*page.relative_to(BUILT).parts}
]
#: What is the theme's and Sphinx's, not ours: the search field shows its focus by its colour, long
#: lines of code are scrolled with the keyboard only in browsers that let every box be, and
#: summaries of objects are tables without a head.
OF_THE_THEME = (
    "focus that is not seen: <input",
    "out of reach of the keyboard",
    'table without heads: <table class="autosummary',
)


@pytest.mark.skipif(not PAGES, reason="make docs has not built the guide")
def test_every_page_of_the_guide_is_whole_at_any_size_and_in_any_light(chromium: Any) -> None:
    faults = []
    for page, width, dark in product(PAGES, (400, 1400), (False, True)):
        chromium.open((BUILT / page).as_uri(), width=width, dark=dark)
        found = [fault for fault in chromium.faults() if not fault.startswith(OF_THE_THEME)]
        found += [a for a in chromium.requests if not a.startswith(("data:", BUILT.as_uri()))]
        faults += [f"{page}, {width}: {fault}" for fault in found]
    assert faults == []
