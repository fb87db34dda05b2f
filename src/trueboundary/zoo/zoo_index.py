"""What the zoo holds: names, files, checksums and cards, as the package's own index tells them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from trueboundary.regular_files import read_regular, reason
from trueboundary.runs import strict_json
from trueboundary.suggestions import nearest
from trueboundary.zoo.entry_cards import Card, Kind

#: Where the numbers of an entry lie: in every installed package, in the repository alone, or in a
#: release archive. "formula" has none: the card says all.
Place = Literal["formula", "package", "repository", "archive"]

#: Layout of the index.
INDEX_SCHEMA = 1
# More than the index or a card of an entry takes.
_MAX_INDEX, _MAX_CARD = 2**22, 2**20
#: The folder of the index, the cards and the small entries.
PACKAGE_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A trained classifier or a problem that `load` or `problem` returns by its name.

    Attributes
    ----------
    name : str
        Its name, such as ``"mnist-0-6-symmetric"``.
    kind : {"classifier", "problem"}
        What it is.
    title : str
        What it is, in a line.
    problem : str
        Name of the problem that a classifier was trained on; its own name for a problem.
    place : {"formula", "package", "repository", "archive"}
        Where its numbers lie, see `trueboundary.zoo`.
    file : str
        Name of the file with its numbers; empty for a formula. A symmetric and an asymmetric
        problem are made from one.
    n_bytes : int
        Size of that file.
    sha256 : str
        Its checksum.
    card_sha256 : str
        Checksum of the card.
    """

    name: str
    kind: Kind
    title: str
    problem: str
    place: Place
    file: str
    n_bytes: int
    sha256: str
    card_sha256: str


class DamagedZooError(ValueError):
    """A file is not the one that the index or a card of the package tells of."""


def entries() -> Mapping[str, Entry]:
    """Return all entries by name.

    Examples
    --------
    >>> from trueboundary import zoo
    >>> entry = zoo.entries()["mnist-0-6-symmetric-linear-svm"]
    >>> entry.kind, entry.problem, entry.place
    ('classifier', 'mnist-0-6-symmetric', 'package')
    """
    return MappingProxyType(read_index(PACKAGE_FOLDER))


def names(kind: Kind | None = None, *, problem: str | None = None) -> tuple[str, ...]:
    """Return the names of the entries, in alphabetical order.

    Parameters
    ----------
    kind : {"classifier", "problem"}, optional
        Only these.
    problem : str, optional
        Only the classifiers that were trained on this problem.

    Examples
    --------
    >>> from trueboundary import zoo
    >>> zoo.names(problem="mnist-0-6-symmetric")[:2]
    ('mnist-0-6-symmetric-cnn', 'mnist-0-6-symmetric-linear-svm')
    """
    if kind not in (None, "classifier", "problem"):
        raise ValueError(f"kind must be 'classifier' or 'problem', got {kind!r}.")
    known = entries()
    if problem is not None:
        if find(problem).kind != "problem":
            raise ValueError(f"{problem} is a classifier, and none was trained on it.")
        kind = "classifier"
    return tuple(
        name
        for name, entry in sorted(known.items())
        if kind in (None, entry.kind) and problem in (None, entry.problem)
    )


def find(name: str) -> Entry:
    """Return the entry of a name, or say which name may be meant."""
    known = entries()
    if name not in known:
        raise ValueError(
            f"there is nothing called {name!r} in the zoo{nearest(str(name), known)}; "
            "trueboundary.zoo.names() has all names."
        )
    return known[name]


def card(name: str) -> Card:
    """Return what is known of an entry: settings, seed, what was measured, where it comes from.

    ``print(card)`` shows it as Markdown.

    Raises
    ------
    ValueError
        If there is no such entry, or the card was changed.

    Examples
    --------
    >>> from trueboundary import zoo
    >>> card = zoo.card("spheres-quadratic-d100-h200-online")
    >>> card.settings["n_steps"], card.seed
    (32000, 0)
    """
    return read_card(find(name), PACKAGE_FOLDER)


def read_index(folder: Path) -> dict[str, Entry]:
    """Return the entries in the index of a folder such as the package's own."""
    file = folder / "index.json"
    try:
        record = strict_json.unseal(read_regular(file, _MAX_INDEX).decode("utf-8"))
        if record["schema"] != INDEX_SCHEMA:
            raise ValueError(f"it is of layout {record['schema']!r}")
        return {name: Entry(name, **parts) for name, parts in record["entries"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedZooError(
            f"{file} is not the index that trueboundary was shipped with ({reason(error)}); install"
            " trueboundary again."
        ) from None


def read_card(entry: Entry, folder: Path) -> Card:
    """Return the card of an entry from the folder of its index, after a look at its checksum."""
    file = folder / "cards" / f"{entry.name}.json"
    try:
        content = read_regular(file, _MAX_CARD)
        if hashlib.sha256(content).hexdigest() != entry.card_sha256:
            raise ValueError("its checksum is another")
        record: dict[str, Any] = strict_json.loads(content.decode("utf-8"))
        return Card(**{each.name: record[each.name] for each in fields(Card)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedZooError(
            f"{file} is not the card that trueboundary was shipped with ({reason(error)}); install "
            "trueboundary again."
        ) from None
