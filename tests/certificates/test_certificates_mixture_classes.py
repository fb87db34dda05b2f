"""Optimal classifiers of three classes and more: against brute force, and against their pairs."""

import math

import numpy as np
import pytest
import torch

from trueboundary.certificates import (
    LipschitzMixtureCertificate,
    MixtureCertificate,
    bracket,
)
from trueboundary.classifiers import BayesOptimal, wrongness
from trueboundary.densities import LowRankGaussian, MixtureOfFactorAnalyzers
from trueboundary.problems import MixtureProblem, planar_problem

DOUBLE = torch.float64
ROUNDING = 1e-11  # of log densities, by which batches of another size may differ


def gaussian(mean, std, dim=2):
    centre = torch.tensor(mean, dtype=DOUBLE)
    return LowRankGaussian(centre, torch.zeros(dim, 0, dtype=DOUBLE), std**2)


def mixture(seed, *, n_components=2, dim=2, noise=0.05, spread=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=DOUBLE)

    return MixtureOfFactorAnalyzers(
        normal(n_components).softmax(0),
        spread * normal(n_components, dim),
        0.4 * normal(n_components, dim, 1),
        noise,
    )


def of_circle(n, std=0.6):
    """Return n spherical Gaussians on a circle, whose classes meet in its centre."""
    turns = [2 * math.pi * k / n for k in range(n)]
    return [gaussian((math.cos(turn), math.sin(turn)), std) for turn in turns]


PROBLEMS = {
    "three": planar_problem("three"),
    "three mixtures": MixtureProblem(*(mixture(seed) for seed in range(3))),
    "six mixtures": MixtureProblem(*(mixture(s, spread=3.0, noise=0.1) for s in range(6))),
    "meeting in a point": MixtureProblem(*of_circle(3)),
    # Class 2 is as class 1 but rarer: it wins nowhere, and yet it beats class 0 in places.
    "a class that wins nowhere": MixtureProblem(
        gaussian((-1.0, 0.0), 0.5),
        gaussian((1.0, 0.0), 0.5),
        gaussian((1.0, 0.0), 0.5),
        prior=[0.4, 0.4, 0.2],
    ),
    "a rival that beats the own class behind a third": MixtureProblem(
        gaussian((0.0, 0.0), 0.7), gaussian((1.6, 0.0), 0.4), gaussian((2.5, 0.5), 0.9)
    ),
    "priors far apart": MixtureProblem(
        gaussian((-1.0, 0.0), 0.6),
        gaussian((1.0, 0.0), 0.6),
        gaussian((0.0, 1.5), 0.6),
        prior=[1 - 1e-3 - 1e-9, 1e-3, 1e-9],
    ),
    "widths far apart": MixtureProblem(
        gaussian((0.0, 0.0), 2.0), gaussian((1.0, 0.0), 0.1), gaussian((-1.0, 0.5), 0.02)
    ),
}


def points_of(problem, n=None):
    """Return points of every class and their labels, wrong ones among them."""
    n = (4 if problem.n_classes == 3 else 2) if n is None else n
    drawn = [
        problem.sample_class(n, label, generator=torch.Generator().manual_seed(label), dtype=DOUBLE)
        for label in range(problem.n_classes)
    ]
    return torch.cat(drawn), torch.arange(problem.n_classes).repeat_interleave(n)


def first_error(classifier, x, label, reach, *, n_directions=360, n_steps=250):
    """Return the smallest distance at which a fan of rays meets an error, and the rays' spacing."""
    angle = torch.arange(n_directions, dtype=DOUBLE) * (2 * math.pi / n_directions)
    directions = torch.stack([angle.cos(), angle.sin()], dim=1)
    radii = torch.linspace(0, reach, n_steps, dtype=DOUBLE)
    rays = (x + radii[:, None, None] * directions).reshape(-1, 2)
    errors = wrongness(classifier, rays, torch.full((len(rays),), label)) >= 0
    met = errors.reshape(n_steps, n_directions).any(1).nonzero()
    return float(radii[met[0, 0]]) if len(met) else math.inf


