import datetime
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

from actlab import UsageError
from actlab.integrations.hiplot import to_hiplot
from actlab.report.insights import history_insights
from actlab.report.tables import format_table, to_json_rows, to_json_value, write_csv, write_json

# Some epochs of the notebook's history.
TRAIN = [0.475174, 0.156564, 0.101438, 0.072656, 0.056315, 0.043030, 0.034617, 0.028333, 0.023698, 0.020254]
VALID = [0.188230, 0.127276, 0.113426, 0.103544, 0.093118, 0.100192, 0.106429, 0.127717, 0.124840, 0.112428]
ACCURACY = [
    0.941108,
    0.962349,
    0.966431,
    0.969679,
    0.974094,
    0.971345,
    0.970762,
    0.969263,
    0.969763,
    0.973844,
]
NAN = float("nan")


def history(train=TRAIN, valid=VALID, accuracy=ACCURACY):
    columns = {"train_loss": train, "valid_loss": valid, "valid_acc": accuracy}
    return pd.DataFrame({"epoch": range(1, len(train) + 1), **columns})


def test_history_insights_of_the_notebooks_history():
    assert history_insights(history()) == [
        "Best epoch: 5 of 10, with validation accuracy 0.9741.",
        "Overfitting starts after epoch 5: validation loss rises from its lowest, 0.09312, to 0.1124 "
        "at the end (+20.7 %), while training loss falls from 0.05631 to 0.02025.",
        "Accuracy stops improving after epoch 5: later epochs gain 0.0000.",
    ]


@pytest.mark.parametrize("train", [[3.0, 2.0, 1.0], [3.0, 2.0, 2.5]])
def test_history_insights_call_a_small_rise_no_overfitting(train):
    sentence = history_insights(history(train, [2.0, 1.0, 1.0001], [0.5, 0.8, 0.8]))[1]
    assert sentence == "No overfitting: validation loss rises by at most 1 % after epoch 2."


def test_history_insights_of_a_history_that_still_improves():
    assert history_insights(history([2.0, 1.0], [1.5, 0.5], [0.5, 0.75])) == [
        "Best epoch: 2 of 2, with validation accuracy 0.7500.",
        "No overfitting: validation loss reaches its lowest value, 0.5, in the last epoch.",
        "Accuracy was still improving: the last epoch gained 0.2500.",
    ]


def test_history_insights_add_up_small_gains():
    sentence = history_insights(history([3, 2, 1], [3, 2, 1], [0.9, 0.9008, 0.9016]))[-1]
    assert sentence == "Accuracy stops improving after epoch 1: later epochs gain 0.0016."


def test_history_insights_call_a_rise_of_both_losses_no_overfitting():
    sentence = history_insights(history([0.2, 0.4], [0.3, 0.6], [0.9, 0.8]))[1]
    assert sentence == (
        "No overfitting: after epoch 1 validation loss rises from its lowest, 0.3, to 0.6 at the end "
        "(+100.0 %), but training loss does not fall either (from 0.2 to 0.4)."
    )


def test_history_insights_report_divergence_first():
    assert history_insights(history([2.0, 1.0, NAN], [1.5, 1.2, NAN], [0.5, 0.6, 0.1])) == [
        "Training diverged at epoch 3 of 3: the training loss is nan.",
        "Best epoch: 2 of 2, with validation accuracy 0.6000.",
        "No overfitting: validation loss reaches its lowest value, 1.2, in the last epoch.",
        "Accuracy was still improving: the last epoch gained 0.1000.",
    ]
    first = history_insights(history([1.0, 1.0], [float("inf"), 1.0], [0.5, 0.6]))
    assert first[0] == "Training diverged at epoch 1 of 2: the validation loss is inf."
    assert first[1] == "Too few epochs with a finite loss to describe the run: at least 2 are needed, got 0."


def test_history_insights_of_one_epoch():
    assert history_insights(history([1.0], [1.0], [0.5])) == [
        "Too few epochs with a finite loss to describe the run: at least 2 are needed, got 1."
    ]


def regression_history(train=TRAIN, valid=VALID):
    """Return the history of a regression, which has no accuracies."""
    return history(train, valid, 0.0).drop(columns="valid_acc")


def test_history_insights_without_accuracy_use_the_validation_loss():
    assert history_insights(regression_history()) == [
        "Best epoch: 5 of 10, with validation loss 0.09312.",
        "Overfitting starts after epoch 5: validation loss rises from its lowest, 0.09312, to 0.1124 "
        "at the end (+20.7 %), while training loss falls from 0.05631 to 0.02025.",
        "Validation loss stops improving after epoch 5: later epochs gain 0.",
    ]


def test_history_insights_of_a_falling_loss():
    assert history_insights(regression_history([2.0, 1.0], [1.5, 0.5])) == [
        "Best epoch: 2 of 2, with validation loss 0.5.",
        "No overfitting: validation loss reaches its lowest value, 0.5, in the last epoch.",
        "Validation loss was still improving: the last epoch gained 1.",
    ]


