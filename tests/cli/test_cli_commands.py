"""The command line: what it prints, its exit status, and one sentence for every mistake."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from trueboundary.cli import main
from trueboundary.runs import read_plan, write_plan

HELPERS = Path(__file__).parents[1] / "helpers"

pytestmark = pytest.mark.usefixtures("tiny")


def run(*arguments):
    return main(["run", "sums", "--scale", "smoke", "--out", "out", *arguments])


def test_run_prints_claims_and_report_and_a_second_time_computes_nothing(capsys):
    assert run() == 0
    out = capsys.readouterr().out
    assert "not testable at this scale" in out
    assert "reproduced" in out
    assert "Report: out/report/index.html" in out
    assert Path("out/report/index.html").exists()
    stored = {p: p.stat().st_mtime_ns for p in Path("out/runs").rglob("run.json")}
    assert len(stored) == 2
    assert run() == 0
    assert {p: p.stat().st_mtime_ns for p in Path("out/runs").rglob("run.json")} == stored


def test_reproduce_runs_everything_of_a_paper(capsys):
    assert main(["reproduce", "spheres", "--scale", "smoke"]) == 0
    assert "Report: results/smoke/report/index.html" in capsys.readouterr().out


def test_settings_can_be_replaced_and_verdicts_know_it(capsys):
    assert run("--set", "n_terms=1000", "--set", "powers=2", "--seed", "3") == 0
    plan = json.loads(Path("out/plans/sums.json").read_text())
    assert plan["overrides"] == {"n_terms": 1000, "powers": [2.0]}
    assert plan["settings"]["n_terms"] == 1000
    assert plan["seed"] == 3
    verdicts = {entry["claim"]["id"]: entry["verdict"] for entry in _claims()}
    assert verdicts == {"T1": "reproduced", "T2": "reproduced"}
    assert run("--set", "n_terms=999", "--set", "powers=2") == 0
    verdicts = {entry["claim"]["id"]: entry["verdict"] for entry in _claims()}
    assert verdicts["T1"] == "not testable at this scale"


def _claims():
    return json.loads(Path("out/report/claims.json").read_text())


def test_a_failing_run_is_listed_and_the_report_says_so(capsys):
    assert run("--set", "mode=fail") == 1
    said = capsys.readouterr()
    assert re.search(r"Sum-\w+ failed: ArithmeticError: this sum was asked to fail", said.err)
    assert "the tracebacks are in out/failures" in said.err
    assert "no result" in said.out
    (failure,) = Path("out/failures").iterdir()
    assert "Traceback" in failure.read_text()
    assert "this sum was asked to fail" in Path("out/report/index.html").read_text()
    assert run() == 0


def test_a_killed_worker_leaves_a_resumable_store(capsys):
    assert run("--set", "mode=die") == 1
    assert "the same command goes on from there" in capsys.readouterr().err
    assert run() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_leaves_a_resumable_store(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(HELPERS)!r})
import pytest
from register import register
from trueboundary.cli import main
from trueboundary.runs import read_plan, write_plan
if __name__ == "__main__":
    register(pytest.MonkeyPatch())
    sys.exit(main(["run", "sums", "--scale", "smoke", "--out", "out", "--set", "mode=slow"]))
"""
    file = tmp_path / "interrupted.py"
    file.write_text(script)
    with subprocess.Popen(
        [sys.executable, file],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, a shell has interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not list(Path("out").glob("unfinished/*/started")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.startswith("trueboundary: interrupted; what had finished is kept in out")
    assert "Traceback" not in said
    assert run() == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "sum"], "no experiment 'sum'.*did you mean 'sums'"),
        (["run", "sums", "--scale", "qick"], "no scale 'qick'.*did you mean 'quick'"),
        (["run", "sums", "--seed", "-1"], "--seed"),
        (["run", "sums", "--workers", "0"], "--workers"),
        (["run", "sums", "--device", "gpu"], "no device 'gpu'"),
        (["run", "sums", "--device", "cuda:99"], "'cuda:99' is not there"),
        (["run", "sums", "--set", "n_terms=0"], "n_terms must be at least 1, got 0"),
        (["run", "sums", "--set", "n_terms=x"], "n_terms is a whole number"),
        (["run", "sums", "--set", "n_term=1"], "did you mean 'n_terms'"),
        (["run", "sums", "--set", "n_terms"], "name=value"),
        (["run", "sums", "--set", "powers="], "powers needs at least one value"),
        (["run", "sums", "--out", "a-file/out"], "cannot write to a-file/out"),
        (["run"], "ID"),
        (["reproduce", "sphere"], "did you mean 'spheres'"),
        (["reproduce", "--scale", "full"], "no scale 'full'"),
        (["report", "nowhere"], "nowhere holds no results"),
        (["list", "--all"], "--all"),
        (["rnus"], "there is no command .rnus."),
    ],
)
def test_mistakes_get_status_2_and_a_sentence(capsys, arguments, says):
    Path("a-file").touch()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert re.search(says, said.err)
    assert "Traceback" not in said.err + said.out
    assert not Path("results/quick/plans").exists(), "nothing may be left that looks like a result"


