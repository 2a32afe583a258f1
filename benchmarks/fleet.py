"""Compare the fleet with skorch under GridSearchCV: the notebook's comparison, and the time of many runs.

Run ``python -m benchmarks.fleet --data-dir MNIST``; it writes docs/benchmarks/fleet.md. Without MNIST's
files in that folder the tables that need them are omitted. ``--epochs`` shortens a trial run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skorch
import torch
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

import actlab
from actlab.execution.scheduler import train_runs
from actlab.fleet.loop import DeviceData, Loop
from actlab.fleet.run import Run
from actlab.fleet.skorch_adapter import read_run
from actlab.models.networks import ConvNet
from actlab.training.validation_split import split_validation
from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "fleet.md"
NAMES = ["relu", "tanh", "leaky_relu"]
MANY = (1, 9, 90, 900)
SAMPLES = (6_000, 12_000, 24_000, 48_000)
LIMITS = [
    "The two products of the first layer, 51 MFLOP per step, limit the speed. Two processes cannot share",
    "nine networks equally: one of them trains at least five.",
]
FOUR = ["relu", "tanh", "silu", "gelu"]
TEN = ["relu", "tanh", "leaky_relu", "sigmoid", "silu", "mish", "gelu", "elu", "selu", "softplus"]


def create_classifier(
    features: int, classes: int, epochs: int, device: str = "cpu"
) -> skorch.NeuralNetClassifier:
    """Return the classifier of the notebook."""
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


def search(kind: type, data: actlab.Dataset, epochs: int, **options: object) -> tuple[float, np.ndarray]:
    """Run the notebook's comparison; return its seconds and the mean scores."""
    grid = {"module__activation": NAMES}
    device = str(options.pop("device", "cpu"))
    estimator = create_classifier(data.num_features, data.num_classes, epochs, device)
    start = time.perf_counter()
    fitted = kind(estimator, grid, cv=3, refit=False, **options).fit(data.X, data.y)
    return time.perf_counter() - start, fitted.cv_results_["mean_test_score"]


def search_with_skorch(data: actlab.Dataset, epochs: int, jobs: int | None) -> tuple[float, np.ndarray]:
    if jobs is None:  # the notebook trains one model at a time, with all threads
        return search(GridSearchCV, data, epochs)
    with parallel_config("loky", inner_max_num_threads=1):
        return search(GridSearchCV, data, epochs, n_jobs=jobs)


def measure_comparison(data: actlab.Dataset, epochs: int, rounds: int) -> list[str]:
    calls: Mapping[str, Callable[[], tuple[float, np.ndarray]]] = {
        "fleet, float32, n_jobs=2": lambda: search(actlab.FleetSearchCV, data, epochs, n_jobs=2),
        "fleet, bf16, n_jobs=2": lambda: search(
            actlab.FleetSearchCV, data, epochs, n_jobs=2, precision="bf16"
        ),
        "skorch, GridSearchCV(n_jobs=2), one thread each": lambda: search_with_skorch(data, epochs, 2),
        "skorch, GridSearchCV() as in the notebook": lambda: search_with_skorch(data, epochs, None),
    }
    small = actlab.Dataset(data.X[:3000], data.y[:3000], "warm", "", data.classes)
    search(actlab.FleetSearchCV, small, 1, n_jobs=2)  # warm up the worker processes of both
    search_with_skorch(small, 1, 2)
    seconds_of_rounds: dict[str, list[float]] = {name: [] for name in calls}
    scores = {}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds, scores[name] = call()
            seconds_of_rounds[name].append(seconds)
            print(f"{name}: {seconds:.1f} s, {scores[name]}", flush=True)
    medians = {name: statistics.median(times) for name, times in seconds_of_rounds.items()}
    two, one = [name for name in calls if name.startswith("skorch")]
    lines = [
        f"## The notebook's comparison: 3 activations, 3 folds, {epochs} epochs, MNIST",
        "",
        f"The table shows medians of {rounds} rounds in one process, in which the programs alternate. The",
        "worker processes are already running.",
        "",
        "The last two columns are the speedups over the two skorch rows. Accuracies are in the order relu,",
        "tanh, leaky_relu.",
        "",
        "| | seconds | mean accuracies | over n_jobs=2 | over the notebook |",
        "|---|--:|---|--:|--:|",
    ]
    for name, seconds in medians.items():
        means = ", ".join(f"{score:.5f}" for score in scores[name])
        ratios = f"{medians[two] / seconds:.2f} | {medians[one] / seconds:.2f}"
        lines.append(f"| {name} | {seconds:.1f} | {means} | {ratios} |")
    return [*lines, ""]


