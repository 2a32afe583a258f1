"""The key of a run: it changes with whatever decides the result, and with nothing else."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import importlib.util
import json
import logging
import math
import os
import re
import subprocess
import sys
import textwrap
import threading
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from actlab import NeuralNet, load_data
from actlab._identity import Indescribable, describe, digest, run_settings
from actlab.data import fingerprint_of
from actlab.fleet.run import Optimizer, Run, Schedule, Stopping
from actlab.fleet.skorch_nets import read
from tests.fleet_runs import run as as_run
from tests.fleets import CLASSES, FEATURES, classifier, table

X, Y = table()


def settings_of(run):
    (settings,) = run_settings([run], "data")
    return settings


def key(run):
    return digest(settings_of(run))


def same(one, other):
    return digest(describe(one)) == digest(describe(other))


# -- values ---------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


ATOMS = [
    *(None, True, False, 0, 1, 0.0, -0.0, 1.0, 0.1, 0.1 + 2**-55, math.nan, math.inf, -math.inf, 10**40),
    *("", "a", "1", "nan", b"", b"a", bytearray(b"a"), 1j, ..., Decimal("1.0"), Decimal("1.00")),
    *(
        Colour.RED,
        Colour.BLUE,
        Path("a"),
        Path("b"),
        slice(1),
        slice(1, 2),
        range(3),
        range(4),
        ValueError("a"),
    ),
    *(
        ValueError("b"),
        np.float32(1),
        np.float64(1),
        np.int64(1),
        np.float64(-0.0),
        np.str_("a"),
        np.bool_(True),
    ),
    *(
        torch.float32,
        torch.bfloat16,
        torch.device("cpu"),
        torch.device("cuda"),
        torch.Size([1]),
        torch.strided,
    ),
    *(int, nn.ReLU, nn.Tanh, torch.relu, torch.tanh, torch.Tensor.relu, nn.functional.gelu, np.add, np.mean),
    *(functools.partial(int), functools.partial(int, 1), functools.partial(int, base=2), print, math, json),
    *([], (), {}, set(), frozenset(), [1], (1,), {1}, frozenset({1}), {"a": 1}, {"a": 2}, {1: 1}, {"1": 1}),
    *({"a": 1, "b": 2}, {"b": 2, "a": 1}, collections.OrderedDict(a=1), collections.deque([1]), Point(1)),
    *(Point(2), Slotted(1), Slotted(2), re.compile("a"), re.compile("b"), "a".upper, "b".upper, [1].append),
    *(np.zeros(2), np.zeros(3), np.zeros((2, 1)), np.zeros(2, np.float32), np.ones(2), -np.zeros(2)),
    *(
        np.array([1, None]),
        np.array([2, None]),
        np.array(["a"]),
        np.array(["b"]),
        np.array([(1, 2)], "i4,i4"),
    ),
    *(np.array([(1, 2)], [("a", "i4"), ("b", "i4")]), np.ma.array([0.0, 0.0], mask=[True, False])),
    *(
        torch.zeros(2),
        torch.ones(2),
        torch.zeros(2, dtype=torch.bfloat16),
        torch.zeros(2, requires_grad=True),
    ),
    *(torch.ones(2, dtype=torch.bfloat16), torch.tensor(0.0), torch.tensor(True), torch.tensor(1j)),
    *(nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2), False), torch.zeros(2, device="meta")),
    *(np.random.default_rng(0), np.random.default_rng(1), np.random.RandomState(0), np.random.RandomState(1)),
    *(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1), logging.getLogger("a")),
    *(nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh(), nn.PReLU(), nn.PReLU(init=0.5), nn.LazyLinear(2)),
    *(Colour, Point, Slotted, Point.__init__, Point(1).__eq__, Point(2).__eq__, list[int], dict[str, int]),
]


@pytest.fixture(autouse=True)
def quiet():
    torch.manual_seed(0)


def test_no_two_of_these_values_have_one_description():
    found = collections.defaultdict(list)
    for value in ATOMS:
        found[digest(describe(value))].append(value)
    assert [values for values in found.values() if len(values) > 1] == []


@pytest.mark.parametrize("place", range(len(ATOMS)))
def test_a_copy_has_the_description_of_the_original(place):
    value = ATOMS[place]
    if value in (math, json) if isinstance(value, type(math)) else isinstance(value, nn.LazyLinear):
        return  # no copies of modules; torch leaves something out when it copies a lazy one's hooks
    json.dumps(describe(value), allow_nan=False)
    assert describe(copy.deepcopy(value)) == describe(value)
    assert describe([copy.deepcopy(value), Point(copy.deepcopy(value))]) == describe(
        [value, Point(copy.deepcopy(value))]
    )


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(Colour)
)
hashable = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=6
)
nested = st.recursive(
    hashable | st.sets(hashable, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=4) | st.builds(Point, inner)
    ),
    max_leaves=12,
)


def strict(value):
    """Return a text that is equal for values that are equal in every type and bit."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(strict, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{','.join(map(strict, value))}]"
    if isinstance(value, dict):
        return f"dict{[(strict(k), strict(v)) for k, v in value.items()]}"
    if isinstance(value, Point):
        return f"Point({strict(value.x)},{strict(value.y)})"
    return f"{type(value).__name__}:{value!r}"


