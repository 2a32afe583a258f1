"""The page of ``actlab explore`` in a real browser, opened from a file, without network."""

from __future__ import annotations

import contextlib
import math
import re

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
from tests.browser import open_offline
from tests.random_formulas import FORMULAS, POINTS
from tests.report_cases import browser  # noqa: F401

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


def open_page(browser, folder, *activations, fragment="", **options):  # noqa: F811
    """Open the page of some activations; requests and errors fail the test."""
    file = folder / "explore.html"
    actlab.explore(*activations).to_html(file)
    return open_offline(browser, file, fragment=fragment, **options)


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):  # noqa: F811
    """One page for the tests that do not change it."""
    with open_page(browser, tmp_path_factory.mktemp("page"), "relu", "gelu", "tanh") as opened:
        yield opened


@pytest.fixture
def opened(browser, tmp_path):  # noqa: F811
    """Return a function that opens the page of some activations."""
    with contextlib.ExitStack() as pages:
        yield lambda *names, **options: pages.enter_context(open_page(browser, tmp_path, *names, **options))


# -- the evaluator --------------------------------------------------------------------------------


def make_grid(activation):
    """Return points with the kinks and the tails."""
    sizes = [*SIZES, *FAR]
    return sorted({*sizes, *(-x for x in sizes), *map(float, activation.kinks())})


def read_numbers(texts):
    return np.array([float(text.replace("Infinity", "inf")) for text in texts])


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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<script>window.hacked=1</script>", "a value is missing before '<'"),
        ("constructor.constructor('window.hacked=1')()", "is not allowed"),
        ("constructor(x)", "unknown function 'constructor'"),
        ("__proto__(x)", "underscores may only separate words"),
        ("x + toString", "unknown name 'toString'"),
        ("hasOwnProperty(x)", "unknown function 'hasOwnProperty'"),
        ("x*sigmoid(b*x)", "write the value after the formula: x*sigmoid(b*x) with b=1"),
        ("valueOf(x, x)", "unknown function 'valueOf'"),
        ("x + __proto__", "underscores may only separate words"),
        ("${window.hacked=1}", "is not allowed"),
        ("x; window.hacked = 1", "is not allowed"),
        ("alert(1)*x", "unknown function 'alert'"),
        ("eval(x)", "unknown function 'eval'"),
        ("import(x)", "is a Python keyword"),
        ("(" * 20000 + "x", "the maximum is 2000"),
        ("x" + "+ 1" * 140 + "*x" * 100, "too long"),
        ("sin(" * 39 + "x" + ")" * 39 + "+ 1" * 300, "nested too deeply"),
        ("x" * 1_000_000, "the text has 1000000 characters"),
        ("9" * 1_000_000 + "*x", "the text has 1000002 characters"),
        ("log(x)", "log(x) is not a real number for x = -1"),
        ("1/x", "1/x is not a real number for x = 0"),
        ("1/(x - 0.3)", "is not a real number for x = 0.3"),
        ("x - x + 1", "x cancels out"),
        ("1 + 1", "x does not occur"),
        ("x with constructor=1, __proto__=2", "is not a valid name"),
        ("x with x=1", "parameter 'x' is the input"),
        ("x * a with a=1, b=2", "parameter 'b' does not occur"),
        ("mish(constructor=1)", "has no parameter 'constructor'"),
    ],
)
def test_formula_field_refuses_hostile_and_undefined_formulas(page, text, problem):
    page.get_by_label("A formula in x").fill(text[:5000])
    before = page.locator("#chosen li").count()
    if len(text) > 5000:  # a field of a million characters takes seconds to type
        page.evaluate("text => { document.getElementById('formula').value = text; }", text)
    page.get_by_role("button", name="Add formula").click()
    expect(page.locator("#formula-problem")).to_contain_text(problem)
    assert page.locator("#chosen li").count() == before
    assert page.evaluate("[window.hacked, {}.polluted, document.scripts.length]") == [None, None, 2]


