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
from actlab.checking.tensor_comparison import dtype_name


@dataclass(frozen=True)
class Check:
    """The definition of one row.

    Attributes:
        name: The name of the row.
        verify: A function of the subject that returns the detail of a pass, and raises an Outcome otherwise.
        needs: What the target must be, as for :meth:`Subject.require`.
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
_COMPILER_SECONDS = 60.0
# What the other rows depend on comes first.
_CHECKS = (
    Check("shape", shapes_and_dtypes.shape),
    Check("kind", shapes_and_dtypes.kind),
    Check("input unchanged", calls_and_modes.input_unchanged),
    Check("deterministic", calls_and_modes.deterministic),
    Check("repeated calls", calls_and_modes.repeated_calls),
    Check("grad modes", calls_and_modes.grad_modes),
    Check("dtype", shapes_and_dtypes.dtype),
    Check("value", values.value, for_each_dtype=True),
    Check("gradient", values.gradient, _POINTS, for_each_dtype=True),
    Check("finite", values.finite, _POINTS, for_each_dtype=True),
    Check("infinities", values.infinities, _POINTS, for_each_dtype=True),
    Check("signed zero", calls_and_modes.signed_zero, _POINTS),
    Check("reference", values.reference),
    Check("facts", facts.facts, ("definition", "element-wise")),
    Check("linear backward", incoming_gradient.linearity),
    Check("grad unchanged", incoming_gradient.gradient_unchanged),
    Check("first derivative", derivatives.first),
    Check("second derivative", derivatives.second),
    Check("training mode", calls_and_modes.training_mode, _MODULE),
    Check("kinks", derivatives.kinks, _POINTS),
    Check("continuity", derivatives.continuity, _POINTS),
    Check("forward mode", transforms.forward_mode, first_import="torch._decomp.decompositions_for_jvp"),
    Check("batched gradients", transforms.batched_gradients),
    Check("vmap", transforms.vmap),
    Check("func.grad", transforms.func_grad, first_import="torch._dynamo"),
    Check("non-contiguous", shapes_and_dtypes.non_contiguous),
    Check("expanded", shapes_and_dtypes.expanded),
    Check("empty", shapes_and_dtypes.empty),
    Check("zero-dimensional", shapes_and_dtypes.zero_dimensional, _POINTS),
    Check("autocast", shapes_and_dtypes.autocast),
    Check("parameters", derivatives.parameters, _MODULE),
    Check("state_dict", serialization.state_dict, _MODULE),
    Check("deepcopy", serialization.deepcopy, _MODULE),
    Check("pickle", serialization.pickled, _MODULE),
    Check("saved bytes", transforms.saved_for_backward),
    Check("export", transforms.exported, seconds=_COMPILER_SECONDS),
    Check("compile", transforms.compiled, seconds=_COMPILER_SECONDS),
)


def list_checks(dtypes: Sequence[torch.dtype]) -> list[Check]:
    """Return the checks of all rows in their order, those of values once for each dtype."""
    return [row for check in _CHECKS for row in (_split(check, dtypes) if check.for_each_dtype else [check])]


def _split(check: Check, dtypes: Sequence[torch.dtype]) -> list[Check]:
    return [
        replace(check, name=f"{check.name} {dtype_name(d)}", verify=partial(check.verify, dtype=d))
        for d in dtypes
    ]
