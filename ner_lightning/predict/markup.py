"""Entities marked in their text, as HTML for notebooks and for the page of `demo`; it needs no style sheet.

What `Tagger` returns are lists that a notebook shows so. In all else they are lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from ner_lightning.notebook import table
from ner_lightning.predict.entities import COLOURS, text_of
from ner_lightning.readers import Row

_SHOWN = 100  # inputs, or words of one
_STEPS = (0, 95, 135, 175, 215, 255)  # of a terminal's palette, whose colours 16 to 231 are a cube of them
_TEXT = "white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9"
_MARK = "color: #111; padding: 0.15em 0.3em; border-radius: 0.3em; box-decoration-break: clone"
_SMALL = "color: #111; font-weight: 600; white-space: nowrap"  # against style sheets of dark pages


def marked(text: str, entities: Iterable[dict[str, Any]], types: Sequence[str]) -> str:
    """A text with its entities on coloured ground, each with its type and score.

    Args:
        text: The text.
        entities: In their order, each with `type`, `start`, `end` and `score`, counted in characters.
        types: All types, which have their colours by their order.
    """
    parts: list[str] = []
    place = 0
    for entity in entities:
        start, end = entity["start"], entity["end"]
        ground = _hexadecimal(COLOURS[types.index(entity["type"]) % len(COLOURS)])
        told = f'<small style="{_SMALL}">{escape(entity["type"])} {entity["score"]:.2f}</small>'
        parts.append(escape(text[place:start]))
        parts.append(f'<mark style="background: {ground}; {_MARK}">{escape(text[start:end])} {told}</mark>')
        place = end
    return f'<div dir="auto" style="{_TEXT}">{"".join(parts)}{escape(text[place:])}</div>'


class TaggedWord(NamedTuple):
    """A word, its label, and how probable that is."""

    word: str
    label: str
    score: float


class Entities(list[dict[str, Any]]):
    """The entities of an input; a notebook shows them marked in its text.

    Args:
        entities: As they are returned.
        row: The input.
        types: All types of the model.
    """

    def __init__(self, entities: Iterable[dict[str, Any]], *, row: Row, types: Sequence[str]) -> None:
        super().__init__(entities)
        self._row, self._types = row, types

    def _repr_html_(self) -> str:
        text, spans = text_of(self._row)
        placed: list[dict[str, Any]] = list(self)
        if self._row.spans is None:  # they count words
            placed = [
                each | {"start": spans[each["start"]].start, "end": spans[each["end"] - 1].end} for each in placed
            ]
        return marked(text, placed, self._types)


class TaggedWords(list[TaggedWord]):
    """The words of an input with their labels; a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        rows = [[word, label, f"{score:.4f}"] for word, label, score in self[:_SHOWN]]
        return table(["word", "label", "score"], rows, left=2) + _rest(len(self), "words")


class OfSeveral(list[Any]):
    """What was found in several inputs; a notebook shows one below the other."""

    def _repr_html_(self) -> str:
        return "".join(each._repr_html_() for each in self[:_SHOWN]) + _rest(len(self), "inputs")


def _rest(number: int, of_what: str) -> str:
    return f"<p>and {number - _SHOWN:,} {of_what} more</p>" if number > _SHOWN else ""


def _hexadecimal(number: int) -> str:
    red, green, blue = ((number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6)
    return f"#{_STEPS[red]:02x}{_STEPS[green]:02x}{_STEPS[blue]:02x}"
