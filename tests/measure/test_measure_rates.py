"""Error rates: exact, sampled and split ones agree, and each says how far it can be trusted."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import trueboundary as tb
from trueboundary.classifiers import BayesOptimal, LinearSVM, SphereBayes
from trueboundary.densities import LowRankGaussian
from trueboundary.measure import rates
from trueboundary.problems import planar_problem, table_problem
from trueboundary.theory import caps, truncated
from trueboundary.theory.gaussian_pairs import spherical_pair_error

SMALL = tb.Splitting(n_particles=200)


class Cap(torch.nn.Module):
    """Calls everything outer whose first coordinate exceeds a height."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height = torch.nn.Parameter(torch.tensor(height).double(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] - self.height).unsqueeze(1)


def rare_cap(dim: int, measure: float) -> Cap:
    return Cap(caps.threshold(dim, measure))


def spherical_pair(separation: float, std: float = 1.0) -> tb.MixtureProblem:
    zero, one = (
        LowRankGaussian(torch.tensor([m, 0.0, 0.0]).double(), torch.zeros(3, 0).double(), std**2)
        for m in (-separation / 2, separation / 2)
    )
    return tb.MixtureProblem(zero, one)


class TestExact:
    @pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.7, 1.2, 5.0])
    def test_truncated_sums_are_those_of_theory_and_of_samples(self, threshold: float) -> None:
        classifier = tb.TruncatedSum(12, 8, threshold, dtype=torch.float64)
        problem = tb.ConcentricSpheres(12)
        exact = tb.error_rate(classifier, problem)
        truth = truncated.log_errors(12, 8, threshold)
        assert [rate.method for rate in exact] == ["exact", "exact"]
        assert [rate.value for rate in exact] == pytest.approx([math.exp(v) for v in truth])
        sampled = tb.error_rate(classifier, problem, method="sampling", n_points=10_000)
        for a, b in zip(exact, sampled, strict=True):
            assert b.low <= a.value <= b.high

    def test_the_optimal_classifier_of_the_spheres_has_no_error(self) -> None:
        problem = tb.ConcentricSpheres(30)
        assert [r.log10 for r in tb.error_rate(SphereBayes(30), problem)] == [-math.inf] * 2
        too_far = SphereBayes(30, radius=2.0)  # its boundary, 1.5, is outside both spheres
        assert [r.value for r in tb.error_rate(too_far, problem)] == [0.0, 1.0]

    @pytest.mark.parametrize("panel", ["c", "g"])
    def test_tables_are_summed_for_any_classifier(self, panel: str) -> None:
        problem = table_problem(panel)
        best = tb.error_rate(problem.bayes_classifier(dtype=torch.float64), problem)
        for rate in best:
            assert rate.value == pytest.approx(problem.error_rate(rate.label), rel=1e-12)
        line = LinearSVM(torch.tensor([1.0, 0.0]), bias=-50.0)
        exact = tb.error_rate(line, problem)
        sampled = tb.error_rate(line, problem, method="sampling", n_points=20_000)
        for a, b in zip(exact, sampled, strict=True):
            assert (a.method, b.method) == ("exact", "sampling")
            assert b.low <= a.value <= b.high

    def test_pairs_of_gaussians(self) -> None:
        problem = spherical_pair(12.0)
        exact = tb.error_rate(problem.bayes_classifier(dtype=torch.float64), problem)
        truth = spherical_pair_error(12.0, 1.0)
        for rate in exact:
            assert rate.method == "exact"
            assert rate.value == pytest.approx(truth, rel=1e-9)

    def test_a_prior_moves_the_errors_of_a_pair_to_the_rarer_class(self) -> None:
        pair = spherical_pair(3.0)
        problem = tb.MixtureProblem(pair.density_0, pair.density_1, prior=0.2)
        classifier = problem.bayes_classifier(dtype=torch.float64)
        exact = tb.error_rate(classifier, problem)
        sampled = tb.error_rate(classifier, problem, method="sampling", n_points=50_000)
        assert exact[0].value < exact[1].value
        for a, b in zip(exact, sampled, strict=True):
            assert b.low <= a.value <= b.high

    def test_a_rounded_or_another_pair_is_no_exact_one(self) -> None:
        problem = planar_problem("b")
        rounded = problem.bayes_classifier()
        other = planar_problem("e").bayes_classifier(dtype=torch.float64)
        for classifier in (rounded, other):
            rate, _ = tb.error_rate(classifier, problem, n_points=1000)
            assert rate.method == "sampling"
        exact, _ = tb.error_rate(problem.bayes_classifier(dtype=torch.float64), problem)
        assert exact.method == "exact"


