"""Measure the error of a program at points, in units of the change that rounding the input can cause."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actlab.derivation.analysis import reference_values
from actlab.derivation.analysis.limits import compute_limits
from actlab.derivation.analysis.piecewise import Tree
from actlab.derivation.codegen.program import DTYPES, Program

LIMITS = (4.0, 4.0, 8.0)  # of f, f' and f'', in units of eps times the scale
_BESIDE = 8  # in eps: this near to a kink that the dtype rounds, both sides are right
Array = np.ndarray[Any, Any]


def make_points(extra: tuple[float, ...] = ()) -> Array:
    """Return the points of measurement: float32 numbers of both signs, of every size, and near ``extra``."""
    sizes = np.concatenate([np.logspace(-30, 30, 61), np.logspace(-3, 2.8, 140), np.linspace(0.02, 12, 450)])
    sizes = np.concatenate([[1e-44, 1e-40, 1e-38], sizes]).astype(np.float32)
    centres = np.array(extra, dtype=np.float32)
    near = [centres]
    for step in (1, 2, 5):
        for way in (-np.inf, np.inf):
            moved = centres
            for _ in range(step):
                moved = np.nextafter(moved, np.float32(way))
            near.append(moved)
    for share in (1e-5, 1e-3, 3e-2):
        near += [centres * np.float32(1 - share), centres * np.float32(1 + share)]
    return np.unique(np.concatenate([-sizes, [0.0], sizes, *near]).astype(np.float64))


@dataclass(frozen=True)
class ErrorMeter:
    """Measures errors against the reference values of a formula.

    Attributes:
        reference: The reference values at the points.
        ends: f, f' and f'' at minus and plus infinity (3, 2); NaN where there is no limit.
        kinks: Where the derivative jumps.
    """

    reference: reference_values.ReferenceValues
    ends: Array
    kinks: tuple[float, ...] = ()
    _inputs: dict[torch.dtype, Tensor] = field(default_factory=dict)

    def make_inputs(self, dtype: torch.dtype) -> Tensor:
        """Return the points, and minus and plus infinity after them."""
        if dtype not in self._inputs:
            both = np.concatenate([self.reference.points, [-math.inf, math.inf]])
            self._inputs[dtype] = torch.from_numpy(both).to(dtype)
        return self._inputs[dtype]

    def measure_program(self, program: Program, order: int, values: tuple[float, ...]) -> Array:
        """Return the error of a program for f, f' or f'' at every point and at both ends (2, n + 2).

        Args:
            program: The program.
            order: 0, 1 or 2.
            values: The parameters.

        Returns:
            The errors in float64 and in float32, in units of eps times the scale; infinite where a value
            should be finite and is not; 0 where the formula has no value.
        """
        with torch.no_grad():
            rows = []
            for dtype in DTYPES:
                got = program(self.make_inputs(dtype), *values)
                rows.append(self.measure_values(got.double().numpy(), dtype, order))
        return np.stack(rows)

    def measure_values(self, got: Array, dtype: torch.dtype, order: int, line: bool = False) -> Array:
        """Return the error of values; with ``line`` in units of the largest derivative on the line."""
        info, known = torch.finfo(dtype), self.reference
        with np.errstate(all="ignore"):
            x, true, value = known.points, known.high[order], got[:-2]
            moved = np.nan_to_num(np.abs(x * known.high[order + 1]), nan=0.0, posinf=0.0)
            scale = np.maximum(np.maximum(np.abs(true), moved), info.tiny * 1000)
            if line:
                # The output allows no more: rounding it changes f' and f'' by this much.
                scale = np.maximum(scale, max(map(_find_largest, known.high[1 : order + 1])))
            error = np.abs((value - true) - known.low[order]) / (info.eps * scale)
            beyond = np.abs(true) >= info.max * (1 - info.eps)
            right = beyond & (value * np.sign(true) >= info.max * (1 - info.eps))
            flushed = (np.abs(true) < info.tiny) & (value == 0)
            error = np.where(np.isfinite(value), error, np.inf)
            ignored = right | flushed | np.isnan(true) | self._find_kinks(dtype, order)
            error = np.where(ignored, 0.0, np.nan_to_num(error, nan=np.inf))
        return np.concatenate([error, self._measure_ends(got[-2:], dtype, order)])

    def _find_kinks(self, dtype: torch.dtype, order: int) -> Array:
        """Whether points are kinks; for the function itself, kinks that the dtype has to round."""
        exact = torch.tensor(self.kinks, dtype=torch.float64)
        rounded = exact.to(dtype).double()
        places = (rounded if order else rounded[rounded != exact]).numpy()
        on: Array = np.isin(self.reference.points, places)
        for place in rounded[rounded != exact].numpy() if order else ():
            # Which side an input is on is itself computed, and rounded.
            on |= np.abs(self.reference.points - place) <= _BESIDE * torch.finfo(dtype).eps * abs(place)
        return on

    def _measure_ends(self, got: Array, dtype: torch.dtype, order: int) -> Array:
        """Return 0 or infinity: at infinity a value is its limit or it is not."""
        found = []
        for end, value in enumerate(got.tolist()):
            limit, slope = self.ends[order, end], self.ends[1, end]
            close = 2 * torch.finfo(dtype).eps
            if order == 2:
                good = math.isfinite(value) or not math.isfinite(slope)
            elif math.isnan(limit):
                good = True
            else:
                limit = math.copysign(math.inf, limit) if abs(limit) > torch.finfo(dtype).max else limit
                good = math.isclose(value, limit, rel_tol=close, abs_tol=close if order else 0.0)
            found.append(0.0 if good else math.inf)
        return np.array(found)


def _find_largest(values: Array) -> float:
    return float(np.abs(values[np.isfinite(values)]).max())


def build_error_meter(
    tree: Tree,
    parameters: Mapping[str, float],
    extra: tuple[float, ...] = (),
    kinks: tuple[float, ...] = (),
) -> ErrorMeter:
    """Compute reference values at the usual points, near extra points and near kinks."""
    known = _compute_reference(tree, tuple(parameters.items()), (*extra, *kinks))
    return ErrorMeter(known, compute_limits(tree, tuple(parameters.items())), kinks)


@functools.lru_cache(16)
def _compute_reference(
    tree: Tree, parameters: tuple[tuple[str, float], ...], extra: tuple[float, ...]
) -> reference_values.ReferenceValues:
    if not extra:
        return reference_values.compute_reference(tree, make_points(), dict(parameters))
    before = _compute_reference(tree, parameters, ())
    new = np.setdiff1d(make_points(extra), before.points)
    return before.merge(reference_values.compute_reference(tree, new, dict(parameters)))
