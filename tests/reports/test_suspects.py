"""Suspicious labels against cleanlab and against the definition of confident learning."""

import numpy as np
import pytest

from ner_lightning.reports.suspects import label_issues, suspects

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
