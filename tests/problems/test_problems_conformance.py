"""Our problems do what every problem must; a new one joins by being listed."""

from dataclasses import dataclass

import pytest
import torch

from trueboundary.attacks import Space
from trueboundary.classifiers import TruncatedSum
from trueboundary.densities import MixtureOfFactorAnalyzers
from trueboundary.problems import (
    ConcentricSpheres,
    MixtureProblem,
    OnlineStream,
    Problem,
    planar_problem,
    table_problem,
)
from trueboundary.testing import check_problem


@dataclass(frozen=True)
class TwoGaussians(Problem):
    """The smallest problem there is: what a subclass must write, and a prior of its own."""

    event_shape = (2,)
    prior = 0.3

    def sample_class(self, n, label, *, generator, dtype=torch.float32, device=None):
        noise = torch.randn((n, 2), generator=generator, dtype=dtype, device=generator.device)
        return (1.0 + 3.0 * label) * noise

    def bayes_classifier(self, *, dtype=torch.float32):
        # Equal densities of two centred normals, weighted by the prior, at this squared norm.
        threshold = 2 * torch.tensor(16 * 0.7 / 0.3).log() / (1 - 1 / 16)
        return TruncatedSum(2, 2, float(threshold), dtype=dtype)

    def domain(self, label):
        return Space()

    def describe(self):
        return {"problem": "TwoGaussians"}


def ten_mixtures():
    """Ten classes of one to three components in five dimensions, some rare."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return MixtureProblem(
        *(
            MixtureOfFactorAnalyzers(numbers(n).softmax(0), numbers(n, 5), numbers(n, 5, 2), 0.04)
            for n in (1, 2, 3, 1, 2, 3, 1, 2, 3, 1)
        ),
        prior=[0.04, 0.06] * 3 + [0.2, 0.15, 0.3, 0.05],
    )


PROBLEMS = [
    ConcentricSpheres(2),
    ConcentricSpheres(50, 1.7),
    TwoGaussians(),
    planar_problem("a"),
    planar_problem("h"),
    table_problem("g"),
    planar_problem("three"),
    table_problem("three", size=30),
    ten_mixtures(),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: str(problem.describe())[:60])
def test_it_does_what_every_problem_must(problem):
    check_problem(problem)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: str(problem.describe())[:60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_can_be_streamed_and_kept_in_a_dictionary(problem, dtype):
    assert hash(problem) == hash(problem)
    assert OnlineStream(problem, 10, seed=0, dtype=dtype).batch(0)[0].dtype == dtype


def test_points_of_another_shape_or_dtype_are_refused():
    class Flat(TwoGaussians):
        def sample_class(self, n, label, **options):
            return super().sample_class(n, label, **options)[:, 0]

    with pytest.raises(ValueError, match=r"Flat\.sample_class to draw points of shape \(\d, 2\)"):
        Flat().sample(8, generator=torch.Generator().manual_seed(0))
