import dataclasses

import pandas as pd
import pytest

from actlab import Comparison
from actlab.comparison.tables import make_ranking_table
from actlab.judging.verdict_tables import VERDICTS

ABOUT = {"metric": "accuracy", "region": 0.001, "region_is": "the minimum", "points": True, "tuned": []}
NAN = float("nan")


def pair(a, b, verdict, difference, low, high, **more):
    defaults = {"level": 0.05, "p": 0.01, "p_holm": 0.0123, "p_equivalent": 0.967, "wins": 0.75, "runs": 12}
    row = {**dict.fromkeys(VERDICTS, NAN), **defaults, "seeds": 4, "reason": "", "more_seeds": pd.NA, **more}
    return {**row, "a": a, "b": b, "verdict": verdict, "difference": difference, "low": low, "high": high}


def comparison(scores, verdicts, failures=None, chance=(), lr=0.1, **about):
    rows = [
        {
            "activation": name,
            "fold": 1 + index % 3,
            "lr": lr,
            "seed": index // 3,
            "score": score,
            "failure": (failures or {}).get(name, "") if score != score else "",
            "chance": name in chance,
        }
        for name, values in scores.items()
        for index, score in enumerate(values)
    ]
    results = pd.DataFrame(rows)
    frame = pd.DataFrame(verdicts, columns=VERDICTS)
    return Comparison(
        results, pd.DataFrame(), frame, make_ranking_table(results, frame, 2), about={**ABOUT, **about}
    )


HIGH, LOW, LOWEST = [0.9, 0.92, 0.94] * 2, [0.8, 0.82, 0.84] * 2, [0.1] * 6


def test_sentences_name_the_better_activation_first():
    one = comparison({"relu": HIGH, "tanh": LOW}, [pair("relu", "tanh", "better", 0.1, 0.05, 0.15)])
    other = comparison(
        {"tanh": LOW, "relu": HIGH}, [pair("tanh", "relu", "worse", -0.1, -0.15, -0.05, wins=0.25)]
    )
    assert one.sentences() == other.sentences()
    assert one.sentences() == [
        "Best: relu, mean accuracy 0.9200 over 6 runs.",
        "tanh is worse than relu by 10.00 pp (95 % interval +5.00 to +15.00); p = 0.0123; "
        "relu is ahead in 75% of 12 pairs of runs.",
        "Region of practical equivalence: differences of at most 0.10 pp (the minimum).",
    ]


def test_sentences_name_activations_tied_for_first():
    result = comparison(
        {"relu": HIGH, "tanh": LOW, "elu": LOW},
        [
            pair("relu", "tanh", "undecided", 0.1, -0.05, 0.25, reason="about 3 more seeds would decide it"),
            pair("relu", "elu", "better", 0.1, 0.05, 0.15),
            pair("tanh", "elu", "equivalent", 0.0, -0.0005, 0.0005),
        ],
    )
    assert result.ranking[["rank", "activation"]].to_numpy().tolist() == [
        [1, "relu"],
        [1, "tanh"],
        [2, "elu"],
    ]
    sentences = result.sentences()
    assert sentences[0] == (
        "Tied for first (no significant difference): relu (0.9200), tanh (0.8200); mean accuracy over 6 runs."
    )
    assert sentences[1] == (
        "relu and tanh: undecided; difference 10.00 pp (95 % interval -5.00 to +25.00), p = 0.0123 corrected "
        "for 3 pairs; about 3 more seeds would decide it."
    )
    assert sentences[3] == (
        "tanh and elu are practically equivalent: difference 0.00 pp (95 % interval -0.05 to +0.05), "
        "96.7% within the region."
    )


def test_sentences_correct_p_for_the_tested_pairs():
    rows = [
        pair("relu", "tanh", "undecided", 0.0121, 0.0002, 0.024, p_holm=0.0956, reason="more seeds may"),
        pair("relu", "elu", "better", 0.1, 0.05, 0.15),
        *(pair(name, "mish", "none", NAN, NAN, NAN, p_holm=NAN) for name in ("relu", "tanh", "elu")),
    ]
    scores = {"relu": HIGH, "tanh": LOW, "elu": LOW, "mish": [NAN] * 6}
    sentences = comparison(
        scores, rows, failures={"mish": "diverged: train_loss is nan in epoch 1"}
    ).sentences()
    assert sentences[1] == (
        "relu and tanh: undecided; difference 1.21 pp (95 % interval +0.02 to +2.40), p = 0.0956 corrected "
        "for 2 pairs; more seeds may."
    )
    assert sentences[2] == (
        "elu is worse than relu by 10.00 pp (95 % interval +5.00 to +15.00); p = 0.0123 corrected for "
        "2 pairs; relu is ahead in 75% of 12 pairs of runs."
    )


