"""Measure the largest errors of every activation against ball arithmetic of its textbook formula.

Run ``python -m benchmarks.accuracy``; it writes docs/benchmarks/accuracy.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import actlab
from benchmarks.measuring import machine
from tests.exact_values import bound, errors

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "accuracy.md"
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def row(activation: actlab.Activation[...], dtype: torch.dtype) -> str:
    largest = {order: worst.error for order, worst in errors(activation, dtype).items()}
    first = max(largest["f'"], largest["f' in a graph"])
    figures = (largest["f"], first, largest["f''"])
    return f"| {activation.name} | {str(dtype)[6:]} | " + " | ".join(f"{v:.2f}" for v in figures) + " |"


def lines(names: list[str]) -> list[str]:
    out = [
        "# Accuracy of every activation",
        "",
        f"{machine('cpu')}.",
        "Written by `python -m benchmarks.accuracy`. The largest error of each function and its derivatives",
        "is given in units of `eps * max(|f|, |x f'|)`, which is about the effect of rounding the input;",
        "the units of the derivatives are defined accordingly. The exact values come from the textbook",
        "formula in ball arithmetic (python-flint) at about 5,000 points. float16 and bfloat16 are tested",
        "at every number of the format. There, the exact values are those of float64, except for functions",
        "that oscillate. The errors of f' are those of plain backward or of backward with `create_graph`,",
        "whichever is larger. Gated functions such as `glu` are omitted, because they are products of these",
        "functions.",
        "",
        f"The test suite fails above {bound('f', torch.float32):g} units in float64 and float32, and above "
        f"{bound('f', torch.float16):g} in float16 and bfloat16; the limit for f'' is twice as large.",
        "",
        "| name | dtype | f | f' | f'' |",
        "|---|---|--:|--:|--:|",
    ]
    for name in names:
        for dtype in DTYPES:
            out.append(row(actlab.catalogue[name], dtype))
            print(out[-1], flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="activations to measure (default: all); with names, no page is written"
    )
    chosen = parser.parse_args().names
    torch.set_num_threads(1)
    page = lines(chosen or sorted(n for n, one in actlab.catalogue.items() if not one.facts.gated))
    if not chosen:
        PAGE.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
