"""Compare every activation with torch.nn or with its plain formula: time, memory, calls, bandwidth.

Run ``python -m benchmarks.functions``; it writes docs/benchmarks/functions.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

import actlab
from actlab.spec import split_spec
from benchmarks.measuring import interleaved, keep_memory, machine
from benchmarks.textbook import textbook

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "functions.md"
TRANSCENDENTAL = (
    "acos asin atan atan2 celu cos cosh elu erf erfc erfcx erfinv exp exp2 expm1 gelu glu log log1p log2 "
    "log_sigmoid logaddexp mish pow selu sigmoid silu sin sinh softplus tan tanh special_erfcx"
).split()
WHY = """\
Functions that are slower than their peer are more accurate. torch's `gelu` has an error of 57 % near -5.5, is
0 below -6, and is NaN at infinity. Its `silu` is 0 below -88.7 (the correct value at -89 is -2e-37). At minus
infinity, its `silu`, `mish` and `hardswish` are NaN. The derivative of its `silu` loses three bits between
5.5 and 17. Its `tanhshrink` loses all digits near 0. Its `hardsigmoid` cannot be differentiated twice.
Accurate values need more passes in eager mode, which explains most of the ratios above: a pass costs some
microseconds at 128x128, and a read and a write of the whole tensor at 10⁶ and 10⁷. Formulas of many
operations run on slices that stay in the cache. `actlab.fused()` and `torch.compile` fuse the passes into
one. Small tensors use torch's operations where these are exact. `silu` uses torch's kernels for inputs
between -80 and 5.4, and for its value also above 5.4. The inputs here have a standard deviation of 2, so some
are above 5.4, and the derivative of `silu` is computed by the formula. With a standard deviation of 1, eager
`silu` takes 1.9 times torch's time at 128x128, and 1.3 and 1.5 times at 10⁶ and 10⁷. Below about -1.5, no
kernel of torch has the accuracy that the tests of `gelu` demand, and torch's complementary error function
alone takes as long as both passes of torch's `gelu`. Three goals were missed: at most 1.3 times torch's time
for eager `silu` and 2 times for `gelu` at 10⁶ and 10⁷; no eager ratio above 2 at 128x128; and, for the better
of eager and fused, a geometric mean of 0.40 and no ratio above 1.25.
""".splitlines()
VARIANTS = ("gelu(approximate='tanh')",)  # in addition to every activation with default arguments
SIZES = ("small", 10**6, 10**7)
Function = Callable[[Tensor], Tensor]


class _Counting(TorchDispatchMode):
    """Count the kernel calls that evaluate a transcendental function."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        stem = func.overloadpacket.__name__.rstrip("_").removesuffix("_backward").removesuffix("_forward")
        self.calls += stem in TRANSCENDENTAL
        return func(*args, **(kwargs or {}))


def ours(spec: str) -> Function:
    """Return the module if torch.nn has one, so that both sides have module overhead; else the function."""
    name, _, chosen = split_spec(spec)
    activation = actlab.catalogue[name]
    if activation.facts.torch_equivalent and activation.module_class:
        return activation.module_class(**_required_arguments(activation), **chosen)
    arguments = {} if activation.facts.gated else activation.example
    return lambda x: activation(x, **arguments)


def peer(spec: str) -> tuple[str, Function]:
    """Return the torch equivalent, or the textbook formula under autograd."""
    name, _, chosen = split_spec(spec)
    activation = actlab.catalogue[name]
    if activation.facts.torch_equivalent:
        equivalent = getattr(torch.nn, activation.facts.torch_equivalent)
        return f"nn.{activation.facts.torch_equivalent}", equivalent(
            **_required_arguments(activation), **chosen
        )
    parameters = {k: v for k, v in activation.example.items() if isinstance(v, int | float)}
    formula = textbook(activation.formula(), **parameters)
    return "formula", (lambda x: formula(*x.chunk(2, -1))) if activation.facts.gated else formula


def _required_arguments(activation: actlab.Activation[Any]) -> dict[str, Any]:
    """Return the required arguments of the torch equivalent; only Threshold has any."""
    return dict(activation.facts.example) if activation.facts.torch_equivalent == "Threshold" else {}


def saved_bytes(function: Function) -> float:
    """Return the bytes saved for backward per element of the input."""
    x = torch.randn(64, 64, requires_grad=True)
    storages: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        if saved.numel() >= x.numel() // 2:
            storages[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved):
        y = function(x)
    del y
    return sum(storages.values()) / x.numel()


def count_calls(function: Function) -> int:
    x = torch.randn(64, 64, requires_grad=True)
    with _Counting() as counting:
        function(x).sum().backward()
    return counting.calls


def training_step(function: Function, shape: tuple[int, ...], device: str) -> Callable[[], None]:
    """Return a function that runs one forward and backward pass over a fixed input."""
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(shape, generator=generator, device=device).mul_(2).requires_grad_()
    grad = torch.randn_like(function(x).detach())

    def step() -> None:
        x.grad = None
        function(x).backward(grad)

    return step


