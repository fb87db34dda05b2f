"""Certified and bracketed distances of optimal classifiers of mixtures, against brute force."""

import math
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from trueboundary.attacks import CarliniWagnerL2
from trueboundary.certificates import (
    LipschitzMixtureCertificate,
    MixtureCertificate,
    bracket,
    nearest_pair_error,
)
from trueboundary.certificates._blends import Blend, Expansion, balance
from trueboundary.classifiers import BayesOptimal, SphereBayes
from trueboundary.densities import LowRankGaussian, MixtureOfFactorAnalyzers
from trueboundary.problems import planar_problem, table_problem
from trueboundary.theory.log_ratios import LowRankNormal, log_ratio

DOUBLE = torch.float64


def mixture(seed, *, n_components=3, dim=2, n_factors=1, noise=0.05, spread=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=DOUBLE)

    return MixtureOfFactorAnalyzers(
        normal(n_components).softmax(0),
        spread * normal(n_components, dim),
        0.5 * normal(n_components, dim, n_factors),
        noise,
    )


def case(seed, *, hardest=False, n=6, noises=(0.05, 0.05), **options):
    """Return a classifier and points that it classifies right, with their labels."""
    zero = mixture(seed, noise=noises[0], **options)
    one = mixture(seed + 1000, noise=noises[1], **options)
    classifier = BayesOptimal(zero, one, prior=0.4, hardest_component=hardest)
    generator = torch.Generator().manual_seed(seed)
    x = torch.cat([density.sample((40,), generator=generator) for density in (zero, one)])
    y = torch.tensor([0, 1]).repeat_interleave(40)
    right = ((classifier.margin(x) > 0) == (y == 1)).nonzero().squeeze(1)
    chosen = right[torch.randperm(len(right), generator=generator)[:n]]
    return classifier, x[chosen], y[chosen]


def bracketed(classifier, x, y, **settings):
    """Return brackets as arrays, with their relative widths."""
    found = bracket(classifier, x, y, **settings)
    parts = {name: getattr(found, name).numpy() for name in ("lower", "upper", "point", "exact")}
    width = np.where(found.upper == 0, 0.0, 1 - found.lower / found.upper)
    return SimpleNamespace(**parts, width=width)


def wrong(classifier, points, label):
    margins = classifier.margin(points)
    return (margins >= 0) if label == 0 else (margins <= 0)


def first_error_in_the_plane(classifier, x, label, reach, *, n_directions=360, n_steps=200):
    """Return the smallest distance at which a fan of rays meets an error."""
    angle = torch.arange(n_directions, dtype=DOUBLE) * (2 * math.pi / n_directions)
    directions = torch.stack([angle.cos(), angle.sin()], dim=1)
    radii = torch.linspace(0, reach, n_steps, dtype=DOUBLE)
    rays = x + radii[:, None, None] * directions
    errors = wrong(classifier, rays.reshape(-1, 2), label).reshape(n_steps, n_directions)
    met = errors.any(1).nonzero()
    return float(radii[met[0, 0]]) if len(met) else math.inf


@pytest.mark.parametrize("noises", [(0.05, 0.05), (0.02, 0.4), (0.4, 0.02)])
@pytest.mark.parametrize("hardest", [False, True])
def test_brackets_hold_the_truth_in_the_plane(hardest, noises):
    classifier, x, y = case(1, hardest=hardest, noises=noises)
    found = bracketed(classifier, x, y, gibbs=True)
    assert np.isfinite(found.upper).all()
    truth = np.array(
        [
            first_error_in_the_plane(classifier, point, label, 1.1 * upper)
            for point, label, upper in zip(x, y.tolist(), found.upper, strict=True)
        ]
    )
    step = 1.1 * found.upper / 199
    assert (found.lower <= truth).all()
    assert (found.lower <= found.upper).all()
    assert (truth[found.exact] <= found.lower[found.exact] + 2 * step[found.exact]).all()
    # Local searches end in other valleys at times, though not often.
    assert np.median(found.upper - truth - step) <= 0
    assert (found.upper <= 1.05 * truth + step).all()
    for label in (0, 1):
        chosen = y.numpy() == label
        assert wrong(classifier, torch.from_numpy(found.point[chosen]), label).all()
    length = np.linalg.norm(found.point - x.numpy(), axis=1)
    np.testing.assert_allclose(length, found.upper, rtol=1e-12)


