"""Activations made from their textbook formulas, against those written by hand and against torch.nn.

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
from actlab.derivation.making import FormulaActivation
from benchmarks.functions import fused, ours, peer, trained
from benchmarks.measuring import interleaved, keep_memory, machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "formula.md"
SIZE, REPEATS = 10**6, 15
DRAWN = ("rrelu",)  # whose slope is drawn at random: it has no formula in training


def entries() -> list[str]:
    """Return the element-wise functions of the catalogue."""
    found = actlab.catalogue.items()
    return [name for name, activation in found if not activation.facts.gated and name not in DRAWN]


def made(name: str) -> tuple[FormulaActivation, float]:
    """Return an entry made from its textbook formula, at its example parameters, and the seconds it took."""
    activation = actlab.catalogue[name]
    used = {word: float(value) for word, value in activation.example.items() if not isinstance(value, str)}
    text = activation.formula()
    start = time.perf_counter()
    found = actlab.formula(text, name=f"{name}_made", parameters=_in(text, used))
    return found, time.perf_counter() - start


def _in(text: str, values: dict[str, float]) -> dict[str, float]:
    """Return those parameters that a formula names: some have their value written out."""
    words = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
    return {name: value for name, value in values.items() if name in words}


def row(name: str) -> dict[str, Any]:
    activation, seconds = made(name)
    label, theirs = peer(name)
    shape = (SIZE // 1000, 1000)
    generated, by_hand = (trained(function, shape, "cpu") for function in (activation, ours(name)))
    work = {
        "peer": trained(theirs, shape, "cpu"),
        "hand": by_hand,
        "made": generated,
        "hand fused": fused(by_hand),
        "made fused": fused(generated),
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
    eager = {name: t["made"] / t["hand"] for name, t in of.items()}
    kernels = {name: t["made fused"] / t["hand fused"] for name, t in of.items()}
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
        "Each is made by `actlab.formula` from the textbook formula of a catalogue entry alone. *Hand* is",
        "the entry itself; the peer is torch.nn's module, or the plain formula under autograd.",
        "",
        f"- Fused, made / hand: geometric mean **{mean(kernels)}**; above 1.2: {above(kernels, 1.2)}.",
        f"- Eager, made / hand: geometric mean **{mean(eager)}**; above 2: {above(eager, 2)}.",
        f"- Creation, proof included: median {statistics.median(creation.values()):.1f} s, the longest "
        f"{creation[slowest]:.1f} s ({slowest}).",
        "",
        "| name | created in s | inexact intervals | peer | peer µs | made / peer, eager | fused "
        "| made / hand, eager | fused |",
        "|---|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        t = r["times"]
        cells = [f"{r['creation']:.1f}", str(r["inexact"]), r["peer"], f"{t['peer'] * 1e6:.0f}"]
        cells += [f"{t['made'] / t['peer']:.2f}", f"{t['made fused'] / t['peer']:.2f}"]
        cells += [f"{eager[r['name']]:.2f}", f"{kernels[r['name']]:.2f}"]
        out.append(f"| {r['name']} | {' | '.join(cells)} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; then the table is printed, not written")
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
