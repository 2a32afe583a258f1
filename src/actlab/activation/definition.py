"""The definition of an activation, from which everything else is derived.

A definition is a formula, its derivative and, if the input is saved for backward, its second derivative. The
autograd function, the module, the documentation and the tests are derived from it.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Concatenate, Generic, Literal, ParamSpec

from torch import Tensor
from torch.nn import functional

from actlab.activation.autograd import AutogradFunctions, Formula, TorchKernel, TorchOperation
from actlab.activation.export_mode import exports_torch_operations
from actlab.activation.module import ActivationModule, choose_public_module, make_module

P = ParamSpec("P")
Saved = Literal["input", "output", "mask"]
Kinks = Mapping[float, float]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Requirement:
    """A condition that the parameters must meet, and the error if they do not."""

    condition: Callable[..., bool]
    problem: str
    error: type[Exception]


@dataclass
class Formulas:
    """The formulas of a definition, and its optional kernels and argument checks."""

    forward: Formula
    derivative: Formula = None  # type: ignore[assignment]  # set later by Activation.derivative
    second: Formula | None = None
    partials: dict[str, Formula] = field(default_factory=dict)
    mask: Formula | None = None
    gradient_kernel: Formula | None = None
    torch_operation: TorchOperation | None = None
    exported: TorchOperation | None = None
    torch_value: TorchKernel | None = None
    torch_gradient: TorchKernel | None = None
    requirement: Requirement | None = None
    preparation: Callable[..., tuple[Any, ...]] | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts that a definition declares.

    A fact that depends on the parameters is a function of the parameters.

    Attributes:
        formula: The textbook formula as text, in ``x`` and the parameters.
        limits: The values at minus and plus infinity.
        slopes: The derivatives at minus and plus infinity; NaN if there is no limit.
        range: The infimum and supremum of the values; by default the limits, in ascending order.
        monotonic: Whether the function is monotonic, at its default parameters or those of ``example``; None
            if that is not known.
        paper: Where the function was published.
        saves: What is saved for backward: ``"input"``, ``"output"`` or ``"mask"``.
        kinks: The points where the derivative jumps, and the derivative chosen at each.
        torch_equivalent: The name of the same function in ``torch.nn``. If ``torch.nn.functional`` has a
            function with the name of the definition, exported programs call that function.
        inplace: Whether the function takes ``inplace=True``, as its torch equivalent does.
        widen: Whether float16 and bfloat16 are computed in float32 and rounded once. False for formulas that
            round at most once anyway, such as ``max(x, 0)``.
        error_scale: What the error of the derivative is measured against: ``"pointwise"`` for the derivative
            at the same point, or ``"line"`` for the largest derivative at any point. Use ``"line"`` if a
            saved output does not determine small derivatives accurately.
        example: Values for parameters without a default, for plots and tests.
        gated: Whether one half of the input gates the other. The formula then has the halves ``a`` and ``b``
            instead of ``x``.
    """

    formula: str | Callable[..., str]
    limits: Pair | Callable[..., Pair]
    slopes: Pair | Callable[..., Pair]
    monotonic: bool | None
    paper: str
    range: Pair | Callable[..., Pair] | None = None
    saves: Saved | Callable[..., Saved] = "input"
    kinks: Kinks | Callable[..., Kinks] = field(default_factory=dict)
    torch_equivalent: str | None = None
    inplace: bool = False
    widen: bool = True
    error_scale: Literal["pointwise", "line"] = "pointwise"
    example: Mapping[str, Any] = field(default_factory=dict)
    gated: bool = False


