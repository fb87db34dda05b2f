"""A machine of scikit-learn, fitted to arrays, and how far its nearest errors are.

A linear machine becomes a module whose nearest errors are known in closed form, and the optimal
classifier of the same images shows what another boundary could have done.
"""

import argparse

from sklearn.svm import LinearSVC

import trueboundary as tb

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--points", type=int, default=20, help="images of each class to attack")
options = parser.parse_args()

problem = tb.zoo.problem("mnist-0-6-symmetric")
x, y = problem.to_numpy(1000, split="train", seed=0)
machine = LinearSVC(C=0.01).fit(x, y)

card = tb.audit(machine, problem, name="LinearSVC", n_points=options.points)
print(card)
print()
open_part = max((part.upper - part.lower).max() for part in card.classes)
print(f"Its distances are known to {open_part:.0e}: a plane's nearest error has a closed form.")
best = min(part.best_lower.min() for part in card.classes)
print(f"From each of these images the optimal classifier's is at least {best:.2f} away.")
