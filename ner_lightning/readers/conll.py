"""CoNLL columns and CoNLL-U, with or without tags; the lines can be written back byte for byte."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers.row import ReadOptions, Row, clip
from ner_lightning.readers.text import decode_line

Kind = Literal["word", "blank", "document", "comment", "range"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, from which its bytes can be made again."""

    number: int  # from 1
    text: str  # as it stands in the file, without its ending
    ending: str  # see `text.decode_line`
    columns: tuple[str, ...]  # of a word, range or document line
    kind: Kind  # a range is a CoNLL-U multi-word range or empty node, and no word

    def with_column(self, value: str) -> "Line":
        """Add a column at the end, with the separator that this line uses."""
        separator = "\t" if "\t" in self.text else " "
        return replace(self, text=self.text + separator + value, columns=(*self.columns, value))


def read_rows(path: Path, *, name: str, options: ReadOptions, conllu: bool) -> Iterator[Row]:
    """Read columns sentence by sentence.

    By default the words are in the first column and the tags in the last, in CoNLL-U in columns 1 and 3; a file of one
    column has no tags.
    """
    word_column = _number(name, "text_column_name", options.text_column_name, 1 if conllu else 0)
    tag_column: int | None = _number(name, "label_column_name", options.label_column_name, 3 if conllu else -1)
    words: list[str] = []
    tags: list[str] = []
    numbers: list[int] = []
    document, filled, checked = 0, False, False  # a document without a sentence has no number

    def row() -> Row:
        place = f"{name}:{numbers[0]}"
        return Row(words, None if tag_column is None else tags, None, None, document, place, numbers, {})

    for line in read_lines(path, name=name, options=options, conllu=conllu):
        if line.kind == "word":
            if not checked:
                one = len(line.columns) == 1 and options.label_column_name is None and not conllu
                if not options.tags or one:
                    tag_column = None
                _check_columns(name, line, word_column, tag_column)
                checked = True
            words.append(_filled(name, line, word_column, "word"))
            if tag_column is not None:
                tags.append(_filled(name, line, tag_column, "tag"))
            numbers.append(line.number)
            continue
        starts_document = line.kind == "document" or (
            line.kind == "comment" and _NEW_DOCUMENT.match(line.text.removeprefix(_BOM)) is not None
        )
        if words and (starts_document or line.kind == "blank"):
            yield row()
            words, tags, numbers, filled = [], [], [], True
        if starts_document and filled:
            document, filled = document + 1, False
    if words:
        yield row()


def read_lines(path: Path, *, name: str, options: ReadOptions, conllu: bool) -> Iterator[Line]:
    """Read a file line by line.

    Raises:
        InputError: The file cannot be opened, holds no word, or is one of brat; a line is not UTF-8 or has another
            number of columns than the first word.
    """
    number, model, words = 0, None, 0
    with open_to_read(path) as file:
        for number, raw in enumerate(file, start=1):
            line = _line(name, number, raw, conllu, options.comment_prefix)
            if line.kind in ("word", "range"):
                if model is None:
                    _refuse_brat(name, line)
                    model = line
                if len(line.columns) != len(model.columns):
                    commented = model.text.removeprefix(_BOM).startswith("#") and not options.comment_prefix
                    hint = "; if lines that begin with # are comments, give comment_prefix=#" if commented else ""
                    raise InputError(
                        f"{name}:{number}: expected {_columns(model)}, as on line {model.number}, "
                        f"found {_columns(line)}: {clip(line.text)}{hint}"
                    )
                words += line.kind == "word"
            yield line
    if not words:
        what = "no sentence in this file" if number else "the file is empty"
        raise InputError(f"{name}: {what}; expected lines of columns, one word a line")


_WHITE = " \t\r\f\v"  # ASCII alone: a no-break space belongs to its word
_FIELD = re.compile(rf"[^{_WHITE}]+")
_NEW_DOCUMENT = re.compile(r"# *newdoc\b")
_WORD_ID = re.compile(r"[0-9]+\Z")
_RANGE_ID = re.compile(r"[0-9]+[-.][0-9]+\Z")
_BOM = "\ufeff"
_BRAT_ENTITY = re.compile(r"T[0-9]+\t[^\t ]+ [0-9]+ [0-9]+(;[0-9]+ [0-9]+)*\t")


def _line(name: str, number: int, raw: bytes, conllu: bool, comment_prefix: str | None) -> Line:
    text, ending = decode_line(raw, name=name, number=number)
    content = text.removeprefix(_BOM) if number == 1 else text
    if (conllu and content.startswith("#")) or (comment_prefix and content.startswith(comment_prefix)):
        return Line(number, text, ending, (), "comment")
    # Between tabs a word may hold a space; white space at the end of the line belongs to no column.
    if "\t" in content and content.strip(_WHITE):
        columns = tuple(content.rstrip(_WHITE.replace("\t", "")).split("\t"))
    else:
        columns = tuple(_FIELD.findall(content))
    kind: Kind = "word"
    if not columns:
        kind = "blank"
    elif columns[0] == "-DOCSTART-":
        kind = "document"
    elif conllu and _RANGE_ID.match(columns[0]):
        kind = "range"
    elif conllu and not _WORD_ID.match(columns[0]):
        raise InputError(
            f"{name}:{number}: expected the number of a word in the first column, as CoNLL-U has it, found "
            f"{clip(columns[0])}; name a file of other columns .conll"
        )
    return Line(number, text, ending, columns, kind)


def _refuse_brat(name: str, line: Line) -> None:
    if _BRAT_ENTITY.match(line.text.removeprefix(_BOM)):
        raise InputError(
            f"{name}:{line.number}: expected columns, one word a line, found an annotation of brat: "
            f"{clip(line.text)}; give the .txt beside it, or the folder of both"
        )


def _check_columns(name: str, line: Line, word_column: int, tag_column: int | None) -> None:
    count = len(line.columns)
    named = {"word column (text_column_name)": word_column}
    if tag_column is not None:
        named["tag column (label_column_name)"] = tag_column
    for what, column in named.items():
        if not -count <= column < count:
            raise InputError(f"{name}: there is no {what} {column}: the file has {_columns(line)}, numbered from 0")
    if tag_column is not None and word_column % count == tag_column % count:
        raise InputError(
            f"{name}: the words and the tags (label_column_name) would both be column {word_column % count}; "
            f"the file has {_columns(line)}, numbered from 0"
        )


def _filled(name: str, line: Line, column: int, what: str) -> str:
    value = line.columns[column]
    if not value:
        place = column % len(line.columns)
        raise InputError(f"{name}:{line.number}: expected a {what} in column {place}, found nothing: {clip(line.text)}")
    return value


def _columns(line: Line) -> str:
    count = len(line.columns)
    return f"{count} column{'s' * (count != 1)}"


def _number(name: str, option: str, asked: str | int | None, default: int) -> int:
    try:
        return default if asked is None else int(asked)
    except ValueError as error:
        raise InputError(
            f"{name}: expected the number of a column in {option}, from 0, or from the end if negative, found {asked!r}"
        ) from error
