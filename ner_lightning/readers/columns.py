"""CoNLL column files and CoNLL-U: lines and sentences, read as a stream, written back byte for byte.

Strict: what is not well formed is an error with `path:line`. Knows nothing of schemes, datasets or
tokenizers: a tag is the text of a column.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read, replacing

Kind = Literal["word", "blank", "document", "comment", "range"]


@dataclass(frozen=True, slots=True)
class Line:
    r"""One line of a file, from which its bytes can be made again.

    Args:
        number: counted from 1.
        text: the line as it stands in the file, without its ending.
        ending: `"\n"`, `"\r\n"`, or `""` at the end of the file.
        columns: the columns of a word, range or document line; empty for the others.
        kind: what the line is; a range is a CoNLL-U multi-word range or empty node, and no word.
    """

    number: int
    text: str
    ending: str
    columns: tuple[str, ...]
    kind: Kind

    def with_column(self, value: str) -> "Line":
        """Add a column at the end, with the separator that this line uses.

        Args:
            value: the text of the column.
        """
        separator = "\t" if "\t" in self.text else " "
        return replace(self, text=self.text + separator + value, columns=(*self.columns, value))


@dataclass(frozen=True, slots=True)
class Sentence:
    """The words between two boundaries.

    Args:
        words: the words.
        tags: the tag of each word; empty where no tag column was asked for.
        lines: the line number of each word.
        document: counted from 0.
    """

    words: list[str]
    tags: list[str]
    lines: list[int]
    document: int


def read_lines(path: str | Path) -> Iterator[Line]:
    """Read a file line by line; comments, ranges and empty nodes are known in `.conllu` files alone.

    Args:
        path: the file.

    Raises:
        InputError: the file cannot be opened, is not UTF-8, holds no word, or a line has another number of
            columns than the first word.
    """
    with open_to_read(path) as file:
        yield from parse_lines(file, name=str(path), conllu=Path(path).suffix == ".conllu")


def parse_lines(raws: Iterable[bytes], *, name: str, conllu: bool, first: int = 1) -> Iterator[Line]:
    """Read lines, all of a file or consecutive ones.

    Args:
        raws: the lines with their endings.
        name: what an error calls the file.
        conllu: whether comments, ranges and empty nodes are known.
        first: the number of the first line.

    Raises:
        InputError: a line is not UTF-8 or has another number of columns than the first word, no line is a word, or the
            file is one of brat.
    """
    number, model, words = 0, None, 0
    for number, raw in enumerate(raws, start=first):
        line = _line(name, number, raw, conllu)
        if line.kind in ("word", "range"):
            if model is None:
                _refuse_brat(name, line)
                model = line
            if len(line.columns) != len(model.columns):
                raise InputError(
                    f"{name}:{number}: expected {_columns(model)}, as on line {model.number}, "
                    f"found {_columns(line)}: {_clip(line.text)}"
                )
            words += line.kind == "word"
        yield line
    if not words:
        what = "no sentence in this file" if number else "the file is empty"
        raise InputError(f"{name}: {what}; expected lines of columns, one word a line")


def decode_line(raw: bytes, *, name: str, number: int) -> tuple[str, str]:
    r"""Give the text of a line and its ending: `"\n"`, `"\r\n"` or nothing.

    Args:
        raw: the line with its ending.
        name: what an error calls the file.
        number: the number of the line.

    Raises:
        InputError: the line is not UTF-8.
    """
    try:
        whole = raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}:{number}: expected UTF-8, found byte 0x{raw[error.start]:02x} "
            f"at position {error.start + 1} of the line; convert the file to UTF-8"
        ) from error
    text = whole[:-2] if whole.endswith("\r\n") else whole[:-1] if whole.endswith("\n") else whole
    return text, whole[len(text) :]


def write_lines(path: str | Path, lines: Iterable[Line]) -> None:
    """Write lines as they were read; the file appears whole or not at all.

    Args:
        path: the file to write or to replace.
        lines: what `read_lines` gives, changed or not.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing(Path(path)) as partial, partial.open("wb") as file:
        file.writelines((line.text + line.ending).encode() for line in lines)


