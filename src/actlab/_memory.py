"""What a training step keeps in memory for its backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def kept_for_backward(module: nn.Module, x: Tensor) -> int:
    """Return the bytes that autograd keeps of a forward pass, beside the weights and the inputs.

    Args:
        module: A net; it is in training mode afterwards. Random numbers that it draws are not missed later.
        x: Inputs (n, ...).

    Examples:
        >>> kept_for_backward(nn.Tanh(), torch.zeros(8, 4, requires_grad=True))  # its outputs
        128
    """
    known = {t.untyped_storage().data_ptr() for t in (x, *module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), hooks:
        outputs = module.train()(x)
        del outputs  # not before: what is kept would be freed, and its place used again
    return sum(kept.values())
