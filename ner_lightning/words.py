"""The words of plain text and where they stand in it. Uses characters and their offsets only."""

import unicodedata
from functools import lru_cache
from typing import Literal, NamedTuple


class Span(NamedTuple):
    """The characters `[start, end)` of a text."""

    start: int
    end: int


def split_words(text: str) -> list[Span]:
    """Split a text by the rule of BERT's tokenizers, without a tokenizer.

    Words are separated by white space; punctuation marks and Chinese characters are words of their own. Characters that
    BERT drops (control characters, U+FFFD) separate nothing: they stay inside a word, but none begins or ends with one.

    Args:
        text: The text.

    >>> [text[start:end] for text in ["Mira's U.S. visit"] for start, end in split_words(text)]
    ['Mira', "'", 's', 'U', '.', 'S', '.', 'visit']
    """
    spans = []
    start = end = -1  # of the word that is read; -1 for none
    for place, character in enumerate(text):
        kind = _kind(character)
        if kind == "inside":
            end = place + 1
            if start < 0:
                start = place
        elif kind != "dropped":
            if start >= 0:
                spans.append(Span(start, end))
                start = -1
            if kind == "alone":
                spans.append(Span(place, place + 1))
    if start >= 0:
        spans.append(Span(start, end))
    return spans


# The classes of BERT's own tokenizer: other control characters than these three it drops, wherever they stand.


@lru_cache(maxsize=4096)
def _is_space(character: str) -> bool:
    return character in "\t\n\r" or unicodedata.category(character).startswith("Z")


_ASCII_MARKS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@lru_cache(maxsize=4096)
def _stands_alone(character: str) -> bool:
    return (
        character in _ASCII_MARKS
        or unicodedata.category(character).startswith("P")
        or any(first <= ord(character) <= last for first, last in _CHINESE)
    )


@lru_cache(maxsize=4096)
def _kind(character: str) -> Literal["space", "alone", "dropped", "inside"]:
    if _is_space(character):
        return "space"
    if _stands_alone(character):
        return "alone"
    dropped = character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs")
    return "dropped" if dropped else "inside"
