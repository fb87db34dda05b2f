"""What every attack must do, whoever wrote it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from trueboundary._checks import check_integer
from trueboundary.attacks import Attack, AttackResult, AttackStatus
from trueboundary.classifiers import misclassified, outputs, predicted, wrongness_of
from trueboundary.domains import Box, Domain, Sphere, norm
from trueboundary.testing import _expect as expect

__all__ = ["check_attack"]

Margin = Callable[[Tensor], Tensor]

_ALPHAS = (0.2, 0.4, 0.6, 0.9, 1.2, 1.5)
_GOOD = frozenset({AttackStatus.FOUND.code, AttackStatus.MISCLASSIFIED.code})


def check_attack(
    attack: Attack,
    *,
    domain: Domain | None = None,
    least_success: float = 0.9,
    n_classes: int = 2,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> None:
    """Check what every attack must do, on nested ellipsoids in two and six dimensions.

    The base class re-verifies what a search reports. Checked here is what it cannot see in one
    call: that neither the size nor the order of a batch, the scale or form of the logits or the
    shape of the samples changes what is found; that one bad sample does not spoil others; that
    evaluations are counted, random numbers come from the generator, and samples, classifier and
    global state stay as they were; in both precisions.

    Parameters
    ----------
    attack : Attack
        The attack, with settings strong enough for points about half their norm from an error.
    domain : Domain, optional
        Where it is to search; by default the attack's own.
    least_success : float
        Share of the samples for which it must find an error. There is one for all.
    n_classes : int
        Number of classes, each between two ellipsoids: 2, or more for an attack that climbs what
        `Target.wrongness` says.
    seed : int
        Seed of the samples.
    device : torch.device
        Where to run.

    Examples
    --------
    >>> from trueboundary.attacks import LogDensityGradient
    >>> from trueboundary.testing import check_attack
    >>> check_attack(LogDensityGradient())
    """
    _check_settings(attack)
    n_classes = check_integer("n_classes", n_classes, minimum=2)
    case = _Case(attack, domain, least_success, n_classes, seed, torch.device(device))
    for check in _CHECKS:
        with expect.untouched_state(f"{type(attack).__name__}"):
            check(case)


@dataclass(frozen=True)
class _Case:
    """An attack, where it searches, and the samples that it is tried on."""

    attack: Attack
    domain: Domain | None
    least_success: float
    n_classes: int
    seed: int
    device: torch.device

    def classifier(self, x: Tensor) -> Tensor:
        """Return what nested ellipsoids say of points: margins, or logits of three classes on."""
        size = _size(x)
        if self.n_classes == 2:
            return size - 1
        # The nearest of the centres .4, 1.6, 2.8 and so on; the first boundary is that of two.
        centre = 0.4 + 1.2 * torch.arange(self.n_classes).to(x)
        return 2 * centre * size[:, None] - centre**2

    def of_one_margin(self, margin: Margin) -> Margin:
        """Return a classifier whose class 0 is left where a margin says so, for any other."""
        if self.n_classes == 2:
            return margin

        def logits(x: Tensor) -> Tensor:
            value = margin(x)
            behind = torch.arange(self.n_classes - 1).to(value)
            return torch.cat([0 * value[:, None], value[:, None] - behind], dim=1)

        return logits

    def samples(self, n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return points near spheres about each class: of radius 1 and 1.3 for the first two."""
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(n, len(_ALPHAS), generator=generator, dtype=dtype)
        y = torch.arange(n) % self.n_classes
        later = ((0.4 + 1.2 * y.to(dtype)) / (sum(_ALPHAS) / len(_ALPHAS))).sqrt()
        radius = torch.where(y < 2, 1 + 0.3 * y.to(dtype), later)
        x = x * (radius / norm(x))[:, None]
        return self.inside(x.to(self.device)), y.to(self.device)

    def inside(self, x: Tensor) -> Tensor:
        """Return points moved into the domain, if they are not in it already."""
        domain = (self.domain or self.attack.default_domain).bind(x)
        return torch.where(domain.contains(x)[:, None], x, domain.project(x))

    @functools.cached_property
    def plain(self) -> AttackResult:
        """What the attack finds from 12 samples, which other calls are compared with."""
        return self(self.classifier, *self.samples(12))

    def __call__(self, margin: Margin, x: Tensor, y: Tensor, **options: Any) -> AttackResult:
        return self.attack(margin, x, y, domain=self.domain, **options)

    def expect_errors(self, result: AttackResult, what: str) -> None:
        """Expect the attack to have found what there is, inside its domain."""
        left = int((result.status == AttackStatus.LEFT_DOMAIN.code).sum())
        expect.that(left == 0, f"{what}: the search left its domain from {left} samples.")
        expect.that(
            result.success_rate >= self.least_success,
            f"{what}: expected errors from at least {self.least_success:.0%} of the samples, got "
            f"{result.success_rate:.0%}; the others: {result.summary().reasons}",
        )


