"""Pages of audits in a browser: whole, fit to be read by anybody, and asking for nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trueboundary import zoo
from trueboundary.audits import TrainingSettings, audit, audit_training, compare
from trueboundary.problems import planar_problem

pytestmark = pytest.mark.browser


def straight(problem: Any, generator: torch.Generator) -> Any:
    """Be a way to train that calls right what lies right."""
    return lambda x: x[:, 0]


def crashing(problem: Any, generator: torch.Generator) -> None:
    """Be a way to train that fails."""
    raise RuntimeError("out of luck")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a page of each kind; the card of images has pictures and a red flag."""
    folder = tmp_path_factory.mktemp("cards")
    few: dict[str, Any] = {"n_points": 4, "n_error_points": 100}
    one, other = (audit(lambda x, i=i: x[:, i], "spheres-d5", **few) for i in (0, 1))
    model = zoo.load("mnist-0-6-symmetric-linear-svm")
    images = audit(lambda x: model(x).round(), "mnist-0-6-symmetric", **few)
    assert images.flags, "a page of a red flag is part of what is looked at"
    training = audit_training(
        planar_problem("a"),
        [straight, crashing],
        seeds=1,
        settings=TrainingSettings(n_steps=2),
        **few,
    )
    return {
        "card": one.save(folder / "card.html"),
        "images": images.save(folder / "images.html"),
        "comparison": compare(one, other).save(folder / "comparison.html"),
        "training": training.save(folder / "training.html"),
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", ["card", "images", "comparison", "training"])
def test_a_page_is_whole_at_any_size_and_in_any_light(
    chromium: Any, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    address = pages[name].as_uri()
    chromium.open(address, width=width, dark=dark)
    assert chromium.faults() == []
    assert [a for a in chromium.requests if not a.startswith("data:")] == [address]
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    assert chromium.evaluate("document.images.length") > 0
    background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(24, 24, 24)" if dark else "rgb(255, 255, 255)")
