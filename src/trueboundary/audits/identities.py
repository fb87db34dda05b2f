"""What a classifier and a problem are known by, so that what was measured of them is found."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

import torch
from torch import Tensor

from trueboundary.audits.subjects import Subject
from trueboundary.classifiers import modules_of, outputs
from trueboundary.problems import Problem

__all__ = ["identity_of_points", "identity_of_subject"]


def identity_of_subject(subject: Subject, x: Tensor) -> str:
    """Return a digest of a classifier: of its file, code, weights and outputs at some points.

    Parameters
    ----------
    subject : Subject
        The classifier, held in eval mode.
    x : Tensor
        Points at which it is asked.

    Notes
    -----
    Of a function that uses no modules, the outputs say most: what changes none of them, nor the
    code, goes unnoticed.
    """
    digest = hashlib.sha256(subject.identity.encode())
    classifier = subject.classifier
    for module in modules_of(classifier):
        digest.update(repr(module).encode(errors="replace"))
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    code = getattr(inspect.unwrap(classifier), "__code__", None)
    if code is not None:
        digest.update(code.co_code + repr(code.co_consts).encode(errors="replace"))
    with torch.no_grad():
        digest.update(_bytes(outputs(classifier, x, allow_nan=True)))
    return digest.hexdigest()[:32]


def identity_of_points(problem: Problem, *points: Tensor) -> str:
    """Return a digest of a problem, and of points that were drawn from it."""
    text = json.dumps(problem.describe(), sort_keys=True, default=repr)
    digest = hashlib.sha256(text.encode())
    for x in points:
        digest.update(f"{x.dtype} {tuple(x.shape)}".encode())
        digest.update(_bytes(x))
    return digest.hexdigest()[:32]


def _bytes(tensor: Tensor) -> Any:
    array: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return array.tobytes()
