"""The words of plain text: those of BERT's tokenizers themselves, and the same rule for all others."""

import unicodedata
from itertools import groupby, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ner_lightning.words import Span, find_words, split_words

# letters, digits, marks, symbols, Chinese, white space of several kinds, and what BERT drops
ALPHABET = "abZ9éß€½한אб中國々ー😀.,'-_&…“。\u0301 \t\n\r\u00a0\u2028\u3000\u200b\x07\x0b"

quick = settings(deadline=None, max_examples=300)
texts = st.text(ALPHABET, max_size=20) | st.text(
    st.characters(max_codepoint=0x2FF, exclude_characters="`"), max_size=12
)


def word_piece(*, lowercase):
    """BERT's tokenizer with a piece for each character of the alphabet."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertTokenizerFast

    characters = {c for text in (ALPHABET, ALPHABET.lower()) for c in text + unicodedata.normalize("NFD", text)}
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted(characters),
        *(f"##{c}" for c in sorted(characters)),
    ]
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=lowercase)


@pytest.fixture(scope="module")
def tokenizers():
    return {lowercase: word_piece(lowercase=lowercase) for lowercase in (False, True)}


def found(tokenizer, text):
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded, *find_words(text, encoded.offset_mapping, encoded.word_ids())


@quick
@given(text=texts, lowercase=st.booleans())
@example("(Bralex)中國's R2D2…", True)
@example("a\u200bb .\u200bb a\x0bb", False)  # what is dropped parts nothing
@example("\u0301 e\u0301", False)
def test_they_are_those_of_the_tokenizer_where_it_knows_words(tokenizers, text, lowercase):
    encoded, spans, word_of = found(tokenizers[lowercase], text)
    assert word_of == encoded.word_ids()
    for word, pieces in groupby(zip(word_of, encoded.offset_mapping, strict=True), key=lambda pair: pair[0]):
        offsets = [offset for _, offset in pieces]
        assert spans[word] == (offsets[0][0], max(end for _, end in offsets))


@quick
@given(text=texts, lowercase=st.booleans())
def test_they_stand_apart_and_hold_no_white_space_and_nothing_but_dropped_characters_is_between(
    tokenizers, text, lowercase
):
    _, spans, _ = found(tokenizers[lowercase], text)
    assert all(left.end <= right.start for left, right in pairwise(spans))
    assert all(text[start:end].strip(" \t\n\r\u00a0\u2028\u3000") == text[start:end] != "" for start, end in spans)
    between = [0, *(place for span in spans for place in span), len(text)]
    rest = "".join(text[start:end] for start, end in zip(between[::2], between[1::2], strict=True))
    assert not any(c.isalnum() and c.isascii() for c in rest)


def words(text, offsets, owners=None):
    spans, word_of = find_words(text, offsets, owners if owners is not None else list(range(len(offsets))))
    return [text[start:end] for start, end in spans], word_of


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        ("Tallinn.", [(0, 7), (7, 8)], ["Tallinn", "."]),  # one word to a sentencepiece tokenizer
        ("R2D2", [(0, 1), (1, 2), (2, 3), (3, 4)], ["R2D2"]),  # four words to a byte-level tokenizer
        ("to  Arvenholm", [(0, 2), (2, 3), (3, 6), (6, 13)], ["to", "Arvenholm"]),
        (" to Ar", [(0, 3), (3, 6)], ["to", "Ar"]),  # the space stands in the sub-word behind it
        ("to Ar ", [(0, 3), (3, 6)], ["to", "Ar"]),  # or before it
        ("中國x", [(0, 2), (2, 3)], ["中國", "x"]),  # a sub-word is never cut
        ("don't", [(0, 3), (3, 5)], ["don", "'t"]),
    ],
)
def test_one_rule_for_the_sub_words_of_any_tokenizer(text, offsets, expected):
    assert words(text, offsets)[0] == expected


def test_sub_words_of_one_character_are_one_word():
    text = "中!"
    assert words(text, [(0, 1), (0, 1), (0, 1), (1, 2)]) == (["中", "!"], [0, 0, 0, 1])


def test_a_sign_of_a_start_alone_belongs_to_the_word_that_the_tokenizer_says():
    text = "a  中"
    assert words(text, [(0, 1), (1, 2), (2, 3), (3, 4)], [0, 1, 2, 2]) == (["a", "中"], [0, -1, 1, 1])


def test_what_has_no_place_of_its_own_within_a_word_belongs_to_it():
    assert words("a\x0bb", [(0, 1), (1, 1), (2, 3)]) == (["a\x0bb"], [0, 0, 0])


def test_white_space_alone_has_no_words():
    assert find_words(" \n", [(0, 1), (1, 2)], [0, 0]) == ([], [-1, -1])
    assert find_words("", [], []) == ([], [])


def test_a_word_is_where_it_stands_in_the_text():
    assert find_words(" (Mira)", [(1, 2), (2, 4), (4, 6), (6, 7)], [0, 1, 1, 2]) == (
        [Span(1, 2), Span(2, 6), Span(6, 7)],
        [0, 1, 1, 2],
    )


# without a tokenizer


def known(character):
    """BERT's tokenizer has tables of Unicode 8: take what has been in the same class since before and after it."""
    old, new = unicodedata.ucd_3_2_0.category(character), unicodedata.category(character)
    return old[0] == new[0] and (old != "Cn" or "\U0002a6e0" <= character <= "\U0002b81f")


any_text = st.text(ALPHABET, max_size=30) | st.text(st.characters(codec="utf-8").filter(known), max_size=12)


@quick
@given(text=any_text)
@example("a\u200bb \u200b. \u200b \u200ba\u200b \ufffd\x00 \ue000x \x0b\x85\u2028")
@example("\u0301 e\u0301 \U0002a6d0\U0002b740x \uff01\u3000")
def test_without_a_tokenizer_they_are_those_of_bert(tokenizers, text):
    tokenizer = tokenizers[False].backend_tokenizer
    expected = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    spans = split_words(text)
    kept = {c: tokenizer.normalizer.normalize_str(c).strip() for c in text}
    assert ["".join(kept[c] for c in text[start:end]) for start, end in spans] == [word for word, _ in expected]
    assert all(kept[text[start]] and kept[text[end - 1]] for start, end in spans)


@quick
@given(text=st.text(ALPHABET, max_size=20))
def test_with_and_without_a_tokenizer_they_stand_in_the_same_places(tokenizers, text):
    assert split_words(text) == found(tokenizers[False], text)[1]


def test_a_word_is_never_of_dropped_characters_alone():
    assert split_words("\u200b a\u200bb\u200b, \x07\ufffd") == [Span(2, 5), Span(6, 7)]
    assert split_words("") == split_words(" \n\u3000") == []
