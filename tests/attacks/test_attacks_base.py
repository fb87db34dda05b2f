"""The base of all attacks: nothing is believed, nothing is touched, everything is checked."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from trueboundary.attacks import (
    Attack,
    AttackResult,
    AttackStatus,
    AttackWarning,
    ManifoldAttack,
    NearestError,
    Search,
    Shell,
    Sphere,
    Target,
    in_chunks,
)
from trueboundary.classifiers import ClassifierWarning


def plane(x: Tensor) -> Tensor:
    return x[:, 0] - 0.5


@dataclass(frozen=True, eq=False)
class Claims(Attack):
    """An attack that reports success at given points, whatever the truth."""

    endpoint: Tensor = field(default_factory=lambda: torch.zeros(1, 2))

    def search(self, target: Target) -> Search:
        found = torch.full_like(target.index, AttackStatus.FOUND.code)
        return Search(self.endpoint.expand_as(target.x).clone(), found)


def only_status(result: AttackResult) -> AttackStatus:
    (code,) = result.status.tolist()
    return AttackStatus.from_code(code)


X, Y = torch.tensor([[0.0, 1.0]]), torch.tensor([0])


def test_a_true_claim_is_measured() -> None:
    result = Claims(torch.tensor([[1.0, 1.0]]))(plane, X, Y)
    assert only_status(result) is AttackStatus.FOUND
    assert result.distance.tolist() == [1.0]
    assert result.margin.tolist() == result.endpoint_margin.tolist() == [0.5]
    assert result.success.tolist() == [True]
    assert result.messages() == ["An error was found."]


def test_a_false_claim_is_a_failure() -> None:
    result = Claims(torch.tensor([[0.25, 1.0]]))(plane, X, Y)
    assert only_status(result) is AttackStatus.NOT_CONFIRMED
    assert result.distance.tolist() == [math.inf]
    assert result.x_adv.tolist() == X.tolist()
    assert result.endpoint.tolist() == [[0.25, 1.0]]
    assert result.margin.tolist() == [-0.5]


def test_an_error_outside_the_domain_is_a_failure() -> None:
    result = Claims(torch.tensor([[3.0, 0.0]]))(plane, X, Y, domain=Sphere(1.0))
    assert only_status(result) is AttackStatus.LEFT_DOMAIN
    assert not result.success.any()


def test_nan_at_the_endpoint_is_a_failure() -> None:
    def nan_at_two(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] == 2, math.nan, x[:, 0] - 0.5)

    result = Claims(torch.tensor([[2.0, 0.0]]))(nan_at_two, X, Y)
    assert only_status(result) is AttackStatus.NOT_CONFIRMED
    assert result.distance.tolist() == [math.inf]


def test_a_point_whose_margin_is_zero_is_class_0_as_for_argmax() -> None:
    x = torch.tensor([[0.5, 1.0], [0.5, 1.0]])
    result = Claims()(plane, x, torch.tensor([0, 1]))
    assert result.distance.tolist() == [math.inf, 0.0]
    assert result.messages() == [
        AttackStatus.NOT_CONFIRMED.value,
        AttackStatus.MISCLASSIFIED.value,
    ]


def test_a_margin_of_zero_is_no_error_that_an_attack_may_claim() -> None:
    claim = Claims(torch.tensor([[0.5, 1.0]]))
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    result = claim(lambda x: torch.where(x[:, 0] == 0.5, 0, plane(x)).round(), x, Y.repeat(2))
    assert result.distance[0] == math.inf
    # Where the margin goes on rising, the claim is moved on to the next float that is an error.
    result = claim(plane, x, Y.repeat(2))
    assert result.success.tolist() == [True, True]
    assert 0.5 < result.distance[0] < 0.5 * (1 + 1e-6)
    assert plane(result.x_adv)[0] > 0


def test_errors_survive_classifiers_that_round_by_batch_size() -> None:
    # What a matrix product does in the last bit, made visible: the boundary moves with n.
    def rounding(x: Tensor) -> Tensor:
        return x[:, 0] - 0.5 - 2e-7 * len(x)

    x = torch.nn.functional.normalize(torch.tensor([[0.1, 1.0], [0.9, 1.0], [0.2, -1.0]]), dim=1)
    result = ManifoldAttack()(rounding, x, torch.zeros(3, dtype=torch.int64))
    assert result.success.all()
    assert (rounding(result.x_adv) > 0).all()


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2).long(), TypeError, "floating-point"),
        (torch.zeros(2, 3), torch.zeros(2), TypeError, "integer or boolean labels"),
        (torch.zeros(2, 3).half(), torch.zeros(2).long(), TypeError, r"use x\.float\(\)"),
        (torch.zeros(2, 3).bfloat16(), torch.zeros(2).long(), TypeError, r"use x\.float\(\)"),
        (torch.zeros(3), torch.zeros(3).long(), ValueError, r"\(n, \*event\)"),
        (torch.zeros(0, 3), torch.zeros(0).long(), ValueError, "n >= 1"),
        (torch.zeros(2, 3), torch.zeros(3).long(), ValueError, r"shape \(2,\), got \(3,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 2]), ValueError, r"labels 0 and 1, got \[0, 2\]"),
        (torch.full((2, 3), math.nan), torch.zeros(2).long(), ValueError, "finite samples"),
    ],
)
def test_bad_input_is_named(x: Tensor, y: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Claims()(plane, x, y)


@dataclass(frozen=True)
class Reports(Attack):
    """An attack whose search returns what it is told to."""

    report: object = None

    def search(self, target: Target) -> Search:
        return self.report  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("report", "error", "message"),
    [
        (None, TypeError, r"Reports\.search to return a Search, got NoneType"),
        (
            Search.of(torch.ones(2), torch.ones(1).bool()),
            ValueError,
            r"endpoint with shape \(1, 2\)",
        ),
        (
            Search.of(X.double(), torch.ones(1).bool()),
            ValueError,
            r"in torch\.float32, got .* torch\.float64",
        ),
        (Search(X, torch.zeros(1)), ValueError, r"status with shape \(1,\) in torch\.int64"),
        (Search(X, torch.tensor([99])), ValueError, "codes of AttackStatus"),
    ],
)
def test_a_report_of_the_wrong_form_is_named(
    report: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Reports(report)(plane, X, Y)


def test_a_search_in_short() -> None:
    found = torch.tensor([True, False])
    search = Search.of(X.repeat(2, 1), found, otherwise=AttackStatus.CONVERGED)
    assert search.status.tolist() == [AttackStatus.FOUND.code, AttackStatus.CONVERGED.code]


def test_samples_outside_the_domain_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 of 1 lie outside; try domain\.project"):
        Claims()(plane, X, Y, domain=Sphere(2.0))
    with pytest.raises(ValueError, match="lie outside"):
        Claims()(plane, 3 * X, Y, domain=Shell(1.0, 1.3))


def test_bad_output_of_a_classifier_is_named() -> None:
    with pytest.raises(ValueError, match="shape"):
        Claims()(lambda x: x.new_zeros(len(x), 3, 1), X, Y)
    with pytest.raises(TypeError, match="floating-point"):
        Claims()(lambda x: "cat", X, Y)  # type: ignore[arg-type,return-value]


def three_corners(x: torch.Tensor) -> torch.Tensor:
    """Return logits of three classes that meet at the origin, of directions 120 degrees apart."""
    angle = 2 * math.pi / 3 * torch.arange(3).to(x)
    return x @ torch.stack([angle.cos(), angle.sin()])


def test_labels_and_targets_are_those_of_the_classifier() -> None:
    x = torch.tensor([[2.0, 0.5]])
    attack = NearestError()
    for y, target, words in (
        (3, None, r"labels from 0 to 2, got \[3\]"),
        (-1, None, r"labels from 0 to 2, got \[-1\]"),
        (0, 3, r"targets from 0 to 2, got \[3\]"),
        (0, 0, "the label itself for 1 of 1"),
        (0, "best", "a class, one per sample or 'each'"),
        (0, torch.tensor([1, 2]), "one target or one per sample"),
    ):
        with pytest.raises(ValueError, match=words):
            attack(three_corners, x, torch.tensor([y]), target=target)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got torch\.float32"):
        attack(three_corners, x, torch.tensor([0]), target=torch.tensor(1.0))


def test_targets_of_three_corners_are_at_their_distances() -> None:
    x = torch.tensor([[2.0, 0.5], [1.0, -0.2], [-1.0, 0.1]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1])
    logits = three_corners(x)
    side = math.sqrt(3.0)  # between the directions of two classes
    attack = NearestError()
    untargeted = attack(three_corners, x, y)
    others = [[1, 2], [1, 2], [0, 2]]
    to_boundary = torch.stack([
        (logits[i, y[i]] - logits[i, js]).amin() / side for i, js in enumerate(others)
    ])  # fmt: skip
    torch.testing.assert_close(untargeted.distance, to_boundary, rtol=1e-6, atol=0)
    each = attack(three_corners, x, y, target="each")
    torch.testing.assert_close(each.distance, to_boundary, rtol=1e-6, atol=0)
    assert torch.equal(each.predicted, untargeted.predicted)
    assert untargeted.predicted.tolist() == [1, 2, 2]
    # Into class 1 from the second point: the corner where three classes meet is in the way.
    goal = torch.tensor([2, 1, 0])
    aimed = attack(three_corners, x, y, target=goal)
    assert torch.equal(aimed.predicted, goal)
    assert (aimed.distance >= each.distance - 1e-9).all()
    grid = torch.cartesian_prod(*[torch.arange(-3, 3.001, 0.01, dtype=torch.float64)] * 2)
    into = three_corners(grid).argmax(1)
    for i, row in enumerate(goal.tolist()):
        truth = (grid[into == row] - x[i]).norm(dim=1).min().item()
        assert abs(aimed.distance[i].item() - truth) < 0.02
    with pytest.raises(ValueError, match="a margin is the difference of two logits"):
        _ = aimed.margin


def test_a_sample_that_is_in_its_target_class_already_has_distance_zero() -> None:
    x = torch.tensor([[2.0, 0.5], [2.0, 0.5]])
    y = torch.tensor([1, 1])  # wrong to begin with: it is of class 0
    result = NearestError()(three_corners, x, y, target=torch.tensor([0, 2]))
    assert result.distance[0] == 0 < result.distance[1]
    assert result.predicted.tolist() == [0, 2]


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(2), nn.Dropout(0.5)])
def test_training_mode_is_told_and_left_alone(layer: nn.Module) -> None:
    x, y = torch.eye(2), torch.zeros(2, dtype=torch.int64)
    with torch.random.fork_rng():  # initial weights and dropout draw from the global state
        model = nn.Sequential(layer, nn.Linear(2, 1))
    (sentence,) = Claims()(model, x, y).warnings
    assert type(layer).__name__ in sentence
    assert model.training
    assert Claims()(model.eval(), x, y).warnings == ()
    assert not model.training


def test_a_trip_through_numpy_is_said_to_cut_autograd_off() -> None:
    through_numpy = lambda x: torch.from_numpy(x.numpy().sum(1) - 9)  # noqa: E731
    with pytest.warns(AttackWarning, match="autograd"):
        result = ManifoldAttack(n_steps=3)(through_numpy, X, torch.zeros_like(Y))
    assert set(result.summary().reasons) == {AttackStatus.CUT_OFF.value}


@pytest.mark.parametrize("frozen", [True, False])
def test_parameters_and_gradients_are_left_alone(frozen: bool) -> None:
    with torch.random.fork_rng():
        model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    model.requires_grad_(not frozen)
    before = model.weight.detach().clone()
    x = torch.tensor([[-1.0, 0.1], [-0.1, -1.0]], requires_grad=True)
    result = NearestError()(model, x, torch.tensor([0, 0]))
    assert model.weight.grad is None
    assert x.grad is None
    assert model.weight.requires_grad is not frozen
    assert torch.equal(model.weight, before)
    tensors = [value for value in vars(result).values() if isinstance(value, torch.Tensor)]
    assert not any(tensor.requires_grad for tensor in tensors)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_any_gradient_mode_of_the_caller_will_do(mode: type) -> None:
    with mode():
        x = torch.tensor([[0.0, 1.0]])
        result = ManifoldAttack()(plane, x, torch.tensor([0]))
    assert result.distance.item() == pytest.approx(2 * math.sin(math.pi / 12), rel=1e-6)


def test_summary_censors_failures() -> None:
    x = torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [0.0, 4.0]])
    result = Claims(torch.tensor([[1.0, 1.0]]))(plane, x, torch.tensor([0, 0, 0, 1]))
    # distances: 1, sqrt(5), 0 (already wrong), 0 (already wrong)
    summary = result.summary()
    assert (summary.n, summary.n_failed) == (4, 0)
    assert summary.mean == pytest.approx((1 + math.sqrt(5)) / 4)
    assert summary.median == pytest.approx(0.5)

    nothing = Claims(torch.tensor([[0.0, 0.0]]))(plane, x[:2], torch.tensor([0, 0])).summary()
    assert nothing.n_failed == 2
    assert math.isnan(nothing.mean)
    assert nothing.median == math.inf
    assert summary.reasons == {}
    assert nothing.reasons == {AttackStatus.NOT_CONFIRMED.value: 2}


def test_a_summary_counts_the_reasons_of_failures(generator: torch.Generator) -> None:
    x = torch.randn(6, 2, generator=generator)
    x[:, 0] = torch.tensor([-2.0, 0.0, 0.0, 1.0, 0.0, -2.0])
    partly = Claims(torch.tensor([[0.0, 0.0]]))(
        lambda x: torch.where(x[:, 0] == -2, math.nan, plane(x)), x, torch.zeros(6).long()
    )
    assert list(partly.summary().reasons.items()) == [
        (AttackStatus.NOT_CONFIRMED.value, 3),
        (AttackStatus.NON_FINITE.value, 2),
    ]
    assert partly.summary().n_failed == 5


def test_chunks_give_what_one_call_gives(generator: torch.Generator) -> None:
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    y = (plane(x) > 0).long()
    attack = ManifoldAttack(n_restarts=3, n_steps=50, step_size=0.05)
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    whole = attack(plane, x, y, generator=seeds[0])
    chunks = in_chunks(attack, plane, x, y, chunk_size=3, generator=seeds[1])
    torch.testing.assert_close(chunks.x_adv, whole.x_adv)
    torch.testing.assert_close(chunks.distance, whole.distance)
    assert torch.equal(chunks.status, whole.status)
    assert torch.equal(seeds[0].get_state(), seeds[1].get_state())
    with pytest.raises(ValueError, match="chunk size of at least 1"):
        in_chunks(attack, plane, x, y, chunk_size=0)


def test_chunks_share_the_radii_of_a_domain(generator: torch.Generator) -> None:
    x = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    domain = Sphere(torch.linalg.vector_norm(x, dim=1))
    y = (plane(x) > 0).long()
    whole = ManifoldAttack()(plane, x, y, domain=domain)
    chunks = in_chunks(ManifoldAttack(), plane, x, y, chunk_size=2, domain=domain)
    torch.testing.assert_close(chunks.distance, whole.distance)


def test_status_codes_round_trip() -> None:
    assert [AttackStatus.from_code(status.code) for status in AttackStatus] == list(AttackStatus)
    assert all(status.value.endswith((".", "?")) for status in AttackStatus)


def test_chunks_tell_probabilities_as_one_call_does():
    def sigmoid(x):
        return torch.sigmoid(x[:, 0])

    x = torch.linspace(-3, 3, 8)[:, None].repeat(1, 2)
    y = (x[:, 0] > 0).long()
    with pytest.warns(ClassifierWarning, match="as probabilities do"):
        result = in_chunks(ManifoldAttack(n_steps=2), sigmoid, x, y, chunk_size=2)
    assert len(result.warnings) == 1


def test_no_samples_are_refused_in_chunks_too():
    x, y = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="with n >= 1"):
        in_chunks(ManifoldAttack(), lambda x: x[:, 0], x, y, chunk_size=2)