def test_list_shows_id_paper_place_and_costs(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for word in ("sums", "spheres", "Figure 0", "smoke", "quick", "paper"):
        assert word in out


def test_doctor_names_versions_device_threads_and_data(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("torch", "devices", "cpu", "threads", "data"):
        assert word in out


@pytest.mark.parametrize("command", ["list", "run", "reproduce", "report", "ship", "doctor"])
def test_help_has_a_worked_example(capsys, command):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"trueboundary {command}" in out.partition("Example")[2]


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("trueboundary ")


def test_report_is_written_again_from_stored_results(capsys):
    run()
    Path("out/report/index.html").unlink()
    assert main(["report", "out"]) == 0
    assert Path("out/report/index.html").exists()


def test_results_of_two_scales_are_shipped_and_their_verdicts_stand_side_by_side(capsys):
    assert main(["run", "sums", "--scale", "smoke", "--out", "smoke"]) == 0
    assert main(["run", "sums", "--scale", "quick", "--out", "quick"]) == 0
    assert main(["run", "sums", "--scale", "paper", "--out", "paper"]) == 0
    capsys.readouterr()
    assert main(["ship", "paper", "quick", "smoke", "--into", "evidence"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(r"evidence holds 1 experiment: \d runs, 0\.0 MB\.\n", out)
    for name in ("README.md", "verdicts.md"):
        Path(name).write_text("before\n<!-- claims: begin -->\n<!-- claims: end -->\nafter\n")
    tables = ["--readme", "README.md", "--scales", "verdicts.md"]
    assert main(["report", "evidence", *tables, "--out", "report"]) == 0
    assert not Path("evidence/report").exists()
    readme, verdicts = (Path(name).read_text() for name in ("README.md", "verdicts.md"))
    assert "Measured at scale paper" in readme
    assert "| claim | statement | the paper says | at scale quick | at scale paper |" in verdicts
    (row,) = [line for line in verdicts.splitlines() if line.startswith("| T1 |")]
    assert row.endswith("| 1.64 | not testable at this scale: 1.635 | reproduced: 1.644 |")
    assert "| T3 | Something that another experiment measures | 1 | not run | not run |" in verdicts
    assert "At scale quick, 2 claims: 1 reproduced" in verdicts
    assert verdicts.startswith("before\n")
    assert verdicts.endswith("after\n")


def test_what_cannot_be_shipped_is_said_in_a_sentence(capsys):
    assert main(["ship", "nothing", "--into", "evidence"]) == 2
    assert "nothing holds no results" in capsys.readouterr().err
    assert not Path("evidence").exists()
    run()
    Path("evidence").write_text("a file")
    assert main(["ship", "out", "--into", "evidence"]) == 2
    assert "could not be copied to evidence: Not a directory" in capsys.readouterr().err
    Path("verdicts.md").write_text("no markers")
    assert main(["report", "out", "--scales", "verdicts.md"]) == 2
    assert "--scales: verdicts.md must hold the line" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"settings": []}, {"overrides": 3}, {"runs": 1}, {"more": 1}])
def test_a_damaged_plan_costs_its_experiment_and_is_named(capsys, change):
    run()
    file = Path("out/plans/sums.json")
    plan = json.loads(file.read_text())
    unsealed = {name: plan[name] for name in plan.keys() - {"schema", "checksum"}}
    for text in ("{", "[]", "{}", json.dumps(plan | change), json.dumps(unsealed | change)):
        file.write_text(text)
        assert main(["report", "out"]) == 1
        assert "sums has no result: out/plans/sums.json is not a plan" in capsys.readouterr().err
        assert {entry["verdict"] for entry in _claims()} == {None}
    assert run() == 0
    assert "no result" not in capsys.readouterr().err


def test_what_belongs_to_no_experiment_is_named(capsys):
    run()
    stray = Path("out/plans/\x1b[2Jelsewhere.json")
    stray.write_text("{}")
    assert main(["report", "out"]) == 1
    said = capsys.readouterr().err
    assert r"plans/\x1b[2Jelsewhere.json belongs to no experiment of this version" in said
    assert "elsewhere.json" in Path("out/report/index.html").read_text()
    assert {entry["verdict"] for entry in _claims()} != {None}


def test_a_report_without_all_results_says_what_is_missing(capsys):
    run()
    for file in Path("out/runs").glob("*/run.json"):
        file.write_text("{")
    assert main(["report", "out"]) == 1
    assert "sums has no result: The stored run" in capsys.readouterr().err


def test_only_a_report_is_replaced(capsys):
    own = Path("out/report/own.txt")
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert run() == 2
    assert "holds something else than a report" in capsys.readouterr().err
    assert not Path("out/runs").exists(), "it is said before anything is computed"
    assert own.read_text() == "mine"
    own.unlink()
    assert run() == run() == 0
    assert not list(Path("out").glob("report.*"))


def test_a_folder_without_plans_holds_no_results(capsys):
    Path("out/plans").mkdir(parents=True)
    assert main(["report", "out"]) == 2
    assert "out holds no results" in capsys.readouterr().err


def test_the_readme_gets_its_table(capsys, monkeypatch):
    from trueboundary.report import summary

    monkeypatch.setattr(summary, "read_templates", lambda: [("The sum | is {T1}.", ("T2",))])
    run()
    readme = Path("README.md")
    readme.write_text("before\n<!-- claims: begin -->\nold\n<!-- claims: end -->\nafter\n")
    assert main(["report", "out", "--readme", "README.md"]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- claims: begin -->\n| what was found |")
    assert text.endswith("<!-- claims: end -->\nafter\n")
    assert "| The sum \\| is 2.929. |" in text
    assert "trueboundary report out --readme README.md" in text
    assert "Of all 2 claims: 1 reproduced, " in text
    assert "1 not testable at this scale. Measured at scale smoke" in text
    assert "old" not in text
    assert main(["report", "out", "--readme", "README.md"]) == 0
    assert readme.read_text() == text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("plain.md", "plain.md must hold the line <!-- claims: begin --> once"),
        ("missing.md", "cannot read missing.md: No such file or directory; it must be a Markdown"),
        (".", "cannot read .: . should be a file, got a folder;"),
        ("latin.md", "latin.md is not UTF-8 text"),
        ("pipe.md", "pipe.md should be a file, got a pipe or a device;"),
    ],
)
def test_a_readme_that_cannot_take_the_table_is_said_before_anything_is_written(capsys, name, says):
    run()
    report = Path("out/report/index.html").stat().st_mtime_ns
    Path("plain.md").write_text("no markers")
    Path("latin.md").write_bytes(b"caf\xe9")
    os.mkfifo("pipe.md")
    assert main(["report", "out", "--readme", name]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Errno" not in said
    assert Path("out/report/index.html").stat().st_mtime_ns == report


def test_a_report_of_results_that_are_not_to_be_written_to_goes_elsewhere(capsys):
    run()
    shutil.rmtree("out/report")
    assert main(["report", "out", "--out", "page"]) == 0
    assert "Report: page/index.html" in capsys.readouterr().out
    assert Path("page/claims.json").exists()
    assert not Path("out/report").exists()
    assert main(["report", "out", "--out", "out"]) == 2
    assert "out holds something else than a report; move it away" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_store_is_said_with_what_to_do(capsys):
    run()
    shutil.rmtree("out/report")
    Path("out").chmod(0o555)
    try:
        assert main(["report", "out"]) == 2
        assert "cannot write to out/report" in capsys.readouterr().err
        assert main(["report", "out", "--out", "page"]) == 0
    finally:
        Path("out").chmod(0o755)


def test_a_linked_report_folder_is_followed_and_a_dead_link_is_said_at_once(capsys):
    Path("page").mkdir()
    Path("out").mkdir()
    Path("out/report").symlink_to(Path("page").resolve())
    assert run() == run() == 0
    assert Path("page/index.html").exists()
    assert Path("out/report").is_symlink()
    shutil.rmtree("page")
    shutil.rmtree("out/runs")
    capsys.readouterr()
    assert run() == 2
    assert "out/report is a link to" in capsys.readouterr().err
    assert not Path("out/runs").exists()


# --- several commands and one folder ------------------------------------------------------------


def _measured(out):
    """Return the measured value of T1 in a table that was printed."""
    return re.search(r"^T1 .*\n(?:.*\n)*?.*? {2,}(\S+) +paper: 1\.64", out, re.MULTILINE)[1]


def test_each_of_two_commands_prints_the_table_of_what_it_ran(capsys, monkeypatch):
    from trueboundary.cli import work

    assert run("--set", "n_terms=20", "--set", "powers=2") == 0
    second = _measured(capsys.readouterr().out)
    shutil.rmtree("out")
    execute, outputs = work.execute, []

    def both(*arguments, **options):
        if not outputs:  # while the first command computes, the second starts and ends
            outputs.append(None)
            assert run("--set", "n_terms=20", "--set", "powers=2") == 0
            outputs.append(capsys.readouterr().out)
        return execute(*arguments, **options)

    monkeypatch.setattr(work, "execute", both)
    assert run("--set", "powers=2") == 0
    first = capsys.readouterr()
    assert _measured(outputs[1]) == second
    assert _measured(first.out) != second
    assert "out now holds another command's settings of sums (n_terms 20 where this" in first.err
    assert main(["report", "out"]) == 0
    assert _claims()[0]["measurement"]["n"] == 20


def test_a_plan_of_other_settings_is_not_replaced_without_a_word(capsys):
    assert run() == run() == 0
    assert capsys.readouterr().err == ""
    assert run("--set", "n_terms=20", "--seed", "1") == 0
    said = capsys.readouterr().err
    assert "out held other settings of sums (seed 0 where this command has 1, n_terms 10 " in said


def test_words_of_a_plan_do_not_steer_the_terminal(capsys):
    assert run() == 0
    file = Path("out/plans/sums.json")
    plan = read_plan(file)
    write_plan(Path("out"), replace(plan, settings={**plan.settings, "n_terms": "\x1b[2J"}))
    capsys.readouterr()
    assert run() == 0
    said = capsys.readouterr().err
    assert r"n_terms \x1b[2J where this command has" in said
    assert "\x1b" not in said


def test_the_table_is_of_what_the_command_ran_alone(capsys, monkeypatch):
    from trueboundary.experiments import experiments

    assert run() == 0
    other = replace(experiments()["sums"], id="elsewhere", analyse=lambda runs, settings: 1 / 0)
    monkeypatch.setitem(experiments(), "elsewhere", other)
    monkeypatch.setattr("trueboundary.experiments.base._scales", _scales_of_both)
    capsys.readouterr()
    assert main(["run", "elsewhere", "--scale", "smoke", "--out", "out"]) == 1
    said = capsys.readouterr()
    assert "T3" in said.out
    assert "T1" not in said.out
    assert run() == 0, "what is wrong with the other experiment is not this command's"
    said = capsys.readouterr()
    assert "T1" in said.out
    assert "T3" not in said.out


def _scales_of_both():
    import fake_experiment

    sums = fake_experiment.SCALES["sums"]
    return {"sums": sums, "elsewhere": sums}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "smoke"),
        (["--set", "n_terms=20"], "smoke-n_terms=20"),
        (["--set", "powers=1,2", "--seed", "3"], "smoke-powers=1.0,2.0-seed=3"),
        (["--seed", "0", "--device", "cpu"], "smoke"),
    ],
)
def test_settings_of_ones_own_go_beside_the_reproduction(capsys, arguments, name):
    assert main(["reproduce", "--scale", "smoke"]) == 0
    plan = Path("results/smoke/plans/sums.json").read_bytes()
    assert main(["run", "sums", "--scale", "smoke", *arguments]) == 0
    assert f"Report: results/{name}/report/index.html" in capsys.readouterr().out
    assert Path("results/smoke/plans/sums.json").read_bytes() == plan
    assert {entry.name for entry in Path("results").iterdir()} == {"smoke", name}


