"""What the page of ``actlab explore`` computes: the same numbers as actlab and PyTorch."""

# ruff: noqa: F811

from __future__ import annotations

import contextlib

import hypothesis
import numpy as np
import pytest
import torch

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import expect

import actlab
from actlab.derivation.analysis.elementary_jets import Undefined
from actlab.derivation.analysis.piecewise import split_into_pieces
from actlab.derivation.analysis.reference_values import evaluate_exactly
from actlab.derivation.grammar import find_formula_problem
from actlab.derivation.syntax.to_sympy import read_formula
from actlab.describe import evaluate_derivatives
from actlab.models.gaussian_moments import gaussian_moments
from tests.explore_cases import browser, page, read_numbers  # noqa: F401
from tests.random_formulas import FORMULAS, POINTS

ELEMENTWISE = sorted(name for name, one in actlab.catalogue.items() if not one.facts.gated)
SIZES = (0, 1e-12, 1e-8, 1e-4, 0.01, 0.1, 0.25, 0.5, 0.7, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30)
FAR = (37.0, 50.0, 100.0, 300.0, 709.0, 745.0, 800.0, 1e3, 1e4, 1e6)
PIECEWISE = """
x / (1 + abs(x))
max(x, 0.1 * x)
clip(x, -2, 0.5)
abs(x - 1) - abs(x + 1)
max(x, x**2)
max(x + 1, 2 * x)
where(x >= 0, 2 * x, x)
where(x > 0, 1, 0) * x
""".strip().splitlines()
MORE = """
where(x > 0, x, exp(x) - 1)
min(max(x, -1), 1)
max(x, 0)**2
where(x < -1, -1, where(x > 1, 1, x))
abs(x) + max(x, 0)
max(x, -x)
x * sigmoid(1.702 * x)
atan(x) * 2 / pi
asinh(x)
x / sqrt(1 + x**2)
sin(x) + x / 2
x * exp(-abs(x))
x**3 / (1 + x**2)
x * min(max(x + 3, 0), 6) / 6
elu(x, 0.5)
where(x > 0 and x < 2, x**2 / 2, where(x >= 2, 2 * x - 2, 0.1 * x))
log1p(max(x, 0))
expm1(min(x, 0)) + max(x, 0)
1 / (1 + exp(-x))
2**x
max(0.1 * x, min(x, 1))
max(exp(x) - 1, x)
x * tanh(log1p(exp(x)))
abs(tanh(x))
sinh(x) / cosh(x)
erfc(-x / sqrt(2)) / 2 * x
cos(x) / (1 + x**2)
(exp(2*x) - 1) / (exp(2*x) + 1)
mish(x) + 0.1 * gelu(x)
leaky_relu(x, 0.2) * sigmoid(x)
""".strip().splitlines()
CONSTANT = tuple(
    f"formula: x {problem}: the value is the same everywhere" for problem in ("cancels out", "does not occur")
)
EVALUATE = """cases => cases.map(([spec, x]) => {
  const one = actlab.state.read(spec), at = Float64Array.from(x);
  const {v, d, s} = one.formula.evaluate(at);
  const [f, first, second] = [v, d, s].map(values => Array.from(values.subarray(0, x.length), String));
  const {limits, slopes} = one.formula.findLimits();
  return {f, "f'": first, "f''": second, kinks: one.kinks.map(({x, slope}) => [x, slope]),
          limits: limits.map(String), slopes: slopes.map(String)};
})"""


# -- the evaluator --------------------------------------------------------------------------------


def make_grid(activation):
    """Return points with the kinks and the tails."""
    sizes = [*SIZES, *FAR]
    return sorted({*sizes, *(-x for x in sizes), *map(float, activation.kinks())})


