"""The weights of R networks of one shape as one matrix, with one row per network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

_LINE = 16  # elements: every weight begins on a cache line of its own


class Stack:
    """The weights, gradients and buffers of R networks.

    Args:
        modules: The networks; their parameters and buffers agree in name, shape and dtype.
        turned: Names of the matrices that are kept transposed.
        device: Where the tensors are.

    Attributes:
        is_single: Whether there is only one network.
        weights: All weights that are trained (R, P).
        grads: Their gradients (R, P).
        views: Each weight (R, \\*shape) as a view of ``weights``, by name.
        grad_views: The same of ``grads``.
        fixed: What is not trained, buffers and frozen parameters (R, \\*shape), by name.
    """

    def __init__(
        self, modules: Sequence[nn.Module], turned: Collection[str] = (), device: str = "cpu"
    ) -> None:
        first = dict(modules[0].named_parameters())
        if hooked := [name for name, p in first.items() if p._backward_hooks]:
            raise ValueError(f"a hook on {hooked[0]} would be lost")
        self.turned = frozenset(turned)
        self.shapes = {name: self._turn(name, p).shape for name, p in first.items() if p.requires_grad}
        self.places, size = {}, 0
        for name, shape in self.shapes.items():
            self.places[name] = size
            size += -(-shape.numel() // _LINE) * _LINE
        dtype = next((p.dtype for p in first.values()), torch.float32)
        self.is_single = len(modules) == 1
        self.weights = torch.zeros(len(modules), size, dtype=dtype, device=device)
        self.grads = torch.zeros_like(self.weights)
        self.views, self.grad_views = self._views(self.weights), self._views(self.grads)
        for row, module in enumerate(modules):
            for name, value in module.named_parameters():
                if name in self.views:
                    self.views[name][row].copy_(self._turn(name, value.detach()))
        states = [_fixed(module) for module in modules]
        self.fixed = {n: torch.stack([state[n] for state in states]).to(device) for n in states[0]}

    def take(self, other: Stack, rows: Tensor) -> None:
        """Copy these rows (k,) of another stack of the same kind."""
        self.weights.copy_(other.weights[rows])
        for name, value in self.fixed.items():
            value.copy_(other.fixed[name][rows])

    def put(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Load a state from :meth:`state` into its network."""
        for name, view in self.views.items():
            view[row].copy_(self._turn(name, state[name]))
        for name, fixed in self.fixed.items():
            fixed[row].copy_(state[name])

    def state(self, row: int) -> dict[str, Tensor]:
        """Return a copy of the weights and buffers of one network, on the CPU."""
        trained = {name: self._turn(name, view[row]) for name, view in self.views.items()}
        fixed = {name: value[row] for name, value in self.fixed.items()}
        return {name: value.cpu().clone().contiguous() for name, value in {**trained, **fixed}.items()}

    def _turn(self, name: str, value: Tensor) -> Tensor:
        return value.mT if name in self.turned else value

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        views = {}
        for name, shape in self.shapes.items():
            part = flat[:, self.places[name] : self.places[name] + shape.numel()]
            views[name] = part.view(len(flat), *shape)
        return views


def load_module_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state from :meth:`Stack.state` into a module."""
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def _fixed(module: nn.Module) -> dict[str, Tensor]:
    frozen = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}
    return {**frozen, **dict(module.named_buffers())}
