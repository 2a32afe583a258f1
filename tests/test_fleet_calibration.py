"""What is measured once on a machine, kept, read again and changed by hand."""

from __future__ import annotations

import dataclasses
import json
import logging
import os

import pytest
import torch

from actlab.cli import main
from actlab.errors import UsageError
from actlab.fleet.calibration import (
    Calibration,
    arithmetic,
    calibration,
    changed,
    hardware,
    keep,
    measure,
    place,
)

MINE = Calibration(hardware(), torch.__version__, threads=3, weights_per_fleet=12345, rates={"steps": 7.5})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test has a cache folder of its own, and nothing in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calibration.cache_clear()
    yield tmp_path
    calibration.cache_clear()


@pytest.fixture(scope="module")
def measured():
    return measure()


@pytest.fixture
def measuring(monkeypatch):
    """Count how often a machine is measured; it takes no time."""
    times = []

    def quickly(device="cpu"):
        times.append(device)
        return dataclasses.replace(MINE, seconds=float(len(times)))

    monkeypatch.setattr("actlab.fleet.calibration.measure", quickly)
    return times


@pytest.fixture
def nothing_is_measured(monkeypatch):
    def measure(device="cpu"):
        raise AssertionError("it was measured")

    monkeypatch.setattr("actlab.fleet.calibration.measure", measure)


# -- measuring ------------------------------------------------------------------------------------


def test_what_is_measured_names_the_machine_and_loses_no_digit_of_float32(measured):
    assert (measured.hardware, measured.torch) == (hardware("cpu"), torch.__version__)
    assert measured.errors[f"matmul {measured.matmul}"] < 2e-6
    assert measured.errors["matmul bf16"] > 1e-3
    assert measured.threads in (1, os.cpu_count())
    assert measured.weights_per_fleet >= (64 + 64) * 128
    assert all(rate > 0 for rate in measured.rates.values())
    assert measured.rates.keys() >= {"matmul highest", "matmul bf16", "steps, autograd"}


def test_measuring_leaves_torchs_settings_alone(measured):
    before = torch.get_float32_matmul_precision(), torch.get_num_threads(), torch.get_rng_state()
    found = measure()
    assert (torch.get_float32_matmul_precision(), torch.get_num_threads()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert found.rates.keys() == measured.rates.keys()


# -- keeping --------------------------------------------------------------------------------------


def test_a_machine_is_measured_once_and_the_file_is_read_from_then_on(cache, measuring):
    first = calibration()
    assert place().parent == cache / "actlab"
    assert json.loads(place().read_text()) == dataclasses.asdict(first)
    calibration.cache_clear()
    assert calibration() == first
    assert measuring == ["cpu"]


def test_what_is_really_measured_is_read_again_as_it_was(measured, nothing_is_measured):
    keep(measured)
    assert calibration() == measured


def test_nothing_but_the_file_is_left(cache, measuring):
    calibration()
    assert list((cache / "actlab").iterdir()) == [place()]


@pytest.mark.parametrize("other", [{"torch": "1.0.0"}, {"hardware": "an abacus"}], ids=["torch", "hardware"])
def test_what_another_torch_or_machine_has_measured_is_not_used(measuring, other):
    place().parent.mkdir(parents=True)
    place().write_text(json.dumps(dataclasses.asdict(dataclasses.replace(MINE, **other))))
    assert calibration() == dataclasses.replace(MINE, seconds=1.0)
    assert measuring == ["cpu"]


def test_another_torch_and_another_machine_have_files_of_their_own(monkeypatch):
    files = {place()}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "1.0.0")
        files.add(place())
    monkeypatch.setattr("actlab.fleet.calibration.hardware", lambda device: "an abacus")
    assert len({*files, place()}) == 3