def test_the_hardest_component_rule_is_exact_nearly_everywhere():
    exact = []
    for seed in range(3):
        classifier, x, y = case(seed, hardest=True, dim=6, n_factors=2, n=20)
        result = MixtureCertificate()(classifier, x, y)
        exact.append(result.exact.numpy())
        # What is exact is attained: the classifier is undecided at the nearest point.
        attained = result.exact & result.distance.isfinite()
        there = result.nearest[attained]
        size = 1 + classifier.densities[0].log_prob(there).abs()
        assert (classifier.margin(there).abs() < 1e-6 * size).all()
        length = (result.nearest - x).norm(dim=1)
        np.testing.assert_allclose(length[attained], result.distance[attained], rtol=1e-9)
    assert np.concatenate(exact).mean() > 0.8


def best_of_slsqp(classifier, x, label, rng, *, n_starts=12):
    """Return the length of the shortest step to an error that a general optimiser found."""
    sign = 1.0 if label == 1 else -1.0
    x = x.numpy()

    def own_margin(p):
        return -sign * float(classifier.margin(torch.from_numpy(x + p)[None])[0])

    best = math.inf
    for _ in range(n_starts):
        found = optimize.minimize(
            lambda p: p @ p,
            rng.normal(size=x.size),
            jac=lambda p: 2 * p,
            constraints={"type": "ineq", "fun": own_margin},
            method="SLSQP",
            options={"maxiter": 60},
        )
        if own_margin(found.x) >= -1e-7:
            best = min(best, float(np.linalg.norm(found.x)))
    return best


@pytest.mark.parametrize("hardest", [False, True])
def test_a_general_optimiser_finds_nothing_outside_the_bracket(hardest):
    rng = np.random.default_rng(0)
    classifier, x, y = case(5, hardest=hardest, dim=3, n=4)
    found = bracketed(classifier, x, y, gibbs=True)
    for i in range(len(x)):
        best = best_of_slsqp(classifier, x[i], int(y[i]), rng)
        assert best >= found.lower[i] * (1 - 1e-6)
        assert found.upper[i] <= best * 1.01 or best == math.inf


def test_the_margin_is_right_throughout_the_certified_ball():
    generator = torch.Generator().manual_seed(3)
    for hardest in (False, True):
        classifier, x, y = case(7, hardest=hardest, dim=4, n_factors=2, n=10)
        found = MixtureCertificate(gibbs=True)(classifier, x, y).distance
        for point, label, distance in zip(x, y.tolist(), found.tolist(), strict=True):
            step = torch.randn(3000, 4, generator=generator, dtype=DOUBLE)
            step *= 0.999999 * min(distance, 10.0) / step.norm(dim=1, keepdim=True)
            assert not wrong(classifier, point + step, label).any()


