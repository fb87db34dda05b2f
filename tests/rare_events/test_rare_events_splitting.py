"""Splitting against error rates known exactly, and what it says when it cannot know.

Seeds are fixed. Intervals are at 99.99 % where they are compared with the truth, so that a test
that passes by luck, or fails by it, is rare when the random stream changes.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork, SphereBayes
from trueboundary.densities import (
    DiscreteTable,
    LowRankGaussian,
    MixtureOfFactorAnalyzers,
    UniformSphere,
)
from trueboundary.problems import ConcentricSpheres
from trueboundary.rare_events import (
    InvariantMove,
    RareEventWarning,
    ScoreFunction,
    Splitting,
    attack_seeds,
    compare_scores,
    estimate_error_rate,
    log_normal_interval,
)
from trueboundary.rare_events._particles import next_level, offspring
from trueboundary.rare_events.representation import cosine_groups
from trueboundary.theory import caps
from trueboundary.theory.intervals import clopper_pearson, t_interval
from trueboundary.theory.quadratic_forms import ellipsoid_log_error, log_tail

SMALL = Splitting(n_particles=200)
SURE = Splitting(n_particles=400, confidence=0.9999)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def estimate(classifier, source, label=0, seed=0, splitting=SURE, **options):
    return estimate_error_rate(
        classifier, source, label, splitting=splitting, generator=seeded(seed), **options
    )


def cap(dim, probability, axis=0, slope=1.0):
    threshold = caps.threshold(dim, probability)
    return lambda x: slope * (x[:, axis] - threshold)


def holds(result, truth):
    """Say whether the interval to quote holds the truth, and is worth something."""
    return result.interval.low < truth < result.interval.high and result.relative_spread < 1.5


@pytest.mark.parametrize("probability", [1e-4, 1e-8, 1e-15])
def test_quadratic_classifiers(probability):
    # Two weights, each in half of the dimensions, scaled until the tail is the wanted one.
    negative, positive = np.repeat([-1.0, 0.0], 25), np.repeat([0.0, 1.0], 25)
    tops = np.exp(np.linspace(-6, 1, 400))
    tails = np.array([log_tail(negative + top * positive) for top in tops])
    top = float(np.interp(math.log(probability), tails, tops))
    truth = math.exp(log_tail(negative + top * positive))
    weights = torch.from_numpy(negative + top * positive)
    result = estimate(lambda x: x.square() @ weights, UniformSphere(50))
    assert result.reached
    assert result.warnings == ()
    assert holds(result, truth)


@pytest.mark.parametrize(("label", "sphere"), [(0, "inner"), (1, "outer")])
def test_both_spheres_of_a_quadratic_network(label, sphere):
    network = QuadraticNetwork(40, 120, generator=seeded(3), dtype=torch.float64)
    truth = math.exp(ellipsoid_log_error(network.ellipsoid().alphas, sphere=sphere))
    result = estimate(network, ConcentricSpheres(dim=40), label)
    assert truth < 0.05
    assert holds(result, truth)


def test_a_cap_at_1e_30():
    result = estimate(cap(30, 1e-30), UniformSphere(30))
    assert len(result.levels) == pytest.approx(100, abs=5)
    assert holds(result, 1e-30)
    assert result.log10 == pytest.approx(-30, abs=0.6)
    assert min(result.acceptance) > 0.2


@pytest.mark.parametrize("n_factors", [0, 3])
def test_a_half_space_under_a_gaussian(n_factors):
    # x . n is normal, so the error rate is a normal tail, here seven standard deviations out.
    draw = seeded(5)
    mean = torch.randn(10, generator=draw, dtype=torch.float64)
    loadings = torch.randn(10, n_factors, generator=draw, dtype=torch.float64)
    density = LowRankGaussian(mean, loadings, 0.25)
    normal = torch.randn(10, generator=draw, dtype=torch.float64)
    std = float(normal @ density.covariance_matrix @ normal) ** 0.5
    offset = float(normal @ mean) - 7 * std
    result = estimate(lambda x: x @ normal - offset, density, label=1)
    assert holds(result, float(stats.norm.sf(7)))


def test_a_half_space_under_a_mixture():
    # The rarest component is the source of nearly all errors.
    weights = torch.tensor([0.85, 0.1, 0.05], dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0], [1.0, 3.0], [2.0, -3.0]], dtype=torch.float64)
    density = MixtureOfFactorAnalyzers(
        weights, means, torch.full((3, 2, 1), 0.3, dtype=torch.float64), 0.16
    )
    truth = float((weights * torch.special.ndtr(-(5.0 - means[:, 0]) / 0.5)).sum())
    result = estimate(lambda x: x[:, 0] - 5.0, density)
    assert truth < 1e-10
    assert holds(result, truth)


def test_a_table():
    # Each row is half as probable as the one before, and equal scores abound.
    rows = torch.full((30,), 0.5, dtype=torch.float64) ** torch.arange(1, 31)
    density = DiscreteTable((rows / rows.sum())[:, None].expand(30, 4) / 4)
    truth = float(density.probabilities[20:].sum())
    result = estimate(lambda x: x[:, 0] - 19.5, density)
    assert truth < 1e-6
    assert holds(result, truth)


def test_a_move_of_ones_own():
    # The exponential distribution, through u = exp(-x), uniform on [0, 1].
    class Exponential(InvariantMove):
        def sample(self, n, generator):
            return torch.rand(n, 1, generator=generator, dtype=torch.float64)

        def propose(self, state, step, generator):
            noise = torch.randn(state.shape, generator=generator, dtype=state.dtype)
            # Log-normal steps, accepted by the ratio of densities of log u, u itself.
            factor = (step * noise).exp()
            moved = state * factor
            accepted = torch.rand(state.shape, generator=generator, dtype=state.dtype) < factor
            return torch.where(accepted & (moved < 1), moved, state)

        def points(self, state):
            return -state.log()

    result = estimate(lambda x: x[:, 0] - 20.0, Exponential())
    assert holds(result, math.exp(-20))
    with pytest.raises(NotImplementedError, match="write its states"):
        estimate(lambda x: x[:, 0] - 20.0, Exponential(), seeds=torch.full((1, 1), 30.0))


def test_wide_spreads_quote_the_log_normal_interval():
    result = estimate(cap(20, 1e-12), UniformSphere(20), splitting=Splitting(n_particles=100))
    assert result.relative_spread > 0.3
    assert result.interval == log_normal_interval(result.replicates) == result.log_normal
    assert f"[{result.interval.low:.3g}, {result.interval.high:.3g}]" in str(result)
    narrow = estimate(cap(20, 1e-2), UniformSphere(20), splitting=Splitting(n_particles=500))
    assert narrow.relative_spread < 0.3
    assert narrow.interval == (narrow.low, narrow.high) == t_interval(narrow.replicates)


def test_replicates_are_unbiased():
    # Even those of few particles that hardly move, some of which lose all of them on the way.
    probability = 0.01
    with pytest.warns(RareEventWarning, match="lost all particles on the way"):
        result = estimate(
            cap(5, probability),
            UniformSphere(5),
            splitting=Splitting(n_particles=20, n_sweeps=1, n_replicates=4000, confidence=0.9999),
        )
    assert len(result.levels) > 3
    assert result.low < probability < result.high
    assert result.high < 1.2 * probability


def test_the_same_seed_gives_the_same_result():
    first, again, other = (
        estimate(cap(10, 1e-6), UniformSphere(10), seed=seed, splitting=SMALL) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.value != other.value


def test_evaluations_are_counted():
    seen = 0
    inner = cap(10, 1e-5)

    def counting(x):
        nonlocal seen
        seen += len(x)
        return inner(x)

    result = estimate(counting, UniformSphere(10), splitting=Splitting(100, batch_size=37))
    assert result.n_evaluations == seen
    n_moves = len(result.levels) - 1
    assert seen == 100 * (10 + 1) * (1 + 5 * n_moves)


def test_steps_shorten_for_classifiers_that_are_even():
    # A jump to the opposite point would always be accepted; steps must not grow towards it.
    threshold = caps.threshold(50, 1e-8)
    result = estimate(lambda x: x[:, 0].abs() - threshold, UniformSphere(50), splitting=SMALL)
    assert result.steps[-1] < 0.6
    assert min(result.acceptance) > 0.2


def test_common_errors_are_sampled_plainly():
    result = estimate(cap(10, 0.7), UniformSphere(10), splitting=SMALL)
    assert result.levels == (0.0,)
    n_errors = result.n_independent_errors
    assert result.value == pytest.approx(n_errors / 2000)
    assert (result.low, result.high) == pytest.approx(clopper_pearson(n_errors, 2000))
    assert 0.65 < result.value < 0.75


def test_a_classifier_that_is_always_wrong():
    result = estimate(lambda x: x[:, 0] * 0 + 1.0, UniformSphere(3), splitting=SMALL)
    assert result.value == 1.0
    assert result.low < 1.0 == result.high


@pytest.mark.parametrize("score", ["margin", "normalised margin", lambda x: x[:, 0]])
def test_a_margin_of_zero_is_class_zero(score):
    flat = lambda x: x[:, 0] * 0  # noqa: E731
    settings = Splitting(n_particles=20, n_replicates=2, min_probability=1e-3)
    zero, one = (
        estimate(flat, UniformSphere(3), label, splitting=settings, score=score) for label in (0, 1)
    )
    assert not zero.reached
    assert one.value == 1


@pytest.mark.parametrize("label", [0, 1])
def test_no_error_is_never_reported_as_zero(label):
    bayes = SphereBayes(dim=20, dtype=torch.float64)
    result = estimate(bayes, ConcentricSpheres(dim=20), label, splitting=SMALL)
    assert not result.reached
    assert math.isnan(result.value)
    assert math.isnan(result.log10)
    assert result.replicates == ()
    assert result.deepest_level == pytest.approx(-0.15)
    assert 0 < result.deepest_probability <= 1
    assert (result.low, result.high) == clopper_pearson(0, 2000)
    assert "no error was reached" in str(result)
    assert "bound the error rate by 0.00184" in str(result)


def test_giving_up_tells_the_deepest_level():
    splitting = Splitting(n_particles=200, min_probability=1e-6)
    result = estimate(cap(20, 1e-12), UniformSphere(20), splitting=splitting)
    assert not result.reached
    assert 1e-8 < result.deepest_probability < 1e-6
    exact = caps.measure(20, math.acos(result.deepest_level + caps.threshold(20, 1e-12)))
    assert result.deepest_probability == pytest.approx(exact, rel=1.0)


def test_errors_that_only_chance_finds_are_told():
    # The score leads nowhere, since correct points all score the same; the pilot, a tenth of all
    # draws, sees no error by itself.
    inner = cap(5, 1e-3)
    with pytest.warns(RareEventWarning, match="the climb gave up although"):
        result = estimate(
            lambda x: (inner(x) >= 0).double() - 0.5, UniformSphere(5), splitting=SMALL, seed=1
        )
    assert not result.reached
    assert result.low < 1e-3 < result.high
    assert result.value == result.n_independent_errors / result.n_independent


class TestDeceptiveScore:
    """Caps of 1e-9 and 1e-8, of which the margin's slope hides the larger one."""

    dim = 100
    source = UniformSphere(dim)
    splitting = Splitting(n_particles=200)

    @staticmethod
    def classifier(x):
        dim = TestDeceptiveScore.dim
        return torch.maximum(cap(dim, 1e-9)(x), cap(dim, 1e-8, axis=1, slope=10.0)(x))

    def seeds(self):
        return torch.eye(self.dim, dtype=torch.float64)[:2]

    def test_errors_that_particles_miss_are_told(self):
        with pytest.warns(RareEventWarning, match="1 of 2 groups of the given errors are not"):
            result = estimate(
                self.classifier, self.source, splitting=self.splitting, seeds=self.seeds()
            )
        # Nothing else gives it away: a tenth of the truth, with a small spread.
        assert result.value == pytest.approx(1e-9, rel=0.5)
        assert len(result.warnings) == 1
        assert result.high < 1.1e-8

    def test_a_better_score_finds_all_and_is_not_warned_of(self):
        def steepness_apart(x):
            return torch.maximum(cap(self.dim, 1e-9)(x), cap(self.dim, 1e-8, axis=1)(x))

        result = estimate(
            self.classifier,
            self.source,
            splitting=SURE,
            score=steepness_apart,
            seeds=self.seeds(),
        )
        assert result.score == "steepness_apart"
        assert holds(result, 1.1e-8)

    def test_scores_that_disagree_are_told(self):
        scores = {
            "margin": "margin",
            "second axis": lambda x: x[:, 1] - caps.threshold(self.dim, 1e-8),
        }
        with pytest.warns(RareEventWarning, match="disagree by more than their intervals"):
            results = compare_scores(
                self.classifier,
                self.source,
                0,
                scores=scores,
                splitting=self.splitting,
                generator=seeded(),
            )
        assert results["second axis"].value > 3 * results["margin"].value


