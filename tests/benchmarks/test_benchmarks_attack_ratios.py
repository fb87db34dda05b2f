"""The script that says how near our attacks come, on fewer points and attacks than it takes."""

import importlib.util
from pathlib import Path

import pytest
import torch

from trueboundary.attacks import CarliniWagnerL2, DeepFool, NearestError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "attack_ratios.py"
spec = importlib.util.spec_from_file_location("attack_ratios", SCRIPT)
ratios = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ratios)

EXACT = [name for name in ratios.MEMBERS if name.startswith("ellipsoid")]


@pytest.mark.parametrize("name", EXACT)
def test_the_nearest_error_is_found_where_the_distance_is_known(monkeypatch, name) -> None:
    monkeypatch.setattr(ratios, "ATTACKS", {"NearestError": NearestError()})
    (row,) = ratios.rows(ratios.MEMBERS[name](20))
    assert row["n"] > 10
    assert row["failed"] == 0
    assert 1 - 2e-5 <= row["truth median"] <= 1.0001  # float32 points, a float64 truth
    assert row["truth p90"] <= 1.001
    assert row["backward"] < 20


def test_failures_count_as_infinite_and_refusals_have_no_row(monkeypatch) -> None:
    attacks = {"walk": CarliniWagnerL2(5, 1), "fool": DeepFool(n_steps=1, overshoot=1e-9)}
    monkeypatch.setattr(ratios, "ATTACKS", attacks)
    member = ratios.ellipsoid("needle", ratios.Sphere(), 6)  # which the walk refuses
    (row,) = ratios.rows(member)
    assert row["attack"] == "fool"
    result, _ = ratios.attacked(member)["fool"]
    assert row["failed"] == int((~result.success).sum())
    member = ratios.ellipsoid("bulk", ratios.Space(), 3)
    beyond = ratios.Member(lambda points: points.sum(1) * 0 - 1, member.x, member.y, member.domain,
                           torch.ones(3, dtype=torch.float64))  # fmt: skip
    assert [row["truth median"] for row in ratios.rows(beyond)] == [float("inf")] * 2


def test_a_table_has_a_line_for_each_attack(monkeypatch) -> None:
    monkeypatch.setattr(ratios, "ATTACKS", {"fool": DeepFool(), "nearest": NearestError()})
    text = ratios.lines("some", ratios.rows(ratios.ellipsoid("flat", ratios.Space(), 3)))
    assert [line.split("|")[1].strip() for line in text if line.startswith("| ")][1:] == [
        "fool",
        "nearest",
    ]
