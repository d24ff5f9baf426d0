"""What signals do to a run: it stops at the end of a step, keeps its state, and says how to go on.

Ctrl-C, and what schedulers send before they kill: the first process stops; the others only pass the signal on to
it, and end with it.
"""

from __future__ import annotations

import atexit
import os
import platform
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from ner_lightning.errors import InputError
from ner_lightning.files import is_left_over
from ner_lightning.saving import LastCheckpoint
from ner_lightning.stepping import BetweenSteps

_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]
_LAUNCHER = "NER_LIGHTNING_LAUNCHER"  # the process that starts others for Lightning, in their environment
_PATIENCE = 60.0  # seconds that a process waits for the first one on another host
_GRACE = 5.0  # seconds that a process which fails has to say why, while the others end


class Interrupted(SystemExit):
    """A signal stopped the run; the code is 128 and its number, as shells and schedulers expect."""


class Interruption(BetweenSteps):
    """Let Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP stop a run between two steps.

    `fit` first saves `last.ckpt` and says how to go on from it. A second Ctrl-C leaves at once. A signal that was
    ignored when the run started (`nohup`) stays so; those with which Lightning requeues a job of SLURM are left to it.

    Args:
        program: How the command that goes on with a run begins.
    """

    def __init__(self, program: str = "python -m ner_lightning") -> None:
        self.program = program
        self._number: int | None = None  # of the signal that came first
        self._noted_at = 0.0
        self._pids: list[int] = []  # of the processes of this host, where there are several
        self._rank, self._node = 0, 0
        self._saved: str | None = None
        self._before: dict[int, Any] = {}  # handlers

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask for what all processes must agree on."""
        self._number = self._saved = None
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        self._config = Path(trainer.log_dir or trainer.default_root_dir) / "config.yaml"
        self._rank, self._node = trainer.global_rank, trainer.node_rank
        if trainer.world_size > 1:
            pids = [0] * trainer.world_size
            torch.distributed.all_gather_object(pids, os.getpid())
            self._pids = pids[self._node * trainer.num_devices : (self._node + 1) * trainer.num_devices]

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, from here on: Lightning has installed its own handlers just before."""
        self._listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen(trainer)

    def between_steps(self, trainer: Trainer) -> None:
        """Stop here if a signal came."""
        self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop here if a signal came."""
        self._stop(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop here if a signal came; a run that goes on from here validates anew."""
        if self._number is not None and trainer.state.fn == "fit":
            # what Lightning knows an unfinished validation by; it leaves out one whose batches are all complete
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.processed -= 1  # type: ignore[attr-defined]
        self._stop(trainer)

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop here if a signal came."""
        self._stop(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen no more."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say what is saved and how to go on; the other processes, which may wait for this one, end with it.

        Where another process has failed, the cause of the exception, which says no more than that nobody answers, is an
        InputError that names that process.
        """
        if isinstance(exception, RuntimeError) and _tells_of_the_network(exception):
            # before the handlers go: torchrun sends SIGTERM to those that are left
            exception.__cause__ = InputError(self._who_failed(trainer, exception))
        self._restore()
        if not trainer.is_global_zero:
            return
        # torchrun ends them itself, and names the one that was first to end
        if len(self._pids) > 1 and (isinstance(exception, Interrupted) or not TorchElasticEnvironment.detect()):
            atexit.register(_kill, [pid for pid in self._pids if pid != os.getpid()])
        if not isinstance(exception, Interrupted) or self._number is None:
            return
        by = f"by {signal.Signals(self._number).name}"
        if trainer.state.fn != "fit":
            print(f"stopped {by}", file=sys.stderr)
            return
        at = f"{by} in epoch {trainer.current_epoch}, at step {trainer.global_step}"
        if self._saved is None:
            print(f"stopped     {at}; nothing is saved")
            return
        print(f"stopped     {at}; saved {self._saved}")
        if self._config.is_file():
            command = ["--config", str(self._config), "--ckpt_path", self._saved]
            print(f"resume      {self.program} fit {shlex.join(command)}")

    def _listen(self, trainer: Trainer) -> None:
        """Install the handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        # as Lightning's own handlers find it; the public `strategy.cluster_environment` is not there for one device
        environment = trainer._accelerator_connector.cluster_environment
        theirs: tuple[int, ...] = ()
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            theirs = (signal.SIGTERM, environment.requeue_signal or signal.SIGUSR1)
        for number in _SIGNALS:
            if number not in theirs and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def _restore(self) -> None:
        """Put back what was there before the run: Lightning does not where a run fails at its very end."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._rank != 0:
            self._pass_on(number)
        elif self._number is None:
            self._number, self._noted_at = number, time.monotonic()
            if number == signal.SIGINT:
                # no print: it may be another one that was interrupted
                os.write(2, b"\nstopping at the end of this step; Ctrl-C again leaves at once\n")
        elif number == self._number == signal.SIGINT:
            # torchrun passes on a Ctrl-C that all its processes have had from the terminal
            if self._pids and time.monotonic() - self._noted_at < 1:
                return
            _kill([pid for pid in self._pids if pid != os.getpid()])
            os._exit(128 + number)

    def _pass_on(self, number: int) -> None:
        """Leave it to the first process, as this one may be waited for; on another host, wait for its end."""
        if self._node == 0 and number == signal.SIGINT:
            return  # the first one has it from the terminal, too, and would take this for a second one
        if self._node == 0:
            with suppress(ProcessLookupError):
                os.kill(self._pids[0], number)
        elif self._number is None:
            self._number = number
            timer = threading.Timer(_PATIENCE, os._exit, [128 + number])
            timer.daemon = True
            timer.start()

    def _who_failed(self, trainer: Trainer, error: Exception) -> str:
        """Say which process of this host ended first, and of what where this one has started it."""
        launcher = trainer.strategy.launcher
        started = launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []
        children = {process.pid: process for process in started}
        started.clear()  # Lightning watches over them, and would kill this process before it has said anything
        until = time.monotonic() + _GRACE
        while self._pids and time.monotonic() < until:
            for rank, pid in enumerate(self._pids, start=self._node * trainer.num_devices):
                code = children[pid].poll() if pid in children else None
                if code is not None or is_left_over(f"{platform.node()}-{pid}"):
                    how = "has ended too early" if code is None else f"has failed with exit code {code}, see above"
                    how = how if code is None or code >= 0 else f"was killed by {signal.Signals(-code).name}"
                    return f"process {rank} of {trainer.world_size} {how}; all others end with it"
            time.sleep(0.05)
        peer = re.search(r"\[([^][/]+)\]:\d+", str(error))  # as gloo tells it
        return f"a process on {peer[1] if peer else 'another host'} has ended or does not answer; this one ends with it"

    def _stop(self, trainer: Trainer) -> None:
        if self._number is None or not trainer.is_global_zero:
            return
        # with other strategies each process has but a part of the state
        whole = isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
        keeper = next((c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)), None)
        trained = trainer.state.fn == "fit" and trainer.global_step > 0
        if keeper is not None and trained and whole and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._saved = keeper.save_without_the_others(trainer)
        _leave_terminal()
        for number in _SIGNALS if not self._pids else ():  # the next one is another one, and all is saved
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        stopped = Interrupted(128 + self._number)
        if trainer.progress_bar_callback is not None:  # it would wrap the lines that are to be copied
            trainer.progress_bar_callback.on_exception(trainer, trainer.lightning_module, stopped)
        raise stopped


@contextmanager
def ending_with_launcher() -> Iterator[None]:
    """End the processes that Lightning or torchrun has started when what has started them ends, for whatever reason.

    They might wait for the first one in the network for half an hour, or train on.
    """
    before = os.environ.get(_LAUNCHER, os.getppid())
    if "LOCAL_RANK" in os.environ and (_LAUNCHER in os.environ or TorchElasticEnvironment.detect()):
        threading.Thread(target=end_with, args=[int(before), _GRACE], daemon=True).start()
    os.environ[_LAUNCHER] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(_LAUNCHER, None)


def end_with(parent: int, grace: float = 0.0) -> None:
    """End this process soon after the one that started it, which may have been killed.

    Args:
        parent: Its id.
        grace: Seconds that this one has to end by itself.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    time.sleep(grace)
    os._exit(1)


def _tells_of_the_network(error: RuntimeError) -> bool:
    # gloo has no type of its own, but tells which of its files is concerned
    return isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)


def _leave_terminal() -> None:
    """Print nowhere once the terminal is gone, so that the rest of the run does not fail because of it."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
