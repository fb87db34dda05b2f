"""The report: one page that needs nothing else, and honest files beside it."""

import csv
import json
import math
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from trueboundary.experiments import Analysis, Measurement, Verdict
from trueboundary.experiments.claims import parse_claim
from trueboundary.experiments.own_findings import Finding
from trueboundary.experiments.printed_tables import PrintedRow, PrintedTable
from trueboundary.figures import COLOURS, CYCLE, new_figure, save_figure
from trueboundary.report.build import GrowingReport, build_report
from trueboundary.report.collect import Material
from trueboundary.report.figure_files import draw_picture
from trueboundary.report.markdown import BEGIN, END, update_readme, update_scales
from trueboundary.report.words import duration, measured_value, number
from trueboundary.runs import Plan, Store, execute, read_plan, total_cost, write_plan

HELPERS = Path(__file__).parents[1] / "helpers"
VOID = {"meta", "img", "br", "link", "input", "hr"}


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)
    import fake_experiment
    from register import register

    register(monkeypatch)
    return fake_experiment


@pytest.fixture
def root(fake, tmp_path):
    compute(fake, tmp_path)
    return tmp_path


def compute(fake, root, scale="quick", **overrides):
    settings = fake.EXPERIMENT.settings(scale, overrides)
    configs = fake.EXPERIMENT.runs(scale, overrides=overrides)
    folders = {name: config.folder for name, config in configs.items()}
    write_plan(root, Plan("sums", scale, 0, "cpu", settings, overrides, folders))
    with ThreadPoolExecutor(1) as executor:
        execute(configs.values(), Store(root), executor)


