"""Where the rows of a corpus come from: files of each kind, and any table with named columns, made Arrow.

A source becomes Arrow once, in the cache of `datasets` under a key of its content, with its tags as it spells
them. What is in the cache is whole or is made anew. Of schemes, label lists and the Hub nothing is known here.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ner_lightning import __version__
from ner_lightning.errors import InputError
from ner_lightning.files import refuse_foreign, refuse_json_document
from ner_lightning.readers import columns as conll

if TYPE_CHECKING:
    from datasets import Dataset

# What the splits are called, in the order in which the names are looked for.
SPLITS = {"train": ("train",), "validation": ("validation", "dev", "valid"), "test": ("test",)}
_HEAD = 64 * 1024  # bytes that say what a file is
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
        spelling: what is read in place of a tag.
    """

    name: str
    rows: "Dataset"
    declared: list[str] | None
    place: Callable[[int, int], str]
    key: str
    spelling: dict[str, str] = field(default_factory=dict)


def from_folder(
    folder: Path, config: str | None, text: str | int | None, label: str | int | None, labels: list[str] | None
) -> dict[str, Source]:
    """Read the splits of a folder: files named after them, a snapshot of a Hub dataset, or what `save_to_disk` wrote.

    Args:
        folder: an existing folder.
        config: the folder within it that is meant, where there are several, as a snapshot has one for each
            configuration.
        text: as for `from_files`.
        label: the same.
        labels: the same.

    Raises:
        InputError: no split is there, or more than one candidate for one; what `from_files` refuses.
    """
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        tables = _saved_tables(folder)
        return {split: from_table(table, text, label, labels) for split, table in tables.items()}
    files = _files_of(folder, config)
    return {split: from_files(paths, text, label, labels) for split, paths in files.items()}


def from_files(paths: list[Path], text: str | int | None, label: str | int | None, labels: list[str] | None) -> Source:
    """Read a file of any kind, or take it from the cache where its content was read before.

    Args:
        paths: `.jsonl`, `.json`, `.parquet`, `.conllu`; any other suffix is CoNLL columns. Several are the shards of
            one split, in parquet.
        text: the column with the words: a name, or a number for CoNLL columns; None for the default.
        label: the same for the tags.
        labels: the names of tags that are numbers.

    Raises:
        InputError: the file, a column or a row cannot be used; says where.
    """
    path, content, heads = paths[0], *zip(*map(_digest, paths), strict=True)
    if path.suffix == ".parquet":
        return from_table(_parquet_table(paths, content_key(*content)), text, label, labels)
    refuse_foreign(str(path), heads[0])
    if path.suffix in (".jsonl", ".json"):
        refuse_json_document(str(path), heads[0])
        return from_table(_json_table(path, content[0]), text, label, labels)
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


def table_of(name: str, rows: "Dataset", key: str) -> Table:
    """Make a table of a dataset that is loaded.

    Args:
        name: what an error calls it.
        rows: the dataset.
        key: stands for the content.
    """

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        return ((f"{name}, row {number}", row) for number, row in enumerate(rows))

    return Table(name, rows.column_names, rows.features, records, key)


def named_splits(name: str, found: Iterable[str]) -> dict[str, str]:
    """Find the splits among names of any convention.

    Args:
        name: what an error calls the dataset.
        found: the names that it has.

    Raises:
        InputError: none is one of a split.
    """
    found = list(found)
    splits = {split: next((alias for alias in aliases if alias in found), None) for split, aliases in SPLITS.items()}
    if not any(splits.values()):
        raise InputError(f"{name}: expected a split train, validation or test, found {', '.join(found)}")
    return {split: alias for split, alias in splits.items() if alias is not None}


