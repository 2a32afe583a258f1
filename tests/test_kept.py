"""Reports of what has not ended, of one training, and of folders that are not as they were left."""

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
from tests.command_line import elsewhere, refused, tiny
from tests.processes import started, waited

__all__ = ["elsewhere", "tiny"]

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


def test_a_comparison_is_reported_while_it_runs_when_it_was_killed_and_when_it_has_ended(tiny, capsys):
    Path("kept_own.py").write_text(WAITING)
    # The waiting one is known by its place in the order only: what is quick has ended before it begins.
    options = ["--data", tiny, *QUICK, "--diagnostics", "--jobs", "1", "--out", "run"]
    call = ["compare", "relu", "kept_own.py:Waiting", *options]
    with started([sys.executable, "-m", "actlab", *call]):  # killed at the end of the block
        assert waited(Path("started").exists, 120)
        running = report(capsys)
    assert "3 of 6 runs are done; verdicts follow when all are done." in running
    assert report(capsys) == running
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "3 of 6 runs are done" in page

    found = load_folder(Path("run"))
    assert found.about["unfinished"] == {"done": 3, "planned": 6}
    assert found.verdicts.empty
    assert found.results["activation"].to_list() == ["relu"] * 3
    assert found.results["score"].notna().all()
    assert found.ranking["activation"].to_list() == ["relu", "kept_own.py:Waiting"]
    assert found.ranking["rank"].isna().all()
    assert set(found.diagnostics["epoch"]) == {1, 2}
    assert len(found.history) == 6

    Path("go").touch()
    assert main(call) == 0
    capsys.readouterr()
    assert "runs are done" not in report(capsys)
    ended = load_folder(Path("run"))
    assert "unfinished" not in ended.about
    columns = ["fold", "seed", "score", "key"]
    pd.testing.assert_frame_equal(ended.results[columns][:3], found.results[columns], rtol=1e-12)
    pd.testing.assert_frame_equal(
        ended.diagnostics[ended.diagnostics["activation"] == "relu"].reset_index(drop=True),
        found.diagnostics,
        rtol=1e-12,
    )
    said = json.loads(report(capsys, "--json"))
    assert said["files"] == ["run/report.html"]


def test_before_anything_has_ended_there_is_a_page_that_says_so(capsys):
    about = {"activations": ["relu", "tanh"], "metric": "accuracy", "tuned": [], "data": "digits"}
    place = {"split": 0, "fold": 0, "seed": 0, "tuned": {}}
    runs = [{**place, "activation": name, "key": name} for name in ("relu", "tanh")]
    with Ledger("run/ledger.sqlite") as ledger:
        ledger.start_comparison(about, runs)
    assert report(capsys).startswith("0 of 2 runs are done; verdicts follow when all are done.")
    assert "There are no runs." in Path("run/report.html").read_text(encoding="utf-8")


def test_of_what_is_tuned_the_best_so_far_counts(tiny):
    begun = []

    def stop(ledger, token):
        begun.append(token)

    with pytest.MonkeyPatch.context() as patch:  # as if it had been killed right before it was done
        patch.setattr(Ledger, "end_comparison", stop)
        call = ["compare", "relu", "tanh", "--data", tiny, *QUICK, "--tune", "lr=0.001,0.2", "--seeds", "2"]
        assert main([*call, "--out", "run", "--quiet"]) == 0
    assert begun
    found, ended = load_folder(Path("run")), pd.read_csv("run/results.csv")
    assert found.about["unfinished"] == {"done": 24, "planned": 24}
    assert found.results["lr"].to_list() == ended["lr"].to_list()
    assert found.results["score"].to_list() == pytest.approx(ended["score"].to_list())


def test_a_comparison_by_another_scorer_has_no_scores_before_it_ends(tiny):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "end_comparison", lambda ledger, token: None)
        call = ["compare", "relu", "tanh", "--data", tiny, *QUICK, "--scoring", "f1_macro", "--out", "run"]
        assert main([*call, "--quiet"]) == 0
    found = load_folder(Path("run"))
    assert found.results["score"].isna().all()
    assert found.results["loss"].notna().all()
    assert (found.ranking["status"] == "").all()
    assert main(["report", "run"]) == 0


def test_the_rounds_of_a_race_are_one_comparison(tiny):
    counts = []
    begin = Ledger.start_comparison

    def note(ledger, about, runs):
        counts.append((len(runs), len(ledger.unfinished_comparisons())))
        return begin(ledger, about, runs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "start_comparison", note)
        call = ["compare", "relu", "tanh", "--data", tiny, *QUICK, "--until-decided", "--budget", "60"]
        assert main([*call, "--out", "run", "--quiet"]) == 0
    assert len(counts) > 1
    assert [before for _, before in counts] == [0] * len(counts)
    assert [runs for runs, _ in counts] == sorted({runs for runs, _ in counts})
    with Ledger("run/ledger.sqlite") as ledger:
        assert ledger.unfinished_comparisons() == []


