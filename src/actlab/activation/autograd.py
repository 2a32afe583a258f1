"""The autograd functions of a definition: forward mode, vmap and double backward from one set of formulas.

Dynamo does not support an ``autograd.Function`` with a ``jvp``. Compiled code uses one without ``jvp``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from actlab.activation.fused_kernels import is_fusing, run_fused
from actlab.activation.numerics import lies_within
from actlab.activation.slices import run_in_slices, run_whole

if TYPE_CHECKING:
    from actlab.activation.definition import Activation

Formula = Callable[..., Tensor]
TorchOperation = Callable[..., Tensor | None]  # None: these parameters are not supported
_HALF = (torch.float16, torch.bfloat16)
# Dynamo cannot trace a Function that closes over an object, but it can trace a global and an index.
_ALL: list[AutogradFunctions] = []


def _match_input(name: str, input: Tensor, result: Tensor) -> Tensor:
    """Return the result in the dtype of the input; raise an error if the shape differs."""
    if result.shape != input.shape:
        raise ValueError(
            f"{name}: the result must have the shape of the input, got {tuple(result.shape)} for "
            f"{tuple(input.shape)}"
        )
    return result.to(input.dtype)


def evaluate(formula: Formula, first: Tensor, *rest: Any, dtype: torch.dtype) -> Tensor:
    """Evaluate a formula, in float32 if ``dtype`` is half precision, and round the result once to it."""
    if dtype in _HALF:
        return formula(_widen(first), *map(_widen, rest)).to(dtype)
    result = formula(first, *rest)
    return result if result.dtype is dtype else result.to(dtype)


@dataclass(frozen=True)
class TorchKernel:
    """A kernel of torch that is accurate if the saved input lies between two bounds.

    Attributes:
        run: A function of the input, or of the incoming gradient and the input.
        low: The lower bound; all elements must be larger.
        high: The upper bound; all elements must be smaller.
    """

    run: Formula
    low: float
    high: float


class AutogradFunctions:
    """The autograd functions of one activation, and the formulas that they evaluate."""

    pointwise = True  # the output has the shape of the input, and a kernel may see both as one dimension

    def __init__(self, activation: Activation[...]) -> None:
        self.name = activation.name
        self.widen = activation.facts.widen
        self.saves = activation.facts.saves
        self.parameters = tuple(activation.parameters)
        self.formulas = activation.formulas
        # Eager mode uses the one-pass kernel of the definition; Inductor fuses the formula better.
        self.eager_gradient = activation.formulas.gradient_kernel or self.gradient
        self.run = run_in_slices if self.pointwise else run_whole
        self.traced, self.eager, self.overwriting = _build_functions(self)
        self.plain_apply = super(Function, self.eager).apply  # type: ignore[misc]
        self.slope = _build_slope_function(self)

    @property
    def formula(self) -> Formula:
        """The value, as a function of the input and the parameters."""
        return self.formulas.forward

    def apply(self, x: Tensor, values: tuple[Any, ...], inplace: bool) -> Tensor:
        """Apply the function, through the autograd function for eager, compiled or in-place calls."""
        result: Tensor
        torch_operation = self.formulas.torch_operation
        if torch_operation is not None and not (inplace or torch.compiler.is_compiling() or is_fusing(x)):
            output = torch_operation(x, *values)
            if output is not None:
                return output
        if torch.compiler.is_compiling():
            # An exported program contains no autograd functions, and a strict export does not accept them.
            evaluate = self.forward if torch.compiler.is_exporting() else self.traced.apply
            result = evaluate(x, *values)
            return x.copy_(result) if inplace else result
        if not inplace:
            # Function.apply binds the signature in every call: half of its cost. Only functorch needs that.
            apply = self.eager.apply if torch._C._are_functorch_transforms_active() else self.plain_apply
            return apply(x, *values)
        if self.saved_kind(values) == "output":
            result = self.overwriting.apply(x, *values)
        elif self.saved_kind(values) == "mask":
            result = x.copy_(self.eager.apply(x, *values))
        else:
            # Backward needs the input, which is overwritten: save a copy, as torch does.
            result = x.copy_(self.eager.apply(x.clone(), *values))
        return result

    def saved_kind(self, values: Sequence[Any]) -> str:
        """Return what is saved for backward with these parameters: input, output or mask."""
        return self.saves(*values) if callable(self.saves) else self.saves

    def saved_tensor(self, x: Tensor, output: Tensor, values: Sequence[Any]) -> Tensor:
        """Return the tensor that is saved for backward."""
        kind = self.saved_kind(values)
        if kind == "output":
            return output
        if kind == "input":
            return x
        return run_fused(self, "mask", x, *values) if is_fusing(x) else self.mask(x, *values)

    def mask(self, x: Tensor, *values: Any) -> Tensor:
        """Return what backward needs to know about the input, in one byte per element."""
        if self.formulas.mask is None:
            raise TypeError(f"{self.name} saves a mask but defines none; add one with @{self.name}.mask")
        return self.formulas.mask(x, *values)

    def evaluate(self, formula: Formula, first: Tensor, *rest: Any, dtype: torch.dtype) -> Tensor:
        """Evaluate a formula (half precision in float32 unless ``widen`` is off); round the result once."""
        if self.widen:
            return evaluate(formula, first, *rest, dtype=dtype)
        result = formula(first, *rest)
        return result if result.dtype is dtype else result.to(dtype)

    def forward(self, x: Tensor, *values: Any) -> Tensor:
        """Return the value, in the input's dtype."""
        return self.evaluate(self.formula, x, *values, dtype=x.dtype)

    def gradient(self, grad: Tensor, saved: Tensor, *values: Any) -> Tensor:
        """Return the incoming gradient times the derivative, rounded once."""
        return self.evaluate(self._product, grad, saved, *values, dtype=grad.dtype)

    def eager_forward(self, x: Tensor, *values: Any) -> Tensor:
        """Return the value from torch's kernel where it is accurate, else from the formula."""
        kernel = self.formulas.torch_value
        if kernel is not None and lies_within(x, kernel.low, kernel.high):
            return kernel.run(x, *values)
        return self.run(self.forward if x.dtype in _HALF else self.formula, x, *values)

    def eager_backward(self, grad: Tensor, saved: Tensor, *values: Any) -> Tensor:
        """Return the gradient from torch's kernel where it is accurate, else from the formula."""
        kernel = self.formulas.torch_gradient
        if kernel is not None and lies_within(saved, kernel.low, kernel.high):
            return kernel.run(grad, saved, *values)
        return self.run(self.eager_gradient, grad, saved, *values)

    def _product(self, grad: Tensor, saved: Tensor, *values: Any) -> Tensor:
        return grad * self.formulas.derivative(_to_numbers(saved, grad.dtype), *values)

    def value_and_slope(self, x: Tensor, *values: Any) -> tuple[Tensor, Tensor]:
        """Return the value and the derivative with respect to the input, straight from the formulas."""
        value = self.formulas.forward(x, *values)
        saved = _to_numbers(self.saved_tensor(x, value, values), x.dtype)
        return value, self.formulas.derivative(saved, *values)

    def value_and_slope_in_graph(self, x: Tensor, *values: Any) -> tuple[Tensor, Tensor]:
        """Return the value and the derivative as tensors that can themselves be differentiated."""
        value = self.apply(x, values, False)
        return value, self.graph_derivative(self.saved_tensor(x, value, values), values, x.dtype)

    def gradient_in_graph(self, grad: Tensor, saved: Tensor, values: Sequence[Any]) -> Tensor:
        """Return the gradient as a value that can itself be differentiated."""
        return grad * self.graph_derivative(saved, values, grad.dtype)

    tangent_in_graph = gradient_in_graph  # an element-wise function has a diagonal Jacobian

    def graph_derivative(self, saved: Tensor, values: Sequence[Any], dtype: torch.dtype) -> Tensor:
        """Return the derivative as a value that can itself be differentiated."""
        if self.slope is not None and not any(isinstance(value, Tensor) for value in values):
            slope: Tensor = self.slope.apply(saved, *values)
            return slope
        return self.evaluate(self.formulas.derivative, _to_numbers(saved, dtype), *values, dtype=dtype)

    def partial(self, index: int, saved: Tensor, values: Sequence[Any], dtype: torch.dtype) -> Tensor:
        """Return the derivative with respect to the parameter at an index."""
        formula = self.formulas.partials[self.parameters[index]]
        return self.evaluate(formula, saved, *values, dtype=dtype)

    def parameter_gradients(
        self, grad: Tensor, saved: Tensor, values: Sequence[Any], needed: Sequence[bool]
    ) -> list[Tensor | None]:
        """Return the gradient of every parameter, summed over the broadcast dimensions."""
        gradients: list[Tensor | None] = []
        for index, (value, is_needed) in enumerate(zip(values, needed, strict=True)):
            if not (is_needed and isinstance(value, Tensor)):
                gradients.append(None)
                continue
            # A sum over a batch in half precision would lose digits: sum in float32.
            wide = torch.float32 if grad.dtype in _HALF else grad.dtype
            term = _widen(grad) * self.partial(index, _widen(saved), [_widen(v) for v in values], wide)
            gradients.append(term.sum_to_size(value.shape).to(value.dtype))
        return gradients


