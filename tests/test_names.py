"""Names that a reader must be able to tell apart."""

import ast
from collections import defaultdict
from pathlib import Path

import actlab


def test_no_two_modules_have_a_public_class_of_one_name():
    modules = defaultdict(list)
    for file in Path(actlab.__file__).parent.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(file.name)
    assert {name: files for name, files in modules.items() if len(files) > 1} == {}
