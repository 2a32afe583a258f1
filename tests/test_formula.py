"""Activations from formulas in text, in typical use."""

import copy
import importlib.util
import json
import math
import os
import pickle
import re
import sys
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import actlab
from actlab.cli import main
from actlab.derivation import formula_activation
from actlab.derivation.formula_activation import formula, make_name
from actlab.derivation.formula_derivation import derive
from actlab.derivation.syntax.to_sympy import read_formula
from actlab.ledger.run_key import describe, hash_description
from tests.processes import run_process

# Other tests measure the accuracy of the derivation.
pytestmark = pytest.mark.filterwarnings("ignore::actlab.FormulaWarning")

MISH = "x * tanh(softplus(x))"
SWISH = "x * sigmoid(beta * x)"
WARNING_TEXT = "it loses digits for x > 9"
TEXTS = [
    MISH,
    "where(x > 0, x, exp(x) - 1)",
    "x * sigmoid(1.702 * x) + relu(x)",
    "clip(x, -1, 1) + abs(x) / 9",
]


def points(dtype=torch.float64, **options):
    return torch.tensor([-3.0, -1.2, -0.4, 0.3, 0.9, 2.5], dtype=dtype, **options)


def swish(**options):
    return formula(SWISH, parameters={"beta": 1.5}, **options)


# -- values and derivatives ------------------------------------------------------------------------


def test_formula_returns_an_activation():
    activation = formula(MISH, name="my_mish")
    assert isinstance(activation, actlab.Activation)
    assert repr(activation) == "<activation my_mish: x * tanh(softplus(x))>"
    assert activation.__doc__.startswith("``x * tanh(softplus(x))``, made from its formula.")
    assert (activation.name, activation.parameters, activation.facts.formula) == ("my_mish", {}, MISH)
    assert repr(activation.module_class()) == "MyMish()"
    assert torch.allclose(activation(points()), nn.functional.mish(points()), rtol=1e-14)


def test_formula_parameters_have_defaults_and_can_be_passed():
    activation = swish()
    x = points()
    expected = x * torch.sigmoid(3.0 * x)
    for result in (
        activation(x, 3.0),
        activation(x, beta=3.0),
        activation.module_class(3.0)(x),
        activation.module_class(beta=3)(x),
    ):
        assert torch.allclose(result, expected, rtol=1e-14)
    assert torch.allclose(activation(x), x * torch.sigmoid(1.5 * x), rtol=1e-14)
    assert repr(activation.module_class()).endswith("(beta=1.5)")
    with pytest.raises(TypeError, match=r"argument 'alpha' is unknown; it takes \['beta'\]"):
        activation(x, alpha=1)
    with pytest.raises(NotImplementedError, match="'beta' must be a number, not a tensor"):
        activation(x, torch.tensor(1.0))


@pytest.mark.parametrize("text", TEXTS)
def test_formula_supports_derivatives_and_transforms(text):
    activation = formula(text)
    x = points(requires_grad=True)
    assert torch.autograd.gradcheck(activation, x)
    assert torch.autograd.gradgradcheck(activation, x)
    slope = torch.func.vmap(torch.func.grad(activation))(points())
    (backward,) = torch.autograd.grad(activation(x).sum(), x)
    assert torch.allclose(slope, backward, rtol=1e-14)
    value, tangent = torch.func.jvp(activation, (points(),), (torch.ones(6, dtype=torch.float64),))
    assert torch.allclose(value, activation(points()), rtol=1e-14)
    assert torch.allclose(tangent, backward, rtol=1e-14)
    assert torch.allclose(torch.func.vmap(activation)(points().view(2, 3)).flatten(), value, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_formula_keeps_the_dtype(dtype):
    activation = formula(MISH)
    x = points(dtype, requires_grad=True)
    y = activation(x)
    assert y.dtype is dtype
    assert torch.allclose(y.double(), activation(x.double()), rtol=4 * torch.finfo(dtype).eps)
    y.sum().backward()
    assert x.grad.dtype is dtype


@pytest.mark.parametrize("trainable", [(), ("beta",)])
def test_formula_compiles_without_graph_breaks(trainable):
    module = swish(trainable=trainable).module_class().double()
    x, y = points(requires_grad=True), points(requires_grad=True)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    (compiled(x) * 2).sum().backward()
    (module(y) * 2).sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-12)


def test_formula_in_fused_mode_computes_the_same():
    activation = formula(MISH)
    x, y = points(torch.float32, requires_grad=True), points(torch.float32, requires_grad=True)
    with actlab.fused():
        activation(x).sum().backward()
    activation(y).sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-5)


