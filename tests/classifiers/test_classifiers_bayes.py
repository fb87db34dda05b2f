"""The optimal classifier against dense densities; its storage, precision and conversions."""

import copy
import json
import math

import mpmath
import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from trueboundary.certificates import bracket
from trueboundary.classifiers import BayesOptimal, from_arrays, margin, to_arrays
from trueboundary.densities import (
    DiscreteTable,
    LowRankGaussian,
    MixtureOfFactorAnalyzers,
    UniformSphere,
)
from trueboundary.problems import MixtureProblem


def mixture(seed, n_components=3, dim=5, noise_std=0.3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    return MixtureOfFactorAnalyzers(
        normal(n_components).softmax(0),
        normal(n_components, dim),
        0.5 * normal(n_components, dim, 2),
        noise_std**2,
    )


def gaussian(seed, dim=5):
    return mixture(seed, 1, dim).component(0)


def table(seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    return DiscreteTable(weights / weights.sum())


PAIRS = {
    "mixtures": (mixture(0), mixture(1, n_components=2)),
    "gaussians": (gaussian(2), gaussian(3)),
    "one of each": (gaussian(4), mixture(5)),
    "tables": (table(6), table(7)),
}


def points(n=20, dim=5, seed=8):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_log_joint(density, x):
    parts = [
        MultivariateNormal(density.means[k], density.component(k).covariance_matrix).log_prob(x)
        + density.log_weights[k]
        for k in range(density.n_components)
    ]
    return torch.stack(parts, dim=1)


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_margin_is_the_log_posterior_odds(prior):
    zero, one = PAIRS["mixtures"]
    x = points()
    odds = math.log(prior / (1 - prior))
    joint_0, joint_1 = dense_log_joint(zero, x), dense_log_joint(one, x)
    classifier = BayesOptimal(zero, one, prior=prior)
    expected = joint_1.logsumexp(1) - joint_0.logsumexp(1) + odds
    torch.testing.assert_close(classifier.margin(x), expected, rtol=1e-10, atol=1e-10)
    hardest = BayesOptimal(zero, one, prior=prior, hardest_component=True)
    expected = joint_1.amax(1) - joint_0.amax(1) + odds
    torch.testing.assert_close(hardest.margin(x), expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(hardest.margin(x), classifier.margin(x))


def test_component_gap_is_that_of_the_best_components():
    zero, one = PAIRS["mixtures"]
    x, y = points(), torch.arange(20) % 2
    gap = BayesOptimal(zero, one).component_gap(x, y)
    best_0, best_1 = dense_log_joint(zero, x).amax(1), dense_log_joint(one, x).amax(1)
    expected = torch.where(y == 1, best_1 - best_0, best_0 - best_1)
    torch.testing.assert_close(gap, expected, rtol=1e-10, atol=1e-10)


def test_the_gradient_of_the_gap_is_that_of_two_components():
    zero, one = PAIRS["mixtures"]
    x = points(6).requires_grad_()
    gap = BayesOptimal(zero, one).component_gap(x, torch.zeros(6, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(gap.sum(), x)
    with torch.no_grad():
        scores = [
            torch.stack([d.component(int(k)).score(p) for k, p in zip(best, x, strict=True)])
            for d, best in ((zero, zero.map_component(x)), (one, one.map_component(x)))
        ]
    torch.testing.assert_close(gradient, scores[0] - scores[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mixtures", "gaussians", "one of each"])
def test_the_gradient_of_the_margin_is_the_difference_of_scores(name):
    zero, one = PAIRS[name]
    x = points().requires_grad_()
    (gradient,) = torch.autograd.grad(BayesOptimal(zero, one).margin(x).sum(), x)
    expected = one.score(x.detach()) - zero.score(x.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


def test_float32_margins_of_a_million_nats():
    """At a noise of 0.001 margins are huge, and yet they keep their relative accuracy."""
    zero, one = (mixture(s, dim=50, noise_std=1e-3) for s in (0, 1))
    x = zero.sample((10,), generator=torch.Generator().manual_seed(0)).float()
    exact = BayesOptimal(zero, one).margin(x)
    single = BayesOptimal(zero.to(dtype=torch.float32), one.to(dtype=torch.float32)).margin(x)
    assert single.dtype == torch.float32
    assert exact.abs().min() > 1e6
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=0.05)


def test_images_are_flattened():
    zero, one = (mixture(s, dim=12) for s in (0, 1))
    x = points(dim=12)
    classifier = BayesOptimal(zero, one)
    assert torch.equal(classifier.margin(x.reshape(20, 3, 2, 2)), classifier.margin(x))


def test_tables_and_points_that_neither_can_give():
    zero, one = PAIRS["tables"]
    classifier = BayesOptimal(zero, one)
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0], [9.0, 9.0]])
    log_odds = (one.probabilities / zero.probabilities).log()
    expected = torch.stack([log_odds[0, 1], log_odds[2, 3]])
    torch.testing.assert_close(classifier.margin(x)[:2], expected)
    assert classifier.margin(x)[2] == 0


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_storage_round_trip(name, dtype):
    classifier = BayesOptimal(*PAIRS[name], prior=0.3, hardest_component=True).to(dtype)
    spec, arrays = to_arrays(classifier)
    again = from_arrays(json.loads(json.dumps(spec)), arrays)
    assert isinstance(again, BayesOptimal)
    assert (again.prior, again.hardest_component) == (0.3, True)
    x = torch.tensor([[0.0, 1.0]] * 2) if name == "tables" else points().to(dtype)
    assert again.margin(x).dtype == dtype
    torch.testing.assert_close(again.margin(x), classifier.margin(x), rtol=1e-6, atol=1e-6)


def test_conversions_and_copies_keep_the_densities_in_step():
    classifier = BayesOptimal(*PAIRS["mixtures"])
    x = points()
    expected = classifier.margin(x)
    double = copy.deepcopy(classifier)
    classifier.float()
    assert classifier.margin(x.float()).dtype == classifier.densities[0].dtype == torch.float32
    torch.testing.assert_close(
        classifier.margin(x.float()).double(), expected, rtol=1e-4, atol=1e-4
    )
    assert torch.equal(double.margin(x), expected)
    inside = torch.nn.Sequential(copy.deepcopy(double))
    other = BayesOptimal(mixture(11), mixture(12, n_components=2))
    inside.load_state_dict({f"0.{k}": v for k, v in other.state_dict().items()})
    torch.testing.assert_close(margin(inside, x), other.margin(x))


def test_it_is_a_classifier_like_any_other():
    classifier = BayesOptimal(*PAIRS["gaussians"])
    assert not any(p.requires_grad for p in classifier.parameters())
    assert classifier(points()).shape == (20, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((UniformSphere(5), gaussian(0)), {}, TypeError, "density_0 must be a"),
        ((gaussian(0), gaussian(1).to(dtype=torch.float32)), {}, TypeError, "convert one"),
        ((gaussian(0), gaussian(1, dim=4)), {}, ValueError, "do not share a space"),
        ((gaussian(0, dim=2), table(0)), {}, ValueError, "do not share a space"),
        ((table(0), DiscreteTable(torch.ones(1, 1).double())), {}, ValueError, "share a space"),
        (PAIRS["gaussians"], {"prior": 1.0}, ValueError, "prior must lie strictly"),
        (PAIRS["gaussians"], {"prior": 0.0}, ValueError, "prior"),
        ((gaussian(0),), {}, ValueError, "a density for each of two or more classes"),
        ((*PAIRS["gaussians"], gaussian(1, dim=4)), {}, ValueError, "do not share a space"),
        ((*PAIRS["gaussians"], UniformSphere(5)), {}, TypeError, "density_2 must be a"),
        (PAIRS["gaussians"], {"prior": (0.2, 0.3, 0.5)}, ValueError, "expected 2 priors"),
        ((*PAIRS["mixtures"], gaussian(0)), {"prior": 0.5}, ValueError, "expected 3 priors, one"),
        ((*PAIRS["mixtures"], gaussian(0)), {"prior": (0.5, 0.5)}, ValueError, "expected 3 pri"),
        (
            (*PAIRS["mixtures"], gaussian(0)),
            {"prior": (0.7, 0.7, -0.4)},
            ValueError,
            "prior must be a finite number above 0, got -0.4",
        ),
        (
            (*PAIRS["mixtures"], gaussian(0)),
            {"prior": (0.5, 0.25, 0.1)},
            ValueError,
            "priors that add up to 1, got a sum of 0.85",
        ),
    ],
)
def test_bad_densities_and_priors_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        BayesOptimal(*arguments, **options)


def test_bad_points_and_labels_are_named():
    classifier = BayesOptimal(*PAIRS["gaussians"])
    with pytest.raises(ValueError, match=r"shape \(..., 5\)"):
        classifier.margin(points(dim=4))
    with pytest.raises(TypeError, match="convert the points"):
        classifier.float().margin(points())
    for y, message in (
        (torch.zeros(3, dtype=torch.int64), "20 labels"),
        (torch.full((20,), 2), r"expected labels 0 and 1, got \[2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.component_gap(points().float(), y)


def test_low_rank_gaussians_count_as_one_component():
    zero, one = PAIRS["gaussians"]
    assert isinstance(zero, LowRankGaussian)
    classifier = BayesOptimal(zero, one)
    y = torch.ones(20, dtype=torch.int64)
    assert torch.equal(classifier.component_gap(points(), y), classifier.margin(points()))


THREE = (mixture(0), mixture(1, n_components=2), mixture(5))
PRIORS = (0.2, 0.5, 0.3)
TEN = tuple(mixture(k, n_components=1 + k % 4) for k in range(10))


def log_posteriors(densities, priors, x, combine):
    """Return normalised log posteriors from dense covariances."""
    joint = [
        combine(dense_log_joint(d, x)) + math.log(p) for d, p in zip(densities, priors, strict=True)
    ]
    return torch.stack(joint, 1).log_softmax(1)


class TestManyClasses:
    @pytest.mark.parametrize("hardest", [False, True])
    @pytest.mark.parametrize(("densities", "prior"), [(THREE, PRIORS), (TEN, None)])
    def test_logits_are_log_posteriors(self, densities, prior, hardest):
        x = points()
        classifier = BayesOptimal(*densities, prior=prior, hardest_component=hardest)
        logits = classifier.outputs(x)
        priors = [0.1] * 10 if prior is None else prior
        combine = (lambda j: j.amax(1)) if hardest else (lambda j: j.logsumexp(1))
        expected = log_posteriors(densities, priors, x, combine)
        torch.testing.assert_close(logits.log_softmax(1), expected, rtol=1e-10, atol=1e-10)
        assert (logits.amax(1) == 0).all()
        assert torch.equal(classifier(x), logits)

    def test_two_of_three_are_the_two_alone(self):
        """What the margin of a pair says, the logits of three classes say of the pair."""
        x = points()
        classifier = BayesOptimal(*THREE, prior=PRIORS)
        logits = classifier.outputs(x)
        for own, other in ((0, 1), (1, 0), (2, 0), (1, 2)):
            pair = classifier.pair(own, other)
            share = PRIORS[other] / (PRIORS[own] + PRIORS[other])
            assert pair.prior == pytest.approx(share)
            two = BayesOptimal(THREE[own], THREE[other], prior=share)
            assert torch.equal(pair.margin(x), two.margin(x))
            difference = logits[:, other] - logits[:, own]
            torch.testing.assert_close(pair.margin(x), difference, rtol=1e-12, atol=1e-12)
        two = BayesOptimal(*PAIRS["mixtures"], prior=0.3)
        assert torch.equal(two.pair(0, 1).margin(x), two.margin(x))
        with pytest.raises(ValueError, match="two different classes from 0 to 2, got 1 and 1"):
            classifier.pair(1, 1)

    def test_a_class_that_hardly_exists_changes_nothing(self):
        zero, one = PAIRS["mixtures"]
        x = points()
        three = BayesOptimal(zero, one, mixture(9), prior=(0.7 - 1e-200, 0.3, 1e-200))
        margin_of_two = BayesOptimal(zero, one, prior=0.3).margin(x)
        logits = three.outputs(x)
        torch.testing.assert_close(logits[:, 1] - logits[:, 0], margin_of_two)
        assert torch.equal(three.predict(x), (margin_of_two > 0).long())

    @pytest.mark.parametrize("rare", [1e-12, 1e-20])
    def test_a_rare_class_keeps_its_digits_in_pairs(self, rare):
        """One less a probability next to 1 would have lost those of the other."""
        x = points()
        three = BayesOptimal(*THREE, prior=(rare, 1 - 2 * rare, rare))
        logits = three.outputs(x)
        for own, other in ((0, 1), (1, 0), (2, 1)):
            pair = three.pair(own, other)
            difference = logits[:, other] - logits[:, own]
            torch.testing.assert_close(pair.margin(x), difference, rtol=1e-12, atol=1e-12)
            again = from_arrays(*to_arrays(pair))
            assert torch.equal(again.margin(x), pair.margin(x))
        two = MixtureProblem(*THREE[:2], prior=(rare, 1 - rare))
        assert two.priors == MixtureProblem.from_arrays(*two.to_arrays()).priors == (rare, 1 - rare)
        odds = two.bayes_classifier(dtype=torch.float64).log_prior_odds
        assert odds == pytest.approx(-math.log(rare), rel=1e-15)
        near = bracket(three.pair(0, 1), x, torch.ones(len(x), dtype=torch.int64))
        assert (near.lower <= near.upper * (1 + 1e-12)).all()

    def test_one_number_still_tells_two_priors(self):
        assert BayesOptimal(*PAIRS["mixtures"], prior=(0.3, 0.7)).priors == (1 - 0.7, 0.7)
        assert BayesOptimal(*PAIRS["mixtures"], prior=1e-20).priors == (1.0, 1e-20)

    def test_component_gaps(self):
        x, y = points(), torch.arange(20) % 3
        classifier = BayesOptimal(*THREE, prior=PRIORS)
        best = torch.stack(
            [
                dense_log_joint(d, x).amax(1) + math.log(p)
                for d, p in zip(THREE, PRIORS, strict=True)
            ],
            1,
        )
        own = best[torch.arange(20), y]
        others = best[torch.arange(20)[:, None], torch.stack([(y + 1) % 3, (y + 2) % 3], 1)]
        gap = classifier.component_gap(x, y)
        torch.testing.assert_close(gap, own - others.amax(1), rtol=1e-10, atol=1e-10)
        into = classifier.component_gap(x, y, target=(y + 1) % 3)
        expected = torch.maximum(own, others[:, 1]) - others[:, 0]
        torch.testing.assert_close(into, expected, rtol=1e-10, atol=1e-10)
        with pytest.raises(ValueError, match=r"expected labels from 0 to 2, got \[3\]"):
            classifier.component_gap(x, torch.full((20,), 3))

    def test_gradients_are_differences_of_scores(self):
        x = points().requires_grad_()
        logits = BayesOptimal(*THREE, prior=PRIORS).outputs(x)
        (gradient,) = torch.autograd.grad((logits[:, 2] - logits[:, 0]).sum(), x)
        expected = THREE[2].score(x.detach()) - THREE[0].score(x.detach())
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)

    def test_points_that_no_class_can_give_have_equal_logits(self):
        tables = [table(k) for k in range(3)]
        logits = BayesOptimal(*tables).outputs(torch.tensor([[0.0, 1.0], [9.0, 9.0]]))
        logs = torch.stack([t.probabilities[0, 1].log() for t in tables])
        torch.testing.assert_close(logits[0], (logs - logs.max()).float())
        assert (logits[1] == 0).all()
        sure = DiscreteTable(torch.tensor([[1.0, 0.0]]).double())
        half = DiscreteTable(torch.tensor([[0.5, 0.5]]).double())
        logits = BayesOptimal(sure, half, half).outputs(torch.tensor([[0.0, 1.0]]))
        assert logits.tolist() == [[-math.inf, 0.0, 0.0]]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_storage(self, dtype):
        classifier = BayesOptimal(*THREE, prior=PRIORS, hardest_component=True).to(dtype)
        spec, arrays = to_arrays(classifier)
        again = from_arrays(json.loads(json.dumps(spec)), arrays)
        assert (again.priors, again.hardest_component) == (PRIORS, True)
        x = points().to(dtype)
        assert again.outputs(x).dtype == dtype
        torch.testing.assert_close(again.outputs(x), classifier.outputs(x), rtol=1e-6, atol=1e-12)

    def test_no_conversion_costs_digits(self):
        classifier = BayesOptimal(*THREE)
        x = points()
        expected = classifier.outputs(x)
        converted = copy.deepcopy(classifier).float().to(torch.float16).double()
        assert torch.equal(converted.outputs(x), expected)
        x = x.float()
        assert torch.equal(classifier.outputs(x), classifier.outputs(x.double()).float())


def exact_log_joint(density, x):
    """Return the log density of one point, to 40 digits, by the matrix inversion lemma."""
    with mpmath.workdps(40):
        parts = []
        for k in range(density.n_components):
            noise = mpmath.mpf(float(density.noise_variance[k, 0]))
            offset = [
                mpmath.mpf(a) - mpmath.mpf(b)
                for a, b in zip(x.tolist(), density.means[k].tolist(), strict=True)
            ]
            columns = [[mpmath.mpf(v) for v in c] for c in density.loadings[k].T.tolist()]
            inner = mpmath.matrix(
                [[mpmath.fdot(a, b) / noise + (a is b) for b in columns] for a in columns]
            )
            pull = mpmath.matrix([mpmath.fdot(c, offset) / noise for c in columns])
            square = mpmath.fdot(offset, offset) / noise
            square -= (pull.T * mpmath.lu_solve(inner, pull))[0]
            log_det = mpmath.log(mpmath.det(inner)) + len(offset) * mpmath.log(
                2 * mpmath.pi * noise
            )
            weight = mpmath.mpf(float(density.log_weights[k]))
            parts.append(weight - (square + log_det) / 2)
        largest = max(parts)
        return largest + mpmath.log(mpmath.fsum(mpmath.exp(part - largest) for part in parts))


def test_many_classes_keep_the_digits_of_float64_where_float32_would_not():
    """Log densities of 1e5 to 1e7 nats, at a noise of 0.001 in 784 dimensions."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return 0.1 * torch.randn(shape, generator=generator)

    # All numbers are float32, so that only the arithmetic can lose digits.
    single = [
        MixtureOfFactorAnalyzers(
            torch.tensor([0.5, 0.5]), 0.5 * numbers(2, 784), 0.3 * numbers(2, 784, 4), 1e-6
        )
        for _ in range(3)
    ]
    classifier = BayesOptimal(*(d.to(dtype=torch.float64) for d in single))
    ends = [d.sample((1,), generator=generator) for d in single[:2]]
    # A point of class 0, and the two floats on either side of the boundary on the way to class 1.
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        on_path = torch.lerp(*(end.double() for end in ends), middle).float()
        low, high = (middle, high) if int(classifier.predict(on_path)) == 0 else (low, middle)
    near = [torch.lerp(*(end.double() for end in ends), t).float() for t in (low, high)]
    x = torch.cat([ends[0], *near])
    log_joint = [[exact_log_joint(d, row) for d in classifier.densities] for row in x]
    assert 1e5 < -max(log_joint[1]) < 1e7
    exact = np.array([[float(v - max(row)) for v in row] for row in log_joint])
    logits = classifier.outputs(x.double()).numpy()
    np.testing.assert_allclose(logits, exact, rtol=0, atol=1e-7)
    np.testing.assert_allclose(classifier.outputs(x).numpy(), exact, rtol=1e-6, atol=1e-7)
    # What subtracting log densities in float32 would have given.
    rounded = torch.stack([d.log_prob(x) for d in single], 1)
    rounded = (rounded - rounded.amax(1, keepdim=True)).double().numpy()
    assert np.abs(rounded - exact).max() > 1e-2
