"""Measure the speed and the memory of activations, together with their torch equivalents."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from actlab.activation.fused_kernels import fused
from actlab.activation.module import ActivationModule
from actlab.checking.target import Target, resolve_target
from actlab.checking.tensor_comparison import find_saved_storages
from actlab.errors import UsageError, raise_problems, summarize_error
from actlab.models.swapping import swap
from actlab.spec import choose_names, copy_module, find_name_problem

_SAMPLE_SECONDS = 0.02  # the shortest sample
_SAMPLES = 15
_HEADS = ("name", "forward", "backward", "both", "saved", "ratio to")
_UNITS = ("per element", "ns", "ns", "ns", "B")
_AS_GIVEN = "as given"  # the row of a model without a swap


@dataclass(frozen=True)
class Timing:
    """The time and the memory of one activation, or of a model with it.

    Attributes:
        name: The name of the target.
        forward: Nanoseconds per element of the forward pass.
        backward: Nanoseconds per element of the backward pass.
        saved_bytes: Bytes per element saved for backward, including the input.
        torch_equivalent: The name of the row of its torch equivalent, or of the model as given; empty if
            there is none.
        ratio: Time of forward and backward divided by that of this row; NaN if there is none.
    """

    name: str
    forward: float
    backward: float
    saved_bytes: float
    torch_equivalent: str = ""
    ratio: float = math.nan


@dataclass(frozen=True)
class Timings:
    """Rows of :class:`Timing`. ``str()`` returns them as a table.

    Attributes:
        rows: One for each target and torch equivalent.
        about: Shape, dtype, device, threads, whether kernels were fused, and the class of the model.
    """

    rows: tuple[Timing, ...]
    about: Mapping[str, Any]

    def __iter__(self) -> Iterator[Timing]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return the rows as plain values, with None for NaN."""
        rows = [{k: None if v != v else v for k, v in asdict(row).items()} for row in self.rows]
        return {"about": dict(self.about), "rows": rows}

    def __str__(self) -> str:
        cells: list[tuple[str, ...]] = [
            _HEADS,
            (*_UNITS, _AS_GIVEN if self.about.get("model") else "torch.nn"),
        ]
        for row in self.rows:
            times = [_format(value) for value in (row.forward, row.backward, row.forward + row.backward)]
            name = row.name if len(row.name) <= 30 else f"{row.name[:29]}…"
            ratio = f"{row.ratio:.2f} x" if row.torch_equivalent else ""
            cells.append((name, *times, f"{row.saved_bytes:g}", ratio))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for name, *numbers in cells:
            right = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *right]).rstrip())
        return "\n".join(lines)


def _format(nanoseconds: float) -> str:
    return f"{nanoseconds:.3f}" if nanoseconds < 1000 else f"{nanoseconds:.0f}"


def interleaved(
    work: Mapping[str, Callable[[], object]], repeats: int, inner: int | Mapping[str, int] = 1
) -> dict[str, float]:
    """Time calls in turn, several times, and return the median seconds of each.

    A slow phase of the machine then affects all of them. Each call first runs once without measurement.

    Args:
        work: The calls.
        repeats: The number of samples of each.
        inner: The number of calls in a sample, for all or for each.
    """
    for call in work.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            calls = inner if isinstance(inner, int) else inner[name]
            start = time.perf_counter()
            for _ in range(calls):
                call()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(times) for name, times in seconds.items()}


