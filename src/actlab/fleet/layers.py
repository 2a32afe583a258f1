"""Layers of sequential networks: each computes its value and its gradient, explicitly if it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

import actlab.nn
from actlab.activation.module import ActivationModule
from actlab.fleet.diagnostics import is_elementwise_nonlinear
from actlab.fleet.module_state import StateChanged
from actlab.fleet.stacked_weights import Stack

_NARROW = 32  # outputs
_LARGE = 1 << 14  # weights from which a product in bfloat16 is worth the rounding of its factors
_LARGE_FLOAT32 = 1 << 16  # weights from which oneDNN's float32 product is faster than MKL's
Function = Callable[[Mapping[str, Tensor], Tensor], Tensor]


class Layer(Protocol):
    """A layer of one network (n, ...) or of a stack of networks (R, n, ...)."""

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Return the outputs; save what :meth:`backward` needs when training."""

    def backward(self, grad: Tensor, first: bool) -> Tensor:
        """Write the gradients of the weights; return that of the input, unless it is the first layer."""

    def slope(self, output: Tensor) -> Tensor | None:
        """Return the derivative of an activation at its last input; None if it is no activation."""


@dataclass(frozen=True)
class TracedLayer:
    """One layer of a sequential network.

    Attributes:
        kind: ``"linear"``, ``"formula"`` (a catalogue function), ``"module"`` or ``"function"``.
        name: The module's name in the network, with a dot at its end; empty for a function.
        text: The description that the layers of a fleet share; empty for a module, whose class does not say
            what it computes.
        activation: The name and the parameters of a catalogue function, which may differ within a fleet.
        apply: The function.
    """

    kind: str
    name: str
    text: str
    activation: str = ""
    apply: Callable[[Tensor], Tensor] | None = None


class Linear:
    """A matrix product and a bias.

    Args:
        stack: The networks.
        name: The layer's name in them; a dot at its end.
        bfloat16: Whether the products take bfloat16 factors.
    """

    def __init__(self, stack: Stack, name: str, bfloat16: bool) -> None:
        one = stack.is_single
        self.product: Callable[..., Tensor] = torch.mm if one else torch.bmm
        self.affine: Callable[..., Tensor] = torch.addmm if one else torch.baddbmm

        def view(views: Mapping[str, Tensor], part: str) -> Tensor:
            return views[name + part][0] if one else views[name + part]

        self.weight, self.weight_grad = (view(v, "weight") for v in (stack.views, stack.grad_views))
        if f"{name}weight" not in stack.turned:
            self.weight, self.weight_grad = self.weight.mT, self.weight_grad.mT
        size = self.weight.shape[-2:].numel()
        self.bfloat16 = bfloat16 and size >= _LARGE
        self.onednn = not bfloat16 and one and uses_onednn(self.weight, str(self.weight.device))
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
            self.input, self.factor = x, weight
        return y

    def backward(self, grad: Tensor, first: bool) -> Tensor:
        """Write both gradients; return ``grad @ weight.T``."""
        if self.bias_grad is not None:
            torch.sum(grad, -2, out=self.bias_grad)
        if self.bfloat16:
            grad = grad.bfloat16()
            self.weight_grad.copy_(self.product(self.input.mT, grad))
        elif self.onednn:
            self.weight_grad.mT.copy_(self.product(grad.mT, self.input))
        else:
            self.product(self.input.mT, grad, out=self.weight_grad)
        return grad if first else self.product(grad, self.factor.mT).float()

    def slope(self, output: Tensor) -> Tensor | None:
        """Return None: it is no activation."""
        return None


def is_stored_transposed(weight: Any, is_single: bool, device: str) -> bool:
    """Return whether a matrix (out, in) is multiplied faster if it is stored as (in, out)."""
    return len(weight) >= _NARROW and not (is_single and uses_onednn(weight, device))


