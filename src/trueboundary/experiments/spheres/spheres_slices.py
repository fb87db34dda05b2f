"""Slices through the input space of the ReLU network (Gilmer et al. 2018, Fig. 1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row
from trueboundary.experiments.networks import planes
from trueboundary.experiments.networks.trained_networks import OfNetwork, small_relu_network
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import new_figure, shared_legend
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from trueboundary.classifiers import ClassifierModule

Array = NDArray[np.floating[Any]]
#: Slices in the order of the paper's figure, and one more that only numbers are given of.
SLICES = ("random", "one-worst", "two-worst")
SPAN = "span-of-two"
_TITLES = {
    "random": "two random directions",
    "one-worst": "a worst-case and a random direction",
    "two-worst": "two orthogonal worst-case directions",
}
_AXES = {
    "random": ("first random direction", "second random direction"),
    "one-worst": ("worst-case direction", "random direction"),
    "two-worst": ("worst-case direction", "worst among the orthogonal"),
}
#: Margin below which the inner class has a probability above 0.9.
_CONFIDENT = -math.log(9.0)
_MIDDLE = 1.15
#: Half the side of the smallest square that is shown, and what is left around what it has to hold.
_LEAST_EXTENT, _MARGIN = 1.4, 0.1


@dataclass(frozen=True)
class Slices(OfNetwork):
    """Margins of a network on slices through random and worst-case directions.

    A worst-case direction is that of the point of the outer sphere which the network takes for
    inner with most confidence, found by attack. The second one is the worst among the points
    orthogonal to the first, found by the same attack under that constraint.

    Parameters
    ----------
    n_starts : int
        Random starts of each search for a worst-case point.
    n_attack_steps : int
        Largest number of steps from each start.
    resolution : int
        Points along each side of the pictures.
    n_angles, n_radii : int
        Rays on which the boundary is measured, and points on each.
    n_circle : int
        Points of the outer circle.
    reach : float
        Length of the rays, and half the width of the pictures.
    """

    version: ClassVar[int] = 2  # 1 halved steps that changed nothing

    n_starts: int
    n_attack_steps: int
    resolution: int
    n_angles: int = 240
    n_radii: int = 161
    n_circle: int = 10_000
    reach: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_attack_steps", "resolution", "n_angles", "n_circle")
        self.check_at_least(2, "n_starts", "n_radii")
        if self.network.dim < 4:
            raise ValueError(f"slices need at least 4 dimensions, got {self.network.dim}")

    def cost(self) -> float:
        """Two searches, three pictures and four sets of rays."""
        n_points = 3 * self.resolution**2 + 4 * (self.n_angles * self.n_radii + self.n_circle)
        searching = 2 * self.network.seconds_of_attack(self.n_starts, self.n_attack_steps // 2)
        return RATES.run + searching + self.network.seconds_of_passes(0, n_points)

    def compute(self, context: Context) -> RunResult:
        """Find the directions, then evaluate the network on every slice."""
        model = self.load(context)
        slices, margins = self._planes(model)
        square = planes.square_points(self.reach, self.resolution)
        angles = 2 * math.pi * np.arange(self.n_angles) / self.n_angles
        radii = np.linspace(0.0, self.reach, self.n_radii)
        circle = 2 * math.pi * np.arange(self.n_circle) / self.n_circle
        rays = planes.polar_points(angles, radii)
        outer = planes.polar_points(circle, [self.network.radius])
        arrays: Row = {"angle": angles, "radius": radii}
        shares: Row = {"n_circle": self.n_circle}
        for done, (name, plane) in enumerate(slices.items()):
            arrays[f"rays/{name}"] = planes.evaluate_plane(model, plane, rays)
            on_circle = planes.evaluate_plane(model, plane, outer)
            shares[f"outer_wrong_{name}"] = float((on_circle <= 0).mean())
            if name in SLICES:
                arrays[f"picture/{name}"] = planes.evaluate_plane(model, plane, square)
            context.progress((done + 1) / len(slices))
        return RunResult(shares | margins, arrays)

    def _planes(self, model: ClassifierModule) -> tuple[dict[str, Array], dict[str, float]]:
        """Return pairs of orthonormal directions by slice, and the worst margins found."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        random = torch.randn(2, self.network.dim, generator=generator, dtype=torch.float64).numpy()
        points, margins = self._worst_points(model, np.eye(self.network.dim), generator)
        order = np.argsort(margins)
        first = points[order[0]]

        rotation, _ = np.linalg.qr(first[:, None], mode="complete")
        constrained, orthogonal = self._worst_points(model, rotation[:, 1:].T, generator)
        second = constrained[int(orthogonal.argmin())]
        slices = {
            "random": orthonormal(random[0], random[1]),
            "one-worst": orthonormal(first, random[0]),
            "two-worst": orthonormal(first, second),
            SPAN: orthonormal(first, points[order[1]]),
        }
        return slices, {
            "worst_margin": float(margins.min()),
            "worst_orthogonal_margin": float(orthogonal.min()),
            "cosine_of_two": float(_unit(first) @ _unit(points[order[1]])),
        }

    def _worst_points(
        self, model: ClassifierModule, basis: Array, generator: torch.Generator
    ) -> tuple[Array, Array]:
        """Return the points of the outer sphere where the search ended, and their margins.

        The search is for coordinates in the orthonormal rows of `basis`, and so cannot leave the
        subspace that they span.
        """
        import torch

        from trueboundary.attacks import ManifoldAttack, Sphere

        axes = torch.from_numpy(basis).to(next(model.parameters()))
        start = torch.randn(self.n_starts, len(basis), generator=generator).to(axes)
        sphere = Sphere(self.network.radius)
        attack = ManifoldAttack("worst_case", self.n_attack_steps, step_size=1e-2)
        result = attack(
            lambda coordinates: model.margin(coordinates @ axes),
            sphere.project(start),
            torch.ones(self.n_starts, dtype=torch.int64),
            domain=sphere,
            generator=generator,
        )
        points = result.endpoint.double().cpu().numpy() @ basis
        return points, result.endpoint_margin.double().cpu().numpy()


