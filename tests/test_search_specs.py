"""Activations in the grid of a search over a user's own module."""

import functools
import pickle
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import StratifiedKFold
from skorch.helper import SliceDataset, SliceDict
from torch import nn

import actlab
from actlab.models.activation_arguments import ActivationArguments
from tests.searches import (
    CLASSES,
    FEATURES,
    Idle,
    X,
    Y,
    create_network,
    fit_by_skorch,
    grid_search,
    one_thread,
    score_matrix,
    search,
)

__all__ = ["one_thread"]


class Network(nn.Module):
    """Takes a module."""

    def __init__(self, activation=nn.ReLU()):  # noqa: B008
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES)
        self.act = activation

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Layers(nn.Module):
    """Takes a module under a name that only its default explains."""

    def __init__(self, squash=nn.Tanh()):  # noqa: B008
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 6), squash, nn.Linear(6, CLASSES))

    def forward(self, x):
        return self.layers(x)


class Two(nn.Module):
    """Takes the class of one activation and another by its own names."""

    NAMES: ClassVar = {"hard": nn.Hardtanh, "relu": nn.ReLU}

    def __init__(self, hidden_activation, act="hard", width=6):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width),
            hidden_activation(),
            nn.Linear(width, 6),
            self.NAMES[act](),
            nn.Linear(6, CLASSES),
        )

    def forward(self, x):
        return self.layers(x)


class Functional(nn.Module):
    """Takes a function, or its name in torch."""

    def __init__(self, nonlin=F.relu):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES)
        self.nonlin = getattr(torch, nonlin) if isinstance(nonlin, str) else nonlin

    def forward(self, x):
        return self.fc2(self.nonlin(self.fc1(x)))


class InPlace(nn.Module):
    """Calls a constructor with ``inplace``, and stores the constructor."""

    def __init__(self, act_layer=nn.ReLU):
        super().__init__()
        self.act_layer = act_layer
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 6),
            act_layer(inplace=True),
            nn.Linear(6, 6),
            act_layer(),
            nn.Linear(6, CLASSES),
        )

    def forward(self, x):
        return self.layers(x)


class Either(nn.Module):
    """Takes a class or a module, which both its layers then share."""

    def __init__(self, act_layer=None):
        super().__init__()
        parts = [act_layer() if isinstance(act_layer, type) else act_layer for _ in range(2)]
        self.layers = nn.Sequential(nn.Linear(FEATURES, 6), parts[0], parts[1], nn.Linear(6, CLASSES))

    def forward(self, x):
        return self.layers(x)


def stack(act):
    return nn.Sequential(nn.Linear(FEATURES, 6), act, nn.Linear(6, CLASSES))


def stack_of_two(make):
    return nn.Sequential(nn.Linear(FEATURES, 6), make(), nn.Linear(6, 6), make(), nn.Linear(6, CLASSES))


class CustomActivation(nn.Module):
    def __init__(self, scale=2.0):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return torch.tanh(self.scale * x)


def double(x):
    return torch.tanh(2 * x)


FILE = """
import torch

class Own(torch.nn.Module):
    def __init__(self, scale=2.0):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return torch.tanh(self.scale * x)

def own(x):
    return torch.tanh(2 * x)
"""


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)


# Values of a grid, and the module of each.
VALUES = [
    ("mish", actlab.nn.Mish),
    ("prelu", nn.PReLU),
    ("leaky_relu(negative_slope=0.2)", lambda: nn.LeakyReLU(0.2)),
    ("formula:x*sigmoid(a*x) with a=1.5", lambda: actlab.get("formula:x*sigmoid(a*x) with a=1.5")),
    ("own.py:Own", CustomActivation),
    ("own.py:Own(scale=0.5)", lambda: CustomActivation(0.5)),
    ("own.py:own", CustomActivation),
    (nn.Tanh(), nn.Tanh),
    (nn.Tanh, nn.Tanh),
    (CustomActivation, CustomActivation),
    (double, CustomActivation),
    (torch.sigmoid, nn.Sigmoid),
    (actlab.functional.mish, actlab.nn.Mish),
    (nn.ELU(0.5), lambda: nn.ELU(0.5)),
    (functools.partial(F.leaky_relu, negative_slope=0.2), lambda: nn.LeakyReLU(0.2)),
]
FEW = VALUES[1:12:5] + VALUES[7:11] + VALUES[13:14]  # some of each kind
MODULES = {
    "module": (Network, "activation", VALUES, lambda make: make()),
    "module instance": (Network(), "activation", FEW, lambda make: make()),
    "other name": (Layers, "squash", FEW, lambda make: make()),
    "class": (Two, "hidden_activation", FEW, lambda make: make),
    "function": (Functional, "nonlin", FEW, lambda make: make()),
    "maker": (stack, "act", FEW, lambda make: make()),
}


