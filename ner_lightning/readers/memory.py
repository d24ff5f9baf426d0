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
    """Read rows as a JSON file of such objects is read, or a table with such columns, see `records.rows_of`.

    Raises:
        InputError: They are no such rows.
    """
    from datasets import Dataset

    if isinstance(rows, Dataset):
        return dataset_source(rows, name=name, options=options)
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
