"""Comparisons that tune the settings of every run."""

import dataclasses
import gc
import json
import weakref

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from skorch.dataset import ValidSplit
from torch import nn

import actlab
from actlab.cli import main
from actlab.comparison.config import ComparisonConfig
from actlab.comparison.plan import ComparisonPlan
from actlab.comparison.search_space import find_next_rate, list_auto_candidates
from actlab.data import load_data
from actlab.errors import UsageError
from actlab.ledger import Ledger
from actlab.training.settings import TrainSettings
from actlab.training.train import make_net, train

NAMES = ["relu", "sigmoid"]
OPTIONS = {"epochs": 24, "folds": 2, "jobs": 1}
LABELS = ["activation", "split", "fold", "seed"]


@pytest.fixture(scope="module")
def tuned():
    return actlab.compare(NAMES, "digits", **OPTIONS)


@pytest.fixture(scope="module")
def untuned():
    return actlab.compare(NAMES, "digits", tune=None, **OPTIONS)


def find_run(results, labels):
    return results[(results[LABELS] == labels[LABELS]).all(axis=1)].squeeze()


def test_compare_as_given_equals_the_comparison_without_tuning(tuned, untuned):
    assert untuned.as_given is None
    assert untuned.tuning.empty
    columns = [*LABELS, "score", "accuracy", "loss", "epochs", "failure", "chance"]
    pd.testing.assert_frame_equal(tuned.as_given.results[columns], untuned.results[columns])
    pd.testing.assert_frame_equal(tuned.as_given.ranking, untuned.ranking)
    assert tuned.as_given.history["valid_loss"].to_list() == untuned.history["valid_loss"].to_list()


def test_compare_scores_the_network_that_the_chosen_settings_train(tuned):
    chosen = tuned.results[["lr", "init"]].drop_duplicates()
    assert len(chosen) > 1
    for settings in chosen.to_dict("records"):
        repeated = actlab.compare(NAMES, "digits", tune=None, **settings, **OPTIONS)
        runs = tuned.results[(tuned.results[list(settings)] == settings).all(axis=1)]
        for _, run in runs.iterrows():
            assert run["score"] == find_run(repeated.results, run)["score"]


def test_compare_completes_the_two_best_candidates_after_a_twelfth_of_the_epochs(tuned):
    assert tuned.about["screening_epochs"] == 2
    tuning = tuned.tuning
    assert set(tuning["epochs"]) == {2, 24}
    for _, trials in tuning.groupby(LABELS):
        given = trials[(trials["lr"] == 0.01) & (trials["init"] == "torch")].squeeze()
        assert given["epochs"] == 24
        complete = trials[trials["epochs"] == 24]
        screened = trials["screened_acc"] - 1e-9 * trials["screened_loss"]
        assert set(complete.index) == {given.name, *screened.nlargest(2).index}
        assert trials["chosen"].sum() == 1
        chosen = trials[trials["chosen"]].squeeze()
        assert chosen["valid_acc"] == complete["valid_acc"].max()


def test_compare_screens_with_the_first_epochs_of_a_complete_run(tuned):
    tuning = tuned.tuning
    given = (tuning["lr"] == 0.01) & (tuning["init"] == "torch")
    for comparison, trials in ((tuned, tuning[tuning["chosen"]]), (tuned.as_given, tuning[given])):
        for _, trial in trials.iterrows():
            history = comparison.history[(comparison.history[LABELS] == trial[LABELS]).all(axis=1)]
            second = history[history["epoch"] == 2].squeeze()
            assert second["valid_acc"] == trial["screened_acc"]
            assert second["valid_loss"] == trial["screened_loss"]


def test_compare_tries_the_next_learning_rate_only_beyond_the_edge(tuned):
    for _, trials in tuned.tuning.groupby(LABELS):
        extended = trials[trials["lr"] > 0.1]
        grid = trials[trials["lr"] <= 0.1]
        assert len(grid) == 10
        ranked = grid.sort_values(["screened_acc", "screened_loss"], ascending=[False, True])
        assert (len(extended) > 0) == (ranked.iloc[0]["lr"] == 0.1)
        assert set(extended["init"]) <= {ranked.iloc[0]["init"]}
    assert (tuned.results[tuned.results["activation"] == "sigmoid"]["lr"] > 0.1).all()


def test_compare_chooses_settings_without_the_test_samples():
    data = load_data("digits")
    (_, test), _ = ComparisonPlan(ComparisonConfig(activations=NAMES, dataset=data, folds=2)).make_folds(0)
    y = data.y.copy()
    y[test] = y[test][::-1]
    other = dataclasses.replace(data, y=y)
    options = {**OPTIONS, "epochs": 4}
    first, second = (actlab.compare(NAMES, one, **options).results for one in (data, other))
    own = first["fold"] == 1
    assert first[own][["lr", "init"]].to_numpy().tolist() == second[own][["lr", "init"]].to_numpy().tolist()
    assert (first[own]["score"] != second[own]["score"]).all()