def test_seeds_of_one_region_do_not_alarm():
    # Both opposite caps are reached, and the worst errors of a bulk quadratic form are far from
    # its typical ones: neither is a reason to warn.
    dim = 60
    threshold = caps.threshold(dim, 1e-6)
    two_caps = estimate(
        lambda x: x[:, 0].abs() - threshold,
        UniformSphere(dim),
        seeds=torch.stack([torch.eye(dim)[0], -torch.eye(dim)[0]]),
    )
    assert two_caps.warnings == ()
    weights = torch.linspace(-1.4, 0.6, dim, dtype=torch.float64)
    quadratic = lambda x: x.square() @ weights  # noqa: E731
    seeds = attack_seeds(quadratic, UniformSphere(dim), 0, generator=seeded(), n_points=10)
    assert len(seeds) == 10
    bulk = estimate(quadratic, UniformSphere(dim), splitting=SMALL, seeds=seeds)
    assert bulk.value < 1e-4
    assert bulk.warnings == ()


def test_a_score_of_ones_own_may_work_in_place_and_is_evaluated_in_eval_mode():
    class Coordinate(torch.nn.Module):
        def forward(self, x):
            assert not self.training
            return x.mul_(2)[:, 0]

    classifier, score = (lambda x: x[:, 0] - 0.95), Coordinate()
    with pytest.warns(RareEventWarning, match="training mode"):
        found = estimate(classifier, UniformSphere(8), splitting=SMALL, score=score)
    assert score.training
    plain = estimate(classifier, UniformSphere(8), splitting=SMALL, score=lambda x: 2 * x[:, 0])
    assert found.replicates == plain.replicates


