"""Figure 5: error rate against mean distance to the nearest error, for networks in training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trueboundary import theory
from trueboundary.experiments.base import Analysis, Experiment, Measurement, Panel, Row, Rows
from trueboundary.experiments.networks.attacked_points import AttackedPoints
from trueboundary.experiments.networks.ellipsoids import cap_distance, unit_points
from trueboundary.experiments.networks.error_counts import ErrorCount
from trueboundary.experiments.networks.error_sets import CAP, ErrorSets, with_ratios
from trueboundary.experiments.networks.trained_networks import (
    RADII,
    SPHERES,
    Architecture,
    OfNetwork,
    TrainedNetwork,
    snapshot_steps,
)
from trueboundary.experiments.summaries import Estimate, extreme, mean_of_points, share_row
from trueboundary.experiments.work_rates import RATES
from trueboundary.figures import COLOURS, CYCLE, interval_bars, new_figure, shared_legend
from trueboundary.plurals import plural
from trueboundary.runs import Context, Run, RunConfig, RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Snapshots are compared with the optimum where the error rate is measured and below this.
_LARGEST_COMPARED_ERROR = 0.1
_N_EXACT_POINTS = 1000
#: The paper's Relu-h2000-d8: inputs, hidden units of a layer, hidden layers.
_LARGE = (500, 2000, 8)
#: Measures below 10 to this power are no floats.
_LEAST_LOG10 = -300
#: The networks with their markers.
_MARKERS = {
    "quadratic": ("s", "quadratic network"),
    "small": ("o", "ReLU, 2 hidden layers"),
    "large": ("^", "ReLU, 8 hidden layers"),
}


@dataclass(frozen=True)
class SnapshotTradeoff(OfNetwork):
    """Error rate and mean distance to the nearest error of every snapshot of a network.

    Parameters
    ----------
    n_points : int
        Random points per sphere for the error rate.
    n_attack_points, n_attack_steps : int
        Points per sphere that are attacked, and steps of length 0.001 of the attack.
    """

    version: ClassVar[int] = 2  # 1 counted quadratic networks among other points

    n_points: int
    n_attack_points: int
    n_attack_steps: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(2, "n_attack_points")
        self.check_at_least(1, "n_points", "n_attack_steps")

    def in_words(self) -> str:
        """Return what is measured."""
        return f"counting and searching for errors of the {self.network.name}"

    def cost(self) -> float:
        """Return the cost of counting and attacking at every snapshot."""
        n_attacked = self.n_attack_points
        counting = ErrorCount(self.network, self.n_points).whole_cost()
        attacking = 2 * AttackedPoints(self.network, n_attacked).seconds(n_attacked)
        return len(self.network.stored_models()) * (counting + attacking)

    def compute(self, context: Context) -> RunResult:
        """Measure every snapshot on both spheres."""
        models = self.network.stored_models()
        rows = []
        for index, (step, name) in enumerate(models.items()):
            model = self.load(context, name)
            counts = ErrorCount(self.network, self.n_points, name, self.seed).count(model)
            exact = exact_tradeoff(model, self.network, self.seed)
            for sphere in SPHERES:
                budget = self.n_attack_points, self.n_attack_steps
                attack = AttackedPoints(self.network, *budget, sphere, model=name, seed=self.seed)
                distance = attack.attack(model)["distance"]
                row = {"step": step, "sphere": sphere, "n_errors": counts[sphere]}
                row |= {"n_points": self.n_points} | _describe_distances(distance)
                rows.append(row | exact.get(sphere, {}))
            context.progress((index + 1) / len(models))
        return RunResult({"rows": rows})


@dataclass(frozen=True)
class ParameterCount(RunConfig):
    """How many numbers a ReLU network is trained by, with and without batch normalization."""

    dim: int
    width: int
    depth: int

    def __post_init__(self) -> None:
        self.check_at_least(1, "dim", "width", "depth")

    def cost(self) -> float:
        """Return the time to draw the start of such a network."""
        n_weights = TrainedNetwork(self.dim, "relu", self.width, self.depth, 1).n_weights
        return RATES.run + n_weights * RATES.random_number

    def compute(self, context: Context) -> RunResult:
        """Make the network and count."""
        import torch

        from trueboundary.classifiers import ReLUNetwork

        network = ReLUNetwork(self.dim, self.width, self.depth, generator=torch.Generator())
        n_all, n_linear = (
            sum(parameter.numel() for parameter in part.parameters())
            for part in (network, network.linear)
        )
        return RunResult({"n_parameters": n_all, "n_without_batch_norm": n_linear})


def exact_tradeoff(model: Any, network: TrainedNetwork, seed: int) -> dict[str, dict[str, float]]:
    """Return the exact error rate and mean exact distance of a quadratic network, by sphere.

    Empty for other networks and for inverted ones, whose error set is the whole sphere.
    """
    from trueboundary.certificates import nearest_ellipsoid_error
    from trueboundary.classifiers import QuadraticNetwork
    from trueboundary.theory.quadratic_forms import ellipsoid_log_error

    if not isinstance(model, QuadraticNetwork):
        return {}
    ellipsoid = model.ellipsoid()
    if ellipsoid.is_inverted:
        return {}
    points = unit_points(_N_EXACT_POINTS, network.dim, seed)
    found: dict[str, dict[str, float]] = {}
    for sphere in SPHERES:
        which: Any = {"sphere": sphere, "radius": network.radius}
        log_error = ellipsoid_log_error(ellipsoid.alphas, **which)
        x = network.radius_of(sphere) * points
        distance = nearest_ellipsoid_error(x, ellipsoid.alphas, **which)
        if math.isfinite(log_error) and np.isfinite(distance).all():
            low, high = theory.intervals.t_interval(distance)
            found[sphere] = {
                "exact_log10_error": log_error / math.log(10),
                "exact_distance": float(distance.mean()),
                "exact_distance_low": low,
                "exact_distance_high": high,
            }
    return found


def _describe_distances(distance: np.ndarray[Any, Any]) -> Row:
    n_failed = int((~np.isfinite(distance)).sum())
    mean, low, high = mean_of_points(distance)
    return {
        "n_attacked": len(distance),
        "n_failed": n_failed,
        "distance": mean if n_failed < len(distance) else None,
        "distance_low": low,
        "distance_high": high,
    }


def _plan(settings: Mapping[str, Any], seed: int, device: str) -> dict[str, RunConfig]:
    shapes: dict[str, tuple[Architecture, int, int]] = {
        "quadratic": ("quadratic", settings["width"], 1),
        "small": ("relu", settings["width"], 2),
        "large": ("relu", settings["large_width"], settings["large_depth"]),
    }
    snapshots = snapshot_steps(settings["n_steps"], settings["n_snapshots"])[:-1]
    shared: dict[str, Any] = {"n_steps": settings["n_steps"], "snapshots": snapshots}
    shared |= {"seed": seed, "device": device}
    budget = {name: settings[name] for name in ("n_points", "n_attack_points", "n_attack_steps")}
    plan: dict[str, RunConfig] = {}
    for name, shape in shapes.items():
        for n_train in settings["train_sizes"]:
            network = TrainedNetwork(settings["dim"], *shape, n_train=n_train, **shared)
            plan[run_name(name, n_train)] = SnapshotTradeoff(network, **budget, seed=seed)
    sets: Any = (settings["log10_measures"], settings["n_set_points"], settings["n_sets"], seed)
    plan |= {f"sets-{dim}": ErrorSets(dim, *sets) for dim in settings["set_dims"]}
    return plan | {"parameters": ParameterCount(*_LARGE)}


def run_name(network: str, n_train: int) -> str:
    """Return the name of the run about the network of that name and size of training set."""
    return f"{network}-{n_train or 'online'}"


def _analyse(runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Analysis:
    networks = {
        run_name(name, n_train): {"network": name, "n_train": str(n_train or "online")}
        for name in _MARKERS
        for n_train in settings["train_sizes"]
    }
    rows = [
        _with_optimum(network, row, settings["dim"])
        for name, network in networks.items()
        for row in runs[name].summary["rows"]
    ]
    sets = [
        with_ratios(row) for d in settings["set_dims"] for row in runs[f"sets-{d}"].summary["rows"]
    ]
    measured = {
        "A3.1a": _extremality(rows, sets, settings["dim"]),
        "A3.1d": _corrected_theorem(rows, sets, settings["dim"]),
        "A3.3": _closeness(rows),
        "A3.4": _late_errors(rows, settings["n_steps"]),
        "A3.5": _better_than_optimal(rows),
        "A3.7": _parameters(runs["parameters"]),
    }
    return Analysis(
        panels=[_panel(rows, settings["dim"])],
        measurements={claim: found for claim, found in measured.items() if found is not None},
        remarks=_remarks(rows),
    )


def _with_optimum(network: Mapping[str, str], row: Mapping[str, Any], dim: int) -> Row:
    """Add what the network is, the error rate's interval and the cap's distance to a row."""
    share, radius = share_row(row["n_errors"], row["n_points"]), RADII[row["sphere"]]
    error = share["rate"]
    complete = {**row, **network, "error": error}
    complete |= {"error_low": share["low"], "error_high": share["high"]}
    cap = theory.caps.mean_distance(dim, error, radius=radius) if 0 < error < 1 else None
    complete["cap_distance"] = cap
    if row.get("exact_log10_error") is not None and row["exact_log10_error"] < 0:
        exact = row["exact_log10_error"], row["sphere"]
        complete["exact_cap_distance"] = cap_distance(dim, *exact)
        if row["exact_log10_error"] > _LEAST_LOG10:
            formula = theory.caps.gaussian_mean_distance
            complete["exact_formula"] = formula(dim, 10 ** exact[0], radius=radius)
    return complete


def _exact_ratios(rows: Iterable[Row]) -> list[float]:
    """Return exact distances as shares of the cap's, of the quadratic networks among the rows."""
    quadratic = [row for row in rows if row.get("exact_cap_distance")]
    return [row["exact_distance"] / row["exact_cap_distance"] for row in quadratic]


