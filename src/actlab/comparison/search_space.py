"""The settings that a comparison tries for each activation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import skorch
from sklearn.model_selection import ParameterGrid

from actlab.comparison.user_model import list_module_arguments
from actlab.errors import UsageError, did_you_mean
from actlab.spec import inspect_parameters
from actlab.training.settings import INITS, USUAL_RATES, find_init_problem

_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of the usual learning rate
Candidate = dict[str, Any]


def list_auto_candidates(net: skorch.NeuralNet, init: str) -> list[Candidate]:
    """Return combinations of learning rate and initialization; the first are the settings as given.

    Args:
        net: The skorch model. It gives the learning rate as given, and the optimizer.
        init: The initialization as given.
    """
    usual = find_usual_rate(net)
    rates = [round_rate(usual * factor) for factor in _FACTORS]
    candidates: list[Candidate] = [{"lr": lr, "init": name} for lr in rates for name in INITS]
    return _put_first({"lr": net.lr, "init": init}, candidates)


def list_grid_candidates(
    tune: Mapping[str, Sequence[Any]], net: skorch.NeuralNet, init: str, taken: set[str]
) -> list[Candidate]:
    """Return all combinations of some values; the first are the settings as given.

    Args:
        tune: The values by parameter of the skorch model, or ``init``.
        net: The skorch model. It gives the settings as given.
        init: The initialization as given.
        taken: Arguments of the module that take the activation, which cannot be tuned.

    Raises:
        UsageError: A parameter does not exist or cannot be tuned, or a value is invalid.
    """
    parameters = {**_list_parameters(net), "init": init}
    for name, values in tune.items():
        if str(name).removeprefix("module__").partition("__")[0] in taken:
            raise UsageError(
                f"tune contains {name!r}, but activations are compared, not tuned: list them as activations"
            )
        if name not in parameters:
            hint = did_you_mean(str(name), parameters) or "; an example is 'lr'"
            raise UsageError(f"tune contains {name!r}, which is not a parameter of the skorch net{hint}")
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UsageError(f"tune needs a list of values such as [0.003, 0.01], got {name}={values!r}")
        if any(isinstance(value, list | dict | set) for value in values):
            raise UsageError(f"tune needs tuples instead of lists as values, got {name}={values!r}")
        for value in values:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name == "lr" and not (number and 0 < value < math.inf):
                raise UsageError(f"tune needs learning rates > 0, got lr={value!r}")
            if name == "init" and (problem := find_init_problem(value)):
                raise UsageError(f"tune: {problem}")
    grid = ParameterGrid({name: list(dict.fromkeys(values)) for name, values in tune.items()})
    given = {name: parameters[name] for name in sorted(tune)}
    return _put_first(given, [dict(sorted(candidate.items())) for candidate in grid])


def _list_parameters(net: skorch.NeuralNet) -> dict[str, Any]:
    """Return the parameters of a model and of its parts, with their values or else their defaults."""
    parts = {"module": list_module_arguments(net)}
    for name in ("criterion", "optimizer", "iterator_train", "iterator_valid"):
        if isinstance(part := getattr(net, name), type):
            parts[name] = inspect_parameters(part)
    defaults = {
        f"{part}__{name}": parameter.default
        for part, parameters in parts.items()
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return {**defaults, **net.get_params()}


def find_usual_rate(net: skorch.NeuralNet) -> float:
    """Return the usual learning rate of a model's optimizer; the rate of the model if it is unknown."""
    return USUAL_RATES.get(getattr(net.optimizer, "__name__", ""), float(net.lr))


def find_next_rate(rate: float, tried: Sequence[float], usual: float) -> float | None:
    """Return the next rate to try if the best one is the smallest or largest; None otherwise.

    Args:
        rate: The best rate.
        tried: All rates that were tried.
        usual: The usual rate. The rates around it are spaced by factors of about 3.

    Examples:
        >>> find_next_rate(0.1, [0.001, 0.01, 0.1], 0.01)
        0.3
        >>> find_next_rate(0.01, [0.001, 0.01, 0.1], 0.01) is None
        True
    """
    up = rate >= max(tried)
    if not up and rate > min(tried):
        return None
    center = 2 * round(math.log10(rate / usual))
    grid = [round_rate(usual * (1.0, 3.0)[k % 2] * 10.0 ** (k // 2)) for k in range(center - 3, center + 4)]
    return next(g for g in grid if g > rate) if up else next(g for g in reversed(grid) if g < rate)


def round_rate(rate: float) -> float:
    """Return a rate rounded to three significant digits."""
    return float(f"{rate:.3g}")


def _put_first(given: Candidate, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [given, *(candidate for candidate in candidates if candidate != given)]
