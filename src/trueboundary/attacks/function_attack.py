"""Anybody's function of a model, points and labels as an attack, with nothing of it believed."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trueboundary._checks import check_integer
from trueboundary.attacks.base import Attack
from trueboundary.attacks.results import AttackStatus
from trueboundary.attacks.target import Search, Target
from trueboundary.classifiers import Classifier, outputs
from trueboundary.domains import Box, Domain, Space, per_sample

__all__ = ["FunctionAttack", "ModelUnderAttack"]

Returned = Tensor | tuple[Tensor, Tensor]
"""Points ``(n, *event)``, and which of them are said to be errors ``(n,)``, if that is said."""

_EDGE = 1e-4  # of the unit box: what ends so near to its wall may have been held by it


class ModelUnderAttack(nn.Module):
    """A classifier as other libraries want their models: a module of logits ``(n, K)``.

    The classifier itself is no submodule of it: whoever sets a mode, moves the module to a device
    or gathers gradients of its parameters changes this module and nothing else. Every row of points
    that goes forward is counted, and every row whose gradient is asked for. Logits of points that
    are not finite are NaN, whatever the classifier would say.

    Parameters
    ----------
    classifier : callable
        What `trueboundary.classifiers.outputs` accepts.
    n_classes : int
        Smallest number of logits. Classes that fill it up never lead.
    inward : callable, optional
        What is done to points before the classifier sees them.

    Attributes
    ----------
    n_classes : int
        Number of logits, of a classifier that has no more of its own.
    n_forward, n_backward : int
        Rows evaluated so far, and rows differentiated.
    cut_off : bool
        Whether a gradient was asked for where the logits do not depend on the points for autograd.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import ModelUnderAttack
    >>> model = ModelUnderAttack(lambda x: x.sum(1) - 1, n_classes=3)
    >>> model(torch.ones(2, 2)).tolist()
    [[-0.5, 0.5, -3.5], [-0.5, 0.5, -3.5]]
    >>> model.n_forward, model.n_backward
    (2, 0)
    """

    def __init__(
        self,
        classifier: Classifier,
        n_classes: int = 2,
        inward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()

        def logits(points: Tensor) -> Tensor:
            points = points if inward is None else inward(points)
            found = _logits(_outputs_of_numbers(classifier, points))
            missing = self.n_classes - found.shape[1]
            return found if missing <= 0 else torch.cat([found, self._below(found, missing)], dim=1)

        self.logits_of: Callable[[Tensor], Tensor] = logits  # hides the classifier
        # Libraries read the device from the first parameter.
        self.placeholder = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.n_classes = n_classes
        self.n_forward = 0
        self.n_backward = 0
        self.cut_off = False
        self._unit: Tensor | None = None
        self.eval()

    def _below(self, logits: Tensor, n: int) -> Tensor:
        """Return ``(n, k)`` logits that never lead, below all others in steps of their own unit.

        Some attacks divide by the difference of the first and the third logit. It must therefore
        neither vanish at a boundary nor know any scale but that of the logits: three times how far
        they lie apart at the first points that were asked for.
        """
        logits = logits.detach()
        if self._unit is None:
            spread = 3 * (logits.amax(1) - logits.amin(1)).nanmedian()
            self._unit = torch.where(spread > 0, spread, torch.ones_like(spread))
        steps = torch.arange(1, n + 1, device=logits.device, dtype=logits.dtype)
        return logits.amin(1, keepdim=True) - self._unit.to(logits) * steps

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, K)`` in the dtype of the points."""
        self.n_forward += len(x)
        if x.requires_grad and torch.is_grad_enabled():
            return _Evaluation.apply(x, self)  # type: ignore[no-any-return,no-untyped-call]
        with torch.no_grad():
            return self.logits_of(x).to(x.dtype)


def _outputs_of_numbers(classifier: Classifier, points: Tensor) -> Tensor:
    """Return outputs that are NaN where points are not finite, which no classifier has to take.

    An attack that loses one point this way keeps the others of its batch.
    """
    usable = points.flatten(1).isfinite().all(1)
    if bool(usable.all()):
        return outputs(classifier, points, allow_nan=True)
    if not bool(usable.any()):
        return points.flatten(1).sum(1) * torch.nan
    # Not 0, which may lie where the classifier is not defined.
    stand_in = points[usable][:1].detach()
    found = outputs(
        classifier, torch.where(per_sample(usable, points), points, stand_in), allow_nan=True
    )
    return torch.where(per_sample(usable, found), found, torch.nan)


