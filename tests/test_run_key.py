"""The key of a run changes exactly with the settings that decide its result."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import os
import re
import sys
import textwrap

import numpy as np
import pytest
import skorch
import torch
from torch import nn

from actlab import NeuralNet, load_data
from actlab.data.dataset import compute_fingerprint
from actlab.fleet.run import EarlyStopping, EpochScore, Optimizer, Run, Schedule
from actlab.fleet.skorch_adapter import read_run
from actlab.ledger.run_key import hash_description, list_key_settings
from tests.fleet_runs import run as as_run
from tests.fleets import CLASSES, FEATURES, classifier, make_table
from tests.processes import run_process
from tests.user_code import CODE, OWN, fixed_seed, import_code

__all__ = ["fixed_seed", "import_code"]

X, Y = make_table()


def settings_of(run):
    (settings,) = list_key_settings([run], "data")
    return settings


def key(run):
    return hash_description(settings_of(run))


def built(settings):
    return dict(settings["net"]["value"]["dict"])["built"]


LOSS = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
STEPS = torch.optim.lr_scheduler.LambdaLR
F1 = EpochScore("f1", "f1_macro", False, False, skorch.NeuralNetClassifier)
CHANGED_FIELDS = {
    "init": ["matched"],
    "net": [
        functools.partial(NeuralNet, 8, "tanh", FEATURES, CLASSES),
        functools.partial(NeuralNet, 6, "relu", FEATURES, CLASSES),
    ],
    "rows": [np.arange(47), np.arange(48)[::-1].copy()],
    "valid": [None, np.arange(47, 64)],
    "test": [np.arange(2), np.arange(0)],
    "loss": [
        nn.CrossEntropyLoss(label_smoothing=0.1),
        LOSS,
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0])),
    ],
    "optimizer": [
        Optimizer("SGD", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.0}),
        Optimizer("AdamW", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}),
        Optimizer("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}, frozenset({"nesterov"})),
    ],
    "epochs": [4],
    "batch_size": [15],
    "shuffle": [True],
    "drop_last": [True],
    "piece": [7],
    "schedule": [
        Schedule(STEPS, {"lr_lambda": lambda epoch: 0.9**epoch}),
        Schedule(STEPS, {"lr_lambda": lambda epoch: 0.8**epoch}),
        Schedule(torch.optim.lr_scheduler.StepLR, {"step_size": 1, "gamma": 0.5}),
        Schedule(torch.optim.lr_scheduler.StepLR, {"step_size": 1, "gamma": 0.5}, "batch"),
        Schedule(torch.optim.lr_scheduler.StepLR, {"step_size": 1, "gamma": 0.5}, event=None),
    ],
    "scores": [
        (F1,),
        (dataclasses.replace(F1, name="other"),),
        (dataclasses.replace(F1, scoring="accuracy"),),
        (dataclasses.replace(F1, lower_is_better=None),),
        (dataclasses.replace(F1, on_train=True),),
        (dataclasses.replace(F1, model=skorch.NeuralNet),),
        (dataclasses.replace(F1, classes=(0, 1, 2)),),
        (F1, dataclasses.replace(F1, name="other")),
    ],
    "sample_weights": [np.ones(4), np.arange(1.0, 5)],
    "clipping": [(1.0, 2.0), (2.0, 2.0), (1.0, math.inf)],
    "stopping": [
        EarlyStopping(),
        EarlyStopping(patience=6),
        EarlyStopping(load_best=True),
        EarlyStopping(threshold=math.inf),
    ],
    "scoring": ["binary", "binary probabilities", ""],
    "device": ["cuda"],
    "precision": ["bf16"],
    "seed": [1],
    "fold": [1],
}


def test_run_settings_depend_on_every_field_except_what_is_recorded():
    recorded = {"diagnostic_epochs", "activations"}
    assert CHANGED_FIELDS.keys() | recorded == {field.name for field in dataclasses.fields(Run)}
    runs = [as_run()]
    runs += [
        dataclasses.replace(runs[0], **{name: value})
        for name, values in CHANGED_FIELDS.items()
        for value in values
    ]
    settings = list_key_settings(runs, "data")
    keys = [hash_description(one) for one in settings]
    assert len(set(keys)) == len(keys)
    with_diagnostics = dataclasses.replace(runs[0], diagnostic_epochs=(1, 2), activations=("act",))
    assert hash_description(list_key_settings([with_diagnostics], "data")[0]) == keys[0]
    assert hash_description(list_key_settings(runs[:1], "other data")[0]) != keys[0]
    for run, one in zip(runs, settings, strict=True):
        assert list_key_settings([run], "data") == [
            one
        ]  # other runs in the list do not change a run's settings
    assert [set(one) - {f.name for f in dataclasses.fields(Run)} for one in settings] == [
        {"activation", "data", "versions"}
    ] * len(settings)


def test_run_settings_are_equal_for_equal_runs_of_separate_objects():
    def make_run():
        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
        schedule = Schedule(STEPS, {"last_epoch": -1, "lr_lambda": lambda epoch: 0.9**epoch})
        return as_run(
            loss=loss, schedule=schedule, stopping=EarlyStopping(), test=np.arange(3), device="cuda:1"
        )

    again = dataclasses.replace(make_run(), device="cuda:0", rows=np.arange(96)[:48], seed=np.int64(0))
    assert key(make_run()) == key(again)
    reversed_options = dict(reversed(make_run().schedule.options.items()))
    assert key(dataclasses.replace(again, schedule=Schedule(STEPS, reversed_options))) == key(make_run())
    numbers = dict(reversed(again.optimizer.numbers.items()))
    assert key(dataclasses.replace(again, optimizer=Optimizer("SGD", numbers))) == key(make_run())


def test_run_settings_depend_on_the_weight_initialization(import_code):
    text = """
