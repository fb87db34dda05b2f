"""The report's page in a browser: what it shows, what it does, and that it asks for nothing.

A part of the shipped evidence is drawn, so that the page has what a whole report has.
"""

import base64
import json
import math
import re
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from trueboundary import theory
from trueboundary.report.build import BuiltReport, build_report
from trueboundary.report.page import render_page
from trueboundary.runs import plan_file, read_plan

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SHOWN = ("spheres-fraction", "spheres-caps", "spheres-slices", "bayes-attacks", "bayes-symmetric")
#: Pixels of the page to one of the PNG files: what makes letters of 10 points 10 points high.
SCALE = 96 / 160


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltReport:
    root = tmp_path_factory.mktemp("evidence")
    (root / "plans").mkdir()
    for id in SHOWN:
        plan = plan_file(ROOT / "evidence", id)
        shutil.copy(plan, plan_file(root, id))
        for folder in read_plan(plan).runs.values():
            target = root / "runs" / folder
            if not target.exists():
                shutil.copytree(ROOT / "evidence" / "runs" / folder, target)
    report = build_report(root)
    assert report.problems == []
    return report


@pytest.fixture
def page(chromium: Any, built: BuiltReport) -> Any:
    """Return the browser with the report open in it, unfiltered."""
    chromium.open(built.page.as_uri())
    return chromium


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_is_whole_at_any_size_and_in_any_light(
    chromium: Any, built: BuiltReport, width: int, dark: bool
) -> None:
    chromium.open(built.page.as_uri(), width=width, dark=dark)
    assert chromium.faults() == []
    asked = [address for address in chromium.requests if not address.startswith("data:")]
    assert asked == [built.page.as_uri()]
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    images = chromium.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.offsetWidth])"
    )
    n_panels = sum(len(s.analysis.panels) for s in built.material.sections if s.analysis)
    assert len(images) == n_panels + 3
    assert all(complete and natural and shown for complete, natural, shown in images)
    paper = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ("<p style='width: 2000px'>wide</p>", "pixels wide in a window of 400"),
        ("<h6>deep</h6>", "heading of level 6 after"),
        ("<img src='data:image/png;base64,' alt='none'>", "image that is missing"),
        ("<img src='data:image/png;base64,'>", "image without words"),
        ("<p id='claims'>again</p>", "two of claims"),
        ("<a href='#nowhere'>there</a>", "link to nothing"),
        ("<input>", "control without a name"),
        ("<table><tr><th>a</th></tr></table>", "table without heads"),
        ("<div style='overflow: auto; width: 9em'><pre>%s</pre></div>" % (99 * "x"), "of the keyb"),
        ("<p style='color: #777'>faint</p>", "contrast 4.48"),
        ("<button style='outline: none'>lost</button>", "focus that is not seen"),
    ],
)
def test_what_is_wrong_with_a_page_is_found(
    chromium: Any, built: BuiltReport, tmp_path: Path, planted: str, told: str
) -> None:
    (tmp_path / "index.html").write_text(
        render_page(built.material.only([]), {}).replace("</main>", f"{planted}</main>")
    )
    chromium.open((tmp_path / "index.html").as_uri(), width=400)
    assert any(told in fault for fault in chromium.faults())


def test_what_could_ask_for_something_is_refused(chromium: Any, built: BuiltReport) -> None:
    chromium.open(built.page.as_uri())
    chromium.evaluate(
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1/'}))"
    )
    chromium.evaluate("new Promise(done => setTimeout(done, 200))")
    assert any("Content Security Policy" in message for message in chromium.messages)


def test_the_first_screen_is_the_summary(page: Any) -> None:
    bottom = "document.querySelector({!r}).getBoundingClientRect().bottom"
    assert page.evaluate(bottom.format(".told")) < 900
    assert page.evaluate(bottom.format(".tiles")) < 900
    assert page.evaluate("document.querySelector('nav').getBoundingClientRect().top") > 0


@pytest.mark.parametrize("width", [400, 1400])
def test_figures_have_letters_of_one_height_and_lead_to_their_files(
    chromium: Any, built: BuiltReport, width: int
) -> None:
    chromium.open(built.page.as_uri(), width=width)
    shown = chromium.evaluate(
        "[...document.querySelectorAll('.sheet img')].map(i => [i.getBoundingClientRect().width, "
        "i.getBoundingClientRect().height, i.naturalWidth, i.naturalHeight, i.closest('a').href])"
    )
    for across, up, natural_width, natural_height, address in shown:
        assert across == pytest.approx(SCALE * natural_width, abs=1)
        assert up == pytest.approx(SCALE * natural_height, abs=1)
        assert Path(address.removeprefix("file://")).is_file()
    links = chromium.evaluate("[...document.querySelectorAll('.links a')].map(a => a.href)")
    assert len(links) == 3 * len(shown)
    assert all(Path(address.removeprefix("file://")).stat().st_size for address in links)
    if width == 1400:
        boxes = "[...document.querySelectorAll('.sheet')].map(b => [b.scrollWidth, b.clientWidth])"
        assert all(whole <= seen for whole, seen in chromium.evaluate(boxes)), "none is cut off"


