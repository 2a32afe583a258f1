"""Diagnostics of networks between epochs: activations and gradients for a few samples."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from actlab.models.activation_sites import identify
from actlab.models.random_streams import NOISE, seeded_torch
from actlab.timing import saved_bytes

ROWS = 128  # samples for diagnostics
DEAD, FLAT = 1e-3, 0.05  # a unit with a smaller slope is dead; a value with a smaller slope is saturated
BINS = 20
_TOO_SHORT = (
    "diagnostics would take more than 5 % of the time of such a short run; "
    "diagnostics=True or --diagnostics records them anyway"
)
SHARE = 0.05  # largest share of the training time by default
_MAX_SAMPLES = 32  # in histograms
_MAX_LAYERS = 8  # activation layers of a network that have histograms
# The cost of diagnostics: steps of ROWS samples, plus steps of any size.
_COST_IN_SAMPLES, _COST_IN_STEPS = 1.0, 2.5

Row = dict[str, Any]


@dataclass(frozen=True)
class ActivationRecord:
    """The outputs, derivatives and gradients of one activation in R networks.

    Attributes:
        name: The name of the module in the network.
        output: Its outputs (R, n, ...).
        slope: Its derivative at its inputs, of the same shape.
        grad: The gradients of the mean loss with respect to its outputs.
    """

    name: str
    output: Tensor
    slope: Tensor
    grad: Tensor


def choose_diagnostic_epochs(
    wanted: bool | None, epochs: int, steps: int, batch_size: int
) -> tuple[int, ...]:
    """Return the epochs after which diagnostics are collected.

    Args:
        wanted: True for every epoch, False for none, None for as many as :data:`SHARE` of the time allows,
            evenly spaced, with the last epoch.
        epochs: Number of epochs.
        steps: Steps per epoch.
        batch_size: Samples per step.

    Examples:
        >>> choose_diagnostic_epochs(None, epochs=25, steps=313, batch_size=128)
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25)
        >>> choose_diagnostic_epochs(None, epochs=25, steps=8, batch_size=128)
        (13, 25)
        >>> choose_diagnostic_epochs(None, epochs=5, steps=2, batch_size=128)
        ()
    """
    if wanted is not None:
        return tuple(range(1, epochs + 1)) if wanted else ()
    cost = _COST_IN_STEPS + _COST_IN_SAMPLES * ROWS / batch_size
    count = min(epochs, int(SHARE * epochs * steps / cost))
    return tuple(math.ceil(n * epochs / count) for n in range(1, count + 1))


def describe_diagnostic_epochs(wanted: bool | None, epochs: Sequence[int]) -> Row:
    """Return the samples and epochs of the diagnostics, or why there are none."""
    if epochs:
        return {"samples": ROWS, "measured_epochs": list(epochs)}
    return {"off": "they were switched off" if wanted is False else _TOO_SHORT}


def is_elementwise_nonlinear(value: Any, apply: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> bool:
    """Return whether a module or function is an activation: elementwise and not linear.

    Args:
        value: The module or the function.
        apply: The same module or function, called in evaluation mode.
        x: An input.
        y: The output for ``x``.
    """
    if not x.is_floating_point() or x.shape != y.shape:
        return False
    if isinstance(value, nn.PReLU) or ((kind := identify(value)) and kind.activation):
        return True
    order = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0)).to(x.device)
    is_compared = (order % 2 == 0).reshape(x.shape)
    # Permute the numbers and replace half of them, so that each has other neighbours.
    permuted = torch.where(is_compared, x.reshape(-1)[order].reshape(x.shape), 0.0)
    permuted_y = apply(permuted)
    if not _is_close(permuted_y[is_compared], y.reshape(-1)[order].reshape(x.shape)[is_compared]):
        return False
    # An affine function, such as dropout in evaluation mode, is not an activation.
    return not _is_close(apply((x + permuted) / 2), (y + permuted_y) / 2)


def _is_close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)


@dataclass
class LayerCall:
    """A call of a module in a network, recorded for autograd.

    Attributes:
        name: The name of the module in the network.
        module: The module.
        x: Its input.
        y: Its output.
    """

    name: str
    module: nn.Module
    x: Tensor
    y: Tensor

    def is_activation(self) -> bool:
        """Return whether the module is an activation."""
        with torch.no_grad():
            return is_elementwise_nonlinear(self.module, lambda x: self.module(x.clone()), self.x, self.y)

    def slope(self) -> Tensor:
        """Return the derivative of the output with respect to the input."""
        (slope,) = torch.autograd.grad(self.y, self.x, torch.ones_like(self.y), retain_graph=True)
        return slope


@contextlib.contextmanager
def record_calls(network: nn.Module) -> Iterator[list[LayerCall]]:
    """Yield a list that records the calls of the modules of a network during the block."""
    calls: list[LayerCall] = []
    running: list[LayerCall | None] = []

    def before(name: str, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(args) != 1 or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
            running.append(None)
            return args
        x = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
        running.append(LayerCall(name, module, x, y=x))
        return (x.clone(),)  # because the module may overwrite it

    def after(module: nn.Module, args: tuple[Any, ...], y: Any) -> Any:
        call = running.pop()
        if call and isinstance(y, Tensor) and y.shape == call.x.shape:
            call.y = y
            calls.append(call)
            return y.clone()  # because the next module may overwrite it
        return y

    with contextlib.ExitStack() as stack:
        for name, module in network.named_modules():
            if module is not network:
                stack.callback(module.register_forward_pre_hook(partial(before, name)).remove)
                stack.callback(module.register_forward_hook(after).remove)
        yield calls


def find_outermost_activations(calls: Sequence[LayerCall]) -> list[str]:
    """Return the names of the activations among the called modules, without modules inside an activation."""
    names = dict.fromkeys(call.name for call in calls if call.is_activation())
    return [name for name in names if not any(name.startswith(f"{outer}.") for outer in names)]


def measure_layers(
    networks: int, epoch: int, records: Sequence[ActivationRecord], grads: Mapping[str, Tensor]
) -> list[list[Row]]:
    """Return diagnostics as rows of a table.

    Args:
        networks: The number of networks.
        epoch: The epoch of the diagnostics.
        records: The records of the activations, from first to last.
        grads: The gradients (R, ...) of the weights by name, from first to last.

    Returns:
        For each network a row for each activation and each weight: ``epoch``, ``part``, ``layer``,
        ``name`` and the columns of :attr:`actlab.Comparison.diagnostics`.
    """
    tables: list[list[Row]] = [[] for _ in range(networks)]
    with_histograms = _choose_layers(len(records))
    for index, record in enumerate(records):
        labels = {"epoch": epoch, "part": "activation", "layer": index + 1, "name": record.name}
        for table, row in zip(tables, _measure_activation(record, index in with_histograms), strict=True):
            table.append({**labels, **row})
    for index, (name, grad) in enumerate(grads.items()):
        labels = {"epoch": epoch, "part": "weights", "layer": index + 1, "name": name}
        for table, size in zip(tables, _compute_rms(grad), strict=True):
            table.append({**labels, "gradient": size})
    return tables


def _choose_layers(layers: int) -> set[int]:
    """Return the layers that have histograms: the first, the last and some in between."""
    if layers <= _MAX_LAYERS:
        return set(range(layers))
    return {round(n * (layers - 1) / (_MAX_LAYERS - 1)) for n in range(_MAX_LAYERS)}


def _measure_activation(record: ActivationRecord, with_histograms: bool) -> list[Row]:
    slope = _flatten_units(record.slope.abs())
    columns: Row = {
        "units": [slope.shape[2]] * len(slope),
        "dead": _to_list((slope.amax(1) < DEAD).double().mean(1)),
        "saturated": _to_list((slope < FLAT).sum((1, 2)).double() / slope[0].numel()),
    }
    if with_histograms:
        output, grad = (part[:, :_MAX_SAMPLES].flatten(1) for part in (record.output, record.grad))
        # The gradient of a sample's own loss, which does not depend on the number of samples.
        size = (grad * record.grad.shape[1]).abs()
        columns |= _histogram(output, output.isfinite(), ("low", "high", "values"))
        columns["grad_zero"] = _to_list((size == 0).float().mean(1))
        is_shown = size.isfinite() & (size > 0)
        columns |= _histogram(size.log10(), is_shown, ("grad_low", "grad_high", "gradients"))
    return [{name: values[i] for name, values in columns.items()} for i in range(len(slope))]


def _flatten_units(values: Tensor) -> Tensor:
    """Return values (R, n, ...) as (R, samples and positions, units); units of images are channels."""
    if values.ndim < 3:
        return values.unsqueeze(2)
    return values.movedim(2, -1).flatten(1, -2) if values.ndim > 4 else values.flatten(1, -2)


def _histogram(values: Tensor, is_counted: Tensor, names: Sequence[str]) -> Row:
    """Return columns with a histogram of the counted values of each row of (R, m).

    Args:
        values: Values (R, m).
        is_counted: Which values to count (R, m).
        names: Names of the columns: lower end, upper end, and thousandths of the values in each bin as text.
    """
    low = torch.where(is_counted, values, math.inf).amin(1)
    high = torch.where(is_counted, values, -math.inf).amax(1)
    width = (high - low).nan_to_num(0.0, 0.0, 0.0)
    bins = (values - low[:, None]) * (BINS / torch.where(width > 0, width, 1.0))[:, None]
    bins = torch.where(is_counted, bins, 0.0).long().clamp_(0, BINS - 1)
    counts = torch.zeros(len(values), BINS, device=values.device).scatter_add_(1, bins, is_counted.float())
    shares = counts * (1000 / is_counted.sum(1, keepdim=True).clamp(min=1))
    texts = [" ".join(f"{share:.0f}" for share in row) for row in shares.tolist()]
    ends = [_to_list(torch.where(end.isfinite(), end, math.nan)) for end in (low, high)]
    return dict(zip(names, (*ends, texts), strict=True))


def _compute_rms(grad: Tensor) -> list[float]:
    return _to_list(grad.flatten(1).double().square().mean(1).sqrt())


def _to_list(values: Tensor) -> list[float]:
    """Return values as floats with six significant digits."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def try_saved_bytes(module: nn.Module, X: Any, batch_size: int) -> int | None:
    """Return the bytes that a training step of a network saves for backward; None if the step fails.

    Args:
        module: The network; it does not change.
        X: Its inputs (n, ...).
        batch_size: Samples per step; -1 for all.
    """
    batch = X if batch_size == -1 else X[:batch_size]
    try:
        with seeded_torch(0, 0, NOISE, "cpu"):  # another thread may be drawing random numbers
            return saved_bytes(copy.deepcopy(module).cpu(), torch.as_tensor(batch).clone().cpu())
    except Exception:  # raised by the user's module
        return None
