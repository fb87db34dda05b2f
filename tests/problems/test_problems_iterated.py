"""Streams can be iterated over: their batches in order, as often as one likes."""

from itertools import islice

import pytest
import torch

from trueboundary.problems import ArraySample, ConcentricSpheres, FiniteSample, OnlineStream

SPHERES = ConcentricSpheres(dim=3)
STREAMS = {
    "online": OnlineStream(SPHERES, batch_size=5, seed=0),
    "finite": FiniteSample(SPHERES, n_samples=7, batch_size=5, seed=0),
    "arrays": ArraySample(*SPHERES.sample(7, seed=0), batch_size=5, seed=0),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_yields_its_batches_in_order(stream) -> None:
    for _ in range(2):  # each iteration begins anew
        for step, (x, y) in enumerate(islice(stream, 4)):
            wanted_x, wanted_y = stream.batch(step)
            assert torch.equal(x, wanted_x)
            assert torch.equal(y, wanted_y)


def test_two_iterations_at_once_do_not_disturb_each_other() -> None:
    stream = STREAMS["finite"]
    for (x, _), (again, _) in islice(zip(stream, stream, strict=False), 3):
        assert torch.equal(x, again)
