"""The layers of sequential networks. Each computes its outputs and gradients, explicitly if possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import actlab.nn
from actlab.activation.module import ActivationModule
from actlab.fleet.diagnostics import is_elementwise_nonlinear
from actlab.fleet.module_calls import make_calls
from actlab.fleet.stacked_weights import Stack

_MIN_OUTPUTS = 32  # of a matrix that is stored transposed
_MIN_BFLOAT16_WEIGHTS = 1 << 14  # from here a product in bfloat16 is worth the rounding of its factors
_MIN_ONEDNN_WEIGHTS = 1 << 16  # from here oneDNN's float32 product is faster than MKL's


class Layer(Protocol):
    """A layer of one network (n, ...) or of a stack of networks (R, n, ...)."""

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Return the outputs; if ``training``, save what :meth:`backward` needs."""

    def backward(self, grad: Tensor, is_first: bool) -> Tensor:
        """Write the gradients of the weights; return that of the input, except for the first layer."""

    def slope(self, output: Tensor) -> Tensor | None:
        """Return the derivative of an activation at its last input; None for other layers."""


EXPLICIT = ("linear", "formula")  # kinds of layers that a fleet computes without a call of their modules


@dataclass(frozen=True)
class TracedLayer:
    """One layer of a sequential network.

    Attributes:
        kind: ``"linear"``, ``"formula"`` (a catalogue function), ``"module"`` or ``"function"``.
        name: The module's name in the network, with a dot at its end; empty for a function.
        description: The description that the layers of a fleet share; empty for a module, because its class
            does not determine what it computes.
        activation: The name and the parameters of a catalogue function, which may differ within a fleet.
        function: The function; None for a module.
    """

    kind: str
    name: str
    description: str
    activation: str = ""
    function: Callable[[Tensor], Tensor] | None = None


class LinearLayer:
    """A matrix product and a bias.

    Args:
        stack: The weights of the networks.
        name: The layer's name in the networks, with a dot at its end.
        bfloat16: Whether the operands of the products are bfloat16.
    """

    def __init__(self, stack: Stack, name: str, bfloat16: bool) -> None:
        is_single = stack.is_single
        self.product: Callable[..., Tensor] = torch.mm if is_single else torch.bmm
        self.affine: Callable[..., Tensor] = torch.addmm if is_single else torch.baddbmm

        def view(views: Mapping[str, Tensor], part: str) -> Tensor:
            return views[name + part][0] if is_single else views[name + part]

        self.weight, self.weight_grad = (view(v, "weight") for v in (stack.views, stack.grad_views))
        if f"{name}weight" not in stack.transposed:
            self.weight, self.weight_grad = self.weight.mT, self.weight_grad.mT
        size = self.weight.shape[-2:].numel()
        self.bfloat16 = bfloat16 and size >= _MIN_BFLOAT16_WEIGHTS
        self.onednn = not bfloat16 and is_single and uses_onednn(self.weight, str(self.weight.device))
        if self.onednn:
            self.product, self.affine = _onednn_product, _onednn_affine
        self.bias = self.bias_grad = None
        if f"{name}bias" in stack.views:
            self.bias_grad = view(stack.grad_views, "bias")
            # (1, out) for one network, (R, 1, out) for more: what addmm and baddbmm broadcast
            self.bias = view(stack.views, "bias").unsqueeze(-2)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Return ``x @ weight + bias``."""
        if self.bfloat16:
            x, weight = x.bfloat16(), self.weight.bfloat16()
            y = self.product(x, weight).float()
            if self.bias is not None:
                y += self.bias
        elif self.bias is None:
            weight, y = self.weight, self.product(x, self.weight)
        else:
            weight, y = self.weight, self.affine(self.bias, x, self.weight)
        if training:
            self.input, self.used_weight = x, weight
        return y

    def backward(self, grad: Tensor, is_first: bool) -> Tensor:
        """Write the gradients of weight and bias; return ``grad @ weight.T``."""
        if self.bias_grad is not None:
            torch.sum(grad, -2, out=self.bias_grad)
        if self.bfloat16:
            grad = grad.bfloat16()
            self.weight_grad.copy_(self.product(self.input.mT, grad))
        elif self.onednn:
            self.weight_grad.mT.copy_(self.product(grad.mT, self.input))
        else:
            self.product(self.input.mT, grad, out=self.weight_grad)
        return grad if is_first else self.product(grad, self.used_weight.mT).float()

    def slope(self, output: Tensor) -> Tensor | None:
        """Return None: the layer is not an activation."""
        return None


def is_stored_transposed(weight: Any, is_single: bool, device: str) -> bool:
    """Return whether a matrix (out, in) is multiplied faster if it is stored as (in, out)."""
    return len(weight) >= _MIN_OUTPUTS and not (is_single and uses_onednn(weight, device))


def uses_onednn(weight: Tensor, device: str) -> bool:
    """Return whether oneDNN multiplies the matrix of a single network: it is twice as fast as MKL on AMD."""
    if weight.numel() < _MIN_ONEDNN_WEIGHTS or weight.dtype != torch.float32 or device != "cpu":
        return False
    # MKL does not use AVX-512 on AMD's processors.
    return torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.mT, bias, "none", [], "")
    return result


def _onednn_affine(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return _onednn_product(x, weight, bias[0])


class FormulaLayer:
    """Catalogue activations without trained parameters. Each is applied to its own networks in the stack.

    Args:
        modules: The activation of every network. Equal activations must be neighbours.
    """

    def __init__(self, modules: Sequence[ActivationModule]) -> None:
        slices = find_equal_neighbours([(module.activation, parameter_values(module)) for module in modules])
        self.parts = [(part, _ActivationFormula(modules[part.start])) for part in slices]
        self.only = self.parts[0][1] if len(slices) == 1 else None

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Apply each activation."""
        if self.only:
            return self.only.forward(x, training)
        return torch.cat([formula.forward(x[part], training) for part, formula in self.parts])

    def backward(self, grad: Tensor, is_first: bool) -> Tensor:
        """Multiply the gradient by each derivative."""
        if self.only:
            return self.only.backward(grad)
        return torch.cat([formula.backward(grad[part]) for part, formula in self.parts])

    def slope(self, output: Tensor) -> Tensor | None:
        """Return the derivative at the last input, of the shape of ``output``."""
        return self.backward(torch.ones_like(output), True)


