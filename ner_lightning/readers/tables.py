"""Tables with named columns: CSV and TSV with a header, parquet, and tables of `datasets`.

Each row is a sentence, with lists of words and tags or with text and entities; or it is a word, and a column tells
sentences apart. The cells of CSV stay text, whatever they look like: `1.0`, `NA` and `true` are words.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ner_lightning.errors import InputError, first_line
from ner_lightning.files import open_to_read
from ner_lightning.readers.delimited import read_cells, unpack
from ner_lightning.readers.records import names_of, rows_of, tag_column
from ner_lightning.readers.row import ReadOptions, Row, Source, clip

if TYPE_CHECKING:
    from datasets import Dataset

_WORDS = ("word", "words", "token", "tokens")
_TAGS = ("nertag", "nertags", "tag", "tags", "label", "labels", "ner")
_SENTENCES = ("sentence", "sentenceid", "sentenceidx", "sentencenumber", "sentid")
_TEXTS = ("text", "source_text")
_BATCH = 1000  # rows


class _Record(NamedTuple):
    place: str
    line: int  # or the number of the row
    cells: dict[str, Any]


class _Table(NamedTuple):
    name: str
    columns: list[str]
    declared: dict[str, list[str]]  # the names of the numbers in a column
    records: Callable[[], Iterator[_Record]]
    is_text: bool  # all cells are


def read_rows(path: Path, *, name: str, options: ReadOptions, format: str) -> Iterator[Row]:
    """Read a table (`csv`, `tsv` or `parquet`) row by row.

    Where each row is a word, the words are in `word` or `token`, the tags in `tag`, `ner_tag` or `label`, and the
    sentences in `sentence` or `sentence_id`, however these are written (`Sentence #`); a cell without a sentence goes
    on with the one above. For others see `records.rows_of`.
    """
    return _rows(_table(path, name, format), options)


def has_word_rows(source: Source) -> bool:
    """Tell whether each row of a table in a file is a word."""
    assert source.path is not None
    return _word_column(_table(source.path, source.name, source.format), source.options) is not None


def declared_names(path: Path, *, name: str, options: ReadOptions) -> list[str] | None:
    """Read the label names that a parquet file declares for the column of the tags."""
    return _declared(_parquet(path, name), options)


def dataset_source(rows: "Dataset", *, name: str, options: ReadOptions) -> Source:
    """Read a table of `datasets`, whose fingerprint stands for its content."""

    def records() -> Iterator[_Record]:
        return (_Record(f"{name}, row {number}", number, cells) for number, cells in enumerate(rows))

    table = _Table(name, list(rows.column_names), _names_in(rows.features), records, False)
    declared = _declared(table, options)
    return Source(name, "dataset", options, declared, lambda: _rows(table, options), lambda: str(rows._fingerprint))


def _declared(table: _Table, options: ReadOptions) -> list[str] | None:
    if _word_column(table, options) is not None:
        return table.declared.get(_tag_column(table, options) or "")
    return table.declared.get(tag_column(table.name, table.columns, options) or "")


def _names_in(features: Any) -> dict[str, list[str]]:
    from datasets import ClassLabel, LargeList, List

    classes = {name: one.feature if isinstance(one, List | LargeList) else one for name, one in features.items()}
    return {name: list(one.names) for name, one in classes.items() if isinstance(one, ClassLabel)}


def _table(path: Path, name: str, format: str) -> _Table:
    return _parquet(path, name) if format == "parquet" else _delimited(path, name, format)


def _parquet(path: Path, name: str) -> _Table:
    from datasets import Features
    from pyarrow import ArrowException, parquet

    broken = (ArrowException, OSError, UnicodeDecodeError)  # the last of names in a schema

    def refuse(error: Exception) -> InputError:
        return InputError(f"{name}: expected a parquet file: {first_line(error)}")

    def records() -> Iterator[_Record]:
        try:
            with open_to_read(path) as file, parquet.ParquetFile(file) as table:
                rows = (row for batch in table.iter_batches(batch_size=_BATCH) for row in batch.to_pylist())
                yield from (_Record(f"{name}, row {number}", number, row) for number, row in enumerate(rows))
        except broken as error:
            raise refuse(error) from error

    try:
        with open_to_read(path) as file:
            features = Features.from_arrow_schema(parquet.read_schema(file))
    except broken as error:
        raise refuse(error) from error
    return _Table(name, list(features), _names_in(features), records, False)


def _delimited(path: Path, name: str, format: str) -> _Table:
    line, header = next(read_cells(path, name=name, tabs=format == "tsv"), (1, []))
    if not header:
        raise InputError(f"{name}: the file is empty; expected a header with the names of columns")
    if twice := [column for column, count in Counter(header).items() if count > 1]:
        raise InputError(f"{name}:{line}: expected a header that names each column once, found {twice[0]} twice")

    def records() -> Iterator[_Record]:
        rows = read_cells(path, name=name, tabs=format == "tsv")
        next(rows)
        for line, cells in rows:
            if len(cells) != len(header):
                raise InputError(
                    f"{name}:{line}: expected {len(header)} cells as in the header, found {len(cells)}: {clip(cells)}"
                )
            yield _Record(f"{name}:{line}", line, dict(zip(header, cells, strict=True)))

    return _Table(name, header, {}, records, True)


def _rows(table: _Table, options: ReadOptions) -> Iterator[Row]:
    column = _word_column(table, options)
    return _records(table, options) if column is None else _sentences(table, column, options)


def _word_column(table: _Table, options: ReadOptions) -> str | None:
    """The column of words where the table has one word a row: then it needs a column that tells sentences apart."""
    asked = options.text_column_name
    if asked is not None and asked not in table.columns:
        raise _no_column(table, asked, "text_column_name")
    if options.sentence_column_name is None and (asked in _TEXTS or not _matching(table, _SENTENCES)):
        return None
    column = next(iter(_matching(table, _WORDS)), None) if asked is None else str(asked)
    first = next(table.records(), None)
    if column is None or first is None or isinstance(_unpacked(table, column, first), list):
        return None
    return column


def _no_column(table: _Table, column: str | int, option: str) -> InputError:
    return InputError(f"{table.name}: expected a column {column} ({option}), found {', '.join(table.columns)}")


def _matching(table: _Table, names: tuple[str, ...]) -> list[str]:
    """Columns of one of the names, the first name first."""
    plain = {column: re.sub(r"[\W_]+", "", column).lower() for column in table.columns}
    return [column for name in names for column in table.columns if plain[column] == name]


def _tag_column(table: _Table, options: ReadOptions) -> str | None:
    if not options.tags or options.label_column_name is not None:
        return tag_column(table.name, table.columns, options)
    found = _matching(table, _TAGS)
    if len(found) > 1:
        raise InputError(f"{table.name}: both {' and '.join(found)} could be the tags; give label_column_name")
    return found[0] if found else None


def _sentences(table: _Table, column: str, options: ReadOptions) -> Iterator[Row]:
    sentence = options.sentence_column_name or _matching(table, _SENTENCES)[0]
    if sentence not in table.columns:
        raise _no_column(table, sentence, "sentence_column_name")
    tag = _tag_column(table, options)
    names = table.declared.get(tag or "") or options.labels
    current: Any = None
    document: Any = None
    words: list[str] = []
    tags: list[str] = []
    lines: list[int] = []
    cells: dict[str, list[Any]] = {}
    place = ""

    def row() -> Row:
        return Row(words, None if tag is None else tags, None, None, document, place, lines, cells)

    for record in table.records():
        begins = record.cells[sentence]
        if words and begins not in (None, "", current):
            yield row()
            words, tags, lines, cells = [], [], [], {}
        if not words:
            place = record.place
        current = current if begins in (None, "") else begins
        if record.cells.get("document_id") not in (None, ""):
            document = record.cells["document_id"]
        word = record.cells[column]
        if not isinstance(word, str) or not word or "\n" in word:
            opened = "; a quotation mark alone is written as four" if isinstance(word, str) and word else ""
            raise InputError(f"{record.place}: expected a word in {column}, found {clip(word)}{opened}")
        words.append(word)
        if tag is not None:
            tags.append(_tag(table, record, tag, names))
        lines.append(record.line)
        for name, cell in record.cells.items():
            cells.setdefault(name, []).append(cell)
    yield row()


def _tag(table: _Table, record: _Record, column: str, names: Any) -> str:
    tag = record.cells[column]
    if tag in (None, ""):
        raise InputError(f"{record.place}: expected a tag in {column}, found nothing")
    if table.is_text and names is not None and tag.isdecimal():
        tag = int(tag)
    return names_of(record.place, column, [tag], names, 1)[0]


def _records(table: _Table, options: ReadOptions) -> Iterator[Row]:
    if next(table.records(), None) is None:
        raise InputError(f"{table.name}: expected rows, found none")
    if options.text_column_name is None and not set(table.columns) & {"tokens", *_TEXTS}:
        what = "a column tokens, text or word (text_column_name)"
        if words := _matching(table, _WORDS):
            what = f"a column that tells the sentences of {words[0]} apart (sentence_column_name)"
        raise InputError(f"{table.name}: expected {what}, found {', '.join(table.columns)}")
    records = (
        (record.place, {column: _unpacked(table, column, record) for column in record.cells})
        for record in table.records()
    )
    return rows_of(records, name=table.name, options=options, declared=table.declared)


def _unpacked(table: _Table, column: str, record: _Record) -> Any:
    cell = record.cells[column]
    return unpack(record.place, column, cell) if table.is_text and column not in _TEXTS else cell
