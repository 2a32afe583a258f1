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
    """Set the state of torch's default generators to that of a run, and restore it afterwards."""
    cuda = [torch.device(device).index or 0] if device.startswith("cuda") else []
    with _generators, torch.random.fork_rng(devices=cuda):
        start = derive_seed(seed, fold, purpose)
        # torch.manual_seed would also seed devices that fork_rng does not restore.
        torch.default_generator.manual_seed(start)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(start)
        yield


@contextlib.contextmanager
def seeded_numpy(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, and restore its state afterwards."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)


def derive_seed(seed: int, fold: int, purpose: int) -> int:
    """Return the seed of a random stream: an integer of 63 bits, as torch requires.

    The weights of the first fold use the seed itself, so ``torch.manual_seed(seed)`` before the construction
    of the net gives the same weights.
    """
    if purpose == WEIGHTS and fold == 0:
        return seed
    words = np.random.SeedSequence([seed, fold, purpose]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
