"""Distributions: builds are reproducible, complete, and install into an empty environment."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import actlab

ROOT = Path(__file__).resolve().parents[1]
CORE = {
    *("torch", "numpy", "pandas", "scikit-learn", "skorch", "joblib", "loky", "rich", "safetensors", "scipy"),
    *("cloudpickle", "lazy-loader", "networkx", "psutil"),
    "shtab",
}


def run_command(*command, **options):
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False, **options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def build_distributions(out, copy):
    """Build an sdist and a wheel from a copy of the files under version control."""
    listed = run_command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)  # with a new modification time
    run_command(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy))
    return sorted(out.iterdir())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("the list of published files needs a git checkout")
    return [
        build_distributions(tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("copy")) for _ in range(2)
    ]


def test_build_is_reproducible(files):
    first, second = ([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in fs] for fs in files)
    assert first == second
    assert [name.rpartition("-")[2][-3:] for name, _ in first] == ["whl", ".gz"]


def test_wheel_contains_exactly_the_package(files):
    with zipfile.ZipFile(files[0][0]) as wheel:
        names = wheel.namelist()
        metadata = Parser().parsestr(
            wheel.read(next(n for n in names if n.endswith("/METADATA"))).decode("utf-8")
        )
        scripts = wheel.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    package_files = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/actlab").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == package_files
    assert {"actlab/py.typed", "actlab/report/html/assets/report.html.j2"} <= package_files
    assert "actlab = actlab.cli:main" in scripts
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert (metadata["Version"], metadata["License-Expression"]) == (actlab.__version__, "MIT")
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    core = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert {r.partition(">")[0] for r in core} == CORE


def test_sdist_contains_tests_docs_and_benchmarks(files):
    with tarfile.open(files[0][1]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = {
        *("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "constraints.txt", "pyproject.toml"),
        *("docs/design.md", "tests/test_packaging.py", "benchmarks/fleet.py", "src/actlab/py.typed"),
    }
    assert wanted <= names


@pytest.mark.slow
def test_wheel_installs_and_compares_in_an_empty_environment(files, tmp_path):
    run_command(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = tmp_path / "venv/bin/python"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = f"{tmp_path / 'venv/bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
    options = {"cwd": tmp_path, "env": environment}
    pip = (str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"))
    run_command(*pip, str(files[0][0]), **options)
    installed = run_command(str(python), "-m", "pip", "list", "--format=freeze", **options)
    for extra in ("hiplot", "matplotlib", "distributed", "mlflow", "ipython"):
        assert f"\n{extra}==" not in f"\n{installed.lower()}"
    assert "50 activations" in run_command("actlab", "list", **options)
    assert run_command(str(python), "-m", "actlab", "--version", **options).startswith("actlab ")
    run_command("actlab", "compare", "--no-tune", "relu", "tanh", "--epochs", "2", **options)
    assert (tmp_path / "out/compare/report.html").is_file()  # torch installs Jinja
    assert (tmp_path / "out/compare/ranking.csv").is_file()
