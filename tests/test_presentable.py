"""Results print in two lines, and give plain values, a table and a look in a notebook."""

import collections.abc
import importlib
import inspect
import json
import math
import pkgutil
import sys
import tempfile
import types
import typing
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import trueboundary
from trueboundary.attacks import DeepFool, ManifoldAttack
from trueboundary.audits import audit, audit_attack, audit_training, compare, member, try_attack
from trueboundary.audits.training_methods import TrainingSettings
from trueboundary.certificates import (
    LinearCertificate,
    bracket,
    nearest_ellipsoid,
    project_quadric,
    prove_sphere_error_free,
    proven_error_bound,
)
from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork, choose_gamma
from trueboundary.datasets import export_images
from trueboundary.densities import UniformSphere
from trueboundary.measure import distances, error_rate, optimality
from trueboundary.presentable import ByClass, Presentable
from trueboundary.problems import ConcentricSpheres, OnlineStream, Problem, planar_problem
from trueboundary.rare_events import Splitting, estimate_error_rate
from trueboundary.runs import RunConfig, RunResult, Store, run_here
from trueboundary.training import TrainingConfig, train, train_eval_gap

SPHERES = ConcentricSpheres(dim=5)
PLANE = planar_problem("a")
NETWORK = QuadraticNetwork(5, 10, seed=0)
X, Y = SPHERES.sample(12, seed=0)


def never(x):
    return x[:, 0] * 0 - 1


def plane(x):
    return x[:, 0] - 0.5


def _card(slope=0.0):
    return audit(
        lambda x: x[:, 0] + slope * x[:, 1], PLANE, name="<mine>", n_points=2, n_error_points=50
    )


def _trained():
    settings = TrainingSettings(n_steps=2, batch_size=4)
    return audit_training(
        PLANE, ["standard"], seeds=1, settings=settings, n_points=2, n_error_points=50
    )


def _proof(radius):
    return prove_sphere_error_free(
        ReLUNetwork(3, 4, 1, seed=0).eval(), radius, label=0, max_cells=20
    )


def _gamma():
    x, y = PLANE.sample(40, seed=0)
    return choose_gamma(x, y, x, y, gammas=[0.1, 1.0])


def _images():
    problem = trueboundary.zoo.problem("mnist-0-6-symmetric")
    with tempfile.TemporaryDirectory() as folder:
        return export_images(problem, Path(folder) / "new", 2)


@dataclass(frozen=True)
class TinyTotal(RunConfig):
    n: int = 3

    def compute(self, context):
        return RunResult({"total": 6, "words": "one"}, {"part": np.arange(3), "more": np.eye(2)})


def _run():
    with tempfile.TemporaryDirectory() as folder:
        return run_here(Store(folder), TinyTotal(), TinyTotal().compute)


