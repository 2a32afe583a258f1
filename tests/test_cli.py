import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from actlab.cli import main
from actlab.cli.parser import create_parser
from actlab.training.train import HISTORY_COLUMNS
from tests.command_line import actlab, in_empty_folder, list_names, refused, tiny_data
from tests.processes import list_descendants, list_living, run_process, start_process, wait_until

__all__ = ["in_empty_folder", "tiny_data"]


# It reports that it waits when the models of the other activation, which come first, are recorded.
SLOW = """
import pathlib, time, torch
from actlab.ledger.ledger import Ledger

def count_recorded():
    with Ledger("run/ledger.sqlite", readonly=True) as ledger:
        return len(ledger.runs())

class Slow(torch.nn.Module):
    def forward(self, x):
        if len(x) > 2:
            while count_recorded() < 3:
                time.sleep(0.05)
            pathlib.Path("started").touch()
            time.sleep(600)
        return x
"""


# -- train ----------------------------------------------------------------------------------------


def test_train_writes_the_history_and_prints_insights(tmp_path, capsys):
    assert main(["train", "--epochs", "3", "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "Traceback" not in out
    assert "Best epoch: 3 of 3, with validation accuracy 0." in out
    assert "Written: run/history.csv, run/history.json, run/training.json" in out
    assert list_names(tmp_path) == ["run"]
    files = ["hiplot.html", "history.csv", "history.json", "report.html", "training.json"]
    assert list_names(tmp_path / "run") == files


def test_train_writes_equal_histories_as_csv_and_json(tmp_path, tiny_data):
    assert main(["train", "--data", tiny_data, "--epochs", "2", "--out", "run", "--quiet"]) == 0
    rows = json.loads((tmp_path / "run/history.json").read_text(), parse_constant=pytest.fail)
    frame = pd.read_csv(tmp_path / "run/history.csv")
    assert tuple(frame.columns) == HISTORY_COLUMNS
    pd.testing.assert_frame_equal(pd.DataFrame(rows), frame, check_exact=True)


def test_train_writes_strict_json_for_a_diverged_run(tmp_path, tiny_data, capsys):
    assert main(["train", "--data", tiny_data, "--epochs", "2", "--lr", "1e30", "--out", "run"]) == 1
    rows = json.loads((tmp_path / "run/history.json").read_text(), parse_constant=pytest.fail)
    assert rows[-1]["valid_loss"] is None
    assert "Training diverged at epoch" in capsys.readouterr().out


def test_train_quiet_reports_a_diverged_run(tiny_data, capsys):
    assert main(["train", "--data", tiny_data, "--epochs", "2", "--lr", "1e30", "--quiet"]) == 1
    message = "actlab: relu has no result: diverged: valid_loss is nan in epoch 1\n"
    assert capsys.readouterr() == ("", message)


def test_train_quiet_prints_nothing(tiny_data, capsys):
    assert main(["train", "--data", tiny_data, "--epochs", "2", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_train_verbose_prints_the_table_without_colours_to_a_file(tiny_data, capsys):
    assert main(["train", "--data", tiny_data, "--epochs", "2", "--verbose"]) == 0
    out = capsys.readouterr().out
    assert out.split()[:5] == ["epoch", "train_loss", "valid_acc", "valid_loss", "dur"]
    assert "\x1b" not in out


def test_train_json_is_the_only_standard_output(tiny_data, capsys):
    assert main(["train", "--data", tiny_data, "--epochs", "2", "--json", "--activation", "tanh"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["activation"] == "tanh"
    assert output["data"] == "tiny.npz"
    assert len(output["history"]) == 2
    assert len(output["insights"]) == 4
    assert output["insights"][-1] == "Data: 4 numeric."
    files = ["history.csv", "history.json", "training.json", "report.html", "hiplot.html"]
    assert output["files"] == [f"out/train/{name}" for name in files]


def test_train_without_hiplot_writes_the_other_files(tmp_path, tiny_data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "hiplot", None)
    assert main(["train", "--data", tiny_data, "--epochs", "2", "--out", "run"]) == 0
    assert capsys.readouterr().err == ""
    assert list_names(tmp_path / "run") == ["history.csv", "history.json", "report.html", "training.json"]


# -- compare --------------------------------------------------------------------------------------


def test_compare_prints_the_same_table_again_and_with_two_jobs(tmp_path, tiny_data, capsys):
    call = ["compare", "--no-tune", "relu", "tanh", "--data", tiny_data, "--epochs", "3", "--out", "a"]
    assert main(call) == 0
    first = capsys.readouterr().out
    columns = ["rank", "activation", "mean", "std", "runs", "fold_1", "fold_2", "fold_3"]
    assert first.split()[:8] == columns
    assert "Region of practical equivalence" in first
    tables = ["results.csv", "history.csv", "verdicts.csv", "ranking.csv", "costs.csv", "comparison.json"]
    files = ["ledger.sqlite", "cv_results.csv", *tables, "report.html", "hiplot.html"]
    assert f"Written: {', '.join(f'a/{name}' for name in files)}" in " ".join(first.split())
    assert max(map(len, first.splitlines())) <= 80
    assert list_names(tmp_path / "a") == sorted(files)
    assert main([*call, "--jobs", "2"]) == 0
    assert capsys.readouterr().out == first


# It accepts the samples of the first test of a model, which computes no gradients.
BREAKING = """
import torch

class Early(torch.nn.Module):
    def forward(self, x):
        if torch.is_grad_enabled():
            raise ZeroDivisionError("by zero")
        return x

class Late(Early):
    pass
"""


def test_compare_exits_with_1_if_every_run_failed(tmp_path, tiny_data, capsys):
    (tmp_path / "own.py").write_text(BREAKING)
    call = ["compare", "--no-tune", "own.py:Early", "own.py:Late", "--data", tiny_data, "--epochs", "1"]
    assert main([*call, "--quiet"]) == 1
    failed = "failed in 3 of 3 runs: training raised ZeroDivisionError: by zero"
    message = f"actlab: nothing was compared on tiny.npz: own.py:Early {failed}; own.py:Late {failed}\n"
    assert capsys.readouterr() == ("", message)
    assert main(call) == 1  # the output names the reason
    assert f"own.py:Late {failed}; it has no rank." in " ".join(capsys.readouterr().out.split())
    assert main(["compare", "--no-tune", "relu", *call[2:], "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_compare_names_the_first_five_failed_activations(tiny_data, capsys):
    activations = ["relu", "elu", "selu", "softplus", "silu", "mish", "gelu"]
    assert (
        main(
            [
                *"compare --no-tune".split(),
                *activations,
                "--data",
                tiny_data,
                *"--epochs 1 --lr 1e30 --quiet".split(),
            ]
        )
        == 1
    )
    out, err = capsys.readouterr()
    assert out == ""
    failures = "; ".join(f"{name} diverged in 3 of 3 runs" for name in activations[:5])
    assert err == f"actlab: nothing was compared on tiny.npz: {failures}; 2 more failed\n"


def test_compare_writes_cv_results_of_scikit_learn(tmp_path, tiny_data, capsys):
    assert (
        main([*"compare --no-tune relu tanh --data".split(), tiny_data, *"--epochs 2 --json --out a".split()])
        == 0
    )
    output = json.loads(capsys.readouterr().out)
    results = pd.read_csv(tmp_path / "a/cv_results.csv").set_index("param_module__activation")
    best = output["ranking"][0]
    assert results.loc[best["activation"], "mean_test_score"] == best["mean"]
    assert results.loc[best["activation"], "rank_test_score"] == 1
    assert "split2_test_score" in (tmp_path / "a/hiplot.html").read_text()


def test_compare_reads_a_csv_file_with_target(tmp_path, capsys):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "kind": ["x", "y"] * 30})
    frame.to_csv("t.csv", index=False)
    call = ["compare", "--no-tune", "relu", "--data", "t.csv", "--epochs", "1", "--out", "a"]
    assert main([*call, "--target", "kind"]) == 0
    capsys.readouterr()
    assert "kind" in refused(capsys, *call, "--target", "kin")


# -- invalid input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fly", "invalid choice: 'fly'"),
        ("train --out /proc/actlab", "cannot write to output folder '/proc/actlab'"),
        ("train --epochs 0", "epochs must be an integer >= 1, got 0"),
        ("train --data nothing.csv --target a", "no such file: 'nothing.csv'"),
        ("train --epochs many", "argument --epochs: must be an integer or auto, got 'many'"),
        ("train --epoch 3", "unrecognized arguments: --epoch 3"),
        ("train --verbose --quiet", "not allowed with argument"),
        (
            "train --batch-size 0 --lr -1",
            "batch_size must be an integer >= 1, got 0; lr must be finite and > 0, got -1.0",
        ),
        ("train --hidden 0", "hidden must be widths >= 1"),
        ("train --seed -3", "seed must be an integer >= 0, got -3"),
        ("train --device cuda:99", "device must be available"),
        ("train --activation tahn", "did you mean 'tanh'?"),
        ("train --data digts", "did you mean 'digits'?"),
        ("train --data-dir somewhere", "data_dir 'somewhere' is not used with 'digits'"),
        ("compare", "required: NAME"),
        ("compare reluu", "unknown activation 'reluu' (did you mean 'relu'?)"),
        ("compare relu relu", "activation 'relu' is given twice"),
        ("compare relu --folds 175", "smallest class of digits, 8, has 174 samples"),
        ("compare relu --folds 1", "folds must be an integer >= 2, got 1"),
        ("compare relu --jobs 0", "jobs must be an integer >= 1, got 0"),
        ("compare relu tahn --folds 175", "'tanh'?); folds must be <= 174, got 175"),
    ],
)
def test_invalid_arguments_are_rejected_in_one_line(tmp_path, capsys, arguments, message):
    assert message in refused(capsys, *arguments.split())
    assert list_names(tmp_path) == []


@pytest.mark.parametrize("verb", ["train", "compare relu"])
def test_out_below_a_file_is_rejected_before_training(tmp_path, capsys, monkeypatch, verb):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("actlab.fleet.loop.Loop.train", lambda *_: pytest.fail("trained"))
    assert "'file/run'" in refused(capsys, *verb.split(), "--out", "file/run")
    assert list_names(tmp_path) == ["file"]


def test_train_rejects_invalid_arrays(tmp_path, capsys):
    X, y = np.ones((20, 3)), np.arange(20) % 2
    for name, (features, labels) in {
        "inf.npz": (np.where(np.eye(20, 3) > 0, np.inf, X), y),
        "constant.npz": (X, y),
        "counts.npz": (X, y[:10]),
    }.items():
        np.savez(tmp_path / name, X=features, y=labels)
        assert name in refused(capsys, "train", "--data", name)
    assert list_names(tmp_path) == ["constant.npz", "counts.npz", "inf.npz"]


def test_train_rejects_truncated_mnist_files(tmp_path, capsys):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(
        bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 2, 1])
    )
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]))
    assert "truncated" in refused(capsys, "train", "--data", "mnist", "--data-dir", ".")


