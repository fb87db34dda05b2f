"""How far from the exact nearest error does an attack stop, and what does it cost?

Attacks the quadratic classifier sum(alpha_i x_i^2) = 1 with alphas evenly spread over
[0.05, 1.55], whose exact nearest error is known in closed form, on both spheres; prints each
attack's distance as a ratio to the truth. Run it with ``python benchmarks/attacks_vs_truth.py``;
``--help`` lists the settings.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueboundary.attacks import (
    Attack,
    AttackResult,
    Domain,
    ManifoldAttack,
    NearestError,
    Shell,
    Sphere,
)
from trueboundary.certificates import nearest_ellipsoid_error
from trueboundary.classifiers import Classifier
from trueboundary.problems import ConcentricSpheres

Array = NDArray[np.float64]

MANIFOLD_ATTACKS: dict[str, Attack] = {
    "published: 1000 steps of 0.001": ManifoldAttack(),
    "coarse: 100 steps of 0.01": ManifoldAttack(n_steps=100, step_size=0.01),
    "nearest error": NearestError(),
    "nearest error, 3 starts": NearestError(n_restarts=3),
}
OFF_MANIFOLD_ATTACKS: dict[str, Attack] = {
    "off manifold, first crossing": ManifoldAttack(),
    "off manifold, nearest error": NearestError(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=500)
    parser.add_argument("--n-points", type=int, default=200, help="points per sphere")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)

    problem = ConcentricSpheres(options.dim)
    alphas = np.linspace(0.05, 1.55, options.dim)

    def classifier(x: Tensor) -> Tensor:
        return x.square() @ torch.from_numpy(alphas).to(x) - 1

    print(f"Ratio of distance found to exact distance; d = {options.dim}, alphas 0.05 to 1.55,")
    print(f"{options.n_points} points per sphere, seed {options.seed}, one thread.\n")
    print(
        f"{'attack':<32}{'sphere':>7}{'dtype':>9}{'found':>7}{'min - 1':>10}{'mean - 1':>10}"
        f"{'max - 1':>10}{'forward':>9}{'backward':>9}{'seconds':>9}"
    )
    for dtype in (torch.float64, torch.float32):
        for label in (0, 1):
            generator = torch.Generator().manual_seed(options.seed)
            x = problem.sample_class(options.n_points, label, generator=generator, dtype=dtype)
            x = x[(classifier(x) > 0) == bool(label)]
            points, sphere = x.double().numpy(), "outer" if label else "inner"
            on_sphere = nearest_ellipsoid_error(points, alphas, sphere=sphere)
            anywhere = nearest_ellipsoid_error(points, alphas, sphere=sphere, on_sphere=False)
            shell = Shell(*problem.radii)
            for name, attack in MANIFOLD_ATTACKS.items():
                print(row(name, attack, classifier, x, label, Sphere(), on_sphere))
            for name, attack in OFF_MANIFOLD_ATTACKS.items():
                print(row(name, attack, classifier, x, label, shell, anywhere))


def row(
    name: str,
    attack: Attack,
    classifier: Classifier,
    x: Tensor,
    label: int,
    domain: Domain,
    exact: Array,
) -> str:
    """Run one attack and return its line of the table."""
    start = time.perf_counter()
    result: AttackResult = attack(classifier, x, torch.full((len(x),), label), domain=domain)
    seconds = time.perf_counter() - start
    found = result.success
    excess = result.distance[found].double().numpy() / exact[found.numpy()] - 1
    dtype = str(x.dtype).removeprefix("torch.")
    return (
        f"{name:<32}{'outer' if label else 'inner':>7}{dtype:>9}{result.success_rate:>7.3f}"
        f"{excess.min():>10.1e}{excess.mean():>10.1e}{excess.max():>10.1e}"
        f"{result.n_forward.double().mean():>9.0f}{result.n_backward.double().mean():>9.0f}"
        f"{seconds:>9.2f}"
    )


if __name__ == "__main__":
    main()
