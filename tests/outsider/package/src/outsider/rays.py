"""An attack without gradients."""

from dataclasses import dataclass

import torch

from trueboundary.attacks import Attack, Search, Target
from trueboundary.domains import unit


@dataclass(frozen=True)
class RandomRays(Attack):
    """The nearest error on random rays."""

    n_rays: int = 16
    n_lengths: int = 16
    farthest: float = 2.5

    def search(self, target: Target) -> Search:
        endpoint = target.x.clone()  # (n, *event)
        nearest = target.filled(torch.inf)  # (n,)
        for ray in range(self.n_rays):
            direction = unit(target.domain.tangent(target.x, target.noise(ray)))
            for step in range(1, self.n_lengths + 1):
                length = torch.full_like(nearest, self.farthest * step / self.n_lengths)
                points = target.domain.move(target.x, direction, length)
                distance = target.domain.distance(target.x, points)
                nearer = (target.wrongness(points) > 0) & (distance < nearest)
                endpoint[nearer], nearest[nearer] = points[nearer], distance[nearer]
        return Search.of(endpoint, nearest.isfinite())
