"""The ``torch.nn.Module`` of an activation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from actlab.activation.definition import Activation


class ActivationModule(nn.Module):
    """The module of one activation: its parameters as attributes, its function as ``forward``.

    Args:
        *args: The parameters of :attr:`activation`, in its order.
        **kwargs: The same parameters by name, and ``inplace=True`` if torch.nn has it.

    Attributes:
        activation: The activation.
        repr_format: The arguments in ``repr``, as a format string of the attributes (default: all).

    Raises:
        TypeError: An argument is missing or unknown.
    """

    activation: ClassVar[Activation[...]]
    repr_format: ClassVar[str | None] = None
    inplace: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        values, self.inplace = self.activation.bind(args, kwargs)
        self.activation.validate(values)
        for name, value in zip(self.activation.parameters, values, strict=True):
            setattr(self, name, value)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the activation to every element of ``input``. Shape and dtype do not change."""
        activation = self.activation
        values = tuple([getattr(self, name) for name in activation.parameters])
        return activation.apply(input, values, self.inplace)

    def extra_repr(self) -> str:
        """Return the arguments as torch.nn prints them."""
        if self.repr_format is not None:
            return self.repr_format.format_map(vars(self))
        named = [f"{name}={getattr(self, name)!r}" for name in self.activation.parameters]
        return ", ".join(named + ["inplace=True"] * self.inplace)


class TrainedModule(ActivationModule):
    """A module that trains parameters of its activation.

    Args:
        device: The device of the parameters.
        dtype: Their dtype.
        **starts: For each parameter, its initial value, or the number of elements and their initial value.
    """

    repr_format = ""  # the parameters are in the state

    def __init__(self, device: Any, dtype: Any, **starts: float | tuple[int, float]) -> None:
        nn.Module.__init__(self)
        self.inplace = False
        self.starts: dict[str, float] = {}
        for name, start in starts.items():
            *size, value = start if isinstance(start, tuple) else (start,)
            self.starts[name] = float(value)
            setattr(self, name, nn.Parameter(torch.full(size, float(value), device=device, dtype=dtype)))
        if list(starts) == list(self.activation.parameters):
            self.activation.validate(tuple(self.starts.values()))

    def reset_parameters(self) -> None:
        """Set the parameters to their initial values."""
        for name, start in self.starts.items():
            nn.init.constant_(getattr(self, name), start)


def choose_public_module(activation: Activation[...]) -> str:
    """Return the Python module of an activation's class: ``actlab.nn``, or that of a user's definition."""
    defined_in: str = activation.__wrapped__.__module__
    return "actlab.nn" if defined_in.startswith("actlab.") else defined_in


def read_parameters(module: Any) -> dict[str, Any]:
    """Return a module's parameters as plain values. If a parameter has several values, return the first."""
    values = {name: getattr(module, name) for name in module.activation.parameters}
    return {n: v.detach().flatten()[0].item() if isinstance(v, Tensor) else v for n, v in values.items()}


class PartlyTrainedModule(TrainedModule):
    """A module that trains the parameters named in ``trainable``.

    Args:
        *args: The parameters in order; the values of trained parameters are initial values.
        device: The device of the trained parameters.
        dtype: Their dtype.
        **kwargs: The parameters by name.
    """

    trainable: ClassVar[Sequence[str]]

    def __init__(self, *args: Any, device: Any = None, dtype: Any = None, **kwargs: Any) -> None:
        values, _ = self.activation.bind(args, kwargs)
        named = dict(zip(self.activation.parameters, values, strict=True))
        super().__init__(device, dtype, **{name: named.pop(name) for name in self.trainable})
        for name, value in named.items():
            setattr(self, name, value)


def make_module(
    name: str, activation: Activation[...], *, repr_format: str | None, trained: bool
) -> type[ActivationModule]:
    """Make the module class of an activation, with its own signature for editors and ``help``."""
    defaults = activation.parameters | ({"inplace": False} if activation.facts.inplace else {})
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = [inspect.Parameter(name, kind, default=default) for name, default in defaults.items()]
    if trained:
        repr_format = ""  # the parameters are in the state
        options = ("device", "dtype")
        signature += [inspect.Parameter(o, inspect.Parameter.KEYWORD_ONLY, default=None) for o in options]
    body: dict[str, Any] = {
        "__module__": choose_public_module(activation),
        "__doc__": re.sub(r"\n *(x|input): .*", "", activation.__doc__ or ""),  # an argument of forward
        "__signature__": inspect.Signature(signature),
        "activation": activation,
        "repr_format": repr_format,
        "trainable": tuple(activation.parameters) if trained else (),
    }
    return type(name, (PartlyTrainedModule if trained else ActivationModule,), body)
