"""Training steps of a stack of networks: with explicit gradients, layer by layer, or with autograd."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from actlab.fleet.diagnostics import ActivationRecord, find_outermost_activations, record_calls
from actlab.fleet.layers import EXPLICIT, TracedLayer, create_layer, is_stored_transposed
from actlab.fleet.losses import compute_loss, compute_loss_and_gradients, has_explicit_gradient
from actlab.fleet.module_calls import make_calls
from actlab.fleet.stacked_weights import Stack


class TrainingStep(ABC):
    """Computes outputs, gradients and diagnostics of a stack of R networks.

    Args:
        stack: The weights of the networks.
        loss: The criterion.

    Attributes:
        how: How the gradients are computed; the value of :attr:`Result.how`.
        calls_modules: Whether it calls modules of the networks.
        training: Whether the networks are in training mode.
        outputs: The outputs (R, n, ...) of the last call of :meth:`compute_gradients`.
    """

    how: ClassVar[str]
    calls_modules = True
    outputs: Tensor

    def __init__(self, stack: Stack, loss: nn.Module) -> None:
        self.stack, self.loss, self.is_single, self.training = stack, loss, stack.is_single, False

    def compute_outputs(self, x: Tensor) -> Tensor:
        """Return the outputs (R, n, ...) of the networks for their inputs (R, n, ...), in evaluation mode."""
        self.training = False
        return self._unsqueeze(self._forward(self._squeeze(x)))

    def compute_gradients(self, x: Tensor, targets: Tensor) -> Tensor:
        """Write the gradients of the weights; return the losses (R,).

        Args:
            x: Inputs (R, n, ...).
            targets: Targets (R, n, ...).
        """
        self.training = True
        losses, outputs = self._backward(self._squeeze(x), self._squeeze(targets))
        self.outputs = self._unsqueeze(outputs.detach())
        return losses.reshape(-1)

    @abstractmethod
    def diagnose(self, x: Tensor, targets: Tensor) -> list[ActivationRecord]:
        """Return the outputs and derivatives of the activations; write the gradients of the weights.

        Args:
            x: Inputs (R, n, ...).
            targets: Targets (R, n, ...).
        """

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _backward(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Write the gradients of the weights; return losses and outputs."""

    def _squeeze(self, x: Tensor) -> Tensor:
        return x[0] if self.is_single else x

    def _unsqueeze(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0) if self.is_single else x


