"""Every command answers every kind of bad input with status 2 and a sentence, and does nothing."""

import shlex
from pathlib import Path

import pytest

from trueboundary.cli import main

FILE = """
import torch

number = 3
def margin(x):
    return x[:, 0] - 1.1
def nan(x):
    return x[:, 0] * torch.nan
def raises(x):
    raise RuntimeError("lost\\nand found")
def nothing(problem, generator):
    return None
"""

#: Files and folders that are not what is expected, and what is typed, by command.
MISTAKES = """
nosuch
--nosuch
audit nosuch
audit model
audit model nosuch --problem spheres
audit model folder --problem spheres
audit model mine.py --problem spheres
audit model mine.py:nosuch --problem spheres
audit model mine.py:number --problem spheres
audit model syntax.py:net --problem spheres
audit model nofile.py:net --problem spheres
audit model text.txt --problem spheres
audit model text.onnx --problem spheres
audit model text.pt --problem spheres
audit model text.skops --problem spheres
audit model mine.py:margin
audit model mine.py:margin --problem nosuch
audit model mine.py:margin --problem folder
audit model mine.py:margin --problem text.txt
audit model mine.py:margin --problem spheres-d1
audit model mine.py:margin --problem spheres-dx
audit model mine.py:margin --problem spheres-d3 --n-points 1
audit model mine.py:margin --problem spheres-d3 --n-points 1e3
audit model mine.py:margin --problem spheres-d3 --budget nan
audit model mine.py:margin --problem spheres-d3 --budget 0
audit model mine.py:margin --problem spheres-d3 --seed -1
audit model mine.py:margin --problem spheres-d3 --norm linf
audit model mine.py:margin --problem spheres-d3 --outputs x
audit model mine.py:margin --problem spheres-d3 --classes x
audit model mine.py:margin --problem spheres-d3 --classes 0,1,2
audit model mine.py:margin --problem spheres-d3 --weights nofile
audit model mine.py:margin --problem spheres-d3 --html folder
audit model mine.py:margin --problem spheres-d3 --html x.pdf
audit model mine.py:margin --problem spheres-d3 --html nowhere/x.html
audit model mine.py:margin --problem spheres-d3 --out text.txt
audit model mine.py:margin --problem spheres-d3 --out text.txt/x
audit model mine.py:nan --problem spheres-d3
audit model mine.py:raises --problem spheres-d3
audit compare mine.py:margin --problem spheres-d3
audit compare mine.py:margin nosuch --problem spheres-d3
audit attack
audit attack nosuch
audit attack mine.py:number
audit attack nolib:x
audit attack DDN --members nosuch
audit attack DDN --members ""
audit attack DDN --points 0
audit attack DDN --json folder
audit attack DDN --figure x.jpg
audit attack DDN --page text.txt
audit attack DDN --out text.txt
audit attack --check nofile.json
audit attack --check broken.json
audit attack --check folder
audit attack --check empty.json --stored
audit training
audit training --problem nosuch
audit training nosuch --problem spheres-d3
audit training trades=x --problem spheres-d3
audit training trades=-1 --problem spheres-d3
audit training standard=2 --problem spheres-d3
audit training standard standard --problem spheres-d3
audit training standard --problem spheres-d3 --network mine.py
audit training standard --problem spheres-d3 --network mine.py:number
audit training --problem spheres-d3 --seeds 0
audit training --problem spheres-d3 --learning-rate nan
audit training --problem spheres-d3 --size -1
audit training --problem spheres-d3 --budget inf
audit flag nosuch
zoo nosuch
dataset nosuch
dataset make nosuch --out new
dataset make folder --out new
dataset make text.txt --out new
dataset make synthetic
dataset make synthetic --out folder/../mine.py
dataset make synthetic --classes a --out new
dataset make synthetic --noise-std nan --out new
dataset make synthetic --held-out 1 --out new
dataset make synthetic --n-train 0 --out new
dataset make synthetic --variant x --out new
dataset make mnist --celeba folder --out new
dataset load nosuch
dataset load folder
dataset load text.txt
dataset export nosuch --out new
dataset export spheres-d3 --out mine.py
dataset export spheres-d3 --form numpy --arrays --out new
measure error nosuch
measure error folder
measure error text.txt
measure error mine.py:margin
measure error mine.py:margin --problem nosuch
measure error mine.py:margin --problem spheres-d3 --n-points 0
measure error mine.py:margin --problem spheres-d3 --method x
measure error mine.py:margin --problem spheres-d3 --method exact
measure error mine.py:margin --problem spheres-d3 --model x
measure error mine.py:nan --problem spheres-d3 --json
measure error mine.py:raises --problem spheres-d3 --json
measure distance mine.py:raises --problem spheres-d3
list x
run
run nosuch
run spheres-clt --scale x
run spheres-clt --seed x
run spheres-clt --workers 0
run spheres-clt --device nosuch
run spheres-clt --device cuda:99
run spheres-clt --set nosuch=1
run spheres-clt --set n_points
run spheres-clt --out text.txt
run spheres-clt --celeba nowhere
reproduce nosuch
reproduce all
reproduce spheres bayes
runs nosuch
runs folder --json
runs text.txt
report nosuch
report folder
report folder --readme nofile
sweep nosuch.toml
sweep folder
sweep broken.json
ship folder
ship folder --into new
theory cap --dim 0 --measure 0.1
theory cap --dim 9 --measure nan
theory cap --dim 9 --measure 0.1 --distance 0.1
theory cap --dim 9
theory ellipsoid x
theory ellipsoid nan
theory fraction --dim 9 --error 2
doctor x
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("mine.py").write_text(FILE)
    Path("syntax.py").write_text("def net(:\n")
    for name in ("text.txt", "text.onnx", "text.pt", "text.skops"):
        Path(name).write_text("words\n")
    Path("broken.json").write_text("{")
    Path("empty.json").write_text("{}")
    return {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("typed", MISTAKES.split("\n")[1:-1])
def test_a_mistake_is_one_sentence_and_status_2(here, capsys, typed):
    assert main(shlex.split(typed)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[-1].startswith("trueboundary: ")
    assert [line for line in lines if line.startswith("trueboundary: ")] == lines[-1:]
    assert not lines[-1].endswith(".")
    assert "Traceback" not in said.err
    # Files of Python leave their bytecode, and a folder for results may have been made.
    assert {path.name for path in Path().iterdir()} - here <= {"__pycache__", "results"}