class Activation(Generic[P]):
    """An activation function: its definition and everything that is derived from it.

    Calling it applies the function. Create one with :func:`elementwise`.

    Args:
        forward: The formula, a function of the input and the parameters.
        facts: The facts about it.

    Attributes:
        name: The name in the catalogue, as in ``torch.nn.functional``.
        parameters: The arguments after the input, with their defaults.
        defaults: The arguments that have a default, with their defaults.
        facts: The facts passed to :func:`elementwise`.
        formulas: The formulas that compute the value and the derivatives.
        module_class: Its ``torch.nn.Module``, made by :meth:`module`.

    Examples:
        >>> import torch, actlab
        >>> actlab.functional.leaky_relu(torch.tensor([-1.0, 2.0]), negative_slope=0.1)
        tensor([-0.1000,  2.0000])
    """

    def __init__(self, forward: Callable[Concatenate[Tensor, P], Tensor], facts: Facts) -> None:
        self.name = forward.__name__
        self.__doc__ = forward.__doc__
        self.__wrapped__ = forward
        self.facts = facts
        self.formulas = Formulas(forward)
        self.module_class: type[ActivationModule] | None = None
        signature = inspect.signature(forward)
        self.parameters = {p.name: p.default for p in list(signature.parameters.values())[1:]}
        if facts.torch_equivalent is not None and hasattr(functional, self.name):
            self.formulas.exported = _pass_floats_to(getattr(functional, self.name))
        self.defaults = tuple(self.parameters.values())
        self._incomplete = inspect.Parameter.empty in self.defaults
        if facts.inplace:
            flag = inspect.Parameter("inplace", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False)
            signature = signature.replace(parameters=[*signature.parameters.values(), flag])
        self.__signature__ = signature

    # -- the blocks of a definition -------------------------------------------------------------

    def derivative(self, formula: Formula) -> Formula:
        """Set the derivative, a formula of the saved tensor and the parameters."""
        self.formulas.derivative = formula
        return formula

    def second(self, formula: Formula) -> Formula:
        """Set the second derivative, a formula of the input, if the definition saves the input."""
        self.formulas.second = formula
        return formula

    def partial(self, parameter: str) -> Callable[[Formula], Formula]:
        """Set the derivative with respect to a parameter that may be a tensor."""

        def define(formula: Formula) -> Formula:
            self.formulas.partials[parameter] = formula
            return formula

        return define

    def mask(self, formula: Formula) -> Formula:
        """Set the mask of the input, one byte per element, that ``saves="mask"`` saves."""
        self.formulas.mask = formula
        return formula

    def gradient(self, kernel: Formula) -> Formula:
        """Set a kernel that computes gradient times derivative in one pass, for eager mode."""
        self.formulas.gradient_kernel = kernel
        return kernel

    def torch_operation(self, operation: TorchOperation) -> TorchOperation:
        """Set a torch operation that computes the function; its derivatives must be accurate.

        Outside fused mode, torch then computes and differentiates the function, with less overhead per call.
        The operation must save what ``saves`` declares. It returns None for parameters that it does not
        support.
        """
        self.formulas.torch_operation = operation
        return operation

    def exported(self, operation: TorchOperation) -> TorchOperation:
        """Set operations of torch that exported programs contain instead of the formula.

        Runtimes have kernels for them. The default, if ``torch_equivalent`` is set, is the function in
        ``torch.nn.functional`` with the name of the definition. The operation returns None for parameters
        that it does not support.
        """
        self.formulas.exported = operation
        return operation

    def torch_kernels(
        self, value: tuple[Formula, float, float], gradient: tuple[Formula, float, float]
    ) -> None:
        """Set torch kernels, for the inputs for which they are accurate.

        In eager mode on a CPU, the kernel is used if the smallest and the largest element are within its
        bounds, otherwise the formula. The definition must save its input.

        Args:
            value: A function of the input and the parameters, and the two bounds between which all elements
                must lie.
            gradient: A function of the incoming gradient, the input and the parameters, and its two bounds.
        """
        self.formulas.torch_value = TorchKernel(*value)
        self.formulas.torch_gradient = TorchKernel(*gradient)

    def requires(
        self, condition: Callable[..., bool], problem: str, error: type[Exception] = ValueError
    ) -> None:
        """Set a condition that the parameters must meet.

        Args:
            condition: A function of the parameters.
            problem: The message, such as ``"alpha must be positive"``. The values are appended to it.
            error: The class of the exception, the same as in torch.
        """
        self.formulas.requirement = Requirement(condition, problem, error)

    def prepares(self, step: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
        """Set a step that computes the arguments of the formulas from the input and the parameters.

        Use it for a parameter that is aligned with the channels of the input or drawn at random in every
        call.
        """
        self.formulas.preparation = step
        return step

    def module(
        self, name: str, *, repr_format: str | None = None, trained: bool = False
    ) -> type[ActivationModule]:
        """Make the ``torch.nn.Module`` of this activation, with torch.nn's argument names.

        Args:
            name: The class name, as in ``torch.nn``.
            repr_format: The arguments in ``repr``, as a format string (default: all).
            trained: Whether the parameters are trained. The class then takes ``device`` and ``dtype``.

        Returns:
            The module class. Its Python module is ``actlab.nn``, or that of the definition.
        """
        return self._complete(make_module(name, self, repr_format=repr_format, trained=trained))

    def use_module(self, module: type[ActivationModule]) -> type[ActivationModule]:
        """Use a class as the module of this activation, to train parameters or draw random numbers."""
        module.activation = self
        module.__module__ = choose_public_module(self)
        return self._complete(module)

    def _complete(self, module: type[ActivationModule]) -> type[ActivationModule]:
        self.module_class = module
        _ = self._autograd_functions  # built now, because code under torch.compile cannot build them
        return module

    def also_known_as(self, name: str, *, paper: str, summary: str) -> Activation[P]:
        """Return the same function as a separate entry, for a function published under two names."""
        other = self._copy(paper=paper)
        other.__dict__.pop("_autograd_functions", None)  # the autograd functions contain the name
        other.name, other.__doc__, other.module_class = name, summary, None
        return other

    def at(self, parameters: Mapping[str, Any]) -> Activation[P]:
        """Return a copy that plots and descriptions show with these values of its parameters.

        Args:
            parameters: Values by name. The others do not change.

        Returns:
            An activation with the same module.

        Examples:
            >>> import actlab
            >>> actlab.catalogue["leaky_relu"].at({"negative_slope": 0.2}).kinks()
            {0: 0.2}
        """
        moved = {**self.example, **parameters} != self.example
        monotonic = None if moved else self.facts.monotonic
        return self._copy(example={**self.facts.example, **parameters}, monotonic=monotonic)

    def _copy(self, **facts: Any) -> Activation[P]:
        other: Activation[P] = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.facts = dataclasses.replace(self.facts, **facts)
        return other

    # -- what is derived from it ---------------------------------------------------------------------

    @cached_property
    def _autograd_functions(self) -> AutogradFunctions:
        if self.formulas.derivative is None:
            raise TypeError(f"{self.name} has no derivative; add one with @{self.name}.derivative")
        return AutogradFunctions(self)

    def __call__(self, input: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """Apply the function to every element.

        Args:
            input: A floating-point tensor of any shape.
            *args: The parameters, in the order of :attr:`parameters`.
            **kwargs: The parameters by name, and ``inplace=True`` where torch.nn has it.

        Returns:
            A tensor of the input's shape and dtype.

        Raises:
            NotImplementedError: The input is an integer, boolean or complex tensor.
            TypeError: An argument is missing or unknown.
        """
        if args or kwargs or self._incomplete:
            values, inplace = self.bind(args, kwargs)
            self.validate(values)
            return self.apply(input, values, inplace)
        return self.apply(input, self.defaults, False)

    def apply(self, input: Tensor, values: tuple[Any, ...], inplace: bool) -> Tensor:
        """Apply the function with valid parameters, in order. Modules call it."""
        if not input.is_floating_point():
            raise NotImplementedError(
                f"{self.name}: input must be a floating-point tensor, got {input.dtype}"
            )
        if self.formulas.exported is not None and exports_torch_operations():
            output = self.formulas.exported(input, *values)
            if output is not None:
                return input.copy_(output) if inplace else output
        if self.formulas.preparation is not None:
            values = self.formulas.preparation(input, *values)
        return self._autograd_functions.apply(input, values, inplace)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], bool]:
        """Return the values of all parameters in order, and whether to overwrite the input."""
        takes = [*self.parameters, "inplace"] if self.facts.inplace else list(self.parameters)
        if len(args) > len(takes):
            raise TypeError(f"{self.name} takes at most {len(takes)} arguments {takes}, got {len(args)}")
        given = dict(zip(takes, args, strict=False))
        for name, value in kwargs.items():
            if name in given or name not in takes:
                problem = "is given twice" if name in given else f"is unknown; it takes {takes}"
                raise TypeError(f"{self.name}: argument {name!r} {problem}")
            given[name] = value
        inplace = bool(given.pop("inplace", False))
        return tuple(given.get(name, default) for name, default in self.parameters.items()), inplace

    def validate(self, values: tuple[Any, ...]) -> None:
        """Raise the error that torch raises if a parameter is missing, of the wrong type or out of range."""
        for name, value in zip(self.parameters, values, strict=True):
            if value is inspect.Parameter.empty:
                raise TypeError(f"{self.name}: argument {name!r} is missing")
            if isinstance(value, Tensor) and name not in self.formulas.partials:
                raise NotImplementedError(f"{self.name}: {name!r} must be a number, not a tensor")
        requirement = self.formulas.requirement
        if requirement is not None and not requirement.condition(*values):
            named = dict(zip(self.parameters, values, strict=True))
            shown = [f"{n}={v!r}" for n, v in named.items() if n in requirement.problem]
            got = ", ".join(shown) if len(shown) > 1 else repr(named[shown[0].partition("=")[0]])
            raise requirement.error(f"{self.name}: {requirement.problem}, got {got}")

    @property
    def made_of(self) -> tuple[Any, ...] | None:
        """The text and numbers that determine the values; None if only the code determines them."""
        return None

    @property
    def example(self) -> dict[str, Any]:
        """The default parameters, with an example value if there is no default."""
        given = {
            name: value for name, value in self.parameters.items() if value is not inspect.Parameter.empty
        }
        return {**given, **self.facts.example}

    def formula(self, **parameters: Any) -> str:
        """Return the textbook formula as text."""
        text: str = self._fact(self.facts.formula, parameters)
        return text

    def limits(self, **parameters: Any) -> Pair:
        """Return the values at minus and plus infinity."""
        value: Pair = self._fact(self.facts.limits, parameters)
        return value

    def slopes(self, **parameters: Any) -> Pair:
        """Return the derivatives at minus and plus infinity; NaN if there is no limit."""
        value: Pair = self._fact(self.facts.slopes, parameters)
        return value

    def range(self, **parameters: Any) -> Pair:
        """Return the infimum and the supremum of the values."""
        if self.facts.range is None:
            low, high = sorted(self.limits(**parameters))
            return low, high
        value: Pair = self._fact(self.facts.range, parameters)
        return value

    def kinks(self, **parameters: Any) -> Kinks:
        """Return the points where the derivative jumps, and the derivative there."""
        value: Kinks = self._fact(self.facts.kinks, parameters)
        return value

    def saves(self, **parameters: Any) -> Saved:
        """Return what is saved for backward."""
        value: Saved = self._fact(self.facts.saves, parameters)
        return value

    def _fact(self, fact: Any, parameters: Mapping[str, Any]) -> Any:
        return fact(**{**self.example, **parameters}) if callable(fact) else fact

    def __repr__(self) -> str:
        return f"<activation {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        module = self.__wrapped__.__module__
        found = getattr(sys.modules.get(module), self.name, None)
        if module != "__main__" and isinstance(found, Activation):
            return _lookup, (module, self.name)  # only the name, as for a function
        # cloudpickle sends the code of a notebook to worker processes.
        state = {name: value for name, value in vars(self).items() if name != "_autograd_functions"}
        return object.__new__, (type(self),), state

    def __deepcopy__(self, memo: dict[int, Any]) -> Activation[P]:
        return self


