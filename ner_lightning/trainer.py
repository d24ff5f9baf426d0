"""The Trainer of the command line: one folder for all that a run writes, and one world of processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.connector import (  # type: ignore[attr-defined] # the values of `precision`, only there
    _PRECISION_INPUT,
)
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.cli import SaveConfigCallback
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only

from ner_lightning.checkpoints import read_checkpoint, run_folder
from ner_lightning.data import TokenClassificationDataModule
from ner_lightning.errors import InputError
from ner_lightning.files import locked, replacing
from ner_lightning.hardware import best_precision
from ner_lightning.loggers import CSVLog, TensorBoardLog, cut_logs
from ner_lightning.model import TokenClassificationModule
from ner_lightning.stepping import EpochLoop, FitLoop


class Trainer(LightningTrainer):
    """The Trainer of Lightning: devices, precision, epochs, logging.

    Args:
        precision: Of products: `32-true`, `bf16-mixed`, ... as Lightning has them, or `auto`: bfloat16 where the GPU or
            the processor has it in hardware, else float32.
    """

    run_dir: Path | None = None  # for all that a run writes, whatever its loggers are

    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        precision: _PRECISION_INPUT | Literal["auto"] | None = None,
        **kwargs: Any,
    ) -> None:
        chosen: Any = precision
        if precision == "auto":
            chosen, why = best_precision(accelerator if isinstance(accelerator, str) else accelerator.name())
            rank_zero_info(f"precision   {chosen}: {why}")
        super().__init__(accelerator=accelerator, precision=chosen, **kwargs)
        self._lock = ExitStack()  # of the folder of the run, while it is trained
        theirs = self.fit_loop
        self.fit_loop = FitLoop(self, min_epochs=theirs.min_epochs, max_epochs=theirs.max_epochs)
        self.fit_loop.epoch_loop = EpochLoop(self, min_steps=theirs.min_steps, max_steps=theirs.max_steps)

    @property
    def log_dir(self) -> str | None:
        """The folder of the run; to be asked for in all processes, which agree on it."""
        return super().log_dir if self.run_dir is None else self.strategy.broadcast(str(self.run_dir))

    def start_run(self, root: str | Path, *, log: bool, going_on: Path | None = None) -> None:
        """Let everything go to a folder for this run: a new one, or that of the run that goes on.

        Args:
            root: The folder in which runs are kept.
            log: Keep a CSV and a TensorBoard log there.
            going_on: A `last.ckpt`, whose run goes on in its own folder, if that is in `root`.

        Raises:
            InputError: Another process trains that run.
        """
        if going_on is not None and not _is_run_in(root, going_on):
            going_on = None
        version = _new_version(Path(root)) if going_on is None else _version(run_folder(going_on))
        assert version is not None
        self.run_dir = Path(root) / f"version_{version}"
        if self.is_global_zero:
            self._lock.enter_context(locked(self.run_dir, does="trains this run"))
        for callback in self.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run_dir / "checkpoints")
        if log:
            self.loggers = [CSVLog(root, "", version), TensorBoardLog(str(root), "", version)]
            if going_on is not None and self.is_global_zero:
                cut_logs(self.loggers, read_checkpoint(going_on))

    # What follows is what the command line offers: its help is taken from here.

    def fit(  # type: ignore[override]
        self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None
    ) -> None:
        """Train a model.

        Args:
            model: What is trained.
            datamodule: What it is trained on.
            ckpt_path: Go on from this checkpoint, with the options of its run where no others are given: a file, the
                folder of a run (its `last.ckpt`), or `last` or `best` of the newest run. From `last.ckpt`, with the
                same data and monitor, in the folder of the run.
        """
        with self._lock:
            super().fit(model, datamodule=datamodule, ckpt_path=ckpt_path)

    def validate(  # type: ignore[override]
        self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None
    ) -> None:
        """Score a model on the validation split.

        Args:
            model: What is scored.
            datamodule: What it is scored on.
            ckpt_path: The checkpoint whose weights and options are used: a file, the folder of a run (its `best.ckpt`),
                or `best` or `last`, which are those of the newest run; by default `best`.
        """
        super().validate(model, datamodule=datamodule, ckpt_path=ckpt_path, verbose=False)  # ScoreTable prints a table

    def test(  # type: ignore[override]
        self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None
    ) -> None:
        """Score a model on the test split.

        Args:
            model: What is scored.
            datamodule: What it is scored on.
            ckpt_path: The checkpoint whose weights and options are used: a file, the folder of a run (its `best.ckpt`),
                or `best` or `last`, which are those of the newest run; by default `best`.
        """
        super().test(model, datamodule=datamodule, ckpt_path=ckpt_path, verbose=False)  # ScoreTable prints a table

    def inspect(self, model: LightningModule, datamodule: TokenClassificationDataModule) -> dict[str, Any]:
        """Show the device, the corpus, the alignment of its first sentence and one batch, without training.

        Args:
            model: Not used.
            datamodule: The data to show.

        Returns:
            What `datamodule.describe` gives, and `device`, `precision`, `batch` and `pieces`, the sub-words of the
            first row of the batch.
        """
        batch = next(iter(datamodule.loader(next(iter(datamodule.corpus.splits)))))
        pieces = datamodule.encoder.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
        device = {"device": self.strategy.root_device, "precision": self.precision}
        return datamodule.describe() | device | {"batch": batch, "pieces": pieces}


class SteadyProgressBar(TQDMProgressBar):
    """Refresh the bar of training at most ten times a second, since each time it waits for the loss."""

    _refreshed = 0.0

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refresh if it is time to, and at the end."""
        now = time.monotonic()
        if now - self._refreshed >= 0.1 or batch_idx + 1 == self.total_train_batches:
            self._refreshed = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class CheckMonitors(Callback):
    """At the end of the first validation, be it the trial before training, refuse a monitor that nothing logs."""

    def on_fit_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Let EarlyStopping wait for the first validation; a run that ends before it is not to fail then."""
        for callback in trainer.early_stopping_callbacks:
            callback.strict = callback.strict and not _is_known(callback.monitor, pl_module)

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Look for the numbers that EarlyStopping and checkpoints wait for."""
        logged = {*trainer.callback_metrics, "train_loss"}
        for callback in (*trainer.early_stopping_callbacks, *trainer.checkpoint_callbacks):
            if not isinstance(callback, (EarlyStopping, ModelCheckpoint)) or callback.monitor in (None, *logged):
                continue
            if _is_known(str(callback.monitor), pl_module):
                overall = sorted(name for name in logged if name.count("_") == 1)
                raise InputError(
                    f"{type(callback).__name__}: monitor={callback.monitor} is not logged; give one of "
                    f"{', '.join(overall)}, or one of a type, such as val_f1_PER"
                )


