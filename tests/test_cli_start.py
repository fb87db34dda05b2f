"""What the command line loads before it says anything: little, so that it answers at once."""

import subprocess
import sys

import pytest

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
    assert "trueboundary.experiments.truth_mixtures" in loaded, "every experiment is looked at"
    assert not HEAVY & loaded


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "--help"], ["run", "--help"], ["sweep", "--help"]]
)
def test_help_loads_no_experiment(arguments):
    loaded = loaded_by(*arguments)
    assert not (HEAVY | {"numpy", "trueboundary.experiments"}) & loaded
