"""Entities of labelled rows: offsets that are right, spaces that stay, colours that mean something."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.predict.entities import EntityReader, LabelledRow
from ner_lightning.readers import Row
from ner_lightning.words import Span

READER = EntityReader(["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"])
WORDS = "Edda Voss of Pell Union left Tarnby .".split()
TAGS = "B-PER I-PER O B-ORG I-ORG O B-LOC O".split()


def given_words(words, labels, scores=None):
    row = Row(words, None, None, None, None, "here", None, {})
    return LabelledRow(row, labels, scores or [0.5] * len(words))


def in_text(text, words, labels, scores=None):
    spans, place = [], 0
    for word in words:
        place = text.index(word, place)
        spans.append(Span(place, place + len(word)))
        place += len(word)
    return LabelledRow(Row(words, None, text, spans, None, "here", None, {}), labels, scores or [0.5] * len(words))


def places(entities):
    return [(entity["type"], entity["start"], entity["end"], entity["score"]) for entity in entities]


def test_the_score_of_an_entity_is_the_product_of_its_words():
    labelled = given_words(WORDS[:4], ["O", "B-PER", "I-PER", "O"], [0.9, 0.5, 1.0, 0.9])
    assert places(READER.as_dicts(labelled)) == [("PER", 1, 3, 0.5)]


def test_labels_of_words_are_entities_of_one_word_but_for_o():
    reader = EntityReader(["O", "NOUN", "VERB"])
    assert reader.types == ["NOUN", "VERB"]
    labelled = given_words(WORDS[:4], ["NOUN", "NOUN", "O", "VERB"], [0.1, 0.2, 0.3, 0.4])
    assert places(reader.as_dicts(labelled)) == [("NOUN", 0, 1, 0.1), ("NOUN", 1, 2, 0.2), ("VERB", 3, 4, 0.4)]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]), max_size=12))
def test_entities_are_those_of_seqeval(labels):
    from seqeval.metrics.sequence_labeling import get_entities

    found = READER.as_dicts(given_words(["x"] * len(labels), labels))
    assert [(entity["type"], entity["start"], entity["end"] - 1) for entity in found] == get_entities(labels)


def test_offsets_of_a_text_are_characters():
    text = '  Édda\tVoss, "Tarnby"'
    labels = "B-PER I-PER O O B-LOC O".split()
    labelled = in_text(text, ["Édda", "Voss", ",", '"', "Tarnby", '"'], labels, [0.5, 1, 1, 1, 1 / 3, 1])
    assert READER.as_dicts(labelled) == [
        {"type": "PER", "text": "Édda\tVoss", "start": 2, "end": 11, "score": 0.5},
        {"type": "LOC", "text": "Tarnby", "start": 14, "end": 20, "score": 0.333333},
    ]


def test_offsets_of_given_words_are_words_or_characters_of_the_text_that_they_make():
    labelled = given_words(WORDS, TAGS)
    found = READER.as_dicts(labelled)
    assert [(e["type"], " ".join(WORDS[e["start"] : e["end"]])) for e in found] == [
        ("PER", "Edda Voss"),
        ("ORG", "Pell Union"),
        ("LOC", "Tarnby"),
    ]
    text = " ".join(WORDS)
    for entity, other in zip(found, READER.in_text(labelled), strict=True):
        assert text[other["start"] : other["end"]] == entity["text"] == other["text"]


def test_a_row_without_words_has_no_entities():
    assert READER.as_dicts(in_text("", [], [])) == READER.as_dicts(given_words([], [])) == []


# for people


def test_entities_stand_in_brackets():
    shown = READER.render(given_words(WORDS, TAGS), colour=False)
    assert shown == "[Edda Voss PER] of [Pell Union ORG] left [Tarnby LOC] ."


def test_a_text_keeps_its_own_spaces():
    words = ['"', "Edda", "Voss", '"', "left", "Tarnby", "."]
    labelled = in_text(' "Edda  Voss" left\tTarnby.\n', words, "O B-PER I-PER O O B-LOC O".split())
    assert READER.render(labelled, colour=False) == ' "[Edda  Voss PER]" left\t[Tarnby LOC].\n'


def backgrounds(shown):
    return [part.split("m")[0] for part in shown.split("\033[30;48;5;")[1:]]


def test_entities_stand_in_colour():
    shown = READER.render(given_words(WORDS, TAGS), colour=True)
    assert len(set(backgrounds(shown))) == 3
    assert shown.count("\033[0m") == 3
    plain = shown
    for code in ["\033[0m", "\033[1m", *(f"\033[30;48;5;{number}m" for number in backgrounds(shown))]:
        plain = plain.replace(code, "")
    assert plain.split() == "Edda Voss PER of Pell Union ORG left Tarnby LOC .".split()


def test_a_type_has_one_colour_in_all_rows():
    one, other = (
        backgrounds(READER.render(given_words(["Hal"] * len(labels), labels), colour=True))
        for labels in (["B-PER", "O", "B-PER"], ["B-LOC", "B-PER"])
    )
    assert one[0] == one[1] == other[1] != other[0]


def test_neighbouring_entities_stay_apart():
    assert READER.render(given_words(["Edda", "Hal"], ["B-PER", "B-PER"]), colour=False) == "[Edda PER] [Hal PER]"


@pytest.mark.parametrize("colour", [True, False])
def test_words_without_entities_stay_as_they_are(colour):
    assert READER.render(given_words(WORDS, ["O"] * len(WORDS)), colour=colour) == " ".join(WORDS)
    assert READER.render(given_words([], []), colour=colour) == ""
