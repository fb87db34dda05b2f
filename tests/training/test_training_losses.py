"""Losses and points that ask for robustness, against closed forms and finite differences."""

import math

import pytest
import torch

from trueboundary.classifiers import ReLUNetwork, SoftmaxRegression
from trueboundary.domains import Space, Sphere
from trueboundary.problems import ConcentricSpheres, OnlineStream, planar_problem
from trueboundary.training import (
    LargeMargin,
    OnManifoldAdversary,
    TowardsNearestError,
    TrainingConfig,
    WeightDecay,
    train,
)


def linear(n_classes, dim=4, seed=0):
    model = SoftmaxRegression(dim, n_classes, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.weight.copy_(torch.randn(model.weight.shape, generator=generator))
        model.bias.copy_(torch.randn(model.bias.shape, generator=generator))
    return model


def points(n=20, dim=4, n_classes=2):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return x, torch.arange(n) % n_classes


class TestWeightDecay:
    def test_it_is_the_cross_entropy_and_half_the_squares(self, generator):
        model, (x, y) = linear(3), points(n_classes=3)
        loss = WeightDecay(0.3)(model, x, y, generator=generator)
        plain = torch.nn.functional.cross_entropy(x @ model.weight.T + model.bias, y)
        squares = model.weight.square().sum() + model.bias.square().sum()
        torch.testing.assert_close(loss, plain + 0.15 * squares)
        (slope,) = torch.autograd.grad(loss - plain, model.weight)
        torch.testing.assert_close(slope, 0.3 * model.weight.detach())

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, "1"])
    def test_a_strength_is_positive(self, bad):
        with pytest.raises((TypeError, ValueError), match="strength"):
            WeightDecay(bad)


class TestLargeMargin:
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_on_a_linear_classifier_it_is_the_exact_distance(self, n_classes, generator):
        model, (x, y) = linear(n_classes), points(n_classes=n_classes)
        logits = (x @ model.weight.T + model.bias).detach()
        expected = []
        for row, label, at in zip(logits, y.tolist(), x, strict=True):
            other = max((j for j in range(n_classes) if j != label), key=lambda j: row[j].item())
            difference = model.weight[label] - model.weight[other]
            # From the point to the plane on which both logits are equal, signed.
            offset = model.bias[label] - model.bias[other]
            distance = (at @ difference + offset) / difference.norm()
            expected.append(max(0.0, 0.7 - distance.item()))
        loss = LargeMargin(0.7)(model, x, y, generator=generator)
        assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-12)

    def test_its_gradient_is_that_of_finite_differences(self, generator):
        # A smooth network: the slope of the slope is not zero, and has to be gone through.
        class Smooth(ReLUNetwork):
            def outputs(self, x):
                return torch.tanh(x @ self.first.T) @ self.second

        model = Smooth(4, 3, 1, batch_norm=None, generator=generator, dtype=torch.float64)
        draw = torch.Generator().manual_seed(2)
        model.first = torch.nn.Parameter(torch.randn(3, 4, generator=draw, dtype=torch.float64))
        model.second = torch.nn.Parameter(torch.randn(3, generator=draw, dtype=torch.float64))
        x, y = points()
        loss = LargeMargin(5.0)
        (slope,) = torch.autograd.grad(loss(model, x, y, generator=generator), model.first)
        for i in range(3):
            for j in range(4):
                around = []
                for step in (1e-5, -1e-5):
                    with torch.no_grad():
                        model.first[i, j] += step
                    around.append(loss(model, x, y, generator=generator).item())
                    with torch.no_grad():
                        model.first[i, j] -= step
                assert slope[i, j].item() == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-6)

    def test_the_size_of_the_logits_does_not_count(self, generator):
        x, y = points()
        small, large = linear(2), linear(2)
        with torch.no_grad():
            for parameter in large.parameters():
                parameter.mul_(1e6)
        one, other = (LargeMargin(1.0)(m, x, y, generator=generator).item() for m in (small, large))
        assert one == pytest.approx(other, rel=1e-12)

    def test_a_flat_classifier_learns_nothing_and_breaks_nothing(self, generator):
        model = SoftmaxRegression(4, 2, dtype=torch.float64)  # all weights are 0
        x, y = points()
        loss = LargeMargin(0.5)(model, x, y, generator=generator)
        loss.backward()
        assert loss.item() == pytest.approx(0.5)
        assert bool(model.weight.grad.isfinite().all())

    def test_it_trains(self):
        problem = planar_problem("a")
        network = ReLUNetwork(2, 16, 1, batch_norm=None, generator=torch.Generator().manual_seed(0))
        config = TrainingConfig(n_steps=150, learning_rate=1e-2, log_every=10)
        result = train(network, OnlineStream(problem, 50, 0), config, loss=LargeMargin(1.0))
        assert result.losses[-1] < result.losses[0] / 2