def fused(step: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with actlab.fused():
            step()

    return run


def choose_clock(device: str) -> Callable[[], float]:
    """Return the clock of this thread, which other programs do not disturb; a GPU needs elapsed time."""
    return time.thread_time if device == "cpu" else time.perf_counter


def row(name: str, device: str) -> dict[str, Any]:
    label, theirs = peer(name)
    result: dict[str, Any] = {"name": name, "peer": label}
    for size, repeats in ((10**6, 21), (10**7, 11)):
        shape = (size // 1000, 1000)
        step = training_step(ours(name), shape, device)
        work = {"peer": training_step(theirs, shape, device), "eager": step, "fused": fused(step)}
        result[size] = interleaved(work, repeats, clock=choose_clock(device))
    small = {
        "peer": training_step(theirs, (128, 128), device),
        "eager": training_step(ours(name), (128, 128), device),
    }
    result["small"] = interleaved(small, 41, 20, choose_clock(device))
    result["bytes"] = (saved_bytes(ours(name)), saved_bytes(theirs))
    result["calls"] = (count_calls(ours(name)), count_calls(theirs))
    return result


def floor(size: int, device: str) -> float:
    """Return the seconds that forward and backward need to read and write memory: 2.5 copies."""
    x = torch.randn(size // 1000, 1000, device=device)
    return 2.5 * interleaved({"copy": x.clone}, 21, clock=choose_clock(device))["copy"]


def lines(rows: list[dict[str, Any]], device: str) -> list[str]:
    floors = {size: floor(size, device) for size in (10**6, 10**7)}
    best = {r["name"]: min(r[10**7]["eager"], r[10**7]["fused"]) / r[10**7]["peer"] for r in rows}
    eager = {size: {r["name"]: r[size]["eager"] / r[size]["peer"] for r in rows} for size in SIZES}
    means = {size: statistics.geometric_mean(ratios.values()) for size, ratios in eager.items()}
    over = [f"{n} {v:.2f}" for n, v in best.items() if v > 1.25]
    slow = [f"{n} {v:.2f}" for n, v in eager["small"].items() if v > 1.5]
    large = [
        f"{n} {a:.2f} and {b:.2f}"
        for (n, a), b in zip(eager[10**6].items(), eager[10**7].values(), strict=True)
        if max(a, b) > 2
    ]
    out = [
        "# Every activation, measured",
        "",
        f"{machine(device)}. float32, forward and backward, medians of interleaved runs in one process; on a "
        "CPU, processor time.",
        "Written by `python -m benchmarks.functions`. The peer is the `torch.nn` module of the same name, or",
        "the textbook formula under autograd if torch has none. A ratio below 1 means actlab is faster.",
        "*Floor* is the time of 2.5 copies of the input, which is the time of reading and writing alone.",
        "*Calls* counts transcendental functions evaluated per element, forward and backward, in eager mode.",
        "",
        "- Better of eager and fused at 10⁷ elements: geometric mean "
        f"**{statistics.geometric_mean(best.values()):.2f}** of the peer; "
        f"above 1.25: {', '.join(over) or 'none'}.",
        f"- Eager at 10⁶ and 10⁷ elements: geometric means {means[10**6]:.2f} and {means[10**7]:.2f}; "
        f"either above 2: {', '.join(large) or 'none'}.",
        f"- Eager at 128x128: geometric mean {means['small']:.2f}; above 1.5: {', '.join(slow) or 'none'}.",
        f"- Copying 10⁷ elements: {floors[10**7] / 2.5 * 1e3:.1f} ms.",
        "",
        *WHY,
        "",
        "| name | peer | 10⁶ peer µs | eager | fused | 10⁷ peer ms | eager | fused | best / floor "
        "| 128x128 peer µs | eager | saved B/elem (peer) | calls (peer) |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        a, b, c, saved, called = r[10**6], r[10**7], r["small"], r["bytes"], r["calls"]
        fastest = min(b["eager"], b["fused"])
        out.append(
            f"| {r['name']} | {r['peer']} | {a['peer'] * 1e6:.0f} | {a['eager'] / a['peer']:.2f} "
            f"| {a['fused'] / a['peer']:.2f} | {b['peer'] * 1e3:.1f} | {b['eager'] / b['peer']:.2f} "
            f"| {b['fused'] / b['peer']:.2f} | {fastest / floors[10**7]:.2f} | {c['peer'] * 1e6:.0f} "
            f"| {c['eager'] / c['peer']:.2f} | {saved[0]:g} ({saved[1]:g}) | {called[0]} ({called[1]}) |"
        )
    return out


def gelu_errors() -> list[str]:
    """Return the largest errors of both GELUs; torch is faster and less accurate."""
    x = torch.linspace(-13, 5, 200_001, dtype=torch.float32)
    wide = x.double()
    true = wide * torch.special.erfc(wide * -math.sqrt(0.5)) / 2
    floor = 1000 * torch.finfo(torch.float32).tiny
    errors = [
        ((f(x).double() - true).abs() / true.abs().clamp_min(floor)).max().item()
        for f in (actlab.functional.gelu, torch.nn.functional.gelu)
    ]
    return [
        "",
        "Exact GELU in float32, largest relative error on [-13, 5]: "
        f"actlab {errors[0]:.1e}, torch {errors[1]:.1e} (its left tail is 0 below -6).",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="activations to measure (default: all); with names, the table is only printed",
    )
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    rows = []
    for name in arguments.names or sorted([*actlab.catalogue, *VARIANTS]):
        rows.append(row(name, arguments.device))
        print(name, flush=True)
    page = lines(rows, arguments.device) + (gelu_errors() if "gelu" in {r["name"] for r in rows} else [])
    if arguments.names:
        print("\n".join(page))
        return
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
