"""Activations as Python objects: modules, classes, functions and definitions, by name or in a list."""

import copy
import functools
import pickle
import re
import sys

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import actlab
from actlab import UsageError, timing
from actlab.comparison.files import read_comparison
from actlab.models.networks import NeuralNet
from actlab.report.html.reproduce import format_call
from actlab.report.panels import find_specs, make_function_panels
from actlab.spec import resolve, resolve_all
from actlab.training.settings import TrainSettings
from actlab.training.train import history_frame, train
from tests.processes import run_process
from tests.searches import X, Y, classifier, create_network, grid_search, score_matrix, search
from tests.sound_activations import NotebookReLU
from tests.test_comparison import SHORT, dataset, scores  # noqa: F401 - a fixture

OPTIONS = {"tune": None, "jobs": 1, **SHORT}
OWN_NETWORK = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


class ReLU(nn.Module):
    """The class of the notebook, around an autograd.Function."""

    def forward(self, input):
        return NotebookReLU.apply(input)


class Slope(nn.Module):
    """Has a parameter, a running statistic and an attribute."""

    def __init__(self, start=0.25):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.seen = self.seen + 1
        return torch.where(x > 0, x, self.weight * x)


class Random(nn.Module):
    """Draws its initial weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3))

    def forward(self, x):
        return torch.tanh(x) * self.weight.sum()


def halve(x):
    return torch.tanh(x / 2)


def make_elu():
    return nn.ELU(0.5)


def means(comparison):
    return comparison.results.groupby("activation", sort=False)["score"].apply(list).to_dict()


# -- what is accepted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "name", "module"),
    [
        (nn.LeakyReLU(0.2), "LeakyReLU", nn.LeakyReLU(0.2)),
        (nn.Tanh, "Tanh", nn.Tanh()),
        (torch.sin, "sin", torch.sin),
        (F.gelu, "gelu", nn.GELU()),
        (torch.tanh, "tanh", nn.Tanh()),
        (torch.Tensor.tanh, "tanh", nn.Tanh()),
        (halve, "halve", halve),
        (lambda x: x.sin(), "lambda", torch.sin),
        (functools.partial(F.leaky_relu, negative_slope=0.2), "leaky_relu", nn.LeakyReLU(0.2)),
        (functools.partial(torch.clamp, min=0), "clamp", nn.ReLU()),
        (functools.partial(nn.LeakyReLU, 0.2), "LeakyReLU", nn.LeakyReLU(0.2)),
        (make_elu, "make_elu", nn.ELU(0.5)),
        (NotebookReLU, "NotebookReLU", nn.ReLU()),
        (NotebookReLU.apply, "NotebookReLU", nn.ReLU()),
        (actlab.functional.mish, "mish", nn.Mish()),
    ],
)
def test_resolve_takes_objects(value, name, module):
    assert_resolves(value, name, module)


def test_resolve_takes_formulas():
    assert_resolves(actlab.formula("x*tanh(x)", name="mine"), "mine", lambda x: x * x.tanh())
    assert_resolves(actlab.formula("max(x, 0)", at={0: 0.5}), "max_x_0", nn.ReLU())


def assert_resolves(value, name, module):
    """The value is an activation of that name wherever one is expected, and computes as the module."""
    x = torch.linspace(-3, 3, 50)
    activation = resolve(value)
    assert activation.name == name
    torch.testing.assert_close(activation.build()(x), module(x))
    assert activation.build() is not activation.build()
    torch.testing.assert_close(actlab.get(value)(x), module(x))
    net = NeuralNet(num_units=4, activation=value, num_features=3, num_classes=2)
    assert net(torch.zeros(2, 3)).shape == (2, 2)
    swapped = actlab.swap(nn.Sequential(nn.ReLU()), {nn.ReLU: value})
    torch.testing.assert_close(swapped(x), module(x))
    assert actlab.gain(value) == pytest.approx(actlab.gain(module), rel=1e-5)


def test_resolve_trains_the_parameters_of_a_formula():
    formula = actlab.formula("x*sigmoid(a*x)", parameters={"a": 3.0}, trainable=["a"])
    module = resolve(formula).build()
    assert [parameter.item() for parameter in module.parameters()] == [3.0]


def test_resolve_all_gives_objects_short_and_unique_names():
    values = [
        *("relu", ReLU(), nn.ReLU(), nn.ReLU, nn.LeakyReLU(0.1), nn.LeakyReLU(0.2), torch.relu),
        *(
            functools.partial(F.elu, alpha=0.5),
            functools.partial(F.elu, alpha=2.0),
            lambda x: x,
            lambda x: -x,
        ),
    ]
    assert [one.name for one in resolve_all(values)] == [
        *("relu", "ReLU", "ReLU-2", "ReLU-3", "LeakyReLU(negative_slope=0.1)"),
        *(
            "LeakyReLU(negative_slope=0.2)",
            "relu-2",
            "elu(alpha=0.5)",
            "elu(alpha=2.0)",
            "lambda",
            "lambda-2",
        ),
    ]


def test_resolve_all_uses_the_names_of_a_dictionary():
    named = resolve_all({"mine": nn.Tanh(), "relu": nn.ELU, "ELU": "relu", "three words, α=1": torch.sin})
    assert [(one.name, one.spec) for one in named] == [
        *(("mine", None), ("relu", None), ("ELU", "relu"), ("three words, α=1", None)),
    ]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[31mred", "n" * 81, 3, None])
def test_resolve_all_refuses_names_that_cannot_be_printed(name):
    with pytest.raises(UsageError, match=r"^a name must be printable text of 1 to 80 characters") as caught:
        resolve_all({"good": "relu", name: "tanh"})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("activations", "message"),
    [
        ([halve, torch.sin, halve], "activation 'halve' is given twice"),
        ([nn.ReLU, "relu", nn.ReLU], "activation 'ReLU' is given twice"),
        ({"a": "relu", "b": "relu()"}, "activations 'a' and 'b' are the same"),
        ({"a": halve, "b": halve}, "activations 'a' and 'b' are the same"),
    ],
)
def test_resolve_all_refuses_duplicates(activations, message):
    with pytest.raises(UsageError) as caught:
        resolve_all(activations)
    assert str(caught.value) == message


def test_resolve_all_refuses_one_instance_twice_but_not_two_instances():
    one = nn.PReLU()
    with pytest.raises(UsageError, match=r"^activation 'PReLU' is given twice$"):
        resolve_all([one, one])
    assert [two.name for two in resolve_all([one, nn.PReLU()])] == ["PReLU", "PReLU-2"]


class Uncopyable(nn.Module):
    def __init__(self):
        super().__init__()
        self.stream = sys.stdout.buffer


class NeedsWidth(nn.Module):
    def __init__(self, width):
        super().__init__()
        raise LookupError(f"no width {width}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Uncopyable(), "activations[1]: activation 'Uncopyable' cannot be copied: TypeError: cannot pickle "),
        (
            nn.Threshold,
            "activation 'Threshold': Threshold.__init__() missing 2 required positional argu",
        ),
        (functools.partial(NeedsWidth, 3), "activation 'NeedsWidth': LookupError: no width 3"),
        (
            nn.Linear(8, 3),
            "the network with activation 'Linear' fails on two samples of made up: Runtime",
        ),
        (lambda x: (x, x), "the network with activation 'lambda' fails on two samples of made up: TypeError"),
        (dict, "activation 'dict': dict returns a dict, not an nn.Module"),
        (object(), "activations[1]: <object objec"),
    ],
)
def test_compare_refuses_an_object_that_is_no_activation_in_one_line(dataset, value, message):  # noqa: F811
    with pytest.raises(UsageError) as caught:
        actlab.compare(["relu", value], dataset, **OPTIONS)
    assert str(caught.value).startswith(message)
    assert str(caught.value).isprintable()


# -- what is trained ----------------------------------------------------------------------------------


def test_compare_gives_every_form_of_an_activation_the_same_scores(dataset):  # noqa: F811
    forms = {"instance": nn.Tanh(), "class": nn.Tanh, "function": torch.tanh, "spec": "torch.nn:Tanh"}
    comparison = actlab.compare(forms, dataset, **OPTIONS)
    assert list(means(comparison)) == list(forms)
    assert len({tuple(each) for each in means(comparison).values()}) == 1
    alone = actlab.compare(["torch.nn:Tanh"], dataset, **OPTIONS)
    assert means(alone)["torch.nn:Tanh"] == means(comparison)["spec"]


@pytest.mark.parametrize("module", [None, OWN_NETWORK])
def test_compare_starts_every_run_from_the_state_of_an_instance(dataset, module):  # noqa: F811
    given = Slope(0.75)
    given.seen += 5
    before = copy.deepcopy(given.state_dict())
    options = {**OPTIONS, "hidden": (128, 64), "seeds": 2, "tune": {"lr": [0.01, 0.02]}, "module": module}
    first, again, changed = (
        actlab.compare({"slope": value, "tanh": "tanh"}, dataset, **options)
        for value in (given, given, Slope(0.25))
    )
    assert scores(first).equals(scores(again))
    assert first.history.drop(columns="dur").equals(again.history.drop(columns="dur"))
    assert given.training
    assert given.weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    losses = [each.history.groupby("activation")["train_loss"].apply(list) for each in (first, changed)]
    assert losses[0]["slope"] != losses[1]["slope"]
    assert losses[0]["tanh"] == losses[1]["tanh"]


@pytest.mark.parametrize("module", [None, OWN_NETWORK])
def test_compare_pairs_the_weights_of_activations_that_draw_their_own(dataset, module):  # noqa: F811
    """Two classes with equal functions, one of which draws random numbers that it does not use."""

    class Plain(nn.Module):
        def forward(self, x):
            return torch.tanh(x)

    class Drawing(Plain):
        def __init__(self):
            super().__init__()
            torch.rand(7)

    options = {**OPTIONS, "hidden": (128, 64), "module": module}
    comparison = actlab.compare([Plain, Drawing], dataset, **options)
    one, other = means(comparison).values()
    assert one == other
    random = actlab.compare([Random, Random()], dataset, **options)
    assert random.results["failure"].eq("").all()


def test_compare_tables_name_objects_and_their_curves(dataset, tmp_path):  # noqa: F811
    def gelu(x):
        return x - x.mean(-1, keepdim=True)  # not element-wise: it has no curve

    comparison = actlab.compare(["relu", halve, gelu, nn.Tanh()], dataset, **OPTIONS)
    assert comparison.about["activations"] == ["relu", "halve", "gelu", "Tanh"]
    assert comparison.about["specs"] == {"halve": None, "gelu": None, "Tanh": None}
    assert comparison.curves["activation"].unique().tolist() == ["halve", "Tanh"]
    at_two = comparison.curves.query("activation == 'halve' and x == 3")["f"].item()
    assert at_two == pytest.approx(np.tanh(1.5))
    comparison.to_csv(tmp_path)
    assert read_comparison(tmp_path)["about"]["specs"] == comparison.about["specs"]
    names = comparison.about["activations"]
    comment, call = format_call(names, comparison.about).splitlines()
    made = "# the comparison was made in Python: activations contains"
    assert comment == f"{made} 'relu' and your own objects halve, gelu, Tanh"
    assert call.startswith("actlab.compare(activations, 'made up', tune=None, ")
    panels, missing = make_function_panels(find_specs(names, comparison.about), comparison.curves)
    assert [line.name for line in panels[0].lines] == ["relu", "halve", "Tanh"]
    assert missing == {"gelu": "it is a Python object, and its curve was not saved"}


def test_format_call_names_specs_of_a_dictionary(dataset):  # noqa: F811
    comparison = actlab.compare({"base": "relu", "tanh": "tanh"}, dataset, **OPTIONS)
    call = format_call(["base", "tanh"], comparison.about)
    assert call.startswith("actlab.compare({'base': 'relu', 'tanh': 'tanh'}, 'made up', tune=None")
    same = actlab.compare(["relu", "tanh"], dataset, **OPTIONS)
    assert list(means(same).values()) == list(means(comparison).values())


def test_train_takes_objects_and_does_not_change_them(dataset):  # noqa: F811
    settings, given = TrainSettings(epochs=2, batch_size=16, hidden=(8, 4)), Slope(0.5)
    one, other = (history_frame(train(dataset, given, settings)) for _ in range(2))
    assert one["train_loss"].equals(other["train_loss"])
    assert (given.weight.item(), given.seen.item()) == (0.5, 0.0)
    tanh = [history_frame(train(dataset, form, settings))["valid_acc"] for form in (nn.Tanh(), torch.tanh)]
    assert tanh[0].equals(tanh[1])


def test_measure_names_objects_and_does_not_change_them(monkeypatch):
    monkeypatch.setattr(timing._time, "__defaults__", (3, 0.001))  # few and short samples
    given = Slope(0.5)
    timings = actlab.measure(
        [nn.LeakyReLU(0.1), nn.LeakyReLU(0.2), given, torch.sin, "relu", torch.relu, lambda x: x * 2],
        shape=(8, 8),
    )
    assert [row.name for row in timings] == [
        *("LeakyReLU(negative_slope=0.1)", "LeakyReLU(negative_slope=0.2)", "Slope", "sin"),
        *("relu", "torch.nn.ReLU", "relu-2", "lambda"),
    ]
    assert given.weight.grad is None
    assert given.seen == 0
    assert [row.name for row in actlab.measure({"mine": given}, shape=(8, 8))] == ["mine"]
    with pytest.raises(UsageError, match="a name must be printable text"):
        actlab.measure({"": given}, shape=(8, 8))


# -- the notebook -------------------------------------------------------------------------------------


class Notebook(nn.Module):
    """The network of the notebook, for smaller samples."""

    def __init__(self, num_units=8, activation=ReLU()):  # noqa: B008
        super().__init__()
        self.fc1 = nn.Linear(X.shape[1], num_units)
        self.fc2 = nn.Linear(num_units, num_units // 2)
        self.fc3 = nn.Linear(num_units // 2, 3)
        self.activation = activation

    def forward(self, x):
        output = self.activation(self.fc1(x))
        output = self.activation(self.fc2(output))
        return self.fc3(output)


def test_compare_takes_the_list_of_the_notebook(dataset):  # noqa: F811
    comparison = actlab.compare([ReLU(), nn.Tanh(), nn.LeakyReLU()], dataset, **OPTIONS)
    assert comparison.ranking["activation"].sort_values().to_list() == ["LeakyReLU", "ReLU", "Tanh"]
    assert comparison.results["failure"].eq("").all()


def test_fleet_search_takes_the_list_of_the_notebook():
    params = {"module__activation": [ReLU(), nn.Tanh(), nn.LeakyReLU()]}
    options = {"refit": False, "cv": 3, "scoring": "accuracy"}
    fitted = search(create_network(Notebook), params, **options).fit(X, Y)
    results = pd.DataFrame(fitted.cv_results_)
    results.param_module__activation = results.param_module__activation.astype(str)
    shown = results.param_module__activation.to_list()
    assert shown == ["ReLU()", "Tanh()", "LeakyReLU(negative_slope=0.01)"]
    expected = grid_search(create_network(Notebook), params, **options).fit(X, Y)
    assert score_matrix(fitted).shape == score_matrix(expected).shape
    assert fitted.runs_["failure"].eq("").all()


def test_fleet_search_gives_every_form_of_an_activation_the_same_scores():
    forms = [nn.Tanh(), nn.Tanh, torch.tanh, "torch.nn:Tanh", lambda x: torch.tanh(x)]
    fitted = search(classifier(), {"module__activation": forms}, scoring="accuracy").fit(X, Y)
    assert (score_matrix(fitted) == score_matrix(fitted)[0]).all()


# -- other processes ----------------------------------------------------------------------------------

SCRIPT = """
import sys

