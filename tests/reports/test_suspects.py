"""Suspicious labels against cleanlab and against the definition of confident learning."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ner_lightning.readers import ReadOptions, Row, read
from ner_lightning.reports.suspects import label_issues, suspects, write_suspects
from ner_lightning.words import Span

from .made import predictions


@pytest.fixture(scope="module")
def noisy():
    """Labels of which a fifth are wrong, and probabilities that know the right ones."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, 5, 2000)
    given = np.where(generator.random(2000) < 0.2, generator.integers(0, 5, 2000), true)
    logits = generator.normal(size=(2000, 6)) + 3 * np.eye(6)[true]
    return given, (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)


def test_issues_are_those_of_cleanlab(noisy):
    cleanlab = pytest.importorskip("cleanlab.filter")
    options = {"filter_by": "confident_learning", "return_indices_ranked_by": "self_confidence", "n_jobs": 1}
    expected = cleanlab.find_label_issues(*noisy, **options)
    assert len(expected) > 100
    assert label_issues(*noisy).tolist() == expected.tolist()


def test_issues_are_those_of_the_definition(noisy):
    given, probabilities = noisy
    average = [np.mean([row[k] for row, own in zip(probabilities, given, strict=True) if own == k]) for k in range(5)]
    expected = []
    for word, row in enumerate(probabilities):
        confident = [k for k in range(5) if row[k] >= average[k]]
        meant = max(confident, key=lambda k: row[k], default=given[word])
        if meant != given[word] and row.argmax() != given[word]:
            expected.append(word)
    expected.sort(key=lambda word: probabilities[word, given[word]])
    assert label_issues(*noisy).tolist() == expected


def test_no_words_no_issues():
    assert label_issues(np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.float32)).tolist() == []


def test_a_suspect_stands_in_its_sentence():
    gold = [["B-PER", "O"], ["O", "O"], ["B-PER", "O"]]
    split = predictions(gold, [["B-PER", "O"], ["O", "B-PER"], ["B-PER", "O"]])
    (row,) = suspects(split)
    assert (row["sentence"], row["place"], row["words"]) == (2, "test.conll:1", ["w2", "w3"])
    assert row["suspects"] == [[1, "O", "B-PER", 0.05, 0.9]]


@pytest.fixture
def split():
    """Two suspects in four sentences, the second the likelier: a sentence of a CoNLL file, and a task."""
    gold = [["O", "O"], ["B-PER", "O"], ["O", "O"], ["B-PER", "O"]]
    predicted = [["B-PER", "I-PER"], ["B-PER", "O"], ["O", "B-PER"], ["B-PER", "O"]]
    made = predictions(gold, predicted, words=[["Mira", "Toll"], ["Hal", "left"], ["left", "Edda"], ["Jon", "."]])
    probabilities = made.probabilities.copy()
    probabilities[5, made.labels.index("O")] = 0.01  # the least probable label
    task = {"id": 7, "data": {"text": "left Edda", "by": "me"}, "annotations": [{"id": 1, "result": []}]}
    rows = list(made.rows)
    rows[0] = rows[0]._replace(lines=[4, 5])
    rows[2] = Row.of_text("left Edda", [Span(0, 4), Span(5, 9)], place="export.json, task 7", record=task)
    return replace(made, probabilities=probabilities, rows=rows)


TOLD = [
    "export.json, task 7: Edda: O (1 %), or rather B-PER (90 %)",
    "test.conll:0: Mira: O (5 %), or rather B-PER (90 %)",  # nothing is known of I-PER, which is given nowhere
]


def test_tasks_of_label_studio_come_back_as_what_was_predicted(split, tmp_path):
    path = tmp_path / "tasks.json"
    write_suspects(split, path, form="label-studio")
    tasks = json.loads(path.read_text())
    assert [task["data"]["suspect"] for task in tasks] == TOLD
    assert (tasks[0]["id"], tasks[0]["data"]["by"], tasks[0]["annotations"]) == (7, "me", [{"id": 1, "result": []}])
    for task in tasks:  # an annotator submits them as they are
        (prediction,) = task.pop("predictions")
        task["annotations"] = [{"id": 2, "result": prediction["result"]}]
    path.write_text(json.dumps(tasks))
    rows = list(read(path, options=ReadOptions()))
    assert [(row.words, row.tags) for row in rows] == [
        (["left", "Edda"], ["O", "B-PER"]),
        (["Mira", "Toll"], ["B-PER", "I-PER"]),
    ]


@pytest.mark.parametrize("form", ["doccano", "prodigy"])
def test_tasks_of_other_tools_are_read_as_what_was_predicted(split, form, tmp_path):
    path = tmp_path / "tasks.jsonl"
    write_suspects(replace(split, rows=[]), path, form=form)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["suspect"] for record in records] == [told.split(": ", 1)[1] for told in TOLD]
    rows = list(read(path, options=ReadOptions(split_at="spaces")))
    assert [row.tags for row in rows] == [["O", "B-PER"], ["B-PER", "I-PER"]]


@pytest.mark.parametrize(("form", "nothing"), [("label-studio", "[]\n"), ("doccano", "")])
def test_no_suspects_no_tasks(form, nothing, tmp_path):
    write_suspects(predictions([["B-PER"]], [["B-PER"]]), tmp_path / "tasks", form=form)
    assert (tmp_path / "tasks").read_text() == nothing
