"""Compare activations from textbook formulas with the catalogue's own definitions and with torch.nn.

Run ``python -m benchmarks.formula``; it writes docs/benchmarks/formula.md.
"""

from __future__ import annotations

import argparse
import ast
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import actlab
from actlab.derivation.formula_activation import FormulaActivation
from benchmarks.functions import fused, ours, peer, training_step
from benchmarks.measuring import interleaved, keep_memory, machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "formula.md"
SIZE, REPEATS = 10**6, 15
RANDOM = ("rrelu",)  # has a random slope, so it has no formula in training


def entries() -> list[str]:
    """Return the element-wise functions in the catalogue."""
    found = actlab.catalogue.items()
    return [name for name, activation in found if not activation.facts.gated and name not in RANDOM]


def derive(name: str) -> tuple[FormulaActivation, float]:
    """Derive an entry from its textbook formula at its example parameters; return it and the seconds."""
    activation = actlab.catalogue[name]
    used = {word: float(value) for word, value in activation.example.items() if not isinstance(value, str)}
    text = activation.formula()
    start = time.perf_counter()
    found = actlab.formula(text, name=f"{name}_derived", parameters=_in(text, used))
    return found, time.perf_counter() - start


def _in(text: str, values: dict[str, float]) -> dict[str, float]:
    """Return the parameters that a formula names; some formulas contain values instead."""
    words = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
    return {name: value for name, value in values.items() if name in words}


def row(name: str) -> dict[str, Any]:
    activation, seconds = derive(name)
    label, theirs = peer(name)
    shape = (SIZE // 1000, 1000)
    generated, handwritten = (training_step(function, shape, "cpu") for function in (activation, ours(name)))
    work = {
        "peer": training_step(theirs, shape, "cpu"),
        "hand": handwritten,
        "derived": generated,
        "hand fused": fused(handwritten),
        "derived fused": fused(generated),
    }
    return {
        "name": name,
        "peer": label,
        "creation": seconds,
        "inexact": len(activation.inexact),
        "times": interleaved(work, REPEATS),
    }


def lines(rows: list[dict[str, Any]]) -> list[str]:
    of = {r["name"]: r["times"] for r in rows}
    eager = {name: t["derived"] / t["hand"] for name, t in of.items()}
    kernels = {name: t["derived fused"] / t["hand fused"] for name, t in of.items()}
    creation = {r["name"]: r["creation"] for r in rows}

    def mean(ratios: dict[str, float]) -> str:
        return f"{math.exp(statistics.fmean(map(math.log, ratios.values()))):.2f}"

    def above(ratios: dict[str, float], limit: float) -> str:
        return ", ".join(f"{n} {v:.2f}" for n, v in sorted(ratios.items()) if v > limit) or "none"

    slowest = max(creation, key=lambda name: creation[name])
    out = [
        "# Activations from formulas, measured",
        "",
        f"{machine('cpu')}. Written by `python -m benchmarks.formula`. float32, 10⁶ elements, forward and",
        "backward, medians of interleaved runs in one process.",
        "",
        "`actlab.formula` derives each activation from the textbook formula of a catalogue entry. *Hand* is",
        "the entry itself; the peer is torch.nn's module, or the plain formula under autograd. *Inexact",
        "intervals* counts the intervals in which an error exceeds its bound.",
        "",
        f"- Fused, derived / hand: geometric mean **{mean(kernels)}**; above 1.2: {above(kernels, 1.2)}.",
        f"- Eager, derived / hand: geometric mean **{mean(eager)}**; above 2: {above(eager, 2)}.",
        f"- Derivation, including error bounds: median {statistics.median(creation.values()):.1f} s, longest "
        f"{creation[slowest]:.1f} s ({slowest}).",
        "",
        "| name | derivation, s | inexact intervals | peer | peer µs | derived / peer, eager | fused "
        "| derived / hand, eager | fused |",
        "|---|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        t = r["times"]
        cells = [f"{r['creation']:.1f}", str(r["inexact"]), r["peer"], f"{t['peer'] * 1e6:.0f}"]
        cells += [f"{t['derived'] / t['peer']:.2f}", f"{t['derived fused'] / t['peer']:.2f}"]
        cells += [f"{eager[r['name']]:.2f}", f"{kernels[r['name']]:.2f}"]
        out.append(f"| {r['name']} | {' | '.join(cells)} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="activations to measure (default: all); with names, the table is only printed",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    rows = []
    for name in arguments.names or sorted(entries()):
        rows.append(row(name))
        print(name, f"{rows[-1]['creation']:.1f} s", flush=True)
    page = "\n".join(lines(rows)) + "\n"
    if arguments.names:
        print(page)
    else:
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
