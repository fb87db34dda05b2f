"""The measure commands answer with the library's numbers, and refuse nonsense in one sentence."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import trueboundary as tb
from trueboundary.classifiers import to_arrays
from trueboundary.cli import main
from trueboundary.runs import RunConfig, RunResult


@dataclass(frozen=True)
class Trained(RunConfig):
    """A stand-in for a finished training."""

    dim: int = 6
    radius: float = 1.3


@dataclass(frozen=True)
class Elsewhere(RunConfig):
    """A run that knows no spheres."""

    name: str = "images"


def network() -> tb.QuadraticNetwork:
    return tb.QuadraticNetwork(6, 12, generator=torch.Generator().manual_seed(0))


def relu() -> tb.ReLUNetwork:
    return tb.ReLUNetwork(6, 12, 1, generator=torch.Generator().manual_seed(0)).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = {"final": to_arrays(network()), "step-00000010": to_arrays(relu())}
    return tb.Store(tmp_path).save(Trained(), RunResult({}, models=models), {}).path


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["measure", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["command"], found["schema"]) == (f"measure {words[0]}", "1.0")
    assert found["subject"] == words[1]
    return found["classes"]


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["measure", *words]) == 2
    return capsys.readouterr().err


def test_error_rates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = tb.error_rate(network(), tb.ConcentricSpheres(6))
    found = answer(capsys, "error", str(folder))
    assert [rate["method"] for rate in found] == ["exact", "exact"]
    assert [rate["log10"] for rate in found] == pytest.approx([rate.log10 for rate in truth])
    sampled = answer(
        capsys, "error", str(folder), "--method", "sampling", "--n-points", "5000", "--seed", "3"
    )
    for rate, exact in zip(sampled, truth, strict=True):
        assert rate["low"] <= exact.value <= rate["high"]
        assert rate["n_points"] == 5000
    assert main(["measure", "error", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[::2]] == ["class 0", "class 1"]
    assert all(line.startswith("  the error set is an ellipsoid's") for line in lines[1::2])


def test_another_network_of_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", "step-00000010", "--n-points", "1000")
    found = answer(capsys, "error", str(folder), *words)
    truth = tb.error_rate(relu(), tb.ConcentricSpheres(6), n_points=1000)
    assert [rate["n_errors"] for rate in found] == [rate.n_errors for rate in truth]


def test_distances(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "distance", str(folder), "--n-points", "7")
    truth = tb.distances(network(), tb.ConcentricSpheres(6), n_points=7)
    for row, brackets in zip(found, truth, strict=True):
        assert row["lower"] == pytest.approx(brackets.lower)
        assert row["n_exact"] == 7
        assert row["mean"] == pytest.approx(brackets.mean)
    assert main(["measure", "distance", str(folder), "--n-points", "3"]) == 0
    assert "EllipsoidCertificate below" in capsys.readouterr().out


def test_what_is_infinite_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    perfect = to_arrays(tb.QuadraticNetwork.perfect(6, 6))
    path = tb.Store(tmp_path).save(Trained(), RunResult({}, models={"final": perfect}), {}).path
    (inner, _) = answer(capsys, "error", str(path))
    assert (inner["value"], inner["log10"]) == (0.0, None)
    (inner, _) = answer(capsys, "distance", str(path), "--n-points", "2")
    assert inner["upper"] == [None, None]
    assert inner["mean"] is None


def test_nonsense_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(folder)
    assert "'trueboundary runs' lists them" in complaint(capsys, "error", str(tmp_path / "nowhere"))
    nowhere = str(tmp_path / "no" / "where")
    assert "there is nothing of that name" in complaint(capsys, "error", nowhere)
    assert "holds no run.json" in complaint(capsys, "error", str(folder.parent))
    assert "choose one, " in complaint(capsys, "error", str(tmp_path))
    assert "give the folder" in complaint(capsys, "error", str(folder / "run.json"))
    assert "did you mean 'final'" in complaint(capsys, "error", run, "--model", "finel")
    assert "there is no method 'guess' (exact, sampling or splitting)" in complaint(
        capsys, "error", run, "--method", "guess"
    )
    missing = complaint(capsys, "error", run, "--model", "step-00000010", "--method", "exact")
    assert "exact error rates are known for" in missing
    assert missing.count("\n") == 1
    assert main(["measure", "distance", run, "--n-points", "0"]) == 2


def test_runs_without_a_network_on_spheres(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tb.Store(tmp_path)
    empty = store.save(Trained(), RunResult({}), {}).path
    assert "holds no network" in complaint(capsys, "distance", str(empty))
    models = {"final": to_arrays(network())}
    other = store.save(Elsewhere(), RunResult({}, models=models), {}).path
    assert "not trained on concentric spheres" in complaint(capsys, "error", str(other))
    wide = store.save(Trained(dim=9), RunResult({}, models=models), {}).path
    assert "takes points of 6 dimensions" in complaint(capsys, "error", str(wide))
    assert "takes points of 6 dimensions" in complaint(capsys, "distance", str(wide))


def test_a_damaged_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "model-final.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "has changed since it was written" in complaint(capsys, "error", str(folder))


def test_a_run_is_named_by_its_number_or_the_beginning_of_its_name(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tb.Store(tmp_path).save(Elsewhere(), RunResult({}), {"started": "2026-01-02"}).path
    digest = folder.name.rpartition("-")[2]
    truth = answer(capsys, "error", str(folder))
    words = ("1", "Trai", folder.name[:-3], digest[:9], f"runs/{folder.name[:-2]}")
    for word in words:
        assert answer(capsys, "error", f"{tmp_path}/{word}") == truth, word
    assert other.name in complaint(capsys, "error", f"{tmp_path}/2")
    place = tmp_path / "here" / "results" / "quick"
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.chdir(tmp_path / "here")
    assert answer(capsys, "error", "Trained") == truth
    assert "no run has that number" in complaint(capsys, "error", "nothing-like-it")


def test_a_word_that_could_be_several_runs_is_refused_with_their_names(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"final": to_arrays(network())}
    other = tb.Store(tmp_path).save(Trained(radius=1.5), RunResult({}, models=models), {}).path
    said = complaint(capsys, "error", f"{tmp_path}/Trained-")
    assert "can be several runs" in said
    assert folder.name in said
    assert other.name in said


MINE = """
import torch
import trueboundary as tb

