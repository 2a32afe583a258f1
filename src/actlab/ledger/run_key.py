"""The key of a run: a hash of everything that determines the result of the run.

Equal keys mean equal results. A key contains the user's own code as the SHA-256 of its source files. Any edit
of such a file, even of a comment, changes the key. The run is then trained again; a wrong result is never
reused.
"""

from __future__ import annotations
import __future__

import contextlib
import dataclasses
import functools
import hashlib
import linecache
import re
import sys
import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from actlab._version import __version__
from actlab.activation.definition import Activation
from actlab.fleet.module_building import build_module
from actlab.fleet.run import Run
from actlab.introspection.user_code import (
    Definition,
    collect_variables,
    find_library,
    find_library_name,
    is_user_code,
)
from actlab.introspection.value_description import Indescribable, ValueDescriber, hash_array, to_json
from actlab.models.random_streams import WEIGHTS, seeded_numpy, seeded_torch
from actlab.spec import ResolvedActivation, name_object

__all__ = ["Indescribable", "describe", "hash_description", "list_key_settings"]

_FOLDER = re.compile(r"^.*[/\\](?=[^/\\:]+\.py:)")
_MAX_TEXT = 20_000  # characters of a part of a run's settings; a longer part is replaced by its hash
_FUTURE_FLAGS = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


# -- values with their code -----------------------------------------------------------------------------


def describe(value: object, name: str = "value") -> Any:
    """Describe a value and the code it uses; the same in every process and folder.

    Args:
        value: A value.
        name: Its name in error messages.

    Returns:
        A JSON value. For a value that uses code, ``{"value": ..., "code": ..., ...}``: the variables of the
        code, the hashes of its source files, the versions of libraries and of Python.

    Raises:
        Indescribable: A part of it cannot be described, or the source of its code is not available.

    Examples:
        >>> describe((1, 2.5, "relu"))
        [1, 2.5, 'relu']
        >>> describe({"p": float("inf")})
        {'dict': [['p', {'float': 'inf'}]]}
        >>> describe(nn.ReLU)
        {'code': 'torch.nn.modules.activation:ReLU'}
    """
    walk = _KeyDescriber()
    try:
        description = walk.describe(value, name)
        code = walk.describe_code()
    except RecursionError:
        raise Indescribable(f"cannot describe {name}: it is nested too deeply") from None
    return {"value": description, **code} if code else description


def hash_description(description: Any) -> str:
    """Return the SHA-256 of a description, in 64 hexadecimal digits.

    Examples:
        >>> hash_description({"b": 1, "a": 2}) == hash_description({"a": 2, "b": 1})
        True
    """
    return hashlib.sha256(to_json(description).encode()).hexdigest()


