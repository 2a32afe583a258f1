"""Descriptions of user code change with its source and with the values that it uses."""

from __future__ import annotations

import functools
import hashlib
import importlib
import linecache
import re
import sys
from pathlib import Path

import pytest
import skorch
import torch
from torch import nn

from actlab import NeuralNet
from actlab.fleet.skorch_adapter import read_run
from actlab.ledger.run_key import Indescribable, describe, hash_description, list_key_settings
from tests.fleets import CLASSES, FEATURES, classifier, make_table
from tests.user_code import CODE, OWN, fixed_seed, have_equal_descriptions, import_code

__all__ = ["fixed_seed", "import_code"]

X, Y = make_table()

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


@pytest.mark.parametrize("change", CHANGES)
def test_describe_changes_with_the_code_of_an_activation(import_code, change):
    before = hash_description(describe(import_code(CODE).Act()))
    assert CHANGES[change][0] in CODE
    if change == "other bases":
        text = CODE.replace("class Act(Base)", "class Act(Base, Other)").replace(
            "class Act", "class Other:\n    pass\n\n\nclass Act"
        )
    else:
        text = CODE.replace(*CHANGES[change])
    assert hash_description(describe(import_code(text).Act(1.5))) != before
    assert hash_description(describe(import_code(CODE).Act(1.5))) == before


@pytest.mark.parametrize("change", [("# a comment", "# another"), ("SLOPE = 0.1", "\nSLOPE = 0.1")])
def test_describe_changes_with_any_edit_of_the_file(import_code, change):
    before = describe(import_code(CODE).Act())
    assert describe(import_code(CODE.replace(*change)).Act()) != before


def set_closure(module):
    module.made.__closure__[0].cell_contents = 9.0


@pytest.mark.parametrize(
    "change",
    [
        lambda module: setattr(module, "SLOPE", 0.2),
        lambda module: module.TABLE["a"].append(3),
        lambda module: setattr(module, "helper", module.unrelated),
        lambda module: setattr(module, "made", module.make(9.0)),
        lambda module: setattr(module.made, "__defaults__", (7.5,)),
        lambda module: setattr(module.Base, "offset", 4.5),
        lambda module: setattr(module.Base, "shifted", lambda self, x: x),
        lambda module: setattr(module.Exact, "backward", staticmethod(module.unrelated)),
        set_closure,
    ],
)
def test_describe_changes_with_variables_set_at_run_time(import_code, change):
    module = import_code(CODE)
    before = hash_description(describe(module.Act()))
    module.unrelated.attribute = module.OTHER = 1  # unused by the activation
    assert hash_description(describe(module.Act())) == before
    change(module)
    assert hash_description(describe(module.Act())) != before


def test_describe_distinguishes_functions_of_one_file_and_name(import_code):
    one, two, three = import_code("fs = [lambda x: x * 2.0, lambda x: x * 3.0, lambda x: x * 3.0]\n").fs
    assert len({hash_description(describe(f)) for f in (one, two, three)}) == 3
    assert not have_equal_descriptions([one, two], [two, one])
    assert have_equal_descriptions([one, two], [one, two])


def test_describe_distinguishes_functions_of_one_name_in_two_modules(import_code):
    import_code("def f(x):\n    return x\n", "helpers")
    module = import_code("import helpers\ndef f(x):\n    return -x\n")
    import helpers

    both = [describe(module.f)["sources"], describe([module.f, helpers.f])["sources"]]
    assert both[0] == both[1]
    assert not have_equal_descriptions([module.f, helpers.f], [helpers.f, module.f])


def test_describe_returns_readable_code_descriptions(import_code):
    described = describe(import_code(CODE).Act())
    assert described["value"] == {"class": "Act", "attributes": {"power": 1.5}}
    assert described["code"]["helper"]["globals"] == {"SLOPE": 0.1, "recursive": {"code": "recursive"}}
    assert described["code"]["make.<locals>.product"]["closure"] == {"factor": 8.0}
    assert described["sources"] == [hashlib.sha256(CODE.encode()).hexdigest()]
    assert described["python"] == [f"{sys.version_info.major}.{sys.version_info.minor}"]
    assert "unrelated" not in described["code"]


def test_describe_rejects_a_file_edited_after_its_import(import_code):
    module = import_code(CODE)
    before = describe(module.Act())
    file = Path(module.__file__)
    file.write_text(CODE.replace("x + 5.0", "x + 5.5"))
    with pytest.raises(Indescribable, match=r"is not the source of the code that runs; .*restart Python$"):
        describe(module.Act())
    file.write_text(CODE)
    assert describe(module.Act()) == before


def test_describe_includes_only_imported_modules(import_code):
    text = "import helpers\ndef f(x):\n    return helpers.scaled(x) + helpers.OFFSET\n"
    helpers = "import deeper\nOFFSET = 1\nOTHER = 1\ndef scaled(x):\n    return deeper.double(x)\n"

    def described(helpers=helpers, deeper="def double(x):\n    return 2 * x\n", other="", **values):
        import_code(other, "other")
        import_code(deeper, "deeper")
        vars(import_code(helpers, "helpers")).update(values)
        return hash_description(describe(import_code(text).f))

    before = described()
    assert described() == described(other="A = 1") == described(OTHER=2) == before
    changed = [
        described(helpers.replace("OFFSET = 1", "OFFSET = 2")),
        described(helpers.replace("OTHER = 1", "OTHER = 2")),  # the whole file is part of the description
        described(helpers.replace("import deeper\n", "import deeper  # here\n")),
        described(deeper="def double(x):\n    return x + x\n"),
        described(OFFSET=2),
        described(scaled=abs),
    ]
    assert len({before, *changed}) == len(changed) + 1