def check_derivatives(activation, got, grid):
    """Compare f, f' and f'' with PyTorch's double precision to 1e-6; f'' only where it does not jump."""
    x = torch.tensor(grid, dtype=torch.float64)
    call = lambda points: activation(points, **activation.example)  # noqa: E731
    wanted = dict(zip(("f", "f'", "f''"), evaluate_derivatives(call, x), strict=True))
    near = [evaluate_derivatives(call, x + step)[2] for step in (-1e-7, 1e-7)]
    smooth = ((near[0] - near[1]).abs() < 1e-3 * (1 + near[0].abs())).numpy()
    for order, values in wanted.items():
        chosen = smooth if order == "f''" else np.ones(len(grid), dtype=bool)
        np.testing.assert_allclose(
            read_numbers(got[order])[chosen], values.numpy()[chosen], rtol=1e-6, atol=1e-6, err_msg=order
        )


@pytest.fixture(scope="module")
def evaluated(page):
    """Values, derivatives, kinks and limits of every catalogue function, as the page computes them."""
    grids = {name: make_grid(actlab.catalogue[name]) for name in ELEMENTWISE}
    results = page.evaluate(EVALUATE, [[name, grid] for name, grid in grids.items()])
    return {name: (result, grids[name]) for name, result in zip(grids, results, strict=True)}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_evaluate_equals_pytorch_for_every_catalogue_function(evaluated, name):
    check_derivatives(actlab.catalogue[name], *evaluated[name])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_find_kinks_and_limits_equal_the_facts_of_the_catalogue(evaluated, name):
    result, activation = evaluated[name][0], actlab.catalogue[name]
    kinks = [[float(x), float(slope)] for x, slope in sorted(activation.kinks().items())]
    np.testing.assert_allclose(np.reshape(result["kinks"], (-1, 2)), np.reshape(kinks, (-1, 2)), atol=1e-9)
    for fact in ("limits", "slopes"):
        wanted = np.array(getattr(activation, fact)(), dtype=float)
        np.testing.assert_allclose(read_numbers(result[fact]), wanted, rtol=1e-5, atol=1e-5, err_msg=fact)


@pytest.mark.filterwarnings("ignore::actlab.errors.FormulaWarning")  # of roundings of this processor
@pytest.mark.parametrize(("texts", "count"), [(PIECEWISE, 8), pytest.param(MORE, 30, marks=pytest.mark.slow)])
def test_evaluate_equals_actlab_formula_for_textbook_formulas(page, texts, count):
    activations = [actlab.formula(text) for text in texts]
    assert len(activations) == count
    grids = [make_grid(one) for one in activations]
    cases = [[f"formula:{text}", grid] for text, grid in zip(texts, grids, strict=True)]
    for activation, grid, got in zip(activations, grids, page.evaluate(EVALUATE, cases), strict=True):
        check_derivatives(activation, got, grid)
        kinks = [[x, slope] for x, slope in sorted(activation.kinks().items())]
        np.testing.assert_allclose(np.reshape(got["kinks"], (-1, 2)), np.reshape(kinks, (-1, 2)), atol=1e-9)


@pytest.mark.slow
@hypothesis.settings(max_examples=200, deadline=None, derandomize=True, database=None)
@hypothesis.given(FORMULAS)
def test_evaluate_equals_exact_derivatives_for_random_formulas(page, text):
    read = """([text, x]) => {
      try {
        const {v, d, s} = actlab.state.read(`formula:${text}`).formula.evaluate(Float64Array.from(x));
        return x.map((_, i) => [v[i], d[i], s[i]].map(String));
      } catch (error) { return error.message; }
    }"""
    got = page.evaluate(read, [text, POINTS.tolist()])
    hypothesis.assume(got not in CONSTANT)
    tree = split_into_pieces(read_formula(text, ("x",)))
    for x, values in zip(POINTS.tolist(), got, strict=True):
        with contextlib.suppress(Undefined):
            exact = [float(value) for value in evaluate_exactly(tree, x, {})[0][:3]]
            np.testing.assert_allclose(read_numbers(values), exact, rtol=1e-6, atol=1e-6, err_msg=f"x = {x}")


