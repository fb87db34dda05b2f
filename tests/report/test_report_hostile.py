"""Reports of folders that were damaged or that somebody else made: nothing silent, nothing quoted.

Whatever is wrong with one entry costs that entry alone, and is named.
"""

import json
import os
import random
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trueboundary.experiments.provenance import find_misfit
from trueboundary.report.build import build_report
from trueboundary.report.collect import collect_material
from trueboundary.report.figure_files import write_claims_json, write_text
from trueboundary.report.page import render_page
from trueboundary.runs import (
    DamagedPlanError,
    DamagedRunError,
    Plan,
    Run,
    RunResult,
    Store,
    UncheckedPlan,
    execute,
    plan_file,
    read_plan,
    strict_json,
    write_plan,
)
from trueboundary.runs import store as store_module

HELPERS = Path(__file__).parents[1] / "helpers"
SECRET = "a line of a private file"


@pytest.fixture
def fake(monkeypatch):
    return _register(monkeypatch)


def _register(monkeypatch):
    """Make ``sums`` and ``others``, which is like it, the only experiments."""
    monkeypatch.syspath_prepend(HELPERS)
    import fake_experiment
    from register import register

    from trueboundary.experiments import base
    from trueboundary.report import collect

    register(monkeypatch)
    found = {"sums": fake_experiment.EXPERIMENT, "others": _other(fake_experiment)}
    monkeypatch.setattr(collect, "experiments", lambda: found)
    scales = fake_experiment.SCALES
    monkeypatch.setattr(base, "_scales", lambda: scales | {"others": scales["sums"]})
    return fake_experiment


def _other(fake):
    return replace(fake.EXPERIMENT, id="others", paper="truth", analyse=_analyse_quietly)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake = _register(monkeypatch)
        compute(folder, fake.EXPERIMENT, seed=0)
        compute(folder, _other(fake), seed=1)
    return folder


@pytest.fixture
def root(fake, finished, tmp_path):
    """Return a finished folder of two experiments: ``sums``, and ``others``, which stays whole."""
    (tmp_path / "private.txt").write_text(SECRET)
    return Path(shutil.copytree(finished, tmp_path / "results"))


def _analyse_quietly(runs, settings):
    from trueboundary.experiments import Analysis

    return Analysis(remarks=[f"{len(runs)} others"])


def compute(root, experiment, seed, scale="smoke", **overrides):
    settings = experiment.settings(scale, overrides)
    configs = experiment.runs(scale, seed=seed, overrides=overrides)
    folders = {name: config.folder for name, config in configs.items()}
    write_plan(root, Plan(experiment.id, scale, seed, "cpu", settings, overrides, folders))
    with ThreadPoolExecutor(1) as executor:
        execute(configs.values(), Store(root), executor)


def report(root):
    """Return the problem of ``sums`` in a report, in which the other experiment stays whole.

    The figures, which take longest, are left out.
    """
    material = collect_material(root)
    by_id = {section.experiment.id: section for section in material.sections}
    assert by_id["others"].problem == ""
    write_claims_json(root / "claims.json", material.rows)
    write_text(root / "index.html", render_page(material, {id: [] for id in by_id}))
    page = (root / "index.html").read_text(encoding="utf-8")
    assert SECRET not in page
    assert "1 others" in page
    return by_id["sums"].problem


def run_folder(root):
    return root / "runs" / next(iter(read_plan(plan_file(root, "sums")).runs.values()))


def forge_plan(root, **changes):
    """Write a plan whose checksum is right, as somebody could who knows how it is computed."""
    file = plan_file(root, "sums")
    record = strict_json.unseal(file.read_text())
    file.write_text(strict_json.seal(record | changes))


def forge_run(root, **changes):
    """The same for the run of ``sums``; a change to None removes."""
    file = run_folder(root) / "run.json"
    record = strict_json.unseal(file.read_text()) | changes
    file.write_text(strict_json.seal({k: v for k, v in record.items() if v is not None}))


def test_a_whole_folder_has_no_problem(root):
    assert report(root) == ""


# --- damage -------------------------------------------------------------------------------------


def _claims(root):
    return json.loads((root / "claims.json").read_text())


