"""Each conformance law passes for a sound definition, and fails for a copy with one broken part."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.gradcheck import GradcheckError

import actlab
from actlab.activation.module import ActivationModule
from tests import conformance as law

inf = math.inf
BLOCKS = ("derivative", "second", "mask", "torch_operation")
float16, float64 = torch.float16, torch.float64


def define(
    *,
    forward: Callable[..., Tensor],
    name: str = "Copy",
    trains: Callable[[], type[ActivationModule]] | None = None,
    partials: dict[str, Callable[..., Tensor]] | None = None,
    methods: dict[str, Callable[..., Any]] | None = None,
    **parts: Any,
) -> actlab.Activation[...]:
    """Build a definition; ``parts`` are its blocks by their names, and its facts."""
    forward.__name__ = forward.__qualname__ = "copy"
    forward.__module__ = "actlab.functional"
    facts = {key: value for key, value in parts.items() if key not in BLOCKS}
    activation = actlab.elementwise(**{"paper": "-", **facts})(forward)
    for block in parts.keys() & set(BLOCKS):
        getattr(activation, block)(parts[block])
    for parameter, formula in (partials or {}).items():
        activation.partial(parameter)(formula)
    vars(activation).update(methods or {})
    if trains is not None:
        activation.use_module(trains())
    else:
        activation.module(name)
    return activation


# -- sound definitions ----------------------------------------------------------------------------

SQUARE: dict[str, Any] = {
    "formula": "x**2",
    "limits": (inf, inf),
    "slopes": (-inf, inf),
    "range": (0, inf),
    "monotonic": False,
    "forward": lambda x: x * x,
    "derivative": lambda x: 2 * x,
    "second": lambda x: torch.full_like(x, 2.0),
}
RELU: dict[str, Any] = {
    "formula": "max(x, 0)",
    "limits": (0, inf),
    "slopes": (0, 1),
    "range": (0, inf),
    "monotonic": True,
    "kinks": {0: 0},
    "forward": lambda x: x.clamp_min(0),
    "derivative": lambda x: (x > 0).to(x.dtype),
    "second": torch.zeros_like,
    "name": "ReLU",
    "torch_equivalent": "ReLU",
    "inplace": True,
}
MASKED_RELU: dict[str, Any] = {
    **{key: value for key, value in RELU.items() if key != "second"},
    "saves": "mask",
    "mask": lambda x: (x > 0).to(torch.int8),
    "derivative": lambda mask: (mask > 0).to(mask.dtype),
}
SOFTPLUS: dict[str, Any] = {
    "formula": "log(1 + exp(x))",
    "limits": (0, inf),
    "slopes": (0, 1),
    "range": (0, inf),
    "monotonic": True,
    "forward": lambda x: torch.nn.functional.softplus(x, 1, 40),
    "derivative": torch.sigmoid,
    "second": lambda x: torch.sigmoid(x) * torch.sigmoid(-x),
}
SOFTSIGN: dict[str, Any] = {
    "formula": "x / (1 + abs(x))",
    "limits": (-1, 1),
    "slopes": (0, 0),
    "range": (-1, 1),
    "monotonic": True,
    "forward": lambda x: x.clamp(-1e30, 1e30) / (x.clamp(-1e30, 1e30).abs() + 1),
    "derivative": lambda x: 1 / (x.abs() + 1).square(),
    "second": lambda x: -2 * x.sign() / (x.abs() + 1) ** 3,
}


def make_scaled_module(start: float) -> type[ActivationModule]:
    """Return a module class with a trained scale that resets to ``start``; 1 is correct."""

    class Copy(ActivationModule):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.inplace = False
            self.scale = nn.Parameter(torch.ones(()))

        def reset_parameters(self) -> None:
            nn.init.constant_(self.scale, start)

        def extra_repr(self) -> str:
            return ""

    Copy.__qualname__ = "Copy"
    return Copy


SCALED_IDENTITY: dict[str, Any] = {
    "formula": "scale * x",
    "limits": (-inf, inf),
    "slopes": (1, 1),
    "range": (-inf, inf),
    "monotonic": True,
    "forward": lambda x, scale=1.0: x * scale,
    "derivative": lambda x, scale: torch.ones_like(x) * scale,
    "second": lambda x, scale: torch.zeros_like(x),
    "partials": {"scale": lambda x, scale: x},
    "trains": lambda: make_scaled_module(1.0),
}

# -- broken parts ---------------------------------------------------------------------------------


class SavesIntermediate(Function):
    """Square whose saved slope is a constant for autograd, so that the second derivative is wrong."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        slope = 2 * inputs[0]
        ctx.save_for_backward(slope)
        ctx.save_for_forward(slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent * ctx.saved_tensors[0]


class HoldsOutput(Function):
    """Square with a reference cycle through its own context, and without a vmap rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.output = x * x
        return ctx.output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * 2 * ctx.saved_tensors[0]


def wrong_when_compiled(x: Tensor) -> Tensor:
    return x * x * 1.01 if torch.compiler.is_compiling() else x * x


def branches_on_values(x: Tensor) -> Tensor:
    return x * x if (x == x).all() else x


def promotes(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda x: x * x * torch.ones(1, dtype=dtype)


@dataclass(frozen=True)
class Case:
    """A law, a sound definition, and a change that the law must reject."""

    flaw: str
    law: Callable[..., None]
    sound: dict[str, Any]
    change: dict[str, Any]
    message: str
    error: type[BaseException] = AssertionError
    arguments: tuple[Any, ...] = ()


CASES = [
    Case("sign", law.exact, SQUARE, {"derivative": lambda x: -2 * x}, "^f' of", arguments=(float64,)),
    Case(
        "sign for gradcheck",
        law.differentiable,
        SQUARE,
        {"derivative": lambda x: -2 * x},
        "Jacobian mismatch",
        GradcheckError,
    ),
    Case(
        "beyond 50",
        law.exact,
        SQUARE,
        {"derivative": lambda x: torch.where(x.abs() > 50, 2.001, 2.0) * x},
        "^f' of",
        arguments=(float64,),
    ),
    Case(
        "second derivative",
        law.exact,
        SOFTPLUS,
        {"second": lambda x: torch.sigmoid(x).square()},
        "^f'' of",
        arguments=(float64,),
    ),
    Case(
        "saved intermediate, by its values",
        law.exact,
        SQUARE,
        {"torch_operation": SavesIntermediate.apply},
        "^f'' of",
        arguments=(float64,),
    ),
    Case(
        "saved intermediate",
        law.differentiable,
        SQUARE,
        {"torch_operation": SavesIntermediate.apply},
        "Jacobian mismatch",
        GradcheckError,
    ),
    Case(
        "overflow",
        law.exact,
        SOFTPLUS,
        {"forward": lambda x: torch.log1p(torch.exp(x))},
        "^f of .*error=inf.*computed=inf",
        arguments=(float64,),
    ),
    Case(
        "half computed in half",
        law.exact,
        SOFTPLUS,
        {"forward": lambda x: torch.log(1 + torch.exp(x.clamp_max(10))), "widen": False},
        "^f of",
        arguments=(float16,),
    ),
    Case("kink", law.kinks, RELU, {"derivative": lambda x: (x >= 0).to(x.dtype)}, "Tensor-likes are not"),
    Case("kink other than declared", law.kinks, RELU, {"kinks": {0: 0.5}}, "Tensor-likes are not"),
    Case(
        "no NaN",
        law.limits,
        RELU,
        {"forward": lambda x: torch.where(x > 0, x, 0.0)},
        "NaN becomes 0",
        arguments=(float64,),
    ),
    Case(
        "no limit",
        law.limits,
        SOFTSIGN,
        {"forward": lambda x: x / (x.abs() + 1)},
        "'f': .nan, nan",
        arguments=(float64,),
    ),
    Case("limits", law.limits, SOFTSIGN, {"limits": (-1, 2)}, "^..f., 1,", arguments=(float64,)),
    Case("slopes", law.limits, SOFTSIGN, {"slopes": (0, 1)}, "^..f'., 1,", arguments=(float64,)),
    Case("range too narrow", law.range_and_monotonicity, SOFTSIGN, {"range": (-0.5, 1)}, "the infimum is -1"),
    Case("range too wide", law.range_and_monotonicity, SOFTSIGN, {"range": (-1, 1.001)}, "the supremum is 1"),
    Case("infinite range", law.range_and_monotonicity, SQUARE, {"range": (-inf, inf)}, "the infimum is 0"),
    Case("finite range", law.range_and_monotonicity, SQUARE, {"range": (0, 1e6)}, "the supremum is"),
    Case("monotonic", law.range_and_monotonicity, SQUARE, {"monotonic": True}, "monotonic is declared"),
    Case(
        "not monotonic", law.range_and_monotonicity, SOFTSIGN, {"monotonic": False}, "monotonic is declared"
    ),
    Case(
        "torch equivalent", law.agrees_with_torch, RELU, {"torch_equivalent": "SiLU"}, "Tensor-likes are not"
    ),
    Case(
        "mask of four bytes",
        law.saves_as_declared,
        MASKED_RELU,
        {"mask": lambda x: (x > 0).to(x.dtype)},
        r"^4\.0 bytes an element, not 1",
    ),
    Case(
        "two tensors saved",
        law.saves_as_declared,
        SQUARE,
        {"torch_operation": lambda x: x * x.sin() + x * (x - x.sin())},
        r"bytes an element, not 4",
    ),
    Case(
        "more than torch",
        law.saves_as_declared,
        RELU,
        {"torch_equivalent": "Identity"},
        "more bytes than torch.nn",
    ),
    Case("cycle", law.leaves_no_cycle, SQUARE, {"torch_operation": HoldsOutput.apply}, "outlives"),
    Case("vmap", law.transforms, SQUARE, {"torch_operation": HoldsOutput.apply}, "vmap", RuntimeError),
    Case(
        "partial derivative",
        law.parameters_differentiable,
        SCALED_IDENTITY,
        {"partials": {"scale": lambda x, scale: 2 * x}},
        "Jacobian mismatch",
        GradcheckError,
    ),
    Case("compiled value", law.compiles, SQUARE, {"forward": wrong_when_compiled}, "Tensor-likes are not"),
    Case(
        "graph break",
        law.compiles,
        SQUARE,
        {"forward": branches_on_values},
        "[Dd]ata-dependent",
        torch._dynamo.exc.Unsupported,
    ),
    Case("exported value", law.exports, SQUARE, {"forward": wrong_when_compiled}, "Tensor-likes are not"),
    Case(
        "value in ONNX", law.exports_to_onnx, SQUARE, {"forward": wrong_when_compiled}, "Tensor-likes are not"
    ),
    Case(
        "half promoted",
        law.dtypes,
        SQUARE,
        {"torch_operation": promotes(torch.float32)},
        "float32 for .*float16",
    ),
    Case("all promoted", law.dtypes, SQUARE, {"torch_operation": promotes(float64)}, "float64 for .*float32"),
    Case(
        "autocast",
        law.autocast,
        {**RELU, "torch_equivalent": None},
        {"torch_operation": lambda x: torch.prelu(x, x.new_zeros(1))},
        "bfloat16 for .*float32",
    ),
    Case("input overwritten", law.layouts, SQUARE, {"forward": lambda x: x.mul_(x).clone()}, "was modified"),
    Case(
        "another shape",
        law.layouts,
        SQUARE,
        {"torch_operation": lambda x: (x * x)[..., :1]},
        "the shape changed",
    ),
    Case(
        "another shape, by a formula",
        law.layouts,
        SQUARE,
        {"forward": lambda x: (x * x)[..., :1]},
        "must have the shape of the input",
        ValueError,
    ),
    Case(
        "mask lost in place",
        law.works_in_place,
        MASKED_RELU,
        {"mask": lambda x: x},
        "modified by an inplace operation",
        RuntimeError,
    ),
    Case("meta", law.meta, SQUARE, {"forward": branches_on_values}, "meta", RuntimeError),
    Case(
        "integers",
        law.refuses,
        SQUARE,
        {"methods": {"apply": lambda x, values, inplace: x * x}},
        "DID NOT RAISE",
        pytest.fail.Exception,
    ),
    Case(
        "reset elsewhere",
        law.module_copies_and_resets,
        SCALED_IDENTITY,
        {"trains": lambda: make_scaled_module(0.5)},
        "Tensor-likes are not",
    ),
    Case("no inplace", law.module_looks_like_torch, RELU, {"inplace": False}, "the arguments are ..,"),
]


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.law.__name__}: {case.flaw}")
def test_conformance_law_rejects_a_broken_definition(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def build_activation(parts: dict[str, Any]) -> actlab.Activation[...]:
        activation = define(**parts)
        # Pickle and the laws look modules and functions up in these namespaces.
        monkeypatch.setattr(
            actlab.nn, activation.module_class.__name__, activation.module_class, raising=False
        )
        monkeypatch.setattr(actlab.functional, activation.name, activation, raising=False)
        return activation

    case.law(build_activation(case.sound), *case.arguments)
    with pytest.raises(case.error, match=case.message):
        case.law(build_activation({**case.sound, **case.change}), *case.arguments)


def test_every_conformance_law_has_a_failing_case() -> None:
    laws = {
        function
        for _, function in inspect.getmembers(law, inspect.isfunction)
        if function.__module__ == law.__name__
        and inspect.signature(function).return_annotation == "None"
        and inspect.signature(function).parameters.keys() & {"activation", "activations"}
    }
    assert laws == {case.law for case in CASES}