class SequentialStep(TrainingStep):
    """Computes explicit gradients of sequential networks. Their activations may differ.

    Args:
        modules: The networks. Equal activations must be neighbours.
        layers: The layers of the first network, from :func:`trace_layers`.
        loss: The criterion.
        device: Where to compute.
        bfloat16: Whether the operands of matrix products are bfloat16.
        transposed: Names of the matrices to store transposed; None to choose them.
    """

    how = "layer by layer"

    def __init__(
        self,
        modules: Sequence[nn.Module],
        layers: Sequence[TracedLayer],
        loss: nn.Module,
        device: str,
        bfloat16: bool,
        transposed: Collection[str] | None,
    ) -> None:
        self.calls_modules = any(layer.kind not in EXPLICIT for layer in layers)
        if transposed is None:
            linear = [layer.name for layer in layers if layer.kind == "linear"]
            weights = {f"{name}weight": modules[0].get_submodule(name[:-1]).weight for name in linear}
            is_single = len(modules) == 1
            transposed = [name for name, w in weights.items() if is_stored_transposed(w, is_single, device)]
        self.has_explicit_gradient = has_explicit_gradient(loss)
        super().__init__(Stack(modules, transposed, device), loss)
        self.traced = layers
        self.layers = [
            create_layer(layer, self.stack, modules, bfloat16, lambda: self.training) for layer in layers
        ]

    def _forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x, False)
        return x

    def _backward(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            x = layer.forward(x, True)
        losses, grad = self._compute_loss(x, targets)
        for index in range(len(self.layers) - 1, -1, -1):
            grad = self.layers[index].backward(grad, index == 0)
        return losses, x

    def diagnose(self, x: Tensor, targets: Tensor) -> list[ActivationRecord]:
        """Return the outputs and derivatives of the activations; write the gradients of the weights."""
        self.training = False
        outputs, y = [], self._squeeze(x)
        for layer in self.layers:
            y = layer.forward(y, True)
            outputs.append(y)
        _, grad = self._compute_loss(y, self._squeeze(targets))
        records = []
        for index in range(len(self.layers) - 1, -1, -1):
            layer, traced, y = self.layers[index], self.traced[index], outputs[index]
            if (slope := layer.slope(y)) is not None:
                name = traced.name.rstrip(".") or getattr(traced.function, "__name__", "")
                records.append(ActivationRecord(name, *map(self._unsqueeze, (y, slope, grad))))
            grad = layer.backward(grad, index == 0)
        return records[::-1]

    def _compute_loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses and the gradient with respect to the outputs."""
        is_matrix = outputs.ndim == 3 - self.is_single
        if self.has_explicit_gradient and (outputs.ndim == targets.ndim or is_matrix):
            return compute_loss_and_gradients(self.loss, outputs, targets, stacked=not self.is_single)
        outputs = outputs.requires_grad_()
        with torch.enable_grad():
            losses = compute_losses(self.loss, outputs, targets, self.is_single)
            (grad,) = torch.autograd.grad(losses.sum(), outputs)
        return losses.detach(), grad


class AutogradStep(TrainingStep):
    """Computes the gradients of any networks with vmap and autograd. Only their weights may differ.

    Args:
        modules: The networks.
        loss: The criterion.
        device: Where to compute.
        bfloat16: Whether to compute under autocast.
        channels_last: If there is only one network, names of the convolutions to store in channels-last
            format.
    """

    how = "autograd"

    def __init__(
        self,
        modules: Sequence[nn.Module],
        loss: nn.Module,
        device: str,
        bfloat16: bool,
        channels_last: Collection[str] = (),
    ) -> None:
        super().__init__(Stack(modules, channels_last, device), loss)
        self.autocast = torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=bfloat16)
        self.module = modules[0]
        self.activations: list[str] | None = None  # names of the activations; None before the first diagnosis
        self.calls = make_calls(self.stack, self.module, "", lambda: self.training)
        stack, names = self.stack, self.calls.names
        self.grads = [stack.get_grad(n, 0) if self.is_single else stack.grad_views[n] for n in names]

    def _forward(self, x: Tensor) -> Tensor:
        with self.autocast:
            return self._widen(self.calls(x)[0])

    def _backward(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            with self.autocast:
                outputs, weights = self.calls(x)
            outputs = self._widen(outputs)
            losses = compute_losses(self.loss, outputs, targets, self.is_single)
            grads = torch.autograd.grad(losses.sum(), weights, allow_unused=True)
        for name, grad in zip(self.calls.names, grads, strict=True):
            if grad is None:  # torch.optim would skip it, but a row of a matrix cannot be skipped
                raise ValueError(f"the loss does not depend on {name}")
        torch._foreach_copy_(self.grads, grads)
        return losses.detach(), outputs

    def diagnose(self, x: Tensor, targets: Tensor) -> list[ActivationRecord]:
        """Return the outputs and derivatives of the activations; write the gradients of the weights."""
        self.training = False
        by_network = [self._diagnose_single(index, x[index], targets[index]) for index in range(len(x))]
        return [
            ActivationRecord(
                records[0].name,
                *(torch.stack([getattr(r, part) for r in records]) for part in ("output", "slope", "grad")),
            )
            for records in zip(*by_network, strict=True)
        ]

    def _diagnose_single(self, index: int, x: Tensor, targets: Tensor) -> list[ActivationRecord]:
        """Diagnose one network. The tensors of its records have no dimension R."""
        with torch.enable_grad(), self.autocast:
            with record_calls(self.module) as calls:
                outputs, weights = self.calls.call_network(index, x)
            outputs = outputs.float()
            loss = compute_losses(self.loss, outputs, targets, True)
            if self.activations is None:
                self.activations = find_outermost_activations(calls)
            calls = [call for call in calls if call.name in self.activations]
            inputs = [*(call.y for call in calls), *weights]
            grads = torch.autograd.grad(loss, inputs, retain_graph=True, materialize_grads=True)
            for name, grad in zip(self.calls.names, grads[len(calls) :], strict=True):
                self.stack.get_grad(name, index).copy_(grad)
            return [
                ActivationRecord(call.name, call.y.detach(), call.slope(), grad)
                for call, grad in zip(calls, grads, strict=False)
            ]

    def _widen(self, outputs: Tensor) -> Tensor:
        return outputs.float() if self.autocast._enabled else outputs


def create_step(
    modules: Sequence[nn.Module],
    layers: Sequence[TracedLayer] | None,
    loss: nn.Module,
    device: str,
    bfloat16: bool,
    transposed: Collection[str] | None = None,
) -> TrainingStep:
    """Return a step with explicit gradients if the layers are known, otherwise one with autograd."""
    if layers is not None:
        return SequentialStep(modules, layers, loss, device, bfloat16, transposed)
    return AutogradStep(modules, loss, device, bfloat16, transposed or ())


def compute_losses(loss: nn.Module, outputs: Tensor, targets: Tensor, is_single: bool) -> Tensor:
    """Return the loss of one network (), or of every network of a stack (R,)."""
    if is_single:
        return compute_loss(loss, outputs, targets)
    return torch.vmap(lambda y, t: compute_loss(loss, y, t))(outputs, targets)
