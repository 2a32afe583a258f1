"""Gated functions: one half of the input times an activation of the other.

Everything follows from the definition of the gate. Only the input is saved for backward, whereas a plain
product in torch would save both halves and the output of the gate.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from actlab.activation.autograd import AutogradFunctions, Formula, evaluate
from actlab.activation.definition import Activation


class GatedActivation(Activation[Any]):
    """An activation that halves its input: ``a * gate(b)``.

    Attributes:
        gate: The activation of the second half; None for the plain product.
    """

    gate: Activation[Any] | None = None

    @cached_property
    def _autograd_functions(self) -> AutogradFunctions:
        return GatedAutogradFunctions(self)


class GatedAutogradFunctions(AutogradFunctions):
    """The autograd functions of a gated function, which takes the dimension to halve as its only argument."""

    pointwise = False

    def __init__(self, activation: GatedActivation) -> None:
        self.gate = activation.gate._autograd_functions if activation.gate else None
        self.gate_values = activation.gate.defaults if activation.gate else ()
        super().__init__(activation)

    @property
    def formula(self) -> Formula:
        """The value, as a function of the input and the dimension."""
        return self._multiply

    def apply(self, x: Tensor, values: tuple[Any, ...], inplace: bool) -> Tensor:
        """Apply the function along a dimension."""
        (dim,) = values
        if x.ndim == 0:
            raise RuntimeError(f"{self.name}: input must have at least one dimension, got none")
        if not -x.ndim <= dim < x.ndim:
            raise IndexError(f"{self.name}: dim must be from {-x.ndim} to {x.ndim - 1}, got {dim}")
        if x.shape[dim] % 2:
            raise RuntimeError(
                f"{self.name}: the input is halved along dim={dim}, so its size must be even, "
                f"got shape {tuple(x.shape)}"
            )
        # A dimension that counts from the end stays the same when vmap adds a batch dimension in front.
        return super().apply(x, (dim if dim < 0 else dim - x.ndim,), inplace)

    def _multiply(self, x: Tensor, dim: int) -> Tensor:
        a, b = x.chunk(2, dim)
        return a * (b if self.gate is None else self.gate.formula(b, *self.gate_values))

    def gradient(self, grad: Tensor, saved: Tensor, *values: Any) -> Tensor:
        """Return the gradient of both halves, rounded once."""
        return evaluate(self._gradients, grad, saved, *values, dtype=grad.dtype)

    def _gradients(self, grad: Tensor, x: Tensor, dim: int) -> Tensor:
        a, b = x.chunk(2, dim)
        if self.gate is None:
            return torch.cat([grad * b, grad * a], dim)
        value, slope = self.gate.value_and_slope(b, *self.gate_values)
        return torch.cat([grad * value, grad * a * slope], dim)

    def gradient_in_graph(self, grad: Tensor, saved: Tensor, values: Any) -> Tensor:
        """Return the gradient of both halves as a value that can itself be differentiated."""
        return torch.cat([grad * slope for slope in self._slopes_in_graph(saved, *values)], *values)

    def tangent_in_graph(self, tangent: Tensor, saved: Tensor, values: Any) -> Tensor:
        """Return the directional derivative as a value that can itself be differentiated."""
        by_a, by_b = self._slopes_in_graph(saved, *values)
        along_a, along_b = tangent.chunk(2, *values)
        return along_a * by_a + along_b * by_b

    def _slopes_in_graph(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, dim)
        if self.gate is None:
            return b, a
        value, slope = self.gate.value_and_slope_in_graph(b, *self.gate_values)
        return value, a * slope