def _size(x: Tensor) -> Tensor:
    """Return the size of points ``(n,)`` that is 1 on an ellipsoid, rounded alike in any batch."""
    return (torch.tensor(_ALPHAS).to(x) * x.flatten(1) ** 2).sum(1)


def _check_settings(attack: Attack) -> None:
    name = type(attack).__name__
    expect.that(isinstance(attack, Attack), f"expected an Attack, got {name}.")
    frozen = is_dataclass(attack) and getattr(attack, "__dataclass_params__").frozen  # noqa: B009
    expect.that(frozen, f"{name}: expected a frozen dataclass, whose fields are its settings.")
    again = replace(attack)
    expect.that(again == attack, f"{name}: expected two attacks of equal settings to be equal.")
    for field in fields(attack):
        try:
            setattr(again, field.name, getattr(attack, field.name))
        except AttributeError:
            continue
        raise AssertionError(f"{name}: expected the setting {field.name} to be frozen.")


def _results_are_honest(case: _Case) -> None:
    for dtype in (torch.float32, torch.float64):
        for n in (1, 32):
            x, y = case.samples(n, dtype)
            _expect_honest(case, case.classifier, x, y, f"{n} samples in {dtype}")


def _expect_honest(case: _Case, margin: Margin, x: Tensor, y: Tensor, what: str) -> None:
    """Compare every promise of a result with the classifier itself."""
    before, seen = x.clone(), 0

    def counted(points: Tensor) -> Tensor:
        nonlocal seen
        seen += len(points)
        return margin(points)

    result = case(counted, x, y)
    case.expect_errors(result, what)
    expect.equal(x, before, f"{what}, the caller's samples after the attack")
    counts = int(result.n_forward.sum())
    expect.that(
        counts == seen,
        f"{what}: the classifier saw {seen} points, and the target counted {counts}; ask it "
        "through target.wrongness and target.wrongness_and_gradient alone.",
    )
    # An attack may ask for the gradient of each other class.
    most = (case.n_classes - 1) * result.n_forward
    expect.that((result.n_backward <= most).all(), f"{what}: more gradients than calls")
    success, wrong = result.success, misclassified(outputs(margin, x), y)
    found = success & ~wrong
    at_error = outputs(margin, result.x_adv)
    there = wrongness_of(at_error, y)  # (n,)
    expect.that((there[found] > 0).all(), f"{what}: expected every error found to be strictly one.")
    expect.equal(
        result.predicted[success], predicted(at_error)[success], f"{what}, classes of the errors"
    )
    expect.equal(result.x_adv[~found], x[~found], f"{what}, x_adv where nothing was found")
    expect.that((result.distance[~success] == math.inf).all(), f"{what}: failures are infinite.")
    expect.that((result.distance[wrong] == 0).all(), f"{what}: errors are at distance 0.")
    expect.near(
        result.distance[success],
        norm(result.x_adv - x)[success],
        f"{what}, distances of errors",
        rtol=1e-5,
        atol=1e-7,
    )
    for name in (field.name for field in fields(AttackResult)):
        value = getattr(result, name)
        if not isinstance(value, Tensor):
            continue
        expect.that(len(value) == len(x), f"{what}: expected one {name} per sample.")
        expect.that(not value.requires_grad, f"{what}: expected {name} without a graph.")
        expect.that(value.dtype in (x.dtype, torch.int64), f"{what}: {name} is {value.dtype}.")
    good = torch.tensor([code in _GOOD for code in result.status.tolist()])
    expect.equal(good, success.cpu(), f"{what}, whether the status says that an error was found")


def _no_domain_is_left(case: _Case) -> None:
    """Try domains that were not asked for: each is searched, or refused in one sentence."""
    name = type(case.attack).__name__
    for domain in (Box(-2.0, 2.0), Sphere()):
        x, y = replace(case, domain=domain).samples(12)
        try:
            result = case.attack(case.classifier, x, y, domain=domain)
        except (TypeError, ValueError) as error:
            expect.sentence(error, f"{name} within {domain.describe()}")
            continue
        left = int((result.status == AttackStatus.LEFT_DOMAIN.code).sum())
        expect.that(
            left == 0,
            f"{name} left {domain.describe()} from {left} of {len(x)} samples: move points with "
            "target.domain, or refuse the domain in a sentence.",
        )


