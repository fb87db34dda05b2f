"""ONNX graphs as torch modules, each compared with onnxruntime."""

import json

import numpy as np
import pytest
import torch

import trueboundary as tb
from trueboundary.audits import load_subject, onnx_files
from trueboundary.audits.onnx_files import load_onnx
from trueboundary.classifiers import LabelsAlone, outputs
from trueboundary.cli import main
from trueboundary.densities import LowRankGaussian
from trueboundary.problems import ImageProblem, planar_problem

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)
IMAGES = (2, 6, 6)


def weights(*shape, dtype=np.float32):
    return RNG.normal(size=shape).astype(dtype)


def saved(file, nodes, constants, shape, *, batch="n", outputs=("y",), opset=17, kind=None, **more):
    """Write a graph of these nodes from x to y."""
    kind = TensorProto.FLOAT if kind is None else kind
    graph = helper.make_graph(
        [helper.make_node(op, list(ins), list(outs), **attributes)
         for op, ins, outs, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info("x", kind, [batch, *shape])],
        [helper.make_tensor_value_info(name, more.get("out", kind), None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, file)
    return str(file)


def run(file, points):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": points})[0]


CONV = {"w": weights(4, 2, 3, 3), "b": weights(4)}
NORM = {"s": weights(2) ** 2, "o": weights(2), "m": weights(2), "v": weights(2) ** 2 + 0.1}
OPERATORS = {
    "Conv": ([("Conv", "xwb", "h", {"pads": [1, 1, 1, 1], "strides": [2, 2]})], CONV, 17),
    "Conv uneven": ([("Conv", "xwb", "h", {"pads": [0, 1, 2, 1]})], CONV, 17),
    "Conv same": ([("Conv", "xw", "h", {"auto_pad": "SAME_UPPER", "strides": [2, 1]})], CONV, 17),
    "Conv same lower": ([("Conv", "xw", "h", {"auto_pad": "SAME_LOWER"})], CONV, 17),
    "Conv groups": (
        [("Conv", "xw", "h", {"group": 2, "dilations": [2, 1]})],
        {"w": weights(4, 1, 2, 2)},
        17,
    ),
    "BatchNormalization": (
        [("BatchNormalization", "xsomv", "h", {"epsilon": 1e-3})],
        NORM,
        17,
    ),
    "MaxPool": ([("MaxPool", "x", "h", {"kernel_shape": [3, 2], "strides": [2, 2]})], {}, 17),
    "MaxPool padded": (
        [("MaxPool", "x", "h", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "strides": [2, 2]})],
        {},
        17,
    ),
    "MaxPool ceil": (
        [("MaxPool", "x", "h", {"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1})],
        {},
        17,
    ),
    "AveragePool": (
        [("AveragePool", "x", "h", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
        {},
        17,
    ),
    "AveragePool counted": (
        [("AveragePool", "x", "h", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1],
                                    "count_include_pad": 1, "strides": [2, 2]})],
        {},
        17,
    ),
    "GlobalAveragePool": ([("GlobalAveragePool", "x", "h", {})], {}, 17),
    "GlobalMaxPool": ([("GlobalMaxPool", "x", "h", {})], {}, 17),
    "Transpose": ([("Transpose", "x", "h", {"perm": [0, 2, 3, 1]})], {}, 17),
    "Clip": ([("Clip", ["x", "l", "u"], "h", {})],
             {"l": np.float32(-0.5), "u": np.float32(0.25)}, 17),
    "Clip attributes": ([("Clip", "x", "h", {"min": -0.5, "max": 0.5})], {}, 8),
    "LeakyRelu": ([("LeakyRelu", "x", "h", {"alpha": 0.3})], {}, 17),
    "PRelu": ([("PRelu", "xs", "h", {})], {"s": weights(2, 1, 1)}, 17),
    "Softmax": ([("Softmax", "x", "h", {"axis": 1})], {}, 17),
    "LogSoftmax": ([("LogSoftmax", "x", "h", {})], {}, 17),
    "Concat": ([("Relu", "x", "r", {}), ("Concat", "rx", "h", {"axis": 1})], {}, 17),
    "Residual": ([("Tanh", "x", "r", {}), ("Add", "rx", "h", {})], {}, 17),
    "Arithmetic": (
        [("Sub", "xc", "r", {}), ("Div", "rs", "q", {}), ("Mul", "qx", "t", {}),
         ("Exp", "t", "e", {}), ("Max", "ex", "h", {})],
        {"c": weights(2, 1, 1), "s": np.float32(2.5)},
        17,
    ),
    "Squeeze": (
        [("GlobalAveragePool", "x", "g", {}), ("Squeeze", "ga", "s", {}),
         ("Unsqueeze", "sb", "h", {})],
        {"a": np.array([2, 3]), "b": np.array([1])},
        17,
    ),
    "Squeeze attributes": (
        [("GlobalAveragePool", "x", "g", {}), ("Squeeze", "g", "h", {"axes": [2, 3]})], {}, 11,
    ),
    "ReduceMean": ([("ReduceMean", "x", "h", {"axes": [2, 3], "keepdims": 0})], {}, 17),
    "ReduceSum": ([("ReduceSum", "xa", "h", {})], {"a": np.array([-1])}, 17),
    "Slice": (
        [("Slice", "xbea", "h", {})],
        {"b": np.array([1, -3]), "e": np.array([2**62, -1]), "a": np.array([2, 3])},
        17,
    ),
    "Split": ([("Split", "x", "pq", {"axis": 2}), ("Mul", "pq", "h", {})], {}, 17),
    "Gather": ([("Gather", "xi", "h", {"axis": 2})], {"i": np.array([0, 5, -1])}, 17),
    "Pad": ([("Pad", "xp", "h", {})], {"p": np.array([0, 0, 1, 0, 0, 0, 2, 1])}, 17),
    "Dropout": ([("Dropout", "x", "hk", {})], {}, 17),
    "Identity": ([("Identity", "x", "r", {}), ("Sigmoid", "r", "h", {})], {}, 17),
    "Gelu by hand": (
        [("Div", "xs", "r", {}), ("Erf", "r", "e", {}), ("Add", "eo", "f", {}),
         ("Mul", "xf", "h", {})],
        {"s": np.float32(2**0.5), "o": np.float32(1.0)},
        17,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_compute_what_onnxruntime_does(name, tmp_path):
    nodes, constants, opset = OPERATORS[name]
    nodes = [*nodes, ("Flatten", "h", "y", {})]
    file = saved(tmp_path / "net.onnx", nodes, constants, IMAGES, opset=opset)
    module, note = load_onnx(file)
    assert not isinstance(module, LabelsAlone), note
    x = weights(7, *IMAGES)
    own = module(torch.from_numpy(x).flatten(1))
    np.testing.assert_allclose(own.numpy(), run(file, x), rtol=1e-5, atol=1e-5)


def test_products_and_their_offsets_are_linear_layers(tmp_path):
    nodes = [("MatMul", "xa", "h", {}), ("Add", "bh", "r", {}), ("Relu", "r", "q", {}),
             ("Gemm", "qcd", "y", {"transB": 1, "alpha": 2.0, "beta": 0.5})]  # fmt: skip
    constants = {"a": weights(4, 5), "b": weights(5), "c": weights(3, 5), "d": weights(3)}
    file = saved(tmp_path / "net.onnx", nodes, constants, (4,))
    module, note = load_onnx(file)
    kinds = [type(part).__name__ for part in module.body.children()]
    assert kinds == ["Linear", "ReLU", "Linear"]
    assert "4 operators became torch modules" in note
    x = weights(9, 4)
    np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), run(file, x), rtol=1e-5)
    # Of a product that something else sees, too, the offset stays apart.
    nodes = [("MatMul", "xa", "h", {}), ("Add", "bh", "r", {}), ("Mul", "rh", "y", {})]
    file = saved(tmp_path / "two.onnx", nodes, constants, (4,))
    np.testing.assert_allclose(
        load_onnx(file)[0](torch.from_numpy(x)).numpy(), run(file, x), rtol=1e-5
    )


SHAPES = {
    "computed": (
        [("Shape", "x", "s", {}), ("Gather", "sz", "n", {}), ("Unsqueeze", "no", "m", {}),
         ("Concat", "mk", "t", {"axis": 0}), ("Reshape", "xt", "h", {})],
        {"z": np.array(0), "o": np.array([0]), "k": np.array([-1])},
        "n",
    ),
    "left over": ([("Reshape", "xk", "h", {})], {"k": np.array([-1, 72])}, "n"),
    "copied": ([("Reshape", "xk", "h", {})], {"k": np.array([0, -1])}, "n"),
    "one at a time": ([("Reshape", "xk", "h", {})], {"k": np.array([1, 72])}, 1),
    "in fours": ([("Reshape", "xk", "h", {})], {"k": np.array([4, -1])}, 4),
    "to an image and back": (
        [("Reshape", "xk", "i", {}), ("Flatten", "i", "h", {})], {"k": np.array([-1, 8, 9])}, "n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_hold_for_every_size_of_batch(name, tmp_path):
    nodes, constants, batch = SHAPES[name]
    nodes = [*nodes, ("MatMul", "hw", "y", {})]
    constants = {**constants, "w": weights(72, 3)}
    file = saved(tmp_path / "net.onnx", nodes, constants, IMAGES, batch=batch)
    module, note = load_onnx(file)
    assert "became torch modules" in note
    for n in (1, 5, 8):
        x = weights(n, *IMAGES)
        size = n if batch == "n" else batch
        rows = np.concatenate([x] * 4)[: -(-n // size) * size]
        parts = [run(file, rows[i : i + size]) for i in range(0, len(rows), size)]
        expected = np.concatenate(parts)
        own = module(torch.from_numpy(x).flatten(1)).numpy()
        np.testing.assert_allclose(own, expected[:n], rtol=1e-4, atol=1e-4)


def test_double_precision_stays(tmp_path):
    constants = {"w": weights(4, 2, dtype=np.float64)}
    nodes = [("MatMul", "xw", "y", {})]
    file = saved(tmp_path / "net.onnx", nodes, constants, (4,), kind=TensorProto.DOUBLE)
    module, _ = load_onnx(file)
    assert tb.classifiers.dtype_of(module) == torch.float64


UNKNOWN = [("Hardmax", "x", "h", {}), ("MatMul", "hw", "y", {})]


def test_unknown_operators_leave_the_labels(tmp_path):
    file = saved(tmp_path / "net.onnx", UNKNOWN, {"w": weights(4, 3)}, (4,))
    rule, note = load_onnx(file)
    assert isinstance(rule, LabelsAlone)
    assert "the operator Hardmax, for which no torch module is known" in note
    assert "labels alone" in note
    x = weights(20, 4)
    assert rule.n_classes == 3
    np.testing.assert_array_equal(
        rule.predict(torch.from_numpy(x)).numpy(), run(file, x).argmax(axis=1)
    )
    nodes = [*UNKNOWN[:1], ("MatMul", "hw", "y", {})]
    file = saved(tmp_path / "one.onnx", nodes, {"w": weights(4, 1)}, (4,))
    rule, _ = load_onnx(file)
    np.testing.assert_array_equal(rule.predict(torch.from_numpy(x)).numpy(), run(file, x)[:, 0] > 0)
    nodes = [("ArgMax", "x", "y", {"axis": 1, "keepdims": 0})]
    file = saved(tmp_path / "arg.onnx", nodes, {}, (2,), out=TensorProto.INT64)
    rule, _ = load_onnx(file, planar_problem("a"))
    x = weights(20, 2)
    np.testing.assert_array_equal(rule.predict(torch.from_numpy(x)).numpy(), x.argmax(axis=1))


def test_what_torch_computes_differently_is_not_believed(tmp_path, monkeypatch):
    nodes = [("Relu", "x", "h", {}), ("MatMul", "hw", "y", {})]
    file = saved(tmp_path / "net.onnx", nodes, {"w": weights(4, 3)}, (4,))
    wrong = onnx_files.module_of_graph

    def other(*arguments):
        module = wrong(*arguments)
        module.layer_1.weight += 1e-3
        return module

    monkeypatch.setattr(onnx_files, "module_of_graph", other)
    rule, note = load_onnx(file)
    assert isinstance(rule, LabelsAlone)
    assert "torch computes differently" in note


def test_images_keep_their_channels(tmp_path):
    densities = (
        LowRankGaussian(torch.full((72,), m), torch.zeros(72, 0), 0.01) for m in (0.4, 0.6)
    )
    problem = ImageProblem(*densities, image_shape=IMAGES, class_names=("dark", "light"))
    first = [("Gather", "xi", "h", {"axis": 3}), ("Flatten", "h", "f", {}),
             ("MatMul", "fw", "y", {})]  # fmt: skip
    constants = {"i": np.array(0), "w": weights(36, 2)}
    file = saved(tmp_path / "last.onnx", first, constants, (6, 6, 2))
    module, _ = load_onnx(file, problem)
    x = weights(5, *IMAGES)
    own = module(torch.from_numpy(x).flatten(1)).numpy()
    np.testing.assert_allclose(own, run(file, np.moveaxis(x, 1, -1)), rtol=1e-4, atol=1e-5)
    file = saved(tmp_path / "open.onnx", [("Flatten", "x", "f", {}), ("MatMul", "fw", "y", {})],
                 {"w": weights(72, 2)}, ("c", "h", "w"))  # fmt: skip
    module, _ = load_onnx(file, problem)
    assert module(torch.zeros(3, 72)).shape == (3, 2)
    with pytest.raises(ValueError, match="points of 4 numbers, and the problem's have 72"):
        load_onnx(saved(tmp_path / "four.onnx", UNKNOWN, {"w": weights(4, 3)}, (4,)), problem)


def with_weights_beside(tmp_path, location):
    """Write a linear rule whose weights lie in another file."""
    file = saved(tmp_path / "net.onnx", [("MatMul", "xw", "y", {})], {"w": weights(2, 2)}, (2,))
    model = onnx.load(file)
    (tensor,) = model.graph.initializer
    content = tensor.raw_data
    onnx.external_data_helper.set_external_data(tensor, location, 0, len(content))
    tensor.ClearField("raw_data")
    tmp_path.joinpath("net.onnx").write_bytes(model.SerializeToString())
    return file, content


def test_weights_beside_a_file_are_read(tmp_path):
    file, content = with_weights_beside(tmp_path, "w.bin")
    (tmp_path / "w.bin").write_bytes(content)
    module, _ = load_onnx(file)
    expected = np.frombuffer(content, dtype=np.float32).reshape(2, 2)
    np.testing.assert_allclose(module(torch.eye(2)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("../secret", "out of its folder"),
        ("/etc/passwd", "out of its folder"),
        ("", "out of its folder"),
        ("link", "which is a link"),
        ("short", "ends before"),
        ("gone", "there is no file gone"),
        ("pipe", "got a pipe or a device"),
    ],
)
def test_weights_elsewhere_are_refused(tmp_path, location, says):
    import os

    file, content = with_weights_beside(tmp_path, location)
    (tmp_path / "secret").write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "short").write_bytes(content[:-1])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=says) as raised:
        load_onnx(file)
    assert "\n" not in str(raised.value)


def test_files_that_are_none_are_refused(tmp_path, monkeypatch):
    (tmp_path / "text.onnx").write_text("nothing")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name, says in (
        ("text.onnx", "no ONNX file that can be run"),
        ("empty.onnx", "it has no operators"),
        ("gone.onnx", "there is no file"),
    ):
        with pytest.raises(ValueError, match=says) as raised:
            load_subject(str(tmp_path / name))
        assert "\n" not in str(raised.value)
    monkeypatch.setattr(onnx_files, "MAX_FILE", 10)
    file = saved(tmp_path / "net.onnx", UNKNOWN, {"w": weights(4, 3)}, (4,))
    with pytest.raises(ValueError, match="larger than the 10 bytes"):
        load_onnx(file)


def test_constants_of_any_size_are_refused(tmp_path):
    nodes = [("ConstantOfShape", "k", "c", {}), ("ReduceSum", "c", "s", {}),
             ("Add", "xs", "y", {})]  # fmt: skip
    file = saved(tmp_path / "net.onnx", nodes, {"k": np.array([2**14, 2**14])}, (2,))
    model = onnx.load(file)
    with pytest.raises(onnx_files.UnknownOperatorError, match="more than"):
        onnx_files.module_of_graph(model.graph, (2,), "y", 17)


def test_without_onnx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"trueboundary\[onnx\]"):
        load_onnx("net.onnx")


def test_graphs_are_audited(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = planar_problem("a")
    constants = {"w": np.array([[-1.0, 1.0], [-3.0, 3.0]], dtype=np.float32)}
    saved("net.onnx", [("MatMul", "xw", "y", {})], constants, (2,))
    subject = load_subject("net.onnx", problem=problem)
    card = tb.audit(subject, problem, n_points=10, n_error_points=100)
    assert card.subject == "net.onnx"
    assert card.flags == ()
    same = tb.audit(lambda x: 2 * x[:, 0] + 6 * x[:, 1], problem, n_points=10, n_error_points=100)
    np.testing.assert_allclose(card.joined("upper"), same.joined("upper"), rtol=1e-4)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(outputs(subject.classifier, x), 2 * x[:, 0] + 6 * x[:, 1])
    assert main(["audit", "model", "net.onnx", "--problem", "spheres-d2", "--n-points", "2",
                 "--json"]) == 0  # fmt: skip
    out = capsys.readouterr()
    assert "became torch modules" in json.loads(out.out)["notes"][0]
    assert main(["audit", "model", "net.onnx", "--problem", "spheres-d3"]) == 2
    assert "the problem's have 3" in capsys.readouterr().err
