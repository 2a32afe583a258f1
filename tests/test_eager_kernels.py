"""Kernels of torch where they are accurate, and slices of large tensors."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import actlab
from actlab.activation import slices
from actlab.activation.numerics import exp, lies_within
from actlab.fleet.layers import FormulaLayer
from tests.exact_values import bound, exact_values

inf, nan = math.inf, math.nan
silu = actlab.catalogue["silu"]


class Operations(TorchDispatchMode):
    """Record the names of the operations of torch."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def kernels(values, dtype=torch.float32):
    """Return whether forward and backward of silu run torch's kernels for these values."""
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    with Operations() as operations:
        silu(x).backward(torch.ones_like(x))
    return "silu" in operations.names, "silu_backward" in operations.names


# -- lies_within ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1.0, 1.0], True),
        ([-2.0, 1.0], False),
        ([-1.0, 3.0], False),
        ([math.nextafter(-2.0, 0.0), math.nextafter(3.0, 0.0)], True),
        ([nan, 1.0], False),
        ([1.0, nan], False),
        ([nan], False),
        ([inf], False),
        ([-inf], False),
        ([], False),
    ],
    ids=str,
)
def test_lies_within_excludes_the_bounds_and_nan(values, expected):
    assert lies_within(torch.tensor(values, dtype=torch.float64), -2.0, 3.0) is expected


def test_lies_within_of_an_infinite_upper_bound_reads_only_the_minimum():
    x = torch.tensor([0.0, inf])
    with Operations() as operations:
        assert lies_within(x, -2.0, inf)
    assert operations.names == ["detach", "amin", "_local_scalar_dense"]


def test_lies_within_leaves_no_graph():
    x = torch.ones(3, requires_grad=True)
    assert lies_within(x, 0.0, 2.0)
    assert lies_within(torch.nn.Parameter(torch.ones(3)), 0.0, 2.0)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
def test_lies_within_reads_no_values_of_fake_meta_and_traced_tensors():
    seen = []

    def spy(x):
        seen.append(lies_within(x, -2.0, 2.0))
        return x * 1

    x = torch.zeros(3)
    spy(x.to("meta"))
    with FakeTensorMode() as mode:
        spy(mode.from_tensor(x))
    torch.vmap(spy)(x)
    torch.func.grad(lambda z: spy(z).sum())(x)
    make_fx(spy)(x)
    make_fx(spy, tracing_mode="fake")(x)
    torch.jit.trace(spy, (x,), check_trace=False)
    torch.export.export(torch.nn.SiLU(), (x,))  # does not raise an error after the other traces
    assert seen == [False] * 7
    assert lies_within(x, -2.0, 2.0)


# -- silu -----------------------------------------------------------------------------------------


def test_silu_runs_torch_kernels_only_inside_their_range():
    low, high = torch.tensor(-80.0), torch.tensor(5.4)
    above_low, below_high = low.nextafter(high).item(), high.nextafter(low).item()
    assert kernels([above_low, 0.0, below_high]) == (True, True)
    assert kernels([-80.0, 0.0]) == (False, False)
    assert kernels([0.0, 5.4]) == (True, False)
    assert kernels([0.0, nan]) == (False, False)
    assert kernels([0.0, inf]) == (True, False)
    assert kernels([0.0, -inf]) == (False, False)
    assert kernels([]) == (False, False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_silu_is_exact_inside_the_range_of_torch_kernels(dtype):
    wide = torch.cat([torch.linspace(-79.5, 5.37, 500), torch.logspace(-30, 0.6, 100)]).double()
    x = wide.to(dtype).requires_grad_()
    assert lies_within(x, -80, 5.4)
    exact = exact_values(silu, x.detach().double().numpy())
    (slope,) = torch.autograd.grad(silu(x), x, torch.ones_like(x))
    info = torch.finfo(dtype)
    for order, got in enumerate((silu(x).detach(), slope)):
        true, steep = (torch.from_numpy(exact.high[k]) for k in (order, order + 1))
        scale = torch.maximum(true.abs(), (x.detach().double() * steep).abs())
        half = dtype.itemsize == 2
        error = (got.double() - true).abs() / (info.eps * scale.clamp_min(info.tiny * (1 if half else 1000)))
        assert error.max() <= bound("f", dtype), (order, x[error.argmax()])


def test_silu_with_one_element_outside_the_range_is_exact_everywhere():
    x = torch.linspace(-60.0, 4.0, 1001)
    x[500] = -inf
    x[501] = 16.635528564453125  # torch's derivative is 1.0 here
    x.requires_grad_()
    y = silu(x)
    y.sum().backward()
    wide = x.detach().double().requires_grad_()
    true = silu(wide)
    true.sum().backward()
    assert y[500] == 0.0
    assert x.grad[500] == 0.0
    assert x.grad[501] == torch.tensor(1 + 9.2637e-07)
    torch.testing.assert_close(y.double(), true, rtol=1e-6, atol=1e-30)
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-5, atol=1e-30)


