"""Checks of the catalogue and of torch.nn, targets that crash or hang, and the report."""

from __future__ import annotations

import os
import signal
import time
from xml.etree import ElementTree

import pytest
import sympy
import torch

import actlab
from actlab.checking import CheckReport, Row, format_junit
from actlab.errors import UsageError
from actlab.testing import assert_activation

QUICK = ("relu", "gelu", "mish", "prelu", "snake", "glu", "rrelu", "dynamic_tanh", "hardshrink")
COMPILER = ("compile", "export")


def failed(report: CheckReport) -> dict[str, str]:
    return {row.name: row.detail for row in report.rows if row.status == "fail"}


REST = sorted(set(actlab.catalogue) - set(QUICK))


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def test_check_passes_every_catalogue_entry(name):
    assert failed(actlab.check(actlab.catalogue[name], skip=COMPILER)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_check_compile_and_export_pass_for_the_catalogue(name):
    """Check a few entries; the conformance laws compile and export all of them."""
    assert failed(actlab.check(actlab.catalogue[name], only=["shape", *COMPILER])) == {}


# Known faults of PyTorch: the rows that fail, with a part of their messages.
KNOWN_FAULTS = {
    "GELU()": {
        "value float32": "f(-5.5) = ",
        "infinities float32": "f(inf) = nan",
        "infinities bfloat16": "f(inf) = nan",
    },
    "GELU('tanh')": {
        "value float32": "eps",
        "finite float32": "f'(-1.99526e+19) = nan, expected 0",
        "finite bfloat16": "nan, expected 0",
    },
    "Tanhshrink()": {
        "value float32": "= 0, expected",
        "value float16": "eps, allowed",
        "value bfloat16": "eps, allowed",
    },
    "Mish()": {"second derivative": "= nan, expected 0"},
}
SOUND = """ReLU() ReLU6() LeakyReLU() PReLU() RReLU() ELU() CELU() SELU() SiLU() Softplus() Softsign()
    Sigmoid() Hardsigmoid() LogSigmoid() Tanh() Hardtanh() Hardswish() Hardshrink() Softshrink()
    Threshold(0.5,-0.25) GLU()""".split()


@pytest.mark.parametrize(
    "spec", [*KNOWN_FAULTS, *(pytest.param(spec, marks=pytest.mark.slow) for spec in SOUND)]
)
def test_check_of_torch_nn_fails_only_for_known_faults(spec):
    result = failed(actlab.check(f"torch.nn:{spec}", skip=COMPILER))
    expected = KNOWN_FAULTS.get(spec, {})
    if spec == "GELU()":  # torch computes float16 in another way on processors with AVX512-FP16
        result.pop("infinities float16", None)
    assert set(result) == set(expected)
    for row, message in expected.items():
        assert message in result[row]


@pytest.mark.parametrize(
    ("target", "row", "message"),
    [
        (torch.nn.Softmax(-1), "kind", "several input elements"),
        (torch.nn.LayerNorm(8), "kind", "several input elements"),
        (torch.nn.GLU(), "kind", "gates the other"),
        (torch.nn.Dropout(), "deterministic", "random in training, from torch's generator"),
        (actlab.nn.RReLU(), "deterministic", "random in training"),
        (torch.nn.Softmax(-1), "value float16", "eps of the largest value"),
        (torch.nn.Hardshrink(), "continuity", "jumps at -0.5 from -0.5 to 0; jumps at 0.5 from 0 to 0.5"),
        (torch.nn.ELU(0.5), "kinks", "f'(0) = 0.5, between 0.5 and 1"),
        (
            torch.nn.Hardtanh(-0.7, 0.3),
            "kinks",
            "f'(-0.7) = 0, between 0 and 1; f'(0.3) = 0, between 1",
        ),
        (torch.nn.ReLU(), "saved bytes", "4 bytes per element"),
        (
            torch.nn.Softsign(),
            "infinities float32",
            "f(-inf) and f(inf) are nan in float64, too, instead",
        ),
        (torch.nn.PReLU(8), "parameters", "weight: compared with finite differences"),
    ],
    ids=str,
)
def test_check_row_details(target, row, message):
    result = actlab.check(target, only=[row]).row(row)
    assert result.status == "pass"
    assert message in result.detail


def test_check_reports_a_missing_transform_rule_as_unsupported():
    class Plain(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * x.cos()

    report = actlab.check(Plain, only=["forward mode", "vmap", "func.grad", "second derivative"])
    assert [row.status for row in report.rows] == ["pass", "unsupported", "unsupported", "unsupported"]
    assert report.passed


def kills_the_interpreter_in_float16(x):
    if x.dtype is torch.float16:
        os.kill(os.getpid(), signal.SIGSEGV)
    return torch.tanh(x)


def hangs_in_bfloat16(x):
    while x.dtype is torch.bfloat16:
        time.sleep(1)
    return torch.tanh(x)


def test_check_reports_a_crash_as_a_failed_row_and_continues():
    report = actlab.check(kills_the_interpreter_in_float16, only=["shape", "value", "kinks"])
    assert failed(report) == {"value float16": "the interpreter was killed by SIGSEGV"}
    assert [row.status for row in report.rows].count("pass") == 4


def test_check_reports_a_hang_as_a_failed_row_and_continues():
    report = actlab.check(hangs_in_bfloat16, only=["dtype", "kinks"])
    assert failed(report) == {"dtype": "did not finish within 10 s"}
    assert report.row("kinks").status == "pass"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda x: None, "returns a NoneType, expected a tensor"),
        (lambda x: (x, x), "returns a tuple, expected a tensor"),
        (lambda x: x.nothing, "AttributeError: 'Tensor' object has no attribute 'nothing'"),
        (lambda x: os._exit(3), "the interpreter exited with status 3"),
    ],
)
def test_check_runs_no_other_row_if_the_shape_row_fails(target, message):
    report = actlab.check(target)
    assert failed(report) == {"shape": message}
    assert {row.status for row in report.rows[1:]} == {"could not run"}
    assert len(report.rows) == 45