class _KeyDescriber(ValueDescriber):
    """Describe values, and collect the code that they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: dict[int, tuple[object, str]] = {}  # holds the code: Python reuses ids
        self.counts: Counter[str] = Counter()
        self.pending: deque[tuple[str, Definition]] = deque()
        self.modules: set[str] = set()
        self.sources: dict[str, str] = {}  # texts by file
        self.libraries: set[str] = set()

    def make_reference(self, code: Definition, path: str) -> str:
        """Return the label of code, which :meth:`describe_code` describes later."""
        if id(code) not in self.labels:
            label = find_library_name(code) or _make_label(code)
            self.counts[label] += 1
            label = label if self.counts[label] == 1 else f"{label}#{self.counts[label]}"
            self.labels[id(code)] = code, label
            self.pending.append((label, code))
        return self.labels[id(code)][1]

    def describe_code(self) -> dict[str, Any]:
        """Describe all code that was referred to, and all code that this code refers to."""
        code = {}
        while self.pending:
            label, value = self.pending.popleft()
            entry: dict[str, Any] = {"source": self._add_source(value, label)}
            for kind, values in collect_variables(value).items():
                entry[kind] = self.describe_named(values, label)
            if entry := {kind: part for kind, part in entry.items() if part}:
                code[label] = entry
        sources = sorted(set(map(_hash_text, self.sources.values())))
        parts = {"code": code, "sources": sources, "libraries": sorted(self.libraries)}
        if sources:
            parts["python"] = [f"{sys.version_info.major}.{sys.version_info.minor}"]
        return {name: part for name, part in parts.items() if part}

    def _add_source(self, code: Definition, label: str) -> Any:
        """Return the hash of the source of code, and the index of a function in it; None if it has none."""
        source = self._add_module(_find_module_name(code))
        if not (isinstance(code, FunctionType) and is_user_code(code)) or _is_generated(code):
            return source
        text = self._read_source(code.__code__.co_filename, label, code.__globals__)
        index = _index_code(text, code.__code__.co_flags & _FUTURE_FLAGS).get(code.__code__)
        if index is None:
            problem = f"{code.__code__.co_filename!r} is not the source of the code that runs"
            raise Indescribable(f"cannot describe {label}: {problem}; if the file was edited, restart Python")
        return [_hash_text(text), index]

    def _add_module(self, name: str) -> str | None:
        """Add the version of a library's module, or the sources of a user's module and of its imports."""
        library, module = find_library(name), sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if library:
            self.libraries.add(library)
        if library is not None or module is None or not file:
            return None
        source = _hash_text(self._read_source(file, f"module {name}", vars(module)))
        if name not in self.modules:
            self.modules.add(name)
            for value in list(vars(module).values()):
                if isinstance(value, type | FunctionType | ModuleType):
                    self._add_module(_find_module_name(value))
        return source

    def _read_source(self, file: str, label: str, namespace: dict[str, Any]) -> str:
        if file not in self.sources:
            linecache.checkcache(file)
            self.sources[file] = "".join(linecache.getlines(file, namespace))
        if not self.sources[file]:
            problem = f"{file!r} has no source; write the code into a .py file"
            raise Indescribable(f"cannot describe {label}: {problem}")
        return self.sources[file]


def _make_label(code: Definition) -> str:
    """Return a label for code that no library contains by name, independent of process and folder."""
    if isinstance(code, ModuleType):
        return f"module {code.__name__.rpartition('.')[2].rstrip('_')}"
    module = _find_module_name(code)
    name = code.name if isinstance(code, Activation) else code.__qualname__
    if find_library(module) is None:
        return name
    line = code.__code__.co_firstlineno if isinstance(code, FunctionType) else 0
    return f"{module}:{name}:{line}"  # a library made it at run time, a decorator for example


def _find_module_name(code: Definition) -> str:
    if isinstance(code, ModuleType):
        return code.__name__
    if isinstance(code, FunctionType):  # functools.wraps may give it another __module__
        return str(code.__globals__.get("__name__", ""))
    return str((code.__wrapped__ if isinstance(code, Activation) else code).__module__)


def _is_generated(function: FunctionType) -> bool:
    """Return whether dataclasses or collections generated a method. Its fields are described separately."""
    is_namedtuple = str(function.__globals__.get("__name__")).startswith("namedtuple_")
    code = function.__code__
    return code.co_filename == "<string>" and ("__create_fn__" in code.co_qualname or is_namedtuple)


@functools.lru_cache(256)
def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@functools.lru_cache(256)
def _index_code(text: str, flags: int) -> dict[CodeType, int]:
    """Return the code of all functions in a source text, each with its index in a fixed order."""
    try:
        codes = [compile(text, "<source>", "exec", flags, dont_inherit=True)]
    except (SyntaxError, ValueError):
        return {}
    for code in codes:  # the loop also visits what it appends
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {code: index for index, code in enumerate(codes)}


# -- runs -----------------------------------------------------------------------------------------------


def list_key_settings(runs: Sequence[Run], fingerprint: str) -> list[dict[str, Any]]:
    """Return everything that determines the result of each run, for :func:`hash_description`.

    Args:
        runs: The runs. Objects that they share are described once.
        fingerprint: Fingerprint of the data that the runs train on.

    Returns:
        One human-readable JSON object per run: the fields of the run that determine its result, the name of
        its activation, the fingerprint and the versions of actlab and torch.

    Raises:
        Indescribable: As for :func:`describe`.
    """
    descriptions: dict[tuple[Any, int], Any] = {}

    def describe_once(value: Any, describe_part: Callable[[Any], Any]) -> Any:
        key = describe_part, id(value)  # the runs keep the value alive
        if key not in descriptions:
            descriptions[key] = describe_part(value)
        return descriptions[key]

    shared = {"data": fingerprint, "versions": {"actlab": __version__, "torch": torch.__version__}}
    return [
        {
            **{name: describe_once(getattr(run, name), _FIELDS.get(name, _to_plain)) for name in _KEY_FIELDS},
            "activation": describe_once(run.net, _name_activation),
            **shared,
        }
        for run in runs
    ]


def _to_plain(value: Any) -> Any:
    """Return a number, truth value or text as Python's own type."""
    return value.item() if isinstance(value, np.generic) else value


