"""Labels for words that have none: whole files through the Trainer, single sentences for the eye.

It puts what the model says of a chunk in its place and writes it, chunk by chunk. How a labelled row looks is for
`labelled`, and how predictions are made is nothing that it knows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ner_lightning.chunks import ChunkCollator, EncodedChunk
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.encoding import Encoder
from ner_lightning.errors import InputError
from ner_lightning.files import naming, refuse_unwritable, replacing
from ner_lightning.labelled import EntityReader, LabelledRow, as_colours, as_columns, as_json, render
from ner_lightning.model import TokenClassificationModule, is_whole
from ner_lightning.parts import merge_parts, remove_parts, write_piece
from ner_lightning.predict_file import STANDARD_INPUT, Chunk, PredictFile, Row

OutputFormat = Literal["conll", "jsonl", "colour"]

_STANDARD_OUTPUT = "-"  # as a path
# a file is replaced where its name ends as that of a prediction: no checkpoint, weights or config, nobody's thesis.tex
_REPLACED = ("", ".conll", ".conllu", ".jsonl", ".txt", ".tsv", ".bio", ".iob", ".iob2")
_VOCABULARIES = ("vocab.txt", "merges.txt")  # of a model's folder


class PredictionWriter(Callback):
    """Write what is predicted, in the order of the input, while it is predicted.

    A file of CoNLL columns comes out as it went in, byte for byte, with the label as one more column. Of plain text and
    JSON lines each line gives one line of JSON: the text, or the fields of the row, and `entities`, each with `type`,
    `start`, `end`, `text` and `score`. Start and end count characters of the text; for rows of `tokens`, which also get
    `tags`, they count words. A row that has a field of such a name is refused.

    Args:
        output: File to write, `-` for standard output. One that is there is replaced if its name ends as that of a
            prediction does (`.conll`, `.jsonl`, `.txt`, `.tsv`, and their like). By default `predictions.conll`,
            `.conllu` or `.jsonl` in the folder of the run, and standard output where the input is standard input; on
            the command line all else is then printed to standard error.
        format: `conll`, `jsonl`, or `colour` for people; by default `conll` for CoNLL and `jsonl` for all else, of
            which a terminal shows `colour`.
    """

    # Lightning's BasePredictionWriter would ask the sampler which rows are in a batch, and warn that it does not say

    def __init__(self, output: str | None = None, *, format: OutputFormat | None = None) -> None:
        self.output = output
        self.format = format
        self._stdout = sys.stdout  # as long as nobody else has it, see `predict` of the command line
        self._open = ExitStack()  # what is to be closed at the end
        self._path: Path | None = None  # none for standard output
        self._parts: list[Path] = []  # of all processes, where there are several

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the output, before anything is labelled.

        Raises:
            InputError: It cannot be written, is the input, or only a part of the input would be labelled.
        """
        if stage != "predict":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TokenClassificationDataModule)
        assert isinstance(pl_module, TokenClassificationModule)
        self.refuse_processes(trainer.world_size, predict_file=data.predict_file)
        if not is_whole(trainer.limit_predict_batches):
            raise InputError(
                "only a part of the words would have a prediction, and nothing is written: leave out "
                "--trainer.limit_predict_batches and --trainer.fast_dev_run"
            )
        self._source: PredictFile = data.predict_chunks
        self._reader = EntityReader(pl_module.labels)
        self._chunks = self._words = 0
        self._path, self._parts = None, []
        streams = self.streams(data.predict_file)
        columns = self._source.format == "conll"
        default: OutputFormat = "conll" if columns else "colour" if streams and self._stdout.isatty() else "jsonl"
        self._format: OutputFormat = self.format or default
        if streams:
            self._file: BinaryIO = self._stdout.buffer
            return
        # the folder is asked for in all processes, which agree on it
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if self.output is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = folder / self._default_name()
        else:
            link = Path(self.output)
            self._path = link.resolve() if link.is_symlink() else link  # a link stays one (/dev/stdout is one)
        self._refuse_output(self._path)
        if trainer.world_size > 1:
            ranks = range(trainer.world_size)
            self._parts = [self._path.parent / f"{self._path.name}.{rank}.part" for rank in ranks]
            partial = self._parts[trainer.global_rank]
            refuse_unwritable(self._path, partial)
        else:
            partial = self._open.enter_context(replacing(self._path))
        self._file = self._open.enter_context(partial.open("wb"))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to replace the checkpoint, which is not known before.

        Raises:
            InputError: The output is the checkpoint that is used.
        """
        path = self._path
        if path is not None and trainer.ckpt_path and path.is_file() and path.samefile(trainer.ckpt_path):
            raise InputError(f"--prediction.output={path} is the checkpoint that is used: give another file")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a chunk."""
        assert isinstance(pl_module, TokenClassificationModule)
        encoded: EncodedChunk = batch[0]
        text = "".join(self._texts(encoded.chunk, labelled_rows(encoded, outputs, labels=pl_module.labels))).encode()
        if self._parts:
            assert self._path is not None
            with naming(self._path, kept="nothing is left of it"):
                write_piece(self._file, number=encoded.chunk.number, words=encoded.num_words, text=text)
            return
        assert encoded.chunk.number == self._chunks, "chunks come in the order of the file"
        self._chunks += 1
        self._words += encoded.num_words
        if self._path is not None:
            self._file.write(text)
            return
        try:
            with naming("standard output", kept=f"the first {self._chunks - 1} of {len(self._source)} parts are there"):
                self._file.write(text)
                self._file.flush()
        except (BrokenPipeError, InputError) as error:
            # Python's own last flush must find an open end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
            if isinstance(error, InputError):
                raise
            # Who reads has seen enough (`| head`); as a shell tells of a program that SIGPIPE ended.
            raise SystemExit(128 + 13) from None

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the file in its place, from the parts of all processes where there are several."""
        assert self._parts or self._chunks == len(self._source), "each chunk comes once"
        if self._path is None:
            return
        with naming(self._path, kept="nothing is left of it"):
            self._open.close()
        if self._parts:
            trainer.strategy.barrier("predictions")
            if not trainer.is_global_zero:
                return
            self._words = merge_parts(self._parts, self._path, pieces=len(self._source))
        print(f"{self._words:,} words labelled: {self._path}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave nothing half written."""
        try:
            with naming(self._path or "standard output", kept="nothing is left of it"):
                self._open.__exit__(type(exception), exception, exception.__traceback__)
        finally:
            remove_parts(self._parts)  # of the others too: they end with this one

    def streams(self, predict_file: str | None) -> bool:
        """Whether predictions go to standard output.

        Args:
            predict_file: The input, as it was given.
        """
        return (self.output or predict_file) == _STANDARD_OUTPUT

    def refuse_processes(self, processes: int, *, predict_file: str | None) -> None:
        """Standard input and output belong to one process.

        Args:
            processes: How many there are.
            predict_file: The input, as it was given.

        Raises:
            InputError: There are several, and one of the two is used.
        """
        if processes > 1 and (predict_file == STANDARD_INPUT or self.streams(predict_file)):
            raise InputError(
                f"standard input and output belong to one process, and there are {processes}: give "
                "--trainer.devices=1, or files as --data.predict_file and --prediction.output"
            )

    def _refuse_output(self, path: Path) -> None:
        """Refuse to replace what is read, and any file that has not the name of a former prediction."""
        if not path.is_file():
            return
        option = f"--prediction.output={path}"
        if path.samefile(self._source.path):
            raise InputError(f"{option} is the file that is read: give another one")
        if path.suffix.lower() not in _REPLACED or path.name in _VOCABULARIES:
            raise InputError(
                f"{option} is there already and is not replaced, as it may be no prediction: give another name, or one "
                f"that ends in {', '.join(filter(None, _REPLACED))}"
            )

    def _default_name(self) -> str:
        suffix = {"conll": "conllu" if self._source.conllu else "conll", "jsonl": "jsonl", "colour": "txt"}
        return f"predictions.{suffix[self._format]}"

    def _texts(self, chunk: Chunk, rows: Iterator[LabelledRow]) -> Iterator[str]:
        if self._format == "conll" and chunk.lines:
            labels = (label for row in rows for label in row.labels)
            for line in chunk.lines:
                written = line.with_column(next(labels)) if line.kind == "word" else line
                yield written.text + written.ending
        elif self._format == "conll":
            yield from map(as_columns, rows)
        else:
            write = as_json if self._format == "jsonl" else as_colours
            yield from (write(row, reader=self._reader) for row in rows)