@pytest.mark.parametrize("which", ["plan", "run"])
def test_no_flipped_bit_is_silent_or_costs_another_experiment(root, which):
    rng = random.Random(9)
    file = plan_file(root, "sums") if which == "plan" else run_folder(root) / "run.json"
    whole = file.read_bytes()
    for _ in range(150):
        damaged = bytearray(whole)
        place = rng.randrange(len(whole))
        damaged[place] ^= 1 << rng.randrange(8)
        file.write_bytes(bytes(damaged))
        with pytest.raises(DamagedPlanError if which == "plan" else DamagedRunError):
            read_plan(file) if which == "plan" else Store(root).read(file.parent)
    assert file.name in report(root) or file.parent.name in report(root)
    assert {entry["verdict"] for entry in _claims(root)} == {None}
    file.write_bytes(whole)
    assert report(root) == ""


def test_a_truncated_plan_is_named(root):
    file = plan_file(root, "sums")
    for length in (0, 1, len(file.read_bytes()) - 1):
        text = file.read_bytes()
        file.write_bytes(text[:length])
        assert "plans/sums.json is not a plan" in report(root)
        file.write_bytes(text)


def test_a_plan_under_another_name_is_named(root):
    shutil.copy(plan_file(root, "others"), plan_file(root, "sums"))
    assert "it is named after another experiment" in report(root)


# --- whose settings count -----------------------------------------------------------------------


def test_a_small_plan_with_the_papers_numbers_written_in_gets_no_verdict(root, fake):
    paper = strict_json.loads(strict_json.dumps(fake.EXPERIMENT.settings("paper")))
    forge_plan(root, settings=paper)
    assert "it does not name the run 'power 2' that its settings lead to" in report(root)
    forge_plan(root, settings=paper | {"powers": [1.0]})
    assert "its run 'power 1' was computed with n_terms 10, and not 1,000" in report(root)
    assert {entry["verdict"] for entry in _claims(root)} == {None}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 7}, "computed with seed 0, and not 7"),
        ({"settings": {}}, "settings cannot be planned"),
        ({"settings": {"n_terms": "many", "powers": [1.0], "mode": "plain"}}, "cannot be planned"),
        ({"runs": {}}, "does not name the run 'power 1'"),
        ({"settings": {"n_terms": 10, "powers": [], "mode": "plain"}}, "do not lead to its run"),
        ({"settings": {"n_terms": 10, "powers": [1.0], "mode": "plain", "n_seeds": 10**12}},
         "1,000,000,000,000 seeds cannot have led to 1 run"),
    ],
)  # fmt: skip
def test_a_plan_of_other_runs_gets_no_verdict(root, changes, says):
    forge_plan(root, **changes)
    assert says in report(root)


def test_runs_that_change_places_are_noticed(fake, root):
    compute(root, fake.EXPERIMENT, seed=0, scale="quick")
    one, two = read_plan(plan_file(root, "sums")).runs.values()
    forge_plan(root, runs={"power 1": two, "power 2": one})
    assert "its run 'power 1' was computed with power 2, and not 1" in report(root)


def _unsealed(root, **changes):
    file = plan_file(root, "sums")
    record = strict_json.unseal(file.read_text())
    del record["schema"]
    file.write_text(strict_json.dumps(record | changes))


def test_a_plan_of_an_older_version_is_read_where_its_runs_and_its_scale_bear_it_out(root):
    _unsealed(root)
    assert isinstance(read_plan(plan_file(root, "sums")), UncheckedPlan)
    assert report(root) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": "quick"},
        {"scale": "quicj"},
        {"seed": 1},
        {"overrides": {"n_terms": 10, "shifted": True}},
        {"settings": {"n_terms": 1000, "powers": [1.0], "mode": "plain", "shifted": False}},
    ],
)
def test_a_plan_of_an_older_version_that_was_changed_gets_no_verdict(root, changes):
    file = plan_file(root, "sums")
    record = strict_json.unseal(file.read_text())
    del record["schema"]
    file.write_text(strict_json.dumps(record | changes))
    assert "Its plan is not that of its runs" in report(root)