def test_formula_at_sets_the_derivative_at_a_kink():
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    activation = formula("max(x, 0)", at={0: 0.5}, name="half")
    (slope,) = torch.autograd.grad(activation(x).sum(), x)
    assert slope.tolist() == [0.0, 0.5, 1.0]
    assert dict(activation.kinks()) == {0.0: 0.5}


def test_formula_returns_the_same_object_for_equal_arguments():
    assert formula(MISH) is formula(MISH)
    assert formula("  x *\n tanh(x)") is formula("x * tanh(x)")
    assert formula(MISH) is not formula(MISH, name="other")


# -- trained parameters ----------------------------------------------------------------------------


def test_formula_trainable_parameter_is_trained():
    module = swish(trainable=["beta"]).module_class(beta=0.5)
    assert [(name, p.item()) for name, p in module.named_parameters()] == [("beta", 0.5)]
    x = torch.linspace(-4, 4, 200)
    target = x * torch.sigmoid(2.0 * x)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(module(x), target)
        loss.backward()
        optimizer.step()
    assert module.beta.item() == pytest.approx(2.0, abs=0.05)
    module.reset_parameters()
    assert module.beta.item() == 0.5


def test_formula_trainable_parameters_pass_gradcheck():
    text = "a * x + where(x > 0, x, b * (exp(x) - 1))"
    activation = formula(text, parameters={"a": 0.1, "b": 2}, trainable=("a", "b"))
    parameter_tensors = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.1, 2.0)]
    assert torch.autograd.gradcheck(activation, (points(requires_grad=True), *parameter_tensors))


def test_formula_fixed_parameters_are_attributes():
    activation = formula("a * x + b * tanh(x)", parameters={"a": 0.1, "b": 2}, trainable=["b"], name="leak")
    module = activation.module_class(a=0.2, dtype=torch.float64)
    assert repr(module) == "Leak(a=0.2)"
    assert module.b.dtype is torch.float64
    assert list(module.state_dict()) == ["b"]


# -- copies, processes and keys --------------------------------------------------------------------


def test_formula_copies_and_pickles_are_equal():
    activation = swish(trainable=["beta"], name="copied")
    module = activation.module_class(0.7)
    assert pickle.loads(pickle.dumps(activation)) is activation  # noqa: S301
    assert copy.deepcopy(activation) is activation
    assert pickle.loads(pickle.dumps(activation.module_class)) is activation.module_class  # noqa: S301
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301
        assert type(other) is type(module)
        assert other.beta is not module.beta
        assert torch.equal(other(points(torch.float32)), module(points(torch.float32)))


def key(activation):
    return hash_description(describe(activation.module_class()))


def test_formula_description_depends_on_the_computation():
    one = swish()
    others = [
        formula(SWISH, parameters={"beta": 1.25}, name=one.name),
        formula("x * sigmoid(-beta * x)", parameters={"beta": 1.5}, name=one.name),
        swish(trainable=["beta"], name=one.name),
        formula(f"{SWISH} + abs(x)", parameters={"beta": 1.5}, name=one.name),
        formula(f"{SWISH} + abs(x)", parameters={"beta": 1.5}, at={0: 0.5}, name=one.name),
    ]
    assert len({key(one), *map(key, others)}) == 6


def test_formula_pickle_description_and_derivation_are_equal_in_another_process(tmp_path):
    """Another hash seed changes the order of sets."""
    activation = swish(trainable=["beta"], name="sent")
    module = activation.module_class(0.7)
    (tmp_path / "formula.pickle").write_bytes(pickle.dumps([activation, activation.module_class, module]))
    text = "elu(x, 0.5) * a + gelu(x)"
    code = f"""
import pickle, torch
from actlab.derivation.formula_activation import formula
from actlab.derivation.formula_derivation import derive
from actlab.derivation.syntax.to_sympy import read_formula
from actlab.ledger.run_key import describe, hash_description
made, kind, module = pickle.load(open("formula.pickle", "rb"))
assert kind is made.module_class and type(module) is kind
print(made, module(torch.tensor([1.5, -2.0], dtype=torch.float32)).tolist())
print(hash_description(describe(formula({SWISH!r}, parameters={{"beta": 1.5}}).module_class())))
print(derive(read_formula({text!r}), {{"a": 1.0}}, trainable=["a"]).derivative.to_python())
"""
    process = run_process(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": "1"}
    )
    values = module(torch.tensor([1.5, -2.0])).tolist()
    derived = derive(read_formula(text), {"a": 1.0}, trainable=["a"]).derivative.to_python()
    expected = f"<activation sent: {SWISH}> {values}\n{key(swish())}\n{derived}\n"
    assert (process.stdout, process.stderr) == (expected, "")


