"""How near our attacks come, and for how many evaluations, where the distance is known.

Run with ``python benchmarks/attack_ratios.py`` (a few minutes of one core), or with the names of
some members; ``--points`` sets how many points there are of each, ``--results FILE.json`` keeps the
numbers. Every attack gets the same points of a member in the same run. A ratio is that of the
distance found over

- the exact distance, on ellipsoids in 784 dimensions, in space and on the sphere;
- the lower end of its bracket, for optimal classifiers: it can stay above 1 at the very nearest
  error, so that beside it stands the ratio over the nearest error that is known at all;
- the nearest error that any attack of the run has found, for a kernel machine and a network.

A point without an error counts as infinite. Evaluations forward and backward are means per point.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trueboundary import zoo
from trueboundary.attacks import (
    DDN,
    FMN,
    Attack,
    AttackResult,
    Box,
    CarliniWagnerL2,
    DeepFool,
    Domain,
    HopSkipJump,
    LogDensityGradient,
    ManifoldAttack,
    NearestError,
    Space,
    Sphere,
)
from trueboundary.certificates import bracket, nearest_ellipsoid_error
from trueboundary.classifiers import fit_rbf_svm, misclassified, outputs

DIM, SEED = 784, 0
PROBLEM = "mnist-0-6-symmetric"
UNIT = Box(0.0, 1.0)
SPECTRA = {
    "bulk": np.linspace(0.05, 1.55, DIM),
    "needle": np.r_[np.full(DIM - 1, 0.8), 30.0],
    "flat": np.r_[np.full(DIM // 2, 0.7), np.full(DIM - DIM // 2, 0.9)],
}
ATTACKS: dict[str, Attack] = {
    "NearestError": NearestError(),
    "NearestError, 3 starts": NearestError(n_restarts=3),
    "DDN 100": DDN(),
    "FMN 100": FMN(),
    "Carlini-Wagner 3 x 100": CarliniWagnerL2(100),
    "DeepFool": DeepFool(),
    "LogDensityGradient": LogDensityGradient(),
    "ManifoldAttack": ManifoldAttack(),
    "HopSkipJump": HopSkipJump(),
}


@dataclass(frozen=True)
class Member:
    """A classifier with points, and what is known of their distances, ``(n,)`` or None."""

    classifier: Callable[[Tensor], Tensor]
    x: Tensor
    y: Tensor
    domain: Domain
    lower: Tensor | None = None  # exact on ellipsoids
    known: Tensor | None = None  # of an error that a bracket leads to


def ellipsoid(spectrum: str, domain: Domain, n: int) -> Member:
    """Return an ellipsoid with points inside it, on the unit sphere, in single precision."""
    alphas = SPECTRA[spectrum].astype(np.float32).astype(np.float64)
    weights = torch.from_numpy(alphas)
    x = torch.randn(4 * n, DIM, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    x = (x / x.norm(dim=1, keepdim=True)).float()
    x = x[x.double().square() @ weights < 1][:n]
    exact = nearest_ellipsoid_error(
        x.double().numpy(), alphas, on_sphere=isinstance(domain, Sphere)
    )
    reachable = np.isfinite(exact)
    x, lower = x[reachable], torch.from_numpy(exact[reachable])
    y = torch.zeros(len(x), dtype=torch.int64)
    return Member(lambda points: points.square() @ weights.to(points) - 1, x, y, domain, lower)


def optimal(name: str, n: int) -> Member:
    """Return the optimal classifier of a problem of the zoo, with its bracket."""
    problem = zoo.problem(name)
    classifier = problem.bayes_classifier(dtype=torch.float64)
    x, y = problem.sample(n, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    ends = bracket(classifier, x, y)
    return Member(classifier, x, y, Space(), ends.lower, ends.upper)


def trained(kind: str, n: int) -> Member:
    """Return a trained classifier with images between 0 and 1 that it is right about."""
    problem = zoo.problem(PROBLEM)
    if kind == "network":
        classifier, dtype = zoo.load(f"{PROBLEM}-cnn"), torch.float32
    else:
        generator = torch.Generator().manual_seed(SEED + 1)
        x, y = problem.sample(500, generator=generator, dtype=torch.float64)
        classifier, dtype = fit_rbf_svm(x, y, gamma=0.02, C=10.0), torch.float64
    x, y = problem.sample(2 * n, generator=torch.Generator().manual_seed(SEED), dtype=dtype)
    x = x.clamp(0, 1)
    right = ~misclassified(outputs(classifier, x), y)
    return Member(classifier, x[right][:n], y[right][:n], UNIT)


MEMBERS: dict[str, Callable[[int], Member]] = {
    **{
        f"ellipsoid, {spectrum}, {where}": lambda n, s=spectrum, d=domain: ellipsoid(s, d, n)
        for spectrum in SPECTRA
        for where, domain in (("space", Space()), ("sphere", Sphere()))
        if (spectrum, where) != ("flat", "sphere")  # has hardly an error on it
    },
    "optimal, digits, symmetric": lambda n: optimal(PROBLEM, n),
    "optimal, digits, asymmetric": lambda n: optimal("mnist-0-6-asymmetric", n),
    "kernel machine": lambda n: trained("kernel machine", n),
    "network": lambda n: trained("network", n),
}


def attacked(member: Member) -> dict[str, tuple[AttackResult, float]]:
    """Return what every attack finds that searches the member's domain, and its seconds."""
    found = {}
    for name, attack in ATTACKS.items():
        start = time.process_time()
        try:
            result = attack(member.classifier, member.x, member.y, domain=member.domain)
        except ValueError:  # it does not search such a domain, and says so
            continue
        found[name] = result, time.process_time() - start
    return found


