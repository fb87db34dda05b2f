"""Training on worst cases and on attacked points, and what it costs."""

import pytest
import torch

from trueboundary.attacks import ManifoldAttack
from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork
from trueboundary.problems import ConcentricSpheres, OnlineStream
from trueboundary.training import (
    ExactWorstCase,
    OnManifoldAdversary,
    TrainingConfig,
    cross_entropy,
    steps_until_perfect,
    train,
    train_eval_gap,
)

PROBLEM = ConcentricSpheres(dim=5)
STREAM = OnlineStream(PROBLEM, 20, seed=0)


def quadratic(seed=0):
    return QuadraticNetwork(5, 10, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
def test_no_sample_is_worse_than_the_exact_worst_case(seed, generator):
    model = quadratic(seed).double()
    x, y = ExactWorstCase("both")(model, *STREAM.batch(0), generator=generator)
    worst = cross_entropy(model.margin(x), y)
    torch.testing.assert_close(x.norm(dim=1), torch.tensor([1.0, 1.3], dtype=torch.float64))
    for label in (0, 1):
        points, labels = next(
            PROBLEM.blocks(5000, seed=0, block_size=5000, label=label, dtype=torch.float64)
        )
        assert cross_entropy(model.margin(points), labels).max() <= worst[label] * (1 + 1e-12)

    single_x, single_y = ExactWorstCase("worst")(model, *STREAM.batch(0), generator=generator)
    index = int(worst.argmax())
    assert single_y.tolist() == [index]
    torch.testing.assert_close(single_x[0], x[index])


def test_the_worst_case_agrees_with_the_ellipsoid(generator):
    model = quadratic().double()
    x, y = ExactWorstCase("both")(model, *STREAM.batch(0), generator=generator)
    losses = cross_entropy(model.margin(x), y).tolist()
    ellipsoid = model.ellipsoid()
    assert losses[0] == pytest.approx(ellipsoid.worst_case_loss("inner"), rel=1e-10)
    assert losses[1] == pytest.approx(ellipsoid.worst_case_loss("outer"), rel=1e-10)


def test_the_worst_case_of_an_inverted_network(generator):
    model = quadratic().double()
    with torch.no_grad():
        model.weight.neg_()
        model.bias.neg_()
    x, y = ExactWorstCase("both")(model, *STREAM.batch(0), generator=generator)
    ellipsoid = model.ellipsoid()
    losses = cross_entropy(model.margin(x), y).tolist()
    assert losses[0] == pytest.approx(ellipsoid.worst_case_loss("inner"), rel=1e-10)
    assert losses[1] == pytest.approx(ellipsoid.worst_case_loss("outer"), rel=1e-10)


@pytest.mark.parametrize("points", ["worst", "both"])
def test_worst_case_training_reaches_a_perfect_network(points):
    model = quadratic()
    config = TrainingConfig(n_steps=3000, learning_rate=1e-3)
    steps = steps_until_perfect(
        model, STREAM, config, check_every=50, adversary=ExactWorstCase(points)
    )
    assert steps is not None
    assert steps % 50 == 0
    assert steps > 0
    assert model.ellipsoid().is_perfect(1.3)


def test_an_attack_finds_points_with_a_larger_loss(generator):
    model = quadratic()
    x, y = STREAM.batch(0)
    attack = ManifoldAttack("worst_case", n_steps=20, step_size=0.05)
    x_adv, y_adv = OnManifoldAdversary(attack)(model, x, y, generator=generator)
    before, after = (cross_entropy(model.margin(p), y) for p in (x, x_adv))
    assert torch.equal(y, y_adv)
    assert (after >= before - 1e-6).all()
    assert after.mean() > 1.5 * before.mean()
    torch.testing.assert_close(x_adv.norm(dim=1), x.norm(dim=1))


def test_training_on_attacked_points_reaches_a_perfect_network():
    model = quadratic()
    attack = ManifoldAttack("worst_case", n_steps=10, step_size=0.05)
    config = TrainingConfig(n_steps=2000, learning_rate=3e-3)
    steps = steps_until_perfect(
        model, STREAM, config, check_every=50, adversary=OnManifoldAdversary(attack)
    )
    assert steps is not None
    assert model.ellipsoid().is_perfect(1.3)


def test_a_perfect_network_needs_no_step():
    model = QuadraticNetwork.perfect(5, 10)
    assert steps_until_perfect(model, STREAM, TrainingConfig(n_steps=10), check_every=5) == 0


def test_too_few_steps_give_no_answer():
    progress = []
    config = TrainingConfig(n_steps=7)
    steps = steps_until_perfect(
        quadratic(), STREAM, config, check_every=3, progress=progress.append
    )
    assert steps is None
    assert progress == list(range(1, 8))


def test_the_attack_sees_the_model_in_eval_mode(generator):
    model = ReLUNetwork(5, 8, 1, generator=torch.Generator().manual_seed(0))
    modes = []

    def attack(classifier, x, y, generator):
        modes.append(classifier.training)
        return x

    OnManifoldAdversary(attack)(model, *STREAM.batch(0), generator=generator)
    assert modes == [False]
    assert model.training


def test_each_step_has_random_numbers_of_its_own():
    draws = []

    def attack(classifier, x, y, generator):
        draws.append(torch.rand((), generator=generator).item())
        return x

    train(quadratic(), STREAM, TrainingConfig(n_steps=3), adversary=OnManifoldAdversary(attack))
    assert len(set(draws)) == 3


@pytest.mark.parametrize(
    "attack",
    [lambda c, x, y, generator: x[:3], lambda c, x, y, generator: x / 0.0],
    ids=["shape", "infinity"],
)
def test_a_broken_attack_is_reported(attack, generator):
    with pytest.raises(ValueError, match=r"must return finite points of shape \(20, 5\)"):
        OnManifoldAdversary(attack)(quadratic(), *STREAM.batch(0), generator=generator)


def test_bad_parameters(generator):
    with pytest.raises(ValueError, match="points must be 'worst' or 'both', got 'all'"):
        ExactWorstCase("all")
    with pytest.raises(ValueError, match="radius must be a finite number above 1"):
        ExactWorstCase(radius=0.5)
    network = ReLUNetwork(5, 8, 1, generator=generator)
    with pytest.raises(TypeError, match="QuadraticNetwork alone, got ReLUNetwork"):
        ExactWorstCase()(network, *STREAM.batch(0), generator=generator)
    with pytest.raises(ValueError, match="check_every must be at least 1"):
        steps_until_perfect(quadratic(), STREAM, TrainingConfig(n_steps=1), check_every=0)


def test_adversaries_are_described_by_their_settings():
    assert ExactWorstCase("both").describe() == "ExactWorstCase(points='both', radius=1.3)"
    attack = ManifoldAttack("worst_case", n_steps=3)
    assert "n_steps=3" in OnManifoldAdversary(attack).describe()
    assert OnManifoldAdversary(lambda: None).describe() == "OnManifoldAdversary(function)"


def test_train_eval_gap(generator):
    model = ReLUNetwork(5, 16, 2, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, _ = PROBLEM.sample(50, generator=generator)
    fresh = train_eval_gap(model, x)
    assert 0 < fresh.mean < fresh.maximum
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training

    # By hand: once the running averages are those of this very batch, the modes agree but for
    # the running variance being the unbiased one, n / (n - 1) times the batch's.
    for norm in model.norm:
        norm.momentum = None  # cumulative average
    model.margin(x)
    assert train_eval_gap(model, x).mean < 0.05 * fresh.mean