def _to_numbers(saved: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as zeros and ones of the given dtype; any other tensor as it is."""
    if saved.is_floating_point():
        return saved
    # Converting bytes is seven times faster than converting booleans.
    return (saved.view(torch.uint8) if saved.dtype is torch.bool else saved).to(dtype)


def _widen(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value


def _build_functions(functions: AutogradFunctions) -> tuple[type[Function], type[Function], type[Function]]:
    """Build the autograd functions for compiled code, eager code, and eager code in place."""
    index = len(_ALL)
    _ALL.append(functions)

    class Traced(Function):
        @staticmethod
        def forward(x: Tensor, *values: Any) -> Tensor:
            return _ALL[index].forward(x, *values)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            _save(ctx, _ALL[index].saved_tensor(inputs[0], output, inputs[1:]), inputs[1:])

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            saved, values = _restore(ctx)
            below = _ALL[index].gradient(grad, saved, *values) if ctx.needs_input_grad[0] else None
            return below, *_ALL[index].parameter_gradients(grad, saved, values, ctx.needs_input_grad[1:])

    class Eager(Traced):
        @staticmethod
        def forward(x: Tensor, *values: Any) -> Tensor:
            if is_fusing(x):
                y = run_fused(functions, "forward", x, *values)
            else:
                y = functions.eager_forward(x, *values)
            if y.dtype is x.dtype and (y.shape == x.shape or not functions.pointwise):
                return y
            return _match_input(functions.name, x, y)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            saved, *tensors = ctx.saved_tensors
            values = _insert_tensors(ctx.constants, tensors) if tensors else ctx.constants
            needed = ctx.needs_input_grad
            below = None
            if needed[0]:
                if torch.is_grad_enabled():  # create_graph=True: the gradient will be differentiated
                    below = functions.gradient_in_graph(grad, saved, values)
                elif is_fusing(grad):
                    below = run_fused(functions, "gradient", grad, saved, *values)
                else:
                    below = functions.eager_backward(grad, saved, *values)
                if below.shape != grad.shape and functions.pointwise:
                    below = _match_input(functions.name, grad, below)
            if not tensors:
                return (below, *(None,) * len(values)) if values else below
            return below, *functions.parameter_gradients(grad, saved, values, needed[1:])

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor | None, *tangents: Any) -> Tensor:
            saved, values = _restore(ctx)
            terms = []
            if tangent is not None:
                terms.append(functions.tangent_in_graph(tangent, saved, values))
            for position, direction in enumerate(tangents):
                if direction is not None:
                    terms.append(direction * functions.partial(position, saved, values, direction.dtype))
            result = terms[0]
            for term in terms[1:]:
                result = result + term
            return result

        @classmethod
        def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
            return cls.apply(*_move_batch_first(info.batch_size, in_dims, args)), 0

    class Overwriting(Eager):
        @staticmethod
        def forward(x: Tensor, *values: Any) -> Tensor:
            return x.copy_(Eager.forward(x, *values))

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            ctx.mark_dirty(inputs[0])
            Eager.setup_context(ctx, inputs, output)

    for function in (Traced, Eager, Overwriting):
        function.__name__ = function.__qualname__ = f"{functions.name}_{function.__name__}"
    return Traced, Eager, Overwriting


def _save(ctx: Any, saved: Tensor, values: Sequence[Any]) -> None:
    """Save a tensor and the parameters for backward and for forward mode."""
    tensors = []
    if values:
        tensors = [value for value in values if isinstance(value, Tensor)]
    ctx.constants = [None if isinstance(value, Tensor) else value for value in values] if tensors else values
    ctx.save_for_backward(saved, *tensors)
    ctx.save_for_forward(saved, *tensors)


def _restore(ctx: Any) -> tuple[Tensor, Sequence[Any]]:
    saved, *tensors = ctx.saved_tensors
    return saved, _insert_tensors(ctx.constants, tensors) if tensors else ctx.constants


def _insert_tensors(constants: Sequence[Any], tensors: Sequence[Tensor]) -> list[Any]:
    rest = iter(tensors)
    return [next(rest) if value is None else value for value in constants]


def _move_batch_first(size: int, dims: Sequence[int | None], args: Sequence[Any]) -> list[Any]:
    """Move the batch dimension of every argument to the front, aligned for broadcasting."""
    x = args[0].movedim(dims[0], 0) if dims[0] is not None else args[0].expand(size, *args[0].shape)
    aligned: list[Any] = [x]
    for value, dim in zip(args[1:], dims[1:], strict=True):
        if dim is not None:
            value = value.movedim(dim, 0)
            value = value.reshape(size, *(1,) * (x.ndim - value.ndim), *value.shape[1:])
        aligned.append(value)
    return aligned


def _build_slope_function(functions: AutogradFunctions) -> type[Function] | None:
    """Build an autograd function of the derivative, whose derivative is the second derivative."""
    if functions.formulas.second is None:
        return None
    second: Formula = functions.formulas.second

    class Slope(Function):
        @staticmethod
        def forward(saved: Tensor, *values: Any) -> Tensor:
            return functions.evaluate(functions.formulas.derivative, saved, *values, dtype=saved.dtype)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            ctx.values = inputs[1:]
            ctx.save_for_backward(inputs[0])
            ctx.save_for_forward(inputs[0])

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            (saved,) = ctx.saved_tensors
            curvature = functions.evaluate(second, saved, *ctx.values, dtype=grad.dtype)
            return grad * curvature, *(None for _ in ctx.values)

        @staticmethod
        def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
            (saved,) = ctx.saved_tensors
            return tangent * functions.evaluate(second, saved, *ctx.values, dtype=tangent.dtype)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int | None]:
            return Slope.apply(*args), in_dims[0]

    Slope.__name__ = Slope.__qualname__ = f"{functions.name}_Slope"
    return Slope