class PooledConvNet(torch.nn.Module):
    """Two convolutions with max pooling, and a linear layer."""

    def __init__(self, activation: str = "relu", num_features: int = 64, channels: int = 8) -> None:
        super().__init__()
        side = math.isqrt(num_features)
        self.layers = torch.nn.Sequential(
            torch.nn.Unflatten(1, (1, side, side)),
            torch.nn.Conv2d(1, channels, 3, padding=1),
            actlab.get(activation),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(channels, 2 * channels, 3, padding=1),
            actlab.get(activation),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(2 * channels * (side // 4) ** 2, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


class Transformer(torch.nn.Module):
    """One block with four heads on the patches of an image; 32 numbers per patch."""

    def __init__(self, activation: str = "relu", num_features: int = 64, length: int = 8) -> None:
        super().__init__()
        self.length = length
        self.first = torch.nn.Linear(num_features // length, 32)
        self.positions = torch.nn.Parameter(torch.zeros(length, 32))
        self.norm1, self.norm2 = torch.nn.LayerNorm(32), torch.nn.LayerNorm(32)
        self.attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)
        hidden = torch.nn.Linear(32, 128), actlab.get(activation), torch.nn.Linear(128, 32)
        self.hidden, self.last = torch.nn.Sequential(*hidden), torch.nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.unflatten(1, (self.length, -1))) + self.positions
        inputs = self.norm1(x)
        x = x + self.attention(inputs, inputs, inputs, need_weights=False)[0]
        result: torch.Tensor = self.last((x + self.hidden(self.norm2(x))).mean(1))
        return result


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its data and the size of a batch."""

    title: str
    module: type[torch.nn.Module]
    data: actlab.Dataset
    batch_size: int
    epochs: int
    options: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def create_classifier(self) -> skorch.NeuralNetClassifier:
        return skorch.NeuralNetClassifier(
            self.module,
            module__num_features=self.data.num_features,
            **{f"module__{name}": value for name, value in self.options.items()},
            criterion=torch.nn.CrossEntropyLoss,
            optimizer__momentum=0.9,
            lr=0.01,
            batch_size=self.batch_size,
            max_epochs=self.epochs,
            verbose=0,
        )

    def search(self, with_fleet: bool) -> float:
        """Return the seconds of a search over four activations and three folds on two processes."""
        kind = actlab.FleetSearchCV if with_fleet else GridSearchCV
        estimator, grid = self.create_classifier(), {"module__activation": FOUR}
        start = time.perf_counter()
        with parallel_config("loky", inner_max_num_threads=1):
            kind(estimator, grid, cv=3, refit=False, n_jobs=2).fit(self.data.X, self.data.y)
        return time.perf_counter() - start

    def measure_overhead(self) -> float:
        """Return the share of skorch's time that a plain loop over the same batches does not need."""
        torch.set_num_threads(1)
        X, count = torch.from_numpy(self.data.X), len(self.data.y) * 4 // 5
        train, valid = (X[:count], torch.from_numpy(self.data.y[:count])), X[count:]
        net = self.create_classifier().initialize()
        module, optimizer = net.module_, net.optimizer_
        shares = []
        for _ in range(5):
            start = time.process_time()
            net.partial_fit(self.data.X, self.data.y)
            middle = time.process_time()
            for _ in range(self.epochs):
                for inputs, labels in zip(*(part.split(self.batch_size) for part in train), strict=True):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(module(inputs), labels).backward()
                    optimizer.step()
                with torch.no_grad():
                    module(valid)
            shares.append(1 - (time.process_time() - middle) / (middle - start))
        return statistics.median(shares)


def list_cases(digits: actlab.Dataset, mnist: actlab.Dataset | None) -> Iterator[Case]:
    convolutions, transformer = "two convolutions, max pooling", "transformer, {} patches"
    for size in (32, 128):
        yield Case("`--model convnet`", ConvNet, digits, size, 10)
        yield Case(convolutions, PooledConvNet, digits, size, 10)
        yield Case(transformer.format(8), Transformer, digits, size, 10)
    if mnist is not None:
        small = actlab.Dataset(mnist.X[:6000], mnist.y[:6000], "MNIST", "", mnist.classes)
        yield Case("`--model convnet`", ConvNet, small, 128, 2)
        yield Case(convolutions, PooledConvNet, small, 128, 2)
        yield Case(transformer.format(16), Transformer, small, 128, 2, {"length": 16})


def measure_networks(mnist: actlab.Dataset | None, rounds: int) -> list[str]:
    """Compare convolutional networks and transformers with skorch."""
    lines = [
        "## Convolutional networks and transformers",
        "",
        f"4 activations and 3 folds, in two processes with one thread each; medians of {rounds} rounds, in",
        "which the programs alternate. The overhead is the share of skorch's time that a plain PyTorch loop",
        "does not need.",
        "",
        "| network | data | batch | fleet, s | skorch, s | speedup | overhead of skorch |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    cases = list(list_cases(actlab.load_data("digits"), mnist))
    for with_fleet in (True, False):  # warm up the worker processes of both
        dataclasses.replace(cases[0], epochs=1).search(with_fleet)
    for case in cases:
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(rounds):
            for with_fleet in seconds:
                seconds[with_fleet].append(case.search(with_fleet))
        fleet, peer = (statistics.median(times) for times in seconds.values())
        figures = f"{fleet:.2f} | {peer:.2f} | {peer / fleet:.1f} | {100 * case.measure_overhead():.0f} %"
        lines.append(f"| {case.title} | {case.data.name} | {case.batch_size} | {figures} |")
        print(lines[-1], flush=True)
    return [
        *lines,
        "",
        "In these searches every model trains alone, about as fast as in a plain PyTorch loop.",
        "",
    ]


def run_of(data: actlab.Dataset, rows: int, epochs: int, precision: str = "float32") -> Run:

    estimator = create_classifier(data.num_features, data.num_classes, epochs).set_params(
        module__activation="relu"
    )
    template = read_run(estimator, data.X, data.y)
    train, valid = split_validation(estimator, np.arange(rows), data.y, 0, 0)
    return dataclasses.replace(template, rows=train, valid=valid, precision=precision)


class Clock:
    """Add up the seconds of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time_calls(
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
    """Return the GFLOP/s of the first layer's product in oneDNN with its factors in the cache."""
    x, weight = torch.randn(128, 784, dtype=dtype), torch.randn(128, 784, dtype=dtype)
    product = torch.ops.mkldnn._linear_pointwise
    seconds = []
    for _ in range(200):
        start = time.perf_counter()
        product(x, weight, None, "none", [], "")
        seconds.append(time.perf_counter() - start)
    return 2e-9 * 128 * 784 * 128 / statistics.median(seconds)


def measure_step_parts(data: actlab.Dataset) -> list[str]:
    """Measure the parts of a step, and the machine's rate for the same products."""
    torch.set_num_threads(1)
    lines = [
        "## Parts of a step",
        "",
        "One thread, one run of 40,000 samples: 250 steps per epoch and 8,000 validation samples. Times are",
        "microseconds per step.",
        "",
        "| precision | step | first layer | loss | update | validation | GFLOP/s | of the machine |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        run = run_of(data, 40_000, 25, precision)
        loop = Loop([run], True, DeviceData(torch.from_numpy(data.X), torch.from_numpy(data.y)))
        clocks = {part: Clock() for part in ("epoch", "layer", "loss", "update", "validation")}
        with torch.no_grad():
            loop.train_epoch()
            layer: Any = loop.step.layers[0]
            layer.forward = clocks["layer"].time_calls(layer.forward, lambda _, training: training)
            layer.backward = clocks["layer"].time_calls(layer.backward)
            hidden: Any = loop
            hidden.step._compute_loss = clocks["loss"].time_calls(hidden.step._compute_loss)
            hidden.optimizer.step = clocks["update"].time_calls(hidden.optimizer.step)
            hidden._evaluate = clocks["validation"].time_calls(hidden._evaluate)
            epoch = clocks["epoch"].time_calls(loop.train_epoch)
            rounds = []
            for _ in range(7):
                epoch()
                rounds.append({part: 1e6 * clock.take() / 250 for part, clock in clocks.items()})
        medians = {part: statistics.median(each[part] for each in rounds) for part in clocks}
        step = medians["epoch"] - medians["validation"]
        work = 2 * 128 * (2 * 784 * 128 + 3 * 128 * 64 + 3 * 64 * 10)
        figures = [step, *(medians[part] for part in ("layer", "loss", "update", "validation"))]
        rate = f"{work / step / 1e3:.0f} | {product_rate(dtype):.0f}"
        lines.append(f"| {precision} | " + " | ".join(f"{each:.0f}" for each in figures) + f" | {rate} |")
        print(lines[-1], flush=True)
    return [*lines, "", *LIMITS, ""]


def train_many(count: int) -> None:
    """Train ``count`` runs on digits in this process; print seconds and peak memory as JSON."""

    torch.set_num_threads(1)
    data = actlab.load_data("digits")
    template = run_of(data, len(data.y), 25)
    lrs = np.geomspace(0.001, 0.1, 30)
    runs = [
        dataclasses.replace(
            template,
            seed=index // 30,
            optimizer=dataclasses.replace(
                template.optimizer, numbers={**template.optimizer.numbers, "lr": lrs[index % 30]}
            ),
        )
        for index in range(count)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    train_runs(runs, data.X, data.y)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, before / 2**20]))


def measure_many_runs() -> list[str]:
    lines = [
        "## Many runs",
        "",
        "Digits, 25 epochs, one process with one thread, a new process for each row. Memory",
        "reaches its peak while the data are loaded, before training.",
        "",
        "| runs | seconds | ms per run | peak memory, GiB | before training, GiB |",
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


def measure_samples(data: actlab.Dataset) -> list[str]:
    torch.set_num_threads(1)
    lines = [
        "One run with 5 epochs on a part of MNIST:",
        "",
        "| samples | seconds | us per sample and epoch |",
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


def measure_card(data: actlab.Dataset, epochs: int) -> list[str]:
    """Measure on a graphics card if there is one."""
    lines = ["## On a graphics card", ""]
    if not torch.cuda.is_available():
        return [
            *lines,
            "Not measured, because there was none. `python -m benchmarks.fleet` uses a card if it finds one.",
            "",
        ]
    search(actlab.FleetSearchCV, data, 1, device="cuda")
    fleet, _ = search(actlab.FleetSearchCV, data, epochs, device="cuda")
    peer, _ = search(GridSearchCV, data, epochs, device="cuda")
    grid = {
        "module__activation": TEN,
        "lr": np.geomspace(0.001, 0.1, 10).tolist(),
    }
    estimator = create_classifier(data.num_features, data.num_classes, epochs, "cuda")
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
        train_many(arguments.many)
        return
    lines = [
        "# Fleet and skorch",
        "",
        f"{machine('cpu')}, skorch {skorch.__version__}, two cores.",
        "Written by `python -m benchmarks.fleet`.",
        "",
    ]
    try:
        data = actlab.load_data("mnist", arguments.data_dir)
    except actlab.UsageError as error:
        lines += [f"The MNIST tables are omitted: {error}", ""]
        lines += [*measure_networks(None, arguments.rounds), *measure_many_runs()]
    else:
        lines += measure_comparison(data, arguments.epochs, arguments.rounds)
        lines += [
            *measure_networks(data, arguments.rounds),
            *measure_step_parts(data),
            *measure_many_runs(),
            *measure_samples(data),
            *measure_card(data, arguments.epochs),
        ]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