def _batch_size_and_order_change_nothing(case: _Case) -> None:
    x, y = case.samples(12)
    whole = case.plain
    order = torch.randperm(12, generator=torch.Generator().manual_seed(case.seed)).to(x.device)
    shuffled = case(case.classifier, x[order], y[order])
    _expect_alike(shuffled.distance, whole.distance[order], "the samples in another order")
    expect.equal(shuffled.status, whole.status[order], "status of the samples in another order")
    parts = [case(case.classifier, x[p], y[p]) for p in (slice(0, 1), slice(1, 5), slice(5, 12))]
    distance = torch.cat([part.distance for part in parts])
    _expect_alike(distance, whole.distance, "the samples in batches of 1, 4 and 7")


def _expect_alike(got: Tensor, expected: Tensor, what: str) -> None:
    expect.near(got, expected, f"{what} against one plain call", rtol=1e-6, atol=1e-9)


def _scale_and_form_of_the_logits_change_nothing(case: _Case) -> None:
    x, y = case.samples(12)
    plain = case.plain.distance
    for scale in (1e-6, 1e6, 1e-200):
        scaled = case(lambda points, by=scale: by * case.classifier(points), x, y)  # type: ignore[misc]
        _expect_alike(scaled.distance, plain, f"logits times {scale}")

    def shifted(points: Tensor) -> Tensor:
        found = case.classifier(points)
        if case.n_classes == 2:
            found = torch.stack([-found / 2, found / 2], dim=1)
        return found - 1e3

    _expect_alike(case(shifted, x, y).distance, plain, "logits, all far below zero")

    def with_one_more(points: Tensor) -> Tensor:
        found = case.classifier(points)
        if case.n_classes == 2:
            found = torch.stack([torch.zeros_like(found), found], dim=1)
        return torch.cat([found, found.amin(dim=1, keepdim=True) - 1], dim=1)

    _expect_alike(case(with_one_more, x, y).distance, plain, "a further class that never wins")
    if case.n_classes == 2:
        column = case(lambda points: case.classifier(points)[:, None], x, y)
        _expect_alike(column.distance, plain, "logits (n, 1)")


def _targets_are_reached_or_not_found(case: _Case) -> None:
    x, y = case.samples(6)
    found = outputs(case.classifier, x)
    steps = sorted({1, case.n_classes - 1})
    nearest = torch.full_like(y, math.inf, dtype=x.dtype)
    for step in steps:
        goal = (y + step) % case.n_classes
        result = case(case.classifier, x, y, target=goal)
        what = f"targets {step} beyond the labels"
        expect.equal(result.predicted[result.success], goal[result.success], f"{what}, classes")
        expect.equal(result.distance == 0, predicted(found) == goal, f"{what}, nothing to do")
        nearest = torch.minimum(nearest, result.distance)
    each = case(case.classifier, x, y, target="each")
    expect.that(
        (each.distance <= nearest * (1 + 1e-6)).all(), "each target: expected the nearest error."
    )
    wrong = misclassified(found, y)
    expect.equal(each.distance == 0, wrong, "each target, samples that are misclassified")


def _large_margins_are_no_obstacle(case: _Case) -> None:
    x, y = case.samples(12, torch.float32)
    _expect_honest(
        case, lambda points: 1e7 * case.classifier(points), x, y, "margins of 1e7 in float32"
    )


def _shape_of_the_samples_changes_nothing(case: _Case) -> None:
    x, y = case.samples(12)
    image = case(case.classifier, x.reshape(12, 1, 2, 3), y)
    _expect_alike(image.x_adv.flatten(1), case.plain.x_adv, "samples of shape (n, 1, 2, 3)")


def _misclassified_samples_have_distance_zero(case: _Case) -> None:
    x, _ = case.samples(8)
    others = (predicted(outputs(case.classifier, x)) + 1) % case.n_classes
    result = case(case.classifier, x, others)
    expect.that((result.distance == 0).all(), "misclassified samples: expected distances of 0.")
    expect.equal(result.x_adv, x, "x_adv of misclassified samples")


