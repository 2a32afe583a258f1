"""How fast activations are and what they keep, side by side with torch's own in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from actlab.activation.kernels import fused
from actlab.activation.module import ActivationModule
from actlab.checking.target import Target, resolve
from actlab.errors import UsageError, summarize_error

_LEAST = 0.02  # seconds that a sample takes at least
_ROUNDS = 15
_HEADS = ("name", "forward", "backward", "both", "saved bytes", "ratio")
_UNITS = ("for each element", "ns", "ns", "ns", "B", "torch.nn")


@dataclass(frozen=True)
class Timing:
    """What one activation takes.

    Attributes:
        name: What was measured.
        forward: Nanoseconds for each element, forwards.
        backward: The same, backwards.
        saved_bytes: Bytes for each element that are kept from forward to backward, the input included.
        peer: The name of the row that it stands beside, torch's own module; empty where there is none.
        ratio: Forward and backward as a multiple of the peer's; NaN without one.
    """

    name: str
    forward: float
    backward: float
    saved_bytes: float
    peer: str = ""
    ratio: float = float("nan")


@dataclass(frozen=True)
class Timings:
    """Rows of :class:`Timing`; as text a table.

    Attributes:
        rows: One per target and peer.
        about: Shape, dtype, device, threads and whether kernels were fused.
    """

    rows: tuple[Timing, ...]
    about: Mapping[str, Any]

    def __iter__(self) -> Iterator[Timing]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return the rows as plain values, None for what there is none of."""
        plain = [{k: None if v != v else v for k, v in asdict(row).items()} for row in self.rows]
        return {"about": dict(self.about), "rows": plain}

    def __str__(self) -> str:
        cells: list[tuple[str, ...]] = [_HEADS, _UNITS]
        for row in self.rows:
            figures = [_figure(value) for value in (row.forward, row.backward, row.forward + row.backward)]
            name = row.name if len(row.name) <= 30 else f"{row.name[:29]}…"
            cells.append((name, *figures, f"{row.saved_bytes:g}", f"{row.ratio:.2f} x" if row.peer else ""))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for name, *numbers in cells:
            right = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *right]).rstrip())
        return "\n".join(lines)


def _figure(nanoseconds: float) -> str:
    return f"{nanoseconds:.3f}" if nanoseconds < 1000 else f"{nanoseconds:.0f}"  # of few elements it is many


def interleaved(
    work: Mapping[str, Callable[[], object]], repeats: int, inner: int | Mapping[str, int] = 1
) -> dict[str, float]:
    """Time every piece of work in turn, again and again, and return the median seconds of each.

    Slow drifts of the machine then hit all of them alike. Each is run once before, unmeasured.

    Args:
        work: What is timed.
        repeats: How often.
        inner: Calls of a sample, of all or of each.
    """
    for call in work.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            calls = inner if isinstance(inner, int) else inner[name]
            start = time.perf_counter()
            for _ in range(calls):
                call()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
            taken[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(times) for name, times in taken.items()}