def test_verdict_and_value_are_seen_on_a_phone(chromium: Any, built: BuiltReport) -> None:
    chromium.open(built.page.as_uri(), width=400)
    boxes = chromium.evaluate(
        "[...document.querySelectorAll('tr.claim')].map(row => ['.badge', '.value'].map(name => {"
        "const [inner, outer] = [row.querySelector(name), row].map(e => e.getBoundingClientRect());"
        "return [inner.left, inner.right, inner.top - outer.top, inner.width]}))"
    )
    assert len(boxes) == len(built.material.attempted)
    for row in boxes:
        for left, right, below, across in row:
            assert 0 <= left < right <= 400
            assert across > 20
            assert below < 300


def test_every_row_shows_what_was_measured(page: Any, built: BuiltReport) -> None:
    shown = page.evaluate("[...document.querySelectorAll('tr.claim .value')].map(c => c.innerText)")
    for words, row in zip(shown, built.material.attempted, strict=True):
        assert row.claim.quantity in " ".join(words.split())


# --- filters ------------------------------------------------------------------------------------

_VISIBLE = (
    "[...document.querySelectorAll('tr.claim')].filter(r => r.offsetHeight > 0).map(r => r.id)"
)


def test_tiles_filter_the_claims(page: Any, built: BuiltReport) -> None:
    every = [f"claim-{row.claim.id}" for row in built.material.attempted]
    assert page.evaluate(_VISIBLE) == every
    tiles = page.evaluate(
        "[...document.querySelectorAll('a.tile')]"
        ".map(t => [t.dataset.verdict, +t.querySelector('b').innerText])"
    )
    assert sum(n for _, n in tiles) == len(built.material.judged)
    for name, n in tiles:
        click = f"document.querySelector('a.tile[data-verdict={name}]').click()"
        page.evaluate(click)
        shown = page.evaluate(_VISIBLE)
        assert len(shown) == n
        assert page.evaluate("document.getElementById('filter-count').innerText").startswith(
            f"{n} of"
        )
        marks = page.evaluate(f"{_VISIBLE}.map(id => document.getElementById(id).dataset.verdict)")
        assert set(marks) <= {name}
        page.evaluate(click)
        assert page.evaluate(_VISIBLE) == every
    assert page.messages == []


def test_tiles_sliders_and_the_viewer_do_without_a_mouse(page: Any) -> None:
    every = page.evaluate(_VISIBLE)
    for key in ("Enter", " "):
        page.evaluate("document.querySelector('a.tile').focus()")
        page.press(key)
        assert 0 < len(page.evaluate(_VISIBLE)) < len(every)
        page.press(key)
        assert page.evaluate(_VISIBLE) == every
    page.evaluate("document.getElementById('explore-dim').focus()")
    before = page.evaluate("explored")
    page.press("ArrowRight")
    assert page.evaluate("explored") != before
    place = "document.getElementById('viewer-place').innerText"
    page.evaluate("document.querySelector('.pictures').focus()")
    first = page.evaluate(place)
    page.press("ArrowRight")
    assert page.evaluate(place).startswith("image 2 of")
    page.press("ArrowLeft")
    assert page.evaluate(place) == first
    page.evaluate("document.getElementById('viewer-on').focus()")
    page.press("Enter")
    assert page.evaluate(place).startswith("image 2 of")


def test_papers_and_words_filter_the_claims_and_a_link_brings_them_back(
    page: Any, built: BuiltReport
) -> None:
    every = built.material.attempted
    _set(page, "filter-paper", "bayes")
    own = [row for row in every if row.claim.paper == "bayes"]
    assert page.evaluate(_VISIBLE) == [f"claim-{row.claim.id}" for row in own]
    _set(page, "filter-words", "RBF svm")
    found = page.evaluate(_VISIBLE)
    assert 0 < len(found) < len(own)
    gone = next(row.claim.id for row in every if row.claim.paper == "spheres")
    page.evaluate(f"document.querySelector('section section a[href=\"#claim-{gone}\"]').click()")
    assert len(page.evaluate(_VISIBLE)) == len(every)
    _set(page, "filter-words", "no claim says this")
    assert page.evaluate(_VISIBLE) == []
    page.evaluate("document.getElementById('filter-none').click()")
    assert len(page.evaluate(_VISIBLE)) == len(every)