def _failures_are_infinite_and_explained(case: _Case) -> None:
    x, _ = case.samples(4)
    y = torch.zeros(4, dtype=torch.int64, device=x.device)
    without_errors: dict[str, Margin] = {
        "without errors": lambda x: x.flatten(1)[:, 0].sin() - 10,
        "of zero gradient": lambda x: 0 * x.flatten(1).sum(1) - 1,
        "of steps": lambda x: x.flatten(1).sum(1).round() - 99,
        "that is NaN": lambda x: x.flatten(1).sum(1) * math.nan,
        "that is minus infinity": lambda x: x.flatten(1).sum(1) * 0 - math.inf,
        "whose gradient is NaN": lambda x: (x.flatten(1)[:, 0] * 0).sqrt() - 1,
    }
    for words, margin in without_errors.items():
        result = case(case.of_one_margin(margin), x, y)
        expect.that((result.distance == math.inf).all(), f"a margin {words}: expected infinity.")
        expect.equal(result.x_adv, x, f"x_adv under a margin {words}")
        claimed = [code for code in result.status.tolist() if code in _GOOD]
        expect.that(not claimed, f"a margin {words}: expected a reason, got {result.messages()}.")


def _one_bad_sample_spoils_no_other(case: _Case) -> None:
    x, y = case.samples(12)
    bad, others = x[4].clone(), torch.arange(12, device=x.device) != 4
    plain = case.plain

    def without(hole: Tensor, found: Tensor) -> Tensor:
        return torch.where(hole.reshape(-1, *[1] * (found.ndim - 1)), math.nan, found)

    def at_the_sample(points: Tensor) -> Tensor:
        return without((points == bad).all(1), case.classifier(points))

    def around_the_sample(points: Tensor) -> Tensor:
        away = norm(points - bad)
        return without((away > 0) & (away < 0.1), case.classifier(points))

    for words, margin in (("at", at_the_sample), ("around", around_the_sample)):
        result = case(margin, x, y)
        what = f"the others of a batch with NaN {words} one sample"
        _expect_alike(result.distance[others], plain.distance[others], what)


def _random_numbers_come_from_the_generator(case: _Case) -> None:
    x, y = case.samples(4)
    results = [
        case(case.classifier, x, y, generator=torch.Generator().manual_seed(number))
        for number in (1, 1, 2)
    ]
    expect.equal(results[1].x_adv, results[0].x_adv, "a second call with the same seed")
    case.expect_errors(results[2], "another seed")
    again = case(case.classifier, *case.samples(12))
    expect.equal(again.x_adv, case.plain.x_adv, "a second call without a generator")


class _Module(nn.Module):
    """The ellipsoid as a network with a parameter, a buffer, and a layer that has two modes."""

    def __init__(self) -> None:
        super().__init__()
        self.alphas = nn.Parameter(torch.tensor(_ALPHAS, dtype=torch.float64))
        self.n_calls: Tensor
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.int64))
        self.norm = nn.BatchNorm1d(1, dtype=torch.float64)  # in eval mode nearly the identity

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.n_calls.add_(1)
        squares: Tensor = (self.alphas * x.flatten(1) ** 2).sum(1, keepdim=True) - 1
        return self.norm(squares)  # type: ignore[no-any-return]


def _the_classifier_stays_as_it_was(case: _Case) -> None:
    x, y = replace(case, n_classes=2).samples(4)
    module = _Module().to(x.device).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    case(module, x, y)
    for name, value in module.state_dict().items():
        expect.equal(value, before[name], f"the classifier's {name} after the attack")
    expect.that(module.training, "expected the classifier back in training mode.")
    expect.that(module.alphas.requires_grad, "expected the parameter to keep requires_grad.")
    expect.that(module.alphas.grad is None, "expected the attack to leave no gradients behind.")


def _two_dimensions_are_enough(case: _Case) -> None:
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(case.seed))
    x = case.inside((x / norm(x)[:, None]).to(case.device))

    def band(points: Tensor) -> Tensor:
        return points[:, 0] ** 2 * 1.5 + points[:, 1] ** 2 * 0.5 - 1

    _expect_honest(case, case.of_one_margin(band), x, (band(x) > 0).long(), "two dimensions")


_CHECKS = (
    _results_are_honest,
    _batch_size_and_order_change_nothing,
    _scale_and_form_of_the_logits_change_nothing,
    _targets_are_reached_or_not_found,
    _large_margins_are_no_obstacle,
    _shape_of_the_samples_changes_nothing,
    _misclassified_samples_have_distance_zero,
    _failures_are_infinite_and_explained,
    _one_bad_sample_spoils_no_other,
    _random_numbers_come_from_the_generator,
    _the_classifier_stays_as_it_was,
    _two_dimensions_are_enough,
    _no_domain_is_left,
)
