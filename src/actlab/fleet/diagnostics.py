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
from actlab.timing import saved_bytes

ROWS = 128  # validation samples for diagnostics
DEAD, FLAT = 1e-3, 0.05  # slopes below which a unit is dead, and a value saturated
BINS = 20
_TOO_SHORT = (
    "diagnostics would take more than 5 % of the time of such a short run; "
    "diagnostics=True or --diagnostics records them anyway"
)
SHARE = 0.05  # largest share of the training time by default
_FILED = 32  # samples in histograms
_DRAWN = 8  # activation layers of a network that have histograms
_STEPS, _ALWAYS = 1.0, 2.5  # cost of diagnostics in steps of ROWS samples, plus steps of any size
_THOUSAND = 1000

Row = dict[str, Any]


@dataclass(frozen=True)
class ActivationRecord:
    """The outputs, derivatives and gradients of an activation of R networks.

    Attributes:
        name: The name of the module in the network.
        output: Its outputs (R, n, ...).
        slope: The derivative there, of the same shape.
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
    cost = _ALWAYS + _STEPS * ROWS / batch_size
    times = min(epochs, int(SHARE * epochs * steps / cost))
    return tuple(math.ceil(n * epochs / times) for n in range(1, times + 1))


def describe_schedule(wanted: bool | None, epochs: Sequence[int]) -> Row:
    """Return the samples and epochs of the diagnostics, or why there are none."""
    if epochs:
        return {"samples": ROWS, "measured_epochs": list(epochs)}
    return {"off": "they were switched off" if wanted is False else _TOO_SHORT}


def is_elementwise_nonlinear(value: Any, apply: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> bool:
    """Return whether a module or function is an activation: elementwise and not linear.

    Args:
        value: The module or the function.
        apply: The module or function in evaluation mode.
        x: An input.
        y: The output for ``x``.
    """
    if not x.is_floating_point() or x.shape != y.shape:
        return False
    if isinstance(value, nn.PReLU) or ((kind := identify(value)) and kind.activation):
        return True
    order = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0)).to(x.device)
    kept = (order % 2 == 0).reshape(x.shape)
    # Each number is in another place, with other neighbours.
    other = torch.where(kept, x.reshape(-1)[order].reshape(x.shape), 0.0)
    there = apply(other)
    if not _close(there[kept], y.reshape(-1)[order].reshape(x.shape)[kept]):
        return False
    # An affine function, such as dropout in evaluation mode, is not an activation.
    return not _close(apply((x + other) / 2), (y + there) / 2)


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6, equal_nan=True)


class LayerCall:
    """A call of a module in a network that computes gradients.

    Args:
        name: The name of the module in the network.
        module: The module.
        x: Its input.
    """

    def __init__(self, name: str, module: nn.Module, x: Tensor) -> None:
        self.name, self.module, self.x = name, module, x
        self.y = x

    def is_activation(self) -> bool:
        """Return whether the module is an activation."""
        with torch.no_grad():
            return is_elementwise_nonlinear(self.module, lambda x: self.module(x.clone()), self.x, self.y)

    def slope(self) -> Tensor:
        """Return the derivative."""
        (slope,) = torch.autograd.grad(self.y, self.x, torch.ones_like(self.y), retain_graph=True)
        return slope


@contextlib.contextmanager
def calls(net: nn.Module) -> Iterator[list[LayerCall]]:
    """Yield a list that records the calls of the modules of a network during the block."""
    found: list[LayerCall] = []
    begun: list[LayerCall | None] = []

    def before(name: str, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(args) != 1 or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
            begun.append(None)
            return args
        x = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
        begun.append(LayerCall(name, module, x))
        return (x.clone(),)  # because the module may overwrite it

    def after(module: nn.Module, args: tuple[Any, ...], y: Any) -> Any:
        call = begun.pop()
        if call and isinstance(y, Tensor) and y.shape == call.x.shape:
            call.y = y
            found.append(call)
            return y.clone()  # because the next module may overwrite it
        return y

    with contextlib.ExitStack() as stack:
        for name, module in net.named_modules():
            if module is not net:
                stack.callback(module.register_forward_pre_hook(partial(before, name)).remove)
                stack.callback(module.register_forward_hook(after).remove)
        yield found


def outermost_activations(found: Sequence[LayerCall]) -> list[str]:
    """Return the names of the activations among modules, without modules inside an activation."""
    names = dict.fromkeys(call.name for call in found if call.is_activation())
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]


def summarize_records(
    networks: int, epoch: int, seen: Sequence[ActivationRecord], weights: Mapping[str, Tensor]
) -> list[list[Row]]:
    """Return diagnostics as records.

    Args:
        networks: The number of networks.
        epoch: The epoch of the diagnostics.
        seen: The activations, from first to last.
        weights: The gradients (R, ...) of the weights by their names, from first to last.

    Returns:
        For each network a record for each activation and each weight: ``epoch``, ``part``, ``layer``,
        ``name`` and the columns of :attr:`actlab.Comparison.diagnostics`.
    """
    found: list[list[Row]] = [[] for _ in range(networks)]
    drawn = _spread(len(seen))
    for place, one in enumerate(seen):
        about = {"epoch": epoch, "part": "activation", "layer": place + 1, "name": one.name}
        for rows, figures in zip(found, _activation(one, place in drawn), strict=True):
            rows.append({**about, **figures})
    for place, (name, grad) in enumerate(weights.items()):
        about = {"epoch": epoch, "part": "weights", "layer": place + 1, "name": name}
        for rows, size in zip(found, _rms(grad), strict=True):
            rows.append({**about, "gradient": size})
    return found


def _spread(layers: int) -> set[int]:
    """Return the layers that have histograms: the first, the last and some in between."""
    if layers <= _DRAWN:
        return set(range(layers))
    return {round(n * (layers - 1) / (_DRAWN - 1)) for n in range(_DRAWN)}


def _activation(seen: ActivationRecord, drawn: bool) -> list[Row]:
    slope = _by_unit(seen.slope.abs())
    columns: Row = {
        "units": [slope.shape[2]] * len(slope),
        "dead": _rounded((slope.amax(1) < DEAD).double().mean(1)),
        "saturated": _rounded((slope < FLAT).sum((1, 2)).double() / slope[0].numel()),
    }
    if drawn:
        output, grad = (part[:, :_FILED].flatten(1) for part in (seen.output, seen.grad))
        # The gradient of a sample's own loss, which does not depend on the number of samples.
        size = (grad * seen.grad.shape[1]).abs()
        columns |= _histogram(output, output.isfinite(), ("low", "high", "values"))
        columns["grad_zero"] = _rounded((size == 0).float().mean(1))
        kept = size.isfinite() & (size > 0)
        columns |= _histogram(size.log10(), kept, ("grad_low", "grad_high", "gradients"))
    return [{name: values[net] for name, values in columns.items()} for net in range(len(slope))]


def _by_unit(values: Tensor) -> Tensor:
    """Return values (R, n, ...) as (R, samples and positions, units); units of images are channels."""
    if values.ndim < 3:
        return values.unsqueeze(2)
    return values.movedim(2, -1).flatten(1, -2) if values.ndim > 4 else values.flatten(1, -2)


def _histogram(values: Tensor, kept: Tensor, names: Sequence[str]) -> Row:
    """Return the ends and the shares of :data:`BINS` bins, in thousandths, of what is kept of (R, m)."""
    low = torch.where(kept, values, math.inf).amin(1)
    high = torch.where(kept, values, -math.inf).amax(1)
    wide = (high - low).nan_to_num(0.0, 0.0, 0.0)
    place = (values - low[:, None]) * (BINS / torch.where(wide > 0, wide, 1.0))[:, None]
    place = torch.where(kept, place, 0.0).long().clamp_(0, BINS - 1)
    counts = torch.zeros(len(values), BINS, device=values.device).scatter_add_(1, place, kept.float())
    shares = counts * (_THOUSAND / kept.sum(1, keepdim=True).clamp(min=1))
    texts = [" ".join(f"{share:.0f}" for share in row) for row in shares.tolist()]
    ends = [_rounded(torch.where(end.isfinite(), end, math.nan)) for end in (low, high)]
    return dict(zip(names, (*ends, texts), strict=True))


def _rms(grad: Tensor) -> list[float]:
    return _rounded(grad.flatten(1).double().square().mean(1).sqrt())


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def try_saved_bytes(module: nn.Module, X: Any, batch_size: int) -> int | None:
    """Return the bytes that a training step of a network saves for backward; None if it fails.

    Args:
        module: The network; it does not change.
        X: Its inputs (n, ...).
        batch_size: Samples of a step; -1 for all.
    """
    batch = X if batch_size == -1 else X[:batch_size]
    try:
        return saved_bytes(copy.deepcopy(module).cpu(), torch.as_tensor(batch).clone().cpu())
    except Exception:  # raised by the user's module
        return None
