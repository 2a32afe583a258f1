"""Fused mode: enabled only in its block, one log line, one kernel for all sizes."""

from __future__ import annotations

import logging
import subprocess
import sys

import torch
from torch._dynamo.utils import counters

import actlab
from actlab.activation.fused_kernels import _compile


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    y.sum().backward()
    return y.detach(), x.grad


def test_fused_logs_once_and_uses_one_kernel_for_all_sizes(caplog):
    _compile.cache_clear()
    torch.compiler.reset()
    counters.clear()
    caplog.set_level(logging.INFO, logger="actlab")
    shapes = ((5,), (64, 3), (2, 3, 4), (1000,))
    with actlab.fused():
        fused = [value_and_gradient(actlab.functional.silu, torch.ones(shape)) for shape in shapes]
    for shape, pair in zip(shapes, fused, strict=True):
        for got, expected in zip(
            pair, value_and_gradient(actlab.functional.silu, torch.ones(shape)), strict=True
        ):
            assert got.shape == shape
            torch.testing.assert_close(got, expected)
    assert [record.message for record in caplog.records if record.name == "actlab"] == [
        "fused mode: compiling the first kernel; each new kernel takes a few seconds"
    ]
    assert counters["stats"]["unique_graphs"] == 2  # the value and the gradient


def test_fused_restores_the_previous_mode():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    _compile.cache_clear()
    with actlab.fused(), actlab.fused(False):
        actlab.functional.silu(x).sum().backward()
    actlab.functional.silu(x).sum().backward()
    assert _compile.cache_info().misses == 0


def test_importing_actlab_compiles_nothing():
    report = "print([name for name in ('torch._dynamo', 'sympy', 'skorch') if name in sys.modules])"
    code = f"import sys, torch; {report}; import actlab.nn, actlab.functional; {report}"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    bare, ours = process.stdout.splitlines()
    assert ours == bare
