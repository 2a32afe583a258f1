"""The fleet beside skorch under GridSearchCV: the notebook's comparison, and what many runs cost.

Run ``python -m benchmarks.fleet --data-dir MNIST``; it writes docs/benchmarks/fleet.md. Without MNIST's
files in that folder the rows that need them are left out. ``--epochs`` shortens a trial run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skorch
import torch
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

import actlab
from actlab.execution.scheduler import train_runs
from actlab.fleet.loop import Data, Loop
from actlab.fleet.run import Run
from actlab.fleet.skorch_adapter import read_run, split_validation
from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "fleet.md"
NAMES = ["relu", "tanh", "leaky_relu"]
MANY = (1, 9, 90, 900)
SAMPLES = (6_000, 12_000, 24_000, 48_000)
LIMITS = [
    "The limit: the first layer's two products are 51 MFLOP a step. Nine networks on two processes are at",
    "most five networks on one of them.",
]
TEN = ["relu", "tanh", "leaky_relu", "sigmoid", "silu", "mish", "gelu", "elu", "selu", "softplus"]


def net(features: int, classes: int, epochs: int, device: str = "cpu") -> skorch.NeuralNetClassifier:
    """Make the notebook's classifier."""
    return skorch.NeuralNetClassifier(
        actlab.NeuralNet,
        module__num_features=features,
        module__num_classes=classes,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer__momentum=0.95,
        lr=0.01,
        max_epochs=epochs,
        device=device,
        verbose=0,
    )


def search(kind: type, data: actlab.Dataset, epochs: int, **how: object) -> tuple[float, np.ndarray]:
    """Make the notebook's comparison; return its seconds and the mean scores."""
    grid = {"module__activation": NAMES}
    device = str(how.pop("device", "cpu"))
    estimator = net(data.num_features, data.num_classes, epochs, device)
    start = time.perf_counter()
    found = kind(estimator, grid, cv=3, refit=False, **how).fit(data.X, data.y)
    return time.perf_counter() - start, found.cv_results_["mean_test_score"]


def by_skorch(data: actlab.Dataset, epochs: int, jobs: int | None) -> tuple[float, np.ndarray]:
    if jobs is None:  # as the notebook runs it: one net at a time, with all threads
        return search(GridSearchCV, data, epochs)
    with parallel_config("loky", inner_max_num_threads=1):
        return search(GridSearchCV, data, epochs, n_jobs=jobs)


def comparison(data: actlab.Dataset, epochs: int, rounds: int) -> list[str]:
    calls: Mapping[str, Callable[[], tuple[float, np.ndarray]]] = {
        "fleet, float32, n_jobs=2": lambda: search(actlab.FleetSearchCV, data, epochs, n_jobs=2),
        "fleet, bf16, n_jobs=2": lambda: search(
            actlab.FleetSearchCV, data, epochs, n_jobs=2, precision="bf16"
        ),
        "skorch, GridSearchCV(n_jobs=2), a thread each": lambda: by_skorch(data, epochs, 2),
        "skorch, GridSearchCV() as the notebook has it": lambda: by_skorch(data, epochs, None),
    }
    small = actlab.Dataset(data.X[:3000], data.y[:3000], "warm", "", data.classes)
    search(actlab.FleetSearchCV, small, 1, n_jobs=2)  # both sides find their processes started
    by_skorch(small, 1, 2)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    scores = {}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds, scores[name] = call()
            taken[name].append(seconds)
            print(f"{name}: {seconds:.1f} s, {scores[name]}", flush=True)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    two, one = [name for name in calls if name.startswith("skorch")]
    lines = [
        f"## The notebook's comparison: 3 activations, 3 folds, {epochs} epochs, MNIST",
        "",
        f"Medians of {rounds} rounds, one after the other in one process; worker processes are warm.",
        "",
        "The last two columns: how many times faster than each of skorch's. Accuracies are in the order of",
        "relu, tanh, leaky_relu.",
        "",
        "| | seconds | mean accuracies | than n_jobs=2 | than the notebook's |",
        "|---|--:|---|--:|--:|",
    ]
    for name, seconds in medians.items():
        means = ", ".join(f"{score:.5f}" for score in scores[name])
        ratios = f"{medians[two] / seconds:.2f} | {medians[one] / seconds:.2f}"
        lines.append(f"| {name} | {seconds:.1f} | {means} | {ratios} |")
    return [*lines, ""]


