"""Red flags: signs that numbers say more of how a classifier was given than of its errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trueboundary.attacks import Attack, AttackStatus
from trueboundary.classifiers import (
    CallableClassifier,
    Classifier,
    ClassifierModule,
    misclassified,
    number_of_classes,
    outputs,
    wrongness,
    wrongness_and_gradient,
)
from trueboundary.classifiers.base import raw_outputs
from trueboundary.classifiers.edge import cure_of_outputs, gives_one_number
from trueboundary.plurals import plural
from trueboundary.suggestions import nearest as suggested

Floats = npt.NDArray[np.float64]

__all__ = [
    "FLAGS",
    "MUCH_BETTER",
    "POOR",
    "Flag",
    "Search",
    "doubled",
    "first_errors",
    "flags_of_domain",
    "flags_of_outputs",
    "flags_of_search",
    "page_of_flag",
    "without_consequences",
]

#: All flags, each with a page.
FLAGS = (
    "probabilities",
    "training mode",
    "random outputs",
    "outputs depend on the batch",
    "autograd cut off",
    "zero gradients",
    "gradients that are not finite",
    "gradient masking",
    "attack still improving",
    "attack stopped by its budget",
    "errors that were not repeated",
    "inputs outside the domain",
    "rounding hides the boundary",
)

#: Of the errors of a guess: a classifier that makes as many may want other points, or classes in
#: another order ...
POOR = 0.75
#: ... if with those it makes at most this part of them.
MUCH_BETTER = 0.2

_N_POINTS = 32  # at which outputs and gradients are looked at
_FEW = 2  # of what an attack did not do at all
_N_STEPS = 24  # on the way to a point of another class
_N_BISECTIONS = 20
_NEARER = 0.95  # an error at less than this part of the distance found shows masking, and ...
_OFTEN = 0.05  # ... from this share of the points it is no accident
_BETTER = 0.98  # of the distance: what twice the budget must beat to count as better, and ...
_MUCH = 0.25  # ... from this share of the points
_SMALL = 1e-3  # of a point's norm: a step that outputs should resolve
_NUDGE = 0.01  # of the way to the middle: a step within a domain that outputs should see


@dataclass(frozen=True)
class Flag:
    """A reason to distrust an audit.

    Attributes
    ----------
    name : str
        What it is called, such as ``gradient masking``; a page of the docs tells more.
    text : str
        What was seen, and what to do about it, in a sentence or two.
    """

    name: str
    text: str

    def __str__(self) -> str:
        """Say the flag in one line."""
        return f"{self.name}: {self.text}"

    @property
    def slug(self) -> str:
        """Name of its page."""
        return self.name.replace(" ", "-")


def page_of_flag(name: str) -> str:
    """Return the page of a flag, as Markdown.

    Raises
    ------
    ValueError
        If there is no such flag.

    Examples
    --------
    >>> from trueboundary.audits.flags import page_of_flag
    >>> page_of_flag("random outputs").splitlines()[0]
    '# Red flag: random outputs'
    """
    name = name.replace("-", " ")
    if name not in FLAGS:
        raise ValueError(
            f"there is no flag {name!r}; expected one of {', '.join(FLAGS)}"
            f"{suggested(name, FLAGS)}."
        )
    file = resources.files("trueboundary.audits") / "flag_pages" / f"{name.replace(' ', '-')}.md"
    return file.read_text(encoding="utf-8")


def doubled(attack: Attack) -> Attack:
    """Return an attack with twice of every number of steps, starts and the like.

    Of the probes that tell the way of each step there are as many as before.

    Examples
    --------
    >>> from trueboundary.attacks import NearestError
    >>> from trueboundary.audits.flags import doubled
    >>> doubled(NearestError()).n_slides
    60
    """
    more = {
        f.name: max(2 * value, _FEW)
        for f in fields(attack)
        if f.name.startswith("n_")
        and f.name != "n_probes"
        and type(value := getattr(attack, f.name)) is int
    }
    changed: Attack = replace(attack, **more)
    return changed


def flags_of_outputs(
    classifier: Classifier, x: Tensor, y: Tensor, *, by_labels: bool = False
) -> tuple[Flag, ...]:
    """Return what the outputs of a classifier, held in eval mode, and their gradients show.

    Parameters
    ----------
    classifier : callable
        The classifier.
    x, y : Tensor
        Points ``(n, *event)`` with labels ``(n,)``; the first few are looked at.
    by_labels : bool
        Whether labels are all that it says, so that nothing else can be looked at.
    """
    x, y = x[:_N_POINTS], y[:_N_POINTS]
    flags = []
    with torch.no_grad():
        found, again = (outputs(classifier, x, allow_nan=True) for _ in range(2))
        alone = torch.cat([outputs(classifier, point[None], allow_nan=True) for point in x[:4]])
    scale = found.abs().amax().item() if found.isfinite().all() else math.inf
    slack = 1e-4 * max(scale, torch.finfo(found.dtype).tiny)
    if not torch.equal(found.nan_to_num(), again.nan_to_num()):
        flags.append(
            Flag(
                "random outputs",
                "the same points gave other outputs when asked again, so that no attack can hold "
                "on to an error; switch the randomness off, or audit the mean of many calls",
            )
        )
    elif not torch.allclose(alone, found[:4], rtol=1e-3, atol=slack, equal_nan=True):
        flags.append(
            Flag(
                "outputs depend on the batch",
                "a point alone gets other outputs than among others (batch statistics?); an audit "
                "needs each point's own",
            )
        )
    if by_labels:
        return tuple(flags)
    if _are_probabilities(classifier, x):
        flags.append(
            Flag(
                "probabilities",
                "the outputs of each point lie between 0 and 1 and add up to 1; where they "
                f"saturate their gradient vanishes; {cure_of_outputs(classifier, 'probability')}",
            )
        )
    flags += _flags_of_gradients(classifier, x, y)
    return tuple(flags)


@torch.no_grad()
def _are_probabilities(classifier: Classifier, x: Tensor) -> bool:
    """Whether the outputs of all classes, two or more, look like probabilities.

    It is what `as_classifier` wraps that is asked, at the points that it gets: the margin of two
    probabilities, or some of them, no longer add up to 1.
    """
    if isinstance(classifier, ClassifierModule):
        if not gives_one_number(classifier):
            return False  # one of ours, or told what it returns
        while isinstance(classifier, CallableClassifier):
            x = x if classifier.preprocess is None else classifier.preprocess(x)
            classifier = classifier.function
    found = raw_outputs(classifier, x)
    if found.ndim == 1 or found.shape[1] == 1 or not bool(found.isfinite().all()):
        return False  # of one number `output_doubts` judges
    inside = bool(((found >= 0) & (found <= 1)).all())
    return inside and bool((found.sum(1) - 1).abs().amax() < 1e-3)


def _flags_of_gradients(classifier: Classifier, x: Tensor, y: Tensor) -> list[Flag]:
    value, gradient = wrongness_and_gradient(classifier, x, y, allow_nan=True)
    if gradient is None:
        return [
            Flag(
                "autograd cut off",
                "the outputs do not depend on the points for autograd (no_grad, detach, a trip "
                "through NumPy), so that attacks that follow gradients are blind",
            )
        ]
    sizes = gradient.flatten(1).abs().amax(1)
    n_nan = int((~sizes.isfinite() | value.isnan()).sum())
    n_zero = int((sizes == 0).sum())
    flags = []
    if n_nan:
        flags.append(
            Flag(
                "gradients that are not finite",
                f"at {n_nan} of {plural(len(x), 'point')} the outputs or their gradients are NaN "
                "or infinite",
            )
        )
    if n_zero:
        flags.append(
            Flag(
                "zero gradients",
                f"at {n_zero} of {plural(len(x), 'point')} the gradient is exactly zero (steps, "
                "saturated outputs?); trust an attack by labels there",
            )
        )
    n_hidden = _n_hidden(classifier, x, y, value, gradient)
    if 2 * n_hidden > int((sizes > 0).sum()):
        flags.append(
            Flag(
                "rounding hides the boundary",
                f"at {n_hidden} of {plural(len(x), 'point')} a step of a thousandth of the point's "
                "norm along the gradient changed nothing: large offsets eat the digits that "
                "decide; use float64, or take them out of the outputs",
            )
        )
    return flags


@torch.no_grad()
def _n_hidden(classifier: Classifier, x: Tensor, y: Tensor, value: Tensor, gradient: Tensor) -> int:
    """Return at how many points outputs do not follow their gradient, for want of digits."""
    size = gradient.flatten(1).norm(dim=1)
    known = size.isfinite() & (size > 0) & value.isfinite()
    unit = gradient / torch.where(known, size, 1.0).reshape(-1, *[1] * (x.ndim - 1))
    unit = torch.where(known.reshape(-1, *[1] * (x.ndim - 1)), unit, 0.0)
    length = _SMALL * x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
    moved = wrongness(classifier, x + length * unit.to(x), y, allow_nan=True)
    return int((known & (moved == value)).sum())


def without_consequences(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Return each flag once, without those whose advice another one makes wrong.

    Where probabilities saturate there is no boundary to be seen, but no offset is to blame.

    Examples
    --------
    >>> from trueboundary.audits.flags import Flag, without_consequences
    >>> hidden, shown = Flag("rounding hides the boundary", ""), Flag("probabilities", "")
    >>> [flag.name for flag in without_consequences([hidden, shown, shown])]
    ['probabilities']
    """
    once = dict.fromkeys(flags)
    explained = any(flag.name == "probabilities" for flag in once)
    hidden = "rounding hides the boundary"
    return tuple(flag for flag in once if not (explained and flag.name == hidden))


