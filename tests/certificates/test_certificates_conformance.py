"""What every certificate must do; a new certificate joins by one line in ``CERTIFICATES``."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trueboundary as tb
from trueboundary.attacks import Attack, DeepFool, NearestError
from trueboundary.certificates import (
    Certificate,
    Certified,
    EllipsoidCertificate,
    LinearCertificate,
    LipschitzMixtureCertificate,
    MixtureCertificate,
    RelaxationCertificate,
    Subject,
    SVMCertificate,
)
from trueboundary.classifiers import RBFSVM, LinearSVM, SphereBayes
from trueboundary.domains import Domain, Space, Sphere
from trueboundary.problems import MixtureProblem, Problem, planar_gaussian, planar_problem
from trueboundary.testing.certificates import check_certificate

PLANE = planar_problem("a")
CIRCLES, SPHERES = tb.ConcentricSpheres(2), tb.ConcentricSpheres(3)


def attacks(n_classes: int) -> tuple[Attack, ...]:
    """Return what to hold distances against, beside the rays: what climbs into each class costs."""
    return (NearestError() if n_classes <= 3 else DeepFool(),)


def relu(dim: int, dtype: torch.dtype) -> tb.ReLUNetwork:
    generator = torch.Generator().manual_seed(0)
    return tb.ReLUNetwork(dim, 16, 2, generator=generator, dtype=dtype).eval()


def quadratic(dim: int) -> tb.QuadraticNetwork:
    return tb.QuadraticNetwork(dim, 2 * dim, generator=torch.Generator().manual_seed(0)).double()


def sequence() -> nn.Sequential:
    (w1, b1), (w2, b2), (w3, b3) = relu(2, torch.float64).folded()
    layers: list[nn.Module] = []
    for weight, bias in ((w1, b1), (w2, b2), (torch.cat([w3, -w3]), torch.cat([b3, -b3]))):
        linear = nn.Linear(*weight.T.shape, device="meta").to_empty(device="cpu").double()
        linear.load_state_dict({"weight": weight, "bias": bias})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def layers(n_classes: int, *widths: int, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Return a network on the plane, linear without hidden layers."""
    generator = torch.Generator().manual_seed(n_classes)
    parts: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise((2, *widths, n_classes)):
        linear = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu").to(dtype)
        for parameter, size in ((linear.weight, 1.0), (linear.bias, 0.3)):
            nn.init.normal_(parameter, std=size, generator=generator)
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def seen(classifier: nn.Module, n: int = 24) -> tuple[Tensor, Tensor]:
    """Return points of the plane with the labels that a classifier gives, every eighth wrong."""
    dtype = next(classifier.parameters()).dtype
    x = 2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    logits = classifier(x)
    y = logits.argmax(dim=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    y[::8] = (y[::8] + 1) % max(2, logits.shape[1])
    return x, y


def rbf() -> RBFSVM:
    support = torch.tensor([[-2.0, 0.0], [2.0, 0.3], [0.0, 1.0]], dtype=torch.float64)
    return RBFSVM(support, torch.tensor([-1.0, 1.2, -0.3]), bias=0.1, gamma=0.3)


def spatial() -> MixtureProblem:
    from trueboundary.densities import MixtureOfFactorAnalyzers

    generator = torch.Generator().manual_seed(3)
    parts = [
        MixtureOfFactorAnalyzers(
            torch.tensor([0.3, 0.7], dtype=torch.float64),
            torch.randn(2, 3, generator=generator, dtype=torch.float64),
            0.5 * torch.randn(2, 3, 1, generator=generator, dtype=torch.float64),
            0.1,
        )
        for _ in range(2)
    ]
    return MixtureProblem(*parts)


def optimal(problem: MixtureProblem, *, hardest: bool = False) -> Any:
    return problem.bayes_classifier(dtype=torch.float64, hardest_component=hardest)


SPACE = spatial()
UNEQUAL = MixtureProblem(
    planar_gaussian((-1.0, 0.0), (1.0, 0.5), 1.2), planar_gaussian((1.0, 0.5), (1.0, 0.4))
)
# name: (certificate, classifier, what to draw points from)
CERTIFICATES: dict[str, tuple[Certificate, Any, Problem]] = {
    "linear machine": (SVMCertificate(), LinearSVM(torch.tensor([3.0, 1.0]), 0.2), PLANE),
    "linear machine in three dimensions": (
        SVMCertificate(),
        LinearSVM(torch.tensor([1.0, 2.0, -1.0]).double(), 0.3),
        SPHERES,
    ),
    "RBF machine": (SVMCertificate(), rbf(), PLANE),
    "ellipse": (EllipsoidCertificate(), quadratic(2), CIRCLES),
    "ellipsoid": (EllipsoidCertificate(), quadratic(3), SPHERES),
    "sphere": (EllipsoidCertificate(), SphereBayes(3, dtype=torch.float64), SPHERES),
    "cylinder": (EllipsoidCertificate(), tb.TruncatedSum(3, 2, 0.9, dtype=torch.float64), SPHERES),
    "ReLU network": (RelaxationCertificate(), relu(2, torch.float64), CIRCLES),
    "ReLU network in single precision": (RelaxationCertificate(), relu(3, torch.float32), SPHERES),
    "plain layers": (RelaxationCertificate(), sequence(), CIRCLES),
    "Gaussians": (MixtureCertificate(), optimal(UNEQUAL), UNEQUAL),
    "mixtures": (MixtureCertificate(), optimal(planar_problem("d")), planar_problem("d")),
    "mixtures with Gibbs": (MixtureCertificate(gibbs=True), optimal(SPACE), SPACE),
    "likeliest component": (MixtureCertificate(), optimal(SPACE, hardest=True), SPACE),
    "mixtures, Lipschitz": (LipschitzMixtureCertificate(), optimal(SPACE), SPACE),
    "likeliest component, Lipschitz": (
        LipschitzMixtureCertificate(),
        optimal(planar_problem("h"), hardest=True),
        planar_problem("h"),
    ),
}


@pytest.mark.parametrize(
    ("certificate", "classifier", "problem"), CERTIFICATES.values(), ids=CERTIFICATES
)
def test_conformance(certificate: Certificate, classifier: Any, problem: Problem) -> None:
    check_certificate(certificate, classifier, problem)


# ------------------------------------------------------------- certificates that are wrong

PLANE_SVM = LinearSVM(torch.tensor([3.0, 1.0]).double(), 0.2)


def true_distance(subject: Subject) -> tuple[Tensor, Tensor]:
    weight, margin = subject.classifier.weight, subject.classifier.margin(subject.x)
    nearest = subject.x - (margin / weight.square().sum())[:, None] * weight
    return margin.abs() / weight.norm(), nearest


def wrong(report: Callable[[Subject], Certified], *domains: type[Domain]) -> Certificate:
    class Wrong(Certificate):
        def certify(self, subject: Subject) -> Certified:
            return report(subject)

    Wrong.domains = domains or (Space,)
    return Wrong()


def right(subject: Subject) -> Certified:
    distance, nearest = true_distance(subject)
    return Certified(distance, distance > 0, nearest)


def too_large(subject: Subject) -> Certified:
    distance, _ = true_distance(subject)
    return Certified(1.01 * distance, distance < 0)


def too_small(subject: Subject) -> Certified:
    distance, nearest = true_distance(subject)
    nearest = subject.x + 0.99 * (nearest - subject.x)
    return Certified(0.99 * distance, distance > 0, nearest)


def nowhere(subject: Subject) -> Certified:
    distance, _ = true_distance(subject)
    return Certified(distance, distance > 0)


def of_the_batch(subject: Subject) -> Certified:
    distance, _ = true_distance(subject)
    return Certified(distance.min().expand_as(distance), distance < 0)


def of_the_first(subject: Subject) -> Certified:
    distance, _ = true_distance(subject)
    return Certified(distance * (1 - 0.01 * (subject.x[0, 0] > 0)), distance < 0)


def on_every_sphere(subject: Subject) -> Certified:
    distance, _ = true_distance(subject)
    factor = 1.5 if isinstance(subject.domain, Sphere) else 1.0
    return Certified(factor * distance, distance < 0)


def changing(subject: Subject) -> Certified:
    subject.classifier.bias.mul_(1.0001)
    return right(subject)


def nan(subject: Subject) -> Certified:
    distance, nearest = true_distance(subject)
    return Certified(distance * torch.nan, distance > 0, nearest)


class TrustsNaN(SVMCertificate):
    """Turns what is not finite into 0."""

    def __call__(self, classifier: Any, x: Any, y: Any, *, domain: Any = None) -> Any:
        return super().__call__(classifier, x.nan_to_num(0, 0, 0), y, domain=domain)


class IgnoresDomain(SVMCertificate):
    """Says of every domain what is true of space."""

    def __call__(self, classifier: Any, x: Any, y: Any, *, domain: Any = None) -> Any:
        return super().__call__(classifier, x, y)


class InSingle(SVMCertificate):
    """Answers in single precision."""

    def __call__(self, classifier: Any, x: Any, y: Any, *, domain: Any = None) -> Any:
        found = super().__call__(classifier, x, y, domain=domain)
        return type(found)(found.distance.float(), found.nearest, found.exact)


class HalvesErrors(SVMCertificate):
    """Is not sure of errors."""

    def __call__(self, classifier: Any, x: Any, y: Any, *, domain: Any = None) -> Any:
        found = super().__call__(classifier, x, y, domain=domain)
        return type(found)(found.distance, found.nearest, found.exact & (found.distance > 0))


WRONG = {
    "too large": (wrong(too_large), "excludes errors within"),
    "too small": (wrong(too_small), "but names no nearest error there"),
    "exact without a point": (wrong(nowhere), "but names no nearest error there"),
    "another batch": (wrong(of_the_batch), "must not matter"),
    "another order": (wrong(of_the_first), "must not matter"),
    "chords": (wrong(on_every_sphere, Space, Sphere), "on spheres: Wrong excludes errors within"),
    "changed model": (wrong(changing), "the classifier was not left as it was"),
    "NaN as 0": (TrustsNaN(), "a point with nan"),
    "any domain": (IgnoresDomain(), "in a box|on spheres|in a shell"),
    "single precision": (InSingle(), "must have shape .* torch.float64"),
    "errors that are not exact": (HalvesErrors(), "an error must have distance 0"),
}


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_conformance_of_linear_layers(n_classes: int, dtype: torch.dtype) -> None:
    rule = layers(n_classes, dtype=dtype)
    check_certificate(LinearCertificate(), rule, seen(rule), attacks=attacks(n_classes))
    check_certificate(LinearCertificate(), rule[1], seen(rule), attacks=(DeepFool(),))


@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("n_classes", [3, 5])
def test_conformance_of_optimal_classifiers(n_classes: int, hardest: bool) -> None:
    generator = torch.Generator().manual_seed(n_classes)
    means = 3 * torch.randn(n_classes, 2, generator=generator, dtype=torch.float64)
    problem = (
        planar_problem("three")
        if n_classes == 3
        else MixtureProblem(*(planar_gaussian(mean, (0.8, 0.3)) for mean in means.tolist()))
    )
    classifier = optimal(problem, hardest=hardest)
    n_points = 2 if n_classes == 3 else 1
    check_certificate(
        MixtureCertificate(), classifier, problem, n_points=n_points, attacks=attacks(n_classes)
    )
    check_certificate(
        LipschitzMixtureCertificate(), classifier, problem, n_points=n_points, attacks=()
    )


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_conformance_of_networks(n_classes: int) -> None:
    generator = torch.Generator().manual_seed(n_classes)
    normalised = tb.ReLUNetwork(
        2, 12, 2, n_classes=n_classes, generator=generator, dtype=torch.float64
    ).eval()
    for network in (layers(n_classes, 12, 8), normalised):
        x, y = seen(network)
        check_certificate(
            RelaxationCertificate(), network, (x[:12], y[:12]), attacks=attacks(n_classes)
        )


@pytest.mark.parametrize(("certificate", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_caught(certificate: Certificate, sentence: str) -> None:
    svm = LinearSVM(torch.tensor([3.0, 1.0]).double(), 0.2)
    with pytest.raises(AssertionError, match=sentence):
        check_certificate(certificate, svm, PLANE)


def test_what_is_right_is_not() -> None:
    check_certificate(wrong(right), PLANE_SVM, PLANE)


def test_a_certificate_that_reports_nonsense_is_named() -> None:
    x, y = torch.tensor([[-1.0, 0.0]]).double(), torch.tensor([0])
    with pytest.raises(ArithmeticError, match="Wrong reported a distance that is NaN"):
        wrong(nan)(PLANE_SVM, x, y)
    short = wrong(lambda s: Certified(torch.ones(3), torch.ones(1, dtype=torch.bool)))
    with pytest.raises(ArithmeticError, match="one distance for each of 1 points"):
        short(PLANE_SVM, x, y)
    beyond = wrong(lambda s: Certified(torch.full((1,), 9.0), s.y > 3, -s.x))
    with pytest.raises(ArithmeticError, match="excludes errors within 9 of point 0, but names one"):
        beyond(PLANE_SVM, x, y)


def test_a_certificate_of_spheres_alone_says_so() -> None:
    x, y = torch.tensor([[-1.0, 0.0]]).double(), torch.tensor([0])
    with pytest.raises(TypeError, match="Wrong proves distances on Sphere, got Space"):
        wrong(too_small, Sphere)(PLANE_SVM, x, y)
