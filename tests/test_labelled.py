"""Labelled rows as text: offsets that are right, spaces that stay, colours that mean something."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.labelled import EntityReader, LabelledRow, as_colours, as_columns, as_json, render
from ner_lightning.predict_file import Row
from ner_lightning.readers.columns import read_sentences
from ner_lightning.words import Span

LABELS = ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
READER = EntityReader(LABELS)
WORDS = "Edda Voss of Pell Union left Tarnby .".split()
TAGS = "B-PER I-PER O B-ORG I-ORG O B-LOC O".split()


def given_words(words, labels, **record):
    return LabelledRow(Row(None, words, record), None, labels, [0.5] * len(words))


def in_text(text, words, labels, scores=None, **record):
    spans, place = [], 0
    for word in words:
        place = text.index(word, place)
        spans.append(Span(place, place + len(word)))
        place += len(word)
    return LabelledRow(Row(text, [], record or {"text": text}), spans, labels, scores or [0.5] * len(words))


# entities


def test_the_score_of_an_entity_is_the_mean_of_its_words():
    (found,) = READER.find(["O", "B-PER", "I-PER", "O"], [0.9, 0.5, 1.0, 0.9])
    assert found == ("PER", 1, 3, 0.75)


def test_labels_of_words_are_entities_of_one_word_but_for_o():
    reader = EntityReader(["O", "NOUN", "VERB"])
    assert reader.types == ["NOUN", "VERB"]
    assert reader.find(["NOUN", "NOUN", "O", "VERB"], [0.1, 0.2, 0.3, 0.4]) == [
        ("NOUN", 0, 1, 0.1),
        ("NOUN", 1, 2, 0.2),
        ("VERB", 3, 4, 0.4),
    ]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(LABELS), max_size=12))
def test_entities_are_those_of_seqeval(labels):
    from seqeval.metrics.sequence_labeling import get_entities

    found = [(type_, start, end - 1) for type_, start, end, _ in READER.find(labels, [1.0] * len(labels))]
    assert found == get_entities(labels)


# JSON


def test_offsets_of_a_text_are_characters():
    text = '  Édda\tVoss, "Tarnby"'
    labels = "B-PER I-PER O O B-LOC O".split()
    line = as_json(
        in_text(text, ["Édda", "Voss", ",", '"', "Tarnby", '"'], labels, [0.5, 1, 1, 1, 1 / 3, 1]), reader=READER
    )
    row = json.loads(line)
    assert row["text"] == text
    assert row["entities"] == [
        {"type": "PER", "start": 2, "end": 11, "text": "Édda\tVoss", "score": 0.75},
        {"type": "LOC", "start": 14, "end": 20, "text": "Tarnby", "score": 0.333333},
    ]
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in row["entities"])
    assert "É" in line
    assert line.count("\n") == 1


def test_offsets_of_given_words_are_words_and_the_fields_of_the_row_stay():
    row = json.loads(as_json(given_words(WORDS, TAGS, id=7, tokens=WORDS), reader=READER))
    assert list(row) == ["id", "tokens", "tags", "entities"]
    assert (row["id"], row["tokens"], row["tags"]) == (7, WORDS, TAGS)
    assert [(e["type"], WORDS[e["start"] : e["end"]], e["text"]) for e in row["entities"]] == [
        ("PER", ["Edda", "Voss"], "Edda Voss"),
        ("ORG", ["Pell", "Union"], "Pell Union"),
        ("LOC", ["Tarnby"], "Tarnby"),
    ]


def test_a_row_without_words_has_no_entities():
    assert json.loads(as_json(in_text("", [], []), reader=READER)) == {"text": "", "entities": []}
    assert json.loads(as_json(given_words([], [], tokens=[]), reader=READER)) == {
        "tokens": [],
        "tags": [],
        "entities": [],
    }


# columns


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("ab \t\n\r\u2028", min_size=1, max_size=4), min_size=1, max_size=6))
def test_columns_are_read_back_whatever_is_in_a_word(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("columns") / "out.conll"
    labels = ["B-PER"] * len(words)
    path.write_bytes((as_columns(given_words(words, labels)) + as_columns(given_words(["x"], ["O"]))).encode())
    first, second = read_sentences(path)
    assert first.words == [" ".join(word.split()) or "_" for word in words]
    assert (first.tags, second.words, second.tags) == (labels, ["x"], ["O"])


def test_columns_of_a_row_without_words_are_a_blank_line():
    assert as_columns(in_text("", [], [])) == "\n"


# for people


def test_entities_stand_in_brackets():
    shown = render(given_words(WORDS, TAGS), reader=READER, colour=False)
    assert shown == "[Edda Voss PER] of [Pell Union ORG] left [Tarnby LOC] ."


def test_a_text_keeps_its_own_spaces():
    text = ' "Edda  Voss" left\tTarnby.\n'
    words = ['"', "Edda", "Voss", '"', "left", "Tarnby", "."]
    shown = render(in_text(text, words, "O B-PER I-PER O O B-LOC O".split()), reader=READER, colour=False)
    assert shown == ' "[Edda  Voss PER]" left\t[Tarnby LOC].\n'


def backgrounds(shown):
    return [part.split("m")[0] for part in shown.split("\033[30;48;5;")[1:]]


def test_entities_stand_in_colour():
    shown = as_colours(given_words(WORDS, TAGS), reader=READER)
    assert len(set(backgrounds(shown))) == 3
    assert shown.count("\033[0m") == 3
    plain = shown
    for code in ["\033[0m", "\033[1m", *(f"\033[30;48;5;{number}m" for number in backgrounds(shown))]:
        plain = plain.replace(code, "")
    assert plain.split() == "Edda Voss PER of Pell Union ORG left Tarnby LOC .".split()
    assert shown.endswith("\n")


def test_a_type_has_one_colour_in_all_rows():
    one, other = (
        backgrounds(as_colours(given_words(["Hal"] * len(labels), labels), reader=READER))
        for labels in (["B-PER", "O", "B-PER"], ["B-LOC", "B-PER"])
    )
    assert one[0] == one[1] == other[1] != other[0]


def test_neighbouring_entities_stay_apart():
    shown = render(given_words(["Edda", "Hal"], ["B-PER", "B-PER"]), reader=READER, colour=False)
    assert shown == "[Edda PER] [Hal PER]"


@pytest.mark.parametrize("colour", [True, False])
def test_words_without_entities_stay_as_they_are(colour):
    assert render(given_words(WORDS, ["O"] * len(WORDS)), reader=READER, colour=colour) == " ".join(WORDS)
    assert render(given_words([], []), reader=READER, colour=colour) == ""