@given(nested)
def test_a_copy_of_anything_nested_has_the_same_description(value):
    assert describe(copy.deepcopy(value)) == describe(value)


@given(nested, nested)
def test_descriptions_are_equal_exactly_for_equal_values(one, other):
    assert same(one, other) == (strict(one) == strict(other))


@given(st.lists(st.text() | st.integers()))
def test_the_order_in_which_a_set_was_filled_does_not_matter(items):
    backwards = items[::-1]
    assert describe(set(items)) == describe(set(backwards))


def test_what_is_shared_is_told_from_what_is_equal():
    one, two = [1], [1]
    assert not same([one, one], [one, two])
    weight = nn.Parameter(torch.zeros(2))
    tied, apart = nn.ParameterList([weight, weight]), nn.ParameterList([weight, nn.Parameter(torch.zeros(2))])
    assert not same(tied, apart)
    base = torch.zeros(4)
    assert not same((base, base[:2]), (base, torch.zeros(2)))
    assert not same((base, base[:2]), (base, base[2:]))


def test_cycles_end():
    one = [1]
    one.append(one)
    assert describe(one) == {"list": [1, {"same": "value"}]}
    assert not same(one, [1, [1]])
    point = Point(1)
    point.y = {"me": point}
    assert same(point, copy.deepcopy(point))


def test_the_layout_of_an_array_in_memory_does_not_matter():
    array = np.arange(6).reshape(2, 3)
    assert same(array, np.asfortranarray(array))
    assert same(array[:, 1:], array[:, 1:].copy())
    assert not same(array, array.T)


NOT_TOLD = [
    (lambda: (n for n in ()), "a generator"),
    (threading.Lock, "a lock"),
    (lambda: memoryview(b""), "a memoryview"),
    (lambda: torch.eye(2).to_sparse(), "a Tensor"),
]


@pytest.mark.parametrize(("make", "what"), NOT_TOLD)
def test_what_cannot_be_told_is_named_with_its_place(make, what):
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].x = {"deep": [Point(make())]}
    with pytest.raises(Indescribable) as caught:
        describe(net, "net")
    where = "net['0'].x['deep'][0].x"
    assert str(caught.value) == f"cannot tell what decides a training: {where} is {what}"


def test_a_file_a_set_told_apart_by_addresses_and_a_bottomless_list_are_refused(tmp_path):
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(Indescribable, match=r"value\.x is a TextIOWrapper$"),
    ):
        describe(Point(file))
    with pytest.raises(Indescribable, match=r"an element of value is a ReLU$"):
        describe({nn.ReLU()})
    deep = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    with pytest.raises(Indescribable, match=r"nested too deeply$"):
        describe(deep)


