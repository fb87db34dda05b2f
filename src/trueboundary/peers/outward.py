"""Our attacks in the form in which other libraries call theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary.attacks import Attack
from trueboundary.classifiers import Classifier, outputs, predicted
from trueboundary.domains import Box, Domain, Space, per_sample

__all__ = ["as_adv_lib", "as_art", "as_foolbox", "as_torchattacks"]

_UNIT = Box(0.0, 1.0)


def as_adv_lib(attack: Attack, *, domain: Domain = _UNIT) -> Callable[..., Tensor]:
    """Return an attack as adv-lib and AttackBench call theirs.

    Parameters
    ----------
    attack : Attack
        One of ours.
    domain : Domain
        Where errors count; theirs is the box between 0 and 1.

    Returns
    -------
    callable
        ``(model, inputs, labels, targeted=False) -> adv_inputs``. Where there is no error it
        returns the sample itself. If targeted, the labels are the classes to be taken into.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import NearestError
    >>> from trueboundary.peers import as_adv_lib
    >>> plane = torch.nn.Linear(3, 2).requires_grad_(False)
    >>> plane.weight[:], plane.bias[:] = torch.tensor([[1.0], [-1.0]]), 0
    >>> plane.bias[1] = 1.5
    >>> as_adv_lib(NearestError())(plane, torch.zeros(1, 3), torch.tensor([1]))
    tensor([[0.2500, 0.2500, 0.2500]])
    """

    def call(model: Classifier, inputs: Tensor, labels: Tensor, targeted: bool = False) -> Tensor:
        return _errors(attack, model, inputs, labels, domain, targeted)

    return call


def as_torchattacks(
    attack: Attack, *, domain: Domain = _UNIT
) -> Callable[[Classifier], Callable[[Tensor, Tensor], Tensor]]:
    """Return an attack as torchattacks makes and calls its own.

    Parameters
    ----------
    attack, domain
        As for `as_adv_lib`.

    Returns
    -------
    callable
        ``Attack(model)(images, labels) -> adv_images``. Where there is no error it returns the
        image itself.
    """

    def make(model: Classifier) -> Callable[[Tensor, Tensor], Tensor]:
        def call(images: Tensor, labels: Tensor) -> Tensor:
            return _errors(attack, model, images, labels, domain)

        return call

    return make


def as_foolbox(attack: Attack) -> Callable[..., tuple[Any, Any, Tensor]]:
    """Return an attack as Foolbox calls its own, those that minimise the distance.

    Parameters
    ----------
    attack : Attack
        One of ours.

    Returns
    -------
    callable
        ``(fmodel, inputs, criterion, *, epsilons=None) -> raw, clipped, is_adv``. The box is the
        model's; the criterion is labels, ``Misclassification`` or ``TargetedMisclassification``.
        For a list of epsilons the first two are lists, and ``is_adv`` has one row for each.
    """

    def call(
        model: Any,
        inputs: Tensor,
        criterion: Any,
        *,
        epsilons: float | Sequence[float | None] | None = None,
    ) -> tuple[Any, Any, Tensor]:
        targets = getattr(criterion, "target_classes", None)
        labels = _torch(getattr(criterion, "labels", criterion) if targets is None else targets)
        domain = Box(*map(float, model.bounds))
        raw = _errors(attack, model, inputs, labels, domain, targeted=targets is not None)
        single = epsilons is None or not isinstance(epsilons, Sequence)
        clipped, is_error = [], []
        for epsilon in [epsilons] if single else epsilons:  # type: ignore[union-attr]
            points = raw if epsilon is None else _within(inputs, raw, float(epsilon))  # type: ignore[arg-type]
            with torch.no_grad():
                found = predicted(outputs(model, points))
            clipped.append(points)
            is_error.append(found == labels if targets is not None else found != labels)
        if single:
            return raw, clipped[0], is_error[0]
        return [raw] * len(clipped), clipped, torch.stack(is_error)

    return call


def as_art(attack: Attack) -> Callable[..., _ArtAttack]:
    """Return an attack as ART makes and calls its own.

    Parameters
    ----------
    attack : Attack
        One of ours.

    Returns
    -------
    callable
        ``Attack(estimator=...)``, with a method ``generate(x, y=None)`` from arrays to an array.
        The estimator is a ``PyTorchClassifier``; the domain is the box of its ``clip_values``, or
        all of space. Without labels its own predictions stand for them.
    """

    def make(estimator: Any) -> _ArtAttack:
        return _ArtAttack(attack, estimator)

    return make


@dataclass(frozen=True, eq=False)
class _ArtAttack:
    """What ART expects of an attack."""

    attack: Attack
    estimator: Any

    def __post_init__(self) -> None:
        defences = [
            part
            for name in ("preprocessing_operations", "postprocessing_defences")
            for part in getattr(self.estimator, name, None) or ()
            if not _changes_nothing(part)
        ]
        if defences:
            names = ", ".join(type(defence).__name__ for defence in defences)
            raise ValueError(
                f"expected an estimator that is its model and nothing else, got one with {names}; "
                "put that into the model, so that gradients pass through it."
            )

    def generate(self, x: npt.NDArray[Any], y: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the errors found, the samples themselves where there are none."""
        model = self.estimator.model
        clip = self.estimator.clip_values
        domain: Domain = Space()
        if clip is not None:
            domain = Box(*(torch.as_tensor(np.asarray(end), dtype=torch.float32) for end in clip))
        points = torch.from_numpy(x).to(self.estimator.device)
        if y is None:
            with torch.no_grad():
                labels = predicted(outputs(model, points))
        else:
            labels = torch.from_numpy(np.asarray(y)).to(points.device)
            labels = labels.argmax(1) if labels.ndim == 2 else labels.long()
        return _errors(self.attack, model, points, labels, domain).numpy(force=True)


def _changes_nothing(operation: Any) -> bool:
    """Whether a step of an ART estimator is the standardisation that all have by default."""
    mean, std = getattr(operation, "mean", None), getattr(operation, "std", None)
    return mean is not None and std is not None and not np.any(mean) and bool(np.all(std == 1))


def _errors(
    attack: Attack,
    model: Classifier,
    inputs: Tensor,
    labels: Tensor,
    domain: Domain,
    targeted: bool = False,
) -> Tensor:
    """Return the errors that an attack finds, samples where it finds none."""
    if not targeted:
        return attack(model, inputs, labels, domain=domain).x_adv
    with torch.no_grad():
        own = predicted(outputs(model, inputs))
    found = inputs.detach().clone()
    rows = (own != labels).nonzero().squeeze(1)
    if rows.numel() > 0:
        result = attack(
            model, inputs[rows], own[rows], domain=domain.take(rows), target=labels[rows]
        )
        found[rows] = result.x_adv
    return found


def _within(x: Tensor, points: Tensor, radius: float) -> Tensor:
    """Return points of which those farther than a radius are brought back on the straight way."""
    length = (points - x).flatten(1).norm(dim=1)
    share = (radius / length.clamp(min=torch.finfo(x.dtype).tiny)).clamp(max=1)
    return x + per_sample(share, x) * (points - x)


def _torch(value: Any) -> Tensor:
    """Return labels, which may come as a tensor of EagerPy."""
    return value if isinstance(value, Tensor) else torch.as_tensor(value.raw)
