"""What an import costs beyond PyTorch's own, each in a fresh process, in turn.

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
WHAT = {
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
    """Return what it takes in a fresh process, in which torch is imported unless that is asked."""
    program = _PROGRAM.format(first="" if code == "import torch" else "import torch", code=code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    for code in WHAT.values():  # what was never read is slow to come from disk
        seconds(code)
    taken: dict[str, list[float]] = {name: [] for name in WHAT}
    for _ in range(ROUNDS):
        for name, code in WHAT.items():
            taken[name].append(seconds(code))
    lines = ["# What an import costs", "", f"{machine('cpu')}. Written by `python -m benchmarks.importing`."]
    lines += [
        f"Each in fresh processes, medians of {ROUNDS}, in turn; all but the first after `import torch`."
    ]
    lines += [f"The limit set is {TARGET} s for the activations.", "", "| | seconds |", "|---|--:|"]
    lines += [f"| {name} | {statistics.median(values):.3f} |" for name, values in taken.items()]
    PAGE.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
