"""Attacks of other libraries as ours, and ours in the form that other libraries call.

None of the libraries is imported before an attack of it is made. How to use both ways, and what the
attacks of others were seen to do, is told in the documentation.
"""

from trueboundary.peers.inward import PeerAttack, peer_attack, peer_attacks
from trueboundary.peers.outward import as_adv_lib, as_art, as_foolbox, as_torchattacks
from trueboundary.peers.peer_table import Peer

__all__ = [
    "Peer",
    "PeerAttack",
    "as_adv_lib",
    "as_art",
    "as_foolbox",
    "as_torchattacks",
    "peer_attack",
    "peer_attacks",
]
