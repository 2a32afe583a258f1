"""What is fastest on this machine, measured once: matrix products, threads, nets per fleet, the step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from actlab.errors import UsageError, did_you_mean
from actlab.files import writing
from actlab.fleet.run import Optimizer, Run
from actlab.models.networks import NeuralNet

log = logging.getLogger("actlab")
_EXACT = 2e-6  # relative error of a product in float32; bfloat16 has a thousand times as much
_FASTER, _ALMOST = 1.1, 0.9  # what a gain must be to be worth a choice; what is as good as the whole
_SHAPE = (128, 784, 128)  # rows, features and units of the notebook's first layer
_SMALL, _LARGE = (64, 128), (784, 128)  # features and units
_SIZES = (1, 4, 16, 64)
_SHARES = 8  # parts that a comparison is cut into on processors, so that all of them have work


@dataclass(frozen=True)
class Calibration:
    """How this machine trains fastest without losing a digit of float32.

    Attributes:
        hardware: The processor's or the graphics card's name.
        torch: The version of PyTorch that it was measured with.
        matmul: ``torch.set_float32_matmul_precision``'s setting for products in full float32.
        threads: Threads of a process; more processes beat more threads unless this says otherwise.
        weights_per_fleet: How many weights, of all nets together, a fleet holds at most; a net alone may
            have more.
        layer_by_layer: Whether a straight line of layers is stepped by hand, not by autograd.
        rates: What was measured: products in GFLOP/s, steps per second.
        errors: Relative errors of the products, against float64.
        seconds: How long the measuring took.
    """

    hardware: str
    torch: str
    matmul: str = "highest"
    threads: int = 1
    weights_per_fleet: int = 1 << 18
    layer_by_layer: bool = True
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def runs_per_fleet(self, size: int, runs: int) -> int:
        """Return how many of ``runs`` runs train together when each has ``size`` weights."""
        most = max(1, self.weights_per_fleet // max(1, size))
        return most if self.hardware.startswith("cuda") else min(most, -(-runs // _SHARES))


@contextlib.contextmanager
def arithmetic(calibration: Calibration) -> Iterator[None]:
    """Compute as calibrated; the caller's settings are as before afterwards."""
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision(calibration.matmul)
    torch.set_num_threads(calibration.threads)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)


def hardware(device: str = "cpu") -> str:
    """Return the name of what computes there."""
    if device.startswith("cuda"):
        return f"cuda: {torch.cuda.get_device_name(device)}"
    name, about = processor()
    # Family, model and flags too: two machines may share a name and not an instruction set.
    kind = " ".join(about.get(key, "") for key in ("cpu family", "model", "flags"))
    return f"{name}, {os.cpu_count()} cores, {hashlib.sha256(kind.encode()).hexdigest()[:8]}"


def processor() -> tuple[str, Mapping[str, str]]:
    """Return the processor's name, and what the system says of one of its cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    about = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    return about.get("model name") or platform.processor() or platform.machine(), about


@functools.cache
def calibration(device: str = "cpu") -> Calibration:
    """Return this machine's calibration, measured at first use and kept in the user's cache folder."""
    kept = _read(device)
    if kept is not None:
        return kept
    log.info("calibrating %s, once; this takes some seconds", hardware(device))
    measured = measure(device)
    keep(measured, device)
    return measured


def place(device: str = "cpu") -> Path:
    """Return the file that keeps the calibration."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(f"{hardware(device)}, {torch.__version__}".encode()).hexdigest()[:16]
    return cache / "actlab" / f"calibration-{key}.json"


def keep(found: Calibration, device: str = "cpu") -> None:
    """Write a calibration where the next process finds it; one that cannot be kept is measured again."""
    file = place(device)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with writing(file) as beside:
            beside.write_text(json.dumps(dataclasses.asdict(found), indent=2) + "\n", encoding="utf-8")
    except (OSError, UsageError) as error:
        log.warning("the calibration is not kept: %s", error)
    calibration.cache_clear()


def changed(found: Calibration, settings: Mapping[str, str]) -> Calibration:
    """Return a calibration with some settings as a person wants them.

    Args:
        found: The measured one.
        settings: Values as text, by name.

    Raises:
        UsageError: A name or a value is wrong.
    """
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in _SETTINGS:
            hint = did_you_mean(name, _SETTINGS) or f"; known are {', '.join(_SETTINGS)}"
            raise UsageError(f"unknown setting {name!r}{hint}")
        right, convert = _SETTINGS[name]
        try:
            values[name] = convert(text)
        except (ValueError, KeyError) as error:
            raise UsageError(f"{name} is {text!r}, not {right}") from error
    return dataclasses.replace(found, **values)


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value


_MOST_THREADS = 1024  # PyTorch itself crashes with some more


def _threads(text: str) -> int:
    if _positive(text) > _MOST_THREADS:
        raise ValueError
    return int(text)


