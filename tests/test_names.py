"""Public class names are unique."""

import ast
from collections import defaultdict
from pathlib import Path

import actlab


def test_public_class_names_are_unique_across_modules():
    modules = defaultdict(list)
    for file in Path(actlab.__file__).parent.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(file.name)
    assert {name: files for name, files in modules.items() if len(files) > 1} == {}
