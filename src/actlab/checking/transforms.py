"""Rows about transforms of a function: forward mode, vmap, export, compile; and its memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from actlab.activation import exporting
from actlab.checking.check_report import Failure, Outcome, Unsupported
from actlab.checking.subject import Subject
from actlab.checking.tensor_comparison import (
    compute_value_and_gradient,
    find_saved_storages,
    find_worst,
    format_pair,
    is_close,
)
from actlab.errors import summarize_error

# Parts of torch's errors when an optional method of an autograd.Function, or a kernel or derivative of an
# operation, is missing, and what to do about it.
_MISSING = {
    "not implemented for 'Half'": "",
    "not implemented for 'BFloat16'": "",
    "derivative for aten::": "",
    "we do not yet support aten::": "",
    "once_differentiable": "backward is marked @once_differentiable",
    "setup_context": "forward takes ctx: torch.func needs a separate setup_context",
    "generate_vmap_rule": "no vmap rule: set generate_vmap_rule = True or define vmap",
    "vmap support": "no vmap rule: set generate_vmap_rule = True or define vmap",
    "does not have vmap": "no vmap rule: set generate_vmap_rule = True or define vmap",
    "Unsupported custom jvp": "torch.compile does not support an autograd.Function that defines jvp",
    "jvp function": "no forward mode: define jvp",
    "forward AD": "no forward mode: define jvp",
}
_PARAMETERS = 0.1  # bytes per element of the input: some parameters are saved too


def convert_errors(run: Callable[[], Any]) -> Any:
    """Call a function; raise Unsupported if the target lacks a capability, Failure for other errors."""
    try:
        return run()
    except Outcome:
        raise
    except Exception as error:
        text = str(error)
        if isinstance(error, NotImplementedError | RuntimeError):
            for part, advice in _MISSING.items():
                if part in text:
                    raise Unsupported(advice or summarize_error(error)) from error
        raise Failure(summarize_error(error)) from error


def _require_close(what: str, got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    if got.shape != expected.shape:
        raise Failure(f"{what} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}")
    wrong = ~is_close(got, expected, tolerance)
    if wrong.any():
        at = find_worst(wrong, got, expected)
        one, two = format_pair(got[at], expected[at])
        raise Failure(f"{what} is {one}, expected {two}")


def check_forward_mode(subject: Subject) -> str:
    """Verify that forward mode gives the same directional derivative as backward."""
    function, x = subject.make_function(), subject.sample()
    direction = subject.sample(seed=3)
    _, tangent = convert_errors(lambda: torch.func.jvp(function, (x,), (direction,)))
    weights = torch.linspace(0.5, 1.5, tangent.numel(), dtype=x.dtype, device=x.device).view_as(tangent)
    _, by_x = compute_value_and_gradient(function, x, weights)
    _require_close("the weighted sum of the tangent", (tangent * weights).sum(), (by_x * direction).sum())
    return "jvp agrees with backward"


def check_batched_gradients(subject: Subject) -> str:
    """Verify that gradients computed in one batch, as for a Jacobian, agree with single ones."""
    x = subject.sample(2).requires_grad_()
    y = subject.make_function()(x)
    if not y.requires_grad:
        return "the output has no gradient"
    directions = torch.stack([torch.ones_like(y), torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)])
    single = torch.stack([torch.autograd.grad(y, x, d, retain_graph=True)[0] for d in directions])
    together = convert_errors(lambda: torch.autograd.grad(y, x, directions, is_grads_batched=True)[0])
    _require_close("a batched gradient", together, single)
    return "same as one gradient at a time"


def check_vmap(subject: Subject) -> str:
    """Verify that vmap over a dimension gives the same results as a loop over it."""
    function, x = subject.make_function(), torch.stack([subject.sample(3), subject.sample(3, seed=1)])
    expected = torch.stack([function(part) for part in x])
    _require_close("vmap", convert_errors(lambda: torch.vmap(function, randomness="same")(x)), expected)
    across = torch.vmap(function, in_dims=1, out_dims=1, randomness="same")
    moved = convert_errors(lambda: across(x.transpose(0, 1).contiguous()))
    _require_close("vmap over another dimension", moved.transpose(0, 1), expected)
    return "same as a loop"


def check_func_grad(subject: Subject) -> str:
    """Verify that torch.func.grad agrees with backward, also under vmap."""
    function, x = subject.make_function(), subject.sample(3)
    summed = torch.func.grad(lambda z: function(z).sum())
    got = convert_errors(lambda: summed(x))
    _require_close("func.grad", got, compute_value_and_gradient(function, x)[1])
    rows = torch.stack([compute_value_and_gradient(function, row[None])[1][0] for row in x])
    batched = convert_errors(lambda: torch.vmap(lambda row: summed(row[None])[0], randomness="same")(x))
    _require_close("vmap of func.grad", batched, rows)
    return "agrees with backward, also under vmap"


def check_compile(subject: Subject) -> str:
    """Verify that torch.compile accepts the target without a graph break, and that the results agree."""
    compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
    backend = "inductor" if compiler or subject.device.type != "cpu" else "aot_eager"
    function = subject.as_module() if subject.works_in_place else subject.copy_target(torch.float32)
    x, plain = subject.sample(dtype=torch.float32), subject.make_function(torch.float32)
    torch.compiler.reset()
    fast = torch.compile(function, fullgraph=True, backend=backend)
    leaf = x.clone().requires_grad_()
    y = convert_errors(lambda: fast(leaf))
    assert isinstance(y, Tensor)
    _require_close("the compiled value", y, plain(x), 1e-4)
    if y.requires_grad:
        convert_errors(lambda: torch.autograd.backward(y.sum()))
        assert leaf.grad is not None
        _require_close("the compiled gradient", leaf.grad, compute_value_and_gradient(plain, x)[1], 1e-4)
    return f"fullgraph, backend {backend}, forward and backward"


def check_export(subject: Subject) -> str:
    """Verify that torch.export exports the target, and that the exported program returns the same values."""
    x = subject.sample(dtype=torch.float32)
    expected = subject.make_function(torch.float32)(x)

    def verify(what: str) -> None:
        program = convert_errors(lambda: torch.export.export(subject.as_module(), (x,)))
        _require_close(what, program.module()(x), expected, 1e-5)

    verify("the exported value")
    if subject.declared is None or subject.declared.definition.formulas.exported is None:
        return "the exported program agrees"
    with exporting(exact=True):
        verify("the value exported with exact=True")
    return "the exported program agrees: torch's operations; with exact=True, the formula"


def check_saved_bytes(subject: Subject) -> str:
    """Report the bytes saved for backward per element of a float32 input; for a definition, verify them."""
    x = subject.sample(512, torch.float32).requires_grad_()
    function = subject.make_function(torch.float32)
    saved = sum(find_saved_storages(lambda: function(x)).values()) / x.numel()
    detail = f"{saved:.3g} bytes per element of a float32 input"
    if subject.declared is None:
        return f"{detail} (ReLU saves 4)"
    saves = subject.declared.definition.saves()
    expected = 1 if saves == "mask" else 4
    if saved > expected + _PARAMETERS and not subject.declared.definition.facts.gated:
        raise Failure(
            f"{detail}, expected {expected}: the definition declares that it saves only its {saves}"
        )
    return f"{detail}: the {saves}, as declared"