@pytest.mark.parametrize(
    "callbacks", [None, pytest.param([Idle], marks=pytest.mark.slow)], ids=["fleets", "reason_alone"]
)
@pytest.mark.parametrize(("module", "name", "values", "expected"), MODULES.values(), ids=MODULES)
def test_search_passes_activations_in_the_form_the_module_expects(
    module, name, values, expected, callbacks, in_folder
):
    values_only = [value for value, _ in values]
    model = create_network(module, callbacks=callbacks, max_epochs=1)
    fitted = search(model, {f"module__{name}": values_only}, scoring="neg_log_loss", cv=2).fit(X, Y)
    assert fitted.runs_["failure"].eq("").all()
    assert (fitted.runs_["how"] == "skorch").all() == (callbacks is not None)
    shown = list(fitted.cv_results_[f"param_module__{name}"])
    assert all(
        type(one) is type(other) and repr(one) == repr(other)
        for one, other in zip(shown, values_only, strict=True)
    )
    assert (
        fitted.best_params_[f"module__{name}"]
        is fitted.cv_results_["params"][fitted.best_index_][f"module__{name}"]
    )
    train, test = next(StratifiedKFold(2).split(X, Y))
    for number, (_, make) in enumerate(values):
        alone = create_network(module, max_epochs=1, **{f"module__{name}": expected(make)})
        alone = fit_by_skorch(alone, X[train], Y[train])
        log = np.log(alone.predict_proba(X[test])[np.arange(len(test)), Y[test]])
        assert score_matrix(fitted)[number, 0] == pytest.approx(log.mean(), abs=1e-6), values_only[number]


@pytest.mark.parametrize("value", ["prelu", "own.py:Own", "formula:x*tanh(x)"])
@pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_search_best_estimator_of_a_spec_trains_again_clones_and_pickles(value, seeds, in_folder):
    fitted = search(create_network(Network), {"module__activation": [value]}, seeds=seeds).fit(X, Y)
    best = fitted.best_estimator_
    assert best.get_params()["module__activation"] == value
    assert type(best.module_) is Network
    for copy in (pickle.loads(pickle.dumps(best)), pickle.loads(pickle.dumps(fitted)).best_estimator_):  # noqa: S301
        assert np.array_equal(copy.predict_proba(X), best.predict_proba(X))
    again = fit_by_skorch(best, X, Y, fold=3)
    np.testing.assert_allclose(again.predict_proba(X), best.predict_proba(X), rtol=1e-4)
    assert np.array_equal(score_matrix(clone(fitted).fit(X, Y)), score_matrix(fitted))
    best.fit(X, Y)
    assert best.set_params(module__activation="tanh").fit(X, Y).score(X, Y) > 0


def test_search_accepts_specs_in_the_estimator():
    fitted = search(create_network(Network, module__activation="mish"), {"lr": [0.1, 0.2]}).fit(X, Y)
    expected = search(create_network(Network, module__activation=actlab.nn.Mish()), {"lr": [0.1, 0.2]}).fit(
        X, Y
    )
    assert fitted.runs_["failure"].eq("").all()
    assert np.array_equal(score_matrix(fitted), score_matrix(expected))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("leaky_relu(negative_slope=0.2)", functools.partial(nn.LeakyReLU, 0.2)),
        (nn.Tanh, nn.Tanh),  # the class itself takes no inplace
        (nn.ELU(0.5), functools.partial(nn.ELU, 0.5)),
        (double, CustomActivation),
    ],
    ids=["spec", "class", "module", "function"],
)
def test_search_with_a_module_that_calls_its_constructor_inplace(value, expected):
    model = create_network(InPlace, max_epochs=1)
    fitted = search(model, {"module__act_layer": [value]}, scoring="neg_log_loss", cv=2).fit(X, Y)
    assert fitted.runs_["failure"].eq("").all()
    best = fitted.best_estimator_
    one, other = best.module_.layers[1], best.module_.layers[3]
    assert one is not other
    assert getattr(one, "inplace", False) == isinstance(value, str)
    twin = fit_by_skorch(create_network(stack_of_two, max_epochs=1, module__make=expected), X, Y, fold=2)
    np.testing.assert_allclose(best.predict_proba(X), twin.predict_proba(X), rtol=1e-4)
    again = pickle.loads(pickle.dumps(best))  # noqa: S301
    assert np.array_equal(again.predict_proba(X), best.predict_proba(X))