def _describe_rows(rows: npt.NDArray[np.int64] | None) -> Any:
    if rows is None:
        return None
    return {"sha256": hash_array(np.ascontiguousarray(rows, np.dtype("<i8"))), "length": len(rows)}


def _describe_loss(loss: nn.Module) -> Any:
    return _shorten(describe(loss, "loss"))


def _describe_optimizer(rule: Any) -> dict[str, Any]:
    numbers = {name: float(number) for name, number in rule.numbers.items()}
    return {"name": rule.name, "numbers": numbers, "flags": sorted(rule.flags)}


def _describe_schedule(schedule: Any) -> Any:
    """Describe a schedule; its options are keyword arguments, so their order does not matter."""
    if schedule is None:
        return None
    return _shorten(describe({**vars(schedule), "options": _sort_by_name(schedule.options)}, "schedule"))


def _describe_early_stopping(rule: Any) -> Any:
    return rule and describe(vars(rule), "stopping")


def _describe_net(make: Callable[[], nn.Module]) -> Any:
    """Describe a function that makes a network, and the network that it makes from seed 0."""
    built: Any = "fails"  # a user's module; it fails again in training
    with warnings.catch_warnings(), seeded_torch(0, 0, WEIGHTS, "cpu"), seeded_numpy(0):
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):
            built = make()
    return _shorten(describe({"built": built, "maker": _make_portable(make)}, "net"))


def _make_portable(make: Any) -> Any:
    """Return a maker without the folders of ``"folder/file.py:Name"`` and without trained weights."""
    if not isinstance(make, functools.partial):
        return make
    args = list(make.args)
    if make.func is build_module and args[1] and isinstance(args[0], nn.Module):
        args[0] = type(args[0])  # skorch builds it from its class
    return functools.partial(make.func, *map(_remove_folder, args), **_remove_folder(make.keywords))


def _remove_folder(value: Any) -> Any:
    if type(value) is dict:
        return {name: _remove_folder(part) for name, part in _sort_by_name(value).items()}
    value = value.source if isinstance(value, ResolvedActivation) else value
    return _FOLDER.sub("", value) if type(value) is str else value


def _sort_by_name(options: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(options.items()))


def _name_activation(make: Any) -> str | None:
    """Return the name of a network's activation as the user wrote it, if there is one."""
    if not (isinstance(make, functools.partial) and make.func is build_module):
        return None
    value = make.args[1].get("activation")
    value = value.source if isinstance(value, ResolvedActivation) else value
    if isinstance(value, str):
        return _FOLDER.sub("", value)
    if isinstance(value, nn.Module):
        is_library = all(find_library_name(type(module)) for module in value.modules())
        text = repr(value) if is_library else ""  # another repr may contain an address or a path
        return text if text and " at 0x" not in text else type(value).__qualname__
    return None if value is None else name_object(value)


def _shorten(description: Any) -> Any:
    """Return a description with hashes in place of its largest parts if it is too long to be stored."""
    if len(to_json(description)) <= _MAX_TEXT:
        return description
    limit = _MAX_TEXT // len(description)
    return {
        name: part if len(to_json(part)) <= limit else {"sha256": hash_description(part)}
        for name, part in description.items()
    }


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "net": _describe_net,
    "loss": _describe_loss,
    "optimizer": _describe_optimizer,
    "schedule": _describe_schedule,
    "stopping": _describe_early_stopping,
    "scores": lambda scores: describe(tuple(map(vars, scores)), "scores"),
    "clipping": lambda limit: limit and describe(limit, "clipping"),
    **dict.fromkeys(("rows", "valid", "test"), _describe_rows),
    "sample_weights": lambda weights: None if weights is None else hash_array(weights),
    "device": lambda device: device.partition(":")[0],
}
# A network learns the same whatever is recorded of it.
_RECORDED = ("diagnostic_epochs", "activations")
_KEY_FIELDS = [field.name for field in dataclasses.fields(Run) if field.name not in _RECORDED]