_SETTINGS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "matmul": ("highest, high or medium", lambda t: {n: n for n in ("highest", "high", "medium")}[t]),
    "threads": (f"a whole number from 1 to {_MOST_THREADS}", _threads),
    "weights_per_fleet": ("a whole number of at least 1", _positive),
    "layer_by_layer": ("true or false", lambda text: {"true": True, "false": False}[text.lower()]),
}


def _read(device: str) -> Calibration | None:
    try:
        found = Calibration(**json.loads(place(device).read_text(encoding="utf-8")))
        changed(found, {name: str(getattr(found, name)) for name in _SETTINGS})
    except (OSError, ValueError, TypeError):  # none yet, or not one of ours: measure
        return None
    return found if (found.hardware, found.torch) == (hardware(device), torch.__version__) else None


# -- measuring ------------------------------------------------------------------------------------


def measure(device: str = "cpu") -> Calibration:
    """Measure a machine.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Returns:
        What is fastest there.
    """
    start = time.perf_counter()
    rates: dict[str, float] = {}
    errors: dict[str, float] = {}
    found = Calibration(hardware(device), torch.__version__)
    for setting in ("highest", "medium") if device == "cpu" else ("highest",):
        one = dataclasses.replace(found, matmul=setting)
        name = f"matmul {setting}"
        with arithmetic(one):
            rates[name], errors[name] = _product(device, torch.float32)
        rates[f"steps, {name}"] = _rate(one, device, _LARGE, 1, True)
        # What counts is the whole step: small products may lose what the large one gains.
        if rates[f"steps, {name}"] > _FASTER * rates["steps, matmul highest"] and errors[name] < _EXACT:
            found = one
    rates["matmul bf16"], errors["matmul bf16"] = _product(device, torch.bfloat16)
    layer_by_layer = rates[f"steps, matmul {found.matmul}"]
    rates["steps, autograd"] = _rate(found, device, _LARGE, 1, False)
    threads, cores = found.threads, os.cpu_count() or 1
    if device == "cpu" and cores > 1:
        many = dataclasses.replace(found, threads=cores)
        rates[f"steps, {cores} threads"] = _rate(many, device, _LARGE, 1, True)
        # A process of its own for each core doubles the rate; threads must come close to that.
        threads = cores if rates[f"steps, {cores} threads"] > _ALMOST * cores * layer_by_layer else threads
    small = {size: _rate(found, device, _SMALL, size, True) for size in _SIZES}
    rates.update({f"steps, {size} small nets at once": rate for size, rate in small.items()})
    best = next(size for size, rate in small.items() if rate * _FASTER >= max(small.values()))
    return dataclasses.replace(
        found,
        threads=threads,
        layer_by_layer=layer_by_layer >= rates["steps, autograd"],
        weights_per_fleet=best * _weights(_SMALL) if device == "cpu" else _cuda_weights(device),
        rates={name: round(rate, 1) for name, rate in rates.items()},
        errors={name: float(f"{error:.2g}") for name, error in errors.items()},
        seconds=round(time.perf_counter() - start, 1),
    )


def _weights(shape: tuple[int, int]) -> int:
    """Return about how many weights the net that is measured has."""
    features, units = shape
    return (features + units // 2) * units


def _cuda_weights(device: str) -> int:
    """Return how many weights an eighth of the card holds: gradients and state come with them."""
    return int(torch.cuda.get_device_properties(device).total_memory // 8 // 4)


def _median(work: Callable[[], object], device: str, seconds: float = 0.15) -> float:
    work()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        before = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - before)
    return statistics.median(taken)


def _product(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Return GFLOP/s and the relative error of the first layer's product."""
    rows, features, units = _SHAPE
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, features, generator=generator)
    weight = torch.randn(features, units, generator=generator)
    exact = x.double() @ weight.double()
    x, weight = x.to(device, dtype), weight.to(device, dtype)
    error = ((x @ weight).cpu().double() - exact).norm() / exact.norm()
    return 2e-9 * rows * features * units / _median(lambda: x @ weight, device), float(error)


def _rate(found: Calibration, device: str, shape: tuple[int, int], size: int, layer_by_layer: bool) -> float:
    """Return training steps per second, of all nets of a fleet together."""
    from actlab.fleet.loop import Data, Loop  # the loop computes as calibrated; only measuring looks back

    features, units = shape
    rows, batches = 128, 4
    run = Run(
        net=functools.partial(NeuralNet, units, "relu", features, 10),
        rows=np.arange(rows * batches),
        loss=nn.CrossEntropyLoss(),
        optimizer=Optimizer("SGD", {"lr": 0.0, "momentum": 0.9, "weight_decay": 0.0}),
        epochs=1,
        batch_size=rows,
        device=device,
    )
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(rows * batches, features, generator=generator)
    y = torch.randint(10, (rows * batches,), generator=generator)
    loop = Loop([run] * size, layer_by_layer, Data(X.to(device), y.to(device)))
    with arithmetic(found):
        return size * batches / _median(loop.epoch, device)
