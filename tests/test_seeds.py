"""`seed=` stands for a generator wherever one is taken, and gives the same numbers."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import trueboundary
from trueboundary.attacks import CarliniWagnerL2, in_chunks
from trueboundary.classifiers import (
    AllConvolutionalNetwork,
    QuadraticNetwork,
    ReLUNetwork,
    SphereBayes,
    StridedConvolutionalNetwork,
)
from trueboundary.densities import DiscreteTable, LowRankGaussian, UniformSphere
from trueboundary.problems import ConcentricSpheres, MixtureProblem, planar_problem
from trueboundary.rare_events import Splitting, SplittingStages, attack_seeds, estimate_error_rate
from trueboundary.training import TRADES, OnManifoldAdversary

#: What others write, and moves, which the library alone calls: a chain goes on with one generator.
WRITTEN_BY_OTHERS = (
    "Adversary.__call__",
    "ContinuousDensity.sample",
    "InvariantMove.",
    "GaussianMove.",
    "Loss.__call__",
    "MixtureMove.",
    "Problem.sample_class",
    "SphereMove.",
    "TableMove.",
)

GAUSSIAN = LowRankGaussian(torch.zeros(3), torch.eye(3)[:, :1], torch.ones(3))
SPHERES = ConcentricSpheres(dim=4)
X, Y = SPHERES.sample(6, seed=1)
CAP = 0.9


def _weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def _stages(**source: Any) -> float:
    stages = SplittingStages(
        lambda x: x[:, 0] - CAP, UniformSphere(5), 0, splitting=Splitting(n_particles=100)
    )
    pilot = stages.run_pilot(**source)
    return stages.combine(pilot, [stages.run_replicates(pilot, 2, seed=3)], **source).log10


def _splitting(**source: Any) -> float:
    return estimate_error_rate(
        lambda x: x[:, 0] - CAP, UniformSphere(5), 0, splitting=Splitting(n_particles=100), **source
    ).log10


DRAWS: dict[str, Callable[..., Any]] = {
    "sphere": lambda **s: UniformSphere(3).sample((4,), **s),
    "Gaussian": lambda **s: GAUSSIAN.sample((4,), **s),
    "table": lambda **s: DiscreteTable(torch.full((3, 3), 1 / 9)).sample((4,), **s),
    "spheres": lambda **s: SPHERES.sample(5, **s)[0],
    "one sphere": lambda **s: SPHERES.sample_class(5, 1, **s),
    "mixture": lambda **s: MixtureProblem(GAUSSIAN, GAUSSIAN).sample(5, **s)[0],
    "one mixture": lambda **s: MixtureProblem(GAUSSIAN, GAUSSIAN).sample_class(5, 0, **s),
    "plane": lambda **s: planar_problem("a").sample(5, **s)[0],
    "quadratic": lambda **s: _weights(QuadraticNetwork(3, 6, **s)),
    "perfect": lambda **s: _weights(QuadraticNetwork.perfect(3, 6, basis="rotated", **s)),
    "ReLU": lambda **s: _weights(ReLUNetwork(3, 6, 1, **s)),
    "all-convolutional": lambda **s: _weights(AllConvolutionalNetwork((1, 8, 8), 2, **s)),
    "strided": lambda **s: _weights(StridedConvolutionalNetwork((1, 16, 16), 4, 2, **s)),
    "attack": lambda **s: CarliniWagnerL2(n_steps=5)(SphereBayes(4), X, Y, **s).endpoint,
    "chunks": lambda **s: in_chunks(
        CarliniWagnerL2(n_steps=5), SphereBayes(4), X, Y, chunk_size=2, **s
    ).endpoint,
    "stages": _stages,
    "splitting": _splitting,
    "seeds": lambda **s: attack_seeds(
        lambda x: x[:, 0] - CAP, UniformSphere(5), 0, n_points=3, **s
    ),
    "TRADES": lambda **s: TRADES(2.0)(QuadraticNetwork(4, 8, seed=0), X, Y, **s).detach(),
    "adversary": lambda **s: OnManifoldAdversary(
        lambda model, x, y, generator: x + torch.randn(x.shape, generator=generator)
    )(QuadraticNetwork(4, 8, seed=0), X, Y, **s)[0],
}  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_seed_gives_the_numbers_of_its_generator(draw: Callable[..., Any]) -> None:
    wanted = draw(generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.as_tensor(draw(seed=7)), torch.as_tensor(wanted))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_generator_and_a_seed_are_one_too_many(draw: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"expected generator= or seed=, got both"):
        draw(generator=torch.Generator(), seed=0)


@pytest.mark.parametrize("name", ["sphere", "spheres", "ReLU", "splitting"])
def test_what_draws_needs_one_of_the_two(name: str) -> None:
    with pytest.raises(TypeError, match=r"needs generator= or seed="):
        DRAWS[name]()


def test_another_seed_gives_other_numbers() -> None:
    assert not torch.equal(DRAWS["spheres"](seed=1), DRAWS["spheres"](seed=2))


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises(TypeError, match="seed must be an integer"):
        SPHERES.sample(1, seed=0.5)  # type: ignore[arg-type]


def _public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    rooms = (m.name for m in pkgutil.iter_modules(trueboundary.__path__) if m.ispkg)
    for room in rooms:
        module = importlib.import_module(f"trueboundary.{room}")
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield name, value
            if inspect.isclass(value):
                for method, _ in inspect.getmembers(value, callable):
                    called = inspect.getattr_static(value, method)
                    called = getattr(called, "__func__", called)
                    shown = not method.startswith("_") or method in ("__init__", "__call__")
                    if shown and inspect.isfunction(called):
                        yield f"{name}.{method}", called


def test_whatever_public_takes_a_generator_takes_a_seed() -> None:
    missing = []
    for name, called in _public_callables():
        parameters = inspect.signature(called).parameters
        if "generator" in parameters and "seed" not in parameters:
            missing.append(name)
    assert not [name for name in missing if not name.startswith(WRITTEN_BY_OTHERS)]
