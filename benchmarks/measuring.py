"""What every benchmark needs: interleaved medians, and the machine they were taken on."""

from __future__ import annotations

import ctypes
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch

from actlab.fleet.calibration import processor


def keep_memory() -> None:
    """Let this process keep the memory it frees, as a caching allocator does.

    Else every large result is new memory, and both sides wait for the operating system's page faults.
    """
    if sys.platform == "linux":
        glibc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4  # from malloc.h
        glibc.mallopt(m_mmap_max, 0)
        glibc.mallopt(m_trim_threshold, 2**31 - 1)


def interleaved(work: Mapping[str, Callable[[], object]], repeats: int, inner: int = 1) -> dict[str, float]:
    """Time every piece of work in turn, again and again, and return the median seconds of each.

    Slow drifts of the machine then hit all of them alike. Each is run once before, unmeasured.
    """
    for call in work.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            start = time.perf_counter()
            for _ in range(inner):
                call()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            taken[name].append((time.perf_counter() - start) / inner)
    return {name: statistics.median(times) for name, times in taken.items()}


def machine(device: str) -> str:
    """Say where and with what the figures were taken."""
    if device.startswith("cuda"):
        chip = torch.cuda.get_device_name(device)
    else:
        chip, _ = processor()
    today = datetime.date.today().isoformat()
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{today}, {chip}, {torch.get_num_threads()} thread, {versions}"
