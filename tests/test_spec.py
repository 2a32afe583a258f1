from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import actlab
from actlab.spec import split_spec


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("relu", "ReLU()"),
        (" relu ", "ReLU()"),
        ("relu()", "ReLU()"),
        ("relu(inplace=True)", "ReLU(inplace=True)"),
        ("leaky_relu(0.2)", "LeakyReLU(negative_slope=0.2)"),
        ("leaky_relu(negative_slope=-1e-3)", "LeakyReLU(negative_slope=-0.001)"),
        ("torch.nn:ELU(alpha=0.5)", "ELU(alpha=0.5)"),
        ("actlab.functional:tanh", "Tanh()"),
    ],
)
def test_get_returns_the_module_of_a_spec(spec, shown):
    assert repr(actlab.get(spec)) == shown


def test_get_returns_a_module_unchanged():
    module = torch.nn.Mish()
    assert actlab.get(module) is module


def test_get_returns_a_new_module_each_time():
    assert actlab.get("relu") is not actlab.get("relu")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("reluu", "unknown activation 'reluu' .did you mean 'relu'"),
        ("qqq", "unknown activation 'qqq'; actlab list prints all names; write a formula as 'formula:"),
        ("x*2", r"unknown activation 'x\*2'; .*; write a formula as 'formula:x\*tanh"),
        ("tanh(x)*2", "must be literals.*; write a formula as 'formula:"),
        ("", "unknown activation ''"),
        ("leaky_relu(slope=0.2)", "argument 'slope' is unknown; it takes .'negative_slope', 'inplace'"),
        ("leaky_relu(0.1, negative_slope=0.2)", "'negative_slope' is given twice"),
        ("relu(1, 2)", "takes at most 1 argument"),
        ("leaky_relu(__import__('os').getcwd())", "must be literals"),
        ("leaky_relu(**{'negative_slope': 0.1})", "must be literals"),
        ("leaky_relu(0.1", "must be literals"),
        ("leaky_relu(0.1)(2)", "must be literals"),
        ("leaky_relu(0.1); import os", "must be literals"),
        (
            "no.such.package:Thing",
            "cannot import 'no.such.package': ModuleNotFoundError: No module named 'no'",
        ),
        ("torch.nn:NoSuch", "'NoSuch' not found"),
        ("torch:__version__", "is not callable"),
        ("torch.nn:ELU(alfa=1)", "unexpected keyword argument 'alfa'"),
        ("builtins:dict", "returns a dict, not an nn.Module"),
        (3, "3 is not an activation; pass a name such as 'relu', an nn.Module, its class, or a function"),
    ],
)
def test_get_rejects_a_wrong_spec_in_one_line(spec, message):
    with pytest.raises(actlab.UsageError, match=message) as caught:
        actlab.get(spec)
    assert "\n" not in str(caught.value)


def test_parse_rejects_deep_nesting():
    with pytest.raises(actlab.UsageError, match="must be literals"):
        split_spec("leaky_relu(" + "[" * 100_000 + "]" * 100_000 + ")")


@pytest.mark.parametrize("call", ["actlab.get('{0}:f')", "actlab.compare(['relu', '{0}:f'], 'digits')"])
def test_get_refuses_a_file_that_imports_itself(call, tmp_path):
    file = tmp_path / "script.py"
    file.write_text(f"import actlab\nf = actlab.functional.relu\n{call.format(file)}\n")
    with pytest.raises(actlab.UsageError, match=r"script\.py imports itself, because it calls actlab when"):
        actlab.get(f"{file}:f")
    file.write_text("import actlab\nf = actlab.functional.relu\n")
    assert repr(actlab.get(f"{file}:f")) == "ReLU()"


def test_get_imports_a_file_in_several_threads_at_once(tmp_path):
    file = tmp_path / "slow_file.py"
    file.write_text("import time, actlab\ntime.sleep(0.3)\nf = actlab.functional.relu\n")
    with ThreadPoolExecutor(4) as executor:
        modules = list(executor.map(actlab.get, [f"{file}:f"] * 4))
    assert {repr(module) for module in modules} == {"ReLU()"}
