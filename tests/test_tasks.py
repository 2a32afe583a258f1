"""Tasks: the built-in ones, those of users, and comparisons over several of them."""

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

import actlab
from actlab.cli import main
from actlab.errors import UsageError
from actlab.ledger import Ledger
from actlab.tasks import list_tasks, load_task
from actlab.tasks.image_fitting import load as load_image
from actlab.tasks.poisson import PhysicsNet, compute_source, solve
from actlab.tasks.task_comparison import choose_folders, estimate_cost, iterate_tasks, plan_tasks
from actlab.tasks.text_transformer import load as load_text
from actlab.training import TrainSettings
from tests.command_line import actlab as run_actlab
from tests.command_line import in_empty_folder, list_names, refused
from tests.datasets import write_images

__all__ = ["in_empty_folder"]

NAMES = [
    *("digits-perceptron", "deep-perceptron", "digits-cnn", "residual-cnn", "digits-mixer", "digits-gated"),
    *("digits-rnn", "digits-autoencoder", "iris", "wine", "breast-cancer", "diabetes", "text-transformer"),
    *("image-fitting", "poisson", "mnist", "fashion-mnist"),
]
BUILT_IN = NAMES[:-2]  # the others need files
TASKS = """
import numpy as np
import actlab
from actlab.training import TrainSettings


def load(seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(60) % 2
    return rng.normal(size=(60, 3)) + y[:, None], y


SETTINGS = TrainSettings(hidden=(4,), epochs=2, batch_size=16)
ONE = actlab.Task(name="one", description="two classes", data=load, settings=SETTINGS)
TEXT = "no task"


def make(seed):
    return actlab.Task(name=f"t{seed}", description="", data=lambda: load(seed), settings=SETTINGS)


def fail():
    raise RuntimeError("not today")


leave = exit
"""


def shorten(task, epochs=1):
    return dataclasses.replace(task, settings=dataclasses.replace(task.settings, epochs=epochs))


def make_task(name, seed=0, **options):
    """Return a task with two classes that trains in a moment."""
    y = np.arange(60) % 2
    X = np.random.default_rng(seed).normal(size=(60, 3)) + y[:, None]
    settings = TrainSettings(hidden=(4,), epochs=2, batch_size=16)
    return actlab.Task(
        **{"name": name, "description": "", "data": lambda: (X, y), "settings": settings, **options}
    )


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(TASKS)
    (tmp_path / "wrong.py").write_text("import nowhere_at_all\n")


# ---- one task ----------------------------------------------------------------------------------------------


def test_load_uses_the_first_samples_and_the_name_of_the_task():
    task = actlab.Task(name="few", description="", data="iris", samples=60)
    data, all_data = task.load(), actlab.load_data("iris")
    assert (data.name, data.X.shape) == ("few", (60, 4))
    for name in ("X", "y", "encoded"):
        np.testing.assert_array_equal(getattr(data, name), getattr(all_data, name)[:60])
    assert data.fingerprint != all_data.fingerprint
    assert dataclasses.replace(task, samples=1000).load().fingerprint == all_data.fingerprint


def test_load_calls_a_function_and_reports_its_error():
    assert make_task("own").load().X.shape == (60, 3)
    with pytest.raises(UsageError, match=r"the data cannot be made: KeyError: 'x'"):
        make_task("own", data=lambda: {}["x"]).load()


def test_load_of_an_image_set_needs_its_folder(tmp_path):
    task = load_task("mnist")
    assert (task.needs_files, load_task("iris").needs_files) == (True, False)
    with pytest.raises(UsageError, match=r"the files of mnist are missing; set data_dir \(--data-dir\)"):
        task.load()
    labels = np.array([1, 2, 1], np.uint8)
    assert task.load(write_images(tmp_path, labels=labels)).y.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": " "}, "the name of a task must be printable text, got ' '"),
        ({"name": "a\x1b[2J"}, "must be printable text"),
        ({"samples": 0}, "samples must be an integer >= 1, got 0"),
        ({"samples": "x"}, "samples must be an integer >= 1, got 'x'"),
        ({"seconds": 0}, "seconds must be a number > 0, got 0"),
        ({"seconds": "x"}, "seconds must be a number > 0, got 'x'"),
        ({"seconds": math.nan}, "seconds must be a number > 0, got nan"),
        ({"data_options": 5}, "data_options must be a dictionary of arguments of load_data, got 5"),
        ({"data_options": {"regresion": True}}, r"'regresion' .* load_data \(did you mean 'regression'\?\)"),
        ({"settings": {"lr": 0.1}}, r"settings must be an actlab.training.TrainSettings, got {'lr': 0.1}"),
    ],
)
def test_task_checks_its_arguments(options, message):
    with pytest.raises(UsageError, match=message):
        make_task(**{"name": "own", **options})


