r"""Linear-relaxation bounds (CROWN) of networks on balls and on spherical caps.

A ReLU whose input lies in [l, u] with l < 0 < u lies between two lines: at most s (z - l) with
s = u / (u - l), at least a z with any a in [0, 1] (here the better of 0 and 1). Going backward
through the network, each output is replaced by linear functions of the layer before that bound it,
until they are linear functions of the point. Their extremes are exact on

    a ball |z - x| <= e:                                   w.x -/+ e |w|,
    a cap {|z| = r, angle(z, x) <= t} of the sphere:       w.z <= r |w| where angle(w, x) <= t,
                                                           else r (cos t w_x + sin t w_p),

with w_x the part of w along x and w_p the length of the rest. The inputs of each hidden layer are
bounded in the same way, layer by layer. Of three classes and more what is bounded are the leads of
the own logit over the others: all at once, as the outputs of a last layer whose rows are the
differences of the network's own.

What is no plain sequence of layers is read by recording what torch runs when it is called: linear
layers and convolutions, batch normalisation in eval mode, ReLUs and leaky ones, average and max
pooling, sums, and whatever moves or scales numbers. There the same bounds go backward through the
operations, a convolution by its transpose and on windows alone. (Sequences of layers keep a way of
their own, which shares the work of the two bounds of a layer and is 2.5 times as fast.) Where
following each unit of each layer to the points would be too dear, as it is for most convolutional
networks, the inner layers are bounded by a linear network near the point's and intervals for the
rest (``_tangents``), which is sound and looser, on balls alone; the outputs are still bounded
backward to the points, given those.

All bounds are computed in float64 and are proven up to its rounding errors (of the order of 1e-15
of the sums they come from), which are not tracked. They hold for the network evaluated in exact
arithmetic, with batch normalisation folded into its linear layers.

References
----------
H. Zhang, T.-W. Weng, P.-Y. Chen, C.-J. Hsieh & L. Daniel (2018), *Efficient Neural Network
Robustness Certification with General Activation Functions*. Caps are an addition made here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trueboundary import _checks
from trueboundary._tensors import check_points, check_samples
from trueboundary.certificates._network import Network, largest_balls, network_of
from trueboundary.certificates._recording import Unreadable
from trueboundary.certificates._regions import BallsOrCaps, Region
from trueboundary.certificates.base import Certificate, Certified, FloatArray, Subject
from trueboundary.classifiers import evaluated
from trueboundary.classifiers.integrity import (
    Disagreement,
    departure,
    require_agreement,
    require_own,
)
from trueboundary.domains import Domain, Space, Sphere

__all__ = ["RelaxationCertificate", "Unreadable", "bounds", "certified_at", "interval_bounds"]

_LOG = logging.getLogger(__name__)

Layers = Sequence[tuple[Tensor, Tensor]]

_BLOCK = 1 << 20  # points are taken together until a coefficient array has about this many entries
_MAX_DOUBLINGS = 60
_MAX_SECANTS = 200


def bounds(
    network: Any,
    x: Tensor,
    size: float | npt.ArrayLike,
    *,
    y: Tensor | None = None,
    region: Region = "ball",
) -> tuple[Tensor, Tensor]:
    """Bound a network's margin or wrongness around each point, by linear relaxation.

    Parameters
    ----------
    network : Module or sequence of (Tensor, Tensor)
        Any module, seen in eval mode, that computes by operations of which a relaxation is known;
        or pairs ``(n_out, n_in)``, ``(n_out,)``, with a ReLU between each two. One output; of two
        the margin is their difference; more are the logits of as many classes.
    x : Tensor of shape (n, d)
        Centres of the regions.
    size : float or array of shape (n,)
        Euclidean radius of the ball, or angular radius of the cap in radians, at most pi.
    y : Tensor of shape (n,), optional
        Labels, 0 to K - 1. With them what is bounded is the wrongness of the points, the largest
        other logit minus the own one; three classes and more have nothing else.
    region : {"ball", "cap"}
        All points within `size`, or those of the sphere through the centre.

    Returns
    -------
    lower, upper : Tensor of shape (n,), float64
        The margin, or the wrongness, lies between them everywhere in the region. They are nowhere
        looser than `interval_bounds`.

    Raises
    ------
    TypeError
        If `network` is none of these, or does what no relaxation is known for (`Unreadable`, with
        the reason).
    ValueError
        If the network's outputs are not those of what was read, or there are more than two and no
        labels.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import bounds
    >>> layers = [  # |z1| + |z2| - 1
    ...     (torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), torch.zeros(4)),
    ...     (torch.ones(1, 4), torch.tensor([-1.0])),
    ... ]
    >>> lower, upper = bounds(layers, torch.tensor([[2.0, 2.0]]), 0.5)
    >>> lower.numpy().round(4), upper.numpy().round(4)
    (array([2.2929]), array([3.7071]))
    """
    return _bounds(network, x, size, y, region, relaxed=True)


def interval_bounds(
    network: Any,
    x: Tensor,
    size: float | npt.ArrayLike,
    *,
    y: Tensor | None = None,
    region: Region = "ball",
) -> tuple[Tensor, Tensor]:
    """Bound a ReLU network's margin or wrongness by interval arithmetic, for comparison.

    The inputs of the first hidden layer are bounded exactly; from there on each unit's interval is
    carried forward on its own. Far cheaper than `bounds`, and far looser; called and answering as
    that.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import interval_bounds
    >>> layers = [(torch.eye(2), torch.zeros(2)), (torch.ones(1, 2), torch.zeros(1))]
    >>> interval_bounds(layers, torch.tensor([[3.0, 4.0]]), 1.0)
    (tensor([5.], dtype=torch.float64), tensor([9.], dtype=torch.float64))
    """
    return _bounds(network, x, size, y, region, relaxed=False)


def certified_at(
    network: Any, x: Tensor, y: Tensor, size: float | npt.ArrayLike, *, region: Region = "ball"
) -> Tensor:
    """Say for each point whether it is proven that no error lies within a given size.

    One evaluation of `bounds`, where the largest certified radius takes about ten. True where it is
    proven, (n,); False says nothing. Called as `bounds`, with labels 0 to K - 1.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.certificates import certified_at
    >>> layers = [(torch.eye(2), torch.zeros(2)), (torch.ones(1, 2), torch.tensor([-1.0]))]
    >>> certified_at(layers, torch.tensor([[2.0, 2.0]]), torch.tensor([1]), 1.0)
    tensor([True])
    """
    check_samples(x, y, n_classes=None)
    return bounds(network, x, size, y=y, region=region)[1] < 0


@dataclass(frozen=True)
class RelaxationCertificate(Certificate):
    """Certified radii of networks: the largest size at which `bounds` excludes an error.

    It reads any module that computes by linear layers, convolutions, batch normalisation, ReLUs
    and leaky ones, average and max pooling, sums, reshapes and scalings, with wrappers such as
    `as_classifier` puts around it, and says what else one does (`Unreadable`).

    Distances on a `Sphere` are chords, from bounds on caps, the points being scaled to the sphere's
    radius; elsewhere they are from bounds on balls. They are lower bounds, proven up to rounding
    (see `trueboundary.certificates.relaxation`), at most the relative `tolerance` below what the
    relaxation can give, and infinite where a whole sphere is proven to be free of errors. Nothing
    tells where the nearest error lies.

    Parameters
    ----------
    tolerance : float
        Relative accuracy to which the largest size is found, strictly between 0 and 1. For large
        networks it is 0.08: each size costs seconds.
    most_work : float
        Multiplications that a point may take, about, of a network that is no sequence of layers;
        where it would take more, nothing is proven (`Unreadable`). A core makes some 4e9 a second.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.domains import Sphere
    >>> from trueboundary.certificates import RelaxationCertificate
    >>> from trueboundary.classifiers import ReLUNetwork
    >>> network = ReLUNetwork(3, 16, 1, generator=torch.Generator().manual_seed(0)).eval()
    >>> x = torch.tensor([[0.6, 0.0, 0.8]])
    >>> certificate = RelaxationCertificate()
    >>> on_sphere = certificate(network, x, network.predict(x), domain=Sphere()).distance
    >>> bool(on_sphere >= certificate(network, x, network.predict(x)).distance)
    True
    """

    domains: ClassVar[tuple[type[Domain], ...]] = (Space, Sphere)

    tolerance: float = 1e-3
    most_work: float = math.inf

    def __post_init__(self) -> None:
        _checks.open_fraction("tolerance", self.tolerance)
        if not self.most_work > 0:
            raise ValueError(f"most_work must be above 0, got {self.most_work!r}.")

    def certify(self, subject: Subject) -> Certified:
        """Bound the leads of the own logit on larger and larger balls, or caps."""
        on_sphere = isinstance(subject.domain, Sphere)
        region: Region = "cap" if on_sphere else "ball"
        points = subject.domain.project(subject.x)
        read = _read(subject.classifier, points)
        if isinstance(read, Network):
            if read.work > self.most_work:
                raise Unreadable(
                    f"its layers are so large that a point takes {read.work:.1g} multiplications, "
                    f"more than {self.most_work:.1g}; RelaxationCertificate(most_work=math.inf) "
                    "takes the time"
                )
            if not read.is_small:
                # A ball holds the cap whose chord is its radius.
                size = largest_balls(read, points, subject.y)
                return Certified(size, np.isinf(size))
            network = read

            def bound(rows: npt.NDArray[np.intp], sizes: FloatArray) -> FloatArray:
                regions = BallsOrCaps.build(points[rows], sizes, region)
                return network.leads(regions, subject.y[rows], both=False)[0].numpy(force=True)

            margins, guess = (part.numpy(force=True) for part in read.slopes(points, subject.y))
        else:
            layers, labels = read, subject.labels
            points = points_beside(points, layers, subject.classifier)

            def bound(rows: npt.NDArray[np.intp], sizes: FloatArray) -> FloatArray:
                return own_leads(layers, points[rows], labels[rows], sizes, region, relaxed=True)

            centre = BallsOrCaps.build(points, 0.0, region)
            margins, guess = _first_guess(layers, centre, labels)
        radii = points.flatten(1).norm(dim=1).numpy(force=True)
        if on_sphere:
            guess = guess / radii
        largest = math.pi if on_sphere else math.inf
        size = _largest_sizes(bound, margins, 0.3 * guess, largest, self.tolerance)
        if on_sphere:
            size = np.where(size == math.pi, np.inf, 2 * radii * np.sin(size / 2))
        return Certified(size, np.isinf(size))


def _read(network: Any, x: Tensor) -> list[Layer] | Network:
    """Return a network's layers where it is made of nothing else, and any other's operations."""
    try:
        return prepare(network)
    except Disagreement:
        raise
    except (TypeError, ValueError) as error:
        _LOG.debug("%s is recorded: %s", type(network).__name__, error)
        # What is no module, or a description of layers, has nothing to be recorded.
        if not isinstance(network, nn.Module):
            raise
        with evaluated(network):
            return network_of(network, x)


@dataclass(frozen=True)
class Layer:
    """A linear layer, with the absolute values of its weights."""

    weight: Tensor
    magnitude: Tensor
    bias: Tensor


@dataclass(frozen=True)
class _Relaxation:
    """Lines that enclose ReLUs, each of shape (n, h): a z <= relu(z) <= s z + t."""

    below: Tensor
    above: Tensor
    offset: Tensor

    @classmethod
    def of(cls, lower: Tensor, upper: Tensor) -> _Relaxation:
        """Relax ReLUs whose inputs lie in [lower, upper]."""
        undecided = (lower < 0) & (upper > 0)
        active = (lower >= 0).to(lower.dtype)
        above = torch.where(undecided, upper / (upper - lower), active)
        below = torch.where(undecided, (upper > -lower).to(lower.dtype), active)
        offset = torch.where(undecided, -above * lower, torch.zeros_like(lower))
        return cls(below, above, offset)


@torch.no_grad()
def _bounds(
    network: Any,
    x: Tensor,
    size: float | npt.ArrayLike,
    y: Tensor | None,
    region: Region,
    *,
    relaxed: bool,
) -> tuple[Tensor, Tensor]:
    if isinstance(network, nn.Module):
        check_points(x)
    layers = _read(network, x)
    n_classes = layers.n_classes if isinstance(layers, Network) else classes_of(layers)
    if y is not None:
        check_samples(x, y, n_classes)
    elif n_classes > 2:
        raise ValueError(
            f"a network of {n_classes} classes has no margin to bound; give the labels of the "
            "points, y."
        )
    if isinstance(layers, Network):
        regions = BallsOrCaps.build(x.detach().double(), size, region)
        labels = torch.ones(len(x), dtype=torch.long) if y is None else y.long()
        low, high = layers.leads(regions, labels, relaxed=relaxed)
        return (low, high) if y is None else (-high, -low)
    points = points_beside(x, layers, network)
    whole = BallsOrCaps.build(points, size, region)
    if y is None:
        lower, upper = bounds_in_blocks(layers, whole, relaxed=relaxed)
        return lower.squeeze(1), upper.squeeze(1)
    low, high = _smallest_leads(layers, whole, y.to(points.device).long(), relaxed)
    return -high, -low


def classes_of(layers: list[Layer]) -> int:
    """Return the number of classes that layers tell apart; one output is a margin of two."""
    return max(2, len(layers[-1].bias))


def led_by(layers: list[Layer], label: int) -> list[Layer]:
    """Return layers whose outputs are the leads of one of K logits over the others, (n, K - 1)."""
    top = layers[-1]
    others = torch.arange(len(top.bias), device=top.bias.device) != label
    weight = top.weight[label] - top.weight[others]
    return [*layers[:-1], Layer(weight, weight.abs(), top.bias[label] - top.bias[others])]


def _by_label(
    layers: list[Layer], regions: BallsOrCaps, labels: Tensor
) -> Iterator[tuple[Tensor, BallsOrCaps, list[Layer]]]:
    """Yield for each label its rows, their regions, and the layers that tell its leads."""
    for label in sorted(set(labels.tolist())):
        rows = (labels == label).nonzero().squeeze(1)
        part = BallsOrCaps(regions.centre[rows], regions.size[rows], regions.kind)
        yield rows, part, led_by(layers, label)


@torch.no_grad()
def own_leads(
    layers: list[Layer],
    points: Tensor,
    labels: npt.NDArray[np.int64],
    size: float | npt.ArrayLike,
    region: Region,
    *,
    relaxed: bool,
) -> FloatArray:
    """Return lower bounds (n,) of the smallest lead of the own class, positive without an error."""
    whole = BallsOrCaps.build(points, size, region)
    found = _smallest_leads(layers, whole, torch.from_numpy(labels).to(points.device), relaxed)[0]
    return np.asarray(found.numpy(force=True))


def _smallest_leads(
    layers: list[Layer], regions: BallsOrCaps, labels: Tensor, relaxed: bool
) -> tuple[Tensor, Tensor]:
    """Bound the smallest lead of the own class over another, (n,) each."""
    if classes_of(layers) == 2:  # the margin's bounds serve both labels
        low, high = (part.squeeze(1) for part in bounds_in_blocks(layers, regions, relaxed=relaxed))
        one = labels == 1
        return torch.where(one, low, -high), torch.where(one, high, -low)
    lower, upper = torch.empty_like(regions.size), torch.empty_like(regions.size)
    for rows, part, leads in _by_label(layers, regions, labels):
        low, high = bounds_in_blocks(leads, part, relaxed=relaxed)
        lower[rows], upper[rows] = low.min(dim=1).values, high.min(dim=1).values
    return lower, upper


@torch.no_grad()
def bounds_in_blocks(
    layers: list[Layer], regions: BallsOrCaps, *, relaxed: bool
) -> tuple[Tensor, Tensor]:
    """Return the extremes of all outputs, (n, m) each, block by block."""
    widest = max(layer.weight.numel() for layer in layers)
    at_once = max(1, _BLOCK // widest)
    parts = [
        _extremes(layers, BallsOrCaps(centre, sizes, regions.kind), relaxed=relaxed)
        for centre, sizes in zip(
            torch.split(regions.centre, at_once), torch.split(regions.size, at_once), strict=True
        )
    ]
    return torch.cat([low for low, _ in parts]), torch.cat([high for _, high in parts])


@torch.no_grad()
def _extremes(layers: list[Layer], region: BallsOrCaps, *, relaxed: bool) -> tuple[Tensor, Tensor]:
    """Bound the inputs of each layer in turn, and the outputs in the end: (n, m) each."""
    first = layers[0]
    low, high = (bound + first.bias for bound in region.extremes(first.weight))
    relaxations: list[_Relaxation] = []
    for depth, layer in enumerate(layers[1:], start=1):
        relaxations.append(_Relaxation.of(low, high))
        middle = 0.5 * (low.clamp(min=0) + high.clamp(min=0)) @ layer.weight.T + layer.bias
        spread = 0.5 * (high.clamp(min=0) - low.clamp(min=0)) @ layer.magnitude.T
        low, high = middle - spread, middle + spread
        if relaxed:
            # Relaxed bounds are mostly tighter but not always; both hold.
            relaxed_low, relaxed_high = _backward(layers[: depth + 1], relaxations, region)
            low, high = torch.maximum(low, relaxed_low), torch.minimum(high, relaxed_high)
    return low, high


def _backward(
    layers: list[Layer], relaxations: list[_Relaxation], region: BallsOrCaps
) -> tuple[Tensor, Tensor]:
    """Bound the outputs of the last layer by linear functions of the point, (n, m) each."""
    *earlier, top = layers
    lines, below = relaxations[-1], earlier[-1]
    # The two bounding functions are middle -/+ spread, and only undecided units enter the spread:
    # half the work of two separate products, or less. (The gap is negative where above < below,
    # which is possible: the lines enclose the ReLU within the bounds, not everywhere.)
    slope, gap = 0.5 * (lines.above + lines.below), 0.5 * (lines.above - lines.below)
    used, undecided = (lines.above > 0).any(0), (gap != 0).any(0)
    middle = (top.weight[:, used] * slope[:, None, used]) @ below.weight[used]
    spread = (top.magnitude[:, undecided] * gap[:, None, undecided]) @ below.weight[undecided]
    half = 0.5 * lines.offset
    constant = (slope * below.bias + half) @ top.weight.T + top.bias
    slack = (gap * below.bias + half) @ top.magnitude.T
    # An upper bound is a lower bound of the negative: both go on as lower bounds, side by side.
    weight = torch.cat([middle - spread, -(middle + spread)], dim=1)
    total = torch.cat([constant - slack, -(constant + slack)], dim=1)
    for layer, line in zip(earlier[-2::-1], relaxations[-2::-1], strict=True):
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        total = total + (negative @ line.offset[:, :, None]).squeeze(2)
        weight = positive * line.below[:, None] + negative * line.above[:, None]
        total = total + weight @ layer.bias
        weight = weight @ layer.weight
    low, negated_high = (region.extremes(weight)[0] + total).chunk(2, dim=1)
    return low, -negated_high


@torch.no_grad()
def _first_guess(
    layers: list[Layer], centre: BallsOrCaps, labels: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Return the smallest leads (n,) at the points, and where they would end if all were linear."""
    if classes_of(layers) == 2:
        low, high = (
            bound.squeeze(1).numpy(force=True) for bound in _extremes(layers, centre, relaxed=False)
        )
        own: FloatArray = np.where(labels == 1, low, -high)
        return own, own / np.maximum(_slopes(layers, centre.centre)[:, 0], 1e-300)
    smallest, guess = np.empty(len(labels)), np.empty(len(labels))
    y = torch.from_numpy(labels).to(centre.centre.device)
    for rows, part, leads in _by_label(layers, centre, y):
        at = rows.numpy(force=True)
        leading = _extremes(leads, part, relaxed=False)[0].numpy(force=True)
        smallest[at] = leading.min(axis=1)
        guess[at] = (leading / np.maximum(_slopes(leads, part.centre), 1e-300)).min(axis=1)
    return smallest, guess


