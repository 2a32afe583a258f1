"""Independent random streams: one for each seed, fold and purpose."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import torch

WEIGHTS, ORDER, NOISE, HOLDOUT, SPLIT = range(5)  # purposes

_generators = threading.RLock()  # torch's default generators belong to all threads


@contextlib.contextmanager
def seeded_torch(seed: int, fold: int, purpose: int, device: str) -> Iterator[None]:
    """Let torch's default generators be those of a run; the caller's are as before afterwards."""
    cuda = [torch.device(device).index or 0] if device.startswith("cuda") else []
    with _generators, torch.random.fork_rng(devices=cuda):
        start = derive_seed(seed, fold, purpose)
        # torch.manual_seed would also seed the devices that fork_rng does not put back.
        torch.default_generator.manual_seed(start)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(start)
        yield


@contextlib.contextmanager
def seeded_numpy(seed: int) -> Iterator[None]:
    """Let NumPy's global generator start there; it is as before afterwards."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)


def derive_seed(seed: int, fold: int, purpose: int) -> int:
    """Return where a stream of random numbers starts: 63 bits, which is what torch takes.

    The weights of the first fold start at the seed itself: whoever writes ``torch.manual_seed(seed)`` and
    builds the net has the same.
    """
    if purpose == WEIGHTS and fold == 0:
        return seed
    words = np.random.SeedSequence([seed, fold, purpose]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
