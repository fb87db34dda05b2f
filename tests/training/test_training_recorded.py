"""Steps recorded as graphs, which no machine without a card can run: what can be said of them here.

On the CPU a recording is played by a dispatch mode that keeps every operation with its very tensors
and does the same ones again. Whatever a graph would not notice (a rate that was a number, a tensor
that was replaced) goes wrong there too; whatever waits for the card is refused.
"""

import math
import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trueboundary.classifiers import AllConvolutionalNetwork, QuadraticNetwork, ReLUNetwork
from trueboundary.problems import ConcentricSpheres, FiniteSample, OnlineStream
from trueboundary.theory import caps
from trueboundary.training import TrainingConfig, steps, train

DIM = 6
aten = torch.ops.aten
#: Operations whose result the host reads, or whose shape depends on what the tensors hold.
WAITING = {
    op
    for packet in (
        aten._local_scalar_dense,
        aten.equal,
        aten.is_nonzero,
        aten.nonzero,
        aten.masked_select,
        aten._unique2,
        aten.repeat_interleave,
    )
    for op in (getattr(packet, name) for name in packet.overloads())
}

CARD = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)


class NoWaiting(TorchDispatchMode):
    """Refuses what would make the host wait for a card."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in WAITING:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **kwargs or {})


class Recording(NoWaiting):
    """Keeps all operations, and does them again on the same tensors."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(func, types, args, kwargs)
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, out in self.calls:
            for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record(work, changed):
    """Stand in for `steps._record`."""
    kept = [tensor.clone() for tensor in changed]
    recording = Recording()
    with recording:
        output = work()
    for tensor, value in zip(changed, kept, strict=True):
        tensor.copy_(value)
    return recording.replay, output


@pytest.fixture
def as_on_a_card(monkeypatch):
    monkeypatch.setattr(steps, "is_recorded", lambda device: True)
    monkeypatch.setattr(steps, "_record", record)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quadratic(dtype=torch.float32):
    return QuadraticNetwork(DIM, 9, generator=seeded(), dtype=dtype)


def relu(dtype=torch.float32, place="before-activation"):
    return ReLUNetwork(DIM, 9, 2, batch_norm=place, generator=seeded(), dtype=dtype)


NETWORKS = {
    "quadratic": quadratic,
    "two layers": relu,
    "normalised after the ReLU": lambda dtype=torch.float32: relu(dtype, "after-activation"),
}
#: The last batch of a finite sample reaches into the next epoch.
STREAMS = {
    "online": lambda **to: OnlineStream(ConcentricSpheres(DIM), batch_size=20, seed=0, **to),
    "finite": lambda **to: FiniteSample(ConcentricSpheres(DIM), 50, 20, seed=0, **to),
}
CONFIG = TrainingConfig(
    n_steps=12,
    learning_rate=1e-2,
    schedule="linear",
    snapshots=(4,),
    checkpoint_every=5,
    log_every=3,
)


def differences(model, other):
    return [
        key
        for key, value in model.state_dict().items()
        if not torch.equal(value, other.state_dict()[key])
    ]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("stream", STREAMS)
