"""``actlab compare`` on a fixed test set, by group and over time."""

import json

import numpy as np
import pandas as pd
import pytest

from actlab import Comparison
from actlab.cli import main
from tests.command_line import in_empty_folder, refused

__all__ = ["in_empty_folder"]

QUICK = ("--no-tune", "--epochs", "2", "--jobs", "1", "--json", "--quiet")
TABLE = ("compare", "relu", "tanh", "--data", "train.csv", "--target", "label")


@pytest.fixture(autouse=True)
def tables(in_empty_folder):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    table = pd.DataFrame(rng.normal(size=(120, 4)) + np.eye(3, 4)[y], columns=list("abcd"))
    table = table.assign(label=y, who=np.arange(120) // 6)
    table[:90].to_csv("train.csv", index=False)
    table[90:].to_csv("test.csv", index=False)


def run_compare(capsys, *options):
    assert main([*TABLE, *QUICK, *options]) == 0
    return json.loads(capsys.readouterr().out), Comparison.load("out/compare").about


def test_compare_scores_a_test_file_and_reproduces_the_command(capsys):
    result, about = run_compare(capsys, "--test", "test.csv", "--groups", "who")
    assert "Fixed test set: 30 samples; 90 training samples, 18 of them for validation." in result["insights"]
    assert (about["split"], about["folds"], about["seeds"]) == ("test set", 1, 3)
    assert "--test test.csv --groups who" in about["command"]
    assert len(pd.read_csv("out/compare/results.csv")) == 6


@pytest.mark.parametrize(
    ("options", "split"), [(("--groups", "who"), "group"), (("--split", "time", "--seeds", "2"), "time")]
)
def test_compare_splits_by_group_and_over_time(capsys, options, split):
    result, about = run_compare(capsys, *options)
    assert (about["split"], about["folds"]) == (split, 3)
    assert any(sentence.startswith("Folds ") for sentence in result["insights"])


def test_compare_refuses_test_sets_groups_and_weights_of_several_datasets(capsys):
    for option, value in (("--test", "test.csv"), ("--groups", "who"), ("--weights", "a")):
        expected = f"{option} {value!r} needs one dataset, got 2; compare each by itself"
        assert expected in refused(capsys, *TABLE, "--data", "digits", option, value)


def test_compare_weighs_samples_by_a_column(capsys):
    pd.read_csv("train.csv").assign(w=np.arange(90) % 4).to_csv("train.csv", index=False)
    result, about = run_compare(capsys, "--weights", "w")
    assert "Losses and scores are weighted means over samples." in result["insights"]
    assert about["weighted"]
    assert "--weights w" in about["command"]
    expected = "train.csv: weights must be finite and >= 0, got "
    assert expected in refused(capsys, *TABLE, "--weights", "a")


def test_compare_refuses_folds_beside_a_test_set(capsys):
    expected = "folds=4 is not used, because the test set of train.csv is fixed; omit folds=4"
    assert expected in refused(capsys, *TABLE, "--test", "test.csv", "--folds", "4")


def test_train_has_no_test_set(capsys):
    assert "unrecognized arguments: --test" in refused(capsys, "train", "--test", "test.csv")


def test_compare_and_train_drop_columns_and_reproduce_the_command(capsys):
    _, about = run_compare(capsys, "--drop", "who", "--drop", "a")
    assert about["preprocessing"] == "3 numeric; dropped on request: who, a"
    assert "--drop who --drop a" in about["command"]
    expected = "train.csv: drop and target are the same column, 'label'; name different columns"
    assert expected in refused(capsys, *TABLE, "--drop", "label")
    train = ["train", "--data", "train.csv", "--target", "label", "--epochs", "1", "--json", "--quiet"]
    assert main([*train, "--drop", "who", "--drop", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == about["fingerprint"]
