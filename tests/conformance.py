"""The laws that every definition must satisfy, one function for each. The suite runs them over the
catalogue, and over broken copies to show that they can fail."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import math
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

import actlab
from tests.exact_values import bound, derivatives, errors, grid

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
Activation = actlab.Activation[...]


def sample(shape: tuple[int, ...] = (6, 8), dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Return points away from kinks, where the functions bend."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    return (values + 0.0123).to(dtype)


def call(activation: Activation) -> Callable[[Tensor], Tensor]:
    example = {} if activation.facts.gated else activation.example
    return lambda x: activation(x, **example)


def torch_equivalent(activation: Activation) -> torch.nn.Module | None:
    """Return the torch.nn module with its example arguments, in evaluation mode."""
    name = activation.facts.torch_equivalent
    return getattr(torch.nn, name)(**_needed(getattr(torch.nn, name), activation)).eval() if name else None


def module(activation: Activation, **parameters: float) -> torch.nn.Module:
    """Return actlab's module with the same arguments, or with ``parameters``."""
    module_class = activation.module_class
    assert module_class is not None
    return module_class(**{**_needed(module_class, activation), **parameters}).eval()


def _needed(factory: Callable[..., Any], activation: Activation) -> dict[str, Any]:
    empty = inspect.Parameter.empty
    parameters = _parameters(factory)
    example = {"num_features": 8, **activation.example}
    return {p.name: example[p.name] for p in parameters if p.default is empty}


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the named parameters: torch.nn classes without an __init__ have ``*args`` and ``**kwargs``."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p for p in inspect.signature(factory).parameters.values() if p.kind not in variadic]


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    y = function(x)
    return torch.autograd.grad(y, x, torch.ones_like(y))[0]


def same(got: Tensor, expected: Tensor, tolerance: float = 0.0, name: str = "") -> None:
    def prefix(message: str) -> str:
        return f"{name}: {message}" if name else message

    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True, msg=prefix)


# -- exactness ------------------------------------------------------------------------------------


def exact(activation: Activation, dtype: torch.dtype, copies: int = 1, **parameters: float) -> None:
    for order, worst in errors(activation, dtype, copies, **parameters).items():
        assert worst.error <= bound(order, dtype), f"{order} of {activation.name} in {dtype}: {worst}"


def limits(activation: Activation, dtype: torch.dtype) -> None:
    ends = torch.tensor([-math.inf, math.inf], dtype=dtype)
    got = {order: values.tolist() for order, values in derivatives(activation, ends).items()}
    for end in (0, 1):
        value, slope = float(activation.limits()[end]), float(activation.slopes()[end])
        close = 2 * torch.finfo(dtype).eps
        if not math.isnan(value):
            assert math.isclose(got["f"][end], value, rel_tol=close), ("f", end, got)
        if not math.isnan(slope):
            assert math.isclose(got["f'"][end], slope, rel_tol=close, abs_tol=close), ("f'", end, got)
            assert math.isclose(got["f' in a graph"][end], slope, rel_tol=close, abs_tol=close), (
                "f'",
                end,
                got,
            )
        if math.isfinite(slope):
            assert math.isfinite(got["f''"][end]), ("f''", end, got)
    through = derivatives(activation, torch.tensor([math.nan], dtype=dtype))["f"]
    assert through.isnan().all(), f"NaN becomes {through.item()}"


def kinks(activation: Activation) -> None:
    for dtype in DTYPES:
        for kink, slope in activation.kinks().items():
            at = torch.tensor([float(kink)], dtype=dtype)
            if float(at) != float(kink):
                continue  # not representable here: no input hits the kink
            result = derivatives(activation, at)
            chosen = torch.tensor([float(slope)], dtype=dtype)
            same(result["f'"], chosen)
            same(result["f' in a graph"], chosen)
            theirs = torch_equivalent(activation)
            if theirs is not None:
                same(gradient(theirs.to(dtype), at), chosen)


def range_and_monotonicity(activation: Activation) -> None:
    """Range and monotonicity agree with the values."""
    y = derivatives(activation, grid(activation, torch.float64))["f"]
    for bound_name, end, reached in zip(
        ("infimum", "supremum"), activation.range(), y.aminmax(), strict=True
    ):
        if math.isfinite(end):
            assert math.isclose(reached, end, rel_tol=1e-12, abs_tol=1e-12), (
                f"the {bound_name} is {reached}, not {end}"
            )
        else:
            assert reached * math.copysign(1, end) > 1e3, f"the {bound_name} is {reached}, not {end}"
    turns = y.diff() < -1e-12 * y[1:].abs().clamp_min(1e-12)
    assert activation.facts.monotonic == (not turns.any()), "monotonic is declared wrongly"


def agrees_with_torch(activation: Activation) -> None:
    theirs = torch_equivalent(activation)
    assert theirs is not None
    ours, x = module(activation).double(), sample((4, 6, 8))
    same(ours(x), theirs.double()(x), 1e-12)
    # torch's gradient of hardsigmoid uses 1/6 in float32 for every dtype.
    same(gradient(ours, x), gradient(theirs, x), 1e-8)