def test_policy_forbids_evaluation_and_connections(browser, tmp_path):  # noqa: F811
    actlab.explore().to_html(tmp_path / "explore.html")
    with contextlib.closing(browser.new_page()) as page:
        page.goto((tmp_path / "explore.html").as_uri())
        blocked = page.evaluate("""async () => {
          const names = [], wait = () => new Promise(done => setTimeout(done, 100));
          addEventListener("securitypolicyviolation", event => names.push(event.effectiveDirective));
          document.body.append(Object.assign(document.createElement("script"), {textContent: "hacked = 1"}));
          new Image().src = "https://example.org/";
          await fetch("https://example.org/").catch(() => null);
          await wait();  // text that a test evaluates is exempt from the policy; what a timer runs is not
          setTimeout(() => {
            for (const make of [() => eval("1"), () => new Function("return 1")]) {
              try { make(); names.push("evaluated"); } catch (error) { names.push(error.name); }
            }
          });
          await wait();
          return names.concat(String(window.hacked)).sort();
        }""")
    violated = ["connect-src", "img-src", "script-src", "script-src", "script-src-elem"]
    assert blocked == ["EvalError", "EvalError", *violated, "undefined"]


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


# -- the page -------------------------------------------------------------------------------------


def test_page_draws_curves_kinks_and_values(page):
    assert page.locator("#curves .panel").count() == 4
    assert page.locator("#curves .panel").nth(0).locator("path.line").count() == 3
    assert page.locator("#curves .panel").nth(1).locator("circle.open").count() == 1  # relu at 0
    rows = page.locator("#facts tbody tr").all_inner_texts()
    assert rows[0].split("\t") == [
        "relu",
        "0 and ∞",
        "0 and 1",
        "f′(0) = 0",
        "0.3989",
        "0.3408",
        "50 %",
        "1.414",
    ]
    assert page.locator("[role=img]:not([aria-label])").count() == 0


def test_page_writes_names_beside_lines_where_they_fit(page):
    panels = page.locator("#curves .panel").all()
    assert [sorted(one.locator("text.name").all_text_contents()) for one in panels[:3]] == [
        ["relu", "tanh"],  # gelu is too near to relu
        ["gelu", "relu", "tanh"],
        ["gelu", "relu", "tanh"],
    ]
    boxes = [one.bounding_box() for one in panels[1].locator("text.name").all()]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            is_beside = abs(one["x"] - other["x"]) > min(one["width"], other["width"])
            assert is_beside or abs(one["y"] - other["y"]) > 10


def test_page_adds_a_formula_and_drags_its_parameter(opened):
    page = opened("relu")
    field = page.get_by_label("A formula in x")
    field.fill("x * tanh(a * x) with a=2")
    field.press("Enter")
    expect(page.locator("#chosen li")).to_have_count(2)
    at = page.get_by_label("Read at x, as a number")
    at.fill("0.5")
    at.press("Enter")
    cell = page.locator("#values tbody tr").nth(1).locator("td").first
    expect(cell).to_have_text(f"{0.5 * math.tanh(1.0):.6g}")
    slider = page.get_by_label("a", exact=True)
    slider.focus()
    for _ in range(20):
        slider.press("ArrowRight")
    expect(cell).to_have_text(f"{0.5 * math.tanh(1.1):.6g}")
    expect(page.locator("#command")).to_have_text(
        'actlab compare relu "formula:x * tanh(a * x) with a=2.2" --data digits'
    )
    page.get_by_role("button", name="Remove relu").click()
    expect(page.locator("#chosen li")).to_have_count(1)
    assert page.get_by_role("button", name="Remove").first.is_disabled()