def test_compare_tuned_is_the_same_in_processes_and_resumes_from_the_ledger(tmp_path, tuned):
    ledger = tmp_path / "ledger.sqlite"
    options = {**OPTIONS, "jobs": 2, "ledger": ledger}
    first = actlab.compare(NAMES, "digits", **options)
    columns = [*LABELS, "lr", "init", "score", "loss"]
    pd.testing.assert_frame_equal(first.results[columns], tuned.results[columns])
    with Ledger(ledger) as opened:
        runs = len(opened.runs())
    again = actlab.compare(NAMES, "digits", **options)
    pd.testing.assert_frame_equal(again.results, first.results)
    with Ledger(ledger) as opened:
        assert len(opened.runs()) == runs == first.about["trained"]


def test_compare_tuned_is_restored_by_load(tmp_path, tuned):
    tuned.to_csv(tmp_path)
    loaded = actlab.Comparison.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.tuning, tuned.tuning, check_dtype=False)
    pd.testing.assert_frame_equal(loaded.as_given.ranking, tuned.as_given.ranking, check_dtype=False)
    assert loaded.sentences() == tuned.sentences()
    dataclasses.replace(tuned, as_given=None).to_csv(tmp_path)
    assert actlab.Comparison.load(tmp_path).as_given is None


def test_compare_verb_prints_both_comparisons_as_json(tmp_path, capsys):
    call = [*"compare relu tanh --epochs 2 --folds 2 --json --out".split(), str(tmp_path / "run")]
    assert main(call) == 0
    output = json.loads(capsys.readouterr().out)
    comparison = actlab.Comparison.load(tmp_path / "run")
    for printed, table in ((output, comparison), (output["as_given"], comparison.as_given)):
        assert [row["mean"] for row in printed["ranking"]] == table.ranking["mean"].to_list()
        assert [row["verdict"] for row in printed["verdicts"]] == table.verdicts["verdict"].to_list()


def test_compare_tuned_costs_at_most_four_times_as_much():
    comparison = actlab.compare(["relu", "tanh"], "digits", folds=2, jobs=1)
    assert comparison.tuning["epochs"].sum() <= 4 * 25 * len(comparison.results)


def test_compare_uses_another_setting_if_the_given_one_diverges():
    comparison = actlab.compare(["relu"], "digits", lr=1e30, **OPTIONS)
    assert comparison.as_given.ranking["status"].to_list() == ["diverged in 2 of 2 runs"]
    assert comparison.ranking["mean"][0] > 0.8


def test_compare_describes_an_activation_that_diverges_with_every_setting():
    name = "formula:exp(x**2)"
    comparison = actlab.compare(["relu", name], "digits", **OPTIONS)
    row = comparison.ranking.set_index("activation").loc[name]
    assert pd.isna(row["rank"])
    sentence = f"{name} diverged in 2 of 2 runs, with every setting that was tried; it has no rank."
    assert sentence in comparison.sentences()


def test_compare_trains_no_failed_candidate_again():
    comparison = actlab.compare(["formula:exp(x**2)"], "digits", lr=1e308, **OPTIONS)
    assert (comparison.tuning["failure"] != "").all()
    assert comparison.about["trained"] == len(comparison.tuning) == 2 * 11


def test_compare_keeps_no_dataset_in_memory():
    data = load_data("digits")
    actlab.compare(["relu"], data, epochs=1, folds=2, jobs=1)
    reference = weakref.ref(data)
    del data
    gc.collect()
    assert reference() is None


class Refuses(nn.Module):
    """A network without an output on its first samples, which matched initialization refuses."""

    def __init__(self, activation=nn.ReLU):
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(64, 8), activation(), nn.Linear(8, 10)
        self.last.weight.data.zero_()

    def forward(self, x):
        return self.last(self.activation(self.first(x)))


def test_compare_does_not_choose_an_initialization_that_the_module_refuses():
    comparison = actlab.compare(["relu"], "digits", module=Refuses, **OPTIONS)
    tuning = comparison.tuning.set_index("init")
    assert tuning.loc["matched", "failure"].str.contains("the outputs of the layer 'last'").all()
    assert set(comparison.results["init"]) == {"torch"}
    matched = actlab.compare(["relu"], "digits", module=Refuses, tune=None, init="matched", **OPTIONS)
    assert "the outputs of the layer 'last'" in matched.results["failure"][0]


class SameSplit(ValidSplit):
    """A validation split that a fleet does not know, so that skorch trains the network."""


