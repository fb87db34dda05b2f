"""Runs and values that do not survive the way to another process or back, for tests."""

import os
from dataclasses import dataclass

from trueboundary.runs import RunConfig, RunResult


class UnreadableError(Exception):
    """Its pickle cannot be read: it is made from two words and hands on one."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class UnwritableError(Exception):
    def __init__(self, words):
        super().__init__(words)
        self.how = lambda: words


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class ReadableHere:
    """An argument that cannot be read in a worker, or a value that cannot be read anywhere else."""

    def __init__(self, made_in):
        self.made_in = made_in

    def __reduce__(self):
        return _make, (self.made_in,)


def _make(made_in):
    if os.getpid() != made_in:
        raise LookupError("read elsewhere")
    return ReadableHere(made_in)


def take(value):
    return value


def give():
    return ReadableHere(os.getpid())


def raise_unreadable():
    raise UnreadableError("salt", "pepper")


def raise_unwritable():
    raise UnwritableError("a hidden function")


def give_lambda():
    return lambda: None


def leave():
    raise SystemExit("the item wants to leave")


ERRORS = {
    "unreadable": lambda: UnreadableError("salt", "pepper"),
    "unwritable": lambda: UnwritableError("a hidden function"),
    "surrogate": lambda: ValueError("photo-\udce9.png is no picture"),
    "silent": SilentError,
}


@dataclass(frozen=True)
class Strange(RunConfig):
    """Raises one of `ERRORS`, or nothing."""

    error: str

    def compute(self, context):
        if self.error:
            raise ERRORS[self.error]()
        return RunResult({})
