"""Descriptions of values and modules are equal exactly for equal values and modules."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import json
import logging
import math
import re
import sys
import threading
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from actlab.ledger.run_key import Indescribable, describe, hash_description
from tests.user_code import fixed_seed, have_equal_descriptions

__all__ = ["fixed_seed"]

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


def test_describe_distinguishes_all_values():
    values_by_digest = collections.defaultdict(list)
    for value in ATOMS:
        values_by_digest[hash_description(describe(value))].append(value)
    assert [values for values in values_by_digest.values() if len(values) > 1] == []


@pytest.mark.parametrize("index", range(len(ATOMS)))
def test_describe_is_equal_for_a_copy(index):
    value = ATOMS[index]
    if value in (math, json) if isinstance(value, type(math)) else isinstance(value, nn.LazyLinear):
        return  # modules cannot be copied; torch's copy of a lazy module lacks some hooks
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


def exact_text(value):
    """Return a text that is equal only for values with equal types and bits."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(exact_text, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{','.join(map(exact_text, value))}]"
    if isinstance(value, dict):
        return f"dict{[(exact_text(k), exact_text(v)) for k, v in value.items()]}"
    if isinstance(value, Point):
        return f"Point({exact_text(value.x)},{exact_text(value.y)})"
    return f"{type(value).__name__}:{value!r}"


@given(nested)
def test_describe_is_equal_for_a_copy_of_nested_values(value):
    assert describe(copy.deepcopy(value)) == describe(value)


@given(nested, nested)
def test_describe_is_equal_only_for_equal_values(one, other):
    assert have_equal_descriptions(one, other) == (exact_text(one) == exact_text(other))


@given(st.lists(st.text() | st.integers()))
def test_describe_ignores_the_insertion_order_of_a_set(items):
    backwards = items[::-1]
    assert describe(set(items)) == describe(set(backwards))


def test_describe_distinguishes_shared_from_equal_values():
    one, two = [1], [1]
    assert not have_equal_descriptions([one, one], [one, two])
    weight = nn.Parameter(torch.zeros(2))
    tied, separate = (
        nn.ParameterList([weight, weight]),
        nn.ParameterList([weight, nn.Parameter(torch.zeros(2))]),
    )
    assert not have_equal_descriptions(tied, separate)
    base = torch.zeros(4)
    assert not have_equal_descriptions((base, base[:2]), (base, torch.zeros(2)))
    assert not have_equal_descriptions((base, base[:2]), (base, base[2:]))


def test_describe_ends_for_cycles():
    one = [1]
    one.append(one)
    assert describe(one) == {"list": [1, {"same": "value"}]}
    assert not have_equal_descriptions(one, [1, [1]])
    point = Point(1)
    point.y = {"me": point}
    assert have_equal_descriptions(point, copy.deepcopy(point))


def test_describe_ignores_the_memory_layout_of_an_array():
    array = np.arange(6).reshape(2, 3)
    assert have_equal_descriptions(array, np.asfortranarray(array))
    assert have_equal_descriptions(array[:, 1:], array[:, 1:].copy())
    assert not have_equal_descriptions(array, array.T)


INDESCRIBABLE = [
    (lambda: (n for n in ()), "a generator"),
    (threading.Lock, "a lock"),
    (lambda: memoryview(b""), "a memoryview"),
    (lambda: torch.eye(2).to_sparse(), "a Tensor"),
]


@pytest.mark.parametrize(("make", "what"), INDESCRIBABLE)
def test_describe_names_the_path_of_an_indescribable_value(make, what):
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].x = {"deep": [Point(make())]}
    with pytest.raises(Indescribable) as caught:
        describe(model, "model")
    where = "model._modules['0'].x['deep'][0].x"
    assert str(caught.value) == f"cannot describe {where}, {what}"


def test_describe_rejects_files_sets_of_objects_and_deep_nesting(tmp_path):
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(Indescribable, match=r"value\.x, a TextIOWrapper$"),
    ):
        describe(Point(file))
    with pytest.raises(Indescribable, match=r"an element of value, a ReLU$"):
        describe({nn.ReLU()})
    deep = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    with pytest.raises(Indescribable, match=r"^cannot describe value: it is nested too deeply$"):
        describe(deep)


# -- modules --------------------------------------------------------------------------------------


def test_describe_includes_weights_and_attributes_but_not_the_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2))
    described = hash_description(describe(model))

    def changed(change):
        other = copy.deepcopy(model)
        change(other)
        return hash_description(describe(other)) != described

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


def test_describe_identifies_hooks_by_their_function():
    def hooked(*factors):
        model = nn.ReLU()
        for factor in factors:
            model.register_forward_hook(functools.partial(Point, factor), with_kwargs=factor > 1)
        return model

    assert have_equal_descriptions(hooked(1, 2), hooked(1, 2))
    assert not have_equal_descriptions(hooked(1, 2), hooked(2, 1))


def test_describe_includes_a_replaced_method_of_a_torch_class(monkeypatch):
    before = hash_description(describe(nn.ReLU()))
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x * 2)
    assert hash_description(describe(nn.ReLU())) != before