def rows(member: Member) -> list[dict[str, float | str | int]]:
    """Return one row of numbers for each attack."""
    found = attacked(member)
    distances = torch.stack([result.distance.double() for result, _ in found.values()])
    nearest = distances.amin(dim=0)
    if member.known is not None:
        nearest = torch.minimum(nearest, member.known)
    right = nearest > 0
    table = []
    for name, (result, seconds) in found.items():
        row: dict[str, float | str | int] = {
            "attack": name,
            "n": int(right.sum()),
            "failed": int((~result.success[right]).sum()),
            "forward": float(result.n_forward[right].double().mean()),
            "backward": float(result.n_backward[right].double().mean()),
            "seconds": seconds,
        }
        for over, truth in (("truth", member.lower), ("nearest", nearest)):
            if truth is not None:
                ratio = (result.distance.double() / truth)[right].numpy()
                middle, high = np.quantile(ratio, (0.5, 0.9), method="higher")
                row |= {f"{over} median": float(middle), f"{over} p90": float(high)}
        table.append(row)
    return table


def lines(name: str, table: list[dict[str, float | str | int]]) -> list[str]:
    """Return a table as Markdown, excesses over 1 in scientific notation."""
    columns = [over for over in ("truth", "nearest") if f"{over} median" in table[0]]
    head = ["attack", "failed", "forward", "backward"]
    head += [f"over {over}: {what}" for over in columns for what in ("median", "p90")]
    text = [f"## {name}, n = {table[0]['n']}", "", "| " + " | ".join(head) + " |"]
    text.append("|---" * len(head) + "|")
    for row in table:
        cells = [row["attack"], row["failed"], f"{row['forward']:.0f}", f"{row['backward']:.0f}"]
        for over in columns:
            cells += [f"1 + {float(row[f'{over} {what}']) - 1:.1e}" for what in ("median", "p90")]
        text.append("| " + " | ".join(map(str, cells)) + " |")
    return [*text, ""]


def main() -> None:
    """Print one table for each member."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("members", nargs="*", help=f"some of {', '.join(map(repr, MEMBERS))}")
    parser.add_argument("--points", type=int, default=30, help="points of each member")
    parser.add_argument("--results", type=Path, help="where the numbers are written, as JSON")
    options = parser.parse_args()
    unknown = set(options.members) - set(MEMBERS)
    if unknown:
        parser.error(f"expected some of {', '.join(MEMBERS)}, got {', '.join(sorted(unknown))}")
    kept = {}
    for name in options.members or MEMBERS:
        kept[name] = rows(MEMBERS[name](options.points))
        print("\n".join(lines(name, kept[name])), flush=True)
        if options.results is not None:
            record = {"seed": SEED, "points": options.points, "members": kept}
            options.results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
