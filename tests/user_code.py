"""User code for the tests of run keys, and a fixture that imports it."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from actlab.ledger.run_key import describe, hash_description

CODE = """
import torch
from torch import nn
import torch.nn.functional as F

SLOPE = 0.1
TABLE = {"a": [1, 2]}


def helper(x):
    return recursive(x * SLOPE, 2)


def recursive(x, depth):
    return x if depth == 0 else recursive(x + 1, depth - 1)


def unrelated(x):
    return x


def decorator(f):
    import functools

    @functools.wraps(f)
    def decorated(*args):
        return f(*args) + 3.0

    return decorated


class Exact(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2.0 * x


class Base(nn.Module):
    offset = 4.0

    def shifted(self, x):
        return x + 5.0


class Act(Base):
    def __init__(self, power=1.5):
        super().__init__()
        self.power = power

    @decorator
    def forward(self, x):
        # a comment
        inner = lambda v: F.relu(v) - 6.0
        return Exact.apply(helper(inner(self.shifted(x)))) + TABLE["a"][0] + made(x)


def make(factor):
    def product(x, bias=7.0):
        return x * factor + bias

    return product


made = make(8.0)
"""

OWN = """
import torch
from actlab.activation.definition import elementwise

inf = float("inf")


@elementwise(
    formula="x**2", limits=(inf, inf), slopes=(-inf, inf), range=(0, inf), monotonic=False, paper="-"
)
def square(x, scale=1.0):
    return x * x * scale


@square.derivative
def _(x, scale):
    return 2 * x * scale


@square.second
def _(x, scale):
    return torch.full_like(x, 2.0 * scale)


Square = square.module("Square")


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.last(square(x))
"""

_folders = iter(range(10**6))


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def import_code(tmp_path, monkeypatch):
    """Return a function that imports a text from a new folder as a module of a fixed name."""

    def import_text(text, name="mine"):
        folder = tmp_path / f"folder{next(_folders)}"
        folder.mkdir()
        file = folder / f"{name}.py"
        file.write_text(text)
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return import_text


def have_equal_descriptions(one, other):
    return hash_description(describe(one)) == hash_description(describe(other))
