"""What a run keeps in its folder: its best and its last state, and beside a checkpoint the scores of a test."""

from __future__ import annotations

import logging
import re
import shutil
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ner_lightning.checkpoints import decoding_of, kept_in, read_checkpoint
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.files import remove_left_behind, replacing
from ner_lightning.model import TokenClassificationModule, is_whole
from ner_lightning.scores import scores_of, write_test
from ner_lightning.stepping import BetweenSteps

log = logging.getLogger(__name__)


class WholeCheckpointIO(TorchCheckpointIO):
    """A plugin of the Trainer that writes each checkpoint beside its place, and then moves it there in one step.

    Lightning writes into the temporary folder: on another file system the move from there is a copy, and a run that is
    killed meanwhile leaves half a file under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint, whole or not at all.

        Args:
            checkpoint: Its content.
            path: The file to write or to replace; a place that is not on a disk is left to Lightning.
            storage_options: Not used for files.

        Raises:
            InputError: The file cannot be written; the message says what is left.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, kept=kept_in(path.parent)) as partial, partial.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # of a full disk torch says that a position is unexpected
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


class _Checkpoint(ModelCheckpoint):
    """A checkpoint of Lightning in the folder of a run, which is not empty where the run goes on."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepare, without a warning about that."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)


class BestCheckpoint(_Checkpoint):
    """Keep `best.ckpt`: the state with the best score.

    A run that is resumed in another folder, on the same data, starts with a copy of the best checkpoint so far;
    Lightning alone would forget that score and keep the best of what follows.

    Args:
        monitor: The logged number that decides; without one, the last epoch is kept.
        mode: Whether a larger number is better (`max`) or a smaller one (`min`); by default `min` for losses, `max` for
            F1, precision, recall and accuracy.
        save_weights_only: Leave out the optimizer: smaller by two thirds, but training cannot go on from it.
        every_n_train_steps: Save `last.ckpt` each so many steps, too.
        every_minutes: Save `last.ckpt` so often, too.

    Raises:
        InputError: There is no mode, and `monitor` is no number of this package; or an interval is not positive.
    """

    def __init__(
        self,
        *,
        monitor: str | None = "val_f1",
        mode: Literal["max", "min"] | None = None,
        save_weights_only: bool = False,
        every_n_train_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        self.last = LastCheckpoint(every_n_train_steps=every_n_train_steps, every_minutes=every_minutes)
        super().__init__(
            filename="best",
            monitor=monitor,
            mode=mode or _mode(monitor),
            save_weights_only=save_weights_only,
            enable_version_counter=False,  # one file a run, under a name that one can type
        )

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take over the best checkpoint of the run that is resumed."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if trainer.state.fn != "fit" or not state or not state["best_model_path"]:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, TokenClassificationDataModule) and data.other_splits(checkpoint):
            return  # its score says nothing here
        # beside the checkpoint that is resumed, where the run was moved since
        places = [Path(state["best_model_path"]), Path(trainer.ckpt_path or "").parent / "best.ckpt"]
        best = next((place for place in places if place.is_file()), None)
        if best is None:
            return
        assert self.dirpath is not None
        kept = Path(self.dirpath) / "best.ckpt"
        if trainer.is_global_zero and not (kept.is_file() and kept.samefile(best)):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept) as partial:
                shutil.copyfile(best, partial)
        self.best_model_path = self.kth_best_model_path = str(kept)
        self.best_model_score = self.kth_value = state["best_model_score"]
        self.best_k_models = {str(kept): state["best_model_score"]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: `on_load_checkpoint` knows whether this run trains and where its folder is."""


class LastCheckpoint(_Checkpoint, BetweenSteps):
    """Keep `last.ckpt`: the newest state, whatever its score.

    `ModelCheckpoint(save_last=True)` moves its last checkpoint only when it also saves a best one, and a run that
    `max_steps` ends inside an epoch would keep nothing.

    Args:
        every_n_train_steps: Save every so many steps, too, and not only at the end of an epoch.
        every_minutes: Save at the first step after so many minutes, too.

    Raises:
        InputError: An interval is not positive.
    """

    def __init__(self, *, every_n_train_steps: int | None = None, every_minutes: float | None = None) -> None:
        super().__init__(
            filename="last", monitor=None, save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
        )
        for name, value in (("every_n_train_steps", every_n_train_steps), ("every_minutes", every_minutes)):
            if value is not None and value <= 0:
                raise InputError(f"--checkpoint.{name}={value}: give a number above 0")
        self._every_steps, self._every_minutes = every_n_train_steps, every_minutes
        self._saved_at = time.monotonic()
        self._validated = False  # in this step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove unfinished files of killed runs, in this folder and in those of the runs beside this one."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.is_global_zero and "://" not in str(self.dirpath):
            folder = Path(str(self.dirpath)).absolute()
            remove_left_behind(folder.parents[1].glob(f"*/{folder.name}/*.partial"))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the last state of another run is not one of this run."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that it is time to save, when the step is done."""
        self._validated = not trainer.sanity_checking

    def between_steps(self, trainer: Trainer) -> None:
        """Save inside an epoch, if it is time."""
        if self._is_due(trainer) and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def save_without_the_others(self, trainer: Trainer) -> str:
        """Save the current state in the first process, without waiting for the others.

        Args:
            trainer: Of a strategy with which the first process has the whole state.

        Returns:
            The file.
        """
        path = self.format_checkpoint_name({})
        if self._last_global_step_saved != trainer.global_step:  # kept by ModelCheckpoint, without a public name
            self.best_model_path = path  # a part of the state
            # Trainer.save_checkpoint without its barrier, for which there is no public way to the state
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=self.save_weights_only)
            trainer.strategy.save_checkpoint(checkpoint, path)
            self._last_global_step_saved = trainer.global_step
        return path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of a run that was stopped inside an epoch."""
        # what ModelCheckpoint does at the end of an epoch, of which it has no public method
        if self._last_global_step_saved != trainer.global_step and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self._saved_at, self._validated = time.monotonic(), False

    def _is_due(self, trainer: Trainer) -> bool:
        # after the last step, Lightning takes the epoch for done
        if self._validated or trainer.global_step == trainer.max_steps:
            return True
        if self._every_steps is not None and trainer.global_step % self._every_steps == 0:
            return True
        if self._every_minutes is None:
            return False
        # the clocks of processes differ
        return trainer.strategy.broadcast(time.monotonic() - self._saved_at >= self._every_minutes * 60)


class TestRecord(Callback):
    """After `test`, write the scores beside the checkpoint (`best.test.json`), for its model card and `compare`."""

    __test__ = False  # no test, whatever pytest may think

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write them, unless only a part of the split was scored."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.ckpt_path is None or not trainer.is_global_zero or not is_whole(trainer.limit_test_batches):
            return
        if not isinstance(data, TokenClassificationDataModule):
            return
        if isinstance(pl_module, TokenClassificationModule):
            checkpoint = read_checkpoint(trainer.ckpt_path)
            trained = _what_decides(checkpoint["hyper_parameters"], checkpoint.get("datamodule_hyper_parameters", {}))
            now = _what_decides(dict(pl_module.hparams), dict(data.hparams))
            if others := [f"{name}={value}" for name, value in now.items() if value != trained[name]]:
                log.warning(
                    "scored with %s, other than in training: not kept for a model card and for `compare`",
                    ", ".join(others),
                )
                return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        split = scores_of("test", values, dict(data.hparams), data.corpus.commit)
        counts = pl_module.test_score.counts if isinstance(pl_module, TokenClassificationModule) else {}
        try:
            write_test(Path(trainer.ckpt_path), split, counts)
        except (OSError, ValueError) as error:  # a folder that cannot be written to is no reason to lose the table
            log.warning("the scores are not kept for a model card and for `compare`: %s", error)


def _what_decides(options: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """What decides a score beside weights and words: hyper-parameters of module and datamodule."""
    return {
        "decoding": decoding_of(options),
        "score_mode": options["score_mode"],
        "context": data.get("context", "sentence"),
        "max_seq_length": data.get("max_seq_length"),
    }


def _mode(monitor: str | None) -> Literal["max", "min"]:
    name = re.fullmatch(r"(?:train|val|test)_(loss|f1|precision|recall|accuracy)(?:_.+)?", monitor or "val_f1")
    if name is None:
        raise InputError(f"--checkpoint.monitor={monitor}: say which number is better, --checkpoint.mode=max or min")
    return "min" if name[1] == "loss" else "max"
