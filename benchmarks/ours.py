"""`fit` of this package as its command line runs it, with a clock beside it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler

from benchmarks.inputs import fit_arguments
from benchmarks.measuring import Clock, Job, Result
from ner_lightning.cli import main
from ner_lightning.corpus import Corpus
from ner_lightning.data import TokenClassificationDataModule

# how the names that Lightning gives to what it profiles end, and what that is here; all else is `other`
_PHASES = {
    ".train_dataloader_next": "data",
    ".batch_to_device": "data",
    ".training_step": "forward",
    ".backward": "backward",
    ".configure_gradient_clipping": "clip",
    ".optimizer_step": "optimizer",  # less what is called within it
    ".optimizer_zero_grad": "optimizer",
}
# what is no part of a step, and with which call it begins and ends
_BEGINS = {
    "Module.on_validation_model_eval": "evaluation",
    "Module.on_validation_epoch_end": "metric",
    "|save_checkpoint": "checkpoint",  # the Trainer's own, and no hook of that name
}
_ENDS = {"Module.on_validation_epoch_end": ("metric", "evaluation"), "|save_checkpoint": ("checkpoint",)}
_run: dict[str, Any] = {}  # clock and job of this process; the command line makes the callback


def fit(job: Job, clock: Clock) -> Result:
    """Train as the command line does.

    Args:
        job: See `training`.
        clock: Measures it.
    """
    _run.update(clock=clock, job=job)
    arguments = [
        *fit_arguments(job),
        f"--trainer.max_epochs={job['epochs']}",
        "--trainer.callbacks+=benchmarks.ours.Watch",
        *([f"--trainer.limit_train_batches={job['steps']}"] if job["steps"] else []),
        *([] if job["evaluate"] else ["--trainer.limit_val_batches=2", "--trainer.enable_checkpointing=false"]),
        *job["options"],
    ]
    if main(arguments, datamodule_class=_TimedData):
        raise SystemExit("the run failed")
    if job["keep_weights"]:
        last_file = Path(job["folder"], "runs", "version_0", "checkpoints", "last.ckpt")
        last = torch.load(last_file, map_location="cpu", weights_only=True)
        torch.save(last["state_dict"], job["keep_weights"] + ".last")
    return {"precision": _run["precision"], "f1": _run["f1"]}


def compare_weights(job: Job) -> Result:
    """How far the weights of two runs are apart, beside how far one of them went.

    Args:
        job: `one` and `other`, where `fit` kept them.
    """
    first, one, other = (
        torch.load(file, weights_only=True)
        for file in (job["one"] + ".first", job["one"] + ".last", job["other"] + ".last")
    )
    if one.keys() != other.keys():
        raise SystemExit(f"the weights have other names: {sorted(one.keys() ^ other.keys())[:3]}")
    apart = {name: (one[name].double() - other[name].double()).abs().max().item() for name in one}
    change = max((one[name].double() - first[name].double()).abs().max().item() for name in one)
    worst = max(apart, key=lambda name: apart[name])
    return {"apart": apart[worst], "change": change, "worst": worst}


class Watch(Callback):
    """Tells the clock of steps, phases and evaluations."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the clock where Lightning's profilers are, and keep the weights that training begins with."""
        trainer.profiler = _Phases(trainer)  # type: ignore[attr-defined]
        _run.update(precision=str(trainer.precision), f1=None)
        if _run["job"]["keep_weights"]:
            torch.save(pl_module.state_dict(), _run["job"]["keep_weights"] + ".first")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch begins."""
        _run["clock"].begin_epoch()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step is over."""
        _run["clock"].end_step(batch["input_ids"], trainer.datamodule.encoder.tokenizer.pad_token_id)  # type: ignore[attr-defined]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the score."""
        if not trainer.sanity_checking and "val_f1" in trainer.callback_metrics:
            _run["f1"] = float(trainer.callback_metrics["val_f1"])


class _Phases(Profiler):
    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self._trainer = trainer
        self._open: dict[str, AbstractContextManager[None]] = {}

    def start(self, action_name: str) -> None:
        span = _first(_BEGINS, action_name)
        if span is not None and not self._trainer.sanity_checking:
            self._open[span] = _run["clock"].span(span)
            self._open[span].__enter__()
        _run["clock"].start(_first(_PHASES, action_name) or "other")

    def stop(self, action_name: str) -> None:
        _run["clock"].stop()
        for span in _first(_ENDS, action_name) or ():
            if span in self._open:
                self._open.pop(span).__exit__(None, None, None)


class _TimedData(TokenClassificationDataModule):
    @property
    def corpus(self) -> Corpus:
        if "corpus" in self.__dict__:  # where the property of the class keeps it
            return super().corpus
        with _run["clock"].span("read"):
            return super().corpus

    def loader(self, split: Any, *, shuffle: bool = False) -> Any:
        if "tokenise" not in _run["clock"].spans and self.labels:
            with _run["clock"].span("tokenise"):
                self.prepare_data()
        return super().loader(split, shuffle=shuffle)


def _first(ends: dict[str, Any], action: str) -> Any:
    return next((value for end, value in ends.items() if f"|{action}".endswith(end)), None)
