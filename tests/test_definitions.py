"""Descriptions of a person's own code: they change with whatever it does, and with nothing else."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import skorch
import torch
from torch import nn

from actlab import NeuralNet
from actlab.fleet.skorch_adapter import read
from actlab.ledger.run_key import describe, digest, run_settings
from tests.fleets import CLASSES, FEATURES, classifier, table
from tests.identities import CODE, OWN, load, quiet, same

__all__ = ["load", "quiet"]

X, Y = table()

CHANGES = {
    "a constant": ("SLOPE = 0.1", "SLOPE = 0.2"),
    "a nested constant": ("[1, 2]", "[1, 3]"),
    "a helper": ("x * SLOPE", "x / SLOPE"),
    "a helper's helper": ("x + 1", "x + 2"),
    "a decorator": ("+ 3.0", "+ 3.5"),
    "the forward of an autograd.Function": ("return x * x", "return x * x * 1"),
    "the backward of an autograd.Function": ("2.0 * x", "2.5 * x"),
    "a class attribute": ("offset = 4.0", "offset = 4.5"),
    "the base class": ("x + 5.0", "x + 5.5"),
    "other bases": ("class Act(Base)", "class Act(Base, dict if 0 else object)"),
    "a lambda": ("- 6.0", "- 6.5"),
    "a default": ("bias=7.0", "bias=7.5"),
    "a value in a closure": ("make(8.0)", "make(8.5)"),
    "a default of the class": ("power=1.5", "power=1.6"),
    "another module of the same name": ("import torch.nn.functional as F", "import torch as F"),
}
NO_CHANGES = {
    "a comment": ("# a comment", "# another, and longer"),
    "lines": ("SLOPE = 0.1", "\n\n\nSLOPE = 0.1"),
    "space": ("return x * factor + bias", "return x*factor  +  bias   # so"),
    "a function that is not used": ("def unrelated(x):\n    return x", "def unrelated(x):\n    return x + 1"),
    "a new function": ("def make", "def new():\n    pass\n\n\ndef make"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_an_activation_does_changes_its_description(load, change):
    before = digest(describe(load(CODE).Act()))
    assert CHANGES[change][0] in CODE
    if change == "other bases":
        text = CODE.replace("class Act(Base)", "class Act(Base, Other)").replace(
            "class Act", "class Other:\n    pass\n\n\nclass Act"
        )
    else:
        text = CODE.replace(*CHANGES[change])
    assert digest(describe(load(text).Act(1.5))) != before


@pytest.mark.parametrize("change", NO_CHANGES)
def test_a_change_of_anything_else_does_not(load, change):
    before = describe(load(CODE).Act())
    text = CODE.replace(*NO_CHANGES[change])
    assert text != CODE
    assert describe(load(text).Act()) == before


def test_a_description_of_code_is_readable_and_tells_what_differs(load):
    described = describe(load(CODE).Act())
    assert described["is"] == {"class": "mine:Act", "attributes": {"power": 1.5}}
    assert described["code"]["mine:helper"]["uses"] == {"SLOPE": 0.1, "recursive": {"code": "mine:recursive"}}
    assert described["code"]["mine:make.<locals>.product"]["closure"] == {"factor": 8.0}
    assert described["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert "mine:unrelated" not in described["code"]


def test_code_counts_as_it_was_imported_and_not_as_its_file_is_now(load):
    module = load(CODE)
    before = describe(module.Act())
    file = Path(module.__file__)
    file.write_text(CODE.replace("x + 5.0", "x + 5.5"))
    assert describe(module.Act()) == before


def test_what_is_read_from_another_module_counts_and_the_rest_of_it_does_not(load):
    text = "import helpers\ndef f(x):\n    return helpers.scaled(x) + helpers.OFFSET\n"
    other = "OFFSET = 1\nOTHER = 1\ndef scaled(x):\n    return x * 2\n"

    def described(helpers):
        load(helpers, "helpers")
        return digest(describe(load(text).f))

    before = described(other)
    assert described(other.replace("OTHER = 1", "OTHER = 2")) == before
    assert described(other.replace("OFFSET = 1", "OFFSET = 2")) != before
    assert described(other.replace("x * 2", "x * 3")) != before


IMPORTS = [
    "from helpers import scaled",
    "import helpers\n    scaled = helpers.scaled",
    "import helpers as h; scaled = h.scaled",
]


@pytest.mark.parametrize("line", IMPORTS)
def test_an_import_inside_a_function_is_followed(load, line):
    text = f"def f(x):\n    {line}\n    return scaled(x)\n"

    def described(factor):
        load(f"def scaled(x):\n    return x * {factor}\n", "helpers")
        return digest(describe(load(text).f))

    assert described(2) == described(2)
    assert described(2) != described(3)


def test_a_module_that_is_handed_on_counts_as_a_whole(load):
    text = "import helpers\ndef f(x):\n    return getattr(helpers, 'sca' + 'led')(x)\n"

    def described(factor):
        load(f"def scaled(x):\n    return x * {factor}\n", "helpers")
        return digest(describe(load(text).f))

    assert described(2) != described(3)


def test_code_without_a_source_counts(load):
    def made(factor):
        space = {"__name__": "__main__"}
        exec(f"def f(x):\n    return x * {factor}", space)  # noqa: S102
        return space["f"]

    assert same(made(2), made(2))
    assert not same(made(2), made(3))


@pytest.mark.parametrize("what", ["Square", "Net"])
@pytest.mark.parametrize(
    "change",
    [
        ("x * x * scale", "x * x"),
        ("2 * x * scale", "3 * x * scale"),
        ("2.0 * scale", "2.5 * scale"),
        ("scale=1.0", "scale=2.0"),
    ],
)
def test_every_formula_of_an_own_activation_counts(load, what, change):
    def described(text):
        torch.manual_seed(0)
        return digest(describe(getattr(load(text), what)()))

    before = described(OWN)
    assert described(OWN) == before
    assert described(OWN.replace('paper="-"', 'paper="A paper"')) == before
    assert described(OWN.replace(*change)) != before


def test_a_spec_does_not_hide_a_persons_code(load, tmp_path):
    def of(text, place):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "acts.py").write_text(text)
        net = classifier(module=NeuralNet, module__activation=f"{folder}/acts.py:Square")
        net.set_params(module__num_features=FEATURES, module__num_classes=CLASSES, module__num_units=4)
        (settings,) = run_settings([read(net, X, Y)], "data")
        assert settings["activation"] == "acts.py:Square"
        return digest(settings)

    before = of(OWN, "a")
    assert of(OWN, "b") == before  # the file is loaded anew, under another name
    assert of(OWN.replace("2 * x", "3 * x"), "c") != before


def test_what_belongs_to_a_library_is_a_name():
    assert describe(nn.ReLU()) == {
        "class": "torch.nn.modules.activation:ReLU",
        "attributes": {"inplace": False},
    }
    assert describe(NeuralNet) == {"code": "actlab.models.networks:NeuralNet"}
    version = describe(skorch.NeuralNet)["code"]["skorch.net:NeuralNet"]["version"]
    assert re.fullmatch(rf"skorch {re.escape(skorch.__version__)} \([0-9a-f]{{16}}\)", version)
