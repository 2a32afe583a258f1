"""How exact every activation is: its worst errors against ball arithmetic of the textbook formula.

Run ``python -m benchmarks.accuracy``; it writes docs/benchmarks/accuracy.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import actlab
from benchmarks.measuring import machine
from tests.truth import bound, errors

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "accuracy.md"
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def row(activation: actlab.Activation[...], dtype: torch.dtype) -> str:
    worst = {order: found.error for order, found in errors(activation, dtype).items()}
    first = max(worst["f'"], worst["f' in a graph"])
    figures = (worst["f"], first, worst["f''"])
    return f"| {activation.name} | {str(dtype)[6:]} | " + " | ".join(f"{v:.2f}" for v in figures) + " |"


def lines(names: list[str]) -> list[str]:
    out = [
        "# How exact every activation is",
        "",
        f"{machine('cpu')}.",
        "Written by `python -m benchmarks.accuracy`. The largest error of each function and its",
        "derivatives, in units of `eps * max(|f|, |x f'|)`, and so on for the derivatives: of what",
        "rounding the input may move the value by. The truth is the textbook formula in ball arithmetic",
        "(python-flint) at some 5,000 points; in float16 and bfloat16 at every number, and float64 is the",
        "truth there unless the function oscillates. f' is the larger of plain backward and backward with",
        "`create_graph`. A function of two halves, such as `glu`, is a product: `a` times one of these, or",
        "times `b`.",
        "",
        f"The test suite fails above {bound('f', torch.float32):g} units in float64 and float32, and above "
        f"{bound('f', torch.float16):g} in float16 and bfloat16; twice as much for f''.",
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
    parser.add_argument("names", nargs="*", help="only these; then nothing is written")
    chosen = parser.parse_args().names
    torch.set_num_threads(1)
    page = lines(chosen or sorted(n for n, one in actlab.catalogue.items() if not one.facts.gated))
    if not chosen:
        PAGE.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
