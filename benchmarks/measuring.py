"""What every benchmark needs: interleaved medians, and the machine they were taken on."""

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
    """Let this process keep the memory it frees, as a caching allocator does.

    Else every large result is new memory, and both sides wait for the operating system's page faults.
    """
    if sys.platform == "linux":
        glibc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_max = -1, -4  # from malloc.h
        glibc.mallopt(m_mmap_max, 0)
        glibc.mallopt(m_trim_threshold, 2**31 - 1)


def machine(device: str) -> str:
    """Say where and with what the figures were taken."""
    chip = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor_name()
    today = datetime.date.today().isoformat()
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{today}, {chip}, {torch.get_num_threads()} thread, {versions}"
