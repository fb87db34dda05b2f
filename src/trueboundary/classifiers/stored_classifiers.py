"""Classifiers as plain data: a JSON-able description and NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from trueboundary.classifiers.base import ClassifierModule

Array = np.ndarray[Any, np.dtype[Any]]
Spec = dict[str, Any]
_Class = TypeVar("_Class", bound=type[ClassifierModule])
_REGISTRY: dict[str, type[ClassifierModule]] = {}


def register(cls: _Class) -> _Class:
    """Class decorator that lets `from_arrays` rebuild a classifier by its class name.

    The class must write `arguments`, and `from_arguments` if its constructor needs more than
    those.

    Raises
    ------
    ValueError
        If another class of the same name is registered.
    """
    if _REGISTRY.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(f"another classifier named {cls.__name__!r} is registered already.")
    return cls


def to_arrays(model: ClassifierModule) -> tuple[Spec, dict[str, Array]]:
    """Return a classifier as plain data, for storage without pickle.

    Parameters
    ----------
    model : ClassifierModule
        A classifier of a registered class.

    Returns
    -------
    spec : dict
        Class name, constructor arguments and dtype; JSON can hold it.
    arrays : dict of str to ndarray
        Parameters and buffers by name.

    Raises
    ------
    TypeError
        If the class of `model` is not registered.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import SphereBayes, from_arrays, to_arrays
    >>> spec, arrays = to_arrays(SphereBayes(dim=2, radius=1.3))
    >>> spec["class"]
    'SphereBayes'
    >>> from_arrays(spec, arrays).margin(torch.tensor([[1.0, 0.0]]))
    tensor([-0.1500])
    """
    name = type(model).__name__
    if _REGISTRY.get(name) is not type(model):
        raise TypeError(
            f"cannot store a {name}, only the registered {', '.join(sorted(_REGISTRY))}; "
            "decorate the class with trueboundary.classifiers.register."
        )
    state = model.state_dict()
    dtype = next(model.parameters()).dtype
    spec = {
        "class": name,
        "arguments": model.arguments(),
        "dtype": str(dtype).removeprefix("torch."),
    }
    return spec, {key: value.detach().cpu().numpy().copy() for key, value in state.items()}


def from_arrays(spec: Mapping[str, Any], arrays: Mapping[str, Array]) -> ClassifierModule:
    """Rebuild the classifier that `to_arrays` described, on the CPU and in eval mode.

    Parameters
    ----------
    spec : mapping
        Description of the classifier.
    arrays : mapping of str to ndarray
        Its parameters and buffers.

    Returns
    -------
    ClassifierModule
        A classifier that computes exactly what the stored one computed in eval mode.

    Raises
    ------
    ValueError
        If the class is unknown, or the arrays do not fit the description.
    """
    try:
        cls = _REGISTRY[spec["class"]]
        dtype = {"float32": torch.float32, "float64": torch.float64}[spec["dtype"]]
        arguments = dict(spec["arguments"])
    except KeyError as error:
        raise ValueError(
            f"not the description of a stored classifier: {error} is missing or unknown; "
            f"known classes are {', '.join(sorted(_REGISTRY))}."
        ) from None
    model = cls.from_arguments(arguments).to(dtype)
    state = {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the arrays do not fit a {spec['class']}: {error}") from None
    return model.eval()
