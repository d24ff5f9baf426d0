"""Labelled rows, and the entities in them: as dictionaries, or marked in the text for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ner_lightning import tags
from ner_lightning.readers import Row
from ner_lightning.words import Span

# background colours of a terminal (256-colour palette), dealt to the types in alphabetical order
COLOURS = (153, 186, 217, 158, 223, 189, 150, 224)


class LabelledRow(NamedTuple):
    """A row and what was predicted for its words.

    Args:
        row: As it was read.
        labels: Of each word.
        scores: How probable each label is.
    """

    row: Row
    labels: list[str]
    scores: list[float]


class EntityReader:
    """Read entities from the labels of words.

    Args:
        labels: All label names of the model. Where they mark each word alone (POS), each word is an entity of its
            label, but for O.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._mark_entities = tags.is_entity_scheme(labels)
        self.types = sorted({entity.type for label in labels for entity in self._find([label])})

    def as_dicts(self, labelled: LabelledRow) -> list[dict[str, Any]]:
        """The entities of a row, each with `type`, `text`, `start`, `end` and `score`.

        Start and end count characters of the text; where the words were given, they count words, and `text` is these
        words with spaces between them. The score is the probability of the labels: the product of theirs.

        Args:
            labelled: The row.
        """
        entities = self.in_text(labelled)
        if labelled.row.spans is None:
            for entity, (_, first, last) in zip(entities, self._find(labelled.labels), strict=True):
                entity.update(start=first, end=last)
        return entities

    def in_text(self, labelled: LabelledRow) -> list[dict[str, Any]]:
        """The same, with characters where the words were given, too: of these words with spaces between them.

        Args:
            labelled: The row.
        """
        text, spans = text_of(labelled.row)
        entities = []
        for type_, first, last in self._find(labelled.labels):
            start, end = spans[first].start, spans[last - 1].end
            score = round(math.prod(labelled.scores[first:last]), 6)
            entities.append({"type": type_, "text": text[start:end], "start": start, "end": end, "score": score})
        return entities

    def render(self, labelled: LabelledRow, *, colour: bool) -> str:
        """The text of a row with its entities marked; words that were given with spaces between them.

        Args:
            labelled: The row.
            colour: Mark by background colour, for a terminal; otherwise by brackets.
        """
        text, spans = text_of(labelled.row)
        parts: list[str] = []
        place = 0
        for type_, first, last in self._find(labelled.labels):
            start, end = spans[first].start, spans[last - 1].end
            parts.append(text[place:start])
            if colour:
                background = COLOURS[self.types.index(type_) % len(COLOURS)]
                parts.append(f"\033[30;48;5;{background}m {text[start:end]} \033[1m{type_} \033[0m")
            else:
                parts.append(f"[{text[start:end]} {type_}]")
            place = end
        return "".join([*parts, text[place:]])

    def _find(self, labels: Sequence[str]) -> list[tags.Entity]:
        if self._mark_entities:
            return tags.entities(labels)
        return [tags.Entity(label, word, word + 1) for word, label in enumerate(labels) if label != "O"]


def text_of(row: Row) -> tuple[str, list[Span]]:
    """The text of a row and where its words stand in it; words that were given have spaces between them.

    Args:
        row: The row.
    """
    if row.text is not None and row.spans is not None:
        return row.text, row.spans
    spans, start = [], 0
    for word in row.words:
        spans.append(Span(start, start + len(word)))
        start += len(word) + 1
    return " ".join(row.words), spans