class TestTowardsNearestError:
    def test_in_space_it_goes_to_the_plane_or_as_far_as_the_radius(self, generator):
        model, (x, y) = linear(2), points()
        difference = model.weight[1] - model.weight[0]
        offset = model.bias[1] - model.bias[0]
        signed = ((x @ difference + offset) * (2 * y - 1) / difference.norm()).detach()
        moved = TowardsNearestError(0.4)(model, x, y, generator=generator)
        length = (moved - x).norm(dim=1)
        expected = signed.clamp(min=0).clamp(max=0.4)  # errors stay where they are
        torch.testing.assert_close(length, expected, rtol=1e-5, atol=1e-7)
        assert bool((signed < 0).any())
        assert bool((signed > 0.4).any())

    def test_on_spheres_points_stay_on_theirs_and_move_at_most_an_arc(self, generator):
        problem = ConcentricSpheres(dim=5)
        model = linear(2, dim=5)
        x, y = problem.sample(60, generator=generator, dtype=torch.float64)
        domains = (problem.domain(0), problem.domain(1))
        moved = TowardsNearestError(0.2, domains=domains)(model, x, y, generator=generator)
        torch.testing.assert_close(moved.norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)
        radius = x.norm(dim=1)
        arc = 2 * radius * torch.asin((moved - x).norm(dim=1) / (2 * radius))
        assert arc.max().item() == pytest.approx(0.2, rel=1e-9)
        # In which order the points come does not count.
        order = torch.arange(59, -1, -1)
        again = TowardsNearestError(0.2, domains=domains)(
            model, x[order], y[order], generator=torch.Generator().manual_seed(0)
        )
        torch.testing.assert_close(again, moved[order], rtol=0, atol=1e-9)

    def test_it_is_an_adversary_of_the_loop(self, generator):
        network = ReLUNetwork(2, 8, 1, generator=generator)
        adversary = OnManifoldAdversary(TowardsNearestError(0.5))
        assert "radius=0.5" in adversary.describe()
        assert "0x" not in adversary.describe()  # no address: a checkpoint is known by it
        stream = OnlineStream(planar_problem("a"), 20, 0)
        assert train(network, stream, TrainingConfig(n_steps=3), adversary=adversary).n_steps == 3

    @pytest.mark.parametrize("options", [{"radius": 0.0}, {"radius": 1.0, "domains": ()}])
    def test_bad_settings(self, options):
        with pytest.raises(ValueError, match=r"radius|domains"):
            TowardsNearestError(**options)

    def test_one_domain_serves_all_classes(self, generator):
        model, (x, y) = linear(2), points()
        one = TowardsNearestError(0.3, domains=(Space(),))(model, x, y, generator=generator)
        two = TowardsNearestError(0.3, domains=(Space(), Space()))(
            model, x, y, generator=torch.Generator().manual_seed(0)
        )
        torch.testing.assert_close(one, two, rtol=0, atol=1e-9)
        sphere = TowardsNearestError(0.3, domains=(Sphere(),))(model, x, y, generator=generator)
        torch.testing.assert_close(sphere.norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)
