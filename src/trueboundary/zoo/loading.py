"""Trained classifiers and problems by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trueboundary.zoo.entry_files import read_file
from trueboundary.zoo.zoo_index import DamagedZooError, Entry, card, find

if TYPE_CHECKING:
    import numpy as np

    from trueboundary.classifiers import ClassifierModule
    from trueboundary.problems import Problem

    Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

_Made = TypeVar("_Made")


def load(name: str, *, archive: str | Path | None = None) -> ClassifierModule:
    """Return a trained classifier, on the CPU and in eval mode.

    Parameters
    ----------
    name : str
        One of ``trueboundary.zoo.names("classifier")``.
    archive : str or Path, optional
        A folder, tar or zip in which its file is looked for first. Without it: the package, what
        the environment variable `TRUEBOUNDARY_ZOO` names, and the folder ``zoo`` of a repository
        that the package lies in.

    Returns
    -------
    ClassifierModule
        The classifier, with the parameters that were trained.

    Raises
    ------
    ValueError
        If there is no such classifier, or its file is not the one that was shipped.
    FileNotFoundError
        If its file is nowhere. Nothing is ever downloaded.

    Examples
    --------
    >>> from trueboundary import zoo
    >>> problem = zoo.problem("spheres-d100")
    >>> network = zoo.load("spheres-quadratic-d100-h200-online")
    >>> x = problem.domain(0).project(network.hidden_weight.detach()[:3])
    >>> network.predict(x)
    tensor([0, 0, 0])
    """
    entry = find(name)
    if entry.kind != "classifier":
        raise ValueError(
            f"{name} is a problem: trueboundary.zoo.problem({name!r}) returns it, and its "
            "bayes_classifier() is the best there is."
        )
    arrays = read_arrays(entry, archive)
    return _made(entry, lambda: classifier_from(card(name).spec, arrays))


def problem(name: str, *, archive: str | Path | None = None) -> Problem:
    """Return a problem, or the problem that a classifier was trained on.

    Parameters
    ----------
    name : str
        One of ``trueboundary.zoo.names()``.
    archive : str or Path, optional
        As for `load`.

    Returns
    -------
    Problem
        ``ImageProblem`` for images and ``ConcentricSpheres`` for spheres.

    Raises
    ------
    ValueError, FileNotFoundError
        As `load`.

    Examples
    --------
    >>> import torch
    >>> from trueboundary import zoo
    >>> problem = zoo.problem("mnist-0-6-symmetric")
    >>> x, y = problem.sample(100, generator=torch.Generator().manual_seed(0))
    >>> x.shape, bool((problem.bayes_classifier().predict(x) == y).all())
    (torch.Size([100, 784]), True)
    """
    entry = find(find(name).problem)
    arrays = read_arrays(entry, archive)
    return _made(entry, lambda: problem_from(card(entry.name).spec, arrays))


def classifier_from(spec: dict[str, Any], arrays: Arrays) -> ClassifierModule:
    """Return the classifier that the spec of a card and the arrays of its file describe."""
    from trueboundary.classifiers import from_arrays

    return from_arrays(spec, arrays)


def problem_from(spec: dict[str, Any], arrays: Arrays) -> Problem:
    """Return the problem that the spec of a card and the arrays of its file describe."""
    from trueboundary.problems import ConcentricSpheres, ImageFit

    if spec["class"] == "ConcentricSpheres":
        return ConcentricSpheres(**spec["arguments"])
    # Float32 on disk, which no density's formula should have to be content with.
    exact = {key: array.astype("float64") for key, array in arrays.items()}
    return ImageFit.from_arrays(spec["fit"], exact).problem(**spec["arguments"])


def read_arrays(entry: Entry, archive: str | Path | None = None) -> Arrays:
    """Return the arrays of an entry's file; a formula has none."""
    if not entry.file:
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        return parse(read_file(entry, archive))
    except SafetensorError as error:
        raise DamagedZooError(f"{entry.file} holds no arrays that can be read: {error}.") from None


def _made(entry: Entry, make: Callable[[], _Made]) -> _Made:
    """Return what an entry describes, or say that this version cannot make it."""
    try:
        return make()
    except (KeyError, TypeError) as error:
        raise DamagedZooError(
            f"{entry.name} cannot be rebuilt from its card by this version of trueboundary: {error}"
        ) from error
