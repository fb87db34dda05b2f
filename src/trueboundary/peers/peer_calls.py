"""How each library is called: with a model, points between 0 and 1 and labels."""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from trueboundary.attacks import ModelUnderAttack
from trueboundary.peers.peer_table import Peer

__all__ = ["LIBRARIES", "imported", "points_of"]

#: Their names on PyPI; their attacks are tested with the versions of constraints-peers.txt.
LIBRARIES = {
    "foolbox": "foolbox",
    "art": "adversarial-robustness-toolbox",
    "torchattacks": "torchattacks",
    "adv_lib": "adv-lib",
}
_MODULES = {"art": "art.attacks.evasion", "adv_lib": "adv_lib.attacks"}
#: adv-lib imports these for a perceptual distance and for plots, which no attack here uses.
_NEEDLESS = {"torchvision": "models", "visdom": "Visdom"}

Found = Tensor | tuple[Tensor, Tensor]

_FIRST_RADIUS = 2.0**-12  # of the unit box
_HALVINGS = 10  # of a bracket of a factor of 2: to a thousandth
_LARGEST = 2.0  # radii up to this many diagonals of the box


def imported(library: str) -> Any:
    """Return the module with a library's attacks, or say how to install it."""
    try:
        with _silent(), _stand_ins() if library == "adv_lib" else contextlib.nullcontext():
            return importlib.import_module(_MODULES.get(library, library))
    except ImportError as error:
        raise ValueError(
            f"{library} cannot be imported ({error}); pip install {LIBRARIES[library]}, or work in "
            "the environment that 'make test-peers' makes."
        ) from error


def points_of(peer: Peer) -> Callable[[ModelUnderAttack, Tensor, Tensor], Found]:
    """Return the function (model, x, y) -> x_adv that calls an attack of another library."""
    call = functools.partial(_CALLS[peer.library], peer)

    def attack(model: ModelUnderAttack, x: Tensor, y: Tensor) -> Found:
        with _silent():
            return call(model, x, y, None) if not peer.radius else _smallest(call, model, x, y)

    attack.__name__ = peer.name
    return attack


def _foolbox(
    peer: Peer, model: ModelUnderAttack, x: Tensor, y: Tensor, radius: float | None
) -> Found:
    library = imported("foolbox")
    seen = library.PyTorchModel(model, bounds=(0, 1), device=x.device)
    attack = getattr(library.attacks, peer.called)(**peer.settings)
    _, points, is_error = attack(seen, x, library.criteria.Misclassification(y), epsilons=radius)
    return points, is_error


def _art(peer: Peer, model: ModelUnderAttack, x: Tensor, y: Tensor, radius: float | None) -> Found:
    evasion = imported("art")
    with _silent():
        estimators = importlib.import_module("art.estimators.classification")
    seen = estimators.PyTorchClassifier(
        model=nn.Sequential(model, nn.Softmax(1)) if peer.probabilities else model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=model.n_classes,
        clip_values=(0.0, 1.0),
        device_type=x.device.type if x.device.type == "cpu" else "gpu",
    )
    limit = {} if radius is None else {peer.radius: radius, "eps_step": radius / 10}
    attack = getattr(evasion, peer.called)(seen, **peer.settings, **limit)
    one_hot = nn.functional.one_hot(y, model.n_classes)
    return torch.from_numpy(attack.generate(x.numpy(force=True), one_hot.numpy(force=True)))


def _torchattacks(
    peer: Peer, model: ModelUnderAttack, x: Tensor, y: Tensor, radius: float | None
) -> Found:
    limit: dict[str, Any] = {} if radius is None else {peer.radius: radius}
    if radius is not None and peer.algorithm == "PGD":
        limit["alpha"] = radius / 10
    if peer.algorithm == "FAB":
        limit["n_classes"] = model.n_classes
    made = getattr(imported("torchattacks"), peer.called)(model, **peer.settings, **limit)
    found: Tensor = made(x, y)
    return found


def _adv_lib(
    peer: Peer, model: ModelUnderAttack, x: Tensor, y: Tensor, radius: float | None
) -> Found:
    del radius  # all of its attacks that have a row minimise the distance
    function = operator.attrgetter(peer.called)(imported("adv_lib"))
    found: Tensor = function(model, x, y, **peer.settings)
    return found


_CALLS = {"foolbox": _foolbox, "art": _art, "torchattacks": _torchattacks, "adv_lib": _adv_lib}


def _smallest(
    call: Callable[[ModelUnderAttack, Tensor, Tensor, float], Found],
    model: ModelUnderAttack,
    x: Tensor,
    y: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the nearest errors of an attack that wants a radius, doubled and then bisected.

    Samples of one radius are attacked together. The evaluations that tell which points are errors
    count as well.
    """
    best, shortest = x.clone(), torch.full((len(x),), torch.inf, device=x.device)

    def attempt(radii: Tensor) -> Tensor:
        """Attack each sample whose radius is a number; return which have an error."""
        found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for radius in sorted(set(radii[radii.isfinite()].tolist())):
            rows = (radii == radius).nonzero().squeeze(1)
            points = call(model, x[rows].clone(), y[rows].clone(), radius)
            points = (points[0] if isinstance(points, tuple) else points).detach().to(x)
            with torch.no_grad():
                is_error = model(points).argmax(1) != y[rows]
            length = (points - x[rows]).flatten(1).norm(dim=1)
            nearer = is_error & (length < shortest[rows])
            best[rows[nearer]], shortest[rows[nearer]] = points[nearer], length[nearer]
            found[rows] = is_error
        return found

    high = torch.full_like(shortest, torch.inf)
    radius = _FIRST_RADIUS
    while bool(high.isinf().any()) and radius < _LARGEST * x[0].numel() ** 0.5:
        open_ = high.isinf()
        found = attempt(torch.where(open_, radius, torch.nan))
        high[open_ & found] = radius
        radius *= 2
    low = high / 2
    for _ in range(_HALVINGS):
        middle = (low * high).sqrt()
        found = attempt(middle)
        high, low = torch.where(found, middle, high), torch.where(found, low, middle)
    return best, shortest.isfinite()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep warnings that libraries raise about themselves from our users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Stand in for needless modules that are missing, or were built for another torch."""
    made = []
    for name, attribute in _NEEDLESS.items():
        try:
            importlib.import_module(name)
        except Exception:
            sys.modules[name] = ModuleType(name)
            setattr(sys.modules[name], attribute, None)
            made.append(name)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
