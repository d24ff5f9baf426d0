"""The forms in which labelled rows are written: one function each, from rows to the bytes of a file, as a stream.

Each input format has its own form; the others can be asked for. A form that a person would read again is read by the
same name in `readers`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal

from ner_lightning.errors import InputError
from ner_lightning.predict.entities import EntityReader, LabelledRow
from ner_lightning.readers import Source

OutputFormat = Literal["conll", "jsonl", "csv", "tsv", "parquet", "label-studio", "colour"]
Write = Callable[[Iterable[LabelledRow], BinaryIO, Source, EntityReader], None]

_COLUMN = "predicted_tags"  # added to a table


def form_of(source: Source) -> OutputFormat:
    """The form in which the rows of a source come out unless another is asked for.

    Args:
        source: What is read.
    """
    own: dict[str, OutputFormat] = {"conll": "conll", "conllu": "conll", "csv": "csv", "tsv": "tsv", "parquet": "parquet"}
    return own.get(source.format, "jsonl")