def test_compare_init_matched_is_the_same_in_fleets_and_skorch():
    data = load_data("digits")
    net = make_net(data, "relu", TrainSettings(epochs=2))
    alone = make_net(data, "relu", TrainSettings(epochs=2)).set_params(
        train_split=SameSplit(5, stratified=True)
    )
    first, second = (
        actlab.compare(["tanh"], data, module=one, tune=None, init="matched", folds=2, jobs=1).results
        for one in (net, alone)
    )
    assert set(second["how"]) == {"skorch"}
    np.testing.assert_allclose(first["score"], second["score"], atol=2e-3)


def test_compare_tunes_a_network_that_skorch_trains():
    net = make_net(load_data("digits"), "relu", TrainSettings(epochs=8))
    net.set_params(train_split=SameSplit(5, stratified=True))
    comparison = actlab.compare(["sigmoid"], "digits", module=net, folds=2)
    assert set(comparison.tuning["epochs"]) == {1, 8}
    assert comparison.ranking["mean"][0] > comparison.as_given.ranking["mean"][0] + 0.3


def test_train_init_matched_starts_with_outputs_of_mean_square_one():
    data = load_data("digits")
    settings = TrainSettings(epochs=1, lr=1e-12, init="matched")
    module, X = train(data, "sigmoid", settings).module_.cpu(), torch.from_numpy(data.X)
    for layer in (module.fc1, module):
        with torch.no_grad():
            assert float(layer(X).square().mean()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("optimizer", "lr", "rates"),
    [
        (torch.optim.SGD, 0.01, {0.001, 0.003, 0.01, 0.03, 0.1}),
        (torch.optim.SGD, 0.02, {0.001, 0.003, 0.01, 0.02, 0.03, 0.1}),
        (torch.optim.Adam, 0.001, {0.0001, 0.0003, 0.001, 0.003, 0.01}),
        (torch.optim.Adagrad, 0.5, {0.05, 0.15, 0.5, 1.5, 5.0}),
    ],
)
def test_list_auto_candidates_surrounds_the_usual_rate(optimizer, lr, rates):
    net = skorch.NeuralNetClassifier(nn.Linear, optimizer=optimizer, lr=lr)
    candidates = list_auto_candidates(net, "matched")
    assert candidates[0] == {"lr": lr, "init": "matched"}
    assert {one["lr"] for one in candidates} == rates
    assert len({tuple(one.items()) for one in candidates}) == len(candidates)
    assert len(candidates) == (11 if lr == 0.02 else 10)


