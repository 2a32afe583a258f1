"""check compares a definition with its declared facts: wrong facts fail, true facts pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import actlab

inf, nan = math.inf, math.nan
SOUND = {
    "formula": "x * sigmoid(b * x)",
    "limits": (0, inf),
    "slopes": (0, 1),
    "range": lambda b: (-0.27846454276107379 / b, inf),
    "monotonic": False,
    "paper": "-",
}
CUT = {
    "formula": "where(x > 0, x, 0.5 * x)",
    "limits": (-inf, inf),
    "slopes": (0.5, 1),
    "range": (-inf, inf),
    "monotonic": True,
    "paper": "-",
    "kinks": {0: 0.5},
}


def swish(**facts: Any) -> Any:
    """Define x * sigmoid(b * x), which is sound without ``facts``."""

    @actlab.elementwise(**{**SOUND, **facts})
    def my_swish(x, b=1.0):
        return torch.where(x == -inf, 0, x * torch.sigmoid(b * x))

    @my_swish.derivative
    def _(x, b):
        x = x.clamp(-1e3, 1e3)
        s = torch.sigmoid(b * x)
        return s + b * x * s * (1 - s)

    @my_swish.second
    def _(x, b):
        x = x.clamp(-1e3, 1e3)
        s = torch.sigmoid(b * x)
        return b * s * (1 - s) * (2 + b * x * (1 - 2 * s))

    my_swish.module("MySwish")
    return my_swish


def jumps_at_infinity() -> Any:
    """Define a tanh that is 0.5 for large inputs, and 1 at infinity."""

    @actlab.elementwise(
        formula="tanh(x)", limits=(-1, 1), slopes=(0, 0), range=(-1, 1), monotonic=True, paper="-"
    )
    def my_tanh(x):
        return torch.where((x > 1e10) & (x < inf), 0.5, x.tanh())

    @my_tanh.derivative
    def _(x):
        return 1 - x.tanh() ** 2

    @my_tanh.second
    def _(x):
        return -2 * x.tanh() * (1 - x.tanh() ** 2)

    return my_tanh


def cut(at: float = 0.0, **facts: Any) -> Any:
    """Define a leaky rectifier, which is sound without ``facts``."""

    @actlab.elementwise(**{**CUT, **facts})
    def my_cut(x):
        return torch.where(x > at, x - at, 0.5 * (x - at))

    @my_cut.derivative
    def _(x):
        return torch.where(x > at, 1.0, 0.5)

    @my_cut.second
    def _(x):
        return torch.zeros_like(x)

    return my_cut


def clipped(**facts: Any) -> Any:
    """Define a hard tanh whose torch operation saves the input for backward."""

    @actlab.elementwise(
        formula="clip(x, -1, 1)",
        limits=(-1, 1),
        slopes=(0, 0),
        range=(-1, 1),
        monotonic=True,
        paper="-",
        kinks={-1: 0, 1: 0},
        **facts,
    )
    def my_clipped(x):
        return x.clamp(-1, 1)

    @my_clipped.mask
    def _(x):
        return (x.abs() < 1).to(torch.int8)

    @my_clipped.derivative
    def _(saved):
        return saved if saved.dtype is torch.int8 else (saved.abs() < 1).to(saved.dtype)

    @my_clipped.torch_operation
    def _(x):
        return torch.nn.functional.hardtanh(x)

    return my_clipped


def one_row(target: Any, row: str) -> actlab.checking.Row:
    return actlab.check(target, only=[row], dtypes=[torch.float32]).row(row)


FAULTS: dict[str, tuple[Any, Any, str, str]] = {
    "another formula": (
        swish(formula="x * tanh(b * x)"),
        swish(),
        "reference",
        "by the declared formula",
    ),
    "a formula of an unknown name": (
        swish(formula="x * sigmoid(c * x)"),
        swish(),
        "reference",
        "the declared formula cannot be read: ",
    ),
    "another limit": (swish(limits=(-1, inf)), swish(), "facts", "f(-inf) = 0, declared -1"),
    "a limit instead of none": (swish(limits=(0, 7)), swish(), "facts", "f(inf) = inf, declared 7"),
    "another slope": (swish(slopes=(0, 2)), swish(), "facts", "f'(inf) = 1, declared 2"),
    "an infimum too low": (
        swish(range=(-0.3, inf)),
        swish(),
        "facts",
        "the least value is f(-1.27846) = -0.278465, declared -0.3",
    ),
    "an infimum too high": (
        swish(range=(-0.2, inf)),
        swish(),
        "facts",
        "the least value is f(-1.27846) = -0.278465, declared -0.2",
    ),
    "no infimum": (
        swish(range=(-inf, inf)),
        swish(),
        "facts",
        "the least value is f(-1.27846) = -0.278465, declared -inf",
    ),
    "a supremum": (
        swish(range=(-0.27846454276107379, 9)),
        swish(),
        "facts",
        "the greatest value is f(inf) = inf, declared 9",
    ),
    "monotonic": (swish(monotonic=True), swish(), "facts", "declared monotonic"),
    "not monotonic": (
        cut(monotonic=False),
        cut(),
        "facts",
        "f is monotonic at 4844 points, declared not monotonic",
    ),
    "a limit at infinity alone": (
        jumps_at_infinity(),
        actlab.catalogue["tanh"],
        "facts",
        "f(1e+30) = 0.5, declared 1 at inf",
    ),
    "a missing kink": (cut(kinks={}), cut(), "kinks", "f' jumps at 0; the declared kinks are none"),
    "a kink elsewhere": (
        cut(kinks={0: 0.5, 2: 1}),
        cut(),
        "kinks",
        "f' does not jump at 2, a declared kink",
    ),
    "another gradient at a kink": (cut(kinks={0: 1}), cut(), "kinks", "f'(0) = 0.5, declared 1"),
    "a distant kink": (
        cut(20.0, kinks={20: 1}),
        cut(20.0, kinks={20: 0.5}),
        "kinks",
        "f'(20) = 0.5, declared 1",
    ),
    "more bytes than declared": (
        clipped(saves="mask"),
        clipped(saves="input"),
        "saved bytes",
        "input, expected 1: the definition declares that it saves only its mask",
    ),
}


@pytest.mark.parametrize(("broken", "sound", "row", "message"), FAULTS.values(), ids=FAULTS)
def test_check_fails_the_row_of_a_wrong_fact(broken, sound, row, message):
    result = one_row(broken, row)
    assert result.status == "fail", result
    assert message in result.detail
    assert one_row(sound, row).status == "pass", one_row(sound, row)


def naive_swish_definition() -> Any:
    @actlab.elementwise(**SOUND)
    def naive_swish(x, b=1.0):
        return x * torch.sigmoid(b * x)

    naive_swish.derivative(swish().formulas.derivative)
    naive_swish.second(swish().formulas.second)
    return naive_swish


def test_check_fails_if_a_declared_limit_is_not_reached():
    report = actlab.check(naive_swish_definition(), only=["infinities", "facts"], dtypes=[torch.float32])
    assert report.row("infinities float32").detail == "f(-inf) = nan, expected 0, the declared limit"
    assert report.row("facts").detail == "f(-inf) = nan, declared 0"
    assert actlab.check(swish(), only=["infinities", "facts"]).passed
    plain = actlab.check(lambda x: x * torch.sigmoid(x), only=["infinities"], dtypes=[torch.float32])
    assert plain.row("infinities float32").detail == "f(-inf) is nan in float64, too, instead of the limit"
    both = actlab.check(lambda x: torch.sin(x) * x, only=["infinities"], dtypes=[torch.float32])
    expected = "f(-inf) and f(inf) are nan in float64, too, instead of the limit"
    assert both.row("infinities float32").detail == expected


def test_check_reports_all_wrong_facts_together():
    result = one_row(swish(limits=(5, 7), slopes=(3, 4), range=(10, 11)), "facts")
    assert result.detail == (
        "f(-inf) = 0, declared 5; f(inf) = inf, declared 7; "
        "f'(-inf) = 0, declared 3; f'(inf) = 1, declared 4; "
        "the least value is f(-1.27846) = -0.278465, declared 10; "
        "the greatest value is f(inf) = inf, declared 11"
    )


# -- parameters, and targets without facts -----------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "leaky_relu(negative_slope=0.2)",
        "leaky_relu(negative_slope=1.0)",  # without a kink
        "elu(alpha=0.5)",
        "hardtanh(-20, 20)",
        "swish(beta=-1.0)",
        "softplus(beta=0.5, threshold=1.0)",
        "xielu(alpha_n=2.0)",
        "prelu(num_parameters=8)",
        "dynamic_tanh(num_features=8, alpha=2.0)",
        "sinlu(a=2.0, b=0.5)",
        "rrelu(0.1, 0.2)",
        "gelu(approximate='tanh')",
        "formula:exp(-x)",
        "formula:x*sigmoid(beta*x) with beta=1.5",
        "formula:where(x > 2, 1, 0)",
    ],
)
def test_check_evaluates_facts_at_the_parameters_of_the_target(target):
    report = actlab.check(target, only=["reference", "facts", "kinks", "saved bytes", "infinities"])
    assert {row.status for row in report.rows} == {"pass"}, report


WITHOUT_A_MODULE = """
import torch
import actlab


