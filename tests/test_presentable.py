"""Results print in two lines, and give plain values, a table and a look in a notebook."""

import json
import math
import sys
import types
from html.parser import HTMLParser

import pytest
import torch

from trueboundary.attacks import DeepFool, ManifoldAttack
from trueboundary.audits import audit, audit_attack, audit_training, compare
from trueboundary.audits.training_methods import TrainingSettings
from trueboundary.certificates import LinearCertificate
from trueboundary.classifiers import QuadraticNetwork
from trueboundary.measure import distances, error_rate, optimality
from trueboundary.problems import ConcentricSpheres, planar_problem
from trueboundary.rare_events import Splitting

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
}
#: Whose words are a table or a page by themselves.
LONG = ("card", "comparison", "board", "trainings")


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