# -- modules --------------------------------------------------------------------------------------


def test_weights_and_attributes_of_a_module_count_and_its_mode_does_not():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2))
    described = digest(describe(net))

    def changed(change):
        other = copy.deepcopy(net)
        change(other)
        return digest(describe(other)) != described

    assert not changed(lambda n: n.eval())
    assert changed(lambda n: n[0].weight.data[0, 0].add_(1e-6))
    assert changed(lambda n: n[0].weight.requires_grad_(False))
    assert changed(lambda n: n[2].running_mean.add_(1))
    assert changed(lambda n: setattr(n[1], "inplace", True))
    assert changed(lambda n: setattr(n[1], "forward", torch.tanh))
    assert changed(lambda n: n.append(nn.ReLU()))
    assert changed(lambda n: n[1].register_forward_hook(lambda *_: None))
    assert changed(lambda n: n[0].weight.register_hook(lambda grad: grad * 2))
    assert changed(lambda n: nn.utils.parametrizations.weight_norm(n[0]))


def test_hooks_are_told_by_what_they_do_and_not_by_their_number():
    def hooked(*factors):
        net = nn.ReLU()
        for factor in factors:
            net.register_forward_hook(functools.partial(Point, factor), with_kwargs=factor > 1)
        return net

    assert same(hooked(1, 2), hooked(1, 2))
    assert not same(hooked(1, 2), hooked(2, 1))


def test_a_method_replaced_in_a_class_of_torch_counts(monkeypatch):
    before = digest(describe(nn.ReLU()))
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x * 2)
    assert digest(describe(nn.ReLU())) != before


# -- a person's own code --------------------------------------------------------------------------

CODE = """
import torch
from torch import nn
import torch.nn.functional as F

SLOPE = 0.1
TABLE = {"a": [1, 2]}


def helper(x):
    return recursive(x * SLOPE, 2)


def recursive(x, depth):
    return x if depth == 0 else recursive(x + 1, depth - 1)


def unrelated(x):
    return x


def decorator(f):
    import functools

    @functools.wraps(f)
    def decorated(*args):
        return f(*args) + 3.0

    return decorated


class Exact(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2.0 * x


class Base(nn.Module):
    offset = 4.0

    def shifted(self, x):
        return x + 5.0


class Act(Base):
    def __init__(self, power=1.5):
        super().__init__()
        self.power = power

    @decorator
    def forward(self, x):
        # a comment
        inner = lambda v: F.relu(v) - 6.0
        return Exact.apply(helper(inner(self.shifted(x)))) + TABLE["a"][0] + made(x)


def make(factor):
    def product(x, bias=7.0):
        return x * factor + bias

    return product


made = make(8.0)
"""

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
_folders = iter(range(10**6))


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return what imports a text, each time from another folder, as a module of the same name."""

    def loaded(text, name="mine"):
        folder = tmp_path / f"folder{next(_folders)}"
        folder.mkdir()
        file = folder / f"{name}.py"
        file.write_text(text)
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return loaded


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


OWN = """
import torch
from actlab.activation import elementwise

inf = float("inf")


@elementwise(
    formula="x**2", limits=(inf, inf), slopes=(-inf, inf), range=(0, inf), monotonic=False, paper="-"
)
def square(x, scale=1.0):
    return x * x * scale


@square.derivative
def _(x, scale):
    return 2 * x * scale


@square.second
def _(x, scale):
    return torch.full_like(x, 2.0 * scale)


