"""An attack of another library against classifiers whose nearest errors are known.

Foolbox's DeepFool is asked through an adapter, every success is verified again, and the table says
how much farther it stops than the truth, beside the attack of this package.
"""

import argparse

from trueboundary.attacks import NearestError
from trueboundary.audits import audit_attack
from trueboundary.peers import peer_attack

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--points", type=int, default=10, help="points of each classifier")
options = parser.parse_args()

members = ["linear", "gaussians-two"]
attacks = {"Foolbox DeepFool": peer_attack("foolbox:DeepFool-50"), "NearestError": NearestError()}
board = audit_attack(attacks, members=members, n_points=options.points)
print(f"Attacks on {' and '.join(members)}, {options.points} points each:")
print(board)
print("excess: by how much farther than the true nearest error it stops; 0.1 is a tenth")
