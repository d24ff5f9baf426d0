"""What `predict` reads: CoNLL columns, plain text or JSON lines, as chunks that are read one by one, in any order.

One pass at the start says all that is wrong with the file and notes where its chunks begin; after that no more than
a chunk is in memory. It knows nothing of tokenizers and models: the words of plain text are found elsewhere.
"""

import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import weakref
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers import columns as conll
from ner_lightning.readers.foreign import refuse_foreign

PredictFormat = Literal["conll", "text", "jsonl"]

STANDARD_INPUT = "-"  # as a path

# of a chunk: enough rows for batches of similar length, little enough for a progress bar that moves
_ROWS = 256
_BYTES = 64 * 1024

_FIELDS = ("entities", "tags")  # what a prediction adds to a row of JSON


class Row(NamedTuple):
    """A sentence, a line of text or a JSON object.

    Args:
        text: what the words are to be found in; None where they are given.
        words: the words where they are given.
        record: the fields that a row of JSON about it begins with.
    """

    text: str | None
    words: list[str]
    record: dict[str, Any]


class Chunk:
    """Consecutive rows of a file.

    Args:
        number: position of the chunk in the file, from 0.
        rows: its rows.
        lines: all of its lines, where the file has columns.
    """

    # no dataclass: Lightning would walk through all of it in search of tensors

    def __init__(self, number: int, rows: list[Row], lines: list[conll.Line]) -> None:
        self.number = number
        self.rows = rows
        self.lines = lines


class PredictFile:
    """The chunks of a file, a sequence of them for a DataLoader.

    Args:
        path: The file, or `-` for standard input. What cannot be read twice is first copied to a temporary file.
        format: `conll`, `text` or `jsonl`; by default found from the suffix.
        text_column_name: Where the words are: the number of a column of CoNLL (first: 0, in `.conllu` 1), or the field
            of a JSON object, with a list of words or a text (`tokens`, else `text`). Plain text has no columns.

    Raises:
        InputError: The file cannot be read, or something in it is not well formed; says where.
    """

    def __init__(
        self, path: str | Path, *, format: PredictFormat | None = None, text_column_name: int | str | None = None
    ) -> None:
        self.path = Path(path)
        self.name = str(path)
        if str(path) == STANDARD_INPUT:
            self.name = "standard input"
            if sys.stdin.isatty():
                print("reading text from standard input, until Ctrl-D", file=sys.stderr)
            self._spool(sys.stdin.buffer)
        else:
            with open_to_read(path) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    self._spool(file)
        # of the name that was given: a temporary file has no suffix
        suffix = Path(path).suffix.lower()
        self.conllu = suffix == ".conllu"
        self.format: PredictFormat = format or _format_of(str(path), suffix)
        with open_to_read(self.path) as file:
            self._version = _version(file)
            head = file.read(_BYTES)
            file.seek(0)
            refuse_foreign(self.name, head)
            if format is None and self.format == "text":
                # without its last line, of which perhaps a part was read
                _refuse_other_text(self.name, head.rpartition(b"\n")[0].decode(errors="replace"))
            self._column = _number(self.name, text_column_name, self.conllu) if self.format == "conll" else 0
            self._field = None if text_column_name is None else str(text_column_name)
            self._is_text: bool | None = None
            self._index = _Index()
            {"conll": self._scan_columns, "text": self._scan_text, "jsonl": self._scan_json}[self.format](file)

    def __len__(self) -> int:
        """Chunks of the file."""
        return len(self._index.starts)

    def __getitem__(self, number: int) -> Chunk:
        """Read a chunk.

        Args:
            number: From 0.

        Raises:
            InputError: The file is no longer what it was.
        """
        start, first = self._index.starts[number], self._index.numbers[number]
        end = self._index.starts[number + 1] if number + 1 < len(self) else self._index.position
        with open_to_read(self.path) as file:
            if _version(file) != self._version:
                raise InputError(f"{self.name}: the file was changed while it was read; predict it again")
            file.seek(start)
            raw = io.BytesIO(file.read(end - start))  # its lines end at \n and nowhere else, as those of a file do
        if self.format == "conll":
            lines = list(conll.parse_lines(raw, name=self.name, conllu=self.conllu, first=first))
            sentences = self._sentences(lines)
            return Chunk(number, [Row(None, s.words, {"tokens": s.words}) for s in sentences], lines)
        if self.format == "text":
            texts = (text for _, text in self._texts(raw, first))
            return Chunk(number, [Row(text, [], {"text": text}) for text in texts], [])
        return Chunk(number, [row for _, row in self._records(raw, first) if row is not None], [])

    def _spool(self, source: BinaryIO) -> None:
        handle, name = tempfile.mkstemp(prefix="ner-lightning-")
        self.path = Path(name)
        # when nobody can read it any more, or at the end of this process; a worker has a copy without the finalizer
        weakref.finalize(self, _remove, name)
        with open(handle, "wb") as file:
            shutil.copyfileobj(source, file)

    def _scan_columns(self, file: BinaryIO) -> None:
        def noted() -> Iterator[conll.Line]:
            within = False
            for line in conll.parse_lines(file, name=self.name, conllu=self.conllu):
                self._index.add(len((line.text + line.ending).encode()), begins=line.kind == "word" and not within)
                within = line.kind == "word" or (within and line.kind not in ("blank", "document"))
                yield line

        deque(self._sentences(noted()), maxlen=0)

    def _sentences(self, lines: Iterable[conll.Line]) -> Iterator[conll.Sentence]:
        return conll.parse_sentences(lines, name=self.name, word_column=self._column, tag_column=None)

    def _scan_text(self, file: BinaryIO) -> None:
        for size, _ in self._texts(file, 1):
            self._index.add(size, begins=True)
        if not len(self):
            raise InputError(f"{self.name}: there is nothing in it; expected one sentence or paragraph a line")

    def _texts(self, raws: Iterable[bytes], first: int) -> Iterator[tuple[int, str]]:
        """Size in bytes and text of each line."""
        for number, raw in enumerate(raws, start=first):
            text, _ = conll.decode_line(raw, name=self.name, number=number)
            yield len(raw), text.removeprefix("\ufeff") if number == 1 else text

    def _scan_json(self, file: BinaryIO) -> None:
        for size, row in self._records(file, 1):
            self._index.add(size, begins=row is not None)
        if not len(self):
            raise InputError(f"{self.name}: expected a JSON object on each line, found none")

    def _records(self, raws: Iterable[bytes], first: int) -> Iterator[tuple[int, Row | None]]:
        """Size in bytes and row of each line; no row on a blank one."""
        for number, (size, text) in enumerate(self._texts(raws, first), start=first):
            yield size, self._record(f"{self.name}:{number}", text) if text.strip() else None

    def _record(self, place: str, text: str) -> Row:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise InputError(f"{place}: expected a JSON object, found {_clip(text)}")
        if self._field is None and (named := [field for field in ("tokens", "text") if field in record]):
            self._field = named[0]
        if self._field not in record:
            raise InputError(
                f"{place}: expected a field {self._field or 'tokens or text'}, found {', '.join(record) or 'none'} "
                "(--data.text_column_name)"
            )
        content = record[self._field]
        is_text = isinstance(content, str)
        is_words = isinstance(content, list) and all(isinstance(word, str) for word in content)
        if not (is_text or is_words) or self._is_text not in (None, is_text):
            wanted = {None: "a list of words or a text", True: "a text", False: "a list of words"}[self._is_text]
            raise InputError(f"{place}: expected {wanted} in {self._field}, found {_clip(content)}")
        self._is_text = is_text  # all rows are as the first
        for added in _FIELDS[:1] if is_text else _FIELDS:
            if added in record:
                raise InputError(f"{place}: the row has a field {added}, where the prediction would be; rename it")
        if "\\u" in text:  # the one way in which half a character comes into a file that is UTF-8
            try:
                json.dumps(record, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{place}: expected text, found half of a surrogate pair ({error.object[error.start]!a})"
                ) from error
        return Row(content, [], record) if is_text else Row(None, content, record)


