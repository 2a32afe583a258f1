"""Descriptions of values and of modules: equal for equal ones, different for any two others."""

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

from actlab.ledger.run_key import Indescribable, describe, digest
from tests.identities import quiet, same

__all__ = ["quiet"]

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
    where = "net._modules['0'].x['deep'][0].x"
    assert str(caught.value) == f"cannot describe {where}, {what}"


def test_a_file_a_set_told_apart_by_addresses_and_a_bottomless_list_are_refused(tmp_path):
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