@pytest.mark.parametrize("noise", [(0.05, 0.05), (0.01, 0.3), "diagonal"])
@pytest.mark.parametrize("hardest", [False, True])
def test_never_below_the_lipschitz_bound_nor_above_an_attack(hardest, noise):
    if noise == "diagonal":
        shape = torch.Generator().manual_seed(0)
        noise = [0.02 + 0.2 * torch.rand(3, 5, generator=shape, dtype=DOUBLE) for _ in range(2)]
    classifier, x, y = case(11, hardest=hardest, dim=5, n_factors=2, noises=noise, n=6)
    found = bracketed(classifier, x, y)
    cheap = LipschitzMixtureCertificate()(classifier, x, y).distance.numpy()
    attack = CarliniWagnerL2(n_steps=80, n_binary_search=4)(classifier, x, y).distance.numpy()
    assert (found.lower >= cheap * (1 - 1e-9)).all()
    assert (found.lower <= attack * (1 + 1e-9)).all()
    assert np.median(found.upper / attack) < 1.02
    assert np.median(found.width) < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_tied_components_are_the_best_there_are(seed):
    rng = np.random.default_rng(seed)

    def normal(centre):
        return LowRankNormal(centre + rng.normal(size=6), 0.5 * rng.normal(size=(6, 2)), 0.1)

    groups = [[normal(np.eye(6)[0]), normal(np.eye(6)[0]), normal(2.0)] for _ in range(40)]
    x = np.stack([0.5 * (first.mean + second.mean) for first, second, _ in groups])
    values = np.array(
        [
            [log_density(normal, point) for normal in of_one]
            for point, of_one in zip(x, groups, strict=True)
        ]
    )
    expansion = Expansion.at(x, values, groups)
    first, scan = np.tile([1.0, 0.0], (len(x), 1)), np.linspace(0, 1, 201)
    # It is asked only where the component that comes in leads at the projection.
    alone = Blend.of(expansion, first)
    own = expansion.at_steps(np.nan_to_num(alone.step))
    asked = np.isfinite(alone.distance) & (alone.value > 0) & (own[:, 1] > own[:, 0])
    assert asked.sum() >= 3
    expansion, first = expansion.take(asked), first[asked]
    blend, weights = balance(expansion, first)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    best = [Blend.of(expansion, np.abs(first - share)).distance for share in scan]
    assert (blend.distance >= np.max(best, axis=0) * (1 - 1e-9)).all()


def log_density(normal, point):
    away = point - normal.mean
    return normal.log_peak - 0.5 * away @ normal.precision_times(away[:, None])[:, 0]


def test_gibbs_helps_where_own_components_share_a_point():
    """Two equal halves of one Gaussian: the sum is that Gaussian, and the bound then exact."""
    half = MixtureOfFactorAnalyzers(
        torch.tensor([0.5, 0.5], dtype=DOUBLE),
        torch.zeros(2, 3, dtype=DOUBLE),
        torch.zeros(2, 3, 0, dtype=DOUBLE),
        1.0,
    )
    whole = LowRankGaussian(
        torch.tensor([1.0, 0.0, 0.0], dtype=DOUBLE), torch.zeros(3, 0, dtype=DOUBLE), 1.0
    )
    classifier = BayesOptimal(half, whole)
    x, y = torch.tensor([[-0.1, 0.3, 0.0], [0.3, 0.0, 0.0]], dtype=DOUBLE), torch.tensor([0, 0])
    plain = MixtureCertificate()(classifier, x, y).distance
    refined = MixtureCertificate(gibbs=True)(classifier, x, y).distance
    np.testing.assert_allclose(refined, [0.6, 0.2], rtol=1e-9)
    assert (plain <= refined * (1 + 1e-9)).all()
    assert plain[0] < refined[0] - 0.05


def test_halves_that_lose_alone_can_win_together():
    """Two equal halves of a narrow Gaussian: neither reaches the broad one, but their sum does."""
    broad, narrow = (
        LowRankGaussian(torch.zeros(3, dtype=DOUBLE), torch.zeros(3, 0, dtype=DOUBLE), v)
        for v in (4.0, 1.0)
    )
    halves = MixtureOfFactorAnalyzers(
        torch.tensor([0.5, 0.5], dtype=DOUBLE),
        torch.zeros(2, 3, dtype=DOUBLE),
        torch.zeros(2, 3, 0, dtype=DOUBLE),
        1.0,
    )
    x, y = torch.tensor([[3.0, 0.0, 0.0]], dtype=DOUBLE), torch.tensor([0])
    for prior, finite in ((0.5 / 3, True), (0.09, False)):  # odds of 5 and 10, densities of 8
        truth = MixtureCertificate()(BayesOptimal(broad, narrow, prior=prior), x, y)
        classifier = BayesOptimal(broad, halves, prior=prior)
        found = bracket(classifier, x, y)
        assert truth.distance[0].isfinite() == finite
        assert found.lower[0] <= truth.distance[0] * (1 + 1e-9)
        np.testing.assert_allclose(found.lower, truth.distance, rtol=1e-9)
        np.testing.assert_allclose(found.upper, truth.distance, rtol=1e-9)
        hardest = BayesOptimal(broad, halves, prior=prior, hardest_component=True)
        assert MixtureCertificate()(hardest, x, y).distance[0].isinf()


