"""How a check fails: with one sentence that says what was expected and what came."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["equal", "form", "near", "raises", "sentence", "that", "untouched_state"]


def that(holds: bool | Tensor, sentence: str) -> None:
    """Raise an AssertionError with the sentence unless something holds."""
    if not bool(holds):
        raise AssertionError(sentence)


def form(value: Tensor, shape: tuple[int, ...], dtype: torch.dtype, what: str) -> None:
    """Expect a tensor of some shape and dtype."""
    that(
        (tuple(value.shape), value.dtype) == (tuple(shape), dtype),
        f"{what}: expected shape {tuple(shape)} in {dtype}, got {tuple(value.shape)} in "
        f"{value.dtype}.",
    )


def equal(got: Tensor, expected: Tensor, what: str) -> None:
    """Expect two tensors of equal shape, dtype and bits, NaN equal to NaN."""
    form(got, expected.shape, expected.dtype, what)
    same = (got == expected) | ((got != got) & (expected != expected))
    that(
        same.all(),
        f"{what}: expected the very same numbers, but {int((~same).sum())} of {same.numel()} "
        "differ.",
    )


def near(got: Tensor, expected: Tensor, what: str, *, rtol: float, atol: float) -> None:
    """Expect two tensors to agree to within ``atol + rtol * |expected|``."""
    form(got, expected.shape, expected.dtype, what)
    wrong = ~torch.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if bool(wrong.any()):
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.numel()} numbers differ, for instance "
            f"{got[wrong][0].item()!r} where {expected[wrong][0].item()!r} was expected."
        )


def raises(
    error: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any], what: str
) -> Exception:
    """Expect a call to raise one of some errors, with a message, and return what it raised."""
    kinds = error if isinstance(error, tuple) else (error,)
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        call()
    except kinds as raised:
        that(bool(str(raised)), f"{what}: expected a {names} with a message, got an empty one.")
        return raised
    except Exception as raised:
        raise AssertionError(
            f"{what}: expected a {names}, got {type(raised).__name__}: {raised}"
        ) from raised
    raise AssertionError(f"{what}: expected a {names}, and nothing was raised.")


def sentence(error: Exception, what: str) -> None:
    """Expect an error to say in one sentence what is wrong."""
    text = str(error)
    that(bool(text) and "\n" not in text, f"{what}: expected one sentence, got {text!r}.")


@contextmanager
def untouched_state(what: str) -> Iterator[None]:
    """Expect what runs inside to leave the global state of torch, NumPy and Python alone."""
    before = _global_state()
    yield
    for name, value in _global_state().items():
        that(value == before[name], f"{what}: expected {name} to stay as it was, but it changed.")


def _global_state() -> dict[str, Any]:
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if started else ()
    return {
        "torch's global random state": torch.get_rng_state().numpy().tobytes(),
        "CUDA's global random state": [
            torch.cuda.get_rng_state(device).numpy().tobytes() for device in devices
        ],
        "NumPy's global random state": repr(np.random.get_state(legacy=False)),  # noqa: NPY002  (to compare it)
        "Python's global random state": random.getstate(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
    }
