"""The logs of a run on the disk, which go on where a run does, and say in one sentence that the disk is full."""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Callback, LightningModule, Trainer, loggers
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning_utilities.core.rank_zero import rank_zero_only

from ner_lightning.checkpoints import kept_in
from ner_lightning.errors import InputError
from ner_lightning.files import naming, replacing


class CSVLog(loggers.CSVLogger):
    """The CSV log of Lightning, `metrics.csv`, which can go on with the rows that are there."""

    _rows = 0  # written

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the file."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return self._experiment

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged since the last time.

        Raises:
            InputError: The disk is full.
        """
        rows = len(self.experiment.metrics)
        with _naming(self.log_dir, "metrics.csv"):
            super().save()
        self._rows += rows

    def position(self) -> int:
        """Write everything, and tell how many rows there are."""
        self.save()
        return self._rows

    def go_on(self, position: int) -> None:
        """Keep the rows up to a position; the next ones follow them."""
        path = Path(self.log_dir) / "metrics.csv"
        if not path.is_file():
            return
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(islice(csv.reader(file), 1 + position))
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        self.experiment.metrics_keys = rows[0] if rows else []
        self._rows = max(len(rows) - 1, 0)

    def finalize(self, status: str) -> None:
        """Write the rest; a run that has failed is told of its own failure, not of this one."""
        _finalize(super().finalize, status)


class TensorBoardLog(loggers.TensorBoardLogger):
    """The TensorBoard log of Lightning."""

    def __init__(self, save_dir: str, name: str | None, version: int | str | None) -> None:
        super().__init__(save_dir, name, version, default_hp_metric=False)
        if not isinstance(threading.excepthook, _LeftToTheMainThread):
            threading.excepthook = _LeftToTheMainThread(threading.excepthook)

    def log_hyperparams(self, params: Any, metrics: dict[str, Any] | None = None, step: int | None = None) -> None:
        """Log the options.

        Args:
            params: The options.
            metrics: What was measured with them.
            step: When.

        Raises:
            InputError: The disk is full.
        """
        with self._naming():
            super().log_hyperparams(params, metrics, step)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log numbers.

        Args:
            metrics: Numbers by name.
            step: When.

        Raises:
            InputError: The disk is full.
        """
        with self._naming():
            try:
                super().log_metrics(metrics, step)
            except ValueError as error:  # that the numbers are of a kind that is not supported, whatever it was
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from None
                raise

    def save(self) -> None:
        """Write what was logged since the last time.

        Raises:
            InputError: The disk is full.
        """
        with self._naming():
            super().save()

    def position(self) -> dict[str, int]:
        """Write everything, and tell the size of each file."""
        with self._naming():
            self.experiment.flush()
        return {path.name: path.stat().st_size for path in self._files()}

    def go_on(self, position: dict[str, int]) -> None:
        """Cut the files to a position, and remove those that are younger; what follows has a file of its own."""
        for path in self._files():
            if path.name in position:
                os.truncate(path, min(position[path.name], path.stat().st_size))
            else:
                path.unlink()

    def _files(self) -> list[Path]:
        return sorted(Path(self.log_dir).glob("events.out.tfevents.*"))

    def finalize(self, status: str) -> None:
        """Write the rest; a run that has failed is told of its own failure, not of this one."""
        with self._naming():
            _finalize(super().finalize, status)

    def _naming(self) -> AbstractContextManager[None]:
        return _naming(self.log_dir, "events.out.tfevents.*")


class LogPositions(Callback):
    """Keep in checkpoints how far the logs are, so that those of a run that goes on are those of one in one go."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write what the logs hold back, and record it."""
        if trainer.is_global_zero:
            logs = [log for log in trainer.loggers if isinstance(log, CSVLog | TensorBoardLog)]
            checkpoint["logs"] = {type(log).__name__: log.position() for log in logs}


def cut_logs(logs: Sequence[loggers.Logger], checkpoint: dict[str, Any]) -> None:
    """Let the logs of a run go on from a checkpoint.

    Args:
        logs: Those of the folder of its run.
        checkpoint: Its content; one from before it told of logs keeps all that is there.
    """
    positions = checkpoint.get("logs", {})
    for log in logs:
        if isinstance(log, CSVLog | TensorBoardLog) and type(log).__name__ in positions:
            log.go_on(positions[type(log).__name__])


class _Writer(ExperimentWriter):
    """The writer of `metrics.csv`, which leaves the file that is there."""

    def _check_log_dir_exists(self) -> None:
        pass


class _LeftToTheMainThread:
    """TensorBoard's thread keeps the error of a full disk for whoever logs next, and need not print it."""

    def __init__(self, before: Callable[[Any], Any]) -> None:
        self.before = before

    def __call__(self, args: Any) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            self.before(args)


def _naming(folder: str, name: str) -> AbstractContextManager[None]:
    return naming(Path(folder) / name, kept=kept_in(Path(folder) / "checkpoints"))


def _finalize(finalize: Callable[[str], None], status: str) -> None:
    if status != "failed":
        finalize(status)
        return
    with suppress(OSError, InputError):
        finalize(status)
