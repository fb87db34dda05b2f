"""Classifiers that say a class and nothing else: trees, neighbours, votes, foreign programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trueboundary._checks import check_integer
from trueboundary.classifiers.adapters import CallableClassifier
from trueboundary.classifiers.base import Classifier, ClassifierModule

__all__ = ["LabelsAlone", "is_labels_alone", "labels_of_sklearn"]

Floats = npt.NDArray[np.float64]
Predict = Callable[[Floats], Any]


class LabelsAlone(ClassifierModule):
    """A classifier that is asked for its labels alone.

    Its margins are -1 and +1, its logits 1 for the class that it says and 0 for all others. They
    have no gradient: attacks that climb find nothing and say so, and no certificate reads them.
    `trueboundary.attacks.HopSkipJump` needs no more.

    Parameters
    ----------
    predict : callable
        Maps points, a float64 array ``(n, dim)``, to their classes 0 to K - 1, ``(n,)``.
    n_classes : int
        Number of classes K, at least 2.
    dim : int
        Numbers per point; points may have any event shape of as many.
    why : str
        Why there are no logits, the rest of a sentence that begins with "it".

    Examples
    --------
    >>> import torch
    >>> from trueboundary.classifiers import LabelsAlone
    >>> tree = LabelsAlone(lambda points: points[:, 0] > 0.5, n_classes=2, dim=2)
    >>> tree.margin(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    tensor([ 1., -1.])
    """

    def __init__(
        self, predict: Predict, n_classes: int, dim: int, why: str = "says its labels alone"
    ) -> None:
        super().__init__()
        self.function = predict
        self._n_classes = check_integer("n_classes", n_classes, minimum=2)
        self.dim = check_integer("dim", dim, minimum=1)
        self.why = why
        # Whoever reads the dtype of the points off the parameters loses no digit.
        zero = torch.zeros((), dtype=torch.float64)
        self.placeholder = nn.Parameter(zero, requires_grad=False)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._n_classes

    def outputs(self, x: Tensor) -> Tensor:
        """Return -1 and +1 of two classes, shape ``(n,)``, or 0 and 1 of more, ``(n, K)``."""
        points = x.flatten(1).double().numpy(force=True)
        if points.shape[1] != self.dim:
            raise ValueError(
                f"expected points of {self.dim} numbers each, got points of shape "
                f"{tuple(x.shape[1:])}."
            )
        labels = np.asarray(self.function(points))
        if labels.shape != (len(points),):
            raise ValueError(
                f"expected one label for each of {len(points)} points, got shape {labels.shape}."
            )
        found = torch.from_numpy(labels.astype(np.int64)).to(x.device)
        if bool(((found < 0) | (found >= self._n_classes)).any()):
            raise ValueError(
                f"expected labels from 0 to {self._n_classes - 1}, got "
                f"{sorted(set(found.tolist()))}."
            )
        if self._n_classes == 2:
            return (2 * found - 1).to(x)
        return nn.functional.one_hot(found, self._n_classes).to(x)


def labels_of_sklearn(estimator: Any, why: str = "") -> LabelsAlone:
    """Take any fitted scikit-learn classifier by its labels alone.

    Parameters
    ----------
    estimator : object
        With ``predict``, ``classes_`` and ``n_features_in_``. Class k is ``classes_[k]``.
    why : str
        Why there are no logits, as for `LabelsAlone`.

    Raises
    ------
    ValueError
        If it is not fitted, or is no classifier.

    Examples
    --------
    >>> import torch
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from trueboundary.classifiers import labels_of_sklearn
    >>> tree = labels_of_sklearn(DecisionTreeClassifier().fit([[0.0], [1.0]], ["no", "yes"]))
    >>> tree.predict(torch.tensor([[0.2], [0.8]]))
    tensor([0, 1])
    """
    name = type(estimator).__name__
    classes, dim = (getattr(estimator, part, None) for part in ("classes_", "n_features_in_"))
    if classes is None or dim is None or not hasattr(estimator, "predict"):
        raise ValueError(
            f"expected a fitted classifier, got a {name} without classes_; fit it, or fit a "
            "classifier instead if it is none."
        )
    names = np.asarray(classes)
    if names.ndim != 1 or len(names) < 2:
        raise ValueError(
            f"expected a classifier of one label with two classes or more, got a {name} with the "
            f"classes {classes!r}."
        )

    def predict(points: Floats) -> Any:
        return np.searchsorted(names, estimator.predict(points))

    return LabelsAlone(
        predict, len(names), int(dim), why or f"is a {name}, which says its labels alone"
    ).eval()


def is_labels_alone(classifier: Classifier) -> bool:
    """Whether a classifier, or the one that an adapter holds, is asked for its labels alone.

    Examples
    --------
    >>> from trueboundary.classifiers import LabelsAlone, as_classifier, is_labels_alone
    >>> tree = LabelsAlone(lambda points: points[:, 0] > 0.5, n_classes=3, dim=2)
    >>> is_labels_alone(as_classifier(tree, classes=(0, 2)))
    True
    """
    while isinstance(classifier, CallableClassifier):
        classifier = classifier.function
    return isinstance(classifier, LabelsAlone)
