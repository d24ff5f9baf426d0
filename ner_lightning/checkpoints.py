"""Checkpoints of Lightning as files: which are kept, which is the one to use, what one holds."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ner_lightning.errors import InputError
from ner_lightning.files import remove_left_behind, replacing

log = logging.getLogger(__name__)

_DATA_STATE = {"dataset_commit", "given_labels"}  # by which the state of a TokenClassificationDataModule is known


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


def kept_in(folder: str | Path) -> str:
    """Which checkpoints a folder holds, for a message that something could not be written.

    Args:
        folder: Where checkpoints are kept.
    """
    names = sorted(path.name for path in Path(folder).glob("*.ckpt"))
    return f"kept in {folder}: {', '.join(names)}" if names else "no checkpoint was saved before"


class BestCheckpoint(ModelCheckpoint):
    """Keep `best.ckpt`: the state with the best score.

    A run that is resumed starts with the best checkpoint of the run that it goes on from, in its own folder; Lightning
    alone would forget that score and keep the best of what follows.

    Args:
        monitor: The logged number that decides; without one, the last epoch is kept.
        mode: Whether a larger number is better (`max`) or a smaller one (`min`); by default as the number is known:
            `min` for losses, `max` for F1, precision, recall and accuracy.
        save_weights_only: Leave out the optimizer: smaller by two thirds, but training cannot go on from it.

    Raises:
        InputError: There is no mode, and `monitor` is no number of this package.
    """

    def __init__(
        self,
        *,
        monitor: str | None = "val_f1",
        mode: Literal["max", "min"] | None = None,
        save_weights_only: bool = False,
    ) -> None:
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


class LastCheckpoint(ModelCheckpoint):
    """Keep `last.ckpt`: the newest state, whatever its score.

    `ModelCheckpoint(save_last=True)` moves its last checkpoint only when it also saves a best one, and a run that
    `max_steps` ends inside an epoch would keep nothing.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", monitor=None, save_top_k=1, enable_version_counter=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove unfinished files of killed runs, in this folder and in those of the runs beside this one."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.is_global_zero and "://" not in str(self.dirpath):
            folder = Path(str(self.dirpath)).absolute()
            remove_left_behind(folder.parents[1].glob(f"*/{folder.name}/*.partial"))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the last state of another run is not one of this run."""

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


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without running any code in it; the weights stay on disk until they are used.

    Args:
        path: The file.

    Raises:
        InputError: There is no such file, or it is not a whole checkpoint of this program.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, found {'a folder' if path.is_dir() else 'no such file'}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever the bytes of another file make the unpickler stumble over
        raise InputError(
            f"{path}: not a whole checkpoint of this program; it may have been cut short while it was written or copied"
        ) from error
    own = isinstance(checkpoint, dict) and "state_dict" in checkpoint
    if not own or "labels" not in (checkpoint.get("hyper_parameters") or {}):
        raise InputError(f"{path}: a file of another program, without the labels that a checkpoint holds")
    return checkpoint


def data_state(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The state that the datamodule saved, which Lightning keeps under the name of its class.

    Args:
        checkpoint: Its content.

    Returns:
        Its state, whatever the class is called; empty where there is none.
    """
    states = (state for state in checkpoint.values() if isinstance(state, dict))
    return next((state for state in states if state.keys() >= _DATA_STATE), {})


def classifier_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of the classifier alone, under the names that transformers gives them.

    Args:
        checkpoint: Its content, with the weights of the whole module.
    """
    state = checkpoint["state_dict"].items()
    return {name.removeprefix("model."): weights for name, weights in state if name.startswith("model.")}


def find_checkpoint(
    asked: str | Path | None, *, root: str | Path, kind: str = "best", model_name_or_path: str | None = None
) -> Path | None:
    """Find the checkpoint that an option names.

    Args:
        asked: A file, the folder of a run or of several, of which the newest is taken, or `best` or `last`, which are
            those of the newest run.
        root: The folder in which runs are kept.
        kind: `best` or `last`, where nothing else is asked; what a folder does not have it gives the other for.
        model_name_or_path: Look only at runs that started from this model, where the newest is asked for.

    Returns:
        Its path, which may not exist; None where there is no run.

    Raises:
        InputError: The folder has no checkpoint.
    """
    if asked in (None, "best", "last"):
        return newest_checkpoint(root, kind=str(asked or kind), model_name_or_path=model_name_or_path)
    folder = Path(str(asked))
    if not folder.is_dir():
        return folder
    names = dict.fromkeys((f"{kind}.ckpt", "last.ckpt", "best.ckpt"))
    places = [place / name for place in (folder / "checkpoints", folder) for name in names]
    path = next((place for place in places if place.is_file()), None)
    path = path or newest_checkpoint(folder, kind=kind, model_name_or_path=model_name_or_path)
    if path is None:
        raise InputError(f"{asked}: no best.ckpt and no last.ckpt in this folder; give that of a run")
    return path


def newest_checkpoint(root: str | Path, *, kind: str = "best", model_name_or_path: str | None = None) -> Path | None:
    """Find the checkpoint of the newest run below a folder.

    A checkpoint that cannot be read is skipped with a warning: the other one of the same run is taken, else one of the
    run before.

    Args:
        root: The folder in which runs are kept.
        kind: `best` or `last`; a run that was never validated has only a last one, and gives that.
        model_name_or_path: Look only at runs that started from this model.
    """
    files = sorted(Path(root).glob("**/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in dict.fromkeys(path.parent for path in files):
        named = [folder / f"{name}.ckpt" for name in dict.fromkeys((kind, "last", "best"))]
        others = [path for path in files if path.parent == folder and path not in named]
        there = [path for path in named if path in files]
        for path in there and there + others:
            try:
                started_from = read_checkpoint(path)["hyper_parameters"].get("model_name_or_path")
            except InputError as error:
                log.warning("passing over a checkpoint: %s", error)
                continue
            if model_name_or_path in (None, started_from):
                return path
            break
    return None


def run_folder(ckpt_path: Path) -> Path:
    """The folder of the run that a checkpoint belongs to.

    Args:
        ckpt_path: The checkpoint.
    """
    return ckpt_path.parent.parent if ckpt_path.parent.name == "checkpoints" else ckpt_path.parent


def _mode(monitor: str | None) -> Literal["max", "min"]:
    name = re.fullmatch(r"(?:train|val|test)_(loss|f1|precision|recall|accuracy)(?:_.+)?", monitor or "val_f1")
    if name is None:
        raise InputError(f"--checkpoint.monitor={monitor}: say which number is better, --checkpoint.mode=max or min")
    return "min" if name[1] == "loss" else "max"
