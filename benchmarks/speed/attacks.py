"""Attacks against a plain loop and the fastest library, and against distances that are known.

The network is the all-convolutional one, trained for a moment on two classes of random images so
that it decides by more than its initial values. Decoupled direction and norm (DDN; Rony et al.
2019) is the plain loop of the paper, of which every evaluation is one of the whole batch; the
nearest-error search is compared with it per evaluation, and with Carlini-Wagner as a whole.
"""

import importlib
import importlib.util
import math
import sys
import types
from collections.abc import Callable

import torch
from harness import Row, Setup, alternate
from torch import Tensor

from trueboundary.attacks import AttackResult, Box, CarliniWagnerL2, ManifoldAttack, NearestError
from trueboundary.certificates import nearest_ellipsoid_error
from trueboundary.classifiers import AllConvolutionalNetwork, margin_and_gradient
from trueboundary.domains import per_sample
from trueboundary.problems import ConcentricSpheres
from trueboundary.training import cross_entropy

TITLE = "Attacks"
UNIT = Box(0.0, 1.0)


def rows(setup: Setup) -> list[Row]:
    """Return the rows on images, then those on an ellipsoid."""
    network, x, y = images(setup)
    steps = setup.size(100, 3)
    nearest, walk = NearestError(), CarliniWagnerL2(setup.size(500, 5), abort_early=True)
    short = CarliniWagnerL2(setup.size(100, 5), learning_rate=0.01)
    ours: dict[str, AttackResult] = {}

    def run(name: str, attack: NearestError | CarliniWagnerL2) -> None:
        ours[name] = attack(network, x, y, domain=UNIT)

    theirs = library(network, x, y, walk.n_steps)
    found: list[Tensor] = []
    sides: dict[str, Callable[[], object]] = {
        "nearest": lambda: run("nearest", nearest),
        "walk": lambda: run("walk", walk),
        "short": lambda: run("short", short),
        "ddn": lambda: ddn(network, x, y, steps),
    }
    if theirs is not None:
        sides["library"] = lambda: found.append(theirs())
    seconds = alternate(sides, Setup(setup.device, min(setup.repeats, 2), setup.tiny))
    passes = {
        name: int(result.n_forward.sum() + result.n_backward.sum()) for name, result in ours.items()
    }
    plain = ddn(network, x, y, steps)
    rival = words(found[-1]) if found else "not installed"
    return [
        Row(
            "Nearest error in a box, CNN, an evaluation",
            "DDN as a plain loop",
            seconds["nearest"] / passes["nearest"],
            seconds["ddn"] / (2 * steps * len(x)),
            target="<= 1.3x its cost",
            note=f"{passes['nearest'] / len(x):.0f} evaluations a point (forward and backward "
            f"counted apart), {words(ours['nearest'].distance)}; DDN {steps} steps {words(plain)}",
        ),
        Row(
            f"Nearest error in a box, CNN, {len(x)} images",
            f"our Carlini-Wagner 3 x {walk.n_steps}",
            seconds["nearest"],
            seconds["walk"],
            target="no larger median",
            note=f"{words(ours['nearest'].distance)}; Carlini-Wagner "
            f"{passes['walk'] / len(x):.0f} evaluations, {words(ours['walk'].distance)}",
        ),
        Row(
            f"Carlini-Wagner 3 x {walk.n_steps} in a box, CNN, {len(x)} images",
            "adv-lib, constant .1",
            seconds["walk"],
            seconds.get("library"),
            target=">= 1.5x at no larger L2",
            note=f"both end early; ours {words(ours['walk'].distance)}, adv-lib {rival}",
        ),
        Row(
            f"Carlini-Wagner 3 x {short.n_steps} in a box, CNN, rate .01",
            f"3 x {walk.n_steps}",
            seconds["short"],
            seconds["walk"],
            target="as many errors",
            note=words(ours["short"].distance),
        ),
        *ellipsoid(setup),
    ]


def words(distance: Tensor) -> str:
    """Return how many errors were found, and how near."""
    found = distance[distance.isfinite()]
    mean = float(found.mean()) if len(found) else math.nan
    return f"{len(found)} found, median {float(distance.median()):.4f}, mean {mean:.4f}"


def images(setup: Setup) -> tuple[AllConvolutionalNetwork, Tensor, Tensor]:
    """Return a network and images in [0, 1] that it tells apart: smooth fields of two kinds."""
    n, side = setup.size(20, 4), setup.size(28, 8)
    generator = torch.Generator().manual_seed(0)
    network = AllConvolutionalNetwork((1, side, side), n_filters=8, generator=generator)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(count) % 2
        noise = torch.randn(count, 1, side, side, generator=generator)
        blurred = torch.nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False)
        across = torch.linspace(-1, 1, side).expand(side, side)
        towards = torch.where(y[:, None, None] == 1, across, across.T)[:, None]
        return (0.5 + blurred + 0.1 * towards).clamp(0, 1), y

    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(setup.size(150, 2)):
        points, labels = draw(50)
        optimizer.zero_grad()
        cross_entropy(network.margin(points), labels).mean().backward()
        optimizer.step()
    x, y = draw(n)
    network.eval().requires_grad_(False)
    y = (network.margin(x) > 0).long()  # nothing is misclassified to begin with
    return network.to(setup.device), x.to(setup.device), y.to(setup.device)


