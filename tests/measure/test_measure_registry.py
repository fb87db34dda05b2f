"""A stranger's classifier brings its own certificate and exact rate, through one door."""

import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import trueboundary as tb
from trueboundary.certificates import Certificate, Certified, SVMCertificate
from trueboundary.classifiers import LinearSVM
from trueboundary.measure import (
    ExactRates,
    certified_distances,
    register_certificate,
    register_exact_rate,
    registered,
)

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-certificate.md"
SPHERES = tb.ConcentricSpheres(3)


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget afterwards what a test registers."""
    for name in ("_CERTIFICATES", "_EXACT_RATES"):
        monkeypatch.setattr(registered, name, dict(getattr(registered, name)))


class Half(nn.Module):
    """Calls class 1 what lies on the positive side of the first coordinate.

    By a function that no bound is known of, unless somebody registers it.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0].sinh()


class HalfCertificate(Certificate):
    def certify(self, subject: Any) -> Certified:
        size = subject.x[:, 0].abs()
        return Certified(size, torch.ones_like(size), subject.x * (subject.x.new_tensor([0, 1, 1])))


def half_rate(classifier: Half, problem: tb.ConcentricSpheres) -> ExactRates:
    return ExactRates((math.log(0.5),) * 2, "half of a sphere lies on either side")


def test_the_page_about_adding_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("ball")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks[0].splitlines()) <= 40
    for block in blocks:
        exec(block, module.__dict__)
    assert module.found.method == "BallCertificate below, NearestError above"
    assert module.found.exact.all()
    assert (module.rate.value, module.rate.method) == (0.0, "exact")


def test_what_is_registered_is_used_and_named() -> None:
    before, _ = tb.distances(Half(), SPHERES, n_points=3, domain=tb.Space())
    assert before.method.startswith("no certificate (no lower bound, because no relaxation of ")
    assert tb.error_rate(Half(), SPHERES, n_points=100)[0].method == "sampling"
    with pytest.raises(TypeError, match="no certificate for this Half: no lower bound, because"):
        certified_distances(Half(), torch.ones(1, 3), torch.tensor([1]))
    assert register_certificate(Half)(HalfCertificate) is HalfCertificate
    register_exact_rate(Half, tb.ConcentricSpheres)(half_rate)
    x = torch.ones(1, 3)
    assert certified_distances(Half(), x, torch.tensor([1])).distance.item() == 1.0
    for found in tb.distances(Half(), SPHERES, n_points=3, domain=tb.Space()):
        assert found.method == "HalfCertificate below, NearestError above"
        assert found.exact.all()
    wrapped = tb.as_classifier(Half())
    assert tb.distances(wrapped, SPHERES, n_points=3)[0].method.startswith("HalfCertificate")
    assert tb.error_rate(Half(), SPHERES)[0].reason == "half of a sphere lies on either side"
    assert "Half on ConcentricSpheres" in registered.known_exact_rates()


def test_a_subclass_gets_nothing_until_it_is_registered() -> None:
    class Other(Half):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0].sinh() + 0.5

    register_certificate(Half)(HalfCertificate)
    register_exact_rate(Half, tb.ConcentricSpheres)(half_rate)
    hooked = Half()
    hooked.register_forward_hook(lambda module, x, out: out + 0.5)
    for classifier, why in ((Other(), "of a subclass of Half"), (hooked, "has a forward hook")):
        assert why in tb.distances(classifier, SPHERES, n_points=3)[0].method
        rate, _ = tb.error_rate(classifier, SPHERES, n_points=100)
        assert rate.method == "sampling"
        assert why in rate.reason
    register_certificate(Other)(HalfCertificate)
    with pytest.raises(ArithmeticError, match="HalfCertificate excludes errors"):
        tb.distances(Other(), SPHERES, n_points=20)  # it does not fit, and an attack says so


def test_a_function_decides_for_each_classifier() -> None:
    @register_certificate(Half)
    def choose(classifier: Half) -> Certificate | str:
        return "it is too late" if classifier.training else HalfCertificate()

    assert "(it is too late)" not in tb.distances(Half().eval(), SPHERES, n_points=2)[0].method
    found, _ = tb.distances(Half(), SPHERES, n_points=2)
    assert found.method.startswith("HalfCertificate")  # measured in eval mode