class TestSplitting:
    def test_it_agrees_with_the_exact_rate_of_a_quadratic_network(self) -> None:
        network = tb.QuadraticNetwork.perfect(30, 30, dtype=torch.float64)
        with torch.no_grad():
            network.hidden_weight[0] *= 1.25  # one alpha above 1: rare errors inside, none outside
        problem = tb.ConcentricSpheres(30)
        exact, _ = tb.error_rate(network, problem)
        assert 1e-9 < exact.value < 1e-3
        split, never = tb.error_rate(network, problem, method="splitting", splitting=SMALL)
        assert split.method == "splitting"
        assert split.low < exact.value < split.high
        assert split.value == pytest.approx(exact.value, rel=0.5)
        assert split.n_evaluations > split.n_points == 2000
        assert "evaluations" in str(split)
        assert math.isnan(never.value)
        assert 0 < never.high < 0.01
        assert "below" in str(never)
        assert "reached none" in str(never)

    def test_it_is_chosen_where_a_sample_sees_next_to_nothing(self) -> None:
        problem = tb.ConcentricSpheres(20)
        rare, common = tb.error_rate(
            rare_cap(20, 1e-7), problem, n_points=20_000, splitting=SMALL, seed=1
        )
        assert rare.method == "splitting"
        assert rare.low < 1e-7 < rare.high
        assert (rare.n_points, rare.n_errors) == (20_000, 0)
        assert rare.n_evaluations > 20_000
        assert "only 0 of 20,000" in rare.reason
        assert not rare.warnings
        assert common.method == "sampling"  # nearly all of the outer sphere is below the cap

    def test_it_is_not_chosen_for_a_small_sample_or_a_problem_without_a_move(self) -> None:
        problem = tb.ConcentricSpheres(20)
        rate, _ = tb.error_rate(rare_cap(20, 1e-7), problem, n_points=1000)
        assert rate.method == "sampling"
        assert rate.low == 0 < rate.high
        assert "larger sample" in rate.reason
        assert str(rate).startswith("class 0: below 0.00")
        unknown = _Cube()
        rate, _ = tb.error_rate(rare_cap(20, 1e-9), unknown, n_points=20_000)
        assert rate.method == "sampling"
        assert "no move" in rate.reason
        with pytest.raises(TypeError, match="no move"):
            tb.error_rate(rare_cap(20, 1e-9), unknown, method="splitting")

    def test_a_climb_without_errors_leaves_the_samples_limit(self) -> None:
        problem = tb.ConcentricSpheres(5)
        settings = tb.Splitting(n_particles=100, min_probability=1e-6)
        never = Cap(1.1)
        rate, outer = tb.error_rate(never, problem, n_points=20_000, splitting=settings)
        assert rate.method == "sampling"
        assert rate.high == pytest.approx(3.69 / 20_000, rel=0.01)
        assert rate.splitting is not None
        assert not rate.splitting.reached
        assert "splitting reached none" in rate.reason
        assert "probability of" in str(rate)
        assert outer.n_errors > 10

    def test_errors_that_only_an_attack_finds_are_told(self, monkeypatch) -> None:
        # The true errors hide behind low scores; the attack is told where they are.
        def hidden(x: torch.Tensor) -> torch.Tensor:
            return torch.where(x[:, 1] > 0.97, x[:, 1], x[:, 0] - 1.2)

        seeds = torch.nn.functional.pad(torch.ones(3, 1), (1, 18)).float()
        found = SimpleNamespace(success=torch.ones(3, dtype=torch.bool), x_adv=seeds)
        monkeypatch.setattr(rates, "seed_attack", lambda *_, **__: found)
        settings = tb.Splitting(n_particles=100, min_probability=1e-6)
        rate, _ = tb.error_rate(
            hidden, tb.ConcentricSpheres(20), n_points=20_000, splitting=settings
        )
        assert any("an attack found 3 errors" in sentence for sentence in rate.warnings)
        assert "warning: an attack found" in str(rate)

    def test_a_sample_that_contradicts_splitting_is_believed(self, monkeypatch) -> None:
        problem = tb.ConcentricSpheres(10)
        cap = rare_cap(10, 2e-4)
        run = rates._Run(cap, problem, 20_000, 0, SMALL, "cpu", lambda _: None, None)
        few = rates.ErrorRate(0, 4e-4, 3e-4, 5e-4, -3.4, "sampling", "test", 20_000, 8, 20_000)
        tiny = rates.ErrorRate(0, 1e-9, 1e-10, 1e-8, -9, "splitting", "test", 2000, 0, 99)
        monkeypatch.setattr(rates._Run, "split", lambda *_: tiny)
        doubtful = run.look_deeper(few)
        assert "trust the sample" in doubtful.warnings[-1]

    def test_a_classifier_without_gradients_is_split_without_an_attack(self) -> None:
        height = caps.threshold(10, 1e-5)

        def in_numpy(x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(x.numpy()[:, 0] - np.float32(height))

        rate, _ = tb.error_rate(
            in_numpy, tb.ConcentricSpheres(10), n_points=20_000, splitting=SMALL
        )
        assert rate.method == "splitting"
        assert rate.low < 1e-5 < rate.high
        assert "no attack could look" in rate.warnings[0]

    def test_gaussians_and_tables_are_split_too(self) -> None:
        pair = spherical_pair(8.0)
        best = pair.bayes_classifier(dtype=torch.float64)
        truth = spherical_pair_error(8.0, 1.0)
        for rate in tb.error_rate(best, pair, method="splitting", splitting=SMALL):
            assert rate.low < truth < rate.high
        table = table_problem("g")
        rate, _ = tb.error_rate(
            table.bayes_classifier(dtype=torch.float64), table, method="splitting", splitting=SMALL
        )
        assert rate.method == "splitting"

    def test_the_same_seed_gives_the_same_rate(self) -> None:
        problem, cap = tb.ConcentricSpheres(10), rare_cap(10, 1e-5)
        first, again, other = (
            tb.error_rate(cap, problem, method="splitting", splitting=SMALL, seed=seed)[0].value
            for seed in (3, 3, 4)
        )
        assert first == again != other


class TestRefusals:
    def test_what_is_no_classifier_or_no_problem(self) -> None:
        with pytest.raises(TypeError, match="expected a classifier"):
            tb.error_rate(3, tb.ConcentricSpheres(3))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected a problem"):
            tb.error_rate(Cap(0.3), "spheres")  # type: ignore[arg-type]

    def test_exactness_where_it_is_not_known_says_where_it_is(self) -> None:
        with pytest.raises(ValueError, match=r"BayesOptimal on MixtureProblem.*'sampling'"):
            tb.error_rate(Cap(0.3), tb.ConcentricSpheres(5), method="exact")

    @pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
    def test_a_confidence_that_is_none(self, confidence: float) -> None:
        with pytest.raises(ValueError, match="confidence"):
            tb.error_rate(Cap(0.3), tb.ConcentricSpheres(5), confidence=confidence)

    def test_no_points(self) -> None:
        with pytest.raises(ValueError, match="n must be at least 1"):
            tb.error_rate(Cap(0.3), tb.ConcentricSpheres(5), n_points=0)

    def test_a_classifier_of_another_dimension(self) -> None:
        with pytest.raises(ValueError, match="takes points of 6 dimensions"):
            tb.error_rate(SphereBayes(6), tb.ConcentricSpheres(5))


class _Cube(tb.ConcentricSpheres):
    """A problem whose density nobody knows a move for."""

    def __init__(self) -> None:
        super().__init__(20)

    density = None  # type: ignore[assignment]

    def sample_class(self, n, label, *, generator, dtype=torch.float32, device=None):
        return torch.rand(n, self.dim, generator=generator, dtype=dtype) / 10


def test_a_wider_confidence_widens_the_interval() -> None:
    problem = tb.ConcentricSpheres(10)
    narrow, wide = (
        tb.error_rate(Cap(0.3), problem, n_points=2000, confidence=level)[0]
        for level in (0.9, 0.999)
    )
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_double_precision_classifiers_get_double_precision_points() -> None:
    seen = []

    class Spy(BayesOptimal):
        def margin(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.dtype)
            return super().margin(x)

    pair = spherical_pair(1.0)
    spy = Spy(pair.density_0, pair.density_1)
    tb.error_rate(spy, pair, method="sampling", n_points=100)
    assert set(seen) == {torch.float64}


@pytest.mark.parametrize("boundary", [-1.1, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_rules_of_the_norm_are_exact_wherever_their_boundary_is_moved(boundary):
    problem = tb.ConcentricSpheres(4, radius=2.0)
    # A margin of exactly 0 is class 0, on the inner sphere and on the outer one.
    expected = [float(boundary < 1), float(boundary >= 2)]
    moved = SphereBayes(4, 2.0)
    moved.boundary.data.fill_(boundary)
    rules = [moved, tb.TruncatedSum(4, 4, math.copysign(boundary**2, boundary))]
    for rule in rules:
        rates = tb.error_rate(rule, problem)
        assert [rate.method for rate in rates] == ["exact", "exact"]
        assert [rate.value for rate in rates] == expected
    found = tb.distances(moved, problem, n_points=3)
    for each, error_rate in zip(found, expected, strict=True):
        if boundary not in (1.0, 2.0):  # where a margin of 0 is an error for certificates
            assert ((each.upper == 0) == bool(error_rate)).all()


def test_an_ellipsoid_that_is_the_outer_sphere_calls_all_of_it_class_0():
    network = tb.QuadraticNetwork(2, 2, generator=torch.Generator().manual_seed(0))
    for name, value in (("hidden_weight", torch.eye(2) / 2), ("weight", 1.0), ("bias", -1.0)):
        network.get_parameter(name).data.copy_(torch.as_tensor(value))
    rates = tb.error_rate(network, tb.ConcentricSpheres(2, radius=2.0))
    assert [(rate.method, rate.value) for rate in rates] == [("exact", 0.0), ("exact", 1.0)]


def test_two_gaussians_that_are_the_same_are_both_class_0():
    density = LowRankGaussian(torch.zeros(3).double(), torch.zeros(3, 1).double(), 1.0)
    problem = tb.MixtureProblem(density, density)
    classifier = problem.bayes_classifier(dtype=torch.float64)
    for method in ("exact", "sampling"):
        rates = tb.error_rate(classifier, problem, method=method, n_points=100)
        assert [rate.value for rate in rates] == [0.0, 1.0]
