"""The libraries that commands and worker processes import. Each takes up to a second."""

import subprocess
import sys

WATCHED = set(
    "torch torch._dynamo sympy numpy pandas scipy sklearn skorch matplotlib jinja2 hiplot mlflow distributed "
    "loky joblib networkx rich sqlite3 shtab".split()
)
OF_SKLEARN = {"joblib", "numpy", "pandas", "rich", "scipy", "sklearn"}
OF_COMPARE = {"skorch", "torch", "loky", "sqlite3", *OF_SKLEARN}


def list_imports(program):
    """Return the watched libraries that a program has imported in a new process."""
    report = f"import sys; print(*sorted({WATCHED} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, timeout=300
    )
    return set(done.stderr.splitlines()[-1].split()), done.stdout


def test_main_imports_only_the_libraries_of_a_command():
    program = f"""
import contextlib, io, sys
from actlab.cli import main
for arguments in (
    ["--help"], ["list"], ["tasks"], ["completion", "bash"], ["show", "mish"], ["show", "formula:x*x"]
):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(arguments) == 0 and printed.getvalue()
    print(*sorted({WATCHED} & set(sys.modules)))
"""
    _, printed = list_imports(program)
    imported = [set(line.split()) for line in printed.splitlines()]
    assert imported == [
        set(),
        {"torch", "numpy"},
        {"torch", "numpy"},
        {"torch", "numpy", "shtab"},
        {"torch", "numpy", "shtab", "scipy"},
        {"torch", "numpy", "shtab", "scipy", "sympy"},
    ]


def test_main_compare_does_not_import_the_compiler_of_torch(tmp_path):
    arguments = ["compare", "relu", "tanh", "--epochs", "1", "--no-tune", "--out", str(tmp_path), "--quiet"]
    imported, _ = list_imports(f"from actlab.cli import main; assert main({arguments!r}) == 0")
    # The page needs jinja2, and hiplot is optional. Measuring the costs of activations imports SymPy.
    assert imported - {"jinja2", "hiplot", "sympy"} == OF_COMPARE


def test_worker_of_start_processes_trains_a_fleet_without_skorch_and_sympy():
    program = f"""
import dataclasses, numpy as np
from actlab.data import load_data
from actlab.execution.processes import start_processes
from actlab.execution.scheduler import train_runs
from actlab.fleet.skorch_adapter import read_run
from actlab.training.settings import TrainSettings
from actlab.training.train import make_net
data = load_data("iris")
run = read_run(make_net(data, "gelu", TrainSettings(epochs=1)), data.X, data.y)
rows = {{"rows": np.arange(100), "valid": np.arange(100, 150)}}
runs = [dataclasses.replace(run, **rows, seed=seed) for seed in range(16)]  # at least eight fleets
with start_processes(1) as executor:
    results = train_runs(runs, data.X, data.y, executor=executor)
    modules = executor.submit(eval, "{WATCHED} & set(__import__('sys').modules)").result()
print(sum(len(result.history) for result in results), *modules)
"""
    _, printed = list_imports(program)
    epochs, *imported = printed.split()
    assert epochs == "16"
    assert set(imported) == {"torch", "numpy", "loky", "joblib"}
