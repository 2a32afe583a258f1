"""Measure the cost of diagnostics: comparisons without them, with the default, and after every epoch.

Run ``python -m benchmarks.diagnostics --data-dir MNIST``; it writes docs/benchmarks/diagnostics.md. Without
MNIST's files in that folder, its row is omitted. ``--rounds`` is the number of repetitions.
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

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "diagnostics.md"
SETTINGS = {"never": False, "default": None, "every epoch": True}


Comparison = Callable[..., actlab.Comparison]


def comparisons(mnist: actlab.Dataset | None) -> dict[str, Comparison]:
    digits, few = actlab.load_data("digits"), ["relu", "tanh", "leaky_relu"]
    comparisons_by_name: dict[str, Comparison] = {
        "digits, 4 activations, 8 seeds, one process": functools.partial(
            actlab.compare, [*few, "sigmoid"], digits, seeds=8, jobs=1, tune=None
        ),
        "digits, batches of 16 samples, one process": functools.partial(
            actlab.compare, few, digits, batch_size=16, jobs=1, tune=None
        ),
        "digits, the convolutional network, 10 epochs, one process": functools.partial(
            actlab.compare, few, digits, module=ConvNet, epochs=10, jobs=1, tune=None
        ),
        "digits, 30 layers, 10 epochs, one process": functools.partial(
            actlab.compare, few, digits, module=DeepNet, epochs=10, jobs=1, tune=None
        ),
    }
    if mnist is not None:
        comparisons_by_name["MNIST, the notebook's comparison, two processes"] = functools.partial(
            actlab.compare, few, mnist, jobs=2, tune=None
        )
    return comparisons_by_name


def measure(call: Comparison, rounds: int) -> tuple[dict[str, float], dict[str, int]]:
    """Return the median seconds of each setting, and the number of epochs with diagnostics."""
    seconds_of_rounds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    epochs: dict[str, int] = {}
    for number in range(rounds + 1):
        for setting, value in SETTINGS.items():
            start = time.perf_counter()
            about: Any = call(diagnostics=value).about["diagnostics"]
            if number:  # the first round warms up
                seconds_of_rounds[setting].append(time.perf_counter() - start)
            epochs[setting] = len(about.get("measured_epochs", []))
    return {setting: statistics.median(times) for setting, times in seconds_of_rounds.items()}, epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    has_mnist = arguments.data_dir is not None and arguments.data_dir.is_dir()
    mnist = actlab.load_data("mnist", data_dir=arguments.data_dir) if has_mnist else None
    lines = [
        "# Cost of diagnostics",
        "",
        f"Written by `python -m benchmarks.diagnostics` on {machine('cpu')}. "
        f"The table shows medians of {arguments.rounds} rounds, in "
        "which the three settings alternate. The times are those of whole comparisons, including verdicts.",
        "",
        f"Diagnostics use {ROWS} samples that the models do not train on. They consist of a forward and a "
        "backward pass of the whole fleet, the shares of dead and saturated units, two histograms and the "
        "gradient of every layer. "
        f"By default they are collected only after some epochs, and take at most {SHARE:.0%} of the time of "
        "the training steps. The number of these epochs is the same on every machine.",
        "",
        "| | never, s | default, s | default / never | epochs "
        "| every epoch, s | every epoch / never | epochs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, call in comparisons(mnist).items():
        seconds, epochs = measure(call, arguments.rounds)
        cells = [f"{seconds['never']:.2f}"]
        for setting in ("default", "every epoch"):
            cells += [
                f"{seconds[setting]:.2f}",
                f"{seconds[setting] / seconds['never']:.3f}",
                str(epochs[setting]),
            ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    PAGE.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
