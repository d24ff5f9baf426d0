"""Checkpoints of Lightning as files: which are kept, which is the one to use, what one holds.

It knows nothing of the command line, nor of what the weights are of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ner_lightning.errors import InputError


class LastCheckpoint(ModelCheckpoint):
    """Keep `last.ckpt`: the newest state, whatever its score.

    `ModelCheckpoint(save_last=True)` moves its last checkpoint only when it also saves a best one, and a run that
    `max_steps` ends inside an epoch would keep nothing.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", monitor=None, save_top_k=1, enable_version_counter=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of a run that was stopped inside an epoch."""
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
        raise InputError(f"--ckpt_path={path}: {'a folder, not a checkpoint' if path.is_dir() else 'no such file'}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever the bytes of another file make the unpickler stumble over
        raise InputError(
            f"--ckpt_path={path}: not a whole checkpoint of this program; it may have been cut short while it was "
            "written or copied"
        ) from error
    own = isinstance(checkpoint, dict) and "state_dict" in checkpoint
    if not own or "labels" not in (checkpoint.get("hyper_parameters") or {}):
        raise InputError(f"--ckpt_path={path}: a file of another program, without the labels that a checkpoint holds")
    return checkpoint


def newest_checkpoint(root: str | Path, *, kind: str = "best", model_name_or_path: str | None = None) -> Path | None:
    """Find the checkpoint of the newest run below a folder.

    Args:
        root: The folder in which runs are kept.
        kind: `best` or `last`; a run that was never validated has only a last one, and gives that.
        model_name_or_path: Look only at runs that started from this model.
    """
    files = sorted(Path(root).glob("**/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in dict.fromkeys(path.parent for path in files):
        path = next((p for p in (folder / f"{kind}.ckpt", folder / "last.ckpt") if p.is_file()), None)
        if path is None:
            continue
        if model_name_or_path in (None, read_checkpoint(path)["hyper_parameters"].get("model_name_or_path")):
            return path
    return None