def test_a_replayed_training_is_that_of_the_cpu(name, stream, monkeypatch):
    dtype = torch.float64
    plain, replayed = NETWORKS[name](dtype), NETWORKS[name](dtype)
    expected = train(plain, STREAMS[stream](dtype=dtype), CONFIG)
    monkeypatch.setattr(steps, "is_recorded", lambda device: True)
    monkeypatch.setattr(steps, "_record", record)
    found = train(replayed, STREAMS[stream](dtype=dtype), CONFIG)
    # The rate of a graph is in single precision.
    torch.testing.assert_close(
        torch.from_numpy(found.losses), torch.from_numpy(expected.losses), rtol=1e-6, atol=0
    )
    x, _ = ConcentricSpheres(DIM).sample(100, generator=seeded(1), dtype=dtype)
    torch.testing.assert_close(
        replayed.eval().margin(x), plain.eval().margin(x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_resumed_replay_ends_with_the_same_bits(name, tmp_path, as_on_a_card):
    check_resumption(NETWORKS[name], "cpu", tmp_path)


def check_resumption(make, device, folder):
    """Stop after step 7, resume from step 5, and compare with an unbroken run."""
    stream = STREAMS["online"](device=device)
    whole, broken, resumed = (make().to(device) for _ in range(3))
    train(whole, stream, CONFIG)

    def stop(step):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, stream, CONFIG, checkpoint=folder / "run", progress=stop)
    assert train(resumed, stream, CONFIG, checkpoint=folder / "run").resumed_from == 5
    assert differences(whole, resumed) == []
    assert differences(whole, broken) != []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_recorded_step_keeps_every_tensor_in_its_place(name, as_on_a_card):
    model = NETWORKS[name]()
    optimizer = steps.adam_of(list(model.parameters()), 1e-2, betas=(0.9, 0.999), eps=1e-8)
    step = steps.step_of(model.train(), optimizer)
    assert isinstance(step, steps.RecordedStep)
    x, y = STREAMS["online"]().batch(0)
    places = [tensor.data_ptr() for tensor in step._changed()]
    before = [tensor.clone() for tensor in step._changed()]
    loss = step(x, y)
    assert [tensor.data_ptr() for tensor in step._changed()] == places
    assert not any(map(torch.equal, before[:1], step._changed()[:1]))
    assert step(x, y) is loss, "the loss has a place of its own"
    with NoWaiting():
        for number in range(3):
            steps.set_rate(optimizer, 1e-3 / (1 + number))
            step(x, y)


def test_one_step_is_one_step(as_on_a_card):
    """The runs before and during a recording leave no trace."""
    model = quadratic()
    train(model, STREAMS["online"](), TrainingConfig(n_steps=1, learning_rate=1e-2))
    moved = (model.hidden_weight - quadratic().hidden_weight).abs()
    assert 0.99e-2 < moved.max() < 1.01e-2, "Adam's first step has the length of the rate"


def test_a_batch_of_another_shape_is_taken_as_well(as_on_a_card):
    model, twin = quadratic(), quadratic()
    make = {"betas": (0.9, 0.999), "eps": 1e-8}
    step = steps.step_of(model, steps.adam_of(list(model.parameters()), 1e-2, **make))
    plain = steps.QuadraticStep(twin, torch.optim.Adam(twin.parameters(), lr=1e-2, fused=True))
    x, y = STREAMS["online"]().batch(0)
    for n in (20, 7, 20, 1):
        torch.testing.assert_close(step(x[:n], y[:n]), plain(x[:n], y[:n]), rtol=1e-5, atol=0)


def test_what_is_not_written_out_is_not_recorded(as_on_a_card):
    """Of a stranger's model nobody knows what it asks the card, or what it counts on the host."""
    images = AllConvolutionalNetwork((1, 8, 8), 2, generator=seeded())
    optimizer = steps.adam_of(list(images.parameters()), 1e-2, betas=(0.9, 0.999), eps=1e-8)
    assert isinstance(steps.step_of(images, optimizer), steps.AutogradStep)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drawing_does_not_wait(dtype):
    stream = STREAMS["online"](dtype=dtype)
    finite = STREAMS["finite"](dtype=dtype)
    finite.batch(0)  # an epoch's order is drawn on the host, once
    with NoWaiting():
        x, y = stream.batch(3)
        finite.batch(1)
    norms = torch.linalg.vector_norm(x, dim=1)
    torch.testing.assert_close(norms, torch.where(y == 1, 1.3, 1.0).to(dtype))


@pytest.mark.parametrize("device", ["cpu", CARD])
def test_points_have_the_distribution_of_the_spheres(device):
    """Against the exact law of a coordinate, from which a generator of any device may not stray."""
    stream = OnlineStream(ConcentricSpheres(10), batch_size=2000, seed=3, device=device)
    x, y = (torch.cat(parts).cpu() for parts in zip(*map(stream.batch, range(10)), strict=True))
    assert abs(float(y.double().mean()) - 0.5) < 4 * 0.5 / len(y) ** 0.5
    norms = torch.linalg.vector_norm(x.double(), dim=1)
    torch.testing.assert_close(norms, torch.where(y == 1, 1.3, 1.0).double(), rtol=1e-6, atol=0)
    ordered = (x.double() / norms[:, None]).sort(dim=0).values
    below = [
        [1 - caps.measure(10, math.acos(h)) for h in row] for row in ordered[::50, :3].tolist()
    ]
    expected = (torch.arange(0, len(x), 50) + 0.5) / len(x)
    # The largest difference of n points exceeds 1.95 / sqrt(n) in one of 1,000 samples.
    assert float((torch.tensor(below) - expected[:, None]).abs().max()) < 1.95 / len(x) ** 0.5


def test_threads_train_networks_of_their_own():
    check_threads("cpu")


def check_threads(device):
    """Train three networks at once, and each of them again alone."""

    def work(model, seed):
        stream = OnlineStream(ConcentricSpheres(DIM), batch_size=20, seed=seed, device=device)
        if device == "cpu":
            train(model, stream, CONFIG)
        else:
            with torch.cuda.stream(torch.cuda.Stream()):
                train(model, stream, CONFIG)
                torch.cuda.current_stream().synchronize()

    together, alone = ([relu().to(device) for _ in range(3)] for _ in range(2))
    threads = [
        threading.Thread(target=work, args=job) for job in zip(together, range(3), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, model in enumerate(alone):
        work(model, seed)
    for model, other in zip(together, alone, strict=True):
        assert differences(model, other) == []
    assert differences(*alone[:2]) != []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnACard:
    """The same claims where they are meant."""

    @pytest.mark.parametrize("name", NETWORKS)
    def test_steps_are_those_of_the_cpu(self, name):
        dtype = torch.float64
        ours, theirs = NETWORKS[name](dtype).train().cuda(), NETWORKS[name](dtype).train()
        step, plain = (
            steps.step_of(
                m, steps.adam_of(list(m.parameters()), 1e-2, betas=(0.9, 0.999), eps=1e-8)
            )
            for m in (ours, theirs)
        )
        assert isinstance(step, steps.RecordedStep)
        stream = STREAMS["online"](dtype=dtype)
        for number in range(10):
            x, y = stream.batch(number)
            torch.testing.assert_close(
                step(x.cuda(), y.cuda()).cpu(), plain(x, y), rtol=1e-6, atol=0
            )

    @pytest.mark.parametrize("name", NETWORKS)
    def test_a_resumed_run_ends_with_the_same_bits(self, name, tmp_path):
        check_resumption(NETWORKS[name], "cuda", tmp_path)

    def test_threads_train_networks_of_their_own(self):
        check_threads("cuda")

    def test_nothing_waits_between_two_logs(self):
        """By CUDA's own word: torch raises at every synchronisation meanwhile."""
        model, stream = relu().train().cuda(), STREAMS["online"](device="cuda")
        optimizer = steps.adam_of(list(model.parameters()), 1e-2, betas=(0.9, 0.999), eps=1e-8)
        step = steps.step_of(model, optimizer)
        step(*stream.batch(0))
        torch.cuda.set_sync_debug_mode("error")
        try:
            for number in range(1, 250):  # over the end of a block of points
                steps.set_rate(optimizer, 1e-3)
                step(*stream.batch(number))
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_replays_are_learning(self):
        model = quadratic().cuda()
        stream = STREAMS["online"](device="cuda")
        result = train(model, stream, TrainingConfig(n_steps=2000, learning_rate=1e-2))
        assert result.losses[-1] < 0.1 * result.losses[0]
