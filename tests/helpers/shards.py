"""Parts of made-up rows that worker processes load by themselves."""

from dataclasses import dataclass

import numpy as np


def made_up_rows():
    """Return 330 rows of three noisy planes in five dimensions, float64."""
    rng = np.random.default_rng(7)
    parts = [
        rng.normal(size=(110, 2)) @ rng.normal(size=(2, 5))
        + 3 * rng.normal(size=5)
        + 0.2 * rng.normal(size=(110, 5))
        for _ in range(3)
    ]
    return rng.permutation(np.concatenate(parts))


@dataclass(frozen=True)
class LoadPart:
    """Loads one of `n_parts` parts of the rows."""

    part: int
    n_parts: int

    def __call__(self):
        return np.array_split(made_up_rows(), self.n_parts)[self.part]
