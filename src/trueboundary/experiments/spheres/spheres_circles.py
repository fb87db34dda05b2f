"""The ReLU network in two dimensions (Gilmer et al. 2018, Fig. 2 right)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, rows_of
from trueboundary.experiments.networks import planes
from trueboundary.experiments.networks.trained_networks import (
    SPHERES,
    OfNetwork,
    small_relu_network,
)
from trueboundary.figures import COLOURS, new_figure, shared_legend
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CircleGrid(OfNetwork):
    """Margins of a network on both circles and on a square around them.

    Parameters
    ----------
    n_angles : int
        Angles per circle, evenly spaced.
    extent : float
        Half the width of the square.
    resolution : int
        Points along each of its sides.
    """

    n_angles: int
    extent: float = 1.6
    resolution: int = 201

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_angles")
        self.check_at_least(2, "resolution")
        if self.network.dim != 2 or self.network.n_train == 0:
            raise ValueError(
                "circles need a network of dim=2 trained on a fixed set, got "
                f"dim={self.network.dim} with n_train={self.network.n_train}"
            )

    def cost(self) -> float:
        """Two operations per parameter and point."""
        return (2 * self.n_angles + self.resolution**2) * self.network.seconds_per_point

    def compute(self, context: Context) -> RunResult:
        """Evaluate the network on both circles, the square and its own training points."""
        model = self.load(context)
        plane = np.eye(2)
        angles = 2 * math.pi * np.arange(self.n_angles) / self.n_angles
        radii = self.network.problem().radii
        arrays: Row = {
            f"margin_{sphere}": planes.evaluate_plane(
                model, plane, planes.polar_points(angles, [radius])[0]
            )
            for sphere, radius in zip(SPHERES, radii, strict=True)
        }
        arrays["angle"] = angles
        arrays["picture"] = planes.evaluate_plane(
            model, plane, planes.square_points(self.extent, self.resolution)
        )
        arrays["train_x"], arrays["train_y"] = self._training_points()
        return RunResult({"n_angles": self.n_angles, "extent": self.extent}, arrays)

    def _training_points(self) -> tuple[Any, Any]:
        """Return the training set: the batches of the first epoch."""
        import torch

        from trueboundary.problems import FiniteSample

        network = self.network
        stream = FiniteSample(network.problem(), network.n_train, network.batch_size, network.seed)
        batches = [stream.batch(step) for step in range(-(-network.n_train // network.batch_size))]
        x = torch.cat([x for x, _ in batches])[: network.n_train]
        y = torch.cat([y for _, y in batches])[: network.n_train]
        return x.numpy(), y.numpy()


def plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    """Train in two dimensions and look at both circles."""
    n_train = settings["n_train"]
    network = small_relu_network(
        settings, seed, device, dim=2, n_train=n_train, schedule="constant"
    )
    return {"grid": CircleGrid(network, settings["resolution"])}


def analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    """Count the errors on the grid of angles."""
    arrays = runs["grid"].arrays
    # A margin of exactly 0 is class 0, as for argmax.
    wrong = {"inner": arrays["margin_inner"] > 0, "outer": arrays["margin_outer"] <= 0}
    cells: list[Row] = [
        {"sphere": sphere, "n_angles": len(errors), "n_errors": int(errors.sum())}
        for sphere, errors in wrong.items()
    ]
    panel = Panel(
        "fig2-right",
        "The ReLU network in two dimensions",
        f"Green: classified as inner by the network that was trained on {settings['n_train']} "
        "points (dots). Black: the two circles of the data. Red: the boundary of largest "
        "margin. The network has interpolated between the points, and errors on the circles, "
        "were there any, would show as orange arcs.",
        lambda: _draw(arrays, wrong, runs["grid"].summary["extent"]),
        rows_of(**{name: arrays[name] for name in ("angle", "margin_inner", "margin_outer")}),
    )
    n, n_wrong = (sum(row[name] for row in cells) for name in ("n_angles", "n_errors"))
    note = f"{n_wrong} of {n:,} grid points on the two circles, for one trained network."
    measurement = Measurement(n_wrong / n, n=n, cells=cells, note=note)
    closest = min(float(-arrays["margin_inner"].max()), float(arrays["margin_outer"].min()))
    remark = f"The smallest margin (logit) of a correct class on either circle is {closest:.3g}."
    return Analysis([panel], {"A1.8": measurement}, [remark])


def _draw(arrays: Mapping[str, Any], wrong: Mapping[str, Any], extent: float) -> Figure:
    figure, (axes,) = new_figure(width=4.8, height=5.3)
    planes.draw_plane(axes, arrays["picture"], extent)
    for label, sphere in enumerate(SPHERES):
        points = arrays["train_x"][arrays["train_y"] == label]
        axes.plot(*points.T, ".", color=COLOURS[sphere], label=f"training points, {sphere}")
        radius = float(np.linalg.norm(points, axis=1).mean()) if len(points) else math.nan
        if len(bad := arrays["angle"][wrong[sphere]]):
            arc = radius * np.stack([np.cos(bad), np.sin(bad)])
            axes.plot(*arc, "s", color=COLOURS["orange"], ms=3, label=f"errors, {sphere}")
    axes.set(xlabel="first coordinate", ylabel="second coordinate")
    shared_legend(figure, n_columns=2)
    return figure


EXPERIMENT = Experiment(
    id="spheres-circles",
    paper="spheres",
    place="Fig. 2 right",
    title="The ReLU network in two dimensions",
    question="Does a network trained on 100 points in the plane err anywhere on the two circles?",
    plan=plan,
    analyse=analyse,
)
