"""The house has an order: what every room may import, found in the code itself."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import trueboundary
from trueboundary.experiments import experiments
from trueboundary.experiments.papers import PAPERS, modules

PACKAGE = Path(trueboundary.__file__).parent

#: Rooms from the ground up; a room may import those before it, and what stands on the ground.
ROOMS = (
    "theory",
    "densities",
    "data",
    "classifiers",
    "problems",
    "attacks",
    "peers",
    "certificates",
    "rare_events",
    "training",
    "measure",
    "testing",
    "runs",
    "datasets",
    "zoo",
    "audits",
    "experiments",
    "report",
    "release",
    "cli",
)


def room(module: str) -> str:
    """Return the room of a module's dotted name, empty for what stands on the ground."""
    part = module.split(".")[1] if "." in module else ""
    return part if part in ROOMS else ""


def imports(file: Path) -> list[tuple[str, bool]]:
    """Return the package's modules that a file imports, and whether for its types alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            # A name may be a module of its package, or something in it.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found += [(n, id(node) in for_types) for n in names if n.startswith("trueboundary")]
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = {file: ".".join(("trueboundary", *file.relative_to(PACKAGE).with_suffix("").parts))
         for file in FILES}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_room_imports_what_stands_above_it(file: Path) -> None:
    if file.name in ("__init__.py", "__main__.py") and file.parent == PACKAGE:
        pytest.skip("the package itself hands out names of all rooms")
    own = room(NAMES[file])
    level = ROOMS.index(own) if own else -1
    above = {
        name
        for name, for_types in imports(file)
        if room(name) and ROOMS.index(room(name)) > level and not for_types
    }
    assert not above


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_room_opens_the_drawers_of_another(file: Path) -> None:
    own = room(NAMES[file])
    foreign = {
        name
        for name, _ in imports(file)
        if room(name) not in ("", own)
        and any(part.startswith("_") and part != "__init__" for part in name.split(".")[2:])
    }
    assert not foreign


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_library_prints_nothing(file: Path) -> None:
    if room(NAMES[file]) == "cli":
        pytest.skip("the command line prints")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_no_two_files_have_one_name() -> None:
    names = Counter(file.name for file in FILES)
    shared = {name for name, n in names.items() if n > 1}
    assert shared <= {"__init__.py", "base.py"}


def test_an_experiment_is_found_by_its_name() -> None:
    for paper in PAPERS:
        files = {file.stem for file in (PACKAGE / "experiments" / paper).glob(f"{paper}_*.py")}
        assert files == {name.rsplit(".", 1)[1] for name in modules(paper)}
    for experiment in experiments().values():
        name = experiment.id.replace("-", "_")
        assert (PACKAGE / "experiments" / experiment.paper / f"{name}.py").is_file()
