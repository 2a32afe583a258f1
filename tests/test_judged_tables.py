"""Judge published tables: the page, the verdicts, and the figures that the authors publish."""

import re

import pandas as pd
import pytest
from benchmarks.judged import PAGE, TABLES, format_page, judge_table, read_tables

ENTRIES = read_tables()


def judge(name, **options):
    return judge_table(name, {**ENTRIES[name]["options"], **options})


def test_format_page_is_the_published_page():
    assert PAGE.read_text(encoding="utf-8") == format_page()


def test_format_page_links_every_table_with_its_source():
    assert {path.stem for path in TABLES.glob("*.csv")} == set(ENTRIES)
    for name, entry in ENTRIES.items():
        frame = pd.read_csv(TABLES / f"{name}.csv")
        (source,) = frame["source"].unique()
        place = re.split(r"[ ,]", source)[0]
        assert place in entry["source"]


def test_judge_of_the_scikit_learn_example_has_its_published_figures():
    rows = judge("svm_kernels").verdicts.set_index(["a", "b"])
    pair = rows.loc["linear", "rbf"]
    assert (-pair["high"], -pair["low"]) == pytest.approx((-0.016445, 0.036445), abs=5e-7)
    assert pair["p_better"] == pytest.approx(0.068, abs=5e-4)  # linear is better than rbf
    assert pair["p_equivalent"] == pytest.approx(0.43, abs=5e-3)
    assert rows.loc["poly 3", "rbf"]["p_better"] == pytest.approx(0.018, abs=5e-4)
    assert rows.loc["poly 3", "rbf"]["p_equivalent"] == pytest.approx(0.10, abs=5e-3)
    decided = rows[rows["verdict"] != "undecided"].index.to_list()
    assert decided == [("linear", "poly 2"), ("poly 2", "poly 3"), ("poly 2", "rbf")]


def test_judge_of_naive_bayes_and_aode_has_the_published_probabilities():
    (row,) = judge("anneal").verdicts.to_dict("records")
    assert (row["a"], row["verdict"]) == ("naive Bayes", "worse")
    assert row["p_worse"] == pytest.approx(0.9542966, abs=2e-5)  # the published scores have more digits
    assert row["p_equivalent"] == pytest.approx(0.0457031, abs=2e-5)
    assert row["p_better"] == pytest.approx(3.035e-7, rel=0.01)


def test_judge_of_demsars_table_decides_one_pair():
    rows = judge("c45").verdicts
    assert rows[rows["verdict"] != "undecided"][["a", "b"]].to_numpy().tolist() == [["C4.5+m", "C4.5"]]


def test_judge_of_networks_as_datasets_decides_for_mish():
    rows = judge("mish").verdicts
    assert rows[rows["verdict"] == "better"][["a", "b"]].to_numpy().tolist() == [
        ["Mish", "Swish"],
        ["Mish", "ReLU"],
    ]
    unpaired = judge("mish", dataset=None)
    assert set(unpaired.verdicts["verdict"]) == {"undecided"}
    assert any(one.startswith("Column 'network' has the same 35 values") for one in unpaired.sentences())


@pytest.mark.parametrize(
    ("name", "options", "verdict"),
    [
        ("caffenet", {}, "none"),
        ("kl_soap", {}, "worse"),
        ("kl_soap", {"rope": None}, "worse"),
        ("frobenius", {}, "undecided"),
        ("leaky_relu_squared", {}, "undecided"),
        ("covid", {}, "undecided"),
        ("covid", {"pair": None}, "undecided"),
    ],
)
def test_judge_of_published_tables_has_one_verdict_on_all_pairs(name, options, verdict):
    assert set(judge(name, **options).verdicts["verdict"]) == {verdict}
