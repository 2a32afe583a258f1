"""``actlab explore`` and ``actlab.explore``: the command, the object and the exported data."""

import json
import math
import re

import pytest
import torch

import actlab
from actlab.cli import main
from actlab.derivation.grammar import describe_grammar, find_formula_problem
from actlab.exploring.functions import describe_activation, list_catalogue
from actlab.exploring.page import render
from tests.command_line import in_empty_folder, list_names, refused  # noqa: F401

ELEMENTWISE = sorted(name for name, one in actlab.catalogue.items() if not one.facts.gated)


def read_data(page):
    """Return the data in a page."""
    text = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)[1]
    return json.loads(text)


def test_explore_writes_a_page_with_the_functions(tmp_path, capsys):
    assert main(["explore", "mish", "elu(alpha=0.5)", "x * tanh(a * x) with a=2"]) == 0
    assert capsys.readouterr().out == "Written: explore.html. Open it in a browser.\n"
    page = (tmp_path / "explore.html").read_text(encoding="utf-8")
    assert read_data(page)["functions"] == ["mish", "elu(alpha=0.5)", "formula:x * tanh(a * x) with a=2.0"]
    assert len(page) < 300_000
    assert list_names(tmp_path) == ["explore.html"]


def test_explore_prints_json(tmp_path, capsys):
    assert main(["explore", "--out", str(tmp_path / "page.html"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"functions": ["relu", "gelu", "tanh"], "file": str(tmp_path / "page.html")}
    assert list_names(tmp_path) == ["page.html"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["reluu"], "unknown activation 'reluu' (did you mean 'relu'?)"),
        (["glu"], "explore shows functions of one input"),
        (["torch.nn:GELU"], "is not a definition"),
        (["relu", "relu"], "activation 'relu' is given twice"),
        (["relu"] * 7, "explore shows at most 6 functions, got 7"),
        (["relu", "--out", "missing/page.html"], "its folder does not exist"),
        (["relu", "--out", "."], "it exists and is not a regular file"),
    ],
)
def test_explore_refuses_in_one_line(capsys, arguments, problem):
    assert problem in refused(capsys, "explore", *arguments)


def test_explore_shows_the_position_of_a_mistake_in_a_formula(capsys):
    assert main(["explore", "x * tahn(x)"]) == 2
    message = (
        "actlab: error: formula: unknown function 'tahn' (did you mean 'tan'?)\n  x * tahn(x)\n      ^^^^\n"
    )
    assert capsys.readouterr().err == message


def test_explore_shows_a_definition_from_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import actlab, torch\n"
        '@actlab.elementwise(formula="k * x**2", limits=(float("inf"),) * 2, monotonic=False, paper="-",\n'
        '                    slopes=(-float("inf"), float("inf")), range=(0, float("inf")))\n'
        "def parabola(x, k=1.5):\n    return k * x * x\n"
        "parabola.derivative(lambda x, k: 2 * k * x)\nparabola.second(lambda x, k: 2 * k + 0 * x)\n"
        'Parabola = parabola.module("Parabola")\n',
        encoding="utf-8",
    )
    assert main(["explore", "mine.py:parabola"]) == 0
    data = read_data((tmp_path / "explore.html").read_text(encoding="utf-8"))
    assert data["functions"] == ["parabola"]
    assert data["entries"]["parabola"]["formula"] == "k * x**2"
    assert data["entries"]["parabola"]["parameters"][0]["value"] == 1.5


def test_explore_takes_objects_and_shows_them_in_a_notebook():
    page = actlab.explore(actlab.nn.ELU(0.3), actlab.functional.mish, "gelu(approximate='tanh')")
    assert page.specs == ["elu(alpha=0.3)", "mish", "gelu(approximate='tanh')"]
    entry = read_data(page.to_html())["entries"]["gelu(approximate='tanh')"]
    assert entry["torch"] == {
        "name": "GELU",
        "arguments": [],
        "defaults": {},
        "fixed": {"approximate": "tanh"},
    }
    shown = page._repr_html_()
    assert shown.startswith('<iframe title="Explore activation functions" sandbox="allow-scripts" srcdoc="')
    assert shown.count("<") == 2
    with pytest.raises(actlab.UsageError, match="is not a definition"):
        actlab.explore(torch.nn.GELU())


def test_explore_renders_text_of_users_as_data():
    text = "where(x < 1, x, 1/(1+exp(-x)))"
    page = render([actlab.formula(text)])
    assert read_data(page)["functions"] == [f"formula:{text}"]
    assert page.count("</script>") == 2
    assert "where(x <" not in page


def test_list_catalogue_has_every_elementwise_function():
    entries = list_catalogue()
    assert list(entries) == ELEMENTWISE
    for name, entry in entries.items():
        assert entry["formula"] == actlab.catalogue[name].formula()
        parameters = {one["name"] for one in entry["parameters"]}
        assert find_formula_problem(entry["formula"], ["x", *parameters]) == ""
        for one in entry["parameters"]:
            for end in ("low", "value", "high"):
                values = {**actlab.catalogue[name].example, one["name"]: one[end]}
                assert torch.isfinite(actlab.catalogue[name](torch.tensor([0.5]), **values)).all()


def test_describe_activation_keeps_infinities_and_missing_limits():
    entry = describe_activation(actlab.catalogue["snake"])
    assert entry["limits"] == ["-Infinity", "Infinity"]
    assert entry["slopes"] == [None, None]
    assert describe_activation(actlab.catalogue["selu"])["kinks"] == [[0.0, 1.7580993408473766]]


def test_describe_grammar_lists_functions_hints_and_limits():
    grammar = json.loads(json.dumps(describe_grammar(), allow_nan=False))
    assert grammar["functions"]["where"] == ["condition", "a", "b"]
    assert grammar["catalogue"]["threshold"]["required"] == 2
    assert grammar["catalogue"]["rrelu"]["parameters"] == {"lower": 0.125, "upper": 1 / 3}
    assert grammar["longest"] == 2000
    assert math.isclose(grammar["catalogue"]["leaky_relu"]["parameters"]["negative_slope"], 0.01)
