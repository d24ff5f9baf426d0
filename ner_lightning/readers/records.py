"""Records with named fields, of JSON or of a table, to rows: words with tags, or text with entities."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ner_lightning.errors import InputError
from ner_lightning.readers import label_studio
from ner_lightning.readers.offsets import Entity, entities_of, tags_of
from ner_lightning.readers.row import ReadOptions, Row, clip
from ner_lightning.readers.text import words_of

_TEXT_FIELDS = ("text", "source_text")
_TAG_FIELDS = ("ner_tags", "tags", "labels")
_SPAN_FIELDS = ("entities", "spans", "label", "labels", "privacy_mask")


def rows_of(
    records: Iterable[tuple[str, dict[str, Any]]],
    *,
    name: str,
    options: ReadOptions,
    declared: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Row]:
    """Make rows of records; all are of the kind of the first.

    Words stand in a list in `tokens`, and their tags in `ner_tags`, `tags` or `labels`. Text stands in `text` or
    `source_text`, and its entities in `entities`, `spans`, `label`, `labels` or `privacy_mask`, see
    `offsets.entities_of`. Exports of Label Studio have `data` and `annotations`. Each record comes with its place;
    `declared` are the names of the numbers in a column.

    Raises:
        InputError: There is none, or one is no such row; says where.
    """
    make: Callable[[str, dict[str, Any]], Row] | None = None
    for place, record in records:
        make = make or _kind(place, record, options, declared or {})
        yield make(place, record)
    if make is None:
        raise InputError(f"{name}: expected rows, found none")


def tag_column(place: str, columns: Collection[Any], options: ReadOptions) -> str | None:
    """Find the field that holds the tags of words; None where there is none.

    Raises:
        InputError: Several fields could be it, or there is none of the name that is asked for.
    """
    if not options.tags:
        return None
    if options.label_column_name is not None:
        return _asked_for(place, columns, options.label_column_name)
    found = [field for field in _TAG_FIELDS if field in columns]
    if len(found) > 1 and found[0] != _TAG_FIELDS[0]:
        raise InputError(f"{place}: both {' and '.join(found)} could be the tags; give label_column_name")
    return found[0] if found else None


def names_of(place: str, column: str, tags: Any, names: Sequence[str] | None, words: int) -> list[str]:
    """Give the names of the tags of a row, which are texts, or numbers that `names` names.

    Raises:
        InputError: There are no such tags.
    """
    if not isinstance(tags, list) or len(tags) != words:
        found = f"{len(tags)}: " if isinstance(tags, list) else ""
        raise InputError(f"{place}: expected a list of {words} tags in {column}, found {found}{clip(tags)}")
    return [tag if isinstance(tag, str) else _name_of(place, column, tag, names) for tag in tags]


def _kind(
    place: str, record: dict[str, Any], options: ReadOptions, declared: Mapping[str, Sequence[str]]
) -> Callable[[str, dict[str, Any]], Row]:
    if label_studio.is_task(record):
        return partial(_task_row, options=options)
    field = options.text_column_name
    if field is None:
        given = "tokens" in record and (_is_words(record["tokens"]) or not any(f in record for f in _TEXT_FIELDS))
        field = next((name for name in ("tokens",) * given + _TEXT_FIELDS if name in record), None)
    if field is None or field not in record:
        wanted = field or ", ".join(("tokens", *_TEXT_FIELDS))
        raise InputError(f"{place}: expected a field {wanted} (text_column_name), found {_listed(record)}")
    if isinstance(record[str(field)], str) and field != "tokens":
        return partial(_text_row, field=str(field), options=options)
    return partial(_words_row, field=str(field), options=options, declared=declared)


def _words_row(
    place: str, record: dict[str, Any], *, field: str, options: ReadOptions, declared: Mapping[str, Sequence[str]]
) -> Row:
    words: Any = record.get(field)
    if not _is_words(words):
        raise InputError(f"{place}: expected a list of words in {field}, found {clip(words)}")
    tags, column = None, tag_column(place, record, options)
    if column is not None and record[column] is not None:
        tags = names_of(place, column, record[column], declared.get(column) or options.labels, len(words))
    return Row(words, tags, None, None, _document(record), place, None, record)


def _name_of(place: str, column: str, tag: Any, names: Sequence[str] | None) -> str:
    if not isinstance(tag, int) or isinstance(tag, bool):
        raise InputError(f"{place}: expected tags in {column}, as text or numbers, found {clip(tag)}")
    if names is None:
        raise InputError(
            f"{place}: the tags in {column} are numbers without names; give the names in the order of the numbers, "
            "or a file that holds them (labels)"
        )
    if not 0 <= tag < len(names):
        raise InputError(f"{place}: expected a tag from 0 to {len(names) - 1} in {column}, found {tag}")
    return names[tag]


def _text_row(place: str, record: dict[str, Any], *, field: str, options: ReadOptions) -> Row:
    text = record.get(field)
    if not isinstance(text, str):
        raise InputError(f"{place}: expected a text in {field}, found {clip(text)}")
    entities = None
    if options.tags:
        column = _span_column(place, record, options)
        accepted = record.get("answer") == "accept" and "_task_hash" in record  # of Prodigy, which leaves out no spans
        if column is not None and record[column] is not None:
            entities = entities_of(place, column, record[column], options)
        elif accepted:
            entities = []
    return _row(place, text, entities, record, _document(record), options)


def _task_row(place: str, record: dict[str, Any], *, options: ReadOptions) -> Row:
    text, entities = label_studio.read_task(place, record, options)
    return _row(place, text, entities, record, None, options)


def _row(
    place: str,
    text: str,
    entities: list[Entity] | None,
    record: dict[str, Any],
    document: int | str | None,
    options: ReadOptions,
) -> Row:
    spans = words_of(text, options)
    tags = None if entities is None else tags_of(text, spans, entities, options)
    return Row.of_text(text, spans, tags=tags, document=document, place=place, record=record)


def _span_column(place: str, record: dict[str, Any], options: ReadOptions) -> str | None:
    if options.label_column_name is not None:
        return _asked_for(place, record, options.label_column_name)
    if "_task_hash" in record and record.get("answer") in ("reject", "ignore"):  # of Prodigy: no valid annotation
        return None
    found = [field for field in _SPAN_FIELDS if field in record and _may_be_spans(field, record[field])]
    filled = [field for field in found if record[field]]
    if len(filled) > 1:
        raise InputError(f"{place}: both {' and '.join(filled)} could be the entities; give label_column_name")
    return next(iter(filled or found), None)


def _asked_for(place: str, fields: Collection[Any], asked: str | int) -> str:
    if asked not in fields:
        raise InputError(f"{place}: expected a field {asked} (label_column_name), found {_listed(fields)}")
    return str(asked)


def _may_be_spans(field: str, value: Any) -> bool:
    """Of a text as a whole there may be a `label`, or `labels`."""
    if field not in ("label", "labels"):
        return value is not None
    return isinstance(value, list) and all(isinstance(item, list | dict) for item in value)


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _document(record: dict[str, Any]) -> int | str | None:
    document = record.get("document_id")
    return document if document is None or isinstance(document, int) else str(document)


def _listed(fields: Iterable[str]) -> str:
    return ", ".join(fields) or "none"