def test_seeds_are_found_in_the_dtype_of_the_classifier():
    for dtype in (torch.float32, torch.float64):
        network = ReLUNetwork(5, 8, 1, generator=seeded(), dtype=dtype)
        seeds = attack_seeds(network, ConcentricSpheres(5), 1, generator=seeded(), n_points=3)
        assert len(seeds) == 3
        assert seeds.dtype == dtype


def test_seeds_under_a_gaussian():
    density = LowRankGaussian(torch.ones(6).double(), torch.ones(6, 1).double(), 0.04)
    plane = lambda x: x[:, 0] - 7.0  # noqa: E731
    seeds = attack_seeds(plane, density, 0, generator=seeded(), n_points=8)
    assert bool((plane(seeds) >= 0).all())
    result = estimate(plane, density, seeds=seeds)
    assert result.warnings == ()
    # Far from the origin, all errors lie in one direction; they are told apart all the same.
    far = LowRankGaussian(1000 + density.mean, density.loadings, 0.04)
    both_sides = lambda x: torch.maximum(  # noqa: E731
        plane(x - 1000), 1e-3 * (-5.0 - (x[:, 0] - 1000))
    )
    beyond = seeds[:1] + 1e-6 * torch.eye(6)[:1]  # an addition of 1000 rounds
    groups = 1000 + torch.cat([beyond, 1.99 - beyond])
    with pytest.warns(RareEventWarning, match="1 of 2 groups"):
        estimate(both_sides, far, splitting=SMALL, seeds=groups)
    two_planes = lambda x: torch.maximum(plane(x), 1e-3 * (-5.0 - x[:, 0]))  # noqa: E731
    with pytest.warns(RareEventWarning, match="not represented"):
        estimate(two_planes, density, splitting=SMALL, seeds=seeds)