def _pass_floats_to(function: Callable[..., Tensor]) -> TorchOperation:
    """Return a function that passes integers as floats, because the ONNX exporter does not mix the two."""

    def call(x: Tensor, *values: Any) -> Tensor:
        return function(x, *(float(value) if type(value) is int else value for value in values))

    return call


def _lookup(module: str, name: str) -> Any:
    return getattr(__import__(module, fromlist=[name]), name)


def elementwise(**facts: Any) -> Callable[[Callable[Concatenate[Tensor, P], Tensor]], Activation[P]]:
    """Turn a formula into an :class:`Activation`.

    The decorated function is the forward formula. Add ``@name.derivative`` and, if the input is saved,
    ``@name.second``.

    Args:
        **facts: The attributes of :class:`Facts`.

    Returns:
        A decorator.

    Raises:
        TypeError: A fact is missing or unknown.

    Examples:
        >>> import torch
        >>> inf = float("inf")
        >>> @elementwise(formula="x**2", limits=(inf, inf), slopes=(-inf, inf), range=(0, inf),
        ...              monotonic=False, paper="-")
        ... def square(x):
        ...     return x * x
        >>> @square.derivative
        ... def _(x):
        ...     return 2 * x
        >>> @square.second
        ... def _(x):
        ...     return torch.full_like(x, 2.0)
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> square(x).backward()
        >>> x.grad
        tensor([6.])
    """
    known = Facts(**facts)

    def decorate(forward: Callable[Concatenate[Tensor, P], Tensor]) -> Activation[P]:
        return Activation(forward, known)

    return decorate