@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_bounds_hold_the_truth_in_the_plane(name, hardest):
    problem = PROBLEMS[name]
    classifier = problem.bayes_classifier(dtype=DOUBLE, hardest_component=hardest)
    x, y = points_of(problem)
    found = bracket(classifier, x, y)
    proven = MixtureCertificate()(classifier, x, y)
    cheap = LipschitzMixtureCertificate()(classifier, x, y)
    assert found.upper.isfinite().all()
    assert bool((found.lower <= found.upper).all())
    assert bool((cheap.distance <= proven.distance * (1 + 1e-12)).all())
    is_error = wrongness(classifier, x, y) >= 0
    assert torch.equal(is_error, found.upper == 0)
    assert torch.equal(is_error, proven.distance == 0)
    for i in (~is_error).nonzero().squeeze(1).tolist():
        upper = float(found.upper[i])
        truth = first_error(classifier, x[i], int(y[i]), 1.05 * upper)
        step = 1.05 * upper / 249
        for lower in (found.lower[i], proven.distance[i], cheap.distance[i]):
            assert lower <= truth
        # Rays one degree apart miss the nearest error by little, local searches by a little more.
        assert upper <= 1.02 * truth + step
        if proven.exact[i]:
            assert truth <= proven.distance[i] * (1 + 1e-3) + step
    assert bool((wrongness(classifier, found.point, y) >= -ROUNDING).all())
    torch.testing.assert_close((found.point - x).norm(dim=1), found.upper, rtol=1e-12, atol=1e-15)
    width = 1 - found.lower / found.upper.clamp(min=1e-300)
    assert width[~is_error].median() < (1e-9 if hardest else 0.02)


@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_nearest_error_is_that_of_the_nearest_pair(name, hardest):
    problem = PROBLEMS[name]
    classifier = problem.bayes_classifier(dtype=DOUBLE, hardest_component=hardest)
    x, y = points_of(problem)
    found = bracket(classifier, x, y)
    for label in range(problem.n_classes):
        rows = (y == label).nonzero().squeeze(1)
        rivals = [c for c in range(problem.n_classes) if c != label]
        pairs = [
            bracket(classifier.pair(label, c), x[rows], torch.zeros(len(rows), dtype=torch.long))
            for c in rivals
        ]
        lower = torch.stack([pair.lower for pair in pairs]).min(dim=0)
        upper = torch.stack([pair.upper for pair in pairs])
        # Either may try a few pairs of components more.
        torch.testing.assert_close(found.lower[rows], lower.values, rtol=1e-3, atol=1e-12)
        torch.testing.assert_close(
            found.upper[rows], upper.min(dim=0).values, rtol=1e-2, atol=1e-12
        )
        # The class on the other side is that of a pair whose error is as near.
        for place, row in enumerate(rows.tolist()):
            if found.upper[row] > 0:
                other = rivals.index(int(found.other[row]))
                assert upper[other, place] <= found.upper[row] * (1 + 1e-2)


@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("n_classes", [3, 10])
def test_single_gaussians_are_exact(n_classes, hardest):
    densities = of_circle(n_classes, std=0.3)
    problem = MixtureProblem(*densities)
    classifier = problem.bayes_classifier(dtype=DOUBLE, hardest_component=hardest)
    x, y = points_of(problem)
    found = MixtureCertificate()(classifier, x, y)
    means = torch.stack([density.mean for density in densities])
    # Of equal spherical Gaussians the nearest mean wins: half-planes, in closed form.
    for point, label, distance, exact in zip(x, y, found.distance, found.exact, strict=True):
        own = means[label]
        others = torch.cat([means[:label], means[label + 1 :]])
        gap = others - own
        away = ((point - others).square().sum(1) - (point - own).square().sum()) / 2
        expected = float((away / gap.norm(dim=1)).min().clamp(min=0))
        assert float(distance) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert exact


