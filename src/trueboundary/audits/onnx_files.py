"""ONNX files: torch modules where every operator is known, else labels through onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from trueboundary.audits.onnx_modules import UnknownOperatorError, module_of_graph
from trueboundary.classifiers import Classifier, LabelsAlone
from trueboundary.plain_text import printable
from trueboundary.plurals import plural
from trueboundary.regular_files import open_regular, read_regular, reason

if TYPE_CHECKING:
    from trueboundary.problems import Problem

__all__ = ["MAX_FILE", "load_onnx"]

#: Bytes that such a file may have, with the weights that lie beside it.
MAX_FILE = 2**30

_N_CHECKED = 50  # points of each class at which a module is compared with onnxruntime
_TOLERANCE = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-9}  # of the largest output
_BATCH = 256
_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
}


def load_onnx(file: str | Path, problem: Problem | None = None) -> tuple[Classifier, str]:
    """Return the classifier of an ONNX file, and a sentence on how it is taken.

    Parameters
    ----------
    file : str or Path
        One input of floating-point numbers, the points, whose first axis is the batch; the first
        output of such numbers has the logits. At most 1 GiB with the weights that lie beside it.
    problem : Problem, optional
        What its points are compared at; random ones by default.

    Raises
    ------
    ImportError
        If onnx or onnxruntime is not installed.
    ValueError
        If it is no such file, is too large, takes other points or reaches out of its folder.

    Notes
    -----
    Such a file runs no code of its own. Weights beside it are read from plain files of its very
    folder, by us alone: what leads elsewhere is refused.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "an .onnx file needs the packages onnx and onnxruntime: pip install "
            "'trueboundary[onnx]'."
        ) from error
    file = Path(file)
    try:
        content = read_regular(file, MAX_FILE)
        model = onnx.ModelProto.FromString(content)
        if not model.graph.node:
            raise ValueError("it has no operators")
        _take_in(model, file.parent, MAX_FILE - len(content))
        session = _session(onnxruntime, model)
    except FileNotFoundError as error:
        missing = file if error.filename in (None, str(file)) else Path(error.filename).name
        raise ValueError(f"there is no file {missing}.") from None
    except Exception as error:  # of a damaged file anything may be raised
        why = printable(" ".join(reason(error).split()))[:200]
        raise ValueError(f"{file} is no ONNX file that can be run ({why}).") from error
    try:
        runtime = _Runtime.of(model, session, problem)
    except UnknownOperatorError as error:
        raise ValueError(f"{file} has {error}.") from error
    points = runtime.some_points(problem)
    try:
        expected = runtime(points)
    except Exception as error:
        why = printable(" ".join(str(error).split()))[:200]
        raise ValueError(
            f"{file} cannot be run at points of shape {runtime.shape} ({why})."
        ) from error
    if expected.ndim not in (1, 2):
        raise ValueError(
            f"{file} returns shape {expected.shape} for {plural(len(points), 'point')}; expected "
            "one logit per class."
        )
    try:
        module = _with_shape(module_of_graph(model.graph, runtime.shape, runtime.output,
                                             _opset(model)), runtime)  # fmt: skip
        worst = _require_agreement(module, points, expected, runtime)
    except UnknownOperatorError as error:
        why = f"has {error}, for which no torch module is known"
        labels = runtime.labels(expected, problem, why)
        return labels, f"{file} {why}, and is audited by its labels alone, through onnxruntime."
    n = plural(len(model.graph.node), "operator")
    return module, (
        f"{file}: {n} became torch modules, which differ from onnxruntime by at most {worst:.1g} "
        f"at {plural(len(points), 'point')}."
    )


