"""Rows about the state of a module: state_dict, pickle, deepcopy."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from actlab.checking.check_report import Failure
from actlab.checking.subject import Subject
from actlab.checking.tensor_comparison import are_equal


def _evaluate(module: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    y: Tensor = module(x.clone())
    return y


def check_state_dict(subject: Subject) -> str:
    """Verify that the state has every parameter, and that a fresh module that loads it gives equal values."""
    module = subject.copy_target()
    missing = [name for name, _ in module.named_parameters() if name not in module.state_dict()]
    if missing:
        raise Failure(f"the state lacks {', '.join(missing)}")
    parameters = set(map(id, module.parameters()))
    hidden = [
        name
        for part in module.modules()
        for name, value in vars(part).items()
        if name != "_parameters"
        if any(
            isinstance(v, Tensor) and v.requires_grad and v.is_leaf and id(v) not in parameters
            for v in _list_values(value)
        )
    ]
    if hidden:
        raise Failure(
            f"the state lacks {', '.join(hidden)}, which requires a gradient but is not a parameter"
        )
    fresh, x = copy.deepcopy(module), subject.sample()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1)
    expected = _evaluate(module, x)
    fresh.load_state_dict(module.state_dict())
    if not are_equal(_evaluate(fresh, x), expected):
        raise Failure("a fresh module that loads the state gives different values")
    names = ", ".join(module.state_dict()) or "nothing"
    return f"holds {names}; loading it restores the values"


def _list_values(value: object) -> Iterable[object]:
    """Return the values of a plain container, which nn.Module does not search; other values unchanged."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else (value,)


def check_deepcopy(subject: Subject) -> str:
    """Verify that a deep copy gives the same values and is independent of the module."""
    module, x = subject.copy_target(), subject.sample()
    # subject.copy_target() is a copy already: only the original shows what copying loses.
    original, copied = _read_state(subject.target), _read_state(copy.deepcopy(subject.target))
    lost = [name for name, value in original.items() if not _are_same(copied.get(name), value)]
    if lost:
        raise Failure(f"a deep copy has a different {', '.join(lost)}")
    expected = _evaluate(module, x)
    other = copy.deepcopy(module)
    if not are_equal(_evaluate(other, x), expected):
        raise Failure("a deep copy gives different values")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    if not are_equal(_evaluate(module, x), expected):
        raise Failure("changing a deep copy changed the module")
    return "gives the same values and is independent"


def _read_state(module: object) -> dict[str, object]:
    """Return the state of a module, and its attributes that are numbers or text."""
    assert isinstance(module, nn.Module)
    plain = {n: v for n, v in vars(module).items() if isinstance(v, int | float | str)}
    return {**plain, **{n: v for n, v in module.state_dict().items() if isinstance(v, Tensor)}}


def _are_same(one: object, two: object) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return are_equal(one, two)
    return type(one) is type(two) and bool(one == two or one != one)


def check_pickle(subject: Subject) -> str:
    """Verify that the module can be pickled, for example to save a model or send it to another process."""
    module, x = subject.copy_target(), subject.sample()
    try:
        data = pickle.dumps(module)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise Failure(f"cannot be pickled: {error}") from error
    # These bytes were made a line above; no file is involved.
    if not are_equal(_evaluate(pickle.loads(data), x), _evaluate(module, x)):  # noqa: S301
        raise Failure("the unpickled module gives different values")
    return f"{len(data)} bytes, same values"
