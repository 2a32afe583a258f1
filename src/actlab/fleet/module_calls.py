"""Call a module with the weights of one network, or of a stack of networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from actlab.fleet.module_state import StateChanged
from actlab.fleet.stacked_weights import Stack

Function = Callable[[Mapping[str, Tensor], Tensor], Tensor]


class ModuleCalls(Protocol):
    """Calls of one module of every network of a stack. If gradients are enabled, autograd records them.

    Attributes:
        names: Names of its trained weights in the networks.
    """

    names: list[str]

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return outputs and weights for the inputs of one network (n, ...) or of a stack (R, n, ...)."""

    def call_network(self, index: int, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return outputs and weights of one network for its inputs (n, ...)."""


class StackedModule:
    """A module that is called once for a stack of networks, with :func:`torch.vmap`.

    Args:
        stack: The weights of the networks.
        module: The module of the first network.
        prefix: The module's name in the network, with a dot at its end; empty for the network itself.
        is_training: Returns whether the networks are in training mode.
    """

    def __init__(self, stack: Stack, module: nn.Module, prefix: str, is_training: Callable[[], bool]) -> None:
        own = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
        self.trained = {name: stack.views[prefix + name] for name in own if prefix + name in stack.views}
        self.untrained = {name: stack.untrained[prefix + name] for name in own if name not in self.trained}
        self.names = [prefix + name for name in self.trained]
        self.function = _make_functional(module, is_training)
        self.stacked_function = torch.vmap(self.function)

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the outputs (R, n, ...) of the networks, and the weights (R, ...)."""
        return self._call(self.stacked_function, self.trained, self.untrained, x)

    def call_network(self, index: int, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the outputs (n, ...) of one network, and its weights."""
        trained, untrained = (
            {name: value[index] for name, value in values.items()}
            for values in (self.trained, self.untrained)
        )
        return self._call(self.function, trained, untrained, x)

    def _call(
        self, function: Function, trained: Mapping[str, Tensor], untrained: Mapping[str, Tensor], x: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        is_recorded = torch.is_grad_enabled()
        leaves = {name: value.detach().requires_grad_(is_recorded) for name, value in trained.items()}
        return function({**leaves, **untrained}, x), list(leaves.values())


class BoundModule:
    """A module of one network, whose parameters and buffers become views of the stack's.

    A plain call of the module takes at most two thirds of the time of a functional call.

    Args:
        stack: The weights of the network.
        module: The module.
        prefix: As for :class:`StackedModule`.
        is_training: Returns whether the network is in training mode.
    """

    def __init__(self, stack: Stack, module: nn.Module, prefix: str, is_training: Callable[[], bool]) -> None:
        self.module, self.is_training = module, is_training
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        for name, tensor in {**parameters, **buffers}.items():
            stack.bind(prefix + name, tensor)
        trained = {name: p for name, p in parameters.items() if p.requires_grad}
        self.names = [prefix + name for name in trained]
        self.leaves: list[Tensor] = list(trained.values())
        names = {id(buffer): prefix + name for name, buffer in buffers.items()}
        self.places = [
            (part._buffers, own, buffer, names[id(buffer)])
            for part in module.modules()
            for own, buffer in part._buffers.items()
            if buffer is not None
        ]
        # Names of the buffers that a call in training assigns; None before the first call.
        self.assigned: set[str] | None = None

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the outputs (n, ...) of the network, and its weights."""
        if self.module.training != self.is_training():
            self.module.train(self.is_training())
        if self.module.training and self.places:
            return self._call_in_training(x), self.leaves
        outputs: Tensor = self.module(x)
        self._restore_buffers()
        return outputs, self.leaves

    def call_network(self, index: int, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what a call returns: there is only one network."""
        return self(x)

    def _call_in_training(self, x: Tensor) -> Tensor:
        # The call gets copies of assigned buffers, because autograd may need their old values.
        copies = {
            name: buffer.clone()
            for _, _, buffer, name in self.places
            if self.assigned is None or name in self.assigned
        }
        for buffers, own, _, name in self.places:
            if name in copies:
                buffers[own] = copies[name]
        outputs: Tensor = self.module(x)
        if self.assigned is None:
            self.assigned = {n for buffers, own, _, n in self.places if buffers[own] is not copies[n]}
        self._restore_buffers()
        return outputs

    def _restore_buffers(self) -> None:
        """Copy new values of buffers into the stack."""
        for buffers, own, buffer, name in self.places:
            if (value := buffers[own]) is not buffer:
                _assign(buffer, value, name)
                buffers[own] = buffer


def make_calls(stack: Stack, module: nn.Module, prefix: str, is_training: Callable[[], bool]) -> ModuleCalls:
    """Return the calls of a module, with the arguments of :class:`StackedModule`."""
    kind = BoundModule if stack.is_single else StackedModule
    return kind(stack, module, prefix, is_training)


def _make_functional(module: nn.Module, is_training: Callable[[], bool]) -> Function:
    """Return a module as a function of its weights and its input.

    A change of a buffer, in place or by assignment, changes the buffer among the weights.
    """
    module_with_buffers, buffers = _WithBuffers(module), [name for name, _ in module.named_buffers()]
    names_by_path = _list_paths(module)
    assigned: list[str] | None = None  # buffers that a call in training assigns; None before the first call

    def function(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        nonlocal assigned
        module.train(is_training())
        # The call gets copies of assigned buffers, because autograd may need their old values.
        copied = (buffers if assigned is None else assigned) if module.training else ()
        before = {**weights, **{name: weights[name].clone() for name in copied}}
        state = {f"module.{path}": before[name] for path, name in names_by_path.items()}
        result, after = functional_call(module_with_buffers, state, (x,), tie_weights=False)
        for name in buffers:
            if after[name] is not weights[name]:
                _assign(weights[name], after[name], name)
        if assigned is None and module.training:
            assigned = [name for name in buffers if after[name] is not before[name]]
        return result  # type: ignore[no-any-return]

    return function


def _list_paths(module: nn.Module) -> dict[str, str]:
    """Return the name of the parameter or buffer at each path of a module.

    Tied tensors are at several paths. A layer with several paths gets one: functional_call does not restore a
    layer that it replaces twice.
    """
    names = {id(t): name for name, t in (*module.named_parameters(), *module.named_buffers())}
    return {
        f"{path}.{own}".lstrip("."): names[id(tensor)]
        for path, part in module.named_modules()
        for own, tensor in (*part._parameters.items(), *part._buffers.items())
        if tensor is not None
    }


class _WithBuffers(nn.Module):
    """A module that also returns its buffers. After a functional call its attributes are the old buffers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
        return self.module(x), dict(self.module.named_buffers())


def _assign(buffer: Tensor, value: Tensor | None, name: str) -> None:
    if value is None or (value.shape, value.dtype) != (buffer.shape, buffer.dtype):
        raise StateChanged(f"the network changes the shape or dtype of its buffer {name} while it trains")
    buffer.copy_(value.detach())