def orthonormal(first: Array, second: Array) -> Array:
    """Return the two directions as orthonormal rows, the first one kept (Gram-Schmidt)."""
    axis = _unit(first)
    rest = second - (second @ axis) * axis
    rest = rest - (rest @ axis) * axis  # once more, for the digits that nearly parallel ones lose
    return np.stack([axis, _unit(rest)])


def _unit(vector: Array) -> Array:
    return vector / float(np.linalg.norm(vector))


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Slice the network that the other experiments share."""
    network = small_relu_network(settings, seed, device)
    budget = settings["n_starts"], settings["n_attack_steps"], settings["resolution"]
    return {"slices": Slices(network, *budget, seed=seed)}


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Measure the boundary on the slices."""
    arrays, summary = runs["slices"].arrays, runs["slices"].summary
    angles, radii = arrays["angle"], arrays["radius"]
    crossings = {name: boundary_radii(radii, arrays[f"rays/{name}"]) for name in SLICES}
    data = [
        {"slice": name, "angle": float(angle), "boundary_radius": float(radius)}
        for name in SLICES
        for angle, found in zip(angles, crossings[name], strict=True)
        for radius in found
    ]
    panel = Panel(
        "fig1",
        "Slices through the input space",
        "Green: classified as inner. Black: the two spheres of the data. Red: the boundary of "
        "largest margin. Left: two random directions. Centre: the worst-case direction across, "
        "a random direction up. Right: two worst-case directions, the second one found by the "
        "same attack among the points orthogonal to the first. These are slices: a projection "
        "of a sphere would be a filled disc.",
        lambda: _draw(arrays, crossings, float(radii[-1])),
        data,
    )
    measurements = {
        "A1.6a": deviation_measurement(angles, crossings["random"]),
        "A1.6b": confident_measurement(radii, arrays["rays/one-worst"]),
        "A1.6c": Measurement(
            summary[f"outer_wrong_{SPAN}"],
            n=summary["n_circle"],
            note="Exact up to the grid of angles. The plane through the two worst of the points "
            f"where the searches ended (cosine {summary['cosine_of_two']:.3f}). With the worst "
            "point among those orthogonal to the first, as in the picture, "
            f"{summary['outer_wrong_two-worst']:.4g} of the circle.",
        ),
    }
    remarks = [
        f"The worst margin (logit) found on the outer sphere is {summary['worst_margin']:.3g}, "
        f"and {summary['worst_orthogonal_margin']:.3g} among the points orthogonal to it.",
        "Of the outer circle, "
        + ", ".join(f"{summary[f'outer_wrong_{name}']:.4g} ({_TITLES[name]})" for name in SLICES)
        + " is misclassified.",
    ]
    return Analysis([panel], measurements, remarks)


