"""The notebook runs from top to bottom, offline; what it shows are tables in which words are escaped."""

import json
import re
from pathlib import Path

import pytest
import torch
import tqdm.auto

from ner_lightning import EntityScore, TokenClassificationDataModule, data
from ner_lightning.notebook import Scores
from ner_lightning.predict import files
from ner_lightning.reports import predictions

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


def test_a_description_is_a_dictionary_that_a_notebook_shows_as_tables(tmp_path, tiny_model):
    path = tmp_path / "a&b.conll"
    path.write_text("<b>Mira</b> B-PER\nToll I-PER\nleft O\n")
    corpus = TokenClassificationDataModule(train_file=str(path), model_name_or_path=str(tiny_model))
    told = corpus.describe()
    assert json.loads(json.dumps(told))["labels"] == told["labels"]
    html = told._repr_html_()
    assert "<b>" not in html
    assert "<p>first sentence: &lt;b&gt;Mira&lt;/b&gt; Toll left</p>" in html
    assert "a&amp;b.conll" in html
    assert re.sub("<[^>]*>", " ", html).split()[-2:] == ["[SEP]", "-"]


def test_a_notebook_shows_scores_by_type():
    score = EntityScore(["O", "B-<b>", "I-<b>", "B-PER", "I-PER"], interval=True)
    score.update(
        predictions=torch.tensor([1, 3, 0, 3]),
        targets=torch.tensor([1, 0, 0, 3]),
        word_index=torch.arange(4),
        sentence_index=torch.tensor([0, 0, 1, 1]),
        num_words=4,
    )
    scores = score.compute()
    assert isinstance(scores, dict)
    html = scores._repr_html_()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert cells[0::5] == ["&lt;b&gt;", "PER", "all"]
    assert cells[-4:] == ["66.67", "100.00", "80.00", "2"]
    assert "accuracy 75.00, 4 words scored, 95 % interval of F1" in html
    logged = Scores({f"test_{name}": value for name, value in scores.items()})
    assert logged._repr_html_() == html
    assert Scores({"loss": 1.0})._repr_html_() is None


def test_bars_are_those_of_notebooks_where_one_runs():
    assert {module.tqdm for module in (data, files, predictions)} == {tqdm.auto.tqdm}