def test_seeds_that_are_no_errors_are_left_out():
    result = estimate(
        cap(10, 1e-4), UniformSphere(10), splitting=SMALL, seeds=torch.eye(10)[1:3].double()
    )
    assert result.warnings == ()
    none = torch.zeros(0, 10)
    assert estimate(cap(10, 1e-4), UniformSphere(10), splitting=SMALL, seeds=none).warnings == ()


def test_particles_that_cannot_move_are_told():
    class Stuck(InvariantMove):
        def sample(self, n, generator):
            return torch.rand(n, 1, generator=generator, dtype=torch.float64)

        def propose(self, state, step, generator):
            return self.sample(len(state), generator)  # invariant, but ever less often accepted

    with pytest.warns(RareEventWarning, match="particles hardly move"):
        result = estimate(lambda x: x[:, 0] - (1 - 2e-3), Stuck(), splitting=SMALL)
    assert any("hardly move" in sentence for sentence in result.warnings)


def test_float32_classifiers_get_float32_points():
    seen = set()
    network = ReLUNetwork(10, 16, 2, generator=seeded(1)).eval()
    network.register_forward_pre_hook(lambda module, inputs: seen.add(inputs[0].dtype))

    def classifier(x):
        seen.add(x.dtype)
        return network.margin(x)

    problem = ConcentricSpheres(dim=10)
    estimate(network, problem, splitting=SMALL)
    estimate(classifier, problem, splitting=SMALL, dtype=torch.float32)
    assert seen == {torch.float32}


def test_normalised_margins_divide_by_the_slope():
    x = torch.tensor([[0.5, 1.0], [-0.25, 2.0]], requires_grad=False)
    score = ScoreFunction(lambda x: 8 * x[:, 0], 1, "normalised margin")
    assert score(x).tolist() == [-0.5, 0.25]
    flat = ScoreFunction(lambda x: 0 * x[:, 0] - 2, 0, "normalised margin")
    assert bool((flat(x) < -1e30).all())