@pytest.mark.parametrize(
    ("rate", "tried", "expected"),
    [
        (0.1, [0.01, 0.1], 0.3),
        (0.3, [0.01, 0.3], 1.0),
        (0.001, [0.001, 0.1], 0.0003),
        (0.02, [0.01, 0.02], 0.03),
        (1e30, [0.01, 1e30], 3e30),
        (0.03, [0.01, 0.03, 0.1], None),
    ],
)
def test_find_next_rate(rate, tried, expected):
    assert find_next_rate(rate, tried, 0.01) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tune": "never"}, "tune must be 'auto', None or a dictionary"),
        ({"tune": {"init": ["xavier"]}}, "init must be 'torch' or 'matched', got 'xavier'"),
        ({"tune": {"lr": [0.1, 0.0]}}, "tune needs learning rates > 0, got lr=0.0"),
        ({"tune": {"lr": []}}, "tune needs a list of values"),
        ({"init": "xavier"}, "init must be 'torch' or 'matched', got 'xavier'"),
        (
            {"until_decided": True, "budget": 47},
            "budget must be >= 48 runs, the size of the first round; a tuned run counts as 4, got 47",
        ),
    ],
)
def test_compare_rejects_invalid_tuning(options, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        actlab.compare(["relu", "tanh"], "digits", **options)


def test_compare_rejects_tuning_without_validation_samples():
    net = make_net(load_data("digits"), "relu", TrainSettings()).set_params(train_split=None)
    with pytest.raises(UsageError, match=r"train_split is None; set it, or set tune=None \(--no-tune\)"):
        actlab.compare(["relu"], "digits", module=net)


@pytest.mark.parametrize("epochs", [0, -1, "many"])
@pytest.mark.parametrize("until_decided", [False, True])
def test_compare_rejects_invalid_epochs_of_a_model_that_is_tuned(epochs, until_decided):
    net = make_net(load_data("digits"), "relu", TrainSettings()).set_params(max_epochs=epochs)
    with pytest.raises(UsageError, match=f"max_epochs must be an integer >= 1, got {epochs!r}"):
        actlab.compare(["relu", "tanh"], "digits", module=net, until_decided=until_decided)


def test_compare_tune_with_the_given_value_alone_tunes_nothing():
    comparison = actlab.compare(["relu"], "digits", tune={"lr": [0.01]}, epochs=1, folds=2)
    assert comparison.as_given is None
    assert comparison.tuning.empty


# -- sentences ------------------------------------------------------------------------------------


def make_comparison(verdict, means, *, as_given=None, status=("", ""), gain=0.0):
    """Return a comparison of relu and sigmoid with a verdict on sigmoid and mean scores."""
    ranks = {"better": [2, 1], "worse": [1, 2]}.get(verdict, [1, 1])
    ranks = [None if text else rank for text, rank in zip(status, ranks, strict=True)]
    ranking = pd.DataFrame({"rank": ranks, "activation": NAMES, "mean": means, "runs": 4, "status": status})
    pair = {"a": "sigmoid", "b": "relu", "verdict": verdict, "difference": means[1] - means[0]}
    more = {"low": -0.3, "high": 0.1, "level": 0.05, "p_holm": 0.01, "wins": 0.0, "runs": 4, "reason": "why"}
    history = pd.DataFrame(
        {
            "activation": name,
            "split": 0,
            "fold": fold,
            "seed": 0,
            "epoch": epoch,
            "valid_acc": 0.5 + gain * epoch,
        }
        for name in NAMES
        for fold in (1, 2)
        for epoch in range(1, 26)
    )
    tuned = [{"lr": 0.1}, {"lr": 0.2}] if as_given else []
    about = {
        "metric": "accuracy",
        "points": True,
        "region": 0.001,
        "region_is": "the minimum",
        "tuned": tuned,
    }
    results = pd.DataFrame({"activation": NAMES})
    return actlab.Comparison(
        results, history, pd.DataFrame([{**pair, **more}]), ranking, about=about, as_given=as_given
    )


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            ("worse", [0.95, 0.69]),
            ("undecided", [0.96, 0.95]),
            "sigmoid is worse than relu by 26.00 pp with the settings as given, and ties for first when "
            "tuned (1.00 pp below the highest mean): the difference comes from the settings.",
        ),
        (
            ("worse", [0.95, 0.69]),
            ("better", [0.95, 0.96]),
            "sigmoid is worse than relu by 26.00 pp with the settings as given, and is the best when tuned: "
            "the difference comes from the settings.",
        ),
        (
            ("worse", [0.95, 0.91]),
            ("undecided", [0.96, 0.93]),
            "sigmoid is worse than relu by 4.00 pp with the settings as given, and ties for first when tuned "
            "(3.00 pp below the highest mean): the difference that remains is not significant.",
        ),
        (
            ("undecided", [0.95, 0.94]),
            ("worse", [0.96, 0.93]),
            "sigmoid is worse than relu by 3.00 pp when tuned, but is not significantly worse with the "
            "settings as given.",
        ),
        (
            ("worse", [0.95, 0.69]),
            ("worse", [0.96, 0.93]),
            "Tuning does not change which activations are significantly worse.",
        ),
    ],
)
def test_describe_comparison_states_what_the_settings_change(before, after, sentence):
    comparison = make_comparison(*after, as_given=make_comparison(*before))
    assert sentence in comparison.sentences()


def test_describe_comparison_states_what_tuning_does_for_chance_level():
    given = make_comparison("none", [0.95, 0.1], status=("", "chance level for 4 of 4 seeds"))
    comparison = make_comparison("worse", [0.96, 0.93], as_given=given)
    sentence = (
        "sigmoid is at chance level for 4 of 4 seeds with the settings as given, and is worse than relu"
    )
    assert any(sentence in line for line in comparison.sentences())


@pytest.mark.parametrize(("gain", "is_qualified"), [(0.006, True), (0.0001, False), (-0.006, False)])
def test_describe_comparison_states_that_a_worse_activation_has_not_converged(gain, is_qualified):
    sentences = make_comparison("worse", [0.95, 0.69], gain=gain).sentences()
    sentence = "sigmoid had not converged after 25 epochs: it was still gaining 0.60 pp per epoch."
    assert any(sentence in line for line in sentences) == is_qualified


def test_describe_comparison_states_the_gain_in_accuracy_for_any_score():
    comparison = make_comparison("worse", [-0.2, -0.5], gain=0.006)
    comparison = dataclasses.replace(comparison, about={**comparison.about, "points": False})
    assert any("it was still gaining 0.60 pp per epoch" in line for line in comparison.sentences())
    losses = comparison.history.assign(valid_acc=np.nan, valid_loss=9 - 0.2 * comparison.history["epoch"])
    sentences = dataclasses.replace(comparison, history=losses).sentences()
    assert any("it was still lowering its loss by 0.2 per epoch" in line for line in sentences)