class TagSentence(Callback):
    """At the end of `fit`, show the entities that the model finds in one sentence.

    Args:
        sentence: The sentence, as plain text.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Label the sentence and print it, below the summary."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, TokenClassificationModule)
        encoder = trainer.datamodule.encoder  # type: ignore[attr-defined]
        with trainer.precision_plugin.predict_step_context():
            labelled = label_row(pl_module, encoder, Row(self.sentence, [], {}))
        print("\n" + render(labelled, reader=EntityReader(pl_module.labels), colour=sys.stdout.isatty()))


def label_words(model: TokenClassificationModule, encoder: Encoder, words: Sequence[str]) -> list[str]:
    """Label the words of one sentence, of any length.

    Args:
        model: The module.
        encoder: The encoder of the datamodule that the module was trained with.
        words: Words of the sentence.

    Returns:
        One label a word.
    """
    return label_row(model, encoder, Row(None, list(words), {})).labels


def label_row(model: TokenClassificationModule, encoder: Encoder, row: Row) -> LabelledRow:
    """Label one row as `predict` does: words, or a text whose words are to be found.

    Args:
        model: The module.
        encoder: The encoder of the datamodule that the module was trained with.
        row: The row.
    """
    encoded, batches = ChunkCollator(encoder, batch_size=32, multiple=1)(Chunk(0, [row], []))
    batches = [
        {name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        for batch in batches
    ]
    training = model.training
    model.eval()
    with torch.inference_mode():
        outputs = model.predict_step((encoded, batches), 0)
    model.train(training)
    return next(labelled_rows(encoded, outputs, labels=model.labels))


def labelled_rows(
    encoded: EncodedChunk, outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], *, labels: Sequence[str]
) -> Iterator[LabelledRow]:
    """Put the predictions for a chunk in the places of its words.

    Args:
        encoded: The chunk.
        outputs: What the module gives for it: positions of words, label ids, scores.
        labels: Label names in the order of their ids.
    """
    word_index, label_ids, scores = (column.cpu() for column in outputs)
    assert torch.equal(word_index.sort().values, torch.arange(encoded.num_words)), "each word comes once"
    order = word_index.argsort()
    names, values = [labels[i] for i in label_ids[order].tolist()], scores[order].tolist()
    first = 0
    for number, row in enumerate(encoded.chunk.rows):
        spans = None if encoded.spans is None else encoded.spans[number]
        last = first + len(row.words if spans is None else spans)
        yield LabelledRow(row, spans, names[first:last], values[first:last])
        first = last
