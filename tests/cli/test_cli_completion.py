"""What a shell completes, what help shows as choices, and the order of the commands."""

import os
import shutil
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

from trueboundary.audits import MEMBERS, METHODS, OURS
from trueboundary.audits.flags import FLAGS
from trueboundary.classifiers import adapters
from trueboundary.cli import completions, main, options
from trueboundary.cli.commands import PANELS, app
from trueboundary.experiments import experiments
from trueboundary.problems.images import VARIANTS
from trueboundary.runs import SCALES


def complete(*words):
    """Return what bash is answered after these words, of which the last is begun."""
    environment = os.environ | {
        "_TRUEBOUNDARY_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["trueboundary", *words]),
        "COMP_CWORD": str(len(words)),
    }
    found = subprocess.run(
        [sys.executable, "-m", "trueboundary"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr == ""
    return found.stdout.split()


def test_a_shell_completes_ids_scales_and_members():
    begun = [id for id in experiments() if id.startswith("spheres-n")]
    assert complete("run", "spheres-n") == begun
    assert complete("run", "--scale", "") == list(SCALES)
    assert complete("audit", "attack", "DDN", "--members", "linear,relu-") == [
        "linear,relu-small",
        "linear,relu-wide",
    ]
    assert complete("run", "spheres-narrow", "--seed", "1", "--set", "wi") == ["width="]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_with_the_script_that_is_shown(tmp_path):
    command = tmp_path / "trueboundary"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trueboundary "$@"\n')
    command.chmod(0o755)
    script = """
eval "$(trueboundary --show-completion bash)"
COMP_WORDS=(trueboundary audit training --problem x stand) COMP_CWORD=5
_trueboundary_completion trueboundary
printf '%s\\n' "${COMPREPLY[@]}"
"""
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        # Else typer looks for a shell among the parents of this process.
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    found = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (found.stdout, found.stderr) == ("standard\n", "")


def test_names_that_are_completed_are_those_there_are():
    assert tuple(MEMBERS) == completions.MEMBERS
    assert tuple(OURS) == completions.ATTACKS
    assert tuple(METHODS) == completions.METHODS
    assert completions.flags("") == sorted(flag.replace(" ", "-") for flag in FLAGS)
    assert completions.papers("b") == ["bayes", "beyond"]
    assert completions.members("linear,line") == [
        f"linear,{name}" for name in MEMBERS if name.startswith("linear-")
    ]


def test_names_and_files_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    (tmp_path / "mnist-of-mine").mkdir()
    assert completions.classifiers("min") == ["mine.py"]
    found = completions.problems("mnist-")
    assert found[-1] == "mnist-of-mine/"
    assert "mnist-0-6-symmetric" in found
    assert completions.problems("mine") == []
    assert completions.classifiers("nowhere/x") == []


def test_choices_are_those_of_the_library():
    hints = get_type_hints(options, include_extras=True) | vars(options)
    assert get_args(get_args(hints["Scale"])[0]) == SCALES
    assert get_args(options.Returns) == get_args(adapters.Outputs)


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (["run"], SCALES),
        (["dataset", "make"], VARIANTS),
        (["audit", "model"], get_args(adapters.Outputs)),
    ],
)
def test_help_shows_choices_as_choices(capsys, monkeypatch, words, choices):
    monkeypatch.setenv("COLUMNS", "140")
    assert main([*words, "--help"]) == 0
    assert "|".join(choices) in capsys.readouterr().out


def test_commands_come_in_the_order_in_which_people_need_them(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    names = [name for panel in PANELS.values() for name in panel]
    registered = {c.name or c.callback.__name__ for c in app.registered_commands}
    registered |= {g.typer_instance.info.name for g in app.registered_groups}
    assert registered == {*names, "release"}
    lines = [line.split()[1] for line in out.splitlines() if line.startswith("│ ")]
    assert [word for word in lines if word in names] == names


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audit", "modle"], "did you mean 'model'"),
        (["reprot"], "there is no command 'reprot' ('trueboundary --help' lists them)"),
        (["--nothing"], "no such option: --nothing"),
        (["run", "x", "--seed"], "'trueboundary run --help' shows what it takes"),
        (["theory", "fraction", "--dim", "9", "--error", "1", "--method", "cl"], "exact or clt"),
    ],
)
def test_every_mistake_is_one_sentence_of_one_style(capsys, arguments, says):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("trueboundary: ")
    assert says in said.err
    assert said.err.count("\n") == 1