def test_page_rounds_to_bfloat16(opened):
    page = opened("tanh")
    page.get_by_label("Numbers", exact=True).select_option("bfloat16")
    page.get_by_role("button", name="Zoom in to the steps").click()
    expect(page.locator("#format-text")).to_contain_text("At x = 1, neighbours in bfloat16 are 0.00781 apart")
    x = torch.tensor([1.0, 0.3, -2.7, 3e38, 1e-40, 65519.0, 70000.0, 1e-7], dtype=torch.float64)
    for name in ("float16", "bfloat16"):
        got = page.evaluate(
            "([x, name]) => x.map(one => String(actlab.roundTo(one, name)))", [x.tolist(), name]
        )
        np.testing.assert_array_equal(read_numbers(got), x.to(getattr(torch, name)).double().numpy())


def test_page_sets_matched_initialization_and_the_critical_point(opened):
    page = opened("tanh")
    page.get_by_role("button", name="Matched initialization").click()
    assert float(page.get_by_label("Weight scale σ_w, as a number").input_value()) == pytest.approx(
        actlab.gain("tanh"), abs=1e-3
    )
    page.get_by_role("button", name="Critical point").click()
    weight, bias = gaussian_moments("tanh").critical_point
    assert float(page.get_by_label("Weight scale σ_w, as a number").input_value()) == pytest.approx(
        weight, abs=1e-3
    )
    assert float(page.get_by_label("Bias scale σ_b, as a number").input_value()) == pytest.approx(
        bias, abs=1e-3
    )
    expect(page.locator("#depth-text")).to_contain_text("the gradient keeps its size")
    page.get_by_text("The numbers of these charts").click()
    expect(page.locator("#depth-table tbody tr")).to_have_count(7)
    page.get_by_label("Weight scale σ_w, as a number").fill("0.5")
    page.get_by_label("Weight scale σ_w, as a number").press("Tab")
    expect(page.locator("#depth-text")).to_contain_text("the gradient shrinks")


def test_page_reads_and_drags_with_the_pointer(opened):
    page = opened("tanh")
    curve = page.locator("#curves svg").first.bounding_box()
    page.mouse.move(curve["x"] + (50 + curve["width"] - 10) / 2, curve["y"] + 50)  # the middle of the axis
    expect(page.locator("#values-x")).to_have_text("0")
    area = page.locator("#depth-charts svg").last
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + 8, steps=3)
    page.mouse.up()
    expect(page.get_by_label("Weight scale σ_w, as a number")).to_have_value("4")
    expect(page.get_by_label("Bias scale σ_b, as a number")).to_have_value("2")
    expect(page.locator("#depth-text")).to_contain_text("the gradient grows")


def test_page_trains_pauses_and_resets(opened):
    page = opened("tanh", "relu")
    rows = page.locator("#train-table tbody tr")
    step = page.get_by_role("button", name="One step")
    step.click()
    step.press("Enter")
    expect(page.locator("#train-status")).to_contain_text("After 2 steps. Network A: loss")
    first = float(rows.nth(0).locator("td").nth(1).inner_text())
    page.get_by_role("button", name="Start").click()
    expect(rows.nth(0).locator("td").first).to_have_text(re.compile(r"^\d{3,}$"), timeout=20_000)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#train-status")).to_contain_text("accuracy")
    assert float(rows.nth(0).locator("td").nth(1).inner_text()) < first / 2
    pixel = "canvas => [...canvas.getContext('2d').getImageData(5, 5, 1, 1).data]"
    assert page.locator("#surface-a").evaluate(pixel)[3] == 255
    page.get_by_role("button", name="Reset", exact=True).click()
    expect(page.locator("#train-table td").first).to_have_text("0")
    for side in "ab":  # the same function on both sides gives the same network
        page.locator(f"#{side}-all").select_option("gelu")
    step.click()
    results = [row.split("\t")[1:] for row in rows.all_inner_texts()]
    assert results[0] == results[1]