def test_erf_and_erfc_are_exact_to_1e_minus_13(page):
    x = np.concatenate([np.linspace(-6, 6, 241), [9.0, 20.0, 26.0]])
    read = """x => ['erf(x)', 'erfc(x)'].map(text => {
      const {v} = new actlab.Formula(actlab.parser, text).evaluate(Float64Array.from(x));
      return Array.from(v.subarray(0, x.length));
    })"""
    erf, erfc = page.evaluate(read, x.tolist())
    for got, function in ((erf, torch.special.erf), (erfc, torch.special.erfc)):
        np.testing.assert_allclose(got, function(torch.from_numpy(x)).numpy(), rtol=1e-13)


WRONG = [
    "", "tahn(x)", "2x", "x^2", "x²", "β*x", "x +", "x + * 2", "(x", "x)", "e**x", "inf", "sin x", "sin",
    "max(x)", "where(x, 1, 2)", "x > 0", "x, 1", "f(x)", "a*x", "1e999*x", "x.real", "x[0]", "'x'",
    "x == 1", "x if x else 1", "glu(x)", "sign(x)", "__import__('os')", "x__y", "lambda: x", "elu()",
    "x(2)", "True*x", "not x", "x = 1", "tan_h(x)", "softmax(x)", "leakyrelu(x)", "sinc(x)", "Relu(x)",
    "y", "2j*x", "0123*x", "x and 1", "relu(x, 1, 2)", "x" + "+x" * 1000, "(" * 50 + "x" + ")" * 50,
    "-" * 200 + "x", "+".join(["x"] * 400), "x\x00", "😀", "x // 2", "1 or x", "x with a=1", "abs",
]  # fmt: skip


def test_parse_refuses_what_actlab_refuses_with_the_same_message(page):
    read = """texts => texts.map(text => {
      try { actlab.parser.parse(text, ['x']); return ''; } catch (error) { return error.describe(); }
    })"""
    for text, got in zip(WRONG, page.evaluate(read, WRONG), strict=True):
        wanted = find_formula_problem(text, ["x"])
        assert wanted, text
        assert got == wanted, text


# -- signals and training -------------------------------------------------------------------------


def test_compute_moments_equals_gaussian_moments(page):
    names = [name for name in ELEMENTWISE if name not in ("sine", "xielu")]
    read = """names => names.map(name => {
      const moments = actlab.computeMoments(actlab.state.read(name));
      return {...moments, ...actlab.describeMoments(moments)};
    })"""
    for name, got in zip(names, page.evaluate(read, names), strict=True):
        wanted = gaussian_moments(actlab.catalogue[name])
        close = {"rel": 1e-6, "abs": 1e-6}
        assert [got["mean"], got["second"], got["slope"], got["gain"], got["varianceSlope"]] == pytest.approx(
            [wanted.mean, wanted.second, wanted.slope, wanted.gain, wanted.variance_slope], **close
        ), name
        if wanted.critical_point is None:
            assert got["critical"] is None, name
        else:
            assert got["critical"] == pytest.approx(wanted.critical_point, abs=2e-4), name


def test_compute_saturated_equals_the_exact_share_of_small_slopes(page):
    wanted = {"tanh": 2.9386, "gelu": 8.003, "sigmoid": 0.389, "relu": 50, "formula:x": 0, "sine": 0.1059}
    wanted |= {"formula:sin(x)": 2.3259, "formula:sin(2*x)": 1.5909, "formula:sin(3*x)": 1.0608}
    read = "specs => specs.map(one => 100 * actlab.computeSaturated(actlab.state.read(one)))"
    got = page.evaluate(read, list(wanted))
    assert got == pytest.approx(list(wanted.values()), rel=5e-3)
    expect(page.locator("#facts tbody tr").nth(2)).to_contain_text("2.94 %")


