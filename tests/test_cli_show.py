"""The verbs ``list`` and ``show``."""

import json
import sys

import pytest

import actlab
from actlab.cli import main


def test_list_names_every_activation_in_eighty_columns(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == sorted(actlab.catalogue)
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1].startswith(f"{len(actlab.catalogue)} activations")


def test_list_json(capsys):
    assert main(["list", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["leaky_relu"] == {
        "module": "actlab.nn.LeakyReLU(negative_slope=0.01, inplace=False)",
        "formula": "where(x > 0, x, negative_slope * x)",
    }


def test_show_prints_formula_values_and_kinks(capsys):
    assert main(["show", "leaky_relu"]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "derivative     where(x > 0, 1, negative_slope)" in out
    assert "kinks          f'(0) = 0.01" in out
    assert "        -3           -0.03            0.01               0" in out
    assert "in torch.nn    torch.nn.LeakyReLU" in out


def test_show_prints_gain_and_critical_point(capsys):
    assert main(["show", "tanh", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["at z ~ N(0, 1)"] == "mean 0, variance 0.3943, mean squared slope 0.4644"
    assert (shown["gain"], shown["critical point"]) == ("1.59254", "sigma_w = 1.467, sigma_b = 0.3885")
    assert main(["show", "sigmoid"]) == main(["show", "swiglu"]) == main(["show", "formula:exp(x**2)"]) == 0
    out = capsys.readouterr().out
    assert "critical point none" in out
    assert "gain           1.67653" in out
    assert "gain           none: activation 'exp_x_2' has no finite E[f(z)^2]: f(" in out


def test_show_out_writes_the_picture(capsys, tmp_path):
    assert main(["show", "tanh", "--out", str(tmp_path / "new"), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["picture"] == str(tmp_path / "new" / "tanh.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tanh.png"]
    assert ["0", "0", "1", "0"] in output["values"]


STEEP = """
import torch
import actlab


@actlab.elementwise(
    formula="tanh(a * x)",
    limits=(-1, 1),
    slopes=(0, 0),
    range=(-1, 1),
    monotonic=True,
    paper="-",
)
def steep(x, a=2.0):
    \"\"\"A steep tanh.\"\"\"
    return torch.tanh(a * x)


@steep.derivative
def _(x, a):
    return a / torch.cosh(a * x) ** 2


@steep.second
def _(x, a):
    return -2 * a**2 * torch.tanh(a * x) / torch.cosh(a * x) ** 2


Steep = steep.module("Steep")


def plain(x):
    return x.tanh()
"""


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """Change to a folder with a user-written definition, and return it."""
    (tmp_path / "my_steep.py").write_text(STEEP)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_steep")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["steep", "Steep"])
def test_show_accepts_a_user_definition(name, user_folder, capsys):
    assert main(["show", f"my_steep.py:{name}", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["module"] in ("my_steep.Steep(a=2.0)", "my_steep_.Steep(a=2.0)")
    assert ["0", "0", "2", "0"] in output["values"]
    assert "values at" not in output


@pytest.mark.parametrize(
    ("spec", "values", "facts", "row"),
    [
        ("my_steep.py:Steep(a=3.0)", "a=3", {"monotonic": "unknown"}, ["0", "0", "3", "0"]),
        ("my_steep.py:Steep(a=2.0)", "a=2", {"monotonic": "yes"}, ["0", "0", "2", "0"]),
        (
            "leaky_relu(negative_slope=0.2)",
            "negative_slope=0.2",
            {"kinks": "f'(0) = 0.2", "slope there": "0.2 and 1"},
            ["-3", "-0.6", "0.2", "0"],
        ),
        ("rrelu(0.1, 0.3)", "lower=0.1, upper=0.3, training=False", {"kinks": "f'(0) = 0.2"}, None),
        ("actlab.nn:ELU(alpha=0.5)", "alpha=0.5", {"range": "from -0.5 to inf"}, None),
        ("threshold", "threshold=0.5, value=-0.25", {"kinks": "f'(0.5) = 0"}, None),
    ],
)
def test_show_evaluates_at_the_given_parameters(spec, values, facts, row, user_folder, capsys):
    assert main(["show", spec, "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["values at"] == values
    assert output.items() >= facts.items()
    assert row is None or row in output["values"]


@pytest.mark.parametrize("spec", ["torch.nn:GELU", "my_steep.py:plain"])
def test_show_rejects_targets_that_are_not_definitions(spec, user_folder, capsys):
    assert main(["show", spec]) == 2
    problem = (
        "is not a definition; show and explore need one, such as 'formula:x*tanh(x)', but check and time "
        "accept any module"
    )
    assert capsys.readouterr().err == f"actlab: error: activation {spec!r} {problem}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["show", "leaky_relu(alpha=3)"],
            "argument 'alpha' is unknown; it takes",
        ),
        (["show", "no_such_file.py:x"], "file 'no_such_file.py' does not exist"),
        (["show", "reluu"], "unknown activation 'reluu' (did you mean 'relu'?)"),
        (["show"], "the following arguments are required: NAME"),
        (["show", "relu", "--out", "/proc/none"], "cannot write to output folder '/proc/none'"),
        (["show", "glu", "--out", "out"], "glu takes two halves of a tensor, so it has no curve to draw"),
        (["show", "elu(alpha='a')"], "activation \"elu(alpha='a')\" cannot be evaluated: TypeError: "),
        (["show", "elu(alpha=[1])"], "activation 'elu(alpha=[1])' cannot be evaluated: "),
        (["list", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_show_and_list_reject_wrong_usage_in_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("actlab: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
