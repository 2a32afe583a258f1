"""Models of several activations as ONNX, their nodes, and what runtimes compute from them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from torch import Tensor, nn

import actlab
from tests.conformance import module, torch_equivalent


class Several(nn.Module):
    """Several activations, each with its own input and output, because an export takes long."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part, x in zip(self.parts, inputs, strict=True))


def several(names: Iterable[str]) -> Several:
    return Several(module(actlab.catalogue[name]) for name in names)


def several_of_torch(names: Iterable[str]) -> Several:
    modules = [torch_equivalent(actlab.catalogue[name]) for name in names]
    return Several(m for m in modules if m is not None)


def inputs(count: int) -> tuple[Tensor, ...]:
    """Return inputs from -8 to 8: outside, runtimes have the faults that docs/field-report.md lists."""
    return tuple(torch.linspace(-8, 8, 96).roll(i).view(12, 8) for i in range(count))


def to_onnx(model: nn.Module, args: tuple[Tensor, ...], opset: int = 20) -> onnx.ModelProto:
    program = torch.onnx.export(model.eval(), args, dynamo=True, verbose=False, opset_version=opset)
    assert program is not None
    proto = program.model_proto
    assert {i.domain: i.version for i in proto.opset_import}[""] == opset
    return proto


def node_types(proto: onnx.ModelProto) -> list[str]:
    """Return the types of the nodes that compute each output, in their order."""
    nodes, found = list(proto.graph.node), []
    for output in proto.graph.output:
        needed, types = {output.name}, []
        for node in reversed(nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                types.append(node.op_type)
        found.append(" ".join(t for t in reversed(types) if t != "Constant"))
    return found


def load_in_onnxruntime(proto: onnx.ModelProto) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]

    def run(args: Sequence[Tensor]) -> list[Tensor]:
        results = session.run(None, {name: x.numpy() for name, x in zip(names, args, strict=True)})
        return [torch.from_numpy(np.asarray(y)) for y in results]

    return run


def load_in_openvino(proto: onnx.ModelProto) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    model = openvino.Core().read_model(io.BytesIO(proto.SerializeToString()))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    compiled = openvino.compile_model(model, "CPU", options)

    def run(args: Sequence[Tensor]) -> list[Tensor]:
        results = compiled([x.numpy() for x in args])
        return [torch.from_numpy(np.array(results[output])) for output in compiled.outputs]

    return run
