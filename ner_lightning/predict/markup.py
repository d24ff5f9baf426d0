"""Entities marked in their text, as HTML for notebooks and for the page of `demo`; it needs no style sheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ner_lightning.predict.entities import COLOURS

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


def _hexadecimal(number: int) -> str:
    red, green, blue = ((number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6)
    return f"#{_STEPS[red]:02x}{_STEPS[green]:02x}{_STEPS[blue]:02x}"
