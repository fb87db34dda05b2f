"""What is typed: paths with ``~``, names of groups, devices that are not there, text files."""

import codecs
import os
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

import trueboundary as tb
from trueboundary.cli import main
from trueboundary.cli.commands import app
from trueboundary.cli.errors import UserError, describe_failures
from trueboundary.cli.grid import read_grid
from trueboundary.cli.paths import path
from trueboundary.devices import check_device
from trueboundary.runs import Failure
from trueboundary.text_files import read_text

HELPERS = Path(__file__).parents[1] / "helpers"
GRID = '[[sweep]]\nexperiment = "sums"\nscale = "smoke"\n'


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(HELPERS)
    from register import register

    register(monkeypatch)
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")


def test_a_tilde_is_the_home_folder_in_every_option_and_argument(capsys, monkeypatch, tmp_path):
    home = tmp_path / "home"
    (home / "faces").mkdir()
    (home / "grid.toml").write_text(GRID)
    for variable in ("TRUEBOUNDARY_CELEBA", "TRUEBOUNDARY_CIFAR10"):
        monkeypatch.setenv(variable, "")
    assert main(["run", "sums", "--scale=smoke", "--out=~/out", "--celeba=~/faces"]) == 0
    assert os.environ["TRUEBOUNDARY_CELEBA"] == str(home / "faces")
    assert main(["run", "sums", "--scale=smoke", "--out=~/out", "--cifar10=~/faces"]) == 0
    assert (home / "out" / "report" / "index.html").exists()
    (home / "R.md").write_text("<!-- claims: begin -->\n<!-- claims: end -->\n")
    assert main(["report", "~/out", "--readme=~/R.md"]) == 0
    assert "| what was found |" in (home / "R.md").read_text()
    assert main(["sweep", "~/grid.toml", "--out=~/sweep"]) == 0
    assert (home / "sweep" / "runs").is_dir()
    capsys.readouterr()
    for command in (
        ["measure", "error", "~/out"],
        ["measure", "distance", "~/out"],
        ["dataset", "load", "~/out"],
        ["dataset", "make", "~/nothing", "--out=~/new"],
        ["dataset", "make", "mnist", "--out=~/out"],
        ["dataset", "make", "celeba", "--celeba=~/none", "--attribute=Male", "--out=~/new"],
        ["sweep", "~/grid.toml", "--cluster=~/slurm.yaml"],
    ):
        assert main(command) == 2, command
        assert str(home) in capsys.readouterr().err.replace("\n", ""), command
    assert not list(Path.cwd().glob("~*"))


def test_every_path_of_every_command_is_read_as_it_is_typed():
    tables, seen = [app], 0
    while tables:
        table = tables.pop()
        tables += [group.typer_instance for group in table.registered_groups]
        for command in table.registered_commands:
            hints = get_type_hints(command.callback, include_extras=True)
            for name, hint in hints.items():
                kind, *about = get_args(hint) or (hint,)
                if kind is Path or Path in get_args(kind):
                    assert about[0].parser is path, f"{command.callback.__name__}: {name}"
                    seen += 1
    assert seen >= 12


@pytest.mark.parametrize("typed", ["", " ", "~nobody-of-this-name/out"])
def test_a_path_that_is_empty_or_of_nobody_is_refused(capsys, typed):
    assert main(["run", "sums", "--scale", "smoke", f"--out={typed}"]) == 2
    assert re.search("path is empty|no home folder", capsys.readouterr().err)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("name", ["CELEBA", "CIFAR10", "MNIST", "CACHE"])
def test_a_variable_that_holds_no_path_is_named(capsys, monkeypatch, name):
    for other in ("CELEBA", "CIFAR10", "MNIST", "CACHE"):
        monkeypatch.delenv(f"TRUEBOUNDARY_{other}", raising=False)
    variable = f"TRUEBOUNDARY_{name}"
    monkeypatch.setenv(variable, "~nobody-of-this-name/x")
    images = "mnist" if name == "CACHE" else name.lower()
    words = ["--attribute", "Male"] if images == "celeba" else ["--classes", "0", "6"]
    assert main(["dataset", "make", images, *words, "--out", "new"]) == 2
    assert f"{variable}: there is no home folder ~nobody" in capsys.readouterr().err
    assert main(["doctor"]) == 0
    assert f"{variable}: there is no home folder ~nobody" in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["", " ", "~nobody-of-this-name/photos"])
