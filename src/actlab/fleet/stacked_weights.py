"""The weights of R networks of one shape as one matrix, with one row per network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

_ALIGNMENT = 16  # elements: every weight begins on a cache line of its own


class Stack:
    """The weights, gradients and buffers of R networks.

    Args:
        modules: The networks; their parameters and buffers agree in name, shape and dtype.
        transposed: Names of the matrices to store transposed, and of the convolutions to store in
            channels-last format.
        device: Where to store the tensors.

    Attributes:
        is_single: Whether there is only one network.
        weights: All trained weights (R, P).
        grads: Their gradients (R, P).
        views: Views of ``weights`` by name: each weight (R, \\*shape).
        grad_views: Views of ``grads`` by name, of the same shapes.
        untrained: Buffers and frozen parameters (R, \\*shape) by name.
    """

    def __init__(
        self, modules: Sequence[nn.Module], transposed: Collection[str] = (), device: str = "cpu"
    ) -> None:
        parameters = dict(modules[0].named_parameters())
        if hooked := [name for name, p in parameters.items() if p._backward_hooks]:
            raise ValueError(f"a hook on {hooked[0]} would be lost")
        self.transposed = frozenset(transposed)
        shapes = {name: self._as_stored(name, p).shape for name, p in parameters.items() if p.requires_grad}
        sizes = [-(-shape.numel() // _ALIGNMENT) * _ALIGNMENT for shape in shapes.values()]
        dtype = next((p.dtype for p in parameters.values()), torch.float32)
        self.is_single = len(modules) == 1
        self.weights = torch.zeros(len(modules), sum(sizes), dtype=dtype, device=device)
        self.grads = torch.zeros_like(self.weights)
        self.views, self.grad_views = (_split(flat, shapes, sizes) for flat in (self.weights, self.grads))
        for index, module in enumerate(modules):
            for name, value in module.named_parameters():
                if name in self.views:
                    self.views[name][index].copy_(self._as_stored(name, value.detach()))
        self.bound: list[Tensor] = []
        states = [_untrained_tensors(module) for module in modules]
        self.untrained = {name: torch.stack([s[name] for s in states]).to(device) for name in states[0]}

    def bind(self, name: str, tensor: Tensor) -> None:
        """Make a parameter or buffer of the only network a view of the stack's."""
        is_trained = name in self.views
        tensor.data = self._as_given(name, self.views[name][0]) if is_trained else self.untrained[name][0]
        self.bound.append(tensor)

    def get_grad(self, name: str, index: int) -> Tensor:
        """Return a view of the gradient of a weight of one network, in the shape that the network has."""
        return self._as_given(name, self.grad_views[name][index])

    def count_writes(self) -> list[int]:
        """Return how often each tensor was written to."""
        return [tensor._version for tensor in (self.weights, *self.untrained.values(), *self.bound)]

    def copy_networks(self, other: Stack, indices: Tensor) -> None:
        """Copy the networks with these indices (k,) from a stack of the same kind."""
        self.weights.copy_(other.weights[indices])
        for name, value in self.untrained.items():
            value.copy_(other.untrained[name][indices])

    def clip_grad_norms(self, most: float, norm_type: float) -> None:
        """Clip the gradient norm of every network, as :func:`torch.nn.utils.clip_grad_norm_` does for one."""
        grads = self.grad_views.values()
        norms = [torch.linalg.vector_norm(g.flatten(1), norm_type, 1) for g in grads]
        total = torch.linalg.vector_norm(torch.stack(norms, 1), norm_type, 1, keepdim=True)
        self.grads.mul_((most / (total + 1e-6)).clamp_(max=1.0))

    def load_state_dict(self, index: int, state: Mapping[str, Tensor]) -> None:
        """Load a state from :meth:`state_dict` into one network."""
        for name, view in self.views.items():
            view[index].copy_(self._as_stored(name, state[name]))
        for name, value in self.untrained.items():
            value[index].copy_(state[name])

    def state_dict(self, index: int) -> dict[str, Tensor]:
        """Return a copy of the weights and buffers of one network, on the CPU."""
        trained = {name: self._as_given(name, view[index]) for name, view in self.views.items()}
        untrained = {name: value[index] for name, value in self.untrained.items()}
        return {name: value.cpu().clone().contiguous() for name, value in {**trained, **untrained}.items()}

    def _as_stored(self, name: str, value: Tensor) -> Tensor:
        """Return a weight of a network in the shape in which it is stored."""
        if name not in self.transposed:
            return value
        return value.mT if value.ndim == 2 else value.movedim(1, -1)

    def _as_given(self, name: str, value: Tensor) -> Tensor:
        """Return a stored weight in the shape that the network has."""
        if name not in self.transposed:
            return value
        return value.mT if value.ndim == 2 else value.movedim(-1, 1)


def _split(flat: Tensor, shapes: Mapping[str, torch.Size], sizes: Sequence[int]) -> dict[str, Tensor]:
    """Return a view (R, \\*shape) of a matrix (R, P) for every shape."""
    parts = torch.split(flat, list(sizes), 1)
    return {
        name: part[:, : shape.numel()].view(len(flat), *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def load_module_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state from :meth:`Stack.state_dict` into a module."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, value in state.items():
            tensors[name].copy_(value)


def _untrained_tensors(module: nn.Module) -> dict[str, Tensor]:
    frozen = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}
    return {**frozen, **dict(module.named_buffers())}
