"""The ``nn.Module`` of a formula. Its class is made in each process, and a pickle has the recipe for it."""

from __future__ import annotations

import copyreg
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from actlab.activation.definition import Activation
from actlab.activation.module import ActivationModule


class _Kind(type):
    """The class of these classes, by which pickle knows them."""


class FormulaModule(ActivationModule, metaclass=_Kind):
    """The module of a formula without trained parameters.

    Args:
        *args: The parameters in order.
        **kwargs: The same by name.
    """

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _bare, (self.activation,), self.__dict__


class TrainedFormulaModule(FormulaModule):
    """The module of a formula some of whose parameters are trained.

    Args:
        *args: The parameters at the start, in order.
        device: Where those that are trained live.
        dtype: Their dtype.
        **kwargs: The parameters by name.
    """

    trainable: Sequence[str] = ()

    def __init__(self, *args: Any, device: Any = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init = {name: float(getattr(self, name)) for name in self.trainable}
        for name, start in self.init.items():
            delattr(self, name)
            setattr(self, name, nn.Parameter(torch.tensor(start, device=device, dtype=dtype)))

    def reset_parameters(self) -> None:
        """Set the parameters back to where they started."""
        for name, start in self.init.items():
            nn.init.constant_(getattr(self, name), start)

    def extra_repr(self) -> str:
        """Return what is not trained; the rest is in the state, as for ``torch.nn.PReLU``."""
        fixed = [name for name in self.activation.parameters if name not in self.trainable]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in fixed)


def make_formula_module(activation: Activation[...], trainable: Sequence[str]) -> type[ActivationModule]:
    """Make the module class of a formula's activation.

    Args:
        activation: The activation.
        trainable: Which of its parameters are trained.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    takes = [inspect.Parameter(p, kind, default=default) for p, default in activation.parameters.items()]
    if trainable:
        options = ("device", "dtype")
        takes += [inspect.Parameter(p, inspect.Parameter.KEYWORD_ONLY, default=None) for p in options]
    body = {
        "__module__": __name__,
        "__doc__": activation.__doc__,
        "__signature__": inspect.Signature(takes),
        "activation": activation,
        **({"trainable": tuple(trainable)} if trainable else {}),
    }
    name, base = class_name(activation.name), TrainedFormulaModule if trainable else FormulaModule
    return _Kind(name, (base,), body)  # type: ignore[return-value]


def class_name(name: str) -> str:
    """Return what the class of an activation's module is called.

    Examples:
        >>> class_name("my_mish"), class_name("Mish")
        ('MyMish', 'MishModule')
    """
    found = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return found if found != name else f"{found}Module"


def _bare(activation: Activation[...]) -> nn.Module:
    kind = activation.module_class
    assert kind is not None
    return kind.__new__(kind)


def _module_class(activation: Activation[...]) -> type[nn.Module] | None:
    return activation.module_class


def _reduced(kind: type) -> str | tuple[Any, ...]:
    if "activation" in vars(kind):
        return _module_class, (vars(kind)["activation"],)
    return kind.__qualname__  # one of the two above


copyreg.pickle(_Kind, _reduced)