#: How each result is made, and how many rows its table has.
RESULTS = {
    "exact rate": (lambda: error_rate(NETWORK, SPHERES)[0], 1),
    "sampled rate": (lambda: error_rate(plane, SPHERES, n_points=100)[0], 1),
    "split rate": (
        lambda: error_rate(
            never, SPHERES, method="splitting", splitting=Splitting(n_particles=100)
        )[0],
        1,
    ),
    "distances": (lambda: distances(NETWORK, SPHERES, n_points=7)[1], 7),
    "no error": (lambda: distances(never, SPHERES, n_points=3)[0], 3),
    "optimality": (lambda: optimality(NETWORK, SPHERES, n_points=3)[0], 1),
    "attack": (lambda: DeepFool()(plane, X, Y), 12),
    "vain attack": (lambda: ManifoldAttack()(never, X, Y), 12),
    "summary": (lambda: ManifoldAttack()(never, X, Y).summary(), 1),
    "proof": (lambda: LinearCertificate()(LINEAR, X, Y), 12),
    "card": (_card, 4),
    "comparison": (lambda: compare(_card(), _card(3.0)), 4),
    "board": (lambda: audit_attack(DeepFool(), members=["linear"], n_points=2), 1),
    "trainings": (_trained, 1),
    "rates": (lambda: error_rate(NETWORK, SPHERES), 2),
    "brackets": (lambda: distances(NETWORK, SPHERES, n_points=3), 6),
    "ratios": (lambda: optimality(NETWORK, SPHERES, n_points=3), 2),
    "splitting": (
        lambda: estimate_error_rate(
            lambda x: x[:, 0] - 0.9,
            UniformSphere(5),
            0,
            splitting=Splitting(n_particles=100),
            seed=0,
        ),
        1,
    ),
    "mixture": (lambda: bracket(PLANE.bayes_classifier(), *PLANE.sample(5, seed=0)), 5),
    "ellipsoid": (lambda: nearest_ellipsoid(np.eye(3), [2.0, 0.5, 0.1]), 3),
    "projection": (lambda: project_quadric([-2.0, -2.0], [[-1.0, 0.0]], [0.75]), 1),
    "open sphere": (lambda: _proof(1.0), 1),
    "bound": (lambda: proven_error_bound(np.ones(50), 9, 0.5), 1),
    "gamma": (_gamma, 2),
    "modes": (lambda: train_eval_gap(NETWORK, X), 1),
    "training": (
        lambda: train(
            QuadraticNetwork(5, 6, seed=0),
            OnlineStream(SPHERES, batch_size=5, seed=0),
            TrainingConfig(n_steps=4, log_every=2),
        ),
        2,
    ),
    "written images": (_images, 1),
    "truth": (lambda: member("linear", 3).find_truth(), 3),
    "trial": (lambda: try_attack(DeepFool(), member("linear", 3)), 3),
    "run": (_run, 3),
}
#: Whose words are a table or a page by themselves.
LONG = ("card", "comparison", "board", "trainings", "rates", "brackets", "ratios")


LINEAR = torch.nn.utils.skip_init(torch.nn.Linear, 5, 1)
with torch.no_grad():
    LINEAR.weight.copy_(torch.tensor([[2.0, 0, 0, 0, 0]]))
    LINEAR.bias.fill_(-2.0)


@pytest.fixture(scope="module", params=RESULTS)
def made(request):
    make, n = RESULTS[request.param]
    return request.param, make(), n


def test_words_are_two_lines_at_most(made) -> None:
    name, result, _ = made
    lines = str(result).splitlines()
    assert all(lines) or name in LONG
    assert len(lines) <= 2 or name in LONG


def test_an_interpreter_shows_these_words(made) -> None:
    _, result, _ = made
    assert repr(result) == str(result)


def test_plain_values_are_json(made) -> None:
    _, result, _ = made
    values = result.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values


def test_columns_have_a_row_for_each_part(made) -> None:
    _, result, n = made
    assert {len(column) for column in result.columns().values()} == {n}


def test_a_frame_has_these_columns(made, monkeypatch) -> None:
    _, result, _ = made
    stub = types.ModuleType("pandas")
    stub.DataFrame = dict
    monkeypatch.setitem(sys.modules, "pandas", stub)
    assert result.to_frame() == {name: list(values) for name, values in result.columns().items()}