def cached(key: str, make: Callable[[Path], object]) -> "Dataset":
    """Open the Arrow table of a key in the cache of `datasets`; make it where there is none, or only a part of one.

    It appears there in one step: neither a full disk nor a kill leaves a part, and processes that make the same one do
    not meet.

    Args:
        key: a `content_key`; becomes the fingerprint of the table.
        make: writes the table to a file.

    Raises:
        InputError: the cache cannot be written; what `make` raises.
    """
    from datasets import Dataset, config

    path = Path(config.HF_DATASETS_CACHE, "ner_lightning", f"{key}.arrow")
    if not is_whole(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
                part = Path(folder, path.name)
                make(part)
                part.replace(path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else first_line(error)
            raise InputError(
                f"{path}: the cache cannot be written: {reason}; nothing of the table is kept (HF_DATASETS_CACHE names "
                "another folder)"
            ) from error
    rows = Dataset.from_file(str(path))
    rows._fingerprint = key  # as `datasets` does for its own files; else it depends on when the file was written
    return rows


def is_whole(path: Path) -> bool:
    """Tell whether an Arrow file is there to its last byte; reads where its batches begin, and no rows.

    Args:
        path: what `datasets` or `cached` wrote.
    """
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as file:
            pyarrow.ipc.open_stream(file).read_all()
            file.seek(file.size() - len(_END))
            return bool(file.read() == _END)  # one that was cut between two batches can be read, too
    except (OSError, pyarrow.ArrowInvalid):
        return False


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
    modules = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(module.read_bytes() for module in modules)).hexdigest()


def first_line(error: Exception) -> str:
    """Shorten what a library says to what fits into a sentence.

    Args:
        error: an error of another library.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream of Arrow


def _saved_tables(folder: Path) -> dict[str, Table]:
    from datasets import Dataset, load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except Exception as error:
        raise InputError(f"{folder}: what `save_to_disk` wrote here cannot be read: {first_line(error)}") from error
    if isinstance(saved, Dataset):
        name = str(saved.split)
        alone = next((split for split, aliases in SPLITS.items() if name in aliases), "train")
        places, rows = {alone: folder}, {alone: saved}
    else:
        splits = named_splits(str(folder), saved)
        places = {split: folder / name for split, name in splits.items()}
        rows = {split: saved[name] for split, name in splits.items()}
    return {
        split: table_of(
            str(place),
            rows[split],
            content_key(*(_digest(path)[0] for path in sorted(place.iterdir()) if path.is_file())),
        )
        for split, place in places.items()
    }


def _files_of(folder: Path, config: str | None) -> dict[str, list[Path]]:
    # a snapshot of the Hub has the files of its default configuration in data/, those of others under their names
    for place in [*([folder / config] if config else []), folder, folder / "data"]:
        if files := _split_files(place):
            return files
    configs = {path.name: files for path in sorted(folder.iterdir()) if path.is_dir() and (files := _split_files(path))}
    if len(configs) == 1:
        return next(iter(configs.values()))
    if configs:
        raise InputError(
            f"{folder}: expected the files of one corpus, found the folders {', '.join(configs)}; give one of them "
            "(--data.dataset_config_name)"
        )
    raise InputError(
        f"{folder}: expected files named train, validation or test with a suffix of {', '.join(_SUFFIXES)}, or shards "
        "such as data/train-00000-of-00001.parquet"
    )


def _split_files(folder: Path) -> dict[str, list[Path]]:
    files = {}
    for split, stems in SPLITS.items():
        found = [[path] for stem in stems for suffix in _SUFFIXES if (path := folder / (stem + suffix)).is_file()]
        found += [shards for stem in stems if (shards := _shards(folder, stem))]
        if len(found) > 1:
            names = ", ".join(str(paths[0].relative_to(folder)) for paths in found)
            raise InputError(f"{folder}: expected one file for {split}, found {names}; give --data.{split}_file")
        if found:
            files[split] = found[0]
    return files


def _shards(folder: Path, stem: str) -> list[Path]:
    """The parquet files of a split as the Hub names them: `train-00000-of-00002.parquet`, or `train/0000.parquet`."""
    shards = sorted(folder.glob(f"{stem}-[0-9]*-of-[0-9]*.parquet"))
    if not shards:
        return sorted((folder / stem).glob("[0-9]*.parquet"))
    (count,) = re.findall(r"-of-([0-9]+)", shards[0].name)
    if len(shards) != int(count):
        raise InputError(f"{folder}: expected {int(count)} files like {shards[0].name}, found {len(shards)}")
    return shards


def _digest(path: Path) -> tuple[str, bytes]:
    """The digest of a file, and how it begins."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a directory")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest(), head
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


def _parquet_table(paths: list[Path], content: str) -> Table:
    from datasets import Features
    from pyarrow import ArrowInvalid, parquet

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        for path in paths:
            try:
                with parquet.ParquetFile(path) as file:
                    rows = (row for batch in file.iter_batches(batch_size=1000) for row in batch.to_pylist())
                    for number, row in enumerate(rows):
                        yield f"{path}, row {number}", row
            except (ArrowInvalid, OSError) as error:
                raise InputError(f"{path}: expected a parquet file: {first_line(error)}") from error

    features = []
    for path in paths:
        try:
            features.append(Features.from_arrow_schema(parquet.read_schema(path)))
        except ArrowInvalid as error:
            raise InputError(f"{path}: expected a parquet file: {first_line(error)}") from error
        if features[-1] != features[0]:
            raise InputError(f"{path}: expected the columns of {paths[0]}: {features[0]}, found {features[-1]}")
    return Table(str(paths[0]), list(features[0]), features[0], records, content)


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
    import pyarrow
    from datasets import Features, List, Value

    strings = List(Value("string"))
    schema = Features({"tokens": strings, "tags": strings, "document_id": Value("int64")}).arrow_schema

    def write(path: Path) -> None:
        remaining = rows()
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
            while batch := list(islice(remaining, 1000)):
                writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))

    return cached(key, write)


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
