"""One sentence with its entities, at the end of a run."""

from __future__ import annotations

import sys

from lightning.pytorch import Callback, LightningModule, Trainer

from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.model import TokenClassificationModule
from ner_lightning.predict.tagger import Tagger, rows_of


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
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TokenClassificationDataModule)
        assert isinstance(pl_module, TokenClassificationModule)
        tagger = Tagger(
            pl_module.model,
            data.encoder,
            decoding=pl_module.hparams["decoding"],
            decode=pl_module.own_decode,
            device=str(pl_module.device),
        )
        with trainer.precision_plugin.predict_step_context():
            (labelled,) = tagger.label(rows_of(self.sentence))
        print("\n" + tagger.entities.render(labelled, colour=sys.stdout.isatty()))
