"""The forms in which labelled rows are written, one function each: rows in, bytes of a file out, as a stream.

A format that is read has its own form, so that what comes out can be read as what went in.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise
from typing import Any, BinaryIO, Literal

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.predict.entities import EntityReader, LabelledRow, text_of
from ner_lightning.readers import Row, Source
from ner_lightning.readers.conll import read_lines
from ner_lightning.readers.delimited import delimiter_of, read_cells
from ner_lightning.readers.label_studio import is_task
from ner_lightning.readers.tables import has_word_rows

TaskFormat = Literal["label-studio", "doccano", "prodigy"]
OutputFormat = Literal["conll", "jsonl", "csv", "tsv", "parquet", "label-studio", "doccano", "prodigy", "colour"]

_TABLES = ("csv", "tsv", "parquet")
COLUMN = "prediction"  # of a table
_GOLD = ("spans", "label", "labels", "privacy_mask")  # where a record with a text may have entities, too
_BATCH = 1000  # rows of a table


def form_of(source: Source) -> OutputFormat:
    """The form in which a source comes out where no other is asked for.

    Args:
        source: What is read.
    """
    if source.format in ("conll", "conllu"):
        return "conll"
    if source.format in _TABLES:
        return source.format  # type: ignore[return-value]
    return "label-studio" if is_task(next(iter(source)).record) else "jsonl"


def suffix_of(form: OutputFormat, source: Source) -> str | None:
    """The suffix of a file of a form; None for that of the source, which comes out as it was.

    Args:
        form: The form.
        source: What is read.
    """
    if form in _TABLES or (form == "conll" and source.format in ("conll", "conllu")):
        return None
    return {"conll": ".conll", "label-studio": ".json", "colour": ".txt"}.get(form, ".jsonl")


def check_form(form: OutputFormat, source: Source, *, reordered: bool = False) -> None:
    """Refuse a form that a source cannot have.

    Args:
        form: The form.
        source: What is read.
        reordered: Rows come in another order, or not all.

    Raises:
        InputError: The source is no such table, or has a column of that name; the form has the lines of the source.
    """
    if reordered and suffix_of(form, source) is None:
        raise InputError(
            f"{source.name}: --order and --limit cannot be used where a file comes out with a column more: give "
            "--format=label-studio, doccano, prodigy or jsonl"
        )
    if form not in _TABLES:
        return
    if source.format != form:
        raise InputError(f"{source.name} is no {form} file, so there is no column to add: give --format=jsonl or conll")
    if COLUMN in _header(source):
        raise InputError(f"{source.name}: there is a column {COLUMN}, where the prediction would be; rename it")


def write(
    rows: Iterable[LabelledRow], file: BinaryIO, *, form: OutputFormat, source: Source, entities: EntityReader
) -> None:
    """Write labelled rows.

    Args:
        rows: In the order of the source.
        file: Where to.
        form: `conll`: the lines of a CoNLL file byte for byte with the label as one more column; of other sources word
            and label with a tab between them. `jsonl`: a JSON object a row, with its fields, `entities`, and `tags`
            where words were given; fields that had the entities before give way. `csv`, `tsv`, `parquet`: the table
            with a column `prediction`. `label-studio`: a JSON array of tasks with predictions. `doccano`, `prodigy`: a
            JSON object a row as these tools import it. `colour`: text with coloured entities, for a terminal.
        source: What the rows were read from; see `check_form`.
        entities: Of the labels of the model.
    """
    if form == "parquet":
        _parquet(rows, file, source, entities)
    elif form in _TABLES:
        _delimited(rows, file, source, entities)
    elif form == "conll" and source.format in ("conll", "conllu"):
        _columns(rows, file, source)
    elif form == "conll" or form == "colour":
        for each in rows:
            text = _as_columns(each) if form == "conll" else entities.render(each, colour=True) + "\n"
            file.write(text.encode())
    else:
        write_tasks(rows, file, form=form, entities=entities)


def write_tasks(rows: Iterable[LabelledRow], file: BinaryIO, *, form: str, entities: EntityReader) -> None:
    """Write labelled rows in a form that needs nothing of their source.

    Args:
        rows: The rows.
        file: Where to.
        form: `label-studio`, `doccano`, `prodigy` or `jsonl`.
        entities: Of the labels of the model.
    """
    if form == "label-studio":
        _tasks(rows, file, entities)
    else:
        file.writelines(f"{_LINES[form](each, entities)}\n".encode() for each in rows)


def as_json(each: LabelledRow, entities: EntityReader) -> str:
    """A labelled row as the line of `jsonl`.

    Args:
        each: The row.
        entities: Of the labels of the model.
    """
    added: dict[str, Any] = {"entities": entities.as_dicts(each)}
    return _dumped({**_fields(each.row), **({"tags": each.labels} if each.row.text is None else {}), **added})


def as_cell(each: LabelledRow, entities: EntityReader) -> list[Any]:
    """What a table that has a row for each text or sentence is given in its column.

    Args:
        each: The labelled row.
        entities: Of the labels of the model.
    """
    return each.labels if each.row.text is None else entities.as_dicts(each)


def column_type(*, of_text: bool) -> Any:
    """The type of a parquet column of predictions: the entities of a text, or the labels of words that were given.

    Args:
        of_text: Which of both.
    """
    import pyarrow as pa

    entity = pa.struct(
        {"type": pa.string(), "text": pa.string(), "start": pa.int64(), "end": pa.int64(), "score": pa.float64()}
    )
    return pa.list_(entity if of_text else pa.string())


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


def _as_doccano(each: LabelledRow, entities: EntityReader) -> str:
    labels = [[entity["start"], entity["end"], entity["type"]] for entity in entities.in_text(each)]
    return _dumped({**_plain_fields(each.row), "label": labels})


def _as_prodigy(each: LabelledRow, entities: EntityReader) -> str:
    """A task: its tokens are our words, so that what people mark lies on their borders."""
    text, words = text_of(each.row)
    tokens: list[dict[str, Any]] = [
        {"text": text[start:end], "start": start, "end": end, "id": number, "ws": text[end : end + 1].isspace()}
        for number, (start, end) in enumerate(words)
    ]
    first, last = ({token[side]: token["id"] for token in tokens} for side in ("start", "end"))
    spans = [
        {
            **{name: entity[name] for name in ("start", "end")},
            "token_start": first[entity["start"]],
            "token_end": last[entity["end"]],  # inclusive, as Prodigy has it
            "label": entity["type"],
        }
        for entity in entities.in_text(each)
    ]
    fields = {name: value for name, value in _plain_fields(each.row).items() if name not in _ANSWERED}
    meta = {**(fields.get("meta") or {}), "score": round(min(each.scores, default=1.0), 6)}
    return _dumped({**fields, "tokens": tokens, "spans": spans, "meta": meta})


def _plain_fields(row: Row) -> dict[str, Any]:
    """The text and what is known of it, without lists: words, tags and other entities than those that are added."""
    return {name: value for name, value in _task_data(row).items() if not isinstance(value, list)}


_LINES = {"jsonl": as_json, "doccano": _as_doccano, "prodigy": _as_prodigy}
_ANSWERED = ("answer", "_task_hash", "_input_hash")  # of what was labelled with Prodigy before: this is a new question


def _fields(row: Row) -> dict[str, Any]:
    """What a row has beside its annotation."""
    record = row.record["data"] if is_task(row.record) else row.record
    if row.text is None:
        if row.lines is not None or not record:  # of the lines of a sentence nothing but their words
            return {"tokens": row.words}
        given = any(row.words == value for value in record.values())
        return record if given else {**record, "tokens": row.words}
    if not record:
        document = {"document_id": row.document} if isinstance(row.document, str) else {}  # of brat, its file
        return {"text": row.text, **document}
    return {name: value for name, value in record.items() if not (name in _GOLD and _are_entities(value))}


def _are_entities(value: Any) -> bool:
    """Tell entities from the label of a whole text, which stays."""
    return isinstance(value, list) and all(isinstance(item, list | dict) for item in value)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _header(source: Source) -> list[str]:
    assert source.path is not None
    if source.format == "parquet":
        from pyarrow import parquet

        return list(parquet.read_schema(source.path).names)
    return next(read_cells(source.path, name=source.name, tabs=source.format == "tsv"))[1]


def _cells(rows: Iterable[LabelledRow], source: Source, entities: EntityReader) -> Iterator[Any]:
    """What a table is given in each of its rows: the label of a word, the labels of all, or the entities of a text."""
    words = has_word_rows(source)
    for each in rows:
        if words:
            yield from each.labels
        else:
            yield as_cell(each, entities)


def _delimited(rows: Iterable[LabelledRow], file: BinaryIO, source: Source, entities: EntityReader) -> None:
    """Each row byte for byte with a cell more, before its line end; it may have several lines."""
    assert source.path is not None
    tabs = source.format == "tsv"
    starts = (line for line, _ in read_cells(source.path, name=source.name, tabs=tabs))
    cells = chain([COLUMN], _cells(rows, source, entities))
    with open_to_read(source.path) as lines:
        delimiter = "\t" if tabs else delimiter_of(lines.readline().decode("utf-8-sig"))
        lines.seek(0)
        first = next(starts)
        file.writelines(islice(lines, first - 1))
        for start, following in pairwise(chain([first], starts, [None])):
            assert start is not None
            block = list(lines if following is None else islice(lines, following - start))
            cell = next(cells)
            added = delimiter + _quoted(cell if isinstance(cell, str) else _dumped(cell), None if tabs else delimiter)
            last = max(number for number, line in enumerate(block) if line.strip())
            body = block[last].removesuffix(b"\n").removesuffix(b"\r") if block[last].endswith(b"\n") else block[last]
            block[last] = body + added.encode() + block[last][len(body) :]
            file.writelines(block)


def _quoted(cell: str, delimiter: str | None) -> str:
    """A cell as CSV has it; between tabs nothing needs marks."""
    if delimiter is None:
        return cell
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="").writerow([cell])
    return text.getvalue()


def _parquet(rows: Iterable[LabelledRow], file: BinaryIO, source: Source, entities: EntityReader) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    assert source.path is not None
    cells = _cells(rows, source, entities)
    first = next(cells)
    cells = chain([first], cells)
    of_text = next(iter(source)).text is not None
    kind = pa.string() if isinstance(first, str) else column_type(of_text=of_text)
    with open_to_read(source.path) as opened, parquet.ParquetFile(opened) as table:
        schema = table.schema_arrow.append(pa.field(COLUMN, kind))
        with parquet.ParquetWriter(file, schema) as writer:
            for batch in table.iter_batches(batch_size=_BATCH):
                added = pa.array(list(islice(cells, batch.num_rows)), kind)
                writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, added], schema=schema))


def _tasks(rows: Iterable[LabelledRow], file: BinaryIO, entities: EntityReader) -> None:
    opening = b"["
    for each in rows:
        task = each.row.record if is_task(each.row.record) else {"data": _task_data(each.row)}
        task = {**task, "predictions": [_prediction(each, task, entities)]}
        file.write(opening + b"\n" + _dumped(task).encode())
        opening = b","
    file.write(b"\n]\n" if opening == b"," else b"[]\n")


def _task_data(row: Row) -> dict[str, Any]:
    return {**_fields(row), "text": text_of(row)[0]}


def _prediction(each: LabelledRow, task: dict[str, Any], entities: EntityReader) -> dict[str, Any]:
    """The entities as regions, named as those that a person has marked, else as Label Studio's template for NER has it.

    The score of the whole is that of the word that is least certain: tasks can be sorted by it.
    """
    marked = (region for annotation in task.get("annotations", ()) for region in annotation.get("result", ()))
    known: dict[str, Any] = next((region for region in marked if "labels" in region.get("value", {})), {})
    regions = [
        {
            "id": str(number),
            "from_name": known.get("from_name", "label"),
            "to_name": known.get("to_name", "text"),
            "type": "labels",
            "value": {**{name: entity[name] for name in ("start", "end", "text")}, "labels": [entity["type"]]},
            "score": entity["score"],
        }
        for number, entity in enumerate(entities.in_text(each))
    ]
    return {"model_version": "ner_lightning", "score": min(each.scores, default=1.0), "result": regions}
