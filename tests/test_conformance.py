"""Every law over every definition: a new one is tested by being in the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import actlab
from tests import conformance as law

ALL = list(actlab.catalogue.values())
LINE = [a for a in ALL if not a.facts.gated]
TORCH_EQUIVALENTS = [a for a in ALL if a.facts.torch_equivalent]
INPLACE = [a for a in ALL if a.facts.inplace]
TRAINED = [a for a in LINE if a.formulas.partials and a.name != "rrelu"]

over = pytest.mark.parametrize


def named(activation):  # the test's id
    return activation.name


everything = over("activation", ALL, ids=named)
on_the_line = over("activation", LINE, ids=named)
# torch's own export calls what torch itself deprecates.
quiet = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
OTHER_PARAMETERS = over(
    ("name", "parameters"),
    [
        ("leaky_relu", {"negative_slope": 0.3}),
        ("leaky_relu", {"negative_slope": -0.2}),
        ("elu", {"alpha": 0.5}),
        ("celu", {"alpha": 2.0}),
        ("softplus", {"beta": 2.0}),
        ("hardtanh", {"min_val": -2.0, "max_val": 0.5}),
        ("hardshrink", {"lambd": 1.5}),
        ("softshrink", {"lambd": 0.25}),
        ("squareplus", {"b": 0.5}),
    ],
    ids=str,
)


@on_the_line
@over("dtype", law.DTYPES, ids=lambda d: str(d)[6:])
def test_exact(activation, dtype):
    law.exact(activation, dtype)


@OTHER_PARAMETERS
@over("dtype", [torch.float64, torch.float32], ids=lambda d: str(d)[6:])
def test_exact_with_other_parameters(name, parameters, dtype):
    law.exact(actlab.catalogue[name], dtype, **parameters)


@over("activation", [a for a in LINE if a.formulas.torch_operation], ids=named)
@over("dtype", law.DTYPES, ids=lambda d: str(d)[6:])
def test_exact_when_large(activation, dtype):
    """torch's own operations may take small tensors: the definition's node must be as exact."""
    law.exact(activation, dtype, copies=32 if dtype.itemsize > 2 else 3)


@on_the_line
@over("dtype", law.DTYPES, ids=lambda d: str(d)[6:])
def test_limits_at_infinity(activation, dtype):
    law.limits(activation, dtype)


@on_the_line
def test_kinks_take_the_chosen_subgradient(activation):
    law.kinks(activation)


@on_the_line
def test_range_and_monotonicity(activation):
    law.facts(activation)


@over("activation", TORCH_EQUIVALENTS, ids=named)
def test_agrees_with_torch(activation):
    law.agrees_with_torch(activation)


@everything
def test_saves_what_it_says_and_no_more_than_torch(activation):
    law.saves_what_it_says(activation)


@everything
def test_leaves_no_cycle(activation):
    law.leaves_no_cycle(activation)


@everything
def test_differentiable_in_every_mode(activation):
    law.differentiable(activation)


@over("activation", TRAINED, ids=named)
def test_parameters_are_differentiable(activation):
    law.parameters_differentiable(activation)


@everything
@pytest.mark.filterwarnings("ignore:There is a performance drop .* aten..glu_.*jvp:UserWarning")
def test_transforms(activation):
    law.transforms(activation)


@everything
def test_compiles_through_an_optimiser_step(activation):
    law.compiles(activation)


@pytest.mark.slow
@everything
def test_compiles_with_inductor(activation):
    law.compiles(activation, "inductor")


@everything
@quiet
def test_exports(activation):
    law.exports(activation)


@everything
@quiet
def test_exports_to_onnx(activation):
    law.exports_to_onnx(activation)


@OTHER_PARAMETERS
@quiet
def test_exports_to_onnx_with_other_parameters(name, parameters):
    law.exports_to_onnx(actlab.catalogue[name], **parameters)


@everything
def test_keeps_the_dtype(activation):
    law.dtypes(activation)


@everything
def test_autocast_gives_the_dtype_of_torch(activation):
    law.autocast(activation)


@everything
def test_any_layout(activation):
    law.layouts(activation)


@over("activation", INPLACE, ids=named)
def test_in_place(activation):
    law.works_in_place(activation)


@everything
def test_meta(activation):
    law.meta(activation)


@everything
def test_refuses_what_is_no_float(activation):
    law.refuses(activation)


@everything
def test_module(activation):
    law.module_is_a_good_citizen(activation)


@over("activation", TORCH_EQUIVALENTS, ids=named)
def test_module_looks_like_torch(activation):
    law.module_looks_like_torch(activation)


@pytest.fixture
def fused():
    with actlab.fused():
        yield


@over("name", ["relu", "tanh"])
@over("dtype", [torch.float32, torch.bfloat16], ids=lambda d: str(d)[6:])
def test_exact_when_fused(name, dtype, fused):
    law.exact(actlab.catalogue[name], dtype)


@pytest.mark.slow
@on_the_line
@over("dtype", law.DTYPES, ids=lambda d: str(d)[6:])
def test_everything_is_exact_when_fused(activation, dtype, fused):
    law.exact(activation, dtype)
    law.limits(activation, dtype)


@over("module", [actlab.functional, actlab.nn], ids=lambda m: m.__name__)
def test_the_stub_file_lists_every_name(module):
    stub = Path(module.__file__).with_suffix(".pyi").read_text()
    assert sorted(line.split()[-1] for line in stub.splitlines()) == module.__all__