class _Index:
    """Where chunks begin: positions in bytes, numbers of lines."""

    def __init__(self) -> None:
        self.starts, self.numbers = array("Q"), array("Q")
        self.position = 0  # behind the last line
        self._number = self._rows = 0

    def add(self, size: int, *, begins: bool) -> None:
        """Add a line, with which perhaps a row begins."""
        self._number += 1
        if begins:
            if not self.starts:
                self.starts.append(0)  # with what stands before the first row
                self.numbers.append(1)
            elif self._rows == _ROWS or self.position - self.starts[-1] >= _BYTES:
                self.starts.append(self.position)
                self.numbers.append(self._number)
                self._rows = 0
            self._rows += 1
        self.position += size


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _version(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _format_of(path: str, suffix: str) -> PredictFormat:
    if path == STANDARD_INPUT or suffix == ".txt":
        return "text"
    return "jsonl" if suffix in (".jsonl", ".json") else "conll"


def _refuse_other_text(name: str, head: str) -> None:
    """What was not called text and is columns or JSON would be labelled as if it were sentences."""
    lines = head.strip().split("\n")
    columns = [line.split() for line in lines if line.strip()]
    found = None
    if re.match(r'\{\s*"', lines[0]):
        found = ("JSON lines", "jsonl")
    elif lines[0].startswith("-DOCSTART-") or (
        # words in groups, as many things said of each
        len(columns) >= 20
        and len(columns) < len(lines)
        and len({len(fields) for fields in columns}) == 1
        and len(columns[0]) > 1
    ):
        found = ("CoNLL columns", "conll")
    if found:
        raise InputError(
            f"{name}: expected plain text, found what looks like {found[0]}: give --data.predict_format={found[1]}, "
            "or =text if it is text"
        )


def _number(name: str, asked: int | str | None, conllu: bool) -> int:
    try:
        return int(conllu) if asked is None else int(asked)
    except ValueError as error:
        raise InputError(
            f"{name}: expected the number of a column in text_column_name, found {asked!r} (--data.text_column_name)"
        ) from error


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