def test_formulas_with_one_name_are_separate_in_a_fleet():
    """A fleet merges equal activations, but these are not equal."""
    from actlab.fleet.layers import FormulaLayer

    kinds = [formula(text, name="same").module_class for text in ("2 * x", "tanh(x)")]
    layer = FormulaLayer([kind() for kind in kinds])
    x = torch.ones(2, 1, 1)
    assert layer.forward(x, True).flatten().tolist() == pytest.approx([2.0, math.tanh(1.0)])


# -- as Python and as LaTeX ------------------------------------------------------------------------


PASTED = {
    "plain": (MISH, {}),
    "parameters": ("where(x > t, x, beta * x)", {"parameters": {"t": 0.5, "beta": -1.5}}),
    "trained": (SWISH, {"parameters": {"beta": 1.5}, "trainable": ["beta"]}),
}


@pytest.mark.parametrize("kind", PASTED)
def test_formula_source_computes_the_same_bits(kind, tmp_path):
    text, options = PASTED[kind]
    activation = formula(text, **options, name="pasted")
    path = tmp_path / "pasted_file.py"
    path.write_text(activation.source(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("pasted_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pasted = module.pasted
    assert pasted.parameters == activation.parameters
    assert repr(module.Pasted()) == repr(activation.module_class())
    for dtype in (torch.float64, torch.float32, torch.float16):
        x, y = points(dtype, requires_grad=True), points(dtype, requires_grad=True)
        assert torch.equal(pasted(x), activation(y))
        for function, at in ((pasted, x), (activation, y)):
            (slope,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
            slope.sum().backward()
        assert torch.equal(x.grad, y.grad)


def test_formula_source_passes_check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    activation = swish(trainable=["beta"], name="pasted")
    (tmp_path / "checked_file.py").write_text(activation.source(), encoding="utf-8")
    rows = ["shape", "kinks", "gradient", "vmap", "pickle", "state_dict", "parameters", "saved"]
    assert actlab.check("checked_file.py:Pasted", only=rows).passed


@pytest.mark.parametrize("kind", PASTED)
def test_formula_source_imports_only_public_names(kind):
    text, options = PASTED[kind]
    imports = [line for line in formula(text, **options).source().splitlines() if line.startswith("from ")]
    assert imports[0] == "from actlab import elementwise"
    assert all(re.fullmatch(r"from actlab(\.\w+)? import [\w, ]+", line) for line in imports)


def test_formula_source_is_readable():
    lines = formula("x * exp(x)", name="steep").source().splitlines()
    assert 'formula="x * exp(x)",' in [line.strip() for line in lines]
    assert "def steep(x):" in lines
    assert lines[-1] == 'Steep = steep.module("Steep")'


def test_formula_latex_has_the_function_and_its_derivatives():
    assert formula("x**2 * beta", parameters={"beta": 1}).latex() == (
        r"\beta x^{2}",
        r"2 \beta x",
        r"2 \beta",
    )


def test_formula_latex_of_pieces_is_one_cases_expression():
    _, slope, bend = formula("clip(x/6 + 0.5, 0, 1) * x", name="hard").latex()
    middle = r"x > -3 \wedge x < 3"
    assert slope == (
        rf"\begin{{cases}} \frac{{x}}{{3}} + \frac{{1}}{{2}} & \text{{for}}\: {middle} \\"
        r"1 & \text{for}\: x > -3 \\0 & \text{otherwise} \end{cases}"
    )
    assert bend == (
        rf"\begin{{cases}} \frac{{1}}{{3}} & \text{{for}}\: {middle} \\0 & \text{{otherwise}} \end{{cases}}"
    )


def test_formula_latex_keeps_decimals():
    text, slope, _ = formula("x * sigmoid(1.702 * x)").latex()
    assert text == r"\frac{x}{1 + e^{- 1.702 x}}"
    assert slope == r"\frac{1.702 x + e^{1.702 x} + 1}{4 \cosh^{2}{\left(0.851 x \right)}}"


# -- invalid arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("3", {}, "formula: x does not occur: the value is the same everywhere\n  3\n  ^"),
        ("x - x", {}, "formula: x cancels out: the value is the same everywhere\n  x - x\n  ^^^^^"),
        ("x + b", {}, "formula: unknown name 'b'; a parameter needs a value: b=1.0\n  x + b\n      ^"),
        ("inf*x", {}, "formula: 'inf' is not a finite number\n  inf*x\n  ^^^"),
        (
            "sign(x)",
            {},
            "formula: unknown function 'sign'; write where(x > 0, 1, where(x < 0, -1, 0))\n  sign(x)\n  ^^^^",
        ),
        ("x", {"parameters": {"b": 1}}, "formula: parameter 'b' does not occur in the formula\n  x\n  ^"),
        ("x", {"parameters": {"x": 1}}, "formula: parameter 'x' is the input"),
        ("x", {"parameters": {"exp": 1}}, "formula: parameter 'exp' is a function"),
        ("x", {"parameters": {"lambda": 1}}, "formula: parameter 'lambda' is a Python keyword"),
        (
            "x",
            {"parameters": {"training": 1}},
            "formula: parameter 'training' is reserved: every module has an attribute with this name",
        ),
        ("x", {"parameters": {"v1": 1}}, "formula: parameter 'v1' is taken"),
        ("x*b", {"parameters": {"b": math.inf}}, "formula: parameter 'b' must be a finite number, got inf"),
        ("x*b", {"parameters": {"b": "1"}}, "formula: parameter 'b' must be a finite number, got '1'"),
        ("x*b", {"parameters": {"b": True}}, "formula: parameter 'b' must be a finite number, got True"),
        (
            "x",
            {"trainable": ["b"]},
            "formula: trainable contains 'b', which is not a parameter; the formula has no parameters",
        ),
        ("x", {"trainable": "b"}, "formula: trainable must be a list of names such as ['b'], got 'b'"),
        ("x", {"name": "class"}, "formula: name 'class' is a Python keyword"),
        ("x", {"name": "torch"}, "formula: name 'torch' is taken"),
        ("x", {"at": {0: math.nan}}, "formula: the derivative at 0 must be a finite number, got nan"),
        (
            "abs(x)",
            {"at": {3: 1}},
            "formula: 'at' contains 3, but the derivative does not jump there\n  abs(x)\n  ^^^^^^",
        ),
        ("a*x", {"parameters": ["a"]}, "formula: parameters must be a dictionary, got ['a']"),
        ("abs(x)", {"at": [0]}, "formula: at must be a dictionary, got [0]"),
        (
            "a*x",
            {"parameters": {"a": 1}, "trainable": True},
            "formula: trainable must be a list of names such as ['a'], got True",
        ),
        (3, {}, "formula: the text must be a string such as 'x * tanh(x)', got int"),
    ],
)
def test_formula_rejects_invalid_arguments(text, options, message):
    with pytest.raises(actlab.UsageError) as caught:
        formula(text, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["", "1a", "a b", "a-b", "_a", "a__b", "a/../b", "ä"])
def test_formula_rejects_unsafe_names(name):
    with pytest.raises(
        actlab.UsageError, match="is not a valid name: use letters, digits and single underscores"
    ):
        formula("x * x", name=name)


@settings(max_examples=200)
@given(st.text(alphabet="abx01_ +-*/().", min_size=1, max_size=80))
def test_default_name_of_any_text_is_valid(text):
    assert formula_activation._check_name(make_name(text)) == ""


def test_formula_warns_once_if_inexact(monkeypatch):
    """Reports of inexact intervals are a warning in Python, and a line on the command line."""
    text = "x * tanh(x) * 0.125"
    original_derive = formula_activation.derive

    def derive_inexact(*args, **options):
        result = original_derive(*args, **options)
        return type("Inexact", (), {**vars(result), "inexact": (WARNING_TEXT, "so it does below -9")})()

    monkeypatch.setattr(formula_activation, "derive", derive_inexact)
    with pytest.warns(actlab.FormulaWarning) as caught:
        activation = formula(text, name="telling")
    assert [str(one.message) for one in caught] == [f"formula {text}: {WARNING_TEXT}; .inexact has 1 more"]
    assert caught[0].filename == __file__
    assert activation.inexact == (WARNING_TEXT, "so it does below -9")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(activation))  # noqa: S301


def test_command_line_prints_the_inexact_warning_in_one_line(monkeypatch, capsys):
    original_derive = formula_activation.derive

    def derive_inexact(*args, **options):
        result = original_derive(*args, **options)
        return type("Inexact", (), {**vars(result), "inexact": (WARNING_TEXT, "so it does below -9")})()

    monkeypatch.setattr(formula_activation, "derive", derive_inexact)
    assert main(["show", "formula:x*tanh(x)*0.25", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == f"actlab: note: formula x*tanh(x)*0.25: {WARNING_TEXT}; .inexact has 1 more\n"
    assert json.loads(out)["formula"] == "x*tanh(x)*0.25"
