"""The verb ``check``: exit status, output, and messages for mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from actlab.cli import main
from tests.processes import list_descendants, list_living, start_process, wait_until

USER_MODULE = """
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
def user_folder(tmp_path, monkeypatch):
    """Change to a folder with user-written modules, and return it."""
    (tmp_path / "user_module.py").write_text(USER_MODULE)
    (tmp_path / "broken.py").write_text("def f(x:\n")
    (tmp_path / "raises.py").write_text("raise OSError('no weights here')\n")
    (tmp_path / "chatty.py").write_text("import torch\nprint('hello')\nf = torch.tanh\nopen('none.pt')\n")
    (tmp_path / "quits.py").write_text("import sys; sys.exit(4)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("user_module", None)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("torch:tanh", 0),
        ("user_module:Scaled(scale=0.5)", 0),
        ("user_module.py:Scaled(0.5, shift=-1)", 0),
        ("user_module.py:made", 0),
        ("user_module.py:cut", 1),
    ],
)
def test_check_exit_status(target, status, user_folder, capsys):
    assert main(["check", target, "--only", "kinks,vmap"]) == status
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{target}: " + ("1 fail, 1 pass" if status else "2 pass"))
    assert captured.err == ""


def test_check_writes_json_and_junit_for_several_targets(user_folder, capsys):
    targets = ["torch:tanh", "user_module.py:cut"]
    assert main(["check", *targets, "--only", "kinks", "--json", "--junit", "out.xml"]) == 1
    output = json.loads(capsys.readouterr().out)
    assert [(r["target"], r["passed"]) for r in output["reports"]] == list(
        zip(targets, [True, False], strict=True)
    )
    suites = ElementTree.parse("out.xml").getroot().findall("testsuite")
    assert [suite.get("failures") for suite in suites] == ["0", "1"]
    assert sorted(path.name for path in user_folder.iterdir() if path.suffix == ".xml") == ["out.xml"]


def test_check_reference_option(capsys):
    assert main(["check", "mish", "--reference", "x * tanh(log(1 + exp(x)))", "--only", "reference"]) == 0
    assert main(["check", "relu", "--reference", "x", "--only", "reference"]) == 1
    assert "f(-1e-30) = 0, expected" not in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reluu"], "unknown activation 'reluu' (did you mean 'relu'?)"),
        (["threshold"], "Threshold needs 'threshold', 'value'; write threshold(threshold=..., value=...)"),
        (["no_such_module:x"], "cannot import 'no_such_module': ModuleNotFoundError: No module named"),
        (["no_such_file.py:x"], "file 'no_such_file.py' does not exist"),
        (["broken.py:f"], "cannot import 'broken.py': SyntaxError: "),
        (["raises.py:f"], "cannot import 'raises.py': OSError: no weights here"),
        (["chatty.py:f"], "cannot import 'chatty.py': FileNotFoundError: "),
        (["quits.py:f"], "cannot import 'quits.py': SystemExit: 4"),
        (["user_module.py:cuts"], "'cuts' not found (did you mean 'cut'?)"),
        (["user_module.py:number"], "a value of type int is not callable"),
        (["user_module.py:nothing"], "takes no tensor: it has no parameters"),
        (["user_module.py:two"], "needs 'y' besides the tensor; write user_module.py:two(y=...)"),
        (["user_module.py:Scaled"], "Scaled needs 'scale'; write user_module.py:Scaled(scale=...)"),
        (["user_module.py:Scaled(1, 2)"], "Scaled cannot be created: TypeError"),
        (["user_module.py:made(1)"], "is already a module; remove the arguments"),
        (["torch.nn:ELU(alpha=__import__('os'))"], "arguments must be literals"),
        (["torch.nn:ELU(alpha=1.0"], "arguments must be literals"),
        (["relu", "--only", "kinkz"], "unknown row 'kinkz' (did you mean 'kinks'?)"),
        (["relu", "--skip", "compil"], "unknown row 'compil' (did you mean 'compile'?)"),
        (["relu", "--dtypes", "float33"], "unknown dtype 'float33'; choose from float32, float16, bfloat16"),
        (["relu", "--device", "tpu9"], "device 'tpu9' cannot be used"),
        (["relu", "--reference", "x * alpha"], "must be a formula in x only, but it also contains ['alpha']"),
        (["relu", "--junit", "none/out.xml"], "cannot write 'none/out.xml': its folder does not exist"),
        ([], "the following arguments are required: TARGET"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_check_mistake_prints_one_line_and_exits_with_2(arguments, message, user_folder, capsys):
    assert main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error = captured.err.removeprefix("hello\n")  # "hello" is printed by an imported module
    assert error.startswith("actlab: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_check_marks_the_position_of_a_mistake_in_a_reference(capsys):
    assert main(["check", "relu", "--reference", "2 * [x][0]"]) == 2
    problem = "formula: '[' is not allowed; a formula uses round brackets only"
    assert capsys.readouterr() == ("", f"actlab: error: {problem}\n  2 * [x][0]\n      ^\n")


def command(*arguments):
    return [sys.executable, "-m", "actlab", "check", *arguments]


def test_check_output_fits_80_columns(user_folder, capsys):
    assert main(["check", "user_module.py:cut", "--skip", "compile,export"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith(
        "kinks                fail            f'(0) = 1, between 0 and 1; expected 0, as"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_check_that_is_killed_ends_its_hanging_target(user_folder):
    with start_process(command("user_module.py:hangs"), stdout=subprocess.DEVNULL) as running:
        children = wait_until(lambda: list_descendants(running.pid))
        assert children
        time.sleep(0.5)  # the child asks to end with its parent shortly after its start
        running.kill()
        running.wait()
        assert wait_until(lambda: not list_living(children))