@pytest.mark.parametrize("noises", [(0.05, 0.05), (0.05, 0.4)])
def test_single_gaussians_are_exact_under_both_rules(noises):
    zero, one = (
        mixture(seed, n_components=1, dim=7, n_factors=2, noise=noise).component(0)
        for seed, noise in zip((0, 1), noises, strict=True)
    )
    x = zero.sample((5,), generator=torch.Generator().manual_seed(2))
    y = torch.zeros(5, dtype=torch.int64)
    ratio = log_ratio(
        [
            LowRankNormal(*(p.numpy() for p in (d.mean, d.loadings, d.noise_variance)))
            for d in (zero, one)
        ],
        offset=math.log(0.7 / 0.3),
    )
    expected = nearest_pair_error(x.numpy(), ratio)
    for hardest in (False, True):
        classifier = BayesOptimal(zero, one, prior=0.3, hardest_component=hardest)
        result = MixtureCertificate()(classifier, x, y)
        assert result.exact.all()
        np.testing.assert_allclose(result.distance, expected.distance, rtol=1e-9)
        np.testing.assert_allclose(result.nearest, expected.nearest, rtol=0, atol=1e-8)
        found = bracketed(classifier, x, y)
        assert found.width.max() < 1e-7


@given(st.integers(0, 10_000), st.floats(0.1, 10))
@settings(max_examples=5, derandomize=True, deadline=None)
def test_distances_turn_and_scale_with_space(seed, scale):
    classifier, x, y = case(seed % 50, dim=4, n_factors=1, n=5)
    generator = torch.Generator().manual_seed(seed)
    turn = scale * torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=DOUBLE))[0]
    moved = BayesOptimal(
        *(
            MixtureOfFactorAnalyzers(
                None,
                d.means @ turn.T,
                turn @ d.loadings,
                scale**2 * d.noise_variance,
                log_weights=d.log_weights,
            )
            for d in classifier.densities
        ),
        prior=classifier.prior,
    )
    before = MixtureCertificate()(classifier, x, y).distance
    after = MixtureCertificate()(moved, x @ turn.T, y).distance
    np.testing.assert_allclose(after, scale * before, rtol=1e-6)


def test_components_without_weight_change_nothing():
    classifier, x, y = case(13, n=8)
    zero, one = classifier.densities
    padded = MixtureOfFactorAnalyzers(
        None,
        torch.cat([zero.means, x[:1]]),
        torch.cat([zero.loadings, zero.loadings[:1]]),
        torch.cat([zero.noise_variance, zero.noise_variance[:1]]),
        log_weights=torch.cat([zero.log_weights, torch.tensor([-math.inf], dtype=DOUBLE)]),
    )
    plain = MixtureCertificate()(classifier, x, y).distance
    same = MixtureCertificate()(BayesOptimal(padded, one, prior=0.4), x, y).distance
    np.testing.assert_allclose(same, plain, rtol=1e-12)


def test_errors_are_bracketed_by_zero():
    classifier, x, y = case(14, hardest=True, n=8)
    assert not bracket(classifier, x, 1 - y).upper.any()
    assert (
        MixtureCertificate(gibbs=True)
        .bracket(classifier, x, y)
        .lower.equal(bracket(classifier, x, y, gibbs=True).lower)
    )


def test_a_classifier_in_single_precision_is_bracketed_alike():
    classifier, x, y = case(15, dim=5, n_factors=2, n=9)
    whole = MixtureCertificate()(classifier, x, y).distance
    single = BayesOptimal(*(d.to(dtype=torch.float32) for d in classifier.densities), prior=0.4)
    np.testing.assert_allclose(bracket(single, x.float(), y).lower, whole, rtol=1e-3)


