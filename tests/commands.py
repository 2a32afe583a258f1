"""What the tests of the command line have in common: an empty folder, a small dataset, refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from actlab.cli import main
from tests.processes import ran


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test runs in an empty folder, where a file left behind is seen."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    path = tmp_path / "tiny.npz"
    np.savez(path, X=rng.normal(size=(90, 4)) + np.eye(3, 4)[y], y=y)
    return str(path)


def actlab(*arguments, **how):
    return ran([sys.executable, "-m", "actlab", *arguments], **how)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(capsys, *arguments):
    """Run in this process, expect a refusal, return its line."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("actlab: error: ")
    assert err.count("\n") == 1
    return err