def test_where_three_classes_meet():
    classifier = PROBLEMS["meeting in a point"].bayes_classifier(dtype=DOUBLE)
    near = torch.tensor([[1e-6, 0.0], [1e-9, 1e-10], [0.0, 0.0]], dtype=DOUBLE)
    found = bracket(classifier, near, torch.zeros(3, dtype=torch.long))
    expected = [1e-6 * math.sin(math.pi / 3)]
    expected.append(1e-9 * math.sin(math.pi / 3) - 1e-10 * math.cos(math.pi / 3))
    np.testing.assert_allclose(found.lower[:2], expected, rtol=1e-5)
    np.testing.assert_allclose(found.upper[:2], expected, rtol=1e-5)
    assert found.upper[2] < 1e-15  # the centre, up to the rounding of the means


def test_a_class_of_its_own_far_away_changes_nothing():
    two = planar_problem("d")
    far = gaussian((400.0, 0.0), 0.3)
    three = BayesOptimal(*two.densities, far, prior=[0.5 - 5e-13, 0.5 - 5e-13, 1e-12])
    x, y = points_of(two, n=10)
    for gibbs in (False, True):
        alone, beside = (
            bracket(classifier, x, y, gibbs=gibbs)
            for classifier in (two.bayes_classifier(dtype=DOUBLE), three)
        )
        torch.testing.assert_close(beside.lower, alone.lower, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(beside.upper, alone.upper, rtol=1e-10, atol=1e-13)
        assert torch.equal(beside.other, alone.other)
    assert torch.equal(alone.other, 1 - y)


def test_a_class_without_an_error_anywhere_has_no_class_on_the_other_side():
    # A broad class of great weight is likelier than a narrow one of the same centre everywhere.
    classifier = BayesOptimal(
        gaussian((0.0, 0.0), 1.0),
        gaussian((0.0, 0.0), 0.9),
        gaussian((0.1, 0.0), 0.9),
        prior=[0.98, 0.01, 0.01],
    )
    x = torch.tensor([[0.3, 0.1]], dtype=DOUBLE)
    found = bracket(classifier, x, torch.tensor([0]))
    assert found.lower.isinf().all()
    assert found.upper.isinf().all()
    assert found.exact.all()
    assert found.other.tolist() == [-1]
    assert MixtureCertificate()(classifier, x, torch.tensor([0])).distance.isinf().all()


def test_many_dimensions_and_components_have_narrow_brackets():
    problem = MixtureProblem(
        *(mixture(s, n_components=4, dim=40, spread=0.5, noise=0.02) for s in range(4)),
        prior=[0.4, 0.3, 0.2, 0.1],
    )
    classifier = problem.bayes_classifier(dtype=DOUBLE)
    x, y = points_of(problem, n=6)
    found = bracket(classifier, x, y)
    right = found.upper > 0
    width = 1 - found.lower[right] / found.upper[right]
    assert width.median() < 1e-6
    assert bool((wrongness(classifier, found.point, y) >= -ROUNDING).all())


def test_what_makes_no_sense_is_refused():
    classifier = planar_problem("three").bayes_classifier(dtype=DOUBLE)
    x = torch.zeros(1, 2, dtype=DOUBLE)
    for call in (bracket, MixtureCertificate(), LipschitzMixtureCertificate()):
        with pytest.raises(ValueError, match="labels from 0 to 2, got"):
            call(classifier, x, torch.tensor([3]))

    class Shifted(BayesOptimal):
        def outputs(self, x):
            return super().outputs(x) + torch.tensor([0.0, 0.0, 1.0])

    with pytest.raises(TypeError, match="a subclass of BayesOptimal"):
        bracket(Shifted(*classifier.densities), x, torch.tensor([0]))


@pytest.mark.parametrize("gibbs", [False, True])
def test_random_classes_of_unlike_shapes(gibbs):
    """Numbers of components and factors, noises and priors differ between the classes."""
    ratios = []
    for seed in range(2):  # one noise for all coordinates, and one each
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape, generator=generator):
            return torch.randn(shape, generator=generator, dtype=DOUBLE)

        densities = [
            MixtureOfFactorAnalyzers(
                normal(size).softmax(0),
                normal(size, 3),
                0.5 * normal(size, 3, n_factors),
                0.02 + 0.1 * normal(size, 3).square() if seed % 2 else 0.05,
            )
            for size, n_factors in ((3, 1), (4, 2), (1, 0), (2, 1))
        ]
        classifier = BayesOptimal(*densities, prior=[0.1, 0.2, 0.3, 0.4])
        x = torch.cat([density.sample((5,), generator=generator) for density in densities])
        y = torch.arange(4).repeat_interleave(5)
        found = MixtureCertificate(gibbs=gibbs)(classifier, x, y)
        around = normal(20, 2000, 3)
        around /= around.norm(dim=2, keepdim=True)
        share = torch.rand(20, 2000, 1, generator=generator, dtype=DOUBLE) ** (1 / 3)
        seen = x[:, None] + found.distance[:, None, None] * share * around
        wrong = wrongness(classifier, seen.reshape(-1, 3), y.repeat_interleave(2000)) > 0
        assert not wrong.reshape(20, 2000)[found.distance > 0].any()
        for label in range(4):
            rows = (y == label).nonzero().squeeze(1)
            own = torch.zeros(len(rows), dtype=torch.long)
            pairs = [
                MixtureCertificate(gibbs=gibbs)(classifier.pair(label, c), x[rows], own).distance
                for c in range(4)
                if c != label
            ]
            least = torch.stack(pairs).min(dim=0).values
            ratios.append(found.distance[rows][least > 0] / least[least > 0])
    # All at once and pair by pair try the same blends, but for a few.
    ratio = torch.cat(ratios)
    assert (ratio > 0.99).all()
    assert ratio.median() == pytest.approx(1, abs=1e-9)


