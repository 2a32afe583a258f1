"""Fleet settings: defaults, environment variables, and the verb ``fleet``."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from actlab.cli import main
from actlab.errors import UsageError
from actlab.fleet.layers import LinearLayer, uses_onednn
from actlab.fleet.settings import FleetSettings, processor_name, read_settings, use_settings
from actlab.fleet.stacked_weights import Stack


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("threads", "2", 2),
        ("weights_per_fleet", "1000000", 1000000),
        ("layer_by_layer", "false", False),
        ("layer_by_layer", "True", True),
        ("threads", "", 1),
    ],
)
def test_settings_for_reads_environment_variables(monkeypatch, name, text, value):
    monkeypatch.setenv(f"ACTLAB_{name.upper()}", text)
    assert read_settings() == dataclasses.replace(FleetSettings(), **{name: value})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ACTLAB_THREADS", "0", "ACTLAB_THREADS must be an integer from 1 to 1024, got '0'"),
        ("ACTLAB_THREADS", "1.5", "ACTLAB_THREADS must be an integer from 1 to 1024, got '1.5'"),
        ("ACTLAB_THREADS", "1025", "ACTLAB_THREADS must be an integer from 1 to 1024, got '1025'"),
        ("ACTLAB_WEIGHTS_PER_FLEET", "-3", "ACTLAB_WEIGHTS_PER_FLEET must be an integer >= 1, got '-3'"),
        ("ACTLAB_LAYER_BY_LAYER", "no", "ACTLAB_LAYER_BY_LAYER must be true or false, got 'no'"),
    ],
)
def test_settings_for_rejects_invalid_environment_variables(monkeypatch, capsys, name, text, message):
    monkeypatch.setenv(name, text)
    with pytest.raises(UsageError) as error:
        read_settings()
    assert str(error.value) == message
    assert main(["fleet"]) == 2
    out, printed = capsys.readouterr()
    assert (out, printed) == ("", f"actlab: error: {message}\n")


@pytest.mark.parametrize("fails", [False, True])
def test_apply_settings_restores_torch_settings(fails):
    before = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        with use_settings(FleetSettings(threads=before[1] + 1)):
            assert torch.get_float32_matmul_precision() == "highest"
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
def test_runs_per_fleet_is_limited_by_runs_and_weights(size, runs, most):
    settings = FleetSettings(weights_per_fleet=12345)
    assert settings.runs_per_fleet(size, runs) == most
    assert dataclasses.replace(settings, device="cuda:0").runs_per_fleet(100, runs) == 123


@pytest.mark.parametrize(
    ("runs", "saved_bytes", "most"), [(80, 1 << 18, 10), (80, (1 << 18) + 1, 1), (25, 0, 4), (24, 0, 1)]
)
def test_runs_per_fleet_stacks_networks_with_vmap_if_steps_are_small(runs, saved_bytes, most):
    assert FleetSettings().runs_per_fleet(100, runs, saved_bytes) == most
    assert FleetSettings(device="cuda:0").runs_per_fleet(100, runs, saved_bytes) == 1310


@pytest.mark.parametrize("bias", [True, False])
def test_linear_products_of_a_large_layer_are_accurate(bias):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(784, 128, bias=bias))
    stack = Stack([module], [] if uses_onednn(module[0].weight, "cpu") else ["0.weight"])
    layer = LinearLayer(stack, "0.", False)
    x, grad = torch.randn(100, 784), torch.randn(100, 128)
    exact = {name: p.detach().double() for name, p in module.named_parameters()}
    outputs = x.double() @ exact["0.weight"].mT + exact.get("0.bias", 0)
    assert_near(layer.forward(x, True), outputs)
    assert_near(layer.backward(grad, False), grad.double() @ exact["0.weight"])
    weight_grad = stack.grad_views["0.weight"][0]
    expected = grad.double().mT @ x.double()
    assert_near(weight_grad.mT if "0.weight" in stack.transposed else weight_grad, expected)


def assert_near(value, exact):
    assert float((value.double() - exact).norm() / exact.norm()) < 2e-6


def test_uses_onednn_is_false_for_small_float64_and_cuda_weights():
    weight = torch.empty(256, 256)
    assert not uses_onednn(weight[:128], "cpu")
    assert not uses_onednn(weight.double(), "cpu")
    assert not uses_onednn(weight, "cuda")


# -- the command line -----------------------------------------------------------------------------


def test_fleet_verb_prints_settings_and_their_variables(capsys):
    assert main(["fleet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"processor           {processor_name()}"
    assert "threads             1           set with ACTLAB_THREADS" in lines
    assert "weights_per_fleet   131072      set with ACTLAB_WEIGHTS_PER_FLEET" in lines
    assert "layer_by_layer      True        set with ACTLAB_LAYER_BY_LAYER" in lines
    assert "digits              7 networks (actlab.NeuralNet) in one fleet" in lines
    assert "MNIST               1 network (actlab.NeuralNet) in one fleet" in lines


def test_fleet_verb_json_prints_one_object(monkeypatch, capsys):
    monkeypatch.setenv("ACTLAB_THREADS", "3")
    before = np.random.get_state()[2], torch.get_rng_state()
    assert main(["fleet", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["threads"], shown["device"], shown["runs_per_fleet"]) == (
        3,
        "cpu",
        {"digits": 7, "MNIST": 1},
    )
    assert np.random.get_state()[2] == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_fleet_verb_rejects_an_unavailable_device(device, capsys):
    assert main(["fleet", "--device", device]) == 2
    assert capsys.readouterr().err.count("\n") == 1
