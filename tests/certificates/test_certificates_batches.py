"""Points certified a few at a time have the distances of all at once."""

import pytest
import torch

from trueboundary.certificates import EllipsoidCertificate, LinearCertificate, RelaxationCertificate
from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork, SoftmaxRegression
from trueboundary.domains import Space, Sphere
from trueboundary.measure import certified_distances
from trueboundary.problems import ConcentricSpheres

X, Y = ConcentricSpheres(dim=4).sample(7, seed=0, dtype=torch.float64)
LINEAR = SoftmaxRegression(4, 2, dtype=torch.float64)
with torch.no_grad():
    LINEAR.weight.copy_(torch.eye(2, 4))
CASES = {
    "ellipsoid on spheres of each point": (
        EllipsoidCertificate(), QuadraticNetwork(4, 8, seed=0, dtype=torch.float64), Sphere(),
    ),
    "ellipsoid on given spheres": (
        EllipsoidCertificate(),
        QuadraticNetwork(4, 8, seed=0, dtype=torch.float64),
        Sphere(X.norm(dim=1)),
    ),
    "network": (RelaxationCertificate(), ReLUNetwork(4, 8, 1, seed=0).double().eval(), Space()),
    "line": (LinearCertificate(), LINEAR, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_batches_change_nothing(case) -> None:
    certificate, classifier, domain = case
    whole = certificate(classifier, X, Y, domain=domain)
    parts = certificate(classifier, X, Y, domain=domain, batch_size=3)
    torch.testing.assert_close(parts.distance, whole.distance)
    torch.testing.assert_close(parts.nearest, whole.nearest, equal_nan=True)
    assert torch.equal(parts.exact, whole.exact)
    assert parts.warnings == whole.warnings


def test_no_more_points_are_asked_about_at_a_time() -> None:
    sizes: list[int] = []

    line = torch.nn.utils.skip_init(torch.nn.Linear, 4, 1).double()
    with torch.no_grad():
        line.weight.fill_(1.0)
        line.bias.fill_(0.0)

    class Counting(LinearCertificate):
        def certify(self, subject):
            sizes.append(len(subject.x))
            return super().certify(subject)

    Counting()(line, X, Y, batch_size=3)
    assert sizes == [3, 3, 1]


def test_the_registered_certificate_is_asked_in_batches_too() -> None:
    whole = certified_distances(LINEAR, X, Y)
    parts = certified_distances(LINEAR, X, Y, batch_size=2)
    torch.testing.assert_close(parts.distance, whole.distance)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        certified_distances(LINEAR, X, Y, batch_size=0)


def test_a_batch_has_points() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        LinearCertificate()(LINEAR, X, Y, batch_size=0)
