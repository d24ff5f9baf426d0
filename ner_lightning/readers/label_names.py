"""Names of tags that are numbers, from a file."""

import json
import re
from pathlib import Path
from typing import Any

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers.row import clip


def read_label_names(path: str | Path) -> tuple[str, ...]:
    """Read the names of labels in the order of their numbers.

    Args:
        path: A JSON file with a list of names, or an object from names to numbers or from numbers to names
            (`label.json`, or a `config.json` that has such an `id2label`); or a text file with one name a line.

    Raises:
        InputError: It holds no such names.
    """
    with open_to_read(path) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected names of labels in UTF-8, found byte 0x{raw[error.start]:02x}") from error
    if not text.lstrip().startswith(("{", "[")):
        return _checked(path, [line.strip() for line in text.strip().splitlines()])
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, or a name of a label on each line: {error}") from error
    if isinstance(value, dict) and isinstance(value.get("id2label"), dict):
        value = value["id2label"]
    return _checked(path, value if isinstance(value, list) else _in_order(path, value))


def _in_order(path: str | Path, value: dict[str, Any]) -> list[Any]:
    names: dict[Any, Any] = {}
    for key, other in value.items():
        number, name = (other, key) if isinstance(other, int) else (int(key) if _NUMBER.fullmatch(key) else key, other)
        names[number] = name
    if sorted(map(str, names)) != sorted(map(str, range(len(value)))):
        raise InputError(f"{path}: expected each number from 0 to {len(value) - 1} once, found {clip(value)}")
    return [names[number] for number in range(len(value))]


def _checked(path: str | Path, names: list[Any]) -> tuple[str, ...]:
    if not names:
        raise InputError(f"{path}: expected names of labels, found none")
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or _HALF.search(name):
            raise InputError(f"{path}: expected a name for label {number}, found {clip(name)}")
        if first.setdefault(name, number) != number:
            raise InputError(f"{path}: expected each label once, found {name} as {first[name]} and {number}")
    return tuple(names)


_NUMBER = re.compile(r"\d{1,9}")
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair: JSON can hold one, UTF-8 cannot