def test_the_boundary_of_the_planar_panels_is_bracketed():
    for panel in ("a", "b"):
        problem = planar_problem(panel, small_std=0.1)
        classifier = problem.bayes_classifier(dtype=DOUBLE)
        x, y = problem.sample(20, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
        assert np.median(bracketed(classifier, x, y, gibbs=True).width) < 0.02


def test_bad_input_is_refused_in_one_sentence():
    classifier, x, y = case(16)
    certificate = MixtureCertificate()
    with pytest.raises(TypeError, match="MixtureCertificate needs a BayesOptimal"):
        certificate(SphereBayes(2), x, y)
    with pytest.raises(TypeError, match="bracket needs a BayesOptimal"):
        bracket(table_problem("c").bayes_classifier(), x, y)
    with pytest.raises(ValueError, match="finite samples"):
        bracket(classifier, x * math.nan, y)
    with pytest.raises(ValueError, match="n_candidates"):
        bracket(classifier, x, y, n_candidates=0)


@pytest.mark.parametrize("noise", [1.0, 1e-4])
@pytest.mark.parametrize("diagonal", [False, True])
def test_distances_to_a_pairs_boundary_hold_to_twelve_digits(noise, diagonal):
    """Against the projection in 50 digits, for points of the class and one next to its mean."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=DOUBLE)

    def variance():
        spread = 0.5 + torch.rand(5, generator=generator, dtype=DOUBLE)
        return noise * spread if diagonal else noise

    zero, one = (LowRankGaussian(normal(5), normal(5, 2), variance()) for _ in range(2))
    x = torch.cat([zero.sample((3,), generator=generator), zero.mean + 1e-7 * normal(1, 5)])
    y = torch.zeros(4, dtype=torch.int64)
    found = MixtureCertificate()(BayesOptimal(zero, one), x, y)
    for distance, point in zip(found.distance.tolist(), x.tolist(), strict=True):
        exact = projection(zero, one, point)
        assert exact * (1 - mpmath.mpf(10) ** -12) <= distance <= exact


def test_gaussians_that_nearly_coincide_far_from_the_origin_are_still_the_classifiers_own():
    # At both means the log densities are all constants, whose rounding is the margin's.
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(784, generator=generator, dtype=DOUBLE)
    step = torch.randn(784, generator=generator, dtype=DOUBLE)
    for noise in (1e-6, 1.0):
        away = mean + 1e-3 * noise**0.5 * step / step.norm()
        pair = [LowRankGaussian(m, torch.zeros(784, 0, dtype=DOUBLE), noise) for m in (mean, away)]
        x, y = mean[None], torch.zeros(1, dtype=torch.int64)
        found = MixtureCertificate()(BayesOptimal(*pair), x, y)
        half = float((away - mean).norm()) / 2
        assert found.distance[0] == pytest.approx(half, rel=1e-7)
        assert found.distance[0] <= half


def projection(zero, one, point):
    """Return the distance to where the second Gaussian is as likely as the first, by bisection."""
    with mpmath.workdps(50):
        x = mpmath.matrix(point)
        value, hessian, slope = mpmath.mpf(0), mpmath.zeros(len(x)), mpmath.zeros(len(x), 1)
        for density, sign in ((zero, 1), (one, -1)):
            loadings = mpmath.matrix(density.loadings.tolist())
            covariance = loadings * loadings.T + mpmath.diag(density.noise_variance.tolist())
            precision, shift = covariance**-1, x - mpmath.matrix(density.mean.tolist())
            value -= sign * (mpmath.log(mpmath.det(covariance)) + (shift.T * precision * shift)[0])
            hessian -= sign * precision
            slope -= sign * precision * shift
        bends, axes = mpmath.eigsy(hessian)
        pairs = list(zip(bends, axes.T * slope, strict=True))

        def left(nu):
            steps = [(h, g, -nu * g / (1 + nu * h)) for h, g in pairs]
            return value / 2 + sum(g * p + h * p * p / 2 for h, g, p in steps)

        low, high = mpmath.mpf(0), -1 / min(bends)
        for _ in range(170):
            middle = (low + high) / 2
            low, high = (middle, high) if left(middle) > 0 else (low, middle)
        return mpmath.sqrt(sum((low * g / (1 + low * h)) ** 2 for h, g in pairs))