Square = square.module("Square")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.last(square(x))
"""


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
    assert describe(NeuralNet) == {"code": "actlab.nets:NeuralNet"}
    version = describe(skorch.NeuralNet)["code"]["skorch.net:NeuralNet"]["version"]
    assert re.fullmatch(rf"skorch {re.escape(skorch.__version__)} \([0-9a-f]{{16}}\)", version)


# -- runs -----------------------------------------------------------------------------------------

LOSS = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
STEPS = torch.optim.lr_scheduler.LambdaLR
CHANGED = {
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
    "stopping": [Stopping(), Stopping(patience=6), Stopping(load_best=True), Stopping(threshold=math.inf)],
    "scoring": ["binary", ""],
    "device": ["cuda"],
    "precision": ["bf16"],
    "seed": [1],
    "fold": [1],
}


def test_every_field_of_a_run_changes_its_key():
    assert CHANGED.keys() == {field.name for field in dataclasses.fields(Run)}
    runs = [as_run()]
    runs += [
        dataclasses.replace(runs[0], **{name: value}) for name, values in CHANGED.items() for value in values
    ]
    settings = run_settings(runs, "data")
    keys = [digest(one) for one in settings]
    assert len(set(keys)) == len(keys)
    assert digest(run_settings(runs[:1], "other data")[0]) != keys[0]
    for run, one in zip(runs, settings, strict=True):
        assert run_settings([run], "data") == [one]  # the company changes nothing
    assert [set(one) - {f.name for f in dataclasses.fields(Run)} for one in settings] == [
        {"activation", "data", "versions"}
    ] * len(settings)


def test_equal_runs_of_separate_objects_have_one_key():
    def fresh():
        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
        schedule = Schedule(STEPS, {"last_epoch": -1, "lr_lambda": lambda epoch: 0.9**epoch})
        return as_run(loss=loss, schedule=schedule, stopping=Stopping(), test=np.arange(3), device="cuda:1")

    again = dataclasses.replace(fresh(), device="cuda:0", rows=np.arange(96)[:48], seed=np.int64(0))
    assert key(fresh()) == key(again)
    turned = dict(reversed(fresh().schedule.options.items()))
    assert key(dataclasses.replace(again, schedule=Schedule(STEPS, turned))) == key(fresh())
    numbers = dict(reversed(again.optimizer.numbers.items()))
    assert key(dataclasses.replace(again, optimizer=Optimizer("SGD", numbers))) == key(fresh())


def test_how_a_net_draws_its_weights_counts(load):
    text = """
from torch import nn


def net():
    made = nn.Linear(5, 3)
    nn.init.normal_(made.weight, std=0.1)
    return made
