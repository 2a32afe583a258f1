"""Timings: measured quantities, printed tables and rejected input. Benchmarks measure the speed itself."""

from __future__ import annotations

import json
import math
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn

import actlab
from actlab import timing
from actlab.checking.tensor_comparison import find_saved_storages
from actlab.cli import main
from actlab.timing import Timing, Timings, interleaved, measure_alone
from tests.command_line import in_empty_folder, refused

__all__ = ["in_empty_folder"]

SMALL = {"shape": (16, 8)}


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    """Take few and short samples: no test depends on the accuracy of a time."""
    monkeypatch.setattr(timing._time, "__defaults__", (3, 0.001))


def test_measure_compares_with_torch_at_the_same_parameters():
    timings = actlab.measure(["relu", "elu(alpha=0.5)", "snake"], **SMALL)
    assert [(row.name, row.torch_equivalent) for row in timings] == [
        ("relu", "torch.nn.ReLU"),
        ("torch.nn.ReLU", ""),
        ("elu(alpha=0.5)", "torch.nn.ELU"),
        ("torch.nn.ELU", ""),
        ("snake", ""),
    ]
    for row in timings:
        assert row.forward > 0
        assert math.isnan(row.ratio) == (row.torch_equivalent == "")
    total = {row.name: row.forward + row.backward for row in timings}
    relu = next(iter(timings))
    assert relu.ratio == pytest.approx(total["relu"] / total["torch.nn.ReLU"])


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        ([lambda x: (x, x)], {}, "target 'lambda' fails on .*: it returns a tuple, not a tensor"),
        ([torch.Tensor.detach], {}, "target 'detach' fails on .*: RuntimeError: .* does not require grad"),
        ([lambda x: 3], {}, "it returns a int, not a tensor"),
        (["relu"], {"dtype": torch.int64}, "dtype must be a floating-point torch.dtype .* got torch.int64"),
        (["relu"], {"dtype": "float32"}, "dtype must be a floating-point torch.dtype .* got 'float32'"),
        (["relu"], {"shape": 16}, "shape must be a sequence of sizes such as .* got 16"),
        (["relu"], {"device": "meta"}, "cannot be allocated on meta"),
    ],
)
def test_measure_rejects_what_it_cannot_measure(targets, options, message):
    with pytest.raises(actlab.UsageError, match=message):
        actlab.measure(targets, **{**SMALL, **options})


def test_measure_counts_saved_bytes():
    class Twice(nn.Module):
        def forward(self, x):
            return torch.sin(x) * torch.cos(x)  # saves x, sin and cos for backward

    saved_bytes = {row.name: row.saved_bytes for row in actlab.measure(["tanh", Twice, torch.exp], **SMALL)}
    assert saved_bytes["tanh"] == 4
    assert saved_bytes["Twice"] == 12
    assert saved_bytes["exp"] == 4
    halves = {row.name: row.saved_bytes for row in actlab.measure(["tanh"], dtype=torch.float16, **SMALL)}
    assert halves["tanh"] == 2


@pytest.mark.parametrize("target", [torch.relu_, nn.ReLU(inplace=True)], ids=["relu_", "ReLU"])
def test_measure_passes_a_copy_to_a_target_that_works_in_place(target):
    inputs = []

    class Recorded(nn.Module):
        def forward(self, x):
            inputs.append(x.detach().min().item())
            return target(x)

    (row,) = actlab.measure([Recorded()], **SMALL)
    assert row.forward > 0
    assert len(set(inputs)) == 1  # every call has the same input
    assert inputs[0] < 0


def test_measure_adds_compiled_kernels_of_actlab_only():
    timings = actlab.measure(["softsign", nn.Tanh()], fuse=True, **SMALL)
    assert [math.isnan(row.compiled) for row in timings] == [False, True, True]
    assert str(timings).splitlines()[0].endswith("compiled")
    assert "compiled" not in str(actlab.measure(["softsign"], **SMALL))


@pytest.mark.parametrize(
    ("module", "names"), [(actlab.nn.ELU(0.5), ["", "torch.nn.ELU"]), (nn.Tanh(), [""])], ids=["ELU", "Tanh"]
)
def test_measure_alone_measures_a_module_and_its_torch_equivalent(module, names):
    rows = measure_alone(module, (16, 8), "cpu")
    assert [row.name for row in rows] == names
    assert all(row.forward > 0 and row.saved_bytes == 4 for row in rows)


