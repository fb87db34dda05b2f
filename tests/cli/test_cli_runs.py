"""What a folder of runs holds, told in words, and named by numbers that stay the same."""

import json
from pathlib import Path

import pytest

from trueboundary.cli import main
from trueboundary.cli.run_lists import read_runs
from trueboundary.runs import Store

HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(HELPERS)
    from register import register

    register(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "sums", "--scale", "smoke", "--out", "results/small"]) == 0


def test_a_list_says_what_was_done_what_came_out_and_what_it_took(capsys):
    capsys.readouterr()
    assert main(["runs", "results/small"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("sums · Sums of powers · 1 not testable at this scale, 1 reproduced")
    (summed,) = [run for run in read_runs(Path("results/small")).runs if run.words == "power 1"]
    (line,) = [line for line in out.splitlines() if " power 1 " in line]
    assert line.split()[0] == str(summed.number)
    assert "last 2.929" in out
    assert "2 runs of 1 experiment: < 1 s of computing, " in out
    assert not any(run.path.name in out for run in read_runs(Path("results/small")).runs)


def test_numbers_stay_while_runs_follow():
    before = {run.path.name: run.number for run in read_runs(Path("results/small")).runs}
    assert main(["run", "sums", "--scale", "smoke", "--seed", "5", "--out", "results/small"]) == 0
    found = read_runs(Path("results/small"))
    after = {run.path.name: run.number for run in found.runs}
    assert sorted(after.values()) == [1, 2, 3, 4]
    # Runs of one second are told apart by their names alone.
    if len({run.started for run in found.runs}) > 1:
        assert {name: after[name] for name in before} == before
    assert {run.experiment for run in found.runs} == {"sums", ""}


def test_without_a_folder_those_in_results_are_named(capsys):
    capsys.readouterr()
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    assert "results/small" in out
    assert main(["runs", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["command"], answer["schema"]) == ("runs", "1.0")
    (folder,) = answer["folders"]
    assert folder["folder"] == "results/small"
    assert {run["words"] for run in folder["runs"]} == {"power 1", "Base"}
    assert folder["verdicts"] == {
        "sums": {"not testable at this scale": 1, "reproduced": 1},
    }


def test_a_list_can_be_of_some_runs(capsys):
    capsys.readouterr()
    assert main(["runs", "results/small", "--networks"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("0 runs of 0 experiments")
    assert "2 runs in all" in line
    assert main(["runs", "results/small", "--experiment", "sums"]) == 0
    assert "sums · " in capsys.readouterr().out
    assert main(["runs", "results/small", "--experiment", "smus"]) == 2
    assert "no experiment 'smus'; did you mean 'sums'?" in capsys.readouterr().err
    for choice in (["--networks"], ["--experiment", "sums"]):
        assert main(["runs", *choice]) == 2
        assert "of one folder: give DIR" in capsys.readouterr().err
    assert main(["runs", "results"]) == 2
    assert "results holds no runs" in capsys.readouterr().err


def test_a_damaged_run_is_listed_as_such(capsys):
    (first, _) = read_runs(Path("results/small")).runs
    (first.path / "run.json").write_text("{}")
    capsys.readouterr()
    assert main(["runs", "results/small"]) == 0
    said = capsys.readouterr()
    assert "damaged" in said.out
    assert "is damaged" in said.err


def test_a_record_is_read_without_its_tables():
    for listed in read_runs(Path("results/small")).runs:
        store = Store(Path("results/small"))
        whole = store.read(listed.path)
        bare = store.read(listed.path, with_models=False, with_arrays=False)
        assert (bare.config, bare.summary, bare.arrays) == (whole.config, whole.summary, {})
        assert whole.arrays