IMPORTS = [
    "from helpers import scaled",
    "import helpers\n    scaled = helpers.scaled",
    "import helpers as h; scaled = h.scaled",
]


@pytest.mark.parametrize("line", IMPORTS)
def test_describe_follows_imports_inside_functions(import_code, line):
    text = f"def f(x):\n    {line}\n    return scaled(x)\n"

    def described(factor):
        import_code(f"def scaled(x):\n    return x * {factor}\n", "helpers")
        return hash_description(describe(import_code(text).f))

    assert described(2) == described(2)
    assert described(2) != described(3)


def test_describe_includes_a_module_passed_as_a_value(import_code):
    text = "import helpers\ndef f(x):\n    return getattr(helpers, 'sca' + 'led')(x)\n"

    def described(factor):
        import_code(f"def scaled(x):\n    return x * {factor}\n", "helpers")
        return hash_description(describe(import_code(text).f))

    assert described(2) != described(3)


def test_describe_follows_relative_imports_inside_functions(tmp_path, monkeypatch):
    def described(number):
        folder = tmp_path / f"folder{number}" / "package"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "helpers.py").write_text(f"def scaled(x):\n    return x * {number}\n")
        (folder / "act.py").write_text("def f(x):\n    from .helpers import scaled\n    return scaled(x)\n")
        monkeypatch.syspath_prepend(folder.parent)
        for name in [name for name in sys.modules if name.partition(".")[0] == "package"]:
            monkeypatch.delitem(sys.modules, name)
        return hash_description(describe(importlib.import_module("package.act").f))

    assert described(1) != described(2)


def test_describe_rejects_code_without_source():
    space = {"__name__": "__main__"}
    exec("def f(x):\n    return x * 2", space)  # noqa: S102
    with pytest.raises(Indescribable, match=r"^cannot describe f: '<string>' has no source; write"):
        describe(space["f"])


def run_cell(text, name):
    """Run a text as a notebook cell: it has no file, and its source is in linecache."""
    space = {"__name__": "__main__"}
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), space)  # noqa: S102
    return space


def test_describe_includes_the_whole_notebook_cell(monkeypatch):
    monkeypatch.setattr(linecache, "cache", linecache.cache.copy())
    text = "from torch import nn\nSLOPE = 0.1\nclass Act(nn.Module):\n    def forward(self, x):\n        "
    text += "return x * SLOPE\n"
    spaces = [run_cell(text, "/tmp/kernel_1/11.py"), run_cell(text, "/tmp/kernel_2/12.py")]
    spaces += [run_cell(text.replace("x * SLOPE", "x / SLOPE"), "/tmp/kernel_1/13.py")]
    keys = [hash_description(describe(space["Act"]())) for space in spaces]
    assert keys[0] == keys[1] != keys[2]
    spaces[1]["SLOPE"] = 0.2  # set in another cell
    assert hash_description(describe(spaces[1]["Act"]())) != keys[0]


def test_describe_needs_no_source_for_generated_methods(import_code):
    text = """
from collections import namedtuple
from dataclasses import dataclass

@dataclass(frozen=True, order=True)
class Options:
    slope: float = 0.1

Pair = namedtuple("Pair", "a b")
"""
    module, other = import_code(text), import_code(text.replace("0.1", "0.2"))
    assert not have_equal_descriptions(module.Options, other.Options)
    assert not have_equal_descriptions(module.Options(0.3), module.Options(0.4))
    assert not have_equal_descriptions(module.Pair(1, 2), module.Pair(1, 3))
    assert have_equal_descriptions(module.Pair(1, 2), import_code(text).Pair(1, 2))


@pytest.mark.parametrize("what", ["Square", "Network"])
@pytest.mark.parametrize(
    "change",
    [
        ("x * x * scale", "x * x"),
        ("2 * x * scale", "3 * x * scale"),
        ("2.0 * scale", "2.5 * scale"),
        ("scale=1.0", "scale=2.0"),
    ],
)
def test_describe_includes_every_formula_of_a_user_activation(import_code, what, change):
    def described(text):
        torch.manual_seed(0)
        return hash_description(describe(getattr(import_code(text), what)()))

    before = described(OWN)
    assert described(OWN) == before
    assert described(OWN.replace(*change)) != before


def test_run_settings_include_the_code_behind_a_spec(import_code, tmp_path):
    def of(text, place):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "acts.py").write_text(text)
        model = classifier(module=NeuralNet, module__activation=f"{folder}/acts.py:Square")
        model.set_params(module__num_features=FEATURES, module__num_classes=CLASSES, module__num_units=4)
        (settings,) = list_key_settings([read_run(model, X, Y)], "data")
        assert settings["activation"] == "acts.py:Square"
        return hash_description(settings)

    before = of(OWN, "a")
    assert of(OWN, "b") == before  # the file is loaded again under another name
    assert of(OWN.replace("2 * x", "3 * x"), "c") != before


def test_describe_names_library_code():
    assert describe(nn.ReLU()) == {
        "class": "torch.nn.modules.activation:ReLU",
        "attributes": {"inplace": False},
    }
    assert describe(NeuralNet) == {"code": "actlab.models.networks:NeuralNet"}
    assert describe(skorch.NeuralNet) == {
        "value": {"code": "skorch.net:NeuralNet"},
        "libraries": [f"skorch {skorch.__version__}"],
    }


def test_describe_names_code_generated_by_a_library(import_code):
    generic = functools.singledispatch(import_code("def f(x):\n    return x\n").f)
    label = describe(generic)["value"]["code"]
    assert re.fullmatch(r"functools:f:\d+", label)
    assert describe(generic)["code"][label]["closure"]["dispatch"]
