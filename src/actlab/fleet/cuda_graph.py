"""A training step as one CUDA graph: a single launch instead of a hundred."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_WARM_UPS = 3  # libraries choose their kernels and take their workspaces before anything is recorded


def captured(
    work: Callable[[Tensor], None], shape: tuple[int, ...], changed: Sequence[Tensor]
) -> Callable[[Tensor], None]:
    """Record work on the current CUDA device and return what replays it.

    Args:
        work: A step, from the rows of a batch; it launches kernels and waits for none.
        shape: The shape of the rows.
        changed: The tensors that a step changes; they are as before when this returns.

    Returns:
        The step, from the rows of a batch.
    """
    device = changed[0].device
    rows = torch.zeros(shape, dtype=torch.int64, device=device)
    before = [tensor.clone() for tensor in changed]
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UPS):
            work(rows)
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work(rows)
    for tensor, value in zip(changed, before, strict=True):
        tensor.copy_(value)

    def replay(batch: Tensor) -> None:
        rows.copy_(batch)
        graph.replay()

    return replay
