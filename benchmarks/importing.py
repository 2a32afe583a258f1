"""Measure import times beyond PyTorch's own, each in a new process, in turn.

Run ``python -m benchmarks.importing``; it writes docs/benchmarks/importing.md.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "importing.md"
ROUNDS = 7
TARGET = 0.3
STATEMENTS = {
    "`import torch`": "import torch",
    "`import actlab`": "import actlab",
    "every activation: `actlab.nn`, `actlab.functional`, `actlab.catalogue`": "import actlab; actlab.nn; "
    "actlab.functional; list(actlab.catalogue)",
    "`actlab.check`, `actlab.measure`": "import actlab; actlab.check; actlab.measure",
    "`actlab.formula`": "import actlab; actlab.formula",
    "`import sklearn.model_selection, skorch`": "import sklearn.model_selection, skorch",
    "`actlab.compare`, `actlab.FleetSearchCV`": "import actlab; actlab.compare; actlab.FleetSearchCV",
}
_PROGRAM = """
import time
{first}
start = time.perf_counter()
{code}
print(time.perf_counter() - start)
"""


def seconds(code: str) -> float:
    """Return the seconds of code in a new process that has imported torch, except for torch itself."""
    program = _PROGRAM.format(first="" if code == "import torch" else "import torch", code=code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    for code in STATEMENTS.values():  # fill the disk cache
        seconds(code)
    seconds_by_name: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, code in STATEMENTS.items():
            seconds_by_name[name].append(seconds(code))
    lines = ["# Import times", "", f"{machine('cpu')}. Written by `python -m benchmarks.importing`."]
    lines += [f"Medians of {ROUNDS} new processes in turn; all but the first after `import torch`."]
    lines += [f"The limit is {TARGET} s for the activations.", "", "| | seconds |", "|---|--:|"]
    lines += [f"| {name} | {statistics.median(values):.3f} |" for name, values in seconds_by_name.items()]
    PAGE.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
