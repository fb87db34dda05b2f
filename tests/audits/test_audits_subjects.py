"""Networks and problems by what a user types."""

import json
import os
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trueboundary.audits import load_problem, load_subject
from trueboundary.cli import main
from trueboundary.problems import ConcentricSpheres, ImageProblem

FILE = """
import torch
from helper import BIAS

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_parameter("weight", torch.nn.Parameter(torch.ones(3)))
    def forward(self, x):
        return x @ self.weight + BIAS

network = Net()
def make():
    return Net()
def margin(x):
    return x[:, 0]
class Needs(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
answer = 42
def makes_nothing():
    return None
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "helper.py").write_text("BIAS = -1.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize("name", ["network", "make", "Net"])
def test_networks_factories_and_classes_of_a_file(folder, name):
    subject = load_subject(f"mine.py:{name}")
    assert subject.classifier(torch.ones(2, 3)).tolist() == [2.0, 2.0]
    assert subject.notes == (f"mine.py:{name} ran code of its file.",)


def test_a_function_of_points_is_a_classifier(folder):
    assert load_subject("mine.py:margin").classifier(torch.ones(1, 3)).item() == 1.0


def test_weights_go_into_what_a_factory_makes(folder):
    save_file({"weight": torch.tensor([1.0, 2.0, 3.0])}, folder / "w.safetensors")
    found = load_subject("mine.py:make", weights=folder / "w.safetensors")
    assert found.classifier(torch.ones(1, 3)).item() == 5.0
    save_file({"width": torch.ones(3)}, folder / "other.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights"):
        load_subject("mine.py:make", weights=folder / "other.safetensors")
    torch.save({"weight": torch.ones(3)}, folder / "weights.pt")
    how = r"save_file\(network\.state_dict\(\), \"weights\.safetensors\"\) writes it"
    with pytest.raises(ValueError, match=how):
        load_subject("mine.py:make", weights=folder / "weights.pt")
    with pytest.raises(ValueError, match="no torch module"):
        load_subject("mine.py:margin", weights=folder / "w.safetensors")


def test_weights_of_a_network_go_into_what_as_classifier_made_of_it(folder):
    (folder / "wrapped.py").write_text(
        "import torch, trueboundary as tb\n"
        "with torch.random.fork_rng([]):\n"
        "    bare = torch.nn.Linear(3, 2)\n"
        "    half = tb.as_classifier(torch.nn.Linear(3, 2), preprocess=(0.0, 0.5))\n"
    )
    state = {"weight": torch.ones(2, 3), "bias": torch.tensor([0.0, 1.0])}
    save_file(state, "bare.safetensors")
    save_file({f"function.{name}": part for name, part in state.items()}, "whole.safetensors")
    for file in ("bare.safetensors", "whole.safetensors"):
        found = load_subject("wrapped.py:half", weights=file).classifier
        assert found(torch.ones(1, 3)).tolist() == [[-0.5, 0.5]]
        assert found.function(torch.ones(1, 3)).tolist() == [[3.0, 4.0]]
    assert load_subject("wrapped.py:bare", weights="bare.safetensors")
    with pytest.raises(ValueError, match=r"preprocessing stand in the code alone; name that"):
        load_subject("wrapped.py:bare", weights="whole.safetensors")
    with pytest.raises(ValueError, match=r"there is no file gone\.safetensors"):
        load_subject("wrapped.py:bare", weights="gone.safetensors")


IMAGES = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.conv = torch.nn.BatchNorm2d(1), torch.nn.Conv2d(1, 2, 28)
    def forward(self, x):
        return self.conv(self.norm(x)).flatten(1)
with torch.random.fork_rng([]):
    network = Net()
    flat = torch.nn.Linear(784, 2)
    narrow = torch.nn.Conv2d(3, 2, 28)
"""


def test_a_network_of_images_gets_images_and_one_of_vectors_vectors(folder):
    (folder / "images.py").write_text(IMAGES)
    problem = load_problem("mnist-0-6-symmetric")
    subject = load_subject("images.py:network", problem=problem)
    assert subject.notes[-1] == (
        "images.py:network takes images, and gets the points as 1 x 28 x 28."
    )
    network = subject.classifier[1]
    assert network.norm.num_batches_tracked == 0  # it was only looked at
    rows = torch.linspace(0, 1, 4 * 784).view(4, 784)
    assert torch.equal(network(rows.view(4, 1, 28, 28)), subject.classifier(rows))
    assert load_subject("images.py:flat", problem=problem).notes == (
        "images.py:flat ran code of its file.",
    )
    # What takes neither says so where it is audited; and without a problem there are no images.
    assert load_subject("images.py:narrow", problem=problem).classifier.in_channels == 3
    assert load_subject("images.py:network").classifier.conv.in_channels == 1


