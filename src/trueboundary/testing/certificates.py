"""What every certificate must do, whoever wrote it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trueboundary.attacks import Attack, NearestError
from trueboundary.certificates import Certificate, CertificateResult
from trueboundary.classifiers import (
    Classifier,
    dtype_of,
    evaluated,
    number_of_classes,
    outputs,
    wrongness,
)
from trueboundary.domains import Box, Domain, Shell, Space, Sphere, norm, per_sample
from trueboundary.problems import Problem
from trueboundary.testing import _expect as expect

__all__ = ["check_certificate"]

#: Directions from each point, and steps along each, by dimension.
_RAYS = {1: (2, 400), 2: (360, 16), 3: (1500, 8)}
_ROUNDING = 1e-6  # by which a distance may exceed that of an error, as a share of itself
_SAME = 1e-6  # relative difference of distances that batches and dtypes may make
_EVALUATIONS = 1 << 20  # numbers given to the classifier at once


def check_certificate(
    certificate: Certificate,
    classifier: Classifier,
    points: Problem | tuple[Tensor, Tensor],
    *,
    attacks: Sequence[Attack] | None = None,
    n_points: int = 4,
    seed: int = 0,
) -> None:
    """Check what every certificate must do, on one classifier.

    It is asked about points in all of space, on spheres, in a shell and in boxes. In up to three
    dimensions everything nearer than it says is looked at, along many rays; in all dimensions the
    attacks must find nothing nearer. What is said to be exact must be so, errors must have distance
    0, neither the size nor the order of a batch nor the dtype of points may matter, input that
    makes no sense must be refused in one sentence, and the classifier must be left as it was.

    Parameters
    ----------
    certificate : Certificate
        The certificate.
    classifier : callable
        A classifier that it can read, of any number of classes; one in two or three dimensions says
        most.
    points : Problem or tuple of Tensor
        What to draw points from, or points ``(n, *event)`` and their labels ``(n,)``, of which some
        should be classified right.
    attacks : sequence of Attack, optional
        What to hold distances against; by default `NearestError`.
    n_points : int
        Points drawn of each class from a problem.
    seed : int
        Seed of the points.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import SVMCertificate
    >>> from trueboundary.classifiers import LinearSVM
    >>> from trueboundary.problems import planar_problem
    >>> from trueboundary.testing.certificates import check_certificate
    >>> svm = LinearSVM(torch.tensor([3.0, 4.0]), bias=-5.0)
    >>> check_certificate(SVMCertificate(), svm, planar_problem("a"))
    """
    expect.that(isinstance(certificate, Certificate), "expected a Certificate.")
    x, y = _points(points, dtype_of(classifier, default=torch.float64), n_points, seed)
    check = _Check(certificate, classifier, x, y)
    check.untouched()
    for name, domain in _domains(x).items():
        result = check.answer(x, y, domain, name)
        if result is None:
            continue
        check.errors(domain, name)
        check.exact(result, domain, name)
        check.attacked(result, domain, name, attacks)
        if x[0].numel() in _RAYS:
            check.brute_force(result, domain, name)
        check.batches(result, domain, name)
    check.refusals()


class _Check:
    """One certificate, one classifier, some points."""

    def __init__(
        self, certificate: Certificate, classifier: Classifier, x: Tensor, y: Tensor
    ) -> None:
        self.certificate, self.classifier, self.x, self.y = certificate, classifier, x, y
        self.name = type(certificate).__name__
        self.home: Domain = Space() if Space in certificate.domains else Sphere()
        with evaluated(classifier), torch.no_grad():
            first = x[:1].to(dtype_of(classifier, default=torch.float64))
            self.n_classes = number_of_classes(outputs(classifier, first))
        self.right = self.wrongness(x, y) < 0
        expect.that(self.right.any(), "expected points of which some are classified right.")

    def wrongness(self, points: Tensor, y: Tensor) -> Tensor:
        """Return how wrong points are (n,), positive where strictly wrong."""
        if len(points) == 0:
            return points.new_zeros(0)
        dtype = dtype_of(self.classifier, default=torch.float64)
        with evaluated(self.classifier), torch.no_grad():
            at_once = max(1, _EVALUATIONS // points[0].numel())
            parts = [
                wrongness(self.classifier, part.to(dtype), labels).double()
                for part, labels in zip(
                    torch.split(points, at_once), torch.split(y, at_once), strict=True
                )
            ]
        return torch.cat(parts)

    def ask(self, x: Any, y: Any, domain: Any) -> CertificateResult:
        return self.certificate(self.classifier, x, y, domain=domain)

    def answer(self, x: Tensor, y: Tensor, domain: Domain, where: str) -> CertificateResult | None:
        """Return the result within a domain, checked for its form, None if there is none."""
        try:
            result = self.ask(x, y, domain)
        except TypeError as error:
            expect.sentence(error, f"{self.name} does not know {where}")
            return None
        n = len(x)
        for part, shape, dtype in (
            ("distance", (n,), torch.float64),
            ("nearest", tuple(x.shape), torch.float64),
            ("exact", (n,), torch.bool),
        ):
            value = getattr(result, part)
            expect.that(isinstance(value, Tensor), f"{where}: {part} must be a tensor.")
            expect.that(
                (tuple(value.shape), value.dtype, value.device) == (shape, dtype, x.device),
                f"{where}: {part} must have shape {shape} and be {dtype} on {x.device}, got "
                f"{tuple(value.shape)}, {value.dtype} on {value.device}.",
            )
            expect.that(not value.requires_grad, f"{where}: {part} must not require a gradient.")
        expect.that(
            bool((result.distance >= 0).all()), f"{where}: distances must be at least 0, never NaN."
        )
        expect.that(result.warnings == (), f"{where}: {'; '.join(result.warnings)}.")
        return result

    def errors(self, domain: Domain, where: str) -> None:
        """Expect points that are errors to be their own nearest ones, as exact as can be."""
        others = (self.y + 1) % self.n_classes
        wrong = self.wrongness(self.x, others) > 0
        found = self.ask(self.x, others, domain)
        kept = (found.distance == 0) & found.exact
        kept &= (found.nearest == self.x.double()).flatten(1).all(1)
        n = int((wrong & ~kept).sum())
        expect.that(
            n == 0,
            f"{where}: an error must have distance 0, exactly, to itself, but {n} of "
            f"{int(wrong.sum())} have not.",
        )

    def exact(self, result: CertificateResult, domain: Domain, where: str) -> None:
        """Expect exact distances to be those of points of the domain with errors beside them."""
        rows = (result.exact & result.distance.isfinite() & self.right).nonzero().squeeze(1)
        if len(rows) == 0:
            return
        near, distance, y = result.nearest[rows], result.distance[rows], self.y[rows]
        expect.that(near.isfinite().all(), f"{where}: an exact distance must name its error.")
        expect.that(
            bool(domain.take(rows).contains(near).all()),
            f"{where}: an exact distance must be that of an error in the domain.",
        )
        length = norm(near - self.x[rows].double())
        size = norm(near)
        expect.that(
            bool(((length - distance).abs() <= 1e-5 * (distance + size)).all()),
            f"{where}: an exact distance must be that of the nearest error that is named.",
        )
        start = self.wrongness(self.x[rows], y).abs()
        beside = self.wrongness(near, y)
        for step in (1e-6, 1e-5, 1e-4):
            further = near + step * (near - self.x[rows].double())
            beside = torch.maximum(beside, self.wrongness(further, y))
        expect.that(
            bool((beside >= -1e-3 * start).all()),
            f"{where}: a distance that is said to be exact ends at a point without errors beside "
            "it.",
        )

    def attacked(
        self,
        result: CertificateResult,
        domain: Domain,
        where: str,
        attacks: Sequence[Attack] | None,
    ) -> None:
        """Expect no attack to find an error nearer than is proven."""
        if attacks is None:
            attacks = (NearestError(),)
        for attack in attacks:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an attack may have no gradient to climb
                found = attack(
                    self.classifier, self.x, self.y, domain=domain,
                    generator=torch.Generator(self.x.device).manual_seed(0),
                )  # fmt: skip
            self.refuse_nearer(result, found.distance.double(), where, type(attack).__name__)

    def brute_force(self, result: CertificateResult, domain: Domain, where: str) -> None:
        """Expect no ray to meet an error nearer than is proven."""
        spread = float(norm(self.x.double()).max()) + 1.0
        nearest = torch.full_like(result.distance, math.inf)
        for row in self.right.nonzero().squeeze(1).tolist():
            x, y = self.x[row : row + 1].double(), self.y[row : row + 1]
            reach = min(float(result.distance[row]), 10 * spread)
            seen = _around(x, domain.take(torch.tensor([row])), reach)
            wrong = self.wrongness(seen, y.expand(len(seen))) > 0
            if bool(wrong.any()):
                steps = norm(seen[wrong] - x)
                nearest[row] = steps.min()
        self.refuse_nearer(result, nearest, where, "a ray")

    def refuse_nearer(self, result: CertificateResult, found: Tensor, where: str, who: str) -> None:
        size = norm(self.x.double())
        eps = torch.finfo(dtype_of(self.classifier, default=torch.float64)).eps
        slack = _ROUNDING * result.distance.nan_to_num(posinf=0.0) + 64 * eps * size
        wrong = (found < result.distance - slack).nonzero().squeeze(1)
        if len(wrong):
            row = int(wrong[0])
            raise AssertionError(
                f"{where}: {self.name} excludes errors within {result.distance[row]:.9g} of point "
                f"{row}, but {who} finds one at {found[row]:.9g} ({len(wrong)} of {len(found)} "
                "points)."
            )

    def batches(self, result: CertificateResult, domain: Domain, where: str) -> None:
        """Expect neither the size nor the order of a batch nor dtypes to matter."""
        n = len(self.x)
        order = torch.arange(n - 1, -1, -1)
        turned = self.ask(self.x[order], self.y[order], domain.take(order))
        self._agree(turned, result, order, f"{where}: the order of the points")
        for row in (0, n - 1):
            index = torch.tensor([row])
            alone = self.ask(self.x[index], self.y[index], domain.take(index))
            self._agree(alone, result, index, f"{where}: what else is in the batch")
        rounded = self.x.float()
        single, double = (
            self.ask(points, self.y, domain) for points in (rounded, rounded.double())
        )
        self._agree(single, double, torch.arange(n), f"{where}: the dtype of the points")
        labels = self.ask(self.x, self.y.bool() if self.n_classes == 2 else self.y.int(), domain)
        self._agree(labels, result, torch.arange(n), f"{where}: the dtype of the labels")

    def _agree(
        self, got: CertificateResult, expected: CertificateResult, rows: Tensor, what: str
    ) -> None:
        size = norm(self.x[rows].double())
        want = expected.distance[rows]
        same = (got.distance == want) | (
            (got.distance - want).abs() <= _SAME * want.abs() + 1e-12 * size
        )
        expect.that(same.all(), f"{what} must not matter to distances.")

    def untouched(self) -> None:
        """Expect points, labels and classifier to stay as they were, a module in training mode."""
        if isinstance(self.classifier, nn.Module):
            modes = [(module, module.training) for module in self.classifier.modules()]
            self.classifier.train()
        x, y, (before, switches) = self.x.clone(), self.y.clone(), _state(self.classifier)
        self.ask(self.x, self.y, self.home)
        expect.that(torch.equal(x, self.x) and torch.equal(y, self.y), "the points were changed.")
        after, switches_after = _state(self.classifier)
        same = switches == switches_after and len(before) == len(after)
        same = same and all(map(torch.equal, before, after))
        expect.that(same, "the classifier was not left as it was.")
        if isinstance(self.classifier, nn.Module):
            for module, training in modes:
                module.training = training

    def refusals(self) -> None:
        """Expect what makes no sense to be refused, in one sentence."""
        x, y = self.x, self.y

        def refused(kinds: Any, call: Any, what: str) -> None:
            expect.sentence(expect.raises(kinds, call, what), what)

        for bad in (math.nan, math.inf, -math.inf):
            spoiled = x.clone()
            spoiled.view(len(x), -1)[0, 0] = bad
            refused(ValueError, partial(self.ask, spoiled, y, self.home), f"a point with {bad}")
        far = Box(float(x.max()) + 1, float(x.max()) + 2)
        for what, error, points, labels, domain in (
            ("labels beyond the last class", ValueError, x, y + self.n_classes, self.home),
            ("negative labels", ValueError, x, y - self.n_classes, self.home),
            ("labels that are not whole", TypeError, x, y + 0.5, self.home),
            ("too few labels", ValueError, x, y[:-1], self.home),
            ("labels of two axes", ValueError, x, y[:, None], self.home),
            ("no points", ValueError, x[:0], y[:0], self.home),
            ("a point without its batch", ValueError, x[0].flatten(), y[:1], self.home),
            ("points of integers", TypeError, x.long(), y, self.home),
            ("points in half precision", TypeError, x.half(), y, self.home),
            ("points that are no tensor", TypeError, x.tolist(), y, self.home),
            ("labels that are no tensor", TypeError, x, y.tolist(), self.home),
            ("a word for a domain", TypeError, x, y, "sphere"),
            ("points outside the domain", (TypeError, ValueError), x, y, far),
        ):
            refused(error, partial(self.ask, points, labels, domain), what)
        nothing: Any = None
        refused(TypeError, partial(self.certificate, nothing, x, y), "no classifier")


def _points(
    points: Problem | tuple[Tensor, Tensor], dtype: torch.dtype, n_points: int, seed: int
) -> tuple[Tensor, Tensor]:
    if not isinstance(points, Problem):
        return points[0], points[1].long()
    drawn = [
        points.sample_class(
            n_points, label, generator=torch.Generator().manual_seed(seed + label), dtype=dtype
        )
        for label in range(points.n_classes)
    ]
    return torch.cat(drawn), torch.arange(points.n_classes).repeat_interleave(n_points)


def _domains(x: Tensor) -> dict[str, Domain]:
    """Return domains that hold the points: all of space, and parts of it that are nearly full."""
    rows = x.double()
    size = norm(rows)
    domains: dict[str, Domain] = {
        "in space": Space(),
        "in a box": Box(float(rows.min()) - 0.1, float(rows.max()) + 0.1),
    }
    if bool((size > 0).all()):
        domains["on spheres"] = Sphere()
        domains["in a shell"] = Shell(float(size.min()) * 0.99, float(size.max()) * 1.01)
    return domains


def _around(x: Tensor, domain: Domain, reach: float) -> Tensor:
    """Return points of a domain that are nearer than `reach` to one point (1, *event)."""
    dim = x[0].numel()
    n_directions, n_steps = _RAYS[dim]
    directions = _directions(dim, n_directions).to(x)
    steps = torch.linspace(0, 1, n_steps + 1, dtype=torch.float64, device=x.device)[1:]
    lengths = reach * steps * (1 - 1e-9)
    if isinstance(domain, Sphere):
        radius = float(x.norm())
        tangent = domain.tangent(
            x.expand(n_directions, *x.shape[1:]), directions.reshape(-1, *x.shape[1:])
        )
        tangent = tangent[norm(tangent) > 0.1]
        tangent = tangent / per_sample(norm(tangent), tangent)
        arcs = 2 * radius * torch.asin((lengths / (2 * radius)).clamp(max=1))
        own = Sphere(radius)
        return torch.cat(
            [own.move(x.expand_as(tangent), tangent, arc.expand(len(tangent))) for arc in arcs]
        )
    points = x.flatten() + (lengths[:, None, None] * directions).reshape(-1, dim)
    points = points.reshape(-1, *x.shape[1:])
    return points[domain.contains(points)]


def _directions(dim: int, n: int) -> Tensor:
    """Return unit vectors (n, dim) that cover all directions evenly."""
    if dim == 1:
        return torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    index = torch.arange(n, dtype=torch.float64)
    if dim == 2:
        angle = index * (2 * math.pi / n)
        return torch.stack([angle.cos(), angle.sin()], dim=1)
    height = 1 - (2 * index + 1) / n  # a spiral of equal areas
    angle, across = index * math.pi * (3 - math.sqrt(5)), (1 - height**2).sqrt()
    return torch.stack([across * angle.cos(), across * angle.sin(), height], dim=1)


def _state(classifier: Any) -> tuple[list[Tensor], list[bool]]:
    """Return what of a module must stay as it is: tensors, and what is switched on."""
    if not isinstance(classifier, nn.Module):
        return [], []
    parameters = list(classifier.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    switches = [module.training for module in classifier.modules()]
    switches += [switch for p in parameters for switch in (p.requires_grad, p.grad is None)]
    return [value.clone() for value in (*classifier.state_dict().values(), *gradients)], switches