def network():
    return tb.QuadraticNetwork(6, 12, generator=torch.Generator().manual_seed(0))

def probability(x):
    return torch.sigmoid(network().margin(x))
"""


def test_a_model_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    spheres = ("--problem", "spheres-d6")
    rates = answer(capsys, "error", "mine.py:network", *spheres)
    truth = tb.error_rate(network(), tb.ConcentricSpheres(6))
    assert [rate["log10"] for rate in rates] == pytest.approx([rate.log10 for rate in truth])
    found = answer(capsys, "distance", "mine.py:network", *spheres, "--n-points", "4")
    exact = tb.distances(network(), tb.ConcentricSpheres(6), n_points=4)
    assert [row["mean"] for row in found] == pytest.approx([row.mean for row in exact])
    said = ("--outputs", "probability", "--method", "sampling", "--n-points", "2000")
    sampled = answer(capsys, "error", "mine.py:probability", *spheres, *said)
    plain = tb.error_rate(
        lambda x: network().margin(x), tb.ConcentricSpheres(6), method="sampling", n_points=2000
    )
    assert [rate["n_errors"] for rate in sampled] == [rate.n_errors for rate in plain]
    assert "Give --problem" in complaint(capsys, "error", "mine.py:network")
    assert "--model is for runs" in complaint(
        capsys, "error", "mine.py:network", *spheres, "--model", "step-1"
    )
    assert "missing" in complaint(capsys, "error", "mine.py:missing", *spheres)


STRANGE = """
import sys

def raises(x):
    print("about to")
    raise KeyError("lost\\nand found")

def ends(x):
    sys.exit(3)

def talks(x):
    print("hello")
    return x[:, 0] - 1.1
"""


@pytest.mark.parametrize("question", ["error", "distance"])
def test_whatever_a_classifier_does_the_answer_is_a_sentence_or_json_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    question: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("strange.py").write_text(STRANGE)
    words = ("--problem", "spheres-d6", "--n-points", "3")
    for name, why in (("raises", "KeyError ('lost"), ("ends", "SystemExit (3)")):
        assert main(["measure", question, f"strange.py:{name}", *words, "--json"]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert f"strange.py:{name} stops with {why}" in said.err.splitlines()[-1]
    assert len(answer(capsys, question, "strange.py:talks", *words)) == 2


def test_options_for_ones_own_model_are_refused_with_a_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(capsys, "error", str(folder), "--outputs", "probability")
    assert "are for a model of your own" in said