def test_without_pandas_one_sentence_says_so(made, monkeypatch) -> None:
    _, result, _ = made
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="to_frame needs pandas, which is not installed;"):
        result.to_frame()


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in ("br", "img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_a_notebook_gets_a_piece_of_html(made) -> None:
    _, result, _ = made
    text = result._repr_html_()
    reader = _Balance()
    reader.feed(text)
    assert reader.open == []
    assert "<mine>" not in text


#: What public functions return that is no result: things to go on working with.
TOOLS = {
    "Attack", "Card", "CelebA", "Claim", "Cluster", "DataLocation", "Dataset", "Entry",
    "Experiment", "Failure", "FoundAttack", "ImageData", "ImageFit", "ImageSource", "Interval",
    "InvariantMove", "Judgement", "LogErrors", "LogRatio", "Member", "MemberTruth", "Peer",
    "PeerAttack", "Plan", "RunConfig", "Shipment", "Subject", "TrialRun", "WorkerPool",
    "_ArtAttack",
}  # fmt: skip


def _named(annotation):
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _named(part)


def _returned():
    """Yield every class of ours that a public function returns, with the function's name."""
    public = {}
    for room in pkgutil.iter_modules(trueboundary.__path__):
        module = importlib.import_module(f"trueboundary.{room.name}")
        for name in getattr(module, "__all__", ()) if room.ispkg else ():
            found = public[f"{room.name}.{name}"] = getattr(module, name)
            inner = getattr(found, "__all__", ())
            public |= {f"{room.name}.{name}.{each}": getattr(found, each) for each in inner}
    # Some modules import the names of their annotations for type checkers alone.
    names = {name.rpartition(".")[2]: found for name, found in public.items()}
    names |= vars(typing) | vars(collections.abc) | {"np": np, "npt": np.typing, "Path": Path}
    for name, function in public.items():
        if inspect.isfunction(function):
            given = typing.get_type_hints(function, localns=names).get("return")
            for kind in _named(given):
                if inspect.isclass(kind) and kind.__module__.startswith("trueboundary"):
                    yield name, kind


def test_whatever_a_public_function_returns_is_a_result_or_a_tool() -> None:
    found = {f"{name} {kind.__name__}": kind for name, kind in _returned()}
    assert len(found) > 60
    unknown = {
        f"{name} returns {kind.__name__}"
        for name, kind in found.items()
        if not issubclass(kind, Presentable)
        and not issubclass(kind, (torch.nn.Module, torch.distributions.Distribution, Problem))
        and kind.__name__ not in TOOLS
    }
    assert not unknown
    assert {kind.__name__ for kind in found.values()} >= TOOLS


def test_every_kind_of_result_is_tried_here() -> None:
    made = {type(make()).__name__ for make, _ in RESULTS.values()}
    kinds = {kind.__name__ for _, kind in _returned() if issubclass(kind, Presentable)}
    assert kinds <= made | {"Presentable"}


def test_results_of_several_classes_are_a_tuple() -> None:
    rates = error_rate(NETWORK, SPHERES)
    assert isinstance(rates, tuple)
    inner, outer = rates
    assert (inner.label, outer.label) == (0, 1)
    assert rates.columns()["label"] == [0, 1]
    assert rates.to_dict() == {"classes": [inner.to_dict(), outer.to_dict()]}
    assert ByClass().columns() == {}


def test_failures_are_none_in_plain_values_and_infinite_in_the_table() -> None:
    found = distances(never, SPHERES, n_points=3)[0]
    assert found.to_dict()["upper"] == [None] * 3
    assert found.columns()["upper"].tolist() == [math.inf] * 3
    assert "no error was found from any of 3 points" in str(found)


def test_a_long_table_is_cut_off_in_a_notebook_alone() -> None:
    found = DeepFool()(plane, X, Y)
    assert "<p>7 more rows</p>" in found._repr_html_()
    assert found._repr_html_().count("<tr>") == 6
    assert len(found.columns()["distance"]) == 12


def test_an_attack_says_what_it_found_and_what_it_cost() -> None:
    first, second = str(DeepFool()(plane, X, Y)).splitlines()
    assert first.startswith("errors found from 12 of 12 points, mean distance 0.")
    assert "evaluations forward" in second


def test_a_proof_says_how_much_is_exact() -> None:
    x = torch.tensor([[0.0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0], [3.0, 0, 0, 0, 0]])
    found = LinearCertificate()(LINEAR, x, torch.tensor([0, 0, 0]))
    assert str(found) == (
        "3 points: no error nearer than 0, median 0.5\n  3 exact, 0 lower bounds, 1 at distance 0"
    )
