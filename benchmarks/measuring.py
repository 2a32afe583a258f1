"""Helpers for all benchmarks: interleaved medians and a description of the machine."""

from __future__ import annotations

import ctypes
import datetime
import platform
import sys

import torch

from actlab.fleet.settings import processor_name
from actlab.timing import interleaved

__all__ = ["interleaved", "keep_memory", "machine"]


def keep_memory() -> None:
    """Let this process keep freed memory, like a caching allocator.

    Otherwise every large result needs new memory, and page faults dominate the times.
    """
    if sys.platform == "linux":
        glibc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4  # from malloc.h
        glibc.mallopt(m_mmap_max, 0)
        glibc.mallopt(m_trim_threshold, 2**31 - 1)


def machine(device: str) -> str:
    """Return the date, the processor, the threads and the versions of a measurement."""
    chip = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor_name()
    today = datetime.date.today().isoformat()
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    threads = torch.get_num_threads()
    return f"{today}, {chip}, {threads} thread{'s' * (threads > 1)}, {versions}"
