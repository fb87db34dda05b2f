"""What holds for every problem; a new problem joins by being listed."""

import json
from dataclasses import dataclass

import pytest
import torch

from trueboundary.attacks import Space
from trueboundary.classifiers import BinaryClassifier, TruncatedSum, margin
from trueboundary.problems import (
    ConcentricSpheres,
    OnlineStream,
    Problem,
    planar_problem,
    table_problem,
)


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


PROBLEMS = [
    ConcentricSpheres(2),
    ConcentricSpheres(50, 1.7),
    TwoGaussians(),
    planar_problem("a"),
    planar_problem("h"),
    table_problem("g"),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: str(problem.describe())[:60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestEveryProblem:
    def test_samples_have_the_shape_and_prior_that_it_says(self, problem, dtype, generator):
        n = 4000
        x, y = problem.sample(n, generator=generator, dtype=dtype)
        assert x.shape == (n, *problem.event_shape)
        assert x.dtype == dtype
        assert y.shape == (n,)
        assert y.dtype == torch.int64
        p = problem.prior
        assert abs(y.double().mean().item() - p) < 4 * (p * (1 - p) / n) ** 0.5

    def test_labelled_samples_are_those_of_their_class(self, problem, dtype, generator):
        n = 4000
        x, y = problem.sample(n, generator=generator, dtype=dtype)
        for label in (0, 1):
            alone = problem.sample_class(n, label, generator=generator, dtype=dtype)
            norms = [points.flatten(1).norm(dim=1) for points in (x[y == label], alone)]
            variances = [v.var() / len(v) for v in norms]
            spread = 1e-6 + 4 * sum(variances) ** 0.5
            assert (norms[0].mean() - norms[1].mean()).abs() < spread

    def test_samples_lie_in_the_domain_of_their_class(self, problem, dtype, generator):
        for label in (0, 1):
            x = problem.sample_class(20, label, generator=generator, dtype=dtype)
            assert problem.domain(label).bind(x).contains(x).all()

    def test_blocks_are_labelled_samples_of_the_right_number(self, problem, dtype):
        sizes = [len(y) for _, y in problem.blocks(250, seed=0, block_size=100, dtype=dtype)]
        assert sizes == [100, 100, 50]

    def test_the_bayes_classifier_is_a_classifier(self, problem, dtype, generator):
        classifier = problem.bayes_classifier(dtype=dtype)
        assert isinstance(classifier, BinaryClassifier)
        x, _ = problem.sample(10, generator=generator, dtype=dtype)
        assert margin(classifier, x).dtype == dtype

    def test_no_shifted_classifier_beats_the_bayes_classifier(self, problem, dtype):
        x, y = next(problem.blocks(8192, seed=0, dtype=dtype))
        m = problem.bayes_classifier(dtype=dtype).margin(x)
        error = ((m > 0) != y).double().mean()
        for shift in (-2.0, -0.5, 0.5, 2.0):  # in standard deviations of the margin
            shifted = ((m > shift * m.std()) != y).double().mean()
            assert error <= shifted
            assert error < shifted or abs(shift) < 1  # where classes are apart, small shifts pass

    def test_it_is_described_by_plain_values(self, problem, dtype):
        description = problem.describe()
        assert json.loads(json.dumps(description)) == description
        assert description["problem"] == type(problem).__name__
        assert hash(problem) == hash(problem)
        assert OnlineStream(problem, 10, seed=0, dtype=dtype).batch(0)[0].dtype == dtype