def test_load_task_finds_built_in_tasks_and_those_in_files(file):
    assert [task.name for task in list_tasks()] == NAMES
    assert load_task("poisson").module is PhysicsNet
    assert load_task("mine.py:ONE").description == "two classes"
    assert load_task("mine.py:make(3)").name == "t3"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("irs", r"there is no task 'irs' \(did you mean 'iris'\?\), or file.py:NAME for your own"),
        ("zzz", "there is no task 'zzz'; they are digits-perceptron, deep-perceptron"),
        ("mine.py:TEXT", "task 'mine.py:TEXT' is a str; it must be an actlab.Task"),
        ("mine.py:fail", "task 'mine.py:fail' cannot be made: RuntimeError: not today"),
        ("mine.py:leave(3)", r"task 'mine.py:leave\(3\)' cannot be made: SystemExit: 3"),
        ("mine.py:make(", r"^task 'mine.py:make\(': arguments must be literals, as in 'leaky_relu\(.*\)'$"),
        ("mine.py:NOTHING", "NOTHING"),
        ("wrong.py:X", "nowhere_at_all"),
        ("missing.py:X", "file 'missing.py' does not exist"),
        (3, "a task must be a name, file.py:NAME or an actlab.Task, got 3"),
    ],
)
def test_load_task_reports_what_is_wrong(file, name, message):
    with pytest.raises(UsageError, match=message):
        load_task(name)


# ---- the built-in tasks ------------------------------------------------------------------------------------


def test_list_tasks_train_with_relu_and_tanh():
    few = {name: 600 for name in BUILT_IN if "digits" in name}
    tasks = [dataclasses.replace(shorten(task), samples=few.get(task.name)) for task in list_tasks()]
    result = actlab.compare_tasks(["relu", "tanh"], tasks, tune=None, folds=2, diagnostics=False, jobs=1)
    assert list(result.comparisons) == BUILT_IN
    assert list(result.skipped) == ["mnist", "fashion-mnist"]
    assert result.results["failure"].eq("").all()
    assert len(result.results) == len(BUILT_IN) * 2 * 2
    assert result.excluded.empty


@pytest.mark.slow
def test_list_tasks_learn():
    result = actlab.compare_tasks(["tanh"], BUILT_IN, tune=None, jobs=1)
    assert not result.results["chance"].any()


