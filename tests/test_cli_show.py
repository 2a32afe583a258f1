"""The verbs ``list`` and ``show``."""

import json

import pytest

import actlab
from actlab.cli import main


def test_list_names_every_activation_in_eighty_columns(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == sorted(actlab.catalogue)
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1].startswith(f"{len(actlab.catalogue)} activations")


def test_list_for_programs(capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["leaky_relu"] == {
        "module": "actlab.nn.LeakyReLU(negative_slope=0.01, inplace=False)",
        "formula": "where(x > 0, x, negative_slope * x)",
    }


def test_show_prints_formula_values_and_picture(capsys):
    assert main(["show", "leaky_relu"]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "derivative     where(x > 0, 1, negative_slope)" in out
    assert "kinks          f'(0) = 0.01" in out
    assert "        -3           -0.03            0.01               0" in out
    assert "torch.nn twin  torch.nn.LeakyReLU" in out


def test_show_writes_the_picture_whole(capsys, tmp_path):
    assert main(["show", "tanh", "--out", str(tmp_path / "new"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["picture"] == str(tmp_path / "new" / "tanh.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tanh.png"]
    assert ["0", "0", "1", "0"] in found["values"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "reluu"], "unknown activation 'reluu'; did you mean 'relu'?"),
        (["show"], "the following arguments are required: NAME"),
        (["show", "relu", "--out", "/proc/none"], "cannot write to output folder '/proc/none'"),
        (["show", "glu", "--out", "out"], "glu: takes two halves of a tensor, so it has no curve to draw"),
        (["list", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("actlab: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
