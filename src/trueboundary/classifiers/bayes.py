"""The classifier that knows the densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from trueboundary._checks import check_real
from trueboundary.classifiers.base import BinaryClassifier
from trueboundary.classifiers.stored_classifiers import register
from trueboundary.densities.discrete import DiscreteTable
from trueboundary.densities.low_rank import LowRankGaussian
from trueboundary.densities.mixture import MixtureOfFactorAnalyzers

Density = LowRankGaussian | MixtureOfFactorAnalyzers | DiscreteTable

# The tensors that make up each density; they become the module's frozen parameters.
_PARTS: dict[type[Any], tuple[str, ...]] = {
    LowRankGaussian: ("mean", "loadings", "noise_variance"),
    MixtureOfFactorAnalyzers: ("log_weights", "means", "loadings", "noise_variance"),
    DiscreteTable: ("probabilities",),
}
_CLASSES = {cls.__name__: cls for cls in _PARTS}


@register
class BayesOptimal(BinaryClassifier):
    r"""Decide for the class that is more probable, given both densities.

    The margin is :math:`\log p_1(x) - \log p_0(x) + \log \frac{\pi}{1 - \pi}` in nats, with the
    probability :math:`\pi` of class 1; no classifier has a lower error rate. It is differentiable
    with respect to the points (for tables, which live on integer points, it has no gradient).

    Parameters
    ----------
    density_0, density_1 : LowRankGaussian, MixtureOfFactorAnalyzers or DiscreteTable
        Densities of the classes, of the same event shape, dtype and device. The classifier
        computes in their dtype and keeps copies of their parameters.
    prior : float
        Probability of class 1, strictly between 0 and 1.
    hardest_component : bool
        Take each mixture's most likely component in place of the sum over components, the rule of
        Richardson and Weiss (2021). It is not exactly optimal.

    Notes
    -----
    Points may have any event shape with the densities' number of coordinates: images are
    flattened. A point that has probability zero under both tables has margin 0.

    References
    ----------
    Richardson and Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*, Section 2.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import BayesOptimal
    >>> from trueboundary.densities import LowRankGaussian
    >>> zero, one = (
    ...     LowRankGaussian(torch.tensor([m, 0.0]), torch.zeros(2, 0), 1.0) for m in (-1.0, 1.0)
    ... )
    >>> BayesOptimal(zero, one).margin(torch.tensor([[-2.0, 5.0], [0.5, 0.0]]))
    tensor([-4.,  1.])
    """

    def __init__(
        self,
        density_0: Density,
        density_1: Density,
        *,
        prior: float = 0.5,
        hardest_component: bool = False,
    ) -> None:
        super().__init__()
        self.prior = check_prior(prior)
        self.hardest_component = bool(hardest_component)
        check_densities(density_0, density_1)
        self._kinds = (type(density_0).__name__, type(density_1).__name__)
        self.parts = nn.ModuleList(_as_parameters(d) for d in (density_0, density_1))
        self._densities: tuple[Density, Density] = (density_0, density_1)
        self.register_load_state_dict_post_hook(_rebuild_after_loading)  # type: ignore[no-untyped-call]

    @property
    def densities(self) -> tuple[Density, Density]:
        """Densities of class 0 and class 1, in the classifier's dtype and on its device."""
        return self._densities

    @property
    def log_prior_odds(self) -> float:
        """Logarithm of the odds of class 1 before a point is seen."""
        return math.log(self.prior) - math.log1p(-self.prior)

    def margin(self, x: Tensor) -> Tensor:
        """Return the log posterior odds of class 1, in nats, shape ``(n,)``.

        Parameters
        ----------
        x : Tensor
            Points, shape ``(n, *event)``. Points in float32 may be given to densities in float64,
            not the reverse.

        Returns
        -------
        Tensor
            Margins in the densities' dtype.
        """
        return self._log_odds(x, hardest_component=self.hardest_component)

    def component_gap(self, x: Tensor, y: Tensor) -> Tensor:
        """Return how much likelier the best component of the own class is, in nats.

        It is the largest log joint probability of a point and a component of class `y` (prior of
        the class, weight of the component and its density), minus the largest of a component of
        the other class. Its gradient is that of these two components alone, the direction in
        which the log-density gradient attack of Richardson and Weiss (2021) moves.

        Parameters
        ----------
        x : Tensor
            Points, shape ``(n, *event)``.
        y : Tensor
            Labels 0 or 1, shape ``(n,)``.

        Returns
        -------
        Tensor
            Gaps, shape ``(n,)``; positive where the most likely component is of class `y`.
        """
        if y.shape != x.shape[:1] or not bool(((y == 0) | (y == 1)).all()):
            raise ValueError(f"y must hold {len(x)} labels, each 0 or 1, got {tuple(y.shape)}.")
        log_odds = self._log_odds(x, hardest_component=True)
        return torch.where(y.to(log_odds.device) == 1, log_odds, -log_odds)

    def arguments(self) -> dict[str, Any]:
        """Return what `from_arguments` needs to build a classifier of the same shape."""
        shapes = [
            {"class": kind, "shapes": {name: list(p.shape) for name, p in part.named_parameters()}}
            for kind, part in zip(self._kinds, self.parts, strict=True)
        ]
        return {
            "density_0": shapes[0],
            "density_1": shapes[1],
            "prior": self.prior,
            "hardest_component": self.hardest_component,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a classifier of the given shape, with placeholder densities."""
        zero, one = (_placeholder(arguments[name]) for name in ("density_0", "density_1"))
        return cls(
            zero,
            one,
            prior=arguments["prior"],
            hardest_component=arguments["hardest_component"],
        )

    def _log_odds(self, x: Tensor, *, hardest_component: bool) -> Tensor:
        points = x.flatten(1) if x.ndim > 2 else x
        zero, one = (_log_density(d, points, hardest_component) for d in self._densities)
        impossible = zero.isneginf() & one.isneginf()
        return torch.where(impossible, 0.0, one - zero + self.log_prior_odds)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        # Every conversion (`to`, `double`, `cuda`, ...) passes through here.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._rebuild()
        return self

    def _rebuild(self) -> None:
        zero, one = (
            _from_tensors(kind, {name: p.detach() for name, p in part.named_parameters()})
            for kind, part in zip(self._kinds, self.parts, strict=True)
        )
        self._densities = (zero, one)


def check_prior(prior: float) -> float:
    """Return `prior` as a float strictly between 0 and 1, or raise."""
    value = check_real("prior", prior, above=0.0)
    if value >= 1:
        raise ValueError(f"prior must lie strictly between 0 and 1, got {value!r}.")
    return value


def check_densities(density_0: Density, density_1: Density) -> None:
    """Raise unless two densities can belong to the classes of one problem."""
    for name, density in (("density_0", density_0), ("density_1", density_1)):
        if type(density) not in _PARTS:
            raise TypeError(
                f"{name} must be a {', '.join(_CLASSES)}, got {type(density).__name__}."
            )
    first, second = (getattr(d, _PARTS[type(d)][0]) for d in (density_0, density_1))
    if first.dtype != second.dtype:
        raise TypeError(
            f"density_0 is {first.dtype} but density_1 is {second.dtype}; convert one of them."
        )
    if first.device != second.device:
        raise ValueError(
            f"density_0 is on {first.device} but density_1 on {second.device}; move one of them."
        )
    tables = [isinstance(d, DiscreteTable) for d in (density_0, density_1)]
    shapes = (first.shape, second.shape) if all(tables) else _event_shapes(density_0, density_1)
    if tables[0] != tables[1] or shapes[0] != shapes[1]:
        raise ValueError(f"the densities do not share a space: {density_0!r} and {density_1!r}.")


def _event_shapes(*densities: Density) -> tuple[torch.Size, ...]:
    return tuple(density.event_shape for density in densities)


def _log_density(density: Density, x: Tensor, hardest_component: bool) -> Tensor:
    if isinstance(density, MixtureOfFactorAnalyzers):
        return density.log_prob(x, hardest_component=hardest_component)
    return density.log_prob(x)


def _as_parameters(density: Density) -> nn.ParameterDict:
    return nn.ParameterDict(
        {
            name: nn.Parameter(getattr(density, name).detach().clone(), requires_grad=False)
            for name in _PARTS[type(density)]
        }
    )


def _from_tensors(kind: str, tensors: Mapping[str, Tensor]) -> Density:
    arguments: dict[str, Any] = dict(tensors)
    if kind == "MixtureOfFactorAnalyzers":
        arguments["weights"] = None
    density: Density = _CLASSES[kind](**arguments)
    return density


def _placeholder(description: Mapping[str, Any]) -> Density:
    """Return a density of the described shape, valid and without meaning."""
    kind, shapes = str(description["class"]), description["shapes"]
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    if "noise_variance" in tensors:
        tensors["noise_variance"] += 1.0
    if "log_weights" in tensors:
        tensors["log_weights"] -= math.log(len(tensors["log_weights"]))
    if "probabilities" in tensors:
        tensors["probabilities"] += 1.0 / tensors["probabilities"].numel()
    return _from_tensors(kind, tensors)


def _rebuild_after_loading(module: nn.Module, _: Any) -> None:
    # A function of the module and no bound method, so that copies rebuild themselves.
    assert isinstance(module, BayesOptimal)
    module._rebuild()