def test_poisson_solution_and_source_satisfy_the_equation():
    x = torch.linspace(-1, 1, 101, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(solve(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(second, compute_source(x.detach()))
    assert solve(torch.tensor([-1.0, 1.0])).abs().max() < 1e-6


def test_physics_net_returns_the_solution_plus_a_hundredth_of_the_residual_in_training():
    net = PhysicsNet("tanh").double()
    net.network = torch.nn.Linear(1, 1).double()  # u = (1 - x^2) (a x + b), so u'' = -6 a x - 2 b
    a, b = (float(parameter.detach()) for parameter in net.network.parameters())
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)[:, None]
    residual = -6 * a * x - 2 * b - compute_source(x)
    torch.testing.assert_close(net.train()(x).detach(), solve(x) + residual / 100)
    torch.testing.assert_close(net.eval()(x).detach(), (1 - x * x) * (a * x + b))


def test_image_fitting_load_returns_each_pixel_once():
    X, y = load_image()
    assert (X.shape, y.shape) == ((53 * 80, 2), (53 * 80, 3))
    assert len(np.unique(X, axis=0)) == len(X)
    assert (X.min(), X.max()) == (-1, 1)
    assert 0 <= y.min() < y.max() <= 255
    corner = y[(X == -1).all(1)][0]
    from sklearn.datasets import load_sample_image

    np.testing.assert_allclose(corner, load_sample_image("flower.jpg")[:8, :8].mean((0, 1)), rtol=1e-5)


def test_text_transformer_load_returns_windows_of_one_text():
    X, y = load_text()
    assert (X.shape, X.dtype, y.shape) == ((4500, 12), np.int64, (4500,))
    assert (X.min(), X.max()) == (0, 24)
    assert not ((X[:, 1:] == 0) & (X[:, :-1] == 0)).any()  # one blank between words
    assert np.bincount(y).argmax() == 0


# ---- several tasks -----------------------------------------------------------------------------------------


def test_compare_tasks_scales_scores_between_the_best_constant_and_a_perfect_prediction():
    numbers = np.random.default_rng(0).normal(size=(60, 2))
    regression = make_task(
        "sum", data=lambda: (numbers, numbers.sum(1)), data_options={"regression": True, "scale": "none"}
    )
    result = actlab.compare_tasks(["relu", "tanh"], [make_task("classes"), regression], tune=None, seeds=2)
    table = result.results.set_index("task")
    classes, numbers = table.loc["classes"], table.loc["sum"]
    assert len(table) == 2 * 2 * 6
    np.testing.assert_allclose(classes["normalized"], (2 * classes["score"] - 1).clip(lower=0))
    np.testing.assert_allclose(numbers["normalized"], numbers["score"].clip(lower=0), atol=1e-3)
    means = result.means.set_index("task")
    assert means.columns.to_list() == ["relu", "tanh"]
    for task, name in [("classes", "relu"), ("sum", "tanh")]:
        runs = result.results.query("task == @task and activation == @name")
        assert means.loc[task, name] == pytest.approx(runs["score"].mean())


def test_compare_tasks_sentences_begin_with_the_verdicts_on_single_tasks():
    result = actlab.compare_tasks(["relu", "tanh", "sigmoid"], ["iris", "wine"], tune=None, seeds=4)
    for task in ("iris", "wine"):
        verdicts = result.comparisons[task].verdicts.set_index(["a", "b"])["verdict"].to_dict()
        assert sorted(verdicts.values()) == ["better", "better", "undecided"]
        assert verdicts["relu", "sigmoid"] == verdicts["tanh", "sigmoid"] == "better"
    first, second = result.sentences()[:2]
    assert first.startswith("On iris and wine: ")
    assert set(first[18:-1].split("; ")) == {
        "relu is better than sigmoid",
        "tanh is better than sigmoid",
        "1 of 3 pairs undecided",
    }
    assert second.startswith("Best mean rank: ")
    assert max(map(len, repr(result).splitlines())) <= 80


def test_compare_tasks_counts_the_verdicts_of_many_pairs():
    names = ["relu", "tanh", "elu", "gelu", "sigmoid", "threshold(0.0, 9.0)", "sine"]
    result = actlab.compare_tasks(names, ["wine"], tune=None, seeds=4)
    kinds = result.comparisons["wine"].verdicts["verdict"].value_counts()
    decided = kinds.get("better", 0) + kinds.get("worse", 0)
    assert decided > 6
    assert f"{decided} of 21 pairs better or worse" in result.sentences()[0]


def test_compare_tasks_summary_follows_from_the_results():
    tasks = [make_task("a", 1), make_task("b", 2), make_task("c", 3)]
    result = actlab.compare_tasks(["relu", "tanh", "sigmoid"], tasks, tune=None)
    means = result.means.set_index("task")
    summary = result.summary.set_index("activation")
    normalized = result.results.groupby(["activation", "task"])["normalized"].mean().unstack()
    expected = normalized.rank(ascending=False).mean(axis=1)
    assert summary["mean_rank"].to_dict() == pytest.approx(expected.to_dict())
    assert summary["mean_rank"].is_monotonic_increasing
    best = means.eq(means.max(axis=1), axis=0)
    worst = means.eq(means.min(axis=1), axis=0) & ~best
    for name, row in summary.iterrows():
        assert row["best_on"] == ", ".join(means.index[best[name]])
        assert row["worst_on"] == ", ".join(means.index[worst[name]])
        runs = result.results[result.results["activation"] == name]
        assert row["lost"] == pytest.approx(runs["chance"].mean())
        rankings = [one.ranking.query("rank == 1") for one in result.comparisons.values()]
        assert row["first"] == sum(name in ranking["activation"].to_list() for ranking in rankings)
        assert row["nanoseconds"] > 0


def test_compare_tasks_names_activations_without_a_rank():
    activations = {"relu": "relu", "zero": "formula:0*relu(x) + 1e-30*x"}
    result = actlab.compare_tasks(activations, ["iris", "wine"], tune=None, folds=2)
    status = {
        task: one.ranking.set_index("activation")["status"]["zero"]
        for task, one in result.comparisons.items()
    }
    assert status["iris"] == status["wine"] == "chance level"
    assert "zero has no rank on iris and wine: chance level." in result.sentences()


def test_compare_tasks_excludes_an_activation_that_cannot_serve_a_task(file):
    tasks = [shorten(load_task("poisson")), make_task("own")]
    result = actlab.compare_tasks(
        ["tanh", "tests.faulty_activations:TanhOnce", "dynamic_tanh"], tasks, tune=None
    )
    assert result.excluded[["task", "activation"]].to_numpy().tolist() == [
        ["poisson", "tests.faulty_activations:TanhOnce"],
        ["poisson", "dynamic_tanh"],
        ["own", "dynamic_tanh"],
    ]
    reasons = result.excluded["reason"].to_list()
    assert reasons[0].startswith("a training step raised RuntimeError: trying to differentiate twice")
    assert "num_features" in reasons[1]
    compared = result.results.groupby("task")["activation"].unique().map(list).to_dict()
    assert compared == {"poisson": ["tanh"], "own": ["tanh", "tests.faulty_activations:TanhOnce"]}
    ranks = result.judgement.datasets.scores  # not being able to serve a task counts as 0
    assert ranks.loc["poisson", "tests.faulty_activations:TanhOnce"] == 0
    assert set(ranks) == {"tanh", "tests.faulty_activations:TanhOnce"}
    assert "dynamic_tanh was not compared on poisson, own: " in " ".join(result.sentences())


def test_compare_tasks_skips_tasks_without_their_data_and_with_an_error(file):
    tasks = [make_task("own"), "mnist", "wrong.py:X", make_task("broken", data=lambda: 1 / 0)]
    tasks.append(make_task("leaving", data=lambda: sys.exit(3)))
    result = actlab.compare_tasks(["relu", "tanh"], tasks, tune=None)
    assert list(result.comparisons) == ["own"]
    assert {name: reason.partition(": ")[0] for name, reason in result.skipped.items()} == {
        "mnist": "the files of mnist are missing; set data_dir (--data-dir)",
        "wrong.py:X": "task 'wrong.py:X'",
        "broken": "the data cannot be made",
        "leaving": "the data cannot be made",
    }
    assert result.judgement is None
    assert "mnist was skipped: the files of mnist are missing; set data_dir (--data-dir)." in repr(result)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "tasks is empty"),
        (["iris", "irs"], "there is no task 'irs'"),
        ("wrong.py:X", "nowhere_at_all"),
        ("mnist", "task mnist: the files of mnist are missing"),
        (["iris", "iris"], "two tasks are called 'iris'; rename or omit one"),
        (["all", "iris"], "two tasks are called 'iris'"),
    ],
)
def test_compare_tasks_refuses_lists_of_tasks(file, tasks, message):
    with pytest.raises(UsageError, match=message):
        actlab.compare_tasks(["relu", "tanh"], tasks, tune=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3}, "epochs is not an option of compare_tasks: a task has its own data, model"),
        ({"folds": 1}, "folds"),
    ],
)
def test_compare_tasks_refuses_options_that_a_task_sets(options, message):
    with pytest.raises(UsageError, match=message):
        actlab.compare_tasks(["relu", "tanh"], "iris", **options)
    with pytest.raises(UsageError, match="did you mean 'relu'"):
        actlab.compare_tasks(["reluu", "tanh"], "iris")


