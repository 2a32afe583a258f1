"""Formulas as specs in Python and on the command line."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import actlab
from actlab.cli import main
from actlab.derivation import formula_activation
from actlab.derivation.formula_activation import FormulaActivation, formula
from actlab.describe import format_module_call, list_properties
from actlab.models.networks import NeuralNet
from actlab.report.panels import find_specs, make_function_panels
from tests.command_line import actlab as run

# Other tests measure the accuracy of the derivation.
pytestmark = pytest.mark.filterwarnings("ignore::actlab.FormulaWarning")

MISH = "x * tanh(softplus(x))"
SWISH = "x * sigmoid(beta * x)"
TAHN = "formula: unknown function 'tahn' (did you mean 'tan'?)\n  x*tahn(x)\n    ^^^^"
WITH = "formula: write parameters and their values after 'with', such as beta=1.5, gamma=2"


def points(dtype=torch.float64, **options):
    return torch.tensor([-3.0, -1.2, -0.4, 0.3, 0.9, 2.5], dtype=dtype, **options)


def swish(**options):
    return formula(SWISH, parameters={"beta": 1.5}, **options)


# -- as a spec -------------------------------------------------------------------------------------


def test_get_accepts_a_formula():
    x = points(torch.float32)
    assert torch.equal(actlab.get("formula: x * tanh(softplus(x))")(x), formula(MISH)(x))
    module = actlab.get(f"formula:{SWISH} with beta=0.5")
    assert repr(module).endswith("(beta=0.5)")
    assert torch.allclose(module(x), x * torch.sigmoid(0.5 * x))
    assert actlab.get("formula:a*x + tanh(b*x) with a=-1e-2, b=2").b == 2.0


def test_get_derives_a_formula_once():
    formula_activation.make_from_spec.cache_clear()
    first = formula_activation.make_activation.cache_info().misses
    for _ in range(3):
        actlab.get("formula:x * tanh(x / 3)")
    NeuralNet(num_units=4, activation="formula:x * tanh(x / 3)", num_features=2)
    assert formula_activation.make_activation.cache_info().misses == first + 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("formula:", "formula: the text is empty; write 'x * tanh(x)', for example"),
        ("formula:x*tahn(x)", TAHN),
        ("formula:x*b", "formula: unknown name 'b'; a parameter needs a value: b=1.0\n  x*b\n    ^"),
        ("formula:x*b with b", f"{WITH}\n  x*b with b\n          ^^"),
        ("formula:x*b with b=1, b=2", f"{WITH}\n  x*b with b=1, b=2\n               ^^^^"),
        ("formula:x*b with b=inf", "formula: parameter 'b' must be a finite number, got inf"),
    ],
)  # fmt: skip
def test_get_rejects_an_invalid_formula(spec, message):
    with pytest.raises(actlab.UsageError) as caught:
        actlab.get(spec)
    assert str(caught.value) == message


def test_swap_check_and_function_panels_accept_formulas():
    model = actlab.swap(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), {nn.ReLU: "formula:x*tanh(x)"})
    assert isinstance(model[1].activation, FormulaActivation)
    assert actlab.check("formula:x*tanh(x)", only=["shape", "gradient", "vmap", "pickle", "deepcopy"]).passed
    assert actlab.check("mish", reference=f"formula:{MISH}", only=["reference"]).passed
    panels, missing = make_function_panels(
        find_specs(["formula:x*tanh(x)", "relu", "nothing.py:Here"], {}), pd.DataFrame()
    )
    assert [line.name for line in panels[0].lines] == ["formula:x*tanh(x)", "relu"]
    assert missing == {"nothing.py:Here": "it is a user-defined module, and its curve was not saved"}
    known = dict(list_properties(formula(SWISH, parameters={"beta": 1.5})))
    assert known["module"] == f"actlab.formula('{SWISH}', parameters={{'beta': 1.5}}).module_class()"
    assert format_module_call(formula("x*x", name="sq")) == "actlab.formula('x*x', name='sq').module_class()"


@pytest.mark.slow
def test_search_accepts_formulas_as_specs_classes_and_modules():
    from skorch import NeuralNetClassifier

    trained = swish(trainable=["beta"], name="searched")
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = (rng.normal(size=(60, 4)) + np.eye(3, 4)[y]).astype(np.float32)
    model = NeuralNetClassifier(
        NeuralNet, module__num_units=4, module__num_features=4, module__num_classes=3, max_epochs=2,
        criterion=nn.CrossEntropyLoss, verbose=0,
    )  # fmt: skip
    grid = {"module__activation": ["formula:x*tanh(x)", trained.module_class, trained.module_class(0.5)]}
    search = actlab.FleetSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y.astype(np.int64))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# -- on the command line, as real processes --------------------------------------------------------


def test_compare_rejects_one_formula_twice(capsys):
    assert main(["compare", "--no-tune", "formula:x*tanh(x)", "formula: x*tanh(x)"]) == 2
    assert capsys.readouterr().err == "actlab: error: activation 'formula: x*tanh(x)' is given twice\n"


@pytest.mark.slow
def test_show_and_check_accept_formulas_in_a_process(tmp_path):
    shown = run("show", f"formula:{MISH}", "--out", "pictures", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    assert "x_tanh_softplus_x: x * tanh(softplus(x)), made from its formula." in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["x_tanh_softplus_x.png"]
    checked = run("check", f"formula:{MISH}", "--only", "shape,vmap,pickle", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_show_marks_the_position_of_an_invalid_formula(tmp_path):
    process = run("show", "formula:x*tahn(x)", cwd=tmp_path)
    assert (process.returncode, process.stdout, process.stderr) == (2, "", f"actlab: error: {TAHN}\n")


@pytest.mark.parametrize(
    "verb", [["show"], ["check"], ["compare", "--no-tune", "relu"], ["train", "--activation"]]
)
def test_verbs_mark_the_position_of_an_invalid_formula(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*verb, "formula:x*tahn(x)"]) == 2
    assert capsys.readouterr() == ("", f"actlab: error: {TAHN}\n")
    assert list(tmp_path.iterdir()) == []


def test_compare_reports_several_mistakes_on_separate_lines(capsys):
    assert main(["compare", "--no-tune", "formula:x*tahn(x)", "reluu", "formula:(x"]) == 2
    bracket = "formula: this bracket is never closed\n  (x\n  ^"
    unknown = "unknown activation 'reluu' (did you mean 'relu'?)"
    assert capsys.readouterr().err == f"actlab: error: {TAHN}\n{unknown}\n{bracket}\n"


@pytest.mark.slow
def test_compare_trains_a_formula_in_worker_processes(tmp_path):
    specs = ["relu", "formula:x*tanh(softplus(x))", "formula:x*sigmoid(beta*x) with beta=1.5"]
    options = ["--data", "digits", "--epochs", "2", "--jobs", "2", "--json"]
    process = run("compare", "--no-tune", *specs, *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    output = json.loads(process.stdout)
    assert sorted(row["activation"] for row in output["ranking"]) == sorted(specs)
    page = (tmp_path / "out" / "compare" / "report.html").read_text(encoding="utf-8")
    assert "has no curve here" not in page
    again = run("compare", "--no-tune", *specs, *options, cwd=tmp_path)
    assert json.loads(again.stdout)["ranking"] == output["ranking"]
    assert "0 of 9 runs done" not in again.stderr  # the ledger has every run
