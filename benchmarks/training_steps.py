"""Time a step of training against the plain loop that a user would write, in one process.

    OMP_NUM_THREADS=1 python benchmarks/training_steps.py

Both loops take turns on the same batches, and the table gives medians of processor time. The plain
loop is autograd with torch's default Adam; for the convolutional network its images and weights are
laid out as torch makes them. The floor is the time of the step's matrix products at the rate of
products of the same shapes; Adam, which is bound by memory, comes on top of it.
"""

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu

from trueboundary.classifiers import AllConvolutionalNetwork, QuadraticNetwork, ReLUNetwork
from trueboundary.problems import ConcentricSpheres, OnlineStream
from trueboundary.training import cross_entropy
from trueboundary.training.steps import step_of

BATCH, DIM, WIDTH, REPEATS = 50, 500, 1000, 9
#: Rows, columns and inner size of the products of a step.
FORWARD = ((BATCH, WIDTH, DIM),)
PRODUCTS = {
    "quadratic": (*FORWARD, (WIDTH, DIM, BATCH)),
    "ReLU": (
        *FORWARD,
        (BATCH, WIDTH, WIDTH),
        (BATCH, WIDTH, WIDTH),
        (WIDTH, WIDTH, BATCH),
        (WIDTH, DIM, BATCH),
    ),
}


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
    return step_of(model, torch.optim.Adam(model.parameters(), lr=1e-4, fused=True))


def milliseconds(work: Callable[[], object], n: int) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    for _ in range(n):
        work()
    return (time.process_time() - start) / n * 1e3


def product(rows: int, columns: int, inner: int) -> Callable[[], object]:
    """Return a matrix product of a size."""
    left, right, out = torch.randn(rows, inner), torch.randn(inner, columns), None
    out = torch.empty(rows, columns)
    return lambda: torch.mm(left, right, out=out)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    seeded = torch.Generator().manual_seed
    stream = OnlineStream(ConcentricSpheres(DIM), BATCH, seed=0)
    points = [stream.batch(step) for step in range(16)]
    images = [(torch.rand(BATCH, 784), torch.randint(2, (BATCH,))) for _ in range(4)]
    quadratic = QuadraticNetwork(DIM, WIDTH, generator=seeded(0))
    relu = ReLUNetwork(DIM, WIDTH, 2, generator=seeded(0)).train()
    convolutional = AllConvolutionalNetwork((1, 28, 28), 8, generator=seeded(0))
    cases = {
        "quadratic": (quadratic, copy.deepcopy(quadratic), points, 40),
        "ReLU": (relu, copy.deepcopy(relu), points, 15),
        "convolutional": (convolutional, PlainConvolutional(convolutional), images, 6),
    }
    print("| network | plain loop, ms | ours, ms | ratio | share of the products' floor |")
    print("|---|---|---|---|---|")
    for name, (model, other, batches, n) in cases.items():
        ours, plain = our_step(model), plain_step(other)
        for batch in batches[:3]:
            torch.testing.assert_close(ours(*batch), plain(*batch), rtol=1e-4, atol=0)
        numbers: dict[str, list[float]] = {"ours": [], "plain": [], "floor": []}
        products = [product(*size) for size in PRODUCTS.get(name, ())]
        for repeat in range(REPEATS):
            batch = batches[repeat % len(batches)]
            numbers["plain"].append(milliseconds(lambda: plain(*batch), n))  # noqa: B023
            numbers["ours"].append(milliseconds(lambda: ours(*batch), n))  # noqa: B023
            numbers["floor"].append(sum(milliseconds(work, n) for work in products))
        median = {key: statistics.median(values) for key, values in numbers.items()}
        share = f"{median['floor'] / median['ours']:.2f}" if products else "-"
        print(
            f"| {name} | {median['plain']:.2f} | {median['ours']:.2f} | "
            f"{median['plain'] / median['ours']:.2f} | {share} |"
        )


if __name__ == "__main__":
    main()
