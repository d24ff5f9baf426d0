"""What a report draws of the entities of a split, for TensorBoard after each validation of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from ner_lightning.checkpoints import kept_in
from ner_lightning.decoding import probabilities
from ner_lightning.errors import InputError
from ner_lightning.files import naming
from ner_lightning.metrics import EntityScore
from ner_lightning.model import TokenClassificationModule, is_whole


class ValidationFigures(Callback):
    """After each whole validation of `fit`, draw for TensorBoard what a report shows.

    F1 by type, kinds of errors, confusion of types, reliability, and precision and recall by score. They are made of
    what was scored, and need the extra `report` of this package.

    Raises:
        InputError: matplotlib is not installed.
    """

    def __init__(self) -> None:
        try:
            from ner_lightning.reports.figures import figures_of
        except ModuleNotFoundError as error:
            raise InputError('ValidationFigures needs matplotlib: pip install "ner-lightning[report]"') from error
        self._figures_of = figures_of

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what no figures come of, before any work is done.

        Raises:
            InputError: The model is not one of this package, or no logger is TensorBoard's.
        """
        if not isinstance(pl_module, TokenClassificationModule):
            raise InputError(
                f"ValidationFigures: expected a TokenClassificationModule, found {type(pl_module).__name__}"
            )
        if stage == "fit" and not trainer.fast_dev_run and not _loggers(trainer):  # type: ignore[attr-defined]
            raise InputError(
                "ValidationFigures: the Trainer has no TensorBoardLogger, which takes the figures; add one, or leave "
                "the callback out"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the score keep its words, in the process that draws."""
        whole = is_whole(trainer.limit_val_batches) and not trainer.sanity_checking
        _score(pl_module).keep_words = whole and trainer.is_global_zero and trainer.state.fn == "fit"

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw; the step is that of the scores.

        Raises:
            InputError: The disk is full.
        """
        from ner_lightning.reports.errors_of import pairs
        from ner_lightning.reports.predictions import spans_of
        from ner_lightning.reports.report import numbers_of_pairs

        score = _score(pl_module)
        if score.words is None:
            return
        logits, predicted, gold, sentence, labels = score.words
        score.words = None
        assert score.calibration is not None, "of the validation that was"
        certain = probabilities(logits, predicted, temperature=score.calibration.temperature)
        borders = np.flatnonzero(np.diff(sentence, prepend=-1, append=-1))
        of_both = ((gold, np.ones(len(gold))), (predicted, certain.numpy()))
        spans = [spans_of(ids.numpy(), borders, labels, scores) for ids, scores in of_both]
        step = trainer.global_step - 1  # as Lightning counts what it logs
        figures = self._figures_of(numbers_of_pairs(pairs(*spans)))
        for logger in _loggers(trainer):
            folder = Path(logger.log_dir)
            with naming(folder / "events.out.tfevents.*", kept=kept_in(folder / "checkpoints")):
                for name, figure in figures.items():
                    logger.experiment.add_figure(f"validation/{name}", figure, global_step=step)


def _loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _score(module: LightningModule) -> EntityScore:
    assert isinstance(module, TokenClassificationModule)  # see `setup`
    return module.val_score
