"""Attacks on classifiers of images, and what they found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trueboundary.experiments.images.availability import missing_images, without_data
from trueboundary.experiments.images.trained_classifiers import OfClassifier, dtype_of
from trueboundary.experiments.networks.trained_networks import FINAL
from trueboundary.experiments.work_rates import RATES
from trueboundary.runs import Context, Pieced, Run, RunConfig, RunResult, joined, spans
from trueboundary.runs.config import Arrays

if TYPE_CHECKING:
    from torch import Tensor

    from trueboundary.attacks import Attack
    from trueboundary.classifiers import ClassifierModule

Floats = NDArray[np.floating[Any]]
AttackName = Literal["nearest", "cw", "cw-paper", "cw-box", "gradient", "gradient-fixed"]

#: Changes of pixels are counted in bins as wide as 1/255, a level of an 8-bit image.
CHANGE_EDGES = np.arange(-127.5, 128.5) / 255

#: Points that are attacked together, and the most that one run attacks.
_PIECE_POINTS, _LARGEST_PIECE = 100, 200
# The published fixed steps have no published length. These reach a distance of 10.
_FIXED_STEP_SIZE, _N_FIXED_STEPS = 0.02, 500


@dataclass(frozen=True)
class AttackedImages(Pieced, OfClassifier):
    """Distances from test points to the nearest change of a classifier's decision.

    Success is a changed decision, as in the journal version of the paper: a point that is
    misclassified to begin with is attacked like any other. All classifiers are attacked at the
    same points, given task, number and seed. Of more than two classes the one that is ``reached``
    is kept as well, and the way into each of them is searched, except for the optimal classifier,
    whose nearest errors its proof finds.

    Parameters
    ----------
    attack : {"nearest", "cw", "cw-paper", "cw-box", "gradient", "gradient-fixed"}
        The search for the nearest error; Carlini-Wagner with constants in units of distance; the
        same with the paper's settings, and with these from the nearest image with pixels in [0, 1]
        to another, as CleverHans does unless it is told otherwise; steps along the gradient that
        are computed, or of a fixed length. All distances are from the point itself.
    n_points, seed : int
        Number and seed of the points.
    cw_steps, cw_searches : int
        Steps and number of descents of Carlini-Wagner; unused otherwise. The paper has 500 and 3.
    cw_rate : float
        First learning rate of ``"cw"``.
    n_kept : int
        Number of points kept as pictures, of each class; photographs of people never are.
    model : str
        Which of the classifier's stored models.
    """

    # 3 let too few walls of the box hold a nearest error; 2 lost errors where C&W's rate was too
    # small; 1 began later descents where the last ended.
    version: ClassVar[int] = 4

    attack: AttackName
    n_points: int
    cw_steps: int = 1000
    cw_searches: int = 9
    cw_rate: float = 0.01
    n_kept: int = 4
    model: str = FINAL
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_at_least(1, "n_points", "cw_steps", "cw_searches")
        if self.attack not in get_args(AttackName):
            raise ValueError(f"attack must be one of {get_args(AttackName)}, got {self.attack!r}")

    def pieces(self) -> dict[str, AttackedImagesPiece]:
        """Return some points each."""
        if self.n_points <= _LARGEST_PIECE:
            return {}
        return {  # by the names that the keys of results know
            f"chunk-{first}": AttackedImagesPiece(**self.field_values(), first=first, stop=stop)
            for first, stop in spans(self.n_points, _PIECE_POINTS)
        }

    def needs(self) -> Mapping[str, RunConfig]:
        """Return the mixtures, the classifier and, of many points, the pieces."""
        return {**self.whole_needs(), **self.pieces()}

    def in_words(self) -> str:
        """Return what is searched for."""
        return f"searching for nearest errors of the {self.name}, {self.task.name}"

    @property
    def into_each(self) -> bool:
        """Whether the way into every other class is searched."""
        return self.task.fit.n_classes > 2 and self.classifier is not None

    def whole_cost(self) -> float:
        """Return about the time of all points."""
        return self.seconds(self.n_points)

    def seconds(self, n_points: int) -> float:
        """Return the number of passes times about what one with gradients takes."""
        descents = self.cw_steps * self.cw_searches
        # Boundaries next to narrow densities are near; the paper's settings give up early on most
        # points.
        n_fixed = 30 if self.task.variant == "asymmetric" else 150
        usual = {"nearest": 50, "gradient": 12, "gradient-fixed": n_fixed, "cw": descents}
        n_ways = self.task.fit.n_classes - 1 if self.into_each else 1
        n_steps = n_ways * math.ceil(usual.get(self.attack, 0.4 * descents))
        n_calls, n_passes = n_steps * -(-n_points // _PIECE_POINTS), n_steps * n_points
        moving = n_calls * RATES.attack_call + n_passes * self.task.fit.n_pixels * RATES.attack_step
        start = RATES.run + self.task.seconds_of_points(self.n_points)
        return start + moving + 2 * self.seconds_of_passes(n_calls, n_passes)

    def compute(self, context: Context) -> RunResult:
        """Attack the points or put them together, unless the images are missing."""
        missing = missing_images(context.inputs)
        return without_data(missing) if missing else super().compute(context)

    def whole(self, context: Context) -> RunResult:
        """Attack all points."""
        return self._result(self.attack_rows(context, 0, self.n_points), context)

    def put_together(self, pieces: Mapping[str, Run], context: Context) -> RunResult:
        """Return the points of all pieces."""
        return self._result(joined([piece.arrays for piece in pieces.values()]), context)

    def _result(self, arrays: Arrays, context: Context) -> RunResult:
        """Return the result from rows as `attack_rows` gives them."""
        arrays["change_count"] = arrays["change_count"].sum(axis=0)
        by_class = np.argsort(arrays["label"][arrays["kept"]], kind="stable")
        arrays |= {name: arrays[name][by_class] for name in ("kept", "original", "adversarial")}
        summary = {
            "available": True,
            "n_points": len(arrays["label"]),
            "n_correct": int(arrays["correct"].sum()),
            "n_changed": int(np.isfinite(arrays["distance"]).sum()),
            "image_shape": list(self.task.image_shape(context.inputs["fit"])),
        }
        return RunResult(summary, arrays)

    def attack_rows(self, context: Context, start: int, stop: int) -> Arrays:
        """Attack the points `start` to `stop`, with one ``change_count`` for some at a time."""
        x, y = self.points(context.inputs["fit"])
        model = self.load(context, self.model)
        x, labels = x.to(dtype_of(model)), y.numpy()
        hidden = self.task.variant == "real" and self.task.fit.source.is_private
        kept = _first_of_each(labels, 0 if hidden else self.n_kept, self.task.fit.n_classes)
        stop = min(stop, len(x))
        parts = []
        for first, last in spans(stop, _PIECE_POINTS, start=start):
            rows = slice(first, last)
            part = self.attack_points(model, x[rows]) | {"label": labels[rows]}
            part["correct"] = part["predicted"] == part["label"]
            original, changed = x[rows].float().numpy(), part.pop("x_adv")
            found = np.isfinite(part["distance"])
            part["change_count"] = count_changes((changed - original)[found])[None]
            part["kept"] = kept[(first <= kept) & (kept < last)]
            part["original"] = original[part["kept"] - first]
            part["adversarial"] = changed[part["kept"] - first]
            parts.append(part)
            context.progress((last - start) / (stop - start))
        return joined(parts)

    def points(self, fit: Run) -> tuple[Tensor, Tensor]:
        """Return the attacked points in float32, and their labels."""
        return self.task.points(fit, self.n_points, seed=self.seed, purpose="test")

    def attack_points(self, model: ClassifierModule, x: Tensor) -> dict[str, NDArray[Any]]:
        """Attack the decision of `model` at each point."""
        import torch

        from trueboundary.domains import Box

        with torch.no_grad():
            predicted = model.predict(x)
        attack = self._attack()
        found: dict[str, NDArray[Any]] = {}
        if self.attack == "cw-box":
            inside = x.clamp(0.0, 1.0)
            result = attack(model, inside, predicted, domain=Box(0.0, 1.0))
            away = (result.x_adv - x).double().norm(dim=1)
            distance = torch.where(result.distance.isfinite(), away, math.inf)
            found["distance_to_box"] = (inside - x).double().norm(dim=1).numpy()
        else:
            result = attack(model, x, predicted, target="each" if self.into_each else None)
            distance = result.distance.double()
        if self.task.fit.n_classes > 2:  # of two classes the other one is reached
            with torch.no_grad():
                found["reached"] = model.predict(result.x_adv).numpy()
        return found | {
            "predicted": predicted.numpy(),
            "distance": distance.numpy(),
            "status": result.status.numpy(),
            "n_backward": result.n_backward.numpy(),
            "x_adv": result.x_adv.float().numpy(),
        }

    def _attack(self) -> Attack:
        from trueboundary.attacks import CarliniWagnerL2, LogDensityGradient, NearestError

        if self.attack == "nearest":
            # Hops from kink to kink come a thousandth nearer on a convolutional network, for three
            # times the passes.
            return NearestError(n_hops=0)
        if self.attack == "cw":
            return CarliniWagnerL2(self.cw_steps, self.cw_searches, self.cw_rate)
        if self.attack in ("cw-paper", "cw-box"):
            steps, searches = self.cw_steps, self.cw_searches
            return replace(CarliniWagnerL2.paper(), n_steps=steps, n_binary_search=searches)
        # The papers count the gradients of the steps; no other is taken.
        if self.attack == "gradient":
            return LogDensityGradient(doubts=False)
        return LogDensityGradient("fixed-step", _N_FIXED_STEPS, _FIXED_STEP_SIZE, doubts=False)


@dataclass(frozen=True, kw_only=True)
class AttackedImagesPiece(AttackedImages):
    """A part of a large `AttackedImages`, whose fields it has: the points `first` to `stop`.

    Parameters
    ----------
    first, stop : int
        Number of the first point, and one more than that of the last; of real images there may be
        fewer.
    """

    kind: ClassVar[str] = "AttackedImagesChunk"

    first: int
    stop: int

    def pieces(self) -> dict[str, AttackedImagesPiece]:
        """Return none: a piece is not cut further."""
        return {}

    def whole_cost(self) -> float:
        """Return about the time of the piece's points."""
        return self.seconds(self.stop - self.first)

    def whole(self, context: Context) -> RunResult:
        """Attack the same points that a job in one piece would attack."""
        return RunResult({"available": True}, self.attack_rows(context, self.first, self.stop))


