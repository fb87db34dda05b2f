"""How many points a classifier can take at a time without filling the memory."""

from __future__ import annotations

import torch
from torch import Tensor

from trueboundary.classifiers import Classifier, modules_of, outputs, value_and_gradient

__all__ = ["MEMORY", "bytes_per_point", "most_points"]

#: Bytes that a batch of points may take, with what autograd and an attack keep of it.
MEMORY = 2**30

_KEPT = 40  # copies of a point that an attack keeps, in float64: steps, planes, starts
_ROOM = 2  # for what a layer needs besides what is saved for the way back


def bytes_per_point(classifier: Classifier, x: Tensor) -> int:
    """Return what autograd saves for a point on its way through a classifier, in bytes.

    Parameters
    ----------
    classifier : callable
        Held in eval mode.
    x : Tensor
        At least two points; two batches, of one and of two, are sent through.

    Notes
    -----
    What is saved for both is of the classifier itself, such as weights, and what the second batch
    has more is that of a point.

    Examples
    --------
    >>> import torch
    >>> from trueboundary.audits.batch_sizes import bytes_per_point
    >>> layer = torch.nn.Sequential(torch.nn.Linear(10, 1000), torch.nn.ReLU())
    >>> bytes_per_point(torch.nn.Sequential(*layer, torch.nn.Linear(1000, 3)), torch.zeros(2, 10))
    4040
    """
    own = {
        tensor.untyped_storage().data_ptr()
        for module in modules_of(classifier)
        for tensor in (*module.parameters(), *module.buffers())
    }
    sizes = []
    for n in (1, 2):
        saved: dict[int, int] = {}

        def pack(tensor: Tensor, saved: dict[int, int] = saved) -> Tensor:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            value_and_gradient(lambda points: outputs(classifier, points, allow_nan=True), x[:n])
        sizes.append(sum(size for place, size in saved.items() if place not in own))
    return max(0, sizes[1] - sizes[0])


def most_points(classifier: Classifier, x: Tensor, *, n_ways: int = 1) -> int:
    """Return how many points may be attacked at a time within `MEMORY`, at least 1.

    Parameters
    ----------
    classifier, x
        As for `bytes_per_point`.
    n_ways : int
        Ways that are searched at a time from each point.
    """
    copies = _KEPT * 8 * x[0].numel()
    return max(1, MEMORY // (n_ways * (copies + _ROOM * bytes_per_point(classifier, x))))
