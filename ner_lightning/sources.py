"""Where the rows of a corpus come from: files of each kind, and any table with named columns, made Arrow.

A source becomes Arrow once, in the cache of `datasets` under a key of its content, with its tags as it spells
them. Of schemes, label lists and the Hub nothing is known here.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ner_lightning import conll
from ner_lightning.errors import InputError
from ner_lightning.version import __version__

if TYPE_CHECKING:
    from datasets import Dataset

# What the splits are called, in the order in which the names are looked for.
SPLITS = {"train": ("train",), "validation": ("validation", "dev", "valid"), "test": ("test",)}
_SUFFIXES = (".conll", ".conllu", ".txt", ".tsv", ".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class Table:
    """Rows with named columns.

    Args:
        name: what an error calls it.
        columns: the names of the columns.
        features: their types as `datasets` knows them; empty where the rows alone tell.
        records: gives each row, with the place that an error is to name.
        key: stands for the content.
    """

    name: str
    columns: list[str]
    features: dict[str, Any]
    records: Callable[[], Iterator[tuple[str, dict[str, Any]]]]
    key: str


@dataclass(frozen=True)
class Source:
    """A split in Arrow.

    Args:
        name: what an error calls it.
        rows: `tokens`, `tags` as the source spells them, `document_id`.
        declared: the label names that the source declares (`ClassLabel`), whether they occur or not.
        place: where the word of a row stands, for an error; reads the source again.
        key: stands for the content and for how it was read.
    """

    name: str
    rows: "Dataset"
    declared: list[str] | None
    place: Callable[[int, int], str]
    key: str


def files_of(folder: Path) -> dict[str, Path]:
    """Find the files of a folder by their names: a split and a suffix.

    Args:
        folder: an existing folder.

    Raises:
        InputError: no file, or more than one for a split.
    """
    files = {}
    for split, stems in SPLITS.items():
        found = [path for stem in stems for suffix in _SUFFIXES if (path := folder / (stem + suffix)).is_file()]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise InputError(f"{folder}: expected one file for {split}, found {names}; give --data.{split}_file")
        if found:
            files[split] = found[0]
    if not files:
        raise InputError(
            f"{folder}: expected files named train, validation or test with a suffix of {', '.join(_SUFFIXES)}"
        )
    return files


def from_file(path: Path, text: str | int | None, label: str | int | None, labels: list[str] | None) -> Source:
    """Read a file of any kind, or take it from the cache where its content was read before.

    Args:
        path: `.jsonl`, `.json`, `.parquet`, `.conllu`; any other suffix is CoNLL columns.
        text: the column with the words: a name, or a number for CoNLL columns; None for the default.
        label: the same for the tags.
        labels: the names of tags that are numbers.

    Raises:
        InputError: the file, a column or a row cannot be used; says where.
    """
    content = _sha256(path)
    if path.suffix in (".jsonl", ".json"):
        return from_table(_json_table(path, content), text, label, labels)
    if path.suffix == ".parquet":
        return from_table(_parquet_table(path, content), text, label, labels)
    conllu = path.suffix == ".conllu"
    words = _number(path, "text_column_name", text, 1 if conllu else 0)
    tags = _number(path, "label_column_name", label, 3 if conllu else -1)

    def sentences() -> Iterator[conll.Sentence]:
        return conll.read_sentences(path, word_column=words, tag_column=tags)

    def rows() -> Iterator[dict[str, Any]]:
        for sentence in sentences():
            yield {"tokens": sentence.words, "tags": sentence.tags, "document_id": sentence.document}

    def place(row: int, word: int) -> str:
        return f"{path}:{next(islice(sentences(), row, None)).lines[word]}"

    key = content_key(content, conllu, words, tags)
    return Source(str(path), _to_arrow(rows, key), None, place, key)


def from_table(table: Table, text: str | int | None, label: str | int | None, labels: list[str] | None) -> Source:
    """Read a table, or take it from the cache where its content was read before.

    Args:
        table: the rows.
        text: the name of the column with the words; None for the default.
        label: the same for the tags.
        labels: the names of tags that are numbers, where the table does not declare them.

    Raises:
        InputError: a column or a row cannot be used; says where.
    """
    from datasets import ClassLabel, LargeList, List

    words = _column(table, "text_column_name", text, ["tokens"])
    tags = _column(table, "label_column_name", label, ["ner_tags", "tags", "labels"])
    feature = table.features.get(tags)
    classes = feature.feature if isinstance(feature, List | LargeList) else None
    declared = list(classes.names) if isinstance(classes, ClassLabel) else None
    names = declared or labels

    def rows() -> Iterator[dict[str, Any]]:
        documents: dict[str, int] = {}
        index = -1
        for index, (place, record) in enumerate(table.records()):
            tokens = _words(place, words, record.get(words))
            row = {"tokens": tokens, "tags": _tags(place, tags, record.get(tags), names, len(tokens))}
            document = record.get("document_id", index)
            if not isinstance(document, int):
                document = documents.setdefault(str(document), len(documents))
            yield {**row, "document_id": document}
        if index < 0:
            raise InputError(f"{table.name}: expected rows, found none")

    def place(row: int, word: int) -> str:
        return next(islice(table.records(), row, None))[0]

    key = content_key(table.key, words, tags, names)
    return Source(table.name, _to_arrow(rows, key), declared, place, key)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep `datasets` quiet: its two bars for each split are over before they tell anything."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def content_key(*parts: Any) -> str:
    """Make the key of a cache: other parts, another version or other code of this package, another key.

    Args:
        parts: what JSON can hold.
    """
    return hashlib.sha256(json.dumps([__version__, _code(), *parts]).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """A digest of the code that makes what is cached: in a clone it changes while the version stays."""
    modules = ("conll", "corpus", "data", "encoding", "pretrained", "sources", "tags")
    return hashlib.sha256(b"".join(Path(__file__).with_name(f"{m}.py").read_bytes() for m in modules)).hexdigest()


def first_line(error: Exception) -> str:
    """Shorten what a library says to what fits into a sentence.

    Args:
        error: an error of another library.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _sha256(path: Path) -> str:
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a directory")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _json_table(path: Path, content: str) -> Table:
    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except ValueError:
                    record = None
                if not isinstance(record, dict):
                    raise InputError(f"{path}:{number}: expected a JSON object, found {_clip(line)}")
                yield f"{path}:{number}", record

    first = next(records(), None)
    if first is None:
        raise InputError(f"{path}: expected a JSON object on each line, found none")
    return Table(str(path), list(first[1]), {}, records, content)


