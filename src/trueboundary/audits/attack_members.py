r"""The suite that attacks are run over: classifiers whose nearest errors are known.

Of most members the distance to the nearest error is known exactly, in closed form or as the minimum
over finitely many quadratic programs; of the others a proven lower bound and a long search bracket
it. All but the networks of the zoo compute in double precision, whatever that of their points is,
so that no attack finds an error that rounding made. Every one takes points in single precision but
those on spheres, where rounding alone would lead off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from trueboundary import zoo
from trueboundary._checks import check_integer
from trueboundary.attacks import NearestError
from trueboundary.certificates import (
    LinearCertificate,
    RelaxationCertificate,
    SVMCertificate,
    bracket,
    nearest_ellipsoid_error,
)
from trueboundary.classifiers import (
    BayesOptimal,
    ClassifierModule,
    fit_rbf_svm,
    misclassified,
    outputs,
)
from trueboundary.densities import LowRankGaussian
from trueboundary.domains import Box, Domain, Space, Sphere
from trueboundary.measure import certified_distances
from trueboundary.plurals import plural
from trueboundary.presentable import PresentableFields
from trueboundary.suggestions import nearest
from trueboundary.theory.intervals import censored_median

__all__ = ["MEMBERS", "Member", "Truth", "member", "names_of_members"]

Floats = npt.NDArray[np.float64]

_DIM = 784
_SPECTRA = {
    "bulk": np.linspace(0.05, 1.55, _DIM),
    "needle": np.r_[np.full(_DIM - 1, 0.8), 30.0],
    "flat": np.r_[np.full(_DIM // 2, 0.7), np.full(_DIM - _DIM // 2, 1.1)],
}
_UNIT = Box(0.0, 1.0)
_N_STARTS = 8  # of the long search


@dataclass(frozen=True, eq=False, repr=False)
class Truth(PresentableFields):
    """What is known of the distances to the nearest error, one float64 entry per point.

    Attributes
    ----------
    lower : ndarray of shape (n,)
        No error is nearer than this; 0 where nothing is proven.
    known : ndarray of shape (n,)
        Distance of the nearest error that is known; where the distance is exact, that.
    exact : bool
        Whether `lower` is the distance itself.
    """

    lower: Floats
    known: Floats
    exact: bool

    def __str__(self) -> str:
        """Say how far the nearest errors are, and whether that is exact."""
        known = f"{plural(len(self.known), 'point')}: an error is known at a median distance of "
        known += f"{censored_median(self.known):.4g}\n"
        if self.exact:
            return f"{known}  none is nearer"
        return f"{known}  none is nearer than {censored_median(self.lower):.4g}, in the median"


@dataclass(frozen=True, eq=False)
class Member:
    """A classifier of the suite with points, all of which it classifies rightly.

    Attributes
    ----------
    name : str
        Its name.
    classifier : ClassifierModule
        The classifier, in eval mode.
    x, y : Tensor
        Points ``(n, *event)`` in the domain, and their labels ``(n,)``.
    domain : Domain
        Where errors count.
    find_truth : callable
        Computes the `Truth` of the points.
    """

    name: str
    classifier: ClassifierModule
    x: Tensor
    y: Tensor
    domain: Domain
    find_truth: Callable[[], Truth]

    @property
    def digest(self) -> str:
        """Hash (16 hexadecimal digits) of the points, to tell whether two saw the same."""
        content = self.x.numpy(force=True).tobytes() + self.y.numpy(force=True).tobytes()
        return hashlib.sha256(content).hexdigest()[:16]


class _InDouble(ClassifierModule):
    """A classifier that computes in double precision, with logits of any scale.

    Rounding its outputs to the points' precision keeps their order, so that what is strictly wrong
    in single precision is so in truth.
    """

    def __init__(self, inner: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.inner, self.scale = inner.double().eval().requires_grad_(False), scale

    @property
    def n_classes(self) -> int | None:
        return getattr(self.inner, "n_classes", 2)

    def outputs(self, x: Tensor) -> Tensor:
        return (outputs(self.inner, x.double()) * self.scale).to(x.dtype)

    def component_gap(self, x: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the gap between components of a mixture, for attacks that read it."""
        assert isinstance(self.inner, BayesOptimal)
        return (self.inner.component_gap(x.double(), y, target) * self.scale).to(x.dtype)


