"""Corpora: files, rows in memory or a Hub dataset, to a `DatasetDict` over one label list.

Here rows become Arrow tables, and their tags get a scheme, labels and ids. How rows are read is for `readers`.
"""

import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ner_lightning.cache import cached, content_key, no_progress_bars
from ner_lightning.errors import InputError
from ner_lightning.partial_labels import annotated_labels
from ner_lightning.quickstart import packaged
from ner_lightning.readers import ReadOptions, Row, Source, read, read_folder, read_hub, read_memory
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

Files = str | Path | Sequence[str | Path] | None


@dataclass(frozen=True)
class Corpus:
    """Sentences with their tags as ids."""

    # those that were given, with columns `tokens`, `tags` (ids over `labels`), `document_id`, `source_id` (of the file)
    splits: "DatasetDict"
    labels: list[str]  # the names of the ids, IOB2 or plain
    scheme: Scheme  # in which the source spells its tags; IOB2 for entities with character offsets
    commit: str | None  # of the Hub dataset that was loaded; None for files
    annotated: list[list[str]]  # the labels that may stand in each training file; empty where all may in each
    parts: "Mapping[str, _Part]" = field(repr=False)  # what the splits were made of

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: all but the sources, of which those in memory cannot."""
        return {**self.__dict__, "parts": {}}

    def places(self, split: str, words: Sequence[tuple[int, int]]) -> list[str]:
        """Tell where words stand (`path:line`); reads the sources of the split again, up to the last of them.

        Args:
            split: Of the words.
            words: Row and word of each.
        """
        part = self.parts[split]
        return part.places([(row if part.kept is None else part.kept[row], word) for row, word in words])


def load_corpus(
    *,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_revision: str | None = None,
    train_file: Files = None,
    validation_file: Files = None,
    test_file: Files = None,
    rows: "Mapping[str, Sequence[dict[str, Any]] | Dataset] | None" = None,
    options: ReadOptions | None = None,
    labels: Sequence[str] | Literal["all"] | None = None,
    scheme: Scheme | None = None,
    annotated_types: Mapping[str, Sequence[str]] | None = None,
    validation_split: float | None = None,
    train_fraction: float = 1.0,
    seed: int = 0,
) -> Corpus:
    """Load a corpus from files and rows or, where none are given, from a folder or a Hub dataset.

    The arguments are options of `TokenClassificationDataModule`; `rows` are those in memory, by split, and `options`
    say how all of these are read. Labels are needed where the tags are numbers and where there is no train split.

    Raises:
        InputError: A source, a column, a row, a tag or a label cannot be used; says which and where.
    """
    from datasets import DatasetDict

    names = None if labels is None or labels == "all" else list(labels)
    if names is not None and len(set(names)) != len(names):
        raise InputError(f"labels: expected each label once, found {names} (--data.labels)")
    options = replace(options or ReadOptions(), labels=None if names is None else tuple(names))
    files = {"train": paths_of(train_file), "validation": paths_of(validation_file), "test": paths_of(test_file)}
    commit = None
    sources = {split: [read(path, options=options) for path in paths] for split, paths in files.items() if paths}
    for split, given in (rows or {}).items():
        sources[split] = [read_memory(given, name=f"{split} rows", options=options)]
    if not sources and dataset_name is not None:
        if (folder := paths_of(dataset_name)[0]).is_dir():
            sources = read_folder(folder, config=dataset_config_name, options=options)
        else:
            sources, commit = read_hub(
                dataset_name, config=dataset_config_name, revision=dataset_revision, options=options
            )
    if not sources:
        raise InputError("no data: give --data.dataset_name, or --data.train_file and its siblings")
    if labels is None and "train" not in sources:
        raise InputError("no label list: give the train split (--data.train_file) or --data.labels")
    parts = {split: _part(sources[split]) for split in files if split in sources}
    decisive = "train" if "train" in parts else next(iter(parts))
    spelling = _spelling(parts[decisive], scheme, options.entity_type)
    parts = {split: replace(part, spelling=spelling) for split, part in parts.items()}
    scheme = _scheme(parts[decisive], scheme, None if "train" in parts else names)
    listed = _labels(parts.values() if labels == "all" else [parts[decisive]], names, scheme)
    annotated = []
    if annotated_types:
        types: dict[Path | None, Sequence[str]] = {paths_of(file)[0]: named for file, named in annotated_types.items()}
        annotated = annotated_labels(types, files=[one.path for one in sources.get("train", [])], labels=listed)
    if validation_split is not None:
        if annotated and "validation" not in parts:
            raise InputError(
                f"--data.validation_split={validation_split}: with --data.annotated_types the training data may lack "
                "entities that validation needs; give --data.validation_file, where all types are annotated"
            )
        parts = _with_validation(parts, validation_split, seed)
    if train_fraction < 1 and "train" in parts:
        parts["train"] = _fraction(parts["train"], train_fraction, seed)
    splits = DatasetDict()
    for split, part in parts.items():
        own = annotated if split == "train" else []
        splits[split] = _with_ids(split, part, listed, scheme, own, all_would_help=labels is None)
    return Corpus(splits=splits, labels=listed, scheme=scheme, commit=commit, annotated=annotated, parts=parts)


def paths_of(files: Files) -> list[Path]:
    """List the paths that an option names; `~` is the home of the user, and the sample is in the package."""
    given = [files] if isinstance(files, str | Path) else files or []
    return [Path(packaged(str(path))).expanduser() for path in given]


@dataclass(frozen=True)
class _Part:
    """A split before its tags are ids."""

    sources: list[Source]  # of its rows, one after another
    # `tokens`, `tags` as the sources spell them (None where a row has none), `document_id`, `source_id`, and `offsets`:
    # whether the tags were made of character offsets
    rows: "Dataset"
    key: str  # stands for the rows
    kept: list[int] | None  # the rows that belong to the split
    spelling: dict[str, str] = field(default_factory=dict)  # what is read in place of a tag

    @property
    def name(self) -> str:
        """What an error calls it."""
        return self.sources[0].name

    def place(self, row: int, word: int = 0) -> str:
        """Where a word stands; reads the sources again."""
        return self.places([(row, word)])[0]

    def places(self, words: Sequence[tuple[int, int]]) -> list[str]:
        """Where words stand, each given by its row and its number there; reads the sources again, once."""
        wanted = {row for row, _ in words}
        read = islice(chain.from_iterable(self.sources), max(wanted, default=-1) + 1)
        rows = {number: row for number, row in enumerate(read) if number in wanted}
        return [rows[row].place_of(word) for row, word in words]

    def has_tags(self) -> bool:
        """Whether tags were read, beside or instead of offsets."""
        return False in self.rows.unique("offsets")


def _part(sources: list[Source]) -> _Part:
    key = content_key(*(source.key for source in sources))
    rows = cached(key, partial(_write, sources))
    part = _Part(sources, rows, key, kept=None)
    if missing := rows.data.column("tags").null_count:
        kept = rows.data.column("tags").is_valid().to_numpy().nonzero()[0].tolist()
        part = replace(part, kept=kept)
        first = next(index for index, row in enumerate([*kept, len(rows)]) if index != row)
        log.warning(
            "%s: %d of %d rows have no annotation and are left out, the first is %s",
            part.name,
            missing,
            len(rows),
            part.place(first),
        )
    return part


def _write(sources: list[Source], path: Path) -> None:
    import pyarrow
    from datasets import Features, List, Value

    strings = List(Value("string"))
    numbers = {"document_id": Value("int64"), "source_id": Value("int64")}
    columns = {"tokens": strings, "tags": strings, **numbers, "offsets": Value("bool")}
    schema, records = Features(columns).arrow_schema, _records(sources)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, schema) as writer:
        while batch := list(islice(records, 1000)):
            writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))


def _records(sources: list[Source]) -> Iterator[dict[str, Any]]:
    documents: dict[Any, int] = {}
    one, index, annotated = len(sources) == 1, 0, False
    for number, source in enumerate(sources):
        for row in source:
            if row.tags is None and row.spans is None:
                raise _untagged(row, source)
            annotated = annotated or row.tags is not None
            document = row.document
            if document is None and one:
                document = index
            elif not (one and type(document) is int and abs(document) < 2**63):  # neither true nor too large for Arrow
                name = ("row", index) if document is None else ("document", str(document))
                document = documents.setdefault((number, name), len(documents))
            yield {
                "tokens": row.words,
                "tags": row.tags,
                "document_id": document,
                "source_id": number,
                "offsets": row.spans is not None,
            }
            index += 1
    if not annotated:
        raise _untagged(next(iter(sources[0])), sources[0])


def _untagged(row: Row, source: Source) -> InputError:
    by = "" if source.options.annotator is None else f" by {source.options.annotator} (--data.annotator)"
    return InputError(
        f"{row.place}: expected tags or entities, found none{by} in what was read as {source.format}; "
        "--data.label_column_name tells where they are, --data.format what the file is"
    )


def _spelling(part: _Part, scheme: Scheme | None, entity_type: str | None) -> dict[str, str]:
    """What is read in place of the tags `B` and `I`, where these alone stand beside `O`."""
    if scheme == "plain":
        if entity_type is not None:
            raise InputError(f"--data.entity_type={entity_type}: --data.scheme=plain has no entities; leave one out")
        return {}
    tags = _distinct(part, offsets=False)
    if lacks_types(tags):
        if entity_type is None:
            log.warning(
                "%s: the tags %s name no type, %s is taken for all entities (--data.entity_type gives another name)",
                part.name,
                ", ".join(sorted(tags)),
                DEFAULT_TYPE,
            )
        return with_type(entity_type or DEFAULT_TYPE)
    if entity_type is not None and tags - {"O"}:
        raise InputError(
            f"{part.name}: --data.entity_type={entity_type} is for entities whose tags are O, B and I alone, found "
            f"tags such as {min(tags - {'O'})}; leave it out"
        )
    return {}


def _scheme(part: _Part, scheme: Scheme | None, labels: list[str] | None) -> Scheme:
    has_tags = part.has_tags()
    if scheme not in (None, "IOB2") and not has_tags:
        raise InputError(
            f"{part.name}: --data.scheme={scheme} is for tags, found entities with character offsets; leave it out"
        )
    if scheme == "plain":
        return scheme
    with _naming_the_place(part):
        if scheme is not None:
            refuse_malformed(_distinct(part, offsets=False))
            return scheme
        if labels is None and _distinct(part, offsets=False) | _distinct(part, offsets=True) <= {"O"}:
            raise InputError(f"{part.name}: every tag is O; expected entities or labels (--data.label_column_name)")
        if not has_tags:
            return "IOB2"
        try:
            scheme, slips = detect_scheme(_sentences(part, offsets=False))
        except UndecidedError:
            if labels is None:
                raise
            # a small file may not tell; the schemes that remain read its tags alike
            return "IOB2" if is_entity_scheme(labels) else "plain"
    if slips is not None:
        log.warning(
            "%s: tag %r opens an entity, where %s has %s-; %d of %d do so, this is the first; they are read as "
            "conlleval does",
            part.place(*slips.place),
            slips.tag,
            scheme,
            "B" if scheme == "IOB2" else "I",
            slips.number,
            slips.openings,
        )
    return scheme


def _labels(parts: Iterable[_Part], labels: list[str] | None, scheme: Scheme) -> list[str]:
    """Labels given stand as they are, unless they spell another scheme: the ids of a corpus are IOB2 or plain."""
    if labels is not None and (scheme == "plain" or is_entity_scheme(labels)):
        return labels
    found: set[str] = set()
    for part in parts:
        declared = [source.declared for source in part.sources]
        if labels is not None:
            names = set(labels)
        elif part.has_tags() and None not in declared:
            names = {name for one in declared for name in one or ()}
        else:
            names = _distinct(part, offsets=False)
        with _naming_the_place(part):
            for name in sorted(names):
                found.update(to_iob2([part.spelling.get(name, name)], scheme=scheme))
        if labels is None:
            found.update(_distinct(part, offsets=True))
    return label_list(found)


def _with_validation(parts: dict[str, _Part], share: float, seed: int) -> dict[str, _Part]:
    """Part the train split into train and validation, at the borders of documents where there are several."""
    if "validation" in parts:
        log.warning(
            "--data.validation_split=%s is not used, as there is a validation split: %s",
            share,
            parts["validation"].name,
        )
        return parts
    if "train" not in parts:
        raise InputError(f"--data.validation_split={share} is a share of the train split, and there is none")
    train = parts["train"]
    groups = _documents(train, seed)
    if len(groups) == 1:
        raise InputError(f"{train.name}: --data.validation_split={share} needs two rows or more, found one")
    chosen = set(_first(groups[:-1], share * sum(map(len, groups))))  # one is left to train on
    kept = [row for row in chain(*groups) if row not in chosen]
    split = {
        "train": replace(train, kept=sorted(kept)),
        "validation": replace(train, kept=sorted(chosen)),
    }
    return {**split, **{name: part for name, part in parts.items() if name != "train"}}


def _fraction(train: _Part, share: float, seed: int) -> _Part:
    """A share of the train split, in whole documents; a smaller share with the same seed is a part of it."""
    groups = _documents(train, seed)
    return replace(train, kept=sorted(_first(groups, share * sum(map(len, groups)))))


def _documents(part: _Part, seed: int) -> list[list[int]]:
    """The rows of each document, or single rows where there are no several documents, in random order."""
    groups: dict[int, list[int]] = {}
    documents = part.rows["document_id"][:]
    for row in range(len(part.rows)) if part.kept is None else part.kept:
        groups.setdefault(documents[row], []).append(row)
    found = list(groups.values()) if len(groups) > 1 else [[row] for rows in groups.values() for row in rows]
    random.Random(seed).shuffle(found)
    return found


def _first(groups: Iterable[list[int]], rows: float) -> list[int]:
    """The rows of the first groups, until there are so many."""
    first: list[int] = []
    for group in groups:
        first += group
        if len(first) >= rows:
            break
    return first


def _with_ids(
    split: str, part: _Part, labels: list[str], scheme: Scheme, annotated: list[list[str]], *, all_would_help: bool
) -> "Dataset":
    from datasets import ClassLabel, Features, List

    ids = {label: index for index, label in enumerate(labels)}

    def convert(batch: dict[str, list[Any]], places: list[int]) -> dict[str, list[list[int]]]:
        rows = places if part.kept is None else [part.kept[place] for place in places]
        columns = zip(rows, batch["source_id"], batch["tags"], batch["offsets"], strict=True)
        return {"tags": [to_ids(row, source, _spelled(part, tags), offsets) for row, source, tags, offsets in columns]}

    def to_ids(row: int, source: int, tags: list[str], offsets: bool) -> list[int]:
        try:
            converted = tags if offsets else to_iob2(tags, scheme=scheme)
        except TagError as error:
            raise InputError(f"{part.place(row, tags.index(error.tag))}: {error}") from error
        for word, label in enumerate(converted):
            if label not in ids:
                more = ": --data.labels=all takes it from all splits" if all_would_help else ""
                raise InputError(
                    f"{part.place(row, word)}: label {label} of the {split} split is not in the label list "
                    f"{', '.join(labels)}; the list comes from the train split, --data.labels or the checkpoint{more}"
                )
            if annotated and label not in annotated[source]:
                raise InputError(
                    f"{part.place(row, word)}: an entity of {label[2:]}, which the file is said not to annotate: add "
                    "it to the file's types in --data.annotated_types, or take the entity out"
                )
        return [ids[label] for label in converted]

    key = content_key(part.key, part.kept, part.spelling, labels, scheme, annotated)

    def write(path: Path) -> None:
        rows = part.rows if part.kept is None else part.rows.select(part.kept)
        columns = {name: feature for name, feature in rows.features.items() if name != "offsets"}
        with no_progress_bars():
            rows.map(
                convert,
                batched=True,
                with_indices=True,
                remove_columns=["offsets"],
                features=Features({**columns, "tags": List(ClassLabel(names=labels))}),
                cache_file_name=str(path),
                new_fingerprint=key,
            )

    return cached(key, write)


def _sentences(part: _Part, *, offsets: bool) -> Iterator[list[str]]:
    """The tags of each row; none of a row whose tags were made otherwise, or that is not annotated."""
    for table in part.rows.select_columns(["tags", "offsets"]).with_format("arrow").iter(1000):
        for tags, made in zip(table["tags"].to_pylist(), table["offsets"].to_pylist(), strict=True):
            yield _spelled(part, tags) if tags is not None and made == offsets else []


def _spelled(part: _Part, tags: list[str]) -> list[str]:
    return [part.spelling.get(tag, tag) for tag in tags] if part.spelling else tags


def _distinct(part: _Part, *, offsets: bool) -> set[str]:
    import pyarrow.compute as pc

    found: set[str] = set()
    for table in part.rows.select_columns(["tags", "offsets"]).with_format("arrow").iter(1000):
        made = table["tags"].filter(pc.equal(table["offsets"], offsets))
        found.update(pc.list_flatten(made).unique().to_pylist())
    return set(_spelled(part, sorted(found)))


@contextmanager
def _naming_the_place(part: _Part) -> Iterator[None]:
    """Put before an error where the tag stands; the source itself where no single word is to blame or has it."""
    try:
        yield
    except TagError as error:
        sentences = enumerate(_sentences(part, offsets=False))
        places = ((row, tags.index(error.tag)) for row, tags in sentences if error.tag in tags)
        place = error.place or next(places, None)
        raise InputError(f"{part.name if place is None else part.place(*place)}: {error}") from error
