"""A network of your own, trained on digits by a loop of your own, and its robustness card.

The digits are drawn from known densities, so that the card can say how much farther away the
errors of the best possible classifier are, from the same images.
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader

import trueboundary as tb
from trueboundary.audits import load_problem

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--problem", default="mnist-0-6-symmetric", help="or digits, for all ten")
parser.add_argument("--points", type=int, default=10, help="images of each digit that are attacked")
parser.add_argument("--batches", type=int, default=200, help="batches of 50 images to train on")
options = parser.parse_args()

torch.manual_seed(0)
digits = load_problem(options.problem)
layers = [nn.Conv2d(1, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(512, digits.n_classes)]
network = nn.Sequential(*layers)

optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
fresh = digits.fresh_batches(50, n_batches=options.batches, seed=0, as_images=True)
for x, y in DataLoader(fresh, batch_size=None):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(x), y).backward()
    optimizer.step()

# The points of the audit are flat: tell how the network likes its images.
mine = tb.as_classifier(network, preprocess=(0.0, 1.0, (1, 28, 28)))
print(tb.audit(mine, digits, name="my CNN", n_points=options.points, n_error_points=500))