"""
    one, two, other = (load(t).net for t in (text, text, text.replace("0.1", "0.2")))
    assert key(as_run(net=one)) == key(as_run(net=two))
    assert key(as_run(net=one)) != key(as_run(net=other))


def test_describing_a_run_leaves_random_numbers_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()

    def net():
        return nn.Sequential(nn.Linear(5, 3), nn.LeakyReLU(np.random.rand()))

    one, two = as_run(net=net), as_run(net=lambda: net())
    assert settings_of(one)["net"]["is"]["built"] == settings_of(two)["net"]["is"]["built"]
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_a_net_that_cannot_be_built_is_told_by_its_maker():
    def broken(width):
        def net():
            raise ValueError(f"not {width} at {id(object())}")

        return net

    assert key(as_run(net=broken(1))) == key(as_run(net=broken(1)))
    assert key(as_run(net=broken(1))) != key(as_run(net=broken(2)))
    (settings,) = run_settings([as_run(net=broken(1))], "data")
    assert settings["net"]["is"]["build"] == "fails"


@pytest.mark.parametrize(
    ("activation", "label"),
    [
        ("leaky_relu(negative_slope=0.2)", "leaky_relu(negative_slope=0.2)"),
        (nn.Tanh, "Tanh"),
        (nn.LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
        (torch.tanh, "_VariableFunctionsClass.tanh"),
        (as_run, "run"),
    ],
)
def test_settings_name_the_activation_as_a_person_does(activation, label):
    net = classifier(module=NeuralNet, module__activation=activation, module__num_features=FEATURES)
    assert run_settings([read(net, X, Y)], "data")[0]["activation"] == label


def test_a_module_that_has_learnt_counts_only_where_its_weights_are_used():
    def learnt(net):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(1)
        return net

    def of(net, **options):
        return key(read(classifier(module=net, **options), X, Y))

    new, old = (NeuralNet(4, "relu", FEATURES, CLASSES) for _ in range(2))
    options = {"module__num_features": FEATURES, "module__num_classes": CLASSES}
    assert of(new, **options) == of(learnt(old), **options)
    assert of(new, **options) == of(new, **dict(reversed(options.items())))
    assert of(new) != of(learnt(copy.deepcopy(new)))


def test_a_large_net_is_kept_as_hashes_that_still_tell_it_from_another():
    def deep(number, slope):
        return lambda: nn.Sequential(*(nn.LeakyReLU(slope) for _ in range(number)), nn.Linear(5, 3))

    (one,), (two,) = (run_settings([as_run(net=deep(400, slope))], "data") for slope in (0.1, 0.2))
    assert len(json.dumps(one)) < 25_000
    assert one["net"]["is"]["built"] != two["net"]["is"]["built"]


def test_what_runs_share_is_described_once(monkeypatch):
    built = []

    def net():
        built.append(1)
        return nn.Linear(5, 3)

    like = as_run(net=net)
    settings = run_settings([dataclasses.replace(like, seed=seed) for seed in range(1000)], "data")
    assert len(built) == 1
    assert len({digest(one) for one in settings}) == 1000


def test_settings_have_no_address_and_no_folder_in_them(load):
    module = load(OWN)
    run = as_run(net=functools.partial(NeuralNet, 8, module.Square, FEATURES, CLASSES))
    text = json.dumps(run_settings([run], "data"))
    assert "Square" in text
    assert not re.search(r"0x[0-9a-f]{6}|folder\d|site-packages|/", text.replace("_/", ""))


def test_data_has_the_fingerprint_of_its_dataset():
    data = load_data("digits")
    assert fingerprint_of(data.X, data.y) == data.fingerprint
    assert fingerprint_of(np.asfortranarray(data.X), data.y) == data.fingerprint
    assert fingerprint_of(data.X, data.y[::-1]) != data.fingerprint
    assert fingerprint_of(data.X.astype(np.float64), data.y) != data.fingerprint


SCRIPT = """
import functools, sys
import numpy as np, torch
from torch import nn
import {first}
from actlab import NeuralNet
from actlab._identity import describe, digest, run_settings
from actlab.fleet.run import Optimizer, Run
import mine, own

class Local(nn.Module):
    names = {{"one", "two", "three", "four"}}

    def forward(self, x):
        return x if x in {{"five", "six", "seven"}} else own.square(x)

net = functools.partial(NeuralNet, 8, "elu(alpha=0.5)", 5, 3)
run = Run(net=net, rows=np.arange(9), loss=nn.CrossEntropyLoss(), optimizer=Optimizer("SGD", {{"lr": 0.1}}),
          epochs=1, batch_size=2)
values = [mine.Act(), own.Square(), Local(), {{"a", "b", "c", None, torch.half, nn.ReLU, own.square}}]
values += [functools.partial(own.square, scale=2.0)]
print(digest(run_settings([run], "data")), *(digest(describe(value)) for value in values))
"""


def test_keys_are_the_same_in_another_process_folder_and_order_of_hashes(tmp_path):
    answers = []
    for number, (seed, first) in enumerate([("1", "math"), ("2", "actlab.nn"), ("3", "scipy.stats")]):
        folder = tmp_path / f"place{number}"
        folder.mkdir()
        (folder / "mine.py").write_text(CODE)
        (folder / "own.py").write_text(OWN)
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT).format(first=first)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        answers.append(done.stdout.split())
    assert len(answers[0]) == 6
    assert answers[0] == answers[1] == answers[2]
