import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.errors import InputError
from ner_lightning.readers import ReadOptions, read
from ner_lightning.readers.offsets import Entity, tags_of
from ner_lightning.tags import entities, to_iob2
from ner_lightning.words import split_words

DATA = Path(__file__).parents[3] / "shared/data"
TEXT = "Mira Toll left U.S. soil."

quick = settings(deadline=None, max_examples=200)


def tags(rows, record, **options):
    (row,) = rows("a.jsonl", json.dumps(record), **options)
    return dict(zip(row.words, row.tags, strict=True))


def in_text(row):
    """The entities of a row as `[start, end, type]`."""
    return [[row.spans[first].start, row.spans[last - 1].end, type_] for type_, first, last in entities(row.tags)]


MIRA = {"Mira": "B-PER", "Toll": "I-PER", "left": "O", "U": "B-LOC", ".": "O", "S": "I-LOC", "soil": "O"}


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT, "entities": [[0, 9, "PER"], [15, 19, "LOC"]]},
        {"text": TEXT, "label": [[15, 19, "LOC"], [0, 9, "PER"]]},
        {"text": TEXT, "labels": [{"start": 0, "end": 9, "labels": ["PER"]}, {"start": 15, "end": 19, "type": "LOC"}]},
        {"text": TEXT, "spans": [{"start": 0, "end": 9, "label": "PER"}, {"start": 15, "end": 19, "label": "LOC"}]},
        {
            "text": TEXT,
            "entities": [
                {"id": 1, "start_offset": 0, "end_offset": 9, "label": "PER"},
                {"id": 2, "start_offset": 15, "end_offset": 19, "label": "LOC"},
            ],
            "relations": [],
        },
        {
            "text": TEXT,
            "entities": [
                {"type": "PER", "start": 0, "end": 9, "text": "Mira Toll", "score": 0.9},
                {"type": "LOC", "start": 15, "end": 19, "text": "U.S.", "score": 0.8},
            ],
        },
        {
            "source_text": TEXT,
            "privacy_mask": [
                {"value": "Mira Toll", "start": 0, "end": 9, "label": "PER"},
                {"value": "U.S.", "start": 15, "end": 19, "label": "LOC"},
            ],
        },
        {"body": TEXT, "marks": [[0, 9, "PER"], [15, 19, "LOC"]]},
    ],
)
def test_entities_in_every_spelling_become_tags(rows, record):
    asked = {"text_column_name": "body", "label_column_name": "marks"} if "body" in record else {}
    (row,) = rows("a.jsonl", json.dumps(record), **asked)
    assert row.words == ["Mira", "Toll", "left", "U", ".", "S", ".", "soil", "."]
    assert row.tags == ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-LOC", "I-LOC", "O", "O"]
    assert (row.text, row.spans, row.record) == (TEXT, split_words(TEXT), record)


def test_offsets_count_characters_as_python_does(rows):
    assert tags(rows, {"text": "\U0001f600 Ada", "entities": [[2, 5, "PER"]]}) == {"\U0001f600": "O", "Ada": "B-PER"}


def test_white_space_at_a_border_is_no_matter(rows):
    record = {"text": "an Ada ran", "entities": [{"start": 2, "end": 7, "label": "PER", "text": "Ada"}]}
    assert tags(rows, record) == {"an": "O", "Ada": "B-PER", "ran": "O"}


def test_neighbours_of_one_type_stay_two(rows):
    assert tags(rows, {"text": "Ada Bo", "spans": [[0, 3, "PER"], [4, 6, "PER"]]}) == {"Ada": "B-PER", "Bo": "B-PER"}


def test_the_same_entity_twice_is_one(rows):
    assert tags(rows, {"text": "Ada", "spans": [[0, 3, "PER"], [0, 3, "PER"]]}) == {"Ada": "B-PER"}


def test_entities_without_a_type_get_the_given_one(rows):
    assert tags(rows, {"text": "Ada", "spans": [{"start": 0, "end": 3}]}, entity_type="X") == {"Ada": "B-X"}


def test_an_entity_is_widened_to_whole_words_where_that_is_asked(rows):
    record = {"text": "the Minskers and Tollites", "spans": [[4, 9, "LOC"], [19, 25, "PER"]]}
    found = tags(rows, record, span_alignment="expand")
    assert found == {"the": "O", "Minskers": "B-LOC", "and": "O", "Tollites": "B-PER"}