KNOWN = dataclasses.asdict(MINE)
BROKEN = {
    "empty": "",
    "cut off": json.dumps(KNOWN)[:40],
    "no object": "[1, 2]",
    "another program's": '{"version": 2}',
    "with something unknown": json.dumps({**KNOWN, "cores": 4}),
    "with a setting that torch does not know": json.dumps({**KNOWN, "matmul": "lowest"}),
    "with a number that is none": json.dumps({**KNOWN, "threads": "many"}),
    "without threads": json.dumps({**KNOWN, "threads": 0}),
    "without a size": json.dumps({**KNOWN, "weights_per_fleet": None}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_broken_is_measured_over(name, measuring):
    place().parent.mkdir(parents=True)
    place().write_text(BROKEN[name])
    assert calibration() == dataclasses.replace(MINE, seconds=1.0)
    calibration.cache_clear()
    assert calibration() == dataclasses.replace(MINE, seconds=1.0)
    assert measuring == ["cpu"]


def test_a_file_that_is_no_text_is_measured_over(measuring):
    place().parent.mkdir(parents=True)
    place().write_bytes(b"\xff\xfe\x00")
    assert calibration().seconds == 1.0


def no_folder(cache):
    (cache / "actlab").write_text("a file where the folder should be")


def a_folder_in_its_place(cache):
    place().mkdir(parents=True)


@pytest.mark.parametrize("obstacle", [no_folder, a_folder_in_its_place])
def test_a_cache_that_cannot_be_written_is_a_warning_and_the_machine_is_measured_once_a_process(
    cache, measuring, caplog, obstacle
):
    obstacle(cache)
    with caplog.at_level(logging.WARNING, "actlab"):
        assert calibration() == calibration() == dataclasses.replace(MINE, seconds=1.0)
    (record,) = caplog.records
    assert record.message.startswith("the calibration is not kept: ")
    assert measuring == ["cpu"]


# -- changing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("matmul", "medium", "medium"),
        ("threads", "2", 2),
        ("weights_per_fleet", "1000000", 1000000),
        ("layer_by_layer", "false", False),
        ("layer_by_layer", "True", True),
    ],
)
def test_a_setting_is_as_a_person_wants_it_and_the_others_are_as_before(name, text, value):
    found = changed(MINE, {name: text})
    assert getattr(found, name) == value
    assert dataclasses.replace(found, **{name: getattr(MINE, name)}) == MINE


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"layer_by_layr": "true"}, "unknown setting 'layer_by_layr' (did you mean 'layer_by_layer'?)"),
        (
            {"nonsense": "1"},
            "unknown setting 'nonsense'; known are matmul, threads, weights_per_fleet, layer_by_layer",
        ),
        ({"hardware": "x"}, "unknown setting 'hardware'"),
        ({"matmul": "low"}, "matmul is 'low', not highest, high or medium"),
        ({"threads": "0"}, "threads is '0', not a whole number from 1 to 1024"),
        ({"threads": "1.5"}, "threads is '1.5', not a whole number from 1 to 1024"),
        ({"weights_per_fleet": "-3"}, "weights_per_fleet is '-3', not a whole number of at least 1"),
        ({"layer_by_layer": "no"}, "layer_by_layer is 'no', not true or false"),
        ({"layer_by_layer": ""}, "layer_by_layer is '', not true or false"),
    ],
)
def test_a_wrong_setting_is_said_in_one_line(settings, text):
    with pytest.raises(UsageError) as error:
        changed(MINE, settings)
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_arithmetic_comes_back(fails):
    before = torch.get_float32_matmul_precision(), torch.get_num_threads()
    wanted = dataclasses.replace(MINE, matmul="medium", threads=before[1] + 1)
    try:
        with arithmetic(wanted):
            assert torch.get_float32_matmul_precision() == "medium"
            assert torch.get_num_threads() == before[1] + 1
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert (torch.get_float32_matmul_precision(), torch.get_num_threads()) == before


@pytest.mark.parametrize(
    ("size", "runs", "most"),
    [(100, 80, 10), (100, 8, 1), (100, 1, 1), (6000, 80, 2), (10**6, 80, 1), (0, 80, 10)],
)
def test_a_fleet_has_a_share_of_the_runs_as_far_as_their_weights_fit(size, runs, most):
    assert MINE.runs_per_fleet(size, runs) == most
    assert dataclasses.replace(MINE, hardware="cuda: card").runs_per_fleet(100, runs) == 123


# -- the command line -----------------------------------------------------------------------------


def test_the_verb_shows_settings_measurements_and_the_file(measured, nothing_is_measured, capsys):
    keep(measured)
    assert main(["fleet", "calibrate"]) == 0
    out = capsys.readouterr().out
    for name in ("hardware", "torch", "matmul", "threads", "weights_per_fleet", "layer_by_layer"):
        assert f"{name:<20}{getattr(measured, name)}\n" in out
    assert f"file                {place()}\n" in out
    error = measured.errors["matmul bf16"]
    assert f"GFLOP/s, relative error {error:g}\n" in out
    assert out.count("steps/s") + out.count("GFLOP/s") == len(measured.rates)


def test_as_json_it_is_one_object(nothing_is_measured, capsys):
    keep(MINE)
    assert main(["fleet", "calibrate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**KNOWN, "file": str(place())}


def test_what_is_set_stays_set_until_it_is_measured_again(measuring, monkeypatch, capsys):
    assert main(["fleet", "calibrate", "--set", "layer_by_layer=false", "--set", "threads=2", "--json"]) == 0
    assert main(["fleet", "calibrate", "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == second
    assert (first["layer_by_layer"], first["threads"]) == (False, 2)
    assert calibration().layer_by_layer is False
    assert main(["fleet", "calibrate", "--again", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["layer_by_layer"], again["threads"], again["seconds"]) == (True, 3, 2.0)
    assert calibration().layer_by_layer is True


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("nonsense=1", "unknown setting 'nonsense'; known are matmul"),
        ("layer_by_layer", "--set is 'layer_by_layer', not NAME=VALUE, such as layer_by_layer=false"),
        ("layer_by_layer=perhaps", "layer_by_layer is 'perhaps', not true or false"),
    ],
)
def test_a_wrong_setting_is_one_line_and_status_2_and_changes_nothing(setting, text, capsys):
    keep(MINE)
    assert main(["fleet", "calibrate", "--set", "threads=7", "--set", setting]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"actlab: error: {text}")
    assert error.count("\n") == 1
    assert calibration() == MINE


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_here_is_one_line_and_status_2(device, capsys):
    assert main(["fleet", "calibrate", "--device", device]) == 2
    assert capsys.readouterr().err.count("\n") == 1
