"""The forms in which labelled rows are written, one function each: rows in, bytes of a file out, as a stream.

A format that is read has its own form, so that what comes out can be read as what went in.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Literal, get_args

from ner_lightning.errors import InputError
from ner_lightning.predict.entities import EntityReader, LabelledRow
from ner_lightning.readers import Source
from ner_lightning.readers.conll import read_lines

OutputFormat = Literal["conll", "jsonl", "csv", "tsv", "parquet", "label-studio", "colour"]

_COLUMN = "prediction"  # of a table
_GOLD = ("entities", "spans", "label", "labels", "privacy_mask")  # where entities stand in a record with a text
_BATCH = 1000  # rows of a table


def form_of(source: Source) -> OutputFormat:
    """The form in which a source comes out where no other is asked for.

    Args:
        source: What is read.
    """
    if source.format == "conllu":
        return "conll"
    return source.format if source.format in ("conll", "csv", "tsv", "parquet") else "jsonl"  # type: ignore[return-value]


def write(
    rows: Iterable[LabelledRow], file: BinaryIO, *, form: OutputFormat, source: Source, entities: EntityReader
) -> None:
    """Write labelled rows.

    Args:
        rows: In the order of the source.
        file: Where to.
        form: `conll`: the lines of a CoNLL file byte for byte with the label as one more column; of other sources word
            and label with a tab between them. `jsonl`: a JSON object a row, with its fields, `entities`, and `tags`
            where words were given. `csv`, `tsv`, `parquet`: the table with a column `prediction`. `label-studio`: a
            JSON array of tasks with predictions. `colour`: text with coloured entities, for a terminal.
        source: What the rows were read from.
        entities: Of the labels of the model.

    Raises:
        InputError: The source is no table, and a table is asked for.
    """
    assert form in get_args(OutputFormat)
    if form in ("csv", "tsv", "parquet"):
        if source.format not in ("csv", "tsv", "parquet"):
            raise InputError(f"{source.name} is no table, so there is no column to add: give --format=jsonl or conll")
        (_parquet if form == "parquet" else _delimited(form))(rows, file)
    elif form == "label-studio":
        _tasks(rows, file, entities)
    elif form == "conll" and source.format in ("conll", "conllu"):
        _columns(rows, file, source)
    else:
        for each in rows:
            if form == "jsonl":
                text = _as_json(each, entities)
            else:
                text = _as_columns(each) if form == "conll" else entities.render(each, colour=True) + "\n"
            file.write(text.encode())


def _columns(rows: Iterable[LabelledRow], file: BinaryIO, source: Source) -> None:
    assert source.path is not None
    labels = (label for each in rows for label in each.labels)
    lines = read_lines(source.path, name=source.name, options=source.options, conllu=source.format == "conllu")
    for line in lines:
        written = line.with_column(next(labels)) if line.kind == "word" else line
        file.write((written.text + written.ending).encode())


def _as_columns(each: LabelledRow) -> str:
    # white space inside of a word, which columns cannot hold, becomes one space
    words = (" ".join(word.split()) or "_" for word in each.row.words)
    return "".join([*(f"{word}\t{label}\n" for word, label in zip(words, each.labels, strict=True)), "\n"])


def _as_json(each: LabelledRow, entities: EntityReader) -> str:
    found = entities.as_dicts(each)
    if each.row.text is None:
        fields = each.row.record or {"tokens": each.row.words}
        added = {"tags": each.labels, "entities": found}
    else:
        record = each.row.record or {"text": each.row.text}
        fields = {name: value for name, value in record.items() if name not in _GOLD or not isinstance(value, list)}
        added = {"entities": found}
    return json.dumps({**fields, **added}, ensure_ascii=False, default=str) + "\n"


def _delimited(form: str) -> Callable[[Iterable[LabelledRow], BinaryIO], None]:
    def write_table(rows: Iterable[LabelledRow], file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, delimiter="\t" if form == "tsv" else ",", lineterminator="\n")
        for number, record in enumerate(_records(rows)):
            if not number:
                writer.writerow(record)
            writer.writerow([v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in record.values()])
        text.detach()

    return write_table


def _parquet(rows: Iterable[LabelledRow], file: BinaryIO) -> None:
    import pyarrow
    from pyarrow import parquet

    records, writer = _records(rows), None
    while batch := list(islice(records, _BATCH)):
        table = pyarrow.Table.from_pylist(batch, schema=None if writer is None else writer.schema)
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _records(rows: Iterable[LabelledRow]) -> Iterator[dict[str, Any]]:
    """The records of a table, of which one may be a word or a sentence."""
    for each in rows:
        record = each.row.record
        if each.row.lines is not None:  # a record a word
            columns = [*record.values(), each.labels]
            yield from (dict(zip([*record, _COLUMN], cells, strict=True)) for cells in zip(*columns, strict=True))
        else:
            yield {**record, _COLUMN: each.labels}


def _tasks(rows: Iterable[LabelledRow], file: BinaryIO, entities: EntityReader) -> None:
    opening = b"["
    for each in rows:
        row = each.row
        text = " ".join(row.words) if row.text is None else row.text
        task = {name: value for name, value in row.record.items() if name in ("id", "data", "meta")}
        found = entities.in_text(each)
        regions = [
            {
                "from_name": "label",
                "to_name": "text",
                "type": "labels",
                "value": {**{key: e[key] for key in ("start", "end", "text")}, "labels": [e["type"]]},
                "score": e["score"],
            }
            for e in found
        ]
        score = min((e["score"] for e in found), default=1.0)
        task.setdefault("data", {"text": text})
        task["predictions"] = [{"model_version": "ner-lightning", "score": score, "result": regions}]
        file.write(opening + b"\n" + json.dumps(task, ensure_ascii=False, default=str).encode())
        opening = b","
    file.write(b"[]\n" if opening == b"[" else b"\n]\n")
