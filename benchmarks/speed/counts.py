"""Errors counted among random points, as runs of twenty million points do it, by blocks of 8,192.

The rivals draw the same number of points and send them through the network in float32, 1,000 at a
time. Quadratic networks are counted in their eigenbasis, ReLU networks through a screen: the first
layer in float32, the second in 8-bit integers where the processor multiplies them, and the network
itself for the points that the proven bound leaves open. The floor is the rival's: of the quadratic
network the drawing of the normal numbers, of the ReLU network its products in float32.
"""

from collections.abc import Callable
from functools import partial

import torch
from harness import Row, Setup, alternate
from torch import nn

from trueboundary.classifiers import QuadraticNetwork, ReLUNetwork, misclassified
from trueboundary.measure.counting import OneByOne, Screened, block_counter
from trueboundary.measure.registered import BlockCounter
from trueboundary.measure.screen import Screen
from trueboundary.problems import ConcentricSpheres, OnlineStream
from trueboundary.problems.base import BLOCK_SIZE
from trueboundary.training import TrainingConfig, train

TITLE = "Counts of errors"


def rows(setup: Setup) -> list[Row]:
    """Return a row for each network and way of counting, in seconds of a million points."""
    dim, width = setup.size(500, 20), setup.size(1000, 32)
    problem, device = ConcentricSpheres(dim), setup.device
    quadratic = QuadraticNetwork(dim, width, generator=torch.Generator().manual_seed(0))
    relu = ReLUNetwork(dim, width, 2, generator=torch.Generator().manual_seed(0))
    stream = OnlineStream(problem, batch_size=50, seed=0)
    train(relu, stream, TrainingConfig(n_steps=setup.size(1000, 20), learning_rate=1e-3))
    relu.eval()
    n = setup.size(BLOCK_SIZE, 500)
    return [
        _quadratic(setup, quadratic.to(device), problem, n),
        *_relu(setup, relu.to(device), problem, n),
    ]


def _quadratic(setup: Setup, network: QuadraticNetwork, problem: ConcentricSpheres, n: int) -> Row:
    counter, device = block_counter(network, problem), setup.device
    generator = torch.Generator(device).manual_seed(0)
    seconds = alternate(
        {
            "network": _forward(network, problem, n, device),
            "ours": _count(counter, n, device),
            "normals": lambda: torch.randn(n, problem.dim, generator=generator, device=device),
        },
        setup,
        calls=3,
    )
    return _row("quadratic network", n, seconds, seconds["normals"], "5x")


def _relu(setup: Setup, network: ReLUNetwork, problem: ConcentricSpheres, n: int) -> list[Row]:
    device = setup.device
    width, dim = network.width, network.dim
    sides = {"network": _forward(network, problem, n, device)}
    products = [(n, dim, width), (n, width, width)]
    for index, (rows, inner, columns) in enumerate(products):
        left, right = torch.randn(rows, inner), torch.randn(inner, columns)
        sides[f"product {index}"] = partial(torch.mm, left.to(device), right.to(device))
    notes = {}
    counters: dict[str, BlockCounter] = {"as usual": block_counter(network, problem)}
    if isinstance(counters["as usual"], Screened):
        for name, use_bytes in (("float32 alone", False), ("8-bit integers", True)):
            counters[name] = Screened(network, problem)
            counters[name].screen = Screen(network, use_bytes=use_bytes)
            notes[name] = _note(counters[name], network, problem, n)
        del counters["as usual"]
    sides |= {name: _count(counter, n, device) for name, counter in counters.items()}
    seconds = alternate(sides, setup)
    floor = seconds["product 0"] + seconds["product 1"]
    targets = {"float32 alone": "1.1x", "8-bit integers": "2x"}
    return [
        _row(
            f"ReLU network, {name}",
            n,
            {"ours": seconds[name], "network": seconds["network"]},
            floor,
            targets.get(name, ""),
            notes.get(name, ""),
        )
        for name in counters
    ]


def _note(counter: Screened, network: nn.Module, problem: ConcentricSpheres, n: int) -> str:
    """Say how much the screen leaves open; the counts must be the network's."""
    one, shares = OneByOne(network, problem), []
    for label in (0, 1):
        where = {"seed": 1, "label": label, "device": "cpu"}
        if counter(0, n, **where) != one(0, n, **where):
            raise AssertionError("a screened count differs from the network's own")
        x, _ = problem.block(0, seed=1, label=label)
        margins, bounds = counter.screen(x)
        shares.append(float((margins.abs() <= bounds).double().mean()))
    return f"equal counts; the network decides {shares[0]:.2%} and {shares[1]:.2%} of the points"


def _count(counter: BlockCounter, n: int, device: str) -> Callable[[], object]:
    return lambda: counter(0, n, seed=0, label=0, device=device)


def _forward(
    network: nn.Module, problem: ConcentricSpheres, n: int, device: str
) -> Callable[[], object]:
    """Return a count as a user writes it."""

    @torch.no_grad()
    def count() -> int:
        x, _ = problem.block(0, seed=0, label=0, device=device)
        return sum(int(misclassified(network.margin(p), 0).sum()) for p in x[:n].split(1000))

    return count


def _row(
    work: str, n: int, seconds: dict[str, float], floor: float, target: str, note: str = ""
) -> Row:
    return Row(
        f"a million points, {work}",
        "float32 forward",
        1e6 / n * seconds["ours"],
        1e6 / n * seconds["network"],
        floor / seconds["ours"],
        target=target,
        note=note,
    )
