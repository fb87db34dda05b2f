"""The papers: one folder each, with its experiments, its claims and its settings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import import_module, resources
from typing import Any

#: Folders of this package, in the order of the report. Each one's ``__init__`` states its ``TITLE``
#: and the order of its ``MODULES``; beside it lie ``claims.toml`` and ``scales.toml``.
PAPERS: tuple[str, ...] = ("spheres", "bayes", "truth", "beyond")


def title(paper: str) -> str:
    """Return what headings call a paper.

    Examples
    --------
    >>> title("spheres")
    'Adversarial Spheres (Gilmer et al., 2018)'
    """
    return str(import_module(f"{__package__}.{paper}").TITLE)


def modules(paper: str) -> list[str]:
    """Return the full names of the modules that define a paper's experiments, in its order."""
    package = f"{__package__}.{paper}"
    return [f"{package}.{name}" for name in import_module(package).MODULES]


@cache
def read_table(paper: str, name: str) -> Mapping[str, Any]:
    """Return the content of ``claims.toml``, ``scales.toml`` or the like of a paper."""
    file = resources.files(f"{__package__}.{paper}").joinpath(f"{name}.toml")
    return tomllib.loads(file.read_text("utf-8"))
