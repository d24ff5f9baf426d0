"""JSON objects, one a line or in an array; an array is read object by object, too."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers.records import rows_of
from ner_lightning.readers.row import ReadOptions, Row, clip
from ner_lightning.readers.text import text_lines


def read_rows(path: Path, *, name: str, options: ReadOptions) -> Iterator[Row]:
    """Read the rows of a JSON file, see `records.rows_of`."""
    return rows_of(_records(path, name), name=name, options=options)


def _records(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_to_read(path) as file:
        start = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
        file.seek(0)
        values = _array(file, name) if start.startswith(b"[") else _lines(file, name)
        for number, text, value in values:
            place = f"{name}:{number}"
            yield place, _object(place, text, value)


def parse(line: str, *, place: str) -> dict[str, Any]:
    """Read the JSON object of a line.

    Raises:
        InputError: It holds none; says at which place.
    """
    return _object(place, line, _value(place, line))


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[int, str, Any]]:
    for number, line, _ in text_lines(file, name):
        text = line.strip()
        if text:
            yield number, text, _value(f"{name}:{number}", text)


def _value(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{place}: expected a whole JSON object on each line, or an array of them, found {clip(text)}"
        ) from error


def _object(place: str, text: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{place}: expected a JSON object, found {clip(text)}")
    _refuse_surrogates(place, text, value)
    return value


def _array(file: BinaryIO, name: str) -> Iterator[tuple[int, str, Any]]:
    """The values of an array, with the line on which each begins; no more than one is in memory."""
    window = _Window(file, name)
    window.skip("[")
    first = True
    while (mark := window.peek()) != "]":
        if not first:
            window.expect(mark, ",")
            window.skip(",")
        first = False
        yield window.value()
    window.skip("]")
    if window.peek():
        window.expect(window.peek(), "the end of the file")


class _Window:
    """The part of a file that is being read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._decoder = json.JSONDecoder()
        self._bytes = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._position, self._number = "", 0, 1
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            self._advance(_WHITE.match(self._text, self._position).end())  # type: ignore[union-attr]
            if self._position < len(self._text) or self._ended:
                return self._text[self._position : self._position + 1]
            self._more(_SIZE)

    def skip(self, mark: str) -> None:
        self.peek()
        self._advance(self._position + len(mark))

    def expect(self, found: str, mark: str) -> None:
        if found != mark:
            what = clip(self._text[self._position : self._position + 80]) if found else "the end of the file"
            raise InputError(f"{self._name}:{self._number}: expected {mark} in the JSON array, found {what}")

    def value(self) -> tuple[int, str, Any]:
        """The value that begins here: its line, its text, and what it is."""
        self.peek()
        size = _SIZE
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                # what is cut off fails at its end, or where the string that is cut off begins
                cut = error.pos >= len(self._text) - 8 or error.msg.startswith("Unterminated string")
                if self._ended or not cut:
                    line = self._number + self._text.count("\n", self._position, error.pos)
                    found = clip(self._text[error.pos : error.pos + 80]) if error.pos < len(self._text) else "its end"
                    raise InputError(
                        f"{self._name}:{line}: expected a JSON array of objects, found {found} ({error.msg})"
                    ) from error
            except (RecursionError, ValueError) as error:
                what = "one nested too deep" if isinstance(error, RecursionError) else "a number of too many digits"
                raise InputError(f"{self._name}:{self._number}: expected a JSON object, found {what}") from error
            else:
                if end < len(self._text) or self._ended:
                    number, text = self._number, self._text[self._position : end]
                    self._advance(end)
                    return number, text, value
            self._more(size)
            size *= 2  # a long value is not tried again for each little piece

    def _advance(self, position: int) -> None:
        self._number += self._text.count("\n", self._position, position)
        self._position = position

    def _more(self, size: int) -> None:
        raw = self._file.read(size)
        self._ended = not raw
        try:
            new = self._bytes.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            seen = self._text[self._position :].count("\n") + error.object[: error.start].count(b"\n")
            raise InputError(
                f"{self._name}:{self._number + seen}: expected UTF-8, found byte 0x{error.object[error.start]:02x}; "
                "convert the file to UTF-8"
            ) from error
        self._text, self._position = self._text[self._position :] + new, 0


_SIZE = 64 * 1024
_WHITE = re.compile(r"[ \t\r\n]*")


def _refuse_surrogates(place: str, text: str, record: dict[str, Any]) -> None:
    if "\\u" not in text:  # an escaped lone surrogate is valid JSON but not UTF-8
        return
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place}: expected text, found half of a surrogate pair ({error.object[error.start]!a})"
        ) from error
