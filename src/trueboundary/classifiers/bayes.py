"""The classifier that knows the densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from trueboundary._checks import check_real
from trueboundary._tensors import check_each_label
from trueboundary.classifiers.base import ClassifierModule, wrongness_of
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
class BayesOptimal(ClassifierModule):
    r"""Decide for the class that is most probable, given the densities of all classes.

    No classifier has a lower error rate. Of two classes the margin is
    :math:`\log p_1(x) - \log p_0(x) + \log \frac{\pi}{1 - \pi}` in nats, with the probability
    :math:`\pi` of class 1. Of K >= 3 the logits are the log posterior probabilities less the
    largest of them, :math:`\log \pi_k p_k(x) - \max_j \log \pi_j p_j(x)`. Both are
    differentiable with respect to the points (for tables, which live on integer points, there is
    no gradient).

    Parameters
    ----------
    *densities : LowRankGaussian, MixtureOfFactorAnalyzers or DiscreteTable
        Densities of the classes, two or more, of the same event shape, dtype and device. The
        classifier keeps copies of their parameters.
    prior : float or sequence of float, optional
        Probabilities of all classes, positive and adding up to 1; of two classes that of class 1
        is enough. All classes are equally probable by default.
    hardest_component : bool
        Take each mixture's most likely component in place of the sum over components, the rule of
        Richardson and Weiss (2021). It is not exactly optimal.

    Notes
    -----
    Points may have any event shape with the densities' number of coordinates: images are
    flattened. A point that has probability zero under all tables has equal logits.

    Two classes compute in their densities' dtype. Log densities of 1e7 nats, though, leave float32
    no digit after the point, and nothing tells in advance which of many classes are close to one
    another. With three classes or more everything up to the subtraction of the largest is
    therefore in float64, whatever the module is converted to: the parameters stay in float64, and
    the logits are rounded last, to the dtype of the points.

    References
    ----------
    Richardson and Weiss (2021), *A Bayes-Optimal View on Adversarial Examples*, Section 2.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import BayesOptimal
    >>> from trueboundary.densities import LowRankGaussian
    >>> means = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> zero, one, two = (LowRankGaussian(mean, torch.zeros(2, 0), 1.0) for mean in means)
    >>> x = torch.tensor([[-2.0, 5.0], [0.5, 0.0]])
    >>> BayesOptimal(zero, one).margin(x)
    tensor([-4.,  1.])
    >>> BayesOptimal(zero, one, two).outputs(x)
    tensor([[  0.,  -4., -12.],
            [ -1.,   0.,  -3.]])
    """

    def __init__(
        self,
        *densities: Density,
        prior: float | Sequence[float] | None = None,
        hardest_component: bool = False,
    ) -> None:
        super().__init__()
        check_densities(*densities)
        self.priors = check_priors(prior, len(densities))
        self.hardest_component = bool(hardest_component)
        self._kinds = tuple(type(density).__name__ for density in densities)
        if len(densities) > 2:
            densities = tuple(map(_in_double, densities))
        self.parts = nn.ModuleList(map(_as_parameters, densities))
        self._densities = densities
        self.register_load_state_dict_post_hook(_rebuild_after_loading)  # type: ignore[no-untyped-call]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self._kinds)

    @property
    def densities(self) -> tuple[Density, ...]:
        """Densities of all classes as they are computed with, on the classifier's device."""
        return self._densities

    @property
    def prior(self) -> float:
        """Probability of class 1, where there are two classes."""
        return prior_of_two(self.priors)

    @property
    def log_prior_odds(self) -> float:
        """Logarithm of the odds of class 1 of two, before a point is seen."""
        one = self.prior
        rest = math.log1p(-one) if told_by_one(self.priors) else math.log(self.priors[0])
        return math.log(one) - rest

    def outputs(self, x: Tensor) -> Tensor:
        """Return log posterior odds of two classes, or log posteriors less the largest, in nats.

        Parameters
        ----------
        x : Tensor
            Points, shape ``(n, *event)``. Points in float32 may be given to densities in float64,
            not the reverse.

        Returns
        -------
        Tensor
            Of two classes margins in the densities' dtype, shape ``(n,)``; of K >= 3 logits in
            the points' dtype, shape ``(n, K)``, 0 for the most probable class.
        """
        return self._compared(x, hardest_component=self.hardest_component)

    def pair(self, own: int, other: int) -> BayesOptimal:
        """Return the optimal classifier of two of the classes, `own` as class 0 of two.

        Its margin is the difference of the two log posteriors.

        Examples
        --------
        >>> import torch
        >>> from trueboundary.problems import planar_problem
        >>> classifier = planar_problem("three").bayes_classifier(dtype=torch.float64)
        >>> x = torch.zeros(1, 2, dtype=torch.float64)
        >>> logits = classifier.outputs(x)
        >>> bool((classifier.pair(2, 1).margin(x) - logits[:, 1] + logits[:, 2]).abs() < 1e-12)
        True
        """
        known = range(self.n_classes)
        if own not in known or other not in known or own == other:
            raise ValueError(
                f"expected two different classes from 0 to {self.n_classes - 1}, got {own} and "
                f"{other}."
            )
        # Of two classes the sum is 1, but not always in floating-point numbers.
        total = 1.0 if self.n_classes == 2 else self.priors[own] + self.priors[other]
        return BayesOptimal(
            self._densities[own],
            self._densities[other],
            prior=(self.priors[own] / total, self.priors[other] / total),
            hardest_component=self.hardest_component,
        )

    def component_gap(self, x: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """Return how much likelier the best component of the own class is, in nats.

        It is the largest log joint probability of a point and a component of class `y` (prior of
        the class, weight of the component and its density), minus the largest of a component of
        any other class. Its gradient is that of these two components alone, the direction in
        which the log-density gradient attack of Richardson and Weiss (2021) moves.

        Parameters
        ----------
        x : Tensor
            Points, shape ``(n, *event)``.
        y : Tensor
            Labels 0 to K - 1, shape ``(n,)``.
        target : Tensor, optional
            Classes into which the points are to be taken, shape ``(n,)``: then it is the largest
            of a component of any class but the target's, minus that of the target.

        Returns
        -------
        Tensor
            Gaps, shape ``(n,)``; positive where the most likely component is of class `y`, or
            with targets, not of class `target`.
        """
        check_each_label(y, len(x), self.n_classes)
        if target is not None:
            check_each_label(target, len(x), self.n_classes, "targets")
        best = self._compared(x, hardest_component=True)
        return -wrongness_of(best, y.to(best.device), target)

    def arguments(self) -> dict[str, Any]:
        """Return what `from_arguments` needs to build a classifier of the same shape."""
        shapes = [
            {"class": kind, "shapes": {name: list(p.shape) for name, p in part.named_parameters()}}
            for kind, part in zip(self._kinds, self.parts, strict=True)
        ]
        of_classes: dict[str, Any] = {"densities": shapes, "prior": list(self.priors)}
        if self.n_classes == 2:  # as written before there were more
            of_classes = {"density_0": shapes[0], "density_1": shapes[1]}
            of_classes["prior"] = stored_prior(self.priors)
        return {**of_classes, "hardest_component": self.hardest_component}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Build a classifier of the given shape, with placeholder densities."""
        shapes = arguments.get("densities")
        if shapes is None:
            shapes = [arguments["density_0"], arguments["density_1"]]
        return cls(
            *map(_placeholder, shapes),
            prior=arguments["prior"],
            hardest_component=arguments["hardest_component"],
        )

    def _compared(self, x: Tensor, *, hardest_component: bool) -> Tensor:
        """Return `outputs` by either rule."""
        points = x.flatten(1) if x.ndim > 2 else x
        logs = [_log_density(d, points, hardest_component) for d in self._densities]
        if self.n_classes == 2:
            zero, one = logs
            impossible = zero.isneginf() & one.isneginf()
            return torch.where(impossible, 0.0, one - zero + self.log_prior_odds)
        logits = _less_the_largest(logs, self.priors)
        return logits.to(x.dtype) if x.is_floating_point() else logits

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        # Every conversion (`to`, `double`, `cuda`, ...) passes through here.
        super()._apply(fn if self.n_classes == 2 else _moving(fn), recurse)  # type: ignore[no-untyped-call]
        self._rebuild()
        return self

    def _rebuild(self) -> None:
        self._densities = tuple(
            _from_tensors(kind, {name: p.detach() for name, p in part.named_parameters()})
            for kind, part in zip(self._kinds, self.parts, strict=True)
        )


def _less_the_largest(logs: Sequence[Tensor], priors: Sequence[float]) -> Tensor:
    """Return log posteriors ``(n, K)`` less the largest, from the log densities of K classes."""
    joint = torch.stack([log + math.log(p) for log, p in zip(logs, priors, strict=True)], dim=1)
    largest = joint.amax(dim=1, keepdim=True)
    return torch.where(largest.isneginf(), 0.0, joint - largest)


def _moving(convert: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the part of a conversion that moves tensors, without the part that rounds them."""
    return lambda tensor: tensor.to(convert(tensor).device)


def check_priors(prior: Any, n_classes: int) -> tuple[float, ...]:
    """Return the probabilities of all classes, from whatever was given, or raise.

    Parameters
    ----------
    prior : float or sequence of float, optional
        Probabilities of all classes, positive and adding up to 1 within 1e-6 (they are then
        normalised exactly); of two classes, that of class 1; None for equal ones.
    n_classes : int
        Number of classes.

    Examples
    --------
    >>> check_priors(0.25, 2), check_priors(None, 4)
    ((0.75, 0.25), (0.25, 0.25, 0.25, 0.25))
    """
    if prior is None:
        return (1 / n_classes,) * n_classes
    if isinstance(prior, (Tensor, np.ndarray)):
        prior = prior.tolist()
    if isinstance(prior, str) or not isinstance(prior, Sequence):
        if n_classes > 2:
            raise ValueError(
                f"expected {n_classes} priors, one for each class, got {prior!r}; a single number "
                "is that of class 1 of two."
            )
        value = check_real("prior", prior, above=0.0)
        if value >= 1:
            raise ValueError(f"prior must lie strictly between 0 and 1, got {value!r}.")
        return (1 - value, value)
    if len(prior) != n_classes:
        raise ValueError(f"expected {n_classes} priors, one for each class, got {prior!r}.")
    priors = tuple(check_real("prior", p, above=0.0) for p in prior)
    total = math.fsum(priors)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"expected priors that add up to 1, got a sum of {total!r}.")
    if n_classes == 2:
        zero, one = (p / total for p in priors)
        # The second tells the first, but not where the first is so small that it would lose digits.
        return (1 - one, one) if abs(1 - one - zero) <= 1e-12 * zero else (zero, one)
    # Only where needed, or storing and reading would change the last digit again and again.
    return priors if abs(total - 1) < 1e-14 else tuple(p / total for p in priors)