def test_no_two_settings_share_a_folder():
    from fake_experiment import EXPERIMENT

    from trueboundary.cli.work import Job, default_folder
    from trueboundary.runs import Plan

    def folder(device="cpu", **overrides):
        plan = Plan("a", "quick", 0, device, {}, overrides)
        return default_folder([Job(EXPERIMENT, plan, {})])

    names = {
        folder(),
        folder(device="cuda"),
        folder(device="cuda:1"),
        folder(pairs=("0/6",)),
        folder(pairs=("0_6",)),
        folder(pairs=tuple(map(str, range(200)))),
        folder(pairs=tuple(map(str, range(201)))),
        folder(name="../../elsewhere"),
        folder(name="../../elsewhere "),
    }
    assert len(names) == 9
    assert all(name.parent == Path("results") and len(name.name) < 120 for name in names)


@pytest.mark.parametrize("full", ["trueboundary.cli.work.write_plan", "os.rename"])
def test_a_full_disk_is_said_in_a_sentence(capsys, monkeypatch, full):
    assert run() == 0
    capsys.readouterr()

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(full, refuse)
    assert run() == 1
    said = capsys.readouterr()
    assert "No space left on device" in said.err
    assert "Traceback" not in said.err + said.out


BROUGHT = [
    ("celeba/Male", "celeba", "TRUEBOUNDARY_CELEBA", "CelebA"),
    ("cifar10/cat-dog", "cifar10", "TRUEBOUNDARY_CIFAR10", "CIFAR-10"),
]


