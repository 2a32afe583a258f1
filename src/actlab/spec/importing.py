"""Import what ``"package.module:Name"`` or ``"file.py:Name"`` names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

from cloudpickle import register_pickle_by_value

from actlab.errors import UsageError, did_you_mean, summarize_error

_loading: set[tuple[int, Path]] = set()  # the files that each thread is importing
_loaded: dict[tuple[Path, int, int], ModuleType] = {}  # by path, time of change and size of the file


class _SelfImportError(UsageError):
    """Raised if importing a file imports the file again."""


def _import_module(what: str, path: str) -> ModuleType:
    """Import a module by its name, or by the path of a ``.py`` file."""
    if path.endswith(".py") and not Path(path).is_file():
        raise UsageError(f"{what}: file {path!r} does not exist")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the command line's results
            return _load_file(Path(path)) if path.endswith(".py") else importlib.import_module(path)
    except _SelfImportError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what}: cannot import {path!r}: {summarize_error(error)}") from error


def _load_file(path: Path) -> ModuleType:
    if (this := (threading.get_ident(), path.resolve())) in _loading:
        advice = "put the activation into another file, or call actlab under `if __name__ == '__main__':`"
        problem = f"{path.name} imports itself, because it calls actlab when it is imported"
        raise _SelfImportError(f"{problem}; {advice}")
    stat = path.stat()
    key = path.resolve(), stat.st_mtime_ns, stat.st_size
    if (loaded := _loaded.get(key)) is not None and sys.modules.get(loaded.__name__) is loaded:
        return loaded
    name = path.stem
    while name in sys.modules:  # another module has this name
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # objects that it defines can then be pickled
    _loading.add(this)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _loading.remove(this)
    register_pickle_by_value(module)  # worker processes cannot import it by its name
    _loaded[key] = module
    return module


def import_object(what: str, name: str) -> Any:
    """Import what ``"package.module:Name"``, ``"package.module:Class.method"`` or ``"file.py:Name"`` names.

    Args:
        what: What the spec describes, such as ``"activation"``; error messages begin with it.
        name: The name.

    Raises:
        UsageError: It cannot be imported, or has no such attribute. The message contains the original error,
            shortened.
    """
    path, _, attributes = name.rpartition(":")
    value: Any = _import_module(f"{what} {name!r}", path)
    for attribute in attributes.split("."):
        if not hasattr(value, attribute):
            public = [name for name in dir(value) if not name.startswith("_")]
            raise UsageError(f"{what} {name!r}: {attribute!r} not found{did_you_mean(attribute, public)}")
        value = getattr(value, attribute)
    return value
