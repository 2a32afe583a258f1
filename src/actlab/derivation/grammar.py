"""Describe the grammar of formulas as plain data, for other programs that read formulas."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from actlab.derivation.syntax import builtin_functions, parser, tokenizer
from actlab.errors import UsageError


def describe_grammar() -> dict[str, Any]:
    """Return the names, hints and limits of formulas.

    Returns:
        A dictionary of texts and numbers. ``functions`` has the arguments of each function, and
        ``catalogue`` the formulas that other formulas can call.

    Examples:
        >>> grammar = describe_grammar()
        >>> grammar["functions"]["clip"], grammar["catalogue"]["elu"]["parameters"]
        (['x', 'low', 'high'], {'alpha': 1.0})
    """
    from actlab.functions import catalogue

    functions, numbers = builtin_functions.FUNCTIONS, {}
    for name, entry in catalogue.items():
        numbers[name] = {} if entry.facts.gated else parser.list_numbers(entry)
    return {
        "functions": {name: builtin_functions.list_argument_names(name) for name in functions},
        "synonyms": builtin_functions.SYNONYMS,
        "steps": builtin_functions.STEP_FUNCTIONS,
        "hints": tokenizer.HINTS,
        "longest": tokenizer.LONGEST,
        "brackets": tokenizer.DEEPEST,
        "digits": tokenizer.MOST_DIGITS,
        "parts": parser.MOST_PARTS,
        "depth": parser.DEEPEST,
        "catalogue": {
            name: {
                "formula": entry.formula(),
                "gated": entry.facts.gated,
                "parameters": numbers[name],
                "required": sum(not builtin_functions.is_number(entry.parameters[n]) for n in numbers[name]),
            }
            for name, entry in catalogue.items()
        },
    }


def find_formula_problem(text: str, names: Collection[str]) -> str:
    """Return why a text is not a formula in these variables; an empty string if it is one."""
    try:
        parser.parse_formula(text, names)
    except UsageError as error:
        return str(error)
    return ""