def test_search_prefers_the_form_suggested_by_the_argument_name():
    fitted = search(create_network(Either, max_epochs=1), {"module__act_layer": ["prelu"]}, cv=2).fit(X, Y)
    layers = fitted.best_estimator_.module_.layers
    assert layers[1] is not layers[2]


def test_search_passes_two_activations_in_two_forms():
    grid = {
        "module__hidden_activation": ["mish", nn.Tanh],
        "module__act": ["hard", "relu"],
        "module__width": [6, 4],
    }
    fitted = search(create_network(Two), grid).fit(X, Y)
    assert fitted.runs_["failure"].eq("").all()
    rights = {**grid, "module__hidden_activation": [actlab.nn.Mish, nn.Tanh]}
    assert np.array_equal(score_matrix(fitted), score_matrix(search(create_network(Two), rights).fit(X, Y)))


def test_search_trains_specs_together_and_records_them(tmp_path):
    grid = {"module__activation": ["relu", "mish"], "lr": [0.1, 0.2]}
    options = {"ledger": tmp_path / "ledger.sqlite", "refit": False}
    model = create_network(Network)
    first = search(model, grid, **options).fit(X, Y)
    again = search(model, grid, **options).fit(X, Y)
    assert first.runs_["how"].eq("layer by layer").all() or first.runs_["how"].eq("autograd").all()
    assert first.runs_["reason_alone"].eq("").all()
    assert np.array_equal(score_matrix(first), score_matrix(again))
    assert np.array_equal(first.runs_["seconds"], again.runs_["seconds"])  # no run was trained again


# -- strings with a meaning in the module ---------------------------------------------------------------


class OwnNames(nn.Module):
    """Has its own names; some of them mean something else in the catalogue."""

    NAMES: ClassVar = {"relu": nn.Tanh, "swish2": nn.SiLU}

    def __init__(self, activation="relu"):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 6), self.NAMES[activation](), nn.Linear(6, CLASSES))

    def forward(self, x):
        return self.layers(x)


class Init(nn.Module):
    """Takes strings that are names in the catalogue, but not activations here."""

    def __init__(self, gain="linear", mode="sum"):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 6), nn.Tanh(), nn.Linear(6, CLASSES))
        for layer in self.layers[::2]:
            nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain(gain))
        self.mode = {"sum": 1, "softmax": 2}[mode]

    def forward(self, x):
        return self.layers(x)


def outcome(kind, model, name, value):
    try:
        kind(model, {f"module__{name}": [value]}, cv=2, refit=False, error_score="raise").fit(X, Y)
    except Exception as error:
        return type(error), str(error)
    return "fits"


@pytest.mark.parametrize(
    ("module", "name", "value", "fits"),
    [
        (OwnNames, "activation", "relu", True),
        (OwnNames, "activation", "swish2", True),
        (OwnNames, "activation", "mish", False),
        (Init, "gain", "selu", True),
        (Init, "gain", "mish", False),
        (Init, "mode", "softmax", True),
        (Init, "mode", "softmin", False),
        (Functional, "nonlin", "tanh", True),
        (Two, "act", "tanh", False),
        (Network, "nonsense", "relu", False),
    ],
)
def test_search_leaves_strings_of_the_module_unchanged(module, name, value, fits):
    model = create_network(module, max_epochs=1)
    if module is Two:
        model.set_params(module__hidden_activation=nn.ReLU)
    ours, theirs = (outcome(kind, model, name, value) for kind in (search, grid_search))
    assert ours == theirs
    assert (ours == "fits") is fits
    if fits:
        fitted = search(model, {f"module__{name}": [value]}, cv=2, scoring="neg_log_loss").fit(X, Y)
        train, test = next(StratifiedKFold(2).split(X, Y))
        expected = fit_by_skorch(clone(model).set_params(**{f"module__{name}": value}), X[train], Y[train])
        log = np.log(expected.predict_proba(X[test])[np.arange(len(test)), Y[test]])
        assert score_matrix(fitted)[0, 0] == pytest.approx(log.mean(), abs=1e-6)
        assert fitted.best_estimator_.module is module


