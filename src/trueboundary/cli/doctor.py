"""What the results depend on in this place."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from trueboundary.runs.pool import THREAD_VARIABLES

_PACKAGES = ("trueboundary", "torch", "numpy", "scipy", "scikit-learn", "safetensors", "matplotlib")


@dataclass(frozen=True)
class Version:
    """A package's version here, and those that the zoo's entries were measured with."""

    package: str
    here: str
    measured_with: Sequence[str]

    @property
    def differs(self) -> bool:
        """Whether nothing was measured with the version that is here."""
        return bool(self.measured_with) and self.here not in self.measured_with

    def __str__(self) -> str:
        others = f" (measured with {', '.join(self.measured_with)})" if self.differs else ""
        return f"{self.here}{others}"


def versions() -> list[Version]:
    """Return the packages that results depend on."""
    measured = measured_versions()
    return [Version(name, _version(name), measured.get(name, ())) for name in _PACKAGES]


def measured_versions() -> dict[str, list[str]]:
    """Return by package the versions that the shipped classifiers were measured with.

    Their cards record them, and come with every installation.
    """
    from trueboundary import zoo

    found: dict[str, dict[str, None]] = {}
    for name in zoo.names("classifier"):
        try:
            recorded = zoo.card(name).source.get("versions", {})
        except zoo.DamagedZooError:
            continue  # said where the zoo is looked at
        for package, version in recorded.items():
            found.setdefault(package, {})[str(version)] = None
    return {package: list(seen) for package, seen in found.items()}


def checks() -> list[tuple[str, str]]:
    """Return names and findings."""
    found = [("python", platform.python_version()), ("machine", _machine())]
    found += _devices()
    found.append(("threads", _threads()))
    found += [(name, os.environ.get(name, "not set")) for name in THREAD_VARIABLES]
    return found + _data()


def _threads() -> str:
    return (
        "1 in each worker process, since several per worker slow one another down; "
        "'trueboundary sweep --threads' sets another number"
    )


def _machine() -> str:
    return f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"


def _devices() -> list[tuple[str, str]]:
    try:
        import torch
    except ImportError as error:
        return [("devices", f"torch cannot be imported: {error}")]
    if not torch.cuda.is_available():
        return [("devices", "cpu (torch finds no CUDA device)")]
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [("devices", ", ".join(["cpu", *(f"cuda:{i} ({n})" for i, n in enumerate(names))]))]


def _data() -> list[tuple[str, str]]:
    from trueboundary.data import find_data
    from trueboundary.zoo.entry_files import location

    try:
        found = find_data()
    except ValueError as error:  # a source of the user's own that cannot be read
        rows = [("data", f"{error}.")]
    else:
        rows = [(f"data: {name}", place.message) for name, place in found.items()]
    return [*rows, ("zoo", location().message)]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
