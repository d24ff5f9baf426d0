"""The words of plain text: those of BERT's tokenizers, without a tokenizer."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ner_lightning.words import Span, split_words

# letters, digits, marks, symbols, Chinese, white space of several kinds, and what BERT drops
ALPHABET = "abZ9éß€½한אб中國々ー😀.,'-_&…“。\u0301 \t\n\r\u00a0\u2028\u3000\u200b\x07\x0b"

quick = settings(deadline=None, max_examples=300)
texts = st.text(ALPHABET, max_size=20) | st.text(
    st.characters(max_codepoint=0x2FF, exclude_characters="`"), max_size=12
)


def word_piece():
    """BERT's tokenizer with a piece for each character of the alphabet."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertTokenizerFast

    characters = set(ALPHABET + unicodedata.normalize("NFD", ALPHABET))
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
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=False)


@pytest.fixture(scope="module")
def tokenizer():
    return word_piece().backend_tokenizer


def known(character):
    """BERT's tokenizer has tables of Unicode 8: take what has been in the same class since before and after it."""
    old, new = unicodedata.ucd_3_2_0.category(character), unicodedata.category(character)
    return old[0] == new[0] and (old != "Cn" or "\U0002a6e0" <= character <= "\U0002b81f")


any_text = st.text(ALPHABET, max_size=30) | st.text(st.characters(codec="utf-8").filter(known), max_size=12)


@quick
@given(text=any_text)
@example("a\u200bb \u200b. \u200b \u200ba\u200b \ufffd\x00 \ue000x \x0b\x85\u2028")
@example("\u0301 e\u0301 \U0002a6d0\U0002b740x \uff01\u3000")
def test_they_are_those_of_bert(tokenizer, text):
    expected = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    spans = split_words(text)
    kept = {c: tokenizer.normalizer.normalize_str(c).strip() for c in text}
    assert ["".join(kept[c] for c in text[start:end]) for start, end in spans] == [word for word, _ in expected]
    assert all(kept[text[start]] and kept[text[end - 1]] for start, end in spans)


@quick
@given(text=texts)
def test_they_stand_apart_and_hold_no_white_space_and_nothing_but_dropped_characters_is_between(text):
    spans = split_words(text)
    assert all(left.end <= right.start for left, right in pairwise(spans))
    assert all(text[start:end].strip(" \t\n\r\u00a0\u2028\u3000") == text[start:end] != "" for start, end in spans)
    between = [0, *(place for span in spans for place in span), len(text)]
    rest = "".join(text[start:end] for start, end in zip(between[::2], between[1::2], strict=True))
    assert not any(c.isalnum() and c.isascii() for c in rest)


def test_a_word_is_never_of_dropped_characters_alone():
    assert split_words("\u200b a\u200bb\u200b, \x07\ufffd") == [Span(2, 5), Span(6, 7)]
    assert split_words("") == split_words(" \n\u3000") == []