def test_a_setting_that_no_run_shows_is_kept_by_the_checksum(root):
    file = plan_file(root, "sums")
    file.write_text(file.read_text().replace('"shifted": false', '"shifted": true '))
    assert "has changed since it was written" in report(root)


def test_every_setting_that_a_verdict_depends_on_shows_in_the_runs():
    from trueboundary.experiments import experiments
    from trueboundary.experiments.claims import read_claims

    claims = [claim for paper in ("spheres", "bayes", "truth") for claim in read_claims(paper)]
    for id, experiment in experiments().items():
        names = {name for c in claims if c.experiment == id for name in c.depends_on}
        paper = experiment.settings("paper")
        for scale in ("smoke", "quick"):
            settings = experiment.settings(scale)
            configs = experiment.plan(settings, 0, "cpu")
            runs = {
                name: Run(
                    strict_json.loads(strict_json.dumps(config.describe())),
                    RunResult({}),
                    {},
                    Path(name),
                )
                for name, config in configs.items()
            }
            plan = Plan(id, scale, 0, "cpu", settings, {}, dict.fromkeys(runs, "Run-0"))
            assert find_misfit(experiment, plan, runs) == ""
            for name in names:
                if paper[name] != settings[name]:
                    other = replace(plan, settings=settings | {name: paper[name]})
                    assert find_misfit(experiment, other, runs), f"{id}: {name}"


# --- what somebody else made --------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder",
    ["/etc", "../../private.txt", "..", "", ".", "a/b", "Sum-0\n", "Sum\x00", "-x", "x" * 300, 3],
)
def test_a_plans_run_folder_is_a_name_and_no_path(root, folder):
    file = plan_file(root, "sums")
    record = strict_json.unseal(file.read_text())
    file.write_text(strict_json.seal(record | {"runs": {"power 1": folder}}))
    assert "sums.json is not a plan: the folder of a run must be a name" in report(root)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 3}, "layout 3"),
        ({"schema": None}, "layout None"),
        ({"device": "cpu\x1b[2J"}, "device must be cpu"),
        ({"scale": ["quick"]}, "scale must be a name"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": 10**400}, "larger than any number of 64 bits"),
        ({"settings": {"n_terms": [[10**30]]}}, "larger than any number of 64 bits"),
        ({"runs": []}, "runs must be a table"),
        ({"overrides": "n_terms"}, "overrides must be a table"),
        ({"more": 1}, "something unknown"),
    ],
)
def test_a_plan_of_another_form_is_named(root, changes, says):
    forge_plan(root, **changes)
    assert says in report(root)


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize(
    "content",
    [
        DEEP.encode(),
        ('{"schema": ' * 5000 + "1" + "}" * 5000).encode(),
        b'{"experiment": "sums\xff"}',
        b'{"seed": NaN}',
        b'{"seed": {"$float": "many"}}',
        b'{"seed": {"$float": []}}',
        b"9" * 5000,
        b"null",
        b"\xef\xbb\xbf{}",
        b"\x00" * 100,
    ],
)
@pytest.mark.parametrize("which", ["plan", "run"])
def test_broken_json_costs_its_entry(root, which, content):
    file = plan_file(root, "sums") if which == "plan" else run_folder(root) / "run.json"
    file.write_bytes(content)
    assert "sums.json is not a plan" in report(root) or "is damaged" in report(root)


@pytest.mark.parametrize("what", ["zero", "pipe", "folder", "loop", "gone", "large"])
@pytest.mark.parametrize("which", ["plan", "record", "table", "failure"])
def test_only_regular_files_of_the_expected_size_are_read(root, which, what, monkeypatch):
    run = run_folder(root)
    if which == "failure":
        shutil.rmtree(run)
    file = {
        "plan": plan_file(root, "sums"),
        "record": run / "run.json",
        "table": run / "arrays.safetensors",
        "failure": root / "failures" / f"{run.name}.txt",
    }[which]
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    if what == "zero":
        file.symlink_to("/dev/zero")
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    elif what in ("loop", "gone"):
        file.symlink_to(file.name if what == "loop" else "nowhere")
    elif what == "large":
        with file.open("wb") as stream:
            stream.truncate(5 * 2**30)  # sparse
    assert report(root)