def _take_in(model: Any, folder: Path, limit: int) -> None:
    """Read the weights that lie in files beside a model, which its own loader would not guard."""
    from onnx import TensorProto

    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        where = {entry.key: entry.value for entry in tensor.external_data}
        name = where.get("location", "")
        place = folder / name
        if not name or Path(name).name != name or name in (".", "..") or "\\" in name:
            raise ValueError(f"its weights lie in {name!r}, out of its folder")
        if place.is_symlink():
            raise ValueError(f"its weights lie in {name!r}, which is a link")
        offset, length = int(where.get("offset", 0)), int(where.get("length", 0))
        with open_regular(place) as stream:
            size = stream.seek(0, 2)
            length = length or size - offset
            if offset < 0 or length < 0 or offset + length > size:
                raise ValueError(f"{name!r} ends before the weights that should lie in it")
            limit -= length
            if limit < 0:
                raise ValueError(f"it has more than {MAX_FILE:,} bytes with its weights")
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(message: Any) -> list[Any]:
    """Return all tensors anywhere in a model."""
    from google.protobuf.message import Message
    from onnx import TensorProto

    found, waiting = [], [message]
    while waiting:
        part = waiting.pop()
        if isinstance(part, TensorProto):
            found.append(part)
            continue
        for _, value in part.ListFields():
            if isinstance(value, Message):
                waiting.append(value)
            elif not isinstance(value, (str, bytes, int, float)):
                waiting += [entry for entry in value if isinstance(entry, Message)]
    return found


def _session(onnxruntime: Any, model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _opset(model: Any) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=1)


