"""Robustness cards in a browser: whole, and asking for nothing."""

from pathlib import Path
from typing import Any

import pytest

from trueboundary.audits import audit, compare

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the page of a card and that of a comparison."""
    folder = tmp_path_factory.mktemp("cards")
    few: dict[str, Any] = {"n_points": 4, "n_error_points": 100}
    one, other = (audit(lambda x, i=i: x[:, i], "spheres-d5", **few) for i in (0, 1))
    return {
        "card": one.save(folder / "card.html"),
        "comparison": compare(one, other).save(folder / "comparison.html"),
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", ["card", "comparison"])
def test_a_card_is_whole_at_any_size_and_in_any_light(
    chromium: Any, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    address = pages[name].as_uri()
    chromium.open(address, width=width, dark=dark)
    assert chromium.messages == []
    assert [a for a in chromium.requests if not a.startswith("data:")] == [address]
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    images = chromium.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert images
    assert all(images)
    background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(24, 24, 24)" if dark else "rgb(255, 255, 255)")
