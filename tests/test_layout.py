"""Imports go down only, and each library and each convention has its room."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ner_lightning"
# from top to bottom; a module imports from lower floors alone
FLOORS = [
    ["__main__"],
    ["cli"],
    ["hub", "trainer"],
    ["export"],
    ["loggers", "options", "prediction", "reports", "scores"],
    ["interruption"],
    ["data", "model", "checkpoints"],
    ["chunks", "labelled"],
    ["card", "corpus", "encoding", "metrics", "sampling"],
    ["hub_dataset", "pretrained"],
    ["predict_file", "sources"],
    ["push"],
    ["conll", "outbox", "parts", "tags", "quickstart", "words"],
    ["config_files", "files"],
    ["__init__"],
    ["errors", "version"],
]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ner_lightning":
            module = node.module.split(".")[1:]
            yield from [module[0]] if module else [alias.name for alias in node.names]


def test_imports_go_down_only():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules <= set(floor)
    for name in modules:
        for below in imported(PACKAGE / f"{name}.py"):
            assert floor[below] > floor[name], f"{name} imports {below}"


def test_data_and_model_do_not_know_each_other():
    assert "model" not in set(imported(PACKAGE / "data.py"))
    assert "data" not in set(imported(PACKAGE / "model.py"))


def test_words_stand_in_their_room_alone():
    rooms = {
        r"-100\b": {"encoding.py"},
        r"word_ids\(": {"encoding.py"},
        r"\.from_pretrained": {"pretrained.py"},
        r"(from|import) datasets": {"corpus.py", "sources.py", "hub_dataset.py", "data.py"},
        r"^\s*import seqeval|from seqeval": {"metrics.py"},
    }
    for pattern, allowed in rooms.items():
        found = set()
        for path in PACKAGE.glob("*.py"):
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
