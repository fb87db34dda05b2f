"""Audits that are stopped, that go on, and that keep within time and memory."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import trueboundary as tb
from trueboundary.audits import audit, audit_models, batch_sizes
from trueboundary.audits.batch_sizes import bytes_per_point, most_points
from trueboundary.audits.card_page import page
from trueboundary.densities import LowRankGaussian
from trueboundary.problems import ImageProblem, planar_problem

PROBLEM = planar_problem("a")
OPTIONS = {"n_points": 8, "n_error_points": 200}


class Net(nn.Module):
    """A tilted plane that counts its calls, and may stop at one of them."""

    def __init__(self, slope=3.0, stop_at=math.inf, error=KeyError):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.calls, self.largest = itertools.count(), 0
        self.n, self.stop_at, self.error = 0, stop_at, error

    def forward(self, x):
        self.n += 1
        self.largest = max(self.largest, len(x))
        if self.n > self.stop_at:
            raise self.error("lost")
        return x[:, 0] + self.slope * x[:, 1]


def same(one, two):
    first, second = one.to_dict(), two.to_dict()
    for values in (first, second):
        values["settings"]["seconds"] = None
    assert first == second
    assert one.pictures.keys() == two.pictures.keys()


def test_what_is_stored_is_there_at_once(tmp_path):
    plain = audit(Net(), PROBLEM, **OPTIONS)
    first = audit(Net(), PROBLEM, store=tmp_path, **OPTIONS)
    same(plain, first)
    again = Net()
    same(first, audit(again, PROBLEM, store=tmp_path, **OPTIONS))
    few = again.n
    fresh = Net()
    audit(fresh, PROBLEM, **OPTIONS)
    assert few < 30 < fresh.n / 2
    # Another slope, seed or attack is another audit.
    for model, options in (
        (Net(2.0), {}),
        (Net(), {"seed": 1}),
        (Net(), {"attack": tb.attacks.NearestError(n_slides=31)}),
    ):
        before = len(list((tmp_path / "runs").iterdir()))
        audit(model, PROBLEM, store=tmp_path, **OPTIONS, **options)
        assert len(list((tmp_path / "runs").iterdir())) > before
        assert model.n > few


def test_a_stopped_audit_goes_on_where_it_was(tmp_path):
    whole = audit(Net(), PROBLEM, **OPTIONS)
    needed = Net()
    audit(needed, PROBLEM, store=tmp_path / "whole", **OPTIONS)
    stopping = Net(stop_at=needed.n * 2 // 3, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        audit(stopping, PROBLEM, store=tmp_path / "stopped", **OPTIONS)
    kept = sorted(path.name for path in (tmp_path / "stopped" / "runs").iterdir())
    assert len(kept) >= 3  # the rates, and the first group of both classes at least
    goes_on = Net()
    same(whole, audit(goes_on, PROBLEM, store=tmp_path / "stopped", **OPTIONS))
    assert goes_on.n < needed.n * 2 / 3


def test_a_classifier_that_stops_half_way_leaves_what_was_measured():
    needed = Net()
    audit(needed, PROBLEM, **OPTIONS)
    card = audit(Net(stop_at=needed.n * 2 // 3), PROBLEM, **OPTIONS)
    assert card.stopped == "KeyError: 'lost'"
    assert 0 < card.settings["n_points"] < 8
    assert "stopped with KeyError: 'lost'; this is what was measured before" in str(card)
    assert card.to_dict()["stopped"] == card.stopped
    # At once after the first look there is nothing but that.
    card = audit(Net(stop_at=25), PROBLEM, **OPTIONS)
    assert card.stopped
    assert card.settings["n_points"] == 0
    assert card.verdict.text == "undecided. No distance was measured."
    json.dumps(card.to_dict(), allow_nan=False)
    assert "No distance was measured" in page(card)
    with pytest.raises(ValueError, match=r"Net stops with KeyError at points of shape \(2,\) each"):
        audit(Net(stop_at=0), PROBLEM)


def test_batches_keep_to_the_memory(monkeypatch):
    # A layer of 100,000 numbers a point: with float32 and ReLU twice as many are saved.
    layers = [nn.Linear(2, 100_000, device="meta"), nn.ReLU(), nn.Linear(100_000, 1, device="meta")]
    wide = nn.Sequential(*layers).to_empty(device="cpu")
    for parameter in wide.parameters():
        nn.init.ones_(parameter)
    x = torch.zeros(2, 2)
    assert 4e5 <= bytes_per_point(wide, x) <= 9e5
    monkeypatch.setattr(batch_sizes, "MEMORY", 2**23)
    most = most_points(wide, x)
    assert 3 < most < 12
    assert most_points(wide, x, n_ways=9) <= max(1, most // 4)


def test_an_audit_asks_for_no_more_points_than_fit(monkeypatch):
    net = Net()
    monkeypatch.setattr(audit_models, "most_points", lambda *_, **__: 7)
    card = audit(net, PROBLEM, n_points=10, n_error_points=100)
    assert card.settings["n_points"] == 10
    # Looking at the outputs takes more: those of a few points of all classes, without gradients.
    assert net.largest <= 256
    sizes = []

    def seen(x):
        sizes.append(len(x))
        return x[:, 0]

    tb.error_rate(seen, PROBLEM, n_points=1000, batch_size=100, method="sampling")
    assert sizes.count(100) == 20
    assert max(size for size in sizes if size != 256) <= 100
    whole = tb.error_rate(lambda x: x[:, 0], PROBLEM, n_points=1000, method="sampling")
    parts = tb.error_rate(
        lambda x: x[:, 0], PROBLEM, n_points=1000, batch_size=7, method="sampling"
    )
    assert [rate.n_errors for rate in whole] == [rate.n_errors for rate in parts]


def test_first_numbers_come_first():
    told, steps = [], []
    audit(Net(), PROBLEM, tell=told.append, progress=lambda *step: steps.append(step), **OPTIONS)
    assert told[0].startswith("error rates of the classes: 0: ")
    assert "medians of 1 point of each class" in told[1]
    assert "medians of 4 points of each class" in told[2]
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_budget_holds_for_all_of_it(monkeypatch):
    clock = itertools.count(0.0, 0.25)  # every look takes a quarter of a second
    monkeypatch.setattr(audit_models.time, "monotonic", lambda: next(clock))
    card = audit(Net(), PROBLEM, n_points=200, n_error_points=100, budget=8.0)
    assert 1 <= card.settings["n_points"] < 200
    assert card.settings["seconds"] <= 8.0 + 1.0


def image_problem(**report):
    densities = (LowRankGaussian(torch.full((4,), m), torch.zeros(4, 0), 0.01) for m in (0.0, 1.0))
    return ImageProblem(*densities, image_shape=(1, 2, 2), report=report)


def test_pictures_of_people_do_not_leave(tmp_path):
    model = lambda x: x.sum(1) - 2  # noqa: E731
    options = {"n_points": 4, "n_error_points": 50}
    assert audit(model, image_problem(), **options).pictures
    card = audit(model, image_problem(private=True), store=tmp_path, **options)
    assert not card.pictures
    assert page(card).count("<img") == 1
    for file in tmp_path.rglob("arrays.safetensors"):
        assert b"nearest" not in file.read_bytes()
    assert audit(model, image_problem(private=True), private=False, **options).pictures
    np.testing.assert_equal(card.joined("upper").shape, (8,))


def test_other_norms_are_refused():
    with pytest.raises(ValueError, match="known in L2 alone"):
        audit(Net(), PROBLEM, norm="linf")
    audit(Net(), PROBLEM, norm="L2", n_points=2, n_error_points=50)