@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(1.4, 0.1), (0.9, 0.3)])
def test_predict_agrees_with_a_network_of_torch(page, sigma_w, sigma_b):
    depth, width, samples = 12, 800, 8
    read = "a => actlab.predict(actlab.state.read('tanh'), a[0], a[1], a[2])"
    theory = page.evaluate(read, [depth, sigma_w, sigma_b])
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(samples, width, generator=generator, dtype=torch.float64)
    z = (z / z.square().mean().sqrt()).requires_grad_()
    inputs = [z]
    for _ in range(depth - 1):
        weight = torch.randn(width, width, generator=generator, dtype=torch.float64) * sigma_w / width**0.5
        bias = torch.randn(width, generator=generator, dtype=torch.float64) * sigma_b
        z = torch.tanh(z) @ weight.T + bias
        z.retain_grad()
        inputs.append(z)
    inputs[-1].backward(torch.randn(samples, width, generator=generator, dtype=torch.float64))
    measured = [float(z.detach().square().mean()) for z in inputs]
    assert [one["q"] for one in theory] == pytest.approx(measured, rel=0.15)
    gradients = [float(z.grad.square().mean() / inputs[-1].grad.square().mean()) for z in inputs]
    assert [one["gradient"] for one in theory] == pytest.approx(gradients, rel=0.25)


def test_random_network_agrees_with_the_theory(page):
    read = """name => { const one = actlab.state.read(name), network = new actlab.RandomNetwork(1);
      return [actlab.predict(one, 8, 1.5, 0.2), network.measure(one, 8, 1.5, 0.2)]; }"""
    for name in ("tanh", "gelu"):
        theory, sampled = page.evaluate(read, name)
        for part in ("q", "gradient"):
            assert [one[part] for one in sampled] == pytest.approx([one[part] for one in theory], rel=0.6)
        assert sampled[0]["saturated"] == pytest.approx(theory[0]["saturated"], abs=0.05)


GRADIENTS = """({names, isRegression}) => names.map(name => {
  const one = actlab.state.read(name), data = actlab.makeData(isRegression ? "waves" : "moons", 3, 128);
  const network = new actlab.Network([2, 16, 16, 1], [one, one], 5);
  const loss = network.computeLoss(data.x, data.y, isRegression);
  const list = ({weight, bias, weightGrad, biasGrad}) => Object.fromEntries(
    Object.entries({weight, bias, weightGrad, biasGrad}).map(([part, values]) => [part, Array.from(values)]));
  const layers = network.layers.map(list);
  return {loss, layers, x: Array.from(data.x), y: Array.from(data.y)};
})"""


@pytest.mark.parametrize("is_regression", [False, True])
def test_compute_loss_has_the_gradients_of_torch_for_every_function(page, is_regression):
    results = page.evaluate(GRADIENTS, {"names": ELEMENTWISE, "isRegression": is_regression})
    for name, got in zip(ELEMENTWISE, results, strict=True):
        activation = actlab.catalogue[name]
        layers = []
        for one, (outputs, inputs) in zip(got["layers"], ((16, 2), (16, 16), (1, 16)), strict=True):
            weight = (
                torch.tensor(one["weight"], dtype=torch.float64).reshape(outputs, inputs).requires_grad_()
            )
            layers.append((weight, torch.tensor(one["bias"], dtype=torch.float64, requires_grad=True)))
        signal = torch.tensor(got["x"], dtype=torch.float64).reshape(-1, 2)
        for number, (weight, bias) in enumerate(layers):
            signal = torch.nn.functional.linear(signal, weight, bias)
            signal = activation(signal, **activation.example) if number < 2 else signal
        y = torch.tensor(got["y"], dtype=torch.float64)
        mean = (
            torch.nn.functional.mse_loss
            if is_regression
            else torch.nn.functional.binary_cross_entropy_with_logits
        )
        loss = mean(signal.squeeze(1), y)
        loss.backward()
        assert got["loss"] == pytest.approx(loss.item(), rel=1e-6), name
        for one, (weight, bias) in zip(got["layers"], layers, strict=True):
            for part, tensor in (("weightGrad", weight), ("biasGrad", bias)):
                wanted = tensor.grad.numpy().ravel()
                np.testing.assert_allclose(one[part], wanted, rtol=1e-6, atol=1e-6, err_msg=f"{name} {part}")