class _Evaluation(torch.autograd.Function):
    """Logits whose gradient flows to the points alone, and never into the classifier's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, model: ModelUnderAttack) -> Tensor:
        with torch.enable_grad():
            ctx.leaf = x.detach().requires_grad_()
            ctx.logits = model.logits_of(ctx.leaf)
        ctx.model = model
        return ctx.logits.detach().to(x.dtype)  # type: ignore[no-any-return]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.model.n_backward += len(ctx.leaf)
        if not ctx.logits.requires_grad:  # other libraries take that for 0
            ctx.model.cut_off = True
            return torch.zeros_like(ctx.leaf), None
        (found,) = torch.autograd.grad(
            ctx.logits,
            ctx.leaf,
            gradient.to(ctx.logits.dtype),
            retain_graph=True,
            materialize_grads=True,
        )
        return found, None


@dataclass(frozen=True)
class FunctionAttack(Attack):
    """A plain function ``(model, x, y) -> x_adv`` as an attack of this package.

    Parameters
    ----------
    function : callable
        Is given a `ModelUnderAttack` in eval mode, points ``(n, *event)`` that the model is right
        about and their labels ``(n,)``, int64; returns points of the same shape. It may return a
        second tensor ``(n,)``, bool: which of them it says are errors. Without it, every point that
        is not the sample itself counts as said to be one. If it has a parameter ``domain``, it is
        told by that keyword where errors count: a `Domain` of these points, such as ``Sphere()``,
        ``Box(0, 1)`` or ``Space()``, whose `project` and `move` keep points inside.
    name, version : str
        What identifies the function, where it is reported.
    batch_size : int
        How many samples the function is given at once. When it fails on some, what it found for
        those before and after is kept.
    unit_box : bool
        Whether points and model are mapped to the box between 0 and 1, which many libraries
        demand: by one factor and one shift of all coordinates, so that distances keep their
        proportions. In a `Box` it is the box's; in all of space, where there is no such box, one
        whose width is three times the range of the batch's coordinates, with the batch in its
        middle.
    shape : tuple of int, optional
        Shape of one point as the function wants it. A -1 stands for what is left over.
    min_classes : int
        Smallest number of logits; see `ModelUnderAttack`.
    single : bool
        Whether the function gets single precision, whatever that of the samples.

    Notes
    -----
    Nothing that the function says is taken at its word: an error is what the classifier calls one
    again, at a distance that is measured again, inside the domain. Where there is none, the status
    says why: the function returned the sample itself (``UNMOVED``), no usable point
    (``NO_POINT``: NaN, another shape), raised an exception (``RAISED``), left the domain
    (``LEFT_DOMAIN``), or said that there is an error where there is none (``NOT_CONFIRMED``).

    Functions draw from the global generators of torch, NumPy and `random`. These are seeded for the
    call and put back as they were, so that a result depends on the attack's generator and on how
    samples are batched, and nothing outside changes. A function cannot be aimed at a class. Rows
    that it evaluates are shared out evenly among the samples of a batch: sums are exact.

    Gradients of gradients are not available through the model.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.attacks import AttackStatus, FunctionAttack
    >>> def doubled(model, x, y):
    ...     return 2 * x
    >>> plane = lambda points: points.sum(1) - 1
    >>> x, y = torch.tensor([[0.3, 0.3], [0.1, 0.1]]), torch.tensor([0, 0])
    >>> result = FunctionAttack(doubled)(plane, x, y)
    >>> [AttackStatus.from_code(code).name for code in result.status.tolist()]
    ['FOUND', 'NOT_CONFIRMED']
    >>> result.distance.tolist()
    [0.4242640733718872, inf]

    One that is told the domain:

    >>> from trueboundary.domains import Box
    >>> def clipped(model, x, y, *, domain):
    ...     return domain.project(9 * x)
    >>> FunctionAttack(clipped)(plane, x, y, domain=Box(0.0, 1.0)).x_adv[0].tolist()
    [1.0, 1.0]
    """

    function: Callable[..., Returned]
    name: str = ""
    version: str = ""
    batch_size: int = 64
    unit_box: bool = False
    shape: tuple[int, ...] | None = None
    min_classes: int = 2
    single: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"expected a function (model, x, y) -> x_adv, got {type(self.function).__name__}"
            )
        check_integer("batch_size", self.batch_size, minimum=1)
        check_integer("min_classes", self.min_classes, minimum=2)
        if self.shape is not None and self.wants_domain:
            raise ValueError(
                "a function that takes a domain gets points of their own shape, to which it "
                f"belongs; leave shape={self.shape} out"
            )

    @property
    def wants_domain(self) -> bool:
        """Whether the function has a parameter ``domain`` beside the model, points and labels."""
        try:
            signature = inspect.signature(self.function)
            given = signature.bind_partial(None, None, None).arguments
        except (TypeError, ValueError):  # of another language, or with fewer parameters
            return False
        parameter = signature.parameters.get("domain")
        by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return parameter is not None and parameter.kind in by_keyword and "domain" not in given

    def search(self, target: Target) -> Search:
        """Give the function one batch after the other."""
        if target.goal is not None:
            raise ValueError(
                "a function (model, x, y) -> x_adv cannot be aimed at a class; leave target out"
            )
        endpoint = target.x.clone()
        status = torch.full_like(target.y, AttackStatus.RAISED.code)
        doubts: dict[str, None] = {}
        everything = torch.arange(len(target.y), device=status.device)
        for rows in torch.split(everything, self.batch_size):
            found = self._batch(target.take(rows))
            endpoint[rows], status[rows] = found.endpoint, found.status
            doubts |= dict.fromkeys(found.doubts)
        return Search(endpoint, status, doubts=tuple(doubts))

    def _batch(self, target: Target) -> Search:
        """Call the function once."""
        to_unit = _unit_map(target.domain, target.x) if self.unit_box else _Affine()
        dtype = torch.float32 if self.single else target.x.dtype
        view = _View(target.x, target.domain, to_unit, self.shape, dtype)
        model = ModelUnderAttack(
            target.classifier, max(target.n_classes, self.min_classes), view.inward
        )
        given = view.outward(target.x)
        seen = Box(0.0, 1.0) if to_unit.bounded else target.domain
        told = {"domain": seen} if self.wants_domain else {}
        returned: object = None
        doubts: tuple[str, ...] = ()
        status = AttackStatus.NO_POINT
        try:
            with (
                _seeded(target.seed, target.x),
                torch.inference_mode(False),
                torch.enable_grad(),
            ):
                # Clones, to which the function may write, and which autograd takes in any mode.
                returned = self.function(model, given.clone(), target.y.clone(), **told)
        except (Exception, SystemExit) as error:  # a function of somebody's may end the process
            status = AttackStatus.RAISED
            reason = " ".join(str(error).split())
            doubts = (f"{self._called} raised {type(error).__name__}: {reason}",)
        finally:
            _count(target, model)
        if status is AttackStatus.RAISED:
            return Search(target.x.clone(), torch.full_like(target.y, status.code), doubts=doubts)
        points, said = returned if isinstance(returned, tuple) else (returned, None)
        wrong = _wrong_form(points, given.shape, "points")
        if said is not None:
            wrong = wrong or _wrong_form(said, given.shape[:1], "what it says of them")
        if wrong:
            return Search(
                target.x.clone(),
                torch.full_like(target.y, status.code),
                doubts=(f"{self._called} returned {wrong}.",),
            )
        assert isinstance(points, Tensor)
        return self._read(target, view, given, points.detach().to(given), said)

    def _read(
        self, target: Target, view: _View, given: Tensor, points: Tensor, said: Tensor | None
    ) -> Search:
        """Take the points that a function returned back to where the samples are."""
        doubts = []
        usable = points.flatten(1).isfinite().all(1)
        points = torch.where(per_sample(usable, points), points, given)
        moved = (points != given).flatten(1).any(1)
        endpoint = view.moved(target.x, points - given)
        claimed = moved if said is None else said.to(moved.device).bool() & usable
        # Where it went without a claim, and left the domain, it has found nothing, not left it.
        astray = per_sample(~claimed & ~target.domain.contains(endpoint), endpoint)
        endpoint = torch.where(astray, target.x, endpoint)
        otherwise = torch.where(moved, AttackStatus.BUDGET_SPENT.code, AttackStatus.UNMOVED.code)
        otherwise = torch.where(usable, otherwise, AttackStatus.NO_POINT.code)
        status = torch.where(claimed, AttackStatus.FOUND.code, otherwise)
        if not bool(usable.all()):
            doubts.append(f"{self._called} returned NaN or infinity among its points.")
        if self.unit_box and not isinstance(target.domain, Box):
            ends = points.flatten(1)
            if bool(((ends < _EDGE) | (ends > 1 - _EDGE)).any()):
                doubts.append(
                    f"{self._called} came to the walls of the box that it was given in place of "
                    "all of space; they may have kept it from what is nearer."
                )
        return Search(endpoint, status, doubts=tuple(doubts))

    @property
    def _called(self) -> str:
        return self.name or getattr(self.function, "__name__", type(self.function).__name__)


@dataclass(frozen=True, eq=False)
class _Affine:
    """Points as the function sees them are ``(x - low) / width``, between 0 and 1 if bounded."""

    low: float | Tensor = 0.0
    width: float = 1.0
    bounded: bool = False
    fits: bool = True  # whether the unit box is the domain, and not larger


def _unit_map(domain: Domain, x: Tensor) -> _Affine:
    """Return what maps a domain to the box between 0 and 1 and keeps all proportions."""
    if isinstance(domain, Box):
        low = torch.as_tensor(domain.low, dtype=x.dtype, device=x.device)
        widths = torch.as_tensor(domain.high, dtype=x.dtype, device=x.device) - low
        width = float(widths.max())
        if not (np.isfinite(width) and width > 0):
            raise ValueError("expected a box of finite width, since this attack needs one")
        return _Affine(low, width, bounded=True, fits=bool((widths == width).all()))
    if isinstance(domain, Space):
        lowest, highest = float(x.min()), float(x.max())
        spread = highest - lowest if highest > lowest else max(abs(highest), 1.0)
        return _Affine(lowest - spread, 3 * spread, bounded=True)
    raise ValueError(
        f"expected all of space or a box, got {domain.describe()}: this attack knows nothing else"
    )


@dataclass(frozen=True, eq=False)
class _View:
    """How samples look to the function, and the way back."""

    like: Tensor  # (n, *event)
    domain: Domain
    affine: _Affine
    shape: tuple[int, ...] | None
    dtype: torch.dtype

    def outward(self, x: Tensor) -> Tensor:
        """Return samples as the function gets them."""
        points = ((x - self.affine.low) / self.affine.width).to(self.dtype)
        if self.affine.bounded:
            points = points.clamp(0, 1)  # rounding may have led through the wall
        return points if self.shape is None else points.reshape(len(x), *self.shape)

    def inward(self, points: Tensor) -> Tensor:
        """Return points of the function as the classifier takes them."""
        points = points.reshape(len(points), *self.like.shape[1:]).to(self.like.dtype)
        points = points * self.affine.width + self.affine.low
        return points if self.affine.fits else self.domain.project(points)

    def moved(self, x: Tensor, step: Tensor) -> Tensor:
        """Return samples moved by steps of the function.

        Where a step is zero, rounding moves nothing, and a short step does not drown in it.
        """
        points = x + step.reshape(x.shape).to(x.dtype) * self.affine.width
        held = self.domain.contains(points) | (not self.affine.fits)
        held &= (step != 0).flatten(1).any(1)
        return torch.where(per_sample(held, x), self.domain.project(points), points)


def _logits(found: Tensor) -> Tensor:
    """Return logits ``(n, K)`` of margins or logits."""
    return torch.stack([-found / 2, found / 2], dim=1) if found.ndim == 1 else found


def _wrong_form(value: object, wanted: torch.Size, what: str) -> str:
    """Return what is wrong with something returned, or nothing."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__} for {what}; expected a tensor of shape {tuple(wanted)}"
    if value.shape != wanted:
        return f"shape {tuple(value.shape)} for {what}; expected {tuple(wanted)}"
    return ""


def _count(target: Target, model: ModelUnderAttack) -> None:
    """Share out what was evaluated among the samples of a batch."""
    target.cut_off[target.index] |= model.cut_off
    for total, counts in (
        (model.n_forward, target.n_forward),
        (model.n_backward, target.n_backward),
    ):
        each, rest = divmod(total, len(target.index))
        counts[target.index] += each
        counts[target.index[:rest]] += 1


@contextlib.contextmanager
def _seeded(seed: int, like: Tensor) -> Iterator[None]:
    """Seed the global generators, and put them and the default dtype back in the end."""
    dtype = torch.get_default_dtype()
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = [like.device] if like.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
