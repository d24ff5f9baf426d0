"""Labels for files of every format that is read, of any size: `python -m ner_lightning predict`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ner_lightning.errors import InputError, UsageError, refuse_without
from ner_lightning.files import naming, refuse_unwritable, replacing
from ner_lightning.predict.entities import LabelledRow
from ner_lightning.predict.forms import OutputFormat, check_form, form_of, suffix_of, write
from ner_lightning.predict.order import Order, least_certain_first
from ner_lightning.predict.tagger import Precision, Tagger
from ner_lightning.quickstart import packaged
from ner_lightning.readers import ReadOptions, Row, Source, read
from ner_lightning.readers.formats import Format

STREAM = "-"  # standard input or output, as a path


def predict(
    inputs: Sequence[str],
    *,
    model: str = "runs",
    output: str | None = None,
    format: OutputFormat | None = None,
    input_format: Format | None = None,
    text_column_name: str | None = None,
    sentence_column_name: str | None = None,
    comment_prefix: str = "",
    order: Order = "input",
    max_per_document: int | None = None,
    limit: int | None = None,
    min_score: float = 0.0,
    precision_target: float | None = None,
    device: str = "auto",
    precision: Precision = "32-true",
    max_tokens: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    engine: Literal["ray"] | None = None,
    actors: int | None = None,
) -> int:
    """Label the words of files.

    Args:
        inputs: Files of any format that is read, or `-` for standard input.
        model: Folder of runs (its newest), of a run (its best checkpoint), a checkpoint, an exported folder, or a
            Hub id.
        output: File to write, or a folder, as it must be for several inputs; by default standard output. A file that
            is there is replaced if its name ends as that of a prediction does.
        format: `conll`, `jsonl`, `csv`, `tsv`, `parquet`, `label-studio`, `doccano`, `prodigy` or `colour`; by default
            columns and tables come out as they are with one column more, tasks of Label Studio with predictions, and
            all else as JSON lines with entities, of which a terminal shows `colour`.
        input_format: What is in the inputs; by default found from suffix and content.
        text_column_name: Where the words or the text are: the number of a CoNLL column, the name of a field or column.
        sentence_column_name: In a table with one word a row, the column that tells sentences apart.
        comment_prefix: In CoNLL columns, lines that begin with it are comments; by default there are none.
        order: Of the rows: that of the `input`; `uncertain` puts first what people should label: rows with the least
            certain word, and those that are nearly as others last. All rows of an input are in memory then.
        max_per_document: With `--order=uncertain`, so many rows of a document (10) come before those of others.
        limit: Write only so many rows of each input.
        min_score: Entities with a smaller score are left out: their words have the label O.
        precision_target: Leave out entities of each type below the score from which on that share of them was right
            on validation, such as 0.95.
        device: Where to run: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: Of the arithmetic: `32-true`, `bf16-mixed` or `16-mixed`.
        max_tokens: Sub-words in a batch, with padding; by default 1,024 on a processor and 8,192 elsewhere.
        revision: Branch, tag or commit of a model on the Hub.
        trust_remote_code: Run the code that comes with the model, where it needs it.
        engine: `ray` labels text, JSON lines or parquet in several processes, here or on the cluster that RAY_ADDRESS
            names: inputs may be folders and URLs, the output is a folder or URL of part files, whose rows have a
            `row_id`, and a run that was cut off goes on.
        actors: With `--engine=ray`, how many processes label; by default as many as Ray finds room for.

    Returns:
        The number of words, or of rows with `--engine=ray`.

    Raises:
        InputError: An input cannot be read, there is no such model, or the output cannot be written.
    """
    options = ReadOptions(
        format=input_format,
        text_column_name=text_column_name,
        sentence_column_name=sentence_column_name,
        comment_prefix=comment_prefix or None,
        tags=False,
    )
    loading: dict[str, Any] = {
        "model": model,
        "min_score": min_score,
        "precision_target": precision_target,
        "device": device,
        "precision": precision,
        "max_tokens": max_tokens,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    if order == "input":
        refuse_without("--order=uncertain", max_per_document=max_per_document)
    if engine == "ray":
        if order != "input" or limit is not None:
            raise UsageError("--engine=ray labels all rows in the order of their row_id: no --order and no --limit")
        return _on_ray(inputs, output, format, options, loading, actors)
    refuse_without("--engine=ray", actors=actors)
    with ExitStack() as stack:
        # all that is wrong is said before the first word is labelled
        sources = [_open(path, options, stack) for path in inputs]
        for name, number in (("max_per_document", max_per_document), ("limit", limit)):
            if number is not None and number < 1:
                raise InputError(f"--{name}={number}: give 1 or more rows")
        chosen = _Chosen(order, max_per_document or 10, limit)
        jobs = [_Job(source, format or _default_form(source, output), chosen) for source in sources]
        outputs = _outputs(jobs, inputs, output)
        for path in outputs:
            _refuse_output(path, inputs, model)
        tagger = Tagger.load(**loading)
        started = time.monotonic()
        for job, path in zip(jobs, outputs, strict=True):
            job.run(tagger, path)
        words, seconds = sum(job.words for job in jobs), max(time.monotonic() - started, 1e-9)
        where = "" if output in (None, STREAM) else f": {output}"
        print(f"{words:,} words labelled, {words / seconds:,.0f} words/s{where}", file=sys.stderr)
        return words


class _Chosen(NamedTuple):
    """Which rows are written, and in which order."""

    order: Order
    max_per_document: int
    limit: int | None


def _on_ray(
    inputs: Sequence[str],
    output: str | None,
    form: OutputFormat | None,
    options: ReadOptions,
    loading: dict[str, Any],
    actors: int | None,
) -> int:
    if output in (None, STREAM) or STREAM in inputs:
        raise UsageError("--engine=ray reads and writes no streams: give files, and a folder or URL as --output")
    if form is not None or (options.format or "text") not in ("text", "json", "parquet"):
        raise UsageError("--engine=ray makes JSON lines of text and JSON lines, and parquet of parquet: no --format")
    if actors is not None and actors < 1:
        raise UsageError(f"--actors={actors}: give a number from 1")
    try:
        from ner_lightning.predict import on_ray
    except ModuleNotFoundError as error:
        raise InputError('--engine=ray: install what it needs: pip install "ner-lightning[ray]"') from error
    started = time.monotonic()
    rows = on_ray.label(inputs, output=str(output), tagger=loading, options=options, actors=actors)
    seconds = max(time.monotonic() - started, 1e-9)
    print(f"{rows:,} rows labelled, {rows / seconds:,.0f} rows/s: {output}", file=sys.stderr)
    return rows


class _Job:
    """A source that was read once, without an error, and the form in which it is written."""

    def __init__(self, source: Source, form: OutputFormat, chosen: _Chosen) -> None:
        self.source, self.form, self._chosen = source, form, chosen
        check_form(form, source, reordered=chosen.order != "input" or chosen.limit is not None)
        self._state = self._look()
        self.rows, self.words = 0, 0
        for row in self._read():
            self.rows += 1
            self.words += len(row.words)

    def run(self, tagger: Tagger, path: Path | None) -> None:
        """Label the rows and write them to a file, or to standard output."""
        # on a terminal a bar would move over what is written there
        hidden = (
            True if path is None and sys.stdout.isatty() else None
        )  # None: where there is neither terminal nor notebook
        rows = tqdm(tagger.label(self._read()), total=self.rows, unit=" rows", disable=hidden, leave=False)
        if self._chosen.order == "uncertain":
            ranked = least_certain_first(rows, max_per_document=self._chosen.max_per_document)
            rows = iter(ranked[: self._chosen.limit])
        if path is None:
            self._write_out(rows, tagger)
            return
        with replacing(path) as partial, partial.open("wb") as file:
            write(rows, file, form=self.form, source=self.source, entities=tagger.entities)
            if self._look() != self._state:
                raise InputError(f"{self.source.name}: the file was changed while it was read; predict it again")

    def _write_out(self, rows: Iterator[LabelledRow], tagger: Tagger) -> None:
        file = sys.stdout.buffer
        try:
            with naming("standard output", kept="what was written before is there"):
                write(rows, file, form=self.form, source=self.source, entities=tagger.entities)
                file.flush()
        except (BrokenPipeError, InputError) as error:
            # Python's own last flush must find an open end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
            if isinstance(error, InputError):
                raise
            # Who reads has seen enough (`| head`); as a shell tells of a program that SIGPIPE ended.
            raise SystemExit(128 + 13) from None

    def _read(self) -> Iterator[Row]:
        return islice(self.source, self._chosen.limit if self._chosen.order == "input" else None)

    def _look(self) -> tuple[int, int]:
        assert self.source.path is not None
        status = self.source.path.stat()
        return status.st_size, status.st_mtime_ns


# a file is replaced where its name ends as that of a prediction: no checkpoint, weights or config, nobody's thesis.tex
_REPLACED = ("", ".conll", ".conllu", ".jsonl", ".txt", ".tsv", ".csv", ".parquet", ".bio", ".iob", ".iob2")
_VOCABULARIES = ("vocab.txt", "merges.txt")  # of a model's folder
_JOINED = ("jsonl", "doccano", "prodigy", "colour")  # forms that may follow each other in one stream


def _open(path: str, options: ReadOptions, stack: ExitStack) -> Source:
    """Open an input; what cannot be read twice is copied first."""
    if path != STREAM:
        file = Path(packaged(path)).expanduser()
        if file.is_file() or file.is_dir() or not file.exists():
            return read(file, options=options, name=path)
    elif sys.stdin.isatty():
        print("reading text from standard input, until Ctrl-D", file=sys.stderr)
    handle, copy = tempfile.mkstemp(prefix="ner-lightning-")
    stack.callback(Path(copy).unlink)
    with open(handle, "wb") as target, ExitStack() as opened:
        source = sys.stdin.buffer if path == STREAM else opened.enter_context(open(path, "rb"))
        shutil.copyfileobj(source, target)
    return read(copy, options=options, name="standard input" if path == STREAM else path)


def _default_form(source: Source, output: str | None) -> OutputFormat:
    form = form_of(source)
    return "colour" if form == "jsonl" and output in (None, STREAM) and sys.stdout.isatty() else form


def _outputs(jobs: Sequence[_Job], inputs: Sequence[str], output: str | None) -> list[Path | None]:
    """The file of each input; None for standard output."""
    if output is None or output == STREAM:
        if len(inputs) > 1 and any(job.form not in _JOINED for job in jobs):
            raise InputError("several inputs of this form make no file together: give a folder as --output")
        return [None] * len(inputs)
    path = Path(output).expanduser()
    if len(inputs) == 1 and not path.is_dir():
        return [path.resolve() if path.is_symlink() else path]  # a link stays one
    if path.exists() and not path.is_dir():
        raise InputError(f"--output={output} is a file, and there are {len(inputs)} inputs: give a folder")
    suffixes = [suffix_of(job.form, job.source) for job in jobs]
    names = [name if s is None else Path(name).with_suffix(s) for name, s in zip(inputs, suffixes, strict=True)]
    outputs = [path / Path(name).name for name in names]
    if STREAM in inputs or len(set(outputs)) < len(outputs):
        raise InputError(f"--output={output}: inputs in a folder need names of their own, found {', '.join(inputs)}")
    path.mkdir(parents=True, exist_ok=True)
    return list(outputs)


def _refuse_output(path: Path | None, inputs: Sequence[str], model: str) -> None:
    """Refuse to replace what is read, and any file that has not the name of a former prediction."""
    if path is None:
        return
    for name in chain(inputs, [model]):
        read_from = Path(name).expanduser()
        if name != STREAM and path.is_file() and read_from.is_file() and path.samefile(read_from):
            raise InputError(f"--output={path} is a file that is read: give another one")
    if path.is_file() and (path.suffix.lower() not in _REPLACED or path.name in _VOCABULARIES):
        raise InputError(
            f"--output={path} is there already and is not replaced, as it may be no prediction: give another name, or "
            f"one that ends in {', '.join(filter(None, _REPLACED))}"
        )
    refuse_unwritable(path)