# One training


def test_a_training_is_reported_again_as_it_was(capsys):
    assert main(["train", "--activation", "mish", "--epochs", "3", "--diagnostics", "--out", "run"]) == 0
    capsys.readouterr()
    assert {path.name for path in Path("run").iterdir()} == {
        *("history.csv", "history.json", "training.json", "diagnostics.csv", "report.html", "hiplot.html"),
    }
    first = Path("run/report.html").read_bytes()
    said = json.loads(report(capsys, "--json"))
    assert Path("run/report.html").read_bytes() == first
    assert said["insights"][0].startswith("mish: validation accuracy ")
    assert b"actlab train --activation mish --data digits --epochs 3 --diagnostics" in first
    assert set(pd.read_csv("run/history.csv")) >= {"epoch", "train_loss", "valid_loss"}
    assert main(["train", "--epochs", "1", "--no-diagnostics", "--out", "run", "--quiet"]) == 0
    assert not Path("run/diagnostics.csv").exists()
    assert "they were switched off" in Path("run/report.html").read_text(encoding="utf-8")


def test_a_training_of_a_regression_has_no_accuracy(capsys):
    x = np.linspace(-1, 1, 60)
    np.savez("line.npz", X=np.stack([x, x**2], 1), y=x + 0.1)
    call = ["train", "--data", "line.npz", "--regression", "--epochs", "2", "--out", "run", "--quiet"]
    assert main(call) == 0
    assert report(capsys)
    found = load_folder(Path("run"))
    assert found.results["score"].isna().all()
    assert found.results["loss"].notna().all()


def test_a_training_that_diverges_is_reported(capsys):
    assert main(["train", "--lr", "1e20", "--epochs", "3", "--out", "run", "--quiet"]) == 1
    said = json.loads(report(capsys, "--json"))
    assert "diverged" in said["insights"][0]


# What is not as it was left


def test_what_has_nothing_or_something_broken_is_refused_in_one_line(tiny, capsys):
    Path("run").mkdir()
    assert "no comparison in 'run'" in refused(capsys, "report", "run")
    for text in ("{", "[]", "[3]", '[{"about": {}, "run": {}}]'):
        Path("run/training.json").write_text(text)
        assert "'run/training.json' does not describe a run" in refused(capsys, "report", "run")
    Path("run/training.json").unlink()
    with Ledger("run/ledger.sqlite") as ledger:
        ledger.start_comparison({"metric": "accuracy"}, [{"key": "0" * 64}])
    assert "its description of the comparison is broken" in refused(capsys, "report", "run")


def test_of_several_datasets_one_is_named(tiny, capsys):
    call = ["compare", "relu", "tanh", "--data", tiny, "--data", "digits", "--epochs", "1", "--out", "run"]
    assert main([*call, "--quiet"]) == 0
    assert "choose one: run/digits, run/tiny.npz" in refused(capsys, "report", "run")
    assert main(["report", "run/tiny.npz"]) == 0


def test_beside_a_comparison_that_has_ended_an_older_ledger_does_not_matter(tiny, capsys):
    assert main(["compare", "relu", "tanh", "--data", tiny, *QUICK, "--out", "run", "--quiet"]) == 0
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


def test_ones_own_activations_have_curves_without_being_imported_again(tiny, capsys):
    Path("kept_own.py").write_text(OWN)
    call = [
        "compare",
        "kept_own.py:Gate",
        "kept_own.py:Mixed",
        "torch.nn:GELU",
        "--data",
        tiny,
        "--epochs",
        "1",
    ]
    assert main([*call, "--out", "run", "--quiet"]) == 0
    Path("kept_own.py").write_text("raise SystemExit('imported')")
    assert report(capsys)
    curves = load_folder(Path("run")).curves
    assert curves["activation"].unique().tolist() == ["kept_own.py:Gate", "torch.nn:GELU"]
    gate = curves[curves["activation"] == "kept_own.py:Gate"]
    s = 1 / (1 + np.exp(-1.5 * gate["x"]))
    np.testing.assert_allclose(gate["f"], gate["x"] * s, atol=1e-12)
    np.testing.assert_allclose(gate["f1"], s * (1 + 1.5 * gate["x"] * (1 - s)), atol=1e-12)
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert page.count(" has no curve here: it is a user module, and its curve was not saved.") == 1
