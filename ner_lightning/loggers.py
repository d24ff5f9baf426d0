"""The logs of a run on the disk, which say in one sentence that it is full."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers

from ner_lightning.checkpoints import kept_in
from ner_lightning.errors import InputError
from ner_lightning.files import naming


class CSVLog(loggers.CSVLogger):
    """The CSV log of Lightning, `metrics.csv`."""

    def save(self) -> None:
        """Write what was logged since the last time.

        Raises:
            InputError: The disk is full.
        """
        with _naming(self.log_dir, "metrics.csv"):
            super().save()

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

    def finalize(self, status: str) -> None:
        """Write the rest; a run that has failed is told of its own failure, not of this one."""
        with self._naming():
            _finalize(super().finalize, status)

    def _naming(self) -> AbstractContextManager[None]:
        return _naming(self.log_dir, "events.out.tfevents.*")


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
