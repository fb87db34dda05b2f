"""ONNX graphs as torch modules, operator by operator.

A graph becomes a `torch.fx.GraphModule` of the layers that torch has, so that gradients flow and
whoever reads networks layer by layer can read it. Two small batches go along while it is built:
what depends on the size of the batch alone, as the shapes that exporters compute in the graph, is
told by where the two differ.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

__all__ = ["UnknownOperatorError", "module_of_graph"]

_BATCHES = (2, 3)  # sizes of the batches that go along
_LARGEST = 2**27  # numbers that a constant of the graph may have
_MOST_NODES = 100_000
_FLOATS = {1: torch.float32, 11: torch.float64}
_DTYPES = {**_FLOATS, 6: torch.int32, 7: torch.int64, 9: torch.bool}

_N_OUTPUTS = " outputs"  # among the attributes, whose names have no spaces

Attributes = dict[str, Any]
Inputs = list["_Value | None"]


class UnknownOperatorError(ValueError):
    """A graph has an operator, or a use of one, that no module is known for."""


@dataclass(frozen=True)
class _Value:
    """A value of the graph: what it is in either batch, and the node that makes it.

    There is no node where it does not depend on the points: constants, and sizes of batches.
    """

    examples: tuple[Tensor, ...]
    node: fx.Node | None = None

    @property
    def is_constant(self) -> bool:
        first, second = self.examples
        return self.node is None and first.shape == second.shape and torch.equal(first, second)

    @property
    def constant(self) -> Tensor:
        if not self.is_constant:
            raise UnknownOperatorError("an operand that is no constant")
        return self.examples[0]

    @property
    def ndim(self) -> int:
        return self.examples[0].ndim


def module_of_graph(graph: Any, shape: Sequence[int], output: str, opset: int) -> fx.GraphModule:
    """Return a graph of known operators as a module.

    Parameters
    ----------
    graph : onnx.GraphProto
        With one input that is no constant.
    shape : sequence of int
        Shape of one point.
    output : str
        Name of the output that counts.
    opset : int
        Version of the operators.

    Raises
    ------
    UnknownOperatorError
        If an operator is none of those known, with its name.
    """
    return _Builder(graph, tuple(shape), opset).build(output)


class _Builder:
    """Builds a module from a graph, node by node."""

    def __init__(self, graph: Any, shape: tuple[int, ...], opset: int) -> None:
        from onnx import numpy_helper

        self.opset = opset
        self.source = graph
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.uses.update(value.name for value in graph.output)
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[str, _Value] = {}
        for tensor in graph.initializer:
            self.values[tensor.name] = _same(_torch(numpy_helper.to_array(tensor)))
        (entry,) = [value for value in graph.input if value.name not in self.values]
        kind = entry.type.tensor_type
        if kind.elem_type not in _FLOATS:
            raise UnknownOperatorError("points in half precision")
        batch = kind.shape.dim[0]
        self.fixed_batch = batch.dim_value if batch.HasField("dim_value") else 0
        dtype = _FLOATS[kind.elem_type]
        generator = torch.Generator().manual_seed(0)
        examples = tuple(torch.rand(n, *shape, generator=generator, dtype=dtype) for n in _BATCHES)
        self.values[entry.name] = _Value(examples, self.graph.placeholder("points"))

    @torch.no_grad()
    def build(self, output: str) -> fx.GraphModule:
        """Return the module."""
        if len(self.source.node) > _MOST_NODES:
            raise UnknownOperatorError(f"{len(self.source.node):,} nodes")
        for node in self.source.node:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            make = _OPERATORS.get(node.op_type)
            if make is None or node.domain not in ("", "ai.onnx"):
                raise UnknownOperatorError(f"the operator {name}")
            inputs = [self.values[part] if part else None for part in node.input]
            try:
                attributes = {**_attributes(node), _N_OUTPUTS: len(node.output)}
                made = make(self, attributes, inputs)
            except UnknownOperatorError as error:
                raise UnknownOperatorError(f"the operator {name} with {error}") from error
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
                why = str(error).partition("\n")[0]
                raise UnknownOperatorError(f"the operator {name} ({why})") from error
            for label, value in zip(node.output, made, strict=False):
                self.values[label] = value
        found = self.values[output]
        if found.node is None:
            raise UnknownOperatorError("an output that does not depend on the points")
        self.graph.output(found.node)
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph).eval()

    def layer(self, module: nn.Module, x: _Value) -> _Value:
        """Return what a layer makes of a value."""
        module.eval().requires_grad_(False)
        examples = tuple(module(part) for part in x.examples)
        if x.node is None:
            return _Value(examples)
        name = f"layer_{len(self.root._modules)}"
        self.root.add_module(name, module)
        return _Value(examples, self.graph.call_module(name, (x.node,)))

    def call(self, function: Callable[..., Tensor], *inputs: Any) -> _Value:
        """Return what a function makes of values and plain arguments."""
        examples = tuple(
            function(*(part.examples[i] if isinstance(part, _Value) else part for part in inputs))
            for i in range(len(_BATCHES))
        )
        if not any(isinstance(part, _Value) and part.node is not None for part in inputs):
            return _Value(examples)
        arguments = tuple(self.node(part) if isinstance(part, _Value) else part for part in inputs)
        return _Value(examples, self.graph.call_function(function, arguments))

    def node(self, value: _Value) -> fx.Node:
        """Return the node of a value; a constant gets one."""
        if value.node is not None:
            return value.node
        name = f"constant_{len(self.root._buffers)}"
        self.root.register_buffer(name, value.constant.clone())
        return self.graph.get_attr(name)

    def module_behind(self, value: _Value) -> nn.Module | None:
        """Return the layer that made a value."""
        if value.node is None or value.node.op != "call_module":
            return None
        return self.root.get_submodule(str(value.node.target))


# Layers of one, two and three dimensions; what they take depends on it.
_CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAX_POOLS: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLS: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_PADS: tuple[Any, ...] = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)

Operator = Callable[[_Builder, Attributes, Inputs], Sequence[_Value]]
_OPERATORS: dict[str, Operator] = {}


def _known(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say for which operators a function makes modules, as a decorator."""

    def decorate(make: Callable[..., Any]) -> Callable[..., Any]:
        def several(builder: _Builder, attributes: Attributes, inputs: Inputs) -> Sequence[_Value]:
            made = make(builder, attributes, *inputs)
            return made if isinstance(made, (list, tuple)) else [made]

        _OPERATORS.update(dict.fromkeys(names, several))
        return make

    return decorate


