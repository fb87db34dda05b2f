"""Reading a network by recording what torch runs when it is called.

A stand-in for two points goes through the classifier, wrappers and all, and every operation that
torch is asked for is recorded, with the constants that it is given: layers, functions, scripted
modules, hooks and parametrizations come out alike, as the same few dozen operations. (Symbolic
traces by ``torch.fx`` end at the first check of a shape, which our own networks begin with, and
``torch.export`` takes seconds.) What is not known is refused by its name, and so is whoever looks
at the points' values to decide what to do: that would be true of some points alone.

Python code around the operations is not seen. Whoever reads a network by this must therefore hold
its outputs against the network's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from trueboundary.certificates._operations import (
    Convolution,
    Dense,
    Input,
    MaxPool,
    Mixture,
    Operation,
    Rectifier,
    Scaling,
    Shape,
    Sum,
    SumPool,
)
from trueboundary.classifiers import dtype_of, outputs

__all__ = ["Unreadable", "record"]

_BATCH = 2


class Unreadable(TypeError):
    """A classifier does what no lower bound is known for."""


def record(classifier: Any, x: Tensor) -> list[Operation]:
    """Return a classifier's operations in order: the points first, margins or logits last.

    Parameters
    ----------
    classifier : callable
        Any classifier, in eval mode.
    x : Tensor of shape ``(n, *event)``
        Points, of which the first is looked at.

    Returns
    -------
    list of Operation
        In float64. The last has the shape (1,) of a margin, or (K,) of logits.

    Raises
    ------
    Unreadable
        If it computes what no relaxation is known for, with the reason.
    """
    points = x[:1].to(dtype_of(classifier, default=x.dtype))
    tape = Tape()
    start = tape.add(Input((), tuple(x.shape[1:])), points.expand(_BATCH, *x.shape[1:]).clone())
    try:
        with torch.no_grad():
            found = outputs(classifier, start, allow_nan=True)
    except Unreadable:
        raise
    except Exception as error:  # whatever a stand-in for points makes of somebody's code
        reason = str(error).strip().partition("\n")[0]
        raise Unreadable(f"its operations cannot be recorded ({reason})") from error
    if not isinstance(found, _Recorded):
        raise Unreadable("its outputs do not come from its points by torch operations alone")
    if found.ndim == 1:
        found = tape.reshaped(found.unsqueeze(1), (_BATCH, 1))
    return tape.needed(tape.number(found))


class _Recorded(Tensor):
    """A tensor whose values are in `inner`, and which knows the operation that it comes from.

    Where nobody knows a relaxation of that, it knows why: shapes may still be asked for.
    """

    inner: Any
    tape: Tape
    node: int | str

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor, tape: Tape, node: int | str) -> _Recorded:
        made: _Recorded = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=inner.device,
        )
        made.inner, made.tape, made.node = inner, tape, node
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        tapes: list[Tape] = []

        def look(value: Any) -> Any:
            if isinstance(value, cls):
                tapes.append(value.tape)
            return value

        tree_map(look, (args, kwargs))
        return tapes[0].run(func, args, kwargs or {})


@dataclass(frozen=True)
class _Call:
    """One operation as it was called: its arguments by name, and what it returned."""

    name: str
    arguments: dict[str, Any]
    result: Tensor

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)


@dataclass
class Tape:
    """The operations so far."""

    operations: list[Operation] = field(default_factory=list)
    made: list[_Recorded] = field(default_factory=list)

    def add(self, operation: Operation, inner: Tensor) -> _Recorded:
        """Append an operation, and return the tensor that it gives."""
        self.operations.append(operation)
        return self.named(inner, len(self.operations) - 1)

    def named(self, inner: Tensor, node: int | str) -> _Recorded:
        """Return a tensor as the output of an operation, or with what is wrong with it."""
        self.made.append(_Recorded(inner, self, node))
        return self.made[-1]

    def number(self, tensor: Any) -> int:
        """Return the operation that a tensor comes from."""
        if isinstance(tensor.node, str):
            raise Unreadable(tensor.node)
        return int(tensor.node)

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation and record it."""
        name = str(func.overloadpacket).removeprefix("aten.")
        plain_args, plain_kwargs = tree_map(_plain, (args, kwargs))
        result = func(*plain_args, **plain_kwargs)
        if name in _OF_SHAPES:
            return result
        arguments = {
            given.name: args[i] if i < len(args) else kwargs.get(given.name, given.default_value)
            for i, given in enumerate(func._schema.arguments)
        }
        if name in _DECISIONS:
            raise Unreadable("what it does depends on the values of its points")
        several = not isinstance(result, Tensor)
        call = _Call(name.removesuffix("_"), arguments, result[0] if several else result)
        if func._schema.is_mutable:
            return self._changed(args[0], _read(self, call), result)
        try:
            found = _read(self, call)
        except Unreadable as error:  # which matters only if its values are used
            return tree_map(partial(self._unusable, str(error)), result)
        if several:
            rest = tree_map(partial(self._unusable, "it uses indices of a maximum"), result[1:])
            return (found, *rest)
        return found

    def _unusable(self, why: str, value: Any) -> Any:
        return self.named(value, why) if isinstance(value, Tensor) else value

    def _changed(self, tensor: Any, found: _Recorded, result: Any) -> Any:
        """Record an operation that changed a tensor in place."""
        if not isinstance(tensor, _Recorded) or not isinstance(result, Tensor):
            raise Unreadable("it writes into a tensor that is not made from its points")
        node, storage = found.node, tensor.inner.untyped_storage().data_ptr()
        for other in self.made:  # views of it, which now hold something else
            if other.inner.untyped_storage().data_ptr() == storage:
                other.node = "it uses a view of a tensor that it changed"
        tensor.node = node
        return tensor

    def needed(self, last: int) -> list[Operation]:
        """Return the operations that one depends on, in order."""
        used = {last}
        for number in range(last, -1, -1):
            if number in used:
                used.update(self.operations[number].sources)
        used.add(0)
        place = {number: i for i, number in enumerate(sorted(used))}
        return [
            replace(operation, sources=tuple(place[source] for source in operation.sources))
            for number, operation in enumerate(self.operations)
            if number in used
        ]

    # What the readers below are made of.

    def shape(self, tensor: Any) -> Shape:
        """Return the shape of a tensor's outputs for one point."""
        return self.operations[self.number(tensor)].shape

    def constant(self, value: Any, like: Tensor) -> Tensor:
        """Return a constant beside one point, in float64, broadcast to (1, *shape)."""
        number = torch.as_tensor(value, dtype=torch.float64, device=like.device).detach()
        if number.ndim == like.ndim and number.shape[0] == _BATCH:
            if not torch.equal(number[0], number[1]):
                raise Unreadable("it adds to its points or scales them by what differs among them")
            number = number[:1]
        if number.ndim > like.ndim or (number.ndim == like.ndim and number.shape[0] != 1):
            raise Unreadable("it combines several points with one another")
        return number.reshape((1,) * (like.ndim - number.ndim) + tuple(number.shape))

    def reshaped(self, tensor: Any, shape: Sequence[int]) -> _Recorded:
        """Record that each point keeps its numbers in another shape."""
        inner = tensor.inner.reshape(tuple(shape))
        source, old = self.number(tensor), self.shape(tensor)
        new = tuple(inner.shape[1:])
        if inner.shape[:1] != tensor.shape[:1]:
            raise Unreadable("it puts the numbers of several points into one row")
        if new == old:
            return self.named(inner, source)
        operation = Mixture(
            (source,), new, function=lambda inputs: inputs[0].reshape(-1, *new), inputs=(old,)
        )
        return self.add(operation, inner)

    def mixed(
        self,
        tensors: Sequence[Any],
        function: Callable[[Sequence[Tensor]], Tensor],
        inner: Tensor,
        terms: int = 1,
    ) -> _Recorded:
        """Record that each point's numbers are taken in another order, or summed."""
        sources = tuple(self.number(tensor) for tensor in tensors)
        shapes = tuple(self.shape(tensor) for tensor in tensors)
        shape = tuple(inner.shape[1:])
        return self.add(
            Mixture(sources, shape, function=function, inputs=shapes, terms=terms), inner
        )

    def scaled(self, tensor: Any, scale: Any, offset: Any, inner: Tensor) -> _Recorded:
        """Record that numbers are multiplied and shifted, each by itself."""
        if tuple(inner.shape) != tuple(tensor.shape):
            raise Unreadable("it spreads its points over a larger tensor by broadcasting")
        return self.add(
            Scaling(
                (self.number(tensor),),
                self.shape(tensor),
                scale=self.constant(scale, tensor),
                offset=None if offset is None else self.constant(offset, tensor),
            ),
            inner,
        )