import torch
from torch import nn

import actlab

SLOPE = {slope}


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(SLOPE))

    def forward(self, x):
        return torch.where(x > 0, x, self.weight * x)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


def curve(x):
    return torch.sin(SLOPE * x)


inf = float("inf")


@actlab.elementwise(
    formula="x**3", limits=(-inf, inf), slopes=(inf, inf), range=(-inf, inf), monotonic=True, paper="-"
)
def cube(x):
    return x**3


@cube.derivative
def _(x):
    return 3 * x**2


@cube.second
def _(x):
    return 6 * x


Cube = cube.module("Cube")

if __name__ == "__main__":
    activations = [Own(), Own, curve, Square, cube, Cube(), lambda x: x.clamp(-1, 1), "relu"]
    jobs, *ledger = sys.argv[1:]
    comparison = actlab.compare(
        activations, "digits", epochs=1, folds=2, hidden=(8, 4), tune=None, jobs=int(jobs), verbose=1,
        ledger=ledger[0] if ledger else None,
    )
    assert comparison.results["failure"].eq("").all(), comparison.results["failure"].to_list()
    print(comparison.results.groupby("activation")["score"].apply(list).to_dict())
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(slope=0.5))
    return path


def run_script(script, *arguments):
    done = run_process([sys.executable, str(script), *arguments], cwd=script.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_compare_trains_objects_of_main_in_processes_and_resumes_from_the_ledger(script):
    first, messages = run_script(script, "2", "ledger.sqlite")
    assert "from the ledger" not in messages
    assert "'Own'" in first
    assert "'Own-2'" in first
    again, messages = run_script(script, "1", "ledger.sqlite")
    assert "actlab: 16 of 16 runs are from the ledger" in messages
    assert again == first
    script.write_text(SCRIPT.format(slope=0.75))
    changed, messages = run_script(script, "1", "ledger.sqlite")
    assert "actlab: 2 of 16 runs are from the ledger" in messages  # those of relu
    assert changed != first


def test_compare_refuses_a_lambda_without_source_for_a_ledger(dataset, tmp_path):  # noqa: F811
    sine = eval("lambda x: x.sin()")  # noqa: S307, as python -c defines it
    with pytest.raises(UsageError) as caught:
        actlab.compare(["relu", sine], dataset, **OPTIONS, ledger=tmp_path / "runs.sqlite")
    assert str(caught.value) == (
        "a ledger cannot record these runs: cannot describe <lambda>: '<string>' has no source; "
        "write the code into a .py file"
    )
    assert actlab.compare(["relu", sine], dataset, **OPTIONS).about["activations"] == ["relu", "lambda"]


def test_resolve_sends_objects_of_a_file_to_processes_that_cannot_import_it(tmp_path):
    file = tmp_path / "own_layers.py"
    file.write_text(
        "import torch\nclass Own(torch.nn.Module):\n    def forward(self, x):\n        return 2 * x\n"
    )
    module = actlab.get(f"{file}:Own")
    sent = [cloudpickle.dumps(resolve(value)) for value in (module, type(module))]
    del sys.modules[type(module).__module__]
    for data in sent:
        received = pickle.loads(data)  # noqa: S301 - from this test
        assert torch.equal(received.build()(torch.ones(3)), 2 * torch.ones(3))


CELLS = """
import linecache
import sys

source = '''{cell}'''
linecache.cache["<cell>"] = len(source), None, source.splitlines(keepends=True), "<cell>"  # as IPython does
exec(compile(source, "<cell>", "exec"))
"""


def test_compare_resumes_activations_of_a_notebook_cell(tmp_path):
    cell = (
        "import torch, actlab\n"
        "class Wave(torch.nn.Module):\n    def forward(self, x):\n        return torch.sin({factor} * x)\n"
        "actlab.compare([Wave(), torch.sin], 'digits', epochs=1, folds=2, hidden=(8, 4), tune=None, jobs=1,"
        " verbose=1,"
        " ledger='runs.sqlite')\n"
    )
    same, changed = (CELLS.format(cell=cell.format(factor=factor)) for factor in (1, 2))
    errors = [
        run_process([sys.executable, "-c", code], cwd=tmp_path).stderr for code in (same, same + changed)
    ]
    restored = [re.findall(r"(\d+) of 4 runs are from the ledger", error) for error in errors]
    assert restored == [[], ["4", "2"]]
