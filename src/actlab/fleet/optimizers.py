"""The optimizers of torch.optim for a stack of networks, with separate hyper-parameters for each network."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from actlab.fleet.run import Optimizer


class FleetOptimizer(ABC):
    """The optimizers of R networks whose weights are the rows of a matrix, with their state.

    Args:
        optimizers: The optimizer of every network; they agree in name and flags.
        weights: Weights (R, P), which :meth:`step` changes in place.
        grads: Their gradients (R, P), which :meth:`step` may overwrite.

    Attributes:
        number_names: The numeric arguments of torch.optim's optimizer besides ``lr``.
        flag_names: The boolean arguments that choose a variant.
    """

    number_names: ClassVar[tuple[str, ...]]
    flag_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def __init__(self, optimizers: Sequence[Optimizer], weights: Tensor, grads: Tensor) -> None: ...

    @abstractmethod
    def set_number(self, name: str, values: Sequence[float]) -> None:
        """Set a numeric hyper-parameter of every network."""

    @abstractmethod
    def copy_networks(self, other: Any, indices: Tensor) -> None:
        """Copy state and numbers of the networks with these indices (k,) from an optimizer of this class."""

    @abstractmethod
    def step(self) -> None:
        """Update the weights by one step."""


class StackedOptimizer(FleetOptimizer):
    """Base of the optimizers that update all networks at once.

    Each subclass computes what torch.optim's optimizer of the same name computes, in the same order of
    operations.

    Attributes:
        state_names: The tensors of its state, with the flag that enables each; an empty string for always.
    """

    state_names: ClassVar[Mapping[str, str]]

    def __init__(self, optimizers: Sequence[Optimizer], weights: Tensor, grads: Tensor) -> None:
        self.flags = optimizers[0].flags
        self.weights, self.grads = weights, grads
        self.steps = torch.zeros((), dtype=torch.float64, device=weights.device)
        self.numbers: dict[str, Tensor] = {}  # (R, 1), exact
        self.rounded: dict[str, Tensor] = {}  # the same in the dtype of the weights
        for name in optimizers[0].numbers:
            column = torch.tensor([[o.numbers[name]] for o in optimizers], dtype=torch.float64)
            self.numbers[name] = column.to(weights.device)
            self.rounded[name] = self._round(self.numbers[name])
        self.decays = bool(self.numbers["weight_decay"].any())
        names = [name for name, flag in self.state_names.items() if not flag or flag in self.flags]
        self.state = {name: torch.zeros_like(weights) for name in names}

    def set_number(self, name: str, values: Sequence[float]) -> None:
        """Set a numeric hyper-parameter of every network."""
        self.numbers[name].copy_(torch.tensor(values, dtype=torch.float64).unsqueeze(1))
        self.rounded[name].copy_(self.numbers[name])

    def copy_networks(self, other: StackedOptimizer, indices: Tensor) -> None:
        """Copy state and numbers of the networks with these indices (k,) from another optimizer."""
        self.steps.copy_(other.steps)
        for tensors, others in ((self.state, other.state), (self.numbers, other.numbers)):
            for name, value in tensors.items():
                value.copy_(others[name][indices])
        for name, value in self.rounded.items():
            value.copy_(self.numbers[name])

    def _add_weight_decay(self) -> None:
        if self.decays:
            self.grads.addcmul_(self.weights, self.rounded["weight_decay"])

    def _round(self, value: Tensor) -> Tensor:
        return value.to(self.weights.dtype)


class SGD(StackedOptimizer):
    """:class:`torch.optim.SGD` with momentum, Nesterov momentum and weight decay."""

    number_names: ClassVar = ("momentum", "weight_decay")
    flag_names: ClassVar = ("nesterov",)
    state_names: ClassVar = {"velocity": ""}

    def step(self) -> None:
        """Update the weights by one step."""
        self._add_weight_decay()
        velocity, momentum = self.state["velocity"], self.rounded["momentum"]
        torch.addcmul(self.grads, velocity, momentum, out=velocity)
        update = torch.addcmul(self.grads, velocity, momentum) if "nesterov" in self.flags else velocity
        self.weights.addcmul_(update, self.rounded["lr"], value=-1)


class Adam(StackedOptimizer):
    """:class:`torch.optim.Adam`, with AMSGrad."""

    number_names: ClassVar = ("betas", "eps", "weight_decay")
    flag_names: ClassVar = ("amsgrad",)
    state_names: ClassVar = {"mean": "", "square": "", "largest": "amsgrad"}

    def step(self) -> None:
        """Update the weights by one step."""
        self._add_weight_decay()
        self._update()

    def _update(self) -> None:
        self.steps += 1
        mean, square = self.state["mean"], self.state["square"]
        beta1, beta2 = self.numbers["beta1"], self.numbers["beta2"]
        mean.lerp_(self.grads, self._round(1 - beta1))
        square.mul_(self._round(beta2)).addcmul_(self.grads * self.grads, self._round(1 - beta2))
        step_size = self.numbers["lr"] / (1 - beta1**self.steps)
        correction = (1 - beta2**self.steps).sqrt()
        if "amsgrad" in self.flags:
            square = torch.maximum(self.state["largest"], square, out=self.state["largest"])
        divisor = square.sqrt().div_(self._round(correction)).add_(self.rounded["eps"])
        self.weights.addcmul_(mean / divisor, self._round(-step_size))


class AdamW(Adam):
    """:class:`torch.optim.AdamW`: weight decay outside of the gradient."""

    def step(self) -> None:
        """Update the weights by one step."""
        if self.decays:
            self.weights.mul_(self._round(1 - self.numbers["lr"] * self.numbers["weight_decay"]))
        self._update()


class RMSprop(StackedOptimizer):
    """:class:`torch.optim.RMSprop` with momentum, optionally centred."""

    number_names: ClassVar = ("alpha", "eps", "weight_decay", "momentum")
    flag_names: ClassVar = ("centered",)
    state_names: ClassVar = {"square": "", "velocity": "", "mean": "centered"}

    def step(self) -> None:
        """Update the weights by one step."""
        self._add_weight_decay()
        square, velocity = self.state["square"], self.state["velocity"]
        new_share = self._round(1 - self.numbers["alpha"])
        square.mul_(self.rounded["alpha"]).addcmul_(self.grads * self.grads, new_share)
        variance = square
        if "centered" in self.flags:
            mean = self.state["mean"].lerp_(self.grads, new_share)
            variance = square - mean * mean
        update = self.grads / variance.sqrt().add_(self.rounded["eps"])
        torch.addcmul(update, velocity, self.rounded["momentum"], out=velocity)
        self.weights.addcmul_(velocity, self.rounded["lr"], value=-1)


class SeparateOptimizers(FleetOptimizer):
    """One element-wise optimizer of torch.optim per network, which gets all weights as one vector."""

    def __init__(self, optimizers: Sequence[Optimizer], weights: Tensor, grads: Tensor) -> None:
        self.rows = list(weights.unbind())
        for row, grad in zip(self.rows, grads, strict=True):
            row.grad = grad
        kind = getattr(torch.optim, optimizers[0].name)
        pairs = zip(self.rows, optimizers, strict=True)
        self.optimizers = [kind([row], **make_torch_arguments(rule)) for row, rule in pairs]

    def set_number(self, name: str, values: Sequence[float]) -> None:
        """Set a numeric hyper-parameter of every network."""
        for optimizer, value in zip(self.optimizers, values, strict=True):
            group = optimizer.param_groups[0]
            group |= {"betas": (value, group["betas"][1])} if name == "beta1" else {name: value}

    def copy_networks(self, other: SeparateOptimizers, indices: Tensor) -> None:
        """Copy state and numbers of the networks with these indices (k,) from an optimizer of this class."""
        for optimizer, row, index in zip(self.optimizers, self.rows, indices.tolist(), strict=True):
            before = other.optimizers[index]
            optimizer.param_groups = [{**before.param_groups[0], "params": [row]}]
            optimizer.state[row] = before.state[other.rows[index]]

    def step(self) -> None:
        """Update the weights by one step."""
        for optimizer in self.optimizers:
            optimizer.step()


def _separate(name: str) -> type[FleetOptimizer]:
    """Return a class that uses an optimizer of torch.optim, with the arguments that torch documents."""
    arguments = inspect.signature(getattr(torch.optim, name)).parameters
    kinds = {name: type(argument.default) for name, argument in arguments.items() if name != "lr"}
    flags = [n for n, kind in kinds.items() if kind is bool and n not in ("capturable", "differentiable")]
    numbers = [n for n, kind in kinds.items() if kind in (int, float) or n == "betas"]
    return type(name, (SeparateOptimizers,), {"number_names": tuple(numbers), "flag_names": tuple(flags)})


OPTIMIZERS: Mapping[str, type[FleetOptimizer]] = {
    "SGD": SGD,
    "Adam": Adam,
    "AdamW": AdamW,
    "RMSprop": RMSprop,
    **{name: _separate(name) for name in ("Adadelta", "Adagrad", "Adamax", "ASGD", "NAdam", "RAdam")},
}


def make_torch_arguments(optimizer: Optimizer) -> Mapping[str, Any]:
    """Return the arguments of the class in torch.optim."""
    arguments: dict[str, Any] = {**optimizer.numbers, **dict.fromkeys(optimizer.flags, True)}
    if "beta1" in arguments:
        arguments["betas"] = (arguments.pop("beta1"), arguments.pop("beta2"))
    return arguments
