"""The trained parameters of activations in a network, such as the slope of a PReLU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


def find_trained_activations(network: nn.Module, activation: nn.Module) -> tuple[str, ...]:
    """Return the paths of the modules of a network that are an activation with trained parameters.

    Args:
        network: The network.
        activation: The activation.

    Returns:
        Paths of the modules with the class and the parameters of the activation; none if it has no trained
        parameters.

    Examples:
        >>> find_trained_activations(nn.Sequential(nn.Linear(3, 2), nn.PReLU()), nn.PReLU())
        ('1',)
    """
    names = _list_trained(activation)
    paths = list[str]()
    for path, module in network.named_modules():
        is_inside = any(path.startswith(f"{outer}.") for outer in paths)
        if names and type(module) is type(activation) and _list_trained(module) == names and not is_inside:
            paths.append(path)
    return tuple(paths)


def read_trained_parameters(
    network: nn.Module, paths: Sequence[str], weights: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    """Return the trained parameters of activations.

    Args:
        network: The network.
        paths: Paths of the activations.
        weights: The state of the network after training.

    Returns:
        One record per parameter: the ``layer`` (from 1) of the activation; the ``name`` of the parameter; its
        ``value``, which is the mean if it has several numbers, such as one for each channel.

    Examples:
        >>> network = nn.Sequential(nn.Linear(3, 2), nn.PReLU(2))
        >>> read_trained_parameters(network, ["1"], network.state_dict())
        [{'layer': 1, 'name': 'weight', 'value': 0.25}]
    """
    return [
        {"layer": layer, "name": name, "value": weights[f"{path}.{name}"].double().mean().item()}
        for layer, path in enumerate(paths, 1)
        for name in _list_trained(network.get_submodule(path))
    ]


def _list_trained(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]
