"""What torch.export and torch.onnx.export write for activations, and what runtimes compute from it."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from benchmarks.exporting import describe_nodes
from torch import Tensor, nn
from torch.nn import functional as F

import actlab
from tests.exports import (
    Several,
    inputs,
    load_in_onnxruntime,
    load_in_openvino,
    node_types,
    several,
    several_of_torch,
    to_onnx,
)
from tests.processors import PAGES_SHOW, is_processor_of_pages

# torch calls functions of its own that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
DOCS = Path(__file__).parents[1] / "docs"
OPSETS = (18, 20, 21, 25)  # 25 is the newest that torch 2.13 converts to
NODES = {
    "celu": "Celu",
    "elu": "Elu",
    "gelu": "Gelu",  # from opset 20
    "glu": "Split Sigmoid Mul",
    "hardshrink": "Abs LessOrEqual Where",
    "hardsigmoid": "HardSigmoid",
    "hardswish": "HardSwish",
    "hardtanh": "Clip",
    "leaky_relu": "LeakyRelu",
    "logsigmoid": "Sigmoid Log",
    "mish": "Mish",
    "prelu": "PRelu",
    "relu": "Relu",
    "relu6": "Clip",
    "rrelu": "LeakyRelu",  # torch.nn.RReLU cannot be exported
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "silu": "Sigmoid Mul",
    "softplus": "Softplus Greater Where",
    "softshrink": "Clip Sub",  # torch.nn: seven nodes
    "softsign": "Abs Add Div",
    "tanh": "Tanh",
    "tanhshrink": "Tanh Sub",
    "threshold": "LessOrEqual Where",
}
OTHERS = {  # without a torch equivalent
    "geglu": "Split Gelu Mul",
    "reglu": "Split Relu Mul",
    "sine": "Mul Sin",
    "swiglu": "Split Sigmoid Mul Mul",
    "swish": "Sigmoid Mul",
}


def names_of_torch() -> list[str]:
    """Return the activations that torch exports with as few nodes as possible."""
    return [name for name in NODES if name not in ("rrelu", "softshrink")]


@functools.cache
def exported_by_torch(opset: int) -> onnx.ModelProto:
    names = names_of_torch()
    return to_onnx(several_of_torch(names), inputs(len(names)), opset)


@functools.cache
def exported(names: tuple[str, ...] = tuple(NODES), opset: int = 20, exact: bool = False) -> onnx.ModelProto:
    with actlab.exporting(exact=exact):
        return to_onnx(several(names), inputs(len(names)), opset)


RUNTIMES = pytest.mark.parametrize("load", [load_in_onnxruntime, load_in_openvino])


def assert_close(names: Iterable[str], got: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Assert that errors are below 1e-5, relative where the value is above 1."""
    for name, y, true in zip(names, got, expected, strict=True):
        error = ((y - true).abs() / true.abs().clamp_min(1)).max()
        # The logarithm of a sigmoid loses digits where the sigmoid is small.
        assert error < (1e-4 if name == "logsigmoid" else 1e-5), f"{name}: {float(error)}"


# -- ONNX ---------------------------------------------------------------------------------------------


def test_nodes_are_listed_for_every_torch_equivalent():
    assert {name for name, a in actlab.catalogue.items() if a.facts.torch_equivalent} == set(NODES)


@pytest.mark.parametrize("opset", OPSETS)
def test_onnx_export_writes_the_nodes_of_torch_nn(opset):
    ours = dict(zip(NODES, node_types(exported(opset=opset)), strict=True))
    assert ours == NODES | ({"gelu": "Div Erf Add Mul Mul"} if opset < 20 else {})
    assert node_types(exported_by_torch(opset)) == [ours[name] for name in names_of_torch()]


@RUNTIMES
@pytest.mark.parametrize("opset", OPSETS)
def test_onnx_export_computes_the_values_of_torch_nn(opset, load):
    args = inputs(len(NODES))
    theirs = several_of_torch(NODES)
    assert_close(NODES, load(exported(opset=opset))(args), theirs(*args))


@RUNTIMES
def test_onnx_export_of_other_activations(load):
    """All that torch.nn does not have, with any operators of ONNX."""
    names = tuple(name for name in actlab.catalogue if name not in NODES)
    ours = dict(zip(names, node_types(exported(names)), strict=True))
    assert {name: ours[name] for name in OTHERS} == OTHERS
    args = inputs(len(names))
    assert_close(names, load(exported(names))(args), several(names)(*args))


class SwishOfTorch(nn.Module):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(beta))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x * self.beta)