# ------------------------------------------------------------------------------------ layers


@_known("Gemm")
def _gemm(b: _Builder, a: Attributes, x: _Value, weight: _Value, bias: _Value | None = None) -> Any:
    if a.get("transA") or weight.node is not None or x.ndim != 2:
        raise UnknownOperatorError("a product of two variables")
    matrix = weight.constant if a.get("transB") else weight.constant.T
    offset = None
    if bias is not None:
        offset = (a.get("beta", 1.0) * bias.constant).expand(1, len(matrix)).reshape(-1)
    return b.layer(_linear(a.get("alpha", 1.0) * matrix, offset), x)


@_known("MatMul")
def _matmul(b: _Builder, a: Attributes, x: _Value, other: _Value) -> Any:
    if x.node is not None and other.is_constant and other.ndim == 2:
        return b.layer(_linear(other.constant.T, None), x)
    return b.call(torch.matmul, x, other)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone())
    return layer


@_known("Add")
def _add(b: _Builder, a: Attributes, x: _Value, y: _Value) -> Any:
    for value, other in ((x, y), (y, x)):
        layer = b.module_behind(value)
        if (
            isinstance(layer, nn.Linear)
            and layer._parameters["bias"] is None
            and other.is_constant
            and other.constant.shape == (layer.out_features,)
            and value.node is not None
            and _is_used_once(b, value)
        ):  # a product and its offset are one layer
            layer.bias = nn.Parameter(other.constant.clone(), requires_grad=False)
            return _Value(tuple(part + other.constant for part in value.examples), value.node)
    return b.call(operator.add, x, y)


