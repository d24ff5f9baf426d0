"""Rows with predicted labels, as text: columns, JSON lines, or coloured for a terminal.

It knows what a row and a label are, and nothing of how labels are found or where the text goes.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ner_lightning import tags
from ner_lightning.predict_file import Row
from ner_lightning.words import Span

# background colours of a terminal (256-colour palette), dealt to the types in alphabetical order
_COLOURS = (153, 186, 217, 158, 223, 189, 150, 224)


class Found(NamedTuple):
    """The words `[start, end)` of a row as an entity, and the mean of how probable their labels are."""

    type: str
    start: int
    end: int
    score: float


class LabelledRow(NamedTuple):
    """A row and what was predicted for its words.

    Args:
        row: As it was read.
        spans: Where the words stand in its text; None where the words were given.
        labels: Of each word.
        scores: How probable each label is.
    """

    row: Row
    spans: list[Span] | None
    labels: list[str]
    scores: list[float]

    @property
    def words(self) -> list[str]:
        """The words, as they were given or as they stand in the text."""
        text = self.row.text
        return self.row.words if text is None else [text[start:end] for start, end in self.spans or []]


class EntityReader:
    """Read entities from the labels of words.

    Args:
        labels: All label names of the model. Where they mark each word alone (POS), each word is an entity of its
            label, but for O.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._mark_entities = tags.is_entity_scheme(labels)
        found = [entity.type for label in labels for entity in self._entities([label])]
        self.types = sorted(set(found))

    def find(self, labels: Sequence[str], scores: Sequence[float]) -> list[Found]:
        """Find the entities of a row.

        Args:
            labels: Of each word.
            scores: How probable each label is.
        """
        return [
            Found(entity.type, entity.start, entity.end, _mean(scores[entity.start : entity.end]))
            for entity in self._entities(labels)
        ]

    def _entities(self, labels: Sequence[str]) -> list[tags.Entity]:
        if self._mark_entities:
            return tags.entities(labels)
        return [tags.Entity(label, word, word + 1) for word, label in enumerate(labels) if label != "O"]


def as_json(labelled: LabelledRow, *, reader: EntityReader) -> str:
    """A line of JSON: the fields of the row, `tags` where its words were given, and `entities`.

    An entity has `type`, `start`, `end`, `text` and `score`. Start and end count characters of the text; where the
    words were given, they count words, and `text` is these words with spaces between them.

    Args:
        labelled: The row.
        reader: Of the labels of the model.
    """
    row, words = labelled.row, labelled.words
    entities = []
    for type_, first, last, score in reader.find(labelled.labels, labelled.scores):
        if labelled.spans is None:
            start, end, text = first, last, " ".join(words[first:last])
        else:
            start, end = labelled.spans[first].start, labelled.spans[last - 1].end
            text = (row.text or "")[start:end]
        entities.append({"type": type_, "start": start, "end": end, "text": text, "score": round(score, 6)})
    added = {"entities": entities} if labelled.spans is not None else {"tags": labelled.labels, "entities": entities}
    return json.dumps({**row.record, **added}, ensure_ascii=False) + "\n"


def as_columns(labelled: LabelledRow) -> str:
    """A line with word and label for each word, a tab between them, and a blank line.

    Args:
        labelled: The row; white space inside of a word, which columns cannot hold, becomes one space.
    """
    words = (" ".join(word.split()) or "_" for word in labelled.words)
    lines = [f"{word}\t{label}\n" for word, label in zip(words, labelled.labels, strict=True)]
    return "".join([*lines, "\n"])


def as_colours(labelled: LabelledRow, *, reader: EntityReader) -> str:
    """The text with its entities on coloured ground, on a line of its own.

    Args:
        labelled: The row.
        reader: Of the labels of the model.
    """
    return render(labelled, reader=reader, colour=True) + "\n"


def render(labelled: LabelledRow, *, reader: EntityReader, colour: bool) -> str:
    """The text of a row with its entities marked, for a terminal; words that were given with spaces between them.

    Args:
        labelled: The row.
        reader: Of the labels of the model; each of its types has a colour.
        colour: Mark by background colour; otherwise by brackets.
    """
    text, spans = labelled.row.text, labelled.spans
    if text is None or spans is None:
        text, spans = " ".join(labelled.words), list(_joined(labelled.words))
    parts: list[str] = []
    place = 0
    for type_, first, last, _ in reader.find(labelled.labels, labelled.scores):
        start, end = spans[first].start, spans[last - 1].end
        parts.append(text[place:start])
        if colour:
            background = _COLOURS[reader.types.index(type_) % len(_COLOURS)]
            parts.append(f"\033[30;48;5;{background}m {text[start:end]} \033[1m{type_} \033[0m")
        else:
            parts.append(f"[{text[start:end]} {type_}]")
        place = end
    return "".join([*parts, text[place:]])


def _joined(words: Sequence[str]) -> Iterator[Span]:
    start = 0
    for word in words:
        yield Span(start, start + len(word))
        start += len(word) + 1


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
