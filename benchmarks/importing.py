"""Measure how long imports and commands take to start, each in a new process, in turn.

Run ``python -m benchmarks.importing``; it writes docs/benchmarks/importing.md.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "importing.md"
ROUNDS = 3
TORCH = "`import torch`"
STATEMENTS = {
    "`import actlab`": "import actlab",
    "every activation: `actlab.nn`, `actlab.functional`, `actlab.catalogue`": "import actlab; actlab.nn; "
    "actlab.functional; list(actlab.catalogue)",
    "`actlab.check`, `actlab.measure`": "import actlab; actlab.check; actlab.measure",
    "`actlab.formula`": "import actlab; actlab.formula",
    "`import sklearn.model_selection, skorch`": "import sklearn.model_selection, skorch",
    "`actlab.compare`, `actlab.FleetSearchCV`": "import actlab; actlab.compare; actlab.FleetSearchCV",
}
COMPARE = "compare relu tanh leaky_relu sigmoid --data digits"
COMMANDS = ("--help", "completion bash", "list", "show mish", COMPARE, f"{COMPARE} --jobs 2")
TABULATED = ("list", "show mish", COMPARE)
_FIRST_EPOCH = "runs done"  # in the first line of progress, which --verbose prints after the first epoch
_SMALL = 0.02  # seconds: packages below it are summed


def start(command: list[str]) -> tuple[float, float, list[str]]:
    """Run Python to its end, or to the first epoch.

    Returns:
        Seconds of wall-clock time and of processor time, and the lines on standard error.
    """
    # An installed package has compiled bytecode.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        with subprocess.Popen([sys.executable, *command], cwd=folder, env=env, **pipes) as process:
            assert process.stderr is not None
            for line in process.stderr:
                lines.append(line)
                if _FIRST_EPOCH in line:
                    break
            seconds = time.perf_counter() - begin
            used = psutil.Process(process.pid).cpu_times()
            process.terminate()
    return seconds, used.user + used.system, lines


def make_arguments(command: str) -> list[str]:
    return ["-m", "actlab", *shlex.split(command), *(["--verbose"] if command.startswith("compare") else [])]


def read_import_times(command: str) -> Counter[str]:
    """Return the seconds that a command spends in the modules of each package, without those they import."""
    times: Counter[str] = Counter()
    for line in start(["-X", "importtime", *make_arguments(command)])[2]:
        own, _, name = line.removeprefix("import time:").replace("|", " ").strip().partition(" ")
        if line.startswith("import time:") and own.isdigit():
            package = name.split()[-1].partition(".")[0]
            times["Python" if package in sys.stdlib_module_names else package] += int(own) / 1e6
    return times


def main() -> None:
    programs = {TORCH: ["-c", "import torch"]}
    programs |= {name: ["-c", f"import torch; {code}"] for name, code in STATEMENTS.items()}
    programs |= {f"`actlab {command}`": make_arguments(command) for command in COMMANDS}
    for program in programs.values():  # fill the disk cache
        start(program)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            times[name].append(start(program)[:2])
    lines = ["# Start-up times", "", f"{machine('cpu')}. Written by `python -m benchmarks.importing`."]
    lines += [
        f"The table shows medians of {ROUNDS} rounds. In each round, every row is a new process with one",
        "thread, timed from start to end, or to the end of the first epoch for `compare`. Processor time is",
        "that of the process without its workers; other work on the machine affects it less than the elapsed",
        "time. *Minus torch* is the difference from `import torch` in the same round. The goals are at most",
        "0.3 s for the activations and 1.5 s for a comparison.",
        "",
        "| | seconds | minus torch | processor time minus torch |",
        "|---|--:|--:|--:|",
    ]
    for name, measured in times.items():
        pairs = list(zip(measured, times[TORCH], strict=True))
        wall, processor = (statistics.median(one[i] - base[i] for one, base in pairs) for i in (0, 1))
        seconds = statistics.median(one for one, _ in measured)
        lines.append(f"| {name} | {seconds:.2f} | {wall:+.2f} | {processor:+.2f} |")
    tables = {command: read_import_times(command) for command in TABULATED}
    total = sum(tables.values(), Counter[str]())
    large = [name for name, _ in total.most_common() if max(t[name] for t in tables.values()) >= _SMALL]
    lines += ["", "## Imports by package", ""]
    lines += [
        "The table shows the seconds spent in the modules of each package in one run of",
        "`python -X importtime`, which slows down imports.",
        "",
    ]
    lines += [f"| | {' | '.join(f'`{command}`' for command in TABULATED)} |", "|---|--:|--:|--:|"]
    for package in large:
        cells = (f"{table[package]:.2f}" if table[package] else "" for table in tables.values())
        lines.append(f"| {package} | {' | '.join(cells)} |")
    rest = (sum(value for name, value in table.items() if name not in large) for table in tables.values())
    lines.append(f"| others | {' | '.join(f'{value:.2f}' for value in rest)} |")
    PAGE.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
