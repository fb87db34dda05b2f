"""The command that lists the zoo and shows its cards."""

import io
import json

import pytest
from rich.console import Console

from trueboundary import zoo
from trueboundary.cli import main
from trueboundary.cli.terminal_tables import zoo_table


def test_all_entries_are_listed_with_size_and_place(capsys, monkeypatch):
    monkeypatch.delenv("TRUEBOUNDARY_ZOO", raising=False)
    assert main(["zoo"]) == 0
    out = capsys.readouterr().out
    for entry in zoo.entries().values():
        assert entry.name in out
        assert entry.title in out
    assert "the archive" in out
    assert "not here" in out
    assert "44.0 MB" in out


def test_no_name_is_broken_on_a_narrow_terminal():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(zoo_table([(entry, False) for entry in zoo.entries().values()]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    for name in zoo.names():
        assert any(line.startswith(f"{name} ") for line in lines), name


def test_a_card_is_shown(capsys):
    name = "mnist-0-6-symmetric-rbf-svm"  # whose file is not here
    assert main(["zoo", name]) == 0
    out = capsys.readouterr().out
    for word in (name, "error rate", "mean distance", "TrainedSVM-", "CC BY-SA 3.0", "n_train"):
        assert word in out


def test_json(capsys):
    assert main(["zoo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["command"], found["schema"]) == ("zoo", "1.0")
    assert found["entries"].keys() == zoo.entries().keys()
    assert main(["zoo", "spheres-d500", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)["card"]
    assert card["spec"]["arguments"] == {"dim": 500, "radius": 1.3}


def test_an_unknown_name_is_a_mistake(capsys):
    assert main(["zoo", "mnist-0-6-symmetric-cn"]) == 2
    err = capsys.readouterr().err
    assert "did you mean 'mnist-0-6-symmetric-cnn'" in err
    assert "Traceback" not in err


def test_doctor_says_where_the_zoo_is(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TRUEBOUNDARY_ZOO", str(tmp_path))
    assert main(["doctor"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "zoo" in out
    assert "in the package and at" in out
    assert "not here; set TRUEBOUNDARY_ZOO" in out


@pytest.mark.parametrize("command", [["zoo"], ["release", "zoo"], ["release", "archives"]])
def test_help_has_a_worked_example(capsys, command):
    assert main([*command, "--help"]) == 0
    assert f"trueboundary {' '.join(command)}" in capsys.readouterr().out.partition("Example")[2]
