"""Reading arrays out of pickles without letting the pickle run anything.

MNIST and CIFAR-10 are still published as pickles written by Python 2. A pickle is a program: it may
name any function and have it called, change the state of what it finds, and ask for any amount of
memory. The reader here is a small machine of its own. It knows the instructions that plain
containers, numbers, strings and numpy's arrays need, three names that stand for no callable at all,
and limits from the sizes of the published files.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from trueboundary.regular_files import read_at_most

_PLAIN_DTYPE = re.compile(r"[|<>=]?[biuf][1248]")
# A published file has about 50,000 instructions (a name and a label for each of 10,000 images) and
# 40 containers. Containers lie in one another less deep than there are any, so that no reader of
# the result, Python's own included, runs out of stack.
_MAX_INSTRUCTIONS = 1_000_000
_MAX_CONTAINERS = 500


class _Name(Enum):
    """What a pickle may name; none of these can be called or changed."""

    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    RECONSTRUCT = "numpy.core.multiarray._reconstruct"


_KNOWN = {
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    ("numpy.core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
}


class _Refused(Exception):
    """The pickle holds something else than plain arrays; the text says what."""


@dataclass
class _Kind:
    """A dtype in the making: a pickle states its byte order after the rest."""

    code: str
    order: str = "="

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Machine:
    """Runs the instructions of one pickle on a stack of values."""

    def __init__(self, max_array_bytes: int) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._bytes_left = max_array_bytes
        self._n_containers = 0

    def run(self, content: bytes) -> Any:
        instructions = pickletools.genops(io.BytesIO(content))
        argument: Any
        for count, (opcode, argument, _) in enumerate(instructions):
            if count >= _MAX_INSTRUCTIONS:
                raise _Refused(f"it has more than {_MAX_INSTRUCTIONS:,} instructions")
            name = opcode.name
            if name in _VALUES:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _MEMORISE:
                self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
            elif name in _RECALL:
                self._stack.append(self._memo[argument])
            elif name in _CONTAINERS:
                self._n_containers += 1
                if self._n_containers > _MAX_CONTAINERS:
                    raise _Refused(f"it has more than {_MAX_CONTAINERS} lists, tuples and tables")
                self._stack.append(_CONTAINERS[name](self))
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            elif name == "STOP":
                return self._stack.pop()
            elif name not in _NO_ACTION:
                raise _Refused(f"it holds something else than plain arrays ({name})")
        raise _Refused("it has no end")  # genops sees to that first

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise _Refused("it is corrupt")
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return taken

    def _pop_to_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise _Refused("it is corrupt")
        target.extend(values)

    def _update(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(pairs) % 2:
            raise _Refused("it is corrupt")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def _table(self) -> dict[Any, Any]:
        pairs = self._pop_to_mark()
        return dict(zip(pairs[::2], pairs[1::2], strict=True))

    def _find(self, module: str, name: str) -> None:
        if (module, name) not in _KNOWN:
            raise _Refused(f"it wants to use {module}.{name}, which no file of images needs")
        self._stack.append(_KNOWN[module, name])

    def _call(self, _: Any) -> None:
        """Do what numpy's own functions would do: begin an array, or a dtype."""
        function, arguments = self._pop(2)
        if function is _Name.RECONSTRUCT and arguments[:2] == (_Name.NDARRAY, (0,)):
            self._stack.append(np.empty(0, np.int8))
        elif function is _Name.DTYPE:
            code = arguments[0]
            if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
                raise _Refused("it holds numbers of an unknown kind")
            self._stack.append(_Kind(code))
        else:
            raise _Refused("it does not hold plain arrays")

    def _build(self, _: Any) -> None:
        """Finish the array or dtype on the stack; nothing else has a state."""
        target, state = self._pop(2)
        if isinstance(target, _Kind):
            _, order, *fields = state[:5]
            if order not in ("<", ">", "=", "|") or fields != [None, None, None]:
                raise _Refused("it holds numbers of an unknown kind")
            target.order = order
        elif isinstance(target, np.ndarray):
            self._fill(target, *state)
        else:
            raise _Refused("it does not hold plain arrays")
        self._stack.append(target)

    def _fill(
        self, array: npt.NDArray[Any], _: Any, shape: Any, kind: Any, is_fortran: Any, raw: Any
    ) -> None:
        dtype = kind.dtype()
        numbers = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        if not all(type(side) is int and side >= 0 for side in shape) or len(numbers) != (
            math.prod(shape) * dtype.itemsize
        ):
            raise _Refused("an array has another size than it says")
        self._bytes_left -= len(numbers)
        if self._bytes_left < 0:
            raise _Refused("its arrays are larger than itself")
        array.__setstate__((1, tuple(shape), dtype, bool(is_fortran), numbers))  # type: ignore[arg-type]


_VALUES = frozenset(
    ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
     "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
     "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"]
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MEMORISE = frozenset(["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"])
_RECALL = frozenset(["GET", "BINGET", "LONG_BINGET"])
_NO_ACTION = frozenset(["PROTO", "FRAME"])
_CONTAINERS: dict[str, Callable[[_Machine], Any]] = {
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "LIST": _Machine._pop_to_mark,
    "DICT": _Machine._table,
    "TUPLE": lambda machine: tuple(machine._pop_to_mark()),
    "TUPLE1": lambda machine: tuple(machine._pop(1)),
    "TUPLE2": lambda machine: tuple(machine._pop(2)),
    "TUPLE3": lambda machine: tuple(machine._pop(3)),
}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "APPEND": lambda machine, _: machine._extend(machine._pop(1)),
    "APPENDS": lambda machine, _: machine._extend(machine._pop_to_mark()),
    "SETITEM": lambda machine, _: machine._update(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine._update(machine._pop_to_mark()),
    "GLOBAL": lambda machine, names: machine._find(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine._find(*machine._pop(2)),
    "REDUCE": _Machine._call,
    "BUILD": _Machine._build,
}


def load_arrays(stream: IO[bytes], name: str, *, limit: int) -> Any:
    """Return the containers, numbers, strings and numpy arrays of a pickle.

    Strings written by Python 2 are read as Latin-1. Errors call the file by `name`; the pickle may
    have `limit` bytes, and its arrays may not be larger than itself.

    Examples
    --------
    >>> import pickle
    >>> load_arrays(io.BytesIO(pickle.dumps({"labels": [3, 1]})), "example", limit=100)
    {'labels': [3, 1]}
    >>> load_arrays(io.BytesIO(pickle.dumps(print)), "example", limit=100)
    Traceback (most recent call last):
        ...
    ValueError: example is not a pickle of arrays: it wants to use builtins.print, which ...
    """
    try:
        content = read_at_most(stream, limit)
        if len(content) > limit:
            raise _Refused(f"it is larger than {limit:,} bytes")
        return _Machine(len(content)).run(content)
    except Exception as error:  # a corrupt pickle raises whatever its bytes happen to call for
        reason = str(error) if isinstance(error, _Refused) else f"it is corrupt ({error})"
        raise ValueError(
            f"{name} is not a pickle of arrays: {reason}; download it again."
        ) from None