def test_check_suppresses_output_of_the_target(capfd):
    def print_and_compute(x):
        print("hello")
        os.write(1, b"hello")
        return torch.tanh(x)

    assert actlab.check(print_and_compute, only=["shape", "kinks"]).passed
    assert capfd.readouterr().out == ""


def test_check_leaves_the_random_state_unchanged():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    actlab.check(torch.tanh, only=["shape", "deterministic"])
    assert torch.equal(torch.rand(3), expected)


REPORT = CheckReport(
    "mine",
    [
        Row("shape", "pass", "fine"),
        Row("kinks", "fail", "f'(0) = 1 & <not> 0; " * 8),
        Row("vmap", "unsupported", "no \x1b[31mrule\x00"),
        Row("reference", "not applicable", "none"),
        Row("compile", "could not run", ""),
    ],
)


def test_check_report_lists_failures_first_within_80_columns():
    lines = str(REPORT).splitlines()
    assert lines[0] == "mine: 1 fail, 1 could not run, 1 unsupported, 1 pass, 1 not applicable"
    assert max(map(len, lines)) <= 80
    message = [line.split()[0] for line in lines[2:] if not line.startswith(" ")]
    assert message == ["kinks", "compile", "vmap", "shape", "reference"]
    short = CheckReport("mine", [Row(name, "not applicable", "a function has none") for name in "ab"])
    assert [line.split(maxsplit=3)[-1] for line in str(short).splitlines()[2:]] == ["a function has none"] * 2
    assert "\x1b[31mfail" in REPORT.text(colour=True)
    assert not REPORT.passed


def test_check_report_as_junit_and_json():
    suite = ElementTree.fromstring(format_junit([REPORT]).partition("\n")[2]).find("testsuite")
    assert [suite.get(count) for count in ("tests", "failures", "skipped")] == ["5", "1", "3"]
    assert suite.find("testcase[@name='kinks']/failure").get("message").startswith("f'(0) = 1 & <not> 0")
    assert REPORT.to_json()["rows"][0] == {"name": "shape", "status": "pass", "detail": "fine"}


def test_assert_activation_raises_for_failed_rows():
    assert assert_activation(torch.tanh, only=["kinks"]).passed
    with pytest.raises(AssertionError, match=r"failed the check:\nkinks: f'\(0\) = 1, between 0 and 1"):
        assert_activation(lambda x: x.clamp_min(0), only=["kinks", "vmap"])


def test_check_accepts_formula_name_sympy_and_module_as_reference():
    x = sympy.Symbol("x")
    formula = "x * tanh(log(1 + exp(x)))"
    for reference in (formula, "mish", x * sympy.tanh(sympy.log(1 + sympy.exp(x))), actlab.nn.Mish()):
        report = actlab.check("mish", reference=reference, only=["reference"])
        assert report.row("reference").status == "pass", report
    report = actlab.check("relu", reference=formula, only=["reference"])
    assert "by the reference" in report.row("reference").detail


@pytest.mark.parametrize("wrong", ["y * 2", "import os", "__import__('os')", 3])
def test_check_rejects_an_invalid_reference(wrong):
    with pytest.raises(UsageError, match=r"^(reference|formula)[ :]"):
        actlab.check("mish", reference=wrong)


def test_check_rejects_an_empty_selection_of_rows():
    with pytest.raises(UsageError, match="no row is left to run"):
        actlab.check("relu", only="value", skip=["value"])


@pytest.mark.parametrize("options", [{"only": 3}, {"skip": True}, {"dtypes": torch.float32}])
def test_check_rejects_options_that_are_no_lists(options):
    with pytest.raises(UsageError, match=f"^{next(iter(options))} must be a list, got"):
        actlab.check("relu", **options)


def test_check_only_skip_and_dtypes_select_rows():
    names = [row.name for row in actlab.check("relu", only=["value", "kinks"], dtypes=[torch.float32]).rows]
    assert names == ["value float32", "kinks"]
    rows = actlab.check("relu", only=["value", "kinks"], skip=["kinks", "value float16"]).rows
    assert [row.name for row in rows] == ["value float32", "value bfloat16"]
    with pytest.raises(UsageError, match=r"unknown row 'kinkz' \(did you mean 'kinks'"):
        actlab.check("relu", only=["kinkz"])