@pytest.mark.parametrize("callbacks", [None, [Idle]], ids=["in fleets", "skorch"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("rleu", "unknown activation 'rleu' (did you mean 'relu'?)"),
        (
            "relu(slope=2)",
            "activation 'relu(slope=2)': relu: argument 'slope' is unknown; it takes ['inplace']",
        ),
        ("missing.py:Own", "activation 'missing.py:Own': file 'missing.py' does not exist"),
    ],
)
def test_search_refuses_a_wrong_spec_before_it_trains(value, message, callbacks):
    Counted.trained = 0
    model = create_network(Counted, callbacks=callbacks)
    with pytest.raises(actlab.UsageError) as caught:
        search(model, {"module__activation": ["tanh", value, "reluu"]}, cv=2).fit(X, Y)
    assert str(caught.value) == f"{message}; unknown activation 'reluu' (did you mean 'relu'?)"
    assert Counted.trained == 0


class Counted(Network):
    trained = 0

    def forward(self, x):
        Counted.trained += self.training
        return super().forward(x)


def test_search_with_specs_and_other_dtypes_raises_the_error_of_skorch():
    double = X.astype(np.float64)
    with pytest.raises(ValueError, match="mat1 and mat2 must have the same dtype, but got Double and Float"):
        search(create_network(Network), {"module__activation": ["tanh", "relu"]}, cv=2).fit(double, Y)

    with_cast = create_network(Casting, max_epochs=1)
    fitted = search(with_cast, {"module__activation": ["tanh", "mish"]}, cv=2).fit(double, Y)
    assert fitted.runs_["failure"].eq("").all()


class Casting(Network):
    def forward(self, x):
        return super().forward(x.float())


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("no input is good enough")


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
def test_search_reports_why_an_activation_fails():
    with pytest.warns(FitFailedWarning, match="no input is good enough"):
        fitted = search(create_network(Network), {"module__activation": [Broken, "tanh"]}, cv=2).fit(X, Y)
    assert np.isnan(score_matrix(fitted)[0]).all()


class Shaky(nn.Module):
    """Draws random numbers from NumPy and torch, and warns when it is created."""

    def __init__(self, activation=nn.ReLU()):  # noqa: B008
        super().__init__()
        np.random.rand()
        warnings.warn("made", stacklevel=1)
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 6), activation, nn.Dropout(0.5), nn.Linear(6, CLASSES)
        )

    def forward(self, x):
        return self.layers(x)


def test_activation_arguments_adapt_leaves_random_state_and_model_unchanged():
    model = create_network(Shaky, module__activation="mish")
    before = torch.get_rng_state(), np.random.get_state()[1:3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ActivationArguments([]).adapt(model, X, {})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state()[1:3], before[1], strict=True))
    assert model.module is not Shaky
    assert model.module__activation == "mish"
    assert not model.initialized_


class Keyed(nn.Module):
    def __init__(self, activation=nn.ReLU()):  # noqa: B008
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 6), activation, nn.Linear(6, CLASSES))

    def forward(self, left, expected):
        return self.layers(torch.cat([left, expected], 1))


@pytest.mark.parametrize(
    ("module", "how", "change"),
    [
        (Network, "layer by layer", torch.from_numpy),
        (Network, "skorch", lambda X: SliceDataset(torch.utils.data.TensorDataset(torch.from_numpy(X)), 0)),
        (Keyed, "autograd", lambda X: SliceDict(left=X[:, :1], expected=X[:, 1:])),
    ],
    ids=["tensor", "dataset", "dict"],
)
def test_search_accepts_specs_with_other_data_than_arrays(module, how, change):
    fitted = search(create_network(module, max_epochs=1), {"module__activation": ["mish", "tanh"]}, cv=2).fit(
        change(X), Y
    )
    assert fitted.runs_["failure"].eq("").all()
    assert fitted.runs_["how"].eq(how).all()