def test_train_steps_equal_sgd_of_torch(page):
    steps = """() => {
      const data = actlab.makeData("xor", 0, 64), tanh = actlab.state.read("tanh");
      const network = new actlab.Network([2, 16, 1], [tanh], 1);
      const list = () => network.layers.map(({weight, bias}) => [Array.from(weight), Array.from(bias)]);
      const start = list();
      for (let i = 0; i < 20; i++) network.train(data.x, data.y, false, 0.1, 0.9);
      return {start, x: Array.from(data.x), y: Array.from(data.y), end: list()};
    }"""
    got = page.evaluate(steps)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    with torch.no_grad():
        for layer, (weight, bias) in zip((model[0], model[2]), got["start"], strict=True):
            layer.weight.copy_(torch.tensor(weight, dtype=torch.float64).reshape(layer.weight.shape))
            layer.bias.copy_(torch.tensor(bias, dtype=torch.float64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = (
        torch.tensor(got["x"], dtype=torch.float64).reshape(-1, 2),
        torch.tensor(got["y"], dtype=torch.float64),
    )
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y).backward()
        optimizer.step()
    for layer, (weight, bias) in zip((model[0], model[2]), got["end"], strict=True):
        np.testing.assert_allclose(weight, layer.weight.detach().numpy().ravel(), atol=1e-9)
        np.testing.assert_allclose(bias, layer.bias.detach().numpy(), atol=1e-9)


def test_match_scales_every_layer_as_init_does(page):
    read = """() => {
      const one = actlab.state.read("mish"), data = actlab.makeData("circles", 0);
      const network = new actlab.Network([2, 16, 16, 1], [one, one], 0);
      const list = () => network.layers.map(({weight}) => Array.from(weight)), start = list();
      network.match(data.x);
      const bias = network.layers.map(({bias}) => Math.max(...bias.map(Math.abs)));
      return {start, x: Array.from(data.x), end: list(), bias};
    }"""
    got = page.evaluate(read)
    linear, mish = torch.nn.Linear, actlab.nn.Mish
    model = torch.nn.Sequential(linear(2, 16), mish(), linear(16, 16), mish(), linear(16, 1)).double()
    with torch.no_grad():
        for layer, weight in zip(model[::2], got["start"], strict=True):
            layer.weight.copy_(torch.tensor(weight, dtype=torch.float64).reshape(layer.weight.shape))
    actlab.init_(model, torch.tensor(got["x"], dtype=torch.float64).reshape(-1, 2))
    for layer, weight in zip(model[::2], got["end"], strict=True):
        np.testing.assert_allclose(weight, layer.weight.detach().numpy().ravel(), rtol=1e-9)
    assert got["bias"] == [0, 0, 0]


# -- PyTorch code ---------------------------------------------------------------------------------

CODED = [*ELEMENTWISE, "leaky_relu(negative_slope=0.2)", *(f"formula:{text}" for text in [*PIECEWISE, *MORE])]


def test_write_module_computes_the_values_of_the_page(page):
    x = torch.linspace(-6, 6, 97, dtype=torch.float64)
    read = """([specs, x]) => specs.map(spec => {
      const one = actlab.state.read(spec), {v} = one.formula.evaluate(Float64Array.from(x));
      return {values: Array.from(v.subarray(0, x.length)), ...actlab.writeModule(one)};
    })"""
    for spec, code in zip(CODED, page.evaluate(read, [CODED, x.tolist()]), strict=True):
        names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
        exec("\n".join(code["definition"]), names)  # noqa: S102 - the page's own code for known functions
        module = eval(code["call"], names).eval()  # noqa: S307
        np.testing.assert_allclose(module(x), code["values"], rtol=1e-6, atol=1e-6, err_msg=spec)
