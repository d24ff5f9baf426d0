"""Kinds of errors against nervaluate and against their definition, and what a page shows of a sentence."""

from collections import Counter

import numpy as np
import pytest

from ner_lightning.reports.errors_of import KINDS, confusion, kinds_by_type, pairs, sentence_errors

from .made import predictions, random_tags


@pytest.fixture(scope="module")
def sentences():
    generator = np.random.default_rng(0)
    return random_tags(generator, 200), random_tags(generator, 200)


def joined(split):
    return pairs(split.spans("gold"), split.spans("predicted"))


def test_counts_are_those_of_nervaluate(sentences):
    evaluator = pytest.importorskip("nervaluate").Evaluator
    counts = Counter(pair.kind for pair in joined(predictions(*sentences)))
    assert min(counts[kind] for kind in KINDS) > 20
    found = evaluator(*sentences, tags=["LOC", "ORG", "PER"], loader="list").evaluate()["overall"]
    wrong = sum(counts[kind] for kind in ("wrong type", "wrong border", "wrong type and border"))
    strict = found["strict"]
    assert (strict.correct, strict.incorrect) == (counts["right"], wrong)
    assert (strict.spurious, strict.missed) == (counts["spurious"], counts["missed"])
    assert found["exact"].correct == counts["right"] + counts["wrong type"]
    assert found["partial"].partial == counts["wrong border"] + counts["wrong type and border"]


def test_each_type_alone_is_that_of_nervaluate(sentences):
    """Where no predicted entity shares words with two, its count of types agrees, too."""
    evaluator = pytest.importorskip("nervaluate").Evaluator
    gold, predicted = ([["O", *tags[:2], "O"] for tags in every] for every in sentences)
    gold = [tags if tags[2][0] != "B" else ["O", tags[1], "O", "O"] for tags in gold]
    predicted = [tags if tags[2][0] != "B" else ["O", tags[1], "O", "O"] for tags in predicted]
    counts = Counter(pair.kind for pair in joined(predictions(gold, predicted)))
    found = evaluator(gold, predicted, tags=["LOC", "ORG", "PER"], loader="list").evaluate()["overall"]["ent_type"]
    assert found.correct == counts["right"] + counts["wrong border"] > 0
    assert found.incorrect == counts["wrong type"] + counts["wrong type and border"] > 0


def test_pairs_are_those_of_the_definition(sentences):
    split = predictions(*sentences)
    gold, expected = split.spans("gold"), []
    free = dict.fromkeys(gold)
    for guess in split.spans("predicted"):
        shared = [span for span in free if span.start < guess.end and guess.start < span.end]
        if shared:
            del free[shared[0]]
        expected.append((shared[0] if shared else None, guess))
    assert set(joined(split)) == {*expected, *((span, None) for span in free)}


@pytest.mark.parametrize(
    ("gold", "predicted", "kinds"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", ["right"]),
        ("B-PER I-PER O", "B-ORG I-ORG O", ["wrong type"]),
        ("B-PER I-PER O", "O B-PER O", ["wrong border"]),
        ("B-PER I-PER O", "O B-ORG I-ORG", ["wrong type and border"]),
        ("B-PER I-PER O", "O O B-PER", ["missed", "spurious"]),
        ("B-PER I-PER I-PER", "B-PER B-PER O", ["wrong border", "spurious"]),  # of one true entity one is enough
        ("O O O", "O O O", []),
    ],
)
def test_kinds(gold, predicted, kinds):
    assert [pair.kind for pair in joined(predictions([gold.split()], [predicted.split()]))] == kinds


def test_entities_of_neighbouring_sentences_are_no_pair():
    split = predictions([["O", "B-PER"], ["O"]], [["O", "O"], ["B-PER"]])
    assert [pair.kind for pair in joined(split)] == ["missed", "spurious"]


def test_tables_hold_every_pair(sentences):
    split, types = predictions(*sentences), ["LOC", "ORG", "PER"]
    found = joined(split)
    assert sum(sum(counts.values()) for counts in kinds_by_type(found, types).values()) == len(found)
    table = np.array(confusion(found, types))
    gold, predicted = (Counter(span.type for span in split.spans(which)) for which in ("gold", "predicted"))
    assert table[:3].sum(1).tolist() == [gold[type_] for type_ in types]
    assert table[:, :3].sum(0).tolist() == [predicted[type_] for type_ in types]
    assert table[3, 3] == 0


def test_a_wrong_sentence_shows_both_sides_and_a_right_one_nothing():
    split = predictions([["B-PER", "O"], ["O", "B-LOC"]], [["B-PER", "O"], ["B-LOC", "O"]])
    (row,) = sentence_errors(split, joined(split))
    assert row["words"] == ["w2", "w3"]
    assert (row["sentence"], row["place"]) == (2, "test.conll:1")
    assert row["gold"] == [[1, 2, "LOC", "missed"]]
    assert row["predicted"] == [[0, 1, "LOC", "spurious", 0.9]]


def test_of_labels_that_mark_no_entities_only_wrong_words_are_shown():
    split = predictions([["NN", "VB", "NN"]], [["NN", "NN", "NN"]], labels=["NN", "VB"])
    (row,) = sentence_errors(split, joined(split))
    assert row["gold"] == [[1, 2, "VB", "wrong type"]]
    assert row["predicted"] == [[1, 2, "NN", "wrong type", 0.9]]
    assert confusion(joined(split), ["NN", "VB"]) == [[2, 0, 0], [1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("predicted", "was", "change"),
    [
        ("B-PER O B-LOC", "B-PER O O", "mended"),
        ("O O B-LOC", "B-PER O O", "both"),
        ("O O O", "B-PER O O", "broke"),
        ("O O O", "O O O", "as before"),
        ("B-PER O B-LOC", "B-PER B-ORG B-LOC", "mended"),
        ("B-ORG O B-LOC", "B-LOC O B-LOC", "both"),  # another error
    ],
)
def test_what_became_of_a_sentence(predicted, was, change):
    gold = ["B-PER O B-LOC".split()]
    labels = ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    split, other = (predictions(gold, [tags.split()], labels=labels) for tags in (predicted, was))
    (row,) = sentence_errors(split, joined(split), joined(other))
    assert row["change"] == change
    assert [each[:3] for each in row["was"]] == [[span.start, span.end, span.type] for span in other.spans("predicted")]