def measure(
    targets: Sequence[Any] | str,
    *,
    shape: Sequence[int] = (1000, 1000),
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
    fuse: bool = False,
) -> Timings:
    """Measure activations, and torch.nn's own beside those that have a twin there.

    Everything is measured in turns in one run, so that a slow moment of the machine hits all alike; the
    figures are medians. Threads are as :func:`torch.set_num_threads` has them.

    Args:
        targets: Specs, definitions, modules, their classes or functions, as for :func:`actlab.check`.
        shape: Of the input, which is normal with a standard deviation of 2.
        dtype: Of the input.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; the processor when left out.
        fuse: Whether ours run as compiled kernels, see :func:`actlab.fused`; compiling takes seconds.

    Returns:
        A row for each, peers after the first that stands beside them.

    Raises:
        UsageError: A target names nothing, or fails on this input.

    Examples:
        >>> timings = measure(["relu", "mish"], shape=(64, 64))
        >>> [(row.name, row.saved_bytes, row.peer) for row in timings]
        [('relu', 4.0, 'torch.nn.ReLU'), ('torch.nn.ReLU', 4.0, ''), ('mish', 4.0, 'torch.nn.Mish'), \
('torch.nn.Mish', 4.0, '')]
    """
    targets = [targets] if isinstance(targets, str) else list(targets)
    if not targets or not shape or min(shape) < 1:
        raise UsageError(f"there is nothing to measure: targets {targets!r}, shape {tuple(shape)!r}")
    where = device or "cpu"
    generator = torch.Generator(where).manual_seed(0)
    x = torch.randn(*shape, generator=generator, device=where, dtype=torch.float32).mul_(2).to(dtype)
    named: dict[str, Target] = {}
    peers: dict[str, str] = {}
    for target in targets:
        name, function = resolve(target)
        named[name] = _there(function, where)
        if twin := _twin(function):
            peers[name] = f"torch.nn.{type(twin).__name__}"
            named.setdefault(peers[name], _there(twin, where))
    kept = {name: _kept(name, function, x) for name, function in named.items()}
    forward = {f"{name} forward": _forward(function, x, fuse) for name, function in named.items()}
    both = {f"{name} both": _both(function, x, fuse) for name, function in named.items()}
    work = {**forward, **both}
    seconds = interleaved(work, _ROUNDS, {name: _calls(call) for name, call in work.items()})
    found = {}
    for name in named:
        ahead, whole = (seconds[f"{name} {part}"] / x.numel() * 1e9 for part in ("forward", "both"))
        found[name] = Timing(name, ahead, max(whole - ahead, 0.0), kept[name])
    rows = [
        Timing(
            **{
                **asdict(row),
                "peer": peers[name],
                "ratio": (row.forward + row.backward)
                / (found[peers[name]].forward + found[peers[name]].backward),
            }
        )
        if name in peers
        else row
        for name, row in found.items()
    ]
    about = {"shape": list(shape), "dtype": str(dtype).removeprefix("torch."), "device": where}
    return Timings(tuple(rows), {**about, "threads": torch.get_num_threads(), "fused": fuse})


def _there(function: Target, device: str) -> Target:
    return function.to(device) if isinstance(function, nn.Module) else function


def _twin(function: Target) -> nn.Module | None:
    """Return torch's own module of the same function, at the same parameters."""
    if not isinstance(function, ActivationModule):
        return None
    definition = function.activation
    twin = definition.facts.torch_equivalent
    if twin is None:
        return None
    values = {name: getattr(function, name) for name in definition.parameters if hasattr(function, name)}
    try:
        return getattr(nn, twin)(**values)  # type: ignore[no-any-return]
    except TypeError:  # it names them otherwise
        return None


class _Behind(nn.Module):
    """A function behind a layer whose output nothing else keeps."""

    def __init__(self, function: Target) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x + 0)
        return result


def _kept(name: str, function: Target, x: Tensor) -> float:
    try:
        return saved_bytes(_Behind(function), x.detach().clone().requires_grad_()) / x.numel()
    except Exception as error:  # anybody's
        raise UsageError(
            f"target {name!r} fails on {tuple(x.shape)}, {x.dtype}: {summarize_error(error)}"
        ) from error


def _forward(function: Target, x: Tensor, fuse: bool) -> Callable[[], None]:
    leaf = x.detach().clone().requires_grad_()

    def step() -> None:
        with fused(fuse):
            function(leaf)

    return step


def _both(function: Target, x: Tensor, fuse: bool) -> Callable[[], None]:
    leaf = x.detach().clone().requires_grad_()
    grad = torch.randn_like(function(leaf).detach())

    def step() -> None:
        leaf.grad = None
        with fused(fuse):
            function(leaf).backward(grad)

    return step


def _calls(call: Callable[[], None]) -> int:
    """Return how many calls make a sample that a clock can tell."""
    call()
    start = time.perf_counter()
    call()
    return max(1, round(_LEAST / max(time.perf_counter() - start, 1e-6)))


def saved_bytes(module: nn.Module, x: Tensor) -> int:
    """Return the bytes that autograd keeps of a forward pass, beside the weights and the inputs.

    Args:
        module: A net; it is in training mode afterwards. Random numbers that it draws are not missed later.
        x: Inputs (n, ...).

    Examples:
        >>> saved_bytes(nn.Tanh(), torch.zeros(8, 4, requires_grad=True))  # its outputs
        128
    """
    known = {t.untyped_storage().data_ptr() for t in (x, *module.parameters(), *module.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), hooks:
        outputs = module.train()(x)
        del outputs  # not before: what is kept would be freed, and its place used again
    return sum(saved.values())