def test_a_failures_text_is_quoted_with_its_bad_bytes_marked(root):
    run = run_folder(root)
    shutil.rmtree(run)
    file = Store(root).failure(run.name)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"ValueError: caf\xe9 \x1b[2J\n\nTraceback\xff")
    assert r"failed: ValueError: caf� \x1b[2J" in report(root)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_failures_text_that_lies_elsewhere_is_not_quoted(root, tmp_path, link):
    run = run_folder(root)
    shutil.rmtree(run)
    file = Store(root).failure(run.name)
    if link == "file":
        file.parent.mkdir(exist_ok=True)
        file.symlink_to(tmp_path / "private.txt")
    else:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / file.name).write_text(SECRET)
        shutil.rmtree(file.parent, ignore_errors=True)
        file.parent.symlink_to(outside)
    assert "leads out of" in report(root)


@pytest.mark.parametrize(
    "files",
    [
        [["../../../private.txt", "0" * 64]],
        [["/dev/zero", "0" * 64]],
        [["run.json", "0" * 64]],
        [["arrays.safetensors", "0" * 64]] * 2,
        [["model-../../x.safetensors", "0" * 64]],
        [["arrays.safetensors"]],
        [["arrays.safetensors", 3]],
        ["arrays.safetensors"],
        [[["arrays.safetensors"], "0" * 64]],
        "arrays.safetensors",
        {},
    ],
)
def test_a_runs_files_have_the_names_that_the_store_gives(root, files):
    forge_run(root, files=files)
    assert "is damaged" in report(root)
    assert "run.json" in report(root)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 1},
        {"schema": None},
        {"config": []},
        {"config": {"kind": "Another"}},
        {"digest": 1},
        {"digest": ""},
        {"summary": 3},
        {"summary": None},
        {"models": []},
        {"models": {"../../net": {}}},
        {"models": {"net": 3}},
        {"info": "long ago"},
        {"info": {"seconds": "many"}},
        {"info": {"seconds": float("inf")}},
        {"info": {"seconds": 10**400}},
        {"info": {"cpu_seconds": float("nan")}},
        {"info": {"versions": ["torch"]}},
    ],
)
def test_a_run_of_another_form_is_damaged(root, changes):
    forge_run(root, **changes)
    assert "is damaged" in report(root)


def test_nothing_in_a_page_steers_a_terminal(root):
    forge_run(root, info={"started": "\x1b[2J", "versions": {"torch\x1b[31m": "\x1b]0;x\x07"}})
    assert report(root) == ""
    page = (root / "index.html").read_text()
    assert "\x1b" not in page
    assert "\x07" not in page
    assert r"\x1b[2J" in page


def test_strange_words_of_a_run_reach_the_page_and_break_nothing(root):
    strange = {"seconds": 1e11, "started": ["<script>odd", "\ud800"], "python": {"a": None},
               "versions": {"\udcff": [1]}}  # fmt: skip
    forge_run(root, info=strange)
    assert report(root) == ""
    page = (root / "index.html").read_text()
    assert "<script>odd" not in page
    assert "&lt;script&gt;odd" in page


def test_what_an_analysis_makes_of_forged_results_is_looked_at_before_it_is_shown(root, fake):
    from trueboundary.experiments import Analysis, Measurement
    from trueboundary.report import collect

    def give(measurement):
        analysis = Analysis(measurements={"T1": measurement})
        found = replace(fake.EXPERIMENT, analyse=lambda runs, settings: analysis)
        real = collect.experiments
        collect.experiments = lambda: {**real(), "sums": found}
        try:
            return report(root)
        finally:
            collect.experiments = real

    assert give(Measurement(1.64)) == ""
    for bad in (
        Measurement("1.64"),
        Measurement([1.64]),
        Measurement(10**400),
        Measurement(1.64, low="a"),
        Measurement(1.64, n="many"),
        Measurement(1.64, exact={}),
        Measurement(1.64, cells=[3]),
        Measurement(1.64, cells=[{"a": {"$float": 1, "b": 2}}]),
    ):
        assert "could not be analysed" in give(bad)


