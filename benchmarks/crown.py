"""Linear-relaxation certificates of ReLU networks: what they cost and what they prove.

Run with ``python benchmarks/crown.py`` (about three minutes). Times are processor time of one
thread, per point and radius test; they say as much about the machine as about the code.
"""

import time

import numpy as np
import torch

from trueboundary.attacks import NearestError
from trueboundary.certificates import (
    RelaxationCertificate,
    angles_of_chords,
    bounds,
    choose_angle,
    interval_bounds,
    prove_sphere_error_free,
    proven_error_bound,
)
from trueboundary.classifiers import ReLUNetwork
from trueboundary.domains import Space, Sphere
from trueboundary.problems import ConcentricSpheres, OnlineStream
from trueboundary.training import TrainingConfig, train


def trained(dim: int, width: int, n_steps: int) -> ReLUNetwork:
    """Return a network of two hidden layers trained online on the two spheres."""
    network = ReLUNetwork(dim, width, 2, generator=torch.Generator().manual_seed(0))
    stream = OnlineStream(ConcentricSpheres(dim), batch_size=50, seed=0)
    train(network, stream, TrainingConfig(n_steps, learning_rate=1e-3))
    return network.eval().requires_grad_(False)


def cost() -> None:
    """Print the cost of one radius test at the papers' size, and how tight intervals would be."""
    dim, n = 500, 4
    network = ReLUNetwork(dim, 1000, 2, generator=torch.Generator().manual_seed(0)).eval()
    generator = torch.Generator().manual_seed(1)
    x = ConcentricSpheres(dim).sample_class(n, 0, generator=generator)
    print("d = 500, two layers of 1000 units, random weights, caps")
    for angle in (0.02, 0.1):
        start = time.process_time()
        lower, upper = bounds(network, x, angle, region="cap")
        seconds = (time.process_time() - start) / n
        low, high = interval_bounds(network, x, angle, region="cap")
        ratio = ((high - low) / (upper - lower)).mean().item()
        print(f"  {angle:5.2f} rad {1000 * seconds:7.0f} ms, intervals {ratio:6.1f} times as wide")


def radii() -> None:
    """Print certified radii beside those that an attack finds, and the error rate they prove."""
    dim, n_pilot, n_test = 10, 200, 2000
    network = trained(dim, 100, 1000)
    problem = ConcentricSpheres(dim)
    certificate = RelaxationCertificate()
    print(f"d = {dim}, two layers of 100 units, 1000 steps")
    for label, radius in enumerate(problem.radii):
        generator = torch.Generator().manual_seed(2 + label)
        x = problem.sample_class(n_pilot, label, generator=generator)
        y = torch.full((n_pilot,), label)
        start = time.process_time()
        pilot = certificate(network, x, y, domain=Sphere())
        seconds = (time.process_time() - start) / n_pilot
        ball = certificate(network, x, y, domain=Space()).distance
        attack = NearestError()
        found = attack(network, x[:50], y[:50], domain=Sphere(), generator=generator)
        reached = found.distance.double().numpy()
        share = np.isfinite(reached).mean()
        median = np.median(reached[np.isfinite(reached)]) if share > 0 else np.nan
        print(
            f"  class {label}: median certified chord {pilot.distance.median():.4f} "
            f"(as a ball {ball.median():.4f}), {1000 * seconds:.0f} ms a point; attack from "
            f"50 points: {share:.0%} reach an error, median chord {median:.4f}"
        )
        angle = choose_angle(angles_of_chords(pilot.distance, radius), dim, n_points=n_test)
        x = problem.sample_class(n_test, label, generator=generator)
        test = certificate(network, x, torch.full((n_test,), label), domain=Sphere())
        print(f"    {proven_error_bound(angles_of_chords(test.distance, radius), dim, angle)}")


def whole_spheres() -> None:
    """Print up to which dimension a trained network can be proven right on both spheres."""
    print("whole spheres, two layers of 50 units, 6000 steps, at most 1,000,000 cells")
    for dim in range(2, 7):
        network = trained(dim, 50, 6000)
        for label, radius in enumerate(ConcentricSpheres(dim).radii):
            start = time.process_time()
            proof = prove_sphere_error_free(network, radius, label=label, max_cells=1_000_000)
            seconds = time.process_time() - start
            print(f"  d = {dim}, class {label} ({seconds:5.1f} s): {proof}")


def main() -> None:
    """Run all three."""
    torch.set_num_threads(1)
    cost()
    radii()
    whole_spheres()


if __name__ == "__main__":
    main()