def uses_onednn(weight: Tensor, device: str) -> bool:
    """Return whether oneDNN multiplies the matrix of a single network: it is twice as fast as MKL on AMD."""
    if weight.numel() < _LARGE_FLOAT32 or weight.dtype != torch.float32 or device != "cpu":
        return False
    # MKL does not use AVX-512 on AMD's processors.
    return torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.mT, bias, "none", [], "")
    return result


def _onednn_affine(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return _onednn_product(x, weight, bias[0])


class FormulaLayer:
    """Activations of the catalogue without trained parameters, each on its part of the stack.

    Args:
        modules: The activation of every network; equal ones stand together.
    """

    def __init__(self, modules: Sequence[ActivationModule]) -> None:
        cuts = equal_neighbours([(module.activation, parameter_values(module)) for module in modules])
        self.equal_neighbours = [(cut, _ActivationFormula(modules[cut.start])) for cut in cuts]
        self.only = self.equal_neighbours[0][1] if len(cuts) == 1 else None

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Apply each function."""
        if self.only:
            return self.only.forward(x, training)
        return torch.cat([element.forward(x[cut], training) for cut, element in self.equal_neighbours])

    def backward(self, grad: Tensor, first: bool) -> Tensor:
        """Multiply by each derivative."""
        if self.only:
            return self.only.backward(grad)
        return torch.cat([element.backward(grad[cut]) for cut, element in self.equal_neighbours])

    def slope(self, output: Tensor) -> Tensor | None:
        """Return the derivative where :meth:`forward` was last, of the shape of its output."""
        return self.backward(torch.ones_like(output), True)


class _ActivationFormula:
    """One function, from its definition's own formulas."""

    def __init__(self, module: ActivationModule) -> None:
        self.functions, self.values = module.activation._autograd_functions, parameter_values(module)
        self.value, self.gradient = self.functions.formulas.forward, self.functions.eager_gradient
        self.kind = self.functions.saved_kind(self.values)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        y = self.value(x, *self.values)
        if training:
            # Asking the definition costs more than relu does.
            self.kept = {"input": x, "output": y}.get(self.kind)
            if self.kept is None:
                self.kept = self.functions.saved_tensor(x, y, self.values)
        return y

    def backward(self, grad: Tensor) -> Tensor:
        assert self.kept is not None
        return self.gradient(grad, self.kept, *self.values)


class AutogradLayer:
    """Any function of one tensor. Autograd differentiates it, in a graph of its own.

    Args:
        stack: The networks.
        function: From the weights of one network, by name, and its input to its output.
        names: Which weights and buffers of the networks it reads, by the names it knows them by.
        value: The module or function that it is.
    """

    def __init__(self, stack: Stack, function: Function, names: Mapping[str, str], value: Any) -> None:
        self.value = value
        self.activation: bool | None = None  # whether it is one, once that has been seen
        self.one = stack.is_single
        self.trained = {own: stack.views[name] for own, name in names.items() if name in stack.views}
        self.grads = [stack.grad_views[name] for name in names.values() if name in stack.views]
        self.fixed = {own: stack.fixed[name] for own, name in names.items() if name in stack.fixed}
        self.function = function if self.one else torch.vmap(function)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        """Apply the function, recording it when training."""
        leaves = {name: value.detach() for name, value in self.trained.items()}
        x = x.detach()
        if training:
            for leaf in (x, *leaves.values()):
                leaf.requires_grad_()
        with torch.set_grad_enabled(training):
            weights = {**leaves, **self.fixed}
            if self.one:
                weights = {name: value[0] for name, value in weights.items()}
            y = self.function(weights, x.clone())  # which it may overwrite
        if training:
            self.leaves, self.output = (x, *leaves.values()), y
        return y.detach()

    def backward(self, grad: Tensor, first: bool) -> Tensor:
        """Let torch differentiate."""
        below, *own = torch.autograd.grad(self.output, self.leaves, grad)
        for place, value in zip(self.grads, own, strict=True):
            place.copy_(value)
        return below

    def slope(self, output: Tensor) -> Tensor | None:
        """Return the derivative where :meth:`forward` was last; None if this is no activation."""
        if self.activation is None:
            self.activation = is_elementwise_nonlinear(
                self.value, lambda x: self.forward(x, False), self.leaves[0], output
            )
        if not self.activation:
            return None
        (slope,) = torch.autograd.grad(
            self.output, self.leaves[0], torch.ones_like(self.output), retain_graph=True
        )
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
        stack: The weights.
        modules: The networks.
        bfloat16: Whether matrix products take bfloat16 factors.
        is_training: Returns whether the networks are in training mode.
    """
    if traced.kind == "linear":
        return Linear(stack, traced.name, bfloat16)
    if traced.apply is not None:
        apply = traced.apply
        return AutogradLayer(stack, lambda weights, x: apply(x), {}, apply)
    parts = [module.get_submodule(traced.name.rstrip(".")) for module in modules]
    if traced.kind == "formula":
        formulas = map(as_catalogue_activation, parts)
        return FormulaLayer([formula for formula in formulas if formula is not None])
    own = [*dict(parts[0].named_parameters()), *dict(parts[0].named_buffers())]
    function = functional_module(parts[0], is_training)
    return AutogradLayer(stack, function, {name: traced.name + name for name in own}, parts[0])


def functional_module(module: nn.Module, training: Callable[[], bool]) -> Function:
    """Return a module as a function of its weights and its input.

    What a call does to a buffer, in place or by an assignment, it does to the buffer among the weights.
    """
    called, buffers = _WithBuffers(module), [name for name, _ in module.named_buffers()]
    assigned: list[str] | None = None  # buffers that a call in training assigns, once there was one

    def function(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        nonlocal assigned
        module.train(training())
        if not buffers:
            return functional_call(module, dict(weights), (x,))  # type: ignore[no-any-return]
        # Autograd may need the old value of what is assigned: it is left alone, in a copy.
        copied = (buffers if assigned is None else assigned) if module.training else ()
        given = {**weights, **{name: weights[name].clone() for name in copied}}
        named = {f"module.{name}": value for name, value in given.items()}
        result, after = functional_call(called, named, (x,))
        for name in buffers:
            if after[name] is not weights[name]:
                _assign(weights[name], after[name], name)
        if assigned is None and module.training:
            assigned = [name for name in buffers if after[name] is not given[name]]
        return result  # type: ignore[no-any-return]

    return function


class _WithBuffers(nn.Module):
    """A module that returns its buffers too; after a functional call they are the old ones again."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
        return self.module(x), dict(self.module.named_buffers())


def _assign(buffer: Tensor, value: Tensor, name: str) -> None:
    if (value.shape, value.dtype) != (buffer.shape, buffer.dtype):
        raise StateChanged(f"the network changes the shape or dtype of its buffer {name} while it trains")
    buffer.copy_(value.detach())


# In these, torch's own and ours are the same to the last bit.
_TWINS: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.ReLU: lambda module: actlab.nn.ReLU(),
    nn.Tanh: lambda module: actlab.nn.Tanh(),
    nn.Sigmoid: lambda module: actlab.nn.Sigmoid(),
    nn.LeakyReLU: lambda module: actlab.nn.LeakyReLU(module.negative_slope),
}


def as_catalogue_activation(module: nn.Module) -> ActivationModule | None:
    """Return an activation without trained parameters as a module of the catalogue; None if it is none."""
    if type(module) in _TWINS:
        module = _TWINS[type(module)](module)
    if not isinstance(module, ActivationModule) or type(module).forward is not ActivationModule.forward:
        return None
    if module.activation.facts.gated or any(isinstance(v, Tensor) for v in parameter_values(module)):
        return None
    if module.activation.formulas.preparation is not None:  # it draws new parameters each time
        return None
    return module


def parameter_values(module: ActivationModule) -> tuple[Any, ...]:
    """Return the values of an activation's parameters."""
    return tuple(getattr(module, name) for name in module.activation.parameters)


def equal_neighbours(kinds: Sequence[Any]) -> list[slice]:
    """Return slices of equal neighbours."""
    starts = [i for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1]]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(kinds)], strict=True)]
