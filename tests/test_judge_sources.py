"""Tables of runs from files, folders, searches and trackers, and the judge command."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import optuna
import pandas as pd
import pytest

import actlab
from actlab.cli import main
from actlab.integrations.mlflow import open_store
from actlab.judging.sources import read_runs
from tests.command_line import in_empty_folder, refused
from tests.test_judge import make_runs, seeds

__all__ = ["in_empty_folder"]


@pytest.fixture
def frame():
    return make_runs({"new": 0.9, "old": 0.8}, seeds(5))


# -- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl", "json"])
def test_read_runs_reads_files(frame, tmp_path, suffix):
    path = tmp_path / f"runs.{suffix}"
    {
        "csv": lambda: frame.to_csv(path, index=False),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: frame.to_parquet(path),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "json": lambda: frame.to_json(path, orient="records"),
    }[suffix]()
    table, name = read_runs(path)
    pd.testing.assert_frame_equal(table, frame, check_dtype=False, rtol=1e-9)
    assert name == path.name


def test_read_runs_reads_a_folder_of_json_files_with_nested_values(tmp_path):
    for method, seed, score in (("a", 0, 0.9), ("a", 1, 0.91), ("b", 0, 0.8), ("b", 1, 0.82)):
        run = {"config": {"model": method, "seed": seed}, "test": {"accuracy": score}, "curve": [1, 2]}
        (tmp_path / f"{method}{seed}.json").write_text(json.dumps(run))
    table, _ = read_runs(tmp_path)
    assert sorted(table) == ["config.model", "config.seed", "file", "test.accuracy"]
    options = {"score": "test.accuracy", "method": "config.model", "pair": ["config.seed"]}
    assert actlab.judge(tmp_path, **options).verdicts["runs"].to_list() == [2]


def test_read_runs_reads_nested_values_in_a_list_of_runs(tmp_path):
    runs = [{"config": {"model": "a", "seed": 0}, "acc": 0.9}]
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    assert read_runs(tmp_path / "runs.json")[0].to_dict("records") == [
        {"config.model": "a", "config.seed": 0, "acc": 0.9}
    ]


def test_judge_agrees_with_compare_on_its_own_folder(tmp_path):
    options = {"seeds": 2, "epochs": 2, "tune": None, "rope": 0.001}
    comparison = actlab.compare(["relu", "tanh", "sigmoid"], "iris", **options)
    comparison.to_csv(tmp_path / "run")
    judgement = actlab.judge(tmp_path / "run", rope=0.001)
    assert judgement.design.kind == "folds and seeds"
    columns = ["a", "b", "verdict"]
    assert judgement.verdicts[columns].equals(comparison.verdicts[columns])
    exact = ["difference", "low", "high", "p", "p_holm", "p_equivalent", "wins"]
    for name in exact:
        assert judgement.verdicts[name].to_list() == pytest.approx(
            comparison.verdicts[name].to_list(), rel=1e-6
        )


def test_read_runs_reads_an_experiment_of_mlflow(frame, tmp_path):
    uri = f"sqlite:///{tmp_path}/runs.db"
    with open_store(uri, {}) as client:
        experiment = client.create_experiment("mine")
        for row in frame.to_dict("records"):
            run = client.create_run(experiment).info.run_id
            client.log_param(run, "method", row["method"])
            client.log_param(run, "seed", row["seed"])
            client.log_metric(run, "score", row["score"])
    judgement = actlab.judge(f"mlflow:{uri}#mine", score="score")
    assert judgement.verdicts["verdict"].to_list() in (["better"], ["worse"])
    assert judgement.verdicts["runs"].to_list() == [5]
    with pytest.raises(actlab.UsageError, match=r"there is no experiment 'other' in .*'mine'"):
        actlab.judge(f"mlflow:{uri}#other")


def test_read_runs_reads_a_study_of_optuna(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/s.db", study_name="tune", direction="maximize")
    space = {
        "model": optuna.distributions.CategoricalDistribution(["a", "b"]),
        "seed": optuna.distributions.IntDistribution(0, 9),
    }
    for model, seed, value in (("a", 0, 0.9), ("a", 1, 0.92), ("b", 0, 0.7), ("b", 1, 0.73)):
        study.add_trial(
            optuna.trial.create_trial(params={"model": model, "seed": seed}, distributions=space, value=value)
        )
    study.add_trial(
        optuna.trial.create_trial(
            params={"model": "a", "seed": 2}, distributions=space, state=optuna.trial.TrialState.FAIL
        )
    )
    source = f"optuna:{tmp_path}/s.db#tune"
    table, name = read_runs(source)
    assert actlab.judge(source).ranking["method"].to_list() == ["a", "b"]
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("UPDATE study_directions SET direction = 'MINIMIZE'")
    connection.close()
    assert actlab.judge(source).ranking["method"].to_list() == ["b", "a"]
    assert actlab.judge(source, lower_is_better=False).ranking["method"].to_list() == ["a", "b"]
    assert name == "tune"
    assert table[["model", "seed", "value"]].to_numpy().tolist() == [
        ["a", 0, 0.9],
        ["a", 1, 0.92],
        ["b", 0, 0.7],
        ["b", 1, 0.73],
    ]
    with pytest.raises(actlab.UsageError, match=r"there is no study 'other' in .*; it has 'tune'"):
        read_runs(f"optuna:{tmp_path}/s.db#other")


def test_read_runs_rejects_what_it_cannot_read(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.jsonl").write_text('{"a": 1}\n[2]\n')
    (tmp_path / "scalars.json").write_text('{"a": 1}')
    (tmp_path / "numbers.json").write_text("[1, 2]")
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "a.json").write_text("[1]")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "fake.db").write_text("no database")
    for source, message in (
        ("missing.csv", "there is no file or folder 'missing.csv'; runs can be"),
        ("broken.json", "cannot read 'broken.json' as JSON"),
        ("broken.jsonl", "a run must be a JSON object, got list"),
        ("scalars.json", "runs must be a list with an object for each run, or columns of equal length"),
        ("numbers.json", "run 1: a run must be a JSON object, got int"),
        ("latin.jsonl", "cannot read 'latin.jsonl': it is not UTF-8"),
        ("list", r"list.a.json: a run must be a JSON object, got list"),
        ("notes.txt", "cannot read 'notes.txt': runs can be"),
        ("empty", "'empty' has neither results.csv nor .json files"),
        ("optuna:fake.db#x", "'fake.db' is not a study of Optuna"),
        ("optuna:fake.db", "must have the form optuna:LOCATION#NAME"),
        (3, "runs must be a table or the name of a source, got int"),
    ):
        with pytest.raises(actlab.UsageError, match=message):
            read_runs(source)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("word", ["", "nan", "NaN", "NA", "N/A", "null", "NULL", "None", "?", "-", " nan "])
def test_judge_reads_every_missing_score_alike(frame, tmp_path, suffix, word):
    text = frame.assign(score=[word, *frame["score"].astype(str)[1:]])
    mixed = [
        {**row, "score": word if i == 0 else row["score"]} for i, row in enumerate(frame.to_dict("records"))
    ]
    path = tmp_path / f"runs.{suffix}"
    {
        "csv": lambda: text.to_csv(path, index=False),
        "tsv": lambda: text.to_csv(path, index=False, sep="\t"),
        "jsonl": lambda: path.write_text("\n".join(map(json.dumps, mixed))),
        "json": lambda: path.write_text(json.dumps(mixed)),
        "parquet": lambda: text.to_parquet(path),
    }[suffix]()
    judgement = actlab.judge(path)
    assert judgement.runs["failure"].to_list() == ["no score", *[""] * 9]
    assert judgement.verdicts["reason"][0] == "new has 1 of 5 runs without a score (no score)"


def test_judge_names_the_line_of_a_score_that_is_text(frame, tmp_path):
    text = frame.assign(score=frame["score"].astype(str).where(frame.index != 3, "crashed"))
    csv, jsonl, parquet = (tmp_path / f"runs.{suffix}" for suffix in ("csv", "jsonl", "parquet"))
    csv.write_text(text.to_csv(index=False))
    text.to_json(jsonl, orient="records", lines=True)
    text.to_parquet(parquet)
    for source, where in (
        (csv, f"line 5 of {csv}"),
        (jsonl, f"line 4 of {jsonl}"),
        (parquet, "row 4"),
        (text, "row 4"),
    ):
        with pytest.raises(actlab.UsageError) as caught:
            actlab.judge(source)
        hint = "scores must be numbers; leave the cell empty for a failed run"
        assert str(caught.value) == f"column 'score' has text, 'crashed' in {where}: {hint}"
    for content, where in (
        ("sep=,\n\n" + text.to_csv(index=False).replace("\n", "\n\n"), "line 11 of"),
        (text.assign(note="two\nlines").to_csv(index=False), "row 4"),
    ):
        csv.write_text(content)
        with pytest.raises(actlab.UsageError, match=f"'crashed' in {where}"):
            actlab.judge(csv)


@pytest.mark.parametrize("word", ["nan", "crashed"])
def test_judge_never_takes_another_column_because_the_score_has_text(frame, word):
    text = frame.assign(score=frame["score"].astype(str).where(frame.index != 3, word), width=128)
    text.to_csv("runs.csv", index=False)
    with pytest.raises(actlab.UsageError, match=r"which column is the score.* numbers are 'score', 'width'"):
        actlab.judge("runs.csv")
    assert actlab.judge(text.assign(score=frame["score"], width="128")).about["metric"] == "score"


# -- the command ----------------------------------------------------------------------------------


def test_judge_verb_prints_80_columns_and_writes_a_page(frame, capsys):
    frame.to_csv("runs.csv", index=False)
    assert main(["judge", "runs.csv", "--out", "page.html", "--power", "0.01"]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "Best: new, mean score 0.9" in out
    assert "old is worse than new by" in out
    assert "Design: 10 runs of 2 methods, paired by seed" in out
    assert "Power: " in out
    assert os.path.getsize("page.html") < 200_000
    assert main(["judge", "runs.csv", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["design"] == {"kind": "seeds", "analysis": "paired-t"}
    assert printed["verdicts"][0]["verdict"] == "better"
    assert main(["judge", "runs.csv", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| ")


@pytest.mark.parametrize(
    ("means", "required", "status"),
    [
        ({"new": 0.9, "old": 0.8}, "better:new:old", 0),
        ({"new": 0.9, "old": 0.8}, "better:old:new", 1),
        ({"new": 0.9, "old": 0.9}, "better:new:old", 3),
        ({"lr:1": 0.9, "lr:2": 0.8}, "better:lr:1:lr:2", 0),
        ({"lr:1": 0.9, "lr:2": 0.8}, "better:lr:2:lr:1", 1),
    ],
)
def test_judge_verb_exit_status_tells_whether_a_requirement_holds(means, required, status, capsys):
    make_runs(means, seeds(5)).to_csv("runs.csv", index=False)
    assert main(["judge", "runs.csv", "--require", required]) == status
    capsys.readouterr()


def test_judge_verb_rejects_invalid_input_in_one_line(frame, capsys):
    frame.to_csv("runs.csv", index=False)
    frame.rename(columns={"score": "val_loss"}).to_csv("losses.csv", index=False)
    for call, message in (
        (["runs.csv", "--require", "best:new"], "--require must be better:NEW:OLD, got 'best:new'"),
        (
            ["runs.csv", "--require", "better:new:older"],
            "--require: no pair of methods is 'new:older'; the methods are new, old",
        ),
        (["runs.csv", "--score", "acc"], "the table has no column 'acc' for score"),
        (["runs.csv", "--pair", "seeds"], "the table has no column 'seeds' for pair (did you mean 'seed'?)"),
        (["none.csv"], "there is no file or folder 'none.csv'"),
        (["losses.csv"], "'val_loss' looks like an error: pass lower_is_better=True (--lower-is-better), or"),
        ([".", "--watch"], "--watch needs a file, got '.'"),
    ):
        assert message in refused(capsys, "judge", *call)


@pytest.mark.parametrize(("option", "best"), [("--lower-is-better", "old"), ("--no-lower-is-better", "new")])
def test_judge_verb_takes_a_direction(frame, capsys, option, best):
    frame.rename(columns={"score": "val_loss"}).to_csv("losses.csv", index=False)
    assert main(["judge", "losses.csv", option]) == 0
    out = capsys.readouterr().out
    assert f"Best: {best}, mean val_loss" in out
    assert ("Lower values of val_loss are better." in out) == (best == "old")


def test_judge_verb_watches_a_file_until_it_is_interrupted(frame, tmp_path):
    path = tmp_path / "runs.csv"
    frame[frame["seed"] < 3].to_csv(path, index=False)
    command = [sys.executable, "-u", "-m", "actlab", "judge", str(path), "--watch"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        read_until(process, "6 runs of 2 methods")
        path.write_text("method,seed")  # half of a file
        time.sleep(1.5)
        path.unlink()
        time.sleep(1)
        temporary = tmp_path / "new.csv"
        frame.to_csv(temporary, index=False)
        time.sleep(0.05)
        temporary.replace(path)
        read_until(process, "10 runs of 2 methods")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


def read_until(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was not printed")
