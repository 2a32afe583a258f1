"""The autograd nodes of a gated function: one half of the input times an activation of the other.

Everything follows from the gate's own definition. Only the input is kept for backward, where the plain
product of torch would keep both halves and the gate's output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from actlab.activation.autograd import Nodes, TorchOperation, evaluated
from actlab.activation.kernels import fusing, run_fused

# Dynamo cannot follow a closure over an object into a Function, but a global and an index it can.
_ALL: list[GatedNodes] = []


class GatedNodes:
    """The nodes of one gated function.

    Args:
        name: The name of the function.
        gate: The nodes of the gate; none for the plain product.
        parameters: The gate's parameters.
        torch_operation: An operation of torch that is exact and keeps no more, for outside fused mode.
    """

    pointwise = False  # a kernel may not see the input as one dimension: it has two halves

    def __init__(
        self,
        name: str,
        gate: Nodes | None,
        parameters: tuple[Any, ...],
        torch_operation: TorchOperation | None,
    ) -> None:
        self.name, self.gate, self.parameters = name, gate, parameters
        self.torch_operation = torch_operation
        self.traced, self.eager = _function_nodes(self)

    def apply(self, x: Tensor, values: tuple[int], inplace: bool) -> Tensor:
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
        if self.torch_operation is not None and not (torch.compiler.is_compiling() or fusing(x)):
            answer = self.torch_operation(x, dim)
            if answer is not None:
                return answer
        # Counted from the end a dimension keeps its number when a batch comes in front.
        dim = dim if dim < 0 else dim - x.ndim
        result: Tensor = (self.traced if torch.compiler.is_compiling() else self.eager).apply(x, dim)
        return result

    def forward(self, x: Tensor, dim: int) -> Tensor:
        """Return the first half times the gate of the second, rounded once."""
        return evaluated(self._product, x, dim, dtype=x.dtype)

    def _product(self, x: Tensor, dim: int) -> Tensor:
        a, b = x.chunk(2, dim)
        return a * (b if self.gate is None else self.gate.formulas.forward(b, *self.parameters))

    def gradient(self, grad: Tensor, x: Tensor, dim: int) -> Tensor:
        """Return the gradient of both halves, rounded once."""
        return evaluated(self._gradients, grad, x, dim, dtype=grad.dtype)

    def _gradients(self, grad: Tensor, x: Tensor, dim: int) -> Tensor:
        a, b = x.chunk(2, dim)
        if self.gate is None:
            return torch.cat([grad * b, grad * a], dim)
        value, slope = self.gate.value_and_slope(b, *self.parameters)
        return torch.cat([grad * value, grad * a * slope], dim)

    def slopes_in_graph(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Return the derivatives by both halves as values that can themselves be differentiated."""
        a, b = x.chunk(2, dim)
        if self.gate is None:
            return b, a
        value, slope = self.gate.value_and_slope_in_graph(b, *self.parameters)
        return value, a * slope


def _function_nodes(nodes: GatedNodes) -> tuple[type[Function], type[Function]]:
    """Build the node for compiled code and for eager code; Dynamo refuses one that has a ``jvp``."""
    index = len(_ALL)
    _ALL.append(nodes)

    class Traced(Function):
        @staticmethod
        def forward(x: Tensor, dim: int) -> Tensor:
            return _ALL[index].forward(x, dim)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            x, ctx.dim = inputs
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            (x,) = ctx.saved_tensors
            return _ALL[index].gradient(grad, x, ctx.dim), None

    class Eager(Traced):
        @staticmethod
        def forward(x: Tensor, dim: int) -> Tensor:
            return run_fused(nodes, "forward", x, dim) if fusing(x) else nodes.forward(x, dim)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            (x,) = ctx.saved_tensors
            if torch.is_grad_enabled():  # that is create_graph=True
                return torch.cat([grad * slope for slope in nodes.slopes_in_graph(x, ctx.dim)], ctx.dim), None
            if fusing(grad):
                return run_fused(nodes, "gradient", grad, x, ctx.dim), None
            return nodes.gradient(grad, x, ctx.dim), None

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
            (x,) = ctx.saved_tensors
            by_a, by_b = nodes.slopes_in_graph(x, ctx.dim)
            toward_a, toward_b = tangent.chunk(2, ctx.dim)
            return toward_a * by_a + toward_b * by_b

        @classmethod
        def vmap(cls, info: Any, in_dims: tuple[int, None], x: Tensor, dim: int) -> tuple[Tensor, int]:
            return cls.apply(x.movedim(in_dims[0], 0), dim), 0

    for node in (Traced, Eager):
        node.__name__ = node.__qualname__ = f"{nodes.name}_{node.__name__}"
    return Traced, Eager
