"""``actlab compare`` over several datasets."""

import json

import numpy as np
import pandas as pd
import pytest

from actlab.cli import main
from actlab.stats.several_datasets import compare_over_datasets
from tests.command_line import in_empty_folder, list_names, refused

__all__ = ["in_empty_folder"]

CALL = ["compare", "--no-tune", "relu", "tanh", "--epochs", "2", "--batch-size", "16"]


@pytest.fixture
def files(tmp_path):
    """Return seven small datasets as arguments."""
    collected = []
    for number in range(7):
        rng = np.random.default_rng(number)
        y = np.arange(60) % 2
        np.savez(f"d{number}.npz", X=rng.normal(size=(60, 3)) + y[:, None], y=y)
        collected += ["--data", f"d{number}.npz"]
    return collected


def test_compare_over_datasets_writes_a_folder_for_each_and_joint_verdicts(tmp_path, files, capsys):
    assert main([*CALL, *files, "--out", "run", "--json"]) == 0
    output = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert list(output["datasets"]) == [f"d{number}.npz" for number in range(7)]
    means = pd.read_csv(tmp_path / "run/means.csv").set_index("task")
    for name, summary in output["datasets"].items():
        found = {row["activation"]: row["mean"] for row in summary["ranking"]}
        assert means.loc[name].to_dict() == pytest.approx(found)
    runs = pd.read_csv(tmp_path / "run/runs.csv")
    scaled = (2 * runs["score"] - 1).clip(lower=0)  # one class is right for half of the samples
    assert runs["normalized"].to_list() == pytest.approx(scaled.to_list())
    expected = compare_over_datasets(runs.pivot_table("normalized", "task", "activation"))
    assert output["across"]["verdicts"][0]["p"] == pytest.approx(expected.verdicts["p"][0])
    assert "skipped" not in output
    assert list_names(tmp_path / "run") == [
        "across.csv",
        "critical_difference.png",
        *(f"d{number}.npz" for number in range(7)),
        "means.csv",
        "report.html",
        "runs.csv",
        "summary.csv",
    ]
    assert (tmp_path / "run/critical_difference.png").read_bytes().startswith(b"\x89PNG")
    assert "verdicts.csv" in list_names(tmp_path / "run/d3.npz")


def test_compare_over_two_datasets_reports_that_more_are_needed(files, capsys):
    assert main([*CALL, *files[:4], "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "Over 2 datasets:" in out
    assert "at least 6" in " ".join(out.split())


def test_compare_applies_data_options_only_where_they_fit(tmp_path, files, capsys):
    rng = np.random.default_rng(0)
    pd.DataFrame({"a": rng.normal(size=60), "kind": ["x", "y"] * 30}).to_csv("t.csv", index=False)
    assert main([*CALL, "--data", "t.csv", "--target", "kind", *files[:2], "--out", "run", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["d0.npz", "./d0.npz"], "the same data twice"),
        (["d0.npz", "dd/d0.npz"], "would be called 'd0.npz'"),
        (["d0.npz", "nowhere.npz"], "no such file: 'nowhere.npz'"),
    ],
)
def test_compare_rejects_invalid_lists_of_datasets(tmp_path, files, capsys, data, message):
    (tmp_path / "dd").mkdir()
    (tmp_path / "d1.npz").rename(tmp_path / "dd/d0.npz")
    arguments = [word for source in data for word in ("--data", source)]
    assert message in refused(capsys, *CALL, *arguments)
    assert not (tmp_path / "out").exists()