@torch.no_grad()
def flags_of_domain(classifier: Classifier, x: Tensor, y: Tensor) -> tuple[Flag, ...]:
    """Return whether a classifier seems to be meant for points in another range.

    Two signs: coordinates beyond [0, 1] or [-1, 1] matter, but not how far beyond they are, so that
    it cuts them off; or it errs about as often as a guess would, and far less on the same points in
    another range that networks are trained on.

    Parameters
    ----------
    classifier : callable
        Held in eval mode.
    x, y : Tensor
        Points of all classes with their labels.
    """
    found = outputs(classifier, x, allow_nan=True)
    flags = []
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        cut = x.clamp(low, high)
        outside = cut != x
        if not bool(outside.any()):
            break
        inner = torch.where(outside, (low + high) / 2, x)
        # Outputs that are cut off themselves do not see the coordinates within, either.
        nudged = torch.where(outside, x, x + _NUDGE * ((low + high) / 2 - x))
        beyond, matters, within = (
            not torch.equal(outputs(classifier, other, allow_nan=True), found)
            for other in (cut, inner, nudged)
        )
        if not beyond and matters and (within or bool(outside.all())):
            share = outside.double().mean().item()
            flags.append(
                Flag(
                    "inputs outside the domain",
                    f"{share:.1%} of the coordinates lie beyond [{low:g}, {high:g}], where the "
                    "classifier cuts them off: there its gradient vanishes, and errors beyond are "
                    "none that it was made for; distances are those of the problem's points",
                )
            )
            break
    guessing = 1 - 1 / number_of_classes(found)
    own = misclassified(found, y).double().mean().item()
    if not POOR * guessing <= own <= (2 - POOR) * guessing:
        return tuple(flags)
    flat = x.flatten(1)
    mean, std = flat.mean(), flat.std().clamp(min=torch.finfo(x.dtype).tiny)
    for words, other in (
        ("multiplied by 255", 255 * x),
        ("divided by 255", x / 255),
        ("moved from [0, 1] to [-1, 1]", 2 * x - 1),
        ("moved from [-1, 1] to [0, 1]", (x + 1) / 2),
        ("normalised to mean 0 and standard deviation 1", (x - mean) / std),
    ):
        rate = misclassified(outputs(classifier, other, allow_nan=True), y).double().mean().item()
        if rate <= MUCH_BETTER * own:
            flags.append(
                Flag(
                    "inputs outside the domain",
                    f"it errs on {own:.0%} of the points, and on {rate:.0%} of the same points "
                    f"{words}; give as_classifier(classifier, preprocess=(mean, std)) if that is "
                    "what it was trained on",
                )
            )
            break
    return tuple(flags)


