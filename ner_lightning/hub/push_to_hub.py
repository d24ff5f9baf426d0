"""Push the models of a run to the Hugging Face Hub during training, without slowing or failing the run.

Of each finished save the callback stages a model as a folder (`outbox`) and starts a process that sends it (`sender`);
only the end of the run waits for that process, and not for ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning_utilities.core.rank_zero import rank_zero_warn

from ner_lightning.checkpoints import read_checkpoint
from ner_lightning.errors import InputError
from ner_lightning.hub.folder import commit_message, tokenizer_of, write_model
from ner_lightning.hub.outbox import About, Destination, Outbox
from ner_lightning.hub.sender import validate
from ner_lightning.model import TokenClassificationModule
from ner_lightning.saving import BestCheckpoint
from ner_lightning.scores import known_splits

_PROGRESS = 10  # seconds between two lines of progress at the end of a run


class PushToHub(Callback):
    """Push the model of a run to the Hugging Face Hub, while training goes on.

    What is pushed is a folder that `transformers` loads: safetensors, tokenizer, configuration, model card and scores.
    Training neither waits for the Hub nor fails because of it: what cannot be pushed stays in the folder of the run,
    and `python -m ner_lightning push RUN_DIR` sends it. The token is the one of `hf auth login` or `HF_TOKEN`.

    Args:
        repo_id: Hub id of the model, `name` or `namespace/name`, which must be given; made where it is not there.
        when: `best`: at each new best score. `every`: the newest state, at each checkpoint that is saved. `last`: the
            newest state, once, when the run ends or is stopped. `end`: the best model, once, then.
        revision: Branch to push to, made where it is not there; by default `main`.
        private: Make a private repository, and push nothing to one that is public.
        strict: Let a run whose model is not on the Hub at its end fail then, with its checkpoints saved.
        push_at_start: Push model and tokenizer before training, too.
        drain_timeout: Seconds that the end of a run waits for its last push.
        language: Code of the language of the model (`en`), or codes (`[en,de]`), for its card.
        license: Licence of the model (`apache-2.0`), for its card.
        widget_examples: Sentences with which the page of the model lets one try it; by default invented ones.

    Raises:
        InputError: An option is out of its range.
    """

    def __init__(
        self,
        repo_id: str | None = None,
        *,
        when: Literal["best", "every", "last", "end"] = "best",
        revision: str | None = None,
        private: bool | None = None,
        strict: bool = False,
        push_at_start: bool = False,
        drain_timeout: float = 600.0,
        language: list[str] | str | None = None,
        license: str | None = None,
        widget_examples: list[str] | None = None,
    ) -> None:
        # a default alone, and no argument that must be there, lets a config without it end in one sentence
        if repo_id is None:
            raise InputError("PushToHub: give repo_id, the id of the model on the Hub (`name` or `namespace/name`)")
        try:
            validate(repo_id)
        except InputError as error:
            raise InputError(f"PushToHub: {error}") from error
        if drain_timeout < 0:
            raise InputError(f"PushToHub: drain_timeout={drain_timeout}: give a number of seconds from 0")
        self.destination = Destination(repo_id, revision, private)
        self.when = when
        self.strict = strict
        self.push_at_start = push_at_start
        self.drain_timeout = drain_timeout
        self.about = About(repo_id=repo_id, language=language, license=license, widget_examples=widget_examples)
        self._outbox: Outbox | None = None
        self._sender: subprocess.Popen[bytes] | None = None
        self._heard = 0  # records of the journal that were looked at
        self._before = 0  # records that were there before this run
        self._seen: str | None = None  # message of the checkpoint that was staged last: its step and score
        self._newest: str | None = None  # name of the newest model, if it could be staged
        self._ends = False  # whether the run is at its end

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be pushed, before any work is done.

        Raises:
            InputError: The model is not one of this package, or each process has but a part of it.
        """
        if not isinstance(pl_module, TokenClassificationModule):
            raise InputError(f"PushToHub: expected a TokenClassificationModule, found {type(pl_module).__name__}")
        if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
            raise InputError(
                f"PushToHub: with {type(trainer.strategy).__name__} each process holds a part of the model; leave it "
                "out, and push the run at its end: python -m ner_lightning push RUN_DIR --repo_id=..."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the process that makes the repository and checks the right to write.

        Raises:
            InputError: The folder of the run cannot be written to.
        """
        run_dir = trainer.log_dir or trainer.default_root_dir  # asked for in all processes, which agree on it
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        outbox = Outbox(run_dir)
        try:
            outbox.write_about(self.about)
        except OSError as error:
            raise InputError(f"PushToHub: {outbox.folder} cannot be written to: {error.strerror}") from error
        # once, now that the Hub has just answered for the data: a later save asks it nothing and cannot wait for it
        assert isinstance(pl_module, TokenClassificationModule)  # see `setup`
        tokenizer = tokenizer_of(dict(pl_module.hparams), trust_remote_code=pl_module.trust_remote_code)
        self._write = partial(write_model, model=pl_module.model, tokenizer=tokenizer)
        self._outbox, self._heard = outbox, len(outbox.records())
        self._before = self._heard
        self._seen = self._newest = None
        self._ends = False
        self._send(check=True)
        if self.push_at_start:
            # none is saved yet: what one would hold, of which Lightning has no public method
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            self._stage(checkpoint, "before training")
        if self.when in ("best", "every"):
            saved = partial(self._stage_saved, trainer)
            trainer.strategy.checkpoint_io = _Announcing(trainer.strategy.checkpoint_io, saved)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Warn of pushes that failed meanwhile."""
        if self._outbox is None or self._sender is None or self._sender.poll() is None:
            return
        with _never_failing():
            self._hear()
            self._sender = None
            tried = {record["name"] for record in self._outbox.records() if record["event"] == "started"}
            if any(staged.name not in tried for staged in self._outbox.waiting()):
                self._send()  # staged after that process looked for the last time

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Push the newest model that was saved, or keep it, within `drain_timeout`."""
        if self._outbox is not None:
            self._finish(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Push the last model, or keep it, within `drain_timeout`.

        Raises:
            InputError: With `strict`, the model is not on the Hub.
        """
        if self._outbox is None:
            return
        outbox, how_to_send = self._outbox, self._how_to_send()
        if not self._finish(trainer) and self.strict:
            kept = _checkpoint(trainer, best=False) is not None
            saved = "its checkpoints are saved" if kept else "no checkpoint of it is saved"
            waits = f", and {how_to_send}" if outbox.waiting() else ""
            raise InputError(f"PushToHub: the model of this run is not on the Hub; {saved}{waits}")

    def _stage_saved(self, trainer: Trainer) -> None:
        """Stage the checkpoint that `when` asks for, unless it was staged before."""
        with _never_failing():
            path = _checkpoint(trainer, best=self.when in ("best", "end"))
            if path is None:
                return
            try:
                checkpoint = read_checkpoint(path)
            except InputError as error:
                self._newest = None
                rank_zero_warn(f"PushToHub: the newest model cannot be pushed: {error}")
                return
            message = commit_message(checkpoint)
            if self._seen != message:
                self._stage(checkpoint, message)
                self._seen = message if self._newest is not None else None

    def _stage(self, checkpoint: dict[str, Any], message: str) -> None:
        assert self._outbox is not None
        about = replace(self.about, repo_id=self._repo_id())
        write = partial(self._write, checkpoint=checkpoint, splits=known_splits(checkpoint), about=about)
        step = checkpoint["global_step"]
        try:
            self._newest = self._outbox.stage(write, step=step, destination=self.destination, message=message)
        except Exception as error:  # a full disk, above all: training goes on
            self._newest = None
            reason = f"it could not be written: {error}" if isinstance(error, OSError) else str(error)
            rank_zero_warn(f"PushToHub: {message}: the model is not pushed: {reason}{self._what_next()}")
            return
        self._send()

    def _send(self, *, check: bool = False) -> None:
        """Start a process that pushes, unless one runs: that one looks for newer models itself."""
        from huggingface_hub import get_token

        if self._sender is not None and self._sender.poll() is None:
            return
        assert self._outbox is not None
        command = [sys.executable, "-m", "ner_lightning", "push", str(self._outbox.run_dir.resolve())]
        if check:
            options = vars(self.destination).items()
            command += ["--check", *(f"--{name}={value}" for name, value in options if value is not None)]
        environment = dict(os.environ)
        if token := get_token():  # in a notebook it may come from where another process cannot look
            environment["HF_TOKEN"] = token
        try:
            with (self._outbox.folder / "push.log").open("ab") as log:
                self._sender = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the run, which then gives the push its time
                )
        except OSError as error:  # no memory for a process, no room for a log
            rank_zero_warn(f"PushToHub: no process can be started that pushes: {error}; {self._how_to_send()}")

    def _hear(self) -> None:
        """Warn of what failed since the last call."""
        assert self._outbox is not None
        records = self._outbox.records()
        failures = [record for record in records[self._heard :] if record["event"] in ("failed", "stopped")]
        self._heard = len(records)
        if self._sender is not None and self._sender.poll() and not failures:
            log = self._outbox.folder / "push.log"
            text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else "its log is gone"
            last = text.strip().rpartition("\n")[2]
            rank_zero_warn(f"PushToHub: the process that pushes broke: {last} (see {log}); {self._how_to_send()}")
        for record in failures:
            if record["event"] == "stopped":
                what = f"the push to {self.destination.repo_id} was stopped"
            elif record["name"] is None:
                what = f"{self.destination.repo_id} cannot be written to"
            else:
                what = f"{record['name']} could not be pushed to {self.destination.repo_id}"
            later = "" if self._ends else f"; nothing is lost: {self._how_to_send()}"  # which the end says anyway
            rank_zero_warn(f"PushToHub: {what}: {record['error']}{self._what_next()}{later}")

    def _finish(self, trainer: Trainer) -> bool:
        """Stage what the end is to push and wait for it; says whether the Hub has the newest model."""
        outbox = self._outbox
        assert outbox is not None
        if isinstance(trainer.strategy.checkpoint_io, _Announcing):
            trainer.strategy.checkpoint_io = trainer.strategy.checkpoint_io.inner
        self._ends = True
        self._stage_saved(trainer)
        with _interruptible():
            try:
                deadline = time.monotonic() + self.drain_timeout
                self._wait(deadline)
                if outbox.waiting():  # staged or failed after that process looked for the last time
                    self._send()
                    self._wait(deadline)
            except KeyboardInterrupt:
                rank_zero_warn("PushToHub: interrupted, the push is left")
        if self._sender is not None and self._sender.poll() is None:
            self._sender.kill()
            self._sender.wait()
            with suppress(OSError):  # a full disk; what waits is seen without the journal
                outbox.record("stopped", None, error=f"not finished within {self.drain_timeout:g} s")
        self._hear()
        pushed = [record for record in outbox.records()[self._before :] if record["event"] == "pushed"]
        if pushed:
            print(f"on the Hub  {pushed[-1]['message']}: {pushed[-1]['url']}")
        if outbox.waiting():
            rank_zero_warn(f"PushToHub: {outbox.waiting()[-1].message} is not on the Hub yet: {self._how_to_send()}")
        self._outbox = self._sender = None
        return bool(pushed) and pushed[-1]["name"] == self._newest

    def _wait(self, deadline: float) -> None:
        """Wait for the process that pushes, with lines of progress."""
        started = time.monotonic()
        while self._sender is not None and self._sender.poll() is None and time.monotonic() < deadline:
            try:
                self._sender.wait(min(_PROGRESS, max(deadline - time.monotonic(), 0)))
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - started
                print(
                    f"pushing to {self.destination.repo_id}: {seconds:.0f} s of at most {self.drain_timeout:g} s; "
                    "Ctrl-C leaves it for later",
                    file=sys.stderr,
                )

    def _what_next(self) -> str:
        """End of a message during training; nothing at the end of the run."""
        return "" if self._ends else ". Training goes on, and the next model that is saved is tried"

    def _repo_id(self) -> str:
        """With its namespace, once the process that pushes knows it."""
        assert self._outbox is not None
        checked = [record["repo_id"] for record in self._outbox.records() if record["event"] == "checked"]
        return checked[-1] if checked else self.destination.repo_id

    def _how_to_send(self) -> str:
        assert self._outbox is not None
        return f"`python -m ner_lightning push {self._outbox.run_dir}` sends what waits"


