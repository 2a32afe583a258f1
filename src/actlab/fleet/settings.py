"""How fleets compute on this machine: threads, networks per fleet, explicit gradients."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from actlab.errors import UsageError

_FLEETS_PER_GROUP = 8  # least number of fleets of a group on a CPU, so that every process has work
_MAX_THREADS = 1024  # PyTorch crashes with more
# On a CPU, fewer networks or larger steps take longer in torch.vmap than one network after the other.
_MIN_VMAP_NETWORKS, _MAX_VMAP_BYTES = 4, 1 << 18


@dataclass(frozen=True)
class FleetSettings:
    """How fleets compute.

    Environment variables override the first three attributes: ``ACTLAB_THREADS`` overrides ``threads``.

    Attributes:
        threads: Threads of each process. Two processes with one thread each are faster than one process with
            two threads.
        weights_per_fleet: Maximum total number of weights in a fleet. A larger network trains alone.
        layer_by_layer: Whether sequential networks use explicit gradients instead of autograd.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    """

    threads: int = 1
    weights_per_fleet: int = 1 << 17  # more weights and their gradients do not fit the cache
    layer_by_layer: bool = True
    device: str = "cpu"

    def runs_per_fleet(self, size: int, runs: int, saved_bytes: float | None = None) -> int:
        """Return how many runs train together.

        Args:
            size: The number of weights of a network.
            runs: The number of runs.
            saved_bytes: Bytes that a step of a network saves for backward if :func:`torch.vmap` stacks the
                networks; None for explicit gradients.
        """
        most = max(1, self.weights_per_fleet // max(1, size))
        if self.device.startswith("cuda"):
            return most
        most = min(most, -(-runs // _FLEETS_PER_GROUP))
        if saved_bytes is None:
            return most
        return 1 if most < _MIN_VMAP_NETWORKS or saved_bytes > _MAX_VMAP_BYTES else most


def read_settings(device: str = "cpu") -> FleetSettings:
    """Return the settings for a device, with the values of environment variables.

    Raises:
        UsageError: An environment variable has an invalid value.
    """
    settings = FleetSettings(device=device)
    if device.startswith("cuda"):  # an eighth of the memory: gradients and optimizer state need more
        memory = torch.cuda.get_device_properties(device).total_memory
        settings = dataclasses.replace(settings, weights_per_fleet=int(memory // 8 // 4))
    return dataclasses.replace(
        settings,
        threads=_read_integer("threads", settings.threads, _MAX_THREADS),
        weights_per_fleet=_read_integer("weights_per_fleet", settings.weights_per_fleet),
        layer_by_layer=_read_boolean("layer_by_layer", settings.layer_by_layer),
    )


def get_variable_name(name: str) -> str:
    """Return the environment variable that overrides a setting."""
    return f"ACTLAB_{name.upper()}"


def _read_integer(name: str, default: int, largest: int = 2**63 - 1) -> int:
    text = os.environ.get(get_variable_name(name), "") or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= largest:
        limits = f"from 1 to {largest}" if largest == _MAX_THREADS else ">= 1"
        raise UsageError(f"{get_variable_name(name)} must be an integer {limits}, got {text!r}")
    return int(text)


def _read_boolean(name: str, default: bool) -> bool:
    text = os.environ.get(get_variable_name(name), "") or str(default)
    if text.lower() not in ("true", "false"):
        raise UsageError(f"{get_variable_name(name)} must be true or false, got {text!r}")
    return text.lower() == "true"


@contextlib.contextmanager
def use_settings(settings: FleetSettings) -> Iterator[None]:
    """Set the number of threads and full float32 precision of torch, and restore both after the block."""
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(settings.threads)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)


def processor_name() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