def count_changes(changes: Floats) -> NDArray[np.int64]:
    """Return how many changes of a pixel fall between `CHANGE_EDGES`, the outermost included.

    Examples
    --------
    >>> int(count_changes(np.array([[0.0, -3.0]]))[[0, 127]].sum())
    2
    """
    inside = np.clip(changes, CHANGE_EDGES[0], CHANGE_EDGES[-1])
    counts: NDArray[np.int64] = np.histogram(inside, bins=CHANGE_EDGES)[0].astype(np.int64)
    return counts


def distances(run: Run) -> Floats:
    """Return the distances of an `AttackedImages`, infinite where no decision changed."""
    values: Floats = run.arrays["distance"]
    return values


def accuracy_under_attack(correct: NDArray[np.bool_], distance: Floats) -> float:
    """Return the share of points that are classified correctly once attacked.

    Correct decisions count where no attack changed them, and wrong ones where one did.

    Examples
    --------
    >>> accuracy_under_attack(np.array([True, True, False]), np.array([1.0, np.inf, 2.0]))
    0.6666666666666666
    """
    changed = np.isfinite(distance)
    return float((correct != changed).mean()) if len(correct) else math.nan


def _first_of_each(labels: NDArray[np.int64], n: int, n_classes: int) -> NDArray[np.int64]:
    """Return the places of the first `n` points of class 0, then of class 1, and so on."""
    return np.concatenate([np.flatnonzero(labels == label)[:n] for label in range(n_classes)])
