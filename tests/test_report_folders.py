"""The verb ``report`` for unfinished comparisons, single runs and changed folders."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from actlab.cli import main
from actlab.comparison.loading import load_folder
from actlab.ledger.ledger import Ledger
from actlab.ledger.sqlite import FORMAT
from tests.command_line import in_empty_folder, refused, tiny_data
from tests.processes import start_process, wait_until

__all__ = ["in_empty_folder", "tiny_data"]

WAITING = """
import pathlib, time, torch

class Waiting(torch.nn.Module):
    def forward(self, x):
        if len(x) > 2:  # two rows are tried beforehand
            pathlib.Path("started").touch()
            while not pathlib.Path("go").exists():
                time.sleep(0.05)
        return torch.relu(x)
"""
QUICK = ("--epochs", "2", "--batch-size", "16")


def report(capsys, *more):
    assert main(["report", "run", *more]) == 0
    return capsys.readouterr().out


def test_report_of_a_comparison_that_runs_was_killed_or_has_ended(tiny_data, capsys):
    Path("user_activations.py").write_text(WAITING)
    # Runs train in order, so the quick ones have ended when the waiting one starts.
    options = ["--data", tiny_data, *QUICK, "--diagnostics", "--jobs", "1", "--out", "run"]
    call = ["compare", "--no-tune", "relu", "user_activations.py:Waiting", *options]
    with start_process([sys.executable, "-m", "actlab", *call]):  # killed at the end of the block
        assert wait_until(Path("started").exists, 120)
        running = report(capsys)
    assert "3 of 6 runs are done; verdicts follow when all are done." in running
    assert report(capsys) == running
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "3 of 6 runs are done" in page

    comparison = load_folder(Path("run"))
    assert comparison.about["unfinished"] == {"done": 3, "planned": 6}
    assert comparison.verdicts.empty
    assert comparison.results["activation"].to_list() == ["relu"] * 3
    assert comparison.results["score"].notna().all()
    assert comparison.ranking["activation"].to_list() == ["relu", "user_activations.py:Waiting"]
    assert comparison.ranking["rank"].isna().all()
    assert set(comparison.diagnostics["epoch"]) == {1, 2}
    assert len(comparison.history) == 6

    Path("go").touch()
    assert main(call) == 0
    capsys.readouterr()
    assert "runs are done" not in report(capsys)
    ended = load_folder(Path("run"))
    assert "unfinished" not in ended.about
    columns = ["fold", "seed", "score", "key"]
    pd.testing.assert_frame_equal(ended.results[columns][:3], comparison.results[columns], rtol=1e-12)
    pd.testing.assert_frame_equal(
        ended.diagnostics[ended.diagnostics["activation"] == "relu"].reset_index(drop=True),
        comparison.diagnostics,
        rtol=1e-12,
    )
    output = json.loads(report(capsys, "--json"))
    assert output["files"] == ["run/report.html"]


def test_report_before_the_first_finished_run(capsys):
    about = {"activations": ["relu", "tanh"], "metric": "accuracy", "tuned": [], "data": "digits"}
    labels = {"split": 0, "fold": 0, "seed": 0, "tuned": {}, "screening": False, "restored_by": ""}
    runs = [{**labels, "activation": name, "key": name} for name in ("relu", "tanh")]
    with Ledger("run/ledger.sqlite") as ledger:
        ledger.start_comparison(about, runs)
    assert report(capsys).startswith("0 of 2 runs are done; verdicts follow when all are done.")
    assert "There are no runs." in Path("run/report.html").read_text(encoding="utf-8")


def test_report_of_an_unfinished_comparison_uses_the_best_tuned_values(tiny_data):
    tokens = []

    def stop(ledger, token):
        tokens.append(token)

    with pytest.MonkeyPatch.context() as patch:  # the state after a kill just before the end
        patch.setattr(Ledger, "end_comparison", stop)
        call = [
            "compare",
            "relu",
            "tanh",
            "--data",
            tiny_data,
            *QUICK,
            "--tune",
            "lr=0.001,0.2",
            "--seeds",
            "2",
        ]
        assert main([*call, "--out", "run", "--quiet"]) == 0
    assert tokens
    comparison, ended = load_folder(Path("run")), pd.read_csv("run/results.csv")
    assert comparison.about["unfinished"] == {"done": 36, "planned": 36}
    assert comparison.results["lr"].to_list() == ended["lr"].to_list()
    assert comparison.results["score"].to_list() == pytest.approx(ended["score"].to_list())


def test_report_of_an_unfinished_comparison_with_a_scorer_has_no_scores(tiny_data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "end_comparison", lambda ledger, token: None)
        call = [
            *"compare --no-tune relu tanh --data".split(),
            tiny_data,
            *QUICK,
            *"--scoring f1_macro --out run".split(),
        ]
        assert main([*call, "--quiet"]) == 0
    comparison = load_folder(Path("run"))
    assert comparison.results["score"].isna().all()
    assert comparison.results["loss"].notna().all()
    assert (comparison.ranking["status"] == "").all()
    assert main(["report", "run"]) == 0


def test_ledger_has_one_comparison_for_all_rounds_of_a_sequential_test(tiny_data):
    counts = []
    start_comparison = Ledger.start_comparison

    def note(ledger, about, runs):
        counts.append((len(runs), len(ledger.unfinished_comparisons())))
        return start_comparison(ledger, about, runs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "start_comparison", note)
        call = [
            *"compare --no-tune relu tanh --data".split(),
            tiny_data,
            *QUICK,
            *"--until-decided --budget 60".split(),
        ]
        assert main([*call, "--out", "run", "--quiet"]) == 0
    assert len(counts) > 1
    assert [before for _, before in counts] == [0] * len(counts)
    assert [runs for runs, _ in counts] == sorted({runs for runs, _ in counts})
    with Ledger("run/ledger.sqlite") as ledger:
        assert ledger.unfinished_comparisons() == []


# A single training


def test_report_of_a_training_equals_its_first_report(capsys):
    assert main(["train", "--activation", "mish", "--epochs", "3", "--diagnostics", "--out", "run"]) == 0
    capsys.readouterr()
    assert {path.name for path in Path("run").iterdir()} == {
        *("history.csv", "history.json", "training.json", "diagnostics.csv", "report.html", "hiplot.html"),
    }
    first = Path("run/report.html").read_bytes()
    output = json.loads(report(capsys, "--json"))
    assert Path("run/report.html").read_bytes() == first
    assert output["insights"][0].startswith("mish: validation accuracy ")
    assert b"actlab train --activation mish --data digits --epochs 3 --diagnostics" in first
    assert set(pd.read_csv("run/history.csv")) >= {"epoch", "train_loss", "valid_loss"}
    assert main(["train", "--epochs", "1", "--no-diagnostics", "--out", "run", "--quiet"]) == 0
    assert not Path("run/diagnostics.csv").exists()
    assert "they were switched off" in Path("run/report.html").read_text(encoding="utf-8")


def test_report_of_a_regression_training_has_no_accuracy(capsys):
    x = np.linspace(-1, 1, 60)
    np.savez("line.npz", X=np.stack([x, x**2], 1), y=x + 0.1)
    call = ["train", "--data", "line.npz", "--regression", "--epochs", "2", "--out", "run", "--quiet"]
    assert main(call) == 0
    assert report(capsys)
    comparison = load_folder(Path("run"))
    assert comparison.results["score"].isna().all()
    assert comparison.results["loss"].notna().all()


def test_report_of_a_diverged_training(capsys):
    assert main(["train", "--lr", "1e20", "--epochs", "3", "--out", "run", "--quiet"]) == 1
    output = json.loads(report(capsys, "--json"))
    assert "diverged" in output["insights"][0]


# Changed or broken folders


def test_report_rejects_empty_and_broken_folders(tiny_data, capsys):
    Path("run").mkdir()
    assert "no comparison in 'run'" in refused(capsys, "report", "run")
    for text in ("{", "[]", "[3]", '[{"about": {}, "run": {}}]'):
        Path("run/training.json").write_text(text)
        assert "'run/training.json' does not describe a run" in refused(capsys, "report", "run")
    Path("run/training.json").unlink()
    with Ledger("run/ledger.sqlite") as ledger:
        ledger.start_comparison({"metric": "accuracy"}, [{"key": "0" * 64}])
    assert "its description of the comparison is damaged" in refused(capsys, "report", "run")


def test_report_of_several_datasets_requires_one_folder(tiny_data, capsys):
    call = [
        *"compare --no-tune relu tanh --data".split(),
        tiny_data,
        *"--data digits --epochs 1 --out run".split(),
    ]
    assert main([*call, "--quiet"]) == 0
    assert "choose one: run/digits, run/tiny.npz" in refused(capsys, "report", "run")
    assert main(["report", "run/tiny.npz"]) == 0


def test_report_of_a_finished_comparison_ignores_an_older_ledger(tiny_data, capsys):
    assert (
        main(["compare", "--no-tune", "relu", "tanh", "--data", tiny_data, *QUICK, "--out", "run", "--quiet"])
        == 0
    )
    with sqlite3.connect("run/ledger.sqlite") as file:
        file.execute(f"PRAGMA user_version = {FORMAT - 1}")
    file.close()
    assert report(capsys) == "Written: run/report.html\n"
    Path("run/comparison.json").unlink()
    assert "was written by an older actlab" in refused(capsys, "report", "run")


OWN = """
import torch

class Gate(torch.nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.5 * x)

class Mixed(torch.nn.Module):
    def forward(self, x):
        return x / (1 + x.norm())
"""


def test_report_draws_user_activations_without_importing_them(tiny_data, capsys):
    Path("user_activations.py").write_text(OWN)
    call = [
        *"compare --no-tune user_activations.py:Gate user_activations.py:Mixed torch.nn:GELU --data".split(),
        tiny_data,
        *"--epochs 1".split(),
    ]
    assert main([*call, "--out", "run", "--quiet"]) == 0
    Path("user_activations.py").write_text("raise SystemExit('imported')")
    assert report(capsys)
    curves = load_folder(Path("run")).curves
    assert curves["activation"].unique().tolist() == ["user_activations.py:Gate", "torch.nn:GELU"]
    gate = curves[curves["activation"] == "user_activations.py:Gate"]
    s = 1 / (1 + np.exp(-1.5 * gate["x"]))
    np.testing.assert_allclose(gate["f"], gate["x"] * s, atol=1e-12)
    np.testing.assert_allclose(gate["f1"], s * (1 + 1.5 * gate["x"] * (1 - s)), atol=1e-12)
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert page.count(" has no curve here: it is a user-defined module, and its curve was not saved.") == 1
