"""What people should label first: against comparing all rows with all."""

import random

import pytest

from ner_lightning.errors import InputError
from ner_lightning.predict import predict
from ner_lightning.predict.entities import LabelledRow
from ner_lightning.predict.order import least_certain_first, near_duplicates
from ner_lightning.readers import Row


def labelled(text, score, document=None):
    words = text.split()
    row = Row(words, None, None, None, document, text, None, {})
    return LabelledRow(row, ["O"] * len(words), [1.0] * (len(words) - 1) + [score] if words else [])


def order(*rows, max_per_document=10):
    return [each.row.place for each in least_certain_first(rows, max_per_document=max_per_document)]


def test_the_least_certain_word_decides():
    rows = [labelled("a b", 0.9), labelled("", 0), labelled("c", 0.2), labelled("d e", 0.5)]
    assert order(*rows) == ["c", "d e", "a b"]  # and nothing without words


def test_documents_take_turns():
    rows = [labelled(text, score, document) for text, score, document in zip("abcdef", range(6), "xxxxxy", strict=True)]
    assert order(*rows, max_per_document=2) == ["a", "b", "f", "c", "d", "e"]
    assert order(*rows) == list("abcdef")


def test_near_duplicates_come_last_and_take_no_turn():
    rows = [
        labelled("Mira left Tarnby on 5 May", 0.1, 1),
        labelled("mira left Tarnby on 6 May .", 0.2, 1),
        labelled("Toll stayed", 0.3, 1),
        labelled("Edda won", 0.4, 2),
    ]
    assert order(*rows, max_per_document=2) == [rows[n].row.place for n in (0, 2, 3, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_are_those_of_comparing_all(seed):
    chance = random.Random(seed)
    rows = [[chance.choice("abcdefgh.") for _ in range(chance.randrange(12))] for _ in range(150)]
    kept, expected = [], []
    for row in rows:
        words = set(row) - {"."}
        expected.append(any(len(words & one) / len(words | one) >= 0.8 for one in kept if words and one))
        if not expected[-1]:
            kept.append(words)
    assert near_duplicates(rows) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit=0: give 1 or more rows"),
        ({"order": "uncertain", "max_per_document": -1}, "--max_per_document=-1: give 1 or more"),
        ({"order": "uncertain"}, "test.conll: --order and --limit cannot be used .* give --format=label-studio"),
        ({"limit": 3}, "--order and --limit cannot be used"),
    ],
)
def test_what_cannot_be_ordered_is_refused(conll_files, options, message):
    with pytest.raises(InputError, match=message):
        predict([str(conll_files / "test.conll")], **options)