def run_of(data: actlab.Dataset, rows: int, epochs: int, precision: str = "float32") -> Run:

    estimator = net(data.num_features, data.num_classes, epochs).set_params(module__activation="relu")
    like = read_run(estimator, data.X, data.y)
    train, valid = split_validation(estimator, np.arange(rows), data.y, 0, 0)
    return dataclasses.replace(like, rows=train, valid=valid, precision=precision)


class Clock:
    """Adds up the seconds that some calls take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(
        self, call: Callable[..., Any], when: Callable[..., bool] = lambda *_: True
    ) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            if not when(*args):
                return call(*args)
            start = time.perf_counter()
            result = call(*args)
            self.seconds += time.perf_counter() - start
            return result

        return timed

    def take(self) -> float:
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def product_rate(dtype: torch.dtype) -> float:
    """Return the GFLOP/s of the first layer's product in oneDNN, its factors in the cache."""
    x, weight = torch.randn(128, 784, dtype=dtype), torch.randn(128, 784, dtype=dtype)
    product = torch.ops.mkldnn._linear_pointwise
    seconds = []
    for _ in range(200):
        start = time.perf_counter()
        product(x, weight, None, "none", [], "")
        seconds.append(time.perf_counter() - start)
    return 2e-9 * 128 * 784 * 128 / statistics.median(seconds)


def parts(data: actlab.Dataset) -> list[str]:
    """Say where the time of a step goes, beside the machine's rate for the same products."""
    torch.set_num_threads(1)
    lines = [
        "## Where the time goes",
        "",
        "One thread, one run of 40,000 rows: 250 steps an epoch and 8,000 rows to validate, in microseconds",
        "a step.",
        "",
        "| precision | step | of it first layer | loss | update | validation | GFLOP/s | the machine's |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        run = run_of(data, 40_000, 25, precision)
        loop = Loop([run], True, Data(torch.from_numpy(data.X), torch.from_numpy(data.y)))
        clocks = {part: Clock() for part in ("epoch", "layer", "loss", "update", "validation")}
        with torch.no_grad():
            loop.epoch()
            layer: Any = loop.step.layers[0]
            layer.forward = clocks["layer"].around(layer.forward, lambda _, training: training)
            layer.backward = clocks["layer"].around(layer.backward)
            hidden: Any = loop
            hidden.step._loss = clocks["loss"].around(hidden.step._loss)
            hidden.rule.step = clocks["update"].around(hidden.rule.step)
            hidden._evaluate = clocks["validation"].around(hidden._evaluate)
            epoch = clocks["epoch"].around(loop.epoch)
            rounds = []
            for _ in range(7):
                epoch()
                rounds.append({part: 1e6 * clock.take() / 250 for part, clock in clocks.items()})
        took = {part: statistics.median(each[part] for each in rounds) for part in clocks}
        step = took["epoch"] - took["validation"]
        work = 2 * 128 * (2 * 784 * 128 + 3 * 128 * 64 + 3 * 64 * 10)
        figures = [step, *(took[part] for part in ("layer", "loss", "update", "validation"))]
        rate = f"{work / step / 1e3:.0f} | {product_rate(dtype):.0f}"
        lines.append(f"| {precision} | " + " | ".join(f"{each:.0f}" for each in figures) + f" | {rate} |")
        print(lines[-1], flush=True)
    return [*lines, "", *LIMITS, ""]


def many(count: int) -> None:
    """Train so many runs on digits in this process; print seconds and the peak of memory as JSON."""

    torch.set_num_threads(1)
    data = actlab.load_data("digits")
    like = run_of(data, len(data.y), 25)
    lrs = np.geomspace(0.001, 0.1, 30)
    runs = [
        dataclasses.replace(
            like,
            seed=place // 30,
            optimizer=dataclasses.replace(
                like.optimizer, numbers={**like.optimizer.numbers, "lr": lrs[place % 30]}
            ),
        )
        for place in range(count)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    train_runs(runs, data.X, data.y)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, before / 2**20]))