def test_an_error_of_a_class_behind_one_that_never_wins_is_found():
    """The nearest components are all of class 2, whose sum wins only far away."""
    classifier = BayesOptimal(
        MixtureOfFactorAnalyzers(torch.tensor([1.0]).double(), *_line([2.54], [0.11])),
        MixtureOfFactorAnalyzers(
            torch.tensor([0.3, 0.5, 0.2]).double(),
            *_line([0.0, -0.02, -0.015], [14.0, 34.0, 0.013]),
        ),
        MixtureOfFactorAnalyzers(
            torch.tensor([0.6, 0.26, 0.14]).double(),
            *_line([0.01, -0.01, 0.0], [123.0, 0.33, 5e-4]),
        ),
        prior=(0.4, 0.5, 0.1),
    )
    x = torch.tensor([[-0.1]], dtype=torch.float64)
    near = bracket(classifier, x, torch.tensor([1]))
    steps = torch.arange(1, 60_000, dtype=torch.float64)[:, None] * 1e-4
    wrong = classifier.predict(torch.cat([x - steps, x + steps])).reshape(2, -1) != 1
    truth = 1e-4 * (1 + int(wrong.any(0).long().argmax()))
    assert 1.5 < truth < 2.5
    assert near.lower[0] <= truth
    assert near.upper[0] == pytest.approx(truth, abs=2e-4)
    assert near.other.tolist() == [0]


def _line(means, variances):
    """Return means, no factors and noise variances of components on a line."""
    n = len(means)
    means = torch.tensor(means, dtype=torch.float64)[:, None]
    noise = torch.tensor(variances, dtype=torch.float64)[:, None]
    return means, torch.zeros(n, 1, 0, dtype=torch.float64), noise
