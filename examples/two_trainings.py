"""Two ways to train one network, judged on the same points against the optimal classifier.

The cross-entropy is content once a point is right, the large-margin loss only when its nearest
error is as far away as that of the optimal classifier.
"""

import argparse

import trueboundary as tb
from trueboundary.audits import TrainingSettings, audit_training

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--points", type=int, default=10, help="points of each class to attack")
parser.add_argument("--steps", type=int, default=50, help="steps of Adam")
options = parser.parse_args()

problem = tb.zoo.problem("mnist-0-6-symmetric")
found = audit_training(
    problem,
    ["standard", "large-margin"],
    seeds=1,
    settings=TrainingSettings(n_steps=options.steps),
    n_points=options.points,
    n_error_points=500,
)
print(found)

plain, robust = found.rows()
print()
print(f"Plain training reaches {plain.share:.0%} of the optimal classifier's robustness, the")
print(f"large margin {robust.share:.0%}, at {robust.gradients:g} gradients per point.")
