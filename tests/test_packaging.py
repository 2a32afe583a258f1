"""What is published: built twice it is the same, and it installs where there is nothing but Python."""

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

ROOT = Path(__file__).resolve().parents[1]
CORE = {
    *("torch", "numpy", "pandas", "scikit-learn", "skorch", "joblib", "loky", "rich", "safetensors", "scipy"),
    *("lazy-loader", "networkx", "psutil"),
    "shtab",
}


def done(*command, **how):
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False, **how)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def built(out, copy):
    """Build an sdist, and from it a wheel, of a copy of the files under version control."""
    listed = done("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)  # with a time of its own
    done(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy))
    return sorted(out.iterdir())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("which files are published is known from git, and this is no checkout")
    return [built(tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("copy")) for _ in range(2)]


def test_built_twice_it_is_the_same_to_the_byte(files):
    first, second = ([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in fs] for fs in files)
    assert first == second
    assert [name.rpartition("-")[2][-3:] for name, _ in first] == ["whl", ".gz"]


def test_the_wheel_has_the_package_and_nothing_else(files):
    with zipfile.ZipFile(files[0][0]) as wheel:
        names = wheel.namelist()
        metadata = Parser().parsestr(
            wheel.read(next(n for n in names if n.endswith("/METADATA"))).decode("utf-8")
        )
        scripts = wheel.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    kept = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/actlab").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == kept
    assert {"actlab/py.typed", "actlab/report/html/assets/report.html.j2"} <= kept
    assert "actlab = actlab.cli:main" in scripts
    core = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert {r.partition(">")[0] for r in core} == CORE


def test_the_source_distribution_has_what_tests_and_documentation_need(files):
    with tarfile.open(files[0][1]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = {
        *("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "constraints.txt", "pyproject.toml"),
        *("docs/design.md", "tests/test_packaging.py", "benchmarks/fleet.py", "src/actlab/py.typed"),
    }
    assert wanted <= names


@pytest.mark.slow
def test_it_installs_and_compares_where_there_is_nothing_but_python(files, tmp_path):
    done(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = tmp_path / "venv/bin/python"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = f"{tmp_path / 'venv/bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
    how = {"cwd": tmp_path, "env": environment}
    pip = (str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"))
    done(*pip, str(files[0][0]), **how)
    installed = done(str(python), "-m", "pip", "list", "--format=freeze", **how)
    for extra in ("hiplot", "matplotlib", "distributed", "mlflow", "ipython"):
        assert f"\n{extra}==" not in f"\n{installed.lower()}"
    assert "50 activations" in done("actlab", "list", **how)
    assert done(str(python), "-m", "actlab", "--version", **how).startswith("actlab ")
    done("actlab", "compare", "relu", "tanh", "--epochs", "2", **how)
    assert not (tmp_path / "out/compare/report.html").exists()  # which needs Jinja
    assert (tmp_path / "out/compare/ranking.csv").is_file()
