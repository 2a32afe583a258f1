"""Initialize the layers of any model so that signals keep their size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from actlab.errors import UsageError, summarize_error
from actlab.models.lazy_layers import list_lazy_parameters

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def init_(model: nn.Module, x: Any) -> nn.Module:
    """Scale the weights of a model in place so that the outputs of each layer have mean square 1.

    Applies to the linear and convolutional layers with trained weights that the model calls, in the order of
    the calls. Their biases become 0. The weights keep their directions, so networks that differ in their
    activations still start from the same random numbers. Because the sizes are measured, this works for every
    activation and for residual connections. After an activation ``f``, the weights of wide layers get the
    standard deviation ``actlab.gain(f) / sqrt(fan_in)``.

    Args:
        model: The model. Its mode, buffers and other parameters do not change.
        x: Samples (n, ...), such as a batch of training samples: an array, which is converted to the dtype of
            the model, or anything that the model takes.

    Returns:
        The same model.

    Raises:
        UsageError: The model fails on the samples, has lazy layers, or the outputs of a layer are zero or not
            finite. The model is then unchanged.

    Examples:
        >>> import actlab
        >>> model = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256))
        >>> model = init_(model, torch.randn(512, 64))
        >>> spread = float(model[2].weight.detach().std())
        >>> 0.9 < spread * 256**0.5 / actlab.gain("tanh") < 1.1
        True

    References:
        D. Mishkin, J. Matas, "All you need is a good init", 2016.
    """
    if lazy := list_lazy_parameters(model):
        raise UsageError(f"the parameter {lazy[0]} is lazy; call the model with samples before init_")
    layers = {part: name for name, part in model.named_modules() if _is_initialized(part)}
    modes = {part: part.training for part in model.modules()}
    before = {p: p.detach().clone() for layer in layers for p in layer.parameters(recurse=False)}
    scaled: set[nn.Module] = set()

    def clear_bias(layer: nn.Module, args: Any) -> None:
        if layer.bias is not None:
            layer.bias.zero_()  # type: ignore[operator]

    def scale(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
        if layer in scaled:  # a shared layer is scaled in its first call
            return output
        scaled.add(layer)
        size = float(output.double().square().mean().sqrt())
        if not (math.isfinite(size) and size > 0):
            raise UsageError(f"the outputs of the layer {layers[layer]!r} have the root mean square {size:g}")
        layer.weight.div_(size)  # type: ignore[operator]
        return output / size

    handles = [layer.register_forward_pre_hook(clear_bias) for layer in layers]
    handles += [layer.register_forward_hook(scale) for layer in layers]
    try:
        with torch.no_grad():
            model.eval()(_convert_samples(model, x))
    except BaseException as error:  # also Ctrl-C
        with torch.no_grad():
            for parameter, value in before.items():
                parameter.copy_(value)
        if isinstance(error, UsageError) or not isinstance(error, Exception):
            raise
        raise UsageError(f"the model fails on the samples: {summarize_error(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes.items():
            part.training = mode
    return model


def _convert_samples(model: nn.Module, x: Any) -> Any:
    if not isinstance(x, np.ndarray | list):
        return x
    samples = torch.as_tensor(x)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    return samples.to(dtype) if samples.is_floating_point() else samples


def _is_initialized(part: nn.Module) -> bool:
    parameters = part._parameters.values()  # a parametrized weight is not among them
    trained = (
        all(p is None or p.requires_grad for p in parameters) and part._parameters.get("weight") is not None
    )
    return isinstance(part, _LAYERS) and trained
