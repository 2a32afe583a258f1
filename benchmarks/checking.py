"""Measure how long a check takes, compared with torch's gradcheck and gradgradcheck of the same function.

Run ``python -m benchmarks.checking``; it writes docs/benchmarks/check.md.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import torch

import actlab
from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "check.md"
TARGETS = (
    "relu",
    "mish",
    "gelu",
    "phish",
    "sine",
    "snake",
    "prelu",
    "swiglu",
    "torch.nn:Tanh",
    "torch.nn:GELU",
)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def gradchecks(target: str) -> None:
    """Run torch's gradcheck and gradgradcheck at a batch of random points."""
    module = actlab.get(target).double().eval()
    x = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(module, x, check_forward_ad=True, raise_exception=False)
    torch.autograd.gradgradcheck(module, x, raise_exception=False)


def main() -> None:
    torch.set_num_threads(1)
    lines = [
        "# Time of a check",
        "",
        f"{machine('cpu')}. Written by `python -m benchmarks.checking`. The table compares the",
        "time of `actlab check` with that of torch's `gradcheck` (with forward mode) and `gradgradcheck` at",
        "48 points. A check has 45 rows, uses thousands of points and runs in a separate process. The",
        "limits are 5 s without the rows `compile` and `export`, and 25 s with them.",
        "",
        "| target | without compile, s | all, s | gradchecks, s | without compile / gradchecks |",
        "|---|--:|--:|--:|--:|",
    ]
    for target in TARGETS:
        short = seconds(functools.partial(actlab.check, target, skip=["compile", "export"]))
        full = seconds(functools.partial(actlab.check, target))
        peer = seconds(functools.partial(gradchecks, target))
        lines.append(f"| {target} | {short:.1f} | {full:.1f} | {peer:.2f} | {short / peer:.1f} |")
        print(lines[-1], flush=True)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