class _Announcing(CheckpointIO):
    """Save as another plugin does, and call a function when the file is there: Lightning has no hook for it."""

    def __init__(self, inner: CheckpointIO, saved: Callable[[], None]) -> None:
        self.inner = inner
        self.saved = saved

    def save_checkpoint(self, *args: Any, **options: Any) -> None:
        self.inner.save_checkpoint(*args, **options)
        self.saved()

    def load_checkpoint(self, *args: Any, **options: Any) -> dict[str, Any]:
        return self.inner.load_checkpoint(*args, **options)

    def remove_checkpoint(self, *args: Any, **options: Any) -> None:
        self.inner.remove_checkpoint(*args, **options)


@contextmanager
def _never_failing() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a folder that was removed, a journal that cannot be read: not worth a run
        rank_zero_warn(f"PushToHub: {type(error).__name__}: {error}. Training goes on")


def _checkpoint(trainer: Trainer, *, best: bool) -> str | None:
    """The file of the best model, or of the newest one; a run that was never validated has no best one."""
    callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    if best:
        scored = [c for c in callbacks if c.monitor is not None and c.best_model_path]
        # ours before others, a score of validation before one of training
        scored.sort(key=lambda c: (not isinstance(c, BestCheckpoint), not str(c.monitor).startswith("val_")))
        if scored:
            return scored[0].best_model_path
    saved = [Path(p) for c in callbacks for p in (c.best_model_path, c.last_model_path, *c.best_k_models) if p]
    newest = max((path for path in saved if path.is_file()), key=lambda path: path.stat().st_mtime_ns, default=None)
    return None if newest is None else str(newest)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the waiting; Lightning ignores a second one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
