"""check detects faults outside a single call with a gradient of ones, and passes sound activations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import actlab
from actlab.checking.tensor_comparison import are_equal, format_pair, is_close
from tests import faulty_in_other_calls as faulty
from tests.faulty_activations import TanhOnce, node, tanh_with_slope_off
from tests.sound_activations import EXPECTED, SOUND, largest_fifth


def check_row(target, row):
    return actlab.check(target, only=[row]).row(row)


def assert_fails(target, row, message):
    result = check_row(target, row)
    assert result.status == "fail", result
    assert message in result.detail, result


@pytest.mark.parametrize("fault", faulty.LINEAR)
def test_check_refuses_a_backward_that_is_not_linear(fault):
    message = "incoming gradient of nan" if fault == "hides NaN" else "not linear in the incoming gradient: "
    assert_fails(faulty.LINEAR[fault], "linear backward", message)


def test_check_refuses_a_backward_that_mixes_elements_and_is_not_linear():
    assert_fails(faulty.softmax_of_magnitude, "linear backward", "not linear in the incoming gradient: gives")
    assert check_row(nn.Softmax(-1), "linear backward").status == "pass"


def test_check_names_the_incoming_gradient_and_the_input():
    detail = check_row(faulty.LINEAR["clamps it"], "linear backward").detail
    # The largest error: -8 is cut to -1, and the slope of tanh there is 0.985673033.
    assert "-8 at x = 0.120272 gives -0.985673033, expected -7.88538426" in detail


@pytest.mark.parametrize("fault", faulty.UNCHANGED)
def test_check_refuses_a_backward_that_writes(fault):
    message = {
        "writes into the output": "changes the output of forward",
        "writes into the input": "changes the input of forward",
        "writes into its saved slope": "second backward through the same output",
    }
    assert_fails(faulty.UNCHANGED[fault], "grad unchanged", message.get(fault, "incoming gradient from"))


@pytest.mark.parametrize("fault", faulty.INPUT)
def test_check_refuses_a_forward_that_writes_into_its_input(fault):
    assert_fails(faulty.INPUT[fault], "input unchanged", "" if fault == "in training" else fault)


@pytest.mark.parametrize("fault", faulty.REPEATED)
def test_check_refuses_results_that_depend_on_earlier_calls(fault):
    result = check_row(faulty.REPEATED[fault](), "repeated calls")
    assert result.status == "fail", result


@pytest.mark.parametrize("fault", faulty.MODES)
def test_check_refuses_values_that_depend_on_the_grad_mode(fault):
    assert_fails(faulty.MODES[fault], "grad modes", "-4.60852) = -1, expected -0.999801")


@pytest.mark.parametrize("fault", faulty.TRAINING, ids=lambda module: module.__name__)
def test_check_refuses_a_wrong_gradient_in_training_mode(fault):
    assert_fails(fault, "training mode", "in training mode, the gradient along a direction is ")
    assert check_row(fault, "first derivative").status == "pass"


@pytest.mark.parametrize(
    "fault", faulty.AUTOCAST, ids=lambda function: getattr(function, "__name__", "slope")
)
def test_check_refuses_overflow_under_autocast(fault):
    quantity = "gradient at" if fault is faulty.slope_in_autocast_dtype else "value at"
    assert_fails(fault, "autocast", f"under autocast to float16 the {quantity} x = ")


@pytest.mark.parametrize("fault", faulty.ZEROS)
def test_check_refuses_a_different_result_at_negative_zero(fault):
    assert_fails(faulty.ZEROS[fault], "signed zero", "(-0.0) = ")


@pytest.mark.parametrize("fault", faulty.PENALTY)
def test_check_refuses_a_gradient_that_a_penalty_cannot_train(fault):
    assert_fails(faulty.PENALTY[fault], "second derivative", "incoming gradient")


class ReLUOnce(TanhOnce):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x > 0)


class HardtanhOnce(ReLUOnce):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.abs() - 1)
        return x.clamp(-1, 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x < 0)


class IdentityOnce(ReLUOnce):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad.clone()


@pytest.mark.parametrize("target", [TanhOnce, ReLUOnce, HardtanhOnce, IdentityOnce])
def test_check_reports_once_differentiable_as_unsupported(target):
    result = check_row(target, "second derivative")
    assert (result.status, result.detail) == ("unsupported", "backward is marked @once_differentiable")


@pytest.mark.parametrize("name", SOUND)
def test_check_passes_sound_activations(name):
    report = actlab.check(SOUND[name], skip=["export", "compile"])
    statuses = {row.name: row.status for row in report.rows if row.status not in ("pass", "not applicable")}
    assert statuses == dict.fromkeys(EXPECTED.get(name, ()), "unsupported"), report


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "relu in place",
        "elu in place",
        "in place at the end",
        "function in place",
        "relu_",
        "swish with a parameter",
    ],
)
def test_check_compiles_and_exports_modules_in_place(name):
    report = actlab.check(SOUND[name], only=["shape", "export", "compile"])
    assert [row.status for row in report.rows] == ["pass"] * 3, report


def test_check_kinks_compares_the_gradient_beside_a_jump_with_the_values():
    def slope(x):  # wrong between two points of the row "first derivative"
        return 1 - x.tanh() ** 2 + 0.1 * ((x > 1.3) & (x < 1.32))

    target = node(slope=slope)
    assert check_row(target, "first derivative").status == "pass"
    assert_fails(target, "kinks", "f'(1.30039) = 0.357260214, expected 0.257260213")


def test_check_compiles_after_this_process_has_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # a cached kernel is not compiled
    torch.compile(lambda x: torch.sinh(x) + 0.125)(torch.ones(8))
    assert check_row(lambda x: torch.sinh(x) - 0.125, "compile").status == "pass"


@pytest.mark.slow  # a busy machine may compile for longer than the limit of the check
def test_check_calls_a_module_that_this_process_has_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled = torch.compile(torch.nn.ReLU())
    compiled(torch.ones(8))
    assert check_row(compiled, "shape").status == "pass"


@pytest.mark.parametrize(
    "function", [torch.log, torch.sqrt, torch.acosh, torch.asin, lambda x: x.log().relu()]
)
def test_check_treats_nan_as_equal_to_nan(function):
    rows = ["deterministic", "repeated calls", "vmap", "func.grad", "non-contiguous", "expanded", "autocast"]
    report = actlab.check(function, only=[*rows, "forward mode", "batched gradients", "grad modes"])
    assert {row.status for row in report.rows} == {"pass"}, report


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / 0,
        lambda x: x * torch.nan,
        lambda x: (x + torch.inf).tanh() / 0,
        lambda x: x.softmax(-1) * 1e60,
    ],
    ids=["infinite", "nan", "infinite and flat", "too large and mixing"],
)
def test_check_raises_no_internal_error_without_a_finite_value(function):
    report = actlab.check(function, skip=["export", "compile"])
    assert not [row for row in report.rows if "Error" in row.detail], report


def test_check_finds_no_kink_where_the_slope_is_steep():
    result = check_row(lambda x: torch.sqrt(x * x + 1e-10), "kinks")  # from -1 to 1 within 1e-5
    assert (result.status, result.detail) == ("pass", "none between -10 and 10")


def test_check_accepts_a_linear_backward_with_cancellation():
    def sinc(x):
        return torch.where(x == 0, torch.ones_like(x), torch.sin(x) / x)

    report = actlab.check(sinc, only=["linear backward"], dtypes=[torch.float32])
    assert report.row("linear backward").status == "pass", report


def test_check_ignores_products_that_overflow():
    assert check_row(lambda x: torch.exp(x) * torch.tanh(x), "linear backward").status == "pass"


def test_check_reports_a_nan_slope_only_under_first_derivative():
    def elu_of_where(x):
        return torch.where(x > 0, x, x * torch.exp(x))

    statuses = {n: check_row(elu_of_where, n).status for n in ("first derivative", "second derivative")}
    assert statuses["first derivative"] == "fail"
    assert "with respect to the incoming" not in check_row(elu_of_where, "second derivative").detail


def test_check_reports_a_wrong_gradient_once():
    report = actlab.check(tanh_with_slope_off, only=["repeated calls", "first derivative"])
    assert [row.status for row in report.rows] == ["pass", "fail"]


def test_check_compares_infinities_of_another_dtype():
    class Promotes(nn.Module):
        def forward(self, x):
            return torch.ones(1) * x.tanh()

    assert "Float did not match" not in str(actlab.check(Promotes, only=["infinities"]))


@pytest.mark.parametrize("function", [largest_fifth, lambda x: x * (x > x.max() - 4)], ids=["fifth", "near"])
def test_check_detects_mixed_elements(function):
    assert "not element-wise" in check_row(function, "kind").detail


def test_format_pair_prints_enough_digits_to_differ():
    assert format_pair(-14.04254381, -14.04254382) == ("-14.04254381", "-14.04254382")
    assert format_pair(1.0, 1.0 + 2**-52) == ("1", "1.0000000000000002")
    assert format_pair(0.25, 0.5) == ("0.25", "0.5")
    assert format_pair(float("nan"), 1.0) == ("nan", "1")


def test_close_and_same_compare_nan_and_infinity_as_values():
    one = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, 1e10], dtype=torch.float64)
    two = torch.tensor([1.0 + 1e-7, torch.nan, torch.inf, torch.inf, 1e10 * (1 + 1e-6)], dtype=torch.float64)
    assert is_close(one, two, 1e-6).tolist() == [True, True, True, False, True]
    assert are_equal(one, one)
    assert not are_equal(one, two)
    assert not are_equal(one, one[:2])


def test_check_prints_a_reason_once():
    lines = str(
        actlab.check(SOUND["notebook's relu"], only=["forward mode", "vmap", "func.grad"])
    ).splitlines()
    assert lines == [
        "NotebookReLU: 3 unsupported",
        "",
        "forward mode  unsupported     forward takes ctx: torch.func needs a separate",
        "                              setup_context",
        "vmap          unsupported     same as forward mode",
        "func.grad     unsupported     same as forward mode",
    ]
