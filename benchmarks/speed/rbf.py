"""Errors near images of a machine with a Gaussian kernel, by attacks.

The machine is trained on two digits (see the module `mixtures` for where they come from). Our
`NearestError` is held against our Carlini-Wagner attack and against that of the Adversarial
Robustness Toolbox (ART), where it is installed; times are per image, of all images at once, and
the note has the median distances (failures count as infinite).
"""

import copy
import dataclasses
import importlib.util
from collections.abc import Callable

import numpy as np
import torch
from harness import Row, Setup, alternate
from mixtures import digits
from torch import Tensor

from trueboundary.attacks import CarliniWagnerL2, NearestError
from trueboundary.classifiers import RBFSVM
from trueboundary.classifiers.svm import fit_rbf_svm

TITLE = "Errors of a machine with a Gaussian kernel"


def rows(setup: Setup) -> list[Row]:
    """Return a row for each rival."""
    name, (train, classes), (images, labels) = digits(setup)
    n_train, n_images = setup.size(2000, 100), setup.size(20, 3)
    machine = fit_rbf_svm(train[:n_train], classes[:n_train], gamma=0.02).double()
    right = (machine.margin(images) > 0) == (labels == 1)
    x, y = images[right][:n_images], labels[right][:n_images]
    carlini_wagner = CarliniWagnerL2(n_steps=10) if setup.tiny else CarliniWagnerL2()
    sides: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: NearestError()(machine, x, y).distance,
        "our Carlini-Wagner": lambda: carlini_wagner(machine, x, y).distance,
    }
    if importlib.util.find_spec("art") is not None:
        sides["ART, Carlini-Wagner"] = _art(machine, x)
    seconds = alternate(sides, dataclasses.replace(setup, repeats=1))
    medians = {side: float(work().median()) for side, work in sides.items()}
    found = []
    for rival in ("our Carlini-Wagner", "ART, Carlini-Wagner"):
        installed = rival in sides
        found.append(
            Row(
                f"error of an image, {name}, {len(machine.support_vectors)} support vectors",
                rival,
                seconds["ours"] / len(x),
                seconds[rival] / len(x) if installed else None,
                note=(
                    f"median distance {medians['ours']:.4f}, rival {medians[rival]:.4f}"
                    if installed
                    else f"not installed; our median distance {medians['ours']:.4f}"
                ),
            )
        )
    return found


def _art(machine: RBFSVM, x: Tensor) -> Callable[[], Tensor]:
    from art.attacks.evasion import CarliniL2Method
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model=copy.deepcopy(machine).float(),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(x.shape[1],),
        nb_classes=2,
    )
    # Its default constants, from .01 on, are too small for margins of this size.
    attack = CarliniL2Method(
        classifier, initial_const=1.0, max_iter=100, batch_size=len(x), verbose=False
    )
    points = x.float().numpy()
    before = classifier.predict(points).argmax(axis=1)

    def run() -> Tensor:
        moved = attack.generate(points)
        wrong = classifier.predict(moved).argmax(axis=1) != before
        distance = np.linalg.norm(moved - points, axis=1)
        return torch.from_numpy(np.where(wrong, distance, np.inf))

    return run
