"""`predict --engine=ray`: what a row is, and what a part file holds; Ray Data reads, schedules, retries and resumes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from io import BufferedReader
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs, parquet

from ner_lightning.errors import InputError, first_line
from ner_lightning.files import locked
from ner_lightning.predict.forms import COLUMN, as_cell, as_json, column_type
from ner_lightning.predict.tagger import Tagger
from ner_lightning.readers import ReadOptions
from ner_lightning.readers.json import parse
from ner_lightning.readers.records import rows_of
from ner_lightning.readers.text import text_lines

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.block import BlockAccessor
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import BlockBasedFileDatasink, FileBasedDatasource, WriteResult

ROW_ID = "row_id"  # file and line: what a row is known by when a run goes on, and what puts rows in order
_FORMATS = {".txt": "text", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}
_PART = 8192  # rows that an actor takes and a part file holds: what is done again after a failure
_BATCH = 1000  # rows that are read together
_SLOTS = 2  # of processors, for what reads and writes, beside the actors


def label(
    inputs: Sequence[str],
    *,
    output: str,
    tagger: dict[str, Any],
    options: ReadOptions,
    actors: int | None = None,
) -> int:
    """Label files, folders and objects by their URLs, on the processes and hosts of Ray.

    Args:
        inputs: As Ray reads them.
        output: Folder or URL of the part files. Where a run of these options was cut off, this one goes on.
        tagger: Arguments of `Tagger.load`.
        options: How the inputs are read.
        actors: How many processes label; by default as many as Ray finds room for.

    Returns:
        The number of rows.

    Raises:
        InputError: An input cannot be read, there is no such model, the output holds something else, or another process
            predicts there.
    """
    format = options.format or _format_of(inputs)
    inputs, output = [_absolute(path) for path in inputs], _absolute(output)
    tagger = {**tagger, "model": _absolute(tagger["model"]) if Path(tagger["model"]).exists() else tagger["model"]}
    _unfinished(output, [inputs, tagger, options])  # so that it refuses at once
    context = Tagger.load(**{**tagger, "device": "cpu"}).encoder.context  # a wrong option is told before actors start
    if context != "sentence":
        raise InputError(
            f"--engine=ray parts a file anywhere, and this model reads sentences among their neighbours ({context=}): "
            "predict without it"
        )
    _start(actors)
    data = DataContext.get_current()
    data.enable_progress_bars = os.isatty(2)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    on_gpu = tagger["device"] != "cpu" and "GPU" in ray.cluster_resources()
    if tagger["device"].startswith("cuda") and not on_gpu:  # Ray would wait for one
        raise InputError(f"--device={tagger['device']}: Ray knows of no GPU here")
    try:
        rows = _Rows(inputs, format=format)
    except FileNotFoundError as error:
        raise InputError(f"{first_line(error)}: no such file or folder") from error
    except ValueError as error:  # of a folder without files
        raise InputError(first_line(error)) from error
    parts = _Parts(output, file_format="parquet" if format == "parquet" else "jsonl")
    with _alone_in(output):  # where another process may have ended since
        data.checkpoint_config = CheckpointConfig(ROW_ID, _unfinished(output, [inputs, tagger, options]))
        try:
            (
                ray.data.read_datasource(rows)
                .repartition(target_num_rows_per_block=_PART)
                .map_batches(
                    _Labeller,
                    fn_constructor_args=[tagger, options, format],
                    batch_format="pyarrow",
                    batch_size=None,
                    compute=ActorPoolStrategy(size=actors) if actors else ActorPoolStrategy(min_size=1),
                    num_gpus=int(on_gpu),
                )
                .write_datasink(parts)
            )
        except Exception as error:
            told = re.search(r"^ner_lightning\.errors\.InputError: (.+)", str(error), re.MULTILINE)
            if told is None:  # of the cause of an error elsewhere Ray brings the text alone
                raise
            raise InputError(told[1]) from error
        finally:
            data.checkpoint_config = None  # of this process, which may go on with Ray
    return parts.rows


class _Rows(FileBasedDatasource):  # type: ignore[misc] # of a package without types
    """Each row of a file with its id: a line, or the row of a table."""

    def __init__(self, paths: list[str], *, format: str) -> None:
        super().__init__(paths)
        self._format = format

    def _open_input_source(self, filesystem: Any, path: str, **options: Any) -> Any:
        if self._format == "parquet":  # which begins at its end
            return filesystem.open_input_file(path)
        return super()._open_input_source(filesystem, path, **options)

    def _read_stream(self, file: Any, path: str) -> Iterator[pa.Table]:
        if self._format == "parquet":
            table, number = parquet.ParquetFile(file), 0
            _refuse_names(path, table.schema_arrow.names, (ROW_ID, COLUMN))
            for batch in table.iter_batches(batch_size=_BATCH):
                ids = [_row_id(path, number + i) for i in range(batch.num_rows)]
                number += batch.num_rows
                yield pa.Table.from_batches([batch]).append_column(ROW_ID, pa.array(ids))
            return
        lines = text_lines(BufferedReader(file), path)
        kept = ((number, line) for number, line, _ in lines if self._format == "text" or line.strip())
        while batch := list(islice(kept, _BATCH)):
            ids = [_row_id(path, number) for number, _ in batch]
            yield pa.table({ROW_ID: ids, "line": [line for _, line in batch]})


class _Labeller:
    """What an actor does with a block of rows."""

    def __init__(self, tagger: dict[str, Any], options: ReadOptions, format: str) -> None:
        self._tagger, self._options, self._format = Tagger.load(**tagger), options, format

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = rows_of(self._records(block), name="", options=self._options)
        labelled = list(self._tagger.label(rows))
        if self._format == "parquet":
            kind = column_type(of_text=labelled[0].row.text is not None)
            cells = [as_cell(each, self._tagger.entities) for each in labelled]
            return block.append_column(COLUMN, pa.array(cells, kind))
        lines = [as_json(each, self._tagger.entities) for each in labelled]
        return block.select([ROW_ID]).append_column("line", pa.array(lines))

    def _records(self, block: pa.Table) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in block.to_pylist():
            path, _, number = row[ROW_ID].rpartition(":")
            place = f"{path}:{int(number)}"
            if self._format == "parquet":
                yield place, row
            else:
                record = {"text": row["line"]} if self._format == "text" else parse(row["line"], place=place)
                _refuse_names(place, record, (ROW_ID,))
                yield place, {ROW_ID: row[ROW_ID], **record}


class _Parts(BlockBasedFileDatasink):  # type: ignore[misc] # of a package without types
    """Part files; their names have no meaning."""

    rows = 0

    def write_block_to_file(self, block: BlockAccessor, file: Any) -> None:
        """Write a part."""
        table = block.to_arrow()
        if self.file_format == "parquet":
            parquet.write_table(table, file)
        else:
            file.write("".join(f"{line}\n" for line in table["line"].to_pylist()).encode())

    def on_write_complete(self, write_result: WriteResult) -> None:
        """Keep the number of rows."""
        super().on_write_complete(write_result)
        self.rows = write_result.num_rows


def _format_of(inputs: Sequence[str]) -> str:
    suffixes = {PurePosixPath(path.removesuffix(".gz")).suffix.lower() for path in inputs}
    formats = {_FORMATS.get(suffix) for suffix in suffixes}
    (format, *others) = formats
    if format is None or others:
        raise InputError(
            f"--engine=ray reads text, JSON lines or parquet, one of them at a time: give --input_format=text, json or "
            f"parquet for {', '.join(inputs)}"
        )
    return format


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().resolve())


def _start(actors: int | None) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start one of this machine."""
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**quiet)
    else:
        ray.init("local", num_cpus=(actors or os.cpu_count() or 1) + _SLOTS, include_dashboard=False, **quiet)


def _alone_in(output: str) -> AbstractContextManager[None]:
    """Keep other processes from an output on a disk; stores of objects have no locks."""
    system, folder = fs.FileSystem.from_uri(output)
    return locked(Path(folder), does="predicts there") if isinstance(system, fs.LocalFileSystem) else nullcontext()


def _unfinished(output: str, options: list[Any]) -> str:
    """Where Ray notes the rows that are done, below the output: this goes when all are."""
    notes = f"{output}/_unfinished-{sha256(repr(options).encode()).hexdigest()[:12]}"
    system, folder = fs.FileSystem.from_uri(output)
    listed = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    there = {PurePosixPath(info.path).name for info in listed} - {".lock"}
    if there and PurePosixPath(notes).name not in there:
        raise InputError(f"--output={output} holds other files, or was predicted with other options: give another one")
    return notes


def _refuse_names(place: str, names: Collection[str], ours: Sequence[str]) -> None:
    for name in ours:
        if name in names:
            raise InputError(f"{place}: there is a field {name}, which the prediction would have; rename it")


def _row_id(path: str, number: int) -> str:
    return f"{path}:{number:010}"  # sorted as text they are in order