@torch.no_grad()
def _slopes(layers: list[Layer], points: Tensor) -> FloatArray:
    """Return the lengths (n, m) of the outputs' gradients at each point, to start a search from."""
    active, z = [], points
    for layer in layers[:-1]:
        z = z @ layer.weight.T + layer.bias
        active.append(z > 0)
        z = z.clamp(min=0)
    lengths = []
    for row in layers[-1].weight:
        gradient = row.expand(len(points), -1)
        for layer, on in zip(layers[-2::-1], active[::-1], strict=True):
            gradient = (gradient * on) @ layer.weight
        lengths.append(gradient.norm(dim=1))
    length: FloatArray = torch.stack(lengths, dim=1).numpy(force=True)
    return length


def _largest_sizes(
    bound: Callable[[npt.NDArray[np.intp], FloatArray], FloatArray],
    margins: FloatArray,
    guess: FloatArray,
    largest: float,
    tolerance: float,
) -> FloatArray:
    """Return sizes with a positive bound, next to larger ones without, to a relative tolerance.

    The bound need not fall everywhere: whatever size is returned has itself been proven.
    """
    low, high = np.zeros_like(margins), np.clip(guess, 1e-300, min(largest, 1e100))
    at_low, at_high = margins.copy(), np.zeros_like(margins)
    rows = np.flatnonzero(margins > 0)
    for _ in range(_MAX_DOUBLINGS):
        if rows.size == 0:
            break
        values = bound(rows, high[rows])
        proven = values > 0
        at_high[rows] = values
        up = rows[proven]
        low[up], at_low[up] = high[up], values[proven]
        high[up] = np.minimum(2 * high[up], largest)
        rows = up[low[up] < largest]
    # What is left in `rows` was proven at each doubling; its last proven size has to do.
    bracketed = (margins > 0) & (at_high <= 0) & (low < largest)
    last_proven = np.zeros(len(margins), dtype=bool)
    repeated = np.zeros(len(margins), dtype=bool)
    rows = np.flatnonzero(bracketed)
    for _ in range(_MAX_SECANTS):
        rows = rows[high[rows] - low[rows] > tolerance * high[rows]]
        if rows.size == 0:
            break
        # Secants (Illinois rule): the value at an end that stays put twice is halved.
        share = np.clip(at_low[rows] / (at_low[rows] - at_high[rows]), 0.02, 0.98)
        middle = low[rows] + share * (high[rows] - low[rows])
        inside = (middle > low[rows]) & (middle < high[rows])  # else neighbouring floats
        rows, middle = rows[inside], middle[inside]
        if rows.size == 0:
            break
        values = bound(rows, middle)
        proven = values > 0
        again = repeated[rows] & (last_proven[rows] == proven)
        at_low[rows] = np.where(proven, values, np.where(again, 0.5, 1.0) * at_low[rows])
        at_high[rows] = np.where(proven, np.where(again, 0.5, 1.0) * at_high[rows], values)
        low[rows] = np.where(proven, middle, low[rows])
        high[rows] = np.where(proven, high[rows], middle)
        last_proven[rows], repeated[rows] = proven, True
    return low


