import warnings

import numpy as np
import pytest
import skorch
import torch
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from torch import nn

from tests.searches import (
    CLASSES,
    FEATURES,
    ROWS,
    Idle,
    Recorder,
    X,
    Y,
    classifier,
    create_network,
    fit_by_skorch,
    make_module,
    one_thread,
    score_matrix,
    search,
)

__all__ = ["one_thread"]


def test_search_trains_a_binary_classifier():
    y = (Y == 0).astype(np.float32)
    model = skorch.NeuralNetBinaryClassifier(
        make_module, module__outputs=1, lr=0.5, max_epochs=2, batch_size=16, verbose=0
    )
    fitted = search(model, {"lr": [0.5, 0.1]}).fit(X, y)
    assert fitted.runs_["reason_alone"].eq("").all()
    assert fitted.predict_proba(X).shape == (ROWS, 2)
    assert set(np.unique(fitted.predict(X))) <= {0, 1}
    expected = fit_by_skorch(model.set_params(**fitted.best_params_), X, y, 0, 3)
    np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(X), rtol=1e-5)
    assert fitted.best_estimator_.history[:, "valid_acc"] == pytest.approx(expected.history[:, "valid_acc"])


def test_search_trains_a_regressor():
    y = X @ np.array([[1.0], [-2.0], [0.5], [0.0]], np.float32)
    model = skorch.NeuralNetRegressor(
        make_module, module__outputs=1, lr=0.05, max_epochs=3, batch_size=16, verbose=0
    )
    fitted = search(model, {"lr": [0.05, 0.01]}, cv=KFold(3)).fit(X, y)
    assert fitted.runs_["reason_alone"].eq("").all()
    expected = fit_by_skorch(model.set_params(**fitted.best_params_), X, y, 0, 3)
    np.testing.assert_allclose(fitted.predict(X), expected.predict(X), rtol=1e-4, atol=1e-5)
    assert fitted.score(X, y) == pytest.approx(expected.score(X, y), abs=1e-5)


def softmaxed(outputs):
    return nn.Sequential(*make_module(outputs), nn.Softmax(dim=-1))


def test_search_trains_with_the_default_loss_of_probabilities():
    model = skorch.NeuralNetClassifier(
        softmaxed, module__outputs=CLASSES, lr=0.3, max_epochs=2, batch_size=16, verbose=0
    )
    fitted = search(model, {"lr": [0.3, 0.1]}).fit(X, Y)
    assert fitted.runs_["reason_alone"].eq("").all()
    expected = fit_by_skorch(model.set_params(**fitted.best_params_), X, Y, 0, 3)
    np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(X), rtol=1e-5)


def test_search_accepts_input_with_more_dimensions():
    images = X.reshape(ROWS, 2, 2)
    module = nn.Sequential(nn.Flatten(), *make_module(CLASSES))
    model = skorch.NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0)
    fitted = search(model, {"lr": [0.1, 0.2]}).fit(images, Y)
    assert fitted.runs_["reason_alone"].eq("").all()
    assert fitted.predict(images).shape == (ROWS,)


@pytest.mark.parametrize("layout", ["backwards", "columns", "read-only"])
def test_search_ignores_the_memory_layout_of_the_input(layout):
    expected = score_matrix(search(scoring="neg_log_loss", cv=KFold(3)).fit(X, Y))
    inputs, targets = X, Y
    if layout == "backwards":
        inputs, targets = X[::-1].copy()[::-1], Y[::-1].copy()[::-1]
    elif layout == "columns":
        inputs = np.asfortranarray(X)
    else:
        inputs = X.copy()
        inputs.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = search(scoring="neg_log_loss", cv=KFold(3)).fit(inputs, targets)
    assert np.array_equal(score_matrix(fitted), expected)
    assert fitted.runs_["reason_alone"].eq("").all()


# -- activations in the grid --------------------------------------------------------------------------


def double(x):
    return torch.tanh(2 * x)


