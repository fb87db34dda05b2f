"""The table of the reference page is that of the committed measurement."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_documented_coverage_is_the_measured_one() -> None:
    page = (ROOT / "docs" / "api" / "rare_events.md").read_text(encoding="utf-8")
    text = (ROOT / "benchmarks" / "results" / "splitting_coverage.json").read_text("utf-8")
    kinds = ("t", "log_normal", "log_normal_where_spread_exceeds_0.3_else_t")
    cases = json.loads(text)["cases"]
    assert len(cases) == 12
    for case, found in cases.items():
        name, rate = case.rsplit(" ", 1)
        assert found["n_intervals"] >= 200
        shares = " | ".join(f"{found[kind]['coverage']:.3f}" for kind in kinds)
        assert f"| {name} | {rate} | {shares} |" in page