def _is_known(monitor: str, pl_module: LightningModule) -> bool:
    """Whether a validation logs it or nothing does; a subclass may log other numbers while it trains."""
    return type(pl_module) is TokenClassificationModule or monitor.startswith("val_")


class SaveConfig(SaveConfigCallback):
    """Save the config with the command that it came from as its first line."""

    def __init__(self, *args: Any, command: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.save_to_log_dir = False  # but by `save_config`
        self.command = command

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Save the config of a new run."""
        if self.config["ckpt_path"] is None:
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Save that of a run that goes on, which keeps its former one where a checkpoint does not fit the options."""
        super().setup(trainer, pl_module, "fit")

    def on_save_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the whole configuration in the checkpoint, so that a resumed run needs no config file."""
        checkpoint["config"] = self._below_command(self.parser.dump(self.config, skip_none=False))

    def save_config(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Save the config, with the command above it, and above that those of a run that goes on."""
        assert isinstance(trainer, Trainer)
        assert trainer.run_dir is not None
        path = trainer.run_dir / self.config_filename
        before = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        commands = "".join(takewhile(lambda line: line.startswith("#"), before))
        with replacing(path, kept="nothing else was written") as partial:
            config = self._below_command(self.parser.dump(self.config, skip_none=False))
            partial.write_text(commands + config, encoding="utf-8")

    def _below_command(self, config: str) -> str:
        command = self.command.replace("\n", "\n# ")  # an argument of several lines stays a comment
        return f"# {command}\n{config}"


def launched_processes(*, devices: Any, num_nodes: int) -> dict[str, int]:
    """Options that make one world of the processes that torchrun has started; else each would train alone.

    Args:
        devices: As it was given, or `auto`.
        num_nodes: As it was given, or 1.

    Raises:
        InputError: What was given contradicts torchrun.
    """
    if not TorchElasticEnvironment.detect():
        return {}
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    launched = {"devices": processes, "num_nodes": int(os.environ["WORLD_SIZE"]) // processes}
    for name, given, untold in (("devices", devices, "auto"), ("num_nodes", num_nodes, 1)):
        count = len(given) if isinstance(given, list) else given
        if given != untold and str(count) != str(launched[name]):
            raise InputError(
                f"--trainer.{name}={given}, but torchrun has started {processes} processes on each of "
                f"{launched['num_nodes']} nodes: leave it out, or give --trainer.{name}={launched[name]}"
            )
    return launched


def refuse_to_wait_for_scores(callbacks: Iterable[Callback]) -> None:
    """Refuse early stopping where nothing is validated.

    Args:
        callbacks: Those of a run without validation.

    Raises:
        InputError: One waits for a score of validation.
    """
    for callback in callbacks:
        if isinstance(callback, EarlyStopping) and callback.monitor.startswith("val_"):
            raise InputError(
                f"EarlyStopping: monitor={callback.monitor}, but nothing is validated: give --data.validation_file and "
                "no --trainer.limit_val_batches=0, or leave EarlyStopping out"
            )


def _is_run_in(root: str | Path, path: Path) -> bool:
    """Whether a checkpoint is the `last.ckpt` of a run of this program in a folder."""
    run = run_folder(path)
    named = _version(run) is not None and path.relative_to(run) == Path("checkpoints/last.ckpt")
    return named and (run / "config.yaml").is_file() and run.parent.resolve() == Path(root).resolve()


def _version(run: Path) -> int | None:
    """The number of a run, by the name of its folder."""
    number = run.name.removeprefix("version_")
    return int(number) if number.isdigit() and number != run.name else None


def _new_version(root: Path) -> int:
    """The number of a new run, whose folder is made at once: two runs that start together must not share one."""
    taken = [_version(path) for path in root.glob("version_*")]
    version = max((number for number in taken if number is not None), default=-1) + 1
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return version  # never written to: all processes follow the first one
    while True:
        try:
            (root / f"version_{version}").mkdir(parents=True)
        except FileExistsError:
            version += 1
        else:
            return version
