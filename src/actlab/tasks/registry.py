"""Find tasks by name: the built-in tasks, and those in files of users."""

from __future__ import annotations

import importlib

from actlab.errors import UsageError, did_you_mean, summarize_error
from actlab.spec import import_spec
from actlab.tasks.task import Task

_MODULES = (
    *("digits_perceptron", "deep_perceptron", "digits_cnn", "residual_cnn", "digits_mixer", "digits_gated"),
    *("digits_rnn", "digits_autoencoder", "iris", "wine", "breast_cancer", "diabetes", "text_transformer"),
    *("image_fitting", "poisson", "mnist", "fashion_mnist"),
)


def list_tasks() -> list[Task]:
    """Return the built-in tasks."""
    return [_import_task(module) for module in _MODULES]


def load_task(name: str) -> Task:
    """Return a task.

    Args:
        name: The name of a built-in task, or ``"file.py:NAME"`` or ``"package.module:NAME"`` for a
            :class:`Task`, or for a function that returns one, as in ``"my_tasks.py:waves(5)"``.

    Raises:
        UsageError: There is no such task, or its file cannot be imported.

    Examples:
        >>> load_task("digits-cnn").description
        'convolutional network on 8x8 digits'
    """
    if not isinstance(name, str):
        raise UsageError(f"a task must be a name, file.py:NAME or an actlab.Task, got {name!r}")
    if ":" in name:
        task, arguments, keywords = import_spec("task", name)
        if callable(task):
            try:
                task = task(*arguments, **keywords)
            except (Exception, SystemExit) as error:  # raised by the user's code
                raise UsageError(f"task {name!r} cannot be made: {summarize_error(error)}") from error
        if not isinstance(task, Task):
            raise UsageError(f"task {name!r} is a {type(task).__name__}; it must be an actlab.Task")
        return task
    names = [module.replace("_", "-") for module in _MODULES]
    if name not in names:
        hint = did_you_mean(name, names) or f"; they are {', '.join(names)}"
        raise UsageError(f"there is no task {name!r}{hint}, or file.py:NAME for your own")
    return _import_task(name.replace("-", "_"))


def _import_task(module: str) -> Task:
    task: Task = importlib.import_module(f"actlab.tasks.{module}").TASK
    return task