def test_page_resets_the_networks_and_the_status_when_a_setting_changes(opened):
    page = opened("sine", "relu")
    status = page.locator("#train-status")
    expect(status).to_have_text("New networks, 0 steps.")
    expect(page.locator("#a-0 option").first).to_have_text("identity (no activation)")
    expect(page.locator("#a-0 option").nth(1)).to_have_text("sine (omega = 30)")
    expect(page.locator("#sine-hint")).to_be_visible()
    page.get_by_role("button", name="One step").click()
    expect(status).to_contain_text("After 1 step. Network A: loss")
    expect(status).to_contain_text(re.compile(r"accuracy [\d.]+\s% on training samples and [\d.]+\s% on new"))
    page.get_by_label("omega, as a number").fill("5")
    page.get_by_label("omega, as a number").press("Tab")
    expect(status).to_have_text("New networks, 0 steps.")
    expect(page.locator("figcaption").first).to_have_text("A: sine(omega=5) × 2")
    expect(page.locator("#sine-hint")).to_be_hidden()
    page.get_by_role("button", name="Start").click()
    page.get_by_label("Data").select_option("circles")
    expect(status).to_have_text("Stopped: the settings changed. New networks, 0 steps.")
    page.get_by_label("Stop after N steps").fill("7")
    page.get_by_label("Stop after N steps").press("Tab")
    expect(page.locator("#link")).to_have_value(re.compile("torch,7&"))
    page.get_by_role("button", name="Start").click()
    expect(status).to_contain_text("After 7 steps.")


def test_page_keeps_the_preset_when_the_function_changes(opened):
    page = opened("relu", "tanh")
    weight = page.get_by_label("Weight scale σ_w, as a number")
    matched = page.get_by_role("button", name="Matched initialization")
    matched.click()
    expect(weight).to_have_value("1.414")
    expect(page.locator("#depth-text")).to_contain_text("From layer 1 on the variance stays near 1.")
    page.get_by_label("Function", exact=True).select_option("1")
    expect(weight).to_have_value("1.593")
    page.get_by_label("Function", exact=True).select_option("identity (no activation)")
    expect(weight).to_have_value("1")
    expect(matched).to_have_attribute("aria-pressed", "true")
    weight.fill("0.1")
    weight.press("Tab")
    expect(matched).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#depth-text")).to_contain_text("its variance goes from 1 to 1e−58.")


def test_page_reports_a_diverged_network(opened):
    page = opened("exponential", "relu")
    page.get_by_label("Learning rate, as a number").fill("10")
    page.get_by_label("Learning rate, as a number").press("Tab")
    for side in "ab":
        page.locator(f"#{side}-all").select_option("exponential")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#train-status")).to_contain_text("Network A diverged", timeout=10_000)
    expect(page.get_by_role("button", name="Start")).to_be_visible()


