"""A function of somebody else as an attack: nothing of what it says is believed."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trueboundary.attacks import (
    AttackResult,
    AttackStatus,
    Box,
    FunctionAttack,
    ModelUnderAttack,
    NearestError,
    Space,
    Sphere,
)
from trueboundary.classifiers import as_classifier

DIM = 6


def plane(points: Tensor) -> Tensor:
    return points.sum(1) - 1


def samples(n: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, DIM, generator=generator) / DIM, torch.zeros(n, dtype=torch.int64)


def onto_plane(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Step along the gradient of the margin, as far as a linear model asks, and a little more."""
    x = x.clone().requires_grad_()
    logits = model(x)
    margin = logits[:, 1] - logits[:, 0]
    (gradient,) = torch.autograd.grad(margin.sum(), x)
    step = -margin / gradient.square().flatten(1).sum(1)
    step = step.reshape(-1, *[1] * (x.ndim - 1))
    return (x + 1.001 * step * gradient).detach()


def statuses(result: AttackResult) -> list[str]:
    return [AttackStatus.from_code(code).name for code in result.status.tolist()]


@pytest.mark.parametrize("domain", [None, Box(-1.0, 3.0)])
@pytest.mark.parametrize("setting", [{}, {"unit_box": True, "single": True}, {"shape": (1, 2, -1)}])
def test_what_a_function_finds_is_measured_where_the_samples_are(
    domain: Box | None, setting: dict[str, object]
) -> None:
    x, y = samples()
    result = FunctionAttack(onto_plane, **setting)(plane, x.double(), y, domain=domain)
    exact = (1 - x.double().sum(1)) / DIM**0.5
    assert torch.allclose(result.distance, 1.001 * exact, rtol=1e-5)
    assert result.x_adv.dtype == torch.float64
    assert statuses(result) == ["FOUND"] * 5
    # Twice by the base class: at the samples and at what was found.
    assert result.n_forward.tolist() == [3] * 5
    assert result.n_backward.tolist() == [1] * 5