def test_a_score_cannot_change_what_an_error_is():
    classifier = cap(10, 1e-3)
    misleading = ScoreFunction(classifier, 0, lambda x: x[:, 0] + 5)
    x = UniformSphere(10).sample((5000,), generator=seeded(), dtype=torch.float64)
    assert torch.equal(misleading(x) >= 0, classifier(x) >= 0)


def test_levels_rise_through_equal_scores():
    assert next_level(torch.tensor([-4.0, -3.0, -2.0, -1.0]), 2) == (-2.0, False)
    assert next_level(torch.tensor([-4.0, -3.0, 2.0, 1.0]), 2) == (0.0, True)
    assert next_level(torch.tensor([-3.0, -3.0, -3.0, -1.0]), 2) == (-1.0, False)
    assert next_level(torch.tensor([-3.0, -3.0, -3.0, -3.0]), 2) == (-3.0, True)
    assert next_level(torch.tensor([-3.0, -3.0, -3.0, 1.0]), 2) == (0.0, True)


def test_every_survivor_has_its_share_of_offspring():
    alive = torch.tensor([[True, False, True, True, False], [False, False, False, True, False]])
    counts = torch.zeros(10)
    generator = seeded()
    for _ in range(3000):
        chosen = offspring(alive, generator)
        count = torch.bincount(chosen, minlength=10)
        assert set(count[[0, 2, 3]].tolist()) == {1, 2}
        counts += count
    assert counts[[1, 4, 5, 6, 7, 9]].sum() == 0
    assert counts[8] == 3000 * 5
    # 5/3 on average: 1 or 2, with a standard deviation of sqrt(2)/3.
    assert torch.allclose(
        counts[[0, 2, 3]] / 3000, torch.tensor(5 / 3), atol=5 * 0.4715 / 3000**0.5
    )


def test_groups_by_cosine():
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0], [0.0, 0.0], [0.1, 3.0]])
    groups = [group.tolist() for group in cosine_groups(points)]
    assert groups == [[1, 2, 4], [0], [3]]


def test_log_normal_intervals_hold_log_normal_means():
    # Nominal coverage 95 % for exactly log-normal values of a spread splitting often has.
    rng = np.random.default_rng(0)
    truth = math.exp(0.5 * 0.6**2)
    held = [
        low < truth < high
        for low, high in (
            log_normal_interval(values) for values in np.exp(0.6 * rng.standard_normal((2000, 10)))
        )
    ]
    assert 0.93 < sum(held) / 2000 < 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_particles": 5}, "n_particles must be at least 10"),
        ({"keep": 1.0}, "keep must lie between 0 and 1"),
        ({"n_sweeps": 0}, "n_sweeps must be at least 1"),
        ({"n_replicates": 1}, "n_replicates must be at least 2"),
        ({"min_probability": 1e-310}, "min_probability must lie between 1e-300 and 1"),
        ({"confidence": math.nan}, "confidence must be a finite number"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        Splitting(**options)


def test_bad_arguments():
    sphere = UniformSphere(3)
    with pytest.raises(ValueError, match="expected score"):
        estimate(cap(3, 0.1), sphere, score="logit")
    with pytest.raises(ValueError, match="floating-point numbers, got"):
        estimate(cap(3, 0.1), sphere, score=lambda x: x)
    with pytest.raises(ValueError, match="the score is NaN"):
        estimate(cap(3, 0.1), sphere, score=lambda x: x[:, 0] * math.nan)
    with pytest.raises(ValueError, match="seeds must be points of shape"):
        estimate(cap(3, 1e-3), sphere, seeds=torch.ones(2, 4))
    with pytest.raises(ValueError, match="expected labels 0 and 1, got"):
        estimate(cap(3, 0.1), sphere, label=2)
    with pytest.raises(TypeError, match=r"must be a torch\.Generator"):
        estimate_error_rate(cap(3, 0.1), sphere, 0, generator=7)
    with pytest.raises(ValueError, match="returned NaN"):
        estimate(lambda x: x[:, 0] * math.nan, sphere)
    with pytest.raises(TypeError, match="no move"):
        estimate(cap(3, 0.1), torch.distributions.Normal(0.0, 1.0))


def test_tables_of_one_cell():
    result = estimate(
        lambda x: x[:, 0] - 0.5, DiscreteTable(torch.tensor([[1.0]])), splitting=SMALL
    )
    assert not result.reached
