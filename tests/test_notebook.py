"""The notebook runs from top to bottom, offline."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks/ten_steps.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_the_ten_steps_end_with_entities(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert sum("".join(cell["source"]).startswith("## ") for cell in cells) == 10
    names = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "what is committed has no outputs, which would be of another release"
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["scores"]["test_f1"] > 0.8
    found = names["tagger"]("Tarina Drolsen left Bralex Motors .")
    assert [(entity["type"], entity["text"]) for entity in found] == [
        ("PER", "Tarina Drolsen"),
        ("ORG", "Bralex Motors"),
    ]