def test_a_figures_name_stays_in_its_folder(tmp_path):
    from trueboundary.experiments import Panel
    from trueboundary.report.figure_files import Picture, write_picture

    with pytest.raises(ValueError, match="becomes a file's"):
        write_picture(tmp_path, Picture(Panel("../escaped", "", "", lambda: None, []), b"", b""))


def test_a_table_that_fails_its_check_is_not_held_in_memory(root, monkeypatch):
    file = run_folder(root) / "arrays.safetensors"
    file.write_bytes(file.read_bytes() + b"x")
    load = store_module.load_tensors

    def refuse(content):
        assert not content.endswith(b"x"), "read although its checksum is wrong"
        return load(content)

    monkeypatch.setattr(store_module, "load_tensors", refuse)
    assert "arrays.safetensors has changed since it was written" in report(root)


def test_what_would_not_be_read_again_is_not_stored(tmp_path, monkeypatch, fake):
    monkeypatch.setattr(store_module, "MAX_TABLE", 100)
    with pytest.raises(ValueError, match="not read again"):
        Store(tmp_path).save(fake.Base(10, 0), RunResult({}, {"x": np.zeros(100)}), {})
    deep = {}
    for _ in range(200):
        deep = {"inside": deep}
    with pytest.raises(ValueError, match="levels deep"):
        Store(tmp_path).save(fake.Base(10, 0), RunResult(deep), {})
    assert not (tmp_path / "runs").exists()


# --- where a report goes ------------------------------------------------------------------------


def _content(folder):
    return sorted(entry.name for entry in folder.iterdir())


REPORT = ["claims.json", "claims.md", "figures", "index.html"]


def test_a_report_folder_that_is_a_link_is_written_through(root, tmp_path):
    place = tmp_path / "site" / "page"
    place.mkdir(parents=True)
    (root / "report").symlink_to(place)
    for _ in range(2):
        assert build_report(root).page == root / "report" / "index.html"
        assert (root / "report").is_symlink()
        assert _content(place) == REPORT
        assert _content(place.parent) == ["page"]
        assert not [name for name in _content(root) if name.startswith("report.")]


def test_a_report_folder_that_is_a_link_to_nothing_is_said(root, tmp_path):
    for target in (tmp_path / "nowhere", root / "report"):
        (root / "report").symlink_to(target)
        with pytest.raises(OSError, match=r"is a link to .*, where nothing is"):
            build_report(root)
        (root / "report").unlink()


def test_links_in_the_way_are_removed_and_what_they_lead_to_stays(root, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    (root / "report.old").symlink_to(kept)
    (root / "report.tmp").symlink_to(kept)
    build_report(root)
    build_report(root)
    assert _content(kept) == ["mine.txt"]
    assert not (root / "report").is_symlink()


def test_a_report_goes_elsewhere_and_the_results_are_not_written_to(root, tmp_path):
    before = {path: path.lstat().st_mtime_ns for path in [root, *root.rglob("*")]}
    place = tmp_path / "page"
    assert build_report(root, place).page == place / "index.html"
    build_report(root, place)
    assert _content(place) == REPORT
    assert {path: path.lstat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
    with pytest.raises(FileExistsError, match="something else than a report"):
        build_report(root, root)


def test_a_folder_that_cannot_be_renamed_is_filled(root, tmp_path, monkeypatch):
    place = tmp_path / "mounted"
    place.mkdir()
    rename = os.rename

    def refuse(source, target):
        if place in (Path(source), Path(target)):
            raise OSError(16, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == place)
    for _ in range(2):
        build_report(root, place)
        assert _content(place) == REPORT


def test_the_readme_keeps_its_link_its_mode_and_its_line_endings(root, tmp_path):
    from trueboundary.report.markdown import update_readme

    real = tmp_path / "real.md"
    text = "a\r\n<!-- claims: begin -->\r\n<!-- claims: end -->\r\nb\r\n"
    real.write_bytes(text.encode())
    real.chmod(0o640)
    link = tmp_path / "README.md"
    link.symlink_to(real.name)
    update_readme(link, root, build_report(root).material)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    content = real.read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n") > 5
    assert content.endswith(b"<!-- claims: end -->\r\nb\r\n")
