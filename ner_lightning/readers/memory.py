"""Rows in memory, for notebooks: dicts, or a table of `datasets`."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from json import dumps
from typing import TYPE_CHECKING, Any

from ner_lightning.errors import InputError
from ner_lightning.readers.records import rows_of
from ner_lightning.readers.row import ReadOptions, Row, Source, clip
from ner_lightning.readers.tables import dataset_source

if TYPE_CHECKING:
    from datasets import Dataset


def read_memory(rows: "Sequence[dict[str, Any]] | Dataset", *, name: str, options: ReadOptions) -> Source:
    """Read rows as a JSON file of such objects is read.

    Args:
        rows: Dicts with words and tags, or with text and entities, see `records.rows_of`; or a table with such
            columns.
        name: What an error calls them.
        options: How they are read.

    Raises:
        InputError: They are no such rows.
    """
    from datasets import Dataset

    if isinstance(rows, Dataset):
        # its fingerprint stands for the content, as in `datasets`, which has no public name for it
        return dataset_source(rows, name=name, digest=lambda: str(rows._fingerprint), options=options)
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise InputError(f"{name}: expected a list of dicts or a datasets.Dataset, found {clip(rows)}")

    def records() -> Iterator[tuple[str, dict[str, Any]]]:
        for number, record in enumerate(rows):
            if not isinstance(record, dict):
                raise InputError(f"{name}, row {number}: expected a dict, found {clip(record)}")
            yield f"{name}, row {number}", record

    def read() -> Iterator[Row]:
        return rows_of(records(), name=name, options=options)

    return Source(name, "memory", options, None, read, lambda: sha256(dumps(rows, default=repr).encode()).hexdigest())
