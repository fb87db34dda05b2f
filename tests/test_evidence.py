"""The chain from shipped runs to the tables of the README and of the documentation."""

import pathlib
import re
import shutil

import numpy as np
import pytest

from trueboundary.experiments.images.sheets import Sheet
from trueboundary.report.collect import collect_material
from trueboundary.report.markdown import update_readme, update_scales
from trueboundary.runs import SCALES, Store, plan_files, read_plan, smaller_plans
from trueboundary.runs import config as run_config

ROOT = pathlib.Path(__file__).parents[1]
EVIDENCE = ROOT / "evidence"
FILES = [
    path
    for path in EVIDENCE.rglob("*")
    if path.is_file() and "report" not in path.relative_to(EVIDENCE).parts
]


def test_the_evidence_is_small() -> None:
    sizes = [path.stat().st_size for path in FILES]
    assert sum(sizes) < 20e6
    assert max(sizes) <= 2**20


def test_every_shipped_run_is_whole_and_has_a_plan() -> None:
    plans = [read_plan(file) for file in plan_files(EVIDENCE).values()]
    plans += [plan for scale in SCALES for plan in smaller_plans(EVIDENCE, scale).values()]
    named = {folder for plan in plans for folder in plan.runs.values()}
    assert {path.name for path in (EVIDENCE / "runs").iterdir()} == named
    store = Store(EVIDENCE)
    for folder in named:
        store.read(EVIDENCE / "runs" / folder, with_models=False)


def test_no_shipped_file_tells_where_it_was_made() -> None:
    for path in FILES:
        if path.suffix == ".json":
            assert not re.search(r'"(/|[A-Za-z]:\\)[\w.-]+', path.read_text()), path


def test_the_errata_quote_the_shipped_networks() -> None:
    """The table under "Figure 3 (left)": numbers of alphas, the CLT's rates, mean and largest."""
    plan = read_plan(EVIDENCE / "plans" / "spheres-alphas.json")
    text = (ROOT / "docs" / "errata.md").read_text()
    rows = re.findall(
        r"^\| ([\d,]+), step ([\d,]+) \| (\d+) \| \$10\^\{(.*?)\}\$ \| \$10\^\{(.*?)\}\$ "
        r"\| ([\d.]+) \| ([\d.]+) \|$",
        text,
        flags=re.M,
    )
    assert len(rows) == 5
    for size, step, *quoted in rows:
        folder = plan.runs[f"n{size.replace(',', '')}-seed0"]
        arrays = Store(EVIDENCE).read(EVIDENCE / "runs" / folder, with_models=False).arrays
        (i,) = (arrays["step"] == int(step.replace(",", ""))).nonzero()[0]
        alphas = arrays["alphas"][i]
        found = [arrays[name][i] for name in ("n_wrong", "clt-inner", "clt-outer")]
        for text_value, value in zip(quoted, [*found, alphas.mean(), alphas.max()], strict=True):
            digits = len(text_value.partition(".")[2])
            assert float(text_value) == round(float(value), digits), (size, step)


def test_the_tables_are_those_of_the_shipped_runs_under_any_torch(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys hold torch's version; what is shipped is read by the names that its plans give."""
    monkeypatch.setattr(run_config, "_installed_version", lambda package: "another")
    material = collect_material(EVIDENCE)
    assert not material.problems
    assert not material.unknown
    tables = {"README.md": tmp_path / "README.md", "docs/verdicts.md": tmp_path / "verdicts.md"}
    for name, copy in tables.items():
        shutil.copy(ROOT / name, copy)
    update_readme(tables["README.md"], pathlib.Path("evidence"), material)
    update_scales(tables["docs/verdicts.md"], EVIDENCE, material)
    for name, copy in tables.items():
        assert copy.read_text() == (ROOT / name).read_text(), f"make readme writes {name} again"


def test_images_to_step_through_are_as_far_apart_as_they_are_said_to_be() -> None:
    plan = read_plan(EVIDENCE / "plans" / "bayes-symmetric.json")
    for name, folder in plan.runs.items():
        if name.startswith("mnist/0-6/") and name.endswith("/nearest"):
            run = Store(EVIDENCE).read(EVIDENCE / "runs" / folder, with_models=False)
            pairs = Sheet.from_run(run).pairs(name, ("0", "6"))
            assert len(pairs) == len(run.arrays["kept"]) > 0
            for pair in pairs:
                assert len({*pair.decisions}) == 2, "every decision was changed"
                assert pair.original.shape == pair.attacked.shape == (1, 28, 28)
                change = np.linalg.norm(pair.attacked.astype(np.float64) - pair.original)
                assert change == pytest.approx(pair.distance, rel=1e-4)
