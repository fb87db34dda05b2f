"""The concentric spheres."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueboundary.domains import Sphere
from trueboundary.problems import ConcentricSpheres, block_generator


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 500])
def test_points_lie_on_the_sphere_of_their_label(dim, dtype, generator):
    problem = ConcentricSpheres(dim, radius=1.7)
    x, y = problem.sample(200, generator=generator, dtype=dtype)
    assert x.dtype == dtype
    assert y.dtype == torch.int64
    for label in (0, 1):
        assert problem.density(label).support.check(x[y == label]).all()
    assert 60 < int(y.sum()) < 140  # six standard deviations


def test_points_are_uniform_on_each_sphere(generator):
    # Squared coordinates of uniform points have mean r^2/d; both classes, four standard errors.
    n, dim = 20_000, 4
    problem = ConcentricSpheres(dim)
    for label, radius in enumerate(problem.radii):
        x = problem.sample_class(n, label, generator=generator, dtype=torch.float64)
        error = radius**2 * math.sqrt(2 * (dim - 1) / (dim**2 * (dim + 2)) / n)
        assert (x.square().mean(0) - radius**2 / dim).abs().max() < 4 * error


def test_what_the_problem_knows_about_itself():
    problem = ConcentricSpheres(dim=10)
    assert problem.radii == (1.0, 1.3)
    assert problem.max_margin_radius == pytest.approx(1.15)
    assert problem.event_shape == (10,)
    assert problem.prior == 0.5
    assert isinstance(problem.domain(0), Sphere)
    assert [problem.domain(label).radius for label in (0, 1)] == [1.0, 1.3]
    assert problem.describe() == {"problem": "ConcentricSpheres", "dim": 10, "radius": 1.3}
    assert problem == ConcentricSpheres(np.int64(10), 1.3)
    assert hash(problem) == hash(ConcentricSpheres(10, 1.3))


@settings(deadline=None, max_examples=20, derandomize=True)
@given(dim=st.integers(2, 50), radius=st.floats(1.001, 100.0), seed=st.integers(0, 2**31))
def test_the_bayes_classifier_makes_no_error(dim, radius, seed):
    problem = ConcentricSpheres(dim, radius)
    x, y = problem.sample(50, generator=torch.Generator().manual_seed(seed))
    classifier = problem.bayes_classifier()
    assert torch.equal(classifier.predict(x), y)
    margin = classifier.margin(x)
    torch.testing.assert_close(
        margin.abs(), torch.full_like(margin, (radius - 1) / 2), rtol=1e-3, atol=1e-5 * radius
    )


def test_a_long_stream_begins_like_a_short_one():
    problem = ConcentricSpheres(dim=3)
    short = list(problem.blocks(150, seed=1, block_size=100))
    long = list(problem.blocks(250, seed=1, block_size=100))
    assert [len(y) for _, y in short] == [100, 50]
    assert torch.equal(short[0][0], long[0][0])
    assert torch.equal(short[1][0], long[1][0][:50])
    assert torch.equal(short[1][1], long[1][1][:50])


def test_blocks_can_be_drawn_in_any_order():
    problem = ConcentricSpheres(dim=3)
    in_order = list(problem.blocks(300, seed=4, block_size=100))
    for index in (2, 0, 1):
        x, y = problem.block(index, seed=4, block_size=100)
        assert torch.equal(x, in_order[index][0])
        assert torch.equal(y, in_order[index][1])


def test_seed_purpose_and_class_give_different_blocks():
    problem = ConcentricSpheres(dim=3)
    settings_of_blocks = [
        {"seed": 0},
        {"seed": 1},
        {"seed": 0, "purpose": "training"},
        {"seed": 0, "label": 0},
        {"seed": 0, "label": 1},
    ]
    directions = [
        torch.nn.functional.normalize(problem.block(0, block_size=4, **s)[0])
        for s in settings_of_blocks
    ]
    for i, first in enumerate(directions):
        for second in directions[:i]:
            assert not torch.isclose(first, second).all(dim=1).any()


def test_blocks_of_one_class():
    problem = ConcentricSpheres(dim=3)
    for x, y in problem.blocks(30, seed=0, block_size=20, label=1, dtype=torch.float64):
        assert (y == 1).all()
        assert problem.density(1).support.check(x).all()


def test_seeds_of_consecutive_blocks_never_collide_in_their_low_bits():
    seeds = [block_generator(7, i, purpose="test").initial_seed() for i in range(1000)]
    assert len({seed % 2**32 for seed in seeds}) == 1000


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((1,), ValueError, "dim must be at least 2, got 1"),
        ((2.0,), TypeError, "dim must be an integer"),
        ((2, 1.0), ValueError, "radius must be a finite number above 1, got 1.0"),
        ((2, math.inf), ValueError, "radius must be a finite number"),
        ((2, None), TypeError, "radius must be a real number"),
    ],
)
def test_bad_parameters(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        ConcentricSpheres(*arguments)


@pytest.mark.parametrize(
    ("n", "error", "sentence"),
    [(0, ValueError, "n must be at least 1, got 0"), (1.5, TypeError, "n must be an integer")],
)
def test_bad_sample_counts(n, error, sentence, generator):
    problem = ConcentricSpheres(dim=3)
    with pytest.raises(error, match=sentence):
        problem.sample(n, generator=generator)
    with pytest.raises(error, match=sentence):
        problem.sample_class(n, 0, generator=generator)
    with pytest.raises(error, match=sentence):
        next(problem.blocks(n, seed=0))


def test_other_bad_draws(generator):
    problem = ConcentricSpheres(dim=3)
    with pytest.raises(ValueError, match="label must be 0 or 1, got 2"):
        problem.sample_class(5, 2, generator=generator)
    with pytest.raises(ValueError, match=r"cannot draw on cuda:1|not there"):
        problem.sample(5, generator=generator, device="cuda:1")
    with pytest.raises(ValueError, match="seed must be at least 0"):
        next(problem.blocks(5, seed=-1))
