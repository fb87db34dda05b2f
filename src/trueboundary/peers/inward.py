"""An attack of another library, run and judged like one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from trueboundary.attacks import Attack, FunctionAttack, Search, Target
from trueboundary.peers.peer_calls import LIBRARIES, imported, points_of
from trueboundary.peers.peer_table import PEERS, Peer
from trueboundary.suggestions import nearest

__all__ = ["PeerAttack", "peer_attack", "peer_attacks"]


@dataclass(frozen=True)
class PeerAttack(Attack):
    """An attack of Foolbox, ART, torchattacks or adv-lib; see `peer_attack`.

    The library sees points between 0 and 1 in single precision, in a box that leaves them room
    where the domain is all of space, and logits of a module; see `FunctionAttack`. Vectors become
    images of one pixel a channel where it wants images, and classes that never lead fill up the
    logits where it wants more. Of attacks that want a radius the smallest that they succeed with
    is searched for, by doubling and ten bisections.

    Parameters
    ----------
    name : str
        ``library:attack``, one of `peer_attacks`.
    version : str
        The library's version, which becomes part of what identifies a run; by default the one that
        is installed.

    Raises
    ------
    ValueError
        If there is no such attack, its library is not installed, or another version of it is.
    """

    name: str
    version: str = ""

    def __post_init__(self) -> None:
        if self.name not in PEERS:
            raise ValueError(
                f"there is no attack {self.name!r} among trueboundary.peers.peer_attacks()"
                f"{nearest(self.name, PEERS)}"
            )
        library = self.peer.library
        imported(library)
        installed = metadata.version(LIBRARIES[library])
        if self.version not in ("", installed):
            raise ValueError(
                f"expected {library} {self.version}, but {installed} is installed; install "
                f"{LIBRARIES[library]}=={self.version}, or leave the version out."
            )
        object.__setattr__(self, "version", installed)

    @property
    def peer(self) -> Peer:
        """The row of the table."""
        return PEERS[self.name]

    def search(self, target: Target) -> Search:
        """Let the library search."""
        peer = self.peer
        shape = (-1, 1, 1) if peer.image and target.x.ndim != 4 else None
        return FunctionAttack(
            points_of(peer),
            name=f"{self.name} of {LIBRARIES[peer.library]} {self.version}",
            batch_size=peer.batch_size,
            unit_box=True,
            shape=shape,
            min_classes=peer.min_classes,
            single=True,
        ).search(target)


def peer_attack(name: str) -> PeerAttack:
    """Return an attack of another library.

    Parameters
    ----------
    name : str
        ``library:attack``, ``"foolbox:DDN-100"`` say; `peer_attacks` has all of them.

    Raises
    ------
    ValueError
        If there is no such attack, or its library is not installed.

    Examples
    --------
    >>> from trueboundary.peers import peer_attack
    >>> peer_attack("foolbox:DDM-100")
    Traceback (most recent call last):
        ...
    ValueError: there is no attack 'foolbox:DDM-100' among ...; did you mean 'foolbox:DDN-100'?
    """
    return PeerAttack(name)


def peer_attacks() -> Mapping[str, Peer]:
    """Return all attacks of other libraries by name, whether these are installed or not.

    Examples
    --------
    >>> from trueboundary.peers import peer_attacks
    >>> peer_attacks()["foolbox:DDN-100"].algorithm
    'DDN'
    """
    return PEERS