# -- memory ---------------------------------------------------------------------------------------


def count_saved_bytes(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    storages: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storages[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved):
        result = function(x)
    del result
    return sum(storages.values()) / x.numel()


def saves_as_declared(activation: Activation) -> None:
    saves = activation.facts.saves
    kind = saves(**activation.example) if callable(saves) else saves
    declared, theirs = 1 if kind == "mask" else 4, torch_equivalent(activation)
    for size in (64, 512):  # torch operations can serve small tensors
        x = sample((size, size), torch.float32).requires_grad_()
        saved_bytes = count_saved_bytes(call(activation), x)
        assert saved_bytes <= declared + 0.01, (
            f"{saved_bytes} bytes an element, not {declared}"
        )  # plus one or two parameters
        if theirs is not None:
            assert saved_bytes <= count_saved_bytes(theirs, x) + 0.01, "more bytes than torch.nn"


def leaves_no_cycle(activation: Activation) -> None:
    """The output is freed with its last reference, without the garbage collector."""
    gc.disable()
    try:
        x = sample().requires_grad_()
        y = call(activation)(x)
        alive = weakref.ref(y)
        del y
        assert alive() is None, "the output outlives its last user"
    finally:
        gc.enable()


# -- derivatives and transforms -------------------------------------------------------------------


def differentiable(activation: Activation) -> None:
    """First and second derivatives, forward mode and batched gradients pass torch's gradcheck."""
    x = sample((2, 4)).requires_grad_()
    torch.autograd.gradcheck(
        call(activation), x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    torch.autograd.gradgradcheck(call(activation), x, check_batched_grad=True)


def parameters_differentiable(activation: Activation) -> None:
    """Gradients of every parameter that can be a tensor are exact and summed over broadcast dimensions."""
    names = [n for n in activation.formulas.partials if isinstance(activation.example.get(n), float | int)]
    start = [torch.tensor(float(activation.example[n]) + 0.1, dtype=torch.float64) for n in names]
    x = sample((3, 4)).requires_grad_()

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return activation(x, **{**activation.example, **dict(zip(names, values, strict=True))})

    inputs = (x, *(value.requires_grad_() for value in start))
    torch.autograd.gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(function, inputs)


def transforms(activation: Activation) -> None:
    """vmap, func.grad, jvp and hessian agree with plain backward."""
    function, x = call(activation), sample((3, 8))
    same(torch.vmap(function)(x), function(x), 1e-15)
    if not activation.facts.gated:  # three elements cannot be halved
        same(torch.vmap(function, in_dims=1, out_dims=1)(x.mT.contiguous().mT), function(x), 1e-15)
    plain = gradient(function, x)
    summed = torch.func.grad(lambda z: function(z).sum())
    same(summed(x), plain, 1e-14)
    same(torch.vmap(summed)(x), plain, 1e-14)
    ones = torch.ones_like(x)
    same(torch.func.jvp(function, (x,), (ones,))[1].sum(), plain.sum(), 1e-12)
    row = x[0].clone().requires_grad_()
    hessian = torch.func.hessian(lambda z: function(z).sum())(row.detach())
    (first,) = torch.autograd.grad(function(row).sum(), row, create_graph=True)
    if not first.requires_grad:
        same(hessian, torch.zeros_like(hessian))
        return
    (second,) = torch.autograd.grad(first.sum(), row, allow_unused=True)
    same(hessian.sum(0), torch.zeros_like(row) if second is None else second, 1e-12)


class _SideBySide(torch.nn.Module):
    """Call several modules with one input."""

    def __init__(self, modules: list[torch.nn.Module]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


def compiles(*activations: Activation, backend: str = "aot_eager") -> None:
    """Compiled without a graph break: value, gradient, and an optimiser step through it."""
    torch.compiler.reset()
    # In float64, because a steep function would amplify the rounding errors of the first step.
    layers = [torch.nn.Sequential(torch.nn.Linear(8, 8), module(each)) for each in activations]
    model = _SideBySide([*layers]).double().eval()
    with torch.no_grad():
        for layer in layers:
            layer[0].weight.copy_(sample((8, 8), seed=1) / 6)
            layer[0].bias.zero_()
    eager, x = copy.deepcopy(model), sample((5, 8))
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for network in (compiled, eager):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            torch.stack([y.square().sum() for y in network(x)]).sum().backward()
            optimizer.step()
    for activation, ours, theirs in zip(activations, model.parts, eager.parts, strict=True):
        for got, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
            same(got, expected, 1e-9, activation.name)


def exports(activation: Activation) -> None:
    instance, x = module(activation), sample((5, 8), torch.float32)
    for exact in (False, True):
        with actlab.exporting(exact=exact):
            program = torch.export.export(instance, (x,))
        same(program.module()(x), instance(x), 1e-6)


def exports_to_onnx(*activations: Activation) -> None:
    modules_agree_in_onnx([module(activation) for activation in activations])


def modules_agree_in_onnx(modules: list[torch.nn.Module]) -> None:
    """Modules, exported by their formulas as one graph, compute the same in ONNX Runtime.

    tests/test_exporting.py exports all activations at once.
    """
    import onnxruntime

    x = sample((5, 8), torch.float32)
    with actlab.exporting(exact=True):
        program = torch.onnx.export(_SideBySide(modules).eval(), (x,), dynamo=True, verbose=False)
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert program.model.opset_imports[""] >= 18
    for instance, got in zip(modules, outputs, strict=True):
        same(torch.from_numpy(got), instance(x).detach(), 1e-5, str(instance))


# -- tensors of every kind ------------------------------------------------------------------------


def dtypes(activation: Activation) -> None:
    for dtype in DTYPES:
        x = sample(dtype=dtype).requires_grad_()
        y = call(activation)(x)
        assert y.dtype == dtype, f"{y.dtype} for {dtype}"
        assert gradient(call(activation), x).dtype == dtype


def autocast(activation: Activation) -> None:
    """Under autocast the dtype is torch.nn's; where torch has no such function, the input's."""
    theirs = torch_equivalent(activation)
    for dtype in (torch.float32, torch.bfloat16):
        x = sample(dtype=dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            expected = dtype if theirs is None else theirs.to(dtype)(x).dtype
            y = module(activation)(x)
        assert y.dtype == expected, f"{y.dtype} for {dtype}, not {expected}"
        y.sum().backward()
        assert x.grad.dtype == dtype


def layouts(activation: Activation) -> None:
    """Any layout gives the result of a contiguous copy, and the input is not modified."""
    base, function = sample((4, 6, 8, 12)), call(activation)
    views = {
        "transposed": base.mT,
        "strided": base[::2, 1::2, ::2, ::2],
        "channels last": base.contiguous(memory_format=torch.channels_last),
        "expanded": base[:, :, :, :1].expand(4, 6, 8, 12),
        "flipped": base.flip(-1),
        "empty": base[:0],
    }
    if not activation.facts.gated:
        views["zero-dimensional"] = torch.tensor(0.7, dtype=torch.float64)
    for name, view in views.items():
        before = view.clone()
        got, slope = function(view), gradient(function, view)
        assert torch.equal(view, before), f"{name}: the input was modified"
        same(got, function(before.contiguous()), 1e-15)
        same(slope, gradient(function, before.contiguous()), 1e-15)
        if not activation.facts.gated:
            assert got.shape == view.shape, f"{name}: the shape changed"


def works_in_place(activation: Activation) -> None:
    x = sample((3, 4)).requires_grad_()
    start = x * 1
    result = activation(start, **activation.example, inplace=True)
    assert result is start
    same(result, call(activation)(x))
    result.sum().backward()
    same(x.grad, gradient(call(activation), x))
    with torch.no_grad():
        plain = sample((3, 4))
        expected = call(activation)(plain)
        assert activation(plain, **activation.example, inplace=True) is plain
        same(plain, expected)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        activation(x, **activation.example, inplace=True)


def meta(activation: Activation) -> None:
    y = module(activation).to("meta")(torch.empty(4, 8, device="meta"))
    assert y.device.type == "meta"


def refuses(activation: Activation) -> None:
    for wrong in (torch.ones(4, 8, dtype=torch.int64), torch.ones(4, 8) > 0, torch.ones(4, 8) * 1j):
        with pytest.raises(NotImplementedError, match=f"^{activation.name}: .*{wrong.dtype}"):
            call(activation)(wrong)


# -- modules --------------------------------------------------------------------------------------


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))  # noqa: S301, the bytes are from this process


def module_copies_and_resets(activation: Activation) -> None:
    instance, x = module(activation), sample((4, 8), torch.float32)
    expected = instance(x)
    for copied in (copy.deepcopy(instance), pickled(instance)):
        same(copied(x), expected)
        assert repr(copied) == repr(instance)
    fresh = module(activation)
    with torch.no_grad():
        for parameter in instance.parameters():
            parameter.add_(0.1)
    fresh.load_state_dict(instance.state_dict())
    same(fresh(x), instance(x))
    if list(instance.parameters()):
        instance.reset_parameters()
        same(instance(x), expected)
    assert type(instance).__module__ == "actlab.nn"
    assert getattr(actlab.nn, type(instance).__name__) is type(instance)
    assert getattr(actlab.functional, activation.name) is activation
    assert pickled(activation) is activation


def module_looks_like_torch(activation: Activation) -> None:
    ours, theirs = module(activation), torch_equivalent(activation)
    assert theirs is not None
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    our_arguments, their_arguments = (
        [(p.name, p.default) for p in _parameters(type(m))] for m in (ours, theirs)
    )
    # torch.nn.Hardtanh also accepts two deprecated argument names.
    expected = [pair for pair in their_arguments if pair[0] not in ("min_value", "max_value")]
    assert our_arguments == expected, f"the arguments are {our_arguments}, not {expected}"