def test_onnx_export_with_other_parameters():
    cases = {
        "Gelu": (actlab.nn.GELU(approximate="tanh"), nn.GELU(approximate="tanh")),
        "Elu": (actlab.nn.ELU(2, inplace=True), nn.ELU(2, inplace=True)),
        "Celu": (actlab.nn.CELU(2), nn.CELU(2)),
        "Clip": (actlab.nn.Hardtanh(0, 6), nn.Hardtanh(0, 6)),
        "PRelu": (actlab.nn.PReLU(8), nn.PReLU(8)),
        "Split Sigmoid Mul": (actlab.nn.GLU(0), nn.GLU(0)),
        "Mul Softplus Div Greater Where": (actlab.nn.Softplus(2, 5), nn.Softplus(2, 5)),
        "Sigmoid Mul": (actlab.nn.SiLU(inplace=True), nn.SiLU(inplace=True)),
        "LeakyRelu": (actlab.nn.LeakyReLU(1), nn.LeakyReLU(1)),
        "Mul Sigmoid Mul": (actlab.nn.Swish(1.5), SwishOfTorch(1.5)),
    }
    ours, theirs = (Several(pair[i] for pair in cases.values()) for i in (0, 1))
    proto = to_onnx(ours, inputs(len(cases)))
    assert node_types(proto) == node_types(to_onnx(theirs, inputs(len(cases)))) == list(cases)
    assert_close(cases, load_in_onnxruntime(proto)(inputs(len(cases))), theirs(*inputs(len(cases))))


class Network(nn.Module):
    """Activations as a module and as functions, of torch or of actlab."""

    def __init__(self, activation: nn.Module, gelu: Any, silu: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), activation, nn.Linear(8, 8))
        self.gelu, self.silu = gelu, silu

    def forward(self, x: Tensor) -> Tensor:
        return self.silu(self.gelu(self.layers(x), approximate="tanh"))


def test_onnx_export_of_functions_and_swapped_modules():
    torch.manual_seed(0)
    theirs = Network(nn.Mish(), F.gelu, F.silu)
    ours = Network(nn.ReLU(), actlab.functional.gelu, actlab.functional.silu)
    ours.load_state_dict(theirs.state_dict())
    swapped = actlab.swap(ours, "mish", only=["layers.1"])
    expected = node_types(to_onnx(theirs, inputs(1)))
    assert expected == ["Gemm Mish Gemm Gelu Sigmoid Mul"]
    proto = to_onnx(swapped, inputs(1))
    assert node_types(proto) == expected
    assert_close(["network"], load_in_onnxruntime(proto)(inputs(1)), [theirs(*inputs(1))])


def test_onnx_export_has_a_dynamic_batch():
    model = nn.Sequential(actlab.nn.GELU(), actlab.nn.PReLU(8), actlab.nn.SwiGLU()).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(model, inputs(1), dynamo=True, verbose=False, dynamic_shapes=shapes)
    assert program is not None
    x = inputs(1)[0][:5]
    assert_close(["batch of 5"], load_in_onnxruntime(program.model_proto)([x]), [model(x)])


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export")
def test_older_onnx_exporter_writes_the_nodes_of_torch_nn():
    # torch cannot export threshold.
    names = [name for name in NODES if name not in ("softshrink", "threshold")]
    args, written = inputs(len(names)), []
    for model in (several(names), several_of_torch(names)):
        file = io.BytesIO()
        torch.onnx.export(model.eval(), args, file, dynamo=False, opset_version=18)
        written.append(onnx.load_from_string(file.getvalue()))
    ours, theirs = map(node_types, written)
    assert ours == theirs
    assert_close(names, load_in_onnxruntime(written[0])(args), model(*args))


# -- exact --------------------------------------------------------------------------------------------

TAIL = (torch.full((4, 8), -5.0),)


def relative_error(y: Tensor, true: Tensor) -> float:
    return float(((y.double() - true) / true).abs().max())


@RUNTIMES
def test_exact_onnx_is_accurate_where_the_operators_of_runtimes_are_not(load):
    points = {"gelu": -5.0, "elu": -2.9e-8, "celu": -2.9e-8, "selu": -2.9e-8, "tanhshrink": 1e-4}
    args = tuple(torch.full((12, 8), x) for x in points.values())
    true = several(points).double()(*(x.double() for x in args))
    errors = {}
    for exact in (False, True):
        results = load(exported(tuple(points), exact=exact))(args)
        errors[exact] = [relative_error(y, expected) for y, expected in zip(results, true, strict=True)]
    assert min(errors[False]) > 1e-2
    assert max(errors[True]) < 2e-6


def test_exact_onnx_of_every_activation_contains_its_formula():
    names = tuple(actlab.catalogue)
    proto, args = exported(names, exact=True), inputs(len(names))
    nodes = dict(zip(names, node_types(proto), strict=True))
    assert nodes["silu"] == "Clip Exp Greater Mul Add Div Where"
    assert nodes["logsigmoid"] == "Neg Softplus Greater Where Neg"
    assert "Erf" not in nodes["gelu"]
    assert_close(names, load_in_onnxruntime(proto)(args), several(names)(*args))


