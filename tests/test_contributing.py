"""The steps of CONTRIBUTING.md for a new activation are complete: they are followed in a copy of the tree."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_contributing_steps_add_an_activation(tmp_path):
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    block = re.search(r"```python\n(@elementwise.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[1]
    family = tmp_path / "src/actlab/functions/rectifiers.py"
    family.write_text(f"{family.read_text()}\n\n{block}")
    for face, name in (("functional", "relu_cubed"), ("nn", "ReLUCubed")):
        file = tmp_path / f"src/actlab/{face}.pyi"
        file.write_text(f"from actlab.functions.rectifiers import {name} as {name}\n{file.read_text()}")
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_conformance.py", "-k", "relu_cubed"]
    environment = {"PYTHONPATH": str(tmp_path / "src"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= 25
