"""The target of a check as the rows use it: seeded, in every dtype, with its derivatives at points."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from actlab.checking.check_report import Failure, NotApplicable
from actlab.checking.declared_facts import DeclaredFacts, find_declared_facts
from actlab.checking.reference import Reference
from actlab.checking.target import Target
from actlab.checking.tensor_comparison import compute_gradient

TargetKind = Literal["element-wise", "gated", "mixing", "other"]
Function = Callable[[Tensor], Tensor]
SEED = 20241
_NEEDS = {
    "element-wise": "the target is not element-wise: an output element depends on several inputs",
    "module": "the target is a function, not a module",
    "definition": "only a definition declares facts",
}


class Subject:
    """One target.

    Args:
        target: A module or a function of one tensor.
        dtypes: The dtypes to compare with float64.
        device: The device of the tensors.
        reference: The reference of the values, or None.
    """

    def __init__(
        self,
        target: Target,
        dtypes: tuple[torch.dtype, ...],
        device: torch.device,
        reference: Reference | None = None,
    ) -> None:
        self.target, self.dtypes, self.device, self.reference = target, dtypes, device, reference

    @cached_property
    def works_in_place(self) -> bool:
        """Whether the target overwrites its input on purpose, such as torch.relu_."""
        if isinstance(self.target, nn.Module):
            return any(getattr(part, "inplace", False) is True for part in self.target.modules())
        keywords = getattr(self.target, "keywords", {})  # of a functools.partial
        name = getattr(self.target, "__name__", "")
        return keywords.get("inplace") is True or (name.endswith("_") and not name.endswith("__"))

    @property
    def is_module(self) -> bool:
        """Whether the target is a module, which has a training mode."""
        return isinstance(self.target, nn.Module)

    @property
    def modes(self) -> tuple[bool, ...]:
        """The training modes: False, and True if the target is a module."""
        return (False, True) if self.is_module else (False,)

    def require(self, need: str) -> None:
        """Raise NotApplicable unless the target is of the kind that a row needs (a key of ``_NEEDS``)."""
        if need == "element-wise":
            is_met = self.kind == "element-wise"
        else:
            is_met = self.is_module if need == "module" else self.declared is not None
        if not is_met:
            raise NotApplicable(_NEEDS[need])

    def make_function(self, dtype: torch.dtype = torch.float64, *, train: bool = False) -> Function:
        """Return the target for a dtype, seeded in every call; a module is copied."""
        function = self.copy_target(dtype, train=train)

        def call_seeded(x: Tensor) -> Tensor:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(SEED)
                y: Tensor = function(x.clone() if self.works_in_place else x)
                return y

        return call_seeded

    def copy_target(self, dtype: torch.dtype = torch.float64, *, train: bool = False) -> Any:
        """Return the bare target: a copy of the module, or the function itself."""
        if not isinstance(self.target, nn.Module):
            return self.target
        return copy.deepcopy(self.target).to(self.device, dtype).train(train)

    def as_module(self) -> nn.Module:
        """Return the target for float32 as a module in evaluation mode that does not change its input."""
        return _TargetModule(self.copy_target(torch.float32), self.works_in_place).eval()

    @cached_property
    def declared(self) -> DeclaredFacts | None:
        """What the definition declares at the parameters of the target; None if it is not a definition."""
        return find_declared_facts(self.copy_target())

    @cached_property
    def width(self) -> int:
        """The size of the last input dimension: that of a parameter with several values, otherwise 8."""
        for parameter in self.per_feature:
            return parameter.shape[-1] if parameter.shape[-1] > 1 else parameter.numel()
        return 8

    @property
    def per_feature(self) -> list[nn.Parameter]:
        """The parameters with more than one element; the width of the input must match them."""
        parameters = self.target.parameters() if isinstance(self.target, nn.Module) else []
        return [p for p in parameters if p.numel() > 1]

    def sample(self, rows: int = 6, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
        """Return inputs (rows, width) around the origin that avoid the usual kinks."""
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn(rows, self.width, generator=generator, dtype=torch.float64) * 2 + 0.0123
        return values.to(self.device, dtype)

    @cached_property
    def kind(self) -> TargetKind:
        """Whether the target is element-wise, gated, mixes elements, or changes the shape."""
        function, x = self.make_function(), self.sample()
        y: object = function(x)
        if not isinstance(y, Tensor):
            return "other"
        if y.shape != x.shape:
            halves = [(*x.shape[:d], x.shape[d] // 2, *x.shape[d + 1 :]) for d in range(x.ndim)]
            return "gated" if tuple(y.shape) in halves else "other"
        at = 1, self.width // 2
        for step in (0.5, -8.0, 8.0):
            moved = x.clone()
            moved[at] += step
            changed = (function(moved) - y).abs() > 1e-12
            changed[at] = False
            if changed.any():
                return "mixing"
        return "element-wise"

    # -- an element-wise target at single points ------------------------------------------------------

    def arrange(self, points: Tensor) -> Tensor:
        """Return points (n,) as rows of the width that the target needs, the last row padded.

        If a parameter has one value per feature, every point has its own row, and the first value applies.
        """
        if self.per_feature:
            return points[:, None].repeat(1, self.width)
        short = -len(points) % self.width
        return torch.cat([points, points[:1].expand(short)]).view(-1, self.width)

    def unarrange(self, rows: Tensor, count: int) -> Tensor:
        """Return the results (count,) of points from :meth:`arrange`."""
        return rows[:, 0] if self.per_feature else rows.reshape(-1)[:count]

    def evaluate(self, points: Tensor) -> Tensor:
        """Return the values at points (n,), in their dtype."""
        with torch.no_grad():
            return self.unarrange(self.make_function(points.dtype)(self.arrange(points)), len(points))

    def differentiate(self, points: Tensor) -> Tensor:
        """Return the derivative at points (n,), computed by backward."""
        x = self.arrange(points).requires_grad_()
        return self.unarrange(_backpropagate(self.make_function(points.dtype)(x), x), len(points))

    def differentiate_twice(self, points: Tensor) -> Tensor | None:
        """Return the second derivative at points (n,), by calling backward twice; None if there is none."""
        x = self.arrange(points).requires_grad_()
        y = self.make_function(points.dtype)(x)
        if not y.requires_grad:
            return None
        (first,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)
        if not first.requires_grad:
            return None
        (second,) = torch.autograd.grad(first, x, torch.ones_like(x), allow_unused=True)
        return None if second is None else self.unarrange(second, len(points))


class _TargetModule(nn.Module):
    def __init__(self, function: Function, works_in_place: bool) -> None:
        super().__init__()
        self.function, self.works_in_place = function, works_in_place

    def forward(self, x: Tensor) -> Tensor:
        """Call the function."""
        return self.function(x.clone() if self.works_in_place else x)


def _backpropagate(y: Tensor, x: Tensor) -> Tensor:
    if not y.requires_grad:
        raise Failure("the output is detached, so the input gets no gradient")
    slope = compute_gradient(y, x)
    if slope is None:
        raise Failure("the output does not depend on the input, so the input gets no gradient")
    return slope