def prior_of_two(priors: Sequence[float]) -> float:
    """Return the probability of class 1 of two, or raise if there are more."""
    if len(priors) != 2:
        raise ValueError(f"expected two classes, got {len(priors)}; `priors` has those of all.")
    return priors[1]


def told_by_one(priors: Sequence[float]) -> bool:
    """Whether there are two classes, the second of whose probabilities tells the first exactly."""
    return len(priors) == 2 and priors[0] == 1 - priors[1]


def stored_prior(priors: Sequence[float]) -> float | list[float]:
    """Return priors as they are written down: of two classes the second if it tells the first."""
    return priors[1] if told_by_one(priors) else list(priors)


def check_densities(*densities: Density) -> None:
    """Raise unless the densities can belong to the classes of one problem."""
    if len(densities) < 2:
        raise ValueError(f"expected a density for each of two or more classes, got {densities!r}.")
    for label, density in enumerate(densities):
        if type(density) not in _PARTS:
            raise TypeError(
                f"density_{label} must be a {', '.join(_CLASSES)}, got {type(density).__name__}."
            )
    for label in range(1, len(densities)):
        _check_alike(label, densities[0], densities[label])


def _check_alike(label: int, zero: Density, density: Density) -> None:
    first, second = (getattr(d, _PARTS[type(d)][0]) for d in (zero, density))
    if first.dtype != second.dtype:
        raise TypeError(
            f"density_0 is {first.dtype} but density_{label} is {second.dtype}; convert one of "
            "them."
        )
    if first.device != second.device:
        raise ValueError(
            f"density_0 is on {first.device} but density_{label} on {second.device}; move one of "
            "them."
        )
    tables = [isinstance(d, DiscreteTable) for d in (zero, density)]
    shapes = (first.shape, second.shape) if all(tables) else (zero.event_shape, density.event_shape)
    if tables[0] != tables[1] or shapes[0] != shapes[1]:
        raise ValueError(f"the densities do not share a space: {zero!r} and {density!r}.")


def _log_density(density: Density, x: Tensor, hardest_component: bool) -> Tensor:
    if isinstance(density, MixtureOfFactorAnalyzers):
        return density.log_prob(x, hardest_component=hardest_component)
    return density.log_prob(x)


def _in_double(density: Density) -> Density:
    tensors = {name: getattr(density, name).double() for name in _PARTS[type(density)]}
    return _from_tensors(type(density).__name__, tensors)


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
