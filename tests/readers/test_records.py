import json

import pytest

from ner_lightning.errors import InputError


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def read_one(rows, *records, **options):
    return [(row.words, row.tags) for row in rows("a.jsonl", lines(*records), **options)]


def test_words_come_with_tags_and_documents(rows):
    record = {"tokens": ["Ada", "ran"], "ner_tags": ["B-PER", "O"], "tags": [1, 2], "document_id": 7}
    (row,) = rows("a.jsonl", lines(record))
    assert (row.words, row.tags, row.document, row.record) == (["Ada", "ran"], ["B-PER", "O"], 7, record)
    assert (row.text, row.spans, row.lines) == (None, None, None)


@pytest.mark.parametrize("field", ["ner_tags", "tags", "labels"])
def test_tags_have_one_of_three_names_or_the_given_one(rows, field):
    record = {"words": ["Ada"], "tokens": ["no"], field: ["B-PER"], "pos": ["NN"]}
    assert read_one(rows, record, text_column_name="words") == [(["Ada"], ["B-PER"])]
    assert read_one(rows, record, label_column_name="pos") == [(["no"], ["NN"])]


def test_numbers_have_the_given_names(rows):
    assert read_one(rows, {"tokens": ["a", "b"], "tags": [1, 0]}, labels=("O", "B-X")) == [(["a", "b"], ["B-X", "O"])]


def test_rows_without_tags_are_read_and_have_none(rows):
    found = read_one(rows, {"tokens": ["a"]}, {"tokens": ["b"], "tags": ["O"]}, {"tokens": [], "tags": None})
    assert found == [(["a"], None), (["b"], ["O"]), ([], None)]
    assert read_one(rows, {"text": "a b"}, {"text": "a", "label": "positive"}, {"text": ""}) == [
        (["a", "b"], None),
        (["a"], None),
        ([], None),
    ]


def test_without_tags_what_is_wrong_with_them_does_not_matter(rows):
    assert read_one(rows, {"tokens": ["a"], "tags": [1, 2]}, tags=False) == [(["a"], None)]
    assert read_one(rows, {"text": "a", "entities": [[5, 3, ""]]}, tags=False) == [(["a"], None)]


def test_our_own_predictions_of_words_are_read_by_their_tags(rows):
    entity = {"type": "PER", "start": 0, "end": 2, "text": "Ada Bo", "score": 0.5}
    assert read_one(rows, {"tokens": ["Ada", "Bo"], "tags": ["B-PER", "I-PER"], "entities": [entity]}) == [
        (["Ada", "Bo"], ["B-PER", "I-PER"])
    ]


def test_an_export_of_prodigy_counts_where_it_was_accepted(rows):
    tokens = [{"text": "Ada", "start": 0, "end": 3, "id": 0}]
    base = {"text": "Ada ran", "_task_hash": 1, "tokens": tokens}
    spans = [{"start": 0, "end": 3, "token_start": 0, "token_end": 0, "label": "PER"}]
    found = read_one(
        rows,
        {**base, "spans": spans, "answer": "accept"},
        {**base, "spans": spans, "answer": "reject"},
        {**base, "answer": "ignore"},
        {**base, "answer": "accept"},
    )
    assert [tags for _, tags in found] == [["B-PER", "O"], None, None, ["O", "O"]]


@pytest.mark.parametrize(
    ("records", "options", "expected"),
    [
        ([{"id": 1}], {}, r"a.jsonl:1: expected a field tokens, text, source_text \(text_column_name\), found id"),
        ([{}], {}, "a.jsonl:1: expected a field tokens, .*found none"),
        ([{"text": "a"}], {"text_column_name": "body"}, r"expected a field body \(text_column_name\), found text"),
        ([{"tokens": "a b"}], {}, "a.jsonl:1: expected a list of words in tokens, found 'a b'"),
        ([{"tokens": ["a", 1]}], {}, r"a.jsonl:1: expected a list of words in tokens, found \['a', 1\]"),
        ([{"tokens": ["a"]}, {"text": "a"}], {}, "a.jsonl:2: expected a list of words in tokens, found None"),
        ([{"text": "a"}, {"tokens": ["a"]}], {}, "a.jsonl:2: expected a text in text, found None"),
        ([{"text": None}], {}, "a.jsonl:1: expected a list of words in text, found None"),
        ([{"tokens": ["a"], "tags": ["O", "O"]}], {}, r"a.jsonl:1: expected a list of 1 tags in tags, found 2: \['O'"),
        ([{"tokens": ["a"], "tags": "O"}], {}, "a.jsonl:1: expected a list of 1 tags in tags, found 'O'"),
        ([{"tokens": ["a"], "tags": [None]}], {}, "expected tags in tags, as text or numbers, found None"),
        ([{"tokens": ["a"], "tags": [True]}], {}, "expected tags in tags, as text or numbers, found True"),
        ([{"tokens": ["a"], "tags": [0]}], {}, r"a.jsonl:1: the tags in tags are numbers without names; .*\(labels\)"),
        ([{"tokens": ["a"], "tags": [2]}], {"labels": ("O", "X")}, "expected a tag from 0 to 1 in tags, found 2"),
        ([{"tokens": ["a"], "tags": [-1]}], {"labels": ("O", "X")}, "expected a tag from 0 to 1 in tags, found -1"),
        ([{"tokens": ["a"], "tags": ["O"], "labels": ["O"]}], {}, "both tags and labels could be the tags"),
        (
            [{"tokens": ["a"]}],
            {"label_column_name": "ner"},
            r"expected a field ner \(label_column_name\), found tokens",
        ),
        ([{"text": "a"}], {"label_column_name": "ner"}, r"expected a field ner \(label_column_name\), found text"),
        (
            [{"text": "a", "spans": [[0, 1, "X"]], "label": [[0, 1, "Y"]]}],
            {},
            "a.jsonl:1: both spans and label could be the entities; give label_column_name",
        ),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_line(rows, records, options, expected):
    with pytest.raises(InputError, match=expected):
        rows("a.jsonl", lines(*records), **options)