def test_the_longest_of_overlapping_entities_stays_where_that_is_asked(rows):
    record = {"text": "a bb c dd", "spans": [[0, 4, "X"], [2, 6, "Y"], [5, 9, "Z"], [7, 9, "W"]]}
    assert tags(rows, record, overlapping="longest") == {"a": "B-X", "bb": "I-X", "c": "B-Z", "dd": "I-Z"}
    record = {"text": "aa bb", "spans": [[0, 2, "X"], [0, 2, "Y"]]}
    assert tags(rows, record, overlapping="longest") == {"aa": "B-X", "bb": "O"}


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ({"start": 0}, r"expected a list of entities in spans, found \{'start': 0\}"),
        ([[0, 4]], r"entity 1: expected an object with start, end and label, or a list of these, found \[0, 4\]"),
        ([[0, 4, "PER"], "x"], "entity 2: expected an object with start, end and label, .*found 'x'"),
        ([["0", 4, "PER"]], "entity 1: expected the number of a character in start, found '0'"),
        ([[0, 4.0, "PER"]], "entity 1: expected the number of a character in end, found 4.0"),
        ([[True, 4, "PER"]], "entity 1: expected the number of a character in start, found True"),
        ([{"start": 0, "label": "PER"}], "entity 1: expected the number of a character in end, found none"),
        ([[0, 4, ""]], "entity 1: expected a type in label, found ''"),
        ([[0, 4, 3]], "entity 1: expected a type in label, found 3"),
        ([{"start": 0, "end": 4}], r"entity 1: expected a type in label, found none \(entity_type gives one"),
        ([{"start": 0, "end": 4, "labels": ["A", "B"]}], r"entity 1: expected a type in label, found \['A', 'B'\]"),
        ([[4, 4, "PER"]], r"entity 1 \(PER, 4 to 4\) is empty; expected 0 <= start < end"),
        ([[9, 4, "PER"]], r"entity 1 \(PER, 9 to 4\) ends before it begins"),
        ([[-2, 4, "PER"]], r"entity 1 \(PER, -2 to 4\) begins before the text"),
        ([[0, 4, "X"], [20, 26, "PER"]], r"entity 2 \(PER, 20 to 26\) ends behind the text of 25 characters; .*UTF-16"),
        ([[4, 5, "PER"]], r"entity 1 \(PER, 4 to 5\) holds no word, but ' '"),
        ([[0, 3, "PER"]], r"entity 1 \(PER, 0 to 3\) ends inside the word 'Mira' \(0 to 4\); .*span_alignment=expand"),
        ([[1, 9, "PER"]], r"entity 1 \(PER, 1 to 9\) begins inside the word 'Mira' \(0 to 4\)"),
        ([[6, 8, "PER"]], r"entity 1 \(PER, 6 to 8\) begins inside the word 'Toll' \(5 to 9\)"),
        (
            [[5, 14, "X"], [0, 9, "Y"]],
            r"entity 2 \(Y, 0 to 9\) and entity 1 \(X, 5 to 14\) overlap: both have the word 'Toll'; .*=longest",
        ),
        ([[0, 4, "X"], [0, 4, "Y"]], r"entity 1 \(X, 0 to 4\) and entity 2 \(Y, 0 to 4\) overlap: .*'Mira'"),
        (
            [{"start": 0, "end": 4, "label": "PER", "text": "Toll"}],
            r"entity 1 \(PER, 0 to 4\) has the text 'Toll', but 'Mira' stands there; offsets count characters",
        ),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_line(rows, spans, expected):
    content = json.dumps({"text": "", "spans": []}) + "\n\n" + json.dumps({"text": TEXT, "spans": spans})
    with pytest.raises(InputError, match=f"a.jsonl:3: {expected}"):
        rows("a.jsonl", content)


@st.composite
def annotated(draw):
    """A text, and entities that lie on its words, apart from each other."""
    text = draw(st.text("ab.é中 \n\u200b\U0001f600-", max_size=30))
    words, place, found = split_words(text), 0, []
    while place < len(words):
        length = draw(st.integers(1, 3))
        if draw(st.booleans()):
            last = words[min(place + length, len(words)) - 1]
            found.append([words[place].start, last.end, draw(st.sampled_from(["PER", "given name", "-"]))])
        place += length
    return text, found