@actlab.elementwise(
    formula="a * x", limits=lambda a: (-a * float("inf"), a * float("inf")), slopes=lambda a: (a, a),
    range=(-float("inf"), float("inf")), monotonic=True, paper="-",
)
def line(x, a=2.0):
    return a * x


@line.derivative
def _(x, a):
    return torch.full_like(x, a)


@line.second
def _(x, a):
    return torch.zeros_like(x)
"""


def test_check_passes_parameters_to_a_definition_without_a_module(tmp_path, monkeypatch):
    (tmp_path / "my_line.py").write_text(WITHOUT_A_MODULE)
    monkeypatch.chdir(tmp_path)
    report = actlab.check("my_line.py:line(a=-3.0)", only=["reference", "facts"], reference="-3 * x")
    assert report.passed, report
    with pytest.raises(actlab.UsageError, match="argument 'b' is unknown; it takes \\['a'\\]"):
        actlab.check("my_line.py:line(b=1)")


@pytest.mark.parametrize(
    ("target", "row", "message"),
    [
        (torch.nn.Tanh(), "facts", "only a definition declares facts"),
        (torch.nn.Tanh(), "reference", "no reference was given"),
        ("swiglu", "reference", "no reference was given, and the declared formula has two inputs"),
        ("swiglu", "facts", "the target is not element-wise: an output element depends on several inputs"),
    ],
)
def test_check_facts_and_reference_are_not_applicable_without_declaration(target, row, message):
    result = one_row(target, row)
    assert (result.status, result.detail) == ("not applicable", message)


def test_check_facts_are_not_applicable_to_a_subclass():
    class Twice(actlab.nn.Mish):
        def forward(self, x):
            return 2 * super().forward(x)

    assert one_row(Twice, "facts").status == "not applicable"


def test_check_prefers_the_given_reference_to_the_declared_formula():
    wrong = swish(formula="x * tanh(b * x)")
    report = actlab.check(wrong, only=["reference"], reference="x * sigmoid(x)")
    assert report.row("reference").detail == "f and f' at 303 points, in float64"


def test_check_skips_reference_digits_of_a_formula_that_grows_too_fast():
    assert actlab.check("tanhexp", only=["reference"], reference="x * tanh(exp(x))").passed
