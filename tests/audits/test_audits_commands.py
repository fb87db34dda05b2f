"""The commands of an audit: bad input, stops, comparisons and pages."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import trueboundary as tb
from trueboundary.audits import SCHEMA
from trueboundary.cli import main

FILE = """
import time
import torch

class Stopping(torch.nn.Module):
    n = 0
    def forward(self, x):
        self.n += 1
        if self.n > 60:
            raise KeyError("gone")
        return x[:, 0] + 0.3 * x[:, 1]

stopping = Stopping()
class Leaving(Stopping):
    def forward(self, x):
        print("so far", self.n)
        self.n += 1
        if self.n > 60:
            raise SystemExit
        return x[:, 0] + 0.3 * x[:, 1]

leaving = Leaving()
def makes():
    raise KeyError("weights")
def wrong_shape(x): return torch.zeros(len(x), 2, 2)
def nan(x): return x[:, 0] * float("nan")
def integers(x): return (x[:, 0] > 0).long()
def array(x): return x[:, 0].numpy()
def broken(x): raise ZeroDivisionError("first")
def four(x): return x @ torch.ones(7)
def tilted(x): return x[:, 0] + 0.3 * x[:, 1]
def off(x): return (x - 0.3).norm(dim=1) - 1.1
def said(x): return torch.stack([off(x), -off(x)], dim=1).flip(1).softmax(1)
def slow(x):
    time.sleep(0.005)
    return tilted(x)
class Needs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
    def forward(self, x): return x @ self.weight
"""
ON = ["--problem", "spheres-d3", "--n-points", "6"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "folder.html").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrong_shape", "must return one margin for each"),
        ("nan", "returned NaN"),
        ("integers", "floating-point margins or logits, got torch.int64"),
        ("array", "got ndarray"),
        ("broken", "stops with ZeroDivisionError at points of shape (3,) each (first)"),
        ("four", "stops with RuntimeError at points of shape (3,) each"),
        ("makes", "mine.py:makes stops with KeyError: 'weights'"),
    ],
)
def test_bad_models_are_answered_in_a_sentence(folder, capsys, name, says):
    assert main(["audit", "model", f"mine.py:{name}", *ON]) == 2
    shown = capsys.readouterr()
    assert says in shown.err.splitlines()[-1]
    assert shown.out == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--norm", "linf"], "known in L2 alone"),
        (["--classes", "a"], "--classes must be numbers such as 0,6, got 'a'"),
        (["--classes", "1,1"], "--classes must be different and counted from 0, got '1,1'"),
        (
            ["--classes", "0,1,2"],
            "--classes names 3 of the classifier's classes, and the problem has 2; name one for "
            "each, or choose a problem of 3",
        ),
        (["--budget", "-1"], "--budget must be a number of seconds above 0"),
        (["--html", "card.pdf"], "expected a file .html or .htm, got card.pdf"),
        (["--html", "folder.html"], "folder.html is a folder"),
        (["--out", "mine.py"], "choose another --out"),
    ],
)
def test_bad_options_are_answered_before_anything_is_measured(folder, capsys, options, says):
    assert main(["audit", "model", "mine.py:tilted", *ON, *options]) == 2
    shown = capsys.readouterr()
    assert says in shown.err.splitlines()[-1]
    assert "counting errors" not in shown.err
    assert shown.out == ""


def test_folders_that_are_no_problem(folder, capsys):
    for name in ("cats", "dogs"):
        place = folder / "images" / name
        place.mkdir(parents=True)
        Image.new("L", (4, 4)).save(place / "0.png")
        problem = ["--problem", "images"]
        assert main(["audit", "model", "mine.py:tilted", *problem]) == 2
        says = "one class, cats" if name == "cats" else "holds no data set, though subfolders"
        assert says in capsys.readouterr().err
    assert main(["dataset", "make", "images/cats", "--out", "made"]) == 2
    assert "at least two subfolders" in capsys.readouterr().err


def test_a_model_that_stops_half_way(folder, capsys):
    assert main(["audit", "model", "mine.py:stopping", *ON, "--json", "--html", "c.html"]) == 1
    shown = capsys.readouterr()
    values = json.loads(shown.out)
    assert values["stopped"] == "KeyError: 'gone'"
    assert "stopped half-way: KeyError: 'gone'" in shown.err
    assert "this is what was measured before" in (folder / "c.html").read_text()


def test_a_model_that_ends_the_process_and_prints_leaves_a_card_alone(folder, capsys):
    assert main(["audit", "model", "mine.py:leaving", *ON, "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["stopped"] == "SystemExit"
    assert "so far" in shown.err
    (folder / "ends.py").write_text("raise SystemExit(9)")
    assert main(["audit", "model", "ends.py:network", *ON]) == 2
    assert "ends.py stops with SystemExit: 9" in capsys.readouterr().err


def test_comparisons_take_what_audits_take(folder, capsys):
    both = ["mine.py:off", "mine.py:said", "--outputs-b", "probability"]
    assert main(["audit", "compare", *both, *ON, "--json", "--html", "c.html"]) == 0
    shown = capsys.readouterr()
    values = json.loads(shown.out)
    assert values["schema"] == SCHEMA
    assert values["subjects"] == ["mine.py:off", "mine.py:said"]
    assert [card["schema"] for card in values["cards"]] == [SCHEMA] * 2
    assert values["n"] == 12
    assert abs(values["median_difference"]) < 1e-3  # one is the other, as probabilities
    text = (folder / "c.html").read_text()
    assert text.count("Robustness card:") == 2
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    weights = ["mine.py:Needs", "mine.py:off", "--weights-a", "gone.safetensors"]
    assert main(["audit", "compare", *weights, *ON]) == 2
    assert "gone.safetensors" in capsys.readouterr().err
    assert main(["audit", "compare", "mine.py:stopping", "mine.py:off", *ON, "--json"]) == 1
    shown = capsys.readouterr()
    values = json.loads(shown.out)  # of both, or of the first alone where nothing is comparable
    assert values.get("cards", [values])[0]["stopped"]
    assert "stopped half-way" in shown.err


def test_pages_of_flags(capsys):
    assert main(["audit", "flag"]) == 0
    assert "gradient masking" in capsys.readouterr().out.splitlines()
    assert main(["audit", "flag", "gradient-masking"]) == 0
    assert capsys.readouterr().out.startswith("# Red flag: gradient masking\n")
    assert main(["audit", "flag", "gradient"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_a_stopped_command_goes_on(folder, how):
    arguments = ["audit", "model", "mine.py:slow", "--problem", "spheres-d3", "--n-points", "40",
                 "--out", "kept"]  # fmt: skip
    command = [sys.executable, "-m", "trueboundary", *arguments]
    path = {"PYTHONPATH": str(Path(tb.__file__).parents[1])}
    process = subprocess.Popen(
        command, env=os.environ | path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    runs = folder / "kept" / "runs"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (runs.is_dir() and len(list(runs.iterdir())) >= 3):
        time.sleep(0.05)
    process.send_signal(how)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "the same command goes on from there" in said
    finished = {file: file.read_bytes() for file in runs.rglob("*") if file.is_file()}
    assert main(arguments) == 0
    assert all(file.read_bytes() == content for file, content in finished.items())
    assert len(list(runs.iterdir())) == 1 + 2 * 6  # rates, and groups of 1, 3, 4, 8, 4 and 20
    # Ctrl-C in the middle of a write can leave what `Store.clean` removes later, and no checkpoint.
    left = [path.name for path in (folder / "kept" / "unfinished").glob("*-*")]
    assert all(".staging-" in name for name in left) or how == signal.SIGKILL