def _set(page: Any, id: str, value: object) -> None:
    page.evaluate(
        f"(() => {{ const control = document.getElementById({id!r}); control.value = "
        f"{json.dumps(str(value))}; control.dispatchEvent(new Event('input')); }})()"
    )


# --- explorer -----------------------------------------------------------------------------------


def _explore(page: Any, **sliders: float) -> Any:
    for name, value in sliders.items():
        _set(page, f"explore-{name}", value)
    return page.evaluate("explored")


@pytest.mark.parametrize(
    "sliders",
    [
        {},
        {"dim": 0, "radius": 1000, "error": -1.0},  # d = 2, R = 2
        {"dim": 400, "radius": 667, "error": -3.0, "share": 0.9},
        {"dim": 811, "radius": 900, "error": -21.0},  # d = 2,000
        {"dim": 811, "radius": 0, "error": -0.4, "share": 0.5},  # R = 1.001
        {"dim": 1000, "radius": 900, "error": -30.0, "share": 0.02},
    ],
)
def test_what_is_explored_is_what_the_library_computes(
    page: Any, sliders: dict[str, float]
) -> None:
    found = _explore(page, **sliders)
    chosen = found["chosen"]
    dim, radius = chosen["dim"], chosen["radius"]
    log_rate = chosen["log10Error"] * math.log(10)
    distance = theory.caps.mean_distance(dim, log_measure=log_rate)
    assert found["caps"]["here"] == pytest.approx(distance, rel=1e-9)
    for sphere, own in (("inner", 1.0), ("outer", radius)):
        for x, y in found["caps"][sphere][::10]:
            log_measure = min(x * math.log(10), -math.log(2))
            exact = theory.caps.mean_distance(dim, log_measure=log_measure, radius=own)
            assert y == pytest.approx(exact, rel=1e-8)

    assert chosen["threshold"] == 0.5
    rules: dict[str, dict[str, Any]] = {
        "exact": {"threshold": "midpoint"},
        "clt": {"threshold": "midpoint", "method": "clt"},
        "best": {"threshold": "optimal"},
    }
    for name, rule in rules.items():
        for x, share in found["shares"][name][::10]:
            d = round(10**x)
            k = theory.truncated.required_dimensions(d, math.exp(log_rate), radius=radius, **rule)
            assert share == (None if k is None else pytest.approx(k / d, abs=1e-12))

    # The same ellipsoid by another formula: a contour integral over its alphas.
    k, b = found["ellipsoid"]["k"], found["ellipsoid"]["b"]
    alphas = [1 / b] * k + [0.0] * (dim - k)
    for sphere in ("inner", "outer"):
        exact = theory.quadratic_forms.ellipsoid_log_error(alphas, sphere=sphere, radius=radius)
        assert _log(found["ellipsoid"]["here"][sphere]) == pytest.approx(exact, rel=1e-8)
    for place, log10 in found["ellipsoid"]["clt"][8:80:8]:
        at = k / dim * (1 + place * (radius**2 - 1))
        clt = theory.truncated.log_errors(dim, k, at, radius=radius, method="clt").average
        assert log10 * math.log(10) == pytest.approx(clt, rel=1e-9)


def _log(value: float | None) -> float:
    return -math.inf if value is None else value  # JSON has no infinity


@pytest.mark.parametrize("threshold", [0, 1])
@pytest.mark.parametrize("radius", [0, 1000])
@pytest.mark.parametrize("dim", [0, 60, 90, 811, 1000])
def test_nothing_breaks_at_the_ends_of_the_sliders(
    page: Any, dim: int, radius: int, threshold: int
) -> None:
    for error, share in ((-30, 0.01), (-0.4, 0.99)):
        found = _explore(
            page, dim=dim, radius=radius, threshold=threshold, error=error, share=share
        )
        chosen, ellipsoid = found["chosen"], found["ellipsoid"]
        assert chosen["dim"] == {0: 2, 60: 3, 90: 4, 811: 2000, 1000: 10_000}[dim]
        assert chosen["radius"] == {0: 1.001, 1000: 2.0}[radius]
        log_rate = error * math.log(10)
        distance = theory.caps.mean_distance(chosen["dim"], log_measure=log_rate)
        assert found["caps"]["here"] == pytest.approx(distance, rel=1e-9)
        of = chosen["dim"], ellipsoid["k"], ellipsoid["b"]
        exact = theory.truncated.log_errors(*of, radius=chosen["radius"])
        for sphere in ("inner", "outer"):
            log_error = _log(ellipsoid["here"][sphere])
            assert log_error == pytest.approx(getattr(exact, sphere), rel=1e-8, abs=1e-12)
        shown = page.evaluate("document.getElementById('explorer').innerHTML")
        assert not re.search("NaN|Infinity|undefined|null", shown)
    assert page.messages == []


