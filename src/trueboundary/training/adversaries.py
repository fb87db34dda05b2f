"""What to train on instead of the drawn batch: the exact worst case, or attacked points."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from trueboundary._checks import check_real
from trueboundary._tensors import generator_of
from trueboundary.attacks import AttackResult, NearestError
from trueboundary.classifiers import Classifier, ClassifierModule, QuadraticNetwork
from trueboundary.domains import Domain, Space, norm

_FEW_STEPS = NearestError(n_slides=2, n_hops=0, n_cuts=0)


class Adversary(Protocol):
    """Replaces a batch by points that are harder for the model as it stands."""

    def __call__(
        self, model: ClassifierModule, x: Tensor, y: Tensor, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the points and labels to train on."""

    def describe(self) -> str:
        """Return in one line what determines the points."""


@dataclass(frozen=True)
class ExactWorstCase:
    """Trains a quadratic network on its exactly worst points alone; the batch is not used.

    The point of a sphere that a quadratic network misjudges most lies on an extreme eigenvector
    of ``W.T @ W``, so no attack can be stronger.

    Parameters
    ----------
    points : {"worst", "both"}
        Train on the single worst point of the two spheres, or on the worst point of each.
    radius : float
        Radius of the outer sphere, above 1.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import QuadraticNetwork
    >>> from trueboundary.training import ExactWorstCase
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = QuadraticNetwork(3, 6, generator=generator)
    >>> batch = torch.zeros(50, 3), torch.zeros(50, dtype=torch.int64)
    >>> x, y = ExactWorstCase(points="both")(network, *batch, generator=generator)
    >>> x.norm(dim=1), y
    (tensor([1.0000, 1.3000]), tensor([0, 1]))
    """

    points: Literal["worst", "both"] = "worst"
    radius: float = 1.3

    def __post_init__(self) -> None:
        if self.points not in ("worst", "both"):
            raise ValueError(f"points must be 'worst' or 'both', got {self.points!r}.")
        check_real("radius", self.radius, above=1.0)

    def __call__(
        self,
        model: ClassifierModule,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return one point, shape ``(1, dim)``, or two, inner sphere first; nothing is drawn."""
        del generator, seed
        if not isinstance(model, QuadraticNetwork):
            raise TypeError(
                "the exact worst case is known for a QuadraticNetwork alone, got "
                f"{type(model).__name__}; use OnManifoldAdversary."
            )
        with torch.no_grad():
            hidden = model.hidden_weight
            # The network's own precision is enough for a direction to train on.
            axes = torch.linalg.eigh(hidden.T @ hidden).eigenvectors
            smallest, largest = axes[:, 0], axes[:, -1]
            inner, outer = (largest, smallest) if model.weight >= 0 else (smallest, largest)
            points = torch.stack([inner, self.radius * outer])
            labels = torch.tensor([0, 1], device=points.device)
            if self.points == "both":
                return points, labels
            loss = (1 - 2 * labels) * model.margin(points)  # the loss grows with this
            worst = loss.argmax().reshape(1)
            return points[worst], labels[worst]

    def describe(self) -> str:
        """Return the parameters in one line."""
        return repr(self)


@dataclass(frozen=True)
class OnManifoldAdversary:
    """Trains on the batch after an attack that keeps each point on its manifold.

    Parameters
    ----------
    attack : callable
        ``attack(classifier, x, y, generator=...)`` gives the attacked points, shape of `x`, or an
        `AttackResult`. Of a result the endpoints are used, where the search arrived whether or
        not that is an error yet. The model is in eval mode meanwhile.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import SphereBayes
    >>> from trueboundary.training import OnManifoldAdversary
    >>> adversary = OnManifoldAdversary(lambda classifier, x, y, generator: -x)
    >>> x, y = torch.eye(2), torch.zeros(2, dtype=torch.int64)
    >>> generator = torch.Generator().manual_seed(0)
    >>> adversary(SphereBayes(dim=2), x, y, generator=generator)[0]
    tensor([[-1., -0.],
            [-0., -1.]])
    """

    attack: Callable[..., AttackResult | Tensor]

    def __call__(
        self,
        model: ClassifierModule,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the attacked points and their labels.

        Raises
        ------
        ValueError
            If the attack returns points of another shape or points that are not finite.
        """
        generator = generator_of(generator, seed, x.device)
        was_training = model.training
        model.eval()
        try:
            result = self.attack(model, x, y, generator=generator)
        finally:
            model.train(was_training)
        x_adv = (result.endpoint if isinstance(result, AttackResult) else result).detach()
        if x_adv.shape != x.shape or not bool(x_adv.isfinite().all()):
            raise ValueError(
                f"the attack must return finite points of shape {tuple(x.shape)}, "
                f"got shape {tuple(x_adv.shape)}."
            )
        return x_adv, y

    def describe(self) -> str:
        """Return the attack's settings in one line, or its name where it has none."""
        name = type(self.attack).__qualname__
        attack = repr(self.attack) if dataclasses.is_dataclass(self.attack) else name
        return f"OnManifoldAdversary({attack})"


@dataclass(frozen=True)
class TowardsNearestError:
    """Points on the way to their nearest error, to be given to `OnManifoldAdversary`.

    A point goes to the nearest error that the attack finds, or as far in its direction as `radius`
    where that is farther: minimum-norm adversarial training in a ball. It stays where it is if it
    is an error itself, or if none was found.

    Parameters
    ----------
    radius : float
        Radius of the ball, positive, in the units of the points.
    attack : callable
        A minimum-norm attack, called like `trueboundary.attacks.Attack`. The default makes few
        steps: the network changes after each batch.
    domains : tuple of Domain
        Where the points of each class may go; one for all, all of space by default.

    References
    ----------
    Rony et al. (2019), *Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial
    Attacks and Defenses*, whose training clips the errors of DDN so. Ding et al. (2020), *MMA
    Training*, train on nearest errors as well.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.training import TowardsNearestError
    >>> attack = TowardsNearestError(radius=0.5)
    >>> x, y = torch.tensor([[1.0, 0.0], [0.2, 0.0]]), torch.tensor([1, 1])
    >>> moved = attack(lambda points: points[:, 0], x, y, generator=torch.Generator())
    >>> [round(value, 2) for value in moved[:, 0].abs().tolist()]
    [0.5, 0.0]
    """

    radius: float
    attack: Callable[..., AttackResult] = _FEW_STEPS
    domains: tuple[Domain, ...] = (Space(),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", check_real("radius", self.radius, above=0.0))
        if not self.domains:
            raise ValueError("domains must be one for all classes or one for each, got none.")

    def __call__(
        self,
        classifier: Classifier,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return the points to train on, of the shape of `x`."""
        generator = generator_of(generator, seed, x.device)
        if len(self.domains) == 1:
            return self._moved(self.domains[0], classifier, x, y, generator)
        moved = torch.empty_like(x)
        for label, domain in enumerate(self.domains):
            rows = (y == label).nonzero().squeeze(1)
            if rows.numel() > 0:
                part = self._moved(domain, classifier, x[rows], y[rows], generator)
                moved[rows] = part
        return moved

    def _moved(
        self,
        domain: Domain,
        classifier: Classifier,
        x: Tensor,
        y: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        found = self.attack(classifier, x, y, domain=domain, generator=generator)
        # Along the domain's own paths, whose lengths are those of `log`; 0 where nothing was found.
        length = norm(domain.log(x, found.x_adv))
        farthest = (self.radius / length.clamp(min=self.radius)).to(x)
        return domain.interpolate(x, found.x_adv, farthest)
