"""A task of Label Studio's JSON export: its text, and the entities that one annotator marked."""

from typing import Any

from ner_lightning.errors import InputError
from ner_lightning.readers.offsets import Entity, entity_of
from ner_lightning.readers.row import ReadOptions, clip


def is_task(record: dict[str, Any]) -> bool:
    """Tell whether a record is a task."""
    return isinstance(record.get("data"), dict) and any(isinstance(record.get(field), list) for field in _LISTS)


def read_task(place: str, record: dict[str, Any], options: ReadOptions) -> tuple[str, list[Entity] | None]:
    """Read the text and the entities of a task; None where there is no annotation that counts.

    Raises:
        InputError: There is no text, or something in the annotation is no entity.
    """
    if not is_task(record):
        raise InputError(f"{place}: expected a task of Label Studio with data and annotations, found {clip(record)}")
    field, data = options.text_column_name or "text", record["data"]
    if not isinstance(data.get(field), str):
        raise InputError(
            f"{place}: expected a text in data.{field} (text_column_name), found {', '.join(data) or 'nothing'} in data"
        )
    if not options.tags:
        return data[field], None
    for annotation in next((record[name] for name in _LISTS[:2] if isinstance(record.get(name), list)), []):
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            raise InputError(f"{place}: expected annotations with a result, found {clip(annotation)}")
        if not annotation.get("was_cancelled") and _is_by(annotation, options.annotator):
            return data[field], _entities(place, annotation["result"], options)
    return data[field], None


_LISTS = ("annotations", "completions", "predictions")  # completions: the older name
_MARKUP = ("hypertextlabels", "paragraphlabels")  # their offsets count in parts of the text


def _is_by(annotation: dict[str, Any], annotator: str | int | None) -> bool:
    by = annotation.get("completed_by")
    names = (by.get("id"), by.get("email")) if isinstance(by, dict) else (by,)
    return annotator is None or str(annotator) in map(str, names)


def _entities(place: str, result: list[Any], options: ReadOptions) -> list[Entity]:
    entities = []
    for number, item in enumerate(result, start=1):
        name = f"annotation {number}"
        value = item.get("value") if isinstance(item, dict) else None
        if value is None and isinstance(item, dict) and item.get("type") == "relation":
            continue
        if not isinstance(value, dict):
            raise InputError(f"{place}: {name}: expected an object with a value, found {clip(item)}")
        markup = next((kind for kind in _MARKUP if kind in value), None)
        if markup is not None:
            raise InputError(f"{place}: {name}: found {markup}; expected labels of plain text (<Text> in Label Studio)")
        if "labels" in value:  # others are choices and the like
            entities.append(entity_of(place, name, value, options))
    return entities