def _compared(rows: Sequence[Row]) -> Rows:
    measured = [r for r in rows if r["sphere"] == "inner" and r["distance"] is not None]
    return [row for row in measured if 0 < row["error"] <= _LARGEST_COMPARED_ERROR]


def _set_cells(sets: Sequence[Row], bound: str) -> Rows:
    """Return the distances of sets as shares of a bound on them."""
    known = ("shape", "dim", "log10_measure")
    return [
        {name: row[name] for name in known}
        | _shares((row["distance"], row["low"], row["high"]), row[bound])
        for row in sets
    ]


def _network_cells(rows: Sequence[Row], dim: int, bound: str) -> Rows:
    """Return the exact distances of the quadratic networks as shares of a bound on them."""
    return [
        {
            "shape": f"quadratic network, {row['n_train']}, step {row['step']}, {row['sphere']}",
            "dim": dim,
            "log10_measure": row["exact_log10_error"],
        }
        | _shares(tuple(row[f"exact_distance{end}"] for end in ("", "_low", "_high")), row[bound])
        for row in rows
        if row.get(bound)
    ]


def _shares(estimate: Estimate, bound: float) -> Row:
    ends = (None if value is None else value / bound for value in estimate)
    return dict(zip(("ratio", "low", "high"), ends, strict=True))


