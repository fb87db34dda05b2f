"""Shipped results: what a report needs, nothing else, and nothing half."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trueboundary.regular_files import UnfitFileError
from trueboundary.runs import (
    DamagedRunError,
    Plan,
    RunConfig,
    RunResult,
    ShippingError,
    Store,
    plan_files,
    read_plan,
    ship,
    smaller_plans,
    write_plan,
)


@dataclass(frozen=True)
class Shipped(RunConfig):
    n: int = 1


def fill(root: Path, n: int, scale: str = "quick", name: str = "sums") -> Path:
    """Store a run with arrays and a model, another that no plan names, and a plan."""
    store = Store(root)
    model = {"net": ({"dim": n}, {"weight": np.full((64, 64), float(n))})}
    run = store.save(Shipped(n), RunResult({"n": n}, {"x": np.arange(n)}, model), {"seconds": 2.0})
    store.save(Shipped(1000 + n), RunResult({}), {})
    write_plan(root, Plan(name, scale, 0, "cpu", {"n": n}, {}, {"only": run.path.name}))
    return run.path


def test_plans_records_and_arrays_are_shipped_and_models_are_not(tmp_path):
    path = fill(tmp_path / "quick", 3)
    shipped = ship([tmp_path / "quick"], tmp_path / "evidence")
    files = {str(p.relative_to(tmp_path / "evidence")) for p in tmp_path.glob("evidence/**/*.*")}
    own = f"runs/{path.name}"
    assert files == {"plans/sums.json", f"{own}/run.json", f"{own}/arrays.safetensors"}
    assert (shipped.n_runs, list(shipped.plans)) == (1, ["sums"])
    sizes = [p.stat().st_size for p in tmp_path.glob("evidence/**/*") if p.is_file()]
    assert shipped.n_bytes == sum(sizes)
    store = Store(tmp_path / "evidence")
    run = store.read(tmp_path / "evidence" / own, with_models=False)
    assert run.summary == {"n": 3}
    assert run.info["seconds"] == 2.0
    assert run.arrays["x"].tolist() == [0, 1, 2]
    assert run.result.models == {}
    with pytest.raises(DamagedRunError, match="is damaged"):
        store.load(Shipped(3))  # a computation needs the models, and is told that they are not here


def test_the_larger_scale_is_what_reports_read_in_whatever_order_they_come(tmp_path):
    fill(tmp_path / "quick", 3)
    fill(tmp_path / "paper", 5, "paper")
    fill(tmp_path / "other", 7, "quick", "products")
    for order in (("quick", "paper", "other"), ("paper", "other", "quick")):
        target = tmp_path / "-".join(order)
        shipped = ship([tmp_path / name for name in order], target)
        assert shipped.n_runs == 3
        scales = {id: read_plan(file).scale for id, file in plan_files(target).items()}
        assert scales == {"sums": "paper", "products": "quick"}
        assert {id: plan.settings for id, plan in smaller_plans(target, "quick").items()} == {
            "sums": {"n": 3}
        }
        assert smaller_plans(target, "paper") == {}


def test_shipping_again_replaces_and_removes_what_no_plan_names(tmp_path):
    old = fill(tmp_path / "old", 3)
    new = fill(tmp_path / "new", 4)
    target = tmp_path / "evidence"
    ship([tmp_path / "old"], target)
    (target / "report").mkdir()
    assert ship([tmp_path / "new"], target).n_runs == 1
    assert [path.name for path in (target / "runs").iterdir()] == [new.name] != [old.name]
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    ship([tmp_path / "new"], target)
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("keeps", ["models", "checkpoints", "a name"])
def test_a_folder_that_runs_were_computed_in_is_refused_and_loses_nothing(tmp_path, keeps):
    fill(tmp_path / "quick", 3)
    target = tmp_path / "paper"
    if keeps == "models":
        fill(target, 5, "paper")
    elif keeps == "checkpoints":
        (target / "unfinished" / "Training-0").mkdir(parents=True)
        (target / "unfinished" / "Training-0" / "step").write_bytes(b"1")
    else:
        Store(target).identity()
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    for source in ("quick", "paper"):
        with pytest.raises(ShippingError, match="runs were computed in"):
            ship([tmp_path / source], target)
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before


def test_a_damaged_shipped_run_is_replaced_from_its_source(tmp_path):
    path = fill(tmp_path / "quick", 3)
    target = tmp_path / "evidence"
    ship([tmp_path / "quick"], target)
    (target / "runs" / path.name / "arrays.safetensors").write_bytes(b"")
    ship([tmp_path / "quick"], target)
    assert Store(target).read(target / "runs" / path.name, with_models=False).arrays["x"].size == 3


def test_an_experiment_that_has_not_finished_is_passed_over_and_named(tmp_path):
    shutil.rmtree(fill(tmp_path / "quick", 3))
    fill(tmp_path / "quick", 7, "quick", "products")
    shipped = ship([tmp_path / "quick"], tmp_path / "evidence")
    assert list(shipped.plans) == ["products"]
    (sentence,) = shipped.left_out
    assert re.fullmatch(
        r"sums of .*quick is left out: 1 run not finished, 'only' among them", sentence
    )


@pytest.mark.parametrize("fault", ["arrays", "record", "plan", "scale", "empty"])
def test_what_is_not_whole_is_refused_and_nothing_of_its_folder_is_shipped(tmp_path, fault):
    path = fill(tmp_path / "quick", 3)
    plan = tmp_path / "quick/plans/sums.json"
    if fault == "arrays":
        (path / "arrays.safetensors").write_bytes(b"half")
    elif fault == "record":
        record = json.loads((path / "run.json").read_text())
        record["summary"]["n"] = 4
        (path / "run.json").write_text(json.dumps(record))
    elif fault == "plan":
        plan.write_text("{}")
    elif fault == "scale":
        whole = read_plan(plan)
        write_plan(tmp_path / "quick", Plan("sums", "huge", 0, "cpu", {}, {}, whole.runs))
    else:
        plan.unlink()
    target = tmp_path / "evidence"
    with pytest.raises(ShippingError, match=r"sums|quick"):
        ship([tmp_path / "quick"], target)
    assert not list(target.glob("plans/*"))


def test_large_arrays_are_refused_by_their_size(tmp_path):
    path = fill(tmp_path / "quick", 3)
    with pytest.raises(ShippingError, match=r"sums: only cannot be shipped: .* 50 bytes"):
        ship([tmp_path / "quick"], tmp_path / "evidence", max_bytes=50)
    with pytest.raises(UnfitFileError):
        Store(tmp_path / "other").adopt(path, max_bytes=50)
    assert not list(tmp_path.glob("other/runs/*"))