def test_link_restores_the_whole_state(opened):
    page = opened("relu")
    page.get_by_label("A formula in x").fill("where(x > 0, x, a*x) with a=0.3")
    page.get_by_role("button", name="Add formula").click()
    page.get_by_label("Data").select_option("spirals")
    page.get_by_label("Hidden layers").select_option("10")
    page.locator("#b-all").select_option("gelu")
    page.get_by_text("One function per layer").nth(1).click()
    page.locator("#b-9").select_option("mish")
    expect(page.locator("figcaption").nth(1)).to_have_text("B: gelu × 9, mish")
    assert page.locator("#b-all option:checked").inner_text() == "one per layer, below"
    page.get_by_label("Width", exact=True).fill("0")
    page.get_by_label("Layers", exact=True).fill("42")
    page.get_by_role("button", name="Matched initialization").click()
    expect(page.locator("#link")).to_have_value(re.compile(r"depth=0,42,1\.41421,0,matched"))
    link = page.locator("#link").input_value()
    other = opened("tanh", fragment=link.partition("#")[2])
    assert other.locator("#chosen .name").all_inner_texts() == ["relu", "where(x > 0, x, a*x) with a=0.3"]
    assert other.get_by_label("Data").input_value() == "spirals"
    assert [other.locator(f"#b-{layer}").input_value() for layer in (0, 8, 9)] == ["gelu", "gelu", "mish"]
    assert other.get_by_label("Layers, as a number", exact=True).input_value() == "42"
    assert other.get_by_label("Width, as a number").input_value() == "1"
    expect(other.get_by_role("button", name="Matched initialization")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert other.locator("#link").input_value().partition("#")[2] == link.partition("#")[2]
    assert other.locator("#restored").is_hidden()
    address = other.url
    other.get_by_role("link", name="Train").press("Enter")
    assert other.url == address
    assert other.evaluate("document.activeElement.id") == "train"


# -- the experiments ------------------------------------------------------------------------------


def choose_experiment(page, title):
    page.get_by_role("link", name=title).click()
    expect(page.locator("#watch strong")).to_have_text(f"{title}.")


def train_to_the_end(page):
    """Press Start; return for both networks the accuracy on new samples and the dead units by layer."""
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#train-status")).to_contain_text("After 500 steps", timeout=60_000)
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#train-table tbody tr").all()]
    number = lambda text: float(text.removesuffix(" %"))  # noqa: E731
    return [(number(row[3]), [number(one) for one in row[4].split(", ")]) for row in rows]


def test_experiment_why_networks_need_activations(opened):
    page = opened("mish")
    choose_experiment(page, "Why networks need activations")
    assert page.locator("figcaption").all_inner_texts() == ["A: relu × 2", "B: identity × 2"]
    (with_relu, _), (linear, _) = train_to_the_end(page)
    assert with_relu > 99
    assert 45 < linear < 60


def test_experiment_kinks_and_second_derivatives(opened):
    page = opened("mish")
    choose_experiment(page, "Kinks and second derivatives")
    values = {}
    for at in (-0.001, 0.001):
        page.get_by_label("Read at x, as a number").fill(str(at))
        page.get_by_label("Read at x, as a number").press("Tab")
        expect(page.locator("#values-x")).to_have_text(str(at).replace("-", "−"))
        rows = [row.split("\t") for row in page.locator("#values tbody tr").all_inner_texts()]
        values[at] = {name: [float(one.replace("−", "-")) for one in row] for name, *row in rows}
    jumps = {
        name: [right - left for left, right in zip(row, values[0.001][name], strict=True)][1:]
        for name, row in values[-0.001].items()
    }
    assert jumps["relu"] == [1, 0]
    assert [values[at]["relu"][2] for at in values] == [0, 0]
    assert jumps["relu_squared"] == [pytest.approx(0.002), 2]
    assert jumps["gelu"] == pytest.approx([0, 0], abs=0.002)


def test_experiment_units_that_die(opened):
    page = opened("mish")
    choose_experiment(page, "Units that die")
    (score, dead), (other_score, other_dead) = train_to_the_end(page)
    assert min(dead) > 50
    assert other_dead == [0, 0]
    assert score < other_score - 10


def test_experiment_gradients_through_thirty_layers(opened):
    page = opened("mish")
    choose_experiment(page, "Gradients through thirty layers")
    text = page.locator("#depth-text")
    expect(text).to_contain_text("the gradient shrinks: its mean square changes by the factor 2.71e−23")
    expect(page.get_by_role("button", name="PyTorch default")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Matched initialization").click()
    expect(text).to_contain_text("the gradient keeps its size: its mean square changes by the factor 1,")
    page.get_by_label("Function", exact=True).select_option("tanh")
    expect(text).to_contain_text("the gradient grows: its mean square changes by the factor 115")


def test_experiment_ten_layers_and_their_first_weights(opened):
    page = opened("mish")
    choose_experiment(page, "Ten layers and their first weights")
    (relu, _), (tanh, _) = train_to_the_end(page)
    assert 45 < relu < 55
    assert tanh > 98
    page.get_by_label("Initialization").select_option("matched")
    assert min(score for score, _ in train_to_the_end(page)) > 98


def test_experiment_a_sine_for_spirals(opened):
    page = opened("mish")
    choose_experiment(page, "A sine for spirals")
    (relu, _), (sine, _) = train_to_the_end(page)
    assert relu < 97
    assert sine > 99
    page.locator("#b-all").select_option("#2")  # sine (omega = 30)
    expect(page.locator("#watch strong")).to_have_text("A sine for spirals (settings changed).")
    _, (fast, _) = train_to_the_end(page)
    assert 40 < fast < 60


def test_experiments_are_links_that_the_browser_can_leave(opened):
    page = opened("relu")
    page.get_by_label("Seed").fill("3")
    page.get_by_label("Seed").press("Tab")
    link = page.get_by_role("link", name="Units that die")
    link.press("Enter")
    assert page.evaluate("document.activeElement.id") == "train"
    assert page.locator("#chosen .name").all_inner_texts() == ["relu", "leaky_relu"]
    assert page.get_by_label("Learning rate, as a number").input_value() == "1"
    other = opened("tanh", fragment=link.get_attribute("href")[1:])
    expect(other.locator("#train #watch")).to_contain_text("Units that die. Press Start")
    page.go_back()
    expect(page.locator("#chosen .name")).to_have_text(["relu"])
    expect(page.get_by_label("Seed")).to_have_value("3")


# -- copies ---------------------------------------------------------------------------------------


def test_copy_writes_links_settings_command_and_code(opened):
    page = opened("relu", "mish", permissions=["clipboard-read", "clipboard-write"])
    texts = {}
    for name in ("Copy the link", "Copy the settings", "Copy the command", "Copy the code"):
        page.locator("#copied").evaluate("element => { element.textContent = ''; }")
        page.get_by_role("button", name=name).click()
        expect(page.locator("#copied")).to_have_text("Copied.")
        texts[name] = page.evaluate("navigator.clipboard.readText()")
    assert texts["Copy the link"] == page.locator("#link").input_value()
    assert texts["Copy the settings"] == "#" + texts["Copy the link"].partition("#")[2]
    assert texts["Copy the command"] == "actlab compare relu mish --data digits"
    assert texts["Copy the code"] == page.locator("#code").text_content()


def test_copy_selects_the_text_without_permission(opened):
    page = opened("relu")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('denied')); }")
    page.get_by_role("button", name="Copy the settings").click()
    expect(page.locator("#copied")).to_have_text("The text is selected. Press Ctrl+C to copy it.")
    selected = "document.activeElement.value.slice(document.activeElement.selectionStart)"
    assert page.evaluate(selected) == "#" + page.locator("#link").input_value().partition("#")[2]
    page.get_by_role("button", name="Copy the code").click()
    expect(page.locator("#copied")).to_have_text("The text is selected. Press Ctrl+C to copy it.")
    assert page.evaluate("getSelection().toString()").strip() == page.locator("#code").inner_text().strip()


