"""All rows of a check, in their order: what each verifies, what it needs and how long it may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from actlab.checking import (
    calls_and_modes,
    derivatives,
    facts,
    incoming_gradient,
    serialization,
    shapes_and_dtypes,
    transforms,
    values,
)
from actlab.checking.subject import Subject
from actlab.checking.tensor_comparison import format_dtype


@dataclass(frozen=True)
class Check:
    """The definition of one row.

    Attributes:
        name: The name of the row.
        verify: A function of the subject that returns the detail of a pass, and raises an Outcome otherwise.
        needs: What the target must be; see :meth:`Subject.require`.
        seconds: The time limit.
        for_each_dtype: Whether there is a row for each dtype.
        first_import: A module that torch imports at the first use, imported once for all later checks.
    """

    name: str
    verify: Callable[..., str]
    needs: Sequence[str] = ()
    seconds: float = 10.0
    for_each_dtype: bool = False
    first_import: str = ""

    def run(self, subject: Subject) -> str:
        """Return the detail of a pass."""
        for need in self.needs:
            subject.require(need)
        return self.verify(subject)


_POINTS = ("element-wise",)
_MODULE = ("module",)
_COMPILER_SECONDS = 120.0  # a C++ compiler with an empty cache is slow on a busy machine
# Rows that other rows depend on come first.
_CHECKS = (
    Check("shape", shapes_and_dtypes.check_shape),
    Check("kind", shapes_and_dtypes.check_kind),
    Check("input unchanged", calls_and_modes.check_input_unchanged),
    Check("deterministic", calls_and_modes.check_deterministic),
    Check("repeated calls", calls_and_modes.check_repeated_calls),
    Check("grad modes", calls_and_modes.check_grad_modes),
    Check("dtype", shapes_and_dtypes.check_dtype),
    Check("value", values.check_value, for_each_dtype=True),
    Check("gradient", values.check_gradient, _POINTS, for_each_dtype=True),
    Check("finite", values.check_finite, _POINTS, for_each_dtype=True),
    Check("infinities", values.check_infinities, _POINTS, for_each_dtype=True),
    Check("signed zero", calls_and_modes.check_signed_zero, _POINTS),
    Check("reference", values.check_reference),
    Check("facts", facts.check_facts, ("definition", "element-wise")),
    Check("linear backward", incoming_gradient.check_linearity),
    Check("grad unchanged", incoming_gradient.check_gradient_unchanged),
    Check("first derivative", derivatives.check_first_derivative),
    Check("second derivative", derivatives.check_second_derivative),
    Check("training mode", calls_and_modes.check_training_mode, _MODULE),
    Check("kinks", derivatives.check_kinks, _POINTS),
    Check("continuity", derivatives.check_continuity, _POINTS),
    Check(
        "forward mode",
        transforms.check_forward_mode,
        seconds=_COMPILER_SECONDS,
        first_import="torch._decomp.decompositions_for_jvp",
    ),
    Check("batched gradients", transforms.check_batched_gradients),
    Check("vmap", transforms.check_vmap),
    Check("func.grad", transforms.check_func_grad, seconds=_COMPILER_SECONDS, first_import="torch._dynamo"),
    Check("non-contiguous", shapes_and_dtypes.check_non_contiguous),
    Check("expanded", shapes_and_dtypes.check_expanded),
    Check("empty", shapes_and_dtypes.check_empty),
    Check("zero-dimensional", shapes_and_dtypes.check_zero_dimensional, _POINTS),
    Check("autocast", shapes_and_dtypes.check_autocast),
    Check("parameters", derivatives.check_parameter_gradients, _MODULE),
    Check("state_dict", serialization.check_state_dict, _MODULE),
    Check("deepcopy", serialization.check_deepcopy, _MODULE),
    Check("pickle", serialization.check_pickle, _MODULE),
    Check("saved bytes", transforms.check_saved_bytes),
    Check("export", transforms.check_export, seconds=_COMPILER_SECONDS),
    Check("compile", transforms.check_compile, seconds=_COMPILER_SECONDS),
)


def list_checks(dtypes: Sequence[torch.dtype]) -> list[Check]:
    """Return the checks of all rows in order; those that compare values occur once for each dtype."""
    return [
        replace(check, name=f"{check.name} {format_dtype(dtype)}", verify=partial(check.verify, dtype=dtype))
        if dtype
        else check
        for check in _CHECKS
        for dtype in (dtypes if check.for_each_dtype else [None])
    ]
