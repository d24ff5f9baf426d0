"""Imports go down only, and each library and each convention has its room."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ner_lightning"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.glob("**/*.py")
}
WINGS = {"predict", "hub", "reports"}
# which put core and wings together
ENTRANCES = {
    "ner_lightning",
    "ner_lightning.__main__",
    "ner_lightning.cli",
    "ner_lightning.learning_curve",
    "ner_lightning.seeds",
    "ner_lightning.tune",
}


def imported(path, *, within_functions=True):
    """Modules of this package that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if within_functions else tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ner_lightning":
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {name if name in MODULES else node.module for name in named}


def test_no_room_of_the_core_imports_a_wing():
    for name, path in MODULES.items():
        if name not in ENTRANCES and name.split(".")[1] not in WINGS:
            wings = [other for other in imported(path) if other.split(".")[1:2] and other.split(".")[1] in WINGS]
            assert not wings, f"{name} imports {wings}"


def test_imports_make_no_circle():
    graph = {name: set(imported(path, within_functions=False)) - {"ner_lightning"} for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_data_and_model_do_not_know_each_other():
    assert "ner_lightning.model" not in set(imported(PACKAGE / "data.py"))
    assert "ner_lightning.data" not in set(imported(PACKAGE / "model.py"))


def test_words_stand_in_their_room_alone():
    rooms = {
        r"-100\b": {"encoding.py"},
        r"word_ids\(": {"encoding.py"},
        r"\.from_pretrained": {"pretrained.py", "casing.py"},
        r"(from|import) datasets": {
            "corpus.py",
            "cache.py",
            "data.py",
            "hub.py",
            "folder.py",
            "memory.py",
            "tables.py",
        },
        r"^\s*import seqeval|from seqeval": {"metrics.py"},
    }
    for pattern, allowed in rooms.items():
        found = set()
        for path in PACKAGE.glob("**/*.py"):
            code = "\n".join(ast.unparse(node) for node in _without_docstrings(path))
            if re.search(pattern, code, re.MULTILINE):
                found.add(path.name)
        assert found <= allowed, pattern


def _without_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree.body
