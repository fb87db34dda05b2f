"""Streams of a fixed set of points."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueboundary.problems import ArraySample


def numbered(n):
    """Return n points that can be told apart, with labels that follow from them."""
    x = torch.arange(float(n))[:, None, None].expand(n, 1, 2).contiguous()
    return x, torch.arange(n) % 2


@given(n=st.integers(1, 30), batch_size=st.integers(1, 70), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_epoch_visits_every_point_once(n, batch_size, seed):
    x, y = numbered(n)
    stream = ArraySample(x, y, batch_size, seed)
    batches = [stream.batch(step) for step in range(-(-3 * n // batch_size))]
    assert all(b[0].shape == (batch_size, 1, 2) for b in batches)
    points, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert torch.equal(labels, points[:, 0, 0].long() % 2)
    for epoch in range(3):
        visited = points[epoch * n : (epoch + 1) * n, 0, 0]
        assert visited.sort().values.tolist() == list(range(n))


def test_batches_are_a_pure_function_of_the_seed_and_the_step():
    stream = ArraySample(*numbered(20), batch_size=7, seed=1)
    forward = [stream.batch(step)[0] for step in range(12)]
    again = ArraySample(*numbered(20), batch_size=7, seed=1)
    for step in (11, 0, 5, 2, 3):
        assert torch.equal(again.batch(step)[0], forward[step])
    other = ArraySample(*numbered(20), batch_size=7, seed=2)
    assert not torch.equal(other.batch(0)[0], forward[0])


def test_epochs_differ_in_order():
    stream = ArraySample(*numbered(50), batch_size=50, seed=0)
    assert not torch.equal(stream.batch(0)[0], stream.batch(1)[0])


def test_changing_a_batch_does_not_change_the_set():
    x, y = numbered(10)
    stream = ArraySample(x, y, batch_size=10, seed=0)
    stream.batch(0)[0].zero_()
    assert torch.equal(x, numbered(10)[0])


def test_arrays_and_tensors_are_the_same_set():
    x, y = numbered(6)
    array = x.numpy()
    array.flags.writeable = False
    one = ArraySample(x.clone(), y.float(), batch_size=4, seed=0)
    two = ArraySample(array, y.numpy().astype(np.uint8), batch_size=4, seed=0)
    assert one.describe() == two.describe()
    assert torch.equal(one.batch(1)[0], two.batch(1)[0])
    assert one.batch(0)[1].dtype == two.batch(0)[1].dtype == torch.int64


def test_the_number_of_classes_is_given_or_told_by_the_labels():
    x = torch.zeros(4, 2)
    assert ArraySample(x, torch.zeros(4), 2, 0).n_classes == 2
    assert ArraySample(x, torch.tensor([0, 5, 1, 2]), 2, 0).n_classes == 6
    assert ArraySample(x, torch.tensor([0, 5, 1, 2]), 2, 0, n_classes=10).n_classes == 10


def test_the_description_depends_on_everything_that_matters():
    x, y = numbered(6)
    changed = x.clone()
    changed[3, 0, 1] += 1e-3
    described = [
        ArraySample(*arguments).describe()
        for arguments in (
            (x, y, 4, 0),
            (x, y, 4, 1),
            (x, y, 3, 0),
            (changed, y, 4, 0),
            (x, 1 - y, 4, 0),
            (x.double(), y, 4, 0),
            (x.flatten(1), y, 4, 0),
        )
    ]
    assert len({str(d) for d in described}) == 7


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(0, 2), torch.zeros(0), 1, 0), ValueError, "n > 0"),
        ((torch.zeros(3), torch.zeros(3), 1, 0), ValueError, "n, \\*event"),
        ((torch.zeros(3, 2), torch.zeros(2), 1, 0), ValueError, "each of 3 points"),
        ((torch.zeros(3, 2), torch.tensor([0, 1, 2]), 1, 0, 2), ValueError, "labels 0 and 1, got"),
        ((torch.zeros(3, 2), torch.tensor([0, 1, 3]), 1, 0, 3), ValueError, "labels from 0 to 2"),
        ((torch.zeros(3, 2), torch.tensor([0, -1, 3]), 1, 0), ValueError, "labels from 0 to 3"),
        ((torch.zeros(3, 2), torch.tensor([0, 0.5, 1]), 1, 0), ValueError, "whole numbers"),
        ((torch.zeros(3, 2), torch.zeros(3), 1, 0, 1), ValueError, "n_classes must be at least 2"),
        ((torch.zeros(3, 2).int(), torch.zeros(3), 1, 0), TypeError, "float32"),
        ((torch.zeros(3, 2), torch.zeros(3), 0, 0), ValueError, "batch_size"),
        ((torch.zeros(3, 2), torch.zeros(3), 1, -1), ValueError, "seed"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ArraySample(*arguments)
