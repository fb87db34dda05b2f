"""What a shell completes: names that are typed, looked up without loading a large package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

# Copies, since whoever waits for a completion waits for no torch; the tests hold them to the rest.
MEMBERS = (
    "linear", "linear-box", "linear-sphere", "linear-ten", "ellipsoid-bulk",
    "ellipsoid-bulk-sphere", "ellipsoid-needle", "ellipsoid-needle-sphere", "ellipsoid-flat",
    "ellipsoid-flat-sphere", "ellipsoid-bulk-1e-6", "ellipsoid-bulk-1e+6", "gaussians-one",
    "gaussians-two", "relu-small", "digits-0-6", "digits-outliers", "digits-ten", "kernel-machine",
    "relu-wide", "cnn-0-6", "cnn-ten",
)  # fmt: skip
ATTACKS = (
    "NearestError", "NearestError-3-starts", "DDN", "FMN", "DeepFool", "CarliniWagnerL2-3x100",
    "LogDensityGradient", "ManifoldAttack", "HopSkipJump",
)  # fmt: skip
METHODS = ("standard", "weight-decay", "large-margin", "trades", "adversarial")


def experiment_ids(incomplete: str) -> list[str]:
    """Return ids of experiments."""
    from trueboundary.experiments import experiments

    return _beginning(incomplete, experiments())


def papers(incomplete: str) -> list[str]:
    """Return what can be reproduced as a whole."""
    from trueboundary.experiments import experiments

    return _beginning(incomplete, dict.fromkeys(e.paper for e in experiments().values()))


def members(incomplete: str) -> list[str]:
    """Return members of the suite of attacks behind those that are typed already."""
    before, comma, last = incomplete.rpartition(",")
    typed = before.split(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, MEMBERS) if name not in typed]


def attacks(incomplete: str) -> list[str]:
    """Return the attacks that come with trueboundary."""
    return _beginning(incomplete, (*ATTACKS, "all"))


def methods(incomplete: str) -> list[str]:
    """Return the methods of training that have a name."""
    return _beginning(incomplete, METHODS)


def devices(incomplete: str) -> list[str]:
    """Return the devices that may be there."""
    return _beginning(incomplete, ("cpu", "cuda", "cuda:0"))


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the settings of the experiments that are typed already, to be given values."""
    from trueboundary.experiments import experiments
    from trueboundary.experiments.base import read_settings

    # While a line is being typed, its words are not sorted into arguments yet.
    ids = [id for id in ctx.args if id in experiments()]
    names = dict.fromkeys(f"{each.name}=" for id in ids for each in read_settings(id))
    return _beginning(incomplete, names)


def flags(incomplete: str) -> list[str]:
    """Return the red flags, each of which has a page."""
    pages = (Path(__file__).parents[1] / "audits" / "flag_pages").glob("*.md")
    return _beginning(incomplete, sorted(page.stem for page in pages))


def zoo_names(incomplete: str) -> list[str]:
    """Return everything in the zoo."""
    from trueboundary import zoo

    return _beginning(incomplete, zoo.names())


def classifiers(incomplete: str) -> list[str]:
    """Return the classifiers of the zoo, and files from which others are loaded."""
    from trueboundary import zoo

    return [*_beginning(incomplete, zoo.names("classifier")), *_entries(incomplete)]


def problems(incomplete: str) -> list[str]:
    """Return the problems that have a name, and folders in which others may lie."""
    from trueboundary import zoo

    named = ("spheres", "digits", *zoo.names("problem"))
    return [*_beginning(incomplete, named), *_entries(incomplete, folders=True)]


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _entries(incomplete: str, *, folders: bool = False) -> list[str]:
    """Return what lies where a path that begins like that would lead."""
    parent, slash, name = incomplete.rpartition("/")
    try:
        found = sorted(Path(f"{parent}{slash}" or ".").expanduser().iterdir())
    except OSError:
        return []
    return [
        f"{parent}{slash}{entry.name}" + "/" * entry.is_dir()
        for entry in found
        if entry.name.startswith(name)
        and (name or not entry.name.startswith("."))
        and (entry.is_dir() or not folders)
    ]
