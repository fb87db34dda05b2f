"""Trained classifiers and problems that come with trueboundary, by name.

``load(name)`` returns a classifier and ``problem(name)`` what it was trained on; ``card(name)``
says how it was made and what was measured of it. Every file is known by its SHA-256 and compared
with it each time. Nothing is ever downloaded: entries whose `place` is ``"package"`` come with
every installation, those in ``"repository"`` lie in the folder ``zoo`` of the repository, and
those in ``"archive"`` in the archive that ``make release`` builds. Where the latter two lie is
said by ``archive=`` or by the environment variable `TRUEBOUNDARY_ZOO`.

A name means the same numbers under every version of torch.
"""

from trueboundary.zoo.entry_cards import Card
from trueboundary.zoo.loading import load, problem
from trueboundary.zoo.zoo_index import DamagedZooError, Entry, card, entries, names

__all__ = ["Card", "DamagedZooError", "Entry", "card", "entries", "load", "names", "problem"]
