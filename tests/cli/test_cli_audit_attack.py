"""The command that judges attacks: a first table, one sentence for what is wrong, nothing twice."""

import json
from pathlib import Path

import pytest

from trueboundary.cli import main

MINE = """
import torch
calls = []

def attack(model, x, y):
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    gap = (logits[:, 1] - logits[:, 0]).abs()
    (gradient,) = torch.autograd.grad(gap.sum(), leaf)
    step = gap[:, None] * gradient / gradient.square().sum(1, keepdim=True)
    return (leaf - 1.0001 * step).detach()

def itself(model, x, y):
    return x

def crash(model, x, y):
    raise RuntimeError("no luck | at\\n all")
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    Path("folder").mkdir()
    Path("empty.json").write_text("{}")
    return tmp_path


def test_an_attack_of_ones_own_is_judged_kept_and_shown(here, capsys) -> None:
    words = ["audit", "attack", "mine.py:attack", "mine.py:itself", "mine.py:crash", "DeepFool"]
    words += ["--members", "linear,ellipsoid-bulk", "--points", "3", "--out", "runs"]
    page = here / "page.md"
    page.write_text("# Board\n\n<!-- leaderboard: begin -->\n<!-- leaderboard: end -->\nend\n")
    files = ["--json", "board.json", "--figure", "board.png", "--page", "page.md"]
    assert main([*words, *files]) == 0
    shown = capsys.readouterr()
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "mine.py:attack   1/2" in shown.out
    assert "0%" in shown.out
    record = json.loads((here / "board.json").read_text())
    assert record["schema"] == "1.0"
    mine = {a["name"]: a for a in record["attacks"]}["mine.py:attack"]
    assert (here / "board.png").read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.startswith("# Board\n")
    assert "no luck \\| at all" in text
    assert text.endswith("end\n")

    runs = {p.name: p.stat().st_mtime_ns for p in (here / "runs" / "runs").iterdir()}
    assert len(runs) == 2 + 4 * 2
    assert main([*words, "--stored"]) == 0
    assert capsys.readouterr().out == shown.out
    assert main(words) == 0
    assert runs == {p.name: p.stat().st_mtime_ns for p in (here / "runs" / "runs").iterdir()}
    capsys.readouterr()
    damaged = next((here / "runs" / "runs").glob("TrialRun-*/arrays.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    assert main([*words, "--stored"]) == 2
    assert "damaged" in capsys.readouterr().err
    assert main(words) == 0
    assert capsys.readouterr().out == shown.out

    assert main(["audit", "attack", "--check", "board.json"]) == 0
    assert "mine.py:attack   1/2" in capsys.readouterr().out
    mine["members"]["linear"]["distance"][0] /= 2
    (here / "cheat.json").write_text(json.dumps(record))
    assert main(["audit", "attack", "--check", "cheat.json"]) == 2
    assert "none is nearer than" in capsys.readouterr().err
    mine["members"]["linear"]["distance"][0] *= 2
    record["members"]["linear"]["lower"] = [v / 2 for v in record["members"]["linear"]["lower"]]
    (here / "cheat.json").write_text(json.dumps(record))
    assert main(["audit", "attack", "--check", "cheat.json"]) == 2
    assert "other proven distances" in capsys.readouterr().err


def test_a_stop_says_what_is_kept(here, capsys, monkeypatch) -> None:
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("trueboundary.runs.execute", interrupted)
    words = ["audit", "attack", "mine.py:itself", "--members", "linear", "--out", "runs"]
    assert main(words) == 130
    assert "stopped; what is finished is in runs" in capsys.readouterr().err


def test_an_attack_that_crashes_at_every_point_is_told_of_in_the_status(here, capsys) -> None:
    alone = ["audit", "attack", "mine.py:crash", "--members", "linear,linear-box", "--points", "2"]
    assert main(alone) == 1
    said = capsys.readouterr()
    assert "mine.py:crash" in said.out
    last = said.err.splitlines()[-1]
    assert last.startswith("trueboundary: mine.py:crash stopped with an exception at every point: ")
    # Beside one that runs it is a result, as is one that finds nothing.
    assert main([*alone, "mine.py:itself"]) == 0
    assert "stopped with an exception" in capsys.readouterr().err


def test_a_single_attack_is_told_member_by_member(here, capsys) -> None:
    words = ["audit", "attack", "mine.py:itself", "--members", "linear", "--points", "2"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "linear" in out
    assert "0/2" in out
    assert "linear: 2 x" in out
    assert (here / "results" / "attacks" / "runs").is_dir()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["DDM"], "did you mean 'DDN'"),
        (["mine.py:none"], "mine.py has no 'none'; it defines attack, itself and crash"),
        (["mine.py"], "say which function of mine.py is meant, as in mine.py:attack"),
        (["none.py:attack"], "there is no file none.py"),
        (["DDN", "--members", "linaer"], "did you mean 'linear'"),
        (["DDN", "--json", "nowhere/board.json"], "there is no folder"),
        (["DDN", "--json", "folder"], "folder is a folder"),
        (["DDN", "--figure", "board.xyz"], "expected a file .png, got board.xyz"),
        (["DDN", "--page", "mine.py"], "<!-- leaderboard: begin -->"),
        (["--check", "mine.py"], "no JSON of a leaderboard"),
        (["--check", "nothing.json"], "nothing.json"),
        (["--check", "empty.json"], "empty.json: expected 'schema'"),
        (["--check", "empty.json", "--seed", "0"], "--check runs no attack"),
        (["foolbox:DDM-100"], "DDN-100"),
    ],
)
def test_what_can_be_known_is_said_before_the_work(here, capsys, words, sentence) -> None:
    place = [] if "--check" in words else ["--out", "runs"]
    assert main(["audit", "attack", *words, *place]) == 2
    error = capsys.readouterr().err
    assert sentence in " ".join(error.split())
    assert not (here / "runs" / "runs").exists()