class _ActivationFormula:
    """One activation, computed with the formulas of its definition."""

    def __init__(self, module: ActivationModule) -> None:
        self.functions, self.values = module.activation._autograd_functions, parameter_values(module)
        self.value, self.gradient = self.functions.formulas.forward, self.functions.eager_gradient
        self.saved_kind = self.functions.saved_kind(self.values)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        y = self.value(x, *self.values)
        if training:
            # A call of saved_tensor takes longer than relu.
            self.saved = {"input": x, "output": y}.get(self.saved_kind)
            if self.saved is None:
                self.saved = self.functions.saved_tensor(x, y, self.values)
        return y

    def backward(self, grad: Tensor) -> Tensor:
        assert self.saved is not None
        return self.gradient(grad, self.saved, *self.values)


class AutogradLayer:
    """Any function of one tensor. Autograd differentiates it, in a separate graph for this layer.

    Args:
        apply: Returns the outputs for the inputs, and the weights.
        grads: Where to write the gradients of the weights.
        source: The module or function that ``apply`` calls.
    """

    def __init__(
        self, apply: Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]], grads: Sequence[Tensor], source: Any
    ) -> None:
        self.apply, self.grads, self.source = apply, grads, source
        self.is_activation: bool | None = None  # None until the first call of slope

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Apply the function; if ``training``, record it for autograd."""
        x = x.detach()
        if training:
            x.requires_grad_()
        with torch.set_grad_enabled(training):
            y, weights = self.apply(x.clone())  # the function may overwrite its input
        if training:
            self.leaves, self.output = (x, *weights), y
        return y.detach()

    def backward(self, grad: Tensor, is_first: bool) -> Tensor:
        """Write the gradients of the weights; return that of the input."""
        input_grad, *weight_grads = torch.autograd.grad(self.output, self.leaves, grad)
        for destination, weight_grad in zip(self.grads, weight_grads, strict=True):
            destination.copy_(weight_grad)
        return input_grad

    def slope(self, output: Tensor) -> Tensor | None:
        """Return the derivative at the last input; None if the function is not an activation."""
        x = self.leaves[0]
        if self.is_activation is None:
            self.is_activation = is_elementwise_nonlinear(
                self.source, lambda x: self.forward(x, False), x, output
            )
        if not self.is_activation:
            return None
        (slope,) = torch.autograd.grad(self.output, x, torch.ones_like(self.output), retain_graph=True)
        return slope


def create_layer(
    traced: TracedLayer,
    stack: Stack,
    modules: Sequence[nn.Module],
    bfloat16: bool,
    is_training: Callable[[], bool],
) -> Layer:
    """Return a layer of a stack of networks.

    Args:
        traced: The layer of the first network.
        stack: The weights of the networks.
        modules: The networks.
        bfloat16: Whether the operands of matrix products are bfloat16.
        is_training: Returns whether the networks are in training mode.
    """
    if traced.kind == "linear":
        return LinearLayer(stack, traced.name, bfloat16)
    if traced.function is not None:
        function = traced.function if stack.is_single else torch.vmap(traced.function)
        return AutogradLayer(lambda x: (function(x), ()), (), traced.function)
    parts = [module.get_submodule(traced.name.rstrip(".")) for module in modules]
    if traced.kind == "formula":
        formulas = map(as_catalogue_activation, parts)
        return FormulaLayer([formula for formula in formulas if formula is not None])
    calls = make_calls(stack, parts[0], traced.name, is_training)
    return AutogradLayer(calls, [stack.grad_views[name] for name in calls.names], parts[0])


# Modules of torch whose results are bitwise equal to those of the catalogue.
_TORCH_EQUIVALENTS: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.ReLU: lambda module: actlab.nn.ReLU(),
    nn.Tanh: lambda module: actlab.nn.Tanh(),
    nn.Sigmoid: lambda module: actlab.nn.Sigmoid(),
    nn.LeakyReLU: lambda module: actlab.nn.LeakyReLU(module.negative_slope),
}


def as_catalogue_activation(module: nn.Module) -> ActivationModule | None:
    """Return a module as a catalogue activation without trained parameters; None if it is not one."""
    if type(module) in _TORCH_EQUIVALENTS:
        module = _TORCH_EQUIVALENTS[type(module)](module)
    if not isinstance(module, ActivationModule) or type(module).forward is not ActivationModule.forward:
        return None
    if module.activation.facts.gated or any(isinstance(v, Tensor) for v in parameter_values(module)):
        return None
    if module.activation.formulas.preparation is not None:  # draws new parameters in every call
        return None
    return module


def parameter_values(module: ActivationModule) -> tuple[Any, ...]:
    """Return the values of an activation's parameters."""
    return tuple(getattr(module, name) for name in module.activation.parameters)


def find_equal_neighbours(values: Sequence[Any]) -> list[slice]:
    """Return slices of equal neighbours."""
    starts = [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]
