"""What a run tells its user: the table of scores by type, the summary of `fit`, the tables of `inspect`.

Plain text with aligned columns, for a terminal, a log file and a notebook.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ner_lightning.interruption import Interrupted
from ner_lightning.partial_labels import in_words
from ner_lightning.reports.columns import table
from ner_lightning.windows import ranges

if TYPE_CHECKING:
    from ner_lightning.data import TokenClassificationDataModule

_SHOWN_LABELS = 12
_SHOWN_PIECES = 40  # sub-words of an alignment or of a row of a batch that fit on a screen


class ScoreTable(Callback):
    """After `validate` and `test`, print precision, recall, F1 and support of each type."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table, unless the validation is one of a training run."""
        if trainer.state.fn == "validate":
            self._print(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        self._print(trainer, pl_module, "test")

    def _print(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            _end_bar(trainer, pl_module)
            scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
            print(score_table(scores, stage))


class RunSummary(Callback):
    """At the end of `fit`, print the epochs, the best score, where the checkpoint is, and the speed.

    Where no progress bar tells how far a run is, each epoch and each validation is a line at once.

    Args:
        program: How the command that tests a run begins.
    """

    def __init__(self, program: str = "python -m ner_lightning") -> None:
        self.program = program
        self.epochs: list[tuple[int, dict[str, float]]] = []
        self._seconds = 0.0  # spent in training steps, without validation
        self._resumed_at: float | None = None
        self._words: list[torch.Tensor] = []
        self._sentences: list[torch.Tensor] = []
        self._sentence_count = 0
        self._word_count = 0
        self._losses: list[torch.Tensor] = []  # of the steps since the last line

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the whole run."""
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of training."""
        self._resumed_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note loss, words and sentences of a batch, without waiting for the device."""
        if trainer.progress_bar_callback is None:
            self._losses.append(outputs["loss"] * trainer.accumulate_grad_batches)  # by which Lightning divides it
        scored = batch["word_index"] >= 0
        self._words.append(scored.sum())
        sentence = batch["sentence_index"]  # those of a window are neighbours: the first and the last say all
        first, last = sentence.where(scored, sentence.max()).amin(dim=1), sentence.where(scored, -1).amax(dim=1)
        self._sentences.append(torch.stack([first, last + 1 - first]))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training."""
        self._pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the scores of the epoch."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
        self.epochs.append((trainer.current_epoch, scores))
        self._tell(trainer, {name: scores[name] for name in ("val_loss", "val_f1") if name in scores})
        self._resumed_at = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock; count the sentences, of which a long one fills several windows."""
        self._pause()
        if self._sentences:
            self._word_count += int(torch.stack(self._words).sum())
            self._words = []
            self._sentence_count += len(np.unique(ranges(*torch.cat(self._sentences, dim=1).cpu().numpy())))
            self._sentences = []
        if self._losses:  # no validation has told of these steps
            self._tell(trainer, {})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the summary."""
        if trainer.is_global_zero:
            _end_bar(trainer, pl_module)
            print(self._text(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Print the summary of what a run had done when a signal stopped it."""
        if isinstance(exception, Interrupted) and trainer.state.fn == "fit" and trainer.global_step > 0:
            self.on_train_epoch_end(trainer, pl_module)
            self.on_fit_end(trainer, pl_module)

    def _pause(self) -> None:
        if self._resumed_at is not None:
            self._seconds += time.monotonic() - self._resumed_at
        self._resumed_at = None

    def _tell(self, trainer: Trainer, scores: dict[str, float]) -> None:
        """Print a line of what was learnt since the last one, unless a progress bar does."""
        if trainer.progress_bar_callback is not None or not trainer.is_global_zero:
            return
        losses = {"train_loss": float(torch.stack(self._losses).mean())} if self._losses else {}
        self._losses = []
        numbers = [f"{name} {value:.4f}" for name, value in (losses | scores).items()]
        passed = _duration(time.monotonic() - self._started)
        line = [f"epoch {trainer.current_epoch}", f"step {trainer.global_step}", *numbers, passed]
        print("  ".join(line), flush=True)  # at once: a file is looked at while the run goes on

    def _text(self, trainer: Trainer) -> str:
        # the one of the best first, which is empty where a run ended before its first validation
        checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        checkpoints.sort(key=lambda checkpoint: checkpoint.monitor is None)
        path = next((c.best_model_path for c in checkpoints if c.best_model_path), None)
        lines = [""]
        if self.epochs:
            wanted = ("val_loss", "val_precision", "val_recall", "val_f1")
            names = [name for name in wanted if name in self.epochs[0][1]]
            rows = [[str(epoch), *(f"{scores[name]:.4f}" for name in names)] for epoch, scores in self.epochs]
            lines += [table(["epoch", *names], rows), ""]
        scored = ((c.monitor, c.best_model_score) for c in checkpoints)
        kept = [(monitor, float(best)) for monitor, best in scored if monitor and best is not None]
        if not kept and self.epochs:
            kept = [("val_f1", max(scores["val_f1"] for _, scores in self.epochs))]
        for monitor, best in kept:
            epochs = (f"epoch {epoch}" for epoch, scores in self.epochs if scores.get(monitor) == best)
            lines.append(f"best        {monitor} {best:.4f}, {next(epochs, 'in the run before')}")
        if path:
            lines.append(f"checkpoint  {path}")
        seconds = max(self._seconds, 1e-9)
        devices = trainer.world_size  # each has seen as many batches as this one
        total = _duration(time.monotonic() - self._started)
        lines.append(f"time        {total}, {_duration(self._seconds)} of it training")
        sentences_rate, words_rate = self._sentence_count * devices / seconds, self._word_count * devices / seconds
        device = f"{devices} x {trainer.strategy.root_device.type}"
        lines.append(
            f"speed       {sentences_rate:,.0f} sentences/s, {words_rate:,.0f} words/s in training on {device}"
        )
        if path:
            lines.append(f"next        {self.program} test --ckpt_path {path}")
        return "\n".join(lines)


def corpus_text(data: TokenClassificationDataModule, splits: Sequence[str]) -> str:
    """Which data a run uses, files or dataset with their sentences, labels and scheme, partial annotation."""
    given = {"train": data.train_file, "validation": data.validation_file, "test": data.test_file}
    files = {split: paths if isinstance(paths, str) else " ".join(paths or []) for split, paths in given.items()}
    corpus, labels = data.corpus, data.labels
    parts = [
        " ".join(filter(None, [split, files[split], f"({len(corpus.splits[split]):,} sentences)"]))
        for split in splits
        if split in corpus.splits
    ]
    named = data.dataset_name is not None and not any(files.values())
    source = f"{data.dataset_name}{f' at {corpus.commit}' if corpus.commit else ''}: " if named else ""
    more = f" ... ({len(labels)} in all)" if len(labels) > _SHOWN_LABELS else ""
    partial = f"\nannotated   {in_words(data.annotated_types)}" if data.annotated_types and "train" in splits else ""
    return (
        f"data        {source}{', '.join(parts)}\n"
        f"labels      {' '.join(labels[:_SHOWN_LABELS])}{more}, scheme {corpus.scheme}{partial}"
    )


def score_table(scores: dict[str, float], stage: str) -> str:
    """Scores by type and over all as a table, of those that were logged under the prefix `val` or `test`."""
    prefix = f"{stage}_f1_"
    types = sorted(name.removeprefix(prefix) for name in scores if name.startswith(prefix))

    def row(title: str, suffix: str) -> list[str]:
        numbers = [f"{100 * scores[f'{stage}_{name}{suffix}']:.2f}" for name in ("precision", "recall", "f1")]
        return [title, *numbers, f"{scores[f'{stage}_support{suffix}']:,.0f}"]

    rows = [row(name, f"_{name}") for name in types]
    accuracy, loss, words = (scores[f"{stage}_{name}"] for name in ("accuracy", "loss", "words"))
    lines = [
        "",
        table(["", "precision", "recall", "f1", "support"], [*rows, row("all", "")]),
        "",
        f"accuracy {100 * accuracy:.2f}, loss {loss:.4f}, {words:,.0f} words scored",
    ]
    if (error := scores.get(f"{stage}_calibration_error")) is not None:
        text = f"calibration error of entities {100 * error:.2f}"
        if (temperature := scores.get(f"{stage}_temperature")) is not None:
            text += f", {100 * scores[f'{stage}_calibration_error_before']:.2f} before temperature {temperature:.2f}"
        lines.append(text)
    for unit in ("documents", "sentences"):
        if (drawn := scores.get(f"{stage}_interval_{unit}")) is not None:
            low, high = (100 * scores[f"{stage}_interval_{name}"] for name in ("low", "high"))
            lines.append(f"95 % interval of f1: {low:.2f} to {high:.2f}, bootstrap over {drawn:,.0f} {unit}")
    return "\n".join(lines)


def description_text(description: dict[str, Any]) -> str:
    """The corpus as `TokenClassificationDataModule.describe` tells it, as tables."""
    source = "\n".join(f"{name:16}{value}" for name, value in description["source"].items() if value is not None)
    parts = [source, _counts("split", description["splits"]), _counts("label", description["labels"])]
    if description["first_row"]:
        pieces = description["alignment"][:_SHOWN_PIECES]
        rows = [[token, word or "", label or "-"] for token, word, label in pieces]
        parts += [
            "first sentence: " + " ".join(description["first_row"]["tokens"]),
            table(["sub-word", "word", "label"], rows, left=3),
        ]
    return "\n\n".join(parts)


def batch_text(batch: dict[str, Any], tokens: Sequence[str], labels: Sequence[str]) -> str:
    """One collated batch: the shape of each tensor, and its first row position by position."""
    shapes = [
        [name, " x ".join(map(str, value.shape)), str(value.dtype)]
        for name, value in batch.items()
        if isinstance(value, torch.Tensor)
    ]
    columns = (batch[name][0].tolist() for name in ("attention_mask", "labels", "word_index"))
    rows = [
        [str(i), token, str(mask), labels[label] if label >= 0 else str(label), str(word)]
        for i, (token, mask, label, word) in enumerate(zip(tokens, *columns, strict=True))
    ]
    shown = table(["", "sub-word", "mask", "label", "word_index"], rows[:_SHOWN_PIECES], left=2)
    return f"{table(['batch', 'shape', 'type'], shapes, left=3)}\n\nfirst row of the batch\n{shown}"


def _counts(title: str, rows: dict[str, dict[str, int]]) -> str:
    columns = list(next(iter(rows.values()), {}))
    return table([title, *columns], [[name, *(f"{n:,}" for n in row.values())] for name, row in rows.items()])


def _end_bar(trainer: Trainer, pl_module: LightningModule) -> None:
    """Let the progress bar end here: else it is drawn again below what is printed."""
    if trainer.progress_bar_callback is not None:
        trainer.progress_bar_callback.teardown(trainer, pl_module, stage=str(trainer.state.fn))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