def test_images_at_no_path_are_refused(capsys, typed):
    assert main(["dataset", "make", typed, "--out", "new"]) == 2
    assert re.search("path is empty|no home folder", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "all"], "'trueboundary reproduce' runs all"),
        (["run", "spheres"], "'trueboundary reproduce spheres' runs all of it"),
        (["run", "sums", "Spheres"], "'trueboundary reproduce spheres' runs all of it"),
        (["reproduce", "sums"], "'trueboundary run sums' runs it"),
        (["reproduce", "all"], "without a group runs them all"),
        (["reproduce", "smus"], "did you mean 'sums'"),
        (["run", "sums", "--set", "n_terms=5", "--set", "n_terms=6"], "n_terms is given twice"),
        (["run", "sums", "--set", "powers=2", "--set", " powers =3"], "powers is given twice"),
        (
            ["run", "sums", "--seed", "99999999999999999999"],
            "--seed must be a whole number from 0 to 9223372036854775807, got '9999999",
        ),
        (["run", "sums", "--seed", "-1"], "--seed must be a whole number from 0 to "),
        (["run", "sums", "--seed", "two"], "got 'two'"),
        (["run", "sums", "--workers", "0"], "--workers must be at least 1, got '0'"),
        (["audit", "attack", "DDN", "--points", "10001"], "--points must be at most 10000, got"),
        (
            ["theory", "cap", "--dim", "1e3", "--measure", ".1"],
            "--dim must be a whole number, got '1e3'",
        ),
        (
            ["theory", "cap", "--dim", "9", "--measure", "half"],
            "--measure must be a number, got 'half'",
        ),
        (
            ["audit", "model", "a.py:b", "--problem", "spheres", "--outputs", "logits"],
            "--outputs must be logit, probability or log_probability, got 'logits'; did you",
        ),
        (
            ["dataset", "make", "mnist", "--celeba", "faces", "--out", "new"],
            "--celeba is for CelebA: say 'dataset make celeba', not 'mnist'",
        ),
        (["run", "sums", "--seed", "1", "--seed=2"], "--seed is given twice, as '1' and '2'"),
        (["run", "sums", "--out", "a", "--out", "b"], "--out is given twice, as 'a' and 'b'"),
        (
            ["dataset", "make", "photos", "--classes", "a", "b", "--classes", "c", "d"],
            "--classes is given twice; give all names at once",
        ),
    ],
)
def test_mistakes_are_answered_with_what_to_type(capsys, arguments, says):
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert not list(Path.cwd().iterdir())


def test_a_word_that_nothing_is_like_gets_no_wrong_hint(capsys):
    for arguments in (["run", "xyzzy"], ["reproduce", "xyzzy"], ["run", "sums", "--scale", "full"]):
        assert main(arguments) == 2
        assert "did you mean" not in capsys.readouterr().err


DEVICES = ["cuda:99", "tpu", "", "CUDA", "cuda:-1", "cuda:9999999999999999999", "meta"]
DEVICES += [] if torch.cuda.is_available() else ["cuda"]
SPHERES = tb.ConcentricSpheres(5)