from torch import nn


def net():
    model = nn.Linear(5, 3)
    nn.init.normal_(model.weight, std=0.1)
    return model
"""
    one, two, other = (import_code(t).net for t in (text, text, text.replace("0.1", "0.2")))
    assert key(as_run(net=one)) == key(as_run(net=two))
    assert key(as_run(net=one)) != key(as_run(net=other))


def test_run_settings_leave_the_random_state_unchanged():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()

    def build_model():
        return nn.Sequential(nn.Linear(5, 3), nn.LeakyReLU(np.random.rand()))

    one, two = as_run(net=build_model), as_run(net=lambda: build_model())
    assert built(settings_of(one)) == built(settings_of(two))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_run_settings_describe_a_model_that_cannot_be_built_by_its_factory():
    def broken(width):
        def build_model():
            raise ValueError(f"not {width} at {id(object())}")

        return build_model

    assert key(as_run(net=broken(1))) == key(as_run(net=broken(1)))
    assert key(as_run(net=broken(1))) != key(as_run(net=broken(2)))
    assert built(settings_of(as_run(net=broken(1)))) == "fails"


@pytest.mark.parametrize(
    ("activation", "label"),
    [
        ("leaky_relu(negative_slope=0.2)", "leaky_relu(negative_slope=0.2)"),
        (nn.Tanh, "Tanh"),
        (nn.LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
        (torch.tanh, "tanh"),
        (as_run, "run"),
    ],
)
def test_run_settings_name_the_activation(activation, label):
    model = classifier(module=NeuralNet, module__activation=activation, module__num_features=FEATURES)
    assert list_key_settings([read_run(model, X, Y)], "data")[0]["activation"] == label


def test_run_settings_include_trained_weights_only_if_they_are_used():
    def change_weights(model):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        return model

    def of(model, **options):
        return key(read_run(classifier(module=model, **options), X, Y))

    new, old = (NeuralNet(4, "relu", FEATURES, CLASSES) for _ in range(2))
    options = {"module__num_features": FEATURES, "module__num_classes": CLASSES}
    assert of(new, **options) == of(change_weights(old), **options)
    assert of(new, **options) == of(new, **dict(reversed(options.items())))
    assert of(new) != of(change_weights(copy.deepcopy(new)))


def test_run_settings_hash_a_large_model():
    def build_deep(number, slope):
        return lambda: nn.Sequential(*(nn.LeakyReLU(slope) for _ in range(number)), nn.Linear(5, 3))

    (one,), (two,) = (list_key_settings([as_run(net=build_deep(400, slope))], "data") for slope in (0.1, 0.2))
    assert len(json.dumps(one)) < 25_000
    assert one["net"]["value"] != two["net"]["value"]


def test_run_settings_describe_shared_values_once(monkeypatch):
    built = []

    def build_model():
        built.append(1)
        return nn.Linear(5, 3)

    template = as_run(net=build_model)
    settings = list_key_settings([dataclasses.replace(template, seed=seed) for seed in range(1000)], "data")
    assert len(built) == 1
    assert len({hash_description(one) for one in settings}) == 1000


def test_run_settings_contain_no_address_and_no_folder(import_code):
    module = import_code(OWN)
    run = as_run(net=functools.partial(NeuralNet, 8, module.Square, FEATURES, CLASSES))
    text = json.dumps(list_key_settings([run], "data"))
    assert "Square" in text
    assert not re.search(r"0x[0-9a-f]{6}|folder\d|site-packages|/", text.replace("_/", ""))


def test_compute_fingerprint_equals_the_datasets_fingerprint():
    data = load_data("digits")
    assert compute_fingerprint(data.X, data.y) == data.fingerprint
    assert compute_fingerprint(np.asfortranarray(data.X), data.y) == data.fingerprint
    assert compute_fingerprint(data.X, data.y[::-1]) != data.fingerprint
    assert compute_fingerprint(data.X.astype(np.float64), data.y) != data.fingerprint


SCRIPT = """
import functools, sys
import numpy as np, torch
from torch import nn
import {first}
from actlab import NeuralNet
from actlab.ledger.run_key import describe, list_key_settings, hash_description
from actlab.fleet.run import Optimizer, Run
import mine, own
from local import Local

net = functools.partial(NeuralNet, 8, "elu(alpha=0.5)", 5, 3)
run = Run(net=net, rows=np.arange(9), loss=nn.CrossEntropyLoss(), optimizer=Optimizer("SGD", {{"lr": 0.1}}),
          epochs=1, batch_size=2)
values = [mine.Act(), own.Square(), Local(), {{"a", "b", "c", None, torch.half, nn.ReLU, own.square}}]
values += [functools.partial(own.square, scale=2.0)]
descriptions = [list_key_settings([run], "data"), *map(describe, values)]
print(*map(hash_description, descriptions))
"""

LOCAL = """
from torch import nn
import own

class Local(nn.Module):
    names = {"one", "two", "three", "four"}

    def forward(self, x):
        return x if x in {"five", "six", "seven"} else own.square(x)
"""


def test_run_key_is_independent_of_process_folder_and_hash_seed(tmp_path):
    outputs = []
    for number, (seed, first) in enumerate([("1", "math"), ("2", "actlab.nn"), ("3", "scipy.stats")]):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        (folder / "mine.py").write_text(CODE)
        (folder / "own.py").write_text(OWN)
        (folder / "local.py").write_text(LOCAL)
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT).format(first=first)]
        process = run_process(command, cwd=folder, env=environment)
        assert process.returncode == 0, process.stderr
        outputs.append(process.stdout.split())
    assert len(outputs[0]) == 6
    assert outputs[0] == outputs[1] == outputs[2]