def test_an_exact_rate_holds_on_subclasses_of_a_problem_and_any_classifier() -> None:
    class Turned(tb.ConcentricSpheres):
        pass

    register_exact_rate(object, Turned)(half_rate)
    assert tb.error_rate(lambda x: x[:, 0], Turned(3))[0].value == 0.5
    network = tb.QuadraticNetwork(3, 6, generator=torch.Generator().manual_seed(0))
    known = tb.error_rate(network, SPHERES)[0].value
    assert tb.error_rate(network, Turned(3))[0].value == known  # the classifier's own comes first


def test_what_is_registered_twice_or_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="LinearSVM is registered already; HalfCertificate cannot"):
        register_certificate(Half, LinearSVM)(HalfCertificate)
    assert Half not in registered._CERTIFICATES  # all or nothing
    with pytest.raises(ValueError, match="QuadraticNetwork on ConcentricSpheres is registered alr"):
        register_exact_rate(tb.QuadraticNetwork, tb.ConcentricSpheres)(half_rate)
    with pytest.raises(TypeError, match="expected classes to register"):
        register_certificate(Half())(HalfCertificate)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a Certificate class, got Half"):
        register_certificate(Half)(Half)
    assert isinstance(registered.certificate_for(LinearSVM(torch.ones(2), 0.0)), SVMCertificate)


@pytest.mark.parametrize(
    ("rates", "error", "sentence"),
    [
        (ExactRates((1.0, 0.0), "x"), ValueError, "none above 0, got \\(1.0, 0.0\\)"),
        (ExactRates((math.nan, -1.0), "x"), ValueError, "natural logarithms of 2 error rates"),
        (ExactRates((-1.0,), "x"), ValueError, "2 error rates"),  # type: ignore[arg-type]
        (ExactRates(("a", "b"), "x"), ValueError, "2 error rates"),  # type: ignore[arg-type]
        ((-1.0, -2.0), TypeError, "to return ExactRates, .* got tuple"),
        ({}, TypeError, "got dict"),
        (None, TypeError, "expected say_rates to return ExactRates"),
    ],
)
def test_no_rate_is_called_exact_that_cannot_be_one(
    rates: Any, error: type[Exception], sentence: str
) -> None:
    @register_exact_rate(Half, tb.ConcentricSpheres)
    def say_rates(classifier: Half, problem: tb.ConcentricSpheres) -> Any:
        return rates

    with pytest.raises(error, match=sentence):
        tb.error_rate(Half(), SPHERES)


class WithArguments(HalfCertificate):
    def __init__(self, k: int) -> None: ...


def test_what_cannot_be_made_or_names_no_class_is_refused_where_it_is_registered() -> None:
    with pytest.raises(TypeError, match=r"expected the classes of classifiers .* got none"):
        register_certificate()(HalfCertificate)
    with pytest.raises(TypeError, match="name your own class"):
        register_certificate(nn.Module)(HalfCertificate)
    with pytest.raises(TypeError, match="expected a class or a function to register, got None"):
        register_certificate(Half)(None)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'k'"):
        register_certificate(Half)(WithArguments)
    with pytest.raises(TypeError, match="expected classes to register"):
        register_exact_rate(3, 4)(half_rate)  # type: ignore[arg-type]
    assert Half not in registered._CERTIFICATES


class InPlace(HalfCertificate):
    def certify(self, subject: Any) -> Certified:
        found = super().certify(subject)
        subject.x.zero_()
        return found


class Returns(HalfCertificate):
    def certify(self, subject: Any) -> Any:
        return subject.x[:, 0].abs(), True


class Narrow(HalfCertificate):
    def certify(self, subject: Any) -> Any:
        return Certified(subject.x[:, 0].abs(), subject.x[:, 0] > 9, subject.x[:, :1])


def test_a_certificate_s_own_mistakes_are_told_and_never_reach_the_user_s_points() -> None:
    x = torch.tensor([[-1.0, 2.0, 3.0]], dtype=torch.float64)
    before, y = x.clone(), torch.tensor([0])
    assert InPlace()(Half(), x, y).distance.tolist() == [1.0]
    assert torch.equal(x, before)
    with pytest.raises(
        TypeError, match=r"expected Returns\.certify to return Certified, got tuple"
    ):
        Returns()(Half(), x, y)
    with pytest.raises(ArithmeticError, match=r"in shape \(1, 3\), got \(1, 1\)"):
        Narrow()(Half(), x, y)