def test_search_accepts_activations_as_spec_class_function_or_module():
    inputs = ["leaky_relu(negative_slope=0.2)", nn.Tanh, double, nn.ELU(), Recorder, Recorder()]
    fitted = search(grid={"module__activation": inputs}, scoring="neg_log_loss", cv=4).fit(X, Y)
    assert fitted.runs_["how"].ne("skorch").all()
    assert fitted.cv_results_["param_module__activation"].dtype == object
    for number, activation in enumerate(inputs):
        model = classifier(module__activation=activation)
        for fold, (train, test) in enumerate(StratifiedKFold(4).split(X, Y)):
            expected = fit_by_skorch(model, X[train], Y[train], 0, fold)
            loss = log_loss(Y[test], expected.predict_proba(X[test]))
            assert score_matrix(fitted)[number, fold] == pytest.approx(-loss, abs=1e-6)
    assert np.array_equal(score_matrix(fitted)[4], score_matrix(fitted)[5])


class Scaled(nn.Module):
    """An activation whose repr does not show its scale."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return torch.tanh(self.scale * x)


def scaled(scale):
    return lambda x: x * torch.tanh(scale * x)


@pytest.mark.parametrize("kind", [Scaled, scaled], ids=["modules", "functions"])
def test_search_distinguishes_activations_with_equal_reprs(kind):
    inputs = [kind(0.1), kind(1.0), kind(3.0)]
    options = {"scoring": "neg_log_loss", "refit": False, "seeds": 3}
    together = score_matrix(search(grid={"module__activation": inputs}, **options).fit(X, Y))
    for number, activation in enumerate(inputs):
        expected = search(grid={"module__activation": [activation]}, **options).fit(X, Y)
        np.testing.assert_allclose(together[number], score_matrix(expected)[0], rtol=1e-6)


def quarter():
    return Recorder(0.25)


@pytest.mark.parametrize("kind", [nn.PReLU, quarter], ids=["torch's", "own"])
def test_search_starts_activation_modules_from_the_state_they_have(kind):
    options = {"scoring": "neg_log_loss", "cv": 3}
    trained = kind()
    with torch.no_grad():
        next(trained.parameters()).fill_(3.0)
    grid = {"module__activation": [kind(), trained], "lr": [0.1, 0.2]}
    fitted = search(grid=grid, **options).fit(X, Y)
    assert not np.array_equal(score_matrix(fitted)[::2], score_matrix(fitted)[1::2])
    assert [next(a.parameters()).item() for a in grid["module__activation"]] == [0.25, 3.0]
    model = classifier(module__activation=trained, module__num_units=8)
    assert np.array_equal(
        score_matrix(search(model, {"lr": [0.1, 0.2]}, **options).fit(X, Y)), score_matrix(fitted)[1::2]
    )


def build_around(activation, encoder=None):
    return nn.Sequential(
        *([encoder] if encoder else []), nn.Linear(FEATURES, 6), activation, nn.Linear(6, CLASSES)
    )


@pytest.mark.parametrize("callbacks", [None, [Idle]], ids=["in fleets", "skorch"])
def test_search_does_not_change_an_activation_of_a_user_module(callbacks):
    activation = nn.PReLU()
    model = create_network(build_around, module__activation=activation, callbacks=callbacks)
    first = search(model, {"lr": [0.5]}, scoring="neg_log_loss").fit(X, Y)
    assert activation.weight.item() == 0.25
    again = search(model, {"lr": [0.5]}, scoring="neg_log_loss").fit(X, Y)
    assert np.array_equal(score_matrix(first), score_matrix(again))
    assert (again.runs_["reason_alone"] == "").all() == (callbacks is None)


@pytest.mark.parametrize("callbacks", [None, [Idle]], ids=["in fleets", "skorch"])
def test_search_keeps_pretrained_weights_of_a_module_argument(callbacks):
    encoder = nn.Linear(FEATURES, FEATURES)
    with torch.no_grad():
        encoder.weight.copy_(2 * torch.eye(FEATURES))
        encoder.bias.zero_()
    model = create_network(
        build_around, module__activation=nn.Tanh(), module__encoder=encoder, callbacks=callbacks, lr=1e-6
    )
    best = search(model, {"max_epochs": [1]}).fit(X, Y).best_estimator_
    torch.testing.assert_close(best.module_[0].weight, encoder.weight, rtol=0, atol=1e-4)
