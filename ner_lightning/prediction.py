"""Labels for words that have none: whole files through the Trainer, single sentences for the eye.

It puts predictions back in the order of the words and knows nothing of how they were made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ner_lightning import conll, tags
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.encoding import Collator, Encoder
from ner_lightning.errors import InputError
from ner_lightning.files import replacing
from ner_lightning.model import TokenClassificationModule
from ner_lightning.quickstart import packaged

# background colours of a terminal (256-colour palette), dealt to the types in alphabetical order
_COLOURS = (153, 186, 217, 158, 223, 189, 150, 224)


class PredictionWriter(Callback):
    """Write the labels of the predict split into the folder of the run.

    `predictions.conll` has the lines of a CoNLL file and one more column; `predictions.jsonl` has `tokens` and `tags`
    of the rows of a file of another kind.
    """

    # Lightning's BasePredictionWriter would ask the sampler which rows are in a batch, and warn that it does not say

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with no predictions."""
        self._predictions: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note positions and label ids of the words of a batch."""
        self._predictions.append(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the labels in the order of the words, check that none is missing, and write.

        Raises:
            InputError: Only a part of the words was labelled.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TokenClassificationDataModule)
        assert isinstance(pl_module, TokenClassificationModule)
        rows = data.corpus.splits["predict"]
        labels = torch.full((sum(len(tokens) for tokens in rows["tokens"]),), -1)
        for word_index, label_ids in self._predictions:
            labels[word_index.cpu()] = label_ids.cpu()
        # of several processes each has labelled a part
        labels = trainer.strategy.reduce(labels.to(trainer.strategy.root_device), reduce_op="max").cpu()
        missing = int((labels < 0).sum())
        if missing:
            raise InputError(
                f"{missing:,} of {len(labels):,} words have no prediction, and nothing is written: leave out "
                "--trainer.limit_predict_batches and --trainer.fast_dev_run"
            )
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked for in all processes, which agree on it
        if not trainer.is_global_zero:
            return
        names = iter(pl_module.labels[label] for label in labels.tolist())
        folder.mkdir(parents=True, exist_ok=True)
        source = Path(packaged(data.predict_file or ""))
        if source.suffix in {".json", ".jsonl", ".parquet"}:
            path = folder / "predictions.jsonl"
            labelled = ({"tokens": row, "tags": list(islice(names, len(row)))} for row in rows["tokens"])
            with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in labelled)
        else:
            # of CoNLL-U the suffix says that it has comments and ranges
            path = folder / f"predictions{'.conllu' if source.suffix == '.conllu' else '.conll'}"
            lines = conll.read_lines(source)
            conll.write_lines(path, (line.with_column(next(names)) if line.kind == "word" else line for line in lines))
        print(f"{len(labels):,} words labelled: {path}")


class TagSentence(Callback):
    """At the end of `fit`, show the entities that the model finds in one sentence.

    Args:
        sentence: Words with spaces between them.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Label the sentence and print it, below the summary."""
        if stage != "fit" or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, TokenClassificationModule)
        encoder = trainer.datamodule.encoder  # type: ignore[attr-defined]
        words = self.sentence.split()
        print("\n" + render(words, label_words(pl_module, encoder, words), colour=sys.stdout.isatty()))


def label_words(model: TokenClassificationModule, encoder: Encoder, words: Sequence[str]) -> list[str]:
    """Label the words of one sentence, of any length.

    Args:
        model: The module.
        encoder: The encoder of the datamodule that the module was trained with.
        words: Words of the sentence.

    Returns:
        One label a word.
    """
    if not words:
        return []
    collate = Collator(
        num_words=len(words),
        pad_token_id=encoder.tokenizer.pad_token_id or 0,
        multiple=1,
        max_seq_length=encoder.max_seq_length,
    )
    batch = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in collate(encoder.encode([words])).items()  # type: ignore[arg-type]
    }
    training = model.training
    model.eval()
    with torch.inference_mode():
        word_index, label_ids = model.predict_step(batch, 0)
    model.train(training)
    labels = dict(zip(word_index.tolist(), label_ids.tolist(), strict=True))
    return [model.labels[labels[word]] for word in range(len(words))]


def render(words: Sequence[str], labels: Sequence[str], *, colour: bool) -> str:
    """A sentence with its entities marked, for a terminal.

    Args:
        words: Words of the sentence.
        labels: Label of each word.
        colour: Mark by background colour; otherwise by brackets.
    """
    entities = tags.entities(labels)
    types = sorted({entity.type for entity in entities})
    parts: list[str] = []
    word = 0
    for entity in entities:
        parts += words[word : entity.start]
        text = " ".join(words[entity.start : entity.end])
        if colour:
            background = _COLOURS[types.index(entity.type) % len(_COLOURS)]
            parts.append(f"\033[30;48;5;{background}m {text} \033[1m{entity.type} \033[0m")
        else:
            parts.append(f"[{text} {entity.type}]")
        word = entity.end
    return " ".join([*parts, *words[word:]])