def read_sentences(path: str | Path, *, word_column: int = 0, tag_column: int | None = -1) -> Iterator[Sentence]:
    """Read a file sentence by sentence.

    Args:
        path: the file.
        word_column: number of the column with the words, from 0, or from the end if negative.
        tag_column: the same for the tags; None for none.

    Raises:
        InputError: what `read_lines` refuses, a column that the file does not have, an empty word or tag.
    """
    return parse_sentences(read_lines(path), name=str(path), word_column=word_column, tag_column=tag_column)


def parse_sentences(
    lines: Iterable[Line], *, name: str, word_column: int, tag_column: int | None
) -> Iterator[Sentence]:
    """Put lines together to sentences.

    Args:
        lines: consecutive lines.
        name: what an error calls the file.
        word_column: number of the column with the words, from 0, or from the end if negative.
        tag_column: the same for the tags; None for none.

    Raises:
        InputError: a column that the file does not have, an empty word or tag.
    """
    sentence, checked = Sentence([], [], [], 0), False
    document, filled = 0, False  # a document without a sentence has no number
    for line in lines:
        if line.kind == "word":
            if not checked:
                _check_columns(name, line, word_column, tag_column)
                checked = True
            sentence.words.append(_filled(name, line, word_column, "word"))
            if tag_column is not None:
                sentence.tags.append(_filled(name, line, tag_column, "tag"))
            sentence.lines.append(line.number)
            continue
        starts_document = line.kind == "document" or (
            line.kind == "comment" and _NEW_DOCUMENT.match(line.text) is not None
        )
        if sentence.words and (starts_document or line.kind == "blank"):
            yield sentence
            sentence, filled = Sentence([], [], [], document), True
        if starts_document and filled:
            document, filled = document + 1, False
            sentence = Sentence([], [], [], document)
    if sentence.words:
        yield sentence


_WHITE = " \t\r\f\v"  # ASCII alone: a no-break space belongs to its word
_FIELD = re.compile(rf"[^{_WHITE}]+")
_NEW_DOCUMENT = re.compile(r"# *newdoc\b")
_WORD_ID = re.compile(r"[0-9]+\Z")
_RANGE_ID = re.compile(r"[0-9]+[-.][0-9]+\Z")
_BOM = "\ufeff"
_BRAT_ENTITY = re.compile(r"T[0-9]+\t[^\t ]+ [0-9]+ [0-9]+(;[0-9]+ [0-9]+)*\t")
_BRAT = re.compile(r"(T[0-9]+|[REAMN#][0-9]+|\*)\t[^\t ]+ ")  # in a file of its suffix


def _line(name: str, number: int, raw: bytes, conllu: bool) -> Line:
    text, ending = decode_line(raw, name=name, number=number)
    content = text.removeprefix(_BOM) if number == 1 else text
    if conllu and content.startswith("#"):
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
            f"{_clip(columns[0])}; name a file of other columns .conll"
        )
    return Line(number, text, ending, columns, kind)


def _refuse_brat(name: str, line: Line) -> None:
    if (_BRAT if name.endswith(".ann") else _BRAT_ENTITY).match(line.text.removeprefix(_BOM)):
        raise InputError(
            f"{name}:{line.number}: expected columns, one word a line, found an annotation of brat: "
            f"{_clip(line.text)}; to train, give words with their tags as CoNLL columns or JSON lines, to predict, the "
            ".txt beside it"
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
        raise InputError(
            f"{name}:{line.number}: expected a {what} in column {place}, found nothing: {_clip(line.text)}"
        )
    return value


def _columns(line: Line) -> str:
    count = len(line.columns)
    return f"{count} column{'s' * (count != 1)}"


def _clip(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
