"""Training steps of a stack of networks: layer by layer with explicit gradients, or by autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from actlab.fleet.diagnostics import ActivationRecord, calls, outermost_activations
from actlab.fleet.layers import (
    Function,
    TracedLayer,
    create_layer,
    functional_module,
    is_stored_transposed,
)
from actlab.fleet.losses import has_explicit_gradient, loss_and_gradients, single_loss
from actlab.fleet.stacked_weights import Stack


class SequentialStep:
    """Steps R sequential networks with equal layers; their activations may differ.

    Args:
        modules: The networks; equal activations stand together.
        line: The layers of the first, as :func:`trace_layers` gives them.
        loss: The criterion.
        device: Where to compute.
        bfloat16: Whether matrix products take bfloat16 factors.
    """

    how = "layer by layer"

    def __init__(
        self,
        modules: Sequence[nn.Module],
        line: Sequence[TracedLayer],
        loss: nn.Module,
        device: str,
        bfloat16: bool,
    ) -> None:
        self.one = len(modules) == 1
        turned = [
            f"{link.name}weight"
            for link in line
            if link.kind == "linear"
            and is_stored_transposed(modules[0].get_submodule(link.name[:-1]).weight, self.one, device)
        ]
        self.stack = Stack(modules, turned, device)
        self.loss, self.has_explicit_gradient = loss, has_explicit_gradient(loss)
        self.training = False
        self.line = line
        self.layers = [
            create_layer(link, self.stack, modules, bfloat16, lambda: self.training) for link in line
        ]
        self.calls_modules = any(link.kind not in ("linear", "formula") for link in line)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs (R, n, ...) of the networks for their inputs (R, n, ...), in evaluation mode."""
        self.training = False
        y = x[0] if self.one else x
        for layer in self.layers:
            y = layer.forward(y, False)
        return y.unsqueeze(0) if self.one else y

    def gradients(self, x: Tensor, targets: Tensor) -> Tensor:
        """Write the gradients of the weights; return the losses (R,).

        Args:
            x: Inputs (R, n, ...).
            targets: Targets (R, n, ...).
        """
        self.training = True
        targets = targets[0] if self.one else targets
        y = x[0] if self.one else x
        for layer in self.layers:
            y = layer.forward(y, True)
        losses, grad = self._loss(y, targets)
        for place in range(len(self.layers) - 1, -1, -1):
            grad = self.layers[place].backward(grad, place == 0)
        return losses.reshape(-1)

    def diagnose(self, x: Tensor, targets: Tensor) -> list[ActivationRecord]:
        """Return the activations' outputs and derivatives for some samples; write the weights' gradients.

        Args:
            x: Inputs (R, n, ...).
            targets: Targets (R, n, ...).
        """
        self.training = False
        y, targets = (x[0], targets[0]) if self.one else (x, targets)
        outputs = []
        for layer in self.layers:
            y = layer.forward(y, True)
            outputs.append(y)
        _, grad = self._loss(y, targets)
        seen = []
        for place in range(len(self.layers) - 1, -1, -1):
            layer, link, y = self.layers[place], self.line[place], outputs[place]
            if (slope := layer.slope(y)) is not None:
                found = (y, slope, grad)
                name = link.name.rstrip(".") or link.text
                seen.append(
                    ActivationRecord(name, *(part.unsqueeze(0) if self.one else part for part in found))
                )
            grad = layer.backward(grad, place == 0)
        return seen[::-1]

    def _loss(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if self.has_explicit_gradient and (outputs.ndim == targets.ndim or outputs.ndim == 3 - self.one):
            return loss_and_gradients(self.loss, outputs, targets, stacked=not self.one)
        outputs = outputs.requires_grad_()
        with torch.enable_grad():
            losses = mean_losses(self.loss, outputs, targets, self.one)
            (grad,) = torch.autograd.grad(losses.sum(), outputs)
        return losses.detach(), grad


class AutogradStep:
    """Steps R networks of any kind with vmap and autograd; they differ in their weights only.

    Args:
        modules: The networks.
        loss: The criterion.
        device: Where to compute.
        bfloat16: Whether to compute under autocast.
    """

    how, calls_modules = "autograd", True

    def __init__(self, modules: Sequence[nn.Module], loss: nn.Module, device: str, bfloat16: bool) -> None:
        self.stack = Stack(modules, device=device)
        self.one = len(modules) == 1
        self.loss = loss
        self.autocast = torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=bfloat16)
        self.training = False
        self.module = modules[0]
        self.activations: list[str] | None = None  # their names, after the first call
        self.single = functional_module(modules[0], lambda: self.training)
        self.function: Function = self.single if self.one else torch.vmap(self.single)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs (R, n, ...) of the networks for their inputs (R, n, ...), in evaluation mode."""
        self.training = False
        y = self._apply(self.stack.views, x)
        return y.unsqueeze(0) if self.one else y

    def gradients(self, x: Tensor, targets: Tensor) -> Tensor:
        """Write the gradients of the weights; return the losses (R,).

        Args:
            x: Inputs (R, n, ...).
            targets: Targets (R, n, ...).
        """
        self.training = True
        leaves = {name: view.detach().requires_grad_() for name, view in self.stack.views.items()}
        with torch.enable_grad():
            outputs = self._apply(leaves, x)
            losses = mean_losses(self.loss, outputs, targets[0] if self.one else targets, self.one)
            grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        for (name, place), grad in zip(self.stack.grad_views.items(), grads, strict=True):
            if grad is None:  # torch.optim would skip it, but a row of a matrix cannot be skipped
                raise ValueError(f"the loss does not depend on {name}")
            place.copy_(grad)
        return losses.detach().reshape(-1)

    def diagnose(self, x: Tensor, targets: Tensor) -> list[ActivationRecord]:
        """Return the activations' outputs and derivatives for some samples; write the weights' gradients.

        Args:
            x: Inputs (R, n, ...).
            targets: Targets (R, n, ...).
        """
        self.training = False
        nets = [self._diagnose_one(net, x[net], targets[net]) for net in range(len(x))]
        seen = []
        for same in zip(*nets, strict=True):
            outputs, slopes, grads = (
                torch.stack([getattr(one, part) for one in same]) for part in ("output", "slope", "grad")
            )
            seen.append(ActivationRecord(same[0].name, outputs, slopes, grads))
        return seen

    def _diagnose_one(self, net: int, x: Tensor, targets: Tensor) -> list[ActivationRecord]:
        """Return the same for one network, without the dimension R."""
        leaves = {name: view[net].detach().requires_grad_() for name, view in self.stack.views.items()}
        weights = {**leaves, **{name: value[net] for name, value in self.stack.fixed.items()}}
        with torch.enable_grad(), self.autocast:
            with calls(self.module) as found:
                outputs = self.single(weights, x).float()
            loss = mean_losses(self.loss, outputs, targets, True)
            if self.activations is None:
                self.activations = outermost_activations(found)
            found = [call for call in found if call.name in self.activations]
            wanted = [*(call.y for call in found), *leaves.values()]
            grads = torch.autograd.grad(loss, wanted, retain_graph=True, materialize_grads=True)
            for place, grad in zip(self.stack.grad_views.values(), grads[len(found) :], strict=True):
                place[net].copy_(grad)
            return [
                ActivationRecord(call.name, call.y.detach(), call.slope(), grad)
                for call, grad in zip(found, grads, strict=False)
            ]

    def _apply(self, trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        weights: dict[str, Any] = {**trained, **self.stack.fixed}
        if self.one:
            weights, x = {name: value[0] for name, value in weights.items()}, x[0]
        with self.autocast:
            return self.function(weights, x).float() if self.autocast._enabled else self.function(weights, x)


Step = SequentialStep | AutogradStep


def create_step(
    modules: Sequence[nn.Module],
    line: Sequence[TracedLayer] | None,
    loss: nn.Module,
    device: str,
    bfloat16: bool,
) -> Step:
    """Return a step with explicit gradients if the layers are known, otherwise one with autograd."""
    if line is not None:
        return SequentialStep(modules, line, loss, device, bfloat16)
    return AutogradStep(modules, loss, device, bfloat16)


def mean_losses(loss: nn.Module, outputs: Tensor, targets: Tensor, one: bool) -> Tensor:
    """Return the loss of one network (), or of every network of a stack (R,)."""
    if one:
        return single_loss(loss, outputs, targets)
    return torch.vmap(lambda y, t: single_loss(loss, y, t))(outputs, targets)
