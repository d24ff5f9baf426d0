"""Entities with character offsets, to IOB2 tags over the words of their text.

Offsets count characters as Python does: `text[start:end]`. JavaScript and Java count UTF-16 units, in which an emoji
is two; other counts are noticed where an entity states its text, or lies behind the end.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

from ner_lightning.errors import InputError
from ner_lightning.readers.row import ReadOptions, clip
from ner_lightning.words import Span

_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")
_COUNTED = "offsets count characters as Python does, not bytes or UTF-16 units"


class Entity(NamedTuple):
    """The characters `[start, end)` of a text."""

    type: str
    start: int
    end: int
    text: str | None  # what it states as its text
    place: str  # for an error
    name: str  # for an error, such as `entity 2`

    def __str__(self) -> str:
        """Show it in an error."""
        return f"{self.name} ({self.type}, {self.start} to {self.end})"


def entities_of(place: str, column: str, items: Any, options: ReadOptions) -> list[Entity]:
    """Read entities as spaCy, Prodigy, doccano and our own predictions write them.

    Each is an object with `start` and `end` (or `start_offset`, `end_offset`), `label` or `type`, and perhaps its
    `text` or `value`, or a list `[start, end, label]`.

    Raises:
        InputError: They are no such entities.
    """
    if not isinstance(items, list):
        raise InputError(f"{place}: expected a list of entities in {column}, found {clip(items)}")
    return [entity_of(place, f"entity {number}", item, options) for number, item in enumerate(items, start=1)]


def entity_of(place: str, name: str, item: Any, options: ReadOptions) -> Entity:
    """Read one entity, see `entities_of`; an error calls it `name`.

    Raises:
        InputError: It is no entity.
    """
    if isinstance(item, list) and len(item) == 3:
        item = dict(zip(("start", "end", "label"), item, strict=True))
    if not isinstance(item, dict):
        raise InputError(
            f"{place}: {name}: expected an object with start, end and label, or a list of these, found {clip(item)}"
        )
    start, end = (_number(place, name, item, fields) for fields in (_STARTS, _ENDS))
    text = _first(item, ("text", "value"))
    return Entity(_type(place, name, item, options), start, end, text if isinstance(text, str) else None, place, name)


def tags_of(text: str, words: Sequence[Span], entities: Sequence[Entity], options: ReadOptions) -> list[str]:
    """Give the words of a text, which stand at `words`, the IOB2 tags of its entities.

    Raises:
        InputError: An entity does not lie in the text or on its words, or two share a word; says which.
    """
    starts, ends = [word.start for word in words], [word.end for word in words]
    found: dict[_Words, Entity] = {}  # the same entity twice is one
    for entity in entities:
        _check_range(text, entity)
        first, last = bisect_right(ends, entity.start), bisect_left(starts, entity.end)
        if first >= last:
            raise InputError(f"{entity.place}: {entity} holds no word, but {clip(text[entity.start : entity.end])}")
        if options.span_alignment == "strict":
            _check_borders(text, entity, words[first], words[last - 1])
        found.setdefault(_Words(first, last, entity.type), entity)
    tags = ["O"] * len(words)
    for first, last, type_ in _apart(text, words, found, options):
        tags[first:last] = [f"B-{type_}", *[f"I-{type_}"] * (last - first - 1)]
    return tags


class _Words(NamedTuple):
    """An entity as the words `[first, last)`."""

    first: int
    last: int
    type: str


def _number(place: str, name: str, item: dict[str, Any], fields: tuple[str, ...]) -> int:
    value = _first(item, fields)
    if not isinstance(value, int) or isinstance(value, bool):
        found = "none" if value is None else clip(value)
        raise InputError(f"{place}: {name}: expected the number of a character in {fields[0]}, found {found}")
    return value


def _type(place: str, name: str, item: dict[str, Any], options: ReadOptions) -> str:
    type_ = _first(item, ("label", "type", "labels"))
    if isinstance(type_, list) and len(type_) == 1:
        (type_,) = type_
    if type_ is None and options.entity_type is not None:
        return options.entity_type
    if not isinstance(type_, str) or not type_.strip():
        found = "none (entity_type gives one to all that have none)" if type_ is None else clip(type_)
        raise InputError(f"{place}: {name}: expected a type in label, found {found}")
    return type_


def _first(item: dict[str, Any], fields: tuple[str, ...]) -> Any:
    return next((item[field] for field in fields if item.get(field) is not None), None)


def _check_range(text: str, entity: Entity) -> None:
    start, end = entity.start, entity.end
    if not 0 <= start < end:
        what = "begins before the text" if start < 0 else "is empty" if start == end else "ends before it begins"
        raise InputError(f"{entity.place}: {entity} {what}; expected 0 <= start < end")
    if end > len(text):
        raise InputError(f"{entity.place}: {entity} ends behind the text of {len(text)} characters; {_COUNTED}")
    if entity.text is not None and entity.text.split() != text[start:end].split():
        raise InputError(
            f"{entity.place}: {entity} has the text {clip(entity.text)}, but {clip(text[start:end])} stands there; "
            f"{_COUNTED}"
        )


def _check_borders(text: str, entity: Entity, first: Span, last: Span) -> None:
    begins = first.start < entity.start
    if begins or last.end > entity.end:
        start, end = first if begins else last
        raise InputError(
            f"{entity.place}: {entity} {'begins' if begins else 'ends'} inside the word {clip(text[start:end])} "
            f"({start} to {end}); mend its border, or widen entities to whole words with span_alignment=expand"
        )


def _apart(text: str, words: Sequence[Span], found: dict[_Words, Entity], options: ReadOptions) -> list[_Words]:
    """Those that share no word with another."""
    apart: list[_Words] = []
    owner: dict[int, _Words] = {}
    # the longest first, of two that are as long the one that comes first
    for entity in sorted(found, key=lambda one: words[one.first].start - words[one.last - 1].end):
        other = next((owner[word] for word in range(entity.first, entity.last) if word in owner), None)
        if other is None:
            owner.update(dict.fromkeys(range(entity.first, entity.last), entity))
            apart.append(entity)
        elif options.overlapping == "refuse":
            one, two = sorted((found[other], found[entity]), key=lambda one: (one.start, -one.end))
            start, end = words[max(entity.first, other.first)]
            raise InputError(
                f"{one.place}: {one} and {two} overlap: both have the word {clip(text[start:end])}; mend one, or keep "
                "the longest of such entities with overlapping=longest"
            )
    return apart
