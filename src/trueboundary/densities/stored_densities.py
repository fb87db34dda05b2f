"""Densities as plain data: a JSON-able description and NumPy arrays, on disk without pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from trueboundary.densities.discrete import DiscreteTable
from trueboundary.densities.low_rank import LowRankGaussian
from trueboundary.densities.mixture import MixtureOfFactorAnalyzers
from trueboundary.regular_files import read_regular

Array = np.ndarray[Any, np.dtype[Any]]
Spec = dict[str, Any]
Density = LowRankGaussian | MixtureOfFactorAnalyzers | DiscreteTable

# The tensors that make up each density, as attribute -> argument of its constructor.
_PARTS: dict[type[Any], dict[str, str]] = {
    LowRankGaussian: {
        "mean": "mean",
        "loadings": "loadings",
        "noise_variance": "noise_variance",
    },
    MixtureOfFactorAnalyzers: {
        "log_weights": "log_weights",
        "means": "means",
        "loadings": "loadings",
        "noise_variance": "noise_variance",
    },
    DiscreteTable: {"probabilities": "probabilities"},
}
# Fifty components of the largest images in use, with fifty factors, have 0.5 GB.
_MAX_SPEC_BYTES, _MAX_ARRAYS_BYTES = 2**24, 2**34
_CLASSES = {cls.__name__: cls for cls in _PARTS}
#: The file that makes a folder one of a density.
SPEC_FILE = "density.json"
_ARRAYS_FILE = "density.safetensors"


def to_arrays(density: Density) -> tuple[Spec, dict[str, Array]]:
    """Return a density as plain data, for storage without pickle.

    Parameters
    ----------
    density : LowRankGaussian, MixtureOfFactorAnalyzers or DiscreteTable
        The density.

    Returns
    -------
    spec : dict
        Name of its class; JSON can hold it.
    arrays : dict of str to ndarray
        Its parameters by name, in its dtype.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.densities import DiscreteTable, density_from_arrays, density_to_arrays
    >>> spec, arrays = density_to_arrays(DiscreteTable(torch.tensor([[0.5, 0.5]])))
    >>> density_from_arrays(spec, arrays).probabilities
    tensor([[0.5000, 0.5000]])
    """
    cls = type(density)
    if cls not in _PARTS:
        raise TypeError(f"cannot store a {cls.__name__}, only {', '.join(_CLASSES)}.")
    arrays = {
        name: getattr(density, name).detach().cpu().contiguous().numpy().copy()
        for name in _PARTS[cls]
    }
    return {"class": cls.__name__}, arrays


def from_arrays(spec: Mapping[str, Any], arrays: Mapping[str, Array]) -> Density:
    """Rebuild the density that `to_arrays` described, on the CPU.

    Parameters
    ----------
    spec : mapping
        Description of the density.
    arrays : mapping of str to ndarray
        Its parameters.

    Returns
    -------
    LowRankGaussian, MixtureOfFactorAnalyzers or DiscreteTable
        A density equal to the stored one.

    Raises
    ------
    ValueError
        If the class is unknown, an array is missing or left over, or a parameter is not valid.
    """
    cls = _CLASSES.get(str(spec.get("class")))
    if cls is None:
        raise ValueError(
            f"not the description of a stored density: class is {spec.get('class')!r}, "
            f"expected one of {', '.join(_CLASSES)}."
        )
    parts = _PARTS[cls]
    if set(arrays) != set(parts):
        raise ValueError(
            f"a stored {cls.__name__} has the arrays {', '.join(sorted(parts))}, "
            f"got {', '.join(sorted(arrays))}."
        )
    arguments = {
        argument: torch.from_numpy(np.array(arrays[name])) for name, argument in parts.items()
    }
    if cls is MixtureOfFactorAnalyzers:
        arguments["weights"] = None  # type: ignore[assignment]
    density: Density = cls(**arguments)
    return density


def save(density: Density, folder: str | Path) -> Path:
    """Write a density into a folder, as ``density.json`` and ``density.safetensors``.

    Parameters
    ----------
    density : LowRankGaussian, MixtureOfFactorAnalyzers or DiscreteTable
        The density.
    folder : str or Path
        Where to write; created where it is missing, files of the same names are replaced.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> import tempfile, torch
    >>> from trueboundary.densities import LowRankGaussian, load_density, save_density
    >>> density = LowRankGaussian(torch.zeros(2), torch.ones(2, 1), 0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_density(save_density(density, folder))
    LowRankGaussian(dim=2, n_factors=1, dtype=torch.float32)
    """
    return write_folder(folder, *to_arrays(density))


def load(folder: str | Path) -> Density:
    """Read a density written by `save`.

    Parameters
    ----------
    folder : str or Path
        The folder it was written into.

    Returns
    -------
    LowRankGaussian, MixtureOfFactorAnalyzers or DiscreteTable
        A density equal to the stored one.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the files are damaged or do not belong together.
    """
    return from_arrays(*read_folder(folder))


def write_folder(folder: str | Path, spec: Spec, arrays: Mapping[str, Array]) -> Path:
    """Write a description and arrays; the description holds the checksum of the arrays."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = format_safetensors(dict(arrays))
    checksum = hashlib.sha256(content).hexdigest()
    text = json.dumps({**spec, "arrays_sha256": checksum}, indent=2, sort_keys=True)
    _replace(folder / _ARRAYS_FILE, content)
    _replace(folder / SPEC_FILE, f"{text}\n".encode())
    return folder


def read_folder(folder: str | Path) -> tuple[Spec, dict[str, Array]]:
    """Read what `write_folder` wrote, or say what is wrong with it."""
    folder = Path(folder)
    text = read_regular(folder / SPEC_FILE, _MAX_SPEC_BYTES)
    content = read_regular(folder / _ARRAYS_FILE, _MAX_ARRAYS_BYTES)
    try:
        spec = json.loads(text.decode("utf-8"))
        checksum = spec.pop("arrays_sha256")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / SPEC_FILE} does not describe a density: {error}.") from None
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ValueError(
            f"{folder / _ARRAYS_FILE} is not the file that {SPEC_FILE} was written with; "
            "it is damaged, or the two come from different densities."
        )
    try:
        return spec, parse_safetensors(content)
    except SafetensorError as error:
        raise ValueError(f"{folder / _ARRAYS_FILE} cannot be read: {error}.") from None


def _replace(path: Path, content: bytes) -> None:
    # Written aside and renamed, so that a reader never meets half a file.
    aside = path.with_name(f".{path.name}.partial")
    aside.write_bytes(content)
    aside.replace(path)