def network():
    return tb.ReLUNetwork(5, 8, 1, generator=torch.Generator().manual_seed(0)).eval()


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_that_is_not_there_is_said_in_one_sentence(capsys, device):
    Path("grid.toml").write_text(GRID)
    for command in (["run", "sums"], ["reproduce", "spheres"], ["sweep", "grid.toml"]):
        assert main([*command, "--device", device]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert repr(device) in said
    for ask in (
        lambda: tb.error_rate(network(), SPHERES, n_points=10, device=device),
        lambda: tb.distances(network(), SPHERES, n_points=2, device=device),
        lambda: tb.optimality(network(), SPHERES, n_points=2, device=device),
        lambda: tb.OnlineStream(SPHERES, 5, seed=0, device=device),
        lambda: SPHERES.block(0, seed=0, device=device),
        lambda: SPHERES.sample(2, generator=torch.Generator(), device=device),
        lambda: check_device(device),
    ):
        with pytest.raises(ValueError, match=r"no device|not there") as caught:
            ask()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 150


def test_a_device_for_a_cluster_is_known_by_its_name_alone(capsys):
    Path("grid.toml").write_text(GRID)
    assert main(["sweep", "grid.toml", "--cluster", "tcp://localhost:1", "--device", "tpu"]) == 2
    assert "there is no device 'tpu'" in capsys.readouterr().err


def test_a_failure_with_many_lines_is_told_in_its_first(tmp_path):
    from fake_experiment import Sum

    message = "AcceleratorError: CUDA error: out of memory\nCUDA kernel errors might be\nreported"
    (line, _) = describe_failures([Failure(Sum(1, 1.0, "fail", 0), message, "T")], tmp_path)
    assert line.endswith("failed: AcceleratorError: CUDA error: out of memory")


WRITTEN = {
    "plain": GRID.encode(),
    "byte-order mark": codecs.BOM_UTF8 + GRID.encode(),
    "Windows": codecs.BOM_UTF8 + GRID.replace("\n", "\r\n").encode(),
    "old Mac": GRID.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
def test_a_sweep_is_read_as_any_editor_writes_it(content):
    Path("grid.toml").write_bytes(content)
    (point,) = read_grid(Path("grid.toml"))
    assert (point.experiment.id, point.scale) == ("sums", "smoke")


REFUSED = {
    "UTF-16": (GRID.encode("utf-16"), "is written in UTF-16; save it as UTF-8"),
    "UTF-16 without a mark": (GRID.encode("utf-16-le"), "holds zero bytes"),
    "UTF-32": (GRID.encode("utf-32"), "is written in UTF-32"),
    "Latin-1": (f"{GRID}# größe".encode("latin-1"), r"is not UTF-8 \(line 4\)"),
    "numbers": (b"sweep = [1, 2]", r"must hold tables \[\[sweep\]\]"),
    "words": (b"sweep = ['x']", r"must hold tables \[\[sweep\]\]"),
    "lists": (b"sweep = [[1]]", r"must hold tables \[\[sweep\]\]"),
    "a table and a number": (b"sweep = [{experiment = 'sums'}, 3]", r"must hold tables"),
    "one number": (b"sweep = 1", r"must hold tables \[\[sweep\]\]"),
    "a date": (f"{GRID}settings.n_terms = 2020-01-01".encode(), "sweep 1: n_terms is a number"),
    "infinity": (f"{GRID}settings.n_terms = inf".encode(), "sweep 1: n_terms is a whole number"),
    "a deep list": (f"{GRID}settings.powers = [[[1]]]".encode(), "sweep 1: powers is a number"),
    "a large seed": (f"{GRID}seeds = [{2**63}]".encode(), "sweep 1: seeds is a list"),
    "no seed": (f"{GRID}seeds = [true]".encode(), "sweep 1: seeds is a list"),
    "a group": (GRID.replace("sums", "spheres").encode(), "reproduce spheres"),
    "brackets": (b"sweep = " + b"[" * 9999, "cannot be read"),
}


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_a_sweep_that_cannot_be_read_is_one_sentence_with_its_name(capsys, content, says):
    Path("grid.toml").write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_grid(Path("grid.toml"))
    assert main(["sweep", "grid.toml", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("trueboundary: grid.toml")
    assert said.count("\n") == 1


def test_settings_that_an_experiment_refuses_are_told_with_the_files_name(capsys):
    Path("grid.toml").write_text(f"{GRID}settings.n_terms = 0")
    assert main(["sweep", "grid.toml"]) == 2
    assert "grid.toml: sums cannot run like that" in capsys.readouterr().err


def test_folders_pipes_and_devices_are_no_text_files(tmp_path):
    os.mkfifo("pipe")
    for name, is_a in ((".", "a folder"), ("pipe", "a pipe"), ("/dev/zero", "a pipe or a device")):
        with pytest.raises(ValueError, match=f"should be a file, got {is_a}"):
            read_text(Path(name))
    Path("large").write_bytes(b" " * (2**24 + 1))
    with pytest.raises(ValueError, match="larger than the 16,777,216 bytes"):
        read_text(Path("large"))
    with pytest.raises(FileNotFoundError):
        read_text(Path("nowhere"))


@pytest.mark.parametrize(
    ("content", "says"),
    [(codecs.BOM_UTF8 + b"jobqueue: 3", "section 'jobqueue'"), ("a: 1".encode("utf-16"), "UTF-16")],
)
def test_a_clusters_file_is_read_as_any_editor_writes_it(capsys, content, says):
    pytest.importorskip("distributed")
    pytest.importorskip("yaml")
    Path("grid.toml").write_text(GRID)
    Path("slurm.yaml").write_bytes(content)
    assert main(["sweep", "grid.toml", "--cluster", "slurm.yaml"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