class _Quadric(nn.Module):
    """The ellipsoid ``sum(weights * x**2) = 1``, with class 1 outside."""

    def __init__(self, weights: Floats) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights))

    def forward(self, x: Tensor) -> Tensor:
        return x.square() @ self.weights - 1


# What the members are made of: each function returns one with `n` points, drawn with `seed`.


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _right(
    name: str,
    classifier: ClassifierModule,
    points: tuple[Tensor, Tensor],
    domain: Domain,
    n: int,
    truth: Callable[[Tensor, Tensor], Truth],
) -> Member:
    """Return a member with the first `n` of some points that it classifies rightly."""
    x, y = points
    classifier.eval().requires_grad_(False)
    keep = (~misclassified(outputs(classifier, x), y)).nonzero().squeeze(1)[:n]
    if len(keep) < n:
        raise ValueError(f"{name} has {len(keep)} points at most with this seed, got {n}.")
    x, y = x[keep], y[keep]
    return Member(name, classifier, x, y, domain, lambda: truth(x, y))


def _exact(distance: Tensor | Floats) -> Truth:
    values = np.asarray(distance, dtype=np.float64)
    return Truth(values, values, exact=True)


def _ellipsoid(
    name: str, n: int, seed: int, *, spectrum: str, domain: Domain, scale: float = 1.0
) -> Member:
    alphas = _SPECTRA[spectrum]
    on_sphere = isinstance(domain, Sphere)
    x = torch.randn(8 * n, _DIM, generator=_generator(seed), dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    x = x if on_sphere else x.float()

    def truth(x: Tensor, y: Tensor) -> Truth:
        del y
        return _exact(nearest_ellipsoid_error(x.double().numpy(), alphas, on_sphere=on_sphere))

    y = torch.zeros(len(x), dtype=torch.int64)
    return _right(name, _InDouble(_Quadric(alphas), scale), (x, y), domain, n, truth)


def _hyperplane(seed: int) -> nn.Linear:
    """Return a half-space, its boundary through the cube's centre but for a bias to be set."""
    layer = nn.Linear(_DIM, 1, dtype=torch.float64).requires_grad_(False)
    weight = torch.randn(_DIM, generator=_generator(seed + 1), dtype=torch.float64)
    layer.weight[0], layer.bias[0] = weight / weight.norm(), 0.0
    return layer


def _linear(name: str, n: int, seed: int) -> Member:
    layer = _hyperplane(seed)
    x = torch.randn(2 * n, _DIM, generator=_generator(seed)).float()
    y = (layer(x.double()).squeeze(1) > 0).long()

    def truth(x: Tensor, y: Tensor) -> Truth:
        del y
        return _exact(layer(x.double()).squeeze(1).abs() / layer.weight.norm())

    return _right(name, _InDouble(layer), (x, y), Space(), n, truth)


def _linear_on_sphere(name: str, n: int, seed: int) -> Member:
    layer = _hyperplane(seed)
    layer.bias[0] = -0.1
    x = torch.randn(2 * n, _DIM, generator=_generator(seed), dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    y = (layer(x).squeeze(1) > 0).long()

    def truth(x: Tensor, y: Tensor) -> Truth:
        return _exact(LinearCertificate()(layer, x, y, domain=Sphere()).distance)

    return _right(name, _InDouble(layer), (x, y), Sphere(), n, truth)


def _linear_in_box(name: str, n: int, seed: int) -> Member:
    layer = _hyperplane(seed)
    layer.bias[0] = -0.5 * layer.weight.sum() - 2.5  # so far off that walls hold many pixels
    x = torch.rand(n, _DIM, generator=_generator(seed))

    def truth(x: Tensor, y: Tensor) -> Truth:
        del y
        normal = layer.weight[0].numpy()
        return _exact(nearest_in_box(x.double().numpy(), normal, -float(layer.bias)))

    y = torch.zeros(n, dtype=torch.int64)
    return _right(name, _InDouble(layer), (x, y), _UNIT, n, truth)


def nearest_in_box(x: Floats, normal: Floats, level: float) -> Floats:
    """Return distances ``(n,)`` of points of the unit cube to its part where ``normal.z >= level``.

    The nearest point is ``clip(x + t normal, 0, 1)`` with the smallest t that reaches the level:
    what the walls do not hold moves along the normal. The left side grows with t, in straight
    pieces between the moments at which an entry meets its wall.
    """
    found = np.full(len(x), np.inf)
    for row, point in enumerate(x):
        with np.errstate(divide="ignore", invalid="ignore"):
            meets = np.where(normal > 0, (1 - point) / normal, -point / normal)
        times = np.r_[0.0, np.sort(meets[normal != 0])]
        values = np.array([normal @ np.clip(point + t * normal, 0, 1) for t in times])
        if values[-1] < level:
            continue
        after = int(np.searchsorted(values, level))
        t = times[after]
        if after > 0:
            share = (level - values[after - 1]) / (values[after] - values[after - 1])
            t = times[after - 1] + share * (times[after] - times[after - 1])
        found[row] = np.linalg.norm(np.clip(point + t * normal, 0, 1) - point)
    return found


def _softmax_images(name: str, n: int, seed: int) -> Member:
    inner = zoo.load("mnist-symmetric-softmax-regression").double()
    x, y = zoo.problem("mnist-symmetric").sample(2 * n, generator=_generator(seed))

    def truth(x: Tensor, y: Tensor) -> Truth:
        return _exact(LinearCertificate()(inner, x.double(), y).distance)

    return _right(name, _InDouble(inner), (_as_images(x), y), Space(), n, truth)


def _as_images(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, 28, 28)


def _gaussians(name: str, n: int, seed: int, *, covariances: int) -> Member:
    draw = partial(torch.randn, generator=_generator(seed + 1), dtype=torch.float64)
    dim, n_factors = 100, 5
    loadings = draw(dim, n_factors)
    other = loadings if covariances == 1 else draw(dim, n_factors)
    noise = 0.5 if covariances == 1 else 0.8
    pair = (
        LowRankGaussian(torch.zeros(dim, dtype=torch.float64), loadings, 0.5),
        LowRankGaussian(draw(dim) / 2, other, noise),
    )
    generator = _generator(seed)
    x = torch.cat([density.sample((2 * n,), generator=generator) for density in pair]).float()
    order = torch.arange(4 * n).reshape(2, -1).T.flatten()  # one of each class after the other
    y = (torch.arange(4 * n) >= 2 * n).long()
    classifier = BayesOptimal(*pair)
    return _right(
        name, _InDouble(classifier), (x[order], y[order]), Space(), n,
        lambda x, y: _exact(bracket(classifier, x.double(), y).lower),
    )  # fmt: skip


def _network(seed: int, dim: int, n_hidden: int) -> nn.Sequential:
    """Return a random network with one hidden layer of ReLUs."""
    draw = partial(torch.randn, generator=_generator(seed + 1), dtype=torch.float64)
    first, last = (
        nn.Linear(dim, n_hidden, dtype=torch.float64),
        nn.Linear(n_hidden, 1, dtype=torch.float64),
    )
    network = nn.Sequential(first, nn.ReLU(), last).requires_grad_(False)
    first.weight[:], first.bias[:] = draw(n_hidden, dim) / dim**0.5, draw(n_hidden) / 2
    last.weight[:], last.bias[:] = draw(1, n_hidden) / n_hidden**0.5, 0.0
    last.bias[:] = -network(draw(512, dim)).median()  # both classes are as frequent
    return network


def _relu_exact(name: str, n: int, seed: int) -> Member:
    network = _network(seed, 20, 10)
    x = torch.randn(2 * n, 20, generator=_generator(seed))
    y = (network(x.double()).squeeze(1) > 0).long()

    def truth(x: Tensor, y: Tensor) -> Truth:
        return _exact(nearest_of_pieces(network, x.double().numpy(), y.numpy())[0])

    return _right(name, _InDouble(network), (x, y), Space(), n, truth)


def nearest_of_pieces(
    network: nn.Sequential, x: Floats, y: npt.NDArray[np.int64]
) -> tuple[Floats, Floats]:
    r"""Return exact distances ``(n,)`` to the errors of ``Linear, ReLU, Linear``, and the nearest.

    The network is linear wherever the same hidden units are active. Errors of such a piece are a
    polyhedron, and the nearest of them is a least-distance problem,
    :math:`\min \|z\|` with :math:`G z \ge h`, whose dual is one of nonnegative least squares
    (Lawson and Hanson 1974, chapter 23): with :math:`u \ge 0` that minimises
    :math:`\|[G^T; h^T] u - e\|`, e the last unit vector, and r the residual, there is no such
    point where r = 0, and else :math:`z = -r_{1..d} / r_{d+1}`. All patterns are tried, so that the
    number of hidden units must be small.
    """
    first, last = network[0], network[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    weight, bias = (part.detach().double().numpy() for part in (first.weight, first.bias))
    out, offset = last.weight[0].detach().double().numpy(), float(last.bias)
    n_hidden, dim = weight.shape
    target = np.r_[np.zeros(dim), 1.0]
    found, nearest = np.full(len(x), np.inf), np.full_like(x, np.nan)
    for pattern in range(1 << n_hidden):
        active = (pattern >> np.arange(n_hidden)) & 1
        sign = np.where(active == 1, 1.0, -1.0)
        slope, level = (out * active) @ weight, (out * active) @ bias + offset
        for row, point in enumerate(x):
            wanted = 1.0 if y[row] == 0 else -1.0
            rows = np.vstack([sign[:, None] * weight, wanted * slope])
            short = -np.r_[sign * (weight @ point + bias), wanted * (slope @ point + level)]
            system = np.vstack([rows.T, short])
            residual = system @ nnls(system, target)[0] - target
            if -residual[-1] > 1e-12:
                step = -residual[:-1] / residual[-1]
                length = float(np.linalg.norm(step))
                if length < found[row]:
                    found[row], nearest[row] = length, point + step
    return found, nearest


def _bracketed(
    classifier: ClassifierModule,
    x: Tensor,
    y: Tensor,
    domain: Domain,
    lower: Tensor | None,
    known: Tensor | None = None,
) -> Truth:
    """Return proven distances, and the nearest of what a proof led to and a long search found."""
    found = NearestError(n_restarts=_N_STARTS)(classifier, x.double(), y, domain=domain)
    nearest = found.distance.double()
    if known is not None:
        nearest = torch.minimum(nearest, known)
    proven = torch.zeros_like(nearest) if lower is None else lower
    return Truth(proven.numpy(), nearest.numpy(), exact=False)


def _optimal(name: str, n: int, seed: int, *, problem: str, images: bool = False) -> Member:
    digits = zoo.problem(problem)
    inner = digits.bayes_classifier(dtype=torch.float64)
    x, y = digits.sample(2 * n, generator=_generator(seed))
    classifier = _InDouble(inner)

    def truth(x: Tensor, y: Tensor) -> Truth:
        ends = bracket(inner, x.double().flatten(1), y)
        return _bracketed(classifier, x, y, Space(), ends.lower, ends.upper)

    x = _as_images(x) if images else x
    return _right(name, classifier, (x, y), Space(), n, truth)


def _kernel_machine(name: str, n: int, seed: int) -> Member:
    problem = zoo.problem("mnist-0-6-symmetric")
    x, y = problem.sample(500, generator=_generator(seed + 1), dtype=torch.float64)
    inner = fit_rbf_svm(x, y, gamma=0.02, C=10.0)
    classifier = _InDouble(inner)

    def truth(x: Tensor, y: Tensor) -> Truth:
        lower = SVMCertificate()(inner, x.double(), y).distance
        return _bracketed(classifier, x, y, _UNIT, lower)

    x, y = problem.sample(2 * n, generator=_generator(seed))
    return _right(name, classifier, (x.clamp(0, 1), y), _UNIT, n, truth)


def _relu_wide(name: str, n: int, seed: int) -> Member:
    network = _network(seed, 100, 100)
    x = torch.randn(2 * n, 100, generator=_generator(seed))
    y = (network(x.double()).squeeze(1) > 0).long()
    classifier = _InDouble(network)

    def truth(x: Tensor, y: Tensor) -> Truth:
        lower = RelaxationCertificate()(network, x.double(), y).distance
        return _bracketed(classifier, x, y, Space(), lower)

    return _right(name, classifier, (x, y), Space(), n, truth)


def _convolutional(name: str, n: int, seed: int, *, problem: str) -> Member:
    classifier = zoo.load(f"{problem}-cnn")
    assert isinstance(classifier, ClassifierModule)
    x, y = zoo.problem(problem).sample(2 * n, generator=_generator(seed))

    def truth(x: Tensor, y: Tensor) -> Truth:
        found = NearestError(n_restarts=_N_STARTS)(classifier, x, y, domain=_UNIT)
        distance = found.distance.double().numpy()
        try:
            lower = certified_distances(classifier, x, y).distance.numpy()
        except TypeError:  # no certificate reads such a network
            lower = np.zeros(len(x))
        return Truth(lower, distance, exact=False)

    return _right(name, classifier, (_as_images(x).clamp(0, 1), y), _UNIT, n, truth)


Make = Callable[[str, int, int], Member]

#: The members by name, each with what it is in words and how it is made.
MEMBERS: Mapping[str, tuple[str, Make]] = MappingProxyType(
    {
        "linear": ("half-space in 784 dimensions", _linear),
        "linear-box": ("half-space within the unit cube", _linear_in_box),
        "linear-sphere": ("half-space, on the unit sphere", _linear_on_sphere),
        "linear-ten": ("softmax regression on images of ten digits", _softmax_images),
        **{
            f"ellipsoid-{spectrum}{suffix}": (
                f"ellipsoid in 784 dimensions, {words}{where}",
                partial(_ellipsoid, spectrum=spectrum, domain=domain),
            )
            for spectrum, words in (
                ("bulk", "axes of all lengths"),
                ("needle", "one short axis"),
                ("flat", "axes of two lengths"),
            )
            for suffix, where, domain in (
                ("", "", Space()),
                ("-sphere", ", on the unit sphere", Sphere()),
            )
        },
        **{
            f"ellipsoid-bulk-{scale}": (
                f"ellipsoid-bulk with logits times {scale}",
                partial(_ellipsoid, spectrum="bulk", domain=Space(), scale=float(scale)),
            )
            for scale in ("1e-6", "1e+6")
        },
        "gaussians-one": (
            "optimal for two Gaussians of one covariance, 100 dimensions",
            partial(_gaussians, covariances=1),
        ),
        "gaussians-two": (
            "optimal for two Gaussians of two covariances, 100 dimensions",
            partial(_gaussians, covariances=2),
        ),
        "relu-small": ("random ReLU network, 10 hidden units, 20 dimensions", _relu_exact),
        "digits-0-6": (
            "optimal for digits 0 and 6, mixtures of Gaussians",
            partial(_optimal, problem="mnist-0-6-symmetric"),
        ),
        "digits-outliers": (
            "optimal for digits 0 and 6, one with broad outliers",
            partial(_optimal, problem="mnist-0-6-asymmetric"),
        ),
        "digits-ten": (
            "optimal for images of ten digits",
            partial(_optimal, problem="mnist-symmetric", images=True),
        ),
        "kernel-machine": ("RBF machine on digits 0 and 6, in the unit cube", _kernel_machine),
        "relu-wide": ("random ReLU network, 100 hidden units, 100 dimensions", _relu_wide),
        "cnn-0-6": (
            "CNN on images of digits 0 and 6, in the unit cube",
            partial(_convolutional, problem="mnist-0-6-symmetric"),
        ),
        "cnn-ten": (
            "CNN on images of ten digits, in the unit cube",
            partial(_convolutional, problem="mnist-symmetric"),
        ),
    }
)


def names_of_members(chosen: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of all members, or of those chosen, in the suite's order.

    Raises
    ------
    ValueError
        If there is none of such a name.

    Examples
    --------
    >>> names_of_members(["relu-small", "linear"])
    ('linear', 'relu-small')
    """
    if chosen is None:
        return tuple(MEMBERS)
    for name in chosen:
        if name not in MEMBERS:
            raise ValueError(
                f"the suite has no member {name!r}: expected some of "
                f"{', '.join(MEMBERS)}{nearest(name, MEMBERS) or '.'}"
            )
    return tuple(name for name in MEMBERS if name in chosen)


def member(name: str, n_points: int = 20, seed: int = 0) -> Member:
    """Return a member of the suite.

    Parameters
    ----------
    name : str
        One of `MEMBERS`.
    n_points : int
        Number of its points.
    seed : int
        Seed of the points, and of members that are random themselves.

    Examples
    --------
    >>> from trueboundary.audits import member
    >>> known = member("gaussians-one", n_points=3)
    >>> known.x.shape, known.find_truth().exact
    (torch.Size([3, 100]), True)
    """
    (name,) = names_of_members([name])
    n = check_integer("n_points", n_points, minimum=1)
    make: Any = MEMBERS[name][1]
    with torch.random.fork_rng(devices=[]):  # layers draw weights that are replaced at once
        made: Member = make(name, n, check_integer("seed", seed, minimum=0))
    return made