def _plain(value: Any) -> Any:
    return value.inner if isinstance(value, _Recorded) else value


# --------------------------------------------------------------------------------------- readers

_Reader = Callable[[Tape, _Call], Any]
_READERS: dict[str, _Reader] = {}

#: What depends on the shape of its argument alone.
_OF_SHAPES = frozenset(
    {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
)


#: What makes a Python number or a truth value of a tensor.
_DECISIONS = frozenset({"_local_scalar_dense", "is_nonzero", "equal"})


def _read(tape: Tape, call: _Call) -> _Recorded:
    reader = _READERS.get(call.name)
    if reader is None:
        raise Unreadable(f"no relaxation of the operation {call.name!r} is known")
    found: _Recorded = reader(tape, call)
    return found


def _reads(*names: str) -> Callable[[_Reader], _Reader]:
    def decorate(reader: _Reader) -> _Reader:
        _READERS.update(dict.fromkeys(names, reader))
        return reader

    return decorate


def _own(call: _Call, *names: str) -> None:
    """Raise unless of an operation's arguments only the first comes from the points."""
    if any(isinstance(call[name], _Recorded) for name in names):
        raise Unreadable(f"it multiplies by what depends on its points ({call.name})")


def _axis(axis: int, tensor: Tensor) -> int:
    """Return an axis counted from the front, which must not be that of the points."""
    positive = axis % tensor.ndim
    if positive == 0:
        raise Unreadable("it combines several points with one another")
    return positive


def _pair(sizes: Any, default: Any = None) -> tuple[int, int]:
    values = list(sizes) if sizes is not None and len(sizes) else list(default)
    return (values[0], values[-1])


@_reads("clone", "detach", "alias", "contiguous", "_to_copy", "lift_fresh", "dropout", "positive")
def _same(tape: Tape, call: _Call) -> Any:
    if call.name == "dropout" and call["train"]:
        raise Unreadable("it drops units at random")
    if not call.result.is_floating_point():
        raise Unreadable("it rounds to whole numbers")
    source = call["self"] if call["self"] is not None else call["input"]
    return tape.named(call.result, tape.number(source))


@_reads("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten")
def _view(tape: Tape, call: _Call) -> Any:
    return tape.reshaped(call["self"], call.result.shape)


@_reads("expand")
def _expand(tape: Tape, call: _Call) -> Any:
    if tuple(call.result.shape) != tuple(call["self"].shape):
        raise Unreadable("it spreads its points over a larger tensor by broadcasting")
    return tape.named(call.result, tape.number(call["self"]))


@_reads("permute", "transpose", "t")
def _permute(tape: Tape, call: _Call) -> Any:
    axes = list(range(call.result.ndim))
    if call.name == "permute":
        axes = [axis % call.result.ndim for axis in call["dims"]]
    else:
        one, two = (0, 1) if call.name == "t" else (call["dim0"], call["dim1"])
        axes[one], axes[two] = axes[two], axes[one]
    if axes[0] != 0:
        raise Unreadable("it exchanges the axis of the points for another")
    return tape.mixed([call["self"]], lambda inputs: inputs[0].permute(axes), call.result)


@_reads("select", "slice", "index_select", "index", "flip", "constant_pad_nd")
def _selected(tape: Tape, call: _Call) -> Any:
    tensor = call["self"]
    if call.name == "select":
        axis, index = _axis(call["dim"], tensor), call["index"]
        found = tape.mixed([tensor], lambda inputs: inputs[0].select(axis, index), call.result)
    elif call.name == "slice":
        start, end, step = call["start"], call["end"], call["step"]
        if call["dim"] % tensor.ndim == 0:
            if tuple(call.result.shape) == tuple(tensor.shape):
                return tape.named(call.result, tape.number(tensor))
            raise Unreadable("it leaves out some of its points")
        axis, cut = call["dim"] % tensor.ndim, slice(start, end, step)
        at = (slice(None),) * axis + (cut,)
        found = tape.mixed([tensor], lambda inputs: inputs[0][at], call.result)
    elif call.name == "index_select":
        _own(call, "index")
        axis, chosen = _axis(call["dim"], tensor), call["index"]
        found = tape.mixed(
            [tensor], lambda inputs: inputs[0].index_select(axis, chosen), call.result
        )
    elif call.name == "index":
        indices = list(call["indices"])
        if indices[0] is not None or any(isinstance(i, _Recorded) for i in indices):
            raise Unreadable("it picks its points, or by what depends on them")
        where = tuple(slice(None) if i is None else i for i in indices)
        found = tape.mixed([tensor], lambda inputs: inputs[0][where], call.result)
        if call.result.shape[:1] != tensor.shape[:1]:
            raise Unreadable("it exchanges the axis of the points for another")
    elif call.name == "flip":
        axes = [_axis(axis, tensor) for axis in call["dims"]]
        found = tape.mixed([tensor], lambda inputs: inputs[0].flip(axes), call.result)
    else:
        sides, value = list(call["pad"]), call["value"]
        if len(sides) > 2 * (tensor.ndim - 1) or value:
            raise Unreadable("it pads by numbers other than 0, or among its points")
        found = tape.mixed(
            [tensor], lambda inputs: torch.nn.functional.pad(inputs[0], sides), call.result
        )
    return found


@_reads("cat", "stack")
def _cat(tape: Tape, call: _Call) -> Any:
    tensors, results = list(call["tensors"]), call.result
    axis = _axis(call["dim"] or 0, results)
    join = torch.cat if call.name == "cat" else torch.stack
    made = [i for i, tensor in enumerate(tensors) if isinstance(tensor, _Recorded)]
    like = tensors[made[0]]
    fixed = [None if i in made else tape.constant(tensor, like) for i, tensor in enumerate(tensors)]

    def joined(inputs: Sequence[Tensor]) -> Tensor:
        given = iter(inputs)
        n = len(inputs[0])
        parts = [
            next(given) if part is None else part.new_zeros(()).expand(n, *part.shape[1:])
            for part in fixed
        ]
        return join(parts, axis)

    found = tape.mixed([tensors[i] for i in made], joined, results)
    if len(made) == len(tensors):
        return found
    constants = [
        torch.zeros(1, *tensor.shape[1:], dtype=torch.float64) if part is None else part
        for tensor, part in zip(tensors, fixed, strict=True)
    ]
    return tape.scaled(found, 1.0, join(constants, axis), results)


@_reads("sum", "mean")
def _sum(tape: Tape, call: _Call) -> Any:
    tensor, keep = call["self"], bool(call["keepdim"])
    given = call["dim"]
    if given is None or len(given) == 0:
        raise Unreadable("it combines several points with one another")
    axes = [_axis(axis, tensor) for axis in given]
    count = math.prod(tensor.shape[axis] for axis in axes)
    found = tape.mixed([tensor], lambda inputs: inputs[0].sum(axes, keep), call.result, count)
    return found if call.name == "sum" else tape.scaled(found, 1 / count, None, call.result)


@_reads("neg", "mul", "div", "add", "sub", "rsub", "true_divide")
def _arithmetic(tape: Tape, call: _Call) -> Any:
    one, other = call["self"], call["other"]
    alpha = 1 if call["alpha"] is None else call["alpha"]
    if call["rounding_mode"] is not None:
        raise Unreadable("it rounds to whole numbers")
    if call.name == "neg":
        return tape.scaled(one, -1.0, None, call.result)
    both = isinstance(one, _Recorded) and isinstance(other, _Recorded)
    if call.name in ("mul", "div", "true_divide"):
        divides = call.name != "mul"
        if both or (divides and isinstance(other, _Recorded)):
            raise Unreadable("it multiplies or divides by what depends on its points")
        tensor, by = (one, other) if isinstance(one, _Recorded) else (other, one)
        by = tape.constant(by, tensor)
        return tape.scaled(tensor, 1 / by if divides else by, None, call.result)
    first, second = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[call.name]
    if not both:
        if isinstance(one, _Recorded):
            shift = tape.constant(other, one) * second
            return tape.scaled(one, float(first), shift, call.result)
        shift = tape.constant(one, other) * first
        return tape.scaled(other, float(second), shift, call.result)
    if tuple(one.shape) != tuple(other.shape):
        raise Unreadable("it spreads its points over a larger tensor by broadcasting")
    sources = (tape.number(one), tape.number(other))
    operation = Sum(sources, tape.shape(one), factors=(float(first), float(second)), terms=2)
    return tape.add(operation, call.result)


@_reads("addmm", "mm", "mv", "linear", "matmul")
def _dense(tape: Tape, call: _Call) -> Any:
    tensor, bias = call["self"], None
    if call.name == "addmm":
        tensor, weight, bias = call["mat1"], call["mat2"], call["self"]
        if call["alpha"] not in (None, 1) or call["beta"] not in (None, 1):
            raise Unreadable("it scales inside of addmm")
    elif call.name == "linear":
        tensor, weight, bias = call["input"], call["weight"].T, call["bias"]
    elif call.name == "mv":
        weight = call["vec"]
    else:
        weight = call["mat2"] if call.name == "mm" else call["other"]
    if isinstance(weight, _Recorded) or isinstance(bias, _Recorded):
        raise Unreadable("it multiplies by what depends on its points")
    if not isinstance(tensor, _Recorded) or tensor.ndim != 2:
        raise Unreadable("it multiplies a matrix with several rows of each point")
    matrix = weight.detach().double()
    matrix = (matrix[:, None] if matrix.ndim == 1 else matrix).T.contiguous()
    shape = (len(matrix),)
    offset = None
    if bias is not None:
        offset = bias.detach().double().expand(1, *shape)
    made = tape.add(
        Dense((tape.number(tensor),), shape, weight=matrix, offset=offset, terms=matrix.shape[1]),
        call.result if call.result.ndim == 2 else call.result[:, None],
    )
    return made if call.result.ndim == 2 else tape.reshaped(made, call.result.shape)


@_reads("convolution")
def _convolution(tape: Tape, call: _Call) -> Any:
    _own(call, "weight", "bias")
    tensor, weight = call["input"], call["weight"].detach().double()
    if call["transposed"]:
        raise Unreadable("no relaxation of a transposed convolution is known")
    n_axes = tensor.ndim - 2
    if n_axes not in (1, 2):
        raise Unreadable(f"no relaxation of a convolution in {n_axes} dimensions is known")
    settings = [[*call[name]] for name in ("stride", "padding", "dilation")]
    if n_axes == 1:  # a row of an image
        tensor = tape.reshaped(tensor, (*tensor.shape[:2], 1, tensor.shape[2]))
        weight = weight[:, :, None]
        settings = [[[1, 0, 1][i], *given] for i, given in enumerate(settings)]
    stride, padding, dilation = (_pair(given) for given in settings)
    inner = call.result if n_axes == 2 else call.result[:, :, None]
    bias = call["bias"]
    made = tape.add(
        Convolution(
            (tape.number(tensor),),
            tuple(inner.shape[1:]),
            weight=weight.contiguous(),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=call["groups"],
            offset=None if bias is None else bias.detach().double()[None, :, None, None],
            terms=weight[0].numel(),
        ),
        inner,
    )
    return made if n_axes == 2 else tape.reshaped(made, call.result.shape)


@_reads("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
def _batch_norm(tape: Tape, call: _Call) -> Any:
    _own(call, "weight", "bias", "running_mean", "running_var")
    if call["training"] or call["running_mean"] is None:
        raise Unreadable("it normalises by the statistics of the batch")
    tensor, eps = call["input"], call["eps"] if call["eps"] is not None else call["epsilon"]
    mean, variance = (call[name].detach().double() for name in ("running_mean", "running_var"))
    scale = 1 / (variance + eps).sqrt()
    if call["weight"] is not None:
        scale = scale * call["weight"].detach().double()
    shift = -scale * mean
    if call["bias"] is not None:
        shift = shift + call["bias"].detach().double()
    view = (-1, *[1] * (tensor.ndim - 2))
    return tape.scaled(tensor, scale.reshape(view), shift.reshape(view), call.result)


@_reads("relu", "leaky_relu", "_prelu_kernel", "threshold", "clamp", "clamp_min")
def _rectifier(tape: Tape, call: _Call) -> Any:
    tensor = call["self"]
    slope: Any = 0.0
    if call.name == "leaky_relu":
        slope = call["negative_slope"]
    elif call.name == "_prelu_kernel":
        _own(call, "weight")
        slope = call["weight"]
    elif call.name == "threshold":
        if (call["threshold"], call["value"]) != (0, 0):
            raise Unreadable("no relaxation of a threshold other than 0 is known")
    elif call.name in ("clamp", "clamp_min") and (call["min"] != 0 or call["max"] is not None):
        raise Unreadable("no relaxation of a clamp other than one from 0 is known")
    slopes = tape.constant(slope, tensor)
    if not bool(((slopes >= 0) & (slopes <= 1)).all()):
        raise Unreadable("no relaxation of a leaky ReLU of a slope outside of 0 to 1 is known")
    return tape.add(
        Rectifier((tape.number(tensor),), tape.shape(tensor), slope=slopes), call.result
    )


def _image(tensor: Any) -> None:
    if tensor.ndim != 4:
        raise Unreadable("no relaxation of pooling other than that of images is known")


def _floored(call: _Call, kernel: Any, stride: Any, padding: Any, dilation: Any) -> None:
    """Raise where pooling goes beyond the padded image."""
    for size, found, k, s, p, d in zip(
        call["self"].shape[2:],
        call.result.shape[2:],
        kernel,
        stride,
        padding,
        dilation,
        strict=True,
    ):
        if found != (size + 2 * p - d * (k - 1) - 1) // s + 1:
            raise Unreadable("no relaxation of pooling with ceil_mode is known")


@_reads("avg_pool2d")
def _average_pool(tape: Tape, call: _Call) -> Any:
    tensor = call["self"]
    _image(tensor)
    kernel = _pair(call["kernel_size"])
    stride, padding = _pair(call["stride"], kernel), _pair(call["padding"], (0, 0))
    _floored(call, kernel, stride, padding, (1, 1))
    ones = torch.ones(1, 1, *tensor.shape[2:], dtype=torch.float64, device=tensor.device)
    ceil, inside, divisor = (
        call[name] for name in ("ceil_mode", "count_include_pad", "divisor_override")
    )
    average = torch.nn.functional.avg_pool2d
    means = average(ones, kernel, stride, padding, bool(ceil), bool(inside), divisor)
    sums = average(ones, kernel, stride, padding, divisor_override=1)
    return _averaged(tape, call, kernel, stride, padding, means / sums)


@_reads("_adaptive_avg_pool2d", "adaptive_avg_pool2d")
def _adaptive_pool(tape: Tape, call: _Call) -> Any:
    tensor = call["self"]
    _image(tensor)
    sizes, wanted = tuple(tensor.shape[2:]), tuple(call.result.shape[2:])
    if any(size % want for size, want in zip(sizes, wanted, strict=True)):
        raise Unreadable("no relaxation of adaptive pooling into unequal windows is known")
    kernel = _pair([size // want for size, want in zip(sizes, wanted, strict=True)])
    return _averaged(tape, call, kernel, kernel, (0, 0), 1 / math.prod(kernel))


def _averaged(
    tape: Tape,
    call: _Call,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    weight: Any,
) -> Any:
    sums = tape.add(
        SumPool(
            (tape.number(call["self"]),),
            tuple(call.result.shape[1:]),
            kernel=kernel,
            stride=stride,
            padding=padding,
            terms=math.prod(kernel),
        ),
        call.result,
    )
    return tape.scaled(sums, weight, None, call.result)


@_reads("max_pool2d_with_indices", "max_pool2d")
def _max_pool(tape: Tape, call: _Call) -> Any:
    tensor = call["self"]
    _image(tensor)
    kernel = _pair(call["kernel_size"])
    stride, padding = _pair(call["stride"], kernel), _pair(call["padding"], (0, 0))
    dilation = _pair(call["dilation"], (1, 1))
    _floored(call, kernel, stride, padding, dilation)
    return tape.add(
        MaxPool(
            (tape.number(tensor),),
            tuple(call.result.shape[1:]),
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
        ),
        call.result,
    )