class Page(HTMLParser):
    """Collects what matters of a page and checks that its tags match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.words = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img":
            self.images.append(attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_is_whole_and_needs_nothing_else(root):
    text = build_report(root).page.read_text(encoding="utf-8")
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    beside = [link for link in page.links if not link.startswith("#")]
    assert all(link[1:] in page.ids for link in page.links if link not in beside)
    assert set(beside) == {f"figures/sums.{suffix}" for suffix in ("png", "pdf", "csv")}
    assert all((root / "report" / link).is_file() for link in beside)
    (image,) = page.images
    assert image["src"].startswith("data:image/png;base64,")
    assert "level off" in image["alt"]
    # Nothing in it may make a browser ask for anything, and browsers are told so.
    own = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|<script src|<link|@import|url\(", own)
    assert "default-src 'none'" in text


def test_the_page_says_what_was_found(root):
    page = Page(build_report(root).page.read_text(encoding="utf-8")).text
    told = "2 claims: 1 reproduced, 0 different, 0 inconclusive, 1 not testable at this scale."
    assert told in page
    assert "sum of the first terms" in page, "what was measured stands beside the number"
    assert "Claims of experiments that were not asked for: 1." in page
    assert "n_terms is 100 here, 1,000 in the paper (section 1)" in page
    assert "assumed: not stated" in page
    assert "the known errata imply 'differs'" in page
    assert "1 difference from the paper" in page
    assert "They level off & <stay> below the limit." in page, "words are shown, not interpreted"
    assert "fewer terms are faster" in page
    assert "they grow strictly" in page
    assert "A remark with an umlaut: ü." in page
    assert "seed 0" in page
    assert re.search(r"torch \d", page)


def test_every_figure_has_its_files_and_data(root):
    build_report(root)
    folder = root / "report" / "figures"
    assert sorted(file.name for file in folder.iterdir()) == ["sums.csv", "sums.pdf", "sums.png"]
    with (folder / "sums.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {"run": "power 1", "n": "1", "sum": "1.0"}


def test_claims_are_written_for_machines_and_for_markdown(root):
    build_report(root)
    entries = json.loads((root / "report" / "claims.json").read_text())
    assert [entry["verdict"] for entry in entries] == ["not testable at this scale", "reproduced"]
    assert entries[0]["measurement"]["n"] == 100
    assert len(entries[1]["measurement"]["cells"]) == 10
    lines = (root / "report" / "claims.md").read_text().splitlines()
    assert len(lines) == 4
    assert all(re.sub(r"\\\|", "", line).count("|") == 9 for line in lines)


def test_a_report_is_the_same_when_written_again(root):
    def content():
        build_report(root)
        files = [file for file in (root / "report").rglob("*") if file.is_file()]
        return {file.name: file.read_bytes() for file in files}

    assert content() == content()


def test_what_only_a_request_starts_is_said_not_to_have_been_run(fake, root, monkeypatch):
    from trueboundary.report import collect

    def with_other(reason):
        other = replace(fake.EXPERIMENT, id="elsewhere", on_request=reason)
        both = {"sums": fake.EXPERIMENT, "elsewhere": other}
        monkeypatch.setattr(collect, "experiments", lambda: both)
        return build_report(root)

    built = with_other("it needs coins, which you bring")
    parsed = Page(built.page.read_text(encoding="utf-8"))
    assert all(link[1:] in parsed.ids for link in parsed.links if link.startswith("#"))
    page = parsed.text
    assert "3 claims: 1 reproduced" in page
    assert ", 1 not run." in page
    why = "not run here: elsewhere is run on request alone; it needs coins, which you bring"
    assert f"1 claim {why}." in page
    assert "not asked for" not in page
    assert why in (root / "report" / "claims.md").read_text()
    # Where an experiment that needs no request is missing as well, the report is not of the whole.
    assert with_other("").material.not_run == {}


def test_settings_given_by_hand_are_marked(fake, tmp_path):
    compute(fake, tmp_path, n_terms=1000)
    built = build_report(tmp_path)
    assert [j.verdict for j in built.material.judged] == [Verdict.REPRODUCED, Verdict.REPRODUCED]
    assert "1,000 (given by hand)" in Page(built.page.read_text(encoding="utf-8")).text


def test_a_missing_failed_or_damaged_run_is_said(fake, root):
    store = Store(root)
    config = fake.EXPERIMENT.runs("quick")["power 2"]
    (store.path(config) / "arrays.safetensors").write_bytes(b"")
    assert "is damaged" in _problem(root)
    shutil.rmtree(store.path(config))
    assert "has not finished" in _problem(root)
    compute(fake, root, mode="fail")
    assert "failed: ArithmeticError: this sum was asked to fail" in _problem(root)


def _problem(root):
    built = build_report(root)
    (section,) = built.problems
    page = Page(built.page.read_text(encoding="utf-8")).text
    assert "No result." in page
    assert ", 2 without a result." in page
    assert section.problem in page.replace("&#39;", "'")
    return section.problem


@pytest.mark.parametrize("part", ["analyse", "draw", "measurement"])
def test_an_experiment_that_breaks_does_not_cost_the_report(fake, root, monkeypatch, part):
    analyse = fake.EXPERIMENT.analyse

    def broken(runs, settings):
        analysis = analyse(runs, settings)
        if part == "analyse":
            raise KeyError("sums")
        if part == "measurement":
            return replace(analysis, measurements={"T1": Measurement(True)})
        return replace(analysis, panels=[replace(analysis.panels[0], draw=lambda: 1 / 0)])

    from trueboundary.report import collect

    experiments = {"sums": replace(fake.EXPERIMENT, analyse=broken)}
    monkeypatch.setattr(collect, "experiments", lambda: experiments)
    built = build_report(root)
    assert len(built.problems) == 1
    assert built.page.exists()


def test_figures_of_one_name_are_refused(fake, root, monkeypatch):
    from trueboundary.report import collect

    twice = replace(
        fake.EXPERIMENT,
        analyse=lambda runs, s: replace(
            fake.analyse(runs, s), panels=list(fake.analyse(runs, s).panels) * 2
        ),
    )
    monkeypatch.setattr(collect, "experiments", lambda: {"sums": twice})
    assert "a figure called 'sums' already" in build_report(root).problems[0].problem


def test_an_empty_store_gives_an_empty_report(fake, tmp_path):
    built = build_report(tmp_path)
    assert built.rows == []
    Page(built.page.read_text(encoding="utf-8"))


def test_figures_have_one_look(tmp_path):
    figure, (left, right) = new_figure(2, width=8.0, height=3.0)
    left.set(title="A title")
    assert tuple(figure.get_size_inches()) == (8.0, 3.0)
    assert not right.spines["top"].get_visible()
    first = save_figure(figure, tmp_path, "one")[0].read_bytes()
    assert save_figure(figure, tmp_path, "two")[0].read_bytes() == first
    assert left.get_title(loc="left") == "A title"
    assert len(set(CYCLE)) == len(CYCLE) <= len(COLOURS)
    with pytest.raises(ValueError, match="at least one axes"):
        new_figure(0)


def test_one_is_counted_as_one(fake, tmp_path):
    from trueboundary.measure import ErrorRate

    rate = ErrorRate(0, 1e-5, 0.0, 1e-4, -5.0, "sampling", "", n_points=100_000, n_errors=1)
    assert "(1 error in 100,000 points)" in str(rate)
    assert "(0 errors in 1 point)" in str(replace(rate, value=0.0, n_errors=0, n_points=1))
    compute(fake, tmp_path, scale="smoke")
    page = Page(build_report(tmp_path).page.read_text(encoding="utf-8")).text
    assert "1 run of 1 experiment stands behind this page; it took" in page
    assert not re.search(r"\b1 (claims|rows|experiments|differences)\b", page)


def test_words():
    assert number(-0.25) == "-0.25"
    assert number(float("nan")) == "none"
    assert number(-1e-21) == "-1 × 10^-21"
    assert duration(59.6) == "1 min"
    assert duration(3600) == "1 h"
    assert duration(float("nan")) == "< 1 s"
    assert measured_value(Measurement(0.5, high=float("inf"))) == "0.5 [0.5, infinity]"
    assert measured_value(None) == "–"


def test_a_growing_report_ends_as_the_report_of_its_folder(fake, root, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "trueboundary.report.build.draw_picture",
        lambda panel: drawn.append(panel.name) or draw_picture(panel),
    )
    growing = GrowingReport(root, plans=[read_plan(root / "plans" / "sums.json")])
    growing.write()
    early = (root / "report" / "index.html").read_text()
    assert "Its runs have not all finished yet." in early
    assert drawn == []
    rows = growing.add("sums")
    assert [row.claim.id for row in rows] == ["T1", "T2"]
    assert all(row.judgement is not None for row in rows)
    growing.write()
    growing.write(is_last=True)
    assert drawn == ["sums"], "it is drawn once"
    files = {f.name: f.read_bytes() for f in (root / "report").rglob("*.*") if f.is_file()}
    build_report(root)
    assert files == {f.name: f.read_bytes() for f in (root / "report").rglob("*.*") if f.is_file()}


def test_what_never_finished_says_why_at_last(fake, root):
    shutil.rmtree(root / "runs")
    growing = GrowingReport(root, plans=[read_plan(root / "plans" / "sums.json")])
    assert growing.write().problems[0].problem == "Its runs have not all finished yet."
    (section,) = growing.write(is_last=True).problems
    assert "has not finished; running again goes on with it" in section.problem


def test_the_papers_tables_stand_beside_ours(root, monkeypatch):
    from trueboundary.report import collect

    assert not (build_report(root).page.parent / "tables.md").exists()
    rows = (
        PrintedRow("a", "First row", ("3.0", "1.0"), ("2.9 [2.8, 3.1]", "0.9 [0.8, 1.0]")),
        PrintedRow("b", "Second row", ("4.0", "2.0")),
    )
    table = PrintedTable("table-9", "Table 9: means", "A note.", ("one", "other"), rows)
    monkeypatch.setattr(collect, "filled_tables", lambda *_: [table])
    built = build_report(root)
    page = Page(built.page.read_text(encoding="utf-8"))
    assert {"#table-9"} <= set(page.links)
    assert "table-9" in page.ids
    assert "First row 3.0 2.9 [2.8, 3.1] 1.0 0.9 [0.8, 1.0]" in page.text
    assert "Second row 4.0 not run 2.0 not run" in page.text
    assert "Of 2 rows, 1 were run." in page.text
    assert "| Second row | 4.0 | not run |" in (built.page.parent / "tables.md").read_text()


def test_an_open_verdict_says_what_would_decide_it(fake, root, monkeypatch):
    wide = Measurement(1.63, 1.0, 2.0, n=1000)
    monkeypatch.setattr(
        "trueboundary.report.collect.read_claims",
        lambda paper: [
            parse_claim("spheres", fake.CLAIMS[0] | {"depends_on": ["n_terms", "mode"]})
        ],
    )
    monkeypatch.setattr(
        fake, "EXPERIMENT", replace(fake.EXPERIMENT, analyse=lambda *_: Analysis([], {"T1": wide}))
    )
    monkeypatch.setattr(
        "trueboundary.report.collect.experiments", lambda: {"sums": fake.EXPERIMENT}
    )
    compute(fake, root, n_terms=1000)
    built = build_report(root)
    (judgement,) = built.material.judged
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.n_needed == 9296  # (0.5 / 0.164)^2 times as many
    config = fake.EXPERIMENT.runs("quick", overrides={"n_terms": 9296}).values()
    assert judgement.hours_needed == pytest.approx(total_cost(config) / 3600)
    page = Page(built.page.read_text(encoding="utf-8")).text
    assert "n = 9,296 would decide it" in page
    assert "Under the assumption that mode is plain (not stated)." in page
    assert "That n takes about" in page
    (entry,) = json.loads((built.page.parent / "claims.json").read_text())
    assert entry["n_needed"] == 9296
    assert entry["assumptions"] == ["mode is plain (not stated)"]


def test_findings_have_a_place_of_their_own_and_no_verdict(fake, root, monkeypatch):
    from trueboundary.report import collect

    own = Finding("T9", "spheres", "Section 0", "How | many?", "sums", "a sum", "none")
    gone = replace(own, id="T8", question="And otherwise?")
    found = Measurement(1.6, 1.5, 1.7, n=12, exact=1.644, cells=[{"n": 1}], note="A note.")
    analysed = Analysis([], {"T9": found}, without_data=["T8"])
    sums = replace(fake.EXPERIMENT, analyse=lambda *_: analysed)
    monkeypatch.setattr(collect, "experiments", lambda: {"sums": sums})
    monkeypatch.setattr(collect, "read_findings", lambda paper: [own, gone])
    monkeypatch.setattr(collect, "read_claims", lambda paper: [])
    built = build_report(root)
    page = Page(built.page.read_text(encoding="utf-8"))
    assert {"findings", "finding-T9", "finding-T8"} <= set(page.ids)
    assert "1.6 [1.5, 1.7] a sum 12 1.644 none" in page.text
    assert "the data are not here" in page.text
    assert built.rows == []
    lines = (built.page.parent / "findings.md").read_text().splitlines()
    assert lines[2].startswith("| T9 | How \\| many? | a sum | 1.6 [1.5, 1.7] | 12 | 1.644 |")
    first, second = json.loads((built.page.parent / "findings.json").read_text())
    assert first["measurement"]["value"] == 1.6
    assert "verdict" not in first
    assert second["measurement"] is None
    readme = root / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    update_readme(readme, root, built.material)
    text = readme.read_text()
    assert "| what was found | n |" in text
    tables = root / "verdicts.md"
    tables.write_text(f"{BEGIN}\n{END}\n")
    update_scales(tables, root, built.material)
    assert "## Found beyond the papers\n\n| finding |" in tables.read_text()
    assert all(f"| {id} |" in tables.read_text() for id in ("T8", "T9"))
    assert "Found" not in (built.page.parent / "claims.md").read_text()


def test_sentences_say_what_was_measured_and_link_to_it(fake, root, monkeypatch):
    from trueboundary.report import summary

    templates = [
        ("The sum is {T1} (paper: 1.64), and that it grows {T2}.", ("T3",)),
        ("Nobody measured {T3}.", ()),
        ("A thousandth of it is {T1*1e-3:.4f}, and that it grows {T2:.0%}.", ()),
    ]
    monkeypatch.setattr(summary, "read_templates", lambda: templates)
    built = build_report(root)
    sentence, short = summary.sentences(built.material)
    measured = built.material.judged[0].measurement
    assert (
        str(short) == f"A thousandth of it is {measured.value / 1000:.4f}, and that it grows holds."
    )
    value = number(built.material.judged[0].measurement.value)
    assert str(sentence) == f"The sum is {value} (paper: 1.64), and that it grows holds."
    assert [judgement.claim.id for judgement in sentence.judgements] == ["T1", "T2"]
    told, _ = summary.sentences(built.material, intervals=True)
    assert f"The sum is {measured_value(built.material.judged[0].measurement)} (paper" in str(told)
    assert [found.n for found in told.measurements] == [100, None]
    page = built.page.read_text(encoding="utf-8")
    assert f'<a class="value" href="#claim-T1">{value}</a>' in page
    assert "Nobody measured" not in page


def test_a_value_in_a_format_has_its_interval_in_it_too():
    from trueboundary.report.summary import formatted

    found = Measurement(0.00123, 0.0012, 0.0013, n=10)
    assert formatted(found, "1e6", ".0f", interval=True) == "1230 [1200, 1300]"
    assert formatted(found, None, ".2%", interval=False) == "0.12%"
    assert formatted(found, None, None, interval=False) == "0.00123"


def test_sentences_name_claims_and_findings_that_there_are():
    from trueboundary.experiments.claims import read_claims
    from trueboundary.experiments.own_findings import read_findings
    from trueboundary.experiments.papers import PAPERS
    from trueboundary.report.summary import read_templates

    known = {one.id for p in PAPERS for one in (*_or_none(read_claims, p), *read_findings(p))}
    named = [re.findall(r"\{([\w.-]+)", text) + list(beside) for text, beside in read_templates()]
    assert len(named) == 10
    assert all(ids and set(ids) <= known for ids in named)


def _or_none(read, paper):
    try:
        return read(paper)
    except FileNotFoundError:
        return []


def test_every_run_and_its_time_count_once(root):
    (section,) = build_report(root).material.sections
    twice = replace(section, experiment=replace(section.experiment, id="others"))
    material = Material([section, twice], [], 0)
    (names,) = material.runs_by_experiment.values()
    assert list(names.values()) == ["power 1; others: power 1", "power 2; others: power 2"]
    assert len(material.runs) == 2
    assert material.seconds == sum(run.info["seconds"] for run in section.runs.values())


def test_attacked_images_can_be_stepped_through(fake, root, monkeypatch):
    import io

    import numpy as np
    from PIL import Image

    from trueboundary.experiments.base import ImagePair
    from trueboundary.report import collect
    from trueboundary.report.attacked_views import attacked_views, encode

    before, after = np.zeros((1, 2, 3)), np.full((1, 2, 3), 0.25)
    pairs = [
        ImagePair("CNN", "cat", ("cat", "dog"), before, after, 0.6),
        ImagePair("SVM", "dog", ("cat",), before, before, math.inf),
    ]
    analyse = fake.EXPERIMENT.analyse

    def with_pairs(runs, settings):
        analysis = analyse(runs, settings)
        return replace(analysis, panels=[replace(analysis.panels[0], pairs=pairs)])

    shown = {"sums": replace(fake.EXPERIMENT, analyse=with_pairs)}
    monkeypatch.setattr(collect, "experiments", lambda: shown)
    built = build_report(root)
    (view,) = attacked_views(built.material)
    assert [one["name"] for one in view["classifiers"]] == ["CNN", "SVM"]
    found, failed = (one["images"][0]["words"] for one in view["classifiers"])
    assert found == (
        "CNN. Class cat, decided as cat; attacked, as dog, 0.60 away (L2), no pixel changed by "
        "more than 0.25"
    )
    assert failed == "SVM. Class dog, decided as cat; the attack found no error"
    assert 'id="viewer-data"' in built.page.read_text(encoding="utf-8")
    colours = np.linspace(-0.5, 1.5, 12).reshape(3, 2, 2)
    decoded = np.asarray(Image.open(io.BytesIO(encode(colours)))) / 255
    assert decoded == pytest.approx(np.clip(colours, 0, 1).transpose(1, 2, 0), abs=0.5 / 255)


def test_why_numbers_disagree_is_said_where_they_do():
    from trueboundary.experiments.claims import judge
    from trueboundary.report.words import qualifications

    entry = dict.fromkeys(("id", "section", "statement", "experiment", "quantity", "why"), "x")
    why = "another network"
    claim = parse_claim("spheres", entry | {"test": "interval", "value": 1.0, "explanation": why})
    assert qualifications(judge(claim, Measurement(2.0), {})) == ["Why: another network"]
    assert qualifications(judge(claim, Measurement(1.0), {})) == []
