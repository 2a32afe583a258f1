"""Measure the speed and the memory of activations, together with their torch equivalents."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

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
_HEADS = ("name", "forward", "backward", "both", "saved", "ratio to", "compiled")
_UNITS = ("per element", "ns", "ns", "ns", "B")
_LONGEST_NAME = 30
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
        ratio: Time of forward and backward, divided by that of ``torch_equivalent``; NaN if there is none.
        compiled: Nanoseconds per element of both passes with compiled kernels, see :func:`actlab.fused`; NaN
            if they were not measured, or if the target is not one of actlab's activations.
    """

    name: str
    forward: float
    backward: float
    saved_bytes: float
    torch_equivalent: str = ""
    ratio: float = math.nan
    compiled: float = math.nan


@dataclass(frozen=True)
class Timings:
    """Rows of :class:`Timing`. ``str()`` returns them as a table.

    Attributes:
        rows: One for each target and torch equivalent.
        about: Shape, dtype, device, threads, whether compiled kernels were measured, and the class of the
            model.
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
        is_compiled = bool(self.about.get("fused"))
        longest = _LONGEST_NAME - 10 * is_compiled
        peer = _AS_GIVEN if self.about.get("model") else "torch.nn"
        cells: list[tuple[str, ...]] = [_HEADS, (*_UNITS, peer, "ns")]
        for row in self.rows:
            times = [_format(value) for value in (row.forward, row.backward, row.forward + row.backward)]
            name = row.name if len(row.name) <= longest else f"{row.name[: longest - 1]}…"
            ratio = f"{row.ratio:.2f} x" if row.torch_equivalent else ""
            cells.append((name, *times, f"{row.saved_bytes:g}", ratio, _format(row.compiled)))
        if not is_compiled:
            cells = [row[:-1] for row in cells]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for name, *numbers in cells:
            right = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *right]).rstrip())
        return "\n".join(lines)


def _format(nanoseconds: float) -> str:
    if math.isnan(nanoseconds):
        return ""
    return f"{nanoseconds:.3f}" if nanoseconds < 1000 else f"{nanoseconds:.0f}"


Name = TypeVar("Name", bound=Hashable)


def interleaved(
    work: Mapping[Name, Callable[[], object]],
    repeats: int,
    inner: int | Mapping[Name, int] = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, float]:
    """Time calls in turn, several times, and return the median seconds of each.

    A slow phase of the machine then affects all calls. Each call first runs once without being measured.

    Args:
        work: The calls.
        repeats: The number of samples of each.
        inner: The number of calls in a sample: one number for all calls, or one for each.
        clock: Returns the time in seconds.
    """
    for call in work.values():
        call()
    seconds: dict[Name, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            calls = inner if isinstance(inner, int) else inner[name]
            start = clock()
            for _ in range(calls):
                call()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
            seconds[name].append((clock() - start) / calls)
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
        model: Measure training steps of this model, as given and with each target swapped in
            (:func:`actlab.swap`). The model takes one tensor, returns one, and is not changed.
        shape: The shape of the input, which is normal with a standard deviation of 2.
        dtype: The dtype of the input.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"`` (default: the CPU).
        fuse: Whether to measure actlab's compiled kernels as well, see :func:`actlab.fused`. Compiling takes
            seconds.

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
    can_fuse = {
        name: fuse and (model is not None or isinstance(f, ActivationModule)) for name, f in functions.items()
    }
    rows = _time(functions, equivalents, x, can_fuse)
    about = {
        "shape": list(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "device": device,
        "threads": torch.get_num_threads(),
        "fused": fuse,
        "model": model and type(model).__name__,
    }
    return Timings(tuple(rows), about)


def measure_alone(module: nn.Module, shape: Sequence[int], device: str) -> list[Timing]:
    """Measure one activation briefly; :func:`measure` takes longer and is more precise.

    Args:
        module: The activation. It is not copied.
        shape: The shape of the input, which is normal with a standard deviation of 2.
        device: Where to measure.

    Returns:
        A row for the module, and one for its torch equivalent if it has one.

    Raises:
        UsageError: The module fails on this input.
    """
    functions, equivalents = _resolve({"": module}, device)
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).mul_(2).to(device)
    return _time(functions, equivalents, x, {}, samples=15, sample_seconds=0.0005)


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
    """Return models by name: as given, and with each target swapped in.

    Also return the name of the model with which each of the others is compared.
    """
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


def _time(
    functions: Mapping[str, Target],
    equivalents: Mapping[str, str],
    x: Tensor,
    can_fuse: Mapping[str, bool],
    samples: int = _SAMPLES,
    sample_seconds: float = _SAMPLE_SECONDS,
) -> list[Timing]:
    """Measure functions in turn; return a row for each."""
    saved = {name: _saved_per_element(name, function, x) for name, function in functions.items()}
    work = {}
    for name, function in functions.items():
        work[name, "forward"] = _step(function, x, backward=False)
        work[name, "both"] = _step(function, x)
        if can_fuse.get(name):
            work[name, "compiled"] = _step(function, x, fuse=True)
    calls = {key: _calls_per_sample(call, sample_seconds) for key, call in work.items()}
    seconds = interleaved(work, samples, calls)
    times = {key: value / x.numel() * 1e9 for key, value in seconds.items()}
    for name in functions:  # on a busy machine, both passes may seem to take less time than one
        times[name, "both"] = max(times[name, "forward"], times[name, "both"])
    rows = []
    for name in functions:
        forward, both = times[name, "forward"], times[name, "both"]
        backward, equivalent = both - forward, equivalents.get(name, "")
        ratio = both / times[equivalent, "both"] if equivalent else math.nan
        compiled = times.get((name, "compiled"), math.nan)
        rows.append(Timing(name, forward, backward, saved[name], equivalent, ratio, compiled))
    return rows


def _saved_per_element(name: str, function: Target, x: Tensor) -> float:
    leaf = x.detach().clone().requires_grad_()
    try:
        if not isinstance(y := function(leaf + 0), Tensor):
            raise TypeError(f"it returns a {type(y).__name__}, not a tensor")
        torch.autograd.backward(y, torch.ones_like(y))
        return _saved_by(function, leaf + 0, []) / x.numel()
    except Exception as error:  # of any kind: the function may be a user's
        raise UsageError(
            f"target {name!r} fails on {tuple(x.shape)}, {x.dtype}: {summarize_error(error)}"
        ) from error


def _step(function: Target, x: Tensor, *, backward: bool = True, fuse: bool = False) -> Callable[[], None]:
    """Return a call of the forward pass, or of the forward and the backward pass."""
    leaf = x.detach().clone().requires_grad_()
    given = leaf + 0
    y = function(given)
    works_in_place = y.data_ptr() == given.data_ptr()  # then it needs a copy, whose time is included
    grad = torch.randn_like(y.detach()) if backward else None

    def step() -> None:
        leaf.grad = None
        with fused(fuse):
            y = function(leaf.clone() if works_in_place else leaf)
            if grad is not None:
                y.backward(grad)

    return step


def _calls_per_sample(call: Callable[[], None], seconds: float) -> int:
    """Return how many calls take long enough for a sample."""
    call()
    start = time.perf_counter()
    call()
    return max(1, round(seconds / max(time.perf_counter() - start, 1e-6)))


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
