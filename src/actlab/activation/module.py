"""From an activation to its ``torch.nn.Module``."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

if TYPE_CHECKING:
    from actlab.activation.definition import Activation


class ActivationModule(nn.Module):
    """The module of one activation: its parameters as attributes, its function as ``forward``.

    Args:
        *args: The parameters of :attr:`activation`, in its order.
        **kwargs: The same by name; ``inplace=True`` where torch.nn has it.

    Raises:
        TypeError: An argument is missing or unknown.
    """

    activation: ClassVar[Activation[...]]
    inplace: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        values, self.inplace = self.activation.bind(args, kwargs)
        self.activation.validate(values)
        for name, value in zip(self.activation.parameters, values, strict=True):
            setattr(self, name, value)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the activation to every element of ``input``; same shape, same dtype."""
        activation = self.activation
        values = tuple([getattr(self, name) for name in activation.parameters])
        return activation.apply(input, values, self.inplace)

    def extra_repr(self) -> str:
        """Return the arguments as torch.nn prints them."""
        named = [f"{name}={getattr(self, name)!r}" for name in self.activation.parameters]
        return ", ".join(named + ["inplace=True"] * self.inplace)


def home(activation: Activation[...]) -> str:
    """Return where the module of an activation is found: beside its definition, in ``actlab.nn`` for ours."""
    place: str = activation.__wrapped__.__module__
    return "actlab.nn" if place.startswith("actlab.") else place


def parameters_of(module: Any) -> dict[str, Any]:
    """Return the parameters of an activation's module as plain values; of one for each feature, the first."""
    found = {name: getattr(module, name) for name in module.activation.parameters}
    return {n: v.detach().flatten()[0].item() if isinstance(v, Tensor) else v for n, v in found.items()}


def make_module(name: str, activation: Activation[...]) -> type[ActivationModule]:
    """Make the module class of an activation, with its own signature for editors and ``help``."""
    takes = [
        inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for p, default in activation.parameters.items()
    ]
    if activation.facts.inplace:
        takes.append(inspect.Parameter("inplace", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False))
    body = {
        "__module__": home(activation),
        "__doc__": re.sub(r"\n *(x|input): .*", "", activation.__doc__ or ""),  # which forward takes
        "__signature__": inspect.Signature(takes),
        "activation": activation,
    }
    return type(name, (ActivationModule,), body)
