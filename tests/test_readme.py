"""Examples of the page of measuring run; what the README says of files and claims is true."""

import pathlib
import re
import shlex

import numpy as np
import pytest
import torch
import typer

from trueboundary.cli.commands import app
from trueboundary.datasets import make_dataset
from trueboundary.experiments import experiments, read_claims
from trueboundary.experiments.papers import PAPERS
from trueboundary.problems import fit_image_problem
from trueboundary.report.markdown import BEGIN, END
from trueboundary.runs import plan_files

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
MEASURING = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", MEASURING, flags=re.S)

# Sizes and efforts that only cost time: the example stays the one that is printed.
SMALLER = {
    "n_steps=3000": "n_steps=500",
    "n_steps=2000": "n_steps=50",
    "digits, n_points=1000": "digits, n_points=100",
    "n_points=100_000": "n_points=10_000",
    "problem, n_points=50": "problem, n_points=5",
    "problem, n_points=2)": "problem, n_points=1)",
    "tb.distances(mine, digits)": "tb.distances(mine, digits, n_points=1, "
    "attack=tb.NearestError(n_ways=1))",
    "digits, n_points=20": "digits, n_points=1",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a small data set of ten classes, in place of one that takes minutes."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 10
    x = np.zeros((200, 28, 28), np.float32)
    for image, label in zip(x, y, strict=True):  # a bright stripe, lower for each class
        image[2 * label + 2 : 2 * label + 8, 4:24] = 1.0
    x = x.reshape(200, -1) + 0.1 * rng.normal(size=(200, 784)).astype(np.float32)
    problem = fit_image_problem(
        x,
        y,
        image_shape=(1, 28, 28),
        n_components=1,
        n_factors=2,
        max_iter=5,
        noise_std=0.1,
        class_names=tuple("0123456789"),
    )
    folder = tmp_path_factory.mktemp("made")
    make_dataset(
        problem, folder / "digits", n_train=100, n_test=100, n_certified=20, n_accuracy=100
    )
    return folder


@pytest.mark.parametrize("block", BLOCKS)
def test_every_python_example_runs_by_itself(
    block: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    made = 'load_dataset("digits")' in block
    monkeypatch.chdir(request.getfixturevalue("digits") if made else tmp_path)
    for large, small in SMALLER.items():
        block = block.replace(large, small)
    with torch.random.fork_rng():  # a reader's own network draws from the global generator
        exec(compile(block, "measuring.md", "exec"), {})


def test_shortened_examples_are_still_on_the_page() -> None:
    assert len(BLOCKS) >= 5
    for large in SMALLER:
        assert large in MEASURING, large


def test_a_training_that_takes_long_says_how_far_it_is(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [block for block in BLOCKS if "checkpoint=" in block]
    monkeypatch.chdir(tmp_path)
    for large, small in SMALLER.items():
        block = block.replace(large, small)
    exec(compile(block, "measuring.md", "exec"), {})
    assert "step 500" in capsys.readouterr().out
    assert (tmp_path / "relu.ckpt").exists()


def test_files_that_the_readme_points_at_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", TEXT, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def commands(page: pathlib.Path) -> list[list[str]]:
    """Return the words of every command line of ours in a page."""
    found = []
    for block in re.findall(
        r"```(?:bash|console)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S
    ):
        for line in block.replace("\\\n", " ").splitlines():
            typed = re.match(r"(?:\S*\$ )?trueboundary (.*)", line)
            if typed:
                found.append(shlex.split(typed[1], comments=True))
    return found


PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
#: In the sentences of the README, too.
TOLD = [shlex.split(typed) for typed in re.findall(r"`trueboundary ([^`]+)`", TEXT)]
TYPED = [*(words for page in PAGES for words in commands(page)), *TOLD]


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_every_command_of_the_readme_and_the_guide_can_be_typed(words: list[str]) -> None:
    command = typer.main.get_command(app)
    names = []
    while words and words[0] in getattr(command, "commands", {}):
        names.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    assert names, "no such command"
    given = command.make_context(" ".join(names), list(words)).params  # parses, and runs nothing
    for name in given.get("ids") or ():
        assert name in experiments()
    if names == ["reproduce"]:
        groups = {experiment.paper for experiment in experiments().values()}
        assert given["group"] in {None, *groups}


def test_there_are_commands_to_type() -> None:
    assert len(commands(ROOT / "docs" / "measuring.md")) >= 10
    assert len(TYPED) >= 20
    assert len(TOLD) >= 5


def test_files_that_commands_of_the_readme_read_are_made_before() -> None:
    (bash,) = [block for block in re.findall(r"```bash\n(.*?)```", MEASURING, flags=re.S)
               if "trueboundary sweep" in block]  # fmt: skip
    made = re.findall(r"cat > (\S+) <<", bash)
    for file in re.findall(r"trueboundary sweep (\S+)", bash):
        assert file in made


def test_the_readmes_sweep_can_be_read(tmp_path: pathlib.Path) -> None:
    from trueboundary.cli.grid import read_grid

    content = re.findall(r"cat > grid.toml <<'END'\n(.*?)END\n", MEASURING, flags=re.S)
    (tmp_path / "grid.toml").write_text(content[0])
    assert len(read_grid(tmp_path / "grid.toml")) == 4


def test_the_count_under_the_table_is_that_of_all_claims() -> None:
    table = TEXT.partition(BEGIN)[2].partition(END)[0]
    assert len(re.findall(r"^\| [A-Z]", table, flags=re.M)) == 10
    (line,) = re.findall(r"Of all \d+ claims: ([^;.]*)", table)
    everything = {what: int(n) for n, what in re.findall(r"(\d+) ([a-z][^,;.]*)", line)}
    claims = [claim for paper in PAPERS for claim in read_claims(paper)]
    assert sum(everything.values()) == len(claims)
    shipped = plan_files(ROOT / "evidence")
    assert everything.get("not run", 0) == sum(c.experiment not in shipped for c in claims)


def test_no_row_of_the_readme_has_characters_that_the_report_does_not_write() -> None:
    table = TEXT.partition(BEGIN)[2].partition(END)[0]
    assert not set("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹∞") & set(table)