def measure(
    targets: Iterable[Any] | Mapping[str, Any] | str,
    *,
    model: nn.Module | None = None,
    shape: Sequence[int] = (1000, 1000),
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
    fuse: bool = False,
) -> Timings:
    """Measure activations together with their torch equivalents.

    The measurements alternate, so that a slow phase of the machine affects all of them. The results are
    medians. :func:`torch.set_num_threads` sets the number of threads.

    Args:
        targets: Specs, definitions, modules, their classes or functions, as for :func:`actlab.check`, in a
            list, or by name in a dictionary.
        model: Measure training steps of this model, as given and with each target in it, see
            :func:`actlab.swap`. The model takes one tensor, returns one, and is not changed.
        shape: The shape of the input, which is normal with a standard deviation of 2.
        dtype: The dtype of the input.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"`` (default: the CPU).
        fuse: Whether to compile actlab's kernels, see :func:`actlab.fused`. Compiling takes seconds.

    Returns:
        A row for each target, followed by that of its torch equivalent; with a model, a row for the model as
        given, followed by one for each target.

    Raises:
        UsageError: There is no such target, or it fails on this input.

    Examples:
        >>> timings = measure(["relu", "mish"], shape=(64, 64))
        >>> [(row.name, row.saved_bytes, row.torch_equivalent) for row in timings]
        [('relu', 4.0, 'torch.nn.ReLU'), ('torch.nn.ReLU', 4.0, ''), ('mish', 4.0, 'torch.nn.Mish'), \
('torch.nn.Mish', 4.0, '')]
    """
    named = _name_targets(targets)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"dtype must be a floating-point torch.dtype such as torch.float32, got {dtype!r}")
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        raise UsageError(f"shape must be a sequence of sizes such as (1000, 1000), got {shape!r}")
    if not named or not shape or min(shape) < 1:
        raise UsageError(f"there is nothing to measure: targets {list(named)!r}, shape {tuple(shape)!r}")
    device = device or "cpu"
    try:
        generator = torch.Generator(device).manual_seed(0)
        x = torch.randn(*shape, generator=generator, device=device, dtype=torch.float32).mul_(2).to(dtype)
    except (RuntimeError, TypeError, MemoryError) as error:  # too large for this machine, or for any
        problem = summarize_error(error)
        raise UsageError(f"shape {tuple(shape)!r} cannot be allocated on {device}: {problem}") from error
    functions, equivalents = (
        _resolve(named, device) if model is None else _swap_in(model, named, device, dtype)
    )
    saved = {name: _saved_per_element(name, function, x) for name, function in functions.items()}
    work = {
        f"{name} forward": _step(function, x, fuse, backward=False) for name, function in functions.items()
    }
    work |= {f"{name} both": _step(function, x, fuse, backward=True) for name, function in functions.items()}
    seconds = interleaved(work, _SAMPLES, {name: _calls_per_sample(call) for name, call in work.items()})
    rows = []
    for name in functions:
        forward, both = (seconds[f"{name} {part}"] / x.numel() * 1e9 for part in ("forward", "both"))
        rows.append(Timing(name, forward, max(both - forward, 0.0), saved[name]))
    about = {
        "shape": list(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "device": device,
        "threads": torch.get_num_threads(),
        "fused": fuse,
        "model": model and type(model).__name__,
    }
    return Timings(tuple(_add_ratios(rows, equivalents)), about)


def _name_targets(targets: Any) -> dict[str, Any]:
    """Return the targets by name; specs are their own names."""
    if isinstance(targets, Mapping):
        raise_problems(map(find_name_problem, targets))
        return dict(targets)
    if isinstance(targets, str | nn.Module) or not isinstance(targets, Iterable):
        targets = [targets]
    targets = list(targets)
    specs = [target for target in targets if isinstance(target, str)]
    objects = [target for target in targets if not isinstance(target, str)]
    names = iter(choose_names(objects, specs))
    return {target if isinstance(target, str) else next(names): target for target in targets}


def _resolve(targets: Mapping[str, Any], device: str) -> tuple[dict[str, Target], dict[str, str]]:
    """Return what to measure by name, and the names of the torch equivalents."""
    functions: dict[str, Target] = {}
    equivalents: dict[str, str] = {}
    for name, target in targets.items():
        _, function = resolve_target(target)
        functions[name] = copy_module(function).to(device) if isinstance(function, nn.Module) else function
        equivalent = _make_torch_equivalent(function)
        if equivalent is not None:
            equivalents[name] = f"torch.nn.{type(equivalent).__name__}"
            functions.setdefault(equivalents[name], equivalent.to(device))
    return functions, equivalents


def _swap_in(
    model: nn.Module, targets: Mapping[str, Any], device: str, dtype: torch.dtype
) -> tuple[dict[str, Target], dict[str, str]]:
    """Return a model as given and with each target, by name, and the name of the first one for the others."""
    swapped = {name: swap(model, target) for name, target in targets.items()}
    models = {_AS_GIVEN: copy_module(model), **swapped}
    functions: dict[str, Target] = {name: one.to(device, dtype).train() for name, one in models.items()}
    return functions, dict.fromkeys(swapped, _AS_GIVEN)


def _make_torch_equivalent(function: Target) -> nn.Module | None:
    """Return the module of torch.nn for the same function, with the same parameters."""
    if not isinstance(function, ActivationModule):
        return None
    definition = function.activation
    class_name = definition.facts.torch_equivalent
    if class_name is None:
        return None
    values = {name: getattr(function, name) for name in definition.parameters if hasattr(function, name)}
    try:
        return getattr(nn, class_name)(**values)  # type: ignore[no-any-return]
    except TypeError:  # its arguments have other names
        return None


def _add_ratios(rows: list[Timing], equivalents: Mapping[str, str]) -> Iterator[Timing]:
    both = {row.name: row.forward + row.backward for row in rows}
    for row in rows:
        name = equivalents.get(row.name, "")
        yield replace(row, torch_equivalent=name, ratio=both[row.name] / both[name]) if name else row


def _saved_per_element(name: str, function: Target, x: Tensor) -> float:
    leaf = x.detach().clone().requires_grad_()
    try:
        if not isinstance(y := function(leaf + 0), Tensor):
            raise TypeError(f"it returns a {type(y).__name__}, not a tensor")
        return _saved_by(function, leaf + 0, []) / x.numel()
    except Exception as error:  # of any kind: the function may be a user's
        raise UsageError(
            f"target {name!r} fails on {tuple(x.shape)}, {x.dtype}: {summarize_error(error)}"
        ) from error


def _step(function: Target, x: Tensor, fuse: bool, *, backward: bool) -> Callable[[], None]:
    """Return a call of the forward pass, or of the forward and the backward pass."""
    leaf = x.detach().clone().requires_grad_()
    grad = torch.randn_like(function(leaf).detach()) if backward else None

    def step() -> None:
        leaf.grad = None
        with fused(fuse):
            y = function(leaf)
            if grad is not None:
                y.backward(grad)

    return step


def _calls_per_sample(call: Callable[[], None]) -> int:
    """Return how many calls take long enough for a sample."""
    call()
    start = time.perf_counter()
    call()
    return max(1, round(_SAMPLE_SECONDS / max(time.perf_counter() - start, 1e-6)))


def saved_bytes(module: nn.Module, x: Tensor) -> int:
    """Return the bytes that a forward pass saves for backward, without the parameters and the inputs.

    Args:
        module: A network; it is in training mode afterwards. The random state does not change.
        x: Inputs (n, ...).

    Examples:
        >>> saved_bytes(nn.Tanh(), torch.zeros(8, 4, requires_grad=True))  # its outputs
        128
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        return _saved_by(module.train(), x, [x])


def _saved_by(function: Target, x: Tensor, not_counted: Sequence[Tensor]) -> int:
    """Return the bytes that a function saves for backward, without its parameters."""
    tensors = [*not_counted]
    if isinstance(function, nn.Module):
        tensors += [*function.parameters(), *function.buffers()]
    excluded = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    storages = find_saved_storages(lambda: function(x))
    return sum(size for address, size in storages.items() if address not in excluded)