def prepare(network: Any) -> list[Layer]:
    """Return the layers in float64, or say why they are no ReLU network.

    One output in the last is a margin, which two become; more are logits of as many classes.
    """
    layers = _checked_layers(_pairs_of(network))
    top = layers[-1]
    if len(top.bias) == 2:
        weight = top.weight[1:] - top.weight[:1]
        layers[-1] = Layer(weight, weight.abs(), top.bias[1:] - top.bias[:1])
    return layers


def _pairs_of(network: Any) -> Layers:
    """Return the weights and biases of a network, with as many outputs as it has."""
    if hasattr(network, "folded"):
        require_own(network, "folded", "a proof of a ReLU network")
        pairs: Layers = network.folded()
        return pairs
    if isinstance(network, nn.Sequential | nn.Linear):
        return linear_layers(network)
    if isinstance(network, Sequence) and all(len(layer) == 2 for layer in network):
        return network
    raise TypeError(
        "expected a ReLUNetwork, a Linear, a Sequential or a sequence of (weight, bias), "
        f"got {type(network).__name__}."
    )


def _checked_layers(pairs: Layers) -> list[Layer]:
    layers: list[Layer] = []
    for weight, bias in pairs:
        w, b = (torch.as_tensor(part).detach().to(torch.float64) for part in (weight, bias))
        if w.ndim != 2 or b.shape != w.shape[:1]:
            raise ValueError(
                "each layer needs a weight (n_out, n_in) and a bias (n_out,), got "
                f"{tuple(w.shape)} and {tuple(b.shape)}."
            )
        if layers and w.shape[1] != len(layers[-1].bias):
            raise ValueError(
                f"a layer of {w.shape[1]} inputs cannot follow one of {len(layers[-1].bias)} units."
            )
        if not bool(w.isfinite().all() and b.isfinite().all()):
            raise ValueError("the network's weights must be finite, got NaN or infinite entries.")
        layers.append(Layer(w, w.abs(), b))
    if not layers or len(layers[-1].bias) == 0:
        raise ValueError("the network must have at least one layer, and an output in the last.")
    return layers


