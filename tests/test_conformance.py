"""Every law for every definition in the catalogue, including new ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import actlab
from tests import conformance as law

ALL = list(actlab.catalogue.values())
ELEMENTWISE = [a for a in ALL if not a.facts.gated]
TORCH_EQUIVALENTS = [a for a in ALL if a.facts.torch_equivalent]
INPLACE = [a for a in ALL if a.facts.inplace]
TRAINED = [a for a in ELEMENTWISE if a.formulas.partials and a.name != "rrelu"]

parametrize = pytest.mark.parametrize


def name_of(activation):
    return activation.name


every_activation = parametrize("activation", ALL, ids=name_of)
every_elementwise = parametrize("activation", ELEMENTWISE, ids=name_of)
# Compiling or exporting five takes little longer than one.
five_activations = parametrize(
    "activations",
    [ALL[start : start + 5] for start in range(0, len(ALL), 5)],
    ids=lambda activations: "-".join(map(name_of, activations)),
)
# torch.export calls a function that torch itself deprecates.
quiet = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
OTHERS = [
    ("leaky_relu", {"negative_slope": 0.3}),
    ("leaky_relu", {"negative_slope": -0.2}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 2.0}),
    ("softplus", {"beta": 2.0}),
    ("hardtanh", {"min_val": -2.0, "max_val": 0.5}),
    ("hardshrink", {"lambd": 1.5}),
    ("softshrink", {"lambd": 0.25}),
    ("squareplus", {"b": 0.5}),
]
OTHER_PARAMETERS = parametrize(("name", "parameters"), OTHERS, ids=str)


@every_elementwise
@parametrize("dtype", law.DTYPES, ids=lambda d: str(d)[6:])
def test_activation_is_exact(activation, dtype):
    law.exact(activation, dtype)


@OTHER_PARAMETERS
@parametrize("dtype", [torch.float64, torch.float32], ids=lambda d: str(d)[6:])
def test_activation_is_exact_with_other_parameters(name, parameters, dtype):
    law.exact(actlab.catalogue[name], dtype, **parameters)


@parametrize("activation", [a for a in ELEMENTWISE if a.formulas.torch_operation], ids=name_of)
@parametrize("dtype", law.DTYPES, ids=lambda d: str(d)[6:])
def test_activation_is_exact_for_large_tensors(activation, dtype):
    """torch operations can serve small tensors; the definition's own function must be equally exact."""
    law.exact(activation, dtype, copies=32 if dtype.itemsize > 2 else 3)


@every_elementwise
@parametrize("dtype", law.DTYPES, ids=lambda d: str(d)[6:])
def test_activation_limits_at_infinity(activation, dtype):
    law.limits(activation, dtype)


@every_elementwise
def test_activation_kinks_have_the_declared_gradient(activation):
    law.kinks(activation)


@every_elementwise
def test_activation_range_and_monotonicity(activation):
    law.range_and_monotonicity(activation)


@parametrize("activation", TORCH_EQUIVALENTS, ids=name_of)
def test_activation_agrees_with_torch(activation):
    law.agrees_with_torch(activation)


@every_activation
def test_activation_saves_as_declared_and_no_more_than_torch(activation):
    law.saves_as_declared(activation)


@every_activation
def test_activation_leaves_no_reference_cycle(activation):
    law.leaves_no_cycle(activation)


@every_activation
def test_activation_is_differentiable_in_every_mode(activation):
    law.differentiable(activation)


@parametrize("activation", TRAINED, ids=name_of)
def test_activation_parameters_are_differentiable(activation):
    law.parameters_differentiable(activation)


@every_activation
@pytest.mark.filterwarnings("ignore:There is a performance drop .* aten..glu_.*jvp:UserWarning")
def test_activation_works_under_torch_func_transforms(activation):
    law.transforms(activation)


@five_activations
def test_activations_compile_through_an_optimizer_step(activations):
    law.compiles(*activations)


@pytest.mark.slow
@every_activation
def test_activation_compiles_with_inductor(activation):
    law.compiles(activation, backend="inductor")


@every_activation
@quiet
def test_activation_exports(activation):
    law.exports(activation)


@quiet
def test_activations_with_other_parameters_export_to_onnx():
    law.modules_agree_in_onnx([law.module(actlab.catalogue[name], **values) for name, values in OTHERS])


@every_activation
def test_activation_keeps_the_dtype(activation):
    law.dtypes(activation)


@every_activation
def test_activation_under_autocast_has_the_dtype_of_torch(activation):
    law.autocast(activation)


@every_activation
def test_activation_accepts_any_memory_layout(activation):
    law.layouts(activation)


@parametrize("activation", INPLACE, ids=name_of)
def test_activation_works_in_place(activation):
    law.works_in_place(activation)


@every_activation
def test_activation_works_on_the_meta_device(activation):
    law.meta(activation)


@every_activation
def test_activation_rejects_dtypes_that_are_not_floating_point(activation):
    law.refuses(activation)


@every_activation
def test_activation_module_copies_pickles_and_resets(activation):
    law.module_copies_and_resets(activation)


@parametrize("activation", TORCH_EQUIVALENTS, ids=name_of)
def test_activation_module_has_the_repr_and_arguments_of_torch(activation):
    law.module_looks_like_torch(activation)


@pytest.fixture
def fused():
    with actlab.fused():
        yield


@parametrize(("name", "dtype"), [("relu", torch.bfloat16), ("tanh", torch.float32)])
def test_fused_activation_is_exact(name, dtype, fused):
    law.exact(actlab.catalogue[name], dtype)


@pytest.mark.slow
@every_elementwise
@parametrize("dtype", law.DTYPES, ids=lambda d: str(d)[6:])
def test_every_fused_activation_is_exact(activation, dtype, fused):
    law.exact(activation, dtype)
    law.limits(activation, dtype)


@parametrize("module", [actlab.functional, actlab.nn], ids=lambda m: m.__name__)
def test_stub_file_lists_every_public_name(module):
    stub = Path(module.__file__).with_suffix(".pyi").read_text()
    assert sorted(line.split()[-1] for line in stub.splitlines()) == module.__all__
