"""Fixtures and helpers for the tests of the command line: an empty folder, a small dataset, errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from actlab.cli import main
from tests.processes import run_process


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """Run every test in an empty folder, where unexpected files are noticed."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny_data(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    path = tmp_path / "tiny.npz"
    np.savez(path, X=rng.normal(size=(90, 4)) + np.eye(3, 4)[y], y=y)
    return str(path)


def actlab(*arguments, **options):
    return run_process([sys.executable, "-m", "actlab", *arguments], **options)


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(capsys, *arguments):
    """Run a command in this process, expect an error, and return its line."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("actlab: error: ")
    assert err.count("\n") == 1
    return err