# -- the process ----------------------------------------------------------------------------------


def commands(parser=None, *words):
    """Yield every command of the parser as its words, without the program's name."""
    parser = parser or create_parser()
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from commands(below, *words, word)


@pytest.mark.parametrize("command", [*commands()], ids=" ".join)
def test_help_fits_80_columns_and_ends_with_three_valid_examples(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command, "--help"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    assert "None" not in page
    examples = page.split("\nexamples:\n")[1].splitlines()
    assert len(examples) == 3
    for example in examples:
        words = shlex.split(re.search(r"actlab (.*?)($| [|>#]|\))(?!\S)", f"{example} ")[1])
        assert words[: len(command[:1])] == list(command[:1])
        create_parser().parse_args(words)


def test_main_without_a_command_prints_valid_first_commands_in_24_lines(capsys):
    assert main([]) == 0
    page, err = capsys.readouterr()
    lines = page.splitlines()
    assert (err, len(lines) <= 24, max(map(len, lines)) <= 80) == ("", True, True)
    first = [shlex.split(line)[1:] for line in lines if line.startswith("  actlab ")]
    assert [words[0] for words in first] == ["compare", "check", "show", "compare"]
    for words in [*first, *(shlex.split(code)[1:] for code in re.findall("`(actlab .*?)`", page))]:
        with contextlib.suppress(SystemExit):  # --help
            create_parser().parse_args(words)
    assert "`actlab --help`" in page


def test_main_ledger_without_a_command_prints_its_help(capsys):
    assert main(["ledger"]) == 0
    out = capsys.readouterr().out
    main(["ledger", "--help"])
    assert out == capsys.readouterr().out


def test_help_lists_every_command_below_a_heading(capsys):
    main(["--help"])
    section = capsys.readouterr().out.split("\n  COMMAND\n\n")[1].split("\n\nexamples:")[0]
    groups = [block.splitlines() for block in section.split("\n\n")]
    assert [heading.strip() for heading, *_ in groups] == [
        *("look up:", "verify and measure:", "train and compare:", "results:", "this machine:"),
    ]
    listed = {line.split()[0] for _, *lines in groups for line in lines if line[4] != " "}
    assert listed == {words[0] for words in commands() if words}


def test_compare_help_shows_defaults(capsys):
    main(["compare", "--help"])
    page = " ".join(capsys.readouterr().out.split())
    assert "--seed N seed of all random numbers (default: 0)" in page
    assert "a subfolder per class (default: digits)" in page


@pytest.mark.parametrize("verb", ["train", "compare relu tanh"])
def test_interrupted_verb_prints_one_line_and_writes_no_result(
    tmp_path, capsys, monkeypatch, tiny_data, verb
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("actlab.fleet.optimizers.SGD.step", interrupt)
    assert main([*verb.split(), "--data", tiny_data, "--out", "run"]) == 130
    is_compare = verb.startswith("compare")
    # 20 candidates for each fold
    hint = ": 0 of 60 runs are saved; run the comparison again to resume" * is_compare
    assert capsys.readouterr() == ("", f"actlab: interrupted{hint}\n")
    assert list_names(tmp_path / "run") == (["ledger.sqlite"] if is_compare else [])


def test_compare_interrupted_before_training_prints_a_hint(capsys, monkeypatch, tiny_data):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("actlab.cli.commands.compare.load_dataset", interrupt)
    assert main(["compare", "relu", "tanh", "--data", tiny_data]) == 130
    assert capsys.readouterr().err == "actlab: interrupted; run the comparison again to resume\n"


def test_train_exits_with_141_if_its_reader_closes_the_pipe(tiny_data, capsys, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as broken:
        monkeypatch.setattr("sys.stdout", broken)
        assert main(["train", "--data", tiny_data, "--epochs", "1"]) == 141
    assert "Traceback" not in capsys.readouterr().err


def test_progress_is_printed_to_standard_error_after_a_delay(capsys, monkeypatch, tiny_data):
    monkeypatch.setattr("actlab.execution.progress._SILENT", -1.0)
    monkeypatch.setattr("actlab.cli.output._SILENT", -1.0)
    assert main(["compare", "--no-tune", "relu", "--data", tiny_data, "--epochs", "5", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["compare", "--no-tune", "relu", "--data", tiny_data, "--epochs", "5", "--json"]) == 0
    out, err = capsys.readouterr()
    assert " of 3 runs done, 0 s\n" in err
    json.loads(out)
    assert main(["train", "--data", tiny_data, "--epochs", "2"]) == 0
    assert "train_loss" in capsys.readouterr().err


def test_compare_verbose_prints_progress_from_the_start(capsys, tiny_data):
    assert main(["compare", "--no-tune", "relu", "--data", tiny_data, "--epochs", "2", "--verbose"]) == 0
    assert " of 3 runs done, 0 s\n" in capsys.readouterr().err


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_compare_after_ctrl_c_keeps_finished_runs_and_no_processes(tmp_path, signal_sent):
    (tmp_path / "slow.py").write_text(SLOW)
    call = [sys.executable, *"-m actlab compare --no-tune relu slow.py:Slow --jobs 2 --out run".split()]
    with start_process(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert wait_until((tmp_path / "started").exists, 120)
        workers = list_descendants(child.pid)
        assert workers
        child.send_signal(signal_sent)
        err = child.communicate()[1]
        assert child.returncode == 130
        assert "actlab: interrupted: 3 of 6 runs are saved; run the comparison again to resume" in err
        assert "Traceback" not in err
        assert pd.read_csv(tmp_path / "run/results.csv")["activation"].to_list() == ["relu"] * 3
        assert wait_until(lambda: not list_living(workers))


SENDS = """
import os, pathlib, signal, torch

class Sends(torch.nn.Module):
    def forward(self, x):
        if len(x) > 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            pathlib.Path("sent").touch()
        return x
"""


def test_main_keeps_ignored_signals_ignored(tiny_data):
    def ignore_signals():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    Path("sends.py").write_text(SENDS)
    call = ["compare", "--no-tune", "sends.py:Sends", "--data", tiny_data, "--epochs", "1", "--jobs", "1"]
    process = run_process([sys.executable, "-m", "actlab", *call], preexec_fn=ignore_signals)
    assert (process.returncode, Path("sent").exists()) == (0, True), process.stderr


@pytest.mark.parametrize(
    ("redirection", "error"),
    [
        (">/dev/full", "cannot write the output: No space left on device"),
        (">&-", "standard output is closed; redirect it to a file or to /dev/null"),
    ],
)
def test_list_reports_unwritable_output_in_one_line(redirection, error):
    process = run_process(["bash", "-c", f"{sys.executable} -m actlab list {redirection}"])
    assert (process.returncode, process.stderr) == (2, f"actlab: error: {error}\n")


def test_actlab_refuses_a_current_folder_that_was_deleted(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "the current folder no longer exists" in refused(capsys, "show", "relu")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_check_keeps_its_exit_status_if_standard_error_is_unwritable(redirection):
    process = run_process(["bash", "-c", f"{sys.executable} -m actlab check nope {redirection}"])
    assert (process.returncode, process.stdout) == (2, "")


@pytest.mark.parametrize("verb", ["train --activation", "compare --no-tune"])
def test_sys_exit_in_an_activation_is_reported_as_an_error(verb, tiny_data, capsys):
    module = "class Leaves(torch.nn.Module):\n    def forward(self, x):\n        sys.exit(5)\n"
    Path("leaves.py").write_text(f"import sys, torch\n\n{module}")
    call = [*verb.split(), "leaves.py:Leaves", "--data", tiny_data]
    assert "an activation or a network called sys.exit(5)" in refused(capsys, *call)


COLOURFUL = """
import torch

class Early(torch.nn.Module):
    def forward(self, x):
        raise ValueError("\\x1b[31mred")

class Late(torch.nn.Module):
    def forward(self, x):
        if torch.is_grad_enabled():
            raise ValueError("\\x1b[31mred")
        return x
"""


@pytest.mark.parametrize("target", ["colourful.py:Early", "colourful.py:Late"])
@pytest.mark.parametrize("verb", ["train --epochs 1 --activation", "compare --epochs 1", "check", "time"])
def test_errors_of_activations_are_printed_without_control_characters(verb, target, capsys):
    Path("colourful.py").write_text(COLOURFUL)
    assert main([*verb.split(), target]) in (1, 2)
    printed = "".join(capsys.readouterr())
    assert "\\x1b[31mred" in "".join(printed.split("\n  "))
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    "call",
    [
        "time relu --shape 99999999999",
        "time relu --shape 9999999999,9999999999",
        "time relu --shape 999999999999999999999",
        "train --hidden 99999999999",
        "train --hidden 99999999999999999",
    ],
)
def test_time_and_train_report_too_little_memory_in_one_line(call, capsys):
    refused(capsys, *call.split())


NOISY = """
import os, subprocess
import torch
print("imported")

class Noisy(torch.nn.Module):
    def forward(self, x):
        print("called")
        os.write(1, b"from the file descriptor\\n")
        return torch.relu(x)
"""


def test_compare_json_is_the_only_standard_output_of_noisy_code(tmp_path, tiny_data):
    """The process itself tries the network before its two workers train it."""
    (tmp_path / "noisy.py").write_text(NOISY)
    options = "--epochs 1 --folds 2 --no-tune --jobs 2 --json --out run".split()
    process = actlab("compare", "noisy.py:Noisy", "relu", "--data", tiny_data, *options)
    assert process.returncode == 0
    assert len(json.loads(process.stdout)["ranking"]) == 2
    for text in ("imported", "called", "from the file descriptor"):
        assert text in process.stderr


def test_check_json_is_the_only_standard_output_of_noisy_code(tmp_path, tiny_data):
    (tmp_path / "noisy.py").write_text(NOISY)
    process = actlab("check", "noisy.py:Noisy", "--only", "value", "--json")
    assert len(json.loads(process.stdout)["reports"]) == 1
    assert "imported" in process.stderr


def test_list_json_reports_a_closed_reader():
    script = f"{sys.executable} -m actlab list --json | true; echo ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert process.stdout.strip() in ("0", "141")
    assert "Traceback" not in process.stderr