@pytest.mark.parametrize(("name", "option", "variable", "words"), BROUGHT)
def test_missing_images_are_said_in_one_sentence_and_not_judged(
    capsys, monkeypatch, name, option, variable, words
):
    _use_dataset(monkeypatch, name)
    monkeypatch.delenv(variable, raising=False)
    assert run() == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"sums is left out: it needs {words}, not set up; let {variable} name" in err
    assert not list(Path("out/runs").glob("*"))
    assert {entry["verdict"] for entry in _claims()} == {"data not available here"}


@pytest.mark.parametrize(("name", "option", "variable", "words"), BROUGHT)
def test_images_are_found_by_option_and_by_variable(
    capsys, monkeypatch, tmp_path, name, option, variable, words
):
    _use_dataset(monkeypatch, name)
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    assert run() == 0
    assert "left out" in capsys.readouterr().err
    brought = tmp_path / "brought"
    assert run(f"--{option}", str(brought)) == 2
    assert "nothing at" in capsys.readouterr().err
    brought.mkdir()
    assert run(f"--{option}", str(brought)) == 0
    assert "left out" not in capsys.readouterr().err
    assert os.environ[variable] == str(brought)


def test_reproduce_leaves_some_experiments_to_run(capsys, monkeypatch):
    from trueboundary.experiments import experiments

    sums = replace(experiments()["sums"], on_request="it needs coins, which you bring")
    monkeypatch.setitem(experiments(), "sums", sums)
    assert main(["reproduce", "--scale", "smoke"]) == 2
    assert "sums is left to 'trueboundary run sums': it needs coins" in capsys.readouterr().err
    assert run() == 0


def _use_dataset(monkeypatch, name):
    from trueboundary.experiments import base

    table = {"dataset": dict.fromkeys(("smoke", "quick", "paper"), name) | {"stated": "Table 1"}}
    scales = {"sums": base._scales()["sums"] | table}
    monkeypatch.setattr(base, "_scales", lambda: scales)


def test_runs_that_waited_for_a_failure_are_counted_and_not_listed():
    from fake_experiment import Sum

    from trueboundary.cli.errors import describe_failures
    from trueboundary.runs import Failure

    bad = Failure(Sum(10, 1.0, "fail", 0), "ValueError: no", "Traceback")
    waiting = Failure(Sum(20, 1.0, "plain", 0), "not started: it needs that", "")
    assert describe_failures([], Path("out")) == []
    assert describe_failures([bad, waiting, waiting], Path("out")) == [
        f"{bad.config.folder} failed: ValueError: no",
        "2 runs not started for want of these",
        "the tracebacks are in out/failures",
    ]