def test_the_threshold_slider_moves_what_depends_on_it(page: Any) -> None:
    before = _explore(page, error=-4)
    after = _explore(page, threshold=0.3)
    dim, radius, target = 500, 1.3, math.log(1e-4)
    assert before["caps"] == after["caps"]
    k = round(after["shares"]["here"] * dim)

    def average(k: int) -> float:
        at = k / dim * (1 + 0.3 * (radius**2 - 1))
        return theory.truncated.log_errors(dim, k, at, radius=radius).average

    assert average(k) <= target < average(k - 1)
    assert k != round(before["shares"]["here"] * dim)
    words = page.evaluate("document.getElementById('explore-shares-words').innerText")
    assert f"needs {k} coordinates" in words
    assert after["ellipsoid"]["here"]["inner"] > before["ellipsoid"]["here"]["inner"]


def test_every_slider_redraws(page: Any) -> None:
    drawn = (
        "['caps', 'shares', 'ellipsoid']"
        ".map(name => document.getElementById(`explore-${name}`).innerHTML)"
    )
    depends = {
        "dim": {0, 1, 2}, "radius": {0, 1, 2}, "error": {0, 1}, "threshold": {1, 2}, "share": {2},
    }  # fmt: skip
    values = {"dim": 300, "radius": 920, "error": -9, "threshold": 0.7, "share": 0.2}
    for name, expected in depends.items():
        before = page.evaluate(drawn)
        said = page.evaluate(f"document.getElementById('explore-{name}-value').innerText")
        _set(page, f"explore-{name}", values[name])
        after = page.evaluate(drawn)
        assert {i for i in range(3) if before[i] != after[i]} == expected
        told = page.evaluate(f"document.getElementById('explore-{name}-value').innerText")
        assert told != said
        slider = f"document.getElementById('explore-{name}')"
        assert page.evaluate(f"{slider}.getAttribute('aria-valuetext')") == told
        assert "NaN" not in "".join(after)
    assert page.messages == []


# --- viewer and print ---------------------------------------------------------------------------


def test_the_viewer_steps_through_every_classifier(page: Any) -> None:
    views = json.loads(page.evaluate("document.getElementById('viewer-data').textContent"))
    parts = ("original", "attacked", "difference")
    sources = f"{list(parts)}.map(part => document.getElementById(`viewer-${{part}}`).src)"
    for i, view in enumerate(views):
        _set(page, "viewer-problem", i)
        for j, classifier in enumerate(view["classifiers"]):
            _set(page, "viewer-classifier", j)
            n = len(classifier["images"])
            seen = []
            for _ in range(n):
                seen.append(page.evaluate(sources))
                page.evaluate("document.getElementById('viewer-on').click()")
            expected = [[image[part] for part in parts] for image in classifier["images"]]
            assert seen == expected
            page.evaluate("document.getElementById('viewer-back').click()")
            assert page.evaluate(sources) == expected[-1]
            page.evaluate("document.getElementById('viewer-on').click()")
            words = page.evaluate("document.getElementById('viewer-place').innerText")
            assert words == f"image 1 of {n}: {classifier['images'][0]['words']}"
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_print_keeps_every_column(page: Any, built: BuiltReport) -> None:
    across = 1039  # A4 lying on its side, less the margins, at 96 to the inch, rounded down
    page.look(width=across)
    page.send("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= across
        cells = page.evaluate(
            "[...document.querySelectorAll('#claims tr.claim > *')]"
            ".map(cell => cell.getBoundingClientRect()).map(box => [box.left, box.right])"
        )
        assert len(cells) == 7 * len(built.material.attempted)
        assert all(0 <= left < right <= across for left, right in cells)
    finally:
        page.look()
    assert _n_pages(page) <= 12


def _n_pages(page: Any) -> int:
    asked = {"preferCSSPageSize": True, "printBackground": True}
    pdf = base64.b64decode(page.send("Page.printToPDF", asked)["data"])
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


@pytest.mark.slow
def test_the_whole_report_prints_on_thirty_pages(chromium: Any, tmp_path: Path) -> None:
    whole = build_report(ROOT / "evidence", tmp_path / "report")
    chromium.open(whole.page.as_uri())
    assert _n_pages(chromium) <= 30
    for width, dark in product((400, 1400), (False, True)):
        chromium.open(whole.page.as_uri(), width=width, dark=dark)
        assert chromium.faults() == []


def test_a_page_without_figures_or_claims_works(
    chromium: Any, built: BuiltReport, tmp_path: Path
) -> None:
    empty = built.material.only([])
    (tmp_path / "index.html").write_text(render_page(empty, {}), encoding="utf-8")
    chromium.open((tmp_path / "index.html").as_uri(), width=400)
    assert chromium.messages == []
    assert chromium.evaluate("document.documentElement.scrollWidth") == 400