def test_compare_tasks_keeps_folders_inside_the_output_folder(tmp_path):
    tasks = [make_task("../x", 1), make_task("..", 2), make_task("a b/c", 3)]
    actlab.compare_tasks(["relu", "tanh"], tasks, tune=None, out=tmp_path / "run")
    assert list_names(tmp_path) == ["run"]
    folders = [path.name for path in (tmp_path / "run").iterdir() if path.is_dir()]
    assert sorted(folders) == ["_.", "_._x", "a_b_c"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a b", "a_b"], "would be called 'a_b'; rename a task or file"),
        (["runs.csv", "b"], "would be called 'runs.csv'"),
        (["a", "x" * 300], "cannot write to output folder"),
    ],
)
def test_compare_tasks_refuses_names_that_cannot_be_folders(tmp_path, names, message):
    with pytest.raises(UsageError, match=message):
        actlab.compare_tasks(["relu", "tanh"], list(map(make_task, names)), tune=None, out=tmp_path / "run")


def score_network(net, X, y):
    return float(net.module_.training) + np.mean(net.predict(X) == y)


def test_compare_tasks_judges_over_tasks_with_scaled_scores_only():
    tasks = [make_task("own", 1), make_task("sure", 2, scoring=score_network)]
    result = actlab.compare_tasks(["relu", "tanh"], tasks, tune=None)
    sentence = "sure is not in the results over all: its scorer cannot score a constant prediction."
    assert result.judgement is None
    assert result.sentences()[-1] == sentence
    assert len(result.means) == 2
    more = actlab.compare_tasks(["relu", "tanh"], [*tasks, make_task("third", 3)], tune=None)
    assert list(more.judgement.datasets.scores.index) == ["own", "third"]
    assert sentence in more.sentences()