@pytest.mark.parametrize("strict", [False, True])
def test_exporting_exact_exports_the_formula_until_the_end_of_the_context(strict):
    gelu = actlab.nn.GELU()

    def tail() -> list[float]:
        y = torch.export.export(gelu, TAIL, strict=strict).module()(*TAIL)
        return y.unique().tolist()

    torchs = F.gelu(*TAIL).unique().tolist()
    formula = actlab.functional.gelu(*TAIL).unique().tolist()
    assert torchs != formula
    with actlab.exporting(exact=True):
        assert tail() == formula
        with contextlib.suppress(ZeroDivisionError), actlab.exporting(exact=False):
            assert tail() == torchs
            raise ZeroDivisionError
        assert tail() == formula
    assert tail() == torchs


# -- the pages ----------------------------------------------------------------------------------------


def table_rows(page: str) -> list[list[str]]:
    """Return the cells of the rows that begin with the name of an activation."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [row for row in rows if row[0] in actlab.catalogue]


def test_benchmark_page_states_the_nodes_of_every_torch_equivalent():
    theirs = dict(zip(names_of_torch(), node_types(exported_by_torch(20)), strict=True))
    theirs["softshrink"] = node_types(to_onnx(nn.Softshrink(), inputs(1)))[0]
    rows = [describe_nodes(name, NODES[name], theirs.get(name)) for name in actlab.catalogue if name in NODES]
    assert [f"| {' | '.join(row[:4])} |" for row in table_rows("benchmarks/exporting.md")] == rows


@pytest.mark.skipif(not is_processor_of_pages(), reason=PAGES_SHOW)
def test_how_to_page_states_the_values_in_runtimes():
    rows = table_rows("how-to/export.md")
    names, points = [row[0] for row in rows], [float(row[1]) for row in rows]
    args = tuple(torch.full((2, 8), x) for x in points)
    columns = [several(names).double()(*(x.double() for x in args))]
    for exact in (False, True):
        with actlab.exporting(exact=exact):
            model = to_onnx(several(names), args)
        columns += [load(model)(args) for load in (load_in_onnxruntime, load_in_openvino)]
    values = [[f"{float(y[0, 0]):.3g}" for y in ys] for ys in zip(*columns, strict=True)]
    assert [row[2:] for row in rows] == values


# -- torch.export -------------------------------------------------------------------------------------


def operations(program: torch.export.ExportedProgram) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("strict", [False, True])
def test_export_writes_the_operations_of_torch_nn(strict):
    names = [name for name in NODES if name not in ("relu6", "rrelu", "softshrink")]  # relu6: aten.hardtanh
    theirs = several_of_torch(names)
    args = inputs(len(names))
    expected = operations(torch.export.export(theirs, args, strict=strict))
    assert operations(torch.export.export(several(names), args, strict=strict)) == expected
    assert {"aten.gelu.default", "aten.silu.default", "aten.mish.default"} < set(expected)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_exported_program_trains(strict, exact):
    names = [name for name in actlab.catalogue if name != "rrelu"]
    model = several(names).double()
    args = tuple(x.double() for x in inputs(len(names)))
    with actlab.exporting(exact=exact):
        program = torch.export.export(model, args, strict=strict).module()
    gradients = []
    for function in (model, program):
        leaves = [x.clone().requires_grad_() for x in args]
        sum(y.square().mean() for y in function(*leaves)).backward()
        parameters = [p.grad.clone() for p in function.parameters()]
        function.zero_grad()
        gradients.append([*(x.grad for x in leaves), *parameters])
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_export_of_a_random_activation_in_training():
    program = torch.export.export(actlab.nn.RReLU(0.25, 0.5), (torch.ones(64),)).module()
    y = program(-torch.ones(64))
    assert y.unique().numel() > 32
    assert y.min() >= -0.5
    assert y.max() <= -0.25


# -- definitions --------------------------------------------------------------------------------------


def make_definition(**facts: Any) -> Any:
    @actlab.elementwise(
        formula="x**2", limits=(np.inf, np.inf), slopes=(-np.inf, np.inf), monotonic=False, paper="-", **facts
    )
    def square(x: Tensor) -> Tensor:
        return x * x

    square.derivative(lambda x: 2 * x)
    square.second(lambda x: torch.full_like(x, 2.0))
    return square


def exported_operations(activation: Any) -> list[str]:
    return operations(torch.export.export(activation.module_class(), inputs(1)))


def test_definition_exports_the_operation_that_it_names():
    plain, named, declines = make_definition(), make_definition(), make_definition()
    named.exported(torch.square)
    declines.exported(lambda x: None)
    for activation in (plain, named, declines):
        activation.module("Square")
    assert exported_operations(plain) == ["aten.mul.Tensor"]
    assert exported_operations(named) == ["aten.square.default"]
    assert exported_operations(declines) == ["aten.mul.Tensor"]


def test_check_fails_if_the_exported_operation_computes_another_function():
    square = make_definition()
    square.exported(torch.abs)
    square.module("Square")
    row = actlab.check(square, only=["export"]).row("export")
    assert row.status == "fail"
    assert "the exported value is" in row.detail