@quick
@given(rows=st.lists(annotated(), min_size=1, max_size=4), array=st.booleans(), shuffled=st.randoms())
def test_entities_that_are_written_are_those_that_are_read(tmp_path_factory, rows, array, shuffled):
    path = tmp_path_factory.getbasetemp() / "offsets.jsonl"
    records = [{"text": text, "spans": shuffled.sample(found, len(found))} for text, found in rows]
    lines = [json.dumps(record) for record in records]
    path.write_text("[" + ",\n".join(lines) + "]" if array else "\n".join(lines))
    assert [(row.text, in_text(row)) for row in read(path)] == [(text, found) for text, found in rows]


@quick
@given(
    text=st.text("ab. ", max_size=12),
    offsets=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from("XY")), max_size=5),
    expand=st.booleans(),
)
def test_the_longest_entities_stay_and_no_two_share_a_word(text, offsets, expand):
    words = split_words(text)
    options = ReadOptions(span_alignment="expand" if expand else "strict", overlapping="longest")
    given = [Entity(type_, start, end, None, "a", "e") for start, end, type_ in offsets]

    def covered(entity):
        return [w for w in words if w.start < entity.end and entity.start < w.end]

    def fits(entity):
        touched = covered(entity)
        whole = expand or (touched and entity.start <= touched[0].start and touched[-1].end <= entity.end)
        return entity.start < entity.end <= len(text) and touched and whole

    if not all(map(fits, given)):
        with pytest.raises(InputError):
            tags_of(text, words, given, options)
        return
    kept = []
    for entity in sorted(given, key=lambda e: covered(e)[0].start - covered(e)[-1].end):
        if not any(set(covered(entity)) & set(covered(other)) for other in kept):
            kept.append(entity)
    expected = sorted((covered(e)[0].start, covered(e)[-1].end, e.type) for e in kept)
    found = entities(tags_of(text, words, given, options))
    assert [(words[first].start, words[last - 1].end, type_) for type_, first, last in found] == expected


# a column file as text with offsets


def as_offsets(words, iob2):
    """The record of a sentence: its words with spaces between them."""
    starts = [sum(len(word) + 1 for word in words[:place]) for place in range(len(words))]
    found = [
        {"start": starts[first], "end": starts[last - 1] + len(words[last - 1]), "label": type_}
        for type_, first, last in entities(iob2)
    ]
    return {"text": " ".join(words), "entities": found}


word = st.text(st.characters(codec="utf-8", exclude_characters=" \t\r\n\v\f\0\ufeff"), min_size=1, max_size=5)
tag = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
sentences = st.lists(st.lists(st.tuples(word, tag), min_size=1, max_size=6), min_size=1, max_size=3)


@quick
@given(sentences=sentences)
def test_between_spaces_the_words_and_tags_are_those_of_the_column_file(tmp_path_factory, sentences):
    folder = tmp_path_factory.getbasetemp()
    columns, offsets = folder / "same.conll", folder / "same.jsonl"
    columns.write_bytes("\n".join("".join(f"{w} {t}\n" for w, t in one) for one in sentences).encode())
    if any(w == "-DOCSTART-" for one in sentences for w, _ in one):
        return
    expected = [(row.words, to_iob2(row.tags, scheme="IOB2")) for row in read(columns)]
    offsets.write_text("".join(json.dumps(as_offsets(*pair)) + "\n" for pair in expected))
    found = read(offsets, options=ReadOptions(split_at="spaces"))
    assert [(row.words, row.tags) for row in found] == expected


@pytest.mark.corpora
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real corpora are not at {DATA}")
def test_a_real_column_file_as_offsets_has_the_same_entities(tmp_path):
    columns = [(row.words, to_iob2(row.tags, scheme="IOB1")) for row in read(DATA / "conll2003/eng.testb")]
    records = [as_offsets(*pair) for pair in columns]
    path = tmp_path / "testb.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert [(row.words, row.tags) for row in read(path, options=ReadOptions(split_at="spaces"))] == columns
    expected = [[[e["start"], e["end"], e["label"]] for e in record["entities"]] for record in records]
    assert [in_text(row) for row in read(path)] == expected
    assert sum(map(len, expected)) == 5_648