def _largest_share(cells: Rows, note: str) -> Measurement:
    shares = [(cell["ratio"], cell["low"], cell["high"]) for cell in cells]
    return Measurement(*extreme(shares, max), n=len(cells), cells=cells, note=note)


def _extremality(rows: Sequence[Row], sets: Sequence[Row], dim: int) -> Measurement:
    """Return the largest mean distance over the cap's, of sets that are no caps."""
    others = _set_cells([row for row in sets if row["shape"] != CAP], "cap")
    networks = _network_cells(rows, dim, "exact_cap_distance")
    largest: dict[str, float] = {}
    for cell in others:
        largest[cell["shape"]] = max(cell["ratio"], largest.get(cell["shape"], 0.0))
    if networks:
        largest["quadratic network in training"] = max(cell["ratio"] for cell in networks)
    words = ", ".join(f"{shape} {ratio:.4f}" for shape, ratio in largest.items())
    return _largest_share([*others, *networks], f"The largest ratios: {words}.")


def _corrected_theorem(rows: Sequence[Row], sets: Sequence[Row], dim: int) -> Measurement | None:
    """Return the largest mean distance over the corrected bound of theorem 5.1."""
    own = _set_cells([row for row in sets if row["dim"] == dim], "formula")
    networks = _network_cells(rows, dim, "exact_formula")
    if not own:
        return None
    caps = [cell["ratio"] for cell in own if cell["shape"] == CAP]
    note = f"Caps have {min(caps):.4f} to {max(caps):.4f} of the bound, so that it is no looser."
    return _largest_share([*own, *networks], note)


def _closeness(rows: Sequence[Row]) -> Measurement | None:
    compared = _compared(rows)
    if not compared:
        return None
    ratios = [row["distance"] / row["cap_distance"] for row in compared]
    low, high = theory.intervals.median_interval(ratios)
    exact = _exact_ratios(compared)
    return Measurement(
        float(np.median(ratios)),
        low,
        high,
        n=len(ratios),
        exact=float(np.median(exact)) if exact else None,
        note=f"Snapshots with errors seen and an error rate of at most {_LARGEST_COMPARED_ERROR}; "
        "the exact column is the median over the quadratic networks among them, with exact error "
        "rates and distances.",
    )


def _late_errors(rows: Sequence[Row], n_steps: int) -> Measurement | None:
    late = [
        row
        for row in rows
        if row["step"] == n_steps
        and row["sphere"] == "inner"
        and (row["n_train"] == "online" or int(row["n_train"]) >= 10_000)
    ]
    if not late:
        return None
    return Measurement(
        float(max(row["n_errors"] for row in late)),
        n=len(late),
        cells=[{k: row[k] for k in ("network", "n_train", "n_errors", "n_points")} for row in late],
        note="The largest count over the networks.",
    )