def test_read_takes_the_deepest_formula_that_is_allowed(page):
    text = "mish(" * 39 + "x" + ")" * 39
    value = page.evaluate("text => actlab.state.read(text).formula.at(2)[0]", text)
    x = torch.tensor(2.0, dtype=torch.float64)
    for _ in range(39):
        x = torch.nn.functional.mish(x)
    assert value == pytest.approx(x.item(), rel=1e-9)
    assert page.evaluate("actlab.state.read('formula:\\tx *\\n 2').spec") == "formula:x * 2"


HOSTILE_LINKS = [
    ("f=<img src=x onerror=window.hacked=1>", "A function in the link was ignored"),
    ("f=__proto__", "underscores"),
    ("f=constructor", "unknown function"),
    ("f=" + "(" * 3000, "A function in the link was ignored"),
    ("f=" + "x" * 30_000, "The link is too long"),
    ("view=NaN,1,1,density,none", "The view in the link was ignored"),
    ("view=0,8,1,density,__proto__", "The view in the link was ignored"),
    ("depth=7,30,1,0", "The depth in the link was ignored"),
    ("depth=0,1e9,1,0", "The depth in the link was ignored"),
    ("depth=0,30,1,0,constructor", "The depth in the link was ignored"),
    ("train=__proto__,2,0.1,0,torch", "The training in the link was ignored"),
    ("train=moons,100000,0.1,0,torch", "The training in the link was ignored"),
    ("a=constructor", "A layer in the link was ignored"),
    ("%E0%A4%A&f=%", "A function in the link was ignored"),
]