def boundary_radii(radii: Array, margins: Array) -> list[Array]:
    """Return per angle the radii at which a ray from the origin crosses the boundary.

    They are interpolated linearly between neighbouring `radii`, which increase; `margins` has the
    shape ``(n_radii, n_angles)``.

    Examples
    --------
    >>> import numpy as np
    >>> boundary_radii(np.array([0.0, 1.0, 2.0]), np.array([[-1.0], [-0.5], [0.5]]))
    [array([1.5])]
    """
    found = []
    for values in margins.T.astype(np.float64):
        before = np.flatnonzero((values[:-1] < 0) != (values[1:] < 0))
        low, high = values[before], values[before + 1]
        found.append(radii[before] + (radii[before + 1] - radii[before]) * low / (low - high))
    return found


def deviation_measurement(angles: Array, crossings: list[Array]) -> Measurement:
    """Return how far the boundary strays from 1.15; infinitely far where a ray meets none."""
    n_without = sum(len(found) == 0 for found in crossings)
    deviations = [float(np.abs(found - _MIDDLE).max()) for found in crossings if len(found)]
    note = f"Over {plural(len(angles), 'angle')} of one random slice."
    if n_without:
        note += f" On {n_without} of them there is no boundary within reach."
    value = math.inf if n_without else max(deviations)
    return Measurement(value, n=len(angles), note=note)


def confident_measurement(radii: Array, margins: Array) -> Measurement:
    """Return the largest radius at which the inner class has a probability above 0.9."""
    confident = np.any(margins < _CONFIDENT, axis=1)
    if not confident.any():
        return Measurement(0.0, note="Nowhere on the slice is the network that confident.")
    value = float(radii[confident].max())
    note = f"On rays with a point every {radii[1] - radii[0]:.3g}."
    if confident[-1]:
        note += " This is the end of the rays; the region goes on."
    return Measurement(value, n=margins.shape[1], note=note)


def _draw(
    arrays: Mapping[str, Array], crossings: Mapping[str, list[Array]], extent: float
) -> Figure:
    figure, panels = new_figure(len(SLICES), width=11.0, height=4.2)
    window = shown_square(arrays["angle"], crossings.values(), extent)
    for axes, name in zip(panels, SLICES, strict=True):
        planes.draw_plane(axes, arrays[f"picture/{name}"], extent)
        across, up = _AXES[name]
        axes.set(xlim=window[0], ylim=window[1], xlabel=across, ylabel=up)
    shared_legend(figure, n_columns=3, of=panels[0])
    return figure


def shown_square(
    angles: Array, crossings: Iterable[list[Array]], extent: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return limits of a square that holds the spheres and every crossing, not much more.

    It lies within ``[-extent, extent]^2``, where pictures end.
    """
    points = [np.zeros((2, 0))]
    for found in crossings:
        for angle, radii in zip(angles, found, strict=True):
            points.append(radii * np.array([[math.cos(angle)], [math.sin(angle)]]))
    least = np.full(2, -_LEAST_EXTENT)
    every = np.concatenate([*points, least[:, None], -least[:, None]], axis=1)
    low, high = every.min(axis=1) - _MARGIN, every.max(axis=1) + _MARGIN
    side = min(2 * extent, float((high - low).max()))
    low = np.clip((low + high - side) / 2, -extent, extent - side)
    (x, y), (right, top) = low.tolist(), (low + side).tolist()
    return (x, right), (y, top)


EXPERIMENT = Experiment(
    id="spheres-slices",
    paper="spheres",
    place="Fig. 1",
    title="Slices through the input space of the ReLU network",
    question="What does the decision boundary look like along random and worst-case directions?",
    plan=plan,
    analyse=analyse,
)
