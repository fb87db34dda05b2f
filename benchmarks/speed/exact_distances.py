"""Exact nearest errors of a quadratic classifier against the attacks that look for them.

The classifier is sum(alpha_i x_i^2) = 1 in 500 dimensions with alphas evenly spread over
[0.05, 1.55], handed to the attacks as a bare function. Each row times the closed form for all
points against one attack on the same points; the note says how many times the true distance the
attack found, never less than 1 but for its rounding.
"""

import dataclasses

import numpy as np
import torch
from harness import Row, Setup, alternate
from torch import Tensor

from trueboundary.attacks import Attack, ManifoldAttack, NearestError
from trueboundary.certificates import EllipsoidCertificate, nearest_ellipsoid_error
from trueboundary.classifiers import QuadraticNetwork
from trueboundary.domains import Shell, Sphere
from trueboundary.problems import ConcentricSpheres

TITLE = "Exact nearest errors"
ON_SPHERE: dict[str, Attack] = {
    "manifold attack as published, 1000 steps of 0.001": ManifoldAttack(),
    "manifold attack, 100 steps of 0.01": ManifoldAttack(n_steps=100, step_size=0.01),
    "search for the nearest error": NearestError(),
}
IN_SPACE: dict[str, Attack] = {
    "the published attack, in space": ManifoldAttack(),
    "search for the nearest error, in space": NearestError(),
}


def rows(setup: Setup) -> list[Row]:
    """Return a row for each attack, precision and sphere."""
    dim, n_points = setup.size(500, 20), setup.size(200, 5)
    found = []
    attacks = {"manifold attack": ManifoldAttack(n_steps=5)} if setup.tiny else ON_SPHERE | IN_SPACE
    for label, sphere in enumerate(("inner", "outer")):
        for dtype in (torch.float32, torch.float64):
            for name, attack in attacks.items():
                if dtype == torch.float32 or (name in ON_SPHERE and label == 0):
                    found.append(_row(setup, dim, n_points, label, sphere, dtype, name, attack))
    found.append(_certificate(setup, dim, n_points))
    return found


def _row(
    setup: Setup,
    dim: int,
    n_points: int,
    label: int,
    sphere: str,
    dtype: torch.dtype,
    name: str,
    attack: Attack,
) -> Row:
    problem = ConcentricSpheres(dim)
    alphas = np.linspace(0.05, 1.55, dim)
    coefficients = torch.from_numpy(alphas).to(dtype)

    def form(x: Tensor) -> Tensor:
        return x.square() @ coefficients - 1

    generator = torch.Generator().manual_seed(0)
    x = problem.sample_class(n_points, label, generator=generator, dtype=dtype)
    x = x[(form(x) > 0) == bool(label)]
    y, points = torch.full((len(x),), label), x.double().numpy()
    on_sphere = name not in IN_SPACE
    domain = Sphere() if on_sphere else Shell(*problem.radii)
    sides = {
        "attack": lambda: attack(form, x, y, domain=domain),
        "ours": lambda: nearest_ellipsoid_error(points, alphas, sphere=sphere, on_sphere=on_sphere),
    }
    seconds = alternate(sides, dataclasses.replace(setup, repeats=2))
    result, truth = sides["attack"](), sides["ours"]()
    ratio = result.distance.double().numpy() / truth
    ratio = ratio[result.success.numpy() & np.isfinite(truth)]
    return Row(
        f"nearest errors of {len(x)} points of the {sphere} sphere, "
        f"{'on it' if on_sphere else 'in space'}",
        f"{name}, {str(dtype).removeprefix('torch.')}",
        seconds["ours"],
        seconds["attack"],
        target="60" if attack == ManifoldAttack() else "",
        note=(
            f"found {result.success_rate:.3f}, at {ratio.min(initial=np.inf):.6f} (least), "
            f"{np.median(ratio) if ratio.size else np.inf:.6f} (median), "
            f"{ratio.max(initial=0):.6f} (most) times the true distance; "
            f"{float(result.n_backward.double().mean()):.0f} gradients a point"
        ),
    )


def _certificate(setup: Setup, dim: int, n_points: int) -> Row:
    network = QuadraticNetwork(dim, 2 * dim, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    x = ConcentricSpheres(dim).sample_class(n_points, 0, generator=generator, dtype=torch.float64)
    y = torch.zeros(len(x), dtype=torch.int64)
    proof = EllipsoidCertificate()
    seconds = alternate({"ours": lambda: proof(network, x, y, domain=Sphere())}, setup)["ours"]
    return Row(
        f"certificate of a quadratic network, {len(x)} points, eigenbasis included",
        "",
        seconds,
        note=f"exact {float(proof(network, x, y, domain=Sphere()).exact.double().mean()):.3f}",
    )
