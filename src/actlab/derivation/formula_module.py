"""Make the ``nn.Module`` of a formula. Each process makes the class; a pickle holds its recipe."""

from __future__ import annotations

import copyreg
import inspect
from collections.abc import Sequence
from typing import Any

from actlab.activation.definition import Activation
from actlab.activation.module import ActivationModule, PartlyTrainedModule


class _FormulaModuleType(type):
    """The type of these classes, by which pickle recognizes them."""


copyreg.pickle(_FormulaModuleType, lambda cls: (getattr, (cls.activation, "module_class")))  # type: ignore[attr-defined]


def make_formula_module(activation: Activation[...], trainable: Sequence[str]) -> type[ActivationModule]:
    """Make the module class of a formula's activation.

    Args:
        activation: The activation.
        trainable: The names of the parameters that the module trains.
    """
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(p, kind, default=value) for p, value in activation.parameters.items()]
    body: dict[str, Any] = {"__module__": __name__, "__doc__": activation.__doc__, "activation": activation}
    base: type[ActivationModule] = ActivationModule
    if trainable:
        base = PartlyTrainedModule
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters += [inspect.Parameter(name, keyword, default=None) for name in ("device", "dtype")]
        body |= {"trainable": tuple(trainable), "repr_format": make_repr_format(activation, trainable)}
    body["__signature__"] = inspect.Signature(parameters)
    return _FormulaModuleType(make_class_name(activation.name), (base,), body)  # type: ignore[return-value]


def make_repr_format(activation: Activation[...], trainable: Sequence[str]) -> str:
    """Return the format of ``extra_repr``, with the parameters that are not trained."""
    return ", ".join(f"{name}={{{name}!r}}" for name in activation.parameters if name not in trainable)


def make_class_name(name: str) -> str:
    """Return the name of the module class of an activation.

    Examples:
        >>> make_class_name("my_mish"), make_class_name("Mish")
        ('MyMish', 'MishModule')
    """
    camel = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return camel if camel != name else f"{camel}Module"
