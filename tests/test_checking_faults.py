"""check detects each fault in the row for it; the same row passes for a sound version."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import relu6, softplus

import actlab
from tests import faulty_activations as faulty
from tests.faulty_activations import Scaled, double_mish

# Fault: faulty target, row that fails, part of its message, and sound target.
FAULTS: dict[str, tuple[Any, str, str, Any]] = {
    # values
    "wrong sign": (faulty.negative_tanh, "reference", ") = -0.759169946, expected 0.759169946", torch.tanh),
    "off by a factor": (faulty.scaled_tanh, "reference", "by the reference", torch.tanh),
    "double computed in float32": (faulty.tanh_in_single_precision, "reference", "f(", torch.tanh),
    "wrong in double alone": (faulty.tanh_wrong_in_double, "value float32", "eps, allowed 16", torch.tanh),
    "wrong beyond 50": (
        faulty.tanh_wrong_far_out,
        "value float32",
        "f(-50.0754) = -1.01, expected -1",
        torch.tanh,
    ),
    "cancels in bfloat16": (
        faulty.tanh_by_exp_in(torch.bfloat16),
        "value bfloat16",
        "worst 128 at x = -0.000793457",
        torch.tanh,
    ),
    "exp overflows in float32": (
        faulty.mish_by_exp_in(torch.float32),
        "finite float32",
        "= nan, expected 1",
        double_mish,
    ),
    "exp overflows in float16": (
        faulty.mish_by_exp_in(torch.float16),
        "finite float16",
        "= nan, expected 1",
        double_mish,
    ),
    "NaN swallowed": (
        faulty.relu_that_drops_nan,
        "infinities float32",
        "f(nan) = 0, expected nan",
        torch.relu,
    ),
    # the call
    "flattens": (faulty.relu_that_flattens, "shape", "(6, 8) gives (48,)", torch.relu),
    "returns two": (faulty.relu_and_mask, "shape", "returns a tuple", torch.relu),
    "works in place": (faulty.relu_in_place, "input unchanged", "to 0", torch.relu),
    "promotes": (
        faulty.tanh_with_float32_constant,
        "dtype",
        "a float16 input gives a float32 output",
        torch.tanh,
    ),
    "noise": (faulty.noisy_tanh, "deterministic", "after another call", torch.tanh),
    "counts its calls": (faulty.TanhThatShrinks(), "deterministic", "after another call", torch.tanh),
    "remembers an input": (faulty.TanhOfFirstScale(), "deterministic", "after another call", torch.tanh),
    "in storage order": (
        faulty.tanh_in_storage_order,
        "non-contiguous",
        "a transposed view with strides",
        torch.tanh,
    ),
    "writes over shared memory": (
        faulty.tanh_into_same_strides,
        "expanded",
        "more than one element",
        torch.tanh,
    ),
    "sums in shared memory": (
        faulty.tanh_that_sums_shared_memory,
        "expanded",
        "give different gradients",
        faulty.tanh,
    ),
    "largest of none": (faulty.tanh_by_largest, "empty", "max()", torch.tanh),
    "at least a row": (faulty.tanh_at_least_a_row, "zero-dimensional", "shape () gives (1,)", torch.tanh),
    "mixes dtypes of autocast": (faulty.tanh_by_matmul, "autocast", "dtype", torch.tanh),
    # derivatives
    "detached": (faulty.detached_tanh, "first derivative", "detached", torch.tanh),
    "NaN through where": (
        faulty.softplus_by_where,
        "first derivative",
        "= nan, expected 1",
        softplus,
    ),
    "slope of another branch": (
        faulty.relu6_with_slope_of_relu,
        "first derivative",
        "= 1, expected 0",
        relu6,
    ),
    "slope of wrong sign": (
        faulty.tanh_with_negative_slope,
        "first derivative",
        "= -0.412153255, expected 0.4121",
        faulty.tanh,
    ),
    "slope off by a factor": (faulty.tanh_with_slope_off, "first derivative", "= 0.412565409, ", faulty.tanh),
    "slope beyond 50": (faulty.tanh_with_slope_far_out, "first derivative", "= 0.001, exp", faulty.tanh),
    "slope of waves": (faulty.waves_with_slope_far_out, "first derivative", "f'(", faulty.waves),
    "slope in single precision": (
        faulty.tanh_with_single_slope,
        "reference",
        "f'(",
        faulty.tanh,
    ),
    "slope rounded to bfloat16": (
        faulty.tanh_with_rounded_slope,
        "gradient float32",
        "eps, allowed 16",
        faulty.tanh,
    ),
    "slope wrong in half alone": (
        faulty.tanh_with_wrong_half_slope,
        "gradient float16",
        "eps, allowed 16",
        faulty.tanh,
    ),
    "gradient of another shape": (
        faulty.tanh_with_flat_gradient,
        "first derivative",
        "invalid gradient",
        faulty.tanh,
    ),
    "saved intermediate": (faulty.MishOfSaved, "second derivative", "f''(", double_mish),
    "nothing but intermediates": (
        faulty.TanhOfSaved,
        "second derivative",
        "cannot be differentiated, expected f''",
        torch.tanh,
    ),
    "slope 1 at 0": (faulty.relu_with_one_at_zero, "kinks", "f'(0) = 1, between 0 and 1", faulty.relu),
    "slope 2 at 0": (faulty.relu_with_two_at_zero, "kinks", "f'(0) = 2, expected from 0 to 1", faulty.relu),
    "slope 1 at a ceiling": (faulty.ceiling_with_one_at_one, "kinks", "f'(1) = 1, between 1 and 0", relu6),
    # torch's transforms
    "item under vmap": (faulty.relu_by_item, "vmap", ".item()", torch.relu),
    "vmap over another dimension": (
        faulty.tanh_with_wrong_vmap_dimension,
        "vmap",
        "vmap over another dimension has shape",
        faulty.tanh,
    ),
    "vmap of another function": (faulty.tanh_with_vmap_without_tanh, "vmap", "vmap is", faulty.tanh),
    "jvp off by a factor": (faulty.tanh_with_jvp_off, "forward mode", "the tangent is", faulty.tanh),
    "jvp of wrong sign": (faulty.tanh_with_jvp_negative, "forward mode", "the tangent is", faulty.tanh),
    "item in backward": (faulty.tanh_with_backward_by_item, "batched gradients", "aten::item", faulty.tanh),
    "item in backward, per sample": (
        faulty.tanh_with_backward_by_item,
        "func.grad",
        ".item()",
        faulty.tanh,
    ),
    # modules
    "mean instead of sum": (faulty.ScaledByMean, "parameters", "the gradient of scale[0] is", Scaled),
    "parameter out of the graph": (faulty.ScaledByNumber, "parameters", "scale gets no gradient", Scaled),
    "state missing": (faulty.ScaledWithoutState, "state_dict", "lacks scale", Scaled),
    "tensor instead of parameter": (
        faulty.ScaledByTensor,
        "state_dict",
        "lacks scale, which requires",
        Scaled,
    ),
    "parameter in a list": (faulty.ScaledByList, "state_dict", "lacks scales", Scaled),
    "copy shares": (faulty.ScaledShared, "deepcopy", "changed the module", Scaled),
    "copy starts with initial values": (
        faulty.ScaledCopiedInitial,
        "deepcopy",
        "has a different scale",
        Scaled,
    ),
    "copy computes less": (faulty.ScaledLessByCopy, "deepcopy", "gives different values", Scaled),
    "state not loaded": (faulty.ScaledWithoutLoading, "state_dict", "gives different values", Scaled),
    "lambda in a module": (faulty.ScaledByLambda, "pickle", "cannot be pickled", Scaled),
}


def one_row(target: Any, row: str) -> actlab.checking.Row:
    reference = "tanh(x)" if row == "reference" else None
    return actlab.check(target, only=[row], reference=reference).row(row)


@pytest.mark.parametrize(("target", "row", "message", "sound"), FAULTS.values(), ids=FAULTS)
def test_check_fails_the_row_of_a_fault(target, row, message, sound):
    result = one_row(target, row)
    assert result.status == "fail", result
    assert message in result.detail
    assert one_row(sound, row).status == "pass", one_row(sound, row)


@pytest.mark.parametrize(
    "sound",
    [faulty.tanh, faulty.relu, faulty.relu6, double_mish, Scaled],
    ids=["tanh", "relu", "relu6", "mish", "scaled"],
)
def test_check_passes_sound_targets_in_all_rows(sound):
    report = actlab.check(sound, skip=["export", "compile"])
    assert {row.status for row in report.rows} == {"pass", "not applicable"}, report


@pytest.mark.slow
@pytest.mark.parametrize("row", ["export", "compile"])
def test_check_compile_and_export_fail_for_item(row):
    result = one_row(faulty.relu_by_item, row)
    assert result.status == "fail", result
    assert one_row(nn.ReLU, row).status == "pass"


# -- correct targets that resemble faults ------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "row", "status"),
    [
        (nn.Threshold(0.1, 20.0), "value float32", "pass"),  # 0.1 in float32 is larger than 0.1 in float64
        (nn.Threshold(0.1, 20.0), "gradient float32", "pass"),
        (torch.round, "first derivative", "pass"),  # for large inputs it is close to the identity
        (nn.PReLU(8), "zero-dimensional", "not applicable"),
        (nn.BatchNorm1d(8), "zero-dimensional", "not applicable"),
        (nn.Linear(8, 8), "kind", "pass"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_check_row_has_no_false_alarm(sound, row, status):
    assert one_row(sound, row).status == status, one_row(sound, row)


def test_check_state_dict_passes_for_parameters_also_in_a_list():
    class Listed(Scaled):
        def __init__(self) -> None:
            super().__init__()
            self.all = [self.scale]

    assert one_row(Listed, "state_dict").status == "pass"


# -- names and errors of targets in the report --------------------------------------------------------


def test_check_escapes_control_characters_of_an_error():
    def rings(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("\x1b[31mred\x07 \ud800")

    report = actlab.check(rings, only=["shape"])
    assert report.row("shape").detail == r"RuntimeError: \x1b[31mred\x07 \ud800"
    actlab.checking.format_junit([report]).encode()


def test_check_report_wraps_a_long_name():
    report = actlab.checking.CheckReport("a/folder/" * 12 + "file.py:name", [])
    assert max(map(len, str(report).splitlines())) <= 80


def test_check_names_a_function_by_its_class():
    assert actlab.check(faulty.TanhOnce.apply, only=["shape"]).target == "TanhOnce"


@pytest.mark.parametrize("wrong", ["float32", torch.int64])
def test_check_rejects_an_invalid_dtype(wrong):
    with pytest.raises(actlab.UsageError, match="must be a floating-point"):
        actlab.check("relu", dtypes=[wrong])


def test_check_loads_a_file_with_the_name_of_a_module(tmp_path):
    path = tmp_path / "random.py"
    path.write_text("from torch import nn\n\n\nclass Mine(nn.ReLU):\n    pass\n")
    assert one_row(f"{path}:Mine", "pickle").status == "pass"
    broken = tmp_path / "raises_on_import.py"
    broken.write_text("x = 1 / 0\n")
    with pytest.raises(actlab.UsageError, match="ZeroDivisionError"):
        actlab.check(f"{broken}:f")
    assert "raises_on_import" not in sys.modules
