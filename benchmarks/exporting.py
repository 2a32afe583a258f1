"""Compare exported activations with torch.nn's: nodes of ONNX, and times in two runtimes.

Run ``python -m benchmarks.exporting``; it writes docs/benchmarks/exporting.md.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import onnxruntime
import openvino
import torch

import actlab
from benchmarks.measuring import keep_memory, machine
from tests.exports import (
    load_in_onnxruntime,
    load_in_openvino,
    node_types,
    several,
    several_of_torch,
    to_onnx,
)

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "exporting.md"
SIZE = 2**20
REPEATS, CALLS = 11, 5  # rounds, and calls in each
ABOUT = f"""\
Written by `python -m benchmarks.exporting`. The first columns count the nodes of each activation in ONNX
(opset 20): by default, from torch.nn, and with `actlab.exporting(exact=True)`. The operator `Gelu` exists
since opset 20; in earlier opsets, gelu and torch.nn.GELU take five nodes each. The last columns give
nanoseconds per element in two runtimes, by default and with `exact=True`, for float32, {SIZE:,} elements,
processor time of one thread, medians of {REPEATS} rounds.
""".splitlines()
NOTES = """\
torch.nn.RReLU cannot be exported. torch's softshrink becomes seven nodes; actlab writes two. The exact
formulas are accurate where the operators of the runtimes are not: see
[Export a model](../how-to/export.md).
""".splitlines()


def describe_nodes(name: str, ours: str, theirs: str | None) -> str:
    """Return the columns of the nodes by default and of torch.nn."""
    return f"| {name} | {ours} | {len(ours.split())} | {len(theirs.split()) if theirs else '–'} |"


def processor_seconds(work: Sequence[Callable[[], object]]) -> list[float]:
    """Return the median processor time of each call; unlike elapsed time, it excludes other programs."""
    seconds: list[list[float]] = [[] for _ in work]
    for _ in range(REPEATS):
        for samples, call in zip(seconds, work, strict=True):
            call()  # the operands of the previous one leave the cache
            start = time.process_time()
            for _ in range(CALLS):
                call()
            samples.append((time.process_time() - start) / CALLS)
    return [statistics.median(samples) for samples in seconds]


def measure(name: str, x: torch.Tensor) -> str:
    """Return the row of an activation."""
    theirs = None if name == "rrelu" else node_types(to_onnx(several_of_torch([name]), (x,)))[0]
    models = []
    for exact in (False, True):
        with actlab.exporting(exact=exact):
            models.append(to_onnx(several([name]), (x,)))
    runs = [load(model) for load in (load_in_onnxruntime, load_in_openvino) for model in models]
    times = [seconds / x.numel() * 1e9 for seconds in processor_seconds([partial(run, [x]) for run in runs])]
    ours, exact = (node_types(model)[0] for model in models)
    cells = [str(len(exact.split())), *(f"{time:.2f}" for time in times)]
    return f"{describe_nodes(name, ours, theirs)} {' | '.join(cells)} |"


def main() -> None:
    torch.set_num_threads(1)
    keep_memory()
    x = torch.randn(SIZE, generator=torch.Generator().manual_seed(0)).view(-1, 1024) * 2
    names = [name for name, activation in actlab.catalogue.items() if activation.facts.torch_equivalent]
    versions = f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}"
    lines = ["# Exported activations", "", f"{machine('cpu')}, {versions}.", *ABOUT, ""]
    lines += ["| | operators | nodes | torch.nn | exact | ONNX Runtime | exact | OpenVINO | exact |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    lines += [measure(name, x) for name in names]
    PAGE.write_text("\n".join([*lines, "", *NOTES]) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
