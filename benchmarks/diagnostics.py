"""What looking into nets costs: comparisons that look never, as often as unasked, and after every epoch.

Run ``python -m benchmarks.diagnostics --data-dir MNIST``; it writes docs/benchmarks/diagnostics.md. Without
MNIST's files in that folder its row is left out. ``--rounds`` says how often each is made.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import actlab
from actlab.fleet.diagnostics import ROWS, SHARE
from actlab.models.networks import ConvNet
from benchmarks.depth import DeepNet
from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "inside.md"
WAYS = {"never": False, "unasked": None, "every epoch": True}


Comparison = Callable[..., actlab.Comparison]


def comparisons(mnist: actlab.Dataset | None) -> dict[str, Comparison]:
    digits, few = actlab.load_data("digits"), ["relu", "tanh", "leaky_relu"]
    found: dict[str, Comparison] = {
        "digits, 4 activations, 8 seeds, one process": functools.partial(
            actlab.compare, [*few, "sigmoid"], digits, seeds=8, jobs=1
        ),
        "digits, batches of 16 rows, one process": functools.partial(
            actlab.compare, few, digits, batch_size=16, jobs=1
        ),
        "digits, the convolutional net, 10 epochs, one process": functools.partial(
            actlab.compare, few, digits, module=ConvNet, epochs=10, jobs=1
        ),
        "digits, 30 layers, 10 epochs, one process": functools.partial(
            actlab.compare, few, digits, module=DeepNet, epochs=10, jobs=1
        ),
    }
    if mnist is not None:
        found["MNIST, the notebook's comparison, two processes"] = functools.partial(
            actlab.compare, few, mnist, jobs=2
        )
    return found


def measured(call: Comparison, rounds: int) -> tuple[dict[str, float], dict[str, int]]:
    """Return the median seconds of each way, and after how many epochs nets were looked into."""
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    looks: dict[str, int] = {}
    for number in range(rounds + 1):
        for way, inside in WAYS.items():
            start = time.perf_counter()
            about: Any = call(inside=inside).about["inside"]
            if number:  # the first time everything is new
                taken[way].append(time.perf_counter() - start)
            looks[way] = len(about.get("looks", []))
    return {way: statistics.median(times) for way, times in taken.items()}, looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    there = arguments.data_dir is not None and arguments.data_dir.is_dir()
    mnist = actlab.load_data("mnist", data_dir=arguments.data_dir) if there else None
    lines = [
        "# What looking into nets costs",
        "",
        f"Made by `python -m benchmarks.diagnostics` on {machine('cpu')}. "
        f"Medians of {arguments.rounds} rounds, "
        "the three ways one after the other; whole comparisons, verdicts included.",
        "",
        f"A look is at {ROWS} rows that the nets do not train on: a pass forwards and backwards of the whole "
        "fleet, shares of dead and saturated units, two histograms and the gradient of every layer. "
        f"Unasked, nets are looked into after as many epochs as take at most {SHARE:.0%} of the training by "
        "the count of steps, which is the same on every machine.",
        "",
        "| | never, s | unasked, s | of never | looks | every epoch, s | of never | looks |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, call in comparisons(mnist).items():
        seconds, looks = measured(call, arguments.rounds)
        cells = [f"{seconds['never']:.2f}"]
        for way in ("unasked", "every epoch"):
            cells += [f"{seconds[way]:.2f}", f"{seconds[way] / seconds['never']:.3f}", str(looks[way])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    PAGE.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