def _better_than_optimal(rows: Sequence[Row]) -> Measurement | None:
    compared = _compared(rows)
    if not compared:
        return None
    better = [row for row in compared if row["distance"] > row["cap_distance"]]
    return Measurement(bool(better), n=len(compared), note=f"{len(better)} of {len(compared)}.")


def _parameters(run: Run) -> Measurement:
    found = run.summary
    note = f"{found['n_without_batch_norm']:,} of them in linear layers."
    return Measurement(float(found["n_parameters"]), note=note)


def _remarks(rows: Sequence[Row]) -> list[str]:
    remarks = []
    for sphere in SPHERES:
        ratios = _exact_ratios(row for row in rows if row["sphere"] == sphere)
        if ratios:
            remarks.append(
                f"Quadratic networks, {sphere} sphere, exact error rates and distances: the mean "
                f"distance is {min(ratios):.3f} to {max(ratios):.3f} of the cap's ({len(ratios)} "
                "snapshots); ellipsoids with many comparable alphas tend to 1/sqrt(2) = 0.707."
            )
    n_failed = sum(row["n_failed"] for row in rows)
    n_attacked = sum(row["n_attacked"] for row in rows)
    remarks.append(
        f"The attack found no error from {n_failed} of {plural(n_attacked, 'point')}; means are "
        "over the others, as in the paper, and points that are errors themselves count as "
        "distance 0."
    )
    return remarks


def _panel(rows: Sequence[Row], dim: int) -> Panel:
    return Panel(
        "fig5",
        "Error rate and distance to the nearest error (Fig. 5)",
        "Each marker is a network at one moment of its training: error rate on random "
        "points against the mean distance that the manifold attack needs. The black line is the "
        "best that any error set of that size can do, a cap. Small dots are exact for the "
        "quadratic network (contour integral and exact nearest errors), also where sampling sees "
        "nothing: compare how far below the line they lie.",
        lambda: _draw(rows, dim),
        rows,
    )


def _draw(rows: Sequence[Row], dim: int) -> Figure:
    figure, axes = new_figure(2, width=11.0, height=5.4)
    sizes = sorted({row["n_train"] for row in rows}, key=lambda n: (n == "online", len(n), n))
    colour = dict(zip(sizes, CYCLE, strict=False))
    exact = [row["exact_log10_error"] for row in rows if row.get("exact_cap_distance")]
    floor = max(-18.0, min([-6.0, *exact]) - 0.5)
    grid = np.logspace(floor, math.log10(0.5), 200)
    for panel, sphere in zip(axes, SPHERES, strict=True):
        line = [theory.caps.mean_distance(dim, m, radius=RADII[sphere]) for m in grid]
        panel.plot(grid, line, color=COLOURS["truth"], label="best possible (cap, exact)")
        for row in rows:
            if row["sphere"] != sphere:
                continue
            shade = colour[row["n_train"]]
            if row.get("exact_cap_distance") and row["exact_log10_error"] > floor:
                panel.plot(10 ** row["exact_log10_error"], row["exact_distance"], ".", color=shade)
            if row["error"] > 0 and row["distance"] is not None:
                names = ("error", "distance", "error_low", "error_high")
                style: Any = {"fmt": _MARKERS[row["network"]][0], "ms": 5, "mfc": "none"}
                style |= {"across": True, "color": shade, "lw": 0.8}
                interval_bars(panel, *(row[name] for name in names), **style)
        panel.set(title=f"{sphere} sphere", xscale="log", xlabel=f"error rate, {sphere} sphere")
        panel.set(ylim=(0, None), ylabel="mean distance to the nearest error (L2)")
    key = axes[0]
    for marker, label in _MARKERS.values():
        key.plot([], [], marker, color=COLOURS["grey"], mfc="none", label=label)
    key.plot([], [], ".", color=COLOURS["grey"], label="quadratic network, exact")
    for n_train in sizes:
        name = "trained online" if n_train == "online" else f"trained on {int(n_train):,} points"
        key.plot([], [], "s", color=colour[n_train], label=name)
    shared_legend(figure, n_columns=4, of=key)
    return figure


EXPERIMENT = Experiment(
    id="spheres-tradeoff",
    paper="spheres",
    place="Fig. 5",
    title="Error rate against mean distance to the nearest error, three networks in training",
    question="Do trained networks make the best of their error rate, as a cap would?",
    plan=_plan,
    analyse=_analyse,
)