@dataclass(frozen=True, eq=False)
class Search:
    """What searches for errors from the points of one class found.

    Attributes
    ----------
    name : str
        Of the class.
    attacked : ndarray of shape (n,)
        Distances of the errors that the attack found.
    lines : ndarray of shape (n,)
        Those of the first errors on straight lines; see `first_errors`.
    stronger : ndarray of shape (n,)
        Those that the attack found with twice its budget, NaN where it was not asked.
    reasons : tuple of str
        Why no error was found.
    """

    name: str
    attacked: Floats
    lines: Floats
    stronger: Floats
    reasons: tuple[str, ...]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which points are no errors themselves."""
        return self.attacked > 0

    @property
    def masked(self) -> float:
        """Share of the points from which a straight line met a nearer error."""
        beaten = self.right & (self.lines < _NEARER * self.attacked)
        return float(beaten.sum() / max(1, self.right.sum()))

    @property
    def improved(self) -> tuple[int, int]:
        """From how many points twice the budget came nearer, and of how many it was asked."""
        again = self.right & ~np.isnan(self.stronger)
        better = again & (self.stronger < _BETTER * self.attacked)
        return int(better.sum()), int(again.sum())


def flags_of_search(searches: Sequence[Search], *, by_labels: bool) -> tuple[Flag, ...]:
    """Return what there is to distrust in the search for errors from the points of all classes.

    Parameters
    ----------
    searches : sequence of Search
        One for each class.
    by_labels : bool
        Whether the attack goes by labels, so that no gradient can mislead it.
    """
    flags = []
    masked = {search.name: search.masked for search in searches if search.masked >= _OFTEN}
    if masked and not by_labels:
        of_classes = _listed(f"{share:.0%} of class {name}" for name, share in masked.items())
        flags.append(
            Flag(
                "gradient masking",
                f"from {of_classes} a straight line, followed by labels alone, met an error at "
                f"less than {_NEARER:.0%} of the distance at which the attack that follows "
                "gradients found one; the nearer of both counts",
            )
        )
    better, asked = (sum(counts) for counts in zip(*(s.improved for s in searches), strict=True))
    if better >= max(1.0, _MUCH * asked):
        flags.append(
            Flag(
                "attack still improving",
                f"from {better} of {plural(asked, 'point')} the attack came nearer by more than "
                f"{1 - _BETTER:.0%} with twice its budget; what was found is farther than the "
                "nearest error",
            )
        )
    counts = Counter(reason for search in searches for reason in search.reasons)
    for status, name in (
        (AttackStatus.UNRESOLVED, "rounding hides the boundary"),
        (AttackStatus.BUDGET_SPENT, "attack stopped by its budget"),
        (AttackStatus.NOT_CONFIRMED, "errors that were not repeated"),
    ):
        if counts[status.value]:
            n = plural(counts[status.value], "point")
            flags.append(Flag(name, f"from {n}: {status.value.rstrip('.')}"))
    return tuple(flags)


def _listed(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def first_errors(
    classifier: Classifier, x: Tensor, label: int, ways: Sequence[Tensor]
) -> tuple[Floats, Floats]:
    """Look for errors by labels alone, on the straight ways from each point to some others.

    They are followed in even steps and then by bisection, and only the predicted class is asked
    for: what masks a gradient does not mask it.

    Parameters
    ----------
    classifier : callable
        Held in eval mode.
    x : Tensor
        Points ``(n, *event)``.
    label : int
        Their class.
    ways : sequence of Tensor
        Other points ``(n, *event)``, NaN where there is none: nearest errors of another classifier,
        nearest points of another class.

    Returns
    -------
    distance : ndarray
        Of the nearest errors on these ways, ``(n,)``, infinite where there is none.
    errors : ndarray
        These errors, ``(n, *event)``, NaN where there is none.
    """
    y = torch.full((len(x),), label, device=x.device)
    nearest = torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)
    errors = torch.full_like(x, math.nan)
    for other in ways:
        length, points = _first_error(classifier, x, y, other)
        nearer = length < nearest
        nearest = torch.where(nearer, length, nearest)
        errors[nearer] = points[nearer]
    return nearest.double().numpy(force=True), errors.double().numpy(force=True)


@torch.no_grad()
def _first_error(
    classifier: Classifier, x: Tensor, y: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    """Return how far along the way to `other` the first error is seen, ``(n,)``, and that error."""
    known = other.flatten(1).isfinite().all(1)
    other = torch.where(known.reshape(-1, *[1] * (x.ndim - 1)), other, x)
    length = (other - x).flatten(1).norm(dim=1)

    def at(fraction: Tensor) -> Tensor:
        return x + fraction.reshape(-1, *[1] * (x.ndim - 1)) * (other - x)

    def wrong(fraction: Tensor) -> Tensor:
        return misclassified(outputs(classifier, at(fraction), allow_nan=True), y)

    low, high = torch.zeros_like(length), torch.full_like(length, math.inf)
    for step in range(1, _N_STEPS + 1):
        fraction = torch.full_like(length, 1.05 * step / _N_STEPS)
        is_first = wrong(fraction) & high.isinf()
        high = torch.where(is_first, fraction, high)
        low = torch.where(high.isinf(), fraction, low)
    found = known & high.isfinite() & (length > 0)
    high = torch.where(found, high, 1.0)
    low = torch.minimum(low, high)
    for _ in range(_N_BISECTIONS):
        middle = (low + high) / 2
        is_wrong = wrong(middle)
        high = torch.where(is_wrong, middle, high)
        low = torch.where(is_wrong, low, middle)
    return torch.where(found, high * length, math.inf), at(high)