def test_sentences_count_failures_and_runs_at_chance_level():
    result = comparison(
        {"relu": HIGH, "elu": [*HIGH[:4], NAN, NAN], "sigmoid": LOWEST},
        [
            pair("relu", "elu", "none", NAN, NAN, NAN, reason="elu diverged in 2 of 6 runs"),
            pair("relu", "sigmoid", "better", 0.82, 0.8, 0.84),
            pair("elu", "sigmoid", "none", NAN, NAN, NAN, reason="elu diverged in 2 of 6 runs"),
        ],
        failures={"elu": "diverged: train_loss is nan in epoch 3"},
        chance=["sigmoid"],
    )
    sentences = result.sentences()
    assert sentences[0] == "Only relu has a rank: mean accuracy 0.9200 over 6 runs."
    assert sentences[1:3] == [
        "sigmoid is at chance level for 2 of 2 seeds; it has no rank.",
        "elu diverged in 2 of 6 runs; it has no rank.",
    ]
    assert "sigmoid is at chance level for 2 of 2 seeds; it has no rank." in sentences
    assert "elu diverged in 2 of 6 runs; it has no rank." in sentences
    assert result.ranking["rank"].isna().to_list() == [False, True, True]
    assert sum(" elu" in f" {sentence}" for sentence in sentences) == 1


@pytest.mark.parametrize(("level", "text"), [(0.75, "0.7500"), (-1e-17, "0.0000"), (-1.25, "-1.2500")])
def test_sentences_state_the_score_at_chance_level(level, text):
    rows = [pair("relu", "sigmoid", "better", 0.82, 0.8, 0.84)]
    result = comparison({"relu": HIGH, "sigmoid": LOWEST}, rows, chance=["sigmoid"])
    result = dataclasses.replace(result, about={**result.about, "chance_level": level})
    assert f"sigmoid is at chance level ({text}) for 2 of 2 seeds; it has no rank." in result.sentences()


def test_sentences_use_percentage_points_only_for_shares():
    result = comparison(
        {"relu": [-0.2] * 6, "tanh": [-0.25] * 6},
        [pair("relu", "tanh", "better", 0.05, 0.01234, 0.09)],
        points=False,
        region=0.0021,
        metric="neg_log_loss",
    )
    assert "by 0.05 (95 % interval +0.0123 to +0.09)" in result.sentences()[1]
    assert "at most 0.0021 (" in result.sentences()[-1]


def test_sentences_of_many_pairs_describe_those_of_the_first():
    names = [f"f{number:02}" for number in range(10)]
    scores = {name: [0.9 - 0.01 * index] * 6 for index, name in enumerate(names)}
    rows = [
        pair(a, b, "better", 0.01, 0.005, 0.015) for index, a in enumerate(names) for b in names[index + 1 :]
    ]
    sentences = comparison(scores, rows).sentences()
    assert [f"f{number:02} is worse than f00" in sentences[number] for number in range(1, 10)] == [True] * 9
    assert "33 more pairs are in the table of verdicts." in sentences


def test_sentences_report_the_number_of_runs():
    values = [{"lr": 0.1}, {"lr": 0.2}]
    test = {"interim_analyses": 3, "stop_reason": "all pairs are decided", "dropped": {}}
    rows = [pair("relu", "tanh", "better", 0.1, 0.05, 0.15)]
    result = comparison(
        {"relu": HIGH, "tanh": LOW}, rows, tuned=values, sequential_test=test, trained=48, seeds=8
    )
    assert result.sentences()[-3:] == [
        "Tuning: each run was trained with 2 combinations of lr: 48 trials for 12 runs.",
        "Sequential test: 12 runs in 3 rounds with up to 8 seeds; all pairs are decided.",
        "Chosen most often: relu lr=0.1 (6 of 6 runs); tanh lr=0.1 (6 of 6 runs).",
    ]


def test_sentences_name_no_best_of_one_activation():
    result = comparison({"relu": HIGH}, [])
    assert result.sentences() == [
        "relu: mean accuracy 0.9200 over 6 runs.",
        "There is only one activation, so there is nothing to compare.",
    ]
    chance = comparison({"relu": LOWEST}, [], chance=["relu"])
    assert chance.sentences()[0] == "No activation has a rank."


def test_sentences_name_no_best_at_chance_level():
    rows = [pair("relu", "tanh", "undecided", 0.0, -0.1, 0.1, reason="more seeds may")]
    sentences = comparison({"relu": LOWEST, "tanh": LOWEST}, rows, chance=["relu", "tanh"]).sentences()
    assert sentences[0] == "No activation has a rank."
    assert not any("Best" in sentence or "first" in sentence for sentence in sentences)
