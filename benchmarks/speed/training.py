"""Steps of training against the plain loop that a user would write.

Both loops take turns on the same batches. The plain loop is autograd with torch's default Adam; for
the convolutional network its images and weights are laid out as torch makes them. The floor is the
time of the step's matrix products at the rate of products of the same shapes. Adam, which reads and
writes weights and both moments, comes on top of it: the last column gives the share with its bytes,
at the rate of copies of as many. On a card there is a row for several networks at once, in threads.
"""

import copy
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from harness import Row, Setup, alternate, copy_rate
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu

from trueboundary.classifiers import AllConvolutionalNetwork, QuadraticNetwork, ReLUNetwork
from trueboundary.problems import ConcentricSpheres, OnlineStream
from trueboundary.training import TrainingConfig, cross_entropy, train
from trueboundary.training.steps import adam_of, step_of

TITLE = "Training"
BATCH, DIM, WIDTH = 50, 500, 1000


class PlainConvolutional(nn.Module):
    """The all-convolutional network with images and weights in torch's own layout."""

    def __init__(self, ours: AllConvolutionalNetwork) -> None:
        super().__init__()
        self.shape, self.n_scales = ours.image_shape, ours.n_scales
        self.convolution = copy.deepcopy(ours.convolution)
        for layer in self.convolution:
            layer.weight.data = layer.weight.data.contiguous()

    def margin(self, x: Tensor) -> Tensor:
        y = x.reshape(-1, *self.shape)
        for index, layer in enumerate(self.convolution):
            y = leaky_relu(layer(y), 0.2)
            if index % 2 and index < 2 * self.n_scales:
                y = avg_pool2d(y, 2)
        logits = y.mean(dim=(2, 3))
        return logits[:, 1] - logits[:, 0]


def plain_step(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a step as a user writes it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model.margin(x), y).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def our_step(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a step of `trueboundary.training.train`."""
    return step_of(model, adam_of(list(model.parameters()), 1e-4, betas=(0.9, 0.999), eps=1e-8))


def rows(setup: Setup) -> list[Row]:
    """Return a row for each network."""
    dim, width = setup.size(DIM, 20), setup.size(WIDTH, 32)
    seeded = torch.Generator().manual_seed
    stream = OnlineStream(ConcentricSpheres(dim), BATCH, seed=0)
    points = [stream.batch(step) for step in range(16)]
    images = [(torch.rand(BATCH, 784), torch.randint(2, (BATCH,))) for _ in range(4)]
    quadratic = QuadraticNetwork(dim, width, generator=seeded(0))
    relu = ReLUNetwork(dim, width, 2, generator=seeded(0)).train()
    convolutional = AllConvolutionalNetwork((1, 28, 28), 8, generator=seeded(0))
    forward, first = (BATCH, width, dim), (width, dim, BATCH)
    hidden = ((BATCH, width, width), (BATCH, width, width), (width, width, BATCH))
    cases = [
        ("quadratic", quadratic, copy.deepcopy(quadratic), points, 40, (forward, first), "2.0, .5"),
        ("ReLU", relu, copy.deepcopy(relu), points, 15, (forward, *hidden, first), "2.0, .5"),
        (
            "all convolutional",
            convolutional,
            PlainConvolutional(convolutional),
            images,
            6,
            (),
            "1.3",
        ),
    ]
    table = [_row(setup, *case) for case in cases]
    if torch.device(setup.device).type == "cuda" or setup.tiny:
        table.append(_at_once(setup))
    return table


def _at_once(setup: Setup, n_networks: int = 4) -> Row:
    """Return the time of a step of each of several networks, in threads against in turn."""
    problem = ConcentricSpheres(setup.size(DIM, 20))
    config = TrainingConfig(n_steps=setup.size(2000, 3))

    def one(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        network = ReLUNetwork(problem.dim, setup.size(WIDTH, 32), 2, generator=generator)
        stream = OnlineStream(problem, BATCH, seed, device=setup.device)
        if torch.device(setup.device).type == "cuda":
            with torch.cuda.stream(torch.cuda.Stream(setup.device)):
                train(network.to(setup.device), stream, config)
        else:
            train(network, stream, config)

    def together() -> None:
        with ThreadPoolExecutor(n_networks) as threads:
            list(threads.map(one, range(n_networks)))

    def in_turn() -> None:
        for seed in range(n_networks):
            one(seed)

    seconds = alternate({"together": together, "in turn": in_turn}, setup)
    n_steps = config.n_steps * n_networks
    return Row(
        f"{n_networks} ReLU networks at once, a step of one",
        "one after the other",
        seconds["together"] / n_steps,
        seconds["in turn"] / n_steps,
        note="training as a whole, points drawn",
    )


def _row(
    setup: Setup,
    name: str,
    model: nn.Module,
    other: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    calls: int,
    products: tuple[tuple[int, int, int], ...],
    target: str,
) -> Row:
    model, other = model.to(setup.device), other.to(setup.device)
    batches = [(x.to(setup.device), y.to(setup.device)) for x, y in batches]
    ours, plain = our_step(model), plain_step(other)
    for batch in batches[:3]:
        torch.testing.assert_close(ours(*batch), plain(*batch), rtol=1e-4, atol=0)
    turns = {"ours": itertools.cycle(batches), "plain": itertools.cycle(batches)}
    sides: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(*next(turns["plain"])),
        "ours": lambda: ours(*next(turns["ours"])),
    }
    for index, (rows, columns, inner) in enumerate(products):
        left, right, out = (
            torch.randn(*size, device=setup.device)
            for size in ((rows, inner), (inner, columns), (rows, columns))
        )
        sides[f"product {index}"] = partial(torch.mm, left, right, out=out)
    seconds = alternate(sides, setup, calls=calls)
    floor = sum(value for key, value in seconds.items() if key.startswith("product"))
    updated = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
    share = (floor + 2 * updated / copy_rate(setup, updated)) / seconds["ours"]
    return Row(
        f"step of training, {name}",
        "plain loop",
        seconds["ours"],
        seconds["plain"],
        floor / seconds["ours"] if products else None,
        target=target,
        note=f"share {share:.2f} with Adam's bytes" if products else "",
    )
