"""The check verb: its exit status, its output, and what it says to a person's mistake."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from actlab.cli import main
from tests.processes import descendants, living, ran, started, waited

MINE = """
import os, sys, time
import torch
from torch import nn


def cut(x):
    return x.clamp_min(0)


def two(x, y):
    return x + y


def nothing():
    return 1


def hangs(x):
    time.sleep(600)


class Scaled(nn.Module):
    def __init__(self, scale, *, shift=0.0):
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x):
        return torch.tanh(x) * self.scale + self.shift


made = Scaled(2.0)
number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a person's own file, which is where that person works."""
    (tmp_path / "mine_of_a_person.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("def f(x:\n")
    (tmp_path / "raises.py").write_text("raise OSError('no weights here')\n")
    (tmp_path / "chatty.py").write_text("import torch\nprint('hello')\nf = torch.tanh\nopen('none.pt')\n")
    (tmp_path / "quits.py").write_text("import sys; sys.exit(4)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine_of_a_person", None)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("torch:tanh", 0),
        ("mine_of_a_person:Scaled(scale=0.5)", 0),
        ("mine_of_a_person.py:Scaled(0.5, shift=-1)", 0),
        ("mine_of_a_person.py:made", 0),
        ("mine_of_a_person.py:cut", 1),
    ],
)
def test_status(target, status, mine, capsys):
    assert main(["check", target, "--only", "kinks,vmap"]) == status
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{target}: " + ("1 fail, 1 pass" if status else "2 pass"))
    assert captured.err == ""


def test_several_targets_in_json_and_junit(mine, capsys):
    targets = ["torch:tanh", "mine_of_a_person.py:cut"]
    assert main(["check", *targets, "--only", "kinks", "--json", "--junit", "out.xml"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(r["target"], r["passed"]) for r in found["reports"]] == list(
        zip(targets, [True, False], strict=True)
    )
    suites = ElementTree.parse("out.xml").getroot().findall("testsuite")
    assert [suite.get("failures") for suite in suites] == ["0", "1"]
    assert sorted(path.name for path in mine.iterdir() if path.suffix == ".xml") == ["out.xml"]


def test_a_reference_on_the_command_line(capsys):
    assert main(["check", "mish", "--reference", "x * tanh(log(1 + exp(x)))", "--only", "reference"]) == 0
    assert main(["check", "relu", "--reference", "x", "--only", "reference"]) == 1
    assert "f(-1e-30) = 0, expected" not in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reluu"], "unknown activation 'reluu' (did you mean 'relu'?)"),
        (["threshold"], "Threshold needs 'threshold', 'value'; write threshold(threshold=..., value=...)"),
        (["no_such_module:x"], "cannot import 'no_such_module': ModuleNotFoundError: No module named"),
        (["no_such_file.py:x"], "there is no file 'no_such_file.py'"),
        (["broken.py:f"], "cannot import 'broken.py': SyntaxError: "),
        (["raises.py:f"], "cannot import 'raises.py': OSError: no weights here"),
        (["chatty.py:f"], "cannot import 'chatty.py': FileNotFoundError: "),
        (["quits.py:f"], "cannot import 'quits.py': SystemExit: 4"),
        (["mine_of_a_person.py:cuts"], "there is no 'cuts' in it (did you mean 'cut'?)"),
        (["mine_of_a_person.py:number"], "a int cannot be called"),
        (["mine_of_a_person.py:nothing"], "takes no tensor: it has no parameters"),
        (["mine_of_a_person.py:two"], "needs 'y' besides the tensor; write mine_of_a_person.py:two(y=...)"),
        (["mine_of_a_person.py:Scaled"], "Scaled needs 'scale'; write mine_of_a_person.py:Scaled(scale=...)"),
        (["mine_of_a_person.py:Scaled(1, 2)"], "Scaled cannot be made: TypeError"),
        (["mine_of_a_person.py:made(1)"], "is a module already; remove the arguments"),
        (["torch.nn:ELU(alpha=__import__('os'))"], "arguments must be literals"),
        (["torch.nn:ELU(alpha=1.0"], "arguments must be literals"),
        (["relu", "--only", "kinkz"], "unknown row 'kinkz' (did you mean 'kinks'?)"),
        (["relu", "--skip", "compil"], "unknown row 'compil' (did you mean 'compile'?)"),
        (["relu", "--dtypes", "float33"], "unknown dtype 'float33'; known are float32, float16, bfloat16"),
        (["relu", "--device", "tpu9"], "device 'tpu9' cannot be used"),
        (["relu", "--reference", "x * alpha"], "must be a formula in x only, it also has ['alpha']"),
        (["relu", "--junit", "none/out.xml"], "cannot write 'none/out.xml': its folder does not exist"),
        ([], "the following arguments are required: TARGET"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, mine, capsys):
    assert main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    told = captured.err.removeprefix("hello\n")  # what a module prints as it is imported is not our answer
    assert told.startswith("actlab: error: ")
    assert message in told
    assert told.count("\n") == 1


def test_a_mistake_in_a_reference_is_shown_at_its_place(capsys):
    assert main(["check", "relu", "--reference", "2 * [x][0]"]) == 2
    problem = "formula: '[' is not allowed; a formula uses round brackets only"
    assert capsys.readouterr() == ("", f"actlab: error: {problem}\n  2 * [x][0]\n      ^\n")


def command(*arguments):
    return [sys.executable, "-m", "actlab", "check", *arguments]


def test_as_a_process_it_fits_80_columns(mine):
    done = ran(command("mine_of_a_person.py:cut", "--skip", "compile,export"))
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith(
        "kinks                fail            f'(0) = 1, between 0 and 1; expected 0, as"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_target_that_hangs_does_not_outlive_a_killed_check(mine):
    with started(command("mine_of_a_person.py:hangs"), stdout=subprocess.DEVNULL) as running:
        children = waited(lambda: descendants(running.pid))
        assert children
        time.sleep(0.5)  # it asks to end with its parent a moment after it began
        running.kill()
        running.wait()
        assert waited(lambda: not living(children))