def test_the_function_sees_what_it_needs() -> None:
    seen = {}

    def look(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.update(x=x, y=y, logits=model(x), training=model.training)
        seen["device"] = next(model.parameters()).device
        return x

    x, y = samples()
    attack = FunctionAttack(look, unit_box=True, shape=(DIM, 1, 1), min_classes=4, single=True)
    result = attack(plane, x.double(), y)
    given, logits = seen["x"], seen["logits"]
    assert given.shape == (5, DIM, 1, 1)
    assert given.dtype == logits.dtype == torch.float32
    assert 0.33 < given.min() < given.max() < 0.67
    assert logits.shape == (5, 4)
    assert torch.allclose(logits[:, 1] - logits[:, 0], plane(x), atol=1e-6)
    assert bool((logits[:, 2:].amax(1) < logits[:, :2].amax(1)).all())
    assert not seen["training"]
    assert statuses(result) == ["UNMOVED"] * 5


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_classes_that_fill_up_never_lead(scale: float) -> None:
    logits = scale * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    found = ModelUnderAttack(lambda x: x, n_classes=5)(logits)
    assert found.shape == (200, 5)
    assert torch.equal(found.argmax(1), logits.argmax(1))


def test_points_that_are_no_numbers_get_no_answer_and_leave_the_others_theirs() -> None:
    def strict(x: torch.Tensor) -> torch.Tensor:
        if not bool(x.isfinite().all()):
            raise ValueError("points must be finite")
        return x.log().sum(1)  # not defined at 0

    model = ModelUnderAttack(strict, n_classes=4)
    x = torch.tensor([[torch.nan, 1.0], [2.0, 3.0], [torch.inf, 1.0]], requires_grad=True)
    found = model(x)
    assert found.shape == (3, 4)
    assert found.isnan().all(1).tolist() == [True, False, True]
    assert torch.equal(found[1], model(x[1:2])[0])
    (slope,) = torch.autograd.grad(found[1, 1] - found[1, 0], x)
    assert slope.tolist() == [[0.0, 0.0], [1 / 2, pytest.approx(1 / 3)], [0.0, 0.0]]
    assert model(x[:1]).isnan().all()
    assert not model.cut_off


def test_an_attack_that_loses_one_point_keeps_the_others_of_its_batch() -> None:
    def once_lost(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        lost = x.clone()
        lost[0] = torch.nan
        model(lost)
        return onto_plane(model, lost, y)

    x, y = samples()
    strict = lambda points: plane(points) if points.isfinite().all() else 1 / 0  # noqa: E731
    assert statuses(FunctionAttack(once_lost)(strict, x, y)) == ["NO_POINT", *["FOUND"] * 4]


@pytest.mark.parametrize(
    ("function", "reasons", "words"),
    [
        (lambda model, x, y: x, ["UNMOVED"] * 5, ""),
        (lambda model, x, y: x - 1, ["NOT_CONFIRMED"] * 5, ""),
        (lambda model, x, y: (x - 1, torch.zeros(len(x)) > 1), ["BUDGET_SPENT"] * 5, ""),
        (lambda model, x, y: (x, torch.zeros(len(x)) < 1), ["NOT_CONFIRMED"] * 5, ""),
        (lambda model, x, y: x + 9, ["LEFT_DOMAIN"] * 5, ""),
        (lambda model, x, y: x[:, :2], ["NO_POINT"] * 5, "expected (2, 6)"),
        (lambda model, x, y: None, ["NO_POINT"] * 5, "a NoneType for points"),
        (lambda model, x, y: (x, x), ["NO_POINT"] * 5, "for what it says of them"),
        (lambda model, x, y: x / 0, ["NO_POINT"] * 5, "NaN or infinity"),
        (lambda model, x, y: x[99], ["RAISED"] * 5, "raised IndexError: index 99"),
    ],
)
def test_failures_are_infinite_and_have_their_reason(
    function: Callable[..., Tensor], reasons: list[str], words: str
) -> None:
    x, y = samples()
    result = FunctionAttack(function, name="theirs", batch_size=2)(plane, x, y, domain=Box(-1, 2))
    assert statuses(result) == reasons
    assert bool(result.distance.isinf().all())
    assert torch.equal(result.x_adv, x)
    if words:
        assert words in " ".join(result.warnings)
        assert result.warnings[0].startswith("theirs ")


def test_what_was_found_before_a_crash_is_kept() -> None:
    calls: list[int] = []

    def twice(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        calls.append(len(x))
        found = onto_plane(model, x, y)
        if len(calls) == 2:
            raise RuntimeError("out of\npatience")
        return found

    x, y = samples()
    result = FunctionAttack(twice, batch_size=2)(plane, x, y)
    assert statuses(result) == ["FOUND", "FOUND", "RAISED", "RAISED", "FOUND"]
    assert result.warnings == ("twice raised RuntimeError: out of patience",)
    assert result.n_forward.tolist() == [3] * 5
    assert result.summary().reasons == {AttackStatus.RAISED.value: 2}


def test_one_bad_point_spoils_no_other() -> None:
    def partly(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found = onto_plane(model, x, y)
        found[1] = torch.nan
        found[3] = x[3]
        return found

    x, y = samples()
    assert statuses(FunctionAttack(partly)(plane, x, y)) == [
        "FOUND",
        "NO_POINT",
        "FOUND",
        "UNMOVED",
        "FOUND",
    ]


def test_nothing_of_the_world_or_the_classifier_changes() -> None:
    with torch.random.fork_rng():
        network = nn.Sequential(nn.Linear(DIM, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    drawn: list[tuple[float, float, float]] = []

    def noisy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))  # noqa: NPY002
        model.train()
        model.to(torch.float64)
        x.requires_grad_()
        model(x).sum().backward()
        return x.detach().add_(torch.rand_like(x))

    x, y = samples()
    y = network.eval()(x).argmax(1)
    network.train()
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    FunctionAttack(noisy, batch_size=3)(network, x, y)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]
    assert network.training
    assert all(part.grad is None for part in network.parameters())
    assert next(network.parameters()).dtype == torch.float32
    FunctionAttack(noisy, batch_size=3)(network.eval(), x, y)
    assert drawn[:2] == drawn[2:]
    generator = torch.Generator().manual_seed(5)
    FunctionAttack(noisy, batch_size=3)(network, x, y, generator=generator)
    assert drawn[4] != drawn[0]


def test_the_default_dtype_is_put_back_and_the_end_of_the_process_is_a_failure() -> None:
    def rude(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        raise SystemExit(1)

    x, y = samples()
    right = torch.ones_like(y)
    result = FunctionAttack(rude)(lambda points: points.flatten(1).sum(1), x, right)
    assert torch.get_default_dtype() is torch.float32
    assert not result.success.any()
    assert "rude raised SystemExit: 1" in result.warnings[0]


def test_every_row_is_counted_and_none_twice() -> None:
    def queries(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            model(x[:3])
        points = x.clone().requires_grad_()
        logits = model(points)
        for k in range(2):
            torch.autograd.grad(logits[:, k].sum(), points, retain_graph=True)
        return x

    x, y = samples()
    result = FunctionAttack(queries)(plane, x, y)
    assert result.n_forward.sum() == 3 + 5 + 2 * 5
    assert result.n_backward.sum() == 2 * 5


def test_boxes_of_unequal_sides_and_walls() -> None:
    high = torch.tensor([0.2] + [4.0] * (DIM - 1))
    x, y = samples()
    attack = FunctionAttack(onto_plane, unit_box=True)
    result = attack(plane, x, y, domain=Box(torch.zeros(DIM), high))
    # The plane's nearest point lies beyond the short side, where the model sees the wall.
    assert bool(Box(torch.zeros(DIM), high).contains(result.x_adv).all())
    far = FunctionAttack(lambda model, x, y: torch.ones_like(x), unit_box=True)
    assert "walls of the box" in far(plane, x, y).warnings[0]


def test_the_gradient_of_a_classifier_cut_off_is_said_to_be() -> None:
    def cut(points: Tensor) -> Tensor:
        return plane(points.detach())

    def climb(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        model(x).sum().backward()
        return (x + x.grad).detach()

    x, y = samples()
    with pytest.warns(UserWarning, match="does not depend on its input"):
        assert statuses(FunctionAttack(climb)(cut, x, y)) == ["CUT_OFF"] * 5


def test_logits_of_many_classes_and_of_another_precision() -> None:
    with torch.random.fork_rng():
        network = nn.Linear(DIM, 5).double()
    classifier = as_classifier(network)
    x = samples()[0].double()
    y = classifier.predict(x)

    def toward_the_second(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        near = NearestError()(model, x, y)
        return near.x_adv

    result = FunctionAttack(toward_the_second, unit_box=True)(classifier, x, y)
    own = NearestError()(classifier, x, y)
    assert torch.allclose(result.distance, own.distance, rtol=1e-6)


@pytest.mark.parametrize(
    ("setting", "call", "words"),
    [
        ({"function": 3}, {}, "expected a function"),
        ({"batch_size": 0}, {}, "batch_size must be at least 1"),
        ({"min_classes": 1}, {}, "min_classes must be at least 2"),
        ({}, {"target": 1}, "cannot be aimed"),
        ({"unit_box": True}, {"domain": Box(0, torch.inf)}, "box of finite width"),
        ({"unit_box": True}, {"domain": Sphere()}, "expected all of space or a box"),
    ],
)
def test_bad_settings_are_said_before_the_work(
    setting: dict[str, object], call: dict[str, object], words: str
) -> None:
    def never(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        raise AssertionError("the work began")

    with pytest.raises((ValueError, TypeError), match=words):
        FunctionAttack(**({"function": never} | setting))(plane, *samples(), **call)


# A function that asks is told the domain.


def test_a_function_with_a_parameter_domain_is_told_it_by_that_keyword() -> None:
    x, y = samples(5)
    told = []

    def on_sphere(model: nn.Module, x: Tensor, y: Tensor, *, domain: Sphere) -> Tensor:
        told.append(domain)
        assert bool(domain.contains(x).all()), "the domain is of these points, each with its radius"
        return domain.project(x + torch.eye(DIM)[-1])

    def with_default(model, x, y, n_steps=3, domain=None):
        told.append(domain)
        return x + 1

    result = FunctionAttack(on_sphere, batch_size=2)(
        lambda p: p[:, -1] - 0.9 * p.norm(dim=1), x, y, domain=Sphere()
    )
    assert statuses(result) == ["FOUND"] * 5
    assert [type(domain) for domain in told] == [Sphere] * 3
    FunctionAttack(with_default)(plane, x, y, domain=Box(0.0, 2.0))
    assert (told[-1].low, told[-1].high) == (0.0, 2.0)
    FunctionAttack(with_default)(plane, x, y)
    assert isinstance(told[-1], Space)
    # Where it sees a unit box, that is its domain, whatever the box of the samples.
    FunctionAttack(with_default, unit_box=True)(plane, x, y, domain=Box(-1.0, 2.0))
    assert (told[-1].low, told[-1].high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("function", "wants"),
    [
        (lambda model, x, y: x, False),
        (lambda model, x, y, **settings: x, False),
        (lambda model, x, domain: x, False),  # its labels, under another name
        (lambda model, x, y, domain: x, True),
        (lambda model, x, y, *, domain=None: x, True),
        (print, False),
    ],
)
def test_whether_a_function_wants_the_domain_is_read_from_its_parameters(
    function: Callable[..., Tensor], wants: bool
) -> None:
    assert FunctionAttack(function).wants_domain is wants


def test_points_of_another_shape_have_no_domain_to_be_told() -> None:
    with pytest.raises(ValueError, match="leave shape"):
        FunctionAttack(lambda model, x, y, domain: x, shape=(-1, 1, 1))


def test_what_is_not_claimed_is_no_claim_outside_of_the_domain_either() -> None:
    x, y = samples()
    gone = FunctionAttack(lambda model, x, y: (x + 9, torch.zeros(len(x)) > 1))
    result = gone(plane, x, y, domain=Box(-1, 2))
    assert statuses(result) == ["BUDGET_SPENT"] * 5
    assert torch.equal(result.endpoint, x)
