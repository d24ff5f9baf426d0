"""Which format a file is of, and what reads it."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from ner_lightning.errors import InputError
from ner_lightning.files import digest, open_to_read
from ner_lightning.readers import brat, conll, json, tables, text
from ner_lightning.readers.row import ReadOptions, Row, Source
from ner_lightning.readers.text import HEAD, refuse_foreign

# a new one is a file of this folder, and its lines in the three tables here
Format = Literal["conll", "conllu", "json", "text", "csv", "tsv", "parquet", "brat"]


class Reader(Protocol):
    """Reads the rows of a file of one format, from its start."""

    def __call__(self, path: Path, *, name: str, options: ReadOptions) -> Iterator[Row]:
        """Read them; an error calls the file `name` and says where in it something is not well formed."""


_READERS: dict[Format, Reader] = {
    "conll": partial(conll.read_rows, conllu=False),
    "conllu": partial(conll.read_rows, conllu=True),
    "json": json.read_rows,
    "text": text.read_rows,
    "csv": partial(tables.read_rows, format="csv"),
    "tsv": partial(tables.read_rows, format="tsv"),
    "parquet": partial(tables.read_rows, format="parquet"),
    "brat": brat.read_rows,
}
_SUFFIXES: dict[str, Format] = {
    ".conll": "conll",
    ".conllu": "conllu",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}


def read(path: str | Path, *, options: ReadOptions | None = None, name: str | None = None) -> Source:
    """Open a file, or a folder of brat, as rows.

    The suffix tells the format; of `.txt`, `.tsv` and other suffixes the first lines do: columns, JSON, a table with a
    header or text.

    Args:
        path: The file or folder.
        options: How it is read.
        name: What an error calls it, and what has the suffix; by default the path.

    Raises:
        InputError: There is no such file, or it is of no known format.
    """
    path, options, name = Path(path), options or ReadOptions(), name or str(path)
    format = _format(path, name, options)
    declared = tables.declared_names(path, name=name, options=options) if format == "parquet" else None
    rows: Callable[[], Iterator[Row]] = partial(_READERS[format], path, name=name, options=options)
    return Source(name, format, options, declared, rows, partial(_digest, path, name, format), path)


def _format(path: Path, name: str, options: ReadOptions) -> Format:
    asked, suffix = options.format, Path(name).suffix.lower()
    if asked is not None and asked not in _READERS:
        raise InputError(f"format {asked}: expected one of {', '.join(_READERS)}")
    if path.is_dir():
        if asked not in (None, "brat"):
            raise InputError(f"{name}: expected a file, found a directory")
        brat.texts_of(path, name)
        return "brat"
    if suffix == ".ann" and asked is None:
        raise InputError(f"{name}: the annotations of brat alone; give the .txt beside it, or the folder of both")
    with open_to_read(path) as file:
        head = file.read(HEAD)
    if "parquet" in (asked, _SUFFIXES.get(suffix)) and asked in (None, "parquet"):
        return "parquet"
    refuse_foreign(name, head)
    if asked is not None:
        return asked
    if suffix == ".txt" and path.with_suffix(".ann").is_file():
        return "brat"
    return _SUFFIXES.get(suffix) or _look(head, suffix, options)


def _look(head: bytes, suffix: str, options: ReadOptions) -> Format:
    lines = head.decode("utf-8-sig", errors="replace").split("\n")
    lines = lines[:-1] or lines  # of the last perhaps a part was read
    if options.comment_prefix:
        return "conll"
    if re.match(r'\s*(\{\s*"|\[\s*\{)', "\n".join(lines[:3])):
        return "json"
    if suffix == ".tsv" and _is_header(lines[0], options):
        return "tsv"
    # what has another suffix than text has was columns wherever it was seen (.iob, .bio, .testa)
    return "text" if suffix in ("", ".txt") and not _are_columns(lines) else "conll"


def _is_header(line: str, options: ReadOptions) -> bool:
    columns = [cell.strip('"') for cell in line.rstrip("\r").split("\t")]
    if any(_TAG.fullmatch(column) for column in columns):  # the first word of a CoNLL file may be "text"
        return False
    return options.text_column_name in columns or bool({column.lower() for column in columns} & _HEADER)


_HEADER = {"text", "source_text", "tokens", "token", "words", "word"}
_TAG = re.compile(r"O|[BIESLU]-\S+")


def _are_columns(lines: list[str]) -> bool:
    if lines[0].startswith("-DOCSTART-"):
        return True
    words = [line.split() for line in lines if line.strip()]
    if len({len(fields) for fields in words}) != 1 or len(words[0]) == 1:
        return False
    # words in groups, as many things said of each
    return all(_TAG.fullmatch(fields[-1]) for fields in words) or 20 <= len(words) < len(lines)


def _digest(path: Path, name: str, format: Format) -> str:
    files = [path]
    if format == "brat":
        texts = brat.texts_of(path, name)
        files = [file for text in texts for file in (text, text.with_suffix(".ann")) if file.is_file()]
    names = [file.name for file in files] if format == "brat" else []
    return " ".join([*map(digest, files), *names])
