"""Streams of training batches."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueboundary.problems import BLOCK_SIZE, ConcentricSpheres, FiniteSample, OnlineStream

PROBLEM = ConcentricSpheres(dim=2)
IN_GROUPS = {"max_bytes": 2 * 2 * 2 * 4 * BLOCK_SIZE}  # groups of two blocks of 2-d float32 points


def streams(seed=0, batch_size=50):
    return [
        OnlineStream(PROBLEM, batch_size, seed),
        FiniteSample(PROBLEM, 130, batch_size, seed),
        FiniteSample(PROBLEM, 5 * BLOCK_SIZE - 7, batch_size, seed, **IN_GROUPS),
    ]


def rows(*batches):
    return [tuple(point) for x, _ in batches for point in x.tolist()]


@pytest.mark.parametrize("which", range(3))
def test_a_batch_depends_on_seed_and_step_alone(which):
    stream, again = streams()[which], streams()[which]
    steps = [0, 900, 3, 2, 3, 41]
    expected = {step: again.batch(step) for step in sorted(set(steps))}
    for step in steps:
        x, y = stream.batch(step)
        assert torch.equal(x, expected[step][0])
        assert torch.equal(y, expected[step][1])
        x.zero_()  # what the caller does to a batch must not reach the next one
    other_x, _ = streams(seed=1)[which].batch(3)
    assert not torch.equal(other_x, expected[3][0])


@pytest.mark.parametrize("which", range(3))
def test_labels_belong_to_the_points(which):
    for step in range(3):
        x, y = streams()[which].batch(step)
        assert torch.equal(PROBLEM.bayes_classifier().predict(x), y)


@pytest.mark.parametrize("which", range(3))
def test_streams_are_described_by_plain_parameters(which):
    stream, again = streams()[which], streams()[which]
    stream.batch(0)
    assert stream == again
    assert hash(stream) == hash(again)
    assert json.loads(json.dumps(stream.describe())) == stream.describe()
    assert stream.describe() != streams(seed=1)[which].describe()


def test_online_points_never_repeat():
    stream = OnlineStream(PROBLEM, 50, seed=0, dtype=torch.float64)
    points = rows(*(stream.batch(step) for step in range(200)))
    assert len(set(points)) == len(points) == 10_000


def test_the_training_points_are_not_the_test_points():
    test_points = set(rows(*PROBLEM.blocks(1000, seed=0)))
    assert not test_points & set(rows(*FiniteSample(PROBLEM, 1000, 50, seed=0).blocks()))
    assert not test_points & set(rows(OnlineStream(PROBLEM, 1000, seed=0).batch(0)))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(n=st.integers(1, 200), batch_size=st.integers(1, 120), seed=st.integers(0, 1000))
def test_every_epoch_visits_every_point_once(n, batch_size, seed):
    stream = FiniteSample(PROBLEM, n, batch_size, seed, dtype=torch.float64)
    n_epochs = 3
    n_batches = -(-n_epochs * n // batch_size)
    seen = rows(*(stream.batch(step) for step in range(n_batches)))
    everything = sorted(rows(*stream.blocks()))
    assert len(everything) == n
    for epoch in range(n_epochs):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == everything


def test_every_epoch_visits_every_point_once_when_regenerated():
    n = 5 * BLOCK_SIZE - 7
    stream = FiniteSample(PROBLEM, n, 10_000, seed=3, **IN_GROUPS)
    assert stream.n_groups == 3
    everything = sorted(rows(*stream.blocks()))
    seen = rows(*(stream.batch(step) for step in range(9)))
    assert sorted(seen[:n]) == everything
    assert sorted(seen[n : 2 * n]) == everything
    assert seen[:n] != seen[n : 2 * n]
    assert stream._kept.x.shape[0] <= 2 * BLOCK_SIZE  # never more than one group in memory


def test_epochs_are_shuffled_differently():
    stream = FiniteSample(PROBLEM, 100, 100, seed=0)
    first, second = rows(stream.batch(0)), rows(stream.batch(1))
    assert first != second
    assert sorted(first) == sorted(second)
    assert first != rows(*stream.blocks())


def test_batch_size_changes_batches_but_not_the_order_of_an_epoch():
    whole = rows(FiniteSample(PROBLEM, 120, 120, seed=5).batch(0))
    small = FiniteSample(PROBLEM, 120, 40, seed=5)
    assert rows(*(small.batch(step) for step in range(3))) == whole


def test_dtype_reaches_the_points():
    assert OnlineStream(PROBLEM, 5, 0, dtype=torch.float64).batch(0)[0].dtype == torch.float64
    assert FiniteSample(PROBLEM, 5, 5, 0, dtype=torch.float64).batch(0)[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: OnlineStream(PROBLEM, 0, 0), ValueError, "batch_size must be at least 1"),
        (lambda: OnlineStream(PROBLEM, 5, -1), ValueError, "seed must be at least 0"),
        (lambda: OnlineStream(PROBLEM, 5, 0, dtype=torch.half), TypeError, "dtype must be"),
        (lambda: FiniteSample(PROBLEM, 0, 5, 0), ValueError, "n_samples must be at least 1"),
        (lambda: FiniteSample(PROBLEM, 1e5, 5, 0), TypeError, "n_samples must be an integer"),
        (lambda: FiniteSample(PROBLEM, 9, 5, 0).batch(-1), ValueError, "step must be at least 0"),
    ],
)
def test_bad_parameters(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
