"""The words of plain text and where they stand in it. Uses characters and their offsets only."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple


class Span(NamedTuple):
    """The characters `[start, end)` of a text."""

    start: int
    end: int


def split_words(text: str) -> list[Span]:
    """Split a text by the rule of BERT's tokenizers, without a tokenizer.

    Words stand between white space; punctuation marks and Chinese characters are words of their own. Characters that
    BERT drops (control characters, U+FFFD) part nothing: they stay inside a word, but none begins or ends with one.

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


def find_words(
    text: str, offsets: Sequence[tuple[int, int]], owners: Sequence[int | None]
) -> tuple[list[Span], list[int]]:
    """Find the words of a text, for a tokenizer of any kind.

    A word begins with the first sub-word behind white space or at the start of the text, with one that begins with a
    punctuation mark or a Chinese character, and with one right behind these; all other sub-words go on with the word
    before them. For BERT's tokenizers these are the words that they cut the text into themselves and that
    `transformers.pipeline` puts together: what stands between white space, punctuation marks and Chinese characters
    each alone. White space belongs to no word, nor do characters that the tokenizer drops, so that `text[start:end]`
    is the word as it was written and what lies between words is left as it is.

    Args:
        text: The text.
        offsets: Characters `[start, end)` of each sub-word.
        owners: What the tokenizer itself takes for the word of each sub-word; it decides only whose sign of a word's
            start a sub-word is that holds white space and nothing else.

    Returns:
        Where the words stand in the text, and for each sub-word the position of its word among them, -1 for none.
    """
    spans: list[Span] = []
    word_of = [-1] * len(offsets)
    for piece, (start, end) in enumerate(offsets):
        while start < end and _is_space(text[start]):
            start += 1
        while start < end and _is_space(text[end - 1]):
            end -= 1
        if start == end:
            continue
        last = spans[-1] if spans else None
        # of a character that became several sub-words each has the same place
        if last is not None and (start < last.end or not _begins(text, last.end, start)):
            spans[-1] = Span(last.start, max(last.end, end))
            before = piece - 1
            while word_of[before] < 0:  # what is between sub-words of a word belongs to it
                word_of[before] = len(spans) - 1
                before -= 1
        else:
            spans.append(Span(start, end))
            before = piece - 1
            if before >= 0 and word_of[before] < 0 and owners[before] == owners[piece]:
                word_of[before] = len(spans) - 1
        word_of[piece] = len(spans) - 1
    return spans, word_of


def _begins(text: str, end: int, start: int) -> bool:
    """Whether a sub-word at `start` begins a word, where the one before it ends at `end`."""
    return _stands_alone(text[start]) or _stands_alone(text[end - 1]) or any(map(_is_space, text[end:start]))


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
