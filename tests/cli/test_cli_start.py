"""What the command line loads before it says anything: little, so that it answers at once."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from trueboundary.cli.terminal_tables import experiments_table
from trueboundary.experiments import experiments

#: Packages that take longer to load than a list of experiments takes to show.
HEAVY = {"jinja2", "matplotlib", "scipy", "sklearn", "torch"}

SHOW_LOADED = (
    "import contextlib, io, sys\n"
    "from trueboundary.cli import main\n"
    "said = io.StringIO()\n"
    "with contextlib.redirect_stdout(said):\n"
    "    status = main(sys.argv[1:])\n"
    "assert status == 0 and len(said.getvalue()) > 500, (status, said.getvalue())\n"
    "print(*sys.modules)\n"
)


def loaded_by(*arguments):
    process = subprocess.run(
        [sys.executable, "-c", SHOW_LOADED, *arguments], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return set(process.stdout.split())


def test_a_list_of_all_experiments_with_their_costs_loads_no_large_package():
    loaded = loaded_by("list")
    assert "trueboundary.experiments.truth.truth_mixtures" in loaded, (
        "every experiment is looked at"
    )
    assert not HEAVY & loaded


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "--help"], ["run", "--help"], ["sweep", "--help"]]
)
def test_help_loads_no_experiment(arguments):
    loaded = loaded_by(*arguments)
    assert not (HEAVY | {"numpy", "trueboundary.experiments"}) & loaded


def test_no_id_is_broken_on_a_narrow_terminal():
    found = list(experiments().values())
    table, _ = experiments_table(found)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    for experiment in found:
        assert any(line.startswith(f"{experiment.id} ") for line in lines), experiment.id
