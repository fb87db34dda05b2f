"""A classifier of one's own, and the exact distance to its nearest error."""

import torch
from torch import Tensor

from trueboundary.certificates import Certificate, Certified, Subject
from trueboundary.classifiers import BinaryClassifier
from trueboundary.measure import register_certificate


class Octahedron(BinaryClassifier):
    """Class 0 is where the absolute values of the coordinates sum to less than a radius."""

    radius: Tensor

    def __init__(self, radius: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.register_buffer("radius", torch.tensor(radius, dtype=dtype))

    def margin(self, x: Tensor) -> Tensor:
        return (x.flatten(1).abs().sum(1) - self.radius) / 2


@register_certificate(Octahedron)
class OctahedronCertificate(Certificate):
    """The nearest face from inside, the projection onto the octahedron from outside."""

    def certify(self, subject: Subject) -> Certified:
        if not isinstance(subject.classifier, Octahedron):
            name = type(subject.classifier).__name__
            raise TypeError(f"OctahedronCertificate needs an Octahedron, got {name}.")
        x = subject.x.flatten(1)  # (n, d)
        radius, size, dim = subject.classifier.radius.double(), x.abs(), x.shape[1]
        gap = radius - size.sum(1)  # (n,), positive inside
        # From inside every coordinate moves away from 0 by as much. From outside the largest
        # coordinates move towards 0 by as much, as far as 0.
        largest = size.sort(dim=1, descending=True).values
        shift = (largest.cumsum(1) - radius) / torch.arange(1, dim + 1).to(x)  # (n, d)
        shift = torch.where(gap > 0, -gap / dim, shift.amax(1))
        sign = torch.where(x < 0, -1.0, 1.0).to(x)
        nearest = sign * (size - shift[:, None]).clamp(min=0)
        return Certified((nearest - x).norm(dim=1), torch.ones_like(gap, dtype=torch.bool), nearest)
