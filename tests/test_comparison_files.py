"""Comparison.to_csv and Comparison.load."""

import json

import pandas as pd
import pytest

from actlab import Comparison, UsageError, compare
from tests.test_comparison_verdicts import SHORT, dataset

__all__ = ["dataset"]


def test_comparison_load_restores_a_saved_comparison(dataset, tmp_path):
    options = {"tune": {"lr": [0.01, 0.05]}, "ledger": tmp_path / "l.sqlite"}
    comparison = compare(["relu", "tanh", "sigmoid"], dataset, seeds=2, **options, **SHORT)
    files = comparison.to_csv(tmp_path / "run")
    names = ["results", "history", "verdicts", "ranking", "tuning", "costs"]
    own = [*(f"{name}.csv" for name in names), "comparison.json"]
    given = [f"as_given/{name}" for name in own if name not in ("tuning.csv", "costs.csv")]
    assert {str(file.relative_to(tmp_path / "run")) for file in files} == {*own, *given}
    again = Comparison.load(tmp_path / "run")
    for name in names:
        pd.testing.assert_frame_equal(getattr(comparison, name), getattr(again, name), check_exact=True)
    assert comparison.costs["activation"].to_list() == ["relu", "tanh", "sigmoid"]
    assert again.about == comparison.about
    assert again.sentences() == comparison.sentences()
    assert json.loads((tmp_path / "run/comparison.json").read_text(), parse_constant=pytest.fail)


def test_comparison_load_restores_failures(dataset, tmp_path):
    comparison = compare(["relu", "tanh"], dataset, lr=1e30, tune=None, **SHORT)
    comparison.to_csv(tmp_path)
    again = Comparison.load(tmp_path)
    pd.testing.assert_frame_equal(comparison.ranking, again.ranking)
    pd.testing.assert_frame_equal(comparison.verdicts, again.verdicts)
    assert again.sentences() == comparison.sentences()


def _truncate(path):
    """Keep the header line only."""
    path.write_text(path.read_text().splitlines(keepends=True)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "comparison.json").unlink(), "there is no comparison.json"),
        (lambda folder: (folder / "comparison.json").write_text("[1"), "cannot read"),
        (lambda folder: (folder / "comparison.json").write_text("[{}]"), "does not describe a comparison"),
        (lambda folder: (folder / "verdicts.csv").unlink(), "cannot read .*verdicts.csv"),
        (lambda folder: (folder / "results.csv").write_text("a,b\n1,2\n"), "has no column 'activation'"),
        (lambda folder: (folder / "ranking.csv").write_bytes(b"\xff\xfe\x00"), "cannot read .*ranking.csv"),
        (lambda folder: (folder / "history.csv").write_text(""), "cannot read .*history.csv"),
        (lambda folder: _truncate(folder / "ranking.csv"), "'relu' is not in all of ranking.csv"),
        (lambda folder: _truncate(folder / "results.csv"), "'relu' is not in all of ranking.csv"),
    ],
)
def test_comparison_load_rejects_a_broken_folder(dataset, tmp_path, change, message):
    compare(["relu"], dataset, tune=None, **SHORT).to_csv(tmp_path)
    change(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        Comparison.load(tmp_path)
    assert "\n" not in str(caught.value)