def test_restore_ignores_what_is_not_valid(page):
    read = """fragments => fragments.map(fragment => {
      const state = new actlab.State(actlab.parser, actlab.entries, ["relu", "tanh"], 6);
      const before = state.write();
      return [state.restore(fragment).join(" "), state.write() === before];
    })"""
    results = page.evaluate(read, [fragment for fragment, _ in HOSTILE_LINKS])
    for (fragment, problem), (problems, is_unchanged) in zip(HOSTILE_LINKS, results, strict=True):
        assert problem in problems, fragment
        assert is_unchanged, fragment
    assert page.evaluate("[window.hacked, {}.polluted]") == [None, None]


def test_page_reports_what_is_not_valid_in_a_link(opened):
    page = opened("relu", "tanh", fragment="f=<img src=x onerror=window.hacked=1>&f=mish&depth=0,1e9,1,0")
    expect(page.locator("#restored")).to_contain_text("A function in the link was ignored: formula: ")
    expect(page.locator("#restored")).to_contain_text(
        "The depth in the link was ignored: a number from 1 to 100"
    )
    assert page.locator("#chosen .name").all_inner_texts() == ["mish"]
    assert page.evaluate("window.hacked") is None


def test_page_has_no_accessibility_violations(opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = opened("leaky_relu", "x*tanh(a*x) with a=2")
    for summary in page.locator("summary").all():
        summary.click()
    page.get_by_label("A formula in x").fill("tahn(x)")
    page.get_by_role("button", name="Add formula").click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        violations = axe.Axe().run(page).response["violations"]
        assert [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in violations] == [], scheme


def test_page_fits_a_phone(opened):
    formula = "where(x > 0, x, 0.1234567890123 * (exp(x) - 1)) + 0.1234567890123 * x"
    page = opened("leaky_relu", formula, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for text in page.locator("#curves svg text").all()[:4]:
        assert text.bounding_box()["height"] > 10
    start, *surfaces = (page.locator(one).bounding_box() for one in ("#start", "#surface-a", "#surface-b"))
    assert surfaces[0]["y"] == surfaces[1]["y"] > start["y"]
    assert surfaces[0]["y"] + surfaces[0]["height"] - start["y"] < 350  # less than half of the screen
    assert page.get_by_label("Learning rate", exact=True).bounding_box()["y"] > surfaces[0]["y"]


def test_page_works_in_a_frame_of_a_notebook(browser, tmp_path):  # noqa: F811
    (tmp_path / "notebook.html").write_text(
        f"<!DOCTYPE html><link rel=icon href=data:,>{actlab.explore('relu')._repr_html_()}", encoding="utf-8"
    )
    with open_offline(browser, tmp_path / "notebook.html") as page:
        frame = page.frame_locator("iframe")
        frame.get_by_role("button", name="Critical point").click()
        expect(frame.get_by_label("Weight scale σ_w, as a number")).to_have_value("1.414")
        frame.get_by_role("link", name="Units that die").click()
        expect(frame.locator("#train #watch strong")).to_have_text("Units that die.")
        expect(frame.locator("#chosen .name")).to_have_text(["relu", "leaky_relu"])
