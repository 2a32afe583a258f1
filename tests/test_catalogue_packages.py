"""Activations of other installed packages in the catalogue."""

import os
import sys

import pytest

from actlab import CatalogueWarning
from actlab.functions import DEFINITIONS
from actlab.functions.registry import Catalogue
from actlab.ledger.ledger import Ledger
from tests.command_line import actlab
from tests.processes import run_process

CUBE = '''
import torch
import actlab
import actlab.functional


@actlab.elementwise(
    formula="x**3 + {shift}*x",
    limits=(float("-inf"), float("inf")),
    slopes=(float("inf"), float("inf")),
    range=(float("-inf"), float("inf")),
    monotonic=True,
    paper="-",
)
def cube(x):
    """Cube."""
    return x * x * x + {shift} * x


@cube.derivative
def _(x):
    return 3 * x * x + {shift}


@cube.second
def _(x):
    return 6 * x


Cube = cube.module("Cube")
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that creates a distribution with entry points and files on the path."""
    folder = tmp_path / "site"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())  # restore the imported modules afterwards
    monkeypatch.chdir(tmp_path)

    def install(points, **files):
        facts = folder / "cubes-1.0.dist-info"
        facts.mkdir(parents=True, exist_ok=True)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: cubes\nVersion: 1.0\n")
        lines = [f"point{i} = {point}" for i, point in enumerate(points)]
        (facts / "entry_points.txt").write_text("\n".join(["[actlab.activations]", *lines, ""]))
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)

    return install


LIST_AND_COMPARE = """
import actlab
from actlab.cli import main

main(["list"])
options = {"folds": 2, "epochs": 1, "tune": None, "jobs": 1, "ledger": "ledger.sqlite"}
actlab.compare(["relu", "cube"], "digits", **options)
"""


def list_and_compare_in_process():
    """List and compare in a new process; return the list and the keys of all recorded runs."""
    process = run_process([sys.executable, "-c", LIST_AND_COMPARE])
    assert process.returncode == 0, process.stderr
    with Ledger("ledger.sqlite", readonly=True) as ledger:
        return process.stdout, set(ledger.runs()["key"])


@pytest.mark.parametrize("point", ["their_cubes", "their_cubes:cube"])
def test_catalogue_contains_definitions_of_other_packages(installed, point):
    installed([point], their_cubes=CUBE.format(shift=2.0))
    catalogue = Catalogue(DEFINITIONS)
    assert len(catalogue) == len(DEFINITIONS) + 1
    assert catalogue["cube"].formula() == "x**3 + 2.0*x"
    assert catalogue["relu"] is DEFINITIONS["relu"]


def test_list_and_compare_use_definitions_of_other_packages(installed):
    installed(["their_cubes"], their_cubes=CUBE.format(shift=0.0))
    listed, before = list_and_compare_in_process()
    assert "cube            x**3 + 0.0*x" in listed
    installed(["their_cubes"], their_cubes=CUBE.format(shift=2.0))
    _, after = list_and_compare_in_process()
    assert len(before) == 4
    assert len(after - before) == 2  # the runs of cube; those of relu are unchanged


def test_catalogue_imports_packages_only_for_unknown_names(installed, capsys):
    installed(["their_cubes"], their_cubes="print('imported')\n" + CUBE.format(shift=1.0))
    catalogue = Catalogue(DEFINITIONS)
    assert "gelu" in catalogue
    assert capsys.readouterr().out == ""
    assert "cube" in catalogue
    assert "sphere" not in catalogue
    assert capsys.readouterr().out == "imported\n"


def test_catalogue_can_be_used_while_a_package_is_imported(installed):
    code = CUBE.format(shift=1.0) + "\nassert 'sphere' not in actlab.catalogue\n"
    installed(["their_cubes"], their_cubes=code)
    assert Catalogue(DEFINITIONS)["cube"].name == "cube"


NOTHING = {"their_cubes": "x = 1"}
RELU = {"their_cubes": CUBE.format(shift=1.0).replace("cube", "relu")}


@pytest.mark.parametrize(
    ("point", "files", "problem"),
    [
        ("nowhere_at_all", {}, "cannot be used: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("their_cubes:sphere", NOTHING, "cannot be used: AttributeError"),
        ("their_cubes:x", NOTHING, "cannot be used: TypeError: it is of type int, not a module"),
        ("their_cubes", NOTHING, "cannot be used: TypeError: the module defines no Activation"),
        ("their_cubes", {"their_cubes": "raise SystemExit(3)"}, "cannot be used: SystemExit: 3"),
        ("their_cubes", RELU, "defines 'relu', which already exists"),
    ],
)
def test_catalogue_warns_about_unusable_packages(installed, point, files, problem):
    installed([point], **files)
    with pytest.warns(CatalogueWarning) as caught:
        assert set(Catalogue(DEFINITIONS)) == set(DEFINITIONS)
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"package cubes: actlab.activations {point} {problem}")


def test_list_prints_a_note_about_unusable_packages(installed):
    installed(["their_cubes"], **NOTHING)
    process = actlab("list")
    assert process.returncode == 0
    assert process.stderr == (
        "actlab: note: package cubes: actlab.activations their_cubes cannot be used: "
        "TypeError: the module defines no Activation\n"
    )