def ddn(network: AllConvolutionalNetwork, x: Tensor, y: Tensor, n_steps: int) -> Tensor:
    """Return the distances that decoupled direction and norm finds in a unit box."""
    sign = 1 - 2 * y.to(x)
    radius, step = torch.ones_like(sign), torch.zeros_like(x)
    nearest = torch.full_like(sign, math.inf)
    for k in range(n_steps):
        value, gradient = margin_and_gradient(network, x + step)
        assert gradient is not None
        ascent = per_sample(sign, x) * gradient
        length, error = step.flatten(1).norm(dim=1), sign * value > 0
        nearest = torch.where(error, torch.minimum(nearest, length), nearest)
        rate = math.cos(math.pi * k / (2 * n_steps))
        step = step + rate * ascent / per_sample(ascent.flatten(1).norm(dim=1).clamp(min=1e-12), x)
        radius = radius * torch.where(error, 0.95, 1.05)
        step = step * per_sample(radius / step.flatten(1).norm(dim=1).clamp(min=1e-12), x)
        step = (x + step).clamp(0, 1) - x
    return nearest


def library(
    network: AllConvolutionalNetwork, x: Tensor, y: Tensor, n_steps: int
) -> Callable[[], Tensor] | None:
    """Return adv-lib's attack on the same images, or None where it is not installed."""
    # Its package asks for visdom and torchvision, which the attack itself does not use.
    absent = {"visdom", "torchvision"} - set(sys.modules)
    try:
        spec = importlib.util.find_spec("adv_lib")
        if spec is None or spec.submodule_search_locations is None:
            return None
        home = next(iter(spec.submodule_search_locations))
        for name in ("adv_lib", "adv_lib.attacks", "adv_lib.attacks.carlini_wagner"):
            package = types.ModuleType(name)
            package.__path__ = [home + name.removeprefix("adv_lib").replace(".", "/")]
            sys.modules[name] = package
        for name in absent:
            sys.modules[name] = types.ModuleType(name)
        logger = types.ModuleType("adv_lib.utils.visdom_logger")
        logger.VisdomLogger = object  # type: ignore[attr-defined]
        losses = types.ModuleType("adv_lib.utils")
        losses.__path__ = [home + "/utils"]
        sys.modules["adv_lib.utils"], sys.modules[logger.__name__] = losses, logger
        attack = importlib.import_module("adv_lib.attacks.carlini_wagner.l2").carlini_wagner_l2
    finally:
        for name in absent:
            sys.modules.pop(name, None)

    def logits(points: Tensor) -> Tensor:
        margin = network.margin(points)
        return torch.stack([torch.zeros_like(margin), margin], dim=1)

    def run() -> Tensor:
        found = attack(
            logits, x, y, initial_const=0.1, binary_search_steps=3, max_iterations=n_steps
        )
        distance = (found - x).flatten(1).norm(dim=1)
        return torch.where(logits(found).argmax(1) != y, distance, math.inf)

    return run


def ellipsoid(setup: Setup) -> list[Row]:
    """Return the search against the published attack on spheres, and both against the truth."""
    dim, n = setup.size(500, 20), setup.size(100, 5)
    alphas = torch.linspace(0.05, 1.55, dim, device=setup.device)
    generator = torch.Generator(setup.device).manual_seed(0)
    x = ConcentricSpheres(dim).sample_class(n, 0, generator=generator, dtype=torch.float32)
    x = x[x.square() @ alphas < 1]
    y = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    exact = nearest_ellipsoid_error(
        x.double().numpy(force=True), alphas.double().numpy(force=True), sphere="inner"
    )
    ours: dict[str, AttackResult] = {}
    attacks = {"nearest": NearestError(), "published": ManifoldAttack()}

    def run(name: str) -> None:
        attack = attacks[name]
        domain = ManifoldAttack().default_domain
        ours[name] = attack(lambda points: points.square() @ alphas - 1, x, y, domain=domain)

    seconds = alternate(
        {name: lambda name=name: run(name) for name in attacks},  # type: ignore[misc]
        Setup(setup.device, min(setup.repeats, 2), setup.tiny),
    )
    notes = []
    for name, result in ours.items():
        excess = result.distance.double().cpu() / torch.from_numpy(exact) - 1
        passes = (result.n_forward + result.n_backward).double().mean()
        notes.append(
            f"{name}: median excess {float(excess.median()):.1e}, {float(passes):.0f} evaluations"
        )
    return [
        Row(
            f"Nearest error on a sphere, ellipsoid, {dim} dimensions, {len(x)} points",
            "published attack on spheres",
            seconds["nearest"],
            seconds["published"],
            target="median excess <= 1e-4",
            note="; ".join(notes),
        )
    ]
