"""A trial of `tune`: a `fit` that tells the study what it scores. `tune` runs it as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer

from ner_lightning import cli
from ner_lightning.errors import InputError
from ner_lightning.saving import BestCheckpoint
from ner_lightning.tune import STUDY


class StudyReport(Callback):
    """Report the score of each epoch to a study, and stop after an epoch whose score is no good among other trials.

    The first process does, and the others follow it; what Optuna has for Lightning lets all of them report.

    Args:
        path: The study, a file of SQLite.
        number: Of the trial.
    """

    def __init__(self, path: str, number: int) -> None:
        self._study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{path}")
        known = self._study.trials[number]
        # there is no public way to a trial that another process has begun
        self._trial = optuna.trial.Trial(self._study, known._trial_id)
        self._reported = known.intermediate_values  # before it was killed
        self._pruned = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a run that keeps no best checkpoint of validation."""
        kept = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestCheckpoint)]
        if not kept or not str(kept[0].monitor).startswith("val_"):
            raise InputError(
                "trials are compared by their best checkpoint on validation: give validation data, a "
                "--checkpoint.monitor such as val_f1, and no --trainer.enable_checkpointing=false"
            )
        self._best = kept[0]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop here if that was to be after the last epoch, and a signal came first."""
        self._stop_if_poor(trainer, after=trainer.current_epoch - 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and stop here if that is to be; the last epoch is over anyway."""
        score = trainer.callback_metrics.get(str(self._best.monitor))
        if trainer.is_global_zero and score is not None:
            if trainer.current_epoch not in self._reported:
                self._trial.report(float(score), trainer.current_epoch)
            self._reported[trainer.current_epoch] = float(score)
        self._stop_if_poor(trainer, after=trainer.current_epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell how the trial ended, with the score of its best checkpoint."""
        if not trainer.is_global_zero:
            return
        if self._pruned:
            self._study.tell(self._trial.number, state=optuna.trial.TrialState.PRUNED)
            print(f"pruned      after epoch {trainer.current_epoch - 1}")
        elif self._best.best_model_score is not None:
            self._study.tell(self._trial.number, float(self._best.best_model_score))

    def _stop_if_poor(self, trainer: Trainer, *, after: int) -> None:
        if trainer.is_global_zero and max(self._reported, default=-1) == after != -1:
            self._pruned = self._trial.should_prune() and after + 1 != trainer.max_epochs
        self._pruned = trainer.strategy.broadcast(self._pruned)
        trainer.should_stop = trainer.should_stop or self._pruned


def main(args: Sequence[str]) -> int:
    """Run a trial.

    Args:
        args: The study, the number of the trial, and the command that it is.
    """
    path, number, *command = args
    try:
        return cli.main(command, callbacks=[StudyReport(path, int(number))])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
