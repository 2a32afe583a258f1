"""The verb ``swap``."""

import json

import pytest

from actlab.cli import main
from tests.command_line import in_empty_folder, refused  # noqa: F401

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc, self.act, self.gate = nn.Linear(width, width), nn.ReLU(), nn.Sigmoid()

    def forward(self, x):
        return torch.tanh(self.act(self.fc(x))) * self.gate(x)


made = Net()


def fail():
    raise RuntimeError("no weights")
"""


@pytest.fixture(autouse=True)
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)


@pytest.mark.parametrize("model", ["net.py:Net", "net.py:Net(width=2)", "net.py:made"])
def test_swap_list_prints_the_places(capsys, model):
    assert main(["swap", "--list", model]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "path        activation  code                   depth  reason",
        "forward:12  tanh        torch.tanh, net.py:12  1",
        "act         relu        ReLU()                 1",
        "gate        sigmoid     Sigmoid()              1      it may be a gate; name it to replace it",
        "",
        "3 places",
    ]


def test_swap_json_has_the_replacements_and_the_reasons(capsys):
    assert main(["swap", "net.py:Net", "mish", "--except", "forward*", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["model"] == "net.py:Net"
    assert [tuple(place.values()) for place in output["places"]] == [
        ("forward:12", "tanh", "torch.tanh, net.py:12", 1, "", "excluded by except_"),
        ("act", "relu", "ReLU()", 1, "Mish()", ""),
        ("gate", "sigmoid", "Sigmoid()", 1, "", "it may be a gate; name it to replace it"),
    ]


def test_swap_replace_selects_one_activation(capsys):
    assert main(["swap", "net.py:Net", "hardsigmoid", "--replace", "sigmoid", "--only", "gate"]) == 0
    out = capsys.readouterr().out
    assert "Hardsigmoid()" in out
    assert "3 places, 1 replaced" in out


def test_swap_list_reports_a_model_without_activations(capsys):
    assert main(["swap", "--list", "torch.nn:Linear(2, 2)"]) == 0
    assert capsys.readouterr().out == "no activations\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("net.py:Net", "pass an activation to swap in, or --list"),
        ("--list net.py:Net mish", "pass an activation to swap in, or --list without one"),
        ("--list net.py:Net --replace relu", "--replace needs an activation to swap in"),
        ("net.py:Net mishh", "unknown activation 'mishh' (did you mean 'mish'?)"),
        ("net.py:Net mish --replace gelu", "nothing in the model matches 'gelu' (did you mean 'relu'?)"),
        (
            "--list net.py:Net --only gat",
            "only: 'gat' is no path of an activation in the model (did",
        ),
        ("net.py:Net mish --except gat", "except_: 'gat' is no path of an activation in the model (did you"),
        ("--list Net", "model is 'Net', not 'package.module:Net' or 'file.py:Net'"),
        ("--list net.py:Nett", "'Nett' not found (did you mean 'Net'?)"),
        ("--list net.py:Net(depth=3)", "model 'net.py:Net(depth=3)' cannot be built: TypeError"),
        ("--list net.py:fail", "model 'net.py:fail' cannot be built: RuntimeError: no weights"),
        ("--list builtins:dict", "model 'builtins:dict' is a dict, not an nn.Module"),
        ("--list torch.nn:Linear(2,2) --only x", "only: 'x' is no path of an activation in the model"),
        ("torch.nn:Linear(2,2) mish", "the model has no activations"),
    ],
)
def test_swap_rejects_wrong_arguments_in_one_line(capsys, arguments, message):
    assert message in refused(capsys, "swap", *arguments.split())