def test_stored_programs(folder):
    linear = nn.Linear(3, 1, device="meta").to_empty(device="cpu").eval()
    nn.init.ones_(linear.weight)
    nn.init.zeros_(linear.bias)
    torch.export.save(torch.export.export(linear, (torch.ones(4, 3),)), "linear.pt2")
    subject = load_subject("linear.pt2")
    assert subject.classifier(torch.ones(4, 3))[0].item() == 3.0
    assert subject.notes == ("Loading linear.pt2 ran the code it holds.",)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("mine.py:nothing", "has no 'nothing'"),
        ("mine.py:answer", "to be a classifier or a factory, got int"),
        ("mine.py:Needs", "needs arguments"),
        ("mine.py:makes_nothing", "returned a NoneType"),
        ("there.py:net", "there is no file there.py"),
        ("broken.py:net", "stops with NameError"),
        ("no.such.module:net", "there is no module 'no.such.module'"),
        ("a b:net", "expected module:name"),
        ("net.pkl", "is a pickle"),
        ("net.pt", "there is no file net.pt"),
        ("text.pt", "holds no TorchScript"),
        ("mnist-0-6-symmetric-cmm", "no classifier 'mnist-0-6-symmetric-cmm'"),
        ("mnist-0-6-symmetric", "no classifier"),
        ("mine.py", "say which object of mine.py is meant, as in mine.py:network"),
        ("text.txt", "text.txt is of no kind that is read; expected module:name"),
        (".", ". is a folder; expected module:name"),
    ],
)
def test_what_is_no_classifier_is_said_in_a_sentence(folder, what, says):
    (folder / "broken.py").write_text("net = undefined\n")
    (folder / "text.pt").write_text("not a program")
    (folder / "text.txt").write_text("words")
    with pytest.raises(ValueError, match="(?s)" + says.replace(".", r"\.")) as raised:
        load_subject(what)
    assert "\n" not in str(raised.value)


def test_pipes_and_damaged_programs_are_refused_in_a_sentence(folder, caplog):
    os.mkfifo("pipe.safetensors")
    with pytest.raises(ValueError, match=r"does not hold the weights .* a pipe"):
        load_subject("mine.py:make", weights=folder / "pipe.safetensors")
    (folder / "damaged.pt2").write_bytes(b"no program")
    with pytest.raises(ValueError, match=r"damaged\.pt2 holds no .* program \(it is no archive"):
        load_subject("damaged.pt2")
    assert not caplog.records


def test_problems_by_name(tmp_path):
    assert load_problem("spheres").dim == 500
    assert load_problem("spheres-d7") == ConcentricSpheres(7)
    assert isinstance(load_problem("mnist-0-6-symmetric"), ImageProblem)
    assert load_problem("digits").n_classes == 10
    given = ConcentricSpheres(3)
    assert load_problem(given) is given
    with pytest.raises(ValueError, match="no problem 'mnist-0-7'"):
        load_problem("mnist-0-7")
    with pytest.raises(FileNotFoundError, match="holds no data set"):
        load_problem(tmp_path)


def test_the_command_shows_a_card_and_writes_a_page(folder, capsys):
    options = ["--problem", "spheres-d3", "--n-points", "4"]
    assert main(["audit", "model", "mine.py:margin", *options, "--html", "c.html"]) == 0
    shown = capsys.readouterr()
    assert "Verdict: undecided. It is not accurate" in shown.out  # half of each sphere is wrong
    assert "ran code of its file" in shown.err
    assert (folder / "c.html").read_text().startswith("<!doctype html>")
    assert max(map(len, shown.out.splitlines())) <= 80
    assert main(["audit", "model", "mine.py:margin", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["kind"] == "undecided"
    assert main(["audit", "compare", "mine.py:margin", "mine.py:network", *options]) == 0
    assert "from 8 points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mine.py:nothing", "--problem", "spheres-d3"), "has no 'nothing'"),
        (("mine.py:margin", "--problem", "sphere"), "no problem 'sphere'"),
        (("mine.py:margin", "--problem", "digits", "--n-points", "2"), "2 classes and the problem"),
        (("mine.py:margin", "--problem", "spheres-d3", "--html", "no/c.html"), "no folder"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(folder, capsys, arguments, says):
    assert main(["audit", "model", *arguments]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
