"""Brackets of distances for every kind of classifier, and what they say of optimality."""

import math

import numpy as np
import pytest
import torch

import trueboundary as tb
from trueboundary.attacks import LogDensityGradient, ManifoldAttack
from trueboundary.certificates import Certificate, Certified, Subject
from trueboundary.classifiers import LinearSVM, SphereBayes, fit_rbf_svm
from trueboundary.measure import brackets
from trueboundary.measure.proofs import default_proof
from trueboundary.problems import planar_problem, table_problem
from trueboundary.theory import caps

SPHERES = tb.ConcentricSpheres(dim=8)


class Cap(torch.nn.Module):
    """Calls everything outer whose first coordinate exceeds a height."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height = torch.nn.Parameter(torch.tensor(height).double(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] - self.height).unsqueeze(1)


def relu_network(generator: torch.Generator) -> tb.ReLUNetwork:
    return tb.ReLUNetwork(8, 16, 2, generator=generator).eval()


def check(found: tb.Distances, n: int) -> None:
    """Fail unless the brackets are proper ones, with something proven and something found."""
    assert found.n == n
    assert (found.lower <= found.upper * (1 + 1e-6) + 1e-8).all()
    assert np.isfinite(found.upper).any()
    right = found.upper > 0
    assert (found.lower[right] > 0).all()
    assert ((found.relative_width >= 0) & (found.relative_width <= 1)).all()


class TestDefaults:
    def test_a_quadratic_network_in_single_precision_is_bracketed_closely(
        self, generator: torch.Generator
    ) -> None:
        network = tb.QuadraticNetwork(8, 16, generator=generator)
        for found in tb.distances(network, SPHERES, n_points=15):
            check(found, 15)
            assert found.exact.all()
            assert found.method == "EllipsoidCertificate below, NearestError above"
            assert (found.upper <= found.lower * 1.01).all()
            assert found.median_relative_width == 0
        assert next(network.parameters()).dtype == torch.float32  # a copy was converted

    def test_a_truncated_sum(self) -> None:
        classifier = tb.TruncatedSum(8, 5, 0.9)
        for found in tb.distances(classifier, SPHERES, n_points=15):
            check(found, 15)
            assert found.exact.all()
            assert (found.upper <= found.lower * 1.01).all()

    def test_a_classifier_without_errors(self) -> None:
        for found in tb.distances(SphereBayes(8), SPHERES, n_points=4):
            assert np.isinf(found.lower).all()
            assert np.isinf(found.upper).all()
            assert (found.relative_width == 0).all()
            assert "no error was found from any of 4 points" in str(found)

    def test_a_relu_network(self, generator: torch.Generator) -> None:
        network = relu_network(generator)
        found = tb.distances(network, SPHERES, n_points=10)
        assert found[0].method.startswith("RelaxationCertificate")
        for each in found:
            assert (each.lower <= each.upper * (1 + 1e-6)).all()
            right = each.upper > 0
            assert (each.lower[right] > 0).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_network_in_training_mode_is_certified_as_in_eval_mode(
        self, generator: torch.Generator, dtype: torch.dtype
    ) -> None:
        network = relu_network(generator).to(dtype)
        expected = tb.distances(network, SPHERES, n_points=5)
        state = {key: value.clone() for key, value in network.train().state_dict().items()}
        for a, b in zip(tb.distances(network, SPHERES, n_points=5), expected, strict=True):
            assert a.method == b.method
            assert np.array_equal(a.lower, b.lower)
            assert np.array_equal(a.upper, b.upper)
        assert network.training
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())

    @pytest.mark.parametrize("n_out", [1, 2])
    def test_a_plain_sequence_of_layers(self, generator: torch.Generator, n_out: int) -> None:
        ours = relu_network(generator)
        (w1, b1), (w2, b2), (w3, b3) = ours.folded()
        if n_out == 2:  # the margin as a difference of two logits
            w3, b3 = torch.cat([0 * w3, w3]), torch.cat([b3, 2 * b3])
        layers: list[torch.nn.Module] = []
        for weight, bias in ((w1, b1), (w2, b2), (w3, b3)):
            linear = torch.nn.Linear(*weight.T.shape, device="meta").to_empty(device="cpu").double()
            with torch.no_grad():
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
            layers += [linear, torch.nn.ReLU()]
        plain = torch.nn.Sequential(*layers[:-1])
        for subject in (plain, tb.as_classifier(plain)):
            for a, b in zip(
                tb.distances(subject, SPHERES, n_points=6),
                tb.distances(ours.double(), SPHERES, n_points=6),
                strict=True,
            ):
                assert a.method.startswith("RelaxationCertificate")
                assert a.lower == pytest.approx(b.lower, rel=1e-6)

    def test_other_sequences_have_no_certificate(self) -> None:
        for network in (
            torch.nn.Sequential(torch.nn.Linear(8, 4, device="meta"), torch.nn.Tanh()),
            torch.nn.Sequential(torch.nn.Flatten()),
            torch.nn.Sequential(),
        ):
            assert default_proof(network) == (None, "")

    def test_a_linear_svm_in_space_and_on_spheres(self) -> None:
        problem = planar_problem("a")
        svm = LinearSVM(torch.tensor([1.0, 0.0]), bias=0.1)
        for found in tb.distances(svm, problem, n_points=10):
            check(found, 10)
            assert found.method == "SVMCertificate below, NearestError above"
            assert found.exact.all()
            assert (found.upper <= found.lower * 1.01).all()
        height = LinearSVM(torch.eye(8)[0], bias=-0.3)
        inner, outer = tb.distances(height, SPHERES, n_points=10)
        for found in (inner, outer):
            check(found, 10)
            assert not found.exact[found.upper > 0].any()  # exact in space, a bound on the sphere

    def test_an_rbf_svm(self, generator: torch.Generator) -> None:
        problem = planar_problem("a")
        x, y = problem.sample(60, generator=generator, dtype=torch.float64)
        svm = fit_rbf_svm(x, y, gamma=0.3)
        for found in tb.distances(svm, problem, n_points=4):
            check(found, 4)
            assert found.method.startswith("SVMCertificate")

    @pytest.mark.parametrize("panel", ["a", "b", "d", "e", "h"])
    def test_optimal_classifiers_of_gaussians_and_mixtures(self, panel: str) -> None:
        problem = planar_problem(panel)
        for found in tb.distances(problem.bayes_classifier(), problem, n_points=10):
            check(found, 10)
            assert found.method == "MixtureCertificate below, rays above"
            if panel in "abe":  # pairs
                assert found.exact.all()
                assert (found.upper <= found.lower * (1 + 1e-6)).all()
            else:
                assert found.median_relative_width < 0.1

    def test_optimal_classifiers_in_a_box_are_attacked(self) -> None:
        problem = planar_problem("a")
        box = tb.Box(-20.0, 20.0)
        for found in tb.distances(problem.bayes_classifier(), problem, n_points=5, domain=box):
            check(found, 5)
            assert found.method == "MixtureCertificate below, NearestError above"

    def test_a_quadratic_network_in_a_box_is_bounded_by_space(
        self, generator: torch.Generator
    ) -> None:
        network = tb.QuadraticNetwork(8, 16, generator=generator)
        space, _ = tb.distances(network, SPHERES, n_points=5, domain=tb.Space())
        found, _ = tb.distances(network, SPHERES, n_points=5, domain=tb.Box(-2.0, 2.0))
        check(found, 5)
        assert np.array_equal(found.lower, space.lower)
        assert found.exact.all()  # the nearest errors in space lie in the box

    @pytest.mark.parametrize("panel", ["c", "g"])
    def test_tables_are_looked_through(self, panel: str) -> None:
        problem = table_problem(panel)
        best = problem.bayes_classifier(dtype=torch.float64)
        for label, found in enumerate(tb.distances(best, problem, n_points=500)):
            assert found.exact.all()
            assert (found.lower == found.upper).all()
            share = (found.upper <= 1.0).mean()
            expected = problem.distance_share(label, 1.0)
            assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 500) + 1e-9

    def test_a_function_is_attacked_without_a_certificate(self) -> None:
        found, _ = tb.distances(lambda x: x[:, 0] - 0.3, SPHERES, n_points=5)
        assert (found.lower == 0).all()
        assert not found.exact.any()
        assert found.method == "no certificate below, NearestError above"
        assert found.median_relative_width == 1


class TestRefusals:
    def test_a_bound_that_an_error_contradicts_is_a_bug(self) -> None:
        class Wrong(Certificate):
            def certify(self, subject: Subject) -> Certified:
                return Certified(1.9 * torch.ones_like(subject.x[:, 0]), subject.y > 3)

        with pytest.raises(ArithmeticError, match=r"Wrong excludes errors within 1\.9 of point "):
            tb.distances(Cap(0.1), SPHERES, n_points=3, certificate=Wrong())

    def test_rounding_is_no_contradiction(self) -> None:
        x = torch.ones(2, 4, dtype=torch.float64)
        distance = np.array([1e-9, 0.3])
        brackets._check_order(distance * (1 + 5e-7), distance, x, "proof", "attack")
        with pytest.raises(ArithmeticError, match="of point 1"):
            brackets._check_order(distance * (1 + 2e-6), distance, x, "proof", "attack")

    def test_nonsense(self) -> None:
        with pytest.raises(TypeError, match="expected a classifier"):
            tb.distances(None, SPHERES)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected a problem"):
            tb.distances(Cap(0.1), None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="n_points must be at least 1"):
            tb.distances(Cap(0.1), SPHERES, n_points=0)
        table = table_problem("c")
        with pytest.raises(ValueError, match="tables have all their points in space"):
            tb.distances(table.bayes_classifier(), table, domain=tb.Box(0.0, 1.0))


class TestOptimality:
    def test_a_cap_is_optimal(self) -> None:
        problem = tb.ConcentricSpheres(30)
        inner, outer = tb.optimality(Cap(0.3), problem, n_points=300, n_error_points=50_000)
        for found in (inner, outer):
            assert found.rate.method == "sampling"
            assert found.high >= 1
            assert 0 < found.low <= found.high  # between what was proven and what was found
            spread = found.distances.upper.std(ddof=1) / math.sqrt(300) / found.best
            assert abs(found.ratio - 1) < 4 * spread
        assert inner.best == pytest.approx(caps.mean_distance(30, inner.rate.value), rel=1e-12)
        assert outer.best == pytest.approx(
            caps.mean_distance(30, outer.rate.value, radius=1.3), rel=1e-12
        )
        assert "of the optimum" in str(inner)

    def test_no_classifier_is_better_than_optimal(self, generator: torch.Generator) -> None:
        problem = tb.ConcentricSpheres(30)
        network = tb.QuadraticNetwork(30, 60, generator=generator)
        for found in tb.optimality(network, problem, n_points=100):
            assert found.rate.method == "exact"
            assert 0.4 < found.low < found.ratio < found.high < 1
            distances = np.where(
                found.distances.exact, found.distances.lower, found.distances.upper
            )
            assert found.mean_distance == pytest.approx(distances.mean())
            assert found.ratio == pytest.approx(found.mean_distance / found.best)
            assert found.method.startswith("error rate: exact; distances: EllipsoidCertificate")

    def test_a_rate_with_an_interval_widens_that_of_the_ratio(
        self, generator: torch.Generator
    ) -> None:
        problem = tb.ConcentricSpheres(30)
        network = tb.QuadraticNetwork(30, 60, generator=generator)
        exact, _ = tb.optimality(network, problem, n_points=50)
        sampled, _ = tb.optimality(
            network, problem, n_points=50, method="sampling", n_error_points=2000
        )
        assert sampled.low < exact.low < exact.ratio < exact.high < sampled.high
        assert "sampling" in sampled.method

    def test_splitting_reaches_where_samples_do_not(self) -> None:
        height = caps.threshold(20, 1e-8)
        inner, _ = tb.optimality(
            Cap(height),
            tb.ConcentricSpheres(20),
            n_points=100,
            n_error_points=20_000,
            splitting=tb.Splitting(n_particles=200),
        )
        assert inner.rate.method == "splitting"
        assert inner.ratio == pytest.approx(1, abs=0.05)
        assert inner.high > 1

    def test_without_errors_there_is_nothing_to_compare(self) -> None:
        for found in tb.optimality(SphereBayes(8), SPHERES, n_points=4):
            assert math.isnan(found.ratio)
            assert found.mean_distance == math.inf
            assert (found.low, found.high) == (0.0, math.inf)
            assert "nothing to compare" in str(found)

    def test_errors_that_no_attack_found_leave_the_ratio_open(self) -> None:
        inner, _ = tb.optimality(
            Cap(0.6),
            SPHERES,
            n_points=5,
            method="sampling",
            n_error_points=5000,
            attack=ManifoldAttack(n_steps=2),
        )
        assert inner.rate.value > 0
        assert math.isnan(inner.ratio)
        assert inner.high == math.inf

    def test_other_problems_are_refused(self) -> None:
        problem = planar_problem("a")
        with pytest.raises(TypeError, match="known on ConcentricSpheres, got MixtureProblem"):
            tb.optimality(problem.bayes_classifier(), problem)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="n_points must be at least 2"):
            tb.optimality(Cap(0.1), SPHERES, n_points=1)


def test_the_doubts_of_an_attack_are_passed_on():
    problem, attack = planar_problem("three"), LogDensityGradient()
    optimal = problem.bayes_classifier(dtype=torch.float64)
    found = tb.distances(optimal, problem, n_points=20, attack=attack)
    assert ["slant" in " ".join(of_class.warnings) for of_class in found] == [False, True, False]


class TestBatches:
    """Points proven and attacked a few at a time have the distances of all at once."""

    @pytest.mark.parametrize("kind", ["ellipsoid", "network", "rays", "mine", "table"])
    def test_batches_change_no_distance(self, kind: str, generator: torch.Generator) -> None:
        problem, classifier = {
            "ellipsoid": lambda: (SPHERES, tb.QuadraticNetwork(8, 16, generator=generator)),
            "network": lambda: (SPHERES, relu_network(generator)),
            "rays": lambda: (planar_problem("a"), planar_problem("a").bayes_classifier()),
            "mine": lambda: (planar_problem("a"), lambda x: x[:, 0] + x[:, 1] ** 2),
            "table": lambda: (table_problem("c"), table_problem("c").bayes_classifier()),
        }[kind]()
        whole = tb.distances(classifier, problem, n_points=7)
        parts = tb.distances(classifier, problem, n_points=7, batch_size=3)
        for one, other in zip(whole, parts, strict=True):
            assert one.method == other.method
            assert one.reasons == other.reasons
            for name in ("lower", "upper", "exact", "other"):
                np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5)

    def test_no_batch_is_too_large_for_what_was_asked(self) -> None:
        sizes: list[int] = []

        def plane(x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return x[:, 0]

        x = torch.linspace(-2, -1, 10).unsqueeze(1) * torch.ones(1, 2)
        found = brackets.distances_from(plane, x, 0, batch_size=4)
        assert found.n == 10
        assert max(sizes) <= 4

    def test_a_batch_has_points(self) -> None:
        with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
            tb.distances(SphereBayes(8), SPHERES, n_points=2, batch_size=0)