def test_compare_tasks_of_targets_that_cannot_be_learned():
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.ones(60)
    constant = make_task("constant", data=lambda: (X, y), data_options={"regression": True})
    broken = make_task("nan", data=lambda: (X * math.nan, y))
    ignoring = make_task("ignoring", module=lambda activation: torch.nn.Linear(3, 2))
    result = actlab.compare_tasks(["relu", "tanh"], [constant, broken, ignoring, make_task("own")], tune=None)
    assert {"constant", "nan", "ignoring"} & set(result.comparisons) == set()
    assert list(result.skipped) == ["constant", "nan", "ignoring"]


# ---- the command line --------------------------------------------------------------------------------------


def test_tasks_lists_the_built_in_tasks(capsys):
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(NAMES)]] == NAMES
    assert max(map(len, lines)) <= 80
    assert main(["tasks", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert list(found) == NAMES
    assert found["iris"] == {"description": "perceptron on the iris table", "seconds": 0.01}


def test_compare_with_tasks_of_files_writes_folders_and_tables(tmp_path, file, capsys):
    names = ("mine.py:make(1)", "wrong.py:X", "mine.py:make(2)", "mnist")
    tasks = [word for name in names for word in ("--task", name)]
    assert (
        main(["compare", "relu", "tests.faulty_activations:TanhOnce", *tasks, "--no-tune", "--out", "run"])
        == 0
    )
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    notes = [line for line in err.splitlines() if line.startswith("actlab: note: ")]
    assert [note.split()[3] for note in notes] == ["wrong.py:X", "mnist"]
    assert "Over 2 tasks:" in out
    assert list_names(tmp_path / "run") == [
        *("across.csv", "critical_difference.png", "means.csv", "report.html"),
        *("runs.csv", "summary.csv", "t1", "t2"),
    ]
    runs = pd.read_csv(tmp_path / "run/runs.csv")
    assert runs.groupby(["task", "activation"]).size().to_dict() == {
        (task, name): 3 for task in ("t1", "t2") for name in ("tests.faulty_activations:TanhOnce", "relu")
    }
    page = (tmp_path / "run/report.html").read_text()
    assert "Mean ranks over tasks; a bar joins activations without a significant difference." in page
    assert "actlab compare relu tests.faulty_activations:TanhOnce --task &#39;mine.py:make(1)&#39;" in page
    assert "mnist was skipped: the files of mnist are missing" in page
    command = actlab.Comparison.load("run/t1").about["command"]
    assert (
        command == "actlab compare relu tests.faulty_activations:TanhOnce --task 'mine.py:make(1)' --no-tune"
    )


def test_compare_with_tasks_prints_strict_json(file, capsys):
    tasks = ["--task", "mine.py:make(1)", "--task", "mine.py:make(2)", "--task", "mnist"]
    assert main(["compare", "relu", "tanh", *tasks, "--no-tune", "--quiet", "--json"]) == 0
    output = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert list(output["tasks"]) == ["t1", "t2"]
    assert list(output["skipped"]) == ["mnist"]
    assert {row["activation"] for row in output["summary"]} == {"relu", "tanh"}
    assert output["across"]["verdicts"][0]["verdict"] == "undecided"


def test_compare_with_one_task_writes_the_files_of_a_comparison(tmp_path, file, capsys):
    assert main(["compare", "relu", "tanh", "--task", "mine.py:ONE", "--no-tune", "--json"]) == 0
    output = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert output["data"] == "one"
    assert {"ranking.csv", "results.csv", "report.html"} <= set(list_names(tmp_path / "out/compare"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits"], "--data contradicts --task iris, which sets it"),
        (["--epochs", "3"], "--epochs contradicts --task iris"),
        (["--module", "x.py:Net"], "--module contradicts --task iris"),
        (["--scoring", "f1_macro"], "--scoring contradicts --task iris"),
        (["--tune", "lr=0.1", "--no-tune"], "--no-tune contradicts --tune"),
    ],
)
def test_compare_refuses_options_that_a_task_sets(tmp_path, capsys, arguments, message):
    assert message in refused(capsys, "compare", "relu", "tanh", "--task", "iris", *arguments)
    assert list_names(tmp_path) == []


@pytest.mark.parametrize("name", ["wrong.py:X", "mine.py:TEXT", "mine.py:fail", "irs", "mnist"])
def test_compare_refuses_a_single_task_with_an_error(tmp_path, file, capsys, name):
    assert name.partition(":")[0] in refused(capsys, "compare", "relu", "tanh", "--task", name)
    assert not (tmp_path / "out").exists()


def test_compare_skips_an_image_set_with_the_files_of_another(tmp_path, file, capsys):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 4, 4), np.uint8), np.arange(60, dtype=np.uint8) % 2
    write_images(tmp_path, images, labels)
    tasks = ["--task", "mnist", "--task", "fashion-mnist", "--data-dir", str(tmp_path)]
    assert main(["compare", "relu", "tanh", *tasks, "--no-tune", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["data"] == "mnist"
    note = "task fashion-mnist is skipped: its files are those of mnist; data_dir (--data-dir) needs a folder"
    assert note in err


def test_compare_with_tasks_again_trains_only_the_missing_runs(tmp_path, file, capsys):
    call = ["compare", "--task", "mine.py:make(1)", "--task", "mine.py:make(2)", "--no-tune", "--out", "run"]
    assert main([*call, "relu", "tanh", "--quiet", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*call, "relu", "tanh", "--json"]) == 0
    second = capsys.readouterr()
    assert json.loads(second.out)["summary"][0]["iqm"] == first["summary"][0]["iqm"]
    assert second.err.count("actlab: 6 of 6 runs are from the ledger\n") == 2
    actlab.compare_tasks(["relu", "tanh", "elu"], ["mine.py:make(1)"], tune=None, out="run", verbose=1)
    assert "actlab: 6 of 9 runs are from the ledger\n" in capsys.readouterr().err


def test_iterate_tasks_and_estimate_cost_count_the_missing_runs_only(tmp_path, capsys):
    tasks = [make_task(f"t{seed}", seed) for seed in range(4)]
    plans, _ = plan_tasks(["relu", "tanh"], tasks, tune=None)
    folders = choose_folders(plans, tmp_path)
    actlab.compare_tasks(["relu", "tanh"], tasks[:1], tune=None, out=tmp_path)  # finished
    actlab.compare_tasks(["relu"], tasks[2:3], tune=None, out=tmp_path)  # half finished
    capsys.readouterr()
    costs = [estimate_cost(*each) for each in zip(plans, folders, strict=True)]
    assert costs == pytest.approx([0.0, 1.2, 0.6, 1.2])  # 6 runs of 0.2 s
    assert list(iterate_tasks(plans, folders, 1)) == plans
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["actlab: task 1 of 4: t0", "actlab: task 2 of 4: t1"]
    assert [line.partition(" left")[0].rpartition("; about ")[0] for line in lines[2:]] == [
        "actlab: task 3 of 4: t2",
        "actlab: task 4 of 4: t3",
    ]


@pytest.mark.slow
def test_compare_with_tasks_in_two_processes_shares_the_runs(tmp_path, file):
    tasks = ["--task", "mine.py:make(1)", "--task", "mine.py:make(2)", "--no-tune", "--quiet", "--json"]
    words = ["compare", "relu", "tanh", *tasks, "--jobs", "1", "--seeds", "4", "--out", "run"]
    command = [sys.executable, "-m", "actlab", *words]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert outputs[0]["across"] == outputs[1]["across"]
    found = [Ledger(tmp_path / f"run/{name}/ledger.sqlite").runs() for name in ("t1", "t2")]
    assert list(map(len, found)) == [24, 24]


@pytest.mark.slow
def test_compare_with_tasks_resumes_after_a_kill(tmp_path, file):
    tasks = ["--task", "mine.py:make(1)", "--task", "digits-cnn", "--no-tune", "--jobs", "1", "--out", "run"]
    command = ["compare", "relu", "tanh", *tasks]
    process = subprocess.Popen([sys.executable, "-m", "actlab", *command, "--quiet"])
    ledger = tmp_path / "run/digits-cnn/ledger.sqlite"
    while not ledger.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run/summary.csv").exists()
    resumed = run_actlab(*command)
    assert resumed.returncode == 0
    assert "actlab: 6 of 6 runs are from the ledger\n" in resumed.stderr
    assert len(pd.read_csv(tmp_path / "run/runs.csv")) == 12