def test_silu_second_derivative_does_not_depend_on_the_kernel():
    inside = torch.linspace(-20, 4, 100, dtype=torch.float64, requires_grad=True)
    outside = torch.cat(
        [inside.detach(), torch.tensor([-100.0, 100.0], dtype=torch.float64)]
    ).requires_grad_()
    results = []
    for x in (inside, outside):
        (slope,) = torch.autograd.grad(silu(x).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(slope.sum(), x)[0][:100])
    assert torch.equal(*results)


def test_silu_in_place_and_not_contiguous_runs_torch_kernels():
    base = torch.linspace(-3, 3, 24).view(4, 6)
    x = base.mT.clone().requires_grad_()
    y = silu(x * 1, inplace=True)
    y.backward(torch.ones_like(y))
    expected = base.mT.clone().requires_grad_()
    torch.nn.functional.silu(expected).sum().backward()
    assert torch.equal(y, torch.nn.functional.silu(base.mT))
    assert torch.equal(x.grad, expected.grad)


def test_silu_of_a_network_in_a_fleet_does_not_depend_on_the_others():
    x = torch.linspace(-3, 3, 48).view(2, 4, 6)
    other = torch.stack([x[0], x[1] * 100])
    results = []
    for values in (x, other):
        layer = FormulaLayer([actlab.nn.SiLU(), actlab.nn.SiLU()])
        results.append((layer.forward(values, True)[0], layer.backward(torch.ones_like(values), False)[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


# -- slices ---------------------------------------------------------------------------------------

LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.mT,
    "channels last": lambda x: x.view(8, 8, 64, -1).contiguous(memory_format=torch.channels_last),
    "with gaps": lambda x: x[:, ::2],
    "offset": lambda x: x[1:],
}


@pytest.fixture
def small_slices(monkeypatch):
    monkeypatch.setattr(slices, "_SLICE", 100)
    monkeypatch.setattr(slices, "_LARGE", 400)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["gelu", "tanhexp", "squareplus"])
def test_run_in_slices_gives_the_values_and_the_strides_of_one_call(name, dtype, layout, request):
    function = actlab.catalogue[name]
    base = torch.randn(256, 128, generator=torch.Generator().manual_seed(0)).mul_(3).to(dtype)
    x = LAYOUTS[layout](base).detach()
    results = []
    for sliced in (False, True):
        if sliced:
            request.getfixturevalue("small_slices")
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_() if layout != "offset" else x
        leaf = leaf.detach().requires_grad_()
        y = function(leaf)
        results.append((y.detach(), *torch.autograd.grad(y, leaf, torch.ones_like(y))))
    for whole, parts in zip(*results, strict=True):
        assert parts.stride() == whole.stride()
        # a kernel of torch may round the last elements of a slice differently
        torch.testing.assert_close(parts, whole, rtol=0, atol=4 * torch.finfo(dtype).eps)


def test_run_in_slices_slices_only_kernels_of_many_operations(small_slices):
    sizes = []

    def record(x, count):
        sizes.append(x.numel())
        for _ in range(count):
            x = x + 1
        return x

    x = torch.zeros(950)
    assert torch.equal(slices.run_in_slices(record, x, 5), x + 5)
    assert sizes[1:] == [100] * 9 + [50]
    sizes.clear()
    assert torch.equal(slices.run_in_slices(record, x, 4), x + 4)
    assert sizes[1:] == [950]


def test_run_in_slices_passes_parameters_and_scalar_tensors(small_slices):
    def kernel(grad, x, factor, shift):
        return ((grad * x + 1) * factor + 1) * 2 + shift

    x, grad = torch.arange(1000.0), torch.full((1000,), 2.0)
    result = slices.run_in_slices(kernel, grad, x, 3.0, torch.tensor(5.0))
    assert torch.equal(result, ((2 * x + 1) * 3 + 1) * 2 + 5)
    expanded = torch.tensor(2.0).expand(1000)
    assert torch.equal(slices.run_in_slices(kernel, expanded, x, 3.0, torch.tensor(5.0)), result)


def test_run_in_slices_returns_a_wrong_shape_unchanged(small_slices):
    def kernel(x):
        return (((x + 1) * 2 + 1) * 2 + 1)[:1]

    assert slices.run_in_slices(kernel, torch.zeros(1000)).shape == (1,)


# -- elementary functions -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_exp_error_is_below_the_effect_of_rounding_its_input(dtype):
    x = torch.linspace(-85, 85, 20001, dtype=dtype)
    wide = x.double()
    true = torch.exp(wide)
    error = (exp(x).double() - true).abs() / (torch.finfo(dtype).eps * true * (1 + wide.abs()))
    assert error.max() < 1
    ends = torch.tensor([-inf, inf, nan, -800.0, 0.0], dtype=dtype)
    torch.testing.assert_close(exp(ends), torch.exp(ends), rtol=0, atol=0, equal_nan=True)
