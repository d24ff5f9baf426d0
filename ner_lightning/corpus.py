"""Corpora: files or a Hub dataset, to a `DatasetDict` over one label list.

Here the tags of the sources get their scheme, their labels and their ids. Where rows come from is for `sources`
and `hub_dataset`; with them this is the only part that imports `datasets`. Knows nothing of tokenizers.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ner_lightning.errors import InputError
from ner_lightning.quickstart import packaged
from ner_lightning.readers.hub import hub_tables
from ner_lightning.sources import Source, cached, content_key, from_files, from_folder, from_table, no_progress_bars
from ner_lightning.tags import (
    Scheme,
    TagError,
    UndecidedError,
    detect_scheme,
    is_entity_scheme,
    label_list,
    lacks_types,
    refuse_malformed,
    to_iob2,
    with_type,
)

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

log = logging.getLogger(__name__)

DEFAULT_TYPE = "ENTITY"  # where neither the tags nor the user name one


@dataclass(frozen=True)
class Corpus:
    """Sentences with their tags as ids.

    Args:
        splits: those of train, validation and test that were given; columns `tokens`, `tags` (ids over `labels`) and
            `document_id`.
        labels: the names of the ids, IOB2 or plain.
        scheme: the scheme in which the source spells its tags.
        commit: the commit of the Hub dataset that was loaded; None for files.
    """

    splits: "DatasetDict"
    labels: list[str]
    scheme: Scheme
    commit: str | None


def load_corpus(
    *,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_revision: str | None = None,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    text_column_name: str | int | None = None,
    label_column_name: str | int | None = None,
    labels: list[str] | Literal["all"] | None = None,
    scheme: Scheme | None = None,
    entity_type: str | None = None,
) -> Corpus:
    """Load a corpus from files or, where none is given, from a folder or a Hub dataset.

    Args:
        dataset_name: id of a Hub dataset, or a folder: with train, validation and test files, a snapshot of a Hub
            dataset, or what `save_to_disk` wrote.
        dataset_config_name: configuration of the Hub dataset or of its snapshot.
        dataset_revision: branch, tag or commit of the Hub dataset.
        train_file: `.jsonl`, `.json`, `.parquet`, `.conllu`; any other suffix is CoNLL columns.
        validation_file: the same for validation.
        test_file: the same for test.
        text_column_name: name of the column with the words (default: tokens), or its number in CoNLL files
            (default: 0; in `.conllu` 1).
        label_column_name: name of the column with the tags (default: ner_tags, else tags or labels), or its
            number in CoNLL files (default: -1; in `.conllu` 3).
        labels: the label list, used as given; needed where the tags are numbers (names in the order of the
            numbers) and where there is no train split. `all` takes the labels of all splits (default: those of
            train).
        scheme: the scheme of the tags (default: found from the tags).
        entity_type: the type of all entities where the tags name none: `O`, `B`, `I` (default: ENTITY).

    Raises:
        InputError: a source, a column, a row, a tag or a label cannot be used; says which and where.
    """
    from datasets import DatasetDict

    if labels is not None and labels != "all" and len(set(labels)) != len(labels):
        raise InputError(f"labels: expected each label once, found {labels} (--data.labels)")
    names = None if labels == "all" else labels
    given = {"train": train_file, "validation": validation_file, "test": test_file}
    files = {split: Path(packaged(str(path))) for split, path in given.items() if path is not None}
    columns, commit = (text_column_name, label_column_name), None
    if files:
        sources = {split: from_files([path], *columns, names) for split, path in files.items()}
    elif dataset_name is not None and (folder := Path(packaged(dataset_name))).is_dir():
        sources = from_folder(folder, dataset_config_name, *columns, names)
    elif dataset_name is not None:
        tables, commit = hub_tables(dataset_name, dataset_config_name, dataset_revision)
        sources = {split: from_table(table, *columns, names) for split, table in tables.items()}
    else:
        raise InputError("no data: give --data.dataset_name, or --data.train_file and its siblings")
    if labels is None and "train" not in sources:
        raise InputError("no label list: give the train split (--data.train_file) or --data.labels")
    decisive = "train" if "train" in sources else next(iter(sources))
    spelling = _spelling(sources[decisive], scheme, entity_type)
    sources = {split: replace(source, spelling=spelling) for split, source in sources.items()}
    scheme = _scheme(sources[decisive], scheme, None if "train" in sources else names)
    listed = _labels(sources.values() if labels == "all" else [sources[decisive]], names, scheme)
    splits = DatasetDict()
    for split, source in sources.items():
        splits[split] = _with_ids(split, source, listed, scheme, all_would_help=labels is None)
    return Corpus(splits=splits, labels=listed, scheme=scheme, commit=commit)


def _spelling(source: Source, scheme: Scheme | None, entity_type: str | None) -> dict[str, str]:
    """What is read in place of the tags `B` and `I`, where these alone stand beside `O`."""
    if scheme == "plain":
        if entity_type is not None:
            raise InputError(f"--data.entity_type={entity_type}: --data.scheme=plain has no entities; leave one out")
        return {}
    tags = _distinct(source)
    if lacks_types(tags):
        if entity_type is None:
            log.warning(
                "%s: the tags %s name no type, %s is taken for all entities (--data.entity_type gives another name)",
                source.name,
                ", ".join(sorted(tags)),
                DEFAULT_TYPE,
            )
        return with_type(entity_type or DEFAULT_TYPE)
    if entity_type is not None and tags - {"O"}:
        raise InputError(
            f"{source.name}: --data.entity_type={entity_type} is for entities whose tags are O, B and I alone, found "
            f"tags such as {min(tags - {'O'})}; leave it out"
        )
    return {}


def _scheme(source: Source, scheme: Scheme | None, labels: list[str] | None) -> Scheme:
    if scheme == "plain":
        return scheme
    with _naming_the_place(source):
        if scheme is not None:
            refuse_malformed(_distinct(source))
            return scheme
        if labels is None and _distinct(source) <= {"O"}:
            raise InputError(f"{source.name}: every tag is O; expected entities or labels (--data.label_column_name)")
        try:
            scheme, slips = detect_scheme(_sentences(source))
        except UndecidedError:
            if labels is None:
                raise
            # a small file may not tell; the schemes that remain read its tags alike
            return "IOB2" if is_entity_scheme(labels) else "plain"
    if slips is not None:
        log.warning(
            "%s: tag %r opens an entity, where %s has %s-; %d of %d do so, this is the first; they are read as "
            "conlleval does",
            source.place(*slips.place),
            slips.tag,
            scheme,
            "B" if scheme == "IOB2" else "I",
            slips.number,
            slips.openings,
        )
    return scheme


def _labels(sources: Iterable[Source], labels: list[str] | None, scheme: Scheme) -> list[str]:
    """Labels given stand as they are, unless they spell another scheme: the ids of a corpus are IOB2 or plain."""
    if labels is not None and (scheme == "plain" or is_entity_scheme(labels)):
        return labels
    found: set[str] = set()
    for source in sources:
        names = labels or source.declared or sorted(_distinct(source))
        with _naming_the_place(source):
            found.update(label for name in names for label in to_iob2([source.spelling.get(name, name)], scheme=scheme))
    return label_list(found)


def _with_ids(split: str, source: Source, labels: list[str], scheme: Scheme, *, all_would_help: bool) -> "Dataset":
    from datasets import ClassLabel, Features, List

    ids = {label: index for index, label in enumerate(labels)}

    def convert(batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[list[int]]]:
        return {"tags": [to_ids(row, _spelled(source, tags)) for row, tags in zip(rows, batch["tags"], strict=True)]}

    def to_ids(row: int, tags: list[str]) -> list[int]:
        try:
            converted = to_iob2(tags, scheme=scheme)
        except TagError as error:
            raise InputError(f"{source.place(row, tags.index(error.tag))}: {error}") from error
        for word, label in enumerate(converted):
            if label not in ids:
                more = ": --data.labels=all takes it from all splits" if all_would_help else ""
                raise InputError(
                    f"{source.place(row, word)}: label {label} of the {split} split is not in the label list "
                    f"{', '.join(labels)}; the list comes from the train split, --data.labels or the checkpoint{more}"
                )
        return [ids[label] for label in converted]

    key = content_key(source.key, source.spelling, labels, scheme)

    def write(path: Path) -> None:
        with no_progress_bars():
            source.rows.map(
                convert,
                batched=True,
                with_indices=True,
                features=Features({**source.rows.features, "tags": List(ClassLabel(names=labels))}),
                cache_file_name=str(path),
                new_fingerprint=key,
            )

    return cached(key, write)


def _sentences(source: Source) -> Iterator[list[str]]:
    for table in source.rows.select_columns("tags").with_format("arrow").iter(1000):
        for tags in table["tags"].to_pylist():
            yield _spelled(source, tags)


def _spelled(source: Source, tags: list[str]) -> list[str]:
    return [source.spelling.get(tag, tag) for tag in tags] if source.spelling else tags


def _distinct(source: Source) -> set[str]:
    return {tag for tags in _sentences(source) for tag in tags}


@contextmanager
def _naming_the_place(source: Source) -> Iterator[None]:
    """Put before an error where the tag stands; the source itself where no single word is to blame or has it."""
    try:
        yield
    except TagError as error:
        places = ((row, tags.index(error.tag)) for row, tags in enumerate(_sentences(source)) if error.tag in tags)
        place = error.place or next(places, None)
        raise InputError(f"{source.name if place is None else source.place(*place)}: {error}") from error