@dataclass(frozen=True)
class _Runtime:
    """A graph that onnxruntime runs, as a function of points ``(n, *event)``."""

    session: Any
    entry: str
    output: str
    shape: tuple[int, ...]  # of one point
    dtype: np.dtype[Any]
    fixed_batch: int  # 0 where it takes any
    channels_last: bool

    @classmethod
    def of(cls, model: Any, session: Any, problem: Problem | None) -> _Runtime:
        """Read off the graph what it takes and returns."""
        constants = {tensor.name for tensor in model.graph.initializer}
        entries = [value for value in model.graph.input if value.name not in constants]
        if len(entries) != 1:
            raise UnknownOperatorError(f"{plural(len(entries), 'input')}; expected one, the points")
        kind = entries[0].type.tensor_type
        if kind.elem_type not in _TYPES:
            raise UnknownOperatorError("an input that is no floating-point tensor")
        dims = list(kind.shape.dim)
        if not dims:
            raise UnknownOperatorError("an input of no shape")
        outputs = [
            value.name
            for value in model.graph.output
            if value.type.tensor_type.elem_type in (*_TYPES, 16)
        ] or [value.name for value in model.graph.output]
        image = getattr(problem, "image_shape", None)
        shape, channels_last = _shape([d.dim_value for d in dims[1:]], problem, image)
        return cls(
            session, entries[0].name, outputs[0], shape, _TYPES[kind.elem_type],
            dims[0].dim_value, channels_last,
        )  # fmt: skip

    def __call__(self, points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the output at points in the shape of the graph, batch by batch."""
        size = self.fixed_batch or _BATCH
        parts = []
        for start in range(0, len(points), size):
            part = points[start : start + size].astype(self.dtype)
            n = len(part)
            if self.fixed_batch and n < size:
                part = np.concatenate([part, np.repeat(part[-1:], size - n, axis=0)])
            (found,) = self.session.run([self.output], {self.entry: part})
            parts.append(np.asarray(found)[:n])
        return np.concatenate(parts)

    def some_points(self, problem: Problem | None) -> npt.NDArray[Any]:
        """Return points of all classes, as the graph takes them."""
        if problem is None:
            generator = torch.Generator().manual_seed(0)
            drawn = torch.rand(_N_CHECKED, math.prod(self.shape), generator=generator)
        else:
            drawn = torch.cat(
                [
                    problem.block(0, seed=0, block_size=_N_CHECKED, label=label,
                                  dtype=torch.float64, purpose="outputs")[0].flatten(1)
                    for label in range(problem.n_classes)
                ]
            )  # fmt: skip
        return self.arranged(drawn).numpy().astype(self.dtype)

    def arranged(self, x: Tensor) -> Tensor:
        """Return points as the graph takes them: in its shape, and in its order of axes."""
        if self.channels_last:
            *rest, channels = self.shape
            return x.reshape(-1, channels, *rest).movedim(1, -1)
        return x.reshape(-1, *self.shape)

    def labels(self, expected: npt.NDArray[Any], problem: Problem | None, why: str) -> LabelsAlone:
        """Return the graph as a classifier that is asked for its labels alone."""
        is_label = not np.issubdtype(expected.dtype, np.floating)
        if is_label:  # a class, and no logits
            n_classes = 2 if problem is None else problem.n_classes
        else:
            n_classes = 2 if expected.ndim == 1 else max(2, expected.shape[1])

        def predict(points: npt.NDArray[np.float64]) -> Any:
            found = self(self.arranged(torch.from_numpy(points)).numpy())
            if is_label:
                return found.reshape(len(points))
            if found.ndim == 1 or found.shape[1] == 1:
                return found.reshape(len(points)) > 0
            return found.argmax(axis=1)

        return LabelsAlone(predict, n_classes, math.prod(self.shape), why).eval()


def _shape(
    dims: Sequence[int], problem: Problem | None, image: tuple[int, ...] | None
) -> tuple[tuple[int, ...], bool]:
    """Return the shape of one point, with what is open filled in, and whether channels are last."""
    known = tuple(dims)
    if problem is None:
        return tuple(size or 1 for size in known) or (1,), False
    event = math.prod(tuple(problem.event_shape))
    candidates = [tuple(problem.event_shape), (event,)]
    if image is not None:
        candidates.insert(0, tuple(image))
        candidates.append((*image[1:], image[0]))
    for candidate in candidates:
        pairs = zip(known, candidate, strict=False)
        if len(known) == len(candidate) and all(own in (0, size) for own, size in pairs):
            is_last = image is not None and candidate != tuple(image) and len(candidate) > 1
            return candidate, is_last and image is not None and image[0] > 1
    if math.prod(known) == event and 0 not in known:
        return known, False
    written = " x ".join(str(size) if size else "?" for size in known) or "nothing"
    raise UnknownOperatorError(f"points of {written} numbers, and the problem's have {event}")


class _Arranged(nn.Module):
    """A module of points in another shape than they come in."""

    def __init__(self, body: fx.GraphModule, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.body = shape, body

    def forward(self, x: Tensor) -> Any:
        return self.body(x.reshape(-1, *self.shape))


class _ChannelsLast(_Arranged):
    """The same of images whose channels come last."""

    def forward(self, x: Tensor) -> Any:
        *rest, channels = self.shape
        return self.body(x.reshape(-1, channels, *rest).movedim(1, -1))


def _with_shape(body: fx.GraphModule, runtime: _Runtime) -> nn.Module:
    kind = _ChannelsLast if runtime.channels_last else _Arranged
    return kind(body, runtime.shape).eval()


@torch.no_grad()
def _require_agreement(
    module: nn.Module, points: npt.NDArray[Any], expected: npt.NDArray[Any], runtime: _Runtime
) -> float:
    """Return by how much a module differs from onnxruntime, or say that it is too much."""
    flat = torch.from_numpy(points)
    if runtime.channels_last:
        flat = flat.movedim(-1, 1)
    own = module(flat.flatten(1)).numpy()
    if own.shape != expected.shape:
        raise UnknownOperatorError(f"outputs of shape {expected.shape} that became {own.shape}")
    difference = float(np.abs(own - expected).max())
    allowed = _TOLERANCE[runtime.dtype] * float(np.abs(expected).max())
    if not difference <= allowed:  # a NaN is not
        raise UnknownOperatorError(
            f"outputs that torch computes differently, by {difference:.2g} at the points"
        )
    return difference