def growth() -> list[str]:
    lines = [
        "## What many runs cost",
        "",
        "Digits, 25 epochs, one process with one thread, each row in a process of its own. The peak before",
        "training is that of imports and data: the runs stay below it.",
        "",
        "| runs | seconds | ms a run | peak memory, GiB | of it before training |",
        "|--:|--:|--:|--:|--:|",
    ]
    for count in MANY:
        command = [sys.executable, "-m", "benchmarks.fleet", "--many", str(count)]
        seconds, peak, before = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        lines.append(f"| {count} | {seconds:.2f} | {1e3 * seconds / count:.0f} | {peak:.2f} | {before:.2f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def samples(data: actlab.Dataset) -> list[str]:
    torch.set_num_threads(1)
    lines = [
        "And of rows: one run on so many of MNIST's, 5 epochs.",
        "",
        "| rows | seconds | us a row and epoch |",
        "|--:|--:|--:|",
    ]
    for rows in SAMPLES:
        run = run_of(data, rows, 5)
        start = time.perf_counter()
        train_runs([run], data.X, data.y)
        seconds = time.perf_counter() - start
        lines.append(f"| {rows:,} | {seconds:.2f} | {1e6 * seconds / rows / 5:.1f} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def card(data: actlab.Dataset, epochs: int) -> list[str]:
    """Measure a graphics card, if there is one."""
    lines = ["## On a graphics card", ""]
    if not torch.cuda.is_available():
        return [
            *lines,
            "Not measured: there was none. `python -m benchmarks.fleet` measures one that it finds.",
            "",
        ]
    search(actlab.FleetSearchCV, data, 1, device="cuda")
    fleet, _ = search(actlab.FleetSearchCV, data, epochs, device="cuda")
    peer, _ = search(GridSearchCV, data, epochs, device="cuda")
    grid = {
        "module__activation": TEN,
        "lr": np.geomspace(0.001, 0.1, 10).tolist(),
    }
    estimator = net(data.num_features, data.num_classes, epochs, "cuda")
    start = time.perf_counter()
    folds = [(np.arange(len(data.y)), np.arange(1000))]
    actlab.FleetSearchCV(estimator, grid, cv=folds, seeds=10, refit=False).fit(data.X, data.y)
    thousand = time.perf_counter() - start
    return [
        *lines,
        f"{machine('cuda')}.",
        "",
        "| | seconds | skorch on the same card |",
        "|---|--:|--:|",
        f"| the notebook's comparison, after warm-up | {fleet:.1f} | {peer:.1f} ({peer / fleet:.0f} times) |",
        f"| 1,000 runs: 10 activations, 10 learning rates, 10 seeds, {epochs} epochs | {thousand:.1f} | |",
        "",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="data/mnist")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.many:
        many(arguments.many)
        return
    lines = [
        "# The fleet beside skorch",
        "",
        f"{machine('cpu')}, skorch {skorch.__version__}, two cores.",
        "Written by `python -m benchmarks.fleet`.",
        "",
    ]
    try:
        data = actlab.load_data("mnist", arguments.data_dir)
    except actlab.UsageError as error:
        lines += [f"MNIST's rows are left out: {error}", ""]
        lines += growth()
    else:
        lines += comparison(data, arguments.epochs, arguments.rounds)
        lines += [*parts(data), *growth(), *samples(data), *card(data, arguments.epochs)]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