def _is_used_once(b: _Builder, value: _Value) -> bool:
    names = [name for name, known in b.values.items() if known is value]
    return len(names) == 1 and b.uses[names[0]] == 1


@_known("Conv")
def _conv(b: _Builder, a: Attributes, x: _Value, weight: _Value, bias: _Value | None = None) -> Any:
    kernel = weight.constant
    n = kernel.ndim - 2
    kind = _CONVOLUTIONS[n - 1]
    strides, dilations = _each(a, "strides", n), _each(a, "dilations", n)
    before, after = _pads(a, n, x, kernel.shape[2:], strides, dilations)
    if before != after:
        x = b.layer(_padding(before, after, 0.0), x)
        before = (0,) * n
    groups = a.get("group", 1)
    layer = kind(
        kernel.shape[1] * groups, kernel.shape[0], tuple(kernel.shape[2:]), stride=strides,
        padding=before, dilation=dilations, groups=groups, bias=bias is not None, device="meta",
    )  # fmt: skip
    layer.weight = nn.Parameter(kernel.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.constant.clone())
    return b.layer(layer, x)


@_known("BatchNormalization")
def _batch_norm(
    b: _Builder, a: Attributes, x: _Value, scale: _Value, bias: _Value, mean: _Value, var: _Value
) -> Any:
    if a.get("training_mode"):
        raise UnknownOperatorError("statistics of the batch")
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[x.ndim]
    weight = scale.constant
    layer = kind(len(weight), eps=a.get("epsilon", 1e-5), dtype=weight.dtype)
    state = {"weight": weight, "bias": bias.constant, "running_mean": mean.constant,
             "running_var": var.constant}  # fmt: skip
    layer.load_state_dict(state, strict=False)
    return b.layer(layer, x)


@_known("LayerNormalization")
def _layer_norm(
    b: _Builder, a: Attributes, x: _Value, scale: _Value, bias: _Value | None = None
) -> Any:
    if a.get("axis", -1) not in (-1, x.ndim - 1):
        raise UnknownOperatorError("several axes")
    weight = scale.constant
    layer = nn.LayerNorm(weight.shape[0], eps=a.get("epsilon", 1e-5), dtype=weight.dtype)
    offset = torch.zeros_like(weight) if bias is None else bias.constant
    layer.load_state_dict({"weight": weight, "bias": offset})
    return b.layer(layer, x)


@_known("MaxPool")
def _max_pool(b: _Builder, a: Attributes, x: _Value) -> Any:
    n = x.ndim - 2
    kernel, strides, dilations = a["kernel_shape"], _each(a, "strides", n), _each(a, "dilations", n)
    before, after = _pads(a, n, x, kernel, strides, dilations)
    if before != after or any(2 * pad > size for pad, size in zip(before, kernel, strict=True)):
        x = b.layer(_padding(before, after, -math.inf), x)
        before = (0,) * n
    kind = _MAX_POOLS[n - 1]
    ceil = bool(a.get("ceil_mode", 0))
    return b.layer(kind(tuple(kernel), strides, before, dilations, ceil_mode=ceil), x)


@_known("AveragePool")
def _average_pool(b: _Builder, a: Attributes, x: _Value) -> Any:
    n = x.ndim - 2
    kernel, strides = a["kernel_shape"], _each(a, "strides", n)
    ones = (1,) * n
    before, after = _pads(a, n, x, kernel, strides, ones)
    if before != after or _each(a, "dilations", n) != ones:
        raise UnknownOperatorError("unequal padding or dilations")
    kind = _AVERAGE_POOLS[n - 1]
    ceil, padded = bool(a.get("ceil_mode", 0)), bool(a.get("count_include_pad", 0))
    return b.layer(kind(tuple(kernel), strides, before, ceil, padded), x)


