"""Scores of parts of a split against counting one by one, and curves against their definitions."""

import numpy as np
import pytest
import torch

from ner_lightning.calibration import calibration_error
from ner_lightning.reports.errors_of import pairs
from ner_lightning.reports.slices import by_type, reliability, slices, thresholds

from .made import predictions, random_tags


@pytest.fixture(scope="module")
def split():
    generator = np.random.default_rng(1)
    gold = random_tags(generator, 100)
    guessed = [tags if generator.random() < 0.5 else random_tags(generator, 1)[0] for tags in gold]
    probabilities = generator.dirichlet(np.ones(7), size=1200).astype(np.float32)
    made = predictions(gold, guessed, probabilities=probabilities)
    seen = {made.words[span.start]: {"LOC"} for span in made.spans("gold") if span.start % 3 == 0}
    made.pieces[:] = generator.integers(1, 6, len(made.pieces))
    return predictions(gold, guessed, probabilities=probabilities, seen=seen)


@pytest.fixture(scope="module")
def found(split):
    return pairs(split.spans("gold"), split.spans("predicted"))


def shares(split, belongs):
    gold, predicted = ({span[:3] for span in split.spans(which) if belongs(span)} for which in ("gold", "predicted"))
    right = len(gold & predicted)
    return right / len(predicted), right / len(gold), 2 * right / (len(gold) + len(predicted))


def test_slices_are_counted_one_by_one(split, found):
    by = slices(split, found)

    def seen(span):
        return split.seen.get(" ".join(split.words[span.start : span.end]), set())

    belongs = {
        ("words", "2"): lambda span: span.end - span.start == 2,
        ("words", "3"): lambda span: span.end - span.start == 3,
        ("pieces", "1"): lambda span: split.pieces[span.start : span.end].mean() == 1,
        ("sentence", "11 to 20"): lambda span: True,
        ("seen", "not seen"): lambda span: not seen(span),
        ("seen", "seen with this type"): lambda span: span.type in seen(span),
        ("seen", "seen with another type"): lambda span: bool(seen(span) - {span.type}),
    }
    for (table, name), of_slice in belongs.items():
        (row,) = [row for row in by[table] if row["name"] == name]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(shares(split, of_slice)), (table, name)


def test_bins_of_sub_words_and_of_sentences():
    gold = [["B-PER", "I-PER"], ["B-PER"] * 6, ["O"] * 41 + ["B-PER"]]
    split = predictions(gold, gold)
    split.pieces[:] = 1
    split.pieces[:3] = 2, 1, 4
    by = slices(split, pairs(split.spans("gold"), split.spans("predicted")))
    assert {row["name"]: row["gold"] for row in by["pieces"]} == {"1": 6, "above 1, to 1.5": 1, "more than 3": 1}
    assert {row["name"]: row["gold"] for row in by["sentence"]} == {"1 to 5": 1, "6 to 10": 6, "41 and more": 1}
    assert {row["name"]: row["gold"] for row in by["words"]} == {"1": 7, "2": 1}
    assert "seen" not in by  # nothing is known of training


def test_types_are_those_of_the_score(split, found):
    for row in by_type(found, ["LOC", "ORG", "PER"]):
        for name in ("precision", "recall", "f1"):
            assert row[name] == pytest.approx(split.split.scores[f"{name}_{row['name']}"])


def test_the_bins_of_the_diagram_give_the_calibration_error(split, found):
    bins = reliability(found)
    scores = torch.tensor([pair.predicted.score for pair in found if pair.predicted])
    right = torch.tensor([pair.kind == "right" for pair in found if pair.predicted])
    error = sum(abs(each["score"] - each["right"]) * each["entities"] for each in bins) / len(scores)
    assert error == pytest.approx(calibration_error(scores, right))
    assert error == pytest.approx(split.split.scores["calibration_error"], abs=1e-6)


def test_thresholds_are_counted_one_by_one(split, found):
    gold = {span[:3] for span in split.spans("gold")}
    for row in thresholds(found):
        kept = [span[:3] for span in split.spans("predicted") if span.score >= row["threshold"]]
        right = len(gold & set(kept))
        assert row["precision"] == (right / len(kept) if kept else None)
        assert row["recall"] == right / len(gold)
