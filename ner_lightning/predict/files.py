"""Labels for files of every format that is read, of any size: `python -m ner_lightning predict`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from ner_lightning.errors import InputError
from ner_lightning.files import replacing
from ner_lightning.predict.entities import LabelledRow
from ner_lightning.predict.forms import OutputFormat, form_of, write
from ner_lightning.predict.tagger import Precision, Tagger
from ner_lightning.readers import ReadOptions, Source, read
from ner_lightning.readers.row import Format

STREAM = "-"  # standard input or output, as a path


def predict(
    inputs: Sequence[str],
    *,
    model: str = "runs",
    output: str | None = None,
    format: OutputFormat | None = None,
    input_format: Format | None = None,
    text_column_name: str | None = None,
    comment_prefix: str | None = None,
    device: str = "auto",
    precision: Precision = "32-true",
    batch_size: int = 32,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> int:
    """Label the words of files.

    Args:
        inputs: Files of any format that is read, or `-` for standard input.
        model: Folder of runs (its newest), of a run (its best checkpoint), a checkpoint, an exported folder, or a
            Hub id.
        output: File to write, or a folder for several inputs; by default standard output.
        format: `conll`, `jsonl`, `csv`, `tsv`, `parquet`, `label-studio` or `colour`; by default columns and tables
            come out as they are with one column more, all else as JSON lines with entities, of which a terminal shows
            `colour`.
        input_format: What is in the inputs; by default found from suffix and content.
        text_column_name: Where the words or the text are: the number of a CoNLL column, the name of a field or column.
        comment_prefix: In CoNLL columns, lines that begin with it are comments.
        device: Where to run: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: Of the arithmetic: `32-true`, `bf16-mixed` or `16-mixed`.
        batch_size: Windows in a batch.
        revision: Branch, tag or commit of a model on the Hub.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Returns:
        The number of words.

    Raises:
        InputError: An input cannot be read, there is no such model, or the output cannot be written.
    """
    with ExitStack() as stack:
        options = ReadOptions(
            format=input_format, text_column_name=text_column_name, comment_prefix=comment_prefix, tags=False
        )
        sources = [_open(path, options, stack) for path in inputs]
        outputs = _outputs(inputs, output)
        for source, path in zip(sources, outputs, strict=True):
            _check(source)  # all that is wrong is said before the first word is labelled
            if path is not None:
                _refuse_output(path, inputs, model)
        tagger = Tagger.load(
            model,
            device=device,
            precision=precision,
            batch_size=batch_size,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        started, words = time.monotonic(), _Counter()
        for source, path in zip(sources, outputs, strict=True):
            rows = words.count(tagger.label(source))
            if path is None:
                form = format or ("colour" if form_of(source) == "jsonl" and sys.stdout.isatty() else form_of(source))
                _write_out(rows, form, source, tagger)
            else:
                with replacing(path) as partial, partial.open("wb") as file:
                    write(rows, file, form=format or form_of(source), source=source, entities=tagger.entities)
        seconds = max(time.monotonic() - started, 1e-9)
        where = "" if output in (None, STREAM) else f": {output}"
        print(f"{words.number:,} words labelled, {words.number / seconds:,.0f} words/s{where}", file=sys.stderr)
        return words.number


class _Counter:
    def __init__(self) -> None:
        self.number = 0

    def count(self, rows: Iterator[LabelledRow]) -> Iterator[LabelledRow]:
        for each in rows:
            self.number += len(each.labels)
            yield each


# a file is replaced where its name ends as that of a prediction: no checkpoint, weights or config, nobody's thesis.tex
_REPLACED = (".conll", ".conllu", ".jsonl", ".txt", ".tsv", ".csv", ".parquet", ".bio", ".iob", ".iob2")
_VOCABULARIES = ("vocab.txt", "merges.txt")  # of a model's folder


def _open(path: str, options: ReadOptions, stack: ExitStack) -> Source:
    """Open an input; what cannot be read twice is copied first."""
    if path != STREAM:
        file = Path(path).expanduser()
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


def _check(source: Source) -> None:
    for _ in source:
        pass


def _outputs(inputs: Sequence[str], output: str | None) -> list[Path | None]:
    """The file of each input; None for standard output."""
    if output in (None, STREAM):
        return [None] * len(inputs)
    path = Path(str(output)).expanduser()
    if len(inputs) == 1 and not path.is_dir():
        return [path.resolve() if path.is_symlink() else path]  # a link stays one
    if path.exists() and not path.is_dir():
        raise InputError(f"--output={output} is a file, and there are {len(inputs)} inputs: give a folder")
    names = [Path(name).name for name in inputs]
    if STREAM in inputs or len(set(names)) < len(names):
        raise InputError(f"--output={output}: inputs in a folder need names of their own, found {', '.join(inputs)}")
    path.mkdir(parents=True, exist_ok=True)
    return [path / name for name in names]


def _refuse_output(path: Path, inputs: Sequence[str], model: str) -> None:
    """Refuse to replace what is read, and any file that has not the name of a former prediction."""
    if not path.is_file():
        return
    for name in (*inputs, model):
        if name != STREAM and Path(name).expanduser().is_file() and path.samefile(Path(name).expanduser()):
            raise InputError(f"--output={path} is a file that is read: give another one")
    if path.suffix.lower() not in _REPLACED or path.name in _VOCABULARIES:
        raise InputError(
            f"--output={path} is there already and is not replaced, as it may be no prediction: give another name, or "
            f"one that ends in {', '.join(_REPLACED)}"
        )


def _write_out(rows: Iterator[LabelledRow], form: OutputFormat, source: Source, tagger: Tagger) -> None:
    file = sys.stdout.buffer
    try:
        write(rows, file, form=form, source=source, entities=tagger.entities)
        file.flush()
    except BrokenPipeError:
        # Who reads has seen enough (`| head`). Python's own last flush must find an open end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
        raise SystemExit(128 + 13) from None  # as a shell tells of a program that SIGPIPE ended
