import math

import pytest
import sympy
import torch

import actlab
from actlab.derivation.catalogue_derivatives import CATALOGUE_DERIVATIVES
from actlab.derivation.derivative_text import write_derivative
from actlab.derivation.syntax.to_sympy import read_formula
from actlab.describe import (
    draw_terminal_plot,
    evaluate_curves,
    find_plot_range,
    list_properties,
    make_value_table,
)

x, a = sympy.symbols("x a", real=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x**2 + 1", x**2 + 1),
        ("-x / 4", -x / 4),
        ("0.1 * x", x / 10),
        ("pi * x", sympy.pi * x),
        ("softplus(x)", sympy.log(1 + sympy.exp(x))),
        ("where(x > 0, x, a * (exp(x) - 1))", sympy.Piecewise((x, x > 0), (a * (sympy.exp(x) - 1), True))),
        ("min(max(x, 0), 6)", sympy.Min(sympy.Max(x, 0), 6)),
        ("where(-1 < x < 1, x, 0)", sympy.Piecewise((x, sympy.And(x > -1, x < 1)), (0, True))),
        ("where(x < -1 or x > 1, x, 0)", sympy.Piecewise((x, sympy.Or(x < -1, x > 1)), (0, True))),
    ],
)
def test_read_converts_a_formula_exactly(text, expected):
    assert read_formula(text) == expected


@pytest.mark.parametrize("text", ["where(x > 0, 2*x, a*exp(x))", "abs(x)", "where(x > 1 and x < 2, 1, 0)"])
def test_derivative_text_can_be_read_again(text):
    assert read_formula(write_derivative(text)) is not None


def test_derivative_text_keeps_decimals():
    assert write_derivative("1.0507009873554804934 * x") == "1.0507009873554805"


def test_curves_returns_the_function_and_its_derivatives():
    points = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    value, first, second = evaluate_curves(actlab.catalogue["tanh"], points)
    y = torch.tanh(points)
    assert torch.allclose(value, y, rtol=1e-15)
    assert torch.allclose(first, 1 - y**2, rtol=1e-14)
    assert torch.allclose(second, -2 * y * (1 - y**2), rtol=1e-14)


def test_table_contains_kinks_and_infinities():
    rows = make_value_table(actlab.catalogue["leaky_relu"], [-math.inf, 3.0])
    assert rows == [("-inf", "-inf", "0.01", "0"), ("0", "0", "0.01", "0"), ("3", "3", "1", "0")]


ELEMENTWISE = [name for name, activation in actlab.catalogue.items() if not activation.facts.gated]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_terminal_plot_of_every_definition_fits_80_columns(name):
    activation = actlab.catalogue[name]
    picture = draw_terminal_plot(activation)
    assert all(len(line) <= 80 for line in picture.splitlines())
    assert {"#", "+"} <= set(picture)
    low, high = find_plot_range(activation)
    assert all(low < kink < high for kink in activation.kinks())


@pytest.mark.parametrize("formula", CATALOGUE_DERIVATIVES)
def test_catalogue_derivatives_are_the_derivatives_of_definitions(formula):
    points = torch.tensor([-4.1, -1.7, -0.3, 0.2, 0.9, 2.3, 7.1], dtype=torch.float64)
    derivative = read_formula(CATALOGUE_DERIVATIVES[formula])
    activations = [actlab.catalogue[name] for name in ELEMENTWISE]
    activations = [activation for activation in activations if activation.formula() == formula]
    assert activations
    for activation in activations:
        values = {sympy.Symbol(name, real=True): value for name, value in activation.example.items()}
        expected = [float(derivative.subs({**values, x: point})) for point in points.tolist()]
        assert evaluate_curves(activation, points)[1].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", actlab.catalogue)
def test_properties_of_every_definition_are_complete(name):
    activation = actlab.catalogue[name]
    described = dict(list_properties(activation))
    assert described["formula"] == activation.formula()
    assert described["module"].startswith(f"actlab.nn.{activation.module_class.__name__}(")
    assert activation.__doc__
    assert activation.facts.paper != ""


def test_plot_function_marks_kinks_and_write_figure_writes_png(tmp_path):
    from matplotlib.figure import Figure

    from actlab.report.plots.functions import plot_function, write_figure

    axes = Figure().subplots()
    assert plot_function(actlab.catalogue["relu"], axes) is axes
    markers = [line for line in axes.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in markers] == [(0, 0)]
    write_figure(actlab.catalogue["relu"], tmp_path / "relu.png")
    assert (tmp_path / "relu.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["relu.png"]