def linear_layers(network: nn.Sequential | nn.Linear) -> list[tuple[Tensor, Tensor]]:
    """Return a linear layer, or those of a plain sequence with a ReLU between each two.

    A sequence may begin by flattening the points; whatever else it holds is said.
    """
    doubt = departure(network, (nn.Sequential, nn.Linear))
    parts = list(network) if isinstance(network, nn.Sequential) else [network]
    if parts and _flattens(parts[0]):
        parts = parts[1:]
    linears = [layer for layer in parts[::2] if type(layer) is nn.Linear]
    between = [layer for layer in parts[1::2] if type(layer) is nn.ReLU]
    if doubt is None and (len(linears), len(parts)) != (len(between) + 1, 2 * len(between) + 1):
        doubt = "has others"
    if doubt is not None:
        raise TypeError(
            "a proof of a Sequential needs Linear layers with a ReLU between each two, but this "
            f"{type(network).__name__} {doubt}."
        )
    layers = []
    for linear in linears:
        weight, bias = linear.weight.detach().double(), linear.bias
        layers.append((weight, weight.new_zeros(len(weight)) if bias is None else bias.double()))
    return layers


def _flattens(layer: nn.Module) -> bool:
    """Whether a layer makes a row of each point."""
    return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)


def points_beside(x: Tensor, layers: list[Layer], network: Any) -> Tensor:
    """Return points (n, d) in float64 beside the layers, which must give the network's outputs."""
    check_points(x)
    points, dim = x.detach().flatten(1).to(layers[0].weight), layers[0].weight.shape[1]
    if points.shape[1] != dim:
        raise ValueError(f"the network takes points of {dim} numbers, got shape {tuple(x.shape)}.")
    require_same_outputs(network, layers, points)
    return points


@torch.no_grad()
def require_same_outputs(network: Any, layers: list[Layer], points: Tensor) -> None:
    """Raise if a module's outputs at points are not those of the layers read from it."""
    if not isinstance(network, nn.Module):
        return
    weight, bias = _pairs_of(network)[-1]
    z, off = points, points.abs()
    for depth, layer in enumerate(layers):
        z = z.clamp(min=0) if depth else z
        terms = z.abs() @ layer.magnitude.T + layer.bias.abs()
        off = off @ layer.magnitude.T + math.sqrt(z.shape[1]) * terms
        if depth == len(layers) - 1 and len(bias) == 2:
            # What the margin's two logits share rounds as well.
            off = off + z.abs() @ weight[:1].abs().T + bias[0].abs()
        z = z @ layer.weight.T + layer.bias
    if classes_of(layers) == 2:
        z, off = z.squeeze(1), off.squeeze(1)
    expected, rounding = (part.numpy(force=True) for part in (z, off))
    require_agreement(
        network, points.numpy(force=True), expected, rounding, "a proof of a ReLU network"
    )