def _parquet_table(path: Path, content: str) -> Table:
    from datasets import Features
    from pyarrow import ArrowInvalid, parquet

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=1000) for row in batch.to_pylist())
            for number, row in enumerate(rows):
                yield f"{path}, row {number}", row

    try:
        features = Features.from_arrow_schema(parquet.read_schema(path))
    except ArrowInvalid as error:
        raise InputError(f"{path}: expected a parquet file: {first_line(error)}") from error
    return Table(str(path), list(features), features, records, content)


def _number(path: Path, option: str, asked: str | int | None, default: int) -> int:
    try:
        return default if asked is None else int(asked)
    except ValueError as error:
        raise InputError(
            f"{path}: expected the number of a column in {option}, found {asked!r} (--data.{option})"
        ) from error


def _column(table: Table, option: str, asked: str | int | None, names: list[str]) -> str:
    if asked is None:
        found = [name for name in names if name in table.columns]
        if found[:1] == names[:1] or len(found) == 1:
            return found[0]
        wanted = " or ".join(names)
    elif asked in table.columns:
        return str(asked)
    else:
        wanted = str(asked)
    raise InputError(f"{table.name}: expected a column {wanted}, found {', '.join(table.columns)} (--data.{option})")


def _words(place: str, column: str, words: Any) -> list[str]:
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return words
    raise InputError(f"{place}: expected a list of words in {column}, found {_clip(words)}")


def _tags(place: str, column: str, tags: Any, names: list[str] | None, words: int) -> list[str]:
    if not isinstance(tags, list) or len(tags) != words:
        raise InputError(f"{place}: expected a list of {words} tags in {column}, found {_clip(tags)}")
    return [tag if isinstance(tag, str) else _tag_name(place, column, tag, names) for tag in tags]


def _tag_name(place: str, column: str, tag: Any, names: list[str] | None) -> str:
    if not isinstance(tag, int):
        raise InputError(f"{place}: expected tags in {column}, as text or numbers, found {_clip(tag)}")
    if names is None:
        raise InputError(
            f"{place}: the tags in {column} are numbers without names; give the names in the order of the "
            "numbers (--data.labels)"
        )
    if not 0 <= tag < len(names):
        raise InputError(f"{place}: expected a tag from 0 to {len(names) - 1} in {column}, found {tag}")
    return names[tag]


def _to_arrow(rows: Callable[[], Iterator[dict[str, Any]]], key: str) -> "Dataset":
    from datasets import Dataset, Features, List, Value
    from datasets.exceptions import DatasetGenerationError

    strings = List(Value("string"))
    features = Features({"tokens": strings, "tags": strings, "document_id": Value("int64")})
    try:
        with no_progress_bars():
            return Dataset.from_generator(rows, features=features, fingerprint=key)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