@pytest.mark.parametrize(
    ("scale", "gain"),
    [(1.0, "0.0014"), (1e-6, "1.4e-09"), (1e6, "1400")],
)
def test_history_insights_add_up_small_decreases(scale, gain):
    sentences = history_insights(regression_history([3, 2, 1], [scale, 0.9993 * scale, 0.9986 * scale]))
    assert sentences[1].startswith("No overfitting: validation loss reaches its lowest value, ")
    assert sentences[2] == f"Validation loss stops improving after epoch 1: later epochs gain {gain}."


def test_history_insights_of_a_loss_of_zero():
    assert history_insights(regression_history([1, 0, 0], [1, 0, 0]))[::2] == [
        "Best epoch: 2 of 3, with validation loss 0.",
        "Validation loss stops improving after epoch 2: later epochs gain 0.",
    ]


def test_history_insights_of_a_diverged_regression():
    assert history_insights(regression_history([2.0, 1.0, NAN], [1.5, 1.2, NAN])) == [
        "Training diverged at epoch 3 of 3: the training loss is nan.",
        "Best epoch: 2 of 2, with validation loss 1.2.",
        "No overfitting: validation loss reaches its lowest value, 1.2, in the last epoch.",
        "Validation loss was still improving: the last epoch gained 0.3.",
    ]


@pytest.mark.parametrize("columns", [["valid_loss"], ["valid_acc", "valid_loss"]])
def test_history_insights_without_validation_losses(columns):
    assert history_insights(history().drop(columns=columns)) == [
        "Validation cannot be described: the history has no valid_loss."
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (NAN, None),
        (float("-inf"), None),
        (None, None),
        (pd.NaT, None),
        (pd.NA, None),
        (dict, "dict"),
        (pd.Timestamp("2024-05-06"), "2024-05-06T00:00:00"),
        (datetime.date(2024, 5, 6), "2024-05-06"),
        ("text", "text"),
        ((1, 2), "(1, 2)"),
    ],
)
def test_to_json_value_converts_numpy_and_pandas_values(value, expected):
    result = to_json_value(value)
    assert result == expected
    assert type(result) is type(expected)


def test_write_csv_and_write_json_agree(tmp_path):
    frame = history([1.0, NAN], [1 / 3, 0.1], [0.5, 0.6])
    write_csv(frame, tmp_path / "a.csv")
    write_json(to_json_rows(frame), tmp_path / "a.json")
    rows = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    pd.testing.assert_frame_equal(pd.DataFrame(rows), pd.read_csv(tmp_path / "a.csv"), check_exact=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json"]


def test_write_json_keeps_the_old_file_after_an_error(tmp_path):
    path = tmp_path / "a.json"
    write_json([{"a": 1}], path)
    with pytest.raises(ValueError, match="Out of range float"):
        write_json([{"a": NAN}], path)
    assert json.loads(path.read_text()) == [{"a": 1}]
    assert list(tmp_path.iterdir()) == [path]


def test_format_table_fits_the_terminal_and_counts_omitted_columns():
    frame = pd.DataFrame({"name": ["x" * 60], **{f"fold_{i}": [0.5] for i in range(1, 11)}})
    lines = format_table(frame).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith("x" * 39 + "…  0.5000")
    assert lines[-1] == "(5 columns omitted)"


def test_hiplot_page_escapes_values(tmp_path):
    rows = [{"</script><script>a": "</script><img src=x>", "b": np.float32(1), "c": int}]
    page = to_hiplot(rows).to_html(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page
    assert page.count("</script>") == 2
    assert "<img src=x>" not in page
    values = re.search(r"hiplot\.render\(document\.getElementById\(\"plot\"\), (.*)\);</script>", page)
    (point,) = json.loads(values[1])["experiment"]["datapoints"]
    # An invisible character after "<" prevents HiPlot's table from reading a tag.
    assert point["values"] == {
        "<\u2060/script><\u2060script>a": "<\u2060/script><\u2060img src=x>",
        "b": 1.0,
        "c": "int",
    }


def test_hiplot_page_uses_no_network(tmp_path):
    to_hiplot([{"a": 1}]).to_html(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    remote = r"(https?:)?//"
    assert not re.search(rf"@import\s*(url\()?[\\\"']*{remote}", page)
    assert not re.search(rf"url\([\\\"']*{remote}", page)
    assert not re.search(rf"<(script|img|link|iframe)\b[^>]*\b(src|href)=[\\\"']*{remote}", page)
    head = page.split("<script>")[0]
    assert re.findall(r"<link\b[^>]*>", head) == ['<link rel="icon" href="data:,">']


def test_to_hiplot_has_one_datapoint_per_row():
    points = to_hiplot([{"a": 1}, {"a": NAN}]).experiment.datapoints
    assert [point.values for point in points] == [{"a": 1}, {"a": None}]


def test_to_hiplot_rejects_no_rows():
    with pytest.raises(UsageError, match="at least one row"):
        to_hiplot([])


def test_to_hiplot_without_hiplot_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "hiplot", None)
    with pytest.raises(ImportError, match=r'pip install "actlab\[hiplot\]"'):
        to_hiplot([{"a": 1}])