def test_interleaved_alternates_between_measurements():
    calls = []
    work = {name: lambda name=name: calls.append(name) for name in "ab"}
    interleaved(work, 2, {"a": 1, "b": 3})
    assert "".join(calls) == "ab" + 2 * "abbb"


def test_timings_table_fits_80_columns():
    slow = Timing("x" * 31, 1234567.89, 12.3456, 4.0, "torch.nn.Slow", 123.456)
    fast = Timing("relu", 0.1, 99999.4, 4.0, "torch.nn.ReLU", 0.5)
    text = str(Timings((slow, fast), {}))
    assert "1234568" in text
    assert "12.346" in text
    assert max(map(len, text.splitlines())) <= 80
    compiled = str(Timings((slow, replace(fast, compiled=12345.6)), {"fused": True}))
    assert max(map(len, compiled.splitlines())) <= 80
    assert compiled.splitlines()[3].endswith("0.50 x     12346")


def test_time_verb_prints_80_columns_and_json(capsys):
    targets = ["relu", "formula:x*tanh(softplus(x)) + 0.001*x*sigmoid(3*x)"]
    assert main(["time", *targets, "--shape", "32,4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("32 x 4 elements, float32, cpu, ")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "torch.nn.ReLU" in out
    assert main(["time", "mish", "--shape", "8", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in output["rows"]] == ["mish", "torch.nn.Mish"]
    assert output["rows"][1]["ratio"] is None
    assert output["about"]["shape"] == [8]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["reluu"], "unknown activation 'reluu' (did you mean 'relu'?)"),
        (["relu", "--shape", "3,x"], "--shape must be sizes such as 1000,1000, got '3,x'"),
        (["relu", "--shape", "0"], "there is nothing to measure"),
        (["relu", "--dtype", "int8"], "--dtype must be float32, float64, float16 or bfloat16, got 'int8'"),
        (["relu", "--device", "tpu"], "device must be cpu, cuda or cuda:N, got 'tpu'"),
        (["torch.nn:GLU", "--shape", "3,3"], "target 'torch.nn:GLU' fails on (3, 3), torch.float32: "),
    ],
)
def test_time_verb_rejects_invalid_input_in_one_line(call, message, capsys):
    assert message in refused(capsys, "time", *call)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.last = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.last(torch.relu(self.fc(x)))


def test_measure_compares_a_model_with_its_swaps():
    model = Net().eval()
    timings = actlab.measure(["mish", nn.Tanh], model=model, **SMALL)
    assert [(row.name, row.torch_equivalent) for row in timings] == [
        ("as given", ""),
        ("mish", "as given"),
        ("Tanh", "as given"),
    ]
    first, mish, _ = timings
    ratio = (mish.forward + mish.backward) / (first.forward + first.backward)
    assert mish.ratio == pytest.approx(ratio)
    # The first layer saves its input, and the last one its input, the output of relu. mish saves its own too.
    assert (first.saved_bytes, mish.saved_bytes) == (8.0, 12.0)
    assert str(timings).splitlines()[1].endswith("as given")
    assert timings.about["model"] == "Net"
    assert type(model) is Net
    assert not model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_measure_rejects_a_model_it_cannot_measure():
    with pytest.raises(
        actlab.UsageError, match=r"target 'as given' fails on \(16, 7\), torch.float32: RuntimeError"
    ):
        actlab.measure("mish", model=Net(), shape=(16, 7))
    with pytest.raises(actlab.UsageError, match="nothing in the model matches all activations"):
        actlab.measure("mish", model=nn.Linear(8, 8), **SMALL)
    with pytest.raises(actlab.UsageError, match=r"the model must be an nn\.Module, got a type"):
        actlab.measure("mish", model=Net, **SMALL)


def test_time_verb_measures_a_model(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.py").write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Linear(8, 8), nn.ReLU())\n"
    )
    assert main(["time", "mish", "--model", "small.py:net", "--shape", "4,8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("training steps of small.py:net, 4 x 8 elements, float32, cpu")
    assert [line.split()[0] for line in lines[4:]] == ["as", "mish"]


def test_find_saved_storages_frees_the_tensors_that_a_call_saves():
    x, outputs = torch.ones(4, requires_grad=True), []

    def call():
        y = torch.relu(x * 2)  # torch saves the output, which refers to itself through its graph
        outputs.append(weakref.ref(y))
        return y

    assert list(find_saved_storages(call).values()) == [16]
    assert outputs[0]() is None