@_known("GlobalAveragePool")
def _global_average(b: _Builder, a: Attributes, x: _Value) -> Any:
    kind = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[x.ndim - 3]
    return b.layer(kind(1), x)


@_known("GlobalMaxPool")
def _global_max(b: _Builder, a: Attributes, x: _Value) -> Any:
    kind = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)[x.ndim - 3]
    return b.layer(kind(1), x)


def _each(a: Attributes, name: str, n: int) -> tuple[int, ...]:
    return tuple(a.get(name) or (1,) * n)


def _pads(
    a: Attributes, n: int, x: _Value, kernel: Any, strides: Any, dilations: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how much is added before and after along each axis."""
    kind = a.get("auto_pad", "NOTSET")
    if kind in ("NOTSET", "VALID"):
        pads = tuple(a.get("pads") or (0,) * 2 * n) if kind == "NOTSET" else (0,) * 2 * n
        return pads[:n], pads[n:]
    less, more = [], []
    sizes = x.examples[0].shape[2:]
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        missing = (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size
        less.append(max(0, missing) // 2)
        more.append(max(0, missing) - max(0, missing) // 2)
    both = (tuple(less), tuple(more))
    return both if kind == "SAME_UPPER" else both[::-1]


def _padding(before: Sequence[int], after: Sequence[int], value: float) -> nn.Module:
    pairs = [pad for pair in reversed(list(zip(before, after, strict=True))) for pad in pair]
    layer: nn.Module = _PADS[len(before) - 1](tuple(pairs), value)
    return layer


# ---------------------------------------------------------------------------- activations

_LAYERS: dict[str, Callable[[Attributes], nn.Module]] = {
    "Relu": lambda a: nn.ReLU(),
    "LeakyRelu": lambda a: nn.LeakyReLU(a.get("alpha", 0.01)),
    "Sigmoid": lambda a: nn.Sigmoid(),
    "Tanh": lambda a: nn.Tanh(),
    "Elu": lambda a: nn.ELU(a.get("alpha", 1.0)),
    "Softplus": lambda a: nn.Softplus(threshold=math.inf),
    "Softsign": lambda a: nn.Softsign(),
    "HardSwish": lambda a: nn.Hardswish(),
    "Gelu": lambda a: nn.GELU(a.get("approximate", "none")),
    "Identity": lambda a: nn.Identity(),
}


def _register_layer(name: str, make: Callable[[Attributes], nn.Module]) -> None:
    @_known(name)
    def activation(b: _Builder, a: Attributes, x: _Value) -> Any:
        return x if name == "Identity" else b.layer(make(a), x)


for _name, _make in _LAYERS.items():
    _register_layer(_name, _make)


def _register_softmax(name: str, kind: Callable[..., nn.Module]) -> None:
    @_known(name)
    def softmax(b: _Builder, a: Attributes, x: _Value) -> Any:
        axis = a.get("axis", -1 if b.opset >= 13 else 1)
        if b.opset < 13 and axis % x.ndim != x.ndim - 1:  # which flattened what follows
            raise UnknownOperatorError("several axes")
        return b.layer(kind(dim=axis), x)


_register_softmax("Softmax", nn.Softmax)
_register_softmax("LogSoftmax", nn.LogSoftmax)


@_known("PRelu")
def _prelu(b: _Builder, a: Attributes, x: _Value, slope: _Value) -> Any:
    positive = b.layer(nn.ReLU(), x)
    negative = b.call(operator.sub, x, positive)
    return b.call(operator.add, positive, b.call(operator.mul, slope, negative))


@_known("Dropout")
def _dropout(
    b: _Builder, a: Attributes, x: _Value, ratio: Any = None, training: _Value | None = None
) -> Any:
    if training is not None and bool(training.constant.any()):
        raise UnknownOperatorError("training mode")
    return x


@_known("Clip")
def _clip(
    b: _Builder, a: Attributes, x: _Value, low: _Value | None = None, high: _Value | None = None
) -> Any:
    limits = [
        float(value.constant) if value is not None else a.get(name)
        for value, name in ((low, "min"), (high, "max"))
    ]
    return b.call(torch.clamp, x, *limits)


# ----------------------------------------------------------------------------- arithmetic

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Pow": torch.pow,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Equal": torch.eq,
    "Less": torch.lt,
    "Greater": torch.gt,
    "Not": torch.logical_not,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Where": torch.where,
}


def _register_function(name: str, function: Callable[..., Tensor]) -> None:
    @_known(name)
    def arithmetic(b: _Builder, a: Attributes, *inputs: _Value) -> Any:
        return b.call(function, *inputs)


for _name, _function in _FUNCTIONS.items():
    _register_function(_name, _function)


@_known("Mod")
def _mod(b: _Builder, a: Attributes, x: _Value, y: _Value) -> Any:
    return b.call(torch.fmod if a.get("fmod") else torch.remainder, x, y)


def _divided(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


@_known("Div")
def _div(b: _Builder, a: Attributes, x: _Value, y: _Value) -> Any:
    whole = not x.examples[0].is_floating_point()
    return b.call(_divided if whole else operator.truediv, x, y)


def _register_folded(name: str, function: Callable[..., Tensor], mean: bool = False) -> None:
    @_known(name)
    def folded(b: _Builder, a: Attributes, first: _Value, *others: _Value) -> Any:
        for other in others:
            first = b.call(function, first, other)
        return b.call(operator.truediv, first, float(1 + len(others))) if mean else first


_register_folded("Sum", operator.add)
_register_folded("Min", torch.minimum)
_register_folded("Max", torch.maximum)
_register_folded("Mean", operator.add, mean=True)


def _register_reduced(name: str, function: Callable[..., Tensor]) -> None:
    @_known(name)
    def reduced(b: _Builder, a: Attributes, x: _Value, axes: _Value | None = None) -> Any:
        chosen = a.get("axes") if axes is None else axes.constant.tolist()
        if chosen is None or 0 in (axis % x.ndim for axis in chosen):
            if x.node is not None:
                raise UnknownOperatorError("a reduction over the batch")
            chosen = chosen or list(range(x.ndim))
        keep = bool(a.get("keepdims", 1))
        return b.call(function, x, tuple(chosen), keep)


_register_reduced("ReduceMean", torch.mean)
_register_reduced("ReduceSum", torch.sum)
_register_reduced("ReduceMax", torch.amax)
_register_reduced("ReduceMin", torch.amin)


@_known("ReduceProd")
def _reduce_prod(b: _Builder, a: Attributes, x: _Value, axes: _Value | None = None) -> Any:
    if x.ndim != 1 or x.node is not None:
        raise UnknownOperatorError("a product of variables")
    return b.call(torch.prod, x, 0, bool(a.get("keepdims", 1)))


@_known("Cast")
def _cast(b: _Builder, a: Attributes, x: _Value) -> Any:
    if a["to"] not in _DTYPES:
        raise UnknownOperatorError(f"the type {a['to']}")
    dtype = _DTYPES[a["to"]]
    if x.node is not None and not dtype.is_floating_point:
        raise UnknownOperatorError("whole numbers of variables")
    return b.call(torch.Tensor.to, x, dtype)


# --------------------------------------------------------------------------------- shapes


@_known("Flatten")
def _flatten(b: _Builder, a: Attributes, x: _Value) -> Any:
    if a.get("axis", 1) != 1:
        raise UnknownOperatorError(f"axis {a['axis']}")
    return b.layer(nn.Flatten(1), x)


def _reshaped(x: Tensor, *shape: int) -> Tensor:
    return x.reshape(len(x), *shape)


@_known("Reshape")
def _reshape(b: _Builder, a: Attributes, x: _Value, shape: _Value | None = None) -> Any:
    if shape is None:  # opset 1
        shape = _same(torch.tensor(a["shape"]))
    sizes = [part.tolist() for part in shape.examples]
    if x.node is None:
        examples = zip(x.examples, sizes, strict=True)
        return _Value(tuple(_resolved(part, size, a) for part, size in examples))
    given = [list(size) for size in sizes]
    if not a.get("allowzero"):
        for size, example in zip(given, x.examples, strict=True):
            size[:] = [example.shape[i] if n == 0 else n for i, n in enumerate(size)]
    first = [size[0] for size in given]
    rest = tuple(given[0][1:])
    # The first axis stays that of the points where it is as long as they are many: by its size,
    # by what is left over, or as the one size that the graph was written for.
    keeps_points = first in ([-1, -1], list(_BATCHES)) or (
        b.fixed_batch > 0 and first == [b.fixed_batch] * len(first)
    )
    n = x.examples[0][0].numel()
    fits = n == math.prod(rest) if -1 not in rest else n % math.prod(rest) == 0
    if not (keeps_points and fits and list(rest) == given[1][1:]):
        raise UnknownOperatorError("a shape that mixes points")
    if len(rest) == 1:
        return b.layer(nn.Flatten(1), x) if x.ndim != 2 else x
    return b.call(_reshaped, x, *rest)


def _resolved(x: Tensor, size: list[int], a: Attributes) -> Tensor:
    if not a.get("allowzero"):
        size = [x.shape[i] if n == 0 else n for i, n in enumerate(size)]
    return x.reshape(size)


@_known("Transpose")
def _transpose(b: _Builder, a: Attributes, x: _Value) -> Any:
    order = a.get("perm") or list(reversed(range(x.ndim)))
    if x.node is not None and order[0] != 0:
        raise UnknownOperatorError("points along another axis")
    return b.call(torch.permute, x, tuple(order))


@_known("Squeeze")
def _squeeze(b: _Builder, a: Attributes, x: _Value, axes: _Value | None = None) -> Any:
    chosen = a.get("axes") if axes is None else axes.constant.tolist()
    if chosen is None:
        chosen = [axis for axis, size in enumerate(x.examples[0].shape) if size == 1]
    return b.call(torch.squeeze, x, tuple(chosen))


@_known("Unsqueeze")
def _unsqueeze(b: _Builder, a: Attributes, x: _Value, axes: _Value | None = None) -> Any:
    chosen = a["axes"] if axes is None else axes.constant.tolist()
    total = x.ndim + len(chosen)
    for axis in sorted(axis % total for axis in chosen):
        x = b.call(torch.unsqueeze, x, axis)
    return x


def _joined(axis: int, *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=axis)


@_known("Concat")
def _concat(b: _Builder, a: Attributes, *parts: _Value) -> Any:
    if any(part.node is not None for part in parts) and a["axis"] == 0:
        raise UnknownOperatorError("points joined to points")
    return b.call(_joined, a["axis"], *parts)


def _part(x: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
    return x[(*(slice(None),) * axis, slice(start, stop, step))]


@_known("Slice")
def _slice(b: _Builder, a: Attributes, x: _Value, *limits: _Value) -> Any:
    names = ("starts", "ends", "axes", "steps")
    given = {name: value.constant.tolist() for name, value in zip(names, limits, strict=False)}
    given = {**{name: a[name] for name in names if name in a}, **given}
    starts, ends = given["starts"], given["ends"]
    axes = given.get("axes") or range(len(starts))
    steps = given.get("steps") or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1 or (axis % x.ndim == 0 and x.node is not None):
            raise UnknownOperatorError("steps back, or along the batch")
        x = b.call(_part, x, axis % x.ndim, start, end, step)
    return x


@_known("Split")
def _split(b: _Builder, a: Attributes, x: _Value, sizes: _Value | None = None) -> Any:
    axis = a.get("axis", 0) % x.ndim
    if axis == 0 and x.node is not None:
        raise UnknownOperatorError("points apart from points")
    whole = x.examples[0].shape[axis]
    parts = a.get("split") if sizes is None else sizes.constant.tolist()
    if parts is None:
        each = -(-whole // a[_N_OUTPUTS])
        parts = [min(each, whole - start) for start in range(0, whole, each)]
    ends = torch.tensor(parts).cumsum(0).tolist()
    return [
        b.call(_part, x, axis, end - size, end, 1) for size, end in zip(parts, ends, strict=True)
    ]


def _gathered(x: Tensor, axis: int, index: Tensor) -> Tensor:
    index = torch.where(index < 0, index + x.shape[axis], index)
    found = x.index_select(axis, index.reshape(-1))
    return found.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


@_known("Gather")
def _gather(b: _Builder, a: Attributes, x: _Value, index: _Value) -> Any:
    axis = a.get("axis", 0) % x.ndim
    if x.node is not None and axis == 0:
        raise UnknownOperatorError("a choice of points")
    return b.call(_gathered, x, axis, _same(index.constant.long()))


@_known("Shape")
def _shape(b: _Builder, a: Attributes, x: _Value) -> Any:
    start, end = a.get("start", 0), a.get("end")
    return _Value(tuple(torch.tensor(part.shape)[start:end] for part in x.examples))


@_known("Constant")
def _constant(b: _Builder, a: Attributes) -> Any:
    (value,) = (value for name, value in a.items() if name != _N_OUTPUTS)
    return _same(value if isinstance(value, Tensor) else torch.tensor(value))


@_known("ConstantOfShape")
def _constant_of_shape(b: _Builder, a: Attributes, shape: _Value) -> Any:
    value = a.get("value", torch.zeros(1))
    sizes = [part.tolist() for part in shape.examples]
    _check_size(*sizes)
    return _Value(tuple(value.reshape(()).expand(size).clone() for size in sizes))


@_known("Expand")
def _expand(b: _Builder, a: Attributes, x: _Value, shape: _Value) -> Any:
    sizes = [part.tolist() for part in shape.examples]
    _check_size(*sizes)
    if x.node is not None:
        raise UnknownOperatorError("a variable")
    examples = zip(x.examples, sizes, strict=True)
    return _Value(tuple(part * torch.ones(size).to(part) for part, size in examples))


@_known("Pad")
def _pad(
    b: _Builder, a: Attributes, x: _Value, pads: _Value | None = None, value: _Value | None = None,
    axes: _Value | None = None,
) -> Any:  # fmt: skip
    if a.get("mode", "constant") != "constant" or axes is not None:
        raise UnknownOperatorError("another mode than constant")
    sizes = a["pads"] if pads is None else pads.constant.tolist()
    number = a.get("value", 0.0) if value is None else float(value.constant)
    before, after = sizes[: x.ndim], sizes[x.ndim :]
    if before[0] or after[0] or max(sizes) > 10_000:
        raise UnknownOperatorError("padding of the batch")
    pairs = [pad for pair in reversed(list(zip(before, after, strict=True))) for pad in pair]
    return b.call(nn.functional.pad, x, tuple(pairs), "constant", number)


def _check_size(*sizes: Sequence[int]) -> None:
    if any(math.prod(map(abs, size)) > _LARGEST for size in sizes):
        raise UnknownOperatorError(f"more than {_LARGEST:,} numbers")


def _attributes(node: Any) -> Attributes:
    """Return the attributes of a node as plain values and tensors."""
    from onnx import AttributeProto, helper, numpy_helper

    found: Attributes = {}
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            raise UnknownOperatorError(f"the operator {node.op_type} with a graph inside")
        value = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            value = _torch(numpy_helper.to_array(value))
        elif isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        found[attribute.name] = value
    return found


def _torch(array: Any) -> Tensor:
    try:
        return torch.from_numpy(array.copy())
    except TypeError as error:
        raise UnknownOperatorError(f"numbers of type {array.dtype}") from error


def _same(constant: Tensor) -> _Value:
    return _Value((constant,) * len(_BATCHES))
