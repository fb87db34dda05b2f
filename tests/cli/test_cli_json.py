"""Answers for programs, quiet commands, and what the last screen holds."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from trueboundary.cli import doctor, main
from trueboundary.cli.terminal_tables import ClaimsTable, experiments_table
from trueboundary.cli.work import outlook, plan_jobs
from trueboundary.experiments import experiments

STABLE = Path(__file__).parents[2] / "docs" / "stability.md"
DOCUMENTED = [line for line in STABLE.read_text(encoding="utf-8").splitlines() if "| `" in line]


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def answer(capsys, *words, status=0):
    capsys.readouterr()
    assert main([*words, "--json"]) == status
    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found["schema"] == "1.0"
    assert found["command"] == " ".join(words[: len(found["command"].split())])
    (row,) = (line for line in DOCUMENTED if f"`{found['command']}`" in line.split("|")[1])
    for name in found.keys() - {"command", "schema"}:
        assert f"`{name}`" in row or found["command"].startswith("theory"), name
    return found


RUN = ("run", "sums", "--scale", "smoke", "--out", "out")


@pytest.mark.usefixtures("tiny")
def test_runs_and_reports_answer_in_json_alone(capsys):
    ran = answer(capsys, *RUN)
    assert ran["command"] == "run"
    assert ran["report"] == "out/report/index.html"
    assert ran["verdicts"]["reproduced"] == 1
    assert ran["n_runs"] == 1
    assert ran["claims"] == json.loads(Path("out/report/claims.json").read_text())
    (listed,) = answer(capsys, "runs", "out")["folders"]
    assert len(listed["runs"]) == 2
    told = answer(capsys, "report", "out")
    assert told["command"] == "report"
    own = ("claims", "findings", "verdicts", "experiments")
    assert {name: told[name] for name in own} == {name: ran[name] for name in own}
    everything = answer(capsys, "reproduce", "--scale", "smoke", "--out", "all")
    assert everything["command"] == "reproduce"
    assert everything["claims"] == ran["claims"]


def test_short_answers_are_json_with_a_schema_that_is_documented(capsys):
    for words in (
        ("doctor",),
        ("zoo",),
        ("zoo", "spheres-d500"),
        ("theory", "cap", "--dim", "50", "--measure", "0"),
        ("theory", "ellipsoid", "0.5x9"),
        ("theory", "fraction", "--dim", "50", "--error", "0.01"),
        ("measure", "error", "spheres-quadratic-d100-h200-online", "--problem", "spheres-d100"),
    ):
        answer(capsys, *words)


@pytest.mark.usefixtures("tiny")
def test_a_failure_is_in_the_answer_and_in_the_status(capsys):
    failed = answer(capsys, *RUN, "--set", "mode=fail", status=1)
    assert "this sum was asked to fail" in failed["failures"][0]
    assert list(failed["problems"]) == ["sums"]


def test_the_list_in_json_has_every_experiment_and_its_costs(capsys):
    found = answer(capsys, "list")["experiments"]
    assert [entry["id"] for entry in found] == list(experiments())
    for entry in found:
        assert set(entry["seconds"]) == {"smoke", "quick", "paper"}
        known = experiments()[entry["id"]]
        assert entry["seconds"]["quick"] == pytest.approx(known.cost("quick"))


@pytest.mark.usefixtures("tiny")
def test_quiet_commands_say_how_it_ended_alone(capsys):
    assert main([*RUN, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "2 claims: 1 reproduced, 0 different, 0 inconclusive, 1 not testable at this scale.",
        "Report: out/report/index.html",
    ]
    assert main(["report", "out", "-q"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.usefixtures("tiny")
def test_the_first_line_says_what_is_to_be_found_out_and_what_it_takes(capsys):
    from fake_experiment import EXPERIMENT

    jobs = plan_jobs([EXPERIMENT], "smoke", seed=0, device="cpu")
    assert outlook(jobs, Path("out"), 1) == (
        "2 claims to be judged from 2 runs: about 2 s with 1 worker."
    )
    assert outlook(jobs, Path("out"), 4).endswith("about 1 s with 4 workers.")
    assert main([*RUN]) == 0
    assert capsys.readouterr().out.startswith("2 claims to be judged from 2 runs: about 2 s")
    assert outlook(jobs, Path("out"), 1) == ("2 claims to be judged from 2 runs, 2 of them stored.")


@pytest.mark.parametrize("width", [40, 80, 100, 140, 200])
def test_the_list_is_as_wide_as_the_terminal_and_breaks_no_id(width):
    found = list(experiments().values())
    console = Console(width=width, file=io.StringIO())
    console.print(experiments_table(found, width)[0])
    lines = console.file.getvalue().splitlines()
    for experiment in found:
        assert any(line.startswith(f"{experiment.id} ") for line in lines), experiment.id
    assert all("…" not in line for line in lines)
    assert "10 d 12 h" in " ".join(" ".join(lines).split()), "no cost is cut off"


def test_claims_are_as_wide_as_the_terminal():
    from trueboundary.experiments.claims import read_claims
    from trueboundary.report.collect import ClaimRow

    rows = [ClaimRow(claim, None, "no result") for claim in read_claims("spheres")]
    for width in (40, 80, 160):
        console = Console(width=width, file=io.StringIO())
        ClaimsTable(console).add("title", rows)
        lines = console.file.getvalue().splitlines()
        assert width - 20 < max(len(line.rstrip()) for line in lines) <= width
        for row in rows:
            assert any(line.startswith(f"{row.claim.id} ") for line in lines)


def test_doctor_says_where_versions_differ_from_those_measured_with(capsys, monkeypatch):
    measured = doctor.measured_versions()
    assert {"torch", "numpy", "scipy", "scikit-learn"} <= set(measured)
    same = {name: versions[0] for name, versions in measured.items()}
    monkeypatch.setattr(doctor, "_version", lambda name: same.get(name, "1"))
    assert main(["doctor"]) == 0
    assert "All versions are those that the results were measured with" in capsys.readouterr().out
    other = same | {"numpy": "0.9"}
    monkeypatch.setattr(doctor, "_version", lambda name: other.get(name, "1"))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"0.9 (measured with {', '.join(measured['numpy'])})" in out
    assert "Other versions than those measured with: numpy." in " ".join(out.split())
    found = answer(capsys, "doctor")
    assert found["versions"]["numpy"] == {"here": "0.9", "measured_with": measured["numpy"]}
    assert "devices" in found["here"]


def test_a_quiet_list_is_ids_and_a_quiet_doctor_says_what_differs_alone(capsys, monkeypatch):
    assert main(["list", "--quiet"]) == 0
    assert capsys.readouterr().out.split("\n") == [*experiments(), ""]
    monkeypatch.setattr(doctor, "measured_versions", dict)
    assert main(["doctor", "-q"]) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(doctor, "measured_versions", lambda: {"torch": ["1.0"]})
    assert main(["doctor", "-q"]) == 0
    assert capsys.readouterr().out.startswith("Other versions than those measured with: torch.")


@pytest.mark.usefixtures("tiny")
def test_what_differs_is_named_on_the_last_screen(capsys, monkeypatch):
    from trueboundary.report import collect

    wrong = [
        replace(claim, value=3.0) if claim.id == "T1" else claim
        for claim in collect.read_claims("spheres")
    ]
    monkeypatch.setattr(collect, "read_claims", lambda paper: wrong)
    words = ("--set", "n_terms=1000", "--quiet")
    assert main([*RUN[:2], "--scale", "paper", "--out", "out", *words]) == 0
    assert "differs: T1\n" in capsys.readouterr().out
